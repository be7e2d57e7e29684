"""LLaMA in the Hugging Face layout: a folder with ``config.json``, safetensors and a vocabulary, written and read.

What is written loads in ``transformers.LlamaForCausalLM``; what is read is any LLaMA without biases and scaled
rotations, in 32 or 16 bits, whole or in parts. Only safetensors are read: a pickle can run code. Knows how the folder
is laid out; never a text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from lmstages.config.hyperparameters.attention import Llama
from lmstages.core.artifacts import Made, save_bytes, save_json
from lmstages.core.documents import BOUNDARY, Arrays
from lmstages.core.errors import UserError
from lmstages.models.external.llama_tensors import names, shapes

PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
IGNORED = "rotary_emb.inv_freq"  # older checkpoints store what follows from the base
TYPES = (torch.float32, torch.float16, torch.bfloat16)


def save(folder: Path, config: Llama, vocab_size: int, arrays: Arrays, definition: str | None, made: Made) -> None:
    """Write config, weights and, where there is one, the vocabulary's ``definition``; each with its sha256."""
    tensors = {theirs: np.ascontiguousarray(arrays[ours]) for ours, (theirs, _) in names(config).items()}
    save_bytes(folder / "model.safetensors", safetensors_bytes(tensors, {"format": "pt"}), made)
    save_json(folder / "config.json", _config(config, vocab_size), made)
    if definition is not None:
        save_bytes(folder / "tokenizer.json", definition.encode(), made)
        told = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.window}
        save_json(folder / "tokenizer_config.json", {**told, "clean_up_tokenization_spaces": False}, made)


def _config(config: Llama, vocab_size: int) -> dict[str, Any]:
    """What transformers wants to know; the boundary begins and ends a text."""
    shape = {"hidden_size": config.width, "intermediate_size": config.hidden, "num_hidden_layers": config.layers}
    shape |= {"num_attention_heads": config.heads, "num_key_value_heads": config.key_value_heads}
    shape |= {
        "head_dim": config.width // config.heads,
        "max_position_embeddings": config.window,
        "vocab_size": vocab_size,
    }
    kind: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "dtype": "float32",
    }
    kind |= {"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": config.tied_output}
    rotation = {"rope_type": "default", "rope_theta": config.rope_base}
    rotations = {"rope_theta": config.rope_base, "rope_parameters": rotation}  # before and since transformers 5
    marks = {"bos_token_id": BOUNDARY, "eos_token_id": BOUNDARY}
    return {**kind, **shape, **rotations, **marks, "rms_norm_eps": config.norm_epsilon}


# ---------------------------------------------------------------- read


