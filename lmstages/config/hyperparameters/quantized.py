"""Hyperparameters of the models that are made from a fitted LLaMA: fewer bits per weight, or another engine."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.base import ModelConfig


class DerivedLlama(ModelConfig):
    """What is made of a fitted LLaMA without training it again; ``of`` names that model, as the run calls it.

    ``base`` is the record of the LLaMA at the bottom; the config's reading puts it there.
    """

    family = "neural"
    protocol = "stride"
    of: str = "llama"
    base: Llama | None = None

    @property
    def context(self) -> int | None:
        """That of the model it is made of."""
        return self.base.context if self.base else None

    @property
    def bottom(self) -> Llama:
        """The LLaMA it is made of."""
        assert self.base is not None, "the config's reading puts it there"
        return self.base

    @property
    def window(self) -> int:
        """The longest row of that model."""
        return self.bottom.window

    @property
    def layers(self) -> int:
        """How many that model has."""
        return self.bottom.layers


class QuantizedLlama(DerivedLlama):
    """What models with few bits a weight share: blocks of 32 numbers, a scale each; ``output`` is the matrix of logits.

    Where the output is tied to the embedding, both are one matrix, in the output's format. Norms stay 32 bits.
    """

    module, model = "lmstages.models.quantized.model", "QuantizedModel"
    format: ClassVar[Literal["q8_0", "q4_0"]]
    output: Literal["q8_0", "q4_0"] = "q8_0"
    rounding: Literal["nearest", "gptq"] = "nearest"
    activations: Literal["f32", "q8_0"] = "f32"  # what matrices are multiplied with; llama.cpp rounds it to 8 bits


class LlamaQ8(QuantizedLlama):
    """Rounds every matrix of a fitted LLaMA to 8 bits a weight, and a scale for each 32: a quarter of the bytes."""

    name, title, format = "llama_q8", "LLaMA, 8 bits", "q8_0"
    source = "Gerganov et al. 2023, llama.cpp's Q8_0"
    rounding: Literal["nearest"] = "nearest"


class LlamaQ4(QuantizedLlama):
    """Rounds on to 4 bits a weight, a seventh of the bytes: what let LLaMA run on a CPU.

    ``rounding: gptq`` passes what a column's rounding spoils on to the columns after it, weighed by how the inputs
    of ``calibration`` windows of train go together (Frantar et al. 2023).
    """

    name, title, format = "llama_q4", "LLaMA, 4 bits", "q4_0"
    source = "Gerganov et al. 2023, llama.cpp's Q4_0"
    calibration: Annotated[int, Field(ge=1, le=100000)] = 128  # windows; rounding gptq alone reads it


class LlamaCpp(DerivedLlama):
    """The same file through another engine: what llama.cpp itself makes of a LLaMA, or of one in 8 or 4 bits.

    ``weights`` is the record of the model that ``of`` names, put there like ``base``.
    """

    name, title = "llama_cpp", "LLaMA through llama.cpp"
    module, model = "lmstages.models.external.llama_cpp", "LlamaCppModel"
    source = "Gerganov et al. 2023, llama.cpp"
    weights: LlamaQ8 | LlamaQ4 | None = None
