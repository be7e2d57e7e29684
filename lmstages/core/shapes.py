"""What a JSON file of a run must hold, as types: no other key, no conversion, no number without bounds.

A file whose hash is right can still be of another version, or written by hand: it is refused here, by name, and not
where its content is used. Each shape stands with the code that writes its file.
"""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Split = Literal["train", "valid", "test"]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Number = Annotated[float, Field(ge=-1e100, le=1e100)]
NotNegative = Annotated[float, Field(ge=0, le=1e100)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Shape(BaseModel):
    """An object with these keys and no others; one with a default may be missing."""

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )


def problem_of(shape: Any, content: bytes) -> str | None:
    """Where JSON is not of a shape, and why, as ``test.bytes: Input should be a valid integer``; None where it is."""
    try:
        _adapter(shape).validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        position = ".".join(map(str, first["loc"]))[:200]
        return f"{position or 'its content'}: {first['msg'][:200]}"
    return None


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    is_record = isinstance(shape, type) and issubclass(shape, BaseModel)
    return TypeAdapter(shape, config=None if is_record else ConfigDict(strict=True, allow_inf_nan=False))
