"""Files of scores made elsewhere, read in batches: spans as JSONL or parquet, or tokens and numbers in two columns.

    {"unit": "bits", "text_sha256": "..."}                                          optional first line of both texts
    {"document": 0, "start_byte": 0, "end_byte": 3, "log_prob": -2.31}               a span a line
    the<TAB>-2.31                                                                    a token a line

In a parquet file the columns have the same names, and its metadata holds what the first line says. Bytes are counted
within the document. In the second form the spans follow from walking through the text: a token that the text does not
continue with is looked for nearby, and where it is, the gap or the repetition is left to the audit. The form follows
from the content, whatever the file is called; text may be packed by gzip, bzip2, xz or zstd.

Imports pyarrow only for a parquet file.
"""

import json
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lmstages.core import packed
from lmstages.core.errors import UserError, did_you_mean, shortened
from lmstages.core.files import reading
from lmstages.core.signatures import HEAD, format_of
from lmstages.evaluation.held_out import HeldOut
from lmstages.evaluation.reported_spellings import SPELLED_OUT, spelling_problem, unescaped

LONGEST_LINE = 1 << 18  # bytes
BYTES_FOR_A_BYTE, AT_LEAST = 4096, 1 << 20  # what a file may hold for a byte of its text, and whatever the text
ROWS = 1 << 16  # spans of a batch
LOOKAHEAD = 16  # tokens by which the walk finds its place again
BEHIND, AHEAD = 1 << 20, 1 << 12  # bytes of the text in which it looks
FEWEST_BYTES = 8  # of the tokens that it looks for
WHITESPACE = b" \n\t\r\v\f"
NUMBERS = ("start_byte", "end_byte", "log_prob")
HEADER = ("unit", "text_sha256")
FORMS = "a JSON object with start_byte, end_byte and log_prob a line, or a token, a TAB and its log-probability a line"


class Batch(NamedTuple):
    """Spans in the order of the file, arrays of (n,): lines or rows of the file, documents, bytes within the document.

    ``log_probs`` are as the file has them, in its unit.
    """

    lines: np.ndarray
    documents: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    log_probs: np.ndarray


@dataclass(frozen=True)
class ReportedFile:
    """An open file: its form, what it states, and its spans."""

    form: str  # jsonl, columns or parquet
    unit: str | None
    text_sha256: str | None
    batches: Iterator[Batch]

    @property
    def line(self) -> str:
        """What messages call a place in the file."""
        return "row" if self.form == "parquet" else "line"


class Numbered(NamedTuple):
    """Lines that are not blank, with their numbers from 1."""

    numbers: list[int]
    lines: list[bytes]


@contextmanager
def opened(path: Path, text: HeldOut | None) -> Iterator[ReportedFile]:
    """A file of scores of a text; raises UserError for any other file, and while its spans are read.

    Without the text, spans of two columns cannot be read.
    """
    most = BYTES_FOR_A_BYTE * text.size + AT_LEAST if text is not None else 1 << 62
    with reading(path), _ordinary(path) as file:
        head = file.read(HEAD)
        file.seek(0)
        if head.startswith(b"PAR1"):
            yield _parquet(path, file, most)
            return
    with packed.opened(path) as pieces:
        if pieces.packing is None and (known := format_of(head)) is not None:
            raise UserError(path, f"is {known.name} by its first bytes", "allowed: JSONL, two columns of text, parquet")
        yield _text(path, text, _numbered(path, pieces, most))


@contextmanager
def _ordinary(path: Path) -> Iterator[BinaryIO]:
    mode = path.stat().st_mode  # what is missing is an error of the system, named by ``reading``
    if not stat.S_ISREG(mode):
        problem = "is a folder" if stat.S_ISDIR(mode) else "is no ordinary file"
        raise UserError(path, problem, "a file of scores is wanted")
    with path.open("rb") as file:
        yield file


# ---------------------------------------------------------------- lines


