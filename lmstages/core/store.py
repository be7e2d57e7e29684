"""The store: what stages have made, kept by what made it, so that no run in this folder makes the same again.

    FOLDER/<key>/entry.json      what the stage depended on, and the sha256 of each of its files
    FOLDER/<key>/files/<name>    hard links of those files, under their names in the stage's --out

The key is a hash of the command, its section of the config, its options, the content of its inputs, the code and the
versions. A stage that would make the same links the files into its run, each with a record of its own, after their
sha256 has been compared; an entry that is damaged is removed, and the stage makes its files. On a disk without hard
links the files are copied. An entry whose files have no other link belongs to no run any more: ``unused`` lists them.

Knows nothing of what the files mean.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstages.core.artifacts import RECORDS, Made, depends_on, made_of, save_linked, to_json
from lmstages.core.errors import UserError
from lmstages.core.files import atomic_write, link_or_copy, naming, sha256_of, sync_folder

ENTRY, FILES = "entry.json", "files"
THE_FILE = "the file"  # in place of a name in --out, where --out is a file itself
UNFINISHED = ".new-"


class Taken(Exception):  # noqa: N818  # no error
    """The files of a stage lie in its run now, as the store had them: nothing is left to do."""


@dataclass(frozen=True)
class Work:
    """What a stage is about to make: the store's folder, where its files go, their record, and all it depends on."""

    folder: Path
    out: Path
    made: Made
    depends: Mapping[str, Any]

    @property
    def entry(self) -> Path:
        """The folder of its files in the store."""
        return self.folder / hashlib.sha256(to_json(dict(self.depends))).hexdigest()[:40]

    def take(self) -> bool:
        """Whether the store had the files: then they lie at ``out``."""
        try:
            files = _files_of(self.entry)
            for path, digest in ((self.entry / FILES / name, digest) for name, digest in files.items()):
                if sha256_of(path) != digest:
                    raise ValueError(f"{path} is damaged")
        except (OSError, UserError, ValueError, KeyError, AttributeError, TypeError):
            shutil.rmtree(self.entry, ignore_errors=True)
            return False
        for name, digest in files.items():
            path = self.out / name if name != THE_FILE else self.out
            save_linked(path, self.entry / FILES / name, digest, self.made)
        return True

    def keep(self) -> None:
        """Link what the stage has made into the store; a disk that is full or forbids it costs the store alone."""
        partial = self.folder / f"{UNFINISHED}{os.getpid()}-{self.entry.name}"
        with suppress(OSError, UserError):
            written = self._written()
            if written and not self.entry.exists():
                for name, path in written.items():
                    link_or_copy(path, partial / FILES / name)
                hashes = {name: made_of(path)["sha256"] for name, path in written.items()}
                with atomic_write(partial / ENTRY) as file:
                    file.write(to_json({"depends": dict(self.depends), "files": hashes}))
                os.rename(partial, self.entry)
                sync_folder(self.folder)
        shutil.rmtree(partial, ignore_errors=True)

    def _written(self) -> dict[str, Path]:
        """The files that this very call has made, by their names in ``out``."""
        if self.out.is_file():
            return {THE_FILE: self.out}
        paths = (self.out / record.stem for record in sorted((self.out / RECORDS).glob("*.json")))
        wanted = depends_on(self.made)
        return {path.name: path for path in paths if path.is_file() and depends_on(made_of(path)["made"]) == wanted}


def _files_of(entry: Path) -> dict[str, str]:
    """{name: sha256} of an entry; an error of any kind where there is none or it is damaged."""
    files = json.loads((entry / ENTRY).read_bytes())["files"]
    return {str(name): str(digest) for name, digest in files.items()}


# ---------------------------------------------------------------- what no run points to


@dataclass(frozen=True)
class Unused:
    """An entry whose files belong to no run any more."""

    folder: Path
    what: str  # the command, and the model's type or corpus where its section names one
    size: int  # bytes


def unused(folder: Path) -> Iterator[Unused]:
    """The entries of a store that no run's folder shares, and what a killed stage left of one, in order."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        files = [path for path in entry.rglob("*") if path.is_file()]
        linked = (path.stat() for path in files if path.relative_to(entry).parts[0] == FILES)
        if not any(status.st_nlink > 1 for status in linked):
            yield Unused(entry, _description(entry), sum(path.stat().st_size for path in files))


def cleaned(folder: Path, delete: bool) -> Iterator[str]:
    """Removes what ``unused`` lists, if so wished -> a line for each, and the sum. Raises UserError without a store."""
    if not folder.is_dir():
        raise UserError(folder, "no such folder", "a run keeps its files in data/store", "run it, or name the folder")
    entries = list(unused(folder))
    for entry in entries:
        yield f"{entry.size / 1e6:10.1f} MB  {entry.folder}  {entry.what}"
        if delete:
            with naming(entry.folder):
                shutil.rmtree(entry.folder)
    total, verb = sum(entry.size for entry in entries) / 1e6, "removed" if delete else "belong to no run"
    yield f"{len(entries)} entries, {total:,.1f} MB {verb}" + (
        "" if delete or not entries else "; --delete removes them"
    )


def _description(entry: Path) -> str:
    try:
        depends = json.loads((entry / ENTRY).read_bytes())["depends"]
        section = depends["section"]
        kind = section.get("type") or section.get("source") or section.get("kind") or ""
        return f"{depends['command']} {kind}".strip()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return "unfinished or damaged"
