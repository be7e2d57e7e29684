"""KenLM and we exchange ARPA files in both directions, with the same perplexity to six digits."""

import gzip
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import KENLM
from test_arpa import RUN, TEXT, facts_of, here, project, pruned, scored  # noqa: F401 (fixtures)

from lmstages.cli import main
from lmstages.config.hyperparameters.counts import KneserNey, Ngram
from lmstages.core.documents import Documents
from lmstages.evaluation.score_files import load_scores
from lmstages.models.base import build
from lmstages.models.external import arpa, arpa_export, arpa_file
from lmstages.models.storage import save_fit
from lmstages.tokenizers.streams import read_tokenizer, read_tokens

pytestmark = pytest.mark.needs("kenlm")
ORDERS = [1, 2, 3, 4, 5, *(pytest.param(order, marks=pytest.mark.slow) for order in (6, 7, 8))]
PRUNED = {"": [], "pruned": ["--prune", "0", "0", "1"], "limited": ["--limit_vocab_file", "vocabulary.txt"]}
SIX_DIGITS = 2e-6  # KenLM computes and prints in single precision


def estimated(order, text, path, *arguments):
    """KenLM's model of a text, a sentence a line."""
    folder = ["-S", "200M", "-T", "."]
    command = [KENLM / "lmplz", "-o", str(order), *folder, "--discount_fallback", "--arpa", path, *arguments]
    subprocess.run(command, input=text, capture_output=True, check=True)


def with_bigrams(path):
    """A bigram that changes nothing, where a file has none: lmplz writes such files, query reads none."""
    content = Path(path).read_text()
    if "ngram 2=" not in content:
        log10 = re.search(r"^(\S+)\t</s>", content, re.MULTILINE)[1]
        content = re.sub(r"(ngram 1=\d+\n)", r"\1ngram 2=1\n", content)
        Path(path).write_text(content.replace("\\end\\", f"\\2-grams:\n{log10}\t<s> </s>\n\n\\end\\"))


def queried(path, text):
    """What KenLM's query prints of a text: perplexity with and without unknown words, their number, and tokens."""
    with_bigrams(path)
    summary = subprocess.run([KENLM / "query", "-v", "summary", path], input=text, capture_output=True, check=True)
    return [float(value) for value in re.findall(r":\t(\S+)", summary.stdout.decode())]


def printed(out):
    facts = facts_of(out)["kenlm"]["test"]
    names = ("perplexity_including_oovs", "perplexity_excluding_oovs", "oovs", "tokens")
    return [facts[name] for name in names]


@pytest.mark.parametrize("pruning", PRUNED)
@pytest.mark.parametrize("order", ORDERS)
def test_kenlms_model_gives_here_what_it_gives_there(here, order, pruning):  # noqa: F811 (fixture)
    if pruning == "pruned" and order < 3:
        return
    (here / "vocabulary.txt").write_text("the cat né w1 w2 w3\n")
    estimated(order, (here / TEXT / "train.txt").read_bytes(), "kenlm.arpa", *PRUNED[pruning])
    (here / "kenlm.arpa.gz").write_bytes(gzip.compress((here / "kenlm.arpa").read_bytes()))
    code, out = scored(here, arpa="kenlm.arpa.gz")
    expected = queried("kenlm.arpa", (here / TEXT / "test.txt").read_bytes())
    assert code == 0 and printed(out) == pytest.approx(expected, rel=SIX_DIGITS) and expected[2] > 0


HOSTILE = "a b <s> c\n<unk> a </s>\n\n  b\t<UNK> c \r\n</s>\n<s>\nx<s>y a\va\fb b\nc a b né <s> <s> b </s> </s> a b c\n"


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_special_words_within_a_text_are_read_as_kenlm_reads_them(tmp_path, monkeypatch, order):
    from lmstages.corpora.splits import SplitText, write
    from lmstages.evaluation import arpa_row as row
    from lmstages.evaluation import scoring

    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(order)
    train = "".join(" ".join(draws.choice(list("abcde"), draws.integers(1, 7))) + "\n" for _ in range(300))
    estimated(order, train.encode(), "kenlm.arpa")
    content = HOSTILE.encode()
    write(tmp_path, "test", iter([content]), np.zeros(1), True, {})
    reader = row.WordReader(arpa_file.read(tmp_path / "kenlm.arpa"))
    reader.write(tmp_path / "tokens", "test", SplitText.open(tmp_path, "test"), {})
    documents, lengths = read_tokens(tmp_path / "tokens", "test")
    scores = scoring.score(reader.model, documents, scoring.windows_of(documents.starts, "stream", 1, 1, 0))
    charged = reader.charge("test", scores, (documents, lengths))
    expected = queried("kenlm.arpa", content)
    assert list(reader.perplexities["test"].values()) == pytest.approx(expected, rel=SIX_DIGITS)
    assert (charged <= scores.max()).all() and lengths.sum() == len(content)


