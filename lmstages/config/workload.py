"""What the jobs of a run will take, said before the first of them starts: seconds of each, the whole, the disk.

A job that is the same as in the last run (its section of the config, and those of all jobs that it reads from) takes as
long as its benchmark file says. Any other is estimated from its record and the size of its text. Reads small files and
writes none; imports no scheduler.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.needs import CHARACTERS, Factors, need
from lmstages.config.sections import Corpus
from lmstages.config.sources import SOURCES
from lmstages.config.text_files import size_of_files

DOCUMENT_BYTES = {"coined": 8, "fables": 770, "tinystories": 800}  # of one document, on average
HUB_BYTES = 1e9  # of a data set of the hub, which says its size nowhere that is read here
HUB_ROW_BYTES = 1000  # of one of its rows
EMBEDDED_BYTES = {"coined": 2.5e5, "fables": 2.3e6}  # of a corpus without a count


@dataclass(frozen=True)
class Job:
    """One job that will run; ``after`` are the keys of the jobs that it waits for."""

    key: int
    rule_name: str
    subject: str  # what it is done to: CORPUS, CORPUS/TOKENIZER or CORPUS/TOKENIZER/MODEL/seedN; empty for the run
    threads: int = 1
    section: str = ""  # its part of the config, as JSON
    outputs: tuple[Path, ...] = ()
    benchmark: Path | None = None
    after: frozenset[int] = frozenset()
    model: ModelConfig | None = None
    vocab_size: int = CHARACTERS
    text_bytes: float = 0.0  # of the corpus, with all splits

    @property
    def name(self) -> str:
        """``fit fables/char/gpt/seed0``."""
        return f"{self.rule_name} {self.subject}".strip()


class Estimate(NamedTuple):
    """Seconds that a job takes, bytes that it writes, and whether both are those of the last run."""

    seconds: float
    size: float
    is_measured: bool


@dataclass(frozen=True)
class Workload:
    """The jobs of a run with their estimates, and how many cores they share; 0 where a cluster has them."""

    jobs: Mapping[int, Job]
    estimates: Mapping[int, Estimate]
    cores: int

    @property
    def core_seconds(self) -> float:
        """The time of all jobs, each times its threads."""
        return sum(self.cost(key) for key in self.jobs)

    def cost(self, key: int) -> float:
        """Core-seconds of a job; one that asks for more cores than there are gets those."""
        threads = self.jobs[key].threads
        return self.estimates[key].seconds * (min(threads, self.cores) if self.cores else threads)

    @property
    def seconds(self) -> float:
        """Time on the clock: the longest chain of jobs, or all jobs on all cores, whichever is longer."""
        return max(self.core_seconds / self.cores if self.cores else 0.0, self._longest_chain())

    @property
    def size(self) -> float:
        """Bytes that all jobs write."""
        return sum(estimate.size for estimate in self.estimates.values())

    def measured(self) -> int:
        """How many jobs are the same as in the last run."""
        return sum(estimate.is_measured for estimate in self.estimates.values())

    def _longest_chain(self) -> float:
        ends: dict[int, float] = {}
        for key in in_order(self.jobs):
            begin = max((ends[other] for other in self.jobs[key].after if other in ends), default=0.0)
            ends[key] = begin + self.estimates[key].seconds
        return max(ends.values(), default=0.0)

    def seconds_left(self, finished: Iterable[int], elapsed: float) -> float:
        """Time on the clock until the end, at the pace so far; the estimate counts as a tenth of the run."""
        total = self.core_seconds
        done = sum(self.cost(key) for key in finished)
        if not total:
            return 0.0
        return (total - done) * (elapsed + 0.1 * self.seconds) / (done + 0.1 * total)


def workload(jobs: Sequence[Job], cores: int, factors: Mapping[str, Factors] | None = None) -> Workload:
    """The jobs with an estimate each; ``factors`` are those that this machine's earlier runs have shown."""
    by_key = {job.key: job for job in jobs}
    estimates: dict[int, Estimate] = {}
    for key in in_order(by_key):
        job = by_key[key]
        inputs_are_same = all(estimates[other].is_measured for other in job.after if other in estimates)
        seconds = _last_seconds(job) if inputs_are_same else None
        size = _last_size(job) if seconds is not None else None
        guess = _estimate(job, factors or {})
        estimates[key] = Estimate(
            guess.seconds if seconds is None else seconds, guess.size if size is None else size, seconds is not None
        )
    return Workload(by_key, estimates, cores)


def in_order(jobs: Mapping[int, Job]) -> list[int]:
    """The keys of jobs, each behind those that it waits for."""
    ordered: dict[int, None] = {}
    for root in jobs:
        waiting = [root]
        while waiting:
            before = [key for key in jobs[waiting[-1]].after if key in jobs and key not in ordered]
            if before:
                waiting += before
            else:
                ordered[waiting.pop()] = None
    return list(ordered)


def text_bytes(corpus: Corpus) -> float:
    """About the size of a corpus before it is there: of its file, of its source, or of so many documents."""
    if own := corpus.own():
        return size_of_files(own.values())
    if corpus.hub is not None:
        return float(corpus.count * HUB_ROW_BYTES) if corpus.count is not None else HUB_BYTES
    assert corpus.source is not None, "a corpus has a path or a source"
    if corpus.count is not None:
        return float(corpus.count * DOCUMENT_BYTES[corpus.source])
    if corpus.embedded:
        return EMBEDDED_BYTES[corpus.source]
    source = SOURCES[corpus.source]
    sizes = (variant.size for part in source.parts for variant in part.variants[:1])
    return float(sum(sizes)) or HUB_BYTES


def _last_seconds(job: Job) -> float | None:
    """How long the same job took the last time; None where it was another, or none."""
    if job.benchmark is None or not job.outputs:
        return None
    output = job.outputs[0]
    try:
        record = json.loads((output.parent / ".made" / f"{output.name}.json").read_text(encoding="utf-8"))
        if json.loads(job.section) != record["made"]["section"]:
            return None
        with job.benchmark.open(encoding="utf-8", newline="") as file:
            seconds = float(next(csv.DictReader(file, delimiter="\t"))["s"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration, csv.Error):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _last_size(job: Job) -> float | None:
    if not all(output.is_file() for output in job.outputs):
        return None
    return sum(_size(output) for output in job.outputs)


def _size(path: Path) -> float:
    try:
        return float(path.stat().st_size)
    except OSError:
        return 0.0


def _estimate(job: Job, factors: Mapping[str, Factors]) -> Estimate:
    needed = need(job.rule_name, job.text_bytes, job.model, job.vocab_size, factors)
    return Estimate(needed.seconds, needed.size, False)
