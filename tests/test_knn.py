"""Nearest neighbours of a network's states against numbers worked by hand, brute force, and the network itself."""

import json

import numpy as np
import pytest
import torch

from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.reading import read_run
from lmstages.core.documents import Documents
from lmstages.core.errors import FitError, UserError
from lmstages.models.base import build, decoding_state
from lmstages.models.neural.nearest import TIE, Entries, MixedOutput, best_weight, output_of, states_of, windows_of

V = 7
SHORT = {"steps": 30, "batch_size": 8, "row_length": 6, "warmup_steps": 0}
NETWORKS = {
    "gpt": {"layers": 1, "heads": 2, "width": 12, "window": 8, **SHORT},
    "gpt, untied": {"layers": 1, "heads": 2, "width": 12, "window": 8, "tied_output": False, **SHORT},
    "llama": {"layers": 1, "heads": 2, "key_value_heads": 1, "width": 12, "hidden": 16, "window": 8, **SHORT},
    "modern_gpt": {"layers": 1, "heads": 2, "width": 12, "window": 8, "softcap": 2.0, **SHORT},
    "lstm": {"hidden": 12, "embedding": 6, **SHORT},
}
TRAIN, VALID = (
    Documents.of([[*row, 0] for row in np.random.default_rng(seed).integers(1, V, (30, length)).tolist()])
    for seed, length in ((0, 13), (1, 6))
)


@pytest.fixture(scope="module")
def networks():
    """Fitted, by name."""
    fitted = {name: build(MODEL_TYPES[name.partition(",")[0]](**keys), V) for name, keys in NETWORKS.items()}
    for network in fitted.values():
        network.fit(TRAIN, VALID, 0)
    return fitted


def of(network, valid=VALID, **keys):
    """The model made of a fitted network."""
    model = build(MODEL_TYPES["knn"](base=network.config, **{"neighbours": 5, **keys}), V)
    model.derive(network, TRAIN)
    model.choose(valid)
    return model


# ---------------------------------------------------------------- search


def test_a_mixture_by_hand():
    """Entries 0, 1 and 3 on a line with tokens 1, 2 and 1; at 1 the two nearest have squared distances 0 and 1.

    With T = 1 / ln 2 a distance of 1 halves the weight: token 2 has 2 / 3 and token 1 has 1 / 3 of the neighbours, of
    which a quarter is taken, beside three quarters of a network that gives each of 4 tokens the same.
    """
    entries = Entries(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([1, 2, 1]), 2)
    network = torch.nn.Linear(1, 4)
    torch.nn.init.zeros_(network.weight), torch.nn.init.zeros_(network.bias)
    with torch.inference_mode():
        p = MixedOutput(network, entries, 1 / np.log(2), 0.25)(torch.tensor([[1.0]])).exp()[0]
    assert np.allclose(p, [0.75 / 4, 0.75 / 4 + 0.25 / 3, 0.75 / 4 + 0.25 * 2 / 3, 0.75 / 4], atol=1e-6)


@pytest.mark.parametrize(("count", "neighbours"), [(3, 3), (100, 7), (500, 4), (1000, 31), (1000, 40)])
def test_the_nearest_are_those_of_all_distances(count, neighbours, monkeypatch):
    monkeypatch.setattr("lmstages.models.neural.nearest.DISTANCES_AT_ONCE", 3 * count)
    draws = torch.Generator().manual_seed(count)
    states, queries = torch.randn(count, 5, generator=draws), torch.randn(20, 5, generator=draws)
    tokens = torch.arange(count)
    for piece, distances, found in Entries(states, tokens, neighbours).nearest(queries):
        for query, row, indices in zip(queries[piece], distances, found, strict=True):
            expected = (states.double() - query.double()).square().sum(-1)
            kept = torch.isfinite(row)
            assert set(indices[kept].tolist()) == set(expected.argsort()[:neighbours].tolist())
            assert torch.allclose(row[kept], expected[indices[kept]])


