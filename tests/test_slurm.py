"""The profile on a real Slurm, started for the test: what jobs request, a fit cut short, resumed, reported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_workflow import PROJECT, copy_of

RUN = """
corpora:
  coined: {count: 600, tokenizers: [char], models: [bigram, gpt]}
  short: {path: short.txt, tokenizers: [char], models: [bigram, bigram_too_long]}
tokenizers:
  char: {kind: char}
models:
  bigram:
  bigram_too_long: {type: ngram, order: 24}
  gpt: {layers: 4, heads: 4, width: 64, window: 64, row_length: 64, batch_size: 32, steps: STEPS, evaluate_every: 100,
    dropout: 0.1}
sampling: {count: 1, length: 20}
"""
SCRIPT = PROJECT / "tests" / "slurm.sh"
GPU_FOR_THE_GPT = "fit:gpu=int(wildcards.model == 'gpt')"
SECONDS = 80  # that the GPT takes by itself, so that a limit of a minute cuts it

pytestmark = [pytest.mark.slow, pytest.mark.needs("slurm"), pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment in which sbatch finds a Slurm of one node with one GPU."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPT, "up", folder], capture_output=True, text=True, check=False)
    if started.returncode:
        pytest.skip(f"Slurm does not start here: {started.stderr[-300:]}")
    given = dict(line.split("=", 1) for line in started.stdout.splitlines())
    here = Path(sys.executable).parent
    yield {**os.environ, **given, "PATH": f"{here}{os.pathsep}{given['PATH']}", "PYTHONPATH": ""}
    subprocess.run([SCRIPT, "down", folder], check=False)


def fit(folder, environment, steps, out):
    """The GPT of the run by itself, undisturbed; its seconds."""
    section = json.loads((folder / "section.json").read_text())
    section["hyperparameters"]["steps"] = steps
    command = [sys.executable, "-m", "lmstages", "fit", "--tokens", "results/cluster/coined/char/tokens"]
    command += ["--out", out, "--section", json.dumps(section, sort_keys=True), "--seed", "0"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return json.loads((folder / out / "fit.json").read_text())["fit_seconds"]


def written(folder, steps):
    """The run with a GPT of so many steps."""
    (folder / "runs" / "cluster.yaml").write_text(RUN.replace("STEPS", str(steps)))
    (folder / "short.txt").write_text("too short\n" * 8)


def locally(folder, environment, *arguments):
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "1", "--config", "run=cluster"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def prepared(folder, environment):
    """Tokens, the section of the GPT, and how many of its steps take ``SECONDS`` here."""
    written(folder, 400)
    assert locally(folder, environment, "results/cluster/coined/char/tokens/tokenizer.json").returncode == 0
    script = "from pathlib import Path; from lmstages.config.reading import read_run"
    script += "; print(read_run(Path('runs/cluster.yaml')).fit_section('gpt'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    (folder / "section.json").write_text(done.stdout)
    return int(400 * SECONDS / fit(folder, environment, 400, "timed"))


def on_slurm(folder, environment):
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", "--config", "run=cluster"]
    command += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "7"]
    command += ["--latency-wait", "5", "--retries", "2", "--group-components", "small_experiments=1"]
    command += ["--set-resources", "fit:runtime=1", GPU_FOR_THE_GPT]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_run_on_slurm_is_cut_short_resumed_and_reported(slurm, tmp_path):
    folder = copy_of(PROJECT, tmp_path / "project")
    steps = prepared(folder, slurm)
    written(folder, steps)
    done = on_slurm(folder, slurm)
    output = done.stdout + done.stderr

    assert done.returncode == 1 and "text too short" in output, "what fails for good is reported with its log"
    experiment = folder / "results/cluster/coined/char/gpt/seed0"
    assert (experiment / "scores.safetensors").exists(), "the rest completes"
    assert (folder / "results/cluster/coined/char/bigram/seed0/scores.safetensors").exists()

    jobs = subprocess.run(["scontrol", "show", "jobs"], env=slurm, capture_output=True, text=True, check=True).stdout
    with_gpu = [job for job in jobs.split("\n\n") if "gpu" in job]
    assert with_gpu and len(with_gpu) < jobs.count("JobId="), "the GPT requests a GPU, the others do not"
    assert re.search(r"resum", "".join(path.read_text() for path in folder.glob("logs/**/gpt/seed0/fit.log")), re.I)

    fit(folder, slurm, steps, "undisturbed")
    assert (experiment / "model.safetensors").read_bytes() == (folder / "undisturbed/model.safetensors").read_bytes()
    curves = [json.loads((path / "fit.json").read_text())["curve"] for path in (experiment, folder / "undisturbed")]
    assert curves[0] == curves[1]
