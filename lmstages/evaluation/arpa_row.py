"""Scores an n-gram model of an ARPA file on the text of the run, sentence by sentence as KenLM's ``query`` does.

Its words are those between white space; or, with ``tokenizer``, the tokens of one of our tokenizers, spelled as
``lmstages export --to arpa`` spells them. What the words cannot say is charged as ``tokenizers.line_words`` describes,
so that bits per byte are those of a code of the very text. Beside them stand the perplexities that KenLM prints.
Imports no torch.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.config.sections import Pretrained
from lmstages.core import artifacts, contents
from lmstages.core.documents import BOUNDARY, Documents
from lmstages.core.errors import UserError, shortened
from lmstages.core.files import sha256_of
from lmstages.core.progress import LOGGER
from lmstages.core.provenance import versions
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import scoring
from lmstages.evaluation.experiment import SplitTokens, evaluate_model
from lmstages.models.external import arpa_file
from lmstages.models.external.arpa import BEGIN, END, ArpaModel, as_kenlm, model_of
from lmstages.tokenizers import TextTokenizer, line_words, streams
from lmstages.tokenizers.line_words import IRREGULAR, LineWords, Spelling
from lmstages.tokenizers.spelled import SpelledTokens

PROTOCOL = {"protocol": "stream", "window": 1, "stride": 1, "skip": 0}
SCORED_AT_ONCE = 1 << 16  # positions whose probability of <unk> is asked for


def score_arpa(section: Mapping[str, Any], chosen: Pretrained, text: Path, out: Path, threads: int, made: Any) -> None:
    """Write the files of an experiment: ``fit.json``, ``scores.safetensors`` and ``evaluation.json``."""
    path = Path(str(chosen.arpa))
    before = contents.identity(path)
    sha256 = sha256_of(path)
    contents.must_have_sha256(path, sha256, chosen.sha256)
    file = arpa_file.read(path)
    contents.stop_if_changed(path, before)
    reader = _reader(file, chosen.tokenizer)
    _must_sum_to_one(path, reader.model)
    settings = {**section, "scoring": PROTOCOL}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for split in section["splits"]:
            reader.write(Path(folder), split, SplitText.open(text, split), made)
        folders = (Path(folder), text, out)
        tokenizer: Any = reader.tokenizer
        evaluate_model(reader.model, tokenizer, folders, settings, made, "/".join(out.parts[-4:]), reader.charge)
    facts = _facts(reader, section, threads) | {"status": "ok", "type": "pretrained"}
    facts["hyperparameters"] |= {"sha256": sha256}
    artifacts.save_json(out / "fit.json", facts, made)


def must_have_header(chosen: Pretrained) -> None:
    """Raises UserError for a file that is no ARPA file by its header, or a tokenizer that cannot be read."""
    arpa_file.order_of(Path(str(chosen.arpa)))
    _tokenizer_of(chosen.tokenizer)


def _must_sum_to_one(path: Path, model: ArpaModel) -> None:
    """Raises UserError for a context after which the numbers of the file are no probabilities."""
    for order, totals in enumerate(model.sums()):
        index = int(np.argmax(np.abs(totals - 1)))
        if not abs(totals[index] - 1) <= model.rounding:
            after = f"after {shortened(model.ngram(order, index))}" if order else "without a context"
            problem = f"{after} the probabilities of all words sum to {totals[index]:.6g}"
            allowed = f"they sum to 1 within {model.rounding:g}, or bits per byte are no code length"
            raise UserError(path, problem, allowed, "estimate it again, or renormalize it (SRILM: ngram -renorm)")


def _facts(reader: "WordReader | TokenReader", section: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The content of ``fit.json``; training tokens and FLOPs are unknown."""
    keys = ("arpa", "tokenizer", "samples")
    model, given = reader.model, {key: section["pretrained"][key] for key in keys if key in section["pretrained"]}
    ngrams = [len(table.log10) for table in reader.file.orders]
    shape = {"order": len(ngrams), "ngrams": ngrams, "kenlm": reader.perplexities}
    facts = {"hyperparameters": {**given, **shape}, "fit_seconds": 0.0, "parameters": model.parameters()}
    facts |= {"vocab_size": model.vocab_size, "tokens_seen": None, "flops": None, "curve": [], "device": "cpu"}
    return {**facts, "threads": threads, "environment": {"python": sys.version.split()[0], **versions("numpy")}}


# ---------------------------------------------------------------- how a text is read


def _tokenizer_of(path: str | None) -> TextTokenizer | None:
    """One of our tokenizers, of the folder that its file lies in; None where a config names none."""
    if path is None:
        return None
    if Path(path).name != streams.TOKENIZER:
        raise UserError(path, "is not named tokenizer.json", "allowed: the file of a folder with tokens, of a run")
    return streams.read_tokenizer(Path(path).parent)


def _reader(file: arpa_file.ArpaFile, tokenizer: str | None) -> "WordReader | TokenReader":
    own = _tokenizer_of(tokenizer)
    return WordReader(file) if own is None else TokenReader(file, own)


