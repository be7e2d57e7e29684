"""A module imports only from lower floors, and what a Snakefile reads imports nothing heavy."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lmstages

PACKAGE = Path(lmstages.__file__).parent
PACKAGES = ["analyses", "comparison", "config", "corpora", "evaluation", "figures", "models", "report", "training"]
FLOORS = [  # from the ground up; a module imports only from the floors below its own
    ["lmstages", "errors", *PACKAGES],
    ["artefacts", "progress", "provenance", "config.strict_yaml"],
    ["training.locks"],
    ["training.resume"],
    ["training.runtime"],
    ["ladder", "config.sweeps", "tokenizers.base", "corpora.sources"],
    ["analyses.estimation", "analyses.projections", "comparison.uncertainty"],
    [
        *(f"corpora.{n}" for n in ("text", "grammar", "splits")),
        *(f"tokenizers.{n}" for n in ("symbols", "words", "subwords")),
    ],
    ["tokenizers", "tokenizers.vocabularies", *(f"corpora.{n}" for n in ("download", "preparation", "overlap"))],
    ["corpora.contrasts", "analyses.novelty"],
    ["models.blocks", "models.llama_tensors", "models.llama_cpp_process"],
    ["models.base", "models.merging", "config.records", "config.needs"],
    ["config.run", "config.references", "models.gguf_file", "models.huggingface", "models.gptq"],
    ["config.reading", *(f"training.{n}" for n in ("optimizers", "devices", "distributed"))],
    ["training.batches", "training.flops"],
    ["training.loop", "models.counts", "models.smoothing", "models.compiled"],
    ["models.ngram", "models.neural", "models.sequential"],
    ["models.attention"],
    ["models.*"],  # every other rung
    ["models.derived", "models.mapped"],
    ["models.quantised"],
    ["models.llama_cpp"],
    ["models.residual"],
    ["storage", "fitting", "evaluation.scoring", "evaluation.sampling"],
    ["derivation", "exporting", "evaluation.passage", "evaluation.gate"],
    [*(f"evaluation.{n}" for n in ("cell", "oracle", "compression"))],
    ["explaining", "evaluation.mixing", "evaluation.pretrained", "analyses.probing", "analyses.scores"],
    ["analyses.inspection", "figures.rows", *(f"comparison.{n}" for n in ("published", "intervals", "findings"))],
    ["figures.drawing"],
    [*(f"figures.{n}" for n in ("inspected", "ladder", "learning", "likelihood", "sweeps")), "analyses.scaling"],
    ["report.shown"],
    ["comparison.table", "figures.catalogue", *(f"report.{n}" for n in ("columns", "passages", "tables"))],
    ["comparison.changes", "report.page", "playground", "playground.answers"],
    ["playground.server"],
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
    told = ["storage", "fitting", "comparison.table", "report.page", "figures.catalogue"]
    for name in [*(f"evaluation.{n}" for n in ("scoring", "sampling", "cell")), *told]:
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


CONFIG = [name for name in NAMES if name.startswith("config.")]


def loaded_by(script):
    told = "import sys, json; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{script}\n{told}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", [*CONFIG, "ladder", "provenance", "errors", "corpora.sources"])
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
from lmstages import fitting, storage
from lmstages.evaluation import cell
from lmstages.evaluation.sampling import sample
from lmstages.evaluation.scoring import score, windows_of
from lmstages.models.base import Documents
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
    assert {"torch", "numpy"} <= loaded_by("import lmstages.training.loop")
