"""GGUF and the Hugging Face layout: what is written is what was fitted, and is read back as that; GPTQ."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from tokenizers import Tokenizer

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.quantized import LlamaQ4, LlamaQ8
from lmstages.core import artifacts, files
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation.quantization import PairScorer, agreement, divergence
from lmstages.models.base import build
from lmstages.models.external import gguf_file, huggingface
from lmstages.models.external.exporting import export, export_checkpoint
from lmstages.models.external.llama_tensors import gguf_order, names, our_order, shapes
from lmstages.models.external.mapped import mapped
from lmstages.models.neural.attention import rotary_cos_sin
from lmstages.models.quantized.blocks import packed, q4_0_of, q4_0_scales, unpacked
from lmstages.models.quantized.derived import float32_tensors
from lmstages.models.quantized.gptq import quantize_matrix
from lmstages.models.quantized.model import rotation_in_32_bits, round_to_8_bits
from lmstages.tokenizers import learn
from lmstages.tokenizers.vocabularies import (
    BYTE_ALPHABET,
    NO_VOCABULARY,
    SPACE,
    WORDS,
    definition_of,
    from_folder,
    from_vocabulary,
    of_tokenizer,
)

V = 11
SHAPE = {"layers": 2, "heads": 4, "key_value_heads": 2, "width": 64, "hidden": 96, "window": 16, "row_length": 16}
TEXTS = ["the cat sat on the mat", "a dog ran to the cat", "naïve cafés cost 20 €"] * 20

SIZES = {"bpe": 285, "unigram": 261, "word": 8}


def fitted(tied=True, seed=0, vocab_size=V):
    """An untrained LLaMA with weights large enough that everything it does shows."""
    config = Llama.model_validate({**SHAPE, "tied_output": tied})
    model = build(config, vocab_size)
    draws = np.random.default_rng(seed)
    wanted = shapes(config, vocab_size)
    model.restore({name: draws.normal(0, 0.3, shape).astype(np.float32) for name, shape in wanted.items()})
    return model


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, V, shape)


def derived(model, record, **keys):
    quantized = build(record.model_validate({"base": model.config, **keys}), model.vocab_size)
    quantized.derive(model, Documents.single(drawn(1, 600)))
    return quantized


def written(path, model, vocabulary=NO_VOCABULARY):
    if isinstance(model.config, Llama):
        gguf_file.write(path, model.config, model.vocab_size, float32_tensors(model), vocabulary)
    else:
        gguf_file.write_model(path, model, vocabulary)
    return path


# GGUF


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_gives_back_every_tensor_and_the_record(tmp_path, tied):
    model = fitted(tied)
    config, tensors = gguf_file.llama_of(gguf_file.opened(written(tmp_path / "m.gguf", model)))
    assert set(tensors) == set(model.arrays())
    assert all(np.array_equal(tensors[name].all(), array) for name, array in model.arrays().items())
    same = ("layers", "heads", "key_value_heads", "width", "hidden", "window", "rope_base", "tied_output")
    assert all(getattr(config, key) == getattr(model.config, key) for key in same)


def test_queries_and_keys_lie_in_another_order_each_by_its_own_heads(tmp_path):
    model = fitted()
    file = gguf.GGUFReader(written(tmp_path / "m.gguf", model))
    stored = {tensor.name: np.array(tensor.data) for tensor in file.tensors}
    keys = model.arrays()["blocks.0.attention.keys.weight"]
    assert np.array_equal(stored["blk.0.attn_k.weight"][:4], keys[[0, 8, 1, 9]])  # two heads of 16 rows
    for name in names(model.config):
        order, back = gguf_order(name, model.config), our_order(name, model.config)
        assert order is None or np.array_equal(order[back], np.arange(len(order)))


@pytest.mark.parametrize(("record", "keys"), [(LlamaQ8, {}), (LlamaQ4, {}), (LlamaQ4, {"output": "q4_0"})])
def test_a_quantized_model_scores_as_the_file_that_holds_it(tmp_path, record, keys):
    model = derived(fitted(tied=False), record, **keys)
    config, tensors = gguf_file.llama_of(gguf_file.opened(written(tmp_path / "m.gguf", model)))
    x = torch.from_numpy(drawn(2, 3, 16))
    with torch.inference_mode():
        assert torch.equal(mapped(config, V, tensors)(x), model.network(x))


def test_a_file_in_8_and_in_4_bits_has_the_formats_sizes(tmp_path):
    model = fitted(tied=False, vocab_size=32)
    q8, q4 = derived(model, LlamaQ8), derived(model, LlamaQ4, output="q4_0")
    weights = sum(array.size for array in model.arrays().values() if array.ndim == 2)
    norms = sum(array.size for array in model.arrays().values() if array.ndim == 1)
    for quantized, bits in ((q8, 8.5), (q4, 4.5)):
        assert quantized.bits_per_weight() == pytest.approx((weights * bits + norms * 32) / (weights + norms))
        data = sum(tensor.n_bytes for tensor in gguf.GGUFReader(written(tmp_path / "m.gguf", quantized)).tensors)
        assert 8 * data == weights * bits + norms * 32


WIDE = {"layers": 1, "heads": 4, "key_value_heads": 2, "width": 256, "hidden": 512, "window": 16, "row_length": 16}
HALF = np.frombuffer(np.float16(0.001).tobytes(), np.uint8)
SCALES = {"Q4_K": [0, 1, 2, 3], "Q6_K": [-2, -1], "Q5_K": [0, 1, 2, 3], "Q2_K": [-4, -3, -2, -1], "Q3_K": [-2, -1]}


def k_rows(format_name, rows, columns, draws):
    """Rows of random codes, with 0.001 as every 16-bit scale."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[format_name]]
    blocks = draws.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
    blocks[..., SCALES[format_name]] = np.tile(HALF, len(SCALES[format_name]) // 2)
    return blocks.reshape(rows, -1)


def k_quantized(path, tied):
    """A file such as Q4_K_M: some matrices in more bits than others -> its matrices as the package unpacks them."""
    config, draws, stored = Llama.model_validate({**WIDE, "tied_output": tied}), np.random.default_rng(0), {}
    writer = gguf.GGUFWriter(str(path), "llama")
    gguf_file._describe(writer, config, V)
    for number, (ours, (_, theirs)) in enumerate(names(config).items()):
        shape = shapes(config, V)[ours]
        name = "F32" if len(shape) == 1 else list(SCALES)[number % len(SCALES)]
        rows = np.ones(shape, np.float32) if name == "F32" else k_rows(name, *shape, draws)
        writer.add_tensor(theirs, rows, raw_dtype=gguf.GGMLQuantizationType[name])
        stored[theirs] = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return config, stored


@pytest.mark.parametrize("tied", [True, False])
def test_k_quants_are_read_as_their_package_unpacks_them_each_row_in_its_place(tmp_path, tied):
    config, stored = k_quantized(tmp_path / "m.gguf", tied)
    _, tensors = gguf_file.llama_of(gguf_file.opened(tmp_path / "m.gguf"))
    heads = {"blk.0.attn_q.weight": config.heads, "blk.0.attn_k.weight": config.key_value_heads}
    arrays = {}
    for ours, (_, theirs) in names(config).items():
        pairs = stored[theirs].reshape(heads[theirs], -1, 2, config.width) if theirs in heads else None
        arrays[ours] = stored[theirs] if pairs is None else pairs.swapaxes(1, 2).reshape(stored[theirs].shape)
        assert np.array_equal(tensors[ours].all(), arrays[ours]), ours
    model = build(config, V)
    model.restore(arrays)
    x = torch.from_numpy(drawn(2, 3, 16))
    with torch.inference_mode():
        assert torch.equal(mapped(config, V, tensors)(x), model.network(x))


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
    codes, scales = quantize_matrix(torch.from_numpy(weight).double(), torch.from_numpy(inputs.T @ inputs))
    gptq = unpacked(q4_0_of(codes, scales), "q4_0")
    nearest = unpacked(packed(weight, "q4_0"), "q4_0")
    errors = [float(np.square(inputs @ (weight - matrix).T).sum()) for matrix in (gptq, nearest)]
    assert errors[0] < 0.5 * errors[1]


def test_gptq_with_unrelated_inputs_is_rounding_to_nearest():
    weight = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (8, 64)))
    codes, scales = quantize_matrix(weight, torch.eye(64, dtype=torch.float64))
    steps = weight.numpy().reshape(8, 2, 32) / scales[..., None]
    assert np.array_equal(codes, np.clip(np.floor(steps + 8.5), 0, 15).reshape(8, 64))


