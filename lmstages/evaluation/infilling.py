"""Infilling as a task: what the middle of a row of held-out text costs a model that knows both sides and the length.

Rows of ``context`` characters are cut from the documents, and ``places`` of them drawn, the same for every model of a
text. Of each, the k characters in the middle are hidden, for every k of ``lengths``; or the whole word, or sentence,
that is nearest to the middle and has a character on each side, where a row has one. Nats of the middle are those of
``fillers``; the same model with the right side hidden stands beside it. Tokens are characters here.

    infill.json, infill.safetensors    ``Infill`` of an experiment, and of the oracle of an embedded text
"""

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.artifacts import finite_or_none
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER
from lmstages.corpora.grammar import Grammar
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import scoring
from lmstages.evaluation.any_length import AnyLength, any_length
from lmstages.evaluation.continuations import RIGHT, MixedModels, continuations_of
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.evaluation.facts import CHARACTERS, Fit
from lmstages.evaluation.fillers import Filler, Fills, Gaps, filler_of, left_only
from lmstages.models.base import LanguageModel, TooLongError
from lmstages.tokenizers import CharTokenizer, TextTokenizer, streams

Section = Mapping[str, Any]
Facts = dict[str, Any]
SHOWN = 3  # places whose fills the report shows
MOST_BY_SOURCE = 24  # characters of a whole word or sentence that the grammar fills; a sentence takes it minutes
SIDES = ("both", "left")
Length = int | str  # so many characters, or one of WHOLE
_LETTER = f"[^\\s{re.escape(string.punctuation)}]"
WHOLE = {  # what a gap may cover that is no number of characters
    "word": re.compile(f"{_LETTER}+(?:'{_LETTER}+)*"),
    "sentence": re.compile(r"(?<=[.!?])[\"']?\s+([^\s.!?][^.!?]*[.!?])(?=[\"']?\s)"),
}


UNKNOWN = "\ufffd"  # in place of a character that the tokenizer does not know; it counts as a letter


class CannotFillError(UserError):
    """A model, a text or a tokenizer that infilling is not defined for: its result is the reason."""


class NoGapError(UserError):
    """No row has what is to be hidden."""


@dataclass(frozen=True)
class Places:
    """P rows of held-out text: the document (P,) and the character within it (P,) where each begins.

    ``context`` characters each; ``too_short``: documents that have fewer, of ``documents``.
    """

    document: np.ndarray
    offset: np.ndarray
    context: int
    documents: int
    too_short: int

    @classmethod
    def of(cls, lengths: np.ndarray, context: int, most: int) -> "Places":
        """(D,) characters of documents -> at most ``most`` rows that do not overlap; a UserError where none fits."""
        rows = lengths // context
        if not rows.sum():
            problem = f"no document has {context:,} characters; the longest has {int(lengths.max(initial=0)):,}"
            raise CannotFillError("infill.context", problem, "", "lower it")
        drawn = np.random.default_rng(0).choice(int(rows.sum()), min(most, int(rows.sum())), replace=False)
        document = np.repeat(np.arange(len(rows)), rows)[np.sort(drawn)]
        within = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
        return cls(document, within[np.sort(drawn)] * context, context, len(rows), int((rows == 0).sum()))

    def middle(self, length: int) -> slice:
        """Where the hidden characters of a row are."""
        begin = (self.context - length) // 2
        return slice(begin, begin + length)

    def spans(self, texts: Sequence[str], length: Length) -> list[slice | None]:
        """What is hidden of each row (P,), given its text; None where it has no whole word or sentence."""
        if isinstance(length, int):
            return [self.middle(length)] * len(texts)
        return [_nearest(WHOLE[length], text) for text in texts]

    def facts(self) -> Facts:
        """What ``infill.json`` says of them."""
        names = ("context", "documents", "too_short")
        return {**{name: getattr(self, name) for name in names}, "places": len(self.offset)}


