"""Rows of the results as figures read them: what they are called, which have a score, which is the best, the floor.

Imports no matplotlib.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lmstages.config.ladder import MODEL_TYPES
from lmstages.results.schema import NOT_ON_THE_LADDER

ONLINE = "_online"  # end of the name of a model that is evaluated online, in the configs of this project


class Floor(NamedTuple):
    """The lowest bits per byte to expect of a text, and whose they are."""

    name: str
    bits: float

    @property
    def meaning(self) -> str:
        """What the level is, in a caption."""
        if self.name == "oracle":
            return "the code length under the text's own source"
        return f"what the best compressor needs, {self.name}"


def models_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that take a place on the ladder, from guessing up; oracle and compressors left out."""
    return up_the_ladder(frame[~frame["family"].isin(NOT_ON_THE_LADDER)])


def up_the_ladder(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by rank, those of one rank by the model's name."""
    keys = [column for column in ("rank", "model", "tokenizer") if column in frame]
    return frame.sort_values(keys, kind="stable").reset_index(drop=True)


def with_score(frame: pd.DataFrame, column: str = "bits_per_byte") -> pd.DataFrame:
    """Rows that have a finite number in a column."""
    return frame[np.isfinite(as_floats(frame[column]))].reset_index(drop=True)


def as_floats(values: pd.Series) -> np.ndarray:
    """A column as numpy floats, NaN where it is empty."""
    return values.to_numpy(dtype=float, na_value=np.nan)


def floor(frame: pd.DataFrame) -> Floor | None:
    """The oracle's bits per byte where the source is known, else those of the best compressor; None for neither."""
    oracle = with_score(frame[frame["family"] == "oracle"])
    if len(oracle):
        return Floor("oracle", float(oracle["bits_per_byte"].iloc[0]))
    sizes = with_score(frame[frame["family"] == "compressor"])
    if not len(sizes):
        return None
    best = sizes.iloc[int(np.argmin(as_floats(sizes["bits_per_byte"])))]
    return Floor(str(best["title"]), float(best["bits_per_byte"]))


def names(frame: pd.DataFrame) -> pd.Series:
    """The title of every row's model, with the model's own name where it has one: ``GPT (gpt-wide)``.

    A type that learns from what it has scored is ``PPM-D, online``. Two models never share a name, whatever their
    titles are.
    """
    title, model = frame["title"], frame["model"]
    with_model = title + " (" + model + ")"
    name = title.where(model.isin([*MODEL_TYPES, "oracle"]), with_model)
    online = model.str.endswith(ONLINE) & model.str.removesuffix(ONLINE).isin([*MODEL_TYPES])
    name = name.where(~online, title + ", online")
    shared = pd.DataFrame({"name": name, "model": model}).groupby("name")["model"].transform("nunique") > 1
    return name.where(~shared, with_model)


def names_with_tokenizer(frame: pd.DataFrame) -> pd.Series:
    """``names``, and the tokenizer where the rows have several; what reads bytes has none."""
    has_one = frame["tokenizer"] != "-"
    if frame.loc[has_one, "tokenizer"].nunique() < 2:
        return names(frame)
    return names(frame).where(~has_one, names(frame) + ", " + frame["tokenizer"])


def listed(texts: Iterable[Any], most: int = 8) -> str:
    """``a``, ``a and b``, ``a, b and c``, ``a, b; c and d``; each once, and no more than ``most`` of them."""
    once = list(dict.fromkeys(map(str, texts)))
    between = "; " if any(", " in text for text in once) else ", "
    if len(once) > most:
        return f"{between.join(once[: most - 1])} and {len(once) - most + 1} more"
    return " and ".join(filter(None, [between.join(once[:-1]), *once[-1:]]))


def counted(count: int, word: str) -> str:
    """``1 row``, ``3 rows``."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")
