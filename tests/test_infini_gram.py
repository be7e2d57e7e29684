"""The infini-gram against numbers worked by hand, against strings counted one by one, and against Kneser-Ney."""

from collections import defaultdict

import numpy as np
import pytest

from lmstages.config.hyperparameters.counts import InfiniGram, KneserNey
from lmstages.core.documents import Documents
from lmstages.core.errors import FitError
from lmstages.models.base import build, decoding_state
from lmstages.models.counts import infini_gram
from lmstages.models.counts.counting import Rows
from lmstages.models.counts.suffixes import index_of

V = 5


def drawn(seed, documents=40, longest=14):
    """Documents of a source that repeats itself, some of which hold only their boundary, and two of which are equal."""
    draws = np.random.default_rng(seed)
    pieces = [draws.integers(1, V, length).tolist() for length in (2, 3, 5, 7)]
    rows = []
    for length in draws.integers(0, longest, documents):
        row = []
        while len(row) < length:
            row += pieces[draws.integers(len(pieces))][: length - len(row)]
        rows.append([*row, 0])
    return [*rows, rows[3]]


def fitted(rows, vocab_size=V, valid=None, **keys):
    model = build(InfiniGram(**{"shared_from": 24, **keys}), vocab_size)
    model.fit(Documents.of(rows), Documents.of(rows if valid is None else valid), 0)
    return model


def stream(seed, length=300):
    return [token for row in drawn(seed, 60) for token in row][:length]


TEXTS = {
    "documents": drawn(0),
    "a stream": [stream(1, 90)],
    "one token": [[2] * 9],
    "short": [[0], [0]],
    "equal": [[1, 2, 0]] * 4,
}


# ---------------------------------------------------------------- by hand


def test_one_sentence_by_hand():
    """``a b a c`` with a, b, c = 1, 2, 3 and the boundary 0. Too few counts for a formula: D is 0.5, 1 and 1.5.

    Before a come two tokens, <s> and b, before the others one each; 0.5 * 3 + 1 of 5 goes to the uniform distribution.

        p(a) = (2 - 1) / 5 + 0.5 / 4 = 0.325,    p(b) = p(c) = p(</s>) = (1 - 0.5) / 5 + 0.5 / 4 = 0.225

    After a come b and c, each after a single longer context, and half goes to the order below.

        p(b | a) = p(c | a) = (1 - 0.5) / 2 + 0.5 * 0.225 = 0.3625

    After ``b a`` comes c alone, and so it does after ``a b a`` and ``<s> a b a``: each halves what is left.

        p(c | <s> a b a) = 1 - (1 - 0.3625) / 8
    """
    model = fitted([[1, 2, 1, 3, 0]], 4)
    after_a, after_aba = (np.exp(model.next_log_probs(np.array([row])))[0] for row in ([1], [1, 2, 1]))
    assert np.allclose(after_a, [0.225 / 4, 0.325 / 4, 1 - (1 - 0.3625) / 2, 0.3625 / 2])
    assert np.allclose(after_aba, [0.225 / 16, 0.325 / 16, 0.3625 / 8, 1 - (1 - 0.3625) / 8])


# ---------------------------------------------------------------- string by string


class Strings:
    """What precedes and what follows each string of a text, however long, from its definition."""

    def __init__(self, rows):
        self.before, self.behind = defaultdict(set), defaultdict(set)
        for document, row in enumerate(rows):
            text = [0, *row]
            for end in range(1, len(text)):
                for begin in range(end + 1):
                    gram = tuple(text[begin : end + 1])
                    self.before[gram].add(text[begin - 1] if begin else ("nothing", document))
                    self.behind[gram[:-1]].add(gram[-1])

    def count(self, gram):
        return len(self.before[gram]) if gram in self.before else 0

    def types(self, context):
        counts = [self.count((*context, token)) for token in self.behind[context]]
        return [sum(counts), counts.count(1), counts.count(2), sum(count >= 3 for count in counts)]

    def of_length(self, length):
        counts = [min(len(before), 5) for gram, before in self.before.items() if len(gram) == length]
        return np.bincount(counts, minlength=6)


def span_of(index, gram):
    spans = index.block(np.array(gram[:1]))
    for token in gram[1:]:
        spans = index.grown(spans, np.array([token]))
    return spans


@pytest.mark.parametrize("text", TEXTS)
def test_every_string_is_counted_as_one_by_one(text):
    index, _ = index_of(Rows.of_documents(Documents.of(TEXTS[text]), padded=False), V)
    strings = Strings(TEXTS[text])
    for gram in strings.before.keys() | {g[1:] for g in strings.before if len(g) > 1}:
        spans = span_of(index, gram)
        if len(gram) > 1:
            assert index.adjusted_counts(spans, len(gram)) == strings.count(gram)
        totals, types = index.followers(spans, len(gram))
        assert [*totals, *types[0]] == strings.types(gram)
    assert index.unigrams.tolist() == [strings.count((token,)) for token in range(V)]


