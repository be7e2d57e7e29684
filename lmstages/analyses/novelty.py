"""Novelty and diversity of samples: how much of a model's text is new, varied, or copied from train.

    in_train, in_test   fraction of samples that are a document there; a truncated sample must begin a document (in a
                        stream: occur anywhere). new: in neither
    distinct_n          distinct n-grams / all n-grams (Li et al. 2016), of words, or characters for texts of one word
    longest_copy        length of the longest substring of a sample that occurs in train, characters
    found               fraction of the distinct test documents absent from train that occur among the samples
    accepted            fraction of samples that the grammar can generate; of truncated ones, as a prefix
    code_length         bits per character under the grammar, up to the first refused character

Each measure is also computed for held-out text: as many documents, truncated to the same length.
Knows texts and grammars; no model and no token.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lmstages.corpora.grammar import Grammar
from lmstages.corpora.overlap import code_points

MAX_TRAIN = 1 << 24  # characters of train that are searched for copies
MAX_COPY = 1024  # characters; longer copies count as this
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
ORDERS = (1, 2, 3)
GRAMMATICAL = 6000  # characters of samples that the grammar scores, which is slow


class Suffixes:
    """Suffix array of a text, built by doubling the length of ranked prefixes (Manber & Myers 1993)."""

    def __init__(self, text: str) -> None:
        self.text = text
        ranks = np.unique(code_points(text), return_inverse=True)[1].astype(np.int64)
        order, width = np.argsort(ranks, kind="stable"), 1
        while width < MAX_COPY and len(text) and ranks[order[-1]] < len(text) - 1:
            after = np.zeros(len(text), dtype=np.int64)
            after[: max(len(text) - width, 0)] = ranks[width:] + 1
            keys = ranks * (len(text) + 1) + after
            order = np.argsort(keys, kind="stable")
            ranks = np.empty(len(text), dtype=np.int64)
            ranks[order] = np.concatenate([[0], np.cumsum(np.diff(keys[order]) != 0)])
            width *= 2
        self.order: list[int] = order.tolist()

    def longest_copy(self, text: str) -> int:
        """Length of the longest substring of ``text`` that occurs here, at most ``MAX_COPY``."""
        longest = 0
        for start in range(len(text)):
            if len(text) - start <= longest:
                break
            piece = text[start : start + MAX_COPY]
            rank = bisect_left(self.order, piece, key=lambda start: self.text[start : start + MAX_COPY])
            for neighbour in self.order[max(rank - 1, 0) : rank + 1]:
                longest = max(longest, shared_prefix(piece, self.text[neighbour : neighbour + MAX_COPY]))
        return longest


def shared_prefix(first: str, second: str) -> int:
    """Length of the common prefix of two texts, by binary search."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[:middle] == second[:middle] else (low, middle - 1)
    return low


