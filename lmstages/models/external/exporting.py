"""A LLaMA in the formats of others, vocabulary included: a GGUF file, or a folder in the Hugging Face layout.

What was fitted here is written as either; a checkpoint from elsewhere, in a Hugging Face folder, as a GGUF file.

Knows the formats by what writes them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.quantized import DerivedLlama, LlamaQ4, LlamaQ8, QuantizedLlama
from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER
from lmstages.models import storage as model_storage
from lmstages.models.base import build
from lmstages.models.external import gguf_file, huggingface
from lmstages.models.external.gguf_file import Stored
from lmstages.models.quantized.derived import DerivedModel, as_stored
from lmstages.tokenizers import streams
from lmstages.tokenizers.vocabularies import definition_of, of_folder, of_tokenizer

ROUNDED: dict[str, type[QuantizedLlama]] = {"q8_0": LlamaQ8, "q4_0": LlamaQ4}


def export(model: Path, tokens: Path, out: Path, section: Mapping[str, Any], made: artifacts.Made) -> None:
    """Write the model at ``model`` with the vocabulary of ``tokens`` to ``out``."""
    fitted: Any = model_storage.load_model(model)
    config = fitted.config.bottom if isinstance(fitted.config, DerivedLlama) else fitted.config
    if not isinstance(config, Llama):
        raise UserError(model, f"is of model {fitted.config.name}", "allowed: llama, llama_q8, llama_q4")
    saved = streams.read_tokenizer(tokens).to_json()
    if section["to"] == "gguf":
        vocabulary = of_tokenizer(saved)
        _tell_of_vocabulary(vocabulary.kind == "none", saved["kind"], "GGUF")
        gguf_file.save(out, config, fitted.vocab_size, _tensors(model, fitted, section), vocabulary, made)
        return
    if isinstance(fitted, DerivedModel) or section["type"] != "f32":
        raise UserError(model, "is to be rounded", "the Hugging Face layout is written in f32", "use --to gguf")
    definition = definition_of(saved)
    _tell_of_vocabulary(definition is None, saved["kind"], "the Hugging Face layout")
    huggingface.save(out, config, fitted.vocab_size, fitted.arrays(), definition, made)


def export_checkpoint(folder: Path, out: Path, section: Mapping[str, Any], made: artifacts.Made) -> None:
    """Write the checkpoint in the Hugging Face layout at ``folder`` as the GGUF file ``out``."""
    if section["to"] != "gguf":
        raise UserError(folder, "is in the Hugging Face layout", "", "use --to gguf")
    read = huggingface.read(folder)
    vocabulary = of_folder(folder, read.begin, read.end, read.vocab_size)
    model: Any = build(read.config, read.vocab_size)
    model.restore({name: tensor.all() for name, tensor in read.tensors.items()})
    hashes = {file.name: artifacts.sha256_of(file) for file in sorted(folder.glob("*.safetensors"))}
    tensors = _tensors(folder, model, section)
    gguf_file.save(out, read.config, read.vocab_size, tensors, vocabulary, {**made, "inputs": hashes})


def _tell_of_vocabulary(lacking: bool, kind: str, where: str) -> None:
    if lacking:
        LOGGER.warning("a vocabulary of kind %s has no place in %s: the file knows tokens by number alone", kind, where)


def _tensors(path: Path, model: Any, section: Mapping[str, Any]) -> Mapping[str, Stored]:
    """As fitted, or rounded as the section asks."""
    kind, output = section["type"], section["output_type"] or section["type"]
    if isinstance(model, DerivedModel):
        if kind != "f32":
            raise UserError(
                path, f"is of model {model.config.name} already", "", "leave --type out, or export its LLaMA"
            )
        return model.stored()
    if kind == "f32":
        return as_stored(model)
    if output == "f32":
        raise UserError("--output-type", "f32 with --type " + kind, "allowed: q8_0, q4_0")
    for key in ("width", "hidden"):
        if getattr(model.config, key) % 32:
            found = f"rows of {getattr(model.config, key)} numbers ({key})"
            raise UserError(path, found, "allowed: multiples of 32", "fit another, or use --type f32")
    rounded: Any = build(ROUNDED[kind].model_validate({"base": model.config, "output": output}), model.vocab_size)
    rounded.derive(model, Documents.single([]))
    return rounded.stored()