def test_gptq_is_nearer_to_the_model_on_the_text_that_calibrates():
    model, rows = fitted(), drawn(1, 600)
    quantized = [derived(model, LlamaQ4, output="q8_0", rounding=rounding) for rounding in ("gptq", "nearest")]
    scorers = [PairScorer(candidate, model, divergence) for candidate in quantized]
    gptq, nearest = (scorer.score(rows[: 37 * 16].reshape(37, 16)).mean() for scorer in scorers)
    assert 0 < gptq < nearest


def test_divergence_and_agreement_of_a_model_with_itself_are_zero_and_one():
    model = fitted()
    same = derived(model, LlamaQ8)
    assert np.allclose(PairScorer(same, same, divergence).score(drawn(3, 4, 16)), 0)
    assert (PairScorer(same, same, agreement).score(drawn(3, 4, 16)) == 1).all()
    assert (PairScorer(same, model, divergence).score(drawn(3, 4, 16)) > 0).all()


def test_rounded_activations_are_multiples_of_a_127th_of_the_largest():
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (3, 64)).astype(np.float32))
    x[0, :32] = 0
    y = round_to_8_bits(x)
    largest = x.view(3, 2, 32).abs().amax(-1, keepdim=True)
    assert (y[0, :32] == 0).all() and ((x - y).view(3, 2, 32).abs() <= largest / 127 * 0.51 + 1e-3 * largest).all()


