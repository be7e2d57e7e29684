"""Near copies: documents of held-out text whose set of shingles is nearly that of a document of train.

    J(A, B) = |A & B| / |A | B| >= 0.8        A and B the sets of windows of 8 characters of two documents

Candidates come from MinHash (Broder 1997) in 16 bands of 4, which finds a pair at 0.8 with probability
1 - (1 - 0.8 ** 4) ** 16 = 0.9998; the coefficient is then computed from the complete sets. A document shorter than a
shingle is its own single shingle. Most of the time goes into 64 products for every character of train.
"""

from typing import NamedTuple

import numpy as np

from lmstages.core.compiled import compiled
from lmstages.corpora.hashing import (
    ODD,
    SHINGLE,
    Index,
    hash_documents,
    hash_shingles,
    mixed,
    mixed_all,
    position_of,
    sorted_distinct,
)

NEAR = 0.8
BANDS, ROWS = 16, 4
MINIMA = BANDS * ROWS
LARGEST = np.uint64(0xFFFFFFFFFFFFFFFF)
SEEDS = mixed_all(np.arange(1, MINIMA + 1, dtype=np.uint64)) | np.uint64(1)


class Shingles(NamedTuple):
    """Hashes of the shingles of D documents: those of document d are ``hashes[begins[d] : ends[d]]``."""

    hashes: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


def shingles_of(points: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> Shingles:
    """(n,) code points, (D,) documents -> every shingle of each, in order, repeated ones too."""
    hashes, ends = hash_shingles(points), np.maximum(stops - SHINGLE + 1, np.minimum(starts + 1, stops))
    short = (stops - starts < SHINGLE) & (stops > starts)
    hashes[starts[short]] = hash_documents(points, starts[short], stops[short])
    return Shingles(hashes, starts, ends)


@compiled
def distinct(shingles: Shingles) -> Shingles:
    """The set of each document, sorted."""
    hashes, count = np.empty(len(shingles.hashes), np.uint64), 0
    begins, ends = np.empty(len(shingles.begins), np.int64), np.empty(len(shingles.begins), np.int64)
    for number in range(len(begins)):
        begins[number] = count
        for value in sorted_distinct(shingles.hashes[shingles.begins[number] : shingles.ends[number]]):
            hashes[count] = value
            count += 1
        ends[number] = count
    return Shingles(hashes, begins, ends)


@compiled
def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Two sorted sets -> |A & B| / |A | B|; 1 where both are empty."""
    shared = i = j = 0
    while i < len(first) and j < len(second):
        if first[i] == second[j]:
            shared, i, j = shared + 1, i + 1, j + 1
        elif first[i] < second[j]:
            i += 1
        else:
            j += 1
    union = len(first) + len(second) - shared
    return shared / union if union else 1.0


@compiled
def signatures(shingles: Shingles) -> np.ndarray:
    """D documents -> (D, BANDS) hashes of the minima of each band; documents of high overlap have some in common."""
    keys, minima = np.zeros((len(shingles.begins), BANDS), np.uint64), np.empty(MINIMA, np.uint64)
    for number in range(len(keys)):
        minima[:] = LARGEST
        for value in shingles.hashes[shingles.begins[number] : shingles.ends[number]]:
            for row in range(MINIMA):
                minima[row] = min(minima[row], value * SEEDS[row])
        for band in range(BANDS):
            key = minima[band * ROWS]
            for row in range(1, ROWS):
                key = mixed(key * ODD + minima[band * ROWS + row])
            keys[number, band] = mixed(key + np.uint64(band))
    return keys


class Buckets(NamedTuple):
    """Documents by the key of a band: those with ``keys.keys[k]`` are ``numbers[begins[k] : ends[k]]``.

    A document that has its near copy is taken out where it is met, so that ``ends`` falls and none is compared again.
    """

    keys: Index
    begins: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray


class HeldOutCopies:
    """D distinct documents of held-out text, and which have a near copy in the parts of train compared so far."""

    def __init__(self, points: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> None:
        shingles = shingles_of(points, starts, stops)
        self.near, self.sets = np.zeros(len(starts), dtype=bool), distinct(shingles)
        numbers = np.flatnonzero(stops > starts)  # an empty document has no shingle
        keys = signatures(shingles)[numbers].ravel()
        order = np.argsort(keys, kind="stable")
        begins = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
        index, ends = Index.of(keys[order[begins]]), np.append(begins[1:], len(keys))[: len(begins)]
        self.buckets = Buckets(index, begins, ends, numbers[order // BANDS])

    def compare(self, shingles: Shingles, keys: np.ndarray) -> int:
        """Mark the documents with a near copy among these of train, with keys (D, BANDS); how many were compared."""
        return mark_near(shingles, keys, self.buckets, self.sets, self.near)


@compiled
def mark_near(shingles: Shingles, keys: np.ndarray, buckets: Buckets, sets: Shingles, near: np.ndarray) -> int:
    """Set ``near`` of the held-out documents to which one of train, with these keys (D, BANDS), is nearly equal."""
    comparisons = 0
    compared = np.zeros(len(near), np.int64)  # one more than the document of train that each was last compared with
    for number in range(len(keys)):
        own = shingles.hashes[:0]
        for band in range(BANDS):
            bucket = position_of(keys[number, band], buckets.keys)
            position = buckets.begins[bucket] if bucket >= 0 else 0
            while bucket >= 0 and position < buckets.ends[bucket]:
                other = buckets.numbers[position]
                if not near[other] and compared[other] != number + 1:
                    compared[other], comparisons = number + 1, comparisons + 1
                    if not len(own):
                        own = sorted_distinct(shingles.hashes[shingles.begins[number] : shingles.ends[number]])
                    near[other] = jaccard(own, sets.hashes[sets.begins[other] : sets.ends[other]]) >= NEAR
                if near[other]:
                    buckets.ends[bucket] -= 1
                    buckets.numbers[position] = buckets.numbers[buckets.ends[bucket]]
                else:
                    position += 1
    return comparisons
