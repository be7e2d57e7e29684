"""The figures of the report, as SVG text: the ladder, how its neural rungs learned, what a sweep changes, estimation.

A figure is the same bytes from run to run: no date, no random names. It has no background, draws its ink
in ``currentColor`` and holds neither style sheet nor script nor address, so that it can stand inside a page
of any colour and under any content security policy. Every text in it is drawn as it is, never as mathematics.

Knows rows of a comparison; never a model, a text or a score file. Unprintable characters are the caller's matter.
"""

import hashlib
import io
import math
import re
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from lmstages import estimation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
Oracle = Mapping[str, Any] | None

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
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 0),
}


def ladder_plot(rows: Sequence[Row], oracle: Oracle) -> str:
    """Rows of one corpus and its oracle {split: {bits_per_byte}} -> SVG text: bits per byte, rung by rung.

    One line per tokenizer (and split, if there are several); empty text where no row has a number.
    """
    drawn = scored(rows)
    if not drawn:
        return ""
    names = _rungs_in_order(drawn)
    with _settings():
        figure, axes = _canvas(max(8.4, 1.6 + 0.52 * len(names)), 4.1, ladder_title(rows))
        for place, (label, line) in enumerate(_lines(drawn).items()):
            _draw_line(axes, place, label, [(names.index(named(row)), row) for row in line])
        _draw_published(axes, drawn, names)
        _draw_floor(axes, floor(drawn, oracle))
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_ylabel("bits per byte of text (lower is better)")
        axes.set_ylim(bottom=0)
        axes.set_xlim(-0.4, len(names) - 0.6)
        axes.legend(loc="best")
        return _svg(figure, ladder_title(rows))


def ladder_title(rows: Sequence[Row]) -> str:
    """What stands above the ladder."""
    splits = ", ".join(dict.fromkeys(row["split"] for row in rows))
    return f"The ladder on {rows[0]['corpus']}, {splits}" if rows else "The ladder"


def ladder_sentence(rows: Sequence[Row], oracle: Oracle) -> str:
    """What to see in the ladder, with its own numbers."""
    drawn = scored(rows)
    if not drawn:
        return ""
    static = [row for row in drawn if row["class"] == "static"] or drawn
    worst, best = (pick(static, key=lambda row: row["bits_per_byte"]) for pick in (max, min))
    fall = f"from {worst['bits_per_byte']:.2f} ({worst['title']}) to {best['bits_per_byte']:.2f} ({best['title']})"
    lowest = floor(drawn, oracle)
    ground = "" if lowest is None else f" The dashed floor at {lowest:.2f} is the entropy of the text itself."
    return f"Every step to the right adds one idea; follow the line down, {fall}.{ground}"


