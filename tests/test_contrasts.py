"""What a grammar lets one ask: combinations that train lacks, pairs of texts, and how models answer."""

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
from lmstages.corpora.contrasts import Couples, combinations, minimal_pairs, refused, write
from lmstages.corpora.grammar import Grammar, Telling, tellings
from lmstages.models.base import build
from lmstages.tokenizers import learn

STREAM = {"protocol": "stream", "window": 8, "stride": 4}


@pytest.fixture(scope="module")
def told():
    return tellings("fables", 12, 5)


@pytest.fixture(scope="module")
def pairs(told):
    return minimal_pairs(Grammar.load("fables"), told, most=4)


def test_every_kind_of_pair_is_made_and_differs_in_one_place(pairs):
    assert Counter(pair["kind"] for pair in pairs) == {"agreement": 4, "quotes": 4, "name": 4}
    for pair in pairs:
        good, bad = pair["good"], pair["bad"]
        first = next(at for at in range(len(bad)) if good[at] != bad[at])
        assert good[-20:] == bad[-20:] and len(good) - first <= 24 + 12


def test_the_oracle_is_right_on_every_pair(pairs):
    grammar = Grammar.load("fables")
    for pair in pairs:
        good, bad = (grammar.score(pair[side])[:-1].sum() for side in ("good", "bad"))
        assert np.isfinite(good) and good > bad == -np.inf


def test_a_beginning_of_a_document_is_not_refused(told):
    grammar = Grammar.load("fables")
    assert not refused(grammar, told[0].text[:60]) and refused(grammar, "The fox likes")


def test_a_telling_is_what_sampling_draws():
    grammar = Grammar.load("fables")
    telling = grammar.tell(Random(4))
    assert telling.text == grammar.sample(Random(4)) and telling.pairs == grammar.pairs(telling.text)
    assert telling.text.startswith(telling.words["hero"][""])


def test_the_partner_stands_before_its_couple(told):
    for number, start, end, _, partner in combinations(told):
        text = told[number].text
        assert partner < start < end and text[partner:].startswith(tuple(told[number].words["friend"].values()))


def couple(first, second, withheld=False):
    text = f"{first} eat {second}"
    words = {"friend": {"": first, "many": first}, "meal": {"": second}}
    return Telling(text, [(text.index(second), len(text), withheld)], words)


def test_counting_couples_by_hand():
    train = [couple("hens", "corn"), couple("hens", "corn"), couple("hens", "figs"), couple("cows", "milk")]
    counted = Couples(train)  # figs and milk once, corn twice: discount 2 / (2 + 2) = 1/2; three couples
    assert counted.discount == 0.5
    assert 2 ** -counted.bits("hens meal", "corn") == pytest.approx(1.5 / 3 + 0.5 * 2 / 3 / 3)
    assert 2 ** -counted.bits("hens meal", "milk") == pytest.approx(0.5 * 2 / 3 / 3)
    assert sum(2 ** -counted.bits("hens meal", word) for word in ("corn", "figs", "milk")) == pytest.approx(1)


def test_withheld_couples_cost_more_when_couples_are_counted():
    gap = Couples(tellings("fables", 300, 0, "withheld")).gap(tellings("fables", 150, 0, "allowed"))
    assert gap["gap_bits"] == gap["unseen_bits"] - gap["seen_bits"] > 0.1


def test_what_is_written_is_about_the_documents_of_the_split(tmp_path):
    corpus = Corpus(source="fables", count=30)
    preparation.prepare(corpus, [], tmp_path, {})
    write(corpus, tmp_path, ["train", "test"], tmp_path / "contrasts.json", {})
    found = load_json(tmp_path / "contrasts.json")
    assert len(found["combinations"]["test"]) == 2 * 3 and not any(c[3] for c in found["combinations"]["train"])


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


def test_a_model_that_knows_the_text_is_right_and_guessing_is_right_by_half():
    pair = [{"kind": "order", "good": "abcabc", "bad": "abcacb"}]
    assert accuracies(*fitted("ngram", "abc" * 30, order=3), pair, STREAM)["all"] == {"accuracy": 1.0, "pairs": 1}
    assert accuracies(*fitted("uniform", "abc" * 30), pair, STREAM)["order"]["accuracy"] == 0.5
    assert accuracies(*fitted("uniform", "abc" * 30), [], STREAM) is None


@pytest.mark.parametrize("protocol", ["stream", "stride"])
def test_a_continuation_costs_what_the_whole_costs_beyond_its_beginning(protocol):
    model, tokenizer = fitted("ngram", "abcab" * 30, order=3)
    encoded = tokenizer.encode(["abcabcab"])
    found = continuations(model, tokenizer, encoded, np.array([5]), {**STREAM, "protocol": protocol})
    assert found[0] == pytest.approx(model.score(encoded[0][0][None])[0, 5:].sum())


def test_neighbours_by_hand():
    vectors = np.array([[0, 0], [1, 0], [1, 0.1], [0, 1], [1, -0.5]])
    categories = {1: "vowels", 2: "vowels", 3: "consonants", 4: "consonants"}
    found = neighbours({"embedding.weight": vectors}, categories)  # the last two lie nearest to vowels
    assert found["share"] == 0.5 and found["chance"] == pytest.approx(1 / 3) and found["tokens"] == 4
    assert neighbours({"counts": vectors}, categories) is None


def test_letters_and_words_have_categories():
    chars = learn("char", None, ["aBc1."], True, False, False)
    kinds = {chars.decode([token]): kind for token, kind in token_categories(chars, None).items()}
    assert kinds == {"a": "vowels", "B": "capitals", "c": "consonants", "1": "digits", ".": "signs"}
    words = learn("word", 260, [" ".join(f"w{n} fox hens" for n in range(300))], True, False, False)
    found = {words.decode([token]): kind for token, kind in token_categories(words, "fables").items()}
    assert found == {" fox": "animal", " hens": "animal"}
