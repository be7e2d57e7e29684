"""GGUF and the Hugging Face layout: what is written is what was fitted, and is read back as that; GPTQ."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from lmstages import artefacts
from lmstages.errors import UserError
from lmstages.exporting import export
from lmstages.ladder import Llama, LlamaQ4, LlamaQ8
from lmstages.models import gguf_file, huggingface
from lmstages.models.base import Documents, build
from lmstages.models.blocks import packed, q4_0_of, q4_0_scales, unpacked
from lmstages.models.derived import as_stored
from lmstages.models.gptq import rounded
from lmstages.models.llama_tensors import gguf_order, names, our_order, shapes
from lmstages.models.mapped import mapped
from lmstages.models.quantised import rounded_to_8_bits
from lmstages.tokenizers import learn
from lmstages.tokenizers.vocabularies import NO_VOCABULARY, SPACE, definition_of, from_vocabulary, of_tokenizer

V = 11
SHAPE = {"layers": 2, "heads": 4, "key_value_heads": 2, "width": 64, "hidden": 96, "window": 16, "row_length": 16}
TEXTS = ["the cat sat on the mat", "a dog ran to the cat", "naïve cafés cost 20 €"] * 20

SIZES = {"bpe": 285, "unigram": 261, "word": 8}


def fitted(tied=True, seed=0, vocab_size=V):
    """An untrained LLaMA with weights large enough that everything it does shows."""
    rung = Llama.model_validate({**SHAPE, "tied_output": tied})
    model = build(rung, vocab_size)
    draws = np.random.default_rng(seed)
    wanted = shapes(rung, vocab_size)
    model.restore({name: draws.normal(0, 0.3, shape).astype(np.float32) for name, shape in wanted.items()})
    return model


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, V, shape)


def derived(model, kind, **keys):
    rounded_model = build(kind.model_validate({"base": model.rung, **keys}), model.vocab_size)
    rounded_model.derive(model, Documents.single(drawn(1, 600)))
    return rounded_model


def written(path, model, vocabulary=NO_VOCABULARY):
    stored = as_stored(model) if isinstance(model.rung, Llama) else model.stored()
    rung = model.rung if isinstance(model.rung, Llama) else model.rung.bottom
    gguf_file.write(path, rung, model.vocab_size, stored, vocabulary)
    return path


# GGUF


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_gives_back_every_tensor_and_the_record(tmp_path, tied):
    model = fitted(tied)
    rung, tensors = gguf_file.llama_of(gguf_file.opened(written(tmp_path / "m.gguf", model)))
    assert set(tensors) == set(model.arrays())
    assert all(np.array_equal(tensors[name].all(), array) for name, array in model.arrays().items())
    same = ("layers", "heads", "key_value_heads", "width", "hidden", "window", "rope_base", "tied_output")
    assert all(getattr(rung, key) == getattr(model.rung, key) for key in same)


def test_queries_and_keys_lie_in_another_order_each_by_its_own_heads(tmp_path):
    model = fitted()
    file = gguf.GGUFReader(written(tmp_path / "m.gguf", model))
    lying = {tensor.name: np.array(tensor.data) for tensor in file.tensors}
    keys = model.arrays()["blocks.0.attention.keys.weight"]
    assert np.array_equal(lying["blk.0.attn_k.weight"][:4], keys[[0, 8, 1, 9]])  # two heads of 16 rows
    for name in names(model.rung):
        order, back = gguf_order(name, model.rung), our_order(name, model.rung)
        assert order is None or np.array_equal(order[back], np.arange(len(order)))


@pytest.mark.parametrize(("kind", "keys"), [(LlamaQ8, {}), (LlamaQ4, {}), (LlamaQ4, {"output": "q4_0"})])
def test_a_rounded_model_scores_as_the_file_that_holds_it(tmp_path, kind, keys):
    model = derived(fitted(tied=False), kind, **keys)
    rung, tensors = gguf_file.llama_of(gguf_file.opened(written(tmp_path / "m.gguf", model)))
    x = torch.from_numpy(drawn(2, 3, 16))
    with torch.inference_mode():
        assert torch.equal(mapped(rung, V, tensors)(x), model.network(x))


def test_a_file_in_8_and_in_4_bits_has_the_formats_sizes(tmp_path):
    model = fitted(tied=False, vocab_size=32)
    q8, q4 = derived(model, LlamaQ8), derived(model, LlamaQ4, output="q4_0")
    weights = sum(array.size for array in model.arrays().values() if array.ndim == 2)
    norms = sum(array.size for array in model.arrays().values() if array.ndim == 1)
    for each, bits in ((q8, 8.5), (q4, 4.5)):
        assert each.bits_per_weight() == pytest.approx((weights * bits + norms * 32) / (weights + norms))
        data = sum(tensor.n_bytes for tensor in gguf.GGUFReader(written(tmp_path / "m.gguf", each)).tensors)
        assert 8 * data == weights * bits + norms * 32


def test_k_quants_are_read():
    rows = np.random.default_rng(0).normal(0, 1, (4, 256)).astype(np.float32)
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q4_K][1]
    raw = np.random.default_rng(1).integers(0, 60, (4, size), dtype=np.uint8)
    packed_rows = gguf_file.Packed(raw, gguf.GGMLQuantizationType.Q4_K)
    assert packed_rows.all().shape == rows.shape and np.isfinite(packed_rows.all()).all()
    assert np.array_equal(packed_rows.at(np.array([2])), packed_rows.all()[[2]])


# Rounding


def test_q4_0_is_packed_as_the_format_says():
    matrix = np.random.default_rng(0).normal(0, 1, (5, 64)).astype(np.float32)
    scales = q4_0_scales(matrix)
    steps = matrix.reshape(5, 2, 32) / scales[..., None]
    codes = np.clip(np.floor(steps + 8.5), 0, 15).reshape(5, 64).astype(np.uint8)
    ours, theirs = unpacked(q4_0_of(codes, scales), "q4_0"), unpacked(packed(matrix, "q4_0"), "q4_0")
    assert np.mean(ours == theirs) > 0.95 and np.abs(ours - theirs).max() < 1.01 * np.abs(scales).max()


def test_gptq_loses_less_of_a_layers_output_than_rounding_to_nearest():
    draws = np.random.default_rng(0)
    weight = draws.normal(0, 1, (32, 64)).astype(np.float32)
    inputs = draws.normal(0, 1, (400, 16)) @ draws.normal(0, 1, (16, 64)) + 0.1 * draws.normal(0, 1, (400, 64))
    better = unpacked(q4_0_of(*rounded(torch.from_numpy(weight).double(), torch.from_numpy(inputs.T @ inputs))), "q4_0")
    nearest = unpacked(packed(weight, "q4_0"), "q4_0")
    lost = [float(np.square(inputs @ (weight - each).T).sum()) for each in (better, nearest)]
    assert lost[0] < 0.5 * lost[1]


def test_gptq_with_unrelated_inputs_is_rounding_to_nearest():
    weight = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (8, 64)))
    codes, scales = rounded(weight, torch.eye(64, dtype=torch.float64))
    steps = weight.numpy().reshape(8, 2, 32) / scales[..., None]
    assert np.array_equal(codes, np.clip(np.floor(steps + 8.5), 0, 15).reshape(8, 64))


def test_gptq_is_nearer_to_the_model_on_the_text_that_calibrates():
    model, rows = fitted(), drawn(1, 600)
    scores = [derived(model, LlamaQ4, output="q8_0", rounding=how).against(model)[0] for how in ("gptq", "nearest")]
    better, nearest = (each.score(rows[: 37 * 16].reshape(37, 16)).mean() for each in scores)
    assert 0 < better < nearest


def test_divergence_and_agreement_of_a_model_with_itself_are_zero_and_one():
    model = fitted()
    same = derived(model, LlamaQ8)
    divergence, agreement = same.against(same)
    assert np.allclose(divergence.score(drawn(3, 4, 16)), 0) and (agreement.score(drawn(3, 4, 16)) == 1).all()
    assert (same.against(model)[0].score(drawn(3, 4, 16)) > 0).all()


def test_rounded_activations_are_multiples_of_a_127th_of_the_largest():
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (3, 64)).astype(np.float32))
    x[0, :32] = 0
    y = rounded_to_8_bits(x)
    largest = x.view(3, 2, 32).abs().amax(-1, keepdim=True)
    assert (y[0, :32] == 0).all() and ((x - y).view(3, 2, 32).abs() <= largest / 127 * 0.51 + 1e-3 * largest).all()


def test_a_base_with_other_hyperparameters_is_refused():
    other = build(LlamaQ8(base=Llama.model_validate({**SHAPE, "rope_base": 500.0})), V)
    with pytest.raises(UserError, match=r"--base llama: was fitted with other hyperparameters; run snakemake"):
        other.derive(fitted(), Documents.single([]))


def test_a_derived_rung_without_its_base_is_refused():
    with pytest.raises(UserError, match=r"rung llama_q4: its section lacks base"):
        build(LlamaQ4(), V)


# Vocabularies


def learnt(kind, layout="separator", **keys):
    return learn(kind, keys.get("vocab_size"), iter(TEXTS), layout == "lines", layout == "stream", True)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_vocabulary_in_gguf_cuts_text_as_ours(tmp_path, kind):
    ours = learnt(kind, vocab_size=SIZES.get(kind))
    model = fitted(vocab_size=ours.vocab_size)
    path = written(tmp_path / "m.gguf", model, of_tokenizer(ours.to_json()))
    theirs = from_vocabulary(path, gguf_file.vocabulary_of(gguf_file.opened(path)))
    for text in TEXTS[:3]:
        [(tokens, lengths)] = ours.encode([text])
        found, covered = theirs.encode(text)
        assert np.array_equal(found, tokens) and np.array_equal(covered, lengths) and theirs.decode(found) == text
    assert theirs.begin == theirs.end == 0


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "unigram"])
def test_a_vocabulary_in_the_tokenizers_format_cuts_text_as_ours(kind):
    ours = learnt(kind, vocab_size=SIZES.get(kind))
    theirs = Tokenizer.from_str(definition_of(ours.to_json()))
    for text in [*TEXTS[:3], *(["<s> is a text"] if kind not in ("char",) else [])]:
        assert theirs.encode(text).ids == ours.encode([text])[0][0].tolist()


@pytest.mark.parametrize("kind", ["byte", "unigram", "word"])
def test_what_gguf_cannot_hold_is_left_out(kind):
    assert of_tokenizer(learnt(kind, vocab_size=SIZES.get(kind)).to_json()) == NO_VOCABULARY


def test_words_have_no_definition_in_the_tokenizers_format():
    assert definition_of(learnt("word", vocab_size=8).to_json()) is None


def test_a_text_with_the_sign_for_a_space_is_no_character_vocabulary_of_gguf():
    tokenizer = learn("char", None, iter([f"a{SPACE}b"]), False, True, True)
    with pytest.raises(UserError, match=r"its alphabet holds '▁', which stands for a space in GGUF; use kind bpe"):
        of_tokenizer(tokenizer.to_json())


# Export, and transformers as a witness


def cell(folder, model, tokenizer):
    """A fitted cell on disk, as the workflow leaves it."""
    from lmstages.storage import save_model

    save_model(folder / "char/llama/seed0/model.safetensors", model, {})
    artefacts.save_json(folder / "char/tokens/tokenizer.json", tokenizer.to_json(), {})
    return folder / "char/llama/seed0/model.safetensors", folder / "char/tokens"


def section(to, kind="f32", output=None):
    return {"to": to, "type": kind, "output_type": output}


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_gives_the_logits_of_an_exported_model(tmp_path, tied):
    from transformers import LlamaForCausalLM

    ours = learnt("char")
    model = fitted(tied, vocab_size=ours.vocab_size)
    export(*cell(tmp_path, model, ours), tmp_path / "hf", section("hf"), {})
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "hf")
    x = torch.from_numpy(np.random.default_rng(4).integers(0, ours.vocab_size, (3, 16)))
    with torch.inference_mode():
        assert torch.allclose(theirs(x).logits, model.logits(x), atol=1e-4)


def test_transformers_cuts_text_with_an_exported_vocabulary(tmp_path):
    from transformers import AutoTokenizer

    ours = learnt("bpe", vocab_size=SIZES["bpe"])
    export(*cell(tmp_path, fitted(vocab_size=SIZES["bpe"]), ours), tmp_path / "hf", section("hf"), {})
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs(TEXTS[2], add_special_tokens=False)["input_ids"] == ours.encode([TEXTS[2]])[0][0].tolist()


def test_an_exported_file_says_what_made_it_and_is_rounded_as_asked(tmp_path):
    ours = learnt("char")
    model = fitted(vocab_size=ours.vocab_size)
    export(*cell(tmp_path, model, ours), tmp_path / "m.gguf", section("gguf", "q4_0", "q8_0"), {"verb": "export"})
    assert artefacts.made_of(artefacts.verified(tmp_path / "m.gguf"))["made"] == {"verb": "export"}
    _, tensors = gguf_file.llama_of(gguf_file.opened(tmp_path / "m.gguf"))
    expected = derived(model, LlamaQ4).stored()
    assert all(np.array_equal(tensors[n].all(), unpacked(expected[n].rows, expected[n].kind)) for n in expected)


def test_export_of_what_cannot_be_exported_is_one_line(tmp_path):
    ours = learnt("char")
    model = fitted(vocab_size=ours.vocab_size)
    path, tokens = cell(tmp_path, model, ours)
    with pytest.raises(UserError, match=r"is to be rounded; the Hugging Face layout is written in f32; use --to gguf"):
        export(path, tokens, tmp_path / "hf", section("hf", "q8_0"), {})
    with pytest.raises(UserError, match=r"--output-type: f32 with --type q8_0; allowed: q8_0, q4_0"):
        export(path, tokens, tmp_path / "m.gguf", section("gguf", "q8_0", "f32"), {})
    rounded_path, _ = cell(tmp_path / "q", derived(model, LlamaQ8), ours)
    with pytest.raises(UserError, match=r"is of rung llama_q8 already"):
        export(rounded_path, tokens, tmp_path / "m.gguf", section("gguf", "q4_0"), {})
    from lmstages.ladder import Uniform

    guess_path, _ = cell(tmp_path / "u", build(Uniform(), ours.vocab_size), ours)
    with pytest.raises(UserError, match=r"is of rung uniform; allowed: llama, llama_q8, llama_q4"):
        export(guess_path, tokens, tmp_path / "m.gguf", section("gguf"), {})
    uneven = build(Llama.model_validate({**SHAPE, "hidden": 100}), ours.vocab_size)
    uneven.network = uneven.build()
    uneven_path, _ = cell(tmp_path / "x", uneven, ours)
    with pytest.raises(UserError, match=r"rows of 100 numbers \(hidden\); allowed: multiples of 32"):
        export(uneven_path, tokens, tmp_path / "m.gguf", section("gguf", "q8_0"), {})


# Bad files


def test_a_file_that_is_no_gguf_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no.gguf: no such file"):
        gguf_file.opened(tmp_path / "no.gguf")
    (tmp_path / "text.gguf").write_text("a text")
    with pytest.raises(UserError, match=r"is no GGUF file: it does not begin with GGUF"):
        gguf_file.opened(tmp_path / "text.gguf")


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_truncated_gguf_is_one_line(tmp_path, kept):
    path = written(tmp_path / "m.gguf", fitted())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"is truncated or corrupted .* bytes.; fetch it again and compare its sha256"):
        gguf_file.opened(path)


def test_a_gguf_with_a_corrupted_head_is_one_line(tmp_path):
    path = written(tmp_path / "m.gguf", fitted())
    content = bytearray(path.read_bytes())
    content[4:8] = (99).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is truncated or corrupted"):
        gguf_file.opened(path)


def other_gguf(path, architecture="llama", change=lambda writer: None, tensors=()):
    writer = gguf.GGUFWriter(str(path), architecture)
    change(writer)
    for name, array in tensors:
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf_file.opened(path)


def test_other_architectures_are_named(tmp_path):
    file = other_gguf(tmp_path / "m.gguf", "qwen2")
    with pytest.raises(UserError, match=r"architecture 'qwen2'; allowed: llama; or engine: llama.cpp"):
        gguf_file.llama_of(file)


def test_scaled_rotations_are_refused(tmp_path):
    file = other_gguf(tmp_path / "m.gguf", tensors=[("rope_freqs.weight", np.ones(4, np.float32))])
    with pytest.raises(UserError, match=r"scales its rotations .* use engine: llama.cpp"):
        gguf_file.llama_of(file)


def test_a_file_that_lacks_facts_or_tensors_says_which(tmp_path):
    with pytest.raises(UserError, match=r"does not say its attention.head_count"):
        gguf_file.llama_of(other_gguf(tmp_path / "a.gguf"))
    with pytest.raises(UserError, match=r"has no tensor token_embd.weight"):
        other_gguf(tmp_path / "b.gguf").vocab_size
    lacking = dict(list(as_stored(fitted()).items()))
    rung = fitted().rung
    path = tmp_path / "c.gguf"
    fewer = rung.model_copy(update={"layers": 1})
    gguf_file.write(path, fewer, V, lacking, NO_VOCABULARY)
    file = gguf_file.opened(path)
    more = gguf_file.OpenFile(path, {**file.facts, "llama.block_count": 2}, file.tensors)
    with pytest.raises(UserError, match=r"has no tensor blk.1.attn_norm.weight"):
        gguf_file.llama_of(more)
    wider = gguf_file.OpenFile(path, {**file.facts, "llama.feed_forward_length": 128}, file.tensors)
    with pytest.raises(UserError, match=r"ffn_gate.weight has shape \(96, 64\), its facts say \(128, 64\)"):
        gguf_file.llama_of(wider)
    odd = gguf_file.OpenFile(path, {**file.facts, "llama.attention.head_count": 3}, file.tensors)
    with pytest.raises(UserError, match=r"its facts fit no LLaMA"):
        gguf_file.llama_of(odd)


def test_a_vocabulary_that_does_not_match_is_one_line(tmp_path):
    ours = learnt("char")
    path = written(tmp_path / "m.gguf", fitted(vocab_size=ours.vocab_size + 1), of_tokenizer(ours.to_json()))
    expected = f"its vocabulary has {ours.vocab_size} pieces, its embedding {ours.vocab_size + 1} rows"
    with pytest.raises(UserError, match=expected):
        gguf_file.vocabulary_of(gguf_file.opened(path))
    with pytest.raises(UserError, match=r"holds no vocabulary, so it cannot read text; export it with one"):
        from_vocabulary(path, NO_VOCABULARY)


def test_a_text_outside_the_vocabulary_is_refused_and_shown(tmp_path):
    ours = learnt("char")
    path = written(tmp_path / "m.gguf", fitted(vocab_size=ours.vocab_size), of_tokenizer(ours.to_json()))
    theirs = from_vocabulary(path, gguf_file.vocabulary_of(gguf_file.opened(path)))
    with pytest.raises(UserError, match=r"does not give back the text: 'Ж mat' becomes"):
        theirs.encode("the Ж mat")


# Hugging Face folders


@pytest.fixture
def folder(tmp_path):
    ours = learnt("char")
    export(*cell(tmp_path, fitted(tied=False, vocab_size=ours.vocab_size), ours), tmp_path / "hf", section("hf"), {})
    return tmp_path / "hf"


def changed(folder: Path, **keys):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
    return folder


def test_a_folder_gives_back_every_tensor(folder):
    read = huggingface.read(folder)
    expected = fitted(tied=False, vocab_size=read.vocab_size).arrays()
    assert all(np.array_equal(read.tensors[name].all(), array) for name, array in expected.items())
    assert (read.begin, read.end) == (0, 0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model_type": "gpt2"}, "config.json: model_type 'gpt2'; allowed: llama"),
        ({"attention_bias": True}, "attention_bias True; allowed: False; convert it to GGUF"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'; allowed: 'silu'"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type 'llama3'; allowed: 'default'"),
        ({"head_dim": 32}, "head_dim 32; allowed: hidden_size / heads = 16"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two'; allowed: a whole number above 0"),
        ({"num_hidden_layers": 3}, "has no tensor model.layers.2.input_layernorm.weight"),
        ({"num_hidden_layers": 1}, "tensor model.layers.1.input_layernorm.weight has no place"),
        ({"intermediate_size": 128}, r"has shape \(96, 64\), config.json says \(128, 64\)"),
        ({"num_key_value_heads": 3}, "describes no LLaMA"),
    ],
)
def test_a_config_that_is_not_ours_to_run_is_one_line(folder, keys, message):
    with pytest.raises(UserError, match=message):
        huggingface.read(changed(folder, **keys))


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"lacks model.safetensors; allowed: safetensors"):
        huggingface.read(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"has its weights pickled \(pytorch_model.bin\), which can run code"):
        huggingface.read(folder)


def test_a_truncated_or_strange_checkpoint_is_one_line(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"model.safetensors: is truncated or no safetensors file"):
        huggingface.read(folder)
    arrays = {name: array.astype(np.int32) for name, array in fitted(tied=False).arrays().items()}
    save_file({names(fitted(tied=False).rung)[name][0]: array for name, array in arrays.items()}, path)
    with pytest.raises(UserError, match=r"is torch.int32; allowed: float32, float16, bfloat16"):
        huggingface.read(changed(folder, vocab_size=V))
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.json: is no JSON object"):
        huggingface.read(folder)
    with pytest.raises(UserError, match=r"no such folder"):
        huggingface.read(folder / "no")
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config.json: no such file"):
        huggingface.read(folder)
