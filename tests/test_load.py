"""Runs of many models: every pair is in the table, a page and its figures show what can be read and say so."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparisons import FAILED, GPT, ROW, SOURCE, XZ, a_results_folder, a_row_of, described, large, rendered
from test_figures import FIGURES
from test_intervals import row, scored, tabled
from test_report import Page

from lmstages.config.reading import read_run
from lmstages.figures import differences, files, sweeps
from lmstages.report import tables
from lmstages.results import frame, statistics
from lmstages.results.schema import Columns, Difference
from lmstages.results.selection import MOST_ROWS, Limit, fewest_bits, shown_rows

ROWS = 300
LARGEST_PAGE = 3_000_000  # bytes
LONGEST_ARGUMENT = 128 * 1024  # bytes of one argument of a process, on Linux
RULES = Path(__file__).resolve().parents[1] / "workflow" / "rules"


def bits(row):
    return row.bits_per_byte


def models(count, **changes):
    """Rows of one text, each a little worse than the one before it."""
    return [
        replace(ROW, model=f"m{number}", bits_per_byte=2 + number / 100, rank=number, **changes)
        for number in range(count)
    ]


# ---------------------------------------------------------------- pairs


def tables_of(rows, blocks):
    """(M, K) nats of rows that differ a little, two of them the same, and their bytes."""
    draws = np.random.default_rng([rows, blocks])
    nats = draws.gamma(50, 20, blocks) * (1 + 0.02 * draws.normal(size=(rows, 1))) + draws.normal(0, 8, (rows, blocks))
    nats[rows // 2] = nats[0]
    return nats, np.full((rows, blocks), 1000.0)


@pytest.mark.parametrize(("rows", "blocks"), [(2, 6), (3, 61), (12, 7), (40, 150), (5, 1999)])
def test_compiled_pairs_are_those_of_numpy_to_the_last_bit(monkeypatch, rows, blocks):
    nats, sizes = tables_of(rows, blocks)
    monkeypatch.setattr(statistics, "MANY_PAIRS", 1 << 40)
    by_numpy = statistics.paired_differences(nats, sizes)
    monkeypatch.setattr(statistics, "MANY_PAIRS", 1)
    compiled = statistics.paired_differences(nats, sizes)
    assert all(np.array_equal(a, b) for a, b in zip(by_numpy, compiled, strict=True))


def test_the_ends_of_a_pair_are_the_quantiles_of_its_resampled_differences(monkeypatch):
    monkeypatch.setattr(statistics, "MANY_PAIRS", 1)
    nats, sizes = tables_of(4, 30)
    all_blocks = np.ones(30, dtype=bool)  # chosen as the function does it: the order of the numbers decides last bits
    ratios = statistics.resampled(nats[:, all_blocks], sizes[:, all_blocks])
    pairs = statistics.paired_differences(nats, sizes)
    outer = statistics._outer(30)
    for a, b, low, high in zip(pairs.a, pairs.b, pairs.low, pairs.high, strict=True):
        assert [low, high] == np.quantile(ratios[:, a] - ratios[:, b], [outer, 1 - outer]).tolist()


def test_every_pair_of_many_rows_is_in_the_table_and_corrected_with_all_others():
    names = [(row(f"m{number}", number), scored(1 + number / 1000, number)) for number in range(ROWS)]
    rows, pairs = tabled(*names)
    assert len(pairs) == ROWS * (ROWS - 1) // 2 >= statistics.MANY_PAIRS
    data = frame.frame("differences", pairs)
    assert len({*zip(data["a_model"], data["b_model"], strict=True)}) == len(pairs)
    assert np.array_equal(statistics.holm(data["p"].to_numpy()), data["p_holm"])
    below = data[(data["a_model"] == "m5") & (data["b_model"] == "m6")].iloc[0]
    assert (rows[6].below_model, rows[6].below_p_holm) == ("m5", below["p_holm"])
    assert rows[6].below_difference == -below["difference"]


def test_rows_held_by_column_are_rows():
    columns = {name: np.array([1.0, 2.0]) for name in ("difference", "low", "high", "p", "p_holm")}
    names = ("corpus", "split", *(f"{side}_{name}" for side in "ab" for name in ("corpus", "tokenizer", "model")))
    pairs = Columns(Difference, columns | {name: np.array(["x", "y"], dtype=object) for name in names})
    assert len(pairs) == 2 and [pair.difference for pair in pairs] == [1.0, 2.0] and pairs[-1].a_model == "y"
    assert frame.frame("differences", pairs).equals(frame.frame("differences", list(pairs)))


# ---------------------------------------------------------------- which rows are shown


def test_a_run_that_can_be_read_is_shown_whole():
    rows = models(MOST_ROWS)
    assert shown_rows(rows) == rows and not Limit(MOST_ROWS, MOST_ROWS).is_reached


def test_of_more_rows_the_best_are_shown_in_their_order():
    rows = models(ROWS)[::-1]
    assert shown_rows(rows) == rows[-MOST_ROWS:]


def test_oracle_compressors_each_type_and_each_reason_are_shown_among_many():
    special = [XZ, SOURCE, replace(GPT, bits_per_byte=9.0), FAILED, replace(FAILED, model="b", status="failed: why")]
    shown = shown_rows([*models(ROWS), *special])
    assert len(shown) == MOST_ROWS and shown[-5:] == special
    assert shown_rows([*models(ROWS), *special], most=1) == models(1)


def test_many_failures_leave_room_for_what_did_not_fail():
    failed = [replace(FAILED, model=f"f{number}", status=f"failed: {number}") for number in range(ROWS)]
    shown = shown_rows([*failed, *models(ROWS)])
    assert sum(row.status != "ok" for row in shown) == MOST_ROWS // 4 and len(shown) == MOST_ROWS


def test_all_splits_show_the_same_models_and_all_corpora_as_many():
    splits = [replace(row, split=split) for row in models(ROWS) for split in ("valid", "test")]
    shown = shown_rows([replace(row, corpus=corpus) for corpus in "ab" for row in splits])
    by_text = {(row.corpus, row.split): [] for row in shown}
    for row_ in shown:
        by_text[row_.corpus, row_.split].append(row_.model)
    assert len(by_text) == 4 and len({tuple(names) for names in by_text.values()}) == 1
    assert len(shown) == MOST_ROWS


def test_of_more_corpora_than_rows_the_first_have_one_each():
    rows = [replace(ROW, corpus=f"c{number}", model=model) for number in range(ROWS) for model in ("a", "b")]
    assert [(row.corpus, row.model) for row in shown_rows(rows)] == [(f"c{number}", "a") for number in range(MOST_ROWS)]


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A run of more rows than a page shows, one of which failed, and its page."""
    failed = replace(FAILED, corpus="text0", model="broken", status="failed: why")
    results = large(tmp_path_factory.mktemp("long"), 1, ROWS - 3, failed)
    return results, rendered(results)