def learning_curves(rows: Sequence[Row]) -> str:
    """Rows of one corpus and tokenizer -> SVG text: nats per token over steps, of train and valid.

    Empty text where no row has learned by steps.
    """
    learned = [row for row in rows if row["curve"]]
    if not learned:
        return ""
    with _settings():
        figure, axes = _canvas(5.6, 3.3, curves_title(rows))
        for place, row in enumerate(learned):
            colour = COLOURS[place % len(COLOURS)]
            steps = [point["step"] for point in row["curve"]]
            axes.plot(steps, _numbers(row["curve"], "train"), color=colour, linewidth=1, alpha=0.55, linestyle=":")
            axes.plot(steps, _numbers(row["curve"], "valid"), color=colour, label=named(row))
        axes.plot([], [], color=INK, linewidth=1, alpha=0.55, linestyle=":", label="the same on train")
        axes.set_xlabel("steps of gradient descent")
        axes.set_ylabel("nats per token (lower is better)")
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        axes.legend(loc="best", ncols=1 + len(learned) // 5)
        return _svg(figure, curves_title(rows))


def curves_title(rows: Sequence[Row]) -> str:
    """What stands above the learning curves."""
    return f"Learning on {rows[0]['corpus']}, tokens: {rows[0]['tokenizer']}" if rows else "Learning"


def curves_sentence(rows: Sequence[Row]) -> str:
    """What to see in the learning curves."""
    learned = [row for row in rows if row["curve"]]
    whose = f"{learned[0]['title']} learns" if len(learned) == 1 else "each neural rung learns"
    return (
        f"How {whose}: solid lines are text it did not learn from, dotted ones text it did. "
        "Where the solid line turns up while the dotted one falls, it has begun to learn by heart."
    )


def sweep_plot(sweep: Mapping[str, Any]) -> str:
    """A sweep -> SVG text: bits per byte over its first key, a line for all else that varies; empty for no number."""
    rows = [row for row in sweep["rows"] if row["bits_per_byte"] is not None]
    if not rows:
        return ""
    key = sweep["keys"][0]
    values = list({told(row[key]): row[key] for row in rows}.values())
    with _settings():
        figure, axes = _canvas(6.4, 3.6, sweep_title(sweep))
        places = _value_axis(axes, values)
        lines = _sweep_lines(sweep, rows)
        for place, (label, line) in enumerate(lines.items()):
            _draw_line(axes, place, label, [(places[told(row[key])], row) for row in line])
        axes.set_xlabel(key.replace("_", " "))
        axes.set_ylabel("bits per byte of text (lower is better)")
        axes.margins(x=0.06, y=0.12)
        if len(lines) > 1:
            axes.legend(loc="best")
        return _svg(figure, sweep_title(sweep))


def sweep_title(sweep: Mapping[str, Any]) -> str:
    """What stands above a sweep."""
    keys = " and ".join(key.replace("_", " ") for key in sweep["keys"])
    return f"{sweep['name']}: bits per byte over {keys}"


def sweep_sentence(sweep: Mapping[str, Any]) -> str:
    """What to see in a sweep, with its own numbers."""
    rows = [row for row in sweep["rows"] if row["bits_per_byte"] is not None]
    if not rows:
        return "No cell of this sweep could be fitted."
    best = min(rows, key=lambda row: row["bits_per_byte"])
    where = " and ".join(f"{key.replace('_', ' ')} {told(best[key])}" for key in sweep["keys"])
    text = ", ".join(best[key] for key in ("corpus", "tokenizer", "split"))
    ends = "" if len(rows) < 2 else f", the highest is {max(row['bits_per_byte'] for row in rows):.3f}"
    return (
        f"The same model, one thing changed at a time: the lowest point is {best['bits_per_byte']:.3f} at {where} "
        f"({text}){ends}. The vertical axis begins near the lowest point, not at zero."
    )


def _sweep_lines(sweep: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by everything that varies besides the first key; the swept entry itself varies with the keys."""
    swept = {"corpora": "corpus", "tokenizers": "tokenizer", "models": "model"}[sweep["section"]]
    others = [key for key in ("corpus", "split", "tokenizer", "model") if key != swept]
    varying = [key for key in others if len({row[key] for row in rows}) > 1]
    lines: dict[str, list[Row]] = {}
    for row in rows:
        parts = [row[key] for key in varying]
        parts += [f"{key.replace('_', ' ')} {told(row[key])}" for key in sweep["keys"][1:]]
        lines.setdefault(", ".join(parts), []).append(row)
    return lines


def _value_axis(axes: "Axes", values: Sequence[Any]) -> dict[str, float]:
    """Where each value stands: numbers by size, as powers where they span more than a decade; words side by side."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        if min(values) > 0 and max(values) > 10 * min(values):
            axes.set_xscale("log")
        places = {told(value): float(value) for value in values}
    else:
        places = {told(value): float(place) for place, value in enumerate(values)}
    axes.set_xticks(list(places.values()), list(places))
    axes.set_xticks([], minor=True)
    return places


def told(value: Any) -> str:
    """A value of a config in words: ``yes``, ``none``, ``0.001``, ``128, 128``."""
    if isinstance(value, list | tuple):
        return ", ".join(map(told, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def scored(rows: Iterable[Row]) -> list[Row]:
    """The rows that stand on the ladder with a number, the oracle left out."""
    return [row for row in rows if row["family"] != "oracle" and row["bits_per_byte"] is not None]


def floor(rows: Sequence[Row], oracle: Oracle) -> float | None:
    """Bits per byte that the source itself needs on the split of the rows; None where nobody knows."""
    known = (oracle or {}).get(rows[0]["split"]) if rows else None
    return known["bits_per_byte"] if known else None


def in_bits_per_byte(figure: Mapping[str, Any], row: Row) -> float | None:
    """A published figure on the axis of the ladder, or None where its measure has no place there."""
    value = figure["value"]
    nats = {
        "perplexity": (math.log(value) if value and value > 0 else None, "tokens"),
        "nats_per_token": (value, "tokens"),
        "nats_per_character": (value, "characters"),
        "bits_per_byte": (value and value * math.log(2), "bytes"),
    }
    each, unit = nats.get(figure["measure"], (None, "bytes"))
    if each is None or not row[unit] or not row["bytes"]:
        return None
    return each * row[unit] / row["bytes"] / math.log(2)


def _lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by tokenizer; by class where it is not static, and by split where there are several."""
    several = len({row["split"] for row in rows}) > 1
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["rank"]):
        label = f"tokens: {row['tokenizer']}" + (f", {row['split']}" if several else "")
        label += "" if row["class"] == "static" else f", {row['class']}"
        lines.setdefault(label, []).append(row)
    return dict(sorted(lines.items()))


def named(row: Row) -> str:
    """The rung's title, with the model's own name where it has one."""
    return row["title"] if row["model"] == row["rung"] else f"{row['title']} ({row['model']})"


def _rungs_in_order(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(named(row) for row in sorted(rows, key=lambda row: row["rank"])))


def _numbers(points: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    """NaN, which leaves a gap in a line, where there is no number."""
    return [math.nan if point.get(key) is None else point[key] for point in points]


def _settings() -> AbstractContextManager[None]:
    from matplotlib import rc_context

    return rc_context(SETTINGS)


def _canvas(width: float, height: float, title: str) -> tuple["Figure", "Axes"]:
    """Inches -> an empty frame with a grid of fine lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontweight="bold", fontsize=10.5, pad=12)
    axes.grid(axis="y", color=INK, alpha=0.14, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    return figure, axes


def _draw_line(axes: "Axes", place: int, label: str, steps: Sequence[tuple[float, Row]]) -> None:
    """One line with its marks, such as a tokenizer's way down the ladder; a bar where several seeds give a spread."""
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    x, y = [x for x, _ in steps], [row["bits_per_byte"] for _, row in steps]
    axes.plot(x, y, color=colour, marker=marker, linestyle=DASHES[place // len(COLOURS) % len(DASHES)], label=label)
    spread = [row["bits_per_byte_std"] or math.nan for _, row in steps]
    if not all(map(math.isnan, spread)):
        axes.errorbar(x, y, yerr=spread, color=colour, capsize=3, linewidth=1.2, linestyle="")


def _draw_published(axes: "Axes", rows: Sequence[Row], names: Sequence[str]) -> None:
    """A cross for every figure that somebody printed and that can be put on this axis."""
    marks = [
        (names.index(named(row)), bits)
        for row in rows
        for figure in row["published"]
        if (bits := in_bits_per_byte(figure, row)) is not None
    ]
    if marks:
        x, y = zip(*marks, strict=True)
        axes.plot(x, y, "x", color=INK, markersize=7, markeredgewidth=1.3, label="published", zorder=5)


def _draw_floor(axes: "Axes", bits: float | None) -> None:
    if bits is not None:
        axes.axhline(bits, color=INK, linewidth=1.1, linestyle=(0, (5, 3)), label=f"oracle, {bits:.2f}")


def _svg(figure: "Figure", title: str) -> str:
    drawing = io.StringIO()
    undated = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's own font draws the text
        figure.savefig(drawing, format="svg", transparent=True, metadata=undated)
    return _embeddable(drawing.getvalue(), title)


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
    return "".join(f' {key.strip()}="{value.strip()}"' for key, value in pairs if key.strip() != "font-family")


# Estimation


def estimation_figures() -> str:
    """SVG text: the coin's likelihood and its negative logarithm; the widgets, free and under two constraints."""
    with _settings():
        figure = _panels(9.6, 7.2)
        likelihood, nats, contour, constrained = figure.subplots(2, 2).flat
        _draw_coin(likelihood, nats)
        _draw_contour(contour)
        _draw_constrained(constrained)
        return _svg(figure, "Estimation")


def estimation_sentence() -> str:
    """What to see in the figures of estimation, with their own numbers."""
    free, wrong, right = (
        estimation.likeliest(estimation.WIDGETS, shape, count).nats
        for shape, count in ((estimation.free, 2), (estimation.squared, 1), (estimation.a_third, 1))
    )
    return (
        "Above: 62 heads in 100 tosses are likeliest where the chance of heads is 0.62, be it likelihood that is "
        "maximised or its negative logarithm that is minimised. Below: of 1,000 widgets 38 failed by the big gear, 7 "
        "by the small one. "
        f"Two free parameters fit best ({free:.2f} nats); the constraint θ, θ² is false and can come no nearer than "
        f"{wrong:.2f}; θ, θ/3 is true and needs one parameter for {right:.2f}."
    )


def _panels(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, loc="left", fontweight="bold", fontsize=10.5)


def _draw_coin(likelihood: "Axes", nats: "Axes") -> None:
    theta = np.linspace(0.3, 0.9, 241)
    best = estimation.likeliest(estimation.COIN, estimation.coin, 1)
    curve = estimation.negative_log_likelihood(estimation.COIN, estimation.coin(theta[:, None]))
    for axes, values, top in ((likelihood, np.exp(-curve), math.exp(-best.nats)), (nats, curve, best.nats)):
        axes.plot(theta, values, color=COLOURS[0])
        axes.plot(best.theta, [top], "x", color=INK, markersize=8, label=f"θ = {best.theta[0]:.2f}")
        axes.set_xlabel("θ, the chance of heads")
        axes.legend(loc="upper left")
    _title(likelihood, "Likelihood of 62 heads in 100")
    _title(nats, "Its negative logarithm, nats")


def _draw_contour(axes: "Axes") -> None:
    """The free parametrization, both optima, and the line on which the wrong constraint must stay."""
    big, small = np.meshgrid(np.linspace(0.02, 0.06, 81), np.linspace(0.001, 0.025, 97))
    nats = estimation.negative_log_likelihood(estimation.WIDGETS, estimation.free(np.stack([big, small], axis=-1)))
    free = estimation.likeliest(estimation.WIDGETS, estimation.free, 2)
    tied = estimation.likeliest(estimation.WIDGETS, estimation.squared, 1)
    levels = [203.3, 205, round(tied.nats, 2)]  # the middle one between the published two
    lines = axes.contour(big, small, nats, levels=levels, colors=COLOURS[0], linewidths=0.9)
    axes.clabel(lines, fontsize=7)
    axes.plot(big[0], big[0] ** 2, color=COLOURS[1], linewidth=1, linestyle="--", label="θ, θ²")
    axes.plot(big[0], big[0] / 3, color=COLOURS[2], linewidth=1, linestyle="-.", label="θ, θ/3")
    axes.plot(*free.probabilities[:2], "x", color=INK, markersize=8, label="free optimum")
    axes.plot(*tied.probabilities[:2], "o", color=COLOURS[1], label="optimum of θ, θ²")
    axes.set(xlabel="p(big gear)", ylabel="p(small gear)", ylim=(0.001, 0.025))
    _title(axes, "Three outcomes, nats")
    axes.legend(loc="upper center", ncols=2)


def _draw_constrained(axes: "Axes") -> None:
    """Both constraints along their one parameter."""
    theta = np.linspace(0.025, 0.06, 141)
    for place, (name, shape) in enumerate((("θ, θ²", estimation.squared), ("θ, θ/3", estimation.a_third)), start=1):
        best = estimation.likeliest(estimation.WIDGETS, shape, 1)
        told = f"{name}: {best.nats:.2f} at {best.theta[0]:.4f}"
        curve = estimation.negative_log_likelihood(estimation.WIDGETS, shape(theta[:, None]))
        axes.plot(theta, curve, color=COLOURS[place], linestyle=DASHES[place], label=told)
        axes.plot(best.theta, [best.nats], "x", color=INK, markersize=8)
    axes.set(xlabel="θ", ylim=(203, 216))
    _title(axes, "One parameter instead of two, nats")
    axes.legend(loc="upper center")
