"""Overlap of held-out text with train: exact copies of documents, near copies, and windows of characters.

    documents   fraction that are a document of train, character for character
    near        fraction with a document of train at J(A, B) >= 0.8: see ``near_copies``
    windows     fraction of the 50-character windows that occur in train; no window crosses a document's end

Documents and windows are compared by 64-bit hashes. A stream has no documents to compare. Of a train of more than
``NEAR_BYTES`` near copies are looked for in some of the documents, chosen by their number, whatever the size of the
pieces; ``near_of_train`` is how many of them, as a fraction. What is found so is a lower bound.

Train is read once, piece by piece: memory holds the held-out text, its hashes, and one piece. Knows no token and no
model.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.corpora import hashing
from lmstages.corpora.near_copies import NEAR, HeldOutCopies, shingles_of, signatures
from lmstages.corpora.splits import Points, SplitText, joined, one_document, text_path

WINDOW = 50
MEASURE = f"Jaccard of {hashing.SHINGLE}-character shingles >= {NEAR}"
NEAR_BYTES = 1 << 31  # of train; of a larger one about so much is compared for near copies
SEED = np.uint64(0x6F7665726C6170)  # of the choice of documents


def audit(text: Path, splits: Sequence[str], out: Path, made: artifacts.Made, near_bytes: int = NEAR_BYTES) -> None:
    """Write ``overlap.json``, fractions of each split, and ``overlap.safetensors``: which documents train contains."""
    parts = {name: SplitText.open(text, name) for name in splits}
    held_out = {name: HeldOut(part) for name, part in parts.items()}
    train = SplitText.open(text, "train")
    kept = min(1.0, near_bytes / max(text_path(text, "train").stat().st_size, 1))
    for piece in pieces(train, kept):
        for split in held_out.values():
            split.compare(piece)
    arrays = {f"{name}.seen": split.seen for name, split in held_out.items()}
    arrays |= {f"{name}.characters": _characters(text_path(text, name), part.ends) for name, part in parts.items()}
    fractions = {name: split.fractions() for name, split in held_out.items()}
    facts = {"splits": fractions, "measure": MEASURE, "window": WINDOW, "near_of_train": kept}
    artifacts.save_arrays(out / "overlap.safetensors", arrays, {}, made)
    artifacts.save_json(out / "overlap.json", facts, made)


def pieces(train: SplitText, kept: float = 1.0) -> Iterator["TrainPiece"]:
    """Train in pieces; one of a stream begins with the end of the one before, so that no window is lost.

    ``kept``: the fraction of documents that are compared for near copies.
    """
    tail, number = np.zeros(0, dtype=np.uint32), 0
    for piece in train.points():
        if train.stream:
            longer = one_document(np.concatenate([tail, piece.points]))
            yield TrainPiece(longer, True, np.zeros(0, dtype=np.int64))
            tail = longer.points[1 - WINDOW :]
        else:
            numbers = np.arange(number, number + len(piece.starts))
            yield TrainPiece(piece, False, np.flatnonzero(chosen(numbers, kept)))
            number += len(numbers)


def chosen(numbers: np.ndarray, fraction: float) -> np.ndarray:
    """(D,) numbers of documents -> (D,) whether each is in a sample of about this fraction, the same every time."""
    if fraction >= 1:
        return np.ones(len(numbers), dtype=bool)
    return hashing.mixed_all(numbers.astype(np.uint64) ^ SEED) < np.uint64(fraction * 2.0**64)


class TrainPiece:
    """Some documents of train, or a piece of its stream, hashed once for all splits; documents that repeat are one."""

    def __init__(self, piece: Points, stream: bool, near: np.ndarray) -> None:
        self.window_hashes = hashing.hash_windows(*piece, WINDOW)
        hashes = hashing.hash_documents(*piece) if not stream else np.zeros(0, dtype=np.uint64)
        self.documents = hashing.sorted_distinct(hashes)
        self.near_documents, first = np.unique(hashes[near], return_index=True)
        starts, stops = (ends[near][first] for ends in (piece.starts, piece.stops))
        self.shingles = shingles_of(piece.points, starts, stops)
        self.signatures = signatures(self.shingles)


class HeldOut:
    """One split, and which of its documents and windows occur in the parts of train compared so far.

    Documents of the same text are one, so that repetition in a text costs nothing.
    """

    def __init__(self, part: SplitText) -> None:
        self.stream, text = part.stream, joined(part)
        windows = hashing.hash_windows(*text, WINDOW)
        self.windows = len(windows)
        distinct, self.window_counts = hashing.counted(windows)
        self.window_index = hashing.Index.of(distinct)
        self.window_seen = np.zeros(len(distinct), dtype=bool)
        hashes = hashing.hash_documents(*text) if not self.stream else np.zeros(0, dtype=np.uint64)
        documents, first, self.number = np.unique(hashes, return_index=True, return_inverse=True)
        self.index, self.texts_seen = hashing.Index.of(documents), np.zeros(len(documents), dtype=bool)
        self.copies = HeldOutCopies(text.points, text.starts[first], text.stops[first])

    def compare(self, train: TrainPiece) -> None:
        """Mark the documents and windows that occur in a piece of train."""
        hashing.mark(train.window_hashes, self.window_index, self.window_seen)
        numbers = hashing.positions_of(train.near_documents, self.index)
        is_new = (numbers < 0) | ~self.texts_seen[numbers]  # of texts compared before, nothing is compared again
        begins, ends = train.shingles.begins[is_new], train.shingles.ends[is_new]
        self.copies.compare(train.shingles._replace(begins=begins, ends=ends), train.signatures[is_new])
        hashing.mark(train.documents, self.index, self.texts_seen)

    @property
    def seen(self) -> np.ndarray:
        """(D,) whether each document is a document of train; nowhere so in a stream."""
        return self.texts_seen[self.number]

    @property
    def near(self) -> np.ndarray:
        """(D,) whether each document has a near copy in train."""
        return self.copies.near[self.number]

    def fractions(self) -> dict[str, float | None]:
        """Fractions of documents, near copies and windows; None where the split has no documents or windows."""
        documents, seen_windows = len(self.number), int(self.window_counts[self.window_seen].sum())
        return {
            "documents": float(self.seen.mean()) if documents else None,
            "near": float((self.near | self.seen).mean()) if documents else None,
            "windows": seen_windows / self.windows if self.windows else None,
        }


def _characters(path: Path, ends: np.ndarray) -> np.ndarray:
    """(D,) characters of each document, its separator included."""
    codes = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    counted = np.concatenate([[0], np.cumsum(codes & 0xC0 != 0x80)])
    return np.diff(counted[np.concatenate([[0], ends])])


def facts_of(overlap: Any, split: str) -> dict[str, Any]:
    """The columns of the results table that come from ``overlap.json``, for one split."""
    shared = {name: overlap[name] for name in ("measure", "window", "near_of_train")}
    return {**overlap["splits"][split], **shared}
