"""Errors that a user can cause and mend, in one line: where, what was found, what is allowed, the remedy.

Everything else that goes wrong is a bug and keeps its traceback.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from lmstages.core.terminal import shown

FOREIGN_NEWLINE = re.compile(r"\n(?!  )")  # a list of problems has one on each line, indented


class UserError(ValueError):
    """``where: found; allowed; remedy`` on one line; empty parts are left out, control characters written out."""

    def __init__(self, where: object, found: str, allowed: str = "", remedy: str = "") -> None:
        name = str(where).replace("\n", "\\n")
        text = "; ".join(part for part in (f"{name}: {found}", allowed, remedy) if part)
        super().__init__(shown(FOREIGN_NEWLINE.sub(r"\\n", text)))


class FitError(UserError):
    """A model that cannot be fitted: its row of the report gives the reason, and the rest of the run continues."""


class Interrupted(Exception):  # noqa: N818 (no error: a signal or a time limit asked for it)
    """A fit that was stopped before its last step, and has saved what it needs to resume."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`` (did you mean 'order'?)`` with the closest allowed word, or an empty string where none is close."""
    nearest = get_close_matches(word, list(allowed), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def shortened(value: object) -> str:
    """A foreign value as a message shows it: as Python writes it, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
