"""What the JSON files of the analyses hold, as shapes.

samples.json, probe.json    Samples, Probe, of an experiment
generation.json             Generated, of an experiment
analyses.json               Analyses, of a corpus
inspection.json             Inspection, of a corpus under one tokenizer
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lmstages.core.shapes import Count, Fraction, NotNegative, Number, Shape, Split
from lmstages.corpora.facts import Fractions, Gap
from lmstages.evaluation.facts import WithStatus

Matrix = list[list[Number]]
Points = list[tuple[Number, Number]]


def must_be_as_long(expected: int, **lists: Sequence[Any]) -> None:
    """Raises ValueError where a list has another length."""
    for name, values in lists.items():
        if len(values) != expected:
            raise ValueError(f"{name} has {len(values)} entries, not {expected}")


def must_be_square(expected: int, **matrices: Matrix | None) -> None:
    """Raises ValueError where a matrix is no square of this size."""
    for name, matrix in matrices.items():
        if matrix is not None:
            must_be_as_long(expected, **{name: matrix})
            must_be_as_long(expected, **{f"{name}.{n}": row for n, row in enumerate(matrix)})


# ---------------------------------------------------------------- an experiment


class Samples(WithStatus):
    """Sampled texts, and whether each ended before the length limit."""

    texts: list[str] = []
    ended: list[bool] = []
    length: Count = 0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.must_have("texts", "ended", "length")
        must_be_as_long(len(self.texts), ended=self.ended)
        return self


class Accuracy(Shape):
    """Of minimal pairs of one kind."""

    accuracy: Fraction
    pairs: Count


class Neighbours(Shape):
    """Fraction of tokens whose nearest other token is of their category."""

    share: Fraction
    chance: Fraction
    tokens: Count
    categories: dict[str, Count]


class Probe(WithStatus):
    """Accuracies and neighbours."""

    minimal_pairs: dict[str, Accuracy] | None = None
    neighbours: Neighbours | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.must_have("minimal_pairs", "neighbours")
        return self


class OfTexts(Shape):
    """Measures of texts; None where there is nothing to measure, or no grammar."""

    distinct_1: Fraction | None
    distinct_2: Fraction | None
    distinct_3: Fraction | None
    new_1: Fraction | None
    new_3: Fraction | None
    unit: Literal["words", "characters"]
    accepted: Fraction | None
    accepted_characters: NotNegative | None
    code_length: NotNegative | None


class OfSampler(Shape):
    """How a model draws texts, what they are, and how long it took; ``steps`` None where each token has its own."""

    sampler: Literal["next token", "random", "certain", "denoising", "mending"]
    steps: Count | None
    passes: Count
    measure: Literal["exact", "bound", "none"]
    seconds: NotNegative
    characters: Count
    ended: Fraction
    text: str
    measures: OfTexts


def key_of(name: str, steps: int | None) -> str:
    """``random.4``: the name of the nats of a sampler, in the file beside the facts."""
    return name if steps is None else f"{name}.{steps}"


class DraftOfText(Shape):
    """A text after a step: pieces (text, known since an earlier draft, new in this one, or hidden still)."""

    sampler: Literal["random", "certain", "denoising", "mending"]
    steps: Count
    number: Count
    step: Count
    pieces: list[tuple[str, Literal["kept", "new", "hidden"]]]


class Generated(WithStatus):
    """What every sampler of a model drew, beside held-out text; and some texts, draft by draft."""

    split: Split = "test"
    length: Count = 0
    texts: Count = 0
    documents: Count = 0
    too_short: Count = 0
    held_out: OfTexts | None = None
    samplers: list[OfSampler] = []
    drafts: list[DraftOfText] = []

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.must_have("split", "length", "texts", "documents", "too_short", "held_out", "samplers", "drafts")
        return self


# ---------------------------------------------------------------- a corpus


class Unseen(Shape):
    """Figures on the documents that are no document of train; None is infinite."""

    documents: Count
    byte_fraction: Fraction
    bits_per_byte: Number | None
    nats_per_character: Number | None
    nats_per_token: Number | None


class Bin(Shape):
    """Tokens that stand equally far into their document."""

    low: Count
    high: Count
    tokens: Count
    bytes: Count
    bits_per_byte: Number | None


class Copies(Shape):
    """Characters copied from train."""

    mean: NotNegative | None
    max: NotNegative | None


Quantiles = Annotated[list[NotNegative], Field(min_length=5, max_length=5)] | None


class Novelty(Shape):
    """Samples measured beside held-out text."""

    samples: Count
    characters: Count
    ended: Fraction | None
    in_train: Fraction | None
    in_test: Fraction | None
    new: Fraction | None
    found: Fraction | None
    searched: Fraction  # of train, for copies
    unit: str
    distinct_1: Fraction | None
    distinct_2: Fraction | None
    distinct_3: Fraction | None
    distinct_1_of_test: Fraction | None
    distinct_2_of_test: Fraction | None
    distinct_3_of_test: Fraction | None
    longest_copy: Copies
    longest_copy_of_test: Copies
    length: Quantiles
    length_of_test: Quantiles
    accepted: Fraction | None
    accepted_characters: NotNegative | None
    code_length: Number | None


class Analysed(Shape):
    """A model on one split."""

    tokenizer: str
    model: str
    split: Split
    unseen: Unseen | None
    positions: list[Bin]
    novelty: Novelty | None
    minimal_pairs: dict[str, Accuracy] | None
    neighbours: Neighbours | None


class Couples(Shape):
    """How many couples of words a text holds, and how many of them a model can see whole."""

    tokenizer: str
    model: str
    split: Split
    couples: Count
    withheld: Count
    sees: Fraction


class OverlapOfSplit(Fractions):
    """How much of a split occurs in train."""

    measure: str
    window: Count
    near_of_train: Fraction


class Analyses(Shape):
    """All analyses of a corpus."""

    overlap: dict[Split, OverlapOfSplit]
    rows: list[Analysed]
    transfer: list[Couples]
    reference: dict[Split, Gap]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if lacking := {couples.split for couples in self.transfer} - self.reference.keys():
            raise ValueError(f"reference lacks {', '.join(sorted(lacking))}")
        return self


# ---------------------------------------------------------------- the inside of models


class Principal(Shape):
    """Principal components of an embedding."""

    points: Points
    shares: tuple[Number, Number]


class Letters(Shape):
    """Lower-case letters before and after training."""

    labels: list[str]
    kinds: list[str]
    points: dict[str, Points]
    silhouettes: dict[str, Number | None]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for stage in ("initial", "trained"):
            if stage not in self.points or stage not in self.silhouettes:
                raise ValueError(f"lacks {stage}")
        must_be_as_long(len(self.labels), kinds=self.kinds, **self.points)
        return self


class Embedding(Shape):
    """The embedding of the shown tokens."""

    width: Count
    cosines: Matrix
    kinds: list[str]
    principal: Principal
    letters: Letters | None


class Attention(Shape):
    """Weights by layer, head, query and key."""

    labels: list[str]
    weights: list[list[Matrix]]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for heads in self.weights:
            for head in heads:
                must_be_square(len(self.labels), weights=head)
        return self


class Induction(Shape):
    """Scores of the induction heads."""

    score: Number
    layer: Count
    head: Count
    period: Count
    by_chance: Number
    heads: Matrix
    nats_first: Number
    nats_second: Number
    drop: Number


class Tracing(Shape):
    """The kind of each traced fact, and the layer, part and position of each restored state."""

    kinds: Annotated[list[str], Field(min_length=1)]
    sites: Annotated[list[tuple[Count, str, str]], Field(min_length=1)]


class Inspected(Shape):
    """One model; None for what it does not have."""

    type: str
    expected: Matrix | None
    embedding: Embedding | None
    attention: Attention | None
    induction: Induction | None
    tracing: Tracing | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.attention is not None and self.induction is None:
            raise ValueError("attention without induction")
        return self


class Inspection(Shape):
    """Counts of train, and the inspected models."""

    labels: list[str]
    unigrams: list[Count]
    bigrams: Matrix
    models: dict[str, Inspected]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        size = len(self.labels)
        must_be_as_long(size, unigrams=self.unigrams)
        must_be_square(size, bigrams=self.bigrams)
        for name, model in self.models.items():
            must_be_square(size, **{f"{name}.expected": model.expected})
            if model.embedding is not None:
                must_be_square(size, **{f"{name}.cosines": model.embedding.cosines})
                must_be_as_long(size, kinds=model.embedding.kinds, points=model.embedding.principal.points)
        return self