class WordReader:
    """Reads a text as words between white space, and charges what they cannot say."""

    def __init__(self, file: arpa_file.ArpaFile) -> None:
        self.file, self.model = file, model_of(file)
        self.tokenizer = LineWords(self.model.words, (BEGIN, END))
        self.perplexities: dict[str, dict[str, Any]] = {}
        self._folder = Path()
        self._spelling: dict[str, Spelling] = {}

    def write(self, folder: Path, split: str, text: SplitText, made: artifacts.Made) -> None:
        """Write the tokens of a split, and what is charged for each."""
        spelling = line_words.write_lines(folder, split, text, self.tokenizer, made)
        self._folder, self._spelling[split] = folder, spelling
        LOGGER.info("%s: %s unknown words are spelled, at 8 bits a byte", split, f"{spelling.unknown:,}")
        if spelling.first_irregular is not None:
            where = f"the first at byte {spelling.first_irregular:,} of {text.path}"
            problem = f"{spelling.irregular:,} places of white space other than one space between two words ({where})"
            LOGGER.warning("%s: %s: spelled at 8 bits a byte, after <unk>", split, problem)

    def charge(self, split: str, log_probs: np.ndarray, split_tokens: SplitTokens) -> np.ndarray:
        """(N,) nats of the tokens -> nats of the text's bytes; notes what KenLM prints of the text."""
        documents, lengths = split_tokens
        files = line_words.files_of(self._folder, split)
        marks = artifacts.load_array(files["marks"])
        self.perplexities[split] = perplexities(self._as_kenlm(split, documents, log_probs), self.model.vocab_size - 1)
        irregular = np.flatnonzero(marks & IRREGULAR)
        coded = log_probs.copy()
        coded[irregular] = _unknown(self.model, documents.tokens, irregular)
        return coded - line_words.charged(marks, lengths)

    def _as_kenlm(self, split: str, documents: Documents, log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (N,) and their scores (N,) as KenLM reads a text that may hold the words <s> and </s>."""
        if not self._spelling[split].special:
            return np.asarray(documents.tokens), log_probs
        tokens = artifacts.load_array(line_words.files_of(self._folder, split)["read"])
        windows = scoring.windows_of(documents.starts, "stream", 1, 1, 0)
        return tokens, scoring.score(as_kenlm(self.file), Documents(tokens, documents.starts), windows)


class TokenReader:
    """Reads a text as tokens of one of our tokenizers, each of which is a word of the file."""

    def __init__(self, file: arpa_file.ArpaFile, own: TextTokenizer) -> None:
        self.file, self.model = file, model_of(file)
        self.tokenizer = SpelledTokens(own, self.model.words)
        self.perplexities: dict[str, dict[str, Any]] = {}

    def write(self, folder: Path, split: str, text: SplitText, made: artifacts.Made) -> None:
        """Write the tokens of a split."""
        tokenizer: Any = self.tokenizer
        streams.write_tokens(folder, split, text, tokenizer, made)

    def charge(self, split: str, log_probs: np.ndarray, split_tokens: SplitTokens) -> np.ndarray:
        """(N,) nats of the tokens -> nats of the text's bytes; notes what KenLM prints of the tokens.

        Where the tokenizer has an escape, <unk> is spelled like it; otherwise <unk> is one of the tokens without a
        word, all alike.
        """
        documents, lengths = split_tokens
        self.perplexities[split] = perplexities((np.asarray(documents.tokens), log_probs), self.model.vocab_size - 1)
        if self.tokenizer.own.escape is not None:
            return scoring.charge_escapes(log_probs, documents.tokens, lengths, self.tokenizer.escape)
        choice = np.log(max(1, self.tokenizer.unlisted()))
        return np.where(documents.tokens == self.tokenizer.escape, log_probs - choice, log_probs)


def _unknown(model: ArpaModel, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(P,) nats of <unk> at positions of a stream, each after the tokens before it."""
    width = len(model.levels) - 1
    padded = np.concatenate([np.full(width, BOUNDARY), np.asarray(tokens).astype(np.int64)])
    scores = [np.empty(0)]
    for begin in range(0, len(positions), SCORED_AT_ONCE):
        rows = padded[positions[begin : begin + SCORED_AT_ONCE, None] + np.arange(width + 1)]
        rows[:, -1] = model.vocab_size - 1
        scores.append(model.score(rows)[:, -1])
    return np.concatenate(scores)


def perplexities(scored: tuple[np.ndarray, np.ndarray], unknown: int) -> dict[str, Any]:
    """What KenLM's query prints of a text, from its tokens (N,) and their nats (N,); none where it is infinite."""
    tokens, log_probs = scored
    known = tokens != unknown
    means = [float(np.mean(values)) if len(values) else 0.0 for values in (log_probs, log_probs[known])]
    with np.errstate(over="ignore"):
        including, excluding = (artifacts.finite_or_none(float(np.exp(-mean))) for mean in means)
    printed = {"perplexity_including_oovs": including, "perplexity_excluding_oovs": excluding}
    return {**printed, "oovs": int((~known).sum()), "tokens": len(tokens)}