def test_entries_as_near_as_the_last_neighbour_are_neighbours():
    states = torch.tensor([[0.0], [2.0], [1.0], [-1.0], [5.0]]).repeat(40, 1)
    ((_, distances, tokens),) = Entries(states, torch.arange(200) % 5, 50).nearest(torch.tensor([[0.0]]))
    kept = tokens[torch.isfinite(distances)]
    assert sorted(kept.tolist()) == [0] * 40 + [2] * 40 + [3] * 40


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("window", [1, 2, 5, 8])
def test_every_input_of_a_text_gives_one_entry(window):
    lengths = np.array([1, 7, 2, 23, 8])
    firsts = np.cumsum(lengths) - lengths
    begins, skipped, ends = windows_of(firsts, lengths, window)
    kept = [position for b, s, e in zip(begins, skipped, ends, strict=True) for position in range(b + s, e)]
    assert sorted(kept) == list(range(lengths.sum())) and (ends - begins <= window).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_states_are_what_the_output_layer_reads(name, networks):
    """The network's own scores follow from them, of documents that one window holds."""
    network = networks[name]
    text, rows = VALID, VALID.tokens.reshape(-1, 7)
    before, arrays = network.network.output, network.arrays()
    read = states_of(network, text, 1000, seed=0)
    scores = np.concatenate([network.score(row[None])[0] for row in rows])
    assert np.allclose(np.sort(read.log_probs.numpy()), np.sort(scores), atol=1e-5)
    with torch.inference_mode():
        logits = output_of(network.network)(read.states)
    assert torch.allclose(logits.log_softmax(-1).gather(1, read.tokens[:, None])[:, 0].double(), read.log_probs)
    assert network.network.output is before
    assert all(np.array_equal(array, arrays[key]) for key, array in network.arrays().items())


def test_entries_are_drawn_with_a_seed(networks):
    few, same = (states_of(networks["gpt"], TRAIN, 40, seed=0) for _ in range(2))
    other, every = states_of(networks["gpt"], TRAIN, 40, seed=1), states_of(networks["gpt"], TRAIN, 10**6, seed=0)
    assert len(few.states) == 40 and len(every.states) == len(TRAIN)
    assert torch.equal(few.tokens, same.tokens) and not torch.equal(few.states, other.states)


# ---------------------------------------------------------------- the model


