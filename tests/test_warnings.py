"""What a row is warned of: by hand-made curves and rows, and by a tiny text of one's own that is split contiguously."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_cli import call
from test_intervals import fitted_and_scored, row, scored, tabled
from typed_rows import result

from lmstages.config.reading import read_run
from lmstages.config.sections import to_section
from lmstages.results.frame import Results
from lmstages.results.schema import Columns, CurvePoint, Difference
from lmstages.results.warnings import Curve, warn, warn_of_blocks

BIT = math.log(2)  # nats; with one token a byte a curve in nats is one in bits times this
NO_PAIRS = Columns(Difference, {name: np.zeros(0, object) for name in ("a_model", "b_model", "p_holm")})


def curve(*valid, train=None, every=100):
    steps = np.arange(1, len(valid) + 1) * every
    return Curve(steps.astype(float), np.array(train or valid, dtype=float), np.array(valid, dtype=float))


def points(*seeds, **where):
    """The curve points of a network's seeds: valid alone, in bits per byte, train falling."""
    names = {"corpus": "text", "tokenizer": "char", "model": "gpt", "title": "GPT", "rank": 5, **where}
    return [
        CurvePoint(**names, seed=seed, step=100 * n, tokens=100 * n, train=1 / n, valid=bits * BIT, learning_rate=0.1)
        for seed, valid in enumerate(seeds)
        for n, bits in enumerate(valid, start=1)
    ]


def network(bits=1.0, split="test", keep="best", **changes):
    settings = json.dumps({"steps": 1000, "keep": keep, "learning_rate": 0.1})
    ends = {"bits_per_byte_low": bits - 0.01, "bits_per_byte_high": bits + 0.01}
    named = row("gpt", 5, split=split, hyperparameters=settings, tokens=1000, bytes=1000, bits_per_byte=bits, **ends)
    return replace(named, **changes)


def warned(*rows, curves=()):
    warn(rows, curves, NO_PAIRS)
    return rows[0].warning


# The end of a curve


def test_a_fall_is_that_over_a_tenth_of_the_steps():
    assert curve(3.0, 2.0, 1.5, 1.2, 1.0).fall() == pytest.approx(0.2 * 0.5)  # 0.2 in 100 steps; a tenth is 50
    many = curve(*np.linspace(3, 1, 40))
    assert many.last == 4 and many.fall() == pytest.approx(2 / 39 * 4)


@pytest.mark.parametrize(
    "valid",
    [
        (3.0, 2.0, 1.5, 1.5, 1.495),  # hardly falls
        (1.0, 1.0, 1.0, 1.3, 1.0),  # back from a rise
        (3.0, 1.0, 1.2, 1.1, 0.97),  # falls by less than it rose shortly before
        (3.0, 2.0, 1.5, 1.5, 1.6),  # rises
        (3.0, 1.0),  # two points are no curve
        (1.0,),
    ],
)
def test_a_curve_that_is_flat_or_jagged_or_rises_or_is_short_does_not_fall(valid):
    assert curve(*valid).fall() == 0


def test_a_row_whose_valid_loss_still_falls_says_by_how_much_and_which_key_helps():
    wanted = (
        "Valid loss still falls: by 0.100 bits per byte over the last tenth of the steps; more steps would help"
        " (models.gpt.steps)."
    )
    assert warned(network(), curves=points((3.0, 2.0, 1.5, 1.2, 1.0))) == wanted
    ensemble = network(model="gpt_ensemble", ensemble_of="gpt")
    assert warned(ensemble, curves=points((3.0, 2.0, 1.5, 1.2, 1.0))) == wanted


def test_bits_per_byte_are_those_of_valid_where_its_tokens_are_known():
    known = [replace(point, valid_bits_per_byte=2 * point.valid / BIT) for point in points((3.0, 2.0, 1.5, 1.2, 1.0))]
    assert "by 0.200 bits per byte" in warned(network(2.0), curves=known)
    assert "2.000 bits per byte on valid, 5.000 on test" in warned(network(5.0), curves=known)


