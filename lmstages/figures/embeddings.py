"""An embedding in two dimensions: small letters by t-SNE before and after training, all tokens by PCA."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from lmstages.figures.drawing import COLOURS, fine_grid, label_points, sample_of, sheet
from lmstages.figures.rows import as_floats
from lmstages.results.formatting import decimal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The embedding in two dimensions: {title}, {corpus}, tokens: {tokenizer}"
TABLE = "embeddings"
BY = ("corpus", "tokenizer", "model")
COLUMNS = ("title", "projection", "stage", "token", "group", "x", "y", "x_variance", "y_variance", "silhouette")
GROUPS = {
    "vowels": (COLOURS[1], "o"),
    "consonants": (COLOURS[0], "s"),
    "capitals": (COLOURS[2], "^"),
    "digits": (COLOURS[3], "D"),
    "signs": (COLOURS[4], "v"),
    "others": (COLOURS[6], "X"),
}
MORE = ((COLOURS[5], "P"), (COLOURS[7], "<"), (COLOURS[0], ">"), (COLOURS[1], "p"), (COLOURS[2], "h"))
STAGES = {"initial": "t-SNE, small letters before training", "trained": "t-SNE, small letters after training"}


def draw(frame: pd.DataFrame) -> "Figure | None":
    """The points of one model -> two panels of letters above one of all tokens; None where there are none."""
    letters, tokens = (frame[frame["projection"] == name] for name in ("t-SNE", "PCA"))
    if not len(frame):
        return None
    figure = sheet((2.9 if len(letters) else 0.0) + (3.6 if len(tokens) else 0.3), layout="none")
    panels = _panels(figure, bool(len(letters)), bool(len(tokens)))
    marks = looks(frame)
    for stage, heading in STAGES.items() if len(letters) else ():
        _scatter(panels[stage], letters[letters["stage"] == stage], marks, heading)
    if len(tokens):
        _scatter(panels["PCA"], tokens, marks, "PCA, all tokens after training")
        x, y = (f"{100 * value:.0f} % of the variance" for value in tokens[["x_variance", "y_variance"]].iloc[0])
        panels["PCA"].set(xlabel=f"component 1, {x}", ylabel=f"component 2, {y}")
    _legend(figure, marks)
    return figure


def _panels(figure: "Figure", letters: bool, tokens: bool) -> dict[str, Any]:
    """Panels by name, in the upper row the two stages, below it the components."""
    rows: Any = [["initial", "trained"]] * letters + [["PCA", "PCA"]] * tokens
    high = figure.get_figheight()
    ratios = [2.6] * letters + [3.0] * tokens
    sides = {"left": 0.06, "right": 0.985, "top": 1 - 0.72 / high, "bottom": 0.62 / high, "hspace": 0.22, "wspace": 0.1}
    return figure.subplot_mosaic(rows, height_ratios=ratios, gridspec_kw=sides)


def looks(frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of each group that occurs; groups that are no kind of character take the next free ones."""
    groups = list(dict.fromkeys(frame["group"]))
    further = [group for group in groups if group not in GROUPS]
    more = {group: MORE[index % len(MORE)] for index, group in enumerate(further)}
    return {group: look for group, look in (GROUPS | more).items() if group in groups}


def _scatter(axes: "Axes", points: pd.DataFrame, marks: dict[str, tuple[str, str]], heading: str) -> None:
    """Each token a mark of its group, and beside it the token."""
    x, y = as_floats(points["x"]), as_floats(points["y"])
    for group, (colour, marker) in marks.items():
        members = (points["group"] == group).to_numpy()
        axes.plot(x[members], y[members], marker, color=colour, markersize=4.2, markeredgewidth=0, alpha=0.85)
    fine_grid(axes, "both", heading)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(labelbottom=False, labelleft=False)
    axes.margins(0.08)
    label_points(axes, [*zip(x, y, points["token"], strict=True)])


def _legend(figure: "Figure", marks: dict[str, tuple[str, str]]) -> None:
    handles = [sample_of(marker, group, colour) for group, (colour, marker) in marks.items()]
    figure.legend(handles=handles, loc="lower center", ncols=min(6, len(handles)))


def caption(frame: pd.DataFrame) -> str:
    """What the projections keep, and how far vowels and consonants are apart."""
    principal = "PCA keeps the two directions in which all tokens differ most."
    letters = frame[frame["projection"] == "t-SNE"].groupby("stage")["silhouette"].first().dropna()
    sentences = []
    if {"initial", "trained"} <= {*letters.index}:
        sentences.append(
            "Silhouette of vowels and consonants in all dimensions, by cosine, 0 for no groups and 1 for groups far "
            f"apart: {decimal(letters['initial'], 2)} before training, {decimal(letters['trained'], 2)} after."
        )
    if (frame["projection"] == "t-SNE").any():
        sentences.append("t-SNE keeps neighbours, not distances; its axes have no unit.")
    return " ".join([*sentences, *([principal] if (frame["projection"] == "PCA").any() else [])])
