"""Score files to figures: the one place where nats become bits, and tokens become bytes.

    perplexity          exp(- sum log p / tokens)            comparable within one tokenizer only
    nats per character  - sum log p / characters
    bits per byte       - sum log p / (bytes ln 2)           the axis on which every row stands
    excess              bits per byte less the source's own, where that is known exactly

A model of several seeds is one row, the mean of their code lengths, never the best of them; a second row averages
their probabilities. Intervals, differences and flags are made by ``intervals``.

Knows score files and what the fits wrote beside them; never a model or a text.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.evaluation.score_files import Scores, load_scores
from lmstages.results import findings, intervals, published
from lmstages.results.intervals import Profile, Text, ensemble_of, mean_of, profile

Row = dict[str, Any]
BESIDES = ("compressor", "oracle")  # rows that are no models, in the order in which they close a table
PREDICTS = ("static", "online", "pretrained")  # classes whose scores are probabilities of the next token
BEYOND = 1000  # the oracle's place on the ladder: after every model
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


def summarize(root: Path, section: Mapping[str, Any]) -> dict[str, Any]:
    """All cells of a run below ``root`` -> corpora and rows, as the report reads them.

    ``section``: run, cells [corpus, tokenizer, model, seeds], told {model: model, rank, title, adds, source, family},
    evaluate {corpus: splits}, published, sweeps {name, section, keys, cells [name, values]}, and whether the report
    closes with ``estimation``.
    """
    corpora = {name: _corpus(root / name, splits) for name, splits in section["evaluate"].items()}
    places = [(name, split) for name, splits in section["evaluate"].items() for split in splits]
    texts = {(name, split): Text.open(root / name / "text", split) for name, split in places}
    rows: list[Row] = []
    profiles: dict[tuple[str, ...], Profile] = {}
    for row, scores in _scored_rows(root, section, corpora):
        rows.append(row)
        if scores is not None:  # only its blocks stay in memory
            named = intervals.key(row)
            profiles[named] = profile(scores, texts[row["corpus"], row["split"]], "/".join(named))
    _set_excess(rows, corpora)
    rows.sort(key=_place(list(corpora)))
    differences = intervals.attach(rows, profiles, texts)
    if section.get("analyses"):
        findings.merge(root, corpora, rows)
    figures = published.set_beside(rows, section["published"])
    sweeps = [swept(sweep, rows) for sweep in section["sweeps"]]
    told = {"run": section["run"], "estimation": section.get("estimation", False)}
    found: Row = {"rows": rows, "differences": differences, "published": figures, "sweeps": sweeps}
    found["inspections"] = _inspections(root, section.get("inspected", []), corpora)
    return {**told, "corpora": corpora, **found}


def _scored_rows(
    root: Path, section: Mapping[str, Any], corpora: Mapping[str, Row]
) -> Iterable[tuple[Row, Scores | None]]:
    """Every row, and the score file it was made of, where there is one."""
    for name, corpus in corpora.items():
        yield from _oracle_rows(root / name, corpus)
        if section["compressors"]:
            found = artifacts.load_json(root / name / "compressors.json")
            yield from ((row, None) for row in _code_lengths(name, corpus, found))
    for corpus, tokenizer, model, seeds in section["cells"]:
        folders = [root / corpus / tokenizer / model / f"seed{seed}" for seed in seeds]
        yield from _rows(folders, seeds, section["evaluate"][corpus], section["told"][model])


def _corpus(folder: Path, splits: Sequence[str]) -> Row:
    facts = artifacts.load_json(folder / "text" / "corpus.json")
    oracle = folder / "oracle"
    if not (oracle / "oracle.json").is_file():
        return {**facts, "oracle": None}
    expected = artifacts.load_json(oracle / "oracle.json")["expected_bits_per_byte"]
    scores = load_scores(oracle / "scores.safetensors")
    scored = {split: measures(scores[split]) for split in splits}
    return {
        **facts,
        "oracle": {split: {**found, "expected_bits_per_byte": expected} for split, found in scored.items()},
    }


def _oracle_rows(folder: Path, facts: Row) -> Iterable[tuple[Row, Scores]]:
    scores = load_scores(folder / "oracle" / "scores.safetensors") if facts["oracle"] else {}
    for split, found in (facts["oracle"] or {}).items():
        named = {"corpus": folder.name, "split": split, "tokenizer": "-", "model": "oracle", "type": "oracle"}
        told = {"rank": BEYOND, "title": "Oracle", "adds": ORACLE, "source": "the corpus's own grammar"}
        known = {**found, "perplexity": None}
        row = {**EMPTY, **named, **told, **known, "family": "oracle", "category": "oracle", "protocol": "stream"}
        yield row, scores[split]


def _code_lengths(corpus: str, facts: Row, found: Mapping[str, Row]) -> Iterable[Row]:
    """Two rows a compressor, alone and given train: code lengths, which no probabilities stand behind."""
    named = {"corpus": corpus, "tokenizer": "-", "family": "compressor", "category": "compressor", "protocol": "stream"}
    for split, sizes in found.items():
        bytes_, characters = (facts["splits"][split][key] for key in ("bytes", "characters"))
        for rank, (name, told) in enumerate(sizes.items()):
            adds = f"A compressor of any bytes; it sees {told['sees']}."
            row = {**EMPTY, **named, "split": split, "type": name, "rank": rank, "adds": adds, "source": name}
            row |= {"bytes": bytes_, "characters": characters}
            for model, given, size in (
                (name, "alone", told["alone"]),
                (f"{name}_train", "after train", told["given_train"]),
            ):
                figures = {
                    "bits_per_byte": 8 * size / bytes_,
                    "nats_per_character": 8 * math.log(2) * size / characters,
                }
                yield {**row, **figures, "model": model, "title": f"{told['setting']}, {given}"}


def _inspections(root: Path, places: Iterable[Sequence[str]], corpora: Mapping[str, Row]) -> Row:
    """What lay open in the models of a corpus under a tokenizer; its induction scores join the corpus's facts."""
    found = {f"{c}/{t}": artifacts.load_json(root / c / t / "inspection.json") for c, t in places}
    for corpus, tokenizer in places:
        models = found[f"{corpus}/{tokenizer}"]["models"]
        scores = {name: dict(each["induction"]) for name, each in models.items() if each["induction"]}
        for score in scores.values():
            del score["heads"]
        rows = [{"model": name, "tokenizer": tokenizer, **score} for name, score in scores.items()]
        corpora[corpus]["induction"] = corpora[corpus].get("induction", []) + rows
    return found


