"""What a fitted model is asked beside its scores: many samples to be measured, pairs of texts of which one is
grammatical, and which tokens lie beside each other in its embedding.

    accuracy     share of minimal pairs whose grammatical text has the higher log-probability, ties half
    neighbours   share of tokens whose nearest other token by cosine is of their own category

Both texts of a pair are the same up to a place; only what follows is scored, after as much of what came before as the
protocol allows. Knows a model only as ``LanguageModel``; an embedding is its array of that name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.corpora.grammar import Grammar
from lmstages.evaluation import sampling, scoring
from lmstages.models import storage as model_storage
from lmstages.models.base import LanguageModel
from lmstages.tokenizers import TextTokenizer, streams

Section = Mapping[str, Any]
PROBABILITIES_AT_ONCE = 1 << 23  # bounds the memory of sampling
EMBEDDINGS = ("embedding.weight", "embedding")
VOWELS = "aeiou"


def probe(model: Path, tokens: Path, pairs: Path | None, out: Path, section: Section, made: artifacts.Made) -> None:
    """Write ``samples.json``, the texts to be measured, and ``probe.json``, accuracies and neighbours."""
    fit = artifacts.load_json(model.with_name("fit.json"))
    if fit["status"] != "ok":
        for name in ("samples.json", "probe.json"):
            artifacts.save_json(out / name, {"status": fit["status"]}, made)
        return
    fitted, tokenizer = model_storage.load_model(model), streams.read_tokenizer(tokens)
    drawn = samples(fitted, tokenizer, streams.read_tokens(tokens, "train")[0], section)
    artifacts.save_json(out / "samples.json", {"status": "ok", **drawn}, made)
    asked = artifacts.load_json(pairs)["pairs"] if pairs else []
    found = {
        "minimal_pairs": accuracies(fitted, tokenizer, asked, section["scoring"]),
        "neighbours": neighbours(fitted.arrays(), token_categories(tokenizer, section["source"])),
    }
    artifacts.save_json(out / "probe.json", {"status": "ok", **found}, made)


# ---------------------------------------------------------------- samples


def samples(model: LanguageModel, tokenizer: TextTokenizer, train: Documents, section: Section) -> dict[str, Any]:
    """{texts, ended, length}: as many as the section asks for, or as fit into its number of tokens."""
    settings, documents = section["sampling"], section["documents"]
    length = settings["length"]
    usual = min(length, float(train.lengths.mean())) if documents else length
    count = max(1, min(settings["measured"], int(settings["measured_tokens"] / usual)))
    most, rows = max(1, PROBABILITIES_AT_ONCE // model.vocab_size), []
    for first in range(0, count, most):
        wanted = min(most, count - first)
        seed = settings["seed"] + 1 + first  # the samples that are shown have the seed itself
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
    differ = [_differ(one, other) for (one, _), (other, _) in zip(encoded[::2], encoded[1::2], strict=True)]
    sums = continuations(model, tokenizer, encoded, np.repeat(differ, 2), settings)
    right = 0.5 + 0.5 * np.sign(sums[::2] - sums[1::2])
    kinds = np.array([pair["kind"] for pair in pairs])
    several = {str(kind): right[kinds == kind] for kind in dict.fromkeys(kinds.tolist())}
    counted = {"all": right, **several}
    return {kind: {"accuracy": float(each.mean()), "pairs": len(each)} for kind, each in counted.items()}


def _differ(one: np.ndarray, other: np.ndarray) -> int:
    """The first place where two token sequences differ."""
    shorter = min(len(one), len(other))
    unlike = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(unlike[0]) if len(unlike) else shorter


def continuations(
    model: LanguageModel,
    tokenizer: TextTokenizer,
    encoded: Sequence[tuple[np.ndarray, np.ndarray]],
    places: np.ndarray,
    settings: Section,
) -> np.ndarray:
    """(R,) texts as tokens, (R,) places -> (R,) nats of everything from the place on, given what came before."""
    documents = Documents.of([tokens.tolist() for tokens, _ in encoded])
    starts, ends = documents.starts[:-1], documents.starts[1:]
    firsts = starts + places
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
    """Token -> its category: of letters where most tokens are single signs, else of the grammar's words."""
    spelled = {token: tokenizer.decode([token]) for token in range(1, tokenizer.vocab_size)}
    single = [text for text in spelled.values() if len(text) == 1]
    if 2 * len(single) > len(spelled):
        return {token: kind for token, text in spelled.items() if (kind := _letter(text))}
    known = word_categories(source) if source else {}
    return {token: known[text.strip()] for token, text in spelled.items() if text.strip() in known}


def _letter(text: str) -> str | None:
    if len(text) != 1 or not text.isascii() or text.isspace():
        return None
    if not text.isalpha():
        return "digits" if text.isdigit() else "signs"
    return "capitals" if text.isupper() else "vowels" if text in VOWELS else "consonants"


def word_categories(source: str) -> dict[str, str]:
    """Word -> the one category of the grammar that it belongs to, in any form; words of several are left out."""
    found: dict[str, set[str]] = {}
    for category, words in Grammar.load(source).words.items():
        for word in words:
            for text in word.forms.values():
                found.setdefault(text, set()).add(category)
    return {text: categories.pop() for text, categories in found.items() if len(categories) == 1 and text}


def neighbours(arrays: Mapping[str, np.ndarray], categories: Mapping[int, str]) -> dict[str, Any] | None:
    """{share, chance, tokens}: None without an embedding or without two tokens of one category.

    Only tokens with a category are compared; ``chance`` is the share if a neighbour were any other of them.
    """
    embedding = next((arrays[name] for name in EMBEDDINGS if name in arrays), None)
    counts = {kind: list(categories.values()).count(kind) for kind in set(categories.values())}
    if embedding is None or embedding.ndim != 2 or max(counts.values(), default=0) < 2:
        return None
    tokens, kinds = np.array(list(categories)), np.array(list(categories.values()))
    vectors = embedding[tokens].astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    share = float((kinds[alike.argmax(1)] == kinds).mean())
    chance = sum(n * (n - 1) for n in counts.values()) / (len(tokens) * (len(tokens) - 1))
    return {"share": share, "chance": chance, "tokens": len(tokens), "categories": dict(sorted(counts.items()))}
