"""Overlap of held-out text with train, on texts worked out by hand."""

import json
import random
import time
import tracemalloc

import numpy as np
import pytest

from lmstages.core import artifacts
from lmstages.corpora import hashing, near_copies, overlap, splits

LONG = "the quick brown fox jumps over the lazy dog while the slow red hen looks on"


def audited(folder, train, test, stream=False, **options):
    for name, texts in (("train", train), ("test", test)):
        contents = (text.encode() + (b"" if stream else b"\n") for text in texts)
        splits.write(folder, name, contents, np.zeros(len(texts)) if stream else np.ones(len(texts)), stream, {})
    overlap.audit(folder, ["test"], folder / "out", {}, **options)
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


def points_of(texts):
    ends = np.cumsum([len(f"{text}\n".encode()) for text in texts])
    return splits.points_of_documents(
        splits.Part("".join(f"{text}\n" for text in texts).encode(), ends, np.ones(len(texts), int))
    )


def sets_of(texts):
    shingles = near_copies.distinct(near_copies.shingles_of(*points_of(texts)))
    return [shingles.hashes[begin:end] for begin, end in zip(shingles.begins, shingles.ends, strict=True)]


def test_jaccard_by_hand():
    first, second = sets_of(["abcdefghij", "abcdefghiX"])  # three shingles in either, two shared
    assert near_copies.jaccard(first, second) == 2 / 4


def test_shingles_of_a_text_are_its_own_whatever_stands_beside_it():
    texts = [LONG, "", "ab", "abcdefgh", LONG[5:], "ab", "語の本を読む人です", "é"]
    for text, together in zip(texts, sets_of(texts), strict=True):
        np.testing.assert_array_equal(together, *sets_of([text]))
        assert len(together) == len({text[start : start + 8] for start in range(max(len(text) - 7, 1))} - {""})


def keys_of(text):
    return near_copies.signatures(near_copies.shingles_of(*points_of([text])))[0].tolist()


def test_equal_sets_have_equal_keys_in_every_band_and_unlike_ones_none_in_common():
    assert keys_of(LONG + LONG) == keys_of(LONG + LONG + LONG) and len(set(keys_of(LONG))) == near_copies.BANDS
    assert not set(keys_of(LONG)) & set(keys_of(LONG[::-1]))


@pytest.mark.parametrize("length", [1, 2, 7, 50])
def test_equal_windows_have_equal_hashes_and_others_others(length):
    texts = [LONG * 2, "", LONG[:length], "naïve 語 " * 12]
    hashes = hashing.hash_windows(*points_of(texts), length)
    pieces = [text[start : start + length] for text in texts for start in range(len(text) - length + 1)]
    assert len(hashes) == len(pieces) and len(dict(zip(hashes.tolist(), pieces, strict=True))) == len(set(pieces))


def test_an_index_finds_every_key_and_nothing_else():
    keys = np.unique(np.random.default_rng(1).integers(0, 2**64, 1000, dtype=np.uint64))
    index = hashing.Index.of(keys[::2].copy())
    assert hashing.positions_of(keys, index)[::2].tolist() == list(range(len(keys[::2])))
    assert (hashing.positions_of(keys, index)[1::2] == -1).all()
    assert hashing.positions_of(keys[:9], hashing.Index.of(keys[:0])).tolist() == [-1] * 9


# ---------------------------------------------------------------- against the definition


def by_definition(train, test, stream):
    """The fractions of the module, from sets of texts."""

    def windows(text, length):
        return [text[start : start + length] for start in range(len(text) - length + 1)]

    def shingles(text):
        return set(windows(text, 8)) or {text} - {""}

    def is_near(text, other):
        one, two = shingles(text), shingles(other)
        return bool(one) and len(one & two) / len(one | two) >= 0.8

    train, test = (["".join(texts)] if stream else texts for texts in (train, test))
    known = {window for text in train for window in windows(text, 50)}
    found = [window in known for text in test for window in windows(text, 50)]
    near = [text in train or any(is_near(text, other) for other in train) for text in test]
    none = stream or not test
    return {
        "documents": None if none else np.mean([text in train for text in test]),
        "near": None if none else np.mean(near),
        "windows": np.mean(found) if found else None,
    }


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_fractions_are_those_of_the_definition(tmp_path, monkeypatch, seed, stream):
    """On random texts of one and more bytes a character, empty ones, ones below a window, copies whole and changed."""
    draws = random.Random(seed)
    monkeypatch.setattr(splits, "PIECE", 300)  # so that many pieces are read
    train = ["".join(draws.choices("aé語😀", k=draws.choice([0, 1, 7, 8, 49, 50, 51, 90]))) for _ in range(60)]
    copies = [text[:40] + "#" + text[41:] for text in draws.sample(train, 20)]
    test = [*draws.sample(train, 5), *copies, *("".join(draws.choices("aé語😀", k=60)) for _ in range(9)), ""]
    fractions, _ = audited(tmp_path, train, test, stream)
    assert fractions == by_definition(train, test, stream)


