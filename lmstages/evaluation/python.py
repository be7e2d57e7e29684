"""Models from Python: load one or fit one, then score text, predict, sample and save.

    model = lmstages.load("results/default/fables/char/gpt/seed0")
    model.score("The fox sat.", per="word")

What is fitted here is what a run would fit: the same text becomes the same splits, the same tokens and, to the byte,
the same model. Mistakes are raised as ``UserError``, a ``ValueError`` that says in one line what is allowed.
"""

import json
import logging
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
import pandas as pd

from lmstages.config.sections import Corpus, Sampling, Tokenizer, config_of, parsed
from lmstages.core import packed
from lmstages.core.errors import UserError, did_you_mean, shortened
from lmstages.core.progress import LOGGER, log_to
from lmstages.core.runtime import DEVICES, Runtime
from lmstages.corpora import text as texts
from lmstages.corpora.preparation import prepare
from lmstages.evaluation import opening, sampling, surprisal
from lmstages.evaluation.opening import Documents, Layout, OpenedModel
from lmstages.evaluation.surprisal import Per
from lmstages.models.fitting import fitted
from lmstages.tokenizers import streams
from lmstages.tokenizers.base import needs_whole_words

Text = str | Path | Sequence[str]
COLUMNS = ("document", "text", "start_byte", "end_byte")
NATS_OF_A_BIT = math.log(2)
LONGEST_NAME = 4096  # characters of a path
LIKE_A_PATH = re.compile(r"[^\s]*[/\\][^\s]*|[^\s]+\.(txt|md|jsonl|csv|tsv|parquet|gz|bz2|xz|zst)")


def load(path: str | Path, device: str = "cpu") -> "FittedModel":
    """The fitted model of an experiment, ``results/RUN/CORPUS/TOKENIZER/MODEL/seedN``.

    ``path`` may also be a folder that ``save`` wrote, a folder in the Hugging Face layout, or a GGUF file. ``device``
    is auto, cpu, cuda or mps. Raises UserError where there is no model.
    """
    _must_be_one_of("device", device, DEVICES)
    return FittedModel(opening.opened(Path(path), device))


def fit(
    type: str,
    train: Text,
    valid: Text | None = None,
    tokenizer: str | dict[str, Any] = "char",
    documents: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
    **hyperparameters: Any,
) -> "FittedModel":
    """Fit a model of the ladder on a text, without a run: ``fit("kneser_ney", train="my.txt", order=6)``.

    ``train``, ``valid``: the text itself, the path of a file or folder, or a list of documents. ``valid`` chooses
    among the steps of a network; without it the last step is taken. ``tokenizer`` is byte, char, or a section of a
    config such as ``{"kind": "bpe", "vocab_size": 1000}``. ``documents`` says what a document is, as in a config:
    stream (the default of one text), lines, separator, files or records. ``hyperparameters`` are those of the model,
    see ``lmstages models NAME``. With ``progress`` long fits say on stderr how far they are. Raises UserError.
    """
    _must_be_one_of("device", device, DEVICES)
    section = _section(type, hyperparameters, valid is None)
    tokens = _record(Tokenizer, {"kind": tokenizer} if isinstance(tokenizer, str) else tokenizer, "tokenizer")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise UserError("seed", f"{shortened(seed)} found", "a whole number from 0 on")
    with _logging(progress), tempfile.TemporaryDirectory(prefix="lmstages-") as folder:
        corpus = _corpus(Path(folder), {"train": train, "valid": valid}, documents)
        return FittedModel(_fitted(section, corpus, tokens, Path(folder), seed, device))


