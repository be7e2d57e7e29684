"""What a reader may be shown: text without commands, and numbers written for people.

Everything that comes from a text or a config passes ``visible`` before it is shown anywhere; each form then escapes
what would be a command in it: tags in HTML, pipes in Markdown, backslashes in LaTeX, formulas in CSV.
"""

import unicodedata
from collections.abc import Mapping
from typing import Any

Comparison = Mapping[str, Any]

DASH = "–"
MINUS = "−"
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode: control, format, surrogate, unassigned, separators
RAW = ("passage", "curve", "curves", "by_position")  # of a row: numbers, and text that is shown character by character


def visible(text: str) -> str:
    r"""Control, direction, zero-width and broken characters written out, as ``\x1b``; newline and tab stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if _is_unseen(character) else character for character in text)


def _is_unseen(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in UNSEEN


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def all_visible(content: Any) -> Any:
    """``visible`` for every text in a JSON value, keys included."""
    if isinstance(content, str):
        return visible(content)
    if isinstance(content, Mapping):
        return {all_visible(key): all_visible(value) for key, value in content.items()}
    return [all_visible(each) for each in content] if isinstance(content, list | tuple) else content


def to_be_shown(comparison: Comparison) -> dict[str, Any]:
    """A comparison whose every text is visible, but for passages, which are told character by character."""
    rows = []
    for row in comparison["rows"]:
        raw = {key: row[key] for key in RAW if key in row}
        rows.append({**all_visible({key: value for key, value in row.items() if key not in raw}), **raw})
    return {**all_visible({key: value for key, value in comparison.items() if key != "rows"}), "rows": rows}


# Numbers


def decimal(value: float | None, places: int = 3) -> str:
    """``1,234.500``; a dash for no number, powers of ten above a million."""
    if value is None:
        return DASH
    text = f"{value:,.{places}f}" if abs(value) < 1e6 else f"{value:.2e}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.removeprefix("-")


def count(value: float | None) -> str:
    """``812,345``, then ``1.24 M``, ``3.50 G``."""
    if value is None or value < 1e6:
        return DASH if value is None else f"{value:,.0f}"
    size, unit = next((size, unit) for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if value >= size)
    return f"{value / size:.2f} {unit}"


def duration(seconds: float | None) -> str:
    """``0.02 s``, ``12.3 s``, ``5 min 12 s``, ``3 h 05 min``."""
    if seconds is None or seconds < 59.95:
        return DASH if seconds is None else f"{seconds:.{1 if seconds >= 1 else 2}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def published(figure: Mapping[str, Any]) -> str:
    """``perplexity 11.95 in 003, ours 11.953: reproduced``."""
    measure = figure["measure"].replace("_", " ")
    return f"{measure} {value(figure)} in {figure['source']}, ours {value(figure, 'ours')}: {figure['verdict']}"


def value(figure: Mapping[str, Any], whose: str = "value") -> str:
    """What was printed, or ``ours``, in six digits; parameters whole, a dash for nothing."""
    number = figure[whose]
    if number is None:
        return DASH
    return f"{number:,.0f}" if figure["measure"] == "parameters" else f"{number:g}"


def what(figure: Mapping[str, Any]) -> str:
    """What was printed: the claim in words, or the measure and where it was taken."""
    if figure["claim"] is not None or figure["model"] is None:
        return str(figure["claim"])
    place = ", ".join(str(figure[key]) for key in ("model", "corpus", "split"))
    return f"{figure['measure'].replace('_', ' ')} of {place}"


def interval(bounds: Any) -> str:
    """``[1.234, 1.301]``; a dash for none."""
    return DASH if not bounds or None in bounds else f"[{decimal(bounds[0])}, {decimal(bounds[1])}]"


def chance(p: float | None) -> str:
    """A p-value: ``0.042``, ``< 0.001``."""
    return DASH if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
