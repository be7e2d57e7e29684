"""The report shows what it was given, and only shows it."""

import base64
import csv
import hashlib
import io
import math
import random
import re
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from comparisons import CURVE, FAILED, GPT, HOSTILE, NUMBERS, ORACLE, ROW, SOURCE, XZ, comparison, large

from lmstages.figures import catalogue, drawing, ladder, learning
from lmstages.figures import rows as of_rows
from lmstages.report import columns, passages, shown, tables
from lmstages.report.page import render


class Page(HTMLParser):
    """The tags, attributes and texts that a browser would find."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags = ["document"]
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.tags[-1], []).append(data)


@cache
def tame() -> Page:
    return Page(render(comparison(ROW)))


# What a reader may be shown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain, naïve, 日本語 🙂", "plain, naïve, 日本語 🙂"),
        ("kept\n\ttoo", "kept\n\ttoo"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x00\r\x7f\x9b", r"\x00\x0d\x7f\x9b"),
        ("\u202e\u2066\u200e", r"\u202e\u2066\u200e"),
        ("\u200b\ufeff\u2028", r"\u200b\ufeff\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, wanted: str) -> None:
    assert shown.visible(text) == wanted


@pytest.mark.parametrize("sample", HOSTILE)
def test_a_hostile_sample_is_text_and_nothing_else(sample: str) -> None:
    page = Page(render(comparison(ROW | {"samples": [{"temperature": 1.0, "text": sample}]})))
    assert page.tags == tame().tags
    assert "".join(page.texts["pre"]).lstrip("\n").startswith(shown.visible(sample))


@pytest.mark.parametrize("key", ["title", "adds", "source", "model", "tokenizer", "protocol", "device"])
def test_a_hostile_name_is_text_and_nothing_else(key: str) -> None:
    tame, wild = (Page(render(comparison(ROW | {key: text}))) for text in ("tame", "\" x='1'><script>1</script>"))
    assert wild.tags == tame.tags
    assert [name for name, _ in wild.attributes] == [name for name, _ in tame.attributes]


def test_the_page_can_be_written_as_utf8_whatever_was_sampled() -> None:
    samples = [{"temperature": 1.0, "text": text} for text in HOSTILE]
    assert render(comparison(ROW | {"samples": samples})).encode()


# The page


def test_the_page_asks_for_nothing_from_anywhere() -> None:
    page = render(comparison())
    assert not re.search(r"https?:|//[a-z]|\ssrc=|@import|url\((?!#)", page)
    assert not {"link", "img", "iframe", "object", "base"} & set(Page(page).tags)


def test_the_policy_admits_exactly_the_style_and_script_of_the_page() -> None:
    html = render(comparison())
    page = Page(html)
    for tag in ("style", "script"):
        assert page.tags.count(tag) == 1
        inline = html.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        pin = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{pin}'" in html
    assert "unsafe" not in html and not [
        name for name, _ in page.attributes if name == "style" or name.startswith("on")
    ]


def test_the_same_comparison_is_the_same_page() -> None:
    assert render(comparison()) == render(comparison())


def test_no_two_things_of_a_page_share_a_name() -> None:
    names = [value for name, value in Page(render(comparison())).attributes if name == "id"]
    assert len(names) == len(set(names))


def test_no_number_is_a_dash() -> None:
    page = render(comparison(GPT, ROW | dict.fromkeys(NUMBERS)))
    assert (
        len(re.findall(rf'<td class="number[a-z ]*" data-column="[a-z_]*" data-value="">(<b>)?{shown.DASH}', page)) == 8
    )
    assert "None" not in page


def test_a_failed_row_gives_its_reason_across_the_numbers() -> None:
    reason = '<td class="reason" data-column="status" colspan="6">failed: the loss became NaN</td>'
    assert reason in render(comparison())
    assert "1 row failed." in render(comparison())


def test_a_run_in_which_everything_failed_still_has_a_page() -> None:
    assert "failed: the loss became NaN" in render(comparison(FAILED, oracle=None))


@pytest.mark.parametrize("verdict", ["reproduced", "better", "differs"])
def test_a_published_figure_stands_beside_ours_with_a_verdict(verdict: str) -> None:
    figure = {"value": 8.01, "ours": 8.0, "measure": "perplexity", "source": "003", "tolerance": 0.005}
    page = render(comparison(ROW | {"published": [figure | {"verdict": verdict}]}))
    assert f"perplexity 8.01 in 003, ours 8: {verdict}" in page


def test_the_best_static_row_is_marked_and_nothing_else() -> None:
    adaptive = GPT | {"model": "cache", "category": "online", "bits_per_byte": 1.0}
    oracle = ROW | {"model": "oracle", "family": "oracle", "category": "oracle", "bits_per_byte": 0.81}
    assert of_rows.best_of([ROW, GPT, adaptive, oracle, FAILED]) is GPT
    assert render(comparison(ROW, GPT, adaptive, oracle)).count('<tr class="best"') == 1


def test_a_row_of_an_undescribed_corpus_is_not_lost_in_silence() -> None:
    with pytest.raises(AssertionError, match="corpus is described"):
        render(comparison(ROW | {"corpus": "other"}))


def test_a_corpus_without_an_oracle_says_so() -> None:
    page = render(comparison(ROW | {"excess_bits_per_byte": None}, oracle=None))
    assert "not known" in page and "over oracle" not in page


def test_the_newlines_of_a_sample_are_kept() -> None:
    samples = [{"temperature": 1.0, "text": "\n\nafter two"}]
    assert '<pre class="sample">\n\n\nafter two</pre>' in render(comparison(ROW | {"samples": samples}))


def test_samples_stand_under_their_temperature_where_there_are_several() -> None:
    samples = [{"temperature": heat, "text": f"drawn at {heat}"} for heat in (0.5, 0.5, 1.5)]
    page = render(comparison(ROW | {"samples": samples}))
    assert page.count("Temperature ") == 2 and page.index("Temperature 0.5") < page.index("drawn at 0.5")
    assert page.index("drawn at 0.5") < page.index("Temperature 1.5") < page.index("drawn at 1.5")
    assert "Temperature " not in render(comparison(ROW | {"samples": samples[:2]}))


# Sweeps, and what others printed

CELL = {key: ROW[key] for key in ("corpus", "split", "tokenizer", "model", "bits_per_byte", "perplexity")}
CELL |= {"bits_per_byte_std": None, "nats_per_character": 1.0, "parameters": 77}
FIGURE: dict[str, Any] = {
    **{"corpus": "fables", "tokenizer": "char", "model": "bigram", "split": "test", "measure": "perplexity"},
    **{"value": 434.0, "tolerance": 0.5, "source": "Post (2025)", "claim": None, "setup": "Plain SGD.", "ours": 431.25},
    **{"because": "It is worse than guessing.", "impossible": False, "verdict": "better"},
}
CLAIM = FIGURE | dict.fromkeys(("corpus", "model", "split", "measure", "value", "tolerance", "ours", "setup"))
CLAIM |= {"claim": "65B on a CPU", "verdict": "not run"}


def swept(*values: Any) -> dict[str, Any]:
    rows = [{"activation": value, **CELL, "bits_per_byte": 2.5 - place} for place, value in enumerate(values)]
    sweep = {"name": "mlp", "section": "models", "keys": ["activation"], "rows": rows}
    return comparison() | {"sweeps": [sweep]}


def test_a_sweep_has_a_figure_a_sentence_and_a_table() -> None:
    page = render(swept("tanh", "relu"))
    assert "mlp: bits per byte over activation" in page and "the lowest point is 1.500 at activation relu" in page
    assert re.search(r"<tr class=best>\s*<td>relu</td>", page) and "<td>tanh</td>" in page


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_word_in_a_sweep_is_text_and_nothing_else(word: str) -> None:
    wild, tame = (Page(render(swept(*words))) for words in ([word, "b"], ["a", "b"]))
    assert wild.tags == tame.tags and tables.sweep_files(swept(word))["sweeps/mlp.csv"].encode()


def test_a_page_without_sweeps_or_published_figures_has_no_such_sections() -> None:
    page = Page(render(comparison()))
    assert not {("id", "sweeps"), ("id", "published")} & set(page.attributes)


def test_what_others_printed_closes_the_page_with_ours_a_verdict_and_why() -> None:
    page = render(comparison() | {"published": [FIGURE, CLAIM]})
    for part in (
        "perplexity of bigram, fables, test",
        "Plain SGD.",
        ">434\n",
        ">431.25<",
        '<b class="good">better</b>',
    ):
        assert part in page
    assert "It is worse than guessing." in page and "65B on a CPU" in page and '<b class="soft">not run</b>' in page


def test_parameters_are_written_whole() -> None:
    figure = FIGURE | {"measure": "parameters", "value": 10745088, "ours": 175767}
    assert (shown.value(figure), shown.value(figure, "ours")) == ("10,745,088", "175,767")


def test_markdown_has_what_others_printed_as_a_second_table() -> None:
    _, table = tables.table_markdown(comparison() | {"published": [FIGURE, CLAIM]}).split(
        "Published against reproduced"
    )
    assert "| perplexity of bigram, fables, test | Plain SGD. | 434 (Post (2025)) | 431.25 | better |" in table
    assert "| 65B on a CPU | – | – (Post (2025)) | – | not run | It is worse than guessing. |" in table
    assert "Published against" not in tables.table_markdown(comparison())


# Numbers


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (shown.decimal(None), "–"),
        (shown.decimal(1234.5, 2), "1,234.50"),
        (shown.decimal(-0.25), "−0.250"),
        (shown.decimal(-0.00001), "0.000"),
        (shown.decimal(1.5e30), "1.50e+30"),
        (shown.count(812345), "812,345"),
        (shown.count(124439808), "124.44 M"),
        (shown.duration(0.017), "0.02 s"),
        (shown.duration(59.97), "1 min 00 s"),
        (shown.duration(11100), "3 h 05 min"),
        (of_rows.told(False), "no"),
        (of_rows.told(1), "1"),
        (of_rows.told(0.001), "0.001"),
    ],
)
def test_a_number_is_written_for_people(written: str, wanted: str) -> None:
    assert written == wanted


# The tables


def test_markdown_takes_no_commands_from_a_name() -> None:
    line = tables.table_markdown(comparison(ROW | {"title": "a|b`c\n<d>\x1b"})).splitlines()[2]
    assert r"| a\|b\`c \<d>\x1b".replace(r"\x1b", r"\\x1b") in line
    assert len(re.findall(r"(?<!\\)\|", line)) == 11


def test_markdown_shows_failures_and_the_best() -> None:
    table = tables.table_markdown(comparison())
    assert "| **1.500** |" in table and "| failed: the loss became NaN |" in table


def test_markdown_holds_no_timings() -> None:
    assert tables.table_markdown(comparison()) == tables.table_markdown(
        comparison(*({**row, "fit_seconds": 99.0} for row in (ROW, GPT, FAILED)))
    )


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_nothing(text: str) -> None:
    cells = next(csv.DictReader(io.StringIO(tables.table_csv(comparison(ROW | {"title": text})))))
    assert cells["title"] == "'" + shown.visible(text)


def test_csv_keeps_our_own_numbers_whole_and_timings_last() -> None:
    table = tables.table_csv(comparison(ROW | {"excess_bits_per_byte": -0.0123456789, "parameters": None}))
    cells = next(csv.DictReader(io.StringIO(table)))
    assert (cells["excess_bits_per_byte"], cells["parameters"]) == ("-0.0123456789", "")
    assert list(cells)[-2:] == ["fit_seconds", "score_seconds"]


def test_the_terminal_gets_no_commands_and_at_most_100_columns() -> None:
    rows = [ROW | {"title": "a very long title " * 5 + text, "model": "m" * 64} for text in [*HOSTILE, "[red]:smile:"]]
    table = tables.table_terminal(comparison(*rows, FAILED | {"status": "failed: " + "[bold]\x1b[2J" * 20}))
    assert max(map(len, table.splitlines())) <= 100
    assert shown.visible(table) == table and "\x1b" not in table


def test_the_terminal_names_what_failed() -> None:
    assert "char, lstm: failed: the loss became NaN" in tables.table_terminal(comparison())


# The figures


def drawn(rows: list[dict[str, Any]], oracle: Any = None) -> str:
    return ladder.ladder(rows, oracle).svg()


@pytest.mark.parametrize(
    "label", [r"$\frac{$", "$x$", "<script>1</script> & co", "日本語", ' style="fill: red" id="x" href="#x" #010203']
)
def test_a_label_is_drawn_as_it_is(label: str) -> None:
    rows = [ROW | {"title": label, "tokenizer": label}, GPT | {"title": label, "corpus": label}]
    for svg in (drawn(rows), learning.curves(rows).svg(), ladder.fronts(rows, None)["parameters"].svg()):
        assert label in Page(svg).texts["text"]
        assert "<script" not in svg


def test_a_figure_is_the_same_bytes_each_time() -> None:
    once, again = (dict(catalogue.files(comparison())) for _ in range(2))
    assert once == again and {name.rpartition(".")[2] for name in once} == {"svg", "png", "pdf"}


def test_every_figure_has_a_title_and_a_sentence() -> None:
    told = catalogue.drawings(large(corpora=1, configs=4))
    assert {name.split("/")[0] for name in told} == {"ladder", "fronts", "position", "learning", "estimation"}
    assert all(each.title and each.sentence.endswith(".") for each in told.values())


def test_the_oracle_is_the_floor_of_the_ladder() -> None:
    assert "oracle, 0.81" in drawn([ROW, XZ], ORACLE)
    assert "oracle" not in drawn([ROW])


def test_without_an_oracle_the_best_compressor_is_the_floor() -> None:
    worse = XZ | {"title": "gzip -9, alone", "bits_per_byte": 2.4}
    assert "xz -9e, alone, 2.20" in drawn([ROW, worse, XZ]) and "gzip" not in drawn([ROW, worse, XZ])


def test_with_nothing_to_draw_there_is_no_figure() -> None:
    assert ladder.ladder([FAILED], ORACLE) is learning.curves([ROW]) is learning.by_position([ROW]) is None
    assert learning.curve(ROW) is None and ladder.fronts([FAILED, ROW], None) == {}


def test_a_curve_may_have_gaps() -> None:
    gap = CURVE[0] | {"train": None, "valid": None}
    assert "<svg" in learning.curves([GPT | {"curve": [gap, *CURVE]}]).svg()
    assert "<svg" in learning.curve(GPT | {"curves": [[gap, *CURVE]]}).svg()


def test_seeds_are_a_band_about_their_mean() -> None:
    wide = [point | {"train": point["train"] + 1} for point in CURVE]
    one, two = (learning.curve(GPT | {"curves": curves}) for curves in ([CURVE], [CURVE, wide]))
    assert "holds all 2 seeds" in two.sentence and "band" not in one.sentence
    assert len(two.figure.axes[0].collections) == 1 and not one.figure.axes[0].collections
    assert list(two.figure.axes[0].lines[0].get_ydata()) == [4.5, 2.5]


def test_the_valid_curve_is_a_perplexity() -> None:
    assert list(learning.curve(GPT).figure.axes[1].lines[0].get_ydata()) == pytest.approx([math.exp(5), math.exp(2.5)])


def test_an_interval_takes_the_place_of_the_spread() -> None:
    rows = [GPT | {"interval": [1.4, 1.7]}, GPT, ROW]
    below, above = drawing.error_bars(rows)
    assert (below[:2], above[:2]) == (pytest.approx([0.1, 0.01]), pytest.approx([0.2, 0.01]))
    assert math.isnan(below[2]) and drawing.error_bars([ROW]) is None


def test_nobody_on_the_front_is_beaten() -> None:
    dice = random.Random(3)
    points = [(dice.randint(1, 30), dice.randint(1, 30)) for _ in range(200)]
    front = ladder.pareto(points)
    beaten = [
        any(c <= points[at][0] and b <= points[at][1] and (c, b) != points[at] for c, b in points) for at in front
    ]
    assert not any(beaten) and {points[at] for at in front} == {p for p in points if not _beaten(p, points)}


def _beaten(point: tuple[int, int], points: list[tuple[int, int]]) -> bool:
    return any(c <= point[0] and b <= point[1] and (c, b) != point for c, b in points)


def test_what_has_no_cost_is_named_under_the_front() -> None:
    free = ROW | {"title": "Uniform", "parameters": 0}
    assert "not drawn: Uniform." in ladder.fronts([free, ROW, GPT], None)["parameters"].sentence


@pytest.mark.parametrize(
    ("measure", "value", "bits"),
    [
        ("perplexity", 8.0, 3.0),
        ("nats_per_token", 2.0794415, 3.0),
        ("nats_per_character", 2.0794415, 3.0),
        ("bits_per_byte", 3.0, 3.0),
        ("accuracy", 0.5, None),
    ],
)
def test_a_published_figure_is_marked_where_its_measure_fits_the_axis(measure: str, value: float, bits: Any) -> None:
    found = of_rows.in_bits_per_byte({"measure": measure, "value": value}, ROW)
    assert found == (bits and pytest.approx(bits))


def test_two_models_of_one_model_are_told_apart() -> None:
    texts = Page(drawn([GPT, GPT | {"model": "gpt-wide"}])).texts["text"]
    assert "GPT" in texts and "GPT (gpt-wide)" in texts


def test_what_learns_while_it_is_scored_has_a_line_of_its_own() -> None:
    rows = [ROW, GPT | {"category": "online"}]
    assert ">tokens: char<" in drawn(rows) and ">tokens: char, adaptive<" in drawn(rows)
    assert "to 3.00" in ladder.ladder(rows, None).sentence


# What surprises a model


def test_the_nats_of_a_piece_are_spread_over_its_characters() -> None:
    assert [word.told for word in passages.words([["the", 3.0], [" ", 0.5], ["fox", 0.3]])] == [
        "3.00 nats",
        "0.50 nats",
        "0.30 nats",
    ]
    assert passages.strip([["the", 3.0], ["x", 0.0]]) == [(3, "the"), (0, "x")]


@pytest.mark.parametrize(("nats", "level"), [(0.0, 0), (0.1, 1), (0.99, 2), (1.0, 3), (3.9, 4), (40.0, 5), (None, 5)])
def test_a_level_is_six_steps_of_nats(nats: float | None, level: int) -> None:
    assert passages.level(nats) == level


def test_a_passage_shows_what_cannot_be_seen() -> None:
    runs = [text for word in passages.words([["a\n", 0.0], ["", 0.0], ["\x1b", 0.0]]) for _, text in word.runs]
    assert "".join(runs) == "a↵\n∎\\x1b"


def test_the_passage_of_the_page_is_the_text_and_its_signs() -> None:
    page = Page(render(comparison(ROW)))
    assert "".join(page.texts["i"]).count("fox") == 2 and ("title", "4.50 nats") in page.attributes


# The table of all rows


def test_a_column_that_nobody_fills_is_left_out() -> None:
    keys = [column.key for column in columns.table("default", [ROW | {"excess_bits_per_byte": None}]).columns]
    assert "interval" not in keys and "excess_bits_per_byte" not in keys and "bits_per_byte" in keys


def test_a_row_names_the_files_it_was_read_from() -> None:
    folder = "results/default/fables/char/gpt"
    assert columns.files("default", GPT)[3:] == [
        f"{folder}/seed1/{name}" for name in ("fit.json", "scores.safetensors", "evaluation.json")
    ]
    assert columns.files("default", SOURCE) == ["results/default/fables/oracle/scores.safetensors"]
    assert columns.files("default", XZ) == ["results/default/fables/compressors.json"]


def test_an_ensemble_names_the_files_of_its_members() -> None:
    row = GPT | {"model": "gpt_ensemble", "ensemble_of": "gpt"}
    assert columns.files("default", row) == columns.files("default", GPT)


def test_neighbours_are_marked_as_different_or_perhaps_not() -> None:
    below = {"model": "bigram", "tokenizer": "char", "difference": -1.5, "interval": [-1.6, -1.4], "p_holm": 0.0001}
    page = render(comparison(ROW, GPT | {"below": below | {"differs": True}}))
    assert '<b class="good">yes</b>' in page and "&lt; 0.001" in page and "[−1.600, −1.400]" in page
    assert "may be chance" in render(comparison(ROW, GPT | {"below": below | {"differs": False}}))


def test_the_tables_can_be_taken_from_the_page() -> None:
    taken = dict(re.findall(r'download="(.*?)" href="data:[^,]*;base64,(.*?)"', render(comparison())))
    assert base64.b64decode(taken["table.csv"]).decode() == tables.table_csv(comparison())
    assert base64.b64decode(taken["table.tex"]).decode() == tables.table_latex(comparison())


# LaTeX


def test_latex_takes_no_commands_from_a_name() -> None:
    line = tables.table_latex(comparison(ROW | {"title": r"a_b\c{d}$e&f%g#h~i^j"})).splitlines()[7]
    assert r"a\_b\textbackslash{}c\{d\}\$e\&f\%g\#h\textasciitilde{}i\textasciicircum{}j & \textbf{3.000}" in line


@pytest.mark.parametrize("text", HOSTILE)
def test_braces_of_latex_stay_paired(text: str) -> None:
    table = tables.table_latex(comparison(ROW | {"title": text})).replace(r"\{", "").replace(r"\}", "")
    assert table.count("{") == table.count("}") and all(
        ord(character) >= 32 or character == "\n" for character in table
    )


def test_latex_has_a_table_for_every_text_and_the_best_in_bold() -> None:
    table = tables.table_latex(comparison(ROW, GPT, GPT | {"split": "valid"}, FAILED))
    assert table.count(r"\toprule") == table.count(r"\bottomrule") == 2 and table.count(r"\textbf{1.500}") == 2
    rows = [line for line in table.splitlines() if " & " in line]
    assert {line.count(" & ") for line in rows if "multicolumn" not in line} == {5}
    assert r"\multicolumn{4}{l}{failed: the loss became NaN} \\" in table


# What was measured of a text


@pytest.mark.parametrize(
    ("found", "cells"),
    [
        ({"test": {"near": 0.25, "documents": None}}, ["test", "0.25", "–"]),
        ([{"gap": -0.5, "split": "test", "model": "gpt", "interval": [-1.0, 0.0]}], ["gpt", "test", "−0.5", "[−1, 0]"]),
        ({"near": 0.125}, ["near", "0.125"]),
    ],
)
def test_what_was_measured_of_a_text_is_a_table(found: Any, cells: list[str]) -> None:
    content = comparison()
    content["corpora"]["fables"]["overlap"] = found
    table = render(content).split("Overlap of held-out text with train")[2].split("</table>")[0]
    assert re.findall(r"<td>(.*?)</td>", table) == cells


def test_what_was_not_measured_has_no_section() -> None:
    page = render(comparison())
    assert not [title for title in ("Overlap of", "Near transfer", "What is new", "Loss against") if title in page]


def test_stress_and_names_of_a_docstring_are_set_as_such() -> None:
    page = render(comparison(ROW | {"adds": "Adds *San* and ``order``: a <b>. More *of* it."}))
    assert "Adds <em>San</em> and <code>order</code>: a &lt;b&gt;." in page and "<p>More <em>of</em> it.</p>" in page
