"""Subword tokenizers: byte-level BPE and unigram.

Both pre-tokenize a text into words with the space before them, spell each in GPT-2's printable byte alphabet, and never
merge across words. All 256 bytes are tokens, so that every text is decoded exactly and no escape is needed. Token k of
the library is our token k + 1. No special token is registered, so no text can become one.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Self

import numpy as np

from lmstages.core.errors import UserError
from lmstages.tokenizers.base import LONGEST_PIECE, Encoded, decode_bytes
from lmstages.tokenizers.token_lengths import VARIES

UNKNOWN = "\ue000"  # the trainer requires an unknown piece; it differs from the whole byte alphabet


AT_ONCE = 1 << 16  # characters of a long text that one thread encodes at once
BETWEEN_WORDS = re.compile("(?<=[A-Za-z])(?=[ \n][A-Za-z])")  # no word, and no run of white space, spans it


def between_words(text: str) -> Iterator[str]:
    """A long text in pieces that have, one after the other, the tokens of the whole."""
    begin = 0
    while len(text) - begin > AT_ONCE and (cut := BETWEEN_WORDS.search(text, begin + AT_ONCE)):
        yield text[begin : cut.start()]
        begin = cut.start()
    yield text[begin:]


class SubwordTokenizer:
    """A tokenizer defined in the format of the ``tokenizers`` library, with the bytes of each of its pieces."""

    kind: str
    escape: int | None = None

    def __init__(self, definition: str, boundary_text: str = "") -> None:
        from tokenizers import Tokenizer

        self.definition, self.boundary_text = definition, boundary_text
        self._library = Tokenizer.from_str(definition)
        pieces = {token: piece for piece, token in self._library.get_vocab().items()}
        self.spelling = [b"", *(_bytes_of(pieces[token]) for token in range(len(pieces)))]
        self.lengths = np.array([VARIES, *(len(piece) for piece in self.spelling[1:])])
        self.vocab_size = len(self.spelling)

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int, boundary_text: str) -> Self:
        """Learn pieces until there are ``vocab_size`` tokens, the boundary included."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode by the library; a token covers the bytes of its piece."""
        tokens, ends = self.encode_together(texts)
        return [(part, self.lengths[part]) for part in np.split(tokens, ends)[: len(texts)]]

    def encode_together(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts (D,) -> their tokens end to end (n,), and where each text ends (D,); in the library's threads."""
        pieces = [list(between_words(text)) for text in texts]
        batch = self._library.encode_batch_fast([piece for parts in pieces for piece in parts])
        counts = np.array([len(encoding) for encoding in batch], dtype=np.int64)
        flat = chain.from_iterable(encoding.ids for encoding in batch)
        tokens = np.fromiter(flat, dtype=np.int64, count=int(counts.sum())) + 1
        lasts = np.cumsum([len(parts) for parts in pieces], dtype=np.int64)
        return tokens, np.append(0, np.cumsum(counts))[lasts]

    def decode(self, tokens: Iterable[int]) -> str:
        """Invalid UTF-8 becomes U+FFFD."""
        return decode_bytes(self.spelling, tokens, self.boundary_text)

    def to_json(self) -> dict[str, Any]:
        """The library's own definition."""
        return {"kind": self.kind, "definition": json.loads(self.definition), "boundary_text": self.boundary_text}


class BPETokenizer(SubwordTokenizer):
    """Byte-pair encoding: merges the most frequent adjacent pair, repeatedly (Sennrich et al. 2016)."""

    kind = "bpe"

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int, boundary_text: str) -> Self:
        """Merge pairs until there are ``vocab_size`` tokens, the boundary included."""
        from tokenizers import models, trainers

        library = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            initial_alphabet=sorted(_BYTE_OF),
            show_progress=False,
            max_token_length=LONGEST_PIECE,
        )
        library.train_from_iterator(texts, trainer)
        if library.get_vocab_size() != vocab_size - 1:
            raise _too_large("pairs", library.get_vocab_size() + 1, vocab_size)
        return cls(library.to_str(), boundary_text)


class UnigramTokenizer(SubwordTokenizer):
    """Unigram: segments a text with the largest product of piece probabilities; training prunes pieces (Kudo 2018).

    Learnt by the ``sentencepiece`` library, which is deterministic, from words in the byte alphabet, so that its rules
    for white space and normalisation change nothing.
    """

    kind = "unigram"

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int, boundary_text: str) -> Self:
        """Prune the substrings of words until there are ``vocab_size`` tokens, the boundary included."""
        from tokenizers import models

        counts = _words(texts)
        pieces = _unigram_pieces([f"{word}\t{count}" for word, count in sorted(counts.items())], vocab_size)
        return cls(_byte_level(models.Unigram(pieces)).to_str(), boundary_text)


def _words(texts: Iterable[str]) -> Counter[str]:
    """Counts of words, in the byte alphabet; words longer than LONGEST_PIECE count in parts.

    Each byte is counted once in addition, so that all of them become pieces.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    pre_tokenizer, counts = ByteLevel(add_prefix_space=False), Counter(_BYTE_OF.keys())
    for text in texts:
        for word, _ in pre_tokenizer.pre_tokenize_str(text):
            counts.update(word[start : start + LONGEST_PIECE] for start in range(0, len(word), LONGEST_PIECE))
    return counts


def _unigram_pieces(lines: list[str], vocab_size: int) -> list[tuple[str, float]]:
    """Lines of word, tab, count -> ``vocab_size - 1`` pieces with their log-probabilities."""
    import sentencepiece

    out = io.BytesIO()
    options: dict[str, Any] = {"model_type": "unigram", "input_format": "tsv", "num_threads": 1, "minloglevel": 3}
    options |= {"normalization_rule_name": "identity", "add_dummy_prefix": False, "remove_extra_whitespaces": False}
    options |= dict.fromkeys(("split_by_unicode_script", "split_by_number", "split_by_whitespace"), False)
    options |= {"unk_piece": UNKNOWN, "unk_id": 0} | dict.fromkeys(("bos_id", "eos_id", "pad_id"), -1)
    options |= {"character_coverage": 1.0}
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=out, vocab_size=vocab_size, **options
        )
    except RuntimeError as error:
        most = re.search(r"too high \(\d+\).*<= (\d+)", str(error))
        raise _too_large("pieces", int(most[1]) if most else 1 + len(_BYTE_OF), vocab_size) from error
    learnt = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    return [(learnt.id_to_piece(token), learnt.get_score(token)) for token in range(1, learnt.get_piece_size())]


def _too_large(pieces: str, available: int, vocab_size: int) -> UserError:
    problem = f"the train text has {pieces} for {available} tokens only, {vocab_size} were asked for"
    return UserError("tokenizers: vocab_size", problem, "", "lower vocab_size or give more text")


def _byte_level(model: Any) -> Any:
    """A tokenizer of the library that reads and writes the byte alphabet."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    library = Tokenizer(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return library


def _bytes_of(piece: str) -> bytes:
    """A piece in the byte alphabet -> its bytes."""
    return bytes(_BYTE_OF[character] for character in piece)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable byte alphabet: visible Latin-1 bytes stay themselves, the others are U+0100 and following."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + rank): byte for rank, byte in enumerate(hidden)}


_BYTE_OF = byte_alphabet()