def test_the_page_of_many_rows_is_small_and_shows_what_can_be_read(long):
    results, html = long
    assert len(results.rows) == ROWS and len(html.encode()) < LARGEST_PAGE
    assert html.count("<tr") and html.count('data-from="from-') == html.count("<div popover ") == MOST_ROWS
    best = min((row for row in results.rows if row.family in ("counts", "neural") and row.status == "ok"), key=bits)
    assert html.count('<tr class="best"') == 1 and f'id="model-{best.model}"' in html
    assert "failed: why" in html and "1 row failed." in html


def test_every_table_of_the_page_says_what_it_leaves_out_and_where_that_is(long):
    html = " ".join(long[1].split())
    assert f"This run has {ROWS} rows, of which this page shows {MOST_ROWS}: " in html
    cut = f'Shown are {MOST_ROWS} of {ROWS} rows; all of them are in <a href="results.csv">results.csv</a>'
    assert html.count(cut) == 4  # lines of the passage, neighbours, all rows, model by model
    topic = r'Shown are \d+ of \d+ rows; all of them are in <a href="(.*?)"'
    assert re.findall(topic, html).count("results.csv") == 5  # and documents that train lacks
    assert re.findall(r'<a href="(\S+)">(?:CSV|Markdown|LaTeX)</a>', html) == ["results.csv", "table.md", "table.tex"]
    assert "base64," not in html


def test_the_tables_beside_the_page_have_every_row(long):
    results, _ = long
    assert len(tables.table_csv(results).splitlines()) == ROWS + 1
    assert sum(line.startswith("| text0") for line in tables.table_markdown(results).splitlines()) == ROWS
    assert tables.table_latex(results).count("\\\\\n") == ROWS + 1


def test_a_page_of_few_rows_says_nothing_of_a_limit(tmp_path):
    html = rendered(a_results_folder(tmp_path))
    assert "Shown are" not in html and ("class", "note limit") not in Page(html).attributes
    assert len(re.findall(r'download="table\.\w+" href="data:', html)) == 3


def test_a_long_sweep_shows_its_best_points_and_the_table_of_all(tmp_path):
    rows = models(3)
    points = [
        a_row_of("sweeps", sweep="add", keys='["add"]', values=f"[{n}]", model=f"m{n}", bits_per_byte=2.0 + n)
        for n in range(ROWS)
    ]
    html = rendered(a_results_folder(tmp_path, *rows, sweeps=points))
    assert f"Shown are {MOST_ROWS} of {ROWS} rows" in html and 'href="tables/sweeps.parquet"' in html
    assert fewest_bits(points[::-1]) == points[::-1][-MOST_ROWS:]


def test_of_many_corpora_the_page_has_chapters_of_those_it_shows(tmp_path):
    rows = [replace(ROW, corpus=f"c{number}") for number in range(MOST_ROWS + 5)]
    sizes = [replace(size, corpus=row.corpus) for row in rows for size in described("x")]
    html = rendered(a_results_folder(tmp_path, *rows, corpora=sizes, figures=[]))
    assert html.count('<section class="corpus" id="corpus-') == MOST_ROWS


