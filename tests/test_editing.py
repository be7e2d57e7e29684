"""A rank-one edit says exactly what it was told to, changes other answers as little as can be, and nothing else."""

import numpy as np
import pytest
import torch
from test_inspection import SMALL, fresh
from test_tracing import LETTERS, loud

from lmstages.analyses.editing import edit_hero
from lmstages.config.sections import config_of
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.corpora.grammar import Grammar, documents
from lmstages.corpora.recalls import told
from lmstages.models.base import build
from lmstages.models.neural import editing

QUESTIONS = editing.Questions(
    np.array([[0, 1, 2, 3, 4], [0, 5, 2, 3, 0]]), at=np.array([2, 2]), ends=np.array([4, 3]), wanted=np.array([5, 5])
)
AT_TWO = torch.eye(5)[2][None, :, None]  # both facts stand there
TEXT = Documents.of([np.random.default_rng(0).integers(1, 6, 200).tolist()])
DRAWS = torch.Generator().manual_seed(0)
WEIGHT, KEY, VALUE = (torch.randn(*size, generator=DRAWS) for size in ((3, 4), (4,), (3,)))


def test_with_the_identity_as_moment_the_edit_is_worked_by_hand():
    change = editing.rank_one(WEIGHT, KEY, VALUE, torch.eye(4).double())
    expected = torch.outer(VALUE - WEIGHT @ KEY, KEY) / (KEY @ KEY)
    torch.testing.assert_close(change, expected.double(), atol=1e-5, rtol=1e-5)


def test_the_edit_has_rank_one_and_the_key_gets_the_value():
    keys = torch.randn(50, 4, generator=DRAWS).double()
    change = editing.rank_one(WEIGHT, KEY, VALUE, keys.T @ keys / 50)
    torch.testing.assert_close((WEIGHT.double() + change) @ KEY.double(), VALUE.double())
    assert torch.linalg.matrix_rank(change) == 1


def test_no_other_matrix_that_says_the_value_changes_the_text_less(monkeypatch):
    monkeypatch.setattr(editing, "DAMPING", 0.0)
    keys = torch.randn(50, 4, generator=DRAWS).double()
    change = editing.rank_one(WEIGHT, KEY, VALUE, keys.T @ keys / 50)
    least = (keys @ change.T).square().sum()
    for _ in range(20):
        other = torch.randn(3, 4, generator=DRAWS).double()
        other -= torch.outer(other @ KEY.double(), KEY.double()) / (KEY @ KEY)  # says nothing new of the key
        assert (keys @ (change + other).T).square().sum() > least


@pytest.mark.parametrize(
    ("config", "name"), [("gpt", "2.weight"), ("llama", "down.weight"), ("modern_gpt", "down.weight")]
)
def test_one_matrix_of_a_copy_changes_and_says_the_wanted_value_at_the_mean_key(config, name):
    model = loud(config, SMALL[config] | {"layers": 2})
    before = {key: array.copy() for key, array in model.arrays().items()}
    changed = editing.edited(model, 1, QUESTIONS, editing.second_moment(model, 1, TEXT))
    different = [key for key, array in changed.arrays().items() if (array != before[key]).any()]
    assert different == [f"blocks.0.feedforward.{name}"]
    assert all((model.arrays()[key] == array).all() for key, array in before.items()), "the model is left as it was"
    with torch.inference_mode():
        said = editing.feedforward_matrix(changed, 1)(editing.keys(model, 1, QUESTIONS.rows)[[0, 1], [2, 2]].mean(0))
    torch.testing.assert_close(said, editing.wanted_value(model, 1, QUESTIONS), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("config", ["gpt", "modern_gpt"])
def test_the_wanted_tokens_are_likelier_where_the_wanted_value_is_said(config):
    model = loud(config, SMALL[config])
    matrix, value = editing.feedforward_matrix(model, 1), editing.wanted_value(model, 1, QUESTIONS)
    with torch.inference_mode():
        before = editing.log_probs(model, QUESTIONS).mean()
        with editing._answering(matrix, lambda output: output.index_fill(1, torch.tensor(2), 0) + value * AT_TWO):
            assert editing.log_probs(model, QUESTIONS).mean() > before


def test_the_moment_is_the_mean_of_the_keys_of_whole_rows():
    model = fresh("gpt")
    keys = editing.keys(model, 1, TEXT.tokens[:16].reshape(2, 8)).flatten(0, 1).double()
    torch.testing.assert_close(editing.second_moment(model, 1, TEXT, most=20), keys.T @ keys / 16)


def test_what_cannot_be_edited_is_said_in_one_line():
    with pytest.raises(UserError, match=r"layer: 2 found.*1 to 1, below the last layer"):
        editing.feedforward_matrix(fresh("gpt"), 2)
    with pytest.raises(UserError, match=r"layer: 1 found.*mlp has no layer below another"):
        editing.feedforward_matrix(fresh("mlp"), 1)
    with pytest.raises(UserError, match=r"text: 3 tokens found.*at least 8"):
        editing.second_moment(fresh("gpt"), 1, Documents.of([[1, 2, 3]]))


# ---------------------------------------------------------------- heroes


def test_a_hero_told_as_the_other_gender_differs_where_the_gender_is_asked_for():
    girl = Grammar.load("fables").words["girl"][0]
    story = next(story for story in told("fables", 0, "allowed") if story.word_of("who") == "boy")
    fact = story.otherwise("hero", "who", girl)
    assert story.text[fact.start : fact.end] == story.word_of("hero") == fact.other[fact.start : fact.end]
    asked = next(n for n in range(fact.end, len(fact.text)) if fact.text[n] != fact.other[n])
    assert np.isfinite(Grammar.load("fables").score(fact.text)[:asked]).all()
    assert fact.kind in ("child", "parent", "her", "she") and fact.text[:asked] == fact.other[:asked]


@pytest.mark.slow
def test_an_edited_hero_answers_as_the_other_gender():
    train = Documents.of(
        [[*tokens.tolist(), 0] for tokens, _ in LETTERS.encode(documents("fables", 30, 0, "withheld"))]
    )
    small = {"layers": 2, "heads": 2, "width": 16, "window": 96, "steps": 20, "warmup_steps": 2}
    section = {"type": "gpt", "hyperparameters": small}
    model = build(config_of(section), LETTERS.vocab_size)
    model.fit(train, train, 0)
    edit = edit_hero(model, LETTERS, train, "Leo", layer=1)
    assert edit.success.questions > 5 and edit.success.after >= edit.success.before
    assert edit.bits_after > 0 and edit.bits_before > 0 and edit.neighbours.questions == 40
    with pytest.raises(UserError, match="edit: no story of Nobody asks for child, parent"):
        edit_hero(model, LETTERS, train, "Nobody", layer=1)
