"""Words at white space: every byte is covered, the line end is a word, what is spaced otherwise stays as it is."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.corpora import splits
from lmstages.evaluation.scoring import charge_escapes
from lmstages.tokenizers import WhitespaceTokenizer, from_json, learn, streams
from lmstages.tokenizers.base import LONGEST_PIECE
from lmstages.tokenizers.whitespace import PIECE, WORD, Spacing

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SPACED = st.text("ab  \n\n\t\x0b\x1c\u2028", max_size=30)
MADE = {"command": "test", "section": {}, "inputs": {}, "code": "", "levels": 0}
WIKI = " = Title = \n \n the cat <unk> the \n"
EVERY_CHARACTER = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]


def learnt(texts, vocab_size=None, is_open=False, newline_ends=False, stream=True):
    return learn("whitespace", vocab_size, texts, newline_ends, stream, False, is_open)


def tokens_of(tokenizer, text):
    return tokenizer.encode([text])[0][0].tolist()


# Round trips


@given(text=TEXT | SPACED)
@example(" the  cat\n\n\tand \n")
def test_a_closed_vocabulary_restores_its_own_text_however_it_is_spaced(text):
    tokenizer = learnt([text])
    [(tokens, lengths)] = tokenizer.encode([text])
    assert tokenizer.decode(tokens.tolist()) == text and lengths.sum() == len(text.encode())
    assert tokenizer.escape is None and len(set(tokenizer.vocabulary)) == tokenizer.vocab_size


@given(train=SPACED, text=TEXT | SPACED)
def test_an_open_vocabulary_covers_every_byte_of_any_other_text(train, text):
    tokenizer = learnt([train], is_open=True)
    [(tokens, lengths)] = tokenizer.encode([text])
    assert lengths.sum() == len(text.encode()) and ((tokens >= 0) & (tokens < tokenizer.vocab_size)).all()
    if tokenizer.escape not in tokens:
        assert tokenizer.decode(tokens.tolist()) == text


@given(text=TEXT | SPACED)
def test_any_text_is_cut_into_pieces_without_a_gap(text):
    pieces = PIECE.findall(text)
    assert "".join(pieces) == text and all(len(piece.encode()) <= LONGEST_PIECE for piece in pieces)


@given(text=st.text("abc \n", max_size=40))
def test_the_words_are_those_of_python_and_an_end_for_every_line(text):
    words = [piece for piece in PIECE.findall(text) if piece.strip()]
    ends = [piece for piece in PIECE.findall(text) if piece.endswith("\n")]
    assert [word.strip() for word in words] == text.split() and len(ends) == text.count("\n")


def test_what_separates_words_is_white_space_or_a_control_character():
    spaces = {c for c in EVERY_CHARACTER if c.isspace() or ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0}
    assert spaces == {c for c in EVERY_CHARACTER if not WORD.match(c)} and "\u200b" not in spaces


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_a_saved_tokenizer_is_the_same(is_open, stream):
    tokenizer = learnt([WIKI, " the dog\n"], is_open=is_open, stream=stream)
    restored = from_json(json.loads(json.dumps(tokenizer.to_json(), sort_keys=True)))
    assert restored.to_json() == tokenizer.to_json() and restored.escape == tokenizer.escape
    assert tokens_of(restored, WIKI) == tokens_of(tokenizer, WIKI) and restored.decode(range(3)) == tokenizer.decode(
        [0, 1, 2]
    )


# By hand


def test_the_line_end_is_token_0_of_a_stream_and_words_follow_by_frequency():
    tokenizer = learnt([WIKI])
    assert tokenizer.vocabulary == [" \n", "=", "the", "<unk>", "Title", "cat"] and tokenizer.escape is None
    assert tokens_of(tokenizer, WIKI) == [1, 4, 1, 0, 0, 2, 5, 3, 2, 0]
    assert tokenizer.encode([WIKI])[0][1].tolist() == [2, 6, 2, 2, 2, 4, 4, 6, 4, 2]


def test_words_of_a_line_without_spaces_at_its_ends():
    tokenizer = learnt(["the cat\nthe rat\n"])
    assert tokenizer.vocabulary == ["\n", "the", "cat", "rat"] and tokens_of(tokenizer, "rat the\n") == [3, 1, 0]
    assert tokenizer.decode([1, 2, 0, 1]) == "the cat\nthe"


def test_documents_that_are_lines_end_in_token_0_and_hold_words_alone():
    tokenizer = learnt(["the cat", "the"], newline_ends=True, stream=False)
    assert tokenizer.vocabulary == ["\n", "the", "cat"] and tokens_of(tokenizer, "cat the") == [2, 1]


def test_in_documents_with_lines_the_line_end_is_a_token_beside_the_boundary():
    tokenizer = learnt(["a b\nb\n"], stream=False)
    assert tokenizer.vocabulary == ["", "\n", "b", "a"] and tokenizer.decode([BOUNDARY]) == ""


def test_a_word_that_is_spaced_otherwise_is_a_type_of_its_own():
    tokenizer = learnt(["a b\na  b\n a\tb\n"])
    assert set(tokenizer.vocabulary) == {"\n", "a", "b", "  b", " a", "\tb"}
    assert tokenizer.decode(tokens_of(tokenizer, " a  b\na b\n")) == " a  b\na b\n"


def test_a_space_that_is_missing_at_the_beginning_of_a_line_is_kept():
    tokenizer = learnt([" a b \n a b \na b\n"])
    assert tokenizer.spacing == Spacing(" ", " ") and set(tokenizer.vocabulary) == {" \n", "a", "b", "\na", "\n"}


def test_a_word_longer_than_200_characters_is_several_tokens():
    tokenizer = learnt(["x" * 450 + "\n"])
    assert tokenizer.encode(["x" * 450 + "\n"])[0][1].tolist() == [200, 200, 50, 1]


# Sizes


def test_a_ceiling_above_the_number_of_words_is_no_error():
    assert learnt(["a b c\n"], 10_000).vocab_size == 4 and learnt(["a b c\n"], 10_000, True).vocab_size == 5


def test_an_open_vocabulary_keeps_the_most_frequent_words():
    tokenizer = learnt(["c c c a a b\n"], 4, True)
    assert tokenizer.vocabulary[:3] == ["\n", "c", "a"] and tokens_of(tokenizer, "a b c") == [2, tokenizer.escape, 1]
    assert tokenizer.decode([2, 3, 1]) == "a \ufffd c"


def test_a_closed_vocabulary_leaves_no_word_out():
    with pytest.raises(UserError, match=r"has 4 tokens, at most 3 were asked for; leave vocab_size out, or closed"):
        learnt(["a b c\n"], 3)


# Unknown words


def test_a_closed_vocabulary_refuses_a_word_and_shows_where_it_stands():
    with pytest.raises(
        UserError, match=r"' dog' after 'the cat\\nthe' is no word of its closed vocabulary; leave closed: true out"
    ):
        learnt(["the cat\n"]).encode(["the cat\nthe dog\n"])


def test_an_unknown_word_is_charged_with_the_space_before_it():
    tokenizer = learnt(["the cat\n"], is_open=True)
    [(tokens, lengths)] = tokenizer.encode(["the Käse\n"])
    assert tokens.tolist() == [2, 3, 0] and lengths.tolist() == [3, 6, 1]
    bits = -charge_escapes(np.full(3, -np.log(4)), tokens, lengths, tokenizer.escape) / np.log(2)
    assert np.allclose(bits, [2, 2 + 48, 2])


def test_the_charge_for_unknown_words_is_a_code():
    """Kraft: 256 ** -bytes over all pieces that may stand at one position, a run being a power of one."""
    weight = {character: 256.0 ** -len(character.encode()) for character in EVERY_CHARACTER if character != "\n"}
    words = sum(w for c, w in weight.items() if PIECE.fullmatch("a" + c))
    spaces = sum(w for c, w in weight.items() if not PIECE.fullmatch("a" + c))
    gaps = 1 / (1 - spaces)
    total = gaps * (words / (1 - words) + 1 / 256) + (gaps - 1)
    assert 0.5 < words + spaces < 0.54 and 0.8 < total < 1


# Streams that are read in parts


def test_a_word_is_not_cut_where_a_stream_without_lines_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "PIECE", 7)
    text = "the cat  sat on the mat"
    splits.write(tmp_path, "train", iter([text.encode()]), np.zeros(1), True, MADE)
    stream = splits.SplitText.open(tmp_path, "train")
    tokenizer = learnt(stream.texts(whole_words=True))
    assert streams.write_tokens(tmp_path, "train", stream, tokenizer, MADE) == 6
    tokens, lengths = streams.read_tokens(tmp_path, "train")
    assert tokenizer.decode(tokens.tokens.tolist()) == text and lengths.tolist() == [3, 4, 5, 3, 4, 4]


# WikiText-2 (Merity et al. 2016), whose tokens are counted in the folder of the data


@pytest.mark.parametrize(("part", "tokens", "types"), [("valid", 217_646, 13_776), ("test", 245_569, 14_142)])
def test_wikitext_2_has_its_published_number_of_tokens(part, tokens, types, data):
    text = (data / f"wikitext2_{part}.txt").read_text(encoding="utf-8")
    tokenizer = learnt([text])
    [(encoded, lengths)] = tokenizer.encode([text])
    assert len(encoded) == tokens and lengths.sum() == len(text.encode()) and tokenizer.spacing == Spacing(" ", " ")
    assert tokenizer.vocab_size == types + 1 and tokenizer.decode(encoded.tolist()) == text


def test_words_are_learnt_in_the_same_order_from_any_iterable():
    texts = ["b a c\n", "c b\n"]
    assert learnt(texts).to_json() == learnt(iter(texts)).to_json()
    assert isinstance(learnt(texts), WhitespaceTokenizer)
