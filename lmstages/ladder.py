"""The ladder: every rung in order, each a frozen record of its hyperparameters.

A rung's docstring says what it adds to the rung below, that is, which assumption it drops. A record
holds what *defines* a fitted model and nothing about how it is scored or where it runs, so that an
edit here re-fits exactly the models it changes. Knows nothing of tokens, arrays or files.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WrapValidator, model_validator

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1e4)]
Optimizer = Literal["adamw", "sgd", "muon"]
Schedule = Literal["constant", "cosine", "linear", "step", "stable"]
Standing = Literal["static", "adaptive", "bound", "code length", "pretrained"]


class Rung(BaseModel):
    """What every rung tells of itself; ``module`` and ``model`` name the class that fits it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())
    name: ClassVar[str]
    title: ClassVar[str]
    module: ClassVar[str]
    model: ClassVar[str]
    source: ClassVar[str]
    family: ClassVar[Literal["counts", "neural"]]
    protocol: ClassVar[Literal["stream", "stride"]] = "stream"  # how it is scored unless the config says otherwise

    @property
    def context(self) -> int | None:
        """How many earlier tokens a prediction may use; None for all of them."""
        raise NotImplementedError

    @property
    def standing(self) -> Standing:
        """The class of rows it may be compared within."""
        return "static"

    @property
    def fitted_by(self) -> str:
        """The class in ``module`` that fits this very record."""
        return self.model


class Counts(Rung):
    """A rung that is fitted by counting: exact, quick, the same for every seed."""

    family = "counts"


class Uniform(Counts):
    """Guesses: every token of the vocabulary is as likely as any other."""

    name, title = "uniform", "Uniform"
    module, model = "lmstages.models.ngram", "UniformModel"
    source = "Shannon 1951"

    @property
    def context(self) -> int:
        """Nothing that came before matters."""
        return 0


STRICT = ConfigDict(strict=True, allow_inf_nan=False)
ONE_ORDER: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=1, le=24)], config=STRICT)
ONE_CONSTANT: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(ge=0, le=1e6)], config=STRICT)


def _one_or_several(one: TypeAdapter[Any], what: str) -> WrapValidator:
    """A value, or a list of them each once of which valid chooses; one error for what is neither."""

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            return one.validate_python(value)
        if not value or len(set(map(str, value))) < len(value):
            raise ValueError(f"{value} found; a list of {what}, of which valid chooses, names each once, at least one")
        return [one.validate_python(each) for each in value]

    return WrapValidator(read)


Orders = Annotated[int | list[int], _one_or_several(ONE_ORDER, "orders")]
Constants = Annotated[float | list[float], _one_or_several(ONE_CONSTANT, "constants")]


def several(value: Any) -> tuple[Any, ...]:
    """One value or a list of them, as a tuple."""
    return tuple(value) if isinstance(value, list) else (value,)


class Smoothed(Counts):
    """Counts with the same constant added to every one, so that what was never seen stays possible.

    ``padded`` counts a document's first tokens too, behind boundaries; without it only whole n-grams count.
    """

    add: Constants = 0.1
    padded: bool = True
    module, model = "lmstages.models.ngram", "NgramModel"

    order: ClassVar[int]

    @property
    def orders(self) -> tuple[int, ...]:
        """The one order there is."""
        return (self.order,)

    @property
    def constants(self) -> tuple[float, ...]:
        """The constants to choose from."""
        return several(self.add)

    @property
    def context(self) -> int:
        """An order-n model predicts from n - 1 tokens."""
        return self.order - 1


class Unigram(Smoothed):
    """Adds frequency: some tokens are likelier than others, whatever came before."""

    name, title, order = "unigram", "Unigram", 1
    source = "Shannon 1948, first-order approximation"


class Bigram(Smoothed):
    """Adds order: what comes next depends on the token before it."""

    name, title, order = "bigram", "Bigram", 2
    source = "Markov 1913"


DISCOUNTED = ("absolute", "kneser_ney", "modified_kneser_ney")


class AnyOrder(Counts):
    """N-grams of any length; of a list of orders the one that predicts ``valid`` best is kept."""

    order: Orders
    module = "lmstages.models.ngram"

    @property
    def orders(self) -> tuple[int, ...]:
        """The orders to choose from."""
        return several(self.order)

    @property
    def context(self) -> int:
        """An order-n model predicts from n - 1 tokens."""
        return max(self.orders) - 1


