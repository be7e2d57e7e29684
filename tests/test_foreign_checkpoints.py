"""Files of others: every key that changes the computation is obeyed or refused by name, ids are the tokenizer's own."""

import json
import struct

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_gguf import (
    RULE,
    SIZES,
    TEXTS,
    changed,
    checkpoint,
    experiment,
    fitted,
    joining,
    learnt,
    library,
    section,
    vocabulary_file,
    written,
)

from lmstages.config.sections import Pretrained
from lmstages.core.errors import UserError
from lmstages.evaluation import checkpoints
from lmstages.evaluation.checkpoints import OurNumbers
from lmstages.models.external import gguf_file, huggingface
from lmstages.models.external.exporting import export, export_checkpoint
from lmstages.tokenizers.vocabularies import SPACE, from_folder, of_tokenizer

# GGUF: every key is obeyed or refused


def with_fact(path, key, value):
    """The GGUF file at ``path`` with one more key, or another value of one that it has."""
    file = gguf_file.opened(path)
    return gguf_file.OpenFile(path, {**file.facts, key: value}, file.tensors)


@pytest.fixture
def path(tmp_path):
    return written(tmp_path / "m.gguf", fitted(tied=False))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.rope.scaling.factor", 2.0, "its metadata llama.rope.scaling.factor is 2.0; allowed: 0, 1; use engine"),
        ("llama.rope.scale_linear", 4.0, "its metadata llama.rope.scale_linear is 4.0; allowed: 0, 1"),
        ("llama.rope.scaling.yarn_ext_factor", 1.0, "llama.rope.scaling.yarn_ext_factor is 1.0; allowed: 0"),
        ("llama.rope.dimension_count", 8, "llama.rope.dimension_count is 8; allowed: 16, as its other metadata"),
        ("llama.attention.key_length", 32, "llama.attention.key_length is 32; allowed: 16"),
        ("llama.attention.sliding_window", 4, "llama.attention.sliding_window is 4; allowed: 0"),
        ("llama.attention.causal", False, "llama.attention.causal is False; allowed: True"),
        ("llama.attention.scale", 0.5, "llama.attention.scale is 0.5; allowed: 0"),
        ("llama.expert_count", 8, "llama.expert_count is 8; allowed: 0"),
        ("llama.final_logit_softcapping", 30.0, "llama.final_logit_softcapping is 30.0"),
        ("llama.logit_scale", 0.1, "llama.logit_scale is 0.1; allowed: 0, 1"),
        ("llama.invented_tomorrow", [1, 2], r"llama.invented_tomorrow is \[1, 2\]; allowed: 0"),
        ("llama.vocab_size", 12, "llama.vocab_size is 12; allowed: 11"),
        ("llama.attention.head_count", [4, 2], r"llama.attention.head_count is '\[4, 2\]'; allowed: a whole number"),
        ("llama.rope.freq_base", "high", "llama.rope.freq_base is 'high'; allowed: a number"),
        ("llama.block_count", 1 << 31, "its metadata say 2,147,483,648 blocks, it has 21 tensors"),
        ("llama.rope.scaling.type", "yarn", "scales its rotary embeddings"),
    ],
)
def test_a_key_that_changes_the_computation_is_refused_by_name(path, key, value, message):
    with pytest.raises(UserError, match=message):
        gguf_file.llama_of(with_fact(path, key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.scaling.factor", 1.0),
        ("llama.rope.scaling.type", "none"),
        ("llama.rope.scaling.original_context_length", 4096),
        ("llama.expert_count", 0),
        ("llama.attention.causal", True),
        ("llama.attention.value_length", 16),
        ("llama.tensor_data_layout", "Meta AI original pth"),
        ("mradermacher.quantized_by", "somebody"),
        ("general.file_type", 99),
    ],
)
def test_a_key_that_changes_nothing_is_accepted(path, key, value):
    assert gguf_file.llama_of(with_fact(path, key, value))[0] == gguf_file.llama_of(gguf_file.opened(path))[0]


