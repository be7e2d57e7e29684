"""Every figure of a comparison by the path under which it is filed: ``ladder/fables.test``, ``sweeps/mlp``."""

from collections.abc import Iterator, Mapping
from typing import Any

from lmstages.figures import inspected, ladder, learning, likelihood, sweeps
from lmstages.figures.drawing import Drawing
from lmstages.figures.rows import grouped

KINDS = ("svg", "png", "pdf")


def drawings(shown: Mapping[str, Any]) -> dict[str, Drawing]:
    """A comparison whose texts are fit to be shown -> its figures, in the order of the page."""
    found = dict(_of_texts(shown))
    found |= dict(_of_models(shown))
    found |= {f"sweeps/{sweep['name']}": drawn for sweep in shown["sweeps"] if (drawn := sweeps.swept(sweep))}
    return found | ({"estimation/likelihoods": likelihood.likelihoods()} if shown.get("estimation") else {})


def _of_texts(shown: Mapping[str, Any]) -> Iterator[tuple[str, Drawing]]:
    """Those of each held-out text, and how its models learned, once for a corpus and tokenizer."""
    learned = set[str]()
    for (corpus, split), rows in grouped(shown["rows"], lambda row: (row["corpus"], row["split"])).items():
        oracle = shown["corpora"][corpus]["oracle"]
        if drawn := ladder.ladder(rows, oracle):
            yield f"ladder/{corpus}.{split}", drawn
        for cost, drawn in ladder.fronts(rows, oracle).items():
            yield f"fronts/{corpus}.{split}.{cost}", drawn
        if drawn := learning.by_position(rows):
            yield f"position/{corpus}.{split}", drawn
        for tokenizer, same in grouped(rows, lambda row: row["tokenizer"]).items():
            if (name := f"learning/{corpus}.{tokenizer}") not in learned and (drawn := learning.curves(same)):
                learned.add(name)
                yield name, drawn


def _of_models(shown: Mapping[str, Any]) -> Iterator[tuple[str, Drawing]]:
    """What was laid open, once for every corpus, tokenizer and model."""
    place = ("corpus", "tokenizer", "model")
    for names, rows in grouped(shown["rows"], lambda row: tuple(row[key] for key in place)).items():
        if found := shown.get("inspections", {}).get("/".join(names[:2])):
            yield from (
                (f"inspected/{'.'.join(names)}.{name}", drawn) for name, drawn in inspected.inspected(rows[0], found)
            )


def files(shown: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Every figure three times, one after the other: SVG, PNG, PDF."""
    for name, drawn in drawings(shown).items():
        for kind, content in zip(KINDS, (drawn.svg().encode(), drawn.png(), drawn.pdf()), strict=True):
            yield f"{name}.{kind}", content
