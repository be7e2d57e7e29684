"""Every command and whole runs killed at random moments, by every signal: the next call completes, to the same bytes.

The next call after a command that a rule calls is ``make report`` or plain ``snakemake``, in turn; after one that only
people call, the same command. A run that is killed is completed by the other of the two. ``COMMAND_KILLS=200`` in the
environment asks for that many.

The kills happen in copies of one finished run, in whose code everything that is timed takes a second, so that all its
files are comparable to the byte: also pages, tables and figures of times.
"""

import functools
import http.client
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
from base64 import urlsafe_b64decode
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_workflow import PROJECT, copy_of, edit, environment

KILLS = int(os.environ.get("COMMAND_KILLS", "48"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 30 * KILLS)]
KILLS_A_ROUND = min(100, KILLS // 2)  # in one copy, before the one call that completes them all
CHAINS = 2 if KILLS >= 200 else 1  # of killed runs, eight in each; the second changes the calls of the first
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
TARGETS = ("group", "leader")
CALLS = {"make": ["make", "report", "RUN=quick", "CORES=2"]}
CALLS["snakemake"] = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "run=quick"]
BY_TURNS = tuple(CALLS)
TEMPORARY_FAILURE, INTERRUPTED = 75, 130  # a fit that has saved; Ctrl-C
ALL_FILES = ("results", "downloads", "resume", "checkpoint", "q8.gguf", "README.md", "docs", "begun")
ADDRESS = re.compile(r"models at http://127\.0\.0\.1:(\d+)/")
MODEL = "results/quick/coined/char/llama/seed0/model.safetensors"
CONFIG = """
compressors: [gzip]
mirror: mirror
corpora:
  coined: {count: 200, inspect: true}
  tales: {source: tinystories, count: 40, models: [bigram]}
tokenizers: {char: {kind: char}}
models:
  bigram:
  mlp: {window: 3, embedding: 8, hidden: 16, steps: 400, evaluate_every: 100, dropout: 0.1}
  llama: {layers: 1, heads: 2, key_value_heads: 1, width: 32, hidden: 32, window: 16, row_length: 16, batch_size: 4,
    steps: 100, evaluate_every: 50}
  llama_q8: {of: llama}
mixtures: {both: {of: [bigram, mlp]}}
sampling: {count: 1, length: 5, measured: 2}
infill: {lengths: [1], places: 5, context: 5}
generation: {steps: [1], texts: 5, length: 5}
"""
PRETRAINED = "pretrained: {exported: {path: checkpoint, corpora: [coined]}}\n"
SCORES = "scores: {written: {path: scores.jsonl, corpus: coined, unit: nats}}\n"
TEXT = "results/quick/coined/text/test.txt"


