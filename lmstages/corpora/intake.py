"""Reads a text of one's own, whatever its files are, into one file of validated documents that lie end to end.

A file of text is unpacked, validated and copied; of a table the text of each record. Each document of a file or record
is later followed by a line end, where none of them has one, or else by the separator line, so that the splits are the
same bytes as those of plain text that says the same. One record is held at a time. Knows no split and no token.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from lmstages.config.text_files import Listing, Seen, listings_of, named_files, seen
from lmstages.core import contents, files, packed
from lmstages.core.errors import UserError
from lmstages.core.progress import Progress
from lmstages.core.workflow_files import STARTER
from lmstages.corpora import tables, text
from lmstages.corpora.splits import count_characters
from lmstages.corpora.text import Documents

WHOLE = ""  # name of the only part of a text that is cut into splits


class TooLarge(Exception):  # noqa: N818 (no error: whoever only looks ahead looks no further)
    """A text has more bytes than whoever reads it wants to look at."""


@dataclass(frozen=True)
class Gathered:
    """The D documents of a text in one file, and what follows each of them when it is written.

    ``sizes`` are the numbers of documents, or of a stream's characters, of each part that has files of its own, in
    their order; of a text that is not in parts it is {"": number}. ``inputs`` are hashes of what was read, by name.
    """

    path: Path
    documents: Documents
    sizes: Mapping[str, int]
    closing: bytes = b""
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def slice(self, file: BinaryIO, index: int) -> bytes:
        """A document with its terminator."""
        start, stop = int(self.documents.starts[index]), int(self.documents.ends[index])
        return read_slice(file, start, stop) + self.closing

    def terminators(self, indices: np.ndarray) -> np.ndarray:
        """(D,) bytes of the terminators of documents."""
        return self.documents.terminators[indices] + len(self.closing)


def read_slice(file: BinaryIO, start: int, stop: int) -> bytes:
    """The bytes [start, stop) of a file."""
    file.seek(start)
    return file.read(stop - start)


def gather(
    corpus: Any, out: BinaryIO, raw: Sequence[Path] = (), content: str = "", most: int | None = None
) -> Gathered:
    """Read a text of one's own into ``out``; ``raw`` are its files where they lie elsewhere than the config says.

    ``content`` is the hash that the files must have, or empty where any content will do. Raises UserError for whatever
    is no text, and where a file changes; TooLarge where ``out`` would have more than ``most`` bytes.
    """
    listings = _listings(corpus, raw)
    reader = _Reader(corpus, listings, out, most)
    names = named_files(listings)
    hashes = dict(zip(names, (sha256 for part in listings for sha256 in reader.read(part)), strict=True))
    if content and contents.combined(hashes) != content:
        remedy = f"start {STARTER} again, which makes anew what changed"
        raise UserError(name_of(corpus), "changed since the run began", "a text stays as it is during a run", remedy)
    out.flush()
    return reader.gathered(hashes)


def name_of(corpus: Any) -> str:
    """What errors call the text of a corpus: its path or paths, or its source."""
    own = corpus.own()
    paths = [path for part in own.values() for path in ([part] if isinstance(part, str) else part)]
    if corpus.hub is not None:
        return str(corpus.hub.name)
    return str(corpus.source) if not paths else paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _listings(corpus: Any, raw: Sequence[Path]) -> dict[str, Listing]:
    """The files of each part; those in ``raw``, if any, in place of as many that the config names."""
    if raw and not corpus.files:
        return listings_of({WHOLE: [str(path) for path in raw] if len(raw) > 1 else str(raw[0])})
    listings = listings_of(corpus.own())
    if not raw:
        return listings
    if len(raw) != (count := sum(len(listing.files) for listing in listings.values())):
        raise UserError("--raw", f"{len(raw):,} files", f"files of the section names {count:,}", "leave --raw out")
    paths = iter(raw)
    return {name: part._replace(files=tuple(next(paths) for _ in part.files)) for name, part in listings.items()}


class _Region(NamedTuple):
    """Bytes [begin, end) of one file's text."""

    begin: int
    end: int


