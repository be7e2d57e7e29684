"""A checkpoint from elsewhere under our contracts: a model, and a tokenizer in our numbering.

It is a folder in the Hugging Face layout, on this machine or of the hub, or a GGUF file. No code of a checkpoint is
run: weights are safetensors or GGUF. Knows no text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lmstages.config.checkpoint_parts import parts_of
from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.sections import Pretrained
from lmstages.core import contents
from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.core.files import sha256_of
from lmstages.evaluation.gguf_checkpoints import LLAMA_CPP, GgufModel, read_gguf
from lmstages.evaluation.hub_checkpoints import fetched
from lmstages.evaluation.memory import memory_needed, memory_of_llama_cpp, must_fit
from lmstages.models.external import huggingface, transformers_folder
from lmstages.models.external.elsewhere import Bos, Elsewhere
from lmstages.models.external.llama_cpp import Engine
from lmstages.models.external.llama_cpp_decoding import LlamaCppPretrained, text_bytes
from lmstages.models.external.llama_tensors import shapes
from lmstages.models.external.mapped import FittedElsewhere, PretrainedModel, TheirTokens, mapped, renumbered
from lmstages.models.external.transformers_model import Logits, TransformersModel
from lmstages.tokenizers.base import Encoded
from lmstages.tokenizers.checkpoint import CheckpointTokenizer
from lmstages.tokenizers.of_transformers import from_any_folder
from lmstages.tokenizers.special_tokens import read_json
from lmstages.tokenizers.vocabularies import from_folder
from lmstages.training.devices import device_of

LONGEST_WINDOW = 2048  # tokens; the default where the checkpoint has a longer context


@dataclass(frozen=True)
class Loaded:
    """A checkpoint ready to be scored with ``memory`` bytes; ``choices``: what its row says of keys left open."""

    model: FittedElsewhere
    tokenizer: "OurNumbers"
    memory: int
    choices: Mapping[str, Any]
    device: str = "cpu"


class OurNumbers:
    """A checkpoint's own tokenizer under our contract, renumbered so that its end-of-text token is token 0."""

    escape: int | None = None

    def __init__(self, own: CheckpointTokenizer, vocab_size: int) -> None:
        self.own, self.vocab_size = own, vocab_size
        self.theirs = renumbered(vocab_size, own.end).numpy()

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The checkpoint's tokens of each text, renumbered, and the bytes that each token covers."""
        return [(self.theirs[tokens], lengths) for tokens, lengths in map(self.own.encode, texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The inverse of ``encode``; the boundary is empty text, unless the checkpoint spells it as a newline."""
        silent = self.own.spelling[self.own.end] != b"\n"
        return self.own.decode(int(self.theirs[token]) for token in tokens if not (silent and token == BOUNDARY))

    def to_json(self) -> dict[str, Any]:
        """Only the kind: nothing was fitted."""
        return {"kind": "own"}


# ---------------------------------------------------------------- loading


def load(chosen: Pretrained, mirror: str | None = None) -> Loaded:
    """The checkpoint that a config names, its header checked; UserError before anything large is read."""
    if chosen.gguf is not None:
        path = Path(chosen.gguf)
        parts = parts_of(path)
        if chosen.sha256 is not None and all(part.is_file() for part in parts):
            contents.must_have_sha256(parts[0], sha256_of(*parts), chosen.sha256)
        return _load_gguf(read_gguf(path, chosen), chosen)
    folder = Path(chosen.path) if chosen.path is not None else fetched(str(chosen.hub), str(chosen.revision), mirror)
    if engine_of(folder, chosen) == "transformers":
        return _load_by_transformers(folder, chosen)
    checkpoint = huggingface.read(folder)
    config = _with_window(folder, checkpoint.config, chosen.window)
    own = from_folder(folder, checkpoint.begin, checkpoint.ends)
    network = mapped(config, checkpoint.vocab_size, checkpoint.tensors)
    return _loaded(folder, chosen, config, checkpoint.vocab_size, network, own, checkpoint.size)


def engine_of(folder: Path, chosen: Pretrained) -> str:
    """The engine that the config names; by default our own for a LLaMA that it computes, transformers for all else."""
    if chosen.engine is not None or not (folder / "config.json").is_file():
        return chosen.engine or "torch"
    theirs = read_json(folder / "config.json")
    ours = theirs.get("model_type") == "llama" and not huggingface.is_beyond_ours(theirs)
    return "torch" if ours else "transformers"


def bos_of(chosen: Pretrained, architecture: str) -> Bos:
    """Where the begin of text stands: as the config says, else as the model was trained.

    Every training text of a Gemma begins with it, and without it its predictions are useless; lm-evaluation-harness
    has the same rule. The windows of others are cut anywhere from documents that it separates.
    """
    return chosen.bos or ("each_window" if "gemma" in architecture else "document")


def _load_gguf(read: GgufModel, chosen: Pretrained) -> Loaded:
    if read.record is None:
        return _load_by_llama_cpp(read, chosen)
    path, rows = Path(str(chosen.gguf)), read.file.vocab_size
    config = _with_window(path, read.record, chosen.window)
    return _loaded(path, chosen, config, rows, mapped(config, rows, read.matrices), read.own, read.file.size)


def _loaded(
    path: Path,
    chosen: Pretrained,
    config: Llama,
    rows: int,
    network: nn.Module,
    own: CheckpointTokenizer,
    size: int,
) -> Loaded:
    _must_have_rows(path, own, rows)
    _must_be_on_cpu(path, chosen)
    bos = bos_of(chosen, "llama")
    _must_not_spell_the_end(path, own, bos)
    model = PretrainedModel(
        config, rows, TheirTokens(network, rows, own.begin, own.end), parameters_of(config, rows), bos
    )
    choices = {"engine": "torch", "bos": bos, "bos_token": own.begin}
    return Loaded(model, OurNumbers(own, rows), memory_needed(config, rows, size), choices)


def _must_be_on_cpu(path: Path, chosen: Pretrained) -> None:
    for key, default in (("dtype", "float32"), ("device", "auto")):
        if getattr(chosen, key) not in (default, "cpu"):
            problem = f"{key} {getattr(chosen, key)} belongs to engine: transformers"
            raise UserError(path, problem, "this engine computes in float32 on the CPU", "leave it out")


def _must_have_rows(path: Path, own: CheckpointTokenizer, rows: int) -> None:
    if own.vocab_size > rows:
        problem = f"its vocabulary has {own.vocab_size:,} pieces, its embedding {rows:,} rows"
        raise UserError(path, problem, "a piece needs a row")


def _must_not_spell_the_end(path: Path, own: CheckpointTokenizer, bos: Bos) -> None:
    if bos == "none" and own.spelling[own.end] == b"\n":
        problem = "bos: none, but its end of text is the newline, which also stands within a text"
        raise UserError(path, problem, "allowed: document, each_window")


# ---------------------------------------------------------------- through transformers


def _load_by_transformers(path: Path, chosen: Pretrained) -> Loaded:
    folder, own, config = _readable(path, chosen)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise UserError(path, "device: cuda, but torch finds no GPU here", "auto and cpu work everywhere")
    device = device_of(chosen.device)
    memory = folder.memory(config.window, chosen.dtype)
    must_fit(str(path), memory, chosen.memory, device.type)
    rows, bos = folder.vocab_size, bos_of(chosen, folder.architecture)
    network = Logits(transformers_folder.network_of(folder, chosen.dtype))
    model = TransformersModel(
        config, rows, TheirTokens(network, rows, own.begin, own.end).to(device), folder.parameters, bos
    )
    choices = {"engine": "transformers", "bos": bos, "bos_token": own.begin, "dtype": chosen.dtype}
    return Loaded(model, OurNumbers(own, rows), memory, choices, device.type)


def _readable(path: Path, chosen: Pretrained) -> tuple[transformers_folder.Folder, CheckpointTokenizer, Elsewhere]:
    """The folder, its tokenizer and its shape with the window that it is scored with."""
    folder = transformers_folder.read(path)
    own = from_any_folder(path, folder.begin, folder.ends)
    _must_have_rows(path, own, folder.vocab_size)
    _must_not_spell_the_end(path, own, bos_of(chosen, folder.architecture))
    shape = Elsewhere(
        architecture=folder.architecture,
        layers=folder.count("num_hidden_layers"),
        width=folder.count("hidden_size"),
        window=_window(path, folder.longest, chosen.window),
    )
    return folder, own, shape


def must_be_scorable(chosen: Pretrained) -> None:
    """Raises UserError for a checkpoint on this machine that cannot be scored, from the headers of its files alone."""
    if chosen.path is not None and engine_of(Path(chosen.path), chosen) == "transformers":
        folder, _, config = _readable(Path(chosen.path), chosen)
        must_fit(chosen.path, folder.memory(config.window, chosen.dtype), chosen.memory)
        transformers_folder.must_be_complete(folder)
        return
    if chosen.gguf is None:
        memory = load(chosen).memory
    elif (read := read_gguf(Path(chosen.gguf), chosen)).record is None:
        memory = memory_of_llama_cpp(read.file, _shape(read, chosen).window)
    else:
        memory = _load_gguf(read, chosen).memory
    must_fit(str(chosen.gguf or chosen.path), memory, chosen.memory)


# ---------------------------------------------------------------- through llama.cpp


def _load_by_llama_cpp(read: GgufModel, chosen: Pretrained) -> Loaded:
    file, own, config = read.file, read.own, _shape(read, chosen)
    memory, rows = memory_of_llama_cpp(file, config.window), file.vocab_size
    must_fit(str(file.path), memory, chosen.memory)
    network = TheirTokens(Engine(file.path, rows, config.window), rows, own.begin, own.end)
    bos = bos_of(chosen, file.architecture)
    model = LlamaCppPretrained(config, rows, network, file.parameters, bos, text_bytes(file, config.window))
    return Loaded(model, OurNumbers(own, rows), memory, {"engine": LLAMA_CPP, "bos": bos, "bos_token": own.begin})


def _shape(read: GgufModel, chosen: Pretrained) -> Elsewhere:
    """The shape of a model that llama.cpp computes, with the window that it is scored with."""
    file, longest = read.file, read.file.count("context_length")
    _must_have_rows(file.path, read.own, file.vocab_size)
    _must_be_on_cpu(file.path, chosen)
    _must_not_spell_the_end(file.path, read.own, bos_of(chosen, file.architecture))
    window = _window(file.path, longest, chosen.window)
    layers, width = file.count("block_count"), file.count("embedding_length")
    return Elsewhere(architecture=file.architecture, layers=layers, width=width, window=window)


def parameters_of(config: Llama, vocab_size: int) -> int:
    """The number of weights of a LLaMA, norms included."""
    return sum(int(np.prod(shape)) for shape in shapes(config, vocab_size).values())


def _with_window(path: Path, config: Llama, window: int | None) -> Llama:
    """The record with the window that it is scored with; UserError where the checkpoint's context is shorter."""
    return config.model_copy(update={"window": _window(path, config.window, window)})


def _window(path: Path, longest: int | None, window: int | None) -> int:
    """The window that a config names, by default LONGEST_WINDOW; at most what the model was trained on, if known."""
    if window is not None and longest is not None and window > longest:
        raise UserError(path, f"window {window:,} found", f"allowed: up to {longest:,}, which it was trained on")
    return window or min(longest or LONGEST_WINDOW, LONGEST_WINDOW)
