"""Uniform diffusion: its bound is that of the process with T steps as T grows, and the estimate is what it says."""

import itertools

import numpy as np
import pytest
import torch

from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation import scoring
from lmstages.models.base import UpperBound, build
from lmstages.models.nonautoregressive import noise, uniform, windows
from lmstages.models.nonautoregressive.uniform import NoisyTokens
from lmstages.models.nonautoregressive.windows import Noisy, Window, continued
from lmstages.training.batches import Rows
from lmstages.training.distributed import Processes
from lmstages.training.objectives import OBJECTIVE_DRAW, VALID_DRAW, Draw

V, N = 3, 3
TINY = {"layers": 1, "heads": 2, "width": 8, "window": N, "row_length": N, "batch_size": 8, "warmup_steps": 2}
TINY |= {"steps": 60, "evaluate_every": 60}
TEXT = Documents.of([[*row, 0] for row in np.random.default_rng(0).choice(V, (60, 9), p=[0.1, 0.7, 0.2]).tolist()])
EVERY = np.array([*itertools.product(range(V), repeat=N)])  # all rows of N tokens, texts and noisy ones alike
EACH = np.arange(len(EVERY))


def fitted(name="uniform_diffusion", **keys):
    model = build(MODEL_TYPES[name].model_validate({**TINY, **keys}), V)
    model.fit(TEXT, TEXT, 0)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted(samples=200)


@pytest.fixture(scope="module")
def exact(model):
    """(27,) the bound of every text."""
    return integral(lambda time: predicted(model, time))


@pytest.fixture(scope="module")
def by_steps(model):
    """{steps: (log p of every text, its bound)}."""
    return {steps: in_steps(lambda time: predicted(model, time), steps) for steps in (4, 16, 64)}


def predicted(model, time, known=0):
    """(27, N, V) nats of the true tokens, after each noisy row at a time; the first tokens may be known."""
    times = np.full(len(EVERY), time)
    levels = np.where(np.arange(N) < known, 1.0, noise.kept(times)[:, None])
    return model.log_probs(np.zeros(len(EVERY), dtype=np.int64), Noisy(times, EVERY, levels))


# The process with T steps, by enumeration of all noisy rows


def seen(time):
    """(27, 27): the probability of each noisy row at a time, after each text."""
    alpha = float(noise.kept(np.array(time)))
    return (alpha * (EVERY[:, None] == EVERY) + (1 - alpha) / V).prod(-1)


def reverse(probabilities, earlier, later):
    """(27, N, V): of a token's earlier noisy value, given its later one and probabilities (27, N, V) of the true one.

    Proportional to q(later | earlier) q(earlier | true), of which the second is averaged over the true token.
    """
    before, after = (float(noise.kept(np.array(time))) for time in (earlier, later))
    kept = after / before
    joint = (kept * np.eye(V)[EVERY] + (1 - kept) / V) * (before * probabilities + (1 - before) / V)
    return joint / joint.sum(-1, keepdims=True)


def in_steps(predict, steps):
    """(27,) log p of each text by the process with so many steps, and (27,) its bound."""
    marginal, total = np.full(len(EVERY), 1 / len(EVERY)), np.zeros(len(EVERY))
    for step in range(steps, 0, -1):
        times = (step - 1) / steps, step / steps
        ours = reverse(np.exp(predict(times[1])), *times)  # (z, N, V)
        marginal = marginal @ np.take_along_axis(ours[:, None], EVERY[None, ..., None], -1)[..., 0].prod(-1)
        for text in EACH:
            true = reverse(np.eye(V)[EVERY[text]][None], *times)
            divergence = np.where(true > 0, true * (np.log(np.maximum(true, 1e-300)) - np.log(ours)), 0.0)
            total[text] += seen(times[1])[text] @ divergence.sum((-1, -2))
    return np.log(marginal), total


