"""Infilling: probabilities of what a gap holds, given both sides, by every method; the oracle; bad input."""

import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
import yaml

import lmstages
from lmstages.cli import main
from lmstages.config.ladder import MODEL_TYPES
from lmstages.core import progress
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.corpora.grammar import Grammar
from lmstages.evaluation import any_length, fillers, infilling
from lmstages.evaluation.any_length import LatticeAnyLength, OwnAnyLength
from lmstages.evaluation.continuations import MixedModels, OfModel, continuations_of
from lmstages.evaluation.fillers import (
    BayesFiller,
    ChainFiller,
    Gaps,
    LatticeFiller,
    TooLongError,
    filler_of,
    left_only,
)
from lmstages.evaluation.infilling import CannotFillError, Places
from lmstages.models.automata import ContextAutomaton, HistoryAutomaton, automaton_of
from lmstages.models.base import build
from lmstages.report.gaps import gaps
from lmstages.results.infilling import Infilled
from lmstages.tokenizers import ByteTokenizer, CharTokenizer

PROJECT = Path(__file__).parents[1]
V = 5
STATIC = {
    "uniform": {},
    "bigram": {},
    "ngram": {"order": 3, "add": 0.3},
    "kneser_ney": {"order": 4},
    "padded": {"order": 4, "padded": True},
    "witten_bell": {"order": 3, "smoothing": "witten_bell"},
    "ppm": {"order": 8},
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


def some_gaps(length, left=6, right=5, count=3, seed=2):
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
    filler, some = filler_of(model, first), some_gaps(length)
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
    model, gap = fitted(name), some_gaps(2, left=left, right=1, count=1)
    candidates, log_probs = brute_force(model, gap, 1)
    truth = log_probs[(candidates == gap.middle[0]).all(1)][0]
    assert filler_of(model, 1).fill(gap).log_probs.sum() == pytest.approx(truth, abs=1e-9)


def fillers_of(name, first):
    model = fitted(name)
    yield BayesFiller(OfModel(model), first)
    yield left_only(OfModel(model), first)
    if (automaton := automaton_of(model)) is not None:
        yield LatticeFiller(automaton, first)
    yield ChainFiller("own", Copier().fill_log_probs, first)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", STATIC)
def test_the_probabilities_of_all_gaps_sum_to_one(name, first):
    gap, middles = some_gaps(2, count=1), every(2, first)
    for filler in fillers_of(name, first):
        tiled = Gaps(*(np.tile(side, (len(middles), 1)) for side in gap))._replace(middle=middles)
        assert np.exp(filler.fill(tiled).log_probs.sum(1)).sum() == pytest.approx(1, abs=1e-9), filler.method


@pytest.mark.parametrize("name", STATIC)
def test_what_is_hidden_does_not_change_the_fill(name):
    some = some_gaps(3)
    other = some._replace(middle=some.middle % (V - 1) + 1)
    for filler in fillers_of(name, 1):
        assert (filler.fill(some).best == filler.fill(other).best).all(), filler.method
        assert (filler.fill(some).best_log_probs == filler.fill(other).best_log_probs).all(), filler.method


def test_the_right_side_counts():
    model, some = fitted("kneser_ney"), some_gaps(2, count=40)
    assert filler_of(model, 1).fill(some).log_probs.sum() > left_only(OfModel(model), 1).fill(some).log_probs.sum()


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
        model, gap = fitted(name), some_gaps(2, count=1)
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
    some = some_gaps(3)
    fills = ChainFiller("own", Copier().fill_log_probs, 0).fill(some)
    assert (fills.best == some.right[:, :3]).all()
    assert fills.best_log_probs == pytest.approx(np.full(3, 3 * np.log(0.6)))
    [best] = ChainFiller("own", Copier().fill_log_probs, 0).candidates(some.left[0], some.right[0], 3, 1)
    assert best.tokens.tolist() == some.right[0, :3].tolist()


# A length that is not told


class Ender:
    """Ends a gap with a probability that depends on what it holds, and copies the right side otherwise."""

    def fill_or_end_log_probs(self, left, filled, right, longest):
        end = 0.2 + 0.1 * (filled.sum(1) % 4)
        tokens = np.exp(Copier().fill_log_probs(left, filled, right, 1))
        return np.log(np.column_stack([tokens * ((1 - end) / tokens.sum(1))[:, None], end]))


@pytest.fixture
def at_most_three(monkeypatch):
    monkeypatch.setattr(any_length, "LONGEST", 3)


def of_any_length(model, left, right, first):
    """Every gap of 1 to 3 tokens and its nats: whole rows scored, over the sum of all."""
    gaps = [gap for length in (1, 2, 3) for gap in every(length, first)]
    joint = [model.score(np.array([[*left, *gap, *right]]))[0, len(left) :].sum() for gap in gaps]
    return gaps, np.array(joint) - np.logaddexp.reduce(joint)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["uniform", "bigram", "ngram", "kneser_ney", "padded"])
