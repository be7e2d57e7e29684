"""Every way to draw a text from a fitted model, with the code length of a given text where that is defined.

    next token   one token after the other, from left to right: every model with a distribution of the next token
    random       diffusion: a block in some steps, its places in a random order                  exact
    certain      diffusion: a block in some steps, the most certain places first                 exact
    denoising    uniform diffusion: the noise of a whole text taken back in some steps           upper bound
                 SED: the noise of its embeddings                                                none
    mending      SUNDAE: a whole text drawn anew, from what the network makes of it, some times  none

``R`` rows, ``T`` tokens. Code lengths are nats; a text is drawn behind a boundary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.diffusion import Diffusion, Sed, Sundae, UniformDiffusion
from lmstages.core.documents import BOUNDARY
from lmstages.evaluation import sampling
from lmstages.models.base import LanguageModel, UpperBound

Measure = Literal["exact", "bound", "none"]
WHOLE_TEXTS: dict[type[ModelConfig], tuple[str, Measure]] = {  # that draw every token in every step
    UniformDiffusion: ("denoising", "bound"),
    Sed: ("denoising", "none"),
    Sundae: ("mending", "none"),
}
MAX_PROBABILITIES = 1 << 23  # of all rows that are read at once; bounds memory


class Draft(NamedTuple):
    """Texts on the way: tokens (R, T) and which of them are not known yet."""

    tokens: np.ndarray
    hidden: np.ndarray


@dataclass(frozen=True)
class Sampler:
    """Draws texts in ``steps`` of a block, or of the whole text; None where each token has its own."""

    model: Any
    name: str
    steps: int | None
    measure: Measure

    def passes(self, length: int) -> int:
        """How many predictions follow on each other in a text of so many tokens."""
        raise NotImplementedError

    def drafts(self, count: int, length: int, seed: int) -> Iterator[Draft]:
        """``count`` texts of ``length`` tokens at the beginning and after every step; a boundary is a token."""
        raise NotImplementedError

    def draw(self, count: int, length: int, seed: int) -> Sequence[np.ndarray]:
        """The texts after the last step."""
        *_, last = self.drafts(count, length, seed)
        return [*last.tokens]

    def score(self, rows: np.ndarray, before: np.ndarray, seed: int) -> np.ndarray:
        """(R, T), (R,) the tokens before -> (R, T) log-probabilities; of a bound, one estimate of it."""
        raise NotImplementedError


@dataclass(frozen=True)
class NextToken(Sampler):
    """From left to right; ``documents``: whether a text ends with a boundary."""

    documents: bool

    def passes(self, length: int) -> int:
        """One for each token."""
        return length

    def drafts(self, count: int, length: int, seed: int) -> Iterator[Draft]:
        """None: a text grows token by token."""
        return iter(())

    def draw(self, count: int, length: int, seed: int) -> Sequence[np.ndarray]:
        """By the model's decoding state."""
        return sampling.sample(self.model, count, length, seed, stop_at_boundary=self.documents)

    def score(self, rows: np.ndarray, before: np.ndarray, seed: int) -> np.ndarray:
        """The model's own."""
        scores: np.ndarray = self.model.score(rows, before)
        return scores


@dataclass(frozen=True)
class InSteps(Sampler):
    """Some places of a block at once."""

    name: Literal["random", "certain"]
    steps: int

    def passes(self, length: int) -> int:
        """So many for each block."""
        block = self.model.config.block_length
        return sum(min(self.steps, block, length - begin) for begin in range(0, length, block))

    def drafts(self, count: int, length: int, seed: int) -> Iterator[Draft]:
        """Nothing known, then after each step of each block."""
        from lmstages.evaluation.parallel import Steps, parallel_drafts

        yield Draft(np.full((count, length), BOUNDARY), np.ones((count, length), dtype=bool))
        for draft in parallel_drafts(self.model, count, length, Steps(self.steps, self.name, seed), seed):
            yield Draft(*draft)

    def score(self, rows: np.ndarray, before: np.ndarray, seed: int) -> np.ndarray:
        """Exact."""
        from lmstages.evaluation.parallel import Steps, parallel_score

        return parallel_score(self.model, rows, Steps(self.steps, self.name, seed), before)


@dataclass(frozen=True)
class Whole(Sampler):
    """Every token of a text in every step: denoising, or mending."""

    steps: int

    def passes(self, length: int) -> int:
        """The steps."""
        return self.steps

    def drafts(self, count: int, length: int, seed: int) -> Iterator[Draft]:
        """The noise that it begins with, and what every step makes of it."""
        from lmstages.evaluation.drafts import denoised, embedded, improved

        drawn: dict[type, Callable[..., list[np.ndarray]]] = {Sed: embedded, Sundae: improved}
        for tokens in drawn.get(type(self.model.config), denoised)(self.model, count, length, self.steps, seed):
            yield Draft(tokens, np.zeros(tokens.shape, dtype=bool))

    def score(self, rows: np.ndarray, before: np.ndarray, seed: int) -> np.ndarray:
        """One estimate of the bound of denoising."""
        from lmstages.evaluation.drafts import step_bound

        assert self.measure == "bound", "asked for where there is one"
        return -step_bound(self.model, rows, self.steps, seed, before)


def samplers_of(model: LanguageModel, steps: Sequence[int], length: int, documents: bool) -> list[Sampler]:
    """The samplers of a model, those with fewest steps first; a block has no more steps than tokens."""
    config, counts = model.config, sorted(steps)
    if type(config) in WHOLE_TEXTS:
        name, measure = WHOLE_TEXTS[type(config)]
        return [Whole(model, name, count, measure) for count in counts]
    samplers: list[Sampler] = (
        [] if isinstance(model, UpperBound) else [NextToken(model, "next token", None, "exact", documents)]
    )
    if isinstance(config, Diffusion) and (tokens := min(config.block_length, length)) > 1:
        counts = [count for count in counts if count <= tokens]
        samplers += [InSteps(model, "random", count, "exact") for count in counts]
        counts = [count for count in counts if count > 1]  # one step has no order
        samplers += [InSteps(model, "certain", count, "exact") for count in counts]
    return samplers


def in_bands(sampler: Sampler, rows: np.ndarray, before: np.ndarray, seed: int, vocab_size: int) -> np.ndarray:
    """``score`` of so many rows at once as memory allows."""
    step = max(1, MAX_PROBABILITIES // (vocab_size * max(1, rows.shape[1])))
    parts = (slice(top, top + step) for top in range(0, len(rows), step))
    return np.concatenate([sampler.score(rows[part], before[part], seed) for part in parts])
