"""Where a figure comes from: all that is known of a cell, and the commands that make it again.

What stands beside every file (its sha256; the section, inputs and code it was made from) is told, and held against
the files and the code as they are now. Knows what lies in a run's folder; it loads no model.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmstages.config.ladder import MODEL_TYPES
from lmstages.core import artifacts
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.provenance import code_hash
from lmstages.training.flops import FORMULA

FILES = ("model.safetensors", "fit.json", "scores.safetensors", "evaluation.json", "samples.json", "probe.json")
PARTS = ("run", "corpus", "tokenizer", "model", "seed")
TOLD = ("status", "parameters", "tokens_seen", "flops", "fit_seconds", "device", "threads", "vocab_size", "environment")
MEANING = {"flops": FORMULA, "parameters": "free numbers that were fitted", "tokens_seen": "of train, repeats counted"}


def explained(path: Path) -> str:
    """A cell ``results/RUN/CORPUS/TOKENIZER/MODEL/seedN``, a file in it, or the cells below the path's beginning."""
    folder = existing(path)
    cells = [folder] if (folder / "fit.json").is_file() else sorted(each.parent for each in folder.rglob("fit.json"))
    if not cells:
        raise UserError(path, "no fitted cell lies here", "a cell is results/RUN/CORPUS/TOKENIZER/MODEL/seedN")
    if len(cells) > 1:
        return "\n".join([f"{folder}: {len(cells)} cells; explain one of them:", *(f"  {cell}" for cell in cells)])
    return "\n".join(_lines(cells[0]))


def existing(path: Path) -> Path:
    """The folder itself; a UserError that says at which part of the path there is nothing, and what is there."""
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    above = path.parent
    while not above.is_dir():
        path, above = above, above.parent
    folders = {path.name for path in above.iterdir() if path.is_dir() and path.name != artifacts.RECORDS}
    known = sorted(folders | {name for name in FILES if (above / name).is_file()})
    allowed = f"there are: {', '.join(known)}" if known else "the folder is empty"
    raise UserError(path, f"no such folder{did_you_mean(path.name, known)}", allowed, "run snakemake to make it")


def _lines(cell: Path) -> Iterator[str]:
    named = dict(zip(PARTS, cell.parts[-5:], strict=True))
    record = artifacts.made_of(cell / "fit.json")
    fit, made = artifacts.load_json(cell / "fit.json"), record["made"]
    yield str(cell)
    yield from ("", "what")
    yield from (f"  {key:<12} {value}" for key, value in named.items())
    yield f"  {'section':<12} {json.dumps(made['section'], sort_keys=True)}"
    yield from ("", "how it went")
    yield from (f"  {key:<12} {_told(key, fit[key])}" for key in TOLD if key in fit)
    yield from ("", "from what; by its sha256 then, held against the file as it is now")
    yield from (f"  {line}" for line in _inputs(cell, made))
    yield from ("", "by which code")
    yield f"  {_code(made, fit)}"
    yield from ("", "files")
    yield from (f"  {_state(cell / name)}" for name in FILES if (cell / name).is_file())
    yield from ("", "where the figures stand")
    yield from (f"  {line}" for line in _figures(cell, named))
    yield from ("", "to make it again")
    yield from (f"  {line}" for line in commands(cell))


def _told(key: str, value: Any) -> str:
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
    shown = json.dumps(value, sort_keys=True) if isinstance(value, dict) else shown
    return f"{shown}  ({MEANING[key]})" if key in MEANING and value is not None else shown


def _inputs(cell: Path, made: Mapping[str, Any]) -> Iterator[str]:
    corpus = cell.parents[2]
    for name, recorded in sorted(made["inputs"].items()):
        folders = (cell.parents[1] / "tokens", corpus / "text", cell, corpus)
        found = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if found is None:
            yield f"{recorded[:12]} {name}: gone"
            continue
        same = artifacts.made_of(found)["sha256"] == recorded
        state = _verdict(found) if same else f"CHANGED since, now {artifacts.made_of(found)['sha256'][:12]}"
        yield f"{recorded[:12]} {found}: {state}"


def _verdict(path: Path) -> str:
    """``the same``, or what its bytes are instead of those that were written."""
    try:
        artifacts.verified(path)
        return "the same"
    except UserError as error:
        return f"DAMAGED, {error}"


def _state(path: Path) -> str:
    return f"{artifacts.made_of(path)['sha256'][:12]} {path}: {_verdict(path)}"


def _code(made: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    config = MODEL_TYPES.get(fit.get("type", ""))
    now = code_hash("fit", config.module) if config and made["command"] == "fit" else None
    recorded = made["code"] or "(called by hand, no hash kept)"
    state = "the same now" if now == made["code"] else f"now {now}" if now else "not compared"
    return f"lmstages {made['lmstages']}, {made['verb']}: {recorded}, {state}"


def _figures(cell: Path, named: Mapping[str, str]) -> Iterator[str]:
    comparison = cell.parents[3] / "comparison.json"
    if not comparison.is_file():
        yield f"{comparison}: not made yet"
        return
    for row in artifacts.load_json(comparison)["rows"]:
        here = all(row[key] == named[key] for key in ("corpus", "tokenizer", "model"))
        if here and int(named["seed"].removeprefix("seed")) in row["seeds"] and row["bits_per_byte"] is not None:
            seeds = f", mean of seeds {row['seeds']}" if len(row["seeds"]) > 1 else ""
            yield f"{row['split']}: {row['bits_per_byte']:.4f} bits/byte{seeds}, in {comparison}"
    yield f"{comparison.with_name('table.csv')}, {comparison.with_name('report.html')}"


def commands(cell: Path) -> list[str]:
    """The two ways: through the workflow, and the one job by itself, whose output is the same bytes."""
    record = artifacts.made_of(cell / "fit.json")["made"]
    fit, seed = artifacts.load_json(cell / "fit.json"), cell.name.removeprefix("seed")
    first = str(cell / "fit.json")
    workflow = ["snakemake", first, "--cores", "all", *_run_of(cell), "--forcerun", first]
    if record["command"] != "fit":
        return [shlex.join(workflow)]
    section = json.dumps(record["section"], sort_keys=True)
    alone = ["python", "-m", "lmstages", "fit", "--tokens", str(cell.parents[1] / "tokens"), "--out", str(cell)]
    alone += ["--section", section, "--seed", seed, "--threads", str(fit.get("threads", 1)), "--code", record["code"]]
    return [shlex.join(workflow), shlex.join(alone)]


def _run_of(cell: Path) -> list[str]:
    """How Snakemake is told which run it was: nothing for config.yaml, ``run=NAME`` for runs/NAME.yaml."""
    folder = cell.parents[3]
    if folder.name == "default":
        return []
    if (folder.parent.parent / "runs" / f"{folder.name}.yaml").is_file():
        return ["--config", f"run={folder.name}"]
    return ["--configfile", f"{folder.name}.yaml"]
