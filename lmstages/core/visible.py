"""Text that may be shown anywhere: characters that give commands or cannot be seen are written as escapes.

Everything that comes from a text or a config passes ``visible`` before it is shown; each output format then escapes
what would be a command in it: tags in HTML, pipes in Markdown, backslashes in LaTeX, formulas in CSV.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

Content = TypeVar("Content")

# Unicode categories: control, format, surrogate, private use, unassigned, line and paragraph separators
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


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


def all_visible(content: Content) -> Content:
    """``visible`` for every text in a JSON value, keys included, or in the fields of a dataclass."""
    shown: Any = content
    if isinstance(content, str):
        shown = visible(content)
    elif is_dataclass(content) and not isinstance(content, type):
        shown = replace(content, **{field.name: all_visible(getattr(content, field.name)) for field in fields(content)})
    elif isinstance(content, Mapping):
        shown = {all_visible(key): all_visible(value) for key, value in content.items()}
    elif isinstance(content, list | tuple):
        shown = [all_visible(item) for item in content]
    return shown
