"""Hyperparameters of the networks without attention, and of the training loop of all networks."""

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lmstages.config.hyperparameters.base import Layers, ModelConfig, Optimizer, Positive, Rate, Schedule, Width

MOST_OBJECTS = 1_000_000  # weights of autograd, of which each takes about a kilobyte while it is fitted
WEIGHTS_PER_SECOND = 100_000  # that autograd multiplies, differentiates and updates
# Keys of how a fit is computed: its curve depends on them in the last digits alone
EXECUTION = ("micro_batch", "processes", "nodes", "sharding", "recompute")


class Neural(ModelConfig):
    """A model fitted by gradient descent: the keys of the training loop that all networks share."""

    family = "neural"
    steps: Positive = Field(1000, description="Number of updates of the weights.")
    batch_size: Positive | None = Field(64, description="Rows of tokens per step; null takes all rows at every step.")
    row_length: Positive = Field(1, description="Tokens per row that are predicted in training.")
    optimizer: Optimizer = Field(
        "adamw", description="AdamW, SGD, or Muon for hidden matrices with AdamW for embeddings, output and vectors."
    )
    learning_rate: Rate = Field(1e-3, description="Step size after the warm-up, before the schedule lowers it.")
    matrix_learning_rate: Rate = Field(
        0.02,
        description="Learning rate of Muon for hidden matrices, with the same schedule; adamw and sgd do not use it.",
    )
    momentum: float = Field(0.95, ge=0, lt=1, description="Momentum of Muon.")
    final_learning_rate: float = Field(1e-4, ge=0, le=1e4, description="Learning rate at which the schedule ends.")
    schedule: Schedule = Field(
        "cosine", description="How the learning rate falls; stable is constant and then falls linearly to its end."
    )
    drop_after: float = Field(
        0.75, ge=0, le=1, description="Fraction of the steps after which schedule step lowers the learning rate."
    )
    decay_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Fraction of the steps, the last, during which schedule stable lowers the learning rate.",
    )
    warmup_steps: int = Field(0, ge=0, description="Steps during which the learning rate rises linearly from 0.")
    beta2: float = Field(0.99, gt=0, lt=1, description="Decay rate of the second moment in AdamW.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Weight decay of matrices; vectors have none.")
    clip: float = Field(
        1.0, ge=0, description="Largest norm of the gradient, which is scaled down to it; 0 switches clipping off."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Probability with which an activation is set to 0 in training.")
    evaluate_every: Positive = Field(
        200, description="Steps between two evaluations on valid, the points of the learning curve."
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Keep the weights with the lowest loss on valid, or the last ones."
    )
    averaging: Literal["none", "ema", "mean"] = Field(
        "none",
        description="Average of the weights that is evaluated and saved: none, exponential (ema), or plain (mean).",
    )
    average_share: float = Field(0.2, gt=0, le=1, description="Fraction of the steps, the last, that is averaged.")
    average_decay: float = Field(0.99, gt=0, lt=1, description="Decay per step of averaging ema.")
    micro_batch: Positive | None = Field(
        None,
        description="Rows per pass in each process: a step adds up the gradients of several passes, in less memory; "
        "batch_size stays the rows of a step. null takes all in one pass.",
    )
    processes: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="Processes that share a fit on a node, each with some rows of every batch: one for each GPU."
    )
    nodes: Annotated[int, Field(ge=1, le=1 << 16)] = Field(
        1, description="Nodes of a cluster that share a fit, each with so many processes."
    )
    sharding: Literal["none", "full"] = Field(
        "none",
        description="Give every process all weights, or divide weights, gradients and moments among the processes.",
    )
    recompute: bool = Field(
        False,
        description="Compute the activations of each block again in backward, rather than keep them (checkpointing).",
    )

    @model_serializer(mode="wrap")
    def _execution_only_where_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of how a fit is computed that have their defaults, as in sections that do not know them."""
        fields = type(self).model_fields
        return {key: v for key, v in dump(self).items() if key not in EXECUTION or v != fields[key].default}

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

    hidden: Width = Field(128, description="Units of a hidden layer.")
    activation: Literal["tanh", "relu", "gelu"] = Field("tanh", description="Nonlinearity after each hidden layer.")
    tied_output: bool = Field(
        False,
        description="Project to the embedding's width and multiply by the embedding matrix: no output matrix.",
    )
    output_bias: bool = Field(True, description="Add a bias to every logit.")
    initialisation: Literal["scaled", "normal", "all_normal"] = Field(
        "scaled", description="Scaled by the layer's inputs, N(0, 1) with biases of 0, or N(0, 1) for all numbers."
    )
    module, model = "lmstages.models.neural.mlp", "MLPModel"


class NeuralBigram(Perceptron):
    """Adds gradient descent: a network with token embeddings computes the bigram's table of probabilities, so that
    tokens with similar contexts share parameters.

    ``width: null`` is the V x V table of logits itself (one-hot input times W); a ``width`` factors it into embedding
    and projection; ``layers`` adds hidden layers between the two.
    """

    name, title, after = "neural_bigram", "Neural bigram", "context_mixing"
    source = "Bengio et al. 2003 with a window of one"
    formula = r"$$p(\cdot \mid x) = \operatorname{softmax}(W e(x) + b)$$ with $x$ the token before."
    width: Width | None = Field(
        32, description="Width of the token embedding; null trains the V x V table of logits itself."
    )
    layers: int = Field(0, ge=0, le=1 << 12, description="Hidden layers between embedding and output.")
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
    formula = r"""
        $$p(\cdot \mid x) = \operatorname{softmax}(W \tanh(H [e(x_1); \dots; e(x_n)] + d) + b)$$
        $$\frac{\partial L}{\partial x} = \sum_y \frac{\partial L}{\partial y} \frac{\partial y}{\partial x}$$
        with $y$ all numbers that are computed from $x$: the chain rule.
    """
    family = "neural"
    window: Width = Field(4, description="Number of earlier tokens that are read.")
    embedding: Width = Field(8, description="Width of a token embedding.")
    hidden: list[Width] = Field(
        [16], min_length=1, max_length=100, description="Units of each hidden layer, one number a layer."
    )
    learning_rate: Rate = Field(0.05, description="Step size of gradient descent.")
    clip: float = Field(
        0.0, ge=0, description="Largest absolute value of a gradient component; 0 switches clipping off."
    )
    examples: Positive = Field(250, description="Number of tokens of train that it is trained on.")
    epochs: Positive = Field(2, description="How often each of these tokens is trained on.")
    evaluate_every: Positive = Field(50, description="Examples between two evaluations on valid.")

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
    formula = r"$$p(\cdot \mid x) = \operatorname{softmax}(W \tanh(H [e(x_1); \dots; e(x_n)] + d) + b)$$"
    window: Width = Field(8, description="Number of earlier tokens that are read.")
    embedding: Width = Field(24, description="Width of a token embedding.")
    layers: int = Field(1, ge=0, le=1 << 12, description="Hidden layers.")
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
    formula = r"""
        $$y_l[t] = \tanh(\operatorname{BatchNorm}(W_l [y_{l-1}[t - 2^l]; y_{l-1}[t]]))$$
        $$p(\cdot \mid x) = \operatorname{softmax}(W y_L[t] + b)$$
        with $l = 0 \dots L$ for $L + 1$ ``layers``, and $y_{-1}[t] = e(x_t)$.
    """
    layers: int = Field(3, ge=1, le=12, description="Fusing layers; the window is 2 to this power.")
    embedding: Width = Field(24, description="Width of a token embedding.")
    hidden: Width = Field(128, description="Channels of a layer.")
    bias: bool = Field(False, description="Add a bias to the fusing layers, although BatchNorm subtracts it again.")
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
    embedding: Width = Field(32, description="Width of a token embedding.")
    hidden: Width = Field(128, description="Numbers of the hidden state of a layer.")
    layers: Layers = Field(1, description="Recurrent layers above each other.")
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
    formula = r"""
        $$s_t = \tanh(W e(x_t) + U s_{t-1} + b)$$
        $$p(\cdot \mid x_1 \dots x_t) = \operatorname{softmax}(V s_t + c)$$
    """


class GRU(Recurrent):
    """Adds gates: at every token the network computes which parts of its state to keep and which to overwrite."""

    name, title, after = "gru", "GRU", "rnn"
    source = "Cho et al. 2014"
    formula = r"""
        $$r_t = \sigma(W_r e(x_t) + U_r s_{t-1} + b_r), \quad z_t = \sigma(W_z e(x_t) + U_z s_{t-1} + b_z)$$
        $$n_t = \tanh(W_n e(x_t) + b_n + r_t * (U_n s_{t-1} + d_n))$$
        $$s_t = z_t * s_{t-1} + (1 - z_t) * n_t$$
        $$p(\cdot \mid x_1 \dots x_t) = \operatorname{softmax}(V s_t + c)$$
    """


class LSTM(Recurrent):
    """Adds a cell state, changed only by multiplication with a forget gate and by addition, so that information and
    gradients survive many tokens."""

    name, title, after = "lstm", "LSTM", "gru"
    source = "Hochreiter & Schmidhuber 1997; Gers et al. 2000 for the forget gate"
    formula = r"""
        $$i_t, f_t, o_t = \sigma(W e(x_t) + U s_{t-1} + b)$$
        $$g_t = \tanh(W_g e(x_t) + U_g s_{t-1} + b_g)$$
        $$c_t = f_t * c_{t-1} + i_t * g_t, \quad s_t = o_t * \tanh(c_t)$$
        $$p(\cdot \mid x_1 \dots x_t) = \operatorname{softmax}(V s_t + d)$$
        with $W$, $U$ and $b$ of its own for each of the gates $i$, $f$ and $o$.
    """


class MinimalRecurrent(Recurrent):
    """Residual blocks whose gates depend on the input alone, so that a row is computed in parallel."""

    module, model = "lmstages.models.neural.minimal", "MinimalRecurrentModel"
    embedding: Width = Field(64, description="Width of a token embedding and of the residual stream.")
    layers: Layers = Field(3, description="Blocks above each other, each with one recurrent layer.")
    feedforward: int = Field(
        0, ge=0, le=1 << 16, description="Units of a feed-forward layer after each recurrent layer; 0 leaves it out."
    )
    maps: ClassVar[int]  # of the input: a candidate and the gates

    def weights(self, vocab_size: int) -> int:
        """How many weights one prediction multiplies."""
        block = self.embedding * ((self.maps + 1) * self.hidden + 2 * self.feedforward)
        return self.layers * block + self.embedding * vocab_size


class MinGRU(MinimalRecurrent):
    """Gives up the GRU's recurrent matrices and its reset gate: gate and candidate depend on the input alone, so that
    the states of a whole row follow from one parallel scan. Residual blocks make up for what one layer cannot see."""

    name, title, after = "mingru", "minGRU", "lstm"
    source = "Feng et al. 2024"
    formula = r"""
        $$z_t = \sigma(W_z x_t + b_z), \quad n_t = g(W_n x_t + b_n)$$
        $$s_t = (1 - z_t) * s_{t-1} + z_t * n_t$$
        $$y_t = x_t + W_o s_t$$
        with $x_t$ the normalised input of a block, in the sum as it was, and $g(a)$ = $a + 0.5$ for $a \ge 0$, else
        $\sigma(a)$.
    """
    maps = 2


class MinLSTM(MinimalRecurrent):
    """Gives up the LSTM's recurrent matrices, output gate and second state: its forget and input gate depend on the
    input alone and are divided by their sum, where minGRU has one gate."""

    name, title, after = "minlstm", "minLSTM", "mingru"
    source = "Feng et al. 2024"
    formula = r"""
        $$f_t = \sigma(W_f x_t + b_f), \quad i_t = \sigma(W_i x_t + b_i), \quad n_t = g(W_n x_t + b_n)$$
        $$s_t = \frac{f_t}{f_t + i_t} * s_{t-1} + \frac{i_t}{f_t + i_t} * n_t$$
        $$y_t = x_t + W_o s_t$$
        with $x_t$ and $g$ as in minGRU.
    """
    maps = 3
