"""Fitted networks in the layout of a class of transformers that computes the same, else with a loader in plain torch.

    gpt                 GPT2LMHeadModel     Radford et al. 2019; biases that ours lacks are zeros
    modern_gpt          NanoChatForCausalLM Karpathy 2025; it rotates by the opposite angle: halves of heads are swapped
    rnn, gru, lstm      load.py             torch's own layers; transformers has none of them

``LAYOUTS`` is the list. Each gives the same logits, up to rounding, for token 0 followed by a text. Knows no text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmstages.config.hyperparameters.attention import GPT, ModernGPT
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.neural import GRU, LSTM, RNN
from lmstages.core.documents import BOUNDARY, Arrays
from lmstages.core.errors import UserError

RMS_EPSILON = float(np.finfo(np.float32).eps)  # of ``models.neural.attention.rms_norm``
SPECIAL = {"bos_token_id": BOUNDARY, "eos_token_id": BOUNDARY}
LOADER = '''\
"""The network of this folder in plain torch:  logits, state = network(tokens)

tokens (B, T), the first of a text being 0 -> logits (B, T, V) of the token after each.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parent
CONFIG = json.loads((FOLDER / "config.json").read_text())


class Network(torch.nn.Module):
    def __init__(self, vocab_size, embedding_size, hidden_size, num_layers, cell, **_):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, embedding_size)
        self.cells = getattr(torch.nn, cell)(embedding_size, hidden_size, num_layers, batch_first=True)
        self.output = torch.nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens, state=None):
        outputs, state = self.cells(self.embedding(tokens), state)
        return self.output(outputs), state


