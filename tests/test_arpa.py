"""N-gram models as ARPA files: read from elsewhere as a row, and written from our counts, without KenLM."""

import bz2
import gzip
import json
import lzma
import math
import os
import re
import sys
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
import zstandard

from lmstages.cli import main
from lmstages.config.hyperparameters.counts import Bigram, KneserNey, Ngram, Uniform, Unigram
from lmstages.config.reading import read_run
from lmstages.config.sections import to_section
from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.corpora import splits
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import pretrained
from lmstages.evaluation.score_files import load_scores
from lmstages.models.base import build
from lmstages.models.external import arpa, arpa_export, arpa_file
from lmstages.models.storage import save_model
from lmstages.results.rows import model_rows
from lmstages.tokenizers import learn, line_words, spelled, streams
from lmstages.tokenizers.line_words import LineWords

SRILM = r"""
\data\
ngram 1=5
ngram  2=       4
ngram 3=2

\1-grams:
-0.6020600 </s>
-99	<s>	-0.4771213
-0.6020600	the	-0.2218487
-0.6020600  cat  -0.0969100
-0.6020600	<UNK>

\2-grams:
-0.1249387	<s> the -0.3010300
-0.2218487 the cat -0.1760913
-0.3979400	cat </s>
-1	the the

\3-grams:
-0.0969100	<s> the cat
-0.2218487	the	cat	</s>
\end\
"""
WORDS = ["</s>", "a", "b", "c", "d", "e", "<unk>"]


def model_in(folder, content):
    path = folder / "model.arpa"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return arpa.model_of(arpa_file.read(path))


def ours(model, folder, words=WORDS):
    """A model of ours after it has been to a file and back."""
    path = folder / "ours.arpa"
    arpa_file.write(path, *arpa_export.with_sentence_ends(words, arpa_export.tables_of(model, path)), {})
    return arpa.model_of(arpa_file.read(path))


def drawn(count, seed, shortest=0):
    draws = np.random.default_rng(seed)
    return Documents.of([[*draws.integers(1, 6, draws.integers(shortest, 9)).tolist(), 0] for _ in range(count)])


def fitted(config, train=None):
    model = build(config, len(WORDS))
    model.fit(train or drawn(200, 0), drawn(50, 1), 0)
    return model


# ---------------------------------------------------------------- reading


def test_a_file_as_srilm_writes_it_by_hand(tmp_path):
    model = model_in(tmp_path, SRILM)
    assert model.words == [b"", b"the", b"cat", b"<unk>"]
    scores = model.score(np.array([[1, 2, 0, 1, 1, 3]])) / math.log(10)
    backed_off = -0.30103 - 1  # the weight of "<s> the", then "the the"
    unknown = -0.60206 - 0.2218487  # "the the" has no weight, "the" has one
    assert scores == pytest.approx(np.array([[-0.1249387, -0.09691, -0.2218487, -0.1249387, backed_off, unknown]]))


def test_a_missing_unknown_word_is_as_improbable_as_kenlm_makes_it(tmp_path):
    model = model_in(tmp_path, SRILM.replace("-0.6020600	<UNK>\n", "").replace("1=5", "1=4"))
    assert model.next_log_probs(np.array([[2]]))[0, -1] == pytest.approx((-100 - 0.09691) * math.log(10))


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress], ids=["gz", "bz2", "xz", "zst"]
)
def test_a_packed_file_is_the_same_model(tmp_path, pack):
    packed, plain = model_in(tmp_path, pack(SRILM.encode())), model_in(tmp_path, SRILM)
    assert all(np.array_equal(packed.arrays()[name], array) for name, array in plain.arrays().items())


