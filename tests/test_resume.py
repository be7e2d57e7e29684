"""Resume points: interrupted anywhere, a fit ends with the same bits, and never resumes from another fit's point."""

import errno
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from lmstages.cli import main
from lmstages.config.reading import read_run
from lmstages.config.sections import to_section
from lmstages.core import artifacts, files
from lmstages.core import runtime as runtime_module
from lmstages.core.documents import Documents
from lmstages.core.errors import Interrupted, UserError
from lmstages.core.runtime import SIGNALS, Runtime, Signals, deadline
from lmstages.corpora.splits import NAMES
from lmstages.models.fitting import fitted
from lmstages.training.locks import FolderLock
from lmstages.training.loop import Trainer, TrainState
from lmstages.training.resume import Cadence, ResumePoints, difference, packed, unpacked

VOCAB_SIZE = 7
TOKENS = Documents.single(np.random.default_rng(0).integers(1, VOCAB_SIZE, 400))
SHORT = {"steps": 8, "evaluate_every": 3, "batch_size": 4, "row_length": 4}
ATTENTION = {"layers": 1, "heads": 2, "width": 8, "window": 8, "warmup_steps": 2}
MODEL_TYPES = {
    "mlp": {"window": 2, "embedding": 4, "hidden": 8, "dropout": 0.3, "weight_decay": 0.1},
    "wavenet": {"layers": 2, "embedding": 4, "hidden": 8},
    "lstm": {"hidden": 8, "embedding": 4, "dropout": 0.2, "optimizer": "sgd"},
    "gpt": {**ATTENTION, "dropout": 0.2, "keep": "last", "averaging": "mean", "average_share": 0.6},
    "modern_gpt": {**ATTENTION, "optimizer": "muon", "averaging": "ema"},
    "fim": {**ATTENTION, "dropout": 0.2},
    "any_order": {**ATTENTION, "dropout": 0.2},
    "block_diffusion": {**ATTENTION, "block": 2},
    "masked_diffusion": {**ATTENTION, "row_length": 8, "dropout": 0.2},
    "uniform_diffusion": {**ATTENTION, "row_length": 8, "dropout": 0.2},
    "sundae": {**ATTENTION, "row_length": 8, "dropout": 0.2},
    "sed": {**ATTENTION, "row_length": 8, "dropout": 0.2},
}


@pytest.fixture(autouse=True)
def default_dispositions():
    """Signals as Python itself sets them, whatever started the tests: nohup and background jobs ignore some."""
    handlers = {number: signal.SIG_DFL for number in SIGNALS} | {signal.SIGINT: signal.default_int_handler}
    inherited = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in inherited.items():
        signal.signal(number, handler)


def fit(config, runtime=None, seed=3, **changed):
    section = {"type": config, "hyperparameters": {**SHORT, **MODEL_TYPES[config], **changed}}
    model, curve = fitted(section, VOCAB_SIZE, TOKENS, TOKENS, seed, runtime)
    return curve, {name: array.tobytes() for name, array in model.arrays().items()}


def points(folder, identity="same", **cadence):
    return ResumePoints(folder, {"section": identity}, Cadence(**cadence))


def interrupted(folder, config, steps, **changed):
    """As many attempts, each interrupted after one step."""
    for _ in range(steps):
        runtime = Runtime(points=points(folder), deadline=time.monotonic())
        with pytest.raises(Interrupted):
            fit(config, runtime, **changed)
        runtime.close()


def finished(folder, config, **changed):
    runtime = Runtime(points=points(folder))
    try:
        return fit(config, runtime, **changed)
    finally:
        runtime.close()


@pytest.mark.parametrize("config", MODEL_TYPES)
def test_interrupted_after_every_step_a_fit_ends_with_the_same_bits(config, tmp_path):
    interrupted(tmp_path / "points", config, SHORT["steps"])
    assert finished(tmp_path / "points", config) == fit(config)


WORSE_AT_THE_END = {"learning_rate": 0.1, "final_learning_rate": 50.0, "schedule": "linear", "evaluate_every": 1}
FORGOTTEN = [
    ("optimizers", "mlp", {}),
    ("average", "gpt", {}),
    ("best_weights", "mlp", WORSE_AT_THE_END),
    ("losses", "mlp", {}),
    ("tokens", "mlp", {}),
    ("curve", "mlp", {}),
]