@dataclass(frozen=True)
class Mapped:
    """A tensor that stays in its file."""

    tensor: torch.Tensor

    def all(self) -> np.ndarray:
        """As float32; a copy only where it has fewer bits."""
        return self.tensor.float().numpy()

    def at(self, rows: np.ndarray) -> np.ndarray:
        """(n,) -> (n, C) float32."""
        return self.tensor[torch.from_numpy(rows)].float().numpy()


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was read: its record, its tensors under our names, what begins and what ends a text."""

    config: Llama
    vocab_size: int
    tensors: Mapping[str, Mapped]
    begin: int | None
    end: int | None
    size: int


def read(folder: Path) -> Checkpoint:
    """A LLaMA checkpoint; an error where it is none, or cannot be read without running its code."""
    if not folder.is_dir():
        raise UserError(folder, "no such folder")
    path = folder / "config.json"
    theirs = _read_json(path)
    _must_be_plain(path, theirs)
    files = _files(folder)
    config, vocab_size = _record(path, theirs), _number(path, theirs, "vocab_size")
    tensors = _tensors(folder, files, config, vocab_size)
    size = sum(file.stat().st_size for file in files)
    begin, end = (_first(theirs.get(key)) for key in ("bos_token_id", "eos_token_id"))
    return Checkpoint(config, vocab_size, tensors, begin, end, size)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(path, "no such file", "a checkpoint in the Hugging Face layout has one")
    try:
        found = json.loads(path.read_bytes())
        assert isinstance(found, dict)
    except (ValueError, AssertionError) as error:
        raise UserError(path, "is no JSON object") from error
    return found


def _must_be_plain(path: Path, config: Mapping[str, Any]) -> None:
    """What our network does not do is refused and never left out."""
    if (kind := config.get("model_type")) != "llama":
        raise UserError(path, f"model_type {kind!r}", "allowed: llama")
    rotations = config.get("rope_parameters") or config.get("rope_scaling") or {}
    wanted = {"attention_bias": (False, None), "mlp_bias": (False, None), "hidden_act": ("silu", None)}
    found = {key: config.get(key) for key in wanted}
    found["rope_type"] = rotations.get("rope_type", rotations.get("type"))
    wanted["rope_type"] = ("default", None)
    for key, value in found.items():
        if value not in wanted[key]:
            remedy = "convert it to GGUF for engine: llama.cpp"
            raise UserError(path, f"{key} {value!r}", f"allowed: {wanted[key][0]!r}", remedy)


def _record(path: Path, config: Mapping[str, Any]) -> Llama:
    heads, width = (_number(path, config, key) for key in ("num_attention_heads", "hidden_size"))
    if config.get("head_dim") not in (None, width // heads):
        raise UserError(path, f"head_dim {config['head_dim']}", f"allowed: hidden_size / heads = {width // heads}")
    rotations = config.get("rope_parameters") or {}
    told: dict[str, Any] = {
        "layers": _number(path, config, "num_hidden_layers"),
        "heads": heads,
        "width": width,
        "row_length": 1,
    }
    told |= {"key_value_heads": config.get("num_key_value_heads") or heads}
    told |= {"hidden": _number(path, config, "intermediate_size")}
    told |= {"window": _number(path, config, "max_position_embeddings")}
    told |= {"rope_base": float(rotations.get("rope_theta") or config.get("rope_theta") or 10000.0)}
    told |= {"norm_epsilon": float(config.get("rms_norm_eps", 1e-6))}
    try:
        return Llama.model_validate({**told, "tied_output": bool(config.get("tie_word_embeddings", False))})
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(path, f"describes no LLaMA: {detail['loc']} {detail['msg']}") from error


def _number(path: Path, config: Mapping[str, Any], key: str) -> int:
    found = config.get(key)
    if not isinstance(found, int) or found < 1:
        raise UserError(path, f"{key} is {found!r}", "allowed: a whole number above 0")
    return found


def _first(token: Any) -> int | None:
    """LLaMA 3 names several ends; the first ends a text."""
    return token[0] if isinstance(token, list) and token else token if isinstance(token, int) else None


def _files(folder: Path) -> list[Path]:
    """``model.safetensors`` or the parts that its index names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(_read_json(index).get("weight_map", {}).values()))]
    else:
        files = [folder / "model.safetensors"]
    if missing := [file for file in files if not file.is_file()]:
        pickled = sorted(file.name for pattern in PICKLED for file in folder.glob(pattern))
        found = f"has its weights pickled ({pickled[0]}), which can run code" if pickled else f"lacks {missing[0].name}"
        raise UserError(folder, found, "allowed: safetensors", "convert it, or take a revision that has them")
    return files


def _tensors(folder: Path, files: list[Path], config: Llama, vocab_size: int) -> dict[str, Mapped]:
    found: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no dict
        except SafetensorError as error:
            raise UserError(file, f"is truncated or no safetensors file ({error})", "", "fetch it again") from error
    if config.tied_output:
        found.pop("lm_head.weight", None)
    wanted = names(config)
    known = {theirs for theirs, _ in wanted.values()}
    if unknown := [name for name in sorted(found) if name not in known and not name.endswith(IGNORED)]:
        raise UserError(folder, f"tensor {unknown[0]} has no place in a LLaMA without biases")
    shape = shapes(config, vocab_size)
    return {ours: _checked(folder, found, theirs, shape[ours]) for ours, (theirs, _) in wanted.items()}


def _checked(folder: Path, found: Mapping[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> Mapped:
    if name not in found:
        raise UserError(folder, f"has no tensor {name}")
    if tuple(found[name].shape) != shape:
        raise UserError(folder, f"tensor {name} has shape {tuple(found[name].shape)}, config.json says {shape}")
    if found[name].dtype not in TYPES:
        raise UserError(folder, f"tensor {name} is {found[name].dtype}", "allowed: float32, float16, bfloat16")
    return Mapped(found[name])
