"""The report shows what it was given, and only shows it."""

import base64
import csv
import hashlib
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from lmstages import figures, report

HOSTILE = [
    "<script>alert(1)</script>",
    "\"quoted\" 'twice' <img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b[0m \x9b2J",
    "nothing\x00here",
    "left \u202e right \u2066 isolate \u200f \u200b",
    "</style></pre></script><!--",
    "{{7*7}} {% for x in y %}",
    "half a pair \ud800",
]

ROW: dict[str, Any] = {
    "corpus": "fables",
    "split": "test",
    "tokenizer": "char",
    "model": "bigram",
    "rung": "bigram",
    "rank": 2,
    "title": "Bigram",
    "adds": "Adds order: what comes next depends on the token before it.",
    "source": "Markov 1913",
    "family": "counts",
    "class": "static",
    "protocol": "stream",
    "seeds": [0],
    "tokens": 1000,
    "characters": 1000,
    "bytes": 1000,
    "perplexity": 8.0,
    "nats_per_character": 2.0794,
    "bits_per_byte": 3.0,
    "bits_per_byte_std": None,
    "excess_bits_per_byte": 2.19,
    "parameters": 4225,
    "tokens_seen": 9000,
    "fit_seconds": 12.34,
    "score_seconds": 0.5,
    "device": "cpu",
    "threads": 1,
    "published": [],
    "samples": [{"temperature": 1.0, "text": "a line\nand another"}],
    "curve": [],
    "hyperparameters": {"add": 0.1},
    "status": "ok",
}
CURVE = [{"step": step, "tokens": step, "train": 4 / step, "valid": 5 / step, "learning_rate": 0.1} for step in (1, 2)]
GPT = ROW | {
    **{"model": "gpt", "rung": "gpt", "rank": 7, "title": "GPT", "family": "neural", "seeds": [0, 1], "curve": CURVE},
    **{"bits_per_byte": 1.5, "bits_per_byte_std": 0.01, "perplexity": 2.83},
}
NUMBERS = [key for key, value in ROW.items() if isinstance(value, int | float) and key != "rank"]
FAILED = ROW | dict.fromkeys(NUMBERS) | {"model": "lstm", "title": "LSTM", "status": "failed: the loss became NaN"}
ORACLE = {"test": {"bits_per_byte": 0.81, "nats_per_character": 0.56, "expected_bits_per_byte": 0.8}}


def comparison(*rows: dict[str, Any], oracle: Any = ORACLE) -> dict[str, Any]:
    splits = {name: {"documents": 10, "characters": 1000, "bytes": 1000} for name in ("train", "test")}
    told = {"description": "Short fables.", "origin": "embedded", "licence": "CC0", "splits": splits, "oracle": oracle}
    shown = {"rows": list(rows or (ROW, GPT, FAILED)), "published": [], "sweeps": []}
    return {"run": "default", "corpora": {"fables": told}, **shown}


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


# What a reader may be shown


