"""The files of the splits train, valid and test of a corpus.

A split is ``{name}.txt``, the bytes of its documents with their original separators, and
``{name}.documents.safetensors``, the end of each document and how many of its last bytes are separator. Only a
split of a stream may begin within a line; no split begins within a character.

Knows no token, and not the origin of the text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError

NAMES = ("train", "valid", "test")
PIECE = 1 << 22  # bytes of text handled at a time
LONGEST_CHARACTER = 4  # bytes
SAMPLE_SEED = 0


class Piece(NamedTuple):
    """Text, and how many separator bytes end its document; None where no document ends here."""

    text: str
    terminator: int | None


class Part(NamedTuple):
    """Bytes of a split, where in them the D documents end that end there, and how many of the last bytes separate.

    It ends between two characters. Bytes after the last of the ``ends`` (D,) begin a document that another part ends.
    """

    content: bytes
    ends: np.ndarray
    terminators: np.ndarray


class Points(NamedTuple):
    """Code points (n,), and where documents begin and end among them, (D,) each, their separators left out."""

    points: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


NO_DOCUMENT = np.zeros(0, np.int64)


@dataclass(frozen=True)
class SplitText:
    """One split on disk: D documents, their end offsets (D,) and the lengths of their separators (D,), in bytes."""

    path: Path
    ends: np.ndarray
    terminators: np.ndarray
    stream: bool

    @classmethod
    def open(cls, folder: Path, name: str) -> "SplitText":
        """Open a split, verified against its sha256; a UserError where text and documents do not belong together."""
        ends, terminators, stream = read_documents(folder, name)
        return cls(artifacts.verified(text_path(folder, name)), ends, terminators, stream)

    def batches(self, whole_words: bool = False) -> Iterator[list[Piece]]:
        """All text in order, about PIECE bytes at a time; only a stream is cut within a document.

        ``whole_words``: where a stream has no newline to be cut after, cut it before a space.
        """
        with self._as_utf8():
            yield from self._batches(whole_words)

    def points(self) -> Iterator[Points]:
        """All text in order as code points, about PIECE bytes at a time; each piece of a stream is one document."""
        with self._as_utf8(), open(self.path, "rb") as file:
            if self.stream:
                yield from (one_document(code_points(text)) for text in stream_pieces(file))
                return
            for first, last in self._groups():
                yield points_of_documents(self._read(file, first, last))

    def _batches(self, whole_words: bool) -> Iterator[list[Piece]]:
        with open(self.path, "rb") as file:
            if self.stream:
                yield from ([Piece(text, None)] for text in stream_pieces(file, whole_words))
                return
            for first, last in self._groups():
                yield _pieces_of(self._read(file, first, last))

    def parts(self) -> Iterator[Part]:
        """All bytes in order, at most about PIECE at a time; a longer document is cut between two characters."""
        for part in self._parts():
            if not part.content.isascii():
                with self._as_utf8():
                    part.content.decode()
            yield part

    def _parts(self) -> Iterator[Part]:
        with open(self.path, "rb") as file:
            if self.stream:
                yield from (Part(content, NO_DOCUMENT, NO_DOCUMENT) for content in _stream_contents(file))
                return
            for first, last in self._groups():
                yield from self._beginnings(file, first)
                yield self._read(file, first, last)

    @contextmanager
    def _as_utf8(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:
            raise UserError(self.path, "is not UTF-8", "", artifacts.make_again(self.path)) from error

    def _beginnings(self, file: Any, document: int) -> Iterator[Part]:
        """All but the last PIECE bytes of a document's text, where it has more; the file is then read up to them."""
        begin, stop = file.tell(), int(self.ends[document] - self.terminators[document])
        while stop - begin > PIECE + LONGEST_CHARACTER:
            content = file.read(PIECE + LONGEST_CHARACTER)
            content = content[: _character_end(content)]
            yield Part(content, NO_DOCUMENT, NO_DOCUMENT)
            begin += len(content)
            file.seek(begin)

    def _groups(self) -> Iterator[tuple[int, int]]:
        first = 0
        while first < len(self.ends):
            begin = self.ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(self.ends, begin + PIECE)))
            yield first, last
            first = last

    def _read(self, file: Any, first: int, last: int) -> Part:
        """Documents first ... last - 1, from where the file stands; it may stand within the first of them."""
        begin = file.tell()
        content = file.read(int(self.ends[last - 1]) - begin)
        return Part(content, self.ends[first:last] - begin, self.terminators[first:last])

    def texts(self, whole_words: bool = False, most: int | None = None) -> Iterator[str]:
        """The texts of all documents, without separators.

        Where the text has more than ``most`` bytes, those of some pieces that a fixed seed draws: about ``most`` bytes.
        """
        size, draws = self.path.stat().st_size, np.random.default_rng(SAMPLE_SEED)
        for batch in self.batches(whole_words):
            if most is None or size <= most or draws.random() * size < most:
                yield from (piece.text for piece in batch)


