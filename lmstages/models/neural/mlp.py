"""Networks over a fixed window of tokens: the neural bigram (a window of one) and Bengio's MLP.

    neural bigram   logits = W[x]                                     a (V, V) table, one-hot x times W
                    logits = W e(x) + b                               the table factored into embedding e and W
    MLP             logits = W tanh(H [e(x1); ...; e(xn)] + d) + b    (Bengio et al. 2003, equation 1)

The MLP adds to the bigram a window of several tokens; their embeddings are concatenated, which keeps the order.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.neural import MLP, NeuralBigram
from lmstages.models.neural.base import NeuralModel

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


class MLPModel(NeuralModel):
    """The embeddings of the last ``window`` tokens, concatenated, through hidden layers."""

    config: MLP | NeuralBigram
    windowed = True

    def __init__(self, config: MLP | NeuralBigram, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.window = config.window

    def build(self) -> nn.Module:
        """A (V, V) table where the record has no embedding, else the network."""
        if self.config.embedding is None:
            return nn.Embedding(self.vocab_size, self.vocab_size)
        return Network(self.config, self.config.embedding, self.vocab_size)


class Network(nn.Module):
    """(B, window + T - 1) -> (B, T, V)."""

    def __init__(self, config: MLP | NeuralBigram, width: int, vocab_size: int) -> None:
        super().__init__()
        widths = [config.window * width] + [config.hidden] * config.layers
        self.embedding = nn.Embedding(vocab_size, width)
        self.windows = Windows(config.window)
        self.hidden = nn.Sequential(*(_layer(config, *pair) for pair in pairwise(widths)))
        self.tied = config.tied_output
        self.output = nn.Linear(widths[-1], width if self.tied else vocab_size, bias=config.output_bias)
        self._initialise(config.initialisation)

    def _initialise(self, initialisation: str) -> None:
        """``scaled``: torch's own, 1 / sqrt(inputs), also for an embedding that is tied to the output."""
        if initialisation == "scaled" and self.tied:
            nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)
        for weight in self.parameters() if initialisation != "scaled" else ():
            if weight.dim() >= 2 or initialisation == "all_normal":
                nn.init.normal_(weight)
            else:
                nn.init.zeros_(weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the token after each window."""
        x = self.windows(self.embedding(tokens))  # (B, T, window D)
        x = self.output(self.hidden(x))  # (B, T, D) if tied, else (B, T, V)
        return functional.linear(x, self.embedding.weight) if self.tied else x


def _layer(config: MLP | NeuralBigram, inputs: int, outputs: int) -> nn.Module:
    """Linear, activation, dropout."""
    return nn.Sequential(nn.Linear(inputs, outputs), ACTIVATIONS[config.activation](), nn.Dropout(config.dropout))


class Windows(nn.Module):
    """(B, window + T - 1, D) -> (B, T, window D): every ``window`` neighbouring vectors concatenated, in order."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """One strided view and one copy."""
        return vectors.unfold(1, self.window, 1).transpose(-1, -2).flatten(-2)
