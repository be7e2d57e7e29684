"""A held-out text as a score file made elsewhere must cover it: its bytes, and where its documents begin and end."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import shortened
from lmstages.corpora import splits

AROUND = 24  # bytes of text on either side of a position that a message shows
Content = mmap.mmap | bytes


@dataclass(frozen=True)
class HeldOut:
    """D documents that follow one another: starts, ends, and lengths of their separators (D,), in bytes.

    ``name`` is what messages call the text.
    """

    name: str
    content: Content
    starts: np.ndarray
    ends: np.ndarray
    terminators: np.ndarray
    characters: int
    sha256: str

    @classmethod
    @contextmanager
    def open(cls, folder: Path, split: str, name: str = "") -> Iterator["HeldOut"]:
        """A split of a corpus, memory-mapped, verified against its sha256."""
        text = splits.SplitText.open(folder, split)
        sha256 = artifacts.made_of(text.path)["sha256"]
        with _mapped(text.path) as content:
            starts = np.concatenate([np.zeros(min(len(text.ends), 1), np.int64), text.ends[:-1]])
            characters = sum(splits.count_characters(piece) for piece in _pieces(content))
            yield cls(name or str(text.path), content, starts, text.ends, text.terminators, characters, sha256)

    @property
    def size(self) -> int:
        """Bytes of the whole text."""
        return len(self.content)

    @property
    def sizes(self) -> np.ndarray:
        """(D,) bytes of each document, its separator included."""
        return np.asarray(self.ends - self.starts)

    def document(self, index: int) -> bytes:
        """The bytes of one document, its separator included."""
        return self.content[int(self.starts[index]) : int(self.ends[index])]

    def document_at(self, byte: int) -> int:
        """The document that holds a byte of the text; the last one for the text's end."""
        return min(int(np.searchsorted(self.ends, byte, side="right")), len(self.ends) - 1)

    def around(self, byte: int) -> str:
        """The text before and after a byte, as a message shows it: ``'the cat' | ' sat'``."""
        before = self.content[max(0, byte - AROUND) : byte].decode(errors="replace")
        after = self.content[byte : byte + AROUND].decode(errors="replace")
        return f"{shortened(before)} | {shortened(after)}"

    def place(self, byte: int) -> str:
        """A byte of the text in words: the document and the byte within it, the byte of the text, and what is there."""
        if len(self.ends) < 2:
            return f"byte {byte:,} of the text ({self.around(byte)})"
        document = self.document_at(byte)
        within = byte - int(self.starts[document])
        return f"byte {within:,} of document {document:,}, byte {byte:,} of the text ({self.around(byte)})"


@contextmanager
def _mapped(path: Path) -> Iterator[Content]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _pieces(content: Content) -> Iterator[bytes]:
    for start in range(0, len(content), splits.PIECE):
        yield content[start : start + splits.PIECE]
