"""What a model of one's own inherits from: its hyperparameters and what it computes, in one class.

    Network     a network, fitted by gradient descent: write ``context`` and ``build``
    Counting    anything that is fitted without: write ``context``, ``fit`` and ``next_log_probs``

A class with needs beyond that names in ``model`` a second class of its file, under the contract of ``models.base``.
Imports no torch: a model that counts needs none.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from lmstages.config.hyperparameters.base import Layers, ModelConfig, Positive, Rate, Width
from lmstages.config.hyperparameters.counts import Counts
from lmstages.config.hyperparameters.neural import Neural
from lmstages.core.documents import Arrays, Documents

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Counting",
    "Documents",
    "Field",
    "Layers",
    "ModelConfig",
    "Network",
    "Positive",
    "Rate",
    "Width",
    "field_validator",
    "model_validator",
]


class Network(Neural):
    """A network of one's own, with the keys of training that all networks share.

    ``windowed``: a prediction depends on the last ``context`` inputs and on nothing before. The network is then
    ``(B, context + T - 1) -> (B, T, V)``, and reads boundaries in front of a document; else ``(B, T) -> (B, T, V)``.
    """

    module, model = "lmstages.models.neural.own", "OwnNetwork"
    source, formula = "", ""
    windowed: ClassVar[bool] = False
    row_length: Positive = 64
    batch_size: Positive | None = 32

    def build(self, vocab_size: int) -> "nn.Module":
        """A new network with random weights: tokens -> logits of the next token, after each of the last T inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no method build(self, vocab_size)")


class Counting(Counts):
    """A model of one's own that is fitted without gradient descent; its ``context`` is a number, 0 or more."""

    module, model = "lmstages.models.counts.own", "OwnCounts"
    source, formula = "", ""

    def fit(self, train: Documents, valid: Documents, vocab_size: int) -> Arrays:
        """All that it learns of train, as arrays by name; ``valid`` may choose among settings and teaches nothing."""
        raise NotImplementedError(f"{type(self).__name__} has no method fit(self, train, valid, vocab_size)")

    def next_log_probs(self, arrays: Mapping[str, np.ndarray], history: np.ndarray) -> np.ndarray:
        """(B, context) earlier tokens, boundaries where a document has no more -> (B, V) nats of the next token."""
        raise NotImplementedError(f"{type(self).__name__} has no method next_log_probs(self, arrays, history)")

    def parameters(self, arrays: Mapping[str, np.ndarray]) -> int:
        """The number of fitted free numbers: of all arrays, unless a class knows better."""
        return sum(int(array.size) for array in arrays.values())