@pytest.mark.parametrize("text", TEXTS)
def test_counts_of_counts_are_those_of_the_strings(text):
    strings = Strings(TEXTS[text])
    _, table = index_of(Rows.of_documents(Documents.of(TEXTS[text]), padded=False), V)
    for length in range(2, 24):
        assert np.array_equal(table[length], strings.of_length(length))


def test_a_string_that_does_not_occur_has_an_empty_span():
    index, _ = index_of(Rows.of_documents(Documents.of([[1, 2, 1, 3, 0]]), padded=False), V)
    assert not any(span_of(index, gram).occur for gram in ([4], [1, 1], [1, 2, 1, 2], [3, 0, 1], [0, 1, 3]))


def test_a_string_longer_than_many_rounds_of_doubling_is_found():
    """Copies of 500 tokens: the longest string that occurs twice has that length, whatever precedes it."""
    copy = np.random.default_rng(4).integers(1, V, 500).tolist()
    index, _ = index_of(Rows.of_documents(Documents.of([[1, *copy, 0], [2, *copy, 3], copy]), padded=False), V)
    assert [int(index.adjusted_counts(span_of(index, gram), 500)[0]) for gram in (copy, [1, *copy[:-1]])] == [3, 1]


# ---------------------------------------------------------------- equivalences


def test_it_is_kneser_ney_at_an_order_above_every_document():
    rows = drawn(5)
    unlimited, limited = fitted(rows), build(KneserNey(order=18), V)
    limited.fit(Documents.of(rows), Documents.of(rows), 0)
    for row in [*drawn(6), np.random.default_rng(7).integers(0, V, 30).tolist()]:
        assert np.allclose(unlimited.score(np.array([row])), limited.score(np.array([row])), rtol=1e-12, atol=0)


@pytest.mark.parametrize("text", TEXTS)
def test_probabilities_sum_to_one(text):
    model = fitted(TEXTS[text])
    prefixes = np.array([row[:9] for row in (stream(8), stream(9), [0] * 9, [2] * 9)])
    assert np.abs(np.exp(model.next_log_probs(prefixes)).sum(-1) - 1).max() < 1e-12


def test_a_wide_vocabulary_is_indexed_like_a_narrow_one():
    """Three tokens fit into a key of 64 bits, not 24: the rounds of doubling begin earlier."""
    narrow, stretch = Documents.of(drawn(10)), 200_000
    wide = Documents(narrow.tokens * stretch, narrow.starts)
    (few, counts), (many, same) = (
        index_of(Rows.of_documents(text, padded=False), size)
        for text, size in ((narrow, V), (wide, (V - 1) * stretch + 1))
    )
    for name in ("begins", "ends", "depths", "preceded", "followed", "totals", "type_counts"):
        assert np.array_equal(getattr(few, name), getattr(many, name))
    assert np.array_equal(counts[2:], same[2:]) and np.array_equal(few.unigrams, many.unigrams[::stretch])


def test_a_long_row_is_scored_in_pieces_as_if_at_once(monkeypatch):
    model = fitted(drawn(12))
    tokens, before = np.array([stream(13, 90), stream(14, 90)]), np.array([3, 0])
    whole = model.score(tokens, before)
    monkeypatch.setattr(infini_gram, "SCORED_AT_ONCE", 14)
    assert np.array_equal(model.score(tokens, before), whole)
    assert np.array_equal(model.next_log_probs(tokens[:, :20]), fitted(drawn(12)).next_log_probs(tokens[:, :20]))


def test_a_text_is_decoded_and_continued_as_it_is_scored():
    model, tokens = fitted(drawn(15)), np.array([stream(16, 40), stream(17, 40)])
    scores, state, row = model.score(tokens), decoding_state(model, tokens[:, :3]), model.open_row()
    for position in range(3, 40):
        assert np.array_equal(state.log_probs()[[0, 1], tokens[:, position]], scores[:, position])
        state.append(tokens[:, position])
    assert np.array_equal(np.concatenate([row.advance(tokens[0, :7]), row.advance(tokens[0, 7:])]), scores[0])


# ---------------------------------------------------------------- the choice of valid


def test_valid_chooses_the_length_from_which_discounts_are_shared(monkeypatch):
    train, valid, lengths = drawn(18, 200), drawn(19, 60), [2, 3, 6, 12]
    single = {length: fitted(train, shared_from=length) for length in lengths}
    losses = {n: -np.mean([p for row in valid for p in model.score(np.array([row]))[0]]) for n, model in single.items()}
    assert len(fitted(train, valid=valid, shared_from=lengths).discounts) == min(losses, key=losses.get)
    monkeypatch.setattr(infini_gram, "CHOSEN_ON", 50)
    first = fitted(train, valid=valid, shared_from=lengths)._losses(Documents.of(valid), {3: single[3].discounts})
    assert first[3] != losses[3] and np.isclose(first[3], losses[3], rtol=0.5)


def test_without_valid_a_single_length_is_asked_for():
    with pytest.raises(FitError, match=r"shared_from \[5, 7\]: valid is empty; a single value needs none"):
        fitted(drawn(20), valid=[], shared_from=[5, 7])
