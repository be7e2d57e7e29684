"""Fills gaps in rows of tokens: the exact probability of what a gap holds, given both sides and its length.

    lattice    a model with finitely many states: forward over the states that the gap can lead to, backward from the
               right side over the same, p(next) beta(after it) / beta(before it); the likeliest fill by Viterbi
    bayes      any model from left to right, or a mixture of such: p(gap | both sides) ~ p(gap, right side | left side)
               over every gap
    own        a model that fills by itself (``Infilling``), token by token; the fill takes the likeliest each time
    left       any model from left to right, the right side hidden: what the right side is measured against

Every filler's probabilities over all gaps of a length sum to one: the tokens of a gap are those from ``first`` on, 0
where the boundary is a character of a stream, 1 where documents end with it, since then no gap holds an end. Nothing is
pruned. ``P`` places, ``k`` hidden tokens, ``C`` = V - first tokens. Log-probabilities are nats.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, islice
from typing import NamedTuple, Protocol

import numpy as np

from lmstages.core.progress import Progress
from lmstages.evaluation.continuations import RIGHT, Continuations, MixedModels, continuations_of
from lmstages.models.automata import Automaton, automaton_of
from lmstages.models.base import Infilling, LanguageModel, TooLongError

MOST_ROWS = 20_000  # gaps that Bayes' rule enumerates at all places together, unless the caller allows more
MANY_STATES = 1000  # from here on compiled code saves more time than it takes to load


class Gaps(NamedTuple):
    """P gaps of one length: what stands left of them (P, L), what they hold (P, k), what stands right (P, R)."""

    left: np.ndarray
    middle: np.ndarray
    right: np.ndarray


class Fills(NamedTuple):
    """(P, k) nats of each token of the gap, given the earlier ones; P best fills and their nats (P,)."""

    log_probs: np.ndarray
    best: Sequence[np.ndarray] | np.ndarray
    best_log_probs: np.ndarray


class Candidate(NamedTuple):
    """A fill (k,), its log-probability, and those of its tokens, each given the earlier ones (k,)."""

    tokens: np.ndarray
    log_prob: float
    log_probs: np.ndarray


def place_by_place(gaps: Gaps, rows: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(L,), (k,), (R,) of every place; says how far the filling is, each place having cost so many scored ``rows``."""
    places, length = gaps.middle.shape
    progress = Progress(places, f"gap of {length} tokens")
    for done, gap in enumerate(zip(*gaps, strict=True), 1):
        yield gap
        progress.at(done, done * rows, "rows")


class Filler(Protocol):
    """Fills gaps by one of the methods; ``reads``: the most tokens of the right side that it uses, None for all."""

    method: str
    reads: int | None

    def must_be_few(self, places: int, length: int) -> None:
        """Raises TooLongError where so many gaps of a length would cost too much."""

    def fill(self, gaps: Gaps) -> Fills:
        """The probability of what each gap holds, and the best fill; raises TooLongError."""

    def candidates(self, left: np.ndarray, right: np.ndarray, length: int, most: int) -> list[Candidate]:
        """(L,), (R,) -> the likeliest fills of one gap, best first; raises TooLongError."""


# ---------------------------------------------------------------- lattice


@dataclass(frozen=True)
class Messages:
    """Of one gap at its k + 1 positions: states that can be there, beta and the best path's probability by state (S,).

    Both are scaled; ``evidence`` and ``best`` are the logarithms of what they are at the first position: p(right side)
    and p(best fill, right side), each up to one common factor of the right side.
    """

    states: list[np.ndarray]
    betas: list[np.ndarray]
    paths: list[np.ndarray]
    scales: list[float]
    evidence: float
    best: float


