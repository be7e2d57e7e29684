"""Downloads a text to a file, complete and verified, or says in one line why that failed.

The bytes of an origin (an address, a file of a mirror, a data set of the hub) are counted against a size limit and
hashed while they go to a temporary file, which takes its name only when it is one of the accepted variants. A failure
that may pass (a read timeout, a short body) is retried; one that stays (404, HTML, another digest) leads to the next
origin. With a mirror, the network is not asked at all.

Retries of requests are urllib3's (see ``origins``). The deadline is ours: a server that sends a byte every few
seconds, in the body or in the headers, never meets a per-read timeout, so an origin is read in a thread of its own.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, BinaryIO, Literal
from urllib.parse import SplitResult, quote, urlsplit

from lmstages.config.sources import Hub, Part, Source, Variant
from lmstages.core.artifacts import saving
from lmstages.core.errors import UserError
from lmstages.corpora.origins import (
    OriginError,
    Pieces,
    TimeLimits,
    from_file,
    from_hub,
    from_web,
    from_zip,
    without_secrets,
)
from lmstages.corpora.text import document_offsets
from lmstages.corpora.verification import Verification

logger = logging.getLogger("lmstages")
Received = Queue[bytes | Exception | None]  # None ends it
LIMITS = TimeLimits()
ROWS: dict[bool, Literal["records", "joined"]] = {False: "records", True: "joined"}
HUB_BYTES = 1 << 43  # of a data set of the hub
HUB_LIMITS = TimeLimits(deadline=6 * 3600, retries=0)  # 2 GB in large blocks; the library has its own retries


@dataclass(frozen=True)
class Origin:
    """A source of bytes; one without variants is pinned by its revision alone."""

    label: str
    read: Callable[[TimeLimits], Pieces]
    variants: tuple[Variant, ...]
    size_limit: int  # bytes
    local: bool = False  # never retried
    left_out: list[int] = field(default_factory=list)  # stories, counted from 1


def source_of_hub(section: Mapping[str, Any]) -> Source:
    """One split of a data set of the hub, {name, config, revision, field, split, joined}, as a source of one part.

    Its rows are records of JSON Lines with the field ``text``, or, ``joined``, one text.
    """
    name, rows = section["name"], ROWS[section["joined"]]
    hub = Hub(name, section["revision"], section["field"], name, HUB_BYTES, section["config"], rows)
    return Source(name, (Part(section["split"], (), ()),), "stream", "not stated", "a data set of the hub", hub=hub)


def fetch(
    source: Source,
    destination: Path,
    mirror: str | None,
    made: dict[str, Any],
    *,
    part: str = "whole",
    stories: int | None = None,
    limits: TimeLimits | None = None,
) -> Variant:
    """Write one part of a source to ``destination`` and return the variant it is.

    ``mirror`` is a folder or an http(s) address that replaces the network. ``stories`` keeps only the first ones of
    a source with documents. The origin of the bytes joins ``made`` in the sidecar. Raises UserError, and then leaves
    a file that was at ``destination`` as it was.
    """
    assert stories is None or source.hub is not None or source.layout == "separator", "only documents can be counted"
    assert stories is None or stories > 0, "at least one story"
    wanted = source.part(part)
    web = wanted.urls or "://" in (mirror or "")
    limits = limits or (LIMITS if web else HUB_LIMITS)
    origins = _origins(source, wanted, mirror, stories)
    record = dict(made)
    with saving(destination, record) as file:
        origin, variant = _first_accepted(source, wanted, origins, mirror, file, limits)
        if stories is not None and origin.variants:
            _keep_stories(source, origin, file, stories)
        record["download"] = {"from": origin.label, "variant": variant.name, "left_out": origin.left_out}
    logger.info("%s: %s from %s", source.name, variant.name, origin.label)
    return variant


def _keep_stories(source: Source, origin: Origin, file: BinaryIO, stories: int) -> None:
    """Truncate a verified file after its first stories."""
    file.flush()
    ends = document_offsets(Path(file.name), source.layout, source.separator).ends
    if len(ends) < stories:
        remedy = "ask for fewer stories, or leave mirror out to ask the hub"
        raise UserError(f"{source.name}: {origin.label}", f"{len(ends):,} stories", f"{stories:,} are wanted", remedy)
    file.truncate(int(ends[stories - 1]))


# ---------------------------------------------------------------- origins


def _origins(source: Source, part: Part, mirror: str | None, stories: int | None) -> list[Origin]:
    """In the order in which they are tried."""
    if mirror is None:
        return [_web(url, part) for url in part.urls] or [_hub(source, part, source.hub, stories)]
    if "://" in mirror:
        base = _address(mirror)
        paths = [f"{base.path.rstrip('/')}/{quote(name)}" for name in part.mirror_names]
        return [_web(base._replace(path=path, fragment="").geturl(), part) for path in paths]
    folder = _folder(mirror)
    copies = [_hub_copy(source, part, folder, stories)] if source.hub else []
    return copies + [_file(folder / name, part) for name in part.mirror_names]


def _address(mirror: str) -> SplitResult:
    try:
        address = urlsplit(mirror)
        is_http = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:  # such as http://[
        is_http = False
    if not is_http:
        raise UserError("mirror", "neither a folder nor an http address", "FOLDER, or an address http(s)://...")
    return address


def _folder(mirror: str) -> Path:
    folder = Path(mirror).expanduser()
    if not mirror or not folder.is_dir():
        remedy = "make it, or leave mirror out to ask the network"
        raise UserError(f"mirror {mirror!r}", "no such folder", "FOLDER, or an address http(s)://...", remedy)
    return folder


def _web(url: str, part: Part) -> Origin:
    read = _unzipped(urlsplit(url).path, partial(from_web, url), part)
    return Origin(without_secrets(url), read, part.variants, _largest(part))


def _file(path: Path, part: Part) -> Origin:
    read = _unzipped(path.name, partial(from_file, path), part)
    return Origin(path.name, read, part.variants, _largest(part), local=True)


def _unzipped(name: str, read: Callable[[TimeLimits], Pieces], part: Part) -> Callable[[TimeLimits], Pieces]:
    """What reads the file of a part, which a zip holds under its first name in a mirror."""
    if not name.endswith(".zip"):
        return read
    return lambda limits: from_zip(read(limits), part.mirror_names[0], _largest(part))


def _hub(source: Source, part: Part, hub: Hub | None, stories: int | None) -> Origin:
    assert hub is not None, "a source has addresses or a hub"
    left_out: list[int] = []
    split = part.hub_split or part.name
    read = partial(from_hub, hub, split, source.separator, stories, left_out)
    label = f"{hub.path}@{hub.revision}" if hub.revision else Path(hub.path).name
    return Origin(f"{label} ({split})", read, (), hub.size_limit, hub.revision is None, left_out)


def _hub_copy(source: Source, part: Part, folder: Path, stories: int | None) -> Origin:
    """The hub's repository as a folder of the mirror."""
    assert source.hub is not None, "a source of the hub"
    copy = replace(source.hub, path=str(folder / source.hub.mirror_folder), revision=None)
    return _hub(source, part, copy, stories)


