"""What a run will cost, said before it starts: the jobs that Snakemake would do, their sums, what will not fit."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from workflow_rules import Rules

from lmstages.cli import main
from lmstages.config import planning
from lmstages.config.needs import Need, asked_megabytes, need
from lmstages.config.planning import Limits, plan, shortfalls
from lmstages.config.reading import read_run
from lmstages.config.words import run_of
from lmstages.core.errors import UserError
from lmstages.results import planned_costs

PROJECT = Path(__file__).resolve().parents[1]
RUNS = [PROJECT / "config.yaml", *sorted((PROJECT / "runs").glob("*.yaml"))]
HUGE = Limits(1e15, 1e15, 2, 64)
SMALL = """
corpora: {coined: {count: 1000, tokenizers: [char]}}
tokenizers: {char: {kind: char}}
models: {bigram: }
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("rules"))
        patch.setattr(sys, "argv", ["snakemake"])
        Path("config.yaml").write_text(SMALL)
        yield Rules()


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    return read_run(tmp_path / "small.yaml")


@pytest.mark.parametrize(
    "path", [path for path in RUNS if path.stem in ("tiny", "quantized", "infilling", "published")], ids=str
)
def test_the_jobs_are_those_of_the_rules(rules, path, monkeypatch):
    monkeypatch.chdir(PROJECT)
    run = read_run(path)
    assert Counter(p.job.rule_name for p in plan(run).jobs) == Counter(job.rule for job in rules.jobs(run))


@pytest.mark.slow
@pytest.mark.parametrize("path", RUNS, ids=str)
def test_the_jobs_of_every_run_are_those_of_the_rules_and_ask_for_the_same(rules, path, monkeypatch):
    monkeypatch.chdir(PROJECT)
    run = read_run(path)
    theirs = Counter((job.rule, job.needs["mem_mb"]) for job in rules.jobs(run))
    asked = [(p.job.rule_name, asked_megabytes(p.need, 2)) for p in plan(run).jobs]
    assert Counter(asked) == theirs


def test_the_costs_of_two_jobs_by_hand():
    fits = [Need(300, 3600, 4, 0, 1e6), Need(500, 7200, 8, 2, 2e6)]
    assert planning.total(fits) == (2, 4 * 3600 + 8 * 7200, 2 * 7200, 500, 3e6)


def test_the_whole_is_the_sum_of_its_models(small):
    made = plan(small)
    assert made.total() == pytest.approx(planned_costs.summed(list(made.by_model().values())))
    assert list(made.by_model()) == ["bigram", planning.OF_NO_MODEL]
    assert made.by_model()["bigram"].jobs == 3, "fit, evaluate, probe"


def test_the_costs_of_each_rule_are_those_of_its_jobs(small):
    made = plan(small)
    assert made.by_rule()["fit"] == planning.total([p.need for p in made.jobs if p.job.rule_name == "fit"])
    table = planned_costs.lines(made, HUGE, by_rule=True)
    assert [line.split()[0] for line in table[2:5]] == ["prepare", "overlap", "oracle"]


def test_a_stated_size_stands_in_for_the_text(small):
    assert plan(small, {"": 1e10}).texts == plan(small, {"coined": 1e10}).texts == {"coined": 1e10}
    fit = next(p for p in plan(small, {"": 1e10}).jobs if p.job.rule_name == "fit")
    assert fit.need == need("fit", 1e10, small.models["bigram"].config, small.tokenizers["char"].about_size())


def test_a_text_of_ones_own_is_planned_by_its_size_or_by_a_stated_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(SMALL.replace("coined: {count: 1000,", "big: {path: big.txt, documents: lines,"))
    Path("big.txt").write_text("a line\n" * 100)
    assert plan(run_of(["my.yaml"])).texts == {"big": 700}
    made = plan(run_of(["my.yaml"]), {"big": 1e11})
    assert made.texts == {"big": 1e11} and made.total().size > 1e11


def test_a_size_of_a_corpus_that_is_not_there_is_refused(small):
    with pytest.raises(
        UserError, match=r"--text-bytes: 'coind' is no corpus \(did you mean 'coined'\?\); allowed: coined"
    ):
        plan(small, {"coind": 1e9})


