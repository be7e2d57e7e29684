"""What a GPU needs of a fit, tested without one: no step waits for a value, one device holds all, bfloat16 suffices.

torch's meta device has shapes and no values: reading a value from it, or mixing in a tensor of another device, is an
error.
"""

import shutil
from importlib import import_module

import numpy as np
import pytest
import torch
from test_laws import SMALL

from lmstages.config.hyperparameters.neural import Neural
from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.core.runtime import Runtime
from lmstages.models.base import build
from lmstages.training import loop
from lmstages.training.batches import Rows
from lmstages.training.distributed import Processes
from lmstages.training.loop import Trainer

V, META = 7, torch.device("meta")
TOKENS = Documents.single(np.random.default_rng(0).integers(1, V, 400))
ON_THE_HOST = {"autograd", "residual"}  # Python scalars; look-ups in an n-gram model
KNOWN_TO_FUSE = "_get_fused_kernels_supported_devices"
NETWORKS = [name for name in SMALL if issubclass(MODEL_TYPES[name], Neural) and name not in ON_THE_HOST]
OPTIMIZERS = {
    "adamw": {"optimizer": "adamw", "averaging": "mean", "dropout": 0.1},
    "muon": {"optimizer": "muon", "averaging": "ema"},
}


def trainer(name, device, **keys):
    """A trainer of a small network on ``device``, about to take its first step."""
    model = build(MODEL_TYPES[name].model_validate({**SMALL[name], **keys}), V)
    torch.manual_seed(0)
    rows = Rows(TOKENS, model.window, model.config.row_length, device, Processes())
    trainer = Trainer(model.build().to(device), model.config, (rows, rows), 0, Runtime(), Processes())
    trainer.resume()
    trainer.network.train()
    trainer.forward = trainer.compiled()
    return trainer


@pytest.fixture(autouse=True)
def fused_everywhere(monkeypatch):
    """torch's fused AdamW works on the meta device, which torch does not list."""
    monkeypatch.setattr(import_module("torch.optim.optimizer"), KNOWN_TO_FUSE, lambda: ["cpu", "meta"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_reads_no_value_and_mixes_in_no_tensor_of_another_device(name, optimizer):
    fit = trainer(name, META, **OPTIMIZERS[optimizer])
    for _ in range(3):
        fit.step()
    assert fit.state.losses.device == META and fit.state.step == 3
    assert all(weight.device == META for weight in fit.network.parameters())


def reads_a_value(fit):
    fit.progress.due = lambda: True  # a line of progress shows the loss


def mixes_devices(fit):
    fit.rows = Rows(TOKENS, 1, fit.config.row_length)


@pytest.mark.parametrize("fault", [reads_a_value, mixes_devices])
def test_a_step_that_does_would_fail(fault):
    fit = trainer("gpt", META)
    fault(fit)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        fit.step()


@pytest.mark.parametrize("name", NETWORKS)
def test_in_bfloat16_the_losses_are_nearly_those_in_32_bits_and_weights_stay_in_32(name):
    exact, coarse = trainer(name, torch.device("cpu")), trainer(name, torch.device("cpu"))
    coarse.precision = "bfloat16"
    for _ in range(10):
        exact.step()
        coarse.step()
    assert not torch.equal(exact.state.losses, coarse.state.losses)
    assert (exact.state.losses - coarse.state.losses)[:10].abs().max() < 0.05
    assert all(weight.dtype == torch.float32 for weight in coarse.network.parameters())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", ["gpt", "llama", "modern_gpt"])
def test_a_compiled_network_has_the_same_losses(name):
    plain, compiled = trainer(name, torch.device("cpu")), trainer(name, torch.device("cpu"))
    compiled.runtime = Runtime(compiled="always")
    compiled.forward = compiled.compiled()
    assert compiled.forward is not compiled.network
    for _ in range(10):
        plain.step()
        compiled.step()
    assert torch.allclose(plain.state.losses[:10], compiled.state.losses[:10], atol=1e-4)


def test_auto_compiles_long_fits_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: "compiled")
    fit = trainer("gpt", torch.device("cpu"), steps=loop.COMPILED_FROM)
    assert fit.compiled() is fit.network
    fit.device = torch.device("cuda")
    assert fit.compiled() == "compiled"
    fit.state.step = 1
    assert fit.compiled() is fit.network
