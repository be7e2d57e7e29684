"""What a table says of its rows: intervals, who differs from whom, who is worse than guessing or too good to be."""

import json
import math

import numpy as np
import pytest
from test_cli import call, prepared

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.evaluation.score_files import Scores
from lmstages.results import intervals, summary
from lmstages.results.intervals import (
    Text,
    attach,
    ensemble_of,
    flag_worse,
    impossible,
    key,
    mean_of,
    must_cover,
    profile,
)

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


def row(model, rank, tokenizer="char", corpus="text", family="neural", **others):
    told = {"corpus": corpus, "split": "test", "tokenizer": tokenizer, "model": model, "rank": rank, "family": family}
    return {**summary.EMPTY, "parameters": 7, **told, **others}


def tabled(*pairs, texts=None):
    """Rows with their scores -> the rows as they come out, and the differences."""
    rows, profiles = [], {}
    for each, scores in pairs:
        rows.append(each | summary.measures(scores))
        profiles[key(each)] = profile(scores, TEXT, "cell")
    places = {(each["corpus"], each["split"]): TEXT for each in rows}
    return rows, attach(rows, profiles, texts or places)


ORACLE = row("oracle", 1000, "-", family="oracle")


# Intervals


def test_an_interval_holds_the_figure_it_is_of():
    [found], _ = tabled((row("gpt", 3), scored(1.0)))
    low, high = found["interval"]
    assert low < found["bits_per_byte"] < high
    nats = [end * math.log(2) * found["bytes"] for end in (low, high)]
    assert found["nats_per_character_interval"] == pytest.approx([n / found["characters"] for n in nats])
    assert found["perplexity_interval"] == pytest.approx([math.exp(n / found["tokens"]) for n in nats])


def test_a_row_without_scores_or_with_an_impossible_token_has_no_interval():
    none = scored(1.0)
    none.log_probs[5] = -np.inf
    rows, found = tabled((row("a", 1), none), (row("b", 2), scored(1.0)))
    assert rows[0]["interval"] is None and rows[1]["interval"] and rows[1]["below"] is None and found == []
    assert set(intervals.EMPTY) <= set(summary.EMPTY) and not any(intervals.EMPTY.values())


# Neighbours


def test_neighbours_that_differ_are_marked_and_others_are_not():
    rows, found = tabled(
        (row("bigram", 1), scored(1.5)), (row("gpt", 2), scored(1.0, 1)), (row("twin", 3), scored(1.0, 2))
    )
    assert rows[0]["below"] is None and len(found) == 3
    better, twin = rows[1]["below"], rows[2]["below"]
    assert better["model"] == "bigram" and better["difference"] < 0 and better["differs"]
    assert better["difference"] == pytest.approx(rows[1]["bits_per_byte"] - rows[0]["bits_per_byte"])
    assert better["interval"][0] < better["difference"] < better["interval"][1] < 0
    assert twin["model"] == "gpt" and not twin["differs"] and twin["p_holm"] >= twin["p"]


def test_a_difference_is_a_less_b():
    rows, [found] = tabled((row("bigram", 1), scored(1.5)), (row("gpt", 2), scored(1.0)))
    assert (found["a"]["model"], found["b"]["model"], found["corpus"]) == ("bigram", "gpt", "text")
    assert found["difference"] == pytest.approx(rows[0]["bits_per_byte"] - rows[1]["bits_per_byte"])


def test_rows_over_different_tokenizers_are_paired_by_bytes():
    rows, [found] = tabled((row("gpt", 2, "bpe"), scored(1.0, 1, size=3)), (row("gpt", 2), scored(1.2, 2)))
    assert rows[0]["tokens"] < rows[1]["tokens"] and found["difference"] < 0 and found["p"] < 1e-6
    low, high = rows[0]["interval"]
    assert found["interval"][1] - found["interval"][0] < (high - low) / 2


def test_a_first_row_over_its_tokens_stands_above_the_nearest_lower_model_of_others():
    rows, _ = tabled(
        (row("gpt", 5, "bpe"), scored(1.0)), (row("uniform", 0), scored(2.0)), (row("bigram", 2), scored(1.5))
    )
    assert [each["below"] and each["below"]["model"] for each in rows] == ["bigram", None, "uniform"]
    assert rows[0]["below"]["tokenizer"] == "char" and rows[0]["below"]["difference"] < 0


