"""The pages say what is so: paths exist, counts are right, the picture is that of the imports, terms are in order."""

import functools
import json
import os
import re
import resource
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

import lmstages
from lmstages.cli import COMMANDS, parser
from lmstages.config.descriptions import keys
from lmstages.config.ladder import LADDER, MODEL_TYPES
from lmstages.config.reading import read_run
from lmstages.config.run import Experiments
from lmstages.config.sections import (
    Basics,
    Corpus,
    Mixture,
    OwnSeeds,
    Pretrained,
    Published,
    Sampling,
    Scoring,
    Split,
    Tokenizer,
)
from lmstages.config.strict_yaml import load_yaml
from lmstages.core.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
ARCHITECTURE = (PROJECT / "docs/architecture.md").read_text("utf-8")
GLOSSARY = (PROJECT / "docs/glossary.md").read_text("utf-8")
TERMS = re.findall(r"^\*\*(.+?)\*\* — ((?:.|\n(?!\n))+)", GLOSSARY, re.MULTILINE)
WALKS = re.findall(r"^### (.+): (\d) files?\n\n((?:.|\n(?!\n))+)", ARCHITECTURE, re.MULTILINE)


def test_the_table_and_the_picture_of_the_layers_are_those_of_the_imports():
    layers = runpy.run_path(str(PROJECT / "docs/layers.py"))
    assert layers["page"](ARCHITECTURE) == ARCHITECTURE, "python docs/layers.py draws them anew"
    assert (PROJECT / "docs/layers.svg").read_text("utf-8") == layers["picture"](), "python docs/layers.py"


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


# Reference pages, generated from the code

REFERENCE = runpy.run_path(str(PROJECT / "docs/reference.py"))


@pytest.mark.parametrize("name", REFERENCE["PAGES"])
def test_a_generated_page_is_that_of_the_code(name):
    assert (PROJECT / "docs" / name).read_text("utf-8") == REFERENCE["PAGES"][name](), "run python docs/reference.py"


def test_every_model_and_each_of_its_keys_is_on_the_page_of_models():
    page = (PROJECT / "docs/models.md").read_text("utf-8")
    sections = dict(re.findall(r"^`type: (\w+)`((?:.|\n(?!## ))+)", page, re.MULTILINE))
    assert [*sections] == [config.name for config in LADDER]
    shared = page.partition("## Keys of every network")[2]
    for config in LADDER:
        text = sections[config.name] + (shared if "(#keys-of-every-network)" in sections[config.name] else "")
        assert not [key.name for key in keys(config) if f"| `{key.name}` |" not in text]


def test_every_key_of_a_config_has_a_meaning_on_the_page_of_the_config():
    page = (PROJECT / "docs/config.md").read_text("utf-8")
    records = [Basics, Corpus, Split, Tokenizer, OwnSeeds, Scoring, Mixture, Pretrained, Sampling, Published]
    names = {name for record in records for name in record.model_fields} - {"name"} | {"type", "scoring"}
    assert len(names) > 50 and all(re.search(rf"^\| `{name}` \|.*\| [A-Z][^|]+\.", page, re.M) for name in names)
    sections = set(Experiments.model_fields) - set(Basics.model_fields) - {"sweeps"}
    assert all(f"\n## {section.capitalize()}\n" in page for section in sections)


def test_every_key_of_a_record_has_a_description_and_every_model_a_formula():
    records = [*LADDER, Basics, Corpus, Split, Tokenizer, OwnSeeds, Scoring, Mixture, Pretrained, Sampling, Published]
    assert not [(r.__name__, name) for r in records for name, key in r.model_fields.items() if not key.description]
    assert all(config.formula.strip() for config in LADDER)


def test_a_subclass_with_another_default_keeps_the_meaning_of_a_key():
    assert MODEL_TYPES["gpt"].model_fields["batch_size"].default == 12
    described = [MODEL_TYPES[name].model_fields["batch_size"].description for name in ("gpt", "lstm", "residual")]
    assert described == ["Rows of tokens per step; null takes all rows at every step."] * 3


def test_every_command_and_each_of_its_options_is_on_the_page_of_commands():
    page = (PROJECT / "docs/commands.md").read_text("utf-8")
    subparsers = next(action for action in parser()._actions if hasattr(action, "choices") and action.choices)
    assert set(COMMANDS) == set(subparsers.choices)
    for name in COMMANDS:
        section = page.partition(f"\n### {name}\n")[2].partition("\n##")[0]
        options = {option for action in subparsers.choices[name]._actions for option in action.option_strings}
        assert not [option for option in options - {"-h", "--help"} if f"`{option}" not in section]


