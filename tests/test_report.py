"""The report shows what it was given, and only shows it."""

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from comparisons import (
    FAILED,
    GPT,
    HOSTILE,
    MEASURED,
    PUBLISHED,
    ROW,
    SOURCE,
    XZ,
    a_results_folder,
    a_row_of,
    described,
    rendered,
)

from lmstages.core.visible import all_visible, visible
from lmstages.report import columns, display, entries, grids, pairs, passages, samples, tables
from lmstages.report.embedded import Figures
from lmstages.report.files import files
from lmstages.results import formatting, schema
from lmstages.results.frame import Results
from lmstages.results.schema import Result


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


@pytest.fixture
def results(tmp_path: Path) -> Callable[..., Results]:
    """Rows and tables -> a results folder of their own."""
    numbers = count()
    return lambda *rows, **content: a_results_folder(tmp_path / f"run{next(numbers)}", *rows, **content)


@pytest.fixture
def page(results: Callable[..., Results]) -> Callable[..., str]:
    """Rows and tables -> their page."""
    return lambda *rows, **content: rendered(results(*rows, **content))


Folder = Callable[..., Results]
Render = Callable[..., str]


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
    assert visible(text) == wanted


def test_every_text_of_a_row_and_of_json_is_made_visible() -> None:
    assert all_visible(replace(ROW, title="a\x1b")).title == r"a\x1b"
    assert all_visible({"\x00": ["\x1b", 1, None]}) == {r"\x00": [r"\x1b", 1, None]}


@pytest.mark.parametrize("sample", HOSTILE)
def test_a_hostile_sample_is_text_and_nothing_else(page: Render, sample: str) -> None:
    wild = Page(page(ROW, samples=[{"temperature": 1.0, "text": sample}]))
    assert wild.tags == Page(page(ROW)).tags
    assert "".join(wild.texts["pre"]).lstrip("\n").startswith(visible(sample))


@pytest.mark.parametrize("key", ["title", "adds", "source", "model", "tokenizer", "protocol", "device"])
def test_a_hostile_name_is_text_and_nothing_else(page: Render, key: str) -> None:
    tame, wild = (Page(page(replace(ROW, **{key: text}))) for text in ("tame", "\" x='1'><script>1</script>"))
    assert wild.tags == tame.tags
    assert [name for name, _ in wild.attributes] == [name for name, _ in tame.attributes]


def test_hostile_hyperparameters_and_inputs_are_text_and_nothing_else(page: Render) -> None:
    wild = replace(ROW, hyperparameters=json.dumps({"a": "\x1b<b>"}), inputs=json.dumps({"<i>\x00": "1"}))
    assert r"\x1b&lt;b&gt;" in page(wild) and r"&lt;i&gt;\x00: 1" in page(wild)


def test_the_page_can_be_written_as_utf8_whatever_was_sampled(page: Render) -> None:
    assert page(ROW, samples=[{"temperature": 1.0, "text": text} for text in HOSTILE]).encode()


# The page


def test_the_page_asks_for_nothing_from_anywhere(page: Render) -> None:
    html = page()
    assert not re.search(r"https?:|//[a-z]|\ssrc=|@import|url\((?!#)", html)
    assert not {"link", "img", "iframe", "object", "base"} & set(Page(html).tags)


def test_the_policy_admits_exactly_the_style_and_script_of_the_page(page: Render) -> None:
    html = page()
    parsed = Page(html)
    for tag in ("style", "script"):
        assert parsed.tags.count(tag) == 1
        inline = html.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        pin = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{pin}'" in html
    assert "unsafe" not in html and not [
        name for name, _ in parsed.attributes if name == "style" or name.startswith("on")
    ]


def test_the_same_results_are_the_same_page(page: Render) -> None:
    assert page() == page()


def test_no_two_things_of_a_page_share_a_name(page: Render) -> None:
    names = [value for name, value in Page(page()).attributes if name == "id"]
    assert len(names) == len(set(names))


def test_no_number_is_a_dash(page: Render) -> None:
    html = page(GPT, replace(ROW, **dict.fromkeys(MEASURED)))
    dashes = rf'<td class="number[a-z ]*" data-column="[a-z_]*" data-value="">(<b>)?{formatting.DASH}'
    assert len(re.findall(dashes, html)) == 8
    assert "None" not in html


def test_an_infinite_number_is_shown_and_sorted_as_one(page: Render) -> None:
    html = page(GPT, replace(ROW, bits_per_byte=float("inf"), perplexity=float("inf"), excess_bits_per_byte=None))
    assert 'data-column="bits_per_byte" data-value="Infinity"><b>∞</b>' in html
    assert "inf" not in re.findall(r'data-value="(.*?)"', html) and ">nan<" not in html


def test_a_failed_row_gives_its_reason_across_the_numbers(page: Render) -> None:
    reason = '<td class="reason" data-column="status" colspan="6">failed: the loss became NaN</td>'
    assert reason in page()
    assert "1 row failed." in page()


def test_a_run_in_which_everything_failed_still_has_a_page(page: Render) -> None:
    assert "failed: the loss became NaN" in page(FAILED, corpora=described("fables", oracle=None))


def test_a_run_without_rows_still_has_a_page(page: Render) -> None:
    assert "All rows" in page(corpora=[])


@pytest.mark.parametrize("verdict", ["reproduced", "better", "differs"])
def test_a_published_figure_stands_beside_ours_with_a_verdict(page: Render, verdict: str) -> None:
    html = page(ROW, published=[replace(PUBLISHED, verdict=verdict)])
    assert f"perplexity 8.01 in 003, ours 8: {verdict}" in html


def test_the_best_static_row_is_marked_and_nothing_else(page: Render) -> None:
    online = replace(GPT, model="cache", category="online", bits_per_byte=1.0)
    oracle = replace(ROW, model="oracle", family="oracle", category="oracle", bits_per_byte=0.81)
    assert entries.best_static([ROW, GPT, online, oracle, FAILED]) is GPT
    assert page(ROW, GPT, online, oracle).count('<tr class="best"') == 1


def test_a_row_of_an_undescribed_corpus_is_not_lost_in_silence(page: Render) -> None:
    with pytest.raises(AssertionError, match="corpus is described"):
        page(replace(ROW, corpus="other"))