def _pieces_of(part: Part) -> list[Piece]:
    """The documents of a part that holds them whole."""
    stops, terminators = part.ends.tolist(), part.terminators.tolist()
    return [
        Piece(part.content[start : stop - terminator].decode(), terminator)
        for start, stop, terminator in zip([0, *stops[:-1]], stops, terminators, strict=True)
    ]


def code_points(text: str) -> np.ndarray:
    """Text -> (n,) code points."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def one_document(points: np.ndarray) -> Points:
    """(n,) code points as one document; read-only like all others, since compiled code tells the two apart."""
    points.flags.writeable = False
    return Points(points, np.array([0]), np.array([len(points)]))


def points_of_documents(part: Part) -> Points:
    """Whole documents in bytes -> the same in code points."""
    content, ends = part.content, part.ends
    points, stops = code_points(content.decode()), ends - part.terminators
    if len(points) < len(content):
        codes = np.frombuffer(content, dtype=np.uint8)
        before = np.concatenate([[0], np.cumsum(codes & 0xC0 != 0x80)])  # characters before each byte
        stops, ends = before[stops], before[ends]
    return Points(points, np.concatenate([[0], ends[:-1]]).astype(np.int64), stops)


def joined(part: SplitText) -> Points:
    """All of a split at once; a stream is one document."""
    pieces = list(part.points())
    together = one_document(np.concatenate([np.zeros(0, dtype=np.uint32), *(piece.points for piece in pieces)]))
    if part.stream:
        return together
    offsets = np.cumsum([0, *(len(piece.points) for piece in pieces)]).tolist()
    starts = [piece.starts + offset for piece, offset in zip(pieces, offsets, strict=False)]
    stops = [piece.stops + offset for piece, offset in zip(pieces, offsets, strict=False)]
    none = np.zeros(0, dtype=np.int64)
    return Points(together.points, np.concatenate([none, *starts]), np.concatenate([none, *stops]))


def stream_pieces(file: Any, whole_words: bool = False) -> Iterator[str]:
    """A stream in pieces that end after a newline where there is one, so that words stay whole; else before a space."""
    return (content.decode() for content in _stream_contents(file, whole_words))


def _stream_contents(file: Any, whole_words: bool = False) -> Iterator[bytes]:
    rest = b""
    while content := file.read(PIECE):
        content = rest + content
        cut = content.rfind(b"\n") + 1 or (whole_words and _words_end(content)) or _character_end(content)
        rest = content[cut:]
        yield content[:cut]
    if rest:
        yield rest


def _words_end(content: bytes) -> int:
    """Offset of the space before the last word of what a stream has read; of all of it where the stream ends."""
    return len(content) if len(content) < PIECE else len(content[: max(content.rfind(b" "), 0)].rstrip(b" "))


def _character_end(content: bytes) -> int:
    """Offset at which the last character of ``content`` begins: a cut there is between two characters."""
    cut = len(content) - 1
    while cut > 0 and content[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def read_documents(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Ends (D,) and separators (D,) of the documents of a split, and whether it is a stream; its text is not read.

    Raises UserError where they are not those of the text beside them.
    """
    path, text = documents_path(folder, name), text_path(folder, name)
    arrays, metadata = artifacts.load_arrays(path)
    artifacts.must_be_of_one_call(path, text)
    ends, terminators = arrays.get("ends"), arrays.get("terminators")
    if ends is None or terminators is None or not _are_ends(ends, terminators, text.stat().st_size):
        raise UserError(path, f"not where the documents of {text.name} end", "", artifacts.make_again(path))
    if metadata.get("stream") not in ("true", "false"):
        raise UserError(path, "does not say whether its text is a stream", "", artifacts.make_again(path))
    return ends, terminators, metadata["stream"] == "true"


def _are_ends(ends: np.ndarray, terminators: np.ndarray, size: int) -> bool:
    """Whether (D,) are the ends of documents that fill so many bytes, and (D,) lengths of their separators."""
    if ends.dtype != np.int64 or terminators.dtype != np.int64 or ends.ndim != 1 or ends.shape != terminators.shape:
        return False
    lengths = np.diff(ends, prepend=0)
    return bool((lengths >= terminators).all() and (terminators >= 0).all() and (ends[-1] if len(ends) else 0) == size)


def text_path(folder: Path, name: str) -> Path:
    """Path of the text of a split."""
    return folder / f"{name}.txt"


def documents_path(folder: Path, name: str) -> Path:
    """Path of the document ends of a split."""
    return folder / f"{name}.documents.safetensors"


def count_characters(content: bytes) -> int:
    """Characters in UTF-8 bytes: those bytes that do not continue a character."""
    codes = np.frombuffer(content, dtype=np.uint8)
    return int(np.count_nonzero(codes & 0xC0 != 0x80))


def write(
    folder: Path, name: str, contents: Iterator[bytes], terminators: np.ndarray, stream: bool, made: Any
) -> dict[str, int]:
    """Write one split document by document; returns its numbers of documents, bytes and characters."""
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
