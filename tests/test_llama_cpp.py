"""llama.cpp itself as a witness: its own quantiser gives our bytes, its engine our logits and our samples.

Needs llama-cpp-python: tests/llama_cpp.sh builds it where these tests look, or install the extra llama-cpp.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from lmstages.errors import UserError
from lmstages.evaluation.sampling import sample
from lmstages.ladder import Llama, LlamaCpp, LlamaQ4, LlamaQ8
from lmstages.models import gguf_file
from lmstages.models.base import Documents, build
from lmstages.models.blocks import packed
from lmstages.models.derived import as_stored
from lmstages.models.llama_tensors import gguf_order, names, shapes
from lmstages.tokenizers.vocabularies import NO_VOCABULARY

BUILT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "lmstages/llama_cpp")
HERE = find_spec("llama_cpp") is not None or (BUILT / "llama_cpp/__init__.py").is_file()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason="llama-cpp-python is not installed: tests/llama_cpp.sh builds it"),
]
V = 65
SHAPE = {"layers": 2, "heads": 4, "key_value_heads": 2, "width": 64, "hidden": 96, "window": 256, "row_length": 16}


@pytest.fixture(autouse=True)
def built(monkeypatch):
    """What the script has built can be found, here and in processes of their own."""
    if find_spec("llama_cpp") is None:
        monkeypatch.setenv("PYTHONPATH", f"{BUILT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def fitted(tied=False):
    rung = Llama.model_validate({**SHAPE, "tied_output": tied})
    model, draws = build(rung, V), np.random.default_rng(0)
    model.restore({n: draws.normal(0, 0.2, shape).astype(np.float32) for n, shape in shapes(rung, V).items()})
    return model


def through_llama_cpp(model):
    """The same model, computed by llama.cpp."""
    weights = None if isinstance(model.rung, Llama) else model.rung
    rung = LlamaCpp(base=model.rung if weights is None else weights.bottom, weights=weights)
    engine = build(rung, V)
    engine.derive(model, Documents.single([]))
    return engine


def rounded(model, kind, **keys):
    found = build(kind.model_validate({"base": model.rung, **keys}), V)
    found.derive(model, Documents.single([]))
    return found


QUANTISE = """
import sys, llama_cpp
settings = llama_cpp.llama_model_quantize_default_params()
settings.ftype, settings.pure, settings.nthread = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + sys.argv[3]), True, 1
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), settings))
"""


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_blocks_are_those_of_llama_cpps_own_quantiser(tmp_path, kind):
    model = fitted()
    gguf_file.write(tmp_path / "f32.gguf", model.rung, V, as_stored(model), NO_VOCABULARY)
    command = [sys.executable, "-c", QUANTISE, str(tmp_path / "f32.gguf"), str(tmp_path / "theirs.gguf"), kind.upper()]
    subprocess.run(command, check=True, capture_output=True)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "theirs.gguf").tensors}
    for ours, (_, name) in names(model.rung).items():
        array = model.arrays()[ours]
        order = gguf_order(ours, model.rung)
        rows = packed(array if order is None else array[order], kind if array.ndim == 2 else "f32")
        assert np.array_equal(np.array(theirs[name].data), rows), name


@pytest.mark.parametrize("tied", [True, False])
def test_the_engine_gives_our_logits_in_32_bits(tied):
    model = fitted(tied)
    x = torch.from_numpy(np.random.default_rng(1).integers(0, V, (3, 200)))
    with torch.inference_mode():
        assert torch.allclose(through_llama_cpp(model).logits(x), model.logits(x), atol=1e-4)


@pytest.mark.parametrize(("kind", "keys"), [(LlamaQ8, {}), (LlamaQ4, {}), (LlamaQ4, {"output": "q4_0"})])
def test_rounded_models_with_rounded_activations_are_the_engines(kind, keys):
    ours = rounded(fitted(), kind, activations="q8_0", **keys)
    x = torch.from_numpy(np.random.default_rng(1).integers(0, V, (3, 200)))
    with torch.inference_mode():
        found, expected = ours.logits(x), through_llama_cpp(ours).logits(x)
    assert (found - expected).abs().mean() < 0.1 * (rounded(fitted(), kind, **keys).logits(x) - expected).abs().mean()


@pytest.mark.parametrize("kind", [None, LlamaQ8, LlamaQ4])
@pytest.mark.parametrize("temperature", [1e-3, 1.0])
def test_samples_are_the_engines_for_200_tokens(kind, temperature):
    ours = rounded(fitted(), kind, activations="q8_0") if kind else fitted()
    settings = {"count": 2, "length": 200, "seed": 3, "temperature": temperature, "stop_at_boundary": False}
    found, expected = sample(ours, **settings), sample(through_llama_cpp(ours), **settings)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_file_the_engine_cannot_load_is_one_line(tmp_path):
    from lmstages.models.llama_cpp import Engine

    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UserError, match=r"m.gguf: llama.cpp ended with code 1: .*llama.cpp cannot load the file"):
        Engine(tmp_path / "m.gguf", V, 16)


def test_a_file_of_another_vocabulary_is_one_line(tmp_path):
    from lmstages.models.llama_cpp import Engine

    model = fitted()
    gguf_file.write(tmp_path / "m.gguf", model.rung, V, as_stored(model), NO_VOCABULARY)
    with pytest.raises(UserError, match=rf"llama.cpp finds {V} tokens in it, not 9"):
        Engine(tmp_path / "m.gguf", 9, 16)
