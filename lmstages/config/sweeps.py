"""One line of a config, many cells: ``hidden: {sweep: [32, 64, 128]}`` becomes three entries, and a table.

    mlp: {hidden: {sweep: [32, 64]}, window: 8}   ->   mlp-hidden-32, mlp-hidden-64

Any key of any corpus, tokenizer or model may hold a sweep; several in one entry make a grid. Whoever names
the entry (``models: [mlp]`` of a corpus) names all it became. Works on the plain content of a config, before
it is checked, and knows none of its keys.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from lmstages.core.errors import UserError

SECTIONS = ("corpora", "tokenizers", "models")
Entry = dict[str, Any]
Swept = dict[str, dict[str, Entry]]  # entry -> {name of a cell: {key: value}}


def expanded(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Swept]]:
    """A config's content -> the same without sweeps, and what each section's entries became."""
    plain, swept = dict(raw), {}
    for section in SECTIONS:
        if isinstance(raw.get(section), dict):
            plain[section], swept[section] = _expand_section(section, raw[section])
    for name, corpus in (plain.get("corpora") or {}).items() if isinstance(plain.get("corpora"), dict) else ():
        if isinstance(corpus, dict):
            plain["corpora"] = plain["corpora"] | {name: _renamed(corpus, swept)}
    return plain, {section: entries for section, entries in swept.items() if entries}


def listed(sweeps: Mapping[str, Swept]) -> list[Entry]:
    """What entries became -> {name, section, keys, cells [cell, values]}, each in the config's own order.

    A table and a figure are called by the name, so an entry that stands in two sections is called by both.
    """
    entries = [(section, entry, cells) for section, swept in sweeps.items() for entry, cells in swept.items()]
    names = [entry for _, entry, _ in entries]
    found = []
    for section, entry, cells in entries:
        name = entry if names.count(entry) == 1 else f"{section}-{entry}"
        values = [[cell, list(keys.values())] for cell, keys in cells.items()]
        found.append({"name": name, "section": section, "keys": list(next(iter(cells.values()))), "cells": values})
    return found


def _expand_section(section: str, entries: Mapping[str, Any]) -> tuple[Entry, Swept]:
    plain: Entry = {}
    swept: Swept = {}
    for name, entry in entries.items():
        places = list(_places(entry, (), f"{section}.{name}"))
        if not places:
            plain[name] = entry
            continue
        paths = [path for path, _ in places]
        for values in product(*(values for _, values in places)):
            keys = dict(zip(_labels(paths), values, strict=True))
            cell = "-".join([str(name), *(f"{key}-{_slug(value)}" for key, value in keys.items())])
            if cell in entries or cell in plain:
                raise UserError(f"{section}.{name}", f"its sweep makes {cell!r}, which stands there already")
            plain[cell] = _origin(section, str(name), _filled(entry, dict(zip(paths, values, strict=True))))
            swept.setdefault(str(name), {})[cell] = keys
    return plain, swept


def _labels(paths: list[tuple[str, ...]]) -> list[str]:
    """What swept keys are called: by themselves, or by their whole way where two end alike."""
    ends = [path[-1] for path in paths]
    return [path[-1] if ends.count(path[-1]) == 1 else "_".join(path) for path in paths]


def _places(entry: Any, path: tuple[str, ...], where: str) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Where in an entry sweeps stand, and their values."""
    for key, value in entry.items() if isinstance(entry, dict) else ():
        if isinstance(value, dict) and "sweep" in value:
            several = isinstance(value["sweep"], list) and value["sweep"]
            if set(value) != {"sweep"} or not several or any(isinstance(each, dict) for each in several):
                raise UserError(f"{where}.{key}", f"{value!r} is no sweep", "a sweep is {sweep: [value, value, ...]}")
            if len({_slug(each) for each in value["sweep"]}) < len(value["sweep"]):
                raise UserError(f"{where}.{key}", "a value stands twice in its sweep", "each value once")
            yield (*path, key), value["sweep"]
        else:
            yield from _places(value, (*path, key), f"{where}.{key}")


def _filled(entry: Any, values: Mapping[tuple[str, ...], Any], path: tuple[str, ...] = ()) -> Any:
    """An entry with one value in place of each sweep."""
    if path in values:
        return values[path]
    if not isinstance(entry, dict):
        return entry
    return {key: _filled(value, values, (*path, key)) for key, value in entry.items()}


def _origin(section: str, name: str, entry: Entry) -> Entry:
    """An entry that took model or source from its own name keeps them under its new one."""
    if section == "models":
        return {"type": name, **entry}
    return {"source": name, **entry} if section == "corpora" and "path" not in entry else entry


def _renamed(corpus: Entry, swept: Mapping[str, Swept]) -> Entry:
    """``models`` and ``tokenizers`` of a corpus, each swept entry replaced by all it became."""
    named = {}
    for key in ("models", "tokenizers"):
        if isinstance(corpus.get(key), list):
            became = swept.get(key, {})
            named[key] = [cell for name in corpus[key] for cell in became.get(name, [name])]
    return corpus | named


def _slug(value: Any) -> str:
    """A value as part of a name: ``tanh``, ``1e-3``, ``128x128``, ``0_5``."""
    if isinstance(value, list):
        return "x".join(_slug(each) for each in value)
    return re.sub(r"[^a-z0-9_-]+", "_", str(value).lower()).strip("_") or "none"
