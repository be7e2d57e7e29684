"""What the score files of a corpus say beside their average: unseen documents, positions, withheld couples, samples.

    unseen        the same figures on the documents that are no document of train
    positions     bits per byte of tokens that have 0, 1, 2-3, 4-7, ... tokens of their document before them
    transfer      see ``transfer``

Of several seeds the mean code length is analysed, and the samples of the first. Knows score files and texts; never a
model. Intervals are made in ``results``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.analyses import transfer
from lmstages.analyses.copies import Train
from lmstages.analyses.facts import Probe, Samples
from lmstages.analyses.novelty import Reference, Sample
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora.facts import Contrasts, OverlapFacts
from lmstages.corpora.overlap import facts_of
from lmstages.corpora.splits import SplitText, text_path
from lmstages.evaluation.score_files import Scores, load_experiment, load_oracle, mean_of, must_hold

Facts = dict[str, Any]
ORACLE: Facts = {"tokenizer": "-", "model": "oracle", "seeds": [], "context": None, "fitted": False}


def analyse(root: Path, section: Mapping[str, Any], out: Path, made: artifacts.Made) -> None:
    """All experiments of the corpus in ``root`` -> ``analyses.json``, beside it ``transfer.safetensors``."""
    overlap, masks = _overlap(root, section["splits"])
    contrasts = _contrasts(root / "contrasts.json", section["splits"]) if section["source"] else None
    rows: list[Facts] = []
    couples = transfer.Costs()
    experiments = [*([ORACLE] if section["source"] else []), *section["experiments"]]
    of_probes = _measured([_probe(root, experiment) for experiment in experiments], root / "text", section)
    for experiment, probed in zip(experiments, of_probes, strict=True):
        for split, scores in _mean_scores(root, experiment, section["splits"]):
            where = {"tokenizer": experiment["tokenizer"], "model": experiment["model"], "split": split}
            measured: Facts = {"unseen": unseen(scores, masks[f"{split}.seen"], masks[f"{split}.characters"])}
            measured["positions"] = positions(scores) if section["documents"] else []
            rows.append({**where, **measured, **probed})
            if contrasts and contrasts["combinations"][split] and not scores.skipped:
                couples.add(where, scores, contrasts["combinations"][split], experiment["context"])
    references = contrasts["reference"] if contrasts else {}
    shares = {split: facts_of(overlap, split) for split in overlap["splits"]}
    artifacts.save_arrays(out.with_name("transfer.safetensors"), couples.sums, {}, made)
    content = {"overlap": shares, "rows": rows, "transfer": couples.rows, "reference": references}
    artifacts.save_json(out, content, made)


def _overlap(root: Path, splits: Sequence[str]) -> tuple[Any, Mapping[str, np.ndarray]]:
    """``overlap.json`` and its masks; a UserError where they do not belong together, or to the text."""
    paths = root / "overlap.json", root / "overlap.safetensors"
    facts, masks = artifacts.load_pair(*paths, OverlapFacts)
    for split in splits:
        seen, characters = (masks.get(f"{split}.{name}") for name in ("seen", "characters"))
        right = seen is not None and characters is not None and (seen.dtype, characters.dtype.kind) == (bool, "i")
        if split not in facts["splits"] or not right:
            raise UserError(paths[1], f"is not of the documents of {split}", "", artifacts.make_again(paths[1]))
    return facts, masks


def _contrasts(path: Path, splits: Sequence[str]) -> Any:
    content = artifacts.load_json(path, Contrasts)
    artifacts.must_be_current(path)
    if lacking := [split for split in splits if split not in content["combinations"]]:
        raise UserError(path, f"lacks {', '.join(lacking)}", "", artifacts.make_again(path))
    return content


Probed = tuple[Any, Any] | None  # the samples and the probe of an experiment; None where it has none


def _probe(root: Path, experiment: Mapping[str, Any]) -> Probed:
    """What probing the first seed gave."""
    if not experiment["fitted"]:
        return None
    folder = root / experiment["tokenizer"] / experiment["model"] / f"seed{experiment['seeds'][0]}"
    paths = [folder / name for name in ("samples.json", "probe.json")]
    samples, probed = (artifacts.load_json(*pair) for pair in zip(paths, (Samples, Probe), strict=True))
    artifacts.must_be_made_together(*paths)
    artifacts.must_be_current(paths[0])
    return (samples, probed) if samples["status"] == "ok" else None


def _measured(probes: Sequence[Probed], text: Path, section: Mapping[str, Any]) -> Iterator[Facts]:
    """For every probe its columns; train is read once for the samples of all, and not at all where there are none."""
    samples = [(probe[0]["texts"], probe[0]["ended"]) for probe in probes if probe and probe[0]["texts"]]
    reference = _reference(text, section, samples) if samples else None
    for probe in probes:
        facts: Facts = dict.fromkeys(["novelty", "minimal_pairs", "neighbours"])
        if probe:
            facts |= {name: probe[1][name] for name in ("minimal_pairs", "neighbours")}
        if probe and reference and probe[0]["texts"]:
            facts["novelty"] = reference.measure(probe[0]["texts"], probe[0]["ended"])
        yield facts


def _reference(text: Path, section: Mapping[str, Any], samples: Sequence[Sample]) -> Reference:
    held_out = next((split for split in ("test", "valid") if split in section["splits"]), section["splits"][0])
    train, test = (SplitText.open(text, split) for split in ("train", held_out))
    pieces = Train(train.points(), text_path(text, "train").stat().st_size, train.stream)
    return Reference(pieces, list(test.texts()), section["source"], samples)


def _mean_scores(root: Path, experiment: Mapping[str, Any], splits: Sequence[str]) -> Iterator[tuple[str, Scores]]:
    """The score files of an experiment's seeds as one; nothing where a fit failed."""
    seeds = [root / experiment["tokenizer"] / experiment["model"] / f"seed{seed}" for seed in experiment["seeds"]]
    loaded = [load_experiment(folder) for folder in seeds] or [load_oracle(root / "oracle", splits)]
    for folder, scores in zip(seeds, loaded, strict=False):
        must_hold(folder / "scores.safetensors", scores, splits if all(loaded) else ())
    for split in splits if all(loaded) else ():
        yield split, mean_of([scores[split] for scores in loaded])


