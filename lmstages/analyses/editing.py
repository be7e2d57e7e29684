"""Edits what a network knows of a hero by one matrix of rank one, and measures what that does (Meng et al. 2022).

In ``fables`` a name says whether its hero is a girl or a boy: in all texts *Leo* is a son and *Wendy* a daughter, which
a network can learn by heart, in its weights. The edit makes the hero the other. A question is a story up to the first
token that differs between the two; its form is the word that is asked for (child, parent, her ...).

    success       held-out stories of the hero that ask for a form from which the edit was made
    generality    held-out stories of the hero that ask for another form
    neighbours    held-out stories of other heroes of the same gender, who should stay what they are
    damage        bits per byte of held-out stories that never name the hero, before and after

The first three are the fraction of questions to which the network finds the edited answer likelier than the other one.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from lmstages.analyses.tracing import Asked, asked
from lmstages.core.documents import BOUNDARY, Documents
from lmstages.core.errors import UserError
from lmstages.corpora.grammar import Grammar
from lmstages.corpora.recalls import Told, told
from lmstages.evaluation import scoring
from lmstages.models.neural import editing
from lmstages.models.neural.base import NeuralModel
from lmstages.models.neural.editing import Questions
from lmstages.tokenizers import TextTokenizer
from lmstages.tokenizers.base import with_boundaries

GENDERS = ("girl", "boy")
SEED = 1 << 20  # of the stories, which are of no corpus
FORMS = ("child", "parent")
STORIES = 1000  # told to find those of the hero
LONGEST = 256  # tokens that a network without a longest context reads
ASKED = 40  # questions of a kind, and stories whose bits per byte are measured


class Effect(NamedTuple):
    """The fraction of questions that get the edited answer."""

    questions: int
    before: float
    after: float


class Edit(NamedTuple):
    """An edited model and what the edit did; bits per byte before and after are of stories without the hero."""

    model: NeuralModel
    success: Effect
    generality: Effect
    neighbours: Effect
    bits_before: float
    bits_after: float


class _Asked(NamedTuple):
    """Questions for the edited answer, the tokens (B,) that stand there, and the form (B,) that each asks for."""

    questions: Questions
    other: np.ndarray
    forms: np.ndarray

    def of(self, kept: np.ndarray) -> "_Asked":
        """Those that are kept (B,), at most ``ASKED``."""
        chosen = np.flatnonzero(kept)[:ASKED]
        return _Asked(Questions(*(array[chosen] for array in self.questions)), self.other[chosen], self.forms[chosen])


def edit_hero(
    model: NeuralModel, tokenizer: TextTokenizer, train: Documents, name: str, layer: int, forms: Sequence[str] = FORMS
) -> Edit:
    """The hero ``name`` of ``fables`` becomes a girl, or a boy, in feed-forward ``layer`` (from 1) of a network.

    ``train``: tokens whose keys the edit leaves alone as far as can be; ``forms``: those of the questions it is made
    from. Raises UserError where no story has such a hero or asks for such a form.
    """
    stories = [story for story in islice(told("fables", SEED, "withheld"), STORIES) if story.word_of("hero") == name]
    own = _asked(model, tokenizer, stories)
    chosen = np.isin(own.forms, forms) if own else np.zeros(0, dtype=bool)
    if own is None or not chosen.any():
        known = ", ".join(sorted({*own.forms.tolist()})) if own else "none"
        raise UserError("edit", f"no story of {name} asks for {', '.join(forms)}", f"asked for: {known}")
    moment = editing.second_moment(model, layer, train)
    changed = editing.edited(model, layer, own.of(chosen).questions, moment)
    return _measured(model, changed, tokenizer, stories[0], forms)


def _measured(
    model: NeuralModel, changed: NeuralModel, tokenizer: TextTokenizer, story: Told, forms: Sequence[str]
) -> Edit:
    """Both models asked and scored on held-out stories; ``story``: one of the hero."""
    name, gender = story.word_of("hero"), story.word_of("who")
    assert name is not None, "every story has a hero"
    stories = list(islice(told("fables", SEED, "allowed"), STORIES))
    others = [story for story in stories if name not in story.text]
    alike = islice((story for story in others if story.word_of("who") == gender), 2 * ASKED)
    own = _asked(model, tokenizer, [story for story in stories if story.word_of("hero") == name])
    neighbours = _asked(model, tokenizer, alike)
    assert own is not None and neighbours is not None, "so many stories have every frequent hero"
    is_edited, every = np.isin(own.forms, forms), np.ones(len(neighbours.forms), dtype=bool)
    kinds = [own.of(is_edited), own.of(~is_edited), neighbours.of(every)]
    effects = [Effect(len(some.forms), _fraction(model, some), _fraction(changed, some)) for some in kinds]
    bits = [_bits_per_byte(one, tokenizer, others[:ASKED]) for one in (model, changed)]
    return Edit(changed, effects[0], effects[1], effects[2], bits[0], bits[1])


def _asked(model: NeuralModel, tokenizer: TextTokenizer, stories: Iterable[Told]) -> _Asked | None:
    """The first question of each story for its hero's gender, as far as the model's context reaches; None for none."""
    words = {gender: Grammar.load("fables").words[gender][0] for gender in GENDERS}
    questions, forms = list[Asked](), list[str]()
    for story in stories:
        [other] = (words[gender] for gender in GENDERS if gender != story.word_of("who"))
        fact = story.otherwise("hero", "who", other)
        question = asked(tokenizer, fact) if fact else None
        if fact and question and question.answer < (model.config.context or LONGEST):
            questions.append(question)
            forms.append(fact.kind)
    if not questions:
        return None
    rows = np.full((len(questions), 1 + max(question.answer for question in questions)), BOUNDARY, dtype=np.int64)
    for row, question in zip(rows, questions, strict=True):
        row[1 : 1 + question.answer] = question.clean[: question.answer]
    ends = np.array([question.answer for question in questions])  # in a row with a boundary in front
    at, wanted, old = (
        np.array(column)
        for column in zip(*((q.end, q.other[q.answer], q.clean[q.answer]) for q in questions), strict=True)
    )
    return _Asked(Questions(rows, at, ends, wanted), old, np.array(forms))


def _fraction(model: NeuralModel, asked: _Asked) -> float:
    """Of the questions, those to which the edited answer is likelier than the other one."""
    with torch.inference_mode():
        wanted = editing.log_probs(model, asked.questions)
        other = editing.log_probs(model, asked.questions._replace(wanted=asked.other))
    return float((wanted > other).double().mean())


def _bits_per_byte(model: Any, tokenizer: TextTokenizer, stories: Sequence[Told]) -> float:
    """Of stories that end, in windows of the model's context that begin half of one apart."""
    encoded = [with_boundaries(pair, 1) for pair in tokenizer.encode([story.text for story in stories])]
    documents = Documents.of([tokens.tolist() for tokens, _ in encoded])
    window = model.config.context or LONGEST
    windows = scoring.windows_of(documents.starts, "stride", window, -(-window // 2), 0)
    lengths = np.concatenate([covered for _, covered in encoded])
    log_probs = scoring.score(model, documents, windows)
    log_probs = scoring.charge_escapes(log_probs, documents.tokens, lengths, tokenizer.escape)
    return -float(log_probs.sum()) / math.log(2) / int(lengths.sum())
