"""Data sets of the hub, and the field's benchmarks: their parts as they are, from a folder that stands for the hub."""

import hashlib
import io
import json
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from lmstages.cli import main
from lmstages.config.reading import read_run
from lmstages.config.sections import Corpus
from lmstages.config.sources import BENCHMARKS, SOURCES, Hub, Part, Source, Variant
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora import splits
from lmstages.corpora.download import fetch, source_of_hub
from lmstages.corpora.preparation import prepare
from lmstages.corpora.verification import Verification

REVISION = "0123456789" * 4
MADE = {"command": "prepare", "section": {}, "inputs": {}, "code": "", "levels": 0}
NAMED = {"valid": "validation", "test": "test"}
ROWS = [f"row {number}\nhas a second line" for number in range(20)]


def mirror(folder, name="somebody/data", rows=ROWS, config=None, field="text", **parts):
    """A copy of a repository: a Parquet file for each split."""
    target = Path(folder, name, config or "")
    target.mkdir(parents=True)
    for split, texts in {"train": rows, **parts}.items():
        parquet.write_table(pa.table({field: texts}), target / f"{split}-00000-of-00001.parquet")
    return str(folder)


def corpus(**keys):
    return Corpus.model_validate({"hub": {"name": "somebody/data", "revision": REVISION}, **keys})


def downloaded(corpus, folder, name="mine", tmp="raw"):
    """The files of its splits, as the command makes them."""
    from lmstages.config.jobs import Run

    run = Run.model_construct(corpora={name: corpus})
    paths = []
    for number, section in enumerate(map(json.loads, run.hub_sections(name))):
        path = Path(folder).parent / tmp / str(number)
        fetch(source_of_hub(section), path, str(folder), MADE, part=section["split"])
        paths.append(path)
    return paths


def parts_of(record, paths, tmp_path):
    prepare(record, paths, tmp_path / "text", MADE)
    return {name: splits.text_path(tmp_path / "text", name).read_text() for name in splits.NAMES}


# Any data set


def test_the_splits_of_a_data_set_are_the_parts(tmp_path):
    folder = mirror(tmp_path / "mirror", validation=["a\nb", "c"], test=["d"])
    record = corpus(hub={"name": "somebody/data", "revision": REVISION, "splits": NAMED})
    parts = parts_of(record, downloaded(record, folder), tmp_path)
    assert parts["valid"] == "a\nb\n<|endoftext|>\nc\n<|endoftext|>\n" and parts["test"] == "d\n<|endoftext|>\n"
    assert parts["train"] == "".join(f"{row}\n<|endoftext|>\n" for row in ROWS)


def test_a_split_that_is_not_named_is_cut_from_train(tmp_path):
    record = corpus()
    parts = parts_of(record, downloaded(record, mirror(tmp_path / "mirror")), tmp_path)
    counts = {name: text.count("<|endoftext|>") for name, text in parts.items()}
    assert counts == {"train": 16, "valid": 2, "test": 2}


def test_another_field_and_configuration(tmp_path):
    folder = mirror(tmp_path / "mirror", config="small", field="body", rows=["one", "two", "three"] * 4)
    keys = {"name": "somebody/data", "revision": REVISION, "config": "small", "field": "body"}
    record = corpus(hub=keys)
    assert sum(text.count("\n") for text in parts_of(record, downloaded(record, folder), tmp_path).values()) == 12


def test_the_rows_of_a_stream_are_joined_as_they_are(tmp_path):
    folder = mirror(tmp_path / "mirror", rows=["a b\n", "", "c d\n"] * 3, test=["e\n"], validation=["f\n"])
    record = corpus(hub={"name": "somebody/data", "revision": REVISION, "splits": NAMED}, documents="stream")
    parts = parts_of(record, downloaded(record, folder), tmp_path)
    assert parts == {"train": "a b\nc d\n" * 3, "valid": "f\n", "test": "e\n"}


