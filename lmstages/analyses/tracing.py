"""Where a network holds a fact: causal tracing over the facts of held-out stories (Meng et al. 2022).

A story says a fact, as a name, a thing or a number, and recalls it later; ``corpora.recalls`` knows where. A row is the
``ROW`` tokens before the first one that follows from the fact alone, the answer. The corrupted row tells the same story
of another word, drawn from the grammar: so it is held-out text as good as the other, which noise on embeddings is not,
and no strength of noise is to be chosen. Only one state is restored at a time, at one of these positions:

    first, middle, last    tokens of the fact's last mention before the answer
    next                   the token after it
    halfway                between that one and the end of the row
    recall                 the last token of the row, from which the answer is predicted

Every network reads the same rows, as far as its context reaches.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from lmstages.config.hyperparameters.diffusion import Diffusion
from lmstages.core.documents import BOUNDARY, Arrays, Documents
from lmstages.core.errors import UserError
from lmstages.corpora.preparation import generated_sizes
from lmstages.corpora.recalls import Fact, told
from lmstages.models.base import LanguageModel
from lmstages.tokenizers import TextTokenizer

Facts = dict[str, Any]
ROLES = ("first", "middle", "last", "next", "halfway", "recall")
ROW = 64  # tokens of a row
OF_A_KIND = 8  # facts of one variable of the grammar
LEAST_BETWEEN = 4  # tokens from the end of a fact to its answer, so that positions differ


@dataclass(frozen=True)
class Rows:
    """F facts: their kinds, clean and corrupted rows (F, T), answers (F,), and where the fact stands, [start, end)."""

    kinds: Sequence[str]
    clean: np.ndarray
    corrupted: np.ndarray
    answers: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def within(self, context: int | None) -> "Rows":
        """The last ``context`` tokens of those rows in which the fact stands among them."""
        cut = self.clean.shape[1] - min(context or ROW, self.clean.shape[1])
        kept = np.flatnonzero(self.starts >= cut)
        clean, corrupted = (array[kept, cut:] for array in (self.clean, self.corrupted))
        kinds = [self.kinds[fact] for fact in kept.tolist()]
        return Rows(kinds, clean, corrupted, self.answers[kept], self.starts[kept] - cut, self.ends[kept] - cut)

    def positions(self) -> np.ndarray:
        """(F, roles) the positions of a row that are restored."""
        last = self.clean.shape[1] - 1
        halfway, middle = (self.ends + last) // 2, (self.starts + self.ends - 1) // 2
        recall = np.full_like(self.starts, last)
        return np.stack([self.starts, middle, self.ends - 1, self.ends, halfway, recall], axis=1)


def rows_of(tokenizer: TextTokenizer, held_out: Documents, split: str, corpus: Any) -> Rows | None:
    """Rows of the stories of a split; None where its grammar recalls nothing that fits.

    ``corpus`` is the record of an embedded corpus. Train, which lacks words by design, has none.
    """
    if split == "train":
        return None
    _, valid, test = generated_sizes(corpus)
    texts = {tokenizer.decode(document.tolist()) for document in _documents(held_out)}
    stories = islice(told(corpus.source, corpus.seed, "allowed"), valid + test)
    found, counts = list[tuple[str, _Row]](), Counter[str]()
    for facts in (story.facts() for story in stories if story.text in texts):
        for fact in facts:
            if counts[fact.kind] < OF_A_KIND and (row := _row(tokenizer, fact)):
                counts[fact.kind] += 1
                found.append((fact.kind, row))
    if not found:
        return None
    columns = (np.array(column) for column in zip(*(row for _, row in found), strict=True))
    return Rows([kind for kind, _ in found], *columns)


def _documents(documents: Documents) -> Iterator[np.ndarray]:
    """The tokens of each document, without what ends it."""
    for start, end in zip(documents.starts[:-1], documents.starts[1:], strict=True):
        tokens = np.asarray(documents.tokens[start:end], dtype=np.int64)
        yield tokens[tokens != BOUNDARY]


class Asked(NamedTuple):
    """Tokens of a story and of its other telling, where the fact stands, [start, end), and the index of the answer."""

    clean: np.ndarray
    other: np.ndarray
    start: int
    end: int
    answer: int


def asked(tokenizer: TextTokenizer, fact: Fact) -> Asked | None:
    """A fact in tokens; None where those of both stories do not correspond, or the vocabulary lacks a word.

    Subwords of two words need not correspond; an alphabet without an escape may lack a letter.
    """
    try:
        (clean, sizes), (other, other_sizes) = tokenizer.encode([fact.text, fact.other])
    except UserError:
        return None
    stops, other_stops = np.cumsum(sizes), np.cumsum(other_sizes)
    start, end = (int(np.searchsorted(stops, len(fact.text[:at].encode()), "right")) for at in (fact.start, fact.end))
    shorter = min(len(clean), len(other))
    if end >= shorter or (stops[[start, end]] != other_stops[[start, end]]).any():
        return None
    different = end + np.flatnonzero(clean[end:shorter] != other[end:shorter])
    said = np.concatenate([clean[start:end], other[start:end], clean[different[:1]], other[different[:1]]])
    if not len(different) or (tokenizer.escape is not None and (said == tokenizer.escape).any()):
        return None
    return Asked(clean, other, start, end, int(different[0]))


_Row = tuple[np.ndarray, np.ndarray, int, int, int]


def _row(tokenizer: TextTokenizer, fact: Fact) -> _Row | None:
    """Clean and corrupted row, answer, and where the fact stands; None where it does not fit into a row."""
    question = asked(tokenizer, fact)
    if question is None:
        return None
    first = question.answer - ROW
    if first < 0 or question.start < first or question.answer - question.end < LEAST_BETWEEN:
        return None
    span, answer = slice(first, question.answer), int(question.clean[question.answer])
    return question.clean[span], question.other[span], answer, question.start - first, question.end - first


def trace(model: Any, rows: Rows | None) -> tuple[Facts | None, Arrays]:
    """Which states were restored; ``tracing``, nats of the answers: (F, 2 + S) corrupted, clean, restored at each site.

    Nothing of a model that has no layers or does not predict from left to right, nor where no fact stands within its
    context.
    """
    rows = rows.within(model.config.context) if rows and _has_layers(model) else None
    if rows is None or not rows.kinds:
        return None, {}
    from lmstages.models.neural import tracing

    count, length = rows.clean.shape
    sites = [(place, role) for place in tracing.places(model) for role in range(len(ROLES))]
    where = np.arange(length) == rows.positions()[:, [role for _, role in sites], None]  # (F, S, T)
    facts, places = np.repeat(np.arange(count), len(sites)), [place for place, _ in sites] * count
    every = tracing.Sites(facts, places, where.reshape(-1, length))
    nats = tracing.restored(model, rows.clean, rows.corrupted, rows.answers, every).reshape(count, len(sites))
    ends = [tracing.answered(model, tokens, rows.answers) for tokens in (rows.corrupted, rows.clean)]
    described = {"kinds": list(rows.kinds), "sites": [[layer, part, ROLES[role]] for (layer, part), role in sites]}
    return described, {"tracing": np.column_stack([*ends, nats])}


def _has_layers(model: LanguageModel) -> bool:
    """Whether the model is a network with layers, which predicts from left to right."""
    if model.config.family != "neural" or isinstance(model.config, Diffusion):
        return False
    from lmstages.models.neural import tracing

    return tracing.is_traced(model)
