"""The results as tables to paste: Markdown, LaTeX, CSV, and lines for the terminal.

All but CSV are forms of one frame of words, ``display_frame``. Without timings, so that a file changes only when a
figure does; CSV has them in its last columns, the terminal shows the time of the fit.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from io import StringIO
from typing import TYPE_CHECKING

import pandas as pd

from lmstages.core.visible import visible
from lmstages.report import display
from lmstages.report.display import TEXTS, display_frame, published_cells, published_frame
from lmstages.report.entries import best_static, by_text, published_by_row
from lmstages.results.formatting import DASH, INFINITY, MINUS, markdown_cell
from lmstages.results.frame import Results, csv_text
from lmstages.results.schema import PublishedFigure, Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TERMINAL_WIDTH = 100
MARK = "†"  # after the name of a model that has a warning, which stands below the table


# Markdown


def table_markdown(results: Results) -> str:
    """All rows for a README, then what others printed."""
    rows, printed = results.rows, results.records("published")
    shown = display_frame(rows, display.MARKDOWN)
    shown["published"] = published_cells(rows, published_by_row(results))
    shown.loc[[row.status != "ok" for row in rows], "published"] = [row.status for row in rows if row.status != "ok"]
    shown = shown.map(markdown_cell)
    shown["model"] = [f"{cell} {MARK}" if row.warning else cell for row, cell in zip(rows, shown["model"], strict=True)]
    best = {id(best_static(text)) for text in by_text(rows)}
    shown["bits/byte"] = [
        f"**{cell}**" if id(row) in best else cell for row, cell in zip(rows, shown["bits/byte"], strict=True)
    ]
    warned = "".join(f"{MARK} {markdown_cell(line)}\n\n" for line in warnings_of(rows, with_text=True))
    return (
        markdown(shown, TEXTS)
        + (f"\n{warned.rstrip()}\n" if warned else "")
        + (f"\nPublished against reproduced:\n\n{published_markdown(printed)}" if printed else "")
    )


def warnings_of(rows: Sequence[Result], with_text: bool = False) -> list[str]:
    """``char, gpt: what to know``, a line for each warning; rows that have the same stand in one line."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        if row.warning:
            text = f"{row.corpus}, {row.split}, " if with_text else ""
            lines.setdefault(row.warning, []).append(f"{text}{row.tokenizer}, {row.model}")
    return [f"{'; '.join(names)}: {warning}" for warning, names in lines.items()]


def published_markdown(figures: Sequence[PublishedFigure]) -> str:
    """What others printed, beside ours."""
    return markdown(published_frame(figures).map(markdown_cell), ("what", "set-up", "verdict", "why"))


def markdown(frame: pd.DataFrame, texts: Collection[str]) -> str:
    """A frame of escaped cells as a Markdown table, ``texts`` to the left; not padded, so that lines change alone."""
    sides = ["left" if name in texts else "right" for name in frame]
    rule = " | ".join("---" if side == "left" else "--:" for side in sides)
    if frame.empty:  # tabulate aligns no column that has no cell
        return f"| {' | '.join(map(str, frame.columns))} |\n| {rule} |\n"
    padded = frame.to_markdown(index=False, colalign=sides, disable_numparse=True)
    assert isinstance(padded, str), "without a buffer pandas returns the text"
    head, _, *body = [re.sub(" {2,}", " ", line) for line in padded.splitlines()]
    return "".join(f"{line}\n" for line in (head, f"| {rule} |", *body))


# LaTeX

LATEX_TEXT = {
    **{character: "\\" + character for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"},
    **{">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", MINUS: "$-$", DASH: "--", "±": r"$\pm$"},
    **{"`": r"\textasciigrave{}", "'": r"\textquotesingle{}", INFINITY: r"$\infty$"},
}
NO_CELL = "\x00"  # a cell that a wider one covers; no text holds this character, since ``visible`` writes it out


def table_latex(results: Results) -> str:
    """One table for each held-out text, for ``\\usepackage{booktabs}`` and textcomp; the best static model in bold."""
    return "\n".join(map(_latex_table, by_text(results.rows)))


def _latex_table(rows: Sequence[Result]) -> str:
    shown, best = display_frame(rows, display.LATEX).map(latex_text), best_static(rows)
    bits = zip(rows, shown["bits/byte"], strict=True)
    shown["bits/byte"] = [f"\\textbf{{{cell}}}" if row is best else cell for row, cell in bits]
    marks = zip(rows, shown["model"], strict=True)
    shown["model"] = [cell + r"\textsuperscript{\dag}" if row.warning else cell for row, cell in marks]
    for index, row in enumerate(rows):
        if row.status != "ok":
            covered = len(shown.columns) - 2
            reason = f"\\multicolumn{{{covered}}}{{l}}{{{latex_text(row.status)}}}"
            shown.iloc[index, 2:] = [reason, *[NO_CELL] * (covered - 1)]
    sides = "".join("l" if name in TEXTS else "r" for name in shown)
    caption = f"Bits per byte of {latex_text(f'{rows[0].corpus}, {rows[0].split}')}; lower is better."
    styler = shown.rename(columns=latex_text).style.hide(axis="index")
    text = styler.to_latex(column_format=sides, hrules=True, caption=caption, position_float="centering")
    notes = "".join(rf"\par\footnotesize \dag\ {latex_text(line)}" + "\n" for line in warnings_of(rows))
    return text.replace(f" & {NO_CELL}", "").replace(r"\end{table}", notes + r"\end{table}")


def latex_text(text: str) -> str:
    """Text that is nothing but text inside a LaTeX table."""
    return "".join(LATEX_TEXT.get(character, character) for character in " ".join(visible(text).split()))


# CSV

TIMINGS = ["fit_seconds", "score_seconds", "tokens_per_second"]
LONG = ["adds", "source", "hyperparameters", "inputs"]  # columns of results.csv that the page itself holds


def table_csv(results: Results) -> str:
    """All rows with all digits, without the long texts; timings, which differ from run to run, last."""
    data = results.table("results")
    columns = [name for name in data if name not in (*LONG, *TIMINGS)]
    return csv_text(data[[*columns, *TIMINGS]])


# The terminal


def table_terminal(results: Results) -> str:
    """One narrow table for each held-out text, then each failure and each warning; no colours, no commands."""
    from rich.console import Console

    out = StringIO()
    console = Console(file=out, width=TERMINAL_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    for rows in by_text(results.rows):
        console.print(_terminal_table(rows), soft_wrap=False)
        _print_failures(console, rows)
        _print_lines(console, (f"{MARK} {line}" for line in warnings_of(rows)))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _print_failures(console: "Console", rows: Sequence[Result]) -> None:
    failed = (row for row in rows if row.status != "ok")
    _print_lines(console, (f"{row.tokenizer}, {row.model}: {row.status}" for row in failed))


def _print_lines(console: "Console", lines: Iterable[str]) -> None:
    for line in lines:
        console.print(visible(line), markup=False, emoji=False, highlight=False)


def _terminal_table(rows: Sequence[Result]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown, best = display_frame(rows, display.TERMINAL), best_static(rows)
    title = Text(visible(f"{rows[0].corpus}, {rows[0].split}"), style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in map(str, shown.columns):
        text = name in TEXTS
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for row, cells in zip(rows, shown.itertuples(index=False), strict=True):
        texts = [Text(visible(cell).replace("\n", " ")) for cell in cells]
        texts[1].append((" *" if row is best else "") + (f" {MARK}" if row.warning else ""))
        table.add_row(*texts)
    table.caption, table.caption_justify = Text("* best static model") if best else None, "left"
    return table
