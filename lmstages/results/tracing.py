"""What facts are worth to a network and which of its states hold them, with intervals over facts.

    worth       log p(answer | clean) - log p(answer | corrupted)
    recovered   (log p(answer | restored) - log p(answer | corrupted)) / worth, of the means of all facts

A fraction of a worth that may be zero says nothing, and is left empty. Reads the arrays that ``analyses`` left; never a
model or a text.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.results import statistics
from lmstages.results.schema import Recalled, Restored

CORRUPTED, CLEAN, SITES = 0, 1, 2  # columns of the nats, the sites from there on


def nats_of(arrays: Mapping[str, np.ndarray], path: Path, model: str, traced: Mapping[str, Any]) -> np.ndarray:
    """(F, 2 + S) nats of the answers, from the arrays of a file; a UserError where they are not of what was traced."""
    nats = arrays.get(f"{model}.tracing")
    shape = len(traced["kinds"]), SITES + len(traced["sites"])
    if nats is None or nats.dtype != np.float64 or nats.shape != shape:
        raise UserError(path, f"lacks the nats of the facts of {model}", "", artifacts.make_again(path))
    return nats


def recalled(of_model: Mapping[str, Any], kinds: Sequence[str], nats: np.ndarray) -> Iterator[Recalled]:
    """A row for all facts together, then one for every kind."""
    names = np.array(kinds)
    for kind in (None, *dict.fromkeys(kinds)):
        own = nats if kind is None else nats[names == kind]
        worth = own[:, CLEAN] - own[:, CORRUPTED]
        low, high = statistics.interval_where_finite(statistics.resampled_sums(worth) / len(own), len(own))
        clean, corrupted = -own[:, CLEAN].mean(), -own[:, CORRUPTED].mean()
        yield Recalled(
            **of_model,
            kind=kind,
            facts=len(own),
            clean=float(clean),
            corrupted=float(corrupted),
            worth=float(worth.mean()),
            worth_low=low,
            worth_high=high,
        )


def restored(of_model: Mapping[str, Any], sites: Sequence[Sequence[Any]], nats: np.ndarray) -> Iterator[Restored]:
    """A row for every restored state."""
    resampled = statistics.resampled_sums(nats)
    low, _ = statistics.interval_where_finite(resampled[:, CLEAN] - resampled[:, CORRUPTED], len(nats))
    is_held = low is not None and low > 0
    fractions, every = _recovered(nats.sum(0)[None])[0], _recovered(resampled)
    for index, (layer, part, position) in enumerate(sites):
        ends = statistics.interval_where_finite(every[:, index], len(nats)) if is_held else (None, None)
        yield Restored(
            **of_model,
            layer=layer,
            part=part,
            position=position,
            restored=-float(nats[:, SITES + index].mean()),
            recovered=float(fractions[index]) if is_held else None,
            recovered_low=ends[0],
            recovered_high=ends[1],
        )


def _recovered(sums: np.ndarray) -> np.ndarray:
    """(R, 2 + S) sums of nats -> (R, S) fractions."""
    corrupted, clean = sums[:, [CORRUPTED]], sums[:, [CLEAN]]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((sums[:, SITES:] - corrupted) / (clean - corrupted))
