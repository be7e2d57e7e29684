"""Which code a job runs, as one hash: what Snakemake compares to know whether an edit concerns a job.

The hash covers the function of a command in ``cli`` and every lmstages module that it imports, directly or through
others, read from the syntax tree and not by importing, so that a Snakefile can ask without loading torch. Comments,
docstrings and line breaks are no part of it: an edit of them re-runs nothing. The ladder and the config are left out:
what they hold reaches a job as its section, which is compared as it is. Knows nothing of what any module does.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
RECORDS = tuple(sorted(path.stem for path in (PACKAGE / "config" / "hyperparameters").glob("*.py")))
SECTIONS = frozenset(
    {
        *("lmstages.config.ladder", "lmstages.config.sections", "lmstages.config.run", "lmstages.config.reading"),
        *(f"lmstages.config.hyperparameters.{name}" for name in RECORDS),
    }
)
COMMAND_LINE = "lmstages.cli"
DATA = (".jinja", ".yaml")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_hash(command: str, *modules: str) -> str:
    """Hash of a command, of the modules it imports and of ``modules`` besides (a model's own)."""
    function, imports = _commands(_path(COMMAND_LINE))[command]
    digest = hashlib.sha256(function)
    for module in sorted(_closure(imports | set(modules))):
        digest.update(module.encode() + b"\0" + _code_of(_path(module)))
    return digest.hexdigest()[:16]


def package_hash() -> str:
    """Hash of all code and data of the package, comments included: what must not change while a run is in progress."""
    digest = hashlib.sha256()
    for path in sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", *DATA)):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _closure(modules: Iterable[str]) -> set[str]:
    """The modules and all they import, and so on."""
    reached: set[str] = set()
    waiting = set(modules) - SECTIONS
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= _imports_of(_path(module)) - reached - SECTIONS
    return reached


@cache
def _commands(path: Path) -> dict[str, tuple[bytes, frozenset[str]]]:
    """Every function of a module by its name: the hash of its code, and what it imports."""
    functions = [node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        function.decorator_list = []  # a command's options, which reach its function as arguments
    return {function.name: (hash_of_tree(function), package_imports(function)) for function in functions}


@cache
def _imports_of(path: Path) -> frozenset[str]:
    return package_imports(ast.parse(path.read_bytes()))


def package_imports(tree: ast.AST) -> frozenset[str]:
    """The lmstages modules that any import statement below ``tree`` names."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lmstages"):
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name for name in submodules if _candidate(name)} or {node.module}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name.startswith("lmstages")}
    return frozenset(modules)


@cache
def _code_of(path: Path) -> bytes:
    """Hash of a module's code and, where it reads package data, of the data beside it: a report's page, a grammar."""
    source = path.read_bytes()
    code = hash_of_tree(ast.parse(source))
    if b"\nfrom importlib import resources\n" not in source:
        return code
    data = sorted(file for file in path.parent.iterdir() if file.suffix in DATA)
    return code + b"".join(hashlib.sha256(file.read_bytes()).digest() for file in data)


def hash_of_tree(tree: ast.AST) -> bytes:
    """Hash of a syntax tree without the docstrings of its module, classes and functions; they are removed from it."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).digest()


def is_module(name: str) -> bool:
    """Whether a dotted name is that of a module of this package."""
    return name.split(".")[0] == PACKAGE.name and _candidate(name) is not None


def _path(module: str) -> Path:
    path = _candidate(module)
    assert path is not None, f"{module} has a source"
    return path


def _candidate(module: str) -> Path | None:
    """The file of a module or package, or None where the name is of something within a module."""
    base = PACKAGE.joinpath(*module.split(".")[1:])
    candidates = [base.with_suffix(".py"), base / "__init__.py"]
    return next((path for path in candidates if path.is_file()), None)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of the packages a number depends on."""
    return {package: metadata.version(package) for package in packages}
