"""What every model does, with a coin and three outcomes: likelihoods and where they are highest."""

import math
from typing import TYPE_CHECKING

import numpy as np

from lmstages.analyses import estimation
from lmstages.figures.drawing import COLOURS, DASHES, INK, Drawing, panels, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def likelihoods() -> Drawing:
    """The coin's likelihood and its negative logarithm; the widgets, free and under two constraints."""
    with settings():
        figure = panels(9.6, 7.2)
        likelihood, nats, contour, constrained = figure.subplots(2, 2).flat
        _draw_coin(likelihood, nats)
        _draw_contour(contour)
        _draw_constrained(constrained)
        return Drawing("Estimation", sentence(), figure)


def sentence() -> str:
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
