"""Infilling: probabilities of what a gap holds, given both sides, by every method; the oracle; bad input."""

from itertools import product

import numpy as np
import pytest

from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.evaluation import fillers
from lmstages.evaluation.fillers import BayesFiller, ChainFiller, Gaps, LatticeFiller, TooMany, filler_of, left_only
from lmstages.models.automata import ContextAutomaton, HistoryAutomaton, automaton_of
from lmstages.models.base import build

V = 5
STATIC = {
    "uniform": {},
    "bigram": {},
    "ngram": {"order": 3, "add": 0.3},
    "kneser_ney": {"order": 4},
    "padded": {"order": 4, "padded": True},
    "witten_bell": {"order": 3, "smoothing": "witten_bell"},
    "ppm": {"order": 3},
}
TYPES = {"padded": "kneser_ney", "witten_bell": "ngram"}


def text(seed, rows=8, length=14):
    """Documents in which tokens often repeat what stood two before, so that the right side says something."""
    draws, documents = np.random.default_rng(seed), []
    for _ in range(rows):
        row = draws.integers(1, V, 2).tolist()
        while len(row) < length:
            row.append(row[-2] if draws.random() < 0.7 else int(draws.integers(1, V)))
        documents.append([*row, 0])
    return Documents.of(documents)


def fitted(name):
    model = build(MODEL_TYPES[TYPES.get(name, name)](**STATIC[name]), V)
    model.fit(text(0), text(1), 0)
    return model


def gaps(length, left=6, right=5, count=3, seed=2):
    rows = np.array([text(seed, 1, left + length + right).tokens[:-1] for seed in range(seed, seed + count)], np.int64)
    return Gaps(rows[:, :left], rows[:, left : left + length], rows[:, left + length :])


def every(length, first):
    return np.array(list(product(range(first, V), repeat=length)))


def brute_force(model, gap, first):
    """nats of every gap: the whole row scored with each of them, over the sum of all."""
    left, middle, right = (side[0] for side in gap)
    candidates = every(len(middle), first)
    rows = np.array([[*left, *candidate, *right] for candidate in candidates])
    joint = model.score(rows)[:, len(left) :].sum(1)
    return candidates, joint - np.logaddexp.reduce(joint)


def one(gaps, index):
    return Gaps(*(side[index : index + 1] for side in gaps))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("name", STATIC)
def test_a_fill_is_that_of_brute_force_over_all_gaps(name, length, first):
    model = fitted(name)
    filler, some = filler_of(model, first), gaps(length)
    fills = filler.fill(some)
    for index in range(len(some.middle)):
        candidates, log_probs = brute_force(model, one(some, index), first)
        truth = (candidates == some.middle[index]).all(1)
        assert fills.log_probs[index].sum() == pytest.approx(log_probs[truth][0], abs=1e-9)
        assert fills.best_log_probs[index] == pytest.approx(log_probs.max(), abs=1e-9)
        assert log_probs[(candidates == fills.best[index]).all(1)][0] == pytest.approx(log_probs.max(), abs=1e-9)


@pytest.mark.parametrize("left", [0, 1, 3])
@pytest.mark.parametrize("name", ["bigram", "ngram", "kneser_ney", "padded"])
def test_short_sides_are_read_as_the_model_reads_them(name, left):
    model, gap = fitted(name), gaps(2, left=left, right=1, count=1)
    candidates, log_probs = brute_force(model, gap, 1)
    truth = log_probs[(candidates == gap.middle[0]).all(1)][0]
    assert filler_of(model, 1).fill(gap).log_probs.sum() == pytest.approx(truth, abs=1e-9)


def fillers_of(name, first):
    model = fitted(name)
    yield BayesFiller.of(model, first)
    yield left_only(model, first)
    if (automaton := automaton_of(model)) is not None:
        yield LatticeFiller(automaton, first)
    yield ChainFiller("own", Copier().fill_log_probs, first)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", STATIC)
def test_the_probabilities_of_all_gaps_sum_to_one(name, first):
    gap, middles = gaps(2, count=1), every(2, first)
    for filler in fillers_of(name, first):
        tiled = Gaps(*(np.tile(side, (len(middles), 1)) for side in gap))._replace(middle=middles)
        assert np.exp(filler.fill(tiled).log_probs.sum(1)).sum() == pytest.approx(1, abs=1e-9), filler.method


@pytest.mark.parametrize("name", STATIC)
def test_what_is_hidden_does_not_change_the_fill(name):
    some = gaps(3)
    other = some._replace(middle=some.middle % (V - 1) + 1)
    for filler in fillers_of(name, 1):
        assert (filler.fill(some).best == filler.fill(other).best).all(), filler.method
        assert (filler.fill(some).best_log_probs == filler.fill(other).best_log_probs).all(), filler.method


