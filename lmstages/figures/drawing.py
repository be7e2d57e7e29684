"""What all figures share: one look, one way to become SVG, PNG and PDF.

A figure is the same bytes from run to run: no date, no random names. Its SVG has no background, draws its ink
in ``currentColor`` and holds neither style sheet nor script nor address, so that it can stand inside a page
of any colour and under any content security policy. Every text in it is drawn as it is, never as mathematics.

Knows nothing of what is drawn. Unprintable characters are the caller's matter.
"""

import hashlib
import io
import math
import re
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lmstages.figures.rows import Row

INK = "#010203"  # stands for currentColor until the drawing is done
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#8c7a00",
    "#4c9fd6",
    "#7f7f7f",
    "#9467bd",
)  # after Okabe and Ito
MARKERS = "osD^vPX<"
DASHES = ("-", "--", "-.")
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lmstages",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size", "xtick.minor.size", "ytick.minor.size"), 0),
}
DOTS = 160  # of a PNG, per inch
FOR_SHAPING = {"GDEF", "GPOS", "GSUB", "MATH"}  # tables of a font that nothing reads in a PDF: its text is laid out


@dataclass(frozen=True, eq=False)
class Drawing:
    """A drawn figure, its title, and the sentence that says what to see in it."""

    title: str
    sentence: str
    figure: "Figure"

    def svg(self) -> str:
        """As text that stands inside a page or alone."""
        drawing = io.StringIO()
        self._save(drawing, "svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        return _embeddable(drawing.getvalue(), self.title)

    def png(self) -> bytes:
        """On white."""
        drawing = io.BytesIO()
        self._save(drawing, "png", dpi=DOTS, facecolor="white", metadata={"Software": None})
        return drawing.getvalue()

    def pdf(self) -> bytes:
        """For a document; its fonts are cut to what it says."""
        from fontTools.subset import Options

        # matplotlib asks for no more than the default, under which cutting these tables takes most of the time
        Options._drop_tables_default = sorted(FOR_SHAPING.union(Options._drop_tables_default))
        drawing = io.BytesIO()
        self._save(drawing, "pdf", metadata=dict.fromkeys(("CreationDate", "Creator", "Producer")))
        return drawing.getvalue()

    def _save(self, file: Any, kind: str, **how: Any) -> None:
        with settings(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's own font draws the text
            self.figure.savefig(file, format=kind, **how)


def settings() -> AbstractContextManager[None]:
    """The look; every figure is drawn within it."""
    from matplotlib import rc_context

    return rc_context(SETTINGS)


def panels(width: float, height: float, layout: Any = "constrained") -> "Figure":
    """Inches -> an empty sheet; what places its own panels is drawn in half the time."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def canvas(width: float, height: float, title: str, grid: Any = "y") -> tuple["Figure", "Axes"]:
    """Inches -> an empty frame with a grid of fine lines."""
    figure = panels(width, height)
    axes = figure.subplots()
    frame(axes, title, grid)
    return figure, axes


def frame(axes: "Axes", title: str, grid: Any = "y") -> None:
    """Title and grid of one panel."""
    axes.set_title(title, loc="left", fontweight="bold", fontsize=10.5, pad=10)
    axes.grid(axis=grid, color=INK, alpha=0.14, linewidth=0.6)
    axes.spines["left"].set_visible(False)


def look(place: int) -> dict[str, Any]:
    """Colour, mark and dash of the n-th line, so that no two are told apart by colour alone."""
    dash = DASHES[place // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "linestyle": dash}


UNITS = ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (0.0, ""))


def logarithmic(axis: Any) -> None:
    """An axis of decades, written ``0.01``, ``1``, ``10 k``, ``1 M``: never as mathematics."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_major_formatter(lambda value, _: _in_units(value))
    axis.set_minor_formatter(NullFormatter())


def _in_units(value: float) -> str:
    size, unit = next((size, unit) for size, unit in UNITS if value >= size)
    return f"{value / (size or 1):g}{unit}"


def numbers(points: Iterable["Row"], key: str) -> list[float]:
    """NaN, which leaves a gap in a line, where there is no number."""
    return [math.nan if point.get(key) is None else point[key] for point in points]


def draw_line(axes: "Axes", place: int, label: str, steps: Sequence[tuple[float, "Row"]], across: bool = False) -> None:
    """The n-th line, through (place on the axis, row); a bar where there is an interval or a spread over seeds.

    Bits per byte are drawn upwards or, ``across``, to the right.
    """
    places, rows = zip(*steps, strict=True)
    bits, bars = [row["bits_per_byte"] for row in rows], error_bars(rows)
    x, y = (bits, places) if across else (places, bits)
    axes.plot(x, y, **look(place), label=label)
    if bars is not None:
        ends: Any = {"xerr" if across else "yerr": bars}
        axes.errorbar(x, y, **ends, color=look(place)["color"], capsize=2.5, linewidth=1.1, linestyle="")


def error_bars(rows: Sequence["Row"]) -> list[list[float]] | None:
    """Below and above bits per byte: the interval where there is one, else the spread over seeds; None for neither."""
    arms = [_arms(row) for row in rows]
    if all(map(math.isnan, (length for arm in arms for length in arm))):
        return None
    return [list(side) for side in zip(*arms, strict=True)]


def _arms(row: Mapping[str, Any]) -> tuple[float, float]:
    bits, interval = row["bits_per_byte"], row.get("interval")
    if interval and None not in interval:
        return max(0.0, bits - interval[0]), max(0.0, interval[1] - bits)
    spread = row.get("bits_per_byte_std") or math.nan
    return spread, spread


def _embeddable(svg: str, title: str) -> str:
    """matplotlib's SVG -> one that has no style sheet, no style attribute, no clashing name and no address."""
    from markupsafe import escape

    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    box = re.search(r'viewBox="([0-9. ]+)"', svg)
    assert box is not None, "matplotlib gives every drawing a viewBox"
    prefix = "f" + hashlib.sha256(body.encode()).hexdigest()[:8]
    wanted = set(re.findall(r'<[^>]*(?:href="#|url\(#)([^")]+)', body))
    body = re.sub("<[^>]+>", lambda tag: _plain_tag(tag[0], prefix, wanted), body)
    named = f'role="img" aria-label="{escape(title)}" font-family="{FONT}" fill="currentColor"'
    joins = 'stroke-linejoin="round" stroke-linecap="butt"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box[1]}" {named} {joins}>\n{body}</svg>\n'


def _plain_tag(tag: str, prefix: str, wanted: Container[str]) -> str:
    """One tag without style; only names that the drawing points at, and those unlike any other drawing's."""
    tag = re.sub(r' style="([^"]*)"', lambda found: _attributes(found[1]), tag)
    tag = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in wanted else "", tag)
    tag = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", tag)
    return tag.replace("xlink:href=", "href=").replace(INK, "currentColor")


def _attributes(style: str) -> str:
    """``fill: none; stroke: red`` -> `` fill="none" stroke="red"``; the font is the whole drawing's."""
    pairs = [part.split(":", 1) for part in style.split(";") if ":" in part]
    once = {key.strip(): value.strip() for key, value in pairs if key.strip() != "font-family"}  # the last one counts
    return "".join(f' {key}="{value}"' for key, value in once.items())
