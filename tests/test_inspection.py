"""What is laid open is what is there: worked by hand, or taken from models that were made to hold it."""

import json
import math

import numpy as np
import pytest
import torch
from test_cli import call, prepared
from torch.nn import functional

from lmstages.analyses import inspection, projections
from lmstages.config.sections import config_of
from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.models.base import build
from lmstages.models.neural import attention_maps
from lmstages.models.neural.base import NeuralModel
from lmstages.tokenizers.symbols import CharTokenizer

TINY = {"learning_rate": 1e-12}  # so that a fit stays where it begins
SMALL = {
    "neural_bigram": {"width": 4, "steps": 1, "learning_rate": 1e-12},
    "mlp": {"window": 2, "embedding": 4, "hidden": 8, "steps": 1, "learning_rate": 1e-12},
    "gpt": {"layers": 2, "heads": 2, "width": 8, "window": 8, "row_length": 8, "steps": 1, "warmup_steps": 0} | TINY,
    "llama": {"layers": 1, "heads": 2, "key_value_heads": 1, "width": 8, "hidden": 8, "window": 8, "row_length": 8},
    "modern_gpt": {"layers": 2, "heads": 2, "width": 8, "window": 8, "row_length": 8, "zero_projections": False},
}
TRAIN = Documents.of([[1, 2, 3, 4, 0], [2, 3, 0], [4, 4, 1, 0]])
TEXT = CharTokenizer(["\n", "a", "b", "c", "\ufffd\ufffd"], escape=4)


def fresh(config, vocab_size=6, **changes):
    """A model with its initial weights."""
    model = build(config_of({"type": config, "hyperparameters": SMALL[config] | changes}), vocab_size)
    model.restore(model.initial(3))
    return model


# ---------------------------------------------------------------- induction


def test_a_head_that_copies_scores_one_and_a_head_that_attends_to_itself_zero():
    period, length = 4, 8
    copies, itself = np.zeros((length, length)), np.eye(length)
    for position in range(length):
        copies[position, position - period + 1 if position >= period else position] = 1
    assert attention_maps.induction(np.stack([copies, itself]), period).tolist() == [1, 0]


def test_the_score_is_worked_by_hand():
    weights = np.tril(np.arange(36.0).reshape(6, 6)) / 100  # a sequence of three, twice
    assert attention_maps.induction(weights, 3) == pytest.approx((weights[3, 1] + weights[4, 2] + weights[5, 3]) / 3)


def test_tokens_in_front_of_the_sequence_do_not_count():
    weights = np.tril(np.arange(36.0).reshape(6, 6)) / 100  # a boundary, then three tokens, then two of them again
    assert attention_maps.induction(weights, 3, begin=1) == pytest.approx((weights[4, 2] + weights[5, 3]) / 2)


def test_uniform_attention_scores_by_chance():
    rows = np.tril(np.ones((8, 8)))
    score = attention_maps.induction(rows / rows.sum(1, keepdims=True), 4)
    assert score == pytest.approx(np.mean([1 / 5, 1 / 6, 1 / 7, 1 / 8]))


@pytest.mark.parametrize("config", ["gpt", "llama", "modern_gpt"])
def test_an_untrained_network_does_not_copy(config):
    induction = inspection.induction_of(fresh(config), escape=None)
    assert abs(induction["drop"]) < 0.2 and 0 < induction["score"] < 0.6 and induction["period"] == 4
    assert np.max(induction["heads"]) == pytest.approx(induction["score"], abs=1e-4)


# ---------------------------------------------------------------- attention


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_the_weights_are_those_that_torch_attends_with(shared):
    draws = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, heads, 5, 3, generator=draws) for heads in (4, shared, shared))
    expected = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=shared < 4)
    mixed = attention_maps.weights(queries, keys) @ values.repeat_interleave(4 // shared, dim=1)
    torch.testing.assert_close(mixed, expected)


@pytest.mark.parametrize(("config", "layers"), [("gpt", 2), ("llama", 1), ("modern_gpt", 2)])
def test_attention_is_recorded_layer_by_layer_and_recording_changes_no_score(config, layers):
    model, tokens = fresh(config), np.array([[1, 2, 3, 4, 5, 1]])
    maps, scores = attention_maps.attention(model, tokens)
    assert maps.shape == (layers, 1, 2, 6, 6) and np.allclose(maps.sum(-1), 1, atol=1e-6)
    assert not np.triu(maps, 1).any()
    np.testing.assert_allclose(scores, model.score(tokens), atol=1e-6)


def test_a_model_without_attention_has_no_maps():
    assert attention_maps.attention(fresh("mlp"), np.array([[1, 2, 3]])) is None


# ---------------------------------------------------------------- embeddings


@pytest.mark.parametrize("config", ["neural_bigram", "mlp", "gpt"])
def test_initial_arrays_are_those_that_a_fit_begins_with(config):
    model = build(config_of({"type": config, "hyperparameters": SMALL[config]}), 6)
    assert isinstance(model, NeuralModel)
    before = model.initial(5)
    model.fit(TRAIN, TRAIN, seed=5)
    for name, array in model.arrays().items():
        np.testing.assert_allclose(array, before[name], atol=1e-6)
    assert any((model.initial(6)[name] != before[name]).any() for name in before)


def test_two_separated_groups_have_a_silhouette_near_one_and_mixed_ones_near_none():
    draws = np.random.default_rng(0)
    groups = np.repeat(["vowels", "consonants"], 10)
    apart = draws.normal(0, 0.02, (20, 4)) + np.where(groups == "vowels", 1, -1)[:, None]
    assert projections.silhouette(apart, groups) > 0.95
    assert abs(projections.silhouette(draws.normal(0, 1, (20, 4)), groups)) < 0.15


def test_one_group_has_no_silhouette():
    assert projections.silhouette(np.eye(4), np.array(["vowels"] * 4)) is None


def test_cosines_are_those_of_the_angles():
    found = projections.cosines(np.array([[2.0, 0], [0, 3], [1, 1], [-5, 0], [0, 0]]))
    wanted = [[1, 0, math.sqrt(0.5), -1, 0], [0, 1, math.sqrt(0.5), 0, 0]]
    np.testing.assert_allclose(found[:2], wanted, atol=1e-12)


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(1).normal(0, 1, (30, 6)) * [5, 3, 1, 1, 1, 1]
    points, shares = projections.principal(vectors)
    theirs = PCA(2).fit(vectors)
    np.testing.assert_allclose(np.abs(points), np.abs(theirs.transform(vectors)), atol=1e-9)
    np.testing.assert_allclose(shares, theirs.explained_variance_ratio_, atol=1e-12)


def test_tsne_keeps_two_far_groups_apart_and_is_the_same_twice():
    draws = np.random.default_rng(2)
    vectors = draws.normal(0, 0.1, (16, 5)) + np.repeat([0, 50], 8)[:, None]
    points = projections.tsne(vectors)
    assert projections.silhouette(points - points.mean(0), np.repeat([0, 1], 8)) > 0.5
    assert (points == projections.tsne(vectors)).all()


# ---------------------------------------------------------------- counts


def test_pairs_are_counted_by_hand_with_a_boundary_before_each_document():
    found = inspection.Counts.of(Documents.of([[1, 2, 1, 0], [2, 2, 0]]), TEXT)
    assert found.labels == ["↵", "a", "b"] and found.single.tolist() == [2, 2, 3]
    assert found.pairs.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert found.before.tolist() == [2, 2, 3]


def test_counting_in_pieces_counts_the_same(monkeypatch):
    whole = inspection.Counts.of(Documents.of([[1, 2, 1, 0], [2, 2, 0], [3, 0]]), TEXT)
    monkeypatch.setattr(inspection, "CHUNK", 3)
    pieces = inspection.Counts.of(Documents.of([[1, 2, 1, 0], [2, 2, 0], [3, 0]]), TEXT)
    assert (whole.pairs == pieces.pairs).all() and (whole.before == pieces.before).all()


def test_what_a_network_expects_has_the_row_sums_of_the_counts():
    frequent = inspection.Counts.of(Documents.of([[1, 2, 1, 0], [2, 3, 0]]), TEXT)
    model = fresh("neural_bigram", vocab_size=5)
    found, arrays = inspection.inspect_model(model, 3, frequent, {}, np.array([1, 2]), TEXT)
    kept = arrays["probabilities"].sum(1)
    np.testing.assert_allclose(np.sum(found["expected"], axis=1), frequent.before * kept, atol=1e-3)
    assert (kept < 1).all() and found["attention"] is None


# ---------------------------------------------------------------- files


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An inspection of three models, one of which could not be fitted, made by the verbs themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("inspection"))
        run, names = prepared(".")
        tokens = names.absolute() / "char/tokens"
        gpt = json.dumps({"type": "gpt", "hyperparameters": SMALL["gpt"]})
        sections = {"mlp": run.fit_section("mlp"), "wild": run.fit_section("wild"), "gpt": gpt}
        for name, section in sections.items():
            folder = names / "char" / name / "seed0"
            assert call("fit", "--tokens", tokens, "--out", folder, "--section", section) == 0
        section = json.dumps({"experiments": [[name, 0] for name in sections], "split": "test"})
        assert call("inspect", "--tokens", tokens, "--out", names / "char", "--section", section) == 0
        return artifacts.load_json(names.absolute() / "char/inspection.json"), tokens.parent


def test_the_verb_lays_open_what_was_fitted(written):
    found, folder = written
    assert set(found["models"]) == {"mlp", "gpt"}, "what could not be fitted is left out"
    assert found["models"]["gpt"]["induction"]["by_chance"] < 0.2
    assert found["labels"] == ["↵", *"abcdef"] and sum(found["unigrams"]) == np.sum(found["bigrams"])
    arrays, _ = artifacts.load_arrays(folder / "inspection.safetensors")
    assert arrays["mlp.embedding"].shape == arrays["mlp.embedding.initial"].shape
    made = artifacts.made_of(folder / "inspection.json")["made"]
    assert made["inputs"]["gpt/seed0"] == artifacts.made_of(folder / "gpt/seed0/model.safetensors")["sha256"]


def test_the_same_models_give_the_same_bytes(written, tmp_path):
    section = {"experiments": [["mlp", 0], ["gpt", 0]], "split": "test"}
    for place in ("one", "two"):
        inspection.inspect(written[1] / "tokens", tmp_path / place, section, {})
    for name in ("inspection.json", "inspection.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
