"""For how many tokens a quantized LLaMA and llama.cpp with the same file write the same text, seed by seed.

    python benchmarks/engine.py results/quantized/tinyshakespeare/char/llama/seed0/model.safetensors [--seeds 20]

Both draw from the same random numbers. Every file is run twice. First llama.cpp unpacks it to 32 bits by its own
program and multiplies in 32 bits, as ours does; the texts are the same. Then llama.cpp runs it as it does by default:
it rounds the inputs of every matrix to 8 bits, as ours does with ``activations: q8_0``. A number halfway between two
codes is then rounded up or down by its last bit, which depends on the order in which sums were added up; later numbers
differ by about a thousandth, so that more of them are rounded otherwise. Ours with products summed in 32 bits in place
of 64 differs from itself in the same way, and is printed beside it. Needs llama-cpp-python (``tests/llama_cpp.sh``). No
test depends on it.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.quantized import LlamaCpp, LlamaQ4, LlamaQ8
from lmstages.core.documents import Documents
from lmstages.evaluation.sampling import sample
from lmstages.models.base import build
from lmstages.models.external.llama_cpp import Engine
from lmstages.models.neural.base import NeuralModel
from lmstages.models.storage import load_model

UNPACK = """
import sys, llama_cpp
settings = llama_cpp.llama_model_quantize_default_params()
settings.ftype, settings.allow_requantize, settings.nthread = llama_cpp.LLAMA_FTYPE_ALL_F32, True, 1
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), settings))
"""
FORMATS: dict[str, Any] = {"f32": None, "q8_0": LlamaQ8, "q4_0": LlamaQ4}


def quantized(model: Any, record: Any, activations: str = "f32") -> Any:
    """The model quantized as the record says; the model itself where the record is None."""
    if record is None:
        return model
    derived: Any = build(record.model_validate({"base": model.config, "activations": activations}), model.vocab_size)
    derived.derive(model, Documents.single([]))
    return derived


def through_llama_cpp(model: Any, ours: Any) -> NeuralModel:
    """The same file, run by llama.cpp."""
    weights = None if ours is model else ours.config
    derived: Any = build(LlamaCpp(base=model.config, weights=weights), model.vocab_size)
    derived.derive(ours, Documents.single([]))
    return derived


def unpacked_by_llama_cpp(model: Any, ours: Any) -> NeuralModel:
    """The same file, unpacked to 32 bits by llama.cpp's own program, run by llama.cpp."""
    derived: Any = through_llama_cpp(model, ours)
    packed, unpacked = (Path(derived.folder.name, name) for name in ("model.gguf", "unpacked.gguf"))
    subprocess.run([sys.executable, "-c", UNPACK, packed, unpacked], check=True, capture_output=True)
    derived.network = Engine(unpacked, model.vocab_size, model.config.window)
    return derived


class In32Bits(nn.Linear):
    """``nn.Linear`` whose products are summed in 32 bits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., inputs) -> (..., outputs)."""
        return functional.linear(x.float(), self.weight.float())


def in_32_bits(model: Any) -> Any:
    """The same model, its products summed in 32 bits."""
    for module in model.network.modules():
        if isinstance(module, nn.Linear):
            module.__class__ = In32Bits
    return model


def equal_tokens(a: Any, b: Any, seed: int, length: int, temperature: float) -> int:
    """The number of tokens before the first that differs."""
    settings: Any = {"count": 1, "length": length, "temperature": temperature, "stop_at_boundary": False}
    differ = np.flatnonzero(sample(a, seed=seed, **settings)[0] != sample(b, seed=seed, **settings)[0])
    return int(differ[0]) if len(differ) else length


def compare(title: str, ours: Any, other: Any, options: argparse.Namespace) -> None:
    """Print a line: for how many tokens both write the same, greedily and for every seed."""
    greedy = equal_tokens(ours, other, 0, options.length, 1e-3)
    counts = [equal_tokens(ours, other, seed, options.length, 1.0) for seed in range(options.seeds)]
    complete = f"{sum(count == options.length for count in counts)} of {options.seeds} seeds for all"
    print(f"{title}: greedy {greedy} of {options.length} tokens; {complete}, {counts}", flush=True)


def main() -> None:
    """Print a line for each format and engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.safetensors of a LLaMA")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--length", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model: Any = load_model(options.model)
    for name, record in FORMATS.items():
        ours = quantized(model, record)
        compare(f"{name}, unpacked by llama.cpp", ours, unpacked_by_llama_cpp(model, ours), options)
        if record is not None:
            ours = quantized(model, record, "q8_0")
            compare(f"{name}, run by llama.cpp", ours, through_llama_cpp(model, ours), options)
            compare(f"{name}, ours with sums of 32 bits", ours, in_32_bits(quantized(model, record, "q8_0")), options)


if __name__ == "__main__":
    main()
