"""Any order: distributions in every fixed order and over gaps, what is read and what is not, faults that show."""

import itertools

import numpy as np
import pytest
import torch

from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.reading import read_run
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.models.base import TooLongError, build
from lmstages.models.nonautoregressive.any_order import AnyOrderNetwork, Orders, middle_last
from lmstages.training.batches import Rows
from lmstages.training.distributed import Processes
from lmstages.training.objectives import NEXT_TOKEN, OBJECTIVE_DRAW, VALID_DRAW, Draw

V, N = 3, 4
TINY = {"layers": 1, "heads": 2, "width": 8, "window": N, "row_length": N, "batch_size": 8, "warmup_steps": 2}
TINY |= {"steps": 30, "evaluate_every": 15}
TEXT = Documents.of([[*row, 0] for row in np.random.default_rng(0).integers(0, V, (40, 9)).tolist()])
EVERY = np.array([*itertools.product(range(V), repeat=N)])  # all rows of N tokens
ORDERS = {"left": [0, 1, 2, 3], "right": [3, 2, 1, 0], "middle last": [0, 3, 1, 2], "any": [2, 0, 3, 1]}


def fitted(seed=0, **keys):
    model = build(MODEL_TYPES["any_order"].model_validate({**TINY, **keys}), V)
    model.fit(TEXT, TEXT, seed)
    return model


@pytest.fixture(scope="module")
def models():
    return {"rotary": fitted(), "learned": fitted(rotary=False, tied_output=True, value_embeddings=True)}


def in_order(rows, order):
    return np.tile(order, (len(rows), 1))


def check_order(model, order):
    """The probabilities of all rows sum to one, and no score depends on what comes later."""
    scores = model.order_score(EVERY, in_order(EVERY, order))
    assert np.exp(scores.sum(1)).sum() == pytest.approx(1, abs=1e-5)
    for number, place in enumerate(order):
        known = EVERY[:, order[: number + 1]]
        same = (known == known[-1]).all(1)
        assert np.ptp(scores[same, place]) < 1e-5


@pytest.mark.parametrize("order", ORDERS.values(), ids=[*ORDERS])
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_the_probabilities_of_all_rows_sum_to_one_and_what_is_hidden_does_not_matter(models, positions, order):
    check_order(models[positions], order)


def test_the_order_from_left_to_right_is_that_of_the_score(models):
    for model in models.values():
        left_to_right = model.order_score(EVERY, in_order(EVERY, ORDERS["left"]))
        assert np.allclose(left_to_right, model.score(EVERY), atol=1e-6)
        behind = model.order_score(EVERY, in_order(EVERY, ORDERS["left"]), np.full(len(EVERY), 2))
        assert np.allclose(behind, model.score(EVERY, np.full(len(EVERY), 2)), atol=1e-6)


def test_every_row_may_have_an_order_of_its_own(models):
    orders = np.array([*ORDERS.values()])
    scores = models["rotary"].order_score(EVERY[10:14], orders)
    alone = [models["rotary"].order_score(EVERY[10 + i : 11 + i], orders[i : i + 1])[0] for i in range(4)]
    assert np.allclose(scores, alone, atol=1e-6)


def test_where_a_token_stands_and_where_the_next_one_are_both_read(models):
    for model in models.values():
        row = np.array([[1, 2, 1, 0]])
        scores = [model.order_score(row, np.array([order]))[0] for order in ([0, 1, 2, 3], [0, 3, 1, 2], [1, 3, 0, 2])]
        assert not np.isclose(scores[0][1], scores[1][1], atol=1e-4)  # behind 1, with and without the last token
        moved = model.order_score(row[:, [1, 0, 2, 3]], np.array([[1, 3, 0, 2]]))[0]  # 1 again, at another place
        assert not np.isclose(scores[1][3], moved[3], atol=1e-4)


# Gaps


LEFT, RIGHT = np.array([[2]]), np.array([[1]])


def gap_scores(model, middles, right=RIGHT):
    left, right = np.repeat(LEFT, len(middles), 0), np.repeat(right, len(middles), 0)
    count, rows = middles.shape[1], range(len(middles))
    steps = [
        model.fill_log_probs(left, middles[:, :done], right, count - done)[rows, middles[:, done]]
        for done in range(count)
    ]
    return np.column_stack(steps)


@pytest.mark.parametrize("length", [1, 2])
def test_the_probabilities_of_all_gaps_of_a_length_sum_to_one(models, length):
    middles = np.array([*itertools.product(range(V), repeat=length)])
    for model in models.values():
        assert np.exp(gap_scores(model, middles).sum(1)).sum() == pytest.approx(1, abs=1e-5)


