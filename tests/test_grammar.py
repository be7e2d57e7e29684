"""Grammars: scores, entropy and lengths of small ones, worked out by hand, and their error messages."""

import math
from random import Random

import numpy as np
import pytest
import yaml

from lmstages.core.errors import UserError
from lmstages.corpora.grammar import Grammar, Unseen

PETS = """
words:
  pet(one, many): [cat/cats*3, dog/dogs]
  food: [ham, jam]
rules:
  main: ['3: {p=pet} eats {food for p}.', 'no {pet.many}']
withheld:
  food for pet: {cat: [ham]}
"""
TWICE = "{words: {}, rules: {main: ['2: aa', 'a{a}'], a: ['a', '3: b']}}"


def grammar(text: str, unseen: Unseen = "allowed") -> Grammar:
    return Grammar(yaml.safe_load(text), unseen)


def entropy(*probabilities: float) -> float:
    return -sum(probability * math.log(probability) for probability in probabilities)


def test_score_is_the_product_of_the_choices() -> None:
    scores = grammar(PETS).score("cat eats jam.")
    assert scores.sum() == pytest.approx(math.log(3 / 4 * 3 / 4 * 1 / 2))
    assert scores[[0, 9]] == pytest.approx(np.log([9 / 16, 1 / 2]))


def test_score_sums_over_derivations() -> None:
    scores = grammar(TWICE).score("aa")
    assert scores.sum() == pytest.approx(math.log(2 / 3 + 1 / 3 * 1 / 4))


def test_next_log_probs_by_hand() -> None:
    following = grammar(TWICE).next_log_probs("a")
    assert {key: math.exp(value) for key, value in following.items()} == pytest.approx({"a": 3 / 4, "b": 1 / 4})
    assert grammar(TWICE).next_log_probs("ab") == {"": 0.0}


def test_score_is_next_log_probs_of_each_prefix() -> None:
    pets, document = grammar(PETS), "no cats"
    prefixes = range(len(document) + 1)
    expected = [pets.next_log_probs(document[:end])[document[end : end + 1]] for end in prefixes]
    assert pets.score(document) == pytest.approx(expected)


def test_entropy_by_hand() -> None:
    expected = entropy(3 / 4, 1 / 4) + entropy(3 / 4, 1 / 4) + 3 / 4 * entropy(1 / 2, 1 / 2)
    assert grammar(PETS).entropy() == pytest.approx(expected)


def test_entropy_of_withheld_pairs_by_hand() -> None:
    expected = entropy(3 / 4, 1 / 4) + entropy(3 / 4, 1 / 4) + 3 / 4 * 1 / 4 * entropy(1 / 2, 1 / 2)
    assert grammar(PETS, "withheld").entropy() == pytest.approx(expected)


def test_expected_length_by_hand() -> None:
    assert grammar(PETS).expected_length() == pytest.approx(3 / 4 * 13 + 1 / 4 * 7)


def test_expected_length_of_remembered_words_by_hand() -> None:
    source = grammar("{words: {name: [Al, Beatrix*3]}, rules: {main: ['{who:name}{Who} is {who}']}}")
    assert source.expected_length() == pytest.approx(4 + 2 * (1 / 4 * 2 + 3 / 4 * 7))


def test_a_condition_closes_alternatives() -> None:
    source = grammar("{words: {n: [one, two]}, rules: {main: ['{k=n}{s}'], s: ['if k=one: x', 'if k=two: y', ' z']}}")
    assert math.exp(source.score("onex").sum()) == pytest.approx(1 / 4)
    assert source.score("oney").sum() == -np.inf


def test_after_a_refused_character_nothing_is_possible() -> None:
    scores = grammar(PETS).score("cat bats")
    assert np.isfinite(scores[:4]).all() and (scores[4:] == -np.inf).all()


def test_an_unfinished_document_does_not_end() -> None:
    scores = grammar(PETS).score("cat eats")
    assert np.isfinite(scores[:-1]).all() and scores[-1] == -np.inf


def test_pairs_have_a_span_and_whether_they_are_withheld() -> None:
    assert grammar(PETS).pairs("cat eats ham.") == [(9, 12, True)]
    assert grammar(PETS).pairs("dog eats ham.") == [(9, 12, False)]
    assert grammar(PETS).pairs("no dogs") == []


def test_a_withheld_pair_has_no_probability_and_the_rest_all() -> None:
    train = grammar(PETS, "withheld")
    assert train.score("cat eats ham.").sum() == -np.inf
    assert train.next_log_probs("cat eats ") == {"j": 0.0}


def test_products_and_weights_of_words() -> None:
    source = grammar("{words: {name: ['A|B + x|y*2', 'C']}, rules: {main: ['{name}']}}")
    assert math.exp(source.score("Ay").sum()) == pytest.approx(2 / 9)
    assert math.exp(source.score("C").sum()) == pytest.approx(1 / 9)


def test_samples_come_as_often_as_scored() -> None:
    source, random = grammar(TWICE), Random(3)
    frequency = np.mean([source.sample(random) == "ab" for _ in range(4000)])
    assert abs(frequency - 1 / 4) < 4 * math.sqrt(3 / 16 / 4000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{words: {pet: [cat]}, rules: {main: ['{pett}']}}", r"main: 'pett' is not known \(did you mean 'pet'\?\)"),
        ("{words: {pet: [cat]}, rules: {main: ['{p=pet}{p.many}']}}", "'many' is not known"),
        ("{words: {pet: [cat]}, rules: {main: ['{pet for q}']}}", "'q' is not known"),
        ("{words: {pet: [cat]}, rules: {main: ['{p=pet}', 'if p=dog: x']}}", "'dog' is not known"),
        ("{words: {pet: [cat, cat]}, rules: {main: ['{pet}']}}", "words: pet: a word occurs twice"),
        ("{words: {? 'pet(one, many)' : [cat]}, rules: {main: ['{pet}']}}", "'cat' has 1 forms; expected 2"),
        ("{words: {}, rules: {main: ['{']}}", "cannot read '{'"),
        ("{words: {}, rules: {main: ['x{main}']}}", "rules: main: the rule calls itself"),
        ("{words: {pet: [no]}, rules: {main: ['x']}}", "YAML read False; expected a text; put it in quotes"),
        ("{words: {a: [x], b: [y]}, rules: {main: ['x']}, withheld: {b for a: {x: [z]}}}", "b for a: 'z' is not known"),
    ],
)
def test_a_mistake_in_a_grammar_is_reported(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        grammar(text)


def test_an_impossible_prefix_is_reported() -> None:
    with pytest.raises(UserError, match=r"character 2 \('x'\) of the document cannot follow"):
        grammar(PETS).next_log_probs("nox")
    with pytest.raises(UserError, match="the end of the document cannot follow"):
        grammar(PETS).pairs("no do")


def test_an_unknown_corpus_is_reported() -> None:
    with pytest.raises(UserError, match=r"'fabels' \(did you mean 'fables'\?\); allowed: coined, fables"):
        Grammar.load("fabels")
