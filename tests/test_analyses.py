"""Score files beyond their average, by hand: unseen documents, position, near transfer; and what a fit cost."""

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from typed_rows import result

from lmstages.analyses.scores import positions, unseen
from lmstages.analyses.transfer import Costs, couple_costs
from lmstages.cli import main
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.sections import Corpus, Split
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.corpora import preparation
from lmstages.corpora.splits import SplitText
from lmstages.evaluation.score_files import Scores
from lmstages.models.base import build
from lmstages.results.explaining import commands, explained
from lmstages.results.findings import gaps, transfer
from lmstages.results.schema import Corpora
from lmstages.results.sweeps import crossing_points, crossings, scaling_points
from lmstages.training.flops import forward_flops, of_fit

BIT = math.log(2)


def scores(bits, documents, lengths=None):
    lengths = np.ones(len(bits), dtype=np.int64) if lengths is None else np.array(lengths)
    return Scores(-np.array(bits, dtype=float) * BIT, lengths, np.array(documents), int(lengths.sum()), "stream")


# Unseen documents and position


def test_the_unseen_part_by_hand():
    found = unseen(scores([1, 1, 3, 5], [0, 0, 1, 1], [1, 1, 2, 2]), np.array([True, False]), np.array([2, 3]))
    assert found["byte_fraction"] == 4 / 6 and found["bits_per_byte"] == pytest.approx(2) and found["documents"] == 1
    assert found["nats_per_character"] == pytest.approx(8 * BIT / 3)
    assert found["nats_per_token"] == pytest.approx(4 * BIT)


def test_where_nothing_is_seen_the_unseen_part_is_all_and_where_all_is_seen_there_is_none():
    row, characters = scores([1, 2, 3], [0, 0, 1]), np.array([2, 1])
    assert unseen(row, np.zeros(2, bool), characters)["bits_per_byte"] == pytest.approx(2)
    assert unseen(row, np.ones(2, bool), characters) is None
    assert unseen(row, np.zeros(0, bool), np.zeros(0)) is None  # a stream


def test_positions_by_hand():
    bins = positions(scores([8, 4, 2, 1, 6, 2], [0, 0, 0, 0, 1, 1]))
    assert [(row["low"], row["high"], row["bytes"]) for row in bins] == [(0, 1, 2), (1, 2, 2), (2, 4, 2)]
    assert [row["bits_per_byte"] for row in bins] == pytest.approx([7, 3, 1.5])


# Near transfer


def test_the_tokens_of_a_couple_by_hand():
    row = scores([1, 2, 4, 8, 16], [0, 0, 0, 1, 1], [2, 2, 2, 3, 3])
    couples = np.array([[0, 2, 4, 0, 0], [1, 3, 6, 1, 0]])  # the second token of each document
    bits, size, sees = couple_costs(row, couples, 0)
    assert bits.tolist() == pytest.approx([2, 16]) and size.tolist() == [2, 3] and not sees.any()
    assert couple_costs(row, couples, 1)[2].all() and couple_costs(row, couples, None)[2].all()


def test_a_token_that_reaches_beyond_a_couple_counts_whole():
    bits, size, _ = couple_costs(scores([1, 2, 4], [0, 0, 0], [2, 3, 2]), np.array([[0, 3, 4, 0, 0]]), None)
    assert bits.tolist() == pytest.approx([2]) and size.tolist() == [3]


def test_gaps_by_hand():
    found = gaps(np.array([[[10, 5, 2], [12, 4, 2]]], dtype=float), 2.0)
    assert found["seen"] == [2] and found["unseen"] == [3] and found["gap"] == [1]
    assert found["gap_bits"] == [1] and found["gap_closed"] == [0.5]


def transferred(context):
    documents = np.repeat(np.arange(40), 2)
    bits = np.where(documents % 2, 4.0, 3.0) + np.random.default_rng(0).normal(0, 0.1, 80)
    costs = Costs()
    couples = [[document, 1, 2, document % 2, 0] for document in range(40)]
    costs.add({"tokenizer": "char", "model": "bigram", "split": "test"}, scores(bits, documents), couples, context)
    return transfer(result(), costs.rows[0], costs.sums["char/bigram/test"], 2.0)


