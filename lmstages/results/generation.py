"""What every sampler of a run costs, as tables: intervals, differences from drawing token by token, the Pareto front.

Held-out rows are the resampling unit, the same for all samplers of a text and tokenizer. Reads ``generation.json`` and
``generation.safetensors`` of every experiment; never a model or a text.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.analyses import facts
from lmstages.analyses.facts import key_of
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.results import statistics
from lmstages.results.frame import groups
from lmstages.results.schema import Draft, Generated

Section = Mapping[str, Any]
OF_HELD_OUT = ("distinct_1", "distinct_2", "distinct_3", "new_1", "new_3")
NO_SCORE = dict.fromkeys(["bits_per_byte", "low", "high", "than_next", "than_next_low", "than_next_high"])


@dataclass
class AllGenerated:
    """Every sampler of a run, and the drafts that are shown."""

    generated: list[Generated] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path, section: Section) -> "AllGenerated":
        """All experiments that were drawn from; nothing where the run has none."""
        every = cls()
        for corpus, tokenizer, model, seed in section.get("generated", ()):
            known = section["models"][model]
            where = {"corpus": corpus, "tokenizer": tokenizer, "model": model, "title": known["title"]}
            every._read(root / corpus / tokenizer / model / f"seed{seed}", {**where, "rank": known["rank"]})
        every.generated = [
            row for same in groups(every.generated, "corpus", "tokenizer").values() for row in best(same)
        ]
        return every

    def _read(self, folder: Path, where: Mapping[str, Any]) -> None:
        """The samplers and drafts of one experiment; none where it has no figure at all."""
        paths = folder / "generation.json", folder / "generation.safetensors"
        content, arrays = artifacts.load_pair(*paths, facts.Generated)
        if content["status"] != "ok":
            return
        where = {**where, "split": content["split"]}
        shared = {**where, **{name: content[name] for name in ("length", "texts", "too_short")}}
        shared |= {f"{name}_of_test": content["held_out"][name] for name in OF_HELD_OUT}
        for facts_of_sampler in content["samplers"]:
            scores = _scores(facts_of_sampler, arrays, paths[1])
            self.generated.append(_row(shared, facts_of_sampler, scores))
        for draft in content["drafts"]:
            self.drafts.append(Draft(**where, **{**draft, "pieces": json.dumps(draft["pieces"], ensure_ascii=False)}))


def _row(shared: Mapping[str, Any], of_sampler: Mapping[str, Any], scores: Mapping[str, Any]) -> Generated:
    characters, names = of_sampler["characters"], ("sampler", "steps", "passes", "measure", "ended", "text")
    seconds = 1000 * of_sampler["seconds"] / characters if characters else None
    own = {name: of_sampler[name] for name in names}
    return Generated(**{**shared, **own, **of_sampler["measures"], **scores, "seconds": seconds, "is_best": False})


def _scores(of_sampler: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, float | None]:
    """Bits per byte with its interval, and the difference from the same model token by token."""
    if of_sampler["measure"] == "none":
        return NO_SCORE
    nats, sizes = (_rows(arrays, name, path) for name in (key_of(of_sampler["sampler"], of_sampler["steps"]), "bytes"))
    if len(nats) != len(sizes):
        raise UserError(path, "has rows without a score", "", artifacts.make_again(path))
    [(low, high)] = statistics.row_intervals(nats[None], sizes[None]).tolist()
    scores: dict[str, float | None] = {"bits_per_byte": float(nats.sum() / sizes.sum()) / math.log(2)}
    scores |= {name: None if math.isnan(end) else end for name, end in (("low", low), ("high", high))}
    token_by_token = arrays.get(key_of("next token", None))
    if token_by_token is None or of_sampler["sampler"] == "next token":
        return {**NO_SCORE, **scores}
    return {**NO_SCORE, **scores, **_than_next(np.stack([nats, token_by_token]), sizes)}


def _than_next(nats: np.ndarray, sizes: np.ndarray) -> dict[str, float | None]:
    """(2, R) of a sampler and of the same model token by token, (R,) bytes; nothing where there are too few rows."""
    for pair in statistics.differences(nats, np.stack([sizes, sizes])) if np.isfinite(nats).all() else ():
        return {"than_next": pair.difference, "than_next_low": pair.low, "than_next_high": pair.high}
    return {}


def _rows(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """(R,); a UserError where the file lacks it."""
    values = arrays.get(name)
    if values is None or values.ndim != 1:
        raise UserError(path, f"lacks {name}", "", artifacts.make_again(path))
    return values.astype(np.float64)


def best(rows: Sequence[Generated]) -> list[Generated]:
    """Rows of one text and tokenizer, those on the Pareto front of time and exact code length told."""
    exact = [row for row in rows if row.measure == "exact" and row.seconds is not None]
    costs = np.array([(row.seconds, row.bits_per_byte) for row in exact], dtype=float).reshape(-1, 2)
    front = {id(row) for row, is_on in zip(exact, on_front(costs), strict=True) if is_on}
    return [replace(row, is_best=id(row) in front) for row in rows]


def on_front(costs: np.ndarray) -> np.ndarray:
    """(N, 2) costs -> (N,): no other is as low in both and lower in one."""
    no_higher = (costs[None] <= costs[:, None]).all(-1)
    lower = (costs[None] < costs[:, None]).any(-1)
    return np.asarray(~np.any(no_higher & lower, axis=1) & np.all(np.isfinite(costs), axis=1))
