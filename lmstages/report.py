"""A comparison, told: as one page that needs nothing else, and as tables for Markdown, CSV and the terminal.

Everything that comes from a text or a config passes ``visible`` before it is shown anywhere, and each form
then escapes what would be a command in it: tags in HTML, pipes in Markdown, formulas in CSV.

Knows the content of ``comparison.json`` and nothing else: never a model, a text or a score file.
"""

import base64
import csv
import hashlib
import io
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from markupsafe import Markup

from lmstages import estimation, figures

Row = Mapping[str, Any]
Comparison = Mapping[str, Any]

DASH = "–"
MINUS = "−"
TERMINAL_WIDTH = 100
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode: control, format, surrogate, unassigned, separators


# What a reader may be shown


def visible(text: str) -> str:
    r"""Control, direction, zero-width and broken characters written out, as ``\x1b``; newline and tab stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if _is_unseen(character) else character for character in text)


def _is_unseen(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in UNSEEN


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _all_visible(content: Any) -> Any:
    """``visible`` for every text in a JSON value, keys included."""
    if isinstance(content, str):
        return visible(content)
    if isinstance(content, Mapping):
        return {_all_visible(key): _all_visible(value) for key, value in content.items()}
    return [_all_visible(each) for each in content] if isinstance(content, list | tuple) else content


# Numbers


def decimal(value: float | None, places: int = 3) -> str:
    """``1,234.500``; a dash for no number, powers of ten above a million."""
    if value is None:
        return DASH
    text = f"{value:,.{places}f}" if abs(value) < 1e6 else f"{value:.2e}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.removeprefix("-")


def count(value: float | None) -> str:
    """``812,345``, then ``1.24 M``, ``3.50 G``."""
    if value is None or value < 1e6:
        return DASH if value is None else f"{value:,.0f}"
    size, unit = next((size, unit) for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if value >= size)
    return f"{value / size:.2f} {unit}"


def duration(seconds: float | None) -> str:
    """``0.02 s``, ``12.3 s``, ``5 min 12 s``, ``3 h 05 min``."""
    if seconds is None or seconds < 59.95:
        return DASH if seconds is None else f"{seconds:.{1 if seconds >= 1 else 2}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def published(figure: Mapping[str, Any]) -> str:
    """``perplexity 11.95 in 003, ours 11.953: reproduced``."""
    measure = figure["measure"].replace("_", " ")
    return f"{measure} {value(figure)} in {figure['source']}, ours {value(figure, 'ours')}: {figure['verdict']}"


def value(figure: Mapping[str, Any], whose: str = "value") -> str:
    """What was printed, or ``ours``, in six digits; parameters whole, a dash for nothing."""
    number = figure[whose]
    if number is None:
        return DASH
    return f"{number:,.0f}" if figure["measure"] == "parameters" else f"{number:g}"


def what(figure: Mapping[str, Any]) -> str:
    """What was printed: the claim in words, or the measure and where it was taken."""
    if figure["claim"] is not None or figure["model"] is None:
        return str(figure["claim"])
    place = ", ".join(str(figure[key]) for key in ("model", "corpus", "split"))
    return f"{figure['measure'].replace('_', ' ')} of {place}"


# The page


@dataclass(frozen=True)
class Figure:
    """A drawing and the sentence under it."""

    svg: Markup
    sentence: str


@dataclass(frozen=True)
class Split:
    """One held-out text of a corpus: its rows, the best of them, the ladder."""

    name: str
    rows: Sequence[Row]
    best: Row | None
    top: float
    ladder: Figure | None


@dataclass(frozen=True)
class Step:
    """One model of the ladder with its rows, one per tokenizer; ``settings`` None where the rows differ in them."""

    first: Row
    rows: Sequence[Row]
    settings: Mapping[str, Any] | None


@dataclass(frozen=True)
class Chapter:
    """Everything the page says of one corpus."""

    name: str
    facts: Mapping[str, Any]
    splits: Sequence[Split]
    curves: Sequence[Figure]
    steps: Sequence[Step]


@dataclass(frozen=True)
class Sweep:
    """One swept entry: its drawing and its table."""

    name: str
    title: str
    keys: Sequence[str]
    rows: Sequence[Row]
    lowest: float | None
    drawn: Figure


def render(comparison: Comparison) -> str:
    """The whole page: no address, no network, the same bytes for the same comparison."""
    from jinja2 import Environment, StrictUndefined

    shown = _all_visible(comparison)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    numbers = {"decimal": decimal, "count": count, "duration": duration, "told": figures.told}
    environment.filters |= {**numbers, "pin": _pin, "what": what, "value": value}
    template = resources.files("lmstages").joinpath("report.html.jinja").read_text("utf-8")
    failed = [row for row in shown["rows"] if row["status"] != "ok"]
    page = environment.from_string(template)
    parts = {"chapters": _chapters(shown), "sweeps": list(map(_sweep, shown["sweeps"])), "printed": shown["published"]}
    parts["estimation"] = _estimation() if shown.get("estimation") else None
    return page.render(run=shown["run"], **parts, failed=failed, DASH=DASH, MINUS=MINUS)


@dataclass(frozen=True)
class Estimation:
    """The closing section: a figure, and how many parameters m variables of V outcomes have."""

    figure: Figure
    counts: Sequence[tuple[str, int, int, int, int, int]]


def _estimation() -> Estimation:
    """What is counted: two halves of a day, 10 variables of 10 outcomes, words of 8 letters."""
    shown = (("two activities in two halves of a day", 2, 2), ("ten digits", 10, 10), ("eight characters", 67, 8))
    counts = [
        (
            name,
            outcomes,
            variables,
            estimation.joint_parameters(outcomes, variables),
            estimation.conditional_parameters(outcomes, variables),
            estimation.independent_parameters(outcomes),
        )
        for name, outcomes, variables in shown
    ]
    return Estimation(Figure(_inline(figures.estimation_figures()), figures.estimation_sentence()), counts)


def _pin(inline: str) -> str:
    """The name by which a content security policy admits exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def _chapters(shown: Comparison) -> list[Chapter]:
    corpora = shown["corpora"]
    assert all(row["corpus"] in corpora for row in shown["rows"]), "every row's corpus is described"
    return [_chapter(name, facts, _rows_of(shown, corpus=name)) for name, facts in corpora.items()]


