"""Sweeps: the same entry of a config with one or two of its keys at several values."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmstages.figures.drawing import Drawing, canvas, draw_line, settings
from lmstages.figures.rows import Row, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def swept(sweep: Mapping[str, Any]) -> Drawing | None:
    """A sweep -> bits per byte over its first key, a line for all else that varies; None for no number."""
    rows = [row for row in sweep["rows"] if row["bits_per_byte"] is not None]
    if not rows:
        return None
    key = sweep["keys"][0]
    values = list({told(row[key]): row[key] for row in rows}.values())
    with settings():
        figure, axes = canvas(6.4, 3.6, title(sweep))
        places = _value_axis(axes, values)
        lines = _lines(sweep, rows)
        for place, (label, line) in enumerate(lines.items()):
            draw_line(axes, place, label, [(places[told(row[key])], row) for row in line])
        axes.set_xlabel(key.replace("_", " "))
        axes.set_ylabel("bits per byte of text (lower is better)")
        axes.margins(x=0.06, y=0.12)
        if len(lines) > 1:
            axes.legend(loc="best")
        return Drawing(title(sweep), sentence(sweep), figure)


def title(sweep: Mapping[str, Any]) -> str:
    """What stands above a sweep."""
    keys = " and ".join(key.replace("_", " ") for key in sweep["keys"])
    return f"{sweep['name']}: bits per byte over {keys}"


def sentence(sweep: Mapping[str, Any]) -> str:
    """What to see in a sweep, with its own numbers."""
    rows = [row for row in sweep["rows"] if row["bits_per_byte"] is not None]
    if not rows:
        return "No cell of this sweep could be fitted."
    best = min(rows, key=lambda row: row["bits_per_byte"])
    where = " and ".join(f"{key.replace('_', ' ')} {told(best[key])}" for key in sweep["keys"])
    text = ", ".join(best[key] for key in ("corpus", "tokenizer", "split"))
    ends = "" if len(rows) < 2 else f", the highest is {max(row['bits_per_byte'] for row in rows):.3f}"
    return (
        f"The same model, one thing changed at a time: the lowest point is {best['bits_per_byte']:.3f} at {where} "
        f"({text}){ends}. The vertical axis begins near the lowest point, not at zero."
    )


def _lines(sweep: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by everything that varies besides the first key; the swept entry itself varies with the keys."""
    swept = {"corpora": "corpus", "tokenizers": "tokenizer", "models": "model"}[sweep["section"]]
    others = [key for key in ("corpus", "split", "tokenizer", "model") if key != swept]
    varying = [key for key in others if len({row[key] for row in rows}) > 1]
    lines: dict[str, list[Row]] = {}
    for row in rows:
        parts = [row[key] for key in varying]
        parts += [f"{key.replace('_', ' ')} {told(row[key])}" for key in sweep["keys"][1:]]
        lines.setdefault(", ".join(parts), []).append(row)
    return lines


def _value_axis(axes: "Axes", values: Sequence[Any]) -> dict[str, float]:
    """Where each value stands: numbers by size, as powers where they span more than a decade; words side by side."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        if min(values) > 0 and max(values) > 10 * min(values):
            axes.set_xscale("log")
        places = {told(value): float(value) for value in values}
    else:
        places = {told(value): float(place) for place, value in enumerate(values)}
    axes.set_xticks(list(places.values()), list(places))
    axes.set_xticks([], minor=True)
    return places
