"""Apple's GPUs, tested without one: which device is chosen, and that no float64 reaches it in a fit or a score."""

from importlib import import_module

import numpy as np
import pytest
import torch
from apple import DEVICE, FLOAT64, MIXED, OnDevice, WithoutFloat64
from test_devices import KNOWN_TO_FUSE, NETWORKS, OPTIMIZERS, TOKENS, V, trainer
from test_laws import SMALL

from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.errors import UserError
from lmstages.core.runtime import device_type
from lmstages.evaluation.sampling import sample
from lmstages.models.base import build
from lmstages.training import devices, loop

MPS = torch.device("mps")
CHANGES_ITS_SHAPE = {"rnn", "gru"}  # torch transposes their outputs in place, which the stand-in cannot follow
FOLLOWED = [name for name in NETWORKS if name not in CHANGES_ITS_SHAPE]


@pytest.fixture
def found(monkeypatch):
    """A function: says which GPUs torch finds here, and how many processes share the fit."""

    def there_are(cuda=False, mps=False, processes=1):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(devices, "processes", lambda: processes)

    return there_are


@pytest.mark.parametrize(
    ("gpus", "chosen"),
    [
        ({}, "cpu"),
        ({"mps": True}, "mps"),
        ({"cuda": True}, "cuda:0"),
        ({"cuda": True, "mps": True}, "cuda:0"),
        ({"mps": True, "processes": 2}, "cpu"),
    ],
)
def test_auto_takes_a_gpu_where_there_is_one(found, gpus, chosen):
    found(**gpus)
    assert str(devices.device_of("auto")) == chosen and str(devices.device_of("cpu")) == "cpu"


@pytest.mark.parametrize(
    ("gpus", "name", "message"),
    [
        ({}, "mps", "--device mps: torch finds no GPU here; cpu and auto work everywhere; give --device cpu"),
        ({"mps": True}, "cuda", "--device cuda: torch finds no GPU here; cpu and auto work everywhere"),
        ({"mps": True, "processes": 2}, "mps", "--device mps: is for one process alone; cpu and auto work"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(found, gpus, name, message):
    found(**gpus)
    with pytest.raises(UserError) as caught:
        devices.device_of(name)
    assert str(caught.value).startswith(message)


def test_training_on_it_is_in_float32_and_not_compiled():
    fit = trainer("gpt", torch.device("cpu"), steps=loop.COMPILED_FROM)
    fit.device = MPS
    assert devices.precision_of(MPS) == "float32" and fit.compiled() is fit.network


def test_sums_in_float64_lie_on_the_host_where_the_device_has_none():
    assert devices.wide_zero(MPS).device.type == "cpu" and devices.wide_zero(MPS).dtype == torch.float64
    assert devices.wide_zero(DEVICE).device == DEVICE, "elsewhere on the device, where a step waits for nothing"


@pytest.mark.parametrize(
    ("machines", "device"),
    [
        ([], "cpu"),
        (["CPU, AVX2"], "cpu"),
        (["NVIDIA H200"], "cuda"),
        (["CPU, AVX2", "NVIDIA H200"], "cuda"),
        ([devices.machine_of(MPS)], "mps"),
        (["CPU, DEFAULT", devices.machine_of(MPS)], "mps"),
    ],
)
def test_a_fit_says_on_which_device_its_steps_were_done(machines, device):
    assert device_type(machines) == device


# On a device without float64


@pytest.fixture
def device(monkeypatch):
    """A device without float64, whose sums in float64 lie on the host, as those of ``mps`` do."""
    monkeypatch.setattr(import_module("torch.optim.optimizer"), KNOWN_TO_FUSE, lambda: ["cpu", "meta"])
    monkeypatch.setattr(loop, "wide_zero", lambda device: devices.wide_zero(MPS))
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # in which the stand-in may make views
    return DEVICE


def stepped(name, device, optimizer="adamw"):
    """A network after three steps and an evaluation; without dropout, whose noise is another on each device."""
    fit = trainer(name, device, **OPTIMIZERS[optimizer] | {"dropout": 0.0})
    for _ in range(3):
        fit.step()
    fit.evaluate(0)
    return fit


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", FOLLOWED)
def test_a_fit_keeps_to_float32_and_has_the_losses_of_the_cpu(device, name, optimizer):
    with WithoutFloat64():
        fit = stepped(name, device, optimizer)
        assert all(isinstance(weight.data, OnDevice) for weight in fit.network.parameters())
    [point], [expected] = fit.state.curve, stepped(name, torch.device("cpu"), optimizer).state.curve
    assert point == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(CHANGES_ITS_SHAPE))
def test_a_step_of_a_network_without_values_keeps_to_float32(device, name):
    with WithoutFloat64(values=False):
        fit = trainer(name, device)
        for _ in range(3):
            fit.step()
    assert fit.state.step == 3


@pytest.mark.parametrize("name", [name for name in FOLLOWED if not MODEL_TYPES[name].is_bound])
def test_scores_predictions_and_samples_are_those_of_the_cpu(device, name):
    model, tokens = build(MODEL_TYPES[name].model_validate(SMALL[name]), V), TOKENS.tokens[:24].reshape(2, 12)
    torch.manual_seed(0)
    model.network = model.build().eval()
    on_host = model.score(tokens), model.next_log_probs(tokens), sample(model, 2, 6, 0)
    with WithoutFloat64():
        model.network.to(device)
        on_device = model.score(tokens), model.next_log_probs(tokens), sample(model, 2, 6, 0)
    assert np.allclose(on_host[0], on_device[0], atol=1e-5) and np.allclose(on_host[1], on_device[1], atol=1e-5)
    assert str(on_host[2]) == str(on_device[2])


# The stand-in itself


def test_a_sum_in_float64_on_the_device_would_be_seen(device, monkeypatch):
    monkeypatch.setattr(loop, "wide_zero", lambda device: torch.zeros((), dtype=torch.float64, device=device))
    with WithoutFloat64(), pytest.raises(TypeError, match=FLOAT64):
        stepped("gpt", device)


def test_float64_without_values_would_be_seen():
    with WithoutFloat64(values=False), pytest.raises(TypeError, match=FLOAT64):
        torch.ones(3, device=DEVICE).double()


@pytest.mark.parametrize("change", [lambda x: x.double(), lambda x: x.to(torch.float64), lambda x: x.double().cpu()])
def test_a_conversion_on_the_device_would_be_seen(change):
    with WithoutFloat64():
        numbers = torch.ones(3).to(DEVICE)
        with pytest.raises(TypeError, match=FLOAT64):
            change(numbers)
        assert numbers.cpu().double().tolist() == [1.0, 1.0, 1.0]


def test_a_tensor_of_the_host_among_those_of_the_device_would_be_seen():
    with WithoutFloat64():
        numbers = torch.ones(3, device=DEVICE)
        assert (numbers + torch.tensor(1.0) + 1).cpu().tolist() == [3.0, 3.0, 3.0], "numbers may lie anywhere"
        with pytest.raises(RuntimeError, match=MIXED):
            numbers + torch.ones(3)
