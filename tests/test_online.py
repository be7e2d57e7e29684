"""PPM, cache and context mixing, static and online: by hand, against slow reference programs, and by their laws."""

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from numba import njit

from lmstages.config.hyperparameters.counts import PPM, Cache, ContextMixing, KneserNey, Ngram
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.sections import Scoring
from lmstages.core.compiled import compiled
from lmstages.core.documents import Documents
from lmstages.evaluation.sampling import sample
from lmstages.evaluation.scoring import as_read, score, windows_of
from lmstages.models.base import build
from lmstages.models.counts import context_mixing, counting, ppm, sequential

A, B, R, C, D = range(1, 6)
ABRACADABRA = [A, B, R, A, C, A, D, A, B, R, A]
ONLINE = [PPM(order=3, online=True), ContextMixing(order=3, online=True)]
STATIC = [PPM(order=3), ContextMixing(order=3)]


def drawn(seed, *shape, vocab_size=5):
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


def fitted(config, tokens, vocab_size=6):
    documents = tokens if isinstance(tokens, Documents) else Documents.single(np.array(tokens))
    model = build(config, vocab_size)
    model.fit(documents, documents, 0)
    return model


# ---------------------------------------------------------------- PPM


def test_ppm_of_abracadabra_is_worked_by_hand():
    # ra was followed by c; a by b (twice) and d, c excluded; the empty context by a (4 times) and r; then 0 is left
    a_half, a_sixth = Fraction(1, 2), Fraction(1, 2) * Fraction(2, 6)
    by_hand = {C: a_half, B: a_half * Fraction(3, 6), D: a_half * Fraction(1, 6)}
    by_hand |= {A: a_sixth * Fraction(7, 10), R: a_sixth * Fraction(1, 10), 0: a_sixth * Fraction(2, 10)}
    predicted = np.exp(fitted(PPM(order=2), ABRACADABRA).next_log_probs(np.array([[A, B, R, A]])))[0]
    assert sum(by_hand.values()) == 1
    assert np.allclose(predicted, [float(by_hand[token]) for token in range(6)], rtol=1e-12)


def test_where_every_token_is_known_ppm_sets_no_escape_aside():
    predicted = np.exp(fitted(PPM(order=0), [0, 1, 1, 1], vocab_size=2).next_log_probs(np.empty((1, 0), dtype=int)))
    assert np.allclose(predicted, [[0.25, 0.75]], rtol=1e-12)


def reference(train, row, order, vocab_size, online, restarts):
    """PPM-D from sets and counters, one token after the other."""
    followers = defaultdict(Counter)

    def contexts(history):
        return [tuple(history[len(history) - n :]) for n in range(min(order, len(history)), -1, -1)]

    def after(history, token):
        if restarts and token == 0:
            return [0] if followers[()][0] else []
        return [*history, token]

    def add(history, token):
        for context in contexts(history):
            followers[context][token] += 1
            if followers[context][token] > 1:
                return

    def probability(history, token):
        weight, excluded = Fraction(1), set()
        for context in contexts(history):
            left = {w: c for w, c in followers[context].items() if w not in excluded}
            total, complete = sum(left.values()), len(left) == vocab_size - len(excluded)
            if token in left:
                return weight * (left[token] - (0 if complete else Fraction(1, 2))) / total
            weight *= Fraction(len(left), 2 * total) if left else 1
            excluded |= set(left)
        return weight / (vocab_size - len(excluded))

    history = []
    for token in train:
        add(history, token)
        history = after(history, token)
    history = [0] if followers[()][0] else []
    for token in row:
        yield float(probability(history, token))
        if online:
            add(history, token)
        history = after(history, token)


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("order", [0, 1, 4])
def test_ppm_equals_a_slow_reference_program(order, online, restarts):
    train, row = np.append(drawn(1, 199), 0), drawn(2, 150, vocab_size=6)
    ends = np.flatnonzero(train == 0) + 1
    documents = Documents(train, np.append(0, ends)) if restarts else train
    model = fitted(PPM(order=order, online=online), documents)
    expected = list(reference(train.tolist(), row.tolist(), order, 6, online, restarts))
    assert np.allclose(np.exp(model.score(row[None])[0]), expected, rtol=1e-12)


