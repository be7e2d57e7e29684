"""Writes docs/config.schema.json, by which an editor completes and checks a config:  python docs/config_schema.py

It is made of the records of ``lmstages/config/``. What one key says about another (``width`` is a multiple of
``heads``) is checked by ``lmstages check`` alone.
"""

import json
from pathlib import Path
from typing import Any

from lmstages.config.hyperparameters.base import Record
from lmstages.config.ladder import LADDER, MODEL_TYPES
from lmstages.config.reading import NAME_RULE
from lmstages.config.run import Experiments
from lmstages.config.sections import (
    NAME,
    Basics,
    Corpus,
    Generation,
    Infill,
    Mixture,
    OwnSeeds,
    Pretrained,
    Published,
    ReportedScores,
    Sampling,
    Scoring,
    Split,
    SplitFiles,
    Tokenizer,
)
from lmstages.config.sweeps import LISTS
from lmstages.core.files import atomic_write

FILE = Path(__file__).with_name("config.schema.json")
Schema = dict[str, Any]
NULL: Schema = {"type": "null"}
SWEEP: Schema = {
    "type": "object",
    "description": "One experiment for each value.",
    "properties": {"sweep": {"type": "array", "minItems": 1}},
    "required": ["sweep"],
    "additionalProperties": False,
}
RECORDS: dict[str, type[Record]] = {
    "split": Split,
    "files": SplitFiles,
    "scoring": Scoring,
    "tokenizer": Tokenizer,
    "mixture": Mixture,
    "pretrained": Pretrained,
    "scores": ReportedScores,
    "sampling": Sampling,
    "infill": Infill,
    "generation": Generation,
    "published": Published,
}
SWEPT = ("split", "files", "scoring", "tokenizer", "pretrained")  # records whose keys may be swept, as models' may
FILLED_IN = ("base", "weights")  # keys of derived models that the config reader fills in


def ref(name: str) -> Schema:
    """A definition by its name."""
    return {"$ref": f"#/$defs/{name}"}


def mapping(properties: Schema, required: list[str] | None = None) -> Schema:
    """An object of these keys and no others."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required} if required else schema


def record(record_type: type[Record], swept: bool = False) -> Schema:
    """A record; with ``swept`` each of its keys may hold a sweep."""
    schema = record_type.model_json_schema()
    properties = {key: _described(value) for key, value in schema["properties"].items() if not _is_record(value)}
    if swept:
        properties = {key: or_sweep(value) for key, value in properties.items()}
    return mapping(properties, schema.get("required"))


def _is_record(schema: Schema) -> bool:
    return "$ref" in json.dumps(schema)


def _described(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "title"}


def or_sweep(schema: Schema) -> Schema:
    """The schema of a value, or a sweep of several."""
    outside = {key: schema[key] for key in ("description", "default") if key in schema}
    value = {key: content for key, content in schema.items() if key not in outside}
    return {**outside, "anyOf": [value, ref("sweep")]}


def corpus() -> Schema:
    """A corpus with its split and the files of its parts."""
    schema = record(Corpus, swept=True)
    schema["properties"]["files"] = {"description": _meaning(Corpus, "files"), "anyOf": [ref("files"), NULL]}
    schema["properties"]["split"] = {"description": _meaning(Corpus, "split"), **ref("split")}
    return schema


def model(name: str) -> Schema:
    """A model's hyperparameters, and what every entry under ``models:`` may hold besides."""
    schema = record(MODEL_TYPES[name], swept=True)
    for key in FILLED_IN:
        schema["properties"].pop(key, None)
    seeds = OwnSeeds.model_json_schema()["properties"]["seeds"]
    of_entry = {"type": or_sweep({"const": name, "description": _adds(name)}), "seeds": or_sweep(_described(seeds))}
    schema["properties"] |= {**of_entry, "scoring": {"description": "How it is scored.", **ref("scoring")}}
    return schema


def _adds(name: str) -> str:
    return " ".join((MODEL_TYPES[name].__doc__ or "").split("\n\n")[0].split())


def _meaning(record_type: type[Record], key: str) -> str:
    return record_type.model_fields[key].description or ""


def typed() -> Schema:
    """An entry with ``type:``, whatever its name."""
    types = [{"if": {"properties": {"type": {"const": name}}}, "then": ref(f"model-{name}")} for name in MODEL_TYPES]
    own = {"type": "string", "description": "A class of your own, my_models.py:GatedCNN, or an installed model."}
    one_of = {"type": or_sweep({"anyOf": [{"enum": list(MODEL_TYPES)}, own]})}
    return {"type": "object", "required": ["type"], "properties": one_of, "allOf": types}


def untyped(name: str) -> Schema:
    """An entry whose name is its type, unless it names another."""
    own = {"anyOf": [NULL, ref(f"model-{name}")]}
    return {"if": {"required": ["type"], "type": "object"}, "then": ref("model"), "else": own}


def named(entry: Schema, section: str, known: Schema | None = None) -> Schema:
    """A section of entries by name."""
    names = {"pattern": f"^{NAME}$", "description": NAME_RULE}
    section_schema = {"type": "object", "propertyNames": names, "additionalProperties": entry}
    meaning = {"description": _meaning(Experiments, section)}
    return {**meaning, **section_schema, **({"properties": known} if known else {})}


def schema() -> Schema:
    """The schema of a whole config file; a file that is merged into another may lack any section."""
    definitions = {name: record(record_type, name in SWEPT) for name, record_type in RECORDS.items()}
    for key in LISTS["pretrained"]:
        of_several = {"type": "array", "minItems": 1, "description": "A sweep."}
        definitions["pretrained"]["properties"][key]["anyOf"].append(of_several)
    definitions |= {"corpus": corpus(), "sweep": SWEEP, "model": typed()}
    definitions |= {f"model-{config.name}": model(config.name) for config in LADDER}
    basics = {key: {"anyOf": [value, NULL]} for key, value in record(Basics)["properties"].items() if key != "name"}
    for key, value in basics.items():
        value["description"] = _meaning(Basics, key)
    sections = {
        **basics,
        "corpora": named({"anyOf": [NULL, ref("corpus")]}, "corpora"),
        "tokenizers": named(ref("tokenizer"), "tokenizers"),
        "models": named(ref("model"), "models", {name: untyped(name) for name in MODEL_TYPES}),
        "mixtures": named(ref("mixture"), "mixtures"),
        "pretrained": named(ref("pretrained"), "pretrained"),
        "scores": named(ref("scores"), "scores"),
        "sampling": {"description": _meaning(Experiments, "sampling"), "anyOf": [NULL, ref("sampling")]},
        "infill": {"description": _meaning(Experiments, "infill"), "anyOf": [NULL, ref("infill")]},
        "generation": {"description": _meaning(Experiments, "generation"), "anyOf": [NULL, ref("generation")]},
        "published": {"description": _meaning(Experiments, "published"), "type": "array", "items": ref("published")},
    }
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "lmstages config"}
    return {**head, **mapping(sections), "$defs": definitions}


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    content = text().encode()
    with atomic_write(FILE) as file:
        file.write(content)
