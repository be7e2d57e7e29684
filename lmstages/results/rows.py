"""Score files to rows: the one place where nats become bits, and tokens become bytes.

    perplexity          exp(- sum log p / tokens)            comparable within one tokenizer only
    nats per character  - sum log p / characters
    bits per byte       - sum log p / (bytes ln 2)           the axis on which every row stands

A model of several seeds is one row, the mean of their code lengths, never the best of them; a second row averages
their probabilities. Knows score files and what the fits wrote beside them; never a model or a text.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.core import artifacts
from lmstages.core.artifacts import finite_or_none
from lmstages.core.errors import UserError
from lmstages.evaluation.facts import Compressors, Evaluation, QuantizationError, Reported, load_fit
from lmstages.evaluation.score_files import Scores, ensemble_of, load_experiment, load_oracle, load_reported, mean_of
from lmstages.results.costs import Cost, cost_of, total
from lmstages.results.intervals import flag_beyond, flag_impossible_tokens, flag_worse, perplexity
from lmstages.results.schema import Result, Seed

PREDICTS = ("static", "online", "pretrained")  # categories whose scores are probabilities of the next token
BEYOND = 1000  # the oracle's rank: after every model
ORACLE = "The source itself: the code length of a reader who knows the grammar; no model is better on average."


class Measures(NamedTuple):
    """What one score file says of a text; infinite where a token has probability zero."""

    tokens: int
    bytes: int
    characters: int
    nats_per_token: float
    perplexity: float
    nats_per_character: float
    bits_per_byte: float


def measures(scores: Scores) -> Measures:
    """Sums over all scored tokens, in double precision."""
    nats = -float(scores.log_probs.sum(dtype=np.float64))
    tokens, size = len(scores.log_probs), int(scores.lengths.sum(dtype=np.int64))
    per_token = nats / tokens
    return Measures(
        tokens,
        size,
        scores.characters,
        per_token,
        perplexity(per_token),
        nats / scores.characters,
        nats / math.log(2) / size,
    )


@dataclass(frozen=True)
class Scored:
    """A row with the scores that it was made of, where it has any, and the score of each seed."""

    row: Result
    scores: Scores | None
    seeds: Sequence[Seed] = ()


# ---------------------------------------------------------------- models


def model_rows(
    folders: Sequence[Path], seeds: Sequence[int], splits: Sequence[str], facts: Mapping[str, Any]
) -> Iterator[Scored]:
    """A row for each split: a model, the mean over its seeds; ``facts``: what the ladder says of it."""
    fits = [load_fit(folder, ["hyperparameters"]) for folder in folders]
    base = _base(folders[0], seeds, fits[0], facts)
    evaluations = [artifacts.load_json(folder / "evaluation.json", Evaluation, ["status"]) for folder in folders]
    failed = [content["status"] for content in (*fits, *evaluations) if content["status"] != "ok"]
    scores = [load_experiment(folder, () if failed else splits) for folder in folders]
    if failed:
        yield from (Scored(replace(base, split=split, status=failed[0]), None) for split in splits)
        return
    costs = [cost_of(folder) for folder in folders]
    base = replace(base, **{name: fits[0][name] for name in ("parameters", "device", "threads")})
    base.flops, base.tokens_seen, base.fit_seconds = costs[0].flops, costs[0].tokens, _mean_seconds(costs)
    for split in splits:
        by_seed = [seed[split] for seed in scores]
        row = replace(base, split=split)
        row.score_seconds = _mean([_seconds(*pair, split) for pair in zip(folders, evaluations, strict=True)])
        guessing = evaluations[0].get("guessing", {}).get(split)
        yield _scored(row, mean_of(by_seed), by_seed, guessing, folders, facts)
        if len(seeds) > 1 and row.family == "neural" and row.category in PREDICTS:
            yield _scored(_ensemble(row, fits, evaluations, total(costs)), ensemble_of(by_seed), [], guessing, [], {})


def _seconds(folder: Path, evaluation: Mapping[str, Any], split: str) -> float:
    if split in evaluation.get("score_seconds", {}):
        return float(evaluation["score_seconds"][split])
    path = folder / "evaluation.json"
    raise UserError(path, f"lacks score_seconds of {split}", "", artifacts.make_again(path))


def _base(folder: Path, seeds: Sequence[int], fit: Mapping[str, Any], facts: Mapping[str, Any]) -> Result:
    """What all splits of a model share."""
    corpus, tokenizer, model = folder.parts[-4:-1]
    described = {name: facts[name] for name in ("type", "title", "family", "category", "rank", "adds", "source")}
    return Result(
        **{"corpus": corpus, "tokenizer": tokenizer, "model": model, "split": "-", **described},
        status="ok",
        protocol="-",
        seeds=" ".join(map(str, seeds)),
        hyperparameters=json.dumps(fit["hyperparameters"], sort_keys=True),
        inputs=_inputs(folder),
    )


def _inputs(folder: Path) -> str:
    """Short hashes of what the first fit was made from."""
    made = artifacts.provenance_of(folder / "fit.json")
    hashes = {name: sha256[:12] for name, sha256 in made["inputs"].items()}
    return json.dumps({**hashes, "code": made["code"][:12], "lmstages": made["lmstages"]}, sort_keys=True)


def _scored(
    row: Result,
    mean: Scores,
    seeds: Sequence[Scores],
    guessing: float | None,
    folders: Sequence[Path],
    facts: Mapping[str, Any],
) -> Scored:
    """The row with its figures, its flag, and how far bits per byte spread over seeds."""
    row = replace(row, protocol=mean.protocol, **measures(mean)._asdict())
    bits = [measures(seed).bits_per_byte for seed in seeds]
    row.bits_per_byte_std = float(np.std(bits, ddof=1)) if len(bits) > 1 and np.isfinite(bits).all() else None
    row.made_of = facts.get("of")
    if mean.error is not None:
        row.bound_error = mean.error / math.log(2) / row.bytes if row.bytes else None
    elif facts.get("quantization_error"):
        _set_quantization(row, folders)
    flag_impossible_tokens(row, mean)
    flag_worse(row, guessing)
    flag_beyond(row)
    where = {"corpus": row.corpus, "split": row.split, "tokenizer": row.tokenizer, "model": row.model}
    by_seed = [Seed(**where, seed=int(s), bits_per_byte=b) for s, b in zip(row.seeds.split(), bits, strict=False)]
    return Scored(row, mean, by_seed)


def _set_quantization(row: Result, folders: Sequence[Path]) -> None:
    """Size of a derived model, and how far it is from what it was made of: means over its seeds."""
    errors = [_quantization_error(folder / "quantization_error.json", row.split) for folder in folders]
    row.made_of = errors[0]["of"]
    row.file_bytes = _mean([error["file_bytes"] for error in errors])
    row.bits_per_weight = _mean([error["bits_per_weight"] for error in errors])
    row.divergence = _mean([error["kl"] for error in errors])
    row.top1_agreement = _mean([error["top1"] for error in errors])
    if row.score_seconds and row.tokens:
        row.tokens_per_second = row.tokens / row.score_seconds


def _quantization_error(path: Path, split: str) -> Mapping[str, Any]:
    errors: Mapping[str, Mapping[str, Any]] = artifacts.load_json(path, QuantizationError, [split])
    artifacts.must_be_current(path)
    return errors[split]


def _ensemble(
    row: Result, fits: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]], cost: Cost
) -> Result:
    """What sets the ensemble's row apart from that of its members; it takes all of them to have it."""
    return replace(
        row,
        ensemble_of=row.model,
        model=f"{row.model}_ensemble",
        title=f"{row.title}, ensemble of {len(fits)}",
        adds=f"Averages the probabilities of {len(fits)} fits that differ by their seed alone, at every token.",
        fit_seconds=cost.seconds,
        score_seconds=sum(evaluation["score_seconds"][row.split] for evaluation in evaluations),
        parameters=sum(fit["parameters"] for fit in fits),
        tokens_seen=cost.tokens,
        flops=cost.flops,
        inputs="{}",
    )


