r"""N-gram models in the ARPA format, as KenLM, SRILM and others write it (Paul & Baker 1992; SRILM's ngram-format(5)).

    \data\
    ngram 1=4                     how many n-grams of each order follow
    \2-grams:
    -0.398  the cat  -0.301       log10 p(cat | the), the n-gram, and the log10 back-off weight of it as a context
    \end\

Between fields stand tabs or spaces. A missing back-off weight is 0; the longest n-grams have none. A file may be packed
(gzip, bzip2, xz, zstd). It is read line by line into arrays: memory grows with the model alone, and never by what its
header claims. Knows no text.
"""

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmstages.core import packed
from lmstages.core.artifacts import Made, saving
from lmstages.core.errors import UserError, shortened

LONGEST_LINE = 1 << 20  # bytes
LONGEST_ORDER = 24  # as of the models that are fitted here
COUNT = re.compile(rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,18})")
SECTION = re.compile(rb"\\(\d{1,3})-grams:")
BLANKS = b" \t\r"  # a word may hold a vertical tab or a form feed
ROUNDING = 1e-6  # by which a log10 probability of 1 may be above 0
WRITTEN_AT_ONCE = 1 << 16  # lines


@dataclass(frozen=True)
class NgramTable:
    """The n-grams of one order: tokens (U, n), oldest first, log10 probabilities and back-off weights (U,).

    ``lines`` (U,): where in a file they stand; empty for those of a model that was fitted here.
    """

    tokens: np.ndarray
    log10: np.ndarray
    backoffs: np.ndarray
    lines: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def where(self, rows: np.ndarray) -> "NgramTable":
        """The n-grams that a mask or indices choose."""
        lines = self.lines[rows] if len(self.lines) else self.lines
        return NgramTable(self.tokens[rows], self.log10[rows], self.backoffs[rows], lines)


@dataclass(frozen=True)
class ArpaFile:
    """The words of a file in their order, and the n-grams of order 1 ... N, whose tokens are indices of words."""

    path: Path
    words: list[bytes]
    orders: list[NgramTable]


class _Lines:
    """The lines of a file that are not blank, with their numbers; a line can be put back."""

    def __init__(self, path: Path, pieces: packed.Pieces) -> None:
        self.path, self.number = path, 0
        self._lines, self._again = self._read(pieces), b""

    def _read(self, pieces: packed.Pieces) -> Iterator[bytes]:
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self.number += 1
                yield line
            if len(rest) > LONGEST_LINE:
                raise UserError(self.path, f"line {self.number + 1:,} has more than {LONGEST_LINE:,} bytes", NO_ARPA)
        self.number += 1
        yield rest

    def next(self) -> bytes:
        """The next line that is not blank, without blanks around it; empty at the end of the file."""
        again, self._again = self._again, b""
        return again or next(filter(None, (line.strip(BLANKS) for line in self._lines)), b"")

    def put_back(self, line: bytes) -> None:
        """``next`` gives this line again."""
        self._again = line

    def error(self, problem: str, allowed: str = "", number: int | None = None) -> UserError:
        """An error that names a line, by default the last one read."""
        return UserError(self.path, f"line {self.number if number is None else number:,}: {problem}", allowed)


NO_ARPA = r"an ARPA file is lines of text: \data\, the number of n-grams of each order, and the n-grams"
BINARY = {b"mmap lm http": "KenLM's binary format", b"iARPA": "IRSTLM's iARPA", b"blmt": "IRSTLM's binary format"}


def read(path: Path) -> ArpaFile:
    """The whole file; raises UserError, with the number of the line, for whatever is no ARPA file."""
    with packed.opened(path) as pieces:
        lines = _Lines(path, pieces)
        counts = _counts(lines)
        vocabulary: dict[bytes, int] = {}
        orders = [_section(lines, n, counts, vocabulary) for n in range(1, len(counts) + 1)]
        if (end := lines.next()) != rb"\end\ "[:-1]:
            problem = "the file ends" if not end else f"{_shown(end)} found"
            raise lines.error(problem, r"after the last section stands \end\ "[:-1])
        if rest := lines.next():
            raise lines.error(f"{_shown(rest)} found", r"nothing stands after \end\ "[:-1])
    while len(orders) > 1 and not len(orders[-1].log10):
        orders.pop()
    return ArpaFile(path, list(vocabulary), orders)


def order_of(path: Path) -> int:
    """The order of the model that the header of a file states, without its n-grams; UserError for no ARPA file."""
    with packed.opened(path) as pieces:
        return len(_counts(_Lines(path, pieces)))


def _counts(lines: _Lines) -> list[int]:
    """How many n-grams of each order the header claims."""
    line = lines.next()
    for magic, name in BINARY.items():
        if line.startswith(magic):
            raise UserError(lines.path, f"is of {name}", NO_ARPA, "give the ARPA file that it was made from")
    while line != rb"\data\ "[:-1]:
        if not line:
            raise UserError(lines.path, r"has no line \data\ "[:-1], NO_ARPA)
        line = lines.next()
    counts: list[int] = []
    while match := COUNT.fullmatch(line := lines.next()):
        if int(match[1]) != len(counts) + 1:
            raise lines.error(f"{_shown(line)} found", f"the next count is that of order {len(counts) + 1}")
        counts.append(int(match[2]))
    if not counts or len(counts) > LONGEST_ORDER:
        raise lines.error(f"{len(counts)} orders announced", f"allowed: orders 1 to {LONGEST_ORDER}")
    lines.put_back(line)
    return counts


