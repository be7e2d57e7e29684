"""Sampling with and without a KV cache, on the same random weights in one run.

    python benchmarks/sampling.py [--sizes small large blocks] [--length 512] [--batch 256] [--rounds 3] [--threads 1]
                                  [--clock wall]

Without a cache a sampler recomputes all tokens of its row for every token it draws. Both move past the window by the
same strides (``lmstages/models/neural/decoding.py``), so the same seed must give both the same text, which is checked.
A third sampler is the plain loop over ``next_log_probs``, which recomputes the last ``window`` tokens for every token,
as nanoGPT does; its text is the same up to the window. ``blocks`` is a block diffusion model of the size of ``small``,
blocks of 4, from left to right; it has no sampler that recomputes a row.

What limits a batch: the keys and values of all rows do not fit the processor's inner caches, so more than about 128
rows per core gain nothing; and moving by strides computes every token twice, so with a small network, where a single
row already keeps a core busy, a batch gains little more than a factor of half the window. A second core (``--threads
2``) helps a batch far more than a single row.

Samplers are alternated; every figure is the median over rounds. ``--clock processor`` measures the process's own time,
for a machine that others use as well; it equals ``wall`` on one thread only. Prints tokens per second and ratios to
both samplers without a cache, for one text and for a batch. No test depends on it.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from lmstages.config.hyperparameters.attention import GPT
from lmstages.config.hyperparameters.diffusion import BlockDiffusion
from lmstages.config.hyperparameters.neural import Neural
from lmstages.evaluation.sampling import sample
from lmstages.models.base import Recompute, build
from lmstages.models.neural.base import NeuralModel
from lmstages.models.neural.decoding import AttentionModel

VOCABULARY = 65
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
SIZES: dict[str, Neural] = {
    "small": GPT(),
    "large": GPT(layers=6, heads=6, width=384, window=256, row_length=256),
    "blocks": BlockDiffusion(layers=4, heads=4, width=128, window=128, row_length=128),
}


def random_model(config: Neural) -> NeuralModel:
    """A network of random weights, twice as large as at initialisation, so that its texts are not noise."""
    model = build(config, VOCABULARY)
    assert isinstance(model, NeuralModel), "all sizes are networks"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.network = model.build().eval()
        for weight in model.network.parameters():
            weight.data.mul_(2)
    return model


class Uncached:
    """The model with a decoding state that moves by the same strides but recomputes its whole row for every token."""

    def __init__(self, model: AttentionModel) -> None:
        self.model, self.config, self.vocab_size = model, model.config, model.vocab_size

    def decoding_state(self, prefix: np.ndarray) -> "UncachedState":
        """The decoding state after this prefix."""
        return UncachedState(self.model, prefix)


class UncachedState:
    """(B, T) tokens after a boundary; the older half is dropped where the window is full."""

    def __init__(self, model: AttentionModel, prefix: np.ndarray) -> None:
        self.model, self.window = model, model.config.window
        self.rows = np.column_stack([np.zeros((len(prefix), 1), dtype=np.int64), prefix])[:, -self.window :]

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token, from the whole row."""
        with torch.inference_mode():
            logits = self.model._network(torch.from_numpy(self.rows))[:, -1]
            return logits.log_softmax(-1).double().numpy()

    def append(self, tokens: np.ndarray) -> None:
        """(B,): drop the older half if the window is full, then append."""
        full = self.rows.shape[1] == self.window
        kept = self.rows[:, self.window - self.window // 2 :] if full else self.rows
        self.rows = np.column_stack([kept, tokens])


class Plain:
    """The model without a decoding state of its own: recomputes the last ``window`` tokens for every token."""

    def __init__(self, model: NeuralModel) -> None:
        self.model, self.config, self.vocab_size = model, model.config, model.vocab_size

    def decoding_state(self, prefix: np.ndarray) -> Recompute:
        """The decoding state that calls ``next_log_probs``."""
        return Recompute(self.model, prefix)


def drawn(model: object, count: int, length: int) -> list[list[int]]:
    """``count`` texts as lists of tokens."""
    return [row.tolist() for row in sample(model, count, length, seed=0, stop_at_boundary=False)]  # type: ignore[arg-type]


def timed(work: Callable[[], list[list[int]]], clock: Callable[[], float]) -> tuple[float, list[list[int]]]:
    """Tokens per second, and the texts."""
    started = clock()
    texts = work()
    return sum(map(len, texts)) / (clock() - started), texts


def compare(name: str, length: int, batch: int, rounds: int, clock: Callable[[], float]) -> None:
    """Alternate the samplers, check that their texts are the same, and print speeds and ratios."""
    model = random_model(SIZES[name])
    samplers = {
        "cached": lambda: drawn(model, 1, length),
        "cached, batch": lambda: drawn(model, batch, length),
        "recomputed window": lambda: drawn(Plain(model), 1, length),
    }
    if isinstance(model, AttentionModel):
        samplers["recomputed row"] = lambda: drawn(Uncached(model), 1, length)
    speeds: dict[str, list[float]] = {sampler: [] for sampler in samplers}
    texts: dict[str, list[list[int]]] = {}
    drawn(model, 1, 8)
    for _ in range(rounds):
        for sampler, work in samplers.items():
            speed, texts[sampler] = timed(work, clock)
            speeds[sampler].append(speed)
    medians = {sampler: median(rounds_of_it) for sampler, rounds_of_it in speeds.items()}
    window = model.config.context
    if "recomputed row" in texts:
        assert texts["cached"] == texts["recomputed row"], "the same seed gives the same text"
    assert texts["cached"][0][:window] == texts["recomputed window"][0][:window], "and so up to the window"
    print(f"{name}: {model.parameters():,} parameters, window {window}, {length} tokens, batch {batch}")
    for sampler, speed in medians.items():
        ratios = "  ".join(
            f"{speed / medians[slow]:6.1f} x {slow}" for slow in medians if slow.startswith("recomputed")
        )
        print(f"  {sampler:<20}{speed:>12,.0f} tokens/s  {ratios}", flush=True)


def main() -> None:
    """Compare at every size of the options."""
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
