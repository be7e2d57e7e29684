"""Checkpoints that the package transformers computes: rows against its own logits, BOS by hand, refusals."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import outcome, positions, replaced
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from lmstages.cli import main
from lmstages.config import references
from lmstages.config.sections import Corpus, Pretrained, Sampling, to_section
from lmstages.config.sweeps import expanded, listed
from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation import checkpoints, pretrained, scoring
from lmstages.evaluation.sampling import sample
from lmstages.models.external import transformers_folder
from lmstages.results.rows import model_rows

TEXT = (
    "Der Bär naïvely said: „It costs 5 €, isn't it?“ 语言模型\n\tA  grey 🦔 ran over the hill and under the bridge. "
    * 3
)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
ARCHITECTURES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "gpt_neox": SIZES,
    "qwen3": SIZES | GROUPED | {"tie_word_embeddings": True},
    "gemma2": SIZES | GROUPED | {"sliding_window": 16},
    "gemma3_text": SIZES | GROUPED | {"sliding_window": 16},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "mistral": SIZES | GROUPED | {"sliding_window": 16},
    "phi": SIZES,
    "olmo2": SIZES,
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64},
}
SPECIAL = ("<unk>", "<s>", "</s>")


def byte_level():
    """Byte-level BPE as GPT-2 has it, its end of text before the others."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    library.train_from_iterator([TEXT], trainer)
    return library, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


def byte_fallback():
    """BPE as LLaMA and Gemma have it: a sign for spaces, bytes for unknown characters, BOS before every text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    spaces = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    library = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    library.normalizer = normalizers.Sequence(spaces)
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=[*SPECIAL, *bytes_], limit_alphabet=30)
    library.train_from_iterator([TEXT], trainer)
    content = json.loads(library.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # bytes are pieces like any other
    library = Tokenizer.from_str(json.dumps(content))
    library.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return library, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def made(folder, architecture, tokenizer=byte_level, **keys):
    """A checkpoint with random weights, written by transformers."""
    library, special = tokenizer()
    numbers = {f"{name}_id": library.token_to_id(piece) for name, piece in special.items() if name != "unk_token"}
    sizes = {"vocab_size": library.get_vocab_size(), "max_position_embeddings": 64, **ARCHITECTURES[architecture]}
    if architecture in ("gpt2", "mamba", "rwkv"):
        del sizes["max_position_embeddings"]
    config = AutoConfig.for_model(architecture, **{**sizes, "pad_token_id": None, **numbers, **keys})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))  # so that predictions differ from uniform ones
    model.save_pretrained(folder)
    library.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@cache
def network(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def theirs(folder, rows):
    """transformers' log-probabilities of all tokens after each token of rows, (B, T, V)."""
    with torch.inference_mode():
        return network(folder)(torch.tensor(rows)).logits.log_softmax(-1).double().numpy()


def tokens_of(folder):
    return AutoTokenizer.from_pretrained(folder)(TEXT, add_special_tokens=False)["input_ids"]


