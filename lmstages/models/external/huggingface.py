"""Writes and reads a LLaMA in the Hugging Face layout: a folder with ``config.json``, safetensors and a vocabulary.

A written folder loads in ``transformers.LlamaForCausalLM``. Reads any LLaMA without biases and without scaled rotary
embeddings, in 32 or 16 bits, in one file or several. Reads safetensors only: a pickle can run code. Knows the layout of
the folder; no text.
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
IGNORED = "rotary_emb.inv_freq"  # stored by older checkpoints, computed here
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def save(folder: Path, config: Llama, vocab_size: int, arrays: Arrays, definition: str | None, made: Made) -> None:
    """Write config, weights and, unless it is None, the vocabulary's ``definition``, each file with its sha256."""
    tensors = {theirs: np.ascontiguousarray(arrays[ours]) for ours, (theirs, _) in names(config).items()}
    save_bytes(folder / "model.safetensors", safetensors_bytes(tensors, {"format": "pt"}), made)
    save_json(folder / "config.json", _config(config, vocab_size), made)
    if definition is not None:
        save_bytes(folder / "tokenizer.json", definition.encode(), made)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.window}
        save_json(folder / "tokenizer_config.json", {**settings, "clean_up_tokenization_spaces": False}, made)


def _config(config: Llama, vocab_size: int) -> dict[str, Any]:
    """The content of ``config.json``; the boundary token is both BOS and EOS."""
    shape = {"hidden_size": config.width, "intermediate_size": config.hidden, "num_hidden_layers": config.layers}
    shape |= {"num_attention_heads": config.heads, "num_key_value_heads": config.key_value_heads}
    shape |= {
        "head_dim": config.width // config.heads,
        "max_position_embeddings": config.window,
        "vocab_size": vocab_size,
    }
    architecture: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "dtype": "float32",
    }
    architecture |= {"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": config.tied_output}
    parameters = {"rope_type": "default", "rope_theta": config.rope_base}
    rotary = {"rope_theta": config.rope_base, "rope_parameters": parameters}  # before and since transformers 5
    ends = {"bos_token_id": BOUNDARY, "eos_token_id": BOUNDARY}
    return {**architecture, **shape, **rotary, **ends, "rms_norm_eps": config.norm_epsilon}


# ---------------------------------------------------------------- read


@dataclass(frozen=True)
class Mapped:
    """A memory-mapped tensor."""

    tensor: torch.Tensor

    def all(self) -> np.ndarray:
        """As float32; a copy only where it has fewer bits."""
        return self.tensor.float().numpy()

    def at(self, rows: np.ndarray) -> np.ndarray:
        """(n,) row numbers -> (n, C) float32."""
        return self.tensor[torch.from_numpy(rows)].float().numpy()


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was read: its record, its tensors under our names, its BOS and EOS tokens, its bytes of weights."""

    config: Llama
    vocab_size: int
    tensors: Mapping[str, Mapped]
    begin: int | None
    end: int | None
    size: int


def read(folder: Path) -> Checkpoint:
    """A LLaMA checkpoint; UserError where it is none, or cannot be read without running its code."""
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
        content = json.loads(path.read_bytes())
        assert isinstance(content, dict)
    except (ValueError, AssertionError) as error:
        raise UserError(path, "is no JSON object") from error
    return content


def _must_be_plain(path: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError for settings that our network does not compute, instead of ignoring them."""
    if (model_type := config.get("model_type")) != "llama":
        raise UserError(path, f"model_type {model_type!r}", "allowed: llama")
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    allowed = {"attention_bias": (False, None), "mlp_bias": (False, None), "hidden_act": ("silu", None)}
    settings = {key: config.get(key) for key in allowed}
    settings["rope_type"] = rotary.get("rope_type", rotary.get("type"))
    allowed["rope_type"] = ("default", None)
    for key, value in settings.items():
        if value not in allowed[key]:
            remedy = "convert it to GGUF for engine: llama.cpp"
            raise UserError(path, f"{key} {value!r}", f"allowed: {allowed[key][0]!r}", remedy)


def _record(path: Path, config: Mapping[str, Any]) -> Llama:
    heads, width = (_number(path, config, key) for key in ("num_attention_heads", "hidden_size"))
    if config.get("head_dim") not in (None, width // heads):
        raise UserError(path, f"head_dim {config['head_dim']}", f"allowed: hidden_size / heads = {width // heads}")
    rotary = config.get("rope_parameters") or {}
    keys: dict[str, Any] = {
        "layers": _number(path, config, "num_hidden_layers"),
        "heads": heads,
        "width": width,
        "row_length": 1,
        "key_value_heads": config.get("num_key_value_heads") or heads,
        "hidden": _number(path, config, "intermediate_size"),
        "window": _number(path, config, "max_position_embeddings"),
        "rope_base": float(rotary.get("rope_theta") or config.get("rope_theta") or 10000.0),
        "norm_epsilon": float(config.get("rms_norm_eps", 1e-6)),
        "tied_output": bool(config.get("tie_word_embeddings", False)),
    }
    try:
        return Llama.model_validate(keys)
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(path, f"describes no LLaMA: {detail['loc']} {detail['msg']}") from error


def _number(path: Path, config: Mapping[str, Any], key: str) -> int:
    number = config.get(key)
    if not isinstance(number, int) or number < 1:
        raise UserError(path, f"{key} is {number!r}", "allowed: a whole number above 0")
    return number


def _first(token: Any) -> int | None:
    """The token, or the first of a list: LLaMA 3 lists several EOS tokens, the first of which ends a text."""
    return token[0] if isinstance(token, list) and token else token if isinstance(token, int) else None


def _files(folder: Path) -> list[Path]:
    """``model.safetensors``, or the files that its index lists; UserError where one is missing."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(_read_json(index).get("weight_map", {}).values()))]
    else:
        files = [folder / "model.safetensors"]
    if missing := [file for file in files if not file.is_file()]:
        pickled = sorted(file.name for pattern in PICKLED for file in folder.glob(pattern))
        problem = f"has pickled weights ({pickled[0]}), which can run code" if pickled else f"lacks {missing[0].name}"
        raise UserError(folder, problem, "allowed: safetensors", "convert it, or take a revision that has them")
    return files


def _tensors(folder: Path, files: list[Path], config: Llama, vocab_size: int) -> dict[str, Mapped]:
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no dict
        except SafetensorError as error:
            raise UserError(file, f"is truncated or no safetensors file ({error})", "", "fetch it again") from error
    if config.tied_output:
        tensors.pop("lm_head.weight", None)
    expected = names(config)
    allowed = {theirs for theirs, _ in expected.values()}
    if unknown := [name for name in sorted(tensors) if name not in allowed and not name.endswith(IGNORED)]:
        raise UserError(folder, f"tensor {unknown[0]} does not belong to a LLaMA without biases")
    shape = shapes(config, vocab_size)
    return {ours: _checked(folder, tensors, theirs, shape[ours]) for ours, (theirs, _) in expected.items()}


def _checked(folder: Path, tensors: Mapping[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> Mapped:
    if name not in tensors:
        raise UserError(folder, f"has no tensor {name}")
    tensor = tensors[name]
    if tuple(tensor.shape) != shape:
        raise UserError(folder, f"tensor {name} has shape {tuple(tensor.shape)}, config.json says {shape}")
    if tensor.dtype not in DTYPES:
        raise UserError(folder, f"tensor {name} is {tensor.dtype}", "allowed: float32, float16, bfloat16")
    return Mapped(tensor)
