"""Probes a fitted model beside its scores: many samples, minimal pairs, and nearest neighbours in its embedding.

    accuracy     fraction of minimal pairs whose grammatical text has the higher log-probability, ties half
    neighbours   fraction of tokens whose nearest other token by cosine is of their own category

The texts of a pair are equal up to a position; only the rest is scored, conditioned on as much of the common prefix as
the protocol allows. Uses a model only as ``LanguageModel``; an embedding is its array of that name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.corpora.facts import Contrasts
from lmstages.corpora.grammar import Grammar
from lmstages.evaluation import sampling, scoring
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.models.base import LanguageModel
from lmstages.tokenizers import TextTokenizer, streams

Section = Mapping[str, Any]
MAX_PROBABILITIES = 1 << 23  # of all rows of a sampling step; bounds memory
EMBEDDINGS = ("embedding.weight", "embedding")
VOWELS = "aeiou"


def probe(model: Path, tokens: Path, pairs: Path | None, out: Path, section: Section, made: artifacts.Made) -> None:
    """Write ``samples.json``, texts for ``novelty``, and ``probe.json``, accuracies and neighbours."""
    fit = facts_of_fit(model, tokens)
    if fit["status"] != "ok":
        for name in ("samples.json", "probe.json"):
            artifacts.save_json(out / name, {"status": fit["status"]}, made)
        return
    minimal_pairs = _minimal_pairs(pairs) if pairs else []  # first, so that nothing is written where they are damaged
    fitted, tokenizer = load_fitted(model, tokens)
    drawn = samples(fitted, tokenizer, streams.read_starts(tokens, "train"), section)
    artifacts.save_json(out / "samples.json", {"status": "ok", **drawn}, made)
    results = {
        "minimal_pairs": accuracies(fitted, tokenizer, minimal_pairs, section["scoring"]),
        "neighbours": neighbours(fitted.arrays(), token_categories(tokenizer, section["source"])),
    }
    artifacts.save_json(out / "probe.json", {"status": "ok", **results}, made)


def _minimal_pairs(path: Path) -> list[dict[str, str]]:
    content = artifacts.load_json(path, Contrasts)
    artifacts.must_be_current(path)
    pairs: list[dict[str, str]] = content["pairs"]
    return pairs


# ---------------------------------------------------------------- samples


def samples(model: LanguageModel, tokenizer: TextTokenizer, starts: np.ndarray, section: Section) -> dict[str, Any]:
    """{texts, ended, length}: as many as the section sets, limited by its number of tokens.

    ``starts`` (D + 1,) are those of the documents of train, by whose mean length the tokens are counted.
    """
    settings, documents = section["sampling"], section["documents"]
    length = settings["length"]
    mean_length = min(length, float(np.diff(starts).mean())) if documents else length
    count = min(settings["measured"], max(1, int(settings["measured_tokens"] / mean_length)))
    most, rows = max(1, MAX_PROBABILITIES // model.vocab_size), []
    for first in range(0, count, most):
        wanted = min(most, count - first)
        seed = settings["seed"] + 1 + first  # the seed itself belongs to the samples that the report shows
        rows += sampling.sample(model, wanted, length, seed, stop_at_boundary=documents)
    ended = [documents and len(row) < length for row in rows]
    return {"texts": [tokenizer.decode(row.tolist()) for row in rows], "ended": ended, "length": length}


# ---------------------------------------------------------------- minimal pairs


def accuracies(
    model: LanguageModel, tokenizer: TextTokenizer, pairs: Sequence[Mapping[str, str]], settings: Section
) -> dict[str, Any] | None:
    """Pairs {kind, good, bad} -> {kind: {accuracy, pairs}} and ``all``; None where there are none."""
    if not pairs:
        return None
    texts = [pair[side] for pair in pairs for side in ("good", "bad")]
    encoded = tokenizer.encode(texts)
    positions = [_first_difference(good, bad) for (good, _), (bad, _) in zip(encoded[::2], encoded[1::2], strict=True)]
    sums = continuations(model, tokenizer, encoded, np.repeat(positions, 2), settings)
    right = 0.5 + 0.5 * np.sign(sums[::2] - sums[1::2])
    kinds = np.array([pair["kind"] for pair in pairs])
    by_kind = {"all": right} | {str(kind): right[kinds == kind] for kind in dict.fromkeys(kinds.tolist())}
    return {kind: {"accuracy": float(values.mean()), "pairs": len(values)} for kind, values in by_kind.items()}


def _first_difference(first: np.ndarray, second: np.ndarray) -> int:
    """The first position where two token sequences differ."""
    shorter = min(len(first), len(second))
    different = np.flatnonzero(first[:shorter] != second[:shorter])
    return int(different[0]) if len(different) else shorter


def continuations(
    model: LanguageModel,
    tokenizer: TextTokenizer,
    encoded: Sequence[tuple[np.ndarray, np.ndarray]],
    positions: np.ndarray,
    settings: Section,
) -> np.ndarray:
    """R encoded texts, (R,) positions -> (R,) log-probabilities of the tokens from there on, given those before."""
    documents = Documents.of([tokens.tolist() for tokens, _ in encoded])
    starts, ends = documents.starts[:-1], documents.starts[1:]
    firsts = starts + positions
    if settings["protocol"] in ("stride", "disjoint"):
        begin = np.minimum(firsts, ends - settings["window"])
    else:
        begin = starts if model.config.context is None else firsts - model.config.context
    windows = scoring.Windows(np.maximum(begin, starts), ends, firsts)
    log_probs = scoring.score(model, documents, windows)
    lengths = np.concatenate([covered for _, covered in encoded])
    log_probs = scoring.charge_escapes(log_probs, documents.tokens, lengths, tokenizer.escape)
    return np.array([np.nansum(log_probs[start:end]) for start, end in zip(starts, ends, strict=True)])


# ---------------------------------------------------------------- neighbours


def token_categories(tokenizer: TextTokenizer, source: str | None) -> dict[int, str]:
    """Token -> category: kinds of letters where most tokens are single characters, else the grammar's of words."""
    spelled = {token: tokenizer.decode([token]) for token in range(1, tokenizer.vocab_size)}
    single = [text for text in spelled.values() if len(text) == 1]
    if 2 * len(single) > len(spelled):
        return {token: kind for token, text in spelled.items() if (kind := _letter(text))}
    by_word = word_categories(source) if source else {}
    return {token: by_word[text.strip()] for token, text in spelled.items() if text.strip() in by_word}


