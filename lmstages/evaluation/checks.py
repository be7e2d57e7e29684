"""Checks of a fitted model and of its scores before they are written; a failed check stops the job.

    sums             the probabilities of the next token sum to one, none exceeds one, none is NaN
    chain rule       score(x)[t] == next_log_probs(x[:t])[x[t]]
    future           scores do not depend on later tokens
    rows             scores do not depend on the order of the rows, or on the other rows of a batch
    recomputation    the scores to be written equal next_log_probs, recomputed at random positions
    coverage         every token is scored once, and the tokens cover the text's bytes, document by document

The tests verify these laws for every class of model; here they are verified for the fitted model on the held-out text,
at a few positions with short prefixes, so that the cost is negligible. Uses a model only as ``LanguageModel``.
"""

import numpy as np

from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.core.workflow_files import STARTER
from lmstages.models.base import LanguageModel

ROWS = 4
LENGTH = 16  # tokens of a row, and of the longest prefix
HEAD = np.array([0, 0, 1, 2])  # first positions of documents that are always recomputed
POSITIONS = (0, 1, 5, LENGTH - 1)  # at which distributions are checked
SUM = 1e-6  # tolerance of a sum of probabilities
NATS = 1e-3  # tolerance between two computations of a score, in float32 over batches of different shapes
BOUNDS = ("bound", "compressor")  # categories without a distribution of the next token
REMEDY = "this is a fault of the model's code, not of the text; nothing was written"


class CheckError(UserError):
    """A law that a fitted model or its scores break: experiment, law, numbers, likely cause."""


def check_model(model: LanguageModel, documents: Documents, experiment: str) -> None:
    """Check a model on some rows of a held-out text, the same at each call; raises CheckError."""
    rows = _rows(documents)
    if not rows.size:
        return
    scores = model.score(rows)
    _check_rows(model, rows, scores, experiment)
    if model.config.category not in BOUNDS:
        _check_future(model, rows, scores, experiment)
        _check_chain_rule(model, rows, scores, experiment)


def _check_rows(model: LanguageModel, rows: np.ndarray, scores: np.ndarray, experiment: str) -> None:
    cause = "rows depend on each other: a state leaks between rows, or randomness such as dropout is still on"
    reversed_scores = model.score(rows[::-1])[::-1]
    _must_agree(experiment, "rows", scores, reversed_scores, "when the order of the rows is reversed", cause)
    _must_agree(experiment, "rows", scores[:1], model.score(rows[:1]), "when a row is scored alone", cause)