def _numbered(path: Path, pieces: Iterable[bytes], most: int) -> Iterator[Numbered]:
    """The lines of a text, some at a time; raises UserError for one that is too long, or for too many bytes."""
    read, number, rest = 0, 0, b""
    for piece in pieces:
        read += len(piece)
        if read > most:
            problem = f"holds more than {most:,} bytes, unpacked"
            allowed = f"at most {BYTES_FOR_A_BYTE:,} for each byte of the text"
            raise UserError(path, problem, allowed, "is it of this text?")
        *lines, rest = (rest + piece).split(b"\n")
        yield _not_blank(number, lines)
        number += len(lines)
        if len(rest) > LONGEST_LINE:
            raise UserError(path, f"line {number + 1:,} has more than {LONGEST_LINE:,} bytes", FORMS)
    yield _not_blank(number, [rest])


def _not_blank(before: int, lines: Sequence[bytes]) -> Numbered:
    kept = [(before + index, line) for index, line in enumerate(lines, start=1) if line.strip()]
    return Numbered([number for number, _ in kept], [line for _, line in kept])


def _text(path: Path, text: HeldOut | None, batches: Iterator[Numbered]) -> ReportedFile:
    """The form that the first lines say, without the header, which states the unit and the text."""
    first = next((batch for batch in batches if batch.lines), Numbered([], []))
    header = _header(path, first)
    if header is not None:
        first = Numbered(first.numbers[1:], first.lines[1:])
    if not first.lines:
        first = next((batch for batch in batches if batch.lines), Numbered([], []))
    if not first.lines:
        raise UserError(path, "holds no scores", FORMS)
    form = _form(path, first)
    rest = chain([first], batches)
    spans = _spans(path, rest) if form == "jsonl" else _walked_batches(path, text, rest)
    return ReportedFile(form, *_stated(path, header or {}), spans)


def _header(path: Path, first: Numbered) -> dict[str, Any] | None:
    """The first line where it is an object that states something and no span."""
    content = _object(first.lines[0]) if first.lines else None
    if content is None or not set(HEADER) & set(content) or set(NUMBERS) & set(content):
        return None
    return content


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _stated(path: Path, header: Mapping[str, Any]) -> tuple[str | None, str | None]:
    unit, sha256 = (header.get(key) for key in HEADER)
    for key, value in zip(HEADER, (unit, sha256), strict=True):
        if value is not None and not isinstance(value, str):
            raise UserError(path, f"its first line states {key} {shortened(value)}", f"{key} is text")
    return unit, sha256


def _form(path: Path, first: Numbered) -> str:
    line = first.lines[0]
    if _object(line) is not None:
        return "jsonl"
    if b"\t" in line:
        return "columns"
    where = f"line {first.numbers[0]:,}"
    if line.lstrip().startswith(b"["):
        raise UserError(path, f"{where} begins a list", FORMS, "write one object a line: jq -c '.[]' OLD > NEW.jsonl")
    shown = shortened(line[:200].decode(errors="replace"))
    raise UserError(path, f"{where} is {shown}", FORMS, "separate the columns by a TAB" if b" " in line else "")


# ---------------------------------------------------------------- JSONL


def _spans(path: Path, batches: Iterable[Numbered]) -> Iterator[Batch]:
    for batch in batches:
        if batch.lines:
            yield _batch(path, batch, _objects(path, batch))


def _objects(path: Path, batch: Numbered) -> list[Any]:
    """What lines of JSON hold; raises UserError with the first that holds none."""
    try:
        objects = json.loads(b"[" + b",".join(batch.lines) + b"]")
        if len(objects) == len(batch.lines):
            return list(objects)
    except (ValueError, RecursionError):
        pass
    return [_one_object(path, number, line) for number, line in zip(*batch, strict=True)]


