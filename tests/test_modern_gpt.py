"""Modern GPT: switched off it is GPT, each part is torch's own, it starts at uniform and its logits are bounded."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import GPT, ModernGPT
from lmstages.core.documents import Documents
from lmstages.models.base import build
from lmstages.models.neural.attention import attend, rms_norm
from lmstages.models.neural.modern_gpt import NgramEmbedding, Norm, SquaredReLU

SHAPE = {"layers": 2, "heads": 2, "width": 16, "window": 12, "row_length": 12}
OFF = {
    "rms_norm": False,
    "rotary": False,
    "query_key_norm": False,
    "squared_relu": False,
    "zero_projections": False,
    "softcap": None,
    "tied_output": True,
}
V = 11


def untrained(seed=0, scale=1.0, vocab_size=V, **keys):
    config = ModernGPT(**SHAPE | keys)
    model = build(config, vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.network = model.build().eval()
        with torch.no_grad():
            for weight in model.network.parameters():
                if scale != 1.0 and weight.dim() >= 2:
                    weight.normal_(std=scale)
    return model


def rows(seed=1, shape=(3, 12), vocab_size=V):
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_with_every_switch_off_it_is_gpt():
    gpt, modern = build(GPT(**SHAPE), V), untrained(**OFF)
    gpt.network = gpt.build().eval()
    own = {"feedforward.0": "feedforward.up", "feedforward.2": "feedforward.down", "values.weight": "values"}
    arrays = {}
    for name, array in modern.arrays().items():
        for theirs, ours in own.items():
            name = name.replace(ours + ".", theirs + ".")
        name = name.replace("queries_keys_values", "queries_keys_values.weight").replace("norm.layer", "norm")
        arrays[name] = array.reshape(-1, 16) if "queries_keys_values" in name else array
    gpt.restore({name: 8 * array for name, array in arrays.items()})
    modern.restore({name: 8 * array for name, array in modern.arrays().items()})
    assert gpt.parameters() == modern.parameters()
    assert modern.next_log_probs(rows()).std() > 0.1
    assert np.allclose(gpt.score(rows()), modern.score(rows()), atol=1e-5)


@pytest.mark.parametrize("switch", [name for name in OFF if name not in ("zero_projections", "tied_output")])
def test_every_switch_changes_what_is_predicted(switch):
    model, other = untrained(scale=0.5), untrained(scale=0.5, **{switch: OFF[switch]})
    common = {name: a for name, a in model.arrays().items() if name in other.arrays()}
    other.restore({**other.arrays(), **common})
    assert not np.allclose(model.score(rows()), other.score(rows()), atol=1e-3)


def test_it_has_the_size_of_nanogpts_cpu_setting():
    assert untrained(vocab_size=65, layers=4, heads=4, width=128, window=64, row_length=64).parameters() == 803_072


@pytest.mark.parametrize("keys", [{}, {"value_embeddings": True, "ngram_embeddings": [2, 3]}, {"rotary": False}])
def test_before_training_it_predicts_uniformly(keys):
    assert np.allclose(untrained(**keys).next_log_probs(rows()), -np.log(V), atol=1e-6)


def test_a_tied_output_or_gpts_initialisation_does_not_predict_uniformly():
    for keys in ({"tied_output": True}, {"zero_projections": False}):
        assert not np.allclose(untrained(**keys).next_log_probs(rows()), -np.log(V), atol=1e-4)


def test_the_softcap_bounds_logits_and_keeps_their_order():
    tokens = torch.from_numpy(rows())
    free, capped = untrained(scale=3.0, softcap=None), untrained(scale=3.0, softcap=5.0)
    with torch.inference_mode():
        loose, tight = free.network(tokens), capped.network(tokens)
    assert loose.abs().max() > 20 and tight.abs().max() <= 5
    assert torch.allclose(tight, 5 * torch.tanh(loose / 5), atol=1e-4)


def test_the_norm_is_torchs_parameter_free_rms_norm():
    x = random(3, 5, 16)
    assert torch.allclose(Norm(ModernGPT(**SHAPE))(x), nn.RMSNorm(16, elementwise_affine=False)(x), atol=1e-6)
    assert torch.allclose(Norm(ModernGPT(**SHAPE))(7 * x), Norm(ModernGPT(**SHAPE))(x), atol=1e-5)


def test_products_of_normalised_queries_and_keys_are_bounded():
    queries, keys = (functional.rms_norm(100 * random(1, 2, 6, 8, seed=seed), (8,)) for seed in (0, 1))
    assert (queries @ keys.mT).abs().max() <= 8 + 1e-4


def test_the_norm_and_its_gradient_are_torchs():
    x, y = (random(2, 3, 16).double().requires_grad_() for _ in range(2))
    (rms_norm(x, 1e-3) * random(2, 3, 16, seed=1)).sum().backward()
    (functional.rms_norm(y, (16,), eps=1e-3) * random(2, 3, 16, seed=1)).sum().backward()
    assert torch.allclose(rms_norm(x, 1e-3), functional.rms_norm(y, (16,), eps=1e-3)) and torch.allclose(x.grad, y.grad)


def test_squared_relu_and_its_gradient_are_those_of_autograd():
    x = random(40).double().requires_grad_()
    (SquaredReLU.apply(x) * random(40, seed=1)).sum().backward()
    y = x.detach().clone().requires_grad_()
    (functional.relu(y).square() * random(40, seed=1)).sum().backward()
    assert torch.equal(SquaredReLU.apply(x), functional.relu(y).square()) and torch.allclose(x.grad, y.grad)


def test_attention_is_a_softmax_over_earlier_positions():
    queries, keys, values = (random(2, 4, 6, 8, seed=seed) for seed in range(3))
    scores = queries @ keys.mT / 8**0.5
    scores = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    assert torch.allclose(attend(queries, keys, values), scores.softmax(-1) @ values, atol=1e-5)


def test_value_embeddings_join_the_values_of_their_own_token():
    model, plain = untrained(scale=0.5, value_embeddings=True), untrained(scale=0.5)
    plain.restore({name: array for name, array in model.arrays().items() if ".values." not in name})
    changed = model.arrays()
    for name in changed:
        if ".values." in name:
            changed[name] = np.zeros_like(changed[name])
    zeroed = untrained(value_embeddings=True)
    zeroed.restore(changed)
    assert np.allclose(zeroed.score(rows()), plain.score(rows()), atol=1e-6)
    assert not np.allclose(untrained(scale=0.5, value_embeddings=True).score(rows()), plain.score(rows()), atol=1e-3)


def embedding(orders, buckets):
    return NgramEmbedding(ModernGPT(**SHAPE, ngram_embeddings=orders, ngram_buckets=buckets), V)


def test_enough_buckets_give_every_bigram_its_own():
    pairs = torch.cartesian_prod(torch.arange(V), torch.arange(V))
    assert len(embedding([2], V * V).hashed(pairs, 2).unique()) == V * V


def test_few_buckets_are_shared_by_many_and_all_are_used():
    triples = torch.cartesian_prod(*[torch.arange(V)] * 3)
    assert sorted(embedding([3], 50).hashed(triples, 3).unique().tolist()) == list(range(50))


def test_an_ngram_embedding_depends_on_its_last_tokens_with_boundaries_in_front_of_a_row():
    table = embedding([2, 3], 200)
    with torch.no_grad():
        for part in table.tables:
            part.weight.copy_(random(200, 16))
    alone, behind = table(torch.tensor([[5, 6]])), table(torch.tensor([[0, 0, 5, 6]]))
    assert torch.equal(alone, behind[:, 2:])
    other = table(torch.tensor([[9, 3, 5, 6]]))
    assert torch.equal(other[:, 3:] - behind[:, 3:] == 0, torch.zeros(1, 1, 16, dtype=torch.bool))
    assert torch.equal(table(torch.tensor([[9, 0, 5, 6]]))[:, 3:], behind[:, 3:])


def test_the_ngram_embedding_learns_a_text_that_two_tokens_determine():
    cycle = Documents.single(np.tile([1, 2, 1, 3, 2, 3], 60))
    config = ModernGPT(**SHAPE | {"layers": 1}, ngram_embeddings=[2], ngram_buckets=16, steps=40, batch_size=8)
    model = build(config, 4)
    model.fit(cycle, cycle, 0)
    assert -model.score(cycle.tokens[None, :12]).mean() < 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 12, "heads": 4, "row_length": 8}, "width 12 is no multiple of twice the heads 4"),
        ({"row_length": 65}, "row_length 65 exceeds window 64"),
        ({"ngram_embeddings": [2, 2]}, "names an order twice"),
        ({"ngram_embeddings": [1]}, "greater than or equal to 2"),
        ({"softcap": 0.0}, "greater than 0"),
    ],
)
def test_an_error_names_the_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValidationError, match=message):
        ModernGPT(**changes)