class Ngram(AnyOrder):
    """Adds history: n - 1 tokens instead of one, and with them contexts that were never seen.

    ``smoothing`` says where the probability of what was never seen comes from: a constant added to every count,
    or the next shorter context, down to a uniform guess. ``add`` belongs to the first, ``discounts`` to those of the
    others that subtract from counts: by formula, or ``tuned`` on a part of train. What stands before a document is
    boundaries all the way (``padded``), or one: then adding counts whole n-grams only, the others begin with less.
    """

    name, title = "ngram", "N-gram"
    model = "NgramModel"
    source = "Shannon 1948; Lidstone 1920 for the constant; Chen & Goodman 1999 for the others"
    order: Orders = 4
    smoothing: Literal["add", "jelinek_mercer", "witten_bell", "absolute", "kneser_ney", "modified_kneser_ney"] = "add"
    add: Constants | None = None  # 0.1 where it belongs
    padded: bool | None = None  # true for add, false for the others
    discounts: Literal["closed_form", "tuned"] | None = None  # closed_form where they belong

    @model_validator(mode="before")
    @classmethod
    def _keys_of_the_smoothing(cls, keys: Any) -> Any:
        """Each key belongs to some smoothings: there it has a default, elsewhere it is refused."""
        if not isinstance(keys, dict):
            return keys
        smoothing, defaults = keys.get("smoothing", "add"), dict[str, Any]()
        defaults["padded"] = smoothing == "add"
        for key, default, owners in (("add", 0.1, ("add",)), ("discounts", "closed_form", DISCOUNTED)):
            if smoothing in owners:
                defaults[key] = default
            elif keys.get(key) is not None:
                raise ValueError(f"{key} belongs to smoothing {' or '.join(owners)}; found with {smoothing!r}")
        return defaults | {key: value for key, value in keys.items() if key not in defaults or value is not None}

    @property
    def constants(self) -> tuple[float, ...]:
        """The constants to choose from."""
        return several(self.add or 0.0)

    @property
    def fitted_by(self) -> str:
        """Adding a constant looks at one order alone, every other smoothing at all of them."""
        return "NgramModel" if self.smoothing == "add" else "InterpolatedModel"


class KneserNey(AnyOrder):
    """Adds doubt: every context gives part of its counts to the next shorter one, and there a token counts by how
    many different contexts it followed, not by how often it came: *Francisco* is frequent, but only after *San*.

    The shortcut ``rung: ngram, smoothing: modified_kneser_ney``, since no smoothing of counts is stronger.
    """

    name, title = "kneser_ney", "Kneser-Ney, modified"
    model = "InterpolatedModel"
    source = "Kneser & Ney 1995; Chen & Goodman 1999, section 3"
    smoothing: ClassVar[str] = "modified_kneser_ney"
    order: Orders = 6
    discounts: Literal["closed_form", "tuned"] = "closed_form"
    padded: bool = False


class Cache(Counts):
    """Adds recency: what was just said is said again. Nothing is learned from train, and from the text that is read
    no more than a unigram of its last ``window`` tokens, which fade by ``decay`` each.

    Weak alone; in a mixture with any other rung it is what that rung cannot know of a text's own words.
    """

    name, title = "cache", "Unigram cache"
    module, model = "lmstages.models.cache", "CacheModel"
    source = "Kuhn & De Mori 1990; Grave et al. 2017"
    window: Annotated[int, Field(ge=1, le=1 << 24)] = 1000
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    add: Annotated[float, Field(gt=0, le=1e6)] = 0.1  # to every count, so that every token is possible

    @property
    def standing(self) -> Standing:
        """It learns from the text it is scored on, and from nothing else."""
        return "adaptive"

    @property
    def context(self) -> int:
        """The window."""
        return self.window


class Learning(Counts):
    """A rung that can learn as it reads: from train alone or, with ``learns``, from every token that it has scored.

    What learns from the text it is scored on stands in a class of its own, since no other rung saw that text.
    """

    learns: bool = False

    @property
    def standing(self) -> Standing:
        """Adaptive where it goes on learning."""
        return "adaptive" if self.learns else "static"


class PPM(Learning):
    """Takes certainty from the longest context that says anything: a token that has followed it is predicted from
    there alone, and shorter contexts are asked only for what has not, once every token that has is excluded.

    Older than Kneser-Ney, and made to compress: it can learn on while it is scored (``learns``).
    """

    name, title = "ppm", "PPM-D"
    module, model = "lmstages.models.ppm", "PPMModel"
    source = "Cleary & Witten 1984; Moffat 1990; Howard 1993 for method D"
    order: Annotated[int, Field(ge=0, le=32)] = 5  # tokens of the longest context

    @property
    def context(self) -> int | None:
        """The longest context; everything read, where it learns from it."""
        return None if self.learns else self.order