def _mean_seconds(costs: Sequence[Cost]) -> float | None:
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    return _mean(seconds) if len(seconds) == len(costs) else None


def _mean(values: Sequence[float]) -> float | None:
    """The mean, or None where it is no finite number; equal values stay as they are."""
    return finite_or_none(float(np.mean(values))) if len(set(values)) > 1 else finite_or_none(values[0])


# ---------------------------------------------------------------- rows that are no models


def _beside(**facts: Any) -> Result:
    """A row without a fit."""
    return Result(**facts, status="ok", protocol="stream", seeds="", hyperparameters="{}", inputs="{}", tokenizer="-")


def oracle_rows(folder: Path, splits: Sequence[str]) -> Iterator[Scored]:
    """The source of an embedded text as a row for each split."""
    scores = load_oracle(folder / "oracle", splits)
    for split in splits:
        row = _beside(
            corpus=folder.name,
            split=split,
            model="oracle",
            type="oracle",
            title="Oracle",
            family="oracle",
            category="oracle",
            rank=BEYOND,
            adds=ORACLE,
            source="the corpus's own grammar",
        )
        yield Scored(replace(row, **{**measures(scores[split])._asdict(), "perplexity": None}), scores[split])


def reported_row(folder: Path, split: str, facts: Mapping[str, Any]) -> Scored:
    """Scores made elsewhere; the row names their file and its sha256."""
    file = artifacts.load_json(folder / "reported.json", Reported, ["path"])
    kept = {key: value for key, value in file.items() if key in ("path", "unit", "form", "sha256")}
    row = _beside(corpus=folder.parents[1].name, split=split, model=folder.name, **facts)
    row.hyperparameters, row.protocol = json.dumps(kept, sort_keys=True), "-"
    scores = load_reported(folder, [] if file["status"] != "ok" else [split])
    if file["status"] != "ok":
        return Scored(replace(row, status=file["status"]), None)
    row.adds = f"{row.adds} The file is {Path(file['path']).name}, sha256 {file['sha256']}."
    row = replace(row, protocol=scores[split].protocol, **measures(scores[split])._asdict())
    flag_impossible_tokens(row, scores[split])
    return Scored(row, scores[split])


