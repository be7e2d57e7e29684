"""What a fit needs of the machine, estimated from its record: GPUs, cores, minutes, megabytes.

    training FLOPs = 6 P T        P: numbers in matrices, T: tokens seen (Kaplan et al. 2020, section 2.1)

An estimate errs on the side of more: a job that asks for too much waits a little, one that asks for too little is
killed and resumes. Profiles may overrule every estimate. Knows the ladder's records; no file and no scheduler.
"""

import math
import os
from collections.abc import Mapping

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.neural import Autograd, Neural
from lmstages.config.own_models import Described

GPU_FLOPS = 1e15  # at least so many for a GPU: 14 hours of one core
PARALLEL_FLOPS = 3e13  # at least so many for CORES cores: half an hour of one
CORES = 4
PER_CORE, PER_GPU = 2e10, 2e13  # FLOP/s that small matrices reach
MARGIN = 3  # factor of the estimate, for slow machines and for evaluation during training
LEAST_MINUTES = 10
LEAST_MEGABYTES = 2000  # Python, torch and Snakemake twice: a job and the job that holds it
ALL_ROWS = 1024  # rows of a batch where batch_size is null: all of them
LARGEST_GIGABYTES = 4000  # more than one machine has
LEAST_VOCABULARY = 2
BYTES_DRAWN = {"coined": 300, "fables": 3000}  # of a document in memory while the text is drawn
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def matrix_parameters(config: ModelConfig, vocab_size: int) -> int:
    """About how many weights one prediction multiplies."""
    if isinstance(config, Described):
        return config.weights(vocab_size)
    width = getattr(config, "width", None)
    if hasattr(config, "heads") and width:
        return 12 * int(getattr(config, "layers", 1)) * width**2 + vocab_size * width
    hidden, layers = getattr(config, "hidden", width) or vocab_size, max(1, getattr(config, "layers", 1))
    if config.name in GATES:
        return GATES[config.name] * layers * hidden * (hidden + config.embedding) + hidden * vocab_size  # type: ignore[attr-defined]
    read = (getattr(config, "window", 1) or 1) * (getattr(config, "embedding", None) or 1)
    return read * hidden + layers * hidden**2 + hidden * vocab_size


def training_flops(config: ModelConfig, vocab_size: int) -> float:
    """Floating-point operations of a whole fit; 0 for counting models."""
    if not isinstance(config, Neural):
        return 0.0
    tokens = config.steps * (config.batch_size or ALL_ROWS) * config.row_length
    return 6.0 * matrix_parameters(config, vocab_size) * tokens


def gpus(config: ModelConfig, vocab_size: int) -> int:
    """One for each process, on all nodes, where one core would take most of a day, else 0."""
    return processes(config) * nodes(config) * int(training_flops(config, vocab_size) >= GPU_FLOPS)


def cores(config: ModelConfig, vocab_size: int) -> int:
    """Of a node, for each process: 1, so that small fits run side by side; CORES for a long fit.

    The bits of a fit depend on it.
    """
    return processes(config) * (CORES if training_flops(config, vocab_size) >= PARALLEL_FLOPS else 1)


def processes(config: ModelConfig) -> int:
    """How many share a fit on each node."""
    return int(getattr(config, "processes", 1))


def nodes(config: ModelConfig) -> int:
    """How many share a fit."""
    return int(getattr(config, "nodes", 1))


def fit_seconds(config: ModelConfig, vocab_size: int) -> float:
    """About how long a network is fitted, without margin; 0 for counting models."""
    if isinstance(config, Autograd):
        return config.seconds(vocab_size, config.examples)
    on_gpus, on_cores = gpus(config, vocab_size), nodes(config) * cores(config, vocab_size)
    return training_flops(config, vocab_size) / (PER_GPU * on_gpus or PER_CORE * on_cores)


def minutes(config: ModelConfig, vocab_size: int) -> int:
    """A time limit; a fit that reaches it resumes in the next attempt."""
    return LEAST_MINUTES + round(MARGIN * fit_seconds(config, vocab_size) / 60)


def megabytes(config: ModelConfig, vocab_size: int, tokens_megabytes: float) -> int:
    """Memory of a node for a fit: weights with their gradients and moments and activations, or counts of the tokens.

    Every process has weights of its own; all processes together have the activations of a batch, or of one pass.
    """
    if not isinstance(config, Neural):
        return round(LEAST_MEGABYTES + 60 * min(tokens_megabytes, 32) + 6 * tokens_megabytes)
    parameters = matrix_parameters(config, vocab_size)
    passed = config.batch_size or ALL_ROWS
    if config.micro_batch is not None:
        passed = min(passed, config.micro_batch * config.processes)
    rows = passed * config.row_length
    activations = rows * (20 * int(getattr(config, "layers", 1) or 1) * _widest(config) + 3 * vocab_size)
    of_a_process = 24 * parameters / 1e6 + 2 * tokens_megabytes
    return round(LEAST_MEGABYTES + config.processes * of_a_process + 4 * activations / 1e6)


def too_large(config: ModelConfig) -> str:
    """Why no machine can fit a model, in words; empty where one could. The vocabulary is not known yet."""
    needed = megabytes(config, LEAST_VOCABULARY, 0) / 1000
    return f"needs about {needed:,.0f} GB of memory to fit" if needed > LARGEST_GIGABYTES else ""


def larger_than(
    machine_megabytes: float, models: Mapping[str, ModelConfig], counts: Mapping[str, tuple[str, int]] | None = None
) -> list[str]:
    """Sentences on what needs more memory than a machine has: fits, by the estimate of ``megabytes``, and texts.

    ``counts``: {corpus: (embedded source, documents)}.
    """
    needs = {name: megabytes(config, LEAST_VOCABULARY, 0) for name, config in models.items()}
    drawn = {name: 1000 * drawn_gigabytes(*source) for name, source in (counts or {}).items()}
    machine = f"this machine has {machine_megabytes / 1000:,.1f} GB"
    return [
        f"models.{name} needs about {needed / 1000:,.1f} GB of memory to fit, {machine}; lower its widths or batches"
        for name, needed in needs.items()
        if needed > max(machine_megabytes, LEAST_MEGABYTES)
    ] + [
        f"corpora.{name} needs about {needed / 1000:,.1f} GB of memory to be drawn, {machine}; lower its count"
        for name, needed in drawn.items()
        if needed > machine_megabytes
    ]


def drawn_gigabytes(source: str, count: int) -> float:
    """The memory for so many documents of an embedded corpus, which are drawn at once."""
    return BYTES_DRAWN[source] * count / 1e9


def machine_megabytes() -> float:
    """The memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6


def _widest(config: ModelConfig) -> int:
    """The length of the longest vector for one token; of a model of one's own that of one large matrix."""
    if isinstance(config, Described):
        return max(1, math.isqrt(config.weights(0)))
    return max(int(getattr(config, key, None) or 0) for key in ("width", "hidden", "embedding")) or 1