def _bits(log_probs: np.ndarray) -> float:
    return -float(log_probs.sum(dtype=np.float64)) / math.log(2)


def unseen(scores: Scores, seen: np.ndarray, characters: np.ndarray) -> Facts | None:
    """(D,) whether train holds each document -> the figures on the others; None in a stream, or where none is left.

    An infinite figure is None, since JSON has no number for it.
    """
    left = ~seen[scores.documents] if len(seen) == len(characters) and len(seen) > 1 else np.zeros(0, dtype=bool)
    if not left.any() or scores.skipped:
        return None
    bits, size = _bits(scores.log_probs[left]), int(scores.lengths[left].sum(dtype=np.int64))
    nats = bits * math.log(2)
    return {
        "documents": int((~seen).sum()),
        "byte_fraction": size / int(scores.lengths.sum(dtype=np.int64)),
        "bits_per_byte": artifacts.finite_or_none(bits / size),
        "nats_per_character": artifacts.finite_or_none(nats / int(characters[~seen].sum())),
        "nats_per_token": artifacts.finite_or_none(nats / int(left.sum())),
    }


def positions(scores: Scores) -> list[Facts]:
    """[{low, high, tokens, bytes, bits_per_byte}]: tokens with low ... high - 1 tokens of the document before them."""
    first = np.flatnonzero(np.diff(scores.documents, prepend=-1))
    lengths = np.diff([*first, len(scores.documents)])
    position = np.arange(len(scores.documents)) - np.repeat(first, lengths)
    bins = []
    for exponent in range(int(position.max(initial=0)).bit_length() + 1):
        low, high = (1 << exponent) >> 1, 1 << exponent
        inside = (position >= low) & (position < high)
        size, tokens = int(scores.lengths[inside].sum(dtype=np.int64)), int(inside.sum())
        bits_per_byte = artifacts.finite_or_none(_bits(scores.log_probs[inside]) / size) if size else None
        bins.append({"low": low, "high": high, "tokens": tokens, "bytes": size, "bits_per_byte": bits_per_byte})
    return bins
