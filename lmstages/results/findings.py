"""What was found out about a run's cells beside their scores, put into its comparison.

Knows the files that ``analyses``, ``fitting`` and ``artifacts`` left; never a score, a text or a model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstages.core import artifacts

Row = dict[str, Any]
ROW: Row = dict.fromkeys(["unseen", "by_position", "novelty", "minimal_pairs", "neighbours", "flops", "provenance"])


def merge(root: Path, corpora: Mapping[str, Row], rows: Sequence[Row]) -> None:
    """Put what was analysed into the corpora and rows of a comparison, and where each row came from."""
    known: dict[tuple[str, ...], Row] = {}
    for name, corpus in corpora.items():
        found = artifacts.load_json(root / name / "analyses.json")
        corpus |= {key: found[key] for key in ("overlap", "transfer")}
        known |= {(name, row["tokenizer"], row["model"], row["split"]): row for row in found["rows"]}
    for row in rows:
        analysed = known.get(tuple(row[key] for key in ("corpus", "tokenizer", "model", "split")), {})
        row |= ROW | {key: value for key, value in analysed.items() if key in ROW}
        if row["seeds"]:
            row |= origin(root, row)


def origin(root: Path, row: Mapping[str, Any]) -> Row:
    """FLOPs of a row's first fit, the short hashes of what it was made from, and how to have it explained."""
    cell = root / row["corpus"] / row["tokenizer"] / row["model"] / f"seed{row['seeds'][0]}"
    if not (cell / "fit.json").is_file():  # an ensemble is made of the cells of its members
        return {}
    made = artifacts.made_of(cell / "fit.json")["made"]
    hashes = {name: value[:12] for name, value in made["inputs"].items()} | {"code": made["code"][:12]}
    fit = {**hashes, "lmstages": made["lmstages"]}
    told = {"fit": fit, "command": f"python -m lmstages explain {cell}"}
    return {"flops": artifacts.load_json(cell / "fit.json").get("flops"), "provenance": told}
