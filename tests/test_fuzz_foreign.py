"""Damaged checkpoints of others: one line, or what the undamaged file gives; never a traceback, never without end.

What a damaged file can hide stays out: bits of weights, and a value that is as possible as the one before (FREE).
"""

import gzip
import json
import struct

import gguf
import numpy as np
import pytest
from fuzzing import damaged, outcome, positions, replaced
from test_arpa import SRILM
from test_gguf import RULE, changed, checkpoint, fitted, learnt, library, written

from lmstages.config.sections import Pretrained
from lmstages.evaluation import checkpoints
from lmstages.models.external import arpa, arpa_file
from lmstages.models.external.exporting import export_checkpoint
from lmstages.tokenizers.vocabularies import of_tokenizer

PROBE = "the cat sat on a mat"
FREE = {  # keys whose every possible value is another model's
    *(f"llama.{key}" for key in ("context_length", "rope.freq_base", "attention.layer_norm_rms_epsilon")),
    *(f"tokenizer.ggml.{key}" for key in ("tokens", "scores", "token_type", "bos_token_id", "eos_token_id")),
    *(f"tokenizer.ggml.{key}" for key in ("unknown_token_id", "add_space_prefix")),
    *("max_position_embeddings", "rms_norm_eps", "bos_token_id", "eos_token_id"),
}
COUNTS = [100, pytest.param(1500, marks=pytest.mark.slow)]


def read(chosen):
    """All that a reader takes from a checkpoint: tokens of a text, the bytes they cover, scores, and the record."""
    loaded = checkpoints.load(chosen)
    [(tokens, lengths)] = loaded.tokenizer.encode([PROBE])
    loaded.tokenizer.decode(tokens.tolist())
    assert lengths.sum() == len(PROBE.encode())
    row = tokens[: loaded.model.config.window]
    return tokens.tolist(), loaded.model.score(row[None]).tolist(), loaded.model.parameters()


# GGUF


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_gguf_is_one_line_or_changes_nothing(tmp_path, count):
    ours, draws = learnt("char"), np.random.default_rng(0)
    path = written(tmp_path / "m.gguf", fitted(False, vocab_size=ours.vocab_size), of_tokenizer(ours.to_json()))
    content, chosen = path.read_bytes(), Pretrained(gguf=str(path))
    expected, (head, free) = read(chosen), free_bytes(path)
    refused = 0
    for _ in range(count):
        mutated, differing = damaged(content, draws, 4, head)
        path.write_bytes(mutated)
        result = outcome(read, chosen)
        refused += result is None
        harmless = differing is not None and differing <= free
        assert result in (None, expected) or harmless, (differing, mutated[:head])
    assert refused > count // 2


def free_bytes(path) -> tuple[int, set[int]]:
    """Where the weights begin, and the bytes of the header with which any other file would be as possible."""
    reader = gguf.GGUFReader(str(path))
    last = reader.tensors[-1].field
    ending = last.offset + sum(int(part.nbytes) for part in last.parts)
    free = set(range(ending, int(reader.data_offset) + 8))  # padding and the first weights
    for name, field in reader.fields.items():
        if name in FREE or name.startswith("general.name"):
            size = sum(int(part.nbytes) for part in field.parts)
            free |= set(range(field.offset + 8 + len(name) + 4, field.offset + size))
    return int(reader.data_offset), free


# The Hugging Face layout


@pytest.fixture
def folder(tmp_path):
    checkpoint(tmp_path / "theirs", library(RULE))
    return changed(tmp_path / "theirs", max_position_embeddings=64)


def read_and_export(folder):
    """As ``read``; the same files are also written as GGUF."""
    result = read(Pretrained(path=str(folder)))
    export_checkpoint(folder, folder / "m.gguf", {"to": "gguf", "type": "f32", "output_type": None}, {})
    return result


@pytest.mark.parametrize("count", COUNTS)
def test_a_hostile_config_json_is_one_line_or_changes_nothing(folder, count):
    draws, path, chosen = np.random.default_rng(1), folder / "config.json", Pretrained(path=str(folder))
    content, expected, refused = json.loads(path.read_text()), read(Pretrained(path=str(folder))), 0
    paths = [keys for keys in positions(content) if keys]
    for _ in range(count):
        keys = paths[draws.integers(len(paths))]
        path.write_text(json.dumps(replaced(content, keys, draws)))
        result = outcome(read, chosen)
        refused += result is None
        assert result in (None, expected) or keys[0] in FREE, (keys, path.read_text())
    assert refused > count // 3


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_bytes_of_json_are_one_line_or_a_possible_file(folder, name, count):
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": {"content": "<s>"}}))
    draws, path = np.random.default_rng(2), folder / name
    content = path.read_bytes()
    for _ in range(count):
        path.write_bytes(damaged(content, draws, 0, len(content))[0])
        outcome(read_and_export, folder)
        path.write_bytes(content)
    assert read_and_export(folder)


@pytest.mark.parametrize("count", COUNTS)
def test_a_hostile_tokenizer_json_is_one_line_or_covers_every_byte(folder, count):
    draws, path = np.random.default_rng(3), folder / "tokenizer.json"
    content = json.loads(path.read_text())
    paths = [keys for keys in positions(content) if keys[:2] != ("model", "vocab") or draws.random() < 0.05]
    for _ in range(count):
        path.write_text(json.dumps(replaced(content, paths[draws.integers(len(paths))], draws)))
        outcome(read_and_export, folder)  # asserts that the tokens cover the text's bytes


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_safetensors_is_one_line_or_changes_nothing(folder, count):
    draws, path, chosen = np.random.default_rng(4), folder / "model.safetensors", Pretrained(path=str(folder))
    content, expected, refused = path.read_bytes(), read(Pretrained(path=str(folder))), 0
    head = 8 + struct.unpack_from("<Q", content)[0]
    for _ in range(count):
        path.write_bytes(damaged(content, draws, 0, head)[0])
        result = outcome(read, chosen)
        refused += result is None
        assert result in (None, expected)
    assert refused > count // 2


# n-gram models


def read_ngrams(path):
    """All that a reader takes from an ARPA file: words, sums after every context, and scores."""
    model = arpa.model_of(arpa_file.read(path))
    row = np.arange(12)[None] % model.vocab_size
    return model.words, [totals.tolist() for totals in model.sums()], model.score(row).tolist()


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_arpa_file_is_one_line_or_another_model(tmp_path, count, packed):
    draws, content = np.random.default_rng(count), packed(SRILM.encode())
    path, models = tmp_path / "m.arpa", 0
    for _ in range(count):
        path.write_bytes(damaged(content, draws, 0, len(content))[0])
        models += outcome(read_ngrams, path) is not None
    path.write_bytes(content)
    assert read_ngrams(path)[0] == [b"", b"the", b"cat", b"<unk>"] and models < count
