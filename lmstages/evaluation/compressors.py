"""General-purpose compressors as a baseline: how many bytes they need for a held-out text.

A compressor is a language model without explicit probabilities: the size of its output is a code length, headers and
padding included. Two sizes of each: of the text alone, and of what it adds to train,

    size(text)                   size(train + text) - size(train)

the second conditioned on as much of train as the program's window holds. Knows no token and no model.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lmstages.core import artifacts
from lmstages.corpora.splits import text_path

CHUNK = 1 << 20


class Compressor(Protocol):
    """The common interface of zlib, bz2, lzma and zstandard."""

    def compress(self, data: bytes, /) -> bytes:
        """Compress a piece of text; returns the output so far available."""

    def flush(self) -> bytes:
        """The rest of the output."""


def _gzip() -> Compressor:
    return zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


def _zstd() -> Compressor:
    import zstandard

    return zstandard.ZstdCompressor(level=19).compressobj()


COMPRESSORS: Mapping[str, tuple[Callable[[], Compressor], str, str]] = {  # constructor, setting, window
    "gzip": (_gzip, "gzip -9", "the last 32 KiB"),
    "bz2": (lambda: bz2.BZ2Compressor(9), "bzip2 -9", "its block of 900 kB"),
    "xz": (lambda: lzma.LZMACompressor(preset=9), "xz -9", "the last 64 MiB"),
    "zstd": (_zstd, "zstd -19", "the last 8 MiB"),
}


def code_lengths(text: Path, names: Sequence[str], splits: Sequence[str], out: Path, made: artifacts.Made) -> None:
    """Write {split: {compressor: {alone, given_train, setting, sees}}}, sizes in bytes."""
    train = text_path(text, "train")
    artifacts.must_be_of_one_call(train, *(text_path(text, split) for split in splits))
    trained = {name: size(name, [train]) for name in names}
    sizes = {}
    for split in splits:
        held_out = text_path(text, split)
        sizes[split] = {name: _sizes(name, held_out, train, trained[name]) for name in names}
    artifacts.save_json(out, sizes, made)


def _sizes(name: str, held_out: Path, train: Path, trained: int) -> dict[str, Any]:
    _, setting, sees = COMPRESSORS[name]
    given = size(name, [train, held_out]) - trained
    return {"alone": size(name, [held_out]), "given_train": given, "setting": setting, "sees": sees}


def size(name: str, files: Iterable[Path]) -> int:
    """Compressed size of concatenated files, bytes."""
    compressor = COMPRESSORS[name][0]()
    written = sum(len(compressor.compress(piece)) for file in files for piece in _pieces(file))
    return written + len(compressor.flush())


def _pieces(path: Path) -> Iterator[bytes]:
    with artifacts.verified(path).open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece
