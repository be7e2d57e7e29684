"""Networks without attention: exact sizes, equivalences, and the influence of order and history."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lmstages.config.hyperparameters.counts import Bigram
from lmstages.config.hyperparameters.neural import GRU, LSTM, MLP, RNN, NeuralBigram, WaveNet
from lmstages.config.reading import read_run
from lmstages.core.documents import Documents
from lmstages.evaluation.sampling import sample
from lmstages.models.base import build
from lmstages.training.objectives import NextToken
from lmstages.training.optimizers import learning_rate

ATTEND = {"hidden": 64, "layers": 2, "activation": "gelu", "tied_output": True}
TO_THE_END = {
    "batch_size": None,
    "optimizer": "sgd",
    "learning_rate": 50,
    "schedule": "constant",
    "clip": 0.0,
    "steps": 1000,
    "evaluate_every": 1000,
    "keep": "last",
}


def random_rows(seed, shape, vocab_size):
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


def unfitted(config, vocab_size, seed=0):
    model = build(config, vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.network = model.build().eval()
    return model


def documents_of(names):
    """Letters as 1 to 26, the boundary after each name."""
    return Documents.of([[ord(letter) - ord("a") + 1 for letter in name] + [0] for name in names])


def published(name):
    """A model as runs/published.yaml has it."""
    return read_run(Path(__file__).parents[1] / "runs" / "published.yaml").models[name].config


SIZES = [
    (NeuralBigram(width=None), 27, 729),
    (NeuralBigram(width=10), 27, 27 * 10 + 10 * 27 + 27),
    (NeuralBigram(width=16, **ATTEND), 67, 7_360),
    (MLP(window=7, embedding=16, **ATTEND), 67, 13_504),
    (MLP(window=3, embedding=5, hidden=200), 27, 8_762),
    (MLP(window=3, embedding=10, hidden=200), 27, 11_897),
    (MLP(window=8, embedding=32, hidden=256, output_bias=False), 175, 116_192),
    (MLP(window=8, embedding=32, hidden=128, layers=2, activation="relu"), 32, 54_560),
    (WaveNet(embedding=20, hidden=200, layers=3, bias=True), 27, 175_767),
    (WaveNet(embedding=24, hidden=128, layers=3), 27, 76_579),
]


@pytest.mark.parametrize(("config", "vocab_size", "parameters"), SIZES)
def test_a_published_network_has_as_many_parameters_as_published(config, vocab_size, parameters):
    assert unfitted(config, vocab_size).parameters() == parameters


# ---------------------------------------------------------------- what a fit minimises


def test_the_objective_of_the_next_token_is_plain_cross_entropy_to_the_bit(monkeypatch):
    documents = Documents.of([[*row, 0] for row in random_rows(0, (40, 9), 7).tolist()])

    def fit():
        model = build(MLP(window=2, embedding=4, hidden=8, steps=8, batch_size=4, evaluate_every=3), 7)
        return model.fit(documents, documents, 3), {name: array.tobytes() for name, array in model.arrays().items()}

    def plain(self, network, batch, draw):
        logits = network(batch.inputs).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, batch.targets.flatten(), ignore_index=-100, reduction="sum")

    by_objective = fit()
    monkeypatch.setattr(NextToken, "__call__", plain)
    monkeypatch.setattr(NextToken, "selected", plain)
    assert fit() == by_objective


# ---------------------------------------------------------------- neural bigram


def tables_of(documents, vocab_size):
    """Next-token probabilities (V, V) of the counts and of the network trained to the end, and both models."""
    models = [build(Bigram(add=0.0), vocab_size), build(NeuralBigram(width=None, **TO_THE_END), vocab_size)]
    for model in models:
        model.fit(documents, documents, seed=0)
    tokens = np.arange(vocab_size)[:, None]
    return [np.exp(model.next_log_probs(tokens)) for model in models], models


def test_a_neural_bigram_trained_to_the_end_is_the_counts_bigram():
    documents = Documents.of([[*row, 0] for row in random_rows(0, (200, 9), 7).tolist()])
    (counted, learned), models = tables_of(documents, 7)
    assert np.abs(counted - learned).max() < 1e-5
    first, second = (sample(model, 10, 20, seed=1) for model in models)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
def test_on_names_counting_and_gradient_descent_give_the_same_ten_names(data):
    documents = documents_of((data / "names.txt").read_text().split())
    (counted, learned), models = tables_of(documents, 27)
    assert np.abs(counted - learned).max() < 0.02  # of a rare letter, whose row learns slowest
    first, second = (sample(model, 10, 30, seed=2147483647) for model in models)  # as with most seeds, not all
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_table_with_layers_is_refused():
    with pytest.raises(ValidationError, match="width null is the table alone"):
        NeuralBigram(width=None, layers=1)


def test_full_batches_do_not_depend_on_the_order_of_documents():
    rows = [[*row, 0] for row in random_rows(1, (30, 5), 7).tolist()]
    config = NeuralBigram(width=None, **TO_THE_END | {"steps": 5})
    models = [build(config, 7), build(config, 7)]
    for model, order in zip(models, (rows, rows[::-1]), strict=True):
        model.fit(Documents.of(order), Documents.of(rows), seed=0)
    x = random_rows(2, (3, 8), 7)
    assert np.allclose(models[0].score(x), models[1].score(x), atol=1e-5)


def test_the_step_schedule_drops_after_its_fraction_of_the_steps():
    config = MLP(steps=100_000, schedule="step", drop_after=0.8, learning_rate=1e-3, final_learning_rate=1e-4)
    assert [learning_rate(config, step) for step in (0, 80_000, 80_001, 99_999)] == [1e-3, 1e-3, 1e-4, 1e-4]


# ---------------------------------------------------------------- MLP


def test_without_a_valid_split_the_curve_has_no_validation_loss():
    rows = Documents.of([[1, 2, 0]] * 4)
    model = build(NeuralBigram(width=2, batch_size=4, steps=4, evaluate_every=2, keep="last"), 3)
    assert [point["valid"] for point in model.fit(rows, Documents.of([]), 0)] == [None, None]


def test_concatenation_keeps_order():
    model = unfitted(MLP(window=3), 9)
    orders = model.next_log_probs(np.array([[1, 2, 3], [3, 2, 1], [2, 1, 3]]))
    assert all(not np.allclose(orders[a], orders[b], atol=1e-3) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_the_window_ends_with_the_newest_token():
    vectors = torch.arange(10.0).view(1, 5, 2)
    assert build(MLP(window=3), 9).build().windows(vectors).tolist()[0][0] == [0, 1, 2, 3, 4, 5]


def test_an_mlp_over_one_token_is_the_neural_bigram():
    bigram, mlp = unfitted(NeuralBigram(width=16, **ATTEND), 9), unfitted(MLP(window=1, embedding=16, **ATTEND), 9, 1)
    mlp.restore(bigram.arrays())
    x = random_rows(3, (4, 6), 9)
    assert np.array_equal(mlp.score(x), bigram.score(x))


@pytest.mark.parametrize("initialisation", ["normal", "all_normal"])
def test_published_initialisation_starts_worse_than_guessing(initialisation):
    model = unfitted(MLP(window=8, embedding=32, hidden=256, initialisation=initialisation), 175)
    assert -model.score(random_rows(4, (20, 20), 175)).mean() > 2 * math.log(175)
    scaled = unfitted(MLP(window=8, embedding=32, hidden=256), 175)
    assert -scaled.score(random_rows(4, (20, 20), 175)).mean() < math.log(175) + 0.2


# ---------------------------------------------------------------- convolution


def with_statistics(config, vocab_size):
    """An untrained WaveNet whose BatchNorms have running statistics of some rows, in evaluation mode."""
    model = unfitted(config, vocab_size)
    with torch.no_grad():
        model.network.train()(torch.from_numpy(random_rows(5, (16, 40), vocab_size)))
    model.network.eval()
    return model


@pytest.mark.parametrize("layers", [1, 3, 5])
def test_dilated_convolution_computes_what_the_tree_computes(layers):
    config = WaveNet(layers=layers, embedding=6, hidden=16, bias=True)
    tree, dilated = with_statistics(config, 11), build(config, 11)
    dilated.restore({name: array.copy() for name, array in tree.arrays().items()})
    row = torch.from_numpy(random_rows(6, (3, config.window + 9), 11))
    with torch.inference_mode():
        windows = [tree.network.tree(row[:, t : t + config.window]) for t in range(10)]
        assert torch.allclose(torch.cat(windows, dim=1), dilated.network.dilated(row), atol=1e-5)


def test_a_batch_of_one_number_is_refused():
    with pytest.raises(ValidationError, match="leave BatchNorm a single number"):
        WaveNet(batch_size=1)


def test_the_statistics_of_batchnorm_are_saved():
    arrays = with_statistics(WaveNet(), 11).arrays()
    assert {name.rpartition(".")[2] for name in arrays} >= {"running_mean", "running_var"}
    assert arrays["layers.0.norm.running_mean"].any()


# ---------------------------------------------------------------- recurrent


@pytest.mark.parametrize("config", [RNN, GRU, LSTM])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_state_is_carried_from_piece_to_piece(config, layers):
    model = unfitted(config(embedding=5, hidden=8, layers=layers), 7)
    x = random_rows(7, (3, 23), 7)
    whole = model.score(x)
    model.piece = 4
    assert np.allclose(model.score(x), whole, atol=1e-6)


@pytest.mark.parametrize("config", [RNN, GRU, LSTM])
def test_a_recurrent_network_remembers_its_first_token(config):
    model = unfitted(config(embedding=5, hidden=8), 7)
    x = random_rows(8, (1, 12), 7)
    other = np.concatenate([(x[:, :1] + 1) % 7, x[:, 1:]], axis=1)
    assert not np.array_equal(model.score(x)[:, -1], model.score(other)[:, -1])


@pytest.mark.parametrize(("config", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_each_gate_costs_one_more_set_of_weights(config, gates):
    cell = 8 * 5 + 8 * 8 + 2 * 8  # inputs, state, torch's two biases
    assert unfitted(config(embedding=5, hidden=8), 7).parameters() == 7 * 5 + gates * cell + 8 * 7 + 7


# ---------------------------------------------------------------- published figures


@pytest.mark.slow
def test_the_lecture_wavenet_reaches_its_published_loss(data):
    names = (data / "names.txt").read_text().split()
    random.Random(42).shuffle(names)
    train, valid = (documents_of(part) for part in (names[:25_626], names[25_626:28_829]))
    model = build(published("wavenet_lecture_fixed"), 27)
    model.fit(train, valid, seed=0)
    rows = [model.score(valid.tokens[None, a:b]) for a, b in zip(valid.starts, valid.starts[1:], strict=False)]
    assert -np.concatenate(rows, axis=1).mean() <= 1.9937


@pytest.mark.slow
def test_on_shakespeare_the_neural_bigram_nears_the_counts_and_the_eightgram_its_published_perplexity(data):
    text = (data / "shakespeare_reconstructed.txt").read_text()
    tokens = np.unique(np.frombuffer(text.encode(), np.uint8), return_inverse=True)[1]
    train, valid = Documents.single(tokens[:4_000_000]), Documents.single(tokens[4_000_000:])
    losses = []
    for config in (Bigram(add=0.1), published("neural_bigram_attend"), published("eightgram_attend")):
        model = build(config, 67)
        model.fit(train, valid, seed=0)
        losses.append(-model.score(train.tokens[None])[0, 7:].mean())
    assert abs(losses[1] - losses[0]) < 0.02 and math.exp(losses[2]) <= 5.80
