"""What each way of drawing text from a fitted model costs: quality by its code length and its texts, and seconds.

Every sampler of a model (``samplers``) draws as many texts of at most ``length`` tokens, each behind a boundary, and is
charged for the first ``length`` tokens of as many held-out documents, the same for all models of a text and tokenizer;
of a stream, for rows of it that do not overlap. A row is read with the token before it and no more.

    code length    nats of a row, exact, or an estimate of an upper bound; nothing for a sampler without one
    distinct_n     distinct n-grams / all n-grams; new_n: n-grams that train lacks / all; as ``novelty`` counts them
    accepted ...   by the grammar of an embedded text, as in ``novelty``
    seconds        of a processor to draw all texts at once, on one thread, the first use of the sampler left out

Held-out rows are measured as the texts are. Writes ``generation.json`` (``Generated``) and ``generation.safetensors``:
the nats (R,) of each row by sampler, and its bytes (R,).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.analyses.facts import key_of
from lmstages.analyses.novelty import MAX_TRAIN, distinct, grammatical, ngrams
from lmstages.core import artifacts
from lmstages.core.documents import BOUNDARY, Documents
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER
from lmstages.corpora.grammar import Grammar
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import scoring
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.evaluation.samplers import Draft, Sampler, in_bands, samplers_of
from lmstages.evaluation.sampling import until_boundary
from lmstages.models.base import LanguageModel
from lmstages.tokenizers import TextTokenizer, streams

Section = Mapping[str, Any]
Facts = dict[str, Any]
NEW_ORDERS = (1, 3)  # n-grams of so many words or characters are looked for in train
END = "¶"  # a boundary in a draft


class NoRowsError(UserError):
    """No document is long enough; the result is the reason."""


class Rows(NamedTuple):
    """R rows of held-out text: tokens (R, T), the token before each (R,), bytes of each token (R, T)."""

    tokens: np.ndarray
    before: np.ndarray
    sizes: np.ndarray
    documents: int
    too_short: int


class Texts(NamedTuple):
    """Texts, and whether each ended before its length limit."""

    texts: list[str]
    ended: list[bool]


def generate(model: Path, tokens: Path, text: Path, out: Path, section: Section, made: artifacts.Made) -> None:
    """Write both files of one experiment; where the model failed or no document is long enough they say why."""
    if (status := facts_of_fit(model, tokens)["status"]) != "ok":
        return save(out, {"status": status}, {}, made)
    fitted, tokenizer = load_fitted(model, tokens)
    split_tokens = streams.read_tokens(tokens, section["split"])
    train = SplitText.open(text, "train")
    try:
        facts, arrays = measured(fitted, tokenizer, split_tokens, train, section)
    except NoRowsError as error:
        LOGGER.error("lmstages: error: %s", error)
        facts, arrays = {"status": f"failed: {error}"}, {}
    save(out, facts, arrays, made)


def save(out: Path, facts: Facts, arrays: Mapping[str, np.ndarray], made: artifacts.Made) -> None:
    """Both files."""
    artifacts.save_json(out / "generation.json", facts, made)
    artifacts.save_arrays(out / "generation.safetensors", arrays, {}, made)


def measured(
    model: LanguageModel,
    tokenizer: TextTokenizer,
    split_tokens: tuple[Documents, np.ndarray],
    train: SplitText,
    section: Section,
) -> tuple[Facts, dict[str, np.ndarray]]:
    """The facts of ``generation.json``, and the nats of the rows (R,) by sampler and steps."""
    rows = rows_of(*split_tokens, section["length"], section["texts"], section["documents"])
    samplers = samplers_of(model, section["steps"], section["length"], section["documents"])
    arrays, drawn = {"bytes": rows.sizes.sum(1)}, []
    for sampler in samplers:
        drawn.append(timed(sampler, tokenizer, section))
        if sampler.measure != "none":
            nats = in_bands(sampler, rows.tokens, rows.before, section["seed"], model.vocab_size)
            charged = scoring.charge_escapes(nats, rows.tokens, rows.sizes, tokenizer.escape)
            arrays[key_of(sampler.name, sampler.steps)] = -charged.sum(1)
    held_out = as_texts([*rows.tokens], tokenizer, section)
    of_held_out, *of_samplers = of_texts([held_out, *(texts for texts, _ in drawn)], train, section["source"])
    facts = [
        facts_of(sampler, texts, seconds, section["length"], measures)
        for sampler, (texts, seconds), measures in zip(samplers, drawn, of_samplers, strict=True)
    ]
    shared = {"split": section["split"], "length": section["length"], "texts": len(rows.tokens)}
    shared |= {"documents": rows.documents, "too_short": rows.too_short, "held_out": of_held_out}
    drafts = [*shown_drafts(samplers, tokenizer, section)]
    return {"status": "ok", **shared, "samplers": facts, "drafts": drafts}, arrays


# ---------------------------------------------------------------- held-out rows


def rows_of(documents: Documents, sizes: np.ndarray, length: int, most: int, documents_end: bool) -> Rows:
    """At most ``most`` rows of ``length`` tokens: beginnings of documents, or of a stream any that do not overlap."""
    count = np.minimum(documents.lengths // length, 1) if documents_end else documents.lengths // length
    if not count.sum():
        problem = f"no document has {length:,} tokens; the longest has {int(documents.lengths.max(initial=0)):,}"
        raise NoRowsError("generation.length", problem, "", "lower it")
    drawn = np.sort(np.random.default_rng(0).choice(int(count.sum()), min(most, int(count.sum())), replace=False))
    document = np.repeat(np.arange(len(count)), count)[drawn]
    within = (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count))[drawn]
    starts, tokens = documents.starts[document] + within * length, np.asarray(documents.tokens)
    index = starts[:, None] + np.arange(length)
    before = np.where(within > 0, tokens[starts - 1], BOUNDARY).astype(np.int64)
    return Rows(tokens[index].astype(np.int64), before, np.asarray(sizes)[index], len(count), int((count == 0).sum()))


# ---------------------------------------------------------------- drawn texts


def timed(sampler: Sampler, tokenizer: TextTokenizer, section: Section) -> tuple[Texts, float]:
    """The texts of a sampler, and the seconds of a processor that it took."""
    sampler.draw(1, 1, section["seed"])  # loads what is loaded at first use
    started = time.process_time()  # what other programs take of the machine does not count
    rows = sampler.draw(section["texts"], section["length"], section["seed"])
    seconds = time.process_time() - started
    return as_texts(rows, tokenizer, section), seconds


def as_texts(rows: Sequence[np.ndarray], tokenizer: TextTokenizer, section: Section) -> Texts:
    """Rows of tokens, where documents end up to the first boundary."""
    kept = [until_boundary(row) for row in rows] if section["documents"] else rows
    ended = [section["documents"] and len(row) < section["length"] for row in kept]
    return Texts([tokenizer.decode(row.tolist()) for row in kept], ended)


def of_texts(every: Sequence[Texts], train: SplitText, source: str | None) -> list[Facts]:
    """Measures of each set of texts, the first of which is held-out text; train is read once for all."""
    unit = "words" if any(" " in text for text in every[0].texts) else "characters"
    grammar = Grammar.load(source) if source else None
    wanted = {order: {gram for texts, _ in every for gram in ngrams(texts, unit, order)} for order in NEW_ORDERS}
    known = {order: set(ngrams(_beginning(train), unit, order)) & wanted[order] for order in NEW_ORDERS}
    return [
        {
            **distinct(texts, unit),
            **{f"new_{order}": new_fraction(texts, unit, order, known[order]) for order in NEW_ORDERS},
            **grammatical(grammar, texts, ended),
        }
        for texts, ended in every
    ]


def new_fraction(texts: Sequence[str], unit: str, order: int, known: set[tuple[str, ...]]) -> float | None:
    """N-grams that are not known / all n-grams; None where there are none."""
    grams = [*ngrams(texts, unit, order)]
    return sum(gram not in known for gram in grams) / len(grams) if grams else None


def _beginning(train: SplitText) -> Iterator[str]:
    """The documents of train, as many as are searched."""
    characters = 0
    for text in train.texts():
        if characters >= MAX_TRAIN:
            return
        yield text[: MAX_TRAIN - characters]
        characters += len(text)


def facts_of(sampler: Sampler, drawn: Texts, seconds: float, length: int, measures: Facts) -> Facts:
    """What ``generation.json`` says of a sampler."""
    return {
        "sampler": sampler.name,
        "steps": sampler.steps,
        "passes": sampler.passes(length),
        "measure": sampler.measure,
        "seconds": seconds,
        "characters": sum(map(len, drawn.texts)),
        "ended": float(np.mean(drawn.ended)),
        "text": drawn.texts[0],
        "measures": measures,
    }


# ---------------------------------------------------------------- drafts


def shown_drafts(samplers: Sequence[Sampler], tokenizer: TextTokenizer, section: Section) -> Iterator[Facts]:
    """Some texts of each sampler with most steps, at the beginning and after 1, 2, 4 ... passes, and at the end."""
    for _, alike in groupby(samplers, key=lambda sampler: sampler.name):
        sampler = [*alike][-1]
        drafts = [*sampler.drafts(section["drafts"], section["length"], section["seed"])] if section["drafts"] else []
        for number in range(section["drafts"] if drafts else 0):
            before = None
            for step in shown_steps(len(drafts)):
                draft = Draft(*(part[number] for part in drafts[step]))
                pieces = pieces_of(draft, before, tokenizer)
                where = {"sampler": sampler.name, "steps": sampler.steps, "number": number, "step": step}
                yield {**where, "pieces": pieces}
                before = draft


def shown_steps(count: int) -> list[int]:
    """The numbers of the drafts that are shown: 0, 1, 2, 4, 8 ..., and the last."""
    doubled = [0, *(1 << power for power in range(count.bit_length()))]
    return sorted({*(step for step in doubled if step < count), count - 1})


def pieces_of(draft: Draft, before: Draft | None, tokenizer: TextTokenizer) -> list[tuple[str, str]]:
    """(T,) tokens and which are hidden -> neighbouring tokens alike: known before, new since then, or hidden."""
    earlier = draft if before is None else before  # of the first draft nothing is new
    was_known = ~earlier.hidden & (earlier.tokens == draft.tokens)
    states = np.where(draft.hidden, "hidden", np.where(was_known, "kept", "new")).tolist()
    texts = [_spelled(token, tokenizer) for token in draft.tokens.tolist()]
    runs = groupby(zip(texts, states, strict=True), key=lambda pair: pair[1])
    return [(_run([text for text, _ in run], state), state) for state, run in runs]


def _spelled(token: int, tokenizer: TextTokenizer) -> str:
    return END if token == BOUNDARY else tokenizer.decode([token])


def _run(texts: Sequence[str], state: str) -> str:
    """Hidden tokens are as many signs."""
    return "·" * len(texts) if state == "hidden" else "".join(texts)
