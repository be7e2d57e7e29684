"""Which text and config files a folder below ``results/`` belongs to, so that no run overwrites another in silence.

A run is named after a file, and two files may have one name: ``a/input.txt`` and ``b/input.txt``. The first run to use
a folder writes down what it was named for; a run of anything else is refused there, with the way out.
"""

import json
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmstages.core.errors import UserError
from lmstages.core.files import atomic_write

RECORD = ".origin.json"
Origin = dict[str, Any]


def origin(files: Sequence[Path], text: str | None) -> Origin:
    """What a run stands for: its text, if it is named after one, and its config files, relative to this folder."""
    config = list(dict.fromkeys(os.path.relpath(file) for file in files))
    return {"text": None if text is None else os.path.relpath(text), "config": config}


def stop_if_taken(folder: Path, wanted: Origin) -> None:
    """Raises UserError where the folder holds the run of another text or of other config files."""
    present = _recorded(folder)
    if present is not None and present != wanted:
        problem = f"holds the run of {_words(present)}, not of {_words(wanted)}"
        remedy = f"give this one a name, --config as=NAME, or remove the other: rm -r {shlex.quote(str(folder))}"
        raise UserError(folder, problem, "a folder holds one run", remedy)


def claim(folder: Path, wanted: Origin) -> None:
    """Write down what the folder belongs to; a folder that cannot be written is refused by the first job."""
    stop_if_taken(folder, wanted)
    if _recorded(folder) != wanted:
        with suppress(UserError), atomic_write(folder / RECORD) as file:
            file.write(json.dumps(wanted).encode())


def _recorded(folder: Path) -> Origin | None:
    try:
        present = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {"text": present["text"], "config": [str(file) for file in present["config"]]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _words(stands_for: Origin) -> str:
    config = " and ".join(stands_for["config"]) or "a config without a file"
    return config if stands_for["text"] is None else f"the text {stands_for['text']} with {config}"
