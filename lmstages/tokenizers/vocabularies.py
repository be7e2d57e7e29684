"""Vocabularies as model files hold them: ours written out, and those of others read and used.

A GGUF file lists pieces with what llama.cpp needs to cut text into them: ``llama`` (SentencePiece: neighbours are
joined by score; a space is U+2581; what is in no piece falls back to bytes), ``gpt2`` (byte-level BPE: merges in order,
words cut by a rule that has a name) or ``none``. The Hugging Face layout holds the definition of the ``tokenizers``
library, or a SentencePiece model.

Characters are SentencePiece pieces of which no two may be joined. Our boundary, token 0, is the beginning and the end
of text in both formats, stated once. Knows no model; of a file only its name, to say what is wrong with it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lmstages.core.errors import UserError
from lmstages.tokenizers.base import BOUNDARY, Encoded
from lmstages.tokenizers.subwords import byte_alphabet

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # llama.cpp's types of pieces
SPACE = "\u2581"
STAND_INS = byte_alphabet()
BEGIN, UNKNOWN_PIECE = "<s>", "<unk>"
GPT2, LLAMA3 = "gpt-2", "llama-bpe"
WORDS = {  # how llama.cpp names the rules by which words are cut, and LLaMA 3's own (Dubey et al. 2024)
    **dict.fromkeys((GPT2, "default"), None),
    **dict.fromkeys(
        (LLAMA3, "llama3", "llama-v3"),
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+",
    ),
}


@dataclass(frozen=True)
class Vocabulary:
    """Pieces by token; ``scores`` and ``types`` belong to kinds llama and gpt2, ``merges`` and ``words`` to gpt2."""

    kind: Literal["llama", "gpt2", "none"]
    pieces: Sequence[str] = ()
    scores: Sequence[float] = ()
    types: Sequence[int] = ()
    merges: Sequence[str] = ()
    words: str = GPT2
    begin: int | None = BOUNDARY
    end: int | None = BOUNDARY
    unknown: int | None = None
    leading_space: bool = False


NO_VOCABULARY = Vocabulary("none")

# ---------------------------------------------------------------- ours, written out


def of_tokenizer(saved: dict[str, Any]) -> Vocabulary:
    """What GGUF can hold of a tokenizer of ours: characters and BPE; of any other kind nothing but numbers.

    Bytes it cannot: llama.cpp wants merges of byte-level pieces, and SentencePiece writes a space as three bytes.
    """
    if saved["kind"] == "char":
        return _characters(saved["alphabet"], saved["escape"])
    if saved["kind"] == "bpe":
        model = saved["definition"]["model"]
        pieces = [BEGIN, *sorted(model["vocab"], key=model["vocab"].__getitem__)]
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        return Vocabulary("gpt2", pieces, (), [CONTROL, *[NORMAL] * (len(pieces) - 1)], merges)
    return NO_VOCABULARY


def _characters(alphabet: Sequence[str], escape: int | None) -> Vocabulary:
    if SPACE in alphabet:
        found = f"its alphabet holds {SPACE!r}, which stands for a space in GGUF"
        raise UserError("tokenizer", found, "", "use kind bpe")
    pieces = [BEGIN if not character else character.replace(" ", SPACE) for character in alphabet]
    types = [NORMAL if character else CONTROL for character in alphabet]
    if escape is not None:
        pieces[escape], types[escape] = UNKNOWN_PIECE, UNKNOWN
    return Vocabulary("llama", pieces, [0.0] * len(pieces), types, unknown=escape)


def definition_of(saved: dict[str, Any]) -> str | None:
    """A tokenizer of ours in the format of the ``tokenizers`` library, tokens as here; None for words.

    No special token is registered, so that no text can turn into one.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    if saved["kind"] == "word":
        return None
    if saved["kind"] in ("bpe", "unigram"):
        return json.dumps(_shifted(saved["definition"]), ensure_ascii=False)
    if saved["kind"] == "byte":
        library = Tokenizer(models.BPE(_numbered([BEGIN, *_stand_ins()]), []))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.decoder = decoders.ByteLevel()
        return str(library.to_str())
    pieces = [character or BEGIN for character in saved["alphabet"]]
    if saved["escape"] is not None:
        pieces[saved["escape"]] = UNKNOWN_PIECE
    library = Tokenizer(models.BPE(_numbered(pieces), [], unk_token=None if saved["escape"] is None else UNKNOWN_PIECE))
    library.decoder = decoders.Fuse()
    return str(library.to_str())


