"""The figures of a run as a page embeds them: SVG files and their captions, read from ``figures/index.json``.

A figure is found by its name and by the group it was drawn of, such as {corpus: fables, split: test}, so that a new
figure appears in the page without an edit of the page. Draws nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from lmstages.core import artifacts
from lmstages.core.visible import visible

NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'  # an address, which an SVG inside a page does not need


@dataclass(frozen=True)
class EmbeddedFigure:
    """A drawn figure, which group of rows it shows, and the caption under it."""

    name: str
    group: Mapping[str, str]
    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Figures:
    """All figures of a run, in the order of its index."""

    drawn: Sequence[EmbeddedFigure] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> "Figures":
        """The figures that ``lmstages figures`` wrote below ``folder``."""
        index = artifacts.load_json(folder / "index.json")
        return cls([_embedded(folder, record) for record in index])

    def of(self, *names: str, **group: str) -> list[EmbeddedFigure]:
        """Figures of these names, in this order, whose group has these values."""
        return [figure for name in names for figure in self.drawn if figure.name == name and _within(figure, group)]

    def besides(self, names: Sequence[str], **group: str) -> list[EmbeddedFigure]:
        """Figures of all other names whose group has these values."""
        return [figure for figure in self.drawn if figure.name not in names and _within(figure, group)]


def _within(figure: EmbeddedFigure, group: Mapping[str, str]) -> bool:
    return all(figure.group.get(key) == value for key, value in group.items())


def _embedded(folder: Path, record: Mapping[str, object]) -> EmbeddedFigure:
    svg = artifacts.verified(folder / str(record["svg"])).read_text("utf-8").replace(NAMESPACE, "", 1)
    group = record["group"]
    assert isinstance(group, Mapping), "the group of a figure is a mapping of column to value"
    name, title, caption = (visible(str(record[key])) for key in ("figure", "title", "caption"))
    markup = Markup(svg)  # noqa: S704 - made and escaped by figures, its sha256 verified
    return EmbeddedFigure(name, {key: str(value) for key, value in group.items()}, title, caption, markup)
