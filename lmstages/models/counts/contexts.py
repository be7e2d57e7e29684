"""Counts of the n-grams of one order by their contexts: what additive smoothing needs, by sorting as ``counting`` does.

An n-gram is a number in base V whose last digit is its last token, so that in sorted order those with the same context
are adjacent, and so are contexts that begin alike. A context is stored as the rank of itself without its last token,
times V, plus that token; an n-gram likewise. Where few numbers are possible they are counted in a table of all of them.

Before a document stand boundary tokens all the way (``padded``), or only n-grams within it are counted. Computes no
probability. ``M`` positions: tokens of the text and, before each of its rows, one more.
"""

from collections.abc import Iterator

import numpy as np

from lmstages.core.documents import BOUNDARY, Documents
from lmstages.models.counts import counting
from lmstages.models.counts.counting import Rows

DENSE = 1 << 22  # possible n-grams; up to so many a table of all of them is faster than sorting
PIECE = 1 << 20  # tokens counted in a table at once
Counted = tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]


def count(documents: Documents, order: int, vocab_size: int, padded: bool) -> Counted:
    """Contexts of length 1 ... n - 1, by length; n-grams that occur and their counts (U,); the sums of each context."""
    words, counts = distinct(documents, order, vocab_size, padded)
    groups = list(counting.packed_groups(words, order, vocab_size))
    totals = counts.sum(keepdims=True)
    if order > 1:
        begins = groups[1][0]
        totals = np.add.reduceat(counts, begins) if len(begins) else counts
    lengths = [len(counts), *(len(begins) for begins, _ in groups)]
    levels, parents = list[np.ndarray](), np.zeros(lengths[-1], dtype=np.int64)
    for (begins, tokens), longer in zip(reversed(groups), lengths[-2::-1], strict=True):
        levels.append(parents * vocab_size + tokens)
        parents = np.repeat(np.arange(len(begins)), np.diff(begins, append=longer))
    return levels[:-1], levels[-1], counts, totals


def distinct(documents: Documents, order: int, vocab_size: int, padded: bool) -> tuple[np.ndarray, np.ndarray]:
    """N-grams that occur, as keys (W, U), sorted, and their counts (U,)."""
    possible = vocab_size**order
    if possible > DENSE:
        return counting.distinct_keys(documents, order, vocab_size, padded, packed, counted_in)
    table = np.zeros(possible, dtype=np.int64)
    for rows, mask in counting.pieces(documents, order, padded, max(PIECE, possible)):
        table += np.bincount(packed(rows, order, vocab_size)[0, counted_in(rows, mask, order)], minlength=possible)
    keys = np.flatnonzero(table)
    return keys[None].astype(np.uint64), table[keys]


def counted_in(rows: Rows, mask: np.ndarray, order: int) -> np.ndarray:
    """(M,) positions of which a piece says that they are counted -> those where an n-gram ends."""
    mask[:1] = False  # the boundary before the first row
    if not rows.padded:
        mask[rows.shorter_than(order)] = False
    return mask


def packed(rows: Rows, order: int, base: int) -> np.ndarray:
    """(W, M) the n-gram that ends at each position, as words of up to 64 bits."""
    words, older = list[np.ndarray](), order
    dtype = np.dtype(np.uint32 if base**order <= 1 << 32 else np.uint64)
    for length in counting.word_lengths(order, base):
        word = np.zeros(len(rows.tokens), dtype=dtype)
        for distance in range(older - 1, older - length - 1, -1):
            word *= dtype.type(base)
            word += earlier(rows, distance).astype(dtype)
        words.append(word)
        older -= length
    return np.stack(words) if len(words) > 1 else words[0][None]


def pieces(documents: Documents, order: int) -> Iterator[tuple[Rows, np.ndarray]]:
    """PIECE tokens at a time: rows (M,), and a mask of the tokens of the text (M,)."""
    for rows, mask in counting.pieces(documents, order, True, PIECE):
        mask[:1] = False
        yield rows, mask


def earlier(rows: Rows, distance: int) -> np.ndarray:
    """(M,) the token ``distance`` before each position, the boundary before the beginning of its row."""
    if not distance:
        return rows.tokens
    tokens = np.full(len(rows.tokens), BOUNDARY, dtype=rows.tokens.dtype)
    tokens[distance:] = rows.tokens[:-distance]
    tokens[rows.shorter_than(distance)] = BOUNDARY
    return tokens
