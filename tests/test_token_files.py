"""Token files: the same as document by document, whatever the pieces; lengths, of which a vocabulary implies most."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstages.config.sections import Tokenizer
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora import splits
from lmstages.corpora.splits import SplitText
from lmstages.tokenizers import learn, streams, subwords, token_lengths
from lmstages.tokenizers.tables import tokens_of
from lmstages.tokenizers.token_lengths import VARIES

MADE = {"command": "test"}
SIZES = {"word": 8, "bpe": 262, "unigram": 260}
KINDS = ("byte", "char", "word", "whitespace", "bpe", "unigram")
DOCUMENTS = ["the cat sat", "", "naïve 語🙂 e\u0301", "", "a\nb\n", "the " * 40, "語" * 30, "zoë", ""]
LINES = [document.replace("\n", "-") for document in DOCUMENTS]
LAYOUTS = {
    "lines": (LINES, ["\n"] * 9),
    "lines without a last end": ([*LINES, "end"], ["\n"] * 9 + [""]),
    "separators": (DOCUMENTS, ["\n§§\n", "§§\n", *["\n§§\n"] * 6, "§§"]),
    "stream": (DOCUMENTS, ["\n"] * 9),
}


def written(folder, layout):
    """The split of a layout, its documents and the bytes that separate them."""
    texts, ends = LAYOUTS[layout]
    contents = [f"{text}{end}".encode() for text, end in zip(texts, ends, strict=True)]
    terminators = np.array([len(end.encode()) for end in ends])
    splits.write(folder, "train", iter(contents), terminators, layout == "stream", MADE)
    return SplitText.open(folder, "train")


def learnt(kind, layout, texts, closed=False):
    return learn(kind, SIZES.get(kind), texts, layout.startswith("lines"), layout == "stream", closed)


def document_by_document(tokenizer, layout):
    """Tokens, lengths and starts, one document after the other."""
    texts, ends = LAYOUTS[layout]
    if layout == "stream":
        [(tokens, lengths)] = tokenizer.encode(["".join(f"{text}\n" for text in texts)])
        return tokens.tolist(), lengths.tolist(), [0, len(tokens)]
    tokens, lengths, starts = [], [], [0]
    for (of_text, covered), end in zip(tokenizer.encode(texts), ends, strict=True):
        tokens += [*of_text.tolist(), 0]
        lengths += [*covered.tolist(), len(end.encode())]
        starts.append(len(tokens))
    return tokens, lengths, starts


def read(folder):
    documents, lengths = streams.read_tokens(folder, "train")
    return documents.tokens.tolist(), lengths.tolist(), documents.starts.tolist()


@pytest.mark.parametrize("size", [1, 3, 16, 1 << 20])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["byte", "char"])
def test_tables_give_the_tokens_of_each_document(kind, layout, size, tmp_path, monkeypatch):
    text = written(tmp_path, layout)
    monkeypatch.setattr(splits, "PIECE", size)
    for known in (LAYOUTS[layout][0], ["cat"]):  # all characters are known, or few
        tokenizer = learnt(kind, layout, known)
        streams.write_tokens(tmp_path, "train", text, tokenizer, MADE)
        assert read(tmp_path) == document_by_document(tokenizer, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS[2:])
def test_a_batch_gives_the_tokens_of_each_document(kind, layout, tmp_path):
    tokenizer = learnt(kind, layout, DOCUMENTS * 9)
    streams.write_tokens(tmp_path, "train", written(tmp_path, layout), tokenizer, MADE)
    assert read(tmp_path) == document_by_document(tokenizer, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_characters_are_learnt_from_pieces_as_from_documents(layout, tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "PIECE", 16)
    pieces = streams._texts(Tokenizer(kind="char"), written(tmp_path, layout))
    texts = LAYOUTS[layout][0] if layout != "stream" else [*DOCUMENTS, "\n"]
    assert learnt("char", layout, pieces).alphabet == learnt("char", layout, texts).alphabet


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(max_size=3))
def test_the_alphabet_is_the_set_of_characters(text, known):
    tokenizer = learnt("char", "separators", [known, text, known, text * 2])
    assert tokenizer.alphabet[1:-1] == sorted({*text, *known})


def test_a_long_text_has_the_alphabet_of_its_characters():
    text = "é" + "abc" * (1 << 15)
    assert learnt("char", "separators", [text]).alphabet[1:-1] == ["a", "b", "c", "é"]


def test_a_character_outside_a_closed_alphabet_is_named(tmp_path):
    tokenizer = learnt("char", "separators", ["the cat sat"], closed=True)
    with pytest.raises(UserError, match="character 'n' is not in its alphabet; use alphabet: train"):
        streams.write_tokens(tmp_path, "train", written(tmp_path, "separators"), tokenizer, MADE)


def test_a_closed_alphabet_needs_no_characters_of_separators(tmp_path):
    tokenizer = learnt("char", "separators", DOCUMENTS, closed=True)
    assert "§" not in tokenizer.alphabet
    streams.write_tokens(tmp_path, "train", written(tmp_path, "separators"), tokenizer, MADE)
    assert read(tmp_path) == document_by_document(tokenizer, "separators")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_part_is_larger_than_a_piece(layout, tmp_path, monkeypatch):
    text = written(tmp_path, layout)
    monkeypatch.setattr(splits, "PIECE", 16)
    parts = list(text.parts())
    assert b"".join(part.content for part in parts) == text.path.read_bytes()
    assert all(len(part.content) <= 2 * 16 + 8 for part in parts) and len(parts) > 10
    assert sum(len(part.ends) for part in parts) == (0 if layout == "stream" else len(LAYOUTS[layout][0]))


def test_bytes_that_are_no_text_are_refused_by_name(tmp_path):
    splits.write(tmp_path, "train", iter([b"caf\xe9\n"]), np.ones(1), False, MADE)
    text = SplitText.open(tmp_path, "train")
    with pytest.raises(UserError, match=r"train.txt: is not UTF-8; delete it"):
        streams.write_tokens(tmp_path, "train", text, learnt("byte", "lines", []), MADE)


# Subwords


@given(st.text(st.sampled_from("ab' \n.é9"), max_size=60))
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_long_text_cut_between_words_has_the_tokens_of_the_whole(kind, text):
    with pytest.MonkeyPatch.context() as patch:
        whole = SUBWORDS[kind].encode([text])[0][0].tolist()
        patch.setattr(subwords, "AT_ONCE", 5)
        assert SUBWORDS[kind].encode([text])[0][0].tolist() == whole


SUBWORDS = {kind: learnt(kind, "stream", ["ab ba' abba.\nab é99 aa\n"] * 9) for kind in ("bpe", "unigram")}


def test_a_long_text_is_encoded_in_several_pieces(monkeypatch):
    monkeypatch.setattr(subwords, "AT_ONCE", 5)
    assert list(subwords.between_words("the cat sat on the mat")) == ["the cat", " sat on", " the mat"]


@pytest.mark.parametrize("layout", ["lines", "stream"])
def test_a_vocabulary_is_learnt_from_a_sample_of_a_text_above_a_size(layout, tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "PIECE", 8)
    text = written(tmp_path, layout)
    size, whole = text.path.stat().st_size, list(text.texts())
    sample = list(text.texts(most=size // 2))
    assert list(text.texts(most=size)) == whole and list(text.texts(most=size // 2)) == sample
    assert 0 < len(sample) < len(whole) and set(sample) <= set(whole)


def test_only_vocabularies_of_a_size_are_learnt_from_a_sample():
    with pytest.raises(ValueError, match="learn_bytes belongs to kinds word, bpe and unigram"):
        Tokenizer(kind="char", learn_bytes=1 << 20)
    assert (
        Tokenizer(kind="char").most_learnt() is None and Tokenizer(kind="bpe", vocab_size=300).most_learnt() == 1 << 32
    )
    assert Tokenizer(kind="word", vocab_size=300, learn_bytes=1 << 20).most_learnt() == 1 << 20


# Lengths


@given(st.lists(st.integers(0, 2000)))
def test_numbers_come_back_from_bytes(numbers):
    assert token_lengths.from_bytes(token_lengths.to_bytes(np.array(numbers, dtype=np.int64))).tolist() == numbers


def test_a_length_of_255_or_more_takes_a_byte_more_for_every_255():
    assert token_lengths.to_bytes(np.array([254, 255, 600])).tolist() == [254, 255, 0, 255, 255, 90]


def test_what_a_vocabulary_implies_is_written_once(tmp_path):
    tokenizer = learnt("char", "lines", LINES)
    streams.write_tokens(tmp_path, "train", written(tmp_path, "lines"), tokenizer, MADE)
    kept = artifacts.load_array(tmp_path / "train.bytes.npy")
    assert len(kept) == 1 + tokenizer.vocab_size + len(LINES)  # one for each line end


def test_tokens_whose_length_varies_are_told_from_others():
    vocabulary = np.array([VARIES, 3, 1])
    assert token_lengths.varying(vocabulary, np.array([0, 1, 2, 7])).tolist() == [True, False, False, True]


def test_lengths_of_other_tokens_are_one_line(tmp_path):
    vocabulary = np.array([VARIES, 3])
    with artifacts.saving_array(tmp_path / "train.bytes.npy", np.dtype(np.uint8), MADE) as file:
        file.append(np.append(token_lengths.listed(vocabulary), [5, 6]))
    assert token_lengths.lengths_of(tmp_path / "train.bytes.npy", np.array([0, 1, 0])).tolist() == [5, 3, 6]
    message = "train.bytes.npy: lengths of 2 tokens, not of 1 among the 3 of the split; every token has its length"
    with pytest.raises(UserError, match=message):
        token_lengths.lengths_of(tmp_path / "train.bytes.npy", np.array([0, 1, 1]))


def test_an_unknown_character_keeps_its_own_length():
    tokenizer = learnt("char", "lines", ["ab"])
    part = splits.Part("a語\nb\n".encode(), np.array([5, 7]), np.array([1, 1]))
    assert tokens_of(tokenizer, part).varying.tolist() == [3, 1, 1]
