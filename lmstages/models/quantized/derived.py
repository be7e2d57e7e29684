"""Base of the models derived from a fitted LLaMA without further training.

A derived model that is fitted by itself first fits a LLaMA of its own: that is its definition, and ``derive`` the short
cut where that LLaMA is already fitted. Knows networks and tokens; not how weights are rounded or which engine runs
them.
"""

from collections.abc import Mapping

from lmstages.config.hyperparameters.quantized import DerivedLlama
from lmstages.core.documents import Curve, Documents
from lmstages.models.base import record_of_base
from lmstages.models.neural.base import NeuralModel
from lmstages.models.neural.llama import LlamaModel
from lmstages.models.quantized.blocks import PackedTensor


class DerivedModel(NeuralModel):
    """A model with a LLaMA's shape and other weights or another engine."""

    config: DerivedLlama  # type: ignore[assignment]

    def __init__(self, config: DerivedLlama, vocab_size: int) -> None:
        record_of_base(config, "the LLaMA that it is derived from")
        super().__init__(config, vocab_size)  # type: ignore[arg-type]

    def bottom(self) -> LlamaModel:
        """The LLaMA that it is derived from, unfitted."""
        return LlamaModel(self.config.bottom, self.vocab_size)

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Fit a LLaMA, then derive this model from it."""
        base = self.bottom()
        base.runtime = self.runtime
        curve = base.fit(train, valid, seed)
        self.derive(base, train)
        return curve

    def derive(self, base: NeuralModel, train: Documents) -> None:
        """Take over the fitted ``base``, the model that ``config.of`` names or the LLaMA below it; ``train`` may
        calibrate.

        Raises UserError where ``base`` has other hyperparameters than the config says.
        """
        raise NotImplementedError

    def packed_tensors(self) -> Mapping[str, PackedTensor]:
        """Every tensor in its stored format, under our names and in our order of rows."""
        raise NotImplementedError

    def bits_per_weight(self) -> float:
        """The mean over all tensors, norms and scales included."""
        size = sum(tensor.rows.nbytes for tensor in self.packed_tensors().values())
        return 8 * size / self.parameters()


def float32_tensors(model: NeuralModel) -> dict[str, PackedTensor]:
    """A LLaMA's own weights, 32 bits each."""
    return {name: PackedTensor(array, "f32") for name, array in model.arrays().items()}