@pytest.mark.parametrize("name", NETWORKS)
def test_with_weight_0_it_is_the_network_to_the_last_bit(name, networks):
    model, x = of(networks[name], weight=0.0, temperature=1.0), np.random.default_rng(2).integers(0, V, (3, 11))
    before = np.array([3, 0, 1])
    assert np.array_equal(model.score(x, before), networks[name].score(x, before))
    assert np.array_equal(model.next_log_probs(x), networks[name].next_log_probs(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_its_definition(name, networks):
    """From the states of the network, entry by entry, in 64 bits."""
    model = of(networks[name], weight=0.4, temperature=0.1)
    x = np.random.default_rng(3).integers(0, V, (4, 6))
    one = Documents.of([[*row, 0] for row in x.tolist()])
    read = states_of(networks[name], one, 100, seed=0)
    p = np.zeros(len(read.tokens))
    for row, (state, token) in enumerate(zip(read.states.double(), read.tokens, strict=True)):
        distances = (model.entries.states.double() - state).square().sum(-1)
        tie = TIE * (state.square().sum() + model.entries.squares.max())
        kernel = torch.exp(-distances / model.temperature) * (distances <= distances.sort().values[4] + tie)
        p[row] = (kernel * (model.entries.tokens == token)).sum() / kernel.sum()
    expected = np.log(0.6 * read.log_probs.exp().numpy() + 0.4 * p)
    scores = np.concatenate([model.score(np.array([[*row, 0]]))[0] for row in x.tolist()])
    assert np.allclose(np.sort(expected), np.sort(scores), atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_text_is_decoded_as_it_is_predicted(name, networks):
    model, x = of(networks[name], weight=0.5, temperature=0.1), np.random.default_rng(4).integers(0, V, (2, 8))
    state = decoding_state(model, x[:, :2])
    for position in range(2, 8):
        assert np.allclose(state.log_probs(), model.next_log_probs(x[:, :position]), atol=1e-5)
        state.append(x[:, position])
    if name == "lstm":
        assert np.allclose(model.open_row().advance(x[0]), model.score(x[:1])[0], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_that_are_wanted_score_as_when_all_are(name, networks):
    model, draws = of(networks[name], weight=0.5, temperature=0.1), np.random.default_rng(6)
    for length in (5, 8, 12):
        x, wanted = draws.integers(0, V, (6, length)), draws.random((6, length)) < 0.4
        expected, scores = model.score(x, x[:, 0]), model.score_wanted(x, x[:, 0], wanted)
        assert np.allclose(scores[wanted], expected[wanted], atol=1e-5)


def test_valid_chooses_temperature_and_weight(networks):
    """Better than what stands beside the choice, on the very text; here part of it is also in the entries."""
    several, rows = [0.01, 0.1, 1.0], VALID.tokens.reshape(-1, 7)
    both = Documents(
        np.concatenate([TRAIN.tokens, VALID.tokens]), np.append(TRAIN.starts[:-1], len(TRAIN) + VALID.starts)
    )

    def loss(**keys):
        model = build(MODEL_TYPES["knn"](base=networks["gpt"].config, neighbours=5, **keys), V)
        model.derive(networks["gpt"], both)
        model.choose(VALID)
        return -model.score(rows).mean(), model.weight

    best, weight = loss(temperature=several)
    fixed = [loss(temperature=t, weight=w)[0] for t in several for w in (0.0, weight / 2, weight, (1 + weight) / 2)]
    assert best <= min(fixed) + 1e-6 and 0 < weight < 1 and best < fixed[0] - 0.05


def test_the_best_weight_is_that_of_a_search():
    draws = np.random.default_rng(5)
    first, second = draws.uniform(0.05, 0.6, 400), draws.uniform(0.0, 0.8, 400)
    grid = np.linspace(0, 0.999, 1000)
    losses = [-np.log((1 - w) * first + w * second).mean() for w in grid]
    assert best_weight(first, second) == pytest.approx(grid[int(np.argmin(losses))], abs=2e-3)
    assert best_weight(first, first / 2) == 0.0


def test_what_is_stored_is_counted(networks):
    model = of(networks["lstm"], entries=50)
    arrays = model.arrays()
    stored = sum(array.size for array in arrays.values())
    assert model.parameters() == stored and arrays["states"].shape == (50, 12)


# ---------------------------------------------------------------- bad input


def test_a_text_with_fewer_positions_than_neighbours_cannot_be_searched(networks):
    with pytest.raises(FitError, match="neighbours 500: train has 420 positions; lower neighbours, or give more text"):
        of(networks["gpt"], neighbours=500)


def test_without_valid_both_numbers_are_asked_for(networks):
    empty = Documents.of([])
    with pytest.raises(FitError, match=r"temperature \[0.5\], weight None: valid is empty; a single value of both"):
        of(networks["gpt"], empty, temperature=0.5)
    assert of(networks["gpt"], empty, temperature=0.5, weight=0.2).weight == 0.2


def test_another_network_than_the_config_names_is_refused(networks):
    model = build(MODEL_TYPES["knn"](base=networks["gpt"].config, neighbours=5), V)
    with pytest.raises(UserError, match="--base gpt: was fitted with other hyperparameters"):
        model.derive(networks["llama"], TRAIN)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_record_read_again_is_the_same(name, networks):
    record = MODEL_TYPES["knn"](base=networks[name].config)
    again = type(record).model_validate(json.loads(record.model_dump_json()))
    assert again == record and type(again.base) is type(record.base)


CONFIG = """
corpora: {coined: {source: coined, count: 50}}
tokenizers: {char: {kind: char}}
models:
  bigram:
  mlp: {steps: 2}
  fim: {steps: 2, warmup_steps: 0}
  gpt: {steps: 2, warmup_steps: 0}
  found: {type: knn, KEYS}
"""


def read(tmp_path, keys):
    (tmp_path / "config.yaml").write_text(CONFIG.replace("KEYS", keys))
    return read_run(tmp_path / "config.yaml")


def test_it_is_made_of_the_fitted_network_without_a_quantization_error(tmp_path):
    run = read(tmp_path, "of: gpt")
    assert run.derived() == ["found"] and run.derived_from_llama() == run.bounds() == []
    facts = run.facts()["found"]
    assert facts["of"] == "gpt" and facts["category"] == "static" and "quantization_error" not in facts
    assert json.loads(run.fit_section("found"))["hyperparameters"]["base"]["type"] == "gpt"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "of: bigram",
            "of: 'bigram' is of type bigram, which has no states to compare; allowed: gpt, llama, ",
        ),
        ("of: mlp", "of: 'mlp' is of type mlp, which has no states to compare; allowed: gpt, llama, "),
        ("of: fim", "of: 'fim' is of type fim, which has no states to compare; allowed: gpt, llama, "),
        ("of: gtp", r"of: 'gtp' is not defined under models \(did you mean 'gpt'"),
        ("neighbours: 65, entries: 64", ": neighbours 65 exceeds entries 64; lower one or raise the other"),
        ("neighbours: 0", "neighbours: 0 found; input should be greater than or equal to 1"),
        ("weight: 1.0", "weight: 1.0 found; input should be less than 1"),
        ("temperature: 0", ": temperature 0 found; allowed: above 0"),
        ("base: {type: mlp}", "base: 'mlp' is no network with states; allowed: gpt, llama, modern_gpt"),
        ("base: {type: gpt}", "base: is the record of the model under of; leave it out"),
        ("seeds: [1]", "seeds: are those of gpt; leave them out"),
    ],
)
def test_one_that_cannot_be_is_refused_in_one_line(tmp_path, keys, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, keys)
    assert len(str(error.value).splitlines()) == 1
