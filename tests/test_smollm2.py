"""GGUF by llama.cpp: SmolLM2's row is llama.cpp's own logits, and so are its samples; other architectures; split files.

SmolLM2-135M-Instruct in 4 bits is a model that others made and quantized: tests/smollm2.sh brings it.
"""

import json
import os
import signal
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
from conftest import LLAMA_CPP, SMOLLM2

from lmstages.config.checkpoint_parts import missing_part, parts_of
from lmstages.config.sections import Pretrained
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.core.files import sha256_of
from lmstages.evaluation import scoring
from lmstages.evaluation.checkpoints import load, must_be_scorable
from lmstages.evaluation.quantization import PairScorer, divergence
from lmstages.evaluation.sampling import sample
from lmstages.models.external import gguf_file

needs_llama_cpp = [pytest.mark.slow, pytest.mark.needs("llama_cpp")]
needs_smollm2 = [*needs_llama_cpp, pytest.mark.needs("smollm2")]
TEXT = (
    "Zürich, 1999: the naïve cat — 猫 — ate 3½ fish for $12. “Didn't she?” asked the fox 🦔,\n\nand it ran off.  Then"
)
THEIRS = """
import json, sys, numpy, llama_cpp
import llama_cpp.llama_cpp as library
defaults = library.llama_model_default_params
def unpacked():  # without the second copy of the weights, which rounds otherwise
    settings = defaults()
    settings.use_extra_bufts = False
    return settings
library.llama_model_default_params = unpacked
wide = {"type_k": library.GGML_TYPE_F32, "type_v": library.GGML_TYPE_F32, "flash_attn": False}
model = llama_cpp.Llama(sys.argv[1], n_ctx=256, n_threads=1, logits_all=True, verbose=False, **wide)
text = json.loads(sys.argv[2])
tokens = model.tokenize(text.encode(), add_bos=False, special=False)
model.eval([model.token_bos(), *tokens])
logits = numpy.array(model.scores[: len(tokens)], dtype=numpy.float64)
scores = logits[range(len(tokens)), tokens] - numpy.log(numpy.exp(logits - logits.max(-1, keepdims=True)).sum(-1))
scores -= logits.max(-1)
model.reset()
greedy = []
for token in model.generate([model.token_bos(), *tokens], temp=0.0, repeat_penalty=1.0):
    greedy.append(token)
    if len(greedy) == 12 or token == model.token_eos():
        break
print(json.dumps({"tokens": tokens, "scores": scores.tolist(), "greedy": greedy}))
"""


@pytest.fixture(scope="module")
def smollm2():
    return load(Pretrained(gguf=str(SMOLLM2), engine="llama.cpp", window=128))


