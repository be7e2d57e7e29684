"""Opens a model for use outside a run: an experiment's, one that was saved from Python, or a checkpoint from elsewhere.

``OPENERS`` is the one list of what can be opened; another format joins it with one line. What is opened is a model with
its tokenizer, the protocol under which it scores, and how the text that it was fitted on separates its documents.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from lmstages.config.hyperparameters.base import Derived, ModelConfig
from lmstages.config.job_sections import ResolvedScoring
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.sections import Pretrained, Scoring
from lmstages.core import artifacts
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.shapes import Shape
from lmstages.corpora import splits
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.evaluation.facts import Fit, load_fit
from lmstages.models import storage as model_storage
from lmstages.models.base import LanguageModel
from lmstages.tokenizers import TextTokenizer, streams

MODEL, SAVED = "model.safetensors", "lmstages.json"
SEPARATOR = "<|endoftext|>"
FORMS = "an experiment results/RUN/CORPUS/TOKENIZER/MODEL/seedN, a folder that was saved from Python or lies in the"
FORMS = f"allowed: {FORMS} Hugging Face layout, or a GGUF file"
Documents = Literal["stream", "lines", "separator"]


class Layout(Shape):
    """How a text separates its documents: not at all, by line ends, or by a line that is ``separator``."""

    documents: Documents = "stream"
    separator: str = SEPARATOR


@dataclass(frozen=True)
class OpenedModel:
    """A fitted model, its tokenizer, the protocol with its window and stride, and the layout of its text.

    ``name``: what messages call it. ``own``: its numbers can be saved, since they were fitted here.
    """

    name: str
    model: LanguageModel
    tokenizer: TextTokenizer
    protocol: ResolvedScoring
    layout: Layout
    own: bool = True


Opener = Callable[[Path, str], OpenedModel]


def opened(path: Path, device: str = "cpu") -> OpenedModel:
    """The model at ``path``, on a device; a UserError where there is none, or its files do not fit together."""
    path = path.parent if path.name in (MODEL, "fit.json") else path
    for is_one, opener in OPENERS:
        if is_one(path):
            return opener(path, device)
    raise _no_model(path)


def is_fitted_here(path: Path) -> bool:
    """Whether a folder is an experiment of a run, or a model that was saved from Python."""
    return _is_experiment(path) or _is_saved(path)


def tokens_of(model: Path) -> Path:
    """The folder of the tokenizer of a model.safetensors: of its run, or beside it where Python saved it."""
    return model.parent if _is_saved(model.parent) else model.absolute().parents[2] / "tokens"


def automatic(model: LanguageModel) -> ResolvedScoring:
    """The protocol of a model for which no config says another."""
    return ResolvedScoring.model_validate(Scoring().resolved(model.config))


# ---------------------------------------------------------------- experiments of a run


def _is_experiment(path: Path) -> bool:
    return (path / "fit.json").is_file()


def _experiment(path: Path, device: str) -> OpenedModel:
    if not os.path.lexists(path / MODEL):
        model_type = load_fit(path).get("type") or "mixture"
        problem = f"holds the scores of a row of type {model_type}, and no model"
        is_mixture = model_type == "mixture"
        remedy = "open one of the models that it mixes" if is_mixture else "open the checkpoint itself"
        raise UserError(path, problem, FORMS, remedy)
    record = MODEL_TYPES.get(artifacts.load_json(path / "fit.json", Fit).get("type"), ModelConfig)
    if record.is_bound:
        remedy = "open what it is a bound of" if issubclass(record, Derived) else "open a model of another category"
        raise UserError(path, "is a bound, which gives no probabilities of a token", FORMS, remedy)
    folder = path.absolute()
    tokens, text = folder.parents[1] / "tokens", folder.parents[2] / "text"
    status = facts_of_fit(path / MODEL, tokens)["status"]
    if status != "ok":
        raise UserError(path, f"was not fitted ({status.removeprefix('failed: ')})", "", "open another model")
    model, tokenizer = load_fitted(path / MODEL, tokens, device)
    return OpenedModel(str(path), model, tokenizer, _protocol_of(path, model), layout_of(text))


def _protocol_of(experiment: Path, model: LanguageModel) -> ResolvedScoring:
    """The protocol under which the experiment was scored, with no token left out.

    The model's own where it was not scored yet, or by ``judge``, which has no other.
    """
    evaluation = experiment / "evaluation.json"
    if not os.path.lexists(evaluation):
        return automatic(model)
    made = artifacts.provenance_of(artifacts.verified(evaluation))
    if made["command"] == "judge":
        return automatic(model)
    try:
        return ResolvedScoring.model_validate({**made["section"]["scoring"], "skip": 0})
    except (KeyError, TypeError, ValidationError) as error:
        raise UserError(evaluation, "does not say how it was scored", "", artifacts.make_again(evaluation)) from error


def layout_of(text: Path) -> Layout:
    """How the prepared text in a folder separates its documents, by what ends those of train."""
    train = splits.SplitText.open(text, "train")
    if train.stream:
        return Layout()
    longest = int(np.argmax(train.terminators)) if len(train.terminators) else 0
    size = int(train.terminators[longest]) if len(train.terminators) else 0
    if size <= 1:
        return Layout(documents="lines")
    with open(train.path, "rb") as file:
        file.seek(int(train.ends[longest]) - size)
        return Layout(documents="separator", separator=file.read(size).decode().strip("\n"))


# ---------------------------------------------------------------- saved from Python


def _is_saved(path: Path) -> bool:
    return (path / SAVED).is_file()


def save(opened_model: OpenedModel, folder: Path) -> None:
    """Write a model that was fitted here, its tokenizer, and how it reads a text; raises UserError for any other."""
    if not opened_model.own:
        problem = f"cannot save {opened_model.name}, which was not fitted here"
        raise UserError(folder, problem, "", "copy its files instead")
    made: dict[str, Any] = {"command": "save"}
    model_storage.save_model(folder / MODEL, opened_model.model, made)
    artifacts.save_json(folder / streams.TOKENIZER, opened_model.tokenizer.to_json(), made)
    settings = {"protocol": opened_model.protocol.model_dump(), "layout": opened_model.layout.model_dump()}
    artifacts.save_json(folder / SAVED, settings, made)


class Saved(Shape):
    """``lmstages.json``: what a saved model's other files do not say."""

    protocol: ResolvedScoring
    layout: Layout