network = Network(**CONFIG).eval()
network.load_state_dict(load_file(FOLDER / "model.safetensors"))
'''


@dataclass(frozen=True)
class NetworkLayout:
    """``config.json``, the tensors of ``model.safetensors``, and ``load.py`` where transformers has no such class."""

    config: Mapping[str, Any]
    tensors: Arrays
    loader: str | None = None


def layout_of(where: object, config: ModelConfig, vocab_size: int, arrays: Arrays) -> NetworkLayout:
    """A fitted network in its layout; a UserError naming ``where`` for one that no layout computes."""
    convert = LAYOUTS.get(type(config))
    if convert is None:
        raise UserError(where, f"is of model {config.name}", f"allowed: {', '.join(map(_name, LAYOUTS))}, llama")
    return convert(where, config, vocab_size, arrays)


def _name(config: type[ModelConfig]) -> str:
    return config.name


def _must_have(where: object, config: ModelConfig, layout: str, needed: Mapping[str, Any]) -> None:
    """Raises UserError for the first switch that the layout does not have as the network has it."""
    for key, value in needed.items():
        if (switch := getattr(config, key)) != value:
            remedy = "fit another, or read the model with lmstages.load"
            raise UserError(where, f"{key} is {_written(switch)}", f"{layout} has {key}: {_written(value)}", remedy)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---------------------------------------------------------------- gpt


def _gpt2(where: object, config: Any, vocab_size: int, arrays: Arrays) -> NetworkLayout:
    _must_have(where, config, "GPT-2", {"residual": True, "norms": True})
    if config.feedforward == "layer":
        _must_have(where, config, "GPT-2", {"feedforward": "wide"})
    if config.bias and not config.tied_output:
        _must_have(where, config, "GPT-2", {"tied_output": True})
    tensors = {"transformer.wte.weight": arrays["embedding.weight"], "transformer.wpe.weight": arrays["positions"]}
    for layer in range(config.layers):
        for name, array in _gpt2_block(config, arrays, f"blocks.{layer}").items():
            tensors[f"transformer.h.{layer}.{name}"] = array
    tensors |= _norm(arrays, "norm", "transformer.ln_f", config.width)
    if not config.tied_output:
        tensors["lm_head.weight"] = arrays["output.weight"]
    shape = {"n_embd": config.width, "n_layer": config.layers, "n_head": config.heads, "n_positions": config.window}
    shape |= {"n_inner": _inner(config), "vocab_size": vocab_size, "tie_word_embeddings": config.tied_output}
    architecture = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "dtype": "float32", **SPECIAL}
    rest = {"activation_function": config.activation, "layer_norm_epsilon": 1e-5}
    return NetworkLayout({**architecture, **shape, **rest}, tensors)


def _inner(config: Any) -> int:
    return 4 * config.width if config.feedforward == "wide" else 1


def _gpt2_block(config: Any, arrays: Arrays, block: str) -> Arrays:
    """The tensors of a block; matrices are stored transposed, what is switched off adds zeros."""
    width, inner = config.width, _inner(config)
    attention = _linear(arrays, f"{block}.attention.queries_keys_values", "attn.c_attn", (width, 3 * width))
    projection = _linear(arrays, f"{block}.attention.output", "attn.c_proj", (width, width))
    if not config.projection:
        projection["attn.c_proj.weight"] = np.eye(width, dtype=np.float32)
    up = _linear(arrays, f"{block}.feedforward.0", "mlp.c_fc", (width, inner))
    down = _linear(arrays, f"{block}.feedforward.2", "mlp.c_proj", (inner, width))
    norms = _norm(arrays, f"{block}.attention_norm", "ln_1", width)
    norms |= _norm(arrays, f"{block}.feedforward_norm", "ln_2", width)
    return {**norms, **attention, **projection, **up, **down}


def _linear(arrays: Arrays, ours: str, theirs: str, shape: tuple[int, int]) -> Arrays:
    weight = arrays[f"{ours}.weight"].T if f"{ours}.weight" in arrays else np.zeros(shape, np.float32)
    return {f"{theirs}.weight": weight, f"{theirs}.bias": arrays.get(f"{ours}.bias", np.zeros(shape[1], np.float32))}


def _norm(arrays: Arrays, ours: str, theirs: str, width: int) -> Arrays:
    weight = arrays.get(f"{ours}.weight", np.ones(width, np.float32))
    return {f"{theirs}.weight": weight, f"{theirs}.bias": arrays.get(f"{ours}.bias", np.zeros(width, np.float32))}


# ---------------------------------------------------------------- modern_gpt

NANOCHAT = dict.fromkeys(("rms_norm", "rotary", "query_key_norm", "squared_relu"), True)
NANOCHAT |= {"value_embeddings": False, "ngram_embeddings": []}  # type: ignore[dict-item]


def _nanochat(where: object, config: Any, vocab_size: int, arrays: Arrays) -> NetworkLayout:
    _must_have(where, config, "NanoChat", NANOCHAT)
    tensors = {"model.embed_tokens.weight": arrays["embedding.weight"]}
    for layer in range(config.layers):
        block, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        queries, keys, values = arrays[f"{block}.attention.queries_keys_values"]
        tensors[f"{theirs}.self_attn.q_proj.weight"] = _swapped(queries, config.heads)
        tensors[f"{theirs}.self_attn.k_proj.weight"] = _swapped(keys, config.heads)
        tensors[f"{theirs}.self_attn.v_proj.weight"] = values
        tensors[f"{theirs}.self_attn.o_proj.weight"] = arrays[f"{block}.attention.output.weight"]
        tensors[f"{theirs}.mlp.fc1.weight"] = arrays[f"{block}.feedforward.up.weight"]
        tensors[f"{theirs}.mlp.fc2.weight"] = arrays[f"{block}.feedforward.down.weight"]
    if not config.tied_output:
        tensors["lm_head.weight"] = arrays["output.weight"]
    shape = {"hidden_size": config.width, "intermediate_size": 4 * config.width, "vocab_size": vocab_size}
    shape |= {"num_hidden_layers": config.layers, "num_attention_heads": config.heads}
    shape |= {"num_key_value_heads": config.heads, "max_position_embeddings": config.window}
    architecture = {"architectures": ["NanoChatForCausalLM"], "model_type": "nanochat", "dtype": "float32", **SPECIAL}
    rotary = {"rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base}}
    rest = {"hidden_act": "relu2", "rms_norm_eps": RMS_EPSILON, "final_logit_softcapping": config.softcap}
    rest |= {"tie_word_embeddings": config.tied_output, "pad_token_id": None, **rotary}
    return NetworkLayout({**architecture, **shape, **rest}, tensors)


def _swapped(weight: np.ndarray, heads: int) -> np.ndarray:
    """(D, D) the rows of every head with their halves swapped: rotating (b, a) by -x is rotating (a, b) by x."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves[:, ::-1].reshape(weight.shape)


# ---------------------------------------------------------------- rnn, gru, lstm


def _recurrent(where: object, config: Any, vocab_size: int, arrays: Arrays) -> NetworkLayout:
    shape = {"vocab_size": vocab_size, "embedding_size": config.embedding, "hidden_size": config.hidden}
    rest = {"num_layers": config.layers, "cell": config.name.upper(), "dtype": "float32", **SPECIAL}
    return NetworkLayout({"model_type": f"lmstages_{config.name}", **shape, **rest}, arrays, LOADER)


LAYOUTS: dict[type[ModelConfig], Callable[[object, Any, int, Arrays], NetworkLayout]] = {
    GPT: _gpt2,
    ModernGPT: _nanochat,
    **dict.fromkeys((RNN, GRU, LSTM), _recurrent),
}
