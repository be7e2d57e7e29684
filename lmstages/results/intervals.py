"""Rows get what makes them comparable: an interval each, a tested difference for every pair, flags.

Rows stand in one table, and are paired and corrected together, where they are scored on the same bytes, whatever the
corpus is called there and whatever its tokens are. ``statistics`` has the statistics.
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
from lmstages.results.schema import Difference, Result

Key = tuple[str, str, str, str]  # corpus, tokenizer, model, split
BETTER_THAN_THE_SOURCE = "better than the source"
LARGEST = 709  # nats per token; e^709.8 is the largest float
REMEDY = "delete this experiment's folder and run snakemake again"


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
        path, text = folder / "corpus.json", splits.text_path(folder, split)
        ends, _, _ = splits.read_documents(folder, split)
        facts = artifacts.load_json(path, splits.CorpusFacts)["splits"][split]
        artifacts.must_be_of_one_call(path, text)
        characters, sha256 = facts["characters"], artifacts.made_of(artifacts.verified(text))["sha256"]
        if not len(ends) or not characters or (facts["documents"], facts["bytes"]) != (len(ends), int(ends[-1])):
            raise UserError(path, f"is not of {text}", "", artifacts.make_again(path))
        return cls(sha256, ends, statistics.block_ends(ends, characters), characters)


class Profile(NamedTuple):
    """A row's nats and bytes in each block of its text (K,), and over how many blocks its code lengths correlate."""

    nats: np.ndarray
    sizes: np.ndarray
    span: float


def profile(scores: Scores, text: Text, where: str) -> Profile:
    """A score file's code lengths by the blocks of its text; an error where it does not cover that text."""
    must_cover(scores, text, where)
    nats, sizes = statistics.code_lengths(scores.log_probs, scores.lengths, scores.skipped, text.block_ends)
    if len(text.document_ends) >= statistics.FEWEST_DOCUMENTS:
        return Profile(nats, sizes, 1.0)
    tokens_per_block = len(scores.log_probs) / max(1, len(text.block_ends))
    return Profile(nats, sizes, statistics.automatic_length(scores.log_probs) / tokens_per_block)


def must_cover(scores: Scores, text: Text, where: str) -> None:
    """Every byte of the text once, document by document; what a table of token lengths says does not count."""
    covered = scores.skipped + int(scores.lengths.sum(dtype=np.int64))
    size = int(text.document_ends[-1])
    if covered != size:
        raise UserError(where, f"its scores cover {covered:,} bytes", f"the text has {size:,}", REMEDY)
    if scores.skipped:
        return
    sizes = np.bincount(scores.documents, scores.lengths, len(text.document_ends))[: len(text.document_ends)]
    for first in np.flatnonzero(np.cumsum(sizes) != text.document_ends)[:1]:
        problem = f"its scores end document {first} at byte {int(np.cumsum(sizes)[first]):,}"
        raise UserError(where, problem, f"in the text it ends at {int(text.document_ends[first]):,}", REMEDY)
    if scores.characters != text.characters:
        problem = f"its scores divide by {scores.characters:,} characters"
        raise UserError(where, problem, f"the text has {text.characters:,}", REMEDY)


# ---------------------------------------------------------------- all rows of a text


def attach(
    rows: Sequence[Result], profiles: Mapping[Key, Profile], texts: Mapping[tuple[str, str], Text]
) -> list[Difference]:
    """Give every row its interval, the row below it and its flag; returns the differences of all pairs."""
    by_text: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        blocks = profiles.get(row.key)
        if blocks and np.isfinite(blocks.nats).all():
            by_text.setdefault((texts[row.corpus, row.split].sha256, row.split), []).append(row)
    return [difference for same in by_text.values() for difference in _of_one_text(same, profiles)]


def _of_one_text(rows: list[Result], profiles: Mapping[Key, Profile]) -> list[Difference]:
    """All rows over one text: the longest correlation among them decides the blocks of all."""
    nats, sizes = in_blocks([profiles[row.key] for row in rows])
    for row, (low, high) in zip(rows, statistics.row_intervals(nats, sizes).tolist(), strict=True):
        _set_interval(row, low, high)
    order = sorted(range(len(rows)), key=lambda index: rows[index].family == "oracle")
    oracles = sum(row.family == "oracle" for row in rows)
    kept = order[: len(rows) - max(0, oracles - 1)]  # corpora that share a text have one source
    tested = statistics.differences(nats[kept], sizes[kept])
    differences = [_difference(rows[kept[pair.a]], rows[kept[pair.b]], pair) for pair in tested]
    _set_below(rows, differences)
    _flag_better(rows, differences)
    return differences


