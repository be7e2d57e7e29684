"""The sections of a config as typed records: unknown keys are refused, nothing is converted silently.

Knows the ladder's records; ``reading`` makes records of a file, ``run`` and ``jobs`` say what follows from them.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    model_validator,
)

from lmstages.config import own_models
from lmstages.config.hyperparameters import base
from lmstages.config.hyperparameters.base import ModelConfig, Seed, Width
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.sources import DEFAULT_COUNT, SOURCES, Source
from lmstages.config.text_files import Paths, layout_of
from lmstages.core.errors import UserError, did_you_mean, shortened
from lmstages.core.workflow_files import STARTER

UNBOUNDED_WINDOW = 256  # tokens, for a model without a longest context under a protocol that needs a window
USES_OF_A_CORPUS = ("evaluate", "tokenizers", "models", "inspect")
NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
EMBEDDED = tuple(DEFAULT_COUNT)
COUNTED = (*EMBEDDED, *(name for name, source in SOURCES.items() if source.hub and not source.is_in_parts))
SPLITS = ("train", "valid", "test")
SplitName = Literal["train", "valid", "test"]


LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(base.Record):
    """A section of the config."""

    @model_validator(mode="before")
    @classmethod
    def _whole_characters(cls, keys: Any) -> Any:
        """Raises ValueError for text with half a character, as ``"\\ud800"`` in YAML, which no file can hold."""
        for key, value in keys.items() if isinstance(keys, dict) else ():
            for text in value if isinstance(value, list) else (value,):
                if isinstance(text, str) and LONE_SURROGATE.search(text):
                    problem = f"{key}: {text[:60]!a} is no text in UTF-8"
                    raise ValueError(f"{problem}; a character beyond U+FFFF is one escape, a file's name is UTF-8")
        return keys


def _unique(values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError("names nothing; leave the key out for its default")
    if len(set(values)) < len(values):
        raise ValueError(f"{values} names something twice, which would then count twice")
    return values


UNIQUE = AfterValidator(_unique)


def _with_home(path: str) -> str:
    """``~/my.txt`` as a shell reads it, unless a file has that very name: in ``text=~/my.txt`` no shell does.

    Raises ValueError for text that is the path of nothing on any system.
    """
    if not path or "\0" in path:
        raise ValueError(f"{path!r} is no path" if path else "is empty; leave the key out, or give a path")
    return path if os.path.lexists(path) else os.path.expanduser(path)


OutsidePath = Annotated[str, AfterValidator(_with_home)]
ONE_PATH = TypeAdapter(OutsidePath, config=ConfigDict(strict=True))
LISTED_PATHS = TypeAdapter(Annotated[list[OutsidePath], UNIQUE], config=ConfigDict(strict=True))


def _path_or_list(value: Any, _: Any) -> Any:
    """A path or a list of them, also as ``text='[a.txt, b.txt]'`` has it; one error for what is neither."""
    if isinstance(value, str) and re.fullmatch(r"\[.*\]", value) and not os.path.lexists(value):
        from lmstages.config.strict_yaml import parse_value  # YAML's parser, which jobs need for nothing else

        value = parse_value(value, "a list of paths")
    return (LISTED_PATHS if isinstance(value, list) else ONE_PATH).validate_python(value)


OutsidePaths = Annotated[str | list[str], WrapValidator(_path_or_list)]
DocumentLayout = Literal["stream", "lines", "separator", "files", "records"]


AnySeed = Annotated[int, Field(gt=-(1 << 63), lt=1 << 63)]


class Split(Record):
    """The sizes of train, valid and test: fractions (at most 1) or counts, taken from the corpus in ``order``.

    A stream is cut by characters. Documents stay whole, shuffled by Python's own
    ``random.Random(shuffle_seed).shuffle`` unless the seed is null.
    """

    train: float = Field(
        0.8,
        ge=0,
        description="Size of the part that models are fitted on: a fraction, or a count of documents or characters.",
    )
    valid: float = Field(0.1, ge=0, description="Size of the part that chooses hyperparameters and stops early.")
    test: float = Field(0.1, ge=0, description="Size of the part that is scored and never read before.")
    shuffle_seed: AnySeed | None = Field(
        42, description="Seed of the order in which documents are dealt to the parts; null keeps the order of the text."
    )
    deduplicate: bool = Field(
        False, description="Leave out of valid and test the documents that train has, and of test those that valid has."
    )
    order: list[SplitName] = Field(
        ["train", "valid", "test"], description="Order in which the parts are cut from the corpus."
    )

    @model_validator(mode="after")
    def _sizes_make_sense(self) -> "Split":
        if sorted(self.order) != sorted(SPLITS):
            raise ValueError(f"order {self.order} must name train, valid and test once each")
        sizes = [self.train, self.valid, self.test]
        if self.train <= 0:
            raise ValueError("train is empty; a model needs text to learn from")
        if max(sizes) <= 1 and sum(sizes) > 1 + 1e-9:
            raise ValueError(f"fractions add up to {sum(sizes):g}, more than 1")
        if max(sizes) > 1 and any(size != int(size) for size in sizes):
            raise ValueError("sizes mix fractions and counts; give three fractions or three counts")
        return self

    def documents(self) -> int:
        """How many documents or characters counts ask for in all; 0 where sizes are fractions."""
        sizes = (self.train, self.valid, self.test)
        return sum(map(int, sizes)) if max(sizes) > 1 else 0


class SplitFiles(Record):
    """The files of each part, where a text comes in parts; each a file, a folder, a pattern or a list of these.

    They are taken as they are. A valid or test part that is not given is cut from train.
    """

    train: OutsidePaths = Field(description="Files that models are fitted on.")
    valid: OutsidePaths | None = Field(
        None, description="Files that choose hyperparameters; by default cut from train."
    )
    test: OutsidePaths | None = Field(None, description="Files that are scored; by default cut from train.")

    @classmethod
    def of(cls, paths: Mapping[str, str]) -> "SplitFiles":
        """The parts of files that were made here, by the name of the part."""
        keys: dict[str, Any] = {name: paths.get(name) for name in SPLITS}
        return cls.model_construct(**keys)

    def given(self) -> dict[str, Paths]:
        """The paths of the parts that have files, in the order train, valid, test."""
        return {name: paths for name in SPLITS if (paths := getattr(self, name)) is not None}

    def missing(self) -> list[str]:
        """The parts that are cut from train."""
        return [name for name in SPLITS if getattr(self, name) is None]


class HubSplits(Record):
    """The splits of a data set that are the parts; what it has no split for is cut from train."""

    train: str = Field("train", description="Split that models are fitted on.")
    valid: str | None = Field(None, description="Split that chooses hyperparameters; by default cut from train.")
    test: str | None = Field(None, description="Split that is scored; by default cut from train.")

    def given(self) -> dict[str, str]:
        """The split of each part that has one, in the order train, valid, test."""
        return {name: split for name in SPLITS if (split := getattr(self, name)) is not None}


class HubText(Record):
    """A data set of the Hugging Face hub at a commit, or ``{mirror}/{name}/``, a copy of its repository.

    A copy without the card of the data set has the files of a configuration in a folder of its name.
    """

    name: str = Field(description="Repository of the data set, such as roneneldan/TinyStories.")
    config: str | None = Field(None, description="Configuration of the data set, where it has several.")
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] = Field(
        description="Its commit, 40 hexadecimal digits, since names move."
    )
    field: str = Field("text", description="Column that holds the text of a row.")
    splits: HubSplits = Field(HubSplits(), description="Splits that are the parts.")


class Corpus(Record):
    """One text: embedded (``coined``, ``fables``), downloaded (``source``, ``hub``) or the user's own (``path``,
    ``files``).
    """

    source: str | None = Field(
        None, description="Text that is embedded (coined, fables) or downloaded; by default the entry's name."
    )
    path: OutsidePaths | None = Field(
        None,
        description="Text of your own, in place of source: a file, a folder, a pattern such as notes/*.md, or a list.",
    )
    files: SplitFiles | None = Field(None, description="Text of your own that comes in parts, in place of path.")
    hub: HubText | None = Field(None, description="Data set of the Hugging Face hub, in place of source.")
    field: str | None = Field(
        None, description="Field or column that holds the text of a record (JSON Lines, CSV, Parquet); by default text."
    )
    documents: DocumentLayout | None = Field(
        None,
        description="What a document is: the whole text (stream), a line, what a separator line ends, a file, a record."
        " By default a file of a folder, a record of a table, and of one plain text the stream.",
    )
    separator: str = Field("<|endoftext|>", description="Line that follows each document where documents is separator.")
    read_as: Literal["documents", "stream"] = Field(
        "documents", description="Model each document by itself, or all joined to one stream."
    )
    newlines: Literal["refuse", "keep", "unix"] = Field(
        "refuse",
        description="What to do with line ends other than newlines: refuse, keep, or turn into newlines (unix).",
    )
    count: Annotated[int, Field(ge=3, le=1 << 40)] | None = Field(
        None, description="Documents to draw or download; of an embedded text and of the stories of the hub."
    )
    seed: AnySeed = Field(0, description="Seed of the draw from a grammar.")
    use: float = Field(
        1.0, gt=0, le=1, description="Fraction of train that is used, from its beginning; valid and test stay."
    )
    split: Split = Field(Split(), description="How the text is cut into train, valid and test.")
    evaluate: Annotated[list[SplitName], UNIQUE] = Field(["test"], description="Parts that are scored.")
    tokenizers: Annotated[list[str], UNIQUE] | None = Field(
        None, description="Tokenizers that are run on it; by default all of the config."
    )
    models: Annotated[list[str], UNIQUE] | None = Field(
        None, description="Models that are run on it; by default all of the config."
    )
    inspect: bool = Field(False, description="Draw what its models hold: embeddings, counts, attention, facts.")

    @model_validator(mode="after")
    def _documents_as_they_lie(self) -> "Corpus":
        """Where the config leaves it open what a document is, and the files say it, the record says it too."""
        if self.documents is None and (own := self.own()) and (layout := layout_of([*own.values()], self.field)):
            object.__setattr__(self, "documents", layout)  # the record is frozen from here on
        self.must_make_sense()
        return self

    def must_make_sense(self) -> None:
        """Raises ValueError for keys that contradict each other."""
        sources = [*EMBEDDED, *SOURCES]
        if sum(origin is not None for origin in (self.source, self.path, self.files, self.hub)) != 1:
            others = "".join(f" or {key}" for key in ("files", "hub") if getattr(self, key))
            raise ValueError(f"needs either source or path{others}")
        self._must_be_keys_of_its_origin()
        if self.source is not None and self.source not in sources:
            hint = did_you_mean(self.source, sources)
            raise ValueError(f"source {self.source!r} is unknown; known: {sources}{hint}")
        if self.count is not None and self.source not in COUNTED and self.hub is None:
            raise ValueError(f"count belongs to the sources {', '.join(COUNTED)}; set the split's sizes instead")
        if self.embedded and self.split.documents() > (drawn := self.count or DEFAULT_COUNT[str(self.source)]):
            problem = f"split asks for {self.split.documents():,} documents in all, {drawn:,} are drawn"
            raise ValueError(f"{problem}; raise count, or lower the split")
        if self.split.deduplicate and "stream" in (self.layout, self.read_as):
            raise ValueError("split.deduplicate leaves out documents, and a stream has none; say how documents lie")

    def _must_be_keys_of_its_origin(self) -> None:
        if self.field is not None and (self.source is not None or self.hub is not None):
            remedy = "; of a data set of the hub it is hub.field" if self.hub else ""
            raise ValueError(f"field belongs to a text of your own: path or files{remedy}")
        if self.field is not None and self.documents in ("stream", "lines", "separator"):
            raise ValueError(f"field belongs to records, and documents is {self.documents}; leave one of them out")
        is_of_files = self.documents == "files" or (self.documents == "records" and self.hub is None)
        if is_of_files and not self.own():
            raise ValueError(f"documents: {self.documents} belongs to a text of your own: path or files")

    def own(self) -> dict[str, Paths]:
        """The paths of a text of one's own: {"": path}, or those of each part that has files."""
        return {"": self.path} if self.path is not None else self.files.given() if self.files is not None else {}

    def stories(self, part: str) -> str:
        """How many documents of a source's part are downloaded: ``count`` of train, all of any other."""
        return str(self.count) if self.count is not None and part == "train" else "all"

    def parts(self) -> list[str]:
        """The parts that a downloaded text comes in, if it is not cut from one."""
        if self.hub is not None:
            return list(self.hub.splits.given())
        source = SOURCES.get(self.source or "")
        return list(SPLITS) if source is not None and (source.is_in_parts or self._conventional(source)) else []

    def _conventional(self, source: Source) -> bool:
        """Whether it is cut as its source is by convention, since the config does not say otherwise."""
        return source.cut is not None and self.split == Split()

    @property
    def embedded(self) -> bool:
        """Drawn from a grammar of known entropy, so that there is an oracle."""
        return self.source in EMBEDDED

    @property
    def layout(self) -> DocumentLayout:
        """How the text separates its documents: as the config says, else as its source does."""
        if self.documents is not None or self.hub is not None:
            return self.documents or "records"
        return SOURCES[self.source].layout if self.source in SOURCES else "lines" if self.embedded else "stream"