def test_a_fill_whose_length_is_not_told_is_that_of_brute_force_over_all_lengths(name, first, at_most_three):
    model = fitted(name)
    filler = LatticeAnyLength(filler_of(model, first))
    for length in (1, 2, 3):
        some = some_gaps(length, count=1)
        gaps, log_probs = of_any_length(model, some.left[0], some.right[0], first)
        truth = next(nats for gap, nats in zip(gaps, log_probs, strict=True) if gap.tolist() == some.middle[0].tolist())
        fills = filler.fill(some)
        assert fills.log_probs.shape == (1, length) and fills.log_probs.sum() == pytest.approx(truth, abs=1e-9)
        assert fills.best_log_probs[0] == pytest.approx(log_probs.max(), abs=1e-9)
        likeliest = filler.candidates(some.left[0], some.right[0], 3)
        assert sum(np.exp(fill.length_log_prob) for fill in likeliest) == pytest.approx(1)


def test_one_pass_finds_the_evidence_of_every_length():
    filler = filler_of(fitted("kneser_ney"), 1)
    [left], _, [right] = some_gaps(1, count=1)
    each = np.array([filler.messages(left, right, length).evidence for length in range(1, any_length.LONGEST + 1)])
    assert np.allclose(LatticeAnyLength(filler).lengths(left, right)[0], each - np.logaddexp.reduce(each), atol=1e-12)


@pytest.mark.parametrize("first", [0, 1])
def test_the_probabilities_of_all_gaps_that_a_model_ends_by_itself_sum_to_one(first, at_most_three):
    filler, total = OwnAnyLength(Ender().fill_or_end_log_probs, first), 0.0
    for length in (1, 2, 3):
        gaps = every(length, first)
        left, right = (np.tile(side[:1], (len(gaps), 1)) for side in some_gaps(1)[::2])
        total += np.exp(filler.fill(Gaps(left, gaps, right)).log_probs.sum(1)).sum()
    assert total == pytest.approx(1)


def test_a_beam_that_is_wide_enough_finds_the_likeliest_gaps_of_all_lengths(at_most_three):
    filler, [left], [right] = OwnAnyLength(Ender().fill_or_end_log_probs, 1), *some_gaps(1, count=1)[::2]
    nats = {}
    for length in (1, 2, 3):
        gaps = every(length, 1)
        fills = filler.fill(
            Gaps(*(np.tile(side, (len(gaps), 1)) if side is not gaps else gaps for side in (left, gaps, right)))
        )
        nats |= {tuple(gap): value for gap, value in zip(gaps.tolist(), fills.log_probs.sum(1).tolist(), strict=True)}
    found = [fill.candidate for fill in filler.candidates(left, right, 100)[:5]]
    assert [fill.log_prob for fill in found] == pytest.approx(sorted(nats.values(), reverse=True)[:5])
    assert [nats[tuple(fill.tokens.tolist())] for fill in found] == pytest.approx([fill.log_prob for fill in found])


def test_a_gap_longer_than_the_longest_is_refused_where_its_length_is_not_told():
    with pytest.raises(TooLongError, match="length 17: a gap of 17 tokens whose length is not told; at most 16"):
        LatticeAnyLength(filler_of(fitted("bigram"), 1)).must_be_few(1, 17)


# Mixtures


def mixture(*names, weights=(0.3, 0.7)):
    return MixedModels("mixed", {name: fitted(name) for name in names}, np.array(weights))


class Mixed:
    """The mixture as one model that scores rows, for brute force."""

    def __init__(self, mixture):
        self.mixture = mixture

    def score(self, rows):
        parts = zip(self.mixture.weights, self.mixture.models.values(), strict=True)
        return np.log(sum(weight * np.exp(model.score(rows)) for weight, model in parts))


