"""A decoding state predicts what ``next_log_probs`` predicts, stays bounded, and rolls past a full window by halves."""

import numpy as np
import pytest
import torch

from lmstages.config.hyperparameters.attention import GPT, Llama, ModernGPT
from lmstages.config.hyperparameters.counts import Bigram, KneserNey, Ngram, Uniform
from lmstages.config.hyperparameters.neural import GRU, LSTM, MLP, RNN, MinGRU, MinLSTM, WaveNet
from lmstages.config.hyperparameters.orders import AnyOrder, FillInTheMiddle
from lmstages.core.documents import Documents
from lmstages.evaluation.sampling import sample
from lmstages.evaluation.scoring import score, windows_of
from lmstages.models.base import IncrementalModel, Recompute, build, decoding_state
from lmstages.models.neural import attention_maps, base, decoding
from lmstages.models.quantized.gptq import quantize_layers

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
    "fim": FillInTheMiddle(**SHAPE, ngram_embeddings=[2], ngram_buckets=50, tied_output=True),
    "any order": AnyOrder(**SHAPE, value_embeddings=True),
}
RECURRENT = {"rnn": RNN(embedding=5, hidden=8), "gru": GRU(embedding=5, hidden=8, layers=2), "lstm": LSTM(hidden=8)}
MINIMAL = {"mingru": MinGRU(embedding=5, hidden=8), "minlstm": MinLSTM(embedding=5, hidden=8, feedforward=6)}
OTHERS = {
    "uniform": Uniform(),
    "bigram": Bigram(),
    "ngram": Ngram(order=4, padded=True),
    "kneser_ney": KneserNey(order=4),
    "mlp": MLP(window=3),
    "wavenet": WaveNet(layers=2, embedding=6, hidden=16),
}
ALL = {**ATTENTION, **RECURRENT, **MINIMAL, **OTHERS}


def model_of(config, spread=0.6):
    """Counted, or a network of large random weights, whose predictions are far from uniform."""
    model = build(config, V)
    if config.family == "counts":
        text = Documents.of([[*row, 0] for row in random_tokens(1, 40, 9).tolist()])
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


def random_tokens(seed, *shape):
    return np.random.default_rng(seed).integers(0, V, shape)


def within(model, most=20):
    """The number of tokens up to which a prediction sees all of them and the boundary in front."""
    return most if model.config.context is None or not isinstance(model, IncrementalModel) else model.config.context - 1


@pytest.mark.parametrize("length", [0, 1, 5])
def test_up_to_the_context_a_decoding_state_predicts_what_next_log_probs_predicts(model, length):
    x = random_tokens(2, 3, max(length, within(model)))
    state = decoding_state(model, x[:, :length])
    for position in range(length, within(model) + 1):
        assert np.allclose(state.log_probs(), model.next_log_probs(x[:, :position]), atol=1e-5)
        if position < within(model):
            state.append(x[:, position])


def test_the_tested_networks_predict_far_from_uniformly(attention):
    assert attention.config.window == 1 or attention.next_log_probs(random_tokens(3, 4, 6)).std() > 0.3


@pytest.mark.parametrize("length", [8, 9, 30])
def test_of_a_prefix_longer_than_the_window_the_last_window_counts(attention, length):
    x = random_tokens(4, 3, length)
    assert np.allclose(decoding_state(attention, x).log_probs(), attention.next_log_probs(x), atol=1e-5)


