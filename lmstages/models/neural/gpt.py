"""GPT: a decoder-only transformer with learned positions (Vaswani et al. 2017; Radford et al. 2019).

    x = x + attention(norm(x));  x = x + feedforward(norm(x))      in every layer

It adds to the MLP a longer window, in which attention weights depend on what the tokens are. A switch of the record
leaves out each part of that formula, so that the lecture's steps from a single head to the whole network are six
records of one class (Karpathy 2023, "Let's build GPT"). With the defaults it is nanoGPT's network.
"""

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import GPT
from lmstages.models.neural.attention import attend, merge_heads
from lmstages.models.neural.decoding import AttentionModel, GPTDecoder
from lmstages.training.large_vocabulary import summed_cross_entropy


class GPTModel(AttentionModel):
    """Attends to at most ``window`` tokens, whose positions are learned."""

    config: GPT
    takes_targets = True
    decoder = GPTDecoder

    def build(self) -> nn.Module:
        """The network, with GPT-2's initialisation or torch's own."""
        return Transformer(self.config, self.vocab_size)


class Attention(nn.Module):
    """Causal self-attention with ``heads`` heads, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: GPT) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.queries_keys_values = nn.Linear(config.width, 3 * config.width, bias=config.attention_bias)
        self.output = nn.Linear(config.width, config.width, bias=config.bias) if config.projection else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each position attends to itself and to earlier positions."""
        queries, keys, values = self.project(x)
        mixed = attend(queries, keys, values, self.dropout if self.training else 0.0)  # (B, H, T, D / H)
        return self.output(merge_heads(mixed))  # (B, T, D)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, T, D) -> queries, keys and values, (B, H, T, D / H) each."""
        packed = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, D / H)
        return packed.permute(2, 0, 3, 1, 4).unbind()


def feedforward(config: GPT) -> nn.Module:
    """(B, T, D) -> (B, T, D), each position independently; ``wide`` has 4 D hidden units."""
    activation = nn.GELU() if config.activation == "gelu" else nn.ReLU()
    if config.feedforward == "layer":
        return nn.Sequential(nn.Linear(config.width, config.width, bias=config.bias), activation)
    return nn.Sequential(
        nn.Linear(config.width, 4 * config.width, bias=config.bias),
        activation,
        nn.Linear(4 * config.width, config.width, bias=config.bias),
    )


def norm(config: GPT) -> nn.Module:
    """LayerNorm, or the identity where norms are switched off."""
    return nn.LayerNorm(config.width, bias=config.bias) if config.norms else nn.Identity()


class Block(nn.Module):
    """Attention, then a feed-forward layer, each behind a norm and added to its input, as far as switched on."""

    def __init__(self, config: GPT) -> None:
        super().__init__()
        self.residual = config.residual
        self.attention_norm = norm(config)
        self.attention = Attention(config)
        self.feedforward_norm = norm(config) if config.feedforward != "none" else None
        self.feedforward = feedforward(config) if config.feedforward != "none" else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.transform(self.add(x, self.attention(self.attention_norm(x))))

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D): the feed-forward half of the block."""
        if self.feedforward is None or self.feedforward_norm is None:
            return x
        return self.add(x, self.feedforward(self.feedforward_norm(x)))

    def add(self, x: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """The residual connection, with dropout of what is added."""
        change = self.dropout(change)
        return x + change if self.residual else change


class Transformer(nn.Module):
    """(B, T) -> (B, T, V), T at most ``window``."""

    def __init__(self, config: GPT, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.window, config.width))
        self.dropout = nn.Dropout(config.dropout if config.embedding_dropout else 0.0)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = norm(config)
        self.output = None if config.tied_output else nn.Linear(config.width, vocab_size, bias=config.bias)
        if config.initialisation == "gpt2":
            self._initialise(config.layers)
        else:
            nn.init.normal_(self.positions)

    def _initialise(self, layers: int) -> None:
        """N(0, 0.02); matrices that write to the residual stream N(0, 0.02 / sqrt(2 layers)), one per addition."""
        for name, weight in self.named_parameters():
            into_stream = name.endswith(("attention.output.weight", "feedforward.2.weight"))
            if weight.dim() >= 2:
                nn.init.normal_(weight, std=0.02 / (2 * layers) ** 0.5 if into_stream else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the token after each input; of ``targets`` (B, T) their summed cross-entropy instead."""
        x = self.dropout(self.embed(tokens))  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.logits(x) if targets is None else summed_cross_entropy(self.logits, x, targets)

    def embed(self, tokens: torch.Tensor, first: int = 0) -> torch.Tensor:
        """(B, T) tokens from position ``first`` on -> (B, T, D): token embedding plus position embedding."""
        return self.embedding(tokens) + self.positions[first : first + tokens.shape[1]]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., V); a tied output multiplies by the embedding."""
        x = self.norm(x)
        return functional.linear(x, self.embedding.weight) if self.output is None else self.output(x)
