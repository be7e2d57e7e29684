"""Exports a network with its vocabulary: a LLaMA as a GGUF file, and several as a folder in the Hugging Face layout.

A checkpoint from elsewhere, in the Hugging Face layout, can be written as a GGUF file. ``gguf_file``, ``huggingface``
and ``network_layouts`` know the formats.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.quantized import DerivedLlama, LlamaQ4, LlamaQ8, QuantizedLlama
from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.core.files import sha256_of
from lmstages.core.progress import LOGGER
from lmstages.models import storage as model_storage
from lmstages.models.base import build
from lmstages.models.external import gguf_file, huggingface, network_layouts
from lmstages.models.external.exported import exported_tokenizer
from lmstages.models.quantized.blocks import BLOCK, PackedTensor
from lmstages.models.quantized.derived import DerivedModel, float32_tensors
from lmstages.tokenizers.vocabularies import definition_of, of_folder, of_tokenizer

QUANTIZED: dict[str, type[QuantizedLlama]] = {"q8_0": LlamaQ8, "q4_0": LlamaQ4}


def export(model: Path, tokens: Path, out: Path, section: Mapping[str, Any], made: artifacts.Made) -> None:
    """Write the fitted model at ``model`` with the vocabulary of ``tokens`` to ``out``.

    ``section``: {to: gguf or hf, type: f32, q8_0 or q4_0, output_type}. Raises UserError for what cannot be exported.
    """
    fitted: Any = model_storage.load_model(model)
    config = fitted.config.bottom if isinstance(fitted.config, DerivedLlama) else fitted.config
    if not isinstance(config, Llama) and section["to"] == "gguf":
        raise UserError(model, f"is of model {fitted.config.name}", "allowed: llama, llama_q8, llama_q4")
    tokenizer = exported_tokenizer(model, fitted, tokens)
    saved = tokenizer.to_json()
    if section["to"] == "gguf":
        vocabulary = of_tokenizer(saved)
        _warn_without_vocabulary(vocabulary.kind == "none", saved["kind"], "GGUF")
        gguf_file.save(out, config, fitted.vocab_size, _tensors(model, fitted, section), vocabulary, made)
        return
    if isinstance(fitted, DerivedModel) or section["type"] != "f32":
        raise UserError(
            model, "is to be quantized, or is already", "the Hugging Face layout is written in f32", "use --to gguf"
        )
    definition = definition_of(saved)
    if isinstance(config, Llama):
        huggingface.save(out, config, fitted.vocab_size, fitted.arrays(), definition, made)
    else:
        layout = network_layouts.layout_of(model, config, fitted.vocab_size, fitted.arrays())
        huggingface.save_folder(out, layout.config, layout.tensors, definition, config.context, made)
        if layout.loader is not None:
            artifacts.save_bytes(out / "load.py", layout.loader.encode(), made)
    _warn_without_vocabulary(definition is None, saved["kind"], "the Hugging Face layout")


def export_checkpoint(folder: Path, out: Path, section: Mapping[str, Any], made: artifacts.Made) -> None:
    """Write the checkpoint at ``folder``, in the Hugging Face layout, as the GGUF file ``out``."""
    checkpoint = huggingface.read(folder)
    if section["to"] != "gguf":
        raise UserError(folder, "is in the Hugging Face layout", "", "use --to gguf")
    vocabulary = of_folder(folder, checkpoint.begin, checkpoint.ends, checkpoint.vocab_size)
    model: Any = build(checkpoint.config, checkpoint.vocab_size)
    model.restore({name: tensor.all() for name, tensor in checkpoint.tensors.items()})
    hashes = {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))}
    tensors = _tensors(folder, model, section)
    gguf_file.save(out, checkpoint.config, checkpoint.vocab_size, tensors, vocabulary, {**made, "inputs": hashes})


def _warn_without_vocabulary(absent: bool, kind: str, layout: str) -> None:
    if absent:
        LOGGER.warning("%s cannot hold a vocabulary of kind %s: the file has token numbers without text", layout, kind)


def _tensors(path: Path, model: Any, section: Mapping[str, Any]) -> Mapping[str, PackedTensor]:
    """The tensors of a model as fitted, or quantized to the section's type."""
    format_name, output = section["type"], section["output_type"] or section["type"]
    if isinstance(model, DerivedModel):
        if format_name != "f32":
            problem = f"is of model {model.config.name} already"
            raise UserError(path, problem, "", "leave --type out, or export its LLaMA")
        return model.packed_tensors()
    if format_name == "f32":
        return float32_tensors(model)
    if output == "f32":
        raise UserError("--output-type", "f32 with --type " + format_name, "allowed: q8_0, q4_0")
    for key in ("width", "hidden"):
        if getattr(model.config, key) % BLOCK:
            problem = f"rows of {getattr(model.config, key)} numbers ({key})"
            raise UserError(path, problem, f"allowed: multiples of {BLOCK}", "fit another, or use --type f32")
    quantized: Any = build(
        QUANTIZED[format_name].model_validate({"base": model.config, "output": output}), model.vocab_size
    )
    quantized.derive(model, Documents.single([]))
    return quantized.packed_tensors()
