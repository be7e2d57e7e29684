"""64-bit hashes of stretches of text, and a sorted index of hashes that is asked which of many others it has.

    windows      the hash of every window of a fixed length, rolled forward by one character (Karp & Rabin 1987)
    documents    the hash of every whole document
    shingles     the hash of every window of 8, by doubling: that of 8 combines those of its two halves of 4

A text is its code points, end to end, and documents are begins and ends among them: nothing crosses an end. Two
different texts have the same hash with a probability of about 2 ** -64. Compiled, since text comes in gigabytes.
"""

from typing import NamedTuple

import numpy as np

from lmstages.core.compiled import compiled

SHINGLE = 8
ODD = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
ONE, S30, S27, S31 = np.uint64(1), np.uint64(30), np.uint64(27), np.uint64(31)
LOW, SIX = np.uint64(63), np.uint64(6)
FINER = 4  # the filter of an index has so many more bits in its addresses than there are keys


@compiled
def mixed(value):  # type: ignore[no-untyped-def]
    """uint64 -> uint64, every bit of the result dependent on all (Steele et al. 2014, SplitMix64)."""
    value = value + ODD
    value = (value ^ (value >> S30)) * FIRST
    value = (value ^ (value >> S27)) * SECOND
    return value ^ (value >> S31)


@compiled
def mixed_all(values: np.ndarray) -> np.ndarray:
    """(n,) uint64 -> (n,) each mixed."""
    results = np.empty(len(values), np.uint64)
    for position in range(len(values)):
        results[position] = mixed(values[position])
    return results


@compiled
def hash_windows(points: np.ndarray, starts: np.ndarray, stops: np.ndarray, length: int) -> np.ndarray:
    """(n,) code points, (D,) documents -> the hashes of all windows of ``length``, document by document.

    A polynomial in an odd number modulo 2 ** 64, whose first bits depend on all characters.
    """
    weight = ODD  # of the character that leaves a window
    for _ in range(length - 2):
        weight = weight * ODD
    weight = weight if length > 1 else ONE
    hashes, count = np.empty(max(len(points) - length + 1, 0), np.uint64), 0
    for number in range(len(starts)):
        start, stop = starts[number], stops[number]
        entering = points[start + length - 1 : max(stop, start + length - 1)]
        leaving, hashed, value = points[start:stop], hashes[count:], np.uint64(0)
        for position in range(length - 1 if len(entering) else 0):
            value = value * ODD + np.uint64(leaving[position])
        for position in range(len(entering)):
            value = value * ODD + np.uint64(entering[position])
            hashed[position] = value
            value -= weight * np.uint64(leaving[position])
        count += len(entering)
    return hashes[:count]


@compiled
def ended(value, length):  # type: ignore[no-untyped-def]
    """The hash of a text, from the polynomial of its characters and their number."""
    return mixed(value + ODD * np.uint64(length))


