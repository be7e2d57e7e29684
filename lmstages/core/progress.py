"""Progress lines of a job, one every few seconds, the same on the terminal and in its log file.

Knows nothing of what is being counted.
"""

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from lmstages.core.errors import UserError
from lmstages.core.system_errors import reason
from lmstages.core.terminal import shown

LOGGER = logging.getLogger("lmstages")
SECONDS_BETWEEN_LINES = 5.0


def log_to(path: Path | None, job: str, quiet: bool = False) -> None:
    """Send every line to stderr and, where given, to a log file, prefixed with the job's name except for errors."""
    LOGGER.setLevel(logging.ERROR if quiet else logging.INFO)
    LOGGER.propagate = False
    LOGGER.handlers[:] = [_Stderr(sys.stderr)]
    LOGGER.handlers[0].setFormatter(_Line(job))
    if path is not None:
        handler = _file_handler(path)
        handler.setFormatter(_Line(job))
        LOGGER.addHandler(handler)


def _file_handler(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _File(path, mode="w", encoding="utf-8")
    except OSError as error:
        raise UserError(path, f"no log can be written here ({reason(error)})", "", "give another --log") from error


class _Stderr(logging.StreamHandler[TextIO]):
    """A terminal that has been closed, or a pipe whose reader has gone, does not stop a job."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Pass over what the system refuses; anything else is a bug of ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _File(logging.FileHandler):
    """A log that cannot be continued, as on a full disk, is named in one line, and the job goes on without it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Leave the file, and say so; anything but an error of the system is a bug of ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        LOGGER.removeHandler(self)
        with suppress(OSError):
            self.close()
        problem, remedy = f"the log ends here ({reason(error)})", "free some space, or give another --log"
        allowed = "the job goes on without it"
        LOGGER.error("lmstages: warning: %s", UserError(self.baseFilename, problem, allowed, remedy))


class _Line(logging.Formatter):
    """``[job] message``, with control characters written out; an error begins with its own ``lmstages: error:``."""

    def __init__(self, job: str) -> None:
        super().__init__()
        self.prefix = f"[{job}] " if job else ""

    def format(self, record: logging.LogRecord) -> str:
        return shown(("" if record.levelno >= logging.ERROR else self.prefix) + super().format(record))


class Progress:
    """``step 400/2,000  loss 1.8412  52,300 tokens/s  0:32 left``, at most once in some seconds, and at the end.

    A job that is done before its first line is due says nothing, unless there are values to say.
    ``done`` units of ``total``, and their ``amount``, were done before this job began and do not count in its speed.
    """

    def __init__(self, total: int, unit: str, done: int = 0, amount: float = 0.0) -> None:
        self.total, self.unit = total, unit
        self.done_before, self.amount_before = done, amount
        self.started = self.last_line = time.monotonic()

    def at(self, done: int, amount: float, amount_unit: str, values: Mapping[str, float] | None = None) -> None:
        """Log how far the job is, if a line is due; ``amount``, in ``amount_unit``, is what was processed so far."""
        now = time.monotonic()
        is_short = self.last_line == self.started and not values
        if now - self.last_line < SECONDS_BETWEEN_LINES and (done < self.total or is_short):
            return
        self.last_line = now
        elapsed = max(now - self.started, 1e-9)
        shown = "".join(f"  {name} {value:.4f}" for name, value in (values or {}).items())
        left = elapsed * (self.total - done) / max(done - self.done_before, 1)
        rate = f"{(amount - self.amount_before) / elapsed:,.0f} {amount_unit}/s"
        LOGGER.info("%s %s/%s%s  %s  %s left", self.unit, f"{done:,}", f"{self.total:,}", shown, rate, clock(left))

    def due(self) -> bool:
        """Whether ``at`` would log a line: lets a hot loop skip the cost of fetching the values."""
        return time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES


def clock(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
