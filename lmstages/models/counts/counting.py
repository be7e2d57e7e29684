"""Counts of all n-grams of a text, n = 1 ... N, from one sort.

The N-gram that ends at a position, read backwards, is a number in base V + 1 whose first digit is the last token:

    key = sum over j < N of digit(token j places back) (V + 1)^(N - 1 - j)        digit(w) = w + 1, 0 for nothing

In sorted order equal n-grams lie together for every n at once, since they share their first n digits: the groups of
order n are read off the groups of order n + 1 by dropping a digit. What follows from this is a tree in which an
n-gram's children are the (n + 1)-grams that put one older token before it. Where N digits do not fit into 64 bits,
positions are sorted by ranks that double in length (Manber & Myers 1993) and the groups are the same. A text longer
than memory is packed, sorted and counted in pieces that are merged; ranks need the whole of it at once.

A document's history ends behind one boundary token, KenLM's ``<s>``, and beyond that there is nothing; or, padded,
boundaries all the way, as Chen & Goodman have it. The boundary that closes a document is predicted like any token
(``</s>``); token 0 stands for both. Within a stream token 0 is ordinary, and contexts run through it.

An adjusted count (Kneser & Ney 1995) says how many different tokens came before an n-gram instead of how often it
came; coming first in a row counts each time anew, since nothing comes before. For n-grams that begin with a boundary
that is their plain count, as in KenLM (Heafield et al. 2013, section 3.3).

Knows no probability. ``M`` cells: the N tokens of the text and one more before each row of it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from lmstages.core.documents import BOUNDARY, Documents
from lmstages.core.progress import Progress
from lmstages.models.counts.merging import Runs, changes

LARGEST_KEY = 1 << 64
PIECE = 1 << 24  # tokens packed and sorted together; about 40 bytes of memory each
Groups = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Rows:
    """Rows end to end, each behind the token that stands before it: tokens (M,), where each begins (R,).

    What comes before that is nothing or, ``padded``, boundaries.
    """

    tokens: np.ndarray
    begins: np.ndarray
    padded: bool

    @classmethod
    def of_documents(cls, documents: Documents, padded: bool) -> "Rows":
        """Every document behind a boundary."""
        firsts = documents.starts[:-1]
        tokens = np.insert(np.asarray(documents.tokens), firsts, BOUNDARY)
        return cls(tokens, firsts + np.arange(len(firsts)), padded)

    @classmethod
    def of_batch(cls, tokens: np.ndarray, before: np.ndarray | None, padded: bool) -> "Rows":
        """(B, T), (B,) -> B rows behind ``before``, by default behind boundaries."""
        rows, length = tokens.shape
        before = np.full(rows, BOUNDARY) if before is None else before
        return cls(np.column_stack([before, tokens]).ravel(), np.arange(rows) * (length + 1), padded)

    def short_of(self, depth: int) -> np.ndarray:
        """Cells at which a row is not yet ``depth`` tokens long, the one before it included."""
        cells = self.begins[:, None] + np.arange(depth)
        ends = np.append(self.begins[1:], len(self.tokens))
        return cells[cells < ends[:, None]]

    def predicted(self) -> np.ndarray:
        """(M,) true but for the tokens that stand before rows."""
        mask = np.ones(len(self.tokens), dtype=bool)
        mask[self.begins] = False
        return mask

    def counted(self) -> np.ndarray:
        """(M,) what is predicted, and of padded rows one cell with boundaries only: a context, counted 0 times."""
        mask = self.predicted()
        mask[self.begins[:1]] = self.padded
        return mask


@dataclass
class Level:
    """The n-grams of one order, in reversed lexicographic order, and what follows them as contexts.

    ``keys`` (U,) are the place of the n-gram less its oldest token among those of order n - 1, times V, plus that
    token; of order 1 there are V, in the order of the vocabulary. ``totals`` (U,) sums the counts of the n-grams
    that have this one as context, ``kinds`` (U, 3) says how many have count 1, 2, and 3 or more.
    """

    keys: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray

    def find(self, parents: np.ndarray, older: np.ndarray, vocab_size: int) -> np.ndarray:
        """Places in the order below and older tokens, of one shape, -1 for none -> places here, -1 where absent."""
        places = np.full(parents.shape, -1, dtype=np.int32)
        known = np.flatnonzero((parents >= 0) & (older >= 0))
        if len(known) and len(self.keys):
            wanted = _child_keys(parents.ravel()[known], older.ravel()[known], vocab_size, self.keys.dtype)
            nearest = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            places.ravel()[known] = np.where(self.keys[nearest] == wanted, nearest, -1)
        return places


def _child_keys(parents: np.ndarray, older: np.ndarray, vocab_size: int, dtype: np.dtype) -> np.ndarray:
    """Numbers of n-grams within the tree, in an unsigned type that holds them all."""
    keys = parents.astype(dtype)
    keys *= dtype.type(vocab_size)
    keys += older.astype(dtype)
    return keys


# ---------------------------------------------------------------- sorting


def packed_keys(rows: Rows, order: int, base: int) -> np.ndarray:
    """(M,) the reversed n-gram that ends at each cell as one number; log2(order) passes that double its length."""
    dtype = np.dtype(np.uint32 if base**order <= 1 << 32 else np.uint64)
    keys, length = rows.tokens.astype(dtype) + dtype.type(1), 1
    while length < order:
        more = min(length, order - length)
        older = keys[:-length] // dtype.type(base ** (length - more))
        cells = rows.short_of(length)
        ones = (base**more - 1) // (base - 1)  # the digit of the boundary, ``more`` times
        older[cells[cells >= length] - length] = ones if rows.padded else 0
        keys *= dtype.type(base**more)
        keys[length:] += older
        keys[: min(length, len(keys))] += dtype.type(ones if rows.padded else 0)
        length += more
    return keys


def _digits_in_a_key(base: int) -> int:
    """How many digits 64 bits hold."""
    digits = 1
    while base ** (digits + 1) <= LARGEST_KEY:
        digits += 1
    return digits


def pieces(documents: Documents, order: int, padded: bool) -> Iterator[tuple[Rows, np.ndarray]]:
    """Some millions of tokens at a time: rows (M,), and which of their cells are counted (M,).

    A piece that begins within a document begins ``order`` tokens earlier, so that its first n-gram is whole.
    """
    for left in range(0, max(1, len(documents)), PIECE):
        right = min(left + PIECE, len(documents))
        first = int(np.searchsorted(documents.starts[:-1], left, side="right")) - 1
        begin = max(int(documents.starts[first]), left - order)
        inner = documents.starts[first + 1 : np.searchsorted(documents.starts, right)]
        piece = Documents(documents.tokens[begin:right], np.concatenate([[begin], inner, [right]]) - begin)
        rows = Rows.of_documents(piece, padded)
        counted = rows.predicted()
        counted[: 1 + left - begin] = padded and left == 0  # boundaries only: a context, counted 0 times
        yield rows, counted


def distinct_keys(documents: Documents, order: int, base: int, padded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Keys of all distinct n-grams of one order (U,), sorted, and how often each came (U,)."""
    runs, done = Runs(), 0
    progress = Progress(len(documents), "counted token")
    for rows, counted in pieces(documents, order, padded):
        runs.add(packed_keys(rows, order, base)[counted])
        done += int(np.count_nonzero(counted))
        progress.at(done, done, "tokens")
    return runs.merged()


