"""What others printed, beside what came out here: one verdict each, and nothing left out.

    reproduced                within the stated tolerance
    better                    ours is lower, where lower is better
    differs                   neither
    impossible as published   what was printed cannot come of what was described
    not run                   no finished cell of this run has the figure

Knows rows of a comparison and the figures of a config; never a score file.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
PLACE = ("corpus", "tokenizer", "model", "split")


def set_beside(rows: Sequence[Row], published: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Every figure with ours and a verdict, once for each row it concerns; the row gets it too."""
    for row in rows:
        row["published"] = []
    told: list[Row] = []
    for figure in published:
        judged = {place: _judged(figure, row) for place, row in enumerate(rows) if _concerns(figure, row)}
        for place, each in judged.items():
            rows[place]["published"].append(each)
        told += judged.values() or [{**figure, "ours": None, "verdict": verdict(figure, None)}]
    return told


def _judged(figure: Mapping[str, Any], row: Row) -> Row:
    ours = row[figure["measure"]]
    return {**figure, "tokenizer": row["tokenizer"], "ours": ours, "verdict": verdict(figure, ours)}


def _concerns(figure: Mapping[str, Any], row: Row) -> bool:
    """A claim concerns no row; a figure that names no tokenizer those of all."""
    return figure["model"] is not None and all(figure[key] in (None, row[key]) for key in PLACE)


def verdict(figure: Mapping[str, Any], ours: float | None) -> str:
    """One of the five above; parameters are no better for being fewer."""
    if figure["impossible"]:
        return "impossible as published"
    if ours is None:
        return "not run"
    if abs(ours - figure["value"]) <= figure["tolerance"]:
        return "reproduced"
    return "better" if ours < figure["value"] and figure["measure"] != "parameters" else "differs"
