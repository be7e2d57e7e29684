"""What gaps in held-out text cost the models that fill them, as tables: intervals and differences place by place.

All models of a text filled the same places, which are the resampling unit. Reads ``infill.json`` and
``infill.safetensors`` of every experiment and of the oracle; never a model or a text.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.evaluation.facts import CHARACTERS, Infill
from lmstages.results import statistics
from lmstages.results.schema import Fill, Infilling

Section = Mapping[str, Any]
ORACLE = {"tokenizer": "-", "model": "oracle", "title": "Oracle"}
NATS = math.log(2)  # ``statistics`` gives bits; nats times this come out as nats


class _Places(NamedTuple):
    """Of every place (P,): nats of what is hidden, and how many characters that is, 0 where it is left out."""

    nats: np.ndarray
    hidden: np.ndarray


class _Side(NamedTuple):
    """A row of the table with its places, which are None where there is no figure."""

    row: Infilling
    places: _Places | None
    is_counted: bool

    @property
    def of(self) -> tuple[str, str, float]:
        """What is compared with one another: the same gaps of a text."""
        return self.row.corpus, self.row.gap, self.row.length if self.row.gap == CHARACTERS else 0


@dataclass
class Infilled:
    """Every gap of a run that was filled."""

    infilling: list[Infilling] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path, section: Section) -> "Infilled":
        """All experiments and oracles of a run that fill gaps; nothing where the run has none."""
        infilled, sides = cls(), list[_Side]()
        for corpus, tokenizer, model, seed in section.get("infilled", ()):
            facts = section["models"][model]
            where = {"corpus": corpus, "tokenizer": tokenizer, "model": model, "title": facts["title"]}
            where["rank"] = facts["rank"]
            folder = root / corpus / tokenizer / model / f"seed{seed}"
            sides += infilled._read(folder, where, facts["family"] == "counts")
        last = 1 + max((facts["rank"] for facts in section["models"].values()), default=0)
        for corpus in section.get("infilled_by_source", ()):
            sides += infilled._read(root / corpus / "oracle", {"corpus": corpus, **ORACLE, "rank": last}, False)
        sides.sort(key=lambda side: side.of)
        for _, same in groupby(sides, key=lambda side: side.of):
            infilled.infilling += _compared(list(same))
        return infilled

    def _read(self, folder: Path, where: Mapping[str, Any], is_counted: bool) -> Iterator[_Side]:
        """The sides of one experiment or oracle; none where it has no figure at all."""
        paths = folder / "infill.json", folder / "infill.safetensors"
        content, arrays = artifacts.load_pair(*paths, Infill)
        if content["status"] != "ok":
            return
        shared = {**where, **{name: content[name] for name in ("split", "context", "places", "too_short")}}
        for side in content["sides"]:
            row, places = _side(shared, side, arrays, paths[1])
            yield _Side(row, places, is_counted)
        for fill in content["fills"]:
            texts = {**fill, "nats": json.dumps(fill["nats"])}
            self.fills.append(Fill(**where, split=content["split"], **texts))


def _side(
    shared: Mapping[str, Any], side: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path
) -> tuple[Infilling, _Places | None]:
    """A row without its differences, and its places."""
    length, is_whole = side["length"], isinstance(side["length"], str)
    row = {**shared, **side, "gap": length if is_whole else CHARACTERS, "lacking": 0, "skipped": 0}
    if side["status"] != "ok":
        empty = dict.fromkeys(["nats_per_character", "low", "high", "exact_match"])
        return Infilling(**{**row, **empty, "length": 0.0 if is_whole else float(length)}), None
    places = _places_of(side, arrays, shared["places"], path)
    filled = places.hidden > 0
    there = arrays[f"{length}.hidden"] > 0 if is_whole else filled
    counts = {"lacking": int((~there).sum()), "skipped": int((there & ~filled).sum()), "places": int(filled.sum())}
    row |= counts | {"length": float(places.hidden[filled].mean()) if filled.any() else 0.0}
    exact = arrays.get(f"{side['side']}.{length}.exact")
    return Infilling(**row, **_figures(places, exact)), places


def _places_of(side: Mapping[str, Any], arrays: Mapping[str, np.ndarray], count: int, path: Path) -> _Places:
    length = side["length"]
    key, held = f"{side['side']}.{length}", f"{length}.hidden"
    log_probs = arrays.get(key)
    if log_probs is None or log_probs.ndim != 2 or len(log_probs) != count:
        raise UserError(path, f"lacks the nats of {key}", "", artifacts.make_again(path))
    if isinstance(length, str) and len(arrays.get(held, ())) != count:
        raise UserError(path, f"lacks the lengths of {length}", "", artifacts.make_again(path))
    nats = -log_probs.astype(np.float64).sum(1)
    hidden = arrays[held] if isinstance(length, str) else np.full(count, length)
    return _Places(np.nan_to_num(nats, nan=0.0, posinf=np.inf), np.where(np.isnan(nats), 0, hidden))


def _figures(places: _Places, exact: np.ndarray | None) -> dict[str, Any]:
    """Nats per hidden character with the interval, and how often the best fill is right, of what was filled."""
    filled = places.hidden > 0
    if not filled.any():
        return dict.fromkeys(["nats_per_character", "low", "high", "exact_match"])
    nats, hidden = places.nats[filled], places.hidden[filled]
    [(low, high)] = statistics.row_intervals(NATS * nats[None], hidden[None]).tolist()
    return {
        "nats_per_character": float(nats.sum() / hidden.sum()),
        "low": None if math.isnan(low) else low,
        "high": None if math.isnan(high) else high,
        "exact_match": None if exact is None else float(exact[filled].mean()),
    }


def _compared(sides: Sequence[_Side]) -> list[Infilling]:
    """The rows of one text and length with their differences from the left alone, and from the best n-gram model."""
    both = [side for side in sides if side.row.side == "both" and _is_finite(side)]
    lattices = [side for side in both if side.row.method == "lattice" and side.is_counted]
    best = min(lattices, key=lambda side: side.row.nats_per_character or 0.0, default=None)
    beyond = _against(best, both) if best is not None else {}
    rows = []
    for side in sides:
        known = side.row.tokenizer, side.row.model
        left = [
            other for other in sides if other.row.side == "left" and (other.row.tokenizer, other.row.model) == known
        ]
        row = replace(side.row, **(beyond.get(known, {}) if side.row.side == "both" else {}))
        rows.append(replace(row, **_than_left(side, left[0])) if left and side in both else row)
    return sorted(rows, key=lambda row: (row.rank, row.tokenizer, row.model, row.side))


def _is_finite(side: _Side) -> bool:
    return side.places is not None and bool(np.isfinite(side.places.nats).all() and side.places.hidden.any())


def _pairs(sides: Sequence[_Side]) -> list[statistics.PairedDifference]:
    """Every pair of rows over the places that all of them filled, in nats per character."""
    places = [side.places for side in sides if side.places is not None]
    filled = np.all([one.hidden > 0 for one in places], axis=0)
    hidden = np.where(filled, places[0].hidden, 0)
    return statistics.differences(NATS * np.array([one.nats for one in places]), np.tile(hidden, (len(places), 1)))


def _than_left(side: _Side, left: _Side) -> dict[str, Any]:
    """What the right side buys the model; nothing where there are too few places."""
    if not _is_finite(left):
        return {}
    for pair in _pairs([side, left]):
        ends = {"than_left_low": pair.low, "than_left_high": pair.high}
        return {"than_left": pair.difference, **ends, "than_left_p": pair.p}
    return {}


def _against(best: _Side, sides: Sequence[_Side]) -> dict[tuple[str, str], dict[str, Any]]:
    """(tokenizer, model) -> its difference from the best lattice; rows that filled the same places together."""
    others, differences = [side for side in sides if side is not best], {}
    for same in _by_places(others):
        for pair in _pairs([best, *same]):
            if pair.a == 0:  # best less other: turned round
                row = same[pair.b - 1].row
                differences[row.tokenizer, row.model] = {
                    "ngram": best.row.model,
                    "than_ngram": -pair.difference,
                    "than_ngram_low": -pair.high,
                    "than_ngram_high": -pair.low,
                    "than_ngram_p_holm": pair.p_holm,
                }
    return differences


def _by_places(sides: Sequence[_Side]) -> list[list[_Side]]:
    """Rows by the places that they filled, so that one that skips some does not take them from all others."""
    groups: dict[bytes, list[_Side]] = {}
    for side in sides:
        if side.places is not None:
            groups.setdefault((side.places.hidden > 0).tobytes(), []).append(side)
    return list(groups.values())
