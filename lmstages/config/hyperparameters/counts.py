"""Hyperparameters of the models that are fitted by counting."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, WithJsonSchema, WrapValidator, model_validator

from lmstages.config.hyperparameters.base import Category, ModelConfig, as_tuple


class Counts(ModelConfig):
    """A model that is fitted by counting: deterministic, so that every seed gives the same model."""

    family = "counts"


class Uniform(Counts):
    """Predicts every token of the vocabulary with the same probability, 1 / V: the baseline of every other model."""

    name, title, after = "uniform", "Uniform", None
    module, model = "lmstages.models.counts.ngram", "UniformModel"
    source = "Shannon 1951"
    formula = r"$$p(w \mid h) = \frac{1}{V}$$"

    @property
    def context(self) -> int:
        """No earlier token is used."""
        return 0


STRICT = ConfigDict(strict=True, allow_inf_nan=False)


ONE_ORDER: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=1, le=24)], config=STRICT)


ONE_CONSTANT: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(ge=0, le=1e6)], config=STRICT)


def _value_or_list(adapter: TypeAdapter[Any], noun: str) -> WrapValidator:
    """Validates a single value, or a list of distinct values from which the valid split chooses.

    Raises ValueError for an empty list and for duplicates; ``noun`` is what the message calls the values.
    """

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            return adapter.validate_python(value)
        if not value or len(set(map(str, value))) < len(value):
            allowed = f"a list of {noun}, from which valid chooses, has no duplicates and is not empty"
            raise ValueError(f"{value} found; {allowed}")
        values = [adapter.validate_python(item) for item in value]
        if len(set(values)) < len(values):
            raise ValueError(f"{value} found; 1 and 1.0 are one value, which valid would choose from twice")
        return values

    return WrapValidator(read)


def _schema(adapter: TypeAdapter[Any]) -> WithJsonSchema:
    """Of the same: validators that are functions do not say in a JSON schema what they allow."""
    single = adapter.json_schema()
    return WithJsonSchema({"anyOf": [single, {"type": "array", "items": single, "minItems": 1, "uniqueItems": True}]})


Orders = Annotated[int | list[int], _value_or_list(ONE_ORDER, "orders"), _schema(ONE_ORDER)]


Constants = Annotated[float | list[float], _value_or_list(ONE_CONSTANT, "constants"), _schema(ONE_CONSTANT)]


class Smoothed(Counts):
    """N-gram counts with additive smoothing: the constant ``add`` is added to every count, so that no probability is 0.

    ``padded`` counts a document's first tokens too, preceded by boundary tokens; otherwise only n-grams that lie wholly
    within a document are counted. Of a list of constants the one with the lowest loss on valid is kept.
    """

    add: Constants = Field(0.1, description="Constant added to every count; of a list, valid chooses one.")
    padded: bool = Field(True, description="Count a document's first tokens too, preceded by boundary tokens.")
    module, model = "lmstages.models.counts.ngram", "NgramModel"

    order: ClassVar[int]

    @property
    def orders(self) -> tuple[int, ...]:
        """The model's order, as a tuple of one."""
        return (self.order,)

    @property
    def constants(self) -> tuple[float, ...]:
        """The constants to choose from."""
        return as_tuple(self.add)

    @property
    def context(self) -> int:
        """An order-n model predicts from n - 1 tokens."""
        return self.order - 1


class Unigram(Smoothed):
    """Adds token frequencies: each token has its relative frequency in train as probability, whatever precedes it."""

    name, title, after, order = "unigram", "Unigram", "uniform", 1
    source = "Shannon 1948, first-order approximation"
    formula = r"$$p(w) = \frac{c(w) + \text{add}}{N + \text{add} \cdot V}$$"


class Bigram(Smoothed):
    """Adds a context of one token: the next token's distribution depends on the token before it."""

    name, title, after, order = "bigram", "Bigram", "unigram", 2
    source = "Markov 1913"
    formula = r"$$p(w \mid v) = \frac{c(v, w) + \text{add}}{c(v) + \text{add} \cdot V}$$ with $v$ the token before $w$."


DISCOUNTED = ("absolute", "kneser_ney", "modified_kneser_ney")


class AnyOrder(Counts):
    """N-grams of any order; of a list of orders the one with the lowest loss on valid is kept."""

    order: Orders = Field(
        description="Length n of the n-grams, so that n - 1 earlier tokens are read; of a list, valid chooses one."
    )
    module = "lmstages.models.counts.ngram"

    @property
    def orders(self) -> tuple[int, ...]:
        """The orders to choose from."""
        return as_tuple(self.order)

    @property
    def context(self) -> int:
        """An order-n model predicts from n - 1 tokens."""
        return max(self.orders) - 1


