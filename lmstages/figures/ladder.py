"""The ladder at a glance: bits per byte, a line for each model, read downwards from guessing.

Error bars are 95 % intervals of the test text where there are any, else one standard deviation over seeds.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmstages.figures.drawing import INK, Drawing, canvas, draw_line, logarithmic, look, settings
from lmstages.figures.rows import Oracle, Row, floor, in_bits_per_byte, named, names_in_order, scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXIS = "bits per byte of text (lower is better)"


def ladder(rows: Sequence[Row], oracle: Oracle) -> Drawing | None:
    """Rows of one held-out text and its oracle {split: {bits_per_byte}} -> the drawing; None for no number.

    One line per tokenizer, and per class where it is not static.
    """
    drawn = scored(rows)
    if not drawn:
        return None
    names = names_in_order(drawn)
    with settings():
        figure, axes = canvas(6.6, 1.8 + 0.23 * len(names), title(rows), grid="both")
        for place, (label, line) in enumerate(_lines(drawn).items()):
            draw_line(axes, place, label, [(names.index(named(row)), row) for row in line], across=True)
        _draw_published(axes, drawn, names)
        _draw_floor(axes, floor(rows, oracle))
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(AXIS)
        axes.set_xlim(left=0)
        figure.legend(loc="outside lower center", ncols=3)
        return Drawing(title(rows), sentence(rows, oracle), figure)


def title(rows: Sequence[Row]) -> str:
    """What stands above the ladder."""
    splits = ", ".join(dict.fromkeys(row["split"] for row in rows))
    return f"The ladder on {rows[0]['corpus']}, {splits}" if rows else "The ladder"


def sentence(rows: Sequence[Row], oracle: Oracle) -> str:
    """What to see in the ladder, with its own numbers."""
    drawn = scored(rows)
    if not drawn:
        return ""
    static = [row for row in drawn if row["category"] == "static"] or drawn
    worst, best = (pick(static, key=lambda row: row["bits_per_byte"]) for pick in (max, min))
    fall = f"from {worst['bits_per_byte']:.2f} ({worst['title']}) to {best['bits_per_byte']:.2f} ({best['title']})"
    return f"Every line further down adds one idea; follow the marks to the left, {fall}.{_ground(rows, oracle)}"


def _ground(rows: Sequence[Row], oracle: Oracle) -> str:
    lowest = floor(rows, oracle)
    if lowest is None:
        return ""
    name, bits = lowest
    means = "the entropy of the text itself" if name == "oracle" else f"what the best compressor needs, {name}"
    return f" The dashed line at {bits:.2f} is {means}."


def _lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by tokenizer; by class where it is not static, and by split where there are several."""
    several = len({row["split"] for row in rows}) > 1
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["rank"]):
        label = f"tokens: {row['tokenizer']}" + (f", {row['split']}" if several else "")
        label += "" if row["category"] == "static" else f", {row['class']}"
        lines.setdefault(label, []).append(row)
    return dict(sorted(lines.items()))


def _draw_published(axes: "Axes", rows: Sequence[Row], names: Sequence[str]) -> None:
    """A cross for every figure that somebody printed and that can be put on this axis."""
    marks = [
        (bits, names.index(named(row)))
        for row in rows
        for figure in row["published"]
        if (bits := in_bits_per_byte(figure, row)) is not None
    ]
    if marks:
        x, y = zip(*marks, strict=True)
        axes.plot(x, y, "x", color=INK, markersize=7, markeredgewidth=1.3, label="published", zorder=5)


def _draw_floor(axes: "Axes", lowest: tuple[str, float] | None) -> None:
    if lowest is not None:
        name, bits = lowest
        axes.axvline(bits, color=INK, linewidth=1.1, linestyle=(0, (5, 3)), label=f"{name}, {bits:.2f}")


COSTS: Mapping[str, tuple[str, str]] = {
    "parameters": ("parameters", "Bits against parameters"),
    "flops": ("floating-point operations of the fit", "Bits against compute"),
    "fit_seconds": ("seconds of the fit", "Bits against fit time"),
}
FAMILIES = ("counts", "neural")