def test_a_corpus_without_an_oracle_says_so(page: Render) -> None:
    html = page(replace(ROW, excess_bits_per_byte=None), corpora=described("fables", oracle=None))
    assert "not known" in html and "over oracle" not in html


def test_the_newlines_of_a_sample_are_kept(page: Render) -> None:
    samples = [{"temperature": 1.0, "text": "\n\nafter two"}]
    assert '<pre class="sample">\n\n\nafter two</pre>' in page(ROW, samples=samples)


def test_samples_stand_under_their_temperature_where_there_are_several(page: Render) -> None:
    samples = [{"temperature": heat, "text": f"drawn at {heat}"} for heat in (0.5, 0.5, 1.5)]
    html = page(ROW, samples=samples)
    assert html.count("Temperature ") == 2 and html.index("Temperature 0.5") < html.index("drawn at 0.5")
    assert html.index("drawn at 0.5") < html.index("Temperature 1.5") < html.index("drawn at 1.5")
    assert "Temperature " not in page(ROW, samples=samples[:2])


def test_the_report_is_four_files(results: Folder) -> None:
    assert list(files(results())) == ["report.html", "table.md", "table.tex", "samples.md"]


def test_the_report_closes_with_estimation_only_where_asked(page: Render) -> None:
    shown, hidden = (page(corpora=[], estimation=estimation) for estimation in (True, False))
    assert '<section class="corpus" id="estimation">' in shown and "10.00 G" in shown
    assert 'id="estimation"' not in hidden


# Figures, which the page embeds

OF_MODEL = {"corpus": "fables", "tokenizer": "char", "model": "gpt"}


def test_a_figure_is_embedded_once_where_its_group_belongs(page: Render) -> None:
    groups = {
        "ladder": {"corpus": "fables", "split": "test"},
        "compute": {"corpus": "fables", "split": "test"},
        "transfer": {"corpus": "fables", "split": "test"},
        "never_heard_of": {"corpus": "fables", "tokenizer": "char"},
        "attention": OF_MODEL,
        "learning_of_model": OF_MODEL,
    }
    html = page(figures=[{"figure": name, "group": group} for name, group in groups.items()])
    order = ("ladder", "compute", "transfer", "never_heard_of", "learning_of_model", "attention")
    places = [html.index(f"What {name} shows.") for name in order]
    assert places == sorted(places) and all(html.count(f"What {name} shows.") == 1 for name in order)
    assert places[3] < html.index('id="models"') < html.index('id="model-gpt"') < places[4]


def test_an_embedded_figure_has_no_address_and_its_caption_is_text(page: Render) -> None:
    figure = {"figure": "ladder", "group": {"corpus": "fables", "split": "test"}, "caption": "<b>\x1b"}
    html = page(figures=[figure])
    assert "xmlns" not in html and r"<figcaption>&lt;b&gt;\x1b</figcaption>" in html


def test_a_figure_of_another_corpus_stands_in_no_chapter(page: Render) -> None:
    assert "What ladder shows." not in page(figures=[{"figure": "ladder", "group": {"corpus": "x", "split": "test"}}])


def test_the_ladder_in_two_orders_is_one_open_and_one_closed_part_of_a_name(page: Render) -> None:
    group = {"corpus": "fables", "split": "test"}
    both = [{"figure": name, "group": group} for name in ("ladder", "ladder_by_bits")]
    html = page(figures=both)
    names = re.findall(r'<details class="order" name="([^"]+)"( open)?>', html)
    assert [is_open for _, is_open in names] == [" open", ""] and len({name for name, _ in names}) == 1
    assert html.index("In the order of the ladder") < html.index("Sorted by bits per byte")
    assert 'class="order"' not in page(figures=both[:1]), "one drawing alone needs no choice"


def test_a_damaged_figure_is_not_shown(results: Folder) -> None:
    made = results()
    next((made.folder / "figures/ladder").glob("*.svg")).write_text("<svg/>")
    with pytest.raises(Exception, match="its sha256 is"):
        Figures.open(made.folder / "figures")


def test_a_page_without_an_inspection_says_nothing_of_one(page: Render) -> None:
    assert "What it holds" not in page(ROW)


# Sweeps, and what others printed

CLAIM = replace(PUBLISHED, **dict.fromkeys(("corpus", "tokenizer", "model", "split", "measure", "value", "tolerance")))
CLAIM = replace(CLAIM, claim="65B on a CPU", ours=None, verdict="not run", source="Post (2025)")
CLAIM = replace(CLAIM, because="It is worse than guessing.")
FIGURE = replace(PUBLISHED, value=434.0, tolerance=0.5, source="Post (2025)", ours=431.25, setup="Plain SGD.")
FIGURE = replace(FIGURE, because="It is worse than guessing.", verdict="better")


def swept(*values: Any) -> dict[str, Any]:
    """A sweep of ``activation``, each value better than the one before, and its figure."""
    shared = {"sweep": "mlp", "section": "models", "keys": '["activation"]', "bits_per_byte_low": None}
    points = [
        a_row_of("sweeps", **shared, values=json.dumps([value]), bits_per_byte=2.5 - number)
        for number, value in enumerate(values)
    ]
    caption = "the lowest point is 1.500 at activation relu"
    return {"sweeps": points, "figures": [{"figure": "sweeps", "group": {"sweep": "mlp"}, "caption": caption}]}


def test_a_sweep_has_a_figure_a_sentence_and_a_table(page: Render) -> None:
    html = page(**swept("tanh", "relu"))
    assert "mlp: bits per byte over activation" in html and "the lowest point is 1.500 at activation relu" in html
    assert re.search(r"<tr class=best>\s*<td>relu</td>", html) and "<td>tanh</td>" in html


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_word_in_a_sweep_is_text_and_nothing_else(page: Render, word: str) -> None:
    wild, tame = (Page(page(**swept(*words))) for words in ([word, "b"], ["a", "b"]))
    assert wild.tags == tame.tags


def test_a_page_without_sweeps_or_published_figures_has_no_such_sections(page: Render) -> None:
    assert not {("id", "sweeps"), ("id", "published")} & set(Page(page()).attributes)