def test_every_public_function_is_on_the_page_of_the_api():
    page = (PROJECT / "docs/api.md").read_text("utf-8")
    assert set(lmstages.PUBLIC) == {*lmstages.__all__} and lmstages.PUBLIC
    assert all(f"\n## {name}\n" in page and f"    lmstages.{name}(" in page for name in lmstages.PUBLIC)


# The schema of a config, for editors

VALIDATOR = Draft7Validator(json.loads((PROJECT / "docs/config.schema.json").read_text("utf-8")))
CONFIGS = [PROJECT / "config.yaml", *sorted((PROJECT / "runs").glob("*.yaml"))]


@pytest.mark.parametrize("path", CONFIGS, ids=[path.name for path in CONFIGS])
def test_the_schema_accepts_every_config_of_the_project_and_each_names_it(path):
    assert not list(VALIDATOR.iter_errors(load_yaml(path)))
    first = path.read_text("utf-8").splitlines()[0]
    assert (
        first == f"# yaml-language-server: $schema={os.path.relpath(PROJECT / 'docs/config.schema.json', path.parent)}"
    )


@pytest.mark.parametrize(
    "content",
    [
        {"modles": {}},
        {"models": {"gpt": {"widht": 3}}},
        {"models": {"gpt": {"width": "wide"}}},
        {"models": {"gpt": {"width": 0}}},
        {"models": {"mine": {"width": 3}}},
        {"models": {"gpt": {"type": "bigram", "width": 3}}},
        {"models": {"A model": {"type": "gpt"}}},
        {"corpora": {"fables": {"split": {"train": -1}}}},
        {"models": {"gpt": {"width": {"sweep": []}}}},
        {"sampling": {"temperature": "hot"}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_reader_refuses(content, tmp_path):
    assert list(VALIDATOR.iter_errors(content))
    whole = {"corpora": {"fables": None}, "tokenizers": {"char": {"kind": "char"}}, "models": {"bigram": None}}
    (tmp_path / "a.yaml").write_text(json.dumps({**whole, **content}))
    with pytest.raises(UserError):
        read_run(tmp_path / "a.yaml")


@pytest.mark.parametrize("models", [{"gpt": None}, {"gpt": {"width": {"sweep": [8, 16]}}}, {"gpt": {"type": "bigram"}}])
def test_the_schema_accepts_defaults_sweeps_and_other_names(models):
    assert not list(VALIDATOR.iter_errors({"models": models}))


# Figures and terms

MADE_BY = re.compile(r"\b(make (report|readme)|snakemake|pytest|python (docs|benchmarks)/|tests/\w+\.py)")
WITH_FIGURES = [
    PROJECT / "README.md",
    *(PROJECT / f"docs/{name}.md" for name in ("results", "published", "benchmarks", "pictures")),
]


@pytest.mark.parametrize("path", WITH_FIGURES, ids=[path.name for path in WITH_FIGURES])
def test_every_section_with_figures_names_the_command_that_makes_them(path):
    sections = re.split(r"^(?=#+ )", path.read_text("utf-8"), flags=re.MULTILINE)
    with_figures = [text for text in sections if re.search(r"!\[|^\|.*\d\.\d", text, re.MULTILINE)]
    assert with_figures and not [text.splitlines()[0] for text in with_figures if not MADE_BY.search(text)]


README = (PROJECT / "README.md").read_text("utf-8").splitlines()


def test_the_readme_fits_on_a_few_screens_and_shows_early_what_comes_out():
    assert len(README) - len(LADDER) <= 128  # beside a line for each model
    assert next(number for number, line in enumerate(README) if "bits per byte (oracle" in line) < 60


def test_the_readme_says_first_what_people_ask_for_elsewhere_and_instead_of_what_it_is():
    begin = " ".join(README[: README.index("## Run it")])
    for words in (
        "paired difference, its 95 % interval",
        "Every score, perplexity too, has an interval",
        "Bytes are counted in the text itself",
        "Each token is scored exactly once",
        "**For whom, and instead of what.**",
        *("nanoGPT", "KenLM", "lm-evaluation-harness"),
        *("The *ladder*** is", "The *oracle*** is"),
    ):
        assert words in begin


def test_every_picture_of_a_page_is_there_and_all_are_small_together():
    pages = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]
    named = {
        (page.parent / path).resolve()
        for page in pages
        for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    assert not [path for path in named if not path.is_file()]
    pictures = set((PROJECT / "docs").glob("*.png"))
    assert pictures <= named and sum(path.stat().st_size for path in pictures) < 2_500_000


def test_the_page_of_pictures_has_all_that_its_command_takes():
    page = (PROJECT / "docs/pictures.md").read_text("utf-8")
    script = runpy.run_path(str(PROJECT / "docs/screenshots.py"))
    runs = [Path(run) for run in re.search(r"screenshots\.py (.+)", page)[1].split()]
    taken = {*script["SHOTS"], *(name for run in runs for name in script["shots_of"](run))}
    assert len(runs) == 3 and taken == set(re.findall(r"\((report-[\w-]+)\.png\)", page)) | {"report-desktop-light"}


HOOKS = runpy.run_path(str(PROJECT / "docs/hooks.py"))


def test_the_first_use_of_a_term_leads_to_the_glossary():
    html = "<h2>A token</h2><p>A <code>token</code> or two tokens, one <a href='x'>token</a>, a token.</p>"
    linked = HOOKS["with_terms"](html, ["token"], "glossary.html")
    assert linked == html.replace("two tokens", 'two <a class="term" href="glossary.html#term-token">tokens</a>')


def test_the_longest_term_is_linked_and_words_of_everyday_are_not():
    terms = HOOKS["terms"]()
    assert terms.index("block bootstrap") < terms.index("token") and "row" not in terms and len(terms) > 60
    linked = HOOKS["with_terms"]("<p>The block bootstrap of a row, bits-per-byte.</p>", terms, "glossary.html")
    assert linked.count("<a") == 1 and "#term-block-bootstrap" in linked


# Formulas


def mathml(latex):
    """LaTeX of a paragraph -> what stands on the page."""
    return HOOKS["with_formulas"](f'<span class="arithmatex">\\({latex}\\)</span>')


def test_a_formula_becomes_mathml_with_upright_names_that_stand_apart():
    page = mathml(r"p_t &lt; \operatorname{norm}(x) + \ln 2")
    assert page.startswith(
        '<span class="arithmatex"><math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">'
    )
    assert "<msub><mi>p</mi><mi>t</mi></msub><mo>&#x0003C;</mo><mi>norm</mi><mo" in page
    assert '<mi>ln</mi><mspace width="0.17em"/><mn>2</mn>' in page and "\\" not in page


def test_a_formula_of_its_own_is_displayed_and_no_term_in_it_is_a_link():
    page = HOOKS["with_formulas"]('<div class="arithmatex">\\[\n\\text{token}\n\\]</div>')
    assert 'display="block"' in page and page.startswith('<div class="arithmatex"><math')
    assert HOOKS["with_terms"](page, ["token"], "glossary.html") == page


def test_a_command_that_is_not_known_stops_the_build():
    with pytest.raises(AssertionError, match="does not know a command of"):
        mathml(r"\softmaxx(x)")


@pytest.mark.parametrize("config", LADDER, ids=[config.name for config in LADDER])
def test_the_formula_of_a_model_can_be_drawn(config):
    parts = REFERENCE["formula_parts"](config.formula)
    formulas = [formula for part in parts for formula in re.findall(r"\$+([^$]+)\$+", part)]
    assert all("<math" in mathml(formula) for formula in formulas) and (formulas or config.name == "llama_cpp")


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


@pytest.mark.slow
def test_no_page_of_the_site_loads_anything_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    loaded = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=["']?(https?:|//)[^>]*""")
    assert not [(page.name, use[0]) for page in pages for use in loaded.finditer(page.read_text("utf-8"))]


@pytest.mark.slow
@pytest.mark.needs("browser")
def test_the_search_works_from_disk_without_an_error(site, tmp_path):
    url = f"{(site / 'index.html').as_uri()}?q=perplexity"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path}"]
    command = ["chromium", *options, "--virtual-time-budget=20000", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert int(re.search(r"(\d+) matching documents", done.stdout)[1]) > 3
    assert "CONSOLE" not in done.stderr
