"""Distinct keys and how often each came, of more keys than memory holds: sorted runs that are merged.

Every piece of the keys is sorted and counted by itself and its run put aside in a temporary file; then the runs
are merged one range of keys at a time, so that what is in memory is a piece, or a range, and the result (external
merge sort, Knuth 1973, section 5.4). A single piece never touches the disk. Temporary files lie where TMPDIR says
and are gone with the process, however it ends. Knows no n-gram.
"""

import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

AT_ONCE = 1 << 24  # keys of all runs that are merged together
SAMPLED = 1 << 12  # of so many keys one is looked at to cut the range evenly
Run = tuple[np.ndarray, np.ndarray]  # distinct keys in order (U,), and how often each came (U,)


def changes(values: np.ndarray) -> np.ndarray:
    """Where a sorted array takes a new value, its first place included."""
    changed = np.empty(len(values), dtype=bool)
    changed[:1] = True
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return np.flatnonzero(changed)


class Runs:
    """Sorted runs of keys: the latest in memory, all before it on disk."""

    def __init__(self) -> None:
        self.files: list[tuple[IO[bytes], np.dtype, int]] = []
        self.latest: Run | None = None

    def add(self, keys: np.ndarray) -> None:
        """One more piece (M,), which is sorted in place."""
        if self.latest is not None:
            self.files.append(_put_aside(self.latest))
        keys.sort()
        begins = changes(keys)
        self.latest = keys[begins], np.diff(begins, append=len(keys))

    def merged(self) -> Run:
        """All distinct keys in order, and how often each came."""
        assert self.latest is not None, "a text has at least one piece"
        if not self.files:
            return self.latest
        runs = [*map(_taken_up, self.files), self.latest]
        parts = [_merged(part) for part in _ranges(runs)]
        return np.concatenate([keys for keys, _ in parts]), np.concatenate([counts for _, counts in parts])


def _put_aside(run: Run) -> tuple[IO[bytes], np.dtype, int]:
    """A run in a file that has no name."""
    file = tempfile.TemporaryFile(prefix="lmstages-run-")  # noqa: SIM115 - open until the runs are merged
    keys, counts = run
    file.write(np.ascontiguousarray(keys).data)
    file.write(counts.astype(np.uint32).data)
    file.flush()
    return file, keys.dtype, len(keys)


def _taken_up(stored: tuple[IO[bytes], np.dtype, int]) -> Run:
    file, dtype, length = stored
    keys = np.memmap(file, dtype, "r", shape=(length,))
    return keys, np.memmap(file, np.uint32, "r", offset=length * dtype.itemsize, shape=(length,))


def _ranges(runs: list[Run]) -> Iterator[list[Run]]:
    """The runs cut at the same keys, some millions of keys at a time."""
    sample = np.sort(np.concatenate([keys[::SAMPLED] for keys, _ in runs]))
    count = -(-sum(len(keys) for keys, _ in runs) // AT_ONCE)
    borders = np.unique(sample[np.linspace(0, len(sample) - 1, count + 1).astype(int)[1:-1]])
    places = [np.concatenate([[0], np.searchsorted(keys, borders), [len(keys)]]) for keys, _ in runs]
    for nth in range(len(borders) + 1):
        cut = [slice(place[nth], place[nth + 1]) for place in places]
        yield [(keys[part], counts[part]) for (keys, counts), part in zip(runs, cut, strict=True)]


def _merged(runs: list[Run]) -> Run:
    keys = np.concatenate([keys for keys, _ in runs])
    order = np.argsort(keys, kind="stable")  # quick on what is sorted in stretches
    keys = keys[order]
    begins = changes(keys)
    counts = np.concatenate([counts for _, counts in runs])[order]
    return keys[begins], np.add.reduceat(counts.astype(np.int64), begins) if len(begins) else counts.astype(np.int64)
