"""llama.cpp itself as a witness: its own quantizer gives our bytes, its engine our logits and our samples.

Needs llama-cpp-python: tests/llama_cpp.sh builds it where these tests look, or install the extra llama-cpp.
"""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from conftest import LLAMA_CPP

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.quantized import LlamaCpp, LlamaQ4, LlamaQ8
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation.sampling import sample
from lmstages.models.base import build
from lmstages.models.external import gguf_file
from lmstages.models.external.llama_cpp import Engine
from lmstages.models.external.llama_tensors import gguf_order, names, shapes
from lmstages.models.quantized.blocks import packed
from lmstages.models.quantized.derived import float32_tensors
from lmstages.models.quantized.model import rotation_in_32_bits
from lmstages.tokenizers.vocabularies import NO_VOCABULARY, from_vocabulary

pytestmark = [pytest.mark.slow, pytest.mark.needs("llama_cpp")]
V = 65
SHAPE = {"layers": 2, "heads": 4, "key_value_heads": 2, "width": 64, "hidden": 96, "window": 256, "row_length": 16}


def fitted(tied=False):
    config = Llama.model_validate({**SHAPE, "tied_output": tied})
    model, draws = build(config, V), np.random.default_rng(0)
    model.restore({n: draws.normal(0, 0.2, shape).astype(np.float32) for n, shape in shapes(config, V).items()})
    return model


def through_llama_cpp(model):
    """The same model, computed by llama.cpp."""
    weights = None if isinstance(model.config, Llama) else model.config
    config = LlamaCpp(base=model.config if weights is None else weights.bottom, weights=weights)
    engine = build(config, V)
    engine.derive(model, Documents.single([]))
    return engine


def quantized(model, config_class, **keys):
    derived = build(config_class.model_validate({"base": model.config, **keys}), V)
    derived.derive(model, Documents.single([]))
    return derived


QUANTIZE = """
import sys, llama_cpp
settings = llama_cpp.llama_model_quantize_default_params()
settings.ftype, settings.pure = getattr(llama_cpp, "LLAMA_FTYPE_" + sys.argv[3]), sys.argv[4] == "pure"
settings.allow_requantize, settings.nthread = True, 1
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), settings))
"""


def converted(path, out, file_type, pure=True):
    """By llama.cpp's own quantizer; pure: every matrix in the same format."""
    command = [sys.executable, "-c", QUANTIZE, str(path), str(out), file_type, "pure" if pure else "mixed"]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("block_type", ["q8_0", "q4_0"])
