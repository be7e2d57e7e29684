"""A run in which everything that comes from outside is hostile: texts, paths, names, a server, checkpoints, a config.

Scripts, commands of a terminal, of a shell, of TeX, of a spreadsheet and of a template stand in all of them. Nothing of
it is obeyed by what shows it: the pages in a browser, the terminal, CSV, Markdown, LaTeX.
"""

import base64
import csv
import hashlib
import io
import json
import random
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from server import hostile_server
from test_cli import call
from test_gguf import fitted
from test_page import requests
from test_playground import served, typed
from test_workflow import PROJECT, command, copy_of, environment

from lmstages.config.sources import SOURCES, Part, Source, Variant
from lmstages.core.visible import visible
from lmstages.models.external import gguf_file, huggingface
from lmstages.models.quantized.derived import float32_tensors
from lmstages.results import frame
from lmstages.tokenizers import learn
from lmstages.tokenizers.vocabularies import definition_of, of_tokenizer

pytestmark = pytest.mark.slow
LINES = [
    "<script>window.pwned=3;document.title='pwned'</script>",
    "</script><script>window.pwned=4</script>",
    "<img src=x onerror=window.pwned=5><svg onload=window.pwned=6>",
    "</style></pre></textarea></title><iframe src=javascript:parent.pwned=7>",
    "<input autofocus onfocus=window.pwned=8><a href=javascript:window.pwned=9>a</a><!--",
    "\x1b[31mred\x1b[0m \x1b]0;owned\x07 \x9b2J \x08\x0b\x0c\x7f\x85\u2028\u2029",
    "left \u202e right \u2066 isolate \u200f \u200b \ufeff \U000e0041",
    "{{7*7}} {% for x in y %} {{ config }} ${7*7} #{7*7} <%= 7*7 %>",
    r"$\LaTeX$ \input{/etc/passwd} \write18{touch pwned} %& ~^_# \end{table}",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1+9)*cmd",
    "\t=1+1",
    "| a | b | `code` ``` ~~~ [x](javascript:alert(1)) ![y](http://127.0.0.1:9/y) <http://127.0.0.1:9/z>",
    "'; DROP TABLE rows; -- $(touch pwned) `touch pwned` && touch pwned",
    "constructor __proto__ \U0001f642\u200d\U0001f642 e\u0301",
]
EVERYTHING = " ".join(LINES)
TEXT = "".join(f"{line}\n" for line in random.Random(0).choices(LINES, k=160))
DOWNLOADED = "".join(f"{line}\n" for line in random.Random(1).choices(LINES, k=120)).encode()
FOLDER = 'a\nb it\'s "my" $(touch pwned) `touch pwned`;{a} {{b}} %d <b onclick=window.pwned=10> 🙂 = &'
FILE = "-rf \x1b[31m\n\u202e 'x' \"y\" $(touch pwned);{draft} <script>window.pwned=11<script> ☃ #.txt"
SCORES = f"{FOLDER}.scores"
SECRET = "t0ken-in-the-query"
# As hostile as a name may be: names that JavaScript, spreadsheets, YAML and Windows know.
OWN, FETCHED, CHARACTERS, LONGEST = "nan", "constructor", "1e5", 3 * ("w" * 19 + "x") + "wxyz"
MODELS = {"0_-": "unigram", "valueof": "bigram", "con": "neural_bigram", LONGEST: "uniform"}
REFUSED = ["<script>", "../up", "=1+1", "+1", "-1", "@sum", "a b", "A", "\x1b[31m", "\u202e", "{a}", "$(x)", "a;b", "é"]
REFUSED += ["", ".", "a\nb", "a/b", "__proto__", "z" * 65, "z" * 64, *LINES]
BROKEN_TYPE = "<script>$\\input{x}\x1b[31m|`=cmd\u202e"
BIDI = {*"\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def quoted(text: str) -> str:
    """Text as YAML has it in double quotes."""
    safe = (
        character if character.isalnum() and character.isascii() else f"\\U{ord(character):08x}" for character in text
    )
    return f'"{"".join(safe)}"'


def config(text: Path, mirror: str) -> str:
    models = {
        "unigram": "{}",
        "bigram": "{}",
        "uniform": "{}",
        "neural_bigram": "{steps: 20, evaluate_every: 10, width: 4}",
    }
    entries = "".join(f"  {quoted(n)}: {{type: {t}, {models[t][1:]}\n" for n, t in MODELS.items())
    words = ", ".join(f"{key}: {quoted(EVERYTHING)}" for key in ("source", "setup", "because"))
    said = f"title: {quoted(EVERYTHING)}, source: {quoted(EVERYTHING)}"
    return f"""
mirror: {quoted(mirror)}
compressors: [gzip]
estimation: true
corpora:
  {quoted(OWN)}: {{path: {quoted(str(text))}, documents: lines, inspect: true}}
  {quoted(FETCHED)}: {{source: hostile}}
tokenizers: {{{quoted(CHARACTERS)}: {{kind: char}}}}
models:
{entries}
pretrained:
  prototype: {{path: {quoted(FOLDER)}, corpora: [{quoted(OWN)}]}}
  hasownproperty: {{gguf: {quoted(FOLDER + ".gguf")}, corpora: [{quoted(OWN)}]}}
  tostring: {{path: broken, corpora: [{quoted(OWN)}]}}
scores:
  watch: {{path: {quoted(SCORES)}, corpus: {quoted(OWN)}, unit: nats, {said}}}
sampling: {{count: 2, length: 60, measured: 2, prompt: {quoted(LINES[0])}}}
published:
  - {{corpus: {quoted(OWN)}, model: valueof, split: test, measure: perplexity, value: 5, tolerance: 1, {words}}}
  - {{claim: {quoted(EVERYTHING)}, {words}}}
"""


def write_checkpoints(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LLaMAs whose vocabulary and metadata are hostile, as a folder and as GGUF, and a folder that cannot be read."""
    saved = learn("bpe", 400, iter(LINES), True, False, False).to_json()
    tokens = [token for token in json.dumps(saved, ensure_ascii=False).split() if "script" in token]
    assert tokens, "the vocabulary has hostile tokens"
    model = fitted(tied=False, vocab_size=400)
    describe = gguf_file._describe

    def hostile_description(writer: Any, *arguments: Any) -> None:
        describe(writer, *arguments)
        for key in ("general.author", "general.description", "general.url", "general.<script>window.pwned=12</script>"):
            writer.add_string(key, EVERYTHING)

    monkeypatch.setattr(gguf_file, "_describe", hostile_description)
    gguf_file.write(Path(f"{folder}.gguf"), model.config, 400, float32_tensors(model), of_tokenizer(saved))
    for path in (folder, folder.with_name("broken")):
        huggingface.save(path, model.config, 400, model.arrays(), definition_of(saved), {})
        content = json.loads((path / "config.json").read_text())
        content |= {"name_or_path": EVERYTHING, "license": EVERYTHING, "id2label": {"0": EVERYTHING}}
        content |= {"model_type": BROKEN_TYPE} if path.name == "broken" else {}
        (path / "config.json").write_text(json.dumps(content))


def hostile_source() -> Source:
    digest = hashlib.sha256(DOWNLOADED).hexdigest()
    part = Part("whole", ("rude.txt", "garish.txt"), (Variant("<script>", len(DOWNLOADED), digest),))
    return Source("hostile", (part,), "lines", EVERYTHING, EVERYTHING)


@dataclass(frozen=True)
class Run:
    """A finished run: the folder where it was started, what it printed, and its results."""

    folder: Path
    printed: bytes
    code: int

    @property
    def results(self) -> Path:
        return self.folder / "results/hostile"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = copy_of(PROJECT, tmp_path_factory.mktemp("outside") / FOLDER)
    with open(folder / "lmstages/config/sources.py", "a") as file:
        file.write(f"\nSOURCES['hostile'] = {hostile_source()!r}\n")
    (folder / FILE).write_text(TEXT, encoding="utf-8", newline="")
    (folder / SCORES).write_text("".join(f"{line}\t-1\n" for line in LINES), encoding="utf-8")
    (folder / FOLDER).mkdir()
    with pytest.MonkeyPatch.context() as patch, hostile_server(DOWNLOADED) as server:
        write_checkpoints(folder / FOLDER, patch)
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        mirror = server.url(f"a?token={SECRET}").replace("/a?", "/?")
        (folder / FOLDER / "hostile.yaml").write_text(config(Path(FILE), mirror))
        arguments = command("--configfile", f"{FOLDER}/hostile.yaml")
        done = subprocess.run(arguments, cwd=folder, env=environment(), capture_output=True, check=False)
        yield Run(folder, done.stdout + done.stderr, done.returncode)


@pytest.fixture
def here(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(run.folder)
    monkeypatch.setitem(SOURCES, "hostile", hostile_source())
    return run


def must_be_plain(printed: bytes, allowed: str = "\n") -> str:
    """What reached the terminal, as text: no control character but the newline, nothing that turns its direction."""
    text = printed.decode("utf-8")
    commands = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in BIDI}
    assert not commands - {*allowed}, (commands, text)
    return text


def must_be_a_plain_file(path: Path) -> str:
    """As on the terminal; a text's own tabs are shown as they are."""
    return must_be_plain(path.read_bytes(), "\n\t")


# ---------------------------------------------------------------- the run


def test_every_row_is_made_but_those_whose_checkpoint_or_scores_cannot_be_read(run: Run) -> None:
    printed = must_be_plain(run.printed)
    assert run.code == 1 and "2 of 12 rows failed: nan/own/tostring: failed: " in printed, printed
    rows = frame.read_results(run.results)
    failed = rows[rows["status"] != "ok"]
    assert [*failed["model"]] == ["tostring", "watch"] and "\\x1b[31m|`=cmd\\u202e" in failed["status"].iloc[0]
    models = {(OWN, name) for name in [*MODELS, "prototype", "hasownproperty", "tostring"]}
    models |= {(FETCHED, name) for name in MODELS}
    assert models <= {*zip(rows["corpus"], rows["model"], strict=True)} and len(rows) == 12 + 2 * 2
    assert rows[rows["status"] == "ok"]["bits_per_byte"].notna().all()


def test_no_command_of_a_name_or_a_text_was_run(run: Run) -> None:
    outside = run.folder.parent
    assert [*outside.iterdir()] == [run.folder] and not [*outside.rglob("*pwned")]


def test_the_text_from_the_server_is_what_was_served(run: Run) -> None:
    assert (run.folder / "downloads/hostile.whole.all.txt").read_bytes() == DOWNLOADED
    made = json.loads((run.folder / "downloads/.made/hostile.whole.all.txt.json").read_text())
    assert made["made"]["download"]["from"].endswith("/garish.txt?...")


def test_logs_are_plain_and_hold_no_secret(run: Run) -> None:
    logs = [*(run.folder / "logs").rglob("*.log")]
    assert len(logs) > 30
    for log in logs:
        assert SECRET not in must_be_plain(log.read_bytes())
    assert SECRET.encode() not in run.printed
    assert not [path for path in run.results.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


# ---------------------------------------------------------------- the terminal


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["table", "results/hostile"], 0, "prototype"),
        (["explain", f"results/hostile/{OWN}/{CHARACTERS}/con/seed0"], 0, "to make it again"),
        (["explain", f"results/hostile/{OWN}/own/hasownproperty/seed0"], 0, "to make it again"),
        (["explain", f"results/hostile/{OWN}/own/tostring/seed0"], 0, "failed: "),
        (["explain", f"results/{EVERYTHING}"], 1, "no such folder"),
        (["table", EVERYTHING], 1, "no such folder"),
        (["check", f"{FOLDER}/hostile.yaml"], 0, f"{OWN}/{CHARACTERS}/0_-/seed0"),
        (["check", EVERYTHING], 1, "cannot be read"),
        (["verify", "results/hostile"], 0, "0 damaged or missing"),
        (["verify", EVERYTHING], 1, "no such folder"),
        (["diff", "results/hostile", EVERYTHING], 1, "no such folder"),
        (["play", EVERYTHING], 1, "no such folder"),
        (["download", "--source", "names", "--out", "x", "--part", EVERYTHING], 1, "is no part of names"),
        (["download", "--source", "names", "--out", "x", "--mirror", EVERYTHING], 1, "mirror"),
        (["overlap", "--text", EVERYTHING, "--out", "x", "--section", '{"splits": ["test"]}'], 1, "no such file"),
        (["table", "--log", EVERYTHING.replace("/", ""), "results/hostile"], 1, "no log can be written"),
    ],
)
def test_a_command_prints_nothing_that_a_terminal_obeys(
    here: Run, capfdbinary: Any, command: list[str], code: int, words: str
) -> None:
    assert call(*command) == code
    printed = must_be_plain(b"".join(capfdbinary.readouterr()))
    assert words in printed and "Traceback" not in printed, printed


