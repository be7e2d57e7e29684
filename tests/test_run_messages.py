"""What a run says: beforehand what it will do and how long it takes, then the time left, at the end what came out."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmstages.config import needs
from lmstages.config import workload as workload_module
from lmstages.config.hyperparameters.attention import GPT
from lmstages.config.hyperparameters.counts import Bigram
from lmstages.config.hyperparameters.quantized import LlamaQ4
from lmstages.config.reading import read_run
from lmstages.config.sections import COUNTED, EMBEDDED, Corpus
from lmstages.config.workload import Job, in_order, text_bytes, workload
from lmstages.core.progress import Progress
from lmstages.results import run_messages

PROJECT = Path(__file__).resolve().parents[1]
SECTION = {"type": "bigram", "hyperparameters": {"add": 0.1}}


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def done_before(folder, seconds, section=SECTION, size=1000):
    """A fit of the last run: its file with the record beside it, and its benchmark -> the job of a next run."""
    output = folder / "fit.json"
    (folder / ".made").mkdir(parents=True)
    output.write_bytes(b"x" * size)
    (folder / ".made" / "fit.json.json").write_text(json.dumps({"made": {"section": section}}))
    (folder / "fit.benchmark.tsv").write_text(f"s\th:m:s\n{seconds}\t0:00:00\n")
    return Job(1, "fit", "c/t/m/seed0", 1, json.dumps(SECTION), (output,), folder / "fit.benchmark.tsv")


# How long it takes


def test_a_job_takes_as_long_as_the_last_time_where_its_section_is_the_same(tmp_path):
    work = workload([done_before(tmp_path, 12.5)], 2)
    assert work.estimates[1] == (12.5, 1000, True) and work.measured() == 1


def test_a_job_with_another_section_is_estimated(tmp_path):
    other = {**SECTION, "hyperparameters": {"add": 0.2}}
    work = workload([done_before(tmp_path, 12.5, other)], 2)
    assert not work.estimates[1].is_measured and work.seconds != 12.5


def test_a_job_that_reads_from_another_one_is_estimated_where_that_one_changed(tmp_path):
    fit = done_before(tmp_path / "fit", 12.5)
    changed = done_before(tmp_path / "prepare", 3.0, {"another": "section"})
    jobs = [Job(**{**vars(fit), "after": frozenset({2})}), Job(**{**vars(changed), "key": 2, "rule_name": "prepare"})]
    assert workload(jobs, 1).measured() == 0


@pytest.mark.parametrize("content", ["", "s\n", "s\nabc\n", "s\nnan\n", "s\n-1\n", "s\ninf\n", "x\ty\n1\t2\n", "\x00"])
def test_a_benchmark_that_cannot_be_read_is_none(tmp_path, content):
    job = done_before(tmp_path, 12.5)
    job.benchmark.write_text(content)
    assert not workload([job], 1).estimates[1].is_measured


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"made": 3}', '{"made": {"section": []}}', "\ud800"])
def test_a_record_that_cannot_be_read_is_none(tmp_path, content):
    job = done_before(tmp_path, 12.5)
    (tmp_path / ".made" / "fit.json.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert not workload([job], 1).estimates[1].is_measured


def test_a_network_is_estimated_by_its_operations_and_its_weights():
    config = GPT(layers=2, width=128)
    estimate = workload([Job(1, "fit", "", model=config, vocab_size=100)], 1).estimates[1]
    weights = 12 * 2 * 128**2 + 100 * 128
    assert estimate.seconds == pytest.approx(2.0 + 6 * weights * 1000 * 12 * 64 / 4.8e10)
    assert estimate.size == 3000 + 4 * weights


def test_the_fits_of_the_default_run_are_estimated_within_a_factor_of_one_and_a_half():
    run = read_run(PROJECT / "config.yaml")
    jobs = [
        Job(
            key,
            "fit",
            "",
            model=run.models[model].config,
            vocab_size=run.tokenizers[tokenizer].vocab_size or 60,
            text_bytes=text_bytes(run.corpora[corpus]),
        )
        for key, (corpus, tokenizer, model, _) in enumerate(run.experiments())
    ]
    measured = 507  # core-seconds, by the benchmark files of a default run on two cores of 2024
    assert len(jobs) == 43 and measured / 1.5 < workload(jobs, 2).core_seconds < 1.5 * measured


def test_a_counting_model_is_estimated_by_its_text():
    small, large = (Job(1, "fit", "", model=Bigram(), text_bytes=size) for size in (0, 5e6))
    assert workload([small], 1).estimates[1].seconds == 0.4
    assert workload([large], 1).estimates[1][:2] == pytest.approx((0.4 + 0.15 * 2 * 5, 3000 + 16 * 256**2))


def test_a_derived_model_has_the_weights_of_its_base():
    from lmstages.config.hyperparameters.attention import Llama

    job = Job(1, "derive", "", model=LlamaQ4(base=Llama(layers=1, width=32, heads=2)), vocab_size=10)
    assert workload([job], 1).estimates[1].size == 4 * (12 * 32**2 + 10 * 32) + 100_000


def chain(*seconds, after=(), threads=1):
    """Jobs 0, 1, ... of given seconds, of which ``after`` says which waits for which."""
    jobs = [
        Job(key, "fit", "", threads, after=frozenset(b for a, b in after if a == key)) for key in range(len(seconds))
    ]
    work = workload(jobs, 2)
    work.estimates.update({key: work.estimates[key]._replace(seconds=value) for key, value in enumerate(seconds)})
    return work


def test_jobs_that_wait_for_no_other_share_the_cores():
    assert chain(10, 20, 30).core_seconds == 60 and chain(10, 20, 30).seconds == 30
    assert chain(40, 40, 40).seconds == 60


def test_a_chain_of_jobs_takes_as_long_as_all_of_it():
    assert chain(10, 20, 30, after=[(0, 1), (1, 2)]).seconds == 60


def test_a_job_of_more_threads_than_cores_has_all_cores():
    work = chain(10, threads=4)
    assert work.core_seconds == 20 and work.seconds == 10


def test_jobs_are_ordered_behind_those_that_they_wait_for():
    assert in_order(chain(1, 1, 1, 1, after=[(0, 3), (3, 1), (2, 0)]).jobs) == [1, 3, 0, 2]


def test_the_time_left_follows_the_pace_so_far():
    work = chain(50, 50, 50, 50)
    assert work.seconds_left([], 0.0) == work.seconds == 100
    assert work.seconds_left([0, 1], 50.0) == pytest.approx(50)
    assert work.seconds_left([0, 1], 200.0) == pytest.approx(100 * 210 / 120)
    assert work.seconds_left([0, 1, 2, 3], 80.0) == 0


@pytest.mark.parametrize(
    ("corpus", "size"),
    [
        (Corpus(source="coined", count=1000), 8000),
        (Corpus(source="fables"), 2.3e6),
        (Corpus(source="names"), 228_145),
        (Corpus(source="tinystories", count=10), 8000),
        (Corpus(path="/no/such/file"), 0),
    ],
)
def test_the_size_of_a_text_is_known_before_it_is_there(corpus, size):
    assert text_bytes(corpus) == size


def test_estimates_are_of_rules_and_sources_that_exist():
    rules = "".join(path.read_text() for path in (PROJECT / "workflow/rules").glob("*.smk"))
    known = set(re.findall(r"^rule (\w+):", rules, re.MULTILINE))
    assert set(needs.COSTS) == known - {"all"} and {*run_messages.NOUNS} <= known
    assert set(workload_module.DOCUMENT_BYTES) == set(COUNTED)
    assert set(workload_module.EMBEDDED_BYTES) == set(EMBEDDED)


def test_the_size_of_an_own_text_is_that_of_its_file(tmp_path):
    (tmp_path / "my.txt").write_bytes(b"abc")
    assert text_bytes(Corpus(path=str(tmp_path / "my.txt"))) == 3


# What is said


def example(tmp_path):
    fits = [done_before(tmp_path, 100.0), Job(2, "fit", "c/t/gpt/seed0"), Job(3, "download", "names/whole")]
    return workload([*fits, Job(4, "figures", ""), Job(5, "verdict", "")], 2)


def test_the_plan_says_the_jobs_by_what_they_make_the_time_and_the_disk(tmp_path):
    assert run_messages.plan("my", example(tmp_path), 2.5e9) == (
        "run my, 5 jobs: 1 download, 2 experiments to fit, 2 others\n"
        "about 2.1 core-minutes, 2 minutes on 2 cores (1 job as in the last run, 4 estimated)\n"
        "about 10 MB to write, 2.5 GB free"
    )


def test_the_plan_says_where_nothing_was_measured_where_a_cluster_works_and_where_the_disk_is_full():
    text = run_messages.plan("my", workload([Job(1, "figures", "")], 0), 5e6)
    assert text == (
        "run my, 1 job: 1 other\n"
        "about 0.3 core-minutes, 20 s or more, with a core for every job (estimated, since nothing was\n"
        "  measured here yet)\nabout 10 MB to write, 5 MB free, too little"
    )


def test_progress_says_how_many_jobs_are_done_and_the_time_left(tmp_path):
    work = example(tmp_path)
    assert run_messages.progress(work, [1], 50.0).startswith("1 of 5 jobs done, about 15 s left; last: fit c/t/m/seed0")
    last = run_messages.progress(work, [1, 2, 3, 4, 5], 130.0)
    assert last == "5 of 5 jobs done, in 2 minutes; last: verdict"


def test_a_failure_says_what_failed_where_its_log_is_and_what_to_do():
    failed = {f"fit c/t/m{index}/seed0": f"logs/{index}.log" for index in range(7)}
    lines = run_messages.failure("my", failed, 3, 20).splitlines()
    assert lines[:2] == ["run my: 3 of 20 jobs done, 7 failed", "  fit c/t/m0/seed0: logs/0.log"]
    assert lines[-2:] == ["  and 2 more", "the same command continues from here"]
    assert run_messages.failure("my", {}, 3, 20).startswith("run my: 3 of 20 jobs done, stopped\n")


def row(corpus, model, bits, category="static", title="", **columns):
    low, high = (str(float(bits) - 0.1), str(float(bits) + 0.1)) if bits not in ("", "nan", "inf") else ("", "")
    known = {"corpus": corpus, "split": "test", "tokenizer": "char", "model": model, "type": model, "status": "ok"}
    bounds = {"bits_per_byte": bits, "bits_per_byte_low": low, "bits_per_byte_high": high}
    return {**known, **bounds, "title": title or model.title(), "category": category, **columns}


def test_the_head_of_a_table_has_the_best_static_models_first():
    rows = [row("a", "worse", "2.5"), row("a", "online", "1.0", "online"), row("a", "best", "2")]
    rows += [row("a", "failed", "0.1", status="failed: why"), row("a", "oracle", "1.5", "oracle"), row("a", "x", "nan")]
    assert run_messages.head(rows, Path("results/my")) == [
        "a, test: bits per byte (oracle 1.500)",
        "  2.000 [1.900, 2.100]  Best, char",
        "  2.500 [2.400, 2.600]  Worse, char",
        "4 more rows: lmstages table results/my",
    ]


def test_a_head_that_has_every_row_leads_to_the_columns():
    assert run_messages.head([row("a", "best", "2")], Path("r"))[-1] == "all columns: lmstages table r"


def test_a_model_of_another_name_than_its_type_is_called_by_both_and_an_infinite_score_is_last():
    rows = [row("a", "gpt-2", "inf", type="gpt", title="GPT"), row("a", "bigram", "3")]
    lines = run_messages.head(rows, Path("r"))
    assert lines[1:3] == ["  3.000 [2.900, 3.100]  Bigram, char", "  ∞  GPT (gpt-2), char"]


@pytest.mark.parametrize("texts", range(1, 12))
def test_the_head_of_a_table_has_at_most_ten_lines_however_many_texts_there_are(texts):
    rows = [row(f"text{text}", f"m{index}", str(index + 1)) for text in range(texts) for index in range(20)]
    lines = run_messages.head(rows, Path("r"))
    models = sum(line.startswith("  ") for line in lines)
    assert len(lines) == 10 if texts < 5 else 9 <= len(lines) <= 10
    assert models >= 4 and lines[-1] == f"{len(rows) - models} more rows: lmstages table r"


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "corpus\nx\n", '"', "\x00\n\x00", None])
def test_a_table_that_is_not_there_or_cannot_be_read_has_no_head(tmp_path, content):
    if content is not None:
        (tmp_path / "results.csv").write_text(content)
    assert run_messages.ending(tmp_path) == ""


def test_the_end_is_the_path_of_the_report_from_the_root(tmp_path, monkeypatch):
    (tmp_path / "report.html").touch()
    monkeypatch.chdir(tmp_path)
    assert run_messages.ending(Path()) == f"report: {tmp_path / 'report.html'}"


def test_lines_fit_a_terminal_of_forty_columns_without_control_characters(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    hostile = "fit c\x1b[2J/t/model/seed0"
    text = run_messages.failure("my", {hostile: "logs/c/t/model/seed0/fit.log"}, 3, 20)
    assert max(map(len, text.splitlines())) <= 40 and "\\x1b[2J" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "5 s"), (12, "15 s"), (89, "90 s"), (100, "2 minutes"), (5399, "90 minutes"), (9000, "2.5 hours")],
)
def test_times_have_no_more_digits_than_an_estimate_has(seconds, words):
    assert run_messages.roughly(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0.0 core-minutes"), (60, "1 core-minute"), (150, "2.5 core-minutes")]
)
def test_core_minutes(seconds, words):
    assert run_messages.core_minutes(seconds) == words
    assert run_messages.core_minutes(72000) == "1,200 core-minutes"


@pytest.mark.parametrize(("size", "words"), [(0, "1 MB"), (2.4e8, "240 MB"), (2.14e9, "2.1 GB")])
def test_sizes(size, words):
    assert run_messages.megabytes(size) == words and math.isfinite(size)


@pytest.mark.parametrize(("seconds", "values", "lines"), [(0, None, 0), (0, {"loss": 1.0}, 1), (9, None, 1)])
def test_the_last_line_of_a_job_is_said_where_it_took_long_or_has_values(seconds, values, lines, monkeypatch):
    clock, said = iter([0.0, float(seconds)]), []
    monkeypatch.setattr("lmstages.core.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("lmstages.core.progress.LOGGER", SimpleNamespace(info=lambda *words: said.append(words)))
    Progress(100, "token").at(100, 100.0, "tokens", values)
    assert len(said) == lines


# A run


CONFIG = """
corpora: {coined: {count: 60}}
tokenizers: {char: {kind: char}}
models: {uniform: , bigram: }
sampling: {count: 1, length: 5}
estimation: false
"""
NOISE = (
    "Select jobs",
    "Execute ",
    "Finished jobid",
    "Job stats",
    "Provided cores",
    "rule fit:",
    "steps (",
    "SNAKEMAKE",
)


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--directory", str(folder)]
    search = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": search}
    settings = ("--cores", "2", "--configfile", "small.yaml", *arguments)
    return subprocess.run(
        [*command, *settings], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is done, and what it said."""
    folder = tmp_path_factory.mktemp("messages")
    (folder / "small.yaml").write_text(CONFIG)
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.slow
def test_a_run_says_what_it_will_do_and_what_came_out_and_is_quiet_between(finished):
    folder, done = finished
    lines, flowing = done.stderr.splitlines(), " ".join(done.stderr.split())
    plan = "run small, 16 jobs: 1 text to prepare, 1 text to tokenize, 2 experiments to fit, 2 evaluations, 2 probes, "
    assert f"{plan}8 others about " in flowing and " MB to write, " in flowing
    assert "on 2 cores (estimated, since nothing was measured here yet)" in flowing
    end = lines.index(f"report: {folder / 'results/small/report.html'}")
    head = lines[end - 4 : end]
    assert head[0].startswith("coined, test: bits per byte (oracle ") and "Bigram, char" in head[1]
    assert "Uniform, char" in head[2] and head[3].endswith("lmstages table results/small")
    assert not [line for line in lines if line.startswith(NOISE)] and "Traceback" not in done.stderr
    [log] = (folder / ".snakemake/log").glob("*.snakemake.log")
    assert all(word in log.read_text() for word in ("Finished jobid", "rule fit:", "run small, "))


