"""The network of the diffusion models: logits of the tokens at hidden places, given the others of their block.

Rows are blocks of equal length, counted from the row's start; a row's first token, the one before it, is always known.
A row is read twice, side by side (Arriola et al. 2025): a noisy copy, whose hidden places all have one embedding in
place of their token's, and a clean copy of all but the last block.

    a noisy place attends to the noisy places of its own block and to the clean copy of what stands before the block
    a clean place attends to itself and to earlier clean places

so that one pass predicts hidden places of all blocks, each from clean earlier blocks. Where the window is one block,
nothing but the token before the row is clean, and attention is bidirectional. What stands at a hidden place is not
read. ``B`` rows, ``T`` places, ``V`` vocabulary, ``D`` width, ``W`` numbers per head.
"""

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.diffusion import Diffusion, Sed
from lmstages.core.documents import BOUNDARY
from lmstages.models.neural.attention import attend_where, merge_heads, rms_norm
from lmstages.models.neural.modern_gpt import Block, Network
from lmstages.models.nonautoregressive import gaussian

LEVELS = 16  # of noise, between which the embedding of a level is linear
KeysAndValues = tuple[torch.Tensor, torch.Tensor]  # of one layer, (B, H, N, W) each


class DenoisingBlock(Block):
    """A block of the modern GPT whose attention goes where a mask says."""

    def forward(self, x: torch.Tensor, cos_sin: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.behind(None, x, cos_sin, mask)[0]

    def behind(
        self,
        clean: KeysAndValues | None,
        x: torch.Tensor,
        cos_sin: torch.Tensor | None,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, KeysAndValues]:
        """(B, T, D) behind N cached places, ``mask`` (T, N + T) -> (B, T, D), and keys and values of all N + T."""
        attention = self.attention
        queries, *own = attention.project(self.attention_norm(x), cos_sin, None)
        keys, values = own if clean is None else (torch.cat(pair, dim=2) for pair in zip(clean, own, strict=True))
        mixed = attend_where(queries, keys, values, mask, attention.dropout if self.training else 0.0)  # (B, H, T, W)
        x = x + self.dropout(attention.output(merge_heads(mixed)))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x))), (keys, values)


