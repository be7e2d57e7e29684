"""The surprisal of any text under any model: of each token, of each word, of each line.

    surprisal of a token    -log p(token | tokens before it in its document), nats
    of a word or a line     the sum over the tokens that begin in it

Every byte of the text is covered, so that the sums over tokens, words and lines are equal. A word ends where white
space begins, and the white space before it belongs to it, as the sub-word tokens of most vocabularies have it (Oh &
Schuler 2024; Pimentel & Meister 2024 derive what else it may be). What follows the last word of a document, its end
included, is a row without text. A token that lies in two words counts for the one in which it begins.

Reads a text piece by piece: a document that is longer than a piece is scored as it is read, with as much of what came
before as the protocol says. Uses a model only as ``LanguageModel``.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np

from lmstages.config.job_sections import ResolvedScoring
from lmstages.core.documents import BOUNDARY, Documents
from lmstages.core.errors import UserError
from lmstages.corpora.splits import stream_pieces
from lmstages.evaluation import scoring
from lmstages.evaluation.opening import Layout, OpenedModel
from lmstages.models.base import Continuing, LanguageModel, OpenRow
from lmstages.tokenizers.base import TextTokenizer, after, with_boundaries

Per = Literal["token", "word", "line"]
LONGEST_DOCUMENT = 1 << 24  # bytes of a line, or of what a separator ends
LONGEST_UNIT = 1 << 20  # bytes of a word or a line of a stream
TOKENS = 1 << 16  # of short documents that are scored together, and of windows of a short context
BYTES = 1 << 18  # of short documents that are scored together
WORD = re.compile(r"\S+")


# ---------------------------------------------------------------- the text


class Piece(NamedTuple):
    """Text of a document from its byte ``start`` on; what ends the document; whether more of the document follows.

    ``terminator`` is None where the text ends before its document does: the end has no byte and is not scored.
    """

    document: int
    start: int
    text: str
    terminator: bytes | None
    goes_on: bool = False


class _Reader:
    """Pieces of bytes as a file that is read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces, self.rest = iter(pieces), bytearray()

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        while len(self.rest) < size and (piece := next(self.pieces, None)) is not None:
            self.rest += piece
        content = bytes(self.rest[:size])
        del self.rest[:size]
        return content


def pieces_of(content: Iterable[bytes], layout: Layout, name: object, whole_words: bool = False) -> Iterator[Piece]:
    """The documents of a text in UTF-8; a stream, which is one document, comes in several pieces.

    ``whole_words``: a stream is cut between words, as a split is for a tokenizer that needs it.
    """
    if layout.documents == "stream":
        return _of_stream(content, whole_words)
    return _of_lines(content, name) if layout.documents == "lines" else _of_separated(content, layout.separator, name)


def _of_stream(content: Iterable[bytes], whole_words: bool) -> Iterator[Piece]:
    start, waiting = 0, None
    for text in stream_pieces(_Reader(content), whole_words):
        if waiting is not None:
            yield waiting._replace(goes_on=True)
            start += len(waiting.text.encode())
        waiting = Piece(0, start, text, None)
    if waiting is not None:
        yield waiting


def _of_lines(content: Iterable[bytes], name: object) -> Iterator[Piece]:
    for number, line in enumerate(_lines(content, name)):
        text = line.removesuffix(b"\n")
        yield Piece(number, 0, text.decode(), b"\n" if len(text) < len(line) else None)


def _of_separated(content: Iterable[bytes], separator: str, name: object) -> Iterator[Piece]:
    """A document ends with a line that is the separator; the line end before it belongs to the separator."""
    number, lines, size = 0, list[bytes](), 0
    for line in _lines(content, name):
        if line.removesuffix(b"\n") == separator.encode():
            text = b"".join(lines)
            body = text.removesuffix(b"\n")
            yield Piece(number, 0, body.decode(), text[len(body) :] + line)
            number, lines, size = number + 1, [], 0
            continue
        lines.append(line)
        size += len(line)
        _must_not_exceed(size, name, number)
    if lines:
        yield Piece(number, 0, b"".join(lines).decode(), None)


def _lines(content: Iterable[bytes], name: object) -> Iterator[bytes]:
    """Lines with their line ends; the last one may have none."""
    rest = b""
    for piece in content:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in lines)
        _must_not_exceed(len(rest), name)
    if rest:
        yield rest


def _must_not_exceed(size: int, name: object, number: int | None = None) -> None:
    if size > LONGEST_DOCUMENT:
        subject = "a line" if number is None else f"document {number:,}"
        problem = f"{subject} has more than {LONGEST_DOCUMENT:,} bytes"
        raise UserError(name, problem, "", "read the text as one document, documents: stream")


