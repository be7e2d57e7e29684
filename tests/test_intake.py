"""Texts of one's own in every format and packing: the same splits as from their plain form, or one clear line."""

import bz2
import csv
import errno
import gzip
import io
import json
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from lmstages import cli
from lmstages.config.reading import read_run, text_run
from lmstages.config.text_files import listed, named_files, seen
from lmstages.core import packed, progress
from lmstages.core.errors import UserError
from lmstages.core.files import scratch
from lmstages.corpora import intake, tables
from lmstages.corpora.forecast import forecast
from lmstages.corpora.splits import NAMES, SplitText

PLAIN = [f'Story {n}, naïve 語 🙂, with "quotes", a comma; a\ttab.' for n in range(60)]
LONG = [f'Story {n}:\n\n"One", a line,\nand\ttwo.\n' for n in range(59)] + ["the line\n<|endoftext|>\nis its own"]
MODELS = "{bigram: }"


def as_jsonl(texts, field="text"):
    return "".join(
        json.dumps({"n": n, field: text}, ensure_ascii=n % 2 == 0) + "\n" for n, text in enumerate(texts)
    ).encode()


def as_csv(texts, field="text", delimiter=","):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerows([["n", field], *([n, text] for n, text in enumerate(texts))])
    return out.getvalue().encode()


def as_tsv(texts):
    return as_csv(texts, delimiter="\t")


def as_parquet(texts, field="text", **options):
    out = io.BytesIO()
    parquet.write_table(pa.table({"n": range(len(texts)), field: texts}), out, row_group_size=7, **options)
    return out.getvalue()


def as_lines(texts):
    return "".join(f"{text}\n" for text in texts).encode()


def as_separated(texts):
    return "".join(f"{text}\n<|endoftext|>\n" for text in texts).encode()


FORMATS = {"jsonl": as_jsonl, "csv": as_csv, "tsv": as_tsv, "parquet": as_parquet}
PACKED = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power fails here


def written(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def run_of(**keys):
    return read_run([], {"corpora": {"my": keys}, "tokenizers": {"byte": {"kind": "byte"}}, "models": {"bigram": {}}})


def prepared(out="text", **keys):
    """The prepared splits {name: (bytes, texts)}, as a run's job makes them."""
    section = run_of(**keys).prepare_section("my")
    assert cli.main(["prepare", "--out", out, "--section", section]) == 0
    return {
        name: (Path(out, f"{name}.txt").read_bytes(), list(SplitText.open(Path(out), name).texts())) for name in NAMES
    }


def refused(capsys, **keys):
    """The one line with which both the look ahead and the job refuse a text."""
    run = run_of(**keys)
    with pytest.raises(UserError) as error:
        forecast(run)
    capsys.readouterr()
    assert cli.main(["prepare", "--out", "refused", "--section", run.prepare_section("my")]) == 1
    printed = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert printed == [f"lmstages: error: {error.value}"] and not Path("refused", "train.txt").exists()
    return printed[0]


# Every format is its plain form


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("texts", "layout", "plain"), [(PLAIN, "lines", as_lines), (LONG[:-1], "separator", as_separated)]
)
def test_a_table_gives_the_splits_of_its_plain_form(form, packing, texts, layout, plain):
    written("plain.txt", plain(texts))
    written(f"my.{form}{packing}", PACKED[packing](FORMATS[form](texts)))
    table, expected = prepared(path=f"my.{form}{packing}"), prepared("plain", path="plain.txt", documents=layout)
    assert table == expected
    for name in NAMES:
        assert_same_ends("text", "plain", name)


def assert_same_ends(one, other, name):
    first, second = (SplitText.open(Path(folder), name) for folder in (one, other))
    assert first.ends.tolist() == second.ends.tolist() and first.terminators.tolist() == second.terminators.tolist()


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("layout", ["stream", "lines", "separator"])
def test_packed_text_gives_the_splits_of_plain_text(packing, layout):
    content = as_separated(LONG)
    written("plain.txt", content)
    written(f"my.md{packing}", PACKED[packing](content))
    assert prepared(path=f"my.md{packing}", documents=layout) == prepared("plain", path="plain.txt", documents=layout)


