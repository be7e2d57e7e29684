"""Swept entries of a config as tables: every row that belongs to one, and learning curves over the size of train.

A sweep of ``use`` on a corpus gives every model a row at every share of the same train text, scored on the same test
text. Between two sizes bits per byte are taken to be a straight line in the logarithm of the size; where the lines of
two models cross, one overtakes the other. Infinite bits per byte are worse than any others, and are so up to the size
at which they are finite.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lmstages.results.frame import groups
from lmstages.results.schema import NOT_ON_THE_LADDER, Corpora, Crossing, Result, ScalingPoint, SweepPoint

COLUMN_OF = {"corpora": "corpus", "tokenizers": "tokenizer", "models": "model", "pretrained": "model"}
SIZE = "use"  # the swept key of a learning curve over the size of train
Curve = list[tuple[float, float]]  # (bytes, bits per byte), by size
INTERVAL = ("bits_per_byte_low", "bits_per_byte_high", "bits_per_byte_std")
FIGURES = ("bits_per_byte", *INTERVAL, "perplexity", "nats_per_character", "parameters")
SHARED = ("corpus", "split", "tokenizer", "model", *FIGURES)


def sweep_points(sweep: Mapping[str, Any], rows: Iterable[Result]) -> list[SweepPoint]:
    """One swept entry {name, section, keys, entries [name, values]}: its rows, ordered by the values of its keys."""
    values, column = dict(sweep["entries"]), COLUMN_OF[sweep["section"]]
    orders = [in_order([entry[index] for entry in values.values()]) for index in range(len(sweep["keys"]))]
    members = [r for r in rows if r.family not in NOT_ON_THE_LADDER and getattr(r, column) in values]
    members.sort(key=lambda r: [o.index(v) for o, v in zip(orders, values[getattr(r, column)], strict=True)])
    entry = {"sweep": sweep["name"], "section": sweep["section"], "keys": json.dumps(sweep["keys"])}
    return [
        SweepPoint(
            **entry,
            values=json.dumps(values[getattr(row, column)]),
            **{name: getattr(row, name) for name in SHARED},
        )
        for row in members
    ]


def in_order(values: Sequence[Any]) -> list[Any]:
    """Each value once: numbers by size, before all else in the order of the config."""
    once = [value for index, value in enumerate(values) if value not in values[:index]]
    numbers = [value for value in once if isinstance(value, int | float) and not isinstance(value, bool)]
    return [*sorted(numbers), *(value for value in once if value not in numbers)]


# ---------------------------------------------------------------- over the size of train


def scaling_points(
    sweep: Mapping[str, Any], rows: Iterable[Result], corpora: Sequence[Corpora]
) -> Iterator[ScalingPoint]:
    """The points of a sweep of ``use`` alone, up the ladder and by size; none of any other sweep."""
    if sweep["section"] != "corpora" or sweep["keys"] != [SIZE]:
        return
    used = {name: values[0] for name, values in sweep["entries"]}
    sizes = {text.corpus: text.bytes for text in corpora if text.split == "train"}
    members = [row for row in rows if row.corpus in used and row.family not in NOT_ON_THE_LADDER]
    members = [row for row in members if row.bits_per_byte is not None]
    members.sort(key=lambda row: (row.split, row.tokenizer, row.rank, row.model, sizes[row.corpus]))
    for row in members:
        assert row.bits_per_byte is not None, "filtered above"
        yield ScalingPoint(
            sweep=sweep["name"],
            split=row.split,
            tokenizer=row.tokenizer,
            model=row.model,
            title=row.title,
            rank=row.rank,
            use=used[row.corpus],
            bytes=sizes[row.corpus],
            flops=row.flops,
            bits_per_byte=row.bits_per_byte,
            bits_per_byte_low=row.bits_per_byte_low,
            bits_per_byte_high=row.bits_per_byte_high,
        )


def crossings(points: Sequence[ScalingPoint]) -> Iterator[Crossing]:
    """Each model and the next one up the ladder: where they change places; one line with no size where nowhere."""
    for (sweep, split), same in groups(points, "sweep", "split").items():
        curves = [(_name(one[0]), curve(one)) for one in groups(same, "tokenizer", "model").values()]
        for (lower, below), (upper, above) in pairwise(curves):
            if not (differences := _differences(below, above)):
                continue  # no size at which one of them is known to be better
            ahead = upper if differences[0][1] > 0 else lower
            for size in crossing_points(below, above) or [None]:
                yield Crossing(sweep=sweep, split=split, lower=lower, upper=upper, ahead=ahead, bytes=size)


def _name(point: ScalingPoint) -> str:
    return f"{point.tokenizer}/{point.model}"


def curve(points: Iterable[ScalingPoint]) -> Curve:
    """Points of one model -> (bytes, bits per byte)."""
    return [(point.bytes, point.bits_per_byte) for point in points]


def _differences(lower: Curve, upper: Curve) -> Curve:
    """(bytes, bits per byte of ``lower`` above ``upper``) at the sizes of both, unless both are infinite there."""
    others = dict(upper)
    pairs = [(size, bits, others[size]) for size, bits in lower if size in others]
    return [(size, bits - other) for size, bits, other in pairs if math.isfinite(bits) or math.isfinite(other)]


def crossing_points(lower: Curve, upper: Curve) -> list[float | None]:
    """Two curves over the same sizes -> the sizes at which they change places, straight lines in log size between."""
    sizes: list[float | None] = []
    for (left, before), (right, after) in pairwise(_differences(lower, upper)):
        if before * after < 0:
            fraction = 1.0 if math.isinf(before) else before / (before - after)
            sizes.append(math.exp(math.log(left) + fraction * (math.log(right) - math.log(left))))
        elif after == 0:
            sizes.append(float(right))
    return sizes
