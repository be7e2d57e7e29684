"""Bounds of diffusion models: the estimate is what enumeration says, keyed by the row, and no next-token model."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.reading import read_run
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation import scoring
from lmstages.evaluation.opening import opened
from lmstages.evaluation.score_files import Scores, load_scores, mean_of, save_scores
from lmstages.models.base import UpperBound, build
from lmstages.models.nonautoregressive import bound, hiding
from lmstages.models.storage import save_fit
from lmstages.playground.answers import Playground
from lmstages.results.rows import PREDICTS

V, N = 5, 6
TINY = {"layers": 1, "heads": 2, "width": 8, "window": N, "row_length": N, "batch_size": 8, "warmup_steps": 2}
TINY |= {"steps": 40, "evaluate_every": 20}
TEXT = Documents.of([[*row, 0] for row in (np.random.default_rng(0).integers(0, 5, (60, 9)) % 4).tolist()])


def fitted(name, **keys):
    model = build(MODEL_TYPES[name].model_validate({**TINY, **keys}), V)
    model.fit(TEXT, TEXT, 0)
    return model


def bound_of(base, samples=2):
    model = build(MODEL_TYPES["bound"](base=base.config, samples=samples), V)
    model.derive(base, TEXT)
    return model


@pytest.fixture(scope="module")
def masked():
    return fitted("masked_diffusion")


@pytest.fixture(scope="module")
def blocks():
    return {block: fitted("block_diffusion", block=block, steps=20) for block in (1, 2, 3)}


ROWS = np.random.default_rng(4).integers(0, V, (200, N))


def enumerated(model, rows, first=0):
    """(B,) the bound of the tokens from ``first`` on, by the formula, one set of hidden places after the other."""
    total, block, every = np.zeros(len(rows)), model.config.block_length, np.arange(rows.shape[1])
    row = np.column_stack([np.zeros(len(rows), dtype=int), rows])
    for begin in range(first // block * block, rows.shape[1], block):
        places = [place for place in range(begin, min(begin + block, rows.shape[1])) if place >= first]
        for k in range(1, len(places) + 1):
            for chosen in itertools.combinations(places, k):
                hidden = (every >= begin + block) | np.isin(every, chosen)
                log_probs = model.log_probs(row, np.tile(hidden, (len(rows), 1)))
                nats = sum(-log_probs[np.arange(len(rows)), place, rows[:, place]] for place in chosen)
                total += nats / k / math.comb(len(places), k)
    return total


def halves(model, rows, first=0):
    wanted = np.tile(np.arange(rows.shape[1]) >= first, (len(rows), 1))
    return model.halves(rows, None, wanted)


@pytest.mark.parametrize("first", [0, 2, 5])
@pytest.mark.parametrize("samples", [2, 8])
def test_the_estimate_is_within_four_standard_errors_of_enumeration(masked, samples, first):
    estimate = halves(bound_of(masked, samples), ROWS, first).sum(-1)  # (2, B)
    error = np.sqrt(((estimate[0] - estimate[1]) ** 2 / 4).sum())
    exact = enumerated(masked, ROWS, first).sum()
    assert abs(estimate.mean(0).sum() - exact) < 4 * error + 1e-3 and (first == 5 or error > 0)


def test_more_samples_have_a_smaller_error_and_it_is_the_spread_of_the_estimate(masked):
    exact, errors = enumerated(masked, ROWS), {}
    for samples in (2, 8):
        estimate = halves(bound_of(masked, samples), ROWS).sum(-1)
        stated = ((estimate[0] - estimate[1]) ** 2 / 4).mean()
        errors[samples] = ((estimate.mean(0) - exact) ** 2).mean()
        assert stated == pytest.approx(errors[samples], rel=0.5)
    assert errors[8] < errors[2] / 3


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("first", [0, 1, 4])
def test_short_blocks_are_enumerated_without_error(blocks, block, first):
    estimate = halves(bound_of(blocks[block]), ROWS[:20], first)
    assert np.array_equal(estimate[0], estimate[1])
    assert np.allclose(estimate[0].sum(-1), enumerated(blocks[block], ROWS[:20], first), atol=1e-4)


def test_with_blocks_of_one_the_bound_is_the_exact_code_length(blocks):
    assert np.allclose(bound_of(blocks[1]).score(ROWS), blocks[1].score(ROWS), atol=1e-5)


def test_the_bound_is_not_below_the_mean_over_the_orders_of_a_block(blocks):
    """The bound of a block is the mean of -log p over its orders, each of which is a distribution."""
    rows, model = ROWS[:5, :2], blocks[2]
    both = np.column_stack([np.zeros(5, dtype=int), rows])
    orders = []
    for first, second in ((0, 1), (1, 0)):
        nats, hidden = 0.0, np.ones((5, 2), dtype=bool)
        for place in (first, second):
            nats = nats - model.log_probs(both, hidden)[np.arange(5), place, rows[:, place]]
            hidden[:, place] = False
        orders.append(nats)
    assert np.allclose(-bound_of(model).score(rows).sum(1), np.mean(orders, 0), atol=1e-5)


def test_no_score_is_above_zero_and_rows_stand_for_themselves(masked):
    model = bound_of(masked, 4)
    scores, order = model.score(ROWS[:30]), np.random.default_rng(1).permutation(30)
    assert (scores <= 0).all()
    assert np.allclose(model.score(ROWS[:30][order]), scores[order], atol=1e-4)
    assert np.allclose(model.score(ROWS[3:4]), scores[3:4], atol=1e-4)


def test_what_follows_the_wanted_tokens_does_not_matter_and_a_short_row_is_as_in_a_batch_of_long_ones(masked):
    model, wanted = bound_of(masked, 4), np.tile(np.arange(N) < 3, (4, 1))
    rows = ROWS[:4]
    expected = model.halves(rows[:, :3], None, wanted[:, :3])
    for behind in (0, 1):
        padded = np.column_stack([rows[:, :3], np.full((4, N - 3), behind)])
        assert np.allclose(model.halves(padded, None, wanted)[..., :3], expected, atol=1e-5)


def test_a_row_beyond_the_window_is_cut_into_windows(masked):
    model, row = bound_of(masked, 2), ROWS[:4].reshape(2, -1)
    first, second = model.score(row[:, :N]), model.score(row[:, N:], before=row[:, N - 1])
    assert np.allclose(model.score(row), np.concatenate([first, second], 1), atol=1e-5)


# Planted faults: each changes the mean by more than four standard errors, or breaks what a row is


def off_by(masked, monkeypatch, target, name, fault):
    monkeypatch.setattr(target, name, fault)
    estimate = halves(bound_of(masked, 8), ROWS).sum(-1)
    error = np.sqrt(((estimate[0] - estimate[1]) ** 2 / 4).sum())
    return abs(estimate.mean(0).sum() - enumerated(masked, ROWS).sum()) / error


def weighted(change):
    def fault(is_open, fractions, noise):
        hidden = hiding.hidden_at_random(is_open, fractions, noise)
        return hidden._replace(weights=change(hidden))

    return fault


def visible_targets(is_open, fractions, noise):
    hidden = hiding.hidden_at_random(is_open, fractions, noise)
    return hidden._replace(places=np.zeros_like(hidden.places))


FAULTS = {
    "without n / k": weighted(lambda hidden: hidden.places * 1.0),
    "the mean over hidden tokens": weighted(lambda hidden: hidden.places / hidden.places.sum(-1, keepdims=True)),
    "n / (k + 1)": weighted(lambda hidden: hidden.weights * 0.8),
    "rates instead of counts": lambda is_open, fractions, noise: hiding.Hidden(
        places := is_open & (noise < fractions[..., None]), places / np.maximum(fractions, 0.2)[..., None]
    ),
    "what is predicted can be read": visible_targets,
    "always the first places": lambda is_open, fractions, noise: hiding.hidden_at_random(
        is_open, fractions, np.broadcast_to(np.linspace(0, 1, N), noise.shape)
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_estimate_is_caught_by_enumeration(masked, fault, monkeypatch):
    assert off_by(masked, monkeypatch, bound, "hidden_at_random", FAULTS[fault]) > 4


def test_without_a_fault_it_is_not(masked, monkeypatch):
    assert off_by(masked, monkeypatch, bound, "hidden_at_random", hiding.hidden_at_random) < 4


def test_randomness_by_the_index_in_the_batch_is_caught_by_the_order_of_rows(masked, monkeypatch):
    numbers = itertools.count()
    monkeypatch.setattr(bound, "row_generator", lambda row, wanted: np.random.default_rng(next(numbers)))
    model = bound_of(masked, 2)
    assert not np.allclose(model.score(ROWS[:9]), model.score(ROWS[:9][::-1])[::-1], atol=1e-3)


# Score files, rows and the config


def test_a_split_is_scored_once_and_its_error_is_that_of_its_windows(masked):
    model, read = bound_of(masked, 4), Documents.single(TEXT.tokens[:100])
    windows = scoring.windows_of(read.starts, "stride", N, 3, 0)
    log_probs, error = scoring.score_bound(model, read, windows)
    assert isinstance(model, UpperBound) and not isinstance(masked, UpperBound)
    assert np.isfinite(log_probs).all() and (log_probs <= 0).all() and error > 0
    shuffled = scoring.Windows(*(part[::-1] for part in (windows.begin, windows.end, windows.scored_from)))
    assert np.allclose(scoring.score_bound(model, read, shuffled)[0], log_probs, atol=1e-4)


def test_a_score_file_keeps_the_error_of_a_bound_and_says_nothing_of_it_elsewhere(tmp_path):
    scores = Scores(np.full(3, -1.0), np.ones(3), np.zeros(3), 3, "disjoint 6", error=0.25)
    save_scores(tmp_path / "s.safetensors", {"test": scores, "valid": replace(scores, error=None)}, {})
    loaded = load_scores(tmp_path / "s.safetensors")
    assert loaded["test"].error == 0.25 and loaded["valid"].error is None
    assert mean_of([scores, replace(scores, error=0.75)]).error == 0.5


def test_a_bound_has_no_next_token_and_is_no_category_of_predictions(masked):
    with pytest.raises(UserError, match=r"a bound gives no probabilities of the next token; .*take masked_diffusion"):
        bound_of(masked).next_log_probs(ROWS)
    assert "bound" not in PREDICTS


def test_a_bound_is_neither_opened_nor_played_with(masked, tmp_path):
    folder = tmp_path / "run/text/char/masked_bound/seed0"
    facts = {"status": "ok", "type": "bound", "parameters": 1, "tokens_seen": 1, "fit_seconds": 0, "device": "cpu"}
    save_fit(folder, bound_of(masked), {**facts, "threads": 1, "vocab_size": V}, {})
    with pytest.raises(
        UserError, match=r"is a bound, which gives no probabilities of a token; .*open what it is a bound"
    ):
        opened(folder)
    with pytest.raises(UserError, match="has no fitted model"):
        Playground(tmp_path / "run")


def test_a_bound_takes_over_the_fitted_model_and_refuses_another(masked, blocks):
    model = bound_of(masked)
    assert model.parameters() == masked.parameters() and json.loads(model.config.model_dump_json())["of"]
    with pytest.raises(UserError, match="was fitted with other hyperparameters"):
        model.derive(blocks[2], TEXT)


@pytest.mark.parametrize("name", ["masked_diffusion", "block_diffusion"])
def test_a_record_read_again_is_the_same(name, masked, blocks):
    record = MODEL_TYPES["bound"](base=masked.config if name == "masked_diffusion" else blocks[2].config)
    assert type(record).model_validate(record.model_dump(mode="json")) == record


CONFIG = """
corpora: {coined: {source: coined, count: 50}}
tokenizers: {char: {kind: char}}
models:
  gpt: {steps: 2, warmup_steps: 0}
  masked_diffusion: {steps: 2, warmup_steps: 0}
  block_diffusion: {steps: 2, warmup_steps: 0, block: BLOCK}
  masked_bound: {type: bound, of: OF, samples: SAMPLES}
