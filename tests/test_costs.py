"""What a row cost: with every fit that it was made from, each counted once."""

import pytest

from lmstages.core import artifacts
from lmstages.results.costs import Cost, cost_of, total

MADE = {"test": "test_mixtures"}
KNOWN = {"status": "ok", "parameters": 5, "device": "cpu", "threads": 1, "vocab_size": 3}


@pytest.fixture
def fitted(tmp_path):
    """Facts of fits by model -> the folder of a model's seed."""

    def written(seeds=(0,), **models):
        for name, facts in models.items():
            for seed in seeds:
                folder = tmp_path / "text/char" / name / f"seed{seed}"
                artifacts.save_json(folder / "fit.json", {**KNOWN, "tokens_seen": 100, **facts}, MADE)
        return lambda name, seed=0: tmp_path / "text/char" / name / f"seed{seed}"

    return written


LLAMA = {"type": "llama", "fit_seconds": 40.0, "flops": 1e9}
ROUNDED = {"type": "llama_q4", "fit_seconds": 0.5, "hyperparameters": {"of": "llama"}}
BIGRAM = {"type": "bigram", "fit_seconds": 0.25, "flops": None}


def mixture(*of, seconds):
    return {"type": "mixture", "fit_seconds": seconds, "hyperparameters": {"of": list(of)}}


def test_a_fit_costs_what_it_took(fitted):
    folder = fitted(llama=LLAMA, bigram=BIGRAM)
    assert cost_of(folder("llama")) == Cost(40.0, 1e9, 100) and cost_of(folder("bigram")) == Cost(0.25, None, 100)


def test_a_derived_model_costs_its_source_besides(fitted):
    assert cost_of(fitted(llama=LLAMA, llama_q4=ROUNDED)("llama_q4")) == Cost(40.5, 1e9, 100)


def test_a_mixture_costs_the_sum_of_its_models(fitted):
    folder = fitted(llama=LLAMA, gpt={**LLAMA, "flops": 2e9}, both=mixture("llama", "gpt", seconds=80.5))
    assert cost_of(folder("both")) == Cost(80.5, 3e9, 200)


def test_a_fit_that_a_mixture_holds_twice_is_counted_once(fitted):
    folder = fitted(llama=LLAMA, llama_q4=ROUNDED, both=mixture("llama", "llama_q4", seconds=40.75))
    assert cost_of(folder("both")) == Cost(40.0 + 0.5 + 0.25, 1e9, 100)


def test_where_a_cost_is_not_known_of_a_part_it_is_not_known_of_the_whole(fitted):
    folder = fitted(llama=LLAMA, bigram=BIGRAM, both=mixture("llama", "bigram", seconds=41.0))
    assert cost_of(folder("both")) == Cost(41.0, None, 200)
    assert cost_of(fitted(llama_q4=ROUNDED | {"hyperparameters": {"of": "gone"}})("llama_q4")) == Cost(None, None, None)
    assert cost_of(fitted(hub={"type": "pretrained", "fit_seconds": 0.0})("hub")) == Cost(None, None, None)


def test_a_mixture_takes_the_part_of_its_own_seed_or_the_only_one(fitted):
    folder = fitted(bigram=BIGRAM | {"flops": 1.0})
    fitted(seeds=(0, 1), gpt=LLAMA, both=mixture("gpt", "bigram", seconds=41.0))
    assert cost_of(folder("both", 1)) == Cost(41.0, 1e9 + 1.0, 200)


def test_several_seeds_together_cost_their_sum():
    assert total([Cost(2.0, 1e9, 10), Cost(3.0, 2e9, 10)]) == Cost(5.0, 3e9, 20)
    assert total([Cost(2.0, 1e9, 10), Cost(None, None, 10)]) == Cost(None, None, 20)
