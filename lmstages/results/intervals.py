"""Rows of a comparison get what makes them comparable: an interval each, a tested difference for every two, flags.

Rows stand in one table, and are paired and corrected together, where they are scored on the same bytes, whatever
the corpus is called there and whatever its tokens are. Knows rows and score files; ``uncertainty`` has the statistics.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora import splits
from lmstages.evaluation.score_files import Scores
from lmstages.results import statistics

Row = dict[str, Any]
PLACE = ("corpus", "tokenizer", "model")
LEVEL = 0.05
EMPTY: Row = dict.fromkeys(
    ["interval", "nats_per_character_interval", "perplexity_interval", "below", "flag", "ensemble_of"]
)
BETTER_THAN_THE_SOURCE = "better than the source"
REMEDY = "delete this cell's folder and run snakemake again"


@dataclass(frozen=True)
class Text:
    """A split as every score file must cover it: its hash, where its documents and its blocks end, in bytes."""

    sha256: str
    document_ends: np.ndarray
    block_ends: np.ndarray
    characters: int

    @classmethod
    def open(cls, folder: Path, split: str) -> "Text":
        """From the folder with a corpus's splits."""
        ends = artifacts.load_arrays(splits.documents_path(folder, split))[0]["ends"]
        characters = artifacts.load_json(folder / "corpus.json")["splits"][split]["characters"]
        sha256 = artifacts.made_of(splits.text_path(folder, split))["sha256"]
        return cls(sha256, ends, statistics.block_ends(ends, characters), characters)


class Profile(NamedTuple):
    """A row's nats and bytes in each block of its text (K,), and over how many blocks its code lengths correlate."""

    nats: np.ndarray
    sizes: np.ndarray
    span: float


def mean_of(scores: Sequence[Scores]) -> Scores:
    """Several fits as one row: the mean of their code lengths at every token."""
    return _over(scores, np.mean([each.log_probs for each in scores], axis=0, dtype=np.float64))


def ensemble_of(scores: Sequence[Scores]) -> Scores:
    """Several fits as one predictor: the mean of their probabilities at every token."""
    summed = np.logaddexp.reduce([each.log_probs.astype(np.float64) for each in scores])
    return _over(scores, summed - math.log(len(scores)))


def _over(scores: Sequence[Scores], log_probs: Any) -> Scores:
    first = scores[0]
    return Scores(log_probs, first.lengths, first.documents, first.characters, first.protocol, first.skipped)


def profile(scores: Scores, text: Text, where: str) -> Profile:
    """A score file's code lengths by the blocks of its text, once it is found to cover that text."""
    must_cover(scores, text, where)
    nats, sizes = statistics.code_lengths(scores.log_probs, scores.lengths, scores.skipped, text.block_ends)
    if len(text.document_ends) >= statistics.FEWEST_DOCUMENTS:
        return Profile(nats, sizes, 1.0)
    tokens_a_block = len(scores.log_probs) / max(1, len(text.block_ends))
    return Profile(nats, sizes, statistics.automatic_length(scores.log_probs) / tokens_a_block)


def must_cover(scores: Scores, text: Text, where: str) -> None:
    """Every byte of the text once, document by document; what a table of token lengths says does not count."""
    found = scores.skipped + int(scores.lengths.sum(dtype=np.int64))
    size = int(text.document_ends[-1])
    if found != size:
        raise UserError(where, f"its scores cover {found:,} bytes", f"the text has {size:,}", REMEDY)
    if scores.skipped:
        return
    sizes = np.bincount(scores.documents, scores.lengths, len(text.document_ends))[: len(text.document_ends)]
    for first in np.flatnonzero(np.cumsum(sizes) != text.document_ends)[:1]:
        told = f"its scores end document {first} at byte {int(np.cumsum(sizes)[first]):,}"
        raise UserError(where, told, f"in the text it ends at {int(text.document_ends[first]):,}", REMEDY)
    if scores.characters != text.characters:
        told = f"its scores divide by {scores.characters:,} characters"
        raise UserError(where, told, f"the text has {text.characters:,}", REMEDY)


# ---------------------------------------------------------------- a table


def attach(
    rows: Sequence[Row], profiles: Mapping[tuple[str, ...], Profile], texts: Mapping[tuple[str, str], Text]
) -> list[Row]:
    """Give every row its interval, the row below it and its flag; returns the differences of all tables."""
    tables: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found = profiles.get(key(row))
        if found and np.isfinite(found.nats).all():
            tables.setdefault((texts[row["corpus"], row["split"]].sha256, row["split"]), []).append(row)
    return [difference for table in tables.values() for difference in _table(table, profiles, texts)]


def key(row: Row) -> tuple[str, ...]:
    """What tells a row from all others."""
    return (*(row[name] for name in PLACE), row["split"])


def _table(
    rows: list[Row], profiles: Mapping[tuple[str, ...], Profile], texts: Mapping[tuple[str, str], Text]
) -> list[Row]:
    """All rows over one text: the longest correlation among them decides the blocks of all."""
    nats, sizes = in_blocks([profiles[key(row)] for row in rows])
    for row, ends in zip(rows, statistics.row_intervals(nats, sizes).tolist(), strict=True):
        _set_interval(row, ends)
    kept = sorted(range(len(rows)), key=lambda place: rows[place]["family"] == "oracle")
    last = len(rows) - max(0, sum(row["family"] == "oracle" for row in rows) - 1)  # a text has one source, told once
    tested = statistics.differences(nats[kept[:last]], sizes[kept[:last]])
    found = [_told(rows[kept[each.a]], rows[kept[each.b]], each) for each in tested]
    _set_below(rows, found)
    _flag_better(rows, found)
    return found