def test_angles_in_32_bits_are_nearly_those_of_the_network():
    ours, theirs = rotary_cos_sin(2048, 32, 10000.0), rotation_in_32_bits(2048, 32, 10000.0)
    assert torch.equal(ours[:, 0], theirs[:, 0]) and 0 < (ours - theirs).abs().max() < 2e-4


@pytest.mark.parametrize("tied", [True, False])
def test_a_network_with_rounded_activations_is_near_the_one_without(tied):
    model = fitted(tied)
    exact, near = (derived(model, LlamaQ8, activations=activations) for activations in ("f32", "q8_0"))
    x = torch.from_numpy(drawn(2, 3, 16))
    with torch.inference_mode():
        lost = (near.logits(x) - exact.logits(x)).abs().mean() / exact.logits(x).std()
    assert near.logits(x).dtype == torch.float32 and 1e-4 < lost < 0.05


def test_a_base_with_other_hyperparameters_is_refused():
    other = build(LlamaQ8(base=Llama.model_validate({**SHAPE, "rope_base": 500.0})), V)
    with pytest.raises(UserError, match=r"--base llama: was fitted with other hyperparameters; run snakemake"):
        other.derive(fitted(), Documents.single([]))


def test_a_derived_model_without_its_base_is_refused():
    with pytest.raises(UserError, match=r"model llama_q4: its section lacks base"):
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
        encoded, covered = theirs.encode(text)
        assert np.array_equal(encoded, tokens) and np.array_equal(covered, lengths) and theirs.decode(encoded) == text
    assert theirs.begin == theirs.end == 0


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "unigram"])
def test_a_vocabulary_in_the_tokenizers_format_cuts_text_as_ours(kind):
    ours = learnt(kind, vocab_size=SIZES.get(kind))
    theirs = Tokenizer.from_str(definition_of(ours.to_json()))
    for text in [*TEXTS[:3], *(["<s> is a text"] if kind not in ("char",) else [])]:
        tokens = ours.encode([text])[0][0].tolist()
        assert theirs.encode(text, add_special_tokens=False).ids == tokens
        assert theirs.encode(text).ids == [0, *tokens]  # as a GGUF file of the model says: BOS before every text


def vocabulary_file(path, model, pieces, types, **facts):
    """A GGUF file with a vocabulary as others write it -> its tokenizer; ``facts`` have the package's names."""

    def change(writer):
        writer.add_tokenizer_model(model)
        writer.add_token_list(pieces)
        writer.add_token_types(types)
        for name, value in facts.items():
            getattr(writer, f"add_{name}")(value)

    file = other_gguf(path, "llama", change, [("token_embd.weight", np.zeros((len(pieces), 32), np.float32))])
    return from_vocabulary(path, gguf_file.vocabulary_of(file))


SPELT = [*TEXTS[:3], " two  spaces and a  tab\t", "a line\nand a \U0001f994, <s> and <0x41>", ""]


