"""Sampling with a cache of keys and values against sampling without one, on the same random weights in one run.

    python benchmarks/sampling.py [--sizes small large] [--length 512] [--batch 256] [--rounds 3] [--threads 1]
                                  [--clock wall]

Without a cache a sampler reads, for every token it draws, all tokens of its row again. Both roll past the window in
the same strides (``lmstages/models/neural/decoding.py``), so that the same seed must give both the same text, which is
checked. A third sampler is the plain loop over ``next_log_probs``, which reads the last ``window`` tokens for every
token, as nanoGPT does; its text is the same up to the window.

What bounds a batch: keys and values of all rows are read from beyond the processor's inner caches for every token, so
that more than some 128 rows a core gain nothing; and rolling reads every token twice, so that with a small network, of
which a single row keeps a core busy already, a batch gains little more than half the window. A second core
(``--threads 2``) helps a batch far more than a single row.

Rounds alternate the samplers; each figure is the median of its rounds. ``--clock processor`` counts the process's own
time, for a machine that others use, and means what ``wall`` does at one thread alone. Prints tokens a second and ratios
to both samplers without a cache, at one text and at a batch. No test depends on it.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from lmstages.config.hyperparameters.attention import GPT
from lmstages.config.hyperparameters.neural import Neural
from lmstages.evaluation.sampling import sample
from lmstages.models.base import Recompute, build
from lmstages.models.neural.decoding import AttentionModel

VOCABULARY = 65
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
SIZES: dict[str, Neural] = {
    "small": GPT(),
    "large": GPT(layers=6, heads=6, width=384, window=256, row_length=256),
}


def random_model(config: Neural) -> AttentionModel:
    """A network of random weights, larger than a fresh one's, so that its texts are not noise."""
    model = build(config, VOCABULARY)
    assert isinstance(model, AttentionModel), "both sizes are GPT"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.network = model.build().eval()
        for weight in model.network.parameters():
            weight.data.mul_(2)
    return model


class Uncached:
    """The model as one that rolls in the same strides and reads its whole row for every token."""

    def __init__(self, model: AttentionModel) -> None:
        self.model, self.config, self.vocab_size = model, model.config, model.vocab_size

    def decoding_state(self, prefix: np.ndarray) -> "UncachedReader":
        """One row, read again and again."""
        return UncachedReader(self.model, prefix)


class UncachedReader:
    """(B, T) tokens behind a boundary, the older half dropped where the window is full."""

    def __init__(self, model: AttentionModel, prefix: np.ndarray) -> None:
        self.model, self.window = model, model.config.window
        self.rows = np.column_stack([np.zeros((len(prefix), 1), dtype=np.int64), prefix])[:, -self.window :]

    def log_probs(self) -> np.ndarray:
        """The whole row through the network."""
        with torch.inference_mode():
            logits = self.model._network(torch.from_numpy(self.rows))[:, -1]
            return logits.log_softmax(-1).double().numpy()

    def append(self, tokens: np.ndarray) -> None:
        """Roll, then add."""
        full = self.rows.shape[1] == self.window
        kept = self.rows[:, self.window - self.window // 2 :] if full else self.rows
        self.rows = np.column_stack([kept, tokens])


class Plain:
    """The model as one without a reader of its own: the last ``window`` tokens for every token."""

    def __init__(self, model: AttentionModel) -> None:
        self.model, self.config, self.vocab_size = model, model.config, model.vocab_size

    def decoding_state(self, prefix: np.ndarray) -> Recompute:
        """Asks ``next_log_probs``."""
        return Recompute(self.model, prefix)


def drawn(model: object, count: int, length: int) -> list[list[int]]:
    """``count`` texts as lists."""
    return [row.tolist() for row in sample(model, count, length, seed=0, stop_at_boundary=False)]  # type: ignore[arg-type]


def timed(work: Callable[[], list[list[int]]], clock: Callable[[], float]) -> tuple[float, list[list[int]]]:
    """Tokens a second, and the texts."""
    started = clock()
    texts = work()
    return sum(map(len, texts)) / (clock() - started), texts


def compare(name: str, length: int, batch: int, rounds: int, clock: Callable[[], float]) -> None:
    """Alternate the samplers and print what each does, and whether their texts are the same."""
    model = random_model(SIZES[name])
    samplers = {
        "cached": lambda: drawn(model, 1, length),
        "cached, batch": lambda: drawn(model, batch, length),
        "re-read row": lambda: drawn(Uncached(model), 1, length),
        "re-read window": lambda: drawn(Plain(model), 1, length),
    }
    speeds: dict[str, list[float]] = {kind: [] for kind in samplers}
    texts: dict[str, list[list[int]]] = {}
    drawn(model, 1, 8)
    for _ in range(rounds):
        for kind, work in samplers.items():
            speed, texts[kind] = timed(work, clock)
            speeds[kind].append(speed)
    told = {kind: median(found) for kind, found in speeds.items()}
    window = model.config.window
    assert texts["cached"] == texts["re-read row"], "the same seed gives the same text"
    assert texts["cached"][0][:window] == texts["re-read window"][0][:window], "and so up to the window"
    print(f"{name}: {model.parameters():,} parameters, window {window}, {length} tokens, batch {batch}")
    for kind, speed in told.items():
        ratios = "  ".join(f"{speed / told[slow]:6.1f} x {slow}" for slow in ("re-read row", "re-read window"))
        print(f"  {kind:<16}{speed:>12,.0f} tokens/s  {ratios}", flush=True)


def main() -> None:
    """Every size asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.sizes:
        compare(name, options.length, options.batch, options.rounds, CLOCKS[options.clock])


if __name__ == "__main__":
    main()