class FittedModel:
    """A fitted model with its tokenizer; ``load`` and ``fit`` return one."""

    def __init__(self, opened: OpenedModel) -> None:
        self.opened = opened

    def __repr__(self) -> str:
        model = self.opened.model
        return f"<{model.config.name} of {model.vocab_size:,} tokens, {self.opened.name}>"

    def score(
        self, text: Text, per: str = "token", documents: str | None = None, separator: str | None = None
    ) -> pd.DataFrame:
        """The surprisal of a text: a row for each token, word or line (``per``).

        ``text`` is the text itself, the Path of a file, or a list of texts, whose documents are numbered on.
        ``documents``: stream, lines or separator, by default as in the text that the model was fitted on. Columns are
        ``document``, ``text``, ``start_byte`` and ``end_byte`` within the document, ``nats`` and ``bits`` of
        surprisal, and the ``token``'s number or how many ``tokens`` were added up. A word has the white space before
        it; the end of a document is a row without text. The sums of ``nats`` are equal, however they are grouped.
        """
        _must_be_one_of("per", per, get_args(Per))
        layout = layout_for(self.opened, documents, separator)
        return _frame(list(rows_of(self.opened, _sources(text), per, layout)), per)

    def next(self, prefix: str = "", top: int = 10) -> pd.DataFrame:
        """The likeliest next tokens after a text: ``token``, ``text``, ``probability``, ``nats``, ``bits``.

        Where documents are lines, or end with a separator, only the last document of ``prefix`` matters.
        """
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise UserError("top", f"{shortened(top)} found", "a whole number from 1 on")
        log_probs = self.opened.model.next_log_probs(self._prefix(prefix)[None])[0]
        likeliest = np.argsort(-log_probs, kind="stable")[:top]
        spellings = [self.opened.tokenizer.decode([token]) for token in likeliest.tolist()]
        nats = -log_probs[likeliest] + 0.0
        columns = {"token": likeliest, "text": spellings, "probability": np.exp(-nats), "nats": nats}
        return pd.DataFrame({**columns, "bits": nats / NATS_OF_A_BIT})

    def sample(
        self,
        prompt: str = "",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        length: int = 200,
        seed: int = 0,
    ) -> str:
        """A text that continues ``prompt`` by at most ``length`` tokens; it ends before where its document would.

        Equal seeds give equal texts.
        """
        keys = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "length": length, "seed": seed}
        settings = _record(Sampling, keys, "sample")
        tokens, ends = self._prefix(prompt), self.opened.layout.documents != "stream"
        filtering = (settings.temperature, settings.top_k, settings.top_p)
        [row] = sampling.sample(self.opened.model, 1, settings.length, settings.seed, tokens, *filtering, ends)
        return prompt + self.opened.tokenizer.decode(row[len(tokens) :].tolist())

    def save(self, folder: str | Path) -> None:
        """Write the model with its tokenizer to a folder, from which ``load`` reads it; UserError for a checkpoint."""
        opening.save(self.opened, Path(folder))

    def _prefix(self, text: str) -> np.ndarray:
        """The tokens (T,) of the last document of a text."""
        pieces = list(surprisal.pieces_of([_utf8(text, "prefix")], self.opened.layout, "prefix"))
        if self.opened.layout.documents == "stream":
            whole = "".join(piece.text for piece in pieces)
        else:
            whole = pieces[-1].text if pieces and pieces[-1].terminator is None else ""
        return self.opened.tokenizer.encode([whole])[0][0].astype(np.int64) if whole else np.zeros(0, np.int64)


def layout_for(opened: OpenedModel, documents: str | None, separator: str | None) -> Layout:
    """How a text separates its documents, by default as the text that the model was fitted on."""
    documents = documents or ("separator" if separator else opened.layout.documents)
    _must_be_one_of("documents", documents, get_args(Documents))
    return opened.layout.model_copy(update={"documents": documents, "separator": separator or opened.layout.separator})


def rows_of(opened: OpenedModel, sources: Iterable["Source"], per: str, layout: Layout) -> Iterator[surprisal.Unit]:
    """Tokens, words or lines of texts one after another, as they are scored; memory does not grow with the texts."""
    pieces = _pieces(sources, layout, needs_whole_words(opened.tokenizer))
    return surprisal.units(surprisal.scored(opened, pieces), per)


# ---------------------------------------------------------------- texts

