"""Tokenizers of checkpoints of other kinds: spans of the text, conversions, and texts that would lose something."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lmstages.core.errors import UserError
from lmstages.tokenizers.checkpoint import PROBES
from lmstages.tokenizers.of_transformers import from_any_folder
from lmstages.tokenizers.spans import SpanTokenizer, byte_lengths

TEXT = "The grey Bär – naïve!  It costs 5 €, \U0001f994 and\n\tthe cat sat on the mat; the cat saw the Bär. " * 2


def learnt(**steps):
    """BPE of characters with the steps of a pipeline, as a definition."""
    library = Tokenizer(models.BPE(unk_token="<unk>"))
    for name in ("normalizer", "pre_tokenizer"):
        if name in steps:
            setattr(library, name, steps[name])
    special = ["<unk>", "<s>"]
    library.train_from_iterator([TEXT, *PROBES], trainers.BpeTrainer(vocab_size=160, special_tokens=special))
    if "decoder" in steps:
        library.decoder = steps["decoder"]
    return library


def tokenizer_of(folder, library):
    library.save(str(folder / "tokenizer.json"))
    return from_any_folder(folder, 1, (1,))


def test_every_byte_is_covered_once_in_order():
    assert byte_lengths("aé€b", [(0, 1), (1, 2), (2, 3), (3, 4)]).tolist() == [1, 2, 3, 1]
    assert byte_lengths("é é", [(0, 1), (2, 3)]).tolist() == [2, 3]  # the space that no span holds
    assert byte_lengths("\U0001f994a", [(0, 1), (0, 1), (0, 1), (1, 2)]).tolist() == [
        4,
        0,
        0,
        1,
    ]  # one character in three
    assert byte_lengths("ab  ", [(0, 2)]).tolist() == [4] and byte_lengths("", []).tolist() == []
    assert byte_lengths("abc", [(0, 2), (1, 3)]).tolist() == [2, 1]  # overlapping


def test_pieces_that_do_not_spell_the_text_are_covered_by_the_spans_of_their_library(tmp_path):
    """Underscores for spaces, which only the library's decoder turns back."""
    library = learnt(
        normalizer=normalizers.Replace(" ", "_"),
        decoder=decoders.Sequence([decoders.Fuse(), decoders.Replace("_", " ")]),
    )
    own = tokenizer_of(tmp_path, library)
    tokens, lengths = own.encode(TEXT)
    assert isinstance(own, SpanTokenizer) and lengths.sum() == len(TEXT.encode())
    ends, content = np.cumsum(lengths), TEXT.encode()
    parts = [content[end - length : end].decode() for end, length in zip(ends, lengths, strict=True)]
    assert "".join(parts) == TEXT == own.decode(tokens) and parts == [own.decode([token]) for token in tokens]
    with pytest.raises(UserError, match=r"decoding changes the text.*'_snake' becomes ' snake'|normalizer"):
        own.encode("a _snake")  # two texts of the same tokens


LOSSES = [
    ({"normalizer": normalizers.Lowercase()}, "its normalizer .Lowercase. changes the text: 'The grey"),
    ({"normalizer": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])}, "StripAccents.*'är"),
    ({"pre_tokenizer": pre_tokenizers.Whitespace()}, "decoding changes the text: ' grey Bär"),
    (
        {"pre_tokenizer": pre_tokenizers.BertPreTokenizer(), "decoder": decoders.WordPiece()},
        "decoding changes the text",
    ),
]


@pytest.mark.parametrize(("steps", "message"), LOSSES)
def test_a_tokenizer_that_loses_text_is_refused_with_its_place(tmp_path, steps, message):
    own = tokenizer_of(tmp_path, learnt(**steps))
    with pytest.raises(UserError, match=message):
        own.encode(TEXT)


def test_unknown_characters_are_refused_with_their_place(tmp_path):
    own = tokenizer_of(tmp_path, learnt())
    assert own.encode("the cat")[1].sum() == 7
    with pytest.raises(UserError, match="decoding changes the text: '語"):
        own.encode("the 語 cat")


def byte_level(folder):
    """GPT-2's files of old: vocab.json and merges.txt."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>"]
    library.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    definition = json.loads(library.to_str())["model"]
    merges = ["#version: 0.2", *(" ".join(merge) for merge in definition["merges"])]
    (folder / "vocab.json").write_text(json.dumps(definition["vocab"]))
    (folder / "merges.txt").write_text("\n".join(merges))
    return library


def test_a_vocabulary_of_two_files_is_converted_by_transformers(tmp_path):
    library = byte_level(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    own = from_any_folder(tmp_path, 0, (0,))
    tokens, lengths = own.encode(TEXT)
    assert tokens.tolist() == library.encode(TEXT).ids and lengths.sum() == len(TEXT.encode())
    assert own.begin == own.end == 0 and own.decode(tokens) == TEXT


def test_files_that_are_no_vocabulary_are_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "vocab.json").write_text("[1, 2")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(
        UserError, match=r"transformers cannot read its vocabulary \(\w+: .*bring its tokenizer.json"
    ) as refusal:
        from_any_folder(tmp_path, 0, (0,))
    assert "\n" not in str(refusal.value)
