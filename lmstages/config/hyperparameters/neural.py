"""Hyperparameters of the networks without attention, and of the training loop of all networks."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lmstages.config.hyperparameters.base import Layers, ModelConfig, Optimizer, Positive, Rate, Schedule, Width

MOST_OBJECTS = 1_000_000  # weights of autograd, of which each takes about a kilobyte while it is fitted
WEIGHTS_PER_SECOND = 100_000  # that autograd multiplies, differentiates and updates


class Neural(ModelConfig):
    """A model fitted by gradient descent: the keys of the training loop that all networks share."""

    family = "neural"
    steps: Positive = 1000
    batch_size: Positive | None = 64  # None: all rows at every step
    row_length: Positive = 1
    optimizer: Optimizer = "adamw"  # muon: Muon for hidden matrices, AdamW for embeddings, output and vectors
    learning_rate: Rate = 1e-3
    matrix_learning_rate: Rate = 0.02  # of Muon, with the same schedule; adamw and sgd do not use it
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95  # of Muon
    final_learning_rate: Annotated[float, Field(ge=0, le=1e4)] = 1e-4
    schedule: Schedule = "cosine"
    drop_after: Annotated[float, Field(ge=0, le=1)] = 0.75  # fraction of the steps; of schedule step
    decay_share: Annotated[float, Field(gt=0, le=1)] = 0.5  # fraction of the steps, the last; of schedule stable
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.99
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    clip: Annotated[float, Field(ge=0)] = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    evaluate_every: Positive = 200
    keep: Literal["best", "last"] = "best"
    averaging: Literal["none", "ema", "mean"] = "none"  # of the weights, for evaluation and for the saved model
    average_share: Annotated[float, Field(gt=0, le=1)] = 0.2  # fraction of the steps, the last, that is averaged
    average_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99  # per step; of averaging ema

    @model_validator(mode="after")
    def _consistent(self) -> "Neural":
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        return self


class Perceptron(Neural):
    """A feed-forward network over a fixed window: ``layers`` hidden layers of ``hidden`` units, then the output layer.

    ``tied_output`` projects to the embedding's width and multiplies by the embedding matrix (Press & Wolf 2017).
    ``initialisation``: ``scaled`` divides by the square root of a layer's inputs; ``normal`` draws all weights from
    N(0, 1), with biases zero; ``all_normal`` draws the biases from N(0, 1) too.
    """

    hidden: Width = 128
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    tied_output: bool = False
    output_bias: bool = True
    initialisation: Literal["scaled", "normal", "all_normal"] = "scaled"
    module, model = "lmstages.models.neural.mlp", "MLPModel"


class NeuralBigram(Perceptron):
    """Adds gradient descent: a network with token embeddings computes the bigram's table of probabilities, so that
    tokens with similar contexts share parameters.

    ``width: null`` is the V x V table of logits itself (one-hot input times W); a ``width`` factors it into embedding
    and projection; ``layers`` adds hidden layers between the two.
    """

    name, title, after = "neural_bigram", "Neural bigram", "context_mixing"
    source = "Bengio et al. 2003 with a window of one"
    width: Width | None = 32
    layers: Annotated[int, Field(ge=0, le=1 << 12)] = 0
    batch_size: Positive | None = 512

    window: ClassVar[int] = 1

    @property
    def embedding(self) -> int | None:
        """The embedding width, under the name that MLP gives it."""
        return self.width

    @property
    def context(self) -> int:
        """One token, as of the bigram."""
        return 1

    @model_validator(mode="after")
    def _a_table_has_no_layers(self) -> "NeuralBigram":
        if self.width is None and (self.layers or self.tied_output):
            raise ValueError("width null is the table alone, without layers or tied_output; give a width")
        return self


class Autograd(ModelConfig):
    """Adds backpropagation written out: the next model's network as a graph of scalars, in which every sum and product
    is a node that knows its local gradient.

    A graph of single numbers is slow, so that it trains on ``examples`` tokens of train, ``epochs`` times each, and not
    on the rest. ``clip`` bounds the absolute value of each gradient component; 0 turns clipping off.
    """

    name, title, after = "autograd", "Scalar autograd", "neural_bigram"
    module, model = "lmstages.models.neural.autograd", "AutogradModel"
    source = "Linnainmaa 1970; Karpathy 2020, micrograd"
    family = "neural"
    window: Width = 4
    embedding: Width = 8
    hidden: Annotated[list[Width], Field(min_length=1, max_length=100)] = [16]
    learning_rate: Rate = 0.05
    clip: Annotated[float, Field(ge=0)] = 0.0
    examples: Positive = 250
    epochs: Positive = 2
    evaluate_every: Positive = 50  # examples

    @property
    def context(self) -> int:
        """The number of tokens in the window."""
        return self.window

    @model_validator(mode="after")
    def _few_enough_objects(self) -> "Autograd":
        if (weights := self.weights(1)) > MOST_OBJECTS:
            raise ValueError(f"{weights:,} weights, each an object; at most {MOST_OBJECTS:,}: lower window or hidden")
        return self

    def weights(self, vocab_size: int) -> int:
        """The numbers that one prediction multiplies."""
        widths = [self.window * self.embedding, *self.hidden, vocab_size]
        return sum(inputs * outputs for inputs, outputs in pairwise(widths))

    def seconds(self, vocab_size: int, tokens: int) -> float:
        """About how long a fit on so many tokens takes."""
        return self.weights(vocab_size) * min(self.examples, tokens) * self.epochs / WEIGHTS_PER_SECOND


class MLP(Perceptron):
    """Adds a window of several tokens: their embeddings are concatenated in order and passed through hidden layers."""

    name, title, after = "mlp", "MLP", "autograd"
    source = "Bengio et al. 2003, equation 1 without direct connections"
    window: Width = 8
    embedding: Width = 24
    layers: Annotated[int, Field(ge=0, le=1 << 12)] = 1
    batch_size: Positive | None = 256

    @property
    def context(self) -> int:
        """The number of tokens in the window."""
        return self.window


class WaveNet(Neural):
    """Adds hierarchy: each layer fuses adjacent pairs of positions (a dilated causal convolution), so that the window
    doubles with every layer.

    ``bias`` adds a bias to the fusing layers, although the BatchNorm after each of them subtracts it again.
    """

    name, title, after = "wavenet", "WaveNet", "mlp"
    module, model = "lmstages.models.neural.wavenet", "WaveNetModel"
    source = "van den Oord et al. 2016, dilated causal convolutions"
    layers: Annotated[int, Field(ge=1, le=12)] = 3
    embedding: Width = 24
    hidden: Width = 128
    bias: bool = False
    batch_size: Positive | None = 32

    @property
    def window(self) -> int:
        """2 to the power of ``layers``: every layer doubles it."""
        return int(2**self.layers)

    @property
    def context(self) -> int:
        """The number of tokens in the window."""
        return self.window

    @model_validator(mode="after")
    def _statistics_need_two(self) -> "WaveNet":
        if self.batch_size == self.row_length == 1:
            raise ValueError("batch_size 1 and row_length 1 leave BatchNorm a single number; raise one of them")
        return self


class Recurrent(Neural):
    """A recurrent network: a hidden state of ``hidden`` numbers per layer, updated at every token."""

    module, model = "lmstages.models.neural.recurrent", "RecurrentModel"
    embedding: Width = 32
    hidden: Width = 128
    layers: Layers = 1
    row_length: Positive = 64
    batch_size: Positive | None = 32

    @property
    def context(self) -> None:
        """None: the hidden state depends on all earlier tokens."""
        return None


class RNN(Recurrent):
    """Adds memory: a hidden state that is updated at every token takes the place of the fixed window."""

    name, title, after = "rnn", "RNN", "wavenet"
    source = "Elman 1990; Mikolov et al. 2010"


class GRU(Recurrent):
    """Adds gates: at every token the network computes which parts of its state to keep and which to overwrite."""

    name, title, after = "gru", "GRU", "rnn"
    source = "Cho et al. 2014"


class LSTM(Recurrent):
    """Adds a cell state, changed only by multiplication with a forget gate and by addition, so that information and
    gradients survive many tokens."""

    name, title, after = "lstm", "LSTM", "gru"
    source = "Hochreiter & Schmidhuber 1997; Gers et al. 2000 for the forget gate"