@pytest.mark.parametrize("names", [("kneser_ney", "ppm"), ("bigram", "uniform"), ("padded", "ngram")])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_mixture_fills_as_brute_force_over_its_own_probabilities(names, length):
    mixed, some = mixture(*names), some_gaps(length)
    filler = filler_of(mixed, 1)
    fills = filler.fill(some)
    assert filler.method == "bayes"
    for index in range(len(some.middle)):
        candidates, log_probs = brute_force(Mixed(mixed), one(some, index), 1)
        truth = (candidates == some.middle[index]).all(1)
        assert fills.log_probs[index].sum() == pytest.approx(log_probs[truth][0], abs=1e-9)
        assert fills.best_log_probs[index] == pytest.approx(log_probs.max(), abs=1e-9)


def test_a_mixture_fills_neither_as_its_models_do_nor_as_the_mean_of_their_fills():
    mixed, some = mixture("kneser_ney", "ppm"), some_gaps(2, count=1)
    nats = filler_of(mixed, 1).fill(some).log_probs.sum()
    alone = [filler_of(model, 1).fill(some).log_probs.sum() for model in mixed.models.values()]
    assert all(abs(nats - one) > 1e-3 for one in [*alone, np.log(mixed.weights @ np.exp(alone))])


def test_the_left_alone_of_a_mixture_is_the_mean_of_its_models():
    mixed, some = mixture("kneser_ney", "ppm"), some_gaps(1)
    rows = np.hstack([some.left, some.middle])
    wanted = Mixed(mixed).score(rows)[:, -1]
    assert left_only(continuations_of(mixed), 0).fill(some).log_probs[:, 0] == pytest.approx(wanted)


def test_a_mixture_of_what_learns_while_it_scores_fills_nothing():
    online = build(MODEL_TYPES["ppm"](order=2, online=True), V)
    mixed = MixedModels("mixed", {"online": online, "bigram": fitted("bigram")}, np.array([0.5, 0.5]))
    with pytest.raises(CannotFillError, match=r"mixed: learns from the text that it scores"):
        infilling.filler_for(mixed, CharTokenizer(list("\nabcd"), None), 1, 100)


@pytest.mark.parametrize("name", ["bigram", "kneser_ney", "ppm"])
def test_what_no_fill_reaches_is_scored_once_and_equal(name):
    model, [left], tails = fitted(name), some_gaps(1, left=12).left[:1], every(2, 0)
    tails = np.hstack([tails, np.tile(text(9, 1, 12).tokens[:12], (len(tails), 1))])
    wanted = model.score(np.hstack([np.tile(left, (len(tails), 1)), tails]))[:, len(left) :]
    assert OfModel(model).score(left, tails, 2) == pytest.approx(wanted, abs=1e-12)


def test_fewer_characters_of_the_right_side_are_another_filler_that_sums_to_one():
    model, gap, middles = fitted("ppm"), some_gaps(2, count=1), every(2, 1)
    tiled = Gaps(*(np.tile(side, (len(middles), 1)) for side in gap))._replace(middle=middles)
    filler, all_of_it = filler_of(model, 1, 10**6, 1), filler_of(model, 1, 10**6)
    assert (filler.reads, all_of_it.reads) == (1, 8)
    assert np.exp(filler.fill(tiled).log_probs.sum(1)).sum() == pytest.approx(1, abs=1e-9)
    assert (filler.fill(tiled).log_probs != all_of_it.fill(tiled).log_probs).any()
    shorter = tiled._replace(right=tiled.right[:, :1])
    assert filler.fill(tiled).log_probs == pytest.approx(all_of_it.fill(shorter).log_probs, abs=1e-12)


def test_a_long_filling_says_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level("INFO", logger="lmstages"):
        filler_of(fitted("ppm"), 1).fill(some_gaps(2))
    lines = [line for line in caplog.messages if line.startswith("gap")]
    assert len(lines) == 3 and re.match(r"gap of 2 tokens 1/3  [\d,]+ rows/s  \d+:\d\d left", lines[0])


def test_bayes_refuses_too_many_rows():
    model = fitted("ppm")
    message = "length 3: Bayes' rule would score 192 rows; at most 100; shorter gaps, or fewer places"
    with pytest.raises(TooLongError, match=message):
        BayesFiller(OfModel(model), 1, 100).fill(some_gaps(3))