def fronts(rows: Sequence[Row], oracle: Oracle) -> dict[str, Drawing]:
    """Rows of one held-out text -> bits per byte over each cost that at least two rows have, Pareto front drawn."""
    drawn = {cost: [row for row in scored(rows) if (row.get(cost) or 0) > 0] for cost in COSTS}
    return {cost: _front(cost, known, rows, oracle) for cost, known in drawn.items() if len(known) > 1}


def _front(cost: str, known: Sequence[Row], rows: Sequence[Row], oracle: Oracle) -> Drawing:
    axis, heading = COSTS[cost]
    best = pareto([(row[cost], row["bits_per_byte"]) for row in known])
    with settings():
        figure, axes = canvas(4.6, 3.7, f"{heading}, {rows[0]['corpus']}", grid="both")
        logarithmic(axes.xaxis)
        families = list(dict.fromkeys([*FAMILIES, *(row["family"] for row in known)]))
        for place, family in enumerate(families):
            kin = [row for row in known if row["family"] == family]
            if kin:
                how = {**look(place), "linestyle": ""}
                axes.plot([row[cost] for row in kin], [row["bits_per_byte"] for row in kin], **how, label=family)
        line = [known[place] for place in best]
        x, y = [row[cost] for row in line], [row["bits_per_byte"] for row in line]
        axes.step(x, y, where="post", color=INK, linewidth=1, alpha=0.7, label="Pareto front", zorder=1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"{axis} (log scale)")
        axes.set_ylabel("bits per byte")
        axes.margins(x=0.12)
        _draw_level(axes, floor(rows, oracle))
        _label(axes, [(row[cost], row["bits_per_byte"], named(row)) for row in _marked(known, best)])
        figure.legend(loc="outside lower center", ncols=4, fontsize=7)
        left = [row["title"] for row in scored(rows) if row not in known]
        return Drawing(f"{heading}, {rows[0]['corpus']}", _front_sentence(axis, line, left), figure)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """(cost, bits) -> which no other point beats in both, by rising cost."""
    found: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: points[place]):
        if not found or points[place][1] < points[found[-1]][1]:
            found.append(place)
    return found


def _marked(known: Sequence[Row], best: Sequence[int]) -> list[Row]:
    """Those on the front, then the others: where names would lie upon each other, the first come first."""
    return [*(known[place] for place in best), *(row for place, row in enumerate(known) if place not in best)]


def _draw_level(axes: "Axes", lowest: tuple[str, float] | None) -> None:
    if lowest is not None:
        axes.axhline(lowest[1], color=INK, linewidth=1, linestyle=(0, (5, 3)), label=lowest[0])


SIDES = ((6, 4, "left"), (6, -9, "left"), (-6, 4, "right"), (-6, -9, "right"))


def _label(axes: "Axes", points: Sequence[tuple[float, float, str]]) -> None:
    """A name beside each point, wherever there is room for one."""
    axes.figure.canvas.figure.draw_without_rendering()
    frame = axes.get_window_extent()
    unit = axes.figure.dpi / 72  # pixels a point
    places = [tuple(axes.transData.transform((x, y))) for x, y, _ in points]
    taken = [(across - 3 * unit, up - 3 * unit, across + 3 * unit, up + 3 * unit) for across, up in places]
    for (x, y, name), (across, up) in zip(points, places, strict=True):
        width = 3.9 * len(name) * unit
        for right, above, side in SIDES:
            left = across + right * unit - (width if side == "right" else 0)
            box = (left, up + above * unit, left + width, up + (above + 7) * unit)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(name, (x, y), (right, above), textcoords="offset points", ha=side, fontsize=6.8)
                break


def _overlap(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def _front_sentence(axis: str, line: Sequence[Row], left: Sequence[str]) -> str:
    """Who is on the front, and who has no place on a logarithmic axis."""
    names = ", ".join(dict.fromkeys(row["title"] for row in line))
    without = f" Without {axis}, and so not drawn: {', '.join(dict.fromkeys(left))}." if left else ""
    return f"On the line, nobody is better for less: {names}. Above it something cheaper predicts as well.{without}"
