"""Bugs that published results had, injected one by one: a check fails with each, and passes without it."""

import numpy as np
import pytest
import torch
from test_checks import EXPERIMENT, Broken
from test_laws import fitted

from lmstages.core.documents import Documents
from lmstages.evaluation import checks, scoring
from lmstages.evaluation.laws import V, drawn
from lmstages.models.neural import attention

LONG = Documents.of([[*row, 0] for row in drawn(31, 25, 40)])
LEARNT = Documents.of([[*(np.arange(start, start + 24) % (V - 1) + 1).tolist(), 0] for start in range(30)])


def fails(model, law, documents=LONG):
    with pytest.raises(checks.CheckError, match=f"breaks the law of {law}"):
        checks.check_model(model, documents, EXPERIMENT)


def passes(model, documents=LONG):
    checks.check_model(model, documents, EXPERIMENT)


def written(model, documents, windows):
    return scoring.score(model, documents, windows)


# In a model


@pytest.fixture(scope="module")
def gpt():
    return fitted("gpt", tokens=np.concatenate([drawn(32, 400), LEARNT.tokens]))


def test_a_lost_causal_mask(gpt, monkeypatch):
    passes(gpt)
    attend = torch.nn.functional.scaled_dot_product_attention

    def unmasked(*args, **keys):
        return attend(*args, **keys | {"is_causal": False})

    for weight in gpt.network.parameters():  # far enough from its start that attention matters
        weight.data *= 3
    passes(gpt)
    monkeypatch.setattr(attention.functional, "scaled_dot_product_attention", unmasked)
    fails(gpt, "future")


def test_dropout_left_on(gpt):
    passes(gpt)
    gpt.network.train()
    for module in gpt.network.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.5
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    fails(gpt, "rows")


def test_batch_statistics_left_on():
    wavenet = fitted("wavenet")
    passes(wavenet)
    wavenet.network.train()
    fails(wavenet, "(rows|future)")


def test_a_shifted_target():
    """Each token is given the score of the one before it."""
    bigram = fitted("bigram")
    passes(bigram)
    fails(Broken(bigram, score=lambda x, before=None: np.roll(bigram.score(x), 1, axis=1)), "(future|chain rule)")


def test_a_target_that_is_also_an_input():
    bigram = fitted("bigram")

    def score(x, before=None):
        return bigram.next_log_probs(x.reshape(-1, 1))[np.arange(x.size), x.ravel()].reshape(x.shape)

    fails(Broken(bigram, score=score), "chain rule")


def test_a_state_that_leaks_between_rows():
    """The rows of a batch are read as one text, as by a recurrent network whose state is not reset."""
    lstm = fitted("lstm")
    passes(lstm)
    fails(Broken(lstm, score=lambda x, before=None: lstm.score(x.reshape(1, -1)).reshape(x.shape)), "rows")


def test_scores_in_bits_beside_distributions_in_nats():
    bigram = fitted("bigram")
    fails(Broken(bigram, score=lambda x, before=None: bigram.score(x) / np.log(2)), "chain rule")


def test_scores_and_distributions_both_in_bits():
    bigram = fitted("bigram")
    fails(
        Broken(
            bigram,
            score=lambda x, before=None: bigram.score(x) / np.log(2),
            next_log_probs=lambda prefix: bigram.next_log_probs(prefix) / np.log(2),
        ),
        "sums",
    )


# Distributions that do not sum to one. A published record in bits per byte was an n-gram cache of this kind.


def predicting(model, distribution):
    """A model that scores by ``distribution``, so that the chain rule holds and only the sum can fail."""

    def score(x, before=None):
        rows = np.arange(len(x))
        return np.stack([distribution(x[:, :t])[rows, x[:, t]] for t in range(x.shape[1])], axis=1)

    return Broken(model, score=score, next_log_probs=distribution)


def cached(prefix, model, normalised):
    """The model's probabilities and those of a cache over the prefix, 80 to 20."""
    counts = np.stack([np.bincount(row, minlength=V) for row in prefix.astype(np.int64)]).astype(float)
    total = counts.sum(-1, keepdims=True)
    uniform = np.full_like(counts, 1 / V)
    cache = np.where(total > 0, counts / np.maximum(total, 1), uniform)
    probabilities = np.exp(model.next_log_probs(prefix))
    larger = np.maximum(probabilities, cache)  # not normalised
    return np.log(0.8 * probabilities + 0.2 * cache if normalised else larger)


def test_an_ngram_cache_that_does_not_normalise():
    bigram = fitted("bigram")
    passes(predicting(bigram, lambda prefix: cached(prefix, bigram, True)))
    fails(predicting(bigram, lambda prefix: cached(prefix, bigram, False)), "sums")


def test_a_mixture_whose_weights_exceed_one():
    first, second = fitted("bigram"), fitted("unigram")

    def mixed(prefix, weight):
        return np.log(0.7 * np.exp(first.next_log_probs(prefix)) + weight * np.exp(second.next_log_probs(prefix)))

    passes(predicting(first, lambda prefix: mixed(prefix, 0.3)))
    fails(predicting(first, lambda prefix: mixed(prefix, 0.301)), "sums")


