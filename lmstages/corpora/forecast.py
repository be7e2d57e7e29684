"""What can be known of a run on a text of one's own before its first job: is it text, are its splits long enough?

A token is at least a character of a tokenizer of characters and at least a byte of any other, so that the lengths of
the splits bound the numbers of their tokens. Reads texts and writes nothing.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from lmstages.config.forecast import REMEDY, TOO_SHORT, Entry, Forecast
from lmstages.config.hyperparameters.neural import Autograd
from lmstages.config.jobs import Run
from lmstages.config.sections import Corpus, chosen
from lmstages.config.text_files import listed
from lmstages.core.errors import UserError
from lmstages.core.files import naming
from lmstages.corpora.intake import Gathered, TooLarge, gather, name_of, read_slice
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
        if corpus.own() and is_looked_at(corpus, LARGEST):
            with suppress(TooLarge), cleaned(corpus, LARGEST) as gathered:
                result.warnings.extend(gathered.notes)
                failures = dict(_failures(run, name, lengths(gathered, corpus)))
                result.warnings.extend(_slow(run, name, len(set(_content(gathered.path)))))
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


def is_looked_at(corpus: Corpus, largest: int) -> bool:
    """Whether the files of a text are few bytes, packed as they may be."""
    try:
        return sum(file.stat().st_size for paths in corpus.own().values() for file in listed(paths).files) <= largest
    except OSError:
        return True  # it went away meanwhile, which is said where it is read


@contextmanager
def cleaned(corpus: Corpus, most: int | None = None) -> Iterator[Gathered]:
    """The validated text of one's own in a temporary file; TooLarge where it has more than ``most`` bytes."""
    assert corpus.own(), "only texts of one's own are looked at"
    with naming(Path(tempfile.gettempdir(), "copy of a text")):
        file = tempfile.NamedTemporaryFile(prefix="lmstages-")  # noqa: SIM115 (closed below)
    with file:
        with naming(Path(file.name), besides=Path(file.name)):
            gathered = gather(corpus, file, most=most)  # type: ignore[arg-type]
        yield gathered


def _content(path: Path) -> str:
    return path.read_bytes().decode()


def lengths(gathered: Gathered, corpus: Corpus) -> dict[str, Lengths]:
    """The text of each split as ``preparation`` cuts it, before copies are left out of valid and test."""
    if corpus.layout == "stream":
        pieces = _pieces(gathered, corpus)
        return {name: Lengths(len(piece), len(piece.encode()), 0) for name, piece in pieces.items()}
    sizes = {}
    with open(gathered.path, "rb") as file:
        for name, indices in _documents(gathered, corpus).items():
            content = b"".join(gathered.slice(file, index) for index in indices)
            sizes[name] = Lengths(len(content.decode()), len(content), len(indices))
    return sizes


def _entries(run: Run, corpus: str) -> Iterator[Entry]:
    record = run.corpora[corpus]
    for model in chosen(record.models, run.models):
        for tokenizer in chosen(record.tokenizers, run.tokenizers):
            yield corpus, tokenizer, model


def texts_by_split(gathered: Gathered, corpus: Corpus) -> dict[str, list[str]]:
    """The documents of each split without their separators, from which ``tokenize`` learns a vocabulary."""
    if corpus.layout == "stream":
        return {name: [piece] for name, piece in _pieces(gathered, corpus).items()}
    parts, spans = _documents(gathered, corpus), gathered.documents
    with open(gathered.path, "rb") as file:
        if corpus.read_as == "stream":
            whole = {name: b"".join(gathered.slice(file, index) for index in part) for name, part in parts.items()}
            return {name: [content.decode()] for name, content in whole.items()}
        stops = spans.ends - spans.terminators
        return {
            name: [read_slice(file, int(spans.starts[index]), int(stops[index])).decode() for index in indices]
            for name, indices in parts.items()
        }


def _pieces(gathered: Gathered, corpus: Corpus) -> dict[str, str]:
    """The splits of a stream."""
    content = _content(gathered.path)
    spans = {name: (begin, end) for name, begin, end in parts_of(gathered.sizes, corpus)}
    begin, end = spans["train"]
    spans["train"] = (begin, begin + used_count(end - begin, corpus))
    return {name: content[begin:end] for name, (begin, end) in spans.items()}


def _documents(gathered: Gathered, corpus: Corpus) -> dict[str, list[int]]:
    """The indices of the documents of each split."""
    parts = documents_by_split(gathered, corpus)
    parts["train"] = parts["train"][: used_count(len(parts["train"]), corpus)]
    return parts


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
            part = f"the {split} part of {name_of(run.corpora[corpus])} has at most {tokens:,} tokens of {tokenizer}"
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
            size = characters if record.kind == "char" else record.about_size()
            if isinstance(config, Autograd) and (seconds := config.seconds(size, config.examples)) > LONG:
                vocabulary = f"{name}/{tokenizer}, whose vocabulary has about {size:,} entries"
                yield f"models.{model} takes about {seconds / 60:,.0f} minutes on {vocabulary}; lower its examples"
