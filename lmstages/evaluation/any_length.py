"""Fills gaps whose length is not told: from 1 to ``LONGEST`` tokens, and nothing else.

    lattice    every length as probable as any other beforehand: p(length | both sides) ~ p(right side | left side and
               a gap of that length), then the fill given the length, as ``LatticeFiller`` has it
    own        a model that ends gaps by itself (``EndsGaps``): token by token, each the next of the gap or its end

Over all fills of all lengths the probabilities of both sum to one. The last token of a gap costs also what says that it
is the last. ``P`` places, ``k`` hidden tokens, ``C`` = V - first tokens. Log-probabilities are nats.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from lmstages.evaluation.fillers import (
    Candidate,
    ChainFiller,
    Filler,
    Fills,
    Gaps,
    LatticeFiller,
    place_by_place,
    token_by_token,
)
from lmstages.models.base import EndsGaps, TooLongError

LONGEST = 16  # tokens of a gap whose length is not told
Predict = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


class OfLength(NamedTuple):
    """A fill, and the nats of its length; None where ``candidate`` has those of the fill and its length together."""

    candidate: Candidate
    length_log_prob: float | None


class AnyLength(Protocol):
    """As ``Filler``, of gaps whose length is not told."""

    method: str
    reads: int | None

    def must_be_few(self, places: int, length: int) -> None:
        """Raises TooLongError where a gap is longer than ``LONGEST``."""

    def fill(self, gaps: Gaps) -> Fills:
        """The probability of what each gap holds and of its length, and the best fill, of whatever length."""

    def candidates(self, left: np.ndarray, right: np.ndarray, most: int) -> list[OfLength]:
        """(L,), (R,) -> the likeliest fills of one gap, best first."""


def any_length(filler: Filler, model: object) -> AnyLength | None:
    """How a model whose gaps of one length ``filler`` fills does so where it is not told; None where it cannot."""
    if isinstance(filler, LatticeFiller):
        return LatticeAnyLength(filler)
    if isinstance(filler, ChainFiller) and isinstance(model, EndsGaps):
        return OwnAnyLength(model.fill_or_end_log_probs, filler.first)
    return None


def _must_not_be_longer(length: int) -> None:
    if length > LONGEST:
        problem = f"a gap of {length:,} tokens whose length is not told"
        raise TooLongError(f"length {length}", problem, f"at most {LONGEST}", "shorter gaps")


# ---------------------------------------------------------------- lattice


class LatticeAnyLength:
    """All lengths in one pass from the right: what goes before a gap of k tokens is what goes before one of k - 1."""

    method = "lattice"

    def __init__(self, filler: LatticeFiller) -> None:
        self.filler, self.reads = filler, filler.reads

    def must_be_few(self, places: int, length: int) -> None:
        """What a place costs hardly depends on its length."""
        _must_not_be_longer(length)

    def fill(self, gaps: Gaps) -> Fills:
        """Place by place."""
        filled = [self._fill(*gap) for gap in place_by_place(gaps)]
        log_probs, best, best_log_probs = zip(*filled, strict=True)
        return Fills(np.array(log_probs), best, np.array(best_log_probs))

    def _fill(self, left: np.ndarray, middle: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        (lengths, paths), length = self.lengths(left, right), len(middle)
        messages, likeliest = self.filler.messages(left, right, length), 1 + int(paths.argmax())
        log_probs = self.filler.log_probs(messages, middle)
        log_probs[-1] += lengths[length - 1]
        of_best = messages if likeliest == length else self.filler.messages(left, right, likeliest)
        best, best_log_prob = next(self.filler.paths(of_best))
        return log_probs, best, best_log_prob + float(lengths[likeliest - 1])

    def candidates(self, left: np.ndarray, right: np.ndarray, most: int) -> list[OfLength]:
        """The likeliest fill of each of the likeliest lengths."""
        lengths, _ = self.lengths(left, right)
        likeliest = np.argsort(-lengths, kind="stable")[:most].tolist()
        return [
            OfLength(self.filler.candidates(left, right, index + 1, 1)[0], float(lengths[index])) for index in likeliest
        ]

    def lengths(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(L,), (R,) -> nats of every length (LONGEST,), and of its best fill and the length, up to one constant."""
        within = self._within(left)
        [start] = within[0].tolist()
        logs = self.filler.right_log_probs(within[-1], right)
        beta = np.zeros(self.filler.automaton.size)
        beta[within[-1]] = np.exp(logs - logs.max())
        path, scale, path_scale = beta, 0.0, 0.0
        evidence, paths = np.empty(LONGEST), np.empty(LONGEST)
        for index, here in enumerate(reversed(within[:-1])):
            beta, path = self.filler.backward(here, beta, path)
            evidence[index], paths[index] = np.log(beta[start]) + scale, np.log(path[start]) + path_scale
            most, best = beta.max(), path.max()
            beta, path, scale, path_scale = beta / most, path / best, scale + np.log(most), path_scale + np.log(best)
        return evidence - np.logaddexp.reduce(evidence), paths

    def _within(self, left: np.ndarray) -> list[np.ndarray]:
        """The states after at most 0 ... ``LONGEST`` hidden tokens, sorted."""
        seen, within = np.zeros(self.filler.automaton.size, dtype=bool), list[np.ndarray]()
        for states in self.filler.reached(left, LONGEST):
            seen[states] = True
            within.append(np.flatnonzero(seen))
        return within


