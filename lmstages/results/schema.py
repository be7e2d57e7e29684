"""What a results folder holds: every table, and of each its columns with type, unit and meaning, declared once.

A table is a dataclass: a field is a column, ``X | None`` a column that may be empty. Whoever makes a row fills every
field, so that a missing figure is an error at the place that made the row and not in the page that shows it. The page
of columns in the documentation is generated from this file.

    results.parquet, results.csv    one line per (corpus, split, tokenizer, model)       ``Result``
    tables/NAME.parquet             everything else that is a table, one observation a line

Imports no pandas: ``frame`` makes data frames of these rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_type_hints, overload

Row = TypeVar("Row")

NOT_ON_THE_LADDER = ("compressor", "oracle")  # families that are no models: they close a table, in this order

# fmt: off  (a column a line)


class Column(NamedTuple):
    """Unit and meaning of a column; its name and type are those of the field."""

    unit: str
    text: str


def column(unit: str, text: str) -> Column:
    """``Annotated[float, column("bits per byte", "...")]``."""
    return Column(unit, text)


Corpus = Annotated[str, column("", "Corpus, as the config names it.")]
Split = Annotated[str, column("", "Part of the corpus that was scored: train, valid or test.")]
Tokenizer = Annotated[str, column("", "Tokenizer, as the config names it; - for rows that read bytes.")]
Model = Annotated[str, column("", "Model, as the config names it.")]
Title = Annotated[str, column("", "What the report calls the model.")]


@dataclass(kw_only=True)
class Result:
    """A model's scores on one held-out text; several seeds are one row, the mean of their code lengths."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    type: Annotated[str, column("", "Type of the model: its name on the ladder, or mixture, oracle, compressor ...")]
    title: Title
    family: Annotated[str, column("", "counts, neural, mixture, pretrained, reported, compressor or oracle.")]
    category: Annotated[
        str,
        column(
            "",
            "static, online, bound, compressor, pretrained, reported or oracle: rows of different categories are never ranked together.",
        ),
    ]
    rank: Annotated[int, column("", "Position on the ladder, from guessing up.")]
    status: Annotated[str, column("", "ok, or why there is no score.")]
    flag: Annotated[str | None, column("", "What is wrong with the row, where something is.")] = None
    warning: Annotated[
        str | None, column("", "What to know before comparing the row, and what to do: a sentence each.")
    ] = None
    protocol: Annotated[
        str, column("", "How much history a prediction was given: stream, whole, stride S of L, disjoint L.")
    ]
    seeds: Annotated[str, column("", "Seeds of the fits, separated by spaces; empty where nothing was fitted.")]
    ensemble_of: Annotated[str | None, column("", "Model whose seeds' probabilities are averaged in this row.")] = None

    tokens: Annotated[int | None, column("tokens", "Scored tokens.")] = None
    bytes: Annotated[int | None, column("bytes", "Bytes of the source text that these tokens cover.")] = None
    characters: Annotated[int | None, column("characters", "Unicode characters of that text.")] = None
    bits_per_byte: Annotated[
        float | None,
        column("bits/byte", "Code length: - sum log p / (bytes ln 2). The one axis on which every row stands."),
    ] = None
    bits_per_byte_low: Annotated[
        float | None, column("bits/byte", "Lower end of the 95 % interval, block bootstrap over the text.")
    ] = None
    bits_per_byte_high: Annotated[float | None, column("bits/byte", "Upper end of it.")] = None
    bits_per_byte_std: Annotated[float | None, column("bits/byte", "Standard deviation over seeds.")] = None
    bound_error: Annotated[
        float | None,
        column(
            "bits/byte",
            "Of a bound the Monte Carlo standard error: how far another choice of hidden or noisy tokens would be, typically; 0 where every choice was scored.",
        ),
    ] = None
    excess_bits_per_byte: Annotated[
        float | None, column("bits/byte", "Above the oracle, where the text's source is known exactly.")
    ] = None
    nats_per_token: Annotated[float | None, column("nats/token", "- sum log p / tokens.")] = None
    nats_per_character: Annotated[float | None, column("nats/character", "- sum log p / characters.")] = None
    nats_per_character_low: Annotated[float | None, column("nats/character", "Lower end of its 95 % interval.")] = None
    nats_per_character_high: Annotated[float | None, column("nats/character", "Upper end of it.")] = None
    perplexity: Annotated[float | None, column("", "exp(nats per token); comparable within one tokenizer only.")] = None
    perplexity_low: Annotated[float | None, column("", "Lower end of its 95 % interval.")] = None
    perplexity_high: Annotated[float | None, column("", "Upper end of it.")] = None

    below_model: Annotated[str | None, column("", "Model before it on the ladder, with which it is compared.")] = None
    below_tokenizer: Annotated[str | None, column("", "That row's tokenizer.")] = None
    below_difference: Annotated[
        float | None,
        column("bits/byte", "This row less that one, over the same blocks; negative where this row is better."),
    ] = None
    below_low: Annotated[float | None, column("bits/byte", "Lower end of the 95 % interval of the difference.")] = None
    below_high: Annotated[float | None, column("bits/byte", "Upper end of it.")] = None
    below_p: Annotated[
        float | None, column("", "Two-sided p-value of the difference, by flipping signs of blocks.")
    ] = None
    below_p_holm: Annotated[float | None, column("", "The same with Holm's correction for all pairs of the text.")] = (
        None
    )

    parameters: Annotated[int | None, column("numbers", "Free numbers that were fitted.")] = None
    tokens_seen: Annotated[
        int | None,
        column(
            "tokens",
            "Tokens of train seen in the fit, repeats counted; of a row made from other fits, in all of these together.",
        ),
    ] = None
    flops: Annotated[
        float | None,
        column(
            "operations",
            "Floating-point operations of the fit: 3 x matrix products of one token forwards x tokens seen; of a row made from other fits, the sum of theirs, empty where one is not known.",
        ),
    ] = None
    fit_seconds: Annotated[
        float | None,
        column(
            "s",
            "Wall time of the fit, mean over seeds; with that of the fits that an ensemble, a mixture or a quantized model is made of.",
        ),
    ] = None
    score_seconds: Annotated[float | None, column("s", "Wall time of scoring the split, mean over seeds.")] = None
    device: Annotated[str | None, column("", "Where it was fitted: cpu, cuda or mps.")] = None
    threads: Annotated[int | None, column("", "Threads of the fit.")] = None

    made_of: Annotated[str | None, column("", "Fitted model that this one was made from, without training.")] = None
    file_bytes: Annotated[float | None, column("bytes", "Size of its GGUF file, vocabulary included.")] = None
    bits_per_weight: Annotated[float | None, column("bits", "Mean bits of a weight.")] = None
    divergence: Annotated[
        float | None, column("nats/token", "Kullback-Leibler divergence from the model it was made from.")
    ] = None
    top1_agreement: Annotated[
        float | None, column("fraction", "How often both find the same next token likeliest.")
    ] = None
    tokens_per_second: Annotated[float | None, column("tokens/s", "Scored tokens a second.")] = None

    unseen_documents: Annotated[
        int | None, column("documents", "Held-out documents that are no document of train.")
    ] = None
    unseen_byte_fraction: Annotated[float | None, column("fraction", "Their share of the text's bytes.")] = None
    unseen_bits_per_byte: Annotated[
        float | None, column("bits/byte", "Bits per byte on documents that train does not hold.")
    ] = None
    unseen_nats_per_character: Annotated[float | None, column("nats/character", "The same in nats per character.")] = (
        None
    )
    unseen_nats_per_token: Annotated[float | None, column("nats/token", "The same in nats per token.")] = None

    adds: Annotated[str, column("", "What the model adds to the one before it on the ladder.")]
    source: Annotated[str, column("", "Who described it first.")]
    hyperparameters: Annotated[str, column("JSON", "Hyperparameters of the fit.")]
    inputs: Annotated[
        str, column("JSON", "First 12 digits of the sha256 of each input of the first fit, and of the code.")
    ]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells a row from all others."""
        return self.corpus, self.tokenizer, self.model, self.split


@dataclass(kw_only=True)
class Corpora:
    """A split of a corpus: its size and, where the source is known, its entropy."""

    corpus: Corpus
    split: Split
    description: Annotated[str, column("", "What the corpus is.")]
    origin: Annotated[str, column("", "Where it comes from.")]
    licence: Annotated[str, column("", "Its licence.")]
    documents: Annotated[int, column("documents", "Documents of the split.")]
    characters: Annotated[int, column("characters", "Unicode characters of the split.")]
    bytes: Annotated[int, column("bytes", "Bytes of the split.")]
    oracle_bits_per_byte: Annotated[float | None, column("bits/byte", "Code length under the text's own source.")] = (
        None
    )
    oracle_nats_per_character: Annotated[float | None, column("nats/character", "The same in nats per character.")] = (
        None
    )
    expected_bits_per_byte: Annotated[float | None, column("bits/byte", "Entropy of the source, exact.")] = None
    overlap_documents: Annotated[
        float | None, column("fraction", "Its documents that are a document of train, character for character.")
    ] = None
    overlap_near: Annotated[
        float | None, column("fraction", "Its documents that are one or nearly one: see the measure of a near copy.")
    ] = None
    overlap_windows: Annotated[
        float | None, column("fraction", "Its windows of so many characters that stand in train.")
    ] = None
    overlap_window: Annotated[int | None, column("characters", "Length of these windows.")] = None
    overlap_measure: Annotated[str | None, column("", "What counts as nearly the same.")] = None
    overlap_near_of_train: Annotated[
        float | None,
        column("fraction", "Train's documents among which near copies were looked for; empty where all were."),
    ] = None


@dataclass(kw_only=True)
class Seed:
    """The score of one seed alone."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    seed: Annotated[int, column("", "Seed of the fit.")]
    bits_per_byte: Annotated[float, column("bits/byte", "Code length.")]


