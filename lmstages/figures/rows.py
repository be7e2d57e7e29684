"""Rows of a comparison, as figures and tables read them: who stands on the ladder, what is its floor, how to name it.

Knows the keys of a row; never how anything is drawn.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Oracle = Mapping[str, Any] | None

BESIDES = ("oracle", "compressor")  # families that are no models: they mark the floor


def scored(rows: Iterable[Row]) -> list[Row]:
    """The rows that stand on the ladder with a number; oracle and compressors left out."""
    return [row for row in rows if row["family"] not in BESIDES and row["bits_per_byte"] is not None]


def best_of(rows: Iterable[Row]) -> Row | None:
    """The static row with the fewest bits per byte; the oracle does not compete."""
    running = [row for row in scored(rows) if row["category"] == "static"]
    return min(running, key=lambda row: row["bits_per_byte"], default=None)


def floor(rows: Sequence[Row], oracle: Oracle) -> tuple[str, float] | None:
    """What nobody is below on average, its name and bits per byte: the source itself, else the best compressor."""
    known = (oracle or {}).get(rows[0]["split"]) if rows else None
    if known:
        return "oracle", known["bits_per_byte"]
    sizes = [row for row in rows if row["family"] == "compressor" and row["bits_per_byte"] is not None]
    best = min(sizes, key=lambda row: row["bits_per_byte"], default=None)
    return (best["title"], best["bits_per_byte"]) if best else None


def named(row: Row) -> str:
    """The model's title, with the model's own name where it has one."""
    plain = row["model"] == row["type"] or row["family"] in BESIDES
    return row["title"] if plain else f"{row['title']} ({row['model']})"


def names_in_order(rows: Iterable[Row]) -> list[str]:
    """Each name once, up the ladder."""
    return list(dict.fromkeys(named(row) for row in sorted(rows, key=lambda row: row["rank"])))


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by a key, in the order in which the keys come."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def in_bits_per_byte(figure: Mapping[str, Any], row: Row) -> float | None:
    """A published figure on the axis of the ladder, or None where its measure has no place there."""
    value = figure["value"]
    nats = {
        "perplexity": (math.log(value) if value and value > 0 else None, "tokens"),
        "nats_per_token": (value, "tokens"),
        "nats_per_character": (value, "characters"),
        "bits_per_byte": (value and value * math.log(2), "bytes"),
    }
    each, unit = nats.get(figure["measure"], (None, "bytes"))
    if each is None or not row[unit] or not row["bytes"]:
        return None
    return each * row[unit] / row["bytes"] / math.log(2)


def told(value: Any) -> str:
    """A value of a config in words: ``yes``, ``none``, ``0.001``, ``128, 128``, ``kind: char``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {told(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(told, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