def test_an_ensemble_is_nobodys_neighbour_but_its_members():
    pairs = [(row("mlp", 1), scored(1.5)), (row("mlp_ensemble", 1, ensemble_of="mlp"), scored(1.4))]
    rows, _ = tabled(*pairs, (row("gpt", 2), scored(1.0)))
    assert [each["below"] and each["below"]["model"] for each in rows] == [None, "mlp", "mlp"]


def test_corpora_of_the_same_text_stand_in_one_table():
    rows, found = tabled(
        (row("gpt", 2), scored(1.0)),
        (ORACLE, scored(0.8)),
        (row("gpt", 2, "bpe", corpus="text-bpe"), scored(1.1, size=4)),
        (ORACLE | {"corpus": "text-bpe"}, scored(0.8)),
    )
    told = [(each["a"]["corpus"], each["b"]["corpus"], each["b"]["model"]) for each in found]
    assert told == [("text", "text-bpe", "gpt"), ("text", "text", "oracle"), ("text-bpe", "text", "oracle")]
    assert all(each["interval"] for each in rows)


def test_all_rows_of_a_text_share_blocks_as_long_as_the_longest_correlation():
    size = 60_000
    text = Text("stream", np.array([size]), np.arange(1000, size + 1, 1000), size)
    calm = -np.random.default_rng(4).gamma(2, 0.5, size)
    slow = -np.repeat(np.random.default_rng(5).gamma(2, 0.5, size // 600), 600)
    scores = [Scores(each, np.ones(size, int), np.zeros(size, int), size, "stream") for each in (calm, slow)]
    spans = [profile(each, text, "cell").span for each in scores]
    assert spans[0] <= 1 and spans[1] == pytest.approx(0.735, abs=0.01)  # as far as 3 sqrt(N) goes
    assert intervals._joined(np.ones((2, 60)), 7).sum(1).tolist() == [60, 60]
    assert intervals._joined(np.ones((2, 60)), 7)[0].tolist() == [11, 7, 7, 7, 7, 7, 7, 7]


# Seeds


def test_several_seeds_are_the_mean_of_their_code_lengths_never_the_best():
    several = [scored(cost, seed) for seed, cost in enumerate((1.0, 1.1, 1.4))]
    bits = [summary.measures(each)["bits_per_byte"] for each in several]
    found = summary._figures(mean_of(several), several)
    assert found["bits_per_byte"] == pytest.approx(np.mean(bits)) and found["bits_per_byte"] > min(bits)
    assert found["bits_per_byte_std"] == pytest.approx(np.std(bits, ddof=1))


def test_an_ensemble_is_the_mean_of_probabilities_and_no_worse_than_the_mean_of_code_lengths():
    several = [scored(1.0, seed) for seed in range(3)]
    found = ensemble_of(several)
    assert np.allclose(np.exp(found.log_probs), np.mean([np.exp(each.log_probs) for each in several], axis=0))
    assert (found.log_probs >= mean_of(several).log_probs - 1e-12).all()


# What a score file must cover


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"lengths": np.full(ENDS[-1], 2)},
            f"cell: its scores cover {2 * ENDS[-1]:,} bytes; the text has {ENDS[-1]:,}",
        ),
        ({"characters": 5}, f"cell: its scores divide by 5 characters; the text has {ENDS[-1]:,}"),
        (
            {"documents": np.zeros(ENDS[-1], int)},
            f"its scores end document 0 at byte {ENDS[-1]:,}; in the text it ends",
        ),
        ({"skipped": 3}, f"cell: its scores cover {ENDS[-1] + 3:,} bytes"),
    ],
)
def test_scores_that_do_not_cover_the_text_stop_the_comparison(changed, message):
    right = scored(1.0)
    must_cover(right, TEXT, "cell")
    with pytest.raises(UserError) as caught:
        must_cover(Scores(**{**vars(right), **changed}), TEXT, "cell")
    assert message in str(caught.value) and str(caught.value).endswith("folder and run snakemake again")


def test_what_was_skipped_counts_as_covered():
    right = scored(1.0)
    part = Scores(right.log_probs[9:], right.lengths[9:], right.documents[9:], right.characters - 9, "stream", 9)
    must_cover(part, TEXT, "cell")
    _, [found] = tabled((row("a", 1), right), (row("b", 2), part))  # without the document they did not score alike
    assert found["difference"] == pytest.approx(0) and found["p"] == 1


