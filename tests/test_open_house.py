"""One report of models from everywhere: fitted here, checkpoints, GGUF, ARPA, and scores made by a program.

Each row is what its native engine says of the same text.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import LLAMA_CPP, SMOLLM2
from test_arpa_kenlm import estimated, queried
from test_transformers import byte_fallback, byte_level, made
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmstages.corpora.grammar import documents
from lmstages.results.frame import read_results

PROJECT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("kenlm"),
    pytest.mark.needs("llama_cpp"),
    pytest.mark.needs("smollm2"),
]
CHECKPOINTS = {
    "gpt2": byte_level,
    "gpt_neox": byte_level,
    "qwen3": byte_level,
    "gemma2": byte_fallback,
    "mamba": byte_level,
}
PROGRAM = '''
"""Scores of a unigram model of characters, a line per token: the ten lines of somebody else."""
import collections, json, math, sys
train, test = (open(path, encoding="utf-8").read() for path in sys.argv[1:3])
counts = collections.Counter(train + test)
start = document = 0
for character in test:
    end = start + len(character.encode())
    log_prob = math.log(counts[character] / len(train + test))
    print(json.dumps({"document": document, "start_byte": start, "end_byte": end, "log_prob": log_prob}))
    start, document = (0, document + 1) if character == "\\n" else (end, document)
'''
CONFIG = """
corpora: {{mine: {{files: {{train: train.txt, valid: valid.txt, test: test.txt}}, documents: lines}}}}
tokenizers: {{char: {{kind: char}}}}
models:
  kneser_ney: {{order: 4}}
  gpt: {{steps: 20, warmup_steps: 2, width: 16, heads: 2, layers: 1, window: 32, row_length: 32}}
pretrained:
{checkpoints}
  smol: {{gguf: "{smol}", engine: llama.cpp, window: 64, samples: false}}
  kenlm: {{arpa: kenlm.arpa, samples: false}}
scores: {{program: {{path: program.jsonl, unit: nats}}}}
sampling: {{count: 1, length: 10}}
"""


def lines():
    """Sentences of the embedded stories, each with a word that is not ASCII."""
    sentences = [sentence for text in documents("fables", 120, 0) for sentence in text.split(". ")]
    return [f"{sentence.strip().replace(chr(10), ' ')} – naïvely" for sentence in sentences if 10 < len(sentence) < 50]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    train, rest = (texts := lines())[:300], lines()[300:]
    words = set(" ".join(train).split())
    rest = [line for line in rest if words.issuperset(line.split())]  # KenLM charges nothing for how a word is spelled
    assert len(texts) > 330 and len(rest) >= 30
    for name, part in (("train", train), ("valid", rest[:10]), ("test", rest[10:30])):
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in part), "utf-8")
    for architecture, tokenizer in CHECKPOINTS.items():
        made(folder / architecture, architecture, tokenizer)
    estimated(3, (folder / "train.txt").read_bytes(), folder / "kenlm.arpa")
    program = [sys.executable, "-c", PROGRAM, folder / "train.txt", folder / "test.txt"]
    (folder / "program.jsonl").write_bytes(subprocess.run(program, capture_output=True, check=True).stdout)
    checkpoints = "\n".join(f"  {name}: {{path: {name}, window: 64, bos: document}}" for name in CHECKPOINTS)
    (folder / "open.yaml").write_text(CONFIG.format(checkpoints=checkpoints, smol=SMOLLM2))
    call = [sys.executable, "-m", "snakemake", "-s", PROJECT / "Snakefile", "--cores", "2", "--configfile", "open.yaml"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, env=with_llama_cpp())
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def with_llama_cpp():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(LLAMA_CPP)])}


@pytest.fixture(scope="module")
def rows(folder):
    frame = read_results(folder / "results/open")
    return frame[frame["split"] == "test"].set_index("model")


def nats(row):
    """Of the whole text."""
    return row["bits_per_byte"] * row["bytes"] * math.log(2)


def test_one_report_has_all_of_them_each_in_its_category(folder, rows):
    assert set(rows["status"]) == {"ok"}
    categories = {
        "static": ["kneser_ney", "gpt"],
        "pretrained": [*CHECKPOINTS, "smol", "kenlm"],
        "reported": ["program"],
    }
    assert {name: category for category, names in categories.items() for name in names} == dict(rows["category"])
    assert len(set(rows["bytes"])) == 1 and (rows["bits_per_byte_low"] < rows["bits_per_byte"]).all()
    page = (folder / "results/open/report.html").read_text("utf-8")
    assert all(name in page for name in rows.index)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_what_transformers_says(folder, rows, name):
    tokenizer, model = (kind.from_pretrained(folder / name) for kind in (AutoTokenizer, AutoModelForCausalLM))
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    total, count = 0.0, 0
    for line in (folder / "test.txt").read_text("utf-8").splitlines():
        row = torch.tensor([[begin, *tokenizer(line, add_special_tokens=False)["input_ids"], end]])
        with torch.inference_mode():
            log_probs = model(row).logits.log_softmax(-1).double()[0, :-1]
        total -= float(log_probs.gather(1, row[0, 1:, None]).sum())
        count += row.shape[1] - 1
    assert rows["tokens"][name] == count and nats(rows.loc[name]) == pytest.approx(total, abs=1e-4 * count)


NATIVE = """
import json, sys
import llama_cpp.llama_cpp as library
import numpy as np
from llama_cpp import Llama
defaults = library.llama_model_default_params
def unpacked():  # without the second copy of the weights, whose rounding differs
    settings = defaults()
    settings.use_extra_bufts = False
    return settings
library.llama_model_default_params = unpacked
wide = {"type_k": library.GGML_TYPE_F32, "type_v": library.GGML_TYPE_F32, "flash_attn": False}
model = Llama(sys.argv[1], n_ctx=512, n_threads=1, logits_all=True, verbose=False, **wide)
total, count = 0.0, 0
for line in open(sys.argv[2], encoding="utf-8").read().splitlines():
    row = [model.token_bos(), *model.tokenize(line.encode(), add_bos=False, special=False), int(sys.argv[3])]
    model.reset()
    model.eval(row)
    logits = np.array(model.scores[: len(row) - 1], dtype=np.float64)
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    total -= float(log_probs[np.arange(len(row) - 1), row[1:]].sum())
    count += len(row) - 1
print(json.dumps([total, count, model.token_eos()]))
"""


def test_a_gguf_is_what_llama_cpp_says(folder, rows):
    call = [sys.executable, "-c", NATIVE, SMOLLM2, folder / "test.txt", "2"]
    done = subprocess.run(call, capture_output=True, text=True, env=with_llama_cpp())
    assert done.returncode == 0, done.stderr
    total, count, end = json.loads(done.stdout)
    assert end == 2 and rows["tokens"]["smol"] == count
    assert nats(rows.loc["smol"]) == pytest.approx(total, abs=1e-3 * count)


def test_an_arpa_file_is_what_kenlm_says(folder, rows):
    perplexity, _, unknown, tokens = queried(folder / "kenlm.arpa", (folder / "test.txt").read_bytes())
    assert unknown == 0 and rows["tokens"]["kenlm"] == tokens
    assert nats(rows.loc["kenlm"]) == pytest.approx(tokens * math.log(perplexity), rel=2e-6)


def test_scores_of_a_program_are_their_sum(folder, rows):
    scores = [json.loads(line)["log_prob"] for line in (folder / "program.jsonl").read_text().splitlines()]
    assert nats(rows.loc["program"]) == pytest.approx(-math.fsum(scores), rel=1e-9)