def compressor_rows(folder: Path, corpus_facts: Mapping[str, Any]) -> Iterator[Scored]:
    """Two rows for each compressor, alone and given train: code lengths without probabilities."""
    path = folder / "compressors.json"
    artifacts.must_be_current(path)
    for split, sizes in artifacts.load_json(path, Compressors).items():
        size, characters = (corpus_facts["splits"][split][name] for name in ("bytes", "characters"))
        for rank, (name, lengths) in enumerate(sizes.items()):
            row = _beside(
                corpus=folder.name,
                split=split,
                model=name,
                type=name,
                title=f"{lengths['setting']}, alone",
                family="compressor",
                category="compressor",
                rank=rank,
                adds=f"A compressor of any bytes; it sees {lengths['sees']}.",
                source=name,
                bytes=size,
                characters=characters,
            )
            yield Scored(_with_code_length(row, lengths["alone"]), None)
            given = replace(row, model=f"{name}_train", title=f"{lengths['setting']}, after train")
            yield Scored(_with_code_length(given, lengths["given_train"]), None)


def _with_code_length(row: Result, size: int) -> Result:
    assert row.bytes and row.characters, "a compressor has compressed something"
    nats_per_character = 8 * math.log(2) * size / row.characters
    return replace(row, bits_per_byte=8 * size / row.bytes, nats_per_character=nats_per_character)
