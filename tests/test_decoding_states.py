"""A reader says what ``next_log_probs`` says, keeps no more than it needs, and rolls past a window as it promises."""

import numpy as np
import pytest
import torch

from lmstages.config.hyperparameters.attention import GPT, Llama, ModernGPT
from lmstages.config.hyperparameters.counts import Bigram, KneserNey, Ngram, Uniform
from lmstages.config.hyperparameters.neural import GRU, LSTM, MLP, RNN, WaveNet
from lmstages.core.documents import Documents
from lmstages.evaluation.sampling import sample
from lmstages.evaluation.scoring import score, windows_of
from lmstages.models.base import IncrementalModel, Recompute, build, decoding_state
from lmstages.models.neural import decoding

V = 7
SHAPE = {"layers": 2, "heads": 2, "width": 16, "window": 8, "row_length": 8}
ATTENTION = {
    "gpt": GPT(**SHAPE),
    "gpt of an odd window": GPT(**SHAPE | {"window": 9}),
    "gpt of a window of one": GPT(**SHAPE | {"window": 1, "row_length": 1}),
    "gpt with biases": GPT(**SHAPE, bias=True, attention_bias=True, tied_output=False, activation="relu"),
    "gpt taken apart": GPT(**SHAPE, projection=False, feedforward="none", norms=False),
    "gpt without its input added": GPT(**SHAPE, feedforward="layer", residual=False),
    "llama": Llama(**SHAPE, key_value_heads=1, hidden=24),
    "modern": ModernGPT(**SHAPE),
    "modern with n-grams": ModernGPT(**SHAPE, ngram_embeddings=[2, 3], ngram_buckets=50, value_embeddings=True),
    "modern with positions": ModernGPT(**SHAPE, rotary=False),
}
RECURRENT = {"rnn": RNN(embedding=5, hidden=8), "gru": GRU(embedding=5, hidden=8, layers=2), "lstm": LSTM(hidden=8)}
OTHERS = {
    "uniform": Uniform(),
    "bigram": Bigram(),
    "ngram": Ngram(order=4, padded=True),
    "kneser_ney": KneserNey(order=4),
    "mlp": MLP(window=3),
    "wavenet": WaveNet(layers=2, embedding=6, hidden=16),
}
ALL = {**ATTENTION, **RECURRENT, **OTHERS}


def model_of(config, spread=0.6):
    """Counted, or a network of large random weights, whose predictions are far from uniform."""
    model = build(config, V)
    if config.family == "counts":
        text = Documents.of([[*row, 0] for row in drawn(1, 40, 9).tolist()])
        model.fit(text, text, 0)
        return model
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.network = model.build().eval()
        for weight in model.network.parameters():
            torch.nn.init.normal_(weight, std=spread)
    return model


@pytest.fixture(scope="module", params=ALL)
def model(request):
    return model_of(ALL[request.param])


@pytest.fixture(scope="module", params=ATTENTION)
def attention(request):
    return model_of(ATTENTION[request.param])


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, V, shape)


def within(model, most=20):
    """As many tokens as every prediction still sees, the boundary before them included."""
    return most if model.config.context is None or not isinstance(model, IncrementalModel) else model.config.context - 1


@pytest.mark.parametrize("length", [0, 1, 5])
def test_up_to_the_context_a_reader_says_what_next_log_probs_says(model, length):
    x = drawn(2, 3, max(length, within(model)))
    read = decoding_state(model, x[:, :length])
    for place in range(length, within(model) + 1):
        assert np.allclose(read.log_probs(), model.next_log_probs(x[:, :place]), atol=1e-5)
        if place < within(model):
            read.append(x[:, place])


def test_networks_far_from_uniform_are_what_is_tested(attention):
    assert attention.config.window == 1 or attention.next_log_probs(drawn(3, 4, 6)).std() > 0.3


@pytest.mark.parametrize("length", [8, 9, 30])
def test_a_prefix_longer_than_the_window_is_read_as_next_log_probs_reads_it(attention, length):
    x = drawn(4, 3, length)
    assert np.allclose(decoding_state(attention, x).log_probs(), attention.next_log_probs(x), atol=1e-5)


def test_past_the_window_it_rolls_as_scoring_does_under_stride(attention):
    window, length = attention.config.window, 40
    x = drawn(5, 1, length)[0]
    read, said = decoding_state(attention, np.empty((1, 0), dtype=np.int64)), []
    for token in x:
        said.append(read.log_probs()[0, token])
        read.append(np.array([token]))
    text = Documents.single(x)
    strided = score(attention, text, windows_of(text.starts, "stride", window, -(-window // 2), 0))
    assert np.allclose(said, strided, atol=1e-5)


def test_a_cache_never_holds_more_than_the_window(attention):
    read = decoding_state(attention, drawn(6, 2, 3))
    for token in drawn(7, 30, 2):
        read.append(token)
        assert read.decoder.length == read.length <= attention.config.window


@pytest.mark.parametrize("band", [1, 10, decoding.BAND])
def test_rows_of_a_batch_are_read_as_each_alone(attention, band, monkeypatch):
    monkeypatch.setattr(decoding, "BAND", band)
    x = drawn(8, 4, 20)
    together, alone = decoding_state(attention, x[:, :3]), [decoding_state(attention, row[None, :3]) for row in x]
    for place in range(3, 20):
        together.append(x[:, place])
        for row, read in zip(x, alone, strict=True):
            read.append(row[place : place + 1])
        assert np.allclose(together.log_probs(), np.concatenate([r.log_probs() for r in alone]), atol=1e-5)


@pytest.mark.parametrize("name", [*RECURRENT, *OTHERS])
def test_a_model_without_a_window_of_attention_reads_all_its_context_however_far(name):
    model, x = model_of(ALL[name]), drawn(9, 2, 60)
    read = decoding_state(model, x[:, :1])
    for place in range(1, 60):
        read.append(x[:, place])
    assert np.allclose(read.log_probs(), model.next_log_probs(x), atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_with_a_window_keeps_no_more_than_its_context(name):
    model = model_of(ALL[name])
    read = decoding_state(model, drawn(10, 2, 30))
    assert isinstance(read, Recompute) and read.rows.shape[1] == model.config.context
    read.append(drawn(11, 2))
    assert read.rows.shape[1] == model.config.context


def cacheless(model, count, length, seed, prompt):
    """The plain loop over ``next_log_probs`` that ``sample`` stands for."""
    rows, draws = np.tile(prompt, (count, 1)), np.random.default_rng(seed)
    for _ in range(length):
        thresholds = draws.random(count)
        cumulative = np.cumsum(np.exp(model.next_log_probs(rows)), -1)
        chosen = (cumulative <= thresholds[:, None] * cumulative[:, -1:]).sum(-1)
        rows = np.column_stack([rows, np.minimum(chosen, V - 1)])
    return rows


@pytest.mark.parametrize("prompt", [[], [2, 3]])
def test_the_text_is_that_of_the_sampler_without_a_cache(model, prompt):
    prompt = np.array(prompt, dtype=np.int64)[: max(0, within(model))]
    length = within(model) + 1 - len(prompt)
    rows = sample(model, 4, length, 3, prompt, stop_at_boundary=False)
    assert np.array_equal(rows, cacheless(model, 4, length, 3, prompt))


def test_a_reader_of_recurrence_carries_a_state_that_does_not_grow():
    model = model_of(LSTM(hidden=8))
    read = decoding_state(model, drawn(12, 2, 5))
    before = [part.shape for part in read.state]
    for token in drawn(13, 50, 2):
        read.append(token)
    assert [part.shape for part in read.state] == before
