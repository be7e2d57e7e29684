"""Which text and config files a folder below ``results/`` belongs to, so that no run overwrites another in silence.

A run is named after a file, and two files may have one name: ``a/input.txt`` and ``b/input.txt``. The first run to use
a folder writes down what it was named for; a run of anything else is refused there, with the way out. The settings of
the last run are kept beside that, so that a command which makes a file again can be given whole.
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


def origin(files: Sequence[Path], text: str | Sequence[str] | None, settings: Sequence[str] = ()) -> Origin:
    """What a run stands for: its text, if it is named after one, and its config files, relative to this folder.

    ``settings``: what was typed after ``--config``, which may differ from one call to the next.
    """
    config = list(dict.fromkeys(os.path.relpath(file) for file in files))
    texts = [text] if isinstance(text, str) else text
    text = None if texts is None else ", ".join(map(os.path.relpath, texts))
    return {"text": text, "config": config, "settings": list(settings)}


def stop_if_taken(folder: Path, wanted: Origin) -> None:
    """Raises UserError where the folder holds the run of another text or of other config files."""
    present = recorded(folder)
    if present is not None and any(present[key] != wanted[key] for key in ("text", "config")):
        problem = f"holds the run of {_words(present)}, not of {_words(wanted)}"
        remedy = f"give this one a name, --config as=NAME, or remove the other: rm -r {shlex.quote(str(folder))}"
        raise UserError(folder, problem, "a folder holds one run", remedy)


def claim(folder: Path, wanted: Origin) -> None:
    """Write down what the folder belongs to; a folder that cannot be written is refused by the first job."""
    stop_if_taken(folder, wanted)
    if recorded(folder) != wanted:
        with suppress(UserError), atomic_write(folder / RECORD) as file:
            file.write(json.dumps(wanted).encode())


def recorded(folder: Path) -> Origin | None:
    """What a folder belongs to; None where nothing readable says so."""
    try:
        present = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        config, settings = ([str(value) for value in present.get(key, ())] for key in ("config", "settings"))
        return {"text": present["text"], "config": config, "settings": settings}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _words(stands_for: Origin) -> str:
    config = " and ".join(stands_for["config"]) or "a config without a file"
    return config if stands_for["text"] is None else f"the text {stands_for['text']} with {config}"
