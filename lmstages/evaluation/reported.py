"""Scores made elsewhere, audited: every byte of the held-out text once, in order, with a probability of at most one.

    results/RUN/CORPUS/reported/NAME/reported.json        what the file is, or why it cannot be used
    results/RUN/CORPUS/reported/NAME/scores.safetensors   its scores, as those of any experiment

Whatever model made them, they stand in the table of results with intervals and paired differences. Reads the file in
batches; keeps 20 bytes for each of its tokens.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.config.sections import UNITS, ReportedScores, from_section
from lmstages.core import artifacts, contents
from lmstages.core.errors import UserError, did_you_mean, shortened
from lmstages.core.files import sha256_of
from lmstages.core.progress import Progress
from lmstages.core.workflow_files import STARTER
from lmstages.evaluation import score_files
from lmstages.evaluation.held_out import HeldOut
from lmstages.evaluation.reported_faults import MOST, Coverage, Fault, problem_of
from lmstages.evaluation.reported_files import Batch, ReportedFile, opened
from lmstages.evaluation.score_files import Scores

NATS: Mapping[str, float] = {"nats": 1.0, "bits": math.log(2), "log10": math.log(10)}
ROUNDING = 1e-3  # nats by which a logarithm may exceed zero, as ours may
STATE_UNIT = 'state it: unit: nats (PyTorch, JAX), bits or log10 (KenLM), or --unit, or a first line {"unit": "nats"}'
LONG_SPAN, SHORT_NATS, FEW_BITS = 24, 12.0, 0.3  # bytes and nats of a span, bits per byte: a mean, not a sum
PROTOCOL = "reported"
FARTHEST = 1 << 62  # bytes, so that no sum overflows
LARGEST = 1 << 26  # bytes of a file that is audited before the first job


@dataclass(frozen=True)
class Audited:
    """The scores of a file, and what is known of it."""

    scores: Scores
    form: str
    unit: str
    sha256: str


def audited(path: Path, text: HeldOut, unit: str | None) -> Audited:
    """The scores of a file of a text; ``unit`` is what the user says of them.

    Raises one UserError that says what is wrong with the file.
    """
    before = contents.identity(path) if path.is_file() else []
    with opened(path, text) as file:
        stated = unit_of(path, file.unit, unit)
        _must_be_of(path, file.text_sha256, text)
        audit = _Audit(path, text, file, NATS[stated])
        for batch in file.batches:
            audit.add(batch)
    scores = audit.scores()
    sha256 = sha256_of(path)
    contents.stop_if_changed(path, before)
    return Audited(scores, file.form, stated, sha256)


def unit_of(path: Path, in_file: str | None, given: str | None) -> str:
    """The unit that the file or the user states; a UserError where neither does, or both differ."""
    for stated in filter(None, (in_file, given)):
        if stated not in UNITS:
            problem = f"unit {shortened(stated)}{did_you_mean(stated, UNITS)}"
            raise UserError(path, problem, f"allowed: {', '.join(UNITS)}")
    if in_file and given and in_file != given:
        raise UserError(path, f"states the unit {in_file}, the config or option {given}", "", "leave out the wrong one")
    unit = in_file or given
    if unit is None:
        raise UserError(path, "does not say in which unit its log-probabilities are", STATE_UNIT)
    return unit


def _must_be_of(path: Path, sha256: str | None, text: HeldOut) -> None:
    if sha256 is not None and sha256.lower() != text.sha256:
        problem = f"states scores of a text with sha256 {shortened(sha256[:64])}"
        raise UserError(path, problem, f"{text.name} has {text.sha256}", "score this text, or name the other one")


# ---------------------------------------------------------------- the audit


@dataclass
class _Audit:
    """What has been read so far of a file."""

    path: Path
    text: HeldOut
    file: ReportedFile
    nats: float  # of a unit
    position: int = 0  # where the last span ended, in the whole text
    count: int = 0  # of spans
    fault_count: int = 0
    faults: list[Fault] = field(default_factory=list)
    log_probs: list[np.ndarray] = field(default_factory=list)
    ends: list[np.ndarray] = field(default_factory=list)
    documents: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = len(self.text.ends)
        self.first, self.reach = np.full(size, -1, np.int64), np.full(size, -1, np.int64)
        self.progress = Progress(max(1, self.text.size), "byte")
        if not self.text.size:
            raise UserError(self.text.name, "is empty", "there is nothing to score")

    def add(self, batch: Batch) -> None:
        """Check a batch and keep it; raises UserError for what is wrong whatever else the file holds."""
        log_probs = batch.log_probs * self.nats
        must_be_probabilities(self.path, self.file.line, batch, log_probs)
        self._must_be_spans(batch)
        starts, ends = (self.text.starts[batch.documents] + offsets for offsets in (batch.starts, batch.ends))
        self._note_faults(batch, starts, np.concatenate([[self.position], ends[:-1]]))
        fresh, first = np.unique(batch.documents, return_index=True)
        unseen = self.first[fresh] < 0
        self.first[fresh[unseen]] = batch.starts[first[unseen]]
        np.maximum.at(self.reach, batch.documents, batch.ends)
        self.log_probs.append(log_probs)
        self.ends.append(ends)
        self.documents.append(batch.documents.astype(np.int32))
        self.count, self.position = self.count + len(ends), int(ends[-1])
        self.progress.at(min(self.position, self.text.size - 1), self.count, "tokens")

    def _at(self, batch: Batch, index: int) -> str:
        return f"{self.file.line} {int(batch.lines[index]):,}"

    def _must_be_spans(self, batch: Batch) -> None:
        last = len(self.text.ends) - 1
        for index in np.flatnonzero((batch.documents < 0) | (batch.documents > last))[:1]:
            raise self._no_document(batch, int(index), last)
        for index in np.flatnonzero((batch.starts < 0) | (batch.ends < batch.starts) | (batch.ends > FARTHEST))[:1]:
            span = f"start_byte {int(batch.starts[index]):,}, end_byte {int(batch.ends[index]):,}"
            problem = f"{self._at(batch, index)}: {span}"
            raise UserError(self.path, problem, "0 or more, and the end not before the start")

    def _no_document(self, batch: Batch, index: int, last: int) -> UserError:
        document = int(batch.documents[index])
        problem = f"{self._at(batch, index)}: document {document:,}"
        allowed = f"the text has the documents 0 to {last:,}" if last else "the text is read as one document, 0"
        from_one = document == last + 1 and last > 0 and self.first[0] < 0 and 0 not in batch.documents[:index]
        remedy = "count documents from 0" if from_one else ""
        if not last:
            remedy = "say how the text separates its documents: documents: lines of the corpus, or --documents lines"
        return UserError(self.path, problem, allowed, remedy)

    def _note_faults(self, batch: Batch, starts: np.ndarray, expected: np.ndarray) -> None:
        wrong = np.flatnonzero(starts != expected)
        self.fault_count += len(wrong)
        for index in wrong[: MOST - len(self.faults)].tolist():
            line, document = int(batch.lines[index]), int(batch.documents[index])
            self.faults.append(Fault(line, self.count + index, document, int(expected[index]), int(starts[index])))

    def scores(self) -> Scores:
        """All spans as scores; raises UserError where they do not cover the text, or are means."""
        if not self.count:
            raise UserError(self.path, "holds no scores", "a log-probability for each token of the text")
        if self.position != self.text.size:
            self.fault_count += 1
            if self.position < self.text.size and len(self.faults) < MOST:
                last = len(self.text.ends) - 1
                self.faults.append(Fault(0, self.count, last, self.position, self.text.size))
        ends = np.concatenate(self.ends)
        coverage = Coverage(self.text, self.faults, self.fault_count, self.first, self.reach, ends)
        if problem := problem_of(coverage, self.file.line):
            raise UserError(self.path, *problem)
        lengths = np.diff(ends, prepend=0)
        log_probs = np.concatenate(self.log_probs)
        self._must_be_sums(log_probs)
        documents = np.concatenate(self.documents)
        return Scores(log_probs, lengths.astype(np.uint32), documents, self.text.characters, PROTOCOL)

    def _must_be_sums(self, log_probs: np.ndarray) -> None:
        """Raises UserError for spans of many tokens whose numbers are those of one: means, not sums."""
        per_span, nats = self.text.size / self.count, -float(log_probs.mean())
        bits = nats / math.log(2) / per_span
        if per_span < LONG_SPAN or nats > SHORT_NATS or bits > FEW_BITS:
            return
        problem = f"a span covers {per_span:,.0f} bytes on average and costs {nats:.3g} nats, {bits:.2g} bits per byte"
        cause = "so little is the mean of a window's or line's tokens, not their sum"
        remedy = "write each token by itself, or multiply each mean by the number of its tokens"
        raise UserError(self.path, f"{problem}: {cause}", "the log-probability of all bytes of a span", remedy)


def must_be_probabilities(path: Path, line: str, batch: Batch, log_probs: np.ndarray) -> None:
    """Raises UserError for NaN and for a probability above one; ``log_probs`` (n,) are in nats."""
    allowed = "a log-probability is at most 0"
    for index in np.flatnonzero(np.isnan(log_probs))[:1]:
        raise UserError(path, f"{line} {int(batch.lines[index]):,}: log_prob is NaN", allowed)
    for index in np.flatnonzero(log_probs > ROUNDING)[:1]:
        value, positive = batch.log_probs[index], int((log_probs > 0).sum())
        problem = f"{line} {int(batch.lines[index]):,}: log_prob is {value:g}, a probability above one"
        if 2 * positive > len(log_probs):
            problem += f"; {positive:,} of the {len(log_probs):,} numbers here are positive"
        raise UserError(path, problem, allowed, _why_positive(log_probs, positive / len(log_probs)))


def _why_positive(log_probs: np.ndarray, positive: float) -> str:
    if positive <= 0.5:
        return ""
    if ((log_probs >= 0) & (log_probs <= 1)).all():
        return "are they probabilities? write their logarithms; or losses? write them with a minus sign"
    return "they are losses (negative log-likelihoods): write them with a minus sign"


# ---------------------------------------------------------------- as a job


def audit_scores(
    section: Mapping[str, Any], text: Path, out: Path, made: artifacts.Made, content: str = "", name: str = ""
) -> int:
    """Write ``reported.json`` and ``scores.safetensors``, and return the number of tokens.

    ``content`` is the hash that the file must have, if any; ``name`` what messages call the text.
    """
    chosen, split = from_section(ReportedScores, section["scores"]), section["split"]
    path = Path(chosen.path)
    with HeldOut.open(text, split, name) as held_out:
        result = audited(path, held_out, chosen.unit)
    if content and contents.combined({path.name: result.sha256}) != content:
        remedy = f"start {STARTER} again, which makes anew what changed"
        raise UserError(path, "changed since the run began", "a file of scores stays as it is during a run", remedy)
    score_files.save_scores(out / "scores.safetensors", {split: result.scores}, made, exact=True)
    facts = {"status": "ok", "form": result.form, "unit": result.unit, "sha256": result.sha256}
    artifacts.save_json(out / "reported.json", {**_given(chosen), **facts}, made)
    return len(result.scores.log_probs)


def save_failure(section: Mapping[str, Any], out: Path, error: UserError, made: artifacts.Made) -> None:
    """The files of scores that cannot be used; their row of the report gives the reason."""
    chosen = from_section(ReportedScores, section["scores"])
    score_files.save_scores(out / "scores.safetensors", {}, made)
    artifacts.save_json(out / "reported.json", {**_given(chosen), "status": f"failed: {error}"}, made)


def _given(chosen: ReportedScores) -> dict[str, Any]:
    given = {"path": chosen.path, "title": chosen.title, "source": chosen.source, "unit": chosen.unit}
    return {key: value for key, value in given.items() if value is not None}


def unusable(scores: Iterable[tuple[str, ReportedScores, Path | None, str]]) -> list[str]:
    """A sentence for every file whose row will fail: entries (name, record, folder with its text, split).

    Where the text is not there yet, as before the first run, only what a file says of itself is read.
    """
    sentences = []
    for name, chosen, folder, split in scores:
        try:
            _must_be_usable(chosen, folder, split)
        except UserError as error:
            sentences.append(f"scores.{name} will fail: {error}")
    return sentences


def _must_be_usable(chosen: ReportedScores, folder: Path | None, split: str) -> None:
    path = Path(chosen.path)
    if folder is not None and path.stat().st_size <= LARGEST:
        with HeldOut.open(folder, split) as text:
            audited(path, text, chosen.unit)
        return
    with opened(path, None) as file:
        nats = NATS[unit_of(path, file.unit, chosen.unit)]
        for batch in islice(file.batches, 0 if file.form == "columns" else 1):
            must_be_probabilities(path, file.line, batch, batch.log_probs * nats)
