"""What the job of every rule needs: memory, time, cores, GPUs, disk, from its record and the size of its text.

``need`` is the estimate, without margin; ``asked_megabytes`` and ``asked_minutes`` are what a scheduler is told, more
at each attempt. The figures are those of jobs on one core of 2024, as benchmark files and the kernel's own count of
peak memory gave them: the default run (texts of 0.24 and 2.3 MB), runs/tiny.yaml, and a run of the same models on 9.2
MB of fables. ``lmstages needs --learn`` writes factors by which a machine differs from them (``learned``). Reads
nothing, and computes nothing that takes longer than a multiplication: every job of a cluster asks it anew.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from lmstages.config import resources
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.neural import Autograd

CHARACTERS = 256  # of a vocabulary that is not known yet
HELD_OUT = 0.1  # of a text is scored, by the default split
MARGIN = 3  # of time, for slow machines and for evaluation during training
LEAST_MINUTES = 10
LONGEST_JOB = 7 * 24 * 60  # minutes; few partitions allow more
MEMORY_MARGIN = 1.5
SNAKEMAKE_MEGABYTES = 500  # of the job that Snakemake starts within a job, and of what holds it
MOST_RAISED = 3  # factor of memory and time at most


class Factors(NamedTuple):
    """By how much the jobs of one kind differ from the figures of this file; of how many jobs that is known."""

    seconds: float = 1.0
    megabytes: float = 1.0
    jobs: int = 0


class Need(NamedTuple):
    """Memory at its peak, time, cores and GPUs of a job, bytes that it writes, and whether it goes on where it was cut.

    All without margin.
    """

    megabytes: float
    seconds: float
    cores: int = 1
    gpus: int = 0
    size: float = 0.0
    resumes: bool = False


class Cost(NamedTuple):
    """Seconds and megabytes of a job: at the start, and for every megabyte of text. Bytes that it writes: the same."""

    seconds: float
    seconds_per_megabyte: float = 0.0
    megabytes: float = 70.0
    megabytes_per_megabyte: float = 0.0
    size: float = 100_000
    size_per_byte: float = 0.0

    def of(self, text_bytes: float) -> Need:
        """For a text of so many bytes."""
        text = text_bytes / 1e6
        return Need(
            self.megabytes + self.megabytes_per_megabyte * text,
            self.seconds + self.seconds_per_megabyte * text,
            size=self.size + self.size_per_byte * text_bytes,
        )


COSTS = {
    "download": Cost(2.0, 1.0, 60, 0, 0, 1.0),
    "download_hub": Cost(5.0, 1.0, 200, 0, 0, 1.0),
    "prepare": Cost(0.5, 0.9, 60, 4, 0, 1.1),
    "tokenize": Cost(0.5, 0.6, 70, 34, 0, 3.0),
    "overlap": Cost(1.0, 0.2, 240, 10),
    "contrast": Cost(0.8, 2.0, 70, 9),
    "compress": Cost(0.5, 2.2, 140, 3),
    "oracle": Cost(3.0, 4.0, 280, 3),
    "fit": Cost(0.4, 0.0, 70, 0, 3_000, 4.0),
    "derive": Cost(0.5, 0.0, 70, 0, 100_000),
    "quantization_error": Cost(1.0, 0.0, 70, 2),
    "evaluate": Cost(0.4, 0.1, 75, 8, 30_000, 1.0),
    "probe": Cost(0.5, 0.1, 80, 4),
    "infill": Cost(15.0, 0.0, 80, 8),
    "infill_mixture": Cost(60.0, 0.0, 350, 8),
    "infill_oracle": Cost(40.0, 0.0, 300, 3),
    "generate": Cost(15.0, 1.0, 80, 8),
    "mix": Cost(1.0, 0.5, 80, 10, 30_000, 1.0),
    "score_pretrained": Cost(10.0, 20.0, 2000, 10, 30_000, 1.0),
    "audit_scores": Cost(0.7, 1.0, 80, 10, 3_000, 6.0),
    "analyse": Cost(2.0, 2.0, 230, 40),
    "inspect": Cost(3.5, 1.0, 450, 4),
    "summarize": Cost(2.0, 0.0, 215),
    "report": Cost(4.0, 0.0, 180, 0, 3_000_000),
    "figures": Cost(20.0, 0.0, 320, 0, 10_000_000),
    "verdict": Cost(0.7, 0.0, 160, 0, 1_000),
}
OTHER = Cost(2.0)
CORES = {"figures": 2}
CORES_AT_MOST = 8  # of a fit, one for each GPU of a machine
NETWORK_SECONDS = 2.0  # to import torch
STREAMED = 2  # a window of attention moves by half of itself, so that each token is computed twice
PROBED_TOKENS = 8_000  # drawn from every model
FORWARD, BYTES_OF_A_NUMBER = 2, 4  # FLOPs and bytes of a weight
OBJECT_BYTES = 1_000  # of a weight of autograd
NGRAM_BYTES = 16
DENSE = ("uniform", "unigram", "bigram")  # these store no more n-grams than there can be
COMPILED_SECONDS, COMPILED_MEGABYTES = 1.0, 130  # more than Python: numba, which compiles the loops of these types
COMPILED = ("cache", "ppm", "context_mixing", "infini_gram")
DECODING = ("ppm", "context_mixing")  # online, these copy all counts for every text that they write at once
DECODING_MEGABYTES = 1_600
PAGES_PER_MEGABYTE, MOST_PAGES = 3, 4_000  # of tokens that a network reads from the disk; the system may take them back


class Counting(NamedTuple):
    """Seconds and megabytes to fit a counting model and to score with it, for a megabyte of text and every order."""

    fit_seconds: float
    fit_megabytes: float
    score_seconds: float
    score_megabytes: float


COUNTING = {
    "uniform": Counting(0.0, 2, 0.02, 2),
    "unigram": Counting(0.15, 13, 0.05, 3),
    "bigram": Counting(0.15, 13, 0.05, 3),
    "ngram": Counting(0.1, 8, 0.02, 2),
    "kneser_ney": Counting(0.1, 4, 0.03, 2),
    "infini_gram": Counting(3.0, 100, 0.5, 60),
    "cache": Counting(0.1, 8, 0.3, 8),
    "ppm": Counting(0.2, 4, 0.1, 3),
    "context_mixing": Counting(0.8, 20, 0.2, 50),
}
OTHER_COUNTING = Counting(1.0, 30, 0.5, 20)


def kind(rule_name: str, model: ModelConfig | None = None) -> str:
    """The jobs that share their factors: ``fit gpt``, or the rule's name where it has no model."""
    return f"{rule_name} {model.name}" if model is not None else rule_name


