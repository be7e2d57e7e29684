"""Learning curves: what more text and more computation buy, and where each model overtakes the next.

A sweep of ``use`` on a corpus gives every model a row at every share of the same train text, scored on the same test
text. Between two sizes a model's bits per byte are taken to be a straight line in the logarithm of the size; where the
lines of two models cross, one overtakes the other.

Knows rows of a comparison, as dictionaries; never a model or a text.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lmstages.figures.drawing import Drawing, frame, logarithmic, look, panels, settings

Row = Mapping[str, Any]
Curve = list[tuple[float, float]]  # (size, bits per byte), by size
KEY = "use"


def learning_curves(comparison: Row) -> list[dict[str, Any]]:
    """Every sweep of ``use`` alone -> {corpus, sizes, models [{tokenizer, model, title, rank, points}], crossings}.

    A point is {use, bytes, flops, bits_per_byte, interval}: of train text, and of the fit where they were counted.
    """
    found = []
    for sweep in comparison["sweeps"]:
        if sweep["section"] == "corpora" and sweep["keys"] == [KEY]:
            models = _models(comparison, {row["corpus"]: row[KEY] for row in sweep["rows"]})
            sizes = sorted({point["bytes"] for model in models for point in model["points"]})
            told = {"corpus": sweep["name"], "sizes": sizes, "models": models}
            found.append(told | {"crossings": crossings(models, "bytes")})
    return found


def _models(comparison: Row, shares: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rows of the swept corpora -> one entry a model, up the ladder, its points by size."""
    entries: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in comparison["rows"]:
        if row["corpus"] not in shares or row["family"] in ("oracle", "compressor") or row["bits_per_byte"] is None:
            continue
        named = {key: row[key] for key in ("tokenizer", "model", "split", "title", "rank")}
        entry = entries.setdefault((row["tokenizer"], row["model"], row["split"]), {**named, "points": []})
        size = comparison["corpora"][row["corpus"]]["splits"]["train"]["bytes"]
        point = {"use": shares[row["corpus"]], "bytes": size, "flops": row.get("flops")}
        entry["points"].append({**point, "bits_per_byte": row["bits_per_byte"], "interval": row.get("interval")})
    models = sorted(entries.values(), key=lambda entry: (entry["split"], entry["tokenizer"], entry["rank"]))
    for entry in models:
        entry["points"].sort(key=lambda point: point["bytes"])
    return models


def crossings(models: Sequence[Row], axis: str) -> list[dict[str, Any]]:
    """Each model and the next one up the ladder -> {lower, upper, ahead with the least text, at: sizes of a change}."""
    found = []
    for split in dict.fromkeys(model["split"] for model in models):
        same = [model for model in models if model["split"] == split]
        for lower, upper in pairwise(same):
            one, other = (curve(model["points"], axis) for model in (lower, upper))
            if one and other:
                at, ahead = crossing_points(one, other), upper if other[0][1] < one[0][1] else lower
                names = {"lower": _name(lower), "upper": _name(upper), "split": split}
                found.append({**names, "ahead": _name(ahead), "at": at})
    return found


def _name(model: Row) -> str:
    return f"{model['tokenizer']}/{model['model']}"


def curve(points: Iterable[Row], axis: str) -> Curve:
    """Points -> (size, bits per byte) of those that have both."""
    return [(point[axis], point["bits_per_byte"]) for point in points if point[axis]]


def crossing_points(one: Curve, other: Curve) -> list[float]:
    """Two curves over the same sizes -> the sizes at which they change places, straight lines in log size between."""
    theirs = dict(other)
    both = [(size, bits - theirs[size]) for size, bits in one if size in theirs]
    found = []
    for (left, before), (right, after) in pairwise(both):
        if before * after < 0:
            share = before / (before - after)
            found.append(math.exp(math.log(left) + share * (math.log(right) - math.log(left))))
        elif after == 0:
            found.append(float(right))
    return found


# ---------------------------------------------------------------- as figure and table

AXES = {"bytes": "bytes of train text", "flops": "floating-point operations of the fit"}


def drawn(curves: Row) -> Drawing:
    """Bits per byte over train text, and over the computation of the fits that have it counted."""
    title = f"{curves['corpus']}: what more text and more computation buy"
    with settings():
        figure = panels(9.6, 3.8)
        several = figure.subplots(1, 2, sharey=True)
        for axes, axis in zip(several, AXES, strict=True):
            frame(axes, f"over {AXES[axis]}")
            for place, model in enumerate(curves["models"]):
                points = [point for point in model["points"] if point[axis]]
                if points:
                    bits = [point["bits_per_byte"] for point in points]
                    axes.plot([point[axis] for point in points], bits, label=model["title"], **look(place))
            logarithmic(axes.xaxis)
            axes.set_xlabel(AXES[axis])
        several[0].set_ylabel("bits per byte of test text (lower is better)")
        several[0].legend(loc="best")
        return Drawing(title, sentence(curves), figure)


def sentence(curves: Row) -> str:
    """What to see, with its own numbers."""
    crossed = [each for each in curves["crossings"] if each["at"]]
    changes = [f"{each['upper']} and {each['lower']} at {_sizes(each['at'])}" for each in crossed]
    told = "; ".join(changes) or "nobody overtakes the next within these sizes"
    return f"The same test text, more and more train text. Where lines cross, one model overtakes the other: {told}."


def _sizes(at: Sequence[float]) -> str:
    return ", ".join(f"{size:,.0f} bytes" for size in at)


def table(curves: Row) -> str:
    """Markdown: every model at every size, then where each overtakes the next one up the ladder."""
    sizes = curves["sizes"]
    lines = ["| model | " + " | ".join(f"{size:,} bytes" for size in sizes) + " |", "|---|" + "--:|" * len(sizes)]
    for model in curves["models"]:
        bits = {point["bytes"]: f"{point['bits_per_byte']:.3f}" for point in model["points"]}
        lines.append(f"| {_name(model)} | " + " | ".join(bits.get(size, "–") for size in sizes) + " |")
    lines += ["", "| between | ahead with the least text | the lead changes at |", "|---|---|---|"]
    for each in curves["crossings"]:
        lines.append(f"| {each['lower']}, {each['upper']} | {each['ahead']} | {_sizes(each['at']) or 'nowhere'} |")
    return "\n".join(lines) + "\n"
