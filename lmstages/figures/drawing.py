"""What all figures share: one look, one way to become SVG, PNG and PDF.

A figure is the same bytes from run to run: no date, no random names. Its SVG has no background, draws its ink
in ``currentColor`` and holds neither style sheet nor script nor address, so that it can stand inside a page
of any colour and under any content security policy. Every text in it is drawn as it is, never as mathematics.

Knows no table and no model. Unprintable characters are written out before they come here.
"""

import hashlib
import io
import re
import textwrap
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
)  # after Okabe and Ito (2008), all to be seen on white and on black
POSITIVE, NEGATIVE = "#2b83c6", "#e0702a"  # a pair for signed numbers, the more opaque the larger the number
MARKERS = "osD^vPX<"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (4, 2, 1, 2)), (0, (1, 1.4)))
WIDTH = 5.6  # inches of a figure: 403 points, so that a point is a pixel where a page is 400 pixels wide
SMALL = 7.5  # points of the smallest text
TITLE: Any = {"x": 0.012, "ha": "left", "fontweight": "bold", "fontsize": 10.5}
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
    "legend.fontsize": SMALL,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size", "xtick.minor.size", "ytick.minor.size"), 0),
}
DOTS = 160  # of a PNG, per inch
FOR_SHAPING = {"GDEF", "GPOS", "GSUB", "MATH"}  # tables of a font that nothing reads in a PDF: its text is laid out


@dataclass(frozen=True, eq=False)
class Drawing:
    """A drawn figure, its title, and the sentences that say what to see in it.

    Making one puts the title above the figure and fixes its layout.
    """

    title: str
    caption: str
    figure: "Figure"

    def __post_init__(self) -> None:
        width = int(self.figure.get_figwidth() * 72 / 6.6)  # letters of the bold title, 6.6 points each
        wrapped = textwrap.fill(self.title, width)
        with settings(), _fonts_unknown():
            self.figure.suptitle(wrapped, **TITLE)
            if self.figure.get_layout_engine() is not None:
                self.figure.draw_without_rendering()
                self.figure.set_layout_engine("none")  # the layout is computed once and not again for each format

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Extension and content of each format."""
        yield "svg", self.svg().encode()
        yield "png", self.png()
        yield "pdf", self.pdf()

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

    def _save(self, file: Any, extension: str, **options: Any) -> None:
        with settings(), _fonts_unknown():
            self.figure.savefig(file, format=extension, **options)


def settings() -> AbstractContextManager[None]:
    """The look; every figure is drawn within it."""
    from matplotlib import rc_context

    return rc_context(SETTINGS)


def _fonts_unknown() -> AbstractContextManager[Any]:
    """Silences the warning for glyphs that matplotlib's font lacks: the reader's own font draws the text of an SVG."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def sheet(height: float, width: float = WIDTH, layout: Any = "constrained") -> "Figure":
    """Inches -> an empty sheet; one that places its own panels (layout "none") is drawn in half the time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS, layout=layout)
    figure.suptitle(" ", **TITLE)  # its room is known before labels are placed
    return figure


def canvas(height: float, grid: Any = "y") -> tuple["Figure", "Axes"]:
    """Inches -> a sheet with one empty panel."""
    figure = sheet(height)
    axes = figure.subplots()
    fine_grid(axes, grid)
    return figure, axes


def fine_grid(axes: "Axes", grid: Any = "y", heading: str = "") -> None:
    """Fine lines behind a panel, and a heading above it."""
    axes.grid(axis=grid, color=INK, alpha=0.14, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    if heading:
        axes.set_title(heading, loc="left", fontsize=9)


def look(rank: int) -> dict[str, Any]:
    """Colour, marker and dash of the model at a rank, the same in every figure.

    Neighbours differ in colour; models of one colour differ in marker and dash, so that colour alone tells nothing.
    """
    turn = rank // len(COLOURS)
    marker, dash = MARKERS[(rank + turn) % len(MARKERS)], DASHES[turn % len(DASHES)]
    return {"color": COLOURS[rank % len(COLOURS)], "marker": marker, "linestyle": dash}


UNITS = ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (0.0, ""))


def in_units(value: float) -> str:
    """``0.01``, ``100``, ``10 k``, ``1.5 M``."""
    size, unit = next((size, unit) for size, unit in UNITS if value >= size)
    return f"{value / (size or 1):.4g}{unit}"


def bits_axis(axis: Any, values: Iterable[float]) -> str:
    """An axis from the least to the largest number, logarithmic where all are above zero -> what to write beside it."""
    finite = np.array([value for value in values if np.isfinite(value)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low <= 0:
        room = 0.06 * (high - low) or 1.0
        axis.axes.set(**{f"{axis.axis_name}lim": (low - room, high + room)})
        return "lower is better"
    logarithmic_between(axis, low, high, 0.05)
    return "log scale, lower is better"


def logarithmic_between(axis: Any, low: float, high: float, room: float) -> None:
    """A logarithmic axis from the least to the largest number, with ``room`` (a fraction of it) at both ends.

    It has three ticks or more, at round numbers, written ``0.01``, ``10 k``, ``1 M``.
    """
    factor = (high / low) ** room * 1.005
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low / factor, high * factor)})
    _ticks_between(axis, low / factor, high * factor)


def _ticks_between(axis: Any, low: float, high: float) -> None:
    """Three ticks or more on a logarithmic axis, at round numbers of the coarsest steps that give so many."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) > 3:
            break
    else:
        ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    axis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // 8)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: in_units(value))


