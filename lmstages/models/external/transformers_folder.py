"""Checks and builds a folder in the Hugging Face layout, of any architecture that the package transformers computes.

All that can be known without the weights is checked from ``config.json`` and the headers of the safetensors files:
transformers loads, by its own rules, tensors of the stored shapes that take no memory, so that a tensor which is
missing, superfluous or of another shape is named before the first job. No code of a checkpoint is run, nothing is
fetched and no pickle is opened. Knows no text.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from lmstages.core.errors import UserError, did_you_mean, shortened
from lmstages.models.external.huggingface import UNREADABLE, special_tokens, weight_files
from lmstages.tokenizers.special_tokens import read_json

INSTALL = "pip install 'lmstages[transformers]'"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FLOATS = ("F32", "F16", "BF16")
# Causal masks and angles that older versions stored
STALE = (".masked_bias", ".attn.bias", ".attention.bias", "rotary_emb.inv_freq")
MOST_BUFFERS = 1 << 28  # numbers of masks and angles, which a network computes for itself
SPECIAL = ("bos", "eos")
COPIES = 6  # activations of one width that a layer holds at once; of logits, in the log-softmax
INNER = 5  # widths of a feed-forward layer, and of the vector that goes into it
REFUSED = {  # keys of config.json that lead elsewhere
    "quantization_config": ("is quantized", "take the checkpoint that it was made from, or GGUF"),
    "transformers_weights": ("names other files of weights", "remove the key"),
    "fusion_config": ("rewrites its modules", "remove the key"),
}
WINDOWS = ("max_position_embeddings", "max_seq_len")  # n_positions, n_ctx and others stand for the first


@dataclass(frozen=True)
class Folder:
    """A checkpoint that can be built; ``stored``: the shape of each tensor; ``size``: bytes of its files."""

    path: Path
    config: Any
    model_class: Any
    longest: int | None  # tokens; None for a state in place of a longest context
    stored: Mapping[str, tuple[int, ...]]
    parameters: int
    vocab_size: int
    begin: int | None
    ends: tuple[int, ...]
    size: int

    @property
    def architecture(self) -> str:
        """What transformers calls it."""
        return str(self.config.model_type)

    def count(self, key: str) -> int | None:
        """A number of the config, such as ``num_hidden_layers``, under whatever name the architecture has for it."""
        value = getattr(self.config, key, None)
        return value if isinstance(value, int) and 0 < value <= 1 << 17 else None

    def memory(self, window: int, dtype: str) -> int:
        """Bytes: the weights, the largest tensor as stored, a row's activations in a layer and its logits."""
        itemsize, largest = DTYPES[dtype].itemsize, max(map(math.prod, self.stored.values()), default=0)
        row = 4 * COPIES * window * max(self.vocab_size, INNER * (self.count("hidden_size") or 0))
        heads = self.count("num_attention_heads") or 0
        return itemsize * self.parameters + 4 * largest + row + 8 * heads * window**2 * (self.attention == "eager")

    @property
    def attention(self) -> str:
        """The implementation of attention, which a config cannot choose: a name there may stand for code to fetch."""
        return "sdpa" if self.model_class._supports_sdpa else "eager"


def must_be_installed(where: object) -> None:
    """Raises UserError where the package transformers is missing."""
    if find_spec("transformers") is None:
        raise UserError(where, "needs the package transformers, which is not installed", "", INSTALL)


def read(path: Path) -> Folder:
    """A folder, checked as far as its config and the headers of its weights go; UserError for what cannot work."""
    theirs = read_json(path / "config.json")
    must_be_installed(path / "config.json")
    model_class = _class_of(path / "config.json", theirs)
    _must_be_plain(path, theirs)
    files = weight_files(path)
    stored = _stored(path, files)
    config = _config(path, model_class, len(stored))
    network = _without_memory(path, config, model_class, sum(map(math.prod, stored.values())))
    vocab_size = _vocab_size(path, network)
    begins, ends = (special_tokens(path / "config.json", theirs, f"{key}_token_id", vocab_size) for key in SPECIAL)
    return Folder(
        path=path,
        config=config,
        model_class=model_class,
        longest=None if _has_no_window(model_class) else _longest(path, config),
        stored=stored,
        parameters=sum(weight.numel() for weight in network.parameters()),
        vocab_size=vocab_size,
        begin=begins[0] if begins else None,
        ends=ends,
        size=sum((path / name).stat().st_size for name in files),
    )