@pytest.mark.parametrize(("forgotten", "config", "changed"), FORGOTTEN)
def test_leaving_out_any_part_of_the_state_would_show(forgotten, config, changed, tmp_path, monkeypatch):
    undisturbed, restore = fit(config, **changed), TrainState.restore

    def forgets(state, saved):
        fresh = saved["losses"] * 0 if forgotten == "losses" else state.saved()[forgotten]
        restore(state, {**saved, forgotten: fresh})

    interrupted(tmp_path, config, 5, **changed)
    monkeypatch.setattr(TrainState, "restore", forgets)
    with suppress(KeyError, RuntimeError):  # what is left out may also stop it
        assert finished(tmp_path, config, **changed) != undisturbed


def test_a_state_comes_back_as_it_was():
    tree = {"a": [1, 2.5, None, True], 0: (np.arange(3), {"b": np.float32([[1]])}), "empty": {}}
    arrays = {}
    content = json.loads(json.dumps(packed(tree, arrays)))
    again = unpacked(content, arrays)
    assert again["a"] == tree["a"] and again[0][0].tolist() == [0, 1, 2] and again[0][1]["b"].dtype == np.float32
    assert again["empty"] == {} and isinstance(again[0], tuple)


def test_a_state_that_json_cannot_hold_is_refused_at_once():
    with pytest.raises(AssertionError, match="a state holds no set"):
        packed({"a": {1}}, {})


# Which point is resumed


def saved(folder, *steps):
    """Points of these steps, as one fit leaves them."""
    own = points(folder)
    own.open({})
    for step in steps:
        own.save(step, {"weights": np.full(5, step)})
    own.close()


def resumed_step(folder, identity="same"):
    own = points(folder, identity)
    try:
        state = own.open({})
        return None if state is None else int(state["weights"][0])
    finally:
        own.close()


def test_two_points_are_kept_and_the_newest_is_resumed(tmp_path):
    saved(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        f"step-{step:012d}.safetensors" for step in (2, 3)
    ]
    assert resumed_step(tmp_path) == 3


@pytest.mark.parametrize("harm", ["flip", "truncate", "no sidecar", "rename"])
def test_a_damaged_point_is_left_aside_for_the_one_before(tmp_path, harm, caplog, monkeypatch):
    saved(tmp_path, 1, 2)
    path = tmp_path / "step-000000000002.safetensors"
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[-1] ^= 1
    path.write_bytes(content[:-3] if harm == "truncate" else content)
    if harm == "no sidecar":
        artifacts.sidecar(path).unlink()
    if harm == "rename":
        path.write_bytes((tmp_path / "step-000000000001.safetensors").read_bytes())
    monkeypatch.setattr("lmstages.core.progress.LOGGER.propagate", True)
    assert resumed_step(tmp_path) == 1
    assert "resume point left aside" in caplog.text and path.name in caplog.text
    monkeypatch.setattr(artifacts, "made_of", lambda path: {"sha256": _sha256(path), "made": {}})  # the guard removed
    assert harm == "truncate" or resumed_step(tmp_path) != 1 or harm == "rename"


def _sha256(path):
    with open(path, "rb") as file:
        return files.sha256_of_open(file)


def test_a_point_of_another_fit_is_left_aside_and_says_what_differs(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("lmstages.core.progress.LOGGER.propagate", True)
    saved(tmp_path, 7)
    assert resumed_step(tmp_path, "other") is None
    assert 'of another fit: section is "same", not "other"' in caplog.text


def test_a_foreign_point_goes_once_an_own_one_is_safe(tmp_path):
    saved(tmp_path, 7)
    own = points(tmp_path, "other")
    own.open({})
    (tmp_path / ".step-000000000009.safetensors.1.partial").write_bytes(b"torn")
    own.save(2, {"weights": np.zeros(1)})
    own.close()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".made", "step-000000000002.safetensors"]


def test_the_first_difference_is_named():
    one, other = {"a": {"b": [1], "c": 2}}, {"a": {"b": [1], "c": 3}}
    assert difference(one, other) == "a.c is 2, not 3" and difference(one, one) == ""
    assert difference({}, {"a": 1}) == "a is null, not 1"