def _largest(part: Part) -> int:
    return max(variant.size for variant in part.variants)


# ---------------------------------------------------------------- attempts


def _first_accepted(
    source: Source, part: Part, origins: list[Origin], mirror: str | None, file: BinaryIO, limits: TimeLimits
) -> tuple[Origin, Variant]:
    errors: list[tuple[Origin, OriginError]] = []
    for origin in origins:
        try:
            return origin, _with_retries(origin, file, limits)
        except OriginError as error:
            errors.append((origin, error))
            if mirror is not None and not error.absent:
                break  # a mirror's damaged file has to be repaired, not passed over
    raise _all_failed(source, part, mirror, errors)


def _with_retries(origin: Origin, file: BinaryIO, limits: TimeLimits) -> Variant:
    """Receive from an origin, again where a body was broken or short, which urllib3 does not see."""
    end = time.monotonic() + limits.deadline
    retries = 0 if origin.local else limits.retries
    for attempt in range(retries + 1):
        try:
            return _receive(origin, file, limits, end)
        except OriginError as error:
            if not error.transient or attempt == retries:
                raise
            logger.warning("%s: %s; trying again (%d of %d)", origin.label, error, attempt + 1, retries)
            time.sleep(max(0, min(limits.backoff * 2**attempt, end - time.monotonic())))
    raise AssertionError("the last attempt returns or raises")