def packed_groups(keys: np.ndarray, order: int, base: int) -> Groups:
    """For n = N ... 1: where each n-gram begins among those of order n + 1 (first: among ``keys``, which are
    distinct and sorted), and its oldest digit."""
    for _ in range(order):
        begins = changes(keys)
        keys = keys[begins]
        shorter = keys // keys.dtype.type(base)
        yield begins, (keys - shorter * keys.dtype.type(base)).astype(np.int64)
        keys = shorter


def ranked_groups(rows: Rows, order: int, base: int) -> Groups:
    """What ``packed_groups`` gives, but first among cells, for vocabularies too wide for it."""
    cells = np.flatnonzero(rows.counted())
    cells = cells[np.argsort(_ranks(rows, order, base)[cells])]
    depths = np.arange(len(rows.tokens)) - np.repeat(rows.begins, np.diff(rows.begins, append=len(rows.tokens)))
    differs = np.full(len(cells), order)  # the first digit in which a cell differs from the one sorted before it
    for back in reversed(range(order)):
        differs[changes(_digits(rows, depths, cells, back))] = back
    differs[:1] = -1
    for n in range(order, 0, -1):
        begins = np.flatnonzero(differs < n)
        cells, differs = cells[begins], differs[begins]
        yield begins, _digits(rows, depths, cells, n - 1)


def _ranks(rows: Rows, order: int, base: int) -> np.ndarray:
    """(M,) places of cells in reversed lexicographic order of their last ``order`` digits or more."""
    length = min(order, _digits_in_a_key(base))
    keys = packed_keys(rows, length, base)
    while True:
        distinct, places = np.unique(keys, return_inverse=True)
        if length >= order:
            return places
        ranks = places.astype(np.uint64) + np.uint64(1)
        older = np.zeros_like(ranks)
        older[length:] = ranks[:-length]
        older[rows.short_of(length)] = ranks[rows.begins[0]] if rows.padded else 0
        keys = ranks * np.uint64(len(distinct) + 1) + older
        length *= 2


def _digits(rows: Rows, depths: np.ndarray, cells: np.ndarray, back: int) -> np.ndarray:
    """Digits ``back`` places before each cell; beyond the beginning of its row the boundary's, or 0."""
    beyond = BOUNDARY + 1 if rows.padded else 0
    return np.where(depths[cells] >= back, rows.tokens[np.maximum(cells - back, 0)].astype(np.int64) + 1, beyond)


# ---------------------------------------------------------------- counting


