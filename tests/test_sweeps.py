"""A sweep expands one entry of a config into several."""

import json

import pytest
from typed_rows import result

from lmstages.config.reading import read_run, text_run
from lmstages.config.sweeps import expanded, listed
from lmstages.core.errors import UserError
from lmstages.results.sweeps import in_order, sweep_points


def test_a_sweep_becomes_one_entry_per_value():
    plain, swept = expanded({"models": {"mlp": {"hidden": {"sweep": [8, 16]}, "window": 3}}})
    assert plain["models"] == {
        "mlp-hidden-8": {"type": "mlp", "hidden": 8, "window": 3},
        "mlp-hidden-16": {"type": "mlp", "hidden": 16, "window": 3},
    }
    assert swept == {"models": {"mlp": {"mlp-hidden-8": {"hidden": 8}, "mlp-hidden-16": {"hidden": 16}}}}


def test_two_sweeps_in_an_entry_make_a_grid():
    plain, _ = expanded({"models": {"mlp": {"hidden": {"sweep": [8, 16]}, "activation": {"sweep": ["tanh", "relu"]}}}})
    assert list(plain["models"])[1] == "mlp-hidden-8-activation-relu" and len(plain["models"]) == 4


def test_lists_and_numbers_become_names():
    plain, _ = expanded(
        {"models": {"mlp": {"hidden": {"sweep": [[8, 8], [4]]}, "learning_rate": {"sweep": [0.5, 1e-5]}}}}
    )
    assert list(plain["models"])[:2] == ["mlp-hidden-8x8-learning_rate-0_5", "mlp-hidden-8x8-learning_rate-1e-05"]


def test_a_reference_to_a_swept_entry_refers_to_all_its_entries():
    raw = {
        "models": {"mlp": {"hidden": {"sweep": [8, 16]}}, "bigram": None},
        "tokenizers": {"bpe": {"kind": "bpe", "vocab_size": {"sweep": [300, 400]}}},
        "corpora": {"fables": {"count": {"sweep": [10, 20]}, "models": ["bigram", "mlp"], "tokenizers": ["bpe"]}},
    }
    plain, _ = expanded(raw)
    corpus = plain["corpora"]["fables-count-10"]
    assert corpus["models"] == ["bigram", "mlp-hidden-8", "mlp-hidden-16"] and corpus["source"] == "fables"
    assert corpus["tokenizers"] == ["bpe-vocab_size-300", "bpe-vocab_size-400"] and corpus["count"] == 10


def test_a_sweep_may_be_nested():
    plain, _ = expanded({"corpora": {"fables": {"split": {"train": {"sweep": [0.1, 0.2]}, "valid": 0.1}}}})
    assert plain["corpora"]["fables-train-0_2"]["split"] == {"train": 0.2, "valid": 0.1}


@pytest.mark.parametrize("values", [[], 3, "a", [1, 1], [{"a": 1}]])
def test_a_malformed_sweep_is_refused(values):
    with pytest.raises(UserError, match=r"models\.mlp\.hidden: .*(is no sweep|occurs twice)"):
        expanded({"models": {"mlp": {"hidden": {"sweep": values}}}})


def test_a_config_without_sweeps_is_unchanged():
    raw = {"models": {"mlp": None}, "corpora": {"fables": {"models": ["mlp"]}}, "seeds": [1]}
    assert expanded(raw) == (raw, {})


def test_two_keys_of_one_name_are_labelled_by_their_path():
    entry = {"window": {"sweep": [3, 4]}, "scoring": {"window": {"sweep": [8]}}}
    _, swept = expanded({"models": {"mlp": entry}})
    assert list(swept["models"]["mlp"]["mlp-window-3-scoring_window-8"]) == ["window", "scoring_window"]


def test_a_swept_entry_never_replaces_another_entry():
    models = {"mlp": {"hidden": {"sweep": [8]}}, "mlp-hidden-8": {"type": "mlp"}}
    with pytest.raises(UserError, match=r"models\.mlp: its sweep makes 'mlp-hidden-8', which is an entry already"):
        expanded({"models": models})


