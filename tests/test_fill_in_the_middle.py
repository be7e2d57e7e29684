"""Fill in the middle: what is rearranged and what is a target, probabilities of rows and of gaps, faults that show."""

import itertools

import numpy as np
import pytest
import torch

from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.evaluation import any_length
from lmstages.evaluation.fillers import Gaps, filler_of
from lmstages.evaluation.laws import LAWS, Broken, Subject
from lmstages.models.base import TooLongError, build
from lmstages.models.neural import modern_gpt
from lmstages.models.neural.attention import attend_where
from lmstages.models.nonautoregressive import fill_in_the_middle
from lmstages.models.nonautoregressive.fill_in_the_middle import FillInTheMiddleNetwork, MiddleLast, Part, sentinel
from lmstages.models.nonautoregressive.gaps import sides_within
from lmstages.training.batches import IGNORED, Batch, Rows
from lmstages.training.distributed import Processes
from lmstages.training.objectives import NEXT_TOKEN, OBJECTIVE_DRAW, VALID_DRAW, Draw

V, N = 3, 5
TINY = {"layers": 1, "heads": 2, "width": 8, "window": N, "row_length": N, "batch_size": 8, "warmup_steps": 2}
TINY |= {"steps": 30, "evaluate_every": 15}
TEXT = Documents.of([[*row, 0] for row in np.random.default_rng(0).integers(0, V, (40, 9)).tolist()])
LEFT, RIGHT = np.array([[2, 1]]), np.array([[1]])
END, PRE, SUF, MID = (sentinel(part, V) for part in (Part.END, Part.PRE, Part.SUF, Part.MID))


def every(length):
    return np.array([*itertools.product(range(V), repeat=length)], dtype=np.int64).reshape(V**length, length)


def fitted(seed=0, **keys):
    model = build(MODEL_TYPES["fim"].model_validate({**TINY, **keys}), V)
    model.fit(TEXT, TEXT, seed)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def tied():
    return fitted(tied_output=True, rotary=False, value_embeddings=True, ngram_embeddings=[2])


# Rows and gaps


def beside(middles):
    """Both sides, once for each middle."""
    return np.repeat(LEFT, len(middles), 0), middles, np.repeat(RIGHT, len(middles), 0)


@pytest.mark.parametrize("name", ["model", "tied"])
def test_the_probabilities_of_all_rows_from_left_to_right_sum_to_one(name, request):
    assert np.exp(request.getfixturevalue(name).score(every(4)).sum(1)).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("arrangement", ["psm", "spm"])
@pytest.mark.parametrize("name", ["model", "tied"])
def test_the_probabilities_of_all_gaps_of_a_length_sum_to_one(name, arrangement, request):
    scores = request.getfixturevalue(name).fill_score(*beside(every(2)), arrangement)
    assert scores.shape == (V**2, 2) and np.exp(scores.sum(1)).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("arrangement", ["psm", "spm"])
def test_the_probabilities_of_all_gaps_of_any_length_sum_to_one(model, arrangement):
    scores = [model.fill_score(*beside(every(k)), arrangement, longest=2) for k in range(3)]
    ended = sum(np.exp(score.sum(1)).sum() for score in scores)
    longer = np.exp(scores[2][:, :2].sum(1)).sum() - np.exp(scores[2].sum(1)).sum()
    assert [score.shape[1] for score in scores] == [1, 2, 3] and ended + longer == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("first", [0, 1])
def test_a_gap_whose_length_is_not_told_is_filled_and_ended_by_the_model(model, first, monkeypatch):
    monkeypatch.setattr(any_length, "LONGEST", 2)
    filler = any_length.any_length(filler_of(model, first), model)
    gaps = [Gaps(*beside(every(length)[every(length).min(1) >= first])) for length in (1, 2)]
    nats = [filler.fill(some).log_probs.sum(1) for some in gaps]
    assert sum(np.exp(of_length).sum() for of_length in nats) == pytest.approx(1, abs=1e-5)
    ends = model.fill_or_end_log_probs(LEFT, np.array([[1]]), RIGHT, 2)
    assert ends[0, -1] == pytest.approx(model.fill_score(LEFT, np.array([[1]]), RIGHT, longest=2)[0, 1], abs=1e-6)


