"""Writes docs/columns.md, the page of all tables and columns, from ``lmstages/results/schema.py``."""

from pathlib import Path

from lmstages.core.files import atomic_write
from lmstages.results.formatting import markdown_cell
from lmstages.results.schema import TABLES, columns

PAGE = Path(__file__).with_name("columns.md")
HEAD = """# Tables and columns

Generated from `lmstages/results/schema.py`. A run's folder holds `results.parquet` (and the same as `results.csv`) and
`tables/NAME.parquet`. In a notebook:

    import lmstages, pandas
    results = lmstages.read_results("results/default")
    curves = pandas.read_parquet("results/default/tables/curves.parquet")
"""
TYPES = {"string": "text", "Int64": "integer", "float64": "number", "boolean": "yes or no"}


def page() -> str:
    """One section for each table."""
    return "\n".join([HEAD, *(_section(name) for name in TABLES)])


def _section(name: str) -> str:
    row = TABLES[name]
    path = "results.parquet" if name == "results" else f"tables/{name}.parquet"
    lines = [f"## `{path}`", "", " ".join((row.__doc__ or "").split()), ""]
    lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for column in columns(row):
        kind = TYPES[column.dtype] + (", may be empty" if column.optional else "")
        lines.append(f"| `{column.name}` | {kind} | {markdown_cell(column.unit)} | {markdown_cell(column.text)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    with atomic_write(PAGE) as file:
        file.write(page().encode())