MALFORMED = [
    (r"\data" + "\\", "data", r"has no line \data\ ".strip()),
    ("ngram 1=5", "ngram 2=5", "line 3: 'ngram 2=5' found; the next count is that of order 1"),
    ("ngram 1=5", "ngram 1=6", "the section before it has 5 n-grams of order 1; \\data\\ announces ngram 1=6"),
    ("3=2", "3=99999999999999999", "line 23: the section before it has 2 n-grams of order 3"),
    ("-1	the the", "-1 the", "line 18: '-1 the' found; a probability, 2 words, and a back-off weight or none"),
    (
        "-1	the the",
        "one the the",
        "line 18: 'one the the' found; a log10 probability and a back-off weight are numbers",
    ),
    ("-1	the the", "-1 the dog", "line 18: the word 'dog' is none of the 1-grams"),
    ("-1	the the", "0.5 the the", "line 18: 0.5 found; a log10 probability is at most 0"),
    ("-1	the the", "nan the the", "line 18: nan found; a log10 probability is at most 0"),
    ("-1	the the", "-1 the the inf", "line 18: inf found; a back-off weight is finite"),
    ("-1	the the", "-1 the cat", "line 18: the n-gram 'the cat' has stood before"),
    ("-0.6020600  cat", "-0.6 the", "line 11: the word 'the' has stood before"),
    ("<s> the cat", "<s> the cat -1", "n-grams of the highest order have no back-off weight"),
    (r"\2-grams:", r"\3-grams:", r"line 14: '\\3-grams:' found; here begins the section \2-grams:"),
    ("\\end\\\n", "", r"the file ends; after the last section stands \end\ ".strip()),
    ("<s>", "<t>", "has no 1-gram <s>; every sentence begins with <s> and ends with </s>"),
    ("</s>", "</t>", "has no 1-gram </s>"),
    ("\\end\\\n", "\\end\\\n\nmore\n", r"line 25: 'more' found; nothing stands after \end\ ".strip()),
    (r"\data" + "\\", "mmap lm http://kheafield.com/code format version 5", "is of KenLM's binary format"),
]


@pytest.mark.parametrize(("old", "new", "message"), MALFORMED)
def test_a_malformed_file_is_one_line_with_its_number(tmp_path, old, new, message):
    with pytest.raises(UserError) as error:
        model_in(tmp_path, SRILM.replace(old, new).lstrip() if "mmap" in new else SRILM.replace(old, new))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_truncated_gzip_and_a_line_without_end_are_refused(tmp_path):
    with pytest.raises(UserError, match="ends before the end of what gzip packed"):
        model_in(tmp_path, gzip.compress(SRILM.encode())[:-9])
    with pytest.raises(UserError, match="line 1 has more than 1,048,576 bytes"):
        model_in(tmp_path, gzip.compress(b"x" * (1 << 22)))


def naive(path):
    """Back-off by the definition, with a dictionary: words before, word -> log10 probability."""
    listed, order = {}, 0
    for line in path.read_text().split("\n"):
        if match := re.fullmatch(r"\\(\d)-grams:", line):
            order = int(match[1])
        elif order and (fields := line.split()) and not line.startswith("\\"):
            weight = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
            listed[tuple(fields[1 : order + 1])] = (float(fields[0]), weight)

    def log10(history, word):
        if (*history, word) in listed:
            return listed[(*history, word)][0]
        return listed.get(history, (0.0, 0.0))[1] + log10(history[1:], word)

    return lambda history, word: log10(history[-3:], word)


def pruned(content, seed, fraction=0.4):
    """Without some bigrams and what begins with them, although trigrams end in them, as SRILM's pruning leaves it."""
    draws, kept, counts, dropped, order = np.random.default_rng(seed), [], {}, set(), 0
    for line in content.split("\n"):
        if match := re.fullmatch(r"\\(\d)-grams:", line):
            order = int(match[1])
        elif order and (fields := line.split()) and not line.startswith("\\"):
            begins = tuple(fields[1:3])
            if order == 2 and draws.random() < fraction:
                dropped.add(begins)
            if order > 1 and begins in dropped:
                continue
            counts[order] = counts.get(order, 0) + 1
        kept.append(line)
    return re.sub(r"ngram (\d)=\d+", lambda match: f"ngram {match[1]}={counts[int(match[1])]}", "\n".join(kept))


