"""Errors that a user can cause and mend, in one line: where, what was found, what is allowed, the remedy.

Everything else that goes wrong is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """``where: found; allowed; remedy`` on one line; empty parts are left out."""

    def __init__(self, where: object, found: str, allowed: str = "", remedy: str = "") -> None:
        super().__init__("; ".join(part for part in (f"{where}: {found}", allowed, remedy) if part))


class FitError(UserError):
    """A model that cannot be fitted: its row of the report gives the reason, and the rest of the run continues."""


class Interrupted(Exception):  # noqa: N818 (no error: a signal or a time limit asked for it)
    """A fit that was stopped before its last step, and has saved what it needs to resume."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`` (did you mean 'order'?)`` with the closest allowed word, or an empty string where none is close."""
    nearest = get_close_matches(word, list(allowed), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
