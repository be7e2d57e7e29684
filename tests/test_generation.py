"""Samplers of a model beside each other: rows and texts by hand, code lengths, the front, drafts, the workflow."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from lmstages.analyses import generation
from lmstages.analyses.generation import NoRowsError, new_fraction, pieces_of, rows_of, shown_steps
from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation.drafts import earlier, step_bound
from lmstages.evaluation.parallel import Steps, parallel_score
from lmstages.evaluation.samplers import Draft, in_bands, samplers_of
from lmstages.models.base import build
from lmstages.report.drafts import drafts
from lmstages.results.generation import AllGenerated, on_front
from lmstages.results.schema import Draft as DraftRow
from lmstages.tokenizers import CharTokenizer

PROJECT = Path(__file__).parents[1]
V, N = 3, 4
TINY = {"layers": 1, "heads": 2, "width": 8, "window": N, "row_length": N, "batch_size": 8, "warmup_steps": 2}
TINY |= {"steps": 12, "evaluate_every": 12}
TEXT = Documents.of([[*row, 0] for row in np.random.default_rng(0).choice(V, (40, 6), p=[0.1, 0.3, 0.6]).tolist()])
LETTERS = CharTokenizer(["\n", "a", "b"], None)
SECTION = {"split": "test", "documents": True, "source": None, "steps": [4, 1], "texts": 8, "length": N, "drafts": 1}
SECTION |= {"seed": 3}


def fitted(name, **keys):
    keys = {**TINY, **keys} if MODEL_TYPES[name].family == "neural" else keys
    model = build(MODEL_TYPES[name].model_validate(keys), V)
    model.fit(TEXT, TEXT, 0)
    return model


@pytest.fixture(scope="module")
def models():
    names = {"bigram": {}, "block_diffusion": {"block": 2}, "masked_diffusion": {}, "uniform_diffusion": {}}
    return {name: fitted(name, **keys) for name, keys in {**names, "sundae": {}, "sed": {}}.items()}


def task(model, **section):
    train, sizes = SimpleNamespace(texts=lambda: ["abba", "baab"]), np.ones(len(TEXT), dtype=np.int64)
    return generation.measured(model, LETTERS, (TEXT, sizes), train, SECTION | section)


# Samplers


def test_a_model_has_the_samplers_that_its_order_of_prediction_allows(models):
    found = {
        name: [(s.name, s.steps, s.measure, s.passes(N)) for s in samplers_of(model, [4, 2, 1], N, True)]
        for name, model in models.items()
    }
    assert found["bigram"] == [("next token", None, "exact", 4)]
    in_blocks = [("random", 1, "exact", 2), ("random", 2, "exact", 4), ("certain", 2, "exact", 4)]
    assert found["block_diffusion"] == [("next token", None, "exact", 4), *in_blocks]
    assert [s[1:] for s in found["masked_diffusion"] if s[0] == "certain"] == [(2, "exact", 2), (4, "exact", 4)]
    assert found["uniform_diffusion"] == [("denoising", steps, "bound", steps) for steps in (1, 2, 4)]
    assert found["sundae"] == [("mending", steps, "none", steps) for steps in (1, 2, 4)]
    assert found["sed"] == [("denoising", steps, "none", steps) for steps in (1, 2, 4)]


def test_no_more_rows_are_read_at_once_than_memory_holds(models, monkeypatch):
    rows, before = TEXT.tokens[: 6 * N].reshape(-1, N), np.zeros(6, dtype=np.int64)
    [*_, sampler] = samplers_of(models["masked_diffusion"], [2], N, True)
    whole = in_bands(sampler, rows, before, 1, V)
    monkeypatch.setattr("lmstages.evaluation.samplers.MAX_PROBABILITIES", V * N)
    np.testing.assert_allclose(in_bands(sampler, rows, before, 1, V), whole, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_bound_of_denoising_is_above_the_code_length_of_its_process(models, steps):
    model, every = models["uniform_diffusion"], np.array([*product(range(V), repeat=2)])
    probabilities = np.full(len(every), 1 / len(every))
    for step in range(steps, 0, -1):
        each = earlier(model, every, (step - 1) / steps, step / steps)  # (z, 2, V)
        probabilities = probabilities @ np.take_along_axis(each[:, None], every[None, ..., None], -1)[..., 0].prod(-1)
    samples = np.array([step_bound(model, every, steps, seed).sum(1) for seed in range(300)])
    error = samples.std(0) / np.sqrt(len(samples))
    assert (samples.mean(0) > -np.log(probabilities) - 4 * error).all() and probabilities.sum() == pytest.approx(1)
    if steps == 1:  # every draft before the last step is as probable: the bound is the mean over them
        of_draft = np.take_along_axis(each[:, None], every[None, ..., None], -1)[..., 0].prod(-1)  # (z, x)
        assert (np.abs(samples.mean(0) + np.log(of_draft).mean(0)) < 4.5 * error).all()


# Rows, measures and drafts by hand


def test_rows_are_the_beginnings_of_documents_that_are_long_enough():
    documents = Documents.of([[1, 2, 0], [2, 0], [1, 1, 2, 0], [2, 2, 1, 1, 0]])
    rows = rows_of(documents, np.arange(14), 3, 9, True)
    assert rows.tokens.tolist() == [[1, 2, 0], [1, 1, 2], [2, 2, 1]] and rows.before.tolist() == [0, 0, 0]
    assert rows.sizes[1].tolist() == [5, 6, 7] and (rows.documents, rows.too_short) == (4, 1)
    assert len(rows_of(documents, np.arange(14), 3, 2, True).tokens) == 2


def test_rows_of_a_stream_do_not_overlap_and_know_the_token_before():
    rows = rows_of(Documents.single([1, 2, 1, 2, 2, 0, 1, 1]), np.ones(8), 2, 9, False)
    assert rows.tokens.tolist() == [[1, 2], [1, 2], [2, 0], [1, 1]] and rows.before.tolist() == [0, 2, 2, 0]


def test_documents_that_are_all_too_short_are_said_so():
    with pytest.raises(NoRowsError, match=r"generation.length: no document has 9 tokens; the longest has 7; lower it"):
        rows_of(TEXT, np.ones(len(TEXT)), 9, 5, True)


def test_new_ngrams_by_hand():
    assert new_fraction(["a b c", "b a"], "words", 1, {("a",), ("b",)}) == 1 / 5
    assert new_fraction(["a b c"], "words", 3, set()) == 1.0 and new_fraction(["a"], "words", 3, set()) is None


def test_drafts_tell_what_is_kept_new_and_hidden():
    first = Draft(np.array([1, 0, 2, 0]), np.array([False, True, False, True]))
    second = Draft(np.array([1, 2, 1, 0]), np.array([False, False, False, False]))
    assert pieces_of(first, None, LETTERS) == [("a", "kept"), ("·", "hidden"), ("b", "kept"), ("·", "hidden")]
    assert pieces_of(second, first, LETTERS) == [("a", "kept"), ("ba¶", "new")]
    assert [shown_steps(count) for count in (1, 2, 5, 7)] == [[0], [0, 1], [0, 1, 2, 4], [0, 1, 2, 4, 6]]


def test_what_a_draft_holds_is_made_visible_and_in_one_line():
    pieces = json.dumps([["a\n\x1b", "kept"], ["<b>", "new"]])
    row = DraftRow(corpus="my", split="test", tokenizer="char", model="m", title="M", rank=1, sampler="certain",
                   steps=4, number=0, step=2, pieces=pieces)  # fmt: skip
    [text] = drafts([row], "my", {("char", "m"): "M"})
    assert text.lines == [(2, [("a↵\\x1b", "kept"), ("<b>", "new")])]
    assert text.method == "the most certain places first, 4 steps"
    assert drafts([row], "other", {("char", "m"): "M"}) == []


def test_the_front_is_what_none_other_is_as_fast_and_as_good_as():
    costs = np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 2.5], [3.0, 2.0], [4.0, 1.0], [5.0, np.inf]])
    assert on_front(costs).tolist() == [True, True, False, False, True, False] and not len(on_front(costs[:0]))


# The stage


def test_every_sampler_is_charged_for_the_same_rows(models):
    facts, arrays = task(models["masked_diffusion"])
    rows = rows_of(TEXT, np.ones(len(TEXT)), N, 8, True)
    np.testing.assert_allclose(arrays["next token"], -models["masked_diffusion"].score(rows.tokens).sum(1), atol=1e-5)
    score = parallel_score(models["masked_diffusion"], rows.tokens, Steps(4, "random", 3))
    np.testing.assert_allclose(arrays["random.4"], -score.sum(1), atol=1e-5)
    assert {*arrays} == {"bytes", "next token", "random.1", "random.4", "certain.4"}
    assert (arrays["bytes"] == N).all() and [s["steps"] for s in facts["samplers"]] == [None, 1, 4, 4]
    assert facts["held_out"]["unit"] == "characters" and facts["held_out"]["accepted"] is None


def test_texts_end_at_the_first_boundary_and_drafts_go_from_hidden_to_known(models):
    facts, _ = task(models["block_diffusion"], steps=[2])
    assert all("\n" not in s["text"] and s["characters"] <= 8 * N and s["seconds"] > 0 for s in facts["samplers"])
    first, *_, last = [draft for draft in facts["drafts"] if draft["sampler"] == "certain"]
    assert first["pieces"] == [("·" * N, "hidden")] and (first["step"], last["step"]) == (0, 4)
    assert (
        "hidden" not in {state for _, state in last["pieces"]} and task(models["sundae"], drafts=0)[0]["drafts"] == []
    )


MADE = {"command": "generate", "section": {}, "inputs": {}, "paths": {}}


def written(root, models, change=lambda arrays: arrays):
    """The files of each model, and the section of the summary."""
    section = {"models": {}, "generated": []}
    for rank, (name, model) in enumerate(models.items()):
        facts, arrays = task(model)
        generation.save(root / "my" / "char" / name / "seed0", facts, change(arrays), MADE)
        section["models"][name] = {"title": name.title(), "rank": rank}
        section["generated"].append(["my", "char", name, 0])
    return section


def test_a_row_of_the_table_has_its_code_length_interval_and_cost(models, tmp_path):
    found = AllGenerated.of(tmp_path, written(tmp_path, models))
    rows = {(row.model, row.sampler, row.steps): row for row in found.generated}
    token, one = rows["masked_diffusion", "next token", None], rows["masked_diffusion", "random", 1]
    assert one.than_next == pytest.approx(one.bits_per_byte - token.bits_per_byte) and token.than_next is None
    assert one.low < one.bits_per_byte < one.high and one.than_next_low < one.than_next < one.than_next_high
    assert rows["sundae", "mending", 4].bits_per_byte is None and rows["uniform_diffusion", "denoising", 4].low
    exact = [row for row in found.generated if row.measure == "exact"]
    assert min(exact, key=lambda row: row.bits_per_byte).is_best and min(exact, key=lambda row: row.seconds).is_best
    assert {draft.model for draft in found.drafts} == {*models} - {"bigram"}


def test_a_file_without_the_nats_that_it_names_is_refused(models, tmp_path):
    section = written(tmp_path, {"bigram": models["bigram"]}, lambda arrays: {"bytes": arrays["bytes"]})
    with pytest.raises(UserError, match=r"generation\.safetensors: lacks next token"):
        AllGenerated.of(tmp_path, section)


def test_a_run_without_generation_has_no_rows(tmp_path):
    assert vars(AllGenerated.of(tmp_path, {"models": {}})) == {"generated": [], "drafts": []}


# The workflow


@pytest.mark.slow
def test_a_run_draws_by_every_sampler_and_shows_it(tmp_path):
    small = {"layers": 1, "heads": 2, "width": 16, "window": 16, "row_length": 16, "steps": 20, "evaluate_every": 10}
    names = ("gpt", "block_diffusion", "masked_diffusion", "uniform_diffusion", "sundae", "sed")
    config = {
        "corpora": {"fables": {"count": 60}},
        "tokenizers": {"char": {"kind": "char"}},
        "models": {"bigram": None, **{name: {**small, "warmup_steps": 2} for name in names}},
        "sampling": {"count": 1, "length": 20, "measured": 5},
        "generation": {"steps": [1, 4], "texts": 6, "length": 16},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--configfile", "small.yaml"]
    done = subprocess.run([*command, "--cores", "1"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "results/small/tables/generated.parquet")
    assert {*table["model"]} == {"bigram", *names} and table["accepted"].notna().all()
    assert (table["bits_per_byte"].notna() == (table["measure"] != "none")).all() and table["is_best"].any()
    page = (tmp_path / "results/small/report.html").read_text()
    assert "Drawing text in few steps" in page and "Texts, draft by draft" in page and "<ins>" in page
    assert (tmp_path / "results/small/figures/generation").is_dir()