@pytest.mark.parametrize(
    ("text", "shown"),
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
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert report.visible(text) == shown


@pytest.mark.parametrize("sample", HOSTILE)
def test_a_hostile_sample_is_text_and_nothing_else(sample: str) -> None:
    page = Page(report.render(comparison(ROW | {"samples": [{"temperature": 1.0, "text": sample}]})))
    assert page.tags == Page(report.render(comparison(ROW))).tags
    assert "".join(page.texts["pre"]).lstrip("\n").startswith(report.visible(sample))


@pytest.mark.parametrize("key", ["title", "adds", "source", "model", "tokenizer", "protocol", "device"])
def test_a_hostile_name_is_text_and_nothing_else(key: str) -> None:
    tame, wild = (
        Page(report.render(comparison(ROW | {key: text}))) for text in ("tame", "\" x='1'><script>1</script>")
    )
    assert wild.tags == tame.tags
    assert [name for name, _ in wild.attributes] == [name for name, _ in tame.attributes]


def test_the_page_can_be_written_as_utf8_whatever_was_sampled() -> None:
    samples = [{"temperature": 1.0, "text": text} for text in HOSTILE]
    assert report.render(comparison(ROW | {"samples": samples})).encode()


# The page


def test_the_page_asks_for_nothing_from_anywhere() -> None:
    page = report.render(comparison())
    assert not re.search(r"https?:|//[a-z]|\ssrc=|@import|url\((?!#)", page)
    assert not {"link", "img", "iframe", "object", "base"} & set(Page(page).tags)


def test_the_policy_admits_exactly_the_style_and_script_of_the_page() -> None:
    html = report.render(comparison())
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
    assert report.render(comparison()) == report.render(comparison())


def test_no_two_things_of_a_page_share_a_name() -> None:
    names = [value for name, value in Page(report.render(comparison())).attributes if name == "id"]
    assert len(names) == len(set(names))


def test_no_number_is_a_dash() -> None:
    page = report.render(comparison(ROW | dict.fromkeys(NUMBERS)))
    assert page.count(f'<td class="number" data-value="">{report.DASH}') == 6
    assert "None" not in page


def test_a_failed_row_gives_its_reason_across_the_numbers() -> None:
    assert '<td class="reason" colspan="7">failed: the loss became NaN</td>' in report.render(comparison())
    assert "1 row failed." in report.render(comparison())


def test_a_run_in_which_everything_failed_still_has_a_page() -> None:
    assert "failed: the loss became NaN" in report.render(comparison(FAILED, oracle=None))


@pytest.mark.parametrize("verdict", ["reproduced", "better", "differs"])
def test_a_published_figure_stands_beside_ours_with_a_verdict(verdict: str) -> None:
    figure = {"value": 8.01, "ours": 8.0, "measure": "perplexity", "source": "003", "tolerance": 0.005}
    page = report.render(comparison(ROW | {"published": [figure | {"verdict": verdict}]}))
    assert "perplexity 8.01" in page and "[003]" in page and f">{verdict}</b>" in page


def test_the_best_static_row_is_marked_and_nothing_else() -> None:
    adaptive = GPT | {"model": "cache", "class": "adaptive", "bits_per_byte": 1.0}
    oracle = ROW | {"model": "oracle", "family": "oracle", "class": "oracle", "bits_per_byte": 0.81}
    assert report.best_of([ROW, GPT, adaptive, oracle, FAILED]) is GPT
    assert report.render(comparison(ROW, GPT, adaptive, oracle)).count('<tr class="best">') == 1


def test_a_row_of_an_undescribed_corpus_is_not_lost_in_silence() -> None:
    with pytest.raises(AssertionError, match="corpus is described"):
        report.render(comparison(ROW | {"corpus": "other"}))


def test_a_corpus_without_an_oracle_says_so() -> None:
    page = report.render(comparison(ROW | {"excess_bits_per_byte": None}, oracle=None))
    assert "not known" in page and "over oracle" not in page


def test_the_newlines_of_a_sample_are_kept() -> None:
    samples = [{"temperature": 1.0, "text": "\n\nafter two"}]
    assert "<pre>\n\n\nafter two</pre>" in report.render(comparison(ROW | {"samples": samples}))


def test_samples_stand_under_their_temperature_where_there_are_several() -> None:
    samples = [{"temperature": heat, "text": f"drawn at {heat}"} for heat in (0.5, 0.5, 1.5)]
    page = report.render(comparison(ROW | {"samples": samples}))
    assert page.count("Temperature ") == 2 and page.index("Temperature 0.5") < page.index("drawn at 0.5")
    assert page.index("drawn at 0.5") < page.index("Temperature 1.5") < page.index("drawn at 1.5")
    assert "Temperature " not in report.render(comparison(ROW | {"samples": samples[:2]}))


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
    page = report.render(swept("tanh", "relu"))
    assert "mlp: bits per byte over activation" in page and "the lowest point is 1.500 at activation relu" in page
    assert re.search(r"<tr class=best>\s*<td>relu</td>", page) and "<td>tanh</td>" in page


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_word_in_a_sweep_is_text_and_nothing_else(word: str) -> None:
    wild, tame = (Page(report.render(swept(*words))) for words in ([word, "b"], ["a", "b"]))
    assert wild.tags == tame.tags and report.sweep_files(swept(word))["sweeps/mlp.csv"].encode()


def test_a_page_without_sweeps_or_published_figures_has_no_such_sections() -> None:
    page = Page(report.render(comparison()))
    assert not {("id", "sweeps"), ("id", "published")} & set(page.attributes)


def test_what_others_printed_closes_the_page_with_ours_a_verdict_and_why() -> None:
    page = report.render(comparison() | {"published": [FIGURE, CLAIM]})
    for shown in (
        "perplexity of bigram, fables, test",
        "Plain SGD.",
        ">434\n",
        ">431.25<",
        '<b class="good">better</b>',
    ):
        assert shown in page
    assert "It is worse than guessing." in page and "65B on a CPU" in page and '<b class="soft">not run</b>' in page


def test_parameters_are_written_whole() -> None:
    figure = FIGURE | {"measure": "parameters", "value": 10745088, "ours": 175767}
    assert (report.value(figure), report.value(figure, "ours")) == ("10,745,088", "175,767")


def test_markdown_has_what_others_printed_as_a_second_table() -> None:
    _, table = report.table_markdown(comparison() | {"published": [FIGURE, CLAIM]}).split(
        "Published against reproduced"
    )
    assert "| perplexity of bigram, fables, test | Plain SGD. | 434 (Post (2025)) | 431.25 | better |" in table
    assert "| 65B on a CPU | – | – (Post (2025)) | – | not run | It is worse than guessing. |" in table
    assert "Published against" not in report.table_markdown(comparison())


# Numbers


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (report.decimal(None), "–"),
        (report.decimal(1234.5, 2), "1,234.50"),
        (report.decimal(-0.25), "−0.250"),
        (report.decimal(-0.00001), "0.000"),
        (report.decimal(1.5e30), "1.50e+30"),
        (report.count(812345), "812,345"),
        (report.count(124439808), "124.44 M"),
        (report.duration(0.017), "0.02 s"),
        (report.duration(59.97), "1 min 00 s"),
        (report.duration(11100), "3 h 05 min"),
        (figures.told(False), "no"),
        (figures.told(1), "1"),
        (figures.told(0.001), "0.001"),
    ],
)
def test_a_number_is_written_for_people(shown: str, wanted: str) -> None:
    assert shown == wanted