# ---------------------------------------------------------------- a finished run


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A finished run with every kind of experiment, also of a checkpoint that was exported from it."""
    folder = copy_of(PROJECT, tmp_path_factory.mktemp("finished") / "project")
    add_pages_and_environment(folder)
    stop_the_clock(folder)
    add_mirror(folder)
    (folder / "runs" / "quick.yaml").write_text(CONFIG)
    must_succeed(folder, [*CALLS["snakemake"][:-2], MODEL, *CALLS["snakemake"][-2:]])
    must_succeed(folder, EXPORTED.line)
    add_scores(folder)
    (folder / "runs" / "quick.yaml").write_text(CONFIG + PRETRAINED + SCORES)
    must_succeed(folder, CALLS["snakemake"])
    for command in BY_PEOPLE:
        call_again(folder, command)
    return folder


def add_scores(folder):
    """Scores made elsewhere, of every document of the text as one span."""
    spans = [{"start_byte": 0, "end_byte": len(line)} for line in (folder / TEXT).read_bytes().splitlines(True)]
    lines = (json.dumps(span | {"document": n, "log_prob": -20.0}) for n, span in enumerate(spans))
    (folder / "scores.jsonl").write_text("\n".join(lines))


def add_pages_and_environment(folder):
    """What ``make report`` and ``make readme`` need; the environment is the one that runs the tests."""
    for name in ("Makefile", "README.md", "requirements.lock", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder)
    shutil.copytree(PROJECT / "docs", folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").mkdir()
    for name in ("requirements.lock", "pyproject.toml", ".venv/.made-from-lock"):
        (folder / name).touch()


def stop_the_clock(folder):
    for name in ("mixtures", "derivation", "experiment"):
        path = folder / "lmstages" / "evaluation" / f"{name}.py"
        while "time.perf_counter() - started" in path.read_text():
            edit(path, "time.perf_counter() - started", "1.0")
    edit(folder / "lmstages/analyses/generation.py", "time.process_time() - started", "1.0")
    edit(folder / "lmstages/models/fitting.py", '"fit_seconds": runtime.seconds()', '"fit_seconds": 1.0')


def add_mirror(folder):
    (folder / "mirror" / "TinyStories").mkdir(parents=True)
    words = random.Random(7)
    for part, count in (("train", 50), ("validation", 10)):
        texts = (
            " ".join(words.choices(("Once", "upon", "a", "time", "there", "was", "Tim"), k=9)) for _ in range(count)
        )
        stories = "".join(json.dumps({"text": f"{text}."}) + "\n" for text in texts)
        (folder / "mirror" / "TinyStories" / f"{part}.jsonl").write_text(stories)


def must_succeed(folder, line):
    done = subprocess.run(line, cwd=folder, env=variables(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


def variables(folder):
    """The environment in which a process runs the code of this very folder."""
    return {**environment(), "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "LMSTAGES_MIRROR": "mirror"}


def copied(project, folder):
    """A copy of the finished run and of what Snakemake knows about it."""
    return Path(shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns("logs", "log")))


def tree(folder):
    """Every file of a folder, hidden ones too, with its bytes; Snakemake's empty marks of a folder's time apart."""
    paths = [path for name in ALL_FILES for path in (folder / name, *(folder / name).rglob("*")) if path.is_file()]
    kept = (path for path in paths if path.name != ".snakemake_timestamp" and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def must_be_equal(folder, undisturbed):
    files = tree(folder)
    differing = sorted(name for name in {*files, *undisturbed} if files.get(name) != undisturbed.get(name))
    assert not differing, f"{differing} are not as without a kill"


# ---------------------------------------------------------------- commands


@dataclass(frozen=True)
class Command:
    """A command as a rule, or a person, calls it, the files it makes, and how long it takes."""

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    seconds: float = 4.0
    by_rule: bool = False

    @property
    def line(self):
        script = ["docs/readme.py"] if self.name == "readme" else ["-m", "lmstages", self.name]
        return [sys.executable, *script, *self.arguments]


EXPORTED = Command("export", (MODEL, "--to", "hf", "--out", "checkpoint"), ("checkpoint",))
CHANGES = ("results/quick/diff/quick/changes.csv", "results/quick/diff/quick/changes.md")
DIFF = Command("diff", ("results/quick", "results/quick"), CHANGES)
BY_PEOPLE = (
    DIFF,
    Command("init", ("begun",), ("begun/config.schema.json", "begun/config.yaml")),
    Command("run", ("quick", "--", "--cores", "2")),
    Command("completion", ("bash",)),
    Command("check", ("runs/quick.yaml",)),
    Command("plan", ("quick",)),
    Command("needs", ()),
    Command("clean", ("results",)),
    Command("models", ()),
    Command("laws", ("bigram",)),
    Command("table", ("results/quick",)),
    Command("explain", ("results/quick/coined/char/mlp/seed0",)),
    Command("verify", ("results/quick",)),
    Command("play", ("results/quick",)),
    Command("judge", ("scores.jsonl", "--text", TEXT, "--unit", "nats", "--documents", "lines")),
    Command("score", (MODEL, TEXT, "--per", "word")),
    Command("fill", (MODEL, "--left", "wa", "--right", "a", "--length", "1")),
    Command("readme", ()),
    Command("export", (MODEL, "--to", "gguf", "--type", "q8_0", "--out", "q8.gguf"), ("q8.gguf",)),
    EXPORTED,
)


def named_in_help():
    """The commands that ``lmstages --help`` lists, and ``make readme``."""
    help_text = must_succeed(PROJECT, [sys.executable, "-m", "lmstages", "--help"])
    return {*re.findall(r"^ {2}([a-z]\w+) {2,}[A-Z]", help_text, re.MULTILINE), "readme"}


def of_rules(folder):
    """The commands of all rules in the order in which they began, as Snakemake's records of the outputs hold them."""
    outputs, records = {}, {}
    for path in (folder / ".snakemake" / "metadata").iterdir():
        record = json.loads(path.read_text())
        records[record["shellcmd"]] = record
        outputs.setdefault(record["shellcmd"], []).append(urlsafe_b64decode(path.name).decode())
    for line in sorted(records, key=lambda line: records[line]["starttime"]):
        seconds = max(1.0, records[line]["endtime"] - records[line]["starttime"])
        name, *arguments = arguments_of(line)
        # A download is made again only for a text that is gone: whoever has deleted it has saved its gigabytes.
        yield Command(name, tuple(arguments), tuple(sorted(outputs[line])), seconds, by_rule=name != "download")