def test_a_lattice_refuses_more_contexts_than_memory_holds(monkeypatch):
    monkeypatch.setattr("lmstages.models.automata.MOST_ENTRIES", 20)
    filler = filler_of(fitted("kneser_ney"), 1)
    filler.fill(some_gaps(1))
    with pytest.raises(TooLongError, match=r"length 4: the gap leads to .* contexts and more; shorter gaps"):
        filler.fill(some_gaps(4))


@pytest.mark.parametrize("name", ["kneser_ney", "ngram"])
def test_rows_without_a_table_are_those_of_the_table(name, monkeypatch):
    filled = filler_of(fitted(name), 1).fill(some_gaps(1))
    monkeypatch.setattr("lmstages.models.automata.MOST_ENTRIES", 30)
    again = filler_of(fitted(name), 1)
    assert again.automaton.table is None
    assert again.fill(some_gaps(1)).log_probs == pytest.approx(filled.log_probs)


def test_what_learns_while_it_scores_fills_nothing():
    model = build(MODEL_TYPES["ppm"](order=2, online=True), V)
    assert filler_of(model, 1) is None


def test_states_are_contexts_or_histories():
    assert isinstance(automaton_of(fitted("kneser_ney")), ContextAutomaton)
    assert isinstance(automaton_of(fitted("bigram")), HistoryAutomaton)
    assert automaton_of(fitted("ppm")) is None and filler_of(fitted("ppm"), 1).reads == 8


# The oracle

GRAMMAR = {
    "words": {"animal": ["fox*2", "cow", "cat"], "call": ["yip*3", "moo"]},
    "rules": {"document": ["{a=animal} {said}"], "said": ["3: {call}", "if a=cow: {call}!", "if a=fox: {a} {call}"]},
}


def enumerated(grammar):
    """Every document of a small grammar with its probability."""
    found, pending = {}, [("", 0.0)]
    while pending:
        prefix, log_prob = pending.pop()
        for character, more in grammar.next_log_probs(prefix).items():
            if character:
                pending.append((prefix + character, log_prob + more))
            else:
                found[prefix] = np.exp(log_prob + more)
    return found


def test_the_oracle_sums_over_every_document_that_agrees_outside_the_gap():
    grammar = Grammar(GRAMMAR)
    documents = enumerated(grammar)
    assert sum(documents.values()) == pytest.approx(1)
    for document in documents:
        for begin, end in ((0, 1), (1, 3), (4, 7), (0, len(document)), (2, 2)):
            same = [p for other, p in documents.items() if agrees(document, other, begin, end)]
            mass = grammar.log_mass(document, slice(begin, end))
            assert mass == pytest.approx(np.log(sum(same)), abs=1e-12), (document, begin, end)


def agrees(document, other, begin, end):
    outside = [*range(begin), *range(end, len(document))]
    return len(document) == len(other) and all(document[index] == other[index] for index in outside)


def test_the_oracle_holds_a_document_that_no_gap_explains_to_be_impossible():
    assert Grammar(GRAMMAR).log_mass("fox yap", slice(0, 1)) == -np.inf
    assert Grammar(GRAMMAR).log_mass("fox yap", slice(5, 6)) > -np.inf


def test_no_model_fills_better_than_the_oracle_on_average():
    grammar = Grammar(GRAMMAR)
    texts = [grammar.sample(Random(seed)) for seed in range(300)]
    tokenizer = CharTokenizer.learn(texts, True, False, False)
    documents = Documents.of([[*tokens.tolist(), 0] for tokens, _ in tokenizer.encode(texts)])
    model = build(MODEL_TYPES["kneser_ney"](order=5), tokenizer.vocab_size)
    model.fit(documents, documents, 0)
    held_out, sizes = Documents(documents.tokens, documents.starts), np.ones(len(documents), dtype=np.int64)
    section = SECTION | {"lengths": [1, 3], "context": 7, "places": 60, "documents": True}
    facts, arrays = infilling.measured(model, tokenizer, (held_out, sizes), section)
    places = Places.of(np.array([len(text) for text in texts]), 7, 60)
    for length in (1, 3):
        hidden = places.middle(length)
        known = [
            grammar.score(texts[d]).sum() - grammar.log_mass(texts[d], slice(o + hidden.start, o + hidden.stop))
            for d, o in zip(places.document, places.offset, strict=True)
        ]
        assert arrays[f"both.{length}"].sum(1).mean() < np.mean(known)
    assert facts["status"] == "ok"


# The task

