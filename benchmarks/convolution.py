"""WaveNet scores a stream by dilated convolution and by its tree of pairs: seconds of both on the same weights.

    python benchmarks/convolution.py [TOKENS] [LAYERS ...]

The tree computes every window separately, as training on single targets does; the dilated form computes the whole row
at once. Prints the seconds of both on one thread, the best of three runs, and the ratio. No test depends on it.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from lmstages.config.hyperparameters.neural import WaveNet
from lmstages.models.neural.wavenet import Convolutions, WaveNetModel

VOCABULARY = 27
WINDOWS_AT_ONCE = 2048


def best_of_three(work: Callable[[], object]) -> float:
    """Seconds of the quickest of three calls."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def by_tree(network: Convolutions, tokens: np.ndarray, window: int) -> np.ndarray:
    """(T,) tokens -> (T,) log-probabilities, nats, every window computed separately."""
    row = torch.from_numpy(np.concatenate([np.zeros(window, dtype=np.int64), tokens]))
    with torch.inference_mode():
        windows = row.unfold(0, window + 1, 1)
        return np.concatenate([_scores(network, part) for part in windows.split(WINDOWS_AT_ONCE)])


def _scores(network: Convolutions, windows: torch.Tensor) -> np.ndarray:
    log_probs = network.tree(windows[:, :-1])[:, 0].log_softmax(-1)
    return log_probs.gather(-1, windows[:, -1:])[:, 0].numpy()


def main(count: int, layers: int) -> None:
    """Time both on the same tokens; their scores must agree."""
    torch.set_num_threads(1)
    model = WaveNetModel(WaveNet(layers=layers), VOCABULARY)
    network = model.build().eval()
    assert isinstance(network, Convolutions), "what this class builds"
    model.network = network
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, count)
    difference = np.abs(model.score(tokens[None])[0] - by_tree(network, tokens, model.window)).max()
    assert difference < 1e-4, f"the two forms differ by {difference} nats"
    dilated = best_of_three(lambda: model.score(tokens[None]))
    tree = best_of_three(lambda: by_tree(network, tokens, model.window))
    times = f"dilated {dilated:.3f} s, tree {tree:.3f} s, ratio {dilated / tree:.3f} ({tree / dilated:.1f} times)"
    print(f"{count:,} tokens, window {model.window}: {times}", flush=True)


if __name__ == "__main__":
    for depth in [int(word) for word in sys.argv[2:]] or [3, 5, 7]:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, depth)
