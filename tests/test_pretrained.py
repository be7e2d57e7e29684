"""Derived and pretrained models: from the config to a scored experiment, and every mistake in one line."""

import json
import os
from fnmatch import fnmatch

import numpy as np
import pytest

from lmstages.cli import main
from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.reading import read_run
from lmstages.config.sections import Pretrained, to_section
from lmstages.core import artifacts, files
from lmstages.core.errors import UserError
from lmstages.core.hub import must_be_its_blob
from lmstages.evaluation import checkpoints, hub_checkpoints, memory, pretrained
from lmstages.evaluation.derivation import derive
from lmstages.evaluation.quantization import quantization_error
from lmstages.evaluation.score_files import load_scores
from lmstages.models.base import build
from lmstages.models.external.llama_tensors import shapes
from lmstages.models.storage import save_fit
from lmstages.results.rows import model_rows
from lmstages.tokenizers.streams import read_tokenizer

CONFIG = """
corpora: {words: {path: words.txt, documents: lines}}
tokenizers: {char: {kind: char, alphabet: corpus}}
models:
  llama: {layers: 1, heads: 2, key_value_heads: 1, width: 32, hidden: 32, window: 16, row_length: 16}
  llama_q4: {of: llama}
  better: {type: llama_q4, rounding: gptq, output: q4_0}
sampling: {count: 1, length: 10}
"""
EXPERIMENT = "results/words/char/llama/seed0"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a text, its tokens, an experiment's LLaMA, and the LLaMA exported in both layouts."""
    folder = tmp_path_factory.mktemp("project")
    before = os.getcwd()
    os.chdir(folder)
    letters = np.random.default_rng(0).choice(list("abcdef "), (300, 9))
    (folder / "words.txt").write_text("".join(f"{''.join(row)}\n" for row in letters))
    (folder / "run.yaml").write_text(CONFIG)
    run = read_run(folder / "run.yaml")
    corpus, tokenizer = to_section(run.corpora["words"]), to_section(run.tokenizers["char"])
    text, tokens = "results/words/text", "results/words/char/tokens"
    assert main(["prepare", "--raw", "words.txt", "--out", text, "--section", corpus]) == 0
    assert main(["tokenize", "--text", text, "--layout", "lines", "--out", tokens, "--section", tokenizer]) == 0
    config, size = run.models["llama"].config, read_tokenizer(folder / tokens).vocab_size
    model, draws = build(config, size), np.random.default_rng(0)
    model.restore({n: draws.normal(0, 0.3, shape).astype(np.float32) for n, shape in shapes(config, size).items()})
    facts = {"type": "llama", "status": "ok", "tokens_seen": 100, "hyperparameters": {}, "parameters": 1}
    facts |= {"fit_seconds": 1.0, "device": "cpu", "threads": 1, "vocab_size": size}
    save_fit(folder / EXPERIMENT, model, facts, {})
    evaluated = ["--tokens", tokens, "--text", text, "--section", run.evaluate_section("words", "llama")]
    assert main(["evaluate", "--model", f"{EXPERIMENT}/model.safetensors", "--out", EXPERIMENT, *evaluated]) == 0
    exported = ["export", f"{EXPERIMENT}/model.safetensors"]
    assert main([*exported, "--to", "hf", "--out", "llama"]) == 0
    assert main([*exported, "--to", "gguf", "--out", "llama.gguf"]) == 0
    assert main([*exported, "--to", "gguf", "--type", "q8_0", "--out", "q8.gguf"]) == 0
    yield folder
    os.chdir(before)


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def scored(here, **keys):
    """The command score_pretrained on a pretrained section -> its exit code and its folder."""
    others = {"splits": ["test"], "documents": True, "sampling": read_run(here / "run.yaml").sampling.model_dump()}
    out = here / "results/words/own/theirs/seed0"
    arguments = ["--text", "results/words/text", "--out", str(out)]
    section = json.dumps({"pretrained": keys, **others})
    return main(["score_pretrained", *arguments, "--section", section]), out


# From elsewhere, end to end