class Ngram(AnyOrder):
    """Adds a longer context: the next token depends on the n - 1 tokens before it, many of which never occur in train.

    ``smoothing`` decides where the probability of unseen n-grams comes from: a constant added to every count
    (``add``), or interpolation with the next shorter context, down to the uniform distribution. ``discounts``, of the
    smoothings that subtract from counts, are computed by formula (``closed_form``) or ``tuned`` on a held-out part of
    train. ``padded`` puts n - 1 boundary tokens before every document. Without it there is one: additive smoothing then
    counts only n-grams within a document, the others use shorter contexts at a document's start.
    """

    name, title, after = "ngram", "N-gram", "bigram"
    model = "NgramModel"
    source = "Shannon 1948; Lidstone 1920 for the constant; Chen & Goodman 1999 for the others"
    formula = r"""
        $$p(w \mid h) = \frac{c(h, w) + \text{add}}{c(h) + \text{add} \cdot V}$$
        with $h$ the $n - 1$ tokens before $w$; or, interpolated,
        $$p(w \mid h) = \alpha(h, w) + \gamma(h) \, p(w \mid h')$$
        with $h'$ as $h$ without its oldest token, $\alpha(h, w)$ the part that the counts of $h$ give $w$, and
        $\gamma(h)$ what they leave to the shorter context.
    """
    order: Orders = 4
    smoothing: Literal["add", "jelinek_mercer", "witten_bell", "absolute", "kneser_ney", "modified_kneser_ney"] = Field(
        "add", description="Where the probability of n-grams that train lacks comes from."
    )
    add: Constants | None = Field(
        None,
        description="Of smoothing add: constant added to every count, by default 0.1; of a list, valid chooses one.",
    )
    padded: bool | None = Field(
        None,
        description="Put n - 1 boundary tokens before every document, not one; by default for smoothing add.",
    )
    discounts: Literal["closed_form", "tuned"] | None = Field(
        None,
        description="Of smoothings that subtract: computed by formula, the default, or tuned on a part of train.",
    )

    @model_validator(mode="before")
    @classmethod
    def _keys_of_the_smoothing(cls, keys: Any) -> Any:
        """Fills in the defaults of the keys that the smoothing has; raises ValueError for a key it has not."""
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
        return as_tuple(self.add or 0.0)

    @property
    def fitted_by(self) -> str:
        """Additive smoothing counts a single order; every other smoothing counts all orders."""
        return "NgramModel" if self.smoothing == "add" else "InterpolatedModel"


class KneserNey(AnyOrder):
    """Adds absolute discounting with continuation counts: a discount is subtracted from every count and its probability
    mass is spread by the next shorter context, in which a token counts by how many different contexts it follows, not
    by how often it occurs. *Francisco* is frequent, but only after *San*.

    Short for ``type: ngram, smoothing: modified_kneser_ney``, the strongest of the count-based smoothings, with
    ``order`` 6. The discounts are those of Chen & Goodman (``closed_form``) or ``tuned`` on a held-out part of train.
    """

    name, title, after = "kneser_ney", "Kneser-Ney, modified", "ngram"
    model = "InterpolatedModel"
    source = "Kneser & Ney 1995; Chen & Goodman 1999, section 3"
    formula = r"""
        $$p(w \mid h) = \frac{\max(c(h, w) - D, 0)}{c(h)} + \gamma(h) \, p(w \mid h')$$
        with $h'$ as $h$ without its oldest token; $D$ is $D_1$, $D_2$ or $D_3$ for a count of 1, 2, or 3 and more, and
        $\gamma(h)$ all that was subtracted, divided by $c(h)$. For $h'$ and shorter contexts, $c(h', w)$ is the number
        of different tokens that precede $h' w$.
    """
    smoothing: ClassVar[str] = "modified_kneser_ney"
    order: Orders = 6
    discounts: Literal["closed_form", "tuned"] = Field(
        "closed_form", description="Computed by the formula of Chen & Goodman, or tuned on a part of train."
    )
    padded: bool = Field(False, description="Put n - 1 boundary tokens before every document, not one.")


