"""The laws that every class of model keeps, tried on a small model of its own.

    score(x)[:, t] == next_log_probs(x[:, :t])[range(B), x[:, t]]      for all tokens x (B, T), t < T

The tests try them on every model of the ladder, ``lmstages laws`` on a class of one's own. A law that is broken says
where, why probably, and what to change. ``checks`` verifies some of them again for each fitted model on its text.
``B`` rows, ``T`` tokens per row, ``V`` vocabulary. Uses a model only as ``LanguageModel``, and a network's ``logits``.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lmstages.config import own_models
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.neural import Neural
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.sections import parsed
from lmstages.config.strict_yaml import parse_value
from lmstages.core.documents import Arrays, Documents
from lmstages.core.errors import UserError, did_you_mean, shortened
from lmstages.core.own_code import fault_of
from lmstages.evaluation.sampling import sample
from lmstages.models.base import LanguageModel, build
from lmstages.models.counts.infini_gram import InfiniGramModel
from lmstages.models.counts.sequential import SequentialModel

V = 7
ROWS, LENGTH = 4, 12  # of the tokens that are scored; longer where the context is
LONGEST_CONTEXT = 512  # beyond which a law of the context is not tried
SUM = 1e-6
NATS = 1e-5
SHORT_FIT = {"steps": 12, "batch_size": 16, "evaluate_every": 6, "warmup_steps": 2}  # of a network whose laws are tried


class Broken(Exception):  # noqa: N818 (no error of this program: a finding about a model)
    """What is wrong and where, why probably, and what to change."""

    def __init__(self, problem: str, cause: str, remedy: str) -> None:
        super().__init__(f"{problem}; {cause}; {remedy}")
        self.problem, self.cause, self.remedy = problem, cause, remedy


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Tokens of the vocabulary of V, drawn with a seed."""
    return np.random.default_rng(seed).integers(0, V, shape)


