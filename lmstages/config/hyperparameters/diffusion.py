"""Hyperparameters of the diffusion models, which predict hidden or noisy tokens from both sides, and of their bound."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lmstages.config.hyperparameters.attention import ModernGPT
from lmstages.config.hyperparameters.base import Derived, Width
from lmstages.config.hyperparameters.orders import AnyOrder

ENUMERATED = 4  # tokens of a block up to which every choice of hidden places is scored: at most 2^4 - 1


def _two_halves(samples: int) -> int:
    if samples < 2 or samples % 2:
        raise ValueError(f"samples is {samples}; allowed: 2, 4, 6 ..., two halves that tell the error")
    return samples


Samples = Annotated[int, Field(le=1 << 20), AfterValidator(_two_halves)]


class Diffusion(ModernGPT):
    """A modern GPT that predicts the hidden tokens of a block from its other tokens and from all earlier blocks."""

    value_embeddings: Literal[False] = Field(False, description="Not in this network: a hidden token has no value.")
    ngram_embeddings: list[int] = Field([], max_length=0, description="Not in this network.")
    weighting: Literal["flat", "bound"] = Field(
        "bound",
        description="In training every hidden or noisy token counts the same (flat), or as it does in the bound.",
    )
    given_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Fraction of blocks in training of which a random number of first tokens is known.",
    )

    @property
    def block_length(self) -> int:
        """Tokens of a block, within which any may be hidden."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _blocks_fit(self) -> "Diffusion":
        for key, tokens in (("window", self.window), ("row_length", self.row_length)):
            if tokens % self.block_length:
                raise ValueError(f"{key} {tokens} is no multiple of its block of {self.block_length} tokens")
        return self


class BlockDiffusion(Diffusion):
    """Gives up the order within a block: blocks of ``block`` tokens follow from left to right, and within one any token
    may be predicted from any others. A block of 1 is a GPT.

    Its row is the exact code length from left to right; ``bound`` makes the row of a random order from the same fit.
    """

    name, title, after = "block_diffusion", "Block diffusion", "any_order"
    module, model = "lmstages.models.nonautoregressive.diffusion", "BlockDiffusionModel"
    source = "Arriola et al. 2025, BD3-LM"
    formula = r"""
        $$L = \sum_b \operatorname{E}_{k, M} \frac{n}{k} \sum_{i \in M} -\ln p(x_i \mid x_{b \setminus M}, x_{< b})$$
        where $b$ is a block of $n$ tokens, $k$ uniform in $1 \dots n$, and $M$ a set of $k$ hidden places of it.
    """
    block: Width = Field(4, description="Tokens of a block; divides window and row_length.")

    @property
    def block_length(self) -> int:
        """The key ``block``."""
        return self.block


class MaskedDiffusion(Diffusion):
    """Gives up order altogether: the block is the whole window, of which any part may be hidden, and attention goes
    both ways. The network is not told how much is hidden.

    Its row is the exact code length from left to right; ``bound`` makes the row of a random order from the same fit.
    """

    name, title, after = "masked_diffusion", "Masked diffusion", "block_diffusion"
    module, model = "lmstages.models.nonautoregressive.diffusion", "MaskedDiffusionModel"
    source = "Sahoo et al. 2024, MDLM; Shi et al. 2024, MD4; Nie et al. 2025, LLaDA"
    formula = r"""
        $$L = \operatorname{E}_{k, M} \frac{n}{k} \sum_{i \in M} -\ln p(x_i \mid x_{\setminus M})$$
        with $n$ tokens in the window, $k$ uniform in $1 \dots n$, and $M$ a set of $k$ hidden places of it.
    """
    weighting: Literal["flat", "bound"] = "flat"
    given_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    @property
    def block_length(self) -> int:
        """The window."""
        return self.window


class Bound(Derived):
    """Gives up the exact code length: an upper bound on that of a fitted diffusion model which predicts the tokens of a
    block in random order, as papers report it.

    Blocks of up to four tokens are scored in every order. For others ``samples`` sets of hidden places stand for all
    of them, with as many different sizes; the row states the Monte Carlo error of that. Of ``any_order`` it takes
    ``samples`` random orders, every second one the reverse of the one before it. Where a text ends within its last
    window is known and not charged, at most ln of the window in nats.
    """

    name, title, after = "bound", "Upper bound", "masked_diffusion"
    module, model = "lmstages.models.nonautoregressive.bound", "BoundModel"
    protocol, is_bound = "stride", True
    source = "Sahoo et al. 2024; Shi et al. 2024; Ou et al. 2025 for exact counts"
    formula = r"""
        $$-\ln p(x) \le \operatorname{E}_{k, M} \frac{n}{k} \sum_{i \in M} -\ln p(x_i \mid x_{\setminus M})$$
        with $n$ tokens to score, $k$ uniform in $1 \dots n$, and $M$ a set of $k$ of them; of blocks, their sum.
    """
    of: str = Field("masked_diffusion", description="Name, in this config, of the fitted model whose bound it is.")
    base: Annotated[MaskedDiffusion | BlockDiffusion | AnyOrder, Field(union_mode="left_to_right")] | None = Field(
        None, description="Record of that model; the config reader fills it in."
    )
    samples: Samples = Field(
        8, description="Sets of hidden places, or orders, that a text is scored with; an even number."
    )

    @property
    def fitted_by(self) -> str:
        """Random orders are scored otherwise than hidden places."""
        return "OrderBoundModel" if isinstance(self.base, AnyOrder) else self.model


