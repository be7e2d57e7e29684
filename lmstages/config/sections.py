"""The sections of a config as typed records: unknown keys are refused, nothing is converted silently.

Knows the ladder's records; ``reading`` makes records of a file, ``run`` and ``jobs`` say what follows from them.
"""

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    model_validator,
)

from lmstages.config.hyperparameters import base
from lmstages.config.hyperparameters.base import ModelConfig, Seed, Width
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.sources import DEFAULT_COUNT, SOURCES, Layout
from lmstages.core.errors import UserError, did_you_mean, shortened

UNBOUNDED_WINDOW = 256  # tokens, for a model without a longest context under a protocol that needs a window
USES_OF_A_CORPUS = ("evaluate", "tokenizers", "models", "inspect")
NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
EMBEDDED = tuple(DEFAULT_COUNT)
COUNTED = (*EMBEDDED, *(name for name, source in SOURCES.items() if source.hub))
SPLITS = ("train", "valid", "test")
SplitName = Literal["train", "valid", "test"]


class Record(base.Record):
    """A section of the config."""


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


AnySeed = Annotated[int, Field(gt=-(1 << 63), lt=1 << 63)]


class Split(Record):
    """The sizes of train, valid and test: fractions (at most 1) or counts, taken from the corpus in ``order``.

    A stream is cut by characters. Documents stay whole, shuffled by Python's own
    ``random.Random(shuffle_seed).shuffle`` unless the seed is null.
    """

    train: Annotated[float, Field(ge=0)] = 0.8
    valid: Annotated[float, Field(ge=0)] = 0.1
    test: Annotated[float, Field(ge=0)] = 0.1
    shuffle_seed: AnySeed | None = 42
    deduplicate: bool = False  # leave out what valid and test share with train, and test with valid
    order: list[SplitName] = ["train", "valid", "test"]

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


class Corpus(Record):
    """One text: embedded (``coined``, ``fables``), downloaded (``source``) or the user's own (``path``)."""

    source: str | None = None
    path: OutsidePath | None = None
    documents: Layout | None = None
    separator: str = "<|endoftext|>"
    read_as: Literal["documents", "stream"] = "documents"
    newlines: Literal["refuse", "keep", "unix"] = "refuse"
    count: Annotated[int, Field(ge=3, le=1 << 40)] | None = None
    seed: AnySeed = 0
    use: Annotated[float, Field(gt=0, le=1)] = 1.0  # fraction of train, from its beginning; valid and test stay
    split: Split = Split()
    evaluate: Annotated[list[SplitName], UNIQUE] = ["test"]
    tokenizers: Annotated[list[str], UNIQUE] | None = None
    models: Annotated[list[str], UNIQUE] | None = None
    inspect: bool = False  # draw what its models hold: embeddings, counts, attention

    @model_validator(mode="after")
    def _one_origin(self) -> "Corpus":
        sources = [*EMBEDDED, *SOURCES]
        if (self.source is None) == (self.path is None):
            raise ValueError("needs either source or path")
        if self.source is not None and self.source not in sources:
            hint = did_you_mean(self.source, sources)
            raise ValueError(f"source {self.source!r} is unknown; known: {sources}{hint}")
        if self.count is not None and self.source not in COUNTED:
            raise ValueError(f"count belongs to the sources {', '.join(COUNTED)}; set the split's sizes instead")
        if self.embedded and self.split.documents() > (drawn := self.count or DEFAULT_COUNT[str(self.source)]):
            problem = f"split asks for {self.split.documents():,} documents in all, {drawn:,} are drawn"
            raise ValueError(f"{problem}; raise count, or lower the split")
        if self.split.deduplicate and "stream" in (self.layout, self.read_as):
            raise ValueError("split.deduplicate leaves out documents, and a stream has none; say how documents lie")
        return self

    def stories(self, part: str) -> str:
        """How many documents of a source's part are downloaded: ``count`` of train, all of any other."""
        return str(self.count) if self.count is not None and part == "train" else "all"

    @property
    def embedded(self) -> bool:
        """Drawn from a grammar of known entropy, so that there is an oracle."""
        return self.source in EMBEDDED

    @property
    def layout(self) -> Layout:
        """How the text separates its documents: as the config says, else as its source does."""
        if self.documents is not None:
            return self.documents
        return SOURCES[self.source].layout if self.source in SOURCES else "lines" if self.embedded else "stream"


class Tokenizer(Record):
    """How text becomes tokens. ``alphabet: corpus`` takes the vocabulary from all splits, as published work does."""

    kind: Literal["byte", "char", "word", "bpe", "unigram"]
    vocab_size: Annotated[int, Field(ge=258, le=65536)] | None = None
    alphabet: Literal["train", "corpus"] = "train"

    @model_validator(mode="after")
    def _size_where_needed(self) -> "Tokenizer":
        if (self.kind in ("word", "bpe", "unigram")) != (self.vocab_size is not None):
            raise ValueError("vocab_size belongs to kinds word, bpe and unigram, which need it")
        return self


class Scoring(Record):
    """What a prediction is conditioned on: all history, sliding windows, or disjoint windows.

    ``auto`` is ``stream`` where a model's context is a fixed window, ``stride`` for attention, and ``whole`` for
    online evaluation, since from a short document alone there is little to learn. ``skip`` leaves the first tokens
    of a split unscored, as some published figures do.
    """

    protocol: Literal["auto", "stream", "whole", "stride", "disjoint"] = "auto"
    window: Width | None = None
    stride: Width | None = None
    skip: Annotated[int, Field(ge=0, le=1 << 40)] = 0

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

    count: Annotated[int, Field(ge=1, le=10000)] = 5
    length: Annotated[int, Field(ge=1, le=100000)] = 200
    temperature: Annotated[float | list[float], WrapValidator(_temperature_or_list)] = 1.0
    top_k: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    prompt: str = ""
    seed: Seed = 0
    measured: Annotated[int, Field(ge=1, le=1000000)] = 500  # samples that are measured and not shown
    measured_tokens: Annotated[int, Field(ge=1, le=1 << 40)] = 8000  # about so many in all: long samples are fewer


