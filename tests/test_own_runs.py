"""A run with models of one's own: rows, mixtures, sweeps, the pages of people; an edit fits again what it concerns."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_own_laws import GATED, UNIGRAM

from lmstages.cli import main
from lmstages.models.storage import load_model
from lmstages.playground.answers import Playground, Question
from lmstages.results.frame import read_results

PROJECT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CONFIG = """
corpora: {coined: {count: 300, inspect: true}}
tokenizers: {char: {kind: char}}
models:
  bigram:
  mine: {type: my_models.py:Unigram, add: {sweep: [0.5, 2.0]}}
  gated: {type: my_models.py:GatedCNN, width: 8, steps: 8, evaluate_every: 4}
  faulty: {type: faulty.py:Unigram}
mixtures: {both: {of: [bigram, gated]}}
sampling: {count: 1, length: 20, measured: 2}
"""
EXPERIMENT = "results/own/coined/char/{}/seed0"


def snakemake(folder, *arguments, code=0):
    call = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--cores", "2"]
    done = subprocess.run(
        [*call, "--configfile", "own.yaml", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned(folder):
    """{rule: models} of a dry run."""
    plan = snakemake(folder, "-n")
    blocks = re.split(r"^(?:local)?rule ", plan, flags=re.MULTILINE)[1:]
    models = [(block.partition(":")[0], re.search(r"model=([\w-]+)", block)) for block in blocks]
    return {(rule, model[1]) for rule, model in models if model}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of two classes of one file, and one whose fit fails."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_models.py").write_text("from tables import FACTOR\n" + GATED + UNIGRAM.partition('"""\n')[2])
    (folder / "tables.py").write_text("FACTOR = 1\n")
    (folder / "faulty.py").write_text(UNIGRAM.replace("counts / counts.sum()", "counts / nothing"))
    (folder / "own.yaml").write_text(CONFIG)
    snakemake(folder, code=1)  # the row that fails ends the run with 1, after the report
    return folder


def test_rows_have_intervals_and_one_that_fails_says_at_which_line(folder):
    rows = read_results(folder / "results/own").set_index("model")
    assert list(rows.index[rows["family"] != "oracle"]) == [
        "bigram",
        "mine-add-0_5",
        "mine-add-2_0",
        "gated",
        "faulty",
        "both",
    ]
    for name in ("mine-add-0_5", "mine-add-2_0", "gated", "both"):
        assert rows["bits_per_byte_low"][name] < rows["bits_per_byte"][name] < rows["bits_per_byte_high"][name]
    assert rows["title"]["gated"] == "Gated CNN" and rows["type"]["gated"] == "my_models.py:GatedCNN"
    assert rows["status"]["faulty"].startswith("failed: faulty.py:16: NameError")
    page = (folder / "results/own/report.html").read_text("utf-8")
    assert "half of its channels decide how much of the other half passes" in page and "Dauphin et al. 2017" in page


def test_people_find_it_in_every_command(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["explain", EXPERIMENT.format("gated")]) == 0
    explained = capsys.readouterr().out
    assert re.search(r"my_models.py:GatedCNN \w{12}: the same now", explained)
    assert main(["verify", "results/own"]) == 0 and "0 damaged or missing" in capsys.readouterr().out
    play = Playground(Path("results/own"))
    listed = {row["title"]: row for row in play.models()}
    answer = play.answer(Question(model=listed["GatedCNN (gated)"]["id"], prompt="a"))
    assert sum(probability for _, probability in answer["next"]) <= 1 + 1e-6
    model = load_model(Path(EXPERIMENT.format("gated"), "model.safetensors"))
    assert model.config.width == 8 and model.parameters() > 0
    again = explained.rpartition("python -m lmstages fit")[2]
    assert "my_models.py:GatedCNN" in again


def test_only_an_edit_of_its_code_fits_a_model_again(folder):
    path = folder / "my_models.py"
    text = path.read_text()
    path.write_text(text.replace('"""Adds gates', '"""Really adds gates') + "\n# a comment\n")
    assert not planned(folder)
    path.write_text(text)
    (folder / "tables.py").write_text("FACTOR = 2\n")
    models = {"mine-add-0_5", "mine-add-2_0", "gated"}
    assert planned(folder) == {(rule, model) for rule in ("fit", "evaluate", "probe") for model in models}
    (folder / "tables.py").write_text("FACTOR = 1\n")
    os.utime(path, (0, 0))
    assert not planned(folder)


def test_what_its_file_answers_is_asked_once(folder):
    memory = folder / ".snakemake/lmstages/own_models.json"
    before = memory.stat().st_mtime_ns
    assert len(json.loads(memory.read_text())) >= 4
    snakemake(folder, "-n")
    assert memory.stat().st_mtime_ns == before


def test_a_file_that_is_gone_or_no_python_is_one_line(folder):
    path = folder / "my_models.py"
    text = path.read_text()
    path.write_text(text + "class:\n")
    printed = snakemake(folder, "-n", code=1)
    path.unlink()
    printed += snakemake(folder, "-n", code=1)
    path.write_text(text)
    lines = [line for line in printed.splitlines() if "lmstages: error" in line]
    assert "Traceback" not in printed and len(lines) == 2
    assert "is no Python" in printed and "my_models.py: no such file" in printed
