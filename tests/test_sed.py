"""SED: the bound of noise on embeddings is that of its process with steps, and the network is given its estimate."""

import itertools

import numpy as np
import pytest
import torch

from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.evaluation import scoring
from lmstages.evaluation.drafts import embedded
from lmstages.models.base import UpperBound, build
from lmstages.models.nonautoregressive import gaussian, windows
from lmstages.models.nonautoregressive.sed import NoisyEmbeddings
from lmstages.models.nonautoregressive.windows import Noisy, continued
from lmstages.training.batches import Rows
from lmstages.training.distributed import Processes
from lmstages.training.objectives import OBJECTIVE_DRAW, VALID_DRAW, Draw

V, N, E = 3, 2, 8
TINY = {"layers": 1, "heads": 2, "width": 8, "window": N, "row_length": N, "batch_size": 8, "warmup_steps": 2}
TINY |= {"steps": 40, "evaluate_every": 40, "embedding": E}
TEXT = Documents.of([[*row, 0] for row in np.random.default_rng(0).choice(V, (60, 5), p=[0.1, 0.7, 0.2]).tolist()])
EVERY = np.array([*itertools.product(range(V), repeat=N)])


def fitted(**keys):
    model = build(MODEL_TYPES["sed"].model_validate({**TINY, **keys}), V)
    model.fit(TEXT, TEXT, 0)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted(samples=128)


# A source of two tokens that is known, by quadrature; the embeddings are -1 and 1

SOURCE = np.array([[0.4, 0.05], [0.15, 0.4]])  # of the first and the second token
ENDS = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
PAIRS = np.array([*itertools.product(range(2), repeat=2)])
ENTROPY = -(SOURCE * np.log(SOURCE)).sum()


def given_the_other(vectors, level):
    """(R, 2, 1) vectors -> (R, 2, 2) log p(token | the other place's vector), by summing over the other token."""
    signal = level**0.5 * ENDS[:, 0]  # of either token
    likelihood = torch.exp(-((vectors - signal) ** 2) / (2 * (1 - level)))  # (R, place, token)
    first, second = (
        torch.from_numpy(SOURCE) @ likelihood[:, 1, :, None],
        torch.from_numpy(SOURCE.T) @ likelihood[:, 0, :, None],
    )
    return torch.stack([first[..., 0], second[..., 0]], 1).log().log_softmax(-1)


