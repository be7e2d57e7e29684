"""What jobs ask for: more for more text and wider models, more at each attempt; a GPT of a billion; what is learned."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmstages.cli import main
from lmstages.config import learned, needs, resources
from lmstages.config.hyperparameters.attention import GPT
from lmstages.config.hyperparameters.counts import PPM, KneserNey, Uniform
from lmstages.config.hyperparameters.diffusion import BlockDiffusion, Bound, MaskedDiffusion, Sundae
from lmstages.config.hyperparameters.neural import Autograd
from lmstages.config.needs import Factors, Need, asked_megabytes, asked_minutes, need
from lmstages.core.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
BILLION = GPT(layers=18, heads=16, width=2048, window=1024, row_length=1024, batch_size=512, steps=40_000,
              processes=8, nodes=4, sharding="full")  # fmt: skip
NANOGPT = GPT(layers=12, heads=12, width=768, window=1024, row_length=1024, batch_size=480, steps=600_000)
LECTURE = GPT(layers=6, heads=6, width=384, window=256, row_length=256, batch_size=64, steps=5000)


# What a job asks for


BLOCKS, WINDOW = BlockDiffusion(block=4), MaskedDiffusion(window=128, row_length=128)


@pytest.mark.parametrize(
    ("model", "training", "scoring"),
    [
        (GPT(), 1, 1),
        (BLOCKS, 2, 8),  # a noisy and a clean copy; a pass for each place of a block
        (WINDOW, 1, 128),
        (Bound(base=BLOCKS), 1, 8),  # every order of a block
        (Bound(base=WINDOW, samples=6), 1, 6),
        (Sundae(unrolled=3, samples=4), 3, 4),
    ],
)
def test_what_predicts_from_both_sides_reads_a_token_more_often(model, training, scoring):
    assert (resources.reads_in_training(model), resources.reads_in_scoring(model)) == (training, scoring)
    same = need("evaluate", 1e7, BLOCKS, 65).seconds, need("evaluate", 1e7, BlockDiffusion(block=8), 65).seconds
    assert same[0] < same[1]


@pytest.mark.parametrize("rule", sorted(needs.COSTS))
def test_a_longer_text_asks_for_no_less(rule):
    asked = [need(rule, size) for size in (0, 1e6, 1e8, 1e10, 1e11)]
    for field in ("megabytes", "seconds", "size"):
        values = [getattr(found, field) for found in asked]
        assert values == sorted(values)


@pytest.mark.parametrize("rule", ["fit", "evaluate", "probe", "derive"])
@pytest.mark.parametrize("model", [Uniform(), KneserNey(order=5), PPM(order=5), PPM(order=5, online=True), GPT()])
def test_a_longer_text_asks_for_no_less_whatever_the_model(rule, model):
    asked = [need(rule, size, model, 65) for size in (0, 1e6, 1e8, 1e10)]
    assert [found.megabytes for found in asked] == sorted(found.megabytes for found in asked)
    assert [found.seconds for found in asked] == sorted(found.seconds for found in asked)


@pytest.mark.parametrize("rule", ["fit", "evaluate", "probe"])
def test_a_wider_network_asks_for_more_memory_and_time(rule):
    asked = [need(rule, 1e6, GPT(width=width, heads=2), 65) for width in (32, 128, 512)]
    for field in ("megabytes", "seconds"):
        values = [getattr(found, field) for found in asked]
        assert values == sorted(set(values))


def test_a_higher_order_asks_for_more():
    assert need("fit", 1e8, KneserNey(order=8)).megabytes > need("fit", 1e8, KneserNey(order=3)).megabytes


def test_memory_is_asked_with_a_margin_and_half_as_much_again_at_each_attempt():
    asked = [asked_megabytes(Need(1000, 60), attempt) for attempt in (1, 2, 3, 4, 5, 9)]
    assert asked == [2000, 3000, 4000, 5000, 6000, 6000]


def test_time_is_asked_three_times_over_and_raised_where_a_job_starts_anew():
    assert [asked_minutes(Need(100, 600), attempt) for attempt in (1, 2, 3, 7)] == [40, 80, 120, 120]
    assert [asked_minutes(Need(100, 600, resumes=True), attempt) for attempt in (1, 2, 3)] == [40, 40, 40]


def test_networks_resume_and_counts_start_anew():
    assert need("fit", 1e6, GPT(), 65).resumes
    assert not need("fit", 1e6, KneserNey()).resumes and not need("fit", 1e6, Autograd(), 65).resumes
    assert not need("evaluate", 1e6, GPT(), 65).resumes


def test_no_job_asks_for_more_than_a_week():
    assert asked_minutes(Need(100, 1e9)) == 7 * 24 * 60


# Networks


def test_a_gpt_of_a_billion_parameters_takes_hours_on_several_gpus():
    assert resources.matrix_parameters(BILLION, 50257) == 12 * 18 * 2048**2 + 50257 * 2048
    found = need("fit", 1e10, BILLION, 50257)
    flops = 6 * 1_008_896_000 * 40_000 * 512 * 1024
    assert found.gpus == 32 and found.seconds == pytest.approx(2 + flops / (32 * 0.9 * 1.2e14))
    assert 8 < found.seconds / 3600 < 12
    assert resources.gpu_megabytes(BILLION, 50257) < 72_000, "what a GPU of 80 GB holds"
    assert asked_megabytes(found) < 100_000, "the batch lies in the GPUs, not in main memory"


def test_the_batch_of_a_billion_parameters_by_hand():
    tokens = 512 * 1024
    assert resources.activation_bytes(BILLION, 50257, on_gpu=True) == tokens * (34 * 18 * 2048 + 10 * 50257)
    assert resources.state_bytes(BILLION, 50257) == 20 * 1_008_896_000


def test_a_gpu_computes_as_fast_as_published_runs_within_a_factor_of_one_and_a_half():
    seconds = resources.training_flops(LECTURE, 65) / resources.flops_per_gpu(LECTURE)
    assert 180 / 1.5 < seconds < 180, "nanoGPT's README: 3 minutes on one A100"
    eight = resources.training_flops(NANOGPT, 50257) / (8 * resources.flops_per_gpu(NANOGPT)) / 86400
    assert 4 / 1.5 < eight < 4 * 1.5, "and 4 days on eight"


def test_a_smaller_batch_asks_for_fewer_gpus_where_memory_decides():
    small = BILLION.model_copy(update={"batch_size": 64, "steps": 10_000})
    assert resources.gpus_wanted(small, 50257) < resources.gpus_wanted(BILLION, 50257) == resources.gpus(BILLION, 50257)


def test_a_network_of_scalars_imports_no_torch():
    assert need("fit", 0, Autograd(), 65).megabytes < resources.TORCH_MEGABYTES


# What is learned


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_jobs_of_the_tiny_run_stay_below_what_they_ask_for(tmp_path):
    (tmp_path / "runs").symlink_to(PROJECT / "runs")
    command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--directory", str(tmp_path)]
    subprocess.run([*command, "--cores", "1", "--config", "run=tiny"], check=True, capture_output=True)
    factors, problems = learned.learn([tmp_path / "results/tiny"])
    assert not problems and len(factors) > 8
    too_much = {kind: factor for kind, factor in factors.items() if factor.megabytes > needs.MEMORY_MARGIN}
    assert not too_much, "peak memory by Snakemake's benchmark files, over the estimate"


def finished(folder, seconds="8", megabytes="300", rule="overlap"):
    """A run with a text of 10 MB and one job -> its folder."""
    text = folder / "results/my/c/text"
    text.mkdir(parents=True, exist_ok=True)
    (text / "train.txt").write_bytes(b"a" * 1_000_000)
    logs = folder / "logs/my/c"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / f"{rule}.benchmark.tsv").write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:08\t{megabytes}\n")
    return folder / "results/my"


def test_what_a_finished_run_took_becomes_factors(tmp_path):
    factors, problems = learned.learn([finished(tmp_path)])
    expected = need("overlap", 1e6)
    assert not problems and set(factors) == {"overlap"}
    assert factors["overlap"].seconds == pytest.approx(8 / expected.seconds, rel=0.01)
    assert factors["overlap"].megabytes == pytest.approx(300 / expected.megabytes, rel=0.01)


def test_factors_are_read_back_and_change_what_is_asked(tmp_path):
    path = tmp_path / "needs.json"
    learned.write({"overlap": Factors(2.0, 3.0, 5)}, path)
    factors = learned.read(path)
    plain, adapted = need("overlap", 1e6), need("overlap", 1e6, factors=factors)
    assert adapted.seconds == 2 * plain.seconds and adapted.megabytes == 3 * plain.megabytes
    assert need("prepare", 1e6, factors=factors) == need("prepare", 1e6)


def test_the_factors_of_a_model_go_before_those_of_its_rule():
    factors = {"fit gpt": Factors(2.0), "fit": Factors(5.0)}
    assert need("fit", 0, GPT(), 65, factors).seconds == 2 * need("fit", 0, GPT(), 65).seconds
    assert need("fit", 0, KneserNey(), 65, factors).seconds == 5 * need("fit", 0, KneserNey(), 65).seconds


def test_memory_that_snakemake_did_not_see_and_jobs_that_were_short_say_nothing(tmp_path):
    factors, _ = learned.learn([finished(tmp_path, megabytes="NA")])
    assert factors["overlap"].megabytes == 1.0
    assert learned.learn([finished(tmp_path, seconds="0.3")]) == ({}, [])


@pytest.mark.parametrize(
    "content", ["", "s\n", "s\tmax_rss\nabc\t3\n", "s\tmax_rss\nnan\t3\n", "s\tmax_rss\n1\t-5\n", "\0"]
)
def test_a_benchmark_that_cannot_be_used_is_one_line(tmp_path, content):
    folder = finished(tmp_path)
    bad = tmp_path / "logs/my/c/prepare.benchmark.tsv"
    bad.write_text(content)
    factors, problems = learned.learn([folder])
    assert set(factors) == {"overlap"} and len(problems) == 1
    assert problems[0].startswith(f"{bad}: ") and problems[0].endswith("it is left out")


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"results/no: .*logs/no has no file \*\.benchmark\.tsv; give the folder of a"):
        learned.learn([tmp_path / "results/no"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds a list; allowed: factors by rule and model"),
        ('{"overlapp": {}}', "overlapp: is no rule (did you mean 'overlap'?)"),
        ('{"overlap": 3}', "overlap: is no factors; allowed: seconds, megabytes, jobs"),
        ('{"overlap": {"seconds": 0}}', "overlap: seconds: is 0; allowed: a number above 0, at most 1,000"),
        ('{"overlap": {"seconds": NaN}}', "overlap: seconds: is nan; allowed: a number above 0"),
        ('{"overlap": {"hours": 1}}', "overlap: is no factors; allowed: seconds, megabytes, jobs"),
    ],
)
def test_factors_that_cannot_be_used_are_one_line(tmp_path, content, message):
    path = tmp_path / "needs.json"
    path.write_text(content)
    with pytest.raises(UserError) as refused:
        learned.read(path)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert "remove it, or write it again: lmstages needs --learn results/RUN" in str(refused.value)


def test_the_command_writes_what_it_learns(tmp_path, monkeypatch, capsys):
    finished(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["needs", "--learn", "results/my"]) == 0
    assert set(json.loads((tmp_path / "needs.json").read_text())) == {"overlap"}
    printed = capsys.readouterr().out
    assert re.search(r"^overlap +\S+ +\S+ +1$", printed, re.MULTILINE)