@pytest.mark.parametrize("arrangement", ["psm", "spm"])
def test_a_gap_is_filled_token_by_token_as_it_is_scored(arrangement):
    model, (left, middle, right) = fitted(arrangement=arrangement), beside(every(2))
    steps = [
        model.fill_log_probs(left, middle[:, :j], right, hidden=2 - j)[range(len(middle)), middle[:, j]]
        for j in range(2)
    ]
    assert np.allclose(np.column_stack(steps), model.fill_score(left, middle, right), atol=1e-6)


def test_the_next_token_of_a_gap_does_not_depend_on_how_many_follow_where_both_sides_fit(model):
    one, other = (model.fill_log_probs(LEFT, np.empty((1, 0), dtype=int), RIGHT, hidden) for hidden in (1, 2))
    assert np.array_equal(one, other) and np.exp(one).sum() == pytest.approx(1, abs=1e-6)


def test_both_sides_and_the_token_before_them_are_read(model):
    gap, long = np.array([[0]]), np.tile([2, 1, 0, 2], (1, 2))
    base = model.fill_score(LEFT, gap, RIGHT)
    assert not np.allclose(base, model.fill_score(np.array([[2, 2]]), gap, RIGHT))
    assert not np.allclose(base, model.fill_score(LEFT, gap, np.array([[2]])))
    before = long.copy()
    before[0, 8 - 3] = 0  # of four tokens beside the gap two are left of it; this one stands before them
    assert not np.allclose(model.fill_score(long, gap, long), model.fill_score(before, gap, long))


def test_a_window_has_room_for_the_nearest_tokens_of_both_sides():
    left, right = np.arange(1, 7)[None], np.arange(11, 19)[None]
    sides = sides_within(8, 2, left, right)
    assert (sides.before.tolist(), sides.left.tolist(), sides.right.tolist()) == ([3], [[4, 5, 6]], [[11, 12, 13]])
    short = sides_within(8, 2, left[:, :1], right)
    assert (short.before.tolist(), short.left.tolist(), short.right.shape) == ([0], [[1]], (1, 5))
    assert sides_within(8, 8, left, right).before.tolist() == [6]


def test_a_gap_longer_than_the_window_is_refused(model):
    with pytest.raises(TooLongError, match="a gap of 6 tokens: the model reads 5 tokens; hide fewer"):
        model.fill_log_probs(LEFT, np.empty((1, 0), dtype=int), RIGHT, hidden=6)


def test_the_end_of_a_gap_has_no_probability_from_left_to_right(model):
    with torch.inference_mode():
        tokens = torch.from_numpy(np.column_stack([np.zeros(V**3, dtype=int), every(3)]))
        all_but_end = model.network(tokens, torch.zeros_like(tokens, dtype=torch.bool)).log_softmax(-1)
        assert torch.allclose(all_but_end[..., :V], model.network(tokens).log_softmax(-1), atol=1e-6)
    assert torch.isinf(all_but_end[..., V]).all()


# The objective


class Given(MiddleLast):
    """Rows that are cut where a test says, in the order that it says."""

    def __init__(self, parts, order):
        super().__init__(0.5, V)
        self.parts, self.order = parts, order

    def drawn(self, batch, draw):
        return np.array([self.parts]), np.array([self.order])


def batch_of_one(*tokens, length):
    targets = [*tokens, *[IGNORED] * (length - len(tokens))]
    inputs = [0, *tokens, *[0] * length][:length]
    return Batch(torch.tensor([inputs]), torch.tensor([targets]), np.array([len(tokens)]))


