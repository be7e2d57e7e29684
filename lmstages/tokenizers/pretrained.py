"""Tokenizers made elsewhere, to fit any model over their tokens: GPT-2's, LLaMA's, OpenAI's.

A definition of the ``tokenizers`` library (``tokenizer.json``), a SentencePiece model (``tokenizer.model``) or ranks of
byte pairs (``cl100k_base.tiktoken``). What is read is kept whole beside the tokens, so that the file is needed once.
Each token covers the bytes that it spells, and a text that a tokenizer changes, by lower case or NFKC, is refused with
the place: bits per byte refer to the exact text. Knows no model.
"""

import base64
import binascii
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.config.sections import Tokenizer
from lmstages.core.errors import UserError
from lmstages.core.files import reading
from lmstages.core.hub import snapshot
from lmstages.tokenizers.base import BOUNDARY, Encoded
from lmstages.tokenizers.checkpoint import CheckpointTokenizer
from lmstages.tokenizers.special_tokens import BESIDE, FolderVocabulary, agreed
from lmstages.tokenizers.vocabularies import MOST_TOKENS, from_definition, from_sentencepiece

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<s>", "<bos>")
LARGEST = 1 << 28  # bytes of a file; the largest vocabularies have some 30 MB
NOWHERE = Path(os.devnull)  # no file lies beside a saved vocabulary
FORMATS = {".json": "tokenizers", ".model": "sentencepiece", ".tiktoken": "tiktoken"}
FILES = ("tokenizer.json", "tokenizer.model")
PATTERNS = (*FILES, *BESIDE)


class Content(NamedTuple):
    """What a vocabulary is made of: text, or base64 of bytes, and of which of OpenAI's encodings its ranks are."""

    form: str
    text: str
    encoding: str | None = None


class PretrainedTokenizer:
    """A tokenizer made elsewhere under our contract: its end-of-text token and its token 0 change their numbers.

    One that has no such token gets one more. ``boundary_text``: the text of token 0, a newline where documents are
    lines.
    """

    escape: int | None = None
    probe = ""  # it may refuse any other text

    def __init__(self, own: CheckpointTokenizer, content: Content, boundary_text: str) -> None:
        self.own, self.content, self.boundary_text = own, content, boundary_text
        self.vocab_size = len(own.spelling)
        self._theirs = np.arange(self.vocab_size)
        self._theirs[[BOUNDARY, own.end]] = own.end, BOUNDARY  # a permutation that is its own inverse

    @classmethod
    def read(cls, path: Path, encoding: str | None, boundary_text: str) -> "PretrainedTokenizer":
        """The tokenizer of a file, or of a folder in the Hugging Face layout; ``encoding`` of a file of ranks."""
        file = _file_of(path)
        form = FORMATS.get(file.suffix if encoding is None else ".tiktoken")
        if form is None:
            allowed = "allowed: a folder, or a file that ends in .json, .model or .tiktoken"
            raise UserError(file, "is no file of a tokenizer by its name", allowed, "rename it")
        with reading(file):
            raw = _bounded(file)
        if form == "tokenizers":
            return _of_definition(file, raw, boundary_text)
        if form == "tiktoken":
            content = Content(form, _text(file, raw), encoding or file.stem)
        else:
            content = Content(form, base64.b64encode(raw).decode())
        return cls(_opened(file, content, None), content, boundary_text)

    @classmethod
    def of_encoding(cls, name: str, boundary_text: str) -> "PretrainedTokenizer":
        """An encoding of OpenAI's, whose ranks tiktoken downloads or has in its cache."""
        lines = (f"{base64.b64encode(piece).decode()} {rank}\n" for piece, rank in _downloaded(name).items())
        content = Content("tiktoken", "".join(lines), name)
        return cls(_opened(Path(name), content, None), content, boundary_text)

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> "PretrainedTokenizer":
        """The inverse of ``to_json``."""
        content = Content(saved["form"], saved["content"], saved["encoding"])
        return cls(_opened(NOWHERE, content, saved["end"]), content, saved["boundary_text"])

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Their tokens of each text, renumbered, and the bytes that each covers; UserError for a text they change."""
        return [(self._theirs[tokens], lengths) for tokens, lengths in map(self.own.encode, texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens -> text; SentencePiece puts a space before it, which covers no byte."""
        parts: list[list[int]] = [[]]
        for token in tokens:
            if token == BOUNDARY:
                parts.append([])
            else:
                parts[-1].append(int(self._theirs[token]))
        return self.boundary_text.join(self.own.decode(part) for part in parts)

    def to_json(self) -> dict[str, Any]:
        """The content of its file, and which of its tokens ends a text."""
        form, text, encoding = self.content
        saved = {"kind": "pretrained", "form": form, "content": text, "encoding": encoding, "end": self.own.end}
        return {**saved, "vocab_size": self.vocab_size, "boundary_text": self.boundary_text}


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise UserError(path, "has no vocabulary", f"allowed: {' or '.join(FILES)}")


