"""What a reader should know of a row before comparing it: one sentence each, with the figures and what to do.

    parts       valid and test differ far more in bits per byte than their intervals and the texts themselves explain
    loses       a network needs more bits than the bigram over the same tokens
    overfits    the loss on valid has risen since its lowest point, while that on train fell
    falls       the loss on valid still falls when the steps end
    blocks      the held-out text is so short that its interval rests on few blocks, or there is none

What stands before the first colon of a sentence says what is the matter, where there is room for no more.

A curve is judged by means over its last tenth of points (at least one). Rises and falls below a few hundredths of the
loss say nothing, and what is said of a curve must hold for every seed. Knows rows, curves and differences.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmstages.results.frame import groups, hyperparameters
from lmstages.results.schema import Columns, CurvePoint, Difference, Result
from lmstages.results.statistics import FEWEST_BLOCKS, FEWEST_DOCUMENTS, LEAST_CHARACTERS, LEVEL

FEWEST_POINTS = 3  # of a curve that says something of its end
LEAST_FALL = 0.01  # of the loss, over a tenth of the steps: a smaller fall is not worth more steps
LEAST_RISE = 0.02  # of the loss
LEAST_LOSS = 0.01  # of the bigram's bits: a neural bigram comes as near without being worse
LEAST_PART = 0.1  # of the smaller figure
WIDTHS = 3  # how many times the half-widths of both intervals valid and test must be apart
FEW_BLOCKS = 10
BIGRAM = "bigram"
Experiment = tuple[str, str, str]  # corpus, tokenizer, model
Key = tuple[str, str, str, str]  # corpus, tokenizer, model, split


@dataclass(frozen=True)
class Curve:
    """The learning curve of one seed: (N,) steps, nats per token on train and on valid.

    ``bits_of_a_nat`` is how many bits per byte of valid a nat per token is; None where its tokens are not kept.
    """

    steps: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    bits_of_a_nat: float | None = None

    @property
    def last(self) -> int:
        """How many points are the last tenth."""
        return max(1, len(self.steps) // 10)

    def lowest(self) -> int:
        """Index of the lowest loss on valid."""
        return int(np.argmin(self.valid))

    def fall(self) -> float:
        """By how many nats per token valid falls over a tenth of the steps at its end; 0 where it does not.

        The lowest loss before the last points less the mean of these, scaled to a tenth of the steps. It counts where
        it is more than LEAST_FALL of the loss and more than any rise between two neighbours in the second half.
        """
        early, late = self.valid[: -self.last], self.valid[-self.last :]
        best = int(np.argmin(early)) if len(early) else 0
        if len(self.valid) < FEWEST_POINTS or self.steps[-1] <= 0:
            return 0.0
        fall = float(early[best] - late.mean())
        rises = np.diff(self.valid[(len(self.valid) - 1) // 2 :])
        steps = float(self.steps[-self.last :].mean() - self.steps[best])
        scaled = fall * self.steps[-1] / 10 / steps
        return scaled if fall > max(0.0, rises.max()) and scaled > LEAST_FALL * late.mean() else 0.0

    def rise(self) -> float:
        """By how many nats per token valid ends above its lowest point, while train fell; 0 where it does not."""
        lowest, late = self.lowest(), self.valid[-self.last :]
        if len(self.valid) < FEWEST_POINTS or self.train[-1] >= self.train[lowest]:
            return 0.0
        rise = float(late.mean() - self.valid[lowest])
        return rise if late.min() - self.valid[lowest] > LEAST_RISE * self.valid[lowest] else 0.0


def warn(rows: Sequence[Result], points: Sequence[CurvePoint], differences: Columns[Difference]) -> None:
    """Set ``warning`` of every row that has one; what ``warn_of_blocks`` has set stays, last."""
    curves = by_experiment(points)
    behind, by_key = behind_bigram(rows, differences), {row.key: row for row in rows}
    for row in rows:
        if row.bits_per_byte is None:
            continue
        own = curves.get((row.corpus, row.tokenizer, row.ensemble_of or row.model), [])
        said = [_parts(row, by_key, own), _loses(row, behind.get(row.key), own), _overfits(row, own), _falls(row, own)]
        row.warning = " ".join(filter(None, [*said, row.warning])) or None


def by_experiment(points: Sequence[CurvePoint]) -> dict[Experiment, list[Curve]]:
    """The learning curves of each experiment, one a seed; those without a loss on valid are left out."""
    curves: dict[Experiment, list[Curve]] = {}
    for (corpus, tokenizer, model, _), same in groups(points, "corpus", "tokenizer", "model", "seed").items():
        steps, train, valid = (
            np.array([getattr(point, name) for point in same], dtype=float) for name in ("step", "train", "valid")
        )
        curve = Curve(steps, train, valid, _bits_of_a_nat(same[-1]))
        if len(same) and np.isfinite(curve.valid).all():
            curves.setdefault((corpus, tokenizer, model), []).append(curve)
    return curves


def _bits_of_a_nat(point: CurvePoint) -> float | None:
    return point.valid_bits_per_byte / point.valid if point.valid and point.valid_bits_per_byte else None


def _bits(row: Result, curves: Sequence[Curve], nats_per_token: Sequence[float]) -> float:
    """Nats per token of valid, one a seed -> their mean in bits per byte; as in the row's text where not known."""
    assert row.tokens and row.bytes, "a row with a curve has scored tokens"
    factor = curves[0].bits_of_a_nat or row.tokens / row.bytes / math.log(2)
    return float(np.mean(nats_per_token)) * factor


