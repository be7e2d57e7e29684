"""Hyperparameters of the models that are fitted by counting."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, WrapValidator, model_validator

from lmstages.config.hyperparameters.base import Category, ModelConfig, several


class Counts(ModelConfig):
    """A model that is fitted by counting: exact, quick, the same for every seed."""

    family = "counts"


class Uniform(Counts):
    """Guesses: every token of the vocabulary is as likely as any other."""

    name, title = "uniform", "Uniform"
    module, model = "lmstages.models.counts.ngram", "UniformModel"
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


class Smoothed(Counts):
    """Counts with the same constant added to every one, so that what was never seen stays possible.

    ``padded`` counts a document's first tokens too, behind boundaries; without it only whole n-grams count.
    """

    add: Constants = 0.1
    padded: bool = True
    module, model = "lmstages.models.counts.ngram", "NgramModel"

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
    module = "lmstages.models.counts.ngram"

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

    The shortcut ``model: ngram, smoothing: modified_kneser_ney``, since no smoothing of counts is stronger.
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

    Weak alone; in a mixture with any other model it is what that model cannot know of a text's own words.
    """

    name, title = "cache", "Unigram cache"
    module, model = "lmstages.models.counts.cache", "CacheModel"
    source = "Kuhn & De Mori 1990; Grave et al. 2017"
    window: Annotated[int, Field(ge=1, le=1 << 24)] = 1000
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    add: Annotated[float, Field(gt=0, le=1e6)] = 0.1  # to every count, so that every token is possible

    @property
    def category(self) -> Category:
        """It learns from the text it is scored on, and from nothing else."""
        return "online"

    @property
    def context(self) -> int:
        """The window."""
        return self.window


class OnlineCounts(Counts):
    """A model that can learn as it reads: from train alone or, with ``learns``, from every token that it has scored.

    What learns from the text it is scored on stands in a class of its own, since no other model saw that text.
    """

    online: bool = False

    @property
    def category(self) -> Category:
        """Adaptive where it goes on learning."""
        return "online" if self.online else "static"


class PPM(OnlineCounts):
    """Takes certainty from the longest context that says anything: a token that has followed it is predicted from
    there alone, and shorter contexts are asked only for what has not, once every token that has is excluded.

    Older than Kneser-Ney, and made to compress: it can learn on while it is scored (``learns``).
    """

    name, title = "ppm", "PPM-D"
    module, model = "lmstages.models.counts.ppm", "PPMModel"
    source = "Cleary & Witten 1984; Moffat 1990; Howard 1993 for method D"
    order: Annotated[int, Field(ge=0, le=32)] = 5  # tokens of the longest context

    @property
    def context(self) -> int | None:
        """The longest context; everything read, where it learns from it."""
        return None if self.online else self.order


class ContextMixing(OnlineCounts):
    """Adds opinions: no longer one context after the other but all at once, and a neuron that learns whom to trust.

    Besides the last 1 ... ``order`` tokens it looks at words and lines.
    """

    name, title = "context_mixing", "Context mixing"
    module, model = "lmstages.models.counts.context_mixing", "ContextMixingModel"
    source = "Mahoney 2005, PAQ"
    order: Annotated[int, Field(ge=1, le=16)] = 6

    @property
    def context(self) -> None:
        """Words and lines may be of any length."""
        return None
