"""Any order: a causal network whose inputs are told where the next token stands (Pannatier et al. 2024).

    inputs      the token before the row,  x[order[0]],  x[order[1]],  ...        positions 0, order + 1
    targets     x[order[0]],               x[order[1]],  x[order[2]],  ...

An input has two positions: its own, by which its key is rotated, and its target's, by which its query is; both have an
embedding as well. From left to right the target is the next token. An order that does not depend on the hidden tokens
makes a distribution over rows, so that its code length is exact.

``B`` rows, ``T`` tokens per row, ``V`` vocabulary, ``W`` numbers per head.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.orders import AnyOrder
from lmstages.core.documents import BOUNDARY, history
from lmstages.models.neural.attention import rms_norm
from lmstages.models.neural.base import log_softmax, target_log_probs
from lmstages.models.neural.modern_gpt import ModernModel, Network, Positions
from lmstages.models.nonautoregressive.gaps import sides_within
from lmstages.training.batches import IGNORED, Batch
from lmstages.training.objectives import NEXT_TOKEN, Draw
from lmstages.training.objectives import Network as Forward


class AnyOrderNetwork(Network):
    """A modern GPT with two positions for each input."""

    def __init__(self, config: AnyOrder, vocab_size: int) -> None:
        places = config.window + 1  # the token before the row has the first
        super().__init__(config.model_copy(update={"window": places}), vocab_size)
        self.positions = nn.Parameter(torch.zeros(places, config.width))
        self.positions_of_targets = nn.Parameter(torch.zeros(places, config.width))

    def forward(self, tokens: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T) -> (B, T, V): logits of the token after each input.

        ``places`` (B, 1 + T): of the inputs, and of what is predicted from each the next one.
        """
        return self.logits(self.states(tokens, places))

    def embed(self, tokens: torch.Tensor, positions: Positions, before: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T) tokens at a slice of positions, or at ``places`` as those of ``forward`` -> (B, T, D)."""
        own, targets = self.own_and_targets(positions)
        assert self.positions is not None, "both positions have embeddings"
        x = self.embedding(tokens) + self.positions[own] + self.positions_of_targets[targets]
        return rms_norm(x) if self.rms_norm else x

    def rotary(self, positions: Positions) -> torch.Tensor | None:
        """(2, 2, B or 1, 1, T, W): cosine and sine for queries and keys."""
        if self.cos_sin is None:
            return None
        own, targets = self.own_and_targets(positions)
        return torch.stack([self.cos_sin[:, targets], self.cos_sin[:, own]], dim=1).unsqueeze(-3)

    def own_and_targets(self, positions: Positions) -> tuple[torch.Tensor, torch.Tensor]:
        """(B or 1, T) each: where the inputs stand, and where what is predicted from them."""
        if isinstance(positions, slice):
            positions = torch.arange(positions.start, positions.stop + 1, device=self.embedding.weight.device)[None]
        return positions[:, :-1], positions[:, 1:]


class AnyOrderModel(ModernModel):
    """Attends to at most ``window`` tokens; predicts a row in any order, and fills gaps by itself."""

    config: AnyOrder

    def build(self) -> nn.Module:
        """The network, with the modern GPT's initialisation; positions begin as zeros."""
        return AnyOrderNetwork(self.config, self.vocab_size)

    @property
    def objective(self) -> "Orders":
        """Every token of a row, in an order that is drawn."""
        return Orders(self.config.left_to_right, self.config.middle_last)

    def order_score(self, tokens: np.ndarray, order: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T), T at most the window, in the order (B, T) of their places -> (B, T) nats, each at its token's place.

        A score depends on the tokens that come earlier in the order, on the order, and on nothing else.
        """
        row, places = history(tokens, before, 1), np.pad(order + 1, ((0, 0), (1, 0)))
        arranged, scores = np.take_along_axis(row, places, 1), np.empty(tokens.shape)
        for top, end in self._bands(*tokens.shape):
            rows, at = (self._on_device(part[top:end]) for part in (arranged, places))
            with torch.inference_mode():
                nats = target_log_probs(self._network(rows[:, :-1], at), rows[:, 1:]).cpu().double().numpy()
            np.put_along_axis(scores[top:end], order[top:end], nats, 1)
        return scores

    def fill_log_probs(self, left: np.ndarray, filled: np.ndarray, right: np.ndarray, hidden: int) -> np.ndarray:
        """(B, L), (B, J), (B, R) -> (B, V) nats of the token after the first J of a gap of J + ``hidden`` tokens."""
        length = filled.shape[1] + hidden
        before, left, right = sides_within(self.config.window, length, left, right)
        places = np.concatenate([[0], 1 + middle_last(left.shape[1], length, right.shape[1])])
        row = np.column_stack([before, left, right, filled]).astype(np.int64)
        with torch.inference_mode():
            inputs = self._on_device(row)
            logits = self._network(inputs, self._on_device(places[None, : row.shape[1] + 1]))
            return log_softmax(logits[:, -1]).cpu().double().numpy()


def middle_last(left: int, middle: int, right: int) -> np.ndarray:
    """The order of so many tokens: what stands left of a gap, what stands right of it, then the gap from the left."""
    places, end = np.arange(left + middle + right), left + middle
    return np.concatenate([places[:left], places[end:], places[left:end]])


class Orders:
    """Cross-entropy of all tokens in orders that are drawn; valid is read from left to right."""

    def __init__(self, left_to_right: float, middle_last: float) -> None:
        self.left_to_right, self.middle_last = left_to_right, middle_last

    def __call__(self, network: Forward, batch: Batch, draw: Draw) -> torch.Tensor:
        """The sum of cross-entropies over all targets."""
        order = torch.from_numpy(draw.local_rows(self.drawn(batch, draw))).to(batch.targets.device)
        targets, places = batch.targets.gather(1, order), functional.pad(order + 1, (1, 0))
        inputs = torch.cat([batch.inputs[:, :1], targets[:, :-1].clamp_min(BOUNDARY)], dim=1)
        logits = network(inputs, places).flatten(0, 1)
        return functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def selected(self, network: Forward, batch: Batch, draw: Draw) -> torch.Tensor:
        """Cross-entropy from left to right."""
        return NEXT_TOKEN(network, batch, draw)

    def drawn(self, batch: Batch, draw: Draw) -> np.ndarray:
        """The order (R, T) of all rows of the whole batch; what lies past a text comes last.

        A middle lies between two of the n + 1 places between tokens, each as likely as any other.
        """
        draws, lengths, places = draw.generator(), batch.lengths[:, None], np.arange(batch.targets.shape[1])
        kinds, cuts = draws.random((len(lengths), 1)), draws.random((len(lengths), 2))
        noise = draws.random((len(lengths), len(places)))
        first, end = np.sort((cuts * (lengths + 1)).astype(np.int64), axis=1).T[..., None]
        is_middle = (kinds >= self.left_to_right) & (places >= first) & (places < end)
        ranks = np.where(is_middle, places + len(places), places)
        ranks = np.where(kinds < self.left_to_right + self.middle_last, ranks, noise)
        return np.where(places < lengths, ranks, np.inf).argsort(axis=1, kind="stable")
