"""Run a command while holding a lock that no crash leaves behind: ``python workflow/alone.py COMMAND...``

The lock is on an open file that becomes the command's standard input, so that every process it starts
holds it too. It is free when the last of them is gone, however they ended: a second run waits for the
jobs of a killed first one instead of writing beside them.
"""

import fcntl
import os
import sys
from pathlib import Path

LOCK = Path(".snakemake", "alone.lock")


def hold(path: Path) -> int:
    """An open, locked file; waits for whoever holds it, and says so."""
    path.parent.mkdir(exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(
            "another run is in progress here, or the last jobs of one that was killed; waiting for it", file=sys.stderr
        )
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


if __name__ == "__main__":
    os.dup2(hold(LOCK), 0)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 (the Makefile's own command)
