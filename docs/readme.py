"""Writes the tables and the picture of README.md from the ladder and from finished runs: ``make readme``.

Between ``<!-- name -->`` and ``<!-- /name -->`` stands what a command gave, so that no figure is typed. The runs are
``default``, ``strongest``, ``quantized`` and ``published`` below ``results/``; the last is copied to the committed
reference report.
What a run that is not there would give stays as it is.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

from lmstages.report.shown import count, decimal, duration

from lmstages.config.ladder import LADDER
from lmstages.figures.ladder import ladder as ladder_plot
from lmstages.figures.rows import BESIDES, grouped, named
from lmstages.report.tables import USUAL, table_markdown

README = Path("README.md")
GREY = "#808080"  # legible on a white page and on a black one


def ladder_table() -> str:
    """Every model with what it adds, from its own docstring's first paragraph."""
    lines = ["| model | what it adds to the one below | source |", "|---|---|---|"]
    for config in LADDER:
        adds = " ".join((config.__doc__ or "").split("\n\n")[0].split())
        lines.append(f"| `{config.name}` | {adds} | {config.source} |")
    return "\n".join(lines)


def results_table(comparison: dict[str, Any], largest: str = "fables") -> str:
    """The default run: a line a model, a column a corpus; parameters and fit time are those of ``largest``."""
    corpora = list(comparison["corpora"])
    lines = [f"| model | {' | '.join(corpora)} | parameters | fit time |", f"|---|{'---|' * len(corpora)}--:|--:|"]
    several = grouped(comparison["rows"], lambda row: named(row) + _class(row))
    for shown, rows in sorted(several.items(), key=lambda item: _place(item[1][0])):
        found = {row["corpus"]: row for row in rows}
        cells = [_bits(found[corpus]) if corpus in found else "" for corpus in corpora]
        size = found.get(largest, rows[0])
        lines.append(f"| {' | '.join([shown, *cells, count(size['parameters']), duration(size['fit_seconds'])])} |")
    return "\n".join(lines)


def _place(row: dict[str, Any]) -> tuple[bool, int]:
    """Up the ladder, and then what stands beside it."""
    return row["family"] in BESIDES, row["rank"]


def _class(row: dict[str, Any]) -> str:
    """Told where it is not the usual one."""
    return "" if row["category"] in USUAL else f", {row['class']}"


def _bits(row: dict[str, Any]) -> str:
    """0.902 (0.896 to 0.908)."""
    interval = " to ".join(decimal(end) for end in row["interval"] or ())
    return decimal(row["bits_per_byte"]) + (f" ({interval})" if interval else "")


def strongest_table(comparison: dict[str, Any]) -> str:
    """The run ``strongest``, a line a row, with intervals."""
    lines = ["| model | nats/char | 95 % interval | bits/byte | parameters |", "|---|--:|---|--:|--:|"]
    for row in comparison["rows"]:
        shown = named(row) + _class(row)
        interval = " to ".join(decimal(end) for end in row["nats_per_character_interval"])
        figures = [decimal(row["nats_per_character"]), interval, decimal(row["bits_per_byte"])]
        lines.append(f"| {' | '.join([shown, *figures, count(row['parameters'])])} |")
    return "\n".join(lines)


def quantized_table(comparison: dict[str, Any]) -> str:
    """The run ``quantized``: size, and what it costs against the row it is made of, paired, per character."""
    lines = ["| model | bits/weight | nats/char | less LLaMA | 95 % interval | KL | top-1 | tokens/s |"]
    lines.append("|---|--:|--:|--:|---|--:|--:|--:|")
    tested = {frozenset((each["a"]["model"], each["b"]["model"])): each for each in comparison["differences"]}
    for row in comparison["rows"]:
        size, cost = row["quantization"], tested.get(frozenset((row["model"], "llama")))
        start = [named(row), decimal(size["bits_per_weight"] if size else 32, 2), decimal(row["nats_per_character"], 4)]
        rest = _cost(row, cost) if size and cost else ["", "", "", "", decimal(row["tokens"] / row["score_seconds"], 0)]
        lines.append(f"| {' | '.join([*start, *rest])} |")
    return "\n".join(lines)


def _cost(row: dict[str, Any], cost: dict[str, Any]) -> list[str]:
    """Positive where it is worse than LLaMA; bits per byte become nats per character."""
    size, sign = row["quantization"], 1 if cost["a"]["model"] == row["model"] else -1
    nats = sign * math.log(2) * row["bytes"] / row["characters"]
    ends = " to ".join(decimal(nats * end, 4) for end in cost["interval"][::sign])
    shares = [decimal(size["kl"], 5), f"{100 * size['top1']:.1f} %", decimal(size["tokens_per_second"], 0)]
    return [decimal(nats * cost["difference"], 4), ends, *shares]


def published_table(comparison: dict[str, Any]) -> str:
    """The second table of ``table.md``: what others printed, and ours."""
    return table_markdown(comparison).split("\n\n", 2)[2].strip()


def filled(text: str, name: str, content: str) -> str:
    """The README with ``content`` between the marks of ``name``."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    assert re.search(pattern, text, re.DOTALL), f"README.md has the marks of {name}"
    return re.sub(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL)


def loaded(run: str) -> dict[str, Any] | None:
    """The comparison of a finished run; None where it has not been made here."""
    path = Path("results", run, "comparison.json")
    return json.loads(path.read_bytes()) if path.exists() else None


def draw(default: dict[str, Any]) -> None:
    """The picture of README.md: the ladder of the fables."""
    rows = [row for row in default["rows"] if row["corpus"].startswith("fables")]
    drawing = ladder_plot(rows, default["corpora"]["fables"]["oracle"])
    assert drawing is not None, "the default run has rows"
    Path("docs/ladder.svg").write_text(drawing.svg().replace("currentColor", GREY), "utf-8")


TABLES = {
    "results": ("default", results_table),
    "strongest": ("strongest", strongest_table),
    "quantized": ("quantized", quantized_table),
    "published": ("published", published_table),
}


def main() -> None:
    """Fill README.md and draw its picture."""
    text = filled(README.read_text("utf-8"), "ladder", ladder_table())
    for name, (run, table) in TABLES.items():
        if (comparison := loaded(run)) is not None:
            text = filled(text, name, table(comparison))
    README.write_text(text, "utf-8")
    if (default := loaded("default")) is not None:
        draw(default)


if __name__ == "__main__":
    main()
