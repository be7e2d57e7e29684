"""Where a figure comes from: what is known of an experiment, and the commands that make it again.

What stands beside every file (its sha256; the section, inputs and code it was made from) is printed, and compared with
the files and the code as they are now. Knows what lies in a run's folder; it loads no model.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstages.config import own_models
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.run_folders import recorded as recorded_run
from lmstages.core import artifacts, own_code
from lmstages.core.artifacts import input_path
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.provenance import code_hash
from lmstages.core.workflow_files import STARTER, snakefile_option
from lmstages.evaluation.facts import Fit, Reported
from lmstages.results.formatting import decimal
from lmstages.results.frame import Results
from lmstages.training.flops import FORMULA

FILES = (
    *("model.safetensors", "fit.json", "reported.json", "scores.safetensors"),
    *("evaluation.json", "samples.json", "probe.json", "infill.json", "infill.safetensors"),
    *("generation.json", "generation.safetensors"),
)
PARTS = {  # of the path of a row's folder, by the file with its facts
    "fit.json": ("run", "corpus", "tokenizer", "model", "seed"),
    "reported.json": ("run", "corpus", "reported", "model"),
}
SHAPES = {"fit.json": Fit, "reported.json": Reported}
LONGEST = max(map(len, PARTS.values()))
COST = ("status", "parameters", "tokens_seen", "flops", "fit_seconds")
FACTS = (*COST, "device", "threads", "vocab_size", "environment", "path", "form", "unit", "sha256")
MEANING = {"flops": FORMULA, "parameters": "free numbers that were fitted", "tokens_seen": "of train, repeats counted"}


def explained(path: Path) -> str:
    """An experiment ``results/RUN/CORPUS/TOKENIZER/MODEL/seedN``, a file in it, or those below the path's beginning.

    Scores made elsewhere are one, too: ``results/RUN/CORPUS/reported/NAME``.
    """
    folder = existing(path)
    if ".." in folder.parts or len(folder.parts) < LONGEST:  # called from within the run's folder
        folder = Path(os.path.abspath(folder))
    here = any((folder / name).is_file() for name in PARTS)
    experiments = [folder] if here else sorted(file.parent for name in PARTS for file in folder.rglob(name))
    if not experiments or len(experiments[0].parts) < LONGEST:
        allowed = "an experiment is results/RUN/CORPUS/TOKENIZER/MODEL/seedN"
        raise UserError(path, "no fitted experiment lies here", allowed)
    if len(experiments) > 1:
        heading = f"{folder}: {len(experiments)} experiments; explain one of them:"
        return "\n".join([heading, *(f"  {experiment}" for experiment in experiments)])
    return "\n".join(_lines(experiments[0]))


def existing(path: Path) -> Path:
    """The folder itself; a UserError that says at which part of the path there is nothing, and what is there."""
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    above = path.parent
    while not above.is_dir():
        path, above = above, above.parent
    folders = {entry.name for entry in above.iterdir() if entry.is_dir() and entry.name != artifacts.RECORDS}
    known = sorted(folders | {name for name in FILES if (above / name).is_file()})
    allowed = f"there are: {', '.join(known)}" if known else "the folder is empty"
    raise UserError(path, f"no such folder{did_you_mean(path.name, known)}", allowed, f"run {STARTER} to make it")


def _lines(experiment: Path) -> Iterator[str]:
    file = _facts_of(experiment)
    parts = PARTS[file.name]
    identity = dict(zip(parts, experiment.absolute().parts[-len(parts) :], strict=True))
    facts, made = artifacts.load_json(file, SHAPES[file.name]), artifacts.provenance_of(file)
    yield str(experiment)
    yield from ("", "what")
    yield from (f"  {key:<12} {value}" for key, value in identity.items())
    yield f"  {'section':<12} {json.dumps(made['section'], sort_keys=True)}"
    yield from ("", "how it went")
    yield from (f"  {key:<12} {_with_meaning(key, facts[key])}" for key in FACTS if key in facts)
    yield from ("", "made from; sha256 at that time, compared with the file as it is now")
    yield from (f"  {line}" for line in _inputs(experiment, made))
    yield from ("", "by which code")
    yield f"  {_code(made, facts)}"
    yield from ("", "files")
    yield from (f"  {_state(experiment / name)}" for name in FILES if (experiment / name).is_file())
    yield from ("", "where the figures stand")
    yield from (f"  {line}" for line in _figures(experiment, identity))
    yield from ("", "to make it again")
    yield from (f"  {line}" for line in commands(experiment))


def _facts_of(experiment: Path) -> Path:
    return next(experiment / name for name in PARTS if os.path.lexists(experiment / name))


def _with_meaning(key: str, value: Any) -> str:
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
    shown = json.dumps(value, sort_keys=True) if isinstance(value, dict) else shown
    return f"{shown}  ({MEANING[key]})" if key in MEANING and value is not None else shown


def _inputs(experiment: Path, made: Mapping[str, Any]) -> Iterator[str]:
    """Each input, and whether it is still the file that it was."""
    for name, recorded in sorted(made["inputs"].items()):
        path = input_path(experiment, name, made)
        if path is None:
            yield f"{recorded[:12]} {name}: gone"
            continue
        now = artifacts.made_of(path)["sha256"]
        state = _verdict(path) if now == recorded else f"CHANGED since, now {now[:12]}"
        yield f"{recorded[:12]} {path}: {state}"


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
    if own_models.is_own(fit.get("type", "")):
        return _own_code(made, fit)
    config = MODEL_TYPES.get(fit.get("type", ""))
    now = code_hash("fit", config.module) if config and made["command"] == "fit" else None
    recorded = made["code"] or "(called by hand, no hash kept)"
    state = "the same now" if now == made["code"] else f"now {now}" if now else "not compared"
    return f"lmstages {made['lmstages']}, {made['command']}: {recorded}, {state}"


def _own_code(made: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    """Of a model of one's own: whether its file is still the one that was fitted."""
    recorded = fit["properties"].get("content", "")
    try:
        content = own_code.code_from(own_models.origin_of(fit["type"]).source).content
        state = "the same now" if content == recorded else f"CHANGED since, now {content[:12]}"
    except UserError as error:
        state = f"not compared, {error}"
    return f"lmstages {made['lmstages']}, {made['command']}: {made['code']}; {fit['type']} {recorded[:12]}: {state}"


