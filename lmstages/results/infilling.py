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
from lmstages.evaluation.facts import Infill
from lmstages.results import statistics
from lmstages.results.schema import Fill, Infilling

Section = Mapping[str, Any]
ORACLE = {"tokenizer": "-", "model": "oracle", "title": "Oracle"}
NATS = math.log(2)  # ``statistics`` gives bits; nats times this come out as nats


class _Side(NamedTuple):
    """A row of the table with the nats of its places (P,), which are None where there is no figure."""

    row: Infilling
    nats: np.ndarray | None
    is_counted: bool


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
        sides.sort(key=lambda side: (side.row.corpus, side.row.length))
        for _, same in groupby(sides, key=lambda side: (side.row.corpus, side.row.length)):
            infilled.infilling += _compared(list(same))
        return infilled

    def _read(self, folder: Path, where: Mapping[str, Any], is_counted: bool) -> Iterator[_Side]:
        """The sides of one experiment or oracle; none where it has no figure at all."""
        paths = [folder / "infill.json", folder / "infill.safetensors"]
        content, arrays = artifacts.load_json(paths[0], Infill), artifacts.load_arrays(paths[1])[0]
        artifacts.must_be_of_one_call(*paths)
        artifacts.must_be_current(paths[0])
        if content["status"] != "ok":
            return
        shared = {**where, **{name: content[name] for name in ("split", "context", "places", "too_short")}}
        for side in content["sides"]:
            row, nats = _side(shared, side, arrays, paths[1])
            yield _Side(row, nats, is_counted)
        for fill in content["fills"]:
            texts = {**fill, "nats": json.dumps(fill["nats"])}
            self.fills.append(Fill(**where, split=content["split"], **texts))


def _side(
    shared: Mapping[str, Any], side: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path
) -> tuple[Infilling, np.ndarray | None]:
    """A row without its differences, and the nats of its places."""
    key, empty = f"{side['side']}.{side['length']}", dict.fromkeys(["nats_per_character", "low", "high", "exact_match"])
    if side["status"] != "ok":
        return Infilling(**{**shared, **side, **empty}), None
    log_probs, exact = arrays.get(key), arrays.get(f"{key}.exact")
    if log_probs is None or log_probs.ndim != 2 or len(log_probs) != shared["places"]:
        raise UserError(path, f"lacks the nats of {key}", "", artifacts.make_again(path))
    nats = -log_probs.astype(np.float64).sum(1)
    [(low, high)] = statistics.row_intervals(NATS * nats[None], np.full((1, len(nats)), side["length"])).tolist()
    figures = {
        "nats_per_character": float(nats.mean()) / side["length"],
        "low": None if math.isnan(low) else low,
        "high": None if math.isnan(high) else high,
        "exact_match": None if exact is None else float(exact.mean()),
    }
    return Infilling(**{**shared, **side, **figures}), nats


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
    return side.nats is not None and bool(np.isfinite(side.nats).all())


def _pairs(sides: Sequence[_Side]) -> list[statistics.PairedDifference]:
    """Every pair of rows over the same places, in nats per character."""
    nats = NATS * np.array([side.nats for side in sides])
    return statistics.differences(nats, np.full(nats.shape, sides[0].row.length))


def _than_left(side: _Side, left: _Side) -> dict[str, Any]:
    """What the right side buys the model; nothing where there are too few places."""
    if not _is_finite(left):
        return {}
    for pair in _pairs([side, left]):
        ends = {"than_left_low": pair.low, "than_left_high": pair.high}
        return {"than_left": pair.difference, **ends, "than_left_p": pair.p}
    return {}


def _against(best: _Side, sides: Sequence[_Side]) -> dict[tuple[str, str], dict[str, Any]]:
    """(tokenizer, model) -> its difference from the best lattice, of all others."""
    others = [side for side in sides if side is not best]
    differences = {}
    for pair in _pairs([best, *others]) if others else []:
        if pair.a == 0:  # best less other: turned round
            row = others[pair.b - 1].row
            differences[row.tokenizer, row.model] = {
                "ngram": best.row.model,
                "than_ngram": -pair.difference,
                "than_ngram_low": -pair.high,
                "than_ngram_high": -pair.low,
                "than_ngram_p_holm": pair.p_holm,
            }
    return differences
