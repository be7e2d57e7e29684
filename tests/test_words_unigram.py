"""Words and unigram: exact round trips, every byte covered, deterministic learning."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.tokenizers import UnigramTokenizer, WordTokenizer, from_json, learn
from lmstages.tokenizers.base import LONGEST_PIECE
from lmstages.tokenizers.words import PIECE

ODD = "naïve \u2028\x0b\x0c\x85\x1c\r\n\n語🙂 e\u0301 <|endoftext|> <0x0A> ▁ <unk> \ue000 \x01\x7f\u200b\ufeff\ufffd"
TEXTS = ["the cat sat on the mat\n", "the cat ate the rat, the rat ran\n", ODD]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SIZES = {"word": 12, "unigram": 262}
EVERY_CHARACTER = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]


def learnt(kind, texts=TEXTS, vocab_size=None, newline_ends=False, stream=True):
    return learn(kind, vocab_size or SIZES[kind], texts, newline_ends, stream, closed=False)


LEARNT = {kind: learnt(kind) for kind in SIZES}


@settings(max_examples=300)
@given(text=TEXT)
def test_unigram_restores_any_text(text):
    [(tokens, lengths)] = LEARNT["unigram"].encode([text])
    assert LEARNT["unigram"].decode(tokens.tolist()) == text and lengths.sum() == len(text.encode())


@settings(max_examples=300)
@given(text=TEXT)
def test_any_text_is_cut_into_words_without_a_gap(text):
    pieces = PIECE.findall(text)
    assert "".join(pieces) == text and all(len(piece.encode()) <= LONGEST_PIECE for piece in pieces)


@given(text=TEXT)
def test_decoding_restores_any_text_from_its_own_words(text):
    words = WordTokenizer.learn([text], len(set(PIECE.findall(text)) - {"\n"}) + 2, False, stream=True)
    [(tokens, _)] = words.encode([text])
    assert words.escape not in tokens and words.decode(tokens.tolist()) == text


@pytest.mark.parametrize("kind", SIZES)
@given(texts=st.lists(TEXT, min_size=1, max_size=4))
def test_the_tokens_cover_every_byte(kind, texts):
    for text, (tokens, lengths) in zip(texts, LEARNT[kind].encode(texts), strict=True):
        assert lengths.sum() == len(text.encode()) and len(tokens) == len(lengths)
        assert ((tokens >= 0) & (tokens < LEARNT[kind].vocab_size)).all()


@pytest.mark.parametrize("kind", SIZES)
def test_every_character_of_unicode_is_covered(kind):
    texts = ["".join(EVERY_CHARACTER[start : start + 500]) for start in range(0, len(EVERY_CHARACTER), 500)]
    for text, (tokens, lengths) in zip(texts, LEARNT[kind].encode(texts), strict=True):
        assert lengths.sum() == len(text.encode())
        assert kind == "word" or LEARNT[kind].decode(tokens.tolist()) == text


@pytest.mark.parametrize("kind", SIZES)
def test_encoding_a_batch_equals_encoding_each_text(kind):
    batch = LEARNT[kind].encode([*TEXTS, "", "the"])
    single = [LEARNT[kind].encode([text])[0] for text in [*TEXTS, "", "the"]]
    assert [tokens.tolist() for tokens, _ in batch] == [tokens.tolist() for tokens, _ in single]


@pytest.mark.parametrize("kind", SIZES)
def test_a_saved_tokenizer_is_the_same(kind):
    restored = from_json(json.loads(json.dumps(LEARNT[kind].to_json(), sort_keys=True)))
    assert restored.to_json() == LEARNT[kind].to_json() and restored.vocab_size == SIZES[kind]
    for before, after in zip(LEARNT[kind].encode(TEXTS), restored.encode(TEXTS), strict=True):
        tokens = before[0].tolist()
        assert np.array_equal(before, after) and restored.decode(tokens) == LEARNT[kind].decode(tokens)


LEARN_IN_A_PROCESS = """
import hashlib, json, sys
import numpy as np
from lmstages.tokenizers import learn
texts = ["".join(np.random.default_rng(n).choice(list("abcd "), 200)) for n in range(50)]
saved = learn(sys.argv[1], int(sys.argv[2]), texts, False, True, False).to_json()
print(hashlib.sha256(json.dumps(saved, sort_keys=True).encode()).hexdigest())
"""


@pytest.mark.parametrize(("kind", "vocab_size"), [("word", 20), ("unigram", 290)])
def test_learning_is_deterministic_from_one_process_to_the_next(kind, vocab_size):
    command = [sys.executable, "-c", LEARN_IN_A_PROCESS, kind, str(vocab_size)]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second and len(first) == 65


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("texts", [["abab cd"], [""], []])
def test_a_vocabulary_larger_than_the_text_allows_is_an_error(kind, texts):
    with pytest.raises(UserError, match=r"for \d+ tokens only, 5,?000 were asked for; lower vocab_size"):
        learnt(kind, texts, 5000)


def test_the_largest_vocabulary_in_the_message_is_possible():
    with pytest.raises(UserError) as error:
        learnt("unigram", TEXTS, 5000)
    largest = int(str(error.value).split(" tokens only")[0].split()[-1])
    assert learnt("unigram", TEXTS, largest).vocab_size == largest


# Words


def test_words_carry_the_space_before_them_and_punctuation_is_separate():
    assert PIECE.findall("Ay, the  cat's\n mat--!") == ["Ay", ",", " the", " ", " cat", "'", "s", "\n", " mat", "--!"]


def test_the_most_frequent_words_are_kept_and_ties_go_by_code_point():
    words = learnt("word", ["b a a c c", " b"], 6, stream=False)
    assert words.vocabulary[:-1] == ["", " a", " c", " b", "b"]


def test_in_a_stream_the_newline_is_token_0_and_nothing_else_is():
    words = learnt("word", ["a\nb\n\n"], 4)
    assert words.vocabulary == ["\n", "a", "b", "\ufffd\ufffd"]
    assert words.encode(["a\nb"])[0][0].tolist() == [1, BOUNDARY, 2]


def test_an_unknown_word_is_one_escape_that_keeps_its_bytes():
    words = learnt("word", ["the cat the cat"], 5, stream=False)
    [(tokens, lengths)] = words.encode(["the Käse the"])
    assert tokens.tolist() == [words.vocabulary.index("the"), 4, words.vocabulary.index(" the")]
    assert lengths.tolist() == [3, 6, 4] and words.decode(tokens.tolist()) == "the\ufffd the" and words.escape == 4


def test_the_charge_for_unknown_words_is_a_code():
    """Kraft: 256 ** -bytes over all possible pieces, a run of n characters being the n-th power of one."""
    weight = {character: 256.0 ** -len(character.encode()) for character in EVERY_CHARACTER}
    words = sum(w for c, w in weight.items() if PIECE.fullmatch("a" + c))
    signs = sum(w for c, w in weight.items() if PIECE.fullmatch("!" + c))
    spaces = sum(w for c, w in weight.items() if c.isspace())
    total = spaces + (1 + 1 / 256) * (words / (1 - words) + signs / (1 - signs))
    assert 0.5 < total < 1


def test_a_long_run_is_cut():
    [(tokens, lengths)] = LEARNT["word"].encode(["語" * 1000])
    assert lengths.tolist() == [765, 765, 765, 705] and len(set(tokens.tolist())) == 1


# Unigram


def test_frequent_parts_of_words_become_pieces():
    texts = [f"{stem}{ending} " for stem in ("walk", "talk", "jump", "climb") for ending in ("ing", "ed", "s")] * 9
    unigram = UnigramTokenizer.learn(texts, 265, "")
    [(tokens, _)] = unigram.encode(["talking"])
    assert len(tokens) < 7 and unigram.decode(tokens.tolist()) == "talking"


def test_unigram_tokens_are_all_different_and_contain_every_byte():
    spelling = LEARNT["unigram"].spelling
    assert len(set(spelling)) == len(spelling) == 262 and {bytes([byte]) for byte in range(256)} <= set(spelling)


def test_control_words_of_the_trainer_are_text():
    [(tokens, _)] = LEARNT["unigram"].encode(["<s></s><unk><pad>\ue000▁"])
    assert BOUNDARY not in tokens and LEARNT["unigram"].decode(tokens.tolist()) == "<s></s><unk><pad>\ue000▁"