# Flags


def test_a_fitted_row_that_is_worse_than_guessing_is_flagged_with_its_numbers():
    found = row("gpt", 2, nats_per_token=9.035)
    flag_worse(found, 3.714)
    assert found["flag"].startswith(
        "worse than uniform: 9.035 nats a token, where guessing among all tokens alike costs"
    )
    lost = row("gpt", 2, nats_per_token=None)
    flag_worse(lost, 3.714)
    assert lost["flag"] == "worse than uniform: it gives no probability to some token of the text"


@pytest.mark.parametrize(("parameters", "nats"), [(0, 3.714), (0, 5.0), (7, 3.7)])
def test_what_was_not_fitted_or_is_better_is_not_flagged(parameters, nats):
    found = row("x", 1, parameters=parameters, nats_per_token=nats)
    flag_worse(found, 3.714)
    assert found["flag"] is None


def flagged(cost, split="test", family="neural"):
    pairs = [(row("gpt", 2, family=family), scored(cost, 1)), (ORACLE, scored(1.0))]
    rows, _ = tabled(*((each | {"split": split}, scores) for each, scores in pairs))
    return rows


def test_a_row_better_than_the_source_fails_the_verdict():
    rows = flagged(0.9)
    assert rows[0]["flag"].startswith("better than the source: -0.1") and rows[1]["flag"] is None
    with pytest.raises(UserError, match=r"1 of 1 rows cannot be true: text/char/gpt on test: better than the source"):
        summary.verdict({"run": "run", "rows": rows})


def test_a_row_as_good_as_the_source_or_one_that_learnt_its_text_is_let_be():
    for rows in (flagged(1.0), flagged(1.2), flagged(0.9, split="train")):
        assert rows[0]["flag"] is None and impossible(rows) == []
        assert summary.verdict({"run": "run", "rows": rows}) == "1 rows, none failed"


def test_a_row_worse_than_guessing_is_a_result_and_no_failure():
    bad = row("gpt", 2, nats_per_token=9.0)
    flag_worse(bad, 3.0)
    assert bad["flag"] and summary.verdict({"run": "run", "rows": [bad]}) == "1 rows, none failed"


# In the pipeline


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of two models made by the verbs themselves, one of them with two seeds."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run, results = prepared(folder)
        for model, seed in (("bigram", 0), ("mlp", 0), ("mlp", 1)):
            cell, tokens = results / "char" / model / f"seed{seed}", results / "char/tokens"
            section = ["--section", run.fit_section(model), "--seed", seed]
            assert call("fit", "--tokens", tokens, "--out", cell, *section) == 0
            inputs = ["--model", cell / "model.safetensors", "--tokens", tokens, "--text", results / "text"]
            assert call("evaluate", *inputs, "--out", cell, "--section", run.evaluate_section("names", model)) == 0
        cells = [["names", "char", "bigram", [0]], ["names", "char", "mlp", [0, 1]]]
        section = json.loads(run.summary_section()) | {"cells": cells, "analyses": False}
        told = ["--results", "results", "--out", "results/comparison.json", "--section", json.dumps(section)]
        assert call("summarize", *told) == 0
        return artifacts.load_json(folder / "results/comparison.json")


def test_a_comparison_has_a_row_for_the_mean_and_one_for_the_ensemble(compared):
    assert [each["model"] for each in compared["rows"]] == ["bigram", "mlp", "mlp_ensemble"]
    _, mean, ensemble = compared["rows"]
    assert mean["bits_per_byte_std"] > 0 and ensemble["bits_per_byte_std"] is None
    assert ensemble["title"] == "MLP, ensemble of 2" and ensemble["ensemble_of"] == "mlp" and ensemble["samples"] == []
    assert ensemble["bits_per_byte"] <= mean["bits_per_byte"] and ensemble["parameters"] == 2 * mean["parameters"]
    assert ensemble["below"]["model"] == "mlp" and mean["below"]["model"] == "bigram"


def test_a_comparison_has_every_pair_and_every_interval(compared):
    assert len(compared["differences"]) == 3
    for each in compared["rows"]:
        assert each["interval"][0] < each["bits_per_byte"] < each["interval"][1]
