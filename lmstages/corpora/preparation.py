"""Prepares a corpus of the config: writes its three splits and ``corpus.json``, the facts that the report shows.

Downloaded text and the user's own is validated and copied into one file, which is then cut into splits; the text of
an embedded corpus is generated. Knows no token.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from lmstages.config.sections import SplitFiles
from lmstages.config.sources import DEFAULT_COUNT, SOURCES
from lmstages.core import artifacts, files
from lmstages.core.artifacts import Made
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER
from lmstages.corpora import text
from lmstages.corpora.intake import WHOLE, Gathered, gather, name_of, read_slice
from lmstages.corpora.splits import PIECE, count_characters, write
from lmstages.corpora.tables import DEFAULT_FIELD

EMBEDDED = {
    "coined": "names drawn from a grammar of syllables in five styles",
    "fables": "short stories drawn from a grammar with a hero, agreement, quotation and counting",
}
OWN_LICENCE = "MIT, like this project"


def prepare(corpus: Any, raw_files: Sequence[Path], folder: Path, made: Made, content: str = "") -> None:
    """Write the splits of ``corpus`` (a record of the config) and ``corpus.json`` into ``folder``.

    ``raw_files``: its downloaded parts, or the user's files; empty where the text is generated or the config says where
    the files are. ``content`` is the hash that the user's files must have, or empty where any content will do.
    """
    if corpus.embedded:
        facts = _generate(corpus, folder, made)
    else:
        text_of_parts = in_parts(corpus, raw_files)
        with files.scratch(folder) as checked:
            gathered = _gathered(corpus, text_of_parts, raw_files, checked, made.get("inputs", {}), content)
            for note in gathered.notes:
                LOGGER.info("%s", note)
            made = {**made, "inputs": gathered.inputs}
            facts = _cut(gathered, text_of_parts, folder, made)
    artifacts.save_json(folder / "corpus.json", {**_facts(corpus, raw_files), "splits": facts}, made)


def _generate(corpus: Any, folder: Path, made: Made) -> dict[str, Any]:
    """Splits of an embedded corpus: train without the withheld pairs, valid and test with them."""
    from lmstages.corpora.grammar import documents

    name, seed = corpus.source, corpus.seed
    train, valid, test = generated_sizes(corpus)
    held_out = documents(name, valid + test, seed, "allowed")
    generated = {"train": documents(name, train, seed, "withheld"), "valid": held_out[:valid], "test": held_out[valid:]}
    kept = without_copies(generated) if corpus.split.deduplicate else generated
    kept["train"] = kept["train"][: used_count(train, corpus)]  # last, so that valid and test do not depend on it
    facts = {}
    for part, texts in kept.items():
        contents = (f"{text}\n".encode() for text in texts)
        facts[part] = write(folder, part, contents, np.ones(len(texts)), False, made)
        if corpus.split.deduplicate and part != "train":
            facts[part]["left_out"] = len(generated[part]) - len(texts)
    return facts


def generated_sizes(corpus: Any) -> tuple[int, int, int]:
    """Numbers of documents of an embedded corpus: train (before ``use``), valid, test."""
    sizes = [corpus.split.train, corpus.split.valid, corpus.split.test]
    count = corpus.count or DEFAULT_COUNT[corpus.source]
    train, valid, test = np.diff([0, *borders(count, sizes, f"{corpus.source}: split")]).tolist()
    return train, valid, test


def used_count(train: int, corpus: Any) -> int:
    """How many documents or characters of train are used, the first ones; valid and test do not depend on it."""
    count = int(round(corpus.use * train, 9))
    if train and not count:
        where, least = f"{name_of(corpus)}: use", 1 / train
        raise UserError(where, f"{corpus.use:g} of {train:,} leaves nothing to train on", f"at least {least:g}")
    return count


def without_copies(parts: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Each split without what an earlier one (train, valid, test) holds; repetitions within a split stay."""
    seen: set[Any] = set()
    kept = {}
    for name in ("train", "valid", "test"):
        kept[name] = [document for document in parts[name] if document not in seen]
        seen.update(parts[name])
    return kept


def in_parts(corpus: Any, raw_files: Sequence[Path]) -> Any:
    """A downloaded text that comes in parts, as one of one's own that does; any other corpus as it is."""
    parts = corpus.parts()
    if not parts:
        return corpus
    is_a_file_each = len(raw_files) == len(parts)  # else they are cut from one
    paths = dict(zip(parts, map(str, raw_files), strict=True)) if is_a_file_each else dict.fromkeys(parts, "")
    field = DEFAULT_FIELD if corpus.layout == "records" else None
    made = {"source": None, "hub": None, "files": SplitFiles.of(paths), "documents": corpus.layout, "field": field}
    return corpus.model_copy(update=made)


