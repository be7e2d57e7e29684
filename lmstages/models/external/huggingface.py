"""Writes and reads a LLaMA in the Hugging Face layout: a folder with ``config.json``, safetensors and a vocabulary.

A written folder loads in ``transformers.LlamaForCausalLM``. Reads any LLaMA without biases and without scaled rotary
embeddings, in 32 or 16 bits, in one file or several. Reads safetensors only: a pickle can run code. Knows the layout of
the folder; no text.
"""

import json
import shlex
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
from lmstages.core.errors import UserError, shortened
from lmstages.models.external.llama_tensors import names, shapes
from lmstages.tokenizers.special_tokens import read_json

PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
IGNORED = "rotary_emb.inv_freq"  # stored by older checkpoints, computed here
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError)
# fmt: off
LLAMA_KEYS = {  # obeyed by ``_record`` and ``read``
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "rope_theta",
    "rope_parameters", "rope_scaling", "model_type", "bos_token_id", "eos_token_id",
}
PLAIN: dict[str, tuple[Any, ...]] = {  # keys that our network does not compute, and the values that switch them off
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "hidden_act": ("silu", None),
    "partial_rotary_factor": (1, None),
}
HARMLESS = {  # of training, of generation, of the program that wrote the file or of other tasks
    "architectures", "attention_dropout", "hidden_dropout", "initializer_range", "pretraining_tp", "use_cache",
    "torch_dtype", "dtype", "transformers_version", "name_or_path", "tokenizer_class", "max_sequence_length",
    "problem_type", "task_specific_params", "finetuning_task", "id2label", "label2id", "num_labels", "license",
    "use_bfloat16", "is_decoder", "chunk_size_feed_forward", "is_llama_config", "unsloth_fixed", "unsloth_version",
    "use_flash_attn", "tf_legacy_loss", "torchscript", "return_dict", "return_dict_in_generate",
    "output_attentions", "output_hidden_states", "output_scores", "prefix", "max_length", "min_length", "do_sample",
    "early_stopping", "num_beams", "num_beam_groups", "num_return_sequences", "temperature", "top_k", "top_p",
    "typical_p", "length_penalty", "repetition_penalty", "diversity_penalty", "no_repeat_ngram_size", "bad_words_ids",
    "encoder_no_repeat_ngram_size", "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "decoder_start_token_id", "pad_token_id",
    "sep_token_id",
}
# fmt: on
OFF: tuple[Any, ...] = (None, False, 0, [], {}, "")
ROTARY: dict[str, tuple[Any, ...]] = {  # keys of the rotary embeddings and the values that leave them unscaled
    "rope_type": ("default", None),
    "type": ("default", None),
    "factor": (1, None),
    "attention_factor": (1, None),
    "partial_rotary_factor": (1, None),
}
SCALED = ("linear", "dynamic", "yarn", "longrope", "llama3")
ROTARY_HARMLESS = ("rope_theta", "original_max_position_embeddings")
GGUF_REMEDY = "convert it to GGUF for engine: llama.cpp"


def save(folder: Path, config: Llama, vocab_size: int, arrays: Arrays, definition: str | None, made: Made) -> None:
    """Write config, weights and, unless it is None, the vocabulary's ``definition``, each file with its sha256."""
    tensors = {theirs: np.ascontiguousarray(arrays[ours]) for ours, (theirs, _) in names(config).items()}
    save_bytes(folder / "model.safetensors", safetensors_bytes(tensors, {"format": "pt"}), made)
    save_json(folder / "config.json", _config(config, vocab_size), made)
    if definition is not None:
        save_bytes(folder / "tokenizer.json", definition.encode(), made)
        save_json(folder / "tokenizer_config.json", _tokenizer_config(definition, config.window), made)


