"""What came of the laws of a model, as lines for a terminal."""

import textwrap

from lmstages.evaluation.laws import Verdict

WIDTH, NAME = 100, 24


def lines(verdict: Verdict) -> str:
    """``ok``, ``broken`` or ``-`` with the law; below a broken one what is wrong, why probably, and what to change."""
    state = "broken" if verdict.broken else "-" if verdict.untried else "ok"
    note = f" ({verdict.untried})" if verdict.untried else ""
    rows = [f"{state:<8}{verdict.law.name:<{NAME}}{verdict.law.sentence}{note}"]
    if broken := verdict.broken:
        parts = (("where", broken.problem), ("why", broken.cause), ("change", broken.remedy))
        rows += [_wrapped(label, text) for label, text in parts]
    return "\n".join(rows)


def _wrapped(label: str, text: str) -> str:
    head = f"{'':8}{label:<8}"
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * 16, break_long_words=False)
