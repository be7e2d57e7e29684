"""The store: what was made once is linked, not made again; what is damaged or different is made."""

import json
import os
from pathlib import Path

import pytest
from test_workflow import PROJECT, copy_of, snakemake

from lmstages.cli import main
from lmstages.config.reading import read_run
from lmstages.core import artifacts
from lmstages.core.store import unused

RUN = """
corpora: {fables: {count: 40}}
tokenizers: {char: {kind: char}}
models: {bigram: , mlp: {steps: 3, hidden: 4, embedding: 2}}
"""


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A folder to work in, with a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMSTAGES_STORE", "store")
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def prepare(run):
    """A run's corpus -> the exit status and the files."""
    section = read_run(Path("run.yaml")).prepare_section("fables")
    assert main(["prepare", "--out", f"{run}/fables/text", "--section", section]) == 0
    return sorted(path for path in (Path(run) / "fables/text").iterdir() if path.is_file())


def fit(run, model, **changed):
    """Fit a model of a prepared run -> its file."""
    tokens, config = f"{run}/fables/char/tokens", read_run(Path("run.yaml"))
    arguments = ["--text", f"{run}/fables/text", "--out", tokens, "--section", config.tokenize_section("char")]
    assert main(["tokenize", *arguments]) == 0
    section = json.loads(config.fit_section(model))
    section["hyperparameters"] |= changed
    out = f"{run}/fables/char/{model}/seed0"
    assert main(["fit", "--tokens", tokens, "--out", out, "--section", json.dumps(section)]) == 0
    return Path(out) / "model.safetensors"


def test_a_second_run_shares_the_files_of_the_first_and_has_records_of_its_own(stored):
    first, second = prepare("a"), prepare("b")
    assert len(first) == 7
    for one, other in zip(first, second, strict=True):
        assert os.path.samefile(one, other)
        assert artifacts.verified(other) == other
    assert artifacts.made_of(second[0])["made"] == artifacts.made_of(first[0])["made"]


def test_a_number_that_is_changed_and_changed_back_refits_nothing(stored, monkeypatch):
    prepare("a")
    before = fit("a", "mlp").read_bytes()
    changed = fit("a", "mlp", hidden=5).read_bytes()
    monkeypatch.setattr("lmstages.models.fitting.outcome", None)  # which nobody may call
    assert fit("a", "mlp").read_bytes() == before != changed
    assert fit("a", "mlp", hidden=5).read_bytes() == changed


def test_another_seed_or_model_is_fitted(stored):
    prepare("a")
    assert fit("a", "mlp", learning_rate=0.5).read_bytes() != fit("a", "mlp").read_bytes()
    assert not os.path.samefile(fit("a", "bigram"), fit("a", "mlp"))


def test_a_damaged_entry_is_removed_and_its_files_made_again(stored):
    prepare("a")
    model = fit("a", "mlp")
    content = model.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the store's file, too: it is the same
    model.unlink()
    again = fit("a", "mlp")
    assert again.read_bytes() == content
    assert artifacts.verified(again) == again


def test_a_folder_that_takes_no_files_costs_the_store_alone(stored):
    (stored / "store").write_text("no folder")
    assert len(prepare("a")) == 7


def test_unused_are_the_entries_that_no_run_shares(stored, capsys):
    prepare("a")
    model = fit("a", "mlp")
    assert list(unused(stored / "store")) == []
    fit("a", "mlp", hidden=5)  # in place of the first
    (entry,) = unused(stored / "store")
    assert entry.what == "fit mlp"
    assert main(["clean", "store"]) == 0
    assert "1 entries" in capsys.readouterr().out and entry.folder.exists()
    assert main(["clean", "store", "--delete"]) == 0
    assert not entry.folder.exists() and model.exists()


def test_clean_without_a_store_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["clean"]) == 1
    assert "data/store: no such folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_second_run_of_the_same_config_fits_nothing_and_has_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("LMSTAGES_STORE", "data/store")
    folder = copy_of(PROJECT, tmp_path / "project")
    (folder / "runs/small.yaml").write_text(RUN)
    for name in ("one", "other"):
        done = snakemake(folder, "--config", "run=small", f"as={name}")
        assert done.returncode == 0, done.stderr
    fits = sorted((folder / "logs/other").rglob("fit.log"))
    assert len(fits) == 2 and all("taken from the store" in log.read_text() for log in fits)
    one, other = (next((folder / "results" / name).rglob("mlp/seed0/scores.safetensors")) for name in ("one", "other"))
    assert os.path.samefile(one, other)
    assert (folder / "results/one/results.csv").read_text() == (folder / "results/other/results.csv").read_text()