def scored(folder, window=16, stride=8, **keys):
    """Our log-probabilities of the text as one document: the tokens, and its scores."""
    loaded = checkpoints.load(Pretrained(path=str(folder), window=window, **keys))
    [(tokens, lengths)] = loaded.tokenizer.encode([TEXT])
    assert lengths.sum() == len(TEXT.encode()) and loaded.tokenizer.decode(tokens.tolist()).lstrip() == TEXT.lstrip()
    documents = Documents(tokens, np.array([0, len(tokens)]))
    windows = scoring.windows_of(documents.starts, "stride", window, stride, 0)
    return scoring.score(loaded.model, documents, windows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_row_is_what_transformers_computes(tmp_path, architecture):
    tokenizer = byte_fallback if architecture in ("gemma2", "gemma3_text", "mistral") else byte_level
    folder = made(tmp_path, architecture, tokenizer)
    x, begin, window, stride = tokens_of(folder), tokenizer()[0].token_to_id(tokenizer()[1]["bos_token"]), 16, 8
    expected = np.empty(len(x))
    for left in range(0, len(x), stride):  # BOS before the document, and each window sees the token before it
        right = min(left + window, len(x))
        row = [begin if left == 0 else x[left - 1], *x[left:right]]
        log_probs = theirs(folder, [row])[0, :-1][np.arange(right - left), x[left:right]]
        first = 0 if left == 0 else window - stride
        expected[left + first : right] = log_probs[first:]
        if right == len(x):
            break
    found = scored(folder, bos="document")
    assert np.abs(found - expected).max() < 1e-4 and np.std(expected) > 0.1


# The begin of text, three ways


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return made(tmp_path_factory.mktemp("gpt2"), "gpt2")


def by_hand(folder, bos, window=16, stride=8):
    """Each token from the tokens that ``bos`` says, one row of transformers a window."""
    x, expected = tokens_of(folder), []
    while len(expected) < len(x):
        left = 0 if not expected else len(expected) + stride - window
        row, right = x[left : left + window], min(left + window, len(x))
        before = {"each_window": [0], "document": [0] if left == 0 else [x[left - 1]]}.get(bos, x[left - 1 : left])
        log_probs = theirs(folder, [[*before, *row]])[0]
        scores = [log_probs[len(before) + n - 1, token] for n, token in enumerate(row) if len(before) + n]
        scores = scores if left or bos != "none" else [-np.log(log_probs.shape[1]), *scores]
        expected += scores[len(expected) - left : right - left]
    return np.array(expected)


@pytest.mark.parametrize("bos", ["each_window", "document", "none"])
def test_bos_stands_where_the_config_says(gpt2, bos):
    found = scored(gpt2, bos=bos)
    assert np.abs(found - by_hand(gpt2, bos)).max() < 1e-4


def test_without_bos_the_first_token_of_each_document_costs_the_logarithm_of_the_vocabulary(gpt2):
    model = checkpoints.load(Pretrained(path=str(gpt2), bos="none")).model
    rows, before = np.array([[5, 6, 7], [8, 9, 10]]), np.array([0, 4])
    scores = model.score(rows, before)
    assert scores[0, 0] == -np.log(330) and scores[1, 0] != -np.log(330)
    assert np.allclose(scores[0, 1:], theirs(gpt2, [[5, 6]])[0][[0, 1], [6, 7]], atol=1e-4)
    assert np.allclose(scores[1], theirs(gpt2, [[4, 8, 9]])[0][[0, 1, 2], [8, 9, 10]], atol=1e-4)
    assert model.score(rows[:, :1], before * 0).tolist() == [[-np.log(330)]] * 2


@pytest.mark.parametrize("bos", ["each_window", "document", "none"])
def test_a_score_is_what_the_distribution_of_the_next_token_says_also_past_the_window(gpt2, bos):
    model = checkpoints.load(Pretrained(path=str(gpt2), window=8, bos=bos)).model
    rows = np.random.default_rng(0).integers(1, 330, (2, 14))
    scores = model.score(rows)
    for position in range(14):
        log_probs = model.next_log_probs(rows[:, :position])
        assert np.allclose(np.exp(log_probs).sum(-1), 1)
        assert np.allclose(scores[:, position], log_probs[[0, 1], rows[:, position]], atol=1e-4)


@pytest.mark.parametrize(("architecture", "bos"), [("gpt2", None), ("gemma2", "each_window"), ("gpt2", "document")])
def test_a_gemma_has_bos_before_each_window_unless_the_config_says_otherwise(tmp_path, architecture, bos):
    folder = made(tmp_path, architecture)
    loaded = checkpoints.load(Pretrained(path=str(folder)))
    assert loaded.choices["bos"] == (bos or "document") == loaded.model.bos
    assert checkpoints.load(Pretrained(path=str(folder), bos="none")).model.bos == "none"


def test_a_bos_that_the_tokenizer_puts_there_is_not_counted_twice(tmp_path):
    """The text is tokenized without special tokens: our first window is the sequence that transformers makes of it."""
    folder = made(tmp_path, "mistral", byte_fallback)
    x = AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"][:17]
    expected = theirs(folder, [x])[0, :-1][np.arange(16), x[1:]]
    assert x[0] == 1 and np.abs(scored(folder)[:16] - expected).max() < 1e-4


# Samples


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "mamba", "rwkv"])
@pytest.mark.parametrize("bos", ["document", "each_window", "none"])
def test_incremental_decoding_is_recomputing_every_token(tmp_path, architecture, bos):
    folder = made(tmp_path, architecture)
    model = checkpoints.load(Pretrained(path=str(folder), window=8, bos=bos)).model
    drawn, inputs = np.random.default_rng(0).integers(1, 330, (1, 14)), [] if bos == "none" else [0]
    state = model.decoding_state(drawn[:, :0])
    for token in drawn[0].tolist():
        expected = theirs(folder, [inputs])[0, -1] if inputs else np.full(330, -np.log(330))
        assert np.allclose(state.log_probs()[0], expected, atol=1e-4), inputs
        state.append(np.array([token]))
        if len(inputs) == 8:  # a full window moves by its half
            inputs = [0, *inputs[-3:]] if bos == "each_window" else inputs[-4:]
        inputs.append(token)


