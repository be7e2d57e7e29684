"""Functions compiled to machine code when they are first called, and kept for the next process.

The code is kept where ``NUMBA_CACHE_DIR`` says, else beside the source, else in the user's own cache folder; where
none of these can be written, every process compiles anew. Knows nothing of what it compiles.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """The same function as machine code, with the arithmetic as it is written: nothing is reordered."""
    try:
        machine_code: Any = njit(cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write
        machine_code = njit(function)
    return machine_code