def _key(row: Result, key: str) -> str:
    return f"models.{row.ensemble_of or row.model}.{key}"


# ---------------------------------------------------------------- the curve


def _falls(row: Result, curves: Sequence[Curve]) -> str | None:
    falls = [curve.fall() for curve in curves]
    keys = [key for key in ("steps", "epochs") if key in hyperparameters(row)]
    if not falls or not all(falls) or not keys:
        return None
    fall = _bits(row, curves, falls)
    return (
        f"Valid loss still falls: by {fall:.3f} bits per byte over the last tenth of the steps; more steps would help"
        f" ({_key(row, keys[0])})."
    )


def _overfits(row: Result, curves: Sequence[Curve]) -> str | None:
    rises = [curve.rise() for curve in curves]
    if not rises or not all(rises):
        return None
    steps = [f"{int(curve.steps[curve.lowest()]):,} of {int(curve.steps[-1]):,}" for curve in curves]
    where = f"at step {steps[0]}" if len({*steps}) == 1 else f"well before step {int(curves[0].steps[-1]):,}"
    best = hyperparameters(row).get("keep") == "best"
    kept = "the weights of its lowest point were kept" if best else f"the last weights were kept ({_key(row, 'keep')})"
    return (
        f"Overfits: valid loss was lowest {where} and rose by {_bits(row, curves, rises):.3f} bits per byte"
        f" after it, while train loss fell; {kept}."
    )


# ---------------------------------------------------------------- valid and test


def _parts(row: Result, rows: Mapping[Key, Result], curves: Sequence[Curve]) -> str | None:
    """Of a row on test: where valid is not evaluated, the loss of the kept weights on valid stands for it.

    That loss is taken in rows without the history that the protocol of the score may give, and so is too high if
    anything: it can only show that test is the worse of the two.
    """
    if row.split != "test" or row.bits_per_byte is None or not math.isfinite(row.bits_per_byte):
        return None
    other = rows.get((row.corpus, row.tokenizer, row.model, "valid"))
    if other is not None and other.bits_per_byte is not None:
        valid, is_score, margin = other.bits_per_byte, True, _half_width(row) + _half_width(other)
    elif curves:
        valid, is_score, margin = _bits(row, curves, _kept(row, curves)), False, 2 * _half_width(row)
    else:
        return None
    apart = row.bits_per_byte - valid
    if apart < 0 and not is_score:
        return None
    beyond = abs(apart) - max(WIDTHS * margin, LEAST_PART * min(valid, row.bits_per_byte))
    if beyond <= 0 or beyond <= _hardness(row, rows.values()):
        return None
    return (
        f"Valid and test part widely: {valid:.3f} bits per byte on valid, {row.bits_per_byte:.3f} on test; they are not"
        f" alike, so split by documents (corpora.{row.corpus}.documents) or shuffle (split.shuffle_seed)."
    )


def _half_width(row: Result) -> float:
    if row.bits_per_byte_low is None or row.bits_per_byte_high is None:
        return 0.0
    return (row.bits_per_byte_high - row.bits_per_byte_low) / 2