ROW = batch_of_one(1, 2, 2, 1, 0, length=6)
PARTS = [Part.PREFIX, Part.PREFIX, Part.MIDDLE, Part.MIDDLE, Part.SUFFIX, Part.SUFFIX, Part.PAST]
PARTS += [Part.END, Part.PRE, Part.SUF, Part.MID]
IGN = IGNORED
REARRANGED = {  # row 1 | 2 2 | 1 0 behind token 0
    "plain": ([0, 1, 2, 2, 1, 0, 0, END, PRE, SUF], [1, 2, 2, 1, 0, IGN, IGN, IGN, IGN, IGN], ""),
    "psm": ([PRE, 0, 1, SUF, 1, 0, MID, 2, 2, END], [IGN, 1, IGN, 1, 0, IGN, 2, 2, END, IGN], "678"),
    "spm": ([PRE, SUF, 1, 0, MID, 0, 1, 2, 2, END], [IGN, 1, 0, IGN, IGN, 1, 2, 2, END, IGN], "678"),
}


@pytest.mark.parametrize("order", REARRANGED)
def test_a_rearranged_row_has_these_inputs_and_targets(order):
    inputs, targets, ends = Given(PARTS, [*REARRANGED].index(order)).rearranged(ROW, Draw(0, OBJECTIVE_DRAW, 0))
    expected_inputs, expected_targets, expected_ends = REARRANGED[order]
    assert inputs.tolist() == [expected_inputs] and targets.tolist() == [expected_targets]
    assert [str(place) for place in np.flatnonzero(ends[0].numpy())] == [*expected_ends]


def rearranged(rate=1.0, step=0, seed=1, count=64):
    batch = Rows(TEXT, 1, N).random_batch(count, seed, step)
    return batch, MiddleLast(rate, V).rearranged(batch, Draw(seed, OBJECTIVE_DRAW, step))


def check_targets(batch, inputs, targets, may_end):
    """Every token of a row is a target once; behind them comes one end; no sentinel is one."""
    arrays = (part.numpy() for part in (batch.targets, inputs, targets, may_end))
    for row, arranged, predicted, ends in zip(*arrays, strict=True):
        is_target, is_rearranged = predicted != IGNORED, bool(arranged[0] == PRE)
        assert sorted(predicted[is_target]) == sorted([*row[row != IGNORED], *[END] * is_rearranged])
        assert ends.any() == is_rearranged
        if is_rearranged:
            assert predicted[is_target][-1] == END
            assert np.array_equal(np.flatnonzero(ends), np.flatnonzero(is_target)[-ends.sum() :])


def test_every_token_is_a_target_once_and_the_end_of_a_middle_stands_last():
    for rate in (0.0, 0.5, 1.0):
        batch, parts = rearranged(rate)
        check_targets(batch, *parts)


def test_half_of_the_rows_are_rearranged_half_of_these_in_either_way_and_cuts_are_uniform():
    batch = Rows(TEXT, 1, N).random_batch(20_000, 0, 0)
    parts, orders = MiddleLast(0.5, V).drawn(batch, Draw(0, OBJECTIVE_DRAW, 0))
    assert np.bincount(orders) / len(orders) == pytest.approx([0.5, 0.25, 0.25], abs=0.02)
    whole = (batch.lengths == N) & (orders > 0)
    prefix, middle = ((parts[whole, 1 : 1 + N] == part).sum(1) for part in (Part.PREFIX, Part.MIDDLE))
    pairs = [min(a, b) for a in range(N + 1) for b in range(N + 1)]  # two places of six
    assert np.bincount(prefix, minlength=N + 1) / whole.sum() == pytest.approx(np.bincount(pairs) / 36, abs=0.03)
    assert (middle == 0).mean() == pytest.approx(1 / 6, abs=0.03)


def loss_of(model, objective, batch, draw):
    with torch.inference_mode():
        return float(objective(model.network, batch, draw))


def test_processes_draw_what_one_process_draws_for_the_same_rows(model):
    def loss(processes):
        batch = Rows(TEXT, 1, N, processes=processes).random_batch(7, seed=1, step=2)
        return loss_of(model, model.objective, batch, Draw(3, OBJECTIVE_DRAW, 5, processes))

    assert sum(loss(Processes(rank, 3)) for rank in range(3)) == pytest.approx(loss(Processes()), rel=1e-5)


