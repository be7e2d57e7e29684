"""Token streams on disk, written by tokenizing and read by models.

A split is a ``.npy`` of 1, 2 or 4 bytes per token, read as a memory map, with the number of bytes each token covers
(``token_lengths``) and the first token of each document in files beside it. Written and read in pieces.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.config.sections import Tokenizer
from lmstages.core import artifacts
from lmstages.core.artifacts import Made
from lmstages.core.documents import BOUNDARY, Documents
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER, Progress
from lmstages.corpora.splits import NAMES, NO_DOCUMENT, Piece, SplitText
from lmstages.tokenizers import ByteTokenizer, TextTokenizer, from_json, learn, smallest_type, token_lengths
from lmstages.tokenizers.base import after, encoded_together, lengths_of, needs_whole_words
from lmstages.tokenizers.pretrained import made_elsewhere
from lmstages.tokenizers.tables import ByTable, Tokens, is_by_table, text_of, tokens_of

TOKENIZER = "tokenizer.json"


def tokenize(section: Tokenizer, text: Path, folder: Path, layout: str, made: Made, mirror: str | None = None) -> None:
    """Learn a tokenizer from train, or from all splits for a closed alphabet, and write the tokens of all splits.

    One of kind pretrained is read; ``mirror``: a folder or address in place of the hub.
    """
    parts = {name: SplitText.open(text, name) for name in NAMES}
    is_pretrained = section.kind == "pretrained"
    tokenizer = made_elsewhere(section, layout == "lines", mirror) if is_pretrained else _learnt(section, parts, layout)
    artifacts.save_json(folder / TOKENIZER, tokenizer.to_json(), made)
    for name, part in parts.items():
        count = write_tokens(folder, name, part, tokenizer, made)
        LOGGER.info("%s: %s tokens of %s", name, f"{count:,}", f"{tokenizer.vocab_size:,}")


def _learnt(section: Tokenizer, parts: Mapping[str, SplitText], layout: str) -> TextTokenizer:
    closed = section.alphabet == "corpus"
    texts = (text for name in (NAMES if closed else NAMES[:1]) for text in _texts(section, parts[name]))
    stream = parts["train"].stream
    return learn(section.kind, section.vocab_size, texts, layout == "lines", stream, closed, not section.closed)


def _texts(section: Tokenizer, split: SplitText) -> Iterator[str]:
    """What a tokenizer learns from: documents, or for characters, which none of them belong together, longer pieces."""
    if section.kind == "char":
        return map(text_of, split.parts())
    most, size = section.most_learnt(), split.path.stat().st_size
    if most is not None and size > most:
        LOGGER.info("learning from a sample of about %s of %s bytes", f"{most:,}", f"{size:,}")
    return split.texts(section.kind == "whitespace", most)


def write_tokens(folder: Path, name: str, text: SplitText, tokenizer: TextTokenizer, made: Made) -> int:
    """Tokenize a split and return its number of tokens; raises UserError if decoding changes the text."""
    paths, vocabulary = _token_paths(folder, name), lengths_of(tokenizer)
    progress = Progress(text.path.stat().st_size, f"{name}: byte")
    with (
        artifacts.saving_array(paths[0], smallest_type(tokenizer.vocab_size - 1), made) as tokens,
        artifacts.saving_array(paths[1], np.dtype(np.uint8), made) as lengths,
        artifacts.saving_array(paths[2], np.dtype(np.int64), made) as starts,
    ):
        covered_bytes = 0
        lengths.append(token_lengths.to_bytes(token_lengths.listed(vocabulary)))
        starts.append(np.zeros(1))
        for part, size in _by_table(tokenizer, text) if is_by_table(tokenizer) else _encoded(tokenizer, text):
            starts.append(part.ends + tokens.length)
            tokens.append(part.tokens)
            lengths.append(token_lengths.to_bytes(part.varying))
            covered_bytes += size
            progress.at(covered_bytes, covered_bytes, "bytes")
        if text.stream and tokens.length:
            starts.append(np.array([tokens.length]))
    assert covered_bytes == text.path.stat().st_size, "the tokens cover the text's bytes, no more and no fewer"
    return tokens.length


def _by_table(tokenizer: ByTable, text: SplitText) -> Iterator[tuple[Tokens, int]]:
    """The tokens of a split part by part, and how many bytes each part has."""
    return ((tokens_of(tokenizer, part), len(part.content)) for part in text.parts())


def _encoded(tokenizer: TextTokenizer, text: SplitText) -> Iterator[tuple[Tokens, int]]:
    """As ``_by_table``, by the tokenizer's own way of encoding; the bytes are those that the tokens cover."""
    reader, vocabulary = tokenizer, lengths_of(tokenizer)
    for batch in text.batches(needs_whole_words(tokenizer)):
        tokens, lengths, ends = encoded_together(reader, [piece.text for piece in batch])
        _check_round_trips(reader, batch, tokens, lengths, ends)
        if not text.stream:
            terminators = np.array([piece.terminator for piece in batch], dtype=np.int64)
            tokens, lengths = np.insert(tokens, ends, BOUNDARY), np.insert(lengths, ends, terminators)
            ends = ends + np.arange(1, len(ends) + 1)
        alone = token_lengths.varying(vocabulary, tokens)
        yield Tokens(tokens, NO_DOCUMENT if text.stream else ends, lengths[alone]), int(lengths.sum())
        reader = after(tokenizer, batch[-1].text) if text.stream else tokenizer


