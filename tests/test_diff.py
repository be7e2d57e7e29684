"""Two runs side by side: what is the same differs by nothing, and what differs is told with how sure that is."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from test_cli import call, prepared
from test_intervals import fitted_and_scored

from lmstages.core import artifacts
from lmstages.evaluation import score_files
from lmstages.evaluation.score_files import Scores
from lmstages.results import diff, frame


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two models, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("changes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run, names = prepared(folder)
        for model in ("bigram", "mlp"):
            fitted_and_scored(names, run, model, 0)
        experiments = [["names", "char", model, [0]] for model in ("bigram", "mlp")]
        section = json.loads(run.summary_section()) | {"experiments": experiments, "analyses": False}
        summarize("results", section)
        return folder / "results", section


def summarize(results, section):
    assert call("summarize", "--out", results, "--section", json.dumps(section)) == 0


@pytest.fixture
def other(finished, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(finished[0], tmp_path / "other")


def made_worse(run, section, bits):
    """The bigram's scores of a run, every byte ``bits`` dearer, and its results anew."""
    path = run / "names/char/bigram/seed0/scores.safetensors"
    scores = score_files.load_scores(path)["test"]
    dearer = scores.log_probs - scores.lengths * bits * np.log(2)
    rest = (scores.lengths, scores.documents, scores.characters, scores.protocol)
    score_files.save_scores(path, {"test": Scores(dearer, *rest)}, {})
    summarize(run, section)


def test_a_run_beside_itself_differs_by_nothing(finished):
    changes = diff.between([finished[0], finished[0]])
    assert [change.model for change in changes] == ["bigram", "mlp"]
    for change in changes:
        assert (change.state, change.same_text, change.changed) == ("both", True, "")
        assert change.difference == change.low == change.high == 0 and change.p == change.p_holm == 1


def test_a_row_that_is_dearer_everywhere_is_dearer_by_that_and_surely(finished, other):
    made_worse(other, finished[1], 0.25)
    bigram, mlp = diff.between([finished[0], other])
    assert bigram.difference == pytest.approx(0.25, abs=1e-5)
    assert [bigram.low, bigram.high] == pytest.approx([0.25, 0.25], abs=1e-5) and bigram.p_holm < 0.05
    assert mlp.difference == 0


def test_the_difference_is_that_of_the_later_run_less_the_first(finished, other):
    made_worse(other, finished[1], 0.25)
    assert diff.between([other, finished[0]])[0].difference == pytest.approx(-0.25, abs=1e-5)


def test_three_runs_are_the_first_against_each_of_the_others(finished, other):
    made_worse(other, finished[1], 0.25)
    changes = diff.between([finished[0], finished[0], other])
    assert [change.run for change in changes] == [str(finished[0])] * 2 + [str(other)] * 2
    assert changes[0].difference == 0 and changes[2].difference == pytest.approx(0.25, abs=1e-5)
    assert changes[2].p_holm >= changes[2].p


def test_two_infinite_rows_have_no_difference_and_one_has_an_infinite_one(finished, other):
    made_worse(other, finished[1], math.inf)
    [beside_itself, _], [bigram, _] = diff.between([other, other]), diff.between([finished[0], other])
    assert beside_itself.before == beside_itself.after == math.inf
    assert beside_itself.difference is beside_itself.low is beside_itself.p is None
    assert bigram.difference == math.inf and bigram.low is bigram.p is None
    assert "nan" not in diff.terminal(other, [beside_itself, bigram]).lower()


def test_rows_of_another_text_are_not_paired(finished, other):
    path = other / "names/text/test.txt"
    artifacts.save_bytes(path, path.read_bytes()[::-1], {})
    changes = diff.between([finished[0], other])
    assert all(change.same_text is False and change.difference is change.low is None for change in changes)
    assert "another text: not paired" in diff.terminal(finished[0], changes)
    assert "2 on another text, which cannot be paired" in diff.summary(changes)


def test_rows_that_only_one_run_has_are_listed(finished, other):
    summarize(other, finished[1] | {"experiments": finished[1]["experiments"][:1]})
    states = {change.model: change.state for change in diff.between([finished[0], other])}
    assert states == {"bigram": "both", "mlp": "only before"}
    assert diff.between([other, finished[0]])[1].state == "only after"


def test_changed_hyperparameters_are_listed(finished, other):
    rows = frame.Results.open(other).rows
    rows[1].hyperparameters = rows[1].hyperparameters.replace('"hidden": 8', '"hidden": 9')
    frame.write(other, "results", frame.frame("results", rows), {})
    assert diff.between([finished[0], other])[1].changed == "hidden: 9, was 8"


def test_the_command_prints_and_writes(finished, other, capsys):
    made_worse(other, finished[1], 0.25)
    assert call("diff", finished[0], other) == 0
    printed = capsys.readouterr().out
    assert "+0.2500" in printed and "worse: 1" in printed
    written = other / "diff/results"
    assert pd.read_csv(written / "changes.csv")["difference"][0] == pytest.approx(0.25, abs=1e-5)
    assert "| names, test | char     | bigram  |" in (written / "changes.md").read_text()


def test_a_folder_that_is_not_there_is_one_clear_error(finished, capsys, monkeypatch):
    monkeypatch.chdir(finished[0].parent)
    assert call("diff", "results", "result") == 1
    error = capsys.readouterr().err
    assert "result: no such folder (did you mean 'results'?)" in error and "Traceback" not in error


def test_a_folder_without_a_finished_run_is_one_clear_error(finished, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert call("diff", tmp_path / "empty", finished[0]) == 1
    assert "no finished run lies here; a finished run's folder is results/RUN" in capsys.readouterr().err


def test_one_run_alone_is_one_clear_error(finished, capsys):
    assert call("diff", finished[0]) == 1
    assert "diff: one run found; give two or more" in capsys.readouterr().err


def test_commands_to_a_terminal_are_shown_and_not_obeyed(finished, other):
    changes = diff.between([finished[0], other])
    changes[0].model, changes[0].changed = "\x1b[31m|x", "a: \x1b[0m, was b"
    assert "\x1b" not in diff.terminal(finished[0], changes) + diff.markdown(finished[0], changes)
    assert r"\\x1b\[31m\|x" in diff.markdown(finished[0], changes)
