"""Hostile texts on the whole way from a file to scores: one line, or every byte of the split is scored and given back.

Each text goes through the commands that the rules call: prepare, then for four tokenizers tokenize, fit a bigram and
evaluate. ``LMSTAGES_FUZZ_TEXTS`` says how many texts are tried.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import unicodedata
import zipfile
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import pytest
from fuzzing import at_most

import lmstages
from lmstages import cli
from lmstages.config.reading import read_run
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora.forecast import forecast
from lmstages.corpora.splits import NAMES, SplitText
from lmstages.evaluation import score_files
from lmstages.tokenizers import WhitespaceTokenizer, streams

SECONDS = 60  # one text, on a busy machine
COUNT = int(os.environ.get("LMSTAGES_FUZZ_TEXTS", "300"))
FAST = COUNT // 10
COUNTS = [FAST, pytest.param(COUNT - FAST, marks=pytest.mark.slow)]
TOKENIZERS = {
    "byte": {"kind": "byte"},
    "char": {"kind": "char"},
    "bpe": {"kind": "bpe", "vocab_size": 262},
    "word": {"kind": "word", "vocab_size": 258},
    "whitespace": {"kind": "whitespace"},
    "closed": {"kind": "whitespace", "closed": True, "alphabet": "corpus"},
}
SEPARATORS = ("<|endoftext|>", "\x1e", "é", " ", "---")
SPLITS = (
    {"train": 0.6, "valid": 0.2, "test": 0.2},
    {"train": 0.6, "valid": 0.2, "test": 0.2, "shuffle_seed": None},
    {"train": 0.5, "valid": 0.25, "test": 0.25, "order": ["test", "train", "valid"]},
)
ALPHABETS = (  # code points that a text is drawn from
    range(0x20, 0x7F),
    range(0x61, 0x65),
    range(1, 0x20),  # controls
    range(0x80, 0x100),
    range(0x300, 0x370),  # combining marks
    range(0x5D0, 0x5EB),
    range(0x4E00, 0x9FFF),
    range(0xE000, 0xF8FF),  # private use
    range(0xFFF0, 0x10000),  # not characters, for ever
    range(0x1F300, 0x1FAFF),
    range(0x20000, 0x2A6DF),
    range(0xE0000, 0xE007F),
    range(0x10FF00, 0x110000),
    [0x200B, 0x200D, 0x200E, 0x202E, 0x2028, 0x2029, 0x85, 0xFEFF, 0xFFFD],
    [0x41, 0x30A, 0xC5, 0x212B, 0xFB01, 0x66, 0x69],  # alike after normalisation
    range(0x110000),
)
NEWLINES = ("\n", "\n\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "")


def characters(draws, count):
    """Characters of one to three alphabets, among which newlines of one to three kinds."""
    alphabets = [ALPHABETS[index] for index in draws.integers(len(ALPHABETS), size=draws.integers(1, 4))]
    newlines = [NEWLINES[index] for index in draws.integers(len(NEWLINES), size=draws.integers(1, 4))]
    points = [points[draws.integers(len(points))] for points in alphabets for _ in range(count // len(alphabets))]
    text = "".join(
        chr(points[index]) for index in draws.permutation(len(points)) if not 0xD800 <= points[index] < 0xE000
    )
    pieces = re.findall(f".{{1,{draws.integers(1, 80)}}}", text, re.DOTALL)
    return "".join(piece + newlines[draws.integers(len(newlines))] for piece in pieces)


def planes(draws):
    return characters(draws, int(draws.integers(1, 3000))).encode()


def words(draws):
    vocabulary = [characters(draws, int(draws.integers(1, 9))) or "a" for _ in range(draws.integers(1, 400))]
    chosen = draws.integers(len(vocabulary), size=int(draws.integers(10, 3000)))
    return " ".join(vocabulary[index] for index in chosen).encode()


def newlines_only(draws):
    return str(draws.choice(NEWLINES[:-1])).encode() * int(draws.integers(1, 2000))


def one_line(draws):
    """A line of few characters, one in four of a megabyte."""
    size = 1 << (20 if draws.random() < 0.25 else 14)
    piece = characters(draws, int(draws.integers(1, 40))).replace("\n", " ") or "a"
    return piece.encode() * (size // len(piece.encode()) + 1)


def tiny(draws):
    return "".join(
        map(chr, draws.choice([0x41, 0x42, 10, 13, 0x20, 0xE9, 0x1F642], int(draws.integers(0, 6))))
    ).encode()


def bytes_at_random(draws):
    return draws.bytes(int(draws.integers(0, 6 if draws.random() < 0.5 else 400)))


def broken(draws):
    """UTF-8 with one wrong byte, half a character, a NUL or a byte-order mark at any place, or cut anywhere."""
    text = planes(draws) or b"a"
    position = int(draws.integers(len(text)))
    piece = [
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\x80",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xfe\xff",
        b"\xe2\x80",
    ]
    if draws.random() < 0.3:
        return text[:position]
    if draws.random() < 0.3:
        return piece[draws.integers(len(piece))] + text
    return text[:position] + piece[draws.integers(len(piece))] + text[position:]


def repeated(draws):
    return (planes(draws)[:40].decode(errors="ignore") or "ab").encode() * int(draws.integers(2, 400))


def packed(draws):
    """A packed file, or one in another encoding, cut at any place."""
    text, content = planes(draws), io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", text)
    kinds = [gzip.compress(text), bz2.compress(text), lzma.compress(text), content.getvalue()]
    kinds += [text.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-32-be")]
    kinds += [
        b"\x28\xb5\x2f\xfd\x24" + text,
        b"\x93NUMPY\1\0" + text,
        b"%PDF-1.7\n" + text,
        b"PAR1" + text,
        b"\x89PNG\r\n" + text,
    ]
    chosen = kinds[draws.integers(len(kinds))]
    return chosen[: int(draws.integers(1, len(chosen) + 1)) if draws.random() < 0.7 else len(chosen)]


def separated(draws):
    """Documents with separators at odd places: doubled, first, last, within a line, without an end."""
    separator = str(draws.choice(SEPARATORS))
    pieces = [planes(draws).decode()[: draws.integers(0, 60)] for _ in range(draws.integers(1, 40))]
    ends = [
        f"\n{separator}\n",
        separator,
        f"{separator}\n",
        f"\n{separator} \n",
        f"\n{separator}\r\n",
        f"\n\n{separator}\n",
    ]
    return "".join(piece + ends[draws.integers(len(ends)) if draws.random() < 0.3 else 0] for piece in pieces).encode()


def like_json(draws):
    """Lines of JSON, of which some are none."""
    rows = [
        {"text": planes(draws).decode()[: draws.integers(0, 50)], "n": int(number)}
        for number in draws.integers(9, size=40)
    ]
    return "\n".join(
        json.dumps(row, ensure_ascii=bool(draws.integers(2)))[: draws.integers(1, 120)] for row in rows
    ).encode()


def normal_forms(draws):
    """The same words composed and decomposed."""
    text = characters(draws, 300)
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    return "\n".join(forms * int(draws.integers(1, 4))).encode()


SORTS = (
    planes,
    planes,
    words,
    words,
    newlines_only,
    tiny,
    bytes_at_random,
    broken,
    repeated,
    packed,
    separated,
    like_json,
)
SORTS += (normal_forms, one_line)


@pytest.mark.parametrize("count", COUNTS)
def test_a_hostile_text_is_one_line_or_scored_and_given_back_whole(tmp_path, monkeypatch, capsys, count):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power fails here
    monkeypatch.setattr(cli, "parser", cache(cli.parser))  # made once for thousands of commands
    draws, scored, refused = np.random.default_rng(count), 0, 0
    for number in range(count):
        sort = SORTS[number % len(SORTS)]
        content = sort(draws)
        with at_most(SECONDS):
            experiments = through(tmp_path / str(number), content, drawn_config(draws), capsys)
        scored += experiments
        refused += not experiments
    assert scored > count and refused > count // 20


def drawn_config(draws):
    corpus = {"path": "my.txt", "newlines": str(draws.choice(["refuse", "keep", "unix"]))}
    corpus |= {
        "documents": str(draws.choice(["stream", "lines", "separator"])),
        "separator": str(draws.choice(SEPARATORS)),
    }
    split = SPLITS[draws.integers(len(SPLITS))]
    if corpus["documents"] != "stream":
        corpus |= {"read_as": str(draws.choice(["documents", "stream"]))}
        split = split | {"deduplicate": bool(draws.integers(2)) and corpus["read_as"] == "documents"}
    tokenizers = {
        name: {**keys, "alphabet": str(draws.choice(["train", "corpus"]))} for name, keys in TOKENIZERS.items()
    }
    models = {
        "bigram": {
            "padded": bool(draws.integers(2)),
            "scoring": {"protocol": str(draws.choice(["stream", "whole", "disjoint"]))},
        }
    }
    corpora = {"my": {**corpus, "split": split, "evaluate": ["train", "valid", "test"]}}
    return {"corpora": corpora, "tokenizers": tokenizers, "models": models, "sampling": {"count": 1, "length": 5}}


def through(folder, content, config, capsys):
    """The number of experiments that have scores; what has none says why in one line."""
    folder.mkdir()
    os.chdir(folder)
    (folder / "my.txt").write_bytes(content)
    run = read_run([], config)
    expected = foreseen(run)
    raw = ("--raw", "my.txt", "--out", "text", "--section", run.prepare_section("my"))
    if not done(capsys, "prepare", *raw):
        assert expected, "what prepare refuses is said before the first job"
        return 0
    content = unpacked(content)
    whole = content.replace(b"\r\n", b"\n") if config["corpora"]["my"]["newlines"] == "unix" else content
    must_be_cut_without_loss(folder, whole, config["corpora"]["my"])
    return sum(experiment(folder, run, name, capsys) for name in TOKENIZERS)


def unpacked(content):
    """What prepare reads of a file that one of three programs has packed."""
    for magic, unpack in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\xfd7zXZ", lzma.decompress)):
        if content.startswith(magic) and not content.isascii():
            return unpack(content)
    return content


def foreseen(run):
    """What the Snakefile says before the first job; empty where nothing is wrong."""
    try:
        forecast(run)
    except UserError as error:
        must_be_one_line(f"lmstages: error: {error}\n")
        return str(error)
    return ""


def must_be_one_line(text):
    assert text.startswith("lmstages: error: ") and text.count("\n") == 1 and "bug" not in text, text
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in text[:-1])


def done(capsys, *command):
    """Whether a command ends well; if not, it says so in one line that names the text or a tokenizer."""
    code = cli.main([str(argument) for argument in command])
    errors = capsys.readouterr().err
    assert "Traceback" not in errors, errors
    lines = [line for line in errors.splitlines(keepends=True) if not line.startswith("[")]
    for line in lines:
        must_be_one_line(line)
        assert re.search(r"my\.txt|tokenizer|text too short", line)
    assert code == 0 or len(lines) == 1
    return code == 0


def must_be_cut_without_loss(folder, content, corpus):
    """The splits are the text's documents, each once; without shuffling and leaving out, the text itself."""
    parts = {name: (folder / "text" / f"{name}.txt").read_bytes() for name in NAMES}
    for name, part in parts.items():
        part.decode()
        assert int(next(iter(SplitText.open(folder / "text", name).ends[-1:]), 0)) == len(part)
    split = corpus["split"]
    if corpus["documents"] == "stream" or (split.get("shuffle_seed", 1) is None and not split["deduplicate"]):
        joined = b"".join(parts[name] for name in split.get("order", NAMES))
        assert content.startswith(joined) and sum(map(split.get, NAMES)) == 1 and len(joined) == len(content)
    assert sum(map(len, parts.values())) <= len(content)