# ---------------------------------------------------------------- tokens


@dataclass(frozen=True)
class ScoredPiece:
    """The tokens of a piece of a document, arrays (n,): numbers, bytes of ``content`` where they begin, lengths, nats.

    ``content``: the bytes of the piece, which begins at byte ``start`` of its document; the last ``closing`` of them
    are what ends the document.
    """

    document: int
    start: int
    content: bytes
    closing: int
    goes_on: bool
    tokens: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray
    nats: np.ndarray


def scored(opened: OpenedModel, pieces: Iterable[Piece]) -> Iterator[ScoredPiece]:
    """The surprisal of every token of a text, under the model's protocol."""
    if opened.protocol.protocol == "whole":
        yield from _along_a_row(opened, _encoded(opened.tokenizer, pieces))
        return
    batch, size = list[Piece](), 0
    for document in _documents(pieces):
        if isinstance(document, Piece):
            batch.append(document)
            size += len(document.text)
            if size < BYTES:
                continue
        yield from _together(opened, batch)
        batch, size = [], 0
        if not isinstance(document, Piece):
            yield from _along_a_row(opened, _encoded(opened.tokenizer, document))
    yield from _together(opened, batch)


def _documents(pieces: Iterable[Piece]) -> Iterator[Piece | Iterator[Piece]]:
    """Every document that is one piece, and one that is more as an iterator, which must be read before the next."""
    rest = iter(pieces)
    for piece in rest:
        yield _whole(piece, rest) if piece.goes_on else piece


def _whole(first: Piece, rest: Iterator[Piece]) -> Iterator[Piece]:
    yield first
    piece = first
    while piece.goes_on:
        piece = next(rest)
        yield piece


def _encoded(tokenizer: TextTokenizer, pieces: Iterable[Piece]) -> Iterator[ScoredPiece]:
    """Pieces with their tokens, which have no surprisal yet."""
    reader = tokenizer
    for piece in pieces:
        yield _tokens_of(reader, [piece])[0]
        reader = after(tokenizer, piece.text) if piece.goes_on else tokenizer


def _tokens_of(tokenizer: TextTokenizer, pieces: list[Piece]) -> list[ScoredPiece]:
    """The same of several pieces at once."""
    batch = []
    for piece, encoded in zip(pieces, tokenizer.encode([piece.text for piece in pieces]), strict=True):
        closing = piece.terminator or b""
        tokens, lengths = encoded if piece.terminator is None else with_boundaries(encoded, len(closing))
        content, ends = piece.text.encode() + closing, np.cumsum(lengths, dtype=np.int64)
        assert int(ends[-1] if len(ends) else 0) == len(content), "the tokens cover every byte"
        facts = (piece.document, piece.start, content, len(closing), piece.goes_on)
        batch.append(ScoredPiece(*facts, tokens, ends - lengths, lengths, np.full(len(tokens), np.nan)))
    return batch


def _together(opened: OpenedModel, pieces: list[Piece]) -> Iterator[ScoredPiece]:
    """Whole documents, scored side by side as those of a split are."""
    batch = _tokens_of(opened.tokenizer, pieces) if pieces else []
    counts = np.cumsum([0, *(len(piece.tokens) for piece in batch)])
    tokens = np.concatenate([np.zeros(0, np.int64), *(piece.tokens for piece in batch)])
    documents, settings = Documents(tokens, counts), opened.protocol
    windows = scoring.windows_of(counts, settings.protocol, settings.window, settings.stride, 0)
    log_probs = scoring.score(opened.model, documents, windows) if len(tokens) else np.zeros(0)
    for piece, nats in zip(batch, np.split(-log_probs, counts[1:-1]), strict=bool(batch)):
        yield _charged(opened, piece, nats)


def _charged(opened: OpenedModel, piece: ScoredPiece, nats: np.ndarray) -> ScoredPiece:
    """A piece with its surprisal, 8 bits for each byte that an escape token covers included."""
    assert not np.isnan(nats).any(), "every token is scored"
    charged = -scoring.charge_escapes(-nats, piece.tokens, piece.lengths, opened.tokenizer.escape)
    return replace(piece, nats=charged + 0.0)  # no negative zero


# ---------------------------------------------------------------- one row that is longer than a piece


