"""The laws of ``evaluation.laws`` on every model. A new model is tested by one line in ``SMALL``."""

from functools import cache

import numpy as np
import pytest

from lmstages.config.ladder import LADDER, MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.evaluation.laws import LAWS, Broken, Subject
from lmstages.models.base import build

TRAINED = {"steps": 12, "batch_size": 16, "evaluate_every": 6}
SMALL_ATTENTION = {"layers": 2, "heads": 2, "width": 16, "window": 8, "row_length": 8, "warmup_steps": 2, **TRAINED}
WHOLE_BLOCKS = {**SMALL_ATTENTION, "key_value_heads": 1, "width": 32, "hidden": 32}
SMALL = {
    "uniform": {},
    "unigram": {},
    "bigram": {},
    "ngram": {"order": 4},
    "kneser_ney": {"order": 4},
    "infini_gram": {"shared_from": 4},
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
    "mingru": {"embedding": 6, "hidden": 12, "row_length": 8, **TRAINED},
    "minlstm": {"embedding": 6, "hidden": 12, "feedforward": 8, "row_length": 8, **TRAINED},
    "gpt": SMALL_ATTENTION,
    "residual": {**SMALL_ATTENTION, "order": 4, "folds": 3},
    "llama": {**SMALL_ATTENTION, "key_value_heads": 1, "hidden": 24},
    "llama_q8": {"base": WHOLE_BLOCKS},
    "llama_q4": {"base": WHOLE_BLOCKS},
    "llama_cpp": {"base": WHOLE_BLOCKS},
    "fim": SMALL_ATTENTION,
    "any_order": {**SMALL_ATTENTION, "value_embeddings": True},
    "block_diffusion": {**SMALL_ATTENTION, "block": 2},
    "masked_diffusion": SMALL_ATTENTION,
    "knn": {"base": {"type": "gpt", **SMALL_ATTENTION}, "neighbours": 6},
    "bound": {"base": SMALL_ATTENTION, "samples": 2},
    "uniform_diffusion": {**SMALL_ATTENTION, "samples": 2},
    "sundae": {**SMALL_ATTENTION, "samples": 2},
    "sed": {**SMALL_ATTENTION, "samples": 2, "embedding": 4},
    "modern_gpt": {**SMALL_ATTENTION, "value_embeddings": True, "ngram_embeddings": [2, 3], "ngram_buckets": 50},
}
ONLINE = {  # the same models, evaluated online: each row is learned while it is scored
    "ppm, online": ("ppm", {"order": 3, "online": True}),
    "context_mixing, online": ("context_mixing", {"order": 3, "online": True}),
}
NAMES = [*SMALL, *ONLINE]


def config_of(name):
    model_type, keys = ONLINE.get(name) or (name, SMALL[name])
    return MODEL_TYPES[model_type].model_validate(keys)


UNLIMITED = [name for name in NAMES if config_of(name).context is None]
BOUNDS = [name for name in NAMES if config_of(name).category == "bound"]
LIMITED = [name for name in NAMES if name not in (*UNLIMITED, *BOUNDS)]


def fitted(name, seed=0, tokens=None):
    return Subject(config_of(name)).fitted(seed, tokens)


@cache
def subject(name):
    return Subject(config_of(name))


def concerned(law):
    return [name for name in NAMES if LAWS[law].concerns(subject(name))]


def test_every_model_of_the_ladder_is_tested():
    assert set(MODEL_TYPES) == set(SMALL) and len(LADDER) == len(MODEL_TYPES)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", NAMES)
def test_the_model_keeps_the_law(name, law):
    if LAWS[law].concerns(subject(name)):
        LAWS[law].check(subject(name))


def test_laws_of_some_models_concern_those():
    assert concerned("context") == concerned("cut") == LIMITED and concerned("before") == UNLIMITED
    assert {"gpt", "lstm", "mlp"} <= set(concerned("gradient")) and "bigram" not in concerned("gradient")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "llama_cpp"])  # whose file has tokens of its own
def test_of_a_vocabulary_of_one_token_every_model_is_certain(name):
    """A text of empty lines, or one that holds one character and no boundary, has no other."""
    model, documents = build(config_of(name), 1), Documents.of([[0] * 9, [0] * 30, [0]])
    model.fit(documents, documents, 0)
    assert np.allclose(model.score(np.zeros((2, 9), dtype=int)), 0)


# The token before a row: a mistake there is caught


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
@pytest.mark.parametrize("name", UNLIMITED)
def test_without_a_limit_a_mistaken_token_before_a_row_is_caught(name, fault, monkeypatch):
    break_score(subject(name).model, fault, monkeypatch)
    with pytest.raises(Broken):
        LAWS["before"].check(subject(name))


@pytest.mark.parametrize("fault", ["ignores it", "takes another row's"])
@pytest.mark.parametrize("name", [name for name in LIMITED if config_of(name).context > 0])
def test_with_a_limit_a_mistaken_token_before_a_row_is_caught(name, fault, monkeypatch):
    break_score(subject(name).model, fault, monkeypatch)
    with pytest.raises(Broken):
        LAWS["cut"].check(subject(name))


def test_more_context_predicts_a_cycle_better():
    cycle = np.tile([1, 2, 1, 3], 200)
    scores = [
        fitted(name, tokens=cycle).score(cycle[None]).mean() for name in ("uniform", "unigram", "bigram", "ngram")
    ]
    assert scores == sorted(scores) and scores[-1] > -0.05
