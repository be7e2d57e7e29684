"""Fitted models on disk: one safetensors file per model, with its hyperparameters and vocabulary size as metadata.

Uses a model only as ``LanguageModel``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.config import own_models
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.ladder import MODEL_TYPES
from lmstages.core import artifacts
from lmstages.core.artifacts import Made
from lmstages.core.errors import UserError
from lmstages.core.runtime import Runtime
from lmstages.core.workflow_files import STARTER
from lmstages.models.base import LanguageModel, build
from lmstages.tokenizers import TextTokenizer, streams


def save_model(path: Path, model: LanguageModel, made: Made) -> None:
    """Write type, hyperparameters, vocabulary size and arrays to one safetensors file."""
    config = {"type": model.config.name, "hyperparameters": model.config.model_dump(mode="json")}
    if content := getattr(model.config, "content", None):  # of a model of one's own
        config["content"] = content
    metadata = {"type": json.dumps(config, sort_keys=True), "vocab_size": str(model.vocab_size)}
    artifacts.save_arrays(path, model.arrays(), metadata, made)


def save_fit(folder: Path, model: LanguageModel | None, facts: Mapping[str, Any], made: Made) -> None:
    """Write the model, then the facts of its fit; one that could not be fitted is an empty file with the reason."""
    path = folder / "model.safetensors"
    if model is None:
        artifacts.save_arrays(path, {}, {"failed": facts["status"].removeprefix("failed: ")}, made)
    else:
        save_model(path, model, made)
    artifacts.save_json(folder / "fit.json", facts, made)


def load_model(path: Path, device: str = "cpu") -> LanguageModel:
    """The saved model, ready to score and sample; raises UserError for a file of another version of the package."""
    arrays, metadata = artifacts.load_arrays(path)
    try:
        record = json.loads(metadata["type"])
        config = _record_of(record, path).model_validate(record["hyperparameters"])
        vocab_size = int(metadata["vocab_size"])
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:  # pydantic's is a ValueError
        raise UserError(path, "no model that this version knows", "", f"run {STARTER} to fit it again") from error
    model = build(config, vocab_size, Runtime(device))
    try:
        model.restore(arrays)
        _must_be_as_stored(model, arrays)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        problem = f"its arrays are not those of its hyperparameters ({' '.join(str(error).split())[:120]})"
        raise UserError(path, problem, "", f"run {STARTER} to fit it again") from error
    return model


def tokenizer_of(path: Path, model: LanguageModel, tokens: Path, remedy: str = "") -> TextTokenizer:
    """The tokenizer of ``tokens``; a UserError where the model at ``path`` has another number of tokens."""
    tokenizer = streams.read_tokenizer(tokens)
    if model.vocab_size != tokenizer.vocab_size:
        problem = f"is of {model.vocab_size:,} tokens, {tokens / streams.TOKENIZER} has {tokenizer.vocab_size:,}"
        raise UserError(path, problem, "", remedy or artifacts.make_again(path))
    return tokenizer


def must_be_fitted_on(path: Path, tokens: Path) -> None:
    """Raises UserError where a model was fitted on another train split, or its tokenizer is of another call."""
    artifacts.must_be_made_from(path, tokens / "train.npy")
    artifacts.must_be_of_one_call(tokens / "train.npy", tokens / streams.TOKENIZER)


def _record_of(saved: Mapping[str, Any], path: Path) -> type[ModelConfig]:
    """The record of a saved model; of one of one's own from its file, which must be the one that was fitted.

    A relative path is looked for in the working directory, then where ``results/`` lies. Raises UserError where the
    file is gone or another.
    """
    if "content" not in saved:
        return MODEL_TYPES[saved["type"]]
    above = path.absolute().parents
    try:
        record = own_models.load(saved["type"], above[6:7])
    except (UserError, KeyError) as error:
        problem = f"was fitted by {saved['type']}, which cannot be loaded"
        raise UserError(path, problem, str(error), "put the file back, or start where it lies") from error
    if record.content != saved["content"]:
        problem = f"was fitted by {saved['type']} with other code than it has now"
        raise UserError(path, problem, "", f"run {STARTER} to fit it again, or take the change back")
    return record


def _must_be_as_stored(model: LanguageModel, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where the model stores arrays of other names, shapes or types than it was given."""
    stored = {name: (np.shape(array), np.asarray(array).dtype) for name, array in model.arrays().items()}
    for name in stored.keys() | arrays.keys():
        given = (arrays[name].shape, arrays[name].dtype) if name in arrays else None
        if stored.get(name) != given:
            raise ValueError(f"{name} is {given}, not {stored.get(name)}")
