"""Distinct keys and their frequencies, of more keys than memory holds: external merge sort (Knuth 1973, section 5.4).

Each piece of the keys is sorted and counted by itself, and its sorted run written to a temporary file; then the runs
are merged one range of keys at a time, so that memory holds one piece, or one range, and the result. A single piece is
never written to disk. Temporary files lie in TMPDIR and disappear with the process, however it ends. Knows no n-gram.
"""

import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

MERGED_AT_ONCE = 1 << 24  # keys of all runs that are merged at once
SAMPLED = 1 << 12  # one key in so many is sampled to cut the range evenly
Run = tuple[np.ndarray, np.ndarray]  # distinct keys, sorted (U,), and their frequencies (U,)


def run_starts(values: np.ndarray) -> np.ndarray:
    """Indices at which a sorted array takes a new value, index 0 included."""
    changed = np.empty(len(values), dtype=bool)
    changed[:1] = True
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return np.flatnonzero(changed)


class Runs:
    """Sorted runs of keys: the latest in memory, all earlier ones on disk."""

    def __init__(self) -> None:
        self.files: list[tuple[IO[bytes], np.dtype, int]] = []
        self.latest: Run | None = None

    def add(self, keys: np.ndarray) -> None:
        """Add a piece (M,), which is sorted in place."""
        if self.latest is not None:
            self.files.append(_written(self.latest))
        keys.sort()
        begins = run_starts(keys)
        self.latest = keys[begins], np.diff(begins, append=len(keys))

    def merged(self) -> Run:
        """All distinct keys, sorted, and their frequencies."""
        assert self.latest is not None, "a text has at least one piece"
        if not self.files:
            return self.latest
        runs = [*map(_mapped, self.files), self.latest]
        parts = [_merged(part) for part in _ranges(runs)]
        return np.concatenate([keys for keys, _ in parts]), np.concatenate([counts for _, counts in parts])


def _written(run: Run) -> tuple[IO[bytes], np.dtype, int]:
    """A run, written to an unnamed file."""
    file = tempfile.TemporaryFile(prefix="lmstages-run-")  # noqa: SIM115 - open until the runs are merged
    keys, counts = run
    file.write(np.ascontiguousarray(keys).data)
    file.write(counts.astype(np.uint32).data)
    file.flush()
    return file, keys.dtype, len(keys)


def _mapped(stored: tuple[IO[bytes], np.dtype, int]) -> Run:
    """A written run, memory-mapped."""
    file, dtype, length = stored
    keys = np.memmap(file, dtype, "r", shape=(length,))
    return keys, np.memmap(file, np.uint32, "r", offset=length * dtype.itemsize, shape=(length,))


def _ranges(runs: list[Run]) -> Iterator[list[Run]]:
    """The runs cut at the same keys, about MERGED_AT_ONCE keys per range."""
    sample = np.sort(np.concatenate([keys[::SAMPLED] for keys, _ in runs]))
    count = -(-sum(len(keys) for keys, _ in runs) // MERGED_AT_ONCE)
    borders = np.unique(sample[np.linspace(0, len(sample) - 1, count + 1).astype(int)[1:-1]])
    cuts = [np.concatenate([[0], np.searchsorted(keys, borders), [len(keys)]]) for keys, _ in runs]
    for index in range(len(borders) + 1):
        slices = [slice(cut[index], cut[index + 1]) for cut in cuts]
        yield [(keys[part], counts[part]) for (keys, counts), part in zip(runs, slices, strict=True)]


def _merged(runs: list[Run]) -> Run:
    keys = np.concatenate([keys for keys, _ in runs])
    order = np.argsort(keys, kind="stable")  # fast on concatenated sorted runs
    keys = keys[order]
    begins = run_starts(keys)
    counts = np.concatenate([counts for _, counts in runs])[order]
    return keys[begins], np.add.reduceat(counts.astype(np.int64), begins) if len(begins) else counts.astype(np.int64)