def _rows_of(shown: Comparison, **wanted: str) -> list[Row]:
    return [row for row in shown["rows"] if all(row[key] == value for key, value in wanted.items())]


def _chapter(name: str, facts: Mapping[str, Any], rows: Sequence[Row]) -> Chapter:
    splits = _grouped(rows, lambda row: row["split"])
    firsts = next(iter(splits.values()), [])
    tokenizers = _grouped(firsts, lambda row: row["tokenizer"])
    models = _grouped(rows, lambda row: (row["rank"], row["model"]))
    return Chapter(
        name,
        facts,
        [_split(split, each, facts["oracle"]) for split, each in splits.items()],
        [figure for each in tokenizers.values() if (figure := _curves(each))],
        [_step(models[place]) for place in sorted(models)],
    )


def _grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _split(name: str, rows: Sequence[Row], oracle: figures.Oracle) -> Split:
    svg = figures.ladder_plot(rows, oracle)
    ladder = Figure(_inline(svg), figures.ladder_sentence(rows, oracle)) if svg else None
    top = max((row["bits_per_byte"] for row in rows if row["bits_per_byte"] is not None), default=1.0)
    return Split(name, rows, best_of(rows), top or 1.0, ladder)


def _curves(rows: Sequence[Row]) -> Figure | None:
    svg = figures.learning_curves(rows)
    return Figure(_inline(svg), figures.curves_sentence(rows)) if svg else None


def _step(rows: Sequence[Row]) -> Step:
    rows = [row for row in rows if row["split"] == rows[0]["split"]]
    settings = rows[0]["hyperparameters"]
    return Step(rows[0], rows, settings if all(row["hyperparameters"] == settings for row in rows) else None)


def _sweep(sweep: Mapping[str, Any]) -> Sweep:
    lowest = min((row["bits_per_byte"] for row in sweep["rows"] if row["bits_per_byte"] is not None), default=None)
    drawn = Figure(_inline(figures.sweep_plot(sweep)), figures.sweep_sentence(sweep))
    return Sweep(sweep["name"], figures.sweep_title(sweep), sweep["keys"], sweep["rows"], lowest, drawn)


def _inline(svg: str) -> Markup:
    """A drawing inside a page needs no namespace, and so no address."""
    return Markup(svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1))  # noqa: S704 - made and escaped by figures


def best_of(rows: Iterable[Row]) -> Row | None:
    """The static row with the fewest bits per byte; the oracle does not compete."""
    running = [row for row in figures.scored(rows) if row["class"] == "static"]
    return min(running, key=lambda row: row["bits_per_byte"], default=None)


# The tables

Cell = Callable[[Row], str]
TABLE: dict[str, Cell] = {
    "tokenizer": lambda row: row["tokenizer"],
    "model": lambda row: _named(row),
    "perplexity": lambda row: decimal(row["perplexity"], 2),
    "nats/char": lambda row: decimal(row["nats_per_character"]),
    "bits/byte": lambda row: decimal(row["bits_per_byte"]),
    "excess": lambda row: decimal(row["excess_bits_per_byte"]),
    "parameters": lambda row: count(row["parameters"]),
}
WORDS = ("corpus", "split", "tokenizer", "model", "published")  # columns of a table that hold no numbers


def _named(row: Row) -> str:
    """The model as the tables call it: how it came by its figure stands behind it, where that is not the usual way."""
    return figures.named(row) + ("" if row["class"] in ("static", "oracle") else f" [{row['class']}]")


