"""How long a rounded LLaMA and llama.cpp on the same file write the same text, seed by seed.

    python benchmarks/engine.py results/quantised/tinyshakespeare/char/llama/seed0/model.safetensors [--seeds 20]

Both draw from the same random numbers. llama.cpp rounds what it multiplies to 8 bits, as ours does with
``activations: q8_0``. A number that lies between two codes falls to either side by its last bit, which depends on
the order of every sum before it; what comes after it then lies elsewhere by a thousandth, so that more codes fall
otherwise. Ours against itself, its products summed in 32 bits in place of 64, parts in the same way, and is printed
beside it. Needs llama-cpp-python (``tests/llama_cpp.sh``). No test depends on it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.evaluation.sampling import sample
from lmstages.ladder import LlamaCpp, LlamaQ4, LlamaQ8
from lmstages.models.base import Documents, build
from lmstages.models.neural import NeuralModel
from lmstages.storage import load_model

KINDS = {"f32": None, "q8_0": LlamaQ8, "q4_0": LlamaQ4}


def made(model: Any, kind: type | None) -> Any:
    """The model in fewer bits, computing as llama.cpp does; or as it is."""
    if kind is None:
        return model
    found: Any = build(kind.model_validate({"base": model.rung, "activations": "q8_0"}), model.vocab_size)
    found.derive(model, Documents.single([]))
    return found


def through_llama_cpp(model: Any, ours: Any) -> NeuralModel:
    """The same file in the engine."""
    weights = None if ours is model else ours.rung
    found: Any = build(LlamaCpp(base=model.rung, weights=weights), model.vocab_size)
    found.derive(ours, Documents.single([]))
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
        others: dict[str, Any] = {"llama.cpp": through_llama_cpp(model, ours)}
        others |= {} if kind is None else {"itself in 32 bits": in_32_bits(made(model, kind))}
        for other, opponent in others.items():
            greedy = alike(ours, opponent, 0, chosen.length, 1e-3)
            found = [alike(ours, opponent, seed, chosen.length, 1.0) for seed in range(chosen.seeds)]
            whole = sum(each == chosen.length for each in found)
            told = f"greedy {greedy} of {chosen.length} tokens; {whole} of {chosen.seeds} seeds for all, {found}"
            print(f"{name} and {other}: {told}", flush=True)


if __name__ == "__main__":
    main()