class _Row(Protocol):
    """A row that is scored as it is read: ``read`` and ``finish`` return the surprisal of the next tokens, in order."""

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) more tokens -> nats of those that can be scored now."""

    def finish(self) -> np.ndarray:
        """Nats of the tokens that are left."""


def _along_a_row(opened: OpenedModel, pieces: Iterable[ScoredPiece]) -> Iterator[ScoredPiece]:
    """All pieces as one row; a piece is complete when its last token has been scored."""
    row, waiting, nats = _row_of(opened.model, opened.protocol), list[ScoredPiece](), np.zeros(0)
    for piece in pieces:
        waiting.append(piece)
        nats = np.concatenate([nats, row.read(piece.tokens)])
        while waiting and len(waiting[0].tokens) <= len(nats):
            count = len(waiting[0].tokens)
            yield _charged(opened, waiting.pop(0), nats[:count])
            nats = nats[count:]
    nats = np.concatenate([nats, row.finish()])
    for piece in waiting:
        yield _charged(opened, piece, nats[: len(piece.tokens)])
        nats = nats[len(piece.tokens) :]


def _row_of(model: LanguageModel, settings: ResolvedScoring) -> _Row:
    """By windows where a prediction depends on so many tokens; else with the model's state, or on the whole row."""
    if settings.protocol in ("stride", "disjoint"):
        return _Windows(model, settings.window, settings.stride)
    if model.config.context is not None:
        return _Windows(model, model.config.context + TOKENS, TOKENS)
    return _Continued(model.open_row()) if isinstance(model, Continuing) else _WholeRow(model)


class _Windows:
    """Windows of ``window`` tokens, ``stride`` apart, of which each scores its last ``stride`` tokens."""

    def __init__(self, model: LanguageModel, window: int, stride: int) -> None:
        self.model, self.window, self.stride = model, window, stride
        self.tokens, self.scored = np.zeros(0, dtype=np.int64), 0
        self.before = np.zeros(0, dtype=np.int64)  # the token before ``tokens``, none at the beginning

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) more tokens -> nats of those in windows that are full now."""
        self.tokens = np.concatenate([self.tokens, tokens])
        count = max(0, (len(self.tokens) - self.window) // self.stride + 1)
        begin = self.stride * np.arange(count)
        nats = self._score(begin, begin + self.window)
        if count:
            done = count * self.stride
            self.before, self.tokens = self.tokens[done - 1 : done], self.tokens[done:]
            self.scored = self.window - self.stride
        return nats

    def finish(self) -> np.ndarray:
        """The tokens of the last window, which is not full."""
        left = len(self.tokens) > self.scored
        return self._score(np.zeros(int(left), dtype=np.int64), np.full(int(left), len(self.tokens)))

    def _score(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        if not len(begin):
            return np.zeros(0)
        offset = len(self.before)
        scored_from = begin + self.window - self.stride
        scored_from[0] = self.scored
        windows = scoring.Windows(begin + offset, end + offset, scored_from + offset)
        row = Documents.single(np.concatenate([self.before, self.tokens]))
        log_probs = scoring.score(self.model, row, windows)
        return np.asarray(-log_probs[self.scored + offset : end[-1] + offset])


class _Continued:
    """The model's own state after what was read."""

    def __init__(self, row: OpenRow) -> None:
        self.row = row

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) -> (T,) nats."""
        return -self.row.advance(np.ascontiguousarray(tokens, dtype=np.int64))

    def finish(self) -> np.ndarray:
        """Nothing is left."""
        return np.zeros(0)


class _WholeRow:
    """A model that needs all earlier tokens and has no state that could be kept: the row is scored at its end."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.tokens = model, np.zeros(0, dtype=np.int64)

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """Nothing yet; raises UserError for a row that is too long."""
        self.tokens = np.concatenate([self.tokens, tokens])
        if len(self.tokens) > LONGEST_DOCUMENT:
            problem = f"reads a document of more than {LONGEST_DOCUMENT:,} tokens as a whole"
            raise UserError(f"model {self.model.config.name}", problem, "", "give shorter documents")
        return np.zeros(0)

    def finish(self) -> np.ndarray:
        """Nats of all tokens."""
        return -self.model.score(self.tokens[None], np.array([BOUNDARY]))[0] if len(self.tokens) else np.zeros(0)


# ---------------------------------------------------------------- words and lines


class Unit(NamedTuple):
    """A token, a word or a line: its bytes within its document, its text, its number of tokens, its surprisal in nats.

    ``token``: the number of a token, None of anything else.
    """

    document: int
    start_byte: int
    end_byte: int
    text: str
    tokens: int
    nats: float
    token: int | None = None


def units(pieces: Iterable[ScoredPiece], per: str) -> Iterator[Unit]:
    """Tokens, words or lines (``per``) in the order of the text."""
    if per == "token":
        return (token for piece in pieces for token in _tokens(piece))
    return _sums(pieces, *((_word_ends, None) if per == "word" else (_line_ends, "\n")))