def test_transfer_has_an_interval_about_its_gap():
    row = transferred(None)
    assert row.gap_bits_low < row.gap_bits < row.gap_bits_high and row.gap_closed == pytest.approx(0.5, abs=0.05)
    assert row.gap_closed_low < row.gap_closed < row.gap_closed_high and (row.couples, row.withheld) == (20, 20)


def test_a_model_that_cannot_see_the_partner_closes_no_gap():
    row = transferred(0)
    assert row.sees == 0 and row.gap_closed is row.gap_closed_low is None and row.gap_bits is not None


# Splits without copies, and a share of train


def prepared(tmp_path, text, **keys):
    path = tmp_path / "names.txt"
    path.write_text(text)
    corpus = Corpus(path=str(path), documents="lines", **keys)
    preparation.prepare(corpus, [path], tmp_path / "text", {})
    found = {name: list(SplitText.open(tmp_path / "text", name).texts()) for name in ("train", "valid", "test")}
    return found, artifacts.load_json(tmp_path / "text" / "corpus.json")["splits"]


def split(train, valid, test, **keys):
    return Split(train=train, valid=valid, test=test, shuffle_seed=None, **keys)


def test_copies_are_left_out_of_valid_and_test_and_counted(tmp_path):
    names = "a\nb\nb\nb\nc\nc\na\nc\nd\n"
    found, facts = prepared(tmp_path, names, split=split(3, 3, 3, deduplicate=True))
    assert found == {"train": ["a", "b", "b"], "valid": ["c", "c"], "test": ["d"]}
    assert [facts[name]["left_out"] for name in ("valid", "test")] == [1, 2]


def test_what_is_left_out_does_not_depend_on_how_much_of_train_is_used(tmp_path):
    names = "a\nb\nc\nd\nb\ne\n"
    found, _ = prepared(tmp_path, names, split=split(4, 1, 1, deduplicate=True), use=0.25)
    assert found == {"train": ["a"], "valid": [], "test": ["e"]}


def test_drawn_splits_lose_their_copies_too(tmp_path):
    facts = {}
    for deduplicate in (False, True):
        corpus = Corpus(source="coined", count=3000, split=Split(deduplicate=deduplicate))
        preparation.prepare(corpus, [], tmp_path / str(deduplicate), {})
        facts[deduplicate] = artifacts.load_json(tmp_path / str(deduplicate) / "corpus.json")["splits"]["test"]
    kept = set(SplitText.open(tmp_path / "True", "test").texts())
    assert not kept & set(SplitText.open(tmp_path / "True", "train").texts())
    assert facts[True]["documents"] + facts[True]["left_out"] == facts[False]["documents"]


@pytest.mark.parametrize("keys", [{"documents": "stream"}, {"documents": "lines", "read_as": "stream"}])
def test_a_stream_cannot_lose_documents(keys):
    with pytest.raises(ValidationError, match=r"split.deduplicate leaves out documents, and a stream has none"):
        Corpus(path="some.txt", split=Split(deduplicate=True), **keys)


def test_less_of_train_is_its_beginning_and_the_test_text_stays(tmp_path):
    names = "".join(f"n{n}\n" for n in range(10))
    whole, _ = prepared(tmp_path / "whole", names, split=split(8, 1, 1)) if (tmp_path / "whole").mkdir() is None else 0
    (tmp_path / "half").mkdir()
    half, _ = prepared(tmp_path / "half", names, split=split(8, 1, 1), use=0.5)
    assert half["train"] == whole["train"][:4] and half["test"] == whole["test"] and half["valid"] == whole["valid"]


def test_less_of_an_embedded_train_is_its_beginning(tmp_path):
    for use in (1.0, 0.25):
        preparation.prepare(Corpus(source="coined", count=100, use=use), [], tmp_path / str(use), {})
    one, quarter = ({name: (tmp_path / use / f"{name}.txt").read_text() for name in ("train", "test")} for use in ("1.0", "0.25"))  # fmt: skip  # noqa: E501
    assert quarter["test"] == one["test"] and one["train"].startswith(quarter["train"])
    assert quarter["train"].count("\n") == 20