def _check_future(model: LanguageModel, rows: np.ndarray, scores: np.ndarray, experiment: str) -> None:
    cause = "the model reads what it predicts: a causal mask is missing, or targets are shifted"
    length = -(-rows.shape[1] // 4)  # short, so that no sliding window starts after the changed tokens
    changed = np.concatenate([rows[:, :length], (rows[:, length:] + 1) % model.vocab_size], axis=1)
    changed_scores = model.score(changed)[:, :length]
    _must_agree(experiment, "future", scores[:, :length], changed_scores, "when the future changes", cause)


def _check_chain_rule(model: LanguageModel, rows: np.ndarray, scores: np.ndarray, experiment: str) -> None:
    """``score`` against ``next_log_probs``, whose distributions must sum to one."""
    cause = "the score is not that of the next token: targets are shifted, or randomness such as dropout is still on"
    for position in (position for position in POSITIONS if position < rows.shape[1]):
        log_probs = model.next_log_probs(rows[:, :position])
        _must_sum_to_one(experiment, log_probs, position, getattr(model, "rounding", SUM))
        expected = log_probs[np.arange(len(rows)), rows[:, position]]
        condition = f"from next_log_probs of {position} tokens"
        _must_agree(experiment, "chain rule", scores[:, position], expected, condition, cause)


def _rows(documents: Documents) -> np.ndarray:
    """(B, T) tokens of random documents, or of random positions of one; T is at most the shortest of them."""
    long = np.flatnonzero(documents.lengths >= min(LENGTH, int(documents.lengths.max(initial=0))))
    if not len(long) or not len(documents):
        return np.empty((0, 0), dtype=np.int64)
    draws = np.random.default_rng(len(documents))
    chosen = draws.choice(long, min(ROWS, len(long)), replace=False) if len(long) >= ROWS else np.repeat(long[0], ROWS)
    length = min(LENGTH, int(documents.lengths[chosen].min()))
    begin = documents.starts[chosen] + draws.integers(0, documents.lengths[chosen] - length + 1)
    return np.asarray(documents.tokens[begin[:, None] + np.arange(length)]).astype(np.int64)


def _must_sum_to_one(experiment: str, log_probs: np.ndarray, position: int, tolerance: float) -> None:
    with np.errstate(over="ignore"):
        sums, largest = np.exp(log_probs.astype(np.float64)).sum(-1), float(log_probs.max())
    worst = sums[np.argmax(np.where(np.isfinite(sums), np.abs(sums - 1), np.inf))]
    if not abs(worst - 1) <= tolerance or not largest <= tolerance:
        problem = f"after {position} tokens the next probabilities sum to {worst:.9g}, the largest is e^{largest:.3g}"
        _refuse(experiment, "sums", problem, f"they sum to 1 within {tolerance:g}, or bits per byte are no code length")


def _must_agree(experiment: str, law: str, scores: np.ndarray, others: np.ndarray, condition: str, cause: str) -> None:
    """Raises CheckError where two computations of the same scores differ; two of -inf agree."""
    same = np.isclose(scores, others, rtol=NATS, atol=NATS)
    if not same.all():
        first = tuple(int(axis[0]) for axis in np.nonzero(~same))
        problem = f"a score is {float(scores[first]):.6g} nats, and {float(others[first]):.6g} {condition}"
        _refuse(experiment, law, problem, f"both are the same within {NATS:g}", f"{cause}; {REMEDY}")


def _refuse(experiment: str, law: str, problem: str, allowed: str, remedy: str = REMEDY) -> None:
    raise CheckError(experiment, f"breaks the law of {law}: {problem}", allowed, remedy)


# ---------------------------------------------------------------- scores before they are written


def check_scores(
    model: LanguageModel, documents: Documents, log_probs: np.ndarray, skip: int, window: int | None, experiment: str
) -> None:
    """Check (N,) scores of a split before escapes are charged: one per token, and equal to recomputed ones.

    ``window``: length of the scoring windows; None where every prediction had the history of its whole document.
    """
    unscored = np.isnan(log_probs)
    if unscored[:skip].sum() != skip or unscored[skip:].any():
        problem = f"{int(unscored[skip:].sum()):,} of {len(log_probs) - skip:,} tokens have no score"
        _refuse(experiment, "coverage", problem, "every token is scored once, after those that the config skips")
    if (log_probs[skip:] > SUM).any():
        problem = f"a token has probability e^{np.nanmax(log_probs):.4g}"
        _refuse(experiment, "coverage", problem, "no probability is above one")
    if model.config.category in BOUNDS:
        return
    for position, first in _recomputed_positions(model, documents, skip, window):
        prefix = np.asarray(documents.tokens[first:position]).astype(np.int64)[None]
        expected = model.next_log_probs(prefix)[:, documents.tokens[position]]
        cause = "tokens are scored at the wrong position or with the wrong history"
        condition = f"recomputed at token {position} from the {position - first} before it"
        _must_agree(experiment, "recomputation", log_probs[[position]], expected, condition, cause)


def _recomputed_positions(
    model: LanguageModel, documents: Documents, skip: int, window: int | None
) -> list[tuple[int, int]]:
    """(position, begin of its history) with short histories: heads of documents; anywhere if the context is short."""
    draws, context = np.random.default_rng(len(documents) + 1), model.config.context
    adaptive = model.config.category == "online"
    filled = np.flatnonzero(documents.lengths)
    chosen = filled[:1] if adaptive else draws.choice(filled, min(2 * ROWS, len(filled)), replace=False)
    offsets = draws.integers(0, np.minimum(min(LENGTH, window or LENGTH), documents.lengths[chosen]))
    first = min(len(HEAD), len(offsets))  # heads, where an error would read the document before
    offsets[:first] = np.minimum(HEAD[:first], offsets[:first])
    heads = zip(documents.starts[chosen], offsets, strict=True)
    histories = [(int(start + offset), int(start)) for start, offset in heads]
    if window is None and not adaptive and context is not None and context <= LENGTH:
        for position in draws.integers(0, len(documents), ROWS).tolist():
            start = int(documents.starts[np.searchsorted(documents.starts, position, side="right") - 1])
            histories.append((position, max(start, position - LENGTH)))
    least = skip if window is not None else 0  # of a window's first token
    return [(position, first) for position, first in histories if position >= skip and first >= least]


def check_coverage(lengths: np.ndarray, starts: np.ndarray, document_ends: np.ndarray, experiment: str) -> None:
    """Check (N,) bytes of tokens and (D + 1,) document starts against (D,) the ends of documents in the text, bytes."""
    covered = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    size = int(document_ends[-1]) if len(document_ends) else 0
    if covered[-1] != size:
        problem = f"the tokens cover {int(covered[-1]):,} bytes, the text has {size:,}"
        _refuse(experiment, "coverage", problem, "bits per byte divide by the text's own bytes", COVERAGE_REMEDY)
    ends = covered[starts[1:]]
    for document in np.flatnonzero(ends != document_ends)[:1] if len(ends) == len(document_ends) else ():
        end, true_end = int(ends[document]), int(document_ends[document])
        problem = f"document {document} ends at byte {end:,}, in the text at {true_end:,}"
        allowed = "each token covers its own bytes, not an average number"
        _refuse(experiment, "coverage", problem, allowed, COVERAGE_REMEDY)


COVERAGE_REMEDY = f"run {STARTER} again, so that tokens and text belong together"
