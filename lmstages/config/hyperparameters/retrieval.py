"""Hyperparameters of the model that looks up train while it predicts: nearest neighbours of a network's states."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from lmstages.config.hyperparameters.attention import GPT, Llama, ModernGPT
from lmstages.config.hyperparameters.base import Derived, as_tuple
from lmstages.config.hyperparameters.counts import Constants
from lmstages.config.hyperparameters.neural import GRU, LSTM, RNN, Neural

WITH_STATES: tuple[type[Neural], ...] = (GPT, Llama, ModernGPT, RNN, GRU, LSTM)  # with one output layer over states


def _record(value: Any) -> Any:
    """A network's record, from itself or from its keys and its ``type``; raises ValueError for another type."""
    if not isinstance(value, dict):
        return value
    types, keys = {record.name: record for record in WITH_STATES}, dict(value)
    if (name := keys.pop("type", "gpt")) not in types:
        raise ValueError(f"{name!r} is no network with states; allowed: {', '.join(types)}")
    return types[name].model_validate(keys)


def _keys(record: Neural | None) -> dict[str, Any] | None:
    """The keys of a network's record and its type, since those of several types have the same keys."""
    return None if record is None else {"type": record.name, **record.model_dump(mode="json")}


class NearestNeighbours(Derived):
    """Adds a look-up to a fitted network: the positions of train where the network was in the most similar states, and
    what came next there, mixed with its own prediction.

    States are those that the output layer reads, at ``entries`` positions of train, which are stored. The search is
    exact. Weight and temperature are chosen on valid; with weight 0 it is the network.
    """

    name, title, after = "knn", "Nearest neighbours", "sed"
    module, model = "lmstages.models.neural.nearest", "NearestModel"
    protocol = "stride"
    source = "Khandelwal et al. 2020, kNN-LM"
    formula = r"""
        $$p(w \mid h) = (1 - \lambda) \, p_\text{network}(w \mid h) + \lambda \, p_\text{kNN}(w \mid h)$$
        $$p_\text{kNN}(w \mid h) \propto \sum_{i: \, w_i = w} \exp \left( - \frac{|s_i - s(h)|^2}{T} \right)$$
        with $s(h)$ the network's state after $h$, $i$ the positions of train with the ``neighbours`` nearest states
        $s_i$, $w_i$ the token that came next there, $\lambda$ the ``weight`` and $T$ the temperature.
    """
    of: str = Field("gpt", description="Name, in this config, of the fitted network.")
    base: Annotated[Neural | None, BeforeValidator(_record), PlainSerializer(_keys)] = Field(
        None, description="Record of that network; the config reader fills it in."
    )
    neighbours: int = Field(64, ge=1, le=1 << 12, description="Nearest states that a prediction takes into account.")
    entries: int = Field(
        1 << 16,
        ge=1,
        le=1 << 24,
        description="Positions of train that are stored, drawn at random with a fixed seed; all where there are fewer.",
    )
    temperature: Constants = Field(
        [0.01, 0.03, 0.1, 0.3],
        description="T as a fraction of the mean squared distance of two entries; of a list, valid chooses one.",
    )
    weight: float | None = Field(
        None, ge=0, lt=1, description="Share of the neighbours in the mixture; by default valid chooses it."
    )

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures to choose from."""
        return as_tuple(self.temperature)

    @model_validator(mode="after")
    def _enough_entries(self) -> "NearestNeighbours":
        if self.neighbours > self.entries:
            raise ValueError(
                f"neighbours {self.neighbours} exceeds entries {self.entries}; lower one or raise the other"
            )
        if 0 in self.temperatures:
            raise ValueError("temperature 0 found; allowed: above 0")
        return self