# ---------------------------------------------------------------- by the model itself


class OwnAnyLength:
    """``predict``: left (B, L), the gap so far (B, J), right (B, R), most tokens -> (B, V + 1) nats, the end's last."""

    method = "own"
    reads: int | None = None

    def __init__(self, predict: Predict, first: int) -> None:
        self.predict, self.first = predict, first

    def must_be_few(self, places: int, length: int) -> None:
        """A pass of the model for each hidden token."""
        _must_not_be_longer(length)

    def fill(self, gaps: Gaps) -> Fills:
        """All places at once; the best fill takes the likeliest each time."""
        log_probs = token_by_token(lambda filled, _: self._next(gaps.left, filled, gaps.right), gaps.middle, self.first)
        log_probs[:, -1] += self._next(*gaps)[:, -1]
        return Fills(log_probs, *self._best(gaps.left, gaps.right))

    def _best(self, left: np.ndarray, right: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """(P, L), (P, R) -> the likeliest token each time, up to the end, and their nats (P,)."""
        places, best = np.arange(len(left)), np.empty((len(left), 0), dtype=np.int64)
        goes_on, lengths, nats = (
            np.ones(len(left), dtype=bool),
            np.zeros(len(left), dtype=np.int64),
            np.zeros(len(left)),
        )
        while goes_on.any():
            after = self._next(left, best, right)
            likeliest = after.argmax(1)
            nats += np.where(goes_on, after[places, likeliest], 0.0)
            goes_on &= likeliest < after.shape[1] - 1
            lengths += goes_on
            best = np.column_stack([best, np.where(goes_on, likeliest, 0) + self.first])
        return [row[:length] for row, length in zip(best, lengths, strict=True)], nats

    def candidates(self, left: np.ndarray, right: np.ndarray, most: int) -> list[OfLength]:
        """The likeliest fills that a beam of ten times as many finds."""
        going, nats, ended = np.empty((1, 0), dtype=np.int64), np.empty((1, 0)), list[Candidate]()
        for _ in range(LONGEST + 1):
            after = self._next(np.tile(left, (len(going), 1)), going, np.tile(right, (len(going), 1)))
            totals = (nats.sum(1)[:, None] + after).ravel()
            likeliest = np.argsort(-totals, kind="stable")[: 10 * most]
            rows, tokens = np.divmod(likeliest[np.isfinite(totals[likeliest])], after.shape[1])
            ends = tokens == after.shape[1] - 1
            ended += [self._ended(going[row], nats[row], after[row, -1]) for row in rows[ends].tolist()]
            rows, tokens = rows[~ends], tokens[~ends]
            going = np.column_stack([going[rows], tokens + self.first])
            nats = np.column_stack([nats[rows], after[rows, tokens]])
            if not len(going) or self._is_found(ended, nats, most):
                break
        return [OfLength(fill, None) for fill in sorted(ended, key=lambda fill: -fill.log_prob)[:most]]

    def _ended(self, tokens: np.ndarray, nats: np.ndarray, end: float) -> Candidate:
        """The last token costs also that it is the last."""
        log_probs = nats.copy()
        log_probs[-1] += end
        return Candidate(tokens, float(log_probs.sum()), log_probs)

    def _is_found(self, ended: list[Candidate], nats: np.ndarray, most: int) -> bool:
        """Whether no fill that goes on can become one of the ``most`` likeliest."""
        worst = sorted((fill.log_prob for fill in ended), reverse=True)[most - 1 : most]
        return bool(worst) and float(nats.sum(1).max()) <= worst[0]

    def _next(self, left: np.ndarray, filled: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(B, C + 1) nats of the next token of the gap, or of its end: never at once, always after the longest."""
        log_probs = self.predict(left, filled, right, LONGEST)[:, self.first :].astype(np.float64)
        if filled.shape[1] == 0:
            log_probs[:, -1] = -np.inf
        if filled.shape[1] == LONGEST:
            log_probs[:, :-1] = -np.inf
        return np.asarray(log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True))