def _has_no_window(model_class: Any) -> bool:
    """Whether all that it remembers is a state, as of Mamba and RWKV; hybrids have attention, too."""
    return bool(getattr(model_class, "_is_stateful", False) and not model_class._supports_sdpa)


def _longest(path: Path, config: Any) -> int | None:
    """The longest context in tokens; None where the architecture has no limit. UserError for what is no length."""
    stated = [value for key in WINDOWS if (value := getattr(config, key, None)) is not None]
    if stated and (isinstance(stated[0], bool) or not isinstance(stated[0], int) or stated[0] < 2):
        raise UserError(path, f"config.json says a context of {shortened(stated[0])} tokens", "allowed: 2 or more")
    return stated[0] if stated else None


def must_be_complete(folder: Folder) -> None:
    """Raises UserError for a tensor that is missing, left over or of another shape; reads no weights."""
    _build(folder, {name: torch.zeros(()).expand(shape) for name, shape in folder.stored.items()}, torch.float32)


def network_of(folder: Folder, dtype: str) -> nn.Module:
    """The network with its weights, computed in ``dtype``, tried on two tokens.

    UserError where the files are not what ``read`` saw, or the network cannot be run.
    """
    network = _build(folder, None, DTYPES[dtype])
    with _transformers(folder.path), torch.inference_mode():
        shape = tuple(network(input_ids=torch.zeros(1, 2, dtype=torch.int64), use_cache=False).logits.shape)
    if shape != (1, 2, folder.vocab_size):
        problem = f"predicts {shape} numbers of 2 tokens"
        raise UserError(folder.path, problem, f"its output matrix has {folder.vocab_size:,} rows")
    return network


# ---------------------------------------------------------------- config.json


def _class_of(where: Path, theirs: Mapping[str, Any]) -> Any:
    """The class of transformers that predicts the next token; UserError for architectures without one."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    model_type, stated = theirs.get("model_type"), theirs.get("architectures")
    if not isinstance(model_type, str) or (model_type not in NAMES and model_type not in CONFIG_MAPPING):
        own = "needs code of its own (auto_map), which is never run: " if "auto_map" in theirs else ""
        hint = did_you_mean(str(model_type), NAMES)
        allowed = f"allowed: those that transformers {_version()} has{hint}"
        raise UserError(where, f"{own}model_type {shortened(model_type)}", allowed, "use GGUF with engine: llama.cpp")
    name = NAMES.get(model_type)
    if isinstance(stated, list) and stated and name not in stated:
        problem = f"architectures {shortened(stated)}, of model_type {shortened(model_type)}"
        raise UserError(where, problem, _allowed(name), "take a checkpoint that predicts the next token")
    if name is None or name.endswith("ForConditionalGeneration") or "vision_config" in theirs:
        problem = f"model_type {shortened(model_type)} does not predict the next token of a text"
        raise UserError(where, problem, "allowed: causal language models", "take a checkpoint of text alone")
    with _transformers(where):
        return MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]]


def _allowed(name: str | None) -> str:
    return f"allowed: {name}" if name else "it is no causal language model"


def _must_be_plain(path: Path, theirs: Mapping[str, Any]) -> None:
    """Raises UserError for what would lead to other weights, to code, or to a model that reads what it predicts."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS

    where = path / "config.json"
    for key, (problem, remedy) in REFUSED.items():
        if theirs.get(key):
            raise UserError(where, f"{key}: {problem}", "allowed: weights in 32 or 16 bits", remedy)
    if (path / "adapter_config.json").is_file():
        remedy = "merge it into its base model first, and save that"
        raise UserError(path, "is an adapter (adapter_config.json)", "allowed: a whole model", remedy)
    if theirs.get("is_encoder_decoder") or (theirs["model_type"] in ENCODERS and not theirs.get("is_decoder")):
        problem = f"model_type {theirs['model_type']!r} is an encoder, which reads what it would predict"
        raise UserError(where, problem, "allowed: causal language models", "")