@pytest.mark.parametrize("packing", PACKED)
def test_a_folder_gives_the_splits_of_its_files_in_the_order_of_their_paths(packing):
    for number, text in enumerate(LONG[:-1]):
        written(f"corpus/{number % 3}/{number:02}.txt{packing}", PACKED[packing](text.encode()))
    in_order = [LONG[number] for part in range(3) for number in range(59) if number % 3 == part]
    written("plain.txt", as_separated(in_order))
    assert prepared(path="corpus") == prepared("plain", path="plain.txt", documents="separator")
    assert (
        prepared(path="corpus/")
        == prepared(path="corpus/*")
        == prepared(path="corpus/**/*.txt*")
        == prepared(path="corpus")
    )


def test_a_document_that_holds_the_separator_survives_exactly():
    written("my.jsonl", as_jsonl(LONG))
    parts = prepared(path="my.jsonl")
    assert sorted(text for _, texts in parts.values() for text in texts) == sorted(LONG)


def test_a_folder_may_hold_every_format():
    for number, (name, write) in enumerate(FORMATS.items()):
        written(f"corpus/{number}.{name}", write(LONG[number * 10 : number * 10 + 10]))
    written("corpus/9.txt", LONG[40])
    parts = prepared(path="corpus", split={"train": 0.8, "valid": 0.1, "test": 0.1, "shuffle_seed": None})
    assert [text for _, texts in parts.values() for text in texts] == LONG[:41]


def test_a_field_is_that_of_the_tables_of_a_folder_which_may_hold_text_too():
    written("corpus/0.jsonl", as_jsonl(PLAIN[:20], "body"))
    written("corpus/1.md", PLAIN[20])
    written("corpus/2.txt", as_jsonl(PLAIN[21:40], "body"))
    split = {"train": 0.8, "valid": 0.1, "test": 0.1, "shuffle_seed": None}
    parts = prepared(path="corpus", field="body", split=split)
    assert [text for _, texts in parts.values() for text in texts] == PLAIN[:40]


def test_text_that_is_asked_for_a_field_is_a_table_of_separated_values():
    written("my.txt", as_csv(PLAIN, "body", ";"))
    written("plain.txt", as_lines(PLAIN))
    assert prepared(path="my.txt", field="body") == prepared("plain", path="plain.txt", documents="lines")


@pytest.mark.parametrize("layout", ["stream", "lines", "separator"])
def test_several_texts_are_joined_as_they_are(layout):
    """A document never goes on into the next file, also where the file ends without a line end."""
    first, second = as_separated(PLAIN[:20]).removesuffix(b"\n"), as_separated(PLAIN[20:])
    written("a.txt", first)
    written("b.txt", second)
    split = {"train": 0.8, "valid": 0.1, "test": 0.1, "shuffle_seed": None}
    parts = prepared(path=["a.txt", "b.txt"], documents=layout, split=split)
    assert b"".join(content for content, _ in parts.values()) == first + second
    texts = [text for _, texts in parts.values() for text in texts]
    assert layout != "separator" or texts == PLAIN
    assert layout != "lines" or texts == [line for text in PLAIN for line in (text, "<|endoftext|>")]


def test_the_field_is_that_of_the_config():
    written("my.jsonl", as_jsonl(PLAIN, "body"))
    written("their.jsonl", as_jsonl(PLAIN))
    assert prepared(path="my.jsonl", field="body") == prepared("plain", path="their.jsonl")


@pytest.mark.parametrize("newlines", ["keep", "unix"])
def test_windows_line_ends_within_records_are_treated_as_in_text(newlines, capsys):
    written("my.csv", as_csv([f"one {n}\r\ntwo" for n in range(30)]))
    assert "line 3: a Windows line end (CRLF) within the text" in refused(capsys, path="my.csv")
    texts = [text for _, texts in prepared(path="my.csv", newlines=newlines).values() for text in texts]
    assert {"\r\n" in text for text in texts} == {newlines == "keep"}


