"""Validation of text files, the one change made to them (line ends), and the offsets of their documents."""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lmstages.config.sources import Layout
from lmstages.core.errors import UserError
from lmstages.corpora.text import Newlines, check, clean, document_offsets

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
with_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published corpora are not beside the checkout")
CHUNKS = [1, 2, 3, 4, 5, 1 << 20]
ODD = "é\u2028\x0b\x0c\x85\x1c\r\rnaïve 語 🙂\n\r\n\n".encode()


def file_with(folder: Path, content: bytes) -> Path:
    path = folder / "text.txt"
    path.write_bytes(content)
    return path


def cleaned(path: Path, newlines: Newlines, chunk: int = 1 << 20) -> bytes:
    out = io.BytesIO()
    clean(path, out, newlines, chunk=chunk)
    return out.getvalue()


def refusal(path: Path, newlines: Newlines = "refuse", chunk: int = 1 << 20) -> str:
    """The message of ``check``, which ``clean`` must give as well."""
    with pytest.raises(UserError) as checking:
        check(path, newlines, chunk=chunk)
    with pytest.raises(UserError) as cleaning:
        cleaned(path, newlines, chunk)
    assert str(checking.value) == str(cleaning.value)
    return str(checking.value)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_characters_on_borders_of_chunks_are_kept(tmp_path: Path, chunk: int) -> None:
    assert cleaned(file_with(tmp_path, ODD), "keep", chunk) == ODD


@pytest.mark.parametrize("chunk", CHUNKS)
def test_unix_turns_each_crlf_into_lf_and_nothing_else(tmp_path: Path, chunk: int) -> None:
    content = b"a\r\nb\r\r\n\r\rc\n\r\n\r"
    assert cleaned(file_with(tmp_path, content), "unix", chunk) == b"a\nb\r\n\r\rc\n\n\r"
    assert cleaned(file_with(tmp_path, content), "keep", chunk) == content


@pytest.mark.parametrize("chunk", CHUNKS)
def test_crlf_is_refused_by_default(tmp_path: Path, chunk: int) -> None:
    message = refusal(file_with(tmp_path, "é\nb\r\nc\r\n".encode()), chunk=chunk)
    assert message == (
        f"{tmp_path / 'text.txt'}: Windows line end (CRLF) at offset 4; lines end with LF; "
        "set newlines: unix to convert them, or newlines: keep to leave them as they are"
    )


def test_a_lone_carriage_return_is_a_character(tmp_path: Path) -> None:
    assert cleaned(file_with(tmp_path, b"a\rb\r"), "refuse") == b"a\rb\r"


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(
    ("content", "byte", "offset", "line"),
    [
        (b"caf\xe9\n", "0xe9", 3, 1),
        (b"a\nb\n" + "é🙂".encode() + b"\xffz", "0xff", 10, 3),
        ("ab\n🙂".encode()[:-1], "0xf0", 3, 2),
        (b"ab\n\xc3(", "0xc3", 3, 2),
        (b"ab\xed\xa0\x80", "0xed", 2, 1),
        (b"ab\xc0\x80", "0xc0", 2, 1),
    ],
    ids=["latin-1", "after good ones", "cut off at the end", "half a character", "surrogate", "overlong"],
)
def test_the_first_bad_byte_is_named(
    tmp_path: Path, content: bytes, byte: str, offset: int, line: int, chunk: int
) -> None:
    message = refusal(file_with(tmp_path, content), chunk=chunk)
    assert f"not UTF-8: byte {byte} at offset {offset} (line {line}); text is UTF-8; convert it" in message


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_nul_byte_is_named(tmp_path: Path, chunk: int) -> None:
    message = refusal(file_with(tmp_path, "é\nb\0c".encode()), chunk=chunk)
    assert "NUL byte at offset 4 (line 2); text has none; remove them: tr -d" in message


@pytest.mark.parametrize(
    ("encoding", "of"),
    [("utf-16-le", 2), ("utf-16-be", 2), ("utf-32-le", 4), ("utf-32-be", 4)],
)
@pytest.mark.parametrize("text", ["a line of text\n", "\u00e9t\u00e9, caf\u00e9\n"], ids=["ascii", "latin"])
def test_wide_text_without_a_mark_is_never_advised_to_lose_its_nul_bytes(
    tmp_path: Path, encoding: str, of: int, text: str
) -> None:
    path = file_with(tmp_path, (text * 200).encode(encoding))
    message = refusal(path)
    assert (
        f"if it is UTF-{8 * of}, convert it: iconv -f {encoding[:-3].upper()}{encoding[-2:].upper()} -t UTF-8"
        in message
    )
    assert "tr -d" not in message and "ISO-8859-1" not in message and "NUL byte at offset" in message
    command = re.search("iconv .*NEW_FILE", message)
    assert command is not None
    subprocess.run(command[0].replace("NEW_FILE", "new.txt"), shell=True, check=True, cwd=tmp_path)
    assert cleaned(tmp_path / "new.txt", "refuse") == (text * 200).encode()


