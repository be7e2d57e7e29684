"""Files packed by gzip, bzip2, xz or zstd, read piece by piece: what a file is packed by follows from its first bytes.

What a file unpacks to is bounded, so that a few bytes never fill a disk; a file that ends early is an error. Knows no
format of what is packed.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from lmstages.core.errors import UserError
from lmstages.core.files import reading

CHUNK = 1 << 18  # bytes of a piece
RATIO, FREE = 250, 1 << 30  # a file may unpack to so many times its size, a GiB in any case; text packs 3 to 20 times
MEMORY = 1 << 28  # bytes that xz may take for its dictionary; 64 MiB at its highest level
ZSTD_WINDOW = 1 << 27  # bytes, the most that zstd writes without --long
FED = 1 << 10  # bytes of zstd at a time, which unpack to 32 MiB at the most


class Decompressor(Protocol):
    """The interface of one compressed stream, as in the standard library."""

    @property
    def eof(self) -> bool:
        """Whether the stream has come to its end."""

    @property
    def unused_data(self) -> bytes:
        """What stands behind the end."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes without further bytes."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Packed bytes -> at most so many of the text."""


class _Gzip:
    """zlib's decompressor with the interface of the others."""

    def __init__(self) -> None:
        self.stream, self.needs_input = zlib.decompressobj(wbits=31), True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most ``max_length`` bytes; what was not read yet comes first."""
        piece = self.stream.decompress(self.stream.unconsumed_tail + data, max_length)
        self.needs_input = not self.stream.unconsumed_tail
        return piece

    @property
    def eof(self) -> bool:
        return self.stream.eof

    @property
    def unused_data(self) -> bytes:
        return self.stream.unused_data


class _Zstd:
    """zstandard's decompressor, whose pieces are bounded by what it is fed."""

    def __init__(self) -> None:
        import zstandard

        self.stream = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
        self.waiting = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The text of the next FED bytes."""
        fed, self.waiting = (self.waiting + data)[:FED], (self.waiting + data)[FED:]
        return bytes(self.stream.decompress(fed)) if fed else b""

    @property
    def eof(self) -> bool:
        return bool(self.stream.eof)

    @property
    def needs_input(self) -> bool:
        return not self.waiting

    @property
    def unused_data(self) -> bytes:
        return bytes(self.stream.unused_data) + self.waiting


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)


class Packing(NamedTuple):
    """A way of packing: the first bytes, the name, how names of such files end, and what unpacks it."""

    magic: bytes
    name: str
    suffix: str
    decompressor: Callable[[], Decompressor]


PACKINGS = (
    Packing(b"\x1f\x8b", "gzip", ".gz", _Gzip),
    Packing(b"BZh", "bzip2", ".bz2", bz2.BZ2Decompressor),
    Packing(b"\xfd7zXZ\0", "xz", ".xz", _xz),
    Packing(b"\x28\xb5\x2f\xfd", "zstd", ".zst", _Zstd),
)
BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # begin the first block, or the end of an empty file


def packing_of(head: bytes) -> Packing | None:
    """What the first bytes of a file say that it is packed by; None where it is not. ``BZh`` alone may begin a text."""
    packing = next((packing for packing in PACKINGS if head.startswith(packing.magic)), None)
    if packing is not None and packing.name == "bzip2" and not head[4:10].startswith(BZIP2_BLOCKS):
        return None
    return packing


def suffix_packing(name: str) -> Packing | None:
    """What the end of a file's name says that it is packed by."""
    return next((packing for packing in PACKINGS if name.lower().endswith(packing.suffix)), None)


def head_of(path: Path, size: int) -> tuple[bytes, Packing | None]:
    """The first bytes of a file, unpacked, and its packing; as many as there are where it is damaged."""
    with reading(path), open(path, "rb") as file:
        head = file.read(size)
        packing = packing_of(head)
        if packing is None:
            return head, None
        file.seek(0)
        unpacked, pieces = b"", _pieces(lambda: file.read(CHUNK), packing)
        try:
            while len(unpacked) < size and (piece := next(pieces, b"")):
                unpacked += piece
        except _errors():
            pass
        return unpacked[:size], packing


@contextmanager
def opened(path: Path) -> Iterator["Pieces"]:
    """The content of a file piece by piece, unpacked where it is packed."""
    with reading(path):
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    with file:
        with reading(path):
            packing = packing_of(file.read(16))
            file.seek(0)
        yield Pieces(path, file, packing)


class Pieces:
    """An iterator over the pieces of a file; raises UserError where it is damaged or unpacks to too much."""

    def __init__(self, path: Path, file: BinaryIO, packing: Packing | None) -> None:
        self.path, self.file, self.packing, self.size = path, file, packing, 0
        self.limit = max(FREE, RATIO * path.stat().st_size)

    def __iter__(self) -> Iterator[bytes]:
        if self.packing is None:
            yield from iter(self._packed, b"")
            return
        pieces = _pieces(self._packed, self.packing)
        while piece := self._next(pieces):
            self.size += len(piece)
            if self.size > self.limit:
                raise too_much(self.path, self.limit)
            yield piece

    def _next(self, pieces: Iterator[bytes]) -> bytes:
        try:
            return next(pieces, b"")
        except _errors() as error:
            raise self._damaged(error) from error

    def _packed(self) -> bytes:
        with reading(self.path):
            return self.file.read(CHUNK)

    def position(self) -> int:
        """How many bytes of the file itself have been read."""
        return self.file.tell()

    def _damaged(self, error: Exception) -> UserError:
        assert self.packing is not None, "a plain file has no such errors"
        name, words = self.packing.name, " ".join(str(error).split())[:100]
        early = isinstance(error, EOFError)
        problem = f"ends before the end of what {name} packed" if early else f"is damaged: {name} cannot unpack it"
        detail = "" if early or not words else f" ({words})"
        return UserError(self.path, f"{problem}{detail}", "", "copy or download it again")


def too_much(path: object, limit: int) -> UserError:
    """The error for a file of which more than ``limit`` bytes would come."""
    allowed = f"a file may hold {RATIO:,} times its own size, and {FREE:,} bytes in any case"
    return UserError(path, f"unpacks to more than {limit:,} bytes", allowed, "if it is meant, unpack it and name that")


def _pieces(read: Callable[[], bytes], packing: Packing) -> Iterator[bytes]:
    """The unpacked pieces of one stream after another; raises EOFError where the last one is not whole."""
    decompressor, data = packing.decompressor(), b""
    while True:
        data = data or (read() if decompressor.needs_input else b"")
        if not data and decompressor.needs_input:
            raise EOFError
        if piece := decompressor.decompress(data, CHUNK):
            yield piece
        data = b""
        if decompressor.eof:
            data = _after(read, decompressor.unused_data)
            if not data:
                return
            decompressor = packing.decompressor()


def _after(read: Callable[[], bytes], unused: bytes) -> bytes:
    """The bytes behind the end of a stream, without the zeros that fill up blocks."""
    data = unused.lstrip(b"\0")
    while not data and (more := read()):
        data = more.lstrip(b"\0")
    return data


def _errors() -> tuple[type[Exception], ...]:
    """What decompressors raise for damaged bytes."""
    import zstandard

    return (zlib.error, lzma.LZMAError, EOFError, OSError, zstandard.ZstdError)
