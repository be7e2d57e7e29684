"""An index of every string of a text, of any length: how often it occurs, and how many tokens precede and follow it.

    suffix array    the M positions of a text, sorted by what ends there: by the last token, then by older ones
    following       (M,) the token after each position, in that order: the Burrows-Wheeler transform
    span            where a string ends, [begin, end) in that order: its occurrences are neighbours
    node            a span of two positions or more; its depth is the length of the longest string with this span

A string h grows by a newer token w without another look at the text (Ferragina & Manzini 2000, backward search):

    begin(h w) = first(w) + number of w among following[0 : begin(h)],      end(h w) likewise

with first(w) where positions that hold w and have a token before them begin. A text has some M^2 / 2 strings, but at
most M - 1 nodes: the intervals of its longest common prefixes, LCP (Abouelhoda, Kurtz & Ohlebusch 2004). All counts of
a string follow from its node and from whether the string is as long as the node is deep: only then do different tokens
precede it. An index takes 6 to 11 bytes a token, and 16 more once it is used; the text itself is not kept. Rows,
boundaries and adjusted counts are those of ``counting``. Computes no probability.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from lmstages.core.documents import BOUNDARY, Arrays
from lmstages.models.counts.counting import Rows, to_smallest_dtype
from lmstages.models.counts.suffix_sorting import Tree, lengths_in, sorted_suffixes, tree_of

LONGEST = 24  # length from which strings are counted together in counts of counts


@dataclass(frozen=True)
class Spans:
    """Where strings end: ``begins`` and ``ends``, of one shape; a string that does not occur has an empty span."""

    begins: np.ndarray
    ends: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Spans":
        """Those of some strings."""
        return Spans(self.begins[chosen], self.ends[chosen])

    @property
    def occur(self) -> np.ndarray:
        """True where a string occurs."""
        return self.ends > self.begins


def joined(first: Spans, second: Spans) -> Spans:
    """Those of some strings, then of others."""
    return Spans(np.concatenate([first.begins, second.begins]), np.concatenate([first.ends, second.ends]))


@dataclass(frozen=True)
class Suffixes:
    """The index of a text of M positions with U nodes, which are sorted by begin and end.

    ``following`` (M,) is V at the end of a row; ``blocks`` (V + 1,) is where the positions that hold a token begin, of
    which the first ``starts`` of the boundary stand before rows. Of nodes, (U,) each: ``begins``, ``ends``, ``depths``;
    ``preceded``, how many different tokens precede the string, every beginning of a row being one; ``followed``, how
    many different tokens follow it; ``totals`` and ``type_counts`` (U, 3) as in a ``counting.Level``. ``unigrams``
    (V,): how many different tokens precede each.
    """

    following: np.ndarray
    blocks: np.ndarray
    starts: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    depths: np.ndarray
    preceded: np.ndarray
    followed: np.ndarray
    totals: np.ndarray
    type_counts: np.ndarray
    unigrams: np.ndarray

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Suffixes":
        """The inverse of ``arrays``."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def arrays(self) -> Arrays:
        """All fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.blocks) - 1

    @cached_property
    def _occurrences(self) -> np.ndarray:
        """The positions that each token follows, as sorted numbers token (M + 1) + position."""
        size = len(self.following) + 1
        return np.sort(self.following.astype(np.int64) * size + np.arange(size - 1))

    @cached_property
    def _firsts(self) -> np.ndarray:
        """(V,) where positions that hold a token and have one before them begin, less the occurrences before."""
        firsts = self.blocks[:-1].astype(np.int64)
        firsts[BOUNDARY] += int(self.starts)
        size = len(self.following) + 1
        return firsts - np.searchsorted(self._occurrences, np.arange(self.vocab_size) * size)

    @cached_property
    def _nodes(self) -> np.ndarray:
        """(U,) begin and end of each node as one number, sorted."""
        return self.begins.astype(np.int64) * (len(self.following) + 1) + self.ends

    def block(self, tokens: np.ndarray) -> Spans:
        """The strings of one token each, before rows too."""
        return Spans(self.blocks[tokens].astype(np.int64), self.blocks[tokens + 1].astype(np.int64))

    def grown(self, spans: Spans, tokens: np.ndarray) -> Spans:
        """The strings, of one token or more, each with a newer token behind it."""
        first, key = self._firsts[tokens], tokens * (len(self.following) + 1)
        begins = np.searchsorted(self._occurrences, key + spans.begins)
        return Spans(first + begins, first + np.searchsorted(self._occurrences, key + spans.ends))

    def _node_of(self, spans: Spans) -> tuple[np.ndarray, np.ndarray]:
        """Nodes, and where there is one: a string that occurs once or never has none."""
        keys = spans.begins * (len(self.following) + 1) + spans.ends
        has_node = spans.ends - spans.begins > 1
        return np.where(has_node, np.searchsorted(self._nodes, keys), 0), has_node

    def adjusted_counts(self, spans: Spans, length: int) -> np.ndarray:
        """How many different tokens precede strings of this length, every beginning of a row being one."""
        if not len(self.depths):
            return spans.occur.astype(np.int64)
        nodes, has_node = self._node_of(spans)
        branches = has_node & (self.depths[nodes] == length)
        return np.where(branches, self.preceded[nodes], spans.occur)

    def followers(self, spans: Spans, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Of strings (E,) of this length that occur: totals (E,) and type counts (E, 3), as in a ``counting.Level``.

        Where one token alone precedes a string, so it does with every token behind it: all of these count 1.
        """
        once = (self.following[spans.begins] < self.vocab_size).astype(np.int64)  # 0 at the end of a row
        if not len(self.depths):
            return once, once[:, None] * np.array([1, 0, 0])
        nodes, has_node = self._node_of(spans)
        branches = has_node & (self.depths[nodes] == length)
        followed = np.where(has_node, self.followed[nodes], once)
        type_counts = np.where(branches[:, None], self.type_counts[nodes], followed[:, None] * np.array([1, 0, 0]))
        return np.where(branches, self.totals[nodes], followed), type_counts


