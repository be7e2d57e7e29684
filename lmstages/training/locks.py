"""A folder in which one process at a time may write.

The lock is a file that names its owner: machine, process, and when that process began. A process that is killed
leaves it behind, so whoever finds one asks whether the owner still lives: on the same machine by the process
itself, from another by watching for the owner's heartbeat, the lock's time of change. No clocks are compared.

Knows nothing of what is written in the folder.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER

HEARTBEAT = 10.0  # seconds
SILENCE = 45.0  # seconds without a heartbeat after which an owner on another machine is taken for dead


@dataclass(frozen=True)
class Owner:
    """A process among all processes of all machines; its number alone may be given to another one."""

    host: str
    pid: int
    began: str

    @classmethod
    def myself(cls) -> "Owner":
        """This process."""
        return cls(_host(), os.getpid(), _began(os.getpid()))

    def lives(self) -> bool | None:
        """Whether the process still runs; None where another machine would have to say."""
        return None if self.host != _host() else bool(self.began) and _began(self.pid) == self.began


def _host() -> str:
    """Name, boot and process namespace: what must agree for process numbers to mean the same."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _began(pid: int) -> str:
    """When a process began, in ticks since boot; empty where there is none, or only what is left of a dead one."""
    try:
        state, *fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() or not _answers(pid) else "running"
    return "" if state in "ZX" else fields[18]


def _answers(pid: int) -> bool:
    """Where there is no /proc: whether a signal would find the process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class FolderLock:
    """Held from ``acquire`` to ``release``, or until its owner is dead."""

    def __init__(self, folder: Path, heartbeat: float = HEARTBEAT, silence: float = SILENCE) -> None:
        self.folder, self.path = folder, folder / "lock.json"
        self.heartbeat, self.silence = heartbeat, silence
        self._ended: Event | None = None

    def acquire(self) -> None:
        """Take the folder, also from a dead owner, which is told; a living one is an error."""
        with self._alone():  # whoever waited for a guard that was removed with its folder asks for the new one
            owner = self.owner()
            if owner is not None and self._lives(owner):
                told = f"process {owner.pid} on {owner.host.split()[0]} is writing in it"
                raise UserError(self.folder, told, "one process at a time may", "wait for that one, or stop it")
            if self.path.exists():
                told = f"process {owner.pid} on {owner.host.split()[0]}, which is gone" if owner else "nobody readable"
                LOGGER.warning("%s: the lock of %s, is taken over", self.folder, told)
            with artifacts.atomic_write(self.path) as file:
                file.write(artifacts.to_json(asdict(Owner.myself())))
        self._ended = Event()
        Thread(target=self._beat, args=(self._ended,), daemon=True).start()

    def release(self) -> None:
        """Leave the folder to others; does nothing where the lock is another's."""
        if self._ended is not None:
            self._ended.set()
        if self.mine():
            self.path.unlink(missing_ok=True)
            (self.folder / ".guard").unlink(missing_ok=True)

    def mine(self) -> bool:
        """Whether nobody has taken this process for dead."""
        return self.owner() == Owner.myself()

    def owner(self) -> Owner | None:
        """Whose the folder is; None where nobody's, or where the lock cannot be read."""
        try:
            return Owner(**json.loads(self.path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Of all that ask for the folder at once, one after the other looks and takes."""
        guard = self.folder / ".guard"
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(guard, "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if guard.exists() and os.path.samestat(os.fstat(file.fileno()), guard.stat()):
                    yield
                    return

    def _lives(self, owner: Owner) -> bool:
        if (lives := owner.lives()) is not None:
            return lives
        LOGGER.info("%s: locked from %s; watching for its heartbeat", self.folder, owner.host.split()[0])
        before, deadline = self._changed(), time.monotonic() + self.silence
        while self._changed() == before:
            if time.monotonic() > deadline:
                return False
            time.sleep(min(1.0, self.silence / 10))
        return self._changed() is not None

    def _changed(self) -> int | None:
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return None

    def _beat(self, ended: Event) -> None:
        while not ended.wait(self.heartbeat):
            with contextlib.suppress(OSError):
                if self.mine():
                    os.utime(self.path)
