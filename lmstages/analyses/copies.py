"""Which of many texts occur in train, and how much of each: train is read once for all of them, piece by piece.

    documents    the texts that are a document of train
    beginnings   the texts with which a document of train begins
    longest      length of the longest substring of each text that occurs in train, across the ends of documents, too

All are compared by 64-bit hashes. The longest copy is found by bisection over its length, one length at a time for all
texts. Copies are looked for in train as a whole up to ``MAX_TRAIN`` bytes, which memory holds; of a longer one in the
first part of every piece, so that about as much is searched, and ``searched`` is that part.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lmstages.corpora import hashing
from lmstages.corpora.splits import Points, code_points, one_document

MAX_TRAIN = 1 << 24  # bytes of train that are searched for copies
BLOCK = 1 << 20  # characters hashed at a time
FIRST = 8  # characters of the first copy that is looked for
NEWLINE = ord("\n")


class Train(NamedTuple):
    """The text of train in pieces, its size in bytes, and whether it is a stream, whose pieces are no documents."""

    pieces: Iterable[Points]
    size: int
    stream: bool


@dataclass(frozen=True)
class Occurrences:
    """What of the texts occurs in train, and the fraction of train that was searched for ``longest``."""

    documents: frozenset[str]
    beginnings: frozenset[str]
    longest: dict[str, int]
    searched: float


def occurrences(
    train: Train, whole: Iterable[str], begun: Iterable[str], texts: Iterable[str], most: int = MAX_TRAIN
) -> Occurrences:
    """Look up ``whole`` texts among documents, ``begun`` ones at their beginnings, and ``texts`` anywhere."""
    documents, beginnings, searched = Wanted(whole), Wanted(begun), min(1.0, most / max(train.size, 1))
    segments = []
    for piece in train.pieces:
        if not train.stream:
            documents.mark(hashing.hash_documents(*piece))
            beginnings.mark_beginnings(piece)
        points = piece.points if train.stream else joined_by_newlines(piece)
        segments.append(points[: int(len(points) * searched)].copy())  # no view, which would keep the whole piece
    if searched == 1 and segments:
        whole_train = np.concatenate(segments)
        segments = [whole_train if train.stream else whole_train[:-1]]
    distinct = list(dict.fromkeys(texts))
    longest = dict(zip(distinct, longest_copies(distinct, segments).tolist(), strict=True))
    return Occurrences(documents.found(), beginnings.found(), longest, searched)


def joined_by_newlines(piece: Points) -> np.ndarray:
    """The code points of documents with one newline after each in place of its separator."""
    lengths = piece.stops - piece.starts
    steps = np.zeros(len(piece.points) + 1, dtype=np.int64)
    np.add.at(steps, piece.starts, 1)
    np.add.at(steps, piece.stops, -1)
    joined = np.full(int(lengths.sum()) + len(lengths), NEWLINE, dtype=np.uint32)
    of_text = np.ones(len(joined), dtype=bool)
    of_text[np.cumsum(lengths + 1) - 1] = False
    joined[of_text] = piece.points[np.cumsum(steps[:-1]) > 0]
    return joined


class Wanted:
    """Different texts by their hashes, and which of them were met."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(dict.fromkeys(texts))
        keys, self.numbers = np.unique(hashing.hash_documents(*points_of(self.texts)), return_inverse=True)
        self.index, self.seen = hashing.Index.of(keys), np.zeros(len(keys), dtype=bool)
        self.lengths = np.zeros(max(map(len, self.texts), default=0) + 1, dtype=bool)
        self.lengths[[len(text) for text in self.texts]] = True

    def mark(self, hashes: np.ndarray) -> None:
        """Some hashes of documents were met."""
        hashing.mark(hashes, self.index, self.seen)

    def mark_beginnings(self, piece: Points) -> None:
        """The beginnings of some documents were met."""
        if self.texts:
            hashing.mark_beginnings(*piece, self.lengths, self.index, self.seen)

    def found(self) -> frozenset[str]:
        """The texts that were met."""
        return frozenset(text for text, seen in zip(self.texts, self.seen[self.numbers], strict=True) if seen)


def points_of(texts: Sequence[str]) -> Points:
    """Texts end to end, each a document."""
    ends = np.cumsum([0, *map(len, texts)])
    return Points(code_points("".join(texts)), ends[:-1], ends[1:])


def longest_copies(texts: Sequence[str], segments: Collection[np.ndarray]) -> np.ndarray:
    """(D,) length of the longest substring of each text that occurs within a segment, by bisection."""
    sought = points_of(texts)
    low, high = np.zeros(len(texts), dtype=np.int64), sought.stops - sought.starts
    while (unsure := low < high).any():
        tried = np.minimum((low + high + 1) // 2, np.maximum(2 * low, FIRST))
        for length in np.unique(tried[unsure]).tolist():
            numbers = np.flatnonzero(unsure & (tried == length))
            some = Points(sought.points, sought.starts[numbers], sought.stops[numbers])
            occurs = have_copies(some, length, segments)
            low[numbers[occurs]], high[numbers[~occurs]] = length, length - 1
    return low


def have_copies(texts: Points, length: int, segments: Iterable[np.ndarray]) -> np.ndarray:
    """(D,) whether some window of a length of each text, which has at least one, occurs within a segment."""
    hashes = hashing.hash_windows(*texts, length)
    index = hashing.Index.of(hashing.sorted_distinct(hashes))
    seen = np.zeros(len(index.keys), dtype=bool)
    for segment in segments:
        for start in range(0, len(segment) - length + 1, BLOCK):
            block = one_document(segment[start : start + BLOCK + length - 1])
            hashing.mark(hashing.hash_windows(*block, length), index, seen)
    counts = texts.stops - texts.starts - length + 1
    return np.logical_or.reduceat(seen[hashing.positions_of(hashes, index)], np.cumsum(counts) - counts)
