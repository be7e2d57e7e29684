"""Models, token streams and scores are read as they were written."""

import io

import numpy as np
import pytest
from test_laws import NAMES, fitted

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora import splits
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import score_files
from lmstages.evaluation.laws import V, drawn
from lmstages.models import storage as model_storage
from lmstages.tokenizers import BPETokenizer, ByteTokenizer, learn, streams

MADE = {"command": "test"}


@pytest.fixture
def text(tmp_path):
    """A split on disk from documents, to which newlines are appended."""

    def written(documents, stream=False):
        contents = [f"{document}\n".encode() for document in documents]
        splits.write(tmp_path, "train", iter(contents), np.ones(len(contents)), stream, MADE)
        return SplitText.open(tmp_path, "train")

    return written


# Models


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_restored_bit_by_bit(name, tmp_path):
    model = fitted(name)
    model_storage.save_model(tmp_path / "model", model, MADE)
    again, rows = model_storage.load_model(tmp_path / "model"), drawn(1, 3, 11)
    assert again.config == model.config and again.vocab_size == V and again.parameters() == model.parameters()
    assert np.array_equal(again.score(rows), model.score(rows))
    model_storage.save_model(tmp_path / "again", again, MADE)
    assert (tmp_path / "model").read_bytes() == (tmp_path / "again").read_bytes()


def test_a_model_of_another_version_is_refused(tmp_path):
    for number, config in enumerate(
        ('{"type": "gone", "hyperparameters": {}}', '{"type": "ngram", "hyperparameters": {"n": 3}}')
    ):
        path = tmp_path / str(number)
        artifacts.save_arrays(path, {}, {"type": config, "vocab_size": "9"}, MADE)
        with pytest.raises(UserError, match="no model that this version knows; run snakemake to fit it again"):
            model_storage.load_model(path)


def test_the_file_of_a_failed_fit_is_no_model(tmp_path):
    artifacts.save_arrays(tmp_path / "model", {}, {"failed": "why"}, MADE)
    with pytest.raises(UserError, match="no model that this version knows"):
        model_storage.load_model(tmp_path / "model")


@pytest.mark.parametrize(
    "metadata",
    [
        {"type": "[1]", "vocab_size": "9"},
        {"type": "not JSON", "vocab_size": "9"},
        {"type": '{"type": "uniform", "hyperparameters": {}}', "vocab_size": "nine"},
        {"type": '{"type": "uniform", "hyperparameters": {}}'},
        {"type": '{"type": ["uniform"], "hyperparameters": {}}', "vocab_size": "9"},
        {"type": "[" * 100_000, "vocab_size": "9"},
    ],
)
def test_metadata_that_describe_no_model_are_one_line(metadata, tmp_path):
    artifacts.save_arrays(tmp_path / "model", {}, metadata, MADE)
    with pytest.raises(UserError, match=r"model: no model that this version knows; run snakemake to fit it again"):
        model_storage.load_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["bigram", "mlp", "gpt", "llama"])
def test_arrays_of_another_model_are_one_line(name, tmp_path):
    model_storage.save_model(tmp_path / "model", fitted(name), MADE)
    _, metadata = artifacts.load_arrays(tmp_path / "model")
    artifacts.save_arrays(tmp_path / "model", {"other": np.zeros(3)}, metadata, MADE)
    with pytest.raises(UserError, match=r"its arrays are not those of its hyperparameters .*; run snakemake to fit it"):
        model_storage.load_model(tmp_path / "model")


@pytest.mark.parametrize("header", [b'{"lmstages": "not JSON"}', b'{"lmstages": "[1]"}', b'{"other": "{}"}', None])
def test_metadata_of_others_in_a_safetensors_are_one_line(header, tmp_path):
    content = b"{}" if header is None else b'{"__metadata__": ' + header + b"}"
    artifacts.save_bytes(tmp_path / "m", len(content).to_bytes(8, "little") + content, MADE)
    with pytest.raises(UserError, match="m: no safetensors file of lmstages; delete it and run snakemake again"):
        artifacts.load_arrays(tmp_path / "m")


# Token streams


