"""Judges a file of scores by itself: a run of one text, whose results folder is made without a workflow.

Its stages are those of any run: the text becomes a corpus, the file is audited against it, a small ladder is fitted on
a train text where one is given, and ``summary`` makes the tables.
"""

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lmstages import __version__
from lmstages.config.jobs import Run
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.reading import safe_name
from lmstages.config.sections import Corpus, Model, ReportedScores, Scoring, Tokenizer
from lmstages.core import artifacts
from lmstages.core.files import naming, scratch
from lmstages.core.progress import LOGGER, clock
from lmstages.core.runtime import Runtime
from lmstages.corpora import splits, text
from lmstages.evaluation.compressors import code_lengths
from lmstages.evaluation.experiment import evaluate
from lmstages.evaluation.reported import audit_scores
from lmstages.models.fitting import outcome
from lmstages.models.storage import save_fit
from lmstages.results.frame import Results
from lmstages.results.summary import summarize
from lmstages.tokenizers import streams

TOKENS, SPLIT = "char", "test"
LADDER = ("uniform", "unigram", "bigram", "kneser_ney", "ppm")
COMPRESSORS: list[Literal["gzip", "bz2", "xz", "zstd"]] = ["gzip", "bz2", "xz", "zstd"]
SECONDS = {  # of each stage: at least, and for a megabyte of text
    **{"uniform": (0.1, 0.05), "unigram": (0.1, 0.05), "bigram": (0.1, 0.15), "kneser_ney": (0.3, 0.2)},
    **{"ppm": (4.0, 0.7), "compressors": (0.3, 2.7)},
}
SURE_AFTER = 3.0  # seconds after which those that have passed say how many are left
LONG = 60.0  # seconds


@dataclass(frozen=True)
class Judgement:
    """What is judged: a file of scores, its text, a text to fit on, the unit, and how both texts separate documents."""

    scores: Path
    text: Path
    train: Path | None
    unit: str | None
    layout: Mapping[str, Any]  # documents, separator


@contextmanager
def judging(judgement: Judgement, out: Path | None = None) -> Iterator[Results]:
    """The results of a judgement, in the folder ``out`` or in one that is removed afterwards."""
    run = run_of(judgement)
    made = {"command": "judge", "section": {}, "inputs": {}, "code": "", "lmstages": __version__}
    [(corpus, name)] = run.reported()
    with _folder(out) as folder:
        text_folder, reported = folder / corpus / "text", folder / corpus / "reported" / name
        _write_text(judgement, text_folder, made)
        section = json.loads(run.reported_section(name))
        audit_scores(section, text_folder, reported, made, name=str(judgement.text))
        if judgement.train is not None:
            _fit_ladder(run, folder / corpus, made)
        summarize(folder, {**json.loads(run.summary_section()), "analyses": False}, made)
        yield Results.open(folder)


def run_of(judgement: Judgement) -> Run:
    """The config of a run that has this text, these scores and, with a train text, a small ladder."""
    corpus, name = safe_name(judgement.text.stem), safe_name(judgement.scores.name.partition(".")[0])
    name = f"{name}-scores" if name in LADDER else name
    scores = {"path": str(judgement.scores), "corpus": corpus, "unit": judgement.unit, "title": judgement.scores.name}
    fitted = judgement.train is not None
    return Run(
        name="-",
        corpora={corpus: Corpus.model_validate({"path": str(judgement.text), **judgement.layout})},
        tokenizers={TOKENS: Tokenizer.model_validate({"kind": TOKENS})} if fitted else {},
        models={model: Model(config=MODEL_TYPES[model](), scoring=Scoring()) for model in LADDER if fitted},
        compressors=COMPRESSORS if fitted else None,
        scores={name: ReportedScores.model_validate(scores)},
    )


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """The folder itself, or one that is removed when the block ends."""
    if out is not None:
        with naming(out):
            out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with naming(Path(tempfile.gettempdir(), "results")):
        folder = tempfile.TemporaryDirectory(prefix="lmstages-")
    with folder:
        yield Path(folder.name)


# ---------------------------------------------------------------- text


