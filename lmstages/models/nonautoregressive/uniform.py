"""Uniform diffusion: a network predicts what stood in a window of which some tokens are random ones.

Its score is the bound of ``noise``, a mean over samples of a time and a noisy copy of the row. Of each half of the
samples the times come from as many equal parts of 0 to 1; the difference of the halves tells the Monte Carlo error.
All randomness of a row is a function of the row's own tokens (``bound.row_generator``).

Tokens before the wanted ones are known to the network, and those after them are not. Where the last wanted token is a
boundary, the window goes on with boundaries, which are noisy as the others are and count with that last token: the
network is not told where a text ends. Elsewhere a shorter row goes on with noise, which tells nothing and counts
nothing. The source tells the network the level of noise, since without a hidden token nothing else says what may be
trusted (Schiff et al. 2025); here every place has its own, since known tokens have none. ``B`` rows, ``T`` tokens,
``W`` window, ``V`` vocabulary.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.diffusion import UniformNoise
from lmstages.core.documents import BOUNDARY
from lmstages.models.neural.base import NeuralModel
from lmstages.models.nonautoregressive import noise
from lmstages.models.nonautoregressive.bound import HALVES, BoundScores, row_generator
from lmstages.models.nonautoregressive.denoiser import NoisyDenoiser
from lmstages.models.nonautoregressive.hiding import stratified
from lmstages.training.batches import Batch
from lmstages.training.objectives import Draw, Network, Objective


class Noisy(NamedTuple):
    """A noisy copy of rows: a time of each (B,), tokens (B, W), and how probably each is the true one (B, W)."""

    times: np.ndarray
    tokens: np.ndarray
    levels: np.ndarray


class Window(NamedTuple):
    """Rows, continued to a whole window (B, W): true tokens, which are open to noise, and which are unknown."""

    tokens: np.ndarray
    is_open: np.ndarray
    is_unknown: np.ndarray

    def noisy(self, times: np.ndarray, uniforms: np.ndarray, random_tokens: np.ndarray) -> Noisy:
        """Times (B,), uniform numbers and random tokens (B, W) -> the noisy copy."""
        alpha = np.where(self.is_open, noise.kept(times)[:, None], 1.0)
        alpha = np.where(self.is_unknown, 0.0, alpha)
        return Noisy(times, noise.replaced(self.tokens, alpha, uniforms, random_tokens), alpha)


def continued(row: np.ndarray, wanted: np.ndarray, length: int) -> Window:
    """(B, 1 + T) tokens, the first of which stands before the row, and which are wanted (B, T) -> (B, length)."""
    end = np.where(wanted.any(1), wanted.shape[1] - wanted[:, ::-1].argmax(1), 0)[:, None]
    has_ended = (end > 0) & (np.take_along_axis(row, end, 1) == BOUNDARY)
    is_past = np.arange(length) >= end
    behind = (0, 0), (0, length - wanted.shape[1])
    tokens = np.where(is_past, BOUNDARY, np.pad(row[:, 1:], behind))
    return Window(tokens, np.pad(wanted, behind) | (is_past & has_ended), is_past & ~has_ended)


class UniformModel(BoundScores, NeuralModel):
    """Reads a window at a time; has no distribution of the next token."""

    config: UniformNoise

    def build(self) -> nn.Module:
        """The network, with the modern GPT's initialisation."""
        return NoisyDenoiser(self.config, self.vocab_size)

    @property
    def longest(self) -> int:  # type: ignore[override]
        """The window."""
        return self.config.window

    @property
    def objective(self) -> Objective:
        """Predicting what stood at noisy places."""
        return NoisyTokens(self.config, self.vocab_size)

    def training_pass(self, network: nn.Module, tokens: torch.Tensor) -> None:
        """One row behind its boundary."""
        network(functional.pad(tokens, (0, 1)))

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
        samples, length = self.config.samples // HALVES, self.config.window
        for _ in range(HALVES):
            offsets = np.array([draw.random() for draw in draws])
            for part in range(samples):
                uniforms = np.array([draw.random(length) for draw in draws]).reshape(-1, length)
                tokens = np.array([draw.integers(self.vocab_size, size=length) for draw in draws])
                yield window.noisy((part + offsets) / samples, uniforms, tokens.reshape(-1, length))

    def nats(self, before: np.ndarray, window: Window, noisy: Noisy) -> np.ndarray:
        """(B,) the tokens before the rows -> (B, W) nats of one sample of the bound, 0 where a place is not open."""
        parts = [np.zeros((0, window.tokens.shape[1]))]
        for top, end in self._bands(len(before), 1 + window.tokens.shape[1]):
            band = Window(*(part[top:end] for part in window))
            parts.append(self._nats(before[top:end], band, Noisy(*(part[top:end] for part in noisy))))
        return np.concatenate(parts)

    def _nats(self, before: np.ndarray, window: Window, noisy: Noisy) -> np.ndarray:
        logits = torch.from_numpy(self.log_probs(before, noisy))
        is_open, nats = torch.from_numpy(window.is_open), torch.zeros(window.tokens.shape, dtype=torch.float64)
        tokens, replaced = (torch.from_numpy(part)[is_open] for part in (window.tokens, noisy.tokens))
        times = torch.from_numpy(noisy.times)[:, None].expand(nats.shape)[is_open]
        nats[is_open] = noise.bound(logits[is_open], tokens, replaced, times)
        return nats.numpy()

    def log_probs(self, before: np.ndarray, noisy: Noisy) -> np.ndarray:
        """(B,) the tokens before the rows -> (B, W, V) nats of the true token at each place, given the other places."""
        with torch.inference_mode():
            tokens = self._on_device(np.column_stack([before, noisy.tokens]))
            levels = self._on_device(np.column_stack([np.ones(len(before)), noisy.levels]).astype(np.float32))
            logits = self._network(tokens, levels)[:, 1:]
            return logits.cpu().double().log_softmax(-1).numpy()


