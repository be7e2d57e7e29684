"""Hyperparameters of the networks without attention, and of the training loop that all networks share."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lmstages.config.hyperparameters.base import ModelConfig, Optimizer, Positive, Rate, Schedule


class Neural(ModelConfig):
    """A model that is fitted by gradient descent; these keys belong to the one training loop."""

    family = "neural"
    steps: Positive = 1000
    batch_size: Positive | None = 64  # None: all rows at every step
    row_length: Positive = 1
    optimizer: Optimizer = "adamw"  # muon: Muon for the matrices within, AdamW for embeddings, output and vectors
    learning_rate: Rate = 1e-3
    matrix_learning_rate: Rate = 0.02  # muon alone reads it and momentum, and follows the same schedule
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    final_learning_rate: Annotated[float, Field(ge=0, le=1e4)] = 1e-4
    schedule: Schedule = "cosine"
    drop_after: Annotated[float, Field(ge=0, le=1)] = 0.75  # share of the steps; schedule step alone reads it
    decay_share: Annotated[float, Field(gt=0, le=1)] = 0.5  # of the steps, at their end; schedule stable alone reads it
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.99
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    clip: Annotated[float, Field(ge=0)] = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    evaluate_every: Positive = 200
    keep: Literal["best", "last"] = "best"
    averaging: Literal["none", "ema", "mean"] = "none"  # of the weights that are evaluated and kept
    average_share: Annotated[float, Field(gt=0, le=1)] = 0.2  # of the steps, at their end, that is averaged over
    average_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99  # a step; averaging ema alone reads it

    @model_validator(mode="after")
    def _consistent(self) -> "Neural":
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        return self


class Perceptron(Neural):
    """What the networks over a window share: ``layers`` hidden ones of ``hidden`` units, then the output.

    A tied output projects to the embedding's width and multiplies by the embedding (Press & Wolf 2017).
    ``initialisation``: ``scaled`` by each layer's inputs; ``normal`` draws all weights from N(0, 1), biases
    zero; ``all_normal`` draws the biases so too.
    """

    hidden: Positive = 128
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    tied_output: bool = False
    output_bias: bool = True
    initialisation: Literal["scaled", "normal", "all_normal"] = "scaled"
    module, model = "lmstages.models.neural.mlp", "MLPModel"


class NeuralBigram(Perceptron):
    """The bigram again, its table made by a network: tokens that behave alike share what they learn.

    ``width: null`` is the table itself, one-hot times W; a width factors it into embedding and projection;
    ``layers`` puts hidden layers between the two.
    """

    name, title = "neural_bigram", "Neural bigram"
    source = "Bengio et al. 2003 with a window of one"
    width: Positive | None = 32
    layers: Annotated[int, Field(ge=0)] = 0
    batch_size: Positive | None = 512

    window: ClassVar[int] = 1

    @property
    def embedding(self) -> int | None:
        """The width, as the MLP calls it."""
        return self.width

    @property
    def context(self) -> int:
        """One token, like the bigram it re-parametrizes."""
        return 1

    @model_validator(mode="after")
    def _a_table_has_no_layers(self) -> "NeuralBigram":
        if self.width is None and (self.layers or self.tied_output):
            raise ValueError("width null is the table alone, without layers or tied_output; give a width")
        return self


class Autograd(ModelConfig):
    """The chain rule by hand: the next model's network, every sum and product a node that knows its slope.

    Small by nature, being a graph of single numbers: it learns from ``examples`` tokens of train, ``epochs`` times
    each, and not from the rest. ``clip`` bounds each number of the gradient by itself, 0 none.
    """

    name, title = "autograd", "Scalar autograd"
    module, model = "lmstages.models.neural.autograd", "AutogradModel"
    source = "Linnainmaa 1970; Karpathy 2020, micrograd"
    family = "neural"
    window: Positive = 4
    embedding: Positive = 8
    hidden: Annotated[list[Positive], Field(min_length=1)] = [16]
    learning_rate: Rate = 0.05
    clip: Annotated[float, Field(ge=0)] = 0.0
    examples: Positive = 250
    epochs: Positive = 2
    evaluate_every: Positive = 50  # examples

    @property
    def context(self) -> int:
        """The window."""
        return self.window


class MLP(Perceptron):
    """Adds a window: the embeddings of several tokens side by side, in order, through hidden layers."""

    name, title = "mlp", "MLP"
    source = "Bengio et al. 2003, equation 1 without direct connections"
    window: Positive = 8
    embedding: Positive = 24
    layers: Annotated[int, Field(ge=0)] = 1
    batch_size: Positive | None = 256

    @property
    def context(self) -> int:
        """The window."""
        return self.window


class WaveNet(Neural):
    """Adds hierarchy: a layer fuses neighbours into pairs, the next pairs into fours, so that the window doubles.

    ``bias`` gives the fusing layers one, although the BatchNorm after each takes it out again.
    """

    name, title = "wavenet", "WaveNet"
    module, model = "lmstages.models.neural.wavenet", "WaveNetModel"
    source = "van den Oord et al. 2016, dilated causal convolutions"
    layers: Annotated[int, Field(ge=1, le=12)] = 3
    embedding: Positive = 24
    hidden: Positive = 128
    bias: bool = False
    batch_size: Positive | None = 32

    @property
    def window(self) -> int:
        """Doubled by every layer."""
        return int(2**self.layers)

    @property
    def context(self) -> int:
        """The window."""
        return self.window

    @model_validator(mode="after")
    def _statistics_need_two(self) -> "WaveNet":
        if self.batch_size == self.row_length == 1:
            raise ValueError("batch_size 1 and row_length 1 leave BatchNorm a single number; raise one of them")
        return self


class Recurrent(Neural):
    """What recurrent networks share: a state of ``hidden`` numbers that has read everything so far."""

    module, model = "lmstages.models.neural.recurrent", "RecurrentModel"
    embedding: Positive = 32
    hidden: Positive = 128
    layers: Positive = 1
    row_length: Positive = 64
    batch_size: Positive | None = 32

    @property
    def context(self) -> None:
        """All that came before, as far as the state holds it."""
        return None


class RNN(Recurrent):
    """Adds memory: no window any more, a state goes along with the text and is rewritten at every token."""

    name, title = "rnn", "RNN"
    source = "Elman 1990; Mikolov et al. 2010"


class GRU(Recurrent):
    """Adds gates: the network decides at every token what of its state to keep and what to write anew."""

    name, title = "gru", "GRU"
    source = "Cho et al. 2014"


class LSTM(Recurrent):
    """Adds a second state that is only added to and faded, so that what was kept survives many tokens unchanged."""

    name, title = "lstm", "LSTM"
    source = "Hochreiter & Schmidhuber 1997; Gers et al. 2000 for the forget gate"