def _section(lines: _Lines, order: int, counts: Sequence[int], vocabulary: dict[bytes, int]) -> NgramTable:
    r"""The n-grams of one order; the words of order 1 fill ``vocabulary``. One without n-grams may be left out."""
    line = lines.next()
    match = SECTION.fullmatch(line)
    if match is None or int(match[1]) != order:
        if counts[order - 1] or order == 1:
            raise lines.error(f"{_shown(line) or 'the end'} found", rf"here begins the section \{order}-grams:")
        lines.put_back(line)
        return NgramTable(np.empty((0, order), np.int32), np.empty(0), np.empty(0))
    table = _ngrams(lines, order, order == len(counts), vocabulary)
    if len(table.log10) != counts[order - 1]:
        problem = f"the section before it has {len(table.log10):,} n-grams of order {order}"
        raise lines.error(problem, rf"\data\ announces ngram {order}={counts[order - 1]}")
    _must_be_logarithms(lines, table)
    return table


def _ngrams(lines: _Lines, order: int, longest: bool, vocabulary: dict[bytes, int]) -> NgramTable:
    """The lines of a section until the next begins."""
    tokens, log10, backoffs, numbers = array("i"), array("d"), array("d"), array("q")
    while (line := lines.next()) and not line.startswith(b"\\"):
        fields = line.split() if b"\v" not in line and b"\f" not in line else re.split(rb"[ \t\r]+", line)
        if len(fields) not in (order + 1, order + 2):
            raise lines.error(f"{_shown(line)} found", f"a probability, {order} words, and a back-off weight or none")
        if order == 1 and vocabulary.setdefault(fields[1], len(vocabulary)) != len(numbers):
            raise lines.error(f"the word {_shown(fields[1])} has stood before", "every n-gram stands once")
        try:
            log10.append(float(fields[0]))
            backoffs.append(float(fields[-1]) if len(fields) == order + 2 else 0.0)
            tokens.extend([vocabulary[word] for word in fields[1 : order + 1]])
        except (ValueError, KeyError) as error:
            raise _wrong_field(lines, fields, order, vocabulary) from error
        numbers.append(lines.number)
        if longest and len(fields) == order + 2 and backoffs[-1]:
            raise lines.error(f"{_shown(line)} found", "n-grams of the highest order have no back-off weight")
    lines.put_back(line)
    rows = np.frombuffer(tokens, np.int32).reshape(-1, order) if tokens else np.empty((0, order), np.int32)
    return NgramTable(rows, np.array(log10), np.array(backoffs), np.array(numbers, np.int64))


def _wrong_field(lines: _Lines, fields: Sequence[bytes], order: int, vocabulary: Mapping[bytes, int]) -> UserError:
    for word in fields[1 : order + 1]:
        if word not in vocabulary:
            return lines.error(f"the word {_shown(word)} is none of the 1-grams", "every word has a 1-gram")
    return lines.error(f"{_shown(b' '.join(fields))} found", "a log10 probability and a back-off weight are numbers")


def _must_be_logarithms(lines: _Lines, table: NgramTable) -> None:
    """Raises UserError where a probability is above one or none, or a back-off weight is no number."""
    wrong = ~(table.log10 <= ROUNDING)
    if wrong.any():
        row = int(np.argmax(wrong))
        allowed = "a log10 probability is at most 0"
        raise lines.error(f"{table.log10[row]:g} found", allowed, int(table.lines[row]))
    wrong = ~np.isfinite(table.backoffs)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise lines.error(f"{table.backoffs[row]:g} found", "a back-off weight is finite", int(table.lines[row]))


def _shown(content: bytes) -> str:
    return shortened(content.decode(errors="replace")) if content else ""


# ---------------------------------------------------------------- writing


def write(path: Path, words: Sequence[str], orders: Sequence[NgramTable], made: Made) -> None:
    """Write n-grams whose tokens are indices of ``words``; the longest ones without back-off weights."""
    with saving(path, made) as file:
        counts = "".join(f"ngram {n}={len(table.log10)}\n" for n, table in enumerate(orders, start=1))
        file.write(f"\\data\\\n{counts}".encode())
        for n, table in enumerate(orders, start=1):
            file.write(f"\n\\{n}-grams:\n".encode())
            for begin in range(0, len(table.log10), WRITTEN_AT_ONCE):
                rows = table.where(np.arange(begin, min(begin + WRITTEN_AT_ONCE, len(table.log10))))
                file.write("".join(_written(rows, words, n == len(orders))).encode())
        file.write(b"\n\\end\\\n")


def _written(table: NgramTable, words: Sequence[str], longest: bool) -> Iterator[str]:
    for row, log10, backoff in zip(table.tokens.tolist(), table.log10, table.backoffs, strict=True):
        ngram = " ".join([words[token] for token in row])
        yield f"{log10:.9g}\t{ngram}\n" if longest else f"{log10:.9g}\t{ngram}\t{backoff:.9g}\n"
