"""A class of one's own is a model: described by another process, known by its content, loaded again."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from test_layers import HEAVY
from test_own_laws import GATED, UNIGRAM

from lmstages.cli import main
from lmstages.config import own_models
from lmstages.config.hyperparameters.neural import Neural
from lmstages.config.ladder import LADDER
from lmstages.config.reading import read_run
from lmstages.config.sections import config_of
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.core.runtime import Runtime
from lmstages.evaluation.laws import Subject, drawn
from lmstages.models.base import build
from lmstages.models.fitting import outcome
from lmstages.models.storage import load_model, save_model

CONFIG = "corpora: {coined: {count: 60}}\ntokenizers: {char: {kind: char}}\nmodels:\n  bigram:\n"
MADE = {"command": "test", "section": {}, "inputs": {}, "code": ""}
WRITING = 'print("hello")\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, where nothing is remembered."""
    monkeypatch.chdir(tmp_path)
    own_models.MEMORY.clear()
    yield tmp_path
    own_models.MEMORY.clear()


def write(path, code):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(textwrap.dedent(code))


def run_of(models):
    Path("own.yaml").write_text(CONFIG + models)
    return read_run(Path("own.yaml"))


def problem_of(models):
    with pytest.raises(UserError) as error:
        run_of(models)
    return str(error.value)


# ---------------------------------------------------------------- described


def test_a_counting_class_is_an_entry_like_any_other(folder):
    write("my_models.py", UNIGRAM)
    run = run_of("  mine: {type: my_models.py:Unigram, add: {sweep: [0.5, 2.0]}}\n")
    assert list(run.models) == ["bigram", "mine-add-0_5", "mine-add-2_0"]
    section = json.loads(run.fit_section("mine-add-2_0"))
    assert section["type"] == "my_models.py:Unigram" and section["hyperparameters"] == {"add": 2.0}
    facts = run.facts()["mine-add-2_0"]
    assert facts["title"] == "Unigram" and facts["adds"] == "Adds counts: how often each token occurs in train."
    assert facts["rank"] == len(LADDER) + 1 and facts["category"] == "static" and facts["family"] == "counts"


def test_what_stands_in_for_a_record_says_the_same_as_the_record(folder):
    write("my_models.py", GATED)
    run = run_of("  gated: {type: my_models.py:GatedCNN, width: 16, steps: 7, seeds: [1, 2]}\n")
    described, section = run.models["gated"].config, json.loads(run.fit_section("gated"))
    record = config_of(section)
    assert record.model_dump(mode="json") == section["hyperparameters"] and record.width == 16
    assert record.properties() == described.properties() == section["properties"]
    assert record.context == described.context == 10 and run.seeds_of("gated") == [1, 2]
    assert isinstance(described, Neural) and (described.steps, described.row_length) == (7, 64)
    weights = sum(weight.numel() for weight in record.build(50).parameters())
    assert described.weights(50) == weights == 50 * 16 + 3 * (2 * 16 * 16 * 4 + 32) + 50 * 17
    assert own_models.code_of("fit", [record]) == own_models.code_of("fit", [described])


def test_mixtures_rank_after_models_of_ones_own(folder):
    write("my_models.py", UNIGRAM)
    run = run_of("  mine: {type: my_models.py:Unigram}\nmixtures: {both: {of: [bigram, mine]}}\n")
    assert [run.facts()[name]["rank"] for name in ("bigram", "mine", "both")] == [2, len(LADDER), len(LADDER) + 1]


def test_a_config_without_models_of_ones_own_starts_no_process_and_looks_at_no_package(folder, monkeypatch):
    monkeypatch.setattr(own_models.subprocess, "run", None)
    monkeypatch.setattr("importlib.metadata.entry_points", None)
    assert list(run_of("  gpt_wide: {type: gpt, width: 256}\n").models) == ["bigram", "gpt_wide"]


