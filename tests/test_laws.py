"""The laws every model keeps. A new model is tested by one line in ``SMALL``."""

from importlib.util import find_spec

import numpy as np
import pytest

from lmstages.config.ladder import LADDER, MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.evaluation.sampling import sample
from lmstages.models.base import build

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
LEARNING = {  # the same models, learning from what they score
    "ppm, learning": ("ppm", {"order": 3, "online": True}),
    "context_mixing, learning": ("context_mixing", {"order": 3, "online": True}),
}
NAMES = [*SMALL, *LEARNING]


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, V, shape)


def fitted(name, seed=0, tokens=None):
    if name == "llama_cpp" and find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed: tests/llama_cpp.sh builds it")
    config, keys = LEARNING.get(name) or (name, SMALL[name])
    model = build(MODEL_TYPES[config].model_validate(keys), V)
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


def test_context_is_honest(model):
    x, y = drawn(6, 3, 12), drawn(7, 3, 12)
    if model.config.context is None or model.config.context >= 12:
        pytest.skip("this model's context is longer than the row")
    last = 12 - model.config.context - 1
    y[:, last:] = x[:, last:]
    assert np.allclose(model.score(x)[:, -1], model.score(y)[:, -1], atol=1e-5)


def test_rows_do_not_see_each_other(model):
    x = drawn(8, 5, 12)
    alone = np.concatenate([model.score(row[None]) for row in x])
    assert np.allclose(model.score(x), alone, atol=1e-5)
    assert np.allclose(model.score(x[::-1]), model.score(x)[::-1], atol=1e-5)


def test_what_stands_before_a_row_is_its_context(model):
    x = drawn(9, 4, 5)
    assert np.array_equal(model.score(x, np.zeros(4, dtype=np.int64)), model.score(x))
    if (model.config.context or 0) >= 1:
        assert not np.allclose(model.score(x, np.full(4, 3)), model.score(x))


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
