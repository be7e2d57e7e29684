"""Samples, measured: how much of a model's text is new, how varied it is, and how much of it is copied.

    in_train, in_test   share of samples that stand there whole; one that was cut off must begin a document (or, of a
                        stream, stand anywhere). new: in neither
    distinct_n          different n-grams of words / all of them (Li et al. 2016); of characters, for texts of one word
    longest_copy        the longest piece of a sample that stands in train, in characters
    found               share of the different test documents that train lacks which stand among the samples
    accepted            share of samples that the grammar may write; one that was cut off, that it may begin so
    code_length         bits a character under the grammar, as far as it accepts

Every figure of samples stands beside that of test text of like length: as many documents, cut at the same length.
Knows texts and, where it is given one, a grammar; never a model or a token.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from lmstages.corpora.grammar import Grammar
from lmstages.corpora.overlap import code_points

LONGEST = 1 << 24  # characters of train that copies are looked for in
COPY = 1024  # characters; a longer copy counts as this
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
ORDERS = (1, 2, 3)
GRAMMATICAL = 6000  # characters of samples that are read by the grammar, which takes long


class Suffixes:
    """All suffixes of a text in order, by ranks of prefixes that double in length (Manber & Myers 1993)."""

    def __init__(self, text: str) -> None:
        self.text = text
        ranks = np.unique(code_points(text), return_inverse=True)[1].astype(np.int64)
        order, width = np.argsort(ranks, kind="stable"), 1
        while width < COPY and len(text) and ranks[order[-1]] < len(text) - 1:
            after = np.zeros(len(text), dtype=np.int64)
            after[: max(len(text) - width, 0)] = ranks[width:] + 1
            keys = ranks * (len(text) + 1) + after
            order = np.argsort(keys, kind="stable")
            ranks = np.empty(len(text), dtype=np.int64)
            ranks[order] = np.concatenate([[0], np.cumsum(np.diff(keys[order]) != 0)])
            width *= 2
        self.order: list[int] = order.tolist()

    def longest_copy(self, text: str) -> int:
        """How many characters the longest piece of ``text`` has that stands here, ``COPY`` at most."""
        longest = 0
        for start in range(len(text)):
            if len(text) - start <= longest:
                break
            piece = text[start : start + COPY]
            at = bisect_left(self.order, piece, key=lambda place: self.text[place : place + COPY])
            for neighbour in self.order[max(at - 1, 0) : at + 1]:
                longest = max(longest, shared_prefix(piece, self.text[neighbour : neighbour + COPY]))
        return longest


def shared_prefix(one: str, other: str) -> int:
    """How many first characters two texts share."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


