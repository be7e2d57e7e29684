"""A run's results as one HTML file that needs nothing else: it opens from disk and requests nothing.

The parts of the page are the templates beside this module; a content security policy admits its style and its script
by their hashes and nothing besides. Reads the results' tables and the figures' SVG files; draws nothing and knows no
model, text or score file.
"""

import base64
import hashlib
import math
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from lmstages.core.visible import visible
from lmstages.report import chapters, columns, passages, sections, tables
from lmstages.report.embedded import Figures
from lmstages.report.entries import entries
from lmstages.results import formatting
from lmstages.results.formatting import DASH, MINUS
from lmstages.results.frame import Results
from lmstages.results.selection import EVERY_ROW, Limit, shown_rows


def render(results: Results, figures: Figures) -> str:
    """The whole page: no address, no network, the same bytes for the same results."""
    rows, run = entries(results, shown_rows(results.rows)), visible(results.facts["run"])
    limit = Limit(len(rows), len(results.rows))
    parts: dict[str, Any] = {
        "limit": limit,
        "chapters": chapters.chapters(results, rows, figures, limit),
        "table": columns.table(run, rows),
        "models": sections.models(rows, figures),
        "sweeps": sections.sweeps(results, figures),
        "printed": sections.published(results),
        "estimation": sections.estimated(figures) if results.facts.get("estimation") else None,
        "downloads": BESIDE_THE_PAGE if limit.is_reached else _downloads(results),
        "failed": sum(row.status != "ok" for row in results.rows),
        "has_samples": any(entry.samples for entry in rows),
    }
    constants = {"filters": columns.FILTERS, "legend": passages.legend(), "DASH": DASH, "MINUS": MINUS}
    inline = {"style": _inline("style.css.jinja"), "script": _inline("script.js.jinja")}
    body = _environment().get_template("body.html.jinja").render(run=run, **parts, **constants)
    page = _environment().get_template("page.html.jinja")
    return page.render(run=run, body=Markup(body), contents=_contents(body), **inline)  # noqa: S704 - escaped by jinja


@dataclass(frozen=True)
class Heading:
    """A line of the contents: an anchor, its heading as it stands in the page, and the headings below it."""

    anchor: str
    heading: Markup
    parts: list["Heading"]


HEADINGS = re.compile(
    r'<section class="[a-z ]*" id="(?P<section>[^"]*)">\s*<h2>(?P<h2>.*?)</h2>'
    r'|<h3 id="(?P<part>[^"]*)">(?P<h3>.*?)</h3>',
    re.DOTALL,
)


def _contents(body: str) -> list[Heading]:
    """The headings of a page; text of results cannot make one, since it was escaped."""
    contents: list[Heading] = []
    for heading in HEADINGS.finditer(body):
        if heading["section"]:
            contents.append(Heading(heading["section"], Markup(heading["h2"]), []))  # noqa: S704
        else:
            contents[-1].parts.append(Heading(heading["part"], Markup(heading["h3"]), []))  # noqa: S704
    return contents


@cache
def _environment() -> Environment:
    loader = FunctionLoader(_source)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= FILTERS
    return environment


def _source(name: str) -> str:
    return resources.files("lmstages.report").joinpath(name).read_text("utf-8")


def _inline(name: str) -> Markup:
    """Style or script, which stand in the page as they are, since their hashes admit them."""
    return Markup(_source(name))  # noqa: S704 - a file of this package


def _pin(inline: str) -> str:
    """The name by which a content security policy admits exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def _prose(text: str) -> Markup:
    """A docstring, with its *stress* and its ``names`` set as such."""
    marked = re.sub(r"``([^`]+)``", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*([^*\s][^*]*)\*", r"<em>\1</em>", marked))  # noqa: S704 - escaped before


def _breakable(name: str) -> Markup:
    """A name that may be broken after an underscore, so that it fits a narrow column."""
    return Markup(str(escape(name)).replace("_", "_<wbr>"))  # noqa: S704 - escaped before


def _slug(text: str) -> str:
    """A title as part of an anchor: lower case letters and digits, with hyphens between words."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))


def _sorted_by(value: float | None) -> str:
    """A number as JavaScript reads it; empty for none."""
    if value is None or math.isnan(value):
        return ""
    return str(value) if math.isfinite(value) else f"{'-' if value < 0 else ''}Infinity"


BESIDE_THE_PAGE = [("", "CSV", EVERY_ROW), ("", "Markdown", "table.md"), ("", "LaTeX", "table.tex")]
FILTERS: dict[str, Any] = {
    "decimal": formatting.decimal,
    "count": formatting.count,
    "duration": formatting.duration,
    "interval": formatting.interval,
    "chance": formatting.chance,
    "in_words": formatting.in_words,
    "published_claim": formatting.published_claim,
    "published_value": formatting.published_value,
    "our_value": formatting.our_value,
    "signed": formatting.signed,
    "history": columns.history,
    "slug": _slug,
    "breakable": _breakable,
    "sorted_by": _sorted_by,
    "prose": _prose,
    "pin": _pin,
}


def _downloads(results: Results) -> list[tuple[str, str, str]]:
    """The tables to take away: file name, what it is, and the file itself as an address of its own.

    Of a run with more rows than a page shows they are the files beside the page, which it need not hold once more.
    """
    files = (
        ("table.csv", "CSV", "text/csv", tables.table_csv(results)),
        ("table.md", "Markdown", "text/markdown", tables.table_markdown(results)),
        ("table.tex", "LaTeX", "application/x-tex", tables.table_latex(results)),
    )
    return [
        (name, form, f"data:{media};charset=utf-8;base64,{base64.b64encode(content.encode()).decode()}")
        for name, form, media, content in files
    ]
