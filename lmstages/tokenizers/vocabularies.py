"""Vocabularies of model files: exports of our tokenizers, and the tokenizers of checkpoints made elsewhere.

A GGUF file lists pieces with what llama.cpp needs to tokenize: ``llama`` (SentencePiece: adjacent pieces are merged by
score; a space is U+2581; byte fallback), ``gpt2`` (byte-level BPE: ordered merges, and the name of a pre-tokenization
rule) or ``none``. A Hugging Face folder holds a definition of the ``tokenizers`` library or a SentencePiece model.

Our characters are SentencePiece pieces without merges. Our boundary, token 0, is both begin and end of text in either
format. Knows no model; paths occur only in error messages.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lmstages.core.errors import UnsupportedError, UserError
from lmstages.tokenizers.base import BOUNDARY
from lmstages.tokenizers.checkpoint import PROBES, SPACE, CheckpointTokenizer, Normalizer
from lmstages.tokenizers.spans import by_spans
from lmstages.tokenizers.special_tokens import BOS, EOS, FolderVocabulary, Statement, agreed, read_json
from lmstages.tokenizers.subwords import byte_alphabet

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # llama.cpp's types of pieces
BYTE_ALPHABET = byte_alphabet()
BEGIN, UNKNOWN_PIECE = "<s>", "<unk>"
GPT2, LLAMA3 = "gpt-2", "llama-bpe"
LLAMA3_NAMES = (LLAMA3, "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2")
CONTRACTIONS, REST = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|", r"|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = {  # llama.cpp's names of pre-tokenization rules; None is GPT-2's, then LLaMA 3's (Dubey et al. 2024)
    **dict.fromkeys((GPT2, "default", "phi-2", "mpt", "olmo", "jais", "gigachat", "exaone4", "trillion"), None),
    **dict.fromkeys(
        (*LLAMA3_NAMES, "dbrx", "smaug-bpe"),
        CONTRACTIONS + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + REST,
    ),
    **dict.fromkeys(  # Qwen 2's: LLaMA 3's with digits one by one
        ("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "kormo"),
        CONTRACTIONS + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + REST,
    ),
    "qwen35": CONTRACTIONS + r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + REST,
    **dict.fromkeys(  # SmolLM's: digits first, one by one, then GPT-2's in what lies between them
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+",
    ),
}


@dataclass(frozen=True)
class Vocabulary:
    """Pieces by token; ``scores`` are used by kind llama, ``merges`` and ``words`` by gpt2, ``types`` by both."""

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

# ---------------------------------------------------------------- exports of our tokenizers


def of_tokenizer(saved: dict[str, Any]) -> Vocabulary:
    """The GGUF vocabulary of one of our tokenizers; NO_VOCABULARY for kinds that GGUF cannot express.

    It expresses characters and BPE. Bytes it cannot: llama.cpp requires merges of byte-level pieces, and SentencePiece
    writes a space as three bytes.
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
        problem = f"its alphabet holds {SPACE!r}, which stands for a space in GGUF"
        raise UserError("tokenizer", problem, "", "use kind bpe")
    pieces = [BEGIN if not character else character.replace(" ", SPACE) for character in alphabet]
    types = [NORMAL if character else CONTROL for character in alphabet]
    if escape is not None:
        pieces[escape], types[escape] = UNKNOWN_PIECE, UNKNOWN
    return Vocabulary("llama", pieces, [0.0] * len(pieces), types, unknown=escape)