class Reference:
    """The text that samples are measured against: train, and as many held-out documents as there are samples."""

    def __init__(self, train: Sequence[str], test: Sequence[str], source: str | None, stream: bool) -> None:
        self.stream, self.train, self.test = stream, list(train), list(test)
        self.known = {"train": Known(self.train, stream), "test": Known(self.test, stream)}
        self.suffixes = Suffixes("\n".join(self.train)[:LONGEST])
        self.grammar = Grammar.load(source) if source else None
        self.unseen = set() if stream else set(self.test) - set(self.train)
        self.figures: dict[tuple[int, int], dict[str, Any]] = {}

    def measure(self, texts: Sequence[str], ended: Sequence[bool]) -> dict[str, Any]:
        """Samples, and whether each ended by itself -> the row's ``novelty``."""
        unfinished = [len(text) for text, whole in zip(texts, ended, strict=True) if not whole]
        cut = sorted(unfinished)[len(unfinished) // 2] if unfinished else None
        places = {
            name: [known.holds(*each) for each in zip(texts, ended, strict=True)] for name, known in self.known.items()
        }
        new = [not (train or test) for train, test in zip(places["train"], places["test"], strict=True)]
        beside = self._beside(len(texts), cut)
        found = self.unseen.intersection(text for text, whole in zip(texts, ended, strict=True) if whole)
        return {
            "samples": len(texts),
            "characters": sum(map(len, texts)),
            "ended": _mean(ended),
            "in_train": _mean(places["train"]),
            "in_test": _mean(places["test"]),
            "new": _mean(new),
            "found": len(found) / len(self.unseen) if self.unseen else None,
            **self._figures(texts),
            **{f"{name}_of_test": value for name, value in beside.items()},
            **self._grammatical(texts, ended),
        }

    def _figures(self, texts: Sequence[str]) -> dict[str, Any]:
        """What samples and test text are both measured by."""
        copies = [self.suffixes.longest_copy(text) for text in texts]
        lengths = np.quantile([len(text) for text in texts], QUANTILES).tolist() if texts else None
        copied = {"mean": _mean(copies), "max": max(copies, default=None)}
        return {**distinct(texts, self.unit), "longest_copy": copied, "length": lengths}

    @property
    def unit(self) -> str:
        """What distinct n-grams are counted of: words, or characters where documents are single words."""
        return "words" if self.stream or any(" " in text for text in self.test[:100]) else "characters"

    def _beside(self, count: int, cut: int | None) -> dict[str, Any]:
        """The figures of ``count`` held-out documents, cut as the samples are."""
        key = count, cut or 0
        if key not in self.figures:
            self.figures[key] = self._figures(self._held_out(count, cut))
        return {name: value for name, value in self.figures[key].items() if name != "unit"}

    def _held_out(self, count: int, cut: int | None) -> list[str]:
        if not self.stream:
            return [text[:cut] for text in self.test[:count]]
        whole, width = "".join(self.test), cut or 1
        return [whole[start : start + width] for start in range(0, min(count * width, len(whole)), width)]

    def _grammatical(self, texts: Sequence[str], ended: Sequence[bool]) -> dict[str, Any]:
        """accepted, accepted_characters (until the grammar refuses, in the mean) and code_length; None without one."""
        names = ("accepted", "accepted_characters", "code_length")
        if self.grammar is None:
            return dict.fromkeys(names)
        some = max(1, int(np.searchsorted(np.cumsum([len(text) for text in texts]), GRAMMATICAL)))
        read = [accepted(self.grammar, *each) for each in list(zip(texts, ended, strict=True))[:some]]
        characters = sum(count for _, count, _ in read)
        bits = sum(bits for _, _, bits in read) / characters if characters else None
        values = (_mean([whole for whole, _, _ in read]), _mean([count for _, count, _ in read]), bits)
        return dict(zip(names, values, strict=True))


class Known:
    """Texts in which samples are looked up."""

    def __init__(self, texts: Sequence[str], stream: bool) -> None:
        self.whole = "".join(texts) if stream else None
        self.documents, self.ordered = set(texts), sorted(texts)

    def holds(self, text: str, ended: bool) -> bool:
        """Whether it is a document, or the beginning of one; in a stream, whether it stands anywhere."""
        if self.whole is not None:
            return text in self.whole
        if ended:
            return text in self.documents
        at = bisect_left(self.ordered, text)
        return at < len(self.ordered) and self.ordered[at].startswith(text)


def distinct(texts: Sequence[str], unit: str) -> dict[str, Any]:
    """{distinct_n: different n-grams / n-grams} over all texts together, and the unit; None where there are none."""
    pieces: list[Sequence[str]] = [text.split() if unit == "words" else text for text in texts]
    found: dict[str, Any] = {}
    for order in ORDERS:
        grams = [tuple(each[at : at + order]) for each in pieces for at in range(len(each) - order + 1)]
        found[f"distinct_{order}"] = len(set(grams)) / len(grams) if grams else None
    return {**found, "unit": unit}


def accepted(grammar: Grammar, text: str, ended: bool) -> tuple[bool, int, float]:
    """Text -> whether the grammar may write it, how many characters of it, and the bits of those."""
    scores = grammar.score(text)
    kept = scores if ended else scores[:-1]
    refused = np.flatnonzero(np.isinf(kept))
    count = int(refused[0]) if len(refused) else len(text)
    return not len(refused), count, float(-scores[:count].sum() / math.log(2))


def _mean(values: Sequence[Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None