def _write_text(judgement: Judgement, folder: Path, made: artifacts.Made) -> None:
    """Both texts as the splits of a corpus, byte for byte; valid is empty, and so is train where there is none."""
    sources = {"train": judgement.train, "valid": None, SPLIT: judgement.text}
    facts = {name: _write_split(name, source, judgement.layout, folder, made) for name, source in sources.items()}
    described = {"description": f"the user's own text, {judgement.text.name}", "origin": "own", "licence": "not stated"}
    artifacts.save_json(folder / "corpus.json", {**described, "splits": facts}, made)


def _write_split(
    name: str, source: Path | None, layout: Mapping[str, Any], folder: Path, made: artifacts.Made
) -> dict[str, int]:
    stream = layout["documents"] == "stream"
    if source is None:
        return splits.write(folder, name, iter(()), np.zeros(0), stream, made)
    with scratch(folder) as copy:
        text.clean(source, copy, "keep")
        copy.flush()
        path = Path(copy.name)
        documents = text.document_offsets(path, layout["documents"], layout["separator"], source)
        sizes = _piece_sizes(int(documents.ends[-1])) if stream else (documents.ends - documents.starts).tolist()
        with path.open("rb") as file:
            return splits.write(folder, name, map(file.read, sizes), documents.terminators, stream, made)


def _piece_sizes(size: int) -> list[int]:
    return [min(splits.PIECE, size - begin) for begin in range(0, size, splits.PIECE)]


# ---------------------------------------------------------------- the ladder


def _fit_ladder(run: Run, folder: Path, made: artifacts.Made) -> None:
    """Tokens of characters, every model fitted and scored, and the compressors; says how long it will take."""
    text_folder, tokens = folder / "text", folder / TOKENS / "tokens"
    size = sum(splits.text_path(text_folder, name).stat().st_size for name in ("train", SPLIT)) / 1e6
    with _Stages(size) as stages:
        streams.tokenize(run.tokenizers[TOKENS], text_folder, tokens, run.layout(folder.name), made)
        for model in run.models:
            stages.begin(model)
            out = folder / TOKENS / model / "seed0"
            _fit(run, model, tokens, out, made)
            section = json.loads(run.evaluate_section(folder.name, model))
            section["sampling"]["count"] = 0
            evaluate(out / "model.safetensors", tokens, text_folder, out, section, made)
        stages.begin("compressors")
        code_lengths(text_folder, COMPRESSORS, [SPLIT], folder / "compressors.json", made)


def _fit(run: Run, model: str, tokens: Path, out: Path, made: artifacts.Made) -> None:
    section = json.loads(run.fit_section(model))
    documents = (streams.read_documents(tokens, "train"), streams.read_documents(tokens, "valid"))
    vocab_size = streams.read_tokenizer(tokens).vocab_size
    with closing(Runtime()) as runtime:
        fitted, facts = outcome(section, vocab_size, documents, 0, 1, runtime)
        save_fit(out, fitted, {**section, **facts}, made)


class _Stages:
    """Says what is fitted, and how much longer it will take; what a stage says of itself, only where it takes long."""

    def __init__(self, megabytes: float) -> None:
        self.needed = {name: least + by_megabyte * megabytes for name, (least, by_megabyte) in SECONDS.items()}
        self.started, self.before = time.monotonic(), 0.0

    def __enter__(self) -> "_Stages":
        LOGGER.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        LOGGER.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is shown."""
        is_own, is_warning = record.funcName == "begin", record.levelno > logging.INFO
        return is_own or is_warning or sum(self.needed.values()) > LONG

    def begin(self, name: str) -> None:
        """Log the stage; what has been done so far says how fast this machine is."""
        elapsed, total = time.monotonic() - self.started, sum(self.needed.values())
        names = list(self.needed)
        done = sum(self.needed[other] for other in names[: names.index(name)])
        left = (total - done) * (elapsed / done if elapsed > SURE_AFTER else 1.0)
        LOGGER.info("%s, %d of %d; about %s left", name, names.index(name) + 1, len(names), clock(left))
