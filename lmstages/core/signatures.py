"""What a file is by its first bytes, where it is no text: packed, a document of an office program, data or an image.

Such a file is named, with the command that makes text of it; never with one that only hides what is wrong. Knows bytes;
no corpus.
"""

from collections.abc import Sequence
from typing import NamedTuple

HEAD = 4096  # bytes that are looked at
CONTROLS = frozenset(range(32)) - set(b"\0\t\n\v\f\r\x1b\x1c\x1d\x1e\x1f")  # NUL is also a half of UTF-16
MOST_CONTROLS = 1 / 40  # of the first bytes of a text; compressed bytes have 1 in 12
NEW_FILE = "> NEW_FILE"


class Format(NamedTuple):
    """A kind of file: its first bytes, after ``at`` others, what it is called, and the command that gives its text."""

    magic: bytes
    name: str
    remedy: str = ""
    at: int = 0


def _unpack(command: str) -> str:
    return f"unpack it first: {command}"


UNZIP = _unpack("unzip {path}")
FORMATS: Sequence[Format] = (
    Format(b"\x1f\x8b", "packed by gzip", _unpack(f"gzip -dc {{path}} {NEW_FILE}")),
    Format(b"\x1f\x9d", "packed by compress", _unpack(f"gzip -dc {{path}} {NEW_FILE}")),
    Format(b"BZh", "packed by bzip2", _unpack(f"bzip2 -dc {{path}} {NEW_FILE}")),
    Format(b"\xfd7zXZ\0", "packed by xz", _unpack(f"xz -dc {{path}} {NEW_FILE}")),
    Format(b"\x5d\0\0", "packed by lzma", _unpack(f"xz --format=lzma -dc {{path}} {NEW_FILE}")),
    Format(b"\x28\xb5\x2f\xfd", "packed by zstd", _unpack(f"zstd -dc {{path}} {NEW_FILE}")),
    Format(b"\x04\x22\x4d\x18", "packed by lz4", _unpack(f"lz4 -dc {{path}} {NEW_FILE}")),
    Format(b"7z\xbc\xaf\x27\x1c", "a 7z archive", _unpack("7z x {path}")),
    Format(b"Rar!\x1a\x07", "a RAR archive", _unpack("unrar x {path}")),
    Format(b"ustar", "a tar archive", _unpack("tar -xf {path}"), at=257),
    Format(b"[Content_Types].xml", "an Office document (docx, xlsx or pptx)", "save it as plain text", at=30),
    Format(b"word/", "an Office document (docx)", "save it as plain text", at=30),
    Format(b"mimetypeapplication/vnd.oasis", "an OpenDocument file", "save it as plain text", at=30),
    Format(b"mimetypeapplication/epub", "an EPUB book", f"take its text: pandoc -t plain {{path}} {NEW_FILE}", at=30),
    Format(b"PK\3\4", "a zip archive", UNZIP),
    Format(b"PK\5\6", "an empty zip archive", "give a text file"),
    Format(b"PK\7\x08", "a part of a zip archive", UNZIP),
    Format(b"%PDF-", "a PDF document", "take its text: pdftotext {path} NEW_FILE"),
    Format(b"%!PS-Adobe", "a PostScript document", "take its text: ps2ascii {path} NEW_FILE"),
    Format(b"{\\rtf", "an RTF document", "save it as plain text"),
    Format(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (doc, xls or ppt)", "save it as plain text"),
    Format(b"PAR1", "a Parquet table", "write its column of text to a file, one document after the other"),
    Format(b"ARROW1\0\0", "an Arrow table", "write its column of text to a file, one document after the other"),
    Format(b"Obj\x01", "an Avro table", "write its field of text to a file, one document after the other"),
    Format(b"SQLite format 3\0", "an SQLite database", "write its column of text to a file"),
    Format(b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    Format(b"\x93NUMPY", "a NumPy array"),
    Format(b"GGUF", "a GGUF model"),
    Format(b"\x89PNG\r\n\x1a\n", "a PNG image"),
    Format(b"\xff\xd8\xff", "a JPEG image"),
    Format(b"GIF87a", "a GIF image"),
    Format(b"GIF89a", "a GIF image"),
    Format(b"WEBP", "a WebP image", at=8),
    Format(b"WAVE", "a WAV recording", at=8),
    Format(b"II*\0", "a TIFF image"),
    Format(b"MM\0*", "a TIFF image"),
    Format(b"\0\0\0\0", "a BMP image", at=6),
    Format(b"ftyp", "a film or recording (MP4)", at=4),
    Format(b"OggS", "an Ogg recording"),
    Format(b"fLaC", "a FLAC recording"),
    Format(b"ID3", "an MP3 recording"),
    Format(b"\x7fELF", "a program"),
)
OUTER = {  # what the file must begin with where the magic bytes alone are too few
    "a BMP image": b"BM",
    "a WebP image": b"RIFF",
    "a WAV recording": b"RIFF",
    "a zip archive": b"PK",
    **dict.fromkeys(("an Office document (docx)", "an Office document (docx, xlsx or pptx)"), b"PK"),
    **dict.fromkeys(("an OpenDocument file", "an EPUB book"), b"PK"),
}


SPELLED = ("a PDF document", "a PostScript document", "an RTF document")  # in letters, and no text all the same


def format_of(head: bytes) -> Format | None:
    """The format whose bytes a file begins with; None for what may be text, whatever its first letters."""
    may_be_text = not any(byte in CONTROLS or byte == 0 for byte in head)
    for known in FORMATS:
        is_it = head[known.at :].startswith(known.magic) and head.startswith(OUTER.get(known.name, b""))
        if is_it and (known.name in SPELLED or not may_be_text or not _is_utf8(known.magic)):
            return known
    return None


def _is_utf8(magic: bytes) -> bool:
    try:
        return bool(magic.decode())
    except UnicodeDecodeError:
        return False


def controls_in(head: bytes) -> int:
    """The number of control characters among the first bytes, if it is too large for a text in any encoding, else 0."""
    head = head[:HEAD]
    count = sum(byte in CONTROLS for byte in head)
    return count if count > max(1, MOST_CONTROLS * len(head)) else 0