@pytest.fixture(scope="module")
def native():
    """What a program of a few lines gets from llama.cpp by its own Python package."""
    command = [sys.executable, "-c", THEIRS, str(SMOLLM2), json.dumps(TEXT)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def scored(loaded, text=TEXT):
    """(N,) nats of a text that is one document, under the protocol of a row."""
    [(tokens, lengths)] = loaded.tokenizer.encode([text])
    assert lengths.sum() == len(text.encode())
    documents, window = Documents(tokens, np.array([0, len(tokens)])), loaded.model.config.window
    windows = scoring.windows_of(documents.starts, "stride", window, window // 2, 0)
    return tokens, scoring.score(loaded.model, scoring.as_read(documents, "stride"), windows)


@pytest.mark.parametrize("mark", [pytest.param(0, marks=needs_smollm2)])
def test_smollm2s_row_is_llama_cpps_own_logits(smollm2, native, mark):
    tokens, scores = scored(smollm2)
    assert smollm2.tokenizer.theirs[tokens].tolist() == native["tokens"]
    assert np.abs(scores - native["scores"]).max() < 1e-3
    assert smollm2.choices == {"engine": "llama.cpp", "bos": "document", "bos_token": 1}


@pytest.mark.parametrize("mark", [pytest.param(0, marks=needs_smollm2)])
def test_smollm2s_likeliest_text_is_llama_cpps_own(smollm2, native, mark):
    [(tokens, _)] = smollm2.tokenizer.encode([TEXT])
    [text] = sample(smollm2.model, 1, 12, 0, tokens, temperature=1e-3, stop_at_boundary=False)
    ours = smollm2.tokenizer.theirs[text[len(tokens) :]].tolist()
    assert ours[: len(native["greedy"])] == native["greedy"]


@pytest.mark.parametrize("mark", [pytest.param(0, marks=needs_smollm2)])
def test_our_reader_of_smollm2_is_near_llama_cpp_which_rounds_activations(smollm2, mark):
    ours = load(Pretrained(gguf=str(SMOLLM2), window=128))
    [(tokens, _)] = ours.tokenizer.encode([TEXT])
    assert ours.choices["engine"] == "torch" and np.array_equal(tokens, smollm2.tokenizer.encode([TEXT])[0][0])
    kl = PairScorer(ours.model, smollm2.model, divergence).score(tokens[None])
    assert 0 < kl.mean() < 0.01 and np.abs(scored(ours)[1] - scored(smollm2)[1]).mean() < 0.1


# Other architectures, of which our own reader knows nothing

PIECES = ["<|end|>", *"abcdefghi", "Ġ", "Ċ", "ab"]


def qwen2(path, split=0, without=""):
    """A Qwen 2 with random weights, by transformers, written as a GGUF file by the package of its project."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "vocab_size": len(PIECES), "max_position_embeddings": 64}
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**shape, rope_theta=10000.0, tie_word_embeddings=False)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3) if weight.ndim > 1 else weight.add_(torch.randn_like(weight) * 0.1)
    writer = gguf.GGUFWriter(str(path), "qwen2", split_max_tensors=split)
    describe(writer, model.config)
    for name, weight in model.state_dict().items():
        if name == without:
            continue
        writer.add_tensor(gguf_name(name), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def describe(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(PIECES)
    writer.add_token_types([3, *[1] * (len(PIECES) - 1)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def gguf_name(name):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 2)
    return names.get_name(name, (".weight", ".bias"))


SHORT = "abc dad\nfee had a bag " * 8


def llama_cpp_is_here(monkeypatch):
    """In this process too, as in an environment that has the extra."""
    if not any(os.path.isdir(os.path.join(folder, "llama_cpp")) for folder in sys.path):
        monkeypatch.syspath_prepend(str(LLAMA_CPP))


@pytest.mark.parametrize("bos", [pytest.param(bos, marks=needs_llama_cpp) for bos in ("document", "none")])
def test_an_architecture_that_our_reader_does_not_know_goes_to_llama_cpp_and_is_that_of_transformers(
    tmp_path, monkeypatch, bos
):
    llama_cpp_is_here(monkeypatch)
    model, chosen = qwen2(tmp_path / "q.gguf"), Pretrained(gguf=str(tmp_path / "q.gguf"), window=32, bos=bos)
    must_be_scorable(chosen)
    loaded = load(chosen)
    assert loaded.choices["engine"] == "llama.cpp" and loaded.model.parameters() == sum(
        map(torch.numel, model.parameters())
    )
    tokens, scores = scored(loaded, SHORT)
    theirs = torch.from_numpy(loaded.tokenizer.theirs[tokens])
    before = torch.cat([torch.zeros(1, dtype=torch.int64), theirs]) if bos == "document" else theirs
    with torch.inference_mode():
        expected = model(before[None, :32]).logits.double().log_softmax(-1)[0]
    first = 0 if bos == "document" else 1
    wanted = expected[range(32 - first), theirs[first:32]].numpy()
    assert np.abs(scores[first:32] - wanted).max() < 1e-3
    assert bos == "document" or scores[0] == pytest.approx(-np.log(len(PIECES)))


@pytest.mark.parametrize("mark", [pytest.param(0, marks=needs_llama_cpp)])
def test_decoding_from_kept_keys_is_recomputing_and_rolls_past_the_window(tmp_path, mark):
    qwen2(tmp_path / "q.gguf")
    loaded = load(Pretrained(gguf=str(tmp_path / "q.gguf"), engine="llama.cpp", window=32))
    prefix = np.random.default_rng(0).integers(0, len(PIECES), (3, 30))
    state, rows = loaded.model.decoding_state(prefix), prefix
    for step in range(8):
        kept = 32 if step < 2 else 0
        if kept:
            assert np.allclose(state.log_probs(), loaded.model.next_log_probs(rows), atol=1e-4)
        assert np.allclose(np.exp(state.log_probs()).sum(-1), 1)
        token = np.full(3, step % len(PIECES))
        state.append(token)
        rows = np.column_stack([rows, token])


@pytest.mark.parametrize("engine", [pytest.param(e, marks=needs_llama_cpp) for e in ("llama.cpp", None)])
def test_a_model_in_several_files_is_the_model_in_one(tmp_path, monkeypatch, engine):
    llama_cpp_is_here(monkeypatch)
    qwen2(tmp_path / "q.gguf")
    qwen2(tmp_path / "m.gguf", split=10)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) == 3 and parts_of(parts[1]) == parts
    whole, expected = load(Pretrained(gguf=str(tmp_path / "q.gguf"), engine="llama.cpp", window=32)), None
    expected = scored(whole, SHORT)[1]
    for part in parts[:2]:
        assert np.array_equal(scored(load(Pretrained(gguf=str(part), engine=engine, window=32)), SHORT)[1], expected)


def test_parts_are_joined_by_our_reader_and_hashed_together(tmp_path):
    qwen2(tmp_path / "m.gguf", split=10)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    file = gguf_file.opened(parts[2])
    assert file.path == parts[0] and file.size == sum(part.stat().st_size for part in parts)
    assert len(file.tensors) == 27 and file.count("block_count") == 2
    (tmp_path / "all").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(UserError, match=f"its sha256 is {sha256_of(tmp_path / 'all')}; the config says 0000"):
        load(Pretrained(gguf=str(parts[1]), sha256="0" * 64))


def test_a_part_that_is_missing_or_another_models_is_named(tmp_path):
    qwen2(tmp_path / "m.gguf", split=10)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    content = parts[1].read_bytes()
    parts[1].unlink()
    problem = "lacks m-00002-of-00003.gguf beside it; a model in several files needs all of them in one folder"
    assert missing_part(parts[0]) == problem
    with pytest.raises(UserError, match=f"m-00003-of-00003.gguf: {problem}"):
        gguf_file.opened(parts[2])
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(UserError, match=r"m-00002-of-00003.gguf: its metadata say part 3 of 3, its name part 2 of 3"):
        gguf_file.opened(parts[0])
    parts[1].write_bytes(content)
    parts[0].rename(tmp_path / "first.gguf")
    with pytest.raises(UserError, match=r"first.gguf: its metadata say part 1 of 3, its name part 1 of 1; give it the"):
        gguf_file.opened(tmp_path / "first.gguf")


@pytest.mark.parametrize("mark", [pytest.param(0, marks=needs_llama_cpp)])
def test_the_end_of_llama_cpp_is_one_line_that_says_how_it_ended(tmp_path, mark):
    qwen2(tmp_path / "q.gguf")
    for number, message in (
        (signal.SIGKILL, r"was killed, most often because the machine had no memory left"),
        (11, "SIGSEGV"),
    ):
        loaded = load(Pretrained(gguf=str(tmp_path / "q.gguf"), engine="llama.cpp", window=32))
        process = loaded.model.network.network.client.process
        os.kill(process.pid, number)
        process.wait()
        with pytest.raises(UserError, match=rf"q.gguf: llama.cpp .*{message}"):
            scored(loaded, SHORT)


@pytest.mark.parametrize("mark", [pytest.param(0, marks=needs_llama_cpp)])
def test_memory_is_asked_for_before_weights_are_read(tmp_path, mark):
    qwen2(tmp_path / "q.gguf")
    with pytest.raises(UserError, match=r"q.gguf: needs .* GB of memory, 1e-06 GB are free; take a smaller file or"):
        load(Pretrained(gguf=str(tmp_path / "q.gguf"), engine="llama.cpp", memory=1e-6))


@pytest.mark.parametrize("mark", [pytest.param(0, marks=needs_llama_cpp)])
def test_a_file_without_one_of_its_tensors_is_named_before_any_job(tmp_path, mark):
    qwen2(tmp_path / "q.gguf", without="model.layers.1.self_attn.q_proj.weight")
    with pytest.raises(UserError, match=r"q.gguf: llama.cpp ended with code 1.*tensor 'blk.1.attn_q.weight' not found"):
        must_be_scorable(Pretrained(gguf=str(tmp_path / "q.gguf"), engine="llama.cpp"))