class NoisyTokens:
    """Trains on the bound, or on the cross-entropy of each token given the noisy row; valid selects by the bound.

    A row that is shorter than a window goes on with boundaries, as in scoring.
    """

    def __init__(self, config: UniformNoise, vocab_size: int) -> None:
        self.weighting, self.given_share, self.vocab_size = config.weighting, config.given_share, vocab_size

    def __call__(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """Draws for all rows of the whole batch; of a share of them a random number of first tokens is known."""
        draws = draw.generator()
        given = self.given(batch, draws)
        logits, *rest = self.predicted(network, batch, given, draws, draw)
        if self.weighting == "bound":
            nats = noise.bound(logits, *rest)
        else:
            tokens, noisy, times = rest
            nats = functional.cross_entropy(noise.with_evidence(logits, noisy, times), tokens, reduction="none")
        return weighted(nats, draw.local_rows(given), batch)

    def selected(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """The bound, a time for each row."""
        given = np.zeros(len(batch.lengths), dtype=np.int64)
        return noise.bound(*self.predicted(network, batch, given, draw.generator(), draw)).sum()

    def given(self, batch: Batch, draws: np.random.Generator) -> np.ndarray:
        """(rows of the whole batch,) how many first tokens of each are known, fewer than it has."""
        is_given = draws.random(len(batch.lengths)) < self.given_share
        return np.where(is_given, (draws.random(len(batch.lengths)) * batch.lengths).astype(np.int64), 0)

    def predicted(
        self, network: Network, batch: Batch, given: np.ndarray, draws: np.random.Generator, draw: Draw
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of all N open places of this process's rows: logits (N, V), true tokens, noisy tokens and times (N,)."""
        times = stratified(draws, len(given))
        rows = self.noisy_rows(batch, given, noise.kept(times), draws, draw)
        when, is_open = torch.from_numpy(draw.local_rows(times).astype(np.float32)), rows.is_open
        when = when.to(is_open.device)[:, None].expand(is_open.shape)
        return rows.read_by(network), rows.tokens[is_open], rows.noisy[is_open], when[is_open]

    def noisy_rows(
        self, batch: Batch, given: np.ndarray, alpha: np.ndarray, draws: np.random.Generator, draw: Draw
    ) -> "NoisyRows":
        """Replaces tokens that are not given, each kept with the row's probability alpha; both (rows of all,)."""
        shape = len(given), batch.targets.shape[1]
        is_open = np.arange(shape[1]) >= given[:, None]
        levels = np.where(is_open, alpha[:, None], 1.0).astype(np.float32)
        is_kept, random_tokens = draws.random(shape) < levels, draws.integers(self.vocab_size, size=shape)
        local = [torch.from_numpy(draw.local_rows(part)) for part in (is_open, is_kept, random_tokens, levels)]
        open_places, kept, random, known = (part.to(batch.inputs.device) for part in local)
        tokens = batch.targets.clamp_min(BOUNDARY)
        return NoisyRows(batch.inputs[:, :1], tokens, torch.where(kept, tokens, random), known, open_places)


class NoisyRows(NamedTuple):
    """Rows of this process in training: the token before each (R, 1); true and noisy tokens, levels, which are open."""

    before: torch.Tensor
    tokens: torch.Tensor
    noisy: torch.Tensor
    levels: torch.Tensor
    is_open: torch.Tensor

    def read_by(self, network: Network) -> torch.Tensor:
        """(N, V) logits of the open places."""
        logits = network(torch.cat([self.before, self.noisy], dim=1), functional.pad(self.levels, (1, 0), value=1.0))
        return logits[:, 1:].float()[self.is_open]


def weighted(nats: torch.Tensor, given: np.ndarray, batch: Batch) -> torch.Tensor:
    """Nats of open places (N,), the known first tokens of each row -> their sum; their mean stands for a whole row."""
    length = batch.targets.shape[1]
    weights = np.repeat(length / (length - given), length - given)
    return (nats * torch.from_numpy(weights).float().to(nats.device)).sum()
