"""Reads the bytes of a text from a file, from a web address or from the Hugging Face hub, piece by piece.

What goes wrong at an origin is an OriginError, which says whether a retry or another origin may help. Retries of
connections and of busy servers, their backoff and ``Retry-After`` are urllib3's. Verifies and writes nothing.
"""

import ipaddress
import json
import logging
import socket
import ssl
import tempfile
import time
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

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
PAUSE = 0.1  # of the backoff, before the rest of a body is asked for
NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
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
    """The body as it arrives; one that breaks off just ends, since its size will be verified.

    Where the server can continue a file, a body that breaks off is asked for from there on, as long as something more
    arrives each time.
    """
    with _session(limits) as session:
        first = _response(session, url, limits)
        received, (size, validator) = 0, _resumable(first.headers)
        response: requests.Response | None = first
        while response is not None:
            before = received
            for piece in _body(response, url, limits, resumable=bool(size)):
                received += len(piece)
                yield piece
            response = _rest(session, url, limits, (received, size, validator)) if before < received < size else None


def _body(response: requests.Response, url: str, limits: TimeLimits, resumable: bool) -> Pieces:
    """What arrives of one answer; silence is an OriginError, unless the rest can be asked for."""
    size = 0
    with response:
        try:
            while piece := response.raw.read1(CHUNK, decode_content=True):
                size += len(piece)
                yield piece
        except ReadTimeoutError as error:
            if not (resumable and size):
                raise _silence(limits) from error
        except (HTTPError, OSError) as error:
            logger.debug("%s: %s", without_secrets(url), error)


def _resumable(headers: Mapping[str, str]) -> tuple[int, str]:
    """The size of a body that can be continued, and what tells its versions apart; (0, "") for others."""
    size, etag = headers.get("Content-Length", ""), headers.get("ETag", "")
    if headers.get("Accept-Ranges") != "bytes" or "Content-Encoding" in headers or not size.isdecimal():
        return 0, ""
    return int(size), headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag


def _rest(
    session: requests.Session, url: str, limits: TimeLimits, progress: tuple[int, int, str]
) -> requests.Response | None:
    """The answer with the bytes after those received, or None where the server gives no such answer any more."""
    received, size, validator = progress
    headers = {"Range": f"bytes={received}-"} | ({"If-Range": validator} if validator else {})
    logger.info("%s: the connection broke off after %.1f MB; going on from there", without_secrets(url), received / 1e6)
    time.sleep(limits.backoff * PAUSE)
    response = _response(session, url, limits, headers)
    expected = f"bytes {received}-{size - 1}/{size}"
    if response.status_code == HTTPStatus.PARTIAL_CONTENT and response.headers.get("Content-Range") == expected:
        return response
    response.close()
    return None


class _Session(requests.Session):
    """Follows redirects, but not from the public network into a private one, where nobody outside may ask."""

    def get_redirect_target(self, resp: Any) -> str | None:
        """Where an answer leads, or None; an OriginError where it may not lead there."""
        target = super().get_redirect_target(resp)
        if target is not None:
            before, host = (urlsplit(url).hostname or "" for url in (resp.url, urljoin(resp.url, target)))
            if host and not is_public(host) and is_public(before):
                raise OriginError(f"a redirect to {_one_line(host)}, an address of a private network")
        return target


def is_public(host: str) -> bool:
    """Whether every address of a host is on the public network; a name that cannot be resolved here counts as public.

    Behind a proxy, which asks in our place, names need not be resolved.
    """
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True
    return all(_is_global(ipaddress.ip_address(str(info[4][0]).partition("%")[0])) for info in infos)


def _is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is of the public network, also where IPv6 carries an address of IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return _is_global(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if carried := address.ipv4_mapped or address.sixtofour:
            return _is_global(carried)
    return address.is_global and not address.is_multicast


def _session(limits: TimeLimits) -> requests.Session:
    """A session that tries again where no connection or no usable status came; a broken body is not its matter."""
    policy = Retry(limits.retries, other=0, status_forcelist=BUSY, backoff_factor=limits.backoff, raise_on_status=False)
    session = _Session()
    session.max_redirects = REDIRECTS
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "lmstages"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=policy))
    return session


def _response(
    session: requests.Session, url: str, limits: TimeLimits, headers: Mapping[str, str] | None = None
) -> requests.Response:
    try:
        response = session.get(url, stream=True, timeout=(limits.connect, limits.read), headers=headers)
    except (requests.RequestException, HTTPError, ValueError) as error:  # ValueError: an address such as http://[
        raise _no_response(error, limits) from error
    status = response.status_code
    if status != HTTPStatus.OK and not (headers and status == HTTPStatus.PARTIAL_CONTENT):
        response.close()
        raise OriginError(_one_line(f"{status} {response.reason}"), absent=status in GONE)
    return response


