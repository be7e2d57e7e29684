"""What is asked of a fitted model: its scores on held-out splits, and samples of its text.

A model has never seen text and the text has never seen a model; here the two are brought together, once
for every cell. Knows a model only as ``LanguageModel``.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages import artefacts, sampling, scoring, storage
from lmstages.corpora import splits
from lmstages.fitting import must_be_longer
from lmstages.models.base import LanguageModel
from lmstages.tokenizers import TextTokenizer

Section = Mapping[str, Any]


def evaluate(model: Path, tokens: Path, text: Path, out: Path, section: Section, made: artefacts.Made) -> None:
    """Write ``scores.safetensors`` for all splits of the section, and ``evaluation.json`` with samples."""
    fit = artefacts.load_json(model.with_name("fit.json"))
    if fit["status"] != "ok":
        storage.save_scores(out / "scores.safetensors", {}, made)
        artefacts.save_json(out / "evaluation.json", {"status": fit["status"]}, made)
        return
    fitted, tokenizer = storage.load_model(model), storage.read_tokenizer(tokens)
    scores, seconds = {}, {}
    for split in section["splits"]:
        started = time.perf_counter()
        scores[split] = score_split(fitted, tokenizer, tokens, text, split, section["scoring"])
        seconds[split] = time.perf_counter() - started
    storage.save_scores(out / "scores.safetensors", scores, made)
    samples = draw(fitted, tokenizer, section["sampling"], section["documents"])
    artefacts.save_json(out / "evaluation.json", {"status": "ok", "score_seconds": seconds, "samples": samples}, made)


def score_split(
    model: LanguageModel, tokenizer: TextTokenizer, tokens: Path, text: Path, split: str, settings: Section
) -> storage.Scores:
    """Score one split; what its tokens cover is checked against the text's own bytes."""
    documents, lengths = storage.read_tokens(tokens, split)
    skip = settings["skip"]
    must_be_longer(model.rung, split, len(documents) - skip)
    name, window, stride = settings["protocol"], settings["window"], settings["stride"]
    log_probs = scoring.score(model, documents, scoring.windows_of(documents.starts, name, window, stride, skip))
    assert np.isnan(log_probs).sum() == skip, "every token but those skipped is scored once"
    log_probs = scoring.charge_escapes(log_probs, documents.tokens, lengths, tokenizer.escape)
    content = artefacts.verified(splits.text_path(text, split)).read_bytes()
    assert int(lengths.sum(dtype=np.int64)) == len(content), "the tokens cover the text's bytes, no more and no fewer"
    skipped_bytes = int(lengths[:skip].sum(dtype=np.int64))
    told = {"stream": "stream", "stride": f"stride {stride} of {window}", "disjoint": f"disjoint {window}"}[name]
    return storage.Scores(
        log_probs[skip:],
        lengths[skip:],
        np.repeat(np.arange(len(documents.starts) - 1), documents.lengths)[skip:],
        splits.count_characters(content[skipped_bytes:]),
        told + (f", from token {skip}" if skip else ""),
    )


def draw(model: LanguageModel, tokenizer: TextTokenizer, settings: Section, documents: bool) -> list[dict[str, Any]]:
    """Samples {temperature, text}, each temperature from the same seed, so that they differ by nothing else."""
    given = settings["temperature"]
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
