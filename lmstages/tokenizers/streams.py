"""Token streams on disk, written by tokenizing and read by models.

A split is a ``.npy`` of 1, 2 or 4 bytes per token, read as a memory map, with the number of bytes each token covers
and the first token of each document in files beside it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.config.sections import Tokenizer
from lmstages.core import artifacts
from lmstages.core.artifacts import Made
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER, Progress
from lmstages.corpora.splits import NAMES, Piece, SplitText
from lmstages.tokenizers import (
    ByteTokenizer,
    TextTokenizer,
    from_json,
    learn,
    smallest_type,
    with_boundaries,
)
from lmstages.tokenizers.base import after, needs_whole_words
from lmstages.tokenizers.pretrained import made_elsewhere

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
    names, whole_words = NAMES if closed else NAMES[:1], section.kind == "whitespace"
    texts = (content for name in names for content in parts[name].texts(whole_words))
    stream = parts["train"].stream
    return learn(section.kind, section.vocab_size, texts, layout == "lines", stream, closed, not section.closed)


def write_tokens(folder: Path, name: str, text: SplitText, tokenizer: TextTokenizer, made: Made) -> int:
    """Tokenize a split and return its number of tokens; raises UserError if decoding changes the text."""
    paths = _token_paths(folder, name)
    starts, count = [0], 0
    progress = Progress(text.path.stat().st_size, f"{name}: byte")
    with (
        artifacts.saving_array(paths[0], smallest_type(tokenizer.vocab_size - 1), made) as tokens,
        artifacts.saving_array(paths[1], np.dtype(np.uint16), made) as lengths,
    ):
        covered_bytes, reader = 0, tokenizer
        for batch in text.batches(needs_whole_words(tokenizer)):
            for piece, encoded in zip(batch, reader.encode([piece.text for piece in batch]), strict=True):
                _check_round_trip(reader, piece, encoded[0])
                terminated = encoded if piece.terminator is None else with_boundaries(encoded, piece.terminator)
                tokens.append(terminated[0])
                lengths.append(terminated[1])
                count, covered_bytes = count + len(terminated[0]), covered_bytes + int(terminated[1].sum())
                if piece.terminator is not None:
                    starts.append(count)
            reader = after(tokenizer, batch[-1].text) if text.stream else tokenizer
            progress.at(covered_bytes, covered_bytes, "bytes")
    assert covered_bytes == text.path.stat().st_size, "the tokens cover the text's bytes, no more and no fewer"
    with artifacts.saving_array(paths[2], np.dtype(np.int64), made) as array:
        array.append(np.array([0, count] if text.stream and count else starts))
    return count


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
    paths = _token_paths(folder, name)
    tokens, lengths, starts = (artifacts.load_array(path) for path in paths)
    artifacts.must_be_of_one_call(*paths)
    remedy = artifacts.make_again(paths[0])
    if len(lengths) != len(tokens):
        problem = f"{len(tokens):,} tokens, {len(lengths):,} lengths in {paths[1].name}"
        raise UserError(paths[0], problem, "every token has its length in bytes", remedy)
    if not len(starts) or starts[0] != 0 or starts[-1] != len(tokens) or (np.diff(starts) < 0).any():
        problem = f"{len(tokens):,} tokens, not where the documents in {paths[2].name} begin and end"
        raise UserError(paths[0], problem, "", remedy)
    if (folder / TOKENIZER).is_file() and len(tokens):
        artifacts.must_be_of_one_call(paths[0], folder / TOKENIZER)
        size, largest = _vocab_size(folder / TOKENIZER), int(tokens.max())
        if largest >= size or tokens.min() < 0:
            raise UserError(paths[0], f"token {largest:,}", f"{TOKENIZER} has {size:,} tokens", remedy)
    return Documents(tokens, np.asarray(starts)), lengths


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
