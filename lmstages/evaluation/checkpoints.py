"""A checkpoint from elsewhere under our contracts: a model, and a tokenizer in our numbering.

It is a folder in the Hugging Face layout, on this machine or of the hub, or a GGUF file. No code of a checkpoint is
run: weights are safetensors or GGUF. Knows no text.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lmstages.config.checkpoint_parts import parts_of
from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.sections import Pretrained
from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.evaluation.gguf_checkpoints import LLAMA_CPP, read_gguf
from lmstages.evaluation.hub_checkpoints import fetched
from lmstages.evaluation.memory import memory_needed, memory_of_llama_cpp, must_fit
from lmstages.models.external import huggingface
from lmstages.models.external.llama_cpp_decoding import LlamaCppPretrained, text_bytes
from lmstages.models.external.llama_tensors import shapes
from lmstages.models.external.mapped import FittedElsewhere, PretrainedModel, TheirTokens, mapped, renumbered
from lmstages.tokenizers.base import Encoded
from lmstages.tokenizers.vocabularies import CheckpointTokenizer, from_folder

HASHED_AT_ONCE = 1 << 24  # bytes
LONGEST_WINDOW = 2048  # tokens; the default where the checkpoint has a longer context


@dataclass(frozen=True)
class Loaded:
    """A checkpoint ready to be scored, its weights memory-mapped; ``needed``: bytes of memory that scoring takes."""

    model: FittedElsewhere
    tokenizer: "OurNumbers"
    needed: int
    engine: str


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
    """The checkpoint that a config names; its header is read and checked, its weights are memory-mapped."""
    if chosen.gguf is not None:
        path = Path(chosen.gguf)
        _must_have_sha256(parts_of(path), chosen.sha256)
        return _load_gguf(path, chosen)
    folder = Path(chosen.path) if chosen.path is not None else fetched(str(chosen.hub), str(chosen.revision), mirror)
    checkpoint = huggingface.read(folder)
    config = _with_window(folder, checkpoint.config, chosen.window)
    own = from_folder(folder, checkpoint.begin, checkpoint.ends)
    network = mapped(config, checkpoint.vocab_size, checkpoint.tensors)
    return _loaded(folder, config, checkpoint.vocab_size, network, own, checkpoint.size)


def _load_gguf(path: Path, chosen: Pretrained) -> Loaded:
    read = read_gguf(path, chosen)
    file, config = read.file, _with_window(path, read.record, chosen.window)
    if read.matrices is not None:
        network = mapped(config, file.vocab_size, read.matrices)
        return _loaded(path, config, file.vocab_size, network, read.own, file.size)
    _must_have_rows(path, read.own, file.vocab_size)
    wrapped = TheirTokens(read.engine(config), file.vocab_size, read.own.begin, read.own.end)
    model = LlamaCppPretrained(config, file.vocab_size, wrapped, file.parameters, text_bytes(file, config.window))
    return Loaded(model, OurNumbers(read.own, file.vocab_size), memory_of_llama_cpp(file, config.window), LLAMA_CPP)


def _loaded(path: Path, config: Llama, rows: int, network: nn.Module, own: CheckpointTokenizer, size: int) -> Loaded:
    _must_have_rows(path, own, rows)
    model = PretrainedModel(config, rows, TheirTokens(network, rows, own.begin, own.end), parameters_of(config, rows))
    return Loaded(model, OurNumbers(own, rows), memory_needed(config, rows, size), "torch")


def _must_have_rows(path: Path, own: CheckpointTokenizer, rows: int) -> None:
    if own.vocab_size > rows:
        problem = f"its vocabulary has {own.vocab_size:,} pieces, its embedding {rows:,} rows"
        raise UserError(path, problem, "a piece needs a row")


def must_be_scorable(chosen: Pretrained) -> None:
    """Raises UserError for a checkpoint on this machine that cannot be scored, from the headers of its files alone."""
    where = str(chosen.gguf or chosen.path)
    if chosen.gguf is not None and (read := read_gguf(Path(chosen.gguf), chosen)).matrices is None:
        config = _with_window(read.file.path, read.record, chosen.window)
        _must_have_rows(read.file.path, read.own, read.file.vocab_size)
        must_fit(where, memory_of_llama_cpp(read.file, config.window), chosen.memory)
        return
    must_fit(where, load(chosen.model_copy(update={"sha256": None})).needed, chosen.memory)


def parameters_of(config: Llama, vocab_size: int) -> int:
    """The number of weights of a LLaMA, norms included."""
    return sum(int(np.prod(shape)) for shape in shapes(config, vocab_size).values())


def _with_window(path: Path, config: Llama, window: int | None) -> Llama:
    """The record with the window that it is scored with; UserError where the checkpoint's context is shorter."""
    if window is not None and window > config.window:
        raise UserError(path, f"window {window:,} found", f"allowed: up to {config.window:,}, which it was trained on")
    return config.model_copy(update={"window": window or min(config.window, LONGEST_WINDOW)})


def _must_have_sha256(parts: Sequence[Path], expected: str | None) -> None:
    """Raises UserError where the files, one behind the other, have another digest."""
    if expected is None or not all(part.is_file() for part in parts):
        return
    digest = hashlib.sha256()
    for part in parts:
        with open(part, "rb") as file:
            while content := file.read(HASHED_AT_ONCE):
                digest.update(content)
    if digest.hexdigest() != expected:
        problem = f"its sha256 is {digest.hexdigest()}"
        raise UserError(parts[0], problem, f"the config says {expected}", "fetch it again")
