"""What changed from one finished run to others: a line for every row that either has.

    difference   bits per byte in the later run less those in the first, over the very same blocks of the same text

Rows are the same where corpus, split, tokenizer and model are called the same. They are paired where both were scored
on the same bytes, and the p-values of all pairs are corrected together (Holm 1979). Rows on different texts have no
difference. Knows results folders and score files; never a model.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmstages.core.errors import UserError
from lmstages.core.visible import visible
from lmstages.evaluation.score_files import Scores, ensemble_of, load_experiment, load_oracle, load_reported, mean_of
from lmstages.results import formatting, statistics
from lmstages.results.formatting import DASH, markdown_cell
from lmstages.results.frame import Results, hyperparameters
from lmstages.results.intervals import Profile, Text, in_blocks, profile
from lmstages.results.schema import Change, Result

FACTS = ("type", "protocol", "seeds", "parameters", "status")  # besides hyperparameters, what may explain a difference
Texts = dict[tuple[Path, str, str], Text]


@dataclass(frozen=True)
class Pair:
    """Two runs side by side."""

    before: Results
    after: Results

    def changes(self) -> list[Change]:
        """A line for every row of either, in the order of the later run."""
        first, second = ({row.key: row for row in run.rows} for run in (self.before, self.after))
        keys = list(dict.fromkeys([*second, *first]))
        texts: Texts = {}
        return [self._change(first.get(key), second.get(key), texts) for key in keys]

    def _change(self, first: Result | None, second: Result | None, texts: Texts) -> Change:
        """What both say, and their difference where they can be paired."""
        row = second or first
        assert row is not None, "a key comes from one of the two"
        change = Change(
            run=str(self.after.folder),
            **{name: getattr(row, name) for name in ("corpus", "split", "tokenizer", "model", "title", "family")},
            state="both" if first and second else "only after" if second else "only before",
            before=first.bits_per_byte if first else None,
            after=second.bits_per_byte if second else None,
        )
        if first and second:
            change.changed = "; ".join(changed_facts(first, second))
            self._set_difference(change, first, second, texts)
        return change

    def _set_difference(self, change: Change, first: Result, second: Result, texts: Texts) -> None:
        pair = [_text(run.folder, change.corpus, change.split, texts) for run in (self.before, self.after)]
        change.same_text = pair[0].sha256 == pair[1].sha256
        if not change.same_text:
            return
        are_infinite = change.before == change.after == math.inf  # which has no difference
        if change.before is not None and change.after is not None and not are_infinite:
            change.difference = change.after - change.before
        rows = zip((self.before, self.after), (first, second), pair, strict=True)
        profiles = [_profile(*run_row_text) for run_row_text in rows]
        known = [blocks for blocks in profiles if blocks is not None and np.isfinite(blocks.nats).all()]
        tested = statistics.differences(*in_blocks(known[::-1])) if len(known) == 2 else []
        for result in tested:
            change.difference, change.low, change.high = result.difference, result.low, result.high
            change.p = result.p


def between(folders: Sequence[Path]) -> list[Change]:
    """The first run against each of the others; an error where one is none."""
    if len(folders) < 2:
        raise UserError("diff", "one run found", "", "give two or more folders of finished runs")
    first, *others = (Results.open(folder) for folder in folders)
    changes = [change for other in others for change in Pair(first, other).changes()]
    tested = [change for change in changes if change.p is not None]
    corrected = statistics.holm(np.array([change.p for change in tested], dtype=float)).tolist()
    for change, p_holm in zip(tested, corrected, strict=True):
        change.p_holm = p_holm
    return changes


def changed_facts(first: Result, second: Result) -> list[str]:
    """``hidden: 256, was 128``, for every hyperparameter and fact that differs."""
    pairs = [(name, getattr(first, name), getattr(second, name)) for name in FACTS]
    old, new = hyperparameters(first), hyperparameters(second)
    pairs += [(name, old.get(name, DASH), new.get(name, DASH)) for name in sorted({*old, *new})]
    return [f"{name}: {_written(now)}, was {_written(before)}" for name, before, now in pairs if before != now]


def _written(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _text(folder: Path, corpus: str, split: str, texts: Texts) -> Text:
    key = (folder, corpus, split)
    if key not in texts:
        texts[key] = Text.open(folder / corpus / "text", split)
    return texts[key]


def _profile(run: Results, row: Result, text: Text) -> Profile | None:
    """A row's code lengths, from the score files of its experiments; None where it has none."""
    if row.bits_per_byte is None or row.family == "compressor":
        return None
    folders = run.experiments(row)
    load: Callable[[Path, Sequence[str]], dict[str, Scores]] = load_experiment
    if row.family == "oracle":
        folders, load = [run.folder / row.corpus / "oracle"], load_oracle
    if row.family == "reported":
        folders, load = [run.folder / row.corpus / "reported" / row.model], load_reported
    scores = [load(folder, [row.split])[row.split] for folder in folders]
    return profile(ensemble_of(scores) if row.ensemble_of else mean_of(scores), text, str(folders[0]))


