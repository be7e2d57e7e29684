"""Recurrent networks without recurrent matrices, whose states are computed by a parallel scan (Feng et al. 2024).

    mingru    s[t] = (1 - z) * s[t - 1] + z * g(n), gate z and candidate n from the input at t alone
    minlstm   the same with z = i / (f + i), input gate i, forget gate f
    block     x + W s(norm(x)), then, where asked for, x + feed-forward(norm(x))

g keeps a state positive. Since keep and update of every token are known before any state is, T tokens take log2(T)
steps on whole rows. The published form sums logarithms; this scan multiplies and adds numbers between 0 and 1 and
positive ones, so that nothing overflows and long sums of logarithms cost no digits.
"""

import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.neural import MinimalRecurrent
from lmstages.models.neural.attention import RMSNorm
from lmstages.models.neural.recurrent import RecurrentModel, State, StatefulNetwork

EPSILON = 1e-5  # of the norms


def scan(keep: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    """(B, T, H) factors and summands -> (B, T, H): s[t] = keep[t] * s[t - 1] + update[t] from zeros.

    After the step of distance d, ``update`` is the state that the last 2 d tokens make (Hillis & Steele 1986).
    """
    distance = 1
    while distance < update.shape[1]:
        later = keep[:, distance:]
        update = torch.cat([update[:, :distance], later * update[:, :-distance] + update[:, distance:]], dim=1)
        keep = torch.cat([keep[:, :distance], later * keep[:, :-distance]], dim=1)
        distance *= 2
    return update


def positive(x: torch.Tensor) -> torch.Tensor:
    """g: x + 0.5 from 0 on, below it the logistic function."""
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


class MinimalRecurrentModel(RecurrentModel):
    """Scores a row piece by piece as the other recurrent models do, each piece in parallel."""

    config: MinimalRecurrent

    def build(self) -> nn.Module:
        """The network with torch's own initialisation."""
        return MinimalRecurrentNetwork(self.config, self.vocab_size)


class MinimalRecurrentNetwork(StatefulNetwork):
    """Embedding, blocks, a norm and the output layer; its state is (layers, B, H)."""

    def __init__(self, config: MinimalRecurrent, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = RMSNorm(config.embedding, eps=EPSILON)
        self.output = nn.Linear(config.embedding, vocab_size)

    def read(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """(B, T) tokens, the state before them -> logits (B, T, V) and the state after them."""
        x, after = self.dropout(self.embedding(tokens)), []
        for index, layer in enumerate(self.layers):
            x, last = layer(x, None if state is None else state[index])
            after.append(last)
        return self.output(self.dropout(self.norm(x))), torch.stack(after)


class Block(nn.Module):
    """(B, T, D) and a state (B, H) or None -> (B, T, D) and the state after the last token."""

    def __init__(self, config: MinimalRecurrent) -> None:
        super().__init__()
        width, units = config.embedding, config.feedforward
        self.norm = RMSNorm(width, eps=EPSILON)
        self.cell = Cell(width, config.hidden, config.maps)
        self.projection = nn.Linear(config.hidden, width)
        self.dropout = nn.Dropout(config.dropout)
        self.feedforward = (
            nn.Sequential(RMSNorm(width, eps=EPSILON), nn.Linear(width, units), nn.GELU(), nn.Linear(units, width))
            if units
            else None
        )

    def forward(self, x: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The recurrent layer, then the feed-forward layer, each added to its input."""
        states = self.cell(self.norm(x), state)
        x = x + self.dropout(self.projection(states))
        if self.feedforward is not None:
            x = x + self.dropout(self.feedforward(x))
        return x, states[:, -1]


class Cell(nn.Module):
    """(B, T, D) -> (B, T, H) states; two maps of the input are minGRU's candidate and gate, three minLSTM's."""

    def __init__(self, width: int, hidden: int, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.inputs = nn.Linear(width, maps * hidden)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """All states of the row; ``state`` (B, H) is the one before it, zeros where None."""
        candidate, *gates = self.inputs(x).chunk(self.maps, dim=-1)
        opened = gates[0] if self.maps == 2 else log_ratio(*gates)
        keep, update = torch.sigmoid(-opened), torch.sigmoid(opened) * positive(candidate)
        if state is not None:
            first = update[:, :1] + keep[:, :1] * state[:, None]
            update = torch.cat([first, update[:, 1:]], dim=1)
        return scan(keep, update)


def log_ratio(forget: torch.Tensor, take: torch.Tensor) -> torch.Tensor:
    """Numbers before the logistic function of two gates -> log(take / forget), whose logistic is i / (f + i)."""
    return functional.logsigmoid(take) - functional.logsigmoid(forget)
