"""The config as typed records, and the sections of it that jobs receive.

A job gets its own section as JSON and nothing besides, so that an edit re-runs what it concerns. Knows the
ladder's records; ``reading`` makes a config of a file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
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

from lmstages.corpora.sources import SOURCES
from lmstages.errors import UserError, did_you_mean
from lmstages.ladder import LADDER, RUNGS, DerivedLlama, Rung
from lmstages.sweeps import Swept, listed

UNBOUNDED_WINDOW = 256  # of a rung without a longest context, where a protocol needs one
USES_OF_A_CORPUS = ("evaluate", "tokenizers", "models", "inspect")
NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
EMBEDDED = ("coined", "fables")
COUNTED = (*EMBEDDED, *(name for name, source in SOURCES.items() if source.hub))
SPLITS = ("train", "valid", "test")
SplitName = Literal["train", "valid", "test"]


class Record(BaseModel):
    """A section of the config: unknown keys are refused, nothing is converted silently."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def _each_once(values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError("names nothing; leave the key out for its default")
    if len(set(values)) < len(values):
        raise ValueError(f"{values} names something twice, which would then count twice")
    return values


EACH_ONCE = AfterValidator(_each_once)


class Split(Record):
    """Which part of a corpus is train, valid and test: fractions (at most 1) or counts, taken in ``order``.

    A stream is cut by characters. Documents stay whole, shuffled by Python's own
    ``random.Random(shuffle_seed).shuffle`` unless the seed is null.
    """

    train: Annotated[float, Field(ge=0)] = 0.8
    valid: Annotated[float, Field(ge=0)] = 0.1
    test: Annotated[float, Field(ge=0)] = 0.1
    shuffle_seed: int | None = 42
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


