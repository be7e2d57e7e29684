"""What the grammar of an embedded corpus lets one ask of a model: combinations it has not seen, and pairs of texts
that differ in one place, one of them grammatical.

**Combinations** (near transfer). The second word of a couple such as *hedgehogs eat raisins* is ``withheld`` where
train never holds the couple, only its two words with other partners. What counting the couples alone can say of the
second word stands beside it: interpolated Kneser-Ney over (first, second), the reference of how much is lost on a
couple that was not seen.

**Minimal pairs** (Marvin & Linzen 2018; BLiMP, Warstadt et al. 2020). Up to PAIRS of a kind, each from a document of
its own, and kept only if the grammar refuses the second text within what is shown of it:

    agreement   the animals' verb in the other number               The foxes like | likes
    quotes      a closing quotation mark left out, or one too many   "I am Tom," | "I am Tom,
    name        the hero under another hero's name

Knows the embedded grammars and their texts; no token and no model. Only ``fables`` has sentences.
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
from lmstages.corpora.grammar import Grammar, Telling, tellings
from lmstages.corpora.preparation import drawn_sizes, used
from lmstages.corpora.splits import SplitText

PAIRS = 60
SHOWN = 24  # characters after the place where the two texts differ
EARLY = 500  # characters in which a place is looked for, since the grammar reads all before it
FAR = 100  # characters between a name and where it comes back
NUMBERS = [("likes", "like"), ("eats", "eat"), ("dines", "dine"), ("lives", "live"), ("was", "were"), ("has", "have")]
OTHER_NUMBER = {one: other for pair in NUMBERS for one, other in (pair, pair[::-1])}
VERB = "|".join(OTHER_NUMBER)
Contrast = tuple[str, str]
Maker = Callable[[Telling, Random, Sequence[Telling]], Contrast | None]


def write(corpus: Any, text: Path, splits: Sequence[str], out: Path, made: artifacts.Made) -> None:
    """``corpus``: a record of the config whose text is drawn. ``pairs`` is empty where the grammar has no sentences."""
    train, valid, test = drawn_sizes(corpus)
    read = tellings(corpus.source, used(train, corpus), corpus.seed, "withheld")
    held_out = tellings(corpus.source, valid + test, corpus.seed, "allowed")
    known = {telling.text: telling for telling in [*read, *held_out]}
    told = {name: [known[each] for each in SplitText.open(text, name).texts()] for name in splits}
    asked = next((name for name in splits if name != "train"), None)
    grammar = Grammar.load(corpus.source, "allowed")
    counted = Couples(read)
    found = {
        "pairs": minimal_pairs(grammar, told[asked]) if asked and "friend" in grammar.slots else [],
        "combinations": {name: combinations(several) for name, several in told.items()},
        "reference": {name: counted.gap(several) for name, several in told.items()},
    }
    artifacts.save_json(out, found, made)


# ---------------------------------------------------------------- combinations


def combinations(several: Sequence[Telling]) -> list[list[Any]]:
    """Documents -> [document, first character, end, withheld, where its partner was last named] of each couple."""
    return [
        [number, start, end, withheld, partner]
        for number, telling in enumerate(several)
        for start, end, withheld in telling.pairs
        if (partner := _named_before(telling, start)) is not None
    ]


def _named_before(telling: Telling, place: int) -> int | None:
    """Where the first word of the couples, in any form, was said last before ``place``."""
    forms = set(telling.words.get("friend", {}).values())
    found = [match.start() for form in forms for match in re.finditer(rf"\b{form}\b", telling.text[:place])]
    return max(found, default=None)


class Couples:
    """p(second | first) by interpolated Kneser-Ney with one discount, n1 / (n1 + 2 n2), over the couples of train."""

    def __init__(self, train: Sequence[Telling]) -> None:
        self.counts: Counter[tuple[str, str]] = Counter(couple for each in train for couple, _ in couples(each))
        self.totals: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.seconds: Counter[tuple[str, str]] = Counter((_relation(first), second) for first, second in self.counts)
        self.couples: Counter[str] = Counter(_relation(first) for first, _ in self.counts)
        for (first, _), count in self.counts.items():
            self.totals[first] += count
            self.kinds[first] += 1
        once, twice = (sum(count == n for count in self.counts.values()) for n in (1, 2))
        self.discount = once / (once + 2 * twice) if once else 0.5

    def bits(self, first: str, second: str) -> float:
        """Bits of the second word, given the first; the shorter context counts in how many couples it stands."""
        relation = _relation(first)
        lower = self.seconds[relation, second] / self.couples[relation]
        if not self.totals[first]:
            return -math.log2(lower)
        kept = max(self.counts[first, second] - self.discount, 0) / self.totals[first]
        return -math.log2(kept + self.discount * self.kinds[first] / self.totals[first] * lower)

    def gap(self, several: Sequence[Telling]) -> dict[str, float | None]:
        """Mean bits of a second word in couples that train may hold and in withheld ones, and their difference."""
        found: dict[bool, list[float]] = defaultdict(list)
        for telling in several:
            for (first, second), withheld in couples(telling):
                if self.seconds[_relation(first), second]:
                    found[withheld].append(self.bits(first, second))
        seen, unseen = (math.fsum(found[key]) / len(found[key]) if found[key] else None for key in (False, True))
        gap = unseen - seen if seen is not None and unseen is not None else None
        return {"seen_bits": seen, "unseen_bits": unseen, "gap_bits": gap}


def _relation(first: str) -> str:
    """``hedgehog meal`` -> ``meal``."""
    return first.rpartition(" ")[2]


def couples(telling: Telling) -> Iterator[tuple[tuple[str, str], bool]]:
    """((first word and its relation, second word), withheld): what an animal eats apart from where it lives."""
    for start, end, withheld in telling.pairs:
        second = telling.text[start:end]
        relation = next(variable for variable, forms in telling.words.items() if forms[""] == second)
        yield (f"{telling.words['friend']['']} {relation}", second), withheld


# ---------------------------------------------------------------- minimal pairs


def minimal_pairs(grammar: Grammar, several: Sequence[Telling], most: int = PAIRS) -> list[dict[str, str]]:
    """Documents -> {kind, good, bad}: both texts from the document's beginning to a little after they differ."""
    found = []
    for kind, maker in MAKERS.items():
        random, count = Random(f"contrasts/{kind}"), 0
        for telling in several:
            contrast = maker(telling, random, several) if count < most else None
            if contrast and refused(grammar, contrast[1]):
                found.append({"kind": kind, "good": contrast[0], "bad": contrast[1]})
                count += 1
    return found


