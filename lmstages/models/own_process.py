"""The process that ``config.own_models`` starts: it runs the files of models of one's own and describes their classes.

    stdin     JSON: questions {type, keys, content, where}
    stdout    JSON: an answer for each: {problems}, or what code asks of a record, with no problems

Whatever such a file prints goes nowhere. Run as ``python -m lmstages.models.own_process``.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from lmstages.config import own_models
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.neural import Neural
from lmstages.config.own_models import OF_AN_ENTRY, Answer
from lmstages.config.sections import parsed
from lmstages.core.errors import UserError
from lmstages.core.own_code import fault_of
from lmstages.models.base import build

CONSTANTS = ("name", "title", "source", "formula", "module", "model", "family", "protocol", "content")
VOCABULARIES = (100, 1100)  # sizes for which a network is built, on torch's meta device


def main() -> None:
    """Read the questions, write the answers."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    questions = json.load(sys.stdin)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    json.dump([answer(question) for question in questions], answers)
    answers.close()


def answer(question: Mapping[str, Any]) -> Answer:
    """The answer to one question; every mistake is a line in ``problems``."""
    where = question["where"]
    problems: list[str] = []
    try:
        record = own_models.load(question["type"])
        if record.content != question["content"]:
            return {"problems": [f"{where}.type: {question['type']} changed while it was read; start again"]}
        config = parsed(record, question["keys"], where, problems, other_keys=OF_AN_ENTRY)
        return {"problems": problems} if config is None else description(config)
    except UserError as error:
        return {"problems": [f"{where}.type: {error}"]}
    except (Exception, SystemExit) as error:
        fault = fault_of(error) or UserError(question["type"], f"{type(error).__name__}: {error}")
        return {"problems": [f"{where}.type: {fault}"]}


def description(config: ModelConfig) -> Answer:
    """What code asks of a record; raises UserError where the class does not say it."""
    record = type(config)
    properties = _properties(config)
    hyperparameters = config.model_dump(mode="json")
    if isinstance(config, Neural):
        Neural.model_validate({key: hyperparameters[key] for key in Neural.model_fields.keys() & hyperparameters})
    return {
        "problems": [],
        "class": record.__name__,
        "family": config.family,
        "constants": {key: getattr(record, key) for key in CONSTANTS},
        "adds": record.__doc__ or "",
        "hyperparameters": hyperparameters,
        "properties": properties,
        "weights": weights(config),
        "modules": own_models.wrappers_of(record),
    }


def _properties(config: ModelConfig) -> dict[str, Any]:
    name = f"{config.name}"
    try:
        properties = json.loads(json.dumps(config.properties(), allow_nan=False))
    except NotImplementedError as error:
        problem = "does not say its context, the number of earlier tokens that a prediction may use"
        remedy = "add a property: def context(self) -> int, or None for all earlier tokens"
        raise UserError(name, problem, "", remedy) from error
    except (TypeError, ValueError) as error:
        if fault_of(error):
            raise
        raise UserError(name, f"has a property that is no JSON ({error})", "numbers, text, lists") from error
    context = properties["context"]
    needed = config.family == "counts" and config.model == "OwnCounts"
    if not (context is None and not needed) and not (isinstance(context, int) and 0 <= context <= 1 << 40):
        allowed = "a whole number, 0 or more" + ("" if needed else ", or None for all earlier tokens")
        raise UserError(name, f"says that its context is {context!r}", allowed)
    if getattr(config, "windowed", False) and not context:
        raise UserError(name, f"is windowed, and its context is {context!r}", "a whole number, 1 or more")
    return dict(properties)


def weights(config: ModelConfig) -> tuple[float, float]:
    """(a, b) of a + b V trainable numbers of a network; zeros for other models.

    Raises what building the network raises: so a mistake there is said before any job.
    """
    if not isinstance(config, Neural):
        return 0.0, 0.0
    small, large = (count(config, size) for size in VOCABULARIES)
    per_token = (large - small) / (VOCABULARIES[1] - VOCABULARIES[0])
    return small - per_token * VOCABULARIES[0], per_token


def count(config: ModelConfig, vocab_size: int) -> int:
    """The trainable numbers of a network, which is built without values where its code allows that."""
    import torch

    model: Any = build(config, vocab_size)
    if not hasattr(model, "build"):
        return 0
    try:
        with torch.device("meta"):
            network = model.build()
    except Exception:  # code that needs values; if it fails with values too, that is the user's to know
        network = model.build()
    if not isinstance(network, torch.nn.Module):
        raise UserError(config.name, f"build returns {type(network).__name__}", "a torch.nn.Module")
    return sum(weight.numel() for weight in network.parameters())


if __name__ == "__main__":
    main()
