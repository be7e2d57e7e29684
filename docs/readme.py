"""Writes the tables and the picture of README.md from the ladder and from finished runs: ``make readme``.

Between ``<!-- name -->`` and ``<!-- /name -->`` stands what a command gave, so that no figure is typed. The runs are
``results/default`` and ``results/published``; the second is copied to the committed reference report.
"""

import json
import re
from pathlib import Path
from typing import Any

from lmstages.figures.ladder import ladder as ladder_plot
from lmstages.figures.rows import named
from lmstages.ladder import LADDER
from lmstages.report.shown import count, decimal, duration
from lmstages.report.tables import USUAL, table_markdown

README = Path("README.md")
GREY = "#808080"  # legible on a white page and on a black one


def ladder_table() -> str:
    """Every rung with what it adds, from its own docstring's first paragraph."""
    lines = ["| rung | what it adds to the one below | source |", "|---|---|---|"]
    for rung in LADDER:
        adds = " ".join((rung.__doc__ or "").split("\n\n")[0].split())
        lines.append(f"| `{rung.name}` | {adds} | {rung.source} |")
    return "\n".join(lines)


def results_table(comparison: dict[str, Any]) -> str:
    """The default run, a line a row."""
    lines = ["| corpus | tokens | model | bits/byte | excess | nats/char | perplexity | parameters | fit time |"]
    lines.append("|---|---|---|--:|--:|--:|--:|--:|--:|")
    for row in comparison["rows"]:
        shown = named(row) + ("" if row["class"] in USUAL else f", {row['class']}")
        figures = [decimal(row[key]) for key in ("bits_per_byte", "excess_bits_per_byte", "nats_per_character")]
        rest = [decimal(row["perplexity"], 2), count(row["parameters"]), duration(row["fit_seconds"])]
        lines.append(f"| {' | '.join([row['corpus'], row['tokenizer'], shown, *figures, *rest])} |")
    return "\n".join(lines)


def published_table(comparison: dict[str, Any]) -> str:
    """The second table of ``table.md``: what others printed, and ours."""
    return table_markdown(comparison).split("\n\n", 2)[2].strip()


def filled(text: str, name: str, content: str) -> str:
    """The README with ``content`` between the marks of ``name``."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    assert re.search(pattern, text, re.DOTALL), f"README.md has the marks of {name}"
    return re.sub(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL)


def loaded(run: str) -> dict[str, Any]:
    """The comparison of a finished run."""
    comparison: dict[str, Any] = json.loads(Path("results", run, "comparison.json").read_bytes())
    return comparison


def main() -> None:
    """Fill README.md and draw its picture."""
    default, published = loaded("default"), loaded("published")
    text = filled(README.read_text("utf-8"), "ladder", ladder_table())
    text = filled(text, "results", results_table(default))
    README.write_text(filled(text, "published", published_table(published)), "utf-8")
    rows = [row for row in default["rows"] if row["corpus"].startswith("fables")]
    drawing = ladder_plot(rows, default["corpora"]["fables"]["oracle"])
    assert drawing is not None, "the default run has rows"
    Path("docs/ladder.svg").write_text(drawing.svg().replace("currentColor", GREY), "utf-8")


if __name__ == "__main__":
    main()
