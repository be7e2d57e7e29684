"""What can be known of a run on a text of one's own before its first job: is it text, are its splits long enough?

A token is at least a character of a tokenizer of characters and at least a byte of any other, so that the lengths of
the splits bound the numbers of their tokens. Reads texts and writes nothing.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lmstages.config.forecast import REMEDY, TOO_SHORT, Entry, Forecast
from lmstages.config.hyperparameters.neural import Autograd
from lmstages.config.jobs import Run
from lmstages.config.sections import Corpus, chosen
from lmstages.core.errors import UserError
from lmstages.core.files import naming
from lmstages.corpora import text
from lmstages.corpora.preparation import documents_by_split, parts_of, used_count

LARGEST = 1 << 26  # bytes of a text that is looked at; a larger one has splits that are long enough
LONG = 120.0  # seconds of a fit, from which on they are said


class Lengths(NamedTuple):
    """How much text a split has; ``documents`` is 0 where it is a stream."""

    characters: int
    size: int  # bytes
    documents: int


def forecast(run: Run) -> Forecast:
    """What can be known of a run; raises UserError for what is no text, or too short for all models."""
    result = Forecast([], [], {})
    for name, corpus in run.corpora.items():
        if corpus.path is not None and _is_looked_at(Path(corpus.path)):
            with cleaned(corpus) as path:
                failures = dict(_failures(run, name, lengths(path, corpus)))
                result.warnings.extend(_slow(run, name, len(set(_content(path)))))
            result.too_short.extend(_in_words(run, failures))
            result.failures.update({entry: parts[0].reason() for entry, parts in failures.items()})
    if any(set(_entries(run, name)) <= result.failures.keys() for name in run.corpora):
        result.must_be_long_enough()
    return result


class TooShort(NamedTuple):
    """A part of at most ``tokens`` tokens, for a model of this type that looks back over ``context``."""

    split: str
    tokens: int
    model: str
    context: int

    def reason(self) -> str:
        """The status of its row, as the fit would find it."""
        problem, needed = f"the {self.split} part has at most", f"model {self.model} looks back over {self.context:,}"
        return str(UserError(TOO_SHORT, f"{problem} {self.tokens:,} tokens", needed, REMEDY))


def _is_looked_at(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= LARGEST


@contextmanager
def cleaned(corpus: Corpus) -> Iterator[Path]:
    """The validated text of one's own, or a copy with the line ends that its splits will have."""
    assert corpus.path is not None, "only texts of one's own are looked at"
    if corpus.newlines != "unix":
        text.check(Path(corpus.path), corpus.newlines)
        yield Path(corpus.path)
        return
    with naming(Path(tempfile.gettempdir(), "copy of a text")):
        file = tempfile.NamedTemporaryFile(prefix="lmstages-")  # noqa: SIM115 (closed below)
    with file:
        with naming(Path(file.name)):
            text.clean(Path(corpus.path), file, corpus.newlines)  # type: ignore[arg-type]
            file.flush()
        yield Path(file.name)


def _content(path: Path) -> str:
    return path.read_bytes().decode()


def lengths(path: Path, corpus: Corpus) -> dict[str, Lengths]:
    """The text of each split as ``preparation`` cuts it, before copies are left out of valid and test."""
    if corpus.layout == "stream":
        pieces = _pieces(path, corpus)
        return {name: Lengths(len(piece), len(piece.encode()), 0) for name, piece in pieces.items()}
    content, (documents, parts) = path.read_bytes(), _documents(path, corpus)
    sizes = {}
    for name, indices in parts.items():
        bounds = zip(documents.starts[indices].tolist(), documents.ends[indices].tolist(), strict=True)
        joined = io.BytesIO()
        for begin, end in bounds:
            joined.write(content[begin:end])
        sizes[name] = Lengths(len(joined.getvalue().decode()), joined.tell(), len(indices))
    return sizes


