"""The ladder: the models in order, each of which drops one assumption of the one before it.

Their records of hyperparameters lie in ``hyperparameters``, one file per family. A record names the model that it
stands ``after``, and its docstring says what it adds to that one; the report prints it. README has the whole list.
"""

import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module

from lmstages.config import hyperparameters
from lmstages.config.hyperparameters.base import ModelConfig


def records() -> Iterator[type[ModelConfig]]:
    """The record of every model: the classes of ``hyperparameters`` that have a name of their own."""
    for file in pkgutil.iter_modules(hyperparameters.__path__, f"{hyperparameters.__name__}."):
        for member in vars(import_module(file.name)).values():
            defined = isinstance(member, type) and member.__module__ == file.name
            if defined and issubclass(member, ModelConfig) and "name" in vars(member):
                yield member


def in_order(models: Iterable[type[ModelConfig]]) -> tuple[type[ModelConfig], ...]:
    """The models from the first to the last; an error where two stand after the same one, or one after none of them."""
    following: dict[str | None, type[ModelConfig]] = {}
    for model in models:
        other = following.setdefault(model.after, model)
        assert other is model, f"{other.name} and {model.name} both stand after {model.after}"
    ladder: list[type[ModelConfig]] = []
    while model_after := following.pop(ladder[-1].name if ladder else None, None):
        ladder.append(model_after)
    assert not following, f"{', '.join(model.name for model in following.values())}: after no model of the ladder"
    return tuple(ladder)


LADDER = in_order(records())

MODEL_TYPES: dict[str, type[ModelConfig]] = {config.name: config for config in LADDER}