def test_the_facts_name_the_data_set_and_its_commit(tmp_path):
    record = corpus()
    parts_of(record, downloaded(record, mirror(tmp_path / "mirror")), tmp_path)
    facts = json.loads((tmp_path / "text" / "corpus.json").read_text())
    assert facts["origin"] == f"somebody/data at {REVISION}"


@pytest.mark.parametrize(
    ("rows", "field", "message"),
    [
        ([1, 2, 3], "text", "field 'text' of row 1 is no text"),
        (["a"], "body", r"somebody/data in mirror .*: data \(train\): cannot be read"),
        ([], "text", "data .train.: (ended after 0 of all rows|cannot be read)"),
    ],
)
def test_what_is_no_text_of_the_data_set_is_one_line(tmp_path, rows, field, message):
    folder = mirror(tmp_path / "mirror", rows=rows, field=field)
    with pytest.raises(UserError, match=message) as error:
        downloaded(corpus(), folder)
    assert "\n" not in str(error.value)


def test_a_mirror_without_the_data_set_says_what_to_put_there(tmp_path):
    (tmp_path / "mirror").mkdir()
    with pytest.raises(
        UserError, match="put a copy of the repository, called somebody/data, there, or leave mirror out"
    ):
        downloaded(corpus(), tmp_path / "mirror")


def test_the_command_downloads_a_split(tmp_path):
    folder = mirror(tmp_path / "mirror")
    section = {"name": "somebody/data", "config": None, "revision": REVISION, "field": "text", "split": "train"}
    out = tmp_path / "rows"
    line = ["download", "--hub", json.dumps({**section, "joined": False}), "--stories", "2", "--mirror", folder]
    assert main([*line, "--out", str(out)]) == 0
    assert [json.loads(row) for row in artifacts.verified(out).read_text().splitlines()] == [
        {"text": text} for text in ROWS[:2]
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{hub: {name: a/b}}", "corpora.x.hub.revision: missing"),
        (f"{{hub: {{name: a/b, revision: {REVISION!r}}}, path: c.txt}}", "needs either source or path or hub"),
        (f"{{hub: {{name: a/b, revision: {REVISION!r}}}, field: body}}", "of a data set of the hub it is hub.field"),
        (f"{{hub: {{name: a/b, revision: {REVISION!r}}}, documents: files}}", "documents: files belongs to a text"),
        (f"{{hub: {{name: a/b, revision: {REVISION!r}}}, split: {{train: 0.5}}}}", "and hub gives its parts"),
        ("{source: ptb, split: {train: 0.5}}", "and source gives its parts; allowed beside it: deduplicate"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(tmp_path, entry, message):
    config = tmp_path / "c.yaml"
    config.write_text(f"corpora: {{x: {entry}}}\ntokenizers: {{char: {{kind: char}}}}\nmodels: {{bigram: }}\n")
    with pytest.raises(UserError, match=message):
        read_run(config)


# The field's benchmarks, with small texts of the same shape


def in_parts(texts):
    """A source of three files, as Penn Treebank and WikiText are."""
    parts = tuple(
        Part(name, (f"{name}.txt",), (Variant("original", len(text), hashlib.md5(text).hexdigest(), "md5"),))
        for name, text in texts.items()
    )
    return Source("small", parts, "stream", "none", "made for a test")


def zipped(name, content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def test_a_benchmark_of_three_files_keeps_its_parts(tmp_path, monkeypatch):
    texts = {"train": b" a b <unk> \n" * 9, "valid": b" b \n" * 3, "test": b" a \n" * 3}
    monkeypatch.setitem(SOURCES, "small", in_parts(texts))
    (tmp_path / "mirror").mkdir()
    paths = [tmp_path / "raw" / name for name in texts]
    for name, path in zip(texts, paths, strict=True):
        (tmp_path / "mirror" / f"{name}.txt").write_bytes(texts[name])
        fetch(SOURCES["small"], path, str(tmp_path / "mirror"), MADE, part=name)
    parts = parts_of(Corpus(source="small"), paths, tmp_path)
    assert {name: text.encode() for name, text in parts.items()} == texts


@pytest.mark.parametrize("packed", [True, False])
def test_a_benchmark_of_one_file_is_cut_at_bytes_from_a_zip_or_plain(tmp_path, monkeypatch, packed):
    text = "añb" * 30  # the 60th byte is within a character
    content = text.encode()
    variant = Variant("original", len(content), hashlib.md5(content).hexdigest(), "md5")
    part = Part("whole", ("small8", "small8.zip"), (variant,))
    monkeypatch.setitem(SOURCES, "small8", Source("small8", (part,), "stream", "none", "x", cut=(62, 30, 28)))
    (tmp_path / "mirror").mkdir()
    name, written = ("small8.zip", zipped("small8", content)) if packed else ("small8", content)
    (tmp_path / "mirror" / name).write_bytes(written)
    fetch(SOURCES["small8"], tmp_path / "raw", str(tmp_path / "mirror"), MADE)
    parts = parts_of(Corpus(source="small8"), [tmp_path / "raw"], tmp_path)
    assert "".join(parts.values()) == text
    assert {name: len(part.encode()) for name, part in parts.items()} == {"train": 63, "valid": 29, "test": 28}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped("other", b"x"), "a zip without small8"),
        (b"PK\x03\x04 broken", "no zip that can be unpacked"),
        (zipped("small8", b"x" * 100), "more than the 10 bytes that are allowed"),
        (zipped("small8", b"x" * 9), "ended after 9 of 10 bytes"),
    ],
)
def test_a_zip_that_is_not_what_was_published_is_one_line(tmp_path, content, message):
    (tmp_path / "small8.zip").write_bytes(content)
    part = Part("whole", ("small8", "small8.zip"), (Variant("original", 10, "0" * 32, "md5"),))
    source = Source("small8", (part,), "stream", "none", "x", cut=(8, 1, 1))
    with pytest.raises(UserError, match=message):
        fetch(source, tmp_path / "raw", str(tmp_path), MADE)