SECTION = {"split": "test", "lengths": [1, 2, 3], "context": 9, "places": 10, "rows": 10_000, "reads": 32}
SECTION |= {"documents": False, "any_length": False}


def task(name="kneser_ney", **section):
    letters = CharTokenizer(["\n", "a", "b", "c", "d"], None)
    documents = Documents.single(np.concatenate([text(7).tokens, text(8).tokens]))
    return infilling.measured(
        fitted(name), letters, (documents, np.ones(len(documents), dtype=np.int64)), SECTION | section
    )


def test_every_length_is_measured_with_and_without_the_right_side_and_where_it_is_not_told():
    facts, arrays = task(any_length=True)
    assert [(side["side"], side["length"], side["method"]) for side in facts["sides"]] == [
        (side, length, method)
        for length in (1, 2, 3)
        for side, method in (("both", "lattice"), ("left", "left"), ("any length", "lattice"))
    ]
    assert facts["places"] == 10 and arrays["both.3"].shape == (10, 3) and arrays["both.3.exact"].shape == (10,)
    assert len(facts["fills"]) == 3 * 2 * infilling.SHOWN
    first = facts["fills"][0]
    assert len(first["left"] + first["middle"] + first["right"]) == 9 and len(first["nats"]) == 1


def test_places_do_not_overlap_and_are_the_same_for_every_model():
    places = Places.of(np.array([20, 3, 9, 41]), 10, 100)
    assert list(zip(places.document, places.offset, strict=True)) == [
        (0, 0),
        (0, 10),
        (3, 0),
        (3, 10),
        (3, 20),
        (3, 30),
    ]
    assert (places.documents, places.too_short) == (4, 2)
    some = Places.of(np.array([1000]), 10, 7)
    assert len(set(some.offset)) == 7 and (some.offset % 10 == 0).all()
    assert (Places.of(np.array([1000]), 10, 7).offset == some.offset).all()


def test_the_middle_of_a_row_is_centred():
    places = Places.of(np.array([128]), 128, 1)
    assert [(places.middle(k).start, places.middle(k).stop) for k in (1, 2, 16)] == [(63, 64), (63, 65), (56, 72)]


def test_documents_that_are_all_too_short_are_said_so():
    message = "infill.context: no document has 128 characters; the longest has 41; lower it"
    with pytest.raises(CannotFillError, match=message):
        Places.of(np.array([20, 41]), 128, 10)


def test_a_length_that_bayes_cannot_enumerate_is_left_out_with_its_reason():
    facts, arrays = task("ppm", rows=100)
    status = {(side["side"], side["length"]): side["status"] for side in facts["sides"]}
    assert status["both", 1] == status["left", 2] == "ok"
    assert status["both", 2].startswith("failed: length 2: Bayes' rule would score 250 rows; at most 100")
    assert "both.2" not in arrays and "left.2" in arrays


def test_infilling_is_refused_by_models_and_tokenizers_that_cannot():
    online, letters = build(MODEL_TYPES["ppm"](order=2, online=True), V), CharTokenizer(list("\nabcd"), None)
    with pytest.raises(
        CannotFillError, match=r"ppm: learns from the text that it scores, .*; models that fill a gap are"
    ):
        infilling.filler_for(online, letters, 1, 100)
    with pytest.raises(CannotFillError, match=r"bigram: its tokens are no characters, .*; kind: char"):
        infilling.filler_for(fitted("bigram"), ByteTokenizer(), 1, 100)


def test_an_unknown_character_is_charged_where_it_is_hidden():
    letters, model = CharTokenizer(["\n", "a", "b", "c", "\ufffd\ufffd"], 4), fitted("uniform")
    documents, sizes = Documents.single(np.full(9, 4)), np.full(9, 2)
    _, arrays = infilling.measured(model, letters, (documents, sizes), SECTION | {"lengths": [1]})
    assert arrays["both.1"][0, 0] == pytest.approx(-np.log(5) - 16 * np.log(2))


def test_compiled_sums_are_those_of_numpy(monkeypatch):
    filled = filler_of(fitted("kneser_ney"), 1).fill(some_gaps(4))
    monkeypatch.setattr(fillers, "MANY_STATES", 0)
    again = filler_of(fitted("kneser_ney"), 1).fill(some_gaps(4))
    assert again.log_probs == pytest.approx(filled.log_probs, abs=1e-12)
    assert (again.best == filled.best).all()


# The tables


