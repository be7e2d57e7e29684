"""minGRU and minLSTM: the parallel scan is the recurrence, and the state may be carried anywhere."""

import math

import numpy as np
import pytest
import torch

from lmstages.config.hyperparameters.neural import MinGRU, MinLSTM
from lmstages.config.resources import matrix_parameters
from lmstages.models.base import build
from lmstages.models.neural.minimal import Cell, log_ratio, positive, scan

MODELS = [MinGRU(embedding=5, hidden=8, layers=2), MinLSTM(embedding=5, hidden=8, layers=2, feedforward=6)]


def step_by_step(keep, update):
    state, states = torch.zeros_like(update[:, 0]), []
    for t in range(update.shape[1]):
        state = keep[:, t] * state + update[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


def drawn(spread, *shape):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def model_of(config):
    model = build(config, 7)
    model.restore(model.initial(0))
    return model


@pytest.mark.parametrize("length", [1, 2, 7, 64, 5000])
@pytest.mark.parametrize("spread", [0.1, 3, 300])  # gates half open, decided, and shut or open beyond doubt
def test_the_scan_is_the_recurrence(length, spread):
    gates = drawn(spread, 2, length, 3)
    keep, update = torch.sigmoid(-gates), torch.sigmoid(gates) * positive(drawn(spread, 2, length, 3) + 1)
    torch.testing.assert_close(scan(keep, update), step_by_step(keep, update), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gate", [-1e4, 1e4])
def test_gates_beyond_every_exponent_keep_the_state_or_replace_it(gate):
    cell = Cell(1, 1, 2)
    with torch.no_grad():
        cell.inputs.weight.zero_()
        cell.inputs.bias.copy_(torch.tensor([2.0, gate]))
    states = cell(torch.zeros(1, 4096, 1), torch.tensor([[7.0]]))
    assert torch.all(states == (7.0 if gate < 0 else 2.5))


def test_the_gradient_is_that_of_finite_differences():
    keep = torch.sigmoid(drawn(2, 2, 5, 2)).requires_grad_()
    update = drawn(1, 2, 5, 2).requires_grad_()
    assert torch.autograd.gradcheck(scan, (keep, update))


@pytest.mark.parametrize("maps", [2, 3])
def test_the_gradient_of_a_cell_is_that_of_finite_differences(maps):
    cell = Cell(3, 2, maps).double()
    x, state = drawn(1, 2, 5, 3).requires_grad_(), drawn(1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(cell, (x, state))


def test_two_steps_of_mingru_by_hand():
    cell = Cell(1, 1, 2)
    with torch.no_grad():
        cell.inputs.weight.copy_(torch.tensor([[1.0], [0.0]]))
        cell.inputs.bias.copy_(torch.tensor([0.0, math.log(3)]))  # the gate is 3/4 at every token
    states = cell(torch.tensor([[[1.0], [-math.log(4)]]]), None)  # g(1) = 3/2, g(-log 4) = 1/5
    assert states.flatten().tolist() == pytest.approx([3 / 4 * 3 / 2, 1 / 4 * 9 / 8 + 3 / 4 * 1 / 5])


def test_two_gates_are_divided_by_their_sum():
    forget, take = drawn(3, 50), drawn(5, 50)
    expected = torch.sigmoid(take) / (torch.sigmoid(forget) + torch.sigmoid(take))
    torch.testing.assert_close(torch.sigmoid(log_ratio(forget, take)), expected)
    shut = torch.tensor([-1e4, -1e4])  # where their sum is 0 in floating point
    assert torch.sigmoid(log_ratio(shut, shut)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.name)
@pytest.mark.parametrize("piece", [1, 4, 22])
def test_the_state_carried_over_gives_the_scores_of_the_whole_row(config, piece):
    model = model_of(config)
    x = np.random.default_rng(2).integers(0, 7, (3, 23))
    whole = model.score(x)
    model.piece = piece
    np.testing.assert_allclose(model.score(x), whole, atol=1e-6)


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.name)
def test_the_weights_that_a_prediction_multiplies_are_all_matrices_but_the_embedding(config):
    matrices = [w.numel() for name, w in model_of(config).network.named_parameters() if w.dim() == 2]
    assert matrix_parameters(config, 7) == sum(matrices) - 7 * 5
