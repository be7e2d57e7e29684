"""From a corpus as the config names it to its three splits on disk, with the facts the report tells of it.

Text from elsewhere is checked and copied first, all its parts into one file, which is then cut; embedded
text is drawn. Knows nothing of tokens.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from lmstages import artefacts
from lmstages.artefacts import Made
from lmstages.corpora import text
from lmstages.corpora.sources import SOURCES
from lmstages.corpora.splits import PIECE, count_characters, write
from lmstages.errors import UserError

EMBEDDED = {
    "coined": "names drawn from a grammar of syllables in five styles",
    "fables": "short stories drawn from a grammar with a hero, agreement, quotation and counting",
}
DRAWN = {"coined": 30000, "fables": 3000}
OWN = "MIT, like this project"


def prepare(corpus: Any, raws: Sequence[Path], folder: Path, made: Made) -> None:
    """Write the splits of ``corpus`` (a record of the config) and ``corpus.json`` into ``folder``.

    ``raws``: its downloaded parts, or the user's file; none where it is drawn.
    """
    facts = _draw(corpus, folder, made) if corpus.embedded else _cut(corpus, raws, folder, made)
    artefacts.save_json(folder / "corpus.json", {**_facts(corpus, raws), "splits": facts}, made)


def _draw(corpus: Any, folder: Path, made: Made) -> dict[str, Any]:
    """Train without the withheld pairs, valid and test with them."""
    from lmstages.corpora.grammar import documents

    name, count, seed = corpus.source, corpus.count or DRAWN[corpus.source], corpus.seed
    sizes = [corpus.split.train, corpus.split.valid, corpus.split.test]
    train, valid, test = np.diff([0, *borders(count, sizes, f"{name}: split")]).tolist()
    held_out = documents(name, valid + test, seed, "allowed")
    drawn = {"train": documents(name, train, seed, "withheld"), "valid": held_out[:valid], "test": held_out[valid:]}
    return {
        part: write(folder, part, (f"{text}\n".encode() for text in texts), np.ones(len(texts)), False, made)
        for part, texts in drawn.items()
    }


def _cut(corpus: Any, raws: Sequence[Path], folder: Path, made: Made) -> dict[str, Any]:
    with artefacts.scratch(folder) as checked:
        for raw in raws:
            text.clean(raw if corpus.path else artefacts.verified(raw), checked, corpus.newlines)
        checked.flush()
        cut = _cut_stream if corpus.layout == "stream" else _cut_documents
        return cut(Path(checked.name), corpus, folder, made)


def borders(total: int, sizes: Sequence[float], where: str) -> list[int]:
    """Cumulative counts of three parts of ``total``: fractions are rounded down, as ``int(0.9 * n)`` does."""
    if max(sizes) > 1:
        found = np.cumsum(sizes).astype(int).tolist()
        if found[-1] > total:
            raise UserError(where, f"asks for {found[-1]:,} in all, the text has {total:,}", "", "lower the counts")
        return found
    sums = np.cumsum(sizes).round(9)  # 0.7 + 0.2 is a little less than 0.9
    return [int(part * total) for part in sums.tolist()]


def _parts(total: int, corpus: Any) -> list[tuple[str, int, int]]:
    """(split, begin, end) in the order in which the config takes them."""
    where = f"{corpus.path or corpus.source}: split"
    ends = borders(total, [getattr(corpus.split, name) for name in corpus.split.order], where)
    return list(zip(corpus.split.order, [0, *ends[:-1]], ends, strict=True))


def _cut_documents(source: Path, corpus: Any, folder: Path, made: Made) -> dict[str, Any]:
    separator = SOURCES[corpus.source].separator if corpus.source in SOURCES else corpus.separator
    found = text.document_offsets(source, corpus.layout, separator)
    order = list(range(len(found.ends)))
    if corpus.split.shuffle_seed is not None:
        random.Random(corpus.split.shuffle_seed).shuffle(order)
    facts, as_stream = {}, corpus.read_as == "stream"
    with open(source, "rb") as file:
        for name, begin, end in _parts(len(order), corpus):
            chosen = np.array(order[begin:end], dtype=np.int64)
            spans = zip(found.starts[chosen].tolist(), found.ends[chosen].tolist(), strict=True)
            contents = (_slice(file, start, stop) for start, stop in spans)
            facts[name] = write(folder, name, contents, found.terminators[chosen], as_stream, made)
    return facts


def _slice(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _cut_stream(source: Path, corpus: Any, folder: Path, made: Made) -> dict[str, Any]:
    """Cut between characters."""
    with open(source, "rb") as content:
        total = sum(count_characters(piece) for piece in iter(lambda: content.read(PIECE), b""))
    facts = {}
    with open(source, encoding="utf-8", newline="") as file:
        for name, begin, end in _parts(total, corpus):
            contents = (piece.encode() for piece in _read_characters(file, end - begin))
            facts[name] = write(folder, name, contents, np.zeros(1 if end > begin else 0), True, made)
    return facts


def _read_characters(file: TextIO, count: int) -> Iterator[str]:
    while count > 0 and (piece := file.read(min(count, PIECE))):
        count -= len(piece)
        yield piece


def _facts(corpus: Any, raws: Sequence[Path]) -> dict[str, str]:
    if corpus.embedded:
        return {"description": EMBEDDED[corpus.source], "origin": "embedded", "licence": OWN}
    if corpus.source in SOURCES:
        source = SOURCES[corpus.source]
        variants = sorted({artefacts.made_of(raw)["made"]["download"]["variant"] for raw in raws})
        return {"description": source.provenance, "origin": ", ".join(variants), "licence": source.licence}
    return {"description": f"the user's own text, {Path(corpus.path).name}", "origin": "own", "licence": "not stated"}
