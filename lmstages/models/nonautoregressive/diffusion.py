"""Masked and block diffusion: a network that predicts hidden tokens from those that are known, in any order.

    next_log_probs(prefix) = network(prefix, then hidden places up to the end of the block)

is a distribution of the next token, so that from left to right its code length is exact (Ou et al. 2025), and scoring,
sampling and comparison treat it as every other model. Trained on random sets of hidden places (``hiding``), it can
predict them in other orders too: ``evaluation.parallel`` has these, ``bound`` the code length of a random order.
"""

from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.diffusion import ENUMERATED, Diffusion
from lmstages.core.documents import BOUNDARY, history
from lmstages.models.base import DecodingState, LanguageModel, Recompute
from lmstages.models.neural.base import PIECE, NeuralModel, log_softmax, target_log_probs
from lmstages.models.nonautoregressive.clean_blocks import BlockDecodingState, CleanBlocks
from lmstages.models.nonautoregressive.denoiser import Denoiser
from lmstages.models.nonautoregressive.gaps import sides_within
from lmstages.models.nonautoregressive.hiding import (
    Hidden,
    every_choice,
    hidden_at_random,
    open_places,
    stratified,
)
from lmstages.training.batches import Batch
from lmstages.training.objectives import Draw, Network


class DiffusionModel(NeuralModel):
    """Reads at most ``window`` tokens; its block ends where the row's grid of blocks says, not where the row ends."""

    config: Diffusion

    def build(self) -> nn.Module:
        """The network, with the modern GPT's initialisation."""
        return Denoiser(self.config, self.vocab_size)

    @property
    def objective(self) -> "HiddenTokens":
        """Predicting hidden tokens."""
        return HiddenTokens(self.config)

    def training_pass(self, network: nn.Module, tokens: torch.Tensor) -> None:
        """One row in both copies."""
        row = functional.pad(tokens, (0, 1))
        network(row, torch.ones_like(row[:, 1:], dtype=torch.bool))

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats, from the last ``context`` tokens of the prefix."""
        with torch.inference_mode():
            logits = self._after(self._on_device(self.inputs_of(prefix)))
            return log_softmax(logits).cpu().double().numpy()

    def score_wanted(self, tokens: np.ndarray, before: np.ndarray | None, wanted: np.ndarray) -> np.ndarray:
        """(B, T), (B,), (B, T) -> (B, T) nats of the wanted tokens; a pass for each place of a block that has any."""
        if tokens.shape[1] > self.config.window:
            return self.score(tokens, before)
        row, block, scores = history(tokens, before, 1), self.config.block_length, np.zeros(tokens.shape)
        places = np.arange(tokens.shape[1]) % block
        for place in range(min(block, tokens.shape[1])):
            rows = wanted[:, place::block].any(1)
            if rows.any():
                hidden = np.tile(places >= place, (int(rows.sum()), 1))
                scores[rows, place::block] = -self.nats(row[rows], hidden)[:, place::block]
        return scores

    def log_probs(self, tokens: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """(B, 1 + T) tokens and which of the last T are hidden -> (B, T, V) nats; T is at most the window.

        A row that ends within a block goes on with hidden places.
        """
        bands = self._bands(len(tokens), tokens.shape[1])
        return np.concatenate([self._log_probs(tokens[top:end], hidden[top:end]) for top, end in bands])

    def nats(self, tokens: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """As ``log_probs`` -> (B, T): the code length of each true token, known ones included."""
        parts = []
        for top, end in self._bands(len(tokens), tokens.shape[1]):
            with torch.inference_mode():
                logits, length = self._logits(tokens[top:end], hidden[top:end]), hidden.shape[1]
                targets = self._on_device(tokens[top:end, 1:])
                parts.append(-target_log_probs(logits[:, :length], targets).cpu().double().numpy())
        return np.concatenate(parts)

    def open_blocks(self, before: np.ndarray) -> "CleanBlocks | OneBlock":
        """(B,) the tokens before rows -> the rows, to which blocks are appended as they become known."""
        network = self._network
        assert isinstance(network, Denoiser), "as ``build`` makes it"
        return OneBlock(self, before) if network.is_one_block else CleanBlocks(network, before)

    def _log_probs(self, tokens: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return log_softmax(self._logits(tokens, hidden)[:, : hidden.shape[1]]).cpu().double().numpy()

    def _logits(self, tokens: np.ndarray, hidden: np.ndarray) -> torch.Tensor:
        padding = -hidden.shape[1] % self.config.block_length
        tokens = np.pad(tokens, ((0, 0), (0, padding)), constant_values=BOUNDARY)
        hidden = np.pad(hidden, ((0, 0), (0, padding)), constant_values=True)
        logits: torch.Tensor = self._network(self._on_device(tokens), self._on_device(hidden))
        return logits

    def _after(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, V): logits of the token after the last input; one pass, in which its block alone is noisy."""
        last, block = inputs.shape[1] - 1, self.config.block_length
        start = last // block * block
        tokens = functional.pad(inputs, (0, start + block - last), value=BOUNDARY)
        hidden = torch.arange(start + block, device=inputs.device) >= last
        logits: torch.Tensor = self._network(tokens, hidden.expand(len(inputs), -1), start)
        return logits[:, last - start]

    def _score_piece(self, rows: np.ndarray, last: bool) -> np.ndarray:
        """One pass where the last token alone is scored."""
        if not last:
            return super()._score_piece(rows, last)
        with torch.inference_mode():
            tokens = self._on_device(rows)
            return target_log_probs(self._after(tokens[:, :-1])[:, None], tokens[:, -1:]).cpu().double().numpy()

    def _tokens_at_once(self) -> int:
        """Fewer rows than of other networks, since a short row is read with its whole block."""
        return max(1, min(PIECE, super()._tokens_at_once()) // 2)


class OneBlock:
    """As ``CleanBlocks``, where the first block is the last: even the token before it attends to hidden places."""

    def __init__(self, model: DiffusionModel, before: np.ndarray) -> None:
        self.model, self.before = model, before

    def log_probs(self, tokens: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """(B, n) tokens of the block and which of them are hidden -> (B, n, V) nats."""
        return self.model.log_probs(np.column_stack([self.before, tokens]), hidden)

    def append(self, tokens: np.ndarray) -> None:
        """(B, T): no block follows that could read them."""
        raise AssertionError("a row of one block has no other")


class BlockDiffusionModel(DiffusionModel):
    """Its blocks are shorter than the window, or as long: then nothing is worth a cache."""

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:
        """(B, T), T may be 0 -> the decoding state after the prefix, of which it reads as ``next_log_probs`` does."""
        prefix, network = np.asarray(prefix, dtype=np.int64), self._network
        if self.config.block_length == self.config.window:
            return Recompute(cast("LanguageModel", self), prefix)
        assert isinstance(network, Denoiser), "as ``build`` makes it"
        return BlockDecodingState(network, prefix, self.config.window)


class MaskedDiffusionModel(DiffusionModel):
    """The block is the window, so that both sides of a gap are known."""

    def fill_log_probs(self, left: np.ndarray, filled: np.ndarray, right: np.ndarray, hidden: int) -> np.ndarray:
        """(B, L), (B, J), (B, R) -> (B, V) nats of the token after the first J of a gap of J + ``hidden`` tokens."""
        before, left, right = sides_within(self.config.window, filled.shape[1] + hidden, left, right)
        known, unknown = left.shape[1] + filled.shape[1], np.full((len(left), hidden), BOUNDARY)
        row = np.column_stack([before, left, filled, unknown, right]).astype(np.int64)
        places = np.arange(row.shape[1] - 1)
        is_hidden = (places >= known) & (places < known + hidden)
        return self.log_probs(row, np.tile(is_hidden, (len(row), 1)))[:, known]


class HiddenTokens:
    """Cross-entropy of hidden tokens: ``weighting`` says what each counts in training; valid is scored by the bound."""

    def __init__(self, config: Diffusion) -> None:
        self.block, self.weighting, self.given_share = config.block_length, config.weighting, config.given_share

    def __call__(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """Draws for all rows of the whole batch, one stratum of the hidden fraction for each of its blocks."""
        draws, is_open = draw.generator(), self.open_places(batch)
        counts = is_open.sum(-1)
        is_given = draws.random(counts.shape) < self.given_share
        given = np.where(is_given, (draws.random(counts.shape) * counts).astype(np.int64), 0)
        hideable = is_open & (np.arange(self.block) >= given[..., None])
        hidden = self.drawn(hideable, draws)
        if self.weighting == "flat":
            weights = hidden.places * (counts.sum() / max(1, hidden.places.sum()))
        else:  # the mean over what may be hidden stands for the whole block
            weights = hidden.weights * (counts / np.maximum(1, hideable.sum(-1)))[..., None]
        return self.loss(network, batch, is_open, Hidden(hidden.places, weights), draw)

    def selected(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """The bound: of short blocks all choices of hidden places, of others one for each block."""
        is_open = self.open_places(batch)
        choices = every_choice(is_open) if self.block <= ENUMERATED else [self.drawn(is_open, draw.generator())]
        losses = [self.loss(network, batch, is_open, hidden, draw) for hidden in choices]
        return torch.stack(losses).sum()

    def open_places(self, batch: Batch) -> np.ndarray:
        """(rows of the whole batch, blocks, places): where there are targets."""
        return open_places(batch.lengths, batch.targets.shape[1] // self.block, self.block)

    def drawn(self, hideable: np.ndarray, draws: np.random.Generator) -> Hidden:
        """A choice for every block, counts stratified over all of them."""
        fractions = stratified(draws, hideable[..., 0].size).reshape(hideable.shape[:2])
        return hidden_at_random(hideable, fractions, draws.random(hideable.shape))

    def loss(self, network: Network, batch: Batch, is_open: np.ndarray, hidden: Hidden, draw: Draw) -> torch.Tensor:
        """The weighted sum over this process's rows; what lies past the end of a text is hidden without weight."""
        local = (draw.local_rows(part) for part in (hidden.places | ~is_open, hidden.weights))
        places, weights = (torch.from_numpy(part.reshape(len(part), -1)).to(batch.targets.device) for part in local)
        known = batch.targets.clamp_min(BOUNDARY)  # IGNORED places are hidden
        logits = network(torch.cat([batch.inputs[:, :1], known], dim=1), places)
        counted = weights > 0
        nats = functional.cross_entropy(logits[counted], known[counted], reduction="none")
        return (nats * weights[counted].to(nats.dtype)).sum()