# The tables


def test_markdown_takes_no_commands_from_a_name() -> None:
    line = report.table_markdown(comparison(ROW | {"title": "a|b`c\n<d>\x1b"})).splitlines()[2]
    assert r"| a\|b\`c \<d>\x1b".replace(r"\x1b", r"\\x1b") in line
    assert len(re.findall(r"(?<!\\)\|", line)) == 11


def test_markdown_shows_failures_and_the_best() -> None:
    table = report.table_markdown(comparison())
    assert "| **1.500** |" in table and "| failed: the loss became NaN |" in table


def test_markdown_holds_no_timings() -> None:
    assert report.table_markdown(comparison()) == report.table_markdown(
        comparison(*({**row, "fit_seconds": 99.0} for row in (ROW, GPT, FAILED)))
    )


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_nothing(text: str) -> None:
    cells = next(csv.DictReader(io.StringIO(report.table_csv(comparison(ROW | {"title": text})))))
    assert cells["title"] == "'" + report.visible(text)


def test_csv_keeps_our_own_numbers_whole_and_timings_last() -> None:
    table = report.table_csv(comparison(ROW | {"excess_bits_per_byte": -0.0123456789, "parameters": None}))
    cells = next(csv.DictReader(io.StringIO(table)))
    assert (cells["excess_bits_per_byte"], cells["parameters"]) == ("-0.0123456789", "")
    assert list(cells)[-2:] == ["fit_seconds", "score_seconds"]


def test_the_terminal_gets_no_commands_and_at_most_100_columns() -> None:
    rows = [ROW | {"title": "a very long title " * 5 + text, "model": "m" * 64} for text in [*HOSTILE, "[red]:smile:"]]
    table = report.table_terminal(comparison(*rows, FAILED | {"status": "failed: " + "[bold]\x1b[2J" * 20}))
    assert max(map(len, table.splitlines())) <= 100
    assert report.visible(table) == table and "\x1b" not in table


def test_the_terminal_names_what_failed() -> None:
    assert "char, lstm: failed: the loss became NaN" in report.table_terminal(comparison())


# The figures


@pytest.mark.parametrize(
    "label", [r"$\frac{$", "$x$", "<script>1</script> & co", "日本語", ' style="fill: red" id="x" href="#x" #010203']
)
def test_a_label_is_drawn_as_it_is(label: str) -> None:
    rows = [ROW | {"title": label, "tokenizer": label}, GPT | {"title": label, "corpus": label}]
    drawings = figures.ladder_plot(rows, None), figures.learning_curves(rows)
    for drawing in drawings:
        assert label in Page(drawing).texts["text"]
        assert "<script" not in drawing


def test_a_figure_is_the_same_bytes_each_time() -> None:
    rows = [ROW, GPT]
    assert figures.ladder_plot(rows, ORACLE) == figures.ladder_plot(rows, ORACLE)
    assert figures.learning_curves(rows) == figures.learning_curves(rows)


def test_the_oracle_is_the_floor_of_the_ladder() -> None:
    assert "oracle, 0.81" in figures.ladder_plot([ROW], ORACLE)
    assert "oracle" not in figures.ladder_plot([ROW], None)


def test_with_nothing_to_draw_there_is_no_figure() -> None:
    assert figures.ladder_plot([FAILED], ORACLE) == figures.learning_curves([ROW]) == ""


def test_a_curve_may_have_gaps() -> None:
    assert "<svg" in figures.learning_curves([GPT | {"curve": [CURVE[0] | {"train": None, "valid": None}, *CURVE]}])


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
    found = figures.in_bits_per_byte({"measure": measure, "value": value}, ROW)
    assert found == (bits and pytest.approx(bits))


def test_two_models_of_one_rung_are_told_apart() -> None:
    texts = Page(figures.ladder_plot([GPT, GPT | {"model": "gpt-wide"}], None)).texts["text"]
    assert "GPT" in texts and "GPT (gpt-wide)" in texts


def test_what_learns_while_it_is_scored_has_a_line_of_its_own() -> None:
    drawing = figures.ladder_plot([ROW, GPT | {"class": "adaptive"}], None)
    assert ">tokens: char<" in drawing and ">tokens: char, adaptive<" in drawing
    assert "to 3.00" in figures.ladder_sentence([ROW, GPT | {"class": "adaptive"}], None)