LEARNT_TO_SIZE = ("word", "bpe", "unigram")  # kinds of tokenizers
LARGEST_LEARNT = 65536
LEARNT_FROM = 1 << 32  # bytes; a vocabulary from more hardly differs
SUBWORD_THREADS = 4
ABOUT_SIZES = {"whitespace": 33_000, "pretrained": 50_257}  # tokens; of WikiText-2 and of GPT-2


class Tokenizer(Record):
    """How text becomes tokens. ``alphabet: corpus`` takes the vocabulary from all splits, as published work does."""

    kind: Literal["byte", "char", "word", "whitespace", "bpe", "unigram", "pretrained"] = Field(
        description="What a token is: a byte, a character, a word, a word at white space with the line end as one, a"
        " subword of BPE or of a unigram model, or whatever a tokenizer made elsewhere says (pretrained)."
    )
    vocab_size: Annotated[int, Field(ge=258, le=1 << 24)] | None = Field(
        None,
        description="Number of tokens, at most 65,536; of word, bpe and unigram, which need it. Of whitespace the most,"
        " where it shall not take all words.",
    )
    closed: bool | None = Field(
        None,
        description="Of whitespace: hold every word of train and refuse any other, as published work does. By default"
        " other words are spelled, and charged for.",
    )
    alphabet: Literal["train", "corpus"] = Field(
        "train", description="Take the characters from train alone, or from all parts (corpus) as published work does."
    )
    learn_bytes: Annotated[int, Field(ge=1 << 20)] | None = Field(
        None,
        description="Of word, bpe and unigram: learn from about so many bytes where the text has more, in pieces drawn"
        " by a fixed seed; by default from 4 GiB.",
    )

    path: OutsidePath | None = Field(
        None,
        description="Of pretrained: tokenizer.json, a SentencePiece model (.model), a folder with one of them, or ranks"
        " of tiktoken (.tiktoken).",
    )
    tiktoken: Literal["gpt2", "r50k_base", "p50k_base", "cl100k_base", "o200k_base"] | None = Field(
        None, description="Of pretrained: encoding of OpenAI, downloaded, or with its ranks at path."
    )
    hub: str | None = Field(None, description="Of pretrained: repository of the Hugging Face hub.")
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = Field(
        None, description="Its commit, 40 hexadecimal digits."
    )

    @model_validator(mode="after")
    def _made_elsewhere(self) -> "Tokenizer":
        origins = [self.path or self.tiktoken, self.hub]
        if self.kind != "pretrained" and any((*origins, self.revision)):
            raise ValueError("path, tiktoken, hub and revision belong to kind pretrained")
        if self.kind == "pretrained" and sum(origin is not None for origin in origins) != 1:
            raise ValueError("kind pretrained needs one of path, tiktoken and hub")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision belong together: a commit of 40 hexadecimal digits, since names move")
        return self

    @model_validator(mode="after")
    def _size_where_needed(self) -> "Tokenizer":
        if self.kind != "whitespace" and (self.kind in LEARNT_TO_SIZE) != (self.vocab_size is not None):
            raise ValueError("vocab_size belongs to kinds word, bpe and unigram, which need it, and to whitespace")
        if self.kind != "whitespace" and (self.vocab_size or 0) > LARGEST_LEARNT:
            raise ValueError(f"vocab_size {self.vocab_size:,} found; at most {LARGEST_LEARNT:,} of kind {self.kind}")
        if self.kind != "whitespace" and self.closed is not None:
            raise ValueError("closed belongs to kind whitespace")
        if self.learn_bytes is not None and self.kind not in LEARNT_TO_SIZE:
            raise ValueError("learn_bytes belongs to kinds word, bpe and unigram, which count pieces of text")
        return self

    def most_learnt(self) -> int | None:
        """The bytes of text that a vocabulary is learnt from at most; None where it takes all."""
        return (self.learn_bytes or LEARNT_FROM) if self.kind in LEARNT_TO_SIZE else None

    def threads(self) -> int:
        """The threads that tokenizing can use: those of the library of subwords."""
        return SUBWORD_THREADS if self.kind in ("bpe", "unigram") else 1

    def about_size(self) -> int:
        """About how many tokens it has, for what a fit needs of a machine; before any text is read."""
        return self.vocab_size or ABOUT_SIZES.get(self.kind, 256)


