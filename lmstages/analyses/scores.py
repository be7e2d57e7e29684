"""What the score files of a corpus tell beside their average: unseen documents, position, near transfer, samples.

    unseen        the same figures on the documents that are no document of train
    by_position   bits per byte of tokens that have 0, 1, 2-3, 4-7, ... tokens of their document before them
    transfer      bits per byte of a couple's second word where train holds such couples and where it was withheld:
                      gap        = unseen - seen; gap_bits the same in bits a couple, which words of other lengths
                                   do not move: the source's own is 0
                      gap_closed = 1 - gap_bits / gap_bits of counting the couples themselves
                  a model that cannot look back as far as the couple's first word has a gap near 0 for that reason and
                  not for having learnt its kind: ``sees`` is the share of couples whose first word it may look at, and
                  below a half there is no ``gap_closed``

The interval of a gap is 95 % of 1,000 bootstrap resamples of whole documents (Efron 1979). Of several seeds the mean
code length is analysed, and the samples of the first. Knows score files and texts; never a model.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.analyses.novelty import Reference
from lmstages.core import artifacts
from lmstages.corpora.overlap import facts_of
from lmstages.corpora.splits import SplitText
from lmstages.evaluation.score_files import Scores, load_scores

Row = dict[str, Any]
RESAMPLES, LEAST_SEEN = 1000, 0.5
ORACLE: Row = {"tokenizer": "-", "model": "oracle", "seeds": [], "context": None, "fitted": False}


def analyse(root: Path, section: Mapping[str, Any], out: Path, made: artifacts.Made) -> None:
    """All cells of the corpus in ``root`` -> ``analyses.json`` {overlap, transfer, rows}."""
    overlap, masks = artifacts.load_json(root / "overlap.json"), artifacts.load_arrays(root / "overlap.safetensors")[0]
    contrasts = artifacts.load_json(root / "contrasts.json") if section["source"] else None
    reference = _reference(root / "text", section)
    rows: list[Row] = []
    transfers: list[Row] = []
    for cell in [*([ORACLE] if section["source"] else []), *section["cells"]]:
        probed = _probed(root, cell, reference)
        for split, scores in _mean_scores(root, cell, section["splits"]):
            named = {key: cell[key] for key in ("tokenizer", "model")} | {"split": split}
            told: Row = {"unseen": unseen(scores, masks[f"{split}.seen"], masks[f"{split}.characters"])}
            told["by_position"] = by_position(scores) if section["documents"] else None
            rows.append({**named, **told, **probed})
            if contrasts and contrasts["combinations"][split] and not scores.skipped:
                rest = contrasts["combinations"][split], contrasts["reference"][split], cell["context"]
                transfers.append({**named, **transfer(scores, *rest)})
    shares = {split: facts_of(overlap, split) for split in section["splits"]}
    artifacts.save_json(out, {"overlap": shares, "transfer": transfers, "rows": rows}, made)


def _reference(text: Path, section: Mapping[str, Any]) -> Reference:
    held_out = next((split for split in ("test", "valid") if split in section["splits"]), section["splits"][0])
    train, test = (SplitText.open(text, split) for split in ("train", held_out))
    return Reference(list(train.texts()), list(test.texts()), section["source"], test.stream)


def _probed(root: Path, cell: Mapping[str, Any], reference: Reference) -> Row:
    """What probing the first seed found; the oracle is right on every pair, since the grammar refuses the other."""
    nothing = dict.fromkeys(["novelty", "minimal_pairs", "neighbours"])
    if not cell["fitted"]:
        return nothing
    folder = root / cell["tokenizer"] / cell["model"] / f"seed{cell['seeds'][0]}"
    drawn, found = (artifacts.load_json(folder / name) for name in ("samples.json", "probe.json"))
    if drawn["status"] != "ok":
        return nothing
    novelty = reference.measure(drawn["texts"], drawn["ended"])
    return {"novelty": novelty, "minimal_pairs": found["minimal_pairs"], "neighbours": found["neighbours"]}


def _mean_scores(root: Path, cell: Mapping[str, Any], splits: Sequence[str]) -> Iterator[tuple[str, Scores]]:
    """The score files of a cell's seeds as one: the mean of what each token costs; nothing where a fit failed."""
    folders = [root / cell["tokenizer"] / cell["model"] / f"seed{seed}" for seed in cell["seeds"]]
    loaded = [load_scores(folder / "scores.safetensors") for folder in folders or [root / "oracle"]]
    for split in splits if all(loaded) else ():
        each = [one[split] for one in loaded]
        mean = np.mean([one.log_probs.astype(np.float64) for one in each], axis=0)
        yield split, Scores(mean, *(getattr(each[0], name) for name in REST))


REST = ("lengths", "documents", "characters", "protocol", "skipped")


def _bits(log_probs: np.ndarray) -> float:
    return -float(log_probs.sum(dtype=np.float64)) / math.log(2)


