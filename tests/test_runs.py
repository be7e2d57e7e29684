"""What the runs that compare with no published figure promise in their first lines, read from their records."""

from pathlib import Path

import pytest

from lmstages.config.ladder import LADDER
from lmstages.config.reading import read_run
from lmstages.config.sources import BENCHMARKS

RUNS = Path(__file__).resolve().parents[1] / "runs"
COMPARED = {"gpu", "lecture", "published", "strongest"}  # tests/test_published.py
PROMISES = {}


def promise(test):
    """A test of the run after which it is named: ``test_NAME_...``."""
    PROMISES[test.__name__.split("_")[1]] = test
    return test


def records(name):
    """The hyperparameters of each model of a run, as JSON has them."""
    return {model: record.config.model_dump(mode="json") for model, record in read(name).models.items()}


def read(name):
    return read_run(RUNS / f"{name}.yaml")


def differing(record, other):
    return {key for key in record if record[key] != other[key]}


def test_every_run_has_a_test():
    names = {path.stem for path in RUNS.glob("*.yaml")}
    assert names == COMPARED | set(PROMISES)


@pytest.mark.parametrize("name", sorted(path.stem for path in RUNS.glob("*.yaml")))
def test_the_head_of_a_run_says_how_it_is_started_where_it_is_for_all(name):
    head = (RUNS / f"{name}.yaml").read_text("utf-8").partition("corpora:")[0]
    assert f"--config run={name}" in head or name in ("gpu", "tiny")


@promise
def test_counts_has_every_model_that_counts_and_no_network():
    types = {record.config.name for record in read("counts").models.values()}
    counting = {config.name for config in LADDER if config.family == "counts"}
    assert types == counting - {"uniform", "unigram", "bigram", "infini_gram"}


@promise
def test_counts_has_every_smoothing_at_one_order():
    ngrams = [config for config in records("counts").values() if config.get("smoothing", "add") != "add"]
    assert {(config["smoothing"], config["order"]) for config in ngrams} == {
        (smoothing, 6) for smoothing in ("jelinek_mercer", "witten_bell", "absolute", "kneser_ney")
    }


@promise
def test_retrieval_looks_up_train_by_tokens_and_by_states_of_its_network():
    run = read("retrieval")
    assert {"infini_gram", "knn", "gpt", "kneser_ney"} == {record.config.name for record in run.models.values()}
    assert run.base_of("knn") == "gpt" and run.mixtures["infini_gpt"].of == ["gpt", "infini_gram"]


@promise
def test_infilling_has_a_model_for_each_way_to_fill_a_gap_beside_the_grammar():
    run = read("infilling")
    assert {"kneser_ney", "gpt"} < {record.config.name for record in run.models.values()}  # by its states, by Bayes
    assert run.infill is not None and all(corpus.embedded for corpus in run.corpora.values())


@promise
def test_gaps_of_shakespeare_tries_every_fill_of_two_characters_by_a_mixture_with_counts():
    run = read("gaps")
    assert run.infill is not None and run.infill.rows >= run.infill.places * 66**2 and {1, 2} <= {*run.infill.lengths}
    assert "order9_gpt" in {model for _, _, model, _ in run.infilled()}
    assert [run.models[name].config.family for name in run.mixtures["order9_gpt"].of] == ["counts", "neural"]


@promise
def test_exercises_change_one_hyperparameter_of_the_model_as_described():
    configs = records("exercises")
    described = configs.pop("as_described")
    changed = {name: differing(described, config) for name, config in configs.items() if name != "bigram"}
    assert len(changed) > 10 and all(len(keys) <= 1 for keys in changed.values())
    assert set().union(*changed.values()) == {"embedding", "hidden", "window", "layers", "activation"}


@promise
def test_modern_changes_one_part_at_a_time():
    configs = records("modern")
    whole = configs["modern_gpt"]
    for name, config in configs.items():
        if name.startswith("without_"):
            assert differing(whole, config) == {name.removeprefix("without_")}
        elif name.startswith(("schedule", "averaging")):
            assert differing(whole, config) == {name.partition("-")[0]}
    assert sum(name.startswith("without_") for name in configs) == 6