@pytest.mark.parametrize("keys", [{"path": "llama"}, {"gguf": "llama.gguf"}])
def test_a_checkpoint_of_our_own_scores_and_samples_as_it_did_here(here, keys):
    code, out = scored(here, **keys)
    assert code == 0
    ours, theirs = (load_scores(folder / "scores.safetensors")["test"] for folder in (here / EXPERIMENT, out))
    assert np.allclose(ours.log_probs, theirs.log_probs, atol=1e-5) and np.array_equal(ours.lengths, theirs.lengths)
    ours, theirs = (artifacts.load_json(folder / "evaluation.json")["samples"] for folder in (here / EXPERIMENT, out))
    assert ours == theirs
    facts = artifacts.load_json(out / "fit.json")
    assert facts["status"] == "ok" and facts["hyperparameters"]["window"] == 16


def test_a_rounded_file_scores_nearly_the_same(here):
    code, out = scored(here, gguf="q8.gguf", samples=False, sha256=files.sha256_of(here / "q8.gguf"))
    ours, theirs = (load_scores(folder / "scores.safetensors")["test"] for folder in (here / EXPERIMENT, out))
    assert code == 0 and 0 < np.abs(ours.log_probs - theirs.log_probs).mean() < 0.05
    assert artifacts.load_json(out / "evaluation.json")["samples"] == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "llama", "window": 64}, "llama: window 64 found; allowed: up to 16, which it was trained on"),
        ({"gguf": "llama.gguf", "memory": 1e-6}, "GB of memory, 1e-06 GB are free; take a smaller file or window"),
        ({"gguf": "llama.gguf", "sha256": "0" * 64}, "the config says 0000"),
        ({"gguf": "words.txt"}, "words.txt: is no GGUF file"),
        ({"path": "results"}, "config.json: no such file; a checkpoint in the Hugging Face layout has one"),
        ({"path": "a", "gguf": "b"}, "needs one of hub, path, gguf and arpa"),
        ({"hub": "somebody/llama"}, "hub and revision belong together: a commit of 40 hexadecimal digits"),
        ({"hub": "somebody/llama", "revision": "main"}, "revision: the text 'main' found; string should match pattern"),
        ({"path": "llama", "engine": "llama.cpp"}, "sha256 and engine: llama.cpp belong to gguf"),
        ({"path": "llama", "window": 8, "stride": 9}, "stride 9 exceeds window 8"),
    ],
)
def test_what_cannot_be_scored_is_one_line(here, capfd, keys, message):
    code, _ = scored(here, **keys)
    printed = capfd.readouterr().err
    assert code == 1 and message in printed and "Traceback" not in printed


def test_a_checkpoint_that_cannot_be_scored_is_a_row_with_its_reason(here, tmp_path, capfd):
    """In a run, which keeps going: the same line is logged, and is the status of the row; the exit code is 0."""
    others = {"splits": ["test"], "documents": True, "sampling": read_run(here / "run.yaml").sampling.model_dump()}
    section, out = json.dumps({"pretrained": {"gguf": "words.txt"}, **others}), tmp_path / "words/own/theirs/seed0"
    arguments = ["--text", "results/words/text", "--out", str(out), "--section", section, "--code", "none"]
    assert main(["score_pretrained", *arguments, "--keep-going"]) == 0
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("lmstages: error: words.txt: is no GGUF file")
    facts = dict.fromkeys(("type", "title", "family", "category", "adds", "source"), "pretrained") | {"rank": 30}
    [row] = [scored.row for scored in model_rows([out], [0], ["test"], facts)]
    assert row.status == line.replace("lmstages: error", "failed") and row.bits_per_byte is None
    assert json.loads(row.hyperparameters) == {"gguf": "words.txt"}


QWEN = b"\x05\0\0\0\0\0\0\0qwen2"  # a text of GGUF: its length, 8 bytes, and its bytes


