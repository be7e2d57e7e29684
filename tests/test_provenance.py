"""An edit of code changes the hash of the jobs that run it, and of no others."""

import os
import shutil

import pytest

from lmstages.config.ladder import LADDER, MODEL_TYPES
from lmstages.core import provenance

COMMANDS = ("download", "prepare", "tokenize", "oracle", "summarize", "report", "figures", "verdict")
COUNTS = {config.name for config in LADDER if config.module == MODEL_TYPES["ngram"].module}
NEURAL = {config.name for config in LADDER if config.family == "neural"}


def jobs(commands, models):
    return {f"{command} {model}" for command in commands for model in models}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package that a test may edit."""
    copy = shutil.copytree(provenance.PACKAGE, tmp_path / "lmstages", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    return copy


def hashes():
    """{job: hash}, read anew: within one process a file is read once."""
    for cached in (provenance._commands, provenance._imports_of, provenance._code_of):
        cached.cache_clear()
    models = [(f"{command} {m.name}", command, m.module) for command in ("fit", "evaluate") for m in LADDER]
    of_models = {job: provenance.code_hash(command, module) for job, command, module in models}
    return {**of_models, **{command: provenance.code_hash(command) for command in COMMANDS}}


@pytest.fixture
def changed_by(package):
    """The jobs whose code an edit of a file changes."""

    def changed(name, edit=b"\nEDITED = 1\n"):
        before, whole = hashes(), provenance.package_hash()
        path = package / name
        path.write_bytes(edit(path.read_bytes()) if callable(edit) else path.read_bytes() + edit)
        after = hashes()
        assert provenance.package_hash() != whole
        return {job for job in before if before[job] != after[job]}

    return changed


def test_a_touch_changes_nothing(package):
    before, whole = hashes(), provenance.package_hash()
    for path in package.rglob("*"):
        os.utime(path, (0, 0))
    assert hashes() == before and provenance.package_hash() == whole


def test_the_same_code_elsewhere_has_the_same_hash(package, monkeypatch):
    here = hashes()
    monkeypatch.undo()
    assert hashes() == here


HYPERPARAMETERS = [f"hyperparameters/{name}.py" for name in provenance.RECORDS]


@pytest.mark.parametrize("name", ["ladder.py", "sections.py", "run.py", "reading.py", *HYPERPARAMETERS])
def test_the_ladder_and_the_config_reach_a_job_as_its_section(changed_by, name):
    assert changed_by(f"config/{name}") == set()


def reworded(code):
    """Other docstrings, comments and empty lines."""
    code = code.replace(b'"""', b'"""Reworded: ', 1).replace(b'):\n    """', b'):\n    """Reworded: ')
    return code.replace(b"\n\n\n", b"\n\n\n# a comment\n\n\n") + b"# the end\n"


@pytest.mark.parametrize("name", ["models/counts/ngram.py", "training/loop.py", "core/artifacts.py", "cli.py"])
def test_a_comment_or_a_docstring_changes_no_job(changed_by, name):
    assert changed_by(name, reworded) == set()


def test_a_docstring_is_only_what_begins_a_module_a_class_or_a_function(changed_by):
    assert "fit gpt" in changed_by(
        "training/loop.py", lambda code: code.replace(b"step %s", b"Step %s") + b'x = """a"""\n'
    )


def test_the_options_of_a_command_are_no_part_of_its_code(changed_by):
    edited = changed_by(
        "cli.py", lambda code: code.replace(b'@command("splits", paths=["text"],', b'@command("splits",')
    )
    assert edited == set()


def test_a_model_changes_only_itself(changed_by):
    gpts = {config.name for config in LADDER if config.module == "lmstages.models.neural.gpt"}
    assert changed_by("models/neural/gpt.py") == jobs(["fit", "evaluate"], gpts) and "gpt" in gpts


def test_the_neural_family_changes_every_neural_model(changed_by):
    changed = changed_by("models/neural/base.py")
    assert jobs(["fit", "evaluate"], ["gpt", "mlp", "neural_bigram"]) <= changed <= jobs(["fit", "evaluate"], NEURAL)


def test_training_changes_no_counts(changed_by):
    changed = changed_by("training/loop.py")
    assert "fit gpt" in changed and not changed & jobs(["fit", "evaluate"], COUNTS) and not changed & set(COMMANDS)


def test_counting_changes_only_counts(changed_by):
    assert (
        jobs(["fit", "evaluate"], COUNTS)
        <= changed_by("models/counts/ngram.py")
        <= jobs(["fit", "evaluate"], MODEL_TYPES)
    )


@pytest.mark.parametrize("name", [f"evaluation/{module}.py" for module in ("scoring", "sampling", "experiment")])
def test_scoring_changes_every_evaluation_and_no_fit(changed_by, name):
    changed = changed_by(name)
    assert changed and {job.split()[0] for job in changed} == {"evaluate"}
    assert jobs(["evaluate"], COUNTS) <= changed


@pytest.mark.parametrize("name", ["report/table.html.jinja", "report/page.py", "report/tables.py"])
def test_the_report_changes_only_itself(changed_by, name):
    assert changed_by(name) == {"report"}


@pytest.mark.parametrize("name", ["corpora/grammar.py", "corpora/coined.yaml", "corpora/fables.yaml"])
def test_a_grammar_changes_its_text_and_its_oracle(changed_by, name):
    edit = b"\nEDITED = 1\n" if name.endswith(".py") else b"\n# edited\n"
    assert changed_by(name, edit) == {"prepare", "oracle"}


def test_the_downloader_changes_only_downloads(changed_by):
    assert changed_by("corpora/download.py") == {"download"}


def test_how_files_are_written_changes_everything(changed_by):
    assert changed_by("core/artifacts.py") >= set(COMMANDS) | jobs(["fit", "evaluate"], COUNTS)


def test_a_command_changes_only_itself(changed_by):
    edited = changed_by("cli.py", lambda code: code.replace(b'"figures/index.json")]', b'"other.json")]'))
    assert edited == {"report"}


def test_a_new_import_within_a_function_counts(changed_by, package):
    line = b'    """Summarize the score files of a run as its tables."""\n'
    new = line + b"    from lmstages.evaluation import scoring\n"
    assert changed_by("cli.py", lambda code: code.replace(line, new)) == {"summarize"}
    assert "summarize" in changed_by("evaluation/scoring.py")


def test_the_package_hash_covers_code_and_data_and_nothing_else(package):
    before = provenance.package_hash()
    (package / "notes.txt").write_text("x")
    assert provenance.package_hash() == before
    (package / "corpora" / "new.yaml").write_text("x")
    assert provenance.package_hash() != before


def test_versions_are_those_installed():
    assert provenance.versions("numpy")["numpy"].count(".") == 2
