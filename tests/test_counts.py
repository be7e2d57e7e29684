"""Interpolated n-grams against numbers worked by hand, against dictionaries, and against one another."""

import os
from collections import Counter, defaultdict

import numpy as np
import pytest
from pydantic import ValidationError

from lmstages.config.hyperparameters.counts import KneserNey, Ngram
from lmstages.core.documents import Documents
from lmstages.core.errors import FitError
from lmstages.models.base import build
from lmstages.models.counts import contexts, counting, lookup, merging, smoothing, wide_keys
from lmstages.models.counts.ngram import development_split

V = 6
FORMULAS = ["witten_bell", "absolute", "kneser_ney", "modified_kneser_ney"]


def drawn(seed, documents=60, longest=12):
    """Documents of a first-order Markov source, some of which hold only the boundary that ends them."""
    draws = np.random.default_rng(seed)
    transition = draws.dirichlet(np.full(V - 1, 0.4), size=V)
    rows = []
    for length in draws.integers(0, longest, documents):
        row = [0]
        for _ in range(length):
            row.append(1 + int(draws.choice(V - 1, p=transition[row[-1]])))
        rows.append([*row[1:], 0])
    return rows


def fitted(rows, vocab_size=V, valid=None, **keys):
    model = build(Ngram(**keys), vocab_size)
    model.fit(Documents.of(rows), Documents.of(rows if valid is None else valid), 0)
    return model


# ---------------------------------------------------------------- by hand


def test_kneser_ney_of_one_sentence_by_hand():
    """``a b a c`` with a, b, c = 1, 2, 3 and the boundary 0; order 2, one discount an order.

    Bigrams: <s> a, a b, b a, a c, c </s>, all once, so that n2 = 0 and D falls back to 0.5.
    How many different tokens came before: a 2 (<s>, b), b 1, c 1, </s> 1, in all 5; n1 = 3, n2 = 1, D = 3 / 5.

        p(a) = (2 - 0.6) / 5 + 0.6 * 4 / 5 / 4 = 0.4,   p(b) = p(c) = p(</s>) = (1 - 0.6) / 5 + 0.12 = 0.2

    After a came two tokens, b and c, each once: half of the probability goes to the order below.

        p(b | a) = (1 - 0.5) / 2 + 0.5 * 0.2 = 0.35,    p(a | a) = 0.5 * 0.4 = 0.2,    p(</s> | a) = 0.5 * 0.2 = 0.1

    After <s> came a alone: p(a | <s>) = (1 - 0.5) / 1 + 0.5 * 0.4 = 0.7.
    """
    model = fitted([[1, 2, 1, 3, 0]], 4, smoothing="kneser_ney", order=2)
    assert np.allclose(np.exp(model.next_log_probs(np.array([[1]]))), [[0.1, 0.2, 0.35, 0.35]])
    assert np.allclose(np.exp(model.next_log_probs(np.zeros((1, 0), int))), [[0.1, 0.7, 0.1, 0.1]])


def test_modified_discounts_by_hand():
    """n1 = 4, n2 = 2, n3 = 1, n4 = 1: Y = 1/2, D1 = 1 - 2/4 = 1/2, D2 = 2 - 3/2 * 1/2 = 5/4, D3 = 3 - 4/2 = 1."""
    of_one_order = np.array([1, 1, 1, 1, 2, 2, 3, 4, 9, 17])
    assert np.allclose(smoothing.closed_form("modified_kneser_ney", of_one_order), [0.5, 1.25, 1])
    assert np.allclose(smoothing.closed_form("absolute", of_one_order), 0.5)


def test_discounts_that_cannot_be_estimated_are_kenlms():
    assert np.array_equal(smoothing.closed_form("modified_kneser_ney", np.array([1, 1, 2])), [0.5, 1, 1.5])
    below_zero = np.array([1] * 100 + [2, 3, 3])  # D2 = 2 - 3 * 100 / 102 * 2
    assert np.array_equal(smoothing.closed_form("modified_kneser_ney", below_zero), [0.5, 1, 1.5])
    assert np.array_equal(smoothing.closed_form("kneser_ney", np.array([4, 4])), [0.5, 0.5, 0.5])


