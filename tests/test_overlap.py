"""Overlap of held-out text with train, on texts worked out by hand."""

import json
import time

import numpy as np
import pytest

from lmstages.core import artifacts
from lmstages.corpora import splits
from lmstages.corpora.overlap import BREAK, audit, code_points, jaccard, shingles_of, signature, window_hashes

LONG = "the quick brown fox jumps over the lazy dog while the slow red hen looks on"


def audited(folder, train, test, stream=False):
    for name, texts in (("train", train), ("test", test)):
        contents = (text.encode() + (b"" if stream else b"\n") for text in texts)
        splits.write(folder, name, contents, np.zeros(len(texts)) if stream else np.ones(len(texts)), stream, {})
    audit(folder, ["test"], folder / "out", {})
    seen = artifacts.load_arrays(folder / "out" / "overlap.safetensors")[0]
    return artifacts.load_json(folder / "out" / "overlap.json")["splits"]["test"], seen


def test_a_copy_of_train_overlaps_wholly(tmp_path):
    fractions, _ = audited(tmp_path, [LONG, LONG[::-1]], [LONG, LONG[::-1]])
    assert fractions == {"documents": 1.0, "near": 1.0, "windows": 1.0}


def test_other_text_overlaps_nowhere(tmp_path):
    fractions, _ = audited(tmp_path, [LONG], [LONG[::-1]])
    assert fractions == {"documents": 0.0, "near": 0.0, "windows": 0.0}


def test_one_document_of_three_is_in_train(tmp_path):
    fractions, arrays = audited(tmp_path, ["anna", "ben"], ["clara", "ben", "dora"])
    assert fractions["documents"] == pytest.approx(1 / 3) and fractions["windows"] is None
    assert arrays["test.seen"].tolist() == [False, True, False] and arrays["test.characters"].tolist() == [6, 4, 5]


def test_a_changed_letter_leaves_a_near_copy_and_the_windows_beside_it(tmp_path):
    text = LONG * 2
    fractions, _ = audited(tmp_path, [text], [text[:100] + "#" + text[101:]])
    windows, changed = len(text) - 49, len(text) - 100 + 1  # the last windows, from the first with the letter
    assert fractions["documents"] == 0.0 and fractions["near"] == 1.0
    assert fractions["windows"] == pytest.approx((windows - min(50, changed)) / windows)


def test_a_window_never_crosses_two_documents(tmp_path):
    fractions, _ = audited(tmp_path, [LONG], [LONG[:60], LONG[60:]])
    assert fractions["windows"] == 1.0  # 11 windows, all of the first
    fractions, _ = audited(tmp_path, [LONG[:30], LONG[30:]], [LONG])
    assert fractions["windows"] == 0.0


def test_a_stream_has_windows_and_no_documents(tmp_path):
    fractions, _ = audited(tmp_path, [LONG], [LONG[10:70]], stream=True)
    assert fractions == {"documents": None, "near": None, "windows": 1.0}


def test_jaccard_by_hand():
    first, second = shingles_of(["abcdefghij", "abcdefghiX"])  # three shingles in either, two shared
    assert jaccard(first, second) == 2 / 4


def test_shingles_of_a_text_are_its_own_whatever_stands_beside_it():
    texts = [LONG, "", "ab", "abcdefgh", LONG[5:], "ab"]
    for text, together in zip(texts, shingles_of(texts), strict=True):
        np.testing.assert_array_equal(together, *shingles_of([text]))


def test_equal_sets_have_equal_signatures_and_unlike_ones_none_in_common():
    assert signature(*shingles_of([LONG])) == signature(*shingles_of([LONG]))
    assert not set(signature(*shingles_of([LONG]))) & set(signature(*shingles_of([LONG[::-1]])))


@pytest.mark.parametrize("length", [1, 2, 7, 50])
def test_equal_windows_have_equal_hashes(length):
    text = LONG * 2
    hashes = window_hashes(code_points(text), length)
    pieces = [text[start : start + length] for start in range(len(text) - length + 1)]
    assert len(hashes) == len(pieces) and len(set(hashes.tolist())) == len(set(pieces))


def test_windows_with_a_break_are_left_out():
    assert len(window_hashes(code_points(f"abc{BREAK}abc"), 3)) == 2


@pytest.mark.parametrize("line", [b"\n", b"the very same line of text\n"])
def test_repeated_lines_cost_no_more_than_their_number(tmp_path, line):
    for name in ("train", "test"):
        splits.write(tmp_path, name, iter([line] * 80_000), np.ones(80_000), False, {})
    started = time.process_time()
    audit(tmp_path, ["test"], tmp_path, {})
    assert time.process_time() - started < 20, "80,000 x 80,000 comparisons take hours"
    fractions = json.loads((tmp_path / "overlap.json").read_bytes())["splits"]["test"]
    assert (fractions["documents"], fractions["near"]) == (1.0, 1.0)