class LatticeFiller:
    """Forward-backward over the states of an automaton; ``first``: the first token that may stand in a gap."""

    method = "lattice"

    def __init__(self, automaton: Automaton, first: int) -> None:
        self.automaton, self.first = automaton, first
        self.reads: int | None = automaton.memory

    def must_be_few(self, places: int, length: int) -> None:
        """What a place costs hardly depends on its length."""

    def fill(self, gaps: Gaps) -> Fills:
        """Place by place."""
        filled = [self._fill(*gap) for gap in place_by_place(gaps)]
        log_probs, best, best_log_probs = zip(*filled, strict=True)
        return Fills(np.array(log_probs), np.array(best), np.array(best_log_probs))

    def _fill(self, left: np.ndarray, middle: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        messages = self.messages(left, right, len(middle))
        return self.log_probs(messages, middle), *next(self.paths(messages))

    def candidates(self, left: np.ndarray, right: np.ndarray, length: int, most: int) -> list[Candidate]:
        """The likeliest fills, exactly: a search guided by the best completion of every state."""
        messages = self.messages(left, right, length)
        paths = islice(self.paths(messages), most)
        return [Candidate(tokens, nats, self.log_probs(messages, tokens)) for tokens, nats in paths]

    def messages(self, left: np.ndarray, right: np.ndarray, length: int) -> Messages:
        """(L,), (R,) -> the backward messages of a gap of ``length`` tokens."""
        states = self.reached(left, length)
        logs = self.right_log_probs(states[-1], right)
        top = float(logs.max())
        beta = np.zeros(self.automaton.size)
        with np.errstate(invalid="ignore"):
            beta[states[-1]] = np.exp(logs - top)
        betas, paths, scales, evidence, best = [beta], [beta], [1.0], top, top
        for here in reversed(states[:-1]):
            sums, tops = self.backward(here, betas[0], paths[0])
            scale, path_scale = float(sums[here].max()), float(tops[here].max())
            with np.errstate(divide="ignore", invalid="ignore"):
                betas.insert(0, sums / scale)
                paths.insert(0, tops / path_scale)
                evidence, best = evidence + np.log(scale), best + np.log(path_scale)
            scales.insert(0, scale)
        return Messages(states, betas, paths, scales, float(evidence), float(best))

    def reached(self, left: np.ndarray, length: int) -> list[np.ndarray]:
        """The states after 0 ... ``length`` hidden tokens, sorted."""
        states = [self.automaton.after(left[None])]
        for _ in range(length):
            if len(states) > 1 and np.array_equal(states[-1], states[-2]):
                states.append(states[-1])  # from here on they stay the same
                continue
            if not self.automaton.fits(len(states[-1])):
                problem = f"the gap leads to {len(states[-1]):,} contexts and more"
                raise TooLongError(f"length {length}", problem, "", "shorter gaps, or a model of lower order")
            seen = np.zeros(self.automaton.size, dtype=bool)
            seen[self.automaton.rows(states[-1])[1][:, self.first :]] = True
            states.append(np.flatnonzero(seen))
        return states

    def right_log_probs(self, states: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(M,) states at the gap's end -> (M,) log p(right side), as far as a state can matter."""
        logs, at = np.zeros(len(states)), states
        for token in right[: self.reads]:
            probabilities, at = self.automaton.step(at, int(token))
            with np.errstate(divide="ignore"):
                logs += np.log(probabilities)
        return logs

    def backward(self, here: np.ndarray, beta: np.ndarray, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One position to the left: sums and maxima over the next token, (S,), zero for all other states."""
        sums, tops = np.zeros_like(beta), np.zeros_like(beta)
        if len(here) > MANY_STATES and self.automaton.table is not None:
            from lmstages.models import messages

            messages.backward(*self.automaton.table, here, self.first, beta, path, sums, tops)
            return sums, tops
        probabilities, following = (array[:, self.first :] for array in self.automaton.rows(here))
        sums[here] = (probabilities * beta[following]).sum(1)
        tops[here] = (probabilities * path[following]).max(1)
        return sums, tops

    def log_probs(self, messages: Messages, middle: np.ndarray) -> np.ndarray:
        """(k,) nats of each token of the gap, given both sides and the tokens of the gap before it."""
        state, log_probs = messages.states[0], np.empty(len(middle))
        for position, token in enumerate(middle.tolist()):
            probability, after = self.automaton.step(state, token)
            below = messages.scales[position] * messages.betas[position][state]
            with np.errstate(divide="ignore", invalid="ignore"):
                log_probs[position] = np.log(probability * messages.betas[position + 1][after] / below).item()
            state = after
        return log_probs

    def paths(self, messages: Messages) -> Iterator[tuple[np.ndarray, float]]:
        """Every fill, the likeliest first: of all beginnings the one whose best completion is the likeliest goes on."""
        order, length = count(), len(messages.states) - 1
        queue: list[tuple[float, int, int, tuple[int, ...]]] = [(0.0, 0, int(messages.states[0][0]), ())]
        while queue:
            worse, _, state, tokens = heappop(queue)  # nats by which the best completion is less likely than the best
            if len(tokens) == length:
                yield np.array(tokens, dtype=np.int64), messages.best - messages.evidence - worse
                continue
            probabilities, following = (row[0, self.first :] for row in self.automaton.rows(np.array([state])))
            reached = probabilities * messages.paths[len(tokens) + 1][following]
            possible = np.flatnonzero(reached)
            for token, more in zip(possible.tolist(), np.log(reached.max() / reached[possible]).tolist(), strict=True):
                heappush(queue, (worse + more, next(order), int(following[token]), (*tokens, self.first + token)))


# ---------------------------------------------------------------- Bayes' rule


class BayesFiller:
    """Every gap scored with the right side behind it, by a model from left to right or a mixture of such models.

    ``reads`` tokens of the right side are enough for a model of that context. Of one that reads further it makes a
    filler that knows less of the right side, whose probabilities sum to one as well.
    """

    method = "bayes"

    def __init__(self, model: Continuations, first: int, most_rows: int = MOST_ROWS, reads: int = RIGHT) -> None:
        self.model, self.tokens, self.most_rows = model, range(first, model.vocab_size), most_rows
        self.reads: int | None = min(reads, model.reads)

    def fill(self, gaps: Gaps) -> Fills:
        """Place by place."""
        places, length = gaps.middle.shape
        self.must_be_few(places, length)
        every = self._every(length)
        filled = [self._fill(every, *gap) for gap in place_by_place(gaps, len(every))]
        log_probs, best, best_log_probs = zip(*filled, strict=True)
        return Fills(np.array(log_probs), np.array(best), np.array(best_log_probs))

    def candidates(self, left: np.ndarray, right: np.ndarray, length: int, most: int) -> list[Candidate]:
        """The likeliest fills, exactly."""
        self.must_be_few(1, length)
        every = self._every(length)
        posterior = self._posterior(every, left, right)
        likeliest = np.argsort(-posterior, kind="stable")[:most]
        return [Candidate(every[i], float(posterior[i]), self._of_tokens(posterior, every[i])) for i in likeliest]

    def must_be_few(self, places: int, length: int) -> None:
        """So many rows are V^k for each place."""
        if (rows := places * len(self.tokens) ** length) > self.most_rows:
            problem = f"Bayes' rule would score {rows:,} rows"
            raise TooLongError(
                f"length {length}", problem, f"at most {self.most_rows:,}", "shorter gaps, or fewer places"
            )

    def _every(self, length: int) -> np.ndarray:
        """(C^k, k) every gap, the last token changing fastest."""
        grids = np.meshgrid(*[np.array(self.tokens)] * length, indexing="ij")
        return np.stack([grid.ravel() for grid in grids], axis=1)

    def _fill(
        self, every: np.ndarray, left: np.ndarray, middle: np.ndarray, right: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        posterior = self._posterior(every, left, right)
        best = int(posterior.argmax())
        return self._of_tokens(posterior, middle), every[best], float(posterior[best])

    def _of_tokens(self, posterior: np.ndarray, middle: np.ndarray) -> np.ndarray:
        """(C^k,), (k,) -> (k,) nats of each token of a gap, given the earlier ones."""
        log_probs, given, before = np.empty(len(middle)), posterior, 0.0
        for position, token in enumerate(middle.tolist()):
            given = given.reshape(len(self.tokens), -1)[token - self.tokens.start]
            total = float(np.logaddexp.reduce(given))
            log_probs[position], before = total - before, total
        return log_probs

    def _posterior(self, every: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(C^k,) nats of every gap given both sides."""
        right = self.model.right_within(left, right[: self.reads], every.shape[1])
        tails = np.hstack([every, np.tile(right, (len(every), 1))])
        joint = self.model.score(left, tails, every.shape[1]).sum(1)
        return np.asarray(joint - np.logaddexp.reduce(joint))


# ---------------------------------------------------------------- token by token


def token_by_token(following: Callable[[np.ndarray, int], np.ndarray], middle: np.ndarray, first: int) -> np.ndarray:
    """(P, k) nats of each token; ``following``: the first J of the gap (P, J), tokens hidden -> (P, C) of the next."""
    places, length = middle.shape
    log_probs = np.empty((places, length))
    for position in range(length):
        known = following(middle[:, :position], length - position)
        log_probs[:, position] = known[np.arange(places), middle[:, position] - first]
    return log_probs


class ChainFiller:
    """Predicts the tokens of a gap one after the other; what a token must not be is left out and the rest sums to one.

    ``predict``: left (B, L), the gap so far (B, J), right (B, R), tokens hidden -> (B, V) nats.
    """

    def __init__(
        self,
        method: str,
        predict: Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray],
        first: int,
        reads: int | None = None,
    ) -> None:
        self.method, self.predict, self.first, self.reads = method, predict, first, reads

    def must_be_few(self, places: int, length: int) -> None:
        """A pass of the model for each hidden token."""

    def fill(self, gaps: Gaps) -> Fills:
        """All places at once; the best fill takes the likeliest token each time."""
        places, length = gaps.middle.shape

        def following(filled: np.ndarray, hidden: int) -> np.ndarray:
            return self._next(gaps.left, filled, gaps.right, hidden)

        log_probs = token_by_token(following, gaps.middle, self.first)
        best, best_log_probs = np.empty((places, 0), dtype=np.int64), np.zeros(places)
        for position in range(length):
            guessed = following(best, length - position)
            best = np.column_stack([best, guessed.argmax(1) + self.first])
            best_log_probs += guessed.max(1)
        return Fills(log_probs, best, best_log_probs)

    def candidates(self, left: np.ndarray, right: np.ndarray, length: int, most: int) -> list[Candidate]:
        """The likeliest fills that a beam of ten times as many finds."""
        beams, costs, nats = np.empty((1, 0), dtype=np.int64), np.zeros(1), np.empty((1, 0))
        for position in range(length):
            sides = (np.tile(side, (len(beams), 1)) for side in (left, right))
            after = self._next(next(sides), beams, next(sides), length - position)
            totals = (costs[:, None] + after).ravel()
            likeliest = np.argsort(-totals, kind="stable")[: 10 * most]
            rows, tokens = np.divmod(likeliest, after.shape[1])
            beams, costs = np.column_stack([beams[rows], tokens + self.first]), totals[likeliest]
            nats = np.column_stack([nats[rows], after[rows, tokens]])
        beams, costs, nats = beams[:most], costs[:most], nats[:most]
        return [Candidate(tokens, float(cost), row) for tokens, cost, row in zip(beams, costs, nats, strict=True)]

    def _next(self, left: np.ndarray, filled: np.ndarray, right: np.ndarray, hidden: int) -> np.ndarray:
        """(B, C) nats of the next token of the gap."""
        log_probs = self.predict(left, filled, right, hidden)[:, self.first :].astype(np.float64)
        return np.asarray(log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True))


def left_only(model: Continuations, first: int) -> ChainFiller:
    """A model from left to right, which does not read the right side."""

    def predict(left: np.ndarray, filled: np.ndarray, right: np.ndarray, hidden: int) -> np.ndarray:
        return model.next_log_probs(np.hstack([left, filled]))

    return ChainFiller("left", predict, first, 0)


def filler_of(
    model: LanguageModel | MixedModels, first: int, most_rows: int = MOST_ROWS, reads: int = RIGHT
) -> Filler | None:
    """How a model fills gaps with both sides known; None for one that learns from what it scores."""
    if not isinstance(model, MixedModels):
        if isinstance(model, Infilling):
            return ChainFiller("own", model.fill_log_probs, first)
        if (automaton := automaton_of(model)) is not None:
            return LatticeFiller(automaton, first)
    parts = model.models.values() if isinstance(model, MixedModels) else [model]
    if any(part.config.category != "static" for part in parts):
        return None
    return BayesFiller(continuations_of(model), first, most_rows, reads)
