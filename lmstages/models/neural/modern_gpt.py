"""Modern GPT: GPT with what small, quick training runs have found better since, each part by a switch.

    norm             x / sqrt(mean(x^2) + epsilon), without weights, of the embedding too  (Zhang & Sennrich 2019)
    positions        queries and keys rotated                                              (Su et al. 2021)
    queries, keys    normed before they are multiplied, so that no product runs away       (Henry et al. 2020)
    activation       relu(x)^2                                                             (So et al. 2021)
    start            whatever adds to the residual stream is zero, and so is the output    (Zhang et al. 2019)
    logits           c tanh(logits / c): none beyond c                                     (Gemma Team 2024)
    value embedding  every layer's values get a vector of the token itself                 (Zhou et al. 2024)
    n-gram embedding the input gets a vector of the last n tokens, hashed into buckets     (Bojanowski et al. 2017)

With every switch off it is GPT's network, number for number. The collection, and training it by Muon, follow
Jordan et al. 2024 (modded-nanogpt).
"""

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import ModernGPT
from lmstages.core.documents import BOUNDARY
from lmstages.models.neural.attention import (
    AttentionModel,
    AttentionNetwork,
    Cache,
    Direct,
    LayerCache,
    LayerNorm,
    Linear,
    attend,
    normed,
    rotated,
    rotation,
)

HASH = 1_000_003  # a prime far above any vocabulary's size in use, so that neighbours spread over the buckets


class ModernModel(AttentionModel):
    """Sees at most ``model.window`` tokens."""

    config: ModernGPT

    def build(self) -> nn.Module:
        """The network with its parts switched on."""
        return Network(self.config, self.vocab_size)


