"""The profiles name rules that exist, plan the tiny run, and request what the config needs for a fit."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lmstages.config import resources
from lmstages.config.hyperparameters.attention import GPT
from lmstages.config.hyperparameters.counts import KneserNey
from lmstages.config.hyperparameters.neural import LSTM
from lmstages.config.reading import read_run

PROJECT = Path(__file__).resolve().parents[1]
PROFILES = sorted(path.parent.name for path in (PROJECT / "profiles").glob("*/config.yaml"))
CLUSTERS = [name for name in PROFILES if name != "default"]
LARGE = GPT(layers=6, heads=6, width=384, window=256, row_length=256, batch_size=64, steps=5000)


def snakemake(folder, *arguments):
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": here}
    command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--directory", str(folder)]
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path):
    """A working directory with the project's runs and profiles."""
    for name in ("runs", "profiles", "config.yaml"):
        (tmp_path / name).symlink_to(PROJECT / name)
    return tmp_path


def test_every_rule_that_a_profile_names_exists(folder):
    rules = snakemake(folder, "--list-rules", "--config", "run=tiny").stdout.split()
    for name in PROFILES:
        profile = yaml.safe_load((PROJECT / "profiles" / name / "config.yaml").read_text())
        grouped = {assignment.split("=")[0] for assignment in profile.get("groups", [])}
        unknown = (grouped | set(profile.get("set-resources", {}))) - set(rules)
        assert not unknown, f"{name} names {unknown}"


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_profile_plans_the_tiny_run(folder, name):
    pytest.importorskip(f"snakemake_executor_plugin_{yaml_of(name)['executor'].replace('-', '_')}")
    done = snakemake(folder, "-n", "--workflow-profile", f"profiles/{name}", "--config", "run=tiny")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^fit +9$", done.stdout, re.MULTILINE)


def yaml_of(name):
    return yaml.safe_load((PROJECT / "profiles" / name / "config.yaml").read_text())


@pytest.mark.parametrize("option", [["--workflow-profile", "profiles/slrum"], ["--workflow-profile=profiles/slrum"]])
def test_a_profile_that_is_not_there_is_refused(folder, option):
    done = snakemake(folder, "-n", *option, "--config", "run=tiny")
    assert done.returncode == 1
    assert "--workflow-profile: 'profiles/slrum' is no folder with a config.yaml" in done.stdout + done.stderr
    assert "did you mean 'profiles/slurm'?" in done.stdout + done.stderr


GRID_ENGINE = {  # runs a job at once; the folder JOBS holds the requests and the exit status of every job
    "qsub": """
        echo "$@" >>"$JOBS/requests"
        (bash "${@: -1}" >"$JOBS/$$.log" 2>&1; echo "exit_status $?" >"$JOBS/$$") >/dev/null 2>&1 &
        echo $$""",
    "qstat": "[[ ! -e $JOBS/$2 ]]",
    "qacct": 'cat "$JOBS/$2"',
}


@pytest.mark.slow
def test_a_run_goes_through_a_scheduler_that_is_known_by_its_commands_alone(folder, tmp_path, monkeypatch):
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    commands = tmp_path / "commands"
    for directory in (commands, tmp_path / "jobs"):
        directory.mkdir()
    for name, body in GRID_ENGINE.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    quick = ("--seconds-between-status-checks", "1", "--latency-wait", "5", "--jobs", "2")
    done = snakemake(folder, "--workflow-profile", "profiles/cluster-generic", *quick, "--config", "run=tiny")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "results/tiny/report.html").exists()
    requests = (tmp_path / "jobs/requests").read_text().splitlines()
    assert all(re.search(r"-pe smp \d+ -l h_vmem=\d+M,h_rt=00:\d+:00,gpu=0 ", line) for line in requests)
    assert 3 < len(requests) < 30, "small jobs share one"


# What a fit needs


def test_counting_needs_no_gpu_and_one_core():
    assert resources.gpus(KneserNey(order=9), 65) == 0 and resources.cores(KneserNey(order=9), 65) == 1


def test_a_small_network_needs_no_gpu():
    assert resources.gpus(GPT(), 65) == 0 and resources.gpus(LSTM(), 65) == 0


def test_a_gpt_of_ten_million_parameters_needs_a_gpu():
    assert resources.matrix_parameters(LARGE, 65) == 12 * 6 * 384**2 + 65 * 384
    assert resources.gpus(LARGE, 65) == 1 and resources.cores(LARGE, 65) > 1


def test_training_flops_are_six_times_parameters_times_tokens():
    config = GPT(layers=1, heads=1, width=10, window=4, row_length=4, batch_size=2, steps=100, warmup_steps=0)
    assert resources.training_flops(config, 20) == 6 * (12 * 100 + 200) * 800


@pytest.mark.parametrize("path", ["config.yaml", "runs/tiny.yaml", "runs/published.yaml"])
def test_what_is_meant_for_a_laptop_needs_no_gpu(path):
    run = read_run(PROJECT / path)
    assert not any(resources.gpus(model.config, 512) for model in run.models.values())
