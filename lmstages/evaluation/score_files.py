"""Score files: the log-probability of every token of held-out text, its bytes and its document."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.artifacts import Made


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
    artifacts.save_arrays(path, arrays, told, made)


def load_scores(path: Path) -> dict[str, Scores]:
    """The inverse of ``save_scores``."""
    arrays, told = artifacts.load_arrays(path)
    found = {}
    for split, rest in told.items():
        log_probs, lengths, documents = (arrays[f"{split}.{name}"] for name in SCORE_TYPES)
        found[split] = Scores(log_probs, lengths, documents, **json.loads(rest))
    return found


def mean_of(scores: Sequence[Scores]) -> Scores:
    """Several fits as one row: the mean of their code lengths at every token."""
    return _with(scores[0], np.mean([seed.log_probs for seed in scores], axis=0, dtype=np.float64))


def ensemble_of(scores: Sequence[Scores]) -> Scores:
    """Several fits as one predictor: the mean of their probabilities at every token."""
    summed = np.logaddexp.reduce([seed.log_probs.astype(np.float64) for seed in scores])
    return _with(scores[0], summed - math.log(len(scores)))


def _with(scores: Scores, log_probs: Any) -> Scores:
    rest = (scores.lengths, scores.documents, scores.characters, scores.protocol, scores.skipped)
    return Scores(log_probs, *rest)
