"""Novelty and diversity of samples: how much of a model's text is new, varied, or copied from train.

    in_train, in_test   fraction of samples that are a document there; a truncated sample must begin a document (in a
                        stream: occur anywhere). new: in neither
    distinct_n          distinct n-grams / all n-grams (Li et al. 2016), of words, or characters for texts of one word
    longest_copy        length of the longest substring of a sample that occurs in train, characters
    found               fraction of the distinct test documents absent from train that occur among the samples
    accepted            fraction of samples that the grammar can generate; of truncated ones, as a prefix
    code_length         bits per character under the grammar, up to the first refused character

Each measure is also computed for held-out text: as many documents, truncated to the same length. Of a long train only
a part, ``searched``, is searched for copies, and in a stream for whole samples: see ``copies``.
Knows texts and grammars; no model and no token.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lmstages.analyses.copies import MAX_TRAIN, Train, occurrences
from lmstages.corpora.grammar import Grammar

MAX_COPY = 1024  # characters; longer copies count as this
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
ORDERS = (1, 2, 3)
GRAMMATICAL = 6000  # characters of samples that the grammar scores, which is slow


Sample = tuple[Sequence[str], Sequence[bool]]  # texts, and whether each ended before the length limit


class Reference:
    """The texts with which samples are compared: train, and as many held-out documents as there are samples.

    Train is searched once, for all ``samples`` that are measured later.
    """

    def __init__(
        self, train: Train, test: Sequence[str], source: str | None, samples: Sequence[Sample], most: int = MAX_TRAIN
    ) -> None:
        self.stream, self.test = train.stream, list(test)
        self.index, self.grammar = TextIndex(self.test, self.stream), Grammar.load(source) if source else None
        self.figures: dict[tuple[int, int], dict[str, Any]] = {}
        pairs = [pair for texts, ended in samples for pair in zip(texts, ended, strict=True)]
        held_out = [text for key in {_key(*sample) for sample in samples} for text in self._held_out(*key)]
        whole = [] if self.stream else [*self.test, *(text for text, complete in pairs if complete)]
        begun = [] if self.stream else [text for text, complete in pairs if not complete]
        self.train = occurrences(train, whole, begun, [*held_out, *(text for text, _ in pairs)], most)
        self.unseen = set() if self.stream else set(self.test) - self.train.documents

    def is_in_train(self, text: str, ended: bool) -> bool:
        """Whether it is a document or, not ``ended``, begins one; in a stream, whether it occurs anywhere."""
        if self.stream:
            return self.train.longest[text] == len(text)
        return text in (self.train.documents if ended else self.train.beginnings)

    def measure(self, texts: Sequence[str], ended: Sequence[bool]) -> dict[str, Any]:
        """Samples, and whether each ended before the length limit -> the measures of the module."""
        samples = list(zip(texts, ended, strict=True))
        in_train = [self.is_in_train(text, complete) for text, complete in samples]
        in_test = [self.index.contains(text, complete) for text, complete in samples]
        new = [not (train or test) for train, test in zip(in_train, in_test, strict=True)]
        held_out = self._of_held_out(*_key(texts, ended))
        generated = self.unseen.intersection(text for text, complete in samples if complete)
        return {
            "samples": len(texts),
            "characters": sum(map(len, texts)),
            "ended": _mean(ended),
            "in_train": _mean(in_train),
            "in_test": _mean(in_test),
            "new": _mean(new),
            "found": len(generated) / len(self.unseen) if self.unseen else None,
            "searched": self.train.searched,
            **self._figures(texts),
            **{f"{name}_of_test": value for name, value in held_out.items()},
            **grammatical(self.grammar, texts, ended),
        }

    def _figures(self, texts: Sequence[str]) -> dict[str, Any]:
        """The measures of both samples and held-out text."""
        copies = [min(self.train.longest[text], MAX_COPY) for text in texts]
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


def _key(texts: Sequence[str], ended: Sequence[bool]) -> tuple[int, int | None]:
    """How many samples there are, and the median length of the truncated ones, to which held-out text is cut."""
    unfinished = [len(text) for text, complete in zip(texts, ended, strict=True) if not complete]
    return len(texts), sorted(unfinished)[len(unfinished) // 2] if unfinished else None


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