def in_blocks(profiles: Sequence[Profile]) -> tuple[np.ndarray, np.ndarray]:
    """Profiles of one text -> (M, K) nats and (M, K) bytes; the longest correlation decides how long a block is."""
    blocks = len(profiles[0].nats)
    times = max(1, min(math.ceil(max(each.span for each in profiles)), blocks // statistics.FEWEST_BLOCKS))
    nats, sizes = (_joined(np.stack(arrays), times) for arrays in zip(*(each[:2] for each in profiles), strict=True))
    return nats, sizes


def _joined(arrays: np.ndarray, times: int) -> np.ndarray:
    """(M, K) -> (M, K // times): blocks ``times`` as long; what is left over joins the first."""
    starts = np.arange(arrays.shape[1] % times, arrays.shape[1], times)
    starts[0] = 0
    return np.add.reduceat(arrays, starts, axis=1)


def _set_interval(row: Row, ends: list[float]) -> None:
    """In bits per byte, and from the same resamples in what is that figure times a constant, or the power of it."""
    if not all(map(math.isfinite, ends)):
        return
    row["interval"] = ends
    nats = [end * math.log(2) * row["bytes"] for end in ends]
    row["nats_per_character_interval"] = [each / row["characters"] for each in nats]
    if row["perplexity"] is not None:
        row["perplexity_interval"] = [math.exp(min(each / row["tokens"], 700.0)) for each in nats]


def _told(a: Row, b: Row, found: statistics.Difference) -> Row:
    sides = {side: {name: row[name] for name in PLACE} for side, row in (("a", a), ("b", b))}
    tested = {"difference": found.difference, "interval": [found.low, found.high], "p": found.p, "p_holm": found.p_holm}
    return {"corpus": a["corpus"], "split": a["split"], **sides, **tested}


def _set_below(rows: Sequence[Row], found: Iterable[Row]) -> None:
    """Each row against the one before it on the ladder: of its own tokenizer, or else the last of a lower rank.

    An ensemble stands beside the ladder, above its members: it is no other row's neighbour.
    """
    tested = {(_side(each["a"]), _side(each["b"])): each for each in found}
    places = {key(row): place for place, row in enumerate(rows)}
    for place, row in enumerate(rows):
        if row["family"] == "oracle":
            continue
        mine = [each for each in rows if each["corpus"] == row["corpus"] and not each["ensemble_of"]]
        same = [each for each in mine if each["tokenizer"] == row["tokenizer"] and places[key(each)] < place]
        others = sorted((each for each in mine if each["rank"] < row["rank"]), key=lambda each: each["rank"])
        for below in (same or others)[-1:]:
            row["below"] = _against(row, below, tested)


def _against(row: Row, below: Row, tested: Mapping[Any, Row]) -> Row | None:
    """Row less the row below it; negative where it is better."""
    forward, backward = ((_side(a), _side(b)) for a, b in ((row, below), (below, row)))
    found = tested.get(forward) or tested.get(backward)
    if found is None:
        return None
    sign = 1 if forward in tested else -1
    ends = sorted(sign * end for end in found["interval"])
    told = {"model": below["model"], "tokenizer": below["tokenizer"], "difference": sign * found["difference"]}
    return {**told, "interval": ends, "p": found["p"], "p_holm": found["p_holm"], "differs": found["p_holm"] < LEVEL}


def _side(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in PLACE)


# ---------------------------------------------------------------- flags


def flag_worse(row: Row, guessing: float | None) -> None:
    """A row that was fitted and is worse than not fitting; ``guessing``: nats a token where all are alike."""
    if not row["parameters"] or guessing is None:
        return
    nats = row["nats_per_token"]
    if nats is None:
        row["flag"] = "worse than uniform: it gives no probability to some token of the text"
    elif nats > guessing:
        row["flag"] = (
            f"worse than uniform: {nats:.4g} nats a token, where guessing among all tokens alike costs {guessing:.4g};"
            " it is surer of wrong tokens than of right ones, as a fit is that diverged or learnt its text by heart"
        )


def _flag_better(rows: Sequence[Row], found: Iterable[Row]) -> None:
    """Nobody can beat the source of a text on average, but on the text it was fitted on."""
    by_side = {_side(row): row for row in rows}
    for each in found:
        if (
            each["split"] == "train"
            or each["b"]["model"] != "oracle"
            or by_side[_side(each["b"])]["family"] != "oracle"
        ):
            continue
        if each["interval"][1] < 0:
            row, (low, high) = by_side[_side(each["a"])], each["interval"]
            row["flag"] = (
                f"{BETTER_THAN_THE_SOURCE}: {each['difference']:.4f} bits per byte against the oracle, interval"
                f" {low:.4f} to {high:.4f}; a probability or a byte count is wrong, or held-out text was learnt"
            )


def impossible(rows: Iterable[Row]) -> list[str]:
    """What no honest run can show."""
    flagged = (row for row in rows if (row["flag"] or "").startswith(BETTER_THAN_THE_SOURCE))
    return [f"{'/'.join(_side(row))} on {row['split']}: {row['flag']}" for row in flagged]
