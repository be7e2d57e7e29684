"""README and the pages of docs/ point to what exists: links, anchors, commands, runs and paths."""

import re
from pathlib import Path

import pytest

from lmstages.cli import COMMANDS

PROJECT = Path(__file__).resolve().parents[1]
README = PROJECT / "README.md"
PAGES = [README, *sorted(PROJECT.glob("docs/*.md")), PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md"]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
NAMED = re.compile(r"\b((?:benchmarks|docs|lmstages|profiles|runs|tests|workflow)/[\w./-]*\w)")
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def anchors(page):
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}


@EACH_PAGE
def test_every_link_leads_to_a_file_and_a_heading_of_it(page):
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), f"{path} does not exist"
        assert not anchor or anchor in anchors(target), f"{path} has no heading {anchor}"


@EACH_PAGE
def test_every_path_that_is_named_exists(page):
    text = re.sub(r"results/\w+/\S*|\S*NAME\S*", "", page.read_text("utf-8"))
    assert not [path for path in NAMED.findall(text) if not (PROJECT / path).exists()]


@EACH_PAGE
def test_every_run_that_is_started_exists(page):
    runs = re.findall(r"--config run=(\w+)", page.read_text("utf-8"))
    assert not [run for run in runs if not (PROJECT / "runs" / f"{run}.yaml").exists()]


@EACH_PAGE
def test_every_command_of_a_code_block_exists(page):
    commands = re.findall(r"^    (?:\$ )?lmstages (\w+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(commands) <= set(COMMANDS)