EMPTY: Row = {
    **intervals.EMPTY,
    "quantization": None,
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
    "curves": [],
    "passage": [],
    "hyperparameters": {},
    "status": "ok",
    **dict.fromkeys(["tokens", "bytes", "characters", "nats_per_token", "perplexity", "nats_per_character"]),
    **dict.fromkeys(["bits_per_byte", "excess_bits_per_byte"]),
}


def _rows(
    folders: Sequence[Path], seeds: Sequence[int], splits: Sequence[str], told: Row
) -> Iterable[tuple[Row, Scores | None]]:
    """A row of the table for each split: a model, the mean over its seeds; ``told``: what the ladder says of it."""
    fits = [artifacts.load_json(folder / "fit.json") for folder in folders]
    named = dict(zip(("corpus", "tokenizer", "model"), folders[0].parts[-4:-1], strict=True))
    row = {**EMPTY, **named, **told, "seeds": list(seeds), "protocol": "-"}
    row["hyperparameters"] = fits[0]["hyperparameters"]
    failed = [fit["status"] for fit in fits if fit["status"] != "ok"]
    if failed:
        yield from (({**row, "split": split, "status": failed[0]}, None) for split in splits)
        return
    row |= {key: fits[0][key] for key in ("parameters", "tokens_seen", "device", "threads", "curve")}
    evaluations = [artifacts.load_json(folder / "evaluation.json") for folder in folders]
    row |= {"fit_seconds": _mean([fit["fit_seconds"] for fit in fits]), "samples": evaluations[0]["samples"]}
    row |= {"curves": [fit["curve"] for fit in fits]}
    passage = evaluations[0].get("passage") or {"split": None, "pieces": []}  # a mixture tells none
    scores = [load_scores(folder / "scores.safetensors") for folder in folders]
    for split in splits:
        seconds = _mean([each["score_seconds"][split] for each in evaluations])
        pieces = passage["pieces"] if split == passage["split"] else []
        each_seed, mean = [each[split] for each in scores], mean_of([each[split] for each in scores])
        found = {**row, "split": split, "score_seconds": seconds, "passage": pieces, **_figures(mean, each_seed)}
        found["quantization"] = _quantization(folders, split, found) if "of" in told else None
        guessing = evaluations[0].get("guessing", {}).get(split)
        intervals.flag_worse(found, guessing)
        yield dict(found), mean
        if len(seeds) > 1 and row["family"] == "neural" and row["category"] in PREDICTS:
            together = ensemble_of(each_seed)
            found |= {**_ensemble(found, fits, evaluations), **_figures(together, [])}
            intervals.flag_worse(found, guessing)
            yield found, together


def _quantization(folders: Sequence[Path], split: str, row: Row) -> Row:
    """What a derived model takes, and how far it is from what it is made of: means over its seeds."""
    told = [artifacts.load_json(folder / "against.json")[split] for folder in folders]
    means = {key: _mean([each[key] for each in told]) for key in ("file_bytes", "bits_per_weight", "kl", "top1")}
    speed = row["tokens"] / row["score_seconds"] if row["score_seconds"] else None
    return {"of": told[0]["of"], **means, "tokens_per_second": speed}