def _tokenizer_config(definition: str, window: int) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``: the boundary is BOS and EOS, and no text can spell it."""
    [boundary] = json.loads(definition)["post_processor"]["special_tokens"]
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": window}
    settings |= {"bos_token": boundary, "eos_token": boundary, "split_special_tokens": True}
    return {**settings, "clean_up_tokenization_spaces": False}


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
    """A folder that was read: its record, its tensors under our names, its BOS and EOS tokens, its bytes of weights.

    ``ends``: LLaMA 3 lists several EOS tokens, the first of which ends a text.
    """

    config: Llama
    vocab_size: int
    tensors: Mapping[str, Mapped]
    begin: int | None
    ends: tuple[int, ...]
    size: int

    @property
    def end(self) -> int | None:
        """The token that ends a text, None where the config does not say it."""
        return self.ends[0] if self.ends else None


def read(folder: Path) -> Checkpoint:
    """A LLaMA checkpoint; UserError where it is none, or cannot be read without running its code."""
    if not folder.is_dir():
        raise UserError(folder, "is a file" if folder.exists() else "no such folder", "a checkpoint is a folder")
    path = folder / "config.json"
    if not path.is_file() and (folder / "fit.json").is_file():
        fitted = shlex.quote(str(folder / "model.safetensors"))
        remedy = f"export its model first: lmstages export {fitted} --to hf --out NEW_FOLDER"
        raise UserError(folder, "is the folder of an experiment, not in the Hugging Face layout", "", remedy)
    theirs = read_json(path)
    _must_be_plain(path, theirs)
    files = weight_files(folder)
    config, vocab_size = _record(path, theirs), _number(path, theirs, "vocab_size")
    tensors = _tensors(folder, files, config, vocab_size)
    size = sum((folder / name).stat().st_size for name in files)
    begins, ends = (special_tokens(path, theirs, key, vocab_size) for key in ("bos_token_id", "eos_token_id"))
    return Checkpoint(config, vocab_size, tensors, begins[0] if begins else None, ends, size)


def is_beyond_ours(config: Mapping[str, Any]) -> bool:
    """Whether a LLaMA has parts that transformers computes and our network does not: LLaMA 3.1 and later, biases."""
    rotary = [config[name] for name in ("rope_parameters", "rope_scaling") if isinstance(config.get(name), dict)]
    scaled = any(keys.get(name) in SCALED for keys in rotary for name in ("rope_type", "type"))
    return scaled or any(config.get(key) is True for key in ("attention_bias", "mlp_bias"))


def _must_be_plain(path: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError for settings that our network does not compute, instead of ignoring them."""
    if (model_type := config.get("model_type")) != "llama":
        raise UserError(path, f"model_type {model_type!r}", "allowed: llama")
    for key, allowed in PLAIN.items():
        if config.get(key) not in allowed:
            raise UserError(path, f"{key} {config[key]!r}", f"allowed: {allowed[0]!r}", GGUF_REMEDY)
    classes = config.get("architectures") or ["LlamaForCausalLM"]
    if not isinstance(classes, list) or "llamaforcausallm" not in [str(name).lower() for name in classes]:
        raise UserError(path, f"architectures {shortened(classes)}", "allowed: LlamaForCausalLM")
    _must_not_scale(path, config)
    for key, value in config.items():
        known = key in LLAMA_KEYS or key in PLAIN or key in HARMLESS or key.startswith("_")
        if not known and value not in OFF:
            remedy = f"remove it if it changes nothing, else {GGUF_REMEDY}"
            raise UserError(path, f"{key} {shortened(value)}, which no LLaMA that we compute has", "", remedy)