def _kept(row: Result, curves: Sequence[Curve]) -> list[float]:
    """Nats per token on valid of the weights that each seed kept."""
    best = hyperparameters(row).get("keep") == "best"
    return [float(curve.valid[curve.lowest() if best else -1]) for curve in curves]


def _hardness(row: Result, rows: Iterable[Result]) -> float:
    """By how many bits per byte valid and test differ under the text's source, or under a compressor that reads each
    alone; 0 where neither is known of both."""
    bits: dict[str, dict[str, float]] = {}
    for other in rows:
        beside = other.family == "oracle" or (other.family == "compressor" and not other.model.endswith("_train"))
        if beside and other.corpus == row.corpus and other.bits_per_byte is not None:
            bits.setdefault(other.model, {})[other.split] = other.bits_per_byte
    both = [of_split for of_split in bits.values() if {"valid", "test"} <= {*of_split}]
    return max((abs(of_split["test"] - of_split["valid"]) for of_split in both), default=0.0)


# ---------------------------------------------------------------- the bigram


def behind_bigram(rows: Sequence[Result], differences: Columns[Difference]) -> dict[Key, tuple[Result, float]]:
    """Key of a static network -> the best bigram over the same tokens, and how many bits per byte fewer that needs.

    Only where the difference is significant, and no less than LEAST_LOSS.
    """
    bigrams: dict[tuple[str, str, str], Result] = {}
    for row in sorted((row for row in rows if row.type == BIGRAM and row.bits_per_byte_low is not None), key=_score):
        bigrams.setdefault((row.corpus, row.tokenizer, row.split), row)
    behind = {}
    for row in rows:
        bigram = bigrams.get((row.corpus, row.tokenizer, row.split))
        if bigram is None or row.family != "neural" or row.category != "static" or row.bits_per_byte is None:
            continue
        apart = row.bits_per_byte - _score(bigram)
        if apart > LEAST_LOSS * _score(bigram):
            behind[row.key] = (bigram, apart)
    certain = _significant(differences, {bigram.key for bigram, _ in behind.values()})
    return {key: pair for key, pair in behind.items() if (key, pair[0].key) in certain}


def _score(row: Result) -> float:
    return math.inf if row.bits_per_byte is None else row.bits_per_byte


def _significant(differences: Columns[Difference], bigrams: set[Key]) -> set[tuple[Key, Key]]:
    """The pairs (row, bigram) and (bigram, row) that differ significantly."""
    names, columns = [key[2] for key in bigrams], differences.columns
    beside = np.isin(columns["a_model"], names) | np.isin(columns["b_model"], names)
    certain = set()
    for index in np.flatnonzero(beside & (columns["p_holm"] < LEVEL)).tolist():
        pair = differences[index]
        a = (pair.a_corpus, pair.a_tokenizer, pair.a_model, pair.split)
        b = (pair.b_corpus, pair.b_tokenizer, pair.b_model, pair.split)
        certain |= {(a, b), (b, a)}
    return certain


def _loses(row: Result, behind: tuple[Result, float] | None, curves: Sequence[Curve]) -> str | None:
    if behind is None:
        return None
    bigram, apart = behind
    keys = [_key(row, key) for key in ("steps", "epochs", "examples", "learning_rate") if key in hyperparameters(row)]
    remedy = "more text or a smaller model" if _overfits(row, curves) else f"more steps or text ({', '.join(keys)})"
    name = "the bigram" if bigram.model == BIGRAM else f"the bigram {bigram.model}"
    return f"Loses to {name}: by {apart:.3f} bits per byte; try {remedy}."


# ---------------------------------------------------------------- the text


def warn_of_blocks(rows: Iterable[Result], blocks: int) -> None:
    """Models of one text that is cut into so many blocks."""
    for row in rows if blocks < FEW_BLOCKS else ():
        if row.family == "oracle":
            continue
        row.warning = (
            f"Too little text: {blocks} block{'' if blocks == 1 else 's'}; without {FEWEST_BLOCKS}"
            f" ({FEWEST_BLOCKS * LEAST_CHARACTERS:,} characters, or {FEWEST_DOCUMENTS} documents) there is neither an"
            " interval nor a test."
            if blocks < FEWEST_BLOCKS
            else f"Few blocks of text: the interval rests on {blocks}; score more text."
        )
