"""The run that words on a command line describe, as ``lmstages run`` takes them, read here and not by Snakemake.

lmstages plan published models.gpt.width=128     runs/published.yaml with one key changed
lmstages plan run=published text=my.txt          the same with a text of one's own
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmstages.config.jobs import Run
from lmstages.config.overrides import AS_TYPED
from lmstages.config.reading import read_run, text_run
from lmstages.config.strict_yaml import parse_value
from lmstages.config.workflow_call import as_config, configs, is_setting
from lmstages.core.workflow_files import WORKFLOW


def run_of(words: Sequence[str]) -> Run:
    """The run of config files, a run's name and settings; config.yaml of this folder where there is no file."""
    settings = dict(_setting(pair) for pair in as_config([word for word in words if is_setting(word)]))
    files, names = configs([word for word in words if not is_setting(word)])
    name, text = settings.pop("run", None), settings.pop("text", None)
    paths = [run_file(given) for given in (*names, *([name] if name else []))] + list(map(Path, files))
    paths = paths or [Path("config.yaml")]
    return read_run(paths, settings) if text is None else text_run(paths, text, settings)


def _setting(pair: str) -> tuple[str, Any]:
    key, _, value = pair.partition("=")
    return key, value if key in AS_TYPED else parse_value(value, f"--config {key}")


def run_file(name: str) -> Path:
    """runs/NAME.yaml of this folder, else of the workflow."""
    path = Path("runs", f"{name}.yaml")
    return path if path.is_file() or not (WORKFLOW / path).is_file() else WORKFLOW / path