def test_a_planted_copy_is_found_at_its_place(tmp_path):
    train = ["".join(random.Random(seed).choices("abcdef ", k=120)) for seed in range(50)]
    test = ["".join(random.Random(seed).choices("abcdef ", k=120)) for seed in range(100, 140)]
    test[17], test[23] = train[31], train[8][:60] + "#" + train[8][61:]
    fractions, arrays = audited(tmp_path, train, test)
    assert np.flatnonzero(arrays["test.seen"]).tolist() == [17] and fractions["near"] == 2 / 40


# ---------------------------------------------------------------- at scale


def test_a_sample_of_train_is_the_same_whatever_the_pieces_and_finds_no_more(tmp_path, monkeypatch):
    texts = [f"{number} {LONG[number % 30 :]} {number} {LONG}" for number in range(200)]
    whole, _ = audited(tmp_path / "whole", texts, [text[:-1] + "#" for text in texts])
    some, _ = audited(tmp_path / "some", texts, [text[:-1] + "#" for text in texts], near_bytes=5000)
    monkeypatch.setattr(splits, "PIECE", 999)
    again, _ = audited(tmp_path / "again", texts, [text[:-1] + "#" for text in texts], near_bytes=5000)
    assert some == again and 0 < some["near"] < whole["near"] and some["windows"] == whole["windows"]
    kept = artifacts.load_json(tmp_path / "some" / "out" / "overlap.json")["near_of_train"]
    assert kept == pytest.approx(5000 / (tmp_path / "some" / "train.txt").stat().st_size)
    assert overlap.chosen(np.arange(100_000), 0.2).mean() == pytest.approx(0.2, abs=0.01)


def test_memory_is_that_of_a_piece_however_long_train_is(tmp_path, monkeypatch):
    """Ten times the text: the peak is the same to a tenth, as the ends of documents are all that grows."""
    monkeypatch.setattr(splits, "PIECE", 1 << 16)
    peaks = []
    for documents in (2_000, 20_000):
        folder = tmp_path / str(documents)
        audited(folder, [f"{number} {LONG}" for number in range(documents)], [LONG[::-1]] * 10)
        tracemalloc.start()
        overlap.audit(folder, ["test"], folder / "again", {})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 16 * 20_000 < 5_000_000


def test_documents_that_are_nearly_the_same_are_compared_until_one_is_found():
    """As many comparisons as documents, and not as many as pairs."""
    lines = [f"the quick brown fox jumps over the lazy dog, number {number}" for number in range(400)]
    train = near_copies.shingles_of(*points_of(lines[:200]))
    held_out = near_copies.HeldOutCopies(*points_of(lines[200:]))
    comparisons = held_out.compare(train, near_copies.signatures(train))
    assert held_out.near.all() and comparisons < 10 * len(lines)


@pytest.mark.parametrize("line", [b"\n", b"the very same line of text\n"])
def test_repeated_lines_cost_no_more_than_their_number(tmp_path, line):
    for name in ("train", "test"):
        splits.write(tmp_path, name, iter([line] * 80_000), np.ones(80_000), False, {})
    started = time.process_time()
    overlap.audit(tmp_path, ["test"], tmp_path, {})
    assert time.process_time() - started < 20, "80,000 x 80,000 comparisons take hours"
    fractions = json.loads((tmp_path / "overlap.json").read_bytes())["splits"]["test"]
    assert (fractions["documents"], fractions["near"]) == (1.0, 1.0)
