"""What can be known of a run before its first job: what will fail, and what will take long.

Imports what it needs when a run has it: a run of embedded texts and models fitted here has nothing to be looked at.
"""

from lmstages.config.jobs import Run


def forecast(run: Run) -> list[str]:
    """Sentences on rows that will fail and on what will take long; raises one UserError for what cannot work at all."""
    warnings = []
    if any(corpus.path is not None for corpus in run.corpora.values()):
        from lmstages.corpora.forecast import forecast as forecast_of_texts
        from lmstages.tokenizers.forecast import unfilled

        warnings += forecast_of_texts(run) + unfilled(run)
    if any(record.hub is None for record in run.pretrained.values()):
        from lmstages.evaluation.pretrained import unusable

        warnings += unusable(run.pretrained)
    return warnings
