"""Scalar autograd: its gradients are torch's, scoring computes its forward, and graphs may be of any depth."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstages.config.hyperparameters.neural import Autograd
from lmstages.core.documents import Documents
from lmstages.core.errors import FitError
from lmstages.models.base import build
from lmstages.models.neural import autograd
from lmstages.models.neural.autograd import AutogradModel, Network, Value, cross_entropy, in_order

SMALL = {"window": 3, "embedding": 4, "hidden": [6, 5], "examples": 40, "epochs": 2}


def fitted(tokens, vocab_size=7, **changes):
    model = build(Autograd(**{**SMALL, **changes}), vocab_size)
    curve = model.fit(Documents.single(tokens), Documents.single(tokens), seed=0)
    return model, curve


def drawn(seed, *shape, high=7):
    return np.random.default_rng(seed).integers(0, high, shape)


OPERATIONS = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a / b": lambda a, b: a / b,
    "-a": lambda a, b: -a,
    "a ** 3": lambda a, b: a**3,
    "a ** -2": lambda a, b: a**-2,
    "exp a": lambda a, b: a.exp(),
    "log b": lambda a, b: b.log(),
    "relu a": lambda a, b: a.relu(),
    "numbers on the left": lambda a, b: 2 + a * 3 + (2 - a) + 2 * b + 2 / b,
    "numbers on the right": lambda a, b: (a + 2) * 3 - 2 + b / 2 - 1,
    "one value twice": lambda a, b: a * a + a + b * a,
    "a sum": lambda a, b: sum([a, b, a * b]),
    "a path that meets itself": lambda a, b: (a * b + a) * (a * b - b.log()).relu(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@given(st.floats(-3, 3).filter(lambda x: abs(x) > 0.05), st.floats(0.1, 3))
@settings(max_examples=25, deadline=None)
def test_every_operation_has_torchs_value_and_gradients(operation, a, b):
    torch = pytest.importorskip("torch")
    ours, theirs = [Value(a), Value(b)], [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (a, b)]
    value, reference = OPERATIONS[operation](*ours), OPERATIONS[operation](*theirs)
    value.backward()
    reference.backward()
    assert value.data == pytest.approx(float(reference.detach()), rel=1e-9, abs=1e-12)
    for value, tensor in zip(ours, theirs, strict=True):
        assert value.grad == pytest.approx(0.0 if tensor.grad is None else float(tensor.grad), rel=1e-9, abs=1e-12)


def test_backward_works_on_a_graph_deeper_than_the_recursion_limit():
    first = Value(1.0)
    last = first
    for _ in range(100_000):
        last = last + 1.0
    last.backward()
    assert last.data == 100_001 and first.grad == 1.0


def test_the_order_is_topological_without_duplicates():
    a = Value(2.0)
    b, c = a * a, a + 1.0
    order = in_order(b * c + b)
    assert len(order) == len(set(order)) == 4
    edges = [(value, parent) for value in order for parent in value.parents if parent.parents]
    assert edges and all(order.index(parent) < order.index(value) for value, parent in edges)


def test_gradients_of_the_network_are_torchs():
    torch = pytest.importorskip("torch")
    arrays = build(Autograd(**SMALL), 7).initial(seed=3)
    arrays["bias0"] += 0.1
    network, window, target = Network(arrays), [2, 0, 5], 4
    cross_entropy(network.logits(window), target).backward()
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    x = tensors["embedding"][window].flatten()
    for layer in range(2):
        x = (tensors[f"weight{layer}"] @ x + tensors[f"bias{layer}"]).relu()
    logits = tensors["weight2"] @ x + tensors["bias2"]
    torch.nn.functional.cross_entropy(logits[None], torch.tensor([target])).backward()
    ours = [value.grad for value in network.parameters()]
    names = ["embedding", *(f"{parameter}{layer}" for layer in range(3) for parameter in ("weight", "bias"))]
    theirs = torch.cat([tensors[name].grad.flatten() for name in names])
    assert float(theirs.abs().max()) > 0.1 and np.allclose(ours, theirs.numpy(), rtol=0, atol=1e-6)


def test_scoring_computes_the_forward_of_the_values():
    model, _ = fitted(drawn(1, 60))
    network, rows = Network(model.arrays()), drawn(2, 6, 3)
    log_probs = model.next_log_probs(rows)
    for row, expected in zip(rows.tolist(), log_probs, strict=True):
        ours = [-cross_entropy(network.logits(row), target).data for target in range(7)]
        assert np.allclose(ours, expected, rtol=0, atol=1e-12)


def test_the_published_network_has_its_size():
    config = Autograd(window=8, embedding=32, hidden=[128, 128], learning_rate=0.01, epochs=3)
    model = build(config, 32)
    model.restore(model.initial(seed=0))
    assert model.parameters() == 54_560


def test_it_learns_a_cycle():
    cycle = np.tile([1, 2, 1, 3], 30)
    model, curve = fitted(cycle, vocab_size=4, examples=120, epochs=6, learning_rate=0.1)
    assert [point["step"] for point in curve] == [*range(50, 720, 50), 720]
    assert curve[-1]["train"] < 0.5 * curve[0]["train"] and -model.score(cycle[None]).mean() < 0.1


def test_it_is_trained_on_as_many_examples_as_the_config_says():
    _, curve = fitted(drawn(4, 200), examples=30, epochs=2)
    _, whole = fitted(drawn(4, 20), examples=30, epochs=1)
    assert curve[-1]["tokens"] == 60 and whole[-1]["tokens"] == 20


def test_the_error_names_a_learning_rate_that_is_too_high_and_clipping_helps():
    too_high = {"hidden": [16, 16, 16], "examples": 60, "learning_rate": 1e4}
    with pytest.raises(FitError, match=r"models.autograd: the training loss is not a number .* or set clip"):
        fitted(drawn(5, 200), **too_high)
    _, curve = fitted(drawn(5, 200), **too_high, clip=1e-8)
    assert math.isfinite(curve[-1]["valid"])


def test_scalar_autograd_imports_no_torch():
    code = "import sys, lmstages.models.neural.autograd; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_long_fit_says_so_before_it_begins(caplog, monkeypatch):
    tokens = Documents.single(np.random.default_rng(0).integers(0, 50, 200))
    config = Autograd(examples=4, epochs=1)
    AutogradModel(config, 50).fit(tokens, tokens, 0)
    assert "vocabulary" not in caplog.text
    monkeypatch.setattr(autograd, "LONG_FIT", 0.01)
    AutogradModel(config, 50).fit(tokens, tokens, 0)
    assert "at a vocabulary of 50; fewer examples or a smaller vocabulary make it shorter" in caplog.text


def test_the_weights_that_are_estimated_are_those_of_the_network():
    arrays = AutogradModel(Autograd(hidden=[16, 8]), 50).initial(0)
    assert Autograd(hidden=[16, 8]).weights(50) == sum(a.size for name, a in arrays.items() if "weight" in name)