class Denoiser(Network):
    """Predicts hidden tokens; without any it predicts the next token after each input, as every other network."""

    layer = DenoisingBlock

    def __init__(self, config: Diffusion, vocab_size: int) -> None:
        super().__init__(config.model_copy(update={"window": config.window + 1}), vocab_size)
        self.vocab_size, self.block, self.is_one_block = vocab_size, config.block_length, not _is_blocked(config)
        self.hidden = nn.Parameter(torch.empty(config.width))  # an input that is no token: never predicted
        nn.init.normal_(self.hidden, std=1.0 if config.zero_projections else 0.02)

    def forward(self, tokens: torch.Tensor, hidden: torch.Tensor | None = None, start: int = 0) -> torch.Tensor:
        """(B, 1 + T) tokens and which of the last T are hidden -> (B, T - start, V) logits, from place ``start`` on.

        T is a multiple of the block, and so is ``start``. Without ``hidden``: (B, T) -> (B, T, V), the logits after
        each input.
        """
        if hidden is None:
            return self.after_each(tokens)
        length, noisy = hidden.shape[1], hidden.shape[1] - start
        positions = torch.arange(length + 1, device=tokens.device)
        positions = torch.cat([positions[1 + start :], positions[: 1 + length - self.block]])
        is_hidden = torch.zeros(len(tokens), len(positions), dtype=torch.bool, device=tokens.device)
        is_hidden[:, :noisy] = hidden[:, start:]
        x = self.dropout(self.embed_known(tokens[:, positions], is_hidden, positions))
        cos_sin = None if self.cos_sin is None else self.cos_sin[:, positions]
        mask = None if self.is_one_block else self.attention_mask(positions, noisy)
        for block in self.blocks:
            x = block(x, cos_sin, mask)
        return self.logits(x[:, :noisy])

    def embed_known(self, tokens: torch.Tensor, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Tokens and which are hidden, (B, N), and their positions (N,) -> (B, N, D)."""
        x = torch.where(hidden[..., None], self.hidden, self.embedding(tokens))
        if self.positions is not None:
            x = x + self.positions[positions]
        return rms_norm(x) if self.rms_norm else x

    def attention_mask(self, positions: torch.Tensor, noisy: int) -> torch.Tensor:
        """Positions (N,), of which the first are of the noisy copy -> (N, N), true where a row's place may look."""
        block = torch.div(positions - 1, self.block, rounding_mode="floor")  # of the token before the row: -1
        is_noisy = torch.arange(len(positions), device=positions.device) < noisy
        own = is_noisy & (block[:, None] == block)
        before = ~is_noisy & (block[:, None] > block)
        return torch.where(is_noisy[:, None], own | before, ~is_noisy & (positions[:, None] >= positions))

    def after_each(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V): logits of the next token, the rest of its block hidden, in a pass for each place of it.

        What is hidden reaches to the end of the block, wherever the row ends.
        """
        rows, length = inputs.shape
        tokens = functional.pad(inputs, (0, self.padding(length) + 1), value=BOUNDARY)
        places = torch.arange(tokens.shape[1] - 1, device=inputs.device) % self.block
        passes = []
        for first in range(min(self.block, length)):
            hidden = (places >= first).expand(rows, -1)
            passes.append(self(tokens, hidden)[:, first :: self.block])  # (B, blocks, V)
        return torch.stack(passes, dim=2).flatten(1, 2)[:, :length]

    def padding(self, length: int) -> int:
        """Places from the end of so many to the end of their block."""
        return -length % self.block


class NoisyDenoiser(Network):
    """Predicts what stood at every place of a window of which some tokens are noise; attention goes both ways.

    A place's level says with which probability its token was kept: 1 is known, 0 is noise. It is an embedding, linear
    between evenly spaced levels, added to the token's.
    """

    layer = DenoisingBlock

    def __init__(self, config: Diffusion, vocab_size: int) -> None:
        super().__init__(config.model_copy(update={"window": config.window + 1}), vocab_size)
        self.levels = nn.Embedding(LEVELS + 1, config.width)
        nn.init.zeros_(self.levels.weight)

    def forward(self, tokens: torch.Tensor, levels: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T) tokens and their levels, 0 unless given -> (B, T, V) logits of the tokens at the same places."""
        levels = torch.zeros_like(tokens, dtype=self.levels.weight.dtype) if levels is None else levels
        return self.denoised(self.embedding(tokens) + self.embed_levels(levels))

    def denoised(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) what is read at each place -> (B, T, V)."""
        length = x.shape[1]
        if self.positions is not None:
            x = x + self.positions[:length]
        x = self.dropout(rms_norm(x) if self.rms_norm else x)
        cos_sin = None if self.cos_sin is None else self.cos_sin[:, :length]
        for block in self.blocks:
            x = block(x, cos_sin, None)
        return self.logits(x)

    def embed_levels(self, levels: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, D)."""
        below = (levels * LEVELS).long().clamp_max(LEVELS - 1)
        return torch.lerp(self.levels(below), self.levels(below + 1), (levels * LEVELS - below)[..., None])


class EmbeddingDenoiser(NoisyDenoiser):
    """Reads at every place what its noisy vector alone says of the token, and an estimate of the token's embedding.

    The first is the mean of the network's own embeddings, of width D, under the probabilities of the tokens given the
    vector, which are known: it begins where other networks begin, and noise does not pass through it. The
    embeddings that are noisy have random directions and one length, so that none is easier to tell; they are fixed.
    """

    def __init__(self, config: Sed, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        directions = torch.randn(vocab_size, config.embedding)
        self.register_buffer("embeddings", functional.normalize(directions, dim=-1) * config.embedding**0.5)
        self.estimates = nn.Linear(config.embedding, config.width, bias=False)
        nn.init.zeros_(self.estimates.weight)

    def forward(
        self, places: torch.Tensor, levels: torch.Tensor | None = None, estimates: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, T) tokens or (B, T, E) vectors, levels (B, T), estimates (B, T, E) -> (B, T, V) logits of the tokens.

        Unless given, levels are 1, and the estimates are what is read.
        """
        embeddings = self.get_buffer("embeddings")
        vectors = places if places.is_floating_point() else embeddings[places]
        levels = torch.ones_like(vectors[..., 0]) if levels is None else levels
        evidence = gaussian.with_evidence(vectors.new_zeros(()), vectors, levels, embeddings)  # (B, T, V)
        read = evidence.softmax(-1) @ self.embedding.weight + self.estimates(
            vectors if estimates is None else estimates
        )
        return self.denoised(read + self.embed_levels(levels))


def _is_blocked(config: Diffusion) -> bool:
    return config.block_length < config.window