def table_markdown(comparison: Comparison) -> str:
    """All rows for a README, then what others printed; without timings, so that it changes only when a figure does."""
    columns: dict[str, Cell] = {"corpus": lambda row: row["corpus"], "split": lambda row: row["split"]}
    columns |= TABLE | {"published": lambda row: "; ".join(published(each) for each in row["published"])}
    best = {id(row) for group in _texts(comparison) if (row := best_of(group))}
    lines = [columns, ["---" if name in WORDS else "--:" for name in columns]]
    for row in comparison["rows"]:
        cells = [_markdown_cell(cell(row)) for cell in columns.values()]
        if row["status"] != "ok":
            cells[-1] = _markdown_cell(row["status"])
        at = list(columns).index("bits/byte")
        cells[at] = f"**{cells[at]}**" if id(row) in best else cells[at]
        lines.append(cells)
    printed = comparison["published"]
    return _markdown(lines) + (f"\nPublished against reproduced:\n\n{published_markdown(printed)}" if printed else "")


def published_markdown(printed: Iterable[Mapping[str, Any]]) -> str:
    """What others printed, beside ours."""
    lines = [["what", "set-up", "published", "ours", "verdict", "why"], ["---", "---", "--:", "--:", "---", "---"]]
    for figure in printed:
        numbers = [f"{value(figure)} ({figure['source']})", value(figure, "ours")]
        told = [what(figure), figure["setup"] or DASH, *numbers, figure["verdict"], figure["because"] or DASH]
        lines.append(list(map(_markdown_cell, told)))
    return _markdown(lines)


def _markdown(lines: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown_cell(text: str) -> str:
    """Text that is nothing but text inside a Markdown table."""
    flat = " ".join(visible(text).split())
    for command in "\\|`*[]<":
        flat = flat.replace(command, "\\" + command)
    return flat


def _texts(comparison: Comparison) -> list[list[Row]]:
    """The rows of each held-out text: those that may be compared with each other."""
    return list(_grouped(comparison["rows"], lambda row: (row["corpus"], row["split"])).values())


PLAIN = (
    *(
        "corpus",
        "split",
        "tokenizer",
        "model",
        "rung",
        "rank",
        "title",
        "family",
        "class",
        "protocol",
        "seeds",
        "status",
    ),
    *("tokens", "characters", "bytes", "perplexity", "nats_per_character", "bits_per_byte", "bits_per_byte_std"),
    *("excess_bits_per_byte", "parameters", "tokens_seen", "published", "device", "threads"),
)
TIMINGS = ("fit_seconds", "score_seconds")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def table_csv(comparison: Comparison) -> str:
    """All rows with all digits; timings, which differ from run to run, in the last columns."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*PLAIN, *TIMINGS])
    for row in comparison["rows"]:
        joined = {"seeds": " ".join(map(str, row["seeds"])), "published": "; ".join(map(published, row["published"]))}
        writer.writerow([_csv_cell((row | joined)[key]) for key in (*PLAIN, *TIMINGS)])
    return out.getvalue()


def sweep_files(comparison: Comparison) -> dict[str, str]:
    """A table and a drawing for every sweep, by their paths below the run's folder."""
    shown = _all_visible(comparison["sweeps"])
    tables = {f"sweeps/{sweep['name']}.csv": sweep_csv(sweep) for sweep in shown}
    return tables | {f"sweeps/{sweep['name']}.svg": figures.sweep_plot(sweep) or NOTHING for sweep in shown}


NOTHING = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>\n'


def sweep_csv(sweep: Mapping[str, Any]) -> str:
    """The rows of one sweep with all digits, the swept keys first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [*sweep["keys"], *(key for key in sweep["rows"][0] if key not in sweep["keys"])] if sweep["rows"] else []
    writer.writerow(columns or sweep["keys"])
    for row in sweep["rows"]:
        keys = {key: row[key] if isinstance(row[key], int | float) else figures.told(row[key]) for key in sweep["keys"]}
        writer.writerow([_csv_cell((row | keys)[key]) for key in columns])
    return out.getvalue()


def _csv_cell(value: Any) -> Any:
    """Numbers as they are; text that a spreadsheet would run gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(FORMULA) else "") + visible(value)


def table_terminal(comparison: Comparison) -> str:
    """One narrow table for each held-out text, then a line for each model that failed; no colours, no commands."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=TERMINAL_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    for rows in _texts(comparison):
        console.print(_terminal_table(rows), soft_wrap=False)
        for row in rows:
            if row["status"] != "ok":
                reason = f"{row['tokenizer']}, {row['model']}: {row['status']}"
                console.print(visible(reason), markup=False, emoji=False, highlight=False)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _terminal_table(rows: Sequence[Row]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text(visible(f"{rows[0]['corpus']}, {rows[0]['split']}"), style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    columns = TABLE | {"fit time": lambda row: duration(row["fit_seconds"])}
    for name in columns:
        words = name in WORDS
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    best = best_of(rows)
    for row in rows:
        cells = [Text(visible(cell(row)).replace("\n", " ")) for cell in columns.values()]
        cells[1].append(" *" if row is best else "")
        table.add_row(*cells)
    table.caption = Text("* best static model") if best else None
    table.caption_justify = "left"
    return table