def rewritten(path, change, tensors=None):
    """The file written again by the package, with ``change`` applied to its writer."""
    reader = gguf.GGUFReader(str(path))
    kept = [(t.name, np.array(t.data), t.tensor_type) for t in reader.tensors if tensors is None or tensors(t.name)]
    writer = gguf.GGUFWriter(str(path), "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub)
    change(writer)
    for name, array, tensor_type in kept:
        writer.add_tensor(name, array, raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_one_part_of_a_model_is_no_model(path):
    def first_of_two(writer):
        writer.add_uint16("split.no", 0)
        writer.add_uint16("split.count", 2)

    rewritten(path, first_of_two, lambda name: name != "output.weight")
    with pytest.raises(UserError, match=r"its metadata say part 1 of 2, its name part 1 of 1; give it the name that"):
        gguf_file.opened(path)


def test_one_part_of_a_model_is_known_by_its_name_too(path):
    part = path.rename(path.with_name("m-00002-of-00003.gguf"))
    with pytest.raises(UserError, match=r"m-00002-of-00003.gguf: lacks m-00001-of-00003.gguf and 1 others beside it"):
        gguf_file.opened(part)


def test_a_file_that_lacks_some_of_its_tensors_is_refused(path):
    rewritten(path, lambda writer: writer.add_int32("split.tensors.count", 21), lambda name: name != "output.weight")
    with pytest.raises(UserError, match=r"has 20 tensors, its metadata split.tensors.count says 21"):
        gguf_file.opened(path)


def test_an_adapter_is_no_model(path):
    rewritten(path, lambda writer: writer.add_type("adapter"))
    with pytest.raises(UserError, match=r"its metadata general.type is 'adapter'; allowed: 'model'"):
        gguf_file.opened(path)


def test_a_damaged_name_of_a_key_is_refused(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"llama.rope.freq_base", b"lmama.rope.freq_base"))
    with pytest.raises(UserError, match=r"'lmama.rope.freq_base' is no key \(did you mean 'llama.rope.freq_base'\?\)"):
        gguf_file.opened(path)


def test_a_key_of_control_characters_is_refused(path):
    path.write_bytes(path.read_bytes().replace(b"llama.rope.freq_base", b"ll\0\0\0\0\0\0\0e.freq_base"))
    with pytest.raises(UserError, match=r"its metadata 'll.*e.freq_base' is no key; fetch it again"):
        gguf_file.opened(path)


def test_a_tensor_that_lies_elsewhere_is_refused(path):
    content = bytearray(path.read_bytes())
    position = content.index(b"blk.0.ffn_norm.weight") + len("blk.0.ffn_norm.weight") + 4 + 8 + 4
    before = struct.unpack_from("<Q", content, position)[0]
    struct.pack_into("<Q", content, position, before + 32)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is truncated or corrupted: tensor blk.0.ffn_norm.weight lies at .*, not "):
        gguf_file.opened(path)


def test_bytes_after_the_last_tensor_are_refused(path):
    path.write_bytes(path.read_bytes() + bytes(64))
    with pytest.raises(UserError, match=r"corrupted: 64 bytes follow its last tensor; fetch it again"):
        gguf_file.opened(path)


def test_an_array_without_end_is_refused_at_once(path):
    rewritten(path, lambda writer: writer.add_array("general.tags", [1, 2, 3]))
    content = bytearray(path.read_bytes())
    position = content.index(b"general.tags") + len("general.tags") + 8
    struct.pack_into("<Q", content, position, 1 << 60)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is truncated or corrupted \(ValueError"):
        gguf_file.opened(path)


def test_a_format_that_nobody_here_dequantizes_is_refused(path):
    content = path.read_bytes()
    name = b"blk.0.ffn_up.weight"
    position = content.index(name) + len(name) + 4 + 16
    path.write_bytes(content[:position] + struct.pack("<I", 26) + content[position + 4 :])  # I32, of the same size
    with pytest.raises(UserError, match=r"tensor blk.0.ffn_up.weight is in I32; use engine: llama.cpp"):
        gguf_file.llama_of(gguf_file.opened(path))


def test_a_file_of_the_other_byte_order_is_refused(tmp_path):
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match=r"has the byte order of another machine \(big-endian\)"):
        gguf_file.opened(tmp_path / "m.gguf")


# GGUF: the vocabulary


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bos_token_id", -1, "has special token -1, its vocabulary only"),
        ("bos_token_id", "<s>", "has special token <s>, its vocabulary only"),
        ("eos_token_id", 99, "has special token 99, its vocabulary only"),
        ("tokens", "abc", "its metadata tokenizer.ggml.tokens is no list of type str"),
        ("token_type", [0.5], "its metadata tokenizer.ggml.token_type is no list of type int"),
        ("remove_extra_whitespaces", True, "its metadata tokenizer.ggml.remove_extra_whitespaces is True; allowed: 0"),
        ("precompiled_charsmap", [1, 2], r"tokenizer.ggml.precompiled_charsmap is \[1, 2\]"),
        ("ad_space_prefix", False, r"'tokenizer.ggml.ad_space_prefix' is no key \(did you mean"),
        ("add_space_prefix", 2, "tokenizer.ggml.add_space_prefix is no truth value"),
    ],
)
def test_a_key_that_changes_how_text_is_cut_is_refused(tmp_path, key, value, message):
    ours = learnt("char")
    path = written(tmp_path / "m.gguf", fitted(vocab_size=ours.vocab_size), of_tokenizer(ours.to_json()))
    with pytest.raises(UserError, match=message):
        gguf_file.vocabulary_of(with_fact(path, f"tokenizer.ggml.{key}", value))


