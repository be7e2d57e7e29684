"""Texts of the records of a table: a line of JSON Lines, a row of separated values or of Parquet each.

Records are read one after the other, so that memory does not grow with the table. Each text comes with where it stood,
as ``line 3``; whatever is no text of the wanted field is an error that names this place. Writes nothing.
"""

import csv
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lmstages.core.errors import UserError, did_you_mean, shortened
from lmstages.core.packed import FREE, RATIO, too_much

DEFAULT_FIELD = "text"
LONGEST = 1 << 28  # bytes of one record
DELIMITERS = ",;\t|"
ROWS = 256  # of a Parquet table at a time
MOST_SHOWN = 20  # names of fields in a message
TYPES = {dict: "an object", list: "a list", bool: "a truth value", int: "a number", float: "a number"}


class RecordText(NamedTuple):
    """The text of a record, empty where there is none, where it stood, and what fraction of a Parquet table is read."""

    text: str
    place: str
    fraction: float = 0.0


class Wanted(NamedTuple):
    """The file that is read, and the field that holds its texts."""

    path: Path
    field: str = DEFAULT_FIELD


def texts_of_json(pieces: Iterable[bytes], table: Wanted) -> Iterator[RecordText]:
    """Bytes -> the field of the object on each line; blank lines are passed over."""
    for number, line in enumerate(_lines(pieces, table), start=1):
        if line.strip():
            record, place = _parsed(line, number, table), f"line {number:,}"
            yield RecordText(_checked(record.get(table.field, _NOTHING), record, place, table), place)


_NOTHING = object()


