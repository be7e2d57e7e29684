"""Sweeps of a config: ``hidden: {sweep: [32, 64, 128]}`` becomes three entries, and a table that compares them.

    mlp: {hidden: {sweep: [32, 64]}, window: 8}   ->   mlp-hidden-32, mlp-hidden-64

Any key of any corpus, tokenizer, model or pretrained model may hold a sweep; several sweeps in one entry make a grid.
For some keys of pretrained models a list is a sweep: ``bos: [each_window, none]``. A reference to the entry
(``models: [mlp]`` of a corpus) refers to all entries of its sweep. Works on the raw content of a config, before it is
validated.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from lmstages.core.errors import UserError

MOST_ENTRIES = 10_000  # of one grid
SECTIONS = ("corpora", "tokenizers", "models", "pretrained")
LISTS = {"pretrained": ("bos", "window", "stride")}  # keys whose lists are sweeps
Entry = dict[str, Any]
Swept = dict[str, dict[str, Entry]]  # entry -> {name of a new entry: {swept key: value}}


def expanded(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Swept]]:
    """A config's content -> the same without sweeps, and {section: {entry: its new entries}}."""
    plain, swept = dict(raw), {}
    for section in SECTIONS:
        if isinstance(raw.get(section), dict):
            plain[section], swept[section] = _expand_section(section, raw[section])
    for name, corpus in (plain.get("corpora") or {}).items() if isinstance(plain.get("corpora"), dict) else ():
        if isinstance(corpus, dict):
            plain["corpora"] = plain["corpora"] | {name: _with_swept_references(corpus, swept)}
    return plain, {section: entries for section, entries in swept.items() if entries}


def listed(sweeps: Mapping[str, Swept]) -> list[Entry]:
    """Swept entries in config order, each {name, section, keys, entries}, where ``entries`` are [new entry, values].

    A table and a figure take the name, so an entry that occurs in two sections gets its section as prefix.
    """
    entries = [(section, entry, swept) for section, by_entry in sweeps.items() for entry, swept in by_entry.items()]
    names = [entry for _, entry, _ in entries]
    tables = []
    for section, entry, swept in entries:
        name = entry if names.count(entry) == 1 else f"{section}-{entry}"
        values = [[new_entry, list(keys.values())] for new_entry, keys in swept.items()]
        tables.append({"name": name, "section": section, "keys": list(next(iter(swept.values()))), "entries": values})
    return tables


def _expand_section(section: str, entries: Mapping[str, Any]) -> tuple[Entry, Swept]:
    plain: Entry = {}
    swept: Swept = {}
    for name, listed_entry in entries.items():
        entry = _with_lists(section, listed_entry)
        sweeps = list(_find_sweeps(entry, (), f"{section}.{name}"))
        if not sweeps:
            plain[name] = entry
            continue
        if (count := prod(len(values) for _, values in sweeps)) > MOST_ENTRIES:
            raise UserError(f"{section}.{name}", f"its sweeps make {count:,} entries", f"at most {MOST_ENTRIES:,}")
        paths = [path for path, _ in sweeps]
        for values in product(*(values for _, values in sweeps)):
            keys = dict(zip(_labels(paths), values, strict=True))
            new_entry = "-".join([str(name), *(f"{key}-{_slug(value)}" for key, value in keys.items())])
            if new_entry in entries or new_entry in plain:
                raise UserError(f"{section}.{name}", f"its sweep makes {new_entry!r}, which is an entry already")
            plain[new_entry] = _with_origin(
                section, str(name), _with_values(entry, dict(zip(paths, values, strict=True)))
            )
            swept.setdefault(str(name), {})[new_entry] = keys
    return plain, swept


def _with_lists(section: str, entry: Any) -> Any:
    """An entry whose lists that stand for sweeps are sweeps."""
    keys = [key for key in LISTS.get(section, ()) if isinstance(entry, dict) and isinstance(entry.get(key), list)]
    return {**entry, **{key: {"sweep": entry[key]} for key in keys}} if keys else entry


def _labels(paths: list[tuple[str, ...]]) -> list[str]:
    """Names of swept keys: the key itself, or its whole path where two paths end in the same key."""
    ends = [path[-1] for path in paths]
    return [path[-1] if ends.count(path[-1]) == 1 else "_".join(path) for path in paths]


def _find_sweeps(entry: Any, path: tuple[str, ...], where: str) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """The path of each sweep in an entry, and its values; raises UserError for a malformed one."""
    for key, value in entry.items() if isinstance(entry, dict) else ():
        if isinstance(value, dict) and "sweep" in value:
            values = isinstance(value["sweep"], list) and value["sweep"]
            if set(value) != {"sweep"} or not values or any(isinstance(item, dict) for item in values):
                raise UserError(f"{where}.{key}", f"{value!r} is no sweep", "a sweep is {sweep: [value, value, ...]}")
            if len({_slug(item) for item in values}) < len(values):
                raise UserError(f"{where}.{key}", "a value occurs twice in its sweep", "each value once")
            yield (*path, key), values
        else:
            yield from _find_sweeps(value, (*path, key), f"{where}.{key}")


def _with_values(entry: Any, values: Mapping[tuple[str, ...], Any], path: tuple[str, ...] = ()) -> Any:
    """An entry with one value in place of each sweep."""
    if path in values:
        return values[path]
    if not isinstance(entry, dict):
        return entry
    return {key: _with_values(value, values, (*path, key)) for key, value in entry.items()}


def _with_origin(section: str, name: str, entry: Entry) -> Entry:
    """An entry whose name is its model type or source keeps that type or source under its new name."""
    if section == "models":
        return {"type": name, **entry}
    return {"source": name, **entry} if section == "corpora" and "path" not in entry else entry


def _with_swept_references(corpus: Entry, swept: Mapping[str, Swept]) -> Entry:
    """A corpus whose lists ``models`` and ``tokenizers`` have each swept entry replaced by its new entries."""
    references = {}
    for key in ("models", "tokenizers"):
        if isinstance(corpus.get(key), list):
            by_entry = swept.get(key, {})
            references[key] = [new_entry for name in corpus[key] for new_entry in _entries_of(name, by_entry)]
    return corpus | references


def _entries_of(name: Any, by_entry: Swept) -> list[Any]:
    """The new entries that a reference stands for; what is no name stays, for the record to refuse."""
    return list(by_entry.get(name, [name])) if isinstance(name, str) else [name]


def _slug(value: Any) -> str:
    """A value as part of a name: ``tanh``, ``1e-3``, ``128x128``, ``0_5``."""
    if isinstance(value, list):
        return "x".join(_slug(item) for item in value)
    return re.sub(r"[^a-z0-9_-]+", "_", str(value).lower()).strip("_") or "none"
