"""Modern GPT: GPT with what small, quick training runs have found better since, each part by a switch.

    norm             x / sqrt(mean(x^2) + epsilon), parameter-free, of the embedding too   (Zhang & Sennrich 2019)
    positions        queries and keys rotated                                              (RoPE, Su et al. 2021)
    queries, keys    normalised before they are multiplied, which bounds their products    (QK-norm, Henry et al. 2020)
    activation       relu(x)^2                                                             (So et al. 2021)
    initialisation   zero for projections into the residual stream and for the output      (Zhang et al. 2019)
    logits           soft-cap c tanh(logits / c), between -c and c                         (Gemma Team 2024)
    value embedding  every layer adds an embedding of the token to its values              (Zhou et al. 2024)
    n-gram embedding an embedding of the last n tokens, hashed into buckets, is added to x (Bojanowski et al. 2017)

With every switch off it is GPT's network, number for number. The collection, and training it by Muon, follow
Jordan et al. 2024 (modded-nanogpt).
"""

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import ModernGPT
from lmstages.core.documents import BOUNDARY
from lmstages.models.neural.attention import apply_rotary, attend, merge_heads, rms_norm, rotary_cos_sin
from lmstages.models.neural.decoding import AttentionModel, ModernDecoder
from lmstages.training.large_vocabulary import summed_cross_entropy

Positions = slice | torch.Tensor
HASH = 1_000_003  # a prime far above any vocabulary size in use, so that similar n-grams spread over the buckets


class ModernModel(AttentionModel):
    """Attends to at most ``window`` tokens."""

    config: ModernGPT
    takes_targets = True
    decoder = ModernDecoder

    def build(self) -> nn.Module:
        """The network with the parts that the record switches on."""
        return Network(self.config, self.vocab_size)


class Norm(nn.Module):
    """(..., D) -> (..., D): parameter-free RMSNorm, or GPT's LayerNorm without bias."""

    def __init__(self, config: ModernGPT) -> None:
        super().__init__()
        self.layer = None if config.rms_norm else nn.LayerNorm(config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises over the last axis."""
        return rms_norm(x) if self.layer is None else self.layer(x)


class SquaredReLU(torch.autograd.Function):
    """relu(x)^2 with the gradient 2 relu(x); torch would differentiate a power, which takes three times as long."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        """Saves relu(x) for backward."""
        positive = functional.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        """gradient * 2 relu(x)."""
        (positive,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (gradient * positive).mul_(2)


class Attention(nn.Module):
    """Causal self-attention, (B, T, D) -> (B, T, D); queries, keys and values have a matrix each, split into heads."""

    def __init__(self, config: ModernGPT) -> None:
        super().__init__()
        self.heads, self.dropout, self.query_key_norm = config.heads, config.dropout, config.query_key_norm
        self.queries_keys_values = nn.Parameter(torch.empty(3, config.width, config.width))
        self.output = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: torch.Tensor, cos_sin: torch.Tensor | None, value: torch.Tensor | None) -> torch.Tensor:
        """Arguments as those of ``project``."""
        queries, keys, values = self.project(x, cos_sin, value)
        mixed = attend(queries, keys, values, self.dropout if self.training else 0.0)  # (B, H, T, D / H)
        return self.output(merge_heads(mixed))  # (B, T, D)

    def project(
        self, x: torch.Tensor, cos_sin: torch.Tensor | None, value: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        """(B, T, D) -> queries, keys and values, (B, H, T, D / H) each.

        ``cos_sin`` (2, T, D / H) rotates queries and keys; ``value`` (B, T, D) is added to the values.
        """
        packed = functional.linear(x, self.queries_keys_values.flatten(0, 1)).unflatten(-1, (3, self.heads, -1))
        packed = packed.permute(2, 0, 3, 1, 4)  # (3, B, H, T, D / H)
        queries_keys, values = packed[:2], packed[2]
        if self.query_key_norm:
            queries_keys = rms_norm(queries_keys)
        if cos_sin is not None:
            queries_keys = apply_rotary(queries_keys, cos_sin)
        if value is not None:
            values = values + value.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return *queries_keys.unbind(), values


class FeedForward(nn.Module):
    """(B, T, D) -> (B, T, D), each position independently, with 4 D hidden units."""

    def __init__(self, config: ModernGPT) -> None:
        super().__init__()
        self.squared = config.squared_relu
        self.up = nn.Linear(config.width, 4 * config.width, bias=False)
        self.down = nn.Linear(4 * config.width, config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """down(relu(up x)^2), or with GPT's GELU."""
        hidden = self.up(x)  # (B, T, 4 D)
        return self.down(SquaredReLU.apply(hidden) if self.squared else functional.gelu(hidden))


class Block(nn.Module):
    """Attention, then feed-forward, each behind a norm and added to its input."""

    def __init__(self, config: ModernGPT, vocab_size: int) -> None:
        super().__init__()
        self.attention_norm, self.feedforward_norm = Norm(config), Norm(config)
        self.attention, self.feedforward = Attention(config), FeedForward(config)
        self.values = nn.Embedding(vocab_size, config.width) if config.value_embeddings else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, cos_sin: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D); ``tokens`` (B, T) select the value embeddings."""
        value = None if self.values is None else self.values(tokens)  # (B, T, D)
        x = x + self.dropout(self.attention(self.attention_norm(x), cos_sin, value))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class Network(nn.Module):
    """(B, T) -> (B, T, V), T at most ``window``; ``sentinels``: inputs from V on that are never predicted."""

    layer: type[Block] = Block
    cos_sin: torch.Tensor | None  # (2, window, D / H)

    def __init__(self, config: ModernGPT, vocab_size: int, sentinels: int = 0) -> None:
        super().__init__()
        self.softcap, self.rms_norm, self.outputs = config.softcap, config.rms_norm, vocab_size
        inputs = vocab_size + sentinels
        self.embedding = nn.Embedding(inputs, config.width)
        self.ngrams = NgramEmbedding(config, inputs) if config.ngram_embeddings else None
        self.positions = None if config.rotary else nn.Parameter(torch.empty(config.window, config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(self.layer(config, inputs) for _ in range(config.layers))
        self.norm = Norm(config)
        self.output = None if config.tied_output else nn.Linear(config.width, vocab_size, bias=False)
        cos_sin = rotary_cos_sin(config.window, config.width // config.heads, config.rope_base)
        self.register_buffer("cos_sin", cos_sin if config.rotary else None, persistent=False)
        self._initialise(config)

    def _initialise(self, config: ModernGPT) -> None:
        """Zero projections and N(0, 1 / 2 D) else; or GPT-2's N(0, 0.02), smaller into the residual stream."""
        for name, weight in self.named_parameters():
            into_stream = name.endswith(("attention.output.weight", "feedforward.down.weight"))
            if weight.dim() < 2:
                continue
            if not config.zero_projections:
                nn.init.normal_(weight, std=0.02 / (2 * config.layers) ** 0.5 if into_stream else 0.02)
            elif into_stream or name == "output.weight" or name.startswith("ngrams.") or ".values." in name:
                nn.init.zeros_(weight)
            else:
                nn.init.normal_(weight, std=1.0 if name == "embedding.weight" else (2 * config.width) ** -0.5)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the token after each input; of ``targets`` (B, T) their summed cross-entropy instead."""
        x = self.states(tokens)
        return self.logits(x) if targets is None else summed_cross_entropy(self.logits, x, targets)

    def states(self, tokens: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T) -> (B, T, D), what the last block makes of each input; ``places``: where they stand, else end to end.

        What form ``places`` has is the matter of ``embed`` and ``rotary``.
        """
        positions = slice(0, tokens.shape[1]) if places is None else places
        x, cos_sin = self.dropout(self.embed(tokens, positions)), self.rotary(positions)  # (B, T, D)
        for block in self.blocks:
            x = block(x, cos_sin, tokens)
        return x

    def rotary(self, positions: Positions) -> torch.Tensor | None:
        """The rotations at ``positions``, as ``apply_rotary`` takes them."""
        return None if self.cos_sin is None else self.cos_sin[:, positions]

    def embed(self, tokens: torch.Tensor, positions: Positions, before: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T) tokens at ``positions`` -> (B, T, D); ``before``: the tokens in front, as in ``NgramEmbedding``."""
        x = self.embedding(tokens)
        if self.ngrams is not None:
            x = x + self.ngrams(tokens, before)
        if self.positions is not None:
            x = x + self.positions[positions]
        return rms_norm(x) if self.rms_norm else x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., V), soft-capped; a tied output multiplies by the embedding."""
        x = self.norm(x)
        tied = self.embedding.weight[: self.outputs]
        logits = functional.linear(x, tied) if self.output is None else self.output(x)
        return logits if self.softcap is None else soft_capped(logits, self.softcap)