class ContextMixing(Learning):
    """Adds opinions: no longer one context after the other but all at once, and a neuron that learns whom to trust.

    Besides the last 1 ... ``order`` tokens it looks at words and lines.
    """

    name, title = "context_mixing", "Context mixing"
    module, model = "lmstages.models.context_mixing", "ContextMixingModel"
    source = "Mahoney 2005, PAQ"
    order: Annotated[int, Field(ge=1, le=16)] = 6

    @property
    def context(self) -> None:
        """Words and lines may be of any length."""
        return None


class Neural(Rung):
    """A rung that is fitted by gradient descent; these keys belong to the one training loop."""

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
    module, model = "lmstages.models.mlp", "MLPModel"


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


class Autograd(Rung):
    """The chain rule by hand: the next rung's network, every sum and product a node that knows its slope.

    Small by nature, being a graph of single numbers: it learns from ``examples`` tokens of train, ``epochs`` times
    each, and not from the rest. ``clip`` bounds each number of the gradient by itself, 0 none.
    """

    name, title = "autograd", "Scalar autograd"
    module, model = "lmstages.models.autograd", "AutogradModel"
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
    module, model = "lmstages.models.convolution", "WaveNetModel"
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

    module, model = "lmstages.models.recurrent", "RecurrentModel"
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


class GPT(Neural):
    """Adds attention: every earlier token may be looked at, and which ones matter depends on what they say.

    The switches take it apart: one head without ``projection``, ``feedforward``, ``residual`` or ``norms`` is where
    a lecture begins (Karpathy 2023), all of them on is GPT-2. ``feedforward: layer`` is a single layer and not an
    inner one four times as wide; ``bias`` is that of layers and norms, ``attention_bias`` of queries, keys and values.
    """

    name, title = "gpt", "GPT"
    module, model = "lmstages.models.gpt", "GPTModel"
    protocol = "stride"
    source = "Vaswani et al. 2017; Radford et al. 2019"
    layers: Positive = 4
    heads: Positive = 4
    width: Positive = 128
    window: Positive = 64
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
        """The longest row that has positions."""
        return self.window

    @model_validator(mode="after")
    def _shapes_fit(self) -> "GPT":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.row_length > self.window:
            raise ValueError(f"row_length {self.row_length} exceeds window {self.window}")
        return self


class Llama(Neural):
    """Changes four parts of GPT: relative positions by rotation, a gated feed-forward, simpler norms, shared keys.

    ``key_value_heads`` below ``heads`` makes several queries share a key and value (Ainslie et al. 2023).
    """

    name, title = "llama", "LLaMA"
    module, model = "lmstages.models.llama", "LlamaModel"
    protocol = "stride"
    source = "Touvron et al. 2023"
    layers: Positive = 4
    heads: Positive = 4
    key_value_heads: Positive = 2
    width: Positive = 128
    hidden: Positive = 344
    window: Positive = 64
    rope_base: Annotated[float, Field(ge=1, le=1e9)] = 10000.0
    norm_epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-5
    tied_output: bool = True
    batch_size: Positive | None = 12
    row_length: Positive = 64
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.1

    @property
    def context(self) -> int:
        """The longest row it is trained on."""
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


class DerivedLlama(Rung):
    """What is made of a fitted LLaMA without training it again; ``of`` names that model, as the run calls it.

    ``base`` is the record of the LLaMA at the bottom; the config's reading puts it there.
    """

    family = "neural"
    protocol = "stride"
    of: str = "llama"
    base: Llama | None = None

    @property
    def context(self) -> int | None:
        """That of the model it is made of."""
        return self.base.context if self.base else None

    @property
    def bottom(self) -> Llama:
        """The LLaMA it is made of."""
        assert self.base is not None, "the config's reading puts it there"
        return self.base

    @property
    def window(self) -> int:
        """The longest row of that model."""
        return self.bottom.window

    @property
    def layers(self) -> int:
        """How many that model has."""
        return self.bottom.layers


class QuantisedLlama(DerivedLlama):
    """What rungs with few bits a weight share: blocks of 32 numbers, a scale each; ``output`` is the matrix of logits.

    Where the output is tied to the embedding, both are one matrix, in the output's format. Norms stay 32 bits.
    """

    module, model = "lmstages.models.quantised", "QuantisedModel"
    format: ClassVar[Literal["q8_0", "q4_0"]]
    output: Literal["q8_0", "q4_0"] = "q8_0"
    rounding: Literal["nearest", "gptq"] = "nearest"
    activations: Literal["f32", "q8_0"] = "f32"  # what matrices are multiplied with; llama.cpp rounds it to 8 bits