def _check_round_trips(
    tokenizer: TextTokenizer, batch: Sequence[Piece], tokens: np.ndarray, lengths: np.ndarray, ends: np.ndarray
) -> None:
    """Raises UserError where decoding changes a text; tokens that spell bytes are compared all at once."""
    spelling = getattr(tokenizer, "spelling", None)
    if spelling is not None:
        texts = [piece.text.encode() for piece in batch]
        covered = np.diff(np.append(0, np.cumsum(lengths))[ends], prepend=0)
        if b"".join(map(spelling.__getitem__, tokens.tolist())) == b"".join(texts) and covered.tolist() == [
            *map(len, texts)
        ]:
            return
    for piece, begin, end in zip(batch, np.append(0, ends), ends, strict=False):
        _check_round_trip(tokenizer, piece, tokens[begin:end])


def _check_round_trip(tokenizer: TextTokenizer, piece: Piece, tokens: np.ndarray) -> None:
    escaped = tokenizer.escape is not None and (tokens == tokenizer.escape).any()
    allowed = (piece.text, f" {piece.text}")  # SentencePiece puts a space before every text, which covers no byte
    if not escaped and tokenizer.decode(tokens.tolist()) not in allowed:
        raise UserError("tokenizer", f"decoding changes the text {piece.text[:40]!r}...", "", "use kind byte or char")


def _token_paths(folder: Path, name: str) -> tuple[Path, Path, Path]:
    return folder / f"{name}.npy", folder / f"{name}.bytes.npy", folder / f"{name}.starts.npy"


def read_tokens(folder: Path, name: str) -> tuple[Documents, np.ndarray]:
    """A split's documents, memory-mapped, and the number of bytes each token covers (N,).

    Raises UserError where the three files do not fit one another or, if it lies beside them, the tokenizer.
    """
    documents, path = read_documents(folder, name), _token_paths(folder, name)[1]
    artifacts.must_be_of_one_call(_token_paths(folder, name)[0], path)
    return documents, token_lengths.lengths_of(path, documents.tokens)