# ---------------------------------------------------------------- as text

COLUMNS = ("corpus", "tokens", "model", "before", "after", "difference", "95 % interval", "p", "what changed")
ALIGNED = ("left",) * 3 + ("right",) * 5 + ("left",)


def display(changes: Sequence[Change]) -> pd.DataFrame:
    """Every change as words and numbers to read."""
    return pd.DataFrame([_cells(change) for change in changes], columns=list(COLUMNS))


def _cells(change: Change) -> list[str]:
    numbers = [formatting.decimal(change.before, 4), formatting.decimal(change.after, 4)]
    bounds = formatting.interval((change.low, change.high))
    numbers += [formatting.signed(change.difference, 4), bounds, formatting.chance(change.p_holm)]
    text = f"{change.corpus}, {change.split}"
    return [visible(cell) for cell in (text, change.tokenizer, change.model, *numbers, remark(change))]


def remark(change: Change) -> str:
    """What explains the difference, or why there is none."""
    if change.state != "both":
        return change.state
    unpaired = ["another text: not paired"] if change.same_text is False else []
    return "; ".join([*unpaired, *([change.changed] if change.changed else [])])


def summary(changes: Sequence[Change]) -> str:
    """One sentence: how many rows, how many of them better and worse beyond chance."""
    sure = [c for c in changes if c.p_holm is not None and c.p_holm < statistics.LEVEL and c.difference is not None]
    better = sum(change.difference < 0 for change in sure if change.difference is not None)
    states = [sum(change.state == state for change in changes) for state in ("both", "only before", "only after")]
    other = sum(change.same_text is False for change in changes)
    counts = f"{states[0]} rows in both runs, {states[1]} only before, {states[2]} only after"
    counts += f"; {other} on another text, which cannot be paired" if other else ""
    significance = f"(p below {statistics.LEVEL}, Holm's correction)"
    return f"{counts}. Better beyond chance: {better}; worse: {len(sure) - better} {significance}."


def by_run(changes: Sequence[Change]) -> Mapping[str, list[Change]]:
    """The changes of each later run."""
    grouped: dict[str, list[Change]] = {}
    for change in changes:
        grouped.setdefault(change.run, []).append(change)
    return grouped


def markdown(before: Path, changes: Sequence[Change]) -> str:
    """Tables to paste, one for each later run; a difference below 0 where that run is better."""
    parts = []
    for run, several in by_run(changes).items():
        table = display(several).map(markdown_cell).to_markdown(index=False, colalign=ALIGNED)
        parts.append(f"# {visible(str(before))} → {visible(run)}\n\n{summary(several)}\n\n{table}\n")
    return "\n".join(parts)


def terminal(before: Path, changes: Sequence[Change]) -> str:
    """The rows that changed, then the summary; no colours."""
    parts = []
    for run, several in by_run(changes).items():
        moved = [change for change in several if change.difference or remark(change)]
        table = display(moved).to_string(index=False, max_colwidth=60) if moved else "no row changed"
        parts.append(f"bits per byte, {visible(str(before))} -> {visible(run)}\n{table}\n{summary(several)}")
    return "\n\n".join(parts)