@dataclass(kw_only=True)
class Difference:
    """Two rows of one text, compared over the same blocks: a less b."""

    corpus: Corpus
    split: Split
    a_corpus: Annotated[str, column("", "Corpus of row a.")]
    a_tokenizer: Annotated[str, column("", "Tokenizer of row a.")]
    a_model: Annotated[str, column("", "Model of row a.")]
    b_corpus: Annotated[str, column("", "Corpus of row b.")]
    b_tokenizer: Annotated[str, column("", "Tokenizer of row b.")]
    b_model: Annotated[str, column("", "Model of row b.")]
    difference: Annotated[float, column("bits/byte", "Bits per byte of a less those of b; negative where a is better.")]
    low: Annotated[float, column("bits/byte", "Lower end of its 95 % interval.")]
    high: Annotated[float, column("bits/byte", "Upper end of it.")]
    p: Annotated[float, column("", "Two-sided p-value by flipping the signs of whole blocks.")]
    p_holm: Annotated[float, column("", "The same with Holm's correction for all pairs of the text.")]


@dataclass(kw_only=True)
class CurvePoint:
    """A point of a learning curve."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    seed: Annotated[int, column("", "Seed of the fit.")]
    step: Annotated[int, column("steps", "Steps of gradient descent done.")]
    tokens: Annotated[int, column("tokens", "Tokens seen until then.")]
    train: Annotated[float, column("nats/token", "Mean training loss since the point before.")]
    valid: Annotated[float | None, column("nats/token", "Loss on valid, of the weights that would be kept.")]
    learning_rate: Annotated[float, column("", "Learning rate of the last step.")]
    train_bits_per_byte: Annotated[
        float | None, column("bits/byte", "train at the tokens per byte of the whole of train; empty where not known.")
    ] = None
    valid_bits_per_byte: Annotated[
        float | None, column("bits/byte", "valid at the tokens per byte of the whole of valid; empty where not known.")
    ] = None


@dataclass(kw_only=True)
class Position:
    """Bits per byte of the tokens that stand equally far into their document."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    low: Annotated[int, column("tokens", "Fewest tokens of the document before the token.")]
    high: Annotated[int, column("tokens", "One more than the most.")]
    tokens: Annotated[int, column("tokens", "Scored tokens.")]
    bytes: Annotated[int, column("bytes", "Bytes that they cover.")]
    bits_per_byte: Annotated[float | None, column("bits/byte", "Their code length.")]


