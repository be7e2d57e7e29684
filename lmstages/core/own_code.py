"""The code of a model of one's own, as one hash: its file, and those beside it that it imports.

Read from the syntax tree and not by importing, so that a Snakefile can ask without running it. As for the package's own
code, comments, docstrings and line breaks are no part of it. Also remembers which of these files this process has run,
so that an exception from one of them is said as a mistake of that file. Knows nothing of what a model is.
"""

import ast
import hashlib
import os
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lmstages.core.errors import FitError, UserError, did_you_mean
from lmstages.core.provenance import PACKAGE, hash_of_tree, is_module, package_imports

MOST_BYTES = 1 << 22  # of a file
MOST_FILES = 1000
RUN: dict[str, str] = {}  # files that this process has run: their absolute path, and the path as the config has it


class Source(NamedTuple):
    """Where a model's code lies: the dotted name of its module below ``root``, and its file.

    ``package``: of an installed package its name, to which the imports that count are limited.
    """

    module: str
    file: Path
    root: Path
    package: str = ""


class Code(NamedTuple):
    """What a model's module imports, itself included: {dotted name: file} beside it, and modules of lmstages."""

    files: dict[str, Path]
    ours: frozenset[str]
    content: str


def code_from(source: Source) -> Code:
    """The code that a model's module consists of; raises UserError for a file that cannot be read or is no Python."""
    files: dict[str, Path] = {}
    trees: dict[str, ast.Module] = {}
    waiting = {source.module: source.file, **_parents(source)}
    while waiting:
        name, file = waiting.popitem()
        files[name], trees[name] = file, _tree(file)
        if len(files) > MOST_FILES:
            raise UserError(source.file, f"imports more than {MOST_FILES:,} files beside it", "", "import fewer")
        for imported in _imports(trees[name], name, file.name == "__init__.py"):
            if imported not in files and (path := file_beside(source, imported)):
                waiting[imported] = path
    ours = frozenset(name for tree in trees.values() for name in package_imports(tree) if is_module(name))
    try:
        return Code(files, ours, _hash_of(trees))
    except RecursionError as error:
        raise UserError(source.file, "nests its expressions too deep", "", "break them into several") from error


def _hash_of(trees: Mapping[str, ast.Module]) -> str:
    """One hash of {dotted name: syntax tree}; the docstrings are removed from the trees."""
    digest = hashlib.sha256()
    for name, tree in sorted(trees.items()):
        digest.update(name.encode() + b"\0" + hash_of_tree(tree))
    return digest.hexdigest()[:32]


def _parents(source: Source) -> dict[str, Path]:
    """The packages around an installed module, which are imported before it."""
    parts = source.module.split(".")
    names = [".".join(parts[:length]) for length in range(1, len(parts))] if source.package else []
    return {name: path for name in names if (path := file_beside(source, name))}


def _tree(file: Path) -> ast.Module:
    if not os.path.isfile(file):
        problem = "is no ordinary file" if os.path.exists(file) else f"no such file{_beside(file)}"
        raise UserError(file, problem, "", "give the path of a Python file, from the folder where snakemake is started")
    try:
        with open(file, "rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UserError(file, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(text) > MOST_BYTES:
        raise UserError(file, f"is larger than {MOST_BYTES:,} bytes", "", "give a file of Python that holds a class")
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno or 1}", f"is no Python: {error.msg}", "", "mend the line") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(file, f"is no Python: {str(error) or type(error).__name__}") from error


def _beside(file: Path) -> str:
    """A hint at a file with a similar name in the same folder, if there is one."""
    try:
        names = [str(path) for path in file.parent.glob("*.py")]
    except (OSError, ValueError):
        return ""
    return did_you_mean(str(file), names)


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """The dotted name of everything that an import statement may load, packages around it included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package) or None]
            base = ".".join(filter(None, [*(parts if node.level else []), node.module]))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in filter(None, names):
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def file_beside(source: Source, name: str) -> Path | None:
    """The file of a module beside the model's; None for one that lies elsewhere."""
    top = name.split(".")[0]
    if top == PACKAGE.name or (source.package and top != source.package):
        return None
    base = source.root.joinpath(*name.split("."))
    candidates = [base.with_suffix(".py"), base / "__init__.py"]
    return next((path for path in candidates if os.path.isfile(path)), None)


# ---------------------------------------------------------------- mistakes of such code


def fault_of(error: BaseException, remedy: str = "try lmstages laws on its type") -> FitError | None:
    """An exception from a model's own file as one line that names the file and the line; None for any other."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if os.path.abspath(frame.filename) in RUN]
    if not own:
        return None
    text = " ".join(str(error).partition("For further information visit")[0].split())[:500]
    problem = f"{type(error).__name__}: {text or 'without a message'}"
    where = f"{RUN[os.path.abspath(own[-1].filename)]}:{own[-1].lineno}"
    return FitError(where, problem, "", remedy)
