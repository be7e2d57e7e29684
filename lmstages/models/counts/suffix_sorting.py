"""Sorts the suffixes of a text, and finds the tree of what they have in common. Suffixes are read backwards.

Sorting is by prefix doubling (Manber & Myers 1993): ranks by the last n tokens of every position give ranks by the last
2 n, until none is divided further. The ranks of every round are kept, since two positions have their last n tokens in
common where these ranks are equal: by halving steps they give the longest common prefix (LCP) of every two neighbours.

A node of the tree is a greatest interval of positions that have their last n tokens in common, n as large as it can be
(Abouelhoda, Kurtz & Ohlebusch 2004). Memory while a text is indexed: about 140 bytes a token, and 4 more for each
round; there are about log2 of the longest repeated string's length. Knows rows of tokens, and no count.
"""

from dataclasses import dataclass

import numpy as np

from lmstages.models.counts.counting import Rows, digits_in_a_key, packed_keys


@dataclass(frozen=True)
class Tree:
    """Of M sorted suffixes: ``lcp`` (M + 1,), of position i with i - 1, -1 at both ends; and its U nodes, in order.

    ``begins``, ``ends``, ``depths``, ``children`` (U,): the nodes' intervals, lengths, and how many parts they have.
    ``nodes`` (M + 1,): the node that is divided before each position. ``divisions`` (M - 1,): for each position i but
    the first the number lcp (M + 1) + i, sorted.
    """

    lcp: np.ndarray
    nodes: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    depths: np.ndarray
    children: np.ndarray
    divisions: np.ndarray

    def division_after(self, positions: np.ndarray, depths: np.ndarray) -> np.ndarray:
        """The first position behind each where a node of that depth is divided."""
        size = len(self.lcp)
        return self.divisions[np.searchsorted(self.divisions, depths * size + positions + 1)] % size


def sorted_suffixes(rows: Rows, base: int) -> tuple[np.ndarray, np.ndarray]:
    """(M,) positions in order, and (M + 1,) the LCP of each with the one before it, -1 at both ends."""
    lengths = lengths_in(rows)
    rounds = _rounds(rows, lengths, base)
    order = np.argsort(rounds[-1][1], kind="stable")
    earlier, later = order[:-1], order[1:]
    most = np.minimum(lengths[earlier], lengths[later])
    final = rounds[-1][1]
    lcp = np.where(final[earlier] == final[later], most, 0)  # equal to the beginnings of their rows
    for length, ranks in reversed(rounds):
        lcp += length * _equal(ranks, earlier, later, lcp, most)
    for _ in range(rounds[0][0] - 1):
        lcp += _equal(rows.tokens, earlier, later, lcp, most)
    return order, np.concatenate([[-1], np.minimum(lcp, most), [-1]])


def lengths_in(rows: Rows) -> np.ndarray:
    """(M,) the number of tokens of each row up to each position, the one before the row included."""
    return np.arange(len(rows.tokens)) - np.repeat(rows.begins, np.diff(rows.begins, append=len(rows.tokens))) + 1


def _equal(
    values: np.ndarray, earlier: np.ndarray, later: np.ndarray, back: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """Where two positions, each ``back`` tokens earlier, have the same value, within their rows."""
    same = values[np.maximum(earlier - back, 0)] == values[np.maximum(later - back, 0)]
    return same & (back < most)


def _rounds(rows: Rows, lengths: np.ndarray, base: int) -> list[tuple[int, np.ndarray]]:
    """(n, ranks (M,) by the last n tokens), n doubling until ranks stay as they are."""
    length = digits_in_a_key(base)
    keys, rounds, count = packed_keys(rows, length, base), list[tuple[int, np.ndarray]](), 0
    while True:
        distinct, ranks = np.unique(keys, return_inverse=True)
        if len(distinct) == count:
            return rounds
        count = len(distinct)
        rounds.append((length, ranks.astype(np.uint32)))
        if count == len(keys):
            return rounds
        older = np.zeros(len(keys), dtype=np.uint64)
        older[length:] = ranks[:-length].astype(np.uint64) + np.uint64(1)
        older[lengths <= length] = 0
        keys = ranks.astype(np.uint64) * np.uint64(count + 1) + older
        length *= 2


def tree_of(lcp: np.ndarray) -> Tree:
    """The nodes of an array of LCP."""
    size = len(lcp)
    intervals = _nearest_less(lcp, -1)[1:-1] * size + _nearest_less(lcp, 1)[1:-1]
    keys, first, inverse, counts = np.unique(intervals, return_index=True, return_inverse=True, return_counts=True)
    nodes = np.concatenate([[-1], inverse, [-1]])
    divisions = np.sort(lcp[1:-1] * size + np.arange(1, size - 1))
    return Tree(lcp, nodes, keys // size, keys % size, lcp[1:-1][first], counts + 1, divisions)


def _nearest_less(values: np.ndarray, step: int) -> np.ndarray:
    """(S,) the nearest index before (``step`` -1) or behind (1) each whose value is less; the ends have the least.

    An index that is not less gives way to its own nearest so far, all at once: some log2 S rounds.
    """
    nearest = np.clip(np.arange(len(values)) + step, 0, len(values) - 1)
    active = np.arange(1, len(values) - 1)
    while len(active := active[values[nearest[active]] >= values[active]]):
        nearest[active] = nearest[nearest[active]]
    return nearest
