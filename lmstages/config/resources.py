"""What a fit needs of the machine, estimated from its record: GPUs, cores, seconds, megabytes.

    training FLOPs = 6 P T        P: numbers in matrices, T: tokens seen (Kaplan et al. 2020, section 2.1)
    bytes of a GPU = P (4 + 4 + 8 + 4) + A T / G       weights, gradients, two moments, the best weights so far;
                     A: bytes of activations of a token (Korthikanti et al. 2022, section 4.1), G: GPUs

These are estimates without margin; ``needs`` makes of them what a job asks for. Knows the ladder's records; no file and
no scheduler.
"""

import math
import os
from collections.abc import Mapping

from lmstages.config.hyperparameters.base import Derived, ModelConfig
from lmstages.config.hyperparameters.diffusion import (
    ENUMERATED,
    BlockDiffusion,
    Bound,
    Diffusion,
    NoisyWindow,
    Sundae,
)
from lmstages.config.hyperparameters.neural import Autograd, MinimalRecurrent, Neural
from lmstages.config.own_models import Described

GPU_FLOPS = 1e15  # at least so many for a GPU: about 6 hours of one core
PARALLEL_FLOPS = 3e13  # at least so many for CORES cores: 10 minutes of one
CORES = 4
PER_CORE = 4.8e10  # FLOP/s that small matrices reach; all fits of the default run on one core of 2024
# FLOP/s of a GPU in bfloat16 for each number of the width, and at most: nanoGPT's README has 2.9e13 at width 384 (10.7
# million parameters in 3 minutes) and 7.9e13 at width 768 (124 million in 4 days on 8 GPUs, 600,000 steps of 491,520
# tokens), both on A100, whose peak is 3.12e14: 9 % and 25 % of it. No GPU was measured here
PER_GPU_AND_WIDTH, MOST_PER_GPU = 1e11, 1.2e14
PARALLEL_EFFICIENCY = 0.9  # of each of several GPUs
GPU_BYTES = 72e9  # nine tenths of one of 80 GB
MOST_GPUS, GPUS_OF_A_NODE = 64, 8
LONGEST_FIT = 2 * 86400.0  # seconds, beyond which a fit asks for more GPUs
STATE_BYTES = 20  # for every weight: weight, gradient, two moments, the best so far
AVERAGE_BYTES = 4  # and its average
LAYER_FLOATS = 20  # of every number of a layer's width, kept for the gradient
LOGIT_FLOATS = 3  # of every entry of the vocabulary: logits, their softmax, its gradient
HALF_LAYER_BYTES, HALF_LOGIT_BYTES = 34, 10  # the same on a GPU in bfloat16 with attention that keeps no matrix
HOST_BYTES = 24  # for every weight where the GPU holds the fit: a resume point, twice while it is written
PROCESS_MEGABYTES = 3000  # of main memory for each GPU: torch with its CUDA libraries
TORCH_MEGABYTES = 320  # a network that is fitted, without its weights and batches; counting needs 60
PYTHON_MEGABYTES = 70
ALL_ROWS = 1024  # rows of a batch where batch_size is null: all of them
LARGEST_GIGABYTES = 4000  # more than one machine has
LEAST_VOCABULARY = 2
BYTES_DRAWN = {"coined": 300, "fables": 3000}  # of a document in memory while the text is drawn
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def matrix_parameters(config: ModelConfig, vocab_size: int) -> int:
    """About how many weights one prediction multiplies; of a model made from another, the other's."""
    config = config.bottom if isinstance(config, Derived) else config
    if isinstance(config, Described | Autograd | MinimalRecurrent):
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
    return 6.0 * matrix_parameters(config, vocab_size) * tokens * reads_in_training(config)


def reads_in_training(config: ModelConfig) -> int:
    """How many times a step reads each token of its rows: a noisy and a clean copy, or one draft after another."""
    if isinstance(config, Sundae):
        return config.unrolled
    return 1 + isinstance(config, BlockDiffusion)


def reads_in_scoring(config: ModelConfig) -> int:
    """How many times a token is read to score it: once for each place of its block, or for each noisy copy."""
    if isinstance(config, Bound) and not (isinstance(config.base, BlockDiffusion) and config.base.block <= ENUMERATED):
        return config.samples
    of = config.bottom if isinstance(config, Derived) else config
    if isinstance(of, NoisyWindow):
        return of.samples
    return of.block_length * reads_in_training(of) if isinstance(of, Diffusion) else 1


def gpus(config: ModelConfig, vocab_size: int) -> int:
    """One for each process, on all nodes, where one core would take most of a day, else 0."""
    return processes(config) * nodes(config) * int(training_flops(config, vocab_size) >= GPU_FLOPS)


def gpus_wanted(config: ModelConfig, vocab_size: int) -> int:
    """As many, a power of two, as hold the batch and end within days; 0 where one core ends within hours."""
    flops = training_flops(config, vocab_size)
    if flops < GPU_FLOPS:
        return 0
    by_time = flops / (flops_per_gpu(config) * LONGEST_FIT)
    wanted = max(by_time, _gpus_by_memory(config, vocab_size), 1.0)
    return min(2 ** math.ceil(math.log2(wanted)), MOST_GPUS)