@pytest.mark.parametrize("kind", ["large_string", "binary", "dictionary", "string_view"])
def test_a_column_of_text_may_be_of_any_type_of_text(kind):
    types = {"large_string": pa.large_string(), "binary": pa.binary(), "string_view": pa.string_view()}
    column = pa.array(PLAIN).dictionary_encode() if kind == "dictionary" else pa.array(PLAIN).cast(types[kind])
    parquet.write_table(pa.table({"text": column}), "my.parquet")
    written("plain.txt", as_lines(PLAIN))
    assert prepared(path="my.parquet") == prepared("plain", path="plain.txt", documents="lines")


# The parts of a text that comes in parts


def test_parts_that_are_given_are_taken_as_they_are():
    for name, texts in (("train", PLAIN[:40]), ("valid", PLAIN[40:50]), ("test", PLAIN[50:])):
        written(f"{name}.jsonl", as_jsonl(texts))
    parts = prepared(files={name: f"{name}.jsonl" for name in NAMES})
    assert [texts for _, texts in parts.values()] == [PLAIN[:40], PLAIN[40:50], PLAIN[50:]]


def test_a_part_that_is_not_given_is_cut_from_train(capsys):
    written("train.jsonl", as_jsonl(PLAIN[:40]))
    written("test.jsonl", as_jsonl(PLAIN[40:]))
    parts = {name: texts for name, (_, texts) in prepared(files={"train": "train.jsonl", "test": "test.jsonl"}).items()}
    assert parts["test"] == PLAIN[40:] and len(parts["valid"]) == 4 and len(parts["train"]) == 36
    assert sorted(parts["train"] + parts["valid"]) == sorted(PLAIN[:40]) and parts["train"] != PLAIN[:36]
    assert "valid has no files: 10% of train is cut off" in capsys.readouterr().err


def test_parts_of_a_stream_are_cut_between_characters():
    written("a.txt", "é" * 100)
    written("b.txt", "🙂" * 7)
    parts = {
        name: content.decode() for name, (content, _) in prepared(files={"train": "a.txt", "valid": "b.txt"}).items()
    }
    assert parts == {"train": "é" * 90, "test": "é" * 10, "valid": "🙂" * 7}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"files": {"train": "a.txt", "test": "a.txt"}}, "files.test: a.txt is a file of files.train too"),
        (
            {"files": {"train": "a.txt"}, "split": {"train": 0.5}},
            "split.train: says how a text is cut, and files gives",
        ),
        ({"files": {"valid": "a.txt"}}, "files.train: missing"),
        ({"files": {"train": "a.txt"}, "path": "a.txt"}, "needs either source or path or files"),
        ({"path": ["a.txt", "a.txt"]}, "names something twice"),
        ({"path": ["a.txt", "*.txt"]}, "'*.txt': stands for a.txt, as 'a.txt' does; a file counts once"),
        ({"path": []}, "path: names nothing"),
        ({"path": [5]}, "path.0: 5 found; input should be a valid string"),
        ({"path": "b*.md"}, "'b*.md': fits no file"),
        ({"path": "a.txt", "field": "body", "documents": "lines"}, "field belongs to records, and documents is lines"),
        ({"source": "coined", "field": "body"}, "field belongs to a text of your own"),
        ({"source": "coined", "documents": "files"}, "documents: files belongs to a text of your own"),
    ],
)
def test_keys_that_contradict_each_other_are_named(keys, problem):
    written("a.txt", "abc" * 100)
    with pytest.raises(UserError) as error:
        run_of(**keys)
    assert problem in str(error.value)


def test_files_that_lie_elsewhere_are_as_many_as_the_config_names(capsys):
    for name, texts in (("train", PLAIN[:40]), ("valid", PLAIN[40:50]), ("test", PLAIN[50:])):
        written(f"{name}.jsonl", as_jsonl(texts))
    expected = prepared(files={name: f"{name}.jsonl" for name in NAMES})
    section = run_of(files={name: f"{name}.jsonl" for name in NAMES}).prepare_section("my")
    staged = [written(f"elsewhere/{name}.jsonl", Path(f"{name}.jsonl").read_bytes()) for name in NAMES]
    assert cli.main(["prepare", "--out", "again", "--section", section, "--raw", *staged]) == 0
    assert {name: Path(f"again/{name}.txt").read_bytes() for name in NAMES} == {
        n: part for n, (part, _) in expected.items()
    }
    capsys.readouterr()
    assert cli.main(["prepare", "--out", "again", "--section", section, "--raw", "train.jsonl"]) == 1
    assert "--raw: 1 files; files of the section names 3; leave --raw out" in capsys.readouterr().err


