"""Evaluates the fitted model of one experiment: scores on held-out splits, and samples.

Nothing is written if a check of ``checks`` fails. Uses a model only as ``LanguageModel``.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.core.progress import LOGGER
from lmstages.corpora import splits
from lmstages.evaluation import checks, sampling, score_files, scoring
from lmstages.evaluation.facts import Fit
from lmstages.evaluation.passages import shown_passage
from lmstages.models import storage as model_storage
from lmstages.models.base import LanguageModel, UpperBound
from lmstages.models.fitting import failure_of, must_be_longer
from lmstages.tokenizers import TextTokenizer, streams

Section = Mapping[str, Any]
SplitTokens = tuple[Documents, np.ndarray]  # a split's tokens, and the bytes each covers (N,)
Charge = Callable[[str, np.ndarray, SplitTokens], np.ndarray]  # split, nats of tokens (N,) -> nats of bytes (N,)


def evaluate(
    model: Path, tokens: Path, text: Path, out: Path, section: Section, made: artifacts.Made, device: str = "cpu"
) -> None:
    """Write ``scores.safetensors`` for all splits of the section, and ``evaluation.json`` with samples.

    Where the fit failed, or a split is too short for the model, both say why and hold no score.
    """
    fit = facts_of_fit(model, tokens)
    if fit["status"] != "ok":
        save_failure(out, fit["status"], made)
        return
    fitted, tokenizer = load_fitted(model, tokens, device)
    try:
        evaluate_model(fitted, tokenizer, (tokens, text, out), section, made, "/".join(model.parts[-5:-1]))
    except Exception as error:
        if (failure := failure_of(error)) is None:
            raise
        LOGGER.error("lmstages: error: %s", failure)
        save_failure(out, f"failed: {failure}", made)


def save_failure(out: Path, status: str, made: artifacts.Made) -> None:
    """The files of an experiment that has no scores: its row of the report gives the reason."""
    score_files.save_scores(out / "scores.safetensors", {}, made)
    artifacts.save_json(out / "evaluation.json", {"status": status}, made)


def facts_of_fit(model: Path, tokens: Path) -> dict[str, Any]:
    """``fit.json`` beside a model; a UserError where one of both is of another fit, or of a fit on other tokens."""
    path = model.with_name("fit.json")
    facts: dict[str, Any] = artifacts.load_json(path, Fit)
    artifacts.must_be_made_together(path, model)
    model_storage.must_be_fitted_on(model, tokens)
    return facts


def load_fitted(model: Path, tokens: Path, device: str = "cpu") -> tuple[LanguageModel, TextTokenizer]:
    """A fitted model with the tokenizer of its tokens; a UserError where it was fitted on other tokens."""
    fitted = model_storage.load_model(model, device)
    return fitted, model_storage.tokenizer_of(model, fitted, tokens)


def evaluate_model(
    fitted: LanguageModel,
    tokenizer: TextTokenizer,
    folders: tuple[Path, Path, Path],
    section: Section,
    made: artifacts.Made,
    experiment: str,
    charge: Charge | None = None,
) -> None:
    """``evaluate`` of a loaded model; ``folders``: its tokens, the text, and the output.

    ``charge`` adds what tokens leave unsaid of the text; by default the bytes of escapes.
    """
    (tokens, text, out), scores, seconds, guessing = folders, {}, {}, {}
    for split in section["splits"]:
        split_tokens = streams.read_tokens(tokens, split)
        artifacts.must_be_made_from(tokens / f"{split}.npy", splits.text_path(text, split))
        checks.check_model(fitted, split_tokens[0], f"{experiment} on {split}")
        started = time.perf_counter()
        scores[split] = score_split(
            fitted, tokenizer, split_tokens, text, split, section["scoring"], f"{experiment} on {split}", charge
        )
        seconds[split] = time.perf_counter() - started
        guessing[split] = guess(fitted.vocab_size, tokenizer, split_tokens)
    score_files.save_scores(out / "scores.safetensors", scores, made)
    facts: dict[str, Any] = {"guessing": guessing, "score_seconds": seconds, "samples": [], "passage": None}
    if not isinstance(fitted, UpperBound):  # which predicts no token after another
        facts["samples"] = draw(fitted, tokenizer, section["sampling"], section["documents"])
        facts["passage"] = shown_passage(scores, text)
    artifacts.save_json(out / "evaluation.json", {"status": "ok", **facts}, made)


def score_split(
    model: LanguageModel,
    tokenizer: TextTokenizer,
    split_tokens: SplitTokens,
    text: Path,
    split: str,
    settings: Section,
    experiment: str,
    charge: Charge | None = None,
) -> score_files.Scores:
    """Score one split; raises CheckError if its scores or the bytes of its tokens are wrong."""
    documents, lengths = split_tokens
    skip = settings["skip"]
    must_be_longer(model.config, split, len(documents) - skip)
    name, window, stride = settings["protocol"], settings["window"], settings["stride"]
    read = scoring.as_read(documents, name)
    windows, error = scoring.windows_of(read.starts, name, window, stride, skip), None
    if isinstance(model, UpperBound):
        log_probs, error = scoring.score_bound(model, read, windows)
    else:
        log_probs = scoring.score(model, read, windows)
    checks.check_scores(model, read, log_probs, skip, None if name in ("stream", "whole") else window, experiment)
    if charge is None:
        log_probs = scoring.charge_escapes(log_probs, documents.tokens, lengths, tokenizer.escape)
    else:
        log_probs = charge(split, log_probs, split_tokens)
    content = artifacts.verified(splits.text_path(text, split)).read_bytes()
    checks.check_coverage(lengths, documents.starts, splits.SplitText.open(text, split).ends, experiment)
    skipped_bytes = int(lengths[:skip].sum(dtype=np.int64))
    return score_files.Scores(
        log_probs[skip:],
        lengths[skip:],
        np.repeat(np.arange(len(documents.starts) - 1), documents.lengths)[skip:],
        splits.count_characters(content[skipped_bytes:]),
        _protocol_label(settings),
        skipped_bytes,
        error,
    )


def _protocol_label(settings: Section) -> str:
    """``stride 32 of 64, from token 1``: the protocol with its window, stride and skipped tokens.

    Of a model trained elsewhere it also says where the begin of text stands.
    """
    name, window, stride, skip = (settings[key] for key in ("protocol", "window", "stride", "skip"))
    label = {"stride": f"stride {stride} of {window}", "disjoint": f"disjoint {window}"}.get(name, name)
    begins = f", {settings['bos']}" if "bos" in settings else ""
    return f"{label}, from token {skip}{begins}" if skip else f"{label}{begins}"


def guess(vocab_size: int, tokenizer: TextTokenizer, split_tokens: SplitTokens) -> float:
    """Nats per token of a uniform distribution, escapes charged: the reference of no learning."""
    documents, lengths = split_tokens
    uniform = np.full(len(documents), -np.log(vocab_size))
    return -float(scoring.charge_escapes(uniform, documents.tokens, lengths, tokenizer.escape).mean())


def draw(model: LanguageModel, tokenizer: TextTokenizer, settings: Section, documents: bool) -> list[dict[str, Any]]:
    """Samples {temperature, text}; all temperatures use the same seed."""
    temperatures = settings["temperature"]
    if not settings["count"]:
        return []
    return [
        {"temperature": temperature, "text": text}
        for temperature in (temperatures if isinstance(temperatures, list) else [temperatures])
        for text in _sample_texts(model, tokenizer, settings, temperature, documents)
    ]


def _sample_texts(
    model: LanguageModel, tokenizer: TextTokenizer, settings: Section, temperature: float, documents: bool
) -> list[str]:
    """Sampled texts; without ``documents`` (a stream) none ends before its full length."""
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