@pytest.mark.parametrize(
    "changed",
    [{"seed": 1}, {"threads": 2}, {"vocab_size": 8}, {"code": "new"}, {"inputs": {"train.npy": "y"}}, {"section": {}}],
)
def test_every_part_of_the_identity_keeps_fits_apart(tmp_path, changed):
    from lmstages.models.fitting import identity

    made = {"code": "old", "inputs": {"train.npy": "x"}, "section": {"type": "mlp"}}
    numbers = {"vocab_size": 7, "seed": 0, "threads": 1}
    whole = identity(made, **numbers)
    other = identity(made | {k: v for k, v in changed.items() if k in made}, **numbers | {
        k: v for k, v in changed.items() if k in numbers
    })  # fmt: skip
    own = ResumePoints(tmp_path, whole)
    own.open({"device": "cpu"})
    own.save(1, {})
    own.close()
    assert ResumePoints(tmp_path, whole).newest({"device": "cpu"}) == {}
    assert ResumePoints(tmp_path, whole).newest({"device": "cuda"}) is None
    assert ResumePoints(tmp_path, other).newest({"device": "cpu"}) is None


def test_the_code_of_a_fit_is_part_of_it_even_where_nobody_gave_its_hash():
    from lmstages.models.fitting import identity

    made = {"code": "", "section": {"type": "mlp", "hyperparameters": {}}}
    assert len(identity(made, 7, 0, 1)["code"]) == 16


