"""Where and how long a fit runs: device, time limit, signals, processes. Nothing of it belongs to the model.

Knows the outside of a fit, as an operating system or a cluster sees it; imports no torch.
"""

import math
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Literal

from lmstages.core.errors import UserError

if TYPE_CHECKING:
    from lmstages.training.resume import ResumePoints

STARTED = time.monotonic()
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
BEFORE_THE_END = 120.0  # seconds that remain for saving when a fit stops itself
SHARE_BEFORE_THE_END = 0.2  # of a limit so short that those would leave nothing


@dataclass
class Runtime:
    """``device`` cpu, cuda or auto; ``compiled`` auto, always or never; ``deadline`` on the monotonic clock."""

    device: str = "cpu"
    compiled: Literal["auto", "always", "never"] = "auto"
    points: "ResumePoints | None" = None
    deadline: float = math.inf
    precision: str = "float32"  # found and told by the fit, as are
    machines: list[str] = field(default_factory=list)  # on which its steps were done
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.deadline < math.inf and self.points is None:
            raise UserError("--minutes", "what is done by then would be lost", "", "give --resume FOLDER too")

    def seconds(self) -> float:
        """How long the fit has taken, its earlier attempts included as far as their work was gone on from."""
        return self.points.seconds() if self.points else time.monotonic() - self.began

    def close(self) -> None:
        """Leave the folder of resume points to whoever goes on."""
        if self.points is not None:
            self.points.close()

    def done(self) -> None:
        """What was fitted is written: nothing is left to go on from."""
        if self.points is not None:
            self.points.clear()


def deadline(minutes: float) -> float:
    """When a process that may run so many ``minutes`` from its start stops itself; 0 for never."""
    seconds = minutes * 60
    return STARTED + seconds - min(BEFORE_THE_END, SHARE_BEFORE_THE_END * seconds) if minutes else math.inf


def rank() -> int:
    """Which of the processes that share a fit this one is: 0 unless a launcher such as torchrun says otherwise."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def processes() -> int:
    """How many share a fit."""
    launched = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if launched else 1


class Signals:
    """Between enter and exit the first signal only asks; a second one of any kind ends the process as usual."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "Signals":
        self.before = {number: signal.getsignal(number) for number in SIGNALS}
        if threading.current_thread() is not threading.main_thread():
            self.before = {}  # Python lets only the main thread ask for signals
        for number, handler in self.before.items():
            if handler is not signal.SIG_IGN:  # nohup asked for that
                signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)