def _letter(text: str) -> str | None:
    if len(text) != 1 or not text.isascii() or text.isspace():
        return None
    if not text.isalpha():
        return "digits" if text.isdigit() else "signs"
    return "capitals" if text.isupper() else "vowels" if text in VOWELS else "consonants"


def word_categories(source: str) -> dict[str, str]:
    """Word, in any form -> its category in the grammar; words of more than one category are left out."""
    by_text: dict[str, set[str]] = {}
    for category, words in Grammar.load(source).words.items():
        for word in words:
            for text in word.forms.values():
                by_text.setdefault(text, set()).add(category)
    return {text: categories.pop() for text, categories in by_text.items() if len(categories) == 1 and text}


def neighbours(arrays: Mapping[str, np.ndarray], categories: Mapping[int, str]) -> dict[str, Any] | None:
    """{share, chance, tokens}: None without an embedding or without two tokens of one category.

    Only tokens with a category are compared; ``chance`` is the expected fraction if neighbours were random.
    """
    embedding = next((arrays[name] for name in EMBEDDINGS if name in arrays), None)
    counts = {kind: list(categories.values()).count(kind) for kind in set(categories.values())}
    if embedding is None or embedding.ndim != 2 or max(counts.values(), default=0) < 2:
        return None
    tokens, kinds = np.array(list(categories)), np.array(list(categories.values()))
    vectors = embedding[tokens].astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    fraction = float((kinds[cosines.argmax(1)] == kinds).mean())
    chance = sum(n * (n - 1) for n in counts.values()) / (len(tokens) * (len(tokens) - 1))
    return {"share": fraction, "chance": chance, "tokens": len(tokens), "categories": dict(sorted(counts.items()))}
