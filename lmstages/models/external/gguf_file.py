"""Writes and reads a LLaMA as a GGUF file, through the package ``gguf`` of the llama.cpp project.

Writes tensors in F32, Q8_0 and Q4_0; reads every format that the package can dequantize, K-quants included. A file that
is read is memory-mapped, and a matrix is dequantized when a layer uses it. Knows the file format; no text, and not how
weights were rounded.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from pydantic import ValidationError

from lmstages.config.checkpoint_parts import missing_part, parts_of
from lmstages.config.hyperparameters.attention import Llama
from lmstages.core.artifacts import Made, saving
from lmstages.core.errors import UnsupportedError, UserError
from lmstages.core.files import scratch
from lmstages.models.external.gguf_metadata import (
    LLAMA,
    VOCABULARY,
    must_agree,
    must_be_known,
    must_be_part,
    must_have_all_tensors,
    must_not_be_misspelt,
)
from lmstages.models.external.llama_tensors import gguf_order, names, our_order, shapes
from lmstages.models.quantized.blocks import FORMATS, PackedTensor, row_bytes, unpacked
from lmstages.models.quantized.derived import DerivedModel
from lmstages.tokenizers.vocabularies import BYTE, NO_VOCABULARY, NORMAL, UNKNOWN, UNUSED, Vocabulary

ARCHITECTURE = "llama"
FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
FILE_TYPES |= {"q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}
UNQUANTIZED = ("F32", "F16", "BF16")
LONGEST_ARRAY = 1 << 24  # elements; the largest vocabularies have 2^18 pieces and 2^19 merges
DAMAGED = (ValueError, IndexError, KeyError, OverflowError, TypeError, MemoryError, RecursionError, OSError)


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


Facts = Mapping[str, Any]
Tensors = Mapping[str, gguf.ReaderTensor]


@dataclass(frozen=True)
class OpenFile:
    """A model whose header was read: its metadata, its tensors, memory-mapped, and its files, ``path`` the first."""

    path: Path
    facts: Facts
    tensors: Tensors
    parts: Sequence[Path] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(part.stat().st_size for part in self.parts or [self.path])

    @property
    def parameters(self) -> int:
        """The number of weights, norms included."""
        return sum(int(np.prod(tensor.shape)) for tensor in self.tensors.values())

    def fact(self, key: str, default: Any = None) -> Any:
        """The architecture's metadata under ``key``, such as ``block_count``; UserError without it and a default."""
        value = self.facts.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise UserError(self.path, f"has no metadata {key}")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """As ``fact``; UserError where it is no whole number above 0."""
        value = self.fact(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            problem = f"its metadata {self.architecture}.{key} is {str(value)[:60]!r}"
            raise UserError(self.path, problem, "allowed: a whole number above 0")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """As ``fact``; UserError where it is no number."""
        value = self.fact(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            problem = f"its metadata {self.architecture}.{key} is {str(value)[:60]!r}"
            raise UserError(self.path, problem, "allowed: a number")
        return float(value)

    @property
    def architecture(self) -> str:
        """The name of the architecture, such as ``llama``."""
        return str(self.facts.get("general.architecture"))

    @property
    def vocab_size(self) -> int:
        """The number of rows of the embedding."""
        if "token_embd.weight" not in self.tensors:
            raise UserError(self.path, "has no tensor token_embd.weight")
        shape = self.tensors["token_embd.weight"].shape
        if len(shape) != 2:
            raise UserError(self.path, f"tensor token_embd.weight has {len(shape)} dimensions", "allowed: 2")
        return int(shape[1])


class _StrictReader(gguf.GGUFReader):
    """The package's reader, which otherwise takes what lies beyond the end of the file as empty, without an end."""

    def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
        if int(offset) + np.dtype(dtype).itemsize * int(count) > self.data.nbytes:
            raise ValueError("it ends too early")
        return super()._get(offset, dtype, count, override_order)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        is_array = raw_type == gguf.GGUFValueType.ARRAY
        if is_array and int(self._get(orig_offs + 4, np.uint64)[0]) > LONGEST_ARRAY:
            raise ValueError("it has an array longer than any vocabulary")
        return super()._get_field_parts(orig_offs, raw_type)


def opened(path: Path) -> OpenFile:
    """Read the header of a model's file or of all its files, of which any may be given.

    Raises UserError for what is no GGUF file, truncated, corrupted, or lacks a part.
    """
    parts = parts_of(path)
    facts, tensors = _opened_part(path, parts) if len(parts) == 1 else _joined(path, parts)
    must_have_all_tensors(path, facts, len(tensors))
    return OpenFile(parts[0], facts, tensors, parts)


def _joined(path: Path, parts: Sequence[Path]) -> tuple[Facts, Tensors]:
    """The metadata of the first file, which has them all, and the tensors of every file."""
    if problem := missing_part(path):
        raise UserError(path, problem)
    headers = [_opened_part(part, parts) for part in parts]
    tensors: dict[str, gguf.ReaderTensor] = {}
    for part, (_, more) in zip(parts, headers, strict=True):
        if twice := sorted(tensors.keys() & more.keys()):
            raise UserError(part, f"has tensor {twice[0]}, as another part of the model has", "", "fetch it again")
        tensors |= more
    return headers[0][0], tensors


def _opened_part(path: Path, parts: Sequence[Path]) -> tuple[Facts, Tensors]:
    """The metadata and the tensors of one file."""
    if not path.is_file():
        raise UserError(path, "is a folder, no GGUF file" if path.is_dir() else "no such file")
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise UserError(path, "is no GGUF file: it does not begin with GGUF")
        with np.errstate(over="ignore"):  # of a tensor's offset, which ``_damage`` compares
            reader = _StrictReader(str(path), "c")  # copy on write: the file is never changed
        facts = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        problem = _damage(reader)
    except UserError:
        raise
    except DAMAGED as error:
        problem = f"is truncated or corrupted ({type(error).__name__} at {path.stat().st_size:,} bytes)"
        raise UserError(path, problem, "", "fetch it again and compare its sha256") from error
    if problem:
        raise UserError(path, problem, "", "fetch it again and compare its sha256")
    must_be_part(path, facts, list(parts).index(path) + 1, len(parts))
    must_not_be_misspelt(path, facts)
    return facts, {tensor.name: tensor for tensor in reader.tensors}


def _damage(reader: gguf.GGUFReader) -> str:
    """What is wrong with the order of bytes or with the tensors' places in the file, or nothing.

    As in llama.cpp tensors follow one another in the order of the header, each at the next multiple of the alignment;
    here the file ends with the last.
    """
    if reader.byte_order != "I":
        return "has the byte order of another machine (big-endian)"
    end = expected = int(reader.data_offset)
    for tensor in reader.tensors:
        if tensor.data_offset != expected:
            return f"is truncated or corrupted: tensor {tensor.name} lies at {tensor.data_offset:,}, not {expected:,}"
        end = expected + tensor.n_bytes
        expected = -(-end // int(reader.alignment)) * int(reader.alignment)
    size = reader.data.nbytes
    if reader.tensors and size > expected:
        return f"is truncated or corrupted: {size - end:,} bytes follow its last tensor"
    return ""


def llama_of(file: OpenFile) -> tuple[Llama, dict[str, Packed]]:
    """The record of a LLaMA file and its tensors under our names; UserError for what our network cannot compute."""
    if file.architecture != ARCHITECTURE:
        problem, remedy = f"architecture {file.architecture!r}", "or engine: llama.cpp, which knows others"
        raise UnsupportedError(file.path, problem, f"allowed: {ARCHITECTURE}", remedy)
    if "rope_freqs.weight" in file.tensors or file.facts.get("llama.rope.scaling.type", "none") != "none":
        raise UnsupportedError(
            file.path, "scales its rotary embeddings (LLaMA 3.1 and later)", "", "use engine: llama.cpp"
        )
    must_be_known(file.path, file.facts, LLAMA)
    config = _record(file)
    head = config.width // config.heads
    lengths = dict.fromkeys(("rope.dimension_count", "attention.key_length", "attention.value_length"), head)
    must_agree(file.path, file.facts, {**lengths, "vocab_size": file.vocab_size})
    return config, _tensors_of(file, config)


def _record(file: OpenFile) -> Llama:
    heads = file.count("attention.head_count")
    keys = {"layers": file.count("block_count"), "heads": heads, "width": file.count("embedding_length")}
    keys |= {"key_value_heads": file.count("attention.head_count_kv", heads)}
    keys |= {"hidden": file.count("feed_forward_length"), "window": file.count("context_length"), "row_length": 1}
    numbers = {"rope_base": file.real("rope.freq_base", 10000.0)}
    numbers |= {"norm_epsilon": file.real("attention.layer_norm_rms_epsilon")}
    if keys["layers"] > max(len(file.tensors), 1):
        problem = f"its metadata say {keys['layers']:,} blocks, it has {len(file.tensors):,} tensors"
        raise UserError(file.path, problem, "", "fetch it again and compare its sha256")
    try:
        return Llama.model_validate({**keys, **numbers, "tied_output": "output.weight" not in file.tensors})
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(file.path, f"its metadata describe no LLaMA: {detail['loc']} {detail['msg']}") from error


def _tensors_of(file: OpenFile, config: Llama) -> dict[str, Packed]:
    expected, tensors = shapes(config, file.vocab_size), {}
    if unknown := sorted(set(file.tensors) - {theirs for _, theirs in names(config).values()}):
        problem = f"tensor {unknown[0]} does not belong to a LLaMA without biases"
        raise UnsupportedError(file.path, problem, "", "use engine: llama.cpp")
    for ours, (_, theirs) in names(config).items():
        if theirs not in file.tensors:
            raise UserError(file.path, f"has no tensor {theirs}")
        tensor = file.tensors[theirs]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        if shape != expected[ours]:
            raise UserError(file.path, f"tensor {theirs} has shape {shape}, its metadata say {expected[ours]}")
        _must_be_readable(file, tensor)
        is_bytes = tensor.data.dtype == np.uint8
        row_is_whole = not is_bytes or tensor.data.shape[-1] == row_bytes(shape[-1], tensor.tensor_type)
        assert row_is_whole, "the package gives rows of bytes"
        tensors[ours] = Packed(tensor.data, tensor.tensor_type, our_order(ours, config))
    return tensors


def _must_be_readable(file: OpenFile, tensor: gguf.ReaderTensor) -> None:
    """Raises UserError for a format that the package cannot dequantize, or rounded by other rules than it knows."""
    try:
        unpacked(tensor.data[:1] if tensor.data.ndim > 1 else tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        problem = f"tensor {tensor.name} is in {tensor.tensor_type.name}"
        raise UnsupportedError(file.path, problem, "", "use engine: llama.cpp, or a file in another format") from error
    version = file.facts.get("general.quantization_version", gguf.GGML_QUANT_VERSION)
    if tensor.tensor_type.name not in UNQUANTIZED and version != gguf.GGML_QUANT_VERSION:
        problem = f"its metadata general.quantization_version is {version!r}"
        raise UserError(file.path, problem, f"allowed: {gguf.GGML_QUANT_VERSION}", "quantize the model again")


def vocabulary_of(file: OpenFile) -> Vocabulary:
    """The file's vocabulary; raises UserError where its size is not that of the embedding."""
    must_be_known(file.path, file.facts, VOCABULARY)
    facts = {key.removeprefix(VOCABULARY): value for key, value in file.facts.items() if key.startswith(VOCABULARY)}
    kind = facts.get("model", "none")
    if kind == "none":
        return NO_VOCABULARY
    if kind not in ("llama", "gpt2"):
        problem, remedy = f"its vocabulary is of kind {kind!r}", "use engine: llama.cpp, which knows others"
        raise UnsupportedError(file.path, problem, "allowed: llama, gpt2", remedy)
    pieces = _list(file, facts, "tokens", str)
    if len(pieces) != file.vocab_size:
        problem = f"its vocabulary has {len(pieces):,} pieces, its embedding {file.vocab_size:,} rows"
        raise UserError(file.path, problem, "the numbers must be equal")
    types = _list(file, facts, "token_type", int) or [NORMAL] * len(pieces)
    scores = _list(file, facts, "scores", float) or [0.0] * len(pieces)
    if len(types) != len(pieces) or len(scores) != len(pieces):
        raise UserError(file.path, "its vocabulary lacks the type or the score of some pieces")
    if kind == "llama" and "scores" not in facts:
        raise UserError(file.path, "its vocabulary has no scores", "SentencePiece joins pieces by their scores")
    special = {"begin": "bos_token_id", "end": "eos_token_id", "unknown": "unknown_token_id"}
    tokens = {ours: _token(file, theirs, facts.get(theirs), types) for ours, theirs in special.items()}
    leading_space = facts.get("add_space_prefix", True)
    if not isinstance(leading_space, bool):
        raise UserError(file.path, f"its metadata {VOCABULARY}add_space_prefix is no truth value")
    words, merges = str(facts.get("pre", "default")), _list(file, facts, "merges", str)
    return Vocabulary(
        kind, pieces, scores, types, merges, words, leading_space=leading_space and kind == "llama", **tokens
    )


def _list(file: OpenFile, facts: Mapping[str, Any], key: str, element: type) -> list[Any]:
    values = facts.get(key, [])
    if not isinstance(values, list) or not all(type(value) is element for value in values):
        problem = f"its metadata {VOCABULARY}{key} is no list of type {element.__name__}"
        raise UserError(file.path, problem, "", "fetch it again and compare its sha256")
    return values


def _token(file: OpenFile, key: str, token: Any, types: list[int]) -> int | None:
    """A special token, None where the file has none; UserError where it cannot be what ``key`` says."""
    if token is None:
        return None
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < len(types):
        raise UserError(file.path, f"has special token {token}, its vocabulary only {len(types):,} pieces")
    roles = {UNKNOWN: "the unknown piece", BYTE: "a byte", UNUSED: "an unused piece"}
    if key != "unknown_token_id" and types[token] in roles:
        raise UserError(file.path, f"its metadata {VOCABULARY}{key} is {token}, which is {roles[types[token]]}")
    return token