def _entries(run: Run, corpus: str) -> Iterator[Entry]:
    record = run.corpora[corpus]
    for model in chosen(record.models, run.models):
        for tokenizer in chosen(record.tokenizers, run.tokenizers):
            yield corpus, tokenizer, model


def texts_by_split(path: Path, corpus: Corpus) -> dict[str, list[str]]:
    """The documents of each split without their separators, from which ``tokenize`` learns a vocabulary."""
    if corpus.layout == "stream":
        return {name: [piece] for name, piece in _pieces(path, corpus).items()}
    content, (documents, parts) = path.read_bytes(), _documents(path, corpus)
    if corpus.read_as == "stream":
        whole = {name: zip(documents.starts[part], documents.ends[part], strict=True) for name, part in parts.items()}
        return {name: [b"".join(content[a:b] for a, b in bounds).decode()] for name, bounds in whole.items()}
    stops = documents.ends - documents.terminators
    return {
        name: [content[documents.starts[index] : stops[index]].decode() for index in indices]
        for name, indices in parts.items()
    }


def _pieces(path: Path, corpus: Corpus) -> dict[str, str]:
    """The splits of a stream."""
    content = _content(path)
    spans = {name: (begin, end) for name, begin, end in parts_of(len(content), corpus)}
    begin, end = spans["train"]
    spans["train"] = (begin, begin + used_count(end - begin, corpus))
    return {name: content[begin:end] for name, (begin, end) in spans.items()}


def _documents(path: Path, corpus: Corpus) -> tuple[text.Documents, dict[str, list[int]]]:
    """The documents of a text, and the indices of those of each split."""
    documents, parts = documents_by_split(path, corpus)
    parts["train"] = parts["train"][: used_count(len(parts["train"]), corpus)]
    return documents, parts


def _failures(run: Run, corpus: str, sizes: dict[str, Lengths]) -> Iterator[tuple[Entry, list[TooShort]]]:
    """Entries with the parts that have no more tokens than the model has context, by whatever tokenizer."""
    for entry in _entries(run, corpus):
        _, tokenizer, model = entry
        record = run.models[model]
        context, parts = record.config.context or 1, []
        for split in dict.fromkeys(["train", *run.splits_scored(corpus, model)]):
            most = _most_tokens(run.tokenizers[tokenizer], sizes[split])
            if most - (0 if split == "train" else record.scoring.skip) <= context:
                parts.append(TooShort(split, most, record.config.name, context))
        if parts:
            yield entry, parts


def _in_words(run: Run, failures: dict[Entry, list[TooShort]]) -> Iterator[str]:
    """A sentence for each part; of the models that it is too short for, the one that looks back furthest is named."""
    furthest: dict[str, tuple[int, str]] = {}
    for (corpus, tokenizer, model), parts in failures.items():
        for split, tokens, _, context in parts:
            part = f"the {split} part of {run.corpora[corpus].path} has at most {tokens:,} tokens of {tokenizer}"
            furthest[part] = max(furthest.get(part, (0, "")), (context, model))
    for part, (context, model) in furthest.items():
        yield f"{part}, {model} looks back over {context:,}"


def _most_tokens(tokenizer: Any, size: Lengths) -> int:
    return size.documents + (size.characters if tokenizer.kind == "char" else size.size)


def _slow(run: Run, name: str, characters: int) -> Iterator[str]:
    """Fits of single numbers as objects, on a vocabulary that makes them long."""
    for model in chosen(run.corpora[name].models, run.models):
        config = run.models[model].config
        for tokenizer in chosen(run.corpora[name].tokenizers, run.tokenizers):
            record = run.tokenizers[tokenizer]
            size = record.vocab_size or (256 if record.kind == "byte" else characters)
            if isinstance(config, Autograd) and (seconds := config.seconds(size, config.examples)) > LONG:
                vocabulary = f"{name}/{tokenizer}, whose vocabulary has about {size:,} entries"
                yield f"models.{model} takes about {seconds / 60:,.0f} minutes on {vocabulary}; lower its examples"
