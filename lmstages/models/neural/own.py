"""A network of one's own, under the contract of every network. See ``models.own`` for what its class says."""

from torch import nn

from lmstages.models.neural.base import NeuralModel
from lmstages.models.own import Network


class OwnNetwork(NeuralModel):
    """The network that a record builds."""

    config: Network

    def __init__(self, config: Network, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.windowed = config.windowed
        if config.windowed:
            self.window = config.context or 1

    def build(self) -> nn.Module:
        """(B, window + T - 1) -> (B, T, V)."""
        return self.config.build(self.vocab_size)