def test_what_others_printed_closes_the_page_with_ours_a_verdict_and_why(page: Render) -> None:
    html = page(published=[FIGURE, CLAIM])
    for part in (
        "perplexity of Bigram, fables, test",
        "Plain SGD.",
        ">434\n",
        ">431.25<",
        '<b class="good">better</b>',
    ):
        assert part in html
    assert "It is worse than guessing." in html and "65B on a CPU" in html and '<b class="soft">not run</b>' in html


def test_parameters_are_written_whole() -> None:
    figure = replace(FIGURE, measure="parameters", value=10745088, ours=175767)
    assert (formatting.published_value(figure), formatting.our_value(figure)) == ("10,745,088", "175,767")


def test_markdown_has_what_others_printed_as_a_second_table(results: Folder) -> None:
    _, table = tables.table_markdown(results(published=[FIGURE, CLAIM])).split("Published against reproduced")
    assert "| perplexity of bigram, fables, test | Plain SGD. | 434 (Post (2025)) | 431.25 | better |" in table
    assert "| 65B on a CPU | – | – (Post (2025)) | – | not run | It is worse than guessing. |" in table
    assert "Published against" not in tables.table_markdown(results())


# Numbers


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (formatting.decimal(None), "–"),
        (formatting.decimal(1234.5, 2), "1,234.50"),
        (formatting.decimal(-0.25), "−0.250"),
        (formatting.decimal(-0.00001), "0.000"),
        (formatting.decimal(1.5e30), "1.50e+30"),
        (formatting.decimal(float("inf")), "∞"),
        (formatting.decimal(float("-inf")), "−∞"),
        (formatting.count(812345), "812,345"),
        (formatting.count(124439808), "124.44 M"),
        (formatting.count(1.59765e12), "1.60 T"),
        (formatting.count(3e18), "3.00 E"),
        (formatting.count(1.5e30), "1.50e+30"),
        (formatting.count(float("inf")), "∞"),
        (formatting.duration(0.017), "0.02 s"),
        (formatting.duration(59.97), "1 min 00 s"),
        (formatting.duration(11100), "3 h 05 min"),
        (formatting.duration(float("inf")), "∞"),
        (formatting.interval((1.0, float("inf"))), "[1.000, ∞]"),
        (formatting.significant(0.0123456), "0.0123"),
        (formatting.significant(98.76), "98.8"),
        (formatting.significant(100.0), "100"),
        (formatting.significant(-0.5), "−0.500"),
        (formatting.significant(0.0000123), "1.23e−05"),
        (formatting.in_words(False), "no"),
        (formatting.in_words(1), "1"),
        (formatting.in_words(0.001), "0.001"),
    ],
)
def test_a_number_is_written_for_people(written: str, wanted: str) -> None:
    assert written == wanted


# The tables


def test_markdown_takes_no_commands_from_a_name(results: Folder) -> None:
    line = tables.table_markdown(results(replace(ROW, title="a|b`c\n<d>\x1b"))).splitlines()[2]
    assert r"| a\|b\`c \<d>\x1b".replace(r"\x1b", r"\\x1b") in line
    assert len(re.findall(r"(?<!\\)\|", line)) == 11


def test_markdown_shows_failures_and_the_best(results: Folder) -> None:
    table = tables.table_markdown(results())
    assert "| **1.500** |" in table and "| failed: the loss became NaN |" in table


def test_markdown_holds_no_timings(results: Folder) -> None:
    slower = (replace(row, fit_seconds=99.0) for row in (ROW, GPT, FAILED))
    assert tables.table_markdown(results()) == tables.table_markdown(results(*slower))


def test_markdown_of_no_rows_is_a_head() -> None:
    frame = display.display_frame([], display.MARKDOWN)
    assert tables.markdown(frame, ("corpus",)).splitlines()[1].count("--:") == 8


def test_a_changed_figure_changes_one_line_of_markdown(results: Folder) -> None:
    before, after = (
        tables.table_markdown(results(ROW, replace(GPT, perplexity=perplexity))).splitlines()
        for perplexity in (2.83, 123456.0)
    )
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, False, False, True]


def test_names_say_a_category_that_is_not_usual() -> None:
    assert display.qualified_name(replace(ROW, category="online")) == "Bigram [online]"
    assert display.qualified_name(replace(ROW, model="b2")) == "Bigram (b2)"
    assert display.qualified_name(replace(ROW, model="bigram_online", category="online")) == "Bigram, online"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_nothing(results: Folder, text: str) -> None:
    cells = next(csv.DictReader(io.StringIO(tables.table_csv(results(replace(ROW, title=text))))))
    assert cells["title"] == "'" + visible(text).replace("\t", "\\t")  # a cell is one line without tabs


def test_csv_keeps_our_own_numbers_whole_and_timings_last(results: Folder) -> None:
    table = tables.table_csv(results(replace(ROW, excess_bits_per_byte=-0.0123456789, parameters=None)))
    cells = next(csv.DictReader(io.StringIO(table)))
    assert (cells["excess_bits_per_byte"], cells["parameters"]) == ("-0.0123456789", "")
    assert list(cells)[-3:] == ["fit_seconds", "score_seconds", "tokens_per_second"]


def test_the_terminal_gets_no_commands_and_at_most_100_columns(results: Folder) -> None:
    titles = ["a very long title " * 5 + text for text in [*HOSTILE, "[red]:smile:"]]
    rows = [replace(ROW, title=title, model="m" * 64) for title in titles]
    failed = replace(FAILED, status="failed: " + "[bold]\x1b[2J" * 20)
    table = tables.table_terminal(results(*rows, failed))
    assert max(map(len, table.splitlines())) <= 100
    assert visible(table) == table and "\x1b" not in table


def test_the_terminal_names_what_failed(results: Folder) -> None:
    assert "char, lstm: failed: the loss became NaN" in tables.table_terminal(results())


# Warnings

WARNED = replace(
    GPT,
    warning="Loses to the bigram: by 0.830 bits per byte; try more steps (models.gpt.steps). Valid loss still falls: by"
    " 0.072 bits per byte over the last tenth of the steps; more steps would help (models.gpt.steps).",
)


