"""Which code a job runs, as one hash: what Snakemake compares to know that an edit concerns a job.

The hash covers the source of the verb in ``verbs`` and of every lmstages module that it imports,
directly or through others, read from the syntax tree and not by importing, so that a Snakefile can
ask without loading torch. The ladder and the config are left out: what they hold reaches a job as
its section, which is compared as it is. Knows nothing of what any module does.
"""

import ast
import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
RECORDS = ("base", "counts", "neural", "attention", "quantized")
SECTIONS = frozenset(
    {
        *("lmstages.config.ladder", "lmstages.config.sections", "lmstages.config.run", "lmstages.config.reading"),
        *(f"lmstages.config.hyperparameters.{name}" for name in RECORDS),
    }
)
DOOR = "lmstages.verbs"
DATA = (".jinja", ".yaml")


def code_hash(verb: str, *modules: str) -> str:
    """Hash of a verb, of the modules it imports and of ``modules`` besides (a model's own)."""
    source = _source(DOOR)
    body = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == verb)
    digest = hashlib.sha256((ast.get_source_segment(source, body) or "").encode())
    for module in sorted(_closure(_imports(body) | set(modules))):
        digest.update(module.encode() + b"\0" + b"".join(path.read_bytes() for path in _files(module)))
    return digest.hexdigest()[:16]


def package_hash() -> str:
    """Hash of all code and data of the package: what must not change while a run is in progress."""
    digest = hashlib.sha256()
    for path in sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", *DATA)):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _closure(modules: set[str]) -> set[str]:
    """The modules and all they import, and so on."""
    reached: set[str] = set()
    waiting = {module for module in modules if module not in SECTIONS}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= _imports_of(module) - reached - SECTIONS
    return reached


@cache
def _imports_of(module: str) -> frozenset[str]:
    return frozenset(_imports(ast.parse(_source(module))))


def _imports(tree: ast.AST) -> set[str]:
    """The lmstages modules that any import statement below ``tree`` names."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lmstages"):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if _path(name)} or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("lmstages")}
    return found


def _path(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    candidates = [base.with_suffix(".py"), base / "__init__.py"]
    return next((path for path in candidates if path.is_file()), None)


def _files(module: str) -> list[Path]:
    """A module's source and, where it reads package data, the data beside it: the report's page, a grammar."""
    path = _path(module)
    assert path is not None, f"{module} has a source"
    if "\nfrom importlib import resources\n" not in _source(module):
        return [path]
    return [path, *sorted(beside for beside in path.parent.iterdir() if beside.suffix in DATA)]


def _source(module: str) -> str:
    path = _path(module)
    assert path is not None, f"{module} has a source"
    return path.read_text(encoding="utf-8")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of the packages a number depends on."""
    return {package: metadata.version(package) for package in packages}
