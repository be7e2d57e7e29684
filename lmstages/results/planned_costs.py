"""What a person reads of the costs of a run before it starts: a table by model, the whole, what will not fit.

Lines from a ``Plan``; prints nothing, and knows no scheduler.
"""

from collections.abc import Iterator, Mapping, Sequence

from lmstages.config import needs
from lmstages.config.needs import Factors, asked_megabytes
from lmstages.config.planning import Limits, Plan, Total, in_bytes, shortfalls
from lmstages.results.run_messages import roughly

HEAD = ("", "jobs", "core-hours", "GPU-hours", "memory", "disk")
WIDEST_NAME = 40  # characters of a model's name in the table
MOST_MODELS = 60  # lines of the table; the cheapest beyond them are one line


def lines(made: Plan, limits: Limits, by_rule: bool = False) -> list[str]:
    """The table by model or by rule, the totals, and a line for everything that will not fit."""
    total = made.total()
    texts = ", ".join(f"{name} {in_bytes(size)}" for name, size in made.texts.items())
    at_once = in_bytes(1e6 * min(made.megabytes_at_once(limits.cores), 1e12))
    largest = max(made.jobs, key=lambda planned: planned.need.megabytes)
    asks = in_bytes(1e6 * asked_megabytes(largest.need))
    return [
        f"run {made.run.name}; text: {texts}",
        *aligned([HEAD, *_rows(made.by_rule() if by_rule else made.by_model()), _row("all", made.total())]),
        f"time: about {roughly(made.seconds(limits.cores))} on {_cores(made, limits)}, by estimates",
        f"memory: the largest job is {largest.job.name}, which asks for {asks}; at most {at_once} at once",
        f"disk: about {in_bytes(total.size)} to write",
        *(f"does not fit: {sentence}" for sentence in shortfalls(made, limits)),
    ]


def _cores(made: Plan, limits: Limits) -> str:
    gpus = " with as many GPUs as jobs ask for" if made.total().gpu_seconds else ""
    return f"{limits.cores} core{'s' * (limits.cores > 1)}{gpus}"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of a table as lines: the first column to the left, all others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *cells in rows:
        yield "  ".join([name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]).rstrip()


def _rows(totals: Mapping[str, Total]) -> Iterator[Sequence[str]]:
    """A line for each name; where there are many, for those that cost most, and one for the others."""
    dearest = sorted(totals, key=lambda name: (-totals[name].gpu_seconds, -totals[name].core_seconds))[:MOST_MODELS]
    yield from (_row(name, total) for name, total in totals.items() if name in dearest)
    if others := [total for name, total in totals.items() if name not in dearest]:
        yield _row(f"{len(others):,} others", summed(others))


def summed(totals: Sequence[Total]) -> Total:
    """Several totals as one."""
    jobs, core_seconds, gpu_seconds, megabytes, sizes = zip(*totals, strict=True)
    return Total(sum(jobs), sum(core_seconds), sum(gpu_seconds), max(megabytes), sum(sizes))


def _row(name: str, total: Total) -> Sequence[str]:
    hours = [_hours(seconds) for seconds in (total.core_seconds, total.gpu_seconds)]
    return name[:WIDEST_NAME], f"{total.jobs:,}", *hours, in_bytes(1e6 * total.megabytes), in_bytes(total.size)


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.2f}" if hours < 9.95 else f"{hours:,.0f}"


SIZES = (1e6, 1e8, 1e10)  # bytes of text that a rule's needs are shown for


def needs_lines(factors: Mapping[str, Factors]) -> list[str]:
    """What the job of each rule asks for, by the size of its text, and the factors of this machine."""
    rows = [("", *(f"{size / 1e6:,.0f} MB of text" for size in SIZES)), *map(_asked, needs.COSTS)]
    table = list(aligned(rows))
    if not factors:
        return [*table, "estimates of the package; lmstages needs --learn results/RUN adapts them to this machine"]
    learned = [("", "time", "memory", "jobs")]
    learned += [(name, f"{f.seconds:g}", f"{f.megabytes:g}", f"{f.jobs:,}") for name, f in sorted(factors.items())]
    return [*table, "", "factors of this machine:", *aligned(learned)]


def _asked(rule_name: str) -> Sequence[str]:
    """Memory and minutes at the first attempt, for a job without a model."""
    estimates = [needs.need(rule_name, size) for size in SIZES]
    pairs = [(needs.asked_megabytes(estimate), needs.asked_minutes(estimate)) for estimate in estimates]
    return rule_name, *(f"{in_bytes(1e6 * memory)}, {minutes:,} min" for memory, minutes in pairs)
