"""Scores a split: the log-probability of each token exactly once, by one of four protocols.

A protocol defines how much history each prediction is conditioned on.

    stream     all earlier tokens of its document
    whole      all earlier tokens of the split, its documents end to end: for online evaluation
    stride     windows of L tokens, S apart; a window scores its last S tokens, a document's first window all
    disjoint   adjacent windows of L tokens; a token has 0 to L - 1 tokens of history in its window, and the one before

Uses a model only as ``LanguageModel``; ``results`` turns nats into bits and averages.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lmstages.core.documents import BOUNDARY, Documents
from lmstages.core.progress import Progress
from lmstages.models.base import LanguageModel, Selective, UpperBound

TOKENS_PER_BATCH = 1 << 16  # padding included
BITS_PER_BYTE = 8


@dataclass(frozen=True)
class Windows:
    """R windows of a split as token indices: begin, end, and the first token that is scored; all (R,)."""

    begin: np.ndarray
    end: np.ndarray
    scored_from: np.ndarray


def as_read(documents: Documents, protocol: str) -> Documents:
    """The documents of a split as the protocol reads them; under ``whole`` the split is one document."""
    return Documents.single(documents.tokens) if protocol == "whole" else documents


def windows_of(starts: np.ndarray, protocol: str, window: int, stride: int, skip: int) -> Windows:
    """Cut documents, given by ``starts`` (D + 1,), into windows; the first ``skip`` tokens are unscored."""
    firsts, ends = starts[:-1].copy(), starts[1:]
    if protocol in ("stream", "whole"):
        return Windows(firsts, ends, np.maximum(firsts, skip))
    firsts[: 1 if len(firsts) else 0] += skip
    later = np.maximum(0, -(-(ends - firsts - window) // stride))
    document = np.repeat(np.arange(len(firsts)), later + 1)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(later + 1) - (later + 1), later + 1)
    begin = firsts[document] + nth * stride
    end = np.minimum(begin + window, ends[document])
    return Windows(begin, end, np.where(nth > 0, begin + window - stride, begin))


def score(model: LanguageModel, documents: Documents, windows: Windows) -> np.ndarray:
    """(N,) log-probabilities, nats; NaN for tokens that no window scores."""
    log_probs = np.full(len(documents), np.nan)
    for rows in _rows(documents, windows):
        if isinstance(model, Selective):
            scores = model.score_wanted(rows.tokens, rows.before, rows.wanted)
        else:
            scores = model.score(rows.tokens, rows.before)
        log_probs[rows.positions[rows.wanted]] = scores[rows.wanted]
    return log_probs


def score_bound(model: UpperBound, documents: Documents, windows: Windows) -> tuple[np.ndarray, float]:
    """(N,) nats below zero, whose sum is the bound, NaN as in ``score``; and the standard error of that sum, nats.

    The error is that of choosing what is hidden, from the difference of two halves of every window's samples.
    """
    log_probs, variance = np.full(len(documents), np.nan), 0.0
    for rows in _rows(documents, windows):
        halves = model.halves(rows.tokens, rows.before, rows.wanted)
        log_probs[rows.positions[rows.wanted]] = -halves.mean(0)[rows.wanted]
        sums = np.where(rows.wanted, halves, 0.0).sum(-1)  # (2, B)
        variance += float(((sums[0] - sums[1]) ** 2 / 4).sum())
    return log_probs, math.sqrt(variance)


class _Rows(NamedTuple):
    """A batch of windows: tokens, indices in the split, and which are scored, (B, T); the token before each, (B,)."""

    tokens: np.ndarray
    before: np.ndarray
    positions: np.ndarray
    wanted: np.ndarray


def _rows(documents: Documents, windows: Windows) -> Iterator[_Rows]:
    """All windows, batch by batch; a shorter one ends in boundaries, which are not scored."""
    scored = np.zeros(len(documents), dtype=np.uint8)
    first_tokens = np.zeros(len(documents) + 1, dtype=bool)
    first_tokens[documents.starts] = True
    progress, done = Progress(len(documents), "token"), 0
    for rows in _batches(windows):
        begin, end = windows.begin[rows], windows.end[rows]
        positions = begin[:, None] + np.arange((end - begin).max())
        inside = positions < end[:, None]
        tokens = np.where(inside, documents.tokens[np.where(inside, positions, 0)], BOUNDARY).astype(np.int64)
        before = np.where(first_tokens[begin], BOUNDARY, documents.tokens[begin - 1]).astype(np.int64)
        wanted = inside & (positions >= windows.scored_from[rows, None])
        np.add.at(scored, positions[wanted], 1)
        yield _Rows(tokens, before, positions, wanted)
        done += int(wanted.sum())
        progress.at(done, done, "tokens")
    assert scored.max(initial=0) <= 1, "no token is scored twice"


def _batches(windows: Windows) -> Iterator[np.ndarray]:
    """Indices of windows, sorted by length, in batches of at most TOKENS_PER_BATCH tokens (or one window)."""
    lengths = windows.end - windows.begin
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    while len(order):
        count = max(1, TOKENS_PER_BATCH // int(lengths[order[0]]))
        yield order[:count]
        order = order[count:]


def charge_escapes(log_probs: np.ndarray, tokens: np.ndarray, lengths: np.ndarray, escape: int | None) -> np.ndarray:
    """(N,) log-probabilities, with 8 bits charged for each byte that an escape token covers."""
    if escape is None:
        return log_probs
    return np.where(tokens == escape, log_probs - lengths * BITS_PER_BYTE * np.log(2), log_probs)
