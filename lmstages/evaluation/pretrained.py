"""Scores a model from elsewhere on the text of the run: a checkpoint, or n-grams of an ARPA file.

Its training text is unknown and may contain the held-out text: its row has the category ``pretrained``. Imports torch
only for a checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstages.config.sections import Pretrained
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.evaluation import experiment


def score_pretrained(
    section: Mapping[str, Any], chosen: Pretrained, text: Path, out: Path, threads: int, mirror: str | None, made: Any
) -> None:
    """Write the files of an experiment: ``fit.json``, ``scores.safetensors`` and ``evaluation.json``."""
    drawn = section["sampling"]
    section = {**section, "sampling": {**drawn, "count": drawn["count"] if chosen.samples else 0}}
    if chosen.arpa is not None:
        from lmstages.evaluation.arpa_row import score_arpa

        score_arpa(section, chosen, text, out, threads, made)
        return
    from lmstages.evaluation.checkpoint_row import score_checkpoint

    score_checkpoint(section, chosen, text, out, threads, mirror, made)


def save_failure(section: Mapping[str, Any], out: Path, error: UserError, made: Any) -> None:
    """The files of an experiment that cannot be scored; its row of the report gives the reason."""
    given = {key: value for key, value in section["pretrained"].items() if value is not None}
    status = f"failed: {error}"
    artifacts.save_json(out / "fit.json", {"status": status, "type": "pretrained", "hyperparameters": given}, made)
    experiment.save_failure(out, status, made)


def unusable(pretrained: Mapping[str, Pretrained]) -> list[str]:
    """A sentence for every model on this machine whose row will fail, from the headers of its files alone.

    Before the first job; sha256, the engine llama.cpp and the numbers of an ARPA file are left to the job.
    """
    sentences = []
    for name, chosen in pretrained.items():
        try:
            _must_be_usable(chosen)
        except UserError as error:
            sentences.append(f"pretrained.{name} will fail: {error}")
    return sentences


def _must_be_usable(chosen: Pretrained) -> None:
    if chosen.arpa is not None:
        from lmstages.evaluation.arpa_row import must_have_header

        must_have_header(chosen)
    elif chosen.hub is None:
        from lmstages.evaluation.checkpoints import must_be_scorable

        must_be_scorable(chosen)
