"""How long a rounded LLaMA and llama.cpp on the same file write the same text, seed by seed.

    python benchmarks/engine.py results/quantized/tinyshakespeare/char/llama/seed0/model.safetensors [--seeds 20]

Both draw from the same random numbers, and each file is read twice. First for what it holds: llama.cpp unpacks it to
32 bits by its own program and multiplies in those, as ours does; the texts are the same. Then as llama.cpp runs it:
it rounds what it multiplies to 8 bits, as ours does with ``activations: q8_0``. A number that lies between two codes
falls to either side by its last bit, which depends on the order of every sum before it; what comes after it then lies
elsewhere by a thousandth, so that more codes fall otherwise. Ours against itself, its products summed in 32 bits in
place of 64, parts in the same way, and is printed beside it. Needs llama-cpp-python (``tests/llama_cpp.sh``). No test
depends on it.
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
KINDS = {"f32": None, "q8_0": LlamaQ8, "q4_0": LlamaQ4}


def made(model: Any, kind: type | None, activations: str = "f32") -> Any:
    """The model in fewer bits; or as it is."""
    if kind is None:
        return model
    found: Any = build(kind.model_validate({"base": model.config, "activations": activations}), model.vocab_size)
    found.derive(model, Documents.single([]))
    return found


def through_llama_cpp(model: Any, ours: Any) -> NeuralModel:
    """The same file in the engine."""
    weights = None if ours is model else ours.config
    found: Any = build(LlamaCpp(base=model.config, weights=weights), model.vocab_size)
    found.derive(ours, Documents.single([]))
    return found


def unpacked_by_llama_cpp(model: Any, ours: Any) -> NeuralModel:
    """The same file, unpacked to 32 bits by llama.cpp's own program, in the engine."""
    found: Any = through_llama_cpp(model, ours)
    packed, unpacked = (Path(found.folder.name, name) for name in ("model.gguf", "unpacked.gguf"))
    subprocess.run([sys.executable, "-c", UNPACK, packed, unpacked], check=True, capture_output=True)
    found.network = Engine(unpacked, model.vocab_size, model.config.window)
    return found


class In32Bits(nn.Linear):
    """Products of the same numbers, summed in fewer bits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As ``nn.Linear`` would."""
        return functional.linear(x.float(), self.weight.float())


def in_32_bits(model: Any) -> Any:
    """Ours again, its sums otherwise."""
    for module in model.network.modules():
        if isinstance(module, nn.Linear):
            module.__class__ = In32Bits
    return model


def alike(a: Any, b: Any, seed: int, length: int, temperature: float) -> int:
    """How many tokens are the same before the first that differs."""
    settings: Any = {"count": 1, "length": length, "temperature": temperature, "stop_at_boundary": False}
    differ = np.flatnonzero(sample(a, seed=seed, **settings)[0] != sample(b, seed=seed, **settings)[0])
    return int(differ[0]) if len(differ) else length


def compare(told: str, ours: Any, other: Any, chosen: argparse.Namespace) -> None:
    """A line of how far both write the same."""
    greedy = alike(ours, other, 0, chosen.length, 1e-3)
    found = [alike(ours, other, seed, chosen.length, 1.0) for seed in range(chosen.seeds)]
    whole = f"{sum(each == chosen.length for each in found)} of {chosen.seeds} seeds for all"
    print(f"{told}: greedy {greedy} of {chosen.length} tokens; {whole}, {found}", flush=True)


def main() -> None:
    """A line for each format and opponent."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])  # type: ignore[union-attr]
    parser.add_argument("model", type=Path, help="model.safetensors of a LLaMA")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--length", type=int, default=200)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model: Any = load_model(chosen.model)
    for name, kind in KINDS.items():
        ours = made(model, kind)
        compare(f"{name}, unpacked by llama.cpp", ours, unpacked_by_llama_cpp(model, ours), chosen)
        if kind is not None:
            ours = made(model, kind, "q8_0")
            compare(f"{name}, run by llama.cpp", ours, through_llama_cpp(model, ours), chosen)
            compare(f"{name}, ours with sums of 32 bits", ours, in_32_bits(made(model, kind, "q8_0")), chosen)


if __name__ == "__main__":
    main()
