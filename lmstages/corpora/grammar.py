"""Text from a written grammar, and with it the exact probability of every next character.

A document is made by a process with an explicit state: a stack of what is still to be said and a memory of the
words chosen so far. Each step says a text, or chooses among weighted branches. The same steps serve three ends:

* ``sample`` draws one branch at each step;
* ``score`` keeps every state that agrees with the characters read, with its mass, and so sums over derivations:
  ``p(next | read) = mass that says next / all mass``, exact also where a text has several derivations;
* ``entropy`` averages ``-log p(branch)`` over all derivations. That is the entropy of the *choices*; it is the
  entropy of the *text* when a text has one derivation. Then ``score(document).sum()`` is the log-probability that
  ``derive`` gives of its own choices, and the tests hold both embedded grammars to it.

The notation is told at the top of ``fables.yaml``. Knows nothing of splits, tokens or models, and takes no rule that
leads back to itself.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from itertools import product
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml

from lmstages.core.errors import UserError, did_you_mean

Unseen = Literal["withheld", "allowed"]
Span = tuple[int, int, bool]
Slots = frozenset[int]  # of variables, as places in the memory
Memory = tuple[Any, ...]  # the spans of pairs so far, then one Word (or None) for each variable
Stack = tuple["Step", "Stack"] | None
Branch = tuple[float, str, "Step | None", Memory]  # probability, text said, step called first, memory after it
NextState = tuple[float, str, Stack, Memory]  # the same, with the whole stack
Hypothesis = tuple[str, Stack, Memory]  # text still to be emitted, then the stack; ("", None, ...) has ended
Hypotheses = dict[Hypothesis, float]  # the mass of each
Known = dict[tuple[Stack, Memory, Slots], float]  # expectations from a state on, by the variables told
Spoken = Callable[["Word"], str]
Option = tuple[float, "Word", str, bool]  # probability, word, text said, withheld

PAIRS, NONE = 0, frozenset[int]()
SLOT = re.compile(r"\{(?:(\w+)([=:]))?(\w+)(?:\.(\w+))?(?: for (\w+))?\}")
HEAD = re.compile(r"(?:(?=\d|if )(\d+(?:\.\d+)?)? ?(?:if (\w+)=(\w+))?: )?(.*)")


class Touched(NamedTuple):
    """The variables that steps use to decide, say, and bind."""

    decide: Slots = NONE
    say: Slots = NONE
    bind: Slots = NONE


def together(several: Iterable[Touched]) -> Touched:
    """The union, part by part."""
    return Touched(*(NONE.union(*slots) for slots in zip(Touched(), *several, strict=True)))


@dataclass(frozen=True, eq=False)
class Word:
    """A word in its forms; the empty name is the first form."""

    forms: dict[str, str]
    weight: float

    @cached_property
    def lengths(self) -> tuple[tuple[str, int], ...]:
        return tuple((form, len(text)) for form, text in self.forms.items())

    def say(self, form: str, capital: bool) -> str:
        """form -> text, with a capital letter if asked."""
        text = self.forms[form]
        return text[:1].upper() + text[1:] if capital else text


@dataclass(frozen=True, eq=False)
class Text:
    """Says what stands there."""

    text: str
    touched: Touched = Touched()

    def branches(self, memory: Memory, position: int, only: str | None) -> list[Branch]:
        return [(1.0, self.text, None, memory)] if _may_start(self.text, only) else []


class Say:
    """Says a remembered word; a forgotten one is silent."""

    def __init__(self, slot: int, form: str, capital: bool) -> None:
        self.slot, self.form, self.capital = slot, form, capital
        self.touched = Touched(say=frozenset([slot]))

    def branches(self, memory: Memory, position: int, only: str | None) -> list[Branch]:
        word = memory[self.slot]
        text = word.say(self.form, self.capital) if word else ""
        return [(1.0, text, None, memory)] if _may_start(text, only) else []


class Choose:
    """Draws a word of a category and says or binds it; ``for`` another word it is a pair, perhaps a withheld one."""

    def __init__(
        self,
        words: list[Word],
        spoken: Spoken,
        slot: int | None,
        partner: int | None,
        withheld: dict[str, list[str]],
        unseen: Unseen,
    ) -> None:
        self.words, self.spoken, self.slot, self.partner = words, spoken, slot, partner
        self.withheld, self.unseen = withheld, unseen
        self.touched = Touched(decide=_slots(partner), bind=_slots(slot))
        self.options = cache(self._options)

    def branches(self, memory: Memory, position: int, only: str | None) -> list[Branch]:
        options = self.options(None if self.partner is None else memory[self.partner], only)
        if self.partner is None and self.slot is None:
            return [(probability, text, None, memory) for probability, _, text, _ in options]
        return [
            (probability, text, None, self._remember(memory, word, (position, position + len(text), withheld)))
            for probability, word, text, withheld in options
        ]

    def _options(self, partner: Word | None, only: str | None) -> list[Option]:
        """The other word of a pair -> each word that may be drawn and say ``only`` first."""
        held = self.withheld.get(partner.forms[""], []) if partner else []
        refused = held if self.unseen == "withheld" else []
        words = [word for word in self.words if word.forms[""] not in refused]
        total = sum(word.weight for word in words)
        options = [(word.weight / total, word, self.spoken(word), word.forms[""] in held) for word in words]
        return [option for option in options if _may_start(option[2], only)]

    def _remember(self, memory: Memory, word: Word, span: Span) -> Memory:
        if self.partner is not None:
            memory = ((*memory[PAIRS], span), *memory[1:])
        return memory if self.slot is None else (*memory[: self.slot], word, *memory[self.slot + 1 :])


@dataclass(frozen=True, eq=False)
class Step:
    """One item of an alternative and the steps after it."""

    item: "Text | Say | Choose | Call"
    after: "Step | None" = None

    @cached_property
    def alone(self) -> "Step":
        return Step(self.item)

    @cached_property
    def touched(self) -> Touched:
        return together([self.item.touched, self.after.touched] if self.after else [self.item.touched])


class Alternative(NamedTuple):
    """A weighted way to go on, open only while the word in ``slot``, if any, is ``value``."""

    weight: float
    slot: int | None
    value: str
    first: Step | None


class Call:
    """Goes on with one of a rule's alternatives: those whose condition holds, by weight."""

    def __init__(self, alternatives: list[Alternative]) -> None:
        self.alternatives = alternatives
        conditions = Touched(decide=NONE.union(*(_slots(one.slot) for one in alternatives)))
        self.touched = together([conditions, *(one.first.touched for one in alternatives if one.first)])

    def branches(self, memory: Memory, position: int, only: str | None) -> list[Branch]:
        open_ones = [one for one in self.alternatives if one.slot is None or memory[one.slot].forms[""] == one.value]
        total = sum(one.weight for one in open_ones)
        assert total, "some alternative of a rule is open"
        return [(one.weight / total, "", one.first, memory) for one in open_ones]