def test_probabilities_not_renormalised_after_top_k():
    bigram = fitted("bigram")

    def top(prefix, renormalised):
        log_probs = bigram.next_log_probs(prefix).copy()
        log_probs[log_probs < np.sort(log_probs, axis=-1)[:, [-5]]] = -np.inf
        return log_probs - np.logaddexp.reduce(log_probs, axis=-1, keepdims=True) if renormalised else log_probs

    passes(predicting(bigram, lambda prefix: top(prefix, True)))
    fails(predicting(bigram, lambda prefix: top(prefix, False)), "sums")


def test_padding_tokens_that_get_mass():
    """A vocabulary padded for speed, of which only the real tokens are returned."""
    draws = np.random.default_rng(33)
    logits = draws.normal(size=V + 9)

    def softmax(prefix, real):
        kept = logits[:real]
        return np.tile((kept - np.logaddexp.reduce(kept))[:V], (len(prefix), 1))

    bigram = fitted("bigram")
    passes(predicting(bigram, lambda prefix: softmax(prefix, V)))
    fails(predicting(bigram, lambda prefix: softmax(prefix, V + 9)), "sums")


# In what is scored


@pytest.fixture(scope="module")
def kneser_ney():
    return fitted("kneser_ney", tokens=LEARNT.tokens)


def check(model, documents, log_probs, window=None, skip=0):
    checks.check_scores(model, documents, log_probs, skip, window, EXPERIMENT)


def refused(law, *args, **keys):
    with pytest.raises(checks.CheckError, match=f"breaks the law of {law}"):
        check(*args, **keys)


def test_an_overlap_scored_twice(kneser_ney):
    windows = scoring.windows_of(LEARNT.starts, "stride", 8, 4, 0)
    check(kneser_ney, LEARNT, written(kneser_ney, LEARNT, windows), window=8)
    twice = scoring.Windows(windows.begin, windows.end, windows.begin)
    with pytest.raises(AssertionError, match="no token is scored twice"):
        written(kneser_ney, LEARNT, twice)


def test_an_overlap_that_is_not_scored(kneser_ney):
    windows = scoring.windows_of(LEARNT.starts, "stride", 8, 4, 0)
    fewer = scoring.Windows(windows.begin, windows.end, windows.scored_from + (windows.scored_from > windows.begin))
    refused("coverage: .* have no score", kneser_ney, LEARNT, written(kneser_ney, LEARNT, fewer), window=8)


def test_a_window_that_reads_the_document_before(kneser_ney):
    right = written(kneser_ney, LEARNT, scoring.windows_of(LEARNT.starts, "stream", 8, 8, 0))
    check(kneser_ney, LEARNT, right)
    end_to_end = Documents.single(LEARNT.tokens)
    wrong = written(kneser_ney, end_to_end, scoring.windows_of(end_to_end.starts, "stream", 8, 8, 0))
    refused("recomputation", kneser_ney, LEARNT, wrong)


def test_scores_written_one_token_late(kneser_ney):
    right = written(kneser_ney, LEARNT, scoring.windows_of(LEARNT.starts, "stream", 8, 8, 0))
    refused("recomputation", kneser_ney, LEARNT, np.roll(right, 1))


def test_scores_left_in_the_order_in_which_rows_were_batched():
    """Batches are sorted by length; without the inverse permutation only the sum and the averages stay right."""
    documents = Documents.of([[*row[:length], 0] for row, length in zip(drawn(34, 40, 30), range(1, 41), strict=True)])
    model = fitted("bigram")
    right = written(model, documents, scoring.windows_of(documents.starts, "stream", 8, 8, 0))
    check(model, documents, right)
    pieces = np.split(right, documents.starts[1:-1])
    refused("recomputation", model, documents, np.concatenate(sorted(pieces, key=len, reverse=True)))


def test_a_boundary_that_is_not_charged(kneser_ney):
    right = written(kneser_ney, LEARNT, scoring.windows_of(LEARNT.starts, "stream", 8, 8, 0))
    refused("coverage: .* have no score", kneser_ney, LEARNT, np.where(LEARNT.tokens == 0, np.nan, right))


# In the bytes


BYTES = np.tile([*[1] * 20, 3, 2, 1, 1, 1], 30)  # of LEARNT's tokens; the boundary is a newline
ENDS = np.cumsum(BYTES.reshape(30, -1).sum(1))


def covered(lengths, starts=LEARNT.starts):
    checks.check_coverage(lengths, starts, ENDS, EXPERIMENT)


def test_a_boundary_that_has_no_byte_where_the_text_has_one():
    covered(BYTES)
    with pytest.raises(checks.CheckError, match="the tokens cover 810 bytes, the text has 840"):
        covered(np.where(LEARNT.tokens == 0, 0, BYTES))


def test_a_wrong_bytes_per_token_constant():
    """A published record divided by a constant that was another corpus's bytes a token."""
    with pytest.raises(
        checks.CheckError, match="the tokens cover 1,500 bytes, the text has 840; bits per byte divide by"
    ):
        covered(np.full(len(BYTES), 2))


def test_a_right_bytes_per_token_constant_is_still_no_byte_count():
    """The sum is right and the documents are not: bits per byte would pass, intervals and pairs would not."""
    sizes = np.ones(len(BYTES), dtype=int)
    sizes[: 840 - len(BYTES)] += 1
    assert sizes.sum() == BYTES.sum()
    with pytest.raises(checks.CheckError, match="document 0 ends at byte 50, in the text at 28"):
        covered(sizes)


def test_tokens_of_another_text():
    with pytest.raises(checks.CheckError, match="run snakemake again, so that tokens and text belong together"):
        covered(BYTES[:-25], LEARNT.starts[:-1])
