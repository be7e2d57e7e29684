"""Writes the table and the picture of docs/architecture.md from the imports of the package:  python docs/layers.py

The picture, docs/layers.svg, has the lowest layer at the bottom. An arrow that follows from others (the folder imports
the other through a third one, too) is left out.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from lmstages.core.files import atomic_write

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE, PAGE, PICTURE = PROJECT / "lmstages", PROJECT / "docs/architecture.md", PROJECT / "docs/layers.svg"
SHOWN = "![the folders of each layer, joined by arrows to those that they import](layers.svg)"
GREY = "#808080"  # legible on a white page and on a black one
WIDTH, STEP, BOX = 640, 68, 124  # pixels: of the picture, from layer to layer, of a folder
HEAD = f'<path d="M 0 0 L 8 4 L 0 8 z" fill="{GREY}"/>'
ACROSS = {"report": 0.25, "playground": 0.8, "results": 0.8, "analyses": 0.25, "evaluation": 0.8, "models": 0.8}
ACROSS |= {"corpora": 0.25, "tokenizers": 0.8}  # fraction of the width at which a folder stands; others in the middle
LAYERS = [  # from the top: folders, what they hold, what they know nothing of
    (("cli",), "commands, one for each stage; beside it `__init__.py`, the public Python API", "-"),
    (("report", "figures", "playground"), "pages and pictures made from results", "score files"),
    (("results",), "typed rows, every interval and test, published figures, differences of two runs", "models"),
    (
        ("evaluation", "analyses"),
        "scores, checks, samples, mixtures, compressors, oracle, infilling, samplers; probes",
        "the results table",
    ),
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


def picture() -> str:
    """The folders of each layer as boxes, joined by their imports, as SVG: grey, to be read on white and on black."""
    lines = [line(a, b) for a, b in reduced({(a, b) for a, b in imports() if a != b})]
    boxes = [box(folder) for folder in NUMBER]
    numbers = [f'<text x="14" y="{middle(folders[0])[1] + 5}">{NUMBER[folders[0]]}</text>' for folders, *_ in LAYERS]
    size = f'viewBox="0 0 {WIDTH} {STEP * len(LAYERS)}" width="{WIDTH}" height="{STEP * len(LAYERS)}"'
    style = f'fill="{GREY}" stroke-width="1.2" font-family="sans-serif" font-size="15"'
    size_of_head = 'viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
    arrow = f'<marker id="end" {size_of_head} orient="auto">{HEAD}</marker>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><title>Imports between folders</title>{arrow}'
    return "\n".join([head, *lines, *boxes, *numbers, "</svg>"]) + "\n"


def middle(folder: str) -> tuple[int, int]:
    """x and y of the middle of a folder's box."""
    return int(WIDTH * ACROSS.get(folder, 0.5)), STEP * (len(LAYERS) - NUMBER[folder]) + STEP // 2


def box(folder: str) -> str:
    """A folder's box with its name."""
    x, y = middle(folder)
    outline = f'<rect x="{x - BOX // 2}" y="{y - 15}" width="{BOX}" height="30" rx="5" fill="none" stroke="{GREY}"/>'
    return f'{outline}<text x="{x}" y="{y + 5}" text-anchor="middle">{folder}</text>'


def line(source: str, target: str) -> str:
    """An arrow from the importing folder to the one it imports: downwards, or sideways within a layer."""
    (x1, y1), (x2, y2) = middle(source), middle(target)
    if y1 == y2:
        side = BOX // 2 if x2 > x1 else -BOX // 2
        x1, x2 = x1 + side, x2 - side
    else:
        y1, y2 = y1 + 15, y2 - 15
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{GREY}" marker-end="url(#end)"/>'


def table() -> str:
    """One line for each layer."""
    lines = ["| layer | folder | holds | knows nothing of |", "|--:|---|---|---|"]
    for folders, holds, unknown in LAYERS:
        names = ", ".join(f"`{name}.py`" if name == "cli" else f"`{name}/`" for name in folders)
        lines.append(f"| {NUMBER[folders[0]]} | {names} | {holds} | {unknown} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with both in their places, between ``<!-- name -->`` and ``<!-- /name -->``."""
    for name, content in (("layers", table()), ("imports", SHOWN)):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = before + begin + content + "\n" + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    for path, content in ((PAGE, page(PAGE.read_text("utf-8"))), (PICTURE, picture())):
        with atomic_write(path) as file:
            file.write(content.encode())
