"""Writes and reads a LLaMA as a GGUF file, through the package ``gguf`` of the llama.cpp project.

Writes tensors in F32, Q8_0 and Q4_0; reads every format that the package can dequantize, K-quants included. A file that
is read is memory-mapped, and a matrix is dequantized when a layer uses it. Knows the file format; no text, and not how
weights were rounded.
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
from lmstages.models.quantized.blocks import FORMATS, PackedTensor, row_bytes, unpacked
from lmstages.models.quantized.derived import DerivedModel
from lmstages.tokenizers.vocabularies import NO_VOCABULARY, NORMAL, Vocabulary

ARCHITECTURE = "llama"
FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
FILE_TYPES |= {"q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}


def save(
    path: Path, config: Llama, vocab_size: int, tensors: Mapping[str, PackedTensor], vocabulary: Vocabulary, made: Made
) -> None:
    """As ``write``, atomically and with the record of the file's sha256."""
    with scratch(path.parent) as partial, saving(path, made) as file:
        write(Path(partial.name), config, vocab_size, tensors, vocabulary)
        with open(partial.name, "rb") as written:
            shutil.copyfileobj(written, file, 1 << 24)


def write_model(path: Path, model: DerivedModel, vocabulary: Vocabulary) -> None:
    """Write a derived model as one GGUF file."""
    write(path, model.config.bottom, model.vocab_size, model.packed_tensors(), vocabulary)


def write(
    path: Path, config: Llama, vocab_size: int, tensors: Mapping[str, PackedTensor], vocabulary: Vocabulary
) -> None:
    """Write one GGUF file for llama.cpp and ``opened``; ``tensors`` are under our names and in our order of rows."""
    writer = gguf.GGUFWriter(str(path), ARCHITECTURE)
    _describe(writer, config, vocab_size)
    writer.add_file_type(FILE_TYPES[_main_format(tensors)])
    _add_vocabulary(writer, vocabulary)
    for ours, (_, theirs) in names(config).items():
        tensor, order = tensors[ours], gguf_order(ours, config)
        rows = np.ascontiguousarray(tensor.rows if order is None else tensor.rows[order])
        writer.add_tensor(theirs, rows, raw_dtype=None if tensor.format == "f32" else FORMATS[tensor.format])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _main_format(tensors: Mapping[str, PackedTensor]) -> str:
    """The format with the most elements."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.format] = sizes.get(tensor.format, 0) + tensor.rows.size
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
    ends = (writer.add_bos_token_id, vocabulary.begin), (writer.add_eos_token_id, vocabulary.end)
    for add, token in (*ends, (writer.add_unk_token_id, vocabulary.unknown)):
        if token is not None:
            add(token)
    writer.add_add_bos_token(vocabulary.begin is not None)
    writer.add_add_eos_token(False)


# ---------------------------------------------------------------- read


@dataclass(frozen=True)
class Packed:
    """A memory-mapped matrix, dequantized at each use; ``order`` permutes its rows to our order, None leaves them."""

    rows: np.ndarray
    format: gguf.GGMLQuantizationType
    order: np.ndarray | None = None

    def all(self) -> np.ndarray:
        """(R, C) float32."""
        numbers = unpacked(self.rows, self.format)
        return numbers if self.order is None else numbers[self.order]

    def at(self, rows: np.ndarray) -> np.ndarray:
        """(n,) row numbers -> (n, C) float32."""
        return unpacked(self.rows[rows], self.format)


@dataclass(frozen=True)
class OpenFile:
    """A GGUF file whose header was read: its metadata, and its tensors, memory-mapped."""

    path: Path
    facts: Mapping[str, Any]
    tensors: Mapping[str, gguf.ReaderTensor]

    def fact(self, key: str, default: Any = None) -> Any:
        """The architecture's metadata under ``key``, such as ``block_count``; UserError without it and a default."""
        value = self.facts.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise UserError(self.path, f"has no metadata {key}")
        return value

    @property
    def architecture(self) -> str:
        """The name of the architecture, such as ``llama``."""
        return str(self.facts.get("general.architecture"))

    @property
    def vocab_size(self) -> int:
        """The number of rows of the embedding."""
        if "token_embd.weight" not in self.tensors:
            raise UserError(self.path, "has no tensor token_embd.weight")
        return int(self.tensors["token_embd.weight"].shape[1])


def opened(path: Path) -> OpenFile:
    """Read a GGUF file's header; raises UserError where it is no GGUF file, truncated or corrupted."""
    if not path.is_file():
        raise UserError(path, "no such file")
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(path, "is no GGUF file: it does not begin with GGUF")
    try:
        reader = gguf.GGUFReader(str(path), "c")  # copy on write: the file is never changed
        facts = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    except (ValueError, IndexError, KeyError, OverflowError, TypeError, UnicodeDecodeError, MemoryError) as error:
        problem = f"is truncated or corrupted ({type(error).__name__} at {path.stat().st_size:,} bytes)"
        raise UserError(path, problem, "", "fetch it again and compare its sha256") from error
    return OpenFile(path, facts, {tensor.name: tensor for tensor in reader.tensors})


