"""What is wrong with spans of a text that do not cover its bytes once each, in the words of whoever made them.

The commonest mistakes have a shape: the same distance between repetitions is a stride, between gaps a window; ends
that are too far by a number of spaces count a vocabulary's own spelling. What has no known shape is named by place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lmstages.evaluation.held_out import HeldOut
from lmstages.tokenizers.subwords import byte_alphabet

MOST = 4096  # faults that are kept, and documents that are looked at
MOST_EXAMINED = 1 << 26  # bytes of a document that is looked at
REGULAR = 0.8  # part of the distances that are the same
LONGEST_TOKEN = 64  # bytes
COVERED = "every byte of the text belongs to one span, in order"


class Fault(NamedTuple):
    """A span that does not begin where the one before it ended; bytes are those of the whole text.

    ``span`` counts them; ``line`` is 0 for the end of the file.
    """

    line: int
    span: int
    document: int
    expected: int
    start: int

    @property
    def size(self) -> int:
        """Bytes of the text that are left out; negative where they are covered again."""
        return self.start - self.expected


@dataclass(frozen=True)
class Coverage:
    """What the spans of a file cover: its faults, and of each document (D,) first and last bytes within it.

    ``first`` and ``reach`` are -1 for documents without spans; ``ends`` (N,) are those of all spans in the whole text.
    """

    text: HeldOut
    faults: Sequence[Fault]
    count: int
    first: np.ndarray
    reach: np.ndarray
    ends: np.ndarray

    def scored(self) -> np.ndarray:
        """Documents with spans, at most MOST."""
        return np.flatnonzero(self.reach >= 0)[:MOST]


class Problem(NamedTuple):
    """What was found, what is allowed, and the remedy."""

    found: str
    allowed: str
    remedy: str


def problem_of(coverage: Coverage, place_name: str) -> Problem | None:
    """The first mistake whose shape the faults have; None where the spans cover the text."""
    if not coverage.faults and not (coverage.reach > coverage.text.sizes).any():
        return None
    for recognise in RECOGNISED:
        if (problem := recognise(coverage)) is not None:
            return problem
    return _by_place(coverage, place_name)


def _by_place(coverage: Coverage, place_name: str) -> Problem:
    text = coverage.text
    if not coverage.faults:
        document = int(np.flatnonzero(coverage.reach > text.sizes)[0])
        sentence = f"spans of document {document:,} end at byte {int(coverage.reach[document]):,}"
        return Problem(sentence, f"it has {int(text.sizes[document]):,} bytes", COVERED)
    fault = coverage.faults[0]
    at = text.place(min(fault.expected, text.size))
    where = f"{place_name} {fault.line:,}" if fault.line else "the end of the file"
    if fault.size > 0:
        sentence = f"{where}: {_bytes(fault.size)} before it have no score, from {at} on"
    else:
        sentence = f"{where}: begins {_bytes(-fault.size)} before {at}, where the span before it ended"
    others = coverage.count - 1
    more = f"; {others:,} more such place{'' if others == 1 else 's'}" if others else ""
    return Problem(sentence + more, COVERED, "is it of this text?")


def _bytes(count: int) -> str:
    return f"{count:,} byte{'' if count == 1 else 's'}"


# ---------------------------------------------------------------- what bytes are counted


def _whole_text(coverage: Coverage) -> Problem | None:
    """Offsets of the whole text in place of those within the document."""
    text, later = coverage.text, coverage.scored()[1:]
    allowed = "start_byte and end_byte count from the beginning of the document, 0 for its first byte"
    if len(later) and (coverage.first[later] == text.starts[later]).mean() >= REGULAR:
        document = int(later[0])
        sentence = f"start_byte counts from the beginning of the whole text: document {document:,} begins at"
        remedy = "subtract where the document begins in the text"
        return Problem(f"{sentence} {int(coverage.first[document]):,}", allowed, remedy)
    only_first = len(text.ends) > 1 and len(coverage.scored()) == 1 and coverage.reach[0] > text.sizes[0]
    if only_first:
        sentence = f"all spans are of document 0, up to byte {int(coverage.reach[0]):,}, which has"
        remedy = "give each span its document, from 0 on; or have the text read as one stream"
        return Problem(f"{sentence} {int(text.sizes[0]):,}; the text has {len(text.ends):,} documents", allowed, remedy)
    return None


def _examined(coverage: Coverage) -> Iterator[tuple[int, bytes]]:
    """Documents with spans: where the spans end, and the document's bytes."""
    for document in coverage.scored().tolist():
        if coverage.text.sizes[document] <= MOST_EXAMINED:
            yield int(coverage.reach[document]), coverage.text.document(document)


