"""Splits contain every byte of the text once, and only complete characters and documents."""

import io
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstages.config.sections import Corpus, Split
from lmstages.config.sources import SOURCES
from lmstages.core import artifacts, contents
from lmstages.core.errors import UserError
from lmstages.core.files import sha256_of
from lmstages.corpora import splits
from lmstages.corpora.preparation import borders, prepare
from lmstages.corpora.splits import NAMES, SplitText, count_characters, text_path

MADE = {"command": "prepare"}
ODD = "é\u2028a\x0b語🙂\n\r b\x85\n" * 7


@pytest.fixture
def cut(tmp_path):
    """Text and keys of a corpus -> the folder with its splits."""

    def made(text, **keys):
        path = tmp_path / "text.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        corpus = Corpus.model_validate({"path": str(path), "newlines": "keep", **keys})
        prepare(corpus, [path], tmp_path / "out", MADE)
        return tmp_path / "out"

    return made


@pytest.fixture
def published(data, tmp_path):
    """A source and keys of a corpus -> the folder with the splits of the published text."""

    def made(source, **keys):
        [variant] = [v for v in SOURCES[source].parts[0].variants if v.algorithm == "sha256"]
        [name] = [n for n in SOURCES[source].parts[0].mirror_names if (data / n).is_file()]
        raw = tmp_path / "raw.txt"
        facts = {"download": {"variant": variant.name}}
        artifacts.save_bytes(raw, (data / name).read_bytes(), facts)
        prepare(Corpus.model_validate({"source": source, **keys}), [raw], tmp_path / "out", MADE)
        return tmp_path / "out"

    return made


def content(folder, name):
    return artifacts.verified(text_path(folder, name)).read_bytes()


def documents(folder, name):
    return list(SplitText.open(folder, name).texts())


def counts(folder):
    return {name: facts["documents"] for name, facts in artifacts.load_json(folder / "corpus.json")["splits"].items()}


def refusal(make, *arguments, **keys):
    with pytest.raises(UserError) as raised:
        make(*arguments, **keys)
    return str(raised.value)


# The published splits


def test_the_lecture_split_of_names(published, data):
    folder = published("names")
    names = (data / "names.txt").read_text().split("\n")
    random.seed(42)
    random.shuffle(names)
    assert counts(folder) == {"train": 25626, "valid": 3203, "test": 3204}
    assert documents(folder, "train") == names[:25626] and documents(folder, "train")[:2] == ["yuheng", "diondre"]
    assert documents(folder, "valid") == names[25626:28829] and documents(folder, "test") == names[28829:]


def test_the_eurekalabs_split_of_names(published, data):
    split = {"train": 30033, "valid": 1000, "test": 1000, "order": ["test", "valid", "train"]}
    folder = published("names", split=split, read_as="stream", evaluate=["valid", "test"])
    lines = (data / "names.txt").read_text().splitlines(keepends=True)
    random.Random(42).shuffle(lines)
    expected = {"test": lines[:1000], "valid": lines[1000:2000], "train": lines[2000:]}
    assert {name: content(folder, name).decode() for name in NAMES} == {k: "".join(v) for k, v in expected.items()}
    assert counts(folder) == {"train": 1, "valid": 1, "test": 1} and SplitText.open(folder, "train").stream


def test_the_split_of_all_of_shakespeare(published, data):
    folder = published("shakespeare", split={"train": 4000000, "valid": 573338, "test": 0}, evaluate=["valid"])
    whole = (data / "shakespeare_reconstructed.txt").read_bytes()
    assert (content(folder, "train"), content(folder, "valid")) == (whole[:4000000], whole[4000000:])
    assert len(content(folder, "valid")) == 573338 and content(folder, "test") == b""


def test_the_split_of_tiny_shakespeare(published, data):
    folder = published("tinyshakespeare", split={"train": 0.9, "valid": 0.1, "test": 0.0}, evaluate=["valid"])
    whole = (data / "tinyshakespeare.txt").read_bytes()
    border = int(0.9 * len(whole))
    assert (content(folder, "train"), content(folder, "valid")) == (whole[:border], whole[border:])


def test_stories_keep_their_separators(published, data):
    folder = published("tinystories")  # one part of two: the train slice
    assert b"".join(sorted(content(folder, n) for n in NAMES)) != b"" and sum(counts(folder).values()) == 5611
    assert all("<|endoftext|>" not in text for text in documents(folder, "valid"))
    assert sum(len(content(folder, n)) for n in NAMES) == (data / "tinystories_slice_train.txt").stat().st_size