def sentencepiece_model(path, leading_space):
    """A vocabulary such as LLaMA 2's: joined by score, bytes for what it lacks."""
    import sentencepiece

    settings = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "vocab_size": 310}
    settings |= {"remove_extra_whitespaces": False, "add_dummy_prefix": leading_space, "minloglevel": 2}
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_writer=file, **settings)
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def type_of(library, token):
    types = {"is_unknown": 2, "is_control": 3, "is_byte": 6}
    return next((type_ for predicate, type_ in types.items() if getattr(library, predicate)(token)), 1)


@pytest.mark.parametrize("leading_space", [True, False])
def test_a_sentencepiece_vocabulary_in_gguf_cuts_text_as_sentencepiece(tmp_path, leading_space):
    library = sentencepiece_model(tmp_path / "tokenizer.model", leading_space)
    tokens = range(library.get_piece_size())
    facts = {"token_scores": [library.get_score(token) for token in tokens], "add_space_prefix": leading_space}
    facts |= {"unk_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    pieces, types = [library.id_to_piece(token) for token in tokens], [type_of(library, token) for token in tokens]
    theirs = vocabulary_file(tmp_path / "m.gguf", "llama", pieces, types, **facts)
    for text in SPELT:
        encoded, covered = theirs.encode(text)
        assert encoded.tolist() == library.encode(text), text
        before = " " if leading_space and text else ""  # a space that the text does not pay for
        assert covered.sum() == len(text.encode()) and theirs.decode(encoded) == before + text
    assert (theirs.begin, theirs.end) == (1, 2)


def test_a_sentencepiece_model_in_a_folder_is_its_own_witness(tmp_path):
    library = sentencepiece_model(tmp_path / "tokenizer.model", leading_space=True)
    theirs = from_folder(tmp_path, 1, [2])
    for text in SPELT:
        encoded, covered = theirs.encode(text)
        assert encoded.tolist() == library.encode(text) and covered.sum() == len(text.encode())
    assert theirs.spelling[library.piece_to_id("<0x0A>")] == b"\n"


MERGES = ["t h", "th e", "\u0120 the", "1 2", "12 3", "123 4", "' s"]


@pytest.mark.parametrize(
    ("words", "text", "pieces"),
    [
        ("llama-bpe", "the 1234", ["the", "\u0120", "123", "4"]),  # digits by threes, a space apart from them
        ("gpt-2", "the 1234", ["the", "\u0120", "1234"]),
        ("llama-bpe", "THE'S", ["T", "H", "E", "'", "S"]),
        ("llama-bpe", "the the's", ["the", "\u0120the", "'s"]),
        ("llama-bpe", "xyz<|end|>", ["xyz", "<", "|", "e", "n", "d", "|", ">"]),  # a whole word needs no merges
        ("gpt-2", "xyz<|end|>", ["x", "y", "z", "<", "|", "e", "n", "d", "|", ">"]),
        ("gpt-2", "\u00e9\n", ["\u00c3", "\u00a9", "\u010a"]),  # bytes in GPT-2's spelling
    ],
)
def test_a_byte_level_vocabulary_in_gguf_cuts_words_and_joins_by_its_rule(tmp_path, words, text, pieces):
    vocabulary = [*BYTE_ALPHABET, *(merge.replace(" ", "", 1) for merge in MERGES), "xyz", "<|end|>"]
    types = [1] * (len(vocabulary) - 1) + [3]
    facts = {"tokenizer_pre": words, "token_merges": MERGES, "bos_token_id": len(vocabulary) - 1}
    theirs = vocabulary_file(tmp_path / "m.gguf", "gpt2", vocabulary, types, **facts)
    encoded, covered = theirs.encode(text)
    assert [vocabulary[token] for token in encoded] == pieces
    assert theirs.decode(encoded) == text and covered.sum() == len(text.encode())


def test_a_rule_for_words_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cuts words by the rule 'nobody'; known: gpt-2, default, .*llama-bpe"):
        vocabulary_file(tmp_path / "m.gguf", "gpt2", ["a", "b"], [1, 1], tokenizer_pre="nobody", token_merges=["a b"])


@pytest.mark.parametrize("merge", ["a b", "a c", "c a"])
def test_a_merge_that_makes_no_piece_is_refused(tmp_path, merge):
    problem = r"its merge of '.' and '.' needs a piece '(ab|c)'; a piece of its vocabulary; fetch it again"
    with pytest.raises(UserError, match=problem):
        vocabulary_file(tmp_path / "m.gguf", "gpt2", ["a", "b"], [1, 1], tokenizer_pre="gpt-2", token_merges=[merge])


@pytest.mark.parametrize("kind", ["byte", "unigram", "word", "whitespace"])
def test_what_gguf_cannot_hold_is_left_out(kind):
    assert of_tokenizer(learnt(kind, vocab_size=SIZES.get(kind)).to_json()) == NO_VOCABULARY


@pytest.mark.parametrize("kind", ["word", "whitespace"])
def test_words_have_no_definition_in_the_tokenizers_format(kind):
    assert definition_of(learnt(kind, vocab_size=8).to_json()) is None


def test_a_text_with_the_sign_for_a_space_is_no_character_vocabulary_of_gguf():
    tokenizer = learn("char", None, iter([f"a{SPACE}b"]), False, True, True)
    with pytest.raises(UserError, match=r"its alphabet holds '▁', which stands for a space in GGUF; use kind bpe"):
        of_tokenizer(tokenizer.to_json())


# Export, and transformers as a witness


def experiment(folder, model, tokenizer):
    """A fitted cell on disk, as the workflow leaves it."""
    from lmstages.models.storage import save_model

    save_model(folder / "char/llama/seed0/model.safetensors", model, {})
    artifacts.save_json(folder / "char/tokens/tokenizer.json", tokenizer.to_json(), {})
    return folder / "char/llama/seed0/model.safetensors", folder / "char/tokens"


def section(to, format_name="f32", output=None):
    return {"to": to, "type": format_name, "output_type": output}


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_gives_the_logits_of_an_exported_model(tmp_path, tied):
    from transformers import LlamaForCausalLM

    ours = learnt("char")
    model = fitted(tied, vocab_size=ours.vocab_size)
    export(*experiment(tmp_path, model, ours), tmp_path / "hf", section("hf"), {})
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "hf")
    x = torch.from_numpy(np.random.default_rng(4).integers(0, ours.vocab_size, (3, 16)))
    with torch.inference_mode():
        assert torch.allclose(theirs(x).logits, model.logits(x), atol=1e-4)


