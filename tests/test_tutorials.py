"""The tutorials work as they are written: what a page says to write is written into a copy of the package and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import pyplot
from typed_rows import result

from lmstages.cli import main
from lmstages.results import frame
from lmstages.results.schema import TABLES, columns

PROJECT = Path(__file__).resolve().parents[1]
TUTORIALS = PROJECT / "docs/tutorials"
MADE = {"command": "test"}
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=")


def blocks(name):
    """(the last file that the text before it names, content) of every block of Python on a page."""
    page = (TUTORIALS / name).read_text("utf-8")
    parts = re.split(r"```python\n(.*?)```", page, flags=re.DOTALL)
    files = [re.findall(r"`([\w/]+\.py)`", text) for text in parts[::2]]
    return [(named[-1] if named else "", code) for named, code in zip(files, parts[1::2], strict=False)]


@pytest.fixture
def copy(tmp_path):
    """A copy of package and tests that a tutorial may edit."""
    for folder in ("lmstages", "tests"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


def run(folder, *arguments):
    """Python in the copy -> what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_code(line):
    """Neither empty nor a docstring nor an import."""
    return line.strip() and not line.strip().startswith(('"""', "from ", "import "))


def test_the_model_of_the_tutorial_has_twenty_lines_and_keeps_all_laws(copy):
    (record, record_code), (model, model_code), (laws, line) = blocks("add-a-model.md")
    assert len([line for line in (record_code + model_code + line).splitlines() if is_code(line)]) <= 20
    for path, code in ((record, record_code), (model, model_code)):
        assert not (copy / path).exists()
        (copy / path).write_text(code)
    text = (copy / laws).read_text("utf-8")
    (copy / laws).write_text(text.replace("SMALL = {\n", f"SMALL = {{\n{line}", 1))
    printed = run(copy, *PYTEST, laws, "-k", "average or every_model_of_the_ladder")
    assert int(re.search(r"(\d+) passed", printed)[1]) > 15
    assert "window: 8" in run(copy, "-m", "lmstages", "models", "average")


def test_the_figure_of_the_tutorial_is_found_and_drawn(copy):
    (path, code), (tests, test) = blocks("add-a-figure.md")
    assert not (copy / path).exists()
    (copy / path).write_text(code)
    (copy / tests).write_text((copy / tests).read_text("utf-8") + f"\n\n{test}")
    printed = run(copy, *PYTEST, tests, "-k", "scoring")
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 2


def test_the_corpora_of_the_tutorial_are_read_as_it_says(tmp_path, monkeypatch, capsys):
    page = (TUTORIALS / "add-a-corpus.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    text = " ".join(f"line {number}" for number in range(9999))
    Path("words.txt").write_text(text.replace(" ", "\n"))
    Path("pages.txt").write_text(text)
    Path("runs").mkdir()
    Path("runs/two.yaml").write_text(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    assert main(["check", "runs/two.yaml"]) == 0
    listed = re.search(r"lists what would be fitted.*?\n\n((?:    .*\n)+)", page)[1]
    assert capsys.readouterr().out.split() == listed.split() and len(listed.split()) == 6


def test_what_the_tutorial_of_a_cluster_changes_is_in_the_profile():
    page = (TUTORIALS / "on-a-cluster.md").read_text("utf-8")
    profile = (PROJECT / "profiles/slurm/config.yaml").read_text("utf-8")
    for line in ("slurm_partition: main", "slurm_account: my_project", "fit: {slurm_partition: gpu}"):
        assert line in page and f"# {line}" in re.sub(r"#  +", "# ", profile)
    assert "slurm-status-command: squeue" in page and "# slurm-status-command: squeue" in profile


def row(table, **values):
    """A row of any table: what is not given is empty or a plain value."""
    plain = {"string": "fables", "Int64": 1, "float64": 1.0, "boolean": False}
    return TABLES[table](**{c.name: None if c.optional else plain[c.dtype] for c in columns(TABLES[table])} | values)


def test_the_notebook_reads_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    models = ["bigram", "kneser_ney", "mlp", "gpt"]
    scores = [result(model=model, title=model.upper(), bits_per_byte=4.0 - n) for n, model in enumerate(models)]
    pair = row("differences", a_model="kneser_ney", b_model="gpt", difference=-0.25)
    curves = [row("curves", model=model, step=step, valid=2.0) for model in ("mlp", "lstm", "gpt") for step in (1, 2)]
    for table, rows in (("results", scores), ("differences", [pair]), ("curves", curves)):
        frame.write(Path("results/default"), table, frame.frame(table, rows), MADE)
    names = {}
    for _, code in blocks("notebook.md"):
        exec(compile(code, "notebook.md", "exec"), names)  # the page's own code
    pyplot.close("all")
    printed = capsys.readouterr().out
    assert re.search(r"\| GPT +\| +1.000 \|", printed) and "BIGRAM" not in printed
    assert re.search(r"fables +fables +fables +-0.25", printed)
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")


def test_every_tutorial_is_in_the_contents_and_on_the_front_page():
    pages = sorted(path.name for path in TUTORIALS.glob("*.md"))
    assert len(pages) >= 5
    contents, front = (PROJECT / "mkdocs.yml").read_text("utf-8"), (PROJECT / "README.md").read_text("utf-8")
    assert [
        name for name in pages if f"tutorials/{name}" not in contents or f"docs/tutorials/{name}" not in front
    ] == []
