"""Writes the tables and the picture of the pages from the ladder and from finished runs: ``make readme``.

Between ``<!-- name -->`` and ``<!-- /name -->`` stands what a command gave, so that no figure is typed. The runs are
``default``, ``strongest``, ``quantized`` and ``published`` below ``results/``; the last is copied to the committed
reference report. A table of a run that has not been made here stays as it is.
"""

import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

import lmstages
from lmstages.cli import INTERRUPTED
from lmstages.config.ladder import LADDER
from lmstages.config.reading import read_run
from lmstages.core.errors import UserError
from lmstages.core.files import atomic_write
from lmstages.report.display import qualified_name
from lmstages.report.tables import markdown, published_markdown
from lmstages.results.formatting import count, decimal, duration, markdown_cell
from lmstages.results.frame import Results, groups
from lmstages.results.schema import NOT_ON_THE_LADDER, Difference, Result

README, RESULTS = Path("README.md"), Path("docs", "results.md")  # the pages with tables that a run gives
PUBLISHED = Path("docs", "published.md")
DEFAULT = Path(lmstages.__file__).parents[1] / "config.yaml"
GREY = "#808080"  # legible on a white page and on a black one
LARGEST = "fables"  # the corpus whose parameters and fit times are shown


def table(frame: pd.DataFrame, texts: Sequence[str] = ("model", "95 % interval")) -> str:
    """A frame of texts as a Markdown table, ``texts`` aligned to the left."""
    return markdown(frame.map(markdown_cell), texts).rstrip()


def ladder_table() -> str:
    """Every model of the default run with what it adds, from the first paragraph of its record's docstring."""
    lines = ["| model | what it adds to the one below | source |", "|---|---|---|"]
    here = {model.config.name for model in read_run(DEFAULT).models.values()}
    for config in LADDER:
        if config.name in here:
            adds = " ".join((config.__doc__ or "").split("\n\n")[0].split())
            lines.append(f"| `{config.name}` | {adds} | {config.source} |")
    others = ", ".join(f"`{config.name}`" for config in LADDER if config.name not in here)
    return "\n".join([*lines, "", f"In other runs, with all formulas in [models](docs/models.md): {others}."])


def results_table(results: Results) -> str:
    """The default run: a line a model, a column a corpus; parameters and fit time are those of the largest corpus.

    Of the compressors those that have seen train, as the models have.
    """
    corpora = list(dict.fromkeys(row.corpus for row in results.rows))
    shown = [row for row in results.rows if row.category != "compressor" or row.model.endswith("_train")]
    models = sorted(groups(shown, "type", "model").values(), key=lambda rows: _order(rows[0]))
    lines = []
    for rows in models:
        by_corpus = {row.corpus: row for row in rows}
        row = by_corpus.get(LARGEST, rows[0])
        scores = {corpus: _bits(by_corpus[corpus]) if corpus in by_corpus else "" for corpus in corpora}
        cost = {"parameters": count(row.parameters), "fit time": duration(row.fit_seconds)}
        lines.append({"model": qualified_name(row), **scores, **cost})
    return table(pd.DataFrame(lines), ("model", *corpora))


def _order(row: Result) -> tuple[bool, int, str]:
    """Up the ladder, and then what stands beside it."""
    return row.family in NOT_ON_THE_LADDER, row.rank, row.model


def _bits(row: Result) -> str:
    """``0.902 (0.896 to 0.908)``."""
    bounds = _bounds(row.bits_per_byte_low, row.bits_per_byte_high)
    return decimal(row.bits_per_byte) + (f" ({bounds})" if bounds else "")


def _bounds(low: float | None, high: float | None, places: int = 3) -> str:
    return "" if low is None else f"{decimal(low, places)} to {decimal(high, places)}"


def strongest_table(results: Results) -> str:
    """The run ``strongest``, a line a row, with intervals."""
    lines = [
        {
            "model": qualified_name(row),
            "nats/char": decimal(row.nats_per_character),
            "95 % interval": _bounds(row.nats_per_character_low, row.nats_per_character_high),
            "bits/byte": decimal(row.bits_per_byte),
            "parameters": count(row.parameters),
        }
        for row in results.rows
    ]
    return table(pd.DataFrame(lines))


