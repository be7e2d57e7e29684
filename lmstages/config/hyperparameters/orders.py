"""Hyperparameters of the networks that also learn to predict tokens in other orders, one after the other."""

from typing import Literal

from pydantic import Field

from lmstages.config.hyperparameters.attention import ModernGPT


class FillInTheMiddle(ModernGPT):
    """Gives up part of its training from left to right: of a share of the rows the middle stands last, so that it
    learns to fill a gap with both sides known.

    Sentinels mark the parts of a rearranged row: prefix, suffix, middle (PSM), or suffix, then prefix and middle in one
    piece (SPM), half of the rows each. Its own row is the exact code length from left to right, where the end of a
    middle is no possible token.
    """

    name, title, after = "fim", "Fill in the middle", "residual"
    module, model = "lmstages.models.nonautoregressive.fill_in_the_middle", "FillInTheMiddleModel"
    source = "Bavarian et al. 2022"
    formula = r"""
        $$p(m \mid l, r) = \prod_i p(m_i \mid \text{PRE}, l, \text{SUF}, r, \text{MID}, m_{< i})$$
        with $l$ what stands left of the middle $m$, and $r$ what stands right of it; in the other arrangement
        $$p(m \mid l, r) = \prod_i p(m_i \mid \text{PRE}, \text{SUF}, r, \text{MID}, l, m_{< i})$$
    """
    rate: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Fraction of the rows in training whose middle stands last.",
    )
    arrangement: Literal["psm", "spm"] = Field(
        "spm", description="Which side of a gap it reads first when it fills one: the left (psm) or the right (spm)."
    )
