"""Novelty of samples, worked out by hand and compared with exhaustive search."""

import random
import tracemalloc

import numpy as np
import pytest

from lmstages.analyses.copies import Train, longest_copies, occurrences, points_of
from lmstages.analyses.novelty import Reference, accepted, distinct
from lmstages.corpora import splits
from lmstages.corpora.grammar import Grammar

LINE = "the quick brown fox jumps over the lazy dog"
WORDS = ["to be or", "not to be", "be not"]


def anywhere(text, whole):
    return max((end - start for start in range(len(text)) for end in range(start, len(text) + 1)
                if text[start:end] in whole), default=0)  # fmt: skip


def measured(train, test, texts, ended, source=None, stream=False):
    pieces = Train([points_of(train)], sum(len(text.encode()) for text in train), stream)
    return Reference(pieces, test, source, [(texts, ended)]).measure(texts, ended)


def copies(texts, *segments):
    return longest_copies(texts, [points_of([segment]).points for segment in segments]).tolist()


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_the_longest_copy_equals_exhaustive_search(monkeypatch, block):
    draws = random.Random(3)
    whole = "".join(draws.choices("ab語😀", k=300))
    texts = ["".join(draws.choices("ab語😀d", k=25)) for _ in range(40)] + [whole[17:99], whole[-1], "", whole]
    monkeypatch.setattr("lmstages.analyses.copies.BLOCK", block)
    assert copies(texts, whole) == [anywhere(text, whole) for text in texts]


def test_copies_of_the_whole_of_nothing_and_of_a_text_of_one_letter():
    assert copies(["banana", "xyz", ""], "banana") == [6, 0, 0]
    assert copies(["abc"], "") == copies(["abc"]) == [0] and copies(["aaaaaa"], "aaaa") == [4]


def test_no_copy_crosses_the_end_of_a_segment():
    assert copies(["abcdef"], "abc", "def") == [3]


def test_a_copy_may_cross_two_documents_with_a_newline_between_them():
    ends = {"\n": 1, "\r\n": 2, "<end>\n": 6}
    for separator, size in ends.items():
        content = f"anna{separator}ben{separator}".encode()
        stops = np.array([4 + size, 7 + 2 * size])
        piece = splits.points_of_documents(splits.Part(content, stops, np.array([size, size])))
        found = occurrences(Train([piece], len(content), False), [], [], ["na\nbe", "ben\n"])
        assert found.longest == {"na\nbe": 5, "ben\n": 3}  # no newline ends the text


def by_definition(train, texts, ended):
    """Which texts are documents, or begin one."""
    return [text in train if whole else any(other.startswith(text) for other in train)
            for text, whole in zip(texts, ended, strict=True)]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_documents_and_beginnings_are_those_of_the_definition(seed):
    draws = random.Random(seed)
    train = ["".join(draws.choices("aé", k=draws.choice([0, 1, 3, 6]))) for _ in range(12)]
    texts = ["".join(draws.choices("aé", k=draws.choice([0, 1, 3, 6]))) for _ in range(60)]
    ended = [draws.random() < 0.5 for _ in texts]
    expected = by_definition(train, texts, ended)
    assert measured(train, ["a"], texts, ended)["in_train"] == np.mean(expected)


def test_of_a_long_train_a_part_is_searched_that_is_the_same_twice_and_said():
    pieces = [points_of([f"{number} {'abcdefgh' * number}"]) for number in range(50)]
    size = sum(len(piece.points) for piece in pieces)
    some, again, every = (
        occurrences(Train(pieces, size, False), ["7 " + "abcdefgh" * 7], [], ["49 " + "abcdefgh" * 49], most)
        for most in (size // 10, size // 10, size)
    )
    assert some == again and some.searched == pytest.approx(0.1, abs=1e-3) and every.searched == 1
    assert some.documents == every.documents and len(every.documents) == 1  # documents are looked for in all of train
    assert all(0 < some.longest[text] < every.longest[text] == len(text) for text in every.longest)


def test_memory_is_that_of_a_piece_and_of_what_is_searched():
    peaks = []
    for count in (20, 20, 200):  # the first call loads compiled code
        pieces = (points_of([LINE] * 500) for _ in range(count))
        tracemalloc.start()
        occurrences(Train(pieces, count * 500 * len(LINE), False), [LINE], [LINE[:9]], [LINE], 100_000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1] < 2_000_000


def test_distinct_by_hand():
    fractions = distinct(["a b a", "b a"], "words")  # a b a b a: 2 of 5; ab ba ba: 2 of 3; aba: 1 of 1
    assert fractions == {"distinct_1": 2 / 5, "distinct_2": 2 / 3, "distinct_3": 1.0, "unit": "words"}
    assert distinct(["aa"], "characters")["distinct_1"] == 1 / 2 and distinct([], "words")["distinct_1"] is None


def test_fractions_of_samples_by_hand():
    measures = measured(["anna", "ben"], ["ben", "clara", "dora"], ["anna", "clara", "emil", "emil"], [True] * 4)
    assert (measures["in_train"], measures["in_test"], measures["new"]) == (0.25, 0.25, 0.5)
    assert measures["found"] == 1 / 2  # clara, of clara and dora
    assert measures["longest_copy"] == {"mean": 7 / 4, "max": 4} and measures["accepted"] is None  # anna, a, e, e


def test_a_truncated_sample_is_in_train_if_it_begins_a_document():
    measures = measured(WORDS, ["or not"], ["to be", "be or"], [False, False])
    assert measures["in_train"] == 0.5 and measures["length_of_test"] == [5.0] * 5 and measures["unit"] == "words"


def test_in_a_stream_a_sample_may_occur_anywhere():
    measures = measured(["to be or not to be"], ["that is the question"], ["be or"], [False], stream=True)
    assert measures["in_train"] == 1.0 and measures["found"] is None


def test_train_as_samples_is_all_copied():
    measures = measured(WORDS, ["or not"], WORDS, [True] * 3)
    assert measures["in_train"] == 1.0 and measures["new"] == 0.0
    assert measures["longest_copy"] == {"mean": pytest.approx(23 / 3), "max": 9}


def test_the_source_accepts_its_own_samples_and_their_code_length_is_its_own():
    grammar, draws = Grammar.load("coined"), random.Random(1)
    texts = [grammar.sample(draws) for _ in range(30)]
    measures = measured(texts, texts, texts, [True] * 30, "coined")
    expected = -sum(grammar.score(text)[:-1].sum() for text in texts) / sum(map(len, texts))
    assert measures["accepted"] == 1.0 and measures["code_length"] == pytest.approx(expected / 0.6931471805599453)


def test_a_refused_text_counts_up_to_the_first_refused_character():
    grammar = Grammar.load("coined")
    name = grammar.sample(random.Random(1))
    whole, characters, bits = accepted(grammar, name + "#", True)
    assert not whole and characters == len(name) and bits > 0
    assert accepted(grammar, name[:-1], False)[0]
