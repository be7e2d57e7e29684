"""Where and how long a fit runs: device, time limit, signals, processes. Nothing of it belongs to the model.

Knows a fit as an operating system or a cluster sees it. Imports no torch.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

from lmstages.core.errors import UserError

STARTED = time.monotonic()
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)  # SIGHUP: the terminal was closed
DEVICES = ("auto", "cpu", "cuda", "mps")
SECONDS_TO_SAVE = 120.0  # left before the time limit when a fit stops itself
CPU, APPLE = "CPU", "Apple GPU"  # how the names of machines begin; any other is of a CUDA device
FRACTION_TO_SAVE = 0.2  # of a time limit so short that those seconds would leave nothing


class Checkpoints(Protocol):
    """What a fit needs of its saved states; ``training.resume`` has the one that writes files."""

    folder: Path
    last_step: int

    def open(self, environment: Mapping[str, Any]) -> dict[str, Any] | None:
        """The newest state to resume from, once the folder is this process's alone."""

    def newest(self, environment: Mapping[str, Any], wanted: int | None = None) -> dict[str, Any] | None:
        """The newest state, or that of step ``wanted``."""

    def due(self, step: int) -> bool:
        """Whether it is time to save."""

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a state."""

    def seconds(self) -> float:
        """How long the fit has taken, earlier attempts included."""

    def close(self) -> None:
        """Give the folder up, with its states."""

    def clear(self) -> None:
        """Remove all states and give the folder up."""


class CurveWriter(Protocol):
    """Shows a learning curve elsewhere while a fit runs; ``training.events`` has the one of TensorBoard."""

    def follow(self, curve: list[dict[str, Any]]) -> None:
        """Write those points of the curve that are not written yet."""

    def close(self) -> None:
        """Write what is left."""


@dataclass
class Runtime:
    """``device`` cpu, cuda, mps or auto; ``compiled`` auto, always or never; ``deadline`` on the monotonic clock.

    Raises UserError where there is a deadline and nowhere to save.
    """

    device: str = "cpu"
    compiled: Literal["auto", "always", "never"] = "auto"
    points: Checkpoints | None = None
    deadline: float = math.inf
    curves: CurveWriter | None = None
    precision: str = "float32"  # set by the fit, as is
    machines: list[str] = field(default_factory=list)  # on which its steps were done
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.deadline < math.inf and self.points is None:
            raise UserError("--minutes", "what is done by then would be lost", "", "give --resume FOLDER too")

    def seconds(self) -> float:
        """How long the fit has taken, with those earlier attempts that it resumed."""
        return self.points.seconds() if self.points else time.monotonic() - self.began

    def follow(self, curve: list[dict[str, Any]]) -> None:
        """Show the curve where somebody wants to see it."""
        if self.curves is not None:
            self.curves.follow(curve)

    def close(self) -> None:
        """Give up the folder of resume points, so that another process may resume; close the curve."""
        if self.curves is not None:
            self.curves.close()
        if self.points is not None:
            self.points.close()

    def done(self) -> None:
        """Remove the resume points, once the fitted model is written."""
        if self.points is not None:
            self.points.clear()


def deadline(minutes: float) -> float:
    """When a process that may run so many ``minutes`` from its start stops itself; 0 for never."""
    seconds = minutes * 60
    return STARTED + seconds - min(SECONDS_TO_SAVE, FRACTION_TO_SAVE * seconds) if minutes else math.inf


def device_type(machines: list[str]) -> str:
    """``cpu``, ``mps`` or ``cuda``, by the names of the machines on which the steps of a fit were done."""
    gpus = [machine for machine in machines if not machine.startswith(CPU)]
    if not gpus:
        return "cpu"
    return "mps" if all(machine.startswith(APPLE) for machine in gpus) else "cuda"


def rank() -> int:
    """Which of the processes that share a fit this one is: 0 unless a launcher such as torchrun says otherwise."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def processes() -> int:
    """How many processes share a fit."""
    launched = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if launched else 1


class Signals:
    """Between enter and exit the first signal is only recorded; a second one of any kind ends the process as usual.

    One of several processes of a fit only records them all. A signal that is ignored on enter, as nohup and background
    jobs of a shell set it, stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "Signals":
        is_main = threading.current_thread() is threading.main_thread()  # Python lets only that one set handlers
        handlers = {number: signal.getsignal(number) for number in SIGNALS if is_main}
        self.before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
        for number in self.before:
            signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if processes() > 1:  # a cluster signals every process, and their launcher, which passes it on, as well
            return
        for handled in self.before:
            signal.signal(handled, signal.SIG_DFL)
