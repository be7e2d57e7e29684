"""Infilling as a task: what the middle of a row of held-out text costs a model that knows both sides and the length.

Rows of ``context`` characters are cut from the documents, and ``places`` of them drawn, the same for every model of a
text. Of each, the k characters in the middle are hidden, for every k of ``lengths``. Nats of the middle are those of
``fillers``; the same model with the right side hidden stands beside it. Tokens are characters here.

    infill.json, infill.safetensors    ``Infill`` of an experiment, and of the oracle of an embedded text
"""

from collections.abc import Iterator, Mapping
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
from lmstages.evaluation.continuations import RIGHT, MixedModels, continuations_of
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.evaluation.facts import Fit
from lmstages.evaluation.fillers import Filler, Fills, Gaps, filler_of, left_only
from lmstages.models.base import LanguageModel, TooLongError
from lmstages.tokenizers import CharTokenizer, TextTokenizer, streams

Section = Mapping[str, Any]
Facts = dict[str, Any]
SHOWN = 3  # places whose fills the report shows
SIDES = ("both", "left")


class CannotFillError(UserError):
    """A model, a text or a tokenizer that infilling is not defined for: its result is the reason."""


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

    def gaps(self, rows: np.ndarray, length: int) -> Gaps:
        """(P, context) tokens of the rows -> what stands left of, in and right of the gaps."""
        hidden = self.middle(length)
        return Gaps(rows[:, : hidden.start], rows[:, hidden], rows[:, hidden.stop :])

    def facts(self) -> Facts:
        """What ``infill.json`` says of them."""
        names = ("context", "documents", "too_short")
        return {**{name: getattr(self, name) for name in names}, "places": len(self.offset)}


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
    if list(facts["mixture"]) != list(folders):
        problem = f"is a mixture of {', '.join(facts['mixture'])}, not of {', '.join(folders)}"
        raise UserError(mixture, problem, "", artifacts.make_again(mixture))
    models = {}
    for name, folder in folders.items():
        facts_of_fit(folder / "model.safetensors", tokens)
        models[name], tokenizer = load_fitted(folder / "model.safetensors", tokens)
    mixed = MixedModels(mixture.absolute().parts[-3], models, np.array(list(facts["mixture"].values())))
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
    """The facts of ``infill.json``, and by side and length the nats (P, k) and whether the best fill was right (P,)."""
    (documents, sizes), first = split_tokens, int(section["documents"])
    both = filler_for(model, tokenizer, first, section["rows"], section["reads"])
    fillers: dict[str, Filler] = {"both": both, "left": left_only(continuations_of(model), first)}
    places = Places.of(documents.lengths - first, section["context"], section["places"])
    index = (documents.starts[places.document] + places.offset)[:, None] + np.arange(places.context)
    rows, sizes = np.asarray(documents.tokens)[index].astype(np.int64), np.asarray(sizes)[index]
    sides, fills, arrays = [], [], {}
    for length in section["lengths"]:
        gaps, filled = places.gaps(rows, length), {}
        for side, filler in fillers.items():
            facts = {"side": side, "length": length, "method": filler.method, "reads": filler.reads}
            try:
                filled[side] = _charged(filler.fill(gaps), gaps, sizes[:, places.middle(length)], tokenizer.escape)
            except TooLongError as error:
                sides.append({**facts, "status": f"failed: {error}"})
                continue
            sides.append({**facts, "status": "ok"})
            arrays[f"{side}.{length}"] = filled[side].log_probs
            arrays[f"{side}.{length}.exact"] = (filled[side].best == gaps.middle).all(1).astype(np.uint8)
        fills += list(_shown(gaps, filled, tokenizer))
    return {"status": "ok", "split": section["split"], **places.facts(), "sides": sides, "fills": fills}, arrays


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


def _charged(fills: Fills, gaps: Gaps, sizes: np.ndarray, escape: int | None) -> Fills:
    """The bytes of a character that train lacks are charged where it is hidden."""
    return fills._replace(log_probs=scoring.charge_escapes(fills.log_probs, gaps.middle, sizes, escape))


def _shown(gaps: Gaps, filled: Mapping[str, Fills], tokenizer: TextTokenizer) -> Iterator[Facts]:
    """The first places of a length: both sides, what was hidden, and of each side of knowledge its fill and nats."""
    for place in range(min(SHOWN, len(gaps.middle))):
        texts = {name: tokenizer.decode(side[place].tolist()) for name, side in zip(gaps._fields, gaps, strict=True)}
        for side, fills in filled.items():
            nats = [finite_or_none(-value) for value in fills.log_probs[place].tolist()]
            best = tokenizer.decode(fills.best[place].tolist())
            facts = {"side": side, "fill": best, "probability": float(np.exp(fills.best_log_probs[place]))}
            yield {"place": place, "length": gaps.middle.shape[1], **texts, **facts, "nats": nats}


# ---------------------------------------------------------------- the oracle


def infill_by_source(source: str, text: Path, out: Path, section: Section, made: artifacts.Made) -> None:
    """As ``infill``, by the grammar that wrote the text, which reads the whole document on both sides of the gap."""
    documents = list(SplitText.open(text, section["split"]).texts())
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    try:
        places = Places.of(lengths, section["context"], section["places"])
    except CannotFillError as error:
        return save(out, {"status": f"failed: {error}"}, {}, made)
    grammar, arrays, sides = Grammar.load(source, "allowed"), {}, []
    scores = {document: grammar.score(documents[document]) for document in set(places.document.tolist())}
    for length in section["lengths"]:
        for side in SIDES:
            arrays[f"{side}.{length}"] = np.zeros((len(places.document), 1))
            sides.append({"side": side, "length": length, "method": "oracle", "reads": None, "status": "ok"})
        for place, (document, offset) in enumerate(zip(places.document, places.offset, strict=True)):
            hidden = slice(offset + places.middle(length).start, offset + places.middle(length).stop)
            arrays[f"left.{length}"][place] = scores[document][hidden].sum()
            known = scores[document].sum() - grammar.log_mass(documents[document], hidden)
            arrays[f"both.{length}"][place] = min(0.0, known)  # a fill that is certain is certain to the last digit
    save(out, {"status": "ok", "split": section["split"], **places.facts(), "sides": sides, "fills": []}, arrays, made)
