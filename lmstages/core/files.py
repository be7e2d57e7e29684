"""Any file of this project, read and written: whole or not at all, and what the system refuses is one line.

A file is written under a temporary name in its own folder, flushed to the disk and renamed. Imports no numpy; the
records beside files are those of ``artifacts``.
"""

import errno
import glob
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lmstages.core.system_errors import not_read, not_written

SCRATCH = ".scratch-"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes its name only when the block ends without an error.

    Raises UserError where the disk is full or the path cannot be written, whatever the system's reason.
    """
    with partial_of(path) as file:
        yield file
        flush(file)
        with naming(path):
            os.replace(file.name, path)
            sync_folder(path.parent)


@contextmanager
def partial_of(path: Path) -> Iterator[BinaryIO]:
    """A new file beside ``path``, under a name that nobody can foresee, which is removed where it is not renamed."""
    partial = _partial_name(path)
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_of_the_dead(path.parent, f".{path.name}.", "*.partial")
        with naming(path, besides=partial), open(partial, "x+b") as file:  # x: never a file or link that is there
            yield file
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def linked_partial(path: Path, source: Path) -> Iterator[str]:
    """As ``partial_of`` -> the name of a file that is ``source`` itself, or a copy of it."""
    partial = _partial_name(path)
    try:
        with naming(path):
            link_or_copy(source, partial)
        yield str(partial)
    finally:
        with suppress(OSError):
            partial.unlink()


def link_or_copy(source: Path, path: Path) -> None:
    """A hard link, or a copy where the disk has none or ``path`` lies on another; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _partial_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}.partial")


@contextmanager
def naming(path: Path, besides: Path | None = None) -> Iterator[None]:
    """Errors of the system name ``path``; with ``besides`` those that name a file of their own only if it is that."""
    try:
        yield
    except OSError as error:
        if besides is not None and error.filename not in (None, str(besides), str(path)):
            raise
        raise not_written(path, error) from error


def remove_unfinished(*folders: Path) -> None:
    """Remove all temporary files below the folders whose writers, on this machine, were killed."""
    for folder in folders:
        for path in (*folder.rglob(".*.partial"), *folder.rglob(f"{SCRATCH}*")):
            parts = path.name.removeprefix(SCRATCH).split(".")
            with suppress(OSError):
                _remove_if_dead(path, parts[-3] if path.suffix == ".partial" else parts[0])


def _remove_of_the_dead(folder: Path, prefix: str, suffix: str) -> None:
    """Remove the temporary files, called ``prefix``, process number, dot, ``suffix``, whose writers were killed."""
    for path in folder.glob(f"{glob.escape(prefix)}*.{suffix}"):
        _remove_if_dead(path, path.name.removeprefix(prefix).partition(".")[0])


def _remove_if_dead(path: Path, process: str) -> None:
    if process.isdecimal() and not Path("/proc", process).exists() and Path("/proc/self").exists():
        path.unlink(missing_ok=True)


def flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename durable, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # folders cannot be synced there
            raise
    finally:
        os.close(handle)


@contextmanager
def scratch(folder: Path) -> Iterator[BinaryIO]:
    """A temporary file in ``folder``, removed when the block ends; those of killed processes go with it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_of_the_dead(folder, SCRATCH, "*")
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{SCRATCH}{os.getpid()}.") as file:
            yield file  # type: ignore[misc]
    except OSError as error:
        raise not_written(folder / "scratch", error) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of the system in the block are UserErrors that name ``path``, or the file that the system names."""
    try:
        yield
    except OSError as error:
        at_fault = Path(error.filename) if isinstance(error.filename, str) else path
        raise not_read(at_fault, error) from error


def sha256_of(*paths: Path) -> str:
    """The sha256 of any file's bytes, or of those of several files one behind the other, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with reading(path), open(path, "rb") as file:
            sha256_of_open(file, digest)
    return digest.hexdigest()


def sha256_of_open(file: BinaryIO, digest: Any = None) -> str:
    """The sha256 of a whole open file, or of what ``digest`` has had before and that file."""
    begun = hashlib.sha256() if digest is None else digest
    file.seek(0)
    return hashlib.file_digest(file, lambda: begun).hexdigest()  # type: ignore[arg-type]  # an open file has readinto
