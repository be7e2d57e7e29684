"""Exported networks: transformers, or torch alone, computes from the folder what the model computes here."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from test_gguf import SIZES, TEXTS, experiment, learnt, section
from test_laws import SMALL

from lmstages.cli import main
from lmstages.config.ladder import MODEL_TYPES
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.models.base import build
from lmstages.models.external.exporting import export

NANOCHAT = {**SMALL["gpt"], "heads": 4}
CASES = [
    ("gpt", {}),
    ("gpt", {"bias": True, "attention_bias": True, "activation": "relu"}),
    ("gpt", {"tied_output": False, "projection": False, "initialisation": "torch"}),
    ("gpt", {"feedforward": "none"}),
    ("modern_gpt", NANOCHAT),
    ("modern_gpt", {**NANOCHAT, "tied_output": True, "softcap": None, "rope_base": 100.0}),
    ("rnn", {}),
    ("gru", {"layers": 2}),
    ("lstm", {"layers": 2}),
]
IDS = [f"{name}-{'-'.join(map(str, keys)) or 'plain'}" for name, keys in CASES]


def drawn(name, keys, vocab_size):
    """A network with weights that are all drawn, so that none can be left out unnoticed."""
    plain = SMALL[name] if name != "modern_gpt" else {}
    model = build(MODEL_TYPES[name].model_validate({**plain, **keys}), vocab_size)
    draws = np.random.default_rng(1)
    model.restore(
        {key: (array + draws.normal(0, 0.3, array.shape)).astype(np.float32) for key, array in model.initial(0).items()}
    )
    return model


def log_probs_elsewhere(folder, name, tokens):
    """(B, T) tokens -> (B, T) nats by the classes of others; token 0 stands before each row."""
    rows = torch.from_numpy(np.pad(tokens, ((0, 0), (1, 0))))
    if name in ("rnn", "gru", "lstm"):
        script = f"import sys; sys.path.insert(0, {str(folder)!r}); from load import network; import torch\n"
        script += f"logits, _ = network(torch.tensor({rows[:, :-1].tolist()}))\n"
        script += "assert 'lmstages' not in sys.modules and 'transformers' not in sys.modules\n"
        script += f"torch.save(logits.detach(), {str(folder / 'logits.pt')!r})"
        subprocess.run([sys.executable, "-I", "-c", script], check=True, cwd=folder, timeout=300)
        logits = torch.load(folder / "logits.pt")
    else:
        from transformers import AutoModelForCausalLM

        network, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(report.values()), report
        with torch.inference_mode():
            logits = network(rows[:, :-1]).logits
    return logits.double().log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0].numpy()


@pytest.mark.parametrize(("name", "keys"), CASES, ids=IDS)
def test_an_exported_network_has_the_same_log_probabilities_elsewhere(tmp_path, name, keys):
    ours = learnt("char")
    model = drawn(name, keys, ours.vocab_size)
    path, tokens = experiment(tmp_path, model, ours)
    export(path, tokens, tmp_path / "hf", section("hf"), {})
    rows = np.random.default_rng(2).integers(0, ours.vocab_size, (5, 7))
    expected = model.score(rows)
    assert np.ptp(expected) > 1 and np.allclose(log_probs_elsewhere(tmp_path / "hf", name, rows), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "unigram"])
@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_the_tokens_of_an_exported_network_are_ours_behind_the_boundary(tmp_path, kind, name):
    from transformers import AutoTokenizer

    ours = learnt(kind, vocab_size=SIZES.get(kind))
    path, tokens = experiment(tmp_path, drawn(name, {}, ours.vocab_size), ours)
    export(path, tokens, tmp_path / "hf", section("hf"), {})
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text in TEXTS[:3]:
        assert theirs(text)["input_ids"] == [0, *ours.encode([text])[0][0].tolist()]


def test_each_file_of_an_export_says_what_made_it(tmp_path):
    path, tokens = experiment(tmp_path, drawn("gru", {}, learnt("char").vocab_size), learnt("char"))
    export(path, tokens, tmp_path / "hf", section("hf"), {"command": "export"})
    files = sorted(file.name for file in (tmp_path / "hf").iterdir() if file.is_file())
    assert files == ["config.json", "load.py", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert all(artifacts.made_of(artifacts.verified(tmp_path / "hf" / name))["made"]["command"] for name in files)


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("mlp", {}, r"is of model mlp; allowed: gpt, modern_gpt, rnn, gru, lstm, llama"),
        (
            "gpt",
            {"residual": False},
            r"residual is false; GPT-2 has residual: true; fit another, or read .* lmstages.load",
        ),
        ("gpt", {"norms": False}, r"norms is false; GPT-2 has norms: true"),
        ("gpt", {"feedforward": "layer"}, r"feedforward is layer; GPT-2 has feedforward: wide"),
        ("gpt", {"bias": True, "tied_output": False}, r"tied_output is false; GPT-2 has tied_output: true"),
        ("modern_gpt", {**NANOCHAT, "rotary": False}, r"rotary is false; NanoChat has rotary: true"),
        ("modern_gpt", {**NANOCHAT, "ngram_embeddings": [2]}, r"ngram_embeddings is \[2\]; NanoChat has .*: \[\]"),
        ("modern_gpt", {**NANOCHAT, "value_embeddings": True}, r"value_embeddings is true; NanoChat has .*: false"),
        ("residual", NANOCHAT, r"is of model residual; allowed: gpt,"),
    ],
)
def test_what_no_layout_computes_is_refused_by_the_switch(tmp_path, name, keys, message):
    ours = learnt("char")
    plain = SMALL["mlp" if name == "mlp" else "gpt"]
    config = MODEL_TYPES[name].model_validate({**plain, **keys})
    model = build(config, ours.vocab_size)
    if name == "residual":
        from lmstages.core.documents import Documents

        row = Documents.single(np.arange(300) % ours.vocab_size)
        model.fit(row, row, 0)
    else:
        model.restore(model.initial(0))
    with pytest.raises(UserError, match=message):
        export(*experiment(tmp_path, model, ours), tmp_path / "hf", section("hf"), {})


def test_the_command_takes_an_experiment_and_either_name_of_the_layout(tmp_path, capsys):
    path, _ = experiment(tmp_path, drawn("lstm", {}, learnt("char").vocab_size), learnt("char"))
    (path.parent / "fit.json").write_text("{}")
    for source, to in ((path.parent, "huggingface"), (path, "hf")):
        assert main(["export", str(source), "--to", to, "--out", str(tmp_path / to)]) == 0
    assert (tmp_path / "huggingface/load.py").read_bytes() == (tmp_path / "hf/load.py").read_bytes()
    assert main(["export", str(path), "--to", "gguf", "--out", str(tmp_path / "m.gguf")]) == 1
    assert "is of model lstm; allowed: llama, llama_q8, llama_q4" in capsys.readouterr().err
