"""WaveNet: a tree of layers that fuses neighbouring vectors in pairs until the window is one vector.

    tree      y[t] = f(W [x[2t]; x[2t + 1]])       one window, half as many vectors after each layer
    dilated   y[t] = f(W [x[t]; x[t + 2^l]])       layer l over a whole row, all windows at once

f is BatchNorm, then tanh. Where the MLP fuses its window in one layer, this takes log2(window) layers. The tree is the
form of the makemore lecture (Karpathy 2022). The dilated causal convolution (van den Oord et al. 2016) computes a
hidden vector once, not once per window that contains it, and gives the same logits from the same weights.
"""

import torch
from torch import nn

from lmstages.config.hyperparameters.neural import WaveNet
from lmstages.models.neural.base import NeuralModel


class WaveNetModel(NeuralModel):
    """Sees ``2 ** layers`` tokens; its BatchNorms' running statistics are fitted and stored, but are no parameters."""

    config: WaveNet
    windowed = True

    def __init__(self, config: WaveNet, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.window = config.window

    def build(self) -> nn.Module:
        """The network with torch's own initialisation."""
        return Convolutions(self.config, self.vocab_size)


class Convolutions(nn.Module):
    """(B, window + T - 1) -> (B, T, V): a single window as a tree, a longer row by dilated convolution."""

    def __init__(self, config: WaveNet, vocab_size: int) -> None:
        super().__init__()
        widths = [config.embedding] + [config.hidden] * (config.layers - 1)
        self.window = config.window
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        self.layers = nn.ModuleList(Fusion(width, config) for width in widths)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, vocab_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The faster form: the tree for a single window, the convolution for longer rows."""
        return self.tree(tokens) if tokens.shape[1] == self.window else self.dilated(tokens)

    def tree(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, window) -> (B, 1, V)."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x.unflatten(1, (-1, 2)).flatten(2))  # (B, window / 2, 2 D) in the first layer
        return self.output(self.dropout(x))

    def dilated(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, window + T - 1) -> (B, T, V)."""
        x = self.embedding(tokens)
        for depth, layer in enumerate(self.layers):
            distance = 2**depth
            x = layer(torch.cat([x[:, :-distance], x[:, distance:]], dim=-1))  # ``distance`` vectors fewer
        return self.output(self.dropout(x))


class Fusion(nn.Module):
    """(B, T, 2 D) -> (B, T, H): linear, BatchNorm over rows and positions, tanh."""

    def __init__(self, width: int, config: WaveNet) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, config.hidden, bias=config.bias)
        self.norm = nn.BatchNorm1d(config.hidden)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Each input is two vectors, concatenated in order."""
        x = self.linear(pairs)
        return torch.tanh(self.norm(x.flatten(0, 1)).view_as(x))