NOT_OF_AN_ENSEMBLE: Row = {"quantization": None, "samples": [], "curve": [], "curves": [], "passage": [], "flag": None}


def _ensemble(row: Row, fits: Sequence[Row], evaluations: Sequence[Row]) -> Row:
    """What sets the ensemble's row apart from that of its members; it takes all of them to have it."""
    count, split = len(fits), row["split"]
    adds = f"Averages the probabilities of {count} fits that differ by their seed alone, at every token."
    spent = {"fit_seconds": sum(fit["fit_seconds"] for fit in fits)}
    spent["score_seconds"] = sum(each["score_seconds"][split] for each in evaluations)
    sums = {key: sum(fit[key] for fit in fits) for key in ("parameters", "tokens_seen")}
    named = {"ensemble_of": row["model"], "model": f"{row['model']}_ensemble"}
    named |= {"title": f"{row['title']}, ensemble of {count}", "adds": adds}
    return {**named, **spent, **sums, **NOT_OF_AN_ENSEMBLE}


def _figures(scores: Scores, seeds: Sequence[Scores]) -> Row:
    """The figures of one row, None where one is no finite number, and how far bits per byte spread over seeds."""
    found = {key: artifacts.finite_or_none(value) for key, value in measures(scores).items()}
    bits = [measures(each)["bits_per_byte"] for each in seeds]
    spread = artifacts.finite_or_none(float(np.std(bits, ddof=1))) if len(bits) > 1 else None
    return {**found, "protocol": scores.protocol, "bits_per_byte_std": spread}


def _set_excess(rows: Iterable[Row], corpora: Mapping[str, Row]) -> None:
    """How far each row is above the oracle of its text, where there is one."""
    for row in rows:
        oracle = corpora[row["corpus"]]["oracle"]
        if oracle and row["bits_per_byte"] is not None:
            row["excess_bits_per_byte"] = row["bits_per_byte"] - oracle[row["split"]]["bits_per_byte"]


def _mean(values: Sequence[float]) -> float | None:
    """The mean, or None where it is no finite number."""
    return (
        artifacts.finite_or_none(float(np.mean(values)))
        if len(set(values)) > 1
        else artifacts.finite_or_none(values[0])
    )


SHOWN = (
    "corpus",
    "split",
    "tokenizer",
    "model",
    "bits_per_byte",
    "bits_per_byte_std",
    "perplexity",
    "nats_per_character",
    "parameters",
)
COLUMN = {"corpora": "corpus", "tokenizers": "tokenizer", "models": "model"}


def swept(sweep: Row, rows: Iterable[Row]) -> Row:
    """One swept entry: a row for every row of the comparison that one of its cells stands in, by key values."""
    values, column = dict(sweep["cells"]), COLUMN[sweep["section"]]
    found = [
        dict(zip(sweep["keys"], values[row[column]], strict=True)) | {key: row[key] for key in SHOWN}
        for row in rows
        if row["family"] not in BESIDES and row[column] in values
    ]
    orders = [in_order([each[place] for each in values.values()]) for place in range(len(sweep["keys"]))]
    found.sort(key=lambda row: [order.index(row[key]) for key, order in zip(sweep["keys"], orders, strict=True)])
    return {"name": sweep["name"], "section": sweep["section"], "keys": sweep["keys"], "rows": found}


def in_order(values: Sequence[Any]) -> list[Any]:
    """Each value once: numbers by size, before all else in the order of the config."""
    once = [value for place, value in enumerate(values) if value not in values[:place]]
    numbers = [value for value in once if isinstance(value, int | float) and not isinstance(value, bool)]
    return [*sorted(numbers), *(value for value in once if value not in numbers)]


def _place(corpora: list[str]) -> Any:
    """Order of the report: corpus and split, tokenizer, then up the ladder, compressors, the oracle last."""

    def key(row: Row) -> tuple[Any, ...]:
        besides = BESIDES.index(row["family"]) + 1 if row["family"] in BESIDES else 0
        return corpora.index(row["corpus"]), row["split"], besides, row["tokenizer"], row["rank"], row["model"]

    return key


def verdict(comparison: Row) -> str:
    """How many models were fitted; an error that names those that could not be."""
    models = [row for row in comparison["rows"] if row["family"] not in BESIDES]
    failed = [f"{r['corpus']}/{r['tokenizer']}/{r['model']}: {r['status']}" for r in models if r["status"] != "ok"]
    if failed:
        raise UserError(comparison["run"], f"{len(failed)} of {len(models)} rows failed: {'; '.join(failed)}")
    if wrong := intervals.impossible(comparison["rows"]):
        raise UserError(comparison["run"], f"{len(wrong)} of {len(models)} rows cannot be true: {'; '.join(wrong)}")
    return f"{len(models)} rows, none failed"
