"""Causal tracing restores what it says: everything gives the clean run back, nothing the corrupted one."""

from itertools import islice

import numpy as np
import pytest
import torch
from test_inspection import SMALL

from lmstages.analyses import tracing as analysis
from lmstages.config.sections import Corpus, config_of
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.corpora.grammar import Grammar, documents
from lmstages.corpora.recalls import told
from lmstages.models.base import build
from lmstages.models.neural import tracing
from lmstages.results import tracing as results
from lmstages.tokenizers.symbols import CharTokenizer

RECURRENT = {"embedding": 4, "hidden": 6, "layers": 2}
NETWORKS = {
    **{name: SMALL[name] for name in ("gpt", "llama", "modern_gpt")},
    **dict.fromkeys(("rnn", "gru", "lstm"), RECURRENT),
}
CLEAN = np.array([[1, 2, 3, 4, 5, 1], [2, 2, 5, 3, 1, 4]])
CORRUPTED = np.array([[1, 2, 5, 5, 5, 1], [2, 3, 5, 3, 1, 4]])
ANSWERS = np.array([3, 2])
OF_MODEL = {"corpus": "fables", "tokenizer": "char", "model": "gpt", "title": "GPT", "rank": 1}


def loud(name, hyperparameters):
    """A network with random weights that are large enough to matter."""
    built = build(config_of({"type": name, "hyperparameters": hyperparameters}), 6)
    draws = np.random.default_rng(1)
    arrays = {key: draws.normal(0, 0.5, array.shape).astype(np.float32) for key, array in built.initial(3).items()}
    built.restore(arrays)
    return built


@pytest.fixture(scope="module", params=NETWORKS)
def model(request):
    """A network of every kind that is traced."""
    return loud(request.param, NETWORKS[request.param])


def restored(model, place, where, facts=(0, 1)):
    """Nats of both answers where one place is restored at the same positions of both rows."""
    positions = np.zeros((len(facts), CLEAN.shape[1]), dtype=bool)
    positions[:, where] = True
    sites = tracing.Sites(np.array(facts), [place] * len(facts), positions)
    return tracing.restored(model, CLEAN, CORRUPTED, ANSWERS, sites)


def test_what_is_answered_is_the_score_of_the_network(model):
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(CLEAN))[:, -1].double()
    expected = logits.log_softmax(-1)[range(2), ANSWERS].numpy()
    np.testing.assert_allclose(tracing.answered(model, CLEAN, ANSWERS), expected, atol=1e-6)


def test_restoring_the_whole_embedding_is_the_clean_run(model):
    nats = restored(model, (0, "state"), range(6))
    np.testing.assert_allclose(nats, tracing.answered(model, CLEAN, ANSWERS), atol=1e-5)
    assert abs(nats - tracing.answered(model, CORRUPTED, ANSWERS)).min() > 1e-3


def test_restoring_the_top_layer_where_the_answer_is_predicted_is_the_clean_run(model):
    top = next(place for place in reversed(tracing.places(model)) if place[1] != "cell")
    np.testing.assert_allclose(restored(model, top, [5]), tracing.answered(model, CLEAN, ANSWERS), atol=1e-5)


def test_restoring_nothing_is_the_corrupted_run(model):
    for place in tracing.places(model):
        np.testing.assert_allclose(restored(model, place, []), tracing.answered(model, CORRUPTED, ANSWERS), atol=1e-5)


def test_a_state_before_the_fact_changes_nothing(model):
    for place in tracing.places(model):
        np.testing.assert_allclose(restored(model, place, [0]), tracing.answered(model, CORRUPTED, ANSWERS), atol=1e-5)


def test_a_state_on_which_the_answer_cannot_depend_changes_nothing():
    built = build(config_of({"type": "gpt", "hyperparameters": SMALL["gpt"]}), 6)
    built.restore(built.initial(3))
    np.testing.assert_allclose(
        restored(built, (2, "state"), range(5)), tracing.answered(built, CORRUPTED, ANSWERS), atol=1e-6
    )


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"], indirect=True)
def test_all_that_a_recurrent_network_hands_on_holds_all_that_came_before(model):
    layers = [(layer, "state") for layer in (1, 2)]
    sites = tracing.Sites(np.array([0, 0]), layers, np.zeros((2, 6), dtype=bool))
    assert tracing.restored(model, CLEAN, CORRUPTED, ANSWERS, sites).shape == (2,)
    one = build(config_of({"type": model.config.name, "hyperparameters": RECURRENT | {"layers": 1}}), 6)
    one.restore(one.initial(3))
    np.testing.assert_allclose(restored(one, (1, "state"), [4]), tracing.answered(one, CLEAN, ANSWERS), atol=1e-6)


def test_sites_of_one_batch_do_not_touch_each_other(model, monkeypatch):
    places, facts = tracing.places(model), np.array([0, 1] * 3)
    positions = np.eye(6, dtype=bool)[[2, 1, 3, 2, 5, 4]]
    sites = tracing.Sites(facts, [places[index % len(places)] for index in (0, 0, 1, 1, 2, 2)], positions)
    together = tracing.restored(model, CLEAN, CORRUPTED, ANSWERS, sites)
    monkeypatch.setattr(tracing, "ROWS", 1)
    np.testing.assert_allclose(tracing.restored(model, CLEAN, CORRUPTED, ANSWERS, sites), together, atol=1e-5)
    assert not any(module._forward_hooks for module in model.network.modules()), "the network is left as it was"