def test_blocks_are_those_of_llama_cpps_own_quantizer(tmp_path, block_type):
    model = fitted()
    gguf_file.write(tmp_path / "f32.gguf", model.config, V, float32_tensors(model), NO_VOCABULARY)
    path = converted(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", f"MOSTLY_{block_type.upper()}")
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for ours, (_, name) in names(model.config).items():
        array = model.arrays()[ours]
        order = gguf_order(ours, model.config)
        rows = packed(array if order is None else array[order], block_type if array.ndim == 2 else "f32")
        assert np.array_equal(np.array(theirs[name].data), rows), name


@pytest.mark.parametrize("file_type", ["Q4_K_M", "Q5_K_S", "Q2_K"])
def test_k_quants_are_read_as_llama_cpp_unpacks_them(tmp_path, file_type):
    wide = build(Llama.model_validate({**SHAPE, "width": 256, "hidden": 512, "tied_output": False}), V)
    draws = np.random.default_rng(0)
    wide.restore({n: draws.normal(0, 0.2, shape).astype(np.float32) for n, shape in shapes(wide.config, V).items()})
    gguf_file.write(tmp_path / "f32.gguf", wide.config, V, float32_tensors(wide), NO_VOCABULARY)
    k_quants = gguf_file.opened(
        converted(tmp_path / "f32.gguf", tmp_path / "k_quants.gguf", f"MOSTLY_{file_type}", pure=False)
    )
    assert len({tensor.tensor_type for tensor in k_quants.tensors.values()}) > 2  # 32 bits and two of the K-quants
    unpacked = gguf_file.opened(converted(k_quants.path, tmp_path / "unpacked.gguf", "ALL_F32"))
    arrays, expected = gguf_file.llama_of(k_quants)[1], gguf_file.llama_of(unpacked)[1]
    assert all(np.array_equal(arrays[name].all(), expected[name].all()) for name in expected)


@pytest.mark.parametrize("name", ["llama-spm", "llama-bpe"])
def test_the_vocabularies_of_llama_2_and_3_cut_text_as_llama_cpp_wants(name):
    path = LLAMA_CPP / f"vocabularies/ggml-vocab-{name}.gguf"
    if not path.is_file():
        pytest.skip("llama.cpp's vocabularies are not there: tests/llama_cpp.sh brings them")
    facts = gguf_file.opened(path).facts  # these files hold no matrix, so that their vocabulary size is given here
    embedding = SimpleNamespace(shape=(1, len(facts["tokenizer.ggml.tokens"])))
    whole = gguf_file.OpenFile(path, facts, {"token_embd.weight": embedding})
    theirs = from_vocabulary(path, gguf_file.vocabulary_of(whole))
    *texts, rest = path.with_name(f"{path.name}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    wanted = path.with_name(f"{path.name}.out").read_text().splitlines()
    assert len(texts) == len(wanted) > 40 and not rest
    for text, tokens in zip(texts, wanted, strict=True):
        ours, covered = theirs.encode(text)
        assert ours.tolist() == [int(token) for token in tokens.split()] and covered.sum() == len(text.encode()), text


@pytest.mark.parametrize("tied", [True, False])
def test_the_engine_gives_our_logits_in_32_bits(tied):
    model = fitted(tied)
    x = torch.from_numpy(np.random.default_rng(1).integers(0, V, (3, 200)))
    with torch.inference_mode():
        assert torch.allclose(through_llama_cpp(model).logits(x), model.logits(x), atol=1e-4)


def test_the_engines_angles_are_products_in_32_bits():
    model = build(Llama.model_validate({**SHAPE, "heads": 1, "key_value_heads": 1}), V)
    draws = np.random.default_rng(0)
    model.restore({n: draws.normal(0, 0.5, shape).astype(np.float32) for n, shape in shapes(model.config, V).items()})
    x = torch.from_numpy(np.random.default_rng(1).integers(0, V, (3, 256)))
    with torch.inference_mode():
        ours, theirs = model.logits(x), through_llama_cpp(model).logits(x)
        model.network.cos_sin = rotation_in_32_bits(256, SHAPE["width"], model.config.rope_base)
        assert (model.logits(x) - theirs).abs().mean() < 0.7 * (ours - theirs).abs().mean()


@pytest.mark.parametrize("config_class", [LlamaQ8, LlamaQ4])
def test_where_nothing_came_before_a_rounded_model_has_the_engines_logits(config_class):
    ours = quantized(fitted(), config_class, activations="q8_0")
    x = torch.arange(V)[:, None]
    with torch.inference_mode():
        parted = (ours.logits(x) - through_llama_cpp(ours).logits(x)).abs().amax(-1)
    assert (parted < 1e-4).double().mean() > 0.7  # elsewhere a number lay between two codes


@pytest.mark.parametrize(("config_class", "keys"), [(LlamaQ8, {}), (LlamaQ4, {}), (LlamaQ4, {"output": "q4_0"})])
def test_rounded_models_with_rounded_activations_are_the_engines(config_class, keys):
    ours = quantized(fitted(), config_class, activations="q8_0", **keys)
    x = torch.from_numpy(np.random.default_rng(1).integers(0, V, (3, 200)))
    with torch.inference_mode():
        logits, expected = ours.logits(x), through_llama_cpp(ours).logits(x)
        unrounded = quantized(fitted(), config_class, **keys).logits(x)  # weights in few bits, activations in 32
    assert (logits - expected).abs().mean() < 0.1 * (unrounded - expected).abs().mean()


@pytest.mark.parametrize("config_class", [None, LlamaQ8, LlamaQ4])
@pytest.mark.parametrize("temperature", [1e-3, 1.0])
def test_samples_are_the_engines_for_200_tokens(config_class, temperature):
    ours = quantized(fitted(), config_class, activations="q8_0") if config_class else fitted()
    settings = {"count": 2, "length": 200, "seed": 3, "temperature": temperature, "stop_at_boundary": False}
    samples, expected = sample(ours, **settings), sample(through_llama_cpp(ours), **settings)
    assert all(np.array_equal(a, b) for a, b in zip(samples, expected, strict=True))


@pytest.mark.parametrize("config_class", [LlamaQ8, LlamaQ4])
def test_a_file_that_llama_cpp_unpacks_to_32_bits_writes_our_text_for_every_seed(tmp_path, config_class):
    ours = quantized(fitted(), config_class)
    theirs = through_llama_cpp(ours)
    unpacked = converted(Path(theirs.folder.name, "model.gguf"), tmp_path / "unpacked.gguf", "ALL_F32")
    theirs.network = Engine(unpacked, V, SHAPE["window"])
    for seed in range(5):
        settings = {"count": 1, "length": 200, "seed": seed, "stop_at_boundary": False}
        assert np.array_equal(sample(ours, **settings), sample(theirs, **settings)), seed


def test_a_file_the_engine_cannot_load_is_one_line(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UserError, match=r"m.gguf: llama.cpp ended with code 1: .*llama.cpp cannot load the file"):
        Engine(tmp_path / "m.gguf", V, 16)


def test_a_file_of_another_vocabulary_is_one_line(tmp_path):
    model = fitted()
    gguf_file.write(tmp_path / "m.gguf", model.config, V, float32_tensors(model), NO_VOCABULARY)
    with pytest.raises(UserError, match=rf"llama.cpp counts {V} tokens in it, not 9"):
        Engine(tmp_path / "m.gguf", 9, 16)
