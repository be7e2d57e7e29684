"""BOS and EOS of a Hugging Face folder: those of its tokenizer. ``config.json`` may repeat them, not contradict them.

The tokenizer's own statement is, in this order, ``tokenizer_config.json``, ``special_tokens_map.json``, the tokens that
its definition puts before a text, and the SentencePiece model. Knows no text and no model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmstages.core.errors import UserError
from lmstages.core.files import reading

BOS, EOS = "bos_token_id", "eos_token_id"
BESIDE = ("tokenizer_config.json", "special_tokens_map.json")  # what they say of special tokens


@dataclass(frozen=True)
class Statement:
    """A special token according to one file of the tokenizer."""

    file: str
    token: int


@dataclass(frozen=True)
class FolderVocabulary:
    """What a folder's tokenizer says of its special tokens; ``statements`` by BOS and EOS."""

    path: Path
    numbers: Mapping[str, int]
    size: int
    unknown: int | None = None
    statements: Mapping[str, Statement] = field(default_factory=dict)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, whose keys occur once; UserError for anything else."""
    if not path.is_file():
        raise UserError(path, "no such file", "a checkpoint in the Hugging Face layout has one")
    try:
        with reading(path):
            content = json.loads(path.read_bytes(), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise UserError(path, f"is no JSON object ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(content, dict):
        raise UserError(path, "is no JSON object")
    return content


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return content


def agreed(vocabulary: FolderVocabulary, begin: int | None, ends: Sequence[int]) -> tuple[int | None, int | None]:
    """BOS and EOS of a folder, of which config.json says ``begin`` and ``ends``; UserError where files contradict."""
    statements = {**vocabulary.statements, **_stated_beside(vocabulary)}
    return (
        _agreed(vocabulary, BOS, [] if begin is None else [begin], statements.get(BOS)),
        _agreed(vocabulary, EOS, ends, statements.get(EOS)),
    )


def _agreed(vocabulary: FolderVocabulary, key: str, tokens: Sequence[int], statement: Statement | None) -> int | None:
    config, remedy = vocabulary.path.parent / "config.json", "set right the file that is wrong"
    for token in tokens:
        if not 0 <= token < vocabulary.size:
            allowed = f"{vocabulary.path.name} has tokens 0 to {vocabulary.size - 1:,}"
            raise UserError(config, f"{key} is {token}", allowed, remedy)
    if statement is None:
        if vocabulary.unknown is not None and vocabulary.unknown in tokens[:1]:
            problem = f"{key} is {tokens[0]}, the unknown token of {vocabulary.path.name}"
            raise UserError(config, problem, "", remedy)
        return tokens[0] if tokens else None
    if tokens and statement.token not in tokens:
        problem = f"{key} is {tokens[0]} ({_piece(vocabulary, tokens[0])})"
        allowed = f"{statement.file} says {statement.token} ({_piece(vocabulary, statement.token)})"
        raise UserError(config, problem, allowed, remedy)
    return tokens[0] if tokens else statement.token


def _piece(vocabulary: FolderVocabulary, token: int) -> str:
    return next((ascii(piece) for piece, number in vocabulary.numbers.items() if number == token), "no piece")


def _stated_beside(vocabulary: FolderVocabulary) -> dict[str, Statement]:
    """What ``tokenizer_config.json`` and ``special_tokens_map.json`` say, which may repeat one another."""
    config, special = (_stated_in(vocabulary, vocabulary.path.parent / file) for file in BESIDE)
    for key in config.keys() & special.keys():
        if special[key].token != config[key].token:
            tokens = {statement.file: _piece(vocabulary, statement.token) for statement in (special[key], config[key])}
            here, there = BESIDE[1], BESIDE[0]
            problem = f"{key.removesuffix('_id')} is {tokens[here]}"
            allowed, remedy = f"{there} says {tokens[there]}", "set right the file that is wrong"
            raise UserError(vocabulary.path.parent / here, problem, allowed, remedy)
    return {**special, **config}


def _stated_in(vocabulary: FolderVocabulary, path: Path) -> dict[str, Statement]:
    """What one file says, if it exists; null says nothing."""
    content, statements = read_json(path) if path.is_file() else {}, {}
    for key, name in ((BOS, "bos_token"), (EOS, "eos_token")):
        piece = content.get(name)
        piece = piece.get("content") if isinstance(piece, dict) else piece
        if piece is None:
            continue
        if not isinstance(piece, str) or piece not in vocabulary.numbers:
            raise UserError(path, f"{name} {ascii(piece)[:60]}", f"allowed: a piece of {vocabulary.path.name}")
        statements[key] = Statement(path.name, vocabulary.numbers[piece])
    return statements
