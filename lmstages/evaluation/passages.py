"""Surprisal per piece of text: the first characters of a held-out text with the nats a model gave them.

    nats of a piece = - sum log p(token)      over the tokens of the piece

A piece is the text of one token, or of as few tokens as make complete characters where tokens are bytes or parts of
characters. A token that covers no text, such as the boundary between documents, is an empty piece of its own.

Reads the scores of a split and its bytes; knows no model and no tokenizer.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.artifacts import finite_or_none
from lmstages.corpora.splits import text_path
from lmstages.evaluation.score_files import Scores

CHARACTERS = 500
LONGEST = 4  # bytes of a character in UTF-8


def shown_passage(scores: Mapping[str, Scores], text: Path) -> dict[str, Any]:
    """The passage that the report shows: of test where it is scored, else of the first split; pieces [text, nats]."""
    split = "test" if "test" in scores else next(iter(scores))
    return {"split": split, "pieces": passage(scores[split], artifacts.verified(text_path(text, split)))}


def passage(scores: Scores, path: Path, characters: int = CHARACTERS) -> list[list[Any]]:
    """Scores of a split and its text file -> pieces [text, nats], from the beginning of a document.

    All pieces that begin within the first ``characters``, so that all tokenizers show the same passage; the nats are
    None where the model gave a piece probability zero.
    """
    first = _first_of_a_document(scores, path.stat().st_size)
    skipped = path.stat().st_size - int(scores.lengths[first:].sum(dtype=np.int64))
    with open(path, "rb") as file:
        file.seek(skipped)
        content = file.read(LONGEST * characters + int(scores.lengths.max(initial=0)))
    pieces, seen = [], 0
    for text, nats in _pieces(content, scores.lengths[first:], -scores.log_probs[first:].astype(np.float64)):
        if seen >= characters:
            break
        pieces.append([text, finite_or_none(nats)])
        seen += len(text)
    return pieces


def _first_of_a_document(scores: Scores, size: int) -> int:
    """Index of the first token or, if tokens were skipped, of the first token of the next document, if any."""
    if int(scores.lengths.sum(dtype=np.int64)) == size:
        return 0
    begins = np.flatnonzero(np.diff(scores.documents)) + 1
    return int(begins[0]) if len(begins) else 0


def _pieces(content: bytes, lengths: np.ndarray, nats: np.ndarray) -> Iterator[tuple[str, float]]:
    """Bytes, lengths (N,), nats (N,) -> the smallest pieces that are valid UTF-8, with their nats."""
    start = stop = 0
    total = 0.0
    for length, cost in zip(lengths.tolist(), nats.tolist(), strict=True):
        stop, total = stop + length, total + cost
        if stop > len(content):
            return
        try:
            text = content[start:stop].decode()
        except UnicodeDecodeError:
            continue
        yield text, total
        start, total = stop, 0.0