def refused(grammar: Grammar, beginning: str) -> bool:
    """Whether no document of the grammar begins so."""
    return bool(math.isinf(grammar.score(beginning)[: len(beginning)].min()))


def agreement(telling: Telling, random: Random, _: Sequence[Telling]) -> Contrast | None:
    """The animals' verb in the other number."""
    friend, number = telling.words["friend"], telling.words["number"][""]
    found = list(re.finditer(rf"\b[Tt]he {friend[number]} ({VERB})\b", telling.text[:EARLY]))
    if not found:
        return None
    match = random.choice(found)
    return _shown(telling.text, *match.span(1), OTHER_NUMBER[match[1]])


def quotes(telling: Telling, random: Random, _: Sequence[Telling]) -> Contrast | None:
    """Half of the time a closing mark is left out, else one is set where none is open: length favours neither."""
    marks = [match.start() for match in re.finditer('"', telling.text[:EARLY])]
    if random.random() < 0.5:
        return _shown(telling.text, (at := random.choice(marks[1::2])), at + 1, "") if marks[1:] else None
    spoken = list(zip(marks[::2], marks[1::2], strict=False))
    ends = [match.start() + 1 for match in re.finditer(r"\. ", telling.text[: marks[-1]])] if marks[1:] else []
    outside = [at for at in ends if not any(start < at <= end for start, end in spoken)]
    return _shown(telling.text, (at := random.choice(outside)), at, '"') if outside else None


def name(telling: Telling, random: Random, several: Sequence[Telling]) -> Contrast | None:
    """The hero, long after the last mention, under the name of another hero of the same gender and as many letters."""
    hero, gender = telling.words["hero"][""], telling.words["who"][""]
    named = {each.words["hero"][""] for each in several if each.words["who"][""] == gender}
    others = sorted(each for each in named if each != hero and len(each) == len(hero))
    places = [match.start() for match in re.finditer(rf"\b{hero}\b", telling.text)]
    far = [at for before, at in pairwise(places) if at - before >= FAR]
    if not others or not far:
        return None
    at = random.choice(far)
    return _shown(telling.text, at, at + len(hero), random.choice(others))


MAKERS: dict[str, Maker] = {"agreement": agreement, "quotes": quotes, "name": name}


def _shown(text: str, start: int, end: int, instead: str) -> Contrast:
    """The text with and without another piece in place of [start, end), as far as is shown."""
    after = text[end : end + SHOWN]
    return text[:end] + after, text[:start] + instead + after