def definition_of(saved: dict[str, Any]) -> str | None:
    """One of our tokenizers in the format of the ``tokenizers`` library, with our token numbers; None for words.

    It puts the boundary before every text, as our models read it and as a GGUF file says. No special token is
    registered, so that no text can become one.
    """
    if saved["kind"] in ("word", "whitespace", "pretrained"):
        return None
    is_subword = saved["kind"] in ("bpe", "unigram")
    definition = _shifted(saved["definition"]) if is_subword else json.loads(_definition_of_symbols(saved))
    boundary = boundary_piece(saved)
    before, text = ({"SpecialToken": {"id": boundary, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}})
    special = {boundary: {"id": boundary, "ids": [BOUNDARY], "tokens": [boundary]}}
    pair = [before, text, {"Sequence": {"id": "B", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": [before, text], "pair": pair, "special_tokens": special}
    return json.dumps({**definition, "post_processor": template}, ensure_ascii=False)


def boundary_piece(saved: dict[str, Any]) -> str:
    """How an exported vocabulary spells our boundary: ``<s>``, or the newline where that ends documents."""
    return (saved["alphabet"][BOUNDARY] or BEGIN) if saved["kind"] == "char" else BEGIN


def _definition_of_symbols(saved: dict[str, Any]) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    if saved["kind"] == "byte":
        library = Tokenizer(models.BPE(_numbered([BEGIN, *_byte_pieces()]), []))
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
    """Token k of the library is our token k + 1, since 0 is the boundary."""
    model = dict(definition["model"])
    if model["type"] == "BPE":
        model["vocab"] = {BEGIN: BOUNDARY} | {piece: token + 1 for piece, token in model["vocab"].items()}
    else:
        never = min(score for _, score in model["vocab"]) * LONGEST_TEXT
        model["vocab"] = [[BEGIN, never], *model["vocab"]]
    return {**definition, "model": model}


LONGEST_TEXT = 100.0  # times the lowest score, so that any segmentation of BEGIN scores better than the piece


def _byte_pieces() -> list[str]:
    """The 256 bytes, spelled in the byte alphabet, in order."""
    return sorted(BYTE_ALPHABET, key=BYTE_ALPHABET.__getitem__)


def _numbered(pieces: Iterable[str]) -> dict[str, int]:
    return {piece: token for token, piece in enumerate(pieces)}


# ---------------------------------------------------------------- tokenizers of checkpoints


def from_vocabulary(where: Path, vocabulary: Vocabulary) -> CheckpointTokenizer:
    """The tokenizer of a GGUF file."""
    if vocabulary.kind == "none":
        raise UserError(where, "holds no vocabulary, so it cannot read text", "", "export it with one")
    spell = _byte_level_bytes if vocabulary.kind == "gpt2" else _sentencepiece_bytes
    library = _byte_level_bpe(where, vocabulary) if vocabulary.kind == "gpt2" else _sentencepiece_bpe(vocabulary)
    plain = [type_ in (CONTROL, USER) for type_ in vocabulary.types] or [False] * len(vocabulary.pieces)
    spelling = [piece.encode() if raw else spell(piece) for piece, raw in zip(vocabulary.pieces, plain, strict=True)]
    return CheckpointTokenizer(where, _tokenize_with(library), spelling, vocabulary.begin, vocabulary.end)


def _tokenize_with(library: Any) -> Callable[[str], list[int]]:
    return lambda text: list(library.encode(text, add_special_tokens=False).ids)


def _byte_level_bpe(where: Path, vocabulary: Vocabulary) -> Any:
    """Byte-level BPE of the ``tokenizers`` library."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    if vocabulary.words not in WORDS:
        problem = f"cuts words by the rule {vocabulary.words!r}"
        remedy = "use engine: llama.cpp, which knows others, or the Hugging Face layout of the model"
        raise UnsupportedError(where, problem, f"known: {', '.join(WORDS)}", remedy)
    rule = WORDS[vocabulary.words]
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in vocabulary.merges)]
    _must_merge_pieces(where, set(vocabulary.pieces), merges)
    whole_words = vocabulary.words in LLAMA3_NAMES  # a word that is a piece needs no merges
    library = Tokenizer(models.BPE(_numbered(vocabulary.pieces), merges, ignore_merges=whole_words))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rule is None)
    cut = [] if rule is None else [pre_tokenizers.Split(Regex(rule), "isolated")]
    library.pre_tokenizer = pre_tokenizers.Sequence([*cut, byte_level])
    own = [piece for piece, type_ in zip(vocabulary.pieces, vocabulary.types, strict=False) if type_ == USER and piece]
    library.add_tokens([AddedToken(piece, normalized=False) for piece in own])  # cut out of a text before its words
    return library


def _must_merge_pieces(where: Path, pieces: Collection[str], merges: Iterable[tuple[str, str]]) -> None:
    """Raises UserError for a merge of what is no piece, or into none: the library ends the process at some of them."""
    for left, right in merges:
        lacking = [piece for piece in (left, right, left + right) if piece not in pieces]
        if lacking:
            problem = f"its merge of {left[:40]!a} and {right[:40]!a} needs a piece {lacking[0][:80]!a}"
            raise UserError(where, problem, "a piece of its vocabulary", "fetch it again")


def _sentencepiece_bpe(vocabulary: Vocabulary) -> Any:
    """SentencePiece's BPE: merges the adjacent pair whose concatenation is the piece of the best score."""
    from tokenizers import Tokenizer, models, normalizers

    usable = {p: n for n, p in enumerate(vocabulary.pieces) if vocabulary.types[n] not in (CONTROL, UNUSED)}
    merged = [
        (-vocabulary.scores[token], usable[piece[:cut]], usable[piece[cut:]], piece[:cut], piece[cut:])
        for piece, token in usable.items()
        if vocabulary.types[token] == NORMAL
        for cut in range(1, len(piece))
        if piece[:cut] in usable and piece[cut:] in usable
    ]
    merges = [(left, right) for *_, left, right in sorted(merged)]
    unknown = None if vocabulary.unknown is None else vocabulary.pieces[vocabulary.unknown]
    library = Tokenizer(models.BPE(_numbered(vocabulary.pieces), merges, unk_token=unknown, byte_fallback=True))
    spaces = normalizers.Replace(" ", SPACE)
    library.normalizer = (
        normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if vocabulary.leading_space else spaces
    )
    return library


def _byte_level_bytes(piece: str) -> bytes:
    """The bytes of a piece in GPT-2's byte alphabet; of other pieces, such as padding, their UTF-8."""
    return bytes(BYTE_ALPHABET[c] for c in piece) if all(c in BYTE_ALPHABET for c in piece) else piece.encode()


def _sentencepiece_bytes(piece: str) -> bytes:
    """The bytes of a SentencePiece piece: ``<0x0A>`` is a byte, U+2581 a space."""
    if BYTE_PIECE.fullmatch(piece):
        return bytes.fromhex(piece[3:5])
    return piece.replace(SPACE, " ").encode()


BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")


def from_folder(folder: Path, begin: int | None, ends: Sequence[int]) -> CheckpointTokenizer:
    """The tokenizer of a Hugging Face folder, ``tokenizer.json`` or ``tokenizer.model``.

    ``begin``, ``ends``: BOS and the EOS tokens according to config.json.
    """
    definition, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    if definition.is_file():
        return from_definition(definition, begin, ends)
    if pieces.is_file():
        return from_sentencepiece(pieces, begin, ends)
    raise UserError(folder, "has no vocabulary", "allowed: tokenizer.json or tokenizer.model")


def from_definition(
    path: Path, begin: int | None, ends: Sequence[int], content: str | None = None
) -> CheckpointTokenizer:
    """The tokenizer of a definition of the ``tokenizers`` library: of the file, or ``content`` that was made of it."""
    definition = read_json(path) if content is None else json.loads(content)
    library = _library(path, definition, content)
    numbers = library.get_vocab(with_added_tokens=True)
    spelling = _spelling(path, definition, library, numbers)
    added = library.encode("a", add_special_tokens=True).ids, library.encode("a", add_special_tokens=False).ids
    before = [token for token in added[0][: len(added[0]) - len(added[1])] if token not in added[1]]
    statements = {BOS: Statement(path.name, before[0])} if len(before) == 1 and added[0][1:] == added[1] else {}
    unknown = numbers.get((definition.get("model") or {}).get("unk_token") or "")
    vocabulary = FolderVocabulary(path, numbers, len(spelling), unknown, statements)
    steps = definition.get("normalizer")
    normalizer = Normalizer(_name_of(steps), library.normalizer.normalize_str) if steps else None
    special = agreed(vocabulary, begin, ends)
    return by_spans(CheckpointTokenizer(path, _tokenize_with(library), spelling, *special, normalizer), library)


def _library(path: Path, definition: Mapping[str, Any], content: str | None = None) -> Any:
    """The tokenizer of a definition, which cuts the whole text and adds nothing to it."""
    from tokenizers import Tokenizer

    _must_merge_pieces(path, *_merges_of(definition.get("model")))
    try:
        library = Tokenizer.from_str(path.read_text(encoding="utf-8") if content is None else content)
    except Exception as error:  # the library raises Exception itself
        raise UserError(path, f"no definition of a tokenizer ({' '.join(str(error).split())[:200]})") from error
    library.encode_special_tokens = True  # an end of text spelled out in a text is ordinary text
    library.no_truncation()  # of a text for a network of fixed length, as is padding
    library.no_padding()
    if getattr(library.model, "dropout", None):
        library.model.dropout = None  # of merges, at random, which is for training (Provilkov et al. 2020)
    return library


def _merges_of(model: Any) -> tuple[Collection[str], list[tuple[str, str]]]:
    """The pieces and merges of a model in a definition, as far as they are well formed; none of another kind."""
    if not isinstance(model, dict) or model.get("continuing_subword_prefix"):  # which merges drop
        return (), []
    pieces, merges = model.get("vocab"), model.get("merges")
    if not isinstance(pieces, dict) or not isinstance(merges, list):
        return (), []
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    texts = (pair for pair in pairs if isinstance(pair, list) and all(isinstance(part, str) for part in pair))
    return pieces, [(pair[0], pair[1]) for pair in texts if len(pair) == 2]


def _spelling(path: Path, definition: Mapping[str, Any], library: Any, numbers: Mapping[str, int]) -> list[bytes]:
    """The bytes of every token; UserError where tokens have no number of their own or numbers no vocabulary has."""
    if not numbers or max(numbers.values()) >= MOST_TOKENS:
        problem = f"has {len(numbers):,} pieces, the last of number {max(numbers.values(), default=0):,}"
        raise UserError(path, problem, f"allowed: 1 to {MOST_TOKENS:,}")
    if len(set(numbers.values())) < len(numbers):
        counts = Counter(numbers.values())
        first = min(token for token, count in counts.items() if count > 1)
        raise UserError(path, f"has two pieces of number {first}", "", "fetch it again")
    added = {token.content for token in library.get_added_tokens_decoder().values()}
    steps = json.dumps([definition.get("pre_tokenizer"), definition.get("decoder")])
    spell = _byte_level_bytes if '"ByteLevel"' in steps else _sentencepiece_bytes
    spelling = [b""] * (max(numbers.values()) + 1)
    for piece, token in numbers.items():
        spelling[token] = piece.encode() if piece in added else spell(piece)
    return spelling


MOST_TOKENS = 1 << 24


def _name_of(steps: Any) -> str:
    """The kinds of a normalizer's steps, such as ``NFC, Lowercase``."""
    parts = steps.get("normalizers", [steps]) if isinstance(steps, dict) else []
    return ", ".join(_name_of(part) if "normalizers" in part else str(part.get("type")) for part in parts)


def from_sentencepiece(
    path: Path, begin: int | None, ends: Sequence[int], content: bytes | None = None
) -> CheckpointTokenizer:
    """The tokenizer of a SentencePiece model: of the file, or ``content`` that was read of it."""
    import sentencepiece

    try:
        given = {"model_file": str(path)} if content is None else {"model_proto": content}
        library = sentencepiece.SentencePieceProcessor(**given)
    except (RuntimeError, OSError) as error:
        raise UserError(path, "no SentencePiece model") from error
    pieces = [library.id_to_piece(token) for token in range(library.get_piece_size())]
    special = ((BOS, library.bos_id()), (EOS, library.eos_id()))
    statements = {key: Statement(path.name, token) for key, token in special if token >= 0}
    vocabulary = FolderVocabulary(path, _numbered(pieces), len(pieces), library.unk_id(), statements)
    spelling, normalizer = [_sentencepiece_bytes(piece) for piece in pieces], Normalizer(path.name, library.normalize)
    return CheckpointTokenizer(path, library.encode, spelling, *agreed(vocabulary, begin, ends), normalizer)


# ---------------------------------------------------------------- vocabularies of checkpoints, as GGUF stores them


def of_folder(folder: Path, begin: int | None, ends: Sequence[int], vocab_size: int) -> Vocabulary:
    """The vocabulary of a Hugging Face folder as GGUF stores it; raises UserError if it would tokenize differently."""
    definition = folder / "tokenizer.json"
    if definition.is_file():
        _must_be_bpe(definition)
    own = from_folder(folder, begin, ends)
    if own.vocab_size > vocab_size:
        problem = f"its vocabulary has {own.vocab_size:,} pieces, its embedding {vocab_size:,} rows"
        raise UserError(folder, problem, "a piece needs a row")
    stored = _of_definition(definition) if definition.is_file() else _of_sentencepiece(folder / "tokenizer.model")
    padding = range(len(stored.pieces), vocab_size)  # checkpoints may have more rows than pieces, for fast kernels
    pieces, types = [*stored.pieces, *(f"[PAD{n}]" for n in padding)], [*stored.types, *[UNUSED] * len(padding)]
    scores = [*stored.scores, *[0.0] * (len(pieces) - len(stored.scores))]
    vocabulary = replace(stored, pieces=pieces, types=types, scores=scores, begin=own.begin, end=own.end)
    restored = from_vocabulary(folder, vocabulary)
    if part := next((text for text in PROBES if restored.tokenize(text) != own.tokenize(text)), None):
        remedy = "use llama.cpp's own converter"
        raise UserError(folder, f"its vocabulary cuts {part!r} by a rule that GGUF has no name for", "", remedy)
    return vocabulary


def _must_be_bpe(path: Path) -> None:
    model = read_json(path).get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind != "BPE":
        raise UserError(path, f"a vocabulary of kind {kind!r}", "allowed: BPE")


def _of_definition(path: Path) -> Vocabulary:
    """Byte-level or SentencePiece BPE from a definition of the ``tokenizers`` library; a merge's rank is its score."""
    definition = read_json(path)
    library = _library(path, definition)
    model = definition["model"]
    numbers = {token: piece for piece, token in library.get_vocab(with_added_tokens=True).items()}
    pieces = [numbers.get(token, f"[PAD{token}]") for token in range(max(numbers) + 1)]
    added = library.get_added_tokens_decoder()
    added_types = {token: CONTROL if entry.special else USER for token, entry in added.items()}
    types = [added_types.get(n, _type(piece) if n in numbers else UNUSED) for n, piece in enumerate(pieces)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    steps = definition.get("pre_tokenizer") or {}
    if '"ByteLevel"' in json.dumps(steps):
        return Vocabulary("gpt2", pieces, (), types, merges, _rule(path, steps))
    ranks = {merge.replace(" ", "", 1): float(-rank) for rank, merge in reversed(list(enumerate(merges, 1)))}
    unknown = library.token_to_id(model.get("unk_token") or "")
    spelled, prepends = (
        [piece.replace(" ", SPACE) for piece in pieces],
        '"Prepend"' in json.dumps(definition.get("normalizer")),
    )
    types = [UNKNOWN if token == unknown else type_ for token, type_ in enumerate(types)]
    scores = [ranks.get(piece, 0.0) for piece in spelled]
    return Vocabulary("llama", spelled, scores, types, unknown=unknown, leading_space=prepends)


def _type(piece: str) -> int:
    return BYTE if BYTE_PIECE.fullmatch(piece) else NORMAL


def _rule(path: Path, steps: Mapping[str, Any]) -> str:
    """llama.cpp's name of the pre-tokenization rule."""
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
    tests = {UNKNOWN: library.is_unknown, CONTROL: library.is_control, UNUSED: library.is_unused, BYTE: library.is_byte}
    types = [next((type_ for type_, is_type in tests.items() if is_type(token)), NORMAL) for token in tokens]
    pieces, scores = [library.id_to_piece(token) for token in tokens], [library.get_score(token) for token in tokens]
    prepends = library.id_to_piece(library.encode("a")[0]).startswith(SPACE)
    return Vocabulary("llama", pieces, scores, types, unknown=library.unk_id(), leading_space=prepends)
