"""Decoding restores every text, and every byte is covered by one token."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstages.config.hyperparameters.counts import Uniform
from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.evaluation.scoring import charge_escapes
from lmstages.models.base import build
from lmstages.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    from_json,
    learn,
    smallest_type,
    with_boundaries,
)

ODD = "naïve \u2028\x0b\x0c\x85\x1c\r\n\n語🙂 e\u0301 <|endoftext|>\x01\x7f\u200b\ufeff\U0010ffff\ufffd 👩‍👩‍👧"
TEXTS = ["the cat sat on the mat\n", "the cat ate the rat\n", ODD]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
KINDS = ["byte", "char", "bpe", "whitespace"]
SIZES = {"byte": None, "char": None, "bpe": 270, "whitespace": None}


def learnt(kind, texts=TEXTS, **settings):
    options = {"newline_ends": False, "stream": True, "closed": False, **settings}
    return learn(kind, SIZES[kind], texts, **options)


LEARNT = {kind: learnt(kind) for kind in KINDS}


def decoded(tokenizer, text):
    [(tokens, _)] = tokenizer.encode([text])
    return tokenizer.decode(tokens.tolist())


# Round trips


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@given(text=TEXT)
def test_decoding_restores_any_text(kind, text):
    assert decoded(LEARNT[kind], text) == text


@given(text=TEXT)
def test_decoding_restores_any_text_from_its_own_characters(text):
    assert decoded(CharTokenizer.learn([text], False, True, open_alphabet=False), text) == text


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_restores_unusual_text(kind):
    assert decoded(LEARNT[kind], ODD) == ODD


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXT, min_size=1, max_size=4))
def test_the_tokens_cover_every_byte(kind, texts):
    for text, (tokens, lengths) in zip(texts, LEARNT[kind].encode(texts), strict=True):
        assert lengths.sum() == len(text.encode()) and len(tokens) == len(lengths)
        assert ((tokens >= 0) & (tokens < LEARNT[kind].vocab_size)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_a_batch_equals_encoding_each_text(kind):
    batch = LEARNT[kind].encode([*TEXTS, "", "the"])
    single = [LEARNT[kind].encode([text])[0] for text in [*TEXTS, "", "the"]]
    assert [tokens.tolist() for tokens, _ in batch] == [tokens.tolist() for tokens, _ in single]
    assert LEARNT[kind].encode([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_of_a_boundary_stays_text(kind):
    [(tokens, lengths)] = LEARNT[kind].encode(["a<|endoftext|>"])
    assert BOUNDARY not in tokens and lengths.sum() == 14 and (len(tokens) > 3 or kind == "whitespace")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("newline_ends", [True, False])
def test_a_saved_tokenizer_is_the_same(kind, newline_ends):
    tokenizer = learnt(kind, newline_ends=newline_ends)
    restored = from_json(json.loads(json.dumps(tokenizer.to_json(), sort_keys=True)))
    assert restored.to_json() == tokenizer.to_json() and restored.vocab_size == tokenizer.vocab_size
    for before, after in zip(tokenizer.encode(TEXTS), restored.encode(TEXTS), strict=True):
        tokens = before[0].tolist()
        assert np.array_equal(before, after) and restored.decode(tokens) == tokenizer.decode(tokens)


# The boundary


@pytest.mark.parametrize("kind", KINDS)
def test_where_documents_are_lines_the_boundary_is_the_newline(kind):
    tokenizer = (
        learnt(kind, ["ab", "b"], newline_ends=True, stream=False)
        if kind != "bpe"
        else BPETokenizer.learn(["ab ab ab"], 258, "\n")
    )
    [encoded] = tokenizer.encode(["ab"])
    tokens, lengths = with_boundaries(encoded, 1)
    assert tokens[-1] == BOUNDARY and lengths.sum() == 3 and tokenizer.decode(tokens.tolist()) == "ab\n"


@pytest.mark.parametrize("kind", ["byte", "char", "whitespace"])
def test_in_documents_without_a_newline_end_the_boundary_has_no_text(kind):
    tokenizer = learnt(kind, stream=False)
    assert tokenizer.decode([BOUNDARY]) == ""


def test_lines_have_an_alphabet_of_their_characters_and_the_newline():
    tokenizer = learnt("char", ["abc", "cad"], newline_ends=True, stream=False, closed=True)
    assert tokenizer.alphabet == ["\n", "a", "b", "c", "d"] and tokenizer.vocab_size == 5


def test_in_a_stream_with_newlines_the_newline_is_token_0():
    tokenizer = learnt("char", ["ab\nc\n"], closed=True)
    assert tokenizer.alphabet == ["\n", "a", "b", "c"] and tokenizer.encode(["\na"])[0][0].tolist() == [0, 1]


def test_in_a_stream_without_newlines_token_0_has_no_text():
    tokenizer = learnt("char", ["abc"], closed=True)
    assert tokenizer.alphabet == ["", "a", "b", "c"] and tokenizer.decode([0, 1]) == "a"


def test_documents_without_a_character_are_possible():
    tokenizer = learnt("char", ["", ""], stream=False)
    assert tokenizer.vocab_size == 2 and tokenizer.decode(tokenizer.encode(["é"])[0][0].tolist()) == "\ufffd"


# Characters absent from train


def test_an_unknown_character_is_the_escape_and_keeps_its_bytes():
    tokenizer = learnt("char", ["abc"], stream=False)
    [(tokens, lengths)] = tokenizer.encode(["aé語🙂"])
    assert tokens.tolist() == [1, 4, 4, 4] and lengths.tolist() == [1, 2, 3, 4] and tokenizer.escape == 4
    assert tokenizer.decode(tokens.tolist()) == "a\ufffd\ufffd\ufffd"


def test_a_closed_alphabet_refuses_an_unknown_character():
    with pytest.raises(UserError, match="character 'd' is not in its alphabet; use alphabet: train"):
        learnt("char", ["abc"], closed=True).encode(["abcd"])


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_bytes_need_no_escape(kind):
    assert LEARNT[kind].escape is None and decoded(LEARNT[kind], "\U0001f9ff") == "\U0001f9ff"


def test_the_charge_makes_the_escape_a_code_for_any_character():
    """A uniform model spends log2 V bits on a token, and 8 bits on each byte of an escape."""
    tokenizer = learnt("char", ["abc"], stream=False)
    [(tokens, lengths)] = tokenizer.encode(["aé"])
    log_probs = build(Uniform(), tokenizer.vocab_size).score(tokens[None])[0]
    bits = -charge_escapes(log_probs, tokens, lengths, tokenizer.escape) / np.log(2)
    assert np.allclose(bits, [np.log2(5), np.log2(5) + 16])


def test_the_probabilities_of_all_characters_sum_to_at_most_one():
    """Kraft: the characters of the alphabet, and every character of one or two bytes as an escape."""
    tokenizer = learnt("char", ["abc"], stream=False)
    others = [chr(point) for point in range(1, 0x800) if chr(point) not in "abc"]
    tokens, lengths = (np.concatenate(parts) for parts in zip(*tokenizer.encode(["abc", *others]), strict=True))
    nats = charge_escapes(np.full(len(tokens), -np.log(5)), tokens, lengths, tokenizer.escape)
    assert 3 / 5 < np.exp(nats).sum() < 4 / 5


def test_without_an_escape_nothing_is_charged():
    assert charge_escapes(np.array([-1.0]), np.array([3]), np.array([2]), None).tolist() == [-1.0]


# Sizes


def test_an_alphabet_larger_than_a_byte_takes_two():
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    tokenizer = learnt("char", [text])
    assert tokenizer.vocab_size == 302 and decoded(tokenizer, text) == text
    assert smallest_type(tokenizer.vocab_size - 1) == np.uint16


@pytest.mark.parametrize(("largest", "size"), [(0, 1), (255, 1), (256, 2), (65535, 2), (65536, 4)])
def test_the_smallest_type_that_holds_a_token(largest, size):
    assert smallest_type(largest).itemsize == size and smallest_type(largest).kind == "u"


# Byte pairs


def test_a_vocabulary_larger_than_the_text_allows_is_an_error():
    with pytest.raises(UserError, match=r"pairs for \d+ tokens only, 5000 were asked for; lower vocab_size"):
        BPETokenizer.learn(["abab"], 5000, "")


def test_the_vocabulary_has_the_requested_size():
    tokenizer = BPETokenizer.learn(TEXTS, 270, "")
    assert tokenizer.vocab_size == 270 and len({tuple(p) for p in tokenizer.spelling}) == 270


def test_learning_is_deterministic():
    texts = ["".join(np.random.default_rng(n).choice(list("abc d"), 200)) for n in range(50)]
    assert BPETokenizer.learn(texts, 300, "").definition == BPETokenizer.learn(iter(texts), 300, "").definition


def test_a_character_may_lie_across_tokens():
    tokenizer = LEARNT["bpe"]
    [(tokens, lengths)] = tokenizer.encode(["語"])
    assert len(tokens) == 3 and lengths.tolist() == [1, 1, 1]
    assert tokenizer.decode(tokens.tolist()) == "語" and tokenizer.decode(tokens[:1].tolist()) == "\ufffd"


def test_pairs_are_merged_within_words():
    [(tokens, lengths)] = LEARNT["bpe"].encode(["the cat"])
    assert len(tokens) < 7 and lengths.sum() == 7 and max(lengths) > 1


@settings(max_examples=3)
@given(st.sampled_from(["a", "ab", "é"]))
def test_a_long_run_of_one_word_makes_no_token_that_cannot_be_counted(piece):
    """Doubling merges would cover 2 ** 15 bytes with one token after 15 of them."""
    with pytest.raises(UserError, match="were asked for"):
        BPETokenizer.learn([piece * 4000], 280, "")


def test_a_byte_is_a_token():
    [(tokens, lengths)] = ByteTokenizer().encode(["aé"])
    assert tokens.tolist() == [0x61 + 1, 0xC3 + 1, 0xA9 + 1] and lengths.tolist() == [1, 1, 1]