# What a file is


@pytest.mark.parametrize(
    ("name", "content", "form", "note"),
    [
        ("notes.txt", as_parquet(PLAIN), "parquet", "notes.txt is a Parquet table: read as such"),
        ("notes.csv", as_jsonl(PLAIN), "jsonl", "notes.csv is JSON Lines: read as such"),
        ("notes", as_jsonl(PLAIN), "jsonl", "notes is JSON Lines: read as such"),
        ("notes.txt", gzip.compress(as_lines(PLAIN), mtime=0), "text", "notes.txt is packed by gzip: unpacked"),
        ("notes.txt.gz", as_lines(PLAIN), "text", "notes.txt.gz is not packed: read as it is"),
        ("notes.jsonl.gz", PACKED[".zst"](as_jsonl(PLAIN)), "jsonl", "notes.jsonl.gz is packed by zstd: unpacked"),
        ("notes.txt", as_jsonl(PLAIN), "text", "begins with a record of JSON and is read as plain text; set field"),
        ("notes.txt", as_lines(PLAIN), "text", ""),
        ("notes.tsv", as_tsv(PLAIN), "csv", ""),
        ("PAR1.txt", b"PAR1 is a name\n" * 9, "text", ""),
    ],
)
def test_the_format_follows_from_the_content_and_a_wrong_name_is_said(name, content, form, note):
    form_of_file = seen(Path(written(name, content)))
    assert form_of_file.format == form and note in "; ".join(form_of_file.notes)
    assert bool(note) == bool(form_of_file.notes)


def test_a_text_whose_lines_are_json_is_text_where_the_config_says_lines():
    written("my.jsonl", as_jsonl(PLAIN))
    assert prepared(path="my.jsonl", documents="lines")["test"][1][0].startswith('{"n": ')
    assert (
        "my.jsonl is read as plain text, since documents is lines"
        in forecast(run_of(path="my.jsonl", documents="lines")).warnings[0]
    )


def test_what_is_left_out_is_said(capsys):
    written("corpus/a.jsonl", as_jsonl([*PLAIN, "", None]))
    for name in (".hidden", "draft.txt~", "#draft#", "empty.txt"):
        written(f"corpus/{name}", "" if name == "empty.txt" else "left out")
    (Path("corpus/.git")).mkdir()
    prepared(path="corpus")
    printed = capsys.readouterr().err
    for words in ("2 hidden files left out", "2 editor backup files left out", "1 empty file left out"):
        assert words in printed and f"corpus: {words}" in forecast(run_of(path="corpus")).warnings
    assert "corpus: 2 records without text left out" in printed


