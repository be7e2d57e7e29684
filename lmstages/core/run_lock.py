"""One run at a time in a folder, by a lock that no crash leaves behind.

The lock is ``flock`` on an open file that becomes the standard input of the process, so that every job it starts holds
it too. The kernel frees it with the last of these processes, however they end: a second run waits for the jobs of a
killed first one and does not write beside them.

Imports nothing of lmstages.
"""

import errno
import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path

NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}

_HELD: dict[Path, int] = {}  # folder -> open file; a process that holds a folder does not wait for itself


def hold_folder(folder: Path) -> None:
    """Hold ``folder`` for the life of this process; waits for another run there and says in one line whose it is.

    What Snakemake's own locks there hold afterwards was left by a dead process, and is removed. Raises OSError where
    the folder cannot be written; a file system without locks is held by nobody, with a warning.
    """
    folder = folder.resolve()
    if folder in _HELD:
        return
    path = folder / ".snakemake" / "run.lock"
    path.parent.mkdir(exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"lmstages: {holder(path)}; this one begins when it has ended", file=sys.stderr, flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warning = f"{folder}: its file system has no locks ({error.strerror}); start one run at a time there"
        print(f"lmstages: warning: {warning}", file=sys.stderr, flush=True)
        return
    _HELD[folder] = handle
    _sign(handle)
    os.dup2(handle, 0)
    for lock in path.with_name("locks").glob("*"):
        lock.unlink(missing_ok=True)


def holder(path: Path) -> str:
    """Who holds a lock file, in words: host, process and since when."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        host, pid, since = owner["host"], int(owner["pid"]), owner["since"]
    except (OSError, ValueError, KeyError, TypeError):  # the other run has locked and not yet signed
        return f"another run has just begun in {path.parents[1]}"
    process = f"host {host}, process {pid}, since {since}"
    if host == socket.gethostname() and not _is_alive(pid):
        return f"jobs of a run that was killed still work in {path.parents[1]} ({process})"
    return f"another run is in progress in {path.parents[1]} ({process})"


def _sign(handle: int) -> None:
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(owner).encode(), 0)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
