"""The one way of writing and reading a file that another stage relies on.

A file appears complete or not at all (``files``). The hidden folder ``.made`` beside it holds its record,
``.made/<name>.json``, with its sha256, the path it was written to within its run, and what made it (config section,
inputs, code); every reader compares file and record first, so that a flipped bit, a half-copied folder or another
experiment's file is an error and never a number in a table. The record holds a hash of itself, too. A JSON file is
read with its ``shape``, the types of its content.

Knows nothing of what the files mean.
"""

import hashlib
import json
import math
import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from lmstages.core.errors import UserError
from lmstages.core.files import (
    atomic_write,
    flush,
    linked_partial,
    naming,
    partial_of,
    reading,
    sha256_of,
    sha256_of_open,
    sync_folder,
)
from lmstages.core.shapes import problem_of
from lmstages.core.workflow_files import STARTER

Made = Mapping[str, Any]
METADATA = "lmstages"
RECORDS = ".made"
SEAL = "record_sha256"  # of all else that a record holds
OF_A_COMMAND = ("command", "section", "inputs", "code", "lmstages")
HALF_A_CHARACTER = b"\\ud"  # begins the escape of one in JSON
NPY_HEADER = 128  # bytes of the header that numpy writes for one dimension


def sidecar(path: Path) -> Path:
    """The path of a file's record: its sha256 and what made it."""
    return path.parent / RECORDS / f"{path.name}.json"


@contextmanager
def saving(path: Path, made: Made) -> Iterator[BinaryIO]:
    """As ``atomic_write``, with the record renamed first: a file beside an older record is always refused."""
    with partial_of(path) as file:
        yield file
        flush(file)
        _take_its_name(file.name, path, sha256_of_open(file), made)


def save_linked(path: Path, source: Path, sha256: str, made: Made) -> None:
    """``source``, whose hash is known, under the name ``path`` too, with a record: one file on the disk, or a copy."""
    with linked_partial(path, source) as partial:
        _take_its_name(partial, path, sha256, made)


def _take_its_name(partial: str, path: Path, sha256: str, made: Made) -> None:
    """A finished file and its record get their names, the record first."""
    record = {"sha256": sha256, "bytes": os.stat(partial).st_size, "made": made}
    if "levels" in made:
        record["path"] = path_in_run(path, made["levels"] + made.get("below", 0))
    with partial_of(sidecar(path)) as record_file:
        record_file.write(to_json({**record, SEAL: _seal(json.loads(to_json(record)))}))
        flush(record_file)
        _rename_both(partial, path, record_file.name)


def _seal(record: Mapping[str, Any]) -> str:
    """The sha256 of a record as it is read, without its seal."""
    return hashlib.sha256(to_json({key: value for key, value in record.items() if key != SEAL})).hexdigest()


def _rename_both(partial: str, path: Path, record_partial: str) -> None:
    """The record and then the file take their names; where the file cannot, the older record comes back."""
    record = sidecar(path)
    with naming(path):
        before = record.read_bytes() if record.is_file() else None
        try:
            os.replace(record_partial, record)
            os.replace(partial, path)
        except BaseException:
            _put_back(record, before)
            raise
        sync_folder(path.parent)
        sync_folder(record.parent)


def _put_back(record: Path, content: bytes | None) -> None:
    """The record of the file that stays; where even that fails, file and record differ and readers refuse both."""
    with suppress(OSError, UserError):
        if content is None:
            record.unlink(missing_ok=True)
        else:
            with atomic_write(record) as file:
                file.write(content)


def save_bytes(path: Path, content: bytes, made: Made) -> None:
    """Write ``content`` atomically, with its record."""
    with saving(path, made) as file:
        file.write(content)


def copied(paths: Mapping[Path, Path], made: Made) -> bool:
    """Whether files, {new path: path}, were made by the same call of a command: then they are copied.

    The same section, the same content of all inputs, the same code; each new file has a record of its own.
    """
    wanted = depends_on(made)
    if any(depends_on(made_of(path)["made"]) != wanted for path in paths.values()):
        return False
    for new, path in paths.items():
        save_bytes(new, verified(path).read_bytes(), made)
    return True


def depends_on(made: Made) -> dict[str, Any]:
    """All of what made a file but where it and its inputs lie."""
    return {key: value for key, value in made.items() if key not in ("paths", "below")}


