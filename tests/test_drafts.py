"""SUNDAE and the samplers that change a whole text at once: what is trained, what is drawn, and how it is scored."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.reading import read_run
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation.drafts import denoised, earlier, improved
from lmstages.evaluation.opening import opened
from lmstages.evaluation.sampling import sample
from lmstages.models.base import build
from lmstages.models.nonautoregressive import noise
from lmstages.models.nonautoregressive.sundae import UnrolledDrafts
from lmstages.models.storage import save_fit
from lmstages.playground.answers import Playground
from lmstages.training.batches import Rows
from lmstages.training.distributed import Processes
from lmstages.training.objectives import OBJECTIVE_DRAW, VALID_DRAW, Draw

V, N = 3, 3
TINY = {"layers": 1, "heads": 2, "width": 8, "window": N, "row_length": N, "batch_size": 8, "warmup_steps": 2}
TINY |= {"steps": 40, "evaluate_every": 40}
TEXT = Documents.of([[*row, 0] for row in np.random.default_rng(0).choice(V, (60, 9), p=[0.1, 0.7, 0.2]).tolist()])
EVERY = np.array([*itertools.product(range(V), repeat=N)])


def fitted(name, **keys):
    model = build(MODEL_TYPES[name].model_validate({**TINY, **keys}), V)
    model.fit(TEXT, TEXT, 0)
    return model


@pytest.fixture(scope="module")
def uniform():
    return fitted("uniform_diffusion")


@pytest.fixture(scope="module")
def sundae():
    return fitted("sundae")


def index(rows):
    return rows @ V ** np.arange(N)[::-1]


def test_drafts_of_uniform_diffusion_have_the_probabilities_of_its_process(uniform):
    count, steps = 20_000, 3
    expected = np.full(len(EVERY), 1 / len(EVERY))
    for step in range(steps, 0, -1):
        each = earlier(uniform, EVERY, (step - 1) / steps, step / steps)  # (z, N, V)
        assert np.allclose(each.sum(-1), 1)
        expected = expected @ np.take_along_axis(each[:, None], EVERY[None, ..., None], -1)[..., 0].prod(-1)
    drafts = denoised(uniform, count, N, steps, seed=1)
    assert len(drafts) == steps + 1
    seen = np.bincount(index(drafts[-1]), minlength=len(EVERY)) / count
    assert (np.abs(seen - expected) < 4.5 * np.sqrt(expected / count)).all()


@pytest.mark.parametrize(("temperature", "updated_share"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.34)])
def test_a_draft_of_sundae_has_the_probabilities_that_the_network_gives_it(sundae, temperature, updated_share):
    count = 20_000
    first, second = improved(sundae, count, N, 1, 2, temperature, updated_share)
    changes = sundae.mended(EVERY) / temperature
    changes = np.exp(changes - np.logaddexp.reduce(changes, -1)[..., None])  # (z, N, V)
    share = np.ceil(updated_share * N) / N
    for place in range(N):
        each = share * changes[:, place] + (1 - share) * np.eye(V)[EVERY[:, place]]
        expected = each.mean(0)
        seen = np.bincount(second[:, place], minlength=V) / count
        assert (np.abs(seen - expected) < 4.5 * np.sqrt(expected / count)).all()
    assert np.bincount(index(first), minlength=27).min() > 0
    assert ((first != second).sum(-1) <= np.ceil(updated_share * N)).all()


def test_drafts_with_one_seed_are_the_same_and_a_share_of_nothing_changes_nothing(sundae):
    one, other = (improved(sundae, 4, N, 3, seed=3) for _ in range(2))
    assert len(one) == 4 and all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    kept = improved(sundae, 4, N, 3, seed=3, updated_share=0.0)
    assert all(np.array_equal(draft, kept[0]) for draft in kept)


def test_tokens_drawn_in_training_have_the_probabilities_of_the_logits():
    logits = torch.tensor([[0.0, 1.0, -1.0]]).repeat(30_000, 1).requires_grad_()
    uniforms = torch.from_numpy(np.random.default_rng(0).random(30_000))
    tokens = noise.drawn(logits, uniforms)
    expected = logits[0].softmax(-1).detach().numpy()
    seen = np.bincount(tokens.numpy(), minlength=V) / len(tokens)
    assert not tokens.requires_grad and (np.abs(seen - expected) < 4 * np.sqrt(expected / len(tokens))).all()
    assert noise.drawn(logits[:1], torch.tensor([1 - 1e-12])).tolist() == [2]


# The objective


def batch_of(processes=None):
    return Rows(TEXT, 1, N, **({"processes": processes} if processes else {})).random_batch(6, seed=1, step=2)


def loss_of(model, batch, draw, selected=False, network=None):
    objective = UnrolledDrafts(model.config, V)
    with torch.inference_mode():
        return float((objective.selected if selected else objective)(network or model.network, batch, draw))


@pytest.mark.parametrize("selected", [False, True])
def test_processes_draw_what_one_process_draws_for_the_same_rows(selected):
    model = fitted("sundae", steps=4, unrolled=3)
    whole = loss_of(model, batch_of(), Draw(3, OBJECTIVE_DRAW, 5), selected)
    parts = [
        loss_of(model, batch_of(Processes(rank, 3)), Draw(3, OBJECTIVE_DRAW, 5, Processes(rank, 3)), selected)
        for rank in range(3)
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_the_second_draft_is_drawn_from_what_the_network_says_of_the_first(sundae):
    """A network that always says 1 makes a draft of ones, whatever the first one was."""
    inputs = []

    def says_one(tokens, levels):
        inputs.append(tokens)
        return functional.one_hot(torch.ones_like(tokens), V) * 100.0

    model = fitted("sundae", steps=4, given_share=0.0, unrolled=3)
    loss_of(model, batch_of(), Draw(0, OBJECTIVE_DRAW, 0), network=says_one)
    first, second, third = (tokens[:, 1:] for tokens in inputs)
    assert (first != 1).any() and (second == 1).all() and (third == 1).all()


def test_known_tokens_stay_in_every_draft_and_the_network_is_told_of_them_alone():
    inputs = []

    def says_one(tokens, levels):
        inputs.append((tokens[:, 1:], levels[:, 1:]))
        return functional.one_hot(torch.ones_like(tokens), V) * 100.0

    model, batch = fitted("sundae", steps=4, given_share=1.0), batch_of()
    loss_of(model, batch, Draw(1, OBJECTIVE_DRAW, 0), network=says_one)
    known = inputs[0][1] == 1
    assert 0 < known.sum() < known.numel() and set(inputs[0][1].unique().tolist()) == {0.0, 1.0}
    for tokens, levels in inputs:
        assert torch.equal(tokens[known], batch.targets.clamp_min(0)[known]) and torch.equal(levels, inputs[0][1])


def test_valid_selects_by_the_bound_that_the_row_states():
    model = fitted("sundae", samples=400)
    texts = Documents.of([EVERY[text].tolist() for text in (20, 14)] * 20)
    losses = [
        loss_of(model, Rows(texts, 1, N).full_batch(), Draw(0, VALID_DRAW, step), selected=True) / 20
        for step in range(20)
    ]
    halves = model.halves(EVERY[[20, 14]], None, np.ones((2, N), dtype=bool)).sum(-1)
    error = np.hypot(np.std(losses) / np.sqrt(20), np.sqrt(((halves[0] - halves[1]) ** 2 / 4).sum()))
    assert abs(np.mean(losses) - halves.mean(0).sum()) < 4 * error


# The config, and questions of a next token

CONFIG = """
corpora: {coined: {source: coined, count: 50, inspect: true}}
tokenizers: {char: {kind: char}}
models:
  gpt: {steps: 2, warmup_steps: 0}
  NAME: {steps: 2, warmup_steps: 0}