def arguments_of(line):
    """A rule's shell command without its interpreter, what a setting may add, and its log; a section as an argument."""
    head, _, line = line.partition("-m lmstages ")
    printed = shlex.split(head)  # printf %s SECTION | python
    arguments = shlex.split(re.sub(r"\$\{LMSTAGES_\w+:\+[^}]*\}", "", line.partition(" 2>&1 |")[0]))
    return [printed[2] if argument == "-" else argument for argument in arguments]


def in_turn(commands, moments):
    """In a random order, one of each name first, then a second of each, and so on."""
    rounds = {}
    for command in moments.sample(commands, len(commands)):
        rounds.setdefault(command.name, []).append(command)
    longest = max(map(len, rounds.values()))
    return [same[number] for number in range(longest) for same in rounds.values() if number < len(same)]


def remove_outputs(folder, command, moments):
    """All of them, one or none; of a fit never none, since its resume points stay until it is asked for again."""
    count = moments.choice([len(command.outputs), 1, 1 if command.name == "fit" else 0])
    for output in moments.sample(command.outputs, min(count, len(command.outputs))):
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


# ---------------------------------------------------------------- kills


# Under ``nohup`` SIGHUP arrives ignored, and would be so in every child.
OBEYS_SIGHUP = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)


def start(folder, line, **streams):
    """A process in a group of its own, which a closed terminal ends."""
    own = {"cwd": folder, "text": True, "start_new_session": True, "preexec_fn": OBEYS_SIGHUP}
    return subprocess.Popen(line, **own, **{"env": variables(folder)} | streams)


def members(group):
    """The processes of a group that still run."""
    running = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group, *_ = path.read_text().rpartition(")")[2].split()
            running += [path.parent.name] if int(its_group) == group and state != "Z" else []
    return running


def must_be_gone(group):
    end = time.monotonic() + 60
    while members(group) and time.monotonic() < end:
        time.sleep(0.1)
    assert not members(group), "no process is left over"