def _parsed(line: str, number: int, table: Wanted) -> dict[str, Any]:
    where = f"line {number:,}"
    try:
        record = json.loads(line.rstrip())  # without the line end, before which a column is missing
    except json.JSONDecodeError as error:
        raise _no_json(table, f"{where} is no JSON ({error.msg.lower()}, column {error.colno:,})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets within brackets
        raise _no_json(table, f"{where} is no JSON that can be read ({type(error).__name__})") from error
    if not isinstance(record, dict):
        raise _no_json(table, f"{where} is {_type_name(record)}")
    return record


def _no_json(table: Wanted, problem: str) -> UserError:
    allowed = f'every line is an object such as {{"{table.field}": "..."}}'
    remedy = "mend it, or set documents: lines to read plain text; jq -c makes lines of other JSON"
    return UserError(table.path, problem, allowed, remedy)


def _type_name(value: Any) -> str:
    return "null" if value is None else TYPES.get(type(value), "a text")


def _checked(value: Any, fields: Iterable[str], place: str, table: Wanted) -> str:
    """The text of a field, empty for null; raises UserError where it is missing or no text."""
    if value is None:
        return ""
    if value is _NOTHING:
        raise _no_field(list(fields), place, table)
    if not isinstance(value, str):
        problem = f"{place}: field {table.field!r} is {_type_name(value)} ({shortened(value)})"
        raise UserError(table.path, problem, "a text, or null", "set field to one that holds text")
    return value


def _no_field(fields: Sequence[str], place: str, table: Wanted) -> UserError:
    shown = ", ".join(shortened(field) for field in fields[:MOST_SHOWN]) + (", ..." if fields[MOST_SHOWN:] else "")
    problem = f"{place}: no field {table.field!r}{did_you_mean(table.field, map(str, fields))}"
    return UserError(table.path, problem, f"it has {shown or 'none'}", "set field to the one that holds the text")


# ---------------------------------------------------------------- separated values


def texts_of_csv(pieces: Iterable[bytes], table: Wanted, tabs: bool) -> Iterator[RecordText]:
    """Bytes -> the wanted column of each row; the first row names the columns, text in quotes may hold line ends."""
    lines = _lines(pieces, table)
    first = next(lines, "")
    delimiter = _delimiter(first, table.field, tabs)
    with _large_fields():
        reader = csv.reader(_again(first, lines), delimiter=delimiter, strict=True)
        rows = _rows(reader, table)
        header = next(rows, [])
        column = _column(header, table)
        for row in rows:
            place = f"line {reader.line_num:,}"
            if row and len(row) != len(header):
                problem = f"the row that ends on {place} has {len(row):,} columns, the first row {len(header):,}"
                raise UserError(table.path, problem, "", f"put text that holds {delimiter!r} in double quotes")
            if row:
                yield RecordText(row[column], place)


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _delimiter(header: str, field: str, tabs: bool) -> str:
    """The character between columns: the one that makes the field a column, else the one that the name promises."""
    expected = "\t" if tabs else ","
    for delimiter in (expected, *DELIMITERS):
        if field in next(csv.reader([header.rstrip("\r\n")], delimiter=delimiter), []):
            return delimiter
    return max((expected, *DELIMITERS), key=header.count)


def _rows(reader: Any, table: Wanted) -> Iterator[list[str]]:
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            problem = f"line {reader.line_num:,} is no row of separated values ({error})"
            raise UserError(table.path, problem, "a double quote within quoted text is doubled", "mend it") from error
        if row is None:
            return
        yield row


def _column(header: Sequence[str], table: Wanted) -> int:
    if header.count(table.field) > 1:
        raise UserError(table.path, f"line 1: {header.count(table.field)} columns are called {table.field!r}", "one is")
    if table.field not in header:
        raise _no_field(header, "line 1", table)
    return header.index(table.field)


@contextmanager
def _large_fields() -> Iterator[None]:
    """The library's limit on the length of a field, raised while a table is read."""
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# ---------------------------------------------------------------- Parquet


def texts_of_parquet(file: Path, table: Wanted) -> Iterator[RecordText]:
    """The wanted column of each row of ``file``, which is a copy of the table where that is packed."""
    import pyarrow as pa
    from pyarrow import parquet

    with _reading_parquet(table):
        opened = parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
    with opened:
        _must_hold_text(opened.schema_arrow, table, pa)
        yield from _texts_of_batches(opened, table, pa, max(FREE, RATIO * file.stat().st_size))


def _texts_of_batches(opened: Any, table: Wanted, pa: Any, limit: int) -> Iterator[RecordText]:
    batches, number, size = opened.iter_batches(batch_size=ROWS, columns=[table.field], use_threads=False), 0, 0
    while True:
        with _reading_parquet(table):
            batch = next(batches, None)
            column = [] if batch is None else batch.column(0).cast(pa.large_binary()).to_pylist()
        if batch is None:
            return
        for content in column:
            number += 1
            size += len(content or b"")
            if size > limit:
                raise too_much(table.path, limit)
            place = f"row {number:,}"
            yield RecordText(_decoded(content or b"", place, table), place, number / opened.metadata.num_rows)


def _must_hold_text(schema: Any, table: Wanted, pa: Any) -> None:
    if (count := len(schema.get_all_field_indices(table.field))) > 1:
        raise UserError(table.path, f"{count} columns are called {table.field!r}", "one is")
    if not count:
        raise _no_field(schema.names, "its columns", table)
    kind = schema.field(table.field).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    names = ("string", "large_string", "string_view", "null", "binary", "large_binary", "binary_view")
    if not any(getattr(pa.types, f"is_{name}")(value) for name in names):
        problem = f"column {table.field!r} holds {shortened(str(kind))}"
        raise UserError(table.path, problem, "a column of text", "set field to one that holds text")


@contextmanager
def _reading_parquet(table: Wanted) -> Iterator[None]:
    """Whatever the library says of a damaged table, in one line."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pyarrow passes on what its parsers raise
        words = " ".join(str(error).split())[:150]
        raise UserError(
            table.path, f"is no Parquet table that can be read ({words})", "", "download it again"
        ) from error


# ---------------------------------------------------------------- lines


def _lines(pieces: Iterable[bytes], table: Wanted) -> Iterator[str]:
    r"""Bytes -> lines with their ends, at ``\n`` alone; a byte-order mark at the beginning is no part of the first."""
    waiting: list[bytes] = []
    size = number = 0
    for piece in pieces:
        *whole, rest = piece.split(b"\n")
        for line in whole:
            number += 1
            yield _line(b"".join((*waiting, line, b"\n")), number, table)
            waiting, size = [], 0
        waiting.append(rest)
        size += len(rest)
        if size > LONGEST:
            raise UserError(table.path, f"line {number + 1:,} has more than {LONGEST:,} bytes", "", "divide it")
    if last := b"".join(waiting):
        yield _line(last, number + 1, table)


def _line(line: bytes, number: int, table: Wanted) -> str:
    line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    return _decoded(line, f"line {number:,}", table)


def _decoded(content: bytes, place: str, table: Wanted) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        problem = f"{place} is not UTF-8: byte 0x{content[error.start]:02x}"
        iconv = f"iconv -f ISO-8859-1 -t UTF-8 {shlex.quote(str(table.path))} > NEW_FILE"
        remedy = f"convert it, naming its true encoding: {iconv}"
        raise UserError(table.path, problem, "text is UTF-8", remedy) from error