def linear(axis: Any, low: float, high: float) -> None:
    """An axis of equal steps from ``low`` to ``high``, with a little room at both ends."""
    from matplotlib.ticker import MaxNLocator

    room = 0.045 * (high - low) or 0.5
    axis.axes.set(**{f"{axis.axis_name}lim": (low - room, high + room)})
    axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(lambda value, _: f"{value:.4g}")


def beyond(axes: "Axes", y: float, text: str, on_left: bool = False, **style: Any) -> None:
    """An arrow at an edge of the panel, for a number that lies beyond it, and the number beside the arrow."""
    transform = axes.get_yaxis_transform()
    marker, x, side = ("<", 0.02, "left") if on_left else (">", 0.98, "right")
    axes.plot(x, y, linestyle="", marker=marker, markersize=4, transform=transform, zorder=3, **style)
    where: Any = {"ha": side, "va": "center", "fontsize": 8, "transform": transform}
    axes.text(x + (0.025 if on_left else -0.025), y, text, **where)


def list_models(axes: "Axes", names: Sequence[str]) -> None:
    """One line of the panel for each name, from the top down, and a fine guide for the eye on each."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    fine_grid(axes, "both")


def level(axes: "Axes", value: float, label: str, across: bool = False) -> None:
    """A dashed line at a value, upright where the axis runs from left to right."""
    draw = axes.axvline if across else axes.axhline
    draw(value, color=INK, linewidth=1.0, linestyle=(0, (5, 3)), label=label, zorder=1.5)


def sample_of(marker: str, label: str, color: str = INK, hollow: bool = False) -> Any:
    """An entry of a legend: a marker, and what it stands for."""
    from matplotlib.lines import Line2D

    fill = "none" if hollow else color
    return Line2D([], [], linestyle="", marker=marker, color=color, markerfacecolor=fill, label=label)


def legend_below(figure: Any, handles: Sequence[Any], columns: int = 3) -> None:
    """One legend for all panels, each label once."""
    once = {handle.get_label(): handle for handle in handles}
    if once:
        figure.legend(handles=list(once.values()), loc="outside lower center", ncols=min(columns, len(once)))


# ---------------------------------------------------------------- matrices


def shades(axes: "Axes", values: np.ndarray) -> None:
    """(K, L) numbers of -1 to 1 -> fields: one hue above zero, another below, as opaque as the number is large.

    Zero is the paper, be that light or dark. One image and not K x L paths, which would be a hundred times the bytes.
    """
    from matplotlib.colors import to_rgb

    fields = np.empty((*values.shape, 4))
    fields[..., :3] = np.where((values < 0)[..., None], to_rgb(NEGATIVE), to_rgb(POSITIVE))
    fields[..., 3] = np.clip(np.abs(np.nan_to_num(values)), 0, 1)
    axes.imshow(fields, interpolation="none", aspect="equal")
    for spine in axes.spines.values():
        spine.set(visible=True, alpha=0.4)


def label_fields(axes: "Axes", columns: Sequence[str], rows: Sequence[str], size: float = SMALL) -> None:
    """Labels of the fields of a matrix; where there are many, every second one stands one line further out."""
    for axis, labels in ((axes.xaxis, columns), (axes.yaxis, rows)):
        step = 2 if len(labels) > 36 else 1
        axis.set_ticks(range(0, len(labels), step), labels[::step], fontsize=size)
        axis.set_tick_params(pad=1)
        if step > 1:
            axis.set_ticks(range(1, len(labels), step), labels[1::step], fontsize=size, minor=True)
            axis.set_tick_params(which="minor", pad=9)
    if max(map(len, columns), default=0) > 2:
        axes.tick_params(axis="x", which="both", labelrotation=90)


def room_for(labels: Sequence[str]) -> float:
    """Inches that the longest of some small labels takes, at most two fifths of a sheet."""
    return min(0.4 * WIDTH, max(map(width_of, labels), default=0) / 72 + 0.04)


def width_of(text: str) -> float:
    """Points that a small text takes, about: capitals and wide letters of other scripts count more."""
    return 2 + SMALL * sum(1.0 if not letter.isascii() else 0.72 if letter.isupper() else 0.62 for letter in text)


# ---------------------------------------------------------------- labels beside points

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels
DISTANCES = (5.0, 9.0, 14.0, 20.0, 28.0, 38.0, 50.0, 64.0, 80.0, 100.0)  # points from a marker to its label
TRIES = 24  # orders in which labels choose their places
ANGLES = np.deg2rad([0, 180, *(turn * a for a in (15, 30, 45, 60, 75) for turn in (1, -1)), 90, -90])
ANGLES = np.concatenate([ANGLES[:2], *([a, np.pi - a] for a in ANGLES[2:-2]), ANGLES[-2:]])  # to the right, to the left


def label_points(axes: "Axes", points: Sequence[tuple[float, float, str]], lines: Sequence[Any] = ()) -> bool:
    """A label beside each point, none upon another, a marker or a line; False, and none drawn, where there is no room.

    The limits of the axes must be final. A label away from its point has a fine line to it, which crosses no other
    label and, where there is room for that, no other point. None is as near to another point as to its own, unless a
    line says whose it is.
    """
    _lay_out(axes)
    unit = axes.figure.dpi / 72  # pixels a point
    centres: Any = [axes.transData.transform(point[:2]) for point in points]
    obstacles = [box for line in lines for box in _boxes(line)]
    texts = [text for _, _, text in points]
    frame = axes.get_window_extent().extents
    for strictness in (2, 1, 0):
        order = [*range(len(points))]
        for _ in range(TRIES):
            offsets = _offsets(frame, centres, texts, obstacles, unit, order, strictness)
            if len(offsets) == len(points):
                for index, (x, y, text) in enumerate(points):
                    _annotate(axes, text, (x, y), offsets[index])
                return True
            without_room = next(index for index in order if index not in offsets)
            order.remove(without_room)
            order.insert(0, without_room)  # it has the first choice of a place when all begin again
    return False


def _offsets(
    frame: Sequence[float],
    centres: Any,
    texts: Sequence[str],
    obstacles: Sequence[Box],
    unit: float,
    order: Sequence[int],
    strictness: int,
) -> dict[int, tuple[float, float]]:
    """Where each label stands, in points from its own point; as many as there was room for before the first without.

    ``strictness``: 2, lines cross no marker; 1, they may; 0, they may cross each other, and labels stand by any marker.
    """
    markers = [_grown((x, y, x, y), 3 * unit) for x, y in centres]
    labels: list[Box] = []
    stems: list[Box] = []  # the fine lines to labels
    offsets: dict[int, tuple[float, float]] = {}
    for index in order:
        others = [box for n, box in enumerate(markers) if n != index]
        near = [_grown(box, 3 * unit) for box in others] if strictness else []
        taken = [*markers, *obstacles, *near, *labels, *stems]
        crossed = labels + (stems if strictness else [])
        crossed += [box for box in others if strictness > 1 and not _overlap(box, markers[index])]
        for offset, box in _candidates(frame, taken, centres[index], texts[index], unit):
            stem = [*_stem(centres[index], offset, unit)]
            if (stem or strictness) and not any(_overlap(piece, other) for piece in stem for other in crossed):
                offsets[index] = offset
                labels.append(box)
                stems += stem
                break
        else:
            return offsets
    return offsets


def _lay_out(axes: "Axes") -> None:
    """Puts the panels of a sheet where they will be."""
    with _fonts_unknown():
        axes.figure.draw_without_rendering()  # type: ignore[union-attr]


def _grown(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _boxes(line: Any) -> Iterator[Box]:
    """The pieces of a drawn line, as narrow boxes."""
    corners = line.get_transform().transform_path(line.get_path()).vertices
    for one, two in pairwise(corners):
        yield from _along(one, two)


def _along(one: Sequence[float], two: Sequence[float]) -> Iterator[Box]:
    """Narrow boxes along a straight line between two points; one box where it is upright or level."""
    (left, bottom), (right, top) = one, two
    pieces = max(1, int(min(abs(right - left), abs(top - bottom)) // 6))
    ends = [*zip(np.linspace(left, right, pieces + 1), np.linspace(bottom, top, pieces + 1), strict=True)]
    for (x, y), (next_x, next_y) in pairwise(ends):
        yield _grown((min(x, next_x), min(y, next_y), max(x, next_x), max(y, next_y)), 2)


def _candidates(
    frame: Sequence[float], taken: Sequence[Box], centre: Sequence[float], text: str, unit: float
) -> Iterator[tuple[tuple[float, float], Box]]:
    """Offsets in points at which a text lies inside the frame and upon nothing, the nearest first, and its box."""
    wide, high = width_of(text), SMALL + 1.5
    for distance, angle in product(DISTANCES, ANGLES):
        across, up = distance * float(np.cos(angle)), distance * float(np.sin(angle))
        before = {"left": 0.0, "center": wide / 2, "right": wide}[_side(across)]
        left, bottom = centre[0] + unit * (across - before), centre[1] + unit * (up - high / 2)
        box = (left, bottom, left + unit * wide, bottom + unit * high)
        inside = frame[0] <= left and box[2] <= frame[2] and frame[1] <= bottom and box[3] <= frame[3]
        if inside and not any(_overlap(box, other) for other in taken):
            yield (across, up), box


def _stem(centre: Sequence[float], offset: tuple[float, float], unit: float) -> Iterator[Box]:
    """Narrow boxes along the fine line from a point to its label, in pixels; none where the label is near."""
    if _is_far(offset):
        end = (centre[0] + unit * offset[0], centre[1] + unit * offset[1])
        start = [a + (b - a) * 4 / np.hypot(*offset) for a, b in zip(centre, end, strict=True)]
        yield from (_grown(box, -1) for box in _along(start, end))


def _is_far(offset: tuple[float, float]) -> bool:
    return float(np.hypot(*offset)) > DISTANCES[1]


def _annotate(axes: "Axes", text: str, point: tuple[float, float], offset: tuple[float, float]) -> None:
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": INK, "alpha": 0.8, "shrinkA": 0, "shrinkB": 2}
    where = {"textcoords": "offset points", "ha": _side(offset[0]), "va": "center", "fontsize": SMALL}
    axes.annotate(text, point, offset, arrowprops=line if _is_far(offset) else None, **where)  # type: ignore[arg-type]


def _side(across: float) -> str:
    """Which end of a text stands where it is put: the left one right of a point, the right one left of it."""
    return "center" if abs(across) < 1e-6 else "left" if across > 0 else "right"


def _overlap(one: Sequence[float], two: Sequence[float]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def label_ends(axes: "Axes", ends: Sequence[tuple[float, float, str, str]]) -> None:
    """(x, y, label, colour) of the ends of lines -> labels right of the panel in the order of the ends.

    None lies upon another. The limits of the axes must be final. A fine line of the end's colour leads to its label.
    """
    _lay_out(axes)
    to_fraction = axes.transData - axes.transAxes
    line_height = (SMALL + 1.5) * axes.figure.dpi / 72 / axes.get_window_extent().height
    ends = sorted(ends, key=lambda end: end[1])
    labels = [textwrap.fill(end[2], 20, break_long_words=False) for end in ends]
    sizes = [line_height * (label.count("\n") + 1) for label in labels]
    heights = spread([float(to_fraction.transform(end[:2])[1]) for end in ends], sizes)
    for (x, y, _, colour), label, height in zip(ends, labels, heights, strict=True):
        line = {"arrowstyle": "-", "linewidth": 0.7, "color": colour, "alpha": 0.8, "shrinkA": 0, "shrinkB": 2}
        where: Any = {"xycoords": "data", "textcoords": "axes fraction", "va": "center", "fontsize": SMALL}
        axes.annotate(label, (x, y), (1.05, height), arrowprops=line, annotation_clip=False, **where)
    _lay_out(axes)  # the panel makes room for the labels


def spread(centres: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Rising centres of labels -> the same, moved as little as may be so that none lies upon another."""
    from scipy.optimize import isotonic_regression

    before = np.cumsum(sizes) - np.array(sizes) / 2  # where the centres are if the labels lie one upon the other
    return [float(value) for value in isotonic_regression(np.array(centres) - before).x + before]


