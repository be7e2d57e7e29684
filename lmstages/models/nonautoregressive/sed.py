"""SED: diffusion on embeddings, in which the network is given its own first estimate (Strudel et al. 2022).

    first estimate   e'  = mean embedding of the tokens, by network(z, t, no estimate)
    prediction       e'' = mean embedding of the tokens, by network(z, t, e')

In half of the steps of training the network predicts from its estimate, which has no gradient, in the others without
one. Both are functions of the noisy vectors z and the time alone, so that the prediction has a bound on the code length
(``gaussian``), which ``windows`` samples. ``B`` rows, ``T`` tokens, ``V`` vocabulary, ``E`` numbers of an embedding.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.diffusion import Sed
from lmstages.core.documents import BOUNDARY
from lmstages.models.nonautoregressive import gaussian
from lmstages.models.nonautoregressive.denoiser import EmbeddingDenoiser
from lmstages.models.nonautoregressive.hiding import stratified
from lmstages.models.nonautoregressive.windows import Noisy, NoisyWindows, Window
from lmstages.training.batches import Batch
from lmstages.training.objectives import Draw, Network


class SedModel(NoisyWindows):
    """Reads a window at a time; ``evaluation.drafts`` draws from it."""

    config: Sed

    def build(self) -> nn.Module:
        """The network, with the modern GPT's initialisation and embeddings in random directions."""
        return EmbeddingDenoiser(self.config, self.vocab_size)

    @property
    def embeddings(self) -> torch.Tensor:
        """(V, E), on the network's device."""
        return self._network.get_buffer("embeddings")

    @property
    def objective(self) -> "NoisyEmbeddings":
        """Predicting the tokens whose embeddings are noisy."""
        return NoisyEmbeddings(self.config, self.embeddings)

    def training_pass(self, network: nn.Module, tokens: torch.Tensor) -> None:
        """One row behind its boundary."""
        network(functional.pad(tokens, (0, 1)))

    def noisy(self, window: Window, times: np.ndarray, draws: list[np.random.Generator]) -> Noisy:
        """Each embedding with noise of its own."""
        shape = *window.tokens.shape, self.config.embedding
        normal = np.array([draw.standard_normal(shape[1:], np.float32) for draw in draws]).reshape(shape)
        levels = window.levels(1 - times).astype(np.float32)
        embedded = self.embeddings.cpu()[torch.from_numpy(window.tokens)]
        vectors = gaussian.noisy(embedded, torch.from_numpy(levels), torch.from_numpy(normal))
        return Noisy(times, vectors.numpy(), levels)

    def bound(
        self, log_probs: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor, times: torch.Tensor
    ) -> torch.Tensor:
        """That of ``gaussian``."""
        return gaussian.bound(log_probs, tokens, self.embeddings.cpu(), times)

    def log_probs(self, before: np.ndarray, noisy: Noisy) -> np.ndarray:
        """(B,) the tokens before the rows -> (B, W, V) nats of the true token at each place, given all vectors."""
        with torch.inference_mode():
            first = self.embeddings[self._on_device(before)][:, None]
            vectors, levels = self._on_device(noisy.places), self._on_device(noisy.levels)
            vectors, levels = torch.cat([first, vectors], 1), functional.pad(levels, (1, 0), value=1.0)
            is_conditioned = self.config.self_conditioning > 0
            logits = given_all(self._network, vectors, levels, self.embeddings, is_conditioned)[:, 1:]
            return logits.cpu().double().log_softmax(-1).numpy()


def given_all(
    network: Network, vectors: torch.Tensor, levels: torch.Tensor, embeddings: torch.Tensor, is_conditioned: bool
) -> torch.Tensor:
    """Vectors (B, T, E), levels (B, T), embeddings (V, E) -> (B, T, V) logits, of a second pass if conditioned."""
    estimates = torch.zeros_like(vectors)
    if is_conditioned:
        with torch.no_grad():
            logits = gaussian.with_evidence(network(vectors, levels, estimates), vectors, levels, embeddings)
            estimates = gaussian.predicted(logits, embeddings)
    return gaussian.with_evidence(network(vectors, levels, estimates), vectors, levels, embeddings)


class NoisyEmbeddings:
    """Trains on the cross-entropy of each token given all vectors, or on the bound; valid selects by the bound.

    Some rows have known tokens at random places, between which the network learns what neighbours say before it can
    read it from noise. A row that is shorter than a window goes on with boundaries, as in scoring.
    """

    def __init__(self, config: Sed, embeddings: torch.Tensor) -> None:
        self.weighting, self.given_share = config.weighting, config.given_share
        self.embeddings, self.self_conditioning = embeddings, config.self_conditioning

    def __call__(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """Draws for all rows of the whole batch, and once for all of them whether the network is given its estimate."""
        draws, length = draw.generator(), batch.targets.shape[1]
        is_open, is_conditioned = self.open_places(batch, draws), bool(draws.random() < self.self_conditioning)
        logits, tokens, times = self.drawn(network, batch, is_open, draws, draw, is_conditioned)
        if self.weighting == "bound":
            nats = gaussian.bound(logits, tokens, self.embeddings, times)
        else:
            nats = functional.cross_entropy(logits, tokens, reduction="none")
        counts = draw.local_rows(is_open).sum(1)
        weights = np.repeat(length / np.maximum(counts, 1), counts)  # the mean over what is open stands for a whole row
        return (nats * torch.from_numpy(weights).float().to(nats.device)).sum()

    def selected(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """The bound, a time for each row."""
        is_open, is_conditioned = (
            np.ones((len(batch.lengths), batch.targets.shape[1]), bool),
            self.self_conditioning > 0,
        )
        logits, tokens, times = self.drawn(network, batch, is_open, draw.generator(), draw, is_conditioned)
        return gaussian.bound(logits, tokens, self.embeddings, times).sum()

    def open_places(self, batch: Batch, draws: np.random.Generator) -> np.ndarray:
        """(rows of the whole batch, T): all, but of a share of the rows a random number of places is known."""
        rows, length = len(batch.lengths), batch.targets.shape[1]
        known_shares = np.where(draws.random(rows) < self.given_share, draws.random(rows), 0.0)
        return np.asarray(draws.random((rows, length)) >= known_shares[:, None])

    def drawn(
        self,
        network: Network,
        batch: Batch,
        is_open: np.ndarray,
        draws: np.random.Generator,
        draw: Draw,
        is_conditioned: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of all N open places of this process's rows: logits (N, V), true tokens and times (N,)."""
        times, is_open = (
            stratified(draws, len(is_open)),
            np.pad(is_open, ((0, 0), (1, 0))),
        )  # what stands before is known
        levels = np.where(is_open, 1 - times[:, None], 1.0).astype(np.float32)
        normal = draws.standard_normal((*is_open.shape, self.embeddings.shape[1]), np.float32)
        local = (torch.from_numpy(draw.local_rows(part)) for part in (is_open, levels, normal))
        open_places, known, noise = (part.to(batch.inputs.device) for part in local)
        tokens = torch.cat([batch.inputs[:, :1], batch.targets.clamp_min(BOUNDARY)], dim=1)
        vectors = gaussian.noisy(self.embeddings[tokens], known, noise)
        logits = given_all(network, vectors, known, self.embeddings, is_conditioned)
        return logits[open_places], tokens[open_places], 1 - known[open_places]