def test_reading_a_config_runs_nothing_of_the_file_here_and_loads_no_torch(folder):
    write("my_models.py", GATED)
    Path("own.yaml").write_text(CONFIG + "  gated: {type: my_models.py:GatedCNN}\n")
    script = "import sys, pathlib\nfrom lmstages.config.reading import read_run\nread_run(pathlib.Path('own.yaml'))"
    script += f"\nprint({{*{[*HEAVY, 'numpy', 'own_models_my_models_py']!r}}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_a_process_answered_is_remembered_until_the_code_changes(folder, monkeypatch):
    write("my_models.py", UNIGRAM)
    own_models.remember_in(folder / "memory" / "answers.json")
    first = run_of("  mine: {type: my_models.py:Unigram}\n")
    ask, asked = own_models._asked, []
    monkeypatch.setattr(own_models, "_asked", lambda questions: asked.append(len(questions)) or ask(questions))
    assert run_of("  mine: {type: my_models.py:Unigram}\n").facts() == first.facts() and not asked
    write("my_models.py", "# a comment\n" + UNIGRAM)
    assert run_of("  mine: {type: my_models.py:Unigram}\n").fit_section("mine") == first.fit_section("mine")
    assert not asked
    write("my_models.py", UNIGRAM.replace("self.add", "2 * self.add"))
    assert run_of("  mine: {type: my_models.py:Unigram}\n").fit_section("mine") != first.fit_section("mine")
    Path("memory/answers.json").write_text("[]")
    run_of("  mine: {type: my_models.py:Unigram}\n")
    assert asked == [1, 1]


# ---------------------------------------------------------------- mistakes, each in one line


def test_hyperparameters_are_checked_as_those_of_the_ladder(folder):
    write("my_models.py", GATED)
    problem = problem_of("  gated: {type: my_models.py:GatedCNN, widht: 16, layers: 0, steps: 1.5}\n")
    assert "models.gated: unknown key 'widht' (did you mean 'width'?); allowed: steps, batch_size" in problem
    assert "models.gated.layers: 0 found; input should be greater than or equal to 1" in problem
    assert "models.gated.steps: 1.5 found" in problem and "Traceback" not in problem


