"""What can be known of a run before its first job: what will fail, and what will take long.

Imports what it needs when a run has it: a run of embedded texts and models fitted here has nothing to be looked at.
"""

from lmstages.config.forecast import Forecast
from lmstages.config.jobs import Run


def forecast(run: Run) -> Forecast:
    """What will fail and what will take long; raises one UserError for what cannot work at all."""
    result = Forecast([], [], {})
    if any(corpus.own() for corpus in run.corpora.values()):
        from lmstages.corpora.forecast import forecast as forecast_of_texts
        from lmstages.tokenizers.forecast import unfilled

        result = forecast_of_texts(run)
        result.warnings.extend(unfilled(run))
    if any(record.hub is None for record in run.pretrained.values()):
        from lmstages.evaluation.pretrained import unusable

        result.warnings.extend(unusable(run.pretrained))
    return result
