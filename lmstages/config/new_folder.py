"""What ``lmstages init`` writes: a folder to work in, with a config to edit. No file that is there is overwritten."""

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.files import atomic_write
from lmstages.core.workflow_files import SCHEMA, WORKFLOW, profile_names, run_names

CONFIG, EDITOR_SCHEMA = "config.yaml", "config.schema.json"
DEFAULT = "default"
HEAD = """\
# yaml-language-server: $schema={schema}
# {origin}
#
#   lmstages run                         fit, score and report: results/default/report.html
#   lmstages run text=my.txt             the same models on a text of your own
#   lmstages run models.NAME.KEY=VALUE   one key changed, for this call
#   lmstages run -- -n                   what would be done; what follows -- is passed to Snakemake
#
# Change one number and call it again: only what depends on it is recomputed. `lmstages check {config}` lists the
# experiments that would run, or every mistake at once; `lmstages models NAME` explains each key of a model.
"""
NEXT = """\
next:
  {cd}lmstages run{run}
      fits, scores and compares the models of {config}: results/default/report.html
  {cd}lmstages run text=PATH
      the same on a text of your own
"""


def begin(folder: Path, run: str, profiles: Sequence[str]) -> str:
    """Write a config made of that of a run, its schema and profiles of Snakemake; returns what to do next.

    With ``profiles`` a config that is there stays. Raises UserError where a file would be overwritten.
    """
    sources = profile_files(profiles)
    contents = {name: path.read_bytes() for name, path in sources.items()}
    if not profiles or not (folder / CONFIG).exists():
        contents |= {CONFIG: config_of(run), EDITOR_SCHEMA: SCHEMA.read_bytes()}
    missing = {name: content for name, content in contents.items() if not is_there(folder / name, content)}
    for name, content in missing.items():
        with atomic_write(folder / name) as file:
            file.write(content)
    for name, path in sources.items():
        shutil.copymode(path, folder / name)  # a profile may hold a script
    lines = [f"{'written' if name in missing else 'there already'}: {folder / name}" for name in contents]
    return "\n".join([*lines, what_next(folder, profiles)])


def is_there(path: Path, content: bytes) -> bool:
    """Whether a file is there with this content; a UserError where it is there with another."""
    if not os.path.lexists(path):
        return False
    if not path.is_file() or path.read_bytes() != content:
        remedy = "edit it, or give another folder" if path.name == CONFIG else "remove or rename it, then start again"
        raise UserError(path, "is there already", "init overwrites nothing", remedy)
    return True


def config_of(run: str) -> bytes:
    """The config of a run under a head of its own: its first comment says how it is started in a checkout."""
    _stop_if_unknown("--run", run, [DEFAULT, *run_names()])
    path = WORKFLOW / CONFIG if run == DEFAULT else WORKFLOW / "runs" / f"{run}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    length = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    origin = "The default run of lmstages." if run == DEFAULT else f"The run {run} of lmstages."
    head = HEAD.format(schema=EDITOR_SCHEMA, origin=origin, config=CONFIG)
    if run != DEFAULT:
        head += "#\n" + "".join(line for line in lines[1:length] if "snakemake" not in line and line.strip() != "#")
    return (head + "".join(lines[length:])).encode()


def profile_files(names: Sequence[str]) -> dict[str, Path]:
    """The files of profiles, by their path below the new folder."""
    files: dict[str, Path] = {}
    for name in names:
        _stop_if_unknown("--profile", name, profile_names())
        files |= {f"profiles/{name}/{path.name}": path for path in sorted((WORKFLOW / "profiles" / name).iterdir())}
    return files


def what_next(folder: Path, profiles: Sequence[str]) -> str:
    """The commands to type next."""
    here = folder.resolve() == Path.cwd().resolve()
    cd = "" if here else shlex.join(["cd", str(folder)]) + " && "
    run = "".join(f" -- --workflow-profile profiles/{name}" for name in profiles[:1])
    return NEXT.format(cd=cd, run=run, config=CONFIG).rstrip()


def _stop_if_unknown(option: str, name: str, allowed: Sequence[str]) -> None:
    if name not in allowed:
        raise UserError(option, f"{name!r} found{did_you_mean(name, allowed)}", f"allowed: {', '.join(allowed)}")
