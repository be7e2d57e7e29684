"""Numbers of more than 64 bits: each is W words (W, M), the most significant first. To sort them, and to find runs.

Where one word does not hold a number, what is sorted is a shorter one in the same order: the rank of the first words
among those that occur, and the next word, or its rank. So whatever its length, M numbers take one word each to sort.
Knows no n-gram.
"""

import numpy as np

LARGEST_KEY = 1 << 64
Step = tuple[np.ndarray, int, np.ndarray | None]  # first words that occur, the base of what follows, and its values


def run_starts(words: np.ndarray) -> np.ndarray:
    """(M,) or (W, M) -> indices at which sorted numbers take a new value, index 0 included."""
    first, *others = np.atleast_2d(words)
    changed = np.empty(len(first), dtype=bool)
    changed[:1] = True
    np.not_equal(first[1:], first[:-1], out=changed[1:])
    for word in others:
        changed[1:] |= word[1:] != word[:-1]
    return np.flatnonzero(changed)


def taken(words: np.ndarray, which: np.ndarray) -> np.ndarray:
    """(W, M), indices or a mask -> (W, U); word by word, which is several times faster than at once."""
    return words[0][which][None] if len(words) == 1 else np.stack([word[which] for word in words])


def sorted_runs(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(W, M), which may change -> distinct numbers, sorted (W, U), and how often each occurs (U,)."""
    values, steps = shortened(words)
    values.sort()
    begins = run_starts(values)
    return restored(values[begins], steps), np.diff(begins, append=len(values))


def shortened(words: np.ndarray) -> tuple[np.ndarray, list[Step]]:
    """(W, M) -> numbers of one word in the same order (M,), and what ``restored`` needs to undo it."""
    values, steps = words[0], list[Step]()
    for word in words[1:]:
        first, ranks = np.unique(values, return_inverse=True)
        base, occurring = int(word.max(initial=0)) + 1, None
        if len(first) * base > LARGEST_KEY:
            occurring, word = np.unique(word, return_inverse=True)
            base = len(occurring)
        values = ranks.astype(np.uint64) * np.uint64(base) + word.astype(np.uint64)
        steps.append((first, base, occurring))
    return values, steps


def restored(values: np.ndarray, steps: list[Step]) -> np.ndarray:
    """The inverse of ``shortened``: (U,) -> (W, U)."""
    words = []
    for first, base, occurring in reversed(steps):
        ranks = values // np.uint64(base)
        last = values - ranks * np.uint64(base)
        words.append(last if occurring is None else occurring[last])
        values = first[ranks]
    return np.stack([values, *reversed(words)]) if words else values[None]
