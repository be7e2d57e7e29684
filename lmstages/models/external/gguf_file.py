"""LLaMA as a GGUF file, written and read through the llama.cpp project's own package.

Written are tensors of 32 bits, Q8_0 and Q4_0; read is every format of which that package can make numbers, the
K-quants among them. A file that is read stays on disk, mapped, until a layer asks for its matrix. Knows how such a
file is laid out; never a text, nor how weights were rounded.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from pydantic import ValidationError

from lmstages.config.hyperparameters.attention import Llama
from lmstages.core.artifacts import Made, saving, scratch
from lmstages.core.errors import UserError
from lmstages.models.external.llama_tensors import gguf_order, names, our_order, shapes
from lmstages.models.quantized.blocks import KINDS, row_bytes, unpacked
from lmstages.tokenizers.vocabularies import NO_VOCABULARY, NORMAL, Vocabulary

ARCHITECTURE = "llama"
FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
FILE_TYPES |= {"q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}


@dataclass(frozen=True)
class Stored:
    """A tensor under our name and in our order of rows: packed rows (R, bytes), or (n,) numbers of 32 bits."""

    rows: np.ndarray
    kind: str


def save(
    path: Path, config: Llama, vocab_size: int, tensors: Mapping[str, Stored], vocabulary: Vocabulary, made: Made
) -> None:
    """``write``, whole or not at all, with its sha256 beside it."""
    with scratch(path.parent) as partial, saving(path, made) as file:
        write(Path(partial.name), config, vocab_size, tensors, vocabulary)
        with open(partial.name, "rb") as written:
            shutil.copyfileobj(written, file, 1 << 24)


def write(path: Path, config: Llama, vocab_size: int, tensors: Mapping[str, Stored], vocabulary: Vocabulary) -> None:
    """One GGUF file, which llama.cpp can run and ``read`` can read."""
    writer = gguf.GGUFWriter(str(path), ARCHITECTURE)
    _describe(writer, config, vocab_size)
    writer.add_file_type(FILE_TYPES[_main_kind(tensors)])
    _add_vocabulary(writer, vocabulary)
    for ours, (_, theirs) in names(config).items():
        tensor, order = tensors[ours], gguf_order(ours, config)
        rows = np.ascontiguousarray(tensor.rows if order is None else tensor.rows[order])
        writer.add_tensor(theirs, rows, raw_dtype=None if tensor.kind == "f32" else KINDS[tensor.kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _main_kind(tensors: Mapping[str, Stored]) -> str:
    """The format of most weights."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.kind] = sizes.get(tensor.kind, 0) + tensor.rows.size
    return max(sizes, key=sizes.__getitem__)


def _describe(writer: gguf.GGUFWriter, config: Llama, vocab_size: int) -> None:
    writer.add_name("lmstages llama")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(vocab_size)
    writer.add_context_length(config.window)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.key_value_heads)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_dimension_count(config.width // config.heads)
    writer.add_rope_freq_base(config.rope_base)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.kind)
    if vocabulary.kind == "none":
        return
    writer.add_tokenizer_pre(vocabulary.words if vocabulary.kind == "gpt2" else "default")
    writer.add_token_list(list(vocabulary.pieces))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.kind == "llama":
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.leading_space)
    elif vocabulary.merges:
        writer.add_token_merges(list(vocabulary.merges))
    marks = (writer.add_bos_token_id, vocabulary.begin), (writer.add_eos_token_id, vocabulary.end)
    for add, token in (*marks, (writer.add_unk_token_id, vocabulary.unknown)):
        if token is not None:
            add(token)
    writer.add_add_bos_token(vocabulary.begin is not None)
    writer.add_add_eos_token(False)


# ---------------------------------------------------------------- read


@dataclass(frozen=True)
class Packed:
    """A matrix that stays in its file; ``order`` puts its rows in ours. Numbers are made when they are asked for."""

    rows: np.ndarray
    kind: gguf.GGMLQuantizationType
    order: np.ndarray | None = None

    def all(self) -> np.ndarray:
        """(R, C) float32."""
        numbers = unpacked(self.rows, self.kind)
        return numbers if self.order is None else numbers[self.order]

    def at(self, rows: np.ndarray) -> np.ndarray:
        """(n,) -> (n, C) float32."""
        return unpacked(self.rows[rows], self.kind)


@dataclass(frozen=True)
class OpenFile:
    """A GGUF file whose head was read: what it says of itself, and where its tensors lie."""

    path: Path
    facts: Mapping[str, Any]
    tensors: Mapping[str, gguf.ReaderTensor]

    def fact(self, key: str, default: Any = None) -> Any:
        """A fact of the architecture, such as ``block_count``; an error where there is neither it nor a default."""
        found = self.facts.get(f"{self.architecture}.{key}", default)
        if found is None:
            raise UserError(self.path, f"does not say its {key}")
        return found

    @property
    def architecture(self) -> str:
        """Such as ``llama``."""
        return str(self.facts.get("general.architecture"))

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        if "token_embd.weight" not in self.tensors:
            raise UserError(self.path, "has no tensor token_embd.weight")
        return int(self.tensors["token_embd.weight"].shape[1])