def test_a_pruned_file_is_evaluated_by_the_definition(tmp_path):
    ours(fitted(KneserNey(order=4)), tmp_path)
    content = (tmp_path / "ours.arpa").read_text()
    model = model_in(tmp_path, pruned(content, 5))
    assert len(model.levels[2].keys) > re.search(r"\\2-grams:\n([\s\S]*?)\n\n", pruned(content, 5))[1].count("\n") + 1
    log10, test = naive(tmp_path / "model.arpa"), drawn(60, 2)
    for tokens in np.split(test.tokens, test.starts[1:-1]):
        spelled_out = ["<s>", *(WORDS[token] for token in tokens)]
        expected = [log10(tuple(spelled_out[:t]), spelled_out[t]) for t in range(1, len(spelled_out))]
        assert model.score(tokens[None])[0] / math.log(10) == pytest.approx(expected, abs=1e-12)


def test_a_model_of_a_file_keeps_the_laws(tmp_path):
    model = ours(fitted(KneserNey(order=3)), tmp_path)
    rows = np.random.default_rng(3).integers(0, model.vocab_size, (20, 7))
    scores = model.score(rows)
    assert all(np.allclose(totals, 1, atol=1e-6) for totals in model.sums())
    for t in range(rows.shape[1]):
        log_probs = model.next_log_probs(rows[:, :t])
        assert np.exp(log_probs).sum(-1) == pytest.approx(1, abs=1e-7)
        assert np.allclose(log_probs[np.arange(20), rows[:, t]], scores[:, t], atol=1e-12)
    other = arpa.model_of(arpa_file.read(tmp_path / "ours.arpa"))
    other.levels, other.log_probs, other.backoffs = [], [], []
    other.restore(model.arrays())
    assert np.array_equal(other.score(rows), scores)


# ---------------------------------------------------------------- words of a text