def _must_not_scale(path: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError for rotary embeddings of another kind: under either name, before and since transformers 5."""
    bases = {"rope_theta": config.get("rope_theta")}
    for name in ("rope_parameters", "rope_scaling"):
        rotary = {} if config.get(name) is None else config[name]
        if not isinstance(rotary, dict):
            raise UserError(path, f"{name} {shortened(rotary)}", "allowed: an object or null")
        for key, value in rotary.items():
            if key not in ROTARY_HARMLESS and value not in ROTARY.get(key, OFF):
                allowed = ROTARY.get(key, OFF)[0]
                raise UserError(path, f"{name}.{key} {shortened(value)}", f"allowed: {allowed!r}", GGUF_REMEDY)
        bases[f"{name}.rope_theta"] = rotary.get("rope_theta")
    bases = {name: base for name, base in bases.items() if base is not None}
    if len(set(map(repr, map(_as_float, bases.values())))) > 1:
        problem = " but ".join(f"{name} {shortened(base)}" for name, base in bases.items())
        raise UserError(path, problem, "they must be equal", "remove the wrong one")


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, int) and abs(value) < 1 << 53 else value


def _record(path: Path, config: Mapping[str, Any]) -> Llama:
    heads, width = (_number(path, config, key) for key in ("num_attention_heads", "hidden_size"))
    if config.get("head_dim") not in (None, width // heads):
        raise UserError(path, f"head_dim {config['head_dim']}", f"allowed: hidden_size / heads = {width // heads}")
    rotary = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    base = next((base for base in (rotary.get("rope_theta"), config.get("rope_theta")) if base is not None), 10000.0)
    tied = config.get("tie_word_embeddings")
    if not isinstance(tied, bool | None):
        raise UserError(path, f"tie_word_embeddings {shortened(tied)}", "allowed: true or false")
    keys: dict[str, Any] = {
        "layers": _number(path, config, "num_hidden_layers"),
        "heads": heads,
        "width": width,
        "row_length": 1,
        "key_value_heads": _number(path, config, "num_key_value_heads", heads),
        "hidden": _number(path, config, "intermediate_size"),
        "window": _number(path, config, "max_position_embeddings"),
        "rope_base": _real(path, "rope_theta", base),
        "norm_epsilon": _real(path, "rms_norm_eps", config.get("rms_norm_eps", 1e-6)),
        "tied_output": bool(tied),
    }
    try:
        return Llama.model_validate(keys)
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(path, f"describes no LLaMA: {detail['loc']} {detail['msg']}") from error


def _number(path: Path, config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    number = default if config.get(key) is None else config[key]
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UserError(path, f"{key} is {shortened(number)}", "allowed: a whole number above 0")
    return number


def _real(path: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
        raise UserError(path, f"{key} is {shortened(value)}", "allowed: a number above 0")
    return float(value)


def special_tokens(path: Path, config: Mapping[str, Any], key: str, vocab_size: int) -> tuple[int, ...]:
    """The token or the tokens under ``key``, none for null; UserError for what is no row of the embedding."""
    value = config.get(key)
    tokens = value if isinstance(value, list) else [] if value is None else [value]
    for token in tokens:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
            allowed = f"allowed: 0 to {vocab_size - 1:,}, the rows of the embedding, or null"
            raise UserError(path, f"{key} is {shortened(token)}", allowed, "take the number from the tokenizer's files")
    return tuple(tokens)


def weight_files(folder: Path) -> dict[str, list[str] | None]:
    """``model.safetensors``, or the files of its index, each with the tensors that the index places in it."""
    index, single = folder / "model.safetensors.index.json", "model.safetensors"
    tensors: dict[str, list[str] | None] = {single: None}
    if index.is_file():
        tensors = dict(_weight_map(index))
        if (folder / single).is_file() and single not in tensors:
            problem = f"has both {single} and {index.name}, which lists other files"
            raise UserError(folder, problem, "allowed: one of them", "remove the one that is not meant")
    if missing := [name for name in tensors if not (folder / name).is_file()]:
        pickled = sorted(file.name for pattern in PICKLED for file in folder.glob(pattern))
        problem = f"has pickled weights ({pickled[0]}), which can run code" if pickled else f"lacks {missing[0]}"
        raise UserError(folder, problem, "allowed: safetensors", "convert it, or take a revision that has them")
    return tensors


def _weight_map(index: Path) -> dict[str, list[str]]:
    """An index -> the names of the tensors in each of its files."""
    places = read_json(index).get("weight_map")
    tensors: dict[str, list[str]] = {}
    if not isinstance(places, dict) or not places:
        raise UserError(index, "has no weight_map", "an index says in which file each tensor is")
    for tensor, name in places.items():
        if not isinstance(name, str) or Path(name).name != name or "\0" in name:
            raise UserError(
                index, f"tensor {tensor} lies in {shortened(name)}", "allowed: the name of a file beside it"
            )
        tensors.setdefault(name, []).append(tensor)
    return dict(sorted(tensors.items()))


def _tensors(folder: Path, files: Mapping[str, list[str] | None], config: Llama, vocab_size: int) -> dict[str, Mapped]:
    tensors: dict[str, torch.Tensor] = {}
    for name, listed in files.items():
        stored = _stored(folder / name)
        if listed is not None and (other := sorted(set(listed) ^ set(stored))):
            problem = f"tensor {other[0]} is in only one of the index and the file"
            raise UserError(folder / name, problem, "", "fetch both again")
        tensors |= stored
    if config.tied_output:
        _must_be_tied(folder, tensors)
    if config.layers > len(tensors):
        raise UserError(folder, f"config.json says {config.layers:,} layers, the files have {len(tensors):,} tensors")
    expected = names(config)
    allowed = {theirs for theirs, _ in expected.values()}
    if unknown := [name for name in sorted(tensors) if name not in allowed and not name.endswith(IGNORED)]:
        raise UserError(folder, f"tensor {unknown[0]} does not belong to a LLaMA without biases")
    shape = shapes(config, vocab_size)
    return {ours: _checked(folder, tensors, theirs, shape[ours]) for ours, (theirs, _) in expected.items()}


def _stored(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of one safetensors file."""
    try:
        with safe_open(file, framework="pt") as opened:
            layout = (opened.metadata() or {}).get("format", "pt")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no dict
    except UNREADABLE as error:
        problem = f"is truncated or no safetensors file ({' '.join(str(error).split())[:200]})"
        raise UserError(file, problem, "", "fetch it again") from error
    if layout not in ("pt", "mlx"):
        raise UserError(file, f"its metadata format is {shortened(layout)}", "allowed: 'pt'", "save it from PyTorch")
    return tensors


def _must_be_tied(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Remove an output matrix that repeats the embedding; raises UserError for one that says something else."""
    output, embedding = tensors.pop("lm_head.weight", None), tensors.get("model.embed_tokens.weight")
    if output is not None and embedding is not None and not torch.equal(output, embedding):
        problem = "config.json says tie_word_embeddings, but lm_head.weight is another matrix than embed_tokens"
        raise UserError(folder, problem, "", "set tie_word_embeddings to what the model was trained with")


def _checked(folder: Path, tensors: Mapping[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> Mapped:
    if name not in tensors:
        raise UserError(folder, f"has no tensor {name}")
    tensor = tensors[name]
    if tuple(tensor.shape) != shape:
        raise UserError(folder, f"tensor {name} has shape {tuple(tensor.shape)}, config.json says {shape}")
    if tensor.dtype not in DTYPES:
        raise UserError(folder, f"tensor {name} is {tensor.dtype}", "allowed: float32, float16, bfloat16")
    return Mapped(tensor)
