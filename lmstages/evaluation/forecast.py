"""What can be known of a run before its first job: what will fail, and what will take long.

Imports what it needs when a run has it: a run of embedded texts and models fitted here has nothing to be looked at.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lmstages.config.forecast import Forecast
from lmstages.config.jobs import Run
from lmstages.config.sections import ReportedScores
from lmstages.core.errors import UserError


def forecast(run: Run) -> Forecast:
    """What will fail and what will take long; raises one UserError for what cannot work at all."""
    result = Forecast([], [], {})
    if any(corpus.own() for corpus in run.corpora.values()):
        from lmstages.corpora.forecast import forecast as forecast_of_texts
        from lmstages.tokenizers.forecast import unfilled

        result = forecast_of_texts(run)
        result.warnings.extend(unfilled(run))
    if run.pretrained:
        from lmstages.evaluation.pretrained import unusable

        result.warnings.extend(unusable(run.pretrained))
    if run.scores:
        from lmstages.evaluation.reported import unusable as unusable_scores

        result.warnings.extend(unusable_scores(_scored_elsewhere(run)))
    return result


def _scored_elsewhere(run: Run) -> Iterator[tuple[str, ReportedScores, Path | None, str]]:
    """Scores made elsewhere, each with the folder of its text where this config has made that before, and its split."""
    from lmstages.core import artifacts

    for corpus, name in run.reported():
        folder, section = Path("results", run.name, corpus, "text"), json.loads(run.prepare_section(corpus))
        made = {}
        with suppress(UserError):
            made = artifacts.made_of(folder / "corpus.json")["made"]
        is_there = made.get("section") == section
        yield name, run.scores[name], folder if is_there else None, run.scores[name].split