@pytest.mark.parametrize("seed", range(3))
def test_a_file_without_all_suffixes_is_read_as_kenlm_reads_it(tmp_path, seed):
    draws = np.random.default_rng(seed)
    rows = [[*draws.integers(1, 6, draws.integers(1, 9)).tolist(), 0] for _ in range(260)]
    model, words = build(KneserNey(order=4), 7), ["</s>", *"abcde", "<unk>"]
    model.fit(Documents.of(rows[:200]), Documents.of(rows[:1]), 0)
    path = tmp_path / "ours.arpa"
    arpa_file.write(path, *arpa_export.with_sentence_ends(words, arpa_export.tables_of(model, path)), {})
    path.write_text(pruned(path.read_text(), seed, 0.1))  # KenLM has room for a few only
    again = arpa.model_of(arpa_file.read(path))
    lines = "".join(" ".join(words[token] for token in row[:-1]) + "\n" for row in rows[200:])
    nats = -sum(again.score(np.array([row])).sum() for row in rows[200:])
    tokens = sum(map(len, rows[200:]))
    assert queried(path, lines.encode())[0] == pytest.approx(np.exp(nats / tokens), rel=SIX_DIGITS)


def export_of(here, tokenizer, name, config):  # noqa: F811 (not the fixture)
    """A model fitted on the tokens of the run, exported with the test part as words -> its mean nats per token."""
    tokens, folder = here / RUN / tokenizer / "tokens", here / RUN / tokenizer / name / "seed0"
    train, valid, test = (read_tokens(tokens, split)[0] for split in ("train", "valid", "test"))
    model = build(config, read_tokenizer(tokens).vocab_size)
    model.fit(train, valid, 0)
    save_fit(folder, model, {"status": "ok"}, {})
    assert main(["export", str(folder), "--to", "arpa", "--out", "ours.arpa", "--text", "ours.txt"]) == 0
    rows = np.split(np.asarray(test.tokens).astype(np.int64), test.starts[1:-1])
    return -sum(model.score(row[None]).sum() for row in rows) / len(test)


SMOOTHED = [
    *(Ngram(order=order, smoothing="witten_bell") for order in (1, 2)),
    *(Ngram(order=3, smoothing=name) for name in ("jelinek_mercer", "absolute", "kneser_ney", "add")),
    *(Ngram(order=4, smoothing="add", padded=False), KneserNey(order=5), KneserNey(order=4, padded=True)),
]


@pytest.mark.parametrize("tokenizer", ["char", "word"])
@pytest.mark.parametrize("config", SMOOTHED, ids=lambda config: f"{config.order}-{config.smoothing}-{config.padded}")
def test_our_model_gives_there_what_it_gives_here(here, tokenizer, config):  # noqa: F811 (fixture)
    nats = export_of(here, tokenizer, "exported", config)
    including, *_, tokens = queried("ours.arpa", (here / "ours.txt").read_bytes())
    test = read_tokens(here / RUN / tokenizer / "tokens", "test")[0]
    assert including == pytest.approx(np.exp(nats), rel=SIX_DIGITS) and tokens == len(test)


@pytest.mark.parametrize("tokenizer", ["char", "word"])
def test_kenlms_model_of_our_tokens_is_a_row(here, tokenizer):  # noqa: F811 (fixture)
    export_of(here, tokenizer, "exported", KneserNey(order=3))
    folder = str(here / RUN / tokenizer / "exported/seed0")
    arguments = ["--to", "arpa", "--out", "ours.arpa", "--text", "train.txt", "--split", "train"]
    assert main(["export", folder, *arguments]) == 0
    train = re.sub("<unk>", "%FF%FF", (here / "train.txt").read_text())  # lmplz refuses its own special words
    estimated(4, train.encode(), "kenlm.arpa")
    code, out = scored(here, arpa="kenlm.arpa", tokenizer=f"{RUN}/{tokenizer}/tokens/tokenizer.json")
    expected = queried("kenlm.arpa", (here / "ours.txt").read_bytes())
    scores = load_scores(out / "scores.safetensors")["test"]
    assert code == 0 and printed(out) == pytest.approx(expected, rel=SIX_DIGITS)
    assert scores.lengths.sum() == (here / TEXT / "test.txt").stat().st_size
