"""One fit: a section of the config to a fitted model, and what is worth telling of it.

Knows a model only as ``LanguageModel``.
"""

import sys
from collections.abc import Mapping
from typing import Any

from lmstages.config import rung_of
from lmstages.errors import UserError
from lmstages.ladder import Rung
from lmstages.models.base import Curve, Documents, LanguageModel, build
from lmstages.provenance import versions


def fitted(
    section: Mapping[str, Any], vocab_size: int, train: Documents, valid: Documents, seed: int
) -> tuple[LanguageModel, Curve]:
    """The fitted model of a section {rung, hyperparameters}, and its learning curve."""
    rung = rung_of(section)
    must_be_longer(rung, "train", len(train))
    model = build(rung, vocab_size)
    return model, model.fit(train, valid, seed)


def must_be_longer(rung: Rung, split: str, tokens: int) -> None:
    """A text shorter than what a model looks back over says nothing of the model."""
    if tokens <= (rung.context or 1):
        found = f"the {split} part has {tokens:,} tokens"
        needed = f"rung {rung.name} looks back over {rung.context or 1:,}"
        raise UserError("text too short", found, needed, "give more text, or lower the rung's window or order")


def describe(model: LanguageModel, curve: Curve, train: Documents, threads: int) -> dict[str, Any]:
    """What the report tells of a fit, and what its bits depend on; nothing that differs between two equal runs."""
    seen = int(curve[-1]["tokens"]) if curve else len(train) if model.parameters() else 0
    packages = ["numpy", "safetensors", *(["torch"] if "torch" in sys.modules else [])]
    return {
        "status": "ok",
        "parameters": model.parameters(),
        "tokens_seen": seen,
        "curve": curve,
        "device": "cpu",
        "threads": threads,
        "vocab_size": model.vocab_size,
        "environment": {"python": sys.version.split()[0], **versions(*packages)},
    }
