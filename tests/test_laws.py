"""The laws every model keeps. A new model is tested by one line in ``SMALL``."""

import numpy as np
import pytest
import torch

from lmstages.config.ladder import LADDER, MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.evaluation.sampling import sample
from lmstages.models.base import build
from lmstages.models.counts.sequential import SequentialModel

V = 7
TRAINED = {"steps": 12, "batch_size": 16, "evaluate_every": 6}
SMALL_ATTENTION = {"layers": 2, "heads": 2, "width": 16, "window": 8, "row_length": 8, "warmup_steps": 2, **TRAINED}
WHOLE_BLOCKS = {**SMALL_ATTENTION, "key_value_heads": 1, "width": 32, "hidden": 32}
SMALL = {
    "uniform": {},
    "unigram": {},
    "bigram": {},
    "ngram": {"order": 4},
    "kneser_ney": {"order": 4},
    "cache": {"window": 5},
    "ppm": {"order": 3},
    "context_mixing": {"order": 3},
    "neural_bigram": {"width": 8, **TRAINED},
    "autograd": {"window": 3, "embedding": 4, "hidden": [8], "examples": 60, "epochs": 1},
    "mlp": {"window": 3, "embedding": 6, "hidden": 16, **TRAINED},
    "wavenet": {"layers": 2, "embedding": 6, "hidden": 16, **TRAINED},
    "rnn": {"embedding": 6, "hidden": 12, "row_length": 8, **TRAINED},
    "gru": {"embedding": 6, "hidden": 12, "row_length": 8, **TRAINED},
    "lstm": {"embedding": 6, "hidden": 12, "row_length": 8, **TRAINED},
    "gpt": SMALL_ATTENTION,
    "residual": {**SMALL_ATTENTION, "order": 4, "folds": 3},
    "llama": {**SMALL_ATTENTION, "key_value_heads": 1, "hidden": 24},
    "llama_q8": {"base": WHOLE_BLOCKS},
    "llama_q4": {"base": WHOLE_BLOCKS},
    "llama_cpp": {"base": WHOLE_BLOCKS},
    "modern_gpt": {**SMALL_ATTENTION, "value_embeddings": True, "ngram_embeddings": [2, 3], "ngram_buckets": 50},
}
ONLINE = {  # the same models, evaluated online: each row is learned while it is scored
    "ppm, online": ("ppm", {"order": 3, "online": True}),
    "context_mixing, online": ("context_mixing", {"order": 3, "online": True}),
}
NAMES = [*SMALL, *ONLINE]


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, V, shape)


def config_of(name):
    model_type, keys = ONLINE.get(name) or (name, SMALL[name])
    return MODEL_TYPES[model_type].model_validate(keys)


UNLIMITED = [name for name in NAMES if config_of(name).context is None]
LIMITED = [name for name in NAMES if name not in UNLIMITED]


def fitted(name, seed=0, tokens=None):
    model = build(config_of(name), V)
    train = Documents.of([[*row, 0] for row in drawn(1, 40, 9)]) if tokens is None else Documents.single(tokens)
    model.fit(train, train, seed)
    return model


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return fitted(request.param)


def test_every_model_of_the_ladder_is_tested():
    assert set(MODEL_TYPES) == set(SMALL) and len(LADDER) == len(MODEL_TYPES)


@pytest.mark.parametrize("length", [0, 1, 5, 12])
def test_probabilities_sum_to_one(model, length):
    assert np.allclose(np.exp(model.next_log_probs(drawn(2, 4, length))).sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("length", [1, 5, 12])
def test_score_is_next_log_probs_of_what_came(model, length):
    x = drawn(3, 4, length)
    expected = [model.next_log_probs(x[:, :t])[range(4), x[:, t]] for t in range(length)]
    assert np.allclose(model.score(x), np.stack(expected, 1), atol=1e-5)


def test_the_future_does_not_matter(model):
    x, y = drawn(4, 3, 12), drawn(5, 3, 12)
    y[:, :7] = x[:, :7]
    assert np.allclose(model.score(x)[:, :7], model.score(y)[:, :7], atol=1e-6)


@pytest.mark.parametrize("model", LIMITED, indirect=True)
def test_context_is_honest(model):
    x, y = drawn(6, 3, 12), drawn(7, 3, 12)
    last = 12 - model.config.context - 1
    y[:, last:] = x[:, last:]
    assert np.allclose(model.score(x)[:, -1], model.score(y)[:, -1], atol=1e-5)


def test_rows_do_not_see_each_other(model):
    x = drawn(8, 5, 12)
    alone = np.concatenate([model.score(row[None]) for row in x])
    assert np.allclose(model.score(x), alone, atol=1e-5)
    assert np.allclose(model.score(x[::-1]), model.score(x)[::-1], atol=1e-5)


# The token before a row: ``score(tokens, before)`` reads it where the boundary stands otherwise


def scores_behind(model, before, tokens):
    """(B,), (B, T) -> (B, T) from a model's own parts, which read ``before`` first and no boundary before that."""
    if isinstance(model, SequentialModel):
        return np.array([advance_in_turn(model.fork(), *pair) for pair in zip(before, tokens, strict=True)])
    rows = torch.from_numpy(np.column_stack([before, tokens]))
    with torch.inference_mode():
        return model.logits(rows[:, :-1]).log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0].numpy()