def _nearest(pattern: re.Pattern[str], text: str) -> slice | None:
    """The match that is nearest to the middle of a text, among those with a character on each side."""
    group = pattern.groups  # where the pattern has a group, it is what is hidden
    spans = [match.span(group) for match in pattern.finditer(text)]
    inside = [(begin, end) for begin, end in spans if begin > 0 and end < len(text)]
    return slice(*min(inside, key=lambda span: abs(sum(span) - len(text)))) if inside else None


def cut(row: np.ndarray, hidden: slice) -> Gaps:
    """(P, context) tokens of rows -> what stands left of, in and right of the gaps."""
    return Gaps(row[:, : hidden.start], row[:, hidden], row[:, hidden.stop :])


# ---------------------------------------------------------------- a fitted model


def infill(model: Path, tokens: Path, out: Path, section: Section, made: artifacts.Made) -> None:
    """Write ``infill.json`` and ``infill.safetensors`` of one experiment.

    Where the model failed, cannot fill, or no document is long enough, both say why and hold no number.
    """
    if (status := facts_of_fit(model, tokens)["status"]) != "ok":
        return save(out, {"status": status}, {}, made)
    fitted, tokenizer = load_fitted(model, tokens)
    _save_measured(fitted, tokenizer, tokens, out, section, made)


def _save_measured(
    model: LanguageModel | MixedModels,
    tokenizer: TextTokenizer,
    tokens: Path,
    out: Path,
    section: Section,
    made: artifacts.Made,
) -> None:
    try:
        facts, arrays = measured(model, tokenizer, streams.read_tokens(tokens, section["split"]), section)
    except CannotFillError as error:
        LOGGER.error("lmstages: error: %s", error)
        facts, arrays = {"status": f"failed: {error}"}, {}
    save(out, facts, arrays, made)


def infill_mixture(
    folders: Mapping[str, Path], mixture: Path, tokens: Path, out: Path, section: Section, made: artifacts.Made
) -> None:
    """As ``infill``, by the mixture of the models in ``folders``, with the weights of ``mixture``, its ``fit.json``."""
    facts = artifacts.load_json(mixture, Fit, ["status"])
    if facts["status"] != "ok":
        return save(out, {"status": facts["status"]}, {}, made)
    if set(facts["mixture"]) != set(folders):
        problem = f"is a mixture of {', '.join(facts['mixture'])}, not of {', '.join(folders)}"
        raise UserError(mixture, problem, "", artifacts.make_again(mixture))
    models = {}
    for name, folder in folders.items():
        facts_of_fit(folder / "model.safetensors", tokens)
        models[name], tokenizer = load_fitted(folder / "model.safetensors", tokens)
    weights = np.array([facts["mixture"][name] for name in models])
    mixed = MixedModels(mixture.absolute().parts[-3], models, weights)
    _save_measured(mixed, tokenizer, tokens, out, section, made)


def save(out: Path, facts: Facts, arrays: Mapping[str, np.ndarray], made: artifacts.Made) -> None:
    """Both files of an experiment or of an oracle."""
    artifacts.save_json(out / "infill.json", facts, made)
    artifacts.save_arrays(out / "infill.safetensors", arrays, {}, made)