def test_past_the_window_predictions_are_those_of_scoring_under_stride(attention):
    window, length = attention.config.window, 40
    x = random_tokens(5, 1, length)[0]
    state, decoded = decoding_state(attention, np.empty((1, 0), dtype=np.int64)), []
    for token in x:
        decoded.append(state.log_probs()[0, token])
        state.append(np.array([token]))
    text = Documents.single(x)
    strided = score(attention, text, windows_of(text.starts, "stride", window, -(-window // 2), 0))
    assert np.allclose(decoded, strided, atol=1e-5)


def test_a_cache_never_holds_more_than_the_window(attention):
    state = decoding_state(attention, random_tokens(6, 2, 3))
    for token in random_tokens(7, 30, 2):
        state.append(token)
        assert state.decoder.length == state.length <= attention.config.window


@pytest.mark.parametrize("band", [1, 10, decoding.BAND])
def test_rows_of_a_batch_are_decoded_as_each_row_alone(attention, band, monkeypatch):
    monkeypatch.setattr(decoding, "BAND", band)
    x = random_tokens(8, 4, 20)
    together, alone = decoding_state(attention, x[:, :3]), [decoding_state(attention, row[None, :3]) for row in x]
    for position in range(3, 20):
        together.append(x[:, position])
        for row, state in zip(x, alone, strict=True):
            state.append(row[position : position + 1])
        assert np.allclose(together.log_probs(), np.concatenate([s.log_probs() for s in alone]), atol=1e-5)


@pytest.mark.parametrize("band", [3, 1 << 12])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_continuations_are_scored_as_whole_rows(attention, length, band, monkeypatch):
    monkeypatch.setattr(base, "PIECE", band)
    before, left, tails = np.array([3]), random_tokens(17, 2), random_tokens(18, 7, length)
    if len(left) + length > attention.config.window:
        left = left[:0]
    if length > attention.config.window:
        return
    rows = np.hstack([np.tile(left, (7, 1)), tails])
    wanted = attention.score(rows, np.repeat(before, 7))[:, len(left) :]
    assert np.allclose(attention.score_continuations(np.append(before, left), tails), wanted, atol=1e-5)


@pytest.mark.parametrize("name", [*RECURRENT, *OTHERS])
def test_a_model_without_attention_predicts_from_all_its_context_however_far(name):
    model, x = model_of(ALL[name]), random_tokens(9, 2, 60)
    state = decoding_state(model, x[:, :1])
    for position in range(1, 60):
        state.append(x[:, position])
    assert np.allclose(state.log_probs(), model.next_log_probs(x), atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_with_a_window_keeps_no_more_than_its_context(name):
    model = model_of(ALL[name])
    state = decoding_state(model, random_tokens(10, 2, 30))
    assert isinstance(state, Recompute) and state.rows.shape[1] == model.config.context
    state.append(random_tokens(11, 2))
    assert state.rows.shape[1] == model.config.context


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
def test_samples_are_those_of_the_sampler_without_a_cache(model, prompt):
    prompt = np.array(prompt, dtype=np.int64)[: max(0, within(model))]
    length = within(model) + 1 - len(prompt)
    rows = sample(model, 4, length, 3, prompt, stop_at_boundary=False)
    assert np.array_equal(rows, cacheless(model, 4, length, 3, prompt))


def test_the_state_of_a_recurrent_network_does_not_grow():
    model = model_of(LSTM(hidden=8))
    state = decoding_state(model, random_tokens(12, 2, 5))
    before = [part.shape for part in state.state]
    for token in random_tokens(13, 50, 2):
        state.append(token)
    assert [part.shape for part in state.state] == before


# A network that has been decoded from is still the plain network


def decoded_from(name):
    """A model after some steps of decoding."""
    model = model_of(ATTENTION[name])
    state = decoding_state(model, random_tokens(14, 2, 3))
    for token in random_tokens(15, 20, 2):
        state.append(token)
    return model


@pytest.mark.parametrize("name", ATTENTION)
def test_every_module_runs_its_hooks_after_decoding(name):
    model, called = decoded_from(name), set()
    modules = {path: module for path, module in model.network.named_modules() if type(module).forward in PLAIN}
    for path, module in modules.items():
        module.register_forward_hook(lambda *_, path=path: called.add(path))
    model.network.train()(torch.from_numpy(random_tokens(16, 2, model.config.window)))
    assert modules and called == set(modules)


PLAIN = {torch.nn.Linear.forward, torch.nn.LayerNorm.forward, torch.nn.Embedding.forward, torch.nn.Dropout.forward}


@pytest.mark.parametrize("name", [name for name in ATTENTION if ATTENTION[name].window > 1])
def test_attention_maps_of_a_network_are_the_same_before_and_after_decoding(name):
    tokens = random_tokens(17, 2, 7)
    (before, _), (after, _) = (
        attention_maps.attention(model, tokens) for model in (model_of(ATTENTION[name]), decoded_from(name))
    )
    assert after.shape[0] == 2 and np.array_equal(before, after)


def test_gptq_rounds_a_network_equally_before_and_after_decoding():
    wide = Llama(**SHAPE | {"width": 64}, hidden=64)
    plain, used = model_of(wide), model_of(wide)
    decoding_state(used, random_tokens(18, 2, 3)).append(random_tokens(19, 2))
    rows = torch.from_numpy(random_tokens(20, 6, 8))
    expected, blocks = quantize_layers(plain.network, rows), quantize_layers(used.network, rows)
    assert expected and all(np.array_equal(blocks[name], array) for name, array in expected.items())


def test_decoding_a_llama_runs_the_hooks_of_its_modules():
    model, calls = model_of(ATTENTION["llama"]), []
    model.network.blocks[0].attention.queries.register_forward_hook(lambda *_: calls.append(1))
    state = decoding_state(model, random_tokens(21, 2, 3))
    state.append(random_tokens(22, 2))
    assert len(calls) == 2
