"""Derives a model from a fitted one, without further training. Knows a model only by its contract."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstages.config.sections import config_of
from lmstages.core import artifacts
from lmstages.core.errors import FitError, UserError
from lmstages.core.progress import LOGGER
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.models import storage as model_storage
from lmstages.models.base import ChosenOnValid, Derivable, build
from lmstages.models.fitting import describe
from lmstages.tokenizers import streams


def derive(base: Path, tokens: Path, out: Path, section: Mapping[str, Any], threads: int, made: artifacts.Made) -> None:
    """Write to ``out`` the section's model, derived from the fitted one at ``base``; a failed fit fails here too.

    A FitError of the derivation is a failed fit.

    Raises UserError where the section's model is not a derived one.
    """
    fit = facts_of_fit(base, tokens)
    if fit["status"] != "ok":
        model_storage.save_fit(out, None, {**section, "status": fit["status"]}, made)
        return
    fitted: Any = load_fitted(base, tokens)[0]
    train = streams.read_documents(tokens, "train")
    started = time.perf_counter()
    model: Any = build(config_of(section), fitted.vocab_size)
    if not isinstance(model, Derivable):
        raise UserError(f"model {model.config.name}", "is not derived from another model", "", "use the command fit")
    try:
        model.derive(fitted, train)
        if isinstance(model, ChosenOnValid):
            model.choose(streams.read_documents(tokens, "valid"))
    except FitError as error:
        LOGGER.error("lmstages: error: %s", error)
        model_storage.save_fit(out, None, {**section, "status": f"failed: {error}"}, made)
        return
    seconds = time.perf_counter() - started
    facts = {**describe(model, [], train, threads), "tokens_seen": fit["tokens_seen"], "fit_seconds": seconds}
    model_storage.save_fit(out, model, {**section, **facts}, made)
