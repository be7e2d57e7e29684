"""Diffusion models: exact orders of prediction are distributions, the bound is what its formula says, faults show."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.evaluation import scoring
from lmstages.evaluation.parallel import Steps, parallel_drafts, parallel_sample, parallel_score
from lmstages.models.base import Recompute, build, decoding_state
from lmstages.models.nonautoregressive import diffusion
from lmstages.models.nonautoregressive.clean_blocks import BlockDecodingState
from lmstages.models.nonautoregressive.denoiser import Denoiser
from lmstages.models.nonautoregressive.diffusion import DiffusionModel, HiddenTokens, MaskedDiffusionModel
from lmstages.models.nonautoregressive.hiding import every_choice, hidden_at_random, open_places, stratified
from lmstages.training.batches import Rows
from lmstages.training.distributed import Processes
from lmstages.training.objectives import NEXT_TOKEN, OBJECTIVE_DRAW, VALID_DRAW, Draw

V, N = 3, 4
TINY = {"layers": 2, "heads": 2, "width": 8, "window": N, "row_length": N, "batch_size": 8, "warmup_steps": 2}
TINY |= {"steps": 12, "evaluate_every": 6}
TEXT = Documents.of([[*row, 0] for row in np.random.default_rng(0).integers(0, V, (40, 9)).tolist()])
EVERY = np.array([*itertools.product(range(V), repeat=N)])  # all rows of N tokens


def fitted(name="block_diffusion", seed=0, **keys):
    block = {"block": 2} if name == "block_diffusion" else {}
    model = build(MODEL_TYPES[name].model_validate({**TINY, **block, **keys}), V)
    model.fit(TEXT, TEXT, seed)
    return model


@pytest.fixture(scope="module")
def models():
    names = {"masked": ("masked_diffusion", {}), "block 2": ("block_diffusion", {"block": 2})}
    names |= {"block 1": ("block_diffusion", {"block": 1})}
    return {label: disturbed(fitted(name, **keys)) for label, (name, keys) in names.items()}


def disturbed(model):
    """With weights so large that whatever a prediction reads changes it much: the laws hold for all weights."""
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.add_(0.5 * torch.randn(weight.shape, generator=draws))
    return model


# Orders of prediction


ORDERS = {
    "left to right": lambda model, rows: model.score(rows),
    **{
        f"{steps} steps, {order}": partial(parallel_score, steps=Steps(steps, order, 3))
        for steps, order in itertools.product((1, 2, N), ("left", "random", "certain"))
    },
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("label", ["masked", "block 2", "block 1"])
def test_the_probabilities_of_all_rows_sum_to_one(models, label, order):
    assert np.exp(ORDERS[order](models[label], EVERY).sum(1)).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("label", ["masked", "block 2", "block 1"])
def test_what_stands_at_hidden_places_does_not_matter(models, label):
    hidden = np.array([[True, False, True, True]])
    rows = np.column_stack([np.zeros(len(EVERY), dtype=int), EVERY])
    known = rows[:, 2] == 1
    log_probs = models[label].log_probs(rows[known], np.repeat(hidden, known.sum(), 0))
    first_block = slice(0, models[label].config.block_length)
    assert np.allclose(log_probs[:, first_block], log_probs[:1, first_block], atol=1e-6)


def test_a_gap_is_filled_token_by_token_with_both_sides_known(models):
    model, middles = models["masked"], np.array([*itertools.product(range(V), repeat=2)])
    left, right = (np.full((len(middles), 1), token) for token in (2, 1))
    first, second = (
        model.fill_log_probs(left, middles[:, :0], right, 2),
        model.fill_log_probs(left, middles[:, :1], right, 1),
    )
    each = np.arange(len(middles))
    assert np.exp(first[each, middles[:, 0]] + second[each, middles[:, 1]]).sum() == pytest.approx(1, abs=1e-6)
    rows = np.column_stack([np.zeros_like(left), left, middles, right])
    hidden = np.tile([False, False, True, False], (len(rows), 1))
    np.testing.assert_allclose(second, model.log_probs(rows, hidden)[:, 2], atol=1e-12)
    assert not np.allclose(first, model.fill_log_probs(left, middles[:, :0], 1 - right, 2), atol=1e-2)  # it is read


def test_a_block_reads_all_of_earlier_blocks_and_both_sides_of_its_own(models):
    row, hidden = np.array([[0, 1, 2, 1, 2]]), np.array([[False, False, True, False]])
    other_before, other_after = row.copy(), row.copy()
    other_before[0, 1], other_after[0, 4] = 2, 1
    of = lambda tokens: models["block 2"].log_probs(tokens, hidden)[0, 2]  # noqa: E731
    assert not np.allclose(of(row), of(other_before)) and not np.allclose(of(row), of(other_after))


def test_a_short_row_is_read_with_as_much_hidden_behind_it_as_a_long_one(models):
    for model in models.values():
        assert np.allclose(model.score(EVERY[:, :2]), model.score(EVERY)[:, :2], atol=1e-6)


def test_only_the_wanted_tokens_are_scored_and_as_in_the_whole_row(models):
    wanted = np.tile(np.arange(N) >= 2, (len(EVERY), 1)) & (EVERY[:, :1] > 0)
    for model in models.values():
        scores = model.score_wanted(EVERY, None, wanted)
        assert np.allclose(scores[wanted], model.score(EVERY)[wanted], atol=1e-6) and not scores[EVERY[:, 0] == 0].any()


def test_most_certain_first_takes_the_order_that_the_entropies_say(models):
    model, row = models["masked"], np.array([[1, 2, 0, 1]])
    hidden, order, nats = np.ones((1, N), dtype=bool), [], 0.0
    while hidden.any():
        log_probs = model.log_probs(np.column_stack([[0], row]), hidden)[0]
        entropies = [-(np.exp(p) * p).sum() if h else np.inf for p, h in zip(log_probs, hidden[0], strict=True)]
        order.append(int(np.argmin(entropies)))
        nats += log_probs[order[-1], row[0, order[-1]]]
        hidden[0, order[-1]] = False
    scored = parallel_score(model, row, Steps(N, "certain")).sum()
    assert sorted(order) == [*range(N)] and scored == pytest.approx(nats, abs=1e-6)


@pytest.mark.parametrize("label", ["masked", "block 2", "block 1"])
def test_from_left_to_right_with_a_step_for_each_token_the_row_is_the_models_own(models, label):
    before = np.arange(len(EVERY)) % V
    np.testing.assert_allclose(
        parallel_score(models[label], EVERY, Steps(N, "left"), before), models[label].score(EVERY, before), atol=1e-6
    )


@pytest.mark.parametrize("order", ["left", "random", "certain"])
def test_every_place_is_in_one_step_and_blocks_follow_from_left_to_right(models, order):
    hidden = [hidden for _, hidden in parallel_drafts(models["block 2"], 5, 3, Steps(2, order, 1), seed=1)]
    assert [step.sum(1).tolist() for step in hidden] == [[2] * 5, [1] * 5, [0] * 5]
    assert hidden[1][:, 2].all() and (Steps(3, "left").sizes(4), Steps(9, "left").sizes(2)) == ([2, 1, 1], [1, 1])


@pytest.mark.parametrize("label", ["masked", "block 2"])
@pytest.mark.parametrize("order", ["random", "certain"])
def test_samples_of_the_parallel_sampler_have_the_probabilities_of_its_score(models, label, order):
    count, steps = 20_000, Steps(2, order, 5)
    rows = parallel_sample(models[label], count, 3, steps, seed=5)
    cells = np.array([*itertools.product(range(V), repeat=3)])
    expected = np.exp(parallel_score(models[label], cells, steps).sum(1))
    seen = np.array([(rows == cell).all(1).mean() for cell in cells])
    assert expected.sum() == pytest.approx(1, abs=1e-6)
    assert (np.abs(seen - expected) < 4.5 * np.sqrt(expected / count)).all()


# Decoding from a cache


@pytest.mark.parametrize("label", ["block 2", "block 1"])
def test_a_block_read_behind_cached_ones_is_predicted_as_in_the_whole_row(models, label):
    model, hidden = models[label], np.random.default_rng(1).random(EVERY.shape) < 0.5
    row, block, before = np.column_stack([np.ones(len(EVERY), int), EVERY]), model.config.block_length, np.ones(81, int)
    whole, blocks = model.log_probs(row, hidden), model.open_blocks(before)
    for begin in range(0, N, block):
        places = slice(begin, begin + block)
        cached = blocks.log_probs(EVERY[:, places], hidden[:, places])
        np.testing.assert_allclose(cached, whole[:, places], atol=1e-5)
        blocks.append(EVERY[:, places])


@pytest.mark.parametrize("label", ["block 2", "block 1"])
def test_decoding_from_a_cache_is_the_next_token_of_every_prefix(models, label):
    model, draws = models[label], np.random.default_rng(2).integers(V, size=(6, 2 * N))
    for begin in range(2 * N):
        state = decoding_state(model, draws[:, :begin])
        assert isinstance(state, BlockDecodingState)
        for length in range(begin, max(begin + 1, N)):
            np.testing.assert_allclose(state.log_probs(), model.next_log_probs(draws[:, :length]), atol=1e-5)
            state.append(draws[:, length])


def test_past_the_window_decoding_reads_what_scoring_by_strides_does(models):
    model, stream = models["block 2"], np.random.default_rng(3).integers(V, size=11)
    documents = Documents.single(stream)
    scores = scoring.score(model, documents, scoring.windows_of(documents.starts, "stride", N, N // 2, 0))
    state, decoded = decoding_state(model, np.zeros((1, 0), dtype=int)), []
    for token in stream:
        decoded.append(state.log_probs()[0, token])
        state.append(np.array([token]))
    np.testing.assert_allclose(decoded, scores, atol=1e-5)


def test_a_block_as_long_as_the_window_is_decoded_without_a_cache():
    model = fitted("block_diffusion", block=N)
    assert isinstance(decoding_state(model, EVERY), Recompute)


# What is hidden, and what it counts


def test_a_hidden_place_weighs_the_places_over_the_hidden_ones():
    is_open = open_places(np.array([8, 3]), 2, 4)
    fractions = np.array([[0.0, 0.6], [0.99, 0.0]])
    hidden = hidden_at_random(is_open, fractions, np.random.default_rng(0).random(is_open.shape))
    assert hidden.places.sum(-1).tolist() == [[1, 3], [3, 0]]
    assert hidden.weights.max(-1).round(6).tolist() == [[4.0, round(4 / 3, 6)], [1.0, 0.0]]


def test_the_choices_of_a_block_weigh_as_much_as_its_tokens():
    is_open = open_places(np.array([4, 2, 0]), 1, 4)
    total = sum(hidden.weights for hidden in every_choice(is_open))
    assert np.allclose(total[:, 0], is_open[:, 0])  # every token once, on average over k and M


def test_fractions_of_a_batch_have_one_in_every_part():
    fractions = stratified(np.random.default_rng(1), 10)
    assert sorted((fractions * 10).astype(int)) == [*range(10)]


# The objective


def batch_of(processes=None, length=N):
    return Rows(TEXT, 1, length, **({"processes": processes} if processes else {})).random_batch(6, seed=1, step=2)


def loss_of(model, batch, draw, selected=False):
    with torch.inference_mode():
        objective = HiddenTokens(model.config)
        return float((objective.selected if selected else objective)(model.network, batch, draw))


@pytest.mark.parametrize("weighting", ["flat", "bound"])
@pytest.mark.parametrize("selected", [False, True])
def test_processes_draw_what_one_process_draws_for_the_same_rows(weighting, selected):
    model = fitted("masked_diffusion", window=8, row_length=8, weighting=weighting)
    whole = loss_of(model, batch_of(length=8), Draw(3, OBJECTIVE_DRAW, 5), selected)
    parts = [
        loss_of(model, batch_of(Processes(rank, 3), 8), Draw(3, OBJECTIVE_DRAW, 5, Processes(rank, 3)), selected)
        for rank in range(3)
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_a_draw_depends_on_seed_purpose_and_step_alone():
    draws = [Draw(*key).generator().random() for key in [(1, 2, 3), (1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4)]]
    assert draws[0] == draws[1] and len(set(draws)) == 4


def test_in_blocks_of_one_the_objective_is_that_of_the_next_token(models):
    model, batch, draw = models["block 1"], batch_of(), Draw(0, OBJECTIVE_DRAW, 0)
    with torch.inference_mode():
        expected = float(NEXT_TOKEN(model.network, batch, draw))
    assert loss_of(model, batch, draw) == pytest.approx(expected, rel=1e-5)
    assert loss_of(model, batch, draw, selected=True) == pytest.approx(expected, rel=1e-5)


def test_weights_are_selected_by_the_bound_in_which_all_choices_of_a_short_block_count():
    model = fitted("masked_diffusion")
    expected = enumerated_bound(model, EVERY[40:41]).sum()
    documents = Documents.of([EVERY[40].tolist()])
    batch = Rows(documents, 1, N).full_batch()
    assert loss_of(model, batch, Draw(0, VALID_DRAW, 0), selected=True) == pytest.approx(expected, rel=1e-5)


def enumerated_bound(model, rows):
    """(B, N) by the formula, one set of hidden places after the other."""
    total = np.zeros(rows.shape)
    block = model.config.block_length
    for begin in range(0, rows.shape[1], block):
        places = range(begin, min(begin + block, rows.shape[1]))
        for k in range(1, len(places) + 1):
            for chosen in itertools.combinations(places, k):
                hidden = np.arange(rows.shape[1]) >= begin + block
                hidden[[*chosen]] = True
                row = np.column_stack([np.zeros(len(rows), dtype=int), rows])
                log_probs = model.log_probs(row, np.tile(hidden, (len(rows), 1)))
                for place in chosen:
                    nats = -log_probs[np.arange(len(rows)), place, rows[:, place]]
                    total[:, place] += nats / k / math.comb(len(places), k)
    return total


def test_training_on_flat_weights_is_the_mean_over_hidden_tokens():
    model = fitted("masked_diffusion", given_share=0.0)
    torch.nn.init.zeros_(model.network.output.weight)  # every token has log V nats
    batch = batch_of()
    assert loss_of(model, batch, Draw(0, OBJECTIVE_DRAW, 0)) == pytest.approx(batch.targets_of_all * math.log(V))


def test_what_lies_past_a_text_is_hidden_in_training_as_it_is_in_scoring():
    model = fitted("masked_diffusion")
    batch = Rows(Documents.of([[1, 0]]), 1, N).full_batch()
    expected = enumerated_bound(model, np.array([[1, 0]])).sum()
    assert loss_of(model, batch, Draw(0, VALID_DRAW, 0), selected=True) == pytest.approx(expected, rel=1e-5)


def test_the_objective_hides_what_lies_past_a_text_and_never_counts_it():
    model, text = fitted("masked_diffusion", window=8, row_length=8), [1, 2, 0]
    batches = [Rows(Documents.of([text, [2, 2, 2, 2, 2, 2, 2, 0][:more]]), 1, 8).cut(np.array([0])) for more in (1, 8)]
    one, other = (loss_of(model, batch, Draw(1, VALID_DRAW, 0), selected=True) for batch in batches)
    assert one == other and batches[0].targets_of_all == 3


def test_the_same_seed_has_the_same_curve_and_another_has_another():
    config = MODEL_TYPES["masked_diffusion"].model_validate(TINY)
    curves = [build(config, V).fit(TEXT, TEXT, seed) for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


# Planted faults: each is caught by a law


def leaks_its_own_block(network, positions, noisy):
    block, is_noisy = (positions - 1) // network.block, torch.arange(len(positions)) < noisy
    same = block[:, None] >= block
    return torch.where(is_noisy[:, None], same, ~is_noisy & same)


def reads_later_clean_tokens(network, positions, noisy):
    mask = UNBROKEN_MASK(network, positions, noisy)
    return mask | ~((torch.arange(len(positions)) < noisy)[:, None] | (torch.arange(len(positions)) < noisy))


UNBROKEN_MASK, UNBROKEN_EMBEDDING = Denoiser.attention_mask, Denoiser.embed_known
NETWORK_FAULTS = {
    "a noisy block reads its own clean copy": ("block 2", "attention_mask", leaks_its_own_block),
    "a clean place reads later ones": ("block 1", "attention_mask", reads_later_clean_tokens),
    "a hidden token is not replaced": (
        "masked",
        "embed_known",
        lambda network, tokens, hidden, positions: UNBROKEN_EMBEDDING(network, tokens, hidden & False, positions),
    ),
    "a hidden token is mixed with what it hides": (
        "masked",
        "embed_known",
        lambda network, tokens, hidden, positions: (
            UNBROKEN_EMBEDDING(network, tokens, hidden, positions) + 0.1 * network.embedding(tokens)
        ),
    ),
}


@pytest.mark.parametrize("fault", NETWORK_FAULTS)
def test_a_leak_is_caught_by_the_sum_over_all_rows(models, fault, monkeypatch):
    label, name, broken = NETWORK_FAULTS[fault]
    monkeypatch.setattr(Denoiser, name, broken)
    wanted = np.ones(EVERY.shape, dtype=bool)
    total = np.exp(models[label].score_wanted(EVERY, None, wanted).sum(1)).sum()
    assert abs(total - 1) > 1e-3


def test_a_draw_by_process_is_caught_by_the_sum_over_processes(monkeypatch):
    model = fitted("masked_diffusion")
    unbroken = Draw.generator
    monkeypatch.setattr(
        Draw, "generator", lambda draw: unbroken(Draw(draw.seed + draw.processes.rank, draw.purpose, draw.step))
    )
    parts = [
        loss_of(model, batch_of(Processes(rank, 2)), Draw(3, OBJECTIVE_DRAW, 5, Processes(rank, 2)))
        for rank in range(2)
    ]
    assert sum(parts) != pytest.approx(loss_of(model, batch_of(), Draw(3, OBJECTIVE_DRAW, 5)), rel=1e-3)


def test_weights_without_n_over_k_are_caught_by_enumeration(monkeypatch):
    model, batch = fitted("masked_diffusion"), Rows(Documents.of([EVERY[40].tolist()]), 1, N).full_batch()
    choices = every_choice(open_places(np.array([N]), 1, N))
    unweighted = [hidden._replace(weights=hidden.places * 1.0) for hidden in choices]
    monkeypatch.setattr(diffusion, "every_choice", lambda is_open: unweighted)
    broken = loss_of(model, batch, Draw(0, VALID_DRAW, 0), selected=True)
    assert broken != pytest.approx(enumerated_bound(model, EVERY[40:41]).sum(), rel=0.1)


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("block_diffusion", {"block": 3}, "window 4 is no multiple of its block of 3 tokens"),
        ("masked_diffusion", {"row_length": 2}, "row_length 2 is no multiple of its block of 4 tokens"),
        ("block_diffusion", {"value_embeddings": True}, "Input should be False"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(name, keys, message):
    with pytest.raises(ValueError, match=message):
        MODEL_TYPES[name].model_validate({**TINY, **keys})


def test_the_model_is_the_one_that_the_record_names(models):
    masked = {label for label, model in models.items() if type(model) is MaskedDiffusionModel}
    assert masked == {"masked"} and all(isinstance(model, DiffusionModel) for model in models.values())
