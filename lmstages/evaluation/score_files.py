"""Score files: the log-probability of every token of held-out text, its bytes and its document."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lmstages.core import artifacts
from lmstages.core.artifacts import Made
from lmstages.core.errors import UserError
from lmstages.core.shapes import Count, NotNegative, Shape, problem_of


@dataclass(frozen=True)
class Scores:
    """Scores of a held-out text by token, in the order of the text; arrays are (N,).

    ``log_probs``: nats; ``lengths``: bytes that each token covers; ``documents``: index of its document;
    ``skipped``: bytes of the text before the first scored token; ``error``: of a bound the Monte Carlo standard error
    of the sum of ``log_probs``, nats.
    """

    log_probs: np.ndarray
    lengths: np.ndarray
    documents: np.ndarray
    characters: int
    protocol: str
    skipped: int = 0
    error: float | None = None


class Fields(Shape):
    """What a score file holds of a split beside its arrays."""

    characters: Annotated[int, Field(ge=1, lt=1 << 53)]
    protocol: str
    skipped: Count = 0
    error: NotNegative | None = None


SCORE_TYPES = {"log_probs": np.float32, "lengths": np.uint16, "documents": np.int32}
EXACT_TYPES = {"log_probs": np.float64, "lengths": np.uint32, "documents": np.int32}  # of scores made elsewhere


def save_scores(path: Path, scores: Mapping[str, Scores], made: Made, exact: bool = False) -> None:
    """Write the scores of all splits of an experiment as one safetensors file; ``exact``: with all their digits."""
    arrays: dict[str, np.ndarray] = {}
    types = EXACT_TYPES if exact else SCORE_TYPES
    metadata = {}
    for split, scored in scores.items():
        arrays |= {f"{split}.{name}": getattr(scored, name).astype(dtype) for name, dtype in types.items()}
        keys = ("characters", "protocol", "skipped", *(["error"] if scored.error is not None else []))
        metadata[split] = json.dumps({key: getattr(scored, key) for key in keys})
    artifacts.save_arrays(path, arrays, metadata, made)


def load_scores(path: Path) -> dict[str, Scores]:
    """The inverse of ``save_scores``; raises UserError for a file of another content."""
    arrays, metadata = artifacts.load_arrays(path)
    scores = {}
    try:
        for split, fields in metadata.items():
            log_probs, lengths, documents = (arrays[f"{split}.{name}"] for name in SCORE_TYPES)
            if not log_probs.shape == lengths.shape == documents.shape == (len(log_probs),):
                raise ValueError(f"arrays of {split} have different lengths")
            if problem := _problem(log_probs, lengths, documents) or problem_of(Fields, fields.encode()):
                raise ValueError(problem)
            scores[split] = Scores(log_probs, lengths, documents, **json.loads(fields))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(path, "no score file of lmstages", "", artifacts.make_again(path)) from error
    return scores


def _problem(log_probs: np.ndarray, lengths: np.ndarray, documents: np.ndarray) -> str | None:
    """What is wrong with the arrays of a split, beside their lengths; None where nothing is."""
    types = [array.dtype for array in (log_probs, lengths, documents)]
    if types not in (list(SCORE_TYPES.values()), list(EXACT_TYPES.values())):
        return f"arrays of {', '.join(map(str, types))}"
    if (log_probs > 1e-3).any() or np.isnan(log_probs).any():
        return "a probability above 1, or none"
    if len(documents) and (documents[0] < 0 or (np.diff(documents) < 0).any()):
        return "documents out of order"
    return None


def load_experiment(folder: Path, splits: Sequence[str] = ()) -> dict[str, Scores]:
    """The scores of an experiment, none where it failed.

    A UserError where they are not those of the model, tokens and text beside them, or where one of the ``splits`` is
    missing.
    """
    path, model = folder / "scores.safetensors", folder / "model.safetensors"
    scores = load_scores(path)
    streams = [folder.parents[1] / "tokens" / f"{split}.npy" for split in scores]
    texts = [folder.parents[2] / "text" / f"{split}.txt" for split in scores]
    inputs = [file for file in (model, *streams, *texts) if file.is_file()]
    for made in (path, folder / "evaluation.json"):
        artifacts.must_be_made_from(made, *inputs)
        artifacts.must_be_current(made)
    for stream in streams:
        if stream.is_file():
            artifacts.must_be_current(stream)
    artifacts.must_be_of_one_call(path, folder / "evaluation.json")
    must_hold(path, scores, splits)
    return scores


def load_oracle(folder: Path, splits: Sequence[str]) -> dict[str, Scores]:
    """The scores of a text's source; a UserError where they are of another text, or a split is missing."""
    return _of_one_call_with(folder / "oracle.json", splits)


def load_reported(folder: Path, splits: Sequence[str]) -> dict[str, Scores]:
    """Scores made elsewhere, none where they could not be used; a UserError where they are of another text."""
    return _of_one_call_with(folder / "reported.json", splits)


def _of_one_call_with(facts: Path, splits: Sequence[str]) -> dict[str, Scores]:
    """The scores that lie beside their facts and need no model; the same call has made both."""
    path = facts.with_name("scores.safetensors")
    scores = load_scores(path)
    artifacts.must_be_current(path)
    artifacts.must_be_of_one_call(path, facts)
    must_hold(path, scores, splits)
    return scores


def must_hold(path: Path, scores: Mapping[str, Scores], splits: Sequence[str]) -> None:
    """Raises UserError where a split is missing, or has no token."""
    if lacking := [split for split in splits if split not in scores or not len(scores[split].log_probs)]:
        raise UserError(path, f"holds no scores of {', '.join(lacking)}", "", artifacts.make_again(path))


def mean_of(scores: Sequence[Scores]) -> Scores:
    """Several fits as one row: the mean of their code lengths at every token.

    Bounds of several fits hide the same places, so that their errors may agree: theirs is the mean of the errors.
    """
    mean = _with(scores[0], np.mean([seed.log_probs for seed in scores], axis=0, dtype=np.float64))
    errors = [seed.error for seed in scores if seed.error is not None]
    return replace(mean, error=sum(errors) / len(errors)) if errors else mean


def ensemble_of(scores: Sequence[Scores]) -> Scores:
    """Several fits as one predictor: the mean of their probabilities at every token."""
    summed = np.logaddexp.reduce([seed.log_probs.astype(np.float64) for seed in scores])
    return _with(scores[0], summed - math.log(len(scores)))


def _with(scores: Scores, log_probs: Any) -> Scores:
    rest = (scores.lengths, scores.documents, scores.characters, scores.protocol, scores.skipped)
    return Scores(log_probs, *rest)
