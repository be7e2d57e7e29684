"""Infinite figures and a checkpoint that cannot be read: each is a row, and everything else of the run is complete."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_cli import call
from test_workflow import PROJECT, copy_of, snakemake

from lmstages.results import frame

pytestmark = pytest.mark.slow
LINE, NEW = "the fox sat down\n", "zq xq\n"
CONFIG = """
corpora: {mine: {path: mine.txt, documents: lines, split: {shuffle_seed: null}, use: {sweep: [0.3, 1.0]}}}
tokenizers: {char: {kind: char}}
models: {unigram: , bigram: {add: 0}}
pretrained: {theirs: {path: broken}}
sampling: {count: 1, length: 10, measured: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run whose test part ends in words that the first 0.3 of train lack and the whole of it has, and its process."""
    folder = copy_of(PROJECT, tmp_path_factory.mktemp("infinite") / "project")
    (folder / "mine.txt").write_text(2 * (100 * LINE + 4 * NEW))
    (folder / "runs/wild.yaml").write_text(CONFIG)
    (folder / "broken").mkdir()
    (folder / "broken/config.json").write_text('{"model_type": "other"}')
    return folder, snakemake(folder, "--config", "run=wild")


@pytest.fixture
def results(run: tuple[Path, Any]) -> pd.DataFrame:
    rows: pd.DataFrame = frame.read_results(run[0] / "results/wild")
    return rows.set_index(["corpus", "model"])


def test_a_checkpoint_that_cannot_be_read_is_a_row_with_its_reason(run: Any, results: pd.DataFrame) -> None:
    reason = "failed: broken/config.json: "
    failed = results[results["status"] != "ok"]
    assert [*failed.index] == [("mine-use-0_3", "theirs"), ("mine-use-1_0", "theirs")]
    assert all(status.startswith(reason) for status in failed["status"])
    names = "mine-use-0_3/own/theirs, mine-use-1_0/own/theirs"
    assert run[1].returncode == 1 and f"2 of 6 rows failed: {names}: {reason}" in run[1].stderr
    page = (run[0] / "results/wild/report.html").read_text()
    assert reason in page and "2 rows failed" in page and page.endswith("</html>")


def test_an_infinite_row_is_infinite_and_all_others_have_their_figures(results: pd.DataFrame) -> None:
    bits = results["bits_per_byte"].drop("theirs", level="model")
    assert [*bits[~np.isfinite(bits.astype(float))].index] == [("mine-use-0_3", "bigram")] and (bits > 0).all()
    assert results.loc[("mine-use-0_3", "bigram"), "perplexity"] == float("inf")


def test_the_two_models_change_places_where_the_infinite_one_becomes_finite(run: Any) -> None:
    [crossing] = frame.rows("crossings", frame.read(run[0] / "results/wild", "crossings"))
    corpora = frame.read(run[0] / "results/wild", "corpora").set_index(["corpus", "split"])
    assert (crossing.lower, crossing.upper, crossing.ahead) == ("char/unigram", "char/bigram", "char/unigram")
    assert crossing.bytes == pytest.approx(corpora.loc[("mine-use-1_0", "train"), "bytes"])


def test_explain_shows_an_infinite_figure_and_the_first_token_of_probability_zero(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(run[0])
    assert call("explain", "results/wild/mine-use-0_3/char/bigram/seed0") == 0
    printed = capsys.readouterr().out
    text = Path("results/wild/mine-use-0_3/text/test.txt").read_text()
    assert "test: ∞ bits/byte, in results/wild/results.parquet\n    infinite: " in printed
    assert f"tokens have probability zero, the first at byte {text.index('z'):,} of the text" in printed
    assert call("explain", "results/wild/mine-use-1_0/char/bigram/seed0") == 0
    assert "infinite" not in capsys.readouterr().out


def test_every_file_of_json_is_json(run: Any) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    files = [*(run[0] / "results/wild").rglob("*.json")]
    assert len(files) > 20
    for path in files:
        json.loads(path.read_text(), parse_constant=refuse)


def test_a_page_and_a_table_show_infinity(run: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(run[0])
    assert call("table", "results/wild") == 0
    assert "∞" in capsys.readouterr().out
    for name in ("report.html", "table.md"):
        assert "∞" in Path("results/wild", name).read_text()
    assert "$\\infty$" in Path("results/wild/table.tex").read_text()
    assert "inf" in pd.read_csv("results/wild/results.csv", dtype=str)["bits_per_byte"].tolist()