def killed(folder, command, number, moments):
    """Start a command and send it a signal at a random moment, again where it was quicker -> its exit code."""
    seconds = moments.uniform(0.05, 1) * command.seconds
    while True:
        remove_outputs(folder, command, moments)
        process = start(folder, command.line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        time.sleep(seconds)
        was_running = process.poll() is None
        process.send_signal(number)
        error = process.communicate(timeout=300)[1]
        must_be_gone(process.pid)
        must_be_an_end_by(number, command, process.returncode, error)
        if was_running and (process.returncode or command.name == "play"):
            return
        seconds *= 0.7


def must_be_an_end_by(number, command, code, error):
    allowed = {0, -number}
    if number != signal.SIGKILL and command.name == "fit":
        allowed.add(TEMPORARY_FAILURE)
    if number == signal.SIGINT:
        allowed.add(INTERRUPTED)
    assert code in allowed, (command.name, number, code, error)
    assert code != INTERRUPTED or error.endswith("lmstages: interrupted; the same command starts again\n")
    assert command.name == "readme" or "lmstages/" not in error or "Traceback" not in error, error


def must_be_whole(folder, command, undisturbed):
    """What a kill leaves under an output's name is as without it; a folder is, once its index is there, an output too.

    Snakemake takes what lies there for done, so that existence must mean completeness.
    """
    files, outputs = tree(folder), command.outputs
    present = {output for output in outputs if (folder / output).is_file()}
    if all((folder / output).exists() for output in outputs):
        present |= {name for name in {*files, *undisturbed} if name.startswith(tuple(f"{path}/" for path in outputs))}
    left = {name for name in present if ".partial" not in name}
    assert not (differing := {name for name in left if files.get(name) != undisturbed.get(name)}), differing


def call_again(folder, command):
    """The next call of a command that only people call."""
    if command.name == "play":
        with playing(folder) as (process, _):
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    else:
        must_succeed(folder, ["make", "readme"] if command.name == "readme" else command.line)


@contextmanager
def playing(folder, port=0, **changes):
    """A playground that has opened its port: the process and the port."""
    command = [sys.executable, "-m", "lmstages", "play", "results/quick", "--port", str(port)]
    process = start(folder, command, env=variables(folder) | changes, stdout=subprocess.PIPE)
    try:
        yield process, int(ADDRESS.search(process.stdout.readline())[1])
    finally:
        process.kill()
        process.communicate()


def test_every_command_killed_at_any_moment_is_completed_by_the_next_call(project, tmp_path):
    moments = random.Random(15)
    commands = [*of_rules(project), *BY_PEOPLE]
    assert {command.name for command in commands} == named_in_help()
    undisturbed, order = tree(project), in_turn(commands, moments)
    trials = [(order[number % len(order)], SIGNALS[number % len(SIGNALS)]) for number in range(KILLS)]
    calls, by_signal, by_name = [], Counter(), Counter()
    for first in range(0, KILLS, KILLS_A_ROUND):
        folder = copied(project, tmp_path / "copy")
        # From the last of the run to its first, so that each finds what it reads.
        chosen = sorted(trials[first : first + KILLS_A_ROUND], key=lambda trial: commands.index(trial[0]), reverse=True)
        for command, number in chosen:
            killed(folder, command, number, moments)
            must_be_whole(folder, command, undisturbed) if command.by_rule else call_again(folder, command)
            by_signal[number.name] += 1
            by_name[command.name] += 1
        calls.append(BY_TURNS[len(calls) % len(BY_TURNS)])
        must_succeed(folder, CALLS[calls[-1]])
        must_be_equal(folder, undisturbed)
        shutil.rmtree(folder)
    print(f"{KILLS} kills, completed by {dict(Counter(calls))}: {dict(by_signal)}, {dict(by_name)}")
    assert by_name.keys() == named_in_help() and {*calls} == {*BY_TURNS}


# ---------------------------------------------------------------- whole runs


def killed_run(folder, call, number, target, seconds):
    """Start a run, and send a signal to its group, or to its first process alone, which is not waited for."""
    run = start(folder, CALLS[call], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    if target == "group":
        with suppress(ProcessLookupError):
            os.killpg(run.pid, number)
        run.wait(300)
    else:
        run.send_signal(number)
    return run


def test_a_run_killed_by_any_signal_is_completed_by_make_report_and_by_plain_snakemake(project, tmp_path):
    moments, undisturbed = random.Random(16), tree(project)
    kinds = moments.sample([(number, target) for number in SIGNALS for target in TARGETS], 8)
    for chain in range(CHAINS):
        folder, runs = copied(project, tmp_path / "copy"), []
        for name in ("results/quick", ".snakemake", "downloads"):
            shutil.rmtree(folder / name)
        for trial, (number, target) in enumerate(kinds):
            call = BY_TURNS[(chain + trial) % len(BY_TURNS)]
            runs.append(killed_run(folder, call, number, target, moments.uniform(1, 8)))
        must_succeed(folder, CALLS[BY_TURNS[(chain + len(kinds)) % len(BY_TURNS)]])
        for run in runs:
            run.wait(300)
            must_be_gone(run.pid)
        call_again(folder, DIFF)  # of no rule, and within the run's folder
        must_be_equal(folder, undisturbed)
        shutil.rmtree(folder)


# ---------------------------------------------------------------- the playground


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("answers", [False, True])
def test_a_killed_playground_leaves_its_port_free_and_nothing_over(project, tmp_path, number, answers):
    before = tree(project)
    with playing(project, TMPDIR=str(tmp_path)) as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        if answers:
            question = json.dumps({"model": "coined/char/llama/seed0", "length": 400})
            connection.request("POST", "/ask", question, {"Content-Type": "application/json"})
        else:
            connection.connect()
        process.send_signal(number)
        assert process.wait(60) == (0 if number == signal.SIGINT else -number)
        must_be_gone(process.pid)
    with playing(project, port, TMPDIR=str(tmp_path)) as (process, same_port):
        assert same_port == port
    connection.close()
    assert tree(project) == before and not list(tmp_path.iterdir())
