"""What others printed, beside what came out here: one verdict each, and nothing left out.

    reproduced                within the stated tolerance
    better                    ours is lower, where lower is better
    differs                   neither
    impossible as published   what was printed cannot come of what was described
    not run                   no finished row of this run has the figure

Knows rows and the figures of a config; never a score file.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lmstages.results.schema import PublishedFigure, Result

WHERE = ("corpus", "tokenizer", "model", "split")


def set_beside(rows: Sequence[Result], published: Iterable[Mapping[str, Any]]) -> Iterator[PublishedFigure]:
    """Every figure with ours and a verdict, once for each row that it concerns."""
    for figure in published:
        concerned = [row for row in rows if _concerns(figure, row)]
        for row in concerned:
            ours = getattr(row, figure["measure"])
            facts = {**figure, "tokenizer": row.tokenizer}
            yield PublishedFigure(**facts, ours=ours, verdict=verdict(figure, ours))
        if not concerned:
            yield PublishedFigure(**figure, ours=None, verdict=verdict(figure, None))


def _concerns(figure: Mapping[str, Any], row: Result) -> bool:
    """A claim concerns no row; a figure that names no tokenizer those of all."""
    return figure["model"] is not None and all(figure[name] in (None, getattr(row, name)) for name in WHERE)


def verdict(figure: Mapping[str, Any], ours: float | None) -> str:
    """One of the five above; parameters are no better for being fewer."""
    if figure["impossible"]:
        return "impossible as published"
    if ours is None:
        return "not run"
    if abs(ours - figure["value"]) <= figure["tolerance"]:
        return "reproduced"
    return "better" if ours < figure["value"] and figure["measure"] != "parameters" else "differs"