def _gathered(
    corpus: Any,
    text_of_parts: Any,
    raw_files: Sequence[Path],
    checked: BinaryIO,
    inputs: Mapping[str, str],
    content: str,
) -> Gathered:
    """The validated text in one file: the user's own, whatever its files are, or what was downloaded."""
    if corpus.own():
        return gather(corpus, checked, raw_files, content)
    if corpus.parts() and len(raw_files) == len(corpus.parts()):
        gathered = gather(text_of_parts, checked, [artifacts.verified(raw) for raw in raw_files])
        return replace(gathered, inputs=inputs)
    for raw in raw_files:
        text.clean(artifacts.verified(raw), checked, corpus.newlines)
    checked.flush()
    path, separator = Path(checked.name), SOURCES[corpus.source].separator if corpus.source in SOURCES else ""
    documents = text.document_offsets(path, corpus.layout, separator, corpus.source)
    if corpus.parts():
        cut = SOURCES[corpus.source].cut
        assert cut is not None, "a text of one file is in parts where its source says where they end"
        return Gathered(path, documents, _characters_of(path, cut), inputs=inputs)
    number = _characters_in(path) if corpus.layout == "stream" else len(documents.ends)
    return Gathered(path, documents, {WHOLE: number}, inputs=inputs)


def _characters_of(path: Path, cut: Sequence[int]) -> dict[str, int]:
    """How many characters begin in so many bytes of each part; the last takes what is left."""
    with open(path, "rb") as content:
        numbers = [_characters_within(content, size) for size in (*cut[:-1], path.stat().st_size)]
    return dict(zip(("train", "valid", "test"), numbers, strict=True))


def _characters_within(content: BinaryIO, size: int) -> int:
    number = 0
    while size > 0 and (piece := content.read(min(size, PIECE))):
        number, size = number + count_characters(piece), size - len(piece)
    return number


def _characters_in(path: Path) -> int:
    with open(path, "rb") as content:
        return sum(count_characters(piece) for piece in iter(lambda: content.read(PIECE), b""))


def _cut(gathered: Gathered, corpus: Any, folder: Path, made: Made) -> dict[str, Any]:
    """Splits of a validated text; errors name the text as its user knows it, not the copy that is cut."""
    cut = _cut_stream if corpus.layout == "stream" else _cut_documents
    return cut(gathered, corpus, folder, made)


def borders(total: int, sizes: Sequence[float], where: str) -> list[int]:
    """Cumulative sizes of three splits of ``total``; fractions are rounded down, as ``int(0.9 * n)`` does."""
    if max(sizes) > 1:
        ends = list(accumulate(map(int, sizes)))
        if ends[-1] > total:
            raise UserError(where, f"asks for {ends[-1]:,} in all, the text has {total:,}", "", "lower the counts")
        return ends
    sums = np.cumsum(sizes).round(9)  # 0.7 + 0.2 is a little less than 0.9
    return [int(part * total) for part in sums.tolist()]


def parts_of(sizes: Mapping[str, int], corpus: Any) -> list[tuple[str, int, int]]:
    """(split, begin, end) in the order of the text, of documents or of a stream's characters.

    A text that is not in parts is cut in the order that the config gives; of one that is, only what is not given is cut
    from the end of train.
    """
    where = f"{name_of(corpus)}: split"
    if WHOLE in sizes:
        names, total = corpus.split.order, sizes[WHOLE]
        ends = borders(total, [getattr(corpus.split, name) for name in names], where)
        _must_not_be_empty(dict(zip(names, np.diff([0, *ends]).tolist(), strict=True)), total, corpus)
        return list(zip(names, [0, *ends[:-1]], ends, strict=True))
    missing = corpus.files.missing()
    fractions = [getattr(corpus.split, name) for name in missing]
    cut = borders(sizes["train"], [1 - sum(fractions), *fractions], where)
    _must_not_be_empty(dict(zip(missing, np.diff(cut).tolist(), strict=True)), sizes["train"], corpus)
    names, lengths = ["train", *missing, *list(sizes)[1:]], [*np.diff([0, *cut]).tolist(), *list(sizes.values())[1:]]
    ends = list(accumulate(lengths))
    return list(zip(names, [0, *ends[:-1]], ends, strict=True))


def _must_not_be_empty(lengths: Mapping[str, int], total: int, corpus: Any) -> None:
    """Raises UserError where files or records are too few for a part of the split."""
    if corpus.layout not in ("files", "records"):
        return
    for name, length in lengths.items():
        if not length and getattr(corpus.split, name) > 0:
            unit = "document" if total == 1 else "documents"
            problem = f"{total:,} {unit} ({corpus.layout}) leave the {name} part empty"
            remedy = "give more of them, a larger split, files: {train, valid, test}, or documents: lines or stream"
            raise UserError(f"{name_of(corpus)}: split", problem, "", remedy)


