"""GPT and LLaMA are the published networks: their sizes, their parts, and their logits are another implementation's."""

import numpy as np
import pytest
import torch

from lmstages.config.hyperparameters.attention import GPT, Llama
from lmstages.models.base import build

LECTURE = {"bias": True, "tied_output": False, "activation": "relu", "initialisation": "torch"}
EARLY = {**LECTURE, "width": 32, "window": 8, "row_length": 8}
ALONE = {"layers": 1, "projection": False, "residual": False, "norms": False, "feedforward": "none"}
PARTS = {"projection": True, "residual": True, "feedforward": "wide"}
STAGES = {
    "one head": ({**ALONE, "heads": 1}, 7_553),
    "many heads": ({**ALONE, "heads": 4}, 7_553),
    "feed-forward": ({**ALONE, "heads": 4, "feedforward": "layer"}, 8_609),
    "residual": ({**ALONE, "heads": 4, "layers": 3, **PARTS}, 41_921),
    "LayerNorm": ({**ALONE, "heads": 4, "layers": 3, **PARTS, "norms": True}, 42_369),
}


def untrained(config, vocab_size=65, seed=0):
    model = build(config, vocab_size)
    torch.manual_seed(seed)
    model.network = model.build().eval()
    return model


def test_the_lectures_gpt_has_its_published_size():
    config = GPT(layers=6, heads=6, width=384, window=256, row_length=256, **LECTURE)
    assert untrained(config).parameters() == 10_788_929


def test_nanogpt_has_its_published_size_positions_counted():
    config = GPT(layers=6, heads=6, width=384, window=256, row_length=256)
    assert untrained(config).parameters() == 10_745_088


def test_nanogpt_for_the_cpu_has_its_size():
    assert untrained(GPT()).parameters() == 804_096


def test_gpt2_has_its_published_size():
    config = GPT(layers=12, heads=12, width=768, window=1024, row_length=1024, bias=True, attention_bias=True)
    with torch.device("meta"):
        assert sum(weight.numel() for weight in build(config, 50_257).build().parameters()) == 124_439_808


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_of_the_lecture_has_its_parts_and_no_more(stage):
    switches, parameters = STAGES[stage]
    assert untrained(GPT(**EARLY, **switches)).parameters() == parameters


def test_gpt_logits_are_those_of_another_implementation():
    transformers = pytest.importorskip("transformers", reason="transformers is a test dependency")
    config = GPT(layers=2, heads=2, width=16, window=12, row_length=12, bias=True, attention_bias=True)
    ours = untrained(config, vocab_size=11)
    size = {"vocab_size": 11, "n_positions": 12, "n_embd": 16, "n_layer": 2, "n_head": 2}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(activation_function="gelu", **size)).eval()
    theirs.load_state_dict(gpt2_names(ours.arrays()))
    assert_same_logits(ours, theirs)


@pytest.mark.parametrize("key_value_heads", [1, 2, 4])
@pytest.mark.parametrize("tied_output", [True, False])
def test_llama_logits_are_those_of_another_implementation(key_value_heads, tied_output):
    transformers = pytest.importorskip("transformers", reason="transformers is a test dependency")
    shape = {"heads": 4, "key_value_heads": key_value_heads, "width": 32, "hidden": 40, "window": 12, "row_length": 12}
    ours = untrained(Llama(layers=2, rope_base=500.0, norm_epsilon=1e-4, tied_output=tied_output, **shape), 11)
    config = transformers.LlamaConfig(
        vocab_size=11,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=12,
        rms_norm_eps=1e-4,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        tie_word_embeddings=tied_output,
    )
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.load_state_dict(llama_names(ours.arrays()))
    assert_same_logits(ours, theirs)


def test_llama_attends_by_distance_and_not_by_position():
    model = untrained(Llama(layers=1, heads=2, key_value_heads=1, width=16, hidden=24, window=32, row_length=32), 9)
    attention, x = model.network.blocks[0].attention, torch.randn(1, 5, 16)
    near, far = (attention(x, model.network.cos_sin[:, start : start + 5]) for start in (0, 20))
    assert torch.allclose(near, far, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (GPT, {"heads": 3}, "width 128 is no multiple of heads 3"),
        (GPT, {"row_length": 65}, "row_length 65 exceeds window 64"),
        (Llama, {"heads": 4, "key_value_heads": 3}, "heads 4 is no multiple of key_value_heads 3"),
        (Llama, {"width": 12, "heads": 4}, "width 12 is no multiple of twice the heads 4"),
        (Llama, {"row_length": 65}, "row_length 65 exceeds window 64"),
    ],
)
def test_an_error_names_the_shapes_that_do_not_fit(config, changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def assert_same_logits(ours, theirs):
    """Weights are made larger than at the start, so that every part of the network shows in the logits."""
    tokens = torch.from_numpy(np.random.default_rng(3).integers(0, 11, (3, 12)))
    with torch.inference_mode():
        for network in (ours.network, theirs):
            for weight in set(network.parameters()):
                weight.mul_(10) if weight.dim() >= 2 else weight.add_(0.5)
        logits, reference = ours.network(tokens), theirs(tokens).logits
    assert reference.std() > 1
    assert torch.allclose(logits, reference, rtol=1e-5, atol=2e-5 * float(reference.abs().max()))


def llama_names(arrays):
    """Our arrays under the names of transformers' LlamaForCausalLM."""
    names = {
        "embedding": "model.embed_tokens",
        "blocks": "model.layers",
        "norm": "model.norm",
        "output": "lm_head",
        **{f"attention.{ours}": f"self_attn.{theirs}_proj" for ours, theirs in zip(QKVO, "qkvo", strict=True)},
        **{f"feedforward.{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
        "attention_norm": "input_layernorm",
        "feedforward_norm": "post_attention_layernorm",
    }
    return with_head({renamed(name, names): torch.from_numpy(array) for name, array in arrays.items()})


QKVO = ("queries", "keys", "values", "output")


def gpt2_names(arrays):
    """Our arrays under the names of transformers' GPT2LMHeadModel, whose layers hold their matrices transposed."""
    names = {
        "embedding": "transformer.wte",
        "positions": "transformer.wpe.weight",
        "blocks": "transformer.h",
        "norm": "transformer.ln_f",
        "attention.queries_keys_values": "attn.c_attn",
        "attention.output": "attn.c_proj",
        "feedforward.0": "mlp.c_fc",
        "feedforward.2": "mlp.c_proj",
        "attention_norm": "ln_1",
        "feedforward_norm": "ln_2",
    }
    parts = (".attention.", ".feedforward.")  # whose matrices are stored transposed
    weights = {
        renamed(name, names): torch.tensor(
            array.T if array.ndim == 2 and any(part in name for part in parts) else array
        )
        for name, array in arrays.items()
    }
    return with_head(weights, "transformer.wte")


def with_head(weights, embedding="model.embed_tokens"):
    """A tied output is stored once by us, twice by transformers."""
    return {"lm_head.weight": weights[f"{embedding}.weight"], **weights}


def renamed(name, names):
    """``blocks.0.attention.output.weight`` -> its parts, translated one by one."""
    head, _, rest = name.partition(".")
    if head != "blocks":
        return f"{names[head]}.{rest}" if rest else names[head]
    layer, _, rest = rest.partition(".")
    part, _, parameter = rest.rpartition(".")
    return f"{names['blocks']}.{layer}.{names[part]}.{parameter}"
