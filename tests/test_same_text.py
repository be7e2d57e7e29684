"""Corpora with the same text, which differ in their tokenizers: what depends on the text alone is made once."""

import json
import re

import pytest
from test_workflow import PROJECT, copy_of, snakemake

from lmstages.cli import main
from lmstages.config.reading import read_run
from lmstages.core import artifacts

RUN = """
corpora:
  fables: {count: 60, tokenizers: [char]}
  subwords: {source: fables, count: 60, tokenizers: [bpe]}
  longer: {source: fables, count: 61, tokenizers: [bpe]}
  both: {source: fables, count: 60, tokenizers: [char], evaluate: [valid, test]}
tokenizers: {char: {kind: char}, bpe: {kind: bpe, vocab_size: 300}}
models: {bigram: }
compressors: [gzip]
"""
JOB = re.compile(
    r"^(?:local)?rule (oracle|compress|overlap|contrast):\n    input: (.*)\n    output: (.*)$", re.MULTILINE
)


def test_only_a_corpus_with_the_text_and_the_splits_of_an_earlier_one_gets_its_files(tmp_path):
    folder = copy_of(PROJECT, tmp_path / "project")
    (folder / "runs/same.yaml").write_text(RUN)
    plan = snakemake(folder, "--config", "run=same", "-n", "-F")
    assert plan.returncode == 0, plan.stderr
    jobs = [(rule, inputs.split(", "), outputs.split(", ")) for rule, inputs, outputs in JOB.findall(plan.stdout)]
    assert len(jobs) == 4 * 4
    for _, inputs, outputs in jobs:
        of_subwords = [path.replace("/subwords/", "/fables/") for path in outputs if "/subwords/" in path]
        assert [path for path in inputs if "/text/" not in path] == of_subwords


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """The texts of the run above, and the section of the job that measures overlap."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "run.yaml").write_text(RUN)
    run = read_run(folder / "run.yaml")
    for corpus in ("fables", "subwords", "longer"):
        assert main(["prepare", "--out", str(folder / corpus / "text"), "--section", run.prepare_section(corpus)]) == 0
    return folder, run.overlap_section("fables")


def overlap(texts, corpus, out, *same):
    """Measure a corpus's overlap in a folder of its own -> the exit status."""
    folder, section = texts
    arguments = ["--text", str(folder / corpus / "text"), "--out", str(out / corpus), "--section", section]
    return main(["overlap", *arguments, *(["--same-as", *map(str, same)] if same else [])])


def made(out, corpus):
    return [out / corpus / name for name in ("overlap.json", "overlap.safetensors")]


def test_files_of_the_same_text_are_copied_with_records_of_their_own(texts, tmp_path, monkeypatch):
    assert overlap(texts, "fables", tmp_path) == 0
    monkeypatch.setattr("lmstages.corpora.overlap.audit", None)  # which nobody may call
    assert overlap(texts, "subwords", tmp_path, *made(tmp_path, "fables")) == 0
    for copy, original in zip(made(tmp_path, "subwords"), made(tmp_path, "fables"), strict=True):
        assert artifacts.verified(copy).read_bytes() == original.read_bytes()
        assert artifacts.made_of(copy)["path"] == f"subwords/{copy.name}"
        assert artifacts.made_of(copy)["made"]["paths"]["train.txt"] == "subwords/text/train.txt"


def test_files_of_another_text_are_not_copied(texts, tmp_path):
    assert overlap(texts, "fables", tmp_path) == overlap(texts, "longer", tmp_path, *made(tmp_path, "fables")) == 0
    alone = tmp_path / "alone"
    assert overlap(texts, "longer", alone) == 0
    for by_itself, beside in zip(made(alone, "longer"), made(tmp_path, "longer"), strict=True):
        assert by_itself.read_bytes() == beside.read_bytes()
    assert beside.read_bytes() != made(tmp_path, "fables")[1].read_bytes()


def test_a_damaged_file_of_the_same_text_is_an_error(texts, tmp_path, capsys):
    assert overlap(texts, "fables", tmp_path) == 0
    facts, arrays = made(tmp_path, "fables")
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "window": 51}))
    assert overlap(texts, "subwords", tmp_path, facts, arrays) == 1
    assert f"{facts}: its sha256 is" in capsys.readouterr().err


def test_a_file_too_few_is_an_error(texts, tmp_path, capsys):
    assert overlap(texts, "fables", tmp_path) == 0
    assert overlap(texts, "subwords", tmp_path, made(tmp_path, "fables")[0]) == 1
    assert "--same-as: 1 files found; allowed: 2, for overlap.json and overlap.safetensors" in capsys.readouterr().err
