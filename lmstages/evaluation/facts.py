"""What the JSON files of an experiment hold, and those of the rows that no model made, as shapes.

    fit.json                  Fit                  written by fitting, deriving, mixing, scoring a checkpoint
    evaluation.json           Evaluation
    quantization_error.json   QuantizationError
    oracle/oracle.json        Oracle
    compressors.json          Compressors
    reported/NAME/reported.json    Reported
    infill.json               Infill               of an experiment, and of the oracle

A model that failed has its status alone: ``failed: why``.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lmstages.core import artifacts
from lmstages.core.shapes import Count, Fraction, NotNegative, Number, Shape, Split

CHARACTERS = "characters"  # what a gap covers that is no whole word or sentence
Status = Annotated[str, Field(pattern=r"^(ok$|failed: )")]


class WithStatus(Shape):
    """Facts that are complete where ``status`` is ok."""

    status: Status

    def must_have(self, *names: str) -> None:
        """Raises ValueError where the status is ok and a fact was not given."""
        if self.status == "ok" and (lacking := [name for name in names if name not in self.model_fields_set]):
            raise ValueError(f"lacks {', '.join(lacking)}")


class CurvePoint(Shape):
    """A point of a learning curve."""

    step: Count
    tokens: Count
    train: Number
    valid: Number | None
    learning_rate: Number


class Fit(WithStatus):
    """Facts of a fit, of a mixture, or of a checkpoint."""

    type: str = ""
    hyperparameters: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    parameters: Count = 0
    free_weights: Count = 0
    tokens_seen: Count | None = None
    flops: NotNegative | None = None
    fit_seconds: NotNegative = 0
    curve: list[CurvePoint] = []
    device: str = ""
    precision: str = ""
    machines: list[str] = []
    threads: Count = 1
    vocab_size: Count = 0
    environment: dict[str, str] = {}
    mixture: dict[str, Number] = {}
    valid: dict[str, Any] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.must_have("parameters", "tokens_seen", "fit_seconds", "device", "threads", "vocab_size")
        if (of := self.hyperparameters.get("of")) is not None and not is_name_or_names(of):
            raise ValueError("hyperparameters.of names no models")
        return self


def is_name_or_names(value: Any) -> bool:
    """Whether a value names the model, or the models, that something was made from."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def load_fit(folder: Path, needs: Collection[str] = ()) -> dict[str, Any]:
    """``fit.json`` of an experiment; a UserError where it is not of the model, or of the scores, beside it."""
    path = folder / "fit.json"
    facts: dict[str, Any] = artifacts.load_json(path, Fit, needs)
    beside = (folder / name for name in ("model.safetensors", "scores.safetensors"))
    artifacts.must_be_of_one_call(path, *[file for file in beside if file.is_file()][:1])
    return facts


class Sample(Shape):
    """A sampled text."""

    temperature: NotNegative
    text: str


class Passage(Shape):
    """The beginning of a held-out text: pieces [text, nats or None]."""

    split: Split
    pieces: list[tuple[str, Number | None]]


class Evaluation(WithStatus):
    """What scoring gave beside the scores; ``status`` is that of the fit, or why it could not be scored."""

    status: Status = "ok"
    guessing: dict[Split, Number] = {}
    score_seconds: dict[Split, NotNegative] = {}
    samples: list[Sample] = []
    passage: Passage | None = None


class QuantizationErrorOfSplit(Shape):
    """Size and error of a derived model."""

    of: str
    bits_per_weight: NotNegative
    file_bytes: Count
    kl: Number
    top1: Fraction


QuantizationError = Annotated[dict[Split, QuantizationErrorOfSplit], Field(min_length=1)]


class Oracle(Shape):
    """The entropy of an embedded text's grammar."""

    expected_bits_per_byte: NotNegative


class CompressedSizes(Shape):
    """Sizes in bytes under one compressor."""

    alone: Count
    given_train: Annotated[int, Field(gt=-(1 << 53), lt=1 << 53)]
    setting: str
    sees: str


class InfilledSide(WithStatus):
    """How gaps of one length were filled: both sides known and the length told or not, or the left side alone.

    ``reads`` tokens of the right side. ``length``: characters, or ``word`` or ``sentence``.
    """

    side: Literal["both", "left", "any length"]
    length: Count | Literal["word", "sentence"]
    method: Literal["lattice", "bayes", "own", "left", "oracle"]
    reads: Count | None


class Fill(Shape):
    """A gap as the report shows it: its sides, what it holds, the best fill, nats of each hidden character."""

    place: Count
    gap: Literal["characters", "word", "sentence"]
    length: Count
    left: str
    middle: str
    right: str
    side: Literal["both", "left"]
    fill: str
    probability: Annotated[float, Field(ge=0, le=1.000001)]
    nats: list[Number | None]


class Infill(WithStatus):
    """Where gaps were, how they were filled, and some of them."""

    split: Split = "test"
    context: Count = 0
    documents: Count = 0
    too_short: Count = 0
    places: Count = 0
    sides: list[InfilledSide] = []
    fills: list[Fill] = []

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.must_have("split", "context", "documents", "too_short", "places", "sides", "fills")
        return self


class Reported(WithStatus):
    """A file of scores made elsewhere: what the user says of it, and what it is."""

    path: str = ""
    title: str = ""
    source: str = ""
    form: str = ""
    unit: str = ""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.must_have("path", "form", "unit", "sha256")
        return self


Compressors = dict[Split, dict[str, CompressedSizes]]
