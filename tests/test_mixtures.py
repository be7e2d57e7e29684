"""Mixtures from score files: weights worked out by hand, dependence on valid but not on test, bad input."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lmstages.cli import main
from lmstages.config.reading import read_run
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.evaluation import score_files
from lmstages.evaluation.mixtures import fitted_weights, gain_of_each, inputs_of, mix, mixed
from lmstages.evaluation.score_files import Scores

PROJECT = Path(__file__).resolve().parents[1]
MADE = {"test": "test_mixtures"}
BOTH = {"of": ["one", "other"], "weights": "fitted", "splits": ["test"]}


def drawn(seed, rows, tokens):
    """Log-probabilities (K, N) of rows that are right at different tokens."""
    return np.log(np.random.default_rng(seed).uniform(0.01, 0.9, (rows, tokens)))


# The mixture itself


def test_a_mixture_is_the_log_of_the_weighted_mean():
    log_probs = np.log([[0.5, 0.1], [0.1, 0.3]])
    assert np.allclose(np.exp(mixed(log_probs, np.array([0.25, 0.75]))), [0.2, 0.25])


def test_a_mixture_of_distributions_is_a_distribution():
    whole = np.random.default_rng(0).dirichlet(np.ones(7), 3)
    assert np.isclose(np.exp(mixed(np.log(whole), np.array([0.2, 0.5, 0.3]))).sum(), 1)


def test_a_mixture_of_a_row_with_itself_is_the_row():
    row = drawn(1, 1, 50)
    log_probs = np.repeat(row, 2, axis=0)
    assert np.allclose(mixed(log_probs, fitted_weights(log_probs)), row[0])


def test_a_token_impossible_in_one_row_is_possible_in_the_mixture():
    log_probs = np.array([[-np.inf, 0.0], [np.log(0.5), -np.inf]])
    assert np.allclose(np.exp(mixed(log_probs, np.array([0.4, 0.6]))), [0.3, 0.4])


def test_a_weight_of_zero_leaves_the_row_out():
    log_probs = drawn(2, 2, 20)
    assert np.allclose(mixed(log_probs, np.array([1.0, 0.0])), log_probs[0])


# The weights


def test_one_token_for_one_row_and_three_for_the_other_weigh_one_to_three():
    sure = np.log(np.array([[1, 0, 0, 0], [0, 1, 1, 1]]) + 1e-300)
    assert np.allclose(fitted_weights(sure), [0.25, 0.75], atol=1e-6)


def test_hand_worked_weights():
    """Where the derivative of the log-likelihood is zero, or at the border of the simplex."""
    log_probs = np.log([[0.8, 0.4], [0.2, 0.6]])  # 0.6 / (0.2 + 0.6 w) = 0.2 / (0.6 - 0.2 w): w = 4 / 3
    assert np.allclose(fitted_weights(log_probs), [1.0, 0.0], atol=1e-3)
    log_probs = np.log([[0.8, 0.2], [0.2, 0.6]])  # 0.6 / (0.2 + 0.6 w) = 0.4 / (0.6 - 0.4 w): w = 7 / 12
    assert np.allclose(fitted_weights(log_probs), [7 / 12, 5 / 12], atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_two_weights_are_those_a_line_search_finds(seed):
    log_probs = drawn(seed, 2, 300)
    best = minimize_scalar(lambda w: -mixed(log_probs, np.array([w, 1 - w])).mean(), bounds=(0, 1), method="bounded").x
    assert np.isclose(fitted_weights(log_probs)[0], best, atol=1e-3)


def test_weights_are_on_the_simplex_and_no_other_weights_are_better():
    log_probs = drawn(5, 4, 400)
    weights = fitted_weights(log_probs)
    others = np.random.default_rng(6).dirichlet(np.ones(4), 200)
    assert np.isclose(weights.sum(), 1) and (weights >= 0).all()
    assert mixed(log_probs, weights).mean() >= max(mixed(log_probs, other).mean() for other in others)


def test_a_token_impossible_in_all_rows_does_not_affect_the_weights():
    log_probs = drawn(7, 2, 50)
    with_impossible = np.column_stack([log_probs, [-np.inf, -np.inf]])
    assert np.allclose(fitted_weights(with_impossible), fitted_weights(log_probs), atol=1e-6)


def test_two_equal_rows_add_nothing_each():
    log_probs = drawn(8, 2, 200)
    gains = gain_of_each(log_probs[[0, 0, 1]], np.array([0.3, 0.3, 0.4]))
    assert abs(gains[0] - gains[1]) < 1e-9 and gains[0] < 0.05 < gains[2]


def test_a_mixture_on_valid_is_never_worse_than_its_best_row():
    log_probs = drawn(9, 3, 300)
    assert mixed(log_probs, fitted_weights(log_probs)).mean() >= log_probs.mean(axis=1).max() - 1e-9


# The experiment


@pytest.fixture
def experiments(tmp_path):
    """Log-probabilities by split, or the status of a failed fit, for each name -> the folders of the experiments."""
    (tmp_path / "text").mkdir()
    for split in ("valid", "test"):
        artifacts.save_bytes(tmp_path / "text" / f"{split}.txt", b"a" * 40, MADE)

    def written(**rows):
        for name, row in rows.items():
            folder, fit = tmp_path / name, {"status": "ok", "parameters": 5, "tokens_seen": 100, "fit_seconds": 2.0}
            fit |= {"device": "cpu", "threads": 1, "vocab_size": 3}
            scores = {} if isinstance(row, str) else {split: scores_of(log_probs) for split, log_probs in row.items()}
            fit |= {"status": row} if isinstance(row, str) else {}
            artifacts.save_json(folder / "fit.json", fit, MADE)
            score_files.save_scores(folder / "scores.safetensors", scores, MADE)
            evaluation = {"status": fit["status"], "score_seconds": dict.fromkeys(scores, 1.0)}
            artifacts.save_json(folder / "evaluation.json", evaluation, MADE)
        return [tmp_path / name for name in rows]

    return written


def scores_of(log_probs):
    count = len(log_probs)
    return Scores(np.asarray(log_probs), np.ones(count), np.zeros(count), count, "stream")


def mixed_experiment(folders, tmp_path, section=BOTH):
    mix(folders, tmp_path / "text", tmp_path / "out", section, MADE)
    fit = artifacts.load_json(tmp_path / "out" / "fit.json")
    return fit, score_files.load_scores(tmp_path / "out" / "scores.safetensors")


def two_rows(seed=0):
    valid, test = drawn(seed, 2, 40), drawn(seed + 1, 2, 40)
    return [{"valid": valid[row], "test": test[row]} for row in range(2)]


def test_weights_come_from_valid_and_only_the_splits_of_the_section_are_scored(experiments, tmp_path):
    one, other = two_rows()
    fit, scores = mixed_experiment(experiments(one=one, other=other), tmp_path)
    expected = fitted_weights(np.stack([one["valid"], other["valid"]]).astype(np.float32).astype(np.float64))
    assert np.allclose(list(fit["mixture"].values()), expected) and list(scores) == ["test"]
    expected_scores = mixed(np.stack([one["test"], other["test"]]), expected)
    assert np.allclose(scores["test"].log_probs, expected_scores, atol=1e-5)


def test_weights_never_see_test(experiments, tmp_path):
    one, other = two_rows()
    first, _ = mixed_experiment(experiments(one=one, other=other), tmp_path)
    shuffled = np.random.default_rng(3).permutation(40)
    moved = [{**row, "test": row["test"][shuffled]} for row in (one, other)]
    second, _ = mixed_experiment(experiments(one=moved[0], other=moved[1]), tmp_path)
    assert first["mixture"] == second["mixture"]
    moved = [{**row, "valid": row["valid"] * factor} for row, factor in ((one, 0.5), (other, 1.0))]
    assert mixed_experiment(experiments(one=moved[0], other=moved[1]), tmp_path)[0]["mixture"] != first["mixture"]


def test_equal_weights_need_no_valid(experiments, tmp_path):
    one, other = ({"test": row["test"]} for row in two_rows())
    fit, scores = mixed_experiment(experiments(one=one, other=other), tmp_path, {**BOTH, "weights": "equal"})
    assert fit["mixture"] == {"one": 0.5, "other": 0.5} and fit["free_weights"] == 0
    assert np.allclose(scores["test"].log_probs, np.logaddexp(one["test"], other["test"]) - np.log(2), atol=1e-5)


def test_a_mixture_costs_the_sum_of_its_models(experiments, tmp_path):
    one, other = two_rows()
    fit, _ = mixed_experiment(experiments(one=one, other=other), tmp_path)
    assert fit["parameters"] == 5 + 5 + 1 and fit["tokens_seen"] == 200 and fit["fit_seconds"] >= 4.0
    assert artifacts.load_json(tmp_path / "out" / "evaluation.json")["score_seconds"]["test"] >= 2.0


def test_the_report_has_the_weights_and_the_gain_of_each_model(experiments, tmp_path):
    one, other = two_rows()
    shown = mixed_experiment(experiments(one=one, other=other), tmp_path)[0]["hyperparameters"]
    assert shown["of"] == ["one", "other"] and abs(sum(shown["weights"]) - 1) < 1e-3
    assert shown["weights_from"] == "valid" and all(gain > 0 for gain in shown["gain_of_each"])


def test_a_mixture_of_a_failed_model_has_failed(experiments, tmp_path):
    fit, scores = mixed_experiment(experiments(one=two_rows()[0], other="failed: no luck"), tmp_path)
    assert fit["status"] == "failed: other failed: no luck" and scores == {}


def test_other_tokens_are_refused(experiments, tmp_path):
    one, other = two_rows()
    with pytest.raises(UserError, match=r"scores 30 tokens of valid, not the 40 of .*one; rows can be mixed where"):
        mixed_experiment(experiments(one=one, other={split: row[:30] for split, row in other.items()}), tmp_path)


def test_scores_without_valid_are_refused(experiments, tmp_path):
    one, other = two_rows()
    with pytest.raises(UserError, match="holds no scores of valid; it holds test; run snakemake"):
        mixed_experiment(experiments(one=one, other={"test": other["test"]}), tmp_path)


def test_the_command_wants_a_folder_for_each_model(experiments, tmp_path, capsys):
    [one] = experiments(one=two_rows()[0])
    arguments = ["--components", one, "--text", tmp_path, "--out", tmp_path, "--section", json.dumps(BOTH)]
    assert main(["mix", *map(str, arguments)]) == 1
    assert "--components: 1 folders for the 2 models of the section; one folder for each" in capsys.readouterr().err


def test_inputs_are_keyed_by_model(experiments):
    one, other = two_rows()
    assert set(inputs_of(experiments(one=one, other=other), BOTH)) == {"one", "other"}


# The config


BASE = """
corpora:
  coined: {corpus}