def count(documents: Documents, order: int, vocab_size: int, adjusted: bool, padded: bool = False) -> list[Level]:
    """Levels 0 ... N; level 0 is the empty context. ``adjusted`` counts below order N as Kneser and Ney do."""
    base = vocab_size + 1
    if order <= _digits_in_a_key(base):
        keys, weights = distinct_keys(documents, order, base, padded)
        groups = packed_groups(keys, order, base)
    else:
        rows = Rows.of_documents(documents, padded)
        weights = np.ones(np.count_nonzero(rows.counted()), dtype=np.int64)
        groups = ranked_groups(rows, order, base)
    if padded:
        weights[:1] -= 1  # the context of boundaries only is the first in order
    levels = _levels(groups, weights, vocab_size, adjusted)
    _count_followers(levels, vocab_size)
    return levels


def _levels(groups: Groups, weights: np.ndarray, vocab_size: int, adjusted: bool) -> list[Level]:
    """Counts from the longest n-grams down, then places in the tree from the shortest up."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for begins, oldest in groups:
        sizes = np.diff(begins, append=len(weights))
        counts = np.add.reduceat(weights, begins) if len(begins) else sizes
        weights = np.where(oldest > 0, np.minimum(counts, 1), counts) if adjusted else counts
        found.append((sizes, oldest, counts))
    return _placed(reversed(found), vocab_size)


def _placed(found: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], vocab_size: int) -> list[Level]:
    """Children, oldest digits and counts, (U,) each, of order 1 ... N -> levels, less what begins with nothing."""
    levels, places, children = [_empty_context()], np.empty(0, np.int64), np.empty(0, np.int64)
    for n, (sizes, oldest, counts) in enumerate(found, start=1):
        real = oldest > 0
        if n == 1:
            levels.append(_level(np.arange(vocab_size), _spread(counts, oldest - 1, vocab_size)))
            places = oldest - 1
        else:
            keys = (np.repeat(places, children) * vocab_size + (oldest - 1))[real]
            levels.append(_level(keys, counts[real]))
            places = np.cumsum(real) - 1
        children = sizes
    return levels


def _empty_context() -> Level:
    return _level(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))


def _level(keys: np.ndarray, counts: np.ndarray) -> Level:
    """Keys and counts in the smallest types that hold them; followers still to be counted."""
    wide = np.uint64 if len(keys) and int(keys[-1]) >= 1 << 32 else np.uint32
    return Level(keys.astype(wide), narrowed(counts), np.zeros(0, np.uint8), np.zeros((0, 3), np.uint8))


def _spread(values: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """``values`` at ``places`` of an array of zeros."""
    spread = np.zeros(length, dtype=values.dtype)
    spread[places] = values
    return spread


def narrowed(values: np.ndarray) -> np.ndarray:
    """The same whole numbers in the smallest unsigned type that holds them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _count_followers(levels: list[Level], vocab_size: int) -> None:
    """Totals and kinds of every context, from the n-grams that follow it."""
    contexts = np.zeros(vocab_size, dtype=np.int64)
    for n in range(1, len(levels)):
        level, shorter = levels[n], levels[n - 1]
        if n > 1:
            parents = level.keys // level.keys.dtype.type(vocab_size)
            older = level.keys - parents * level.keys.dtype.type(vocab_size)
            contexts = shorter.find(contexts[parents], older, vocab_size) if n > 2 else older.astype(np.int64)
        shorter.totals, shorter.kinds = followers(contexts, level.counts, len(shorter.keys))


def followers(contexts: np.ndarray, counts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Contexts (U,) and counts (U,) of n-grams -> totals (length,), kinds (length, 3)."""
    kinds = [np.bincount(contexts[counts == count], minlength=length) for count in (1, 2)]
    often = counts >= 3
    kinds.append(np.bincount(contexts[often], minlength=length))
    totals = kinds[0] + 2 * kinds[1] + np.bincount(contexts[often], counts[often], length).astype(np.int64)
    return narrowed(totals), narrowed(np.stack(kinds, axis=1))


# ---------------------------------------------------------------- looking up


def places_of(levels: list[Level], rows: Rows, vocab_size: int) -> list[np.ndarray]:
    """For n = 1 ... N: (M,) the place of the n-gram that ends at each cell, -1 where it never came.

    Looked up in sorted order, several times quicker than as they come: neighbours are found in the same few pages.
    """
    order = len(levels) - 1
    cells = np.argsort(packed_keys(rows, min(order, _digits_in_a_key(vocab_size + 1)), vocab_size + 1))
    found = rows.tokens[cells].astype(np.int32)
    places = [rows.tokens.astype(np.int32)]
    for n in range(2, order + 1):
        found = levels[n].find(found, _older(rows, n - 1)[cells], vocab_size)
        place = np.empty_like(found)
        place[cells] = found
        places.append(place)
    return places


def _older(rows: Rows, back: int) -> np.ndarray:
    """(M,) the token ``back`` places before each cell; -1, or a boundary where padded, before its row begins."""
    older = np.empty(len(rows.tokens), dtype=np.int32)
    older[back:] = rows.tokens[:-back]
    older[rows.short_of(back)] = BOUNDARY if rows.padded else -1
    return older