def nats_at(time, evidence=True, nodes=20):
    """(4, 2, 2) of each pair the mean over noise of the bound's integrand, and of -log p(token | all vectors)."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    normal = torch.from_numpy(np.array([*itertools.product(points, repeat=2)]))[..., None]  # (R, 2, 1)
    weight = torch.from_numpy(np.outer(weights, weights).flatten() / weights.sum() ** 2)
    levels = torch.full((len(normal), 2), 1 - time).double()
    result = np.zeros((4, 2, 2))
    for pair, tokens in enumerate(torch.from_numpy(PAIRS)):
        vectors = gaussian.noisy(ENDS[tokens], levels, normal)
        logits = given_the_other(vectors, 1 - time)
        if evidence:
            logits = gaussian.with_evidence(logits, vectors, levels, ENDS).double()
        true, times = tokens.expand(len(normal), 2).flatten(), torch.full((2 * len(normal),), time).double()
        nats = gaussian.bound(logits.flatten(0, 1), true, ENDS, times).reshape(-1, 2)
        code = torch.nn.functional.cross_entropy(logits.flatten(0, 1), true, reduction="none").reshape(-1, 2)
        result[pair] = torch.stack([weight @ nats, weight @ code]).T
    return result


def integral(**options):
    """The mean over texts of the bound in continuous time."""
    points, weights = np.polynomial.legendre.leggauss(30)
    total = sum(w / 2 * nats_at((p + 1) / 2, **options)[..., 0].sum(-1) for p, w in zip(points, weights, strict=True))
    return SOURCE.flatten() @ total


def in_steps(steps):
    """The same of the process with so many steps, of which the last one draws the tokens."""
    total = nats_at(1 / steps)[..., 1].sum(-1)
    for step in range(2, steps + 1):
        at, before = step / steps, (step - 1) / steps
        ratios = (1 - before) / before - (1 - at) / at  # of signal to noise
        total = total + ratios * at**2 * nats_at(at)[..., 0].sum(-1)
    return SOURCE.flatten() @ total


def test_with_the_source_known_the_bound_is_its_entropy():
    assert integral() == pytest.approx(ENTROPY, abs=2e-4)
    assert integral(evidence=False) > ENTROPY + 0.1  # without a token's own vector


def test_with_the_source_known_the_bound_with_steps_falls_to_the_entropy():
    excess = [in_steps(steps) - ENTROPY for steps in (8, 16, 32, 64)]
    assert all(0 < after < 0.7 * before for before, after in itertools.pairwise(excess)) and excess[-1] < 0.07
    assert in_steps(1) == pytest.approx(-sum((p * np.log(p)).sum() for p in (SOURCE.sum(0), SOURCE.sum(1))))


# The network's process with steps, by Monte Carlo


def log_probs(model, vectors, time):
    levels = np.full(vectors.shape[:2], 1 - time, np.float32)
    noisy = Noisy(np.full(len(vectors), time), vectors.astype(np.float32), levels)
    return model.log_probs(np.zeros(len(vectors), dtype=np.int64), noisy)


def squared_errors(model, text, time, normal):
    """(R,) squared distance of the predicted embeddings of a text from the true ones, by the formula; (R,) -log p."""
    embeddings = model.embeddings.double().numpy()
    nats = log_probs(model, (1 - time) ** 0.5 * embeddings[text] + time**0.5 * normal, time)
    distances = ((np.exp(nats) @ embeddings - embeddings[text]) ** 2).sum((-1, -2))
    return distances, -np.take_along_axis(nats, np.tile(text, (len(nats), 1))[..., None], -1)[..., 0].sum(-1)


def sampled(model, draws, count=1000):
    """{text: (mean, standard error)} of the bound in continuous time; its times are those of equal parts."""
    result = {}
    for text in EVERY:
        times = (np.arange(count) + draws.random(count)) / count
        normal = draws.standard_normal((count, N, E))
        embeddings, levels = model.embeddings.double().numpy(), np.tile((1 - times)[:, None], N).astype(np.float32)
        vectors = np.sqrt(1 - times)[:, None, None] * embeddings[text] + np.sqrt(times)[:, None, None] * normal
        noisy = Noisy(times, vectors.astype(np.float32), levels)
        mean = np.exp(model.log_probs(np.zeros(count, dtype=np.int64), noisy)) @ embeddings
        nats = ((mean - embeddings[text]) ** 2).sum((-1, -2)) / (2 * times**2)
        result[tuple(text)] = nats.mean(), nats.std() / np.sqrt(count)
    return result


def process(model, steps, draws, count=1000):
    """{text: (log p, its standard error, bound, its standard error)} of the process with so many steps."""
    vectors, embeddings = draws.standard_normal((count, N, E)), model.embeddings.double().numpy()
    normal = [draws.standard_normal((count, N, E)) for _ in range(steps)]
    for step in range(steps, 1, -1):
        estimates = np.exp(log_probs(model, vectors, step / steps)) @ embeddings
        vectors = gaussian.earlier(vectors, estimates, (step - 1) / steps, step / steps, normal[step - 1])
    last, result = log_probs(model, vectors, 1 / steps), {}
    for text in EVERY:
        each = np.exp(last[:, np.arange(N), text].sum(-1))
        parts = [squared_errors(model, text, 1 / steps, normal[0])[1]]
        for step in range(2, steps + 1):
            ratio = steps / (step - 1) - steps / step  # of signal to noise, (1 - t) / t
            parts.append(ratio / 2 * squared_errors(model, text, step / steps, normal[step - 1])[0])
        total = np.sum(parts, 0)
        errors = each.std() / np.sqrt(count) / each.mean(), total.std() / np.sqrt(count)
        result[tuple(text)] = np.log(each.mean()), errors[0], total.mean(), errors[1]
    return result


@pytest.fixture(scope="module")
def by_steps(model):
    return {steps: process(model, steps, np.random.default_rng(steps)) for steps in (2, 6)}


@pytest.fixture(scope="module")
def continuous(model):
    return sampled(model, np.random.default_rng(1))


def test_with_steps_the_bound_is_above_the_code_length_of_every_text(by_steps):
    for process_of_steps in by_steps.values():
        for log_p, error, bound, bound_error in process_of_steps.values():
            assert bound > -log_p - 4 * np.hypot(error, bound_error)


def test_more_steps_come_nearer_to_the_bound_in_continuous_time(by_steps, continuous):
    exact = sum(mean for mean, _ in continuous.values())
    distances = [abs(sum(bound for *_, bound, _ in texts.values()) - exact) for texts in by_steps.values()]
    assert distances[1] < distances[0] / 2


def test_drafts_have_the_probabilities_of_the_process_with_steps(model, by_steps):
    drafts = embedded(model, 3000, N, 2, seed=1)
    assert len(drafts) == 3
    for text, (log_p, error, *_) in by_steps[2].items():
        p, seen = np.exp(log_p), (drafts[-1] == text).all(-1).mean()
        assert abs(seen - p) < 4.5 * np.hypot(p * error, np.sqrt(p / 3000))


def test_drafts_with_one_seed_are_the_same_and_the_first_is_of_noise(model):
    one, other = (embedded(model, 40, N, 3, seed=3) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True)) and len(np.unique(one[0])) == V


# The estimate


def estimate_of(model):
    """The sum over all texts, and its standard error."""
    halves = model.halves(EVERY, None, np.ones(EVERY.shape, dtype=bool)).sum(-1)  # (2, B)
    return halves.mean(0).sum(), np.sqrt(((halves[0] - halves[1]) ** 2 / 4).sum())


@pytest.fixture(scope="module")
def exact(model, continuous):
    """The same by the formula, and the standard error of the difference of the two."""
    means, errors = np.array(list(continuous.values())).T
    return means.sum(), np.hypot(estimate_of(model)[1], np.sqrt((errors**2).sum()))


def test_the_estimate_is_within_four_standard_errors_of_the_formula(model, exact):
    assert abs(estimate_of(model)[0] - exact[0]) < 4 * exact[1] and 0 < exact[1] < 0.08 * exact[0]


FAULTS = {
    "no half": ("bound", lambda right: lambda *given: 2 * right(*given)),
    "1 / t": ("bound", lambda right: lambda *given: right(*given) * given[-1]),
    "cross-entropy": ("bound", lambda right: lambda logits, tokens, *_: torch.nn.functional.nll_loss(logits, tokens)),
    "noise of one strength": ("noisy", lambda right: lambda e, levels, normal: right(e, 0 * levels + 0.5, normal)),
    "signal not scaled": ("noisy", lambda right: lambda e, level, normal: e + (1 - level).sqrt()[..., None] * normal),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_bound_and_wrong_noise_are_caught_by_the_formula(model, exact, fault, monkeypatch):
    name, change = FAULTS[fault]
    monkeypatch.setattr(gaussian, name, change(getattr(gaussian, name)))
    assert abs(estimate_of(model)[0] - exact[0]) > 4 * exact[1]


def test_the_bound_is_zero_at_the_truth_and_nowhere_below(model):
    draws, tokens = torch.Generator().manual_seed(0), torch.arange(300) % V
    times = torch.linspace(0, 1, 300).double()
    logits, sure = torch.randn(300, V, generator=draws).double(), torch.nn.functional.one_hot(tokens, V) * 1e3
    assert (gaussian.bound(logits, tokens, model.embeddings, times) > 0).all()
    assert gaussian.bound(sure.double(), tokens, model.embeddings, times).abs().max() < 1e-9


def test_no_score_is_above_zero_rows_stand_for_themselves_and_what_follows_is_not_read():
    small, order = fitted(samples=4), np.random.default_rng(1).permutation(len(EVERY))
    scores = small.score(EVERY)
    assert (scores <= 0).all() and np.allclose(small.score(EVERY[order]), scores[order], atol=1e-4)
    assert np.array_equal(small.score(EVERY), scores)
    wanted = np.arange(N) < np.ones((len(EVERY), 1))
    changed = np.column_stack([EVERY[:, 0], (EVERY[:, 1] + 1) % V])
    assert np.allclose(small.halves(changed, None, wanted), small.halves(EVERY, None, wanted), atol=1e-4)
    assert not small.halves(EVERY, None, np.zeros_like(wanted)).any()


def test_randomness_by_the_index_in_the_batch_is_caught_by_the_order_of_rows(monkeypatch):
    small, numbers = fitted(samples=2), itertools.count()
    monkeypatch.setattr(windows, "row_generator", lambda row, wanted: np.random.default_rng(next(numbers)))
    assert not np.allclose(small.score(EVERY), small.score(EVERY[::-1])[::-1], atol=1e-3)


def test_known_tokens_are_never_noisy_and_what_is_unknown_is_only_noise(model):
    row, wanted = np.array([[0, 1, 2]] * 40), np.tile([False, True], (40, 1))
    draws = [np.random.default_rng(number) for number in range(40)]
    window = continued(row, wanted, N + 1)
    noisy = model.noisy(window, np.full(40, 0.3), draws)
    embeddings = model.embeddings.numpy()
    assert np.array_equal(noisy.places[:, 0], embeddings[window.tokens[:, 0]])
    assert noisy.levels[0].tolist() == pytest.approx([1, 0.7, 0])
    assert np.abs(noisy.places[:, 2].mean()) < 4 / np.sqrt(40 * E) and (noisy.places[:, 1] != embeddings[2]).all()


def test_stored_and_restored_it_scores_to_the_same_bytes(model):
    other = build(model.config, V)
    other.restore(model.arrays())
    assert np.array_equal(other.score(EVERY), model.score(EVERY))
    assert np.allclose((model.arrays()["embeddings"] ** 2).mean(-1), 1)


def test_a_split_is_scored_once_with_its_error(model):
    read = Documents.single(TEXT.tokens[:20])
    log_probs, error = scoring.score_bound(model, read, scoring.windows_of(read.starts, "stride", N, 1, 0))
    assert isinstance(model, UpperBound) and np.isfinite(log_probs).all() and error > 0


# Self-conditioning and the objective


class Recorder:
    """A network that always says the first token, and keeps the estimates that it was given."""

    def __init__(self):
        self.estimates = []

    def __call__(self, vectors, levels, estimates):
        self.estimates.append((estimates, torch.is_grad_enabled()))
        return torch.nn.functional.one_hot(torch.zeros_like(levels).long(), V) * 1e5


def batch_of(processes=None):
    return Rows(TEXT, 1, N, **({"processes": processes} if processes else {})).random_batch(6, seed=1, step=2)


def loss_of(model, batch, draw, selected=False, network=None):
    objective = NoisyEmbeddings(model.config, model.embeddings)
    return (objective.selected if selected else objective)(network or model.network, batch, draw)


@pytest.mark.parametrize("self_conditioning", [0.0, 1.0])
def test_the_network_is_given_its_own_estimate_or_none(self_conditioning):
    small, network = fitted(steps=4, self_conditioning=self_conditioning), Recorder()
    loss_of(small, batch_of(), Draw(0, OBJECTIVE_DRAW, 0), network=network)
    first, last = network.estimates[0], network.estimates[-1]
    assert len(network.estimates) == 1 + self_conditioning and not first[0].any() and last[1]
    if self_conditioning:
        unknown = last[0][:, 1:].flatten(0, 1)
        assert not first[1] and (unknown == small.embeddings[0]).all(-1).any()


def test_half_of_the_steps_have_an_estimate_and_all_of_the_bound_where_training_had_one(model):
    passes = []
    for step in range(40):
        network = Recorder()
        loss_of(model, batch_of(), Draw(0, OBJECTIVE_DRAW, step), network=network)
        passes.append(len(network.estimates))
    assert 10 < passes.count(2) < 30
    network = Recorder()
    loss_of(model, batch_of(), Draw(0, VALID_DRAW, 0), selected=True, network=network)
    assert len(network.estimates) == 2


def test_of_a_share_of_the_rows_places_at_random_are_known_and_a_row_counts_as_a_whole_one(model):
    rows = Rows(TEXT, 1, 60).random_batch(400, seed=0, step=0)
    is_open = NoisyEmbeddings(model.config, model.embeddings).open_places(rows, np.random.default_rng(0))
    shares = is_open.mean(1)
    assert 0.4 < (shares == 1).mean() < 0.6 and 0.2 < shares[shares < 1].mean() < 0.8
    assert 0.6 < is_open[:, 0].mean() < 0.9 and 0.6 < is_open[:, -1].mean() < 0.9
    changed = fitted(steps=4, given_share=1.0)
    loss = float(loss_of(changed, rows, Draw(0, OBJECTIVE_DRAW, 0), network=lambda v, *_: torch.zeros(*v.shape[:2], V)))
    assert 0 < loss < len(is_open) * 60 * np.log(V)


@pytest.mark.parametrize("selected", [False, True])
def test_processes_draw_what_one_process_draws_for_the_same_rows(model, selected):
    with torch.inference_mode():
        whole = float(loss_of(model, batch_of(), Draw(3, OBJECTIVE_DRAW, 5), selected))
        parts = [
            float(loss_of(model, batch_of(rank), Draw(3, OBJECTIVE_DRAW, 5, rank), selected))
            for rank in (Processes(0, 3), Processes(1, 3), Processes(2, 3))
        ]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("weighting", ["selected", "bound"])
def test_weights_are_trained_and_selected_by_the_bound(model, continuous, weighting):
    texts = [(1, 1), (2, 1)]
    batch = Rows(Documents.of([list(text) for text in texts] * 40), 1, N).full_batch()
    trained = fitted(steps=4, weighting="bound", given_share=0.0, self_conditioning=1.0)
    trained.network = model.network
    with torch.inference_mode():
        draws = (Draw(0, VALID_DRAW, step) for step in range(30))
        losses = [float(loss_of(trained, batch, draw, weighting == "selected")) / 40 for draw in draws]
    means, errors = np.array([continuous[text] for text in texts]).T
    error = np.hypot(np.std(losses) / np.sqrt(30), np.sqrt((errors**2).sum()))
    assert abs(np.mean(losses) - means.sum()) < 4 * error


def test_the_same_seed_has_the_same_curve_and_another_has_another():
    config = MODEL_TYPES["sed"].model_validate({**TINY, "steps": 6, "evaluate_every": 3})
    curves = [build(config, V).fit(TEXT, TEXT, seed) for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


@pytest.mark.parametrize(("key", "value"), [("embedding", 1), ("self_conditioning", 1.5)])
def test_values_out_of_range_are_refused(key, value):
    with pytest.raises(ValueError, match=key):
        MODEL_TYPES["sed"].model_validate({**TINY, key: value})
