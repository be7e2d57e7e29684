"""What the operating system or the machine refuses, as errors of one line: where, the reason, and the remedy.

Every number of ``errno`` has its line. An exception that is none of the system's stays as it is. Imports no torch and
no numpy: their errors of memory are known by type and text.
"""

import errno
import os
import re
import shutil
from pathlib import Path

from lmstages.core.errors import UserError
from lmstages.core.own_code import fault_of

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_PERMITTED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
EXHAUSTED = {errno.EMFILE: "more open files (ulimit -n)", errno.ENFILE: "more open files", errno.ENOMEM: "more memory"}
EXHAUSTED |= {errno.EAGAIN: "more processes (ulimit -u)"}
MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|unable to allocate|storage size calculation overflowed"
    r"|array is too big|maximum allowed dimension exceeded|cannot allocate memory",
    re.IGNORECASE,
)
WANTED = re.compile(r"(?:tried to allocate|unable to allocate) ([\d.,]+ ?(?:bytes|[KMGTPE]iB))", re.IGNORECASE)


def is_of_system(error: OSError) -> bool:
    """Whether the system itself has said no; exceptions that libraries derive from OSError have no number."""
    return error.errno not in (None, errno.EPIPE)  # a pipe is no file: its reader has gone


def not_written(path: Path, error: OSError) -> Exception:
    """Why ``path`` cannot be written, as a UserError; ``error`` itself where it is none of the system's."""
    if not is_of_system(error):
        return error
    if error.errno in DISK_FULL:
        free = shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists())).free
        problem = f"no space left to write it ({free:,} bytes free)"
        return UserError(path, problem, "the old file, if any, is untouched", "free some space and start again")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return UserError(path, "cannot be written (its folder is a file)", "", "give a path that lies in a folder")
    remedy = "make its folder writable, or give another path" if error.errno in NOT_PERMITTED else _remedy(error)
    return UserError(path, f"cannot be written ({reason(error)})", "", remedy)


def not_read(path: Path, error: OSError) -> Exception:
    """Why ``path`` cannot be read, as a UserError; ``error`` itself where it is none of the system's."""
    if not is_of_system(error):
        return error
    remedy = "make it readable, or give another path" if error.errno in NOT_PERMITTED else _remedy(error)
    return UserError(path, f"cannot be read ({reason(error)})", "", remedy)


def refused(where: str, error: OSError) -> Exception:
    """The line for an error that nobody nearer has named: with its path, where the system gives one."""
    if not is_of_system(error):
        return error
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes)]
    remedy = "make it accessible, or give another path" if error.errno in NOT_PERMITTED else _remedy(error)
    return UserError(" -> ".join(paths) or where, f"the system refuses it ({reason(error)})", "", remedy)


def in_one_line(where: str, error: Exception) -> Exception:
    """The UserError for what the system or the machine refuses; any other error as it is."""
    if isinstance(error, UserError):
        return error
    explained = out_of_memory(where, error) or fault_of(error)
    return explained or (refused(where, error) if isinstance(error, OSError) else error)


def reason(error: OSError) -> str:
    """The system's own words, such as ``No space left on device``."""
    return error.strerror or os.strerror(error.errno or 0)


def _remedy(error: OSError) -> str:
    if error.errno in EXHAUSTED:
        return f"allow {EXHAUSTED[error.errno]}, and start again"
    if isinstance(error, FileNotFoundError):
        return "somebody has removed it or its folder meanwhile: start again"
    return "check the disk and its mount (df, dmesg), then start again"


def out_of_memory(where: str, error: BaseException) -> UserError | None:
    """The line for an allocation that failed, in Python, numpy or torch, on the host or on a GPU; None for others."""
    text = " ".join(str(error).split())
    by_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not by_type and not (isinstance(error, RuntimeError | ValueError) and MEMORY.search(text)):
        return None
    wanted = WANTED.search(text)
    problem = "not enough memory" + (f": {wanted[1]} at once are wanted" if wanted else "")
    remedy = "lower what is large in its config (width, window, batch_size, order), or take a larger machine"
    return UserError(where, problem, "", remedy)
