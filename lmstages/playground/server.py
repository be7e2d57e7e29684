"""The playground: a page of this machine alone, where several fitted models read what a person types.

The page is served to 127.0.0.1 and to nobody else: other hosts' names are refused, so that no page of the network can
point its own name here (DNS rebinding), and so are requests that another page sends. It asks for nothing from
anywhere. One model reads at a time.
"""

import asyncio
import base64
import hashlib
import json
import logging
import socket
from importlib import resources
from pathlib import Path
from typing import Any

import uvicorn
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from lmstages.config.sections import from_section
from lmstages.core.errors import UserError
from lmstages.core.visible import visible
from lmstages.playground.answers import MOST_TOKENS, Asked, Playground

LOOPBACK = "127.0.0.1"
HOSTS = [LOOPBACK, "localhost"]
MOST_BYTES = 1 << 20  # of a request
FIRST = ("bigram", "kneser_ney", "lstm", "gpt")  # chosen where the page opens, if they are there


# ---------------------------------------------------------------- the page


def application(playground: Playground) -> Starlette:
    """Two addresses: the page, and what one model says."""
    page, policy = _page(playground)
    one_at_a_time = asyncio.Lock()

    async def shown(request: Request) -> Response:
        return HTMLResponse(page, headers=_headers(policy))

    async def answered(request: Request) -> Response:
        try:
            asked = await _read(request)
            async with one_at_a_time:
                if await request.is_disconnected():  # the person has typed on
                    return _told(499, error="nobody waits for this any more")
                return _told(200, **await run_in_threadpool(playground.answer, asked))
        except ClientDisconnect:
            return _told(499, error="nobody waits for this any more")
        except _Refused as refused:
            return _told(refused.status, error=str(refused))
        except UserError as error:
            return _told(422, error=visible(str(error)))
        except Exception as error:
            logging.getLogger("lmstages").exception("lmstages: a model of the playground failed")
            return _told(500, error=visible(f"this model failed: {type(error).__name__}: {error}"))

    routes = [Route("/", shown), Route("/ask", answered, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)])


class _Refused(Exception):  # noqa: N818 (an answer, not a fault)
    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status


async def _read(request: Request) -> Asked:
    """The question of a request that this very page sent, and that is no longer than allowed."""
    if request.headers.get("origin", "") not in ("", f"http://{request.headers['host']}"):
        raise _Refused(403, "only the playground's own page may ask")
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise _Refused(415, "a question is JSON")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise _Refused(413, f"the prompt is too long; at most {MOST_BYTES:,} bytes are taken")
    try:
        asked = json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise _Refused(400, f"a question is JSON: {error}") from error
    question: Asked = from_section(Asked, asked)
    return question


def _told(status: int, **content: Any) -> JSONResponse:
    return JSONResponse(content, status, headers=_headers("default-src 'none'"))


def _headers(policy: str) -> dict[str, str]:
    own = {"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"}
    rest = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return {"Content-Security-Policy": policy, **own, **rest}


def _page(playground: Playground) -> tuple[str, str]:
    """The page, and the policy that admits its style and its script and nothing besides."""
    style, script = (_part(name) for name in ("style.css.jinja", "script.js.jinja"))
    own = f"style-src {_pin(style)}; script-src {_pin(script)}; connect-src 'self'; img-src data:"
    policy = f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    offered = playground.offered()
    texts: dict[str, list[dict[str, Any]]] = {}
    for row in offered:
        texts.setdefault(row["text"], []).append(row)
    known = {
        text: {row["id"] for row in rows if row["type"] in FIRST and "seed0" in row["id"]}
        for text, rows in texts.items()
    }
    chosen = {
        text: known[text] if len(known[text]) > 1 else {row["id"] for row in rows[:4]} for text, rows in texts.items()
    }
    first = max(texts, key=lambda text: len(texts[text]))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    told = {"run": visible(playground.folder.name), "texts": texts, "chosen": chosen, "first": first}
    limits = {"tokens": MOST_TOKENS, "bytes": MOST_BYTES, "length": 400}
    template = environment.from_string(_part("page.html.jinja"))
    return template.render(**told, limits=limits, style=Markup(style), script=Markup(script)), policy  # noqa: S704


def _part(name: str) -> str:
    return resources.files("lmstages.playground").joinpath(name).read_text("utf-8")


def _pin(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"


# ---------------------------------------------------------------- serving


def listening(port: int) -> socket.socket:
    """A socket of the loopback alone; port 0 is any free one. A UserError where it is taken."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((LOOPBACK, port))
        opened.listen(64)
    except (OSError, OverflowError) as error:
        opened.close()
        told = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--port {port}", f"cannot be listened on ({told})", "", "leave it out for any free one"
        ) from error
    return opened


def server(playground: Playground) -> uvicorn.Server:
    """What serves the playground on a socket that is given to it."""
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False, "lifespan": "off"}
    limits: dict[str, Any] = {"http": "h11", "ws": "none", "limit_concurrency": 64, "timeout_graceful_shutdown": 2}
    return uvicorn.Server(uvicorn.Config(application(playground), **quiet, **limits))


def play(folder: Path, port: int) -> None:
    """Serve until a person ends it."""
    playground = Playground(folder)
    opened = listening(port)
    print(f"{folder}: {len(playground.cells)} models at http://{LOOPBACK}:{opened.getsockname()[1]}/", flush=True)
    print("for this machine alone; Ctrl-C ends it", flush=True)
    try:
        server(playground).run(sockets=[opened])
    except KeyboardInterrupt:
        pass
    finally:
        opened.close()