def test_a_full_disk_is_one_error_and_the_point_before_stays(tmp_path):
    saved(tmp_path, 1)
    own, limit = points(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    own.open({})
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
        with pytest.raises(UserError, match="no space left to write it"):
            own.save(2, {"weights": np.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
        own.close()
    assert resumed_step(tmp_path) == 1


# Schedule and signals


def test_a_point_is_due_after_so_many_steps_or_seconds(tmp_path):
    by_steps, by_seconds = points(tmp_path, steps=5), points(tmp_path, seconds=0)
    assert [by_steps.due(step) for step in (4, 5)] == [False, True]
    assert by_seconds.due(1) and not by_seconds.due(0)


def test_a_fit_of_seconds_writes_no_point(tmp_path):
    runtime = Runtime(points=points(tmp_path / "points"))
    written = []
    runtime.points.save = lambda *_: written.append(1)
    fit("mlp", runtime)
    runtime.done()
    assert not written and not (tmp_path / "points").exists()


def test_a_time_limit_ends_a_fit_before_it(monkeypatch):
    monkeypatch.setattr(runtime_module, "STARTED", 1000.0)
    assert deadline(60) == 1000 + 58 * 60 and deadline(1) == 1000 + 48 and deadline(0) == float("inf")


def test_a_time_limit_without_a_folder_is_refused():
    with pytest.raises(UserError, match="--minutes: what is done by then would be lost; give --resume FOLDER too"):
        Runtime(deadline=5.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_is_recorded_and_the_second_would_end_at_once(number):
    before = signal.getsignal(number)
    with Signals() as signals:
        signal.raise_signal(number)
        assert signals.received == number and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(number) == before


def test_a_signal_that_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received is None
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # by default it would end this process
        assert signals.received == signal.SIGTERM and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_closed_terminal_that_nohup_ignores_does_not_stop_a_fit():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Signals() as signals:
        signal.raise_signal(signal.SIGHUP)
        assert signals.received is None and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


# The lock


def test_a_process_that_has_not_locked_the_folder_removes_nothing_of_it(tmp_path):
    """As the second of two processes that share a fit, which stops while the main one begins to save."""
    own, second = points(tmp_path / "points"), points(tmp_path / "points")
    own.open({})
    records = tmp_path / "points" / artifacts.RECORDS
    records.mkdir()
    second.close()
    assert records.is_dir()
    own.close()
    assert not records.parent.exists()


def test_a_folder_in_use_is_refused(tmp_path):
    lock = FolderLock(tmp_path, heartbeat=0.05)
    lock.acquire()
    with pytest.raises(UserError, match=f"process {os.getpid()} on .* is writing in it; one process at a time may"):
        FolderLock(tmp_path).acquire()
    lock.release()
    FolderLock(tmp_path).acquire()


def in_a_child(function, *arguments):
    """Call a function in a forked process -> the process's number; the child ends as if killed."""
    child = os.fork()
    if not child:
        try:
            function(*arguments)
        finally:
            os._exit(0)
    return child


def acquire_and_die(folder):
    lock = FolderLock(folder)
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def abandoned(folder):
    """A folder whose owner died without releasing its lock -> the owner's process number."""
    child = in_a_child(acquire_and_die, folder)
    os.waitpid(child, 0)
    assert (folder / "lock").exists()
    return child


def locked_by(folder, silence=45.0):
    """The lock of process 5 on another machine, in place of whatever lock there is."""
    lines = ["filelock/2", "pid=5", "host=elsewhere", "mode=lease", "token=0", f"duration={silence!r}"]
    (folder / "new").write_text("".join(f"{line}\n" for line in lines))
    (folder / "new").replace(folder / "lock")


def test_the_lock_of_a_dead_process_heals_with_a_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("lmstages.core.progress.LOGGER.propagate", True)
    child, lock = abandoned(tmp_path), FolderLock(tmp_path)
    lock.acquire()
    assert lock.is_mine()
    assert f"process {child} on {socket.gethostname()}, which is gone, is taken over" in caplog.text


def test_a_process_number_given_again_does_not_inherit_a_lock(tmp_path):
    child, lock = abandoned(tmp_path), tmp_path / "lock"
    lock.write_text(re.sub(r"start=\d+", "start=1", lock.read_text().replace(f"pid={child}", f"pid={os.getpid()}")))
    assert not FolderLock(tmp_path).is_mine()
    FolderLock(tmp_path).acquire()


def test_an_unreadable_lock_heals(tmp_path):
    (tmp_path / "lock").write_bytes(b"{")
    FolderLock(tmp_path).acquire()


def test_a_silent_owner_on_another_machine_is_taken_for_dead(tmp_path):
    locked_by(tmp_path, silence=0.2)
    FolderLock(tmp_path, silence=0.2).acquire()


def test_a_silent_owner_is_not_taken_for_dead_before_its_time(tmp_path):
    locked_by(tmp_path, silence=0.5)
    began = time.monotonic()
    FolderLock(tmp_path, silence=0.5).acquire()
    assert time.monotonic() - began >= 0.5


def test_an_owner_on_another_machine_whose_heart_beats_is_left_alone(tmp_path):
    locked_by(tmp_path, silence=30.0)

    def beat():
        for _ in range(200):
            os.utime(tmp_path / "lock")
            time.sleep(0.02)

    child = in_a_child(beat)
    with pytest.raises(UserError, match="process 5 on elsewhere is writing in it"):
        FolderLock(tmp_path, silence=30.0).acquire()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_an_owner_of_another_version_that_waits_longer_is_left_alone(tmp_path):
    locked_by(tmp_path, silence=60.0)
    with pytest.raises(UserError, match="process 5 on elsewhere is writing in it"):
        FolderLock(tmp_path, silence=0.2).acquire()


def test_an_owner_that_was_taken_for_dead_writes_no_more(tmp_path):
    own = points(tmp_path)
    own.open({})
    locked_by(tmp_path)
    with pytest.raises(UserError, match="another process has taken it over"):
        own.save(1, {})
    own.close()
    assert (tmp_path / "lock").exists()


# On the command line

CONFIG = """
corpora: {coined: {count: 120}}
tokenizers: {char: {kind: char}}
models:
  mlp: {window: 2, embedding: 4, hidden: 8, steps: 30, evaluate_every: 10, dropout: 0.1}
  bigram:
"""


def call(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the tokens of a small corpus, and its run."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "run.yaml").write_text(CONFIG)
    run = read_run(folder / "run.yaml")
    assert call("prepare", "--out", folder / "text", "--section", run.prepare_section("coined")) == 0
    section = to_section(run.tokenizers["char"])
    options = ["--text", folder / "text", "--layout", "lines", "--out", folder / "tokens", "--section", section]
    assert call("tokenize", *options) == 0 and len(NAMES) == 3
    return folder, run


def fit_arguments(project, model, out, *more):
    folder, run = project
    return ["fit", "--tokens", folder / "tokens", "--out", out, "--section", run.fit_section(model), *more]


def outcome(folder):
    facts = json.loads((folder / "fit.json").read_text())
    return (folder / "model.safetensors").read_bytes(), {k: v for k, v in facts.items() if k != "fit_seconds"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_a_fit_exits_75_and_the_next_call_ends_with_the_same_bytes(
    project, tmp_path, monkeypatch, number
):
    whole, cut, folder = tmp_path / "whole", tmp_path / "cut", tmp_path / "points"
    assert call(*fit_arguments(project, "mlp", whole)) == 0
    report = Trainer.report

    def report_and_signal(trainer):
        report(trainer)
        if trainer.state.step == 17:
            signal.raise_signal(number)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "report", report_and_signal)
        log = tmp_path / "fit.log"
        assert call(*fit_arguments(project, "mlp", cut, "--resume", folder, "--log", log)) == 75
        assert f"stopped after step 17 of 30, which is saved ({signal.Signals(number).name})" in log.read_text()
    assert not (cut / "model.safetensors").exists() and list(folder.glob("step-*17.safetensors"))
    assert call(*fit_arguments(project, "mlp", cut, "--resume", folder, "--log", log)) == 0
    assert "resumed after step 17" in log.read_text()
    assert outcome(cut) == outcome(whole) and not folder.exists()


def test_a_fit_saves_although_its_terminal_has_gone(project, tmp_path):
    """Upon SIGHUP every write to the terminal fails: the fit saves all the same, and says so in its exit code."""
    reader, terminal = os.openpty()
    section = json.loads(project[1].fit_section("mlp"))
    section["hyperparameters"] |= {"steps": 10**6, "evaluate_every": 10**6}
    options = fit_arguments(project, "mlp", tmp_path / "out", "--resume", tmp_path / "points", "--save-steps", 50)
    options[options.index("--section") + 1] = json.dumps(section)
    command = [sys.executable, "-m", "lmstages", *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment, start_new_session=True)
    os.close(terminal)
    while process.poll() is None and not list(tmp_path.glob("points/*.safetensors")):
        time.sleep(0.01)
    os.close(reader)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 75
    newest = max(tmp_path.glob("points/*.safetensors"))
    assert artifacts.verified(newest) and not (tmp_path / "out" / "model.safetensors").exists()


def test_a_folder_of_resume_points_that_cannot_be_written_is_one_line(bound_folder):
    shut = bound_folder / "shut"
    shut.mkdir(mode=0o555)
    for folder in (shut, shut / "points"):
        with pytest.raises(UserError) as refused:
            points(folder).open({})
        remedy = "make its folder writable, or give another path"
        assert str(refused.value) == f"{folder}/lock: cannot be written (Permission denied); {remedy}"


def test_a_file_in_place_of_the_folder_of_resume_points_is_one_line(project, tmp_path, capsys):
    (tmp_path / "points").write_text("")
    assert call(*fit_arguments(project, "mlp", tmp_path / "out", "--resume", tmp_path / "points")) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    problem = f"{tmp_path}/points/lock: cannot be written (its folder is a file)"
    assert error == f"lmstages: error: {problem}; give a path that lies in a folder"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EDQUOT, errno.EROFS])
def test_a_resume_point_that_the_disk_refuses_is_one_line_and_the_one_before_stays(tmp_path, number, monkeypatch):
    saved(tmp_path, 1)
    own = points(tmp_path)
    own.open({})

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(artifacts.os, "fsync", refuse)
        with pytest.raises(
            UserError, match=r"step-0{11}2\.safetensors: (cannot be written|no space left to write it) \("
        ):
            own.save(2, {"weights": np.full(5, 2)})
    own.close()
    assert resumed_step(tmp_path) == 1


def test_a_point_of_another_seed_is_not_mixed_in(project, tmp_path):
    folder, log = tmp_path / "points", tmp_path / "fit.log"
    assert call(*fit_arguments(project, "mlp", tmp_path / "out", "--resume", folder, "--minutes", 1e-9)) == 75
    assert call(*fit_arguments(project, "mlp", tmp_path / "out", "--resume", folder, "--seed", 5, "--log", log)) == 0
    assert "of another fit: seed is 0, not 5" in log.read_text()
    assert call(*fit_arguments(project, "mlp", tmp_path / "alone", "--seed", 5)) == 0
    assert outcome(tmp_path / "out") == outcome(tmp_path / "alone")


def test_counting_takes_the_options_and_needs_none_of_them(project, tmp_path):
    folder = tmp_path / "points"
    assert call(*fit_arguments(project, "bigram", tmp_path / "out", "--resume", folder, "--minutes", 1e-9)) == 0
    assert not folder.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_clear_error(project, tmp_path, capsys):
    assert call(*fit_arguments(project, "mlp", tmp_path, "--device", "cuda")) == 1
    assert "--device cuda: torch finds no GPU here; cpu and auto work everywhere" in capsys.readouterr().err


def test_auto_is_the_cpu_where_there_is_no_gpu(project, tmp_path):
    assert call(*fit_arguments(project, "mlp", tmp_path, "--device", "auto")) == 0
    facts = json.loads((tmp_path / "fit.json").read_text())
    assert torch.cuda.is_available() or (facts["device"], facts["precision"]) == ("cpu", "float32")
    assert facts["machines"] and facts["fit_seconds"] > 0