def _config(path: Path, model_class: Any, tensors: int) -> Any:
    """transformers' record of ``config.json``; UserError where it takes none of its keys, or describes no network."""
    with _transformers(path / "config.json"):
        config = model_class.config_class.from_pretrained(str(path), local_files_only=True)
        config._attn_implementation = "sdpa" if model_class._supports_sdpa else "eager"
        layers = getattr(config, "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > tensors:
        raise UserError(path, f"config.json says {layers:,} layers, the files have {tensors:,} tensors")
    return config


def _without_memory(path: Path, config: Any, model_class: Any, numbers: int) -> nn.Module:
    """The network on torch's meta device; UserError where it has far more numbers than the files."""
    with _transformers(path / "config.json"), torch.device("meta"):
        network: nn.Module = model_class(config)
    weights, buffers = (sum(part.numel() for part in parts) for parts in (network.parameters(), network.buffers()))
    if weights > 2 * numbers or buffers > MOST_BUFFERS:
        problem = f"config.json describes {weights:,} weights and {buffers:,} numbers beside them"
        raise UserError(path, problem, f"the files have {numbers:,}", "fetch both again")
    return network


def _vocab_size(path: Path, network: Any) -> int:
    output = network.get_output_embeddings()
    if output is None or getattr(output, "weight", None) is None:
        raise UserError(path, "has no output matrix over tokens", "allowed: causal language models")
    return int(output.weight.shape[0])


# ---------------------------------------------------------------- weights


def _stored(path: Path, files: Mapping[str, list[str] | None]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, from the headers; UserError for types that are no weights in 32 or 16 bits."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, listed in files.items():
        header = _header(path / name)
        if listed is not None and (other := sorted(set(listed) ^ set(header))):
            problem = f"tensor {other[0]} is in only one of the index and the file"
            raise UserError(path / name, problem, "", "fetch both again")
        for tensor, (dtype, shape) in header.items():
            if dtype in FLOATS:
                shapes[tensor] = shape
            elif not tensor.endswith(STALE):
                raise UserError(path / name, f"tensor {tensor} is {dtype}", f"allowed: {', '.join(FLOATS)}")
    return shapes


def _header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type and shape of each tensor of a safetensors file."""
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # it is no dict
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except UNREADABLE as error:
        problem = f"is truncated or no safetensors file ({' '.join(str(error).split())[:200]})"
        raise UserError(file, problem, "", "fetch it again") from error


def _build(folder: Folder, tensors: dict[str, torch.Tensor] | None, dtype: torch.dtype) -> nn.Module:
    """The network with the weights of the files, or with ``tensors`` in their place."""
    origin = None if tensors is not None else str(folder.path)
    with _transformers(folder.path):
        network, info = folder.model_class.from_pretrained(
            origin,
            config=folder.config,
            state_dict=tensors,
            dtype=dtype,
            attn_implementation=folder.attention,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # these are refused below
            output_loading_info=True,
        )
    _must_fit_one_another(folder.path, info)
    module: nn.Module = network.eval().requires_grad_(False)
    return module


def _must_fit_one_another(path: Path, info: Mapping[str, Any]) -> None:
    """Raises UserError for tensors that are missing or left over, which transformers would draw at random or drop."""
    if missing := sorted(info["missing_keys"]):
        raise UserError(path, f"has no tensor {missing[0]}", "", "fetch its weights again")
    for name, found, expected in sorted(info["mismatched_keys"], key=str):
        problem = f"tensor {name} has shape {tuple(found)}, config.json says {tuple(expected)}"
        raise UserError(path, problem, "", "fetch both again")
    if unexpected := sorted(name for name in info["unexpected_keys"] if not name.endswith(STALE)):
        problem = f"tensor {unexpected[0]} does not belong to the model that config.json describes"
        raise UserError(path, problem, "", "fetch both again")
    if info["error_msgs"]:
        raise UserError(path, f"its weights do not fit ({_one_line(info['error_msgs'][0])})")


# ---------------------------------------------------------------- transformers itself


@contextmanager
def _transformers(where: Path) -> Iterator[None]:
    """Calls of transformers, silent; what they raise, of whatever class, is a UserError in one line."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of its own, of torch, of the records' validation
        problem = f"transformers {_version()} cannot build it ({type(error).__name__}: {_one_line(str(error))})"
        raise UserError(where, problem) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def _version() -> str:
    import transformers

    return str(transformers.__version__)
