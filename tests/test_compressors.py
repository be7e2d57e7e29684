"""Compressors as rows: their sizes equal those of the same programs called directly."""

import bz2
import gzip
import lzma

import pytest
import zstandard

from lmstages.config.sections import Basics, from_section
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.evaluation.compressors import CHUNK, COMPRESSORS, code_lengths, size

TEXT = b"the cat sat on the mat and the dog sat on the log\n" * 300
DIRECTLY = {
    "gzip": lambda text: gzip.compress(text, 9),
    "bz2": lambda text: bz2.compress(text, 9),
    "xz": lambda text: lzma.compress(text, preset=9),
    "zstd": lambda text: zstandard.ZstdCompressor(level=19, write_content_size=False).compress(text),
}


@pytest.fixture
def texts(tmp_path):
    for name, text in (("train", TEXT), ("test", TEXT[::-1])):
        artifacts.save_bytes(tmp_path / f"{name}.txt", text, {})
    return tmp_path


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_size_is_that_of_the_program(texts, name):
    assert abs(size(name, [texts / "train.txt"]) - len(DIRECTLY[name](TEXT))) <= 4  # a frame may state its length


@pytest.mark.parametrize("name", COMPRESSORS)
def test_repeated_text_costs_less(texts, name):
    artifacts.save_bytes(texts / "test.txt", TEXT, {})
    code_lengths(texts, [name], ["test"], texts / "out.json", {})
    sizes = artifacts.load_json(texts / "out.json")["test"][name]
    assert 0 <= sizes["given_train"] < sizes["alone"]


def test_a_text_longer_than_a_piece_is_read_whole(tmp_path):
    text = bytes(range(256)) * (CHUNK // 128)
    artifacts.save_bytes(tmp_path / "train.txt", text, {})
    assert abs(size("gzip", [tmp_path / "train.txt"]) - len(gzip.compress(text, 9))) <= 4


def test_an_unknown_compressor_is_refused():
    with pytest.raises(UserError, match="'rar' found"):
        from_section(Basics, {"name": "run", "compressors": ["gzip", "rar"]})
