"""Scores made elsewhere beside a ladder: the command judge, and a row of a run, give the sum that a program gave."""

import json
import math
import re
import runpy
import sys
from pathlib import Path

import pytest

import lmstages
from lmstages.cli import main
from lmstages.config.reading import read_run
from lmstages.core.errors import UserError
from lmstages.evaluation.forecast import forecast
from lmstages.results.formatting import chance
from lmstages.results.frame import Results

PROJECT = Path(__file__).resolve().parents[1]
PAGE = (PROJECT / "docs/tutorials/judge.md").read_text("utf-8")
PROGRAM = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
TRAIN = "".join(f"a tale of {number} mice, née in {1900 + number}.\n" for number in range(150))
TEST = "".join(f"a tale of {3 * number} lice, né in {1950 + number}.\n" for number in range(250))
CONFIG = """
corpora:
  tales: {{path: tales.txt, documents: lines, split: {{train: 0.5, valid: 0.2, test: 0.3}}}}
tokenizers: {{char: {{kind: char}}}}
models: {{uniform: , bigram: }}
scores: {{{scores}}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a text to fit on and one to score."""
    monkeypatch.chdir(tmp_path)
    Path("train.txt").write_text(TRAIN)
    Path("test.txt").write_text(TEST)
    return tmp_path


def run_program(monkeypatch, train, test):
    """The tutorial's program -> its own sum as bits per byte, from the numbers that it wrote."""
    Path("bigram.py").write_text(PROGRAM)
    monkeypatch.setattr(sys, "argv", ["bigram.py", str(train), str(test)])
    runpy.run_path("bigram.py", run_name="__main__")
    spans = [json.loads(line) for line in Path("mine.jsonl").read_text().splitlines()[1:]]
    return -math.fsum(span["log_prob"] for span in spans) / math.log(2) / Path(test).stat().st_size


def printed(capsys, *arguments, code=0):
    assert main(["judge", *map(str, arguments)]) == code
    return capsys.readouterr()


def escaped(token):
    return token.replace("\n", "\\n")


def figure(text, name="bits per byte"):
    return float(re.search(rf"{name} +([\d.]+)", text)[1])


# ---------------------------------------------------------------- judge


def test_the_tutorials_program_has_ten_lines():
    assert len([line for line in PROGRAM.splitlines() if line.strip() and not line.startswith(("import", "from"))]) < 10


def test_the_judged_figure_is_the_programs_own_sum(folder, monkeypatch, capsys):
    own = run_program(monkeypatch, "train.txt", "test.txt")
    text = printed(capsys, "mine.jsonl", "--text", "test.txt", "--out", "out").out
    row = lmstages.read_results("out").iloc[0]
    assert abs(row["bits_per_byte"] - own) < 1e-9 and f"{own:.4f}" in text
    assert (row["tokens"], row["bytes"], row["characters"]) == (len(TEST.encode()), len(TEST.encode()), len(TEST))
    assert (row["category"], row["tokenizer"], row["title"]) == ("reported", "-", "mine.jsonl")
    assert row["bits_per_byte_low"] < own < row["bits_per_byte_high"]
    nats = own * math.log(2) * len(TEST.encode())
    assert abs(row["nats_per_character"] - nats / len(TEST)) < 1e-9
    assert abs(row["perplexity"] - math.exp(nats / len(TEST.encode()))) < 1e-6


def test_figures_are_those_worked_by_hand(folder, capsys):
    Path("test.txt").write_text("abcd")
    Path("mine.tsv").write_text("ab\t-3\nc\t-0.5\nd\t-0.5\n")
    text = printed(capsys, "mine.tsv", "--text", "test.txt", "--unit", "bits").out
    assert "mine.tsv: 3 tokens, 4 bytes of test.txt, 1 document; unit bits" in text
    assert figure(text) == 1.0  # four bits for four bytes
    assert figure(text, "perplexity per token") == pytest.approx(2 ** (4 / 3), abs=1e-3)
    assert figure(text, "nats per character") == pytest.approx(math.log(2), abs=1e-4)
    assert "no interval: the text has too few blocks" in text


