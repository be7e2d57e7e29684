"""A passage is the beginning of the text, with the nats of its tokens."""

from pathlib import Path

import numpy as np
import pytest

from lmstages.evaluation.passages import passage
from lmstages.evaluation.score_files import Scores


def scores(lengths: list[int], documents: list[int] | None = None) -> Scores:
    """Token n costs n + 1 nats."""
    nats = np.arange(1, len(lengths) + 1, dtype=np.float32)
    return Scores(-nats, np.array(lengths), np.array(documents or [0] * len(lengths)), 0, "stream", 0)


@pytest.fixture
def text(tmp_path: Path):
    def written(content: str) -> Path:
        path = tmp_path / "test.txt"
        path.write_bytes(content.encode())
        return path

    return written


def test_the_pieces_are_the_text_and_the_nats_those_of_its_tokens(text):
    assert passage(scores([3, 1, 3]), text("the fox")) == [["the", 1.0], [" ", 2.0], ["fox", 3.0]]


def test_bytes_that_make_a_character_together_are_one_piece(text):
    assert passage(scores([1, 1, 1, 1]), text("aé!")) == [["a", 1.0], ["é", 5.0], ["!", 4.0]]


def test_a_token_without_text_is_an_empty_piece(text):
    assert passage(scores([1, 0, 1]), text("ab")) == [["a", 1.0], ["", 2.0], ["b", 3.0]]


def test_every_piece_that_begins_within_the_passage_is_complete(text):
    assert passage(scores([2, 2, 2]), text("aabbcc"), characters=3) == [["aa", 1.0], ["bb", 2.0]]


def test_tokens_of_any_length_show_the_same_text(text):
    path = text("日本語 " * 400)
    long, short = (passage(scores([size] * (4000 // size)), path) for size in (1, 10))
    assert "".join(piece for piece, _ in long)[:500] == path.read_text()[:500]
    assert "".join(piece for piece, _ in short)[:500] == path.read_text()[:500]


def test_where_the_first_tokens_were_skipped_it_begins_with_the_next_document(text):
    kept = scores([1, 1, 1, 1], documents=[0, 0, 1, 1])
    assert passage(kept, text("Xabcd")) == [["c", 3.0], ["d", 4.0]]


def test_an_impossible_token_has_no_number(text):
    impossible = scores([1, 1])
    impossible.log_probs[1] = -np.inf
    assert passage(impossible, text("ab")) == [["a", 1.0], ["b", None]]


def test_an_empty_split_has_no_passage(text):
    assert passage(scores([]), text("")) == []