def test_the_right_side_counts():
    model, some = fitted("kneser_ney"), gaps(2, count=40)
    assert filler_of(model, 1).fill(some).log_probs.sum() > left_only(model, 1).fill(some).log_probs.sum()


def test_a_token_between_two_by_hand():
    """Bigrams after ab, ac, bd, cb: p(b | a _ d) = p(b|a) p(d|b) over the same for every letter."""
    model = build(MODEL_TYPES["bigram"](add=1.0, padded=False), 5)
    model.fit(Documents.of([[1, 2], [1, 3], [2, 4], [3, 2]]), Documents.of([[1]]), 0)
    after_a = np.array([1, 1, 2, 2, 1]) / 7  # of nothing, a, b, c, d: a was followed by b and by c
    then_d = np.array([1 / 5, 1 / 7, 2 / 6, 1 / 6, 1 / 5])  # d after each of them
    joint = after_a * then_d
    gap = Gaps(np.array([[1]]), np.array([[2]]), np.array([[4]]))
    fills = filler_of(model, 0).fill(gap)
    assert np.exp(fills.log_probs[0, 0]) == pytest.approx(joint[2] / joint.sum())
    assert fills.best.tolist() == [[2]]


def test_candidates_are_the_likeliest_gaps_in_order():
    for name in ("kneser_ney", "ppm"):
        model, gap = fitted(name), gaps(2, count=1)
        _, log_probs = brute_force(model, gap, 1)
        found = filler_of(model, 1).candidates(gap.left[0], gap.right[0], 2, 7)
        assert [candidate.log_prob for candidate in found] == pytest.approx(np.sort(log_probs)[::-1][:7], abs=1e-9)


class Copier:
    """Fills a gap with what stands right of it, most of the time; it never sees what is hidden."""

    def fill_log_probs(self, left, filled, right, hidden):
        assert hidden >= 1 and len(left) == len(filled) == len(right)
        probabilities = np.full((len(left), V), 0.1)
        probabilities[np.arange(len(left)), right[:, min(filled.shape[1], right.shape[1] - 1)]] = 0.6
        return np.log(probabilities)


def test_a_model_that_fills_by_itself_is_asked_token_by_token():
    some = gaps(3)
    fills = ChainFiller("own", Copier().fill_log_probs, 0).fill(some)
    assert (fills.best == some.right[:, :3]).all()
    assert fills.best_log_probs == pytest.approx(np.full(3, 3 * np.log(0.6)))
    [best] = ChainFiller("own", Copier().fill_log_probs, 0).candidates(some.left[0], some.right[0], 3, 1)
    assert best.tokens.tolist() == some.right[0, :3].tolist()


def test_bayes_refuses_too_many_rows():
    model = fitted("ppm")
    message = "length 3: Bayes' rule would score 192 rows; at most 100; shorter gaps, or fewer places"
    with pytest.raises(TooMany, match=message):
        BayesFiller.of(model, 1, 100).fill(gaps(3))


def test_a_lattice_refuses_more_contexts_than_memory_holds(monkeypatch):
    monkeypatch.setattr("lmstages.models.automata.MOST_ENTRIES", 20)
    filler = filler_of(fitted("kneser_ney"), 1)
    filler.fill(gaps(1))
    with pytest.raises(TooMany, match="length 4: the gap leads to .* contexts and more; shorter gaps"):
        filler.fill(gaps(4))


@pytest.mark.parametrize("name", ["kneser_ney", "ngram"])
def test_rows_without_a_table_are_those_of_the_table(name, monkeypatch):
    filled = filler_of(fitted(name), 1).fill(gaps(1))
    monkeypatch.setattr("lmstages.models.automata.MOST_ENTRIES", 30)
    again = filler_of(fitted(name), 1)
    assert again.automaton.table is None
    assert again.fill(gaps(1)).log_probs == pytest.approx(filled.log_probs)


def test_what_learns_while_it_scores_fills_nothing():
    model = build(MODEL_TYPES["ppm"](order=2, online=True), V)
    assert filler_of(model, 1) is None


def test_states_are_contexts_or_histories():
    assert isinstance(automaton_of(fitted("kneser_ney")), ContextAutomaton)
    assert isinstance(automaton_of(fitted("bigram")), HistoryAutomaton)
    assert automaton_of(fitted("ppm")) is not None
    assert fillers.BayesFiller.of(fitted("ppm"), 1).reads == 3