def test_empty_rows_of_a_benchmark_on_the_hub_are_lines_of_one_space(tmp_path):
    hub = Hub("a/b", REVISION, "text", "a/b", 1000, "words-v1", "joined", " \n")
    source = Source("words", (Part("valid", (), (), hub_split="validation"),), "stream", "", "", hub=hub)
    folder = mirror(tmp_path / "mirror", "a/b", config="words-v1", validation=[" = A = \n", "", " a b \n"])
    fetch(source, tmp_path / "raw", folder, MADE, part="valid")
    assert (tmp_path / "raw").read_bytes() == b" = A = \n \n a b \n"


@pytest.mark.parametrize("seed", range(5))
def test_words_are_counted_the_same_in_pieces_of_any_size(seed):
    draws = np.random.default_rng(seed)
    content = "".join(draws.choice(list("ab \n"), 200)).encode()
    words = len(content.split()) + content.count(b"\n")
    verification = Verification([Variant("original", len(content), str(words), "words")], 200)
    cuts = [0, *sorted(draws.integers(0, 200, 9).tolist()), 200]
    for begin, end in pairwise(cuts):
        verification.update(content[begin:end])
    assert verification.variant().name == "original"


def test_wikitext_2_in_the_folder_of_corpora_is_what_its_source_says(tmp_path, data):
    for name in ("valid", "test"):
        fetch(SOURCES["wikitext2"], tmp_path / name, str(data), MADE, part=name)
        assert artifacts.verified(tmp_path / name).stat().st_size == SOURCES["wikitext2"].part(name).variants[0].size


def test_the_benchmarks_have_their_conventional_parts():
    assert [source.name for source in BENCHMARKS if source.is_in_parts] == ["ptb", "wikitext2", "wikitext103"]
    assert [source.cut for source in BENCHMARKS if source.cut] == [(90_000_000, 5_000_000, 5_000_000)] * 2
    assert Corpus(source="text8").parts() == ["train", "valid", "test"] == Corpus(source="ptb").parts()
    assert Corpus.model_validate({"source": "text8", "use": 0.1}).parts() == ["train", "valid", "test"]