def test_a_warning_is_named_at_its_row_and_said_whole_where_it_is_opened(page: Render) -> None:
    html = page(ROW, WARNED)
    row = html.split('<tr class="best"')[1].split("</tr>")[0]
    labels = re.findall(r'<small class="where warning">(.*?)</small>', row)
    assert labels == ["Loses to the bigram", "Valid loss still falls"]
    popover, section = html.split('<div popover id="from-2">')[1], html.split('<details id="model-gpt"')[1]
    assert f"<dt>Warning</dt><dd>{WARNED.warning}</dd>" in popover.split("</div>")[0]
    assert f'<p class="warning">{WARNED.warning}</p>' in section.split("</details>")[0]
    assert 'class="warning"' not in page(ROW) and "<dt>Warning" not in page(ROW)


def test_the_terminal_marks_a_row_with_a_warning_and_says_it_once_below(results: Folder) -> None:
    table = tables.table_terminal(results(ROW, WARNED, replace(WARNED, model="wide", title="Wide")))
    assert "GPT * †" in table and "Bigram †" not in table
    words = " ".join(table.split("best static model")[1].split())
    assert words == f"† char, gpt; char, wide: {WARNED.warning}"


def test_markdown_and_latex_mark_a_row_with_a_warning_and_say_it_below(results: Folder) -> None:
    shown = results(ROW, WARNED)
    text = tables.table_markdown(shown)
    assert "| GPT † |" in text and f"\n\n† fables, test, char, gpt: {WARNED.warning}\n" in text
    latex = tables.table_latex(shown)
    assert r"GPT\textsuperscript{\dag} & " in latex and r"\footnotesize \dag\ char, gpt: Loses to the bigram" in latex
    assert "†" not in tables.table_markdown(results(ROW)) and "dag" not in tables.table_latex(results(ROW))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_warning_is_text_and_nothing_else(page: Render, text: str) -> None:
    wild, tame = (Page(page(replace(GPT, warning=warning))) for warning in (text, "tame"))
    assert wild.tags == tame.tags and wild.tags.count("script") == 1


# Samples side by side


def sampled(results: Results, run: str = "default") -> str:
    return samples.samples_markdown(run, entries.entries(results))


def test_samples_stand_by_text_then_temperature_then_up_the_ladder(results: Folder) -> None:
    drawn = [{"temperature": heat, "text": f"drawn at {heat}"} for heat in (1.5, 0.5)]
    other = replace(ROW, tokenizer="bpe")
    text = sampled(results(GPT, ROW, replace(ROW, split="valid"), other, samples=drawn))
    heads = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    models = ["Bigram, 3.000 bits per byte", "GPT, 1.500 bits per byte"]
    assert heads[1:4] == ["fables, tokenizer char", "Temperature 0.5", models[0]]
    assert heads[4:7] == [models[1], "Temperature 1.5", models[0]] and heads[8] == "fables, tokenizer bpe"
    assert text.count("drawn at 0.5") == 3


@pytest.mark.parametrize("sample", [*HOSTILE, "```", "a\n````\nb", "~~~", "`" * 9])
def test_a_sample_stays_within_its_fence(sample: str) -> None:
    fence, *body, close = samples.fenced(visible(sample)).splitlines()
    assert fence == close + "text" and "\n".join(body) == visible(sample)
    assert not any(re.match(rf" {{0,3}}{close}", line) for line in body)


@pytest.mark.parametrize("sample", HOSTILE)
def test_hostile_samples_and_names_in_markdown_are_text(results: Folder, sample: str) -> None:
    text = sampled(results(replace(ROW, title=sample), samples=[{"temperature": 1.0, "text": sample}]), sample)
    assert text.encode() and visible(text) == text
    assert not any("<" in re.sub(r"\\<", "", line) for line in text.splitlines() if line.startswith("#"))


def test_the_page_leads_to_the_samples_only_where_there_are_some(page: Render) -> None:
    assert 'href="samples.md"' in page(ROW) and 'href="samples.md"' not in page(ROW, samples=[])


# What surprises a model


def test_the_nats_of_a_piece_are_spread_over_its_characters() -> None:
    assert [word.nats for word in passages.words([["the", 3.0], [" ", 0.5], ["fox", 0.3]])] == [
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


def test_the_passage_of_the_page_is_the_text_and_its_signs(page: Render) -> None:
    parsed = Page(page(ROW))
    assert "".join(parsed.texts["i"]).count("fox") == 2 and ("title", "4.50 nats") in parsed.attributes


def test_characters_that_were_expected_have_no_mark(page: Render) -> None:
    html = page(ROW, passage=[["ab", 0.0], [" ", 0.0], ["c", 9.0]])
    assert '<span title="0.00 nats">ab</span> <span title="9.00 nats"><i class=n5>c</i></span></pre>' in html


# The table of all rows


def of_rows(results: Folder, *rows: Result) -> columns.Table:
    return columns.table("default", entries.entries(results(*rows)))


def test_a_column_that_nobody_fills_is_left_out(results: Folder) -> None:
    keys = [column.key for column in of_rows(results, replace(ROW, excess_bits_per_byte=None)).columns]
    assert "interval" not in keys and "excess_bits_per_byte" not in keys and "bits_per_byte" in keys


def test_a_row_names_the_files_it_was_read_from() -> None:
    folder = "results/default/fables/char/gpt"
    assert columns.files("default", GPT)[3:] == [
        f"{folder}/seed1/{name}" for name in ("fit.json", "scores.safetensors", "evaluation.json")
    ]
    assert columns.files("default", SOURCE) == ["results/default/fables/oracle/scores.safetensors"]
    assert columns.files("default", XZ) == ["results/default/fables/compressors.json"]


def test_an_ensemble_names_the_files_of_its_members() -> None:
    row = replace(GPT, model="gpt_ensemble", ensemble_of="gpt")
    assert columns.files("default", row) == columns.files("default", GPT)


def test_a_row_names_its_inputs_and_the_command_that_explains_it(page: Render) -> None:
    assert "<dd>code: 0123456789ab<" in page(ROW)
    assert "<code>python -m lmstages explain results/default/fables/char/bigram/seed0</code>" in page(ROW)


def test_operations_are_a_number_with_a_unit_and_costs_say_whose_they_are(page: Render) -> None:
    html = page(replace(GPT, flops=1.59765e12, tokens_seen=1515130))
    cells = re.findall(r'<td[^>]* data-column="(flops|tokens_seen)"[^>]*>([^<]*)', html)
    assert [(key, text.strip()) for key, text in cells] == [("tokens_seen", "1.52 M"), ("flops", "1.60 T")]
    assert html.count("of a row made from other fits, of all of them</small>") == 3


def test_a_click_shows_more_digits_and_both_ends_of_an_interval(page: Render) -> None:
    html = page(replace(ROW, bits_per_byte=3.0123456789, bits_per_byte_low=2.9, bits_per_byte_high=3.1000499))
    assert '<dd data-column="bits_per_byte">3.0123<' in html
    assert '<dd data-column="interval">2.9000 to 3.1000<' in html
    assert '<dd data-column="fit_seconds">12.3400 s (cpu, 1 thread)<' in html


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (2.341234567890123, "2.3412"),
        (-0.5, "−0.5000"),
        (0.001234567, "0.001235"),
        (0.000000123456, "1.235e−07"),
        (0.0, "0.0000"),
        (4225, "4,225"),
        (1234567, "1,234,567"),
        (1.23456e12, "1.235e+12"),
        (float("inf"), "∞"),
        (None, "–"),
    ],
)
def test_a_click_shows_no_more_digits_than_can_be_read(value: float | None, wanted: str) -> None:
    assert columns.digits(value) == wanted


