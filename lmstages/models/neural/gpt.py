"""GPT: a decoder-only transformer with learned positions (Vaswani et al. 2017; Radford et al. 2019).

    x = x + attention(norm(x));  x = x + feedforward(norm(x))      in every layer

It adds to the MLP that the tokens it looks at are chosen by what they say, over a longer window. Each part
of that formula can be left out by a switch of the record, so that the way from a single head to the whole
is six records of one class (Karpathy 2023, "Let's build GPT"). With the defaults it is nanoGPT's network.
"""

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import GPT
from lmstages.models.neural.attention import (
    AttentionModel,
    AttentionNetwork,
    Cache,
    Direct,
    Joined,
    LayerCache,
    LayerNorm,
    Linear,
    OneToken,
    added,
    alone,
    attend,
    times,
)


class GPTModel(AttentionModel):
    """Sees at most ``model.window`` tokens, which have learned positions."""

    config: GPT

    def build(self) -> nn.Module:
        """The network, with GPT-2's initialisation or torch's own."""
        return Transformer(self.config, self.vocab_size)


class Attention(Direct, nn.Module):
    """Causal self-attention with ``heads`` heads, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: GPT) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.queries_keys_values = Linear(config.width, 3 * config.width, bias=config.attention_bias)
        self.output = Linear(config.width, config.width, bias=config.bias) if config.projection else nn.Identity()

    def forward(self, x: torch.Tensor, cache: LayerCache | None, last: bool = False) -> torch.Tensor:
        """Each position looks at itself and what came before; ``last`` asks for the last one's view, (B, 1, D)."""
        rows, length, width = x.shape
        packed = self.queries_keys_values(x).view(rows, length, 3, self.heads, width // self.heads)
        queries, keys, values = packed.permute(2, 0, 3, 1, 4)  # each (B, H, T, D / H)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(queries[:, :, -1:] if last else queries, keys, values, dropout, cache)
        return self.output(mixed.transpose(1, 2).reshape(rows, -1, width))

    def one_by_one(self, cache: LayerCache) -> OneToken:
        """(B, D) -> (B, D) for a token alone, before the output's matrix."""
        project = self.queries_keys_values
        width = project.in_features
        packed = project.weight.new_empty(cache.rows, 3 * width)
        attended = cache.attended(packed.view(cache.rows, 3, self.heads, -1))
        packed_into = times(project.weight, project.bias, packed)

        def step(x: torch.Tensor) -> torch.Tensor:
            packed_into(x)
            return attended().view(-1, width)

        return step


def feedforward(config: GPT) -> nn.Module:
    """(B, T, D) -> (B, T, D), every position by itself; ``wide`` is four times as wide inside."""
    activation = nn.GELU() if config.activation == "gelu" else nn.ReLU()
    if config.feedforward == "layer":
        return nn.Sequential(Linear(config.width, config.width, bias=config.bias), activation)
    return nn.Sequential(
        Linear(config.width, 4 * config.width, bias=config.bias),
        activation,
        Linear(4 * config.width, config.width, bias=config.bias),
    )


def norm(config: GPT) -> nn.Module:
    """LayerNorm, or nothing."""
    return LayerNorm(config.width, bias=config.bias) if config.norms else nn.Identity()


class Block(Direct, nn.Module):
    """Attention, then a feed-forward layer, each behind a norm and added to its input, as far as switched on."""

    def __init__(self, config: GPT) -> None:
        super().__init__()
        self.residual = config.residual
        self.attention_norm = norm(config)
        self.attention = Attention(config)
        self.feedforward_norm = norm(config) if config.feedforward != "none" else None
        self.feedforward = feedforward(config) if config.feedforward != "none" else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, cache: LayerCache | None, last: bool = False) -> torch.Tensor:
        """(B, T, D) -> (B, T, D), or (B, 1, D) of the ``last`` position alone."""
        change = self.attention(self.attention_norm(x), cache, last)
        x = self._joined(x[:, -1:] if last else x, change)
        if self.feedforward is None or self.feedforward_norm is None:
            return x
        return self._joined(x, self.feedforward(self.feedforward_norm(x)))

    def one_by_one(self, cache: LayerCache) -> OneToken:
        """(B, D) -> (B, D) for a token alone, without dropout."""
        norm, attention = alone(self.attention_norm), self.attention.one_by_one(cache)
        joined = added(self.attention.output, self.residual)
        if self.feedforward is None or self.feedforward_norm is None:
            return lambda x: joined(x, attention(norm(x)))
        inner_norm, (inner, joined_inner) = alone(self.feedforward_norm), self._feedforward_alone()

        def step(x: torch.Tensor) -> torch.Tensor:
            x = joined(x, attention(norm(x)))
            return joined_inner(x, inner(inner_norm(x)))

        return step

    def _feedforward_alone(self) -> tuple[OneToken, Joined]:
        """What is inside the feed-forward layer, and how it joins the stream."""
        assert isinstance(self.feedforward, nn.Sequential), "asked for where there is one"
        into, activation, *out = self.feedforward
        multiply, bend = alone(into), alone(activation)
        return lambda x: bend(multiply(x)), added(out[0] if out else nn.Identity(), self.residual)

    def _joined(self, x: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        if self.training:
            change = self.dropout(change)
        return x + change if self.residual else change


class Transformer(AttentionNetwork):
    """(B, T) -> (B, T, V), T at most ``window``."""

    def __init__(self, config: GPT, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.window, config.width))
        self.dropout = nn.Dropout(config.dropout if config.embedding_dropout else 0.0)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = norm(config)
        self.output = None if config.tied_output else Linear(config.width, vocab_size, bias=config.bias)
        if config.initialisation == "gpt2":
            self._initialise(config.layers)
        else:
            nn.init.normal_(self.positions)

    def _initialise(self, layers: int) -> None:
        """N(0, 0.02); what is added to the residual stream is smaller by the root of how often that happens."""
        for name, weight in self.named_parameters():
            into_stream = name.endswith(("attention.output.weight", "feedforward.2.weight"))
            if weight.dim() >= 2:
                nn.init.normal_(weight, std=0.02 / (2 * layers) ** 0.5 if into_stream else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, tokens: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """Logits of the token after each input."""
        x = self.dropout(self.embedding(tokens) + self.positions[self.places(tokens, cache)])
        return self._logits(self.through(x, cache))

    def last(self, tokens: torch.Tensor, cache: Cache) -> torch.Tensor:
        """The last block and the output see the last token alone; its keys and values are those of all."""
        x = self.embedding(tokens) + self.positions[self.places(tokens, cache)]
        final = len(self.blocks) - 1
        for depth, block in enumerate(self.blocks):
            x = block(x, cache.layers[depth], depth == final)
        return self._logits(x[:, -1])

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        return functional.linear(x, self.embedding.weight) if self.output is None else self.output(x)

    def one_by_one(self, cache: Cache) -> OneToken:
        """Every block in turn, for a token alone."""
        blocks = [
            block.one_by_one(layer)  # type: ignore[operator]
            for block, layer in zip(self.blocks, cache.layers, strict=True)
        ]
        embedding, positions, norm = self.embedding.weight, self.positions.unbind(), alone(self.norm)
        output = times(embedding, None) if self.output is None else alone(self.output)

        def step(tokens: torch.Tensor) -> torch.Tensor:
            x = embedding.index_select(0, tokens) + positions[cache.length]
            for block in blocks:
                x = block(x)
            return output(norm(x))

        return step