def test_a_checkpoint_that_cannot_be_scored_is_said_before_the_first_job(here, capfd, monkeypatch):
    monkeypatch.setattr(
        "lmstages.evaluation.gguf_checkpoints.find_spec", lambda name: None
    )  # llama.cpp, if it is there
    (here / "wide").mkdir()
    for file in (here / "llama").iterdir():
        if file.is_file():
            (here / "wide" / file.name).write_bytes(file.read_bytes())
    content = json.loads((here / "llama/config.json").read_text())
    (here / "wide/config.json").write_text(json.dumps({**content, "intermediate_size": 48}))
    (here / "qwen.gguf").write_bytes((here / "llama.gguf").read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", QWEN, 1))
    theirs = "{wide: {path: wide}, qwen: {gguf: qwen.gguf}, good: {path: llama}, q8: {gguf: q8.gguf}}"
    (here / "theirs.yaml").write_text(f"{CONFIG}pretrained: {theirs}\n")
    shape = "wide: tensor model.layers.0.mlp.gate_proj.weight has shape (32, 32), config.json says (48, 32)"
    qwen = "qwen.gguf: architecture 'qwen2'; our own code does not know it; llama.cpp needs llama-cpp-python, which is"
    sentences = pretrained.unusable(read_run(here / "theirs.yaml").pretrained)
    assert sentences[0] == f"pretrained.wide will fail: {shape}"
    assert sentences[1].startswith(f"pretrained.qwen will fail: {qwen}") and len(sentences) == 2
    assert main(["check", "theirs.yaml"]) == 0
    printed = capfd.readouterr()
    assert shape in printed.err and qwen in printed.err and "words/char/llama/seed0" in printed.out


def test_all_that_is_read_of_a_folder_is_fetched_from_the_hub(monkeypatch, tmp_path):
    import huggingface_hub

    fetched = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **keys: fetched.append(keys) or str(tmp_path))
    hub_checkpoints.fetched("somebody/llama", "0" * 40, None)
    patterns = fetched[0]["allow_patterns"]
    read = ["config.json", "model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    read += ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model"]
    assert [name for name in read if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert not any(fnmatch("pytorch_model.bin", pattern) for pattern in patterns)


def test_a_hub_id_without_network_is_one_line(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"hub somebody/llama: revision 0000000.* cannot be fetched .*or give a folder"):
        hub_checkpoints.fetched("somebody/llama", "0" * 40, None)


def test_a_mirror_is_a_folder_of_the_hubs_names(here):
    (here / "hub/somebody").mkdir(parents=True, exist_ok=True)
    if not (here / "hub/somebody/llama").exists():
        (here / "hub/somebody/llama").symlink_to(here / "llama")
    loaded = checkpoints.load(Pretrained(hub="somebody/llama", revision="0" * 40), mirror="hub")
    assert loaded.model.config.width == 32


def test_a_blob_that_is_not_what_its_name_says_is_refused(tmp_path):
    path = tmp_path / ("0" * 64)
    path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"its sha256 is not 000000000000\.\.\. as the hub says"):
        must_be_its_blob(path)


def test_llama_65b_in_4_bits_needs_about_40_gigabytes():
    config = Llama(layers=80, heads=64, key_value_heads=64, width=8192, hidden=22016, window=2048)
    assert 39e9 < memory.memory_needed(config, 32000, 39_000_000_000) < 42e9
    assert checkpoints.parameters_of(config.model_copy(update={"tied_output": False}), 32000) == 65_285_660_672


def test_the_machine_has_memory():
    assert memory.available_memory() > 1e7


# Derived


def test_a_derived_model_is_written_and_its_error_measured(here):
    run, tokens = read_run(here / "run.yaml"), here / "results/words/char/tokens"
    base = here / EXPERIMENT / "model.safetensors"
    for name in ("llama_q4", "better"):
        out = here / f"results/words/char/{name}/seed0"
        derive(base, tokens, out, json.loads(run.fit_section(name)), 1, {})
        error = quantization_error(out / "model.safetensors", base, tokens, ["test"])["test"]
        assert error["of"] == "llama" and 0 < error["kl"] < 1 and 0.5 < error["top1"] <= 1
        assert error["file_bytes"] < (here / "llama.gguf").stat().st_size and 4.5 < error["bits_per_weight"] < 8
        assert artifacts.load_json(out / "fit.json")["tokens_seen"] == 100


def test_a_model_derived_from_a_failed_fit_fails_too(here, tmp_path):
    tokens, base = here / "results/words/char/tokens", tmp_path / "llama/seed0"
    save_fit(base, None, {"status": "failed: it diverged"}, {})
    section = json.loads(read_run(here / "run.yaml").fit_section("llama_q4"))
    derive(base / "model.safetensors", tokens, tmp_path / "q/seed0", section, 1, {})
    assert artifacts.load_json(tmp_path / "q/seed0/fit.json")["status"] == "failed: it diverged"
    assert quantization_error(tmp_path / "q/seed0/model.safetensors", base, tokens, ["test"]) == {}


