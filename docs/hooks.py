"""Hooks of ``mkdocs.yml``: the pages of the repository's root join those of docs/, and links to source files stay."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#]*)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, their links relative to docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to pages of the root name their page here; those to other files of the repository lead out of site/."""
    return LINK.sub(lambda link: _link(link, files), markdown)


def _link(link: re.Match[str], files: Files) -> str:
    text, path, anchor = link[1], link[2].removeprefix("../"), link[3] or ""
    target = PAGES.get(path, path)
    if files.get_file_from_path(target):
        return f"[{text}]({target}{anchor})"
    assert (ROOT / path).exists(), f"{path}, which a page links to, is a file of the repository"
    return f'<a href="../{path}{anchor}">{text}</a>'