def test_the_unknown_piece_begins_no_text(tmp_path):
    facts = {"token_scores": [0.0] * 3, "unk_token_id": 0, "bos_token_id": 0}
    with pytest.raises(UserError, match=r"tokenizer.ggml.bos_token_id is 0, which is the unknown piece"):
        vocabulary_file(tmp_path / "m.gguf", "llama", ["<unk>", "<s>", "a"], [2, 3, 1], **facts)


def without_space(path):
    """A vocabulary of words in bytes, and a space that only its bytes can spell."""
    pieces = ["<s>", *(f"<0x{n:02X}>" for n in range(256)), "a", "b"]
    facts = {"token_scores": [0.0] * len(pieces), "bos_token_id": 0, "add_space_prefix": False}
    return vocabulary_file(path, "llama", pieces, [3, *[6] * 256, 1, 1], **facts)


def test_a_space_without_a_piece_is_spelt_in_bytes(tmp_path):
    theirs = without_space(tmp_path / "m.gguf")
    tokens, covered = theirs.encode("a b")
    sign = [1 + byte for byte in SPACE.encode()]
    assert tokens.tolist() == [257, *sign, 258] and covered.tolist() == [1, 1, 0, 0, 1]
    assert theirs.decode(tokens) == "a b"
    tokens, covered = theirs.encode(f"a{SPACE}")  # the sign itself
    assert covered.tolist() == [1, 1, 1, 1]


def test_a_piece_that_only_looks_like_a_byte_is_text(tmp_path):
    facts = {"token_scores": [0.0] * 3, "bos_token_id": 0}
    assert (
        vocabulary_file(tmp_path / "m.gguf", "llama", ["<s>", "<0xZZ>", "a"], [3, 1, 1], **facts).spelling[1]
        == b"<0xZZ>"
    )


# The Hugging Face layout: every key is obeyed or refused


@pytest.fixture
def folder(tmp_path):
    checkpoint(tmp_path / "theirs", library(RULE))
    return tmp_path / "theirs"


PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type 'linear'; allowed: 'default'"),
        ({"rope_parameters": {**PLAIN, "factor": 2.0}}, "rope_parameters.factor 2.0; allowed: 1"),
        ({"rope_scaling": {"factor": 2.0}}, "rope_scaling.factor 2.0; allowed: 1; convert it to GGUF"),
        ({"rope_scaling": {"low_freq_factor": 1.0}}, "rope_scaling.low_freq_factor 1.0; allowed: None"),
        ({"rope_scaling": "linear"}, "rope_scaling 'linear'; allowed: an object or null"),
        ({"rope_theta": 500000.0}, "rope_theta 500000.0 but rope_parameters.rope_theta 10000.0; they must be equal"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5; allowed: 1"),
        (
            {"sliding_window": 4},
            "sliding_window 4, which no LLaMA that we compute has; remove it if it changes nothing",
        ),
        ({"quantization_config": {"bits": 4}}, r"quantization_config \{'bits': 4\}, which no LLaMA"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map .*, which no LLaMA that we compute has"),
        ({"embedding_multiplier": 12.0}, "embedding_multiplier 12.0"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures .*; allowed: LlamaForCausalLM"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True; allowed: a whole number above 0"),
        ({"num_hidden_layers": 4000}, "config.json says 4,000 layers, the files have 21 tensors"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0; allowed: a whole number above 0"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None; allowed: a number above 0"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5'; allowed: a number above 0"),
        ({"rope_parameters": {"rope_theta": "high"}, "rope_theta": "high"}, "rope_theta is 'high'; allowed: a number"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings 'false'; allowed: true or false"),
        ({"bos_token_id": 10**6}, r"bos_token_id is 1000000; allowed: 0 to 295, the rows of the embedding, or null"),
        ({"eos_token_id": -1}, r"eos_token_id is -1; allowed: 0 to 295"),
        ({"eos_token_id": [0, "</s>"]}, r"eos_token_id is '</s>'; allowed: 0 to 295"),
        ({"bos_token_id": 0.0}, r"bos_token_id is 0.0; allowed: 0 to 295"),
    ],
)
def test_a_key_of_config_json_that_changes_the_computation_is_refused_by_name(folder, keys, message):
    with pytest.raises(UserError, match=message):
        huggingface.read(changed(folder, **keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_scaling": None},
        {"rope_scaling": {"rope_type": "default", "factor": 1.0}},
        {"sliding_window": None},
        {"quantization_config": {}},
        {"_name_or_path": "somebody/llama"},
        {"pretraining_tp": 2, "torch_dtype": "bfloat16", "transformers_version": "4.31.0"},
        {"rope_theta": 10000},
    ],
)
def test_a_key_of_config_json_that_changes_nothing_is_accepted(folder, keys):
    before = huggingface.read(folder).config
    assert huggingface.read(changed(folder, **keys)).config == before


def test_a_key_that_occurs_twice_is_refused(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"rms_norm_eps":', '"rms_norm_eps": 0.1, "rms_norm_eps":'))
    with pytest.raises(UserError, match=r"config.json: is no JSON object \(key 'rms_norm_eps' occurs twice\)"):
        huggingface.read(folder)


def test_brackets_without_end_are_one_line(folder):
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"config.json: is no JSON object"):
        huggingface.read(folder)


def test_an_output_matrix_that_contradicts_its_config_is_refused(folder):
    with pytest.raises(UserError, match=r"says tie_word_embeddings, but lm_head.weight is another matrix"):
        huggingface.read(changed(folder, tie_word_embeddings=True))


def test_weights_of_another_layout_are_refused(folder):
    path = folder / "model.safetensors"
    save_file(load_file(path), path, {"format": "flax"})
    with pytest.raises(UserError, match=r"model.safetensors: its metadata format is 'flax'; allowed: 'pt'"):
        huggingface.read(folder)


def index_of(folder, **places):
    """The weights in two files, and an index in which some tensors are listed under another."""
    tensors = load_file(folder / "model.safetensors")
    listed = {name: f"{'a' if n % 2 else 'b'}.safetensors" for n, name in enumerate(sorted(tensors))}
    for file in ("a.safetensors", "b.safetensors"):
        save_file({name: tensors[name] for name in tensors if listed[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {**listed, **places}}))
    (folder / "model.safetensors").unlink()
    return folder


def test_weights_in_two_files_are_read(folder):
    before = huggingface.read(folder).tensors
    after = huggingface.read(index_of(folder)).tensors
    assert all(np.array_equal(before[name].all(), after[name].all()) for name in before)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"lm_head.weight": "a.safetensors"}, "tensor lm_head.weight is in only one of the index and the file"),
        ({"more.weight": "a.safetensors"}, "tensor more.weight is in only one of the index and the file"),
        ({"lm_head.weight": "../a.safetensors"}, "lies in '../a.safetensors'; allowed: the name of a file beside it"),
        ({"lm_head.weight": 1}, "tensor lm_head.weight lies in 1"),
        ({"lm_head.weight": "c.safetensors"}, "lacks c.safetensors"),
    ],
)
def test_an_index_that_contradicts_its_files_is_refused(folder, places, message):
    with pytest.raises(UserError, match=message):
        huggingface.read(index_of(folder, **places))