tokenizers: {{char: {{kind: char}}}}
models:
  bigram:
  mlp: {{steps: 20, evaluate_every: 10{mlp}}}
  rnn: {{steps: 20, evaluate_every: 10}}
mixtures: {mixtures}
seeds: [0, 1]
"""


@pytest.fixture
def run_of(tmp_path):
    def read(mixtures="{both: {of: [bigram, mlp]}}", corpus="{count: 100}", mlp=""):
        path = tmp_path / "run.yaml"
        path.write_text(BASE.format(mixtures=mixtures, corpus=corpus, mlp=mlp))
        return read_run(path)

    return read


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixtures": "{both: {of: [bigramm, mlp]}}"}, "mixtures.both.of: 'bigramm' is not defined under models (did"),
        ({"mixtures": "{both: {of: [mlp]}}"}, "mixtures.both.of: ['mlp'] is no mixture; name at least two models"),
        ({"mixtures": "{both: {of: [mlp, mlp]}}"}, "mixtures.both.of: ['mlp', 'mlp'] names something twice"),
        ({"mixtures": "{both: {of: []}}"}, "mixtures.both.of: names nothing"),
        ({"mixtures": "{both: {}}"}, "mixtures.both.of: missing"),
        ({"mixtures": "[bigram, mlp]"}, "mixtures: not a mapping"),
        ({"mixtures": "{both: {of: [bigram, mlp], weight: equal}}"}, "unknown key 'weight' (did you mean 'weights'?)"),
        ({"mixtures": "{both: {of: [bigram, mlp], weights: best}}"}, "mixtures.both.weights: the text 'best' found"),
        ({"mixtures": "{mlp: {of: [bigram, rnn]}}"}, "mixtures.mlp: a model is called 'mlp' too; allowed: another"),
        (
            {"mixtures": "{a: {of: [bigram, rnn]}, b: {of: [a, rnn]}}"},
            "mixtures.b.of: 'a' is not defined under models; a mixture is made of models",
        ),
        (
            {"corpus": "{count: 100, split: {train: 0.9, valid: 0, test: 0.1}}", "mlp": ", keep: last"},
            "mixtures.both.weights: fitted on valid, which corpora.coined leaves empty; allowed: equal",
        ),
        (
            {"corpus": "{count: 100, models: [bigram]}"},
            "mixtures.both: no corpus runs all of bigram, mlp; list them under its models",
        ),
        (
            {"mlp": ", scoring: {skip: 3}"},
            "leave different tokens unscored (scoring.skip: bigram 0, mlp 3); give them the",
        ),
        (
            {"mlp": ", seeds: [5]", "mixtures": "{both: {of: [mlp, rnn]}}"},
            "mixtures.both: its networks have different seeds (mlp [5], rnn [0, 1]); give them the same seeds",
        ),
    ],
)
def test_a_mistake_ends_before_any_job(run_of, arguments, message):
    with pytest.raises(UserError) as raised:
        run_of(**arguments)
    assert message in str(raised.value)


def test_equal_weights_do_without_valid(run_of):
    empty = "{count: 100, models: [bigram, mlp], split: {train: 0.9, valid: 0, test: 0.1}}"
    run = run_of("{both: {of: [bigram, mlp], weights: equal}}", empty, ", keep: last")
    assert run.splits_scored("coined", "mlp") == ["test"]


def test_valid_is_scored_for_the_parts_of_a_mixture_and_for_no_other(run_of):
    run = run_of()
    assert run.splits_scored("coined", "mlp") == ["test", "valid"] and run.splits_scored("coined", "rnn") == ["test"]
    assert json.loads(run.summary_section())["evaluate"] == {"coined": ["test"]}


def test_a_mixture_is_left_out_where_one_of_its_models_is(run_of):
    run = run_of(corpus="{count: 100}\n  fables: {count: 40, models: [bigram]}")
    assert run.mixtures_on("coined") == ["both"] and run.mixtures_on("fables") == []
    assert run.splits_scored("fables", "bigram") == ["test"]


def test_a_mixture_has_the_seeds_of_its_networks(run_of):
    run = run_of()
    assert run.seeds_of("both") == [0, 1] and ("coined", "char", "both", 1) in run.experiments()
    assert run.components("both", 1) == [("bigram", 0), ("mlp", 1)]


def test_a_derived_model_is_mixed_by_the_seeds_of_its_llama(tmp_path):
    path = tmp_path / "run.yaml"
    llama = "llama: {width: 64, hidden: 64, seeds: [SEED]}, llama_q4: {of: llama}, mlp: "
    text = "corpora: {coined: }\ntokenizers: {char: {kind: char}}\n"
    text += f"models: {{{llama}}}\nmixtures: {{both: {{of: [llama_q4, mlp]}}}}\n"
    path.write_text(text.replace("SEED", "5"))
    with pytest.raises(UserError, match=r"its networks have different seeds \(llama_q4 \[5\], mlp \[0\]\); give them"):
        read_run(path)
    path.write_text(text.replace("SEED", "0"))
    assert read_run(path).components("both", 0) == [("llama_q4", 0), ("mlp", 0)]


def test_a_mixture_ranks_after_its_models_in_their_category(run_of):
    models = json.loads(run_of().summary_section())["models"]
    assert models["both"]["rank"] > max(models[name]["rank"] for name in ("bigram", "mlp"))
    assert models["both"]["category"] == "static" and models["both"]["title"] == "Mixture"


def test_a_mixture_with_an_online_model_is_online(tmp_path):
    path = tmp_path / "run.yaml"
    models = "models: {bigram: , ppm: {online: true}}\nmixtures: {both: {of: [bigram, ppm]}}"
    path.write_text(f"corpora: {{coined: {{count: 100}}}}\ntokenizers: {{char: {{kind: char}}}}\n{models}\n")
    assert json.loads(read_run(path).summary_section())["models"]["both"]["category"] == "online"


# The workflow

RUN = """
corpora: {letters: {path: letters.txt}}
tokenizers: {char: {kind: char}}
models:
  bigram:
  kneser_ney: {order: 4}
