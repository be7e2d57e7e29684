"""Writes the table and the picture of docs/architecture.md from the imports of the package:  python docs/layers.py

The picture is a Mermaid chart of folders, the lowest layer at the bottom. An arrow that follows from others (the reader
imports the read one through a third folder, too) is left out.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from lmstages.core.files import atomic_write

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE, PAGE = PROJECT / "lmstages", PROJECT / "docs" / "architecture.md"
LAYERS = [  # from the top: folders, what they hold, what they know nothing of
    (("cli",), "commands, one for each stage; beside it `__init__.py`, the public Python API", "-"),
    (("report", "figures", "playground"), "pages and pictures made from results", "score files"),
    (("results",), "typed rows, every interval and test, published figures, differences of two runs", "models"),
    (("evaluation", "analyses"), "scores, checks, samples, mixtures, compressors, oracle; probes", "the results table"),
    (("models",), "the contract in `base.py`; counts, networks, quantized ones, formats of others", "texts"),
    (("training",), "loop, batches, optimizers, resume points, devices, several processes", "texts, models"),
    (("corpora", "tokenizers"), "text in, tokens out", "models"),
    (("config",), "the ladder and its records, typed sections, strict reading, sweeps, resources", "arrays, torch"),
    (
        ("core",),
        "documents, errors (also the system's), artifacts, provenance, progress, terminal, runtime",
        "everything else here",
    ),
]
NUMBER = {folder: len(LAYERS) - n for n, (folders, *_) in enumerate(LAYERS) for folder in folders}


def imports() -> Iterator[tuple[str, str]]:
    """Every (folder, folder it imports), at the top of a file or within a function; files beside cli.py count as it."""
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).parts
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for package, target, *_ in (name.split(".") for name in names if "." in name):
                if package == "lmstages" and target in NUMBER:
                    yield parts[0] if len(parts) > 1 else "cli", target


def reduced(edges: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without those that follow from two others or more."""
    below: dict[str, set[str]] = {}
    for folder in sorted(NUMBER, key=NUMBER.__getitem__):
        direct = {target for source, target in edges if source == folder}
        below[folder] = direct.union(*(below.get(target, set()) for target in direct))
    return sorted((a, b) for a, b in edges if not any((a, c) in edges and b in below[c] for c in NUMBER if c != b))


def chart() -> str:
    """The folders of each layer, joined by their imports."""
    edges = {(a, b) for a, b in imports() if a != b}
    lines = ["```mermaid", "flowchart TD"]
    for folders, *_ in LAYERS:
        number = NUMBER[folders[0]]
        lines += [f'    subgraph layer{number}["{number}"]', "        direction LR"]
        lines += [f"        {folder}" for folder in folders] + ["    end"]
    return "\n".join([*lines, *(f"    {a} --> {b}" for a, b in reduced(edges)), "```"])


def table() -> str:
    """One line for each layer."""
    lines = ["| layer | folder | holds | knows nothing of |", "|--:|---|---|---|"]
    for folders, holds, unknown in LAYERS:
        names = ", ".join(f"`{name}.py`" if name == "cli" else f"`{name}/`" for name in folders)
        lines.append(f"| {NUMBER[folders[0]]} | {names} | {holds} | {unknown} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with both in their places, between ``<!-- name -->`` and ``<!-- /name -->``."""
    for name, content in (("layers", table()), ("imports", chart())):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = before + begin + content + "\n" + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    drawn = page(PAGE.read_text("utf-8"))
    with atomic_write(PAGE) as file:
        file.write(drawn.encode())