"""


def read(tmp_path, name, more=""):
    (tmp_path / "config.yaml").write_text(CONFIG.replace("NAME", name) + more.replace("NAME", name))
    return read_run(tmp_path / "config.yaml")


@pytest.mark.parametrize("name", ["uniform_diffusion", "sundae", "sed"])
def test_a_model_whose_row_is_a_bound_is_fitted_and_belongs_to_no_analysis_of_predictions(tmp_path, name):
    run = read(tmp_path, name)
    assert run.bounds() == [name] and run.derived() == []
    assert run.facts()[name]["category"] == "bound" and "of" not in run.facts()[name]
    assert name not in run.inspect_section("coined") and "gpt" in run.inspect_section("coined")


MIXED = "mixtures: {both: {of: [gpt, NAME]}}\n"
BOUND_OF = "  mine: {type: bound, of: NAME}\n"
REFUSED = [
    (MIXED, "mixtures.both: NAME is a bound; allowed: models that give every token a probability"),
    (
        BOUND_OF,
        "models.mine.of: 'NAME' is of type NAME, whose own row is a bound; allowed: block_diffusion, masked_diff",
    ),
]


@pytest.mark.parametrize("name", ["uniform_diffusion", "sundae", "sed"])
@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_what_needs_probabilities_of_the_next_token_is_refused_in_one_line(tmp_path, name, more, message):
    with pytest.raises(UserError, match=message.replace("NAME", name)) as error:
        read(tmp_path, name, more)
    assert len(str(error.value).splitlines()) == 1


def test_sampling_from_left_to_right_is_refused_in_one_line(uniform, sundae):
    for model in (uniform, sundae):
        with pytest.raises(UserError, match="a bound gives no probabilities of the next token"):
            sample(model, 2, 5, seed=0)


def test_neither_is_opened_or_played_with(uniform, sundae, tmp_path):
    for model in (uniform, sundae):
        folder = tmp_path / f"run/text/char/{model.config.name}/seed0"
        facts = {"status": "ok", "type": model.config.name, "parameters": 1, "tokens_seen": 1, "fit_seconds": 0}
        save_fit(folder, model, {**facts, "device": "cpu", "threads": 1, "vocab_size": V}, {})
        with pytest.raises(UserError, match=r"is a bound, which gives no .*; .* another category"):
            opened(folder)
    with pytest.raises(UserError, match="has no fitted model"):
        Playground(tmp_path / "run")
