"""What fitted models hold, laid open: what train counts, what embeddings learnt, where attention looks.

    expected    how often b would follow a, were train drawn by the network: count(a) p(b | a), beside the count itself
    induction   on random tokens said twice, each head's mean weight from a token of the second time to the one after
                it in the first, the best head's; and by how much cheaper the second time is   (Olsson et al. 2022)

Only the most frequent tokens are laid open, in the order of the vocabulary. Of an embedding the vectors after training
stand beside those that the same seed began with. Knows a model only as ``LanguageModel``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.analyses import projections
from lmstages.analyses.probing import EMBEDDINGS, token_categories
from lmstages.core import artifacts
from lmstages.core.documents import BOUNDARY, Arrays, Documents
from lmstages.models import storage as model_storage
from lmstages.models.base import Initialised, LanguageModel
from lmstages.tokenizers import TextTokenizer, streams

Found = dict[str, Any]
MOST = 64  # tokens that are laid open
PASSAGE = 24  # tokens of the attention maps
ROWS = 16  # random sequences of the induction score
AT_ONCE = 1 << 22  # tokens counted at a time
DIGITS = 4
SPELLED = {" ": "␣", "\n": "↵", "\t": "⇥", "": "¶"}
LETTERS = ("vowels", "consonants")


def inspect(tokens: Path, out: Path, section: Mapping[str, Any], made: artifacts.Made) -> None:
    """Write ``inspection.json``, what is drawn, and ``inspection.safetensors``, all numbers behind it.

    ``section``: cells [model, seed], which lie beside the folder of tokens, and the split of the passage.
    """
    tokenizer, train = streams.read_tokenizer(tokens), streams.read_tokens(tokens, "train")[0]
    frequent, arrays = Counts.of(train, tokenizer), Arrays()
    arrays["counts"] = frequent.pairs
    passage = streams.read_tokens(tokens, section["split"])[0].tokens[:PASSAGE].astype(np.int64)
    kinds, models = token_categories(tokenizer, None), {}
    for name, seed in section["cells"]:
        cell = tokens.parent / name / f"seed{seed}"
        if artifacts.load_json(cell / "fit.json")["status"] != "ok":
            continue
        model = model_storage.load_model(cell / "model.safetensors")
        models[name], more = laid_open(model, seed, frequent, kinds, passage, tokenizer)
        arrays |= {f"{name}.{key}": array for key, array in more.items()}
    told = {"labels": frequent.labels, "unigrams": frequent.single.tolist(), "bigrams": frequent.pairs.tolist()}
    artifacts.save_arrays(out / "inspection.safetensors", arrays, {}, made)
    artifacts.save_json(out / "inspection.json", {**told, "models": models}, made)


# ---------------------------------------------------------------- counts


class Counts:
    """How often the K most frequent tokens come in train, and after one another."""

    def __init__(self, shown: np.ndarray, labels: list[str], single: np.ndarray, before: np.ndarray, pairs: np.ndarray):
        self.shown, self.labels, self.single, self.before, self.pairs = shown, labels, single, before, pairs

    @classmethod
    def of(cls, train: Documents, tokenizer: TextTokenizer) -> "Counts":
        """(N,) tokens -> K of them, in the order of the vocabulary; what precedes a document is the boundary."""
        size, single = tokenizer.vocab_size, np.zeros(tokenizer.vocab_size, dtype=np.int64)
        for first in range(0, len(train), AT_ONCE):
            single += np.bincount(train.tokens[first : first + AT_ONCE], minlength=size)
        ranked = np.argsort(-single, kind="stable")
        shown = np.sort(ranked[(single[ranked] > 0) & (ranked != tokenizer.escape)][:MOST])
        pairs, before = _pairs(train, shown, size)
        labels = [spelled(tokenizer, token) for token in shown.tolist()]
        return cls(shown, labels, single[shown], before[shown], pairs)


def _pairs(train: Documents, shown: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, K) how often one shown token follows another, (V,) how often each stands before any."""
    width, place = len(shown), np.full(size, -1)
    place[shown] = np.arange(width)
    pairs, before = np.zeros(width * width, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for first in range(0, len(train), AT_ONCE):
        tokens = train.tokens[first : first + AT_ONCE].astype(np.int64)
        earlier = np.concatenate([[train.tokens[first - 1] if first else BOUNDARY], tokens[:-1]])
        starts = train.starts[:-1] - first
        earlier[starts[(starts >= 0) & (starts < len(tokens))]] = BOUNDARY
        before += np.bincount(earlier, minlength=size)
        row, column = place[earlier], place[tokens]
        known = (row >= 0) & (column >= 0)
        pairs += np.bincount(row[known] * width + column[known], minlength=width * width)
    return pairs.reshape(width, width), before


def spelled(tokenizer: TextTokenizer, token: int) -> str:
    """A token as a label of one line: spaces, line ends and a boundary without text can be seen."""
    text = tokenizer.decode([token])
    return SPELLED.get(text, text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥"))


# ---------------------------------------------------------------- one model


def laid_open(
    model: LanguageModel,
    seed: int,
    frequent: Counts,
    kinds: Mapping[int, str],
    passage: np.ndarray,
    tokenizer: TextTokenizer,
) -> tuple[Found, Arrays]:
    """What is drawn of one model, None for what it does not have; and the numbers behind it."""
    found: Found = {"type": model.config.name, "expected": None, "attention": None, "induction": None}
    arrays = Arrays()
    if model.config.context == 1 and model.config.family == "neural":
        arrays["probabilities"] = np.exp(model.next_log_probs(frequent.shown[:, None]))[:, frequent.shown]
        found["expected"] = _rounded(frequent.before[:, None] * arrays["probabilities"])
    found["embedding"], more = embedding(model, seed, frequent, kinds)
    if attends(model):
        maps, scores = attention_of(model, passage), induction_of(model, tokenizer.escape)
        labels = [spelled(tokenizer, token) for token in (BOUNDARY, *passage[: maps.shape[-1] - 1].tolist())]
        found |= {"attention": {"labels": labels, "weights": _rounded(maps, 3)}, "induction": scores}
        arrays["attention"] = maps
    return found, arrays | more


def _rounded(array: np.ndarray, digits: int = DIGITS) -> list[Any]:
    told: list[Any] = np.round(array.astype(np.float64), digits).tolist()
    return told


def embedding(
    model: LanguageModel, seed: int, frequent: Counts, kinds: Mapping[int, str]
) -> tuple[Found | None, Arrays]:
    """Cosines and principal components of all shown tokens, and the small letters before and after training."""
    name = next((name for name in EMBEDDINGS if name in model.arrays()), None)
    if name is None or not isinstance(model, Initialised):
        return None, {}
    both = {"initial": model.initial(seed)[name], "trained": model.arrays()[name]}
    vectors = both["trained"][frequent.shown].astype(np.float64)
    points, shares = projections.principal(vectors)
    found: Found = {"width": vectors.shape[1], "cosines": _rounded(projections.cosines(vectors), 3)}
    found["kinds"] = [kinds.get(token, "others") for token in frequent.shown.tolist()]
    found["principal"] = {"points": _rounded(points), "shares": _rounded(np.array(shares))}
    found["letters"] = _letters(both, frequent, found["kinds"])
    return found, {"embedding": both["trained"], "embedding.initial": both["initial"]}


def _letters(both: Mapping[str, np.ndarray], frequent: Counts, kinds: list[str]) -> Found | None:
    """Small letters by t-SNE, and how well vowels and consonants stand apart; None with fewer than two of either."""
    places = [place for place, kind in enumerate(kinds) if kind in LETTERS]
    if min(kinds.count(kind) for kind in LETTERS) < 2:
        return None
    groups, tokens = np.array([kinds[place] for place in places]), frequent.shown[places]
    found: Found = {"labels": [frequent.labels[place] for place in places], "kinds": groups.tolist()}
    found["points"] = {when: _rounded(projections.neighbourly(each[tokens])) for when, each in both.items()}
    found["silhouettes"] = {when: projections.silhouette(each[tokens], groups) for when, each in both.items()}
    return found


# ---------------------------------------------------------------- attention


def attends(model: LanguageModel) -> bool:
    """Whether it has heads that look back over a window."""
    return hasattr(model.config, "heads") and model.config.family == "neural" and (model.config.context or 0) > 3


def attention_of(model: LanguageModel, passage: np.ndarray) -> np.ndarray:
    """(T,) -> (L, H, T, T), no more tokens than its window holds."""
    from lmstages.models.neural import attention_maps

    found = attention_maps.attention(model, passage[None, : model.config.context])
    assert found is not None, "a model with heads attends"
    return found[0][:, 0]


def induction_of(model: LanguageModel, escape: int | None, seed: int = 0) -> Found:
    """On random tokens said twice: each head's score, the best one's, and nats a token the first and second time."""
    from lmstages.models.neural import attention_maps

    assert model.config.context is not None, "a network with heads has a window"
    period = model.config.context // 2
    allowed = np.array([token for token in range(1, model.vocab_size) if token != escape])
    once = np.random.default_rng(seed).choice(allowed, (ROWS, period))
    found = attention_maps.attention(model, np.concatenate([once, once], axis=1))
    assert found is not None, "a model with heads attends"
    heads = attention_maps.induction(found[0].mean(1), period, begin=1)
    first, second = (-found[1][:, begin + 1 : begin + period].mean() for begin in (0, period))
    places = np.arange(period + 1, 2 * period)
    layer, head = np.unravel_index(heads.argmax(), heads.shape)
    told: Found = {"score": float(heads.max()), "layer": int(layer) + 1, "head": int(head) + 1, "period": period}
    told |= {"by_chance": float((1 / (places + 1)).mean()), "heads": _rounded(heads)}
    return told | {"nats_first": float(first), "nats_second": float(second), "drop": float(first - second)}