def test_transformers_cuts_text_with_an_exported_vocabulary(tmp_path):
    from transformers import AutoTokenizer

    ours = learnt("bpe", vocab_size=SIZES["bpe"])
    export(*experiment(tmp_path, fitted(vocab_size=SIZES["bpe"]), ours), tmp_path / "hf", section("hf"), {})
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs(TEXTS[2], add_special_tokens=False)["input_ids"] == ours.encode([TEXTS[2]])[0][0].tolist()


def test_an_exported_file_says_what_made_it_and_is_rounded_as_asked(tmp_path):
    ours = learnt("char")
    model = fitted(vocab_size=ours.vocab_size)
    path, tokens = experiment(tmp_path, model, ours)
    export(path, tokens, tmp_path / "m.gguf", section("gguf", "q4_0", "q8_0"), {"command": "export"})
    assert artifacts.made_of(artifacts.verified(tmp_path / "m.gguf"))["made"] == {"command": "export"}
    _, tensors = gguf_file.llama_of(gguf_file.opened(tmp_path / "m.gguf"))
    expected = derived(model, LlamaQ4).packed_tensors()
    assert all(np.array_equal(tensors[n].all(), unpacked(expected[n].rows, expected[n].format)) for n in expected)


def test_export_of_what_cannot_be_exported_is_one_line(tmp_path):
    ours = learnt("char")
    model = fitted(vocab_size=ours.vocab_size)
    path, tokens = experiment(tmp_path, model, ours)
    message = "is to be quantized, or is already; the Hugging Face layout is written in f32; use --to gguf"
    with pytest.raises(UserError, match=message):
        export(path, tokens, tmp_path / "hf", section("hf", "q8_0"), {})
    with pytest.raises(UserError, match=r"--output-type: f32 with --type q8_0; allowed: q8_0, q4_0"):
        export(path, tokens, tmp_path / "m.gguf", section("gguf", "q8_0", "f32"), {})
    rounded_path, _ = experiment(tmp_path / "q", derived(model, LlamaQ8), ours)
    with pytest.raises(UserError, match=r"is of model llama_q8 already"):
        export(rounded_path, tokens, tmp_path / "m.gguf", section("gguf", "q4_0"), {})
    from lmstages.config.hyperparameters.counts import Uniform

    guess_path, _ = experiment(tmp_path / "u", build(Uniform(), ours.vocab_size), ours)
    with pytest.raises(UserError, match=r"is of model uniform; allowed: llama, llama_q8, llama_q4"):
        export(guess_path, tokens, tmp_path / "m.gguf", section("gguf"), {})
    uneven = build(Llama.model_validate({**SHAPE, "hidden": 100}), ours.vocab_size)
    uneven.network = uneven.build()
    uneven_path, _ = experiment(tmp_path / "x", uneven, ours)
    with pytest.raises(UserError, match=r"rows of 100 numbers \(hidden\); allowed: multiples of 32"):
        export(uneven_path, tokens, tmp_path / "m.gguf", section("gguf", "q8_0"), {})