# ---------------------------------------------------------------- embedding in a page


def _embeddable(svg: str, title: str) -> str:
    """matplotlib's SVG -> one that has no style sheet, no style attribute, no clashing name and no address."""
    from markupsafe import escape

    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    box = re.search(r'viewBox="([0-9. ]+)"', svg)
    assert box is not None, "matplotlib gives every drawing a viewBox"
    prefix = "f" + hashlib.sha256(body.encode()).hexdigest()[:8]
    wanted = set(re.findall(r'<[^>]*(?:href="#|url\(#)([^")]+)', body))
    body = _without_bare_groups(re.sub("<[^>]+>", lambda tag: _plain_tag(tag[0], prefix, wanted), body))
    attributes = f'role="img" aria-label="{escape(title)}" font-family="{FONT}" fill="currentColor"'
    joins = 'stroke-linejoin="round" stroke-linecap="butt"'
    *_, width, height = box[1].split()
    size = f'viewBox="{box[1]}" width="{width}pt" height="{height}pt"'  # without them an <img> may have no width
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {attributes} {joins}>\n{body}</svg>\n'


def _plain_tag(tag: str, prefix: str, wanted: Container[str]) -> str:
    """One tag without style; only names that the drawing points at, and those unlike any other drawing's."""
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)  # a text that is not turned
    tag = re.sub(r' style="([^"]*)"', lambda match: _attributes(match[1]), tag)
    tag = re.sub(r' id="([^"]*)"', lambda match: f' id="{prefix}{match[1]}"' if match[1] in wanted else "", tag)
    tag = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", tag)
    tag = re.sub(r'(?<= )(?:d|x|y|transform)="[^"]*"', lambda match: _short(match[0]), tag)
    tag = re.sub(r"(?<=<text ).*?(?= x=)", lambda match: match[0].replace(' fill="currentColor"', ""), tag)
    return tag.replace("xlink:href=", "href=").replace(INK, "currentColor")