MADE = {"command": "infill", "section": {}, "inputs": {}, "paths": {}}
MODELS = {"kneser_ney": ("counts", 3), "bigram": ("counts", 2), "ppm": ("counts", 4)}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The tables of three models that filled the same gaps."""
    root, section = tmp_path_factory.mktemp("run"), {"models": {}, "infilled": [], "infilled_by_source": []}
    for name, (family, rank) in MODELS.items():
        facts, arrays = task(name, rows=100, lengths=[1, 2])
        infilling.save(root / "my" / "char" / name / "seed0", facts, arrays, MADE)
        section["models"][name] = {"title": name.title(), "rank": rank, "family": family}
        section["infilled"].append(["my", "char", name, 0])
    return Infilled.of(root, section)


def row_of(tables, model, length, side="both"):
    [row] = [r for r in tables.infilling if (r.model, r.length, r.side) == (model, length, side)]
    return row


def test_a_row_has_the_mean_its_interval_and_the_exact_matches(tables):
    _, arrays = task(lengths=[1, 2])
    row = row_of(tables, "kneser_ney", 2)
    assert row.nats_per_character == pytest.approx(-arrays["both.2"].sum(1).mean() / 2)
    assert row.low < row.nats_per_character < row.high and row.places == 10
    assert row.exact_match == arrays["both.2.exact"].mean()


def test_what_the_right_side_buys_is_the_mean_difference_by_place(tables):
    both, left = (row_of(tables, "kneser_ney", 2, side) for side in ("both", "left"))
    assert both.than_left == pytest.approx(both.nats_per_character - left.nats_per_character)
    assert both.than_left_low < both.than_left < both.than_left_high and left.than_left is None


def test_models_are_compared_with_the_best_that_counts_exactly(tables):
    best = min((row_of(tables, name, 1) for name in ("kneser_ney", "bigram")), key=lambda row: row.nats_per_character)
    other = row_of(tables, "ppm", 1)
    assert other.ngram == best.model and best.ngram is None
    assert other.than_ngram == pytest.approx(other.nats_per_character - best.nats_per_character)
    assert other.than_ngram_low < other.than_ngram < other.than_ngram_high


def test_a_length_that_was_left_out_is_a_row_with_its_reason(tables):
    row = row_of(tables, "ppm", 2)
    assert row.nats_per_character is None and row.status.startswith("failed: length 2: Bayes' rule would score")


def test_a_run_without_infilling_has_no_rows(tmp_path):
    assert vars(Infilled.of(tmp_path, {"models": {}})) == {"infilling": [], "fills": []}


def test_a_file_without_the_nats_that_it_names_is_refused(tmp_path):
    facts, arrays = task(lengths=[1])
    infilling.save(
        tmp_path / "my/char/x/seed0", facts, {name: arrays[name] for name in arrays if name != "left.1"}, MADE
    )
    section = {"models": {"x": {"title": "X", "rank": 1, "family": "counts"}}, "infilled": [["my", "char", "x", 0]]}
    with pytest.raises(UserError, match=r"infill.safetensors: lacks the nats of left.1"):
        Infilled.of(tmp_path, section)


def test_gaps_are_shown_side_by_side_with_what_was_hidden(tables):
    shown = gaps(tables.fills, "my", {("char", name): name.upper() for name in MODELS})
    assert len(shown) == infilling.SHOWN and [line.name for line in shown[0].lines] == ["BIGRAM", "KNESER_NEY", "PPM"]
    assert all(len(gap.middle) == 1 for gap in shown)
    both = shown[0].lines[1].both
    assert "".join(text for _, text in both.hidden) == shown[0].middle and both.is_right == (
        both.fill == shown[0].middle
    )


# Whole words and sentences


LINE = "It is so. The old fox's den, said she, was deep and cold! Is it far"


@pytest.mark.parametrize(
    ("length", "hidden"), [("word", "she"), ("sentence", "The old fox's den, said she, was deep and cold!")]
)
def test_the_whole_word_or_sentence_nearest_to_the_middle_is_hidden(length, hidden):
    [span] = Places.of(np.array([len(LINE)]), len(LINE), 1).spans([LINE], length)
    assert LINE[span] == hidden


def test_words_have_apostrophes_and_a_character_on_each_side():
    places = Places.of(np.array([9]), 9, 1)
    assert places.spans(["a fox's b", "abcdefghi", "one twoxx", "  .  ?! ,"], "word") == [slice(2, 7), None, None, None]
    assert places.spans(["Oh. No. x", "Oh. No, x"], "sentence") == [slice(4, 7), None]


def spoken(length=60, **section):
    """The task over letters with spaces, in which c stands for a space; b and d are letters."""
    letters = CharTokenizer(["\n", "a", "b", " ", "d"], None)
    documents = Documents.single(np.concatenate([text(seed).tokens for seed in range(length)]))
    settings = SECTION | {"lengths": ["word"], "context": 11, "places": 200} | section
    return lambda name: infilling.measured(
        fitted(name), letters, (documents, np.ones(len(documents), dtype=np.int64)), settings
    )


def test_a_word_costs_what_a_gap_of_its_length_at_its_place_costs():
    facts, arrays = spoken()("kneser_ney")
    shown = [fill for fill in facts["fills"] if fill["side"] == "both"]
    assert all(fill["gap"] == "word" and " " not in fill["middle"] for fill in shown)
    first, letters = shown[0], {letter: token for token, letter in enumerate("\nab d")}
    left, middle, right = (np.array([[letters[c] for c in first[side]]]) for side in Gaps._fields)
    alone = filler_of(fitted("kneser_ney"), 0).fill(Gaps(left, middle, right))
    assert sum(first["nats"]) == pytest.approx(-alone.log_probs.sum())
    there = np.flatnonzero(arrays["word.hidden"])
    assert arrays["both.word"][there[0], 0] == pytest.approx(alone.log_probs.sum())
    assert (np.isnan(arrays["both.word"][:, 0]) == (arrays["word.hidden"] == 0)).all()


def test_words_that_are_too_long_for_bayes_are_left_out_and_counted():
    facts, arrays = spoken(rows=1000)("ppm")
    filled = ~np.isnan(arrays["both.word"][:, 0])
    hidden = arrays["word.hidden"]
    assert facts["sides"][0]["status"] == "ok" and 0 < filled.sum() < (hidden > 0).sum()
    assert hidden[filled].max() < hidden.max() and (~np.isnan(arrays["left.word"][:, 0]) == (hidden > 0)).all()


def test_rows_of_the_table_count_what_was_left_out_and_compare_the_same_places(tmp_path):
    section, task = {"models": {}, "infilled": [], "infilled_by_source": []}, spoken(rows=1000)
    for name, (family, rank) in MODELS.items():
        infilling.save(tmp_path / "my" / "char" / name / "seed0", *task(name), MADE)
        section["models"][name] = {"title": name.title(), "rank": rank, "family": family}
        section["infilled"].append(["my", "char", name, 0])
    rows = {(row.model, row.side): row for row in Infilled.of(tmp_path, section).infilling}
    exact, ppm = rows["kneser_ney", "both"], rows["ppm", "both"]
    assert (exact.gap, exact.skipped) == ("word", 0) and ppm.skipped > 0
    assert exact.places == ppm.places + ppm.skipped and exact.lacking == ppm.lacking
    ours, theirs = [task(name)[1]["both.word"][:, 0] for name in ("ppm", "kneser_ney")]
    same, hidden = ~np.isnan(ours), task("ppm")[1]["word.hidden"]
    wanted = (theirs - ours)[same].sum() / hidden[same].sum()
    assert ppm.than_ngram == pytest.approx(wanted) and ppm.ngram == "kneser_ney"
    assert ppm.length == pytest.approx(hidden[same].mean()) and rows["bigram", "both"].than_ngram is not None


def test_a_text_without_sentences_has_rows_that_lack_them_and_no_figure(tmp_path):
    infilling.save(tmp_path / "my/char/x/seed0", *spoken(lengths=["sentence"])("bigram"), MADE)
    section = {"models": {"x": {"title": "X", "rank": 1, "family": "counts"}}, "infilled": [["my", "char", "x", 0]]}
    rows = Infilled.of(tmp_path, section).infilling
    assert len(rows) == 2 and all(row.nats_per_character is None for row in rows)
    assert rows[0].status == "failed: infill.lengths: no row has a whole sentence with a character on each side"


# The command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models as Python saves them."""
    path = tmp_path_factory.mktemp("saved")
    lines = "\n".join(["the fox sat on the hill", "the hen sat on the wall", "a fox ran to the mill"] * 5)
    for name, options in (("kneser_ney", {"order": 4}), ("ppm", {"order": 20}), ("online", {"online": True})):
        model = lmstages.fit({"online": "ppm"}.get(name, name), train=lines, documents="lines", **options)
        model.save(path / name)
    ends = {"layers": 1, "heads": 2, "width": 16, "window": 24, "row_length": 24, "steps": 30, "warmup_steps": 2}
    lmstages.fit("fim", train=lines, documents="lines", **ends).save(path / "fim")
    words = lmstages.fit("bigram", train=lines, tokenizer="byte", documents="lines")
    words.save(path / "bytes")
    return path


