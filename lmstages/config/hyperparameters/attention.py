"""Hyperparameters of the networks with attention."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lmstages.config.hyperparameters.base import Layers, Optimizer, Positive, Rate, Schedule, Width
from lmstages.config.hyperparameters.neural import Neural


class GPT(Neural):
    """Adds attention: each position takes a weighted average over all earlier positions of the window, with weights
    computed from their contents.

    Switches remove single parts for ablations: with one head and without ``projection``, ``feedforward``, ``residual``
    and ``norms`` it is the first model of Karpathy's lecture (2023), with all of them GPT-2. ``feedforward: layer`` is
    one linear layer in place of two with an inner width of 4 D; ``bias`` is that of linear layers and norms,
    ``attention_bias`` that of queries, keys and values.
    """

    name, title, after = "gpt", "GPT", "minlstm"
    module, model = "lmstages.models.neural.gpt", "GPTModel"
    protocol = "stride"
    source = "Vaswani et al. 2017; Radford et al. 2019"
    formula = r"""
        $$x = E[\text{token}] + P[\text{position}]$$
        $$x \leftarrow x + \operatorname{attention}(\operatorname{norm}(x))$$
        $$x \leftarrow x + \operatorname{feedforward}(\operatorname{norm}(x))$$
        $$p(\cdot \mid x) = \operatorname{softmax}(E \operatorname{norm}(x))$$
        of which the second and third are repeated in every block, with
        $$\operatorname{attention}(x) = \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{D / H}}\right) V$$
        $$\operatorname{feedforward}(x) = B \operatorname{gelu}(A x)$$
        where $Q$, $K$ and $V$ are projections of $x$, and no position attends to a later one.
    """
    layers: Layers = Field(4, description="Blocks, each of attention and a feed-forward layer.")
    heads: Layers = Field(4, description="Attention heads of a block, each of width / heads numbers.")
    width: Width = Field(128, description="Numbers of the vector at each position.")
    window: Width = Field(64, description="Longest context in tokens; each position of it has an embedding.")
    projection: bool = Field(True, description="Multiply the joined heads by an output matrix.")
    feedforward: Literal["none", "layer", "wide"] = Field(
        "wide", description="Two linear layers with an inner width of 4 D (wide), one linear layer, or none."
    )
    activation: Literal["gelu", "relu"] = Field("gelu", description="Nonlinearity of the feed-forward layer.")
    residual: bool = Field(True, description="Add each layer's input to its output.")
    norms: bool = Field(True, description="LayerNorm before each layer and before the output.")
    bias: bool = Field(False, description="Add biases in linear layers and norms.")
    attention_bias: bool = Field(False, description="Add biases to queries, keys and values.")
    tied_output: bool = Field(True, description="Use the embedding matrix as the output matrix.")
    embedding_dropout: bool = Field(True, description="Apply dropout to the embeddings too.")
    initialisation: Literal["gpt2", "torch"] = Field(
        "gpt2", description="N(0, 0.02) with scaled residual projections, as GPT-2, or torch's defaults."
    )
    batch_size: Positive | None = 12
    row_length: Positive = 64
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.1

    @property
    def context(self) -> int:
        """The window: the number of positions that have an embedding."""
        return self.window

    @model_validator(mode="after")
    def _shapes_fit(self) -> "GPT":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.row_length > self.window:
            raise ValueError(f"row_length {self.row_length} exceeds window {self.window}")
        return self


class Llama(Neural):
    """Replaces four parts of GPT: rotary position embeddings (RoPE), a gated feed-forward layer (SwiGLU), RMSNorm and
    grouped-query attention.

    With ``key_value_heads`` below ``heads`` several query heads share a key and value head (Ainslie et al. 2023).
    """

    name, title, after = "llama", "LLaMA", "gpt"
    module, model = "lmstages.models.neural.llama", "LlamaModel"
    protocol = "stride"
    source = "Touvron et al. 2023"
    formula = r"""
        $$x = E[\text{token}]$$
        $$x \leftarrow x + \operatorname{attention}(\operatorname{norm}(x))$$
        $$x \leftarrow x + \operatorname{feedforward}(\operatorname{norm}(x))$$
        $$p(\cdot \mid x) = \operatorname{softmax}(E \operatorname{norm}(x))$$
        of which the second and third are repeated in every block, with
        $$\operatorname{norm}(x) = \frac{g * x}{\sqrt{\operatorname{mean}(x^2) + \epsilon}}$$
        $$\operatorname{feedforward}(x) = C (\operatorname{silu}(A x) * B x)$$
        and the attention of GPT, but with keys and values shared by groups of heads, and with queries and keys rotated:
        pair $i$ of the $D / H$ numbers by the angle $\text{position} \cdot b^{-2 i H / D}$ with $b$ the ``rope_base``.
    """
    layers: Layers = Field(4, description="Blocks, each of attention and a gated feed-forward layer.")
    heads: Layers = Field(4, description="Query heads of a block, each of width / heads numbers.")
    key_value_heads: Layers = Field(2, description="Key and value heads; below heads, several query heads share one.")
    width: Width = Field(128, description="Numbers of the vector at each position.")
    hidden: Width = Field(344, description="Inner width of the gated feed-forward layer.")
    window: Width = Field(64, description="Longest context in tokens.")
    rope_base: float = Field(
        10000.0, ge=1, le=1e9, description="Base of the wavelengths of the rotary position embeddings."
    )
    norm_epsilon: float = Field(1e-5, gt=0, le=1, description="Constant added to the mean square in RMSNorm.")
    tied_output: bool = Field(True, description="Use the embedding matrix as the output matrix.")
    batch_size: Positive | None = 12
    row_length: Positive = 64
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.1

    @property
    def context(self) -> int:
        """The window: the longest row that is scored at once."""
        return self.window

    @model_validator(mode="after")
    def _shapes_fit(self) -> "Llama":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of twice the heads {self.heads}")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is no multiple of key_value_heads {self.key_value_heads}")
        if self.row_length > self.window:
            raise ValueError(f"row_length {self.row_length} exceeds window {self.window}")
        return self


class ModernGPT(Neural):
    """Adds what small training runs have found to help since GPT-2: parameter-free RMSNorm, also of queries and keys,
    rotary position embeddings, ReLU^2, zero-initialised projections, a logit soft-cap and the optimizer Muon.

    Each part has a switch; with every switch off the network is GPT. ``value_embeddings`` adds a token embedding to the
    values of every layer; ``ngram_embeddings`` lists the orders of the n-grams whose hash selects one of
    ``ngram_buckets`` additional embedding vectors.
    """

    name, title, after = "modern_gpt", "Modern GPT", "llama_cpp"
    module, model = "lmstages.models.neural.modern_gpt", "ModernModel"
    protocol = "stride"
    source = "Jordan et al. 2024, modded-nanogpt; each part in models/neural/modern_gpt.py"
    formula = r"""
        $$x = \operatorname{norm}(E[\text{token}])$$
        $$x \leftarrow x + \operatorname{attention}(\operatorname{norm}(x))$$
        $$x \leftarrow x + B \operatorname{relu}(A \operatorname{norm}(x))^2$$
        $$p(\cdot \mid x) = \operatorname{softmax}\left(c \tanh \frac{W \operatorname{norm}(x)}{c}\right)$$
        of which the second and third are repeated in every block, with $c$ the ``softcap`` and
        $$\operatorname{norm}(x) = \frac{x}{\sqrt{\operatorname{mean}(x^2) + \epsilon}}$$
        $$\operatorname{attention}(x) = \operatorname{softmax}\left(
            \frac{\operatorname{norm}(Q) \operatorname{norm}(K)^\top}{\sqrt{D / H}}\right) V$$
        where $Q$ and $K$ are rotated as in LLaMA.
    """
    layers: Layers = Field(4, description="Blocks, each of attention and a feed-forward layer.")
    heads: Layers = Field(4, description="Attention heads of a block, each of width / heads numbers.")
    width: Width = Field(128, description="Numbers of the vector at each position.")
    window: Width = Field(64, description="Longest context in tokens.")
    rms_norm: bool = Field(True, description="RMSNorm without parameters in place of LayerNorm.")
    rotary: bool = Field(True, description="Rotary position embeddings in place of learned ones.")
    rope_base: float = Field(
        10000.0, ge=1, le=1e9, description="Base of the wavelengths of the rotary position embeddings."
    )
    query_key_norm: bool = Field(True, description="RMSNorm of queries and keys.")
    squared_relu: bool = Field(True, description="ReLU^2 in place of GELU.")
    zero_projections: bool = Field(
        True, description="Begin with zeros in the matrices that write to the residual stream."
    )
    softcap: Annotated[float, Field(gt=0, le=1e4)] | None = Field(
        15.0, description="Bound of the logits, c tanh(logit / c); null switches it off."
    )
    value_embeddings: bool = Field(False, description="Add a token embedding of its own to the values of every layer.")
    ngram_embeddings: list[Annotated[int, Field(ge=2, le=8)]] = Field(
        [], description="Orders of the n-grams whose hash selects a further embedding."
    )
    ngram_buckets: int = Field(
        4096, ge=1, le=1 << 26, description="Embeddings that the n-grams of an order are hashed to."
    )
    tied_output: bool = Field(False, description="Use the embedding matrix as the output matrix.")
    optimizer: Optimizer = "muon"
    schedule: Schedule = "stable"
    learning_rate: Rate = 1e-2
    final_learning_rate: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.95
    clip: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Positive | None = 32
    row_length: Positive = 64
    warmup_steps: Annotated[int, Field(ge=0)] = 20

    @property
    def context(self) -> int:
        """The window: the longest row that is scored at once."""
        return self.window

    @model_validator(mode="after")
    def _shapes_fit(self) -> "ModernGPT":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of twice the heads {self.heads}")
        if self.row_length > self.window:
            raise ValueError(f"row_length {self.row_length} exceeds window {self.window}")
        if len(set(self.ngram_embeddings)) < len(self.ngram_embeddings):
            raise ValueError(f"ngram_embeddings {self.ngram_embeddings} names an order twice")
        return self


class Residual(ModernGPT):
    """Adds the network to Kneser-Ney: its logits are added to the n-gram model's log-probabilities, so that it learns
    only the residual, on parts of train that those counts exclude (cross-fitting).

    ``order`` and ``discounts`` are those of Kneser-Ney; ``folds`` is the number of parts that train is cut into; all
    other keys are the network's.
    """

    name, title, after = "residual", "Residual on Kneser-Ney", "modern_gpt"
    module, model = "lmstages.models.neural.residual", "ResidualModel"
    source = "Hinton 2002, products of experts; Wolpert 1992, cross-fitting"
    formula = r"""
        $$\ln p(\cdot \mid h) = f(h) + \ln p_\text{KN}(\cdot \mid h) - \ln Z(h)$$
        with $f(h)$ the network's logits, and $Z(h)$ such that the probabilities sum to one.
    """
    order: int = Field(6, ge=1, le=24, description="Order of the Kneser-Ney model whose log-probabilities are added.")
    discounts: Literal["closed_form", "tuned"] = Field(
        "closed_form", description="Discounts of that model: by formula, or tuned on a part of train."
    )
    folds: int = Field(
        10, ge=2, le=1000, description="Parts of train; the network sees each with counts made without it."
    )

    @model_validator(mode="after")
    def _window_covers_the_order(self) -> "Residual":
        if self.order - 1 > self.window:
            raise ValueError(f"order {self.order} looks back further than window {self.window}")
        return self