@pytest.mark.parametrize("add", [0.1, 0.0])
@pytest.mark.parametrize("order", [2, 3])
def test_documents_too_short_for_any_n_gram_leave_every_token_as_probable(order, add):
    """Empty lines: each document is its boundary alone, and without padding nothing is counted."""
    model = fitted([[0]] * 9, 4, smoothing="add", order=order, padded=False, add=add)
    assert np.allclose(np.exp(model.next_log_probs(np.array([[1, 2, 3]]))), 1 / 4)
    assert np.allclose(np.exp(model.score(np.array([[0, 1], [3, 0]]))), 1 / 4)


# ---------------------------------------------------------------- by dictionaries


class Dictionaries:
    """The same models from their definitions, n-gram by n-gram."""

    def __init__(self, rows, name, order, constants, padded):
        self.name, self.order, self.constants, self.padded = name, order, constants, padded
        plain, before = defaultdict(int), defaultdict(set)
        for document, row in enumerate(rows):
            text = self.behind(row)
            for end in range(len(text) - len(row), len(text)):
                for begin in range(end, max(-1, end - order), -1):
                    gram = tuple(text[begin : end + 1])
                    plain[gram] += 1
                    before[gram].add(text[begin - 1] if begin else ("nothing", document, end))
        adjusted = {gram: len(before[gram]) if len(gram) < order else plain[gram] for gram in plain}
        self.counts = adjusted if name.endswith("kneser_ney") else dict(plain)
        self.followers = defaultdict(list)
        for gram, count in self.counts.items():
            self.followers[gram[:-1]].append(count)

    def behind(self, row):
        return [0] * (max(1, self.order - 1) if self.padded else 1) + list(row)

    def probability(self, context, token):
        context = tuple(context)[len(context) - min(len(context), self.order - 1) :]
        lower = self.probability(context[1:], token) if context else 1 / V
        if not self.followers[context]:
            return lower
        count, seen = self.counts.get((*context, token), 0), self.followers[context]
        if self.name == "witten_bell":
            return (count + len(seen) * lower) / (sum(seen) + len(seen))
        discount = [0, *self.constants[len(context)]]
        left = sum(discount[min(c, 3)] for c in seen)
        return (max(0, count - discount[min(count, 3)]) + left * lower) / sum(seen)

    def score(self, row):
        text, first = self.behind(row), len(self.behind([]))
        return [np.log(self.probability(text[:position], text[position])) for position in range(first, len(text))]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", FORMULAS)
def test_every_smoothing_is_its_definition(name, order, padded):
    rows = drawn(0)
    model = fitted(rows, smoothing=name, order=order, padded=padded)
    dictionaries = Dictionaries(rows, name, order, model.constants, padded)
    for row in drawn(1, 25):
        assert np.allclose(model.score(np.array([row]))[0], dictionaries.score(row), rtol=1e-12)


@pytest.mark.parametrize("name", ["absolute", "modified_kneser_ney"])
def test_a_stream_runs_through_its_boundaries(name):
    stream = [token for row in drawn(2) for token in row]
    model = fitted([stream], smoothing=name, order=3)
    dictionaries = Dictionaries([stream], name, 3, model.constants, False)
    row = [token for row in drawn(3, 20) for token in row]
    assert np.allclose(model.score(np.array([row]))[0], dictionaries.score(row), rtol=1e-12)


# ---------------------------------------------------------------- equivalences


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", [*FORMULAS, "jelinek_mercer"])
def test_probabilities_sum_to_one_exactly(name, padded):
    model = fitted(drawn(4), smoothing=name, order=5, padded=padded)
    prefixes = np.random.default_rng(5).integers(0, V, (50, 7))
    assert np.abs(np.exp(model.next_log_probs(prefixes)).sum(-1) - 1).max() < 1e-9


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("order", [1, 2, 5, 9])
def test_a_wide_vocabulary_is_counted_like_a_narrow_one(order, padded):
    narrow, stretch = Documents.of(drawn(6)), 20_000  # (5 * 20,000 + 2)^4 exceeds 64 bits
    wide = Documents(narrow.tokens * stretch, narrow.starts)
    few = counting.count(narrow, order, V, True, padded)
    many = counting.count(wide, order, (V - 1) * stretch + 1, True, padded)
    assert np.array_equal(few[1].counts, many[1].counts[::stretch])
    for one, other in zip(few[2:], many[2:], strict=True):
        assert np.array_equal(one.counts, other.counts) and np.array_equal(one.type_counts, other.type_counts)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("piece", [7, 1 << 24])