def measured(
    model: LanguageModel | MixedModels,
    tokenizer: TextTokenizer,
    split_tokens: tuple[Documents, np.ndarray],
    section: Section,
) -> tuple[Facts, dict[str, np.ndarray]]:
    """The facts of ``infill.json``, and by side and length the nats of the places and whether the best fill was right.

    Nats are (P, k), or (P, 1) of whole words and sentences, NaN where there is none or it is too long for the model.
    """
    (documents, sizes), first = split_tokens, int(section["documents"])
    both = filler_for(model, tokenizer, first, section["rows"], section["reads"])
    fillers: dict[str, Filler | AnyLength] = {"both": both, "left": left_only(continuations_of(model), first)}
    if section["any_length"] and (finds_length := any_length(both, model)) is not None:
        fillers["any length"] = finds_length
    places = Places.of(documents.lengths - first, section["context"], section["places"])
    index = (documents.starts[places.document] + places.offset)[:, None] + np.arange(places.context)
    rows, sizes = np.asarray(documents.tokens)[index].astype(np.int64), np.asarray(sizes)[index]
    texts, sides, fills = _texts(rows, tokenizer), list[Facts](), list[Facts]()
    arrays: dict[str, np.ndarray] = {}
    for length in section["lengths"]:
        gaps = HiddenRows(length, rows, sizes, places.spans(texts, length), tokenizer.escape)
        filled = {}
        for side, filler in fillers.items():
            facts = {"side": side, "length": length, "method": filler.method, "reads": filler.reads}
            try:
                filled[side] = gaps.filled(filler)
            except (TooLongError, NoGapError) as error:
                sides.append({**facts, "status": f"failed: {error}"})
                continue
            sides.append({**facts, "status": "ok"})
            arrays |= gaps.arrays(filled[side], side)
        fills += list(_shown(gaps, filled, tokenizer))
    return {"status": "ok", "split": section["split"], **places.facts(), "sides": sides, "fills": fills}, arrays


def _texts(rows: np.ndarray, tokenizer: TextTokenizer) -> list[str]:
    """(P, context) tokens -> a text of as many characters for each row."""
    letters = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    single = [letter if len(letter) == 1 else UNKNOWN for letter in letters]
    return ["".join(single[token] for token in row) for row in rows.tolist()]


@dataclass(frozen=True)
class HiddenRows:
    """P rows of tokens and of the bytes that they cover (P, context), and the gap of one length in each."""

    length: Length
    rows: np.ndarray
    sizes: np.ndarray
    spans: list[slice | None]
    escape: int | None

    def alike(self) -> dict[tuple[int, int], list[int]]:
        """The places whose gaps begin and end at the same character of their row, by the gap's length and beginning."""
        groups: dict[tuple[int, int], list[int]] = {}
        for place, span in enumerate(self.spans):
            if span is not None:
                groups.setdefault((span.stop - span.start, span.start), []).append(place)
        return dict(sorted(groups.items()))

    def filled(self, filler: Filler | AnyLength) -> dict[int, Fills]:
        """Place -> its fill; those that are too long for the filler are left out. Raises TooLongError where all are."""
        filled, refused, groups = dict[int, Fills](), None, self.alike()
        for (length, begin), places in groups.items():
            try:
                filler.must_be_few(sum(len(some) for (same, _), some in groups.items() if same == length), length)
                fills = filler.fill(cut(self.rows[places], slice(begin, begin + length)))
            except TooLongError as error:
                refused = refused or error
                continue
            filled |= {place: Fills(*(part[index] for part in fills)) for index, place in enumerate(places)}
        if not filled:
            raise refused or NoGapError(
                "infill.lengths", f"no row has a whole {self.length} with a character on each side"
            )
        return {place: self._charged(fill, place) for place, fill in filled.items()}

    def _charged(self, fill: Fills, place: int) -> Fills:
        """The bytes of a character that train lacks are charged where it is hidden."""
        hidden = self.spans[place]
        charged = scoring.charge_escapes(
            fill.log_probs, self.rows[place, hidden], self.sizes[place, hidden], self.escape
        )
        return fill._replace(log_probs=charged)

    def arrays(self, filled: Mapping[int, Fills], side: str) -> dict[str, np.ndarray]:
        """What ``infill.safetensors`` holds of one side."""
        name, count = f"{side}.{self.length}", len(self.spans)
        exact, is_whole = np.zeros(count, dtype=np.uint8), isinstance(self.length, str)
        log_probs = np.full((count, self.length if isinstance(self.length, int) else 1), np.nan)
        for place, fill in filled.items():
            log_probs[place] = fill.log_probs.sum() if is_whole else fill.log_probs
            exact[place] = np.array_equal(fill.best, self.rows[place, self.spans[place]])
        held = {f"{self.length}.hidden": hidden_characters(self.spans)} if is_whole else {}
        return {name: log_probs, f"{name}.exact": exact, **held}


