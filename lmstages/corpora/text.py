"""Validates text files, and finds the documents in them.

A corpus is bytes: strict UTF-8 without NUL bytes and without a byte-order mark, at least two characters.
Line ends are ``\\n``. For a file with ``\\r\\n`` the user chooses: ``refuse`` (the default), ``unix`` turns
each ``\\r\\n`` into ``\\n``, ``keep`` treats them as ordinary characters. A ``\\r`` alone is always an ordinary
character. No other byte is changed, and lines end at ``\\n`` only.

Files are read in chunks, so a corpus may be larger than memory; only the offsets of the documents are kept, 24 bytes
for each. Knows no token and no split.
"""

import codecs
import mmap
import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, NoReturn

import numpy as np

from lmstages.config.sources import Layout
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.signatures import HEAD, MOST_CONTROLS, controls_in, format_of

Newlines = Literal["refuse", "keep", "unix"]
CHUNK = 1 << 20
MIN_CHARACTERS = 2  # characters: one to condition on and one to predict
BOM = codecs.BOM_UTF8
WIDE_BOMS = {  # of encodings of two and four bytes; those of four bytes begin as those of two
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
NEWLINE = ord("\n")
FEW = 8  # NUL bytes that may stray into a short text


def check(path: Path, newlines: Newlines = "refuse", min_characters: int = MIN_CHARACTERS, chunk: int = CHUNK) -> None:
    """Raise UserError unless ``path`` is text under the policy above."""
    for _ in _checked(path, newlines, min_characters, _pieces(path, chunk)):
        pass


def clean(
    source: Path, out: BinaryIO, newlines: Newlines = "refuse", min_characters: int = MIN_CHARACTERS, chunk: int = CHUNK
) -> None:
    """Copy ``source`` to ``out`` and validate it; ``unix`` is the only policy that changes a byte."""
    for piece in _checked(source, newlines, min_characters, _pieces(source, chunk)):
        out.write(piece)


def clean_pieces(path: Path, pieces: Iterable[bytes], newlines: Newlines) -> Iterator[bytes]:
    """The same of the content of ``path`` after it was unpacked; it may be empty."""
    yield from _checked(path, newlines, 0, like_text(path, pieces))


def like_text(path: Path, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same pieces, the first of which holds all that says whether they are text."""
    rest = iter(pieces)
    head = b""
    while len(head) < HEAD and (piece := next(rest, b"")):
        head += piece
    _must_look_like_text(path, head[:HEAD])
    yield head
    yield from rest


def _checked(path: Path, newlines: Newlines, min_characters: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    text = _Utf8(path)
    for piece in _without_split_line_ends(pieces):
        text.update(piece)
        if newlines == "refuse":
            _refuse_crlf(path, piece, text.offset - len(piece))
        yield piece.replace(b"\r\n", b"\n") if newlines == "unix" else piece
    text.finish(min_characters)


class _Utf8:
    """Incremental validator of UTF-8: counts the valid bytes, lines and characters so far."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.lines, self.characters = path, 0, 0, 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def update(self, piece: bytes) -> None:
        """Validate a piece; raises UserError with offset and line of the first byte that is not text."""
        if self.offset == 0 and piece.startswith(BOM):
            remedy = f"remove its first three bytes: tail -c +4 {_quoted(self.path)} > NEW_FILE"
            raise UserError(self.path, "begins with a UTF-8 byte-order mark", "text has none", remedy)
        self.characters += self._decoded(piece)
        if (nul := piece.find(b"\0")) >= 0:
            self._refuse_binary(piece)
            self._refuse_nul(piece, nul)
        self.offset += len(piece)
        self.lines += piece.count(b"\n")

    def finish(self, min_characters: int) -> None:
        """Raises UserError where the file ends within a character or has too few of them."""
        self._decoded(b"", final=True)
        if self.offset == 0 and min_characters:
            raise UserError(self.path, "empty", f"needs at least {min_characters} characters")
        if self.characters < min_characters:
            problem = f"only {self.characters} character{'s' if self.characters > 1 else ''}"
            raise UserError(self.path, problem, f"needs at least {min_characters} characters")

    def _decoded(self, piece: bytes, final: bool = False) -> int:
        carried = len(self.decoder.getstate()[0])
        try:
            return len(self.decoder.decode(piece, final))
        except UnicodeDecodeError as error:
            self._refuse_binary(piece)
            if _has_many_nuls(piece[:HEAD]):
                self._refuse_nul(piece, piece.index(0))
            bad = error.object[error.start]
            remedy = f"convert it, naming its true encoding: {self._iconv('ISO-8859-1')}"
            problem = f"not UTF-8: byte 0x{bad:02x} {self._position(piece, error.start - carried)}"
            raise UserError(self.path, problem, "text is UTF-8", remedy) from error

    def _refuse_binary(self, piece: bytes) -> None:
        """Raises UserError for bytes that are no text in any encoding, for which no conversion can be advised."""
        if count := controls_in(piece):
            problem = (
                f"is no text: {count:,} of {min(len(piece), HEAD):,} bytes from {self.offset:,} are control characters"
            )
            raise UserError(self.path, problem, "text is UTF-8", "save it as text with the program that made it")

    def _refuse_nul(self, piece: bytes, index: int) -> NoReturn:
        """Raises UserError; only where NUL bytes are few is it advised to remove them, since no text has many."""
        problem = f"NUL byte {self._position(piece, index)}"
        near = piece[index - index % HEAD :][:HEAD]
        count = near.count(0)
        width = (
            4 if count > len(near) * 3 / 5 else 2
        )  # ASCII has three NUL bytes of four in UTF-32, one of two in UTF-16
        order = "BE" if (self.offset + index) % width == 0 else "LE"  # which byte of a character is zero
        convert = self._iconv(f"UTF-{8 * width}{order}")
        if not _has_many_nuls(near):
            tr = f"tr -d '\\000' < {_quoted(self.path)} > NEW_FILE"
            raise UserError(self.path, problem, "text has none", f"remove them: {tr}; or, if it is UTF-16: {convert}")
        problem += f", {count:,} of {len(near):,} bytes there"
        remedy = f"if it is UTF-{8 * width}, convert it: {convert}; else save it as text with the program that made it"
        raise UserError(self.path, problem, "text has none", remedy)

    def _position(self, piece: bytes, index: int) -> str:
        line = self.lines + piece.count(b"\n", 0, max(index, 0)) + 1
        return f"at offset {self.offset + index:,} (line {line:,})"

    def _iconv(self, encoding: str) -> str:
        return f"iconv -f {encoding} -t UTF-8 {_quoted(self.path)} > NEW_FILE"


def _has_many_nuls(piece: bytes) -> bool:
    """Whether bytes have more NUL among them than a text into which some have strayed."""
    return piece.count(0) > max(FEW, MOST_CONTROLS * len(piece))


def _refuse_crlf(path: Path, piece: bytes, offset: int) -> None:
    if (index := piece.find(b"\r\n")) >= 0:
        problem = f"Windows line end (CRLF) at offset {offset + index:,}"
        remedy = "set newlines: unix to convert them, or newlines: keep to leave them as they are"
        raise UserError(path, problem, "lines end with LF", remedy)


def _without_split_line_ends(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that never end between ``\\r`` and ``\\n``."""
    carried = b""
    for piece in pieces:
        piece = carried + piece
        carried = b"\r" if piece.endswith(b"\r") else b""
        yield piece.removesuffix(carried)
    if carried:
        yield carried


def _pieces(path: Path, chunk: int) -> Iterator[bytes]:
    """The bytes of a file; the first piece has at least three, so that a byte-order mark is not split."""
    with _opened(path) as file:
        _must_look_like_text(path, _read_chunk(path, file, HEAD))
        file.seek(0)
        size = max(chunk, len(BOM))
        while piece := _read_chunk(path, file, size):
            yield piece
            size = chunk


def _must_look_like_text(path: Path, head: bytes) -> None:
    """Raises UserError for what its first bytes say is another kind of file, or text in wider characters."""
    if wide := next((name for mark, name in WIDE_BOMS.items() if head.startswith(mark)), None):
        remedy = f"convert it: iconv -f {wide} -t UTF-8 {_quoted(path)} > NEW_FILE"
        raise UserError(path, f"is {wide} by its byte-order mark", "text is UTF-8", remedy)
    if (known := format_of(head)) is not None:
        remedy = (known.remedy or "give a text file").replace("{path}", _quoted(path))
        raise UserError(path, f"is {known.name} by its first bytes", "text is UTF-8", remedy)


def _read_chunk(path: Path, file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """An ordinary file, open for reading."""
    try:
        mode = path.stat().st_mode
        file = open(path, "rb") if stat.S_ISREG(mode) else None  # noqa: SIM115 (closed below)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if file is None:
        raise UserError(path, "a folder" if stat.S_ISDIR(mode) else "not an ordinary file", "one text file is wanted")
    with file:
        yield file


def _missing(path: Path) -> UserError:
    beside: list[str] = []
    with suppress(OSError):
        beside = os.listdir(path.parent)
    return UserError(path, f"no such file{did_you_mean(path.name, beside)}", "", "give the path of a text file")


def _unreadable(path: Path, error: OSError) -> UserError:
    remedy = f"make it readable: chmod u+r {_quoted(path)}" if isinstance(error, PermissionError) else ""
    return UserError(path, f"cannot be read ({error.strerror})", "", remedy)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


class Documents(NamedTuple):
    """Byte spans of the D documents of a file, which follow one another without a gap.

    ``ends`` includes the terminator, so ``content[starts[0]:ends[-1]]`` is the whole file;
    the text of document d is ``content[starts[d] : ends[d] - terminators[d]]``.
    """

    starts: np.ndarray  # (D,) bytes
    ends: np.ndarray  # (D,) bytes
    terminators: np.ndarray  # (D,) bytes, 0 where the file ends without one


def document_offsets(
    path: Path,
    layout: Layout,
    separator: str = "",
    original: object = None,
    regions: Sequence[tuple[int, int]] | None = None,
) -> Documents:
    """A file -> its documents; an empty file has none. ``original`` is what errors call a file that is a copy.

    ``stream``     one document, the whole file, without terminator
    ``lines``      a document ends at ``\\n``; a blank line is a document without characters
    ``separator``  a document ends with a line that is ``separator``; the terminator is that line with the
                   line end before it, where the document has one: ``story\\n<|endoftext|>\\n`` ends in 15 bytes

    ``regions`` are the (begin, end) of several texts that lie end to end in the file: no document goes beyond its text.
    """
    with _mapped(path) as content:
        parts = [
            _documents_within(content, layout, separator, original or path, region)
            for region in regions or [(0, len(content))]
        ]
    return Documents(*map(np.concatenate, zip(*parts, strict=True)))


def _documents_within(
    content: mmap.mmap | bytes, layout: Layout, separator: str, original: object, region: tuple[int, int]
) -> Documents:
    if layout == "stream":
        return _documents(np.zeros(0, np.int64), np.zeros(0, np.int64), region)
    if layout == "lines":
        ends = _line_ends(content, region)
        return _documents(ends, np.ones_like(ends), region)
    ends, terminators = _separated(original, content, separator, region)
    return _documents(ends, terminators, region)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    with _opened(path) as file:
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _documents(ends: np.ndarray, terminators: np.ndarray, region: tuple[int, int]) -> Documents:
    """(D,), (D,) -> documents, one more where bytes follow the last terminator."""
    begin, end = region
    if end > (ends[-1] if len(ends) else begin):
        ends, terminators = np.append(ends, end), np.append(terminators, 0)
    starts = np.concatenate([np.full(min(len(ends), 1), begin, np.int64), ends[:-1]])
    return Documents(starts, ends, terminators)


def _line_ends(content: mmap.mmap | bytes, region: tuple[int, int]) -> np.ndarray:
    """Bytes -> (lines,) the offset after each ``\\n``."""
    pieces = [np.zeros(0, np.int64)]
    for start in range(region[0], region[1], CHUNK):
        piece = np.frombuffer(content[start : min(start + CHUNK, region[1])], np.uint8)
        pieces.append(np.flatnonzero(piece == NEWLINE) + start + 1)
    return np.concatenate(pieces)


def _separated(
    path: object, content: mmap.mmap | bytes, separator: str, region: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bytes -> (D,) end offsets of the separator lines, (D,) their lengths with the line end before them."""
    line = separator.encode()
    if not line or b"\n" in line:
        raise UserError(path, f"the separator {separator!r} is not a line", "it is one line, and not an empty one")
    ends, terminators, start = [], [], region[0]
    for begin, end in _occurrences(content, line, region):
        ends.append(end)
        terminators.append(end - max(begin - 1, start))
        start = end
    if not ends and region[1] > region[0]:
        raise UserError(path, f"no line is {separator!r}", "each document ends with that line", "set the separator")
    return np.array(ends, np.int64), np.array(terminators, np.int64)


def _occurrences(content: mmap.mmap | bytes, line: bytes, region: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """(begin, end) of each occurrence of ``line`` as a whole line, its line end included."""
    first, last = region
    begin = content.find(line, first, last)
    while begin >= 0:
        end = begin + len(line)
        if (begin == first or content[begin - 1] == NEWLINE) and (end == last or content[end] == NEWLINE):
            yield begin, min(end + 1, last)
        begin = content.find(line, end, last)
