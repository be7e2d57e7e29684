"""Learning curves as TensorBoard's events, read back by TensorBoard itself."""

import sys
import time
from pathlib import Path

import pytest
from test_resume import TOKENS, VOCAB_SIZE, fit, points
from workflow_rules import Rules

from lmstages.config import references
from lmstages.config.reading import read_run
from lmstages.core.errors import Interrupted, UserError
from lmstages.core.runtime import Runtime
from lmstages.models.fitting import outcome
from lmstages.training import events
from lmstages.training.events import Events

pytestmark = pytest.mark.needs("tensorboard")
TAGS = {"loss/train": "train", "loss/valid": "valid", "learning_rate": "learning_rate", "tokens": "tokens"}
CONFIG = """
corpora: {coined: {count: 60}}
tokenizers: {char: {kind: char}}
models: {bigram: , gpt: {layers: 1, heads: 2, width: 16, steps: 3, warmup_steps: 0}}
"""


def read_back(folder):
    """{tag: [(step, value)]} as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def must_show(folder, curve):
    """Each point of the curve once, in its order; TensorBoard keeps numbers in 32 bits."""
    shown = read_back(folder)
    assert set(shown) == set(TAGS)
    for tag, key in TAGS.items():
        assert [step for step, _ in shown[tag]] == [point["step"] for point in curve]
        assert [value for _, value in shown[tag]] == pytest.approx([point[key] for point in curve], rel=1e-6)


def fitted(folder, config="mlp", **options):
    runtime = Runtime(curves=Events(folder), **options)
    try:
        return fit(config, runtime)
    finally:
        runtime.close()


def test_tensorboard_shows_the_points_of_the_learning_curve(tmp_path):
    curve, arrays = fitted(tmp_path)
    assert [point["step"] for point in curve] == [3, 6, 8]
    must_show(tmp_path, curve)
    assert (curve, arrays) == fit("mlp"), "the fit itself is the same to the bit"


def test_a_point_is_written_before_the_fit_goes_on(tmp_path, monkeypatch):
    shown = []
    original = Events.follow
    monkeypatch.setattr(Events, "follow", lambda self, curve: (original(self, curve), shown.append(count(tmp_path))))
    fitted(tmp_path)
    assert shown == [0, 1, 2, 3]


def count(folder):
    return len(read_back(folder).get("loss/train", [])) if any(folder.glob(events.FILES)) else 0


@pytest.mark.parametrize("interruptions", [1, 3, 4, 7])
def test_a_resumed_fit_shows_one_curve_without_a_point_twice(tmp_path, interruptions):
    for _ in range(interruptions):
        with pytest.raises(Interrupted):
            fitted(tmp_path / "events", points=points(tmp_path / "points"), deadline=time.monotonic())
    curve, arrays = fitted(tmp_path / "events", points=points(tmp_path / "points"))
    assert (curve, arrays) == fit("mlp")
    must_show(tmp_path / "events", curve)
    assert len(list((tmp_path / "events").glob(events.FILES))) == 1


def test_a_fit_that_was_killed_beyond_its_last_resume_point_shows_no_point_twice(tmp_path):
    lost = Events(tmp_path)
    lost.follow([{"step": step, "tokens": step, "train": 9.0, "valid": None, "learning_rate": 1.0} for step in (3, 6)])
    curve, _ = fitted(tmp_path)
    must_show(tmp_path, curve)


def test_only_events_are_removed_from_the_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fitted(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_without_valid_the_curve_has_no_loss_of_valid(tmp_path):
    Events(tmp_path).follow([{"step": 1, "tokens": 2, "train": 3.0, "valid": None, "learning_rate": 0.5}])
    assert read_back(tmp_path) == {"loss/train": [(1, 3.0)], "learning_rate": [(1, 0.5)], "tokens": [(1, 2.0)]}


@pytest.mark.parametrize("model", ["bigram", "autograd"])
def test_models_without_the_training_loop_show_their_curve_where_they_have_one(tmp_path, model):
    small = {"window": 2, "embedding": 2, "hidden": [2], "examples": 4, "epochs": 2} if model == "autograd" else {}
    section, runtime = {"type": model, "hyperparameters": small}, Runtime(curves=Events(tmp_path / "events"))
    _, facts = outcome(section, VOCAB_SIZE, (TOKENS, TOKENS), 0, 1, runtime)
    runtime.close()
    assert (tmp_path / "events").exists() == bool(facts["curve"])
    if facts["curve"]:
        must_show(tmp_path / "events", facts["curve"])


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    monkeypatch.setattr(references, "find_spec", lambda name: None)
    message = r"tensorboard: needs tensorboard, which is not installed; pip install 'lmstages\[tensorboard\]'"
    with pytest.raises(UserError, match=message):
        Events(tmp_path)
    (tmp_path / "a.yaml").write_text(CONFIG + "tensorboard: true\n")
    with pytest.raises(UserError, match=message):
        read_run(tmp_path / "a.yaml")


def test_the_key_changes_no_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["snakemake"])
    Path("config.yaml").write_text(CONFIG)
    rules = Rules()
    plain, _ = rules.chosen([], {})
    jobs = rules.jobs(plain)
    shown, _ = rules.chosen([], {"tensorboard": "true"})
    assert shown.tensorboard and not plain.tensorboard
    assert list(map(repr, jobs)) == list(map(repr, rules.jobs(shown)))
    assert {job.params["curves"] for job in jobs if job.rule == "fit"} == {
        f"logs/default/coined/char/{model}/seed0/tensorboard" for model in ("bigram", "gpt")
    }
