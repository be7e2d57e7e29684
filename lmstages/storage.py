"""What the stages leave for one another on disk: token streams, fitted models, score files.

A token stream is one ``.npy`` of 1, 2 or 4 bytes a token that is read by memory map, beside the bytes
each token covers and where documents begin. A fitted model is one safetensors file: the arrays, with
rung and vocabulary size as its metadata, so that it needs nothing else to be used. Knows a model only
as ``LanguageModel``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from lmstages import artefacts
from lmstages.artefacts import Made
from lmstages.corpora.splits import Piece, SplitText
from lmstages.errors import UserError
from lmstages.ladder import RUNGS
from lmstages.models.base import Documents, LanguageModel, build
from lmstages.progress import Progress
from lmstages.tokenizers import TextTokenizer, from_json, smallest_type, with_boundaries
from lmstages.training.runtime import Runtime

# ---------------------------------------------------------------- token streams


def write_tokens(folder: Path, name: str, text: SplitText, tokenizer: TextTokenizer, made: Made) -> int:
    """Tokenize a split piece by piece; returns the number of tokens. What does not come back as it was is an error."""
    paths = _token_paths(folder, name)
    starts, count = [0], 0
    progress = Progress(text.path.stat().st_size, f"{name}: byte")
    with (
        artefacts.saving_array(paths[0], smallest_type(tokenizer.vocab_size - 1), made) as tokens,
        artefacts.saving_array(paths[1], np.dtype(np.uint16), made) as lengths,
    ):
        done = 0
        for batch in text.batches():
            for piece, encoded in zip(batch, tokenizer.encode([piece.text for piece in batch]), strict=True):
                _check_round_trip(tokenizer, piece, encoded[0])
                closed = encoded if piece.terminator is None else with_boundaries(encoded, piece.terminator)
                tokens.append(closed[0])
                lengths.append(closed[1])
                count, done = count + len(closed[0]), done + int(closed[1].sum())
                if piece.terminator is not None:
                    starts.append(count)
            progress.at(done, done, "bytes")
    assert done == text.path.stat().st_size, "the tokens cover the text's bytes, no more and no fewer"
    with artefacts.saving_array(paths[2], np.dtype(np.int64), made) as array:
        array.append(np.array([0, count] if text.stream and count else starts))
    return count


def _check_round_trip(tokenizer: TextTokenizer, piece: Piece, tokens: np.ndarray) -> None:
    escaped = tokenizer.escape is not None and (tokens == tokenizer.escape).any()
    if not escaped and tokenizer.decode(tokens.tolist()) != piece.text:
        raise UserError("tokenizer", f"does not give back the text {piece.text[:40]!r}...", "", "use kind byte or char")


def _token_paths(folder: Path, name: str) -> tuple[Path, Path, Path]:
    return folder / f"{name}.npy", folder / f"{name}.bytes.npy", folder / f"{name}.starts.npy"


def read_tokens(folder: Path, name: str) -> tuple[Documents, np.ndarray]:
    """A split's documents, memory-mapped, and how many bytes each token covers (N,)."""
    tokens, lengths, starts = (artefacts.load_array(path) for path in _token_paths(folder, name))
    return Documents(tokens, np.asarray(starts)), lengths


def read_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer of a token folder."""
    return from_json(artefacts.load_json(folder / "tokenizer.json"))


# ---------------------------------------------------------------- models


def save_model(path: Path, model: LanguageModel, made: Made) -> None:
    """Rung, vocabulary size and arrays in one safetensors file."""
    rung = {"rung": model.rung.name, "hyperparameters": model.rung.model_dump(mode="json")}
    metadata = {"rung": json.dumps(rung, sort_keys=True), "vocab_size": str(model.vocab_size)}
    artefacts.save_arrays(path, model.arrays(), metadata, made)


def save_fit(folder: Path, model: LanguageModel | None, facts: Mapping[str, Any], made: Made) -> None:
    """A fitted model and, after it, what is told of it; where it could not be fitted an empty file stands for it."""
    path = folder / "model.safetensors"
    if model is None:
        artefacts.save_arrays(path, {}, {"failed": facts["status"].removeprefix("failed: ")}, made)
    else:
        save_model(path, model, made)
    artefacts.save_json(folder / "fit.json", facts, made)


def load_model(path: Path, device: str = "cpu") -> LanguageModel:
    """The model that was saved, ready to score and sample."""
    arrays, metadata = artefacts.load_arrays(path)
    try:
        record = json.loads(metadata["rung"])
        rung = RUNGS[record["rung"]].model_validate(record["hyperparameters"])
    except (KeyError, ValidationError) as error:
        raise UserError(path, "no model that this version knows", "", "run snakemake to fit it again") from error
    model = build(rung, int(metadata["vocab_size"]), Runtime(device))
    model.restore(arrays)
    return model


# ---------------------------------------------------------------- score files


@dataclass(frozen=True)
class Scores:
    """What a model gave to a text, token by token; all (N,) and in the order of the text.

    ``log_probs`` nats, ``lengths`` bytes of the text that the token covers, ``documents`` its document;
    ``skipped`` bytes of the text before the first token that is scored.
    """

    log_probs: np.ndarray
    lengths: np.ndarray
    documents: np.ndarray
    characters: int
    protocol: str
    skipped: int = 0


SCORE_TYPES = {"log_probs": np.float32, "lengths": np.uint16, "documents": np.int32}


def save_scores(path: Path, scores: Mapping[str, Scores], made: Made) -> None:
    """The scores of all splits of a cell in one safetensors file."""
    arrays: dict[str, np.ndarray] = {}
    told = {}
    for split, each in scores.items():
        arrays |= {f"{split}.{name}": getattr(each, name).astype(kind) for name, kind in SCORE_TYPES.items()}
        told[split] = json.dumps({key: getattr(each, key) for key in ("characters", "protocol", "skipped")})
    artefacts.save_arrays(path, arrays, told, made)


def load_scores(path: Path) -> dict[str, Scores]:
    """The inverse of ``save_scores``."""
    arrays, told = artefacts.load_arrays(path)
    found = {}
    for split, rest in told.items():
        log_probs, lengths, documents = (arrays[f"{split}.{name}"] for name in SCORE_TYPES)
        found[split] = Scores(log_probs, lengths, documents, **json.loads(rest))
    return found
