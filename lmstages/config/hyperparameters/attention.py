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

    name, title, after = "gpt", "GPT", "lstm"
    module, model = "lmstages.models.neural.gpt", "GPTModel"
    protocol = "stride"
    source = "Vaswani et al. 2017; Radford et al. 2019"
    layers: Layers = 4
    heads: Layers = 4
    width: Width = 128
    window: Width = 64
    projection: bool = True
    feedforward: Literal["none", "layer", "wide"] = "wide"
    activation: Literal["gelu", "relu"] = "gelu"
    residual: bool = True
    norms: bool = True
    bias: bool = False
    attention_bias: bool = False
    tied_output: bool = True
    embedding_dropout: bool = True
    initialisation: Literal["gpt2", "torch"] = "gpt2"
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
    layers: Layers = 4
    heads: Layers = 4
    key_value_heads: Layers = 2
    width: Width = 128
    hidden: Width = 344
    window: Width = 64
    rope_base: Annotated[float, Field(ge=1, le=1e9)] = 10000.0
    norm_epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-5
    tied_output: bool = True
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
    layers: Layers = 4
    heads: Layers = 4
    width: Width = 128
    window: Width = 64
    rms_norm: bool = True
    rotary: bool = True
    rope_base: Annotated[float, Field(ge=1, le=1e9)] = 10000.0
    query_key_norm: bool = True
    squared_relu: bool = True
    zero_projections: bool = True
    softcap: Annotated[float, Field(gt=0, le=1e4)] | None = 15.0
    value_embeddings: bool = False
    ngram_embeddings: list[Annotated[int, Field(ge=2, le=8)]] = []
    ngram_buckets: Annotated[int, Field(ge=1, le=1 << 26)] = 4096
    tied_output: bool = False
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
    order: Annotated[int, Field(ge=1, le=24)] = 6
    discounts: Literal["closed_form", "tuned"] = "closed_form"
    folds: Annotated[int, Field(ge=2, le=1000)] = 10

    @model_validator(mode="after")
    def _window_covers_the_order(self) -> "Residual":
        if self.order - 1 > self.window:
            raise ValueError(f"order {self.order} looks back further than window {self.window}")
        return self