def save_json(path: Path, content: Any, made: Made) -> None:
    """Write ``content`` as JSON; NaN and infinities are refused, since JSON has none."""
    save_bytes(path, to_json(content), made)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], made: Made) -> None:
    """Write arrays as one safetensors file; its metadata lies as JSON under one key, since keys of it have no order."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    save_bytes(path, safetensors_bytes(contiguous, {METADATA: json.dumps(dict(metadata), sort_keys=True)}), made)


@contextmanager
def saving_array(path: Path, dtype: np.dtype, made: Made) -> Iterator["GrowingArray"]:
    """A one-dimensional ``.npy`` file that is written piece by piece; its length follows at the end."""
    with saving(path, made) as file:
        array = GrowingArray(file, np.dtype(dtype))
        yield array
        array.write_header()


class GrowingArray:
    """Appends to an ``.npy`` file; numpy pads the header so that it can be rewritten in place."""

    def __init__(self, file: BinaryIO, dtype: np.dtype) -> None:
        self.file, self.dtype, self.length = file, dtype, 0
        self.write_header()

    def append(self, values: np.ndarray) -> None:
        """(n,) -> file; the values must fit the array's type."""
        assert values.size == 0 or (values.min() >= 0 and values.max() <= np.iinfo(self.dtype).max), "values fit"
        self.file.write(values.astype(self.dtype).tobytes())
        self.length += len(values)

    def write_header(self) -> None:
        """Write the current length into the header and seek to the end."""
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.length,)}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, header)
        self.file.seek(0, os.SEEK_END)


def path_in_run(path: Path, levels: int) -> str:
    """``coined/char/gpt/seed0/fit.json``: the file's name below the last ``levels`` of its folders."""
    *folders, name = os.path.abspath(path).split(os.sep)[1:]
    return "/".join([*folders[len(folders) - min(levels, len(folders)) :], name])


def verified(path: Path) -> Path:
    """``path`` itself; a UserError where its sha256 is not that of its record, or it was written as another file."""
    record = made_of(path)
    expected, actual = record["sha256"], sha256_of(path)
    if actual != expected:
        problem = f"its sha256 is {actual[:12]}..., not {expected[:12]}... as written"
        raise UserError(path, problem, "", make_again(path))
    must_be_in_its_place(path, record)
    return path


def must_be_in_its_place(path: Path, record: Mapping[str, Any]) -> None:
    """Raises UserError where the record is that of another corpus's, tokenizer's, model's or seed's file."""
    written = record.get("path")
    if isinstance(written, str) and (here := path_in_run(path, written.count("/"))) != written:
        raise UserError(path, f"was made as {written}", f"the file that belongs here is {here}", make_again(path))


def must_be_made_from(path: Path, *inputs: Path) -> None:
    """Raises UserError where ``path`` was made from another version of one of the ``inputs`` that its record names."""
    recorded = made_of(path)["made"].get("inputs", {})
    for file in inputs:
        before, now = recorded.get(file.name), made_of(file)["sha256"]
        if before not in (None, now):
            problem = f"was made from another {file.name} (sha256 {before[:12]}...)"
            raise UserError(path, problem, f"{file} has sha256 {now[:12]}...", make_again(path))


def must_be_current(path: Path) -> None:
    """Raises UserError where an input that the record of ``path`` names lies in the run with another content now."""
    made = made_of(path)["made"]
    for name, recorded in made.get("inputs", {}).items():
        file = input_path(path.parent, name, made)
        if file is not None and made_of(file)["sha256"] != recorded:
            problem = f"was made from another {file} (sha256 {recorded[:12]}...)"
            raise UserError(path, problem, "", make_again(path))


def input_path(folder: Path, name: str, made: Mapping[str, Any]) -> Path | None:
    """Where the input ``name`` of a file in ``folder`` lies: at the path that its record names; None where it is gone.

    A path is within the run, whose folder is ``levels`` above ``folder``; files of the run itself name no folders.
    """
    path, levels = made.get("paths", {}).get(name, name), made.get("levels", 0)
    folders = [folder.joinpath(*[".."] * levels)] if levels else [folder, *folder.parents[:2]]
    beside = [folder.parent, *(above / part for above in folders for part in ("tables", "figures"))]
    candidates = (Path(os.path.normpath(base / path)) for base in (*folders, *beside))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def must_be_made_together(*paths: Path) -> None:
    """Raises UserError unless one call of one command wrote all files: same section, inputs and code."""
    records = {path: made_of(path) for path in paths}
    for path, record in records.items():
        must_be_in_its_place(path, record)
    first = _call(records[paths[0]])
    for path in paths[1:]:
        made = _call(records[path])
        if made != first:
            different = sorted(key for key in {*made, *first} if made.get(key) != first.get(key))
            problem = f"was not made together with {paths[0]}: another {', '.join(different)}"
            raise UserError(path, problem, "both come from one call of one command", make_again(path))


def must_be_of_one_call(*paths: Path) -> None:
    """``must_be_made_together`` of those files that a command of a run wrote; others say nothing of their call."""
    of_commands = [path for path in paths if "levels" in made_of(path)["made"]]
    if of_commands:
        must_be_made_together(*of_commands)


def _call(record: Mapping[str, Any]) -> dict[str, Any]:
    """What all files of one call of a command share."""
    return {key: value for key, value in record["made"].items() if key != "below"}


