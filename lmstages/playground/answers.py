"""What the playground's page shows of one fitted model: the distribution of the next token, and a continuation.

The continuation is drawn as in the report: sharpened by temperature, then the k likeliest, then the fewest that hold p
(Holtzman et al. 2020). Knows a model only as ``LanguageModel``, by the files of its cell; never a request.
"""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lmstages.analyses.inspection import spelled
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.sections import Record
from lmstages.core import artifacts
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.visible import visible
from lmstages.evaluation import sampling
from lmstages.models import storage as model_storage
from lmstages.models.base import LanguageModel
from lmstages.results.explaining import existing
from lmstages.tokenizers import TextTokenizer, streams

MOST_CHARACTERS = 8192  # of a prompt, its end, before it becomes tokens
MOST_TOKENS = 1024  # of a prompt, its end
LIKELIEST = 12
LOADED = 16  # models kept in memory


class Asked(Record):
    """What a person asks of one model."""

    model: str
    prompt: str = ""
    temperature: Annotated[float, Field(ge=0.05, le=5)] = 1.0
    top_k: Annotated[int, Field(ge=1, le=100000)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    length: Annotated[int, Field(ge=0, le=400)] = 120
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0


class Playground:
    """The fitted models of a run's folder, loaded when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = existing(folder)
        self.cells = _cells(self.folder)
        if not self.cells:
            told = "a cell is results/RUN/CORPUS/TOKENIZER/MODEL/seedN"
            raise UserError(folder, "no fitted model lies here", told, "run snakemake to make it")
        self.loaded = lru_cache(LOADED)(self._load)

    def answer(self, asked: Asked) -> dict[str, Any]:
        """What the page shows of one model; a UserError where it cannot be asked."""
        if asked.model not in self.cells:
            raise UserError(asked.model, f"no such model here{did_you_mean(asked.model, self.cells)}")
        model, tokenizer, documents = self.loaded(asked.model)
        tokens, notes = encoded(tokenizer, asked.prompt)
        chances = sampling.filter_logits(
            model.next_log_probs(tokens[None]), asked.temperature, asked.top_k, asked.top_p
        )[0]
        ranked = np.argsort(-chances, kind="stable")[:LIKELIEST]
        settings = (asked.temperature, asked.top_k, asked.top_p, documents)
        drawn = sampling.sample(model, 1, asked.length, asked.seed, tokens, *settings)[0][len(tokens) :]
        known = chances[chances > 0]
        return {
            "next": [[visible(spelled(tokenizer, int(t))), float(chances[t])] for t in ranked if chances[t] > 0],
            "bits": float(-(known * np.log2(known)).sum()),
            "possible": len(known),
            "continuation": visible(tokenizer.decode(drawn.tolist())),
            "ended": bool(documents and len(drawn) < asked.length),
            "notes": notes,
        }

    def _load(self, name: str) -> tuple[LanguageModel, TextTokenizer, bool]:
        """A model, its tokenizer, and whether its documents end."""
        cell = self.folder / name
        model = model_storage.load_model(cell / "model.safetensors")
        evaluation, documents = cell / "evaluation.json", True
        if evaluation.is_file():
            documents = artifacts.made_of(evaluation)["made"].get("section", {}).get("documents", True)
        return model, streams.read_tokenizer(cell.parents[1] / "tokens"), documents

    def offered(self) -> list[dict[str, Any]]:
        """Every model with what the page says of it, in the order of the ladder."""
        configs = list(MODEL_TYPES)
        rows = [{"id": name, **told} for name, told in self.cells.items()]
        return sorted(rows, key=lambda row: (row["text"], configs.index(row["type"]), row["id"]))


def _cells(folder: Path) -> dict[str, dict[str, Any]]:
    """Every cell below a run's folder that holds a fitted model; what failed or cannot be read is left out."""
    found = {}
    for path in sorted(folder.glob("*/*/*/seed*/model.safetensors")):
        corpus, tokenizer, model, seed = path.parent.parts[-4:]
        try:
            fit = artifacts.load_json(path.with_name("fit.json"))
        except UserError as error:
            logging.getLogger("lmstages").warning("left out: %s", error)
            continue
        if fit["status"] == "ok" and (config := MODEL_TYPES.get(fit.get("type", ""))):
            title = config.title if model == config.name else f"{config.title} ({model})"
            title += "" if seed == "seed0" else f", {seed}"
            adds = " ".join((config.__doc__ or "").split()).partition(". ")[0].rstrip(".")
            adds = adds.replace("*", "").replace("`", "")
            told = {"text": f"{corpus}, tokens: {tokenizer}", "title": title, "type": config.name, "adds": adds}
            found["/".join((corpus, tokenizer, model, seed))] = told
    return found


def encoded(tokenizer: TextTokenizer, prompt: str) -> tuple[np.ndarray, list[str]]:
    """A prompt -> the last of its tokens (T,), and what of it is not read as it stands."""
    notes = []
    text = prompt.encode("utf-8", "replace").decode()[-MOST_CHARACTERS:]
    tokens = tokenizer.encode([text])[0][0] if text else np.zeros(0, dtype=np.int64)
    if len(text) < len(prompt) or len(tokens) > MOST_TOKENS:
        tokens = tokens[-MOST_TOKENS:]
        notes.append(f"Only the last {len(tokens):,} tokens of the prompt are read.")
    unknown = 0 if tokenizer.escape is None else int((tokens == tokenizer.escape).sum())
    if unknown:
        signs = "character of the prompt is" if unknown == 1 else "characters of the prompt are"
        notes.append(f"{unknown:,} {signs} not in the vocabulary; each is read as an unknown one.")
    return tokens.astype(np.int64), notes