def test_no_number_of_what_a_click_shows_has_more_than_six_digits_in_a_row(page: Render) -> None:
    third = 1 / 3
    measured = dict.fromkeys((name for name, value in MEASURED.items() if isinstance(value, float)), third)
    measured |= {"bits_per_byte_low": third, "bits_per_byte_high": third, "bits_per_byte_std": third / 9}
    measured |= {"below_difference": -third, "below_low": -third, "below_high": -third / 7, "below_p_holm": third / 100}
    measured |= {"unseen_byte_fraction": third, "unseen_bits_per_byte": third, "flops": 1e9 * third}
    measured |= dict.fromkeys(("bits_per_weight", "divergence", "top1_agreement", "tokens_per_second"), third)
    html = page(ROW, replace(GPT, **measured, file_bytes=123456.0))
    facts = re.findall(r'<dd data-column="[a-z0-9_]+">([^<]*)<', html)
    assert len(facts) > 30 and not [fact for fact in facts if re.search(r"\d{7}", fact)]
    assert "−0.3333, interval −0.3333 to −0.04762, p 0.003 (Holm): better" in facts


def test_the_column_of_seeds_counts_them_and_a_click_names_them(page: Render) -> None:
    html = page(replace(GPT, seeds="3 7 9"))
    assert re.search(r'<td class="number more" data-column="seeds" data-value="3">3\s*</td>', html)
    assert '<dd data-column="seeds">3 (seeds 3, 7, 9)<' in html
    assert '<dd data-column="seeds">1 (seed 0)<' in page(ROW)


def test_what_few_rows_have_stands_in_what_a_click_shows(page: Render) -> None:
    html = page(ROW, replace(GPT, made_of="llama", bits_per_weight=4.5, top1_agreement=0.904))
    assert (
        "<dt>Made of, without training</dt>" in html
        and ">4.5000<" in html
        and "Top-1 agreement, %" in html
        and ">90.4<" in html
    )
    assert "<th" not in html.split("Top-1 agreement")[1].split("</table>")[0].split("<dd")[0]


BELOW = {"below_model": "bigram", "below_tokenizer": "char", "below_difference": -1.5}
BELOW |= {"below_low": -1.6, "below_high": -1.4, "below_p_holm": 0.0001}


@pytest.mark.parametrize(
    ("difference", "p", "sign", "colour", "verdict"),
    [
        (-1.5, 0.0001, "−1.500", "good", "better"),
        (1.5, 0.0001, "+1.500", "warn", "worse"),
        (-1.5, 0.05, "−1.500", "soft", "may be chance"),
    ],
)
def test_a_step_is_better_worse_or_may_be_chance(
    page: Render, difference: float, p: float, sign: str, colour: str, verdict: str
) -> None:
    html = page(ROW, replace(GPT, **BELOW | {"below_difference": difference, "below_p_holm": p}))
    assert f'{sign}<b class="verdict {colour}">{verdict}</b>' in html
    assert "[−1.600, −1.400]" in html and html.count('<b class="verdict') == 1


def test_a_step_says_the_title_of_the_model_below_and_not_its_name_in_the_config(page: Render) -> None:
    kneser_ney = replace(ROW, model="kneser_ney", type="kneser_ney", title="Kneser-Ney, modified")
    html = page(kneser_ney, replace(GPT, **BELOW | {"below_model": "kneser_ney"}))
    table = html.split('<table class="sortable steps">')[1].split("</table>")[0]
    assert "<td>Kneser-Ney, modified</td>" in table and "kneser_ney" not in table


# Every two models


def a_difference(a: str, b: str, difference: float = -0.25, p: float = 0.0001, **sides: str) -> Any:
    """A pair of the text ``fables``, test; ``sides`` such as b_corpus."""
    sides = {"a_corpus": "fables", "b_corpus": "fables", "a_tokenizer": "char", "b_tokenizer": "char"} | sides
    numbers = {"difference": difference, "low": difference - 0.125, "high": difference + 0.0625, "p": p, "p_holm": p}
    return a_row_of("differences", corpus=sides["a_corpus"], a_model=a, b_model=b, **sides, **numbers)


MODELS = [
    replace(ROW, model=name, type=name, title=name.upper(), rank=rank, bits_per_byte=3.0 - rank)
    for rank, name in enumerate("abc")
]


def the_squares(results: Folder, *rows: Result, **content: Any) -> list[pairs.Square]:
    made = results(*rows, **content)
    return pairs.Compared(made.rows, made.table("differences")).squares("fables", "test")


def signs(square: pairs.Square) -> list[str]:
    return ["".join(sign or " " for _, sign in line) for line in square.lines]


def test_a_square_says_of_every_two_rows_which_is_better(results: Folder) -> None:
    differences = [a_difference("a", "b", 0.5), a_difference("a", "c", 0.5), a_difference("b", "c", -0.001, p=0.05)]
    (square,) = the_squares(results, *MODELS, differences=differences)
    assert signs(square) == [" ++", "− ·", "−· "]
    assert [kind for kind, _ in square.lines[1]] == ["g", "", "c"]
    assert square.digits.split(";") == [
        "−0.500 −0.562 −0.375 <0.001",
        "−0.500 −0.562 −0.375 <0.001",
        "0.00100 −0.06150 0.12600 0.050",
    ]
    assert (square.pairs, square.sure) == (3, 2)