MEASURED = ("measured", "measured_tokens")
Measure = Literal["perplexity", "nats_per_token", "nats_per_character", "bits_per_byte", "parameters"]
FIGURE_KEYS = ("corpus", "model", "split", "measure", "value", "tolerance")


class Published(Record):
    """A figure printed elsewhere, to be compared with ours; or, with ``claim``, a statement that no experiment tests.

    ``because`` says why ours differs; ``impossible`` that what was printed cannot follow from what was described.
    """

    corpus: str | None = None
    tokenizer: str | None = None  # None: every tokenizer of the model
    model: str | None = None
    split: SplitName | None = None
    measure: Measure | None = None
    value: Annotated[float, Field(gt=0)] | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None
    source: str
    claim: str | None = None
    setup: str | None = None
    because: str | None = None
    impossible: bool = False

    @model_validator(mode="after")
    def _a_figure_or_a_claim(self) -> "Published":
        lacking = [key for key in FIGURE_KEYS if getattr(self, key) is None]
        if lacking and (lacking != list(FIGURE_KEYS) or self.claim is None):
            raise ValueError(f"lacks {', '.join(lacking)}; a statement without all of these is a claim alone")
        return self


Seeds = Annotated[list[Seed], UNIQUE]


class OwnSeeds(Record):
    """Seeds of one model in place of the run's."""

    seeds: Seeds | None = None


class Model(OwnSeeds):
    """A model with its hyperparameters, and how it is scored, which never re-fits it."""

    config: ModelConfig
    scoring: Scoring


def _at_least_two(values: list[str]) -> list[str]:
    if len(values) < 2:
        raise ValueError(f"{values} is no mixture; name at least two models")
    return values


class Mixture(Record):
    """Averages what several models predict, each token by itself: what one knows that the others do not lowers the
    mixture below each of them. From their scores alone; the weights are fitted on valid, or equal.
    """

    of: Annotated[list[str], UNIQUE, AfterValidator(_at_least_two)]
    weights: Literal["fitted", "equal"] = "fitted"


class Pretrained(Record):
    """A LLaMA trained elsewhere, with its own vocabulary: from the hub at a commit, from a folder, or a GGUF file.

    ``window`` is at most the checkpoint's own, by default that or 2,048; ``stride`` by default half of it. ``memory``
    bounds its memory, in gigabytes; ``engine`` llama.cpp runs GGUF files of any architecture.
    """

    hub: str | None = None
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    path: OutsidePath | None = None
    gguf: OutsidePath | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    engine: Literal["torch", "llama.cpp"] = "torch"
    window: Annotated[int, Field(ge=2, le=1 << 17)] | None = None
    stride: Width | None = None
    memory: Annotated[float, Field(gt=0)] | None = None
    samples: bool = True
    corpora: Annotated[list[str], UNIQUE] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "Pretrained":
        if sum(origin is not None for origin in (self.hub, self.path, self.gguf)) != 1:
            raise ValueError("needs one of hub, path and gguf")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision belong together: a commit of 40 hexadecimal digits, since names move")
        if self.gguf is None and (self.sha256 is not None or self.engine != "torch"):
            raise ValueError("sha256 and engine: llama.cpp belong to gguf")
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(f"stride {self.stride} exceeds window {self.window}: tokens between would go unscored")
        return self


OWN = "own"  # in place of the tokenizer in the path of a pretrained model's experiment


class Basics(Record):
    """What holds for every experiment of a run."""

    name: str
    mirror: OutsidePath | None = None
    seeds: Seeds = [0]
    estimation: bool = False
    compressors: Annotated[list[Literal["gzip", "bz2", "xz", "zstd"]], UNIQUE] | None = None


def to_json(content: Any) -> str:
    """Sorted keys, so that equal sections are equal texts."""
    return json.dumps(content, sort_keys=True)


def chosen(names: list[str] | None, defined: Mapping[str, Any]) -> list[str]:
    """The names a corpus lists, or all that are defined where it lists none."""
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
    if (name := section["type"]) not in MODEL_TYPES:
        hint = did_you_mean(str(name), MODEL_TYPES)
        raise UserError("--section", f"unknown model {name!r}{hint}", ", ".join(MODEL_TYPES))
    config: ModelConfig = from_section(MODEL_TYPES[name], section["hyperparameters"])
    if "properties" in section:
        _compare_properties(config, section["properties"])
    return config


def _compare_properties(record: base.Record, stated: Mapping[str, Any]) -> None:
    derived = record.properties()
    if different := [key for key in {**derived, **stated} if derived.get(key) != stated.get(key)]:
        name = getattr(record, "name", type(record).__name__.lower())
        problem = f"this code derives other properties of {name} from its keys ({', '.join(different)})"
        raise UserError("--section", problem, "", "start snakemake again, which makes anew what changed")


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
        return f"{path}: {detail['ctx']['error']}"
    if detail["type"] == "missing":
        return f"{path}: missing"
    value = shortened(detail["input"], LONGEST_SHOWN)
    value = f"the text {value}" if isinstance(detail["input"], str) else value
    return f"{path}: {value} found; {detail['msg'][0].lower()}{detail['msg'][1:]}"