def test_data_full_of_nul_bytes_is_not_advised_to_lose_them(tmp_path: Path) -> None:
    tensors = (64).to_bytes(8, "little") + b'{"a": {"dtype": "F32"}}'.ljust(64) + bytes(40)
    message = refusal(file_with(tmp_path, tensors))
    assert "NUL byte at offset 1 (line 1), 47 of 112 bytes there; text has none; if it is UTF-16" in message
    assert "tr -d" not in message and message.endswith("else save it as text with the program that made it")


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_byte_order_mark_is_refused(tmp_path: Path, chunk: int) -> None:
    message = refusal(file_with(tmp_path, "\ufeffabc".encode()), "unix", chunk)
    assert "begins with a UTF-8 byte-order mark; text has none; remove its first three bytes: tail -c +4" in message


def test_a_byte_order_mark_further_on_is_a_character(tmp_path: Path) -> None:
    content = "ab\ufeffc".encode()
    assert cleaned(file_with(tmp_path, content), "refuse") == content


@pytest.mark.parametrize(
    ("content", "tool", "mended"),
    [
        ("\ufeffabc".encode(), "tail", b"abc"),
        (b"a\0bc\0", "tr", b"abc"),
        ("abc".encode("utf-16-le"), "iconv -f UTF-16LE", b"abc"),
        ("abc".encode("utf-16-be"), "iconv -f UTF-16BE", b"abc"),
        ("abé".encode("utf-16"), "iconv -f UTF-16", "abé".encode()),
        ("café".encode("latin-1"), "iconv -f ISO-8859-1", "café".encode()),
    ],
)
def test_the_remedy_in_the_message_works(tmp_path: Path, content: bytes, tool: str, mended: bytes) -> None:
    if shutil.which(tool.split()[0]) is None:
        pytest.skip(f"no {tool} on this machine")
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    command = re.search(f"{tool} .*?NEW_FILE", refusal(file_with(folder, content)))
    assert command is not None
    new = tmp_path / "new.txt"
    subprocess.run(command[0].replace("NEW_FILE", "new.txt"), shell=True, check=True, cwd=tmp_path)
    check(new)
    assert new.read_bytes() == mended


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else "a text")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"), io.BytesIO(b""))
    return content.getvalue()


TEXT = b"a line of text\n" * 200
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
BMP = b"BM" + (70).to_bytes(4, "little") + bytes(4) + b"6\0\0\0"


@pytest.mark.parametrize("chunk", [1, 1 << 20])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(TEXT), "is packed by gzip by its first bytes; text is UTF-8; unpack it first: gzip -dc "),
        (bz2.compress(TEXT), "is packed by bzip2 by its first bytes; text is UTF-8; unpack it first: bzip2 -dc "),
        (lzma.compress(TEXT), "is packed by xz by its first bytes; text is UTF-8; unpack it first: xz -dc "),
        (lzma.compress(TEXT, lzma.FORMAT_ALONE), "is packed by lzma by its first bytes"),
        (
            b"\x28\xb5\x2f\xfd\x24\x0dq\0",
            "is packed by zstd by its first bytes; text is UTF-8; unpack it first: zstd -dc",
        ),
        (zipped("a.txt"), "is a zip archive by its first bytes; text is UTF-8; unpack it first: unzip "),
        (zipped("[Content_Types].xml", "word/document.xml"), "is an Office document (docx, xlsx or pptx) by its"),
        (zipped("word/document.xml"), "is an Office document (docx) by its first bytes"),
        (zipped("mimetype"), "is an EPUB book by its first bytes; text is UTF-8; take its text: pandoc -t plain"),
        (tarred(), "is a tar archive by its first bytes; text is UTF-8; unpack it first: tar -xf "),
        (
            b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
            "is a PDF document by its first bytes; text is UTF-8; take its text: pdftotext",
        ),
        (b"%PDF-1.0\nonly letters\n", "is a PDF document by its first bytes"),
        (b"{\\rtf1\\ansi hello}\n", "is an RTF document by its first bytes; text is UTF-8; save it as plain text"),
        (b"%!PS-Adobe-3.0\n(hello) show\n", "is a PostScript document by its first bytes"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9), "is an old Office document (doc, xls or ppt) by its"),
        (b"PAR1\x15\x04\x15", "is a Parquet table by its first bytes; text is UTF-8; write its column of text"),
        (b"SQLite format 3\0\x10\0", "is an SQLite database by its first bytes"),
        (b"\x93NUMPY\x01\0v\0{", "is a NumPy array by its first bytes; text is UTF-8; give a text file"),
        (b"GGUF\x03\0\0\0", "is a GGUF model by its first bytes"),
        (PNG, "is a PNG image by its first bytes; text is UTF-8; give a text file"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "is a JPEG image by its first bytes"),
        (b"GIF89a\x01\0\x01\0", "is a GIF image by its first bytes"),
        (BMP, "is a BMP image by its first bytes"),
        (b"\x7fELF\x02\x01\x01\0", "is a program by its first bytes"),
        (
            "abc".encode("utf-16"),
            "is UTF-16 by its byte-order mark; text is UTF-8; convert it: iconv -f UTF-16 -t UTF-8",
        ),
        (
            "abc".encode("utf-32"),
            "is UTF-32 by its byte-order mark; text is UTF-8; convert it: iconv -f UTF-32 -t UTF-8",
        ),
        (b"\x00\x00\xfe\xff\0\0\0a", "is UTF-32 by its byte-order mark"),
        (gzip.compress(TEXT)[:2], "is packed by gzip by its first bytes"),
        (b"\x28\xb5\x2f\xfd", "is packed by zstd by its first bytes"),
        (lzma.compress(TEXT)[:6], "is packed by xz by its first bytes"),
        (b"\xff\xd8\xff\xe0", "is a JPEG image by its first bytes"),
        (b"BZh and other letters: caf\xe9", "not UTF-8"),
        (TEXT + np.random.default_rng(1).bytes(2000), "not UTF-8"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",  # packed bytes hold the time
)
def test_a_file_of_another_kind_is_named_by_its_first_bytes(
    tmp_path: Path, content: bytes, message: str, chunk: int
) -> None:
    printed = refusal(file_with(tmp_path, content), chunk=chunk)
    assert message in printed
    wide = "by its byte-order mark" in printed
    assert message == "not UTF-8" or (("iconv" in printed) == wide and "tr -d" not in printed)


