"""Counts of all n-grams of a text, n = 1 ... N, from one sort.

The N-gram that ends at a position, read backwards, is a number in base V + 1 whose first digit is the last token:

    key = sum over j < N of digit(token j positions back) (V + 1)^(N - 1 - j)      digit(w) = w + 1, 0 for no token

In sorted order equal n-grams are adjacent for every n at once, since they share their first n digits: the groups of
order n are those of order n + 1 without the last digit. The result is a tree in which an n-gram's children are the (n +
1)-grams with one older token before it. Where N digits do not fit into 64 bits a key has several words (``wide_keys``).
A text longer than memory is packed, sorted and counted in pieces that are merged (``merging``).

A document's history is one boundary token, KenLM's ``<s>``, and nothing before it; or, with ``padded``, boundary tokens
all the way, as in Chen & Goodman. The boundary that ends a document is predicted like any token (``</s>``); token 0
stands for both. Within a stream token 0 is an ordinary token, and contexts run through it.

An adjusted count (Kneser & Ney 1995), or continuation count, is the number of different tokens that precede an n-gram
instead of its frequency; each occurrence at the start of a row counts once, since no token precedes it. For n-grams
that begin with a boundary it is the plain count, as in KenLM (Heafield et al. 2013, section 3.3).

Computes no probability. ``M`` positions: the N tokens of the text and, before each of its rows, one more.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from lmstages.core.documents import BOUNDARY, Documents
from lmstages.core.progress import Progress
from lmstages.models.counts import wide_keys
from lmstages.models.counts.merging import Runs
from lmstages.models.counts.wide_keys import run_starts, taken

PIECE = 1 << 24  # words of keys packed and sorted at once; about 40 bytes of memory each
Groups = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Rows:
    """Rows end to end, each with one token before it: tokens (M,), and the position of that token for each row (R,).

    Before that token there is nothing or, with ``padded``, boundary tokens.
    """

    tokens: np.ndarray
    begins: np.ndarray
    padded: bool

    @classmethod
    def of_documents(cls, documents: Documents, padded: bool) -> "Rows":
        """One row per document, with a boundary before it."""
        firsts = documents.starts[:-1]
        tokens = np.insert(np.asarray(documents.tokens), firsts, BOUNDARY)
        return cls(tokens, firsts + np.arange(len(firsts)), padded)

    @classmethod
    def of_batch(cls, tokens: np.ndarray, before: np.ndarray | None, padded: bool) -> "Rows":
        """(B, T), (B,) -> B rows with ``before`` as the token before each, by default the boundary."""
        rows, length = tokens.shape
        before = np.full(rows, BOUNDARY) if before is None else before
        return cls(np.column_stack([before, tokens]).ravel(), np.arange(rows) * (length + 1), padded)

    def shorter_than(self, depth: int) -> np.ndarray:
        """Positions with fewer than ``depth`` tokens before them in their row, the one before the row included."""
        positions = self.begins[:, None] + np.arange(depth)
        ends = np.append(self.begins[1:], len(self.tokens))
        return positions[positions < ends[:, None]]

    def predicted(self) -> np.ndarray:
        """(M,) True except for the tokens before rows."""
        mask = np.ones(len(self.tokens), dtype=bool)
        mask[self.begins] = False
        return mask

    def counted(self) -> np.ndarray:
        """(M,) the predicted positions and, if padded, one with boundaries only: a context, counted 0 times."""
        mask = self.predicted()
        mask[self.begins[:1]] = self.padded
        return mask


@dataclass
class Level:
    """The n-grams of one order, in reversed lexicographic order, and statistics of the tokens that follow them.

    ``keys`` (U,): the index, at order n - 1, of the n-gram without its oldest token, times V, plus that token; of order
    1 there are V, in the order of the vocabulary. ``counts`` (U,) of the n-grams. ``totals`` (U,) sums the counts of
    the n-grams that have this one as context; ``type_counts`` (U, 3) is how many of those have count 1, 2, and 3 or
    more.
    """

    keys: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    type_counts: np.ndarray

    def find(self, parents: np.ndarray, older: np.ndarray, vocab_size: int) -> np.ndarray:
        """Indices at the order below and older tokens, of one shape, -1 for none -> indices here, -1 where absent."""
        indices = np.full(parents.shape, -1, dtype=np.int32)
        if not len(self.keys):
            return indices
        last = divmod(int(self.keys[-1]), vocab_size)  # beyond it keys could exceed their type
        within = (parents < last[0]) | ((parents == last[0]) & (older <= last[1]))
        valid = np.flatnonzero((parents >= 0) & (older >= 0) & within)
        if len(valid):
            keys = _child_keys(parents.ravel()[valid], older.ravel()[valid], vocab_size, self.keys.dtype)
            nearest = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            indices.ravel()[valid] = np.where(self.keys[nearest] == keys, nearest, -1)
        return indices


def _child_keys(parents: np.ndarray, older: np.ndarray, vocab_size: int, dtype: np.dtype) -> np.ndarray:
    """Keys of n-grams within the tree, in an unsigned type that holds them all."""
    keys = parents.astype(dtype)
    keys *= dtype.type(vocab_size)
    keys += older.astype(dtype)
    return keys


# ---------------------------------------------------------------- sorting


def packed_keys(rows: Rows, order: int, base: int) -> np.ndarray:
    """(M,) the reversed n-gram that ends at each position, as one number, in log2(order) passes that double it."""
    dtype = np.dtype(np.uint32 if base**order <= 1 << 32 else np.uint64)
    keys, length = rows.tokens.astype(dtype) + dtype.type(1), 1
    while length < order:
        added = min(length, order - length)
        older = keys[:-length] // dtype.type(base ** (length - added))
        positions = rows.shorter_than(length)
        padding = (base**added - 1) // (base - 1) if rows.padded else 0  # the boundary's digit, 1, ``added`` times
        older[positions[positions >= length] - length] = padding
        keys *= dtype.type(base**added)
        keys[length:] += older
        keys[: min(length, len(keys))] += dtype.type(padding)
        length += added
    return keys


def digits_in_a_key(base: int) -> int:
    """How many digits fit into 64 bits; of a vocabulary of one token, whose only digit is 0, as many as of two."""
    digits = 1
    while max(base, 2) ** (digits + 1) <= wide_keys.LARGEST_KEY:
        digits += 1
    return digits


def word_lengths(order: int, base: int) -> list[int]:
    """How many digits each word of a key has: as many as fit into 64 bits, the last word what is left."""
    digits = digits_in_a_key(base)
    return [min(digits, order - done) for done in range(0, order, digits)]


def packed_words(rows: Rows, order: int, base: int) -> np.ndarray:
    """(W, M) the reversed n-gram that ends at each position, as words of up to 64 bits."""
    lengths = word_lengths(order, base)
    words, done = [packed_keys(rows, lengths[0], base)], lengths[0]
    for length in lengths[1:]:
        padding = (base**length - 1) // (base - 1) if rows.padded else 0
        word = np.full(len(rows.tokens), padding, dtype=np.uint64)
        word[done:] = packed_keys(rows, length, base)[:-done]
        word[rows.shorter_than(done)] = padding
        words.append(word)
        done += length
    return np.stack(words) if len(words) > 1 else words[0][None]


def pieces(documents: Documents, order: int, padded: bool, size: int) -> Iterator[tuple[Rows, np.ndarray]]:
    """``size`` tokens at a time: rows (M,), and a mask of the positions that are counted (M,).

    A piece that begins within a document begins ``order`` tokens earlier, so that its first n-gram is complete.
    """
    for left in range(0, max(1, len(documents)), size):
        right = min(left + size, len(documents))
        first = int(np.searchsorted(documents.starts[:-1], left, side="right")) - 1
        begin = max(int(documents.starts[first]), left - order)
        inner = documents.starts[first + 1 : np.searchsorted(documents.starts, right)]
        piece = Documents(documents.tokens[begin:right], np.concatenate([[begin], inner, [right]]) - begin)
        rows = Rows.of_documents(piece, padded)
        counted = rows.predicted()
        counted[: 1 + left - begin] = padded and left == 0  # boundaries only: a context, counted 0 times
        yield rows, counted


def all_counted(rows: Rows, mask: np.ndarray, order: int) -> np.ndarray:
    """(M,) the positions of which a piece says that they are counted."""
    return mask


def distinct_keys(
    documents: Documents,
    order: int,
    base: int,
    padded: bool,
    pack: Callable[[Rows, int, int], np.ndarray] = packed_words,
    counted: Callable[[Rows, np.ndarray, int], np.ndarray] = all_counted,
) -> tuple[np.ndarray, np.ndarray]:
    """Keys of all distinct n-grams of one order (W, U), sorted, and their frequencies (U,).

    ``pack``: rows, order, base -> the key of every position (W, M); ``counted``: rows, a mask (M,), order -> a mask.
    """
    runs, done = Runs(), 0
    progress = Progress(len(documents), "counted token")
    size = -(-PIECE // len(word_lengths(order, base)))
    for rows, mask in pieces(documents, order, padded, size):
        mask = counted(rows, mask, order)
        runs.add(taken(pack(rows, order, base), mask))
        done += int(np.count_nonzero(mask))
        progress.at(done, done, "tokens")
    return runs.merged()


def packed_groups(words: np.ndarray, order: int, base: int) -> Groups:
    """For n = N ... 1: where each n-gram begins among those of order n + 1 (of order N: among keys, which are distinct
    and sorted), and its last digit, the oldest."""
    for length in reversed(word_lengths(order, base)):
        for _ in range(length):
            begins = run_starts(words)
            words = taken(words, begins)
            shorter = words[-1] // words.dtype.type(base)
            yield begins, (words[-1] - shorter * words.dtype.type(base)).astype(np.int64)
            words[-1] = shorter
        words = words[:-1]


# ---------------------------------------------------------------- counting


def count(documents: Documents, order: int, vocab_size: int, adjusted: bool, padded: bool = False) -> list[Level]:
    """Levels 0 ... N; level 0 is the empty context. ``adjusted``: continuation counts below order N (Kneser & Ney)."""
    base = vocab_size + 1
    keys, weights = distinct_keys(documents, order, base, padded)
    groups = packed_groups(keys, order, base)
    if padded:
        weights[:1] -= 1  # the context of boundaries only is the first in order
    levels = _levels(groups, weights, vocab_size, adjusted)
    _count_followers(levels, vocab_size)
    return levels


def _levels(groups: Groups, weights: np.ndarray, vocab_size: int, adjusted: bool) -> list[Level]:
    """Counts from the longest n-grams down, then indices in the tree from the shortest up."""
    orders: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for begins, oldest in groups:
        sizes = np.diff(begins, append=len(weights))
        counts = np.add.reduceat(weights, begins) if len(begins) else sizes
        weights = np.where(oldest > 0, np.minimum(counts, 1), counts) if adjusted else counts
        orders.append((sizes, oldest, counts))
    return _indexed(reversed(orders), vocab_size)


def _indexed(orders: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], vocab_size: int) -> list[Level]:
    """Numbers of children, oldest digits and counts, (U,) each, of order 1 ... N -> levels, without padded n-grams."""
    levels, indices, children = [_empty_context()], np.empty(0, np.int64), np.empty(0, np.int64)
    for n, (sizes, oldest, counts) in enumerate(orders, start=1):
        real = oldest > 0
        if n == 1:
            levels.append(_level(np.arange(vocab_size), _scattered(counts, oldest - 1, vocab_size)))
            indices = oldest - 1
        else:
            keys = (np.repeat(indices, children) * vocab_size + (oldest - 1))[real]
            levels.append(_level(keys, counts[real]))
            indices = np.cumsum(real) - 1
        children = sizes
    return levels


def _empty_context() -> Level:
    return _level(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))


def _level(keys: np.ndarray, counts: np.ndarray) -> Level:
    """Keys and counts in the smallest types that hold them; totals and type counts are still empty."""
    key_type = np.uint64 if len(keys) and int(keys[-1]) >= 1 << 32 else np.uint32
    return Level(keys.astype(key_type), to_smallest_dtype(counts), np.zeros(0, np.uint8), np.zeros((0, 3), np.uint8))


def _scattered(values: np.ndarray, indices: np.ndarray, length: int) -> np.ndarray:
    """``values`` at ``indices`` of an array of zeros."""
    array = np.zeros(length, dtype=values.dtype)
    array[indices] = values
    return array


def to_smallest_dtype(values: np.ndarray) -> np.ndarray:
    """The same non-negative integers in the smallest unsigned type that holds them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _count_followers(levels: list[Level], vocab_size: int) -> None:
    """Fill in totals and type counts of every context, from the n-grams one token longer."""
    contexts = np.zeros(vocab_size, dtype=np.int64)
    for n in range(1, len(levels)):
        level, shorter = levels[n], levels[n - 1]
        if n > 1:
            parents = level.keys // level.keys.dtype.type(vocab_size)
            older = level.keys - parents * level.keys.dtype.type(vocab_size)
            contexts = shorter.find(contexts[parents], older, vocab_size) if n > 2 else older.astype(np.int64)
        shorter.totals, shorter.type_counts = followers(contexts, level.counts, len(shorter.keys))