def _bounded(file: Path) -> bytes:
    if (size := file.stat().st_size) > LARGEST:
        raise UserError(file, f"has {size:,} bytes", f"a vocabulary has at most {LARGEST:,}")
    return file.read_bytes()


def _text(file: Path, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UserError(file, "is no text in UTF-8", "", "copy or download it again") from error


def _opened(where: Path, content: Content, end: int | None) -> CheckpointTokenizer:
    """Their tokenizer; ``end``: the token that ends a text, where it is known."""
    if content.form == "tokenizers":
        own = from_definition(where, None, () if end is None else (end,), content.text)
    elif content.form == "sentencepiece":
        own = from_sentencepiece(where, None, (), base64.b64decode(content.text))
    else:
        own = _byte_pairs(where, content)
    own.end, own.where = own.end if end is None else end, "tokenizer" if where is NOWHERE else where
    return own


# ---------------------------------------------------------------- tokenizer.json


def _of_definition(file: Path, raw: bytes, boundary_text: str) -> PretrainedTokenizer:
    """The tokenizer of a definition, with the end of text of the files beside it or one of the usual names."""
    text = _text(file, raw)
    try:
        definition = json.loads(text)
        numbers = _numbers(definition)
        size = max(numbers.values()) + 1
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            file, "no definition of a tokenizer", "", "give tokenizer.json of the tokenizers library"
        ) from (error)
    begin, end = agreed(FolderVocabulary(file, numbers, size), None, ())
    usual = next((numbers[piece] for piece in ENDS if piece in numbers), None)
    chosen = next((token for token in (end, begin, usual) if token is not None), None)
    if chosen is None:
        chosen, text = size, json.dumps(_with_end(definition, size), ensure_ascii=False)
    elif numbers.get(definition["model"].get("unk_token")) == chosen:  # as in GPT-2's, which never needs it
        text = json.dumps({**definition, "model": {**definition["model"], "unk_token": None}}, ensure_ascii=False)
    content = Content("tokenizers", text)
    return PretrainedTokenizer(_opened(file, content, chosen), content, boundary_text)


def _numbers(definition: dict[str, Any]) -> dict[str, int]:
    """{piece: number} of a definition."""
    vocabulary = definition["model"]["vocab"]
    pairs = vocabulary.items() if isinstance(vocabulary, dict) else ((p[0], n) for n, p in enumerate(vocabulary))
    return {**dict(pairs), **{token["content"]: token["id"] for token in definition.get("added_tokens") or []}}