# ---------------------------------------------------------------- figures


def test_a_figure_with_a_line_a_row_draws_what_the_report_shows_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "shown_rows", lambda rows: rows[:3])
    monkeypatch.setattr(files, "registry", lambda: {"ladder": FIGURES["ladder"]})
    [drawn] = files.drawings(a_results_folder(tmp_path, *models(6)))
    assert drawn.drawing.caption.endswith(" Drawn are the 3 rows that the report shows, of 6.")
    assert drawn.drawing.svg().count(">Bigram (m") == 3


def test_a_figure_of_few_rows_says_nothing_of_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "registry", lambda: {"ladder": FIGURES["ladder"]})
    [drawn] = files.drawings(a_results_folder(tmp_path, *models(3)))
    assert "Drawn are" not in drawn.drawing.caption


def test_counted_pairs_of_no_model_are_drawn_whatever_is_shown():
    typed = [a_row_of("pairs", model=model, first="a", second="b") for model in ("", "kept", "left")]
    kept = files.of_experiments(frame.frame("pairs", typed), {("fables", "char", "kept")})
    assert [*kept["model"]] == ["", "kept"]


def test_no_rows_stay_a_table_without_rows():
    nothing = files.of_experiments(frame.frame("pairs", []), set())
    assert len(nothing) == 0 and "model" in nothing


def test_differences_are_drawn_of_the_best_and_counted_over_all_pairs(monkeypatch):
    monkeypatch.setattr(differences, "MOST", 3)
    rows = models(5)
    pairs = [
        a_row_of("differences", a_corpus="fables", b_corpus="fables", a_tokenizer="char", b_tokenizer="char",
                 a_model=a.model, b_model=b.model, p_holm=0.01)
        for index, a in enumerate(rows)
        for b in rows[index + 1 :]
    ]  # fmt: skip
    caption = differences.caption(frame.frame("differences", pairs), frame.frame("results", rows))
    assert "10 of 10 pairs. Drawn are the best 3 rows of each category." in caption


def test_of_many_points_only_those_on_the_front_are_named():
    rows = [replace(row, parameters=1000 - number) for number, row in enumerate(models(ROWS))]
    worse = [replace(row, bits_per_byte=8.0 + number) for number, row in enumerate(rows[:-1])]
    [drawn] = files.groups(FIGURES["parameters"], frame.frame("results", [*worse, rows[-1]]), {})
    assert "Only marks that no other beats have names." in drawn.drawing.caption
    assert re.findall(r">(Bigram \(m\d+\))<", drawn.drawing.svg()) == [f"Bigram (m{ROWS - 1})"]


def test_the_axis_of_a_long_sweep_has_no_more_ticks_than_can_be_read():
    figure = sweeps.draw(frame.frame("sweeps", [
        a_row_of("sweeps", section="models", keys='["add"]', values=f"[{n}]", model=f"m{n}", bits_per_byte=2.0)
        for n in range(1, ROWS)
    ]))  # fmt: skip
    assert 20 <= len(figure.axes[0].get_xticks()) <= sweeps.MOST_TICKS


def test_of_many_lines_of_a_sweep_the_lowest_are_drawn():
    points = [
        a_row_of("sweeps", section="models", keys='["add", "order"]', values=f"[1, {n}]", model=f"m{n}",
                 bits_per_byte=9.0 - n / 100)
        for n in range(sweeps.MOST_LINES + 5)
    ]  # fmt: skip
    data = frame.frame("sweeps", points)
    assert len(sweeps.draw(data).axes[0].get_legend_handles_labels()[1]) == sweeps.MOST_LINES
    assert f"Drawn are the {sweeps.MOST_LINES} lines of {len(points)} with the lowest points." in sweeps.caption(data)


# ---------------------------------------------------------------- before the results


def test_a_section_longer_than_an_argument_may_be_reaches_its_command(tmp_path):
    config = tmp_path / "many.yaml"
    entries = "".join(f"  m{number}: {{type: bigram, add: {number + 1}}}\n" for number in range(600))
    config.write_text(f"corpora: {{coined: {{count: 600}}}}\ntokenizers: {{char: {{kind: char}}}}\nmodels:\n{entries}")
    section = read_run(config).summary_section()
    assert len(section) > LONGEST_ARGUMENT
    python = shlex.quote(sys.executable)
    script = tmp_path / "job.sh"
    script.write_text(f"printf %s {shlex.quote(section)} | {python} -m lmstages summarize --out x --section -\n")
    done = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("lmstages: error: x/coined/text/corpus.json: no such file")


@pytest.mark.parametrize("command", ["summarize", "analyse", "inspect"])
def test_rules_whose_section_names_every_experiment_pass_it_through_stdin(command):
    lines = [line for path in RULES.glob("*.smk") for line in path.read_text().splitlines()]
    [shell] = [line.strip() for line in lines if f"lmstages {command} " in line]
    assert shell.startswith("'printf %s {params.section:q} | ") and shell.endswith(" --section -'")
