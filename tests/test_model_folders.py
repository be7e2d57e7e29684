"""Within models a folder imports only from the folders before it, so that they form no circle."""

import ast
from pathlib import Path

import pytest

import lmstages.models

MODELS = Path(lmstages.models.__file__).parent
FOLDERS = ["counts", "neural", "nonautoregressive", "quantized", "external"]
FILES = sorted(path.relative_to(MODELS) for path in MODELS.glob("*/*.py"))


def imported(path):
    """The folders of models that a file names in any import, at its top or within a function."""
    for node in ast.walk(ast.parse((MODELS / path).read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from {name.split(".")[2] for name in names if name.startswith("lmstages.models.")} & set(FOLDERS)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_folder_of_models_imports_only_from_those_before_it(path):
    allowed = FOLDERS[: FOLDERS.index(path.parts[0]) + 1]
    assert set(imported(path)) <= set(allowed)


def test_the_test_sees_the_imports_between_folders():
    assert set(imported(Path("external/llama_cpp.py"))) >= {"neural", "quantized"}
