"""Several processes fit one network: the same batches, the same gradient, the same curve as one process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_workflow import PROJECT, copy_of, snakemake

from lmstages.config import resources
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.reading import read_run
from lmstages.config.sections import to_section
from lmstages.core.documents import Documents
from lmstages.core.errors import Interrupted, UserError
from lmstages.models.base import build
from lmstages.models.neural.residual import PositionedDocuments
from lmstages.training import launcher
from lmstages.training.batches import Rows
from lmstages.training.distributed import Pass, Processes
from lmstages.training.launcher import Layout
from lmstages.training.loop import valid_loss
from lmstages.training.objectives import NEXT_TOKEN, OBJECTIVE_DRAW, Draw

AGREEMENT = 1e-4  # nats: another order of additions changes a curve of 30 steps by less
ACCUMULATED = 1e-5  # nats: so does adding up the gradients of several passes
CONFIG = """
corpora: {coined: {count: 300}}
tokenizers: {char: {kind: char}}
models:
  gpt: {layers: 1, heads: 2, width: 16, window: 16, row_length: 16, batch_size: 7, steps: 30, evaluate_every: 10,
    warmup_steps: 5, learning_rate: 1e-2}
  wavenet: {layers: 2, embedding: 4, hidden: 8, steps: 4}
  divided: {type: gpt, layers: 1, heads: 2, width: 16, window: 16, row_length: 16, batch_size: 7, steps: 30,
    evaluate_every: 10, warmup_steps: 5, learning_rate: 1e-2, sharding: full, averaging: ema}
  averaged: {type: gpt, layers: 1, heads: 2, width: 16, window: 16, row_length: 16, batch_size: 7, steps: 30,
    evaluate_every: 10, warmup_steps: 5, learning_rate: 1e-2, averaging: ema}
  accumulated: {type: gpt, layers: 1, heads: 2, width: 16, window: 16, row_length: 16, batch_size: 7, steps: 30,
    evaluate_every: 10, warmup_steps: 5, learning_rate: 1e-2, micro_batch: 2}