Source = tuple[object, Iterable[bytes]]  # what messages call it, and its pieces


def file_source(path: Path) -> Source:
    """A file of text, which may be packed by gzip, bzip2, xz or zstd; raises UserError where it is none."""
    return path, _file_pieces(path)


def stdin_source(file: BinaryIO) -> Source:
    """The text that a program reads."""
    return "stdin", texts.clean_pieces(Path("stdin"), iter(lambda: file.read1(packed.CHUNK), b""), "keep")  # type: ignore[attr-defined]


def _file_pieces(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        raise UserError(path, "is a folder", "one text file is wanted")
    with packed.opened(path) as pieces:
        yield from texts.clean_pieces(path, pieces, "keep")


def _sources(text: Text) -> list[Source]:
    if isinstance(text, Path):
        return [file_source(text)]
    parts: list[Any] = list(text) if isinstance(text, list | tuple) else [text]
    if wrong := [part for part in parts if not isinstance(part, str)]:
        raise UserError("text", f"{shortened(wrong[0])} found", "a text, the Path of a file, or a list of texts")
    return [("text", [_utf8(part, "text")]) for part in parts]


def _utf8(text: str, name: str) -> bytes:
    if not isinstance(text, str):
        raise UserError(name, f"{shortened(text)} found", "a text")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        problem = f"character {error.start:,} is half a character ({text[error.start]!a})"
        raise UserError(name, problem, "text is UTF-8", "mend or remove it") from error


def _pieces(sources: Iterable[Source], layout: Layout, whole_words: bool) -> Iterator[surprisal.Piece]:
    """The pieces of several texts, their documents numbered on."""
    count = 0
    for name, content in sources:
        piece = None
        for piece in surprisal.pieces_of(content, layout, name, whole_words):
            yield piece._replace(document=count + piece.document)
        count += piece.document + 1 if piece else 0


def _frame(rows: Sequence[surprisal.Unit], per: str) -> pd.DataFrame:
    """Rows of one kind as a frame, with its columns and types also where there is no row."""
    counted, types = ("token" if per == "token" else "tokens"), {"text": "str", "nats": "float64"}
    names = (*COLUMNS, counted, "nats")
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    frame = pd.DataFrame({name: pd.Series(columns[name], dtype=types.get(name, "int64")) for name in names})
    return frame.assign(bits=frame.nats / NATS_OF_A_BIT)


# ---------------------------------------------------------------- a fit


def _corpus(folder: Path, sources: dict[str, Text | None], documents: str | None) -> Corpus:
    """The record of a text that comes in parts, each in files; texts and lists are written to the folder."""
    given = {name: source for name, source in sources.items() if source is not None}
    for name, source in given.items():
        if not isinstance(source, str | Path | list | tuple):
            raise UserError(name, f"{shortened(source)} found", "a text, a path, or a list of documents")
    lists = [source for source in given.values() if not isinstance(source, str | Path)]
    if lists and documents is None:
        documents = "records" if any("\n" in _document(text) for text in chain(*lists)) else "lines"
    files = {name: _file_of(folder / name, source, documents) for name, source in given.items()}
    split = {"train": 1.0, "valid": 0.0, "test": 0.0, "shuffle_seed": None}
    keys = {"files": files, "documents": documents, "newlines": "keep", "split": split}
    corpus: Corpus = _record(Corpus, keys, "fit")
    return corpus


def _document(text: Any) -> str:
    if not isinstance(text, str):
        raise UserError("fit", f"a document is {shortened(text)}", "a list of documents holds texts")
    return text


def _file_of(path: Path, source: Text, documents: str | None) -> str:
    """The path of a text's file, which is written unless the text lies in one already."""
    if isinstance(source, Path) or (isinstance(source, str) and _is_path(path.name, source)):
        return str(source)
    if isinstance(source, str):
        path = path.with_suffix(".txt")
        path.write_bytes(_utf8(source, path.stem))
        return str(path)
    lines = list(map(_document, source))
    path = path.with_suffix(".jsonl" if documents == "records" else ".txt")
    if documents == "records":
        lines = [json.dumps({"text": line}) for line in lines]
    path.write_bytes(_utf8("".join(f"{line}\n" for line in lines), path.stem))
    return str(path)


def _is_path(name: str, text: str) -> bool:
    """Whether a text is the path of something; raises UserError for one that looks like a path and is of nothing."""
    if len(text) > LONGEST_NAME or "\n" in text or not text:
        return False
    if os.path.lexists(os.path.expanduser(text)):
        return True
    if LIKE_A_PATH.fullmatch(text):
        path = Path(text)
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        raise UserError(name, f"no such file {shortened(text)}{did_you_mean(path.name, beside)}", "a path, or a text")
    return False


def _fitted(
    section: dict[str, Any], corpus: Corpus, tokenizer: Tokenizer, folder: Path, seed: int, device: str
) -> OpenedModel:
    """The stages of a run, one after another: prepare, tokenize, fit."""
    text, tokens, made = folder / "text", folder / "tokens", {"command": "fit"}
    with _without_folder(folder):
        prepare(corpus, [], text, made)
        streams.tokenize(tokenizer, text, tokens, corpus.layout, made)
    train, valid = (streams.read_documents(tokens, name) for name in ("train", "valid"))
    learnt = streams.read_tokenizer(tokens)
    with closing(Runtime(device)) as runtime:
        model, _ = fitted(section, learnt.vocab_size, train, valid, seed, runtime)
    layout = opening.layout_of(text)
    return OpenedModel("fitted here", model, learnt, opening.automatic(model), layout)


# ---------------------------------------------------------------- arguments


def _section(model_type: str, hyperparameters: dict[str, Any], no_valid: bool) -> dict[str, Any]:
    """The section of a fit; without valid, on which the best step would be chosen, the last is kept."""
    with _as_of_fit():
        config = config_of({"type": model_type, "hyperparameters": hyperparameters})
    chooses = "keep" in type(config).model_fields
    if no_valid and (hyperparameters if chooses else hyperparameters.get("base") or {"keep": ""}).get("keep") == "best":
        raise UserError("fit: keep", "best chooses on valid, which is not given", "allowed: last")
    if no_valid and chooses:
        hyperparameters = {**hyperparameters, "keep": "last"}
    return {"type": model_type, "hyperparameters": hyperparameters}


def _record(record_type: Any, keys: Any, where: str) -> Any:
    """Arguments as a record of the config, or a UserError with every mistake."""
    problems: list[str] = []
    record = parsed(record_type, keys, where, problems)
    if problems:
        first, _, rest = "; ".join(problems).partition(": ")
        raise UserError(first, rest)
    return record


def _must_be_one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise UserError(name, f"{shortened(value)} found{hint}", f"allowed: {', '.join(allowed)}")


@contextmanager
def _as_of_fit() -> Iterator[None]:
    """Messages of a job's section name the function that was called in place of the command's option."""
    try:
        yield
    except UserError as error:
        raise UserError("fit", str(error).removeprefix("--section: ")) from error


@contextmanager
def _without_folder(folder: Path) -> Iterator[None]:
    """Messages name a text that was given by its argument, and not by the file that it was written to."""
    try:
        yield
    except UserError as error:
        raise UserError("fit", str(error).replace(f"{folder}{os.sep}", "")) from error


@contextmanager
def _logging(shown: bool) -> Iterator[None]:
    """Progress of long fits and warnings on stderr while the block runs, unless logging is set up already."""
    before = (LOGGER.handlers[:], LOGGER.level, LOGGER.propagate)
    if not before[0]:
        log_to(None, "fit", quiet=not shown)
        LOGGER.handlers[0].addFilter(lambda record: record.levelno > logging.INFO or record.funcName == "at")
    try:
        yield
    finally:
        LOGGER.handlers[:], LOGGER.propagate = before[0], before[2]
        LOGGER.setLevel(before[1])
