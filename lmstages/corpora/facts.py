"""What the JSON files of a corpus hold, as shapes.

corpus.json       CorpusFacts
overlap.json      OverlapFacts
contrasts.json    Contrasts
"""

from typing import Annotated

from pydantic import Field

from lmstages.core.shapes import Count, Fraction, Number, Shape, Split


class SplitFacts(Shape):
    """Sizes of one split."""

    documents: Count
    bytes: Count
    characters: Count
    left_out: Count = 0


class Splits(Shape):
    """All three."""

    train: SplitFacts
    valid: SplitFacts
    test: SplitFacts


class CorpusFacts(Shape):
    """``corpus.json``."""

    description: str
    origin: str
    licence: str
    splits: Splits


class Fractions(Shape):
    """Fractions of one split that occur in train; None where there is nothing to count."""

    documents: Fraction | None
    near: Fraction | None
    windows: Fraction | None


class OverlapFacts(Shape):
    """``overlap.json``."""

    splits: Annotated[dict[Split, Fractions], Field(min_length=1)]
    measure: str
    window: Count
    near_of_train: Fraction  # of train's documents, among which near copies were looked for


class MinimalPair(Shape):
    """Two texts, of which the grammar can write one."""

    kind: str
    good: str
    bad: str


class Gap(Shape):
    """Mean bits of a second word when couples are counted."""

    seen_bits: Number | None
    unseen_bits: Number | None
    gap_bits: Number | None


class Contrasts(Shape):
    """``contrasts.json``; combinations are [document, begin, end, withheld, begin of the partner]."""

    pairs: list[MinimalPair]
    combinations: Annotated[dict[Split, list[tuple[Count, Count, Count, bool, Count]]], Field(min_length=1)]
    reference: Annotated[dict[Split, Gap], Field(min_length=1)]