def llama_of(file: OpenFile) -> tuple[Llama, dict[str, Packed]]:
    """The record of a LLaMA file and its tensors under our names; UserError for what our network cannot compute."""
    if file.architecture != ARCHITECTURE:
        problem, remedy = f"architecture {file.architecture!r}", "or engine: llama.cpp, which knows others"
        raise UserError(file.path, problem, f"allowed: {ARCHITECTURE}", remedy)
    if "rope_freqs.weight" in file.tensors or file.facts.get("llama.rope.scaling.type", "none") != "none":
        raise UserError(file.path, "scales its rotary embeddings (LLaMA 3.1 and later)", "", "use engine: llama.cpp")
    config = _record(file)
    return config, _tensors_of(file, config)


def _record(file: OpenFile) -> Llama:
    heads = file.fact("attention.head_count")
    keys = {"layers": file.fact("block_count"), "heads": heads, "width": file.fact("embedding_length")}
    keys |= {"key_value_heads": file.fact("attention.head_count_kv", heads), "hidden": file.fact("feed_forward_length")}
    keys |= {"window": file.fact("context_length"), "row_length": 1, "tied_output": "output.weight" not in file.tensors}
    keys |= {"rope_base": float(file.fact("rope.freq_base", 10000.0))}
    keys |= {"norm_epsilon": float(file.fact("attention.layer_norm_rms_epsilon"))}
    try:
        return Llama.model_validate(keys)
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(file.path, f"its metadata describe no LLaMA: {detail['loc']} {detail['msg']}") from error


def _tensors_of(file: OpenFile, config: Llama) -> dict[str, Packed]:
    expected, tensors = shapes(config, file.vocab_size), {}
    if unknown := sorted(set(file.tensors) - {theirs for _, theirs in names(config).values()}):
        raise UserError(file.path, f"tensor {unknown[0]} does not belong to a LLaMA without biases")
    for ours, (_, theirs) in names(config).items():
        if theirs not in file.tensors:
            raise UserError(file.path, f"has no tensor {theirs}")
        tensor = file.tensors[theirs]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        if shape != expected[ours]:
            raise UserError(file.path, f"tensor {theirs} has shape {shape}, its metadata say {expected[ours]}")
        is_bytes = tensor.data.dtype == np.uint8
        row_is_whole = not is_bytes or tensor.data.shape[-1] == row_bytes(shape[-1], tensor.tensor_type)
        assert row_is_whole, "the package gives rows of bytes"
        tensors[ours] = Packed(tensor.data, tensor.tensor_type, our_order(ours, config))
    return tensors


def vocabulary_of(file: OpenFile) -> Vocabulary:
    """The file's vocabulary; raises UserError where its size is not that of the embedding."""
    prefix = "tokenizer.ggml."
    facts = {key.removeprefix(prefix): value for key, value in file.facts.items() if prefix in key}
    kind = facts.get("model", "none")
    if kind == "none":
        return NO_VOCABULARY
    if kind not in ("llama", "gpt2"):
        raise UserError(file.path, f"its vocabulary is of kind {kind!r}", "allowed: llama, gpt2")
    pieces = facts.get("tokens", [])
    if len(pieces) != file.vocab_size:
        problem = f"its vocabulary has {len(pieces):,} pieces, its embedding {file.vocab_size:,} rows"
        raise UserError(file.path, problem, "the numbers must be equal")
    types, scores = facts.get("token_type", [NORMAL] * len(pieces)), facts.get("scores", [0.0] * len(pieces))
    if len(types) != len(pieces) or len(scores) != len(pieces):
        raise UserError(file.path, "its vocabulary lacks the type or the score of some pieces")
    special = {"begin": "bos_token_id", "end": "eos_token_id", "unknown": "unknown_token_id"}
    tokens = {ours: _token(file, facts.get(theirs), len(pieces)) for ours, theirs in special.items()}
    space = bool(facts.get("add_space_prefix", True)) and kind == "llama"
    words, merges = str(facts.get("pre", "default")), facts.get("merges", [])
    return Vocabulary(kind, pieces, scores, types, merges, words, leading_space=space, **tokens)


def _token(file: OpenFile, token: Any, pieces: int) -> int | None:
    if token is not None and not 0 <= token < pieces:
        raise UserError(file.path, f"has special token {token}, its vocabulary only {pieces:,} pieces")
    return token