@dataclass(kw_only=True)
class Drift:
    """A row's score in one tenth of the held-out text, and what online evaluation gains there."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    category: Annotated[str, column("", "static, online, bound, pretrained, reported or oracle.")]
    tenth: Annotated[
        int, column("", "Tenth of the text's bytes, from 1, in whole blocks: documents, where there are many.")
    ]
    bytes: Annotated[int, column("bytes", "Scored bytes of these blocks.")]
    bits_per_byte: Annotated[float, column("bits/byte", "Code length of the tenth.")]
    low: Annotated[float | None, column("bits/byte", "Lower end of its 95 % interval, bootstrap over blocks.")]
    high: Annotated[float | None, column("bits/byte", "Upper end of it.")]
    twin: Annotated[str | None, column("", "Of an online row the same model without online evaluation.")]
    gain: Annotated[
        float | None, column("bits/byte", "Its bits per byte less those of this row, over the same blocks.")
    ]
    gain_low: Annotated[float | None, column("bits/byte", "Lower end of its 95 % interval.")]
    gain_high: Annotated[float | None, column("bits/byte", "Upper end of it.")]


@dataclass(kw_only=True)
class PublishedFigure:
    """A figure that somebody printed, beside ours."""

    corpus: Annotated[str | None, column("", "Corpus; empty for a claim that no row can meet.")]
    tokenizer: Annotated[str | None, column("", "Tokenizer.")]
    model: Annotated[str | None, column("", "Model.")]
    split: Annotated[str | None, column("", "Split.")]
    measure: Annotated[str | None, column("", "Column of the results that was printed.")]
    value: Annotated[float | None, column("as the measure", "What was printed.")]
    tolerance: Annotated[float | None, column("as the measure", "How near counts as reproduced.")]
    ours: Annotated[float | None, column("as the measure", "What came out here.")]
    verdict: Annotated[str, column("", "reproduced, better, differs, impossible as published or not run.")]
    source: Annotated[str, column("", "Who printed it.")]
    claim: Annotated[str | None, column("", "A statement in words.")]
    setup: Annotated[str | None, column("", "Under which set-up.")]
    because: Annotated[str | None, column("", "Why ours differs.")]
    impossible: Annotated[bool, column("", "What was printed cannot come of what was described.")]


@dataclass(kw_only=True)
class SweepPoint:
    """A row of the results that belongs to a swept entry of the config."""

    sweep: Annotated[str, column("", "Name of the swept entry.")]
    section: Annotated[str, column("", "Section of the config that it stands in.")]
    keys: Annotated[str, column("JSON", "The swept keys, in order.")]
    values: Annotated[str, column("JSON", "Their values in this row.")]
    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    bits_per_byte: Annotated[float | None, column("bits/byte", "Code length.")]
    bits_per_byte_low: Annotated[float | None, column("bits/byte", "Lower end of its 95 % interval.")]
    bits_per_byte_high: Annotated[float | None, column("bits/byte", "Upper end of it.")]
    bits_per_byte_std: Annotated[float | None, column("bits/byte", "Standard deviation over seeds.")]
    perplexity: Annotated[float | None, column("", "exp(nats per token).")]
    nats_per_character: Annotated[float | None, column("nats/character", "- sum log p / characters.")]
    parameters: Annotated[int | None, column("numbers", "Free numbers that were fitted.")]


@dataclass(kw_only=True)
class ScalingPoint:
    """A model at one size of train text, of a sweep of ``use``."""

    sweep: Annotated[str, column("", "Name of the swept corpus.")]
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    use: Annotated[float, column("fraction", "Share of train that was used.")]
    bytes: Annotated[int, column("bytes", "Its size.")]
    flops: Annotated[float | None, column("operations", "Floating-point operations of the fit.")]
    bits_per_byte: Annotated[float, column("bits/byte", "Code length of the held-out text.")]
    bits_per_byte_low: Annotated[float | None, column("bits/byte", "Lower end of its 95 % interval.")]
    bits_per_byte_high: Annotated[float | None, column("bits/byte", "Upper end of it.")]


@dataclass(kw_only=True)
class Crossing:
    """Where a model and the next one up the ladder change places as train grows."""

    sweep: Annotated[str, column("", "Name of the swept corpus.")]
    split: Split
    lower: Annotated[str, column("", "tokenizer/model that stands lower on the ladder.")]
    upper: Annotated[str, column("", "The next one up.")]
    ahead: Annotated[str, column("", "Which is better with the least text.")]
    bytes: Annotated[float | None, column("bytes", "Size of train at which they change places; empty for nowhere.")]


@dataclass(kw_only=True)
class Novelty:
    """Many samples of a model, measured beside test text of like length."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    samples: Annotated[int, column("", "How many samples were measured.")]
    characters: Annotated[int, column("characters", "Their length together.")]
    ended: Annotated[float | None, column("fraction", "Samples that ended by themselves, before the longest length.")]
    in_train: Annotated[float | None, column("fraction", "Samples that stand in train whole.")]
    in_test: Annotated[float | None, column("fraction", "Samples that stand in the held-out text whole.")]
    new: Annotated[float | None, column("fraction", "Samples that stand neither in train nor in the held-out text.")]
    recalled: Annotated[
        float | None, column("fraction", "Held-out documents unknown to train that stand among the samples.")
    ]
    unit: Annotated[str, column("", "What n-grams are counted of: words or characters.")]
    distinct_1: Annotated[float | None, column("fraction", "Different 1-grams of all.")]
    distinct_2: Annotated[
        float | None, column("fraction", "Different pairs of neighbours (2-grams) of all pairs; few are repetition.")
    ]
    distinct_3: Annotated[float | None, column("fraction", "Different 3-grams of all.")]
    distinct_1_of_test: Annotated[float | None, column("fraction", "The same of held-out text.")]
    distinct_2_of_test: Annotated[float | None, column("fraction", "The same of as much held-out text.")]
    distinct_3_of_test: Annotated[float | None, column("fraction", "The same of held-out text.")]
    searched: Annotated[
        float | None, column("fraction", "Train's text that was searched for copies; empty where all was.")
    ] = None
    copy_mean: Annotated[
        float | None, column("characters", "Mean over samples of the longest piece copied from train.")
    ]
    copy_max: Annotated[float | None, column("characters", "The longest of them.")]
    copy_mean_of_test: Annotated[float | None, column("characters", "The mean for held-out text.")]
    copy_max_of_test: Annotated[float | None, column("characters", "The longest for held-out text.")]
    length_min: Annotated[float | None, column("characters", "Shortest sample.")]
    length_median: Annotated[float | None, column("characters", "Median length of a sample.")]
    length_max: Annotated[float | None, column("characters", "Longest sample.")]
    accepted: Annotated[float | None, column("fraction", "Samples that the corpus's grammar may write.")]
    accepted_characters: Annotated[
        float | None, column("characters", "For how many characters a sample is grammatical, mean.")
    ]
    code_length: Annotated[
        float | None, column("bits/character", "Code length under the grammar, as far as it accepts.")
    ]


