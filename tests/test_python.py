"""Models from Python and the shell: what they score, predict, sample, fit and save is what a run does."""

import io
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_laws import ONLINE, SMALL, TRAINED

import lmstages
from lmstages.cli import main
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.reading import read_run
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER
from lmstages.evaluation import surprisal
from lmstages.evaluation.opening import OPENERS, Layout
from lmstages.evaluation.python import rows_of
from lmstages.evaluation.score_files import load_scores
from lmstages.models.quantized.derived import DerivedModel

DERIVED = ("llama_q8", "llama_q4", "llama_cpp", "knn")
BOUNDS = {name for name, kind in MODEL_TYPES.items() if kind.is_bound}
WHOLE_BLOCKS = SMALL["llama_q8"]["base"]
MODELS = {
    **{name: keys for name, keys in SMALL.items() if name not in {*DERIVED, *BOUNDS}},
    **{name.replace(", ", "_"): {"type": kind, **keys} for name, (kind, keys) in ONLINE.items()},
    "llama": WHOLE_BLOCKS,
    "llama_q8": {"of": "llama"},
    "llama_q4": {"of": "llama"},
    "knn": {"of": "gpt", "neighbours": 6},
}
CORPORA = {
    "names": {"source": "coined", "count": 120},
    "novel": {"path": "novel.txt", "documents": "stream"},
    "tales": {"path": "tales.txt", "documents": "separator"},
}
CONFIG = {
    "corpora": CORPORA,
    "tokenizers": {"char": {"kind": "char"}, "byte": {"kind": "byte"}, "bpe": {"kind": "bpe", "vocab_size": 300}},
    "models": MODELS,
    "sampling": {"count": 1, "length": 5},
}
FEW = ("kneser_ney", "gpt", "lstm", "ppm_online")  # models of every way of scoring a long row
CASES = [("names", "char", model) for model in MODELS]
CASES += [(corpus, "char", model) for corpus in ("novel", "tales") for model in FEW]
CASES += [("names", tokenizer, model) for tokenizer in ("byte", "bpe") for model in ("bigram", "gpt")]
SENTENCES = ("The café is open.", "It  rains\tagain\n", "“Why?” she said: 你好！")