def _may_start(text: str, only: str | None) -> bool:
    """Whether ``text`` may be said where ``only`` is the next character (None: any, "": the end)."""
    return only is None or text[:1] in ("", only)


def _slots(slot: int | None) -> Slots:
    return NONE if slot is None else frozenset([slot])


class Telling(NamedTuple):
    """A document, (start, end, withheld) of the second word of each pair, and {variable: {form: text}}."""

    text: str
    pairs: list[Span]
    words: dict[str, dict[str, str]]


class Grammar:
    """A source of documents with exact probabilities; ``unseen`` says whether withheld pairs may come."""

    def __init__(self, description: dict[str, Any], unseen: Unseen = "allowed", where: str = "grammar") -> None:
        reader = Reader(description, unseen, where)
        self.blank, first = reader.read()
        self.first, self.slots, self.words = first, reader.slots, reader.words
        self.start: Stack = (first, None)
        self.where = where

    @classmethod
    def load(cls, name: str, unseen: Unseen = "allowed") -> "Grammar":
        """Name of an embedded corpus -> its grammar."""
        beside = resources.files("lmstages.corpora")
        known = sorted(file.name[:-5] for file in beside.iterdir() if file.name.endswith(".yaml"))
        if name not in known:
            raise UserError("corpus", f"{name!r}{did_you_mean(name, known)}", f"allowed: {', '.join(known)}")
        return cls(yaml.safe_load((beside / f"{name}.yaml").read_text("utf-8")), unseen, f"{name}.yaml")

    def sample(self, random: Random) -> str:
        """-> one document."""
        return self._drawn(random)[0]

    def derive(self, random: Random) -> tuple[str, float]:
        """-> one document and the log-probability (nats) of the choices that made it."""
        return self._drawn(random)[:2]

    def tell(self, random: Random) -> "Telling":
        """-> what ``sample`` draws, with its pairs and the words its variables stand for at the end."""
        text, _, memory = self._drawn(random)
        words = {name: memory[slot].forms for name, slot in self.slots.items() if memory[slot]}
        return Telling(text, list(memory[PAIRS]), words)

    def _drawn(self, random: Random) -> tuple[str, float, Memory]:
        texts, log_probability, position, stack, memory = [], 0.0, 0, self.start, self.blank
        while stack:
            branches = _branches(stack, memory, position)
            weights = [branch[0] for branch in branches]
            probability, text, stack, memory = random.choices(branches, weights)[0] if weights[1:] else branches[0]
            texts.append(text)
            log_probability, position = log_probability + math.log(probability), position + len(text)
        return "".join(texts), log_probability, memory

    def score(self, document: str) -> np.ndarray:
        """(n,) characters -> (n + 1,) nats: log p(character | those before), then of the end; -inf once refused."""
        scores = np.full(len(document) + 1, -np.inf)
        hypotheses: Hypotheses = {("", self.start, self.blank): 1.0}
        for position, character in enumerate([*document, ""]):
            hypotheses, mass = _advance(hypotheses, character, position)
            if not hypotheses:
                break
            scores[position] = math.log(mass)
        return scores

    def next_log_probs(self, prefix: str) -> dict[str, float]:
        """Characters read -> log p (nats) of each that may follow; the end is ``""``."""
        masses: dict[str, float] = {}
        for (text, _, _), mass in _opened(self._read(prefix), None, len(prefix)):
            masses[text[:1]] = masses.get(text[:1], 0.0) + mass
        return {character: math.log(mass) for character, mass in sorted(masses.items())}

    def pairs(self, document: str) -> list[Span]:
        """Document -> (start, end, withheld) of the second word of each pair, from its likeliest derivation."""
        hypotheses = self._read([*document, ""])
        _, _, memory = max(hypotheses, key=lambda hypothesis: hypotheses[hypothesis])
        return list(memory[PAIRS])

    def entropy(self) -> float:
        """-> nats per document, the end included: exact where each text has one derivation (see the module)."""
        return self._expected(lambda branch: -math.log(branch[0]), NONE, {})

    def expected_length(self) -> float:
        """-> characters per document. Expectations add: the words of one variable are remembered at a time."""
        known: Known = {}
        fixed, *with_one = (
            self._expected(lambda branch: len(branch[1]), told, known)
            for told in [NONE, *map(_slots, sorted(self.first.touched.say))]
        )
        return fixed + sum(length - fixed for length in with_one)

    def _expected(self, cost: Callable[[NextState], float], told: Slots, known: Known) -> float:
        """Sum of the costs of all branches taken, in expectation, by dynamic programming over (stack, memory).

        Only what the rest needs is remembered: words that decide a choice; and of a variable that is ``told``, though
        merely said, a word as long.
        """
        twins: dict[tuple[tuple[str, int], ...], Word] = {}

        def keep(word: Word, slot: int, needed: Touched) -> Word | None:
            if slot in needed.decide:
                return word
            return twins.setdefault(word.lengths, word) if slot in told & needed.say else None

        def value(stack: Stack, memory: Memory) -> float:
            if stack is None:
                return 0.0
            needed = _needed(stack)
            memory = ((), *(word and keep(word, slot, needed) for slot, word in enumerate(memory[1:], 1)))
            state = stack, memory, told & needed.say
            if state not in known:
                known[state] = compute(stack, memory)
            return known[state]

        def compute(stack: tuple[Step, Stack], memory: Memory) -> float:
            rest = _rest(stack)
            if rest and not stack[0].item.touched.bind & (_needed(rest).decide | _needed(rest).say & told):
                return value((stack[0].alone, None), memory) + value(rest, memory)
            steps = _branches(stack, memory, 0)
            return sum((step[0] * (cost(step) + value(step[2], step[3])) for step in steps), start=0.0)

        return value(self.start, self.blank)

    def _read(self, characters: str | list[str]) -> Hypotheses:
        """Characters -> the hypotheses that agree with all of them."""
        hypotheses: Hypotheses = {("", self.start, self.blank): 1.0}
        for position, character in enumerate(characters):
            hypotheses, _ = _advance(hypotheses, character, position)
            if not hypotheses:
                what = f"character {position} ({character!r})" if character else "the end"
                raise UserError(
                    self.where, f"{what} of the document cannot follow", "", "give a document of this grammar"
                )
        return hypotheses


