"""What a model finds surprising: the first characters of a held-out text, piece by piece, with the nats of each.

    nats of a piece = - sum log p(token)      over the tokens that the piece is made of

A piece is the text of one token, or of as many as make whole characters together, where a token is a byte or a part
of a character. A token that covers no text, such as the boundary between documents, is an empty piece of its own.

Knows the scores of a split and its bytes; never a model or a tokenizer.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core.artifacts import finite_or_none
from lmstages.corpora.splits import text_path
from lmstages.evaluation.score_files import Scores

CHARACTERS = 500
LONGEST = 4  # bytes of a character in UTF-8


def told_passage(scores: Mapping[str, Scores], text: Path) -> dict[str, Any]:
    """The split that tells most, test where there is one, and its passage: pieces [text, nats]."""
    split = "test" if "test" in scores else next(iter(scores))
    return {"split": split, "pieces": passage(scores[split], text_path(text, split))}


def passage(scores: Scores, path: Path, characters: int = CHARACTERS) -> list[list[Any]]:
    """Scores of a split and its text file -> pieces [text, nats], from where a document begins.

    Every whole piece that begins within the first ``characters``, so that all tokenizers tell the same passage; the
    nats are None where the model held a piece to be impossible.
    """
    first = _first_of_a_document(scores, path.stat().st_size)
    skipped = path.stat().st_size - int(scores.lengths[first:].sum(dtype=np.int64))
    with open(path, "rb") as file:
        file.seek(skipped)
        content = file.read(LONGEST * characters + int(scores.lengths.max(initial=0)))
    told, seen = [], 0
    for text, nats in _pieces(content, scores.lengths[first:], -scores.log_probs[first:].astype(np.float64)):
        if seen >= characters:
            break
        told.append([text, finite_or_none(nats)])
        seen += len(text)
    return told


def _first_of_a_document(scores: Scores, size: int) -> int:
    """The first token, unless the first were skipped: then the first of the next document, if there is one."""
    if int(scores.lengths.sum(dtype=np.int64)) == size:
        return 0
    begins = np.flatnonzero(np.diff(scores.documents)) + 1
    return int(begins[0]) if len(begins) else 0


def _pieces(content: bytes, lengths: np.ndarray, nats: np.ndarray) -> Iterator[tuple[str, float]]:
    """Bytes, (N,), (N,) -> the smallest pieces that are text; what ends within a character is no piece."""
    start = stop = 0
    held = 0.0
    for length, cost in zip(lengths.tolist(), nats.tolist(), strict=True):
        stop, held = stop + length, held + cost
        if stop > len(content):
            return
        try:
            text = content[start:stop].decode()
        except UnicodeDecodeError:
            continue
        yield text, held
        start, held = stop, 0.0
