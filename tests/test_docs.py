"""The pages say what is so: paths exist, counts are right, the picture is that of the imports, terms are in order."""

import functools
import re
import resource
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ARCHITECTURE = (PROJECT / "docs/architecture.md").read_text("utf-8")
GLOSSARY = (PROJECT / "docs/glossary.md").read_text("utf-8")
TERMS = re.findall(r"^\*\*(.+?)\*\* — ((?:.|\n(?!\n))+)", GLOSSARY, re.MULTILINE)
WALKS = re.findall(r"^### (.+): (\d) files?\n\n((?:.|\n(?!\n))+)", ARCHITECTURE, re.MULTILINE)


def test_the_table_and_the_picture_of_the_layers_are_those_of_the_imports():
    page = runpy.run_path(str(PROJECT / "docs/layers.py"))["page"]
    assert page(ARCHITECTURE) == ARCHITECTURE, "python docs/layers.py draws them anew"


@pytest.mark.parametrize(("question", "count", "steps"), WALKS, ids=[question for question, *_ in WALKS])
def test_a_walk_opens_as_many_files_as_its_heading_says(question, count, steps):
    assert len(re.findall(r"^\d\. `", steps, re.MULTILINE)) == int(count)


def test_there_is_a_walk_for_every_question_of_a_newcomer():
    assert len(WALKS) == 5


SMALLER = 4096  # bytes: the write of any page of docs/ ends half-way


@pytest.mark.parametrize(("script", "page"), [("readme", "README.md"), ("columns", "docs/columns.md")])
def test_a_page_that_cannot_be_written_whole_stays_as_it_was(tmp_path, script, page):
    shutil.copytree(PROJECT / "docs", tmp_path / "docs")
    shutil.copy(PROJECT / "README.md", tmp_path)
    before = (tmp_path / page).read_bytes()
    command = [sys.executable, f"docs/{script}.py"]
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (SMALLER, SMALLER))
    done = subprocess.run(command, cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert len(before) > SMALLER and done.returncode == 1
    assert (tmp_path / page).read_bytes() == before and not list(tmp_path.rglob("*.partial"))
    if script == "readme":
        assert re.fullmatch(r"lmstages: error: README\.md: no space left to write it .*\n", done.stderr)


def test_every_path_of_the_architecture_exists():
    paths = set(re.findall(r"`([\w./-]+\.(?:py|smk|yaml|md))`", ARCHITECTURE)) - {"NAME.py", "figures/NAME.py"}
    paths = {path for path in paths if "NAME" not in path}
    assert len(paths) > 15
    assert not [path for path in sorted(paths) if not (PROJECT / path).exists() and not exists_in_package(path)]


def exists_in_package(path):
    """Below lmstages/, or a sibling in the folder of a list such as ``hyperparameters/counts.py, neural.py``."""
    return bool(
        list((PROJECT / "lmstages").glob(path)) or list((PROJECT / "lmstages/config/hyperparameters").glob(path))
    )


def test_terms_are_in_alphabetical_order():
    names = [name.lower().replace("-", " ") for name, _ in TERMS]
    assert len(names) > 100 and names == sorted(set(names))


@pytest.mark.parametrize(("name", "text"), TERMS, ids=[name for name, _ in TERMS])
def test_a_term_is_explained_in_two_sentences(name, text):
    sentences = re.findall(r"[.!?](?=\s|$)", re.sub(r"\b(?:et al|e\.g|i\.e|vs)\.", "", re.sub(r"`[^`]*`", "", text)))
    assert len(sentences) == 2