def test_one_file_beside_an_index_of_others_is_refused(folder):
    content = (folder / "model.safetensors").read_bytes()
    (index_of(folder) / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"has both model.safetensors and model.safetensors.index.json"):
        huggingface.read(folder)


# BOS and EOS


def own(folder):
    read = huggingface.read(folder)
    return from_folder(folder, read.begin, read.ends)


def described(folder, **keys):
    (folder / "tokenizer_config.json").write_text(json.dumps(keys))
    return folder


def test_ids_other_than_the_tokenizers_are_refused_with_both_files(folder):
    described(changed(folder, bos_token_id=5, eos_token_id=0), bos_token="<s>")
    message = r"config.json: bos_token_id is 5 \('.*'\); tokenizer_config.json says 0 \('<s>'\); set right the file"
    with pytest.raises(UserError, match=message):
        own(folder)
    described(changed(folder, bos_token_id=0, eos_token_id=7), eos_token={"content": "<s>"})
    with pytest.raises(UserError, match=r"eos_token_id is 7 .*; tokenizer_config.json says 0 \('<s>'\)"):
        own(folder)


def test_the_map_of_special_tokens_is_the_tokenizers_too(folder):
    (changed(folder, bos_token_id=5) / "special_tokens_map.json").write_text('{"bos_token": {"content": "<s>"}}')
    with pytest.raises(UserError, match=r"config.json: bos_token_id is 5 \('.*'\); special_tokens_map.json says 0"):
        own(folder)
    assert own(changed(folder, bos_token_id=None, eos_token_id=None)).begin == 0
    described(folder, bos_token="a")
    message = r"special_tokens_map.json: bos_token is '<s>'; tokenizer_config.json says 'a'; set right the file that is"
    with pytest.raises(UserError, match=message):
        own(folder)


def test_ids_that_config_json_lacks_are_the_tokenizers(folder):
    described(changed(folder, bos_token_id=None, eos_token_id=None), bos_token="<s>", eos_token="<s>")
    assert (own(folder).begin, own(folder).end) == (0, 0)


def test_one_of_several_ends_of_text_may_be_the_tokenizers(folder):
    described(changed(folder, eos_token_id=[7, 0]), eos_token="<s>")
    assert own(folder).end == 7


@pytest.mark.parametrize(("begin", "ends"), [(0, None), (None, 0)])
def test_where_only_one_of_begin_and_end_is_known_it_is_both(folder, begin, ends):
    theirs = own(changed(folder, bos_token_id=begin, eos_token_id=ends))
    assert (theirs.begin, theirs.end) == (0, 0)


def test_a_special_token_that_is_no_piece_is_refused(folder):
    with pytest.raises(
        UserError, match=r"tokenizer_config.json: bos_token '<bos>'; allowed: a piece of tokenizer.json"
    ):
        own(described(folder, bos_token="<bos>"))


def test_ids_beyond_the_vocabulary_but_within_the_embedding_are_refused(folder):
    with pytest.raises(UserError, match=r"config.json: bos_token_id is 295; tokenizer.json has tokens 0 to 293"):
        own(changed(folder, bos_token_id=295))