def test_with_train_a_ladder_stands_beside_the_scores(folder, monkeypatch, capsys):
    own = run_program(monkeypatch, "train.txt", "test.txt")
    layout = ("--documents", "stream")
    text = printed(capsys, "mine.jsonl", "--text", "test.txt", "--train", "train.txt", *layout, "--out", "out").out
    results = Results.open(Path("out"))
    names = {row.model for row in results.rows}
    assert {"uniform", "unigram", "bigram", "kneser_ney", "ppm", "mine", "xz", "xz_train"} <= names
    pairs = {(pair.a_model, pair.b_model): pair for pair in results.records("differences")}
    uniform = next(row for row in results.rows if row.model == "uniform")
    pair = pairs.get(("uniform", "mine")) or pairs["mine", "uniform"]
    sign = 1 if pair.a_model == "mine" else -1
    assert sign * pair.difference == pytest.approx(own - uniform.bits_per_byte, abs=1e-6)
    line = next(line for line in text.splitlines() if "Uniform" in line)
    assert f"{abs(own - uniform.bits_per_byte):.3f}" in line and chance(pair.p_holm) in line
    assert "mine.jsonl (yours)" in text
    assert main(["table", "out"]) == 0 and "[reported]" in (table := capsys.readouterr().out)
    assert "report.html" not in table
    assert main(["diff", "out", "out"]) == 0 and "no row changed" in capsys.readouterr().out


def test_uniform_scores_equal_the_uniform_model(folder, capsys):
    alphabet = len(set(TRAIN)) + 1  # the escape
    lines = [f"{escaped(character)}\t{-math.log(alphabet)}" for character in TEST]
    Path("mine.tsv").write_text("\n".join(lines))
    printed(capsys, "mine.tsv", "--text", "test.txt", "--unit", "nats", "--train", "train.txt", "--out", "out")
    rows = {row.model: row for row in Results.open(Path("out")).rows}
    assert set(TEST) <= set(TRAIN) and rows["mine"].bits_per_byte == pytest.approx(
        rows["uniform"].bits_per_byte, abs=1e-6
    )


@pytest.mark.parametrize("layout", ["lines", "separator"])
def test_documents_are_what_is_resampled(folder, capsys, layout):
    text = TEST if layout == "lines" else TEST.replace("\n", "\nEND\n")
    Path("test.txt").write_text(text)
    documents = text.splitlines(keepends=True) if layout == "lines" else text.split("END\n")[:-1]
    ends = [len(document.encode()) + (4 if layout == "separator" else 0) for document in documents]
    spans = [{"document": n, "start_byte": 0, "end_byte": end, "log_prob": -40.0} for n, end in enumerate(ends)]
    Path("mine.jsonl").write_text("".join(f"{json.dumps(span)}\n" for span in spans))
    options = ("--documents", layout, "--separator", "END", "--unit", "nats")
    out = printed(capsys, "mine.jsonl", "--text", "test.txt", *options).out
    assert "250 tokens" in out and "250 documents" in out
    assert figure(out) == pytest.approx(250 * 40 / math.log(2) / len(text.encode()), abs=1e-4)


def test_probability_zero_is_said(folder, capsys):
    Path("mine.tsv").write_text(f"{TEST[:4]}\t-1\n{escaped(TEST[4:])}\t-inf\n")
    out = printed(capsys, "mine.tsv", "--text", "test.txt", "--unit", "nats").out
    assert "∞" in out
    assert "note: infinite: 1 of 2 tokens have probability zero, the first at byte 4 of the text" in out


def test_texts_with_windows_line_ends_are_taken_as_they_are(folder, capsys):
    Path("test.txt").write_bytes(b"ab\r\ncd")
    Path("mine.tsv").write_bytes(b"ab\\r\\n\t-2\ncd\t-2\n")
    assert "6 bytes" in printed(capsys, "mine.tsv", "--text", "test.txt", "--unit", "bits").out


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("the\t-1\n", (), "lmstages: error: mine.tsv: does not say in which unit its log-probabilities are"),
        (
            "the\t-1\n",
            ("--unit", "nats"),
            "does not go on with 'the' at byte 0 of the text ('' | 'a tale of 0 lice, né in'",
        ),
        ("▁a\t-1\n", ("--unit", "nats"), "token '▁a' is spelled as its vocabulary has it"),
        ("\x1b[31m\t-1\n", ("--unit", "nats"), "does not go on with '\\x1b[31m'"),
    ],
)
def test_mistakes_are_one_line_without_a_traceback(folder, capsys, content, options, message):
    Path("mine.tsv").write_text(content)
    said = printed(capsys, "mine.tsv", "--text", "test.txt", *options, code=1).err
    assert message in said and said.count("\n") == 1 and "Traceback" not in said and "\x1b" not in said


