"""The files of one GGUF model: one, or several whose names say which part of how many each is, as llama.cpp splits it.

``MODEL-00001-of-00003.gguf`` is the first of three that lie in one folder; any of them stands for the model.
"""

import re
from pathlib import Path

PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def parts_of(path: Path) -> list[Path]:
    """All files of the model that a file belongs to, in order, whether they are there or not."""
    name = PART.fullmatch(path.name)
    if name is None or not 1 <= int(name[2]) <= int(name[3]):
        return [path]
    return [path.with_name(f"{name[1]}-{number:05}-of-{name[3]}.gguf") for number in range(1, int(name[3]) + 1)]


def missing_part(path: Path) -> str:
    """``lacks m-00002-of-00003.gguf ...``, where a file is there and another part of its model is not; or nothing."""
    missing = [part.name for part in parts_of(path) if not part.is_file()]
    if not missing or not path.is_file():
        return ""
    others = f" and {len(missing) - 1:,} others" if len(missing) > 1 else ""
    return f"lacks {missing[0]}{others} beside it; a model in several files needs all of them in one folder"