class LlamaQ8(QuantisedLlama):
    """Rounds every matrix of a fitted LLaMA to 8 bits a weight, and a scale for each 32: a quarter of the bytes."""

    name, title, format = "llama_q8", "LLaMA, 8 bits", "q8_0"
    source = "Gerganov et al. 2023, llama.cpp's Q8_0"
    rounding: Literal["nearest"] = "nearest"


class LlamaQ4(QuantisedLlama):
    """Rounds on to 4 bits a weight, a seventh of the bytes: what let LLaMA run on a CPU.

    ``rounding: gptq`` passes what a column's rounding spoils on to the columns after it, weighed by how the inputs
    of ``calibration`` windows of train go together (Frantar et al. 2023).
    """

    name, title, format = "llama_q4", "LLaMA, 4 bits", "q4_0"
    source = "Gerganov et al. 2023, llama.cpp's Q4_0"
    calibration: Annotated[int, Field(ge=1, le=100000)] = 128  # windows; rounding gptq alone reads it


class LlamaCpp(DerivedLlama):
    """The same file through another engine: what llama.cpp itself makes of a LLaMA, or of one in 8 or 4 bits.

    ``weights`` is the record of the model that ``of`` names, put there like ``base``.
    """

    name, title = "llama_cpp", "LLaMA through llama.cpp"
    module, model = "lmstages.models.llama_cpp", "LlamaCppModel"
    source = "Gerganov et al. 2023, llama.cpp"
    weights: LlamaQ8 | LlamaQ4 | None = None


class ModernGPT(Neural):
    """Changes what small, quick training runs have found better since: norms without weights, also of queries and
    keys, rotation, ReLU^2, a start at zero, logits that cannot run away; each by a switch.

    ``ngram_embeddings`` lists the orders whose hashed n-grams get a vector of their own, ``value_embeddings`` gives
    every layer's values one of the token. With every switch off it is GPT. ``optimizer: muon`` is made for it.
    """

    name, title = "modern_gpt", "Modern GPT"
    module, model = "lmstages.models.modern", "ModernModel"
    protocol = "stride"
    source = "Jordan et al. 2024, modded-nanogpt; each part in models/modern.py"
    layers: Positive = 4
    heads: Positive = 4
    width: Positive = 128
    window: Positive = 64
    rms_norm: bool = True
    rotary: bool = True
    rope_base: Annotated[float, Field(ge=1, le=1e9)] = 10000.0
    query_key_norm: bool = True
    squared_relu: bool = True
    zero_projections: bool = True
    softcap: Annotated[float, Field(gt=0, le=1e4)] | None = 15.0
    value_embeddings: bool = False
    ngram_embeddings: list[Annotated[int, Field(ge=2, le=8)]] = []
    ngram_buckets: Positive = 4096
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
        """The longest row it is trained on."""
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
    """Puts the network on top of Kneser-Ney: it says only by how much the counts are wrong, and learns it on parts of
    train that they were not counted from.

    ``order`` and ``discounts`` are Kneser-Ney's, ``folds`` how many parts train is cut into; the rest is the network's.
    """

    name, title = "residual", "Residual on Kneser-Ney"
    module, model = "lmstages.models.residual", "ResidualModel"
    source = "Hinton 2002, products of experts; Wolpert 1992, cross-fitting"
    order: Annotated[int, Field(ge=1, le=24)] = 6
    discounts: Literal["closed_form", "tuned"] = "closed_form"
    folds: Annotated[int, Field(ge=2, le=1000)] = 10

    @model_validator(mode="after")
    def _the_window_holds_the_order(self) -> "Residual":
        if self.order - 1 > self.window:
            raise ValueError(f"order {self.order} looks back further than window {self.window}")
        return self


LADDER: tuple[type[Rung], ...] = (
    Uniform,
    Unigram,
    Bigram,
    Ngram,
    KneserNey,
    Cache,
    PPM,
    ContextMixing,
    NeuralBigram,
    Autograd,
    MLP,
    WaveNet,
    RNN,
    GRU,
    LSTM,
    GPT,
    Llama,
    LlamaQ8,
    LlamaQ4,
    LlamaCpp,
    ModernGPT,
    Residual,
)
RUNGS: dict[str, type[Rung]] = {rung.name: rung for rung in LADDER}
