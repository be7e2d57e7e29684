r"""Text that may hold commands for a terminal or hide its direction, made visible: ``\x1b`` instead of the escape.

Everything that comes from a text, a config or a server passes here before it is shown anywhere.
"""

import unicodedata
from collections.abc import Mapping
from typing import Any

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode: control, format, surrogate, unassigned, separators


def visible(text: str) -> str:
    r"""Control, direction, zero-width and broken characters written out, as ``\x1b``; newline and tab stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if _is_hidden(character) else character for character in text)


def _is_hidden(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in HIDDEN


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def all_visible(content: Any) -> Any:
    """``visible`` for every text in a JSON value, keys included."""
    if isinstance(content, str):
        return visible(content)
    if isinstance(content, Mapping):
        return {all_visible(key): all_visible(value) for key, value in content.items()}
    return [all_visible(item) for item in content] if isinstance(content, list | tuple) else content
