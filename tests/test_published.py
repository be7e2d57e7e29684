"""What others printed gets a verdict, whatever became of it here."""

from pathlib import Path

import pytest
import yaml
from typed_rows import result

from lmstages.config.reading import read_run
from lmstages.results.published import set_beside, verdict
from lmstages.results.schema import PublishedFigure

FIGURE = {
    **{"corpus": "names", "tokenizer": None, "model": "bigram", "split": "test", "measure": "perplexity"},
    **{"value": 12.0, "tolerance": 0.1, "source": "003", "claim": None, "setup": None, "because": None},
    "impossible": False,
}
CLAIM = (
    FIGURE | dict.fromkeys(("corpus", "model", "split", "measure", "value", "tolerance")) | {"claim": "65B on a CPU"}
)


def row(**changed):
    return result(corpus="names", **{"perplexity": 12.05, **changed})


@pytest.mark.parametrize(
    ("changed", "ours", "expected"),
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
def test_a_figure_gets_one_verdict(changed, ours, expected):
    assert verdict(FIGURE | changed, ours) == expected


def beside(rows, *published):
    return list(set_beside(rows, published))


def test_a_figure_stands_beside_the_one_row_it_concerns():
    rows = [row(), row(split="valid"), row(model="mlp")]
    assert beside(rows, FIGURE) == [
        PublishedFigure(**FIGURE | {"tokenizer": "char"}, ours=12.05, verdict="reproduced"),
    ]


def test_a_figure_without_a_tokenizer_concerns_all_of_them():
    rows = [row(), row(tokenizer="bpe", perplexity=30.0)]
    assert [figure.verdict for figure in beside(rows, FIGURE)] == ["reproduced", "differs"]
    assert [figure.tokenizer for figure in beside(rows, FIGURE | {"tokenizer": "bpe"})] == ["bpe"]


def test_what_was_not_run_is_not_lost():
    figures = beside([row()], FIGURE | {"model": "gpt"}, CLAIM, CLAIM | {"impossible": True})
    assert [figure.verdict for figure in figures] == ["not run", "not run", "impossible as published"]
    assert all(figure.ours is None for figure in figures)


def test_a_model_that_failed_was_not_run():
    assert [figure.verdict for figure in beside([row(perplexity=None)], FIGURE)] == ["not run"]


RUNS = Path(__file__).resolve().parents[1] / "runs"
COMPARED = sorted(path.stem for path in RUNS.glob("*.yaml") if yaml.safe_load(path.read_text("utf-8")).get("published"))


def test_these_runs_have_published_figures_the_others_are_in_test_runs():
    assert {"gpu", "lecture", "published", "strongest"} <= set(COMPARED)


@pytest.mark.parametrize("name", COMPARED)
def test_what_is_impossible_or_was_not_run_has_its_reason(name):
    figures = read_run(RUNS / f"{name}.yaml").published
    assert figures and all(figure.because or not (figure.impossible or figure.claim) for figure in figures)


@pytest.mark.parametrize("name", COMPARED)
def test_every_published_figure_has_an_experiment_to_stand_beside(name):
    run = read_run(RUNS / f"{name}.yaml")
    experiments = {(corpus, model) for corpus, _, model, _ in run.experiments()}
    figures = [figure for figure in run.published if figure.model]
    assert figures and all((figure.corpus, figure.model) in experiments for figure in figures)
