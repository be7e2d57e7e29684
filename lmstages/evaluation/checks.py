"""The gate: what must hold of a fitted cell before a score of it is written; a failure stops the job.

    sums          the probabilities of the next token sum to one, none is above one, none is no number
    chain rule    score(x)[t] == next_log_probs(x[:t])[x[t]]
    future        scores do not change when what comes later does
    rows          scores do not change with the order of the rows, or with their company
    written       what is about to be written is what the model says of the text, at places drawn by chance
    coverage      every token is scored once, and the tokens cover the text's bytes, document by document

The laws hold of every class of model in the tests; here they are asked of this very model on this very text, at a few
positions and with short prefixes, so that it costs next to nothing. Knows a model only as ``LanguageModel``.
"""

import numpy as np

from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.models.base import LanguageModel

ROWS = 4
LENGTH = 16  # tokens of a row, and of the longest prefix
HEAD = np.array([0, 0, 1, 2])
POSITIONS = (0, 1, 5, LENGTH - 1)  # of which the distribution is asked
SUM = 1e-6
NATS = 1e-3  # two computations of one score: float32 over batches of other shapes
BOUNDS = ("bound", "compressor")  # classes without a next token's distribution
REMEDY = "this is a fault of the model's code, not of the text; nothing was written"


class CheckError(UserError):
    """A law that a fitted cell breaks: which, where, by how much, and what it means."""


