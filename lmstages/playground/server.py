"""The playground: a page for this machine alone, where several fitted models continue what a person types.

The page is served on 127.0.0.1 only. Requests under other host names are refused, so that no page of the network can
point its own name here (DNS rebinding), and so are requests that another page sends. The page loads nothing from
other addresses. One model computes at a time.
"""

import asyncio
import base64
import hashlib
import json
import logging
import socket
from collections.abc import Awaitable, Callable
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
from lmstages.core.terminal import show
from lmstages.core.visible import visible
from lmstages.evaluation.any_length import LONGEST
from lmstages.playground.answers import MOST_TOKENS, GapQuestion, Playground, Question

LOOPBACK = "127.0.0.1"
HOSTS = [LOOPBACK, "localhost"]
MOST_BYTES = 1 << 20  # of a request
Endpoint = Callable[[Request], Awaitable[Response]]
PRESELECTED = ("bigram", "kneser_ney", "lstm", "gpt")  # when the page opens, where they were fitted


# ---------------------------------------------------------------- the page


def application(playground: Playground) -> Starlette:
    """``GET /`` is the page, ``POST /ask`` the answer of one model, ``POST /fill`` its fills of a gap."""
    page, policy = _page(playground)
    one_at_a_time = asyncio.Lock()

    async def get_page(request: Request) -> Response:
        return HTMLResponse(page, headers=_headers(policy))

    def answered(
        record: type[Any], answer: Callable[[Any], dict[str, Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def post(request: Request) -> Response:
            try:
                question = await _read(request, record)
                async with one_at_a_time:
                    if await request.is_disconnected():  # the person has typed more
                        return _json(499, error="the page has asked again since")
                    return _json(200, **await run_in_threadpool(answer, question))
            except Exception as error:
                return _failure(error)

        return post

    ask, fill = answered(Question, playground.answer), answered(GapQuestion, playground.fill)
    routes = [Route("/", get_page), Route("/ask", ask, methods=["POST"]), Route("/fill", fill, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)])


class _Refused(Exception):  # noqa: N818 (an answer, not a fault)
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _failure(error: Exception) -> Response:
    """The answer to a question that failed; what is no error of the user's is logged with its traceback."""
    if isinstance(error, ClientDisconnect):
        return _json(499, error="the page has asked again since")
    if isinstance(error, _Refused):
        return _json(error.status, error=str(error))
    if isinstance(error, UserError):
        return _json(422, error=visible(str(error)))
    logging.getLogger("lmstages").error("lmstages: a model of the playground failed", exc_info=error)
    return _json(500, error=visible(f"this model failed: {type(error).__name__}: {error}"))


async def _read(request: Request, record: type[Any]) -> Any:
    """The question of a request that this very page sent, and that is no longer than allowed; else _Refused."""
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
        section = json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise _Refused(400, f"a question is JSON: {error}") from error
    return from_section(record, section)


def _json(status: int, **content: Any) -> JSONResponse:
    return JSONResponse(content, status, headers=_headers("default-src 'none'"))


def _headers(policy: str) -> dict[str, str]:
    own = {"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"}
    rest = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return {"Content-Security-Policy": policy, **own, **rest}


def _page(playground: Playground) -> tuple[str, str]:
    """The page, and the content security policy that allows its own style and script and nothing else."""
    style, script = (_template(name) for name in ("style.css.jinja", "script.js.jinja"))
    own = f"style-src {_pin(style)}; script-src {_pin(script)}; connect-src 'self'; img-src data:"
    policy = f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    texts: dict[str, list[dict[str, Any]]] = {}
    for model in playground.models():
        texts.setdefault(model["text"], []).append(model)
    chosen = {text: _preselected(models) for text, models in texts.items()}
    first = max(texts, key=lambda text: len(texts[text]))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    values = {"run": visible(playground.folder.name), "texts": texts, "chosen": chosen, "first": first}
    limits = {"tokens": MOST_TOKENS, "bytes": MOST_BYTES, "length": 400, "gap": LONGEST}
    template = environment.from_string(_template("page.html.jinja"))
    return template.render(**values, limits=limits, style=Markup(style), script=Markup(script)), policy  # noqa: S704


def _preselected(models: list[dict[str, Any]]) -> set[str]:
    """Ids of the models of one text that are selected when the page opens; the first four where too few are known."""
    known = {model["id"] for model in models if model["type"] in PRESELECTED and "seed0" in model["id"]}
    return known if len(known) > 1 else {model["id"] for model in models[:4]}


def _template(name: str) -> str:
    return resources.files("lmstages.playground").joinpath(name).read_text("utf-8")


def _pin(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"


# ---------------------------------------------------------------- serving


def listening(port: int) -> socket.socket:
    """A listening socket on the loopback interface; port 0 is any free one. A UserError where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(64)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "leave it out for any free one"
        raise UserError(f"--port {port}", f"cannot be listened on ({reason})", "", remedy) from error
    return listener


def server(playground: Playground) -> uvicorn.Server:
    """A server of the playground for a socket that is passed to its ``run``."""
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False, "lifespan": "off"}
    limits: dict[str, Any] = {"http": "h11", "ws": "none", "limit_concurrency": 64, "timeout_graceful_shutdown": 2}
    return uvicorn.Server(uvicorn.Config(application(playground), **quiet, **limits))


def play(folder: Path, port: int) -> None:
    """Serve until Ctrl-C."""
    playground = Playground(folder)
    listener = listening(port)
    address = f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
    try:
        show(f"{folder}: {len(playground.experiments)} models at {address}")
        show("for this machine alone; Ctrl-C ends it")
        server(playground).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
