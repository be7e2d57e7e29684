"""Every classic language model on the same held-out bytes.

    model = lmstages.load("results/default/fables/char/gpt/seed0")     a fitted model, to score text and to sample
    model = lmstages.fit("kneser_ney", train="my.txt", order=6)        the same, fitted without a run
    frame = lmstages.read_results("results/default")                   a finished run's results as a pandas data frame

Public names are imported when they are first used, so that ``import lmstages`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstages.evaluation.python import FittedModel, fit, load
    from lmstages.results.frame import read_results

__version__ = "0.2.0"
__all__ = ["FittedModel", "fit", "load", "read_results"]
PUBLIC = {
    **dict.fromkeys(("load", "fit", "FittedModel"), "lmstages.evaluation.python"),
    "read_results": "lmstages.results.frame",
}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'lmstages' has no attribute {name!r}; public are {', '.join(PUBLIC)}")
    return getattr(import_module(PUBLIC[name]), name)
