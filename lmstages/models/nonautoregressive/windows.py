"""The bound of models that read a window of which some places are noisy: a mean over times and noisy copies of a row.

Of each half of the samples the times come from as many equal parts of 0 to 1; the difference of the halves tells the
Monte Carlo error. All randomness of a row is a function of the row's own tokens (``bound.row_generator``).

Tokens before the wanted ones are known to the network, and those after them are not. Where the last wanted token is a
boundary, the window goes on with boundaries, which are noisy as the others are and count with that last token: the
network is not told where a text ends. Elsewhere a shorter row goes on with noise, which tells nothing and counts
nothing. ``B`` rows, ``T`` tokens, ``W`` window, ``V`` vocabulary, ``E`` numbers of a vector.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from lmstages.config.hyperparameters.diffusion import NoisyWindow
from lmstages.core.documents import BOUNDARY
from lmstages.models.neural.base import NeuralModel
from lmstages.models.nonautoregressive.bound import HALVES, BoundScores, row_generator


class Noisy(NamedTuple):
    """A noisy copy of rows: a time of each (B,), what stands at each place, and how much of it is true (B, W).

    At a place stands a token (B, W), and the level is the probability that it is the true one; or a vector (B, W, E),
    and the level is the true one's share of its variance. 1 is known, 0 is noise alone.
    """

    times: np.ndarray
    places: np.ndarray
    levels: np.ndarray


class Window(NamedTuple):
    """Rows, continued to a whole window (B, W): true tokens, which are open to noise, and which are unknown."""

    tokens: np.ndarray
    is_open: np.ndarray
    is_unknown: np.ndarray

    def levels(self, kept: np.ndarray) -> np.ndarray:
        """(B,) the level of open places -> (B, W) that of all places."""
        return np.where(self.is_unknown, 0.0, np.where(self.is_open, kept[:, None], 1.0))


def continued(row: np.ndarray, wanted: np.ndarray, length: int) -> Window:
    """(B, 1 + T) tokens, the first of which stands before the row, and which are wanted (B, T) -> (B, length)."""
    end = np.where(wanted.any(1), wanted.shape[1] - wanted[:, ::-1].argmax(1), 0)[:, None]
    has_ended = (end > 0) & (np.take_along_axis(row, end, 1) == BOUNDARY)
    is_past = np.arange(length) >= end
    behind = (0, 0), (0, length - wanted.shape[1])
    tokens = np.where(is_past, BOUNDARY, np.pad(row[:, 1:], behind))
    return Window(tokens, np.pad(wanted, behind) | (is_past & has_ended), is_past & ~has_ended)


class NoisyWindows(BoundScores, NeuralModel):
    """Reads a window at a time; has no distribution of the next token. A model writes its noise, and its bound."""

    config: NoisyWindow

    def noisy(self, window: Window, times: np.ndarray, draws: list[np.random.Generator]) -> Noisy:
        """Rows, and a time and a generator of each -> their noisy copy."""
        raise NotImplementedError

    def log_probs(self, before: np.ndarray, noisy: Noisy) -> np.ndarray:
        """(B,) the tokens before the rows -> (B, W, V) nats of the true token at each place."""
        raise NotImplementedError

    def bound(
        self, log_probs: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor, times: torch.Tensor
    ) -> torch.Tensor:
        """Of N open places (N, V), true tokens, what stands there, and times (N,) -> (N,) nats of the bound."""
        raise NotImplementedError

    @property
    def longest(self) -> int:  # type: ignore[override]
        """The window."""
        return self.config.window

    def _halves(self, row: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The nats of boundaries behind a text count with its last token."""
        window, length = continued(row, wanted, self.config.window), wanted.shape[1]
        totals, samples = np.zeros((HALVES, *window.tokens.shape)), self.config.samples // HALVES
        for number, noisy in enumerate(self._sampled(row, wanted, window)):
            totals[number // samples] += self.nats(row[:, 0], window, noisy) / samples
        inside = np.where(wanted, totals[..., :length], 0.0)
        behind = totals.sum(-1, keepdims=True) - inside.sum(-1, keepdims=True)
        is_last = np.arange(length) == length - 1 - wanted[:, ::-1].argmax(1)[:, None]
        return np.asarray(inside + np.where(is_last & wanted, behind, 0.0))

    def _sampled(self, row: np.ndarray, wanted: np.ndarray, window: Window) -> Iterator[Noisy]:
        """The samples of the first half, then those of the second, each with the times of all equal parts of 0 to 1."""
        draws = [row_generator(*pair) for pair in zip(row, wanted, strict=True)]
        samples = self.config.samples // HALVES
        for _ in range(HALVES):
            offsets = np.array([draw.random() for draw in draws])
            for part in range(samples):
                yield self.noisy(window, (part + offsets) / samples, draws)

    def nats(self, before: np.ndarray, window: Window, noisy: Noisy) -> np.ndarray:
        """(B,) the tokens before the rows -> (B, W) nats of one sample of the bound, 0 where a place is not open."""
        parts = [np.zeros((0, window.tokens.shape[1]))]
        for top, end in self._bands(len(before), 1 + window.tokens.shape[1]):
            band = Window(*(part[top:end] for part in window))
            parts.append(self._nats(before[top:end], band, Noisy(*(part[top:end] for part in noisy))))
        return np.concatenate(parts)

    def _nats(self, before: np.ndarray, window: Window, noisy: Noisy) -> np.ndarray:
        log_probs = torch.from_numpy(self.log_probs(before, noisy))
        is_open, nats = torch.from_numpy(window.is_open), torch.zeros(window.tokens.shape, dtype=torch.float64)
        tokens, places = (torch.from_numpy(part)[is_open] for part in (window.tokens, noisy.places))
        times = torch.from_numpy(noisy.times)[:, None].expand(nats.shape)[is_open]
        nats[is_open] = self.bound(log_probs[is_open], tokens, places, times)
        return nats.numpy()
