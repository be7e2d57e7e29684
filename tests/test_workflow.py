"""The workflow itself, on ``runs/tiny.yaml`` in a copy of the project: what re-runs, what a kill leaves behind."""

import csv
import html
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from base64 import urlsafe_b64decode
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "runs", "lmstages")
TIMINGS = {"fit_seconds", "score_seconds"}


def copy_of(project: Path, to: Path) -> Path:
    to.mkdir(parents=True)
    for name in PARTS:
        source = project / name
        shutil.copytree(source, to / name) if source.is_dir() else shutil.copy(source, to / name)
    return to


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def environment() -> dict[str, str]:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": here, "PYTHONPATH": ""}


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = arguments or ("--config", "run=tiny")
    return subprocess.run(
        command(*settings), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


def planned(folder: Path) -> set[str]:
    """The jobs of a dry run, each as its rule and the path of its first output."""
    plan = snakemake(folder, "--config", "run=tiny", "-n").stdout
    jobs = re.findall(r"^(?:local)?rule (\w+):\n(?:.*\n)*?    output: (.*)$", plan, re.MULTILINE)
    return {f"{rule} {outputs.split(',')[0].removeprefix('results/tiny/')}" for rule, outputs in jobs}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def figures(folder: Path, run: str = "tiny") -> list[dict[str, str]]:
    """results.csv without its timings."""
    with open(folder / "results" / run / "results.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMINGS} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the project with the tiny run done; tests must not change it."""
    folder = copy_of(PROJECT, tmp_path_factory.mktemp("finished") / "project")
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def project(finished, tmp_path):
    """A finished copy that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


LAST = {"summarize results.parquet", "report report.html", "figures figures", "verdict verdict.txt"}


def experiment(model: str, corpus: str = "coined/char") -> set[str]:
    inspected = model in ("neural_bigram", "mlp", "gpt") and corpus == "coined/char"
    return {
        *({f"inspect {corpus}/inspection.json"} if inspected else set()),
        f"fit {corpus}/{model}/seed0/model.safetensors",
        f"evaluate {corpus}/{model}/seed0/scores.safetensors",
        f"probe {corpus}/{model}/seed0/samples.json",
        f"analyse {corpus.partition('/')[0]}/analyses.json",
    }


def test_a_second_call_does_nothing_and_says_so(finished):
    assert "Nothing to be done" in snakemake(finished).stderr


def test_a_comment_in_the_config_reruns_nothing(project):
    edit(project / "runs/tiny.yaml", "models:", "# a comment\nmodels:")
    assert planned(project) == set()


def test_a_touch_reruns_nothing(project):
    for path in (project / "lmstages").rglob("*.py"):
        path.touch()
    assert planned(project) == set()


def test_one_width_reruns_that_model_and_the_report(project):
    edit(project / "runs/tiny.yaml", "hidden: 16", "hidden: 17")
    assert planned(project) == experiment("mlp") | LAST


def test_an_edit_of_gpt_reruns_gpt_and_the_report(project):
    edit(project / "lmstages/models/neural/gpt.py", "std=0.02", "std=0.021")
    assert planned(project) == experiment("gpt") | experiment("gpt", "fables/bpe") | LAST


def test_an_edit_of_scoring_reruns_scores_and_the_report(project):
    edit(project / "lmstages/evaluation/scoring.py", "TOKENS_PER_BATCH = 1 << 16", "TOKENS_PER_BATCH = 1 << 15")
    jobs = planned(project)
    assert jobs > LAST and {job.split()[0] for job in jobs - LAST} == {"evaluate", "probe", "analyse", "inspect"}
    assert len(jobs - LAST) == 9 + 9 + 2 + 1


def test_an_edit_of_the_template_reruns_the_report(project):
    with open(project / "lmstages/report/table.html.jinja", "a") as file:
        file.write("<!-- a comment -->\n")
    assert planned(project) == {"report report.html", "verdict verdict.txt"}


def test_a_protocol_rescores_without_refitting(project):
    edit(project / "runs/tiny.yaml", "gpt: {layers", "gpt: {scoring: {protocol: disjoint}, layers")
    rescored = {"evaluate", "probe", "analyse", "summarize", "report", "figures", "verdict"}
    assert {job.split()[0] for job in planned(project)} == rescored


def test_a_new_model_reruns_nothing_that_stands(project):
    edit(project / "runs/tiny.yaml", "  uniform:\n", "  uniform:\n  trigram: {type: ngram, order: 3}\n")
    assert planned(project) == experiment("trigram") | LAST


@pytest.mark.slow
def test_the_same_run_twice_gives_the_same_bytes(finished, tmp_path):
    again = copy_of(PROJECT, tmp_path / "again")
    assert snakemake(again, "--configfile", "runs/tiny.yaml").returncode == 0
    assert figures(again) == figures(finished)
    models = sorted(path.relative_to(finished) for path in finished.rglob("model.safetensors"))
    assert models and all((again / path).read_bytes() == (finished / path).read_bytes() for path in models)


def test_a_folder_of_figures_that_a_kill_has_left_half_drawn_is_drawn_again(project):
    (project / "results/tiny/figures/index.json").unlink()  # it is written last
    assert planned(project) == {"figures figures", "report report.html", "verdict verdict.txt"}


def test_every_file_that_is_gone_is_made_again(project):
    """``rm FILE``, our remedy, works for every file that a rule writes: the target asks for what is gone."""
    records = (project / ".snakemake/metadata").iterdir()
    written = {urlsafe_b64decode(record.name).decode() for record in records}
    for path in (project / name for name in written if (project / name).is_file()):
        path.unlink()
    plan = snakemake(project, "--config", "run=tiny", "-n").stdout
    wanted = re.search(r"^(?:local)?rule all:\n    input: (.*)$", plan, re.MULTILINE)[1].split(", ")
    assert len(written) > 100 and written - {*wanted} == set()


def test_a_model_that_is_gone_is_fitted_again_and_no_other(project):
    (project / "results/tiny/coined/char/mlp/seed0/model.safetensors").unlink()
    assert planned(project) == experiment("mlp") | LAST


def test_every_number_says_where_it_came_from(finished):
    record = finished / "results/tiny/coined/char/mlp/seed0/.made/model.safetensors.json"
    made = json.loads(record.read_text())["made"]
    assert made["section"]["hyperparameters"]["hidden"] == 16 and made["inputs"]["train.npy"] and made["code"]


def test_a_damaged_artifact_is_never_used(project):
    path = project / "results/tiny/coined/char/bigram/seed0/scores.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (project / "results/tiny/results.parquet").unlink()
    done = snakemake(project)
    assert (
        done.returncode != 0
        and "its sha256 is" in done.stdout + done.stderr
        and f"rm {path.relative_to(project)}" in done.stderr
    )


@pytest.mark.slow
def test_the_remedy_for_a_damaged_artifact_works(project):
    folder = project / "results/tiny/coined/char/bigram/seed0"
    (folder / "evaluation.json").unlink()
    (project / "results/tiny/results.parquet").unlink()
    assert snakemake(project).returncode == 0


@pytest.mark.slow
def test_a_text_of_ones_own_runs_the_ladder_named_after_the_file(project):
    letters = random.Random(1)
    text = " ".join("".join(letters.choices("abcdefghijäö", k=letters.randint(2, 6))) for _ in range(2000))
    (project / "My Trees.txt").write_text(text, encoding="utf-8")
    edit(project / "runs/tiny.yaml", "  neural_bigram:", "  #")
    edit(project / "runs/tiny.yaml", "  gpt:", "  #")
    done = snakemake(project, "--config", "run=tiny", "text=My Trees.txt")
    assert done.returncode == 0, done.stderr
    rows = figures(project, "my_trees")
    assert {row["corpus"] for row in rows} == {"my_trees"}
    assert {row["tokenizer"] for row in rows} == {"char", "bpe", "-"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"x", "only 1 character"),
        ("Käse und Brot\n".encode("latin-1") * 50, "not UTF-8: byte 0xe4"),
        (b"one\r\ntwo\r\n" * 50, "Windows line end (CRLF) at offset 3"),
        (b"one\0two" * 50, "NUL byte"),
    ],
)
def test_a_bad_text_is_one_clear_error(project, content, message):
    (project / "bad.txt").write_bytes(content)
    done = snakemake(project, "--config", "run=tiny", "text=bad.txt")
    assert done.returncode != 0 and f"lmstages: error: bad.txt: {message}" in done.stderr
    assert "Traceback" not in done.stderr and (project / "results/tiny/results.csv").is_file()


def test_a_text_shorter_than_the_context_is_one_clear_error(project):
    (project / "short.txt").write_text("four")
    done = snakemake(project, "--config", "run=tiny", "text=short.txt")
    assert done.returncode != 0 and "lmstages: error: text too short: " in done.stderr
    assert "the train part of short.txt has at most 3 tokens of char, gpt looks back over 16" in done.stderr


SHORT = """
corpora: {mine: {path: short.txt}}
tokenizers: {char: {kind: char}}
models: {bigram: , gpt: {layers: 1, heads: 2, width: 16, window: 30, row_length: 16, steps: 100000000}}
sampling: {count: 1, length: 10, measured: 2}
"""


@pytest.mark.slow
def test_a_part_too_short_for_one_model_is_said_first_and_costs_that_row_alone(tmp_path):
    """The model of a hundred million steps is never fitted: its row has its reason, the other one its figures."""
    folder = copy_of(PROJECT, tmp_path / "project")
    (folder / "short.txt").write_text("the cat sat on a mat; " * 12)
    (folder / "runs/short.yaml").write_text(SHORT)
    done = snakemake(folder, "--config", "run=short")
    said = "text too short: the test part of short.txt has at most 27 tokens of char, gpt looks back over 30; its rows"
    assert done.stderr.index(f"lmstages: {said}") < done.stderr.index("run short, ")
    reason = "text too short: the test part has at most 27 tokens; model gpt looks back over 30; give more text"
    assert done.returncode != 0 and f"1 of 2 rows failed: mine/char/gpt: failed: {reason}" in done.stderr
    status = {row["model"]: row["status"] for row in figures(folder, "short")}
    assert status["bigram"] == "ok" and status["gpt"].startswith(f"failed: {reason}")
    page = html.unescape((folder / "results/short/report.html").read_text())
    assert reason in page
    edit(
        folder / "runs/short.yaml",
        "window: 30, row_length: 16, steps: 100000000",
        "window: 8, row_length: 8, steps: 2, warmup_steps: 0",
    )
    again = snakemake(folder, "--config", "run=short")
    assert again.returncode == 0 and {row["status"] for row in figures(folder, "short")} == {"ok"}, again.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("text=nowhere.txt",), "no such file"),
        (("run=tinny",), "(did you mean 'runs/tiny.yaml'?)"),
        (("run=tiny", "seed=3"), "--config seed: unknown key"),
    ],
)
def test_a_mistake_on_the_command_line_ends_before_any_job(project, settings, message):
    done = snakemake(project, "--config", *settings)
    assert done.returncode != 0 and message in done.stdout + done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_model_that_cannot_be_fitted_is_a_row_and_a_failed_run(project):
    edit(
        project / "runs/tiny.yaml",
        "mlp: {window: 3",
        "mlp: {optimizer: sgd, learning_rate: 1e4, weight_decay: 10.0, window: 3",
    )
    done = snakemake(project)
    assert (
        done.returncode != 0
        and "1 of 9 rows failed: coined/char/mlp: failed: model mlp: the training loss" in done.stderr
    )
    [row] = [row for row in figures(project) if row["model"] == "mlp"]
    assert "not a number from step" in row["status"] and (project / "results/tiny/report.html").is_file()


def test_snakemakes_own_report_shows_the_figures_and_asks_for_nothing(finished, tmp_path):
    isolated = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        isolated = []  # where a process may not be cut off from the network
    command = [*isolated, sys.executable, "-m", "snakemake", "--cores", "1", "--config", "run=tiny"]
    command += ["--report", str(tmp_path / "report.zip")]
    done = subprocess.run(command, cwd=finished, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "report.zip") as file:
        held = {"/".join(name.split("/")[4:]) for name in file.namelist()}
        page = file.read("report/report.html").decode()
    drawn = {str(path.relative_to(finished / "results/tiny/figures")) for path in finished.rglob("figures/*/*.svg")}
    assert drawn and drawn | {"results.csv", "report.html"} <= held
    assert "The models stand in the order of the ladder" in page
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.https?:", page)
    results, categories, first = (data_of(page, name) for name in ("results", "categories", "metadata"))
    assert first and "How good is each language model" in data_of(page, "workflow_desc")  # or it opens on a graph
    assert [*sorted(categories)] == ["Comparison", "Figures", "Figures of a model", "Tables"]
    assert set(categories["Figures"]) == {"Text: coined", "Text: fables"}
    assert len(results) == len(drawn) + 2
    for path, result in results.items():
        [label] = result["labels"].values()
        assert label[0].isupper() and " " in label and not re.search(r"[/_]|\.\w", label), path
        assert len(re.findall(r"\w+", re.sub("<[^>]+>", "", result["caption"]))) > 15, path
        assert "system-message" not in result["caption"], "reStructuredText that docutils cannot read"


def data_of(page, name):
    """What the last script of Snakemake's report that names a variable assigns to it; libraries come before."""
    *_, assignment = re.finditer(rf"^\s*var {name} = ", page, re.MULTILINE)
    return json.JSONDecoder().raw_decode(page, assignment.end())[0]


SWEPT = """
corpora: {coined: {count: 200}}
tokenizers: {char: {kind: char}}
models: {bigram: {add: {sweep: [0.1, 1.0]}}}
sampling: {count: 1, length: 10, temperature: [0.5, 1.0]}
"""


@pytest.mark.slow
def test_a_sweep_has_a_table_and_a_figure_of_its_own(tmp_path):
    folder = copy_of(PROJECT, tmp_path / "project")
    (folder / "runs/swept.yaml").write_text(SWEPT)
    done = snakemake(folder, "--config", "run=swept")
    assert done.returncode == 0, done.stdout + done.stderr
    points = pd.read_parquet(folder / "results/swept/tables/sweeps.parquet")
    assert [*points["values"]] == ["[0.1]", "[1.0]"] and {*points["keys"]} == {'["add"]'}
    assert "<svg" in (folder / "results/swept/figures/sweeps/bigram.svg").read_text()
    evaluation = json.loads((folder / "results/swept/coined/char/bigram-add-1_0/seed0/evaluation.json").read_text())
    assert [sample["temperature"] for sample in evaluation["samples"]] == [0.5, 1.0]
    assert "Nothing to be done" in snakemake(folder, "--config", "run=swept").stderr


@pytest.mark.slow
def test_killed_at_any_moment_a_run_is_completed_by_the_next(finished, tmp_path):
    folder, moments = copy_of(PROJECT, tmp_path / "killed"), random.Random(7)
    for _ in range(12):
        run = subprocess.Popen(
            command("--config", "run=tiny"),
            cwd=folder,
            env=environment(),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.5, 12))
        os.killpg(run.pid, moments.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        run.wait()
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr
    assert figures(folder) == figures(finished)


@pytest.mark.slow
def test_the_workflow_is_clean_under_snakemakes_linter():
    assert "Congratulations" in snakemake(PROJECT, "--lint").stderr
