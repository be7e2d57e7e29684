"""What every model does, with a coin and three outcomes: likelihoods and where they are highest."""

import math
from typing import TYPE_CHECKING

import numpy as np

from lmstages.analyses import estimation
from lmstages.figures.drawing import COLOURS, DASHES, INK, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Estimation: the parameters that make the observed likeliest"
TABLE = None
BY = ()
COLUMNS = ()
ONLY_IF = "estimation"


def draw() -> "Figure":
    """The coin's likelihood and its negative logarithm; the widgets, free and under two constraints."""
    figure = sheet(5.6)
    likelihood, nats, contour, constrained = figure.subplots(2, 2).flat
    _draw_coin(likelihood, nats)
    _draw_contour(contour)
    _draw_constrained(constrained)
    return figure


def caption() -> str:
    """What to see, with the numbers of the drawing."""
    free, wrong, right = (
        estimation.likeliest(estimation.WIDGETS, shape, count).nats
        for shape, count in ((estimation.free, 2), (estimation.squared, 1), (estimation.a_third, 1))
    )
    return (
        "Above: 62 heads in 100 tosses are likeliest where the probability of heads is 0.62, be it likelihood that is "
        "maximised or its negative logarithm that is minimised. Below: of 1,000 widgets 38 failed by the big gear, 7 "
        "by the small one. "
        f"Two free parameters fit best ({free:.2f} nats); the constraint θ, θ² is false and can come no nearer than "
        f"{wrong:.2f}; θ, θ/3 is true and needs one parameter for {right:.2f}."
    )


def _heading(axes: "Axes", text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9)


def _draw_coin(likelihood: "Axes", nats: "Axes") -> None:
    theta = np.linspace(0.3, 0.9, 241)
    best = estimation.likeliest(estimation.COIN, estimation.coin, 1)
    curve = estimation.negative_log_likelihood(estimation.COIN, estimation.coin(theta[:, None]))
    for axes, values, top in ((likelihood, np.exp(-curve), math.exp(-best.nats)), (nats, curve, best.nats)):
        axes.plot(theta, values, color=COLOURS[0])
        axes.plot(best.theta, [top], "x", color=INK, markersize=8, label=f"θ = {best.theta[0]:.2f}")
        axes.set_xlabel("θ, the probability of heads")
        axes.legend(loc="upper left")
    likelihood.set_yticks([0, 1e-29], ["0", "1e-29"])
    _heading(likelihood, "Likelihood of 62 heads in 100")
    _heading(nats, "Its negative logarithm, nats")


def _draw_contour(axes: "Axes") -> None:
    """The free parametrization, both optima, and the line on which the wrong constraint must stay."""
    big, small = np.meshgrid(np.linspace(0.02, 0.06, 81), np.linspace(0.001, 0.025, 97))
    nats = estimation.negative_log_likelihood(estimation.WIDGETS, estimation.free(np.stack([big, small], axis=-1)))
    free = estimation.likeliest(estimation.WIDGETS, estimation.free, 2)
    tied = estimation.likeliest(estimation.WIDGETS, estimation.squared, 1)
    levels = [203.3, 205, round(tied.nats, 2)]  # the middle one between the published two
    lines = axes.contour(big, small, nats, levels=levels, colors=COLOURS[0], linewidths=0.9)
    axes.clabel(lines, fontsize=7)
    axes.plot(big[0], big[0] ** 2, color=COLOURS[1], linewidth=1, linestyle=DASHES[1], label="θ, θ²")
    axes.plot(big[0], big[0] / 3, color=COLOURS[2], linewidth=1, linestyle=DASHES[2], label="θ, θ/3")
    axes.plot(*free.probabilities[:2], "x", color=INK, markersize=8, linestyle="", label="free optimum")
    axes.plot(*tied.probabilities[:2], "o", color=COLOURS[1], linestyle="", label="optimum of θ, θ²")
    axes.set(xlabel="p(big gear)", ylabel="p(small gear)", ylim=(0.001, 0.032))
    _heading(axes, "Three outcomes, nats")
    axes.legend(loc="upper left", ncols=2, fontsize=7)


def _draw_constrained(axes: "Axes") -> None:
    """Both constraints along their one parameter."""
    theta = np.linspace(0.025, 0.06, 141)
    for index, (name, shape) in enumerate((("θ, θ²", estimation.squared), ("θ, θ/3", estimation.a_third)), start=1):
        best = estimation.likeliest(estimation.WIDGETS, shape, 1)
        label = f"{name}: {best.nats:.2f} at {best.theta[0]:.4f}"
        curve = estimation.negative_log_likelihood(estimation.WIDGETS, shape(theta[:, None]))
        axes.plot(theta, curve, color=COLOURS[index], linestyle=DASHES[index], label=label)
        axes.plot(best.theta, [best.nats], "x", color=INK, markersize=8)
    axes.set(xlabel="θ", ylim=(203, 216))
    _heading(axes, "One parameter instead of two, nats")
    axes.legend(loc="upper center")
