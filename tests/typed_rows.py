"""Typed rows of results, to be changed where a test needs it."""

from typing import Any

from lmstages.results.schema import Result

BIGRAM = Result(
    corpus="fables",
    split="test",
    tokenizer="char",
    model="bigram",
    type="bigram",
    title="Bigram",
    family="counts",
    category="static",
    rank=2,
    status="ok",
    protocol="stream",
    seeds="0",
    adds="Adds order: what comes next depends on the token before it.",
    source="Markov 1913",
    hyperparameters='{"add": 0.1}',
    inputs="{}",
)


def result(**changes: Any) -> Result:
    """A row like the bigram's but for what is given."""
    return Result(**{**vars(BIGRAM), **changes})