@pytest.mark.parametrize(("chunk", "message"), [(1, "not UTF-8"), (1 << 20, "is no text: ")])
def test_bytes_of_no_format_are_no_text_where_enough_of_them_are_read(tmp_path: Path, chunk: int, message: str) -> None:
    printed = refusal(file_with(tmp_path, np.random.default_rng(0).bytes(2000)), chunk=chunk)
    assert message in printed
    assert "iconv" not in printed or chunk == 1


@pytest.mark.parametrize(
    "letters", [b"GIF89a is a format", b"PAR1 is a name", b"BMW", b"ID3 is a tag", b"MM", b"GGUF", b"BZh9"]
)
def test_a_text_may_begin_with_the_letters_of_a_format(tmp_path: Path, letters: bytes) -> None:
    content = letters + "\nis a text, é\n".encode()
    assert cleaned(file_with(tmp_path, content), "refuse") == content


@pytest.mark.parametrize("encoding", ["cp1251", "shift-jis", "gbk", "koi8-r", "big5"])
def test_text_in_another_encoding_is_not_taken_for_data(tmp_path: Path, encoding: str) -> None:
    text = {
        "cp1251": "война и мир",
        "koi8-r": "война и мир",
        "shift-jis": "日本語の文",
        "gbk": "中文的文本",
        "big5": "中文",
    }
    assert "convert it, naming its true encoding: iconv" in refusal(
        file_with(tmp_path, text[encoding].encode(encoding))
    )


def test_the_command_that_unpacks_a_file_works(tmp_path: Path) -> None:
    path = tmp_path / "it's packed.gz"
    path.write_bytes(gzip.compress(TEXT))
    command = re.search("gzip -dc .*NEW_FILE", refusal(path))
    assert command is not None
    subprocess.run(command[0].replace("NEW_FILE", "new.txt"), shell=True, check=True, cwd=tmp_path)
    assert cleaned(tmp_path / "new.txt", "refuse") == TEXT


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(file_with(tmp_path, b"")).endswith("text.txt: empty; needs at least 2 characters")


def test_one_character_is_too_few_however_many_bytes_it_has(tmp_path: Path) -> None:
    message = refusal(file_with(tmp_path, "🙂".encode()))
    assert message.endswith("text.txt: only 1 character; needs at least 2 characters")


def test_more_characters_can_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only 3 characters; needs at least 4 characters"):
        check(file_with(tmp_path, b"abc"), min_characters=4)


def test_a_missing_file_is_named_with_the_nearest_name(tmp_path: Path) -> None:
    file_with(tmp_path, b"abc")
    message = refusal(tmp_path / "txet.txt")
    assert message.endswith("txet.txt: no such file (did you mean 'text.txt'?); give the path of a text file")
    assert refusal(tmp_path / "no" / "text.txt").endswith("no such file; give the path of a text file")


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: a folder; one text file is wanted"


def test_a_pipe_is_no_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").endswith("pipe: not an ordinary file; one text file is wanted")


