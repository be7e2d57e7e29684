"""Overlap of held-out text with train: exact copies of documents, near copies, and windows of characters.

    documents   fraction that are a document of train, character for character
    near        fraction with a document of train at J(A, B) = |A & B| / |A | B| >= 0.8, A and B their 8-shingles
    windows     fraction of the 50-character windows that occur in train; no window crosses a document's end

Candidates for near copies come from MinHash (Broder 1997) in 16 bands of 4, which finds a pair at 0.8 with probability
1 - (1 - 0.8 ** 4) ** 16 = 0.9998; the coefficient is then computed from the complete sets. A document shorter than
a shingle is its own single shingle. Windows are compared by 64-bit hashes. A stream has no documents to compare.

Train is read once, piece by piece; only the held-out text is kept in memory. Knows no token and no model.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.corpora.splits import SplitText, text_path

SHINGLE, WINDOW, NEAR = 8, 50, 0.8
BANDS, ROWS = 16, 4
MEASURE = f"Jaccard of {SHINGLE}-character shingles >= {NEAR}"
BREAK = "\0"  # between documents; no valid text contains it


def audit(text: Path, splits: Sequence[str], out: Path, made: artifacts.Made) -> None:
    """Write ``overlap.json``, fractions of each split, and ``overlap.safetensors``: which documents train contains."""
    parts = {name: SplitText.open(text, name) for name in splits}
    held_out = {name: HeldOut(part) for name, part in parts.items()}
    train, tail = SplitText.open(text, "train"), ""
    for batch in train.batches():
        texts = [piece.text for piece in batch]
        compared = TrainPiece([tail + texts[0]] if train.stream else texts, train.stream)
        for split in held_out.values():
            split.compare(compared)
        tail = texts[-1][1 - WINDOW :]
    arrays = {f"{name}.seen": split.seen for name, split in held_out.items()}
    arrays |= {f"{name}.characters": _characters(text_path(text, name), part.ends) for name, part in parts.items()}
    fractions = {name: split.fractions() for name, split in held_out.items()}
    artifacts.save_arrays(out / "overlap.safetensors", arrays, {}, made)
    artifacts.save_json(out / "overlap.json", {"splits": fractions, "measure": MEASURE, "window": WINDOW}, made)


class TrainPiece:
    """Some documents of train, or a piece of its stream, hashed once for all splits; texts that repeat are one."""

    def __init__(self, texts: Sequence[str], stream: bool) -> None:
        self.window_hashes = window_hashes(code_points(BREAK.join(texts)), WINDOW)
        distinct = [] if stream else list(dict.fromkeys(texts))
        self.digests, self.shingles = [_digest(document) for document in distinct], shingles_of(distinct)
        self.signatures = [signature(hashes) for hashes in self.shingles]


class HeldOut:
    """One split, and which of its documents and windows occur in the parts of train compared so far.

    Documents of the same text are one, so that repetition in a text costs nothing.
    """

    def __init__(self, part: SplitText) -> None:
        self.stream, texts = part.stream, list(part.texts())
        self.documents = len(part.ends)
        digests = [] if self.stream else [_digest(document) for document in texts]
        self.exact = {digest: number for number, digest in enumerate(dict.fromkeys(digests))}
        self.number = np.array([self.exact[digest] for digest in digests], dtype=np.int64)  # of each document, by text
        self.texts_seen, self.texts_near = np.zeros(len(self.exact), dtype=bool), np.zeros(len(self.exact), dtype=bool)
        points = code_points(("" if self.stream else BREAK).join(texts))
        self.window_hashes, self.window_counts = np.unique(window_hashes(points, WINDOW), return_counts=True)
        self.window_seen = np.zeros(len(self.window_hashes), dtype=bool)
        self.shingles = [] if self.stream else shingles_of(list(dict.fromkeys(texts)))
        self.bands: dict[tuple[int, int], list[int]] = defaultdict(list)
        for number, hashes in enumerate(self.shingles):
            for band in signature(hashes):
                self.bands[band].append(number)

    def compare(self, train: TrainPiece) -> None:
        """Mark the documents and windows that occur in a piece of train."""
        self._mark_windows(train.window_hashes)
        for digest, hashes, bands in zip(train.digests, train.shingles, train.signatures, strict=True):
            number = self.exact.get(digest)
            if number is not None and self.texts_seen[number]:
                continue  # compared before
            if number is not None:
                self.texts_seen[number] = True
            self._mark_near(hashes, bands)

    def _mark_windows(self, hashes: np.ndarray) -> None:
        if len(self.window_hashes):
            indices = np.searchsorted(self.window_hashes, hashes).clip(max=len(self.window_hashes) - 1)
            self.window_seen[indices[self.window_hashes[indices] == hashes]] = True

    def _mark_near(self, train_shingles: np.ndarray, signature_of_train: Sequence[tuple[int, int]]) -> None:
        """Mark the documents that are nearly this one; they leave their bands, so that none is compared any more."""
        bands = [band for band in signature_of_train if band in self.bands]
        candidates = {number for band in bands for number in self.bands[band]}
        left = [number for number in candidates if not self.texts_near[number]]
        near = [number for number in left if jaccard(self.shingles[number], train_shingles) >= NEAR]
        self.texts_near[near] = True
        for band in bands if near or len(left) < len(candidates) else ():
            self.bands[band] = [number for number in self.bands[band] if not self.texts_near[number]]

    @property
    def seen(self) -> np.ndarray:
        """(D,) whether each document is a document of train; nowhere so in a stream."""
        return np.zeros(self.documents, dtype=bool) if self.stream else self.texts_seen[self.number]

    @property
    def near(self) -> np.ndarray:
        """(D,) whether each document has a near copy in train."""
        return np.zeros(self.documents, dtype=bool) if self.stream else self.texts_near[self.number]

    def fractions(self) -> dict[str, float | None]:
        """Fractions of documents, near copies and windows; None where the split has no documents or windows."""
        windows, documents = int(self.window_counts.sum()), 0 if self.stream else len(self.seen)
        seen_windows = int(self.window_counts[self.window_seen].sum())
        return {
            "documents": float(self.seen.mean()) if documents else None,
            "near": float((self.near | self.seen).mean()) if documents else None,
            "windows": seen_windows / windows if windows else None,
        }


def shingles_of(documents: Sequence[str]) -> list[np.ndarray]:
    """Texts -> the sorted hashes of the set of shingles of each, those of all hashed together."""
    counts = [max(len(document) - SHINGLE + 1, 0) for document in documents]
    ends = np.cumsum(counts)
    together = window_hashes(code_points(BREAK.join(documents)), SHINGLE)
    parts = (together[end - count : end] for count, end in zip(counts, ends, strict=True))
    return [
        np.unique(part if len(part) else window_hashes(code_points(document), max(len(document), 1)))
        for document, part in zip(documents, parts, strict=True)
    ]


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Two sorted sets -> |A & B| / |A | B|; 1 where both are empty."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - shared
    return shared / union if union else 1.0


def signature(hashes: np.ndarray) -> list[tuple[int, int]]:
    """A set -> its MinHash in bands (index, hash of the band's minima); sets of high overlap share some band."""
    if not len(hashes):
        return []
    with np.errstate(over="ignore"):
        minima = (hashes * SEEDS[:, None]).min(axis=1)
        rows = minima.reshape(BANDS, ROWS)
        combined = rows[:, 0]
        for column in range(1, ROWS):
            combined = mixed(combined * ODD + rows[:, column])
    return list(enumerate(combined.tolist()))


ODD = np.uint64(0x9E3779B97F4A7C15)


def mixed(values: np.ndarray) -> np.ndarray:
    """uint64 -> uint64, every bit of the result dependent on all (Steele et al. 2014, SplitMix64)."""
    with np.errstate(over="ignore"):
        values = (values + ODD).astype(np.uint64)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


SEEDS = mixed(np.arange(1, BANDS * ROWS + 1, dtype=np.uint64)) | np.uint64(1)


def window_hashes(points: np.ndarray, length: int) -> np.ndarray:
    """(n,) code points -> hashes of all windows of ``length`` without a BREAK.

    By doubling: the hash of a window of 2w combines those of its two halves of w.
    """
    count = len(points) - length + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64)
    with np.errstate(over="ignore"):
        hashed, width, combined, covered = mixed(points.astype(np.uint64)), 1, np.zeros(count, np.uint64), 0
        while True:
            if length & width:
                combined = mixed(combined * ODD + hashed[covered : covered + count])
                covered += width
            if covered == length:
                break
            hashed, width = mixed(hashed[:-width] * ODD + hashed[width:]), 2 * width
    breaks = np.concatenate([[0], np.cumsum(points == ord(BREAK))])
    return combined[breaks[length:] == breaks[:-length]]


def code_points(text: str) -> np.ndarray:
    """Text -> (n,) code points."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _digest(document: str) -> bytes:
    return hashlib.blake2b(document.encode(), digest_size=16).digest()


def _characters(path: Path, ends: np.ndarray) -> np.ndarray:
    """(D,) characters of each document, its separator included."""
    codes = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    counted = np.concatenate([[0], np.cumsum(codes & 0xC0 != 0x80)])
    return np.diff(counted[np.concatenate([[0], ends])])


def facts_of(overlap: Any, split: str) -> dict[str, Any]:
    """The columns of the results table that come from ``overlap.json``, for one split."""
    return {**overlap["splits"][split], "measure": overlap["measure"], "window": overlap["window"]}
