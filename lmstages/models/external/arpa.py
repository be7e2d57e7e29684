"""N-gram models from elsewhere, with back-off weights in place of counts (Katz 1987):

    log p(w | h) = log10 of the n-gram (h, w), if it is listed
                   else back-off weight of h + log p(w | h without its oldest token)

Token 0 is the sentence boundary: as a context ``<s>``, after which nothing earlier is read, and as a prediction
``</s>``. The other words follow as the file lists them; the last token is ``<unk>``, which stands for every word that
is not listed. A file without ``<unk>`` gives it probability 10^-100, as KenLM does.

The same computation gives KenLM's own reading of a text that holds the words ``<s>`` and ``</s>`` (``as_kenlm``).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.counts import Ngram
from lmstages.core.documents import BOUNDARY, Arrays, Curve, Documents
from lmstages.core.errors import FitError, UserError
from lmstages.models.counts.counting import Level
from lmstages.models.counts.lookup import AllOrders, values_at
from lmstages.models.external.arpa_file import ArpaFile, NgramTable

BEGIN, END, UNKNOWN = b"<s>", b"</s>", b"<unk>"
NEVER = -100.0  # log10 of the probability of <unk> where a file lists none
NATS = np.log(10.0)
NOTHING = np.zeros(0, np.uint8)


class ArpaModel(AllOrders):
    """Predicts by the listed n-grams and back-off weights; its parameters are the n-grams that are listed."""

    config: ModelConfig
    padded = False
    rounding = 1e-3  # of a sum of probabilities; some files have four decimals of a logarithm

    def __init__(self, words: Sequence[bytes], orders: Sequence[NgramTable]) -> None:
        """``words`` by token; ``orders``: n-grams of order 1 ... N in this numbering, order 1 in the order of tokens.

        Raises UserError where an n-gram stands twice.
        """
        self.words, self.vocab_size = list(words), len(words)
        self.config = Ngram(order=len(orders), smoothing="kneser_ney")  # for the length of the context alone
        self.levels, self.log_probs, self.backoffs = _levels(orders, self.vocab_size)
        self._parameters = sum(len(table.log10) for table in orders)

    def _evaluated(self, grams: Sequence[np.ndarray], contexts: Sequence[np.ndarray]) -> np.ndarray:
        """(M,) nats, from the shortest context up."""
        log_probs = self.log_probs[1][grams[0]]
        for n in range(2, len(self.levels)):
            backed_off = values_at(self.backoffs[n - 1], contexts[n - 1]) + log_probs
            listed = np.where(grams[n - 1] >= 0, _taken(self.log_probs[n], grams[n - 1]), np.nan)
            log_probs = np.where(np.isnan(listed), backed_off, listed)
        return log_probs

    def sums(self) -> Iterator[np.ndarray]:
        """For n = 0 ... N - 1 what the probabilities of all tokens sum to after each n-gram that is listed.

        A context leaves its back-off weight; each token listed after it adds its own probability in place of the
        weighted one that the shorter context gives it.
        """
        full, contexts = self.log_probs[1], np.zeros(self.vocab_size, np.int64)
        yield np.exp(full).sum(keepdims=True)
        for n in range(2, len(self.levels)):
            suffixes, oldest = (part.astype(np.int64) for part in np.divmod(self.levels[n].keys, self.vocab_size))
            contexts = self.levels[n - 1].find(contexts[suffixes], oldest, self.vocab_size) if n > 2 else oldest
            weights, own = self.backoffs[n - 1], self.log_probs[n]
            shorter = values_at(weights, contexts) + full[suffixes]
            full = np.where(np.isnan(own), shorter, own)
            known = np.flatnonzero(contexts >= 0)
            added = np.exp(full[known]) - np.exp(shorter[known])
            yield np.exp(weights) + np.bincount(contexts[known], added, len(weights))

    def ngram(self, order: int, index: int) -> str:
        """The words of an n-gram by its index among those of its order; empty for that of order 0."""
        words, token = [], 0
        for n in range(order, 0, -1):
            index, token = (int(part) for part in np.divmod(self.levels[n].keys[index], self.vocab_size))
            words.append(BEGIN if token == BOUNDARY else self.words[token])
        return b" ".join(words).decode(errors="replace")

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Raises FitError: it was estimated elsewhere."""
        raise FitError("n-gram model of an ARPA file", "is not fitted here", "", "fit model ngram or kneser_ney")

    def arrays(self) -> Arrays:
        """Keys, log-probabilities and back-off weights of each order."""
        keys = {f"keys{n}": level.keys for n, level in enumerate(self.levels)}
        log_probs = {f"log_probs{n}": values for n, values in enumerate(self.log_probs)}
        return keys | log_probs | {f"backoffs{n}": values for n, values in enumerate(self.backoffs)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        orders = range(len(arrays) // 3)
        self.levels = [Level(arrays[f"keys{n}"], NOTHING, NOTHING, NOTHING) for n in orders]
        self.log_probs = [arrays[f"log_probs{n}"] for n in orders]
        self.backoffs = [arrays[f"backoffs{n}"] for n in orders]

    def parameters(self) -> int:
        """The number of n-grams that are listed, of every order."""
        return self._parameters


def _taken(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return values[indices] if len(values) else np.full(indices.shape, np.nan)


# ---------------------------------------------------------------- from a file


def model_of(file: ArpaFile) -> ArpaModel:
    """The model of a file, in our numbering of its words; raises UserError where it has no <s> or no </s>."""
    words, orders = _renumbered(file)
    return _built(file.path, words, orders)


def as_kenlm(file: ArpaFile) -> ArpaModel:
    """The model with two more tokens, V for the word ``<s>`` and V + 1 for ``</s>`` within a line.

    As KenLM reads them: the first begins a sentence, with the probability that the file gives it, 1 or almost 0; the
    second ends one, and both are followed by more. What is predicted then is no distribution.
    """
    words, orders = _renumbered(file)
    size, (begin, end) = len(words), (_index_of(file, word) for word in (BEGIN, END))
    extended = [_appended(orders[0], file.orders[0].where(np.array([begin, end])), np.array([[size], [size + 1]]))]
    for table in orders[1:]:
        for column, word in ((0, size), (-1, size + 1)):
            chosen = table.where(table.tokens[:, column] == BOUNDARY)
            tokens = chosen.tokens.copy()
            tokens[:, column] = word
            table = _appended(table, chosen, tokens)
        extended.append(table)
    return _built(file.path, [*words, BEGIN, END], extended)


def _built(path: Path, words: Sequence[bytes], orders: Sequence[NgramTable]) -> ArpaModel:
    try:
        return ArpaModel(words, orders)
    except _Twice as error:
        table, row = error.args
        ngram = b" ".join(words[token] for token in table.tokens[row]).decode(errors="replace")
        problem = f"line {int(table.lines[row]):,}: the n-gram {ngram!r} has stood before"
        raise UserError(path, problem, "every n-gram stands once") from error


def _renumbered(file: ArpaFile) -> tuple[list[bytes], list[NgramTable]]:
    """Words and n-grams with the boundary as token 0, and <unk> as the last one.

    N-grams with <s> behind another word, or with </s> before one, can never be used, and are left out.
    """
    begin, end, unknown = (_index_of(file, word) for word in (BEGIN, END, UNKNOWN))
    rest = [index for index in range(len(file.words)) if index not in (begin, end, unknown)]
    numbers = np.zeros(len(file.words), dtype=np.int32)
    numbers[rest] = np.arange(1, len(rest) + 1)
    if unknown is not None:
        numbers[unknown] = len(rest) + 1
    words = [b"", *(file.words[index] for index in rest), UNKNOWN]
    unigrams = _unigrams(file, numbers, (begin, end), len(words))
    return words, [unigrams, *(_usable(table, numbers, begin, end) for table in file.orders[1:])]


def _index_of(file: ArpaFile, word: bytes) -> int | None:
    """Where a special word stands among the words, in small letters or else in capitals; <unk> may be missing."""
    for spelling in (word, word.upper()):
        if spelling in file.words:
            return file.words.index(spelling)
    if word != UNKNOWN:
        allowed = "every sentence begins with <s> and ends with </s>"
        raise UserError(file.path, f"has no 1-gram {word.decode()}", allowed, "estimate it with sentence boundaries")
    return None


def _unigrams(file: ArpaFile, numbers: np.ndarray, special: tuple[int | None, ...], size: int) -> NgramTable:
    """Order 1 by token: of token 0 the probability of </s>, and the back-off weight of <s>."""
    begin, end = special
    table, log10, backoffs = file.orders[0], np.full(size, NEVER), np.zeros(size)
    log10[numbers] = table.log10
    backoffs[numbers] = table.backoffs
    log10[BOUNDARY], backoffs[BOUNDARY] = table.log10[end], table.backoffs[begin]
    return NgramTable(np.arange(size, dtype=np.int32)[:, None], log10, backoffs)


def _usable(table: NgramTable, numbers: np.ndarray, begin: int | None, end: int | None) -> NgramTable:
    usable = table.where(~((table.tokens[:, 1:] == begin).any(axis=1) | (table.tokens[:, :-1] == end).any(axis=1)))
    ends = usable.tokens[:, -1] == end  # no context, since nothing follows </s>
    return NgramTable(numbers[usable.tokens], usable.log10, np.where(ends, 0.0, usable.backoffs), usable.lines)


def _appended(table: NgramTable, others: NgramTable, tokens: np.ndarray) -> NgramTable:
    """The n-grams of a table and, behind them, ``others`` under other tokens."""
    lines = np.concatenate([table.lines, others.lines]) if len(table.lines) else table.lines
    rows = np.concatenate([table.tokens, tokens]).astype(np.int32)
    log10 = np.concatenate([table.log10, others.log10])
    return NgramTable(rows, log10, np.concatenate([table.backoffs, others.backoffs]), lines)


# ---------------------------------------------------------------- the tree of n-grams


class _Twice(Exception):  # noqa: N818 (becomes an error where the words are known)
    """A table, and the row of an n-gram that stands in an earlier row, too."""


Tree = tuple[list[Level], list[np.ndarray], list[np.ndarray]]


def _levels(orders: Sequence[NgramTable], vocab_size: int) -> Tree:
    """Levels 0 ... N as those of ``counting``; log-probabilities and back-off weights of each, in nats."""
    tree = _tree(orders, vocab_size)
    if tree is None:
        tree = _tree(_with_suffixes(orders), vocab_size)
    assert tree is not None, "every n-gram has its suffix now"
    return tree


def _tree(orders: Sequence[NgramTable], vocab_size: int) -> Tree | None:
    """None where the n-gram that an n-gram ends in is not listed, as pruning may leave them."""
    levels, log_probs, backoffs = [Level(NOTHING, NOTHING, NOTHING, NOTHING)], [NOTHING], [NOTHING]
    for n, table in enumerate(orders, start=1):
        keys = table.tokens[:, 0].astype(np.uint64)
        if n > 1:
            parents = _suffixes(levels, table.tokens, vocab_size)
            if len(parents) and parents.min() < 0:
                return None
            keys += parents.astype(np.uint64) * np.uint64(vocab_size)
        rows = np.argsort(keys, kind="stable")
        keys = keys[rows]
        if (again := np.flatnonzero(keys[1:] == keys[:-1])).size:
            raise _Twice(table, int(rows[again[0] + 1]))
        levels.append(Level(keys, NOTHING, NOTHING, NOTHING))
        log_probs.append(table.log10[rows] * NATS)
        backoffs.append(table.backoffs[rows] * NATS)
    return levels, log_probs, backoffs


def _suffixes(levels: list[Level], tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """(U, n) tokens -> (U,) index at order n - 1 of the n-gram without its oldest token, -1 where it is not listed."""
    indices = tokens[:, -1].astype(np.int32)
    for length in range(2, tokens.shape[1]):
        indices = levels[length].find(indices, tokens[:, -length], vocab_size)
    return indices


def _with_suffixes(orders: Sequence[NgramTable]) -> list[NgramTable]:
    """Every suffix of an n-gram becomes an n-gram, without a probability (NaN) where it was not listed."""
    complete = list(orders)
    for n in range(len(orders) - 1, 1, -1):
        table, longer = complete[n - 1], complete[n]
        rows = np.concatenate([table.tokens, longer.tokens[:, 1:]])
        _, first = np.unique(rows, axis=0, return_index=True)
        missing = rows[np.sort(first[first >= len(table.tokens)])]
        zeros = np.zeros(len(missing), np.int64)
        complete[n - 1] = _appended(table, NgramTable(missing, zeros + np.nan, zeros + 0.0, zeros), missing)
    return complete
