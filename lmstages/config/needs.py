"""What a fit asks of the machine, estimated from its record: GPUs, cores, minutes, megabytes.

    training FLOPs = 6 P T        P: numbers in matrices, T: tokens seen (Kaplan et al. 2020, section 2.1)

An estimate errs on the side of more: a job that asks for too much waits a little, one that asks for too little is
killed and resumes. Profiles may overrule every one of them. Knows the ladder's records; never a file or a scheduler.
"""

from lmstages.ladder import Neural, Rung

GPU_FLOPS = 1e15  # from here on a GPU: 14 hours of a core
SEVERAL_CORES_FLOPS = 3e13  # from here on several cores: half an hour of one
CORES = 4
PER_CORE, PER_GPU = 2e10, 2e13  # FLOP/s that small matrices reach
SEVERAL = 3  # times the estimate, for slow machines and for scoring on the way
LEAST_MINUTES = 10
LEAST_MEGABYTES = 2000  # Python, torch and Snakemake twice: a job and the job that holds it
ALL_ROWS = 1024  # rows of a batch where the record says all of them
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def matrix_parameters(rung: Rung, vocab_size: int) -> int:
    """About how many numbers one prediction multiplies."""
    width = getattr(rung, "width", None)
    if hasattr(rung, "heads") and width:
        return 12 * int(getattr(rung, "layers", 1)) * width**2 + vocab_size * width
    hidden, layers = getattr(rung, "hidden", width) or vocab_size, max(1, getattr(rung, "layers", 1))
    if rung.name in GATES:
        return GATES[rung.name] * layers * hidden * (hidden + rung.embedding) + hidden * vocab_size  # type: ignore[attr-defined]
    read = (getattr(rung, "window", 1) or 1) * (getattr(rung, "embedding", None) or 1)
    return read * hidden + layers * hidden**2 + hidden * vocab_size


def training_flops(rung: Rung, vocab_size: int) -> float:
    """0 for what is counted."""
    if not isinstance(rung, Neural):
        return 0.0
    tokens = rung.steps * (rung.batch_size or ALL_ROWS) * rung.row_length
    return 6.0 * matrix_parameters(rung, vocab_size) * tokens


def gpus(rung: Rung, vocab_size: int) -> int:
    """1 for what would take a core most of a day, 0 for anything less and for all that is counted."""
    return int(training_flops(rung, vocab_size) >= GPU_FLOPS)


def cores(rung: Rung, vocab_size: int) -> int:
    """One, so that small fits run side by side; several for a long one. The bits of a fit depend on it."""
    return CORES if training_flops(rung, vocab_size) >= SEVERAL_CORES_FLOPS else 1


def minutes(rung: Rung, vocab_size: int) -> int:
    """A time limit; a fit that reaches it resumes in the next attempt."""
    flops, on_gpu = training_flops(rung, vocab_size), gpus(rung, vocab_size)
    speed = PER_GPU if on_gpu else PER_CORE * cores(rung, vocab_size)
    return LEAST_MINUTES + round(SEVERAL * flops / speed / 60)


def megabytes(rung: Rung, vocab_size: int, tokens_megabytes: float) -> int:
    """Memory for a fit: weights with their slopes and moments, a batch of activations, or counts of the tokens."""
    if not isinstance(rung, Neural):
        return round(LEAST_MEGABYTES + 60 * min(tokens_megabytes, 32) + 6 * tokens_megabytes)
    parameters = matrix_parameters(rung, vocab_size)
    rows = (rung.batch_size or ALL_ROWS) * rung.row_length
    activations = rows * (20 * int(getattr(rung, "layers", 1) or 1) * _widest(rung) + 3 * vocab_size)
    return round(LEAST_MEGABYTES + (24 * parameters + 4 * activations) / 1e6 + 2 * tokens_megabytes)


def _widest(rung: Rung) -> int:
    """The longest vector of numbers for one token."""
    return max(int(getattr(rung, key, None) or 0) for key in ("width", "hidden", "embedding")) or 1