def index_of(rows: Rows, vocab_size: int) -> tuple[Suffixes, np.ndarray]:
    """The index of a text, and (LONGEST + 1, 6) how many strings have an adjusted count of 0 ... 4, and of 5 and more.

    Its rows are those of length 0 ... LONGEST - 1, and the last of all that are longer and occur more than once.
    """
    order, lcp = sorted_suffixes(rows, vocab_size + 1)
    tree = tree_of(lcp)
    text = _Text(tree, order, rows, vocab_size)
    unigrams = text.unigrams()
    followed, totals = text.followers()
    types = text.type_counts(followed, unigrams)
    whole = (text.following, text.blocks, np.array(len(rows.begins)), tree.begins, tree.ends, tree.depths)
    counts = (tree.children, followed, totals, types, unigrams)
    return Suffixes(*map(to_smallest_dtype, (*whole, *counts))), _counts_of_counts(tree, lengths_in(rows), unigrams)


class _Text:
    """A text in sorted order with its tree: what is counted of it, once."""

    def __init__(self, tree: Tree, order: np.ndarray, rows: Rows, vocab_size: int) -> None:
        self.tree, self.vocab_size, self.starts = tree, vocab_size, len(rows.begins)
        ends = np.append(rows.begins[1:], len(rows.tokens)) - 1
        following = np.append(rows.tokens[1:], vocab_size).astype(np.int64)
        following[ends] = vocab_size
        self.tokens, self.following = rows.tokens[order].astype(np.int64), following[order]
        self.blocks = np.append(0, np.cumsum(np.bincount(rows.tokens, minlength=vocab_size)))
        self.firsts = self.blocks[:-1].copy()  # of the positions that have a token before them
        self.firsts[BOUNDARY] += self.starts
        self.occurrences = np.argsort(self.following, kind="stable")[: len(order) - self.starts]  # by the token behind
        begins = np.searchsorted(self.following[self.occurrences], np.arange(vocab_size))
        self.shifts = self.firsts - begins  # from an occurrence to where the string ends that is longer by the token

    def unigrams(self) -> np.ndarray:
        """(V,) how many different tokens precede each token."""
        divisions = np.append(0, np.cumsum(self.tree.lcp[:-1] == 1))  # of them before each position
        ends, inner = self.blocks[1:], np.minimum(self.firsts + 1, self.blocks[1:])
        return np.where(ends > self.firsts, 1 + divisions[ends] - divisions[inner], 0)

    def followers(self) -> tuple[np.ndarray, np.ndarray]:
        """(U,) how many different tokens follow each node's string; the same summed over the node's parts.

        Every occurrence counts as one, but for those whose token has followed an earlier one in the node: each is
        subtracted where it and the one before it first meet (Hui 1992).
        """
        tree, tokens = self.tree, self.following[self.occurrences]
        again = np.flatnonzero(tokens[1:] == tokens[:-1]) + 1
        depths = tree.lcp[again + self.shifts[tokens[again]]] - 1
        repeated = np.bincount(tree.division_after(self.occurrences[again - 1], depths), minlength=len(tree.lcp))
        before, occurrences = _sums(repeated), _sums(self.following < self.vocab_size)
        followed = occurrences[tree.ends] - occurrences[tree.begins] - (before[tree.ends] - before[tree.begins + 1])
        met = np.bincount(tree.nodes[1:-1], repeated[1:-1], len(tree.begins)).astype(np.int64)
        return followed, followed + met

    def type_counts(self, followed: np.ndarray, unigrams: np.ndarray) -> np.ndarray:
        """(U, 3) of the tokens that follow each node's string: with how many is the adjusted count 1, 2, or 3 and more.

        Above 1 it is only where the longer string is a node of its own, one deeper.
        """
        tree, types = self.tree, np.zeros((len(followed), 3), dtype=np.int64)
        longer = np.flatnonzero(tree.depths >= 2)
        begins = tree.begins[longer]
        positions = self.occurrences[begins - self.shifts[self.tokens[begins]]]
        nodes = tree.nodes[tree.division_after(positions, tree.depths[longer] - 1)]
        for column, children in ((1, tree.children[longer] == 2), (2, tree.children[longer] > 2)):
            types[:, column] = np.bincount(nodes[children], minlength=len(followed))
        types[:, 0] = followed - types.sum(axis=1)
        return types


def _sums(values: np.ndarray) -> np.ndarray:
    """(N,) -> (N + 1,): sums of the values before each."""
    return np.append(0, np.cumsum(values))


def _counts_of_counts(tree: Tree, lengths: np.ndarray, unigrams: np.ndarray) -> np.ndarray:
    """(LONGEST + 1, 6) as ``index_of`` says; ``lengths`` (M,) of the suffixes."""
    table = np.zeros((LONGEST + 1, 6), dtype=np.int64)
    table[1] = np.bincount(np.minimum(unigrams, 5), minlength=6)
    deep = tree.depths >= 2
    np.add.at(table, (np.minimum(tree.depths[deep], LONGEST), np.minimum(tree.children[deep], 5)), 1)
    longest = int(tree.lcp.max(initial=0)) + 1
    for length in range(2, LONGEST + 1):
        last = max(longest, LONGEST) if length == LONGEST else length
        strings = _between(lengths, length, last) - _between(tree.lcp, length, last)
        table[length, 1] = strings - table[length].sum()
    return table


def _between(lengths: np.ndarray, first: int, last: int) -> int:
    """How many numbers from ``first`` to ``last`` the lengths reach, added up."""
    return int((np.clip(lengths, first - 1, last) - (first - 1)).sum())
