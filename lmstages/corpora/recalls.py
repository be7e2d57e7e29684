"""Facts that a generated document states and recalls, and the same document with another word in their place.

    fact      a word that the document remembers, as a name, a thing or a number
    stated    its last mention before the recall
    recall    the mention after it: what stands there follows from the fact alone
    other     the same document, in which the fact is another word of its kind from the beginning on

Another word has as many letters wherever it is mentioned before the recall, so that both documents agree in length up
to there, and begins with another letter. Knows no token and no model.
"""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from lmstages.corpora.grammar import Choose, Grammar, Item, Recall, Taken, Unseen, Word

TRIES = 100  # words that are drawn to find one that fits


class Fact(NamedTuple):
    """A fact of the variable ``kind``: text[start:end] is its mention before the recall."""

    kind: str
    text: str
    other: str
    start: int
    end: int


class _Mention(NamedTuple):
    """A piece of a document that emits the word of a variable, and where it begins."""

    piece: int
    start: int
    item: Item
    text: str


class Told(NamedTuple):
    """A document with the steps that made it, from which its facts are made where they are asked for."""

    text: str
    steps: Sequence[Taken]
    kinds: Mapping[int, str]

    def facts(self) -> Iterator[Fact]:
        """Every pair of neighbouring mentions for which another word is found; a function of the text alone."""
        random = Random(self.text)
        for slot, (mentions, words) in _mentions(self.steps).items():
            for count in range(1, len(mentions)):
                tried = random.choices(words, k=TRIES)
                word = next((word for word in tried if _is_alike(word, mentions[:count], mentions[count])), None)
                if word is not None:
                    yield _fact(self.kinds[slot], self.steps, mentions, count, word)

    def word_of(self, variable: str) -> str | None:
        """The first form of the word that the document remembers as this variable, if it does."""
        memory = self.steps[-1].memory
        words = [memory[slot] for slot, kind in self.kinds.items() if kind == variable and memory[slot]]
        return words[0].forms[""] if words else None

    def otherwise(self, subject: str, about: str, word: Word) -> Fact | None:
        """The document with another word for ``about``, to which the first mention of ``subject`` leads.

        Its kind is the form of the word that is asked for first. None where no mention would differ.
        """
        mentions = {self.kinds[slot]: same for slot, (same, _) in _mentions(self.steps).items()}
        different = [mention for mention in mentions.get(about, []) if mention.item.spelled(word) != mention.text]
        if subject not in mentions or not different:
            return None
        first, item = mentions[subject][0], different[0].item
        fact = _fact(item.form if isinstance(item, Recall) else "", self.steps, mentions[about], 1, word)
        return fact._replace(start=first.start, end=first.start + len(first.text))


def told(name: str, seed: int, unseen: Unseen) -> Iterator[Told]:
    """The documents of ``generated_documents``, without end."""
    grammar, random = Grammar.load(name, unseen), Random(f"{name}/{seed}/{unseen}")
    kinds = {slot: kind for kind, slot in grammar.slots.items()}
    while True:
        steps = list(grammar.take(random))
        yield Told("".join(step.text for step in steps), steps, kinds)


def _mentions(steps: Sequence[Taken]) -> dict[int, tuple[list[_Mention], list[Word]]]:
    """Of each variable that is said, its mentions in order and the words that it was drawn from."""
    mentions, words, position = dict[int, list[_Mention]](), dict[int, list[Word]](), 0
    for number, step in enumerate(steps):
        slot = step.item.slot
        if slot is not None and isinstance(step.item, Choose):
            words[slot] = step.item.words
        if slot is not None and step.text:
            mentions.setdefault(slot, []).append(_Mention(number, position, step.item, step.text))
        position += len(step.text)
    return {slot: (same, words[slot]) for slot, same in mentions.items()}


def _is_alike(word: Word, before: Sequence[_Mention], recall: _Mention) -> bool:
    """Whether another word takes as much room in all mentions before the recall, begins differently, and is asked for.

    Nothing is asked for where the recall is the same text for both words.
    """
    texts = [mention.item.spelled(word) for mention in before]
    as_long = all(len(text) == len(mention.text) for text, mention in zip(texts, before, strict=True))
    return as_long and texts[-1][0] != before[-1].text[0] and recall.item.spelled(word) != recall.text


def _fact(kind: str, steps: Sequence[Taken], mentions: Sequence[_Mention], count: int, word: Word) -> Fact:
    """The fact that stands in the mention before number ``count``, and its document with another word."""
    texts = [step.text for step in steps]
    text, stated = "".join(texts), mentions[count - 1]
    for mention in mentions:
        texts[mention.piece] = mention.item.spelled(word)
    return Fact(kind, text, "".join(texts), stated.start, stated.start + len(stated.text))