def test_a_download_with_a_flipped_bit_is_refused(tmp_path):
    raw = tmp_path / "raw.txt"
    artifacts.save_bytes(raw, b"emma\nolivia\nava\n" * 9, {"download": {"variant": "original"}})
    raw.write_bytes(raw.read_bytes().replace(b"emma", b"emna", 1))
    message = refusal(prepare, Corpus(source="names"), [raw], tmp_path / "out", MADE)
    assert message.startswith(f"{raw}: its sha256 is") and not (tmp_path / "out" / "corpus.json").exists()


# Every byte once


@pytest.mark.parametrize("order", [["train", "valid", "test"], ["test", "train", "valid"]])
@pytest.mark.parametrize("keys", [{}, {"documents": "lines", "split": {"shuffle_seed": None}}])
def test_the_splits_of_a_text_are_the_text(cut, order, keys):
    folder = cut(ODD, documents=keys.get("documents"), split={**keys.get("split", {}), "order": order})
    assert b"".join(content(folder, name) for name in order) == ODD.encode()


def test_shuffled_lines_are_the_same_lines(cut):
    folder = cut(ODD + "no newline at the end", documents="lines")
    lines = [line for name in NAMES for line in documents(folder, name)]
    assert sorted(lines) == sorted((ODD + "no newline at the end").split("\n"))
    assert sum(len(content(folder, name)) for name in NAMES) == len((ODD + "no newline at the end").encode())


def test_separated_documents_stay_whole(cut):
    texts = [f"story {n}\n\nof é lines" for n in range(20)]
    folder = cut("".join(f"{text}\n<|endoftext|>\n" for text in texts), documents="separator")
    assert sorted(text for name in NAMES for text in documents(folder, name)) == sorted(texts)
    assert counts(folder) == {"train": 16, "valid": 2, "test": 2}


def test_a_character_is_never_cut(cut):
    folder = cut("é" * 10 + "語" * 10 + "🙂" * 10, split={"train": 5, "valid": 7, "test": 18})
    assert [content(folder, name).decode() for name in NAMES] == ["é" * 5, "é" * 5 + "語" * 2, "語" * 8 + "🙂" * 10]
    facts = artifacts.load_json(folder / "corpus.json")["splits"]
    assert [facts[name]["characters"] for name in NAMES] == [5, 7, 18]


def test_a_test_part_may_be_empty(cut):
    for number, keys in enumerate(({}, {"documents": "lines"})):
        folder = cut(ODD * (number + 1), split={"train": 0.9, "valid": 0.1, "test": 0}, evaluate=["valid"], **keys)
        assert content(folder, "test") == b"" and documents(folder, "test") == []
        assert list(SplitText.open(folder, "test").batches()) == []


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_two_equal_preparations_are_equal_bytes(cut):
    first = {path.name: path.read_bytes() for path in files(cut(ODD, documents="lines"))}
    second = {path.name: path.read_bytes() for path in files(cut(ODD, documents="lines"))}
    assert first == second and len(first) == 14


def test_the_seed_of_the_shuffle_matters(cut):
    text = "".join(f"{n}\n" for n in range(100))
    first, second = (documents(cut(text, documents="lines", split={"shuffle_seed": n}), "test") for n in (1, 2))
    assert first != second and len(first) == 10


def test_embedded_text_does_not_depend_on_the_sizes_before_it(tmp_path):
    for count in (100, 200):
        prepare(Corpus(source="coined", count=count), [], tmp_path / str(count), MADE)
    few, many = (documents(tmp_path / str(count), "train") for count in (100, 200))
    assert len(few) == 80 and many[:80] == few


# Sizes


@pytest.mark.parametrize(
    ("total", "sizes", "expected"),
    [
        (32033, [0.8, 0.1, 0.1], [25626, 28829, 32033]),
        (1115394, [0.9, 0.1, 0], [1003854, 1115394, 1115394]),
        (10, [0.7, 0.2, 0.1], [7, 9, 10]),
        (10, [0.6, 0.3, 0.1], [6, 9, 10]),
        (10, [0.1, 0.2, 0.3], [1, 3, 6]),
        (10, [3, 3, 3], [3, 6, 9]),
        (10, [1.0, 0, 0], [10, 10, 10]),
    ],
)
def test_borders_by_hand(total, sizes, expected):
    assert borders(total, sizes, "") == expected


@given(st.integers(3, 10**9), st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(lambda p: 0 < sum(p) <= 100))
def test_borders_are_in_order_and_within_the_text(total, percent):
    ends = borders(total, [part / 100 for part in percent], "")
    assert all(a <= b for a, b in pairwise([0, *ends, total])) and (sum(percent) < 100 or ends[-1] == total)
    assert all(abs(end - sum(percent[: n + 1]) * total / 100) <= 1 for n, end in enumerate(ends))


