"""What is asked of a fitted model: its scores on held-out splits, and samples of its text.

A model has never seen text and the text has never seen a model; here the two are brought together, once
for every cell. What breaks a law of ``gate`` is not written. Knows a model only as ``LanguageModel``.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.corpora import splits
from lmstages.evaluation import checks, sampling, score_files, scoring
from lmstages.evaluation.passages import told_passage
from lmstages.models import storage as model_storage
from lmstages.models.base import LanguageModel
from lmstages.models.fitting import must_be_longer
from lmstages.tokenizers import TextTokenizer, streams

Section = Mapping[str, Any]
Covered = tuple[Documents, np.ndarray]  # a split's tokens, and how many bytes each covers (N,)


def evaluate(
    model: Path, tokens: Path, text: Path, out: Path, section: Section, made: artifacts.Made, device: str = "cpu"
) -> None:
    """Write ``scores.safetensors`` for all splits of the section, and ``evaluation.json`` with samples."""
    fit = artifacts.load_json(model.with_name("fit.json"))
    if fit["status"] != "ok":
        score_files.save_scores(out / "scores.safetensors", {}, made)
        artifacts.save_json(out / "evaluation.json", {"status": fit["status"]}, made)
        return
    fitted, tokenizer = model_storage.load_model(model, device), streams.read_tokenizer(tokens)
    evaluated(fitted, tokenizer, (tokens, text, out), section, made, "/".join(model.parts[-5:-1]))


def evaluated(
    fitted: LanguageModel,
    tokenizer: TextTokenizer,
    folders: tuple[Path, Path, Path],
    section: Section,
    made: artifacts.Made,
    cell: str,
) -> None:
    """``evaluate`` of a model at hand; ``folders``: its tokens, the text, and where to write."""
    (tokens, text, out), scores, seconds, guessing = folders, {}, {}, {}
    for split in section["splits"]:
        covered = streams.read_tokens(tokens, split)
        checks.check_model(fitted, covered[0], f"{cell} on {split}")
        started = time.perf_counter()
        scores[split] = score_split(fitted, tokenizer, covered, text, split, section["scoring"], f"{cell} on {split}")
        seconds[split] = time.perf_counter() - started
        guessing[split] = guess(fitted.vocab_size, tokenizer, covered)
    score_files.save_scores(out / "scores.safetensors", scores, made)
    samples = draw(fitted, tokenizer, section["sampling"], section["documents"])
    told = {"guessing": guessing, "score_seconds": seconds, "samples": samples, "passage": told_passage(scores, text)}
    artifacts.save_json(out / "evaluation.json", {"status": "ok", **told}, made)


def score_split(
    model: LanguageModel,
    tokenizer: TextTokenizer,
    covered: Covered,
    text: Path,
    split: str,
    settings: Section,
    cell: str,
) -> score_files.Scores:
    """Score one split; what its tokens cover is checked against the text's own bytes."""
    documents, lengths = covered
    skip = settings["skip"]
    must_be_longer(model.config, split, len(documents) - skip)
    name, window, stride = settings["protocol"], settings["window"], settings["stride"]
    read = scoring.as_read(documents, name)
    log_probs = scoring.score(model, read, scoring.windows_of(read.starts, name, window, stride, skip))
    checks.check_written(model, read, log_probs, skip, None if name in ("stream", "whole") else window, cell)
    log_probs = scoring.charge_escapes(log_probs, documents.tokens, lengths, tokenizer.escape)
    content = artifacts.verified(splits.text_path(text, split)).read_bytes()
    checks.check_coverage(lengths, documents.starts, splits.SplitText.open(text, split).ends, cell)
    skipped_bytes = int(lengths[:skip].sum(dtype=np.int64))
    told = {
        "stream": "stream",
        "whole": "whole",
        "stride": f"stride {stride} of {window}",
        "disjoint": f"disjoint {window}",
    }[name]
    return score_files.Scores(
        log_probs[skip:],
        lengths[skip:],
        np.repeat(np.arange(len(documents.starts) - 1), documents.lengths)[skip:],
        splits.count_characters(content[skipped_bytes:]),
        told + (f", from token {skip}" if skip else ""),
        skipped_bytes,
    )


def guess(vocab_size: int, tokenizer: TextTokenizer, covered: Covered) -> float:
    """Nats a token where every token is as likely as any other, escapes charged: what not fitting costs."""
    documents, lengths = covered
    alike = np.full(len(documents), -np.log(vocab_size))
    return -float(scoring.charge_escapes(alike, documents.tokens, lengths, tokenizer.escape).mean())


def draw(model: LanguageModel, tokenizer: TextTokenizer, settings: Section, documents: bool) -> list[dict[str, Any]]:
    """Samples {temperature, text}, each temperature from the same seed, so that they differ by nothing else."""
    given = settings["temperature"]
    if not settings["count"]:
        return []
    return [
        {"temperature": temperature, "text": text}
        for temperature in (given if isinstance(given, list) else [given])
        for text in _drawn(model, tokenizer, settings, temperature, documents)
    ]


def _drawn(
    model: LanguageModel, tokenizer: TextTokenizer, settings: Section, temperature: float, documents: bool
) -> list[str]:
    """Texts; in a stream, which has no boundaries, they run on to their full length."""
    [(prompt, _)] = tokenizer.encode([settings["prompt"]])
    rows = sampling.sample(
        model,
        settings["count"],
        settings["length"],
        settings["seed"],
        prompt,
        temperature,
        settings["top_k"],
        settings["top_p"],
        stop_at_boundary=documents,
    )
    return [tokenizer.decode(row.tolist()) for row in rows]
