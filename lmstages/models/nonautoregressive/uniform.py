"""Uniform diffusion: a network predicts what stood in a window of which some tokens are random ones.

Its score is the bound of ``noise``, as ``windows`` samples it. The source tells the network the level of noise, since
without a hidden token nothing else says what may be trusted (Schiff et al. 2025); here every place has its own, since
known tokens have none. ``B`` rows, ``T`` tokens, ``W`` window, ``V`` vocabulary.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.diffusion import NoisyWindow
from lmstages.core.documents import BOUNDARY
from lmstages.models.nonautoregressive import noise
from lmstages.models.nonautoregressive.denoiser import NoisyDenoiser
from lmstages.models.nonautoregressive.hiding import stratified
from lmstages.models.nonautoregressive.windows import Noisy, NoisyWindows, Window
from lmstages.training.batches import Batch
from lmstages.training.objectives import Draw, Network, Objective


class UniformModel(NoisyWindows):
    """Reads a window at a time; has no distribution of the next token."""

    def build(self) -> nn.Module:
        """The network, with the modern GPT's initialisation."""
        return NoisyDenoiser(self.config, self.vocab_size)

    @property
    def objective(self) -> Objective:
        """Predicting what stood at noisy places."""
        return NoisyTokens(self.config, self.vocab_size)

    def training_pass(self, network: nn.Module, tokens: torch.Tensor) -> None:
        """One row behind its boundary."""
        network(functional.pad(tokens, (0, 1)))

    def noisy(self, window: Window, times: np.ndarray, draws: list[np.random.Generator]) -> Noisy:
        """Each token is kept, or replaced by a random one."""
        rows, length = window.tokens.shape
        uniforms = np.array([draw.random(length) for draw in draws]).reshape(rows, length)
        tokens = np.array([draw.integers(self.vocab_size, size=length) for draw in draws]).reshape(rows, length)
        levels = window.levels(noise.kept(times))
        return Noisy(times, noise.replaced(window.tokens, levels, uniforms, tokens), levels)

    def bound(
        self, log_probs: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor, times: torch.Tensor
    ) -> torch.Tensor:
        """That of ``noise``."""
        return noise.bound(log_probs, tokens, places, times)

    def log_probs(self, before: np.ndarray, noisy: Noisy) -> np.ndarray:
        """(B,) the tokens before the rows -> (B, W, V) nats of the true token at each place, given the other places."""
        with torch.inference_mode():
            tokens = self._on_device(np.column_stack([before, noisy.places]))
            levels = self._on_device(np.column_stack([np.ones(len(before)), noisy.levels]).astype(np.float32))
            logits = self._network(tokens, levels)[:, 1:]
            return logits.cpu().double().log_softmax(-1).numpy()


class NoisyTokens:
    """Trains on the bound, or on the cross-entropy of each token given the noisy row; valid selects by the bound.

    A row that is shorter than a window goes on with boundaries, as in scoring.
    """

    def __init__(self, config: NoisyWindow, vocab_size: int) -> None:
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