def test_a_model_that_is_no_derived_one_is_refused(here, tmp_path):
    section = {"type": "uniform", "hyperparameters": {}}
    with pytest.raises(UserError, match="model uniform: is not derived from another model; use the command fit"):
        derive(here / EXPERIMENT / "model.safetensors", here / "results/words/char/tokens", tmp_path, section, 1, {})


# The config


def test_a_derived_model_has_the_record_and_the_seeds_of_its_base(here):
    (here / "more.yaml").write_text(CONFIG.replace("row_length: 16}", "row_length: 16, seeds: [3, 4]}", 1))
    run = read_run(here / "more.yaml")
    assert run.models["better"].config.base == run.models["llama"].config
    assert run.seeds_of("llama_q4") == [3, 4] and run.base_of("better") == "llama"
    assert json.loads(run.evaluate_section("words", "better"))["scoring"]["window"] == 16


def test_a_pretrained_model_is_an_experiment_of_category_pretrained(here):
    (here / "more.yaml").write_text(CONFIG + "pretrained: {theirs: {path: llama}}\n")
    run = read_run(here / "more.yaml")
    assert run.experiments()[-1] == ("words", "own", "theirs", 0)
    models = json.loads(run.summary_section())["models"]
    assert models["theirs"]["category"] == "pretrained" and models["llama_q4"]["of"] == "llama"


LLAMA, Q4 = "  llama: {", "  llama_q4: {of: llama}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            Q4,
            "  llama_q4: {of: lama}",
            "models.llama_q4.of: 'lama' is not defined under models (did you mean 'llama'?)",
        ),
        (Q4, "  llama_q4: {of: better}", "models.llama_q4.of: 'better' is of type llama_q4; allowed: llama"),
        (Q4, "  llama_q4: {seeds: [1]}", "models.llama_q4.seeds: are those of llama; leave them out"),
        (Q4, "  llama_q4: {base: {}}", "models.llama_q4.base: is the record of the model under of; leave it out"),
        ("hidden: 32", "hidden: 40", "rows of 40 numbers (models.llama.hidden) are no whole blocks of 32"),
        (
            "words.txt, ",
            "words.txt, models: [llama_q4], ",
            "llama_q4 is made from llama, which is not listed; list both",
        ),
        (Q4, "  llama_q8: {rounding: gptq}", "models.llama_q8.rounding: the text 'gptq' found"),
        ("sampling", "pretrained: {x: {path: lama}}\nsampling", "pretrained.x.path: 'lama' no such folder (did you"),
        ("sampling", "pretrained: {x: {gguf: q9.gguf}}\nsampling", "pretrained.x.gguf: 'q9.gguf' no such file (did"),
        ("sampling", "pretrained: {llama: {path: llama}}\nsampling", "a model or mixture is called 'llama' too"),
        ("sampling", "pretrained: {x: {path: llama, corpora: [w]}}\nsampling", "pretrained.x.corpora: 'w' is not"),
        ("sampling", "pretrained: {x: {}}\nsampling", "pretrained.x: needs one of hub, path, gguf and arpa"),
    ],
)
def test_names_that_lead_nowhere_are_found_before_any_job(here, old, new, message):
    (here / "bad.yaml").write_text(CONFIG.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        read_run(here / "bad.yaml")
    assert message in str(error.value)


def test_own_is_no_tokenizers_name_beside_pretrained_models(here):
    changed = CONFIG.replace("{char: {", "{own: {") + "pretrained: {x: {path: llama}}\n"
    (here / "bad.yaml").write_text(changed)
    with pytest.raises(UserError, match="tokenizers: 'own' stands for the vocabulary of a pretrained model"):
        read_run(here / "bad.yaml")


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("models:\n  llama_cpp: {of: llama}", "models.llama_cpp"),
        ("pretrained: {x: {gguf: llama.gguf, engine: llama.cpp}}\nmodels:", "pretrained.x.engine"),
    ],
)
def test_an_engine_that_is_not_installed_is_found_before_any_job(here, monkeypatch, line, where):
    monkeypatch.setattr("lmstages.config.references.find_spec", lambda name: None)
    (here / "bad.yaml").write_text(CONFIG.replace("models:", line, 1))
    message = rf"{where}: llama.cpp needs llama-cpp-python, which is not installed; pip install 'lmstages\[llama-cpp\]'"
    with pytest.raises(UserError, match=message):
        read_run(here / "bad.yaml")