def test_sizes_beyond_64_bits_are_more_than_any_text_has(cut):
    message = refusal(cut, "abcdefghij", split={"train": 1e19, "valid": 1, "test": 1})
    assert message.endswith("asks for 10,000,000,000,000,000,002 in all, the text has 10; lower the counts")


def test_more_than_the_text_has_is_refused(cut):
    message = refusal(cut, "abcdefghij", split={"train": 9, "valid": 1, "test": 1})
    assert message.endswith("text.txt: split: asks for 11 in all, the text has 10; lower the counts")
    message = refusal(cut, "a\nb\nc\n", documents="lines", split={"train": 2, "valid": 1, "test": 1})
    assert message.endswith("split: asks for 4 in all, the text has 3; lower the counts")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("some text")
    corpus = Corpus(path=str(tmp_path / "file"))
    message = refusal(prepare, corpus, [tmp_path / "file"], tmp_path / "file" / "out", MADE)
    assert "cannot be written (its folder is a file)" in message


# Pieces


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 1 << 20])
@pytest.mark.parametrize("keys", [{}, {"documents": "lines"}, {"documents": "lines", "read_as": "stream"}])
def test_pieces_of_any_size_are_the_same_text(cut, monkeypatch, size, keys):
    folder = cut(ODD, split={"shuffle_seed": None}, **keys)
    whole = {name: SplitText.open(folder, name) for name in NAMES}
    monkeypatch.setattr(splits, "PIECE", size)
    for name in NAMES:
        pieces = [piece for batch in whole[name].batches() for piece in batch]
        assert "".join(text + "\n" * (end or 0) for text, end in pieces).encode() == content(folder, name)
        assert all((end is None) == whole[name].stream for _, end in pieces)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), st.integers(1, 9))
def test_the_streaming_cut_never_changes_text(text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "PIECE", size)
        for whole_words in (False, True):
            assert "".join(splits.stream_pieces(io.BytesIO(text.encode()), whole_words)) == text


def test_a_stream_is_cut_after_newlines_where_there_are_any(cut, monkeypatch):
    folder = cut("one two\n" * 50, split={"train": 1.0, "valid": 0, "test": 0}, evaluate=["train"])
    monkeypatch.setattr(splits, "PIECE", 30)
    pieces = documents(folder, "train")
    assert len(pieces) > 5 and all(piece.endswith("\n") for piece in pieces)


def test_many_documents_come_in_several_batches(cut, monkeypatch):
    folder = cut("".join(f"{n}\n" for n in range(500)), documents="lines", split={"shuffle_seed": None})
    monkeypatch.setattr(splits, "PIECE", 64)
    batches = list(SplitText.open(folder, "train").batches())
    assert len(batches) > 10 and [p.text for b in batches for p in b] == [str(n) for n in range(400)]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_characters_are_counted_from_bytes(text):
    assert count_characters(text.encode()) == len(text)


def test_a_changed_split_is_refused(cut):
    folder = cut(ODD)
    size = text_path(folder, "train").stat().st_size
    text_path(folder, "train").write_bytes(b"x" * size)
    assert "its sha256 is" in refusal(SplitText.open, folder, "train")
    text_path(folder, "train").write_bytes(b"changed")
    assert "not where the documents of train.txt end" in refusal(SplitText.open, folder, "train")


def test_splits_are_cut_in_the_order_of_the_config(cut):
    folder = cut("abcdefghij", split={"train": 0.5, "valid": 0.3, "test": 0.2, "order": ["test", "valid", "train"]})
    assert [content(folder, name) for name in ("test", "valid", "train")] == [b"ab", b"cde", b"fghij"]
    assert Split().order == ["train", "valid", "test"]


# A text that changes meanwhile


def test_a_text_that_changed_since_the_run_began_is_refused(tmp_path):
    path = tmp_path / "my.txt"
    path.write_text("one two three\n" * 50)
    content = contents.combined({"my.txt": sha256_of(path)})
    prepare(Corpus(path=str(path)), [path], tmp_path / "out", MADE, content)
    path.write_text("two one three\n" * 50)
    with pytest.raises(UserError, match=r"my\.txt: changed since the run began; .*; start snakemake again"):
        prepare(Corpus(path=str(path)), [path], tmp_path / "out", MADE, content)


def test_a_missing_separator_names_the_text_of_the_user(tmp_path):
    path = tmp_path / "my.txt"
    path.write_text("one\n\ntwo\n" * 20)
    with pytest.raises(UserError, match=r"^\S*/my\.txt: no line is '---'; each document ends with that line"):
        prepare(Corpus(path=str(path), documents="separator", separator="---"), [path], tmp_path / "out", MADE)