def test_categories_are_never_set_side_by_side(results: Folder) -> None:
    online = [replace(row, model=f"{row.model}2", category="online", rank=9) for row in MODELS]
    names = [row.model for row in [*MODELS, *online]]
    every = [a_difference(a, b) for index, b in enumerate(names) for a in names[:index]]
    made = the_squares(results, *MODELS, *online, differences=every)
    assert [(square.category, len(square.members)) for square in made] == [("static", 3), ("online", 3)]
    assert "A (a2)" not in [member.name for member in made[0].members]
    assert len(the_squares(results, *MODELS, online[0], differences=every)) == 1, "one row has nobody to differ from"


def test_rows_of_another_corpus_with_the_same_text_stand_in_the_square(results: Folder) -> None:
    other = replace(MODELS[1], corpus="fables-bpe", tokenizer="bpe")
    across = a_difference("a", "b", b_corpus="fables-bpe", b_tokenizer="bpe")
    (square,) = the_squares(
        results, MODELS[0], other, differences=[across], corpora=described("fables") + described("fables-bpe")
    )
    assert [member.name for member in square.members] == ["A, char", "B, bpe"]
    assert [member.full for member in square.members] == ["A (a), char", "B (b), bpe"]


def test_a_square_has_sixty_rows_at_most_and_says_where_all_pairs_are(results: Folder, page: Render) -> None:
    rows = [replace(ROW, model=f"m{n}", type=f"m{n}", rank=n, bits_per_byte=3.0 - n / 100) for n in range(62)]
    differences = [a_difference("m0", f"m{n}") for n in range(1, 62)]
    (square,) = the_squares(results, *rows, differences=differences)
    assert len(square.members) == 60 and square.limit == (60, 62, "tables/differences.parquet")
    assert "Shown are 60 of 62 rows" in page(*rows, differences=differences)


def test_a_square_of_a_page_that_shows_some_rows_holds_only_these(results: Folder) -> None:
    made = results(*MODELS, differences=[a_difference("a", "b"), a_difference("a", "c"), a_difference("b", "c")])
    compared = pairs.Compared(made.rows, made.table("differences"), {row.key for row in MODELS[:2]})
    (square,) = compared.squares("fables", "test")
    assert [member.name for member in square.members] == ["A", "B"] and square.limit[:2] == (2, 3)


def test_the_square_of_a_page_says_the_essentials_without_a_script(page: Render) -> None:
    html = page(*MODELS[:2], differences=[a_difference("a", "b", 0.5)])
    assert "1 of 1 pair differs beyond chance" in html and "the row is better" in html
    assert re.search(r"<i>2</i> B</th><td class=g>−</td><td></td></tr>", html)
    assert 'data-full="B (b)"' in html and 'data-pairs="−0.500 −0.562 −0.375 &lt;0.001"' in html


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_a_square_is_text_and_nothing_else(page: Render, name: str) -> None:
    wild, tame = (
        Page(page(MODELS[0], replace(MODELS[1], title=text), differences=[a_difference("a", "b")]))
        for text in (name, "tame")
    )
    assert wild.tags == tame.tags and visible(f"{name} (b)") in [
        value for key, value in wild.attributes if key == "data-full"
    ]


def test_anchors_are_unique_where_two_splits_show_the_same(page: Render) -> None:
    valid = [replace(row, split="valid") for row in MODELS]
    differences = [a_difference("a", "b"), replace(a_difference("a", "b"), split="valid")]
    sizes = [*described("fables"), replace(described("fables")[0], split="valid")]
    html = page(*MODELS, *valid, differences=differences, corpora=sizes)
    names = [value for name, value in Page(html).attributes if name == "id"]
    assert len(names) == len(set(names)) and {"corpus-1-test-pairs", "corpus-1-valid-pairs"} <= {*names}
    assert ">Which models differ, valid</h3>" in html


def test_a_warning_stands_at_the_row_in_short_and_whole_in_what_a_click_shows_and_in_the_models_section(
    page: Render,
) -> None:
    words = "Valid loss still falls: by 0.07 bits per byte; more steps would help (models.gpt.steps)."
    more = "Loses to the bigram by 0.8 bits per byte: try more steps (models.gpt.steps)."
    html = page(ROW, replace(GPT, warning=f"{words} {more}"))
    assert re.findall(r'<small class="where warning">(.*?)</small>', html) == [
        "Valid loss still falls",
        "Loses to the bigram by 0.8 bits per byte",
    ]
    assert f"<dt>Warning</dt><dd>{words} {more}</dd>" in html and f'<p class="warning">{words} {more}</p>' in html
    assert "warning" not in page(ROW).split("<main>")[1]


# Contents


def test_the_contents_have_every_heading_of_the_page(page: Render) -> None:
    html = page(*MODELS[:2], differences=[a_difference("a", "b")], estimation=True, **swept("tanh", "relu"))
    contents = html.split('<nav id="contents"')[1].split("</nav>")[0]
    headings = re.findall(r'<section class="[^"]*" id="([^"]*)">\s*<h2>(.*?)</h2>|<h3 id="([^"]*)">(.*?)</h3>', html)
    assert re.findall(r'<li><a href="#(.*?)">(.*?)</a>', contents) == [
        (section or part, title or heading) for section, title, part, heading in headings
    ]
    assert {"fables", "Which models differ", "All rows", "Model by model", "Estimation"} <= {
        *re.findall(">([^<]*)</a>", contents)
    }


# Protocols


def test_protocols_stand_under_the_names_only_where_rows_of_one_category_differ_in_them(page: Render) -> None:
    stride = replace(GPT, protocol="stride 32 of 64")
    mixed, alike = page(ROW, stride), page(ROW, GPT)
    assert '<small class="where">stride 32 of 64</small>' in mixed and '<small class="where">stream</small>' in mixed
    assert '<select name="protocol">' in mixed and '<select name="protocol">' not in alike
    assert '<small class="where">stream</small>' not in alike
    assert "of all models alike" in alike and alike.count("all earlier tokens of its document") == 1
    online = replace(GPT, category="online", protocol="whole")
    assert '<small class="where">whole</small>' not in page(ROW, online), "they are not ranked together"


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("stream", "all earlier tokens of its document, as far as the model looks back"),
        ("stride 32 of 64", "windows of 64 tokens that begin 32 apart, each of which scores its last 32"),
        ("disjoint 8", "windows of 8 tokens side by side, and the tokens before it in its window"),
        ("x", ""),
    ],
)
def test_a_protocol_is_explained(protocol: str, words: str) -> None:
    assert columns.history(protocol) == words


