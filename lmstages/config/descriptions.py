"""The ladder in words, for ``lmstages models``: every model in one line, and the keys of one model.

Everything is read from the records: the type and range of a key from its JSON schema, its meaning from its
description, what a model adds from its docstring. Lines have at most WIDTH characters.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmstages.config import own_models
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.neural import Neural
from lmstages.config.ladder import LADDER, MODEL_TYPES
from lmstages.core.errors import UserError, did_you_mean

WIDTH = 80
COLUMN = 32  # where the types begin
OF_EVERY = (
    "An entry under models: also takes type (the model, where the entry has a name of its own), seeds and scoring."
)
OF_EVERY += " One key for one call: snakemake --config set=models.NAME.KEY=VALUE"
Schema = Mapping[str, Any]  # of JSON


@dataclass(frozen=True)
class Key:
    """A key of a model's record, in words; ``default`` as a config has it, empty where the key must be given."""

    name: str
    type: str
    default: str
    meaning: str


def keys(record: type[ModelConfig]) -> list[Key]:
    """The keys of a model that a config may give; records that the config reader fills in are none."""
    fields = record.model_fields
    return [
        Key(name, type_of(key), value(key["default"]) if "default" in key else "", fields[name].description or "")
        for name, key in record.model_json_schema()["properties"].items()
        if "$ref" not in str(key)
    ]


def type_of(schema: Schema) -> str:
    """``whole number, 1 to 4,096``; ``adamw | sgd | muon``; ``number, above 0 | null``."""
    if "anyOf" in schema:
        return " | ".join(type_of(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(map(value, schema.get("enum", [schema.get("const")])))
    if schema["type"] == "array":
        return "list of " + type_of(schema["items"]).replace("number", "numbers", 1)
    nouns = {"integer": "whole number", "number": "number", "boolean": "true | false", "string": "text", "null": "null"}
    return nouns[schema["type"]] + _range(schema)


def _range(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f", {_bound(least)} to {_bound(most)}"
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return "".join(f", {words} {_bound(schema[bound])}" for bound, words in bounds.items() if bound in schema)


def _bound(number: float) -> str:
    """``10,000``; large powers of two as such, ``2^40``."""
    if number != int(number):
        return f"{number:g}"
    whole = int(number)
    return f"2^{whole.bit_length() - 1}" if whole >= 1 << 20 and not whole & (whole - 1) else f"{whole:,}"


def value(content: Any) -> str:
    """A value as a config has it: ``true``, ``null``, ``[16]``, ``1e-05``."""
    if isinstance(content, bool) or content is None:
        return {True: "true", False: "false", None: "null"}[content]
    return f"[{', '.join(map(value, content))}]" if isinstance(content, list) else str(content)


def all_models() -> str:
    """Every model of the ladder in one line: name, title, the beginning of what it adds, another category."""
    names, titles = max(len(config.name) for config in LADDER), max(len(config.title) for config in LADDER)
    lines = []
    for config in LADDER:
        begin = f"{config.name:<{names}}  {config.title:<{titles}}  "
        end = "" if _category(config) == "static" else f" [{_category(config)}]"
        adds = textwrap.shorten(_first_clause(config), WIDTH - len(begin) - len(end), placeholder="...")
        lines.append(begin + adds + end)
    heading = "the ladder, an ordered list of models; the keys of one: lmstages models NAME"
    return "\n".join([heading, *lines, *_installed()])


def _installed() -> Iterator[str]:
    """Models of installed packages; one that shares its name with one of the ladder cannot be reached by it."""
    for number, (name, points) in enumerate(own_models.installed().items()):
        if not number:
            yield "\ninstalled models of other packages"
        for package, value in points:
            hidden = " [hidden: the ladder has a model of this name]" if name in MODEL_TYPES else ""
            yield f"{name}  {value} of {package}{hidden}"


def described(name: str) -> str:
    """What a model is and adds, and each of its keys with type, range, default and meaning.

    Raises UserError, with the nearest name and all of them, for a model that is none of the ladder.
    """
    is_own = own_models.is_own(name)
    if not is_own and name not in MODEL_TYPES:
        problem = f"{name!r} is no model of the ladder{did_you_mean(name, MODEL_TYPES)}"
        raise UserError("models", problem, f"allowed: {', '.join(MODEL_TYPES)}")
    config = own_models.load(name) if is_own else MODEL_TYPES[name]
    after = f"after {config.after}" if getattr(config, "after", None) else "the first of the ladder"
    after = "a model of one's own" if is_own else after
    head = f"{name}: {config.title}, {_category(config)}, {after}"
    paragraphs = [_wrapped(" ".join(part.split())) for part in _plain(config.__doc__).split("\n\n")]
    source = [_wrapped(f"Source: {config.source}")] if config.source else []
    return "\n".join([head, "", *paragraphs, *source, "", *_entries(config), "", _wrapped(OF_EVERY)])


def _entries(config: type[ModelConfig]) -> list[str]:
    """The keys of a model; of a network first its own, then those of the training that all networks share."""
    is_shared = set(Neural.model_fields) if issubclass(config, Neural) else set()
    own = [line for key in keys(config) if key.name not in is_shared for line in key_lines(key)]
    shared = [line for key in keys(config) if key.name in is_shared for line in key_lines(key)]
    return [*(own or ["  It has no keys of its own."]), *(["", "Keys of every network:", *shared] if shared else [])]


def key_lines(key: Key) -> Iterator[str]:
    """``  width: 128    whole number, 1 to 131,072``, then the meaning below."""
    yield _wrapped(f"{f'  {key.name}: {key.default}'.rstrip():<{COLUMN - 1}} {key.type}", " " * COLUMN)
    if key.meaning:
        yield _wrapped(f"      {key.meaning}", " " * 6)


def _category(config: type[ModelConfig]) -> str:
    """The category with the defaults of the record; a record whose keys must be given is static."""
    required = any(field.is_required() for field in config.model_fields.values())
    return "static" if required else config().category


def _first_clause(config: type[ModelConfig]) -> str:
    """What the model adds, up to the first comma, colon or full stop."""
    return re.split(r"[,:;.](?:\s|$)", " ".join(_plain(config.__doc__).split()))[0]


def _plain(docstring: str | None) -> str:
    """Code between single marks, nothing emphasised."""
    return (docstring or "").replace("``", "`").replace("*", "")


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
