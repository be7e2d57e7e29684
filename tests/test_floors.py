"""A module imports only from lower floors, and what a Snakefile reads imports nothing heavy."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lmstages

PACKAGE = Path(lmstages.__file__).parent
FLOORS = [  # from the ground up; a module imports only from the floors below its own
    ["lmstages", "errors"],
    ["artefacts", "progress", "provenance", "strict_yaml"],
    ["locks"],
    ["resume"],
    ["runtime"],
    ["ladder", "tokenizers.base", "sweeps", "corpora", "corpora.sources", "estimation", "uncertainty", "projections"],
    [
        "corpora.text",
        "corpora.grammar",
        "corpora.splits",
        *(f"tokenizers.{n}" for n in ("symbols", "words", "subwords")),
    ],
    ["vocabularies", "corpora.download", "corpora.preparation", "tokenizers", "corpora.overlap"],
    ["corpora.contrasts", "novelty"],
    ["models", "models.blocks", "models.llama_tensors", "models.llama_cpp_process"],
    ["models.base", "models.merging", "config", "needs"],
    ["run", "references", "models.gguf_file", "models.huggingface", "models.gptq"],
    ["reading", "optimizers", "devices", "distributed"],
    ["batches", "flops"],
    ["training", "models.counts", "models.smoothing", "models.compiled"],
    ["models.ngram", "models.neural", "models.sequential"],
    ["models.attention"],
    ["models.*"],  # every other rung
    ["models.derived", "models.mapped"],
    ["models.quantised"],
    ["models.llama_cpp"],
    ["models.residual"],
    ["scoring", "sampling", "storage", "fitting"],
    ["passage", "gate", "derivation", "exporting"],
    ["evaluation", "oracle", "compression"],
    ["mixing", "probing", "analyses", "explaining", "pretrained"],
    ["figures", "figures.rows", "published", "intervals", "findings", "inspection"],
    ["figures.drawing"],
    [*(f"figures.{n}" for n in ("inspected", "ladder", "learning", "likelihood", "sweeps")), "scaling"],
    ["report", "report.shown"],
    ["comparison", "figures.catalogue", "report.columns", "report.passages", "report.tables"],
    ["report.page", "changes", "playground"],
    ["verbs"],
    ["__main__"],
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def name_of(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__").removesuffix("__init__") or "lmstages"


NAMES = {name_of(path): path for path in MODULES}


def floor(name):
    return FLOOR_OF.get(name, FLOOR_OF["models.*"] if name.startswith("models.") else None)


def imported(path):
    """The modules of lmstages that a file names in any import, at its top or within a function."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lmstages":
            module = node.module.removeprefix("lmstages").lstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                yield inner if inner in NAMES else module or "lmstages"
        elif isinstance(node, ast.Import):
            yield from (n.name.removeprefix("lmstages.") for n in node.names if n.name.split(".")[0] == "lmstages")
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} imports relatively"


@pytest.mark.parametrize("name", NAMES)
def test_a_module_imports_only_from_lower_floors(name):
    assert floor(name) is not None, f"{name} has no floor; give it one in FLOORS"
    above = {other for other in imported(NAMES[name]) if floor(other) >= floor(name)}
    assert not above, f"{name} imports {above} from its own floor or above"


def test_the_floors_name_modules_that_exist():
    assert set(FLOOR_OF) - {"models.*"} == {name for name in NAMES if floor(name) != FLOOR_OF["models.*"]}


def test_the_table_sees_imports_within_functions():
    assert "storage" in set(imported(Path("verbs.py"))) and "lmstages" in set(imported(Path("verbs.py")))


def test_a_stage_that_scores_knows_no_rung():
    for name in (
        "scoring",
        "sampling",
        "storage",
        "evaluation",
        "fitting",
        "comparison",
        "report.page",
        "figures.catalogue",
    ):
        assert not {n for n in imported(NAMES[name]) if n.startswith("models.")} - {"models.base"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_imports_snakemake_or_pickle(name):
    for node in ast.walk(ast.parse((PACKAGE / NAMES[name]).read_text())):
        names = [n.name for n in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
        assert not {n.split(".")[0] for n in names} & {"snakemake", "pickle", "dill", "shelve"}


# What is loaded, in an interpreter of its own

HEAVY = [
    "torch",
    "numba",
    "pandas",
    "transformers",
    "datasets",
    "matplotlib",
    "seaborn",
    "tokenizers",
    "sentencepiece",
    "scipy",
    "requests",
]


def loaded_by(script):
    told = "import sys, json; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{script}\n{told}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", ["config", "ladder", "provenance", "errors", "corpora.sources"])
def test_what_a_snakefile_reads_loads_nothing_heavy(name):
    assert not loaded_by(f"import lmstages.{name}") & {*HEAVY, "numpy", "safetensors"}


def test_the_code_of_every_verb_is_hashed_without_loading_it():
    script = """
from lmstages.ladder import LADDER
from lmstages.provenance import code_hash, package_hash
[code_hash(verb, rung.module) for verb in ("fit", "evaluate") for rung in LADDER]
package_hash()
"""
    assert not loaded_by(script) & {*HEAVY, "numpy"}


def test_the_command_line_and_its_help_load_nothing_heavy():
    script = "from lmstages.__main__ import parser\nparser().format_help()"
    assert not loaded_by(script) & {*HEAVY, "numpy", "pydantic"}


COUNTED = """
import numpy as np
from lmstages import evaluation, fitting, storage
from lmstages.models.base import Documents
from lmstages.scoring import score, windows_of
from lmstages.sampling import sample
tokens = Documents.single(np.arange(200) % 7)
for rung in ("uniform", "unigram", "bigram", "ngram"):
    model, curve = fitting.fitted({"rung": rung, "hyperparameters": {}}, 7, tokens, tokens, 0)
    fitting.describe(model, curve, tokens, 1)
    score(model, tokens, windows_of(tokens.starts, "stream", 1, 1, 0))
    sample(model, 2, 5, 0)
"""


def test_counting_never_loads_torch():
    assert not loaded_by(COUNTED) & set(HEAVY)


def test_the_test_would_see_torch():
    assert {"torch", "numpy"} <= loaded_by("import lmstages.training")
