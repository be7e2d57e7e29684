"""What a row cost to make, with the fits that it was made from.

A model derived without training costs what its source cost besides, a mixture what all of its models cost, each fit
counted once. A cost that is not known of one of them is not known of the whole. Knows ``fit.json`` and the folders of
experiments, nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lmstages.evaluation.facts import load_fit

Facts = Mapping[str, Any]


class Cost(NamedTuple):
    """Wall time, floating-point operations and tokens of train; None where not known."""

    seconds: float | None
    flops: float | None
    tokens: int | None


NOT_KNOWN = Cost(None, None, None)


def cost_of(folder: Path) -> Cost:
    """Of the experiment in ``folder`` and of every fit that it was made from."""
    fits: dict[Path, Facts] = {}
    _collect(folder, fits)
    return total(_own(fit, [fits[source] for source in _sources(path, fit)]) for path, fit in fits.items())


def total(costs: Iterable[Cost]) -> Cost:
    """The sums; None where one of the terms is."""
    terms = list(costs)
    seconds, flops, tokens = (_sum([getattr(cost, name) for cost in terms]) for name in Cost._fields)
    return Cost(seconds, flops, None if tokens is None else int(tokens))


def _sum(terms: Sequence[float | None]) -> float | None:
    known = [term for term in terms if term is not None]
    return sum(known) if len(known) == len(terms) else None


def _collect(folder: Path, fits: dict[Path, Facts]) -> None:
    if folder not in fits:
        fits[folder] = load_fit(folder) if (folder / "fit.json").is_file() else {}
        for source in _sources(folder, fits[folder]):
            _collect(source, fits)


def _sources(folder: Path, fit: Facts) -> list[Path]:
    """The folders of what a fit was made of, of the same seed, or of the first where there is no such seed."""
    names = fit.get("hyperparameters", {}).get("of", [])
    return [_of_seed(folder.parents[1] / name, folder.name) for name in ([names] if isinstance(names, str) else names)]


def _of_seed(model: Path, seed: str) -> Path:
    others = sorted(path.parent for path in model.glob("seed*/fit.json") if path.parent.name != seed)
    return model / seed if (model / seed / "fit.json").is_file() or not others else others[0]


def _own(fit: Facts, sources: Sequence[Facts]) -> Cost:
    """What a fit cost beyond its sources: a mixture's ``fit.json`` holds their sums, a derived model's its own time."""
    if not fit or fit["type"] == "pretrained":
        return NOT_KNOWN
    if not sources:
        return Cost(fit["fit_seconds"], fit.get("flops"), fit["tokens_seen"])
    within = sum(source.get("fit_seconds", 0.0) for source in sources) if fit["type"] == "mixture" else 0.0
    return Cost(fit["fit_seconds"] - within, 0.0, 0)