def experiment(folder, run, tokenizer, capsys):
    """1 where the bigram has scores on all splits, which cover every byte; 0 where a status says why not."""
    tokens, out = folder / tokenizer / "tokens", folder / tokenizer / "bigram" / "seed0"
    options = ("--layout", run.layout("my"), "--out", tokens, "--section", run.tokenize_section(tokenizer))
    assert done(capsys, "tokenize", "--keep-going", "--text", "text", *options)
    assert done(capsys, "fit", "--tokens", tokens, "--out", out, "--section", run.fit_section("bigram"))
    paths = ("--model", out / "model.safetensors", "--tokens", tokens, "--text", "text", "--out", out)
    assert done(capsys, "evaluate", *paths, "--section", run.evaluate_section("my", "bigram"))
    status = artifacts.load_json(out / "evaluation.json")["status"]
    if status != "ok":
        must_be_one_line(f"lmstages: error: {status}\n")
        return 0
    must_give_back_the_text(folder, tokens)
    scores = score_files.load_experiment(out)
    assert set(scores) == set(NAMES)
    for name, scored in scores.items():
        content = (folder / "text" / f"{name}.txt").read_bytes()
        assert scored.lengths.sum(dtype=np.int64) == len(content) and scored.skipped == 0
        assert scored.characters == len(content.decode())
        assert np.isfinite(scored.log_probs).all() and (scored.log_probs <= 0).all()
    must_score_alike_from_python(out, folder / "text", scores["test"])
    return 1