def read_documents(folder: Path, name: str) -> Documents:
    """The same without the lengths of tokens, which no model reads."""
    path, _, begins = _token_paths(folder, name)
    tokens, starts = artifacts.load_array(path), artifacts.load_array(begins)
    artifacts.must_be_of_one_call(path, begins)
    remedy = artifacts.make_again(path)
    if not len(starts) or starts[0] != 0 or starts[-1] != len(tokens) or (np.diff(starts) < 0).any():
        problem = f"{len(tokens):,} tokens, not where the documents in {begins.name} begin and end"
        raise UserError(path, problem, "", remedy)
    if (folder / TOKENIZER).is_file() and len(tokens):
        artifacts.must_be_of_one_call(path, folder / TOKENIZER)
        size, largest = _vocab_size(folder / TOKENIZER), int(tokens.max())
        if largest >= size or tokens.min() < 0:
            raise UserError(path, f"token {largest:,}", f"{TOKENIZER} has {size:,} tokens", remedy)
    return Documents(tokens, np.asarray(starts))


def read_starts(folder: Path, name: str) -> np.ndarray:
    """(D + 1,) where the documents of a split begin, the last being its number of tokens; its tokens are not read."""
    tokens, _, path = _token_paths(folder, name)
    starts = artifacts.load_array(path)
    artifacts.must_be_of_one_call(path, tokens)
    if not len(starts) or starts[0] != 0 or (np.diff(starts) < 0).any():
        raise UserError(path, "not where documents begin and end", "", artifacts.make_again(path))
    return np.asarray(starts)


def _vocab_size(path: Path) -> int:
    """The number of tokens of a saved tokenizer, without the time that its tables take."""
    saved = artifacts.load_json(path)
    with _reading(path):
        if saved["kind"] == "byte":
            return ByteTokenizer.vocab_size
        if saved["kind"] in ("char", "word", "whitespace"):
            return len(saved["alphabet" if saved["kind"] == "char" else "vocabulary"])
        if saved["kind"] == "pretrained":
            return int(saved["vocab_size"])
        return 1 + len(saved["definition"]["model"]["vocab"])


def read_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer of a token folder; a UserError where the text allowed none, or this version does not know it."""
    saved = artifacts.load_json(folder / TOKENIZER)
    if failure := _failure(saved):
        raise UserError(folder / TOKENIZER, failure)
    with _reading(folder / TOKENIZER):
        tokenizer = from_json(saved)
        _must_work(tokenizer)
    return tokenizer


PROBE = "A cat, née in 1999:\n\t語 ends."


def _must_work(tokenizer: TextTokenizer) -> None:
    """Raises an error of any kind where a saved tokenizer does not encode and decode as one of this package."""
    letters = "".join(c for c in PROBE if tokenizer.escape is not None or c in getattr(tokenizer, "alphabet", PROBE))
    known = letters if tokenizer.escape is not None else getattr(tokenizer, "probe", letters)
    [(tokens, lengths)] = tokenizer.encode([known])
    assert isinstance(tokenizer.decode(range(tokenizer.vocab_size)), str), "every token has a text"
    assert len(tokens) == len(lengths) and lengths.sum() == len(known.encode()), "the tokens cover the text"
    escape = tokenizer.escape
    assert escape is None or (type(escape) is int and 0 <= escape < tokenizer.vocab_size), "the escape is a token"
    assert tokenizer.escape in tokens.tolist() or tokenizer.decode(tokens.tolist()) == known, "the text comes back"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """The content of a saved tokenizer is not ours to trust: what it lacks is a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the library of tokenizers raises Exception itself
        raise UserError(path, "no tokenizer that this version knows", "", artifacts.make_again(path)) from error


def write_failure(folder: Path, reason: str, made: Made) -> None:
    """The files of a tokenizer that the text does not allow: the reason, and empty streams."""
    artifacts.save_json(folder / TOKENIZER, {"status": f"failed: {reason}"}, made)
    for path in (path for name in NAMES for path in _token_paths(folder, name)):
        with artifacts.saving_array(path, np.dtype(np.uint8), made):
            pass


def failure_of(folder: Path) -> str | None:
    """``failed: ...``, why the tokenizer of a token folder could not be made; None for one that was."""
    return _failure(artifacts.load_json(folder / TOKENIZER))


def _failure(saved: Any) -> str | None:
    status = saved.get("status") if isinstance(saved, dict) else None
    return status if isinstance(status, str) and status.startswith("failed: ") else None