def soft_capped(logits: torch.Tensor, bound: float) -> torch.Tensor:
    """Logits within -``bound`` and ``bound``, small ones nearly as they are."""
    return bound * torch.tanh(logits / bound)


class NgramEmbedding(nn.Module):
    """(B, T) -> (B, T, D): the sum over orders n of an embedding of the last n tokens, by hash bucket."""

    def __init__(self, config: ModernGPT, vocab_size: int) -> None:
        super().__init__()
        self.orders, self.buckets, self.vocab_size = config.ngram_embeddings, config.ngram_buckets, vocab_size
        self.context = max(self.orders) - 1  # tokens in front of a row that its n-grams reach back to
        self.tables = nn.ModuleList(nn.Embedding(config.ngram_buckets, config.width) for _ in config.ngram_embeddings)

    def forward(self, tokens: torch.Tensor, before: torch.Tensor | None = None) -> torch.Tensor:
        """``before`` (B, context) are the tokens in front of the row, boundaries unless given."""
        if before is None:
            before = tokens.new_full((len(tokens), self.context), BOUNDARY)
        row = torch.cat([before, tokens], dim=1)  # (B, context + T)
        return sum(table(self.hashed(row, order)) for table, order in zip(self.tables, self.orders, strict=True))

    def hashed(self, row: torch.Tensor, order: int) -> torch.Tensor:
        """(B, context + T) -> (B, T) buckets; distinct where there are no more n-grams than buckets."""
        length = row.shape[1] - self.context
        factor = self.vocab_size if self.vocab_size**order <= self.buckets else HASH
        code = torch.zeros_like(row[:, -length:])
        for distance in reversed(range(order)):
            code = code * factor + row[:, row.shape[1] - length - distance : row.shape[1] - distance]
        return code % self.buckets