def test_the_tables_can_be_taken_from_the_page(results: Folder) -> None:
    made = results()
    taken = dict(re.findall(r'download="(.*?)" href="data:[^,]*;base64,(.*?)"', rendered(made)))
    assert base64.b64decode(taken["table.csv"]).decode() == tables.table_csv(made)
    assert base64.b64decode(taken["table.md"]).decode() == tables.table_markdown(made)
    assert base64.b64decode(taken["table.tex"]).decode() == tables.table_latex(made)


# LaTeX


def test_latex_takes_no_commands_from_a_name(results: Folder) -> None:
    line = tables.table_latex(results(replace(ROW, title=r"a_b\c{d}$e&f%g#h~i^j"))).splitlines()[7]
    assert r"a\_b\textbackslash{}c\{d\}\$e\&f\%g\#h\textasciitilde{}i\textasciicircum{}j & \textbf{3.000}" in line


@pytest.mark.parametrize("text", HOSTILE)
def test_braces_of_latex_stay_paired(results: Folder, text: str) -> None:
    table = tables.table_latex(results(replace(ROW, title=text))).replace(r"\{", "").replace(r"\}", "")
    assert table.count("{") == table.count("}") and all(
        ord(character) >= 32 or character == "\n" for character in table
    )


def test_latex_has_a_table_for_every_text_and_the_best_in_bold(results: Folder) -> None:
    table = tables.table_latex(results(ROW, GPT, replace(GPT, split="valid"), FAILED))
    assert table.count(r"\toprule") == table.count(r"\bottomrule") == 2 and table.count(r"\textbf{1.500}") == 2
    rows = [line for line in table.splitlines() if " & " in line]
    assert {line.count(" & ") for line in rows if "multicolumn" not in line} == {5}
    assert r"\multicolumn{4}{l}{failed: the loss became NaN} \\" in table


# What was measured of a text


def grid_cells(html: str, title: str) -> list[str]:
    """The cells of the table below a heading."""
    table = re.split(rf'<h3 id="[^"]*">{re.escape(title)}</h3>', html)[1].split("</table>")[0]
    return [re.sub(r"<small.*?</small>", "", cell) for cell in re.findall(r"<t[dh] ?[^>]*>(.*?)</t[dh]>", table)]


def test_overlap_is_a_table_in_percent_with_its_measure_below(page: Render) -> None:
    train, test = described("fables")
    measured = replace(test, overlap_near=0.25, overlap_window=50, overlap_measure="Jaccard >= 0.8")
    html = page(corpora=[train, measured])
    assert grid_cells(html, "Overlap of held-out text with train")[-2:] == ["test", "25.0"]
    assert "Near copies<small>%</small>" in html and "Same documents" not in html
    assert "Near copies are those of: Jaccard &gt;= 0.8." in html and "Length of a window" not in html
    windows = page(corpora=[train, replace(measured, overlap_windows=0.5)])
    assert "Length of a window: 50 characters; Near copies are those of: Jaccard &gt;= 0.8." in windows


def test_near_copies_of_a_sample_of_train_are_said_to_be_of_a_sample(page: Render) -> None:
    train, test = described("fables")
    measured = replace(test, overlap_near=0.25, overlap_measure="Jaccard >= 0.8", overlap_near_of_train=0.125)
    sentence = "Near copies were looked for in a sample of train&#39;s documents: 12.5 %."
    assert sentence in page(corpora=[train, measured])
    assert "a sample of train" not in page(corpora=[train, replace(measured, overlap_near_of_train=None)])


TRANSFER = {"couples": 493, "withheld": 107, "sees": 1.0, "seen": 0.8415, "unseen": 0.854, "reference_bits": 2.441}


def test_transfer_is_a_table_with_intervals_and_its_shared_facts_below(page: Render) -> None:
    gap = {"gap_bits": -0.5, "gap_bits_low": -1.0, "gap_bits_high": 0.25, "gap_closed": 0.999}
    rows = [a_row_of("transfer", **TRANSFER | gap), a_row_of("transfer", **TRANSFER, model="bigram", rank=2)]
    html = page(transfer=rows)
    assert grid_cells(html, "Near transfer")[-10:] == [
        *("Bigram", "–", "–", "0.854", "0.842"),
        *("GPT", "−0.50", "99.9", "0.854", "0.842"),
    ]
    assert "[−1.00, 0.25]" in html
    shared = "Gap of counting couples: 2.441 bits/couple; Couples in the text: 493; Withheld from train: 107."
    assert f"Sees the first word: 100.0 %; {shared}" in html


def test_a_model_that_cannot_see_the_first_word_is_named_and_left_out_of_transfer(page: Render) -> None:
    rows = [a_row_of("transfer", **TRANSFER), a_row_of("transfer", **TRANSFER | {"sees": 0.39}, model="bigram", rank=2)]
    html = page(transfer=rows)
    assert "Bigram" not in grid_cells(html, "Near transfer") and "GPT" in grid_cells(html, "Near transfer")
    assert "Left out, since their context is too short to see the first word of most couples: Bigram." in html


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "wanted"),
    [
        (-2.743e-12, -1.4e-11, 8e-12, "bits/couple", ("0.000", "[0.000, 0.000]")),
        (-0.2647, -0.5234, 0.0178, "bits/couple", ("−0.26", "[−0.52, 0.02]")),
        (0.00236, -0.0397, 0.0448, "bits/couple", ("0.002", "[−0.040, 0.045]")),
        (-52.9, -255.2, 142.4, "bits/couple", ("−53", "[−255, 142]")),
        (0.9828, 0.8947, 1.0643, "fraction", ("98.3", "[89.5, 106.4]")),
        (0.5, 0.5, 0.5, "bits/couple", ("0.500", "[0.500, 0.500]")),
        (float("inf"), 1.0, float("inf"), "bits/couple", ("∞", "[1.000, ∞]")),
    ],
)
def test_a_figure_has_no_more_digits_than_its_interval_resolves(
    value: float, low: float, high: float, unit: str, wanted: tuple[str, str]
) -> None:
    assert grids._with_interval(value, (low, high), unit) == wanted


