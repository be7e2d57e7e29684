"""Rows get what makes them comparable: an interval each, a tested difference for every pair, flags.

Rows stand in one table, and are paired and corrected together, where they are scored on the same bytes, whatever the
corpus is called there and whatever its tokens are. ``statistics`` has the statistics.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.core.workflow_files import STARTER
from lmstages.corpora import splits
from lmstages.corpora.facts import CorpusFacts
from lmstages.evaluation.score_files import Scores
from lmstages.results import statistics
from lmstages.results.schema import Columns, Difference, Result, columns
from lmstages.results.warnings import warn_of_blocks

Key = tuple[str, str, str, str]  # corpus, tokenizer, model, split
BETTER_THAN_THE_SOURCE = "better than the source"
LARGEST = 709  # nats per token; e^709.8 is the largest float
REMEDY = f"delete this experiment's folder and run {STARTER} again"


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
        facts = artifacts.load_json(path, CorpusFacts)["splits"][split]
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
) -> Columns[Difference]:
    """Give every row its interval, the row below it and its flag; returns the differences of all pairs."""
    by_text: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        blocks = profiles.get(row.key)
        if blocks and np.isfinite(blocks.nats).all():
            by_text.setdefault((texts[row.corpus, row.split].sha256, row.split), []).append(row)
    tables = [_of_one_text(same, profiles).columns() for same in by_text.values()]
    empty = {column.name: np.zeros(0, object if column.dtype == "string" else float) for column in columns(Difference)}
    joined = {name: np.concatenate([none, *(table[name] for table in tables)]) for name, none in empty.items()}
    return Columns(Difference, joined)


def _of_one_text(rows: list[Result], profiles: Mapping[Key, Profile]) -> "Pairs":
    """All rows over one text: the longest correlation among them decides the blocks of all."""
    nats, sizes = in_blocks([profiles[row.key] for row in rows])
    for row, (low, high) in zip(rows, statistics.row_intervals(nats, sizes).tolist(), strict=True):
        _set_interval(row, low, high)
    warn_of_blocks(rows, nats.shape[1])
    order = sorted(range(len(rows)), key=lambda index: rows[index].family == "oracle")
    oracles = sum(row.family == "oracle" for row in rows)
    kept = order[: len(rows) - max(0, oracles - 1)]  # corpora that share a text have one source
    pairs = Pairs([rows[index] for index in kept], statistics.paired_differences(nats[kept], sizes[kept]))
    _set_below(rows, pairs)
    _flag_better(pairs)
    return pairs


@dataclass(frozen=True)
class Pairs:
    """The rows of one text that were compared, and the difference of every two of them."""

    rows: Sequence[Result]
    tested: statistics.PairedDifferences

    def columns(self) -> dict[str, np.ndarray]:
        """Those of ``schema.Difference``."""
        names = ("corpus", "tokenizer", "model")
        texts = {name: np.array([getattr(row, name) for row in self.rows], dtype=object) for name in (*names, "split")}
        sides = {f"a_{name}": texts[name][self.tested.a] for name in names}
        sides |= {f"b_{name}": texts[name][self.tested.b] for name in names}
        numbers = {name: getattr(self.tested, name) for name in ("difference", "low", "high", "p", "p_holm")}
        return {**{name: texts[name][self.tested.a] for name in ("corpus", "split")}, **sides, **numbers}

    def between(self, a: int, b: int) -> statistics.PairedDifference:
        """The pair of two rows, by their indices a < b."""
        pair = a * (2 * len(self.rows) - a - 1) // 2 + b - a - 1
        return statistics.PairedDifference(*(column[pair].item() for column in self.tested))


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


def _set_below(rows: Sequence[Result], pairs: Pairs) -> None:
    """Each row against the one before it on the ladder and in its category: of its own tokenizer, or else the last of
    a lower rank.

    An ensemble, and what was made from a fitted model, stand beside the ladder, above what they are made of: they are
    no other row's neighbour. A bound is compared with none, since what it is made of is exact.
    """
    indices = {row.key: index for index, row in enumerate(pairs.rows)} if len(pairs.tested.a) else {}
    ladders: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        ladders.setdefault((row.corpus, row.category), []).extend([] if _is_beside(row) else [row])
    before: dict[tuple[str, str, str], Result] = {}
    by_key = {row.key: row for row in rows}
    for row in rows:
        ladder = row.corpus, row.tokenizer, row.category
        source = by_key.get((row.corpus, row.tokenizer, row.made_of or "", row.split))
        if row.family != "oracle" and row.category != "bound":
            below = source or before.get(ladder) or _last_of_lower_rank(row, ladders[row.corpus, row.category])
            if below is not None and row.key in indices and below.key in indices:
                _compare(row, below, indices, pairs)
        if not _is_beside(row):
            before[ladder] = row


def _is_beside(row: Result) -> bool:
    """Whether a row is made of others of the table, and so no step of the ladder."""
    return bool(row.ensemble_of or row.made_of)


def _last_of_lower_rank(row: Result, ladder: Iterable[Result]) -> Result | None:
    lower = sorted((other for other in ladder if other.rank < row.rank), key=lambda other: other.rank)
    return lower[-1] if lower else None


def _compare(row: Result, below: Result, indices: Mapping[Key, int], pairs: Pairs) -> None:
    """Row less the row below it; negative where it is better."""
    forward = indices[row.key] < indices[below.key]
    pair, sign = pairs.between(*sorted((indices[row.key], indices[below.key]))), 1 if forward else -1
    row.below_model, row.below_tokenizer, row.below_difference = below.model, below.tokenizer, sign * pair.difference
    row.below_low, row.below_high = sorted((sign * pair.low, sign * pair.high))
    row.below_p, row.below_p_holm = pair.p, pair.p_holm


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


def _flag_better(pairs: Pairs) -> None:
    """No model can beat the source of a text on average, but on the text it was fitted on."""
    rows, tested = pairs.rows, pairs.tested
    source = np.array([row.family == row.model == "oracle" and row.split != "train" for row in rows], dtype=bool)
    for pair in np.flatnonzero(source[tested.b] & (tested.high < 0)).tolist():
        difference, low, high = (float(column[pair]) for column in (tested.difference, tested.low, tested.high))
        rows[tested.a[pair]].flag = (
            f"{BETTER_THAN_THE_SOURCE}: {difference:.4f} bits per byte against the oracle, interval"
            f" {low:.4f} to {high:.4f}; a probability or a byte count is wrong, or held-out text was"
            " learned"
        )


def impossible(rows: Iterable[Result]) -> list[str]:
    """Rows that no honest run can show."""
    flagged = (row for row in rows if (row.flag or "").startswith(BETTER_THAN_THE_SOURCE))
    return [f"{row.corpus}/{row.tokenizer}/{row.model} on {row.split}: {row.flag}" for row in flagged]
