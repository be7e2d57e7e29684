"""Distinct keys and their frequencies, of more keys than memory holds: external merge sort (Knuth 1973, section 5.4).

Each piece of the keys is sorted and counted by itself, and its sorted run appended to a temporary file; then the runs
are merged one range of keys at a time, so that memory holds one piece, or one range, and the result. A single piece is
never written to disk. The file lies in TMPDIR and disappears with the process, however it ends. A key has one or more
words (``wide_keys``). Knows no n-gram.
"""

import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from lmstages.models.counts.wide_keys import restored, run_starts, shortened, sorted_runs

MERGED_AT_ONCE = 1 << 24  # keys of all runs that are merged at once
ALIGNED = 8  # bytes; where a run begins in the file
SAMPLED = 1 << 12  # one key in so many is sampled to cut the range evenly
Run = tuple[np.ndarray, np.ndarray]  # distinct keys, sorted (W, U), and their frequencies (U,)


class Runs:
    """Sorted runs of keys: the latest in memory, all earlier ones one after the other in an unnamed file."""

    def __init__(self) -> None:
        self.file: IO[bytes] | None = None
        self.stored: list[tuple[int, int]] = []  # where in the file a run begins, and how many keys it has
        self.latest: Run | None = None

    def add(self, keys: np.ndarray) -> None:
        """Add a piece (W, M), which is sorted in place."""
        if self.latest is not None and len(self.latest[1]):
            self._store(*self.latest)
        self.latest = sorted_runs(keys)

    def merged(self) -> Run:
        """All distinct keys, sorted, and their frequencies."""
        assert self.latest is not None, "a text has at least one piece"
        if self.file is None:
            return self.latest
        runs = [*self._mapped(self.file, self.latest[0]), self.latest]
        parts = [_merged(part) for part in _ranges(runs)]
        self.file.close()
        return np.concatenate([keys for keys, _ in parts], axis=1), np.concatenate([counts for _, counts in parts])

    def _store(self, keys: np.ndarray, counts: np.ndarray) -> None:
        if self.file is None:
            self.file = tempfile.TemporaryFile(prefix="lmstages-runs-")  # noqa: SIM115 - open until the runs are merged
        self.stored.append((self.file.tell(), len(counts)))
        self.file.write(np.ascontiguousarray(keys).data)
        self.file.write(counts.astype(np.uint32).data)
        self.file.write(bytes(-self.file.tell() % ALIGNED))

    def _mapped(self, file: IO[bytes], like: np.ndarray) -> Iterator[Run]:
        """The runs of the file, which is memory-mapped once, however many there are; their keys are ``like`` others."""
        file.flush()
        content = np.memmap(file, np.uint8, "r")
        for begin, length in self.stored:
            middle = begin + len(like) * length * like.itemsize
            end = middle + length * np.dtype(np.uint32).itemsize
            keys = content[begin:middle].view(like.dtype).reshape(len(like), length)
            yield keys, content[middle:end].view(np.uint32)


def _ranges(runs: list[Run]) -> Iterator[list[Run]]:
    """The runs cut at the same first words of keys, about MERGED_AT_ONCE keys per range."""
    sample = np.sort(np.concatenate([keys[0, ::SAMPLED] for keys, _ in runs]))
    count = -(-sum(len(counts) for _, counts in runs) // MERGED_AT_ONCE)
    borders = np.unique(sample[np.linspace(0, len(sample) - 1, count + 1).astype(int)[1:-1]])
    cuts = [np.concatenate([[0], np.searchsorted(keys[0], borders), [len(counts)]]) for keys, counts in runs]
    for index in range(len(borders) + 1):
        slices = [slice(cut[index], cut[index + 1]) for cut in cuts]
        yield [(keys[:, part], counts[part]) for (keys, counts), part in zip(runs, slices, strict=True)]


def _merged(runs: list[Run]) -> Run:
    keys, steps = shortened(np.concatenate([keys for keys, _ in runs], axis=1))
    order = np.argsort(keys, kind="stable")  # fast on concatenated sorted runs
    keys = keys[order]
    begins = run_starts(keys)
    counts = np.concatenate([counts for _, counts in runs])[order].astype(np.int64)
    return restored(keys[begins], steps), np.add.reduceat(counts, begins) if len(begins) else counts
