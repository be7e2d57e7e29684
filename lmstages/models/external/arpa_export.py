"""Exports n-gram models that were fitted here as ARPA files, without any loss: their back-off form.

    interpolated   listed n-grams have p(w | h) as interpolated; others gamma(h) p(w | h without its oldest token)
    additive       n-grams of the one order have (c + a) / (C + a V); others, after h, the rest a V / (C + a V) of 1 / V

Shorter n-grams of an additive model, which it never asks for, are there for their back-off weights, and have 1 / V.
Tokens are spelled as words (``tokenizers.spelled``). The boundary is ``<s>`` and ``</s>``: several before a document
(``padded``) become one, since no document begins otherwise. An n-gram with a boundary in its middle, which a text
without documents has, cannot be written, since a sentence ends there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmstages.core.artifacts import Made
from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.core.files import atomic_write
from lmstages.core.progress import LOGGER
from lmstages.models import storage as model_storage
from lmstages.models.counts import smoothing
from lmstages.models.counts.ngram import InterpolatedModel, NgramModel
from lmstages.models.external import arpa_file
from lmstages.models.external.arpa_file import NgramTable
from lmstages.models.external.exported import exported_tokenizer
from lmstages.tokenizers import streams
from lmstages.tokenizers.spelled import UNKNOWN_WORD, words_of

BEGIN_WORD, NEVER = "<s>", -99.0  # log10 of what is never predicted, as SRILM writes it
AT_ONCE = 1 << 16  # tokens of a text


def export_arpa(model: Path, tokens: Path, out: Path, made: Made, text: Path | None, split: str) -> None:
    """Write the n-gram model at ``model`` with the vocabulary of ``tokens`` to ``out``.

    ``text``: a file that gets the tokens of a split as words, a document a line. Raises UserError for another model,
    and for one whose probabilities have no back-off form.
    """
    fitted = model_storage.load_model(model)
    if not isinstance(fitted, NgramModel | InterpolatedModel):
        raise UserError(model, f"is of model {fitted.config.name}", "allowed: unigram, bigram, ngram, kneser_ney")
    words = words_of(exported_tokenizer(model, fitted, tokens))
    arpa_file.write(out, *with_sentence_ends(words, tables_of(fitted, model)), made)
    if text is not None:
        documents = streams.read_documents(tokens, split).tokens
        with atomic_write(text) as file:
            for begin in range(0, len(documents), AT_ONCE):
                file.write(_lines(documents[begin : begin + AT_ONCE], words).encode())
        if len(documents) and documents[-1] != BOUNDARY:
            LOGGER.warning("%s: the last line has no end, since the text has none there", text)


def _lines(tokens: np.ndarray, words: Sequence[str]) -> str:
    return "".join("\n" if token == BOUNDARY else f"{words[token]} " for token in tokens.tolist()).replace(" \n", "\n")


def with_sentence_ends(words: Sequence[str], orders: Sequence[NgramTable]) -> tuple[list[str], list[NgramTable]]:
    """The words with <s> behind them and, if they lack it, <unk>; n-grams in which token 0 is split into both ends.

    A model of order 1 gets the bigram ``<s> </s>``, with the probability that </s> has anyway.
    """
    size, listed = len(words), [*words, BEGIN_WORD]
    unigrams = orders[0]
    log10, backoffs = np.append(unigrams.log10, NEVER), np.append(unigrams.backoffs, unigrams.backoffs[BOUNDARY])
    backoffs[BOUNDARY] = 0.0
    if UNKNOWN_WORD not in listed:
        listed.append(UNKNOWN_WORD)
        log10, backoffs = np.append(log10, NEVER), np.append(backoffs, 0.0)
    complete = [NgramTable(np.arange(len(listed))[:, None], log10, backoffs)]
    empty = NgramTable(np.full((1, 2), BOUNDARY), log10[[BOUNDARY]], np.zeros(1))  # KenLM reads no file of order 1
    for table in orders[1:] or [empty]:
        tokens = table.tokens.copy()
        tokens[tokens[:, 0] == BOUNDARY, 0] = size
        complete.append(NgramTable(tokens, table.log10, table.backoffs))
    return listed, complete


def tables_of(model: NgramModel | InterpolatedModel, path: Path) -> list[NgramTable]:
    """The back-off form of a model: n-grams of order 1 ... N with log10 probabilities and back-off weights.

    Token 0 is the boundary. Raises UserError where there is none.
    """
    return _additive(model, path) if isinstance(model, NgramModel) else _interpolated(model, path)


def _must_have_sentences(tokens: np.ndarray, padded: bool, path: Path) -> None:
    """Raises UserError where n-grams (U, n) have a boundary in their middle; ``padded`` ones may begin with several."""
    earlier = tokens[:, :-1]
    after = (earlier != BOUNDARY).cumsum(axis=1) > 0 if padded else np.arange(earlier.shape[1]) > 0
    if ((earlier == BOUNDARY) & after).any():
        problem = "was fitted on a text without documents: its n-grams run through the boundaries"
        remedy = "export a bigram, or give the corpus documents: lines or separator"
        raise UserError(path, problem, "a sentence of an ARPA file begins anew", remedy)


def _leading(tokens: np.ndarray) -> np.ndarray:
    """(U, n) -> (U,) how many boundaries each n-gram begins with."""
    return np.cumprod(tokens == BOUNDARY, axis=1).sum(axis=1)


# ---------------------------------------------------------------- interpolated models


def _interpolated(model: InterpolatedModel, path: Path) -> list[NgramTable]:
    """Order by order: p(w | h) of each n-gram from that of its suffix; gamma of each as a context."""
    size, tables, suffixes = model.vocab_size, list[NgramTable](), np.zeros(0, np.int64)
    contexts, probabilities = np.zeros(size, np.int64), np.full(size, 1 / size)
    tokens = np.arange(size)[:, None]
    for n in range(1, len(model.levels)):
        level = model.levels[n]
        if n > 1:
            suffixes, oldest = (part.astype(np.int64) for part in np.divmod(level.keys, level.keys.dtype.type(size)))
            contexts = model.levels[n - 1].find(contexts[suffixes], oldest, size) if n > 2 else oldest
            tokens, probabilities = np.column_stack([oldest, tokens[suffixes]]), probabilities[suffixes]
        alpha, gamma = _terms(model, n, level.counts, contexts)
        probabilities = alpha + gamma * probabilities
        backoffs = _weights(model, n, tables, tokens, suffixes)
        _must_have_sentences(tokens, model.padded, path)
        tables.append(NgramTable(tokens, np.log10(probabilities), backoffs))
    return _collapsed(tables, suffixes) if model.padded and len(tables) > 1 else tables


def _terms(model: InterpolatedModel, n: int, counts: np.ndarray, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """alpha and gamma (U,) of n-grams with these counts and contexts; 0 and 1 after a context without followers."""
    alpha, gamma, shorter = np.zeros(len(counts)), np.ones(len(counts)), model.levels[n - 1]
    seen = np.flatnonzero(shorter.totals[contexts])
    chosen = contexts[seen]
    order_counts = smoothing.OrderCounts(seen, counts[seen], shorter.totals[chosen], shorter.type_counts[chosen])
    constants = model.constants[n - 1]
    alpha[seen], gamma[seen] = smoothing.interpolation_terms(model.config.smoothing, constants, order_counts)
    return alpha, gamma


def _weights(
    model: InterpolatedModel, n: int, tables: Sequence[NgramTable], tokens: np.ndarray, suffixes: np.ndarray
) -> np.ndarray:
    """(U,) log10 of what each n-gram leaves, as a context, to shorter ones; a padded one to those with less padding.

    No n-gram of the longest order is a context, and none that ends a document.
    """
    if n == len(model.levels) - 1:
        return np.zeros(len(tokens))
    weights = np.log10(_terms(model, n + 1, np.zeros(len(tokens), np.uint8), np.arange(len(tokens)))[1])
    if model.padded and n > 1:
        weights += np.where(_leading(tokens) > 1, tables[-1].backoffs[suffixes], 0.0)
    return weights


def _collapsed(tables: Sequence[NgramTable], suffixes: np.ndarray) -> list[NgramTable]:
    """Padded n-grams with a single boundary before them: the probabilities of the longest order, with all padding.

    ``suffixes`` (U,): where the suffix of each n-gram of the longest order stands in the order below.
    """
    longest, below = tables[-1], tables[-2]
    padding = _leading(longest.tokens[:, :-1])
    collapsed = [tables[0], *(table.where(table.tokens[:, 0] != BOUNDARY) for table in tables[1:])]
    for n in range(2, len(tables) + 1):
        rows = np.flatnonzero(padding == len(tables) - n + 1)
        tokens = longest.tokens[rows, len(tables) - n :]
        is_context = (n < len(tables)) & (tokens[:, -1] != BOUNDARY)
        backoffs = np.where(is_context, below.backoffs[suffixes[rows]], 0.0)
        kept = collapsed[n - 1]
        values = np.append(kept.log10, longest.log10[rows]), np.append(kept.backoffs, backoffs)
        collapsed[n - 1] = NgramTable(np.concatenate([kept.tokens, tokens]), *values)
    tables[0].backoffs[BOUNDARY] = below.backoffs[(below.tokens == BOUNDARY).all(axis=1)].sum()
    return collapsed


# ---------------------------------------------------------------- additive models


def _additive(model: NgramModel, path: Path) -> list[NgramTable]:
    """The n-grams of one order, their contexts, and what these begin and end with, down to order 1."""
    if not model.add:
        problem = "adds 0 to every count: what train lacks has probability 0"
        raise UserError(path, problem, "an ARPA file holds logarithms", "fit it with add above 0")
    if not len(model.keys):
        problem = "has counted no n-gram: every document of train is shorter"
        raise UserError(path, problem, "", "fit it with a smaller order, or with padded")
    size, contexts = model.vocab_size, _contexts(model)
    owners, latest = np.divmod(model.keys, size)
    grams = np.column_stack([contexts[owners], latest])
    _must_have_sentences(grams, bool(model.config.padded), path)
    log10 = np.log10(model.counts + model.add) - np.log10(model.totals[owners] + model.add * size)
    weights = np.log10(model.add * size) - np.log10(model.totals + model.add * size)
    if model.order == 1:
        every = np.full(size, weights[0] - np.log10(size))
        every[latest] = log10
        return [NgramTable(np.arange(size)[:, None], every, np.zeros(size))]
    tables: list[NgramTable] = []
    others = np.empty((0, model.order), np.int64)
    for n in range(model.order, 0, -1):
        others = np.arange(size)[:, None] if n == 1 else others
        with_probability = _of_length(grams, log10, model.order - 1, n)
        with_weight = _of_length(contexts, weights, model.order - 1, n)
        tables.insert(0, _merged(with_probability, with_weight, others, size))
        others = np.concatenate([tables[0].tokens[:, 1:], tables[0].tokens[:, :-1]])
    return tables


def _contexts(model: NgramModel) -> np.ndarray:
    """(C, N - 1) the tokens of every context that occurs, oldest first."""
    tokens = np.empty((1, 0), np.int64)
    for level in model.levels:
        shorter, latest = np.divmod(level, model.vocab_size)
        tokens = np.column_stack([tokens[shorter], latest])
    return tokens


Valued = tuple[np.ndarray, np.ndarray]  # n-grams (U, n), and a number for each


def _of_length(rows: np.ndarray, values: np.ndarray, context: int, length: int) -> Valued:
    """Those that are so long when a single boundary of their first ``context`` tokens is kept."""
    unneeded = rows.shape[1] - length
    chosen = np.maximum(_leading(rows[:, :context]) - 1, 0) == unneeded
    return rows[chosen][:, max(unneeded, 0) :].reshape(-1, length), values[chosen]


def _merged(with_probability: Valued, with_weight: Valued, others: np.ndarray, size: int) -> NgramTable:
    """Each n-gram once, with probability 1 / V and weight 1 where it has none of its own."""
    (grams, log10), (contexts, weights) = with_probability, with_weight
    rows, numbers = np.unique(np.concatenate([grams, contexts, others]), axis=0, return_inverse=True)
    numbers = numbers.ravel()
    table = NgramTable(rows, np.full(len(rows), -np.log10(size)), np.zeros(len(rows)))
    table.log10[numbers[: len(grams)]] = log10
    table.backoffs[numbers[len(grams) : len(grams) + len(contexts)]] = weights
    return table
