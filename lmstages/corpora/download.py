"""Brings a text from elsewhere to a file, whole and verified, or says in one line why not.

The bytes pass from an origin (an address, a file of a mirror, a data set of the hub) through size cap and
digest into a temporary file, which takes its name only when it is one of the variants that are accepted.
Any server may lie, stall or drip: an origin is read in a thread of its own, and the reader of its pieces
gives up after a silence or at the deadline, whatever the origin does. Failures that may pass (no connection,
silence, 5xx, a short body) are tried again; those that stay (404, HTML, another digest) lead to the next origin.

A mirror replaces the network: with one, nothing else is asked. Knows nothing of what a text means.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from lmstages.config.sources import Hub, Part, Source, Variant
from lmstages.core.artifacts import saving
from lmstages.core.errors import UserError
from lmstages.corpora.text import document_offsets

logger = logging.getLogger("lmstages")
Pieces = Generator[bytes, None, None]
Read = Queue[bytes | Exception | None]
CHUNK = 1 << 16
REDIRECTS = 5
BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
HTML = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Patience:
    """How long one origin is waited for, in seconds; the deadline includes its retries."""

    connect: float = 10
    silence: float = 20  # without a byte
    deadline: float = 600
    retries: int = 3
    pause: float = 1  # before the first retry; twice as long before each further one
    report: float = 5  # between two lines of progress


PATIENCE = Patience()
HUB_PATIENCE = Patience(silence=300, deadline=6 * 3600, retries=0)  # 2 GB in large blocks; the library retries


class Failure(Exception):
    """What was found at an origin; ``transient`` if it may pass, ``absent`` if the origin has no such file."""

    def __init__(self, found: str, transient: bool = False, absent: bool = False) -> None:
        super().__init__(found)
        self.transient, self.absent = transient, absent


@dataclass(frozen=True)
class Origin:
    """Where bytes may come from; with no variants its revision alone pins them."""

    shown: str
    pieces: Callable[[Patience], Pieces]
    variants: tuple[Variant, ...]
    size_limit: int  # bytes
    local: bool = False  # nothing passes by waiting
    left_out: list[int] = field(default_factory=list)  # stories, counted from 1


def fetch(
    source: Source,
    destination: Path,
    mirror: str | None,
    made: dict[str, Any],
    *,
    part: str = "whole",
    stories: int | None = None,
    patience: Patience | None = None,
) -> Variant:
    """Write one part of a source to ``destination`` and say which variant it is.

    ``mirror`` is a folder or an http(s) address that stands in place of the network. ``stories`` takes
    only the first ones of a source with documents. Where the bytes came from joins ``made`` in the sidecar.
    Raises UserError, and then leaves what stood at ``destination`` as it was.
    """
    assert stories is None or source.layout == "separator", "only documents can be counted"
    assert stories is None or stories > 0, "at least one story"
    wanted = source.part(part)
    web = wanted.urls or "://" in (mirror or "")
    patience = patience or (PATIENCE if web else HUB_PATIENCE)
    origins = _origins(source, wanted, mirror, stories)
    record = dict(made)
    with saving(destination, record) as file:
        origin, variant = _first_good(source, wanted, origins, mirror, file, patience)
        if stories is not None and origin.variants:
            _keep_stories(source, origin, file, stories)
        record["download"] = {"from": origin.shown, "variant": variant.name, "left_out": origin.left_out}
    logger.info("%s: %s from %s", source.name, variant.name, origin.shown)
    return variant


# Where to look.


def _origins(source: Source, part: Part, mirror: str | None, stories: int | None) -> list[Origin]:
    if mirror is None:
        return [_web(url, part) for url in part.urls] or [_hub(source, part, source.hub, stories)]
    if "://" in mirror:
        return [_web(f"{_address(mirror)}/{quote(name)}", part) for name in part.mirror_names]
    folder = _folder(mirror)
    copies = [_local_hub(source, part, folder, stories)] if source.hub else []
    return copies + [_file(folder / name, part) for name in part.mirror_names]


def _address(mirror: str) -> str:
    try:
        known = urlsplit(mirror).scheme in ("http", "https")
    except ValueError:  # such as http://[
        known = False
    if not known:
        raise UserError("mirror", "neither a folder nor an http address", "FOLDER, or an address http(s)://...")
    return mirror.rstrip("/")


def _folder(mirror: str) -> Path:
    folder = Path(mirror).expanduser()
    if not mirror or not folder.is_dir():
        remedy = "make it, or leave mirror out to ask the network"
        raise UserError(f"mirror {mirror!r}", "no such folder", "FOLDER, or an address http(s)://...", remedy)
    return folder


def _web(url: str, part: Part) -> Origin:
    return Origin(_shown(url), partial(_from_web, url), part.variants, _largest(part))


def _file(path: Path, part: Part) -> Origin:
    return Origin(path.name, partial(_from_file, path), part.variants, _largest(part), local=True)


def _hub(source: Source, part: Part, hub: Hub | None, stories: int | None) -> Origin:
    assert hub is not None, "a source has addresses or a hub"
    left_out: list[int] = []
    pieces = partial(_from_hub, hub, part.name, source.separator, stories, left_out)
    shown = f"{hub.path}@{hub.revision}" if hub.revision else Path(hub.path).name
    return Origin(f"{shown} ({part.name})", pieces, (), hub.size_limit, hub.revision is None, left_out)


def _local_hub(source: Source, part: Part, folder: Path, stories: int | None) -> Origin:
    """The hub's repository as a folder of the mirror."""
    assert source.hub is not None, "a source of the hub"
    copy = replace(source.hub, path=str(folder / source.hub.mirror_folder), revision=None)
    return _hub(source, part, copy, stories)


