"""LLaMA: GPT with four of its parts replaced (Touvron et al. 2023, section 2.2).

    positions      queries and keys rotated by an angle proportional to the position  (RoPE, Su et al. 2021)
    feed-forward   down(silu(gate x) * up x)                                          (SwiGLU, Shazeer 2020)
    norm           w x / sqrt(mean(x^2) + epsilon)                                    (RMSNorm, Zhang & Sennrich 2019)
    keys, values   shared by groups of heads                                          (Ainslie et al. 2023)

No biases. After the rotation the product of a query and a key depends on the distance of their positions alone.
"""

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import Llama
from lmstages.models.neural.attention import RMSNorm, apply_rotary, attend, merge_heads, rotary_cos_sin
from lmstages.models.neural.decoding import AttentionModel, LlamaDecoder
from lmstages.training.large_vocabulary import summed_cross_entropy


class LlamaModel(AttentionModel):
    """Attends to at most ``window`` tokens."""

    config: Llama
    takes_targets = True
    decoder: type[LlamaDecoder] = LlamaDecoder

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

    def forward(self, x: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
        """``cos_sin`` (2, T, W) holds the rotation of each position."""
        queries, keys, values = self.project(x, cos_sin)
        mixed = attend(queries, keys, values, self.dropout if self.training else 0.0)  # (B, H, T, W)
        return self.output(merge_heads(mixed))  # (B, T, D)

    def project(self, x: torch.Tensor, cos_sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, T, D) -> queries (B, H, T, W), keys and values (B, key_value_heads, T, W); values are not rotated."""
        queries, keys, values = self._heads(self.queries(x)), self._heads(self.keys(x)), self._heads(self.values(x))
        return apply_rotary(queries, cos_sin), apply_rotary(keys, cos_sin), values

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H W) -> (B, H, T, W)."""
        return x.unflatten(-1, (-1, self.head_width)).transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU: a hidden layer multiplied by the gate of another, (B, T, D) -> (B, T, D), each position independently."""

    def __init__(self, config: Llama) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.hidden, bias=False)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """down(silu(gate x) * up x)."""
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

    def forward(self, x: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), cos_sin))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class Network(nn.Module):
    """(B, T) -> (B, T, V), T at most ``window``."""

    cos_sin: torch.Tensor  # (2, window, W)

    def __init__(self, config: Llama, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, eps=config.norm_epsilon)
        self.output = None if config.tied_output else nn.Linear(config.width, vocab_size, bias=False)
        cos_sin = rotary_cos_sin(config.window, config.width // config.heads, config.rope_base)
        self.register_buffer("cos_sin", cos_sin, persistent=False)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the token after each input; of ``targets`` (B, T) their summed cross-entropy instead."""
        cos_sin, x = self.cos_sin[:, : tokens.shape[1]], self.embedding(tokens)  # x (B, T, D)
        for block in self.blocks:
            x = block(x, cos_sin)
        return self.logits(x) if targets is None else summed_cross_entropy(self.logits, x, targets)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., V); a tied output multiplies by the embedding."""
        x = self.norm(x)
        return functional.linear(x, self.embedding.weight) if self.output is None else self.output(x)