def _shifted(definition: dict[str, Any]) -> dict[str, Any]:
    """Token k of the library is ours k + 1, since 0 is the boundary."""
    model = dict(definition["model"])
    if model["type"] == "BPE":
        model["vocab"] = {BEGIN: BOUNDARY} | {piece: token + 1 for piece, token in model["vocab"].items()}
    else:
        never = min(score for _, score in model["vocab"]) * LONGEST_TEXT
        model["vocab"] = [[BEGIN, never], *model["vocab"]]
    return {**definition, "model": model}


LONGEST_TEXT = 100.0  # of the lowest score: any way to cut the letters of BEGIN is better than the piece


def _stand_ins() -> list[str]:
    """The 256 bytes in byte-level spelling, in order."""
    return sorted(STAND_INS, key=STAND_INS.__getitem__)


def _numbered(pieces: Iterable[str]) -> dict[str, int]:
    return {piece: token for token, piece in enumerate(pieces)}


# ---------------------------------------------------------------- those of others, used


class OwnTokenizer:
    """Cuts text with a checkpoint's own vocabulary, each token with the bytes of the text that it covers.

    ``spelling``: the bytes of every token. A text whose tokens do not spell it byte by byte is refused, so that bits
    per byte are those of the text and not of something like it.
    """

    def __init__(
        self, where: object, cut: Callable[[str], list[int]], spelling: list[bytes], begin: int | None, end: int | None
    ) -> None:
        if begin is None and end is None:
            raise UserError(where, "its vocabulary has neither a begin nor an end of text")
        self.where, self.cut, self.spelling = where, cut, spelling
        self.begin, self.end = [known for known in (begin, end, begin) if known is not None][:2]
        self._lengths = np.array([len(piece) for piece in spelling], dtype=np.int64)
        self.vocab_size = len(spelling)

    def encode(self, text: str) -> Encoded:
        """Text -> its tokens (n,), of the checkpoint's own numbering, and how many bytes each covers (n,)."""
        tokens = np.array(self.cut(text), dtype=np.int64)
        found, wanted = b"".join(self.spelling[token] for token in tokens), text.encode()
        lengths = self._lengths[tokens]
        if found == b" " + wanted and len(lengths):  # SentencePiece puts a space before every text
            lengths[np.argmax(lengths > 0)] -= 1
        elif found != wanted:
            raise UserError(self.where, f"its vocabulary does not give back the text: {_difference(found, wanted)}")
        return tokens, lengths

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens of the checkpoint's numbering -> text."""
        return b"".join(self.spelling[token] for token in tokens).decode(errors="replace")


def _difference(found: bytes, wanted: bytes) -> str:
    """Where two texts part, shown."""
    pairs = zip(found, wanted, strict=False)
    place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(found), len(wanted)))
    shown = [repr(text[place : place + 20].decode(errors="replace")) for text in (wanted, found)]
    return f"{shown[0]} becomes {shown[1]}"


def from_vocabulary(where: Path, vocabulary: Vocabulary) -> OwnTokenizer:
    """The tokenizer of a GGUF file."""
    if vocabulary.kind == "none":
        raise UserError(where, "holds no vocabulary, so it cannot read text", "", "export it with one")
    spell = _byte_level if vocabulary.kind == "gpt2" else _sentencepiece
    library = _merging(where, vocabulary) if vocabulary.kind == "gpt2" else _scored(vocabulary)
    plain = [kind in (CONTROL, USER) for kind in vocabulary.types] or [False] * len(vocabulary.pieces)
    spelling = [piece.encode() if raw else spell(piece) for piece, raw in zip(vocabulary.pieces, plain, strict=True)]
    return OwnTokenizer(where, _cutting(library), spelling, vocabulary.begin, vocabulary.end)


def _cutting(library: Any) -> Callable[[str], list[int]]:
    return lambda text: list(library.encode(text, add_special_tokens=False).ids)