def _all_are(coverage: Coverage, length: Callable[[bytes], int]) -> bool:
    """Whether the spans of every document end at a length of its text that is not its bytes, in one at least."""
    pairs = [(reach, length(content), len(content)) for reach, content in _examined(coverage)]
    return any(other != size for _, other, size in pairs) and all(reach == other for reach, other, _ in pairs)


def _characters(coverage: Coverage) -> Problem | None:
    if not _all_are(coverage, lambda content: len(content.decode(errors="replace"))):
        return None
    sentence = (
        "start_byte and end_byte count characters: the last span ends at the number of characters of its document"
    )
    remedy = "turn an offset into bytes: len(text[:offset].encode())"
    return Problem(sentence, "bytes of UTF-8, of which é has two and 語 three", remedy)


VISIBLE = bytes(byte for character, byte in byte_alphabet().items() if character.isascii())
SPELLED = "the bytes of the text are counted, not those of a vocabulary's spelling"
OFFSETS = "take the tokenizer's offsets (return_offsets_mapping), or decode each token and count the bytes of its text"


def _byte_alphabet(coverage: Coverage) -> Problem | None:
    """GPT-2's letters for bytes: all but visible ASCII has two bytes."""
    if not _all_are(coverage, lambda content: len(content) + len(content.translate(None, VISIBLE))):
        return None
    sentence = "bytes are counted by the spelling of GPT-2's vocabulary: Ġ, its space, counts as two bytes"
    return Problem(sentence, SPELLED, OFFSETS)


def _sentencepiece(coverage: Coverage) -> Problem | None:
    """▁ as three bytes: two too many for each space, three more for one before the text; <0xE2> as six."""
    pairs = list(_examined(coverage))
    if _all_are(coverage, lambda content: len(content) + 5 * _not_ascii(content)):
        return Problem("a byte token such as <0xE2> is counted as the six bytes of its spelling", SPELLED, OFFSETS)
    if not any(b" " in content for _, content in pairs):
        return None
    for prefix in (0, 3):
        excess = [reach - len(content) - 2 * content.count(b" ") - prefix for reach, content in pairs]
        if _are_byte_tokens(excess, pairs):
            sentence = "bytes are counted by the spelling of a SentencePiece vocabulary: ▁, its space, counts as three"
            return Problem(sentence + (", a byte token such as <0xE2> as six" if any(excess) else ""), SPELLED, OFFSETS)
    return None


def _are_byte_tokens(excess: Sequence[int], pairs: Sequence[tuple[int, bytes]]) -> bool:
    """Whether so many bytes too many are five for each byte that a vocabulary may spell as <0xE2>."""
    return all(
        extra % 5 == 0 and 0 <= extra // 5 <= content.count(b"\n") + _not_ascii(content)
        for extra, (_, content) in zip(excess, pairs, strict=True)
    )


def _not_ascii(content: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) > 127))


def _line_ends(coverage: Coverage) -> Problem | None:
    """A copy of the text with other line ends, or with a byte-order mark."""
    allowed = "the very bytes of the text"
    if _all_are(coverage, lambda content: len(content) - content.count(b"\r\n")):
        return Problem(
            "the scores are of a copy with line ends of one byte; the text has CRLF", allowed, "score it as it is"
        )
    if _all_are(coverage, lambda content: len(content) + content.count(b"\n") - content.count(b"\r\n")):
        sentence = "the scores are of a copy with line ends of two bytes (CRLF)"
        return Problem(sentence, allowed, "open it with newline='' or in binary, and score it as it is")
    return None


# ---------------------------------------------------------------- which bytes are left out, or scored twice


def _separators(coverage: Coverage) -> Problem | None:
    """Documents whose last bytes, the newline or separator, have no score."""
    text, scored = coverage.text, coverage.scored()
    ends = text.terminators[scored]
    only_gaps = all(0 < fault.size <= text.terminators.max(initial=0) for fault in coverage.faults)
    left_out = (ends > 0) & (coverage.reach[scored] == text.sizes[scored] - ends)
    if not only_gaps or not left_out.any() or left_out.sum() < REGULAR * (ends > 0).sum():
        return None
    separator = text.document(int(scored[left_out][0]))[-int(ends[left_out][0]) :]
    what = "newline" if separator == b"\n" else f"separator {separator.decode(errors='replace')!r}"
    sentence = (
        f"the {what} that ends a document has no score, in {int(left_out.sum()):,} of {len(text.ends):,} documents"
    )
    remedy = "score the token that ends a document (</s>, <|endoftext|>) and give it those bytes"
    return Problem(sentence, "where a document ends is part of the text", remedy)