def make_again(path: Path) -> str:
    """The remedy for a file of a run that cannot be used."""
    return f"delete it and run {STARTER} again: rm {shlex.quote(str(path))}"


def made_of(path: Path) -> dict[str, Any]:
    """The record of ``path``: ``{sha256, bytes, made}``; a UserError where the file or its record is missing."""
    with reading(path):
        if not path.is_file():
            raise _no_file(path)
        content = sidecar(path).read_bytes() if sidecar(path).is_file() else b""
    try:
        record = json.loads(content)
        _must_be_a_record(record)
        return dict(record)
    except (ValueError, KeyError, AssertionError, TypeError, AttributeError, RecursionError) as error:
        remedy = f"delete the file and run {STARTER} again: rm {shlex.quote(str(path))}"
        allowed = "every file has a record of its sha256"
        raise UserError(sidecar(path), "missing or unreadable", allowed, remedy) from error


def _no_file(path: Path) -> UserError:
    if path.is_dir():
        remedy = f"remove it and run {STARTER} again: rm -r {shlex.quote(str(path))}"
        return UserError(path, "is a folder", "a file belongs here", remedy)
    return UserError(path, "no such file", "", f"run {STARTER} to make it")


def _must_be_a_record(record: Any) -> None:
    """Raises an error of any kind where a record is damaged, or holds what no writer writes."""
    made, path = record["made"], record.get("path")
    assert record.get(SEAL) in (None, _seal(record)), "the record is as it was written"
    assert isinstance(record["sha256"], str) and isinstance(made, dict), "what every record holds"
    assert path is None or isinstance(path, str), "a path is text"
    assert made.get("levels") is None or (type(made["levels"]) is int and path), "a level is a number of folders"
    inputs, paths = made.get("inputs", {}), made.get("paths", {})
    texts = [*inputs.values(), *paths.values(), *(made.get(key, "") for key in ("command", "code", "lmstages"))]
    assert all(isinstance(text, str) for text in texts), "hashes, paths, names and versions are text"


def provenance_of(path: Path) -> dict[str, Any]:
    """Command, section, inputs and code of a file that a command wrote; a UserError where its record lacks any."""
    made: dict[str, Any] = made_of(path)["made"]
    if lacking := [key for key in OF_A_COMMAND if key not in made]:
        raise UserError(sidecar(path), f"lacks {', '.join(lacking)}", "", make_again(path))
    return made


def load_json(path: Path, shape: Any = None, needs: Collection[str] = ()) -> Any:
    """The content of a JSON file, verified first.

    A UserError where it is not of the type ``shape``, or lacks a key that the caller ``needs``.
    """
    with reading(path):
        content = verified(path).read_bytes()
    try:
        parsed = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(path, "no JSON", "", make_again(path)) from error
    if HALF_A_CHARACTER in content:  # which no type of text holds
        content = json.dumps(parsed, ensure_ascii=False).encode("utf-8", "replace")
    problem = problem_of(shape, content) if shape is not None else None
    if problem or any(key not in parsed for key in needs):
        lacking = ", ".join(key for key in needs if problem is None and key not in parsed)
        raise UserError(path, problem or f"lacks {lacking}", "", make_again(path))
    return parsed


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a safetensors file, verified first."""
    verified(path)
    try:
        with reading(path), safe_open(path, framework="numpy") as file:
            metadata = json.loads(file.metadata()[METADATA])
            if not isinstance(metadata, dict):
                raise TypeError("its metadata is no object")
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, metadata
    except (SafetensorError, TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(path, "no safetensors file of lmstages", "", make_again(path)) from error


def load_pair(facts: Path, arrays: Path, shape: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A JSON file and the arrays beside it, of one call, made from what lies in the run now."""
    content, values = load_json(facts, shape), load_arrays(arrays)[0]
    must_be_of_one_call(facts, arrays)
    must_be_current(facts)
    return content, values


def load_array(path: Path) -> np.ndarray:
    """A ``.npy`` file, verified first, memory-mapped and read-only; an empty file, which has no map, as an array."""
    verified(path)
    try:
        with reading(path):
            empty = path.stat().st_size == NPY_HEADER
            array = np.load(path, mmap_mode=None if empty else "r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError("it is no array of whole numbers of one dimension")
    except UserError:
        raise
    except Exception as error:  # numpy passes on what its parsers of headers and archives raise
        allowed = "allowed: whole numbers in one dimension"
        raise UserError(path, "no array of lmstages", allowed, make_again(path)) from error
    return array


def to_json(content: Any) -> bytes:
    """Canonical JSON: sorted keys, one trailing newline, no NaN."""
    return (json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def finite_or_none(value: float) -> float | None:
    """``value``, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None


def infinite_if_none(value: float | None) -> float:
    """A code length as JSON holds it: None, which ``finite_or_none`` made of an infinite one, is infinite again."""
    return math.inf if value is None else value