@pytest.mark.slow
def test_a_run_that_has_nothing_to_do_shows_the_table_again(finished):
    folder, _ = finished
    again = snakemake(folder).stderr
    assert "Nothing to be done" in again and "run small, " not in again
    assert again.index("Nothing to be done") < again.index("coined, test: bits per byte")
    assert f"report: {folder / 'results/small/report.html'}\n" in again


@pytest.mark.slow
def test_whoever_asks_for_less_or_looks_only_gets_snakemakes_own_words(finished):
    folder, _ = finished
    began = {("-n", "-F"): "rule fit:", ("-n", "-q", "-F"): "", ("--dag", "-F"): "digraph", ("--quiet", "all"): ""}
    for arguments, word in began.items():
        looked = snakemake(folder, *arguments)
        output = looked.stdout + looked.stderr
        assert looked.returncode == 0 and "run small, " not in output and "bits per byte" not in output
        assert word in looked.stdout, arguments


@pytest.mark.slow
def test_the_next_run_is_told_by_the_last_one_and_a_failure_names_its_log(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    target = "results/small/coined/char/bigram/seed0/fit.json"
    again = snakemake(folder, "--verbose", "-R", "fit", "--", target)
    assert again.returncode == 0 and "run small, 1 job: 1 experiment to fit\n" in again.stderr
    assert "on 2 cores (as in the last run)" in again.stderr and "rule fit:" in again.stderr
    assert "bits per byte" not in again.stderr
    tokens = folder / "results/small/coined/char/tokens/train.npy"
    tokens.write_bytes(tokens.read_bytes()[:-1] + b"\x07")
    failed = snakemake(folder, "-R", "fit", "--", target)
    log = "logs/small/coined/char/bigram/seed0/fit.log"
    assert failed.returncode == 1 and "run small: 0 of 1 jobs done, 1 failed\n" in failed.stderr
    assert f"  fit coined/char/bigram/seed0: {log}\n" in failed.stderr
    assert "Error in rule fit" in failed.stderr and "lmstages: error: " in failed.stderr
