"""The comparison as tables to paste: Markdown, LaTeX, CSV, and lines for the terminal.

Knows the content of ``comparison.json`` and nothing else: never a model, a text or a score file.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lmstages.figures.rows import Row, best_of, grouped, named, told
from lmstages.figures.sweeps import swept as sweep_figure
from lmstages.report.shown import (
    DASH,
    MINUS,
    Comparison,
    all_visible,
    count,
    decimal,
    duration,
    interval,
    published,
    value,
    visible,
    what,
)

TERMINAL_WIDTH = 100

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


USUAL = ("static", "oracle", "compressor")  # classes that a table need not name


def _named(row: Row) -> str:
    """The model as the tables call it: how it came by its figure stands behind it, where that is not the usual way."""
    return named(row) + ("" if row["category"] in USUAL else f" [{row['class']}]")


def table_markdown(comparison: Comparison) -> str:
    """All rows for a README, then what others printed; without timings, so that it changes only when a figure does."""
    columns: dict[str, Cell] = {"corpus": lambda row: row["corpus"], "split": lambda row: row["split"]}
    columns |= (
        TABLE
        | _interval(comparison["rows"])
        | {"published": lambda row: "; ".join(published(each) for each in row["published"])}
    )
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


def _interval(rows: Iterable[Row]) -> dict[str, Cell]:
    """A column for the intervals of bits per byte, where there are any."""
    known = any(row.get("interval") for row in rows)
    return {"95 % interval": lambda row: interval(row.get("interval"))} if known else {}


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
    return list(grouped(comparison["rows"], lambda row: (row["corpus"], row["split"])).values())


# LaTeX

LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"},
    **{">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", MINUS: "$-$", DASH: "--", "±": r"$\pm$"},
    **{"`": r"\textasciigrave{}", "'": r"\textquotesingle{}"},
}


def table_latex(comparison: Comparison) -> str:
    """One table for each held-out text, for ``\\usepackage{booktabs}`` and textcomp; the best static model in bold."""
    return "\n".join(_latex_table(rows) for rows in _texts(comparison))


def _latex_table(rows: Sequence[Row]) -> str:
    columns = {name: TABLE[name] for name in ("tokenizer", "model", "bits/byte")} | _interval(rows)
    columns |= {name: TABLE[name] for name in ("nats/char", "perplexity", "parameters")}
    best, text = best_of(rows), f"{rows[0]['corpus']}, {rows[0]['split']}"
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{Bits per byte of {_latex_cell(text)}; lower is better.}}",
    ]
    lines.append("  \\begin{tabular}{" + "".join("l" if name in WORDS else "r" for name in columns) + "}")
    lines += [r"    \toprule", f"    {' & '.join(map(_latex_cell, columns))} \\\\", r"    \midrule"]
    lines += [f"    {_latex_row(row, columns, row is best)} \\\\" for row in rows]
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])


def _latex_row(row: Row, columns: Mapping[str, Cell], best: bool) -> str:
    if row["status"] != "ok":
        words = [_latex_cell(columns[name](row)) for name in ("tokenizer", "model")]
        return " & ".join([*words, f"\\multicolumn{{{len(columns) - 2}}}{{l}}{{{_latex_cell(row['status'])}}}"])
    cells = {name: _latex_cell(cell(row)) for name, cell in columns.items()}
    return " & ".join(f"\\textbf{{{cell}}}" if best and name == "bits/byte" else cell for name, cell in cells.items())


def _latex_cell(text: str) -> str:
    """Text that is nothing but text inside a LaTeX table."""
    return "".join(LATEX.get(character, character) for character in " ".join(visible(text).split()))


# CSV and the terminal

PLAIN = (
    *(
        "corpus",
        "split",
        "tokenizer",
        "model",
        "type",
        "rank",
        "title",
        "family",
        "category",
        "protocol",
        "seeds",
        "status",
    ),
    *("tokens", "characters", "bytes", "perplexity", "nats_per_character", "bits_per_byte", "bits_per_byte_std"),
    *(
        "interval_low",
        "interval_high",
        "excess_bits_per_byte",
        "parameters",
        "flops",
        "tokens_seen",
        "published",
        "device",
        "threads",
    ),
)
TIMINGS = ("fit_seconds", "score_seconds")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def table_csv(comparison: Comparison) -> str:
    """All rows with all digits; timings, which differ from run to run, in the last columns."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*PLAIN, *TIMINGS])
    for row in comparison["rows"]:
        low, high = row.get("interval") or (None, None)
        known = {"flops": None, **row, "interval_low": low, "interval_high": high}
        joined = {"seeds": " ".join(map(str, row["seeds"])), "published": "; ".join(map(published, row["published"]))}
        writer.writerow([_csv_cell((known | joined)[key]) for key in (*PLAIN, *TIMINGS)])
    return out.getvalue()


def sweep_files(comparison: Comparison) -> dict[str, str]:
    """A table and a drawing for every sweep, by their paths below the run's folder."""
    shown = all_visible(comparison["sweeps"])
    tables = {f"sweeps/{sweep['name']}.csv": sweep_csv(sweep) for sweep in shown}
    return tables | {f"sweeps/{sweep['name']}.svg": _drawn(sweep) for sweep in shown}


def _drawn(sweep: Mapping[str, Any]) -> str:
    drawn = sweep_figure(sweep)
    return drawn.svg() if drawn else NOTHING


NOTHING = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>\n'


def sweep_csv(sweep: Mapping[str, Any]) -> str:
    """The rows of one sweep with all digits, the swept keys first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [*sweep["keys"], *(key for key in sweep["rows"][0] if key not in sweep["keys"])] if sweep["rows"] else []
    writer.writerow(columns or sweep["keys"])
    for row in sweep["rows"]:
        keys = {key: row[key] if isinstance(row[key], int | float) else told(row[key]) for key in sweep["keys"]}
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
