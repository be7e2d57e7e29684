"""Mixtures of models, computed from their score files alone: no model is loaded or fitted again.

    p(token) = sum over i of w_i p_i(token)        w_i >= 0, sum over i of w_i = 1

A mean of distributions is a distribution, so a mixture is a language model. The weights maximise the likelihood of
``valid`` (Jelinek & Mercer 1980) and never depend on ``test``. Shapes: ``K`` models, ``N`` tokens;
log-probabilities are nats. Reads score files and the facts of the fits beside them.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.core.provenance import versions
from lmstages.core.workflow_files import STARTER
from lmstages.evaluation import score_files
from lmstages.evaluation.facts import Evaluation, load_fit
from lmstages.evaluation.passages import shown_passage
from lmstages.evaluation.score_files import Scores

FITTED_ON = "valid"
ROUNDS = 5000  # of expectation-maximisation, at most
ENOUGH = 1e-10  # nats per token; iteration stops at a smaller gain
Facts = dict[str, Any]


def mixed(log_probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(K, N) log-probabilities, (K,) weights -> (N,) log of the weighted mean; -inf only where all models have it."""
    with np.errstate(divide="ignore"):
        return np.logaddexp.reduce(log_probs + np.log(weights)[:, None], axis=0)


def fitted_weights(log_probs: np.ndarray) -> np.ndarray:
    """(K, N) -> (K,) the weights on the simplex that maximise the likelihood of the tokens.

    Expectation-maximisation (Dempster, Laird & Rubin 1977): a weight becomes the mean, over tokens, of the posterior
    probability of its model. The log-likelihood is concave in the weights, so that the maximum is unique but for ties.
    Tokens that are impossible under all models are left out.
    """
    best = log_probs.max(axis=0)
    likelihoods = np.exp(log_probs[:, np.isfinite(best)] - best[np.isfinite(best)])
    weights, before = np.full(len(log_probs), 1 / len(log_probs)), -np.inf
    for _ in range(ROUNDS if likelihoods.size else 0):
        total = weights @ likelihoods
        reached = float(np.log(total).mean())
        if reached - before < ENOUGH:
            break
        before = reached
        weights = weights * (likelihoods @ (1 / total)) / len(total)
    return weights / weights.sum()


def gain_of_each(log_probs: np.ndarray, weights: np.ndarray) -> list[float]:
    """(K, N), (K,) -> for each model the nats per token that the mixture loses without it, weights refitted."""
    complete = mixed(log_probs, weights).mean()
    gains = []
    for model in range(len(log_probs)):
        others = np.delete(log_probs, model, axis=0)
        gains.append(float(complete - mixed(others, fitted_weights(others)).mean()))
    return gains


def folders_by_name(folders: Sequence[Path], section: Mapping[str, Any]) -> dict[str, Path]:
    """Every experiment's folder by the name of its model."""
    if len(folders) != len(section["of"]):
        problem = f"{len(folders)} folders for the {len(section['of'])} models of the section"
        raise UserError("--components", problem, "one folder for each model, in the same order")
    return dict(zip(section["of"], folders, strict=True))


def inputs_of(folders: Sequence[Path], section: Mapping[str, Any]) -> dict[str, Path]:
    """Every score file by the name of its model."""
    return {name: folder / "scores.safetensors" for name, folder in folders_by_name(folders, section).items()}


def mix(folders: Sequence[Path], text: Path, out: Path, section: Mapping[str, Any], made: artifacts.Made) -> None:
    """Write the files of an experiment: weights and facts of the fits, scores, and an evaluation without samples."""
    started = time.perf_counter()
    fits = [load_fit(folder) for folder in folders]
    evaluations = [artifacts.load_json(folder / "evaluation.json", Evaluation, ["status"]) for folder in folders]
    statuses = [*zip(section["of"], fits, strict=True), *zip(section["of"], evaluations, strict=True)]
    failed = [f"failed: {name} {facts['status']}" for name, facts in statuses if facts["status"] != "ok"]
    if failed:
        _write(out, {"status": failed[0], **_model_facts(section, None, [])}, {}, {"status": failed[0]}, made)
        return
    scores = [score_files.load_experiment(folder) for folder in folders]
    _must_be_timed(folders, evaluations, section["splits"])
    weights, on_valid = _weights(folders, scores, section)
    facts = {
        "status": "ok",
        **_model_facts(section, weights, on_valid.get("gain_of_each", [])),
        **_costs(fits, section),
    }
    facts |= {"mixture": dict(zip(section["of"], weights.tolist(), strict=True)), FITTED_ON: on_valid}
    facts["fit_seconds"] += time.perf_counter() - started
    mixture, seconds = {}, {}
    for split in section["splits"]:
        started = time.perf_counter()
        mixture[split] = _mixed_scores(_same_tokens(folders, scores, split), weights)
        seconds[split] = time.perf_counter() - started
    parts = [content["score_seconds"] for content in evaluations]
    total = {split: seconds[split] + sum(part[split] for part in parts) for split in mixture}
    evaluation = {"score_seconds": total, "samples": [], "passage": shown_passage(mixture, text)}
    _write(out, facts, mixture, {"status": "ok", **evaluation}, made)