def test_less_of_a_stream_is_its_beginning_and_the_test_text_stays(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + n % 26) for n in range(1000)))
    for use in (1.0, 0.5):
        preparation.prepare(Corpus(path=str(path), use=use), [path], tmp_path / str(use), {})
    texts = {use: [(tmp_path / use / f"{name}.txt").read_text() for name in ("train", "valid", "test")] for use in ("1.0", "0.5")}  # fmt: skip  # noqa: E501
    assert texts["0.5"] == [texts["1.0"][0][:400], *texts["1.0"][1:]]


def test_nothing_of_train_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"use: 0.01 of 8 leaves nothing to train on; at least 0.125"):
        prepared(tmp_path, "a\n" * 10, split=split(8, 1, 1), use=0.01)


# Computation


@pytest.mark.parametrize(
    ("config", "keys", "expected"),
    [
        ("mlp", {"window": 3, "embedding": 5, "hidden": 7}, 2 * (15 * 7 + 7 * 11)),
        ("rnn", {"embedding": 5, "hidden": 7}, 2 * (7 * (5 + 7) + 7 * 11)),
        ("lstm", {"embedding": 5, "hidden": 7}, 2 * (4 * 7 * (5 + 7) + 7 * 11)),
        (
            "gpt",
            {"layers": 2, "heads": 2, "width": 8, "window": 16, "row_length": 16},
            2 * (2 * 12 * 8 * 8 + 8 * 11) + 2 * 4 * 16 * 8,  # matrices, then queries by keys and weights by values
        ),
    ],
)
def test_flops_are_two_for_every_multiplication_of_a_matrix(config, keys, expected):
    model = build(MODEL_TYPES[config].model_validate(keys), 11)
    assert forward_flops(model) == expected and of_fit(model, 10) == 30 * expected


def test_counting_has_no_flops():
    assert of_fit(build(MODEL_TYPES["bigram"].model_validate({}), 11), 10) is None


# Learning curves


def test_lines_cross_where_they_are_drawn_to_cross():
    assert crossing_points([(1, 4.0), (100, 2.0)], [(1, 3.0), (100, 3.0)]) == pytest.approx([10])
    assert crossing_points([(1, 4.0), (100, 2.0)], [(1, 5.0), (100, 3.0)]) == []


def points_of(bits):
    rows, corpora = [], []
    for use, models in bits.items():
        name = f"toy-{use}"
        facts = {"corpus": name, "split": "train", "description": "", "origin": "", "licence": "", "documents": 1}
        corpora.append(Corpora(**facts, characters=1, bytes=int(use * 1000)))
        for rank, (model, value) in enumerate(models.items()):
            rows.append(result(corpus=name, model=model, title=model, rank=rank, bits_per_byte=value))
    entries = [[f"toy-{use}", [use]] for use in bits]
    return list(
        scaling_points({"name": "toy", "section": "corpora", "keys": ["use"], "entries": entries}, rows, corpora)
    )


def test_learning_curves_say_where_one_overtakes_the_next():
    points = points_of({1.0: {"low": 3.0, "high": 2.0}, 0.01: {"low": 3.0, "high": 4.0}})
    assert [(point.model, point.bytes) for point in points] == [
        ("low", 10),
        ("low", 1000),
        ("high", 10),
        ("high", 1000),
    ]
    [crossing] = crossings(points)
    assert (crossing.lower, crossing.upper, crossing.ahead) == ("char/low", "char/high", "char/low")
    assert crossing.bytes == pytest.approx(100)


def test_lines_that_do_not_cross_have_no_size():
    [crossing] = crossings(points_of({1.0: {"low": 3.0, "high": 2.0}, 0.01: {"low": 5.0, "high": 4.0}}))
    assert crossing.bytes is None and crossing.ahead == "char/high"


def test_a_model_that_is_infinite_with_less_text_is_behind_until_it_is_finite():
    """Its line is infinite up to the size at which it has a finite point: there the two change places."""
    infinite = float("inf")
    sizes = {0.01: {"low": infinite, "high": 4.0}, 0.1: {"low": 3.0, "high": 3.5}, 1.0: {"low": 2.0, "high": 3.0}}
    [crossing] = crossings(points_of(sizes))
    assert (crossing.ahead, crossing.bytes) == ("char/high", pytest.approx(100))
    swapped = {use: {"low": bits["high"], "high": bits["low"]} for use, bits in sizes.items()}
    [crossing] = crossings(points_of(swapped))
    assert (crossing.ahead, crossing.bytes) == ("char/low", pytest.approx(100))