def _tokens(piece: ScoredPiece) -> Iterator[Unit]:
    for token, begin, length, nats in zip(
        *(array.tolist() for array in (piece.tokens, piece.begins, piece.lengths, piece.nats)), strict=True
    ):
        text, start = _text(piece.content[begin : begin + length]), piece.start + begin
        yield Unit(piece.document, start, start + length, text, 1, nats, token)


def _text(content: bytes) -> str:
    r"""Bytes as text; a part of a character as ``\xc3``."""
    return content.decode(errors="backslashreplace")


Ends = Callable[[bytes, bool], np.ndarray]


def _sums(pieces: Iterable[ScoredPiece], ends_in: Ends, around: str | None) -> Iterator[Unit]:
    """Units that may lie in several pieces; what is not complete waits for the next piece of its document.

    ``around``: characters that do not belong to the text of a unit, None for white space.
    """
    waiting: ScoredPiece | None = None
    for piece in pieces:
        piece = piece if waiting is None else _joined(waiting, piece)
        ends = ends_in(piece.content[: len(piece.content) - piece.closing], piece.goes_on)
        waiting = None
        if piece.goes_on:
            piece, waiting = _cut(piece, int(ends[-1]) if len(ends) else 0)
            _must_be_short(waiting)
        yield from _units(piece, ends, around)


def _joined(first: ScoredPiece, second: ScoredPiece) -> ScoredPiece:
    """A piece of a document, and the next."""
    begins = np.concatenate([first.begins, second.begins + len(first.content)])
    arrays = (np.concatenate([getattr(first, key), getattr(second, key)]) for key in ("tokens", "lengths", "nats"))
    tokens, lengths, nats = arrays
    facts = (first.document, first.start, first.content + second.content, second.closing, second.goes_on)
    return ScoredPiece(*facts, tokens, begins, lengths, nats)


def _cut(piece: ScoredPiece, byte: int) -> tuple[ScoredPiece, ScoredPiece]:
    """A piece up to a byte, and the rest, in which every token begins that begins there."""
    count = int(np.searchsorted(piece.begins, byte))
    parts = []
    for tokens, content, start in (
        (slice(0, count), piece.content[:byte], 0),
        (slice(count, None), piece.content[byte:], byte),
    ):
        arrays = (piece.tokens[tokens], piece.begins[tokens] - start, piece.lengths[tokens], piece.nats[tokens])
        facts = (piece.document, piece.start + start, content, 0, piece.goes_on)
        parts.append(ScoredPiece(*facts, *arrays))
    return parts[0], parts[1]


def _must_be_short(piece: ScoredPiece) -> None:
    if len(piece.content) > LONGEST_UNIT:
        problem = f"a word or a line of more than {LONGEST_UNIT:,} bytes from byte {piece.start:,}"
        raise UserError("text", problem, "words end where white space begins", "score it per token")


def _units(piece: ScoredPiece, ends: np.ndarray, around: str | None) -> Iterator[Unit]:
    """Units that end at the bytes ``ends``, and what is behind the last, if a token or a byte is."""
    unit_of = np.searchsorted(ends, piece.begins, side="right")
    counts = np.bincount(unit_of, minlength=len(ends))
    nats = np.bincount(unit_of, weights=piece.nats, minlength=len(ends))
    bounds = [0, *ends.tolist(), len(piece.content)]
    for index, (count, sum_of_nats) in enumerate(zip(counts.tolist(), nats.tolist(), strict=True)):
        begin, end = bounds[index], bounds[index + 1]
        closing = piece.closing if end == len(piece.content) else 0
        text = _text(piece.content[begin : end - closing]).strip(around)
        yield Unit(piece.document, piece.start + begin, piece.start + end, text, count, sum_of_nats)


def _word_ends(content: bytes, goes_on: bool) -> np.ndarray:
    """The byte behind each word; the last word may go on where its document does."""
    text = content.decode()
    ends = np.array([match.end() for match in WORD.finditer(text)], dtype=np.int64)
    if goes_on and len(ends) and ends[-1] == len(text):
        ends = ends[:-1]
    if len(text) == len(content):
        return ends
    codes = np.frombuffer(content, dtype=np.uint8)
    firsts = np.append(np.flatnonzero(codes & 0xC0 != 0x80), len(content))  # the first byte of every character
    return np.asarray(firsts[ends])


def _line_ends(content: bytes, goes_on: bool) -> np.ndarray:
    """The byte behind each line end within a document."""
    return np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n")) + 1
