"""A finished run's score files -> every table of its results folder.

Walks the experiments that the run's section names; ``rows`` makes a row of each, ``intervals`` compares them, and
``findings``, ``inspections``, ``sweeps`` and ``published`` add what else is known. Never loads a model or a text.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lmstages.analyses.facts import Analyses
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora.facts import CorpusFacts
from lmstages.corpora.splits import text_path
from lmstages.evaluation.facts import Oracle, load_fit
from lmstages.evaluation.score_files import load_oracle
from lmstages.results import drift, frame, intervals, sweeps, warnings
from lmstages.results.findings import Findings
from lmstages.results.generation import AllGenerated
from lmstages.results.infilling import Infilled
from lmstages.results.inspections import Inspections
from lmstages.results.intervals import Key, Profile, Text, profile
from lmstages.results.published import set_beside
from lmstages.results.rows import Scored, compressor_rows, measures, model_rows, oracle_rows, reported_row
from lmstages.results.schema import (
    NOT_ON_THE_LADDER,
    TABLES,
    Columns,
    Corpora,
    CurvePoint,
    Difference,
    Drift,
    Result,
    Seed,
)

Section = Mapping[str, Any]


def summarize(root: Path, section: Section, made: artifacts.Made) -> None:
    """Write ``results.parquet``, ``results.csv``, ``tables/`` and ``run.json`` below ``root``."""
    tables = all_tables(root, section)
    made = {**made, "contents": contents(root, section)}
    for name in TABLES:
        data = frame.frame(name, tables.get(name, ()))
        frame.write(root, name, data, made)
        if name == "results":
            artifacts.save_bytes(root / "results.csv", frame.csv_text(data).encode(), made)
    artifacts.save_json(root / "run.json", {name: section[name] for name in ("run", "estimation")}, made)


def contents(root: Path, section: Section) -> str:
    """A hash of every score file and its facts: what tells the tables of two runs with one config apart."""
    names = ("fit.json", "scores.safetensors", "evaluation.json")
    folders = [root.joinpath(*where, f"seed{seed}") for *where, seeds in section["experiments"] for seed in seeds]
    paths = [root / corpus / "text" / "corpus.json" for corpus in section["evaluate"]]
    paths += [folder / name for folder in folders for name in names]
    infilled = [root.joinpath(*where, f"seed{seed}") for *where, seed in section.get("infilled", ())]
    infilled += [root / corpus / "oracle" for corpus in section.get("infilled_by_source", ())]
    paths += [folder / name for folder in infilled for name in ("infill.json", "infill.safetensors")]
    generated = [root.joinpath(*where, f"seed{seed}") for *where, seed in section.get("generated", ())]
    paths += [folder / name for folder in generated for name in ("generation.json", "generation.safetensors")]
    reported = [root / corpus / "reported" / name for corpus, name, _ in section.get("reported", ())]
    paths += [folder / name for folder in reported for name in ("reported.json", "scores.safetensors")]
    hashes = "".join(f"{path.relative_to(root)} {artifacts.made_of(path)['sha256']}\n" for path in paths)
    return hashlib.sha256(hashes.encode()).hexdigest()


def all_tables(root: Path, section: Section) -> dict[str, Sequence[Any]]:
    """The typed rows of every table.

    ``section``: run, experiments [corpus, tokenizer, model, seeds], models {name: what the ladder says of it}, evaluate
    {corpus: splits}, inspected [corpus, tokenizer], compressors, analyses, published, sweeps, estimation.
    """
    corpora = [text for name, splits in section["evaluate"].items() for text in _corpora(root, name, splits, section)]
    compared = _Compared.of(root, section, corpora)
    rows, curves = compared.rows, list(_curves(root, compared.rows, corpora))
    warnings.warn(rows, curves, compared.differences)
    findings = _findings(root, section, rows)
    inspections = Inspections()
    for corpus, tokenizer in section["inspected"]:
        inspections.add(root, corpus, tokenizer, section["models"])
    infilled, generated = Infilled.of(root, section), AllGenerated.of(root, section)
    points = [point for sweep in section["sweeps"] for point in sweeps.scaling_points(sweep, rows, corpora)]
    return {
        "results": rows,
        "corpora": corpora,
        "seeds": compared.seeds,
        "drift": compared.drift,
        "differences": compared.differences,
        "curves": curves,
        "published": list(set_beside(rows, section["published"])),
        "sweeps": [point for sweep in section["sweeps"] for point in sweeps.sweep_points(sweep, rows)],
        "scaling": points,
        "crossings": list(sweeps.crossings(points)),
        **vars(findings),
        **vars(inspections),
        **vars(infilled),
        **vars(generated),
    }


# ---------------------------------------------------------------- corpora


def _corpora(root: Path, corpus: str, splits: Sequence[str], section: Section) -> Iterator[Corpora]:
    """Every split of a corpus; what only the evaluated ones have is empty for the others."""
    facts = _corpus_facts(root / corpus)
    described = {"corpus": corpus, **{name: facts[name] for name in ("description", "origin", "licence")}}
    oracle, overlap = _oracle(root / corpus, splits, facts), {}
    if section["analyses"]:
        overlap = artifacts.load_json(root / corpus / "analyses.json", Analyses)["overlap"]
    for split, size in facts["splits"].items():
        sizes = {name: size[name] for name in ("documents", "characters", "bytes")}
        yield Corpora(**described, split=split, **sizes, **oracle.get(split, NO_ORACLE), **_overlap(overlap.get(split)))


def _corpus_facts(folder: Path) -> dict[str, Any]:
    """``corpus.json``; a UserError where it is not of the text beside it."""
    path = folder / "text" / "corpus.json"
    facts: dict[str, Any] = artifacts.load_json(path, CorpusFacts)
    artifacts.must_be_of_one_call(path, *(text_path(path.parent, split) for split in facts["splits"]))
    return facts


NO_ORACLE = dict.fromkeys(["oracle_bits_per_byte", "oracle_nats_per_character", "expected_bits_per_byte"])


def _oracle(folder: Path, splits: Sequence[str], facts: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """The entropy of an embedded text; nothing where the source is not known."""
    if facts["origin"] != "embedded":
        return {}
    expected = artifacts.load_json(folder / "oracle" / "oracle.json", Oracle)["expected_bits_per_byte"]
    scores = load_oracle(folder / "oracle", splits)
    measured = {split: measures(scores[split]) for split in splits}
    return {
        split: {
            "oracle_bits_per_byte": measure.bits_per_byte,
            "oracle_nats_per_character": measure.nats_per_character,
            "expected_bits_per_byte": expected,
        }
        for split, measure in measured.items()
    }


def _overlap(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    names = ("documents", "near", "windows", "window", "measure")
    columns = {f"overlap_{name}": facts.get(name) if facts else None for name in names}
    sampled = facts is not None and facts["near"] is not None and facts["near_of_train"] < 1
    return {**columns, "overlap_near_of_train": facts["near_of_train"] if facts and sampled else None}


# ---------------------------------------------------------------- rows


@dataclass(frozen=True)
class _Compared:
    """Rows in the order of the report, with everything that follows from comparing them."""

    rows: list[Result]
    seeds: list[Seed]
    drift: list[Drift]
    differences: Columns[Difference]

    @classmethod
    def of(cls, root: Path, section: Section, corpora: Sequence[Corpora]) -> "_Compared":
        """All experiments of a run; only the blocks of a score file stay in memory."""
        evaluated = [(corpus, split) for corpus, splits in section["evaluate"].items() for split in splits]
        texts = {(corpus, split): Text.open(root / corpus / "text", split) for corpus, split in evaluated}
        rows: list[Result] = []
        seeds: list[Seed] = []
        profiles: dict[Key, Profile] = {}
        for scored in _scored(root, section):
            row = scored.row
            rows.append(row)
            seeds += scored.seeds
            if scored.scores is not None:
                profiles[row.key] = profile(scored.scores, texts[row.corpus, row.split], "/".join(row.key))
        _set_excess(rows, corpora)
        rows.sort(key=lambda row: _order(row, list(section["evaluate"])))
        return cls(rows, seeds, drift.drift(rows, profiles), intervals.attach(rows, profiles, texts))


def _scored(root: Path, section: Section) -> Iterator[Scored]:
    """Every row, with the scores that it was made of."""
    for corpus, splits in section["evaluate"].items():
        facts = _corpus_facts(root / corpus)
        if facts["origin"] == "embedded":
            yield from oracle_rows(root / corpus, splits)
        if section["compressors"]:
            yield from compressor_rows(root / corpus, facts)
    for corpus, tokenizer, model, seeds in section["experiments"]:
        folders = [root / corpus / tokenizer / model / f"seed{seed}" for seed in seeds]
        yield from model_rows(folders, seeds, section["evaluate"][corpus], section["models"][model])
    for corpus, name, split in section.get("reported", ()):
        yield reported_row(root / corpus / "reported" / name, split, section["models"][name])


def _set_excess(rows: Iterable[Result], corpora: Sequence[Corpora]) -> None:
    """How far each row is above the oracle of its text, where there is one."""
    oracle = {(text.corpus, text.split): text.oracle_bits_per_byte for text in corpora}
    for row in rows:
        entropy = oracle[row.corpus, row.split]
        if entropy is not None and row.bits_per_byte is not None:
            row.excess_bits_per_byte = row.bits_per_byte - entropy


def _order(row: Result, corpora: Sequence[str]) -> tuple[Any, ...]:
    """Corpus and split, tokenizer, then up the ladder; scores made elsewhere, compressors and the oracle last."""
    last = ("reported", *NOT_ON_THE_LADDER)
    beside = last.index(row.family) + 1 if row.family in last else 0
    return corpora.index(row.corpus), row.split, beside, row.tokenizer, row.rank, row.model


def _findings(root: Path, section: Section, rows: Sequence[Result]) -> Findings:
    findings, by_key = Findings(), {row.key: row for row in rows}
    for corpus in section["evaluate"] if section["analyses"] else ():
        findings.add(root, corpus, by_key)
    return findings


def _curves(root: Path, rows: Sequence[Result], corpora: Sequence[Corpora]) -> Iterator[CurvePoint]:
    """The learning curves of all seeds, once for each experiment."""
    experiments = {(row.corpus, row.tokenizer, row.model): row for row in reversed(rows) if row.status == "ok"}
    sizes = {(text.corpus, text.split): text.bytes for text in corpora}

    @cache
    def bits_of(corpus: str, tokenizer: str, split: str) -> float | None:
        return bits_of_a_nat(root / corpus / tokenizer / "tokens", split, sizes.get((corpus, split), 0))

    for row in reversed(experiments.values()):
        for seed in row.seeds.split() if not row.ensemble_of else ():
            where: dict[str, Any] = {"corpus": row.corpus, "tokenizer": row.tokenizer, "model": row.model}
            fit = load_fit(root.joinpath(*where.values(), f"seed{seed}"), ["curve"])
            for point in fit["curve"]:
                bits: dict[str, Any] = {
                    f"{split}_bits_per_byte": _product(point[split], bits_of(row.corpus, row.tokenizer, split))
                    for split in ("train", "valid")
                }
                yield CurvePoint(**where, title=row.title, rank=row.rank, seed=int(seed), **point, **bits)


def bits_of_a_nat(folder: Path, split: str, size: int) -> float | None:
    """Bits per byte of one nat per token of a split: its tokens over its bytes and ln 2.

    None where its tokens are not kept beside the run, or it is empty.
    """
    path = folder / f"{split}.npy"
    if not size or not path.is_file():
        return None
    return len(artifacts.load_array(path)) / size / math.log(2)


def _product(nats: float | None, bits: float | None) -> float | None:
    return None if nats is None or bits is None else nats * bits


# ---------------------------------------------------------------- the last word


def verdict(run: str, rows: Sequence[Result]) -> str:
    """How many models were fitted; an error that names those that could not be."""
    models = [row for row in rows if row.family not in NOT_ON_THE_LADDER]
    failed = [row for row in models if row.status != "ok"]
    by_reason: dict[str, list[str]] = {}
    for row in failed:
        by_reason.setdefault(row.status, []).append(f"{row.corpus}/{row.tokenizer}/{row.model}")
    if failed:
        reasons = "; ".join(f"{', '.join(dict.fromkeys(names))}: {status}" for status, names in by_reason.items())
        remedy = "all other rows are in report.html; what failed for lack of a file is made again without its folder"
        raise UserError(run, f"{len(failed)} of {len(models)} rows failed: {reasons}", "", remedy)
    if wrong := intervals.impossible(rows):
        raise UserError(run, f"{len(wrong)} of {len(models)} rows cannot be true: {'; '.join(wrong)}")
    return f"{len(models)} rows, none failed"