def test_samples_are_drawn_past_the_window(gpt2):
    model = checkpoints.load(Pretrained(path=str(gpt2), window=8)).model
    first, again = (sample(model, 2, 20, seed=0, stop_at_boundary=False) for _ in range(2))
    assert [row.tolist() for row in first] == [row.tolist() for row in again] and len(first[0]) == 20


# How weights are stored


def stored(folder, to, dtype=torch.float32, **keys):
    """The same weights, saved anew by transformers."""
    AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).save_pretrained(to, **keys)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, to / name)
    return to


def test_weights_in_several_files_are_one_model(gpt2, tmp_path):
    folder = stored(gpt2, tmp_path, max_shard_size="20KB")
    assert len([*folder.glob("*.safetensors")]) > 2 and (folder / "model.safetensors.index.json").is_file()
    assert np.array_equal(scored(folder), scored(gpt2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits_are_computed_in_32(gpt2, tmp_path, dtype):
    folder = stored(gpt2, tmp_path, dtype)
    x = tokens_of(folder)[:16]
    expected = theirs(folder, [[0, *x]])[0, :-1][np.arange(16), x]
    found = scored(folder)
    assert np.abs(found[:16] - expected).max() < 1e-4 and not np.array_equal(found, scored(gpt2))
    coarse = scored(folder, dtype="bfloat16")
    assert 1e-4 < np.abs(coarse - found).max() < 0.3


def test_a_tied_output_is_counted_once_and_needs_no_tensor(tmp_path):
    folder = made(tmp_path, "qwen3")
    loaded = checkpoints.load(Pretrained(path=str(folder)))
    network = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.model.parameters() == network.num_parameters()
    assert network.lm_head.weight is network.model.embed_tokens.weight


def test_weights_stored_without_their_prefix_are_found(gpt2, tmp_path):
    """As the first GPT-2 has them: ``h.0.attn`` for ``transformer.h.0.attn``, and its causal masks beside them."""
    folder = copied(gpt2, tmp_path / "old")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(gpt2 / WEIGHTS).items()}
    save_file({**tensors, "h.0.attn.bias": torch.ones(1, 1, 64, 64)}, folder / WEIGHTS, {"format": "pt"})
    assert np.array_equal(scored(folder), scored(gpt2))


# LLaMA, by our own reader and by transformers


def test_both_engines_agree_on_a_llama(tmp_path):
    ARCHITECTURES["llama"] = SIZES | {"num_key_value_heads": 1}
    folder = made(tmp_path, "llama", byte_fallback)
    ours, others = (checkpoints.load(Pretrained(path=str(folder), engine=engine)) for engine in (None, "transformers"))
    assert (ours.choices["engine"], others.choices["engine"]) == ("torch", "transformers")
    assert ours.model.parameters() == others.model.parameters()
    for bos in ("document", "each_window", "none"):
        ours, others = (scored(folder, bos=bos, engine=engine) for engine in ("torch", "transformers"))
        assert np.abs(ours - others).max() < 1e-4


def test_a_llama_with_scaled_rotary_embeddings_is_computed_by_transformers(tmp_path):
    scaled = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}
    scaled |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    ARCHITECTURES["llama"] = SIZES
    folder = made(tmp_path, "llama", rope_parameters=scaled)
    x = tokens_of(folder)[:16]
    expected = theirs(folder, [[0, *x]])[0, :-1][np.arange(16), x]
    assert np.abs(scored(folder)[:16] - expected).max() < 1e-4
    with pytest.raises(UserError, match=r"rope_parameters.factor 8.0; allowed: 1; convert it to GGUF"):
        checkpoints.load(Pretrained(path=str(folder), engine="torch"))


