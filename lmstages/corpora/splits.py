"""Train, valid and test of a corpus as they lie on disk.

A split is ``{name}.txt``, the documents' bytes with the separators they had, and
``{name}.documents.safetensors``, where each ends and how many of its last bytes are separator. Only a
split of a stream may begin within a line; it never begins within a character.

Knows nothing of tokens, nor where the text came from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.core import artifacts

NAMES = ("train", "valid", "test")
PIECE = 1 << 22  # bytes of text handled at a time


class Piece(NamedTuple):
    """Text, and how many separator bytes end its document; None where no document ends here."""

    text: str
    terminator: int | None


@dataclass(frozen=True)
class SplitText:
    """One split as it lies on disk: D documents, the last byte of each and its separator's length."""

    path: Path
    ends: np.ndarray
    terminators: np.ndarray
    stream: bool

    @classmethod
    def open(cls, folder: Path, name: str) -> "SplitText":
        """Verified against its sha256."""
        arrays, metadata = artifacts.load_arrays(documents_path(folder, name))
        path = artifacts.verified(text_path(folder, name))
        return cls(path, arrays["ends"], arrays["terminators"], metadata["stream"] == "true")

    def batches(self) -> Iterator[list[Piece]]:
        """All text in order, some megabytes at a time; only a stream is ever cut within a document."""
        with open(self.path, "rb") as file:
            if self.stream:
                yield from ([Piece(text, None)] for text in _stream_pieces(file))
                return
            for first, last in self._groups():
                yield self._read(file, first, last)

    def _groups(self) -> Iterator[tuple[int, int]]:
        first = 0
        while first < len(self.ends):
            begin = self.ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(self.ends, begin + PIECE)))
            yield first, last
            first = last

    def _read(self, file: Any, first: int, last: int) -> list[Piece]:
        begin = int(self.ends[first - 1]) if first else 0
        file.seek(begin)
        content = file.read(int(self.ends[last - 1]) - begin)
        stops = (self.ends[first:last] - begin).tolist()
        terminators = self.terminators[first:last].tolist()
        starts = [0, *stops[:-1]]
        return [
            Piece(content[start : stop - terminator].decode(), terminator)
            for start, stop, terminator in zip(starts, stops, terminators, strict=True)
        ]

    def texts(self) -> Iterator[str]:
        """The texts of all documents, without separators."""
        for batch in self.batches():
            yield from (piece.text for piece in batch)


def _stream_pieces(file: Any) -> Iterator[str]:
    """A stream in pieces that end after a newline where there is one, so that words stay whole."""
    held = b""
    while content := file.read(PIECE):
        content = held + content
        cut = content.rfind(b"\n") + 1 or _character_end(content)
        held = content[cut:]
        yield content[:cut].decode()
    if held:
        yield held.decode()


def _character_end(content: bytes) -> int:
    """Where the last character that began in ``content`` begins, so that a cut falls between two."""
    cut = len(content) - 1
    while cut > 0 and content[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def text_path(folder: Path, name: str) -> Path:
    """Where the bytes of a split lie."""
    return folder / f"{name}.txt"


def documents_path(folder: Path, name: str) -> Path:
    """Where the ends of its documents lie."""
    return folder / f"{name}.documents.safetensors"


def count_characters(content: bytes) -> int:
    """UTF-8 bytes that are not the continuation of a character."""
    codes = np.frombuffer(content, dtype=np.uint8)
    return int(np.count_nonzero(codes & 0xC0 != 0x80))


def write(
    folder: Path, name: str, contents: Iterator[bytes], terminators: np.ndarray, stream: bool, made: Any
) -> dict[str, int]:
    """Write one split document by document; returns how many documents, bytes and characters it has."""
    lengths, characters = [], 0
    with artifacts.saving(text_path(folder, name), made) as file:
        for content in contents:
            file.write(content)
            lengths.append(len(content))
            characters += count_characters(content)
    ends = np.cumsum(np.array(lengths, dtype=np.int64))
    if stream:
        ends, terminators = ends[-1:], np.zeros(min(len(ends), 1))
    arrays = {"ends": ends, "terminators": terminators.astype(np.int64)}
    artifacts.save_arrays(documents_path(folder, name), arrays, {"stream": str(stream).lower()}, made)
    return {"documents": len(ends), "bytes": int(ends[-1]) if len(ends) else 0, "characters": characters}