def test_a_network_that_counts_epochs_is_given_that_key():
    counted = network(hyperparameters='{"epochs": 2}')
    assert "(models.gpt.epochs)" in warned(counted, curves=points((3.0, 2.0, 1.5, 1.2, 1.0)))


def test_what_one_seed_shows_and_another_does_not_is_not_said():
    falls, flat = (3.0, 2.0, 1.5, 1.2, 1.0), (3.0, 2.0, 1.5, 1.2, 1.2)
    assert "by 0.100 bits" in warned(network(), curves=points(falls, falls))
    assert warned(network(1.1), curves=points(falls, flat)) is None


# Overfitting


def test_a_row_past_its_lowest_valid_loss_says_when_by_how_much_and_what_was_kept():
    valid = (3.0, 2.0, 1.0, 1.2, 1.4)
    kept = warned(network(), curves=points(valid))
    assert kept == (
        "Overfits: valid loss was lowest at step 300 of 500 and rose by 0.400 bits per byte after it, while train loss"
        " fell; the weights of its lowest point were kept."
    )
    last = warned(network(1.4, keep="last"), curves=points(valid))
    assert last.endswith("the last weights were kept (models.gpt.keep).")
    assert "well before step 500" in warned(network(), curves=points(valid, (3.0, 1.0, 1.1, 1.2, 1.4)))


def test_a_rise_that_is_small_or_of_train_too_is_no_overfitting():
    assert curve(3.0, 1.0, 1.01, 1.01, 1.01, train=(3, 2, 1, 1, 0.9)).rise() == 0
    assert curve(3.0, 1.0, 1.5, 1.5, 1.5, train=(3, 2, 4, 4, 4)).rise() == 0  # diverges
    assert curve(3.0, 1.0, 1.5, 1.5, 1.5, train=(3, 2, 1, 1, 0.9)).rise() == pytest.approx(0.5)


# Valid and test


def test_valid_and_test_that_part_are_both_named_with_what_to_do():
    assert warned(network(2.0), network(1.0, "valid")) == (
        "Valid and test part widely: 1.000 bits per byte on valid, 2.000 on test; they are not alike, so split by"
        " documents (corpora.text.documents) or shuffle (split.shuffle_seed)."
    )
    assert warned(network(1.0), network(2.0, "valid")).startswith("Valid and test part widely: 2.000 bits per byte on")


def test_where_valid_is_not_scored_the_kept_point_of_the_curve_stands_for_it():
    valid = (3.0, 1.0, 1.2, 1.2)
    assert "1.000 bits per byte on valid, 2.000 on test" in warned(network(2.0), curves=points(valid))
    assert "1.200 bits per byte on valid, 2.000 on test" in warned(network(2.0, keep="last"), curves=points(valid))
    assert warned(network(0.5), curves=points((3.0, 1.2, 1.2, 1.2))) is None  # less history than the score has


def test_valid_and_test_within_a_tenth_or_within_their_intervals_do_not_part():
    assert warned(network(1.09), network(1.0, "valid")) is None
    wide = {"bits_per_byte_low": 1.0, "bits_per_byte_high": 3.0}
    assert warned(network(2.0, **wide), network(1.0, "valid")) is None


@pytest.mark.parametrize(("family", "model"), [("oracle", "oracle"), ("compressor", "gzip")])
def test_valid_and_test_part_no_further_than_the_texts_themselves(family, model):
    def known(bits, split):
        return row(model, 1000, "-", family=family, split=split, bits_per_byte=bits)

    rows = network(2.0), network(1.0, "valid")
    assert warned(*rows, known(0.2, "valid"), known(1.2, "test")) is None
    assert "part widely" in warned(*rows, known(0.2, "valid"), known(0.3, "test"))


# The bigram


