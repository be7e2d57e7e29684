"""A folder in which one process at a time may write: a lease of ``filelock``, with errors and warnings of ours.

The lock file names its owner: machine, process, and when the process began. A dead owner on this machine is detected
at once by its process. An owner on another machine, and one that hangs, is taken for dead once its heartbeat (the
lock file's time of change) has been silent for ``silence`` seconds; no clocks are compared. An owner that was taken
for dead although it lives sees that before it writes again.

Knows nothing of what is written in the folder.
"""

from contextlib import suppress
from pathlib import Path

from filelock import LeaseSettingsMismatch, OwnerRecord, SoftFileLease, Timeout

from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER
from lmstages.core.system_errors import not_written

NAME = "lock"
HEARTBEAT = 2.0  # seconds; a second process waits as long until it is refused
SILENCE = 45.0  # seconds without a heartbeat after which an owner is taken for dead
MALFORMED = 3.0  # seconds; filelock takes over a lock file that it cannot read after 2


class FolderLock:
    """Held from ``acquire`` to ``release``, or until its owner is dead."""

    def __init__(self, folder: Path, heartbeat: float = HEARTBEAT, silence: float = SILENCE) -> None:
        self.folder, self.path, self.silence = folder, folder / NAME, silence
        self.lease = SoftFileLease(self.path, lease_duration=silence, heartbeat_interval=min(heartbeat, silence / 3))

    def acquire(self) -> None:
        """Take the folder, also from a dead owner, with a warning; a UserError where the owner is alive.

        The same where the system does not let us write there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            owner, last_beat = self.lease.owner, self._last_beat()
            self._acquire(last_beat)
        except (Timeout, LeaseSettingsMismatch) as error:
            problem = f"{_described(self.lease.owner)} is writing in it"
            raise UserError(self.folder, problem, "one process at a time may", "wait for it, or stop it") from error
        except OSError as error:
            raise not_written(self.path, error) from error
        if last_beat is not None:
            LOGGER.warning("%s: the lock of %s, which is gone, is taken over", self.folder, _described(owner))

    def _acquire(self, last_beat: int | None) -> None:
        """At once, or after the owner's silence; a Timeout as soon as its heart beats."""
        with suppress(Timeout):
            self.lease.acquire(blocking=False)
            return
        LOGGER.info("%s: locked by %s; watching for its heartbeat", self.folder, _described(self.lease.owner))
        patience = self.silence + MALFORMED
        self.lease.acquire(timeout=patience, cancel_check=lambda: self._last_beat() not in (None, last_beat))

    def release(self) -> None:
        """Leave the folder to others; does nothing where the lock is another's."""
        self.lease.release()

    def is_mine(self) -> bool:
        """Whether this process holds the lock, and nobody has taken it for dead."""
        return self.lease.is_locked and self.lease.is_lock_held_by_us

    def _last_beat(self) -> int | None:
        """The lock file's time of change in nanoseconds, or None where there is none."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return None


def _described(owner: OwnerRecord | None) -> str:
    """``process 5 on HOST``, without the namespace that filelock appends to a host's name in a container."""
    return f"process {owner.pid} on {owner.hostname.partition('?')[0]}" if owner else "an unreadable owner"
