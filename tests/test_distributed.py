"""Several processes fit one network: the same batches, the same gradient, the same curve as one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lmstages.config.reading import read_run
from lmstages.config.sections import to_section
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.models.neural.residual import PositionedDocuments
from lmstages.training.batches import Rows
from lmstages.training.distributed import Processes
from lmstages.training.loop import valid_loss
from lmstages.training.objectives import NEXT_TOKEN, OBJECTIVE_DRAW, Draw

AGREEMENT = 1e-4  # nats: another order of additions changes a curve of 30 steps by less
CONFIG = """
corpora: {coined: {count: 300}}
tokenizers: {char: {kind: char}}
models:
  gpt: {layers: 1, heads: 2, width: 16, window: 16, row_length: 16, batch_size: 7, steps: 30, evaluate_every: 10,
    warmup_steps: 5, learning_rate: 1e-2}
  wavenet: {layers: 2, embedding: 4, hidden: 8, steps: 4}
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


def fit_with(tokens, processes, model, out, *more):
    folder, run = tokens
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    arguments = ["--tokens", folder / "tokens", "--out", out, "--section", run.fit_section(model), *more]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "lmstages", "fit", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


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