class Corpus(Record):
    """One text: embedded (``coined``, ``fables``), downloaded (``source``) or the user's own (``path``)."""

    source: str | None = None
    path: str | None = None
    documents: Literal["stream", "lines", "separator"] | None = None
    separator: str = "<|endoftext|>"
    read_as: Literal["documents", "stream"] = "documents"
    newlines: Literal["refuse", "keep", "unix"] = "refuse"
    count: Annotated[int, Field(ge=3)] | None = None
    seed: int = 0
    use: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of train, its beginning; valid and test stay
    split: Split = Split()
    evaluate: Annotated[list[SplitName], EACH_ONCE] = ["test"]
    tokenizers: Annotated[list[str], EACH_ONCE] | None = None
    models: Annotated[list[str], EACH_ONCE] | None = None
    inspect: bool = False  # lay open what its models hold: embeddings, counts, attention

    @model_validator(mode="after")
    def _one_origin(self) -> "Corpus":
        known = [*EMBEDDED, *SOURCES]
        if (self.source is None) == (self.path is None):
            raise ValueError("needs either source or path")
        if self.source is not None and self.source not in known:
            raise ValueError(f"source {self.source!r} is unknown; known: {known}{did_you_mean(self.source, known)}")
        if self.count is not None and self.source not in COUNTED:
            raise ValueError(f"count belongs to the sources {', '.join(COUNTED)}; set the split's sizes instead")
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
    def layout(self) -> Literal["stream", "lines", "separator"]:
        """How documents lie in the text: as the config says, else as its origin is known to be."""
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
    """What a prediction may look at: all history, sliding windows, or windows side by side.

    ``auto`` is ``stream`` where a rung's context is a fixed window, ``stride`` for attention, and ``whole`` for a
    rung that learns from what it has scored, since from a short document alone there is little to learn.
    ``skip`` leaves the first tokens of a split unscored, as some published figures do.
    """

    protocol: Literal["auto", "stream", "whole", "stride", "disjoint"] = "auto"
    window: Annotated[int, Field(ge=1)] | None = None
    stride: Annotated[int, Field(ge=1)] | None = None
    skip: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _stride_fits(self) -> "Scoring":
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(f"stride {self.stride} exceeds window {self.window}: tokens between would go unscored")
        return self

    def resolved(self, rung: Rung) -> dict[str, Any]:
        """The protocol of a rung with nothing left open: name, window, stride, skip."""
        automatic = "whole" if rung.standing == "adaptive" else rung.protocol
        name = automatic if self.protocol == "auto" else self.protocol
        window = self.window or rung.context or UNBOUNDED_WINDOW
        stride = window if name == "disjoint" else self.stride or -(-window // 2)
        return {"protocol": name, "window": window, "stride": stride, "skip": self.skip}


Temperature = Annotated[float, Field(gt=0, le=100)]
ONE_TEMPERATURE = TypeAdapter(Temperature, config=ConfigDict(strict=True, allow_inf_nan=False))
SEVERAL_TEMPERATURES = TypeAdapter(Annotated[list[Temperature], EACH_ONCE], config=ConfigDict(strict=True))


def _one_or_several(value: Any, _: Any) -> Any:
    """A temperature or a list of them; one error for what is neither."""
    return (SEVERAL_TEMPERATURES if isinstance(value, list) else ONE_TEMPERATURE).validate_python(value)


class Sampling(Record):
    """Text drawn from every fitted model for the report, at each temperature where there are several."""

    count: Annotated[int, Field(ge=1, le=10000)] = 5
    length: Annotated[int, Field(ge=1, le=100000)] = 200
    temperature: Annotated[float | list[float], WrapValidator(_one_or_several)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    prompt: str = ""
    seed: int = 0
    measured: Annotated[int, Field(ge=1, le=1000000)] = 500  # samples that are not shown but measured
    measured_tokens: Annotated[int, Field(ge=1)] = 8000  # where they are long: fewer, about so many tokens in all


MEASURED = ("measured", "measured_tokens")
Measure = Literal["perplexity", "nats_per_token", "nats_per_character", "bits_per_byte", "parameters"]
CELL = ("corpus", "model", "split", "measure", "value", "tolerance")


class Published(Record):
    """A figure somebody printed, to stand beside ours; or, with ``claim``, a statement that no cell can meet.

    ``because`` says why ours differs; ``impossible`` that what was printed cannot come of what was described.
    """

    corpus: str | None = None
    tokenizer: str | None = None  # every one of the model's if none is named
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
        lacking = [key for key in CELL if getattr(self, key) is None]
        if lacking and (lacking != list(CELL) or self.claim is None):
            raise ValueError(f"lacks {', '.join(lacking)}; a statement without all of these is a claim alone")
        return self


Seeds = Annotated[list[Annotated[int, Field(ge=0)]], EACH_ONCE]


class OwnSeeds(Record):
    """Seeds of one model in place of the run's."""

    seeds: Seeds | None = None


class Model(OwnSeeds):
    """A rung with its hyperparameters, and how it is scored; the second never re-fits the first."""

    rung: Rung
    scoring: Scoring


def _several(values: list[str]) -> list[str]:
    if len(values) < 2:
        raise ValueError(f"{values} is no mixture; name at least two models")
    return values


class Mixture(Record):
    """Averages what several models predict, each token by itself: what one knows that the others do not lowers the
    mixture below each of them. From their scores alone; the weights are fitted on valid, or equal.
    """

    of: Annotated[list[str], EACH_ONCE, AfterValidator(_several)]
    weights: Literal["fitted", "equal"] = "fitted"


class Pretrained(Record):
    """A LLaMA trained elsewhere, with its own vocabulary: of the hub, at a commit; a folder in its layout; a GGUF file.

    ``window`` is at most the checkpoint's own, by default that or 2,048; ``stride`` by default half of it. ``memory``
    bounds what it may take, in gigabytes; ``engine`` llama.cpp runs GGUF files of any architecture.
    """

    hub: str | None = None
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    path: str | None = None
    gguf: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    engine: Literal["torch", "llama.cpp"] = "torch"
    window: Annotated[int, Field(ge=2)] | None = None
    stride: Annotated[int, Field(ge=1)] | None = None
    memory: Annotated[float, Field(gt=0)] | None = None
    samples: bool = True
    corpora: Annotated[list[str], EACH_ONCE] | None = None

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


OWN = "own"  # stands for the tokenizer in the path of a pretrained model's cell


class Basics(Record):
    """What holds for every cell of a run."""

    name: str
    mirror: str | None = None
    seeds: Seeds = [0]
    estimation: bool = False
    compressors: Annotated[list[Literal["gzip", "bz2", "xz", "zstd"]], EACH_ONCE] | None = None


class Run(Basics):
    """A whole config, checked."""

    corpora: dict[str, Corpus]
    tokenizers: dict[str, Tokenizer]
    models: dict[str, Model]
    mixtures: dict[str, Mixture] = {}
    pretrained: dict[str, Pretrained] = {}
    sampling: Sampling = Sampling()
    published: list[Published] = []
    sweeps: dict[str, Swept] = {}

    def cells(self) -> list[tuple[str, str, str, int]]:
        """Every (corpus, tokenizer, model, seed) of the run, in the order of the report."""
        return [
            (corpus, tokenizer, model, seed)
            for corpus, record in self.corpora.items()
            for tokenizer in chosen(record.tokenizers, self.tokenizers)
            for model in [*chosen(record.models, self.models), *self.mixtures_on(corpus)]
            for seed in self.seeds_of(model)
        ] + self.pretrained_cells()

    def pretrained_cells(self) -> list[tuple[str, str, str, int]]:
        """Every (corpus, own, model, 0): nothing is drawn by chance where nothing is fitted."""
        several = self.pretrained.items()
        return [(corpus, OWN, name, 0) for name, each in several for corpus in chosen(each.corpora, self.corpora)]

    def mixtures_on(self, corpus: str) -> list[str]:
        """A mixture is run wherever all of its models are."""
        run = set(chosen(self.corpora[corpus].models, self.models))
        return [name for name, mixture in self.mixtures.items() if run.issuperset(mixture.of)]

    def splits_scored(self, corpus: str, model: str) -> list[SplitName]:
        """Those the corpus evaluates, and valid where the weights of a mixture of this model are fitted."""
        evaluated, here = self.corpora[corpus].evaluate, [self.mixtures[name] for name in self.mixtures_on(corpus)]
        needed = any(model in mixture.of and mixture.weights == "fitted" for mixture in here)
        return [*evaluated, "valid"] if needed and "valid" not in evaluated else evaluated

    def components(self, mixture: str, seed: int) -> list[tuple[str, int]]:
        """Which fit of each of its models a mixture of this seed is made of."""
        several = [(model, self.seeds_of(model)) for model in self.mixtures[mixture].of]
        return [(model, seed if seed in seeds else seeds[0]) for model, seeds in several]

    def seeds_of(self, model: str) -> list[int]:
        """Counting has no randomness, so a counts rung is fitted once; a mixture has the seeds of its networks."""
        if model in self.mixtures:
            of = sorted(self.mixtures[model].of, key=lambda name: self.models[name].rung.family != "neural")
            return self.seeds_of(of[0])
        record = self.models[model]
        if isinstance(record.rung, DerivedLlama) and record.seeds is None:
            return self.seeds_of(record.rung.of)
        seeds = record.seeds or self.seeds
        return seeds if record.rung.family == "neural" else seeds[:1]

    # What one job receives of the config, as JSON, and nothing besides.

    def prepare_section(self, corpus: str) -> str:
        """The text and its splits; which models and tokenizers are run on it is no matter of the text's."""
        return _json(self.corpora[corpus].model_dump(mode="json", exclude=set(USES_OF_A_CORPUS)))

    def fit_section(self, model: str) -> str:
        """The rung and its hyperparameters."""
        return _json(_rung_section(self.models[model].rung))

    def evaluate_section(self, corpus: str, model: str) -> str:
        """The splits, the protocol, how to draw samples, and whether documents end."""
        scoring = self.models[model].scoring.resolved(self.models[model].rung)
        settings = {"scoring": scoring, "sampling": self.sampling.model_dump(exclude=set(MEASURED))}
        splits = self.splits_scored(corpus, model)
        return _json({"splits": splits, "documents": self.layout(corpus) != "stream", **settings})

    def derived(self) -> list[str]:
        """Models that are made of another one of the run."""
        return [name for name, record in self.models.items() if isinstance(record.rung, DerivedLlama)]

    def base_of(self, model: str) -> str:
        """The model that a derived one is made of."""
        rung = self.models[model].rung
        assert isinstance(rung, DerivedLlama), "asked of derived models alone"
        return rung.of

    def pretrained_section(self, corpus: str, name: str) -> str:
        """The checkpoint, the splits, how to draw samples, and whether documents end."""
        told: dict[str, Any] = {"pretrained": self.pretrained[name].model_dump(mode="json", exclude={"corpora"})}
        told |= {"splits": self.corpora[corpus].evaluate, "documents": self.layout(corpus) != "stream"}
        return _json({**told, "sampling": self.sampling.model_dump(exclude=set(MEASURED))})

    def mix_section(self, corpus: str, mixture: str) -> str:
        """The models, where their weights come from, and the splits."""
        return _json({**self.mixtures[mixture].model_dump(), "splits": self.corpora[corpus].evaluate})

    def oracle_section(self, corpus: str) -> str:
        """The grammar and the splits."""
        return _json({"source": self.corpora[corpus].source, "splits": self.corpora[corpus].evaluate})

    def splits_section(self, corpus: str) -> str:
        """The splits that are evaluated."""
        return _json({"splits": self.corpora[corpus].evaluate})

    def contrast_section(self, corpus: str) -> str:
        """How an embedded text is drawn, and its splits."""
        return _json({"corpus": json.loads(self.prepare_section(corpus)), "splits": self.corpora[corpus].evaluate})

    def probe_section(self, corpus: str, model: str) -> str:
        """The protocol, how many samples are measured, and whether documents end."""
        record = self.models[model]
        sampling = self.sampling.model_dump(include={"length", "seed", *MEASURED})
        told = {"scoring": record.scoring.resolved(record.rung), "sampling": sampling}
        return _json({**told, "documents": self.layout(corpus) != "stream", "source": self._grammar(corpus)})

    def analyse_section(self, corpus: str) -> str:
        """Every cell of a corpus with its seeds and what its rung may look back over, its splits and its grammar."""
        cells: dict[tuple[str, str], list[int]] = {}
        for name, tokenizer, model, seed in self.cells():
            if name == corpus:
                cells.setdefault((tokenizer, model), []).append(seed)
        contexts = {name: record.rung.context for name, record in self.models.items()}
        named = [
            {"tokenizer": t, "model": m, "seeds": seeds, "fitted": m in self.models, "context": contexts.get(m)}
            for (t, m), seeds in cells.items()
        ]
        told = {"splits": self.corpora[corpus].evaluate, "documents": self.layout(corpus) != "stream"}
        return _json({**told, "cells": named, "source": self._grammar(corpus)})

    def inspected(self) -> list[tuple[str, str]]:
        """Every (corpus, tokenizer) whose models are laid open."""
        named = [(name, each.tokenizers) for name, each in self.corpora.items() if each.inspect]
        return [(corpus, tokenizer) for corpus, several in named for tokenizer in chosen(several, self.tokenizers)]

    def inspect_section(self, corpus: str) -> str:
        """The networks that a corpus fits, each with its first seed, and where the passage is from."""
        models = chosen(self.corpora[corpus].models, self.models)
        fitted = [name for name in models if self.models[name].rung.family == "neural" and name not in self.derived()]
        cells = [[name, self.seeds_of(name)[0]] for name in fitted]
        return _json({"cells": cells, "split": self.corpora[corpus].evaluate[0]})

    def _grammar(self, corpus: str) -> str | None:
        record = self.corpora[corpus]
        return record.source if record.embedded else None

    def compress_section(self, corpus: str) -> str:
        """The compressors and the splits."""
        return _json({"compressors": self.compressors, "splits": self.corpora[corpus].evaluate})

    def comparison_section(self) -> str:
        """Every cell with its seeds, what the ladder says of its model, splits, sweeps, and what others printed."""
        cells: dict[tuple[str, str, str], list[int]] = {}
        for corpus, tokenizer, model, seed in self.cells():
            cells.setdefault((corpus, tokenizer, model), []).append(seed)
        evaluate = {name: record.evaluate for name, record in self.corpora.items()}
        published = [figure.model_dump() for figure in self.published]
        named = [[*cell, seeds] for cell, seeds in cells.items()]
        told: dict[str, Any] = {"told": {model: _told_of(record.rung) for model, record in self.models.items()}}
        told["told"] |= {name: _told_of_mixture(self, place) for place, name in enumerate(self.mixtures)}
        told["told"] |= {name: _told_of_pretrained(self, place) for place, name in enumerate(self.pretrained)}
        told["told"] |= {name: told["told"][name] | {"of": self.base_of(name)} for name in self.derived()}
        told |= {
            "analyses": True,
            "inspected": self.inspected(),
            "compressors": self.compressors or [],
            "cells": named,
            "evaluate": evaluate,
            "published": published,
            "sweeps": listed(self.sweeps),
        }
        return _json({"run": self.name, "estimation": self.estimation, **told})

    def layout(self, corpus: str) -> str:
        """How the models are to read it: documents that end, or one stream."""
        record = self.corpora[corpus]
        return "stream" if record.read_as == "stream" else record.layout


def _told_of(rung: Rung) -> dict[str, Any]:
    """What the report says of a model without knowing it."""
    adds = " ".join((type(rung).__doc__ or "").split())
    named = {"rung": rung.name, "rank": LADDER.index(type(rung)), "title": rung.title, "family": rung.family}
    named["class"] = rung.standing
    return {**named, "adds": adds, "source": rung.source}


STRICTEST = ("static", "adaptive", "pretrained")  # the last that any component has is a mixture's


def _told_of_mixture(run: Run, place: int) -> dict[str, Any]:
    """What the report says of the run's n-th mixture: it stands above every rung, in the order of the config."""
    rungs = [run.models[model].rung for model in list(run.mixtures.values())[place].of]
    adds = " ".join((Mixture.__doc__ or "").split())
    named = {"rung": "mixture", "rank": len(LADDER) + place, "title": "Mixture", "family": "mixture"}
    named["class"] = max((rung.standing for rung in rungs), key=STRICTEST.index)
    return {**named, "adds": adds, "source": "Jelinek & Mercer 1980; Dempster, Laird & Rubin 1977 for the weights"}


def _told_of_pretrained(run: Run, place: int) -> dict[str, Any]:
    """What the report says of the run's n-th checkpoint: it stands above rungs and mixtures."""
    record = list(run.pretrained.values())[place]
    adds = "Was trained elsewhere, on text that is not of this run, perhaps on this very text; never compared by rank."
    named = {"rung": "pretrained", "rank": len(LADDER) + len(run.mixtures) + place, "title": "Pretrained"}
    where = f"{record.hub} at {record.revision}" if record.hub else Path(record.path or record.gguf or "").name
    return {**named, "family": "pretrained", "class": "pretrained", "adds": adds, "source": where}


def _rung_section(rung: Rung) -> dict[str, Any]:
    return {"rung": rung.name, "hyperparameters": rung.model_dump(mode="json")}


def _json(content: Any) -> str:
    return json.dumps(content, sort_keys=True)


def chosen(named: list[str] | None, defined: Mapping[str, Any]) -> list[str]:
    return list(defined) if named is None else named


def to_section(record: BaseModel) -> str:
    """A record as the JSON one job receives."""
    return _json(record.model_dump(mode="json"))


def from_section(kind: type[BaseModel], section: Any) -> Any:
    """The inverse of ``to_section``; a UserError where a person pasted something else."""
    problems: list[str] = []
    record = parsed(kind, section, "", problems)
    if problems:
        raise UserError("--section", "; ".join(problems))
    return record


def rung_of(section: Mapping[str, Any]) -> Rung:
    """The rung of a job's section {rung, hyperparameters}; a UserError where a person pasted something else."""
    if (name := section["rung"]) not in RUNGS:
        raise UserError("--section", f"unknown rung {name!r}{did_you_mean(str(name), RUNGS)}", ", ".join(RUNGS))
    rung: Rung = from_section(RUNGS[name], section["hyperparameters"])
    return rung


def parsed(kind: type[BaseModel], entry: Any, where: str, problems: list[str], besides: tuple[str, ...] = ()) -> Any:
    """The record, or None with what is wrong appended to ``problems``; ``besides``: keys of others in the section."""
    if not isinstance(entry, dict):
        problems.append(f"{where}: {entry!r} is not a mapping")
        return None
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        problems.extend(told([*kind.model_fields, *besides], where, detail) for detail in error.errors())
        return None


def told(known: list[str], where: str, detail: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in (where, *detail["loc"]) if part != "")
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        return f"{where and f'{where}: '}unknown key {key!r}{did_you_mean(key, known)}; allowed: {', '.join(known)}"
    if detail["type"] == "value_error":
        return f"{place}: {detail['ctx']['error']}"
    if detail["type"] == "missing":
        return f"{place}: missing"
    found = f"the text {detail['input']!r}" if isinstance(detail["input"], str) else repr(detail["input"])
    return f"{place}: {found} found; {detail['msg'][0].lower()}{detail['msg'][1:]}"