def _largest(part: Part) -> int:
    return max(variant.size for variant in part.variants)


def _shown(url: str) -> str:
    """An address without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


# One origin after the other, each tried again while that may help.


def _first_good(
    source: Source, part: Part, origins: list[Origin], mirror: str | None, file: BinaryIO, patience: Patience
) -> tuple[Origin, Variant]:
    failures: list[tuple[Origin, Failure]] = []
    for origin in origins:
        try:
            return origin, _with_retries(origin, file, patience)
        except Failure as failure:
            failures.append((origin, failure))
            if mirror is not None and not failure.absent:
                break  # a mirror's damaged file is mended, not passed over
    raise _nowhere(source, part, mirror, failures)


def _with_retries(origin: Origin, file: BinaryIO, patience: Patience) -> Variant:
    end = time.monotonic() + patience.deadline
    retries = 0 if origin.local else patience.retries
    for attempt in range(retries + 1):
        try:
            return _received(origin, file, patience, end)
        except Failure as failure:
            if not failure.transient or attempt == retries:
                raise
            logger.warning("%s: %s; trying again (%d of %d)", origin.shown, failure, attempt + 1, retries)
            time.sleep(max(0, min(patience.pause * 2**attempt, end - time.monotonic())))
    raise AssertionError("the last attempt returns or raises")


def _nowhere(source: Source, part: Part, mirror: str | None, failures: list[tuple[Origin, Failure]]) -> UserError:
    where = source.name if mirror is None else f"{source.name} in mirror {_shown(mirror)}"
    seen = [(origin, failure) for origin, failure in failures if mirror is None or not failure.absent]
    found = ", then ".join(f"{origin.shown}: {failure}" for origin, failure in seen)
    none = "none of these is there: " + ", ".join(origin.shown for origin, _ in failures)
    from_hub = source.hub is not None and mirror is None
    return UserError(where, found or none, "" if from_hub else _allowed(part), _remedy(source, part, mirror))


def _allowed(part: Part) -> str:
    wanted = " or ".join(f"{each.size:,} bytes with {each.algorithm} {each.digest}" for each in part.variants)
    return f"a file must have {wanted}"


def _remedy(source: Source, part: Part, mirror: str | None) -> str:
    names = " or ".join(part.mirror_names)
    if mirror is not None:
        return f"put {names} there, or leave mirror out to ask the network"
    if source.hub:
        names += f" or a copy of the repository, called {source.hub.mirror_folder},"
    return f"put {names} into a folder and give it as mirror: --config mirror=FOLDER"


# Receiving: write, count, digest, judge.


def _received(origin: Origin, file: BinaryIO, patience: Patience, end: float) -> Variant:
    """Write the origin's bytes to ``file``, in place of what an earlier attempt left there."""
    file.seek(0)
    file.truncate()
    judge = _Judge(origin)
    progress = _Progress(origin, patience.report)
    with closing(_ahead(origin.pieces(patience), patience, end)) as pieces:
        for piece in pieces:
            file.write(piece)
            judge.take(piece)
            progress.take(piece)
    return judge.verdict()