def documents_by_split(gathered: Gathered, corpus: Any) -> dict[str, list[int]]:
    """The indices of the documents of each split in their order, before any is left out."""
    order = list(range(len(gathered.documents.ends)))
    cut = order[: next(iter(gathered.sizes.values()))]
    if corpus.split.shuffle_seed is not None and (corpus.files is None or corpus.files.missing()):
        random.Random(corpus.split.shuffle_seed).shuffle(cut)
    order[: len(cut)] = cut
    return {name: order[begin:end] for name, begin, end in parts_of(gathered.sizes, corpus)}


def _cut_documents(gathered: Gathered, corpus: Any, folder: Path, made: Made) -> dict[str, Any]:
    parts = documents_by_split(gathered, corpus)
    facts: dict[str, Any] = {}
    with open(gathered.path, "rb") as file:
        kept = dict(_distinct(file, gathered.documents, parts) if corpus.split.deduplicate else parts)
        kept["train"] = kept["train"][: used_count(len(kept["train"]), corpus)]
        for name, documents in kept.items():
            contents = (gathered.slice(file, index) for index in documents)
            terminators = gathered.terminators(np.array(documents, dtype=np.int64))
            facts[name] = write(folder, name, contents, terminators, corpus.read_as == "stream", made)
            if corpus.split.deduplicate and name != "train":
                facts[name]["left_out"] = len(parts[name]) - len(documents)
    return facts


def _distinct(file: BinaryIO, spans: text.Documents, parts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """``without_copies`` of documents given by index, compared by a hash of their text without its separator."""

    def digest(number: int) -> bytes:
        start, stop = int(spans.starts[number]), int(spans.ends[number] - spans.terminators[number])
        return hashlib.blake2b(read_slice(file, start, stop), digest_size=16).digest()

    digests = {name: [digest(number) for number in numbers] for name, numbers in parts.items()}
    kept = {name: set(remaining) for name, remaining in without_copies(digests).items()}
    return {
        name: [number for number, value in zip(numbers, digests[name], strict=True) if value in kept[name]]
        for name, numbers in parts.items()
    }


def _cut_stream(gathered: Gathered, corpus: Any, folder: Path, made: Made) -> dict[str, Any]:
    """Splits of a stream, cut between characters."""
    facts = {}
    with open(gathered.path, encoding="utf-8", newline="") as file:
        for name, begin, end in parts_of(gathered.sizes, corpus):
            count = used_count(end - begin, corpus) if name == "train" else end - begin
            contents = (piece.encode() for piece in _read_characters(file, count))
            facts[name] = write(folder, name, contents, np.zeros(1 if count else 0), True, made)
            for _ in _read_characters(file, end - begin - count):
                pass  # skips what is not used
    return facts


def _read_characters(file: TextIO, count: int) -> Iterator[str]:
    while count > 0 and (piece := file.read(min(count, PIECE))):
        count -= len(piece)
        yield piece


def _facts(corpus: Any, raw_files: Sequence[Path]) -> dict[str, str]:
    if corpus.embedded:
        return {"description": EMBEDDED[corpus.source], "origin": "embedded", "licence": OWN_LICENCE}
    if corpus.hub is not None:
        origin = f"{corpus.hub.name} at {corpus.hub.revision}"
        return {"description": f"data set {corpus.hub.name} of the hub", "origin": origin, "licence": "not stated"}
    if corpus.source in SOURCES:
        source = SOURCES[corpus.source]
        variants = sorted({_variant(raw) for raw in raw_files})
        return {"description": source.provenance, "origin": ", ".join(variants), "licence": source.licence}
    return {"description": f"the user's own text, {_own_name(corpus)}", "origin": "own", "licence": "not stated"}


def _own_name(corpus: Any) -> str:
    """What a text of one's own is called: its file or folder, or the files of its parts."""
    if corpus.files is None:
        return Path(name_of(corpus)).name
    return ", ".join(f"{part}: {paths}" for part, paths in corpus.files.given().items())


def _variant(raw: Path) -> str:
    """Which variant of its source a downloaded file is, by its record."""
    download = artifacts.made_of(raw)["made"].get("download")
    if not isinstance(download, dict) or not isinstance(download.get("variant"), str):
        raise UserError(artifacts.sidecar(raw), "does not say what was downloaded", "", artifacts.make_again(raw))
    return download["variant"]