def call(capsys, *arguments):
    code = main(["fill", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_fill_prints_the_likeliest_fills_of_a_length(folder, capsys):
    code, printed = call(
        capsys, folder / "kneser_ney", "--left", "the f", "--right", "x sat", "--length", 1, "--top", 2
    )
    lines = printed.splitlines()
    assert code == 0 and len(lines) == 4 and "the f[o]x sat" in lines[1]
    assert lines[0].split() == ["probability", "text"] and lines[-1] == "(exact, over the states of the model)"
    assert 1 > float(lines[1].split()[0]) > float(lines[2].split()[0])


def test_fill_finds_the_length_of_a_gap(folder, capsys):
    code, printed = call(capsys, folder / "kneser_ney", "--left", "the fox s", "--right", " the hill", "--top", 16)
    rows = [line.split(maxsplit=3) for line in printed.splitlines()[1:-1]]
    assert code == 0 and rows[0][1] == "5" and rows[0][3].strip() == "the fox s[at on] the hill"
    assert sum(float(row[2]) for row in rows) == pytest.approx(1, abs=1e-3)


def test_a_model_that_ends_gaps_prints_the_probability_of_fill_and_length_together(folder, capsys):
    code, printed = call(capsys, folder / "fim", "--left", "the fox s", "--right", " the hill", "--top", 3)
    rows = [line.split(maxsplit=3) for line in printed.splitlines()[1:-1]]
    probabilities = [float(row[0]) for row in rows]
    assert code == 0 and len(rows) == 3 and probabilities == sorted(probabilities, reverse=True)
    assert all(row[2] == "–" and 1 <= int(row[1]) <= any_length.LONGEST for row in rows)
    assert printed.endswith("(by the model itself, the likeliest of a beam)\n")


def test_fill_tries_every_fill_with_another_model(folder, capsys):
    code, printed = call(capsys, folder / "ppm", "--left", "the f", "--right", "x sat", "--length", 1)
    assert code == 0 and "the f[o]x sat" in printed.splitlines()[1] and "(exact, every fill tried)" in printed


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ppm", [], "--length: needed by this model, which cannot add up all fills of every length; n-gram models"),
        ("ppm", ["--length", "9"], "length 9: Bayes' rule would score"),
        ("online", ["--length", "1"], "ppm: learns from the text that it scores"),
        ("bytes", ["--length", "1"], "bigram: its tokens are no characters"),
        ("kneser_ney", ["--left", "é"], "--left: character 'é' is not in the model's vocabulary; leave it out"),
        ("nothing", [], "no such folder or file"),
    ],
)
def test_fill_refuses_in_one_line(folder, capsys, name, options, message):
    code, printed = call(capsys, folder / name, "--left", "the f", "--right", "x", *options)
    assert code == 1 and message in printed and printed.count("\n") == 1


# The workflow


@pytest.mark.slow
def test_a_run_infills_and_shows_it(tmp_path):
    config = yaml.safe_load((PROJECT / "runs" / "tiny.yaml").read_text())
    config["infill"] = {"lengths": [1, 2], "places": 20, "context": 6, "rows": 30000, "any_length": True}
    config["mixtures"] = {"both": {"of": ["ngram", "bigram"]}}  # in another order than a file has its keys
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--configfile", "small.yaml"]
    done = subprocess.run([*command, "--cores", "1"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "results/small/tables/infilling.parquet")
    both = table[(table["side"] == "both") & table["nats_per_character"].notna()].set_index(["model", "length"])
    assert {"uniform", "bigram", "ngram", "gpt", "both", "oracle"} <= {model for model, _ in both.index}
    for length in (1, 2):
        nats = both["nats_per_character"].xs(length, level="length")
        assert nats["oracle"] < nats.drop("oracle").min()
    page = (tmp_path / "results/small/report.html").read_text()
    assert "Filling a gap" in page and "Gaps, side by side" in page
    assert (tmp_path / "results/small/figures/infilling").is_dir()