def _all_failed(source: Source, part: Part, mirror: str | None, errors: list[tuple[Origin, OriginError]]) -> UserError:
    where = source.name if mirror is None else f"{source.name} in mirror {without_secrets(mirror)}"
    shown = [(origin, error) for origin, error in errors if mirror is None or not error.absent]
    problem = ", then ".join(f"{origin.label}: {error}" for origin, error in shown)
    nothing = "none of these is there: " + ", ".join(origin.label for origin, _ in errors)
    pinned = not part.variants or (source.hub is not None and mirror is None)  # by its revision
    return UserError(where, problem or nothing, "" if pinned else _allowed(part), _remedy(source, part, mirror))


def _allowed(part: Part) -> str:
    accepted = (f"{variant.size:,} bytes with {variant.algorithm} {variant.digest}" for variant in part.variants)
    return f"a file must have {' or '.join(accepted)}"


def _remedy(source: Source, part: Part, mirror: str | None) -> str:
    names = " or ".join(part.mirror_names)
    if source.hub and (mirror is None or not names):
        copy = f"a copy of the repository, called {source.hub.mirror_folder},"
        names = f"{names} or {copy}" if names else copy
    if mirror is not None:
        return f"put {names} there, or leave mirror out to ask the network"
    return f"put {names} into a folder and give it as mirror: --config mirror=FOLDER"


# ---------------------------------------------------------------- one attempt


def _receive(origin: Origin, file: BinaryIO, limits: TimeLimits, end: float) -> Variant:
    """Write the origin's bytes to ``file``, in place of those of an earlier attempt, and verify them."""
    file.seek(0)
    file.truncate()
    verification = Verification(origin.variants, origin.size_limit)
    progress = _Progress(origin, limits.report)
    with closing(_until_deadline(origin.read(limits), limits, end)) as pieces:
        for piece in pieces:
            file.write(piece)
            verification.update(piece)
            progress.update(piece)
    return verification.variant()


class _Progress:
    """A line in the log every ``interval`` seconds: MB, MB/s and, where the size is known, the time left."""

    def __init__(self, origin: Origin, interval: float) -> None:
        self.label, self.interval, self.size = origin.label, interval, 0
        self.expected = origin.size_limit if origin.variants else 0
        self.start = self.last_line = time.monotonic()

    def update(self, piece: bytes) -> None:
        """Count a piece, and log a line if one is due."""
        self.size += len(piece)
        now = time.monotonic()
        if now - self.last_line >= self.interval:
            self.last_line = now
            speed = self.size / max(now - self.start, 1e-9)
            left = f", {max(0, self.expected - self.size) / speed:.0f} s left" if self.expected else ""
            logger.info("%s: %.1f MB, %.2f MB/s%s", self.label, self.size / 1e6, speed / 1e6, left)


# ---------------------------------------------------------------- the deadline


def _until_deadline(pieces: Pieces, limits: TimeLimits, end: float) -> Pieces:
    """The same pieces, read in a thread; raises OriginError at ``end`` (monotonic seconds), whatever the origin does.

    A thread that hangs is abandoned: it ends with its next piece, a read timeout, or the process.
    """
    received: Received = Queue(maxsize=64)
    abandoned = Event()
    Thread(target=_read_into, args=(pieces, received, abandoned), daemon=True).start()
    try:
        while (piece := _next(received, end - time.monotonic())) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
    except Empty:
        raise OriginError(f"not finished within {limits.deadline:g} s") from None
    finally:
        abandoned.set()


def _next(received: Received, seconds_left: float) -> bytes | Exception | None:
    if seconds_left <= 0:
        raise Empty  # even if more is waiting
    return received.get(timeout=seconds_left)


def _read_into(pieces: Pieces, received: Received, abandoned: Event) -> None:
    try:
        with closing(pieces):  # and with them the connection, at once
            for piece in pieces:
                _put(received, piece, abandoned)
                if abandoned.is_set():
                    return
        _put(received, None, abandoned)
    except Exception as error:  # raised again by the reader of the queue
        _put(received, error, abandoned)


def _put(received: Received, piece: bytes | Exception | None, abandoned: Event) -> None:
    while not abandoned.is_set():
        try:
            return received.put(piece, timeout=0.2)
        except Full:
            continue
