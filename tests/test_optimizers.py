"""Optimizers: hand-worked schedules, Muon against torch's own and against the definition, averages by hand."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from lmstages.config.hyperparameters.attention import GPT, ModernGPT
from lmstages.config.hyperparameters.neural import LSTM, MLP, NeuralBigram
from lmstages.core.documents import Documents
from lmstages.models.base import build
from lmstages.training.optimizers import (
    NEWTON_SCHULZ_STEPS,
    QUINTIC,
    SGD,
    AdamW,
    Muon,
    WeightAverage,
    as_wide,
    inner_matrices,
    learning_rate,
    optimizers_of,
    orthogonal,
)

SMALL = {"layers": 1, "heads": 2, "width": 16, "window": 8, "row_length": 8}


def network_of(config, vocab_size=11, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(config, vocab_size).build()


def random_matrix(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def names_of(network, weights):
    return {name for name, parameter in network.named_parameters() if any(parameter is weight for weight in weights)}


def groups_of(network, config):
    return [group for optimizer in optimizers_of(network, config) for group in optimizer.param_groups]


# ---------------------------------------------------------------- schedules


def test_stable_warms_up_stays_and_decays():
    config = MLP(
        steps=100, warmup_steps=4, schedule="stable", decay_share=0.4, learning_rate=1.0, final_learning_rate=0
    )
    rates = [learning_rate(config, step) for step in (0, 3, 4, 59, 60, 80, 90, 99)]
    assert rates == pytest.approx([0.2, 0.8, 1.0, 1.0, 1.0, 0.5, 0.25, 0.025])


def test_stable_decays_from_its_first_step_where_its_fraction_is_one():
    config = MLP(steps=10, schedule="stable", decay_share=1.0, learning_rate=1.0, final_learning_rate=0.5)
    assert [learning_rate(config, step) for step in (0, 5, 9)] == pytest.approx([1.0, 0.75, 0.55])


@pytest.mark.parametrize(
    ("schedule", "middle", "last"),
    [("constant", 1.0, 1.0), ("linear", 0.5, 0.01), ("cosine", 0.5, 0.5 * (1 - np.cos(np.pi / 100)))],
)
def test_the_other_schedules(schedule, middle, last):
    config = MLP(steps=100, schedule=schedule, learning_rate=1.0, final_learning_rate=0.0)
    assert [learning_rate(config, step) for step in (0, 50, 99)] == pytest.approx([1.0, middle, last])


def test_every_group_follows_the_one_schedule():
    config = ModernGPT(**SMALL, learning_rate=0.01, matrix_learning_rate=0.03)
    scales = sorted(group["lr_scale"] for group in groups_of(network_of(config), config))
    assert scales == pytest.approx([1.0, 3.0])


# ---------------------------------------------------------------- Muon


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48), (3, 16, 16)])
def test_newton_schulz_leaves_singular_values_about_one(shape):
    values = torch.linalg.svdvals(orthogonal(as_wide(random_matrix(*shape))))
    assert values.min() > 0.6 and values.max() < 1.3


def test_newton_schulz_keeps_the_singular_vectors():
    x = random_matrix(12, 12)
    left, _, right = torch.linalg.svd(x)
    inner = left.T @ orthogonal(x[None])[0] @ right.T
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-4 and inner.diagonal().min() > 0.5


def test_newton_schulz_on_gram_matrices_is_newton_schulz():
    x = as_wide(random_matrix(40, 16))
    expected, (a, b, c) = x / x.norm(), QUINTIC
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = expected @ expected.mT
        expected = a * expected + (b * square + c * square @ square) @ expected
    assert torch.allclose(orthogonal(x), expected, atol=1e-3)


def test_orthogonal_does_not_depend_on_the_size_of_the_gradient():
    x = random_matrix(8, 20)
    assert torch.allclose(orthogonal(x[None]), orthogonal(1e-3 * x[None]), atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 8), (8, 32), (8, 8)])
def test_muon_moves_as_torchs_own_but_for_its_rounding(shape):
    ours, theirs = (nn.Parameter(random_matrix(*shape)) for _ in range(2))
    muon = Muon([{"params": [ours]}], lr=0.1, momentum=0.9, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.1)
    for step in range(4):
        ours.grad, theirs.grad = (random_matrix(*shape, seed=step) for _ in range(2))
        muon.step()
        reference.step()
    moved = (ours - random_matrix(*shape)).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # torch's works in bfloat16, of 8 bits


def test_a_stack_of_matrices_moves_as_each_alone():
    stacked, apart = nn.Parameter(random_matrix(3, 6, 6)), [nn.Parameter(m.clone()) for m in random_matrix(3, 6, 6)]
    stacked.grad = random_matrix(3, 6, 6, seed=1)
    for weight, gradient in zip(apart, stacked.grad, strict=True):
        weight.grad = gradient.clone()
    for weights in ([stacked], apart):
        Muon([{"params": weights}], lr=0.1).step()
    assert torch.allclose(stacked, torch.stack(apart), atol=1e-6)


def test_muon_has_the_inner_matrices_and_adamw_the_rest():
    config = GPT(**SMALL, optimizer="muon", tied_output=False, bias=True)
    network = network_of(config)
    groups = [names_of(network, group["params"]) for group in groups_of(network, config)]
    attention = {"blocks.0.attention.queries_keys_values.weight", "blocks.0.attention.output.weight"}
    assert groups[0] == attention | {"blocks.0.feedforward.0.weight", "blocks.0.feedforward.2.weight"}
    assert groups[1] == {"embedding.weight", "positions", "output.weight"}
    assert sorted(set.union(*groups)) == sorted(name for name, _ in network.named_parameters())


def test_every_weight_has_one_optimizer_in_every_network():
    for config in (ModernGPT(**SMALL, value_embeddings=True), LSTM(optimizer="muon"), NeuralBigram(optimizer="muon")):
        network = network_of(config)
        weights = [weight for group in groups_of(network, config) for weight in group["params"]]
        assert len(weights) == len({id(w) for w in weights}) == len(list(network.parameters()))


def test_a_table_alone_leaves_muon_nothing():
    config = NeuralBigram(width=None, optimizer="muon")
    assert inner_matrices(network_of(config)) == []
    (optimizer,) = optimizers_of(network_of(config), config)
    assert isinstance(optimizer, torch.optim.AdamW)


def take_steps(network, optimizers, steps, first=0):
    """Some steps on gradients that are a function of the step alone."""
    for step in range(first, first + steps):
        for number, weight in enumerate(network.parameters()):
            weight.grad = random_matrix(*weight.shape, seed=100 * step + number)
        for optimizer in optimizers:
            optimizer.step()


def test_restored_optimizers_go_on_as_if_never_interrupted():
    config = ModernGPT(**SMALL)
    whole, first = network_of(config), network_of(config)
    take_steps(whole, optimizers_of(whole, config), 6)
    optimizers = optimizers_of(first, config)
    take_steps(first, optimizers, 3)
    second = network_of(config, seed=9)
    second.load_state_dict(first.state_dict())
    restored = optimizers_of(second, config)
    for optimizer, state in zip(restored, [optimizer.state_dict() for optimizer in optimizers], strict=True):
        optimizer.load_state_dict(state)
    take_steps(second, restored, 3, first=3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_saved_optimizers_hold_tensors_and_plain_values_only():
    config = ModernGPT(**SMALL)
    network = network_of(config)
    optimizers = optimizers_of(network, config)
    take_steps(network, optimizers, 1)
    saved = [optimizer.state_dict() for optimizer in optimizers]
    leaf_types = {type(leaf) for state in saved for leaves in state["state"].values() for leaf in leaves.values()}
    setting_types = {type(leaf) for state in saved for group in state["param_groups"] for leaf in group.values()}
    assert [type(optimizer) for optimizer in optimizers] == [Muon, AdamW] and leaf_types == {torch.Tensor}
    assert setting_types <= {bool, float, int, list, tuple, type(None)}
    assert sum(len(state["state"]) for state in saved) == len(list(network.parameters()))


# ---------------------------------------------------------------- averages


def averaged(values, **keys):
    """The average of one weight that has these values after successive steps."""
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, MLP(steps=len(values), **keys))
    for step, value in enumerate(values):
        network.weight.data.fill_(value)
        average.update(step)
    average.swap()
    return network.weight.item()


def test_the_mean_is_that_of_the_last_steps():
    assert averaged([9, 9, 9, 1, 2, 6], averaging="mean", average_share=0.5) == pytest.approx(3)


def test_the_exponential_moving_average_weighs_by_powers_of_its_decay():
    average = averaged([9, 1, 2, 6], averaging="ema", average_share=0.75, average_decay=0.5)
    assert average == pytest.approx((1 * 0.25 + 2 * 0.5 + 6) / 1.75)


def test_without_averaging_the_last_weights_stay():
    assert averaged([9, 1, 2], averaging="none", average_share=1.0) == 2


def test_swapping_twice_changes_nothing_and_a_restored_average_is_the_same():
    network = nn.Linear(3, 2)
    average = WeightAverage(network, MLP(steps=4, averaging="mean", average_share=1.0))
    for step in range(3):
        network.weight.data.normal_()
        average.update(step)
    before = network.weight.clone()
    average.swap()
    assert not torch.equal(network.weight, before)
    average.swap()
    assert torch.equal(network.weight, before)
    again = WeightAverage(network, average.config)
    again.load_state_dict(average.state_dict())
    assert again.count == 3 and all(torch.equal(a, b) for a, b in zip(again.averaged, average.averaged, strict=True))


TINY = {"steps": 8, "batch_size": 4, "evaluate_every": 2, "window": 2, "embedding": 4, "hidden": 8}


def fitted(**keys):
    documents = Documents.of([[*row, 0] for row in np.random.default_rng(0).integers(1, 7, (20, 6)).tolist()])
    model = build(MLP(**TINY, **keys), 7)
    return model, model.fit(documents, documents, 0)


def test_what_is_evaluated_and_kept_is_the_average():
    plain, _ = fitted(keep="last")
    model, curve = fitted(keep="last", averaging="mean", average_share=0.5)
    _, best = fitted(keep="best", averaging="mean", average_share=0.5)
    unaveraged = fitted(keep="best")[1]
    assert [p["train"] for p in curve] == [p["train"] for p in unaveraged]  # averaging does not change the steps
    assert [p["valid"] for p in curve][:2] == [p["valid"] for p in unaveraged][:2]  # nothing averaged yet
    assert curve[-1]["valid"] != unaveraged[-1]["valid"] and best == curve
    assert not np.array_equal(model.arrays()["hidden.0.0.weight"], plain.arrays()["hidden.0.0.weight"])


def test_the_kept_average_is_the_mean_of_the_weights_of_the_last_steps():
    whole, _ = fitted(keep="last", averaging="mean", average_share=0.25, schedule="constant")
    mean = np.mean([at_step(n) for n in (7, 8)], axis=0)
    assert np.allclose(whole.arrays()["hidden.0.0.weight"], mean, atol=1e-6)


def at_step(steps):
    """The first hidden matrix after so many steps at a constant rate; it does not depend on how many steps follow."""
    documents = Documents.of([[*row, 0] for row in np.random.default_rng(0).integers(1, 7, (20, 6)).tolist()])
    model = build(MLP(**TINY | {"steps": steps}, keep="last", schedule="constant"), 7)
    model.fit(documents, documents, 0)
    return model.arrays()["hidden.0.0.weight"]


@pytest.mark.parametrize("key", ["average_decay", "momentum"])
def test_a_decay_of_one_is_refused(key):
    with pytest.raises(ValidationError, match="less than 1"):
        MLP(**{key: 1.0})


# ---------------------------------------------------------------- without torch's compiler


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_fit_does_not_import_torchs_compiler(optimizer):
    script = f"""