def check_model(model: LanguageModel, documents: Documents, cell: str) -> None:
    """The laws of a model on rows of a held-out text, drawn by chance but the same each time."""
    rows = _rows(documents)
    if not rows.size:
        return
    scores = model.score(rows)
    _must_agree(
        cell, "rows", scores, model.score(rows[::-1])[::-1], "when the order of the rows is reversed", ROWS_MEAN
    )
    _must_agree(cell, "rows", scores[:1], model.score(rows[:1]), "when a row is scored alone", ROWS_MEAN)
    if model.config.category in BOUNDS:
        return
    known = -(-rows.shape[1] // 4)  # few, so that no window has slid past what comes later
    future = np.concatenate([rows[:, :known], (rows[:, known:] + 1) % model.vocab_size], axis=1)
    _must_agree(
        cell, "future", scores[:, :known], model.score(future)[:, :known], "when the future changes", FUTURE_MEANS
    )
    for place in (place for place in POSITIONS if place < rows.shape[1]):
        log_probs = model.next_log_probs(rows[:, :place])
        _must_sum_to_one(cell, log_probs, place)
        said = log_probs[np.arange(len(rows)), rows[:, place]]
        _must_agree(cell, "chain rule", scores[:, place], said, f"from next_log_probs of {place} tokens", CHAIN_MEANS)


ROWS_MEAN = "a row sees the others: a state leaks between rows, or chance is left on, as dropout is in training"
FUTURE_MEANS = "the model sees what it predicts: a causal mask is missing, or targets are shifted"
CHAIN_MEANS = "the score is not of the token that comes next: targets are shifted, or chance is left on"
WRITTEN_MEANS = "tokens are scored at the wrong place or with the wrong history"


def _rows(documents: Documents) -> np.ndarray:
    """(B, T) tokens from documents drawn by chance, or from places of one, none longer than the shortest drawn."""
    long = np.flatnonzero(documents.lengths >= min(LENGTH, int(documents.lengths.max(initial=0))))
    if not len(long) or not len(documents):
        return np.empty((0, 0), dtype=np.int64)
    draws = np.random.default_rng(len(documents))
    chosen = draws.choice(long, min(ROWS, len(long)), replace=False) if len(long) >= ROWS else np.repeat(long[0], ROWS)
    length = min(LENGTH, int(documents.lengths[chosen].min()))
    begin = documents.starts[chosen] + draws.integers(0, documents.lengths[chosen] - length + 1)
    return np.asarray(documents.tokens[begin[:, None] + np.arange(length)]).astype(np.int64)


def _must_sum_to_one(cell: str, log_probs: np.ndarray, place: int) -> None:
    with np.errstate(over="ignore"):
        sums, largest = np.exp(log_probs.astype(np.float64)).sum(-1), float(log_probs.max())
    worst = sums[np.argmax(np.where(np.isfinite(sums), np.abs(sums - 1), np.inf))]
    if not abs(worst - 1) <= SUM or not largest <= SUM:
        found = f"after {place} tokens the probabilities of the next sum to {worst:.9g}, the largest is e^{largest:.3g}"
        _refuse(cell, "sums", found, f"they sum to 1 within {SUM:g}, or bits per byte are no code length", REMEDY)


def _must_agree(cell: str, law: str, scores: np.ndarray, others: np.ndarray, what: str, means: str) -> None:
    """Where both are -inf they agree."""
    same = np.isclose(scores, others, rtol=NATS, atol=NATS)
    if not same.all():
        place = tuple(int(i[0]) for i in np.nonzero(~same))
        found = f"a score is {float(scores[place]):.6g} nats, and {float(others[place]):.6g} {what}"
        _refuse(cell, law, found, f"both are the same within {NATS:g}", f"{means}; {REMEDY}")


def _refuse(cell: str, law: str, found: str, allowed: str, remedy: str) -> None:
    raise CheckError(cell, f"breaks the law of {law}: {found}", allowed, remedy)


# ---------------------------------------------------------------- what is about to be written


def check_written(
    model: LanguageModel, documents: Documents, log_probs: np.ndarray, skip: int, window: int | None, cell: str
) -> None:
    """(N,) scores of a split before escapes are charged: each token once, and a few of them asked for again.

    ``window``: tokens of the windows it is scored in, None where every prediction had all of its document.
    """
    unscored = np.isnan(log_probs)
    if unscored[:skip].sum() != skip or unscored[skip:].any():
        found = f"{int(unscored[skip:].sum()):,} of {len(log_probs) - skip:,} tokens have no score"
        _refuse(cell, "coverage", found, "every token is scored once, after those that the config skips", REMEDY)
    if (log_probs[skip:] > SUM).any():
        found = f"a token has probability e^{np.nanmax(log_probs):.4g}"
        _refuse(cell, "coverage", found, "no probability is above one", REMEDY)
    if model.config.category in BOUNDS:
        return
    for place, first in _places(model, documents, skip, window):
        prefix = np.asarray(documents.tokens[first:place]).astype(np.int64)[None]
        said = model.next_log_probs(prefix)[:, documents.tokens[place]]
        what = f"asked for again at token {place}, after the {place - first} before it"
        _must_agree(cell, "written", log_probs[[place]], said, what, WRITTEN_MEANS)


def _places(model: LanguageModel, documents: Documents, skip: int, window: int | None) -> list[tuple[int, int]]:
    """Places whose whole history is short, each with where that begins: heads of documents, or any where context is."""
    draws, context = np.random.default_rng(len(documents) + 1), model.config.context
    adaptive = model.config.category == "online"
    filled = np.flatnonzero(documents.lengths)
    chosen = filled[:1] if adaptive else draws.choice(filled, min(2 * ROWS, len(filled)), replace=False)
    offsets = draws.integers(0, np.minimum(min(LENGTH, window or LENGTH), documents.lengths[chosen]))
    offsets[: len(HEAD)] = np.minimum(HEAD[: len(offsets)], offsets[: len(HEAD)])  # where a document sees another
    found = [(int(start + offset), int(start)) for start, offset in zip(documents.starts[chosen], offsets, strict=True)]
    if window is None and not adaptive and context is not None and context <= LENGTH:
        for place in draws.integers(0, len(documents), ROWS).tolist():
            start = int(documents.starts[np.searchsorted(documents.starts, place, side="right") - 1])
            found.append((place, max(start, place - LENGTH)))
    return [(place, first) for place, first in found if place >= skip and (window is None or first >= skip)]


def check_coverage(lengths: np.ndarray, starts: np.ndarray, document_ends: np.ndarray, cell: str) -> None:
    """(N,) bytes of each token, (D + 1,) first tokens of documents, (D,) bytes where they end in the text itself."""
    covered = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    size = int(document_ends[-1]) if len(document_ends) else 0
    if covered[-1] != size:
        found = f"the tokens cover {int(covered[-1]):,} bytes, the text has {size:,}"
        _refuse(cell, "coverage", found, "bits per byte divide by the text's own bytes", COVERAGE_REMEDY)
    ends = covered[starts[1:]]
    for document in np.flatnonzero(ends != document_ends)[:1] if len(ends) == len(document_ends) else ():
        found = (
            f"document {document} ends at byte {int(ends[document]):,}, in the text at {int(document_ends[document]):,}"
        )
        _refuse(
            cell,
            "coverage",
            found,
            "each token covers its own bytes, not what tokens cover on average",
            COVERAGE_REMEDY,
        )


COVERAGE_REMEDY = "run snakemake again, so that tokens and text are of one making"
