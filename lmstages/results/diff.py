"""What changed from one finished run to another: a line for every row that either has.

    difference   bits per byte in the second run less those in the first, over the very same blocks of the same text

Rows are the same where corpus, split, tokenizer and model are called the same. They are paired where both were scored
on the same bytes, and the p-values of all pairs are corrected together (Holm 1979). Where the texts differ there is no
difference to speak of. Knows comparisons and score files; never a model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.core.visible import visible
from lmstages.evaluation.score_files import Scores, load_scores
from lmstages.results import statistics
from lmstages.results.explaining import existing
from lmstages.results.formatting import DASH, chance, decimal, interval
from lmstages.results.intervals import LEVEL, Profile, Text, ensemble_of, in_blocks, key, mean_of, profile

Row = dict[str, Any]
FACTS = ("type", "protocol", "seeds", "parameters", "status")  # besides hyperparameters, what may explain a difference
PAIRED = dict.fromkeys(["difference", "interval", "p", "p_holm"])


def between(before: Path, after: Path) -> dict[str, Any]:
    """Two folders of finished runs -> {before, after, rows}; a UserError where one is none."""
    runs = [_comparison(folder) for folder in (before, after)]
    first, second = ({key(row): row for row in run["rows"]} for run in runs)
    places = list(dict.fromkeys([*second, *first]))
    rows = [_line(first.get(place), second.get(place)) for place in places]
    texts = _texts((before, after), rows)
    for row in rows:
        if row["state"] == "both":
            row |= _paired((before, after), row, first, second, texts)
    _correct(rows)
    return {"before": str(before), "after": str(after), "rows": rows}


def _comparison(folder: Path) -> dict[str, Any]:
    path = existing(folder) / "comparison.json"
    if not path.is_file():
        told = "a finished run's folder is results/RUN, with its comparison.json"
        raise UserError(folder, "no finished run lies here", told, "run snakemake to make it")
    found: dict[str, Any] = artifacts.load_json(path)
    return found


def _line(first: Row | None, second: Row | None) -> dict[str, Any]:
    """What both say, the state of the row, and which of its facts are others."""
    told = second or first or {}
    named = {name: told[name] for name in ("corpus", "split", "tokenizer", "model", "title", "family")}
    state = "both" if first and second else "only after" if second else "only before"
    bits = {when: row["bits_per_byte"] if row else None for when, row in (("before", first), ("after", second))}
    facts = _facts(first, second) if first and second else []
    return {**named, "state": state, **bits, "same_text": None, **PAIRED, "changed": facts}


def _facts(first: Row, second: Row) -> list[str]:
    """``hidden: 256, was 128``, for every hyperparameter and fact that differs."""
    pairs = [(name, first.get(name), second.get(name)) for name in FACTS]
    old, new = first["hyperparameters"], second["hyperparameters"]
    pairs += [(name, old.get(name, DASH), new.get(name, DASH)) for name in sorted({*old, *new})]
    return [f"{name}: {now}, was {then}" for name, then, now in pairs if then != now]


# ---------------------------------------------------------------- pairs


def _texts(folders: Sequence[Path], rows: Sequence[Row]) -> dict[tuple[str, str], list[Text]]:
    """Each held-out text that both runs scored, as either has it."""
    places = dict.fromkeys((row["corpus"], row["split"]) for row in rows if row["state"] == "both")
    return {
        (corpus, split): [Text.open(folder / corpus / "text", split) for folder in folders] for corpus, split in places
    }


def _paired(
    folders: Sequence[Path],
    row: Row,
    first: Mapping[Any, Row],
    second: Mapping[Any, Row],
    texts: Mapping[tuple[str, str], list[Text]],
) -> dict[str, Any]:
    """Whether the text is the same, and the difference of a row over its blocks, if it can be had."""
    pair = texts[row["corpus"], row["split"]]
    if pair[0].sha256 != pair[1].sha256:
        return {"same_text": False}
    told = [run[key(row)] for run in (first, second)]
    profiles = [_profile(*each) for each in zip(folders, told, pair, strict=True)]
    known = [each for each in profiles if each is not None and np.isfinite(each.nats).all()]
    if len(known) < 2:
        return {"same_text": True, "difference": _plain(row)}
    found = statistics.differences(*in_blocks(known[::-1]))
    if not found:
        return {"same_text": True, "difference": _plain(row)}
    one = found[0]
    return {"same_text": True, "difference": one.difference, "interval": [one.low, one.high], "p": one.p}


def _plain(row: Row) -> float | None:
    """Of what no blocks are known, as of code lengths of compressors, or too few."""
    both = row["before"], row["after"]
    return None if None in both else both[1] - both[0]


def _profile(folder: Path, row: Row, text: Text) -> Profile | None:
    """A row's code lengths, from the score files of its cells; None where it has none."""
    if row["bits_per_byte"] is None or row["family"] == "compressor":
        return None
    where = folder / row["corpus"]
    if row["family"] == "oracle":
        cells = [where / "oracle"]
    else:
        model = row.get("ensemble_of") or row["model"]
        cells = [where / row["tokenizer"] / model / f"seed{seed}" for seed in row["seeds"]]
    scores: list[Scores] = [load_scores(cell / "scores.safetensors")[row["split"]] for cell in cells]
    joined = ensemble_of(scores) if row.get("ensemble_of") else mean_of(scores)
    return profile(joined, text, str(cells[0]))


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """Holm's correction over all pairs."""
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, statistics.holm(np.array([row["p"] for row in tested])).tolist(), strict=True):
        row["p_holm"] = p


