"""The tables of results: every column declared once, and nothing gets past the declaration."""

import json
import math
import sys
from pathlib import Path

import pandas as pd
import pytest
from typed_rows import result

import lmstages
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.results import frame
from lmstages.results.schema import OUTPUTS, TABLES, Seed, columns

SEED = Seed(corpus="a", split="test", tokenizer="char", model="mlp", seed=3, bits_per_byte=2.5)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_column_has_a_type_and_a_sentence(name):
    for column in columns(OUTPUTS[name]):
        assert column.dtype in ("string", "Int64", "float64", "boolean") and column.text.endswith((".", "..."))


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_table_without_rows_has_its_columns_and_types(name):
    empty = frame.frame(name, [])
    assert list(empty.dtypes.astype(str)) == [column.dtype for column in columns(OUTPUTS[name])]


def test_rows_come_back_as_they_were():
    rows = [result(bits_per_byte=1.5, flag=None), result(model="gpt", bits_per_byte=math.inf, parameters=None)]
    assert frame.rows("results", frame.frame("results", rows)) == rows


def test_a_row_that_lacks_a_column_is_an_error_where_it_is_made():
    with pytest.raises(TypeError, match="seed"):
        Seed(corpus="a", split="test", tokenizer="char", model="mlp", bits_per_byte=2.5)


def test_a_row_of_another_table_is_refused():
    with pytest.raises(AssertionError, match="rows of results are Result"):
        frame.frame("results", [SEED])


def test_a_table_is_read_as_it_was_written(tmp_path):
    data = frame.frame("seeds", [SEED])
    frame.write(tmp_path, "seeds", data, {})
    pd.testing.assert_frame_equal(frame.read(tmp_path, "seeds"), data)


def test_a_damaged_table_is_refused(tmp_path):
    frame.write(tmp_path, "results", frame.frame("results", [result()]), {})
    path = tmp_path / "results.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"results.parquet: its sha256 is"):
        lmstages.read_results(tmp_path)


def test_a_notebook_reads_the_results_of_a_folder_or_of_a_file(tmp_path):
    frame.write(tmp_path, "results", frame.frame("results", [result(bits_per_byte=1.5)]), {})
    for path in (tmp_path, str(tmp_path), tmp_path / "results.parquet"):
        assert lmstages.read_results(path)["bits_per_byte"].tolist() == [1.5]


def test_a_folder_without_results_names_those_that_are_there(tmp_path):
    frame.write(tmp_path / "one", "results", frame.frame("results", []), {})
    with pytest.raises(UserError, match=r"ome: no such folder \(did you mean '.*one'\?\); finished runs: .*one"):
        lmstages.read_results(tmp_path / "ome")


def test_an_unknown_public_name_is_one_clear_error():
    with pytest.raises(
        AttributeError, match="has no attribute 'read_result'; public are load, fit, FittedModel, read_results"
    ):
        lmstages.read_result


def test_csv_holds_all_digits_and_no_formulas():
    text = frame.csv_text(frame.frame("results", [result(title="=1+1", bits_per_byte=1 / 3)]))
    assert "'=1+1" in text and "0.3333333333333333" in text and text.endswith("\n")


def test_the_page_of_columns_is_that_of_the_schema():
    docs = Path(__file__).parents[1] / "docs"
    sys.path.insert(0, str(docs))
    try:
        import columns as generated
    finally:
        sys.path.remove(str(docs))
    assert generated.PAGE.read_text("utf-8") == generated.page(), "run python docs/columns.py"
    assert all(f"tables/{name}.parquet" in generated.page() for name in TABLES if name != "results")


def test_run_facts_are_those_of_the_section(tmp_path):
    frame.write(tmp_path, "results", frame.frame("results", []), {})
    artifacts.save_json(tmp_path / "run.json", {"run": "default", "estimation": True}, {})
    assert frame.Results.open(tmp_path).facts == json.loads('{"run": "default", "estimation": true}')
