"""Which files a text of one's own consists of, and what each of them is: plain text, or a table with a field of text.

A path is a file, a folder, a pattern such as ``notes/*.md``, or a list of these. Files come in the order of their
paths; hidden files and the backups of editors are left out. What a file is follows from its first bytes, and its name
decides only what they leave open. Reads no more of a file than its beginning.
"""

import glob
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.packed import Packing, head_of, suffix_packing
from lmstages.core.signatures import format_of
from lmstages.core.system_errors import not_read

Paths = str | Sequence[str]
Format = Literal["text", "jsonl", "csv", "parquet"]
HEAD = 1 << 16  # bytes in which the first record is looked for
MOST = 1_000_000  # files of a folder; a text of so many is one that somebody named by mistake, as /
BACKUPS = ("~", ".bak", ".orig", ".swp", ".swo")
MAGIC = "*?["
FORMATS: Mapping[Format, tuple[str, ...]] = {
    "text": (".txt", ".md", ".text", ".markdown"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet", ".pq"),
}
IN_WORDS: Mapping[Format, str] = {
    "text": "plain text",
    "jsonl": "JSON Lines",
    "csv": "a table of separated values",
    "parquet": "a Parquet table",
}
LFS = b"version https://git-lfs.github.com/spec/"
TEXT_LAYOUTS = ("stream", "lines", "separator")  # of characters, which a file is read as whatever its name
BOM = b"\xef\xbb\xbf"


class Listing(NamedTuple):
    """The files of a text in their order, and how many beside them were left out."""

    files: tuple[Path, ...]
    hidden: int = 0
    backups: int = 0

    def notes(self) -> list[str]:
        """What was left out, in words."""
        counts = ((self.hidden, "hidden"), (self.backups, "editor backup"))
        return [f"{count:,} {word} file{'s' * (count > 1)} left out" for count, word in counts if count]


# ---------------------------------------------------------------- which files


def listed(paths: Paths) -> Listing:
    """The files that a path, a pattern or several of them stand for.

    Raises UserError for what is not there or no file, for a folder without files, a link that leads back, and a file
    that two entries stand for.
    """
    entries = [paths] if isinstance(paths, str) else list(paths)
    listings = [_entry(entry) for entry in entries]
    stands_for: dict[str, str] = {}
    for entry, listing in zip(entries, listings, strict=True):
        for file in listing.files:
            if (other := stands_for.setdefault(os.path.realpath(file), entry)) != entry:
                raise UserError(
                    repr(entry), f"stands for {file}, as {other!r} does", "a file counts once", "name it once"
                )
    files = tuple(file for listing in listings for file in listing.files)
    return Listing(files, sum(part.hidden for part in listings), sum(part.backups for part in listings))


def _entry(entry: str) -> Listing:
    path = Path(entry)
    mode = _mode(path)
    if mode is None and any(letter in entry for letter in MAGIC):
        return _pattern(entry)
    if mode is None:
        raise UserError(path, f"no such file{_hint(path)}", "", "give the path of a text file")
    if stat.S_ISDIR(mode):
        return _not_empty(entry, _folder(path))
    if not stat.S_ISREG(mode):
        raise UserError(repr(entry), "is no ordinary file", "a file, a folder or a pattern such as 'notes/*.md'")
    return Listing((path,))


def _mode(path: Path) -> int | None:
    """The mode of what a path leads to; None where nothing is there."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise UserError(path, "is a link that leads nowhere", "", "remove it, or mend what it leads to") from None
        return None
    except ValueError as error:  # a NUL byte
        raise UserError(repr(str(path)), "is no path") from error
    except OSError as error:
        raise not_read(path, error) from error


def _not_empty(entry: str, listing: Listing) -> Listing:
    if not listing.files:
        left_out = " and ".join(listing.notes())
        problem = "holds no file of text" + (f" ({left_out})" if left_out else "")
        raise UserError(repr(entry), problem, "", "give a folder with files of text")
    return listing


def _pattern(pattern: str) -> Listing:
    """The files that a pattern fits, and those of folders that it fits."""
    files: dict[Path, None] = {}
    hidden = backups = 0
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        if _is_backup(path.name):
            backups += 1
        elif path.is_dir():
            below = Listing(()) if "**" in pattern else _folder(path)
            files |= dict.fromkeys(below.files)
            hidden, backups = hidden + below.hidden, backups + below.backups
        else:
            files[_ordinary(path)] = None
    listing = Listing(_in_order(files), hidden, backups)
    if not listing.files:
        raise UserError(
            repr(pattern), "fits no file", "a pattern such as 'notes/*.md'; ** stands for all folders below"
        )
    return listing


def _folder(path: Path) -> Listing:
    """All files below a folder, links followed; raises UserError for a link that leads back to a folder above it."""
    files, counts = list[Path](), {"hidden": 0, "backups": 0}
    waiting: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(path, (_inode(path),))]
    while waiting:
        folder, above = waiting.pop()
        for entry in _entries(folder):
            below = folder / entry.name
            if entry.name.startswith("."):
                counts["hidden"] += 1
            elif _is_backup(entry.name):
                counts["backups"] += 1
            elif stat.S_ISDIR(_mode(below) or 0):
                if (inode := _inode(below)) in above:
                    raise UserError(below, "is a link that leads back to a folder above it", "", "remove the link")
                waiting.append((below, (*above, inode)))
            else:
                files.append(_ordinary(below))
        if len(files) > MOST:
            raise UserError(path, f"holds more than {MOST:,} files", "", "join them, one document a line")
    return Listing(_in_order(files), **counts)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise not_read(folder, error) from error


def _inode(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise not_read(path, error) from error
    return status.st_dev, status.st_ino


def _ordinary(path: Path) -> Path:
    if not stat.S_ISREG(_mode(path) or 0):
        raise UserError(path, "is no ordinary file", "files of text", "remove it, or name files by a pattern")
    return path


def _is_backup(name: str) -> bool:
    return name.endswith(BACKUPS) or name.startswith("~$") or (name.startswith("#") and name.endswith("#"))


def _in_order(files: Iterable[Path]) -> tuple[Path, ...]:
    """Sorted by the parts of their paths, in the order of code points, whatever the language of the system."""
    return tuple(sorted(files, key=lambda path: path.parts))


def _hint(path: Path) -> str:
    """The name of a similar file in the same folder, if there is one."""
    try:
        return did_you_mean(path.name, os.listdir(path.parent))
    except OSError:
        return ""


def stem_of(text: str) -> str:
    """What a run on a text is called: a file without its endings, a folder, the folder of a pattern or of a list."""
    first = text.strip("[]").split(",")[0].strip(" \"'") if text.startswith("[") and text.endswith("]") else text
    parts = Path(first).parts
    plain = [part for part in parts if not set(MAGIC).intersection(part)]
    if len(plain) < len(parts) and not os.path.lexists(first):
        return plain[-1] if plain else first
    path = Path(first) if Path(first).name not in ("", "..") else Path(os.path.abspath(first))
    packed = suffix_packing(path.name)
    return Path(path.name.removesuffix(packed.suffix)).stem if packed else path.stem


def listings_of(parts: Mapping[str, Paths]) -> dict[str, Listing]:
    """The files of each part of a text of one's own."""
    return {part: listed(paths) for part, paths in parts.items()}


def named_files(listings: Mapping[str, Listing]) -> dict[str, Path]:
    """{name: file} of all parts: a single file by its name, several by their paths below the folder that they share.

    Names of the files of parts begin with the part, so that a file which moves to another part is another text.
    """
    return {
        f"{part}: {name}" if part else name: file
        for part, listing in listings.items()
        for name, file in _names(listing.files).items()
    }


def _names(files: Sequence[Path]) -> dict[str, Path]:
    if len(files) == 1:
        return {files[0].name: files[0]}
    absolute = [os.path.abspath(file) for file in files]
    shared = os.path.commonpath([os.path.dirname(path) for path in absolute]) if files else ""
    return {os.path.relpath(path, shared): file for path, file in zip(absolute, files, strict=True)}


# ---------------------------------------------------------------- what they are


class Seen(NamedTuple):
    """What a file is read as; ``notes`` say where its name says something else."""

    format: Format
    packing: Packing | None
    notes: tuple[str, ...] = ()


def seen(path: Path, field: str | None = None, documents: str | None = None) -> Seen:
    """What a file is by its first bytes and, where they leave it open, by its name and the keys of its corpus.

    Raises UserError where the name or the keys ask for a table that the content cannot be.
    """
    head, packing = head_of(path, HEAD)
    if head.startswith(LFS):
        raise UserError(path, "is a pointer of Git LFS, not the file itself", "", "fetch it: git lfs pull")
    notes = _packing_notes(path, packing)
    by_name = _format_by_name(path, packing)
    content = _content(head)
    if documents in TEXT_LAYOUTS and content != "parquet":
        return Seen("text", packing, (*notes, *_read_as_text(path, by_name, documents)))
    wanted = field is not None or documents == "records"
    is_table = wanted and (content == "jsonl" or documents != "files")  # a folder may hold text beside tables
    form = _format(path, by_name, content, is_table)
    expected = by_name or "text"
    if form != expected and not (is_table and expected == "text"):
        notes = (*notes, f"{path} is {IN_WORDS[form]}: read as such")
    if form == "text" and content == "jsonl":
        notes = (*notes, f"{path} begins with a record of JSON and is read as plain text; set field to read records")
    return Seen(form, packing, notes)


def _packing_notes(path: Path, packing: Packing | None) -> tuple[str, ...]:
    expected = suffix_packing(path.name)
    if packing is expected:
        return ()
    return (f"{path} is {f'packed by {packing.name}: unpacked' if packing else 'not packed: read as it is'}",)


def _format_by_name(path: Path, packing: Packing | None) -> Format | None:
    """What the end of a file's name says, behind which that of its packing may stand; None where it says nothing."""
    name, packed = path.name.lower(), suffix_packing(path.name)
    name = name.removesuffix(packed.suffix) if packed else name
    return next((form for form, suffixes in FORMATS.items() if name.endswith(suffixes)), None)


def _content(head: bytes) -> Format:
    """What the first bytes are: a Parquet table, records of JSON, or anything else, which may be text."""
    known = format_of(head)
    if known is not None:
        return "parquet" if known.magic == b"PAR1" else "text"
    return "jsonl" if isinstance(_first_value(head), dict) else "text"


def _first_value(head: bytes) -> object:
    """The JSON of the first line that is not blank; None where it is none, or longer than ``head``."""
    lines = head.removeprefix(BOM).lstrip(b" \t\r\n").split(b"\n", 1)
    if len(lines) == 1 and len(head) == HEAD:
        return {} if lines[0].startswith(b'{"') else None
    try:
        return json.loads(lines[0])
    except (ValueError, RecursionError):
        return None


def _format(path: Path, by_name: Format | None, content: Format, is_table: bool) -> Format:
    """The content where it is a table, unless the name says text and nobody asks for records; else what it can be."""
    if content == "parquet" or (content == "jsonl" and (by_name != "text" or is_table)):
        return content
    if by_name == "parquet":
        raise UserError(path, "is no Parquet file, by its first bytes", "", "copy or download it again, or rename it")
    if by_name is not None and by_name != "text":
        return by_name
    return "csv" if is_table else "text"


def _read_as_text(path: Path, by_name: Format | None, documents: str | None) -> tuple[str, ...]:
    if by_name in (None, "text"):
        return ()
    return (f"{path} is read as plain text, since documents is {documents}; leave documents out for its records",)


# ---------------------------------------------------------------- of a corpus


def layout_of(parts: Sequence[Paths], field: str | None) -> Literal["files", "records"] | None:
    """How documents lie where the config leaves it open: by file, by record, or, for one plain text, as in any text."""
    if not all(isinstance(paths, str) and os.path.isfile(paths) for paths in parts):
        return "files"
    try:
        forms = {seen(Path(str(paths)), field).format for paths in parts}
    except UserError:  # said where the files are read
        return "records"
    if "text" not in forms:
        return "records"
    return None if forms == {"text"} else "files"


def shared_files(parts: Mapping[str, Listing]) -> Iterator[str]:
    """A line for every part of a corpus that has a file of an earlier part."""
    part_of: dict[str, str] = {}
    for name, listing in parts.items():
        for file in listing.files:
            if (other := part_of.setdefault(os.path.realpath(file), name)) != name:
                yield f"{name}: {file} is a file of {other} too; allowed: files of its own"
                break


def size_of_files(parts: Iterable[Paths]) -> float:
    """About how many bytes of text files hold: their sizes, three times those of packed ones; else 0."""
    try:
        return float(sum(_unpacked_size(file) for paths in parts for file in listed(paths).files))
    except (UserError, OSError):
        return 0.0


def _unpacked_size(path: Path) -> int:
    size = path.stat().st_size
    return 3 * size if suffix_packing(path.name) or path.suffix in FORMATS["parquet"] else size