def npy(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npy(np.array([1, "a", None], dtype=object)),
        npy(np.zeros((3, 3), np.uint8)),
        npy(np.zeros(3)),
        npy(np.array("a")),
        npy(np.zeros(3, np.uint8))[:-2],
        b"",
        b"PK\3\4 no array",
        b"\x93NUMPY\x01\0\x02\0{\n",
    ],
    ids=["objects", "a matrix", "fractions", "no dimension", "truncated", "empty", "a zip file", "no header"],
)
def test_an_array_of_another_kind_is_one_line(content, tmp_path):
    artifacts.save_bytes(tmp_path / "train.npy", content, MADE)
    with pytest.raises(UserError, match=r"train.npy: no array of lmstages; allowed: whole numbers in one dimension"):
        artifacts.load_array(tmp_path / "train.npy")


def written_array(path, values, dtype):
    with artifacts.saving_array(path, np.dtype(dtype), MADE) as array:
        array.append(np.array(values))


def stored(folder, tokens=(1, 2, 3), lengths=(1, 1, 1), starts=(0, 3), alphabet=("", "a", "b", "c")):
    """A token folder of a character tokenizer."""
    written_array(folder / "train.npy", tokens, np.uint8)
    written_array(folder / "train.bytes.npy", lengths, np.uint16)
    written_array(folder / "train.starts.npy", starts, np.int64)
    artifacts.save_json(folder / "tokenizer.json", {"kind": "char", "alphabet": alphabet, "escape": None}, MADE)
    return folder


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"tokens": (1, 2, 9)}, "train.npy: token 9; tokenizer.json has 4 tokens; delete it"),
        ({"alphabet": ("", "a")}, "train.npy: token 3; tokenizer.json has 2 tokens"),
        (
            {"lengths": (1, 1)},
            "train.bytes.npy: lengths of 2 tokens, not of 3 among the 3 of the split; every token has",
        ),
        ({"starts": (0, 4)}, "train.npy: 3 tokens, not where the documents in train.starts.npy begin and end"),
        ({"starts": (0, 2, 1, 3)}, "train.npy: 3 tokens, not where the documents"),
        ({"starts": ()}, "train.npy: 3 tokens, not where the documents"),
    ],
)
def test_tokens_that_fit_neither_their_tokenizer_nor_one_another_are_one_line(parts, message, tmp_path):
    assert len(streams.read_tokens(stored(tmp_path), "train")[0]) == 3
    with pytest.raises(UserError, match=message):
        streams.read_tokens(stored(tmp_path, **parts), "train")


@pytest.mark.parametrize("kind", ["byte", "char", "word", "whitespace", "bpe", "unigram"])
def test_the_size_of_a_saved_tokenizer_is_its_own(kind, tmp_path):
    texts = ["a cat and a dog", "naïve cafés"] * 9
    tokenizer = learn(kind, {"word": 6, "bpe": 262, "unigram": 259}.get(kind), texts, False, False, False)
    artifacts.save_json(tmp_path / "tokenizer.json", tokenizer.to_json(), MADE)
    assert streams._vocab_size(tmp_path / "tokenizer.json") == tokenizer.vocab_size


@pytest.mark.parametrize(
    "saved",
    [
        {"kind": "gone"},
        {"kind": "char"},
        [],
        {"kind": "bpe", "definition": {"model": {"vocab": {}}}, "boundary_text": ""},
        {"kind": "char", "alphabet": 3, "escape": None},
        {"kind": "bpe", "definition": 1, "boundary_text": ""},
    ],
)
def test_a_tokenizer_of_another_version_is_one_line(saved, tmp_path):
    stored(tmp_path)
    artifacts.save_json(tmp_path / "tokenizer.json", saved, MADE)
    with pytest.raises(UserError, match=r"tokenizer.json: no tokenizer that this version knows; delete it and run"):
        streams.read_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_documents_come_back_as_tokens(kind, text, tmp_path):
    names = ["emma", "", "zoë", "ava"]
    tokenizer = learn(kind, None, names, newline_ends=True, stream=False, closed=False)
    count = streams.write_tokens(tmp_path, "train", text(names), tokenizer, MADE)
    documents, lengths = streams.read_tokens(tmp_path, "train")
    rows = [documents.tokens[a:b].tolist() for a, b in zip(documents.starts, documents.starts[1:], strict=False)]
    assert [tokenizer.decode(row) for row in rows] == [f"{name}\n" for name in names]
    assert count == len(documents) and lengths.sum() == len("".join(f"{name}\n" for name in names).encode())


def test_a_stream_is_one_document_without_a_boundary_of_its_own(text, tmp_path):
    streams.write_tokens(tmp_path, "train", text(["ab", "c"], stream=True), ByteTokenizer(), MADE)
    documents, lengths = streams.read_tokens(tmp_path, "train")
    assert documents.starts.tolist() == [0, 5] and 0 not in documents.tokens and lengths.tolist() == [1] * 5


