"""Rows of surprisal as text: CSV, TSV or JSON lines, written as they come.

    csv, tsv    cells of text on one line, as a spreadsheet may open them: control characters are written out, and
                what a spreadsheet would run begins with an apostrophe
    jsonl       the exact text; of tokens also ``log_prob``, so that ``lmstages judge`` reads the file

Knows rows, no model.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable
from typing import BinaryIO

from lmstages.core.artifacts import finite_or_none
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER, SECONDS_BETWEEN_LINES, Progress
from lmstages.evaluation.surprisal import Unit
from lmstages.results.formatting import spreadsheet_text

DELIMITERS = {"csv": ",", "tsv": "\t"}
DIGITS = 9  # significant ones of a number in CSV


def write(units: Iterable[Unit], per: str, form: str, out: BinaryIO, name: object) -> None:
    """Write all rows, then log the sums; raises UserError for a text ``name`` that is empty."""
    lines, tokens, size, nats = _writer(form, out), 0, 0, 0.0
    progress = Progress(0, "")
    for unit in units:
        lines(row_of(unit, per, exact=form == "jsonl"))
        tokens, size, nats = tokens + unit.tokens, size + unit.end_byte - unit.start_byte, nats + unit.nats
        if progress.due():
            LOGGER.info("%s tokens, %s bytes so far", f"{tokens:,}", f"{size:,}")
            progress.last_line += SECONDS_BETWEEN_LINES
    if not size:
        raise UserError(name, "holds no text")
    bits = nats / math.log(2) / size
    LOGGER.info("%s tokens, %s bytes, %.4f bits per byte", f"{tokens:,}", f"{size:,}", bits)


def row_of(unit: Unit, per: str, exact: bool) -> dict[str, object]:
    """A row by column; ``exact``: numbers as JSON holds them, else as text of some digits."""
    row: dict[str, object] = {"document": unit.document, "text": unit.text}
    row |= {"start_byte": unit.start_byte, "end_byte": unit.end_byte}
    row |= {"token": unit.token} if per == "token" else {"tokens": unit.tokens}
    numbers = {"nats": unit.nats, "bits": unit.nats / math.log(2)}
    if not exact:
        return row | {key: format(number, f".{DIGITS}g") for key, number in numbers.items()}
    if per == "token":
        numbers["log_prob"] = -unit.nats
    return row | {key: finite_or_none(number) for key, number in numbers.items()}


def _writer(form: str, out: BinaryIO) -> Callable[[dict[str, object]], None]:
    """A function that writes a row; the first row is preceded by the names of the columns."""
    if form == "jsonl":
        return lambda row: _put(out, json.dumps(row) + "\n")
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=DELIMITERS[form], lineterminator="\n")
    is_first = True

    def put(row: dict[str, object]) -> None:
        nonlocal is_first
        if is_first:
            writer.writerow(row)
            is_first = False
        writer.writerow(map(spreadsheet_text, row.values()))
        _put(out, buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()

    return put


def _put(out: BinaryIO, line: str) -> None:
    out.write(line.encode())