def test_keys_of_several_words_find_the_same_n_grams(padded, digits, piece, monkeypatch):
    documents = Documents.of(drawn(7))
    short = counting.count(documents, 6, V, True, padded)
    monkeypatch.setattr(wide_keys, "LARGEST_KEY", (V + 1) ** digits)
    monkeypatch.setattr(counting, "PIECE", piece)
    assert len(counting.word_lengths(6, V + 1)) == 6 // digits
    assert same_levels(short, counting.count(documents, 6, V, True, padded))


def same_levels(levels, others):
    fields = ("keys", "counts", "totals", "type_counts")
    return all(
        np.array_equal(getattr(level, field), getattr(other, field))
        for level, other in zip(levels, others, strict=True)
        for field in fields
    )


@pytest.mark.parametrize("base", [3, 1 << 40])
def test_long_numbers_are_sorted_and_counted_whatever_their_words_hold(base):
    numbers = np.random.default_rng(1).integers(0, 3, (3, 200)).astype(np.uint64) * np.uint64(base)
    expected = Counter(map(tuple, numbers.T.tolist()))
    distinct, counts = wide_keys.sorted_runs(numbers.copy())
    assert [tuple(number) for number in distinct.T.tolist()] == sorted(expected)
    assert counts.tolist() == [expected[number] for number in sorted(expected)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 64])
@pytest.mark.parametrize("stream", [False, True])
def test_a_text_counted_in_pieces_is_counted_the_same(monkeypatch, padded, piece, stream):
    documents = Documents.of(drawn(11))
    documents = Documents.single(documents.tokens) if stream else documents
    whole = counting.count(documents, 4, V, True, padded)
    monkeypatch.setattr(counting, "PIECE", piece)
    monkeypatch.setattr(merging, "MERGED_AT_ONCE", 40)
    monkeypatch.setattr(merging, "SAMPLED", 3)
    assert same_levels(whole, counting.count(documents, 4, V, True, padded))


def test_however_many_pieces_there_are_one_file_is_open():
    runs, before = merging.Runs(), len(os.listdir("/dev/fd"))
    for piece in range(300):
        runs.add(np.array([[piece % 7, 3, piece]], dtype=np.uint64))
    assert len(os.listdir("/dev/fd")) == before + 1
    [numbers], counts = runs.merged()
    assert len(os.listdir("/dev/fd")) == before
    expected = Counter(key for piece in range(300) for key in (piece % 7, 3, piece))
    assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == expected


def by_dictionary(rows, order, padded):
    """Counts of the n-grams of one order, by the n-gram."""
    histories = [[0] * (order - 1 if padded else 0) + row for row in rows]
    return Counter(tuple(row[end - order : end]) for row in histories for end in range(order, len(row) + 1))