def test_counts_under_update_exclusion_are_the_adjusted_counts_of_kneser_ney():
    train = 1 + drawn(3, 300, vocab_size=4)
    levels = counting.count(Documents.single(train), 3, 5, True)
    adjusted, grams = {}, [()]
    for level in levels[1:]:
        if len(level.keys) == 5 and grams == [()]:
            grams = [(token,) for token in range(5)]
        else:
            grams = [(int(key % 5), *grams[int(key // 5)]) for key in level.keys]
        adjusted |= {gram: int(count) for gram, count in zip(grams, level.counts, strict=True) if 0 not in gram}
    nodes = fitted(PPM(order=2), train, vocab_size=5).state["nodes"]
    counts, waiting = {}, [(ppm.ROOT, ())]
    while waiting:
        context, gram = waiting.pop()
        node = nodes[context, ppm.CHILD]
        while node != ppm.NONE:
            longer = (*gram, int(nodes[node, ppm.SYMBOL]))
            counts[longer] = int(nodes[node, ppm.COUNT])
            waiting.append((node, longer))
            node = nodes[node, ppm.SIBLING]
    assert counts == {gram: count for gram, count in adjusted.items() if count}


# ---------------------------------------------------------------- the cache


@pytest.mark.parametrize(("decay", "second"), [(1.0, 1.5 / 3.5), (0.5, 1.5 / 3.0)])
def test_the_cache_of_three_tokens_is_worked_by_hand(decay, second):
    model = fitted(Cache(window=2, decay=decay, add=0.5), [0], vocab_size=3)
    predicted = np.exp(model.score(np.array([[1, 1, 2]])))[0]
    third = 0.5 / (2.0 + 1.5) if decay == 1 else 0.5 / (1.5 + 1.5)  # behind 1 1
    assert np.allclose(predicted, [0.5 / 2.5, second, third], rtol=1e-12)


def test_the_cache_equals_a_slow_reference_program():
    config, row = Cache(window=7, decay=0.8, add=0.3), drawn(4, 60)
    history = [0, *row]
    for position, predicted in enumerate(np.exp(fitted(config, [0]).score(row[None])[0])):
        ages = {age: history[position + 1 - age] for age in range(1, min(7, position + 1) + 1)}
        count = sum(0.8 ** (age - 1) for age, token in ages.items() if token == row[position])
        total = sum(0.8 ** (age - 1) for age in ages)
        assert predicted == pytest.approx((count + 0.3) / (total + 0.3 * 6), rel=1e-12)


# ---------------------------------------------------------------- context mixing


def test_the_tree_keeps_the_order_of_the_vocabulary_and_halves_the_frequencies():
    children = context_mixing.halves(np.array([3, 0, 0, 1, 7, 0]))  # each counts once more
    starts, _, bits = context_mixing.paths(children, 6)
    codes = ["".join(map(str, bits[begin:end])) for begin, end in pairwise(starts)]
    assert codes == ["00", "0100", "0101", "011", "10", "11"]


def test_a_tree_has_a_leaf_for_every_token_and_no_leaf_besides():
    children = context_mixing.halves(drawn(5, 400, vocab_size=1000) ** 2)
    starts, _, _ = context_mixing.paths(children, 400)
    assert sum(Fraction(1, 2 ** int(length)) for length in np.diff(starts)) == 1


def test_separators_are_learned_from_what_follows_them():
    text = "ab ba cd dc ef fe, ab\n" * 20
    letters = ["\n", *sorted(set(text) - {"\n"})]
    types = context_mixing.separators_of(Documents.single([letters.index(c) for c in text]), len(letters))
    separators = {letter: int(type_) for letter, type_ in zip(letters, types, strict=True) if type_}
    assert separators == {" ": context_mixing.BLANK, "\n": context_mixing.OTHER, ",": context_mixing.OTHER}


def test_a_vocabulary_of_one_token_is_certain():
    for config in (*STATIC, *ONLINE, Cache()):
        assert np.allclose(fitted(config, np.zeros(50, dtype=int), vocab_size=1).score(np.zeros((2, 9), dtype=int)), 0)


def test_crowded_slots_break_no_law():
    model = fitted(ContextMixing(order=16, online=True), drawn(6, 400, vocab_size=64), vocab_size=64)
    assert np.count_nonzero(model.state["slots"]) > 0.99 * len(model.state["slots"])
    row = drawn(7, 40, vocab_size=64)
    expected = [model.next_log_probs(row[None, :t])[0, row[t]] for t in range(40)]
    assert np.allclose(model.score(row[None])[0], expected, rtol=1e-9)
    assert np.isclose(np.exp(model.next_log_probs(row[None])).sum(), 1, rtol=1e-12)


# ---------------------------------------------------------------- learning while scoring


@pytest.mark.parametrize(("static", "online"), [*zip(STATIC, ONLINE, strict=True)], ids=lambda config: config.name)
def test_the_first_token_of_a_row_is_predicted_alike_online_and_static(static, online):
    train, rows = drawn(8, 500), drawn(9, 20, 15)
    fixed, updated = (fitted(config, train).score(rows) for config in (static, online))
    assert np.array_equal(fixed[:, 0], updated[:, 0]) and not np.allclose(fixed[:, 1:], updated[:, 1:])


@pytest.mark.parametrize("config", ONLINE, ids=lambda config: config.name)
def test_what_was_scored_is_predicted_better_when_it_comes_again(config):
    model, text = fitted(config, drawn(10, 500)), drawn(11, 200)
    nats = model.score(np.tile(text, 3)[None])[0].reshape(3, -1).mean(-1)
    assert nats[0] < nats[1] - 0.1 < nats[2] - 0.1


@pytest.mark.parametrize("config", ONLINE, ids=lambda config: config.name)
def test_the_updates_of_a_row_are_undone_to_the_last_bit(config):
    model = fitted(config, drawn(12, 500))
    before = {name: array.copy() for name, array in model.state.items()}
    model.score(drawn(13, 3, 400, vocab_size=6))
    for name, array in before.items():
        assert np.array_equal(model.state[name][: len(array)], array), name


@pytest.mark.parametrize("config", [*STATIC, *ONLINE], ids=lambda config: f"{config.name} {config.category}")
def test_a_decoding_state_predicts_what_recomputing_predicts(config):
    model, rows = fitted(config, drawn(14, 500)), drawn(15, 3, 12)
    state = model.decoding_state(rows[:, :4])
    for position in range(4, 12):
        assert np.allclose(state.log_probs(), model.next_log_probs(rows[:, :position]), rtol=1e-12)
        state.append(rows[:, position])
    [first, *_] = sample(model, 2, 30, seed=1, stop_at_boundary=False)
    assert len(first) == 30


@pytest.mark.parametrize("config", ONLINE, ids=lambda config: config.name)
def test_no_more_texts_are_sampled_at_once_than_memory_allows(config, monkeypatch):
    model, held = fitted(config, drawn(14, 500)), []
    greedy = {"count": 5, "length": 30, "seed": 1, "top_k": 1, "stop_at_boundary": False}
    together = sample(model, **greedy)
    monkeypatch.setattr(sequential, "DECODING_MEMORY", 2 * sum(array.nbytes for array in model.fitted.values()))
    decoding_state = type(model).decoding_state
    monkeypatch.setattr(
        type(model), "decoding_state", lambda self, prefix: held.append(len(prefix)) or decoding_state(self, prefix)
    )
    apart = sample(model, **greedy)
    assert held == [2, 2, 1] and all(np.array_equal(a, b) for a, b in zip(together, apart, strict=True))


@pytest.mark.parametrize("config", [*STATIC, *ONLINE], ids=lambda config: f"{config.name} {config.category}")
def test_probabilities_are_normalised_to_the_last_digits(config):
    predicted = fitted(config, drawn(16, 300)).next_log_probs(drawn(17, 5, 30))
    assert np.allclose(np.exp(predicted).sum(-1), 1, rtol=1e-13)


# ---------------------------------------------------------------- a split as one row


def in_documents(seed, count):
    return Documents.of([[*(1 + drawn(seed + i, 6, vocab_size=4)), 0] for i in range(count)])


def scored(model, documents, protocol):
    read = as_read(documents, protocol)
    return score(model, read, windows_of(read.starts, protocol, 1, 1, 0))


@pytest.mark.parametrize("config", STATIC, ids=lambda config: config.name)
def test_contexts_of_documents_end_with_them_so_that_static_models_score_a_whole_split_alike(config):
    model, documents = fitted(config, in_documents(20, 40)), in_documents(90, 10)
    assert np.array_equal(scored(model, documents, "whole"), scored(model, documents, "stream"))


@pytest.mark.parametrize("config", ONLINE, ids=lambda config: config.name)
def test_an_online_model_learns_across_the_documents_of_a_whole_split(config):
    one = in_documents(90, 1)
    model, again = fitted(config, in_documents(20, 40)), Documents.of([one.tokens.tolist()] * 9)
    whole = scored(model, again, "whole").reshape(9, -1).sum(-1)
    alone = scored(model, again, "stream").reshape(9, -1).sum(-1)
    assert np.allclose(alone, whole[0]) and whole[-1] > whole[0] + 1


def test_the_protocol_whole_is_the_default_of_online_models_alone():
    chosen = {config: Scoring().resolved(config)["protocol"] for config in (*STATIC, *ONLINE, Cache(), Ngram())}
    assert {config for config, protocol in chosen.items() if protocol == "whole"} == {*ONLINE, Cache()}
    assert Scoring(protocol="stream").resolved(Cache())["protocol"] == "stream"


def test_models_that_learn_from_scored_tokens_are_of_category_online():
    updatable = {name for name, config in MODEL_TYPES.items() if "online" in config.model_fields}
    assert updatable == {"ppm", "context_mixing"}
    assert {MODEL_TYPES[name](online=True).category for name in updatable} == {"online"}
    assert {MODEL_TYPES[name]().category for name in updatable} == {"static"} and Cache().category == "online"


# ---------------------------------------------------------------- compiling


def test_where_no_folder_takes_the_compiled_code_it_is_compiled_all_the_same():
    nowhere = eval(compile("lambda x: x + 1", "<nowhere>", "eval"))
    with pytest.raises(RuntimeError, match="cannot cache"):
        njit(cache=True)(nowhere)
    assert compiled(nowhere)(1) == 2


# ---------------------------------------------------------------- figures


@pytest.fixture(scope="module")
def tinyshakespeare(data):
    text = (data / "tinyshakespeare.txt").read_text()
    letters = sorted(set(text))
    tokens = np.array([letters.index(c) for c in text])
    cut = len(tokens) * 9 // 10
    return tokens[:cut], tokens[cut:]


@pytest.mark.slow
def test_ppm_on_tinyshakespeare(tinyshakespeare):
    train, held_out = tinyshakespeare
    bits = [-fitted(PPM(online=online), train, 65).score(held_out[None]).mean() / np.log(2) for online in (False, True)]
    assert np.allclose(bits, [2.263, 2.109], atol=5e-4)


@pytest.mark.slow
def test_context_mixing_on_tinyshakespeare_alone_and_with_kneser_ney(tinyshakespeare):
    train, held_out = tinyshakespeare
    online = fitted(ContextMixing(online=True), train, 65)
    static = build(ContextMixing(), 65)
    static.restore(online.arrays())
    kneser_ney = fitted(KneserNey(order=9, discounts="tuned"), train, 65).score(held_out[None])
    mixed = np.logaddexp(static.score(held_out[None]), kneser_ney) - np.log(2)
    assert -online.score(held_out[None]).mean() <= 1.32 and -mixed.mean() <= 1.46