def test_what_held_out_text_has_is_a_line_of_its_own_and_said_where_a_row_has_another(page: Render) -> None:
    rows = [a_row_of("novelty", model=name, copy_mean=5.0, copy_mean_of_test=6.0) for name in ("bigram", "gpt")]
    html, title = page(novelty=rows), "What is new in the samples"
    assert grid_cells(html, title)[-2:] == ["Held-out text", "6.0"] and "held-out 6.0" not in html
    html = page(novelty=[*rows, a_row_of("novelty", model="cache", copy_mean=5.0, copy_mean_of_test=7.0)])
    assert grid_cells(html, title)[-2:] == ["Held-out text", "6.0"] and html.count("held-out 7.0</small>") == 1
    assert grid_cells(page(novelty=[a_row_of("novelty", copy_mean=5.0)]), title)[-2:] == ["GPT", "5.0"]


def test_overlap_shows_valid_beside_test_and_nothing_of_train(page: Render) -> None:
    train, test = described("fables")
    parts = [replace(train, overlap_near=1.0), replace(test, overlap_near=0.25)]
    html = page(corpora=[*parts, replace(test, split="valid", overlap_near=0.5)])
    assert grid_cells(html, "Overlap of held-out text with train")[-4:] == ["test", "25.0", "valid", "50.0"]


@pytest.mark.parametrize("name", sorted({subject.table for subject in grids.SUBJECTS} - {"corpora", "results"}))
def test_every_head_of_a_grid_has_an_explanation(page: Render, name: str) -> None:
    rows = [a_row_of(name), a_row_of(name, tokenizer="bpe", model="bigram")]
    html = page(**{name: rows}).split(f">{title_of(name)}</h3>")[1].split("</thead>")[0].split("<thead>")[1]
    assert html.count("<th ") == html.count(' title="') > 1 and 'title=""' not in html


def title_of(table: str) -> str:
    return next(subject.title for subject in grids.SUBJECTS if subject.table == table)


def test_minimal_pairs_are_a_line_a_model_and_a_column_a_contrast(page: Render) -> None:
    pairs = {"all": 0.861, "agreement": 0.95, "name": 1 / 3}
    rows = [a_row_of("minimal_pairs", contrast=name, accuracy=value, pairs=60) for name, value in pairs.items()]
    html = page(minimal_pairs=rows)
    assert grid_cells(html, "Minimal pairs")[-4:] == ["GPT", "95.0", "33.3", "86.1"]
    heads = (">Verb agrees<small>% of 60 pairs", ">Hero&#39;s name<small>", ">All together<small>")
    assert [html.index(head) for head in heads] == sorted(html.index(head) for head in heads)


@pytest.mark.parametrize("name", ["novelty", "induction", "neighbours"])
def test_a_grid_explains_its_columns_in_the_words_of_the_schema(page: Render, name: str) -> None:
    subject = next(subject for subject in grids.SUBJECTS if subject.table == name)
    html = page(**{name: [a_row_of(name, **{field.name: 1 for field in subject.fields if field.name != "unit"})]})
    names = {field.name for field in subject.fields if not field.shared}
    titles = {value for key, value in Page(html).attributes if key == "title"}
    assert subject.title in html and {column.text for column in declared(name) if column.name in names} <= titles


def declared(table: str) -> list[schema.Declared]:
    return schema.columns(schema.TABLES[table])


def test_every_field_of_a_grid_is_a_column_of_its_table() -> None:
    for subject in grids.SUBJECTS:
        names = {column.name for column in declared(subject.table)}
        assert {name for field in subject.fields for name in (field.name, *(field.ends or ()))} <= names


def test_unseen_documents_say_nothing_where_all_are_unseen(page: Render) -> None:
    some = replace(ROW, unseen_byte_fraction=0.81, unseen_bits_per_byte=3.1, unseen_documents=2286)
    title = "On documents that train does not hold"
    assert grid_cells(page(some), title)[-3:] == ["Bigram", "3.000", "3.100"]
    assert "Unseen part of the bytes: 81.0 %" in page(some)
    assert title not in page(replace(some, unseen_byte_fraction=1.0))


def test_several_tokenizers_have_a_column_and_one_has_none(page: Render) -> None:
    rows = [a_row_of("neighbours", tokenizer=name, fraction=0.5) for name in ("char", "bpe")]
    assert "Tokens<" in html_of_grid(page(neighbours=rows)) and "Tokens<" not in html_of_grid(page(neighbours=rows[:1]))


def html_of_grid(html: str) -> str:
    return html.split(">Nearest neighbours in the embedding</h3>")[1].split("</table>")[0]


def test_an_infinite_fact_is_shown(page: Render) -> None:
    html = page(induction=[a_row_of("induction", nats_first=float("inf"), drop=float("-inf"))])
    assert {"∞", "−∞"} <= set(grid_cells(html, "Induction"))


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_contrast_is_text_and_nothing_else(page: Render, word: str) -> None:
    wild, tame = (Page(page(minimal_pairs=[a_row_of("minimal_pairs", contrast=name)])) for name in (word, "tame"))
    assert wild.tags == tame.tags and wild.tags.count("script") == 1


def test_what_was_not_measured_has_no_section(page: Render) -> None:
    html = page()
    titles = [subject.title for subject in grids.SUBJECTS] + ["Loss by position", "Which models differ"]
    assert len(titles) == 12 and not [title for title in titles if title in html]


def test_stress_and_names_of_a_docstring_are_set_as_such(page: Render) -> None:
    html = page(replace(ROW, adds="Adds *San* and ``order``: a <b>. More *of* it."))
    assert "Adds <em>San</em> and <code>order</code>: a &lt;b&gt;." in html and "<p>More <em>of</em> it.</p>" in html


def test_the_report_loads_no_plotting_package() -> None:
    names = ["matplotlib", "seaborn", "torch"]
    script = f"import sys, lmstages.report.files; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
