"""SUNDAE: a network that mends random tokens, and then the drafts that it has sampled itself (Savinov et al. 2022).

    loss = mean over drafts z(1) ... z(K) of  sum_i -log p(x_i | z(k)),     z(k + 1) drawn from p(. | z(k))

Without a process in time it has no code length of its own: its row is the bound of uniform diffusion (``noise``) with
this network for the prediction. The network has seen the noisy token whose true one it predicts, while the bound wants
a prediction from the other tokens, so that the token's own evidence is divided out. What that was to the network
depends on the rate of random tokens, of which it is told nothing; where that is low it expects ``least_rate``. Any
value gives a bound, and as it goes to 0 the bound becomes infinite. ``B`` rows, ``T`` tokens, ``V`` vocabulary.
"""

import numpy as np
import torch
from torch.nn import functional

from lmstages.config.hyperparameters.diffusion import Sundae
from lmstages.core.documents import BOUNDARY
from lmstages.models.nonautoregressive import noise
from lmstages.models.nonautoregressive.hiding import stratified
from lmstages.models.nonautoregressive.uniform import NoisyTokens, UniformModel, weighted
from lmstages.models.nonautoregressive.windows import Noisy
from lmstages.training.batches import Batch
from lmstages.training.objectives import Draw, Network


class SundaeModel(UniformModel):
    """Reads a window at a time; ``evaluation.drafts`` draws from it."""

    config: Sundae

    @property
    def objective(self) -> "UnrolledDrafts":
        """Mending a text with random tokens, and the drafts that follow from it."""
        return UnrolledDrafts(self.config, self.vocab_size)

    def log_probs(self, before: np.ndarray, noisy: Noisy) -> np.ndarray:
        """As of uniform diffusion, by Bayes' rule from what the network says given all of the noisy row."""
        is_known = noisy.levels.astype(np.float32) == 1
        given_all = torch.from_numpy(super().log_probs(before, noisy._replace(levels=is_known))).flatten(0, 1)
        times = expected(torch.from_numpy(np.repeat(noisy.times, noisy.places.shape[1])), self.config.least_rate)
        others = noise.without_evidence(given_all, torch.from_numpy(noisy.places).flatten(), times).log_softmax(-1)
        return np.asarray(others.numpy().reshape(*noisy.places.shape, -1))

    def mended(self, draft: np.ndarray) -> np.ndarray:
        """(B, T) a draft, at most a window -> (B, T, V) nats of what the network would put in every place."""
        times, before = np.ones(len(draft)), np.full(len(draft), BOUNDARY)
        return super().log_probs(before, Noisy(times, draft, np.zeros(draft.shape)))


class UnrolledDrafts(NoisyTokens):
    """Cross-entropy of the true tokens given each of ``unrolled`` drafts; valid selects by the bound."""

    def __init__(self, config: Sundae, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.unrolled, self.least_rate = config.unrolled, config.least_rate

    def __call__(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """Draws for all rows of the whole batch; the rates of random tokens are stratified over them."""
        draws, total = draw.generator(), torch.zeros((), device=batch.inputs.device)
        given, shape = self.given(batch, draws), (len(batch.lengths), batch.targets.shape[1])
        rows = self.noisy_rows(batch, given, 1 - stratified(draws, len(given)), draws, draw)
        rows = rows._replace(levels=(~rows.is_open).float())
        for step in range(self.unrolled):
            logits = rows.read_by(network)
            nats = functional.cross_entropy(logits, rows.tokens[rows.is_open], reduction="none")
            total = total + weighted(nats, draw.local_rows(given), batch) / self.unrolled
            if step + 1 < self.unrolled:
                uniforms = torch.from_numpy(draw.local_rows(draws.random(shape)))
                draft = rows.noisy.clone()
                draft[rows.is_open] = noise.drawn(logits, uniforms[rows.is_open.cpu()])
                rows = rows._replace(noisy=draft)
        return total

    def selected(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """The bound, a time for each row."""

        def told(tokens: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
            return network(tokens, (levels == 1).float())

        given = np.zeros(len(batch.lengths), dtype=np.int64)
        logits, tokens, noisy, times = self.predicted(told, batch, given, draw.generator(), draw)
        others = noise.without_evidence(logits, noisy, expected(times, self.least_rate))
        return noise.bound(others, tokens, noisy, times).sum()


def expected(times: torch.Tensor, least_rate: float) -> torch.Tensor:
    """Times -> those at which the rate of random tokens, t^2, is what the network expects."""
    return (least_rate + (1 - least_rate) * times**2).sqrt()
