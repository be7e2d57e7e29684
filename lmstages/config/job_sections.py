"""What each key of a job's section must be, so that a section pasted by hand is refused before the job begins.

``jobs`` writes sections that are right; the record of a model, corpus or tokenizer is checked by whoever reads it.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from lmstages.config.hyperparameters.base import Positive, Seed, Width
from lmstages.config.sections import EMBEDDED, MEASURED, UNIQUE, Gap, Record, Sampling, SplitName, StepCount, mistake

STRICT = ConfigDict(strict=True)
Splits = Annotated[list[SplitName], UNIQUE]
DRAWN = tuple(key for key in Sampling.model_fields if key not in MEASURED)


class ResolvedScoring(Record):
    """A protocol with every default filled in."""

    protocol: Literal["stream", "whole", "stride", "disjoint"]
    window: Width
    stride: Width
    skip: Annotated[int, Field(ge=0)]


class ScoredModel(Record):
    """A model of a corpus, as the analyses read it."""

    tokenizer: str
    model: str
    seeds: list[Seed]
    fitted: bool
    context: int | None


SUMMARIZED = {
    "run": str,
    "estimation": bool,
    "analyses": bool,
    "models": dict[str, dict[str, Any]],
    "inspected": list[list[str]],
    "compressors": list[str],
    "experiments": list[list[Any]],
    "evaluate": dict[str, Splits],
    "published": list[dict[str, Any]],
    "sweeps": list[dict[str, Any]],
}
INFILLED = {"infilled": list[tuple[str, str, str, Seed]], "infilled_by_source": list[str]}  # of a run with infill
GENERATED = {"generated": list[tuple[str, str, str, Seed]]}  # of a run with generation
REPORTED = {"reported": list[tuple[str, str, SplitName]]}  # of a run with scores made elsewhere
KEYS: dict[str, Any] = {
    "splits": Splits,
    "split": SplitName,
    "documents": bool,
    "scoring": ResolvedScoring,
    "sampling": dict[str, Any],
    "of": list[str],
    "weights": Literal["fitted", "equal"],
    "compressors": list[Literal["gzip", "bz2", "xz", "zstd"]],
    "hyperparameters": dict[str, Any],
    "source": Literal[EMBEDDED] | None,
    "lengths": Annotated[list[Gap], UNIQUE],
    "places": Positive,
    "context": Positive,
    "rows": Positive,
    "reads": Positive,
    "any_length": bool,
}
OF_COMMAND: dict[str, dict[str, Any]] = {
    "summarize": SUMMARIZED | REPORTED | INFILLED | GENERATED,
    "download": {key: str for key in ("name", "revision", "field", "split")} | {"config": str | None, "joined": bool},
    "prepare": {"source": str | None, "split": dict[str, Any], "documents": str | None},
    "oracle": {**KEYS, "source": Literal[EMBEDDED]},
    "audit_scores": {"split": SplitName, "scores": dict[str, Any]},
    "analyse": {**KEYS, "experiments": list[ScoredModel]},
    "infill_oracle": {**KEYS, "source": Literal[EMBEDDED]},
    "inspect": {**KEYS, "experiments": list[tuple[str, Seed]], "corpus": dict[str, Any]},
    "generate": {
        **KEYS,
        "steps": Annotated[list[StepCount], UNIQUE],
        **dict.fromkeys(("texts", "length"), Positive),
        "drafts": Annotated[int, Field(ge=0)],
        "seed": Seed,
    },
}
SAMPLING = {"evaluate": DRAWN, "score_pretrained": DRAWN, "probe": ("length", "seed", *MEASURED)}


def problems(command: str, section: Mapping[str, Any]) -> list[str]:
    """What is wrong with the keys of a section, each in one line; empty where nothing is."""
    keys = OF_COMMAND.get(command, KEYS)
    lacking = [f"{key}: missing" for key in SUMMARIZED if key not in section] if command == "summarize" else []
    wrong = [problem for key in section if key in keys for problem in _wrong(key, keys[key], section[key])]
    if not wrong and command in SAMPLING and "sampling" in section:
        wrong = list(_wrong_sampling(section["sampling"], SAMPLING[command]))
    return lacking + wrong


def _wrong(key: str, annotation: Any, value: Any) -> Iterator[str]:
    try:
        is_record = isinstance(annotation, type) and issubclass(annotation, Record)
        TypeAdapter(annotation, config=None if is_record else STRICT).validate_json(_json(value))
    except ValidationError as error:
        yield from (mistake([], key, detail) for detail in error.errors()[:1])


def _json(value: Any) -> bytes:
    return TypeAdapter(Any).dump_json(value)


def _wrong_sampling(sampling: Mapping[str, Any], needed: tuple[str, ...]) -> Iterator[str]:
    yield from (f"sampling.{key}: missing" for key in needed if key not in sampling)
    yield from _wrong("sampling", Sampling, sampling)
