"""What others printed gets a verdict, whatever became of it here."""

from pathlib import Path

import pytest

from lmstages.config.reading import read_run
from lmstages.results.published import set_beside, verdict

FIGURE = {
    **{"corpus": "names", "tokenizer": None, "model": "bigram", "split": "test", "measure": "perplexity"},
    **{"value": 12.0, "tolerance": 0.1, "source": "003", "claim": None, "setup": None, "because": None},
    "impossible": False,
}
CLAIM = (
    FIGURE | dict.fromkeys(("corpus", "model", "split", "measure", "value", "tolerance")) | {"claim": "65B on a CPU"}
)


def row(**changed):
    return {"corpus": "names", "tokenizer": "char", "model": "bigram", "split": "test", "perplexity": 12.05, **changed}


@pytest.mark.parametrize(
    ("changed", "ours", "told"),
    [
        ({}, 12.1, "reproduced"),
        ({}, 11.9, "reproduced"),
        ({}, 11.8, "better"),
        ({}, 12.2, "differs"),
        ({}, None, "not run"),
        ({"measure": "parameters"}, 11.0, "differs"),
        ({"impossible": True}, 12.0, "impossible as published"),
        ({"impossible": True}, None, "impossible as published"),
    ],
)
def test_a_figure_gets_one_verdict(changed, ours, told):
    assert verdict(FIGURE | changed, ours) == told


def test_a_figure_stands_in_the_list_and_beside_its_row():
    rows = [row(), row(split="valid"), row(model="mlp")]
    told = set_beside(rows, [FIGURE])
    assert told == rows[0]["published"] == [FIGURE | {"tokenizer": "char", "ours": 12.05, "verdict": "reproduced"}]
    assert rows[1]["published"] == rows[2]["published"] == []


def test_a_figure_without_a_tokenizer_concerns_all_of_them():
    rows = [row(), row(tokenizer="bpe", perplexity=30.0)]
    assert [each["verdict"] for each in set_beside(rows, [FIGURE])] == ["reproduced", "differs"]
    assert [each["tokenizer"] for each in set_beside(rows, [FIGURE | {"tokenizer": "bpe"}])] == ["bpe"]


def test_what_was_not_run_is_not_lost():
    rows = [row()]
    told = set_beside(rows, [FIGURE | {"model": "gpt"}, CLAIM, CLAIM | {"impossible": True}])
    assert [each["verdict"] for each in told] == ["not run", "not run", "impossible as published"]
    assert rows[0]["published"] == [] and all(each["ours"] is None for each in told)


def test_a_model_that_failed_was_not_run():
    assert [each["verdict"] for each in set_beside([row(perplexity=None)], [FIGURE])] == ["not run"]


RUNS = sorted(Path(__file__).resolve().parents[1].joinpath("runs").glob("*.yaml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_what_is_impossible_or_was_not_run_has_its_reason(path):
    for figure in read_run(path).published:
        assert figure.because or not (figure.impossible or figure.claim)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_published_figure_stands_beside_a_cell(path):
    run = read_run(path)
    cells = {(corpus, model) for corpus, _, model, _ in run.experiments()}
    assert all((figure.corpus, figure.model) in cells for figure in run.published if figure.model)