def spelled(levels, grams):
    """The n-grams (U,) of one order as tuples, from the contexts by length."""
    if not levels:
        return [(int(gram),) for gram in grams]
    shorter = spelled(levels[:-1], levels[-1])
    return [(*shorter[gram // V], int(gram % V)) for gram in grams.tolist()]


@pytest.mark.parametrize("piece", [7, 1 << 20])
@pytest.mark.parametrize("dense", [0, 1 << 22])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_n_grams_by_their_contexts_are_those_of_a_dictionary(order, padded, dense, piece, monkeypatch):
    rows = drawn(24)
    monkeypatch.setattr(contexts, "DENSE", dense)
    monkeypatch.setattr(contexts, "PIECE", piece)
    monkeypatch.setattr(counting, "PIECE", piece)
    monkeypatch.setattr(wide_keys, "LARGEST_KEY", V**2 if dense == 0 else 1 << 64)
    levels, grams, counts, totals = contexts.count(Documents.of(rows), order, V, padded)
    expected = by_dictionary(rows, order, padded)
    assert dict(zip(spelled(levels, grams), counts.tolist(), strict=True)) == expected
    sums = Counter()
    for gram, count in expected.items():
        sums[gram[:-1]] += count
    contexts_of = spelled(levels[:-1], levels[-1]) if levels else [()]
    assert dict(zip(contexts_of, totals.tolist(), strict=True)) == sums


def test_the_loss_that_chooses_is_the_mean_over_each_document_by_itself(monkeypatch):
    model, held_out = fitted(drawn(25), add=0.5, order=4), drawn(26)
    monkeypatch.setattr(contexts, "PIECE", 9)
    assert model._nats(Documents.of(held_out)) == pytest.approx(nats(model, held_out), abs=1e-12)


def test_constants_of_one_order_are_compared_on_one_count(monkeypatch):
    counted, count = [], contexts.count
    monkeypatch.setattr(contexts, "count", lambda *arguments: counted.append(arguments[1]) or count(*arguments))
    fitted(drawn(27), add=[0.1, 1.0], order=[2, 3])
    assert counted in ([2, 3], [2, 3, 2])


@pytest.mark.parametrize("padded", [False, True])
def test_a_long_row_is_scored_in_pieces_as_if_at_once(monkeypatch, padded):
    model = fitted(drawn(12), smoothing="modified_kneser_ney", order=4, padded=padded)
    tokens, before = np.random.default_rng(13).integers(0, V, (2, 50)), np.array([3, 0])
    whole = model.score(tokens, before)
    monkeypatch.setattr(lookup, "SCORED_AT_ONCE", 14)
    assert np.array_equal(model.score(tokens, before), whole)


def test_order_one_is_the_frequencies_and_a_uniform_guess():
    rows = drawn(8)
    frequencies = np.bincount([token for row in rows for token in row], minlength=V)
    types, total = np.count_nonzero(frequencies), frequencies.sum()
    model = fitted(rows, smoothing="witten_bell", order=1)
    assert np.allclose(np.exp(model.next_log_probs(np.array([[3]]))[0]), (frequencies + types / V) / (total + types))


def test_discounts_of_zero_leave_the_frequencies():
    rows = drawn(9)
    model, plain = (fitted(rows, smoothing="absolute", order=3), fitted(rows, add=0.0, order=3))
    model.constants = np.zeros_like(model.constants)
    x = np.array([rows[5]])
    assert np.allclose(model.score(x), plain.score(x))


def test_the_model_kneser_ney_is_the_ngram_with_that_smoothing():
    train = Documents.of(drawn(10))
    short, spelled = build(KneserNey(order=4), V), build(Ngram(smoothing="modified_kneser_ney"), V)
    for model in (short, spelled):
        model.fit(train, train, 0)
    assert np.array_equal(short.score(train.tokens[None, :30]), spelled.score(train.tokens[None, :30]))


def test_an_order_longer_than_every_document_is_fine():
    model = fitted([[1, 2, 0], [3, 0]], smoothing="kneser_ney", order=9)
    shorter = fitted([[1, 2, 0], [3, 0]], smoothing="kneser_ney", order=5)
    x = np.array([[1, 2, 0]])
    assert np.allclose(model.score(x), shorter.score(x))


# ---------------------------------------------------------------- what held-out text decides


def nats(model, rows):
    return -np.concatenate([model.score(np.array([row]))[0] for row in rows]).mean()


@pytest.mark.parametrize("name", ["absolute", "kneser_ney", "modified_kneser_ney"])
def test_tuned_discounts_predict_what_was_held_out_better(name):
    rows = drawn(11, 400)
    counted, held_out = development_split(Documents.of(rows))
    model = build(Ngram(smoothing=name, order=4), V)
    model.fit(counted, counted, 0)
    formula = model._nats(held_out)
    tuned = fitted(rows, smoothing=name, order=4, discounts="tuned").constants
    model.constants = tuned
    assert model._nats(held_out) < formula and (tuned >= smoothing.LEAST).all() and (tuned <= [1, 2, 3]).all()


def test_no_small_change_of_tuned_discounts_helps():
    counted, held_out = development_split(Documents.of(drawn(12, 400)))
    model = build(KneserNey(order=3, discounts="tuned"), V)
    model.fit(Documents.of(drawn(12, 400)), held_out, 0)
    model._count(counted, 3)
    best = smoothing.tuned("modified_kneser_ney", model.constants, *model._counts_of(held_out))
    model.constants = best
    least = model._nats(held_out)
    for index in np.ndindex(best.shape):
        for change in (-0.01, 0.01):
            model.constants = best.copy()
            most = [1, 2, 3][index[1]]
            model.constants[index] = np.clip(best[index] + change, smoothing.LEAST, most)
            assert model._nats(held_out) > least - 1e-6


def test_jelinek_mercer_weights_predict_valid_better_than_halves():
    train, valid = drawn(13, 200), drawn(13, 260)[200:]
    model = fitted(train, valid=valid, smoothing="jelinek_mercer", order=3)
    fitted_nats = nats(model, valid)
    assert ((model.constants > 0) & (model.constants < 1)).all()
    model.constants = np.full_like(model.constants, 0.5)
    assert fitted_nats < nats(model, valid)


def test_of_several_orders_valid_chooses_one():
    train, valid = drawn(14, 300), drawn(14, 400)[300:]
    for keys in ({"smoothing": "kneser_ney"}, {"add": 0.5}):
        single = {order: nats(fitted(train, order=order, **keys), valid) for order in (1, 2, 5)}
        chosen = fitted(train, valid=valid, order=[1, 2, 5], **keys)
        assert nats(chosen, valid) == pytest.approx(min(single.values()), rel=1e-12)
        again = build(chosen.config, V)
        again.restore(chosen.arrays())
        assert nats(again, valid) == nats(chosen, valid)


@pytest.mark.parametrize("keys", [{"smoothing": "jelinek_mercer"}, {"order": [2, 3]}])
def test_choosing_on_an_empty_valid_is_refused(keys):
    with pytest.raises(FitError, match=r"valid is empty"):
        fitted(drawn(15), valid=[], **keys)


def test_every_tenth_document_is_held_out_or_the_end_of_one():
    many, one = Documents.of([[n % 3 + 1, 0] for n in range(25)]), Documents.single(np.arange(100) % 5)
    counted, held_out = development_split(many)
    assert len(counted.lengths) == 23 and held_out.tokens.tolist() == [1, 0, 2, 0]
    counted, held_out = development_split(one)
    assert len(counted) == 90 and np.array_equal(held_out.tokens, one.tokens[90:])


# ---------------------------------------------------------------- the record


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"smoothing": "witten_bell", "add": 0.5}, "add belongs to smoothing add; found with 'witten_bell'"),
        (
            {"smoothing": "witten_bell", "discounts": "tuned"},
            "discounts belongs to smoothing absolute or",
        ),
        ({"discounts": "tuned"}, "discounts belongs to smoothing absolute or"),
        ({"order": []}, r"\[\] found; a list of orders"),
        ({"order": [3, 3]}, r"\[3, 3\] found; a list of orders, from which valid chooses, has no duplicates"),
        ({"order": [3, 0]}, "greater than or equal to 1"),
        ({"smoothing": "kneserney"}, "'kneser_ney'"),
    ],
)
def test_keys_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Ngram.model_validate(keys)


