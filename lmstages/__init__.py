"""Every classic language model on the same held-out bytes.

    frame = lmstages.read_results("results/default")     a finished run's results, as a pandas data frame

Public names are imported when they are first used, so that ``import lmstages`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstages.results.frame import read_results

__version__ = "0.2.0"
__all__ = ["read_results"]
PUBLIC = {"read_results": "lmstages.results.frame"}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'lmstages' has no attribute {name!r}; public are {', '.join(PUBLIC)}")
    return getattr(import_module(PUBLIC[name]), name)
