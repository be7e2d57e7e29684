"""By how much a machine's jobs differ from the estimates of ``needs``, learned from the runs that it has finished.

Snakemake's benchmark files say what each job took (seconds, peak memory), the run's folder what it was done to (the
text, the model's record). The factors lie in needs.json of the folder that runs are started in, which the workflow
reads; without that file every factor is 1. Reads small files of a run; knows no scheduler.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.needs import COSTS, Factors, kind, need
from lmstages.config.sections import SPLITS, config_of
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.files import atomic_write

FILE = Path("needs.json")
SUFFIX = ".benchmark.tsv"
RULE_OF_FILE = {"score": "score_pretrained"}  # where a benchmark is not called as its rule
SHORTEST = 1.0  # seconds of a job that says something: a shorter one has started Python, or copied
SEEN_MEGABYTES = 45.0  # of a job that Snakemake looked at while it ran; Python with numpy has more
LEAST_MEMORY = 0.5  # factor: Snakemake looks every 30 s at a long job and may miss its peak
LARGEST = 1000.0
REMEDY = "remove it, or write it again: lmstages needs --learn results/RUN"


class Measured(NamedTuple):
    """A job of a finished run: its kind, and what it took as factors of the estimates."""

    kind: str
    seconds: float
    megabytes: float | None  # none where it ended before Snakemake looked


def read(path: Path = FILE) -> dict[str, Factors]:
    """The factors of a machine by kind of job; none where there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(path, f"cannot be read as JSON ({error})", "", REMEDY) from error
    if not isinstance(content, dict):
        raise UserError(path, f"holds a {type(content).__name__}", "allowed: factors by rule and model", REMEDY)
    return {name: _factors(path, name, values) for name, values in content.items()}


def _factors(path: Path, name: str, values: Any) -> Factors:
    if name.split(" ")[0] not in COSTS:
        hint = did_you_mean(name, COSTS)
        raise UserError(f"{path}: {name}", f"is no rule{hint}", "allowed: RULE, or RULE MODEL", REMEDY)
    if not isinstance(values, dict) or not set(values) <= set(Factors._fields):
        raise UserError(f"{path}: {name}", "is no factors", f"allowed: {', '.join(Factors._fields)}", REMEDY)
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
            allowed = f"allowed: a number above 0, at most {LARGEST:,.0f}"
            raise UserError(f"{path}: {name}: {key}", f"is {value!r}", allowed, REMEDY)
    return Factors(**values)


def write(factors: Mapping[str, Factors], path: Path = FILE) -> None:
    """The factors as the workflow reads them."""
    content = {name: values._asdict() for name, values in sorted(factors.items())}
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def learn(results: Sequence[Path]) -> tuple[dict[str, Factors], list[str]]:
    """The factors that finished runs show, and a line for each file that cannot be used.

    Time is the median of the jobs of a kind, memory the highest. Raises UserError for a folder without any job.
    """
    jobs: list[Measured] = []
    problems: list[str] = []
    for folder in results:
        logs = logs_of(folder)
        paths = sorted(logs.rglob(f"*{SUFFIX}"))
        if not paths:
            remedy = "give the folder of a finished run, results/RUN, with its logs in logs/RUN"
            raise UserError(folder, f"{logs} has no file *{SUFFIX}", "", remedy)
        for path in paths:
            try:
                jobs += _measured(folder, path.relative_to(logs), path)
            except UserError as error:
                problems.append(str(error))
    return _by_kind(jobs), problems


def logs_of(results: Path) -> Path:
    """results/RUN -> logs/RUN."""
    whole = results.absolute()
    return whole.parent.parent / "logs" / whole.name


def _by_kind(jobs: Sequence[Measured]) -> dict[str, Factors]:
    kinds: dict[str, list[Measured]] = {}
    for job in jobs:
        kinds.setdefault(job.kind, []).append(job)
    return {name: _of_kind(measured) for name, measured in kinds.items()}


def _of_kind(jobs: Sequence[Measured]) -> Factors:
    seconds = median(job.seconds for job in jobs)
    memory = max((job.megabytes for job in jobs if job.megabytes is not None), default=1.0)
    return Factors(_rounded(seconds), max(_rounded(memory), LEAST_MEMORY), len(jobs))


def _rounded(factor: float) -> float:
    return min(max(float(f"{factor:.3g}"), 1 / LARGEST), LARGEST)


def _measured(folder: Path, place: Path, path: Path) -> Iterator[Measured]:
    """A benchmark file as factors; nothing of a job that was too short. ``place``: its path below logs/RUN."""
    name = place.name.removesuffix(SUFFIX)
    rule = "audit_scores" if "reported" in place.parts[1:-1] else RULE_OF_FILE.get(name, name)
    if rule not in COSTS:
        raise UserError(path, "is of a rule that has no estimate", "", "it is left out")
    seconds, megabytes = _row(path)
    if seconds < SHORTEST:
        return
    facts = _facts(folder / place.parent)
    model = _model(facts, rule)
    vocab_size = int(facts.get("vocab_size") or 0) or 256
    text = sum(_size(folder / place.parts[0] / "text" / f"{split}.txt") for split in SPLITS)
    estimate = need(rule, text, model, vocab_size)
    memory = megabytes / estimate.megabytes if megabytes >= SEEN_MEGABYTES else None
    yield Measured(kind(rule, model), seconds / estimate.seconds, memory)


def _row(path: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of a benchmark file; 0 megabytes where Snakemake knows none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        seconds = float(row["s"])
        megabytes = 0.0 if row["max_rss"] in ("NA", "-", "") else float(row["max_rss"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration, csv.Error) as error:
        raise UserError(path, "is no table with a line of s and max_rss", "", "it is left out") from error
    if not (0 <= seconds < math.inf and 0 <= megabytes < math.inf):
        raise UserError(
            path, f"has s {seconds} and max_rss {megabytes}", "allowed: numbers, 0 or more", "it is left out"
        )
    return seconds, megabytes


def _facts(experiment: Path) -> dict[str, Any]:
    """fit.json of an experiment; empty where a job has none."""
    path = experiment / "fit.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(path, f"cannot be read as JSON ({error})", "", "its jobs are left out") from error
    return facts if isinstance(facts, dict) else {}


def _model(facts: Mapping[str, Any], rule: str) -> ModelConfig | None:
    """The record of a fitted model; none where the rule has no model or its class is not of the ladder."""
    if rule in ("mix", "infill_mixture", "score_pretrained", "audit_scores") or "hyperparameters" not in facts:
        return None
    try:
        return config_of({key: facts[key] for key in ("type", "hyperparameters")})
    except (UserError, KeyError):
        return None


def _size(path: Path) -> float:
    try:
        return float(path.stat().st_size)
    except OSError:
        return 0.0
