"""Rows of ``schema`` as pandas data frames, and a results folder as its tables.

    results/RUN/results.parquet, results.csv      the one table
    results/RUN/tables/NAME.parquet               all others
    results/RUN/run.json                          name of the run, and what its report holds besides

Text lies by experiment: samples and the highlighted passage in ``evaluation.json``.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lmstages.core import artifacts, files
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.shapes import Shape
from lmstages.core.workflow_files import STARTER
from lmstages.evaluation.facts import Evaluation
from lmstages.results.formatting import spreadsheet_text
from lmstages.results.schema import OUTPUTS, Columns, Result, columns

Row = TypeVar("Row")
FACTS = "run.json"  # written last, by the call that writes all tables


class RunFacts(Shape):
    """``run.json``."""

    run: str
    estimation: bool


def frame(table: str, rows: Iterable[Any]) -> pd.DataFrame:
    """Rows of one table -> a frame whose columns have the declared types, also where there is no row."""
    declared = columns(OUTPUTS[table])
    data = rows.columns if isinstance(rows, Columns) else _by_column(table, list(rows))
    return pd.DataFrame({c.name: pd.Series(data[c.name], dtype=c.dtype) for c in declared})


def _by_column(table: str, records: Sequence[Any]) -> dict[str, list[Any]]:
    assert all(type(row) is OUTPUTS[table] for row in records), f"rows of {table} are {OUTPUTS[table].__name__}"
    return {column.name: [getattr(row, column.name) for row in records] for column in columns(OUTPUTS[table])}


def rows(table: str, data: pd.DataFrame) -> list[Any]:
    """The inverse of ``frame``: None where a cell is empty."""
    empty = data.astype(object).where(data.notna(), None)
    return [OUTPUTS[table](**dict(zip(data.columns, values, strict=True))) for values in empty.itertuples(False, None)]


def path_of(folder: Path, table: str) -> Path:
    """Where a table lies in a results folder."""
    return folder / "results.parquet" if table == "results" else folder / "tables" / f"{table}.parquet"


def write(folder: Path, table: str, data: pd.DataFrame, made: artifacts.Made) -> None:
    """A table as parquet."""
    content = BytesIO()
    data.to_parquet(content, index=False)
    artifacts.save_bytes(path_of(folder, table), content.getvalue(), made)


def read(folder: Path, table: str) -> pd.DataFrame:
    """A table of a results folder; a UserError where it is damaged, of another run, or of another version."""
    path = artifacts.verified(path_of(folder, table))
    if os.path.lexists(folder / FACTS):
        artifacts.must_be_of_one_call(path, folder / FACTS)
    data = _of_parquet(path)
    if problem := _problem(data, columns(OUTPUTS[table])):
        raise UserError(path, f"no table {table} of this version: {problem}", "", artifacts.make_again(path))
    return data


def _of_parquet(path: Path) -> pd.DataFrame:
    try:
        with files.reading(path):
            return pd.read_parquet(path)
    except UserError:
        raise
    except Exception as error:  # pyarrow passes on what its parsers raise
        raise UserError(path, "no table of lmstages", "", artifacts.make_again(path)) from error


def _problem(data: pd.DataFrame, declared: Sequence[Any]) -> str | None:
    """Where a frame is not as its table is declared; None where it is."""
    names = [column.name for column in declared]
    if list(data.columns) != names:
        different = sorted({*names} ^ {*map(str, data.columns)})
        return f"another {', '.join(different)}" if different else "its columns have another order"
    for column in declared:
        values = data[column.name]
        if str(values.dtype) != column.dtype:
            return f"{column.name} is {values.dtype}, not {column.dtype}"
        if not column.optional and values.isna().any():
            return f"{column.name} is empty in a row"
    return None


def read_results(path: str | Path) -> pd.DataFrame:
    """The results of a finished run: one line per (corpus, split, tokenizer, model), as ``schema`` declares.

    ``path`` is the run's folder, such as ``results/default``, or a file of one of its tables.
    """
    path = Path(path)
    if path.is_file():
        folder = path.parent if path.name == "results.parquet" else path.parent.parent
        if path.stem in OUTPUTS and path == path_of(folder, path.stem):
            return read(folder, path.stem)
        return _of_parquet(artifacts.verified(path))
    return read(finished(path), "results")


def finished(folder: Path) -> Path:
    """The folder itself, if a finished run lies there; else an error that says what is there."""
    if (folder / "results.parquet").is_file():
        return folder
    beside = folder.parent if folder.parent.is_dir() else Path("results")
    runs = sorted(str(path.parent) for path in beside.glob("*/results.parquet"))
    allowed = f"finished runs: {', '.join(runs)}" if runs else "a finished run's folder is results/RUN"
    problem = "no finished run lies here" if folder.is_dir() else f"no such folder{did_you_mean(str(folder), runs)}"
    problem = "is a file" if folder.is_file() else problem
    raise UserError(folder, problem, allowed, f"run {STARTER} to make it")


@dataclass(frozen=True)
class Results:
    """A results folder: its tables as frames, read when first asked for, and the text of its experiments."""

    folder: Path
    facts: Mapping[str, Any]  # run.json: {run, estimation}

    @classmethod
    def open(cls, folder: Path) -> "Results":
        """The results of a finished run."""
        return cls(finished(folder), artifacts.load_json(folder / FACTS, RunFacts))

    @cached_property
    def rows(self) -> list[Result]:
        """The rows of the one table, in the order of the report."""
        return rows("results", self.table("results"))

    def table(self, name: str) -> pd.DataFrame:
        """One of ``schema.TABLES``."""
        return read(self.folder, name)

    def records(self, name: str) -> list[Any]:
        """The same as typed rows."""
        return rows(name, self.table(name))

    def experiments(self, row: Result) -> list[Path]:
        """The folders of the experiments that a row was made of, one a seed."""
        model = row.ensemble_of or row.model
        return [self.folder / row.corpus / row.tokenizer / model / f"seed{seed}" for seed in row.seeds.split()]

    def samples(self, row: Result) -> list[dict[str, Any]]:
        """Sampled texts of a row's first seed, {temperature, text}; none where none were drawn."""
        return self._evaluation(row).get("samples", [])

    def passage(self, row: Result) -> list[list[Any]]:
        """The beginning of held-out text as the model read it, pieces [text, nats or None]; empty for other splits."""
        passage = self._evaluation(row).get("passage") or {"split": None, "pieces": []}
        return list(passage["pieces"]) if passage["split"] == row.split else []

    def _evaluation(self, row: Result) -> Mapping[str, Any]:
        folders = self.experiments(row)
        if row.status != "ok" or row.ensemble_of or not folders:
            return {}
        content: Mapping[str, Any] = artifacts.load_json(folders[0] / "evaluation.json", Evaluation)
        artifacts.must_be_current(folders[0] / "evaluation.json")
        return content


def hyperparameters(row: Result) -> dict[str, Any]:
    """The hyperparameters of a row, as the config has them."""
    content: dict[str, Any] = json.loads(row.hyperparameters)
    return content


def as_rows(items: Iterable[Mapping[str, Any]], row: type[Row], **shared: Any) -> Iterator[Row]:
    """Mappings -> typed rows; a key that is no column, or a column that is missing, is an error here."""
    return (row(**shared, **item) for item in items)


def groups(items: Sequence[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by some of their columns, in the order in which the keys come."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for item in items:
        grouped.setdefault(tuple(getattr(item, name) for name in names), []).append(item)
    return grouped


# ---------------------------------------------------------------- CSV


def csv_text(data: pd.DataFrame) -> str:
    """All rows with all digits; text that a spreadsheet would run as a formula gets an apostrophe before it."""
    safe = data.copy()
    for name in safe.columns[safe.dtypes == "string"]:
        safe[name] = safe[name].map(spreadsheet_text, na_action="ignore")
    return safe.to_csv(index=False, lineterminator="\n")
