"""What the playground shows for one fitted model: the distribution of the next token and a continuation, or the fills
of a gap.

The continuation is sampled as in the report: with a temperature, then top-k, then top-p (nucleus sampling, Holtzman et
al. 2020). Knows a model only as ``LanguageModel``, by the files of its experiment; never a request.
"""

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lmstages.analyses.inspection import spelled
from lmstages.config.hyperparameters.base import Record
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.own_models import is_own
from lmstages.core import artifacts
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.visible import visible
from lmstages.core.workflow_files import STARTER
from lmstages.evaluation import filling, sampling
from lmstages.evaluation.any_length import LONGEST
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.evaluation.facts import load_fit
from lmstages.evaluation.opening import Layout, OpenedModel, automatic
from lmstages.models.base import LanguageModel
from lmstages.results.explaining import existing
from lmstages.tokenizers import TextTokenizer

MOST_CHARACTERS = 8192  # of a prompt, counted from its end, before it becomes tokens
MOST_TOKENS = 1024  # of a prompt, counted from its end
MOST_LIKELY = 12  # next tokens that are shown
MOST_FILLS = 8  # of a gap
LOADED = 16  # models kept in memory


class Question(Record):
    """A prompt for one model, and how to sample its continuation of at most ``length`` tokens."""

    model: str
    prompt: str = ""
    temperature: Annotated[float, Field(ge=0.05, le=5)] = 1.0
    top_k: Annotated[int, Field(ge=1, le=100000)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    length: Annotated[int, Field(ge=0, le=400)] = 120
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0


class GapQuestion(Record):
    """A gap between two texts for one model; a length that is not given is found by models that can."""

    model: str
    left: str = ""
    right: str = ""
    length: Annotated[int, Field(ge=1, le=LONGEST)] | None = None


class Playground:
    """The fitted models of a run's folder, loaded upon the first question; a UserError where the folder has none."""

    def __init__(self, folder: Path) -> None:
        self.folder = existing(folder)
        self.experiments = _experiments(self.folder)
        if not self.experiments:
            allowed = "an experiment is results/RUN/CORPUS/TOKENIZER/MODEL/seedN"
            raise UserError(folder, "has no fitted model", allowed, f"run {STARTER} to make it")
        self.loaded = lru_cache(LOADED)(self._load)

    def answer(self, question: Question) -> dict[str, Any]:
        """The JSON answer that the page shows; a UserError where there is no such model, or its files are damaged."""
        model, tokenizer, documents = self._model(question.model)
        tokens, notes = encoded(tokenizer, question.prompt)
        settings = (question.temperature, question.top_k, question.top_p)
        probabilities = sampling.filter_logits(model.next_log_probs(tokens[None]), *settings)[0]
        sample = sampling.sample(model, 1, question.length, question.seed, tokens, *settings, documents)[0]
        continuation = sample[len(tokens) :]
        return _distribution(tokenizer, probabilities) | {
            "continuation": visible(tokenizer.decode(continuation.tolist())),
            "ended": bool(documents and len(continuation) < question.length),
            "notes": notes,
        }

    def fill(self, question: GapQuestion) -> dict[str, Any]:
        """The likeliest fills of a gap, each with its probability and the nats of its characters; raises as ``answer``.

        Of either side the ``MOST_TOKENS`` characters that are nearest to the gap are read.
        """
        model, tokenizer, documents = self._model(question.model)
        layout = Layout(documents="lines" if documents else "stream")
        opened = OpenedModel(question.model, model, tokenizer, automatic(model), layout)
        sides = question.left[-MOST_TOKENS:], question.right[:MOST_TOKENS]
        method, likeliest = filling.fills(opened, *sides, question.length, MOST_FILLS, "")
        fills = [
            {
                "pieces": [[visible(text), nats] for text, nats in zip(fill.text, fill.nats, strict=True)],
                "probability": fill.probability,
                "of_length": fill.of_length if question.length is None else None,
            }
            for fill in likeliest
        ]
        left, right = visible(sides[0][-filling.SIDE :]), visible(sides[1][: filling.SIDE])
        return {"fills": fills, "method": method, "left": left, "right": right}

    def _model(self, name: str) -> tuple[LanguageModel, TextTokenizer, bool]:
        if name not in self.experiments:
            raise UserError(name, f"no such model here{did_you_mean(name, self.experiments)}")
        return self.loaded(name)

    def _load(self, name: str) -> tuple[LanguageModel, TextTokenizer, bool]:
        """A model, its tokenizer, and whether its text is divided into documents."""
        experiment = self.folder / name
        tokens = experiment.parents[1] / "tokens"
        facts_of_fit(experiment / "model.safetensors", tokens)
        model, tokenizer = load_fitted(experiment / "model.safetensors", tokens)
        evaluation, documents = experiment / "evaluation.json", True
        if os.path.lexists(evaluation):
            documents = artifacts.provenance_of(evaluation)["section"].get("documents", True)
        return model, tokenizer, documents

    def models(self) -> list[dict[str, Any]]:
        """Every model as the page lists it ``{id, text, title, type, adds}``, in the order of the ladder."""
        order = [*MODEL_TYPES, *(row["type"] for row in self.experiments.values() if row["type"] not in MODEL_TYPES)]
        rows = [{"id": name, **description} for name, description in self.experiments.items()]
        return sorted(rows, key=lambda row: (row["text"], order.index(row["type"]), row["id"]))


def _distribution(tokenizer: TextTokenizer, probabilities: np.ndarray) -> dict[str, Any]:
    """(V,) -> the most likely tokens and their probabilities, the entropy in bits, the count of possible tokens."""
    ranked = np.argsort(-probabilities, kind="stable")[:MOST_LIKELY]
    possible = probabilities[probabilities > 0]
    spellings = [(visible(spelled(tokenizer, int(token))), float(probabilities[token])) for token in ranked]
    return {
        "next": [[spelling, probability] for spelling, probability in spellings if probability > 0],
        "bits": float(-(possible * np.log2(possible)).sum()),
        "possible": len(possible),
    }


def _experiments(folder: Path) -> dict[str, dict[str, Any]]:
    """Every experiment below a run's folder that has a fitted model; failed and unreadable ones are left out.

    So are bounds, which predict no next token.
    """
    experiments = {}
    for path in sorted(folder.glob("*/*/*/seed*/model.safetensors")):
        try:
            fit = load_fit(path.parent)
        except UserError as error:
            logging.getLogger("lmstages").warning("left out: %s", error)
            continue
        model_type = fit.get("type", "")
        predicts = not MODEL_TYPES[model_type].is_bound if model_type in MODEL_TYPES else is_own(model_type)
        if fit["status"] == "ok" and predicts:
            experiments["/".join(path.parent.parts[-4:])] = _description(path.parent, fit["type"])
    return experiments


def _description(experiment: Path, model_type: str) -> dict[str, str]:
    """What the page shows of a model before it answers: its text, its title, and what it adds to the ladder."""
    corpus, tokenizer, model, seed = experiment.parts[-4:]
    config = MODEL_TYPES.get(model_type)
    if config is None:
        title = f"{model_type.rpartition(':')[2]} ({model}){'' if seed == 'seed0' else f', {seed}'}"
        description = {"text": f"{corpus}, tokens: {tokenizer}", "title": title, "type": model_type}
        return {**description, "adds": f"A model of one's own, {model_type}"}
    title = config.title if model == config.name else f"{config.title} ({model})"
    title += "" if seed == "seed0" else f", {seed}"
    adds = " ".join((config.__doc__ or "").split()).partition(". ")[0].rstrip(".")
    adds = adds.replace("*", "").replace("`", "")
    return {"text": f"{corpus}, tokens: {tokenizer}", "title": title, "type": config.name, "adds": adds}


def encoded(tokenizer: TextTokenizer, prompt: str) -> tuple[np.ndarray, list[str]]:
    """A prompt -> the last of its tokens (T,), and notes on what was cut off or replaced."""
    notes = []
    text = prompt.encode("utf-8", "replace").decode()[-MOST_CHARACTERS:]
    tokens = tokenizer.encode([text])[0][0] if text else np.zeros(0, dtype=np.int64)
    if len(text) < len(prompt) or len(tokens) > MOST_TOKENS:
        tokens = tokens[-MOST_TOKENS:]
        notes.append(f"Only the last {len(tokens):,} tokens of the prompt are read.")
    unknown = 0 if tokenizer.escape is None else int((tokens == tokenizer.escape).sum())
    if unknown:
        subject = "character of the prompt is" if unknown == 1 else "characters of the prompt are"
        notes.append(f"{unknown:,} {subject} not in the vocabulary and read as unknown.")
    return tokens.astype(np.int64), notes