def _short(attribute: str) -> str:
    """Numbers of more than two decimals rounded to that, since a point is a pixel on a narrow page; no idle space."""
    rounded = re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), attribute)
    return re.sub(r"\s*([A-Zaz])\s*|\s+(?=\"$)", r"\1", rounded) if rounded.startswith("d=") else rounded


def _without_bare_groups(body: str) -> str:
    """Groups without attributes are taken out, what they hold stays; so do paths that draw nothing, and idle space."""
    body = re.sub(r'<path d="[^"]*" fill="none"/>', "", body)
    kept, pieces = list[bool](), list[str]()
    for piece in re.split(r"(<g(?: [^>]*)?/?>|</g>)", body):
        if piece == "</g>":
            pieces += [piece] if kept.pop() else []
        elif piece.startswith("<g") and not piece.endswith("/>"):
            kept.append(piece != "<g>")
            pieces += [piece] if kept[-1] else []
        elif piece != "<g/>":
            pieces.append(piece)
    return re.sub(r">\s+<", "><", "".join(pieces))


def _attributes(style: str) -> str:
    """``fill: none; stroke: red`` -> `` fill="none" stroke="red"``; the font is the whole drawing's."""
    pairs = [part.split(":", 1) for part in style.split(";") if ":" in part]
    once = {key.strip(): value.strip() for key, value in pairs if key.strip() != "font-family"}  # the last one counts
    return "".join(f' {key}="{value}"' for key, value in once.items())