def written(seed, count):
    draws = np.random.default_rng(seed)
    return [SENTENCES[index] + " ".join(map(str, draws.integers(9, size=3))) for index in draws.integers(3, size=count)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with three texts, and a function that makes the experiment of a case, once."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "novel.txt").write_text("\n".join(written(1, 60)))
    (folder / "tales.txt").write_text("".join(f"{text}\n<|endoftext|>\n" for text in written(2, 60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Project(folder)


class Project:
    def __init__(self, folder):
        self.folder, self.run = folder, read_run([], CONFIG)

    def made(self, *command):
        out = Path(command[command.index("--out") + 1])
        marks = [out / name for name in ("corpus.json", "tokenizer.json", "fit.json", "evaluation.json")]
        index = ("prepare", "tokenize", "fit", "evaluate").index(command[0].replace("derive", "fit"))
        assert marks[index].exists() or main(list(map(str, command))) == 0

    def experiment(self, corpus, tokenizer, model):
        run, root = self.run, self.folder / "results" / corpus
        text, tokens, out = root / "text", root / tokenizer / "tokens", root / tokenizer / model / "seed0"
        raw = ["--raw", CORPORA[corpus]["path"]] if "path" in CORPORA[corpus] else []
        self.made("prepare", *raw, "--out", text, "--section", run.prepare_section(corpus))
        layout = ("--layout", run.layout(corpus), "--section", run.tokenize_section(tokenizer))
        self.made("tokenize", "--text", text, "--out", tokens, *layout)
        section = ("--section", run.fit_section(model))
        if "of" in MODELS[model]:
            base = self.experiment(corpus, tokenizer, MODELS[model]["of"])[0] / "model.safetensors"
            self.made("derive", "--base", base, "--tokens", tokens, "--out", out, *section)
        else:
            self.made("fit", "--tokens", tokens, "--out", out, *section)
        of = ("--model", out / "model.safetensors", "--tokens", tokens, "--text", text)
        self.made("evaluate", *of, "--out", out, "--section", run.evaluate_section(corpus, model))
        return out, text / "test.txt"


def names(case):
    return "-".join(case)


@pytest.mark.parametrize(("corpus", "tokenizer", "model"), CASES, ids=map(names, CASES))
def test_a_loaded_model_scores_the_held_out_text_as_its_experiment_did(project, corpus, tokenizer, model):
    experiment, text = project.experiment(corpus, tokenizer, model)
    scores = load_scores(experiment / "scores.safetensors")["test"]
    frame = lmstages.load(experiment).score(text)
    assert np.allclose(frame.nats, -scores.log_probs, atol=2e-5)
    assert frame.document.tolist() == scores.documents.tolist()
    assert (frame.end_byte - frame.start_byte).tolist() == scores.lengths.tolist()


def test_every_model_of_the_ladder_is_tried():
    tried = {MODELS[name].get("type", name) for name in MODELS}
    assert tried == set(MODEL_TYPES) - {"llama_cpp"} - BOUNDS, "which is saved below, and which score no next token"


# Words and lines


@pytest.fixture(scope="module")
def chars():
    return lmstages.fit("kneser_ney", train=written(3, 80), order=4, progress=False)


@pytest.fixture(scope="module")
def subwords():
    bpe = {"kind": "bpe", "vocab_size": 300}
    return lmstages.fit("bigram", train="\n".join(written(3, 80)), tokenizer=bpe, progress=False)


TEXT = " The café  is open.\nIt\u3000rains 你好 \n\n“Why?”"


@pytest.mark.parametrize("documents", ["stream", "lines", "separator"])
@pytest.mark.parametrize("model", ["chars", "subwords"])
def test_tokens_words_and_lines_cover_the_same_bytes_and_add_up_to_the_same(request, model, documents):
    frames = {
        per: request.getfixturevalue(model).score(TEXT, per=per, documents=documents)
        for per in ("token", "word", "line")
    }
    for frame in frames.values():
        for _, rows in frame.groupby("document"):
            assert [0, *rows.end_byte[:-1]] == rows.start_byte.tolist()
        assert frame.groupby("document").end_byte.max().sum() == len(TEXT.encode())
        assert frame.nats.sum() == pytest.approx(frames["token"].nats.sum(), abs=1e-9)
    assert frames["word"].tokens.sum() == frames["line"].tokens.sum() == len(frames["token"])


def test_a_word_has_the_white_space_before_it_and_an_end_of_document_is_a_row_of_its_own(chars):
    tokens, words = chars.score("It rains\n"), chars.score("It rains\n", per="word")
    assert words.text.tolist() == ["It", "rains", ""] and words.tokens.tolist() == [2, 6, 1]
    expected = [tokens.nats[:2].sum(), tokens.nats[2:8].sum(), tokens.nats[8]]
    assert words.nats.tolist() == pytest.approx(expected) and tokens.text[8] == "\n"


def test_a_text_that_ends_within_a_document_has_no_end_that_is_scored(chars):
    assert chars.score("It rains", per="word").text.tolist() == ["It", "rains"]


def test_words_are_those_of_the_text_whatever_its_script(chars):
    words = chars.score(TEXT, per="word", documents="stream")
    assert [word for word in words.text if word] == TEXT.split()
    content = TEXT.encode()
    spans = [content[begin:end].decode().strip() for begin, end in zip(words.start_byte, words.end_byte, strict=True)]
    assert spans == words.text.tolist()


def test_lines_of_a_stream_end_with_their_line_ends(chars):
    lines = chars.score("It\nrains \n.", per="line", documents="stream")
    assert lines.text.tolist() == ["It", "rains ", "."] and lines.end_byte.tolist() == [3, 10, 11]


def test_a_part_of_a_character_is_written_out():
    model = lmstages.fit("unigram", train="né né", tokenizer="byte", progress=False)
    assert model.score("é").text.tolist() == ["\\xc3", "\\xa9"]


def test_a_character_that_is_not_in_the_vocabulary_costs_its_bytes(chars):
    known = chars.opened.model.next_log_probs(np.zeros((1, 0), dtype=np.int64))[0]
    [row] = chars.score("é!"[1:] and "ẞ").itertuples()
    assert row.token == chars.opened.tokenizer.escape
    assert row.bits == pytest.approx(-known[row.token] / np.log(2) + 8 * 3)


def test_documents_of_several_texts_are_numbered_on(chars):
    frame = chars.score(["It\nrains", "open\n"], per="line", documents="lines")
    assert frame.document.tolist() == [0, 1, 2] and frame.text.tolist() == ["It", "rains", "open"]
    alone = chars.score("open\n", per="line", documents="lines")
    assert frame.nats.iloc[2] == pytest.approx(alone.nats.iloc[0])


def test_a_separator_ends_a_document(chars):
    frame = chars.score("It\nrains\n---\nopen", per="word", separator="---")
    assert frame.document.tolist() == [0, 0, 0, 1] and frame.text.tolist() == ["It", "rains", "", "open"]
    assert frame.end_byte.tolist() == [2, 8, 13, 4]


def test_an_empty_text_has_no_rows_but_columns(chars):
    frame = chars.score("", per="word")
    assert len(frame) == 0 and frame.dtypes.astype(str).to_dict()["nats"] == "float64" and "bits" in frame


# Long documents


@pytest.mark.parametrize("per", ["token", "word", "line"])
@pytest.mark.parametrize("model", FEW)
def test_a_document_in_many_pieces_scores_as_in_one(project, monkeypatch, model, per):
    experiment, text = project.experiment("novel", "char", model)
    fitted = lmstages.load(experiment)
    whole = fitted.score(text, per=per)
    monkeypatch.setattr("lmstages.corpora.splits.PIECE", 37)
    monkeypatch.setattr(surprisal, "TOKENS", 50)
    in_pieces = fitted.score(text, per=per)
    assert len(whole) > 5 and in_pieces.drop(columns=["nats", "bits"]).equals(whole.drop(columns=["nats", "bits"]))
    assert np.allclose(in_pieces.nats, whole.nats, atol=2e-5)


def test_a_model_without_a_state_reads_a_long_document_as_a_whole(project, monkeypatch):
    experiment, text = project.experiment("novel", "char", "ppm_online")
    fitted = lmstages.load(experiment)
    whole = fitted.score(text)
    monkeypatch.setattr("lmstages.corpora.splits.PIECE", 37)
    monkeypatch.setattr(surprisal, "Continuing", type(None))
    assert np.allclose(fitted.score(text).nats, whole.nats)
    monkeypatch.setattr(surprisal, "LONGEST_DOCUMENT", 50)
    with pytest.raises(UserError, match=r"model ppm: reads a document of more than 50 tokens as a whole; give shorter"):
        fitted.score(text)


def test_memory_does_not_grow_with_the_text(chars, monkeypatch):
    """Of a stream without end, rows come after a bounded number of bytes."""
    monkeypatch.setattr("lmstages.corpora.splits.PIECE", 1 << 14)
    monkeypatch.setattr(surprisal, "TOKENS", 1 << 12)
    read = []

    def endless():
        while True:
            read.append(1)
            yield b"It rains again. " * 256

    rows = rows_of(chars.opened, [("endless", endless())], "word", Layout(documents="stream"))
    for _ in range(30_000):
        row = next(rows)
    assert row.end_byte > 150_000 and len(read) * 4096 < row.end_byte + 4 * (1 << 14)


def test_a_line_and_a_word_without_end_are_refused(chars, monkeypatch):
    monkeypatch.setattr(surprisal, "LONGEST_DOCUMENT", 1000)
    with pytest.raises(UserError, match=r"text: a line has more than 1,000 bytes; read the text as one document"):
        chars.score(["x" * 1001])
    with pytest.raises(UserError, match=r"text: document 1 has more than 1,000 bytes"):
        chars.score("a\n---\n" + "x\n" * 600, separator="---")
    monkeypatch.setattr(surprisal, "LONGEST_UNIT", 100)
    monkeypatch.setattr("lmstages.corpora.splits.PIECE", 64)
    with pytest.raises(UserError, match=r"a word or a line of more than 100 bytes from byte 0; words end .* per token"):
        chars.score("x" * 300, per="word", documents="stream")


# Prediction and samples


def test_the_next_tokens_are_those_of_the_model_the_likeliest_first(chars):
    frame = chars.next("It rain", top=5)
    assert frame.text[0] == "s" and frame.probability.is_monotonic_decreasing and len(frame) == 5
    assert chars.next(top=10_000).probability.sum() == pytest.approx(1)
    assert chars.score("It rains").nats.iloc[-1] == pytest.approx(frame.nats[0])
    assert chars.next("other line\nIt rain", top=5).equals(frame), "another document does not matter"


def test_samples_are_those_of_the_seed_and_continue_the_prompt(chars):
    sample = chars.sample("It ", temperature=0.5, top_k=3, top_p=0.9, length=12, seed=4)
    assert sample.startswith("It ") and 3 < len(sample) <= 15
    assert sample == chars.sample("It ", temperature=0.5, top_k=3, top_p=0.9, length=12, seed=4)
    assert len({chars.sample(seed=seed) for seed in range(5)}) > 1


# A fit without a run


@pytest.mark.parametrize("model", ["kneser_ney", "context_mixing", "lstm", "gpt"])
@pytest.mark.parametrize("documents", ["stream", "lines"])
def test_a_fit_gives_the_bytes_that_the_workflow_gives(tmp_path, monkeypatch, model, documents):
    monkeypatch.chdir(tmp_path)
    texts = {name: "\n".join(written(seed, 40)) for seed, name in enumerate(("train", "valid", "test"))}
    for name, text in texts.items():
        Path(f"{name}.txt").write_text(text)
    corpus = {"files": {name: f"{name}.txt" for name in texts}, "documents": documents}
    config = {"corpora": {"my": corpus}, "tokenizers": {"char": {"kind": "char"}}, "models": {model: SMALL[model]}}
    run = read_run([], config)
    assert main(["prepare", "--out", "text", "--section", run.prepare_section("my")]) == 0
    tokenize = ["--text", "text", "--layout", documents, "--section", run.tokenize_section("char")]
    assert main(["tokenize", *tokenize, "--out", "tokens"]) == 0
    assert main(["fit", "--tokens", "tokens", "--out", "fit", "--section", run.fit_section(model), "--seed", "3"]) == 0
    keys = {"documents": documents, "seed": 3, "progress": False, **SMALL[model]}
    for train, valid in ((Path("train.txt"), "valid.txt"), (texts["train"], texts["valid"])):
        lmstages.fit(model, train=train, valid=valid, **keys).save("saved")
        assert Path("saved/model.safetensors").read_bytes() == Path("fit/model.safetensors").read_bytes()
        assert Path("saved/tokenizer.json").read_bytes() == Path("tokens/tokenizer.json").read_bytes()


def test_a_list_of_documents_is_lines_or_records(chars):
    lines = lmstages.fit("bigram", train=["a b", "c"] * 9, progress=False)
    assert lines.opened.layout.documents == "lines"
    assert (
        lines.opened.model.arrays().keys() == lmstages.fit("bigram", train="a b\nc\n" * 9).opened.model.arrays().keys()
    )
    assert chars.opened.layout.documents == "separator", "one of its documents has a line end"


@pytest.mark.parametrize("name", ["uniform", "kneser_ney", "ppm", "mlp", "gru", "llama", "llama_cpp"])
def test_a_saved_model_is_loaded_as_it_was(tmp_path, name):
    keys = {"llama": WHOLE_BLOCKS, "llama_cpp": {"base": {**WHOLE_BLOCKS, "keep": "last"}}}.get(name, SMALL[name])
    model = lmstages.fit(name, train="\n".join(written(5, 40)), documents="lines", progress=False, **keys)
    model.save(tmp_path / "saved")
    loaded = lmstages.load(str(tmp_path / "saved"))
    assert loaded.score(TEXT).equals(model.score(TEXT)) and loaded.opened.layout == model.opened.layout
    assert loaded.sample(seed=2) == model.sample(seed=2)
    assert repr(loaded) == f"<{name} of {model.opened.model.vocab_size:,} tokens, {tmp_path / 'saved'}>"


def test_a_long_fit_says_how_far_it_is_and_a_fit_without_progress_nothing(capsys, monkeypatch):
    monkeypatch.setattr(LOGGER, "handlers", [])  # no command has set up logging
    lmstages.fit("gpt", train="\n".join(written(5, 40)), **SMALL["gpt"])
    assert "[fit] step" in capsys.readouterr().err
    lmstages.fit("gpt", train="\n".join(written(5, 40)), progress=False, **SMALL["gpt"])
    assert capsys.readouterr() == ("", "")


# Checkpoints of others


@pytest.fixture(scope="module")
def exported(project):
    experiment, text = project.experiment("novel", "char", "llama")
    for to in ("hf", "gguf"):
        assert main(["export", str(experiment / "model.safetensors"), "--to", to, "--out", f"llama.{to}"]) == 0
    return experiment, text


@pytest.mark.parametrize("path", ["llama.hf", "llama.gguf"])
def test_a_checkpoint_scores_as_the_model_that_it_was_exported_from(exported, path):
    experiment, text = exported
    ours, theirs = lmstages.load(experiment), lmstages.load(path)
    shared = "".join(character for character in text.read_text() if character in ours.opened.tokenizer.alphabet)
    assert np.allclose(ours.score(shared).nats, theirs.score(shared).nats, atol=1e-4)
    assert theirs.sample("The ", length=9, seed=1).startswith("The ")
    with pytest.raises(UserError, match=r"cannot save .*llama.* which was not fitted here; copy its files instead"):
        theirs.save("copy")


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.score("a", per="wrd"), r"per: 'wrd' found \(did you mean 'word'\?\); allowed: token, word, line"),
        (lambda m: m.score("a", documents="files"), r"documents: 'files' found.*; allowed: stream, lines, separator"),
        (lambda m: m.score(3.5), r"text: 3.5 found; a text, the Path of a file, or a list of texts"),
        (lambda m: m.score(["a", 3]), r"text: 3 found; a text, the Path of a file, or a list of texts"),
        (lambda m: m.score("a\ud800"), r"text: character 1 is half a character"),
        (lambda m: m.score(Path("none.txt")), r"none.txt: "),
        (lambda m: m.next(3), r"prefix: 3 found; a text"),
        (lambda m: m.next(top=0), r"top: 0 found; a whole number from 1 on"),
        (lambda m: m.sample(temperature=-1.0), r"sample.temperature: -1.0 found; input should be greater than 0"),
        (lambda m: m.sample(seed=-1), r"sample.seed: -1 found"),
        (lambda m: lmstages.load("nowhere"), r"nowhere: no such folder or file.*; allowed: an experiment results/RUN"),
        (lambda m: lmstages.load(__file__), r"test_python.py: is no model; allowed: an experiment"),
        (lambda m: lmstages.load(".", device="tpu"), r"device: 'tpu' found.*; allowed: auto, cpu, cuda, mps"),
        (lambda m: lmstages.fit("gtp", train="ab"), r"fit: unknown model 'gtp' \(did you mean 'gpt'\?\)"),
        (lambda m: lmstages.fit("gpt", train="ab", widht=3), r"fit: unknown key 'widht' \(did you mean 'width'\?\)"),
        (
            lambda m: lmstages.fit("gpt", train="ab", keep="best"),
            r"fit: keep: best chooses on valid, which is not given",
        ),
        (lambda m: lmstages.fit("gpt", train="ab", width=-3), r"fit: width: -3 found; input should be greater than"),
        (lambda m: lmstages.fit("bigram", train="my.txt"), r"train: no such file 'my.txt'; a path, or a text"),
        (lambda m: lmstages.fit("bigram", train="a"), r"fit: train.txt: only 1 character; needs at least 2"),
        (lambda m: lmstages.fit("bigram", train=[]), r"fit: train.txt: empty"),
        (lambda m: lmstages.fit("bigram", train=["a", 3]), r"fit: a document is 3; a list of documents holds texts"),
        (lambda m: lmstages.fit("bigram", train=3), r"train: 3 found; a text, a path, or a list of documents"),
        (lambda m: lmstages.fit("bigram", train="ab", tokenizer="wrd"), r"tokenizer.kind: the text 'wrd' found"),
        (lambda m: lmstages.fit("bigram", train="ab", seed=-1), r"seed: -1 found; a whole number from 0 on"),
        (lambda m: lmstages.fit("gpt", train="abc def"), r"text too short: the train part has 7 tokens"),
        (lambda m: lmstages.fit("bigram", train="ab", documents="line"), r"fit.documents: the text 'line' found"),
    ],
)
def test_a_mistake_is_one_line(chars, tmp_path, monkeypatch, call, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        call(chars)
    assert "\n" not in str(caught.value) and "lmstages-" not in str(caught.value)


def test_a_folder_above_names_the_experiments_in_it(project):
    experiment, _ = project.experiment("novel", "char", "kneser_ney")
    project.experiment("novel", "char", "gpt")
    with pytest.raises(UserError, match=r"char: is no model, but .*char/gpt/seed0, .*; allowed: an experiment"):
        lmstages.load(experiment.parents[1])


def test_a_damaged_model_is_refused(tmp_path):
    model = lmstages.fit("bigram", train="abc abd", progress=False)
    model.save(tmp_path / "saved")
    (tmp_path / "saved/model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"its sha256 is .*, not"):
        lmstages.load(tmp_path / "saved")
    model.save(tmp_path / "saved")
    (tmp_path / "saved/.made/lmstages.json.json").unlink()
    with pytest.raises(UserError, match=r"lmstages.json.json: missing or unreadable"):
        lmstages.load(tmp_path / "saved")


def test_a_saved_model_is_exported(chars, tmp_path):
    lmstages.fit("lstm", train="\n".join(written(5, 40)), progress=False, **SMALL["lstm"]).save(tmp_path / "saved")
    assert main(["export", str(tmp_path / "saved"), "--to", "huggingface", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/tokenizer.json").is_file() and (tmp_path / "out/load.py").is_file()


def test_every_opener_is_tried_once_and_more_can_join():
    assert len(OPENERS) == len({opener for _, opener in OPENERS}) >= 3


# The shell


def written_rows(capsysbinary, *arguments):
    code = main(["score", *map(str, arguments)])
    out, err = capsysbinary.readouterr()
    assert code == 0, err
    return out.decode(), err.decode()


@pytest.fixture(scope="module")
def saved(chars, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    chars.save(folder / "model")
    (folder / "text.txt").write_text(TEXT)
    return folder / "model", folder / "text.txt"


@pytest.mark.parametrize("per", ["token", "word", "line"])
def test_the_shell_writes_the_rows_that_python_has_in_each_format(chars, saved, capsysbinary, per):
    expected = chars.score(TEXT, per=per, documents="lines")
    options = (*saved, "--per", per, "--documents", "lines")
    text, said = written_rows(capsysbinary, *options, "--format", "jsonl")
    exact = [json.loads(line) for line in text.splitlines()]
    for key in expected:
        assert [row[key] for row in exact] == expected[key].tolist()
    assert re.fullmatch(r"\d+ tokens, 51 bytes, \d\.\d{4} bits per byte\n", said)
    assert float(said.split()[-4]) == pytest.approx(expected.bits.sum() / 51, abs=1e-4)
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        lines = written_rows(capsysbinary, *options, "--format", form)[0].splitlines()
        assert lines[0].split(delimiter) == list(expected) and len(lines) == len(expected) + 1
        sums = sum(float(line.rsplit(delimiter, 2)[1]) for line in lines[1:])
        assert sums == pytest.approx(expected.nats.sum(), abs=1e-6)


def test_what_a_spreadsheet_would_run_is_text(saved, capsysbinary, tmp_path):
    (tmp_path / "a.txt").write_text("=1+1 \u202e,\n")
    out, _ = written_rows(capsysbinary, saved[0], tmp_path / "a.txt", "--per", "word", "--documents", "lines")
    assert out.splitlines()[1].startswith("0,'=1+1,0,4") and '"\\u202e,"' in out


def test_the_shell_reads_stdin_and_packed_files(saved, capsysbinary, tmp_path, monkeypatch):
    import gzip

    expected = written_rows(capsysbinary, *saved)
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert written_rows(capsysbinary, saved[0], tmp_path / "text.txt.gz") == expected
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(TEXT.encode())))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert written_rows(capsysbinary, saved[0], "-") == expected


@pytest.mark.parametrize("documents", ["stream", "lines"])
def test_judge_reads_what_score_writes_and_finds_every_byte_once(saved, capsysbinary, tmp_path, documents):
    options = ("--documents", documents)
    out, said = written_rows(capsysbinary, *saved, "--format", "jsonl", *options)
    (tmp_path / "mine.jsonl").write_text(out)
    assert main(["judge", str(tmp_path / "mine.jsonl"), "--text", str(saved[1]), "--unit", "nats", *options]) == 0
    assert f"bits per byte             {said.split()[-4]}\n" in capsysbinary.readouterr().out.decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no text"),
        (b"abc\xff", "not UTF-8: byte 0xff at offset 3"),
        (b"\xef\xbb\xbfabc", "begins with a UTF-8 byte-order mark"),
        (b"PAR1" + bytes(40), "is "),
    ],
)
def test_a_text_that_is_none_is_one_line(saved, capsysbinary, tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    assert main(["score", str(saved[0]), str(tmp_path / "a.txt")]) == 1
    said = capsysbinary.readouterr().err.decode()
    assert said.startswith(f"lmstages: error: {tmp_path}/a.txt: ") and message in said and said.count("\n") == 1


def test_a_reader_that_goes_ends_it_without_a_word(saved, tmp_path):
    (tmp_path / "a.txt").write_text("It rains. " * 20_000)
    command = f"{sys.executable} -m lmstages score {saved[0]} {tmp_path}/a.txt --documents stream | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=300)
    assert done.stdout == "document,text,start_byte,end_byte,token,nats,bits\n" and done.stderr == ""


def test_a_counting_model_is_loaded_and_scored_without_torch(saved):
    script = f"import sys, lmstages; lmstages.load({str(saved[0])!r}).score('It'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_is_derived_is_loaded(project):
    experiment, _ = project.experiment("names", "char", "llama_q8")
    assert isinstance(lmstages.load(experiment).opened.model, DerivedModel)
    assert TRAINED["steps"] == 12, "the networks here are small"


# The documentation

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_page_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "python.md").read_text("utf-8")
    scripts, printed = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "text"))
    code = "\n".join(["import lmstages", *(script for script in scripts if '"results/' not in script)])
    names = {}
    exec(compile(code, "python.md", "exec"), names)  # the page's own code, without that of a finished run
    out = capsys.readouterr().out
    assert out == "".join(printed) and len(printed) == 2
    assert names["model"].opened.name == "names-model"


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last_and_prints_what_is_stored(tmp_path):
    import nbformat

    executed = runpy.run_path(str(DOCS / "notebook.py"))["executed"](tmp_path)
    stored = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    assert texts_of(executed) == texts_of(stored), "python docs/notebook.py writes the outputs anew"
    pictures = [output for cell in executed.cells for output in cell.get("outputs", []) if "image/png" in str(output)]
    assert len(pictures) == 2 and (DOCS / "notebook.ipynb").stat().st_size < 100_000


def texts_of(notebook):
    """What every cell has printed, without pictures."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.get("text") or output["data"]["text/plain"] for output in outputs]
