"""Bits per byte by tenths of the held-out text, and what online evaluation gains in each of them.

    tenth    the blocks of a text, in its order, whose middle byte lies in that tenth of its bytes
    gain     bits per byte of the static model less those of the same model under online evaluation

Where documents come in no order, as those of a grammar, all tenths are alike and a gain that grows is learning; in a
text that changes, as a book or a year of news, tenths differ, and the gain says how much of that a model can follow.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from lmstages.results import statistics
from lmstages.results.intervals import Key, Profile
from lmstages.results.schema import Drift, Result

TENTHS = 10


def drift(rows: Sequence[Result], profiles: Mapping[Key, Profile]) -> list[Drift]:
    """Rows of every text -> ten each; none of infinite rows, nor of texts of so few blocks that a tenth has none."""
    finite = [row for row in rows if row.key in profiles and np.isfinite(profiles[row.key].nats).all()]
    by_text = groupby(sorted(finite, key=_text), key=_text)
    return [measured for _, same in by_text for measured in _of_text(list(same), profiles)]


def _text(row: Result) -> tuple[str, str]:
    return row.corpus, row.split


def _of_text(rows: Sequence[Result], profiles: Mapping[Key, Profile]) -> Iterator[Drift]:
    nats, sizes = (np.stack([profiles[row.key][column] for row in rows]) for column in (0, 1))
    tenths = tenths_of(sizes.max(0))
    if len(np.unique(tenths)) < TENTHS:
        return
    twins = [_twin(row, rows) for row in rows]
    for tenth in range(TENTHS):
        own = tenths == tenth
        yield from _of_tenth(tenth + 1, rows, twins, nats[:, own], sizes[:, own])


def tenths_of(sizes: np.ndarray) -> np.ndarray:
    """(K,) bytes of blocks -> (K,) the tenth in which the middle of each lies, from 0."""
    ends = np.cumsum(sizes)
    return np.asarray((TENTHS * (ends - sizes / 2)) // max(ends[-1], 1), dtype=int)


def _twin(row: Result, rows: Sequence[Result]) -> int | None:
    """The static row of the same model, tokens and hyperparameters; None for a row that is not online, or has none."""
    if row.category != "online":
        return None
    described = row.tokenizer, row.type, _without_online(row)
    for index, other in enumerate(rows):
        if other.category == "static" and (other.tokenizer, other.type, _without_online(other)) == described:
            return index
    return None


def _without_online(row: Result) -> dict[str, object]:
    return {key: value for key, value in json.loads(row.hyperparameters).items() if key != "online"}


def _of_tenth(
    tenth: int, rows: Sequence[Result], twins: Sequence[int | None], nats: np.ndarray, sizes: np.ndarray
) -> Iterator[Drift]:
    """(M, k) nats and bytes of the blocks of a tenth -> its rows."""
    ratios, bits = statistics.resampled(nats, sizes), nats.sum(1) / np.maximum(sizes.sum(1), 1) / math.log(2)
    for index, (row, twin) in enumerate(zip(rows, twins, strict=True)):
        low, high = statistics.interval_where_finite(ratios[:, index], nats.shape[1])
        gains = None if twin is None else ratios[:, twin] - ratios[:, index]
        ends = (None, None) if gains is None else statistics.interval_where_finite(gains, nats.shape[1])
        yield Drift(
            corpus=row.corpus,
            split=row.split,
            tokenizer=row.tokenizer,
            model=row.model,
            title=row.title,
            rank=row.rank,
            category=row.category,
            tenth=tenth,
            bytes=int(sizes[index].sum()),
            bits_per_byte=float(bits[index]),
            low=low,
            high=high,
            twin=None if twin is None else rows[twin].model,
            gain=None if twin is None else float(bits[twin] - bits[index]),
            gain_low=ends[0],
            gain_high=ends[1],
        )
