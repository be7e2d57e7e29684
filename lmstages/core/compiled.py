"""Compiles functions to machine code at their first call and caches the code for later processes.

The cache lies where ``NUMBA_CACHE_DIR`` says, else beside the source, else in the user's own cache folder; where none
of these is writable, every process compiles anew. Knows nothing of the functions it compiles.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """The function as machine code, without reordered floating-point arithmetic (no fastmath)."""
    try:
        machine_code: Any = njit(cache=True)(function)
    except RuntimeError:  # numba finds no writable folder
        machine_code = njit(function)
    return machine_code
