"""Two runs side by side: what is the same differs by nothing, and what differs is told with how sure that is."""

import json
import shutil

import numpy as np
import pytest
from test_cli import call, prepared

from lmstages.core import artifacts
from lmstages.evaluation import score_files
from lmstages.evaluation.score_files import Scores
from lmstages.results import diff


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two models, made by the verbs themselves."""
    folder = tmp_path_factory.mktemp("changes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run, names = prepared(folder)
        for model in ("bigram", "mlp"):
            cell, tokens = names / "char" / model / "seed0", names / "char/tokens"
            assert call("fit", "--tokens", tokens, "--out", cell, "--section", run.fit_section(model)) == 0
            inputs = ["--model", cell / "model.safetensors", "--tokens", tokens, "--text", names / "text"]
            assert call("evaluate", *inputs, "--out", cell, "--section", run.evaluate_section("names", model)) == 0
        cells = [["names", "char", model, [0]] for model in ("bigram", "mlp")]
        section = json.loads(run.comparison_section()) | {"cells": cells, "analyses": False}
        summarize("results", section)
        return folder / "results", section


def summarize(results, section):
    told = ["--results", results, "--out", f"{results}/comparison.json", "--section", json.dumps(section)]
    assert call("summarize", *told) == 0


@pytest.fixture
def other(finished, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(finished[0], tmp_path / "other")


def made_worse(run, section, bits):
    """The bigram's scores of a run, every byte ``bits`` dearer, and its comparison anew."""
    path = run / "names/char/bigram/seed0/scores.safetensors"
    told = score_files.load_scores(path)["test"]
    dearer = told.log_probs - told.lengths * bits * np.log(2)
    rest = (told.lengths, told.documents, told.characters, told.protocol)
    score_files.save_scores(path, {"test": Scores(dearer, *rest)}, {})
    summarize(run, section)


def test_a_run_beside_itself_differs_by_nothing(finished):
    rows = diff.between(finished[0], finished[0])["rows"]
    assert [row["model"] for row in rows] == ["bigram", "mlp"]
    for row in rows:
        assert (row["state"], row["same_text"], row["changed"]) == ("both", True, [])
        assert row["difference"] == 0 and row["interval"] == [0, 0] and row["p"] == row["p_holm"] == 1


def test_a_row_that_is_dearer_everywhere_is_dearer_by_that_and_surely(finished, other):
    made_worse(other, finished[1], 0.25)
    bigram, mlp = diff.between(finished[0], other)["rows"]
    assert bigram["difference"] == pytest.approx(0.25, abs=1e-5)
    assert bigram["interval"] == pytest.approx([0.25, 0.25], abs=1e-5) and bigram["p_holm"] < 0.05
    assert mlp["difference"] == 0


def test_the_difference_is_that_of_the_second_run_less_the_first(finished, other):
    made_worse(other, finished[1], 0.25)
    assert diff.between(other, finished[0])["rows"][0]["difference"] == pytest.approx(-0.25, abs=1e-5)


def test_rows_of_another_text_are_not_paired(finished, other):
    path = other / "names/text/test.txt"
    artifacts.save_bytes(path, path.read_bytes()[::-1], {})
    found = diff.between(finished[0], other)
    assert all(row["same_text"] is False and row["difference"] is row["interval"] is None for row in found["rows"])
    assert "another text: not paired" in diff.table_terminal(found)
    assert "2 on another text, which cannot be paired" in diff.summary(found)


def test_rows_that_only_one_run_has_are_told(finished, other):
    summarize(other, finished[1] | {"cells": finished[1]["cells"][:1]})
    states = {row["model"]: row["state"] for row in diff.between(finished[0], other)["rows"]}
    assert states == {"bigram": "both", "mlp": "only before"}
    assert diff.between(other, finished[0])["rows"][1]["state"] == "only after"


def test_changed_hyperparameters_are_told(finished, other):
    path = other / "comparison.json"
    comparison = artifacts.load_json(path)
    comparison["rows"][1]["hyperparameters"]["hidden"] = 9
    artifacts.save_json(path, comparison, {})
    assert diff.between(finished[0], other)["rows"][1]["changed"] == ["hidden: 9, was 8"]


def test_the_verb_prints_and_writes(finished, other, capsys):
    made_worse(other, finished[1], 0.25)
    assert call("diff", finished[0], other) == 0
    told = capsys.readouterr().out
    assert "+0.2500" in told and "worse: 1" in told
    written = other / "compared/results"
    assert artifacts.load_json(written / "diff.json")["rows"][0]["difference"] == pytest.approx(0.25, abs=1e-5)
    assert "| names, test | char | bigram |" in (written / "diff.md").read_text()


def test_a_folder_that_is_not_there_is_told(finished, capsys, monkeypatch):
    monkeypatch.chdir(finished[0].parent)
    assert call("diff", "results", "result") == 1
    told = capsys.readouterr().err
    assert "result: no such folder (did you mean 'results'?)" in told and "Traceback" not in told


def test_a_folder_without_a_finished_run_is_told(finished, tmp_path, capsys):
    assert call("diff", tmp_path, finished[0]) == 1
    assert "no finished run lies here; a finished run's folder is results/RUN" in capsys.readouterr().err


def test_commands_to_a_terminal_are_shown_and_not_obeyed(finished, other):
    found = diff.between(finished[0], other)
    found["rows"][0] |= {"model": "\x1b[31m|x", "changed": ["a: \x1b[0m, was b"]}
    assert "\x1b" not in diff.table_terminal(found) + diff.table_markdown(found)
    assert r"\x1b[31m\|x" in diff.table_markdown(found)