def followers(contexts: np.ndarray, counts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Contexts (U,) and counts (U,) of n-grams -> totals (length,), type counts (length, 3) of each context."""
    type_counts = [np.bincount(contexts[counts == count], minlength=length) for count in (1, 2)]
    frequent = counts >= 3
    type_counts.append(np.bincount(contexts[frequent], minlength=length))
    frequent_totals = np.bincount(contexts[frequent], counts[frequent], length).astype(np.int64)
    totals = type_counts[0] + 2 * type_counts[1] + frequent_totals
    return to_smallest_dtype(totals), to_smallest_dtype(np.stack(type_counts, axis=1))


# ---------------------------------------------------------------- looking up


def indices_of(levels: list[Level], rows: Rows, vocab_size: int) -> list[np.ndarray]:
    """For n = 1 ... N: (M,) the index of the n-gram that ends at each position, -1 where it did not occur in train.

    Looked up in sorted order, which is several times faster: neighbours lie in the same memory pages.
    """
    order = len(levels) - 1
    positions = np.argsort(packed_keys(rows, min(order, digits_in_a_key(vocab_size + 1)), vocab_size + 1))
    sorted_indices = rows.tokens[positions].astype(np.int32)
    indices = [rows.tokens.astype(np.int32)]
    for n in range(2, order + 1):
        sorted_indices = levels[n].find(sorted_indices, _older(rows, n - 1)[positions], vocab_size)
        of_order = np.empty_like(sorted_indices)
        of_order[positions] = sorted_indices
        indices.append(of_order)
    return indices


def _older(rows: Rows, back: int) -> np.ndarray:
    """(M,) the token ``back`` before each position; before the beginning of its row -1, or a boundary if padded."""
    older = np.empty(len(rows.tokens), dtype=np.int32)
    older[back:] = rows.tokens[:-back]
    older[rows.shorter_than(back)] = BOUNDARY if rows.padded else -1
    return older
