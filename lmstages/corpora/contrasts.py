"""Probes from the grammar of an embedded corpus: combinations of words absent from train, and minimal pairs.

**Combinations** (compositional generalisation). The second word of a couple such as *hedgehogs eat raisins* is
``withheld`` where train never contains the couple, only its two words with other partners. The reference is a model of
the couples alone, interpolated Kneser-Ney over (first, second): how much it loses on couples that it has not seen.

**Minimal pairs** (Marvin & Linzen 2018; BLiMP, Warstadt et al. 2020): two texts that differ at one position, the first
grammatical. Up to PAIRS of each kind, each from another document, kept only if the grammar refuses the second text:

    agreement   the animals' verb in the other number               The foxes like | likes
    quotes      a closing quotation mark left out, or one too many   "I am Tom," | "I am Tom,
    name        the hero under another hero's name

Knows no token and no model. Only ``fables`` has sentences.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from lmstages.core import artifacts
from lmstages.corpora.grammar import GeneratedDocument, Grammar, generated_documents
from lmstages.corpora.preparation import generated_sizes, used_count
from lmstages.corpora.splits import SplitText

PAIRS = 60
SHOWN = 24  # characters after the position where the two texts differ
EARLY = 500  # characters in which that position is searched, since the grammar scores all before it
FAR = 100  # least characters between two mentions of a name
NUMBERS = [("likes", "like"), ("eats", "eat"), ("dines", "dine"), ("lives", "live"), ("was", "were"), ("has", "have")]
OTHER_NUMBER = {verb: other for pair in NUMBERS for verb, other in (pair, pair[::-1])}
VERB = "|".join(OTHER_NUMBER)
Contrast = tuple[str, str]
Maker = Callable[[GeneratedDocument, Random, Sequence[GeneratedDocument]], Contrast | None]


def write(corpus: Any, text: Path, splits: Sequence[str], out: Path, made: artifacts.Made) -> None:
    """Write the probes of an embedded corpus as JSON; ``pairs`` is empty where its grammar has no sentences."""
    train, valid, test = generated_sizes(corpus)
    seen = generated_documents(corpus.source, used_count(train, corpus), corpus.seed, "withheld")
    held_out = generated_documents(corpus.source, valid + test, corpus.seed, "allowed")
    by_text = {document.text: document for document in [*seen, *held_out]}
    by_split = {name: [by_text[content] for content in SplitText.open(text, name).texts()] for name in splits}
    split = next((name for name in splits if name != "train"), None)
    grammar = Grammar.load(corpus.source, "allowed")
    couple_model = CoupleModel(seen)
    probes = {
        "pairs": minimal_pairs(grammar, by_split[split]) if split and "friend" in grammar.slots else [],
        "combinations": {name: combinations(documents) for name, documents in by_split.items()},
        "reference": {name: couple_model.gap(documents) for name, documents in by_split.items()},
    }
    artifacts.save_json(out, probes, made)


# ---------------------------------------------------------------- combinations


def combinations(documents: Sequence[GeneratedDocument]) -> list[list[Any]]:
    """Documents -> [document, begin, end, withheld, begin of the partner's last mention] of each second word."""
    return [
        [number, start, end, withheld, partner]
        for number, document in enumerate(documents)
        for start, end, withheld in document.pairs
        if (partner := _last_mention(document, start)) is not None
    ]


def _last_mention(document: GeneratedDocument, position: int) -> int | None:
    """Begin of the last mention, in any form, of the couples' first word before ``position``."""
    forms = set(document.words.get("friend", {}).values())
    mentions = [match.start() for form in forms for match in re.finditer(rf"\b{form}\b", document.text[:position])]
    return max(mentions, default=None)


class CoupleModel:
    """p(second | first) by interpolated Kneser-Ney with one discount, n1 / (n1 + 2 n2), over the couples of train."""

    def __init__(self, train: Sequence[GeneratedDocument]) -> None:
        self.counts: Counter[tuple[str, str]] = Counter(couple for document in train for couple, _ in couples(document))
        self.totals: Counter[str] = Counter()
        self.distinct_seconds: Counter[str] = Counter()
        self.seconds: Counter[tuple[str, str]] = Counter((_relation(first), second) for first, second in self.counts)
        self.couples: Counter[str] = Counter(_relation(first) for first, _ in self.counts)
        for (first, _), count in self.counts.items():
            self.totals[first] += count
            self.distinct_seconds[first] += 1
        once, twice = (sum(count == n for count in self.counts.values()) for n in (1, 2))
        self.discount = once / (once + 2 * twice) if once else 0.5

    def bits(self, first: str, second: str) -> float:
        """Bits of the second word given the first; the lower order counts the couples in which a second word occurs."""
        relation = _relation(first)
        lower = self.seconds[relation, second] / self.couples[relation]
        if not self.totals[first]:
            return -math.log2(lower)
        kept = max(self.counts[first, second] - self.discount, 0) / self.totals[first]
        return -math.log2(kept + self.discount * self.distinct_seconds[first] / self.totals[first] * lower)

    def gap(self, documents: Sequence[GeneratedDocument]) -> dict[str, float | None]:
        """Mean bits of a second word in couples that train may contain and in withheld ones, and their difference."""
        bits: dict[bool, list[float]] = defaultdict(list)
        for document in documents:
            for (first, second), withheld in couples(document):
                if self.seconds[_relation(first), second]:
                    bits[withheld].append(self.bits(first, second))
        seen, unseen = (math.fsum(bits[key]) / len(bits[key]) if bits[key] else None for key in (False, True))
        gap = unseen - seen if seen is not None and unseen is not None else None
        return {"seen_bits": seen, "unseen_bits": unseen, "gap_bits": gap}


def _relation(first: str) -> str:
    """``hedgehog meal`` -> ``meal``."""
    return first.rpartition(" ")[2]


def couples(document: GeneratedDocument) -> Iterator[tuple[tuple[str, str], bool]]:
    """((first word and relation, second word), withheld); the relation separates its food from its home."""
    for start, end, withheld in document.pairs:
        second = document.text[start:end]
        relation = next(variable for variable, forms in document.words.items() if forms[""] == second)
        yield (f"{document.words['friend']['']} {relation}", second), withheld


# ---------------------------------------------------------------- minimal pairs


def minimal_pairs(grammar: Grammar, documents: Sequence[GeneratedDocument], most: int = PAIRS) -> list[dict[str, str]]:
    """Documents -> {kind, good, bad}: both texts from their beginning to SHOWN characters after they differ."""
    pairs = []
    for kind, maker in MAKERS.items():
        random, count = Random(f"contrasts/{kind}"), 0
        for document in documents:
            contrast = maker(document, random, documents) if count < most else None
            if contrast and refused(grammar, contrast[1]):
                pairs.append({"kind": kind, "good": contrast[0], "bad": contrast[1]})
                count += 1
    return pairs


def refused(grammar: Grammar, beginning: str) -> bool:
    """Whether no document of the grammar has this beginning."""
    return bool(math.isinf(grammar.score(beginning)[: len(beginning)].min()))


def agreement(document: GeneratedDocument, random: Random, _: Sequence[GeneratedDocument]) -> Contrast | None:
    """The animals' verb in the other number."""
    friend, number = document.words["friend"], document.words["number"][""]
    matches = list(re.finditer(rf"\b[Tt]he {friend[number]} ({VERB})\b", document.text[:EARLY]))
    if not matches:
        return None
    match = random.choice(matches)
    return _excerpts(document.text, *match.span(1), OTHER_NUMBER[match[1]])


def quotes(document: GeneratedDocument, random: Random, _: Sequence[GeneratedDocument]) -> Contrast | None:
    """A closing mark removed or, half of the time, one inserted where none is open: length favours neither text."""
    marks = [match.start() for match in re.finditer('"', document.text[:EARLY])]
    if random.random() < 0.5:
        return (
            _excerpts(document.text, (position := random.choice(marks[1::2])), position + 1, "") if marks[1:] else None
        )
    quotations = list(zip(marks[::2], marks[1::2], strict=False))
    ends = [match.start() + 1 for match in re.finditer(r"\. ", document.text[: marks[-1]])] if marks[1:] else []
    outside = [position for position in ends if not any(start < position <= end for start, end in quotations)]
    return _excerpts(document.text, (position := random.choice(outside)), position, '"') if outside else None


def name(document: GeneratedDocument, random: Random, documents: Sequence[GeneratedDocument]) -> Contrast | None:
    """The hero, FAR after the last mention, replaced by a hero of the same gender with as many letters."""
    hero, gender = document.words["hero"][""], document.words["who"][""]
    heroes = {other.words["hero"][""] for other in documents if other.words["who"][""] == gender}
    others = sorted(other for other in heroes if other != hero and len(other) == len(hero))
    mentions = [match.start() for match in re.finditer(rf"\b{hero}\b", document.text)]
    far = [position for before, position in pairwise(mentions) if position - before >= FAR]
    if not others or not far:
        return None
    position = random.choice(far)
    return _excerpts(document.text, position, position + len(hero), random.choice(others))


MAKERS: dict[str, Maker] = {"agreement": agreement, "quotes": quotes, "name": name}


def _excerpts(text: str, start: int, end: int, replacement: str) -> Contrast:
    """The text, and the text with [start, end) replaced, both up to SHOWN characters after it."""
    after = text[end : end + SHOWN]
    return text[:end] + after, text[:start] + replacement + after
