"""Fits killed at random moments, also while they write: they end with the bytes of an undisturbed one.

The fits are processes forked from one that has torch loaded, so that a hundred of them take minutes.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmstages.config.reading import read_run
from lmstages.config.sections import to_section

pytestmark = pytest.mark.slow
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "lmstages.training.loop",
        "lmstages.models.neural.gpt",
        "lmstages.models.neural.recurrent",
        "lmstages.models.storage",
    ]
)
INTERVAL = 5  # steps between two resume points
KILLS = {"kneser_ney": 10, "mlp": 34, "lstm": 34, "gpt": 34}
CONFIG = """
corpora: {coined: {count: 4000}}
tokenizers: {char: {kind: char}}
models:
  kneser_ney: {order: 8}
  mlp: {window: 4, embedding: 8, hidden: 64, steps: 300, evaluate_every: 40, dropout: 0.2}
  lstm: {hidden: 24, embedding: 8, row_length: 16, batch_size: 8, steps: 300, evaluate_every: 40, dropout: 0.1}
  gpt: {layers: 2, heads: 2, width: 16, window: 16, row_length: 16, batch_size: 8, steps: 300, evaluate_every: 40,
    dropout: 0.1, averaging: ema, optimizer: muon}
"""


def run_fit(arguments, step, resumed):
    """The fit in a process of its own; ``step`` is the step it has reached, ``resumed`` the one it resumed from."""
    import torch

    from lmstages.cli import main
    from lmstages.training.loop import Trainer

    torch.set_num_threads(1)  # it was loaded before the command line could tell it
    report, resume = Trainer.report, Trainer.resume

    def reported(trainer):
        report(trainer)
        step.value = trainer.state.step

    def resumes(trainer):
        resume(trainer)
        resumed.value = step.value = trainer.state.step

    Trainer.report, Trainer.resume = reported, resumes
    os._exit(main(arguments))


def half_written(points):
    """Files that are not whole yet; the folder goes when a fit is done."""
    try:
        return [name for name in os.listdir(points) if name.endswith(".partial")]
    except FileNotFoundError:
        return []


class Attempt:
    """One process of a fit."""

    def __init__(self, arguments):
        self.step, self.resumed = FORKS.Value("q", -1), FORKS.Value("q", -1)
        self.process = FORKS.Process(target=run_fit, args=(arguments, self.step, self.resumed))
        self.began = time.monotonic()
        self.process.start()

    def after(self, steps, seconds):
        """Wait until so many steps are done since it was resumed, then so long."""
        while self.process.is_alive() and (self.resumed.value < 0 or self.step.value - self.resumed.value < steps):
            time.sleep(0.001)
        time.sleep(seconds)

    def while_writing(self, points):
        """Wait for a file that is not whole yet."""
        while self.process.is_alive() and not half_written(points):
            pass

    def kill(self, number):
        if self.process.is_alive():
            os.kill(self.process.pid, number)
        return self.end()

    def end(self):
        self.process.join(120)
        return self.process.exitcode


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    (folder / "run.yaml").write_text(CONFIG)
    run = read_run(folder / "run.yaml")
    command = [sys.executable, "-m", "lmstages"]
    for verb, *options in (
        ("prepare", "--out", "text", "--section", run.prepare_section("coined")),
        ("tokenize", "--text", "text", "--layout", "lines", "--out", "tokens", "--section",
         to_section(run.tokenizers["char"])),
    ):  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        subprocess.run([*command, verb, *options], cwd=folder, check=True, env=environment)
    return folder, run


def arguments_of(project, model, out):
    folder, run = project
    options = ["--resume", str(out / "points"), "--save-steps", str(INTERVAL), "--code", "of this test"]
    made = ["--tokens", str(folder / "tokens"), "--out", str(out), "--section", run.fit_section(model)]
    return ["fit", *made, *options]


def outcome(folder):
    facts = json.loads((folder / "fit.json").read_text())
    return (folder / "model.safetensors").read_bytes(), {k: v for k, v in facts.items() if k != "fit_seconds"}


def killed_until_done(arguments, cut, whole, kills, moments):
    """Kill attempt after attempt, start over when one completes -> kills during a write, steps lost by every kill."""
    points = cut / "points"
    killed, amid, lost, reached = 0, 0, [], None
    while killed < kills:
        attempt = Attempt(arguments)
        counts = "kneser_ney" in arguments[arguments.index("--section") + 1]
        if counts:
            time.sleep(moments.uniform(0, 0.6))
        else:
            attempt.after(moments.randint(0, 9), moments.uniform(0, 0.02))
            if moments.random() < 0.3:
                attempt.while_writing(points)
        number = moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        code = attempt.kill(number)
        if reached is not None and attempt.resumed.value >= 0:
            lost.append(reached - attempt.resumed.value)
        reached = attempt.step.value if attempt.resumed.value >= 0 else reached
        if code == 0:
            assert outcome(cut) == outcome(whole)
            shutil.rmtree(cut)
            reached = None
            continue
        assert code in (75, -signal.SIGTERM, -signal.SIGKILL)
        killed, amid = killed + 1, amid + bool(half_written(points))
    assert Attempt(arguments).end() == 0
    return amid, lost


@pytest.mark.parametrize("model", KILLS)
def test_killed_at_random_moments_a_fit_ends_with_the_same_bytes(project, model, tmp_path):
    whole = tmp_path / "whole"
    assert Attempt(arguments_of(project, model, whole)).end() == 0
    moments, cut = random.Random(11), tmp_path / "cut"
    amid, lost = killed_until_done(arguments_of(project, model, cut), cut, whole, KILLS[model], moments)
    print(f"{model}: {KILLS[model]} kills, {amid} of them while writing, steps lost {lost}")
    assert outcome(cut) == outcome(whole) and not (cut / "points").exists()
    assert max(lost, default=0) <= INTERVAL