def test_a_model_that_becomes_infinite_falls_behind_at_its_last_finite_size():
    assert crossing_points([(10, 2.0), (1000, float("inf"))], [(10, 3.0), (1000, 3.0)]) == [pytest.approx(10)]


def test_sizes_at_which_both_are_infinite_say_nothing():
    infinite = float("inf")
    sizes = {0.01: {"low": infinite, "high": infinite}, 0.1: {"low": 3.0, "high": 2.0}, 1.0: {"low": 3.0, "high": 2.0}}
    [crossing] = crossings(points_of(sizes))
    assert (crossing.ahead, crossing.bytes) == ("char/high", None)
    assert list(crossings(points_of({1.0: {"low": infinite, "high": infinite}}))) == []


def test_a_model_without_any_finite_point_is_behind_everywhere():
    infinite = float("inf")
    [crossing] = crossings(points_of({use: {"low": infinite, "high": 9.0} for use in (0.01, 1.0)}))
    assert (crossing.ahead, crossing.bytes) == ("char/high", None)


def test_another_sweep_is_no_learning_curve():
    sweep = {"name": "toy", "section": "models", "keys": ["hidden"], "entries": []}
    assert list(scaling_points(sweep, [result()], [])) == []


# Where a figure comes from


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A fitted bigram as the verbs leave it, below results/tiny."""
    monkeypatch.chdir(tmp_path)
    base = Path("results/tiny/coined")
    section = json.dumps({"source": "coined", "count": 100, "split": {}})
    assert main(["prepare", "--out", f"{base}/text", "--section", section]) == 0
    kind = ["--section", '{"kind": "char"}', "--layout", "lines"]
    assert main(["tokenize", "--text", f"{base}/text", "--out", f"{base}/char/tokens", *kind]) == 0
    config = json.dumps({"type": "bigram", "hyperparameters": {}})
    folder = base / "char" / "bigram" / "seed0"
    assert (
        main(["fit", "--tokens", f"{base}/char/tokens", "--out", str(folder), "--section", config, "--seed", "0"]) == 0
    )
    return folder


def test_a_cell_tells_what_it_was_made_of(experiment):
    told = explained(experiment)
    for part in ("corpus       coined", "type", "parameters", "tokens_seen", "device", "train.npy: the same"):
        assert part in told
    assert explained(experiment / "fit.json") == told == explained(experiment.parent)


def test_what_changed_since_is_said(experiment):
    tokens = experiment.parents[1] / "tokens" / "train.npy"
    tokens.write_bytes(tokens.read_bytes()[:-1] + b"x")
    assert "DAMAGED" in explained(experiment)
    artifacts.save_bytes(tokens, b"other", {})
    assert "train.npy: CHANGED since, now" in explained(experiment)
    tokens.unlink()
    assert "train.npy: gone" in explained(experiment)


def test_the_plain_command_makes_the_same_bytes(experiment):
    before = (experiment / "model.safetensors").read_bytes()
    (experiment / "model.safetensors").unlink()
    *_, alone = commands(experiment)
    assert main(shlex.split(alone)[3:]) == 0 and (experiment / "model.safetensors").read_bytes() == before


def test_snakemake_accepts_the_command_that_regenerates(experiment):
    project = Path(__file__).parents[1]
    for part in ("Snakefile", "workflow", "profiles", "runs", "lmstages", "config.yaml"):
        Path(part).symlink_to(project / part)
    workflow, _ = commands(experiment)
    arguments = [sys.executable, "-m", *shlex.split(workflow), "-n", "--nolock"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "rule fit:" in done.stdout and str(experiment) in done.stdout, done.stderr


def test_a_wrong_path_says_what_is_there(experiment, capsys):
    assert main(["explain", str(experiment).replace("bigram", "bigrm")]) == 1
    assert "bigrm: no such folder (did you mean 'bigram'?); there are: bigram, tokens" in capsys.readouterr().err


def test_a_folder_without_experiments_is_one_clear_error(experiment):
    with pytest.raises(
        UserError, match="no fitted experiment lies here; an experiment is results/RUN/CORPUS/TOKENIZER/MODEL/seedN"
    ):
        explained(experiment.parents[1] / "tokens")
