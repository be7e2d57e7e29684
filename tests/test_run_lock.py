"""One run at a time in a folder: whose it is, and what a killed one leaves behind."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from test_workflow import PROJECT, copy_of, environment

from lmstages.core import run_lock

HOLD = "import time; from pathlib import Path; from lmstages.core.run_lock import hold_folder; hold_folder(Path('.'))"
WITH_A_JOB = f"{HOLD}; import subprocess; subprocess.Popen(['sleep', '60']); print('held', flush=True); time.sleep(60)"
QUICK = """
corpora: {coined: {count: 60}}
tokenizers: {char: {kind: char}}
models: {unigram: }
sampling: {count: 1, length: 5, measured: 2}
"""


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}


def python(folder, code):
    variables = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=variables, **PIPES)


@pytest.fixture
def holding(tmp_path):
    """A process that holds ``tmp_path`` and has started a job."""
    process = python(tmp_path, WITH_A_JOB)
    assert process.stdout.readline() == "held\n"
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_second_process_says_whose_the_folder_is_and_waits(holding, tmp_path):
    second = python(tmp_path, f"{HOLD}; print('mine')")
    line = second.stderr.readline()
    holder = rf"host {re.escape(socket.gethostname())}, process {holding.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(rf"^lmstages: another run is in progress in .* \({holder}\); this one begins when it has", line)
    assert second.poll() is None
    os.killpg(holding.pid, signal.SIGKILL)
    assert second.communicate(timeout=60)[0] == "mine\n"


def test_jobs_of_a_killed_run_hold_the_folder_until_they_end(holding, tmp_path):
    holding.kill()
    holding.wait()
    second = python(tmp_path, f"{HOLD}; print('mine')")
    assert second.stderr.readline().startswith("lmstages: jobs of a run that was killed still work in ")
    os.killpg(holding.pid, signal.SIGKILL)
    assert second.communicate(timeout=60)[0] == "mine\n"


def test_locks_that_a_dead_process_left_are_removed(tmp_path):
    left = tmp_path / ".snakemake" / "locks" / "0.input.lock"
    left.parent.mkdir(parents=True)
    left.touch()
    assert python(tmp_path, HOLD).wait(60) == 0 and not left.exists()


def test_a_process_does_not_wait_for_itself(tmp_path):
    assert python(tmp_path, f"{HOLD}; hold_folder(Path('.'))").wait(60) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "here"}'])
def test_a_lock_that_is_not_signed_yet_names_nobody(tmp_path, content):
    path = tmp_path / ".snakemake" / "run.lock"
    path.parent.mkdir()
    path.write_text(content)
    assert run_lock.holder(path) == f"another run has just begun in {tmp_path}"


def test_a_process_of_another_host_is_taken_to_be_alive(tmp_path):
    path = tmp_path / ".snakemake" / "run.lock"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1 << 22, "since": "2024-01-01 00:00:00"}))
    assert run_lock.holder(path).startswith("another run is in progress in ")


# Snakemake itself


@pytest.fixture
def project(tmp_path):
    folder = copy_of(PROJECT, tmp_path / "project")
    (folder / "runs" / "quick.yaml").write_text(QUICK)
    (folder / "Makefile").write_text((PROJECT / "Makefile").read_text())
    return folder


def start(folder, *arguments):
    """Plain snakemake in a session of its own."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments, "--config", "run=quick"]
    return subprocess.Popen(command, cwd=folder, env=environment(), **PIPES)


def make(folder):
    """``make report`` with the environment that is there."""
    ready = Path(folder, ".venv", ".made-from-lock")
    ready.parent.mkdir()
    for name in ("requirements.lock", "pyproject.toml"):
        (folder / name).touch()
    ready.touch()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        ["make", "report", "RUN=quick", "CORES=1"], cwd=folder, env=environment(), text=True, **pipes
    )