def test_a_gap_is_filled_as_it_is_scored_with_the_middle_last(models):
    middles = np.array([*itertools.product(range(V), repeat=2)])
    rows = np.column_stack([np.repeat(LEFT, 9, 0), middles, np.repeat(RIGHT, 9, 0)])
    expected = models["rotary"].order_score(rows, in_order(rows, middle_last(1, 2, 1)))[:, 1:3]
    assert np.allclose(gap_scores(models["rotary"], middles), expected, atol=1e-6)


def test_the_length_of_a_gap_and_its_right_side_are_read(models):
    model, none = models["rotary"], np.empty((1, 0), dtype=int)
    one = model.fill_log_probs(LEFT, none, RIGHT, 1)
    assert not np.allclose(one, model.fill_log_probs(LEFT, none, RIGHT, 2))
    assert not np.allclose(one, model.fill_log_probs(LEFT, none, np.array([[2]]), 1))


def test_a_gap_longer_than_the_window_is_refused(models):
    with pytest.raises(TooLongError, match="a gap of 5 tokens: the model reads 4 tokens; hide fewer"):
        models["rotary"].fill_log_probs(LEFT, np.empty((1, 0), dtype=int), RIGHT, 5)


# The objective


def test_orders_are_left_to_right_with_a_middle_last_or_random_as_often_as_the_record_says():
    batch = Rows(Documents.of([[1] * 8] * 4000), 1, 8).full_batch()
    orders = Orders(0.4, 0.3).drawn(batch, Draw(0, OBJECTIVE_DRAW, 0))
    assert (np.sort(orders, axis=1) == np.arange(8)).all()
    falls = (np.diff(orders, axis=1) < 0).sum(1)  # none from left to right, one at most with a middle last
    is_left = (orders == np.arange(8)).all(1)
    kept = sum(a == b or max(a, b) == 8 for a in range(9) for b in range(9)) / 81  # middles that are empty, or last
    assert is_left.mean() == pytest.approx(0.4 + 0.3 * kept, abs=0.03)
    assert (falls >= 2).mean() == pytest.approx(0.3, abs=0.03)


def test_what_lies_past_a_text_comes_last_and_counts_nothing(models):
    orders = Orders(0.0, 0.5).drawn(Rows(Documents.of([[1, 2, 0]] * 50), 1, 8).full_batch(), Draw(0, OBJECTIVE_DRAW, 0))
    assert (orders[:, 3:] == np.arange(3, 8)).all() and set(orders[:, 0]) == {0, 1, 2}


def loss_of(model, objective, batch, draw):
    with torch.inference_mode():
        return float(objective(model.network, batch, draw))


def test_the_objective_is_the_score_in_the_drawn_orders(models):
    model, draw = models["rotary"], Draw(0, OBJECTIVE_DRAW, 0)
    batch = Rows(Documents.of(EVERY.tolist()), 1, N).full_batch()
    orders = model.objective.drawn(batch, draw)
    expected = -model.order_score(EVERY, orders).sum()
    assert loss_of(model, model.objective, batch, draw) == pytest.approx(expected, rel=1e-5)


def test_from_left_to_right_the_objective_is_that_of_the_next_token_which_selects(models):
    model, draw = models["rotary"], Draw(0, VALID_DRAW, 0)
    batch = Rows(TEXT, 1, N).random_batch(6, seed=1, step=2)
    expected = loss_of(model, NEXT_TOKEN, batch, draw)
    assert loss_of(model, Orders(1.0, 0.0), batch, draw) == pytest.approx(expected, rel=1e-5)
    assert loss_of(model, model.objective.selected, batch, draw) == expected


def test_processes_draw_what_one_process_draws_for_the_same_rows(models):
    def loss(processes):
        batch = Rows(TEXT, 1, N, processes=processes).random_batch(7, seed=1, step=2)
        return loss_of(models["rotary"], models["rotary"].objective, batch, Draw(3, OBJECTIVE_DRAW, 5, processes))

    assert sum(loss(Processes(rank, 3)) for rank in range(3)) == pytest.approx(loss(Processes()), rel=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"left_to_right": 0.8, "middle_last": 0.3}, "left_to_right and middle_last sum to 1.1; allowed: at most 1"),
        ({"ngram_embeddings": [2]}, "at most 0 items"),
    ],
)
def test_shares_of_more_than_all_rows_and_embeddings_of_neighbours_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        MODEL_TYPES["any_order"].model_validate({**TINY, **keys})


# The bound of random orders