@pytest.mark.parametrize(
    "arguments", [[EVERYTHING], ["table"], ["fit", "--section", EVERYTHING], ["play", ".", "--port", EVERYTHING]]
)
def test_a_wrong_argument_is_repeated_without_its_commands(here: Run, capfdbinary: Any, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        call(*arguments)
    assert "error: " in must_be_plain(capfdbinary.readouterr().err)


@pytest.mark.parametrize("behaviour", ["rude", "garish"])
def test_an_answer_that_is_refused_is_told_without_its_commands(
    here: Run, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    part = Part("whole", (f"{behaviour}.txt",), (Variant("original", 3, "0" * 64),))
    monkeypatch.setitem(SOURCES, "names", Source("names", (part,), "lines", "", ""))
    with hostile_server(b"".join(f"{line}\n".encode() for line in LINES)) as server:
        assert call("download", "--source", "names", "--out", "x.txt", "--mirror", server.url("")) == 1
    printed = must_be_plain(capfdbinary.readouterr().err)
    assert "lmstages: error: names in mirror http://127.0.0.1:" in printed and not Path("x.txt").exists()


ENTRIES = {
    "corpora": "{source: coined}",
    "tokenizers": "{kind: byte}",
    "models": "{type: bigram}",
    "pretrained": "{path: broken}",
    "mixtures": "{of: [con, valueof]}",
    "scores": "{path: broken}",
}


@pytest.mark.parametrize("section", ENTRIES)
def test_a_name_that_is_none_is_refused_in_visible_characters(
    here: Run, tmp_path: Path, capfdbinary: Any, section: str
) -> None:
    content = (here.folder / FOLDER / "hostile.yaml").read_text()
    beginning = f"tokenizers: {{{quoted(CHARACTERS)}" if section == "tokenizers" else f"{section}:\n"
    content += "" if beginning in content else beginning
    for name in REFUSED:
        entry = f"{quoted(name)}: {ENTRIES[section]}"
        added = f"tokenizers: {{{entry}, {quoted(CHARACTERS)}" if section == "tokenizers" else f"{beginning}  {entry}\n"
        (tmp_path / "run.yaml").write_text(content.replace(beginning, added))
        assert call("check", tmp_path / "run.yaml") == 1
        printed = must_be_plain(capfdbinary.readouterr().err)
        assert f"{section}: '" in printed or f'{section}: "' in printed, printed


@pytest.mark.parametrize("setting", ["run", "text", "set"])
def test_a_setting_of_snakemake_is_refused_in_visible_characters(here: Run, setting: str) -> None:
    arguments = ["--configfile", f"{FOLDER}/hostile.yaml", "--config", f"{setting}={EVERYTHING}", "-n"]
    done = subprocess.run(command(*arguments), cwd=here.folder, env=environment(), capture_output=True, check=False)
    printed = must_be_plain(done.stdout + done.stderr)
    assert done.returncode != 0 and "lmstages: error: " in printed and "Traceback" not in printed, printed


# ---------------------------------------------------------------- pages


WITHIN = ("#", "data:text/", "data:application/x-tex", "samples.md")  # where a link may lead


def must_be_harmless(browser: Any, url: str, title: str, scripts: int) -> None:
    """Opens a page and all that is folded in it: no script but its own ran, nothing was asked for or reported."""
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(url)
    browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    browser.execute_script("for (const part of document.querySelectorAll('[popover]')) part.showPopover()")
    browser.execute_script("for (const row of document.querySelectorAll('#rows button')) row.click()")
    assert browser.title == title and browser.execute_script("return typeof window.pwned") == "undefined"
    assert browser.execute_script("return document.scripts.length") == scripts
    foreign = (
        "iframe, object, embed, base, link[rel=stylesheet], [onclick], [onload], [onerror], [onfocus], [autofocus]"
    )
    assert browser.execute_script("return document.querySelectorAll(arguments[0]).length", foreign) == 0
    links = browser.execute_script("return [...document.links].map(link => link.getAttribute('href'))")
    assert not [link for link in links if not link.startswith(WITHIN)]
    assert browser.get_log("browser") == []


def asked(browser: Any) -> set[str]:
    """Addresses that were asked for, without those within the page."""
    return {unquote(url) for url in requests(browser) if not url.startswith("data:")}


def test_the_report_obeys_nothing_of_what_it_shows(run: Run, browser: Any) -> None:
    url = (run.results / "report.html").as_uri()
    must_be_harmless(browser, url, "lmstages: hostile", 1)
    assert asked(browser) == {unquote(url)}
    text = browser.execute_script("return document.body.textContent")
    for line in LINES[:3]:
        assert line in text, "what is hostile is shown as it is, not left out"
    assert visible(LINES[5]).split()[0] in text and "{{7*7}} {% for x in y %}" in text


def test_what_is_shown_in_the_report_has_no_command_of_a_terminal(run: Run) -> None:
    must_be_a_plain_file(run.results / "report.html")


def test_the_playground_obeys_nothing_of_what_it_shows(run: Run, browser: Any) -> None:
    with served(run.results) as port:
        must_be_harmless(browser, f"http://127.0.0.1:{port}/", "lmstages: playground of hostile", 1)
        for prompt in LINES:
            cards = typed(browser, prompt)
            assert cards and not any(card["error"] for card in cards)
        assert browser.execute_script("return typeof window.pwned") == "undefined" and browser.get_log("browser") == []
        assert {url.partition("?")[0] for url in asked(browser)} <= {
            f"http://127.0.0.1:{port}/",
            f"http://127.0.0.1:{port}/ask",
        }


@pytest.mark.parametrize("name", ["table.md", "samples.md"])
def test_a_viewer_of_markdown_finds_text_and_nothing_else(run: Run, browser: Any, tmp_path: Path, name: str) -> None:
    viewer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    content = must_be_a_plain_file(run.results / name)
    tokens = [inner for token in viewer.parse(content) for inner in (token, *(token.children or ()))]
    assert not {token.type for token in tokens} & {"html_block", "html_inline", "image", "link_open"}
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html><meta charset=utf-8><title>{name}</title>{viewer.render(content)}", "utf-8")
    must_be_harmless(browser, page.as_uri(), name, 0)
    assert asked(browser) == {unquote(page.as_uri())}


# ---------------------------------------------------------------- tables


def must_be_a_table(content: str, rows: pd.DataFrame) -> None:
    """A CSV whose names are those of the rows, and none of whose cells a spreadsheet would compute."""
    data = pd.read_csv(io.StringIO(content), dtype=str, keep_default_na=False)
    for name in ("corpus", "split", "tokenizer", "model"):
        assert [*data[name]] == [*rows[name]]
    for cells in csv.reader(io.StringIO(content)):
        for cell in cells:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or cell == "-" or float(cell) < 0, cell
    must_be_plain(content.encode())


def test_a_csv_gives_back_its_names_and_no_formula(run: Run) -> None:
    rows = frame.read_results(run.results)
    must_be_a_table((run.results / "results.csv").read_text("utf-8"), rows)
    page = (run.results / "report.html").read_text("utf-8")
    [inner] = re.findall(r'"(?:data:text/csv;charset=utf-8;base64,)([A-Za-z0-9+/=]+)"', page)
    must_be_a_table(base64.b64decode(inner).decode(), rows)


def test_the_changes_from_a_run_to_another_are_as_harmless(here: Run, tmp_path: Path, capfdbinary: Any) -> None:
    other = Path(shutil.copytree(here.results, tmp_path / FOLDER))
    rows = frame.read(other, "results")
    rows["bits_per_byte"] += 1.0
    changed = json.dumps({"width": 1, **{line: line for line in LINES}})
    rows["hyperparameters"] = pd.Series(changed, rows.index, rows["hyperparameters"].dtype)
    frame.write(other, "results", rows, {})
    assert call("diff", "results/hostile", other) == 0
    must_be_plain(b"".join(capfdbinary.readouterr()))
    folder = other / "diff/hostile"
    for cells in csv.reader(io.StringIO((folder / "changes.csv").read_text("utf-8"))):
        assert not [c for c in cells if c.startswith(("=", "@", "\t")) or (c[:1] in ("+", "-") and not number(c))], (
            cells
        )
    content = must_be_a_plain_file(folder / "changes.md")
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(content)
    types = {inner.type for token in tokens for inner in (token, *(token.children or ()))}
    assert not types & {"html_block", "html_inline", "image", "link_open"}


def number(text: str) -> bool:
    with suppress(ValueError):
        return bool(float(text) or True)
    return text == "-"


TEX_COMMANDS = {
    *(
        "begin",
        "end",
        "caption",
        "toprule",
        "midrule",
        "bottomrule",
        "multicolumn",
        "textsuperscript",
        "dag",
        "par",
        "footnotesize",
        "textbf",
        "centering",
        "pm",
        "infty",
    ),
    *(f"text{name}" for name in ("backslash", "asciitilde", "asciicircum", "less", "greater", "bar", "quotedbl")),
    *("textasciigrave", "textquotesingle"),
}


def test_latex_reads_text_and_nothing_else(run: Run) -> None:
    content = must_be_a_plain_file(run.results / "table.tex")
    plain = re.sub(r"\\[&%$#_{}]|\\\\", "", content)
    assert {*re.findall(r"\\([a-zA-Z]+)", plain)} <= TEX_COMMANDS
    assert plain.count("{") == plain.count("}") and not {*"#^~"} & {*plain} and "%" not in plain
    assert {*re.findall(r"\$.*?\$", plain)} <= {"$-$", "$\\pm$", "$\\infty$"}
    assert {*re.findall(r"begin{(\w+)}", plain)} == {"table", "tabular"}