@dataclass(kw_only=True)
class MinimalPairs:
    """How often a model finds the grammatical one of two texts likelier."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    contrast: Annotated[str, column("", "In what the two texts differ; all for all together.")]
    accuracy: Annotated[
        float,
        column("fraction", "Pairs whose grammatical text the model finds likelier, ties half; guessing gets 50 %."),
    ]
    pairs: Annotated[int, column("pairs", "How many were asked.")]


@dataclass(kw_only=True)
class Neighbours:
    """How often a token's nearest neighbour in the embedding is of its own category."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    fraction: Annotated[float, column("fraction", "Tokens whose nearest neighbour by cosine is of their category.")]
    chance: Annotated[float, column("fraction", "The same if a neighbour were any other token.")]
    tokens: Annotated[int, column("tokens", "Tokens that have a category.")]


@dataclass(kw_only=True)
class Transfer:
    """Couples of words that train holds, and couples that were withheld from it."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    couples: Annotated[int, column("couples", "Couples in the text that train may hold.")]
    withheld: Annotated[int, column("couples", "Couples that were withheld from train.")]
    sees: Annotated[float, column("fraction", "Couples whose first word lies within the model's context.")]
    seen: Annotated[float | None, column("bits/byte", "Code length of the second word in couples of train.")]
    unseen: Annotated[float | None, column("bits/byte", "Code length of the second word in withheld couples.")]
    gap: Annotated[float | None, column("bits/byte", "unseen less seen.")]
    gap_low: Annotated[float | None, column("bits/byte", "Lower end of its 95 % interval, bootstrap over documents.")]
    gap_high: Annotated[float | None, column("bits/byte", "Upper end of it.")]
    gap_bits: Annotated[
        float | None,
        column(
            "bits/couple",
            "What the second word of a withheld couple costs more than that of a couple of train; near 0 a model expects both alike.",
        ),
    ]
    gap_bits_low: Annotated[float | None, column("bits/couple", "Lower end of its 95 % interval.")]
    gap_bits_high: Annotated[float | None, column("bits/couple", "Upper end of it.")]
    reference_bits: Annotated[float | None, column("bits/couple", "The gap of counting the couples themselves.")]
    gap_closed: Annotated[
        float | None,
        column(
            "fraction",
            "1 - gap_bits / reference_bits: 100 % where there is no gap, 0 where it is that of counting couples; empty where sees is below a half.",
        ),
    ]
    gap_closed_low: Annotated[float | None, column("fraction", "Lower end of its 95 % interval.")]
    gap_closed_high: Annotated[float | None, column("fraction", "Upper end of it.")]


@dataclass(kw_only=True)
class Infilling:
    """What the hidden middle of a row costs a model: both sides known and its length told or not, or the left alone."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder; the oracle comes last.")]
    gap: Annotated[str, column("", "What is hidden: so many characters, or a whole word or sentence.")]
    length: Annotated[
        float,
        column("characters", "Hidden characters of a row; of words and sentences the mean of those that are filled."),
    ]
    side: Annotated[
        str,
        column(
            "", "What is known: both (sides and the length), left (alone, and the length), or any length (both sides)."
        ),
    ]
    method: Annotated[
        str,
        column(
            "",
            "lattice (exact, over the states of the model), bayes (every fill tried), own (the model fills by itself), left (from left to right), or oracle.",
        ),
    ]
    reads: Annotated[
        int | None, column("characters", "The most characters of the right side that the method uses; empty for all.")
    ]
    status: Annotated[str, column("", "ok, or why there is no figure.")]
    places: Annotated[
        int, column("places", "Rows whose middle was hidden, the same for all models; without those left out.")
    ]
    lacking: Annotated[int, column("places", "Rows left out since no whole word or sentence stands in them.")]
    skipped: Annotated[int, column("places", "Rows left out since what is hidden is too long for the method.")]
    too_short: Annotated[int, column("documents", "Documents shorter than a row, left out.")]
    context: Annotated[int, column("characters", "Length of a row, the hidden characters included.")]
    nats_per_character: Annotated[float | None, column("nats/character", "- log p(middle) / length, mean of places.")]
    low: Annotated[float | None, column("nats/character", "Lower end of its 95 % interval, bootstrap over places.")]
    high: Annotated[float | None, column("nats/character", "Upper end of it.")]
    exact_match: Annotated[float | None, column("fraction", "Places where the best fill is what was hidden.")]
    than_left: Annotated[
        float | None, column("nats/character", "Less the same model from the left alone: what the right side buys.")
    ] = None
    than_left_low: Annotated[float | None, column("nats/character", "Lower end of its 95 % interval.")] = None
    than_left_high: Annotated[float | None, column("nats/character", "Upper end of it.")] = None
    than_left_p: Annotated[float | None, column("", "Two-sided p-value by flipping the signs of places.")] = None
    ngram: Annotated[
        str | None, column("", "Best model of counts at this length, exactly filled, with which it is compared.")
    ] = None
    than_ngram: Annotated[
        float | None, column("nats/character", "Less that model, place by place; negative where this one is better.")
    ] = None
    than_ngram_low: Annotated[float | None, column("nats/character", "Lower end of its 95 % interval.")] = None
    than_ngram_high: Annotated[float | None, column("nats/character", "Upper end of it.")] = None
    than_ngram_p_holm: Annotated[
        float | None, column("", "p-value by flipping the signs of places, with Holm's correction for the length.")
    ] = None


