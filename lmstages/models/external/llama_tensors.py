"""Names of LLaMA's tensors here, in the Hugging Face layout and in GGUF, and the order of their rows.

Here as in the Hugging Face layout, rotary embeddings pair component i of a head with component i + W / 2; in GGUF they
pair 2i with 2i + 1. So the rows of queries and keys have another order there, within each head:

    row i of GGUF's head = row order[i] of ours,    order = 0, W / 2, 1, W / 2 + 1, ...

Keys have fewer heads of the same width W. Knows shapes and names; no file, no text and no format of weights.
"""

import numpy as np

from lmstages.config.hyperparameters.attention import Llama

TOP = {  # ours: (Hugging Face, GGUF)
    "embedding.weight": ("model.embed_tokens.weight", "token_embd.weight"),
    "norm.weight": ("model.norm.weight", "output_norm.weight"),
    "output.weight": ("lm_head.weight", "output.weight"),
}
LAYER = {
    "attention_norm.weight": ("input_layernorm.weight", "attn_norm.weight"),
    "attention.queries.weight": ("self_attn.q_proj.weight", "attn_q.weight"),
    "attention.keys.weight": ("self_attn.k_proj.weight", "attn_k.weight"),
    "attention.values.weight": ("self_attn.v_proj.weight", "attn_v.weight"),
    "attention.output.weight": ("self_attn.o_proj.weight", "attn_output.weight"),
    "feedforward_norm.weight": ("post_attention_layernorm.weight", "ffn_norm.weight"),
    "feedforward.gate.weight": ("mlp.gate_proj.weight", "ffn_gate.weight"),
    "feedforward.up.weight": ("mlp.up_proj.weight", "ffn_up.weight"),
    "feedforward.down.weight": ("mlp.down_proj.weight", "ffn_down.weight"),
}


def names(config: Llama) -> dict[str, tuple[str, str]]:
    """Every tensor of a LLaMA: ours -> (Hugging Face, GGUF), in the order of the network."""
    tensors = {"embedding.weight": TOP["embedding.weight"]}
    for layer in range(config.layers):
        for ours, (hugging_face, gguf) in LAYER.items():
            tensors[f"blocks.{layer}.{ours}"] = (f"model.layers.{layer}.{hugging_face}", f"blk.{layer}.{gguf}")
    tensors["norm.weight"] = TOP["norm.weight"]
    return tensors if config.tied_output else tensors | {"output.weight": TOP["output.weight"]}


def shapes(config: Llama, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of a LLaMA: ours -> its shape, rows first."""
    width, hidden, shared = config.width, config.hidden, config.width // config.heads * config.key_value_heads
    layer = {"attention.keys": (shared, width), "attention.values": (shared, width)}
    layer |= {"attention.queries": (width, width), "attention.output": (width, width)}
    layer |= {"feedforward.gate": (hidden, width), "feedforward.up": (hidden, width)}
    layer |= {"feedforward.down": (width, hidden)}
    top = {"embedding": (vocab_size, width), "output": (vocab_size, width)}
    return {name: (layer | top).get(_role(name), (width,)) for name in names(config)}


def _role(name: str) -> str:
    """``blocks.3.attention.keys.weight`` -> ``attention.keys``."""
    return name.removesuffix(".weight").split(".", 2)[-1] if name.startswith("blocks.") else name.partition(".")[0]


def gguf_order(name: str, config: Llama) -> np.ndarray | None:
    """(rows,) for each of GGUF's rows the index of ours; None where the order is the same."""
    heads = {"attention.queries": config.heads, "attention.keys": config.key_value_heads}.get(_role(name))
    if heads is None:
        return None
    rows = np.arange(heads * (config.width // config.heads))
    return rows.reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)


def our_order(name: str, config: Llama) -> np.ndarray | None:
    """(rows,) for each of our rows the index of GGUF's: the inverse of ``gguf_order``."""
    order = gguf_order(name, config)
    return None if order is None else np.argsort(order)