@pytest.mark.parametrize("stream", [True, False])
def test_an_empty_split_comes_back(stream, text, tmp_path):
    assert streams.write_tokens(tmp_path, "train", text([], stream), ByteTokenizer("\n"), MADE) == 0
    documents, lengths = streams.read_tokens(tmp_path, "train")
    assert len(documents) == len(lengths) == 0 and documents.starts.tolist() == [0]


def test_pieces_make_no_difference_to_bytes(text, tmp_path, monkeypatch):
    part, streams_read = text([f"line {n} é" for n in range(30)], stream=True), []
    for size in (1 << 20, 16):
        monkeypatch.setattr(splits, "PIECE", size)
        streams.write_tokens(tmp_path, "train", part, ByteTokenizer(), MADE)
        streams_read.append(streams.read_tokens(tmp_path, "train")[0].tokens.tolist())
    assert streams_read[0] == streams_read[1] and len(streams_read[0]) == part.path.stat().st_size


def test_a_large_alphabet_is_kept_in_two_bytes(text, tmp_path):
    names = ["".join(map(chr, range(0x4E00, 0x4E00 + 300)))]
    tokenizer = learn("char", None, names, newline_ends=True, stream=False, closed=False)
    streams.write_tokens(tmp_path, "train", text(names), tokenizer, MADE)
    documents, lengths = streams.read_tokens(tmp_path, "train")
    assert documents.tokens.dtype == np.uint16 and documents.tokens.tolist() == [*range(1, 301), 0]
    assert lengths.tolist() == [3] * 300 + [1]


def test_an_unknown_character_covers_its_own_bytes(text, tmp_path):
    tokenizer = learn("char", None, ["ab"], newline_ends=True, stream=False, closed=False)
    streams.write_tokens(tmp_path, "train", text(["a語"]), tokenizer, MADE)
    documents, lengths = streams.read_tokens(tmp_path, "train")
    assert documents.tokens.tolist() == [1, tokenizer.escape, 0] and lengths.tolist() == [1, 3, 1]


def test_a_tokenizer_that_loses_text_is_refused(text, tmp_path):
    tokenizer = BPETokenizer.learn(["ab ab"], 258, "\n")
    tokenizer.spelling = [piece.upper() for piece in tokenizer.spelling]  # as one that folds case would
    with pytest.raises(UserError, match=r"decoding changes the text 'ab'\.\.\.; use kind byte or char"):
        streams.write_tokens(tmp_path, "train", text(["ab"]), tokenizer, MADE)
    assert not (tmp_path / "train.npy").exists()


def test_a_saved_tokenizer_is_read_with_its_tokens(tmp_path):
    artifacts.save_json(tmp_path / "tokenizer.json", ByteTokenizer("\n").to_json(), MADE)
    assert streams.read_tokenizer(tmp_path).decode([0]) == "\n"


# Scores


@pytest.mark.parametrize(
    ("arrays", "fields"),
    [
        ({}, '{"characters": 3, "protocol": "stream"}'),
        ({"log_probs": 3, "lengths": 2, "documents": 3}, '{"characters": 3, "protocol": "stream"}'),
        ({"log_probs": 3, "lengths": 3, "documents": 3}, '{"characters": 3}'),
        ({"log_probs": 3, "lengths": 3, "documents": 3}, "[]"),
        ({"log_probs": 3, "lengths": 3, "documents": 3}, "no JSON"),
    ],
)
def test_a_score_file_of_another_content_is_one_line(arrays, fields, tmp_path):
    contents = {f"test.{name}": np.zeros(length, score_files.SCORE_TYPES[name]) for name, length in arrays.items()}
    artifacts.save_arrays(tmp_path / "s", contents, {"test": fields}, MADE)
    with pytest.raises(UserError, match="s: no score file of lmstages; delete it and run snakemake again"):
        score_files.load_scores(tmp_path / "s")


def test_scores_come_back(tmp_path):
    scores = score_files.Scores(np.array([-0.5, -1.25]), np.array([1, 4]), np.array([0, 1]), 3, "stride 32 of 64")
    score_files.save_scores(tmp_path / "s", {"test": scores}, MADE)
    again = score_files.load_scores(tmp_path / "s")["test"]
    assert all(
        np.array_equal(getattr(again, key), getattr(scores, key)) for key in ("log_probs", "lengths", "documents")
    )
    assert (again.characters, again.protocol) == (3, "stride 32 of 64")
