"""What is made of a fitted model without training it again: made, and measured against what it came from.

Divergence and agreement are those of the next token's whole distribution, on the first tokens of each held-out split,
in windows of the longest row with half of it as history. Knows a model only as ``LanguageModel`` and ``Derived``.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.config.sections import config_of
from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation import scoring
from lmstages.models import storage as model_storage
from lmstages.models.base import Derived, LanguageModel, build
from lmstages.models.fitting import describe
from lmstages.tokenizers import streams
from lmstages.tokenizers.vocabularies import of_tokenizer

TOKENS = 1 << 15  # of a split: enough for a divergence to one part in a hundred


def derive(base: Path, tokens: Path, out: Path, section: Mapping[str, Any], threads: int, made: artifacts.Made) -> None:
    """Make the section's model of the fitted one at ``base``; where that failed, so does this."""
    fit = artifacts.load_json(base.with_name("fit.json"))
    if fit["status"] != "ok":
        model_storage.save_fit(out, None, {**section, "status": fit["status"]}, made)
        return
    below, (train, _) = model_storage.load_model(base), streams.read_tokens(tokens, "train")
    started = time.perf_counter()
    model = build(config_of(section), below.vocab_size)
    _as_derived(model).derive(below, train)
    seconds = time.perf_counter() - started
    facts = {**describe(model, [], train, threads), "tokens_seen": fit["tokens_seen"], "fit_seconds": seconds}
    model_storage.save_fit(out, model, {**section, **facts}, made)


def _as_derived(model: Any) -> Derived:
    if not isinstance(model, Derived):
        raise UserError(f"model {model.config.name}", "is not made of another model", "", "use the verb fit")
    return model


def against(model: Path, base: Path, tokens: Path, splits: list[str]) -> dict[str, Any]:
    """How many bytes a derived model takes, and how far it is from ``base`` on each split; {} where it failed."""
    if artifacts.load_json(model.with_name("fit.json"))["status"] != "ok":
        return {}
    derived, below = model_storage.load_model(model), model_storage.load_model(base)
    size = {"of": base.parts[-3], "bits_per_weight": _as_derived(derived).bits_per_weight()}
    size["file_bytes"] = _file_bytes(_as_derived(derived), tokens)
    return {split: {**size, **_distance(derived, below, tokens, split)} for split in splits}


def _file_bytes(model: Derived, tokens: Path) -> int:
    """Of the GGUF file, vocabulary included."""
    vocabulary = of_tokenizer(streams.read_tokenizer(tokens).to_json())
    with artifacts.scratch(tokens) as file:
        model.export(Path(file.name), vocabulary)
        return Path(file.name).stat().st_size


def _distance(model: LanguageModel, base: LanguageModel, tokens: Path, split: str) -> dict[str, float]:
    documents = _first(streams.read_tokens(tokens, split)[0])
    window = model.config.context
    assert window is not None, "attention sees a window"
    windows = scoring.windows_of(documents.starts, "stride", window, -(-window // 2), 0)
    scorers = _as_derived(model).against(base)
    kl, top1 = (float(np.nanmean(scoring.score(each, documents, windows))) for each in scorers)
    return {"kl": kl, "top1": top1}


def _first(documents: Documents) -> Documents:
    """The first tokens, the last document cut short."""
    starts = documents.starts[documents.starts < TOKENS]
    end = min(TOKENS, len(documents.tokens))
    return Documents(documents.tokens[:end], np.append(starts[starts < end], end))
