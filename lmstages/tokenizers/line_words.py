r"""Words between white space, a sentence a line, as KenLM's ``query`` reads a text; a word covers the space before it.

A line end is the boundary token. A vocabulary of words alone cannot say every text, so that a code has to add:

    an unknown word              its bytes, at 8 bits each
    other white space            than one space between two words: the word is coded like an unknown one, with all the
                                 white space before it, though the words after it are predicted from the word itself
    the first word of a line     if it is spelled: 8 bits more, for its end
    a separator of documents     1 bit for each of its words that is unknown: whoever decodes knows the separator

Each is announced by <unk>, at the probability of <unk>. The code is valid: over all that may be spelled in one place,
the sum of 2^-bits is below 1 (Kraft 1949; a test computes it over all of Unicode). Knows no model.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lmstages.core import artifacts
from lmstages.core.artifacts import Made
from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.core.progress import Progress
from lmstages.corpora.splits import PIECE, SplitText
from lmstages.tokenizers.base import Encoded, smallest_type

BLANKS = b" \t\r\v\f"
WORD = re.compile(rb"([ \t\r\v\f]*)([^ \t\r\v\f\n]+|\n)")
LONGEST = (1 << 16) - 1  # bytes that a token covers; they are stored in two
BITS = 8  # for each byte that is spelled
SPELLED, IRREGULAR, ENDED, SEPARATOR = 1, 2, 4, 8  # marks of a token, added up


class LineWords:
    """A closed list of words: token 0 is the line end, the last one every unknown word.

    ``special``: words that become tokens above the list; within a text they are unknown words.
    """

    def __init__(self, words: Sequence[bytes], special: Sequence[bytes] = ()) -> None:
        self.words, self.vocab_size = words, len(words)
        self.escape: int | None = self.vocab_size - 1
        self._number_of = {word: token for token, word in enumerate(words[:-1])} | {b"\n": BOUNDARY}
        self._number_of |= {word: self.vocab_size + number for number, word in enumerate(special)}

    def cut(self, content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens (n,), the white space before each in bytes, -1 for a single space, and all bytes it covers (n,)."""
        pairs = WORD.findall(content)
        unknown = self.vocab_size - 1
        tokens = np.array([self._number_of.get(word, unknown) for _, word in pairs], dtype=np.int64)
        blanks = np.array([-1 if blank == b" " else len(blank) for blank, _ in pairs], dtype=np.int64)
        lengths = np.array([len(blank) + len(word) for blank, word in pairs], dtype=np.int64)
        return tokens, blanks, lengths

    def listed(self, tokens: np.ndarray) -> np.ndarray:
        """The tokens of the model: special words are unknown ones."""
        return np.minimum(tokens, self.vocab_size - 1)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokens of each text, and the bytes that each covers; without white space at the end."""
        cuts = (self.cut(text.encode()) for text in texts)
        return [(self.listed(tokens), lengths) for tokens, _, lengths in cuts]

    def decode(self, tokens: Iterable[int]) -> str:
        """Words with a space between two of a line; an unknown one is U+FFFD."""
        lines, line = [], list[str]()
        for token in tokens:
            if token == BOUNDARY:
                lines.append(" ".join(line))
                line = []
            else:
                unknown = token == self.escape
                line.append("\ufffd" if unknown else self.words[token].decode(errors="replace"))
        return "\n".join([*lines, " ".join(line)])

    def to_json(self) -> dict[str, str]:
        """Only the kind: nothing was learnt."""
        return {"kind": "words of lines"}


@dataclass
class Spelling:
    """How much of a text the words could not say: words that are unknown, places of other white space, and the first
    of these in bytes from the beginning; special words within the text.
    """

    unknown: int = 0
    irregular: int = 0
    first_irregular: int | None = None
    special: int = 0


@dataclass
class _Writing:
    """Where the writer of a split is: bytes, tokens, whether a line begins, and where documents began."""

    offset: int = 0
    count: int = 0
    begins_line: bool = True
    starts: list[int] = field(default_factory=lambda: [0])


def files_of(folder: Path, split: str) -> dict[str, Path]:
    """The files of a split by what they hold: those of any token stream, and beside them ``read`` and ``marks``.

    ``read``: tokens with the special words as they are; ``marks``: what is charged for each token.
    """
    names = {"tokens": "", "bytes": ".bytes", "starts": ".starts", "read": ".read", "marks": ".marks"}
    return {name: folder / f"{split}{suffix}.npy" for name, suffix in names.items()}


def write_lines(folder: Path, split: str, text: SplitText, words: LineWords, made: Made) -> Spelling:
    """Write the tokens of a split; a last line without end gets a boundary that covers no byte, as in KenLM's query.

    Raises UserError for a word, with the white space before it, of more than 65,535 bytes.
    """
    paths, spelling, at = files_of(folder, split), Spelling(), _Writing()
    number, progress = smallest_type(words.vocab_size + 1), Progress(text.path.stat().st_size, f"{split}: byte")
    types = {"tokens": number, "bytes": np.dtype(np.uint16), "read": number, "marks": np.dtype(np.uint8)}
    with ExitStack() as stack, open(text.path, "rb") as file:
        arrays = {name: stack.enter_context(artifacts.saving_array(paths[name], types[name], made)) for name in types}
        for content, ends in _pieces(file, text):
            cut = _with_end(words.cut(content), content, at, ends)
            for name, values in _written(cut, words, text, at, spelling).items():
                arrays[name].append(values)
            progress.at(at.offset, at.offset, "bytes")
    assert at.offset == text.path.stat().st_size, "the tokens cover the text's bytes, no more and no fewer"
    if len(text.ends):
        at.starts = [0, at.count] if text.stream else [*at.starts[: len(text.ends)], at.count]
    with artifacts.saving_array(paths["starts"], np.dtype(np.int64), made) as array:
        array.append(np.array(at.starts))
    return spelling


def _pieces(file: BinaryIO, text: SplitText) -> Iterator[tuple[bytes, bool]]:
    """The text in pieces of whole words, and whether a text ends with the piece: a document without a line end does."""
    size = text.path.stat().st_size
    stops = sorted({*text.ends[text.terminators == 0].tolist(), size})
    rest, position = b"", 0
    for stop in stops:
        while position < stop:
            content = rest + file.read(min(PIECE, stop - position))
            position += len(content) - len(rest)
            cut = len(content) if position == stop else _whole_words(content)
            if len(content) - cut > LONGEST:
                raise _too_long(text, position - len(content) + cut, len(content) - cut)
            rest = content[cut:]
            yield content[:cut], position == stop


def _whole_words(content: bytes) -> int:
    """Where the last word ends that is whole, since white space follows it."""
    space = max(content.rfind(bytes([blank])) for blank in BLANKS + b"\n")
    return content.rfind(b"\n", 0, space + 1) + 1 or len(content[: space + 1].rstrip(BLANKS))


Cut = tuple[np.ndarray, np.ndarray, np.ndarray]


def _with_end(cut: Cut, content: bytes, at: _Writing, ends: bool) -> Cut:
    """The tokens of a piece and, where the text ends within a line, a boundary that covers the white space there."""
    rest = len(content) - int(cut[2].sum())
    in_line = cut[0][-1] != BOUNDARY if len(cut[0]) else not at.begins_line
    if not ends or not (rest or in_line):
        return cut
    tokens, blanks, lengths = cut
    return np.append(tokens, BOUNDARY), np.append(blanks, rest), np.append(lengths, rest)


def _written(cut: Cut, words: LineWords, text: SplitText, at: _Writing, spelling: Spelling) -> dict[str, np.ndarray]:
    """What is written of a piece; moves ``at`` behind it, and counts what is spelled."""
    tokens, blanks, lengths = cut
    if not len(tokens):
        return {name: tokens for name in ("tokens", "bytes", "read", "marks")}
    ends = at.offset + np.cumsum(lengths)
    if lengths.max() > LONGEST:
        longest = int(np.argmax(lengths))
        raise _too_long(text, int(ends[longest] - lengths[longest]), int(lengths[longest]))
    listed = words.listed(tokens)
    marks = _marks((listed, blanks, lengths), at.begins_line, words.vocab_size - 1)
    marks[_in_separators(text, ends) & (marks & SPELLED > 0) & (marks & IRREGULAR == 0)] = SEPARATOR
    irregular = np.flatnonzero(marks & IRREGULAR)
    spelling.unknown += int((listed == words.escape).sum())
    spelling.special += int((tokens >= words.vocab_size).sum())
    if len(irregular) and spelling.first_irregular is None:
        spelling.first_irregular = int(ends[irregular[0]] - lengths[irregular[0]])
    spelling.irregular += len(irregular)
    _move(at, text, ends, bool(tokens[-1] == BOUNDARY))
    return {"tokens": listed, "bytes": lengths, "read": tokens, "marks": marks}


def _marks(cut: Cut, begins_line: bool, unknown: int) -> np.ndarray:
    """(n,) what is charged: a sum of SPELLED, IRREGULAR and ENDED."""
    tokens, blanks, lengths = cut
    first = np.append(begins_line, tokens[:-1] == BOUNDARY)
    alone = first | (tokens == BOUNDARY)  # no white space belongs before it
    irregular = np.where(alone, blanks != 0, blanks != -1)
    spelled = irregular | (tokens == unknown)
    unended = (tokens == BOUNDARY) & (lengths == np.abs(blanks))  # covers no line end
    return SPELLED * spelled + IRREGULAR * irregular + ENDED * (spelled & (first | unended))


def _in_separators(text: SplitText, ends: np.ndarray) -> np.ndarray:
    """(n,) ends of tokens, in bytes -> whether each belongs to the line that separates two documents."""
    if text.stream or not (text.terminators > 1).any():
        return np.zeros(len(ends), dtype=bool)
    documents = np.minimum(np.searchsorted(text.ends, ends), len(text.ends) - 1)
    begins = text.ends[documents] - text.terminators[documents]
    return (ends > begins) & (text.terminators[documents] > 1)


def _move(at: _Writing, text: SplitText, ends: np.ndarray, begins_line: bool) -> None:
    """Behind the tokens that end at ``ends`` (n,); documents that end among them begin the next one there."""
    within = text.ends[slice(*np.searchsorted(text.ends, [at.offset, ends[-1]], side="right"))]
    at.starts.extend((at.count + np.searchsorted(ends, within, side="right")).tolist())
    at.offset, at.count, at.begins_line = int(ends[-1]), at.count + len(ends), begins_line


def _too_long(text: SplitText, offset: int, length: int) -> UserError:
    problem = f"a word of {length:,} bytes, with the white space before it, at byte {offset:,}"
    return UserError(text.path, problem, f"allowed: up to {LONGEST:,}", "break it by a space or a line end")


def charged(marks: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(N,) nats that are charged beside the probability of the token, or of <unk> where the mark is IRREGULAR."""
    spelled = BITS * (lengths.astype(np.int64) * (marks & SPELLED > 0) + (marks & ENDED > 0))
    return (spelled + (marks == SEPARATOR)) * np.log(2.0)