def hidden_characters(spans: Sequence[slice | None]) -> np.ndarray:
    """(P,) the length of each gap, 0 where there is none."""
    return np.array([0 if span is None else span.stop - span.start for span in spans], dtype=np.int64)


def filler_for(
    model: LanguageModel | MixedModels, tokenizer: TextTokenizer, first: int, rows: int, reads: int = RIGHT
) -> Filler:
    """How a model fills gaps of characters; raises CannotFillError."""
    name = model.name if isinstance(model, MixedModels) else model.config.name
    if not isinstance(tokenizer, CharTokenizer):
        raise CannotFillError(name, "its tokens are no characters, so that a gap has no length in tokens", "kind: char")
    if (filler := filler_of(model, first, rows, reads)) is None:
        able = "models that fill a gap are static: n-grams, networks, mixtures, and those that fill by themselves"
        raise CannotFillError(name, "learns from the text that it scores, and a gap has none yet", able)
    return filler


def _shown(gaps: HiddenRows, filled: Mapping[str, Mapping[int, Fills]], tokenizer: TextTokenizer) -> Iterator[Facts]:
    """The first places of a length: both sides, what was hidden, and of each side of knowledge its fill and nats."""
    there = [place for place, span in enumerate(gaps.spans) if span is not None]
    for place in there[:SHOWN]:
        span = gaps.spans[place]
        assert span is not None
        cuts = zip(Gaps._fields, cut(gaps.rows[[place]], span), strict=True)
        texts = {name: tokenizer.decode(side[0].tolist()) for name, side in cuts}
        gap = {"gap": gaps.length if isinstance(gaps.length, str) else CHARACTERS, "length": span.stop - span.start}
        for side, fills in filled.items():
            if side in SIDES and place in fills:
                nats = [finite_or_none(-value) for value in fills[place].log_probs.tolist()]
                best = tokenizer.decode(np.asarray(fills[place].best).tolist())
                facts = {"side": side, "fill": best, "probability": float(np.exp(fills[place].best_log_probs))}
                yield {"place": place, **gap, **texts, **facts, "nats": nats}


# ---------------------------------------------------------------- the oracle


def infill_by_source(source: str, text: Path, out: Path, section: Section, made: artifacts.Made) -> None:
    """As ``infill``, by the grammar that wrote the text, which reads the whole document on both sides of the gap."""
    documents = list(SplitText.open(text, section["split"]).texts())
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    try:
        places = Places.of(lengths, section["context"], section["places"])
    except CannotFillError as error:
        return save(out, {"status": f"failed: {error}"}, {}, made)
    grammar, arrays, sides = Grammar.load(source, "allowed"), dict[str, np.ndarray](), list[Facts]()
    scores = {document: grammar.score(documents[document]) for document in set(places.document.tolist())}
    begins = list(zip(places.document.tolist(), places.offset.tolist(), strict=True))
    texts = [documents[document][offset : offset + places.context] for document, offset in begins]
    for length in section["lengths"]:
        spans = places.spans(texts, length)
        known = {f"{side}.{length}": np.full((len(spans), 1), np.nan) for side in SIDES}
        sides += [{"side": side, "length": length, "method": "oracle", "reads": None, "status": "ok"} for side in SIDES]
        for place, (span, (document, offset)) in enumerate(zip(spans, begins, strict=True)):
            if span is not None:
                hidden = slice(offset + span.start, offset + span.stop)
                known[f"left.{length}"][place] = scores[document][hidden].sum()
                if isinstance(length, str) and span.stop - span.start > MOST_BY_SOURCE:
                    continue
                both = scores[document].sum() - grammar.log_mass(documents[document], hidden)
                known[f"both.{length}"][place] = min(0.0, both)  # what is certain is certain to the last digit
        arrays |= known | ({f"{length}.hidden": hidden_characters(spans)} if isinstance(length, str) else {})
    save(out, {"status": "ok", "split": section["split"], **places.facts(), "sides": sides, "fills": []}, arrays, made)
