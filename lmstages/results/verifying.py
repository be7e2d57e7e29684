"""Reads every file of a run's folder again: is each what was written, in its place, from what lies beside it now?

Snakemake looks at times alone, so that a flipped bit or a replaced file that keeps its time is never noticed by it.
Imports no model and no pandas.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.results.explaining import call_of
from lmstages.results.frame import finished

DIFF = "diff"  # the folder of ``lmstages diff``, which no rule makes


def verify(run: Path) -> Iterator[str]:
    """A line for every file that is not what was written, then one of how many were read.

    At the end raises UserError, with the commands that make such files again, where there are any.
    """
    run, problems = finished(run), dict[Path, str]()
    files = list(_files(run))
    for path in files:
        if problem := _problem(path):
            problems[path] = problem
            yield f"{path}: {problem}"
    for path in _missing(run):
        problems[path] = "is missing, though it has a record"
        yield f"{path}: {problems[path]}"
    yield f"{len(files):,} files of {run} read, {len(problems):,} damaged or missing"
    if problems:
        counts = f"{len(problems):,} of {len(files):,} files are not what was written"
        raise UserError(run, counts, "", f"make them again: {_remedy(run, list(problems))}")


def _files(run: Path) -> Iterator[Path]:
    """All files but hidden ones, which hold records and what Snakemake notes."""
    paths = (path for path in sorted(run.rglob("*")) if path.is_file())
    return (path for path in paths if not any(part.startswith(".") for part in path.relative_to(run).parts))


def _missing(run: Path) -> Iterator[Path]:
    """Files that have a record and are gone."""
    for record in sorted(run.rglob(f"{artifacts.RECORDS}/*.json")):
        path = record.parents[1] / record.name.removesuffix(".json")
        if not path.is_file():
            yield path


def _problem(path: Path) -> str | None:
    """Why a file is not what was written, or not from the inputs that lie in the run now; None for one that is."""
    try:
        artifacts.must_be_current(artifacts.verified(path))
    except UserError as error:
        return str(error).partition("; delete")[0].removeprefix(f"{path}: ")
    return None


def _remedy(run: Path, paths: list[Path]) -> str:
    """The call that makes files again, with all that depends on them; a figure is remade with all others."""
    by_hand = [path for path in paths if path.relative_to(run).parts[0] == DIFF]
    figures = run / "figures"
    jobs = dict.fromkeys(figures if figures in path.parents else path for path in paths if path not in by_hand)
    commands = [shlex.join(["rm", *map(str, by_hand)])] if by_hand else []
    if jobs:
        commands.append(call_of(run, list(jobs)))
    return " && ".join(commands)