def must_score_alike_from_python(experiment, text, scores):
    """The loaded model gives every token of test its score, and words and lines the same sums."""
    split, content = SplitText.open(text, "test"), (text / "test.txt").read_bytes()
    if not split.stream and not all(content[end - 1 : end] == b"\n" for end in split.ends.tolist()):
        return  # a document that lost its end, since it was the last of the file, lies before another
    model = lmstages.load(experiment)
    tokens, words, lines = (model.score(content.decode(), per=per) for per in ("token", "word", "line"))
    assert np.allclose(tokens.nats, -scores.log_probs, rtol=1e-5, atol=1e-4)
    for frame in (words, lines):
        assert np.isclose(frame.nats.sum(), tokens.nats.sum()) and frame.tokens.sum() == len(tokens)


def must_give_back_the_text(folder, tokens):
    """Each document's tokens give back its text; a token that stands for unknown text covers bytes of its own."""
    tokenizer = streams.read_tokenizer(tokens)
    for name in NAMES:
        content = (folder / "text" / f"{name}.txt").read_bytes()
        documents, lengths = streams.read_tokens(tokens, name)
        ends = list(accumulate(lengths.tolist(), initial=0))
        assert ends[-1] == len(content) and min(documents.tokens, default=0) >= 0
        assert max(documents.tokens, default=0) < tokenizer.vocab_size
        if tokenizer.escape is None:
            texts, rows = texts_and_tokens(SplitText.open(folder / "text", name), documents)
            assert [tokenizer.decode(row) for row in rows] == texts
        else:
            spans = [content[begin:end] for begin, end in pairwise(ends)]
            covered = set(zip(documents.tokens.tolist(), spans, strict=True))
            assert all(covers(tokenizer, token, span) for token, span in covered)


def texts_and_tokens(text, documents):
    """Each document's text without its separator, and its tokens without the boundary; a stream as one document."""
    texts = list(text.texts())
    rows = [documents.tokens[begin:end].tolist() for begin, end in pairwise(documents.starts.tolist())]
    return (["".join(texts)], [documents.tokens.tolist()]) if text.stream else (texts, [row[:-1] for row in rows])


def covers(tokenizer, token, span):
    """Whether a token covers the bytes that it stands for: its own text, a separator, or any text as the escape."""
    if token == tokenizer.escape:
        return len(span.decode()) >= 1
    if isinstance(tokenizer, WhitespaceTokenizer):  # whose words have no space before them at the beginning of a line
        spellings = {tokenizer.spacing.text(tokenizer.vocabulary[token], is_first) for is_first in (True, False)}
        return span.decode() in spellings or token == 0
    return tokenizer.decode([token]).encode() == span or token == 0
