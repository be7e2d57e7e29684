"""Hyperparameters of the models derived from a fitted LLaMA: quantized weights, or another inference engine."""

from typing import ClassVar, Literal

from pydantic import Field

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.base import Derived


class DerivedLlama(Derived):
    """A model derived from a fitted LLaMA without further training; ``of`` is that model's name in the config.

    ``base`` is the record of that LLaMA, or of the one below the quantized model; the config reader fills it in.
    """

    protocol = "stride"
    of: str = Field("llama", description="Name, in this config, of the model that it is derived from.")
    base: Llama | None = Field(None, description="Record of that LLaMA; the config reader fills it in.")

    @property
    def bottom(self) -> Llama:
        """The record of the LLaMA that it is derived from."""
        assert self.base is not None, "the config reader fills it in"
        return self.base

    @property
    def window(self) -> int:
        """The window of that LLaMA."""
        return self.bottom.window

    @property
    def layers(self) -> int:
        """The number of layers of that LLaMA."""
        return self.bottom.layers


class QuantizedLlama(DerivedLlama):
    """A LLaMA with quantized matrices: blocks of 32 weights that share a scale. Norms stay in 32 bits.

    ``output`` is the format of the output matrix, which makes the logits; where it is tied to the embedding, of both.
    """

    module, model = "lmstages.models.quantized.model", "QuantizedModel"
    format: ClassVar[Literal["q8_0", "q4_0"]]
    output: Literal["q8_0", "q4_0"] = Field(
        "q8_0", description="Format of the output matrix, and of the embedding where the two are tied."
    )
    rounding: Literal["nearest", "gptq"] = Field(
        "nearest",
        description="Round each weight to the nearest value, or compensate the error in later columns (GPTQ).",
    )
    activations: Literal["f32", "q8_0"] = Field(
        "f32", description="q8_0 rounds the inputs of matrices to 8 bits too, as llama.cpp does."
    )


class LlamaQ8(QuantizedLlama):
    """Quantizes every matrix of a fitted LLaMA to 8 bits per weight, with one scale per 32 weights: about a quarter of
    the bytes."""

    name, title, after, format = "llama_q8", "LLaMA, 8 bits", "llama", "q8_0"
    source = "Gerganov et al. 2023, llama.cpp's Q8_0"
    formula = r"$$w = s q, \quad q \in \{-127, \dots, 127\}, \quad s = \frac{\max |w|}{127}$$ over 32 weights $w$."
    rounding: Literal["nearest"] = Field("nearest", description="Each weight is rounded to the nearest value.")


class LlamaQ4(QuantizedLlama):
    """Quantizes to 4 bits per weight, about a seventh of the bytes, the format in which LLaMA first ran on CPUs.

    ``rounding: gptq`` compensates the rounding error of each column in the columns after it, weighted by the second
    moments of the layer's inputs on ``calibration`` windows of train (Frantar et al. 2023).
    """

    name, title, after, format = "llama_q4", "LLaMA, 4 bits", "llama_q8", "q4_0"
    source = "Gerganov et al. 2023, llama.cpp's Q4_0"
    formula = r"""
        $$w = s q, \quad q \in \{-8, \dots, 7\}, \quad s = \frac{m}{-8}$$
        with $m$ the one of largest $|w|$ among 32 weights.
    """
    calibration: int = Field(
        128,
        ge=1,
        le=100000,
        description="Windows of train from which rounding gptq takes the moments of a layer's inputs.",
    )


class LlamaCpp(DerivedLlama):
    """Runs the same weights in another engine: llama.cpp computes the logits of a LLaMA, in 32, 8 or 4 bits.

    ``weights`` is the record of the quantized model that ``of`` names; the config reader fills it in, like ``base``.
    """

    name, title, after = "llama_cpp", "LLaMA through llama.cpp", "llama_q4"
    module, model = "lmstages.models.external.llama_cpp", "LlamaCppModel"
    source = "Gerganov et al. 2023, llama.cpp"
    formula = "That of LLaMA, computed by llama.cpp from a GGUF file."
    weights: LlamaQ8 | LlamaQ4 | None = Field(
        None, description="Record of the quantized model that of names; the config reader fills it in."
    )