def _merging(where: Path, vocabulary: Vocabulary) -> Any:
    """Byte-level BPE of the ``tokenizers`` library."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    if vocabulary.words not in WORDS:
        found = f"cuts words by the rule {vocabulary.words!r}"
        raise UserError(where, found, f"known: {', '.join(WORDS)}", "use the Hugging Face layout of the model")
    rule = WORDS[vocabulary.words]
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in vocabulary.merges)]
    library = Tokenizer(models.BPE(_numbered(vocabulary.pieces), merges, ignore_merges=rule is not None))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rule is None)
    cut = [] if rule is None else [pre_tokenizers.Split(Regex(rule), "isolated")]
    library.pre_tokenizer = pre_tokenizers.Sequence([*cut, byte_level])
    return library


def _scored(vocabulary: Vocabulary) -> Any:
    """SentencePiece's BPE: two neighbours are joined to the piece of the best score, if they are one."""
    from tokenizers import Tokenizer, models, normalizers

    usable = {p: n for n, p in enumerate(vocabulary.pieces) if vocabulary.types[n] not in (CONTROL, UNUSED)}
    joined = [
        (-vocabulary.scores[token], usable[piece[:cut]], usable[piece[cut:]], piece[:cut], piece[cut:])
        for piece, token in usable.items()
        if vocabulary.types[token] == NORMAL
        for cut in range(1, len(piece))
        if piece[:cut] in usable and piece[cut:] in usable
    ]
    merges = [(left, right) for *_, left, right in sorted(joined)]
    unknown = None if vocabulary.unknown is None else vocabulary.pieces[vocabulary.unknown]
    library = Tokenizer(models.BPE(_numbered(vocabulary.pieces), merges, unk_token=unknown, byte_fallback=True))
    spaces = normalizers.Replace(" ", SPACE)
    library.normalizer = (
        normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if vocabulary.leading_space else spaces
    )
    return library


def _byte_level(piece: str) -> bytes:
    """A piece in GPT-2's stand-ins -> the bytes it stands for; others, such as padding, as they are."""
    return bytes(STAND_INS[c] for c in piece) if all(c in STAND_INS for c in piece) else piece.encode()