def unseen(scores: Scores, seen: np.ndarray, characters: np.ndarray) -> Row | None:
    """(D,) whether train holds each document -> the figures on the others; None in a stream, or where none is left."""
    left = ~seen[scores.documents] if len(seen) == len(characters) and len(seen) > 1 else np.zeros(0, dtype=bool)
    if not left.any() or scores.skipped:
        return None
    bits, size = _bits(scores.log_probs[left]), int(scores.lengths[left].sum(dtype=np.int64))
    nats = bits * math.log(2)
    return {
        "documents": int((~seen).sum()),
        "share_bytes": size / int(scores.lengths.sum(dtype=np.int64)),
        "bits_per_byte": bits / size,
        "nats_per_character": nats / int(characters[~seen].sum()),
        "nats_per_token": nats / int(left.sum()),
    }


def by_position(scores: Scores) -> list[Row]:
    """[{from, to, tokens, bytes, bits_per_byte}], ``to`` exclusive: tokens with from ... to - 1 tokens before them."""
    first = np.flatnonzero(np.diff(scores.documents, prepend=-1))
    lengths = np.diff([*first, len(scores.documents)])
    position = np.arange(len(scores.documents)) - np.repeat(first, lengths)
    found = []
    for bucket in range(int(position.max(initial=0)).bit_length() + 1):
        low, high = (1 << bucket) >> 1, 1 << bucket
        inside = (position >= low) & (position < high)
        size, tokens = int(scores.lengths[inside].sum(dtype=np.int64)), int(inside.sum())
        each = _bits(scores.log_probs[inside]) / size if size else None
        found.append({"from": low, "to": high, "tokens": tokens, "bytes": size, "bits_per_byte": each})
    return found


# ---------------------------------------------------------------- near transfer


def transfer(
    scores: Scores, combinations: Sequence[Sequence[Any]], reference: Mapping[str, float | None], context: int | None
) -> Row:
    """Couples [document, start, end, withheld, partner] in the text of the score file -> a row of ``transfer``."""
    couples = np.array(combinations, dtype=np.int64)
    bits, size, sees = couple_costs(scores, couples, context)
    sums = np.zeros((int(scores.documents.max(initial=0)) + 1, 2, 3))
    np.add.at(sums, (couples[:, 0], couples[:, 3]), np.column_stack([bits, size, np.ones(len(bits))]))
    found = gaps(sums.sum(axis=0)[None], reference["gap_bits"])
    resampled = gaps(_resampled(sums), reference["gap_bits"])
    names = ("seen", "unseen", "gap", "gap_bits", "gap_closed")
    row: Row = {name: artifacts.finite_or_none(float(found[name][0])) for name in names}
    row |= {f"{name}_interval": _interval(resampled[name]) for name in ("gap", "gap_bits", "gap_closed")}
    row |= {
        "couples": int((couples[:, 3] == 0).sum()),
        "withheld": int(couples[:, 3].sum()),
        "sees": float(sees.mean()),
    }
    if row["sees"] < LEAST_SEEN:
        row |= {"gap_closed": None, "gap_closed_interval": None}
    return {**row, "interval": row["gap_interval"], "reference_bits": reference["gap_bits"]}


def couple_costs(scores: Scores, couples: np.ndarray, context: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(C, 5) -> bits and bytes of the tokens that a second word lies in, and whether its first word was in sight."""
    ends = np.cumsum(scores.lengths, dtype=np.int64)
    begins = ends - scores.lengths
    origin = begins[np.searchsorted(scores.documents, couples[:, 0])]
    first = np.searchsorted(ends, origin + couples[:, 1], side="right")
    after = np.searchsorted(begins, origin + couples[:, 2], side="left")
    costs = np.concatenate([[0], np.cumsum(-scores.log_probs.astype(np.float64) / math.log(2))])
    partner = np.searchsorted(ends, origin + couples[:, 4], side="right")
    sees = np.ones(len(first), dtype=bool) if context is None else first - partner <= context
    return costs[after] - costs[first], ends[after - 1] - begins[first], sees


def gaps(sums: np.ndarray, reference: float | None) -> dict[str, np.ndarray]:
    """(R, 2, 3) bits, bytes and number of couples, seen and withheld -> (R,) of each figure; NaN where it has none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        per_byte, per_couple = sums[:, :, 0] / sums[:, :, 1], sums[:, :, 0] / sums[:, :, 2]
        gap = per_couple[:, 1] - per_couple[:, 0]
        closed = 1 - gap / (reference if reference and reference > 0 else np.nan)
    named = {"seen": per_byte[:, 0], "unseen": per_byte[:, 1], "gap": per_byte[:, 1] - per_byte[:, 0]}
    return {**named, "gap_bits": gap, "gap_closed": closed}


def _resampled(sums: np.ndarray) -> np.ndarray:
    """(D, 2, 3) per document -> (RESAMPLES, 2, 3) of as many documents, drawn with replacement."""
    count = len(sums)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.tensordot(drawn, sums, axes=1)


def _interval(values: np.ndarray) -> list[float] | None:
    values = values[np.isfinite(values)]
    return np.quantile(values, [0.025, 0.975]).tolist() if len(values) else None


# ---------------------------------------------------------------- into the comparison