class Scoring(Record):
    """What a prediction is conditioned on: all history, sliding windows, or disjoint windows.

    ``auto`` is ``stream`` where a model's context is a fixed window, ``stride`` for attention, and ``whole`` for
    online evaluation, since from a short document alone there is little to learn. ``skip`` leaves the first tokens
    of a split unscored, as some published figures do.
    """

    protocol: Literal["auto", "stream", "whole", "stride", "disjoint"] = Field(
        "auto", description="Which earlier tokens a prediction reads; auto follows from the model."
    )
    window: Width | None = Field(None, description="Tokens of a window; by default the model's context.")
    stride: Width | None = Field(
        None, description="Tokens by which a window moves; by default half of it, all of it under disjoint."
    )
    skip: int = Field(
        0,
        ge=0,
        le=1 << 40,
        description="Tokens at the beginning of a part that are left unscored, as some published figures do.",
    )

    @model_validator(mode="after")
    def _stride_fits(self) -> "Scoring":
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(f"stride {self.stride} exceeds window {self.window}: tokens between would go unscored")
        return self

    def resolved(self, config: ModelConfig) -> dict[str, Any]:
        """The protocol of a model with every default filled in: name, window, stride, skip."""
        automatic = "whole" if config.category == "online" else config.protocol
        name = automatic if self.protocol == "auto" else self.protocol
        window = self.window or config.context or UNBOUNDED_WINDOW
        stride = window if name == "disjoint" else self.stride or -(-window // 2)
        return {"protocol": name, "window": window, "stride": stride, "skip": self.skip}


Temperature = Annotated[float, Field(gt=0, le=100)]
ONE_TEMPERATURE = TypeAdapter(Temperature, config=ConfigDict(strict=True, allow_inf_nan=False))
TEMPERATURES = TypeAdapter(Annotated[list[Temperature], UNIQUE], config=ConfigDict(strict=True))


def _temperature_or_list(value: Any, _: Any) -> Any:
    """A temperature or a list of them; one error for what is neither."""
    return (TEMPERATURES if isinstance(value, list) else ONE_TEMPERATURE).validate_python(value)


class Sampling(Record):
    """How text is drawn from every fitted model for the report, at every temperature of a list."""

    count: int = Field(5, ge=1, le=10000, description="Samples per temperature that the report shows.")
    length: int = Field(200, ge=1, le=100000, description="Longest sample in tokens.")
    temperature: Annotated[float | list[float], WrapValidator(_temperature_or_list)] = Field(
        1.0, description="Divides the logits: below 1 likelier tokens, above 1 less likely ones; a list draws at each."
    )
    top_k: Annotated[int, Field(ge=1, le=1 << 24)] | None = Field(
        None, description="Draw among this many likeliest tokens; null draws among all."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Draw among the likeliest tokens that reach this probability together."
    )
    prompt: str = Field("", description="Text that every sample continues.")
    seed: Seed = Field(0, description="Seed of the draws, the same for every model.")
    measured: int = Field(
        500, ge=0, le=1000000, description="Further samples that are measured and not shown; 0 measures none."
    )
    measured_tokens: int = Field(
        8000, ge=1, le=1 << 40, description="About so many tokens are measured in all, so that long samples are fewer."
    )


MEASURED = ("measured", "measured_tokens")


def _gap(value: Any) -> Any:
    if value not in ("word", "sentence") and not (type(value) is int and 1 <= value <= 256):
        raise ValueError(f"{value!r} found; allowed: 1 to 256 characters, word, sentence")
    return value


Gap = Annotated[Annotated[int, Field(ge=1, le=256)] | Literal["word", "sentence"], BeforeValidator(_gap)]


class Infill(Record):
    """What the middle of a row costs a model that knows both sides of it, on tokenizers of kind char.

    Rows that do not overlap are cut from the first part that is evaluated; documents shorter than a row are left out.
    Every static model that is fitted takes part, by the exact method that it allows, and every mixture of such models.
    """

    lengths: Annotated[list[Gap], UNIQUE] = Field(
        [1, 2, 4, 8, 16],
        description="Hidden characters in the middle of a row, each measured by itself; word or sentence: the whole one"
        " that is nearest to the middle.",
    )
    places: int = Field(200, ge=1, le=100000, description="Rows that are drawn, the same for every model of a text.")
    context: int = Field(128, ge=3, le=1 << 16, description="Characters of a row, the hidden ones included.")
    rows: int = Field(
        20000,
        ge=1,
        le=1 << 40,
        description="Rows that a model without states of its own may score for all places of a length, to try every"
        " fill by Bayes' rule; what needs more is left out.",
    )
    reads: int = Field(
        32, ge=1, le=1 << 16, description="Characters of the right side that such a model reads to try a fill, at most."
    )
    any_length: bool = Field(
        False,
        description="Fill the gaps also where their length is not told, 1 to 16 characters: by n-gram models, which may"
        " take a second a place, and by fim.",
    )
    corpora: Annotated[list[str], UNIQUE] | None = Field(None, description="Texts that are filled; by default all.")
    models: Annotated[list[str], UNIQUE] | None = Field(
        None, description="Models and mixtures that take part; by default all that can."
    )

    @property
    def gaps(self) -> dict[str, Any]:
        """What the gaps of every text and model are."""
        return self.model_dump(exclude={"corpora", "models"})

    @model_validator(mode="after")
    def _both_sides(self) -> "Infill":
        longest = max((length for length in self.lengths if isinstance(length, int)), default=1)
        if longest > self.context - 2:
            problem = f"lengths: a middle of {longest} has no character on each side in a row of {self.context}"
            raise ValueError(f"{problem}; raise context to {longest + 2}, or shorten it")
        return self


StepCount = Annotated[int, Field(ge=1, le=1 << 16)]


class Generation(Record):
    """What each way of drawing text costs in quality and in time, for every model that is fitted and does not learn
    from the text that it scores.

    A sampler draws texts, and is charged for as many beginnings of held-out documents; shorter documents are left out.
    """

    steps: Annotated[list[StepCount], UNIQUE] = Field(
        [1, 2, 4, 8, 16, 32, 64],
        description="Steps in which diffusion models predict a block, at most its tokens, or change a whole text.",
    )
    texts: int = Field(
        64, ge=1, le=100000, description="Texts that each sampler draws, and held-out rows that it is charged for."
    )
    length: int = Field(
        64, ge=1, le=100000, description="Tokens of a text, and of a row; at most the window of every model."
    )
    drafts: int = Field(2, ge=0, le=100, description="Texts that the report shows draft by draft.")
    seed: Seed = Field(0, description="Seed of the draws, the same for every sampler.")


Measure = Literal["perplexity", "nats_per_token", "nats_per_character", "bits_per_byte", "parameters"]
FIGURE_KEYS = ("corpus", "model", "split", "measure", "value", "tolerance")


class Published(Record):
    """A figure printed elsewhere, to be compared with ours; or, with ``claim``, a statement that no experiment tests.

    ``because`` says why ours differs; ``impossible`` that what was printed cannot follow from what was described.
    """

    corpus: str | None = Field(None, description="Corpus of the row that the figure is compared with.")
    tokenizer: str | None = Field(None, description="Tokenizer of that row; by default every tokenizer of the model.")
    model: str | None = Field(None, description="Model of that row.")
    split: SplitName | None = Field(None, description="Part of the corpus that was scored.")
    measure: Measure | None = Field(None, description="Measure of the printed value.")
    value: Annotated[float, Field(gt=0)] | None = Field(None, description="The value as printed.")
    tolerance: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Largest difference that counts as agreement."
    )
    source: str = Field(description="Where it was printed.")
    claim: str | None = Field(None, description="A statement in place of a figure, which no experiment tests.")
    setup: str | None = Field(None, description="What is known of the set-up that made it.")
    because: str | None = Field(None, description="Why ours differs.")
    impossible: bool = Field(False, description="What was printed cannot follow from what was described.")

    @model_validator(mode="after")
    def _a_figure_or_a_claim(self) -> "Published":
        lacking = [key for key in FIGURE_KEYS if getattr(self, key) is None]
        if lacking and (lacking != list(FIGURE_KEYS) or self.claim is None):
            raise ValueError(f"lacks {', '.join(lacking)}; a statement without all of these is a claim alone")
        return self