@dataclass(kw_only=True)
class Fill:
    """A gap as one model filled it."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    gap: Annotated[str, column("", "What is hidden: so many characters, or a whole word or sentence.")]
    length: Annotated[int, column("characters", "Hidden characters.")]
    place: Annotated[int, column("", "Number of the gap, the same for all models and lengths.")]
    side: Annotated[str, column("", "What is known: both sides, or the left alone.")]
    left: Annotated[str, column("", "Text before the gap.")]
    middle: Annotated[str, column("", "What is hidden.")]
    right: Annotated[str, column("", "Text after the gap.")]
    fill: Annotated[str, column("", "Best fill; of a model that predicts one by one the likeliest each time.")]
    probability: Annotated[float, column("", "Probability of the best fill.")]
    nats: Annotated[str, column("JSON", "Nats of each hidden character, given those before it and the known sides.")]


@dataclass(kw_only=True)
class Generated:
    """What one way of drawing text from a model costs in quality and in time."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    sampler: Annotated[
        str,
        column(
            "",
            "next token (from left to right), random or certain (places of a block at once, in a random order or the most certain first), denoising (uniform noise taken back), or mending (a whole text drawn anew).",
        ),
    ]
    steps: Annotated[
        int | None, column("", "Steps of a block, or of a whole text; empty where each token has its own.")
    ]
    passes: Annotated[int, column("", "Predictions that follow on each other in a text.")]
    length: Annotated[int, column("tokens", "Longest text, and held-out rows that are scored.")]
    texts: Annotated[int, column("texts", "Texts that were drawn, all at once, and rows that were scored.")]
    too_short: Annotated[int, column("documents", "Held-out documents shorter than a row, left out.")]
    measure: Annotated[
        str, column("", "exact: bits_per_byte is the code length under the sampler; bound: at most so; none.")
    ]
    bits_per_byte: Annotated[
        float | None, column("bits/byte", "Code length of the rows under the sampler, each read by itself.")
    ]
    low: Annotated[float | None, column("bits/byte", "Lower end of its 95 % interval, bootstrap over rows.")]
    high: Annotated[float | None, column("bits/byte", "Upper end of it.")]
    than_next: Annotated[
        float | None, column("bits/byte", "Less the same model token by token: what its parallel steps cost.")
    ]
    than_next_low: Annotated[float | None, column("bits/byte", "Lower end of its 95 % interval.")]
    than_next_high: Annotated[float | None, column("bits/byte", "Upper end of it.")]
    seconds: Annotated[
        float | None, column("s", "Seconds of one thread for 1,000 characters, all texts drawn at once.")
    ]
    is_best: Annotated[
        bool, column("", "No sampler of the text with an exact code length is as fast and as good, and better in one.")
    ]
    ended: Annotated[float, column("fraction", "Texts that ended before the longest length.")]
    unit: Annotated[str, column("", "What n-grams are of: words or characters.")]
    distinct_1: Annotated[float | None, column("fraction", "Different ones of all words or characters.")]
    distinct_2: Annotated[float | None, column("fraction", "Different ones of all pairs.")]
    distinct_3: Annotated[float | None, column("fraction", "Different ones of all triples.")]
    distinct_1_of_test: Annotated[float | None, column("fraction", "The same of the held-out rows.")]
    distinct_2_of_test: Annotated[float | None, column("fraction", "The same of the held-out rows.")]
    distinct_3_of_test: Annotated[float | None, column("fraction", "The same of the held-out rows.")]
    new_1: Annotated[float | None, column("fraction", "Words or characters that train lacks.")]
    new_3: Annotated[float | None, column("fraction", "Triples that train lacks.")]
    new_1_of_test: Annotated[float | None, column("fraction", "The same of the held-out rows.")]
    new_3_of_test: Annotated[float | None, column("fraction", "The same of the held-out rows.")]
    accepted: Annotated[float | None, column("fraction", "Texts that the corpus's grammar may write, or begin with.")]
    accepted_characters: Annotated[
        float | None, column("characters", "For how many characters a text is grammatical, mean.")
    ]
    code_length: Annotated[
        float | None, column("bits/character", "Code length under the grammar, as far as it accepts.")
    ]
    text: Annotated[str, column("", "The first text.")]


