"""A folder imports only from folders of lower layers, and the modules that a Snakefile reads import nothing heavy."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lmstages

PACKAGE = Path(lmstages.__file__).parent
LAYERS = [  # from the bottom up
    ["core"],
    ["config"],
    ["corpora", "tokenizers"],
    ["training"],
    ["models"],
    ["evaluation", "analyses"],
    ["results"],
    ["report", "figures", "playground"],
    ["cli", "__init__", "__main__"],
]
LAYER_OF = {folder: layer for layer, folders in enumerate(LAYERS, start=1) for folder in folders}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def folder_of(path):
    return path.parts[0].removesuffix(".py")


def imported(path):
    """The folders of lmstages that a file names in any import, at its top or within a function."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "lmstages" and len(parts) > 1:
                yield parts[1] if parts[1] in LAYER_OF else "__init__"


EDGES = {(folder_of(path), folder) for path in FILES for folder in imported(path)} - {(f, f) for f in LAYER_OF}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_module_imports_only_from_its_own_layer_and_below(path):
    assert folder_of(path) in LAYER_OF, f"{path} belongs to no layer"
    above = {f for f in imported(path) if LAYER_OF[f] > LAYER_OF[folder_of(path)] and f != "__init__"}
    assert not above, f"{path} imports {above} from a higher layer"


def test_folders_of_one_layer_form_no_circle():
    assert not {(a, b) for a, b in EDGES if (b, a) in EDGES and a != "__init__" and b != "__init__"}


def test_every_folder_stands_in_exactly_one_layer():
    assert sorted(LAYER_OF) == sorted({folder_of(path) for path in FILES})


def test_the_test_sees_imports_within_functions():
    assert {"core", "config", "models"} <= set(imported(Path("cli.py")))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_imports_snakemake_or_pickle(path):
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        names = [n.name for n in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
        assert not {n.split(".")[0] for n in names} & {"snakemake", "pickle", "dill", "shelve"}


# What is loaded, in an interpreter of its own

PLOTTING = ["matplotlib", "seaborn"]
HEAVY = ["torch", "numba", "pandas", "transformers", "datasets", "tokenizers", "sentencepiece", "scipy", "requests"]
HEAVY += PLOTTING


def loaded_by(script):
    listing = "import sys, json; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{script}\n{listing}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


PARSED = [".".join(path.with_suffix("").parts) for path in FILES if folder_of(path) == "config"]
PARSED += ["core.provenance", "core.errors", "core.runtime", "results.run_messages"]


@pytest.mark.parametrize("module", PARSED)
def test_what_a_snakefile_reads_loads_nothing_heavy(module):
    assert not loaded_by(f"import lmstages.{module}".removesuffix(".__init__")) & {*HEAVY, "numpy", "safetensors"}


def test_the_code_of_every_command_is_hashed_without_loading_it():
    script = """
from lmstages.config.ladder import LADDER
from lmstages.core.provenance import code_hash, package_hash
[code_hash(command, config.module) for command in ("fit", "evaluate") for config in LADDER]
package_hash()
"""
    assert not loaded_by(script) & {*HEAVY, "numpy"}


def test_the_command_line_and_its_help_load_nothing_heavy():
    script = "from lmstages.cli import parser\nparser().format_help()"
    assert not loaded_by(script) & {*HEAVY, "numpy", "pydantic"}


COUNTED = """
import numpy as np
from lmstages.core.documents import Documents
from lmstages.evaluation import experiment
from lmstages.evaluation.sampling import sample
from lmstages.evaluation.scoring import score, windows_of
from lmstages.models import fitting
tokens = Documents.single(np.arange(200) % 7)
for name in ("uniform", "unigram", "bigram", "ngram"):
    model, curve = fitting.fitted({"type": name, "hyperparameters": {}}, 7, tokens, tokens, 0)
    fitting.describe(model, curve, tokens, 1)
    score(model, tokens, windows_of(tokens.starts, "stream", 1, 1, 0))
    sample(model, 2, 5, 0)
"""


def test_counting_never_loads_torch():
    assert not loaded_by(COUNTED) & set(HEAVY)


def test_the_test_would_see_torch():
    assert {"torch", "numpy"} <= loaded_by("import lmstages.training.loop")
