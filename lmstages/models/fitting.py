"""One fit: from a section of the config to a fitted model, and the facts that are reported of the fit.

Uses a model only as ``LanguageModel``.
"""

import sys
from collections.abc import Mapping
from typing import Any

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.neural import EXECUTION
from lmstages.config.own_models import code_of
from lmstages.config.sections import config_of
from lmstages.core.documents import Curve, Documents
from lmstages.core.errors import FitError, UserError
from lmstages.core.own_code import fault_of
from lmstages.core.progress import LOGGER
from lmstages.core.provenance import versions
from lmstages.core.runtime import Runtime, device_type
from lmstages.core.system_errors import out_of_memory
from lmstages.models.base import LanguageModel, build
from lmstages.training import flops

PLACES = ("paths", "levels")  # of a record: where files lie, on which no byte of a fit depends


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
    """Everything that the curve of a fit depends on, except the device; it is resumed only where all of it is equal.

    Keys of how it is computed are left out: the same fit goes on with fewer processes, say. Computes the hash of the
    code where ``made`` has none.
    """
    code = made["code"] or code_of("fit", [config_of(made["section"])])
    environment = {"python": sys.version.split()[0], **versions("numpy", "torch")}
    numbers = {"vocab_size": vocab_size, "seed": seed, "threads": threads}
    rest = {key: value for key, value in made.items() if key not in PLACES}
    section = {**made["section"], "hyperparameters": _without_execution(made["section"].get("hyperparameters", {}))}
    return {**rest, "section": section, "code": code, **numbers, "environment": environment}


def _without_execution(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in hyperparameters.items() if key not in EXECUTION}


def outcome(
    section: Mapping[str, Any],
    vocab_size: int,
    documents: tuple[Documents, Documents],
    seed: int,
    threads: int,
    runtime: Runtime,
) -> tuple[LanguageModel | None, dict[str, Any]]:
    """The model fitted on (train, valid), and the facts of its fit; None and the reason where fitting fails."""
    try:
        model, curve = fitted(section, vocab_size, *documents, seed, runtime)
    except Exception as error:
        if (failure := failure_of(error)) is None:
            raise
        LOGGER.error("lmstages: error: %s", failure)
        return None, {"status": f"failed: {failure}"}
    runtime.follow(curve)
    return model, {**describe(model, curve, documents[0], threads, runtime), "fit_seconds": runtime.seconds()}


def failure_of(error: Exception) -> FitError | None:
    """Why a model has no row: it cannot be fitted, or its own file has a mistake; None for all else."""
    if isinstance(error, FitError):
        return error
    return None if isinstance(error, UserError) or out_of_memory("", error) else fault_of(error)


def must_be_longer(config: ModelConfig, split: str, tokens: int) -> None:
    """Raises FitError for a text that is no longer than the model's context, on which a score would mean nothing."""
    if tokens <= (config.context or 1):
        problem = f"the {split} part has {tokens:,} tokens"
        needed = f"model {config.name} looks back over {config.context or 1:,}"
        raise FitError("text too short", problem, needed, "give more text, or lower the model's window or order")


def describe(
    model: LanguageModel, curve: Curve, train: Documents, threads: int, runtime: Runtime | None = None
) -> dict[str, Any]:
    """The facts of a fit for the report: status, sizes, cost, curve and environment; equal runs give equal facts."""
    seen = int(curve[-1]["tokens"]) if curve else len(train) if model.parameters() else 0
    packages = ["numpy", "safetensors", *(name for name in ("numba", "torch") if name in sys.modules)]
    machines = {"precision": runtime.precision, "machines": runtime.machines} if runtime and runtime.machines else {}
    return {
        "status": "ok",
        "parameters": model.parameters(),
        "tokens_seen": seen,
        "flops": flops.of_fit(model, seen),
        "curve": curve,
        "device": device_type(runtime.machines if runtime else []),
        **machines,
        "threads": threads,
        "vocab_size": model.vocab_size,
        "environment": {"python": sys.version.split()[0], **versions(*packages)},
    }