def compared(network_cost, **changes):
    settings = {"hyperparameters": '{"learning_rate": 0.1, "steps": 10}', **changes}
    bigram = row("bigram", 2, family="counts", type="bigram"), scored(1.5, 1)
    rows, differences = tabled(bigram, (row("mlp", 5, **settings), scored(network_cost, 2)))
    warn(rows, [], differences)
    return rows[1].warning, rows[1].bits_per_byte - rows[0].bits_per_byte


def test_a_network_that_loses_to_the_bigram_says_by_how_much_and_what_to_try():
    warning, apart = compared(2.0)
    assert warning == (
        f"Loses to the bigram: by {apart:.3f} bits per byte; try more steps or text (models.mlp.steps,"
        " models.mlp.learning_rate)."
    )


def test_a_network_near_the_bigram_or_of_another_category_or_tokens_does_not_lose_to_it():
    assert compared(1.4)[0] is None and compared(1.505)[0] is None
    assert compared(2.0, category="online")[0] is None
    assert compared(2.0, tokenizer="bpe")[0] is None
    assert compared(2.0, family="counts")[0] is None


def test_a_network_that_overfits_is_told_to_take_more_text():
    bigram = row("bigram", 2, family="counts", type="bigram"), scored(1.5, 1)
    rows, differences = tabled(bigram, (row("gpt", 5, hyperparameters='{"keep": "best"}'), scored(2.0, 2)))
    warn(rows, points((9.0, 4.0, 5.0, 6.0)), differences)
    assert "bits per byte; try more text or a smaller model. Overfits:" in rows[1].warning


# Few blocks


def test_a_text_of_few_blocks_says_so_at_every_row():
    for blocks, wanted in ((3, "Too little text: 3 blocks;"), (8, "the interval rests on 8;"), (10, None)):
        rows = [row("a", 1), row("b", 2)]
        warn_of_blocks(rows, blocks)
        assert all(wanted is None if one.warning is None else wanted in one.warning for one in rows)


def test_a_row_without_a_score_is_not_warned():
    assert warned(result(status="failed: why"), curves=points((3.0, 2.0, 1.0))) is None


# An own text, split contiguously

CONFIG = """
corpora: {names: {path: own.txt, documents: stream, split: SPLIT, tokenizers: [char]}}
tokenizers: {char: {kind: char, alphabet: corpus}}
models:
  bigram:
  mlp: {window: 3, embedding: 8, hidden: 16, steps: 60, evaluate_every: 20, learning_rate: 0.01}
"""


def own_text(folder, text, split="{}"):
    """A text of one's own, scored on test alone by the commands -> the warnings of its rows."""
    Path("own.txt").write_text(text)
    Path("run.yaml").write_text(CONFIG.replace("SPLIT", split))
    run, corpus = read_run(Path("run.yaml")), folder / "results/names"
    prepare = ["--raw", "own.txt", "--out", corpus / "text", "--section", to_section(run.corpora["names"])]
    assert call("prepare", *prepare) == 0
    tokens = ["--text", corpus / "text", "--layout", "stream", "--out", corpus / "char/tokens"]
    assert call("tokenize", *tokens, "--section", to_section(run.tokenizers["char"])) == 0
    for model in ("bigram", "mlp"):
        fitted_and_scored(corpus, run, model, 0)
    section = json.loads(run.summary_section()) | {"analyses": False, "compressors": []}
    assert call("summarize", "--out", folder / "results", "--section", json.dumps(section)) == 0
    return {row.model: row.warning or "" for row in Results.open(folder / "results").rows}


def test_an_own_text_whose_end_is_another_text_is_warned_of_and_an_even_one_is_not(tmp_path, monkeypatch):
    dice = np.random.default_rng(0)
    words, others = ["ab", "ba", "aab", "abba", "baab"], ["xyz", "zyx", "yyx", "zxy", "xzzy"]
    first, second = (" ".join(dice.choice(part, 9000)) for part in (words, others))
    for name, text in (("apart", first[:27_000] + second[:3_000]), ("even", first[:30_000])):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        warnings = own_text(folder, text)
        assert ("Valid and test part widely" in warnings["mlp"]) == (name == "apart")