def test_the_token_that_a_definition_puts_before_a_text_is_its_begin(folder):
    definition = json.loads((folder / "tokenizer.json").read_text())
    template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
    definition["post_processor"] = {
        "type": "TemplateProcessing",
        "single": template,
        "pair": [*template, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": special,
    }
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(UserError, match=r"bos_token_id is 4 .*; tokenizer.json says 0"):
        own(changed(folder, bos_token_id=4))
    assert own(changed(folder, bos_token_id=0)).begin == 0


def test_text_is_not_scored_from_the_unknown_token(tmp_path):
    checkpoint(tmp_path / "a", joining())
    with pytest.raises(UserError, match=r"config.json: bos_token_id is 1, the unknown token of tokenizer.json"):
        own(changed(tmp_path / "a", bos_token_id=1))
    checkpoint(tmp_path / "b")
    with pytest.raises(UserError, match=r"bos_token_id is 0 \('<unk>'\); tokenizer.model says 1 \('<s>'\)"):
        own(changed(tmp_path / "b", bos_token_id=0))


# What a definition does to a text


def redefined(folder, **keys):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
    return folder


def test_truncation_and_padding_of_a_definition_change_nothing(folder):
    before = own(folder).encode(TEXTS[0])
    truncation = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    padding = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"}
    after = own(redefined(folder, truncation=truncation, padding=padding)).encode(TEXTS[0])
    assert [a.tolist() for a in after] == [b.tolist() for b in before]


def test_merges_are_not_left_out_at_random(folder):
    before = own(folder).encode(TEXTS[0])
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    after = own(redefined(folder, model={**model, "dropout": 0.9}))
    for _ in range(3):
        assert [a.tolist() for a in after.encode(TEXTS[0])] == [b.tolist() for b in before]


@pytest.mark.parametrize(
    ("normalizer", "text", "message"),
    [
        ({"type": "NFC"}, "cafe\u0301", r"its normalizer \(NFC\) changes the text: 'e\\u0301' becomes '\\xe9'"),
        (
            {"type": "Lowercase"},
            "The cat",
            r"its normalizer \(Lowercase\) changes the text: 'The cat' becomes 'the cat'",
        ),
        (
            {
                "type": "Sequence",
                "normalizers": [{"type": "NFKC"}, {"type": "Strip", "strip_left": True, "strip_right": True}],
            },
            " the",
            r"its normalizer \(NFKC, Strip\) changes the text: .*; bits per byte refer to the exact text; apply it",
        ),
    ],
)
def test_a_normalizer_that_changes_the_text_is_named(folder, normalizer, text, message):
    theirs = own(redefined(folder, normalizer=normalizer))
    with pytest.raises(UserError, match=message):
        theirs.encode(text)
    assert theirs.encode("the cat")[1].sum() == 7  # what it does not change is scored


def test_a_sentencepiece_model_that_normalizes_is_named(tmp_path):
    import sentencepiece

    checkpoint(tmp_path / "a")
    with open(tmp_path / "a/tokenizer.model", "wb") as file:
        settings = {"model_type": "bpe", "vocab_size": 310, "byte_fallback": True, "minloglevel": 2}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_writer=file, **settings)
    with pytest.raises(
        UserError, match=r"its normalizer \(tokenizer.model\) changes the text: 'e\\u0301' becomes '\\xe9'"
    ):
        own(tmp_path / "a").encode("cafe\u0301")


