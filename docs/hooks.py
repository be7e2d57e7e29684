"""Hooks of ``mkdocs.yml``: the pages of the repository's root join those of docs/, links to source files stay, the
first use of a term on a page leads to the glossary, and formulas become MathML, which needs no script."""

import posixpath
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
GLOSSARY = "glossary.md"
TERM = re.compile(r"^\*\*(.+?)\*\* — ", re.MULTILINE)  # of the glossary
# Terms that are everyday words, too: where one stands it is mostly the word, and a link would promise more
EVERYDAY = re.compile(
    "before|block|bound|category|checks?|command|discount|document|escape|fit|frame|inspection|law|layer|mirror|model|"
    "overlap|probe|profile|recompute|record|reported|row|rule|run|sample|schema|score|section|type|whole",
    re.IGNORECASE,
)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)  # of pymdownx.arithmatex
NAME = r"<mi>[A-Za-z]{2,}</mi>"  # of a function
THIN = '<mspace width="0.17em"/>'
SKIPPED = re.compile(r"<(a|code|pre|h\d|script|svg|math)\b.*?</\1>|<[^>]*>", re.DOTALL)  # text that stays as it is
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#]*)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, their links relative to docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to pages of the root name their page here; those to other files of the repository lead out of site/."""
    folder = posixpath.dirname(page.file.src_uri)
    if page.file.src_uri == GLOSSARY:
        markdown = TERM.sub(lambda term: f'<a id="{slug(term[1])}"></a>{term[0]}', markdown)
    return LINK.sub(lambda link: _link(link, files, folder), markdown)


def _link(link: re.Match[str], files: Files, folder: str) -> str:
    """A link of a page in ``folder`` of docs/; README's paths are those of a page at the top of docs/."""
    text, anchor = link[1], link[3] or ""
    path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
    inside = posixpath.relpath(path, "docs") if path.startswith("docs/") else PAGES.get(path, "")
    if not inside and link[2] in PAGES:
        inside = PAGES[link[2]]
    if files.get_file_from_path(inside or link[2]):
        return f"[{text}]({posixpath.relpath(inside or link[2], folder or '.')}{anchor})"
    path = path if (ROOT / path).exists() else link[2]
    assert (ROOT / path).exists(), f"{link[2]}, which a page links to, is a file of the repository"
    return f'<a href="{posixpath.relpath(path, posixpath.join("site", folder))}{anchor}">{text}</a>'


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Formulas become MathML, and the first use of each term on a page a link to the glossary."""
    html = with_formulas(html)
    if page.file.src_uri in (GLOSSARY, "changes.md"):
        return html
    target = posixpath.relpath("glossary.html", posixpath.dirname(page.file.src_uri) or ".")
    return with_terms(html, terms(), target)


def with_formulas(page: str) -> str:
    """HTML with LaTeX in it -> the same with MathML."""
    return FORMULA.sub(lambda use: f'<{use[1]} class="arithmatex">{_mathml(use[2], use[1] == "div")}</{use[1]}>', page)


def _mathml(latex: str, is_displayed: bool) -> str:
    """Names of functions are upright, and apart from what is beside them; a command that is not known is an error."""
    formula = convert(unescape(latex).strip(), display="block" if is_displayed else "inline")
    assert "\\" not in formula, f"latex2mathml does not know a command of {latex}"
    formula = re.sub(r"<mo>([A-Za-z]{2,})</mo>", r"<mi>\1</mi>", formula)
    formula = re.sub(rf"({NAME})(?=<m(?:i|n|sub|sup|frac)>)", rf"\1{THIN}", formula)
    return re.sub(rf"(</mi>|</msub>)(?={NAME})", rf"\1{THIN}", formula)


def terms() -> list[str]:
    """The terms of the glossary that are linked, the longest first."""
    names = TERM.findall((ROOT / "docs" / GLOSSARY).read_text("utf-8"))
    return sorted({name for name in names if not EVERYDAY.fullmatch(name)}, key=lambda name: (-len(name), name))


def with_terms(html: str, names: list[str], target: str) -> str:
    """HTML -> the same, with the first use of each name in running text as a link below ``target``."""
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names))})(?:s)?(?![\w-])", re.IGNORECASE)
    by_lower, linked, parts, end = {name.lower(): name for name in names}, set[str](), [], 0

    def link(use: re.Match[str]) -> str:
        name = by_lower[use[1].lower()]
        if name in linked:
            return use[0]
        linked.add(name)
        return f'<a class="term" href="{target}#{slug(name)}">{use[0]}</a>'

    for skipped in SKIPPED.finditer(html):
        parts += [pattern.sub(link, html[end : skipped.start()]), skipped[0]]
        end = skipped.end()
    return "".join([*parts, pattern.sub(link, html[end:])])


def slug(term: str) -> str:
    """The anchor of a term."""
    return "term-" + re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")
