"""What can be known of a run on a text of one's own before its first job: is it text, are its splits long enough?

A token is at least a character of a tokenizer of characters and at least a byte of any other, so that the lengths of
the splits bound the numbers of their tokens. Reads texts and writes nothing.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lmstages.config.hyperparameters.neural import Autograd
from lmstages.config.jobs import Run
from lmstages.config.sections import Corpus, chosen
from lmstages.core.errors import UserError
from lmstages.corpora import text
from lmstages.corpora.preparation import documents_by_split, parts_of, used_count

LARGEST = 1 << 26  # bytes of a text that is looked at; a larger one has splits that are long enough
LONG = 120.0  # seconds of a fit, from which on they are said


class Lengths(NamedTuple):
    """How much text a split has; ``documents`` is 0 where it is a stream."""

    characters: int
    size: int  # bytes
    documents: int


def forecast(run: Run) -> list[str]:
    """Sentences on what will take long; raises one UserError for all that cannot work."""
    problems: list[str] = []
    warnings: list[str] = []
    for name, corpus in run.corpora.items():
        if corpus.path is not None and _is_looked_at(Path(corpus.path)):
            text.check(Path(corpus.path), corpus.newlines)
            content = _content(corpus)
            problems += _too_short(run, name, lengths(content, corpus))
            warnings += _slow(run, name, len(set(content)))
    if problems:
        raise UserError(
            "text too short", "; ".join(problems), "", "give more text, or lower the model's window or order"
        )
    return warnings


def _is_looked_at(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= LARGEST


def _content(corpus: Corpus) -> str:
    assert corpus.path is not None, "only texts of one's own are looked at"
    content = Path(corpus.path).read_bytes().decode()
    return content.replace("\r\n", "\n") if corpus.newlines == "unix" else content


def lengths(content: str, corpus: Corpus) -> dict[str, Lengths]:
    """The text of each split as ``preparation`` cuts it, before copies are left out of valid and test."""
    if corpus.layout == "stream":
        spans = {name: (begin, end) for name, begin, end in parts_of(len(content), corpus)}
        begin, end = spans["train"]
        spans["train"] = (begin, begin + used_count(end - begin, corpus))
        pieces = {name: content[begin:end] for name, (begin, end) in spans.items()}
        return {name: Lengths(len(piece), len(piece.encode()), 0) for name, piece in pieces.items()}
    return _lengths_of_documents(content.encode(), corpus)


def _lengths_of_documents(content: bytes, corpus: Corpus) -> dict[str, Lengths]:
    documents, parts = documents_by_split(content, corpus)
    parts["train"] = parts["train"][: used_count(len(parts["train"]), corpus)]
    sizes = {}
    for name, indices in parts.items():
        bounds = zip(documents.starts[indices].tolist(), documents.ends[indices].tolist(), strict=True)
        joined = io.BytesIO()
        for begin, end in bounds:
            joined.write(content[begin:end])
        sizes[name] = Lengths(len(joined.getvalue().decode()), joined.tell(), len(indices))
    return sizes


def _too_short(run: Run, name: str, sizes: dict[str, Lengths]) -> Iterator[str]:
    """Parts that have no more tokens than a model has context, whatever the tokenizer makes of them.

    Of the models that a part is too short for, the one that looks back furthest is named.
    """
    corpus = run.corpora[name]
    furthest: dict[str, tuple[int, str]] = {}
    for model in chosen(corpus.models, run.models):
        record = run.models[model]
        context = record.config.context or 1
        for split in dict.fromkeys(["train", *run.splits_scored(name, model)]):
            skip = 0 if split == "train" else record.scoring.skip
            for tokenizer in chosen(corpus.tokenizers, run.tokenizers):
                most = _most_tokens(run.tokenizers[tokenizer], sizes[split])
                if most - skip <= context:
                    part = f"the {split} part of {corpus.path} has at most {most:,} tokens of {tokenizer}"
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
