"""Tokens as a vocabulary spells them, where the text's own characters are wanted: recognised, and named.

▁the                SentencePiece: a space, spelled as a character of three bytes
<0xE2>              SentencePiece: a byte
Ġthe, ĊĊ, Ã©        GPT-2's alphabet of bytes: a space, newlines, a letter of two bytes
##ing, th@@, the</w>    WordPiece, subword-nmt and the first BPE: where a word goes on or ends
<s>, </s>, <unk>, [CLS], <|endoftext|>    special tokens, which are no text
"""

import re
from collections.abc import Iterator
from typing import Any

from lmstages.core.errors import shortened
from lmstages.tokenizers.subwords import byte_alphabet

SPELLED_OUT = (
    "write the text that each token covers, as a tokenizer's offsets or decode give it; or bytes as JSONL with"
    " start_byte and end_byte"
)
BYTE_TOKEN = re.compile(rb"(?:<0x[0-9A-Fa-f]{2}>)+")
SPECIAL = re.compile(r"</?[A-Za-z_]{1,12}>|<\|[A-Za-z0-9_]{1,30}\|>|\[(?:CLS|SEP|UNK|PAD|MASK|BOS|EOS)\]")
ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([ntr\\]))")
PLAIN = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\"}
BYTE_OF = byte_alphabet()


def unescaped(token: bytes) -> bytes:
    r"""``\n``, ``\t``, ``\r``, ``\\`` and ``\xe2`` as the bytes that they stand for."""
    return ESCAPE.sub(_plain, token) if b"\\" in token else token


def _plain(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16)]) if match[1] else PLAIN[match[2]]


def spelling_problem(token: bytes, content: Any, position: int) -> str:
    """How a token that the text does not have at a position is spelled, in words; empty where it is not known."""
    try:
        written = token.decode()
    except UnicodeDecodeError:
        return ""
    name = next((name for name, plain in _spellings(written) if _goes_on(plain, content, position)), "")
    if not name and (known := next((sign for sign in SURE if sign in written), "")):
        name = SURE[known]
    if not name and SPECIAL.fullmatch(written):
        return f"token {shortened(written)} is no text; write the text that it stands for, as \\n, or an empty token"
    return f"token {shortened(written)} is spelled as its vocabulary has it ({name})" if name else ""


SURE = {"▁": "▁ is SentencePiece's space, of three bytes", "Ġ": "Ġ is GPT-2's space, of two bytes"}


def _spellings(written: str) -> Iterator[tuple[str, bytes]]:
    """What a spelling is called, and the text that it would stand for."""
    if BYTE_TOKEN.fullmatch(written.encode()):
        yield f"{written[:6]} is one byte, not {len(written[:6])}", bytes.fromhex(re.sub("<0x|>", "", written))
    if "▁" in written:
        yield SURE["▁"], written.replace("▁", " ").encode()
    if set(written) <= BYTE_OF.keys() and not written.isascii():
        plain = bytes(BYTE_OF[character] for character in written)
        yield SURE["Ġ"] if "Ġ" in written else "GPT-2's alphabet, in which each character is a byte", plain
    if written.startswith("##"):
        yield "## is WordPiece's mark within a word", written[2:].encode()
    if written.endswith("@@"):
        yield "@@ is subword-nmt's mark within a word", written[:-2].encode()
    if written.endswith("</w>"):
        yield "</w> is the end of a word", written[:-4].encode()


def _goes_on(plain: bytes, content: Any, position: int) -> bool:
    """Whether the text goes on with what a token stands for, with or without the spaces before it."""
    there, bare = content[position : position + len(plain) + 1], plain.lstrip()
    return bool(plain) and (there.startswith(plain) or (bool(bare) and there.lstrip().startswith(bare)))