def _one_object(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        shown = shortened(line[:200].decode(errors="replace"))
        raise UserError(path, f"line {number:,} is no JSON: {shown}", FORMS) from error


def _batch(path: Path, batch: Numbered, objects: Sequence[Any]) -> Batch:
    """Objects -> arrays; the first that is not as it should be is named."""
    try:
        columns = [[span.get("document", 0) for span in objects], *([span[key] for span in objects] for key in NUMBERS)]
        if all(set(map(type, column)) == {int} for column in columns[:3]) and set(map(type, columns[3])) <= {
            int,
            float,
        }:
            return _as_batch(batch, columns)
    except (AttributeError, KeyError, TypeError, OverflowError):
        pass
    rows = [_row(path, number, span) for number, span in zip(batch.numbers, objects, strict=True)]
    return _as_batch(batch, list(zip(*rows, strict=True)))


def _as_batch(batch: Numbered, columns: Sequence[Sequence[Any]]) -> Batch:
    documents, starts, ends = (np.array(column, np.int64) for column in columns[:3])
    log_probs = np.array([float(value) for value in columns[3]], np.float64)
    return Batch(np.array(batch.numbers), documents, starts, ends, log_probs)


def _row(path: Path, number: int, span: Any) -> tuple[int, int, int, float]:
    """One span, checked; raises UserError with what is wrong with it."""
    where = f"line {number:,}"
    if not isinstance(span, dict):
        raise UserError(path, f"{where} is {shortened(span)}", FORMS)
    if lacking := [key for key in NUMBERS if key not in span]:
        hints = "".join(did_you_mean(key, set(span) - set(NUMBERS)) for key in lacking[:1])
        raise UserError(path, f"{where} lacks {', '.join(lacking)}{hints}", FORMS)
    counts = [span.get("document", 0), span["start_byte"], span["end_byte"]]
    for key, value in zip(("document", *NUMBERS[:2]), counts, strict=True):
        if type(value) is not int or not -(1 << 62) < value < 1 << 62:
            raise UserError(path, f"{where}: {key} is {shortened(value)}", "a whole number")
    return (*counts, _number(path, where, span["log_prob"]))


def _number(path: Path, where: str, value: Any) -> float:
    """A log-probability: a number or text that is one, as ``"-inf"``, since JSON has no infinity."""
    try:
        if type(value) in (int, float, str):
            return float(value)
    except (ValueError, OverflowError):
        pass
    allowed = "a number, or -Infinity for a probability of zero"
    raise UserError(path, f"{where}: log_prob is {shortened(value)}", allowed)


# ---------------------------------------------------------------- parquet


def _damaged(path: Path, error: BaseException) -> UserError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(path, f"is damaged: it cannot be read as parquet ({reason})", "", "write or copy it again")


def _parquet(path: Path, file: BinaryIO, most: int) -> ReportedFile:
    """A table with the same columns; its metadata states the unit and the text."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        metadata = {key.decode(): value.decode() for key, value in (table.schema_arrow.metadata or {}).items()}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    names = [name for name in ("document", *NUMBERS) if name in table.schema_arrow.names]
    if lacking := [name for name in NUMBERS if name not in names]:
        hint = did_you_mean(lacking[0], table.schema_arrow.names)
        raise UserError(path, f"has no column {', '.join(lacking)}{hint}", f"columns: {', '.join(NUMBERS)}, document")
    for name in names:
        _must_be_numbers(path, name, table.schema_arrow.field(name).type)
    if table.metadata.num_rows * 8 > most:
        allowed = f"at most {BYTES_FOR_A_BYTE // 8:,} for each byte of the text"
        raise UserError(path, f"has {table.metadata.num_rows:,} rows", allowed, "is it of this text?")
    return ReportedFile("parquet", *_stated(path, metadata), _table_batches(path, table, names))


def _must_be_numbers(path: Path, name: str, arrow_type: Any) -> None:
    from pyarrow import types

    is_right = types.is_floating if name == "log_prob" else types.is_integer
    if not is_right(arrow_type):
        allowed = "floating-point numbers" if name == "log_prob" else "whole numbers"
        raise UserError(path, f"column {name} holds {arrow_type}", f"allowed: {allowed}")


def _table_batches(path: Path, table: Any, names: Sequence[str]) -> Iterator[Batch]:
    import pyarrow as pa

    row = 1
    try:
        for batch in table.iter_batches(batch_size=ROWS, columns=list(names)):
            columns = {name: batch.column(name) for name in names}
            for name, column in columns.items():
                if column.null_count:
                    first = row + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
                    raise UserError(path, f"row {first:,}: {name} is empty", "every span has all its numbers")
            starts, ends = (columns[name].cast(pa.int64()).to_numpy() for name in NUMBERS[:2])
            documents = np.zeros(len(batch), np.int64)
            if "document" in columns:
                documents = columns["document"].cast(pa.int64()).to_numpy()
            log_probs = columns["log_prob"].cast(pa.float64()).to_numpy()
            yield Batch(np.arange(row, row + len(batch)), documents, starts, ends, log_probs)
            row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


# ---------------------------------------------------------------- two columns


class Row(NamedTuple):
    """A token and its log-probability."""

    line: int
    token: bytes
    log_prob: float


def _walked_batches(path: Path, text: HeldOut | None, batches: Iterable[Numbered]) -> Iterator[Batch]:
    """Spans of tokens, which follow from the text."""
    assert text is not None, "tokens are walked through a text"
    spans = _walked(path, text, _rows(path, batches))
    while rows := list(islice(spans, ROWS)):
        lines, begins, stops, log_probs = (np.array(column) for column in zip(*rows, strict=True))
        inner = np.searchsorted(text.ends, begins, side="right")
        empty_at_end = (begins == stops) & (inner > 0) & (begins == text.ends[np.maximum(inner - 1, 0)])
        documents = np.minimum(inner - empty_at_end, len(text.ends) - 1)
        starts = text.starts[documents]
        yield Batch(lines, documents, begins - starts, stops - starts, log_probs.astype(np.float64))


def _rows(path: Path, batches: Iterable[Numbered]) -> Iterator[Row]:
    first = True
    for batch in batches:
        for number, line in zip(*batch, strict=True):
            token, tab, value = line.rpartition(b"\t")
            if first and value.strip() == b"log_prob":
                first = False
                continue
            first = False
            if not tab:
                shown = shortened(line[:200].decode(errors="replace"))
                raise UserError(path, f"line {number:,} is {shown}", "a token, a TAB and its log-probability")
            yield Row(number, token, _column_number(path, number, value))


def _column_number(path: Path, number: int, value: bytes) -> float:
    try:
        return float(value)
    except ValueError as error:
        shown = shortened(value[:200].decode(errors="replace"))
        problem = f"line {number:,}: the last column is {shown}"
        raise UserError(path, problem, "a number; or -inf for a probability of zero") from error


def _walked(path: Path, text: HeldOut, rows: Iterator[Row]) -> Iterator[tuple[int, int, int, float]]:
    """Rows -> (line, first byte, last byte + 1, log-probability), by the one place where the text can have each."""
    waiting: deque[Row] = deque()
    content, position = text.content, 0
    while (row := waiting.popleft() if waiting else next(rows, None)) is not None:
        size = _size_at(content, position, row.token)
        if size is None:
            if problem := spelling_problem(row.token, content, position):
                where = f"line {row.line:,}, at {text.place(position)}: {problem}"
                raise UserError(path, where, "the first column is a token's own text", SPELLED_OUT)
            waiting.extend(islice(rows, LOOKAHEAD - len(waiting)))
            position, size = _resumed(path, text, position, [row, *waiting])
        yield row.line, position, position + size, row.log_prob
        position += size


def _size_at(content: Any, position: int, token: bytes) -> int | None:
    """Bytes that a token covers at a position of the text, as it is written or without escapes; None for no match."""
    if content[position : position + len(token)] == token:
        return len(token)
    plain = unescaped(token)
    return len(plain) if plain != token and content[position : position + len(plain)] == plain else None


def _resumed(path: Path, text: HeldOut, position: int, rows: Sequence[Row]) -> tuple[int, int]:
    """Where the text goes on with the tokens of the next rows, and the size of the first; UserError for nowhere."""
    content, token = text.content, rows[0].token
    after = position
    while after < min(len(content), position + AHEAD) and content[after : after + 1] in WHITESPACE:
        after += 1
    if after > position and (size := _size_at(content, after, token)) is not None:
        return after, size
    for joined in {b"".join(row.token for row in rows): 0, b"".join(unescaped(row.token) for row in rows): 0}:
        if len(joined) < min(FEWEST_BYTES, len(content)):
            continue
        ahead = content.find(joined, position, position + AHEAD)
        behind = content.rfind(joined, max(0, position - BEHIND), position + len(joined) - 1)
        for start in (ahead, behind):
            if start >= 0 and (size := _size_at(content, start, token)) is not None:
                return start, size
    shown = shortened(token[:200].decode(errors="replace"))
    problem = f"line {rows[0].line:,}: the text does not go on with {shown} at {text.place(position)}"
    raise UserError(path, problem, *_why_not(token, content, position))


def _why_not(token: bytes, content: Any, position: int) -> tuple[str, str]:
    there = content[position : position + len(token)]
    if token.lower() == there.lower():
        return "its letters have another case", "a tokenizer that changes the case loses text; score the text as it is"
    return "tokens follow one another as the text has them", "is it of this text? a newline within a token is \\n"
