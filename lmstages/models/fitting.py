"""One fit: a section of the config to a fitted model, and what is worth telling of it.

Knows a model only as ``LanguageModel``.
"""

import sys
from collections.abc import Mapping
from typing import Any

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.sections import config_of
from lmstages.core.documents import Curve, Documents
from lmstages.core.errors import FitError, UserError
from lmstages.core.progress import LOGGER
from lmstages.core.provenance import code_hash, versions
from lmstages.core.runtime import Runtime
from lmstages.models.base import LanguageModel, build
from lmstages.training import flops


def fitted(
    section: Mapping[str, Any],
    vocab_size: int,
    train: Documents,
    valid: Documents,
    seed: int,
    runtime: Runtime | None = None,
) -> tuple[LanguageModel, Curve]:
    """The fitted model of a section {model, hyperparameters}, and its learning curve."""
    config = config_of(section)
    must_be_longer(config, "train", len(train))
    model = build(config, vocab_size, runtime)
    return model, model.fit(train, valid, seed)


def identity(made: Mapping[str, Any], vocab_size: int, seed: int, threads: int) -> dict[str, Any]:
    """Everything that the bits of a fit depend on, but for its device, which the fit finds: what resuming must not mix.

    Where nobody gave the hash of the code, it is computed: ``made`` alone leaves it empty.
    """
    code = made["code"] or code_hash("fit", config_of(made["section"]).module)
    environment = {"python": sys.version.split()[0], **versions("numpy", "torch")}
    numbers = {"vocab_size": vocab_size, "seed": seed, "threads": threads}
    return {**made, "code": code, **numbers, "environment": environment}


def outcome(
    section: Mapping[str, Any],
    vocab_size: int,
    documents: tuple[Documents, Documents],
    seed: int,
    threads: int,
    runtime: Runtime,
) -> tuple[LanguageModel | None, dict[str, Any]]:
    """The model fitted on train and valid, and what is told of it; None, and why, where it cannot be fitted."""
    try:
        model, curve = fitted(section, vocab_size, *documents, seed, runtime)
    except FitError as error:
        LOGGER.error("lmstages: error: %s", error)
        return None, {"status": f"failed: {error}"}
    return model, {**describe(model, curve, documents[0], threads, runtime), "fit_seconds": runtime.seconds()}


def must_be_longer(config: ModelConfig, split: str, tokens: int) -> None:
    """A text shorter than what a model looks back over says nothing of the model."""
    if tokens <= (config.context or 1):
        found = f"the {split} part has {tokens:,} tokens"
        needed = f"model {config.name} looks back over {config.context or 1:,}"
        raise UserError("text too short", found, needed, "give more text, or lower the model's window or order")


def describe(
    model: LanguageModel, curve: Curve, train: Documents, threads: int, runtime: Runtime | None = None
) -> dict[str, Any]:
    """What the report tells of a fit, and what its bits depend on; nothing that differs between two equal runs."""
    seen = int(curve[-1]["tokens"]) if curve else len(train) if model.parameters() else 0
    packages = ["numpy", "safetensors", *(name for name in ("numba", "torch") if name in sys.modules)]
    machines = {"precision": runtime.precision, "machines": runtime.machines} if runtime and runtime.machines else {}
    return {
        "status": "ok",
        "parameters": model.parameters(),
        "tokens_seen": seen,
        "flops": flops.of_fit(model, seen),
        "curve": curve,
        "device": "cuda" if any("CPU" not in machine for machine in machines.get("machines", [])) else "cpu",
        **machines,
        "threads": threads,
        "vocab_size": model.vocab_size,
        "environment": {"python": sys.version.split()[0], **versions(*packages)},
    }