class Reference:
    """The text with which samples are compared: train, and as many held-out documents as there are samples."""

    def __init__(self, train: Sequence[str], test: Sequence[str], source: str | None, stream: bool) -> None:
        self.stream, self.train, self.test = stream, list(train), list(test)
        self.indexes = {"train": TextIndex(self.train, stream), "test": TextIndex(self.test, stream)}
        self.suffixes = Suffixes("\n".join(self.train)[:MAX_TRAIN])
        self.grammar = Grammar.load(source) if source else None
        self.unseen = set() if stream else set(self.test) - set(self.train)
        self.figures: dict[tuple[int, int], dict[str, Any]] = {}

    def measure(self, texts: Sequence[str], ended: Sequence[bool]) -> dict[str, Any]:
        """Samples, and whether each ended before the length limit -> the measures of the module."""
        unfinished = [len(text) for text, complete in zip(texts, ended, strict=True) if not complete]
        cut = sorted(unfinished)[len(unfinished) // 2] if unfinished else None
        samples = list(zip(texts, ended, strict=True))
        contained = {
            name: [index.contains(text, complete) for text, complete in samples] for name, index in self.indexes.items()
        }
        new = [not (train or test) for train, test in zip(contained["train"], contained["test"], strict=True)]
        held_out = self._of_held_out(len(texts), cut)
        generated = self.unseen.intersection(text for text, complete in samples if complete)
        return {
            "samples": len(texts),
            "characters": sum(map(len, texts)),
            "ended": _mean(ended),
            "in_train": _mean(contained["train"]),
            "in_test": _mean(contained["test"]),
            "new": _mean(new),
            "found": len(generated) / len(self.unseen) if self.unseen else None,
            **self._figures(texts),
            **{f"{name}_of_test": value for name, value in held_out.items()},
            **grammatical(self.grammar, texts, ended),
        }

    def _figures(self, texts: Sequence[str]) -> dict[str, Any]:
        """The measures of both samples and held-out text."""
        copies = [self.suffixes.longest_copy(text) for text in texts]
        lengths = np.quantile([len(text) for text in texts], QUANTILES).tolist() if texts else None
        copied = {"mean": _mean(copies), "max": max(copies, default=None)}
        return {**distinct(texts, self.unit), "longest_copy": copied, "length": lengths}

    @property
    def unit(self) -> str:
        """The unit of n-grams: words, or characters where documents are single words."""
        return "words" if self.stream or any(" " in text for text in self.test[:100]) else "characters"

    def _of_held_out(self, count: int, cut: int | None) -> dict[str, Any]:
        """The measures of ``count`` held-out documents, truncated to ``cut`` characters."""
        key = count, cut or 0
        if key not in self.figures:
            self.figures[key] = self._figures(self._held_out(count, cut))
        return {name: value for name, value in self.figures[key].items() if name != "unit"}

    def _held_out(self, count: int, cut: int | None) -> list[str]:
        if not self.stream:
            return [text[:cut] for text in self.test[:count]]
        text, width = "".join(self.test), cut or 1
        return [text[start : start + width] for start in range(0, min(count * width, len(text)), width)]


class TextIndex:
    """Looks up samples among documents, or in a stream."""

    def __init__(self, texts: Sequence[str], stream: bool) -> None:
        self.stream = "".join(texts) if stream else None
        self.documents, self.ordered = set(texts), sorted(texts)

    def contains(self, text: str, ended: bool) -> bool:
        """Whether it is a document or, not ``ended``, begins one; in a stream, whether it occurs anywhere."""
        if self.stream is not None:
            return text in self.stream
        if ended:
            return text in self.documents
        index = bisect_left(self.ordered, text)
        return index < len(self.ordered) and self.ordered[index].startswith(text)


def distinct(texts: Sequence[str], unit: str) -> dict[str, Any]:
    """{distinct_n: distinct n-grams / n-grams} over all texts, and the unit; None where there are no n-grams."""
    fractions: dict[str, Any] = {}
    for order in ORDERS:
        grams = [*ngrams(texts, unit, order)]
        fractions[f"distinct_{order}"] = len(set(grams)) / len(grams) if grams else None
    return {**fractions, "unit": unit}


def ngrams(texts: Iterable[str], unit: str, order: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of each text, of words or characters; none across two texts."""
    for text in texts:
        row: Sequence[str] = text.split() if unit == "words" else text
        yield from zip(*(row[start:] for start in range(order)), strict=False)


def grammatical(grammar: Grammar | None, texts: Sequence[str], ended: Sequence[bool]) -> dict[str, Any]:
    """accepted, accepted_characters (mean number before a refused one) and code_length; None without a grammar."""
    names = ("accepted", "accepted_characters", "code_length")
    if grammar is None:
        return dict.fromkeys(names)
    limit = max(1, int(np.searchsorted(np.cumsum([len(text) for text in texts]), GRAMMATICAL)))
    samples = list(zip(texts, ended, strict=True))[:limit]
    results = [accepted(grammar, text, complete) for text, complete in samples]
    characters = sum(count for _, count, _ in results)
    bits = sum(bits for _, _, bits in results) / characters if characters else None
    values = (_mean([complete for complete, _, _ in results]), _mean([count for _, count, _ in results]), bits)
    return dict(zip(names, values, strict=True))


def accepted(grammar: Grammar, text: str, ended: bool) -> tuple[bool, int, float]:
    """Whether the grammar can generate the text (its prefix if not ``ended``), how many characters, their bits."""
    scores = grammar.score(text)
    kept = scores if ended else scores[:-1]
    refused = np.flatnonzero(np.isinf(kept))
    count = int(refused[0]) if len(refused) else len(text)
    return not len(refused), count, float(-scores[:count].sum() / math.log(2))


def _mean(values: Sequence[Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None