# One clear line


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n' * 20, "line 2 is no JSON (expecting ',' delimiter, column 13)"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n' * 20, "line 2 is a list; every line is an object"),
        ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n' * 20, "line 2: no field 'text'; it has 'body'; set field"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ["b"]}\n', "line 2: field 'text' is a list (['b']); a text, or null"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 5}\n', "line 2: field 'text' is a number (5)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', "line 2: half a character (\\ud800); text is UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\u0000"}\n', "line 2: a NUL character"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "line 2 is not UTF-8: byte 0xe9"),
        ("a.jsonl", b'{"text": "a"}\n' + b"[" * 5000, "line 2 is no JSON that can be read (RecursionError)"),
        ("a.jsonl", b'{"text": "a"}\n' + b"9" * 5000, "line 2 is no JSON that can be read (ValueError)"),
        ("a.json", b'[\n{"text": "a"}\n]\n', "line 1 is no JSON"),
        ("a.csv", b"n,body\n1,abc\n", "line 1: no field 'text'; it has 'n', 'body'; set field"),
        ("a.csv", b"", "a.csv: line 1: no field 'text'; it has none"),
        ("a.csv", b"text,text\n1,2\n", "line 1: 2 columns are called 'text'"),
        ("a.csv", b"n,text\n1,abc\n2,a, b\n", "the row that ends on line 3 has 3 columns, the first row 2"),
        ("a.csv", b'n,text\n1,"abc\n2,"b"\n', "is no row of separated values"),
        ("a.csv", "n,text\n1,abc\n".encode("utf-16"), "is UTF-16 by its byte-order mark"),
        ("a.parquet", as_parquet(PLAIN, "body"), "its columns: no field 'text'; it has 'n', 'body'; set field"),
        ("a.parquet", as_parquet([1, 2]), "column 'text' holds 'int64'; a column of text"),
        ("a.parquet", as_parquet([["a"], ["b"]]), "column 'text' holds 'list<"),
        ("a.parquet", as_parquet(PLAIN)[:-100], "is no Parquet table that can be read"),
        ("a.parquet", b"only text\n" * 99, "is no Parquet file, by its first bytes"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        (
            "a.txt.gz",
            gzip.compress(as_lines(PLAIN), mtime=0)[:-20],
            "ends before the end of what gzip packed; copy or",
        ),
        ("a.txt.gz", gzip.compress(as_lines(PLAIN), mtime=0)[:-8] + bytes(8), "is damaged: gzip cannot unpack it"),
        ("a.txt.bz2", bz2.compress(as_lines(PLAIN))[:-20], "ends before the end of what bzip2 packed"),
        ("a.txt.xz", lzma.compress(as_lines(PLAIN))[:-20], "ends before the end of what xz packed"),
        ("a.txt.zst", PACKED[".zst"](as_lines(PLAIN))[:-20], "ends before the end of what zstd packed"),
        ("a.txt.gz", gzip.compress(b"caf\xe9\n" * 90, mtime=0), "not UTF-8: byte 0xe9 at offset 3 (line 1)"),
        ("a.txt.gz", gzip.compress(gzip.compress(as_lines(PLAIN), mtime=0)), "is packed by gzip by its first bytes"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "a.txt.gz: empty; needs at least 2 characters"),
        ("a.zip", b"PK\3\4\x14\0\0\0", "is a zip archive by its first bytes; text is UTF-8; unpack it first: unzip"),
        ("a.pdf", b"%PDF-1.7\n", "is a PDF document by its first bytes; text is UTF-8; take its text: pdftotext"),
    ],
)
def test_a_damaged_file_is_one_line_before_any_fit(capsys, name, content, problem):
    written(name, content)
    assert problem in refused(capsys, path=name)
    written("corpus/0.txt", "a text")
    written(f"corpus/{name}", content)
    if "empty" not in problem:
        assert problem.removeprefix(f"{name}: ") in refused(capsys, path="corpus")


def test_a_text_in_another_encoding_in_a_folder_is_named(capsys):
    written("corpus/a.txt", "naïve " * 20)
    written("corpus/b.txt", ("naïve " * 20).encode("latin-1"))
    assert "corpus/b.txt: not UTF-8: byte 0xef at offset 2 (line 1)" in refused(capsys, path="corpus")


def test_too_few_documents_are_named_with_the_ways_out(capsys):
    for name in "abc":
        written(f"corpus/{name}.txt", "a text " * 50)
    message = refused(capsys, path="corpus")
    assert "corpus: split: 3 documents (files) leave the valid part empty; give more of them" in message


@pytest.mark.parametrize("path", ["corpus", "corpus/*"])
def test_a_folder_without_texts_is_refused_before_any_job(path):
    Path("corpus/below").mkdir(parents=True)
    written("corpus/below/.hidden", "text")
    with pytest.raises(UserError, match=r"corpora\.my\.path: '.*': (holds no file of text|fits no file)"):
        run_of(path=path)


