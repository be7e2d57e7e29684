"""Hyperparameters of the networks that also learn to predict tokens in other orders, one after the other."""

from typing import Literal

from pydantic import Field, model_validator

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


class AnyOrder(ModernGPT):
    """Gives up the fixed order: each position is told where the token stands that it predicts, so that one network
    predicts the tokens of a row in any order, each from those that came before it in that order.

    In training a row is read from left to right, with a middle last, or in random order. Its own row is the exact code
    length from left to right; that of any other order fixed beforehand is as exact.
    """

    name, title, after = "any_order", "Any order", "fim"
    module, model = "lmstages.models.nonautoregressive.any_order", "AnyOrderModel"
    source = "Pannatier et al. 2024, sigma-GPT; Hoogeboom et al. 2022, ARDM"
    formula = r"""
        $$\ln p(x) = \sum_t \ln p(x_{\sigma(t)} \mid x_{\sigma(1)}, \dots, x_{\sigma(t - 1)}; \sigma)$$
        with $\sigma$ the order: queries are rotated by the position of the token that they predict, keys by their own.
    """
    ngram_embeddings: list[int] = Field([], max_length=0, description="Not in this network: neighbours are not known.")
    left_to_right: float = Field(
        0.4, ge=0, le=1, description="Fraction of the rows in training that are predicted from left to right."
    )
    middle_last: float = Field(
        0.3, ge=0, le=1, description="Fraction whose middle is predicted last, as in fim; the others in random order."
    )

    @model_validator(mode="after")
    def _at_most_all_rows(self) -> "AnyOrder":
        if (total := self.left_to_right + self.middle_last) > 1 + 1e-9:
            raise ValueError(f"left_to_right and middle_last sum to {total:g}; allowed: at most 1, all rows")
        return self
