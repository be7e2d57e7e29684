"""The files of a run's report, by name, from its results folder."""

from lmstages.report import tables
from lmstages.report.embedded import Figures
from lmstages.report.entries import entries
from lmstages.report.page import render
from lmstages.report.samples import samples_markdown
from lmstages.results.frame import Results


def files(results: Results) -> dict[str, str]:
    """``report.html``, ``table.md``, ``table.tex`` and ``samples.md``; the figures lie in the results folder."""
    return {
        "report.html": render(results, Figures.open(results.folder / "figures")),
        "table.md": tables.table_markdown(results),
        "table.tex": tables.table_latex(results),
        "samples.md": samples_markdown(results.facts["run"], entries(results)),
    }
