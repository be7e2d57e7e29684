"""Which vocabularies a text of one's own cannot fill, known before the first job: each is learnt as a job will do it.

Reads texts and writes nothing.
"""

from collections.abc import Iterator
from contextlib import suppress

from lmstages.config.jobs import Run
from lmstages.config.sections import Corpus, Tokenizer, chosen
from lmstages.core.errors import UserError
from lmstages.corpora.forecast import cleaned, is_looked_at, texts_by_split
from lmstages.corpora.intake import TooLarge
from lmstages.tokenizers import TextTokenizer, learn
from lmstages.tokenizers.pretrained import made_elsewhere

LARGEST = 1 << 19  # bytes of a text that a vocabulary is learnt from in a second or less


def unfilled(run: Run) -> list[str]:
    """A sentence for every corpus and tokenizer whose experiments will fail for lack of different text."""
    return [sentence for name, corpus in run.corpora.items() for sentence in _unfilled(run, name, corpus)]


def _unfilled(run: Run, name: str, corpus: Corpus) -> Iterator[str]:
    if not corpus.own() or not is_looked_at(corpus, LARGEST):
        return
    learnt = [key for key in chosen(corpus.tokenizers, run.tokenizers) if _may_fail(run.tokenizers[key])]
    if not learnt:
        return
    parts: dict[str, list[str]] = {}
    with suppress(TooLarge), cleaned(corpus, LARGEST) as gathered:
        parts = texts_by_split(gathered, corpus)
    if not parts:
        return
    for key in learnt:
        record = run.tokenizers[key]
        texts = [text for part in (parts if record.alphabet == "corpus" else ["train"]) for text in parts[part]]
        is_stream = "stream" in (corpus.layout, corpus.read_as)
        try:
            tokenizer = _made(record, texts, corpus.layout == "lines", is_stream)
            for part in parts.values() if record.closed or record.kind == "pretrained" else ():
                tokenizer.encode(part)
        except UserError as error:
            yield f"{name}/{key} will fail: {error}"


def _made(record: Tokenizer, texts: list[str], newline_ends: bool, stream: bool) -> TextTokenizer:
    if record.kind == "pretrained":
        return made_elsewhere(record, newline_ends, None)
    return learn(record.kind, record.vocab_size, texts, newline_ends, stream, False, not record.closed)


def _may_fail(record: Tokenizer) -> bool:
    """Whether a text may have too few words for the vocabulary, or words that it refuses; what is at hand to tell."""
    return record.vocab_size is not None or bool(record.closed) or record.path is not None