# ---------------------------------------------------------------- facts of stories


def test_stories_are_those_of_the_corpus_and_both_tellings_agree_up_to_the_answer():
    stories = list(islice(told("fables", 0, "allowed"), 12))
    assert [story.text for story in stories] == documents("fables", 12, 0, "allowed")
    facts = [fact for story in stories for fact in story.facts()]
    assert {"friend", "hero", "own"} <= {fact.kind for fact in facts}
    for fact in facts:
        said, other = fact.text[fact.start : fact.end], fact.other[fact.start : fact.end]
        assert said[0] != other[0] and len(said) == len(other)
        asked = next(n for n in range(fact.end, len(fact.text)) if fact.text[n] != fact.other[n])
        assert said not in fact.text[fact.end : asked], "nothing between says it again"


def test_another_telling_is_of_the_grammar_too():
    grammar, story = Grammar.load("fables"), next(told("fables", 0, "allowed"))
    fact = next(fact for fact in story.facts() if fact.kind == "friend")
    assert np.isfinite(grammar.score(fact.other)[: fact.end]).all()


def test_a_corpus_without_recalls_has_no_facts():
    assert not any(list(story.facts()) for story in islice(told("coined", 0, "allowed"), 5))


LETTERS = CharTokenizer(["", *map(chr, range(32, 127))], escape=None)


def rows_of_fables(split="test"):
    corpus = Corpus(source="fables", count=60, split={"train": 0.5, "valid": 0.25, "test": 0.25})
    texts = documents("fables", 30, 0, "allowed")
    tokens = [[*encoded.tolist(), 0] for encoded, _ in LETTERS.encode(texts[15:])]
    return analysis.rows_of(LETTERS, Documents.of(tokens), split, corpus)


def test_rows_end_before_the_answer_and_tell_where_the_fact_stands():
    rows = rows_of_fables()
    assert rows.clean.shape == (len(rows.kinds), analysis.ROW) and len(rows.kinds) > 20
    for clean, corrupted, start, end in zip(rows.clean, rows.corrupted, rows.starts, rows.ends, strict=True):
        assert (clean[end:] == corrupted[end:]).all() and clean[start] != corrupted[start]
        assert LETTERS.decode(clean[start - 1 : start].tolist()) in ' "', "a fact is a whole word"
    positions = rows.positions()
    assert (np.diff(positions, axis=1) >= 0).all() and (positions[:, -1] == analysis.ROW - 1).all()


def test_a_shorter_context_has_the_facts_that_stand_in_it():
    rows = rows_of_fables()
    near = rows.within(24)
    assert 0 < len(near.kinds) < len(rows.kinds) and near.clean.shape[1] == 24
    assert (near.starts >= 0).all() and rows.within(None).kinds == rows.kinds


def test_train_which_lacks_words_by_design_is_not_asked():
    assert rows_of_fables("train") is None


# ---------------------------------------------------------------- tables


def nats(worth, share):
    """Twelve facts: corrupted, clean, and one site."""
    corrupted = np.linspace(-3, -2, 12)
    return np.column_stack([corrupted, corrupted + worth, corrupted + worth * share])


def test_worth_and_what_is_recovered_are_worked_by_hand():
    [row] = results.restored(OF_MODEL, [[1, "state", "last"]], nats(0.5, 0.25))
    assert row.recovered == pytest.approx(0.25) and row.recovered_low == pytest.approx(0.25)
    assert row.restored == pytest.approx(2.5 - 0.125)
    every, hero, own = results.recalled(OF_MODEL, ["hero", "own"] * 6, nats(0.5, 0.25))
    assert (every.kind, every.facts, hero.facts, own.kind) == (None, 12, 6, "own")
    assert every.worth == pytest.approx(0.5) and every.corrupted - every.clean == pytest.approx(0.5)


def test_of_what_is_not_held_for_certain_nothing_is_recovered():
    [row] = results.restored(OF_MODEL, [[1, "state", "last"]], nats(np.tile([1.0, -1.0], 6), 1.0))
    assert row.recovered is None and row.recovered_low is None


def test_nats_of_other_facts_are_refused(tmp_path):
    arrays = {"gpt.tracing": nats(1.0, 1.0)}
    traced = {"kinds": ["hero"] * 11, "sites": [[0, "state", "last"]]}
    with pytest.raises(UserError, match="lacks the nats of the facts of gpt"):
        results.nats_of(arrays, tmp_path / "inspection.safetensors", "gpt", traced)


def test_a_word_that_an_alphabet_lacks_is_left_out():
    fact = next(fact for fact in next(told("fables", 0, "allowed")).facts() if fact.kind == "friend")
    assert analysis._row(CharTokenizer(["", "a"], escape=None), fact) is None