@pytest.mark.parametrize("text", ["none.txt", "empty.txt", "."])
def test_a_text_that_is_none_is_named(folder, capsys, text):
    Path("empty.txt").touch()
    Path("mine.tsv").write_text("a\t-1\n")
    said = printed(capsys, "mine.tsv", "--text", text, "--unit", "nats", code=1).err
    assert said.startswith(f"lmstages: error: {text}: ") and said.count("\n") == 1


# ---------------------------------------------------------------- a row of a run


def jobs(run):
    """The commands of a run that its scores need, as its rules call them."""
    text = "results/mine/tales/text"
    yield ["prepare", "--out", text, "--section", run.prepare_section("tales")]
    tokens = ("--tokens", "results/mine/tales/char/tokens")
    tokenizer = run.tokenize_section("char")
    yield ["tokenize", "--text", text, "--layout", "lines", "--out", tokens[1], "--section", tokenizer]
    for model in run.models:
        out = f"results/mine/tales/char/{model}/seed0"
        yield ["fit", *tokens, "--out", out, "--section", run.fit_section(model)]
        evaluate = ["--out", out, "--section", run.evaluate_section("tales", model)]
        yield ["evaluate", "--model", f"{out}/model.safetensors", *tokens, "--text", text, *evaluate]


def audit(run, name):
    out = f"results/mine/tales/reported/{name}"
    section = run.reported_section(name)
    return ["audit_scores", "--keep-going", "--text", "results/mine/tales/text", "--out", out, "--section", section]


def summarized(run):
    section = json.dumps({**json.loads(run.summary_section()), "analyses": False})
    assert main(["summarize", "--out", "results/mine", "--section", section]) == 0
    return {row.model: row for row in Results.open(Path("results/mine")).rows}


@pytest.fixture
def prepared(folder):
    """The run without scores, its models fitted."""
    Path("tales.txt").write_text(TRAIN + TEST)
    Path("mine.yaml").write_text(CONFIG.format(scores=""))
    for command in jobs(read_run(Path("mine.yaml"))):
        assert main(command) == 0
    return folder


def as_documents(text):
    """Spans of a stream as spans of its lines."""
    document = begin = 0
    for line in Path("mine.jsonl").read_text().splitlines()[1:]:
        span = json.loads(line)
        yield {**span, "document": document, **{key: span[key] - begin for key in ("start_byte", "end_byte")}}
        if text[span["start_byte"]] == ord("\n"):
            document, begin = document + 1, span["end_byte"]


def test_the_row_of_a_run_is_the_programs_own_sum(prepared, monkeypatch):
    texts = [Path(f"results/mine/tales/text/{split}.txt") for split in ("train", "test")]
    own = run_program(monkeypatch, *texts)
    spans = [json.dumps(span) for span in as_documents(texts[1].read_bytes())]
    Path("by_document.jsonl").write_text("\n".join(spans))
    scores = "mine: {path: by_document.jsonl, corpus: tales, split: test, unit: nats, title: My bigram, source: me}"
    Path("mine.yaml").write_text(CONFIG.format(scores=scores))
    run = read_run(Path("mine.yaml"))
    assert forecast(run).warnings == []
    assert main(audit(run, "mine")) == 0
    rows = summarized(run)
    row = rows["mine"]
    assert abs(row.bits_per_byte - own) < 1e-9 and row.bits_per_byte_low < own < row.bits_per_byte_high
    assert (row.category, row.family, row.tokenizer, row.title, row.source) == (
        "reported",
        "reported",
        "-",
        "My bigram",
        "me",
    )
    file = json.loads(row.hyperparameters)
    assert file["path"] == "by_document.jsonl" and file["sha256"] in row.adds and len(file["sha256"]) == 64
    differences = Results.open(Path("results/mine")).records("differences")
    assert {frozenset((pair.a_model, pair.b_model)) for pair in differences} >= {frozenset(("mine", "bigram"))}
    assert row.below_model is None  # it is the only one of its category