MISTAKES = {
    "no such file": ("my_model.py:Unigram", UNIGRAM, "my_model.py: no such file (did you mean 'my_models.py'?)"),
    "no such class": ("my_models.py:Unigramm", UNIGRAM, "no such class (did you mean 'Unigram'?)"),
    "no class": ("my_models.py", UNIGRAM, "names no class; my_models.py:Unigram"),
    "no Python file": ("my_models:Unigram", UNIGRAM, "names no Python file; FILE.py:CLASS"),
    "a network": (
        "my_models.py:GatedConvolution",
        GATED,
        "is a network (torch.nn.Module), no model; a class that inherits from Network or Counting of"
        " lmstages.models.own; name GatedCNN",
    ),
    "a function": ("my_models.py:build", UNIGRAM + "\n\ndef build():\n    pass\n", "is of type function, no model"),
    "another class": ("my_models.py:A", UNIGRAM + "\n\nclass A:\n    pass\n", "is a class of another kind, no model"),
    "no Python": ("my_models.py:Unigram", UNIGRAM + "def (:\n", "my_models.py:20: is no Python: invalid syntax"),
    "an exit": (
        "my_models.py:Unigram",
        UNIGRAM + "raise SystemExit(0)\n",
        "must not exit; my_models.py:20: SystemExit: 0",
    ),
    "a hard exit": ("my_models.py:Unigram", "import os\nos._exit(3)\n" + UNIGRAM, "(exit status 3); it must not exit"),
    "an exception": (
        "my_models.py:Unigram",
        UNIGRAM + "1 / 0\n",
        "my_models.py:20: ZeroDivisionError: division by zero",
    ),
    "a missing library": (
        "my_models.py:Unigram",
        "import flax_of_old\n" + UNIGRAM,
        "No module named 'flax_of_old'; install flax_of_old, or put",
    ),
    "a key without a type": (
        "my_models.py:Unigram",
        UNIGRAM.replace("add: float = Field(1.0", "add = Field(1.0"),
        "give the hyperparameter a type, as in add: int = ...",
    ),
    "no context": ("my_models.py:Unigram", UNIGRAM.replace("context =", "reach ="), "does not say its context"),
    "a context of text": ("my_models.py:Unigram", UNIGRAM.replace(" 0)", " 'all')"), "says that its context is 'all'"),
    "a key of every entry": (
        "my_models.py:Unigram",
        UNIGRAM.replace("add: float", "seeds: int = 1\n    add: float"),
        "has a hyperparameter 'seeds', as every entry of a config has; another name",
    ),
    "a file that it hides": (
        "my_models.py:Unigram",
        "import importlib\nimportlib.import_module('beside')\n" + UNIGRAM,
        "imports beside.py in a way that its text does not show",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(folder, mistake):
    type_name, code, message = MISTAKES[mistake]
    write("my_models.py", code)
    write("beside.py", "X = 1\n")
    problem = problem_of(f"  mine: {{type: {type_name}}}\n")
    assert message in problem and "\n" not in problem and problem.startswith("own.yaml: models.mine"), problem


def test_a_build_that_fails_is_said_before_any_job(folder):
    write("my_models.py", GATED.replace("range(self.layers)]", "range(self.depth)]"))
    problem = problem_of("  gated: {type: my_models.py:GatedCNN}\n")
    assert "my_models.py:33: AttributeError: 'GatedCNN' object has no attribute 'depth'" in problem


def test_a_name_of_the_ladder_is_not_taken_by_another_class(folder):
    write("my_models.py", UNIGRAM)
    problem = problem_of("  unigram: {type: my_models.py:Unigram}\n")
    assert "models.unigram: is the name of a model of the ladder" in problem and "such as my_unigram" in problem


def test_what_a_file_prints_is_heard_by_nobody(folder, capfd):
    write("my_models.py", WRITING + UNIGRAM)
    assert list(run_of("  mine: {type: my_models.py:Unigram}\n").models) == ["bigram", "mine"]
    assert capfd.readouterr() == ("", "")


def test_control_characters_of_a_foreign_message_are_written_out(folder):
    write("my_models.py", UNIGRAM + 'raise RuntimeError("\\x1b[2J")\n')
    assert "\\x1b[2J" in problem_of("  mine: {type: my_models.py:Unigram}\n")


@pytest.mark.parametrize("setting", ["models.mine.type=my_models.py:Unigram", "models.mine.type=my_models.py:Unigramm"])
def test_a_setting_names_a_class_as_a_config_does(folder, setting):
    write("my_models.py", UNIGRAM)
    Path("own.yaml").write_text(CONFIG)
    if setting.endswith("mm"):
        with pytest.raises(UserError, match="did you mean 'Unigram'"):
            read_run(Path("own.yaml"), {"set": setting})
    else:
        assert list(read_run(Path("own.yaml"), {"set": setting}).models) == ["bigram", "mine"]


# ---------------------------------------------------------------- content


def test_the_code_is_the_file_and_what_it_imports_beside_it_and_nothing_else(folder):
    imports = "from tables import smooth\nimport parts.more\n"
    write("my_models.py", imports + UNIGRAM)
    write("tables.py", "smooth = 1\n")
    write("parts/__init__.py", "from .other import y\n")
    write("parts/more.py", "z = 1\n")
    write("parts/other.py", "y = 1\n")
    write("unrelated.py", "x = 1\n")
    source = own_models.origin_of("my_models.py:Unigram").source
    code = own_models.own_code.code_from(source)
    assert set(code.files) == {"my_models", "tables", "parts", "parts.more", "parts.other"}
    assert code.ours == {"lmstages.models.own"}
    for path in ("my_models.py", "tables.py", "parts/__init__.py", "parts/more.py", "parts/other.py"):
        before, text = own_models.own_code.code_from(source).content, Path(path).read_text()
        Path(path).write_text(text + "# a comment\n")
        assert own_models.own_code.code_from(source).content == before
        Path(path).write_text(text + "EDITED = 1\n")
        assert own_models.own_code.code_from(source).content != before
    before = own_models.own_code.code_from(source).content
    write("unrelated.py", "x = 2\n")
    assert own_models.own_code.code_from(source).content == before


def test_a_file_beside_it_that_an_installed_module_hides_is_said(folder):
    write("my_models.py", "import numpy\nimport yaml\n" + UNIGRAM)
    write("yaml.py", "X = 1\n")
    assert "rename yaml.py" in problem_of("  mine: {type: my_models.py:Unigram}\n")


def test_a_job_refuses_a_file_that_changed_since_the_run_began(folder):
    write("my_models.py", UNIGRAM)
    section = json.loads(run_of("  mine: {type: my_models.py:Unigram}\n").fit_section("mine"))
    assert config_of(section).add == 1.0
    write("my_models.py", UNIGRAM.replace("self.add", "3 * self.add"))
    with pytest.raises(UserError, match=r"my_models.py:Unigram: changed since the run began; start snakemake again"):
        config_of(section)


# ---------------------------------------------------------------- fitted and loaded


def saved(folder, type_name):
    """A model of a type, fitted and saved below ``results``; its scores of some rows."""
    model = Subject(own_models.load(type_name)()).fitted()
    path = folder / "results/run/coined/char/mine/seed0/model.safetensors"
    save_model(path, model, MADE)
    return path, model.score(drawn(3, 4, 12))


def test_a_saved_model_is_found_again_by_where_it_lay_and_what_it_was(folder, monkeypatch):
    write("my_models.py", UNIGRAM)
    path, scores = saved(folder, "my_models.py:Unigram")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert np.array_equal(load_model(path).score(drawn(3, 4, 12)), scores)
    write(folder / "my_models.py", UNIGRAM.replace("self.add", "3 * self.add"))
    with pytest.raises(UserError, match=r"was fitted by my_models.py:Unigram with other code than it has now"):
        load_model(path)
    (folder / "my_models.py").unlink()
    with pytest.raises(UserError, match=r"which cannot be loaded; my_models.py: no such file.*put the file back"):
        load_model(path)


def test_a_class_with_a_second_class_for_its_model_keeps_the_contract_itself(folder):
    write(
        "my_models.py",
        """
        import numpy as np
        from lmstages.models.own import ModelConfig

        class Flat(ModelConfig):
            family, model = "counts", "FlatModel"
            context = property(lambda self: 0)

        class FlatModel:
            def __init__(self, config, vocab_size):
                self.config, self.vocab_size = config, vocab_size
            def fit(self, train, valid, seed):
                return []
            def score(self, tokens, before=None):
                return np.full(tokens.shape, -np.log(self.vocab_size))
            def next_log_probs(self, prefix):
                return np.full((len(prefix), self.vocab_size), -np.log(self.vocab_size))
            def arrays(self):
                return {}
            def restore(self, arrays):
                pass
            def parameters(self):
                return 0
        """,
    )
    run = run_of("  mine: {type: my_models.py:Flat}\n")
    model = build(config_of(json.loads(run.fit_section("mine"))), 7)
    assert np.allclose(model.score(drawn(0, 2, 3)), -np.log(7))
    assert main(["laws", "my_models.py:Flat"]) == 0


def test_an_exception_of_the_class_is_its_row_and_names_the_line(folder):
    write("my_models.py", UNIGRAM.replace("counts / counts.sum()", "counts / nothing"))
    section = json.loads(run_of("  mine: {type: my_models.py:Unigram}\n").fit_section("mine"))
    documents = Documents.single(drawn(0, 200))
    model, facts = outcome(section, 7, (documents, documents), 0, 1, Runtime())
    assert model is None
    assert facts["status"].startswith("failed: my_models.py:16: NameError: name 'nothing' is not defined")


# ---------------------------------------------------------------- an installed package


@pytest.fixture
def installed(folder, monkeypatch):
    """A package with an entry point, as pip would install it."""
    write("site/waves/__init__.py", "")
    write("site/waves/tables.py", "FACTOR = 2\n")
    write("site/waves/models.py", "from waves.tables import FACTOR\n" + UNIGRAM)
    write("site/waves-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: waves\nVersion: 1.0\n")
    entries = "[lmstages.models]\nwave = waves.models:Unigram\nbigram = waves.models:Unigram\n"
    write("site/waves-1.0.dist-info/entry_points.txt", entries)
    monkeypatch.syspath_prepend(str(folder / "site"))
    monkeypatch.setenv("PYTHONPATH", f"{folder / 'site'}:{Path(own_models.__file__).parents[2]}")
    own_models.installed.cache_clear()
    yield folder / "site"
    own_models.installed.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "waves"]:
        del sys.modules[name]


def test_an_installed_model_is_a_type_by_the_name_of_its_entry_point(installed, capsys):
    run = run_of("  wave: {add: 2.0}\n  other: {type: wave}\n")
    section = json.loads(run.fit_section("other"))
    assert section["type"] == "wave" and config_of(section).add == 1.0
    source = own_models.origin_of("wave").source
    assert set(own_models.own_code.code_from(source).files) == {"waves", "waves.models", "waves.tables"}
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "wave  waves.models:Unigram of waves" in listed
    assert "bigram  waves.models:Unigram of waves [hidden: the ladder has a model of this name]" in listed


def test_two_packages_with_one_name_are_refused(installed):
    shutil.copytree(installed / "waves-1.0.dist-info", installed / "tides-1.0.dist-info")
    write(installed / "tides-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tides\nVersion: 1.0\n")
    own_models.installed.cache_clear()
    assert "is a model of several installed packages (tides, waves)" in problem_of("  wave:\n")
