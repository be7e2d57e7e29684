"""What every fuzz test shares: seeded damage to bytes and to JSON, and the two outcomes that are allowed.

Each damage is drawn from a seeded numpy Generator, in the process of the test; ``outcome`` is the judge.
"""

import json
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from lmstages.core.errors import UserError

SECONDS = 20  # one file, on a busy machine
HOSTILE = (
    None,
    True,
    -1,
    0,
    7,
    2**31,
    2**63,
    1e308,
    float("nan"),
    "",
    "x",
    "\x1b[31m",
    [],
    [1],
    {},
    {"a": 1},
    [[]] * 3,
)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Ends what takes longer."""

    def too_long(*_: object) -> None:
        pytest.fail(f"took longer than {seconds} s")  # no Exception, so that no reader can take it for its own

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(reader: Callable[..., Any], *arguments: object) -> Any:
    """What a reader returns, or None where it refuses in one line."""
    with at_most(SECONDS):
        try:
            return reader(*arguments)
        except UserError as error:
            assert "\n" not in str(error) and "\x1b" not in str(error) and len(str(error)) < 2000
            return None


def damaged(content: bytes, draws: np.random.Generator, first: int, end: int) -> tuple[bytes, set[int] | None]:
    """The content with one damage between two positions, and the bytes that differ, None where all behind it move."""
    position, kind = int(draws.integers(first, end)), draws.choice(["bit", "byte", "number", "cut", "drop", "double"])
    if kind == "cut":
        return content[:position], None
    if kind in ("drop", "double"):
        length = int(draws.integers(1, 16))
        again = b"" if kind == "drop" else content[position : position + length] * 2
        return content[:position] + again + content[position + length :], None
    flipped = bytes([content[position] ^ (1 << int(draws.integers(8)))])
    number = struct.pack("<q", int(draws.choice([-1, 0, 1, 2**20, 2**31, 2**62])))
    written_over = {"bit": flipped, "byte": draws.bytes(1), "number": number}[kind][: len(content) - position]
    mutated = content[:position] + written_over + content[position + len(written_over) :]
    return mutated, {n for n in range(position, position + len(written_over)) if mutated[n] != content[n]}


def positions(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every position in a JSON value, as keys and indices."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:40]) if isinstance(value, list) else ()
    for key, below in items:
        yield from positions(below, (*path, key))


def replaced(content: Any, path: tuple, draws: np.random.Generator) -> Any:
    """A JSON value with the value at ``path`` replaced by a hostile one, its key renamed, or doubled by a near one."""
    content = json.loads(json.dumps(content))
    if not path:
        return HOSTILE[draws.integers(len(HOSTILE))]
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    kind = draws.choice(["value", "rename", "add"]) if isinstance(parent, dict) else "value"
    if kind == "value":
        parent[path[-1]] = HOSTILE[draws.integers(len(HOSTILE))]
    elif kind == "rename":
        parent[path[-1][:-1] + "_"] = parent.pop(path[-1])
    else:
        parent[path[-1] + "_scale"] = 2.0
    return content