class _Judge:
    """Size, digests and first bytes of what came; says which variant it is, or what is wrong with it."""

    def __init__(self, origin: Origin) -> None:
        self.origin, self.size, self.head = origin, 0, b""
        self.digests = [_digest(variant) for variant in origin.variants]
        self.sha256 = hashlib.sha256()

    def take(self, piece: bytes) -> None:
        """Count and digest a piece; too many bytes are refused at once."""
        self.size += len(piece)
        self.head = (self.head + piece)[:1024] if len(self.head) < 1024 else self.head
        for digest in [self.sha256, *self.digests]:
            digest.update(piece)
        if self.size > self.origin.size_limit:
            raise self._html() or Failure(f"more than the {self.origin.size_limit:,} bytes that are allowed")

    def verdict(self) -> Variant:
        """The variant, once all has come."""
        if not self.origin.variants:
            return Variant("stories", self.size, self.sha256.hexdigest())
        for variant, digest in zip(self.origin.variants, self.digests, strict=True):
            if (self.size, digest.hexdigest()) == (variant.size, variant.digest):
                return variant
        raise self._html() or self._short() or self._differs()

    def _html(self) -> Failure | None:
        head = self.head.lower()
        return Failure("an HTML page instead of text") if any(mark in head for mark in HTML) else None

    def _short(self) -> Failure | None:
        sizes = {variant.size for variant in self.origin.variants}
        if self.size in sizes:
            return None
        ended = f"ended after {self.size:,}" if self.size else "an empty body, 0"
        return Failure(f"{ended} of {' or '.join(f'{size:,}' for size in sorted(sizes))} bytes", transient=True)

    def _differs(self) -> Failure:
        pairs = zip(self.origin.variants, self.digests, strict=True)
        found = [f"{each.algorithm} {got.hexdigest()[:12]}... where {each.digest[:12]}..." for each, got in pairs]
        return Failure(" and ".join(found) + " was expected")


def _digest(variant: Variant) -> Any:
    if variant.algorithm == "git blob":
        return hashlib.sha1(f"blob {variant.size}\0".encode(), usedforsecurity=False)
    return hashlib.sha256()


class _Progress:
    """A line in the log every few seconds: MB, MB/s and, where the size is known, the time left."""

    def __init__(self, origin: Origin, every: float) -> None:
        self.shown, self.every, self.size = origin.shown, every, 0
        self.expected = origin.size_limit if origin.variants else 0
        self.start = self.last = time.monotonic()

    def take(self, piece: bytes) -> None:
        """Count a piece, and speak if it is time."""
        self.size += len(piece)
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            speed = self.size / (now - self.start)
            left = f", {max(0, self.expected - self.size) / speed:.0f} s left" if self.expected else ""
            logger.info("%s: %.1f MB, %.2f MB/s%s", self.shown, self.size / 1e6, speed / 1e6, left)


# Reading with patience.


def _ahead(pieces: Pieces, patience: Patience, end: float) -> Pieces:
    """The same pieces, read ahead in a thread, so that neither a silence nor a slow drip outlasts patience.

    A thread that hangs is left behind: it ends with its next piece, its own timeout, or the process.
    """
    read: Read = Queue(maxsize=64)
    given_up = Event()
    Thread(target=_read_into, args=(pieces, read, given_up), daemon=True).start()
    try:
        while (piece := _next(read, patience, end)) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        given_up.set()


def _next(read: Read, patience: Patience, end: float) -> bytes | Exception | None:
    left = end - time.monotonic()
    try:
        if left > 0:
            return read.get(timeout=min(patience.silence, left))
    except Empty:
        if left > patience.silence:
            raise _silence(patience) from None
    raise Failure(f"not finished within {patience.deadline:g} s")


def _silence(patience: Patience) -> Failure:
    return Failure(f"nothing arrived for {patience.silence:g} s", transient=True)