def _rest(stack: tuple[Step, Stack]) -> Stack:
    step, outer = stack
    return (step.after, outer) if step.after else outer


@cache
def _needed(stack: Stack) -> Touched:
    """The variables that the steps of a stack touch."""
    return together([stack[0].touched, _needed(stack[1])]) if stack else Touched()


def _branches(stack: tuple[Step, Stack], memory: Memory, position: int, only: str | None = None) -> list[NextState]:
    """State -> every next state: (probability, text said, stack, memory)."""
    rest = _rest(stack)
    branches = stack[0].item.branches(memory, position, only)
    return [(share, text, (called, rest) if called else rest, later) for share, text, called, later in branches]


def _opened(hypotheses: Hypotheses, only: str | None, position: int) -> Iterator[tuple[Hypothesis, float]]:
    """Hypotheses -> all those they lead to that have a text to emit, or have ended; with ``only`` as next character."""
    pending = [(mass, *state) for state, mass in hypotheses.items()]
    while pending:
        mass, text, stack, memory = pending.pop()
        if text or stack is None:
            if only is None or text[:1] == only:
                yield (text, stack, memory), mass
        else:
            steps = _branches(stack, memory, position, only)
            pending += [(mass * share, said, deeper, later) for share, said, deeper, later in steps]


def _advance(hypotheses: Hypotheses, character: str, position: int) -> tuple[Hypotheses, float]:
    """Hypotheses -> those left after ``character``, masses summing to one again, and p(character)."""
    after: Hypotheses = {}
    for (text, stack, memory), mass in _opened(hypotheses, character, position):
        state = text[1:], stack, memory
        after[state] = after.get(state, 0.0) + mass
    total = sum(after.values())
    return {state: mass / total for state, mass in after.items()}, total


