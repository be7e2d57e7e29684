"""Models, token streams and scores are read as they were written."""

import numpy as np
import pytest
from test_laws import NAMES, V, drawn, fitted

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora import splits
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import score_files
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


# Token streams


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
    tokenizer._spelling = [piece.upper() for piece in tokenizer._spelling]  # as one that folds case would
    with pytest.raises(UserError, match=r"decoding changes the text 'ab'\.\.\.; use kind byte or char"):
        streams.write_tokens(tmp_path, "train", text(["ab"]), tokenizer, MADE)
    assert not (tmp_path / "train.npy").exists()


def test_a_saved_tokenizer_is_read_with_its_tokens(tmp_path):
    artifacts.save_json(tmp_path / "tokenizer.json", ByteTokenizer("\n").to_json(), MADE)
    assert streams.read_tokenizer(tmp_path).decode([0]) == "\n"


# Scores


def test_scores_come_back(tmp_path):
    scores = score_files.Scores(np.array([-0.5, -1.25]), np.array([1, 4]), np.array([0, 1]), 3, "stride 32 of 64")
    score_files.save_scores(tmp_path / "s", {"test": scores}, MADE)
    again = score_files.load_scores(tmp_path / "s")["test"]
    assert all(
        np.array_equal(getattr(again, key), getattr(scores, key)) for key in ("log_probs", "lengths", "documents")
    )
    assert (again.characters, again.protocol) == (3, "stride 32 of 64")
