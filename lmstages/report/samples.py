"""``samples.md``: what every model writes, from the same prompt at the same temperature, one below the other.

Corpus by corpus and tokenizer by tokenizer, then by temperature, then up the ladder. A sample stands in a fenced block
whose fence is longer than any run of backticks in it.
"""

import re
from collections.abc import Iterator, Sequence

from lmstages.report.entries import Entry
from lmstages.results.formatting import decimal, in_words, markdown_cell

SHORTEST_FENCE = 3


def samples_markdown(run: str, entries: Sequence[Entry]) -> str:
    """All samples of a run."""
    return "\n".join([f"# Samples of the run {markdown_cell(run)}", "", INTRODUCTION, *_texts(entries)])


INTRODUCTION = """\
Every model continues the same prompt at the same temperature, from the same seed. Models stand in the order of the
ladder, from guessing up. Characters that cannot be seen are written as escapes, such as `\\x1b`.
"""


def _texts(entries: Sequence[Entry]) -> Iterator[str]:
    for (corpus, tokenizer), same in _by_corpus_and_tokenizer(entries).items():
        yield f"## {markdown_cell(corpus)}, tokenizer {markdown_cell(tokenizer)}\n"
        for temperature in sorted({sample.temperature for entry in same for sample in entry.samples}):
            yield f"### Temperature {in_words(temperature)}\n"
            for entry in same:
                yield from _model(entry, temperature)


def _by_corpus_and_tokenizer(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Entries with samples, up the ladder; the splits of a corpus share their samples, so that one stands for all."""
    once: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        if entry.samples:
            once.setdefault((entry.row.corpus, entry.row.tokenizer, entry.row.model), entry)
    grouped: dict[tuple[str, str], list[Entry]] = {}
    for (corpus, tokenizer, _), entry in once.items():
        grouped.setdefault((corpus, tokenizer), []).append(entry)
    return {key: sorted(same, key=lambda entry: entry.row.rank) for key, same in grouped.items()}


def _model(entry: Entry, temperature: float) -> Iterator[str]:
    texts = entry.texts_by_temperature().get(temperature, [])
    if texts:
        yield f"#### {markdown_cell(entry.name)}, {decimal(entry.row.bits_per_byte)} bits per byte\n"
    yield from (f"{fenced(text)}\n" for text in texts)


def fenced(text: str) -> str:
    """A fenced block that no line of ``text`` closes."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(SHORTEST_FENCE, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