class Reader:
    """Turns the notation into steps, each rule once; a name that is not known is an error."""

    def __init__(self, description: dict[str, Any], unseen: Unseen, where: str) -> None:
        self.unseen, self.where, self.rules = unseen, where, description["rules"]
        self._check_texts([*description["words"].items(), *self.rules.items()])
        self.words = dict(self._category(head, entries) for head, entries in description["words"].items())
        self.withheld = {tuple(pair.split(" for ")): table for pair, table in description.get("withheld", {}).items()}
        self.bound: dict[str, list[str]] = {}  # variable -> the categories it is bound from
        for text in (text for alternatives in self.rules.values() for text in alternatives):
            for variable, _, category, *_ in SLOT.findall(text):
                self.bound.setdefault(variable, []).append(category)
        self.bound.pop("", None)
        self.slots = {variable: slot for slot, variable in enumerate(self.bound, PAIRS + 1)}
        self.calls: dict[str, Call | None] = {}

    def read(self) -> tuple[Memory, Step]:
        """-> an empty memory, and the step that calls the first rule."""
        self._check_withheld()
        return ((), *(None for _ in self.slots)), Step(self._call(next(iter(self.rules))))

    def _category(self, head: str, entries: list[str]) -> tuple[str, list[Word]]:
        """``animal(one, many)``, [``fox/foxes*2``, ``Mi|Ta + ra|na``] -> animal, its words."""
        name, _, forms = head.rstrip(")").partition("(")
        words = [word for entry in entries for word in self._entry(entry, re.findall(r"\w+", forms))]
        if len({word.forms[""] for word in words}) < len(words):
            raise UserError(f"{self.where}: words: {name}", "a word stands there twice")
        return name, words

    def _entry(self, entry: str, forms: list[str]) -> Iterator[Word]:
        text, _, weight = entry.partition("*")
        for parts in product(*(part.split("|") for part in text.split(" + "))):
            texts = "".join(parts).split("/")
            if forms and len(texts) != len(forms):
                raise UserError(f"{self.where}: words", f"{entry!r} has {len(texts)} forms", f"expected {len(forms)}")
            yield Word({"": texts[0], **dict(zip(forms, texts, strict=False))}, float(weight or 1))

    def _call(self, rule: str) -> Call:
        if rule not in self.calls:
            self.calls[rule] = None
            self.calls[rule] = Call([self._alternative(text, rule) for text in self.rules[rule]])
        if (call := self.calls[rule]) is None:
            raise UserError(f"{self.where}: rules: {rule}", "it leads back to itself")
        return call

    def _alternative(self, text: str, rule: str) -> Alternative:
        """``2 if number=many: the {friend.many} {verb}`` -> weight, condition and steps."""
        where = f"{self.where}: rules: {rule}"
        head = HEAD.fullmatch(text)
        assert head, "every line has a body"
        weight, variable, value, body = head.groups()
        if variable:
            self._known(where, variable, self.slots)
            self._known(where, value, [word.forms[""] for name in self.bound[variable] for word in self.words[name]])
        first, end = None, len(body)
        for match in reversed(list(SLOT.finditer(body))):
            first = self._text(where, body[match.end() : end], first)
            first, end = Step(self._item(where, *match.groups()), first), match.start()
        first = self._text(where, body[:end], first)
        return Alternative(float(weight or 1), self.slots[variable] if variable else None, value, first)

    def _text(self, where: str, text: str, after: Step | None) -> Step | None:
        if "{" in text or "}" in text:
            raise UserError(where, f"cannot read {text!r}", "slots are written as told at the top of fables.yaml")
        return Step(Text(text), after) if text else after

    def _item(
        self,
        where: str,
        variable: str | None,
        mark: str | None,
        name: str,
        form: str | None,
        other: str | None,
    ) -> "Say | Choose | Call":
        name, capital, form = name.lower(), name != name.lower(), form or ""
        if name in self.rules:
            return self._call(name)
        self._known(where, name, [*self.words, *self.slots, *self.rules])
        for category in self.bound.get(name, [name]):
            self._known(where, form, self.words[category][0].forms)
        if name in self.slots:
            return Say(self.slots[name], form, capital)
        if other:
            self._known(where, other, self.slots)
        silent = mark == ":"
        table = self._table(name, other) if other else {}
        return Choose(
            self.words[name],
            lambda word: "" if silent else word.say(form, capital),
            self.slots[variable] if variable else None,
            self.slots[other] if other else None,
            table,
            self.unseen,
        )

    def _table(self, second: str, variable: str) -> dict[str, list[str]]:
        """What is withheld of a category for the words of a variable: first word -> second words."""
        return {
            first: held
            for category in self.bound[variable]
            for first, held in self.withheld.get((second, category), {}).items()
        }

    def _check_texts(self, lists: list[tuple[str, list[str]]]) -> None:
        for name, texts in lists:
            for text in texts:
                if not isinstance(text, str):
                    raise UserError(
                        f"{self.where}: {name}", f"YAML read {text!r}", "expected a text", "put it in quotes"
                    )

    def _check_withheld(self) -> None:
        for (second, first), table in self.withheld.items():
            where = f"{self.where}: withheld: {second} for {first}"
            for one, others in table.items():
                self._known(where, one, [word.forms[""] for word in self.words[first]])
                for other in others:
                    self._known(where, other, [word.forms[""] for word in self.words[second]])

    def _known(self, where: str, name: str, known: Iterable[str]) -> None:
        if name not in known:
            raise UserError(where, f"{name!r} is not known{did_you_mean(name, known)}")


def tellings(name: str, count: int, seed: int, unseen: Unseen = "allowed") -> list[Telling]:
    """-> ``count`` documents of an embedded corpus with what they hold, the same for the same arguments."""
    grammar, random = Grammar.load(name, unseen), Random(f"{name}/{seed}/{unseen}")
    return [grammar.tell(random) for _ in range(count)]


def documents(name: str, count: int, seed: int, unseen: Unseen = "allowed") -> list[str]:
    """-> the texts of ``tellings``."""
    return [telling.text for telling in tellings(name, count, seed, unseen)]