def _with_end(definition: dict[str, Any], number: int) -> dict[str, Any]:
    """The definition with an end of text, which no text can become: the tokenizer is told to read it as text."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = {"id": number, "content": ENDS[0], **flags, "special": True}
    return {**definition, "added_tokens": [*(definition.get("added_tokens") or []), added]}


# ---------------------------------------------------------------- tiktoken

_CONTRACTIONS = "'(?:[sdmt]|ll|ve|re)"
_CASED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT2 = rf"{_CONTRACTIONS}| ?\p{{L}}++| ?\p{{N}}++| ?[^\s\p{{L}}\p{{N}}]++|\s++$|\s+(?!\S)|\s"
RULES = {  # how each encoding cuts a text into words: tiktoken 0.14, tiktoken_ext/openai_public.py (MIT, OpenAI)
    **dict.fromkeys(("gpt2", "r50k_base", "p50k_base"), _GPT2),
    "cl100k_base": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s",
    "o200k_base": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    + _CASED
    + r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    + _CASED
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def _byte_pairs(where: Path, content: Content) -> CheckpointTokenizer:
    """Byte pairs with the ranks of a file and the rule for words of one of OpenAI's encodings; one more ends a text."""
    if content.encoding not in RULES:
        problem = f"does not say of which encoding its ranks are ({content.encoding!r})"
        raise UserError(where, problem, f"known: {', '.join(RULES)}", "name it: {tiktoken: NAME, path: FILE}")
    ranks, library = _ranks(where, content.text), _tiktoken()
    rule = RULES[str(content.encoding)]
    encoding = library.Encoding("lmstages", pat_str=rule, mergeable_ranks=ranks, special_tokens={})
    spelling = [b""] * (max(ranks.values()) + 2)
    for piece, rank in ranks.items():
        spelling[rank] = piece
    return CheckpointTokenizer(where, encoding.encode_ordinary, spelling, None, len(spelling) - 1)


def _ranks(where: Path, text: str) -> dict[bytes, int]:
    """Lines of base64 and a number -> {bytes: rank}; UserError unless all bytes have one, each a rank of its own."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        piece, _, rank = line.partition(" ")
        try:
            ranks[base64.b64decode(piece, validate=True)] = int(rank)
        except (binascii.Error, ValueError) as error:
            problem, allowed = f"line {number:,} is no rank", "a line is base64, a space and a number"
            raise UserError(where, problem, allowed, "copy or download it again") from error
    values = set(ranks.values())
    if len(values) < len(ranks) or not values or min(values) < 0 or max(values) >= MOST_TOKENS:
        raise UserError(where, "its ranks are not numbers from 0 on, one for each piece", "", "download it again")
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise UserError(where, f"has no rank for the byte {missing[0]}", "every byte has one", "download it again")
    return ranks


def _tiktoken() -> Any:
    try:
        import tiktoken
    except ModuleNotFoundError as error:
        remedy = "pip install 'lmstages[tiktoken]'"
        raise UserError("tokenizers: tiktoken", "needs tiktoken, which is not installed", "", remedy) from error
    return tiktoken


def _downloaded(name: str) -> dict[bytes, int]:
    """The ranks of an encoding, which tiktoken downloads and verifies, or has in its cache."""
    _tiktoken()
    from tiktoken_ext.openai_public import ENCODING_CONSTRUCTORS

    try:
        return dict(ENCODING_CONSTRUCTORS[name]()["mergeable_ranks"])
    except Exception as error:  # tiktoken passes on what requests and the system raise
        problem = f"cannot be downloaded ({type(error).__name__}: {' '.join(str(error).split())[:150]})"
        remedy = f"without network give its file, {{tiktoken: {name}, path: FILE.tiktoken}}"
        raise UserError(f"tokenizers: tiktoken {name}", problem, "", remedy) from error


# ---------------------------------------------------------------- of a config


def made_elsewhere(section: Tokenizer, newline_ends: bool, mirror: str | None) -> PretrainedTokenizer:
    """The tokenizer of a section of kind pretrained; ``newline_ends``: documents are lines."""
    boundary_text = "\n" if newline_ends else ""
    if section.hub is not None:
        folder = snapshot(section.hub, str(section.revision), mirror, PATTERNS)
        if not folder.is_dir():
            raise UserError(folder, "no such folder", f"a mirror holds {section.hub}/", "copy the repository there")
        return PretrainedTokenizer.read(folder, None, boundary_text)
    if section.path is None:
        return PretrainedTokenizer.of_encoding(str(section.tiktoken), boundary_text)
    return PretrainedTokenizer.read(Path(section.path), section.tiktoken, boundary_text)