# ---------------------------------------------------------------- told


HEAD = ("corpus", "tokens", "model", "before", "after", "difference", "95 % interval", "p", "what changed")


def _cells(row: Row) -> list[str]:
    text = f"{row['corpus']}, {row['split']}"
    numbers = [decimal(row["before"], 4), decimal(row["after"], 4), _difference(row), interval(row["interval"])]
    return [text, row["tokenizer"], row["model"], *numbers, chance(row["p_holm"]), _remark(row)]


def _difference(row: Row) -> str:
    return (
        DASH if row["difference"] is None else f"{'+' if row['difference'] > 0 else ''}{decimal(row['difference'], 4)}"
    )


def _remark(row: Row) -> str:
    if row["state"] != "both":
        return str(row["state"])
    told = ["another text: not paired"] if row["same_text"] is False else []
    return "; ".join([*told, *row["changed"]])


def summary(found: Mapping[str, Any]) -> str:
    """One sentence: how many rows, how many of them better and worse beyond chance."""
    rows = found["rows"]
    sure = [row for row in rows if row["p_holm"] is not None and row["p_holm"] < LEVEL]
    better = sum(row["difference"] < 0 for row in sure)
    states = [sum(row["state"] == state for row in rows) for state in ("both", "only before", "only after")]
    other = sum(row["same_text"] is False for row in rows)
    told = f"{states[0]} rows in both runs, {states[1]} only before, {states[2]} only after"
    told += f"; {other} on another text, which cannot be paired" if other else ""
    return f"{told}. Better beyond chance: {better}; worse: {len(sure) - better} (p below {LEVEL}, Holm's correction)."


def table_markdown(found: Mapping[str, Any]) -> str:
    """A table to paste; bits per byte, a difference below 0 where the second run is better."""
    lines = [f"# {found['before']} → {found['after']}", "", summary(found), ""]
    rows = [HEAD, ["---"] * 3 + ["--:"] * 5 + ["---"], *map(_cells, found["rows"])]
    escaped = [[visible(str(cell)).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return visible("\n".join([*lines, *(f"| {' | '.join(row)} |" for row in escaped)])) + "\n"


def table_terminal(found: Mapping[str, Any]) -> str:
    """The rows that changed, then the summary; no colours, no commands."""
    moved = [row for row in found["rows"] if row["difference"] or row["changed"] or _remark(row)]
    rows = [list(HEAD[:-1]), *([*_cells(row)[:-1]] for row in moved)]
    shown = [[visible(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = []
    for place, row in enumerate(shown):
        aligned = [
            cell.ljust(wide) if at < 3 else cell.rjust(wide)
            for at, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
        if place and (remark := _remark(moved[place - 1])):
            lines.append(f"    {visible(remark)}")
    title = f"bits per byte, {found['before']} -> {found['after']}"
    return "\n".join([visible(title), *(lines if moved else ["no row changed"]), summary(found)])