class Norm(Direct, nn.Module):
    """(..., D) -> (..., D): RMSNorm without weights, or GPT's LayerNorm."""

    def __init__(self, config: ModernGPT) -> None:
        super().__init__()
        self.layer = None if config.rms_norm else LayerNorm(config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every vector by itself."""
        return normed(x) if self.layer is None else self.layer(x)


class SquaredReLU(torch.autograd.Function):
    """relu(x)^2, its slope 2 relu(x) written down: torch would get it by a power, at three times the price."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        """Keeps relu(x) for the way back."""
        positive = functional.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, slope: torch.Tensor) -> torch.Tensor:
        """The chain rule."""
        (positive,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (slope * positive).mul_(2)


class Attention(Direct, nn.Module):
    """Causal self-attention, (B, T, D) -> (B, T, D); queries, keys and values are a matrix each, of ``heads`` parts."""

    def __init__(self, config: ModernGPT) -> None:
        super().__init__()
        self.heads, self.dropout, self.normed = config.heads, config.dropout, config.query_key_norm
        self.queries_keys_values = nn.Parameter(torch.empty(3, config.width, config.width))
        self.output = Linear(config.width, config.width, bias=False)

    def forward(
        self, x: torch.Tensor, cache: LayerCache | None, turn: torch.Tensor, added: torch.Tensor
    ) -> torch.Tensor:
        """``turn`` (2, T, W) rotates queries and keys, ``added`` (B, T, D) joins the values; either may be empty."""
        rows, length, width = x.shape
        packed = functional.linear(x, self.queries_keys_values.flatten(0, 1)).view(rows, length, 3, self.heads, -1)
        packed = packed.permute(2, 0, 3, 1, 4)  # (3, B, H, T, D / H)
        both, values = packed[:2], packed[2]
        both = normed(both) if self.normed else both
        queries, keys = (rotated(both, turn) if turn.numel() else both).unbind(0)
        if added.numel():
            values = values + added.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed = attend(queries, keys, values, self.dropout if self.training else 0.0, cache)
        return self.output(mixed.transpose(1, 2).reshape(rows, length, width))


class FeedForward(Direct, nn.Module):
    """(B, T, D) -> (B, T, D), every position by itself, four times as wide inside."""

    def __init__(self, config: ModernGPT) -> None:
        super().__init__()
        self.squared = config.squared_relu
        self.up = Linear(config.width, 4 * config.width, bias=False)
        self.down = Linear(4 * config.width, config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """ReLU^2, or GPT's GELU."""
        hidden = self.up(x)
        return self.down(SquaredReLU.apply(hidden) if self.squared else functional.gelu(hidden))


class Block(Direct, nn.Module):
    """Attention, then feed-forward, each behind a norm and added to its input."""

    def __init__(self, config: ModernGPT, vocab_size: int) -> None:
        super().__init__()
        self.attention_norm, self.feedforward_norm = Norm(config), Norm(config)
        self.attention, self.feedforward = Attention(config), FeedForward(config)
        self.values = nn.Embedding(vocab_size, config.width) if config.value_embeddings else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, cache: LayerCache | None, turn: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """(B, T, D) -> (B, T, D); ``tokens`` (B, T) are those that x came from."""
        added = x.new_empty(0) if self.values is None else self.values(tokens)
        x = x + self._dropped(self.attention(self.attention_norm(x), cache, turn, added))
        return x + self._dropped(self.feedforward(self.feedforward_norm(x)))

    def _dropped(self, change: torch.Tensor) -> torch.Tensor:
        return self.dropout(change) if self.training else change


class Network(AttentionNetwork):
    """(B, T) -> (B, T, V), T at most ``window``."""

    turn: torch.Tensor

    def __init__(self, config: ModernGPT, vocab_size: int) -> None:
        super().__init__()
        self.softcap, self.normed = config.softcap, config.rms_norm
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.ngrams = NgramEmbedding(config, vocab_size) if config.ngram_embeddings else None
        self.positions = None if config.rotary else nn.Parameter(torch.empty(config.window, config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, vocab_size) for _ in range(config.layers))
        self.norm = Norm(config)
        self.output = None if config.tied_output else Linear(config.width, vocab_size, bias=False)
        turn = (
            rotation(config.window, config.width // config.heads, config.rope_base)
            if config.rotary
            else torch.empty(2, 0)
        )
        self.register_buffer("turn", turn, persistent=False)
        self._initialise(config)

    def _initialise(self, config: ModernGPT) -> None:
        """Matrices N(0, 1 / 2 D); or GPT-2's N(0, 0.02), smaller where it adds to the residual stream."""
        for name, weight in self.named_parameters():
            adds = name.endswith(("attention.output.weight", "feedforward.down.weight"))
            if weight.dim() < 2:
                continue
            if not config.zero_projections:
                nn.init.normal_(weight, std=0.02 / (2 * config.layers) ** 0.5 if adds else 0.02)
            elif adds or name == "output.weight" or name.startswith("ngrams.") or ".values." in name:
                nn.init.zeros_(weight)
            else:
                nn.init.normal_(weight, std=1.0 if name == "embedding.weight" else (2 * config.width) ** -0.5)

    def forward(self, tokens: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """Logits of the token after each input."""
        places = self.places(tokens, cache)
        x = self.embedding(tokens)
        if self.ngrams is not None:
            x = x + self.ngrams(tokens, cache)
        if self.positions is not None:
            x = x + self.positions[places]
        x = self.dropout(normed(x) if self.normed else x)
        x = self.norm(self.through(x, cache, self.turn[:, places], tokens))
        logits = functional.linear(x, self.embedding.weight if self.output is None else self.output.weight)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


class NgramEmbedding(nn.Module):
    """(B, T) -> (B, T, D): for each order n a vector of the last n tokens, by their hash among the buckets."""

    def __init__(self, config: ModernGPT, vocab_size: int) -> None:
        super().__init__()
        self.orders, self.buckets, self.vocab_size = config.ngram_embeddings, config.ngram_buckets, vocab_size
        self.tables = nn.ModuleList(nn.Embedding(config.ngram_buckets, config.width) for _ in config.ngram_embeddings)

    def forward(self, tokens: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        """What stands before a row is boundaries."""
        before = max(self.orders) - 1
        known = None if cache is None else cache.last
        last = tokens.new_full((len(tokens), before), BOUNDARY) if known is None else known
        row = torch.cat([last, tokens], dim=1)
        if cache is not None:
            cache.last = row[:, -before:]
        return sum(table(self.hashed(row, order)) for table, order in zip(self.tables, self.orders, strict=True))

    def hashed(self, row: torch.Tensor, order: int) -> torch.Tensor:
        """(B, before + T) -> (B, T) buckets; all different where the n-grams are no more than the buckets."""
        length = row.shape[1] - (max(self.orders) - 1)
        factor = self.vocab_size if self.vocab_size**order <= self.buckets else HASH
        code = torch.zeros_like(row[:, -length:])
        for distance in reversed(range(order)):
            code = code * factor + row[:, row.shape[1] - length - distance : row.shape[1] - distance]
        return code % self.buckets