def _figures(experiment: Path, identity: Mapping[str, str]) -> Iterator[str]:
    """The rows of the results that the experiment is part of."""
    folder, seed = run_of(experiment), identity.get("seed", "").removeprefix("seed")
    if not (folder / "results.parquet").is_file():
        yield f"{folder / 'results.parquet'}: not made yet"
        return
    for row in Results.open(folder).rows:
        here = all(getattr(row, name) == identity.get(name, "-") for name in ("corpus", "tokenizer", "model"))
        if here and (not seed or seed in row.seeds.split()) and row.bits_per_byte is not None:
            seeds = f", mean of seeds {row.seeds}" if " " in row.seeds else ""
            bits = decimal(row.bits_per_byte, 4)
            yield f"{row.split}: {bits} bits/byte{seeds}, in {folder / 'results.parquet'}"
            yield from (f"  {remark}" for remark in (row.flag, row.warning) if remark)
    yield f"{folder / 'results.csv'}, {folder / 'report.html'}"


def commands(experiment: Path) -> list[str]:
    """The two ways: through the workflow, and the one job by itself, whose output is the same bytes."""
    file = _facts_of(experiment)
    record = artifacts.provenance_of(file)
    workflow = call_of(run_of(experiment), [file])
    if record["command"] != "fit":
        return [workflow]
    fit, seed = artifacts.load_json(file, Fit), experiment.name.removeprefix("seed")
    section, tokens = json.dumps(record["section"], sort_keys=True), experiment.parents[1] / "tokens"
    alone = ["python", "-m", "lmstages", "fit", "--tokens", str(tokens), "--out", str(experiment)]
    alone += ["--section", section, "--seed", seed, "--threads", str(fit.get("threads", 1)), "--code", record["code"]]
    return [workflow, shlex.join(alone)]


def run_of(experiment: Path) -> Path:
    """The folder of its run."""
    return experiment.parents[len(PARTS[_facts_of(experiment).name]) - 2]


def call_of(run: Path, paths: Sequence[Path]) -> str:
    """The call of Snakemake that makes files of a run again, and what depends on them, from where the run was made."""
    folder = Path(os.path.abspath(run))
    root = folder.parent.parent
    targets = [os.path.relpath(path, root) for path in paths]
    call = ["snakemake", "--cores", "all", *snakefile_option(root), *settings_of(folder), "--forcerun", *targets]
    if len(targets) == 1:
        call.insert(1, targets[0])
    elsewhere = [["cd", str(root)]] if root != Path.cwd() else []
    return " && ".join(map(shlex.join, [*elsewhere, call]))


def settings_of(folder: Path) -> list[str]:
    """How Snakemake is given the run in ``folder``: with the config files and the settings that its last call had.

    Where nothing says what they were, nothing for config.yaml and ``run=NAME`` for runs/NAME.yaml.
    """
    if last := recorded_run(folder):
        config, settings = last["config"], last["settings"]
        is_named = any(setting.startswith("run=") for setting in settings)  # then the first file is that run's
        files = config[1:] if is_named else [] if config == ["config.yaml"] else config
        return [*(["--configfile", *files] if files else []), *(["--config", *settings] if settings else [])]
    if folder.name == "default":
        return []
    if (folder.parent.parent / "runs" / f"{folder.name}.yaml").is_file():
        return ["--config", f"run={folder.name}"]
    return ["--configfile", f"{folder.name}.yaml"]