def opened(path: Path) -> OpenFile:
    """A GGUF file's head; an error where it is none, or ends too early."""
    if not path.is_file():
        raise UserError(path, "no such file")
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(path, "is no GGUF file: it does not begin with GGUF")
    try:
        decoding_state = gguf.GGUFReader(str(path), "c")  # mapped; nobody writes
        facts = {
            name: field.contents() for name, field in decoding_state.fields.items() if not name.startswith("GGUF.")
        }
    except (ValueError, IndexError, KeyError, OverflowError, TypeError, UnicodeDecodeError, MemoryError) as error:
        found = f"is truncated or corrupted ({type(error).__name__} at {path.stat().st_size:,} bytes)"
        raise UserError(path, found, "", "fetch it again and compare its sha256") from error
    return OpenFile(path, facts, {tensor.name: tensor for tensor in decoding_state.tensors})


def llama_of(file: OpenFile) -> tuple[Llama, dict[str, Packed]]:
    """The record of a LLaMA file and its tensors under our names."""
    if file.architecture != ARCHITECTURE:
        found = f"architecture {file.architecture!r}"
        raise UserError(file.path, found, f"allowed: {ARCHITECTURE}", "or engine: llama.cpp, which knows others")
    if "rope_freqs.weight" in file.tensors or file.facts.get("llama.rope.scaling.type", "none") != "none":
        raise UserError(file.path, "scales its rotations (LLaMA 3.1 and later)", "", "use engine: llama.cpp")
    config = _record(file)
    return config, _tensors_of(file, config)


def _record(file: OpenFile) -> Llama:
    heads = file.fact("attention.head_count")
    told = {"layers": file.fact("block_count"), "heads": heads, "width": file.fact("embedding_length")}
    told |= {"key_value_heads": file.fact("attention.head_count_kv", heads), "hidden": file.fact("feed_forward_length")}
    told |= {"window": file.fact("context_length"), "row_length": 1, "tied_output": "output.weight" not in file.tensors}
    told |= {"rope_base": float(file.fact("rope.freq_base", 10000.0))}
    told |= {"norm_epsilon": float(file.fact("attention.layer_norm_rms_epsilon"))}
    try:
        return Llama.model_validate(told)
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(file.path, f"its facts fit no LLaMA: {detail['loc']} {detail['msg']}") from error


def _tensors_of(file: OpenFile, config: Llama) -> dict[str, Packed]:
    wanted, found = shapes(config, file.vocab_size), {}
    known = {theirs for _, theirs in names(config).values()}
    if unknown := sorted(set(file.tensors) - known):
        raise UserError(file.path, f"tensor {unknown[0]} has no place in a LLaMA without biases")
    for ours, (_, theirs) in names(config).items():
        if theirs not in file.tensors:
            raise UserError(file.path, f"has no tensor {theirs}")
        tensor = file.tensors[theirs]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        if shape != wanted[ours]:
            raise UserError(file.path, f"tensor {theirs} has shape {shape}, its facts say {wanted[ours]}")
        found[ours] = Packed(_rows(tensor.data, tensor.tensor_type, shape), tensor.tensor_type, our_order(ours, config))
    return found


def _rows(data: np.ndarray, kind: gguf.GGMLQuantizationType, shape: tuple[int, ...]) -> np.ndarray:
    """Rows as they lie in the file."""
    plain = data.dtype != np.uint8
    assert plain or data.shape[-1] == row_bytes(shape[-1], kind), "the package gives rows of bytes"
    return data


def vocabulary_of(file: OpenFile) -> Vocabulary:
    """What the file says of its vocabulary; an error where it does not match the embedding."""
    told = {key.removeprefix("tokenizer.ggml."): value for key, value in file.facts.items() if "tokenizer.ggml." in key}
    kind = told.get("model", "none")
    if kind == "none":
        return NO_VOCABULARY
    if kind not in ("llama", "gpt2"):
        raise UserError(file.path, f"its vocabulary is of kind {kind!r}", "allowed: llama, gpt2")
    pieces = told.get("tokens", [])
    if len(pieces) != file.vocab_size:
        found = f"its vocabulary has {len(pieces):,} pieces, its embedding {file.vocab_size:,} rows"
        raise UserError(file.path, found, "they must be as many")
    types, scores = told.get("token_type", [NORMAL] * len(pieces)), told.get("scores", [0.0] * len(pieces))
    if len(types) != len(pieces) or len(scores) != len(pieces):
        raise UserError(file.path, "its vocabulary has not a type and a score for every piece")
    marks = {"begin": "bos_token_id", "end": "eos_token_id", "unknown": "unknown_token_id"}
    tokens = {ours: _token(file, told.get(theirs), len(pieces)) for ours, theirs in marks.items()}
    space = bool(told.get("add_space_prefix", True)) and kind == "llama"
    words, merges = str(told.get("pre", "default")), told.get("merges", [])
    return Vocabulary(kind, pieces, scores, types, merges, words, leading_space=space, **tokens)


def _token(file: OpenFile, token: Any, pieces: int) -> int | None:
    if token is not None and not 0 <= token < pieces:
        raise UserError(file.path, f"names token {token}, its vocabulary has {pieces:,}")
    return token