def integral(predict, nodes=40, known=0):
    """(27,) the bound in continuous time, by Gauss-Legendre quadrature over time and enumeration of noisy rows."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    total = np.zeros(len(EVERY))
    for time, weight in zip((points + 1) / 2, weights / 2, strict=True):
        logits = torch.from_numpy(predict(time)).repeat(len(EVERY), 1, 1, 1)  # (text, z, N, V)
        text = torch.from_numpy(EVERY)[:, None].expand(-1, len(EVERY), -1)
        noisy, places = torch.from_numpy(EVERY).expand_as(text), logits.flatten(0, 2)
        nats = noise.bound(places, text.flatten(), noisy.flatten(), torch.full((text.numel(),), time).double())
        nats = nats.reshape(text.shape).numpy()[..., known:].sum(-1)
        alpha = np.where(np.arange(N) < known, 1.0, noise.kept(np.array(time)))
        probability = (alpha * (EVERY[:, None] == EVERY) + (1 - alpha) / V).prod(-1)
        total += weight * (probability * nats).sum(-1)
    return total


def test_with_steps_the_bound_is_above_the_code_length_and_reaches_the_integral_as_steps_grow(by_steps, exact):
    previous = np.inf
    for log_probs, bound in by_steps.values():
        assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5) and (bound >= -log_probs - 1e-6).all()
        distance = np.abs(bound - exact).max()
        assert distance < previous / 3
        previous = distance
    assert previous < 0.05 and (exact >= -log_probs - 0.05).all()


def test_the_bound_is_zero_at_the_truth_and_nowhere_below():
    logits, draws = torch.randn(500, V, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), EVERY[:, 0]
    tokens, noisy = (torch.from_numpy(np.resize(part, 500)) for part in (draws, EVERY[:, 2]))
    times = torch.linspace(0.01, 0.99, 500).double()
    sure = torch.nn.functional.one_hot(tokens, V).double() * 100
    assert (noise.bound(logits, tokens, noisy, times) > 0).all()
    assert noise.bound(sure, tokens, noisy, times).abs().max() < 1e-9


SOURCE = np.random.default_rng(5).dirichlet(np.ones(len(EVERY)))  # the probability of each text


def given_the_others(time):
    """(27, N, V) log-probabilities of each true token given the noisy tokens at the other places, of the source."""
    alpha = float(noise.kept(np.array(time)))
    likelihood = alpha * (EVERY[:, None] == EVERY) + (1 - alpha) / V  # (text, z, N)
    result = np.zeros((len(EVERY), N, V))
    for place in range(N):
        others = np.delete(likelihood, place, -1).prod(-1) * SOURCE[:, None]  # (text, z)
        for token in range(V):
            result[:, place, token] = others[EVERY[:, place] == token].sum(0)
    return np.log(result / result.sum(-1, keepdims=True))


def given_all(time):
    """The same given all noisy tokens."""
    flat, noisy = torch.from_numpy(given_the_others(time)).flatten(0, 1), torch.from_numpy(EVERY).flatten()
    times = torch.full((len(noisy),), time).double()
    return noise.with_evidence(flat, noisy, times).log_softmax(-1).reshape(len(EVERY), N, V).numpy()


def test_with_the_source_known_the_bound_is_its_entropy():
    entropy = -(SOURCE * np.log(SOURCE)).sum()
    assert SOURCE @ integral(given_the_others, 60) == pytest.approx(entropy, abs=1e-4)
    assert SOURCE @ integral(given_all, 60) > entropy + 0.1  # the evidence of a token itself would count twice


def test_evidence_is_that_of_bayes_rule_and_is_taken_away_again():
    time, alpha = 0.6, 1 - 0.6**2
    posterior = SOURCE[:, None] * seen(time)  # (text, z)
    expected = np.stack([posterior[EVERY[:, 1] == token].sum(0) for token in range(V)], -1)
    assert np.allclose(np.exp(given_all(time)[:, 1]), expected / expected.sum(-1, keepdims=True), atol=1e-6)
    logits, noisy, times = torch.randn(5, V).double(), torch.tensor([0, 1, 2, 1, 0]), torch.full((5,), time).double()
    there = noise.with_evidence(logits, noisy, times)
    assert torch.allclose(noise.without_evidence(there, noisy, times), logits)
    assert float((there - logits).max()) == pytest.approx(np.log1p(V * alpha / (1 - alpha)))


# The estimate


def estimate_of(model, rows=EVERY, first=0):
    wanted = np.tile(np.arange(rows.shape[1]) >= first, (len(rows), 1))
    halves = model.halves(rows, None, wanted).sum(-1)  # (2, B)
    return halves.mean(0).sum(), np.sqrt(((halves[0] - halves[1]) ** 2 / 4).sum())


@pytest.mark.parametrize("known", [0, 1])
def test_the_estimate_is_within_four_standard_errors_of_enumeration(model, known):
    estimate, error = estimate_of(model, first=known)
    exact = integral(lambda time: predicted(model, time, known), known=known).sum()
    assert abs(estimate - exact) < 4 * error and 0 < error < 0.05 * exact


def test_a_text_that_ends_within_the_window_is_not_told_its_length(model, exact):
    """Its bound is that of the text and the boundaries behind it."""
    halves = model.halves(np.array([[1, 0]]), None, np.ones((1, 2), dtype=bool)).sum(-1)
    whole = exact[(EVERY == [1, 0, 0]).all(1)][0]
    assert halves.mean() == pytest.approx(whole, rel=0.15)
    window = continued(np.array([[0, 1, 0], [0, 1, 2]]), np.ones((2, 2), dtype=bool), N)
    assert window.is_open.tolist() == [[True, True, True], [True, True, False]]
    assert window.is_unknown.tolist() == [[False] * 3, [False, False, True]]


def test_known_tokens_are_never_noisy_and_what_is_unknown_is_only_noise():
    shape = 50, N
    window = Window(np.ones(shape, dtype=int), np.arange(N) == np.ones(shape), np.arange(N) == np.full(shape, 2))
    levels = window.levels(noise.kept(np.full(50, 0.9)))
    tokens = noise.replaced(window.tokens, levels, np.random.default_rng(0).random(shape), np.full(shape, 2))
    assert (tokens[:, 0] == 1).all() and (tokens[:, 2] == 2).all()
    assert 0 < (tokens[:, 1] == 1).sum() < 50
    assert levels[0].tolist() == pytest.approx([1, 0.19, 0])


def test_no_score_is_above_zero_and_rows_stand_for_themselves():
    small = fitted(samples=4)
    scores, order = small.score(EVERY), np.random.default_rng(1).permutation(len(EVERY))
    assert (scores <= 0).all() and np.allclose(small.score(EVERY[order]), scores[order], atol=1e-5)
    padded = np.column_stack([EVERY[:, :2], np.full(len(EVERY), 2)])
    wanted = np.arange(N) < np.full((len(EVERY), 1), 2)
    expected = small.halves(EVERY[:, :2], None, wanted[:, :2])
    assert np.allclose(small.halves(padded, None, wanted)[..., :2], expected, atol=1e-5)
    assert not small.halves(EVERY, None, np.zeros_like(wanted)).any()


def test_a_split_is_scored_once_with_its_error_and_a_next_token_is_refused_in_one_line():
    small = fitted(samples=4)
    read = Documents.single(TEXT.tokens[:50])
    log_probs, error = scoring.score_bound(small, read, scoring.windows_of(read.starts, "stride", N, 2, 0))
    assert isinstance(small, UpperBound) and np.isfinite(log_probs).all() and error > 0
    message = r"model uniform_diffusion: a bound gives no probabilities of the next token; take a model of another"
    with pytest.raises(UserError, match=message) as raised:
        small.next_log_probs(EVERY)
    assert len(str(raised.value).splitlines()) == 1


# Planted faults


def bound_with(change):
    right = noise.bound
    return lambda logits, tokens, noisy, times: change(right, logits, tokens, noisy, times)


def without_vocabulary(right, logits, tokens, noisy, times):
    return right(logits, tokens, noisy, times) * V


def of_another_alpha(right, logits, tokens, noisy, times):
    return right(logits, tokens, noisy, times) / (2 * times)  # the weight of 1 - t, of which alpha' is -1


def with_evidence_twice(right, logits, tokens, noisy, times):
    return right(noise.with_evidence(logits, noisy, times), tokens, noisy, times)


def without_rates(right, logits, tokens, noisy, times):
    return torch.nn.functional.cross_entropy(logits, tokens, reduction="none")


WRONG_BOUNDS = (without_vocabulary, of_another_alpha, with_evidence_twice, without_rates)


def distance(model, exact):
    """Between estimate and enumeration, in standard errors."""
    estimate, error = estimate_of(model)
    return abs(estimate - exact.sum()) / error


@pytest.mark.parametrize("fault", WRONG_BOUNDS)
def test_a_wrong_bound_is_caught_by_the_process_with_steps(model, by_steps, fault, monkeypatch):
    monkeypatch.setattr(noise, "bound", bound_with(fault))
    assert distance(model, by_steps[64][1]) > 4


WRONG_NOISE = {
    "by place": lambda tokens, alpha, uniforms, random: np.where(np.arange(N) < N * alpha, tokens, random),
    "always another token": lambda tokens, alpha, uniforms, random: np.where(
        uniforms < alpha, tokens, (tokens + 1 + random % (V - 1)) % V
    ),
    "none": lambda tokens, alpha, uniforms, random: tokens,
}


@pytest.mark.parametrize("fault", WRONG_NOISE)
def test_wrong_noise_is_caught_by_enumeration(model, exact, fault, monkeypatch):
    monkeypatch.setattr(noise, "replaced", WRONG_NOISE[fault])
    assert distance(model, exact) > 4


def test_without_a_fault_neither_is(model, exact, by_steps):
    assert distance(model, exact) < 4 and distance(model, by_steps[64][1]) < 4


def test_randomness_by_the_index_in_the_batch_is_caught_by_the_order_of_rows(monkeypatch):
    small, numbers = fitted(samples=2), itertools.count()
    monkeypatch.setattr(windows, "row_generator", lambda row, wanted: np.random.default_rng(next(numbers)))
    assert not np.allclose(small.score(EVERY), small.score(EVERY[::-1])[::-1], atol=1e-3)


# The objective


def loss_of(model, batch, draw, selected=False):
    with torch.inference_mode():
        objective = NoisyTokens(model.config, V)
        return float((objective.selected if selected else objective)(model.network, batch, draw))


def batch_of(processes=None):
    return Rows(TEXT, 1, N, **({"processes": processes} if processes else {})).random_batch(6, seed=1, step=2)


@pytest.mark.parametrize("weighting", ["flat", "bound"])
@pytest.mark.parametrize("selected", [False, True])
def test_processes_draw_what_one_process_draws_for_the_same_rows(weighting, selected):
    model = fitted(steps=4, weighting=weighting)
    whole = loss_of(model, batch_of(), Draw(3, OBJECTIVE_DRAW, 5), selected)
    parts = [
        loss_of(model, batch_of(Processes(rank, 3)), Draw(3, OBJECTIVE_DRAW, 5, Processes(rank, 3)), selected)
        for rank in range(3)
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("weighting", ["selected", "bound"])
def test_weights_are_trained_and_selected_by_the_bound(model, exact, weighting):
    texts = [20, 14, 13]
    batch = Rows(Documents.of([EVERY[text].tolist() for text in texts] * 40), 1, N).full_batch()
    trained = fitted(steps=4, weighting="bound", given_share=0.0)
    trained.network = model.network
    losses = [loss_of(trained, batch, Draw(0, VALID_DRAW, step), weighting == "selected") / 40 for step in range(30)]
    assert abs(np.mean(losses) - exact[texts].sum()) < 4 * np.std(losses) / np.sqrt(30)


def test_what_is_known_in_training_does_not_change_what_a_row_counts():
    nats = torch.ones(5)
    assert float(uniform.weighted(nats, np.array([1, 0]), batch_of()._replace(lengths=np.array([3, 3])))) == 6


def test_the_same_seed_has_the_same_curve_and_another_has_another():
    config = MODEL_TYPES["uniform_diffusion"].model_validate({**TINY, "steps": 6, "evaluate_every": 3})
    curves = [build(config, V).fit(TEXT, TEXT, seed) for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


@pytest.mark.parametrize("samples", [0, 3])
def test_samples_are_an_even_number(samples):
    with pytest.raises(ValueError, match=f"samples is {samples}; allowed: 2, 4, 6"):
        MODEL_TYPES["uniform_diffusion"].model_validate({**TINY, "samples": samples})
