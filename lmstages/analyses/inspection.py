"""Inspects fitted models: bigram counts of train, embeddings before and after training, attention maps, facts.

    expected    expected count of b after a if the network generated train: count(a) p(b | a), beside the actual count
    induction   on a repeated random sequence, each head's mean attention weight from a token of the repetition to the
                token after its first occurrence; and the drop in nats at the repetition   (Olsson et al. 2022)
    tracing     what facts of the stories of an embedded corpus are worth, and which states hold them: see ``tracing``

Only the most frequent tokens are inspected, in the order of the vocabulary. Embeddings after training are compared
with their initial values of the same seed. Uses a model only as ``LanguageModel``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.analyses import projections, tracing
from lmstages.analyses.probing import EMBEDDINGS, token_categories
from lmstages.config.hyperparameters.diffusion import Diffusion
from lmstages.config.sections import Corpus, from_section
from lmstages.core import artifacts
from lmstages.core.documents import BOUNDARY, Arrays, Documents
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.models.base import Initialised, LanguageModel
from lmstages.tokenizers import TextTokenizer, streams

Facts = dict[str, Any]
MAX_TOKENS = 64  # most frequent tokens that are inspected
PASSAGE = 24  # tokens of the attention maps
ROWS = 16  # random sequences of the induction score
CHUNK = 1 << 22  # tokens counted in one step
DIGITS = 4
SPELLED = {" ": "␣", "\n": "↵", "\t": "⇥", "": "¶"}
LETTERS = ("vowels", "consonants")


def inspect(tokens: Path, out: Path, section: Mapping[str, Any], made: artifacts.Made) -> None:
    """Write ``inspection.json``, the data of the figures, and ``inspection.safetensors``, the complete arrays.

    ``section``: experiments [model, seed], whose folders are beside the folder of tokens, the split of the passage,
    and of an embedded corpus its record.
    """
    if streams.failure_of(tokens):
        artifacts.save_arrays(out / "inspection.safetensors", {}, {}, made)
        artifacts.save_json(out / "inspection.json", {"labels": [], "unigrams": [], "bigrams": [], "models": {}}, made)
        return
    tokenizer, train = streams.read_tokenizer(tokens), streams.read_documents(tokens, "train")
    frequent, arrays = Counts.of(train, tokenizer), Arrays()
    arrays["counts"] = frequent.pairs
    held_out = streams.read_documents(tokens, section["split"])
    passage = held_out.tokens[:PASSAGE].astype(np.int64)
    facts_asked = _facts_asked(tokenizer, held_out, section)
    categories, models = token_categories(tokenizer, None), {}
    for name, seed in section["experiments"]:
        folder = tokens.parent / name / f"seed{seed}"
        if facts_of_fit(folder / "model.safetensors", tokens)["status"] != "ok":
            continue
        model, _ = load_fitted(folder / "model.safetensors", tokens)
        models[name], more = inspect_model(model, seed, frequent, categories, passage, tokenizer)
        models[name]["tracing"], traced = tracing.trace(model, facts_asked)
        arrays |= {f"{name}.{key}": array for key, array in (more | traced).items()}
    facts = {"labels": frequent.labels, "unigrams": frequent.single.tolist(), "bigrams": frequent.pairs.tolist()}
    artifacts.save_arrays(out / "inspection.safetensors", arrays, {}, made)
    artifacts.save_json(out / "inspection.json", {**facts, "models": models}, made)


def _facts_asked(tokenizer: TextTokenizer, held_out: Documents, section: Mapping[str, Any]) -> tracing.Rows | None:
    """Rows of held-out text that recall a fact, where a grammar knows of any."""
    if section.get("corpus") is None:
        return None
    return tracing.rows_of(tokenizer, held_out, section["split"], from_section(Corpus, section["corpus"]))


# ---------------------------------------------------------------- counts


class Counts:
    """Counts in train of the K most frequent tokens, of pairs of them, and of each before any token."""

    def __init__(self, shown: np.ndarray, labels: list[str], single: np.ndarray, before: np.ndarray, pairs: np.ndarray):
        self.shown, self.labels, self.single, self.before, self.pairs = shown, labels, single, before, pairs

    @classmethod
    def of(cls, train: Documents, tokenizer: TextTokenizer) -> "Counts":
        """Counts of a token stream; the boundary precedes each document, and the escape is left out."""
        size, single = tokenizer.vocab_size, np.zeros(tokenizer.vocab_size, dtype=np.int64)
        for first in range(0, len(train), CHUNK):
            single += np.bincount(train.tokens[first : first + CHUNK], minlength=size)
        ranked = np.argsort(-single, kind="stable")
        shown = np.sort(ranked[(single[ranked] > 0) & (ranked != tokenizer.escape)][:MAX_TOKENS])
        pairs, before = _pairs(train, shown, size)
        labels = [spelled(tokenizer, token) for token in shown.tolist()]
        return cls(shown, labels, single[shown], before[shown], pairs)


def _pairs(train: Documents, shown: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, K) counts of adjacent shown tokens, (V,) counts of each token before any other."""
    width, index = len(shown), np.full(size, -1)
    index[shown] = np.arange(width)
    pairs, before = np.zeros(width * width, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for first in range(0, len(train), CHUNK):
        tokens = train.tokens[first : first + CHUNK].astype(np.int64)
        earlier = np.concatenate([[train.tokens[first - 1] if first else BOUNDARY], tokens[:-1]])
        starts = train.starts[:-1] - first
        earlier[starts[(starts >= 0) & (starts < len(tokens))]] = BOUNDARY
        before += np.bincount(earlier, minlength=size)
        row, column = index[earlier], index[tokens]
        shown_pairs = (row >= 0) & (column >= 0)
        pairs += np.bincount(row[shown_pairs] * width + column[shown_pairs], minlength=width * width)
    return pairs.reshape(width, width), before


def spelled(tokenizer: TextTokenizer, token: int) -> str:
    """A token as a label on one line, with visible spaces, line ends and boundary."""
    text = tokenizer.decode([token])
    return SPELLED.get(text, text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥"))


# ---------------------------------------------------------------- one model


def inspect_model(
    model: LanguageModel,
    seed: int,
    frequent: Counts,
    categories: Mapping[int, str],
    passage: np.ndarray,
    tokenizer: TextTokenizer,
) -> tuple[Facts, Arrays]:
    """The data of the figures of one model, None for parts it does not have; and the complete arrays."""
    facts: Facts = {"type": model.config.name, "expected": None, "attention": None, "induction": None}
    arrays = Arrays()
    if model.config.context == 1 and model.config.family == "neural":
        arrays["probabilities"] = np.exp(model.next_log_probs(frequent.shown[:, None]))[:, frequent.shown]
        facts["expected"] = _rounded(frequent.before[:, None] * arrays["probabilities"])
    facts["embedding"], more = embedding(model, seed, frequent, categories)
    if attends(model):
        maps, scores = attention_of(model, passage), induction_of(model, tokenizer.escape)
        labels = [spelled(tokenizer, token) for token in (BOUNDARY, *passage[: maps.shape[-1] - 1].tolist())]
        facts |= {"attention": {"labels": labels, "weights": _rounded(maps, 3)}, "induction": scores}
        arrays["attention"] = maps
    return facts, arrays | more


def _rounded(array: np.ndarray, digits: int = DIGITS) -> list[Any]:
    rounded: list[Any] = np.round(array.astype(np.float64), digits).tolist()
    return rounded


def embedding(
    model: LanguageModel, seed: int, frequent: Counts, categories: Mapping[int, str]
) -> tuple[Facts | None, Arrays]:
    """Cosines and principal components of the shown tokens; lower-case letters before and after training."""
    name = next((name for name in EMBEDDINGS if name in model.arrays()), None)
    if name is None or not isinstance(model, Initialised):
        return None, {}
    both = {"initial": model.initial(seed)[name], "trained": model.arrays()[name]}
    vectors = both["trained"][frequent.shown].astype(np.float64)
    points, variances = projections.principal(vectors)
    facts: Facts = {"width": vectors.shape[1], "cosines": _rounded(projections.cosines(vectors), 3)}
    facts["kinds"] = [categories.get(token, "others") for token in frequent.shown.tolist()]
    facts["principal"] = {"points": _rounded(points), "shares": _rounded(np.array(variances))}
    facts["letters"] = _letters(both, frequent, facts["kinds"])
    return facts, {"embedding": both["trained"], "embedding.initial": both["initial"]}


def _letters(both: Mapping[str, np.ndarray], frequent: Counts, categories: list[str]) -> Facts | None:
    """Lower-case letters by t-SNE, and the silhouettes of vowels and consonants; None with fewer than two of either."""
    indices = [index for index, category in enumerate(categories) if category in LETTERS]
    if min(categories.count(category) for category in LETTERS) < 2:
        return None
    groups, tokens = np.array([categories[index] for index in indices]), frequent.shown[indices]
    facts: Facts = {"labels": [frequent.labels[index] for index in indices], "kinds": groups.tolist()}
    facts["points"] = {when: _rounded(projections.tsne(vectors[tokens])) for when, vectors in both.items()}
    facts["silhouettes"] = {when: projections.silhouette(vectors[tokens], groups) for when, vectors in both.items()}
    return facts


# ---------------------------------------------------------------- attention


def attends(model: LanguageModel) -> bool:
    """Whether the model is a network with attention heads that look at earlier tokens alone."""
    if isinstance(model.config, Diffusion):
        return False
    return hasattr(model.config, "heads") and model.config.family == "neural" and (model.config.context or 0) > 3


def attention_of(model: LanguageModel, passage: np.ndarray) -> np.ndarray:
    """Attention weights on a passage: (T,) -> (L, H, T, T), at most as many tokens as its context."""
    from lmstages.models.neural import attention_maps

    maps = attention_maps.attention(model, passage[None, : model.config.context])
    assert maps is not None, "a model with heads attends"
    return maps[0][:, 0]


def induction_of(model: LanguageModel, escape: int | None, seed: int = 0) -> Facts:
    """On a repeated random sequence: each head's induction score, the best head, and nats per token of both halves."""
    from lmstages.models.neural import attention_maps

    assert model.config.context is not None, "a network with heads has a window"
    period = model.config.context // 2
    allowed = np.array([token for token in range(1, model.vocab_size) if token != escape])
    once = np.random.default_rng(seed).choice(allowed, (ROWS, period))
    maps = attention_maps.attention(model, np.concatenate([once, once], axis=1))
    assert maps is not None, "a model with heads attends"
    heads = attention_maps.induction(maps[0].mean(1), period, begin=1)
    first, second = (-maps[1][:, begin + 1 : begin + period].mean() for begin in (0, period))
    indices = np.arange(period + 1, 2 * period)
    layer, head = np.unravel_index(heads.argmax(), heads.shape)
    facts: Facts = {"score": float(heads.max()), "layer": int(layer) + 1, "head": int(head) + 1, "period": period}
    facts |= {"by_chance": float((1 / (indices + 1)).mean()), "heads": _rounded(heads)}
    return facts | {"nats_first": float(first), "nats_second": float(second), "drop": float(first - second)}
