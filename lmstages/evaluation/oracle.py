"""The oracle: the score file of an embedded corpus under the grammar that generated it.

No model can have fewer bits per byte in expectation; the distance to it is what remains to be learnt.
Knows grammars and texts; no model.
"""

from pathlib import Path

import numpy as np

from lmstages.core import artifacts
from lmstages.corpora.grammar import Grammar
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import score_files


def score_by_source(source: str, text: Path, out: Path, names: list[str], made: artifacts.Made) -> None:
    """Write the grammar's log-probability of every character of its text and of every document's end.

    ``oracle.json`` holds the expected bits per byte of held-out text, computed exactly from the grammar.
    """
    scores = {}
    for name in names:
        grammar = Grammar.load(source, "withheld" if name == "train" else "allowed")
        part = SplitText.open(text, name)
        scored = [grammar.score(document) for document in part.texts()]
        log_probs = np.concatenate(scored)
        documents = np.repeat(np.arange(len(scored)), [len(log_prob) for log_prob in scored])
        ones = np.ones(len(log_probs), dtype=np.int64)
        assert len(ones) == part.path.stat().st_size, "embedded text is ASCII with a newline after each document"
        scores[name] = score_files.Scores(log_probs, ones, documents, len(ones), "stream")
    score_files.save_scores(out / "scores.safetensors", scores, made)
    grammar = Grammar.load(source, "allowed")
    expected = grammar.entropy() / np.log(2) / (grammar.expected_length() + 1)
    artifacts.save_json(out / "oracle.json", {"expected_bits_per_byte": float(expected)}, made)
