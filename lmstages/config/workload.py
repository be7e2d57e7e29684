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

from lmstages.config import resources
from lmstages.config.hyperparameters.base import Derived, ModelConfig
from lmstages.config.hyperparameters.neural import Autograd
from lmstages.config.sections import Corpus
from lmstages.config.sources import SOURCES
from lmstages.config.text_files import size_of_files

# Seconds of a job by its rule: to start, and for every megabyte of text; the default run on one core of 2024
SECONDS = {
    "download": (2.0, 1.0),
    "prepare": (0.5, 2.0),
    "tokenize": (0.5, 0.5),
    "overlap": (1.0, 0.3),
    "contrast": (1.3, 4.0),
    "compress": (0.5, 2.2),
    "oracle": (0.5, 6.6),
    "fit": (0.4, 0.8),
    "evaluate": (0.4, 1.0),
    "probe": (1.0, 0.5),
    "infill": (15.0, 0.0),
    "infill_mixture": (60.0, 0.0),
    "infill_oracle": (40.0, 0.0),
    "generate": (15.0, 1.0),
    "mix": (1.0, 0.5),
    "score_pretrained": (10.0, 20.0),
    "audit_scores": (0.7, 1.0),
    "analyse": (2.0, 1.0),
    "inspect": (2.0, 1.7),
    "report": (4.0, 0.0),
    "figures": (20.0, 0.0),
}
OTHER_SECONDS = (2.0, 0.0)
NETWORK_SECONDS = 2.0  # to import torch
FASTER = 2.4  # than the estimate behind time limits, which errs on the side of more: all fits of the default run
# Bytes that a job writes for every byte of its text, and at least
BYTES = {
    "download": (1.0, 0),
    "prepare": (1.1, 0),
    "tokenize": (3.0, 0),
    "fit": (4.0, 3_000),
    "evaluate": (1.0, 30_000),
    "mix": (1.0, 30_000),
    "score_pretrained": (1.0, 30_000),
    "audit_scores": (6.0, 3_000),
    "report": (0.0, 3_000_000),
    "figures": (0.0, 10_000_000),
}
OTHER_BYTES = (0.0, 100_000)
DOCUMENT_BYTES = {"coined": 8, "fables": 770, "tinystories": 800}  # of one document, on average
HUB_BYTES = 1e9  # of a data set of the hub, which says its size nowhere that is read here
HUB_ROW_BYTES = 1000  # of one of its rows
EMBEDDED_BYTES = {"coined": 2.5e5, "fables": 2.3e6}  # of a corpus without a count
CHARACTERS = 256  # of a vocabulary that is not known yet


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


def workload(jobs: Sequence[Job], cores: int) -> Workload:
    """The jobs with an estimate each."""
    by_key = {job.key: job for job in jobs}
    estimates: dict[int, Estimate] = {}
    for key in in_order(by_key):
        job = by_key[key]
        inputs_are_same = all(estimates[other].is_measured for other in job.after if other in estimates)
        seconds = _last_seconds(job) if inputs_are_same else None
        size = _last_size(job) if seconds is not None else None
        guess = _estimate(job)
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


def _estimate(job: Job) -> Estimate:
    start, per_megabyte = SECONDS.get(job.rule_name, OTHER_SECONDS)
    factor, least = BYTES.get(job.rule_name, OTHER_BYTES)
    seconds, size = start + per_megabyte * job.text_bytes / 1e6, least + factor * job.text_bytes
    if job.model is not None and job.model.family == "neural":
        seconds = NETWORK_SECONDS + per_megabyte * job.text_bytes / 1e6
        if job.rule_name in ("fit", "derive"):
            seconds = NETWORK_SECONDS + resources.fit_seconds(job.model, job.vocab_size) / FASTER
            size = least + 4.0 * _weights(job.model, job.vocab_size)
    return Estimate(seconds, size, False)


def _weights(model: ModelConfig, vocab_size: int) -> int:
    model = model.bottom if isinstance(model, Derived) else model
    return model.weights(vocab_size) if isinstance(model, Autograd) else resources.matrix_parameters(model, vocab_size)