def advance_in_turn(model, before, tokens):
    model.begin(int(before))
    scores = []
    for token in tokens:
        scores.append(model.distribution()[token])
        model.advance(np.array([token]))
    return scores


def test_the_boundary_stands_before_a_row_by_default(model):
    x = drawn(9, 4, 5)
    assert np.array_equal(model.score(x, np.zeros(4, dtype=np.int64)), model.score(x))


def test_another_token_before_a_row_changes_its_scores_unless_there_is_no_context(model):
    x = drawn(9, 4, 5)
    same = np.allclose(model.score(x, np.full(4, 3)), model.score(x))
    assert same == (model.config.context == 0)


@pytest.mark.parametrize("model", LIMITED, indirect=True)
def test_a_row_that_is_cut_scores_as_within_the_whole_once_the_token_before_it_completes_the_context(model):
    x, context = drawn(9, 4, 12), model.config.context
    cut = model.score(x[:, 1:], before=x[:, 0])
    assert np.allclose(cut[:, max(context - 1, 0) :], model.score(x)[:, max(context, 1) :], atol=1e-6)


@pytest.mark.parametrize("model", UNLIMITED, indirect=True)
def test_without_a_limit_to_the_context_the_token_before_a_row_is_read_first(model):
    x, before = drawn(9, 4, 12), drawn(19, 4)
    assert np.allclose(model.score(x, before), scores_behind(model, before, x), atol=1e-6)


FAULTS = {
    "ignores it": lambda score, tokens, before: score(tokens),
    "takes another row's": lambda score, tokens, before: score(tokens, np.roll(before, 1)),
    "reads it behind a boundary": lambda score, tokens, before: score(np.column_stack([before, tokens]))[:, 1:],
}


def break_score(model, fault, monkeypatch):
    score = model.score

    def faulty_score(tokens, before=None):
        return score(tokens) if before is None else FAULTS[fault](score, tokens, before)

    monkeypatch.setattr(model, "score", faulty_score)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("model", UNLIMITED, indirect=True)
def test_without_a_limit_a_mistaken_token_before_a_row_would_be_caught(model, fault, monkeypatch):
    break_score(model, fault, monkeypatch)
    with pytest.raises(AssertionError):
        test_without_a_limit_to_the_context_the_token_before_a_row_is_read_first(model)


@pytest.mark.parametrize("fault", ["ignores it", "takes another row's"])
@pytest.mark.parametrize("model", [name for name in LIMITED if config_of(name).context > 0], indirect=True)
def test_with_a_limit_a_mistaken_token_before_a_row_would_be_caught(model, fault, monkeypatch):
    break_score(model, fault, monkeypatch)
    with pytest.raises(AssertionError):
        test_a_row_that_is_cut_scores_as_within_the_whole_once_the_token_before_it_completes_the_context(model)


def test_every_token_is_possible(model):
    assert np.isfinite(model.next_log_probs(drawn(10, 6, 4))).all()


def test_a_saved_model_is_the_same_model(model):
    again = build(model.config, V)
    again.restore({name: np.array(array) for name, array in model.arrays().items()})
    x = drawn(11, 3, 10)
    assert np.array_equal(again.score(x), model.score(x)) and again.parameters() == model.parameters()


def test_a_sample_is_reproducible(model):
    first, second = (sample(model, 3, 10, seed=5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_refitting_forgets(name):
    model = fitted(name)
    other = Documents.single(drawn(12, 200))
    model.fit(other, other, 3)
    fresh = build(model.config, V)
    fresh.fit(other, other, 3)
    x = drawn(13, 3, 10)
    assert np.array_equal(model.score(x), fresh.score(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_model(name):
    x = drawn(14, 3, 10)
    assert np.array_equal(fitted(name, seed=2).score(x), fitted(name, seed=2).score(x))


def test_more_context_predicts_a_cycle_better():
    cycle = np.tile([1, 2, 1, 3], 200)
    scores = [
        fitted(name, tokens=cycle).score(cycle[None]).mean() for name in ("uniform", "unigram", "bigram", "ngram")
    ]
    assert scores == sorted(scores) and scores[-1] > -0.05
