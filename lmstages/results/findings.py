"""What was analysed beside the scores, as tables: unseen documents, positions, samples, probes, withheld couples.

    gap          bits per byte of a couple's second word: withheld couples less those of train
    gap_bits     the same in bits per couple, which words of other lengths do not move: the source's own is 0
    gap_closed   1 - gap_bits / gap_bits of counting the couples themselves

Knows the files that ``analyses`` left; never a score, a text or a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.analyses.facts import Analyses
from lmstages.core import artifacts
from lmstages.core.artifacts import finite_or_none, infinite_if_none
from lmstages.core.errors import UserError
from lmstages.results import statistics
from lmstages.results.schema import MinimalPairs, Neighbours, Novelty, Position, Result, Transfer

FEWEST_SEEN = 0.5  # fraction of couples in view, below which there is no gap_closed
TESTED = ("gap", "gap_bits", "gap_closed")
Where = tuple[str, str, str, str]  # corpus, tokenizer, model, split


@dataclass
class Findings:
    """Everything that was analysed in a run."""

    positions: list[Position] = field(default_factory=list)
    novelty: list[Novelty] = field(default_factory=list)
    minimal_pairs: list[MinimalPairs] = field(default_factory=list)
    neighbours: list[Neighbours] = field(default_factory=list)
    transfer: list[Transfer] = field(default_factory=list)

    def add(self, root: Path, corpus: str, rows: Mapping[Where, Result]) -> None:
        """``analyses.json`` of one corpus; ``rows`` get what is a column of theirs."""
        paths = root / corpus / "analyses.json", root / corpus / "transfer.safetensors"
        content, sums = artifacts.load_pair(*paths, Analyses)
        sampled: set[tuple[str, str]] = set()
        for analysed in content["rows"]:
            row = rows.get((corpus, analysed["tokenizer"], analysed["model"], analysed["split"]))
            if row is None:
                continue
            for name, value in (analysed["unseen"] or {}).items():
                setattr(row, f"unseen_{name}", infinite_if_none(value))
            model = {**_model(row), "title": row.title, "rank": row.rank}
            self.positions += [_position(model, row.split, bin_) for bin_ in analysed["positions"]]
            if (row.tokenizer, row.model) not in sampled:
                sampled.add((row.tokenizer, row.model))
                self._add_probed(model, analysed)
        for couples in content["transfer"]:
            row = rows.get((corpus, couples["tokenizer"], couples["model"], couples["split"]))
            if row is not None:
                key = f"{row.tokenizer}/{row.model}/{row.split}"
                reference = content["reference"][row.split]["gap_bits"]
                if key not in sums or sums[key].dtype != np.float64 or sums[key].shape[1:] != (2, 3):
                    raise UserError(paths[1], f"lacks the sums of {key}", "", artifacts.make_again(paths[1]))
                self.transfer.append(transfer(row, couples, sums[key], reference))

    def _add_probed(self, model: Mapping[str, Any], analysed: Mapping[str, Any]) -> None:
        """Samples, minimal pairs and neighbours, which no split has of its own."""
        if analysed["novelty"]:
            self.novelty.append(Novelty(**model, **_flat(analysed["novelty"])))
        for contrast, measured in (analysed["minimal_pairs"] or {}).items():
            self.minimal_pairs.append(MinimalPairs(**model, contrast=contrast, **measured))
        if neighbours := analysed["neighbours"]:
            measured = {name: neighbours[name] for name in ("chance", "tokens")}
            self.neighbours.append(Neighbours(**model, fraction=neighbours["share"], **measured))


def _position(model: Mapping[str, Any], split: str, measured: Mapping[str, Any]) -> Position:
    """A bin of positions; one that covers bytes without a number is infinite."""
    bits = infinite_if_none(measured["bits_per_byte"]) if measured["bytes"] else None
    return Position(**model, split=split, **{**measured, "bits_per_byte": bits})


def _model(row: Result) -> dict[str, Any]:
    return {"corpus": row.corpus, "tokenizer": row.tokenizer, "model": row.model}


def _flat(novelty: Mapping[str, Any]) -> dict[str, Any]:
    """Nested measurements as columns."""
    plain = dict(novelty)
    plain["recalled"] = plain.pop("found")
    plain["searched"] = plain["searched"] if plain["searched"] < 1 else None
    length, _ = plain.pop("length"), plain.pop("length_of_test")
    quantiles = length or [None] * 5
    copies = {"": plain.pop("longest_copy"), "_of_test": plain.pop("longest_copy_of_test")}
    columns = {f"copy_{name}{whose}": values[name] for whose, values in copies.items() for name in ("mean", "max")}
    columns |= {"length_min": quantiles[0], "length_median": quantiles[2], "length_max": quantiles[4]}
    return {**plain, **columns}


# ---------------------------------------------------------------- near transfer


def transfer(row: Result, couples: Mapping[str, Any], sums: np.ndarray, reference: float | None) -> Transfer:
    """(D, 2, 3) bits, bytes and number of couples by document -> gaps with their intervals."""
    figures = gaps(sums.sum(axis=0)[None], reference)
    resampled = gaps(statistics.resampled_sums(sums), reference)
    bounds = {name: statistics.interval_where_finite(resampled[name], len(sums)) for name in TESTED}
    values: dict[str, Any] = {name: finite_or_none(float(figure[0])) for name, figure in figures.items()}
    if couples["sees"] < FEWEST_SEEN:
        values["gap_closed"], bounds["gap_closed"] = None, (None, None)
    ends: dict[str, Any] = {f"{name}_low": low for name, (low, _) in bounds.items()}
    ends |= {f"{name}_high": high for name, (_, high) in bounds.items()}
    counts = {name: couples[name] for name in ("couples", "withheld", "sees")}
    identity = {**_model(row), "split": row.split, "title": row.title, "rank": row.rank}
    return Transfer(**identity, **counts, **values, **ends, reference_bits=reference)


def gaps(sums: np.ndarray, reference: float | None) -> dict[str, np.ndarray]:
    """(R, 2, 3) bits, bytes and number of couples, of train and withheld -> (R,) of each figure; NaN for none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        per_byte, per_couple = sums[:, :, 0] / sums[:, :, 1], sums[:, :, 0] / sums[:, :, 2]
        gap_bits = per_couple[:, 1] - per_couple[:, 0]
        closed = 1 - gap_bits / (reference if reference and reference > 0 else np.nan)
        gap = per_byte[:, 1] - per_byte[:, 0]
    return {"seen": per_byte[:, 0], "unseen": per_byte[:, 1], "gap": gap, "gap_bits": gap_bits, "gap_closed": closed}