def in_blocks(profiles: Sequence[Profile]) -> tuple[np.ndarray, np.ndarray]:
    """Profiles of one text -> (M, K) nats and (M, K) bytes; the longest correlation decides how long a block is."""
    blocks = len(profiles[0].nats)
    times = max(1, min(math.ceil(max(row.span for row in profiles)), blocks // statistics.FEWEST_BLOCKS))
    nats, sizes = (_joined(np.stack(arrays), times) for arrays in zip(*(row[:2] for row in profiles), strict=True))
    return nats, sizes


def _joined(arrays: np.ndarray, times: int) -> np.ndarray:
    """(M, K) -> (M, K // times): blocks ``times`` as long; what is left over joins the first."""
    starts = np.arange(arrays.shape[1] % times, arrays.shape[1], times)
    starts[0] = 0
    return np.add.reduceat(arrays, starts, axis=1)


def _set_interval(row: Result, low: float, high: float) -> None:
    """In bits per byte, and from the same resamples in what is that figure times a constant, or the power of it."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return
    assert row.bytes is not None and row.characters is not None, "a scored row covers text"
    row.bits_per_byte_low, row.bits_per_byte_high = low, high
    nats_low, nats_high = (end * math.log(2) * row.bytes for end in (low, high))
    row.nats_per_character_low, row.nats_per_character_high = nats_low / row.characters, nats_high / row.characters
    if row.perplexity is not None and row.tokens is not None:
        row.perplexity_low, row.perplexity_high = perplexity(nats_low / row.tokens), perplexity(nats_high / row.tokens)


def perplexity(nats_per_token: float) -> float:
    """exp(nats per token); infinite beyond what a float holds."""
    return math.exp(nats_per_token) if nats_per_token < LARGEST else math.inf


def _difference(a: Result, b: Result, pair: statistics.PairedDifference) -> Difference:
    sides: dict[str, Any] = {f"a_{name}": getattr(a, name) for name in ("corpus", "tokenizer", "model")}
    sides |= {f"b_{name}": getattr(b, name) for name in ("corpus", "tokenizer", "model")}
    tested: dict[str, Any] = {name: getattr(pair, name) for name in ("difference", "low", "high", "p", "p_holm")}
    return Difference(corpus=a.corpus, split=a.split, **sides, **tested)


def _set_below(rows: Sequence[Result], differences: Iterable[Difference]) -> None:
    """Each row against the one before it on the ladder: of its own tokenizer, or else the last of a lower rank.

    An ensemble stands beside the ladder, above its members: it is no other row's neighbour.
    """
    tested = {(_side_a(pair), _side_b(pair)): pair for pair in differences}
    for index, row in enumerate(rows):
        if row.family == "oracle":
            continue
        ladder = [other for other in rows if other.corpus == row.corpus and not other.ensemble_of]
        before = {id(other) for other in rows[:index]}
        same = [other for other in ladder if other.tokenizer == row.tokenizer and id(other) in before]
        others = sorted((other for other in ladder if other.rank < row.rank), key=lambda other: other.rank)
        for below in (same or others)[-1:]:
            _compare(row, below, tested)


def _compare(row: Result, below: Result, tested: Mapping[tuple[Any, Any], Difference]) -> None:
    """Row less the row below it; negative where it is better."""
    forward, backward = (_side(row), _side(below)), (_side(below), _side(row))
    pair = tested.get(forward) or tested.get(backward)
    if pair is None:
        return
    sign = 1 if forward in tested else -1
    row.below_model, row.below_tokenizer, row.below_difference = below.model, below.tokenizer, sign * pair.difference
    row.below_low, row.below_high = sorted((sign * pair.low, sign * pair.high))
    row.below_p, row.below_p_holm = pair.p, pair.p_holm


def _side(row: Result) -> tuple[str, str, str]:
    return row.corpus, row.tokenizer, row.model


def _side_a(pair: Difference) -> tuple[str, str, str]:
    return pair.a_corpus, pair.a_tokenizer, pair.a_model


def _side_b(pair: Difference) -> tuple[str, str, str]:
    return pair.b_corpus, pair.b_tokenizer, pair.b_model


# ---------------------------------------------------------------- flags


def flag_impossible_tokens(row: Result, scores: Scores) -> None:
    """A row that gives some tokens of the text no probability: how many, and where the first stands."""
    impossible = np.flatnonzero(np.isneginf(scores.log_probs))
    if len(impossible):
        byte = scores.skipped + int(scores.lengths[: impossible[0]].sum(dtype=np.int64))
        row.flag = (
            f"infinite: {len(impossible):,} of {len(scores.log_probs):,} tokens have probability zero, the first at"
            f" byte {byte:,} of the text"
        )


def flag_worse(row: Result, guessing: float | None) -> None:
    """A row that was fitted and is worse than not fitting; ``guessing``: nats per token of the uniform model."""
    nats = row.nats_per_token
    if row.flag or not row.parameters or guessing is None or nats is None or nats <= guessing:
        return
    row.flag = (
        f"worse than uniform: {nats:.4g} nats per token, where guessing costs {guessing:.4g}; the fit diverged or"
        " overfitted"
    )


def flag_beyond(row: Result) -> None:
    """A row without an impossible token whose perplexity is too large to be written all the same."""
    if not row.flag and row.nats_per_token is not None and row.nats_per_token >= LARGEST:
        row.flag = f"perplexity beyond e^{LARGEST}: {row.nats_per_token:.4g} nats per token, yet no token is impossible"


def _flag_better(rows: Sequence[Result], differences: Iterable[Difference]) -> None:
    """No model can beat the source of a text on average, but on the text it was fitted on."""
    by_side = {_side(row): row for row in rows}
    for pair in differences:
        against_oracle = pair.b_model == "oracle" and by_side[_side_b(pair)].family == "oracle"
        if pair.split != "train" and against_oracle and pair.high < 0:
            by_side[_side_a(pair)].flag = (
                f"{BETTER_THAN_THE_SOURCE}: {pair.difference:.4f} bits per byte against the oracle, interval"
                f" {pair.low:.4f} to {pair.high:.4f}; a probability or a byte count is wrong, or held-out text was"
                " learned"
            )


def impossible(rows: Iterable[Result]) -> list[str]:
    """Rows that no honest run can show."""
    flagged = (row for row in rows if (row.flag or "").startswith(BETTER_THAN_THE_SOURCE))
    return [f"{row.corpus}/{row.tokenizer}/{row.model} on {row.split}: {row.flag}" for row in flagged]