class InfiniGram(Counts):
    """Adds contexts of any length: as many tokens as the text has last in common with any place of train, found through
    a suffix array. Every shorter context contributes too, as in Kneser-Ney, which it is at unlimited order.

    The paper takes the relative frequencies after the longest context alone, which give most tokens probability 0.
    Discounts are those of Chen & Goodman, of each length below ``shared_from`` and together for longer n-grams.
    """

    name, title, after = "infini_gram", "Infini-gram", "kneser_ney"
    module, model = "lmstages.models.counts.infini_gram", "InfiniGramModel"
    source = "Liu et al. 2024; Kneser & Ney 1995 and Chen & Goodman 1999 for the smoothing; Manber & Myers 1993"
    formula = r"""
        $$p(w \mid h) = \frac{\max(c(h, w) - D, 0)}{c(h)} + \gamma(h) \, p(w \mid h')$$
        with $h$ as long as train contains it, $h'$ as $h$ without its oldest token, $c(h, w)$ the number of different
        tokens that precede $h w$, $c(h) = \sum_w c(h, w)$, and $\gamma(h)$ all that was subtracted, divided by $c(h)$.
    """
    shared_from: Orders = Field(
        [5, 7, 9, 11, 13],
        description="Length from which all n-grams share their discounts; of a list, valid chooses one.",
    )

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths to choose from."""
        return as_tuple(self.shared_from)

    @property
    def context(self) -> None:
        """None: no context is too long."""
        return None


class Cache(Counts):
    """Adds recency: a unigram model of the last ``window`` tokens of the text being scored, because texts repeat their
    own words. It learns nothing from train.

    Each step multiplies the weight of an earlier token by ``decay``. Weak alone; in a mixture it lends another model a
    memory of the text at hand.
    """

    name, title, after = "cache", "Unigram cache", "infini_gram"
    module, model = "lmstages.models.counts.cache", "CacheModel"
    source = "Kuhn & De Mori 1990; Grave et al. 2017"
    formula = r"""
        $$p(w \mid h) = \frac{c(h, w) + \text{add}}{n(h) + \text{add} \cdot V}$$
        $$c(h, w) = \sum_i \text{decay}^{a_i - 1}, \quad n(h) = \sum_w c(h, w)$$
        with $i$ the positions of $w$ among the last ``window`` tokens, $a_i$ tokens ago.
    """
    window: int = Field(1000, ge=1, le=1 << 24, description="Number of earlier tokens that are counted.")
    decay: float = Field(
        1.0, gt=0, le=1, description="Factor by which a token's weight falls at every step; 1 keeps all weights equal."
    )
    add: float = Field(0.1, gt=0, le=1e6, description="Constant added to every count, so that no probability is 0.")

    @property
    def category(self) -> Category:
        """Always online: it learns from the text it is scored on and from nothing else."""
        return "online"

    @property
    def context(self) -> int:
        """The number of tokens in the window."""
        return self.window


class OnlineCounts(Counts):
    """A model of counts that can be evaluated online: with ``online`` it is updated with every token after scoring it.

    Online evaluation (dynamic evaluation) is a category of its own: static models never learn from the scored text.
    """

    online: bool = Field(
        False, description="Online evaluation: the model is updated with every token after it has scored it."
    )

    @property
    def category(self) -> Category:
        """``online`` where the model is updated while it is scored."""
        return "online" if self.online else "static"


class PPM(OnlineCounts):
    """Adds escape probabilities in place of interpolation: the longest context seen in train predicts the tokens that
    have followed it, and its escape probability goes to shorter contexts, which exclude those tokens.

    Developed for compression, before Kneser-Ney. With ``online`` it is updated with every token after scoring it.
    """

    name, title, after = "ppm", "PPM-D", "cache"
    module, model = "lmstages.models.counts.ppm", "PPMModel"
    source = "Cleary & Witten 1984; Moffat 1990; Howard 1993 for method D"
    formula = r"""
        $$p(w \mid h) = \frac{2 c(h, w) - 1}{2 n(h)}$$
        where $w$ has followed $h$ in train; otherwise, an escape,
        $$p(w \mid h) = \frac{d(h)}{2 n(h)} \, p(w \mid h')$$
        with $h'$ as $h$ without its oldest token, $n(h) = \sum_w c(h, w)$, and $d(h)$ the number of different $w$ that
        have followed $h$. A shorter context excludes the tokens that have followed the longer one.
    """
    order: int = Field(5, ge=0, le=32, description="Number of tokens of the longest context.")

    @property
    def context(self) -> int | None:
        """``order``; None (all earlier tokens) with ``online``, since the counts then depend on them."""
        return None if self.online else self.order


class ContextMixing(OnlineCounts):
    """Adds learned weights: an online logistic regression mixes the predictions of all contexts at once, in place of a
    fixed order from the longest context to the shortest.

    The contexts are the last 1 ... ``order`` tokens, the last words and the position in the line. With ``online``
    counts and weights are updated with every token after scoring it.
    """

    name, title, after = "context_mixing", "Context mixing", "ppm"
    module, model = "lmstages.models.counts.context_mixing", "ContextMixingModel"
    source = "Mahoney 2005, PAQ"
    formula = r"""
        $$p(\text{bit} = 1) = \operatorname{squash} \left( \sum_i w_i \operatorname{stretch}(p_i) \right)$$
        $$w_i \leftarrow w_i + \text{rate} \cdot (\text{bit} - p) \operatorname{stretch}(p_i)$$
        with $i$ the contexts, $\operatorname{stretch}(p) = \ln(p / (1 - p))$ and squash its inverse. A token is a path
        of bits in a binary tree; its probability is the product of theirs.
    """
    order: int = Field(
        6,
        ge=1,
        le=16,
        description="Number of tokens of the longest context; words and the position in the line are contexts besides.",
    )

    @property
    def context(self) -> None:
        """None: words and lines may be of any length."""
        return None
