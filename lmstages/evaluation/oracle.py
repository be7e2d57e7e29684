"""The oracle: what the source of an embedded corpus itself says of its text, as one more score file.

No row of a comparison can be below it on average, and how far a row is above it is what is left to learn.
Knows grammars and texts; no model.
"""

from pathlib import Path

import numpy as np

from lmstages.core import artifacts
from lmstages.corpora.grammar import Grammar
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import score_files


def score_by_source(source: str, text: Path, out: Path, names: list[str], made: artifacts.Made) -> None:
    """The grammar's own probability of every character of its text, and of every document's end.

    ``oracle.json`` holds the expected bits per byte of held-out text, exact from the grammar.
    """
    scores = {}
    for name in names:
        grammar = Grammar.load(source, "withheld" if name == "train" else "allowed")
        part = SplitText.open(text, name)
        scored = [grammar.score(document) for document in part.texts()]
        log_probs = np.concatenate(scored)
        documents = np.repeat(np.arange(len(scored)), [len(each) for each in scored])
        ones = np.ones(len(log_probs), dtype=np.int64)
        assert len(ones) == part.path.stat().st_size, "embedded text is ASCII with a newline after each document"
        scores[name] = score_files.Scores(log_probs, ones, documents, len(ones), "stream")
    score_files.save_scores(out / "scores.safetensors", scores, made)
    grammar = Grammar.load(source, "allowed")
    expected = grammar.entropy() / np.log(2) / (grammar.expected_length() + 1)
    artifacts.save_json(out / "oracle.json", {"expected_bits_per_byte": float(expected)}, made)