Seeds = Annotated[list[Seed], UNIQUE]


class OwnSeeds(Record):
    """Seeds of one model in place of the run's."""

    seeds: Seeds | None = Field(None, description="Seeds of this model in place of the run's.")


class Model(OwnSeeds):
    """A model with its hyperparameters, and how it is scored, which never re-fits it."""

    config: ModelConfig = Field(description="Hyperparameters of the model.")
    scoring: Scoring = Field(description="How the fitted model is scored; a change re-fits nothing.")

    @property
    def is_static(self) -> bool:
        """Whether it has a distribution of the next token and learns nothing from what it has scored."""
        return self.config.category == "static"

    @property
    def can_fill(self) -> bool:
        """Whether it fills gaps by itself; one made from another does so in mixtures alone."""
        return self.is_static and not isinstance(self.config, base.Derived)


def _at_least_two(values: list[str]) -> list[str]:
    if len(values) < 2:
        raise ValueError(f"{values} is no mixture; name at least two models")
    return values


class Mixture(Record):
    """Averages what several models predict, each token by itself: what one knows that the others do not lowers the
    mixture below each of them. From their scores alone; the weights are fitted on valid, or equal.
    """

    of: Annotated[list[str], UNIQUE, AfterValidator(_at_least_two)] = Field(
        description="Models whose probabilities are averaged."
    )
    weights: Literal["fitted", "equal"] = Field("fitted", description="Fitted on valid, or equal.")


