"""Resume points: what a fit saves so that, killed at any moment, it ends with the same bits as if undisturbed.

A point is one safetensors file: the arrays of a state, and as its metadata the rest of that state and the identity of
the fit, that is, everything its bits depend on. The folder lies outside the outputs of any rule, which Snakemake
deletes with a failed job. A point appears complete or not at all. Two points are kept; a fit resumes from the newest
one that is undamaged and whose identity is its own. Every other is left aside with its reason in the log, and removed
once a newer point is safely on the disk. A point that another number of processes has made is resumed, too, with a
warning: what follows has the bits of neither number, but their curve.

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

SECONDS = 60.0  # between two points
LAYOUT = ("processes", "threads", "micro_batch", "sharding")  # of the identity: may differ where the processes do
NAME = re.compile(r"step-(\d{12})\.safetensors")


class Cadence(NamedTuple):
    """When a point is due: so many seconds after the last one, or so many steps."""

    seconds: float = SECONDS
    steps: float = math.inf


EVERY_MINUTE = Cadence(SECONDS)


class ResumePoints:
    """The points of one fit in a folder of their own, which this process alone may use from ``open`` to ``close``."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], cadence: Cadence = EVERY_MINUTE) -> None:
        self.folder, self.cadence = folder, cadence
        self.identity = dict(identity)
        self.lock = FolderLock(folder)
        self.last_step = 0
        self.began = self.last_time = time.monotonic()
        self.seconds_before = 0.0  # of earlier attempts, up to the point that was resumed

    def open(self, environment: Mapping[str, Any]) -> dict[str, Any] | None:
        """Lock the folder and return the newest state, or None for a fit from the start; a UserError where in use."""
        self.lock.acquire()
        return self.newest(environment)

    def close(self) -> None:
        """Leave the folder, with its points, to whoever resumes; without points, remove it.

        Another's folder is left alone: of several processes that share a fit only the main one has locked it.
        """
        is_mine = self.lock.is_mine()
        if is_mine:
            _remove_if_empty(self.folder / artifacts.RECORDS)
        self.lock.release()
        if is_mine:
            _remove_if_empty(self.folder)

    def seconds(self) -> float:
        """Of this attempt and, up to the point it resumed from, of all before."""
        return self.seconds_before + time.monotonic() - self.began

    def due(self, step: int) -> bool:
        """Whether, ``step`` steps being done, it is time to save."""
        late = time.monotonic() - self.last_time >= self.cadence.seconds
        return step > self.last_step and (late or step - self.last_step >= self.cadence.steps)

    def newest(self, environment: Mapping[str, Any], wanted: int | None = None) -> dict[str, Any] | None:
        """The newest undamaged state of this very fit (of step ``wanted`` alone, where given), or None."""
        self.identity |= environment
        for step in sorted(self._steps(), reverse=True):
            if wanted is not None and step != wanted:
                continue
            try:
                state = self._load(self._path(step))
            except UserError as error:
                LOGGER.warning("resume point left aside: %s", error)
                continue
            LOGGER.info("resumed after step %s and %s of work", f"{step:,}", clock(self.seconds_before))
            self.last_step = step
            return state
        return None

    def _load(self, path: Path) -> dict[str, Any]:
        """A verified point's state; a UserError where the file is damaged or of another fit."""
        arrays, metadata = artifacts.load_arrays(path)
        try:
            return self._state(path, arrays, metadata)
        except UserError:
            raise
        except Exception as error:  # what is no state fails anywhere, as pairs that are none, or a missing array
            raise UserError(path, "no resume point of this version") from error

    def _state(self, path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> dict[str, Any]:
        saved, wanted = json.loads(metadata["identity"]), json.loads(json.dumps(self.identity))
        if differing := difference(*without_layout(saved, wanted)):
            raise UserError(path, f"of another fit: {differing}")
        if other := difference(saved, wanted):
            LOGGER.warning("resumed from another layout, to its curve but not to its last digits: %s", other)
        seconds, state = float(json.loads(metadata["seconds"])), unpacked(json.loads(metadata["state"]), arrays)
        if not (isinstance(state, dict) and 0 <= seconds < math.inf):
            raise UserError(path, "no resume point of this version")
        self.seconds_before = seconds
        return state

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a point durably beside the one before it, then remove what is older."""
        if not self.lock.is_mine():
            raise UserError(self.folder, "another process has taken it over", "", "let that one finish")
        arrays: dict[str, np.ndarray] = {}
        content = {"identity": self.identity, "seconds": self.seconds(), "state": packed(state, arrays)}
        metadata = {key: json.dumps(value, sort_keys=True, allow_nan=False) for key, value in content.items()}
        artifacts.save_arrays(self._path(step), arrays, metadata, self.identity)
        previous, self.last_step, self.last_time = self.last_step, step, time.monotonic()
        self._remove_all_but({step, previous})

    def _remove_all_but(self, steps: set[int]) -> None:
        """Remove every file but those of these points and of the lock: this process alone may write here."""
        kept = {path for step in steps for path in (self._path(step), artifacts.sidecar(self._path(step)))}
        for path in (*self.folder.iterdir(), *self.folder.glob(f"{artifacts.RECORDS}/*")):
            if path not in kept and not path.is_dir() and not path.name.startswith(self.lock.path.name):
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the points of a fit that is done and written, and with them the folder."""
        if self.lock.is_mine():
            self._remove_all_but(set())
        self.close()

    def _steps(self) -> Iterator[int]:
        """Steps of all points in the folder, damaged and foreign ones included."""
        matches = (NAME.fullmatch(path.name) for path in self.folder.glob("step-*.safetensors"))
        return (int(match[1]) for match in matches if match)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:012d}.safetensors"


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def difference(saved: Any, wanted: Any, key: str = "") -> str:
    """Where two JSON values differ first, as ``section.hyperparameters.steps is 100, not 200``; empty where equal."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for name in sorted(saved.keys() | wanted.keys()):
            if text := difference(saved.get(name), wanted.get(name), f"{key}.{name}" if key else name):
                return text
        return ""
    return "" if saved == wanted else f"{key} is {json.dumps(saved)}, not {json.dumps(wanted)}"


def without_layout(saved: dict[str, Any], wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two identities as they are; without how each is computed where the number of processes or passes differs."""
    if all(saved.get(key) == wanted.get(key) for key in LAYOUT if key != "threads"):
        return saved, wanted
    first, second = ({key: v for key, v in identity.items() if key not in LAYOUT} for identity in (saved, wanted))
    return first, second


# ---------------------------------------------------------------- trees of arrays


def mapped(tree: Any, leaf_type: type, change: Callable[[Any], Any]) -> Any:
    """A nested state with every leaf of one type changed."""
    if isinstance(tree, leaf_type):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: mapped(value, leaf_type, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(value, leaf_type, change) for value in tree)
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


def unpacked(content: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of ``packed``: keys that were numbers are numbers again, tuples are tuples."""
    if not isinstance(content, dict):
        return content
    [(container, values)] = content.items()
    if container == "array":
        return arrays[values]
    if container == "pairs":
        return {key: unpacked(value, arrays) for key, value in values}
    make: Callable[[Iterator[Any]], Any] = tuple if container == "tuple" else list
    return make(unpacked(value, arrays) for value in values)