@promise
def test_protocols_score_the_same_fits_in_three_ways():
    run, configs = read("protocols"), records("protocols")
    for name in ("kneser_ney", "gpt"):
        ways = [name, f"{name}-stride", f"{name}-disjoint"]
        assert configs[ways[0]] == configs[ways[1]] == configs[ways[2]]
        assert [run.models[way].scoring.protocol for way in ways] == ["stream", "stride", "disjoint"]


@promise
def test_quantized_makes_every_model_of_one_llama():
    configs = records("quantized")
    llama = configs.pop("llama")
    assert {config["of"] for config in configs.values()} == {"llama"} and llama["width"] % 32 == 0
    sizes = {record.config.name for record in read("quantized").models.values()}
    assert sizes == {"llama", "llama_q8", "llama_q4"}


@promise
def test_scaling_trains_the_same_models_on_more_and_more_of_one_text():
    run = read("scaling")
    for source in ("fables", "coined"):
        corpora = [corpus for corpus in run.corpora.values() if corpus.source == source]
        assert [corpus.use for corpus in corpora] == [0.01, 0.03, 0.1, 0.3, 1.0]
        assert len({(corpus.count, str(corpus.split), str(corpus.models)) for corpus in corpora}) == 1


@promise
def test_subword_reads_one_text_through_every_tokenizer():
    run = read("subword")
    assert {tokenizer.kind for tokenizer in run.tokenizers.values()} == {"char", "bpe", "unigram", "word"}
    assert len(run.corpora) == 1
    assert {tokenizer.vocab_size for tokenizer in run.tokenizers.values() if tokenizer.kind != "char"} == {4096}


@promise
def test_tiny_has_every_stage_and_both_families_in_seconds():
    run, configs = read("tiny"), [record.config for record in read("tiny").models.values()]
    assert {config.family for config in configs} == {"counts", "neural"} and run.compressors
    assert any(corpus.inspect for corpus in run.corpora.values())
    assert all(config.steps <= 20 for config in configs if config.family == "neural")


@promise
def test_transfer_models_words_and_compares_both_families():
    run = read("transfer")
    assert {tokenizer.kind for tokenizer in run.tokenizers.values()} == {"word"}
    assert {corpus.source for corpus in run.corpora.values()} == {"fables"}
    assert {record.config.family for record in run.models.values()} == {"counts", "neural"}


@promise
def test_benchmarks_has_every_benchmark_in_its_conventional_parts():
    run = read("benchmarks")
    assert {corpus.source for corpus in run.corpora.values()} == {source.name for source in BENCHMARKS}
    assert all(corpus.parts() == ["train", "valid", "test"] for corpus in run.corpora.values())
    words = [name for name, tokenizer in run.tokenizers.items() if tokenizer.kind == "whitespace"]
    assert words == ["words"] and run.tokenizers["words"].closed
    assert all(figure.source and figure.tokenizer == "words" for figure in run.published)


@promise
def test_diffusion_has_the_bound_of_every_diffusion_model_beside_networks_of_one_size():
    run, configs = read("diffusion"), records("diffusion")
    bounds = {config["of"]: config for config in configs.values() if "of" in config and "samples" in config}
    networks = {name: config for name, config in configs.items() if "width" in config}
    left_to_right = {"gpt", "fim", "gpt_large", "fim_large"}
    assert set(bounds) == set(networks) - left_to_right - {"uniform_diffusion", "sundae", "sed"}  # the last are bounds
    keys = ("layers", "heads", "width", "window", "row_length", "batch_size")
    for corpus in run.corpora.values():
        assert len({tuple(networks[name][key] for key in keys) for name in networks.keys() & {*corpus.models}}) == 1
    assert configs["block_diffusion"]["block"] == 4  # up to which every set of hidden places is scored