def _first_tokens(coverage: Coverage) -> Problem | None:
    """Documents, or the text, from the second token on."""
    text = coverage.text
    at_begin = [fault for fault in coverage.faults if fault.line and fault.expected == int(text.starts[fault.document])]
    if not at_begin or len(at_begin) < REGULAR * len(coverage.faults) or max(f.size for f in at_begin) > LONGEST_TOKEN:
        return None
    if not all(fault.size > 0 for fault in coverage.faults):
        return None
    several = f"each of {len(at_begin):,} documents" if len(at_begin) > 1 else "the text"
    sentence = f"the first token of {several} has no score; the first is {_bytes(at_begin[0].size)} at"
    remedy = "begin with the model's BOS token, so that the first token has a prediction"
    return Problem(f"{sentence} {text.place(at_begin[0].expected)}", COVERED, remedy)


def _stride(coverage: Coverage) -> Problem | None:
    """Windows that overlap and score all of their tokens."""
    jumps = [fault for fault in coverage.faults if fault.line and fault.size < 0]
    if not jumps or len(jumps) < len(coverage.faults):
        return None
    indices = np.array([jump.span for jump in jumps])
    window, is_regular = _most_frequent(np.diff(indices, prepend=0))
    again, is_same = _most_frequent(np.array([_tokens_again(coverage, jump) for jump in jumps]))
    if not (is_regular and is_same and 0 < again < window):
        return None
    sentence = (
        f"tokens are scored twice: every {window:,} tokens the file goes back by {again:,}, for the first time at"
    )
    cause = f"windows of {window:,} move by a stride of {window - again:,} and score all of their tokens"
    remedy = f"of each window but the first keep the scores of its last {window - again:,} tokens"
    return Problem(f"{sentence} {coverage.text.place(jumps[0].start)}; {cause}", COVERED, remedy)


def _tokens_again(coverage: Coverage, jump: Fault) -> int:
    """How many tokens after a jump backwards cover bytes that were covered before."""
    after = coverage.ends[jump.span : jump.span + (1 << 20)]
    return int(np.argmax(after > jump.expected)) if (after > jump.expected).any() else len(after)


def _windows(coverage: Coverage) -> Problem | None:
    """Windows whose first token has no score."""
    gaps = [fault for fault in coverage.faults if 0 < fault.size <= LONGEST_TOKEN]
    inner = np.array([gap.span for gap in gaps if gap.span > 0])
    if len(gaps) < max(2, REGULAR * len(coverage.faults)) or len(inner) < 2:
        return None
    between, is_regular = _most_frequent(np.diff(inner))
    if not is_regular:
        return None
    first = next(gap for gap in gaps if gap.span > 0)
    sentence = f"a token is left out after every {between:,}, {len(gaps):,} in all, for the first time at"
    cause = f"windows of {between + 1:,} whose first token has no score"
    remedy = "begin each window with BOS or with the last token of the window before"
    return Problem(f"{sentence} {coverage.text.place(first.expected)}; {cause}", COVERED, remedy)


def _most_frequent(values: np.ndarray) -> tuple[int, bool]:
    """The most frequent value, and whether nearly all are that."""
    distinct, counts = np.unique(values, return_counts=True)
    best = int(np.argmax(counts))
    return int(distinct[best]), bool(counts[best] >= REGULAR * len(values))


def _spaces(coverage: Coverage) -> Problem | None:
    """Words without the spaces between them."""
    gaps = [fault for fault in coverage.faults if fault.size > 0]
    if len(gaps) < len(coverage.faults) or len(gaps) < 2:
        return None
    texts = [coverage.text.content[gap.expected : min(gap.start, gap.expected + LONGEST_TOKEN)] for gap in gaps]
    if not all(text.isspace() for text in texts):
        return None
    sentence = f"the spaces between tokens have no score, {coverage.count:,} of them, the first at"
    remedy = (
        "give each word the space before it, as in ' the'; a space that the model cannot predict is a token by itself"
    )
    return Problem(f"{sentence} {coverage.text.place(gaps[0].expected)}", COVERED, remedy)


def _cut_off(coverage: Coverage) -> Problem | None:
    """A file that ends before the text does."""
    fault = coverage.faults[0] if coverage.faults else None
    if fault is None or fault.line:
        return None
    text = coverage.text
    sentence = f"its spans end at {text.place(fault.expected)}; {fault.size:,} of {text.size:,} bytes have no score"
    return Problem(sentence, COVERED, "score the whole text; or is the file cut off, or of another text?")


RECOGNISED = (
    *(_whole_text, _characters, _line_ends, _byte_alphabet, _sentencepiece),
    *(_separators, _first_tokens, _stride, _spaces, _windows, _cut_off),
)