def test_a_name_too_long_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / ("x" * 300)).endswith("cannot be read (File name too long)")


def test_a_file_without_permission_is_refused(bound_folder: Path) -> None:
    path = file_with(bound_folder, b"abc")
    path.chmod(0)
    assert refusal(path).endswith(f"cannot be read (Permission denied); make it readable: chmod u+r {path}")


def test_a_large_file_needs_little_memory(tmp_path: Path) -> None:
    path = file_with(tmp_path, b"a line of text\n" * 2_000_000)
    tracemalloc.start()
    clean(path, io.FileIO(os.devnull, "w"), chunk=1 << 16)  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def documents(folder: Path, content: bytes, layout: Layout, separator: str = "") -> list[tuple[bytes, bytes]]:
    """Each document as its text and its terminator; together they must be the file again."""
    starts, ends, terminators = document_offsets(file_with(folder, content), layout, separator)
    spans = zip(starts, ends, terminators, strict=True)
    pairs = [(content[start : end - length], content[end - length : end]) for start, end, length in spans]
    assert b"".join(text + terminator for text, terminator in pairs) == content
    assert starts.dtype == ends.dtype == terminators.dtype == np.int64
    return pairs


def test_a_stream_is_one_document(tmp_path: Path) -> None:
    assert documents(tmp_path, b"a\nb\n", "stream") == [(b"a\nb\n", b"")]


def test_lines_end_at_lf_only(tmp_path: Path) -> None:
    content = "a\u2028b\x0bc\r\nd".encode()
    assert documents(tmp_path, content, "lines") == [("a\u2028b\x0bc\r".encode(), b"\n"), (b"d", b"")]


def test_a_blank_line_is_a_document_without_characters(tmp_path: Path) -> None:
    assert documents(tmp_path, b"\na\n\n", "lines") == [(b"", b"\n"), (b"a", b"\n"), (b"", b"\n")]


@pytest.mark.parametrize("layout", ["stream", "lines", "separator"])
def test_an_empty_file_has_no_documents(tmp_path: Path, layout: Layout) -> None:
    assert documents(tmp_path, b"", layout, "--") == []


def test_lines_may_span_chunks(tmp_path: Path) -> None:
    content = b"x" * ((1 << 20) - 1) + b"\n" + b"y\n" * 5
    assert [len(text) for text, _ in documents(tmp_path, content, "lines")] == [(1 << 20) - 1, 1, 1, 1, 1, 1]


def test_a_separator_line_ends_a_document_with_the_line_end_before_it(tmp_path: Path) -> None:
    assert documents(tmp_path, b"a\nb\n--\n\n--\nc\n\n--\n", "separator", "--") == [
        (b"a\nb", b"\n--\n"),
        (b"", b"\n--\n"),
        (b"c\n", b"\n--\n"),
    ]


def test_a_separator_may_begin_or_end_the_file(tmp_path: Path) -> None:
    assert documents(tmp_path, b"--\n--\na\n--", "separator", "--") == [(b"", b"--\n"), (b"", b"--\n"), (b"a", b"\n--")]


def test_text_behind_the_last_separator_is_a_document(tmp_path: Path) -> None:
    assert documents(tmp_path, b"a\n--\nb\n", "separator", "--") == [(b"a", b"\n--\n"), (b"b\n", b"")]


def test_a_separator_within_a_line_is_text(tmp_path: Path) -> None:
    content = b"a --\n-- b\n---\n--\r\nc\n--\n"
    assert documents(tmp_path, content, "separator", "--") == [(content[:-4], b"\n--\n")]


def test_a_file_without_its_separator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no line is '--'; each document ends with that line; set the separator"):
        document_offsets(file_with(tmp_path, b"a\n--\r\n"), "separator", "--")


@pytest.mark.parametrize("separator", ["", "a\nb"])
def test_a_separator_that_is_no_line_is_refused(tmp_path: Path, separator: str) -> None:
    with pytest.raises(UserError, match="is not a line; it is one line, and not an empty one"):
        document_offsets(file_with(tmp_path, b"a\n"), "separator", separator)


@with_data
@pytest.mark.parametrize(
    ("name", "layout", "number"),
    [
        ("names.txt", "lines", 32_033),
        ("tinyshakespeare.txt", "stream", 1),
        ("tinystories_slice_train.txt", "separator", 5_611),
        ("tinystories_slice_valid.txt", "separator", 624),
    ],
)
def test_the_published_corpora_are_text_with_these_documents(name: str, layout: Layout, number: int) -> None:
    check(DATA / name)
    starts, ends, terminators = document_offsets(DATA / name, layout, "<|endoftext|>")
    assert len(starts) == number
    assert ends[-1] == (DATA / name).stat().st_size
    assert (starts[1:] == ends[:-1]).all()
    assert (ends - starts >= terminators).all()