mixtures:
  both: {of: [bigram, kneser_ney]}
sampling: {count: 1, length: 20}
"""


def test_a_run_with_a_mixture_has_its_row_and_reruns_it_alone(tmp_path):
    from test_workflow import copy_of, edit, snakemake

    folder = copy_of(PROJECT, tmp_path / "project")
    (folder / "letters.txt").write_text("".join(np.random.default_rng(4).choice(list("ab cd"), 3000)))
    (folder / "runs/mixed.yaml").write_text(RUN)
    done = snakemake(folder, "--config", "run=mixed")
    assert done.returncode == 0, done.stdout + done.stderr
    with open(folder / "results/mixed/results.csv", newline="") as file:
        rows = {
            (row["corpus"], row["split"], row["model"]): float(row["bits_per_byte"]) for row in csv.DictReader(file)
        }
    assert {split for _, split, _ in rows} == {"test"}
    assert rows["letters", "test", "both"] <= rows["letters", "test", "kneser_ney"] + 0.01
    assert "Mixture" in (folder / "results/mixed/report.html").read_text()
    edit(folder / "runs/mixed.yaml", "kneser_ney]}", "kneser_ney], weights: equal}")
    planned = snakemake(folder, "--config", "run=mixed", "-n").stdout
    assert "rule mix:" in planned and "rule fit:" not in planned