import sys
from lmstages.config.hyperparameters.neural import MLP
from lmstages.core.documents import Documents
from lmstages.models.base import build
from lmstages.training.flops import of_fit
import subprocess
import sys

import numpy as np
text = Documents.of([np.arange(1, 9)] * 8)
model = build(MLP(steps=2, warmup_steps=0, optimizer={optimizer!r}, hidden=8, window=2, row_length=4), 9)
model.fit(text, text, 0)
assert of_fit(model, 8) > 0
print([name for name in ("torch.optim", "torch._dynamo") if name in sys.modules])
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert finished.stdout.splitlines()[-1:] == ["['torch.optim']"], finished.stderr


@pytest.mark.parametrize(("ours", "torchs"), [(AdamW, torch.optim.AdamW), (SGD, torch.optim.SGD)])
def test_without_its_compiler_an_optimizer_takes_the_same_steps(ours, torchs):
    weights = [nn.Parameter(random_matrix(3, 4)) for _ in range(2)]
    for optimizer in (ours([weights[0]], lr=0.1, weight_decay=0.1), torchs([weights[1]], lr=0.1, weight_decay=0.1)):
        for step in range(3):
            for weight in weights:
                weight.grad = random_matrix(3, 4, seed=step)
            optimizer.step()
    assert torch.equal(*weights)
