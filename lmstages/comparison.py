"""Score files to figures: the one place where nats become bits, and tokens become bytes.

    perplexity          exp(- sum log p / tokens)            comparable within one tokenizer only
    nats per character  - sum log p / characters
    bits per byte       - sum log p / (bytes ln 2)           the axis on which every row stands
    excess              bits per byte less the source's own, where that is known exactly

Knows score files and what the fits wrote beside them; never a model or a text.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages import artefacts
from lmstages.errors import UserError
from lmstages.ladder import LADDER, RUNGS
from lmstages.storage import Scores, load_scores

Row = dict[str, Any]
ORACLE = "The source itself: what a reader who knows the grammar by heart would need; nobody is better on average."


def measures(scores: Scores) -> dict[str, float]:
    """What one score file says of a text."""
    nats = -float(scores.log_probs.sum(dtype=np.float64))
    tokens, size = len(scores.log_probs), int(scores.lengths.sum(dtype=np.int64))
    return {
        "tokens": tokens,
        "bytes": size,
        "characters": scores.characters,
        "nats_per_token": nats / tokens,
        "perplexity": math.exp(min(nats / tokens, 700.0)),
        "nats_per_character": nats / scores.characters,
        "bits_per_byte": nats / math.log(2) / size,
    }


def compare(root: Path, section: Mapping[str, Any]) -> dict[str, Any]:
    """All cells of a run below ``root`` -> corpora and rows, as the report reads them.

    ``section``: run, cells [corpus, tokenizer, model, seeds], evaluate {corpus: splits}, published.
    """
    corpora = {name: _corpus(root / name, splits) for name, splits in section["evaluate"].items()}
    rows = [row for name, corpus in corpora.items() for row in _oracle_rows(name, corpus)]
    for corpus, tokenizer, model, seeds in section["cells"]:
        folders = [root / corpus / tokenizer / model / f"seed{seed}" for seed in seeds]
        for split in section["evaluate"][corpus]:
            rows.append(_row(folders, seeds, split, corpora[corpus]["oracle"]))
    _set_beside(rows, section["published"])
    return {"run": section["run"], "corpora": corpora, "rows": sorted(rows, key=_place(list(corpora)))}


def _corpus(folder: Path, splits: Sequence[str]) -> Row:
    facts = artefacts.load_json(folder / "text" / "corpus.json")
    oracle = folder / "oracle"
    if not (oracle / "oracle.json").is_file():
        return {**facts, "oracle": None}
    expected = artefacts.load_json(oracle / "oracle.json")["expected_bits_per_byte"]
    scored = {split: measures(load_scores(oracle / f"{split}.safetensors")) for split in splits}
    return {
        **facts,
        "oracle": {split: {**found, "expected_bits_per_byte": expected} for split, found in scored.items()},
    }


def _oracle_rows(corpus: str, facts: Row) -> Iterable[Row]:
    for split, found in (facts["oracle"] or {}).items():
        named = {"corpus": corpus, "split": split, "tokenizer": "-", "model": "oracle", "rung": "oracle"}
        told = {"rank": len(LADDER), "title": "Oracle", "adds": ORACLE, "source": "the corpus's own grammar"}
        known = {**found, "perplexity": None, "excess_bits_per_byte": 0.0}
        yield {**EMPTY, **named, **told, **known, "family": "oracle", "class": "oracle", "protocol": "stream"}


EMPTY: Row = {
    "seeds": [],
    "bits_per_byte_std": None,
    "parameters": None,
    "tokens_seen": None,
    "fit_seconds": None,
    "score_seconds": None,
    "device": None,
    "threads": None,
    "published": [],
    "samples": [],
    "curve": [],
    "hyperparameters": {},
    "status": "ok",
    **dict.fromkeys(["tokens", "bytes", "characters", "nats_per_token", "perplexity", "nats_per_character"]),
    **dict.fromkeys(["bits_per_byte", "excess_bits_per_byte"]),
}


def _row(folders: Sequence[Path], seeds: Sequence[int], split: str, oracle: Row | None) -> Row:
    """One row of the table: a model on a split, the mean over its seeds."""
    fits = [artefacts.load_json(folder / "fit.json") for folder in folders]
    named = dict(zip(("corpus", "tokenizer", "model"), folders[0].parts[-4:-1], strict=True)) | {"split": split}
    row = {**EMPTY, **named, **_rung(fits[0]), "class": "static", "seeds": list(seeds), "protocol": "-"}
    failed = [fit["status"] for fit in fits if fit["status"] != "ok"]
    if failed:
        return {**row, "status": failed[0]}
    scores = [load_scores(folder / f"{split}.safetensors") for folder in folders]
    found = [measures(each) for each in scores]
    row |= {key: _mean([each[key] for each in found]) for key in found[0]} | {"protocol": scores[0].protocol}
    row |= {key: fits[0][key] for key in ("parameters", "tokens_seen", "device", "threads", "curve")}
    evaluations = [artefacts.load_json(folder / "evaluation.json") for folder in folders]
    row["fit_seconds"] = _mean([fit["fit_seconds"] for fit in fits])
    row["score_seconds"] = _mean([each["score_seconds"][split] for each in evaluations])
    row["samples"] = evaluations[0]["samples"]
    bits = [each["bits_per_byte"] for each in found]
    row["bits_per_byte_std"] = float(np.std(bits, ddof=1)) if len(bits) > 1 else None
    if oracle and row["bits_per_byte"] is not None:
        row["excess_bits_per_byte"] = row["bits_per_byte"] - oracle[split]["bits_per_byte"]
    return row


def _rung(fit: Row) -> Row:
    kind = RUNGS[fit["rung"]]
    adds = " ".join((kind.__doc__ or "").split())
    told = {"rung": kind.name, "rank": LADDER.index(kind), "title": kind.title, "adds": adds, "source": kind.source}
    return {**told, "family": kind.family, "hyperparameters": fit["hyperparameters"]}


def _mean(values: Sequence[float]) -> float | None:
    """The mean, or None where it is no finite number."""
    return artefacts.finite(float(np.mean(values))) if len(set(values)) > 1 else artefacts.finite(values[0])


def _set_beside(rows: Iterable[Row], published: Sequence[Row]) -> None:
    """Give each row the figures that others printed for it, with a verdict."""
    for row in rows:
        row["published"] = [
            {**figure, "ours": row[figure["measure"]], "verdict": _verdict(figure, row[figure["measure"]])}
            for figure in published
            if all(figure[key] == row[key] for key in ("corpus", "model", "split"))
        ]


def _verdict(figure: Row, ours: float | None) -> str:
    if ours is not None and abs(ours - figure["value"]) <= figure["tolerance"]:
        return "reproduced"
    return "better" if ours is not None and ours < figure["value"] else "differs"


def _place(corpora: list[str]) -> Any:
    """Order of the report: corpus and split, tokenizer, then up the ladder, the oracle last."""

    def key(row: Row) -> tuple[Any, ...]:
        oracle = row["family"] == "oracle"
        return corpora.index(row["corpus"]), row["split"], oracle, row["tokenizer"], row["rank"], row["model"]

    return key


def verdict(comparison: Row) -> str:
    """How many models were fitted; an error that names those that could not be."""
    models = [row for row in comparison["rows"] if row["family"] != "oracle"]
    failed = [f"{r['corpus']}/{r['tokenizer']}/{r['model']}: {r['status']}" for r in models if r["status"] != "ok"]
    if failed:
        raise UserError(comparison["run"], f"{len(failed)} of {len(models)} rows failed: {'; '.join(failed)}")
    return f"{len(models)} rows, none failed"