def test_links_are_followed_unless_they_lead_back():
    for number in range(20):
        written(f"there/{number}.txt", PLAIN[number])
    Path("corpus").mkdir()
    Path("corpus/link").symlink_to("../there")
    assert len(listed("corpus").files) == 20
    Path("there/back").symlink_to("../corpus")
    with pytest.raises(UserError, match=r"my\.path: corpus/link/back: is a link that leads back to a folder above"):
        run_of(path="corpus")
    Path("there/back").unlink()
    Path("there/nowhere").symlink_to("gone")
    with pytest.raises(UserError, match="there/nowhere: is a link that leads nowhere"):
        run_of(path="there")
    Path("there/nowhere").unlink()
    Path("there/itself").symlink_to("itself")
    with pytest.raises(UserError, match="there/itself: cannot be read"):
        run_of(path="there")


def test_a_pipe_in_a_folder_is_no_text():
    written("corpus/a.txt", "text")
    os.mkfifo("corpus/pipe")
    with pytest.raises(UserError, match="corpus/pipe: is no ordinary file"):
        run_of(path="corpus")


@pytest.mark.parametrize("change", ["grows", "vanishes"])
def test_a_file_that_changes_while_it_is_read_is_refused(monkeypatch, tmp_path, change):
    written("corpus/a.jsonl", as_jsonl(PLAIN))
    written("corpus/b.jsonl", as_jsonl(PLAIN))
    corpus, texts_of_json = run_of(path="corpus").corpora["my"], tables.texts_of_json

    def changing(pieces, table):
        yield from texts_of_json(pieces, table)
        if table.path.name == "b.jsonl":
            with open(table.path, "ab") as file:
                file.write(b'{"text": "more"}\n')
            _ = os.unlink(table.path) if change == "vanishes" else None

    monkeypatch.setattr(tables, "texts_of_json", changing)
    with (
        scratch(tmp_path) as out,
        pytest.raises(UserError, match=r"b\.jsonl: (changed while it was read|cannot be read)"),
    ):
        intake.gather(corpus, out)


def test_a_file_that_came_since_the_run_began_is_refused(tmp_path):
    written("corpus/a.jsonl", as_jsonl(PLAIN))
    corpus = run_of(path="corpus").corpora["my"]
    written("corpus/b.jsonl", as_jsonl(PLAIN))
    with scratch(tmp_path) as out, pytest.raises(UserError, match="corpus: changed since the run began"):
        intake.gather(corpus, out, content="0" * 64)


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_a_file_that_unpacks_to_too_much_is_stopped_at_a_limit_that_is_said(capsys, monkeypatch, packing):
    written(f"a.txt{packing}", PACKED[packing](b"a text\n" * 200_000))
    monkeypatch.setattr(packed, "FREE", 1 << 20)
    limit = max(1 << 20, 250 * Path(f"a.txt{packing}").stat().st_size)
    if limit < 1_400_000:
        message = refused(capsys, path=f"a.txt{packing}")
        assert f"unpacks to more than {limit:,} bytes; a file may hold 250 times its own size, and" in message
    else:
        assert packing == ".gz", "only gzip packs it so badly that it is allowed"


# Memory