"""
DOCUMENTS = Documents.of([[1, 2, 3, 4, 5, 0], [6, 0], [2, 3, 4, 5, 6, 1, 2, 3, 0]])


def test_the_rows_of_all_processes_are_the_batch():
    whole = Rows(DOCUMENTS, 2, 3).full_batch()
    parts = [Rows(DOCUMENTS, 2, 3, processes=Processes(rank, 3)).full_batch() for rank in range(3)]
    targets = torch.cat([part.targets for part in parts])
    assert sorted(map(tuple, targets.tolist())) == sorted(map(tuple, whole.targets.tolist()))
    assert {part.targets_of_all for part in parts} == {whole.targets_of_all} == {len(DOCUMENTS)}


POSITIONED = PositionedDocuments.of_documents(DOCUMENTS, 0, 7)


@pytest.mark.parametrize("documents", [DOCUMENTS, POSITIONED], ids=["tokens", "positions"])
@pytest.mark.parametrize("window", [1, 4])
def test_a_batch_gathered_on_a_device_is_the_batch_gathered_on_the_host(window, documents):
    rows = Rows(documents, window, 3)
    spans = rows.spans(np.arange(len(rows)), np.arange(len(rows)) % 3)
    host, device = rows.gather(spans), rows.gather_on_device(spans, rows.resident())
    assert all(torch.equal(one, other) for one, other in zip(host, device, strict=True))


def test_the_gradients_of_all_processes_add_up_to_that_of_the_batch():
    torch.manual_seed(0)
    network = torch.nn.Embedding(7, 7)

    def gradient(batch):
        network.zero_grad()
        (NEXT_TOKEN(network, batch, Draw(0, OBJECTIVE_DRAW, 0)) / batch.targets_of_all).backward()
        return network.weight.grad.clone()

    parts = [gradient(Rows(DOCUMENTS, 1, 3, processes=Processes(rank, 2)).full_batch()) for rank in range(2)]
    torch.testing.assert_close(sum(parts), gradient(Rows(DOCUMENTS, 1, 3).full_batch()))


def test_valid_counts_every_target_once():
    network = torch.nn.Embedding(7, 7)
    torch.nn.init.zeros_(network.weight)
    assert valid_loss(network, Rows(DOCUMENTS, 1, 4), 2) == pytest.approx(np.log(7))


def test_batchnorm_is_refused_for_several_processes():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with pytest.raises(UserError, match="2 processes: its BatchNorm takes its statistics from a whole batch"):
        Processes(0, 2).wrap_model(network)
    assert Processes().wrap_model(network) is network


# Gradient accumulation: the rows of a step in several passes


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_passes_of_all_processes_are_the_batch(count, at_once):
    rows, processes = np.arange(7), [Processes(rank, count) for rank in range(count)]
    parts = [process.local_rows(rows, within) for process in processes for within in process.passes(7, at_once)]
    assert sorted(np.concatenate(parts)) == [*rows]
    assert all(len(part) >= 1 for part in parts), "every process has a gradient in every pass"
    assert max(map(len, parts)) <= at_once or at_once == 1


def test_without_micro_batch_a_step_is_one_pass():
    assert Processes(0, 2).passes(7, None) == [Pass(0, 1)]


# by SGD, which unlike AdamW and Muon does not magnify the rounding of a gradient near 0
TINY = {
    "optimizer": "sgd",
    "batch_size": 5,
    "row_length": 8,
    "steps": 12,
    "evaluate_every": 4,
    "warmup_steps": 2,
    "learning_rate": 0.1,
    "layers": 1,
}
SMALL = {"gpt": {"width": 8, "heads": 1, "window": 8}, "mlp": {"hidden": 8, "embedding": 4, "window": 4}}
SMALL |= {name: SMALL["gpt"] for name in ("masked_diffusion", "uniform_diffusion", "sundae", "any_order", "fim")}
SIZE_OF_124M = {"width": 768, "layers": 12, "heads": 12, "steps": 100_000}
TEXT = Documents.of([[1 + (n + k) % 5 for n in range(4 + k % 9)] + [0] for k in range(40)])


def curve_of(name, **keys):
    """The points (train, valid) of a small fit, and the rows of its largest pass in training."""
    config = MODEL_TYPES[name].model_validate({**TINY, **SMALL[name], **keys})
    model, seen = build(config, 6), []
    build_network = model.build

    def watched():
        network = build_network()
        network.register_forward_hook(lambda net, inputs, _: seen.append(len(inputs[0])) if net.training else None)
        return network

    model.build = watched
    return [(point["train"], point["valid"]) for point in model.fit(TEXT, TEXT, 0)], max(seen)


@pytest.mark.parametrize("name", SMALL)
def test_passes_of_two_rows_have_the_curve_of_whole_batches(name):
    whole, most = curve_of(name)
    assert most == 5
    accumulated, most = curve_of(name, micro_batch=2)
    assert most == 2
    np.testing.assert_allclose(accumulated, whole, atol=ACCUMULATED)


@pytest.mark.parametrize("name", ["gpt", "uniform_diffusion"])
def test_recomputed_activations_change_no_bit(name):
    assert curve_of(name, recompute=True, dropout=0.1)[0] == curve_of(name, dropout=0.1)[0]


def test_no_batch_of_valid_has_fewer_rows_than_processes():
    rows = Rows(DOCUMENTS, 1, 1)
    sizes = [len(batch.inputs) for batch in rows.spread(17, 8, at_least=2)]
    assert sizes == [8, 9] and [len(batch.inputs) for batch in rows.spread(17, 8)] == [8, 8, 1]


def test_all_rows_at_every_step_may_be_accumulated_too():
    whole, accumulated = (curve_of("mlp", batch_size=None, micro_batch=size)[0] for size in (None, 10))
    np.testing.assert_allclose(accumulated, whole, atol=ACCUMULATED)


def test_batchnorm_is_refused_for_several_passes():
    config = MODEL_TYPES["wavenet"].model_validate({"micro_batch": 2, "layers": 1})
    with pytest.raises(UserError, match=r"model wavenet: its BatchNorm takes its statistics .*; leave micro_batch out"):
        build(config, 6).fit(TEXT, TEXT, 0)


def test_a_key_of_how_a_fit_is_computed_is_in_its_section_only_where_it_is_given():
    record = MODEL_TYPES["gpt"]
    assert "micro_batch" not in record().model_dump()
    assert record(micro_batch=3).model_dump()["micro_batch"] == 3


# Two processes, over the loopback


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    (folder / "run.yaml").write_text(CONFIG)
    run = read_run(folder / "run.yaml")
    from lmstages.cli import main

    assert main(["prepare", "--out", str(folder / "text"), "--section", run.prepare_section("coined")]) == 0
    options = ["--text", str(folder / "text"), "--layout", "lines", "--out", str(folder / "tokens")]
    assert main(["tokenize", *options, "--section", to_section(run.tokenizers["char"])]) == 0
    return folder, run


def command_of(tokens, processes, model, out, *more):
    folder, run = tokens
    arguments = ["--tokens", folder / "tokens", "--out", out, "--section", run.fit_section(model), *more]
    arguments += ["--processes", processes, "--threads", processes]
    return [sys.executable, "-m", "lmstages", "fit", *map(str, arguments)]


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def fit_with(tokens, processes, model, out, *more):
    command = command_of(tokens, processes, model, out, *more)
    return subprocess.run(command, cwd=tokens[0], env=environment(), capture_output=True, text=True, check=False)


def curve(folder, key):
    return [point[key] for point in json.loads((folder / "fit.json").read_text())["curve"]]


def test_two_processes_have_the_curve_of_one(tokens, tmp_path):
    for processes in (1, 2):
        done = fit_with(tokens, processes, "gpt", tmp_path / str(processes))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("step 30/30") == 1  # only the main process logs
    for key in ("train", "valid"):
        np.testing.assert_allclose(curve(tmp_path / "2", key), curve(tmp_path / "1", key), atol=AGREEMENT)
    assert curve(tmp_path / "2", "tokens") == curve(tmp_path / "1", "tokens")


@pytest.mark.slow
def test_two_processes_in_several_passes_have_the_curve_of_one(tokens, tmp_path):
    for processes, model in ((1, "gpt"), (2, "accumulated")):
        assert fit_with(tokens, processes, model, tmp_path / model).returncode == 0
    for key in ("train", "valid"):
        np.testing.assert_allclose(curve(tmp_path / "accumulated", key), curve(tmp_path / "gpt", key), atol=AGREEMENT)


@pytest.mark.slow
def test_two_processes_killed_by_a_signal_save_and_end_with_the_undisturbed_bits(tokens, tmp_path):
    cut, points = tmp_path / "cut", tmp_path / "points"
    command = command_of(tokens, 2, "gpt", cut, "--resume", points, "--save-steps", 10)
    fit = subprocess.Popen(command, cwd=tokens[0], env=environment(), stderr=subprocess.PIPE, text=True)
    while fit.poll() is None and not [*points.glob("step-*.safetensors")]:
        time.sleep(0.02)
    fit.send_signal(signal.SIGTERM)
    _, errors = fit.communicate()
    assert fit.returncode in (0, 75), errors
    assert fit_with(tokens, 2, "gpt", cut, "--resume", points).returncode == 0
    assert fit_with(tokens, 2, "gpt", tmp_path / "whole").returncode == 0
    assert (cut / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 1)])
def test_a_resume_point_serves_fewer_processes(tokens, tmp_path, before, after):
    cut, points = tmp_path / "cut", tmp_path / "points"
    stopped = fit_with(tokens, before, "gpt", cut, "--resume", points, "--minutes", 1e-9)
    assert stopped.returncode == 75 and "stopped after step 10 of 30, which is saved" in stopped.stderr
    done = fit_with(tokens, after, "gpt", cut, "--resume", points)
    assert done.returncode == 0 and "resumed after step 10" in done.stderr
    assert f"from another layout, to its curve but not to its last digits: processes is {before}" in done.stderr
    assert fit_with(tokens, 1, "gpt", tmp_path / "whole").returncode == 0
    for key in ("train", "valid"):
        np.testing.assert_allclose(curve(cut, key), curve(tmp_path / "whole", key), atol=AGREEMENT)


@pytest.mark.slow
def test_a_divided_network_has_the_curve_of_one_process_and_resumes_with_its_bits(tokens, tmp_path):
    cut, points = tmp_path / "cut", tmp_path / "points"
    stopped = fit_with(tokens, 2, "divided", cut, "--resume", points, "--minutes", 1e-9)
    assert stopped.returncode == 75 and "stopped after step 10 of 30, which is saved" in stopped.stderr
    for out, model, processes, more in (
        (cut, "divided", 2, ["--resume", points]),
        (tmp_path / "whole", "divided", 2, []),
        (tmp_path / "alone", "averaged", 1, []),
    ):
        done = fit_with(tokens, processes, model, out, *more)
        assert done.returncode == 0, done.stderr
    assert (cut / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    for key in ("train", "valid"):
        np.testing.assert_allclose(curve(cut, key), curve(tmp_path / "alone", key), atol=AGREEMENT)


@pytest.mark.slow
def test_the_workflow_starts_the_processes_that_a_record_asks_for(tokens, tmp_path):
    folder, target = copy_of(PROJECT, tmp_path / "project"), "results/shared/coined/char/gpt/seed0"
    two = CONFIG.replace("gpt: {layers: 1", "gpt: {processes: 2, layers: 1")
    (folder / "runs" / "shared.yaml").write_text(two)
    done = snakemake(folder, "--config", "run=shared", "models=[gpt]", "--", f"{target}/fit.json")
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads((folder / target / "fit.json").read_text())
    assert facts["machines"][0].endswith(", 2 processes") and facts["threads"] == 1
    assert fit_with(tokens, 2, "gpt", tmp_path / "direct").returncode == 0
    assert facts["curve"] == json.loads((tmp_path / "direct" / "fit.json").read_text())["curve"]


# The launcher


def test_what_a_profile_asks_for_follows_from_the_record():
    config = MODEL_TYPES["gpt"](processes=2, nodes=3, **SIZE_OF_124M)
    assert resources.gpus(config, 100) == 6
    assert resources.cores(config, 100) == 2 * resources.cores(MODEL_TYPES["gpt"](**SIZE_OF_124M), 100)


@pytest.mark.parametrize(("threads", "each"), [(4, 2), (5, 2), (1, 1)])
def test_each_process_has_its_part_of_the_threads(threads, each):
    assert Layout(processes=2, threads=threads).threads_of_each == each


def test_a_section_from_stdin_is_written_out_for_each_process():
    words = ["fit", "--section", "-", "--out", "-"]
    assert launcher._with_section(words, "{}") == ["fit", "--section", "{}", "--out", "-"]
    assert launcher._with_section(["fit", "--section=-"], "{}") == ["fit", "--section={}"]


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (75, Interrupted, "all processes have saved; the same command resumes"),
        (1, UserError, "process 1 of 2: failed with exit code 1; its reason stands above"),
        (-9, UserError, "process 1 of 2: was killed by SIGKILL; memory that runs out is a usual reason; .* --resume"),
    ],
)
def test_the_launcher_says_why_the_processes_stopped(code, error, message):
    with pytest.raises(error, match=message):
        launcher._explain("process 1 of 2", code)


def test_several_nodes_need_a_slurm_job_or_a_rendezvous(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match=r"2 nodes: this process is in no Slurm job; .* --rendezvous .*, or give"):
        launcher.launch(Layout(nodes=2), ["fit"], "{}")


def test_srun_starts_the_command_once_on_each_node(monkeypatch):
    called = []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    monkeypatch.setattr(launcher.shutil, "which", lambda name: name)
    monkeypatch.setattr(launcher.os, "execvpe", lambda *call: called.append(call) or sys.exit())
    with pytest.raises(SystemExit):
        launcher.launch(Layout(processes=4, nodes=2, threads=8), ["fit", "--seed", "0"], "{}")
    [(_, call, variables)] = called
    assert {"--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=8"} <= set(call)
    assert call[-5:-1] == ["fit", "--seed", "0", "--rendezvous"]
    assert "SLURM_JOB_ID" in variables and "SLURM_STEP_ID" not in variables


@pytest.mark.slow
def test_two_processes_resume_together(tokens, tmp_path):
    cut, points = tmp_path / "cut", tmp_path / "points"
    stopped = fit_with(tokens, 2, "gpt", cut, "--resume", points, "--minutes", 1e-9)
    assert stopped.returncode != 0 and "stopped after step 10 of 30, which is saved" in stopped.stderr
    done = fit_with(tokens, 2, "gpt", cut, "--resume", points)
    assert done.returncode == 0 and "resumed after step 10" in done.stderr and not points.exists()
    assert fit_with(tokens, 2, "gpt", tmp_path / "whole").returncode == 0
    assert (cut / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_model_with_batchnorm_cannot_be_fitted_by_two_processes(tokens, tmp_path):
    done = fit_with(tokens, 2, "wavenet", tmp_path)
    assert done.returncode != 0 and "fit this model with one process, without torchrun" in done.stderr
