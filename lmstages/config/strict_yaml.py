"""Strict YAML: the core schema of YAML 1.2, in which ``1e-3`` is a number and ``no`` and ``010`` are text.

Refuses tags, anchors, aliases, duplicate keys, numbers that are not finite, and brackets within more than DEEPEST
others. Knows no key of a config.
"""

import math
import re
from pathlib import Path
from typing import Any

import yaml

from lmstages.core.errors import UserError, did_you_mean

DEEPEST = 20  # lists and mappings within each other; a config needs six


class StrictLoader(yaml.SafeLoader):
    """A loader of YAML 1.2's core schema; see the module."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            problem = "anchors and aliases" if event.anchor else f"tags such as {event.tag}"
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: {problem} are not allowed")
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: lists and mappings lie more than {DEEPEST} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        """A finite number; ``1e400`` is refused."""
        if not math.isfinite(value := self.construct_yaml_float(node)):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {node.value[:20]} is too large for a number")
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in seen:
                problem = "appears twice" if isinstance(key, str) else "is no word; put it in quotes"
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} {problem}")
            seen.add(key)
        return super().construct_mapping(node, deep)


NUMBER = r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
for tag, pattern, first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", list("-+0123456789")),
    ("float", NUMBER, list("-+.0123456789")),
):
    StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), first)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_finite)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, read by the strict rules; raises UserError with the line of a mistake."""
    try:
        content = _parse(path.read_bytes().decode("utf-8"))
    except OSError as error:
        present = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = did_you_mean(str(path), present)
        raise UserError(path, f"cannot be read ({error.strerror}){hint}", "a YAML file") from error
    except UnicodeDecodeError as error:
        raise UserError(path, f"not UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise UserError(path, _in_one_line(error)) from error
    if not isinstance(content, dict):
        raise UserError(path, "holds no mapping", "expected keys such as corpora, tokenizers, models")
    return content


def parse_value(text: str, where: str) -> Any:
    """One value by the same rules, such as ``128``, ``[8, 16]`` or ``{sweep: [8, 16]}``."""
    try:
        return _parse(text)
    except yaml.YAMLError as error:
        raise UserError(where, _in_one_line(error), "a value as YAML has it") from error


def parse_scalar(text: str, where: str) -> Any:
    """A number, true, false, null, or the text itself, by the same rules."""
    loader = StrictLoader("")
    mark = yaml.Mark("", 0, 0, 0, "", 0)
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text, mark, mark))
    except yaml.YAMLError as error:
        raise UserError(where, _in_one_line(error), "a value as YAML has it") from error


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, Loader=StrictLoader)  # noqa: S506 (our own SafeLoader)
    except (ValueError, OverflowError) as error:  # PyYAML's scanner computes before it checks: "\UFFFFFFFF"
        raise yaml.YAMLError(f"an escape or a version that stands for nothing: {error}") from error


def _in_one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