# A checkpoint of somebody else, written out


def checkpoint(folder, definition=None):
    """A Hugging Face folder in 16 bits with two rows more than its vocabulary has pieces -> what it holds."""
    folder.mkdir(exist_ok=True)
    if definition is None:
        size, marks = sentencepiece_model(folder / "tokenizer.model", leading_space=True).get_piece_size(), (1, 2)
    else:
        (folder / "tokenizer.json").write_text(definition.to_str())
        size, marks = definition.get_vocab_size(), (0, 0)
    model = fitted(tied=False, vocab_size=size + 2)
    huggingface.save(folder, model.config, model.vocab_size, model.arrays(), None, {})
    tensors = {names(model.config)[name][0]: torch.from_numpy(a).bfloat16() for name, a in model.arrays().items()}
    save_tensors(tensors, folder / "model.safetensors")
    changed(folder, bos_token_id=marks[0], eos_token_id=marks[1])
    return huggingface.read(folder)


def library(rule):
    """A definition of the tokenizers library, in LLaMA 3's way."""
    from tokenizers import Regex, models, pre_tokenizers, trainers

    tokenizer, alphabet = Tokenizer(models.BPE(ignore_merges=True)), pre_tokenizers.ByteLevel.alphabet()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(rule), "isolated"), byte_level])
    settings = {"vocab_size": 330, "special_tokens": ["<s>"], "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(**settings))
    return tokenizer


def joining():
    """SentencePiece's vocabulary as LLaMA 2's folders have it; *cat* is c and at, since a and t are joined first."""
    from tokenizers import models, normalizers

    merges = [("a", "t"), ("c", "a"), (SPACE, "t"), ("h", "e"), (f"{SPACE}t", "he"), ("o", "n")]
    pieces = ["<s>", "<unk>", *(f"<0x{n:02X}>" for n in range(256)), SPACE, *"abcdefghijklmnopqrstuvwxyz,"]
    vocabulary = {piece: n for n, piece in enumerate([*pieces, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    return tokenizer


RULE = WORDS["llama-bpe"]


@pytest.mark.parametrize("definition", [None, lambda: library(RULE), joining])
@pytest.mark.parametrize("format_name", ["f32", "q8_0"])
def test_a_checkpoint_from_elsewhere_is_written_with_its_vocabulary(tmp_path, definition, format_name):
    read = checkpoint(tmp_path / "theirs", definition and definition())
    export_checkpoint(tmp_path / "theirs", tmp_path / "m.gguf", section("gguf", format_name), {"command": "export"})
    file = gguf_file.opened(tmp_path / "m.gguf")
    config, tensors = gguf_file.llama_of(file)
    assert config.model_copy(update={"norm_epsilon": read.config.norm_epsilon}) == read.config
    for name, tensor in read.tensors.items():
        expected = tensor.all()
        if expected.ndim == 2:
            expected = unpacked(packed(expected, format_name), format_name)
        assert np.array_equal(tensors[name].all(), expected)
    ours = from_vocabulary(file.path, gguf_file.vocabulary_of(file))
    theirs = from_folder(tmp_path / "theirs", read.begin, read.ends)
    for text in SPELT:
        assert [a.tolist() for a in ours.encode(text)] == [a.tolist() for a in theirs.encode(text)]
    assert (ours.begin, ours.end, ours.vocab_size) == (read.begin, read.end, read.vocab_size)
    made = artifacts.made_of(tmp_path / "m.gguf")["made"]
    assert made["inputs"] == {"model.safetensors": files.sha256_of(tmp_path / "theirs/model.safetensors")}


def test_a_checkpoint_that_gguf_cannot_hold_is_one_line(tmp_path):
    checkpoint(tmp_path / "a", library(r"\d|[^\d]+"))
    with pytest.raises(UserError, match=r"cuts words by the rule .*; known: gpt-2, default, .*llama-bpe"):
        export_checkpoint(tmp_path / "a", tmp_path / "m.gguf", section("gguf"), {})
    with pytest.raises(UserError, match=r"a: is in the Hugging Face layout; use --to gguf"):
        export_checkpoint(tmp_path / "a", tmp_path / "hf", section("hf"), {})
    path = tmp_path / "a/tokenizer.json"
    definition = json.loads(path.read_text())
    definition["pre_tokenizer"] = {**json.loads(library(RULE).to_str())["pre_tokenizer"]}
    path.write_text(json.dumps({**definition, "normalizer": {"type": "Lowercase"}}))
    with pytest.raises(UserError, match=r"cuts .The 1234 .* by a rule that GGUF has no name for; use llama.cpp's own"):
        export_checkpoint(tmp_path / "a", tmp_path / "m.gguf", section("gguf"), {})
    path.write_text(json.dumps({**definition, "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}))
    with pytest.raises(UserError, match=r"a vocabulary of kind 'WordLevel'; allowed: BPE"):
        export_checkpoint(tmp_path / "a", tmp_path / "m.gguf", section("gguf"), {})


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
    with pytest.raises(UserError, match=r"scales its rotary embeddings .* use engine: llama.cpp"):
        gguf_file.llama_of(file)


def test_a_file_that_lacks_facts_or_tensors_says_which(tmp_path):
    with pytest.raises(UserError, match=r"has no metadata attention.head_count"):
        gguf_file.llama_of(other_gguf(tmp_path / "a.gguf"))
    with pytest.raises(UserError, match=r"has no tensor token_embd.weight"):
        other_gguf(tmp_path / "b.gguf").vocab_size
    lacking = dict(list(float32_tensors(fitted()).items()))
    config = fitted().config
    path = tmp_path / "c.gguf"
    fewer = config.model_copy(update={"layers": 1})
    gguf_file.write(path, fewer, V, lacking, NO_VOCABULARY)
    file = gguf_file.opened(path)
    more = gguf_file.OpenFile(path, {**file.facts, "llama.block_count": 2}, file.tensors)
    with pytest.raises(UserError, match=r"has no tensor blk.1.attn_norm.weight"):
        gguf_file.llama_of(more)
    wider = gguf_file.OpenFile(path, {**file.facts, "llama.feed_forward_length": 128}, file.tensors)
    with pytest.raises(UserError, match=r"ffn_gate.weight has shape \(96, 64\), its metadata say \(128, 64\)"):
        gguf_file.llama_of(wider)
    odd = gguf_file.OpenFile(path, {**file.facts, "llama.attention.head_count": 3}, file.tensors)
    with pytest.raises(UserError, match=r"its metadata describe no LLaMA"):
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
    with pytest.raises(UserError, match=r"decoding changes the text: 'Ж mat' becomes"):
        theirs.encode("the Ж mat")


# Hugging Face folders


@pytest.fixture
def folder(tmp_path):
    ours = learnt("char")
    model = fitted(tied=False, vocab_size=ours.vocab_size)
    export(*experiment(tmp_path, model, ours), tmp_path / "hf", section("hf"), {})
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
        ({"num_hidden_layers": 1}, "tensor model.layers.1.input_layernorm.weight does not belong to a LLaMA"),
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
    with pytest.raises(UserError, match=r"has pickled weights \(pytorch_model.bin\), which can run code"):
        huggingface.read(folder)


def test_a_truncated_or_strange_checkpoint_is_one_line(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"model.safetensors: is truncated or no safetensors file"):
        huggingface.read(folder)
    arrays = {name: array.astype(np.int32) for name, array in fitted(tied=False).arrays().items()}
    save_file({names(fitted(tied=False).config)[name][0]: array for name, array in arrays.items()}, path)
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