@compiled
def hash_documents(points: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """(n,) code points, (D,) documents -> (D,) hashes."""
    hashes = np.empty(len(starts), np.uint64)
    for number in range(len(starts)):
        value = np.uint64(0)
        for position in range(starts[number], stops[number]):
            value = value * ODD + np.uint64(points[position])
        hashes[number] = ended(value, stops[number] - starts[number])
    return hashes


@compiled
def hash_shingles(points: np.ndarray) -> np.ndarray:
    """(n,) code points -> (n,) the hash of the 8 from each on; of the last 7, which have no 8, something else."""
    hashes = np.empty(len(points), np.uint64)
    for position in range(len(points)):
        hashes[position] = mixed(np.uint64(points[position]))
    width = 1
    while width < SHINGLE:
        for position in range(len(points) - width):
            hashes[position] = mixed(hashes[position] * ODD + hashes[position + width])
        width *= 2
    for position in range(len(points)):
        hashes[position] = mixed(hashes[position])
    return hashes


@compiled
def sorted_distinct(hashes: np.ndarray) -> np.ndarray:
    """(n,) hashes -> those that are different, in order."""
    ordered, count = np.sort(hashes), 0
    for position in range(len(ordered)):
        if position == 0 or ordered[position] != ordered[count - 1]:
            ordered[count] = ordered[position]
            count += 1
    return ordered[:count]


def counted(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) hashes, which are sorted in place -> those that are different, in order, and how often each occurs."""
    hashes.sort()
    distinct, counts = _counted(hashes)
    return distinct.copy(), counts.copy()


@compiled
def _counted(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts, count = np.zeros(len(ordered), np.int32), 0
    for position in range(len(ordered)):
        if position == 0 or ordered[position] != ordered[count - 1]:
            ordered[count] = ordered[position]
            count += 1
        counts[count - 1] += 1
    return ordered[:count], counts[:count]


class Index(NamedTuple):
    """Distinct hashes in order, K of them.

    ``begins``: where those of each value of the first bits begin. ``filter``: a bit for each value of some more of the
    first bits, set where a hash has it, which answers most questions from the processor's cache.
    """

    keys: np.ndarray
    begins: np.ndarray
    filter: np.ndarray
    shift: np.uint64
    filter_shift: np.uint64

    @classmethod
    def of(cls, keys: np.ndarray) -> "Index":
        """The index of sorted distinct keys (K,), uint64."""
        bits = max(int(len(keys) - 1).bit_length(), 2)
        shift, filter_shift = np.uint64(64 - bits), np.uint64(64 - bits - FINER)
        begins = np.zeros((1 << bits) + 1, dtype=np.int64)
        words = np.zeros(1 << (bits + FINER - 6), dtype=np.uint64)
        _fill(keys, begins, words, shift, filter_shift)
        return cls(keys, begins, words, shift, filter_shift)


@compiled
def _fill(keys: np.ndarray, begins: np.ndarray, words: np.ndarray, shift: np.uint64, filter_shift: np.uint64) -> None:
    """Count the keys into ``begins`` and set their bits."""
    for key in keys:
        begins[np.int64(key >> shift) + 1] += 1
        bit = key >> filter_shift
        words[np.int64(bit >> SIX)] |= ONE << (bit & LOW)
    for bucket in range(len(begins) - 1):
        begins[bucket + 1] += begins[bucket]


@compiled
def position_of(key: np.uint64, index: Index) -> int:
    """Where a hash stands among the keys; -1 where it does not."""
    bit = key >> index.filter_shift
    if not (index.filter[np.int64(bit >> SIX)] >> (bit & LOW)) & ONE:
        return -1
    bucket = np.int64(key >> index.shift)
    for position in range(index.begins[bucket], index.begins[bucket + 1]):
        if index.keys[position] == key:
            return position
    return -1


@compiled
def positions_of(hashes: np.ndarray, index: Index) -> np.ndarray:
    """(n,) hashes -> (n,) where each stands among the keys; -1 for those that do not."""
    positions = np.empty(len(hashes), np.int64)
    for number in range(len(hashes)):
        positions[number] = position_of(hashes[number], index)
    return positions


@compiled
def mark(hashes: np.ndarray, index: Index, seen: np.ndarray) -> None:
    """Set ``seen`` (K,) of the keys that are among the hashes."""
    for value in hashes:
        position = position_of(value, index)
        if position >= 0:
            seen[position] = True


@compiled
def mark_beginnings(
    points: np.ndarray, starts: np.ndarray, stops: np.ndarray, lengths: np.ndarray, index: Index, seen: np.ndarray
) -> None:
    """Set ``seen`` (K,) of the keys that are hashes of a text with which a document begins.

    ``lengths`` (longest + 1,): whether some of these texts has so many characters.
    """
    for number in range(len(starts)):
        value, longest = np.uint64(0), min(stops[number] - starts[number], len(lengths) - 1)
        for length in range(longest + 1):
            if length:
                value = value * ODD + np.uint64(points[starts[number] + length - 1])
            if lengths[length]:
                position = position_of(ended(value, length), index)
                if position >= 0:
                    seen[position] = True