def test_a_vocabulary_with_a_space_before_every_text_passes_the_check_of_decoding(tmp_path):
    from lmstages.corpora.splits import Piece
    from lmstages.tokenizers.streams import _check_round_trip

    read = checkpoint(tmp_path / "a")
    theirs = OurNumbers(own(tmp_path / "a"), read.vocab_size)
    [(tokens, lengths)] = theirs.encode(["the cat"])
    _check_round_trip(theirs, Piece("the cat", None), tokens)
    assert lengths.sum() == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}, "has 0 pieces"),
        (
            {"model": {"type": "BPE", "vocab": {"a": 4_000_000_000}, "merges": []}, "added_tokens": []},
            "the last of number 4,000,000,000",
        ),
        (
            {"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}, "added_tokens": []},
            "has two pieces of number 0",
        ),
        ({"model": {"type": "Unheard"}}, "no definition of a tokenizer"),
        (
            {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}, "added_tokens": []},
            "its merge of 'a' and 'b' needs a piece 'ab'; a piece of its vocabulary; fetch it again",
        ),
        (
            {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["b c"]}, "added_tokens": []},
            "its merge of 'b' and 'c' needs a piece 'c'",
        ),
    ],
)
def test_a_definition_without_usable_numbers_is_one_line(folder, change, message):
    with pytest.raises(UserError, match=message):
        own(redefined(folder, **change))


# Export


def test_a_checkpoint_with_more_pieces_than_rows_is_not_exported(folder):
    definition = json.loads((folder / "tokenizer.json").read_text())
    pieces = definition["model"]["vocab"] | {f"more{n}": 294 + n for n in range(5)}
    redefined(folder, model={**definition["model"], "vocab": pieces})
    with pytest.raises(UserError, match=r"its vocabulary has 299 pieces, its embedding 296 rows; a piece needs a row"):
        export_checkpoint(folder, folder / "m.gguf", section("gguf"), {})


def exported(tmp_path, kind):
    ours = learnt(kind, vocab_size=SIZES.get(kind))
    export(*experiment(tmp_path, fitted(vocab_size=ours.vocab_size), ours), tmp_path / "hf", section("hf"), {})
    return ours, tmp_path / "hf"


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_transformers_puts_the_boundary_before_a_text_as_we_do_and_takes_none_from_it(tmp_path, kind):
    from transformers import AutoTokenizer

    ours, folder = exported(tmp_path, kind)
    theirs = AutoTokenizer.from_pretrained(folder)
    text = "the cat" if kind == "char" else "the <s> cat"
    assert theirs(text)["input_ids"] == [0, *ours.encode([text])[0][0].tolist()]
    assert theirs.bos_token_id == theirs.eos_token_id == 0


def test_where_the_newline_ends_documents_it_is_the_boundary_of_the_export(tmp_path):
    from transformers import AutoTokenizer

    ours = learnt("char", layout="lines")
    export(*experiment(tmp_path, fitted(vocab_size=ours.vocab_size), ours), tmp_path / "hf", section("hf"), {})
    assert AutoTokenizer.from_pretrained(tmp_path / "hf")("a\nc")["input_ids"] == [
        0,
        *ours.encode(["a\nc"])[0][0].tolist(),
    ]
    assert own(tmp_path / "hf").begin == 0


def test_an_export_scores_in_transformers_what_it_scores_here(tmp_path):
    from transformers import AutoTokenizer, LlamaForCausalLM

    ours, folder = exported(tmp_path, "char")
    x = torch.tensor([AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"]])
    with torch.inference_mode():
        theirs = LlamaForCausalLM.from_pretrained(folder)(x).logits.log_softmax(-1)[0, :-1].gather(1, x[0, 1:, None])
    mine = fitted(vocab_size=ours.vocab_size).score(ours.encode(["the cat"])[0][0][None])
    assert np.allclose(theirs[:, 0].numpy(), mine[0], atol=1e-4)


@pytest.mark.parametrize("to", ["gguf", "hf"])
def test_the_folder_of_an_experiment_is_no_checkpoint(tmp_path, to):
    path, _ = experiment(tmp_path, fitted(), learnt("char"))
    (path.parent / "fit.json").write_text("{}")
    message = r"seed0: is the folder of an experiment, not in the Hugging Face layout; export its model first: lmstages"
    with pytest.raises(UserError, match=message):
        export_checkpoint(path.parent, tmp_path / "out", section(to), {})
    with pytest.raises(UserError, match=message):
        checkpoints.load(Pretrained(path=str(path.parent)))
    with pytest.raises(UserError, match=r"char/config.json: no such file"):
        export_checkpoint(tmp_path / "char", tmp_path / "out", section(to), {})
