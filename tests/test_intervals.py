"""What a table says of its rows: intervals, who differs from whom, who is worse than guessing or too good to be."""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_cli import call, prepared
from typed_rows import result

from lmstages.analyses import scores as analysed
from lmstages.core.errors import UserError
from lmstages.evaluation.score_files import Scores, ensemble_of, mean_of
from lmstages.results import findings, intervals
from lmstages.results.frame import Results
from lmstages.results.intervals import (
    Text,
    attach,
    flag_impossible_tokens,
    flag_worse,
    impossible,
    must_cover,
    perplexity,
    profile,
)
from lmstages.results.rows import _scored, measures
from lmstages.results.summary import bits_of_a_nat, verdict

LENGTHS = np.random.default_rng(1).integers(20, 60, 200)  # bytes of each of 200 documents
ENDS = np.cumsum(LENGTHS)
TEXT = Text("a hash", ENDS, ENDS, int(ENDS[-1]))
HARD = np.random.default_rng(2).gamma(4.0, 0.25, ENDS[-1])  # what each byte costs


def scored(cost, seed=0, size=1):
    """Scores of the text in tokens of ``size`` bytes, a document's last one shorter."""
    sizes = np.concatenate([[size] * (n // size) + [n % size] * int(n % size > 0) for n in LENGTHS.tolist()])
    nats = np.add.reduceat(HARD * cost, np.cumsum(sizes) - sizes)
    noise = np.random.default_rng([3, seed]).normal(1, 0.1, len(sizes))
    documents = np.searchsorted(ENDS, np.cumsum(sizes))
    return Scores(-nats * noise, sizes, documents, int(ENDS[-1]), "stream")


def row(model, rank, tokenizer="char", corpus="text", family="neural", **changes):
    names = {"corpus": corpus, "tokenizer": tokenizer, "model": model, "rank": rank, "family": family}
    return result(**names, parameters=7, **changes)


def tabled(*pairs):
    """Rows with their scores -> the rows as they come out, and the differences."""
    rows = [replace(row, **measures(scores)._asdict()) for row, scores in pairs]
    profiles = {row.key: profile(scores, TEXT, "experiment") for row, (_, scores) in zip(rows, pairs, strict=True)}
    return rows, attach(rows, profiles, {(row.corpus, row.split): TEXT for row in rows})


ORACLE = row("oracle", 1000, "-", family="oracle")


# Intervals


def test_an_interval_holds_the_figure_it_is_of():
    [gpt], _ = tabled((row("gpt", 3), scored(1.0)))
    low, high = gpt.bits_per_byte_low, gpt.bits_per_byte_high
    assert low < gpt.bits_per_byte < high
    nats = np.array([low, high]) * math.log(2) * gpt.bytes
    assert [gpt.nats_per_character_low, gpt.nats_per_character_high] == pytest.approx(nats / gpt.characters)
    assert [gpt.perplexity_low, gpt.perplexity_high] == pytest.approx(np.exp(nats / gpt.tokens))


def test_a_row_with_an_impossible_token_is_infinite_and_has_no_interval():
    impossible_token = scored(1.0)
    impossible_token.log_probs[5] = -np.inf
    rows, differences = tabled((row("a", 1), impossible_token), (row("b", 2), scored(1.0)))
    assert rows[0].bits_per_byte == rows[0].perplexity == math.inf and rows[0].bits_per_byte_low is None
    assert rows[1].bits_per_byte_low is not None and rows[1].below_model is None and list(differences) == []


def test_a_perplexity_beyond_all_numbers_is_infinite():
    assert perplexity(1000.0) == math.inf and perplexity(700.0) == pytest.approx(math.exp(700.0))


# Neighbours


def test_neighbours_that_differ_have_a_small_p_and_others_do_not():
    rows, differences = tabled(
        (row("bigram", 1), scored(1.5)), (row("gpt", 2), scored(1.0, 1)), (row("twin", 3), scored(1.0, 2))
    )
    bigram, gpt, twin = rows
    assert bigram.below_model is None and len(differences) == 3
    assert gpt.below_model == "bigram" and gpt.below_difference < 0 and gpt.below_p_holm < 0.05
    assert gpt.below_difference == pytest.approx(gpt.bits_per_byte - bigram.bits_per_byte)
    assert gpt.below_low < gpt.below_difference < gpt.below_high < 0
    assert twin.below_model == "gpt" and twin.below_p_holm >= 0.05 and twin.below_p_holm >= twin.below_p


def test_a_difference_is_a_less_b():
    rows, [difference] = tabled((row("bigram", 1), scored(1.5)), (row("gpt", 2), scored(1.0)))
    assert (difference.a_model, difference.b_model, difference.corpus) == ("bigram", "gpt", "text")
    assert difference.difference == pytest.approx(rows[0].bits_per_byte - rows[1].bits_per_byte)


def test_rows_over_different_tokenizers_are_paired_by_bytes():
    rows, [pair] = tabled((row("gpt", 2, "bpe"), scored(1.0, 1, size=3)), (row("gpt", 2), scored(1.2, 2)))
    assert rows[0].tokens < rows[1].tokens and pair.difference < 0 and pair.p < 1e-6
    assert pair.high - pair.low < (rows[0].bits_per_byte_high - rows[0].bits_per_byte_low) / 2


def test_a_first_row_over_its_tokens_stands_above_the_nearest_lower_model_of_others():
    rows, _ = tabled(
        (row("gpt", 5, "bpe"), scored(1.0)), (row("uniform", 0), scored(2.0)), (row("bigram", 2), scored(1.5))
    )
    assert [row.below_model for row in rows] == ["bigram", None, "uniform"]
    assert rows[0].below_tokenizer == "char" and rows[0].below_difference < 0


def test_an_ensemble_is_nobodys_neighbour_but_its_members():
    pairs = [(row("mlp", 1), scored(1.5)), (row("mlp_ensemble", 1, ensemble_of="mlp"), scored(1.4))]
    rows, _ = tabled(*pairs, (row("gpt", 2), scored(1.0)))
    assert [row.below_model for row in rows] == [None, "mlp", "mlp"]


def test_neighbours_are_of_one_category():
    rows, _ = tabled(
        (row("cache", 1, category="online"), scored(2.0)),
        (row("bigram", 2), scored(1.5)),
        (row("ppm", 3, category="online"), scored(1.2)),
        (row("gpt", 4), scored(1.0)),
        (row("bound", 5, category="bound"), scored(1.1)),
    )
    assert [row.below_model for row in rows] == [None, None, "cache", "bigram", None]


def test_a_model_made_from_another_stands_beside_the_ladder_above_its_source():
    pairs = [(row("gpt", 1), scored(1.5)), (row("llama", 2), scored(1.0)), (row("mlp", 3), scored(1.3))]
    rows, _ = tabled(*pairs, (row("llama_q4", 4, made_of="llama"), scored(1.1)), (row("modern", 5), scored(0.9)))
    assert [row.below_model for row in rows] == [None, "gpt", "llama", "llama", "mlp"]


def test_corpora_of_the_same_text_stand_in_one_table():
    rows, differences = tabled(
        (row("gpt", 2), scored(1.0)),
        (ORACLE, scored(0.8)),
        (row("gpt", 2, "bpe", corpus="text-bpe"), scored(1.1, size=4)),
        (replace(ORACLE, corpus="text-bpe"), scored(0.8)),
    )
    pairs = [(pair.a_corpus, pair.b_corpus, pair.b_model) for pair in differences]
    assert pairs == [("text", "text-bpe", "gpt"), ("text", "text", "oracle"), ("text-bpe", "text", "oracle")]
    assert all(row.bits_per_byte_low is not None for row in rows)


def test_all_rows_of_a_text_share_blocks_as_long_as_the_longest_correlation():
    size = 60_000
    text = Text("stream", np.array([size]), np.arange(1000, size + 1, 1000), size)
    calm = -np.random.default_rng(4).gamma(2, 0.5, size)
    slow = -np.repeat(np.random.default_rng(5).gamma(2, 0.5, size // 600), 600)
    scores = [Scores(nats, np.ones(size, int), np.zeros(size, int), size, "stream") for nats in (calm, slow)]
    spans = [profile(part, text, "experiment").span for part in scores]
    assert spans[0] <= 1 and spans[1] == pytest.approx(0.735, abs=0.01)  # as far as 3 sqrt(N) goes
    assert intervals._joined(np.ones((2, 60)), 7).sum(1).tolist() == [60, 60]
    assert intervals._joined(np.ones((2, 60)), 7)[0].tolist() == [11, 7, 7, 7, 7, 7, 7, 7]


# Seeds


def test_several_seeds_are_the_mean_of_their_code_lengths_never_the_best():
    seeds = [scored(cost, seed) for seed, cost in enumerate((1.0, 1.1, 1.4))]
    bits = [measures(scores).bits_per_byte for scores in seeds]
    made = _scored(row("mlp", 1, seeds="0 1 2"), mean_of(seeds), seeds, None, [], {})
    assert made.row.bits_per_byte == pytest.approx(np.mean(bits)) and made.row.bits_per_byte > min(bits)
    assert made.row.bits_per_byte_std == pytest.approx(np.std(bits, ddof=1))
    assert [(seed.seed, seed.bits_per_byte) for seed in made.seeds] == list(zip((0, 1, 2), bits, strict=True))


def test_an_ensemble_is_the_mean_of_probabilities_and_no_worse_than_the_mean_of_code_lengths():
    seeds = [scored(1.0, seed) for seed in range(3)]
    ensemble = ensemble_of(seeds)
    assert np.allclose(np.exp(ensemble.log_probs), np.mean([np.exp(scores.log_probs) for scores in seeds], axis=0))
    assert (ensemble.log_probs >= mean_of(seeds).log_probs - 1e-12).all()


# What a score file must cover


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"lengths": np.full(ENDS[-1], 2)},
            f"experiment: its scores cover {2 * ENDS[-1]:,} bytes; the text has {ENDS[-1]:,}",
        ),
        ({"characters": 5}, f"experiment: its scores divide by 5 characters; the text has {ENDS[-1]:,}"),
        (
            {"documents": np.zeros(ENDS[-1], int)},
            f"its scores end document 0 at byte {ENDS[-1]:,}; in the text it ends",
        ),
        ({"skipped": 3}, f"experiment: its scores cover {ENDS[-1] + 3:,} bytes"),
    ],
)
def test_scores_that_do_not_cover_the_text_stop_the_comparison(changed, message):
    right = scored(1.0)
    must_cover(right, TEXT, "experiment")
    with pytest.raises(UserError) as caught:
        must_cover(Scores(**{**vars(right), **changed}), TEXT, "experiment")
    assert message in str(caught.value) and str(caught.value).endswith("folder and run snakemake again")


def test_what_was_skipped_counts_as_covered():
    right = scored(1.0)
    part = Scores(right.log_probs[9:], right.lengths[9:], right.documents[9:], right.characters - 9, "stream", 9)
    must_cover(part, TEXT, "experiment")
    _, [pair] = tabled((row("a", 1), right), (row("b", 2), part))  # without the document they did not score alike
    assert pair.difference == pytest.approx(0) and pair.p == 1


# Flags


def test_a_fitted_row_that_is_worse_than_guessing_is_flagged_with_its_numbers():
    gpt = row("gpt", 2, nats_per_token=9.035)
    flag_worse(gpt, 3.714)
    assert gpt.flag.startswith("worse than uniform: 9.035 nats per token, where guessing costs 3.714;")


def test_a_row_with_impossible_tokens_says_how_many_and_where_the_first_is():
    scores = scored(1.0)
    scores.log_probs[[7, 20]] = -np.inf
    gpt = row("gpt", 2, nats_per_token=math.inf)
    flag_impossible_tokens(gpt, scores)
    flag_worse(gpt, 3.714)
    count = f"2 of {len(scores.log_probs):,} tokens have probability zero"
    assert gpt.flag == f"infinite: {count}, the first at byte 7 of the text"


@pytest.mark.parametrize(("parameters", "nats"), [(0, 3.714), (0, 5.0), (7, 3.7)])
def test_what_was_not_fitted_or_is_better_is_not_flagged(parameters, nats):
    fitted = replace(row("x", 1), parameters=parameters, nats_per_token=nats)
    flag_worse(fitted, 3.714)
    assert fitted.flag is None


def flagged(cost, split="test", family="neural"):
    pairs = [(row("gpt", 2, family=family), scored(cost, 1)), (ORACLE, scored(1.0))]
    rows, _ = tabled(*((replace(row, split=split), scores) for row, scores in pairs))
    return rows


def test_a_row_better_than_the_source_fails_the_verdict():
    rows = flagged(0.9)
    assert rows[0].flag.startswith("better than the source: -0.1") and rows[1].flag is None
    with pytest.raises(UserError, match=r"1 of 1 rows cannot be true: text/char/gpt on test: better than the source"):
        verdict("run", rows)


def test_a_row_as_good_as_the_source_or_one_that_learned_its_text_is_accepted():
    for rows in (flagged(1.0), flagged(1.2), flagged(0.9, split="train")):
        assert rows[0].flag is None and impossible(rows) == []
        assert verdict("run", rows) == "1 rows, none failed"


def test_a_row_worse_than_guessing_is_a_result_and_no_failure():
    bad = row("gpt", 2, nats_per_token=9.0)
    flag_worse(bad, 3.0)
    assert bad.flag and verdict("run", [bad]) == "1 rows, none failed"


def test_a_failed_row_fails_the_verdict_with_its_reason():
    with pytest.raises(UserError, match=r"run: 1 of 2 rows failed: text/char/mlp: failed: too short"):
        verdict("run", [row("gpt", 2), row("mlp", 1, status="failed: too short")])


# In the pipeline


def fitted_and_scored(folder, run, model, seed):
    """One experiment, made by the commands themselves."""
    experiment, tokens = folder / "char" / model / f"seed{seed}", folder / "char/tokens"
    section = ["--section", run.fit_section(model), "--seed", seed]
    assert call("fit", "--tokens", tokens, "--out", experiment, *section) == 0
    inputs = ["--model", experiment / "model.safetensors", "--tokens", tokens, "--text", folder / "text"]
    assert call("evaluate", *inputs, "--out", experiment, "--section", run.evaluate_section("names", model)) == 0


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of two models, one of them with two seeds."""
    folder = tmp_path_factory.mktemp("summarized")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run, names = prepared(folder)
        for model, seed in (("bigram", 0), ("mlp", 0), ("mlp", 1)):
            fitted_and_scored(names, run, model, seed)
        experiments = [["names", "char", "bigram", [0]], ["names", "char", "mlp", [0, 1]]]
        section = json.loads(run.summary_section()) | {"experiments": experiments, "analyses": False}
        assert call("summarize", "--out", "results", "--section", json.dumps(section)) == 0
        return Results.open(folder / "results")


def test_results_have_a_row_for_the_mean_and_one_for_the_ensemble(results):
    assert [row.model for row in results.rows] == ["bigram", "mlp", "mlp_ensemble"]
    _, mean, ensemble = results.rows
    assert mean.bits_per_byte_std > 0 and ensemble.bits_per_byte_std is None
    assert ensemble.title == "MLP, ensemble of 2" and ensemble.ensemble_of == "mlp"
    assert results.samples(ensemble) == [] and results.samples(mean)
    assert ensemble.bits_per_byte <= mean.bits_per_byte and ensemble.parameters == 2 * mean.parameters
    assert ensemble.below_model == "mlp" and mean.below_model == "bigram"
    assert ensemble.fit_seconds == pytest.approx(2 * mean.fit_seconds)
    assert (ensemble.flops, ensemble.tokens_seen) == (2 * mean.flops, 2 * mean.tokens_seen)


def test_results_have_every_pair_and_every_interval(results):
    assert len(results.table("differences")) == 3 and len(results.table("seeds")) == 3
    for row in results.rows:
        assert row.bits_per_byte_low < row.bits_per_byte < row.bits_per_byte_high


def test_learning_curves_have_a_point_for_every_evaluation_of_every_seed(results):
    curves = results.table("curves")
    assert set(curves["seed"]) == {0, 1} and set(curves["model"]) == {"mlp"}
    assert (curves.groupby("seed")["step"].is_monotonic_increasing).all()


def test_learning_curves_are_in_bits_per_byte_by_the_tokens_and_bytes_of_their_own_split(results):
    curves, sizes = results.table("curves"), results.table("corpora").set_index("split")["bytes"]
    for split in ("train", "valid"):
        tokens = len(np.load(results.folder / f"names/char/tokens/{split}.npy"))
        bits = curves[split] * tokens / sizes[split] / math.log(2)
        assert curves[f"{split}_bits_per_byte"].tolist() == pytest.approx(bits.tolist())


def test_where_the_tokens_of_a_split_are_not_kept_its_bits_per_byte_are_not_guessed(tmp_path):
    np.save(tmp_path / "valid.npy", np.zeros(30, np.uint8))
    assert bits_of_a_nat(tmp_path, "train", 40) is None and bits_of_a_nat(tmp_path, "valid", 0) is None


# Infinite figures


def test_a_perplexity_beyond_all_numbers_has_its_reason_though_no_token_is_impossible():
    beyond = row("words", 1, perplexity=math.inf, nats_per_token=720.0)
    intervals.flag_beyond(beyond)
    assert beyond.flag == "perplexity beyond e^709: 720 nats per token, yet no token is impossible"


def test_infinite_figures_of_unseen_documents_and_positions_reach_the_row_through_json():
    log_probs = np.full(4, -1.0)
    log_probs[3] = -np.inf
    scores = Scores(log_probs, np.ones(4, int), np.array([0, 0, 1, 1]), 4, "stream")
    facts = analysed.unseen(scores, np.array([True, False]), np.array([2, 2]))
    bins = analysed.positions(scores)
    json.dumps([facts, bins], allow_nan=False)
    assert facts["bits_per_byte"] is None and facts["documents"] == 1 and bins[1]["bits_per_byte"] is None
    model = {"corpus": "text", "tokenizer": "char", "model": "bigram", "title": "Bigram", "rank": 1}
    assert findings._position(model, "test", bins[1]).bits_per_byte == math.inf
    assert findings._position(model, "test", bins[0]).bits_per_byte == pytest.approx(1 / math.log(2))


def test_an_infinite_seed_has_no_spread_and_makes_the_mean_infinite():
    seeds = [scored(1.0, 0), scored(1.0, 1)]
    seeds[1].log_probs[0] = -np.inf
    with warnings.catch_warnings(action="error"):
        made = _scored(row("gpt", 3, seeds="0 1"), mean_of(seeds), seeds, None, [], {}).row
    assert made.bits_per_byte == math.inf and made.bits_per_byte_std is None and made.flag.startswith("infinite: 1 of ")
