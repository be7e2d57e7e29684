"""Samples follow the probabilities of the model, and the same seed gives the same samples."""

import numpy as np
import pytest
from scipy.stats import chisquare

from lmstages.config.hyperparameters.counts import Bigram, Unigram
from lmstages.core.documents import Documents
from lmstages.evaluation.sampling import filter_logits, sample
from lmstages.models.base import build

V = 5
LOGS = np.log(np.array([[0.1, 0.4, 0.2, 0.2, 0.1]]))


@pytest.fixture(scope="module")
def bigram():
    model = build(Bigram(add=0.1), V)
    rows = [[*row, 0] for row in np.random.default_rng(0).integers(1, V, (60, 6)).tolist()]
    model.fit(Documents.of(rows), Documents.of(rows), 0)
    return model


@pytest.fixture(scope="module")
def unigram():
    """p = 0.1, 0.2, 0.3, 0.4 and no fifth token."""
    model = build(Unigram(add=0.0), V)
    tokens = Documents.single(np.repeat([0, 1, 2, 3], [10, 20, 30, 40]))
    model.fit(tokens, tokens, 0)
    return model


def lists(rows):
    return [row.tolist() for row in rows]


def greedy(model, length, prompt=()):
    row = list(prompt)
    for _ in range(length):
        row.append(int(model.next_log_probs(np.array([row], dtype=np.int64)).argmax()))
    return row


# What is left of the probabilities


def test_nothing_is_filtered_by_default():
    assert np.allclose(filter_logits(LOGS, 1.0, None, 1.0), np.exp(LOGS))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((1.0, 1, 1.0), [0, 1, 0, 0, 0]),
        ((1.0, 2, 1.0), [0, 2 / 3, 1 / 3, 0, 0]),
        ((1.0, 99, 1.0), [0.1, 0.4, 0.2, 0.2, 0.1]),
        ((1.0, None, 1e-9), [0, 1, 0, 0, 0]),
        ((1.0, None, 0.5), [0, 2 / 3, 1 / 3, 0, 0]),
        ((1e-9, None, 1.0), [0, 1, 0, 0, 0]),
        ((1e-320, None, 1.0), [0, 1, 0, 0, 0]),
        ((0.5, None, 1.0), [1 / 26, 16 / 26, 4 / 26, 4 / 26, 1 / 26]),
        ((100.0, None, 1.0), [0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
)
def test_probabilities_are_filtered_as_defined(settings, expected):
    assert np.allclose(filter_logits(LOGS, *settings), [expected], atol=0.01)


@pytest.mark.parametrize("temperature", [1e-320, 1e-3, 1.0, 100.0])
def test_what_is_impossible_stays_impossible(temperature):
    with np.errstate(divide="ignore"):
        logs = np.log(np.array([[0.0, 0.5, 0.5]]))
    assert np.allclose(filter_logits(logs, temperature, None, 1.0), [[0, 0.5, 0.5]])


def test_every_row_is_filtered_independently():
    rows = np.log(np.random.default_rng(0).dirichlet(np.ones(V), 7))
    together = filter_logits(rows, 0.7, 3, 0.8)
    assert np.allclose(together, np.concatenate([filter_logits(row[None], 0.7, 3, 0.8) for row in rows]))
    assert np.allclose(together.sum(-1), 1) and ((together > 0).sum(-1) <= 3).all()


# What is drawn


def test_the_same_seed_draws_the_same_and_another_does_not(bigram):
    first, second, other = (sample(bigram, 4, 30, seed, stop_at_boundary=False) for seed in (3, 3, 4))
    assert lists(first) == lists(second) != lists(other)


def test_rows_differ(bigram):
    assert len({tuple(row.tolist()) for row in sample(bigram, 8, 20, 0, stop_at_boundary=False)}) == 8


@pytest.mark.parametrize("settings", [{"temperature": 1e-320}, {"top_k": 1}, {"top_p": 1e-9}])
def test_filtered_to_one_token_it_is_greedy(bigram, settings):
    rows = sample(bigram, 3, 12, 0, stop_at_boundary=False, **settings)
    assert lists(rows) == [greedy(bigram, 12)] * 3


def test_frequencies_are_the_probabilities(unigram):
    drawn = np.concatenate(sample(unigram, 100, 100, 0, stop_at_boundary=False))
    counts = np.bincount(drawn, minlength=V)
    assert counts[4] == 0 and chisquare(counts[:4], 10000 * np.array([0.1, 0.2, 0.3, 0.4])).pvalue > 0.01


def test_lengths_follow_the_probability_of_the_boundary(unigram):
    lengths = np.array([len(row) for row in sample(unigram, 4000, 100, 1)])
    counts = [(lengths == 0).sum(), (lengths == 1).sum(), (lengths > 1).sum()]
    assert chisquare(counts, 4000 * np.array([0.1, 0.09, 0.81])).pvalue > 0.01


def test_a_prompt_is_kept_and_continued(bigram):
    prompt = np.array([2, 0, 3])
    rows = sample(bigram, 5, 4, 0, prompt)
    assert all(row[:3].tolist() == [2, 0, 3] and 0 not in row[3:] and len(row) <= 7 for row in rows)
    assert lists(sample(bigram, 1, 4, 0, prompt, top_k=1, stop_at_boundary=False)) == [greedy(bigram, 4, [2, 0, 3])]


def test_a_sample_stops_before_the_boundary(bigram):
    whole = sample(bigram, 20, 40, 0, stop_at_boundary=False)
    until = sample(bigram, 20, 40, 0)
    for row, stopped in zip(whole, until, strict=True):
        ends = np.flatnonzero(row == 0)
        assert stopped.tolist() == row[: ends[0] if len(ends) else None].tolist()
    assert any(len(row) < 40 for row in until)


def test_a_stream_has_its_full_length(bigram):
    assert {len(row) for row in sample(bigram, 20, 40, 0, stop_at_boundary=False)} == {40}


def test_no_samples_and_no_length_give_empty_results(bigram):
    assert lists(sample(bigram, 2, 0, 0)) == [[], []] and sample(bigram, 0, 5, 0) == []