def write_split(folder, content, ends, terminators, stream=False):
    """A held-out text as the stage prepare leaves it."""
    pieces = [content[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    splits.write(folder, "test", iter(pieces), np.array(terminators), stream, {})
    return SplitText.open(folder, "test")


def read_words(folder, text, words):
    spelling = line_words.write_lines(folder, "test", text, words, {})
    arrays = {name: artifacts.load_array(path) for name, path in line_words.files_of(folder, "test").items()}
    return spelling, {name: array.tolist() for name, array in arrays.items()}


LISTED = LineWords([b"", b"a", b"bc", b"<unk>"], (b"<s>", b"</s>"))


def test_words_cover_the_text_and_say_what_they_leave_out(tmp_path):
    content = b"a bc\n\n x  a\t\nbc <s> a"
    text = write_split(tmp_path, content, [len(content)], [0], stream=True)
    spelling, arrays = read_words(tmp_path, text, LISTED)
    assert arrays["tokens"] == [1, 2, 0, 0, 3, 1, 0, 2, 3, 1, 0]
    assert arrays["read"] == [1, 2, 0, 0, 3, 1, 0, 2, 4, 1, 0]
    assert arrays["bytes"] == [1, 3, 1, 1, 2, 3, 2, 2, 4, 2, 0]
    assert arrays["marks"] == [0, 0, 0, 0, 7, 3, 3, 0, 1, 0, 0]
    assert (spelling.unknown, spelling.irregular, spelling.first_irregular, spelling.special) == (2, 3, 6, 1)
    charged = line_words.charged(np.array(arrays["marks"]), np.array(arrays["bytes"])) / math.log(2)
    assert charged.tolist() == [0, 0, 0, 0, 8 * 3, 8 * 3, 8 * 2, 0, 8 * 4, 0, 0]


def test_a_separator_of_documents_costs_a_bit_and_ends_a_document(tmp_path):
    content = b"a\nbc x\n<|end|>\nx\n<|end|>\na"
    ends = [content.index(b">\n") + 2, content.rindex(b">\n") + 2, len(content)]
    text = write_split(tmp_path, content, ends, [9, 9, 0])
    _, arrays = read_words(tmp_path, text, LISTED)
    assert arrays["tokens"] == [1, 0, 2, 3, 0, 3, 0, 3, 0, 3, 0, 1, 0]
    assert arrays["marks"] == [0, 0, 0, 1, 0, 8, 0, 5, 0, 8, 0, 0, 0] and arrays["starts"] == [0, 7, 11, 13]
    assert line_words.charged(np.array([8]), np.array([7])) / math.log(2) == pytest.approx(1)


@pytest.mark.parametrize("piece", [1, 3, 8])
def test_the_pieces_that_a_text_is_read_in_change_nothing(tmp_path, monkeypatch, piece):
    draws = np.random.default_rng(piece)
    for number in range(6):
        content = bytes(draws.choice(list(b"abc  \t\n\r"), 40).tolist()) + b"x"
        ends = sorted({*draws.integers(1, 40, 2).tolist(), len(content)}) if number % 2 else [len(content)]
        ends = [end for end in ends if content[end - 1 : end] == b"\n" or end == len(content)]
        text = write_split(tmp_path, content, ends, [1] * (len(ends) - 1) + [0], stream=number % 2 == 0)
        whole = read_words(tmp_path, text, LISTED)
        with monkeypatch.context() as patch:
            patch.setattr(line_words, "PIECE", piece)
            patch.setattr(line_words, "LONGEST", 40)
            assert read_words(tmp_path, text, LISTED) == whole
        assert sum(whole[1]["bytes"]) == len(content) and len(whole[1]["starts"]) == len(ends) + 1


def test_a_word_that_no_token_can_cover_is_named_by_place(tmp_path):
    text = write_split(tmp_path, b"a " + b"x" * 70_000 + b"\n", [70_003], [0], stream=True)
    with pytest.raises(UserError, match=r"a word of 70,001 bytes, with the white space before it, at byte 1; allowed"):
        read_words(tmp_path, text, LISTED)


def test_what_is_spelled_is_a_code():
    blanks, ends = line_words.BLANKS.decode(), "\n"
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    word = sum(256.0 ** -len(character.encode()) for character in characters if character not in blanks + ends)
    words = word / (1 - word)  # of one character or more
    runs = 1 / (1 - len(blanks) / 256)  # of white space, none included
    first = (runs * words + (runs - 1) / 256 + (runs - 1)) / 256  # a word or line end; the text's end; 8 bits more
    later = (runs - 1) * words + (runs - 1) / 256 + (runs - 1) / 256
    separator = 1 / 2
    assert 1 < words < 1.05 and first + separator < 1 and later + separator < 1


# ---------------------------------------------------------------- writing


SMOOTHINGS = ["jelinek_mercer", "witten_bell", "absolute", "kneser_ney", "modified_kneser_ney"]
EXPORTED = [
    *(Unigram(), Unigram(add=0.5), Bigram(), Bigram(padded=False), KneserNey(order=1), KneserNey(order=5)),
    *(Ngram(order=order, padded=padded) for order in (1, 3, 4) for padded in (True, False)),
    *(Ngram(order=3, smoothing=smoothing, padded=padded) for smoothing in SMOOTHINGS for padded in (True, False)),
    *(KneserNey(order=order, padded=True) for order in (1, 2, 5)),
    KneserNey(order=4, discounts="tuned"),
]


@pytest.mark.parametrize("config", EXPORTED, ids=lambda config: config.model_dump_json())
def test_a_model_is_the_same_after_a_file(tmp_path, config):
    model, test = fitted(config), drawn(60, 2)
    again = ours(model, tmp_path)
    for tokens in np.split(test.tokens, test.starts[1:-1]):
        assert np.allclose(again.score(tokens[None]), model.score(tokens[None]), rtol=0, atol=1e-7)
    prefix = np.array([[1, 2, 3], [0, 0, 5], [4, 0, 1]])[: 3 if config.context < 2 else 1]
    assert np.allclose(again.next_log_probs(prefix), model.next_log_probs(prefix), rtol=0, atol=1e-7)


STREAM = Documents.single(np.random.default_rng(4).integers(0, 6, 900))


@pytest.mark.parametrize("config", [Bigram(), KneserNey(order=2), Ngram(order=2, smoothing="witten_bell", padded=True)])
def test_a_bigram_of_a_text_without_documents_is_exact(tmp_path, config):
    model = fitted(config, STREAM)
    assert np.allclose(ours(model, tmp_path).score(STREAM.tokens[None]), model.score(STREAM.tokens[None]), atol=1e-7)


REFUSED = [
    (KneserNey(order=3), STREAM, "was fitted on a text without documents: its n-grams run through the boundaries"),
    (KneserNey(order=3, padded=True), STREAM, "was fitted on a text without documents"),
    (Ngram(order=3), STREAM, "was fitted on a text without documents"),
    (Ngram(order=3, add=0.0), None, "adds 0 to every count: what train lacks has probability 0"),
    (Ngram(order=12, padded=False), drawn(5, 0, shortest=3), "has counted no n-gram"),
]


@pytest.mark.parametrize(("config", "train", "message"), REFUSED)
def test_what_has_no_back_off_form_is_refused_with_the_reason(tmp_path, config, train, message):
    with pytest.raises(UserError, match=message):
        ours(fitted(config, train), tmp_path)


TEXTS = [
    "the cat sat on the mat.\n\nIt was 3 %<s> né 語 \u00a0",
    "a\x00b \ud7ff\u200b",
    "the the </s> <unk> \U0001f600",
]


@pytest.mark.parametrize(("kind", "size"), [("byte", None), ("char", None), ("word", 12), ("bpe", 270)])
def test_the_spelling_of_a_token_is_reversible_and_has_no_white_space(kind, size):
    tokenizer = learn(kind, size, iter(TEXTS), False, False, False)
    words = spelled.words_of(tokenizer)
    assert len(set(words)) == tokenizer.vocab_size and not any(re.search(r"\s", word) for word in words)
    assert words[0] == "</s>" and not {"<s>", "<UNK>", ""} & set(words)
    [(tokens, _)] = tokenizer.encode([TEXTS[0]])
    known = [token for token in tokens if token != tokenizer.escape]
    assert b"".join(unquote_to_bytes(words[t]) for t in known).decode() == tokenizer.decode(known)


# ---------------------------------------------------------------- the row of a run

CONFIG = """
corpora: {words: {path: words.txt, documents: lines, split: {train: 0.7, valid: 0.1, test: 0.2}}}
tokenizers: {char: {kind: char}, word: {kind: word, vocab_size: 258}}
models: {unigram: {}, bigram: {}, ngram: {order: 3}, kneser_ney: {order: 4}}
sampling: {count: 2, length: 10}
"""
TEXT, RUN = "results/run/words/text", "results/run/words"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a text, its tokens in two vocabularies and an experiment of every model of n-grams."""
    folder, before = tmp_path_factory.mktemp("project"), os.getcwd()
    os.chdir(folder)
    draws = np.random.default_rng(0)
    words, weights = np.array(["the", "cat", "né", *(f"w{n}" for n in range(300))]), 1 / np.arange(1, 304)
    lines = [" ".join(draws.choice(words, draws.integers(1, 9), p=weights / weights.sum())) for _ in range(600)]
    (folder / "words.txt").write_text("".join(f"{line}\n" for line in lines))
    (folder / "run.yaml").write_text(CONFIG)
    run = read_run(folder / "run.yaml")
    prepare = ["prepare", "--raw", "words.txt", "--out", TEXT, "--section", to_section(run.corpora["words"])]
    assert main(prepare) == 0
    for tokenizer in run.tokenizers:
        section = run.tokenize_section(tokenizer)
        tokens = f"{RUN}/{tokenizer}/tokens"
        assert main(["tokenize", "--text", TEXT, "--layout", "lines", "--out", tokens, "--section", section]) == 0
        for model in run.models:
            out = f"{RUN}/{tokenizer}/{model}/seed0"
            assert main(["fit", "--tokens", tokens, "--out", out, "--section", run.fit_section(model)]) == 0
    yield folder
    os.chdir(before)


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def scored(here, name="theirs", **keys):
    """The command score_pretrained on a pretrained section -> its exit code and its folder."""
    run = read_run(here / "run.yaml")
    others = {"splits": ["test"], "documents": True, "sampling": run.sampling.model_dump()}
    out = here / f"{RUN}/own/{name}/seed0"
    section = json.dumps({"pretrained": keys, **others})
    return main(["score_pretrained", "--text", TEXT, "--out", str(out), "--section", section]), out


def evaluated(here, tokenizer, model):
    """Our own row of a model."""
    run, folder = read_run(here / "run.yaml"), f"{RUN}/{tokenizer}/{model}/seed0"
    arguments = ["--tokens", f"{RUN}/{tokenizer}/tokens", "--text", TEXT, "--out", folder]
    section = run.evaluate_section("words", model)
    assert main(["evaluate", "--model", f"{folder}/model.safetensors", *arguments, "--section", section]) == 0
    return load_scores(here / folder / "scores.safetensors")["test"]


def facts_of(out):
    return json.loads((out / "fit.json").read_text())["hyperparameters"]


@pytest.mark.parametrize("tokenizer", ["char", "word"])
@pytest.mark.parametrize("model", ["unigram", "bigram", "ngram", "kneser_ney"])
def test_an_exported_model_is_the_same_row_when_it_comes_back(here, tokenizer, model):
    folder, arpa_path, text = f"{RUN}/{tokenizer}/{model}/seed0", f"{tokenizer}-{model}.arpa", f"{tokenizer}.txt"
    assert main(["export", folder, "--to", "arpa", "--out", arpa_path, "--text", text]) == 0
    own = evaluated(here, tokenizer, model)
    code, out = scored(here, arpa=arpa_path, tokenizer=f"{RUN}/{tokenizer}/tokens/tokenizer.json")
    theirs = load_scores(out / "scores.safetensors")["test"]
    assert code == 0 and np.allclose(theirs.log_probs, own.log_probs, rtol=1e-6, atol=1e-6)
    assert np.array_equal(theirs.lengths, own.lengths) and np.array_equal(theirs.documents, own.documents)
    words = (here / text).read_text()
    assert facts_of(out)["kenlm"]["test"]["tokens"] == len(words.split()) + words.count("\n") == len(own.lengths)


def test_words_of_a_text_are_a_row_of_category_pretrained(here):
    (here / "hand.arpa").write_text(SRILM)
    code, out = scored(here, arpa="hand.arpa")
    facts = dict.fromkeys(("type", "title", "family", "category", "adds", "source"), "pretrained") | {"rank": 30}
    [result] = model_rows([out], [0], ["test"], facts)
    content = (here / TEXT / "test.txt").read_bytes()
    printed = json.loads(result.row.hyperparameters)["kenlm"]["test"]
    spelled_bits = 8 * sum(
        len(word) + 1 for line in content.split(b"\n") for word in line.split() if word not in (b"the", b"cat")
    )
    nats = printed["tokens"] * math.log(printed["perplexity_including_oovs"])
    assert code == 0 and result.row.bytes == len(content) and result.row.parameters == 10
    assert result.row.bits_per_byte == pytest.approx((nats / math.log(2) + spelled_bits) / len(content), rel=1e-5)
    assert printed["oovs"] == sum(word not in (b"the", b"cat") for word in content.split())


def test_texts_drawn_from_a_file_are_lines_of_its_words(here):
    (here / "hand.arpa").write_text(SRILM)
    _, out = scored(here, arpa="hand.arpa")
    samples = [sample["text"] for sample in json.loads((out / "evaluation.json").read_text())["samples"]]
    assert len(samples) == 2 and {word for text in samples for word in text.split(" ")} <= {"the", "cat", "\ufffd", ""}


def test_probabilities_that_do_not_sum_to_one_are_no_row(here, capfd):
    for old, new, message in [
        ("-0.6020600  cat", "-0.1  cat", "hand.arpa: without a context the probabilities of all words sum to 1.54433"),
        ("-0.1760913", "-0.2", "hand.arpa: after 'the cat' the probabilities of all words sum to 0.978574; they"),
        (
            "-0.0969100	<s>",
            "-0.3	<s>",
            "hand.arpa: after '<s> the' the probabilities of all words sum to 0.701187",
        ),
    ]:
        (here / "hand.arpa").write_text(SRILM.replace(old, new))
        assert scored(here, arpa="hand.arpa")[0] == 1 and message in capfd.readouterr().err


def test_mistakes_of_a_config_are_named(here):
    (here / "hand.arpa").write_text(SRILM)
    for keys, message in [
        ("arpa: hand.arp", r"pretrained.x.arpa: 'hand.arp' no such file (did you mean 'hand.arpa'?)"),
        ("arpa: hand.arpa, tokenizer: nowhere", "pretrained.x.tokenizer: 'nowhere' no such file"),
        ("arpa: hand.arpa, engine: llama.cpp", "sha256 and engine: llama.cpp belong to gguf"),
        ("arpa: hand.arpa, window: 8", "window: of checkpoints, not of arpa; an n-gram model has an order"),
        ("path: ., tokenizer: hand.arpa", "tokenizer belongs to arpa"),
        ("{}", "needs one of hub, path, gguf and arpa"),
    ]:
        (here / "wrong.yaml").write_text(f"{CONFIG}pretrained: {{x: {{{keys.strip('{}')}}}}}\n")
        with pytest.raises(UserError) as error:
            read_run(here / "wrong.yaml")
        assert message in str(error.value)


def test_what_cannot_be_a_row_is_said_before_the_first_job(here, capfd):
    (here / "no.arpa").write_text("<html>\n")
    (here / "wrong.yaml").write_text(f"{CONFIG}pretrained: {{x: {{arpa: no.arpa}}}}\n")
    assert main(["check", "wrong.yaml"]) == 0
    assert r"pretrained.x will fail: no.arpa: has no line \data\ ".strip() in capfd.readouterr().err
    [sentence] = pretrained.unusable(read_run(here / "wrong.yaml").pretrained)
    assert sentence.startswith("pretrained.x will fail: no.arpa")
    code, _ = scored(here, arpa="no.arpa", sha256="0" * 64)
    assert code == 1 and "the config says 000" in capfd.readouterr().err


def test_only_models_of_n_grams_are_written(here, capfd):
    model = build(Unigram(), 3)
    model.fit(Documents.of([[1, 2, 0]]), Documents.of([[0]]), 0)
    save_model(here / "other/model.safetensors", model, {})
    arguments = ["--to", "arpa", "--out", "x.arpa", "--tokens", f"{RUN}/char/tokens"]
    assert main(["export", "other", *arguments]) == 1
    assert "is of 3 tokens" in capfd.readouterr().err
    assert (
        main(["export", f"{RUN}/char/bigram/seed0/model.safetensors", "--to", "hf", "--out", "x", "--text", "y"]) == 1
    )
    assert "--text: given with --to hf; it belongs to --to arpa" in capfd.readouterr().err
    assert main(["export", "other", *arguments, "--type", "q8_0"]) == 1
    assert "--type: given with --to arpa; n-grams have no matrices" in capfd.readouterr().err
    uniform = build(Uniform(), 3)
    save_model(here / "uniform/model.safetensors", uniform, {})
    assert main(["export", "uniform", *arguments]) == 1
    assert "is of model uniform; allowed: unigram, bigram, ngram, kneser_ney" in capfd.readouterr().err


def test_reading_and_writing_files_imports_no_torch(here):
    modules = "lmstages.evaluation.pretrained, lmstages.evaluation.arpa_row, lmstages.models.external.arpa_export"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script]) == 0


def test_words_that_no_token_has_do_not_change_the_numbers(tmp_path):
    own = learn("byte", None, iter(TEXTS), False, False, False)
    tokens = spelled.SpelledTokens(own, [b"", b"x", b"a", b"%20", b"nobody", b"<unk>"])
    [(encoded, lengths)] = tokens.encode(["a xb"])
    assert encoded.tolist() == [2, 3, 1, 5] and lengths.tolist() == [1, 1, 1, 1] and tokens.unlisted() == 253
    assert tokens.decode([2, 3, 1, 5, 4]) == "a x\ufffd\ufffd" and streams.TOKENIZER == "tokenizer.json"