class Pretrained(Record):
    """A model trained elsewhere, with its own vocabulary: from the hub at a commit, from a folder, a GGUF file, or, of
    n-grams, an ARPA file.

    ``window`` is at most the checkpoint's own, by default that or 2,048; ``stride`` by default half of it. ``memory``
    bounds its memory, in gigabytes. A list for ``bos``, ``window`` or ``stride`` is a sweep.
    """

    hub: str | None = Field(None, description="Repository of the Hugging Face hub.")
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = Field(
        None, description="Its commit, 40 hexadecimal digits."
    )
    path: OutsidePath | None = Field(None, description="Folder in the Hugging Face layout.")
    gguf: OutsidePath | None = Field(None, description="GGUF file; of a model in several files any of them.")
    arpa: OutsidePath | None = Field(
        None, description="ARPA file of an n-gram model, of KenLM, SRILM or export; also packed (gz, bz2, xz, zst)."
    )
    tokenizer: OutsidePath | None = Field(
        None, description="Of arpa: tokenizer.json of a run, whose tokens are its words; by default words of the text."
    )
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest that the GGUF or ARPA file must have; of several files, one behind the other."
    )
    engine: Literal["torch", "transformers", "llama.cpp"] | None = Field(
        None,
        description="What computes it: our own torch code, transformers for a folder of any architecture, llama.cpp"
        " for GGUF; by default our own for a LLaMA, transformers for any other folder, llama.cpp for any other GGUF.",
    )
    window: Annotated[int, Field(ge=2, le=1 << 17)] | None = Field(
        None, description="Tokens of a window, at most the checkpoint's own; by default that or 2,048."
    )
    stride: Width | None = Field(None, description="Tokens by which a window moves; by default half of it.")
    bos: Literal["each_window", "document", "none"] | None = Field(
        None,
        description="Where the begin-of-text token stands: before each window, before each document, or nowhere; by"
        " default before each window of a Gemma, before each document of all others.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision of the weights and of what transformers computes with them."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Where transformers computes: auto takes a GPU if the job sees one, cuda asks a cluster for one.",
    )
    memory: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Gigabytes that it may take; a larger checkpoint is refused before anything is scored."
    )
    samples: bool = Field(True, description="Draw samples too.")
    corpora: Annotated[list[str], UNIQUE] | None = Field(
        None, description="Corpora that it is scored on; by default all."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "Pretrained":
        if sum(origin is not None for origin in (self.hub, self.path, self.gguf, self.arpa)) != 1:
            raise ValueError("needs one of hub, path, gguf and arpa")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision belong together: a commit of 40 hexadecimal digits, since names move")
        if self.gguf is None and (self.engine == "llama.cpp" or (self.sha256 is not None and self.arpa is None)):
            raise ValueError("sha256 and engine: llama.cpp belong to gguf")
        if self.engine == "transformers" and (self.gguf or self.arpa):
            raise ValueError("engine: transformers belongs to path and hub")
        if self.arpa is None and self.tokenizer is not None:
            raise ValueError("tokenizer belongs to arpa")
        given = [key for key in ("engine", "window", "stride", "bos", "memory") if getattr(self, key) is not None]
        if self.arpa is not None and given:
            raise ValueError(f"{', '.join(given)}: of checkpoints, not of arpa; an n-gram model has an order")
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(f"stride {self.stride} exceeds window {self.window}: tokens between would go unscored")
        return self


Unit = Literal["nats", "bits", "log10"]
UNITS = get_args(Unit)


class ReportedScores(Record):
    """Log-probabilities made elsewhere, one for each token of a held-out text: a row of its own, beside the models.

    A file of JSONL, parquet or two columns, whatever made it; the tutorial *Judge scores made elsewhere* has its forms.
    """

    path: OutsidePath = Field(description="File of scores; also packed by gzip, bzip2, xz or zstd.")
    corpus: str | None = Field(None, description="Corpus whose text was scored; by default the only one of the run.")
    split: SplitName = Field("test", description="Part of the corpus that was scored; one that is evaluated.")
    unit: Unit | None = Field(
        None, description="Unit of the log-probabilities: nats, bits or log10 (KenLM); null where the file states it."
    )
    title: str | None = Field(None, description="What the report calls the row.")
    source: str | None = Field(None, description="Who made the scores, and with what.")


# Files of a vocabulary beside tokenizer.json and tokenizer.model, which transformers converts
VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
OWN = "own"  # in place of the tokenizer in the path of a pretrained model's experiment


class Basics(Record):
    """What holds for every experiment of a run."""

    name: str = Field(description="Name of the run, from the file's name or the setting as.")
    mirror: OutsidePath | None = Field(
        None, description="Folder or address that replaces the addresses of downloaded texts."
    )
    seeds: Seeds = Field([0], description="Seeds of the neural models; several give a mean and a spread.")
    estimation: bool = Field(
        False, description="Close the report with maximum likelihood by hand: a coin, and three outcomes."
    )
    tensorboard: bool = Field(
        False,
        description="Write learning curves to logs/ as TensorBoard's events while networks are fitted; changes no job.",
    )
    compressors: Annotated[list[Literal["gzip", "bz2", "xz", "zstd"]], UNIQUE] | None = Field(
        None, description="General programs whose code length stands beside the models."
    )


def to_json(content: Any) -> str:
    """Sorted keys, so that equal sections are equal texts."""
    return json.dumps(content, sort_keys=True)


def chosen(names: list[str] | None, defined: Iterable[str]) -> list[str]:
    """The names that are listed, or all that are defined where none is."""
    return list(defined) if names is None else names


def to_section(record: BaseModel) -> str:
    """A record as the JSON one job receives."""
    return to_json(record.model_dump(mode="json"))


def from_section(record_type: type[BaseModel], section: Any) -> Any:
    """The record of a section, with or without ``properties``; a UserError where a person pasted something else."""
    problems: list[str] = []
    keys = {key: section[key] for key in section if key != "properties"} if isinstance(section, dict) else section
    record = parsed(record_type, keys, "", problems)
    if problems:
        raise UserError("--section", "; ".join(problems))
    if isinstance(section, dict) and "properties" in section:
        _compare_properties(record, section["properties"])
    return record


def config_of(section: Mapping[str, Any]) -> ModelConfig:
    """The model of a job's section {type, hyperparameters, properties}.

    Raises a UserError where a person pasted something else, or where this code derives other properties than the code
    that wrote the section. A section written by hand may leave the properties out.
    """
    config: ModelConfig = from_section(_record_of(section["type"], section), section["hyperparameters"])
    if "properties" in section:
        _compare_properties(config, section["properties"])
    return config


def _record_of(name: Any, section: Mapping[str, Any]) -> type[ModelConfig]:
    """The record of a type; a UserError for an unknown one, and for one of one's own whose file has changed."""
    if own_models.is_own(name):
        record = own_models.load(name)
        if section.get("properties", {}).get("content", record.content) != record.content:
            raise UserError(name, "changed since the run began", "", f"start {STARTER} again, which fits it anew")
        return record
    if name not in MODEL_TYPES:
        hint = did_you_mean(str(name), MODEL_TYPES)
        raise UserError("--section", f"unknown model {name!r}{hint}", ", ".join(MODEL_TYPES))
    return MODEL_TYPES[name]


def _compare_properties(record: base.Record, stated: Mapping[str, Any]) -> None:
    derived = record.properties()
    if different := [key for key in {**derived, **stated} if derived.get(key) != stated.get(key)]:
        name = getattr(record, "name", type(record).__name__.lower())
        problem = f"this code derives other properties of {name} from its keys ({', '.join(different)})"
        raise UserError("--section", problem, "", f"start {STARTER} again, which makes anew what changed")


def parsed(
    record_type: type[BaseModel], entry: Any, where: str, problems: list[str], other_keys: tuple[str, ...] = ()
) -> Any:
    """The record, or None with its mistakes appended to ``problems``; ``other_keys`` belong to the same section."""
    if not isinstance(entry, dict):
        problems.append(f"{where}: {shortened(entry, LONGEST_SHOWN)} is not a mapping")
        return None
    try:
        return record_type.model_validate(entry)
    except ValidationError as error:
        allowed = [*record_type.model_fields, *other_keys]
        problems.extend(mistake(allowed, where, detail) for detail in error.errors())
        return None


LONGEST_SHOWN = 200  # characters of a wrong value in its message


def mistake(allowed: list[str], where: str, detail: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors in the section ``where`` with the ``allowed`` keys."""
    path = ".".join(str(part) for part in (where, *detail["loc"]) if part != "")
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        hint = did_you_mean(key, allowed)
        return f"{where and f'{where}: '}unknown key {key!r}{hint}; allowed: {', '.join(allowed)}"
    if detail["type"] == "value_error":
        return f"{path and f'{path}: '}{detail['ctx']['error']}"  # a mistake of the whole section has no key
    if detail["type"] == "missing":
        return f"{path}: missing"
    value = shortened(detail["input"], LONGEST_SHOWN)
    value = f"the text {value}" if isinstance(detail["input"], str) else value
    return f"{path}: {value} found; {detail['msg'][0].lower()}{detail['msg'][1:]}"
