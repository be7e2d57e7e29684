"""The content of files that come from outside, as one hash: a text or a checkpoint is known by its bytes.

Times say nothing about content: ``mv``, ``cp -p`` and ``rsync -a`` keep old ones, another time zone makes future ones.
A hash is computed once and remembered by path, size, inode and both times of the inode; ``ctime`` cannot be set.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lmstages.core.errors import UserError
from lmstages.core.files import atomic_write, sha256_of

CLOCK_TICK = 2.0  # seconds; a file written so recently may change again without another time
Identity = list[int]  # size, device, inode, mtime_ns, ctime_ns


class Contents:
    """Hashes of files, remembered in the file ``memory`` across processes; without it they are computed anew."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self.remembered: dict[str, tuple[Identity, str]] = _read(memory)
        self.new: dict[str, tuple[Identity, str]] = {}

    def hash_of(self, files: Mapping[str, Path]) -> str:
        """One hash of the contents of several files {name: path} and of their names, in the order given."""
        hashes = {name: self._sha256(path) for name, path in files.items()}
        self._write()
        return combined(hashes)

    def sha256(self, path: Path) -> str:
        """The sha256 of a file; raises UserError where it cannot be read or changes meanwhile."""
        sha256 = self._sha256(path)
        self._write()
        return sha256

    def _sha256(self, path: Path) -> str:
        key, before = str(path.absolute()), identity(path)
        recorded = self.remembered.get(key)
        if recorded and list(recorded[0]) == before:
            return recorded[1]
        sha256 = sha256_of(path)
        stop_if_changed(path, before)
        self.remembered[key] = (before, sha256)
        if time.time() - before[-1] / 1e9 > CLOCK_TICK:
            self.new[key] = self.remembered[key]
        return sha256

    def _write(self) -> None:
        """Add new hashes to the memory; a folder that cannot be written costs no more than the time to hash again."""
        if not self.new:
            return
        remembered = _read(self.memory) | self.new
        self.new.clear()
        with suppress(UserError), atomic_write(self.memory) as file:
            file.write(json.dumps(remembered).encode())


def combined(hashes: Mapping[str, str]) -> str:
    """One hash of {name: sha256}; the word none where there is no file."""
    digest = hashlib.sha256()
    for name, sha256 in hashes.items():
        digest.update(f"{name}\0{sha256}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest() if hashes else "none"


def _read(memory: Path) -> dict[str, tuple[Identity, str]]:
    try:
        remembered = json.loads(memory.read_bytes())
        return {key: (list(numbers), str(sha256)) for key, (numbers, sha256) in remembered.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def identity(path: Path) -> Identity:
    """What changes whenever a file is written or replaced; raises UserError where there is none."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "", "give the path of a file") from error
    return [status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def must_have_sha256(path: Path, sha256: str, expected: str | None) -> None:
    """Raises UserError where a file has another digest than the one that a config names."""
    if expected not in (None, sha256):
        raise UserError(path, f"its sha256 is {sha256}", f"the config says {expected}", "fetch it again")


def stop_if_changed(path: Path, before: Sequence[int]) -> None:
    """Raises UserError where a file is no longer the one whose ``identity`` was ``before``."""
    if identity(path) != list(before):
        remedy = "start again when it is complete"
        raise UserError(path, "changed while it was read", "a file from outside stays as it is during a run", remedy)