class Subject:
    """A model's record, and the models that are made of it: fitted on some random documents, as laws need them."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def fresh(self) -> Any:
        """An unfitted model."""
        return build(self.config, V)

    def fitted(self, seed: int = 0, tokens: Any = None) -> Any:
        """A model fitted on 40 documents of 10 tokens, or on one of ``tokens``."""
        model = self.fresh()
        train = Documents.of([[*row, 0] for row in drawn(1, 40, 9)]) if tokens is None else Documents.single(tokens)
        model.fit(train, train, seed)
        return model

    @cached_property
    def model(self) -> Any:
        """The fitted model that most laws are tried on."""
        return self.fitted()

    @property
    def length(self) -> int:
        """Tokens of a row, so many that the context does not reach its beginning."""
        return LENGTH if self.config.context is None else max(LENGTH, min(self.config.context, LONGEST_CONTEXT) + 4)

    @cached_property
    def is_network(self) -> bool:
        """Whether it is a network that the training loop fits; asked without loading torch for any other."""
        model = self.fresh()
        networks = sys.modules.get("lmstages.models.neural.base")
        return isinstance(self.config, Neural) and networks is not None and isinstance(model, networks.NeuralModel)

    @property
    def inputs(self) -> int:
        """Inputs of a network, at most so many as its positions."""
        model, context = self.fresh(), self.config.context
        return model.window + self.length - 1 if model.windowed or context is None else min(self.length, context)

    def rows(self, seed: int, rows: int = ROWS) -> np.ndarray:
        """(rows, length) random tokens."""
        return drawn(seed, rows, self.length)


@dataclass(frozen=True)
class Law:
    """A name, a sentence, and a function that raises Broken; ``concerns`` says of which models it holds."""

    name: str
    sentence: str
    check: Callable[[Subject], None]
    concerns: Callable[[Subject], bool]


LAWS: dict[str, Law] = {}


def law(
    name: str, sentence: str, concerns: Callable[[Subject], bool] = lambda subject: True
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Register a function as a law."""

    def register(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
        LAWS[name] = Law(name, sentence, check, concerns)
        return check

    return register


def is_network(subject: Subject) -> bool:
    """A network, with ``logits``."""
    return subject.is_network


def is_plain_network(subject: Subject) -> bool:
    """A network that needs nothing else fitted before it."""
    return (
        subject.is_network and type(subject.fresh()).fit is sys.modules["lmstages.models.neural.base"].NeuralModel.fit
    )


def predicts(subject: Subject) -> bool:
    """A model with a distribution of the next token, which a bound lacks."""
    return subject.config.category != "bound"


def is_limited(subject: Subject) -> bool:
    """A model with a longest context that rows of a test can exceed."""
    return predicts(subject) and subject.config.context is not None and subject.config.context <= LONGEST_CONTEXT


def is_unlimited(subject: Subject) -> bool:
    """A model that may use all earlier tokens, and has parts from which its score can be computed otherwise."""
    unlimited = subject.config.context is None
    return unlimited and (subject.is_network or isinstance(subject.model, SequentialModel | InfiniGramModel))


def agree(scores: Any, others: Any, condition: str, cause: str, remedy: str, tolerance: float = NATS) -> None:
    """Raises Broken, with the first position, where two computations of the same scores (B, T) differ.

    A ``tolerance`` of 0 wants the same bits.
    """
    scores, others = np.asarray(scores, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if scores.shape != others.shape:
        raise Broken(f"scores of shape {scores.shape} are {others.shape} {condition}", cause, remedy)
    relative = NATS if tolerance else 0.0
    different = ~np.isclose(scores, others, rtol=relative, atol=tolerance, equal_nan=True)
    if different.any():
        position = tuple(int(axis[0]) for axis in np.nonzero(different))
        where = f"row {position[0]}, token {position[1]}" if len(position) == 2 else f"position {position}"
        problem = f"{where}: {scores[position]:.6g} nats, and {others[position]:.6g} {condition}"
        raise Broken(f"{problem} ({int(different.sum())} of {different.size} differ)", cause, remedy)


# ---------------------------------------------------------------- shapes and numbers


@law("shape of the network", "of (B, T) tokens the network makes (B, T, V) logits in float32", is_plain_network)
def network_shape(subject: Subject) -> None:
    """Before any fit, since a network of another shape cannot be fitted."""
    import torch

    model = subject.fresh()
    network = model.build().eval()
    for rows, length in ((ROWS, 1), (2, subject.inputs - model.window + 1)):
        inputs = torch.from_numpy(drawn(20, rows, model.window + length - 1))
        with torch.inference_mode():
            logits = network(inputs)
        wanted = (rows, length, V)
        if not isinstance(logits, torch.Tensor):
            cause = "forward returns more than the logits"
            raise Broken(f"the network returns {type(logits).__name__}", cause, "return one tensor (B, T, V)")
        if tuple(logits.shape) != wanted:
            problem = f"{tuple(inputs.shape)} tokens make {tuple(logits.shape)}, not {wanted}"
            cause = "an axis is missing, summed over or in another order, or the number of outputs is not vocab_size"
            if model.window > 1:
                cause += f"; of {model.window} inputs one prediction is made, since the class says windowed"
            raise Broken(problem, cause, "return one row of vocab_size logits for each of the last T inputs")
        if logits.dtype != torch.float32:
            problem, cause = f"logits are {logits.dtype}, not torch.float32", "a weight or a constant has that type"
            raise Broken(problem, cause, "make it float32: .float(), or torch.tensor(..., dtype=torch.float32)")


@law("shape of scores", "score gives (B, T) and next_log_probs (B, V) finite numbers, none above 0")
def shape_of_scores(subject: Subject) -> None:
    """Every token is possible: an impossible one makes bits per byte infinite."""
    x = subject.rows(10)
    parts = [("score", subject.model.score(x), x.shape)]
    lengths = (0, 1, 4, x.shape[1]) if predicts(subject) else ()
    parts += [("next_log_probs", subject.model.next_log_probs(x[:, :t]), (ROWS, V)) for t in lengths]
    for name, values, wanted in parts:
        if not isinstance(values, np.ndarray) or values.shape != wanted:
            given = f"an array {values.shape}" if isinstance(values, np.ndarray) else f"{type(values).__name__}"
            raise Broken(f"{name} gives {given}", f"for {wanted} numbers", "return a numpy array of this shape")
        if values.dtype.kind != "f":
            cause = "it holds whole numbers or objects"
            raise Broken(f"{name} gives numbers of type {values.dtype}", cause, "return nats as float64 or float32")
        if not np.isfinite(values).all():
            position = tuple(int(axis[0]) for axis in np.nonzero(~np.isfinite(values)))
            problem = f"{name} is {values[position]} at {position}"
            cause = "a division by zero, a log of 0, or a token that is never predicted"
            raise Broken(problem, cause, "give every token some probability; take log_softmax, not log of softmax")
        if (values > SUM).any():
            problem = f"{name} has {values.max():.4g} nats, a probability of {np.exp(values.max()):.4g}"
            raise Broken(problem, "these are no log-probabilities", "return log_softmax of the logits, in nats")


@law("sums", "the probabilities of the next token sum to one", predicts)
def sums(subject: Subject) -> None:
    """Else bits per byte are no code length."""
    for length in (0, 1, 5, LENGTH):
        total = np.exp(np.asarray(subject.model.next_log_probs(drawn(2, ROWS, length)), dtype=np.float64)).sum(-1)
        if not np.allclose(total, 1, atol=SUM):
            worst = int(np.abs(total - 1).argmax())
            problem = f"after {length} tokens (row {worst}) the probabilities sum to {total[worst]:.6g}"
            cause = "logits or counts are returned without normalisation: log_softmax is missing"
            raise Broken(problem, cause, "subtract the log of the sum of exponentials (log_softmax) from every row")


# ---------------------------------------------------------------- what a prediction depends on


@law("chain rule", "the score of a token is what next_log_probs said of it before it came", predicts)
def chain_rule(subject: Subject) -> None:
    """Two ways to the same number."""
    x = subject.rows(3)
    expected = [subject.model.next_log_probs(x[:, :t])[range(ROWS), x[:, t]] for t in range(x.shape[1])]
    cause = "targets are shifted, later tokens are read, or a state or dropout makes each call another"
    for length in (1, 5, x.shape[1]):
        scores = subject.model.score(x[:, :length])
        remedy = "compare score and next_log_probs at this token: both predict it from the tokens before it"
        agree(scores, np.stack(expected[:length], 1), "from next_log_probs of the tokens before it", cause, remedy)


@law("future", "a score does not depend on later tokens", predicts)
def future(subject: Subject) -> None:
    """Changes every token from the seventh on."""
    x, y = subject.rows(4), subject.rows(5)
    y[:, :7] = x[:, :7]
    cause = "the model reads what it predicts: a causal mask is missing, or a convolution is padded on both sides"
    remedy = "mask later positions (is_causal=True), or pad on the left alone"
    condition = "with other tokens from token 7 on"
    agree(subject.model.score(x)[:, :7], subject.model.score(y)[:, :7], condition, cause, remedy)


@law("context", "a prediction depends on no more than the context that the class states", is_limited)
def context(subject: Subject) -> None:
    """Changes every token before the context of the last one."""
    x, y = subject.rows(6), subject.rows(7)
    last = x.shape[1] - (subject.config.context or 0) - 1
    y[:, last:] = x[:, last:]
    cause = f"the class states a context of {subject.config.context}, and reads more"
    remedy = "state the right context, or None for all earlier tokens"
    condition = "with other tokens before its context"
    agree(subject.model.score(x)[:, -1:], subject.model.score(y)[:, -1:], condition, cause, remedy)


@law("rows", "rows of a batch do not see each other")
def rows_are_independent(subject: Subject) -> None:
    """Scored alone, and in the other order."""
    x = subject.rows(8, 5)
    alone = np.concatenate([subject.model.score(row[None]) for row in x])
    cause = "a statistic over the batch is computed in scoring, as BatchNorm does without running statistics"
    cause += ", or a state or dropout makes each call another"
    remedy = "normalise each row by itself (LayerNorm), or keep running statistics"
    agree(subject.model.score(x), alone, "when the row is scored alone", cause, remedy)
    agree(subject.model.score(x[::-1]), subject.model.score(x)[::-1], "in the other order of rows", cause, remedy)


@law("repetition", "the same rows scored again have the same scores")
def repetition(subject: Subject) -> None:
    """Twice in a row, and after other rows."""
    x, model = subject.rows(21), subject.model
    first, again = model.score(x), model.score(x)
    model.score(subject.rows(22))
    after = model.score(x)
    one, other = (_scored_with(model, x, 5) for _ in range(2))
    is_random = not np.array_equal(first, again) and np.array_equal(one, other)
    cause = "randomness such as dropout is still on" if is_random else "a state is kept between calls"
    remedy = "use nn.Dropout, which eval() switches off, or pass training=self.training"
    remedy = remedy if is_random else "begin every call of score and forward from the same state"
    agree(first, again, "the second time", cause, remedy, 0.0)
    agree(first, after, "after other rows were scored", cause, remedy, 0.0)


def _scored_with(model: LanguageModel, x: np.ndarray, seed: int) -> np.ndarray:
    """Scores from a given state of every global generator."""
    with global_generators(seed):
        return model.score(x)


@law("boundary", "token 0 stands before a row where nothing else is given")
def boundary(subject: Subject) -> None:
    """``before`` of zeros is no ``before``; another token is read."""
    x, model = drawn(9, ROWS, 5), subject.model
    cause, remedy = "score reads before otherwise than the boundary", "put before, or token 0, in front of every row"
    agree(model.score(x, np.zeros(ROWS, dtype=np.int64)), model.score(x), "without before", cause, remedy, 0.0)
    same = np.allclose(model.score(x, np.full(ROWS, 3)), model.score(x))
    if same and subject.config.context != 0:
        cause = f"score passes over its argument before, or the context ({subject.config.context}) is 0 in truth"
        raise Broken("another token before the rows changes no score", cause, remedy)
    if not same and subject.config.context == 0:
        raise Broken("another token before the rows changes scores", "the class states a context of 0", "state it")


@law("cut", "a row that is cut scores as within the whole, once the token before it completes the context", is_limited)
def cut(subject: Subject) -> None:
    """The first token of each row becomes ``before`` of the rest."""
    x, reach = subject.rows(9), subject.config.context or 0
    scores = subject.model.score(x[:, 1:], before=x[:, 0])[:, max(reach - 1, 0) :]
    cause = "the token before a row is not read as its last earlier token, or positions count from elsewhere"
    whole = subject.model.score(x)[:, max(reach, 1) :]
    agree(scores, whole, "within the whole row", cause, "read before directly in front of the row", SUM)


@law("before", "without a limit to the context the token before a row is read first", is_unlimited)
def before_is_read_first(subject: Subject) -> None:
    """Compared with the model's own parts, which read ``before`` first and no boundary before that."""
    x, before = subject.rows(9), drawn(19, ROWS)
    cause = "the token before a row is read with a boundary in front of it, or belongs to another row"
    expected = scores_behind(subject.model, before, x)
    remedy = "read before in place of the boundary"
    agree(subject.model.score(x, before), expected, "from the model's own parts", cause, remedy, SUM)


def scores_behind(model: Any, before: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(B,), (B, T) -> (B, T) from a model's own parts, which read ``before`` first and no boundary before that."""
    if isinstance(model, SequentialModel):
        return np.array([_in_turn(model.fork(), *pair) for pair in zip(before, tokens, strict=True)])
    if isinstance(model, InfiniGramModel):
        state, scores = model.state_after(before), []
        for column in tokens.T:
            scores.append(state.log_probs()[range(len(column)), column])
            state.append(column)
        return np.stack(scores, axis=1)
    import torch

    rows = torch.from_numpy(np.column_stack([before, tokens]))
    with torch.inference_mode():
        scores = model.logits(rows[:, :-1]).log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0]
        return np.asarray(scores.numpy())


def _in_turn(model: Any, before: int, tokens: np.ndarray) -> list[float]:
    model.begin(int(before))
    scores = []
    for token in tokens:
        scores.append(model.distribution()[token])
        model.advance(np.array([token]))
    return scores


# ---------------------------------------------------------------- storage, seeds, randomness


@law("storage", "a saved model is the same model")
def storage(subject: Subject) -> None:
    """arrays() and restore() hold everything that a score depends on."""
    model, again, x = subject.model, subject.fresh(), subject.rows(11)
    with global_generators(7):  # what is drawn anew is not what was drawn before the fit
        again.restore({name: np.array(array) for name, array in model.arrays().items()})
    cause = "a number that a score depends on is not among arrays()" + _unstored(model)
    remedy = "make it a parameter (nn.Parameter, nn.ModuleList) or a buffer (register_buffer)"
    remedy = remedy if subject.is_network else "return it from fit, or from arrays, as an array"
    agree(model.score(x), again.score(x), "after arrays() and restore()", cause, remedy, 0.0)
    if again.parameters() != model.parameters():
        problem = f"{model.parameters():,} parameters, and {again.parameters():,} after restore()"
        raise Broken(problem, cause, remedy)


def _unstored(model: Any) -> str:
    """Attributes of a network that are tensors or modules and that torch does not store."""
    network = getattr(model, "network", None)
    names = [
        f"{type(module).__name__}.{name}"
        for module in (network.modules() if network is not None else ())
        for name, value in vars(module).items()
        if not name.startswith("_") and any(hasattr(item, "requires_grad_") for item in _items(value))
    ]
    return f": {', '.join(dict.fromkeys(names))}" if names else ""


def _items(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else [value]


@law("sampling", "a sample with the same seed is the same", predicts)
def sampling(subject: Subject) -> None:
    """Three samples of ten tokens, twice."""
    first, second = (sample(subject.model, 3, 10, seed=5) for _ in range(2))
    if not all(np.array_equal(one, other) for one, other in zip(first, second, strict=True)):
        cause = "next_log_probs or the decoding state is random, or keeps a state between calls"
        raise Broken("two samples with one seed differ", cause, "see the laws repetition and chain rule")


@law("refitting", "a second fit forgets the first")
def refitting(subject: Subject) -> None:
    """Fitted on other text, a model is as one that was never fitted before."""
    model, other, fresh = subject.fitted(), Documents.single(drawn(12, 200)), subject.fresh()
    model.fit(other, other, 3)
    fresh.fit(other, other, 3)
    x = subject.rows(13)
    cause, remedy = "fit adds to what an earlier fit has left", "begin fit from nothing"
    agree(model.score(x), fresh.score(x), "of a model that was never fitted before", cause, remedy, 0.0)


@law("seed", "the same seed gives the same model, to the byte")
def seed(subject: Subject) -> None:
    """Two fits, between which every global generator is in another state."""
    first, second = (_fitted_with(subject, number) for number in (1, 2))
    cause = "fit or build draws from a generator that the seed does not reach" + _moved(lambda: subject.fitted(seed=2))
    remedy = "draw from torch's generator in build, which is seeded, or from np.random.default_rng(seed)"
    for name in first.keys() | second.keys():
        one, other = first.get(name), second.get(name)
        if one is None or other is None or not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise Broken(f"two fits with one seed differ in {name}", cause, remedy)


def _fitted_with(subject: Subject, number: int) -> Arrays:
    """The arrays of a fit with seed 2, from a given state of every global generator."""
    with global_generators(number):
        return {name: np.array(array) for name, array in subject.fitted(seed=2).arrays().items()}


@law("no global randomness", "neither fitting nor scoring moves a global generator of random numbers")
def no_global_randomness(subject: Subject) -> None:
    """Python's, numpy's and torch's."""
    model, x = subject.model, subject.rows(23)

    def run() -> None:
        subject.fitted(seed=4)
        model.score(x)
        if predicts(subject):
            model.next_log_probs(x)

    if moved := _moved(run):
        remedy = (
            "draw from a generator of one's own, np.random.default_rng(seed); in build from torch's, which is seeded"
        )
        raise Broken(f"fitting or scoring draws{moved}", "whatever else draws from it changes the results", remedy)


def _moved(run: Callable[[], object]) -> str:
    """`` from numpy's global generator``: those whose state a call changes; empty where there are none."""
    with global_generators(6):
        before = list(_states())
        run()
        moved = [name for (name, one), (_, other) in zip(before, _states(), strict=False) if one != other]
    return f" from {', '.join(moved)}" if moved else ""


class global_generators:  # noqa: N801 (used as a function)
    """A block in which every global generator begins from a seed; afterwards they are as before."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        """Keep the states, and seed."""
        self.python, self.numpy = random.getstate(), np.random.get_state()
        random.seed(self.number)
        np.random.seed(self.number)
        if torch := sys.modules.get("torch"):
            self.torch = torch.get_rng_state()
            torch.manual_seed(self.number)

    def __exit__(self, *_: object) -> None:
        """The states as before."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        if hasattr(self, "torch"):
            sys.modules["torch"].set_rng_state(self.torch)


def _states() -> Iterator[tuple[str, bytes]]:
    """The states of Python's, numpy's and, where it is loaded, torch's global generator."""
    yield "Python's global generator (random)", repr(random.getstate()).encode()
    keys = np.random.get_state()
    yield "numpy's global generator (np.random)", repr((keys[1].tobytes(), keys[2])).encode()  # type: ignore[index]
    if torch := sys.modules.get("torch"):
        yield "torch's global generator", torch.get_rng_state().numpy().tobytes()


# ---------------------------------------------------------------- learning


@law("gradient", "the loss has a gradient for every parameter of the network", is_network)
def gradient(subject: Subject) -> None:
    """After a short fit, since parts that begin with zeros give no gradient to others in the first step."""
    import torch

    model = subject.model
    if not isinstance(model.network, torch.nn.Module):
        return
    tokens = torch.from_numpy(drawn(24, 16, subject.inputs))
    network = model.network.train()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        network.zero_grad(set_to_none=True)
        network(tokens).float().log_softmax(-1)[..., 1].sum().backward()
    unreached = [name for name, weight in network.named_parameters() if weight.requires_grad and not _reached(weight)]
    network.zero_grad(set_to_none=True)
    network.eval()
    if unreached:
        problem = f"no gradient reaches {', '.join(unreached)}"
        cause = "forward does not use it, or goes by .detach(), .data, torch.no_grad() or numpy in between"
        raise Broken(problem, cause, "use it in forward, remove it, or set requires_grad=False where it stays as it is")


def _reached(weight: Any) -> bool:
    return weight.grad is not None and bool((weight.grad != 0).any())


@law("training", "fitting changes every parameter of the network", is_network)
def training(subject: Subject) -> None:
    """Those that stay as they are say requires_grad=False."""
    model = subject.model
    if not hasattr(model, "initial") or not hasattr(model.network, "named_parameters"):
        return
    initial, arrays = model.initial(0), model.arrays()
    trained = [name for name, weight in model.network.named_parameters() if weight.requires_grad]
    same = [name for name in trained if name in initial and np.array_equal(initial[name], arrays[name])]
    if same:
        cause = "no gradient reaches it, or something sets it back"
        remedy = "use it in forward, or set requires_grad=False where it stays as it is"
        raise Broken(f"fitting leaves {', '.join(same)} as it was", cause, remedy)


# ---------------------------------------------------------------- all of them


@dataclass(frozen=True)
class Verdict:
    """What came of a law: nothing where it is kept, ``broken`` where not, ``untried`` why it was not tried."""

    law: Law
    broken: Broken | None = None
    untried: str = ""


def verdicts(subject: Subject) -> Iterator[Verdict]:
    """Every law in order. Where the network has a wrong shape, or a fit fails, what follows is not tried."""
    failure = ""
    for entry in LAWS.values():
        if failure:
            yield Verdict(entry, untried=failure)
            continue
        try:
            if not entry.concerns(subject):
                yield Verdict(entry, untried="does not concern this model")
                continue
            entry.check(subject)
            yield Verdict(entry)
        except Broken as broken:
            yield Verdict(entry, broken)
            failure = "the shape comes first" if entry.name.startswith("shape of the network") else ""
        except (Exception, SystemExit) as error:
            yield Verdict(entry, _failed(error))
            failure = "" if "model" in vars(subject) else "it cannot be fitted"


def _failed(error: BaseException) -> Broken:
    """A model that raises: at which line, and what that may mean."""
    if isinstance(error, UserError) and fault_of(error) is None:
        return Broken(str(error), "the model cannot be fitted", "see the message")
    fault = str(fault_of(error, "") or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    text = str(error)
    if isinstance(error, AttributeError) and "object has no attribute" in text:
        name = text.rpartition("attribute ")[2].strip("'\"").split("'")[0]
        cause = f"{name} is no hyperparameter that the class declares, and nothing sets it"
        return Broken(fault, cause, f"declare it: {name}: Width = Field(..., description=...)")
    if "frozen" in text.lower():
        return Broken(fault, "a record of hyperparameters does not change", "keep it in the network, or in arrays")
    return Broken(fault, "the class raises this on tokens that are right", "mend the line")


def subject_of(type_name: str, settings: Sequence[str]) -> Subject:
    """The subject of a type of the ladder or of one's own, with ``KEY=VALUE`` for hyperparameters; its fit is short.

    Raises UserError for an unknown type, a file that cannot be used, and hyperparameters that are wrong.
    """
    if not own_models.is_own(type_name) and type_name not in MODEL_TYPES:
        names = [*MODEL_TYPES, *own_models.installed()]
        allowed = f"{own_models.FORM}, or one of {', '.join(names)}"
        raise UserError(type_name, f"no such model{did_you_mean(type_name, names)}", allowed)
    record = own_models.load(type_name) if own_models.is_own(type_name) else MODEL_TYPES[type_name]
    keys: dict[str, Any] = {key: value for key, value in SHORT_FIT.items() if key in record.model_fields}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError("--set", f"{shortened(setting)} is no KEY=VALUE", "such as width=16")
        keys[key] = parse_value(value, f"--set {key}")
    problems: list[str] = []
    config = parsed(record, keys, "--set", problems)
    if config is None:
        raise UserError(type_name, "; ".join(problems))
    return Subject(config)
