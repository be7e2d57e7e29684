"""What a person reads of a run: what it will do, how long it has left, what came out.

Sentences from a ``Workload`` and from results.csv; prints nothing, and imports neither pandas nor a scheduler.
"""

import csv
import math
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lmstages.config.workload import Workload
from lmstages.core.terminal import shown
from lmstages.results.formatting import decimal, interval

LINES = 10  # at most, of the head of a table
NARROWEST, WIDEST = 40, 100  # characters of a line
FAILURES = 5  # that are listed
NOUNS = {  # what a rule makes: one, several
    "download": ("download", "downloads"),
    "prepare": ("text to prepare", "texts to prepare"),
    "tokenize": ("text to tokenize", "texts to tokenize"),
    "fit": ("experiment to fit", "experiments to fit"),
    "derive": ("model to derive", "models to derive"),
    "mix": ("mixture", "mixtures"),
    "score_pretrained": ("pretrained model", "pretrained models"),
    "audit_scores": ("file of scores to audit", "files of scores to audit"),
    "evaluate": ("evaluation", "evaluations"),
    "probe": ("probe", "probes"),
    "infill": ("experiment to infill", "experiments to infill"),
    "infill_mixture": ("mixture to infill", "mixtures to infill"),
    "generate": ("experiment to draw from", "experiments to draw from"),
}
Row = Mapping[str, str]  # of results.csv


def plan(run: str, work: Workload, free_bytes: float) -> str:
    """Before the first job: the jobs by what they make, the time and by what it is known, the disk."""
    counts = Counter(job.rule_name for job in work.jobs.values())
    parts = [f"{count:,} {NOUNS[rule][count > 1]}" for rule in NOUNS if (count := counts.pop(rule, 0))]
    if counts:
        parts.append(f"{counts.total():,} {_plural('other', counts.total())}")
    jobs = f"run {run}, {len(work.jobs):,} {_plural('job', len(work.jobs))}: {', '.join(parts)}"
    return "\n".join(wrapped(sentence) for sentence in (jobs, _time(work), _disk(work, free_bytes)))


def _time(work: Workload) -> str:
    measured, guessed = work.measured(), len(work.jobs) - work.measured()
    basis = f"{measured:,} {_plural('job', measured)} as in the last run, {guessed:,} estimated"
    if not measured or not guessed:
        basis = "as in the last run" if measured else "estimated, since nothing was measured here yet"
    cores = f"on {work.cores} {_plural('core', work.cores)}" if work.cores else "or more, with a core for every job"
    return f"about {core_minutes(work.core_seconds)}, {roughly(work.seconds)} {cores} ({basis})"


def _disk(work: Workload, free_bytes: float) -> str:
    free = f", {megabytes(free_bytes)} free" if free_bytes < math.inf else ""
    return f"about {megabytes(work.size)} to write{free}{', too little' if work.size > free_bytes else ''}"


def progress(work: Workload, finished: Sequence[int], elapsed: float) -> str:
    """After a job: how many are done, the time that is left, the last of them."""
    last, total = work.jobs[finished[-1]], len(work.jobs)
    left = f"about {roughly(work.seconds_left(finished, elapsed))} left"
    if len(finished) == total:
        left = f"in {roughly(elapsed)}"
    return wrapped(f"{len(finished):,} of {total:,} jobs done, {left}; last: {last.name}")


def failure(run: str, failed: Mapping[str, str], done: int, total: int) -> str:
    """After a run that did not end well: what failed, each with its log, and what to do; ``failed``: name -> log."""
    lines = [f"run {run}: {done:,} of {total:,} jobs done, {f'{len(failed):,} failed' if failed else 'stopped'}"]
    lines += [f"  {name}: {log}" if log else f"  {name}" for name, log in list(failed.items())[:FAILURES]]
    if len(failed) > FAILURES:
        lines.append(f"  and {len(failed) - FAILURES:,} more")
    return "\n".join(wrapped(line) for line in [*lines, "the same command continues from here"])


def ending(folder: Path) -> str:
    """The head of the table of a run, if it can be read, and the path of the report, if there is one."""
    report = folder.absolute() / "report.html"
    lines = head(read_rows(folder / "results.csv"), folder)
    return "\n".join([*lines, *([f"report: {shown(str(report))}"] if report.is_file() else [])])


def read_rows(path: Path) -> list[Row]:
    """The lines of results.csv; none where it cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if {"bits_per_byte", "category"} <= set(row)]
    except (OSError, ValueError, csv.Error):
        return []


def head(rows: Sequence[Row], folder: Path) -> list[str]:
    """The best static models of each text, at most LINES lines: ``0.902 [0.893, 0.910]  Kneser-Ney, char``."""
    texts: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        texts.setdefault((row["corpus"], row["split"]), []).append(row)
    if not texts:
        return []
    titled = list(texts.items())[: (LINES - 1) // 2]
    room, extra = divmod(LINES - 1 - len(titled), len(titled))
    lines, listed = [], 0
    for index, ((corpus, split), of_text) in enumerate(titled):
        best = ranked(of_text)[: room + (index < extra)]
        listed += len(best)
        lines += [f"{corpus}, {split}: bits per byte{_oracle(of_text)}", *map(_line, best)]
    more = len(rows) - listed
    what = f"{more:,} more {_plural('row', more)}" if more else "all columns"
    return [wrapped(line) for line in [*lines, f"{what}: lmstages table {folder}"]]


def ranked(rows: Iterable[Row]) -> list[Row]:
    """The static models that have a score, the best first."""
    static = [row for row in rows if row["category"] == "static" and row["status"] == "ok"]
    return sorted((row for row in static if _number(row["bits_per_byte"]) is not None), key=_bits)


def _bits(row: Row) -> float:
    return _number(row["bits_per_byte"]) or 0.0


def _oracle(rows: Sequence[Row]) -> str:
    bits = next((_number(row["bits_per_byte"]) for row in rows if row["category"] == "oracle"), None)
    return "" if bits is None else f" (oracle {decimal(bits)})"


def _line(row: Row) -> str:
    bounds = [_number(row.get(f"bits_per_byte_{end}", "")) for end in ("low", "high")]
    digits = f"{decimal(_bits(row))} {interval(bounds)}" if None not in bounds else decimal(_bits(row))
    name = row["title"] if row["model"] == row["type"] else f"{row['title']} ({row['model']})"
    return f"  {digits}  {name}, {row['tokenizer']}"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def core_minutes(seconds: float) -> str:
    """``1 core-minute``, ``2.5 core-minutes``, ``1,200 core-minutes``."""
    minutes = seconds / 60
    text = f"{minutes:.1f}" if minutes < 9.95 else f"{minutes:,.0f}"
    return "1 core-minute" if text == "1.0" else f"{text} core-minutes"


def roughly(seconds: float) -> str:
    """``5 s``, ``40 s``, ``7 minutes``, ``2.5 hours``: no more digits than an estimate has."""
    if seconds < 90:
        return f"{max(5, 5 * math.ceil(seconds / 5))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"


def megabytes(size: float) -> str:
    """``1 MB``, ``240 MB``, ``2.1 GB``."""
    return f"{max(1, round(size / 1e6))} MB" if size < 9.995e8 else f"{size / 1e9:,.1f} GB"


def wrapped(line: str) -> str:
    """A line without control characters, in as many lines as the terminal's width asks for."""
    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(shown(line), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