def _gpus_by_memory(config: ModelConfig, vocab_size: int) -> float:
    """Each holds all states and its rows of the batch; where states alone fill one, these are sharded, too."""
    states, activations = state_bytes(config, vocab_size), activation_bytes(config, vocab_size, on_gpu=True)
    if states < GPU_BYTES / 2:
        return activations / (GPU_BYTES - states)
    return (states + activations) / GPU_BYTES


def gpu_megabytes(config: ModelConfig, vocab_size: int) -> float:
    """Memory of each GPU of a fit: its rows of a pass, and all states or, sharded, its part of them."""
    count = max(1, gpus(config, vocab_size))
    states, activations = state_bytes(config, vocab_size), activation_bytes(config, vocab_size, on_gpu=True)
    return (states / (count if is_sharded(config) else 1) + activations / count) / 1e6


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
    """About how long a network is fitted with what it asks for, without margin; 0 for counting models."""
    if isinstance(config, Autograd):
        return config.seconds(vocab_size, config.examples)
    return training_flops(config, vocab_size) / flops_per_second(config, vocab_size)


def flops_per_second(config: ModelConfig, vocab_size: int) -> float:
    """What the GPUs or the cores that a fit asks for compute in a second."""
    count = gpus(config, vocab_size)
    if not count:
        return PER_CORE * nodes(config) * cores(config, vocab_size)
    return flops_per_gpu(config) * count * (PARALLEL_EFFICIENCY if count > 1 else 1.0)


def is_sharded(config: ModelConfig) -> bool:
    """Whether its processes divide the weights among them."""
    return getattr(config, "sharding", "none") == "full"


def flops_per_gpu(config: ModelConfig) -> float:
    """FLOP/s of one GPU: in proportion to the width, up to what large matrices reach."""
    return min(PER_GPU_AND_WIDTH * _widest(config), MOST_PER_GPU)


def state_bytes(config: ModelConfig, vocab_size: int) -> float:
    """Weights, gradients, moments, the best weights and their average."""
    averaged = getattr(config, "averaging", "none") != "none"
    return float(matrix_parameters(config, vocab_size) * (STATE_BYTES + AVERAGE_BYTES * averaged))


def activation_bytes(config: ModelConfig, vocab_size: int, on_gpu: bool = False) -> float:
    """What all processes keep of a batch, or of one pass over some of its rows, for the gradient."""
    passed = getattr(config, "batch_size", 1) or ALL_ROWS
    if (micro_batch := getattr(config, "micro_batch", None)) is not None:
        passed = min(passed, micro_batch * processes(config) * nodes(config))
    rows = passed * getattr(config, "row_length", 1)
    layer, logits = (HALF_LAYER_BYTES, HALF_LOGIT_BYTES) if on_gpu else (4 * LAYER_FLOATS, 4 * LOGIT_FLOATS)
    width = int(getattr(config, "layers", 1) or 1) * _widest(config)
    return float(rows * (layer * width + logits * vocab_size))


def megabytes(config: ModelConfig, vocab_size: int) -> float:
    """Main memory of a node for a network that is fitted on cores: weights, gradients and moments, its rows of a batch.

    Every process has all of the former, or its part where they are sharded.
    """
    copies = processes(config) if not is_sharded(config) else 1 / nodes(config)
    held = copies * (state_bytes(config, vocab_size) + 4 * matrix_parameters(config, vocab_size))
    activations = activation_bytes(config, vocab_size) / nodes(config)
    return TORCH_MEGABYTES * processes(config) + (held + activations) / 1e6


def host_megabytes(config: ModelConfig, vocab_size: int) -> float:
    """Main memory of one machine whose GPUs hold the fit."""
    return PROCESS_MEGABYTES * processes(config) + HOST_BYTES * matrix_parameters(config, vocab_size) / 1e6


def too_large(config: ModelConfig) -> str:
    """Why no machine can fit a model, in words; empty where one could. The vocabulary is not known yet."""
    needed = _fitted_megabytes(config) / 1000
    return f"needs about {needed:,.0f} GB of memory to fit" if needed > LARGEST_GIGABYTES else ""


def larger_than(
    machine_megabytes: float, models: Mapping[str, ModelConfig], counts: Mapping[str, tuple[str, int]] | None = None
) -> list[str]:
    """Sentences on what needs more memory than a machine has: fits, by the estimate of ``megabytes``, and texts.

    ``counts``: {corpus: (embedded source, documents)}.
    """
    needs = {name: _fitted_megabytes(config) for name, config in models.items()}
    drawn = {name: 1000 * drawn_gigabytes(*source) for name, source in (counts or {}).items()}
    machine = f"this machine has {machine_megabytes / 1000:,.1f} GB"
    return [
        f"models.{name} needs about {needed / 1000:,.1f} GB of memory to fit, {machine}; lower its widths or batches"
        for name, needed in needs.items()
        if needed > max(machine_megabytes, TORCH_MEGABYTES)
    ] + [
        f"corpora.{name} needs about {needed / 1000:,.1f} GB of memory to be drawn, {machine}; lower its count"
        for name, needed in drawn.items()
        if needed > machine_megabytes
    ]


def _fitted_megabytes(config: ModelConfig) -> float:
    """The least memory for a fit, before a text is known."""
    return megabytes(config, LEAST_VOCABULARY) if isinstance(config, Neural) else PYTHON_MEGABYTES


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