def test_without_rearranged_rows_the_objective_is_that_of_the_next_token(model):
    batch, draw = Rows(TEXT, 1, N).random_batch(6, seed=1, step=2), Draw(0, VALID_DRAW, 0)
    expected = loss_of(model, NEXT_TOKEN, batch, draw)
    assert loss_of(model, MiddleLast(0.0, V), batch, draw) == pytest.approx(expected, rel=1e-5)
    with torch.inference_mode():
        assert float(model.objective.selected(model.network, batch, draw)) == expected


@pytest.mark.parametrize("arrangement", ["psm", "spm"])
def test_what_a_middle_costs_in_training_is_what_filling_it_costs(model, arrangement):
    rows = batch_of_one(2, 1, 0, 2, 1, length=N)
    parts = [Part.PREFIX] * 3 + [Part.MIDDLE] * 2 + [Part.SUFFIX] + [Part.END, Part.PRE, Part.SUF, Part.MID]
    order = fill_in_the_middle.ARRANGEMENTS[arrangement]
    inputs, targets, may_end = Given(parts, order).rearranged(rows, Draw(0, OBJECTIVE_DRAW, 0))
    with torch.inference_mode():
        scores = model.network(inputs, may_end).log_softmax(-1)[
            0, torch.arange(len(targets[0])), targets[0].clamp_min(0)
        ]
    expected = model.fill_score(LEFT, np.array([[0, 2]]), RIGHT, arrangement, longest=2)
    assert np.allclose(scores[may_end[0]].numpy(), expected[0], atol=1e-6)


def test_a_middle_that_the_right_side_tells_is_learned():
    rows = np.repeat(np.random.default_rng(1).integers(0, V, (400, 2)), [1, 2], axis=1)  # the last token twice
    text = Documents.of(rows.tolist())
    keys = {"layers": 2, "width": 16, "row_length": 3, "steps": 300, "batch_size": 32, "rate": 0.8, "keep": "last"}
    model = build(MODEL_TYPES["fim"].model_validate({**TINY, **keys}), V)
    model.fit(text, text, 0)
    gaps = [rows[:50, column : column + 1] for column in range(3)]
    assert model.fill_score(*gaps, "psm").mean() > -0.2 and model.fill_score(*gaps, "spm").mean() > -0.2
    assert model.score(rows[:50])[:, 1].mean() < -0.9  # the left side does not tell it


# Faults


def test_an_end_that_may_follow_from_left_to_right_breaks_a_law(monkeypatch):
    monkeypatch.setattr(FillInTheMiddleNetwork, "logits", modern_gpt.Network.logits)
    with pytest.raises(Broken, match="next_log_probs gives an array"):
        LAWS["shape of scores"].check(Subject(MODEL_TYPES["fim"].model_validate({**TINY, "window": 8})))


def test_a_network_that_reads_to_the_right_breaks_a_law(monkeypatch):
    monkeypatch.setattr(modern_gpt, "attend", attend_everywhere)
    with pytest.raises(Broken, match="other tokens from token 7 on"):
        LAWS["future"].check(Subject(MODEL_TYPES["fim"].model_validate({**TINY, "window": 16})))


def attend_everywhere(queries, keys, values, dropout=0.0):
    return attend_where(queries, keys, values, None, dropout)


def test_a_sentinel_that_is_a_target_and_an_end_that_is_none_are_seen():
    batch, (inputs, targets, may_end) = rearranged()
    is_before_middle = torch.roll(inputs, -1, 1) == MID
    for wrong in (targets.masked_fill(targets == END, IGNORED), targets.masked_fill(is_before_middle, MID)):
        with pytest.raises(AssertionError):
            check_targets(batch, inputs, wrong, may_end)


def test_a_right_side_that_holds_the_middle_makes_gaps_sum_to_something_else(model):
    left, middle, right = beside(every(2))
    leaking = model.fill_score(left, middle, np.column_stack([middle, right]), "psm")
    assert np.exp(leaking.sum(1)).sum() != pytest.approx(1, abs=1e-5)
