"""Errors that a user can cause and mend, in one line: where, what was found, what is allowed, the remedy.

Everything else that goes wrong is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from lmstages.core.terminal import shown

LONGEST_LINE, LAST = 3000, 500  # characters of a message; of its end, where the remedy stands


class UserError(ValueError):
    """``where: found; allowed; remedy`` on one line; empty parts are left out, control characters written out.

    Several ``problems`` follow it, each on a line of its own.
    """

    def __init__(
        self, where: object, found: str, allowed: str = "", remedy: str = "", problems: Iterable[str] = ()
    ) -> None:
        text = "; ".join(part for part in (f"{where}: {found}", allowed, remedy) if part)
        super().__init__("\n  ".join(map(_line, (text, *problems))))

    def __reduce__(self) -> tuple[Any, ...]:
        """The message as it is, so that an error can pass from one process to another."""
        return _restored, (type(self), str(self))


def _restored(error: "type[UserError]", message: str) -> "UserError":
    restored = error.__new__(error)
    restored.args = (message,)
    return restored


def _line(text: str) -> str:
    """Foreign text as one line, whatever it holds; the middle of a very long one is left out."""
    line = shown(text).replace("\n", "\\n").replace("\t", "\\t")
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - LAST]} ... {line[-LAST:]}"


class FitError(UserError):
    """A model that cannot be fitted: its row of the report gives the reason, and the rest of the run continues."""


class UnsupportedError(UserError):
    """A sound file that our own code cannot compute; another engine may."""

    def __init__(self, where: object, found: str, allowed: str = "", remedy: str = "") -> None:
        super().__init__(where, found, allowed, remedy)
        self.where, self.found = where, found


class Interrupted(Exception):  # noqa: N818 (no error: a signal or a time limit asked for it)
    """A fit that was stopped before its last step, and has saved what it needs to resume."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`` (did you mean 'order'?)`` with the closest allowed word, or an empty string where none is close."""
    nearest = get_close_matches(word, list(allowed), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def shortened(value: object, longest: int = 60) -> str:
    """A foreign value as a message shows it: as Python writes it, at most so many characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = f"a value of type {type(value).__name__} too long to be written"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
