"""Learning curves as TensorBoard's events, written while a fit runs: https://www.tensorflow.org/tensorboard

A fit that is resumed, or done again, writes its curve from the first point on, in place of what an earlier attempt has
left: no point is there twice, and a TensorBoard that is open drops what it has shown (``purge_step``). Points of an
earlier attempt get the time of the new one. Nothing of a fit depends on it.

Knows points of curves; never a network. Imports torch, whose writer it uses, with the first point.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lmstages.config.references import TENSORBOARD
from lmstages.core.documents import Curve
from lmstages.core.errors import UserError

FILES = "events.out.tfevents.*"  # TensorBoard's own names
TAGS = {"train": "loss/train", "valid": "loss/valid", "learning_rate": "learning_rate", "tokens": "tokens"}
SECONDS_TO_FLUSH = 10


class Events:
    """The curve of one fit in a folder of its own; a UserError where TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise UserError("--tensorboard", TENSORBOARD)
        self.folder, self.written = folder, 0
        self.writer: Any = None

    def follow(self, curve: Curve) -> None:
        """Write those points of the curve that are not written yet; losses are in nats per token."""
        for point in curve[self.written :]:
            writer = self.open()
            for key, tag in TAGS.items():
                if point.get(key) is not None:
                    writer.add_scalar(tag, point[key], point["step"])
            writer.flush()
        self.written = max(self.written, len(curve))

    def open(self) -> Any:
        """The writer; the first time in a folder without events."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            for path in self.folder.glob(FILES):
                path.unlink()
            self.writer = SummaryWriter(str(self.folder), purge_step=0, flush_secs=SECONDS_TO_FLUSH)
        return self.writer

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self.writer.close()
