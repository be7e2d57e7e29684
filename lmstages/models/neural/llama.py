"""LLaMA: GPT with four of its parts replaced (Touvron et al. 2023, section 2.2).

    positions      queries and keys rotated by an angle that grows with the place     (RoPE, Su et al. 2021)
    feed-forward   down(silu(gate x) * up x)                                          (SwiGLU, Shazeer 2020)
    norm           w x / sqrt(mean(x^2) + epsilon)                                    (RMSNorm, Zhang & Sennrich 2019)
    keys, values   shared by groups of heads                                          (Ainslie et al. 2023)

No biases. What a rotation leaves in a product of query and key is the distance between their places alone.
"""

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import Llama
from lmstages.models.neural.attention import (
    AttentionModel,
    AttentionNetwork,
    Cache,
    LayerCache,
    RMSNorm,
    attend,
    rotated,
    rotation,
)


class LlamaModel(AttentionModel):
    """Sees at most ``model.window`` tokens."""

    config: Llama

    def build(self) -> nn.Module:
        """The network, all matrices N(0, 0.02), smaller where they add to the residual stream (Radford et al. 2019)."""
        network = Network(self.config, self.vocab_size)
        for name, weight in network.named_parameters():
            into_stream = name.endswith(("attention.output.weight", "down.weight"))
            if weight.dim() >= 2:
                nn.init.normal_(weight, std=0.02 / (2 * self.config.layers) ** 0.5 if into_stream else 0.02)
        return network


class Attention(nn.Module):
    """Causal self-attention, (B, T, D) -> (B, T, D); each key and value serves heads / key_value_heads queries."""

    def __init__(self, config: Llama) -> None:
        super().__init__()
        self.head_width, self.dropout = config.width // config.heads, config.dropout
        shared = config.key_value_heads * self.head_width
        self.queries = nn.Linear(config.width, config.width, bias=False)
        self.keys = nn.Linear(config.width, shared, bias=False)
        self.values = nn.Linear(config.width, shared, bias=False)
        self.output = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: torch.Tensor, cache: LayerCache | None, turn: torch.Tensor) -> torch.Tensor:
        """Queries and keys are turned, values are not."""
        queries, keys, values = self._heads(self.queries(x)), self._heads(self.keys(x)), self._heads(self.values(x))
        dropout = self.dropout if self.training else 0.0
        mixed = attend(rotated(queries, turn), rotated(keys, turn), values, dropout, cache)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H * W) -> (B, H, T, W)."""
        return x.unflatten(-1, (-1, self.head_width)).transpose(1, 2)


class FeedForward(nn.Module):
    """A hidden layer whose units are gated by another's, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: Llama) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.hidden, bias=False)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every position by itself."""
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention, then feed-forward, each behind a norm and added to its input."""

    def __init__(self, config: Llama) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, eps=config.norm_epsilon)
        self.attention = Attention(config)
        self.feedforward_norm = RMSNorm(config.width, eps=config.norm_epsilon)
        self.feedforward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, cache: LayerCache | None, turn: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), cache, turn))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class Network(AttentionNetwork):
    """(B, T) -> (B, T, V), T at most ``window``."""

    turn: torch.Tensor

    def __init__(self, config: Llama, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, eps=config.norm_epsilon)
        self.output = None if config.tied_output else nn.Linear(config.width, vocab_size, bias=False)
        turn = rotation(config.window, config.width // config.heads, config.rope_base)
        self.register_buffer("turn", turn, persistent=False)

    def forward(self, tokens: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """Logits of the token after each input."""
        turn = self.turn[:, self.places(tokens, cache)]
        x = self.norm(self.through(self.embedding(tokens), cache, turn))
        return functional.linear(x, self.embedding.weight) if self.output is None else self.output(x)