def need(
    rule_name: str,
    text_bytes: float,
    model: ModelConfig | None = None,
    vocab_size: int = CHARACTERS,
    factors: Mapping[str, Factors] | None = None,
) -> Need:
    """The estimate for a job, by its rule, the size of the corpus, and the record and the vocabulary of its model."""
    estimate = COSTS.get(rule_name, OTHER).of(text_bytes)._replace(cores=CORES.get(rule_name, 1))
    if model is not None and model.family == "neural":
        estimate = _of_network(rule_name, estimate, text_bytes, model, vocab_size)
    elif model is not None:
        estimate = _of_counts(rule_name, estimate, text_bytes / 1e6, model, vocab_size)
    known = factors or {}
    factor = known.get(kind(rule_name, model)) or known.get(rule_name) or Factors()
    return estimate._replace(seconds=factor.seconds * estimate.seconds, megabytes=factor.megabytes * estimate.megabytes)


def _of_counts(rule_name: str, base: Need, text: float, model: ModelConfig, vocab_size: int) -> Need:
    costs = COUNTING.get(model.name, OTHER_COUNTING)
    order = max(getattr(model, "orders", (getattr(model, "order", 1),)))
    most = COSTS["fit"].size + NGRAM_BYTES * float(vocab_size) ** order  # every n-gram that there can be
    compiled = model.name in COMPILED or model.name not in COUNTING
    held = COMPILED_MEGABYTES * compiled
    if rule_name == "fit":
        seconds, megabytes = costs.fit_seconds, costs.fit_megabytes
    else:
        seconds, megabytes = costs.score_seconds, costs.score_megabytes
        held += DECODING_MEGABYTES * (rule_name == "probe" and model.category == "online" and model.name in DECODING)
    return base._replace(
        seconds=base.seconds + COMPILED_SECONDS * compiled + seconds * order * text,
        megabytes=base.megabytes + held + megabytes * order * text,
        size=min(base.size, most) if rule_name == "fit" and model.name in DENSE else base.size,
    )


def _of_network(rule_name: str, base: Need, text_bytes: float, model: ModelConfig, vocab_size: int) -> Need:
    weights = resources.matrix_parameters(model, vocab_size)
    pages = min(PAGES_PER_MEGABYTE * text_bytes / 1e6, MOST_PAGES)
    if rule_name == "fit":
        return _of_fit(base, weights, pages, model, vocab_size)
    gpus = min(1, resources.gpus(model, vocab_size)) if rule_name == "evaluate" else 0
    tokens = STREAMED * HELD_OUT * text_bytes if rule_name == "evaluate" else PROBED_TOKENS
    reads = resources.reads_in_scoring(model) if rule_name == "evaluate" else 1
    flops = FORWARD * weights * tokens * reads
    seconds = base.seconds + NETWORK_SECONDS + flops / (resources.flops_per_gpu(model) if gpus else resources.PER_CORE)
    python = 0 if isinstance(model, Autograd) else resources.TORCH_MEGABYTES - resources.PYTHON_MEGABYTES
    held = python + 2 * BYTES_OF_A_NUMBER * weights / 1e6
    size = base.size + BYTES_OF_A_NUMBER * weights * (rule_name == "derive")
    return Need(base.megabytes + held, seconds, 1, gpus, size)


def _of_fit(base: Need, weights: int, pages: float, model: ModelConfig, vocab_size: int) -> Need:
    size = COSTS["fit"].size + BYTES_OF_A_NUMBER * weights
    if isinstance(model, Autograd):
        held = resources.PYTHON_MEGABYTES + OBJECT_BYTES * weights / 1e6
        return Need(held + pages, base.seconds + resources.fit_seconds(model, vocab_size), size=size)
    gpus = resources.gpus(model, vocab_size)
    held = (resources.host_megabytes if gpus else resources.megabytes)(model, vocab_size)
    seconds = NETWORK_SECONDS + resources.fit_seconds(model, vocab_size)
    return Need(
        held + pages, seconds, max(resources.cores(model, vocab_size), min(gpus, CORES_AT_MOST)), gpus, size, True
    )


def asked_megabytes(needed: Need, attempt: int = 1) -> int:
    """Memory that a job asks for: its estimate with a margin, half as much again at each further attempt."""
    raised = min(1 + 0.5 * (attempt - 1), MOST_RAISED)
    return 100 * math.ceil(raised * (SNAKEMAKE_MEGABYTES + MEMORY_MARGIN * needed.megabytes) / 100)


def asked_minutes(needed: Need, attempt: int = 1) -> int:
    """A time limit: the estimate with a margin, as much again at each further attempt of a job that starts anew."""
    raised = 1 if needed.resumes else min(attempt, MOST_RAISED)
    return min(raised * (LEAST_MINUTES + round(MARGIN * needed.seconds / 60)), LONGEST_JOB)