# What cannot work is said before any job


WEIGHTS = "model.safetensors"


def copied(folder, to, **keys):
    """A copy of a folder with other keys in its config.json."""
    shutil.copytree(folder, to)
    path = to / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
    return to


REFUSED = [
    ({"model_type": "gpt5"}, r"model_type 'gpt5'; allowed: those that transformers [\d.]+ has"),
    (
        {"model_type": "phi9", "auto_map": {"AutoModel": "x.X"}},
        r"needs code of its own \(auto_map\), which is",
    ),
    ({"model_type": None}, "model_type None"),
    ({"model_type": ["gpt2"]}, r"model_type \['gpt2'\]"),
    ({"architectures": ["GPT2ForSequenceClassification"]}, "GPT2ForSequenceClassification.*allowed: GPT2LMHeadModel"),
    ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
    (
        {"model_type": "bert", "architectures": None},
        "model_type 'bert' is an encoder, which reads what it",
    ),
    ({"model_type": "t5", "architectures": None}, "model_type 't5' does not predict the next token of a text"),
    ({"model_type": "clip", "architectures": ["CLIPModel"]}, "CLIPModel.*it is no causal language model"),
    ({"model_type": "gemma3", "architectures": None}, "model_type 'gemma3' does not predict the next token of a text"),
    ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config: is quantized; allowed: weights in 32 or"),
    ({"transformers_weights": "/etc/passwd"}, "transformers_weights: names other files of weights"),
    ({"n_layer": 3}, r"has no tensor transformer.h.2.attn.c_attn.bias"),
    (
        {"n_layer": 1},
        "tensor transformer.h.1.attn.c_attn.weight does not belong to the model that config.json describes",
    ),
    ({"n_layer": 1 << 40}, "config.json says 1,099,511,627,776 layers, the files have 28 tensors"),
    ({"n_embd": 36}, r"tensor transformer.h.0.attn.c_attn.bias has shape \(96,\), config.json says \(108,\)"),
    (
        {"n_embd": 1 << 14},
        r"config.json describes [\d,]+ weights and [\d,]+ numbers beside them; the files",
    ),
    ({"n_head": 5}, r"transformers [\d.]+ cannot build it \(ValueError: "),
    ({"n_embd": "wide"}, r"transformers [\d.]+ cannot build it"),
    ({"vocab_size": 20, "bos_token_id": 0}, "tensor transformer.wte.weight has shape|has 330 pieces"),
    ({"bos_token_id": 999}, "bos_token_id is 999; allowed: 0 to 329"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_a_config_that_cannot_work_is_named(gpt2, tmp_path, keys, message):
    folder = copied(gpt2, tmp_path / "x", **keys)
    chosen = Pretrained(path=str(folder))
    [sentence] = pretrained.unusable({"theirs": chosen})
    assert sentence.startswith("pretrained.theirs will fail: ") and "\n" not in sentence
    with pytest.raises(UserError, match=message) as refusal:
        checkpoints.must_be_scorable(chosen)
    with pytest.raises(UserError, match=message):
        checkpoints.load(chosen)
    assert len(str(refusal.value)) < 600


def test_pickled_weights_are_never_opened(gpt2, tmp_path):
    folder = copied(gpt2, tmp_path / "x")
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(
        UserError, match=r"has pickled weights \(pytorch_model.bin\), which can run code; allowed: safe"
    ):
        checkpoints.load(Pretrained(path=str(folder)))


def test_a_truncated_file_an_adapter_and_a_missing_tokenizer_are_named(gpt2, tmp_path):
    folder = copied(gpt2, tmp_path / "truncated")
    (folder / WEIGHTS).write_bytes((gpt2 / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(UserError, match="is truncated or no safetensors file"):
        checkpoints.must_be_scorable(Pretrained(path=str(folder)))
    folder = copied(gpt2, tmp_path / "adapter")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"is an adapter \(adapter_config.json\); allowed: a whole model; merge it"):
        checkpoints.must_be_scorable(Pretrained(path=str(folder)))
    folder = copied(gpt2, tmp_path / "mute")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no vocabulary; allowed: tokenizer.json, tokenizer.model, or vocab.json"):
        checkpoints.must_be_scorable(Pretrained(path=str(folder)))


@pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn])
def test_weights_of_other_types_are_refused(gpt2, tmp_path, dtype):
    folder = copied(gpt2, tmp_path / "x")
    tensors = load_file(gpt2 / WEIGHTS)
    tensors["transformer.wpe.weight"] = tensors["transformer.wpe.weight"].to(dtype)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(UserError, match=r"tensor transformer.wpe.weight is (I32|F8_E4M3); allowed: F32, F16, BF16"):
        checkpoints.must_be_scorable(Pretrained(path=str(folder)))


def test_too_little_memory_is_said_before_the_weights_are_read(gpt2, monkeypatch):
    monkeypatch.setattr(transformers_folder, "network_of", None)
    with pytest.raises(UserError, match=r"needs .* GB of memory, 1e-05 GB are free"):
        checkpoints.load(Pretrained(path=str(gpt2), memory=1e-5))


def test_the_estimate_of_memory_is_of_the_weights_and_a_row():
    keys = {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096}
    folder = transformers_folder.Folder(
        *(Path(), AutoConfig.for_model("llama", **keys), LlamaForCausalLM), 2048, {"e": (32000, 4096)}, 7 * 10**9,
        *(32000, 1, (2,), 0),
    )  # fmt: skip
    assert 28e9 < folder.memory(2048, "float32") < 31e9 and 14e9 < folder.memory(2048, "bfloat16") < 17e9


def test_a_window_is_no_longer_than_positions_and_free_for_a_state(gpt2, tmp_path):
    with pytest.raises(UserError, match="window 65 found; allowed: up to 64, which it was trained on"):
        checkpoints.load(Pretrained(path=str(gpt2), window=65))
    folder = made(tmp_path, "mamba")
    assert checkpoints.load(Pretrained(path=str(folder))).model.config.window == 2048
    assert checkpoints.load(Pretrained(path=str(folder), window=5000)).model.config.window == 5000


def test_without_the_package_one_line_says_how_to_install_it(gpt2, monkeypatch):
    install = r"not installed; pip install 'lmstages\[transformers\]'"
    monkeypatch.setattr(transformers_folder, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"needs the package transformers, which is {install}"):
        checkpoints.must_be_scorable(Pretrained(path=str(gpt2)))
    monkeypatch.setattr(references, "find_spec", lambda name: None)
    sections = {"pretrained": {"x": Pretrained(path=str(gpt2), engine="transformers")}}
    rest = {"models": {}, "mixtures": {}, "tokenizers": {}, "corpora": {}}
    [line] = references.wrong_checkpoints(sections | rest)
    assert re.match(rf"pretrained.x.engine: the package transformers is {install}", line)


def test_a_config_cannot_name_code_to_fetch(gpt2, tmp_path, monkeypatch):
    """Kernels of the hub are code; what a checkpoint asks for there is not fetched."""
    monkeypatch.setattr("socket.socket.connect", None)
    names = {"attn_implementation": "somebody/kernel", "_attn_implementation": "somebody/kernel"}
    code = {"auto_map": {"AutoModelForCausalLM": "modeling.Evil", "AutoConfig": "modeling.EvilConfig"}}
    folder = copied(gpt2, tmp_path / "x", **names, **code)
    (folder / "modeling.py").write_text("raise SystemExit('code of the checkpoint ran')")
    assert np.array_equal(scored(folder), scored(gpt2))


@pytest.mark.parametrize("count", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_a_hostile_config_json_is_one_line_or_a_model_that_covers_the_text(gpt2, tmp_path, count):
    draws, folder, refused = np.random.default_rng(0), copied(gpt2, tmp_path / "x"), 0
    content = json.loads((gpt2 / "config.json").read_text())
    paths = [keys for keys in positions(content) if keys]
    for _ in range(count):
        hostile = replaced(content, paths[draws.integers(len(paths))], draws)
        (folder / "config.json").write_text(json.dumps(hostile))
        refused += outcome(lambda _: scored(folder).sum() < 0, None) is None
    assert refused > count // 8


# In a run


def test_lists_of_pretrained_keys_are_sweeps():
    entry = {"path": "x", "bos": ["each_window", "none"], "window": [8, 16]}
    plain, sweeps = expanded({"pretrained": {"gpt2": entry, "other": {"path": "y", "corpora": ["a", "b"]}}})
    assert plain["pretrained"]["gpt2-bos-none-window-8"] == {"path": "x", "bos": "none", "window": 8}
    assert len(plain["pretrained"]) == 5 and plain["pretrained"]["other"]["corpora"] == ["a", "b"]
    [table] = listed(sweeps)
    assert table["section"] == "pretrained" and table["keys"] == ["bos", "window"] and len(table["entries"]) == 4
    assert expanded({"pretrained": {"x": {"stride": {"sweep": [1, 2]}}}})[0]["pretrained"].keys() == {
        "x-stride-1",
        "x-stride-2",
    }


def test_a_row_says_where_bos_stands_and_who_computed_it(gpt2, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("fox.txt").write_text("".join(f"{n}: {TEXT[:70]!r}\n" for n in range(30)))
    section = to_section(Corpus(path="fox.txt", documents="lines"))
    assert main(["prepare", "--raw", "fox.txt", "--out", "fox/text", "--section", section]) == 0
    bits = {}
    for bos, words in (("none", "no BOS, a document's first token at 1/330"), (None, "BOS before each document")):
        section = {"pretrained": {"path": str(gpt2), "bos": bos, "window": 32}, "splits": ["test"], "documents": True}
        section |= {"sampling": Sampling(count=1, length=8).model_dump()}
        out = tmp_path / f"fox/own/{bos}/seed0"
        arguments = ["score_pretrained", "--text", "fox/text", "--out", str(out), "--section", json.dumps(section)]
        assert main(arguments) == 0, capfd.readouterr().err
        facts = dict.fromkeys(("type", "title", "family", "category", "adds", "source"), "pretrained") | {"rank": 30}
        [row] = [scored.row for scored in model_rows([out], [0], ["test"], facts)]
        assert row.protocol == f"stride 16 of 32, {words}" and row.status == "ok" and row.device == "cpu"
        stated = json.loads(row.hyperparameters)
        assert stated["engine"] == "transformers" and stated["architecture"] == "gpt2" and stated["bos_token"] == 0
        assert len(artifacts.load_json(out / "evaluation.json")["samples"]) == 1
        bits[bos] = row.bits_per_byte
    assert bits["none"] != bits[None]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_row_on_a_gpu_is_that_of_the_cpu(gpt2):
    loaded = checkpoints.load(Pretrained(path=str(gpt2), device="cuda"))
    assert loaded.device == "cuda" and np.abs(scored(gpt2, device="cuda") - scored(gpt2, device="cpu")).max() < 1e-3
    assert len(sample(loaded.model, 2, 8, seed=0)) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(gpt2):
    with pytest.raises(UserError, match="device: cuda, but torch finds no GPU here; auto and cpu work everywhere"):
        checkpoints.load(Pretrained(path=str(gpt2), device="cuda"))


def test_keys_of_one_engine_are_refused_for_another(tmp_path):
    ARCHITECTURES["llama"] = SIZES
    folder = made(tmp_path, "llama")
    with pytest.raises(
        UserError, match="dtype bfloat16 belongs to engine: transformers; this engine computes in float32"
    ):
        checkpoints.load(Pretrained(path=str(folder), dtype="bfloat16"))
    with pytest.raises(ValueError, match="engine: transformers belongs to path and hub"):
        Pretrained(gguf="x.gguf", engine="transformers")


def test_samples_are_decoded_no_more_at_once_than_fit(gpt2):
    model = checkpoints.load(Pretrained(path=str(gpt2))).model
    assert model.max_parallel_states() == (1 << 30) // (8 * 2 * 32 * 64)
