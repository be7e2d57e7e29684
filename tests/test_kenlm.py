"""Kneser-Ney is KenLM's, to six digits and more: on characters, words and BPE, orders 2 to 6.

``tests/kenlm.sh`` builds the binaries this test looks for. Every token is a word ``t5``, every document a line, and
the vocabulary is numbered as train brings it, as KenLM does, with one more number for what it calls <unk>.
"""

import re
import subprocess
from functools import cache
from random import Random

import numpy as np
import pytest
from conftest import KENLM
from tokenizers import ByteLevelBPETokenizer

from lmstages.config.hyperparameters.counts import KneserNey
from lmstages.core.documents import Documents
from lmstages.corpora.grammar import Grammar
from lmstages.models.base import build
from lmstages.models.counts import counting
from lmstages.models.counts.smoothing import closed_form

pytestmark = pytest.mark.needs("kenlm")
UNITS = ["characters", "words", "bpe"]
ORDERS = [2, 3, 4, 5, 6]
STORIES, TRAIN = 360, 4000  # of all sentences so many are for training; the others are scored


@cache
def numbered(unit):
    """Train, test and V: sentences of the embedded corpus as tokens, numbered as they first come in train.

    Sentences and not stories, since KenLM sums a line's log-probabilities in single precision.
    """
    grammar, draws = Grammar.load("fables"), Random(7)
    texts = [text for _ in range(STORIES) for text in re.split(r"(?<=[.?!]) ", grammar.sample(draws))]
    pieces = {"characters": list, "words": lambda text: re.findall(r"\w+|\W", text), "bpe": bpe(texts[:TRAIN])}[unit]
    documents = [pieces(text) for text in texts]
    number = {piece: n for n, piece in enumerate(dict.fromkeys(p for row in documents[:TRAIN] for p in row), start=1)}
    rows = [[*(number.get(piece, len(number) + 1) for piece in row), 0] for row in documents]
    return Documents.of(rows[:TRAIN]), Documents.of(rows[TRAIN:]), len(number) + 2


def bpe(texts):
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=600, show_progress=False)
    return lambda text: tokenizer.encode(text).ids


def lines(documents):
    rows = np.split(documents.tokens, documents.starts[1:-1])
    return "".join(" ".join(f"t{token}" for token in row[:-1]) + "\n" for row in rows)


@pytest.fixture(params=[(unit, order) for unit in UNITS for order in ORDERS], ids=lambda case: f"{case[0]}-{case[1]}")
def both(request, tmp_path):
    """Our model, KenLM's perplexity and the discounts it prints."""
    unit, order = request.param
    train, test, vocab_size = numbered(unit)
    arpa = tmp_path / "model.arpa"
    arguments = [KENLM / "lmplz", "-o", str(order), "-S", "200M", "-T", tmp_path, "--discount_fallback", "--arpa", arpa]
    report = subprocess.run(arguments, input=lines(train), capture_output=True, text=True, check=True).stderr
    query = [KENLM / "query", "-v", "summary", arpa]
    summary = subprocess.run(query, input=lines(test), capture_output=True, text=True, check=True).stdout
    model = build(KneserNey(order=order), vocab_size)
    model.fit(train, test, 0)
    discounts = re.findall(r"^\d+ \d+ D1=(\S+) D2=(\S+) D3\+=(\S+)$", report, re.MULTILINE)
    return model, float(re.search(r"including OOVs:\t(\S+)", summary)[1]), np.array(discounts, dtype=float)


def with_kenlms_last_counts(model, train):
    """The discounts KenLM computes: it takes the last n-gram of each lower order with its plain count."""
    plain = counting.count(train, model.config.order, model.vocab_size, adjusted=False)
    discounts = model.constants.copy()
    for n in range(1, model.config.order):
        adjusted = model.levels[n].counts.astype(np.int64)
        last = np.flatnonzero(adjusted)[-1]
        adjusted[last] = plain[n].counts[last]
        discounts[n - 1] = closed_form("modified_kneser_ney", adjusted)
    return discounts


def perplexity(model, documents):
    rows = np.split(documents.tokens, documents.starts[1:-1])
    return np.exp(-sum(model.score(row[None]).sum() for row in rows) / len(documents))


def test_discounts_and_perplexity_are_kenlms(both, request):
    model, theirs, discounts = both
    train, test, _ = numbered(request.node.callspec.params["both"][0])
    assert perplexity(model, test) == pytest.approx(theirs, rel=1e-4)
    model.constants = with_kenlms_last_counts(model, train)
    assert np.allclose(model.constants, discounts, atol=1e-6, rtol=5e-6)  # printed with six digits
    assert perplexity(model, test) == pytest.approx(theirs, rel=1e-6)