def _sentencepiece(piece: str) -> bytes:
    """``<0x0A>`` is a byte, U+2581 a space."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes.fromhex(piece[3:5])
    return piece.replace(SPACE, " ").encode()


def from_folder(folder: Path, begin: int | None, end: int | None) -> OwnTokenizer:
    """The tokenizer of a Hugging Face folder: ``tokenizer.json`` or ``tokenizer.model``."""
    definition, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    if definition.is_file():
        return _from_definition(definition, begin, end)
    if pieces.is_file():
        return _from_sentencepiece(pieces, begin, end)
    raise UserError(folder, "has no vocabulary", "allowed: tokenizer.json or tokenizer.model")


def _from_definition(path: Path, begin: int | None, end: int | None) -> OwnTokenizer:
    from tokenizers import Tokenizer

    try:
        content = path.read_text(encoding="utf-8")
        library = Tokenizer.from_str(content)
    except Exception as error:  # the library raises Exception itself
        raise UserError(path, f"no definition of a tokenizer ({error})") from error
    library.encode_special_tokens = True  # a text that spells an end of text is no end of text
    added = {token.content for token in library.get_added_tokens_decoder().values()}
    spell = _byte_level if '"ByteLevel"' in content else _sentencepiece
    known = library.get_vocab(with_added_tokens=True)
    spelling = [b""] * (max(known.values()) + 1)
    for piece, token in known.items():
        spelling[token] = piece.encode() if piece in added else spell(piece)
    return OwnTokenizer(path, _cutting(library), spelling, begin, end)


def _from_sentencepiece(path: Path, begin: int | None, end: int | None) -> OwnTokenizer:
    import sentencepiece

    try:
        library = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise UserError(path, "no SentencePiece model") from error
    pieces = [library.id_to_piece(token) for token in range(library.get_piece_size())]
    return OwnTokenizer(path, library.encode, [_sentencepiece(piece) for piece in pieces], begin, end)


# ---------------------------------------------------------------- those of others, written out

PROBES = (
    "The 1234 cats\u2019 fur isn't  grey,\tbut\n\nSHE'LL see: na\u00efve caf\u00e9s \U0001f994!",
    " a",
    "a",
    "  \n ",
)


def of_folder(folder: Path, begin: int | None, end: int | None, vocab_size: int) -> Vocabulary:
    """The vocabulary of a Hugging Face folder as GGUF holds it; an error where it would cut text in another way."""
    own, definition = from_folder(folder, begin, end), folder / "tokenizer.json"
    told = _of_definition(definition) if definition.is_file() else _of_sentencepiece(folder / "tokenizer.model")
    missing = range(len(told.pieces), vocab_size)  # checkpoints have more rows than pieces, for quick multiplication
    pieces, types = [*told.pieces, *(f"[PAD{n}]" for n in missing)], [*told.types, *[UNUSED] * len(missing)]
    scores = [*told.scores, *[0.0] * (len(pieces) - len(told.scores))]
    found = replace(told, pieces=pieces, types=types, scores=scores, begin=begin, end=end)
    again = from_vocabulary(folder, found)
    if part := next((text for text in PROBES if again.cut(text) != own.cut(text)), None):
        remedy = "use llama.cpp's own converter"
        raise UserError(folder, f"its vocabulary cuts {part!r} by a rule that GGUF has no word for", "", remedy)
    return found


def _of_definition(path: Path) -> Vocabulary:
    """Byte-level BPE, or SentencePiece's as the ``tokenizers`` library has it: a merge's rank is its score."""
    told = json.loads(path.read_bytes())
    model = told["model"]
    if model.get("type") != "BPE":
        raise UserError(path, f"a vocabulary of kind {model.get('type')!r}", "allowed: BPE")
    added = {token["id"]: token for token in told.get("added_tokens", [])}
    numbers = {token: piece for piece, token in model["vocab"].items()}
    numbers |= {token: found["content"] for token, found in added.items()}
    pieces = [numbers.get(token, f"[PAD{token}]") for token in range(max(numbers) + 1)]
    marks = {token: CONTROL if found["special"] else USER for token, found in added.items()}
    types = [marks.get(n, _type(piece) if n in numbers else UNUSED) for n, piece in enumerate(pieces)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    steps = told.get("pre_tokenizer") or {}
    if '"ByteLevel"' in json.dumps(steps):
        return Vocabulary("gpt2", pieces, (), types, merges, _rule(path, steps))
    ranks = {merge.replace(" ", "", 1): float(-rank) for rank, merge in reversed(list(enumerate(merges, 1)))}
    unknown = model["vocab"].get(model.get("unk_token"))
    spelt, prepends = [piece.replace(" ", SPACE) for piece in pieces], '"Prepend"' in json.dumps(told["normalizer"])
    types = [UNKNOWN if token == unknown else kind for token, kind in enumerate(types)]
    scores = [ranks.get(piece, 0.0) for piece in spelt]
    return Vocabulary("llama", spelt, scores, types, unknown=unknown, leading_space=prepends)


def _type(piece: str) -> int:
    return BYTE if len(piece) == 6 and piece.startswith("<0x") else NORMAL


def _rule(path: Path, steps: Mapping[str, Any]) -> str:
    """What llama.cpp calls the rule by which words are cut."""
    parts = steps.get("pretokenizers", [steps])
    rules = [part["pattern"].get("Regex") for part in parts if part["type"] == "Split"]
    rules += [None for part in parts if part.get("use_regex", True) and part["type"] == "ByteLevel"]
    names = [name for name, rule in WORDS.items() if [rule] == rules]
    if not names:
        raise UserError(path, f"cuts words by the rule {rules}", f"known: {', '.join(WORDS)}")
    return names[0]


def _of_sentencepiece(path: Path) -> Vocabulary:
    import sentencepiece

    library = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokens = range(library.get_piece_size())
    asked = {UNKNOWN: library.is_unknown, CONTROL: library.is_control, UNUSED: library.is_unused, BYTE: library.is_byte}
    types = [next((kind for kind, of in asked.items() if of(token)), NORMAL) for token in tokens]
    pieces, scores = [library.id_to_piece(token) for token in tokens], [library.get_score(token) for token in tokens]
    prepends = library.id_to_piece(library.encode("a")[0]).startswith(SPACE)
    return Vocabulary("llama", pieces, scores, types, unknown=library.unk_id(), leading_space=prepends)
