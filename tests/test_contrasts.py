"""Probes from a grammar: combinations absent from train, minimal pairs, neighbours in an embedding."""

from collections import Counter
from random import Random

import numpy as np
import pytest

from lmstages.analyses.probing import accuracies, continuations, neighbours, token_categories
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.sections import Corpus
from lmstages.core.artifacts import load_json
from lmstages.core.documents import Documents
from lmstages.corpora import preparation
from lmstages.corpora.contrasts import CoupleModel, combinations, minimal_pairs, refused, write
from lmstages.corpora.grammar import GeneratedDocument, Grammar, generated_documents
from lmstages.models.base import build
from lmstages.tokenizers import learn

STREAM = {"protocol": "stream", "window": 8, "stride": 4}


@pytest.fixture(scope="module")
def fables():
    return generated_documents("fables", 12, 5)


@pytest.fixture(scope="module")
def pairs(fables):
    return minimal_pairs(Grammar.load("fables"), fables, most=4)


def test_every_kind_of_pair_is_made_and_differs_at_one_position(pairs):
    assert Counter(pair["kind"] for pair in pairs) == {"agreement": 4, "quotes": 4, "name": 4}
    for pair in pairs:
        good, bad = pair["good"], pair["bad"]
        first = next(index for index in range(len(bad)) if good[index] != bad[index])
        assert good[-20:] == bad[-20:] and len(good) - first <= 24 + 12


def test_the_oracle_is_right_on_every_pair(pairs):
    grammar = Grammar.load("fables")
    for pair in pairs:
        good, bad = (grammar.score(pair[side])[:-1].sum() for side in ("good", "bad"))
        assert np.isfinite(good) and good > bad == -np.inf


def test_a_beginning_of_a_document_is_not_refused(fables):
    grammar = Grammar.load("fables")
    assert not refused(grammar, fables[0].text[:60]) and refused(grammar, "The fox likes")


def test_a_generated_document_is_the_sampled_text():
    grammar = Grammar.load("fables")
    document = grammar.generate(Random(4))
    assert document.text == grammar.sample(Random(4)) and document.pairs == grammar.pairs(document.text)
    assert document.text.startswith(document.words["hero"][""])


def test_the_partner_precedes_its_couple(fables):
    for number, start, end, _, partner in combinations(fables):
        text = fables[number].text
        assert partner < start < end and text[partner:].startswith(tuple(fables[number].words["friend"].values()))


def couple(first, second, withheld=False):
    text = f"{first} eat {second}"
    words = {"friend": {"": first, "many": first}, "meal": {"": second}}
    return GeneratedDocument(text, [(text.index(second), len(text), withheld)], words)


def test_counting_couples_by_hand():
    train = [couple("hens", "corn"), couple("hens", "corn"), couple("hens", "figs"), couple("cows", "milk")]
    model_of_couples = CoupleModel(train)  # figs and milk once, corn twice: discount 2 / (2 + 2) = 1/2; three couples
    assert model_of_couples.discount == 0.5
    assert 2 ** -model_of_couples.bits("hens meal", "corn") == pytest.approx(1.5 / 3 + 0.5 * 2 / 3 / 3)
    assert 2 ** -model_of_couples.bits("hens meal", "milk") == pytest.approx(0.5 * 2 / 3 / 3)
    assert sum(2 ** -model_of_couples.bits("hens meal", word) for word in ("corn", "figs", "milk")) == pytest.approx(1)


def test_withheld_couples_cost_more_when_couples_are_counted():
    gap = CoupleModel(generated_documents("fables", 300, 0, "withheld")).gap(
        generated_documents("fables", 150, 0, "allowed")
    )
    assert gap["gap_bits"] == gap["unseen_bits"] - gap["seen_bits"] > 0.1


def test_the_combinations_are_those_of_the_documents_of_the_split(tmp_path):
    corpus = Corpus(source="fables", count=30)
    preparation.prepare(corpus, [], tmp_path, {})
    write(corpus, tmp_path, ["train", "test"], tmp_path / "contrasts.json", {})
    by_split = load_json(tmp_path / "contrasts.json")["combinations"]
    assert len(by_split["test"]) == 2 * 3 and not any(withheld for *_, withheld, _ in by_split["train"])


def test_a_corpus_without_sentences_has_no_pairs(tmp_path):
    corpus = Corpus(source="coined", count=30)
    preparation.prepare(corpus, [], tmp_path, {})
    write(corpus, tmp_path, ["test"], tmp_path / "contrasts.json", {})
    assert load_json(tmp_path / "contrasts.json")["pairs"] == []


def fitted(config, text, **keys):
    tokenizer = learn("char", None, [text], True, False, False)
    [(tokens, _)] = tokenizer.encode([text])
    model = build(MODEL_TYPES[config].model_validate(keys), tokenizer.vocab_size)
    model.fit(Documents.single(tokens), Documents.single(tokens), 0)
    return model, tokenizer


def test_a_fitted_model_is_right_and_a_uniform_one_is_right_by_half():
    pair = [{"kind": "order", "good": "abcabc", "bad": "abcacb"}]
    assert accuracies(*fitted("ngram", "abc" * 30, order=3), pair, STREAM)["all"] == {"accuracy": 1.0, "pairs": 1}
    assert accuracies(*fitted("uniform", "abc" * 30), pair, STREAM)["order"]["accuracy"] == 0.5
    assert accuracies(*fitted("uniform", "abc" * 30), [], STREAM) is None


@pytest.mark.parametrize("protocol", ["stream", "stride"])
def test_a_continuation_costs_what_the_whole_costs_beyond_its_beginning(protocol):
    model, tokenizer = fitted("ngram", "abcab" * 30, order=3)
    encoded = tokenizer.encode(["abcabcab"])
    nats = continuations(model, tokenizer, encoded, np.array([5]), {**STREAM, "protocol": protocol})
    assert nats[0] == pytest.approx(model.score(encoded[0][0][None])[0, 5:].sum())


def test_neighbours_by_hand():
    vectors = np.array([[0, 0], [1, 0], [1, 0.1], [0, 1], [1, -0.5]])
    categories = {1: "vowels", 2: "vowels", 3: "consonants", 4: "consonants"}
    result = neighbours({"embedding.weight": vectors}, categories)  # the last two are nearest to vowels
    assert result["share"] == 0.5 and result["chance"] == pytest.approx(1 / 3) and result["tokens"] == 4
    assert neighbours({"counts": vectors}, categories) is None


def test_letters_and_words_have_categories():
    chars = learn("char", None, ["aBc1."], True, False, False)
    kinds = {chars.decode([token]): kind for token, kind in token_categories(chars, None).items()}
    assert kinds == {"a": "vowels", "B": "capitals", "c": "consonants", "1": "digits", ".": "signs"}
    words = learn("word", 260, [" ".join(f"w{n} fox hens" for n in range(300))], True, False, False)
    by_word = {words.decode([token]): kind for token, kind in token_categories(words, "fables").items()}
    assert by_word == {" fox": "animal", " hens": "animal"}