@pytest.mark.slow
def test_make_and_plain_snakemake_wait_for_each_other(project):
    by_make = make(project)
    time.sleep(1)
    plain = start(project)
    errors = [process.communicate()[1] for process in (by_make, plain)]
    assert (by_make.returncode, plain.returncode) == (0, 0), "".join(errors)
    assert any("another run is in progress in" in error for error in errors)
    assert any("Nothing to be done" in error for error in errors)


@pytest.mark.slow
def test_after_a_kill_of_the_whole_group_plain_snakemake_completes(project):
    killed = start(project)
    while not list(project.glob("results/quick/coined/text/*")):
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert list(project.glob(".snakemake/locks/*")), "the killed run has left its locks"
    completed = start(project)
    error = completed.communicate()[1]
    assert completed.returncode == 0 and (project / "results/quick/report.html").exists(), error


@pytest.mark.parametrize("arguments", [["-n"], ["-np"], ["--lint"], ["--unlock"], ["--list-rules"], ["--rulegraph"]])
def test_what_only_looks_does_not_wait(project, arguments):
    holding = python(project, WITH_A_JOB)
    assert holding.stdout.readline() == "held\n"
    looking = start(project, *arguments)
    try:
        assert looking.communicate(timeout=120)[1].count("another run is in progress") == 0
    finally:
        os.killpg(holding.pid, signal.SIGKILL)
        holding.communicate()


# Where and by what it is started


def test_snakemake_runs_jobs_on_its_own_interpreter_without_activation(project):
    tools = project / "tools"  # bash, tee and what else jobs need, but no python
    tools.mkdir()
    for name in ("bash", "sh", "tee", "which"):
        (tools / name).symlink_to(shutil.which(name))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "results/quick/coined/text/corpus.json"]
    variables = {**os.environ, "PATH": str(tools), "PYTHONPATH": ""}
    done = subprocess.run(
        [*command, "--config", "run=quick"], cwd=project, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (project / "results/quick/coined/text/corpus.json").exists()


def test_started_in_another_folder_it_says_where_to_start(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "-s", str(project / "Snakefile")]
    done = subprocess.run(command, cwd=elsewhere, env=environment(), capture_output=True, text=True)
    output = done.stdout + done.stderr  # a dry run reports on the standard output
    line = next(line for line in output.splitlines() if line.startswith("lmstages: error: "))
    remedy = f"start it there, cd {project} && snakemake, or name one with --configfile or --config run=NAME"
    assert line == f"lmstages: error: config.yaml: not in {elsewhere}, but in {project}; {remedy}"
    assert done.returncode == 1 and "Traceback" not in output
    by_name = subprocess.run([*command, "--config", "run=quick"], cwd=elsewhere, env=environment(), capture_output=True)
    assert by_name.returncode == 0, "a run by its name is one of the remedies"


def test_a_folder_that_cannot_be_locked_is_one_line(project):
    (project / ".snakemake").mkdir()
    (project / ".snakemake" / "run.lock").symlink_to(project / "config.yaml")
    before = (project / "config.yaml").read_bytes()
    process = start(project)
    error = process.communicate()[1]
    line = next(line for line in error.splitlines() if line.startswith("lmstages: error: "))
    assert process.returncode == 1 and "Traceback" not in error
    assert line.startswith(
        f"lmstages: error: {project}/.snakemake/run.lock: cannot be locked (Too many levels of symbol"
    )
    assert line.endswith("; make it writable, or start in another folder with --directory")
    assert (project / "config.yaml").read_bytes() == before, "the link is not followed"


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)
    run_lock.hold_folder(tmp_path)
    warning = f"{tmp_path}: its file system has no locks (No locks available); start one run at a time there"
    assert capsys.readouterr().err == f"lmstages: warning: {warning}\n"


@pytest.mark.slow
def test_after_a_kill_of_snakemake_alone_plain_snakemake_waits_for_its_jobs_and_completes(project):
    killed = start(project)
    while not list(project.glob("results/quick/coined/text/*")):
        time.sleep(0.1)
    killed.kill()
    completed = start(project)
    error = completed.communicate()[1]
    killed.communicate()
    assert completed.returncode == 0 and (project / "results/quick/report.html").exists(), error
