"""Every command killed at random moments, by every signal: the next call completes, with the undisturbed bytes.

Each kill happens in a copy of one finished run, with the command's outputs there or removed. ``COMMAND_KILLS=200`` in
the environment asks for that many.
"""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_workflow import PROJECT, copy_of, environment

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("COMMAND_KILLS", "30"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
ENDED = {0, 75, 130}  # done before the signal came; a fit that has saved; Ctrl-C
TIMINGS = {"fit_seconds", "score_seconds", "seconds", "machines"}
MODEL = "results/quick/coined/char/llama/seed0/model.safetensors"
CONFIG = """
compressors: [gzip]
corpora: {coined: {count: 200, inspect: true}}
tokenizers: {char: {kind: char}}
models:
  bigram:
  mlp: {window: 3, embedding: 8, hidden: 16, steps: 400, evaluate_every: 100, dropout: 0.1}
  llama: {layers: 1, heads: 2, key_value_heads: 1, width: 32, hidden: 32, window: 16, row_length: 16, batch_size: 4,
    steps: 100, evaluate_every: 50}
  llama_q8: {of: llama}
mixtures: {both: {of: [bigram, mlp]}}
sampling: {count: 1, length: 5, measured: 2}
"""
RULE = re.compile(r"^(?:local)?rule (\w+):\n(?:.*\n)*?    output: (.*)\n(?:.*\n)*?Shell command: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command as a rule, or a person, calls it, and the files it makes."""

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def name(self):
        return self.arguments[0]


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--config", "run=quick"]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def lmstages(folder, arguments):
    command = [sys.executable, "-m", "lmstages", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=variables, text=True, start_new_session=True, **pipes)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A finished run with every kind of experiment, also of a checkpoint that was exported from it."""
    folder = copy_of(PROJECT, tmp_path_factory.mktemp("finished") / "project")
    (folder / "runs" / "quick.yaml").write_text(CONFIG)
    done = snakemake(folder, MODEL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert lmstages(folder, ["export", MODEL, "--to", "hf", "--out", "checkpoint"]).wait() == 0
    (folder / "runs" / "quick.yaml").write_text(CONFIG + "pretrained: {exported: {path: checkpoint}}\n")
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    stories = "".join(json.dumps({"text": f"Story {number}."}) + "\n" for number in range(50))
    (folder / "mirror" / "TinyStories").mkdir(parents=True)
    (folder / "mirror" / "TinyStories" / "train.jsonl").write_text(stories)
    for command in by_people():
        assert lmstages(folder, command.arguments).wait() == 0, command.name
    return folder


def by_people():
    """Commands that no rule of this run calls."""
    source = ("--source", "tinystories", "--part", "train", "--stories", "9", "--mirror", "mirror")
    yield Command(("download", *source, "--out", "downloads/stories.txt"), ("downloads/stories.txt",))
    yield Command(("export", MODEL, "--to", "gguf", "--type", "q8_0", "--out", "q8.gguf"), ("q8.gguf",))
    changes = ("results/quick/diff/quick/changes.csv", "results/quick/diff/quick/changes.md")
    yield Command(("diff", "results/quick", "results/quick"), changes)
    yield Command(("table", "results/quick"), ())
    yield Command(("explain", "results/quick/coined/char/mlp/seed0"), ())
    yield Command(("check", "runs/quick.yaml"), ())


def of_rules(folder):
    """The commands of all rules, as a dry run prints them."""
    plan = snakemake(folder, "-n", "-p", "--forceall").stdout
    for _, outputs, line in RULE.findall(plan):
        line = re.sub(r"\$\{LMSTAGES_TIME_LIMIT:[^}]*\}", "", line.partition("-m lmstages ")[2])
        yield Command(tuple(shlex.split(line.partition(" 2>&1 |")[0])), tuple(outputs.split(", ")))


def tree(folder):
    """Every file of a folder with its content; timings, and hashes of files that hold some, apart."""
    kept = ("results", "downloads", "resume", "checkpoint", "q8.gguf")
    paths = [path for name in kept for path in (folder / name, *(folder / name).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): without_timings(path) for path in paths}


def without_timings(path):
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_bytes())
    if path.parent.name == ".made":
        beside = path.parent.parent / path.name.removesuffix(".json")
        if beside.suffix == ".json" and any(key in beside.read_text() for key in TIMINGS):
            content = content["made"]
    return stripped(content)


def stripped(content):
    if isinstance(content, dict):
        return {key: stripped(value) for key, value in content.items() if key not in TIMINGS}
    return [stripped(item) for item in content] if isinstance(content, list) else content


def in_turn(commands, moments):
    """In a random order, one of each name first, then a second of each, and so on."""
    rounds = {}
    for command in moments.sample(commands, len(commands)):
        rounds.setdefault(command.name, []).append(command)
    longest = max(map(len, rounds.values()))
    return [same[number] for number in range(longest) for same in rounds.values() if number < len(same)]


def copied(project, folder):
    shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns(".snakemake", "lmstages", "logs"))
    return folder


def remove_outputs(folder, command):
    for output in command.outputs:
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def killed(folder, command, number, seconds):
    """Start a command and send it a signal after some seconds -> its exit code and what it wrote to stderr."""
    process = lmstages(folder, command.arguments)
    time.sleep(seconds)
    process.send_signal(number)
    error = process.communicate(timeout=300)[1]
    return process.returncode, error


def test_every_command_killed_at_any_moment_is_completed_by_the_next_call(project, tmp_path):
    commands, durations, moments = [*of_rules(project), *by_people()], {}, random.Random(15)
    undisturbed, counts, amid = tree(project), dict.fromkeys(SIGNALS, 0), 0
    names = {command.name for command in commands}
    assert {"prepare", "tokenize", "fit", "derive", "mix", "score_pretrained", "evaluate", "figures"} <= names
    commands = in_turn(commands, moments)
    for trial in range(KILLS):
        command, number = commands[trial % len(commands)], SIGNALS[trial % len(SIGNALS)]
        folder = copied(project, tmp_path / str(trial))
        if command not in durations:
            began = time.monotonic()
            assert lmstages(folder, command.arguments).wait() == 0
            durations[command] = time.monotonic() - began
            assert tree(folder) == undisturbed, f"{command.name} gives the same bytes without a kill"
        if moments.random() < 0.5:
            remove_outputs(folder, command)
        code, error = killed(folder, command, number, moments.uniform(0.05, 1) * durations[command])
        assert code in {*ENDED, -number}, (command.name, number, code, error)
        assert code != 130 or error.endswith("lmstages: interrupted; the same command starts again\n")
        assert "lmstages/" not in error or "Traceback" not in error, error
        counts[number] += code != 0
        amid += bool(list(folder.rglob("*.partial")))
        again = lmstages(folder, command.arguments)
        error = again.communicate(timeout=300)[1]
        assert again.returncode == 0, (command.name, number, error)
        differing = {name for name, content in tree(folder).items() if undisturbed.get(name) != content}
        assert not differing and tree(folder).keys() == undisturbed.keys(), (command.name, number, differing)
        shutil.rmtree(folder)
    print(f"{KILLS} kills of {len(commands)} commands: {counts}, {amid} while writing")


def killed_run(folder, number, seconds):
    """Plain snakemake in a group of its own, to which a signal is sent after some seconds."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "run=quick"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=True, **quiet)
    time.sleep(seconds)
    os.killpg(run.pid, number)
    run.wait(300)


def test_a_run_killed_by_any_signal_is_completed_by_plain_snakemake(project, tmp_path):
    folder, moments = copied(project, tmp_path / "killed"), random.Random(16)
    shutil.copytree(project / "lmstages", folder / "lmstages")
    shutil.rmtree(folder / "results")
    for trial in range(max(4, KILLS // 5)):
        killed_run(folder, SIGNALS[trial % len(SIGNALS)], moments.uniform(2, 15))
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    exact = {".safetensors", ".npy", ".txt"}
    files = {name: content for name, content in tree(project).items() if Path(name).suffix in exact}
    completed = tree(folder)
    assert {name for name, content in files.items() if completed.get(name) != content} == set()
    assert not list(folder.rglob("*.partial")) and not list(folder.glob("resume/*/*"))