@dataclass(kw_only=True)
class Draft:
    """A text on the way: what a sampler has after some of its steps."""

    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    sampler: Annotated[str, column("", "As in the table of what is generated.")]
    steps: Annotated[int, column("", "Steps of a block, or of a whole text.")]
    number: Annotated[int, column("", "Number of the text.")]
    step: Annotated[int, column("", "Predictions that it has behind it.")]
    pieces: Annotated[
        str,
        column(
            "JSON", "Pieces [text, state]: kept since the earlier draft that is shown, new since then, or hidden still."
        ),
    ]


@dataclass(kw_only=True)
class Induction:
    """Random tokens said twice: whether an attention head looks up what came after the token the first time."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    score: Annotated[float, column("fraction", "Mean weight of the best head on the token after the earlier copy.")]
    by_chance: Annotated[float, column("fraction", "The same if all positions counted alike.")]
    layer: Annotated[int, column("", "Layer of the best head, from 1.")]
    head: Annotated[int, column("", "Number of the best head, from 1.")]
    period: Annotated[int, column("tokens", "Length of the repeated sequence.")]
    nats_first: Annotated[float, column("nats/token", "What a token costs the first time.")]
    nats_second: Annotated[float, column("nats/token", "What it costs the second time.")]
    drop: Annotated[float, column("nats/token", "First less second: above 0 the model has used the first copy.")]


@dataclass(kw_only=True)
class Recalled:
    """What a fact said earlier in a story is worth to a network where the story recalls it."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    kind: Annotated[str | None, column("", "What the fact is: a variable of the grammar; empty for all together.")]
    facts: Annotated[int, column("facts", "How many were asked for.")]
    clean: Annotated[float, column("nats/answer", "- log p of the answer's first token after the story as it is.")]
    corrupted: Annotated[float, column("nats/answer", "The same where the story said another word for the fact.")]
    worth: Annotated[
        float, column("nats/answer", "corrupted less clean: 0 for a network that does not recall the fact.")
    ]
    worth_low: Annotated[float | None, column("nats/answer", "Lower end of its 95 % interval, bootstrap over facts.")]
    worth_high: Annotated[float | None, column("nats/answer", "Upper end of it.")]


