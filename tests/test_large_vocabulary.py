"""Cross-entropy in parts: the sum and the gradient of the whole, without holding all logits."""

import pytest
import torch
from torch.nn import functional

from lmstages.config.ladder import MODEL_TYPES
from lmstages.models.base import build
from lmstages.training import large_vocabulary
from lmstages.training.batches import IGNORED, Batch
from lmstages.training.large_vocabulary import is_large, summed_cross_entropy
from lmstages.training.objectives import NEXT_TOKEN, OBJECTIVE_DRAW, Draw

ROWS, LENGTH, WIDTH, VOCABULARY = 3, 7, 8, 50


def states_and_targets():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(ROWS, LENGTH, WIDTH, generator=generator, requires_grad=True)
    targets = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=generator)
    targets[0, -2:] = IGNORED
    return states, targets, torch.randn(VOCABULARY, WIDTH, generator=generator, requires_grad=True)


@pytest.mark.parametrize("at_once", [1, VOCABULARY, 4 * VOCABULARY, 1 << 20])
def test_the_sum_and_the_gradients_are_those_of_whole_logits(at_once):
    states, targets, output = states_and_targets()
    whole = functional.cross_entropy(
        functional.linear(states, output).flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    parts = summed_cross_entropy(lambda x: functional.linear(x, output), states, targets, at_once)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)
    for one, other in zip(*(torch.autograd.grad(loss, [states, output]) for loss in (parts, whole)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_no_more_logits_are_held_than_were_asked_for():
    states, targets, output = states_and_targets()
    sizes = []

    def logits(x):
        sizes.append(len(x))
        return functional.linear(x, output)

    summed_cross_entropy(logits, states, targets, 2 * VOCABULARY).backward()
    in_parts = sizes[1:]  # the first call asks for the size of the vocabulary
    assert max(in_parts) == 2
    assert sum(in_parts) == 2 * ROWS * LENGTH, "each token's logits are computed forwards twice"


def test_only_more_logits_than_the_stated_size_are_computed_in_parts():
    targets = torch.zeros(1 << 12, 1, device="meta")
    assert is_large(targets, (1 << 15) + 1) and not is_large(targets, 1 << 15)


@pytest.mark.parametrize("name", ["gpt", "llama", "modern_gpt"])
def test_a_network_that_is_given_targets_has_the_loss_and_gradients_of_its_logits(name, monkeypatch):
    config = MODEL_TYPES[name].model_validate({"width": 8, "heads": 2, "layers": 1, "window": 8, "row_length": 8})
    model = build(config, VOCABULARY)
    torch.manual_seed(0)
    network = model.build()
    tokens = torch.randint(VOCABULARY, (2, 8), generator=torch.Generator().manual_seed(1))
    batch, draw = Batch(tokens, tokens.roll(-1), torch.tensor([8, 8]).numpy()), Draw(0, OBJECTIVE_DRAW, 0)

    def outcome(objective):
        network.zero_grad()
        loss = objective(network, batch, draw)
        loss.backward()
        return [loss.detach(), *(weight.grad.clone() for weight in network.parameters())]

    whole = outcome(NEXT_TOKEN)
    monkeypatch.setattr(large_vocabulary, "ALL_AT_ONCE", 1)
    for one, other in zip(outcome(model.objective), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