"""


def read(tmp_path, block=4, of="masked_diffusion", samples=8, more=""):
    text = CONFIG.replace("BLOCK", str(block)).replace("OF", of).replace("SAMPLES", str(samples)) + more
    (tmp_path / "config.yaml").write_text(text)
    return read_run(tmp_path / "config.yaml")


def test_a_bound_is_made_of_the_fitted_model_and_belongs_to_no_analysis_of_predictions(tmp_path):
    run = read(tmp_path)
    assert run.derived() == run.bounds() == ["masked_bound"] and run.derived_from_llama() == []
    facts = run.facts()["masked_bound"]
    assert facts["category"] == "bound" and facts["of"] == "masked_diffusion"
    fitted_models = [row["model"] for row in json.loads(run.analyse_section("coined"))["experiments"] if row["fitted"]]
    assert "masked_bound" not in fitted_models and "masked_diffusion" in fitted_models
    assert json.loads(run.fit_section("masked_bound"))["hyperparameters"]["base"]["window"] == 64


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"of": "gpt"}, r"models.masked_bound.of: 'gpt' is of type gpt, which has no bound; allowed: block_diffusion"),
        ({"block": 7}, r"models.block_diffusion: .*window 64 is no multiple of its block of 7 tokens"),
        ({"samples": 0}, r"models.masked_bound.samples: samples is 0; allowed: 2, 4, 6"),
        ({"samples": 3}, r"models.masked_bound.samples: samples is 3; allowed: 2, 4, 6"),
        (
            {"more": "mixtures: {both: {of: [gpt, masked_bound]}}\n"},
            r"mixtures.both: masked_bound is a bound; allowed: models that give every token a probability",
        ),
    ],
)
def test_a_bound_that_cannot_be_is_refused_in_one_line(tmp_path, keys, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, **keys)
    assert len(str(error.value).splitlines()) == 1