@dataclass(kw_only=True)
class Restored:
    """Causal tracing: how much of the facts' worth comes back when one state of the network is restored."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    rank: Annotated[int, column("", "Position on the ladder.")]
    layer: Annotated[int, column("", "Layer after which the state stands; 0 for the embedding.")]
    part: Annotated[str, column("", "state for all of it; of an LSTM also hidden or cell alone.")]
    position: Annotated[
        str,
        column(
            "",
            "Where the state stands: first, middle or last token of the fact, the next token, halfway to the answer, or recall, where the answer is predicted.",
        ),
    ]
    restored: Annotated[float, column("nats/answer", "- log p of the answer with the state restored, mean of facts.")]
    recovered: Annotated[
        float | None,
        column(
            "fraction",
            "(corrupted - restored) / (corrupted - clean); empty where the network does not recall the facts for certain.",
        ),
    ]
    recovered_low: Annotated[float | None, column("fraction", "Lower end of its 95 % interval, bootstrap over facts.")]
    recovered_high: Annotated[float | None, column("fraction", "Upper end of it.")]


@dataclass(kw_only=True)
class Pair:
    """How often one frequent token follows another: counted in train, and as a network expects it."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Annotated[str, column("", "Network whose expectation it is; empty for the counts of train.")]
    first: Annotated[str, column("", "Token; ␣ space, ↵ end of line, ¶ boundary.")]
    second: Annotated[str, column("", "Token after it.")]
    count: Annotated[float, column("", "How often, or how often the network would expect it.")]


@dataclass(kw_only=True)
class Frequency:
    """How often a frequent token occurs in train."""

    corpus: Corpus
    tokenizer: Tokenizer
    token: Annotated[str, column("", "Token.")]
    count: Annotated[int, column("", "How often.")]


@dataclass(kw_only=True)
class Cosine:
    """How alike the embeddings of two tokens are."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    width: Annotated[int, column("", "Numbers of an embedding.")]
    first: Annotated[str, column("", "Token.")]
    second: Annotated[str, column("", "Another.")]
    cosine: Annotated[float, column("", "Cosine of their embeddings.")]


@dataclass(kw_only=True)
class EmbeddingPoint:
    """A token of the embedding in two dimensions."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    projection: Annotated[str, column("", "PCA of all tokens, or t-SNE of small letters.")]
    stage: Annotated[str, column("", "initial (before training) or trained.")]
    token: Annotated[str, column("", "Token.")]
    group: Annotated[str, column("", "vowels, consonants, capitals, digits, signs, others, or a word category.")]
    x: Annotated[float, column("", "First coordinate.")]
    y: Annotated[float, column("", "Second coordinate.")]
    x_variance: Annotated[float | None, column("fraction", "Variance along the first component; PCA only.")]
    y_variance: Annotated[float | None, column("fraction", "Variance along the second component; PCA only.")]
    silhouette: Annotated[
        float | None, column("", "Silhouette of vowels and consonants by cosine, in all dimensions; t-SNE only.")
    ]


