"""Resume points: what a fit leaves behind so that, killed at any moment, it ends as if nothing had happened.

A point is one safetensors file: the arrays of a state, and as its metadata the rest of that state and the
identity of the fit, that is, everything its bits depend on. The folder lies outside the outputs of any rule,
which Snakemake deletes with a failed job. A point appears whole or not at all; of the two newest the newest
whose bytes are those that were written, and whose identity is this fit's, is gone on from. Every other is left
aside with its reason in the log, and removed once a newer one is safely on the disk.

Knows nested dictionaries and lists of arrays and JSON values; never a network, an optimizer or a step's meaning.
"""

import contextlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER, clock
from lmstages.training.locks import FolderLock

KEPT = 2
SECONDS = 60.0  # between two points
NAME = re.compile(r"step-(\d{12})\.safetensors")


class Cadence(NamedTuple):
    """When a point is due: so many seconds after the last one, or so many steps."""

    seconds: float = SECONDS
    steps: float = math.inf


EVERY_MINUTE = Cadence(SECONDS)


class ResumePoints:
    """The points of one fit in a folder of their own, this process's alone between ``open`` and ``close``."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], cadence: Cadence = EVERY_MINUTE) -> None:
        self.folder, self.cadence = folder, cadence
        self.identity = dict(identity)
        self.lock = FolderLock(folder)
        self.last_step = 0
        self.began = self.last_time = time.monotonic()
        self.spent = 0.0  # seconds of earlier attempts

    def open(self, environment: Mapping[str, Any]) -> dict[str, Any] | None:
        """Take the folder for this process alone; the newest state, or None: a fit from the start."""
        self.lock.acquire()
        return self.newest(environment)

    def close(self) -> None:
        """Leave the folder, with its points, to whoever goes on."""
        self.lock.release()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def seconds(self) -> float:
        """Of this attempt and, up to the point it went on from, of all before."""
        return self.spent + time.monotonic() - self.began

    def due(self, step: int) -> bool:
        """Whether, ``step`` steps being done, it is time to save."""
        late = time.monotonic() - self.last_time >= self.cadence.seconds
        return step > self.last_step and (late or step - self.last_step >= self.cadence.steps)

    def newest(self, environment: Mapping[str, Any], wanted: int | None = None) -> dict[str, Any] | None:
        """The newest state that is this fit's and undamaged (of step ``wanted``), or None."""
        self.identity |= environment
        for step in sorted(self._steps(), reverse=True):
            if wanted is not None and step != wanted:
                continue
            try:
                state = self._load(self._path(step))
            except UserError as error:
                LOGGER.warning("resume point left aside: %s", error)
                continue
            LOGGER.info("resumed after step %s and %s of work", f"{step:,}", clock(self.spent))
            self.last_step = step
            return state
        return None

    def _load(self, path: Path) -> dict[str, Any]:
        arrays, metadata = artifacts.load_arrays(path)
        if differing := difference(json.loads(metadata["identity"]), json.loads(json.dumps(self.identity))):
            raise UserError(path, f"of another fit: {differing}")
        self.spent = float(json.loads(metadata["seconds"]))
        return unpacked(json.loads(metadata["state"]), arrays)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Put a state beside the one before it, durably, then remove what is older."""
        if not self.lock.mine():
            raise UserError(self.folder, "another process has taken it over", "", "let that one go on")
        arrays: dict[str, np.ndarray] = {}
        told = {"identity": self.identity, "seconds": self.seconds(), "state": packed(state, arrays)}
        metadata = {name: json.dumps(value, sort_keys=True, allow_nan=False) for name, value in told.items()}
        artifacts.save_arrays(self._path(step), arrays, metadata, self.identity)
        previous, self.last_step, self.last_time = self.last_step, step, time.monotonic()
        self._keep({step, previous})

    def _keep(self, steps: set[int]) -> None:
        """Remove every file but those of these points and the lock: this process alone may write here."""
        kept = {path.name for step in steps for path in (self._path(step), artifacts.sidecar(self._path(step)))}
        for path in self.folder.iterdir():
            if path.name not in kept | {self.lock.path.name, ".guard"}:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """The fit is done and written: its points are not needed any more, and with them the folder goes."""
        if self.lock.mine():
            self._keep(set())
        self.close()

    def _steps(self) -> Iterator[int]:
        """Steps of all points there are, damaged and foreign ones included."""
        found = (NAME.fullmatch(path.name) for path in self.folder.glob("step-*.safetensors"))
        return (int(match[1]) for match in found if match)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:012d}.safetensors"


def difference(found: Any, wanted: Any, where: str = "") -> str:
    """Where two JSON values differ first, as ``section.hyperparameters.steps is 100, not 200``; empty where nowhere."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            if told := difference(found.get(key), wanted.get(key), f"{where}.{key}" if where else key):
                return told
        return ""
    return "" if found == wanted else f"{where} is {json.dumps(found)}, not {json.dumps(wanted)}"


# ---------------------------------------------------------------- trees of arrays


def mapped(tree: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """A nested state with every leaf of a ``kind`` changed."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: mapped(value, kind, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(value, kind, change) for value in tree)
    return tree


def packed(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A nested state -> what JSON can hold; its arrays go into ``arrays`` under numbered names."""
    if isinstance(tree, Mapping):
        return {"pairs": [[key, packed(value, arrays)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"tuple" if isinstance(tree, tuple) else "list": [packed(value, arrays) for value in tree]}
    if isinstance(tree, np.ndarray):
        name = f"{len(arrays):06d}"
        arrays[name] = tree
        return {"array": name}
    assert tree is None or isinstance(tree, bool | int | float | str), f"a state holds no {type(tree).__name__}"
    return tree


def unpacked(told: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of ``packed``: keys that were numbers are numbers again, tuples are tuples."""
    if not isinstance(told, dict):
        return told
    [(kind, content)] = told.items()
    if kind == "array":
        return arrays[content]
    if kind == "pairs":
        return {key: unpacked(value, arrays) for key, value in content}
    make: Callable[[Iterator[Any]], Any] = tuple if kind == "tuple" else list
    return make(unpacked(value, arrays) for value in content)