def _read_into(pieces: Pieces, read: Read, given_up: Event) -> None:
    try:
        with closing(pieces):  # and with them the connection, at once
            for piece in pieces:
                _put(read, piece, given_up)
                if given_up.is_set():
                    return
        _put(read, None, given_up)
    except Exception as error:  # raised again by the reader
        _put(read, error, given_up)


def _put(read: Read, piece: bytes | Exception | None, given_up: Event) -> None:
    while not given_up.is_set():
        try:
            return read.put(piece, timeout=0.2)
        except Full:
            continue


# The three kinds of origin.


def _from_file(path: Path, patience: Patience) -> Pieces:
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK):
                yield piece
    except FileNotFoundError as error:
        raise Failure("no such file", absent=True) from error
    except OSError as error:
        raise Failure(f"cannot be read ({error.strerror})") from error


def _from_web(url: str, patience: Patience) -> Pieces:
    """The body as it arrives, in whatever pieces; one that breaks off just ends, and is judged by its size."""
    with requests.Session() as session:
        session.max_redirects = REDIRECTS
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "lmstages"})
        with _answer(session, url, patience) as response:
            try:
                while piece := response.raw.read1(CHUNK, decode_content=True):
                    yield piece
            except ReadTimeoutError as error:
                raise _silence(patience) from error
            except (HTTPError, OSError) as error:
                logger.debug("%s: %s", _shown(url), error)


def _answer(session: requests.Session, url: str, patience: Patience) -> requests.Response:
    try:
        response = session.get(url, stream=True, timeout=(patience.connect, patience.silence))
    except requests.RequestException as error:
        raise _no_answer(error, patience) from error
    status = response.status_code
    if status != HTTPStatus.OK:
        response.close()
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        raise Failure(f"{status} {phrase}".strip(), status >= 500 or status in BUSY, status in GONE)
    return response


def _no_answer(error: requests.RequestException, patience: Patience) -> Failure:
    if isinstance(error, requests.TooManyRedirects):
        return Failure(f"more than {REDIRECTS} redirects")
    if isinstance(error, requests.exceptions.SSLError):
        return Failure("its certificate is not accepted")
    if isinstance(error, requests.ConnectTimeout):
        return Failure(f"no connection within {patience.connect:g} s", transient=True)
    if isinstance(error, requests.ReadTimeout):
        return _silence(patience)
    if isinstance(error, requests.ConnectionError):
        return Failure(f"no connection ({_deepest(error)})", transient=True)
    return Failure(f"not an address that can be asked ({type(error).__name__})")


def _deepest(error: BaseException) -> str:
    """What the system said, below the layers that wrapped it."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _one_line(said or type(error).__name__)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def _from_hub(
    hub: Hub, split: str, separator: str, stories: int | None, left_out: list[int], patience: Patience
) -> Pieces:
    """Each story, then a line end, the separator, a line end; one that holds the separator as a line is left out.

    With it, its end could not be found again. The numbers of those left out go to ``left_out``.
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
        raise Failure(f"ended after {written:,} of {stories or 'all':,} stories")


def _hub_stories(hub: Hub, split: str) -> Iterator[str]:
    """The one place that asks the hub; the library's many errors become failures here."""
    if hub.revision is None and not Path(hub.path).is_dir():
        raise Failure("no such folder", absent=True)
    try:
        import datasets  # takes a second, and most runs have no need of it

        rows = datasets.load_dataset(hub.path, split=split, streaming=True, revision=hub.revision)
        for row in rows.select_columns([hub.field]):
            yield row[hub.field] or ""
    except Exception as error:
        transient = isinstance(error, ConnectionError | TimeoutError)
        raise Failure(f"cannot be read ({type(error).__name__}: {_one_line(str(error))})", transient) from error


def _keep_stories(source: Source, origin: Origin, file: BinaryIO, stories: int) -> None:
    """Cut a verified file behind its first stories."""
    file.flush()
    ends = document_offsets(Path(file.name), source.layout, source.separator).ends
    if len(ends) < stories:
        remedy = "ask for fewer stories, or leave mirror out to ask the hub"
        raise UserError(f"{source.name}: {origin.shown}", f"{len(ends):,} stories", f"{stories:,} are wanted", remedy)
    file.truncate(int(ends[stories - 1]))