def test_a_sweep_is_listed_in_the_order_of_the_config():
    _, swept = expanded({"models": {"mlp": {"window": {"sweep": [16, 4]}, "hidden": {"sweep": [8]}}}})
    [table] = listed(swept)
    assert (table["name"], table["section"], table["keys"]) == ("mlp", "models", ["window", "hidden"])
    assert table["entries"] == [["mlp-window-16-hidden-8", [16, 8]], ["mlp-window-4-hidden-8", [4, 8]]]


def test_an_entry_of_two_sections_has_its_section_as_prefix():
    sweep = {"seed": {"sweep": [1]}}
    _, swept = expanded({"corpora": {"a": sweep, "b": sweep}, "models": {"a": sweep}})
    assert [table["name"] for table in listed(swept)] == ["corpora-a", "b", "models-a"]


# In a run

CONFIG = """
corpora: {coined: {count: {sweep: [200, 90]}, models: [bigram]}, fables: {count: 50}}
tokenizers: {char: {kind: char}}
models: {bigram: {add: {sweep: [1.0, 0.1]}}, unigram: }
sampling: {temperature: [0.5, 1.0]}
"""


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return read_run(path)


def test_a_run_is_the_grid(run):
    coined = [cell[:3] for cell in run.experiments() if cell[0] == "coined-count-90"]
    assert coined == [("coined-count-90", "char", model) for model in ("bigram-add-1_0", "bigram-add-0_1")]
    assert [cell[2] for cell in run.experiments() if cell[0] == "fables"] == [
        "bigram-add-1_0",
        "bigram-add-0_1",
        "unigram",
    ]
    assert run.models["bigram-add-0_1"].config.add == 0.1 and run.corpora["coined-count-90"].count == 90


def test_a_run_remembers_its_sweeps(run):
    assert run.sweeps["models"] == {"bigram": {"bigram-add-1_0": {"add": 1.0}, "bigram-add-0_1": {"add": 0.1}}}
    assert [sweep["name"] for sweep in json.loads(run.summary_section())["sweeps"]] == ["coined", "bigram"]


def test_temperatures_are_no_cells(run):
    one = json.loads(run.evaluate_section("fables", "unigram"))
    assert one["sampling"]["temperature"] == [0.5, 1.0] and "temperature" not in run.fit_section("unigram")


def test_a_text_of_ones_own_is_swept_too(tmp_path, run):
    (tmp_path / "mine.txt").write_text("text")
    mine = text_run(tmp_path / "run.yaml", str(tmp_path / "mine.txt"))
    assert [cell[2] for cell in mine.experiments()] == ["bigram-add-1_0", "bigram-add-0_1", "unigram"]


# As a table of results


def row(model, corpus="fables", bits=2.0, family="counts"):
    return result(model=model, corpus=corpus, bits_per_byte=bits, family=family)


def entry(run, index):
    return json.loads(run.summary_section())["sweeps"][index]


def test_the_points_of_a_sweep_are_ordered_by_value_and_not_by_name(run):
    rows = [row("bigram-add-1_0", bits=2.5), row("bigram-add-0_1"), row("unigram"), row("oracle", family="oracle")]
    points = sweep_points(entry(run, 1), rows)
    assert [(json.loads(point.values), point.bits_per_byte) for point in points] == [([0.1], 2.0), ([1.0], 2.5)]
    assert {(point.sweep, point.section, point.keys) for point in points} == {("bigram", "models", '["add"]')}


def test_a_swept_corpus_has_a_point_for_every_model_on_it(run):
    rows = [row(model, corpus) for corpus in ("coined-count-200", "coined-count-90", "fables") for model in "ab"]
    points = [(json.loads(point.values), point.model) for point in sweep_points(entry(run, 0), rows)]
    assert points == [([90], "a"), ([90], "b"), ([200], "a"), ([200], "b")]


@pytest.mark.parametrize(
    ("values", "ordered"),
    [([16, 4], [4, 16]), (["tanh", "relu"], ["tanh", "relu"]), ([[2], [1]], [[2], [1]]), ([None, 8], [8, None])],
)
def test_numbers_stand_by_size_and_words_as_written(values, ordered):
    assert in_order(values) == ordered
