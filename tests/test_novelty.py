"""Novelty of samples, worked out by hand and compared with exhaustive search."""

import random

import pytest

from lmstages.analyses.novelty import Reference, Suffixes, accepted, distinct
from lmstages.corpora.grammar import Grammar

WORDS = ["to be or", "not to be", "be not"]


def anywhere(text, whole):
    return max((end - start for start in range(len(text)) for end in range(start, len(text) + 1)
                if text[start:end] in whole), default=0)  # fmt: skip


def test_the_longest_copy_equals_exhaustive_search():
    draws = random.Random(3)
    whole = "".join(draws.choices("abc", k=300))
    suffixes = Suffixes(whole)
    for _ in range(40):
        text = "".join(draws.choices("abcd", k=25))
        assert suffixes.longest_copy(text) == anywhere(text, whole)


def test_copies_of_the_whole_of_nothing_and_of_a_text_of_one_letter():
    assert Suffixes("banana").longest_copy("banana") == 6 and Suffixes("banana").longest_copy("xyz") == 0
    assert Suffixes("").longest_copy("abc") == 0 and Suffixes("aaaa").longest_copy("aaaaaa") == 4


def test_distinct_by_hand():
    fractions = distinct(["a b a", "b a"], "words")  # a b a b a: 2 of 5; ab ba ba: 2 of 3; aba: 1 of 1
    assert fractions == {"distinct_1": 2 / 5, "distinct_2": 2 / 3, "distinct_3": 1.0, "unit": "words"}
    assert distinct(["aa"], "characters")["distinct_1"] == 1 / 2 and distinct([], "words")["distinct_1"] is None


def test_fractions_of_samples_by_hand():
    measures = Reference(["anna", "ben"], ["ben", "clara", "dora"], None, False).measure(
        ["anna", "clara", "emil", "emil"], [True, True, True, True]
    )
    assert (measures["in_train"], measures["in_test"], measures["new"]) == (0.25, 0.25, 0.5)
    assert measures["found"] == 1 / 2  # clara, of clara and dora
    assert measures["longest_copy"] == {"mean": 7 / 4, "max": 4} and measures["accepted"] is None  # anna, a, e, e


def test_a_truncated_sample_is_in_train_if_it_begins_a_document():
    measures = Reference(WORDS, ["or not"], None, False).measure(["to be", "be or"], [False, False])
    assert measures["in_train"] == 0.5 and measures["length_of_test"] == [5.0] * 5 and measures["unit"] == "words"


def test_in_a_stream_a_sample_may_occur_anywhere():
    measures = Reference(["to be or not to be"], ["that is the question"], None, True).measure(["be or"], [False])
    assert measures["in_train"] == 1.0 and measures["found"] is None


def test_train_as_samples_is_all_copied():
    measures = Reference(WORDS, ["or not"], None, False).measure(WORDS, [True] * 3)
    assert measures["in_train"] == 1.0 and measures["new"] == 0.0
    assert measures["longest_copy"] == {"mean": pytest.approx(23 / 3), "max": 9}


def test_the_source_accepts_its_own_samples_and_their_code_length_is_its_own():
    grammar, draws = Grammar.load("coined"), random.Random(1)
    texts = [grammar.sample(draws) for _ in range(30)]
    measures = Reference(texts, texts, "coined", False).measure(texts, [True] * 30)
    expected = -sum(grammar.score(text)[:-1].sum() for text in texts) / sum(map(len, texts))
    assert measures["accepted"] == 1.0 and measures["code_length"] == pytest.approx(expected / 0.6931471805599453)


def test_a_refused_text_counts_up_to_the_first_refused_character():
    grammar = Grammar.load("coined")
    name = grammar.sample(random.Random(1))
    whole, characters, bits = accepted(grammar, name + "#", True)
    assert not whole and characters == len(name) and bits > 0
    assert accepted(grammar, name[:-1], False)[0]