@dataclass(kw_only=True)
class AttentionWeight:
    """How much one head of one layer looks from a token at another."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Model
    title: Title
    layer: Annotated[int, column("", "Layer, from 1.")]
    head: Annotated[int, column("", "Head, from 1.")]
    query: Annotated[int, column("", "Position of the token that looks.")]
    key: Annotated[int, column("", "Position of the token that is looked at.")]
    query_token: Annotated[str, column("", "Token that looks.")]
    key_token: Annotated[str, column("", "Token that is looked at.")]
    weight: Annotated[float, column("fraction", "Attention weight; sums to one over keys.")]


@dataclass(kw_only=True)
class Change:
    """A row of one run beside the same row of another: what ``lmstages diff`` writes."""

    run: Annotated[str, column("", "Folder of the later run.")]
    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    model: Model
    title: Title
    family: Annotated[str, column("", "counts, neural, mixture, pretrained, reported, compressor or oracle.")]
    state: Annotated[str, column("", "both, only before or only after.")]
    before: Annotated[float | None, column("bits/byte", "Bits per byte in the first run.")]
    after: Annotated[float | None, column("bits/byte", "Bits per byte in the later run.")]
    same_text: Annotated[bool | None, column("", "Whether both were scored on the same bytes.")] = None
    difference: Annotated[float | None, column("bits/byte", "after less before, over the same blocks.")] = None
    low: Annotated[float | None, column("bits/byte", "Lower end of its 95 % interval.")] = None
    high: Annotated[float | None, column("bits/byte", "Upper end of it.")] = None
    p: Annotated[float | None, column("", "Two-sided p-value by flipping the signs of whole blocks.")] = None
    p_holm: Annotated[float | None, column("", "The same with Holm's correction for all rows of the comparison.")] = (
        None
    )
    changed: Annotated[str, column("", "Hyperparameters and facts that differ.")] = ""


TABLES: dict[str, type[Any]] = {  # by the name of the file; ``results`` lies at the top of the folder
    "results": Result,
    "corpora": Corpora,
    "seeds": Seed,
    "differences": Difference,
    "curves": CurvePoint,
    "positions": Position,
    "drift": Drift,
    "published": PublishedFigure,
    "sweeps": SweepPoint,
    "scaling": ScalingPoint,
    "crossings": Crossing,
    "novelty": Novelty,
    "minimal_pairs": MinimalPairs,
    "neighbours": Neighbours,
    "transfer": Transfer,
    "infilling": Infilling,
    "fills": Fill,
    "generated": Generated,
    "drafts": Draft,
    "induction": Induction,
    "recalled": Recalled,
    "restored": Restored,
    "frequencies": Frequency,
    "pairs": Pair,
    "cosines": Cosine,
    "embeddings": EmbeddingPoint,
    "attention": AttentionWeight,
}
OUTPUTS: dict[str, type[Any]] = TABLES | {"changes": Change}  # with what commands write besides


@dataclass(frozen=True, eq=False)
class Columns(Sequence[Row]):
    """Rows of a table held as numpy arrays by column, since a thousand models are half a million pairs.

    A row is made when it is asked for; ``frame`` takes the columns as they are.
    """

    row: type[Row]
    columns: Mapping[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Columns[Row]": ...
    def __getitem__(self, index: int | slice) -> "Row | Columns[Row]":
        if isinstance(index, slice):
            return Columns(self.row, {name: column[index] for name, column in self.columns.items()})
        return self.row(**{name: column[[index]].tolist()[0] for name, column in self.columns.items()})


DTYPES = {str: "string", int: "Int64", float: "float64", bool: "boolean"}


class Declared(NamedTuple):
    """A column as it was declared."""

    name: str
    dtype: str
    optional: bool
    unit: str
    text: str


def columns(row: type[Any]) -> list[Declared]:
    """The columns of a table in their order."""
    hints = get_type_hints(row, include_extras=True)
    return [_declared(field.name, hints[field.name]) for field in fields(row)]


def _declared(name: str, hint: Any) -> Declared:
    value, meaning = get_args(hint)
    types = [kind for kind in get_args(value) or (value,) if kind is not type(None)]
    return Declared(name, DTYPES[types[0]], len(types) < len(get_args(value) or (value,)), *meaning)
