"""The residual on Kneser-Ney: untrained it is the n-gram; each fold it is trained on was not counted."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lmstages.config.hyperparameters.attention import Residual
from lmstages.config.hyperparameters.counts import KneserNey, Ngram
from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.models.base import build
from lmstages.models.counts.counting import Rows as Cells
from lmstages.models.counts.distributions import Distributions, contexts_after
from lmstages.models.counts.ngram import InterpolatedModel
from lmstages.models.neural.residual import CrossFitted, PositionedDocuments, counted_without
from lmstages.training.batches import Rows

V = 6
SMALL = {"layers": 1, "heads": 2, "width": 16, "window": 8, "row_length": 8, "batch_size": 8, "warmup_steps": 2}


def words(seed, count=60):
    """Documents with something to remember: a few words, each closed by the boundary."""
    drawn = np.random.default_rng(seed)
    vocabulary = [drawn.integers(1, V, drawn.integers(2, 7)).tolist() for _ in range(8)]
    return Documents.of([[*vocabulary[word], 0] for word in drawn.integers(0, 8, count)])


def stream(seed, count=400):
    return Documents.single(np.random.default_rng(seed).integers(0, 3, count))


def residual(steps=4, train=None, **keys):
    model = build(Residual(steps=steps, evaluate_every=steps, order=4, folds=3, **{**SMALL, **keys}), V)
    model.fit(train or words(1), words(2), 0)
    return model


def kneser_ney(train, **keys):
    model = InterpolatedModel(KneserNey(**{"order": 4, **keys}), V)
    model.fit(train, words(2), 0)
    return model


# Whole distributions of an n-gram model

SMOOTHINGS = ["jelinek_mercer", "witten_bell", "absolute", "kneser_ney", "modified_kneser_ney"]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 5])
def test_distributions_are_those_of_the_model_row_by_row(smoothing, order):
    model = InterpolatedModel(Ngram(order=order, smoothing=smoothing), V)
    model.fit(words(1), words(2), 0)
    x = np.random.default_rng(3).integers(0, V, (5, 9))
    contexts = contexts_after(model, Cells.of_batch(x, None, False)).reshape(5, 10, order)
    for length in range(10):
        log_probs = Distributions.of(model).log_probs(contexts[:, length])
        assert np.allclose(log_probs, model.next_log_probs(x[:, :length]), atol=1e-5)


def test_precomputed_sums_change_nothing(monkeypatch):
    model, x = kneser_ney(words(1)), np.random.default_rng(4).integers(0, V, (4, 7))
    contexts = contexts_after(model, Cells.of_batch(x, None, False))
    before = Distributions.of(model).log_probs(contexts)
    monkeypatch.setattr("lmstages.models.counts.distributions.SUMMED", 0)
    plain = Distributions.of(model)
    assert plain.summed == [] and np.allclose(plain.log_probs(contexts), before, atol=1e-6)


def test_models_in_a_joint_table_keep_their_own_distributions():
    models = [kneser_ney(words(seed)) for seed in (1, 5, 6)]
    cells = Cells.of_batch(np.random.default_rng(7).integers(0, V, (4, 7)), None, False)
    parts = [Distributions.of(model) for model in models]
    together, shift = Distributions.concatenated(parts), np.zeros(4, dtype=np.int64)
    for model, part in zip(models, parts, strict=True):
        contexts = contexts_after(model, cells)
        shifted = np.where(contexts >= 0, contexts + shift, -1)
        assert np.allclose(together.log_probs(shifted), part.log_probs(contexts), atol=1e-6)
        shift = shift + part.sizes()


# Cross-fitting


@pytest.mark.parametrize("train", [words(1), stream(1)], ids=["documents", "stream"])
def test_a_fold_is_predicted_by_counts_without_it(train):
    whole, folds = kneser_ney(train), 3
    fitted = CrossFitted(whole, train, words(2), folds)
    log_probs = fitted.log_probs(fitted.train.inputs[None])[0]
    edges = np.linspace(0, len(train), folds + 1).round().astype(int)
    for begin, end in pairwise(edges):
        apart = kneser_ney(without(train, begin, end))
        apart.constants = whole.constants
        for position in range(begin, end, 7):
            first = train.starts[np.searchsorted(train.starts, position, side="right") - 1]
            history = train.tokens[None, first : position + 1]
            assert np.allclose(log_probs[position], apart.next_log_probs(history)[0], atol=1e-5)


def without(train, begin, end):
    """The plain way: documents as lists, split where the tokens of the fold are taken out."""
    rows = []
    for first, last in zip(train.starts[:-1], train.starts[1:], strict=True):
        rows += [train.tokens[first : min(last, begin)].tolist(), train.tokens[max(first, end) : last].tolist()]
    return Documents.of([row for row in rows if row])


def test_counts_without_a_fold_are_less_sure_of_it():
    train = stream(8)
    whole = kneser_ney(train)
    apart = counted_without(whole, train, 100, 300)
    part = train.tokens[None, 100:300]
    assert whole.score(part).mean() > apart.score(part).mean() + 0.05
    assert np.array_equal(apart.constants, whole.constants)


def test_valid_is_predicted_by_all_of_train():
    train, valid = words(1), words(2)
    whole = kneser_ney(train)
    fitted = CrossFitted(whole, train, valid, 3)
    for position in (0, 5, len(valid) - 1):
        first = valid.starts[np.searchsorted(valid.starts, position, side="right") - 1]
        log_probs = fitted.log_probs(fitted.valid.inputs[None, position : position + 1])[0, 0]
        assert np.allclose(log_probs, whole.next_log_probs(valid.tokens[None, first : position + 1])[0], atol=1e-5)


def test_the_start_of_a_document_is_predicted_after_one_boundary():
    train = words(1)
    whole = kneser_ney(train)
    log_probs = CrossFitted(whole, train, words(2), 3).log_probs(np.zeros((1, 1), dtype=np.int64))
    assert np.allclose(log_probs[0, 0], whole.next_log_probs(np.empty((1, 0), dtype=np.int64))[0], atol=1e-5)


def test_batches_carry_positions_in_inputs_and_tokens_in_targets():
    documents = words(1)
    positioned = PositionedDocuments.of_documents(documents, 100, V)
    plain, with_positions = (Rows(texts, 1, 8).cut(np.arange(20)) for texts in (documents, positioned))
    assert torch.equal(plain.targets, with_positions.targets)
    assert torch.equal(plain.inputs, with_positions.inputs % V)
    inside = with_positions.inputs >= V
    positions = (with_positions.inputs // V - 1)[inside].numpy() - 100
    assert np.array_equal(documents.tokens[positions], plain.inputs[inside].numpy())


# The model


def test_before_training_it_is_the_n_gram():
    model, train = residual(learning_rate=1e-12, matrix_learning_rate=1e-12), words(1)
    ngram, x = kneser_ney(train), np.random.default_rng(9).integers(0, V, (4, 20))
    assert np.allclose(model.score(x), ngram.score(x), atol=1e-5)
    assert np.allclose(model.next_log_probs(x[:, :5]), ngram.next_log_probs(x[:, :5]), atol=1e-5)
    assert np.allclose(model.score(x, np.arange(4)), ngram.score(x, np.arange(4)), atol=1e-5)


def test_it_learns_what_the_n_gram_cannot_see():
    """A token comes again six positions later, beyond an n-gram of order 2; in between stands noise."""
    drawn = np.random.default_rng(10)
    blocks = [[first, *drawn.integers(3, V, 5).tolist(), first] for first in drawn.integers(1, 3, 300)]
    train = Documents.of(blocks)
    model = build(Residual(steps=150, evaluate_every=50, order=2, folds=4, **SMALL), V)
    model.fit(train, train, 0)
    ngram = kneser_ney(train, order=2)
    rows = np.array(blocks[:50])
    assert model.score(rows)[:, -1].mean() > ngram.score(rows)[:, -1].mean() + 0.3


def test_the_n_gram_is_stored_as_counted():
    model, ngram = residual(steps=20), kneser_ney(words(1))
    frozen = {name: array for name, array in model.arrays().items() if name.startswith("kneser_ney.")}
    assert set(frozen) == {f"kneser_ney.{name}" for name in ngram.arrays()}
    assert all(np.array_equal(array, frozen[f"kneser_ney.{name}"]) for name, array in ngram.arrays().items())


def test_its_parameters_are_those_of_network_and_n_gram():
    model = residual()
    weights = sum(array.size for name, array in model.arrays().items() if not name.startswith("kneser_ney."))
    assert model.parameters() == weights + kneser_ney(words(1)).parameters()


def test_tuned_discounts_are_those_of_the_n_gram_alone():
    model = residual(discounts="tuned")
    assert np.array_equal(model.arrays()["kneser_ney.constants"], kneser_ney(words(1), discounts="tuned").constants)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"order": 10, "window": 8, "row_length": 8}, "order 10 looks back further than window 8"),
        ({"folds": 1}, "folds"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        MODEL_TYPES["residual"].model_validate(keys)