MEASURED = """
import re, sys
from pathlib import Path
from lmstages import cli
cli.main(["prepare", "--out", "text", "--section", sys.argv[1]]) and sys.exit("prepare failed")
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""  # not ru_maxrss, which a process inherits from the one that starts it


def large_table(form, size):
    """A table of so many MB, in documents of 5 kB; of Parquet in one group of rows."""
    text = "many words of one long story\n" * 180
    if form == "parquet":
        schema = pa.schema([("text", pa.string())])
        with parquet.ParquetWriter("my.parquet", schema, use_dictionary=False, compression="zstd") as file:
            file.write_table(pa.table({"text": [f"{n} {text}" for n in range(size * 190)]}), row_group_size=1 << 20)
        return "my.parquet"
    with gzip.open("my.jsonl.gz", "wt", compresslevel=1) as file:
        file.writelines(json.dumps({"text": text}) + "\n" for _ in range(size * 190))
    return "my.jsonl.gz"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how much memory a process has had")
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_text(form):
    """In KiB: a table of 60 MB takes no more than one of 1 MB, but for what is kept of each document."""
    peaks = []
    for size in (1, 60):
        section = run_of(path=large_table(form, size)).prepare_section("my")
        done = subprocess.run([sys.executable, "-c", MEASURED, section], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert Path("text/train.txt").stat().st_size > 40e6
    assert peaks[1] - peaks[0] < 20_000


def test_how_far_a_long_read_is_is_said(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    written("my.jsonl", as_jsonl(PLAIN))
    prepared(path="my.jsonl")
    assert re.search(r"reading texts: byte [\d,]+/[\d,]+  [\d,]+ bytes of text/s  0:00 left", capsys.readouterr().err)


def test_a_full_disk_is_not_taken_for_a_text_that_cannot_be_read(capsys, monkeypatch):
    written("my.jsonl.gz", gzip.compress(as_jsonl(PLAIN), mtime=0))

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(intake._Reader, "_write", full)
    assert cli.main(["prepare", "--out", "text", "--section", run_of(path="my.jsonl.gz").prepare_section("my")]) == 1
    assert "no space left to write it" in capsys.readouterr().err


def test_copies_are_left_out_of_later_parts():
    for name, texts in (("train", PLAIN[:40]), ("valid", PLAIN[30:50]), ("test", PLAIN[45:])):
        written(f"{name}.jsonl", as_jsonl(texts))
    parts = prepared(files={name: f"{name}.jsonl" for name in NAMES}, split={"deduplicate": True})
    assert [texts for _, texts in parts.values()] == [PLAIN[:40], PLAIN[40:50], PLAIN[50:]]


# On the command line


@pytest.fixture
def config():
    return [Path(written("run.yaml", "corpora: {coined: }\ntokenizers: {byte: {kind: byte}}\nmodels: {bigram: }\n"))]


@pytest.mark.parametrize(
    ("text", "name", "layout"),
    [
        ("corpus/", "corpus", "files"),
        ("corpus", "corpus", "files"),
        ("./corpus/*.txt", "corpus", "files"),
        ("corpus/[ab]*.txt", "corpus", "files"),
        ("[corpus/a.txt, corpus/b.txt]", "a", "files"),
        ("corpus/a.txt", "a", "stream"),
        ("my.jsonl.gz", "my", "records"),
        ("my.v2.parquet", "my_v2", "records"),
    ],
)
def test_a_text_on_the_command_line_names_its_run(config, text, name, layout):
    for letter in "ab":
        written(f"corpus/{letter}.txt", f"{letter} text " * 50)
    written("my.jsonl.gz", gzip.compress(as_jsonl(PLAIN), mtime=0))
    written("my.v2.parquet", as_parquet(PLAIN))
    run = text_run(config, text)
    assert run.name == name and run.layout(name) == layout
    assert run.corpora[name].documents == layout


def test_the_field_is_given_on_the_command_line(config):
    written("my.jsonl", as_jsonl(PLAIN, "body"))
    run = text_run(config, "my.jsonl", {"field": "body", "as": "mine"})
    assert run.name == "mine" and run.corpora["mine"].field == "body" and forecast(run).warnings == []
    with pytest.raises(UserError, match="--config field: belongs to text=PATH"):
        read_run(config, {"field": "body"})


def test_a_section_of_today_has_no_new_keys():
    written("my.txt", "text")
    section = json.loads(run_of(path="my.txt").prepare_section("my"))
    assert section["documents"] is None and not {"files", "field"} & section.keys()


# Identity


def test_the_names_of_files_do_not_depend_on_how_their_folder_is_named():
    for name in ("a/x.txt", "a/y.txt", "b/x.txt"):
        written(f"corpus/{name}", "text")
    names = [
        list(named_files({"": listed(path)})) for path in ("corpus", "./corpus/", "corpus/*", os.path.abspath("corpus"))
    ]
    assert names == [["a/x.txt", "a/y.txt", "b/x.txt"]] * 4
    assert list(named_files({"": listed("corpus/a/x.txt")})) == ["x.txt"]
    assert list(named_files({"train": listed("corpus/a/x.txt")})) == ["train: x.txt"]
