"""What reaches the terminal: text without control characters, in whatever encoding it has, and no traceback of a pipe.

Every line a command prints passes ``show``; log lines pass ``shown`` in ``progress``.
"""

import os
import sys
from contextlib import suppress
from typing import TextIO

from lmstages.core.visible import visible


def prepare() -> None:
    """Characters that the terminal's encoding lacks are written as escapes, as ``\\u2713``, and are no error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # None where it is closed, or a replacement that encodes nothing
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def shown(text: str) -> str:
    """Text as a terminal may have it: no control character but the newline."""
    return visible(text).replace("\t", "\\t")


def show(text: str) -> None:
    """Print lines to the standard output at once; an OSError where it cannot be written."""
    print(shown(text), flush=True)


def finish() -> None:
    """Nothing is left to be written when the interpreter ends, where an error would be a message of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """What the stream still holds goes nowhere: its reader has gone, or its disk is full."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
