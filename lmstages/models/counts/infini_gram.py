"""Infini-gram: an n-gram model without a longest n, over a suffix array of train.

    p(w | h) = (c(h, w) - D) / c(h) + gamma(h) p(w | h without its oldest token)

for every context h that train contains, from the longest down to none, which leaves gamma to 1 / V: there are as many
levels as the history has last tokens in common with some place of train. Liu et al. 2024 take the relative frequencies
after the longest such context, which give most tokens the probability 0, and mix them with a network. Here every level
subtracts a discount D from its counts and gives what that leaves to the shorter context: with gamma(h) = the sum of D
over w, divided by c(h), a level sums to one if the next one does, and 1 / V does. These are the counts and the
smoothing of modified Kneser-Ney at an order above the length of any document, where all counts are continuation counts:
c(h, w) is the number of different tokens that precede h w (Kneser & Ney 1995; Chen & Goodman 1999; without a longest
context, as a Bayesian model, Wood et al. 2009).

D depends on whether c(h, w) is 1, 2, or more, and on the length of h w: Chen & Goodman's closed form, for n-grams of
less than ``shared_from`` tokens from the counts of their own length; longer ones share what the counts of all of them
give together, up to the longest that occurs twice. Of several such lengths valid chooses one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from lmstages.config.hyperparameters.counts import InfiniGram
from lmstages.core.documents import BOUNDARY, Arrays, Curve, Documents
from lmstages.models.counts import smoothing
from lmstages.models.counts.counting import Rows
from lmstages.models.counts.ngram import choose
from lmstages.models.counts.smoothing import OrderCounts
from lmstages.models.counts.suffixes import Spans, Suffixes, index_of, joined

SCORED_AT_ONCE = 1 << 18  # tokens; about 200 bytes of memory each
CHOSEN_ON = 1 << 18  # tokens of valid; more do not change a choice of five
SMOOTHING = "modified_kneser_ney"


@dataclass(frozen=True)
class Level:
    """Contexts of one ``length`` in some rows: those that occur in train, (E,), by the positions where they end.

    ``followed`` (F,) are the indices of those behind which a token follows in its row; ``longer`` (F,) the spans of
    them with this token.
    """

    length: int
    positions: np.ndarray
    spans: Spans
    followed: np.ndarray
    longer: Spans


@dataclass(frozen=True)
class Contexts:
    """Of one length: those of B texts that end with a context that occurs in train, ``texts`` (E,), and its spans."""

    texts: np.ndarray
    spans: Spans


State = list[Contexts]  # of length 1, 2, ...: all that a prediction after B texts depends on


class InfiniGramModel:
    """Stores the index of train. Its parameters are the n-grams that several tokens precede, and the discounts."""

    def __init__(self, config: InfiniGram, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.index: Suffixes
        self.discounts = np.empty((0, 3))

    # ---------------------------------------------------------------- fitting

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Index ``train``; ``valid`` chooses the length from which n-grams share their discounts."""
        self.index, counts = index_of(Rows.of_documents(train, padded=False), self.vocab_size)
        lengths = self.config.lengths
        candidates = {length: discounts_of(counts, length) for length in lengths}
        losses = self._losses(valid, candidates) if len(lengths) > 1 else {}

        def take(length: int) -> None:
            self.discounts = candidates[length]

        choose("shared_from", lengths, take, lambda: losses[len(self.discounts)], valid)
        return []

    def _losses(self, documents: Documents, candidates: Mapping[int, np.ndarray]) -> dict[int, float]:
        """Mean -log p per token under each of several arrays of discounts, of the first tokens of ``documents``."""
        starts, end = documents.starts[documents.starts < CHOSEN_ON], min(CHOSEN_ON, len(documents))
        first = Documents(np.asarray(documents.tokens[:end]), np.append(starts[starts < end], end))
        read = self._read(Rows.of_documents(first, padded=False), [], list(candidates.values()))[0] if end else []
        return {length: -float(np.log(p).mean()) for length, p in zip(candidates, read, strict=False)}

    # ---------------------------------------------------------------- prediction

    def _levels(self, rows: Rows, before: State) -> Iterator[Level]:
        """Contexts of 1, 2, ... tokens, while any occurs; ``before`` are those that end with the token before a row."""
        tokens, inner = rows.tokens.astype(np.int64), ~_lasts(rows)
        positions, spans = np.arange(len(tokens)), self.index.block(tokens)
        for length in count(1):
            if 1 < length <= len(before):
                earlier = before[length - 1]
                positions = np.concatenate([rows.begins[earlier.texts], positions])
                spans = joined(earlier.spans, spans)
            occur = spans.occur
            positions, spans = positions[occur], spans[occur]
            if not len(positions) and length >= len(before):
                return
            followed = np.flatnonzero(inner[positions])
            longer = self.index.grown(spans[followed], tokens[positions[followed] + 1])
            yield Level(length, positions, spans, followed, longer)
            positions, spans = positions[followed] + 1, longer

    def _read(self, rows: Rows, before: State, candidates: Sequence[np.ndarray]) -> tuple[list[np.ndarray], State]:
        """p (M,) of the predicted tokens under each of several arrays of discounts, and the state after the rows."""
        predicted, lasts, state = rows.predicted(), _lasts(rows), State()
        places, row_of = np.cumsum(predicted) - 1, np.cumsum(~predicted) - 1
        probabilities = [self._unigrams(discounts)[rows.tokens[predicted]] for discounts in candidates]
        for level in self._levels(rows, before):
            targets = places[level.positions[level.followed] + 1]
            counts = self._counts(targets, level.spans[level.followed], level.longer, level.length)
            for p, discounts in zip(probabilities, candidates, strict=True):
                interpolate(p, counts, of_order(discounts, level.length + 1))
            ended = lasts[level.positions]
            state.append(Contexts(row_of[level.positions[ended]], level.spans[ended]))
        return probabilities, state

    def _counts(self, positions: np.ndarray, contexts: Spans, longer: Spans, length: int) -> OrderCounts:
        """Counts of contexts of this length and of them with one more token, for the ``positions`` (E,) of these."""
        totals, type_counts = self.index.followers(contexts, length)
        seen = np.flatnonzero(totals)
        counts = self.index.adjusted_counts(longer[seen], length + 1)
        return OrderCounts(positions[seen], counts, totals[seen], type_counts[seen])

    def _unigrams(self, discounts: np.ndarray) -> np.ndarray:
        """(V,) p without any context."""
        counts, p = self.index.unigrams.astype(np.int64), np.full(self.vocab_size, 1 / self.vocab_size)
        types = np.bincount(np.minimum(counts, 3), minlength=4)[1:]
        if total := int(counts.sum()):
            observed = OrderCounts(
                np.arange(len(p)), counts, np.full(len(p), total), np.broadcast_to(types, (len(p), 3))
            )
            interpolate(p, observed, of_order(discounts, 1))
        return p

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T) nats; long rows in pieces, each behind the state that the one before has left."""
        step, state = max(1, SCORED_AT_ONCE // max(1, len(tokens))), State()
        scores = [np.empty((len(tokens), 0))]
        for left in range(0, tokens.shape[1], step):
            piece, last = tokens[:, left : left + step], tokens[:, left - 1] if left else before
            rows = Rows.of_batch(piece, last, padded=False)
            (p,), state = self._read(rows, state, [self.discounts])
            scores.append(np.log(p).reshape(piece.shape))
        return np.concatenate(scores, axis=1)

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats of every token as the next one."""
        return self.decoding_state(prefix).log_probs()

    def decoding_state(self, prefix: np.ndarray) -> "InfiniGramState":
        """(B, T), T may be 0 -> the decoding state after the prefix."""
        return InfiniGramState(self, Rows.of_batch(np.asarray(prefix, dtype=np.int64), None, padded=False))

    def state_after(self, before: np.ndarray) -> "InfiniGramState":
        """(B,) -> the decoding state after a single token each, with no boundary before it."""
        return InfiniGramState(self, Rows.of_batch(np.empty((len(before), 0), dtype=np.int64), before, padded=False))

    def open_row(self) -> "InfiniGramRow":
        """A row that is scored piece by piece."""
        return InfiniGramRow(self)

    def distributions(self, state: State, texts: int) -> np.ndarray:
        """(B, V) p of every token after each of the texts."""
        p = np.tile(self._unigrams(self.discounts), texts)
        for length, contexts in enumerate(state, start=1):
            step = max(1, SCORED_AT_ONCE // self.vocab_size)
            for first in range(0, len(contexts.texts), step):
                chosen = np.repeat(np.arange(first, min(first + step, len(contexts.texts))), self.vocab_size)
                spans = contexts.spans[chosen]
                tokens = np.tile(np.arange(self.vocab_size), len(chosen) // self.vocab_size)
                positions = contexts.texts[chosen] * self.vocab_size + tokens
                counts = self._counts(positions, spans, self.index.grown(spans, tokens), length)
                interpolate(p, counts, of_order(self.discounts, length + 1))
        return p.reshape(texts, self.vocab_size)

    # ---------------------------------------------------------------- storage

    def arrays(self) -> Arrays:
        """The index and the discounts."""
        return {**self.index.arrays(), "discounts": self.discounts}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self.index, self.discounts = Suffixes.of_arrays(arrays), arrays["discounts"]

    def parameters(self) -> int:
        """How many n-grams of any length have more than one token before them, and how many discounts there are."""
        return len(self.index.preceded) + self.discounts.size


class InfiniGramState:
    """Incremental decoding of B texts from their contexts; its size does not grow with the texts."""

    def __init__(self, model: InfiniGramModel, rows: Rows) -> None:
        self.model, self.last, self.state = model, rows.tokens[_lasts(rows)], State()
        self._read(rows)

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        return np.log(self.model.distributions(self.state, len(self.last)))

    def append(self, tokens: np.ndarray) -> None:
        """(B,): one more token for every text."""
        rows = Rows.of_batch(np.asarray(tokens, dtype=np.int64)[:, None], self.last, padded=False)
        self.last = rows.tokens[_lasts(rows)]
        self._read(rows)

    def _read(self, rows: Rows) -> None:
        self.state = self.model._read(rows, self.state, [])[1]


class InfiniGramRow:
    """A row that is scored piece by piece."""

    def __init__(self, model: InfiniGramModel) -> None:
        self.model, self.before, self.state = model, np.array([BOUNDARY]), State()

    def advance(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) the next tokens of the row -> (T,) nats."""
        rows = Rows.of_batch(np.asarray(tokens, dtype=np.int64)[None], self.before, padded=False)
        (p,), self.state = self.model._read(rows, self.state, [self.model.discounts])
        self.before = rows.tokens[-1:]
        return np.log(p)


def _lasts(rows: Rows) -> np.ndarray:
    """(M,) True at the last token of every row."""
    lasts = np.zeros(len(rows.tokens), dtype=bool)
    lasts[np.append(rows.begins[1:], len(rows.tokens)) - 1] = True
    return lasts


def interpolate(p: np.ndarray, counts: OrderCounts, discounts: np.ndarray) -> None:
    """Turn p of the next shorter context, in place, into that of a context with these counts."""
    alpha, gamma = smoothing.interpolation_terms(SMOOTHING, discounts, counts)
    p[counts.positions] = alpha + gamma * p[counts.positions]


def of_order(discounts: np.ndarray, order: int) -> np.ndarray:
    """(3,) the discounts of n-grams of this order."""
    return discounts[min(order, len(discounts)) - 1]


def discounts_of(counts: np.ndarray, shared_from: int) -> np.ndarray:
    """Counts of counts by length, as ``index_of`` gives them -> (``shared_from``, 3): by order, the last shared."""
    orders = [*counts[1:shared_from], counts[shared_from:].sum(axis=0)]
    return np.array([smoothing.discounts_of(SMOOTHING, of_count) for of_count in orders])