def bound_of(model, samples=4):
    bound = build(MODEL_TYPES["bound"](of="any_order", base=model.config, samples=samples), V)
    bound.derive(model, TEXT)
    return bound


def mean_over_orders(model, rows, first):
    """(B,) nats of the tokens from ``first`` on, the others known, over every order of them."""
    orders = [[*range(first), *order] for order in itertools.permutations(range(first, N))]
    return -np.mean([model.order_score(rows, in_order(rows, order))[:, first:].sum(1) for order in orders], 0)


@pytest.mark.parametrize("samples", [2, 8])
@pytest.mark.parametrize("first", [0, 2])
def test_the_bound_is_within_four_standard_errors_of_the_mean_over_all_orders(models, samples, first):
    model, wanted = models["rotary"], np.tile(np.arange(N) >= first, (len(EVERY), 1))
    estimate = bound_of(model, samples).halves(EVERY, None, wanted).sum(-1)
    error = np.sqrt(((estimate[0] - estimate[1]) ** 2 / 4).sum())
    exact = mean_over_orders(model, EVERY, first)
    assert abs((estimate.mean(0) - exact).sum()) < 4 * error + 1e-6
    assert (error > 0) == (first == 0 or samples == 2)  # two tokens have two orders, one the reverse of the other


def test_the_bound_is_above_the_code_length_of_the_mixture_of_all_orders(models):
    model, orders = models["rotary"], [*itertools.permutations(range(N))]
    mixture = np.mean([np.exp(model.order_score(EVERY, in_order(EVERY, order)).sum(1)) for order in orders], 0)
    assert (mean_over_orders(model, EVERY, 0) >= -np.log(mixture) - 1e-6).all()
    assert mixture.sum() == pytest.approx(1, abs=1e-5)


def test_the_bound_of_one_token_is_exact_and_rows_stand_for_themselves(models):
    bound, wanted = bound_of(models["rotary"]), np.tile(np.arange(N) == 2, (len(EVERY), 1))
    assert np.allclose(-bound.halves(EVERY, None, wanted)[0][:, 2], models["rotary"].score(EVERY)[:, 2], atol=1e-6)
    scores = bound.score(EVERY)
    assert (scores <= 0).all() and np.allclose(bound.score(EVERY[::-1])[::-1], scores, atol=1e-6)
    behind = bound.halves(EVERY, None, np.tile(np.arange(N) < 2, (len(EVERY), 1)))[..., :2]
    assert np.allclose(behind.mean(0), -bound.score(EVERY[:, :2]), atol=1e-6)


def test_a_config_may_have_the_bound_of_any_order(models, tmp_path):
    record = MODEL_TYPES["bound"](of="any_order", base=models["rotary"].config)
    assert type(record).model_validate(record.model_dump(mode="json")) == record
    text = "corpora: {coined: {source: coined, count: 50}}\ntokenizers: {char: {kind: char}}\n"
    models_of = "models: {any_order: {steps: 30}, orders: {type: bound, of: any_order}, fim: {steps: 30}}\n"
    (tmp_path / "config.yaml").write_text(text + models_of)
    run = read_run(tmp_path / "config.yaml")
    assert run.bounds() == ["orders"] and run.facts()["orders"]["of"] == "any_order"
    (tmp_path / "config.yaml").write_text(text + models_of.replace("of: any_order", "of: fim"))
    with pytest.raises(UserError, match=r"'fim' is of type fim, which has no bound; allowed: .*any_order"):
        read_run(tmp_path / "config.yaml")


# Faults


def test_a_target_position_that_is_off_by_one_breaks_the_agreement_of_gaps_and_orders(models, monkeypatch):
    own_and_targets = AnyOrderNetwork.own_and_targets

    def shifted(self, positions):
        own, targets = own_and_targets(self, positions)
        return (own, targets) if isinstance(positions, slice) else (own, (targets - 1).clamp_min(0))

    monkeypatch.setattr(AnyOrderNetwork, "own_and_targets", shifted)
    model = models["rotary"]
    assert not np.allclose(model.order_score(EVERY, in_order(EVERY, ORDERS["left"])), model.score(EVERY), atol=1e-6)


def test_an_input_that_stands_where_its_target_does_breaks_a_law(models, monkeypatch):
    """Each place reads the token that it predicts."""
    states = AnyOrderNetwork.states

    def leaking(self, tokens, places=None):
        following = torch.cat([tokens[:, 1:], tokens[:, :1]], dim=1)
        return states(self, following, places)

    monkeypatch.setattr(AnyOrderNetwork, "states", leaking)
    for order in ORDERS.values():
        with pytest.raises(AssertionError):
            check_order(models["rotary"], order)