class _Reader:
    """Copies the documents of files to one file, and counts what is left out."""

    def __init__(self, corpus: Any, listings: Mapping[str, Listing], out: BinaryIO, most: int | None) -> None:
        self.corpus, self.listings, self.out, self.most = corpus, listings, out, most
        self.by_characters = corpus.layout in ("stream", "lines", "separator")
        self.written = self.characters = self.empty_files = self.empty_records = 0
        self.with_lines = self.with_separator = 0
        self.regions: dict[str, list[_Region]] = {name: [] for name in listings}
        self.ends = {name: array("q") for name in listings}  # (D,) bytes
        self.characters_of: dict[str, int] = {}
        self.notes: list[str] = []
        sizes = [path.stat().st_size for listing in listings.values() for path in listing.files if path.is_file()]
        self.progress, self.read_bytes = Progress(sum(sizes), "reading texts: byte"), 0

    def read(self, part: str) -> Iterator[str]:
        """Copy the files of a part; yields the sha256 of each."""
        before = self.characters
        for path in self.listings[part].files:
            identity = contents.identity(path)
            form = seen(path, self.corpus.field, self.corpus.documents)
            self.notes.extend(form.notes)
            with packed.opened(path) as pieces:
                self._read_file(part, path, form, pieces)
            self.read_bytes += identity[0]
            yield files.sha256_of(path)
            contents.stop_if_changed(path, identity)
        self.characters_of[part] = self.characters - before

    def _read_file(self, part: str, path: Path, form: Seen, pieces: packed.Pieces) -> None:
        if form.format == "text":
            self._copy_text(part, path, pieces)
            return
        size = path.stat().st_size
        for record in self._records(path, form, pieces):
            self._copy_record(part, path, record)
            if self.progress.due():
                self._say_how_far(max(pieces.position(), int(record.fraction * size)))

    def _records(self, path: Path, form: Seen, pieces: packed.Pieces) -> Iterator[tables.RecordText]:
        table = tables.Wanted(path, self.corpus.field or tables.DEFAULT_FIELD)
        if form.format == "jsonl":
            return tables.texts_of_json(text.like_text(path, pieces), table)
        if form.format == "csv":
            return tables.texts_of_csv(text.like_text(path, pieces), table, ".tsv" in path.name.lower())
        return self._rows_of_parquet(path, form, pieces, table)

    def _rows_of_parquet(
        self, path: Path, form: Seen, pieces: packed.Pieces, table: tables.Wanted
    ) -> Iterator[tables.RecordText]:
        """Rows of the table itself, or of a copy where it is packed, since it is not read from end to end."""
        if form.packing is None:
            yield from tables.texts_of_parquet(path, table)
            return
        with files.scratch(Path(self.out.name).parent) as copy:
            for piece in pieces:
                copy.write(piece)
            copy.flush()
            yield from tables.texts_of_parquet(Path(copy.name), table)

    def _copy_text(self, part: str, path: Path, pieces: packed.Pieces) -> None:
        """Copy a file of text, which is a document where documents are files."""
        begin = self.written
        lines = separators = False
        separator = self.corpus.separator.encode()
        for piece in text.clean_pieces(path, pieces, self.corpus.newlines):
            self._write(piece)
            lines = lines or b"\n" in piece
            separators = separators or separator in piece
            if self.progress.due():
                self._say_how_far(pieces.position())
        if self.written == begin:
            self.empty_files += 1
        elif self.by_characters:
            self.regions[part].append(_Region(begin, self.written))
        else:
            self._end_document(part, lines, separators)

    def _copy_record(self, part: str, path: Path, record: tables.RecordText) -> None:
        content = _encoded(path, record, self.corpus.newlines)
        if not content:
            self.empty_records += 1
            return
        self._write(content)
        self._end_document(part, b"\n" in content, self.corpus.separator.encode() in content)

    def _end_document(self, part: str, has_lines: bool, has_separator: bool) -> None:
        self.ends[part].append(self.written)
        self.with_lines += has_lines
        self.with_separator += has_separator

    def _write(self, content: bytes) -> None:
        self.out.write(content)
        self.written += len(content)
        self.characters += count_characters(content)
        if self.most is not None and self.written > self.most:
            raise TooLarge

    def _say_how_far(self, of_file: int) -> None:
        self.progress.at(self.read_bytes + of_file, self.written, "bytes of text")

    # ------------------------------------------------------------ the result

    def gathered(self, hashes: Mapping[str, str]) -> Gathered:
        """What was read; raises UserError where there is too little."""
        self._must_be_enough()
        left_out = [note for listing in self.listings.values() for note in listing.notes()] + self._left_out()
        left_out += self._cut_from_train()
        path, notes = Path(self.out.name), [*self.notes, *(f"{name_of(self.corpus)}: {note}" for note in left_out)]
        inputs = hashes if len(hashes) == 1 else {self._inputs_name(len(hashes)): contents.combined(hashes)}
        if self.by_characters:
            return self._of_regions(path, inputs, notes)
        separator = self.corpus.separator
        if self.with_lines:
            _must_be_a_line(name_of(self.corpus), separator)
            notes += [f"{name_of(self.corpus)}: {note}" for note in self._closing_notes()]
        closing = f"\n{separator}\n".encode() if self.with_lines else b"\n"
        ends = np.concatenate([np.frombuffer(ends_of_part, np.int64) for ends_of_part in self.ends.values()])
        starts = np.concatenate([np.zeros(min(len(ends), 1), np.int64), ends[:-1]])
        sizes = {part: len(ends_of_part) for part, ends_of_part in self.ends.items()}
        return Gathered(path, Documents(starts, ends, np.zeros_like(ends)), sizes, closing, inputs, notes)

    def _of_regions(self, path: Path, inputs: Mapping[str, str], notes: Sequence[str]) -> Gathered:
        """Documents of plain text, none of which goes beyond its file."""
        if self.corpus.layout == "stream":
            documents = text.document_offsets(path, "stream")
            return Gathered(path, documents, self.characters_of, b"", inputs, notes)
        layout: Literal["lines", "separator"] = self.corpus.layout
        spans_by_part = [
            text.document_offsets(path, layout, self.corpus.separator, name_of(self.corpus), regions)
            for regions in self.regions.values()
        ]
        documents = Documents(*map(np.concatenate, zip(*spans_by_part, strict=True)))
        sizes = {part: len(spans.ends) for part, spans in zip(self.regions, spans_by_part, strict=True)}
        return Gathered(path, documents, sizes, b"", inputs, notes)

    def _must_be_enough(self) -> None:
        where: object = name_of(self.corpus)
        if self.characters < text.MIN_CHARACTERS:
            needs = f"needs at least {text.MIN_CHARACTERS} characters"
            problem = f"only {self.characters} character" if self.characters else "empty"
            detail = "; ".join(self._left_out())
            raise UserError(where, problem + (f" ({detail})" if detail and self._several() else ""), needs)
        for part, characters in self.characters_of.items():
            if not characters:
                raise UserError(where, f"files.{part} holds no text", "every part that has files has text")

    def _several(self) -> bool:
        return sum(len(listing.files) for listing in self.listings.values()) > 1 or not self.by_characters

    def _inputs_name(self, count: int) -> str:
        return f"{name_of(self.corpus)} ({count:,} files)"

    def _left_out(self) -> list[str]:
        counts = ((self.empty_files, "empty file"), (self.empty_records, "record without text"))
        return [f"{count:,} {_plural(name, count)} left out" for count, name in counts if count]

    def _cut_from_train(self) -> list[str]:
        missing = self.corpus.files.missing() if self.corpus.files else []
        return [f"{name} has no files: {getattr(self.corpus.split, name):.0%} of train is cut off" for name in missing]

    def _closing_notes(self) -> Iterator[str]:
        separator = self.corpus.separator
        yield f"{self.with_lines:,} documents hold line ends: in the prepared text a line {separator} follows each"
        if self.with_separator:
            yield f"{self.with_separator:,} documents hold {separator} themselves; they stay whole, by their lengths"


def _plural(name: str, count: int) -> str:
    first, *rest = name.split(" ") if name.startswith("record") else [name]
    return " ".join([first + ("s" if count > 1 else ""), *rest])


def _must_be_a_line(where: object, separator: str) -> None:
    if not separator or "\n" in separator:
        raise UserError(where, f"the separator {separator!r} is not a line", "it is one line, and not an empty one")


def _encoded(path: Path, record: tables.RecordText, newlines: text.Newlines) -> bytes:
    """The text of a record in UTF-8, with the line ends that the config asks for."""
    content, place, _ = record
    if "\0" in content:
        raise UserError(path, f"{place}: a NUL character", "text has none", "remove it")
    if "\r\n" in content and newlines == "refuse":
        problem = f"{place}: a Windows line end (CRLF) within the text"
        remedy = "set newlines: unix to convert them, or newlines: keep to leave them as they are"
        raise UserError(path, problem, "lines end with LF", remedy)
    try:
        return (content.replace("\r\n", "\n") if newlines == "unix" else content).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(content[error.start]):04x}"
        raise UserError(path, f"{place}: half a character ({half})", "text is UTF-8", "mend or remove it") from error
