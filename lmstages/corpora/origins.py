"""Reads the bytes of a text from a file, from a web address or from the Hugging Face hub, piece by piece.

What goes wrong at an origin is an OriginError, which says whether a retry or another origin may help. Retries of
connections and of busy servers, their backoff and ``Retry-After`` are urllib3's. Verifies and writes nothing.
"""

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util import Retry

from lmstages.config.sources import Hub

logger = logging.getLogger("lmstages")
Pieces = Generator[bytes, None, None]
CHUNK = 1 << 16  # bytes
REDIRECTS = 5
BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600))
GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


@dataclass(frozen=True)
class TimeLimits:
    """How long one origin may take, in seconds; the deadline includes its retries."""

    connect: float = 10
    read: float = 20  # without a byte
    deadline: float = 600
    retries: int = 3
    backoff: float = 1  # before a retry, doubled at each further one
    report: float = 5  # between two lines of progress


class OriginError(Exception):
    """The problem met at an origin; ``transient`` if a retry may help, ``absent`` if the origin has no such file."""

    def __init__(self, problem: str, transient: bool = False, absent: bool = False) -> None:
        super().__init__(problem)
        self.transient, self.absent = transient, absent


def from_file(path: Path, limits: TimeLimits) -> Pieces:
    """The content of a file."""
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK):
                yield piece
    except FileNotFoundError as error:
        raise OriginError("no such file", absent=True) from error
    except OSError as error:
        raise OriginError(f"cannot be read ({error.strerror})") from error


def from_web(url: str, limits: TimeLimits) -> Pieces:
    """The body as it arrives; one that breaks off just ends, since its size will be verified."""
    with _session(limits) as session, _response(session, url, limits) as response:
        try:
            while piece := response.raw.read1(CHUNK, decode_content=True):
                yield piece
        except ReadTimeoutError as error:
            raise _silence(limits) from error
        except (HTTPError, OSError) as error:
            logger.debug("%s: %s", without_password(url), error)


def _session(limits: TimeLimits) -> requests.Session:
    """A session that tries again where no connection or no usable status came; a broken body is not its matter."""
    policy = Retry(limits.retries, other=0, status_forcelist=BUSY, backoff_factor=limits.backoff, raise_on_status=False)
    session = requests.Session()
    session.max_redirects = REDIRECTS
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "lmstages"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=policy))
    return session


def _response(session: requests.Session, url: str, limits: TimeLimits) -> requests.Response:
    try:
        response = session.get(url, stream=True, timeout=(limits.connect, limits.read))
    except requests.RequestException as error:
        raise _no_response(error, limits) from error
    status = response.status_code
    if status != HTTPStatus.OK:
        response.close()
        raise OriginError(_one_line(f"{status} {response.reason}"), absent=status in GONE)
    return response


def _no_response(error: requests.RequestException, limits: TimeLimits) -> OriginError:
    if isinstance(error, requests.TooManyRedirects):
        return OriginError(f"more than {REDIRECTS} redirects")
    if isinstance(error, requests.ConnectTimeout):
        return OriginError(f"no connection within {limits.connect:g} s")
    if isinstance(error, requests.ConnectionError):
        cause = _root_cause(error)
        if isinstance(cause, TimeoutError):
            return OriginError(str(_silence(limits)))
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        return OriginError(f"no connection ({_one_line(reason or type(cause).__name__)})")
    return OriginError(f"no valid address ({type(error).__name__})")


def _silence(limits: TimeLimits) -> OriginError:
    return OriginError(f"nothing arrived for {limits.read:g} s", transient=True)


def _root_cause(error: BaseException) -> BaseException:
    """The system's own error, below the layers that wrapped it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def without_password(url: str) -> str:
    """An address without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def from_hub(
    hub: Hub, split: str, separator: str, stories: int | None, left_out: list[int], limits: TimeLimits
) -> Pieces:
    """Each story, a line end, the separator, a line end; at most ``stories`` of them.

    A story that holds the separator as a line is left out, since its end could not be recovered; the numbers of
    those, counted from 1, go to ``left_out``.
    """
    left_out.clear()
    written = 0
    for number, story in enumerate(_hub_stories(hub, split), start=1):
        if separator in story.split("\n"):
            left_out.append(number)
            logger.warning("%s (%s): story %d holds the line %s and is left out", hub.path, split, number, separator)
            continue
        yield f"{story}\n{separator}\n".encode()
        written += 1
        if written == stories:
            return
    if written == 0 or stories is not None:
        raise OriginError(f"ended after {written:,} of {stories or 'all':,} stories")


def _hub_stories(hub: Hub, split: str) -> Iterator[str]:
    """The only function that reads from the hub; the library's many errors become OriginErrors here."""
    if hub.revision is None and not Path(hub.path).is_dir():
        raise OriginError("no such folder", absent=True)
    try:
        import datasets  # takes a second to import, and most runs do not need it

        rows = datasets.load_dataset(hub.path, split=split, streaming=True, revision=hub.revision)
        for row in rows.select_columns([hub.field]):
            yield row[hub.field] or ""
    except Exception as error:
        transient = isinstance(error, ConnectionError | TimeoutError)
        raise OriginError(f"cannot be read ({type(error).__name__}: {_one_line(str(error))})", transient) from error