class NoisyWindow(Diffusion):
    """A network that reads a window of which some places are noisy, without a mark of which; its row is a bound."""

    is_bound = True
    samples: Samples = Field(16, description="Noisy copies of a text that it is scored with; an even number.")

    @property
    def block_length(self) -> int:
        """The window."""
        return self.window


class UniformDiffusion(NoisyWindow):
    """Gives up the mark of what is unknown: noise is a random token in place of a hidden one, so that any token may
    change more than once. The network is told how much noise there is.

    Its row is an upper bound in continuous time, with its Monte Carlo error; it has no exact order of prediction.
    """

    name, title, after = "uniform_diffusion", "Uniform diffusion", "bound"
    module, model = "lmstages.models.nonautoregressive.uniform", "UniformModel"
    source = "Austin et al. 2021, D3PM uniform; Schiff et al. 2025, UDLM"
    formula = r"""
        $$L = \sum_i \operatorname{E}_{t, z} \frac{-\alpha'_t}{V \alpha_t}
            \sum_j \left( a_j \ln \frac{a_j}{b_j} - a_j + b_j \right)$$
        $$a_j = \frac{c(j = x_i)}{c(z_i = x_i)}, \quad b_j = \frac{c(p_j)}{c(p_{z_i})}, \quad
            c(p) = V \alpha_t p + 1 - \alpha_t$$
        where $t$ is uniform in $0 \dots 1$, $\alpha_t = 1 - t^2$ the probability that a token is kept, $z$ the noisy
        text, $p$ the network's prediction of $x_i$, and $V$ the size of the vocabulary.
    """
    weighting: Literal["flat", "bound"] = "flat"
    given_share: Annotated[float, Field(ge=0, le=1)] = 0.5


class Sundae(NoisyWindow):
    """Gives up the process: trained to mend texts with random tokens, and then its own drafts, which are replaced at
    once in every step of sampling. The network is not told how much is wrong.

    Its row puts the network into the bound of uniform diffusion, for which it was not trained.
    """

    name, title, after = "sundae", "SUNDAE", "uniform_diffusion"
    module, model = "lmstages.models.nonautoregressive.sundae", "SundaeModel"
    source = "Savinov et al. 2022, step-unrolled denoising"
    formula = r"""
        $$L = \frac{1}{K} \sum_{k=1}^K \operatorname{E} \sum_i -\ln p(x_i \mid z^{(k)}), \quad
            z^{(k+1)} \sim p(\cdot \mid z^{(k)})$$
        where $z^{(1)}$ is the text $x$ with random tokens at a rate that is uniform in $0 \dots 1$, and $K$ the
        ``unrolled`` steps, between which there is no gradient.
    """
    weighting: Literal["flat"] = Field("flat", description="In training every token of every draft counts the same.")
    given_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    unrolled: int = Field(2, ge=1, le=16, description="Drafts of a text that a step of training mends.")
    least_rate: float = Field(
        0.1, gt=0, le=1, description="In the bound, the rate of random tokens that the network expects at least."
    )


class Sed(NoisyWindow):
    """Gives up noise on tokens: what is noisy is a vector, the token's embedding with Gaussian noise, so that a place
    may say a little of its token. The network is told how much noise there is, and its own first estimate.

    Its row is an upper bound in continuous time, with its Monte Carlo error; a sample of it takes two passes.
    """

    name, title, after = "sed", "SED", "sundae"
    module, model = "lmstages.models.nonautoregressive.sed", "SedModel"
    source = "Strudel et al. 2022, SED; the bound Gulrajani & Hashimoto 2023, Plaid"
    formula = r"""
        $$L = \sum_i \operatorname{E}_{t, z} \frac{1}{2 t^2} \left| e_{x_i} - \hat e_i(z) \right|^2, \quad
            z_i = \sqrt{1 - t} \, e_{x_i} + \sqrt t \, \epsilon_i$$
        $$\hat e_i = \sum_v p_{iv} e_v, \quad
            p_{iv} \propto \exp \left( f_{iv}(z, t, \hat e') + \frac{\sqrt{1 - t}}{t} z_i \cdot e_v \right)$$
        where $t$ is uniform in $0 \dots 1$, $e_v$ the embedding of token $v$, $\epsilon$ standard normal, $f$ the
        network's logits, and $\hat e'$ the same prediction from no estimate.
    """
    weighting: Literal["flat", "bound"] = "flat"
    given_share: float = Field(
        0.5, ge=0, le=1, description="Fraction of rows in training of which tokens at random places are known."
    )
    embedding: int = Field(
        16, ge=2, le=1 << 12, description="Numbers of a token's embedding, to each of which noise is added."
    )
    self_conditioning: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Fraction of the steps of training in which the network is given its own estimate; 0 for never.",
    )
