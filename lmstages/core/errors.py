"""What a user can cause, said in one line: where, what was found, what is allowed, how to mend it.

Everything else that goes wrong is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """``where: found; allowed; remedy`` on one line; empty parts are left out."""

    def __init__(self, where: object, found: str, allowed: str = "", remedy: str = "") -> None:
        super().__init__("; ".join(part for part in (f"{where}: {found}", allowed, remedy) if part))


class FitError(UserError):
    """A model that cannot be fitted: a row of the report that says why, while the rest of the run goes on."""


class Interrupted(Exception):  # noqa: N818 (no error: what was asked for)
    """A fit that was asked to end before it was done, and has saved what it needs to go on."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'order'?)`` for the nearest known word, or nothing."""
    nearest = get_close_matches(word, list(known), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