def test_a_record_survives_being_written_and_read():
    for keys in ({}, {"smoothing": "absolute"}, {"smoothing": "witten_bell", "order": [2, 3]}, {"padded": False}):
        record = Ngram.model_validate(keys)
        assert Ngram.model_validate(record.model_dump(mode="json")) == record


# ---------------------------------------------------------------- chosen on valid


def test_valid_chooses_the_constant_and_the_order_together():
    rows, held_out = drawn(20, 90)[:60], drawn(20, 90)[60:]
    constants, orders = [0.01, 0.3, 30.0], [1, 2, 4]
    chosen = fitted(rows, valid=held_out, add=constants, order=orders)
    tried = {(n, add): fitted(rows, order=n, add=add) for n in orders for add in constants}
    losses = {key: -sum(model.score(np.array([row])).sum() for row in held_out) for key, model in tried.items()}
    best = min(losses, key=losses.get)
    assert (chosen.order, chosen.add) == best and best[0] == 2


def test_a_chosen_constant_is_saved():
    model = fitted(drawn(22), add=[0.01, 5.0], order=2)
    again = build(model.config, V)
    again.restore(model.arrays())
    assert again.add == model.add and np.array_equal(again.score(np.array([[1, 2]])), model.score(np.array([[1, 2]])))


def test_a_list_of_constants_has_no_duplicates():
    with pytest.raises(ValidationError, match="a list of constants, from which valid chooses, has no duplicates"):
        Ngram(add=[0.1, 0.1])


def test_an_n_gram_beyond_the_last_one_is_absent_and_no_other():
    nothing = np.zeros(0, np.uint8)
    level = counting.Level(np.array([5, 9], np.uint32), nothing, nothing, nothing)
    indices = level.find(np.array([0, 0, 1 << 12, 0]), np.array([5, 9, 5, 10]), 1 << 20)
    assert indices.tolist() == [0, 1, -1, -1]
