"""Base class of the hyperparameter records: a model's name, the class that fits it, its context and its category.

A record holds what defines a fitted model and nothing about how it is scored or where it runs, so that an edit of a
record re-fits exactly the models it changes. Knows nothing of tokens, arrays or files.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

Positive = Annotated[int, Field(ge=1, le=1 << 40)]


Width = Annotated[int, Field(ge=1, le=1 << 17)]  # numbers of a vector; also the tokens of a window


Layers = Annotated[int, Field(ge=1, le=1 << 12)]  # also heads


Seed = Annotated[int, Field(ge=0, lt=1 << 63)]  # what every generator of random numbers takes


Rate = Annotated[float, Field(gt=0, le=1e4)]


Optimizer = Literal["adamw", "sgd", "muon"]


Schedule = Literal["constant", "cosine", "linear", "step", "stable"]


Category = Literal["static", "online", "bound", "compressor", "pretrained"]


FOR_READERS = ("name", "title", "after", "source", "formula")  # constants of a model's record that no fit depends on


class Record(BaseModel):
    """A part of the config: unknown keys are refused, nothing is converted silently, nothing changes afterwards.

    NaN and infinities are refused.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        defer_build=True,  # a job checks few of all records, and a checker takes longer to build than to use
    )

    def __init_subclass__(cls, **options: Any) -> None:
        """A key for which a subclass gives another default keeps its description."""
        super().__init_subclass__(**options)
        inherited: dict[str, FieldInfo] = getattr(cls.__base__, "model_fields", {})
        for name in inherited.keys() & vars(cls).keys():
            if not isinstance(default := vars(cls)[name], FieldInfo):
                setattr(cls, name, Field(default, description=inherited[name].description))

    def properties(self) -> dict[str, Any]:
        """What code derives from the keys, as JSON: every property and every constant that a result depends on."""
        records = [record for record in type(self).__mro__ if issubclass(record, Record)]
        names = {name for record in records for name, member in vars(record).items() if isinstance(member, property)}
        names |= {name for record in records for name in record.__class_vars__ if hasattr(self, name)}
        return {name: to_jsonable_python(getattr(self, name)) for name in sorted(names.difference(FOR_READERS))}


class ModelConfig(Record):
    """Hyperparameters of one model; ``module`` and ``model`` name the class that fits it; ``source`` cites it.

    ``content`` is the hash of the code of a model of one's own, which models of the ladder do not have.
    ``after`` names the model behind which it stands on the ladder, None for the first. ``formula`` is what the
    documentation prints: equations in LaTeX between two dollar signs on either side, words and $h$ between them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    after: ClassVar[str | None]
    module: ClassVar[str]
    model: ClassVar[str]
    source: ClassVar[str]
    formula: ClassVar[str]
    family: ClassVar[Literal["counts", "neural"]]
    content: ClassVar[str]
    protocol: ClassVar[Literal["stream", "stride"]] = "stream"  # the default; a config may choose another
    is_bound: ClassVar[bool] = False  # its only row is an upper bound: it gives no probabilities of the next token

    @property
    def context(self) -> int | None:
        """Maximum number of earlier tokens that a prediction may use; None for all of them."""
        raise NotImplementedError

    @property
    def category(self) -> Category:
        """The category of rows that this model is ranked within."""
        return "bound" if self.is_bound else "static"

    @property
    def fitted_by(self) -> str:
        """Name of the class in ``module`` that fits this record."""
        return self.model


class Derived(ModelConfig):
    """A model made from a fitted one without further training; ``of`` is that model's name in the config.

    ``base`` is the record of that model; the config reader fills it in.
    """

    family = "neural"
    of: str
    base: ModelConfig | None

    @property
    def context(self) -> int | None:
        """The context of the model that it is made from."""
        return self.base.context if self.base else None

    @property
    def bottom(self) -> ModelConfig:
        """The record of the model that was trained."""
        assert self.base is not None, "the config reader fills it in"
        return self.base


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A single value or a list of values, as a tuple."""
    return tuple(value) if isinstance(value, list) else (value,)
