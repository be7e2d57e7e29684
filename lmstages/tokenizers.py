"""Text to tokens and back: bytes, characters, byte-level BPE; each with the bytes every token covers.

Token 0 is the boundary that ends a document. It exists as a number only, never as text that a corpus
could contain, with one exception that is no accident: where the newline is what ends a document, and
in a single stream, which has nothing to end, the newline *is* token 0, so that a character vocabulary
holds the text's characters and nothing else.

A character that train does not hold becomes the escape token, and its bytes are charged at 8 bits each
when scored: an honest code length. Bytes and BPE have every byte and need no escape.

Knows no model and no file.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from lmstages.errors import UserError

BOUNDARY = 0
LONGEST_PIECE = 1024  # bytes; how many a token covers is kept in two bytes
Encoded = tuple[np.ndarray, np.ndarray]


class TextTokenizer(Protocol):
    """What the other stages know of a tokenizer."""

    vocab_size: int
    escape: int | None

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text -> its tokens (n,) and how many UTF-8 bytes each covers (n,)."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens -> text; the boundary as the text that spells it, an escape as U+FFFD."""

    def to_json(self) -> dict[str, Any]:
        """Everything that was learnt."""


class ByteTokenizer:
    """Byte b is token b + 1; 257 tokens whatever the text."""

    vocab_size: int = 257
    escape: int | None = None

    def __init__(self, boundary_text: str = "") -> None:
        self.boundary_text = boundary_text

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """One token a byte."""
        arrays = [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) + 1 for text in texts]
        return [(tokens, np.ones(len(tokens), dtype=np.int64)) for tokens in arrays]

    def decode(self, tokens: Iterable[int]) -> str:
        """Bytes that are no UTF-8 become U+FFFD."""
        return _spelled([b""] + [bytes([b]) for b in range(256)], tokens, self.boundary_text)

    def to_json(self) -> dict[str, Any]:
        """Only how the boundary is spelled."""
        return {"kind": "byte", "boundary_text": self.boundary_text}


class CharTokenizer:
    """One token a character, in code-point order; ``alphabet[0]`` spells the boundary, '' where nothing does."""

    def __init__(self, alphabet: Sequence[str], escape: int | None) -> None:
        self.alphabet, self.escape = list(alphabet), escape
        self.vocab_size = len(self.alphabet)
        self._token_of = np.full(0x110000, -1 if escape is None else escape, dtype=np.int32)
        known = [(ord(character), token) for token, character in enumerate(self.alphabet) if len(character) == 1]
        self._token_of[[point for point, _ in known]] = [token for _, token in known]

    @classmethod
    def learn(cls, texts: Iterable[str], newline_ends: bool, stream: bool, open_alphabet: bool) -> "CharTokenizer":
        """The characters that occur; ``open_alphabet`` adds an escape for those that do not."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        shared = newline_ends or (stream and "\n" in seen)
        alphabet = ["\n" if shared else "", *sorted(seen - {"\n"} if shared else seen)]
        return cls([*alphabet, "\ufffd\ufffd"] if open_alphabet else alphabet, len(alphabet) if open_alphabet else None)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """All texts through one table look-up."""
        points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        tokens = self._token_of[points].astype(np.int64)
        if self.escape is None and (tokens < 0).any():
            unknown = chr(points[int(np.argmax(tokens < 0))])
            raise UserError("tokenizer", f"character {unknown!r} is not in its alphabet", "", "use alphabet: train")
        lengths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)[:-1]
        return list(zip(np.split(tokens, ends), np.split(lengths.astype(np.int64), ends), strict=True))[: len(texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Characters side by side."""
        return "".join("\ufffd" if token == self.escape else self.alphabet[token] for token in tokens)

    def to_json(self) -> dict[str, Any]:
        """The alphabet."""
        return {"kind": "char", "alphabet": self.alphabet, "escape": self.escape}


class BPETokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019) by the ``tokenizers`` library.

    Its token k is ours k + 1. No special token is registered, so no text can turn into one.
    """

    escape: int | None = None

    def __init__(self, definition: str, boundary_text: str = "") -> None:
        from tokenizers import Tokenizer

        self.definition, self.boundary_text = definition, boundary_text
        self._bpe = Tokenizer.from_str(definition)
        pieces = {token: piece for piece, token in self._bpe.get_vocab().items()}
        self._spelling = [b"", *(_bytes_of(pieces[token]) for token in range(len(pieces)))]
        self._lengths = np.array([len(piece) for piece in self._spelling])
        self.vocab_size = len(self._spelling)

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int, boundary_text: str) -> "BPETokenizer":
        """Merge the most frequent pairs until there are ``vocab_size`` tokens, the boundary among them."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False, max_token_length=LONGEST_PIECE
        )
        bpe.train_from_iterator(texts, trainer)
        if bpe.get_vocab_size() != vocab_size - 1:
            found = f"the train text has pairs for {bpe.get_vocab_size() + 1} tokens only, {vocab_size} were asked for"
            raise UserError("tokenizers: vocab_size", found, "", "lower vocab_size or give more text")
        return cls(bpe.to_str(), boundary_text)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Merges within words, where a word carries the space before it."""
        arrays = [np.array(encoding.ids, dtype=np.int64) + 1 for encoding in self._bpe.encode_batch(list(texts))]
        return [(tokens, self._lengths[tokens]) for tokens in arrays]

    def decode(self, tokens: Iterable[int]) -> str:
        """Bytes that are no UTF-8 become U+FFFD."""
        return _spelled(self._spelling, tokens, self.boundary_text)

    def to_json(self) -> dict[str, Any]:
        """The library's own definition."""
        return {"kind": "bpe", "definition": json.loads(self.definition), "boundary_text": self.boundary_text}


def learn(
    kind: str, vocab_size: int | None, texts: Iterable[str], newline_ends: bool, stream: bool, closed: bool
) -> TextTokenizer:
    """A tokenizer of the config from train's texts (or, ``closed``, from all).

    ``newline_ends``: documents are lines; ``stream``: one document without end.
    """
    boundary_text = "\n" if newline_ends else ""
    if kind == "byte":
        return ByteTokenizer(boundary_text)
    if kind == "bpe":
        assert vocab_size is not None, "the config asks bpe for a vocab_size"
        return BPETokenizer.learn(texts, vocab_size, boundary_text)
    return CharTokenizer.learn(texts, newline_ends, stream, open_alphabet=not closed)


def from_json(saved: dict[str, Any]) -> TextTokenizer:
    """The inverse of ``to_json``."""
    if saved["kind"] == "byte":
        return ByteTokenizer(saved["boundary_text"])
    if saved["kind"] == "bpe":
        return BPETokenizer(json.dumps(saved["definition"], ensure_ascii=False), saved["boundary_text"])
    return CharTokenizer(saved["alphabet"], saved["escape"])


def with_boundaries(encoded: Encoded, terminator: int) -> Encoded:
    """A document's tokens and lengths, closed by the boundary, which covers the ``terminator`` bytes."""
    tokens, lengths = encoded
    return np.append(tokens, BOUNDARY), np.append(lengths, terminator)


def smallest_type(largest: int) -> np.dtype:
    """The narrowest unsigned type that holds ``largest``: 1, 2 or 4 bytes."""
    return np.min_scalar_type(largest)


def _spelled(spelling: Sequence[bytes], tokens: Iterable[int], boundary_text: str) -> str:
    boundary = boundary_text.encode()
    return b"".join(boundary if token == BOUNDARY else spelling[token] for token in tokens).decode(errors="replace")


def _bytes_of(piece: str) -> bytes:
    """A piece in the byte-level alphabet -> the bytes it stands for."""
    return bytes(_BYTE_OF[character] for character in piece)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins: visible Latin-1 bytes are themselves, the rest follow from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + rank): byte for rank, byte in enumerate(hidden)}


_BYTE_OF = _byte_alphabet()