def _saved(path: Path, device: str) -> OpenedModel:
    settings = Saved.model_validate(artifacts.load_json(path / SAVED, Saved))
    model, tokenizer = load_fitted(path / MODEL, path, device)
    return OpenedModel(str(path), model, tokenizer, settings.protocol, settings.layout)


# ---------------------------------------------------------------- from elsewhere


def _is_checkpoint(path: Path) -> bool:
    return (path / "config.json").is_file() or (path.is_file() and path.suffix == ".gguf")


def _checkpoint(path: Path, device: str) -> OpenedModel:
    """A checkpoint reads a text as one document, by windows that move by half of themselves."""
    from lmstages.evaluation import checkpoints

    if device not in (allowed := ("auto", "cpu", "cuda")):
        raise UserError(path, f"device {device!r} for a checkpoint from elsewhere", f"allowed: {', '.join(allowed)}")
    given = {"gguf" if path.is_file() else "path": str(path), "device": device}
    loaded = checkpoints.load(Pretrained.model_validate(given))
    window = loaded.model.config.window
    protocol = ResolvedScoring(protocol="stride", window=window, stride=-(-window // 2), skip=0)
    model: Any = loaded.model
    return OpenedModel(str(path), model, loaded.tokenizer, protocol, Layout(), own=False)


OPENERS: tuple[tuple[Callable[[Path], bool], Opener], ...] = (
    (_is_experiment, _experiment),
    (_is_saved, _saved),
    (_is_checkpoint, _checkpoint),
)


def _no_model(path: Path) -> UserError:
    """What is at the path instead, or the nearest name of what is there."""
    if path.is_dir():
        inside = [fit.parent for depth in range(4) for fit in islice(path.glob(f"{'*/' * depth}seed*/fit.json"), SHOWN)]
        names = f", but {', '.join(map(str, sorted(inside)[:SHOWN]))}" if inside else ""
        return UserError(path, f"is no model{names}", FORMS)
    if path.is_file():
        return UserError(path, "is no model", FORMS)
    above = path.parent
    while not above.is_dir():
        path, above = above, above.parent
    beside = [entry.name for entry in above.iterdir() if not entry.name.startswith(".")]
    return UserError(path, f"no such folder or file{did_you_mean(path.name, beside)}", FORMS)


SHOWN = 5  # experiments that a message names