def test_a_wrong_file_is_said_before_any_job_and_is_a_row_with_the_reason(prepared):
    Path("broken.tsv").write_text("▁a\t-1\n")
    Path("mine.yaml").write_text(CONFIG.format(scores="broken: {path: broken.tsv, unit: bits}"))
    run = read_run(Path("mine.yaml"))
    [warning] = forecast(run).warnings
    assert warning.startswith("scores.broken will fail: broken.tsv: line 1, at byte 0 of document 0")
    assert main(audit(run, "broken")) == 0
    row = summarized(run)["broken"]
    assert row.status.startswith("failed: broken.tsv: line 1") and row.bits_per_byte is None


def test_before_the_text_is_there_a_file_is_looked_at_by_itself(folder):
    Path("tales.txt").write_text(TRAIN + TEST)
    for content, message in (
        ('{"start_byte": 0, "end_byte": 4, "log_prob": 2}\n', "line 1: log_prob is 2, a probability above one"),
        ("nothing\n", "line 1 is 'nothing'"),
        ("ab\t-1\n", ""),
    ):
        Path("new.txt").write_text(content)
        Path("mine.yaml").write_text(CONFIG.format(scores="new: {path: new.txt, unit: nats}"))
        said = forecast(read_run(Path("mine.yaml"))).warnings
        assert [message in warning for warning in said] == ([True] if message else []), said


def test_a_file_that_changed_since_the_run_began_is_refused(prepared, capsys):
    Path("new.tsv").write_text("a\t-1\n")
    Path("mine.yaml").write_text(CONFIG.format(scores="new: {path: new.tsv, unit: nats}"))
    run = read_run(Path("mine.yaml"))
    lines = Path("results/mine/tales/text/test.txt").read_text().splitlines(keepends=True)
    Path("new.tsv").write_text("".join(f"{escaped(line)}\t-99\n" for line in lines))
    command = [part for part in audit(run, "new") if part != "--keep-going"]
    assert main([*command, "--content", "0" * 64]) == 1
    assert "new.tsv: changed since the run began" in capsys.readouterr().err


# ---------------------------------------------------------------- the config


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ("new: {path: none.tsv}", "scores.new.path: 'none.tsv' no such file"),
        ("new: {path: .}", "scores.new.path: '.' is a folder; allowed: a file"),
        ("new: {path: new.tsv, corpus: tail}", "scores.new.corpus: 'tail' is not defined"),
        ("new: {path: new.tsv, split: valid}", "scores.new.split: valid is not evaluated on the corpus"),
        ("new: {path: new.tsv, unit: bit}", "scores.new.unit: the text 'bit' found"),
        ("new: {path: new.tsv, units: bits}", "scores.new: unknown key 'units' (did you mean 'unit'?)"),
        ("new: {unit: bits}", "scores.new.path: missing"),
        ("bigram: {path: new.tsv}", "scores.bigram: an entry of models is called 'bigram' too"),
        ("New: {path: new.tsv}", "scores: 'New' is no name"),
    ],
)
def test_a_config_with_wrong_scores_is_refused(folder, scores, message):
    Path("tales.txt").write_text(TRAIN)
    Path("new.tsv").write_text("a\t-1\n")
    Path("mine.yaml").write_text(CONFIG.format(scores=scores))
    with pytest.raises(UserError) as caught:
        read_run(Path("mine.yaml"))
    assert message in str(caught.value)


def test_of_several_corpora_one_must_be_named(folder):
    Path("new.tsv").write_text("a\t-1\n")
    text = CONFIG.format(scores="new: {path: new.tsv}").replace("corpora:\n", "corpora:\n  coined: {count: 100}\n")
    Path("tales.txt").write_text(TRAIN)
    Path("mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"scores\.new\.corpus: missing, and the run has 2; allowed: coined, tales"):
        read_run(Path("mine.yaml"))


def test_a_run_without_scores_has_the_sections_that_it_had(folder):
    Path("tales.txt").write_text(TRAIN)
    Path("mine.yaml").write_text(CONFIG.format(scores=""))
    assert "reported" not in json.loads(read_run(Path("mine.yaml")).summary_section())