def test_time_is_the_longest_chain_or_all_jobs_on_all_cores(small):
    made = plan(small)
    alone, many = made.seconds(1), made.seconds(1000)
    assert alone == pytest.approx(sum(p.need.seconds for p in made.jobs))
    chain = ("prepare", "tokenize", "fit", "probe", "analyse", "summarize", "figures", "report", "verdict")
    assert many >= sum(p.need.seconds for p in made.jobs if p.job.rule_name in chain) - 1e-9


def test_what_does_not_fit_is_said_once_for_each_rule(small):
    sentences = shortfalls(plan(small, {"": 1e10}), Limits(4e9, 1e9, 2, 0))
    assert (
        sum("fit coined/char/bigram/seed0 needs about 260 GB of memory, 4.0 GB are there" in s for s in sentences) == 1
    )
    assert sentences[-1].endswith("of disk, 1.0 GB are free; free some, or run fewer models or texts")
    assert shortfalls(plan(small), HUGE) == []


def test_a_job_that_takes_more_than_a_week_is_said_with_what_to_do(tmp_path):
    (tmp_path / "a.yaml").write_text(SMALL.replace("bigram: ", "autograd: {examples: 100000000}"))
    made = plan(read_run(tmp_path / "a.yaml"))
    [sentence] = shortfalls(made, HUGE)
    days = made.by_rule()["fit"].core_seconds / 86400
    assert sentence.startswith(f"fit coined/char/autograd/seed0 takes about {days:,.0f} days, a job asks for 7 at most")
    assert sentence.endswith("take less text, or a smaller model")


def test_gpus_that_are_not_there_are_said_with_the_time_without_them(tmp_path):
    (tmp_path / "a.yaml").write_text(
        SMALL.replace(
            "bigram: ", "gpt: {layers: 6, heads: 6, width: 384, window: 256, row_length: 256, batch_size: 64}"
        )
    )
    [sentence] = shortfalls(plan(read_run(tmp_path / "a.yaml")), Limits(1e12, 1e12, 4, 0))
    assert sentence.startswith("fit coined/char/gpt/seed0 asks for 1 GPU with ")
    assert sentence.endswith("none is there; on 4 cores alone it takes about 0.1 days")


def test_words_are_those_that_run_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(SMALL)
    assert run_of(["my.yaml", "corpora.coined.count=77"]).corpora["coined"].count == 77
    assert run_of(["tiny"]).name == run_of(["run=tiny"]).name == "tiny"
    assert list(run_of(["tiny", "models=[bigram, gpt]"]).models) == ["bigram", "gpt"]
    Path("t.txt").write_text("abc\n")
    assert list(run_of(["my.yaml", "text=t.txt"]).corpora) == ["t"]


def test_the_command_prints_a_line_for_each_model_and_what_will_not_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(SMALL)
    assert main(["plan", "my.yaml", "--text-bytes", "100GB", "--memory", "4GB", "--cores", "2", "--disk", "1TB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run my; text: coined 100 GB"
    assert [line.split()[0] for line in lines[2:5]] == ["bigram", "texts,", "all"]
    assert any(line.startswith("does not fit: tokenize coined/char needs about") for line in lines)


@pytest.mark.parametrize("size", ["3XB", "-1", "", "1e9", "GB", "nan", "fables="])
def test_a_size_that_is_none_is_one_line(size, capsys):
    with pytest.raises(SystemExit):
        main(["plan", "tiny", f"--text-bytes={size}"])
    assert "found; a number of bytes, or with a unit: 4GB, 500MB" in capsys.readouterr().err


def test_many_models_are_a_short_table(tmp_path):
    models = ", ".join(f"m{index}: {{type: bigram, add: 0.{index + 1}}}" for index in range(100))
    (tmp_path / "many.yaml").write_text(SMALL.replace("{bigram: }", f"{{{models}}}"))
    lines = planned_costs.lines(plan(read_run(tmp_path / "many.yaml")), HUGE)
    assert len(lines) < 70 and any(line.split()[:3] == ["41", "others", "123"] for line in lines)