def _must_be_timed(folders: Sequence[Path], evaluations: Sequence[Facts], splits: Sequence[str]) -> None:
    for folder, evaluation in zip(folders, evaluations, strict=True):
        if lacking := [split for split in splits if split not in evaluation.get("score_seconds", {})]:
            path = folder / "evaluation.json"
            raise UserError(path, f"lacks score_seconds of {', '.join(lacking)}", "", artifacts.make_again(path))


def _weights(
    folders: Sequence[Path], scores: Sequence[Mapping[str, Scores]], section: Mapping[str, Any]
) -> tuple[np.ndarray, Facts]:
    """(K,) weights, and nats per token on valid: of the mixture, of each model, gains. Equal weights read no valid."""
    if section["weights"] == "equal":
        return np.full(len(scores), 1 / len(scores)), {}
    log_probs = _stacked(_same_tokens(folders, scores, FITTED_ON))
    weights = fitted_weights(log_probs)
    alone = dict(zip(section["of"], _nats(log_probs), strict=True))
    [nats] = _nats(mixed(log_probs, weights)[None])
    gains = [artifacts.finite_or_none(gain) for gain in gain_of_each(log_probs, weights)]
    return weights, {"nats_per_token": nats, "alone": alone, "gain_of_each": gains}


def _same_tokens(folders: Sequence[Path], scores: Sequence[Mapping[str, Scores]], split: str) -> list[Scores]:
    """The scores of one split by all models; raises UserError unless they are of the same tokens."""
    for folder, by_split in zip(folders, scores, strict=True):
        path = folder / "scores.safetensors"
        if split not in by_split:
            raise UserError(path, f"holds no scores of {split}", f"it holds {', '.join(by_split)}", f"run {STARTER}")
        first, others = scores[0][split], by_split[split]
        if any(not np.array_equal(getattr(others, field), getattr(first, field)) for field in ("lengths", "documents")):
            counts = f"{len(others.log_probs):,} tokens of {split}, not the {len(first.log_probs):,} of {folders[0]}"
            allowed = "rows can be mixed where they score the same tokens"
            raise UserError(path, f"scores {counts}", allowed, "give them the same skip")
    return [by_split[split] for by_split in scores]


def _mixed_scores(scores: Sequence[Scores], weights: np.ndarray) -> Scores:
    first = scores[0]
    protocols = list(dict.fromkeys(model.protocol for model in scores))
    log_probs = mixed(_stacked(scores), weights)
    return Scores(log_probs, first.lengths, first.documents, first.characters, " and ".join(protocols), first.skipped)


def _stacked(scores: Sequence[Scores]) -> np.ndarray:
    """(K, N) in double precision."""
    return np.stack([model.log_probs.astype(np.float64) for model in scores])


def _nats(log_probs: np.ndarray) -> list[float | None]:
    """(K, N) -> nats per token of each model, None where a token is impossible."""
    return [artifacts.finite_or_none(-float(row.mean())) for row in log_probs]


def _model_facts(section: Mapping[str, Any], weights: np.ndarray | None, gains: Sequence[float | None]) -> Facts:
    """The facts that the report shows in place of hyperparameters."""
    shown: Facts = {"of": section["of"], "weights": section["weights"]}
    if weights is not None:
        shown["weights"] = [round(weight, 4) for weight in weights.tolist()]
        shown["weights_from"] = FITTED_ON if section["weights"] == "fitted" else "equal"
    if gains:
        shown["gain_of_each"] = [None if gain is None else round(gain, 4) for gain in gains]
    return {"type": "mixture", "hyperparameters": shown}


def _costs(fits: Sequence[Facts], section: Mapping[str, Any]) -> Facts:
    """Costs of the mixture: the sums over its models, and K - 1 free weights where they are fitted."""
    free = len(fits) - 1 if section["weights"] == "fitted" else 0
    devices = sorted({str(fit["device"]) for fit in fits})
    return {
        "parameters": sum(fit["parameters"] for fit in fits) + free,
        "free_weights": free,
        "tokens_seen": sum(fit["tokens_seen"] for fit in fits),
        "fit_seconds": sum(fit["fit_seconds"] for fit in fits),
        "curve": [],
        "device": " and ".join(devices),
        "threads": max(fit["threads"] for fit in fits),
        "vocab_size": fits[0]["vocab_size"],
        "environment": versions("numpy", "safetensors"),
    }


def _write(out: Path, facts: Facts, scores: Mapping[str, Scores], evaluation: Facts, made: artifacts.Made) -> None:
    artifacts.save_json(out / "fit.json", facts, made)
    score_files.save_scores(out / "scores.safetensors", scores, made)
    artifacts.save_json(out / "evaluation.json", evaluation, made)