def _no_response(error: Exception, limits: TimeLimits) -> OriginError:
    if isinstance(error, requests.exceptions.InvalidHeader):  # as Retry-After that is neither a number nor a date
        return OriginError(f"an answer that cannot be read ({_one_line(str(error))})")
    if isinstance(error, requests.TooManyRedirects):
        return OriginError(f"more than {REDIRECTS} redirects")
    if isinstance(error, requests.ConnectTimeout):
        return OriginError(f"no connection within {limits.connect:g} s")
    if isinstance(error, requests.exceptions.SSLError):
        return OriginError(_no_encryption(_root_cause(error)))
    if isinstance(error, requests.ConnectionError):
        cause = _root_cause(error)
        if isinstance(cause, TimeoutError):
            return OriginError(str(_silence(limits)))
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        return OriginError(f"no connection ({_one_line(reason or type(cause).__name__)})")
    return OriginError(f"no valid address ({type(error).__name__})")


def _no_encryption(cause: BaseException) -> str:
    """Why https failed: the server's certificate, or that it speaks no TLS at all."""
    reason = getattr(cause, "reason", None) or ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({_one_line(cause.verify_message)})"
    if reason in NOT_TLS:
        return f"it answers without encryption ({reason}); its address begins with http://, not https://"
    return f"no encrypted connection ({_one_line(reason or str(cause))})"


def _silence(limits: TimeLimits) -> OriginError:
    return OriginError(f"nothing arrived for {limits.read:g} s", transient=True)


def _root_cause(error: BaseException) -> BaseException:
    """The system's own error, below the layers that wrapped it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def without_secrets(url: str) -> str:
    """An address as it may be logged: without user and password, and without the values of its query."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as http://[
        return url.partition("?")[0].rpartition("@")[2]
    query = "..." if parts.query else ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()


def from_zip(pieces: Pieces, member: str, size_limit: int) -> Pieces:
    """The bytes of one file of a zip that arrives in pieces, which has at most ``size_limit`` bytes itself."""
    with tempfile.TemporaryFile() as packed:
        with closing(pieces):
            for piece in pieces:
                if packed.tell() > size_limit:
                    raise OriginError(f"more than the {size_limit:,} bytes that are allowed")
                packed.write(piece)
        try:
            with zipfile.ZipFile(packed) as archive, archive.open(member) as file:
                while piece := file.read(CHUNK):
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise OriginError(f"no zip that can be unpacked ({_one_line(str(error))})", transient=True) from error
        except (KeyError, NotImplementedError, RuntimeError) as error:  # no such file, another method, a password
            raise OriginError(f"a zip without {member} ({_one_line(str(error))})") from error


def from_hub(
    hub: Hub, split: str, separator: str, stories: int | None, left_out: list[int], limits: TimeLimits
) -> Pieces:
    """Each story, a line end, the separator, a line end; at most ``stories`` of them. Or records, or joined rows.

    A story that holds the separator as a line is left out, since its end could not be recovered; the numbers of
    those, counted from 1, go to ``left_out``.
    """
    left_out.clear()
    written = 0
    for number, story in enumerate(_hub_stories(hub, split), start=1):
        if hub.rows == "separator" and separator in story.split("\n"):
            left_out.append(number)
            logger.warning("%s (%s): story %d holds the line %s and is left out", hub.path, split, number, separator)
            continue
        yield _written(hub, story, separator)
        written += 1
        if written == stories:
            return
    if written == 0 or stories is not None:
        wanted = "all" if stories is None else f"{stories:,}"
        raise OriginError(f"ended after {written:,} of {wanted} {'stories' if hub.rows == 'separator' else 'rows'}")


def _written(hub: Hub, story: str, separator: str) -> bytes:
    if hub.rows == "records":
        return json.dumps({"text": story}, ensure_ascii=False).encode() + b"\n"
    return (story or hub.empty).encode() if hub.rows == "joined" else f"{story}\n{separator}\n".encode()


def _hub_stories(hub: Hub, split: str) -> Iterator[str]:
    """The only function that reads from the hub; the library's many errors become OriginErrors here."""
    if hub.revision is None and not Path(hub.path).is_dir():
        raise OriginError("no such folder", absent=True)
    try:
        import datasets  # takes a second to import, and most runs do not need it

        path, config = hub.path, hub.config
        if hub.revision is None and config is not None and Path(path, config).is_dir():
            path, config = str(Path(path, config)), None  # of a copy without the card that names its folders
        rows = datasets.load_dataset(path, config, split=split, streaming=True, revision=hub.revision)
        for number, row in enumerate(rows.select_columns([hub.field]), start=1):
            if not isinstance(row[hub.field], str | None):
                raise TypeError(f"field {hub.field!r} of row {number:,} is no text")
            yield row[hub.field] or ""
    except Exception as error:
        transient = isinstance(error, ConnectionError | TimeoutError)
        raise OriginError(f"cannot be read ({type(error).__name__}: {_one_line(str(error))})", transient) from error