def quantized_table(results: Results, base: str = "llama") -> str:
    """The run ``quantized``: size, and the paired difference from the model that was quantized, per character."""
    tested = {frozenset((pair.a_model, pair.b_model)): pair for pair in results.records("differences")}
    lines = [_quantized(row, tested.get(frozenset((row.model, base)))) for row in results.rows]
    return table(pd.DataFrame(lines))


def _quantized(row: Result, pair: Difference | None) -> dict[str, str]:
    weights = 32.0 if row.bits_per_weight is None else row.bits_per_weight
    line = {"model": qualified_name(row), "bits/weight": decimal(weights, 2)}
    line["nats/char"] = decimal(row.nats_per_character, 4)
    line |= dict.fromkeys(("less LLaMA", "95 % interval", "KL", "top-1"), "")
    if pair is not None and row.made_of is not None:
        line |= _cost(row, pair)
    assert row.tokens is not None and row.score_seconds is not None, "every row of this run was scored"
    speed = row.tokens / row.score_seconds if row.tokens_per_second is None else row.tokens_per_second
    return {**line, "tokens/s": decimal(speed, 0)}


def _cost(row: Result, pair: Difference) -> dict[str, str]:
    """Positive where it is worse than LLaMA; bits per byte become nats per character."""
    assert row.bytes is not None and row.characters is not None, "a compared row was scored"
    assert row.top1_agreement is not None, "a quantized row was compared with the model that it was made of"
    sign = 1 if pair.a_model == row.model else -1
    nats = sign * math.log(2) * row.bytes / row.characters
    low, high = sorted((nats * pair.low, nats * pair.high))
    return {
        "less LLaMA": decimal(nats * pair.difference, 4),
        "95 % interval": _bounds(low, high, 4),
        "KL": decimal(row.divergence, 5),
        "top-1": f"{100 * row.top1_agreement:.1f} %",
    }


def published_table(results: Results) -> str:
    """What others printed, and ours."""
    return published_markdown(results.records("published")).rstrip()


def filled(text: str, name: str, content: str) -> str:
    """A page with ``content`` between the marks of ``name``."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    assert re.search(pattern, text, re.DOTALL), f"a page has no marks of {name}"
    return re.sub(pattern, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL)


def opened(run: str) -> Results | None:
    """A finished run; None where it has not been made here."""
    folder = Path("results", run)
    return Results.open(folder) if (folder / "results.parquet").is_file() else None


def copy_ladder(results: Results) -> None:
    """The picture of README.md: the ladder of the largest corpus, as it was drawn for the report."""
    svg = (results.folder / "figures" / "ladder" / f"{LARGEST}.test.svg").read_text("utf-8")
    save(Path("docs/ladder.svg"), svg.replace("currentColor", GREY))


TABLES: dict[str, tuple[Path, str, Callable[[Results], str]]] = {  # by the name of the marks: page, run, writer
    "results": (README, "default", results_table),
    "strongest": (RESULTS, "strongest", strongest_table),
    "quantized": (RESULTS, "quantized", quantized_table),
    "published": (PUBLISHED, "published", published_table),
}


def fill(page: Path, name: str, content: str) -> None:
    """Write ``content`` between the marks of ``name`` of a page."""
    save(page, filled(page.read_text("utf-8"), name, content))


def save(path: Path, text: str) -> None:
    """The whole page or none of it, so that the marks of a page stay where a call is killed."""
    with atomic_write(path) as file:
        file.write(text.encode())


def main() -> None:
    """Fill the pages and copy the picture."""
    fill(README, "ladder", ladder_table())
    for name, (page, run, write) in TABLES.items():
        if (results := opened(run)) is not None:
            fill(page, name, write(results))
    if (default := opened("default")) is not None:
        copy_ladder(default)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"lmstages: error: {error}")
    except KeyboardInterrupt:
        print("lmstages: interrupted; the same command starts again", file=sys.stderr)
        sys.exit(INTERRUPTED)
