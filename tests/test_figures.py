"""Every figure draws what its frame holds and says nothing that does not follow from it."""

import json
import math
import random
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from typed_rows import result

from lmstages import figures
from lmstages.config.ladder import LADDER
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.figures import _front, differences, drawing, embeddings, files, ladder, learning, rows, sweeps
from lmstages.figures.drawing import INK, look
from lmstages.results import frame
from lmstages.results.schema import TABLES, columns

FIGURES = figures.registry()
PLACE = {"corpus": "fables", "split": "test", "tokenizer": "char", "model": "gpt", "title": "GPT", "rank": 15}
HOSTILE = [
    r"$\frac{$",
    "$x$",
    "<script>1</script> & co",
    "日本語",
    ' style="fill: red" id="x" href="#x" #010203',
]


def row(table, **values):
    """A row of any table: what is not given is of PLACE, or empty, or a plain value."""
    plain = {"string": "x", "Int64": 1, "float64": 1.0, "boolean": False}
    declared = {c.name: None if c.optional else plain[c.dtype] for c in columns(TABLES[table])}
    return TABLES[table](**declared | {key: PLACE[key] for key in PLACE.keys() & declared.keys()} | values)


def model(name, bits, rank=None, **changes):
    """A row of the results: a model of the ladder with its bits per byte."""
    ranks = {config.name: number for number, config in enumerate(LADDER)}
    known = {"model": name, "type": name, "title": name.upper(), "rank": ranks.get(name, 30) if rank is None else rank}
    sizes = {"tokens": 1000, "characters": 1000, "bytes": 1000, "bits_per_byte": bits, "parameters": 100}
    return result(**{**known, **sizes, **changes})


BIGRAM, MLP = model("bigram", 3.0), model("mlp", 2.0, family="neural", parameters=900, fit_seconds=2.0, flops=1e9)
GPT = model("gpt", 1.5, family="neural", parameters=4000, fit_seconds=9.0, flops=4e9, bits_per_byte_std=0.01)
FAILED = model("lstm", None, status="failed: the loss became NaN")
ORACLE = model("oracle", 0.81, 1000, family="oracle", category="oracle", tokenizer="-")
XZ = model("xz", 2.2, 0, title="xz -9e, alone", family="compressor", category="compressor", tokenizer="-")


def drawn(name, *typed, **also):
    """The drawings of a figure from typed rows of its tables."""
    figure = FIGURES[name]
    tables = {table: frame.frame(table, also.get(table, []))[list(names)] for table, names in figure.also.items()}
    shown = {table: files.shown(data) for table, data in tables.items()}
    return [item.drawing for item in files.groups(figure, frame.frame(figure.table, typed), shown)]


def one(name, *typed, **also):
    """The only drawing of a figure."""
    [drawing] = drawn(name, *typed, **also)
    return drawing


def texts(drawing):
    """Every text of an SVG."""
    return [text.text for text in ElementTree.fromstring(drawing.svg()).iter("{http://www.w3.org/2000/svg}text")]


# ---------------------------------------------------------------- the registry


def test_every_module_that_draws_is_a_figure():
    folder = Path(figures.__file__).parent
    assert set(FIGURES) == {path.stem for path in folder.glob("*.py") if "\ndef draw(" in path.read_text()}
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {name.rpartition(".")[2] for name in figures.modules()} == names


def test_a_column_that_the_schema_lacks_is_an_error(monkeypatch):
    monkeypatch.setattr(ladder, "COLUMNS", (*ladder.COLUMNS, "bits_per_bite"))
    with pytest.raises(AssertionError, match=r"figures.ladder reads \['bits_per_bite'\], which table results does not"):
        figures.registry()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_in_its_docstring_what_it_shows(name):
    assert import_module(f"lmstages.figures.{name}").__doc__.partition("\n")[0].endswith(".")


def test_models_of_one_colour_differ_in_marker_and_dash():
    looks = [drawing.look(rank) for rank in range(len(LADDER) + 8)]
    assert len({(look["color"], look["marker"]) for look in looks}) == len(looks)
    assert all(one["color"] != two["color"] for one, two in pairwise(looks))


# ---------------------------------------------------------------- all figures, from a run that has every table


def points(**place):
    return [row("curves", **{"seed": 0, **place}, step=step, train=4 / step, valid=5 / step) for step in (1, 2)]


def everything():
    """Rows of every table that a figure reads."""
    pair = {"a_corpus": "fables", "a_tokenizer": "char", "b_corpus": "fables"}
    bins = [row("positions", low=low, high=2 * low + 1, bits_per_byte=3.0 - low) for low in (0, 1)]
    sizes = [
        row("scaling", sweep="fables", bytes=size, flops=9.0 * size, bits_per_byte=3 - size / 99) for size in (9, 99)
    ]
    fields = [(a, b) for a in "ab" for b in "ab"]
    near = {"x_variance": 0.5, "y_variance": 0.3}
    return {
        "results": [BIGRAM, MLP, GPT, replace(GPT, tokenizer="bpe", bits_per_byte=1.2), FAILED, ORACLE, XZ],
        "differences": [
            row(
                "differences", **pair, a_model="bigram", b_tokenizer="char", b_model="mlp", difference=1.0, p_holm=0.01
            ),
            row("differences", **pair, a_model="gpt", b_tokenizer="bpe", b_model="gpt", difference=0.3, p_holm=0.2),
        ],
        "curves": points(seed=0) + points(seed=1),
        "positions": bins,
        "drift": [
            row("drift", model=name, title=name.upper(), category=category, tenth=tenth, **gain)
            for name, category, gain in (
                ("ppm", "static", {}),
                ("ppm_online", "online", {"twin": "ppm", "gain": 0.2, "gain_low": 0.1, "gain_high": 0.3}),
                *((f"m{n}", "static", {}) for n in range(4)),
            )
            for tenth in (1, 2)
        ],
        "sweeps": [sweep_point(8, 2.0), sweep_point(16, 1.9)],
        "scaling": sizes,
        "crossings": [row("crossings", sweep="fables", lower="char/mlp", upper="char/gpt", bytes=99.0)],
        "novelty": [row("novelty", copy_mean=9.0, copy_max=12.0, copy_mean_of_test=8.0, distinct_1=0.5)],
        "minimal_pairs": [row("minimal_pairs", contrast=name, accuracy=0.9, pairs=60) for name in ("name", "all")],
        "infilling": [
            row("infilling", model=name, gap=gap, length=length, side=side, nats_per_character=nats / length, **shared)
            for name, shared in (
                ("gpt", {"exact_match": 0.5}),
                ("oracle", {"title": "Oracle", "method": "oracle", "rank": 1000}),
            )
            for side, nats in (("both", 1.0), ("left", 2.0))
            for gap, length in (("characters", 1), ("characters", 4), ("word", 4.4))
        ],
        "generated": [
            row(
                "generated",
                model="gpt",
                sampler=sampler,
                steps=steps,
                measure="exact",
                bits_per_byte=bits,
                seconds=seconds,
                is_best=is_best,
                accepted=0.5,
                than_next=cost,
            )
            for sampler, steps, bits, seconds, is_best, cost in (
                ("next token", None, 2.0, 0.4, True, None),
                ("random", 1, 3.0, 0.1, True, 1.0),
                ("random", 4, 2.5, 0.4, False, 0.5),
                ("certain", 1, 3.0, 0.2, False, 1.0),
            )
        ],
        "transfer": [row("transfer", gap_bits=0.5, gap_bits_low=0.1, gap_bits_high=0.9, reference_bits=2.0)],
        "induction": [row("induction", score=0.9, drop=2.0)],
        "recalled": [row("recalled", model=name, title=name.upper(), facts=60) for name in ("gpt", "mlp")],
        "restored": [
            row("restored", model=name, title=name.upper(), layer=layer, part="state", position=at, recovered=share)
            for name, share in (("gpt", 0.5), ("mlp", None))
            for layer in (0, 1)
            for at in ("last", "recall")
        ],
        "frequencies": [row("frequencies", token=token, count=count) for token, count in (("␣", 9), ("e", 3))],
        "pairs": [row("pairs", model=name, first=a, second=b, count=3.0) for name in ("", "Nets") for a, b in fields],
        "cosines": [row("cosines", first=a, second=b, cosine=1.0 if a == b else -0.5, width=4) for a, b in fields],
        "embeddings": [
            row(
                "embeddings",
                projection=name,
                stage=stage,
                token=token,
                group="vowels",
                x=x,
                y=1.0,
                silhouette=0.1,
                **near,
            )
            for name, stage in (("PCA", "trained"), ("t-SNE", "initial"), ("t-SNE", "trained"))
            for x, token in enumerate("aeiou")
        ],
        "attention": [
            row("attention", head=head, query=at, key=to, query_token="a", key_token="b", weight=1 / (1 + at))
            for head in (1, 2)
            for at in range(3)
            for to in range(at + 1)
        ],
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A results folder with every table, and its figures."""
    folder, content = tmp_path_factory.mktemp("run"), everything()
    for table in TABLES:
        frame.write(folder, table, frame.frame(table, content.get(table, [])), {})
    artifacts.save_json(folder / "run.json", {"run": "run", "estimation": True}, {})
    files.write(frame.Results.open(folder), folder / "figures", {})
    return folder


def test_every_figure_is_written_three_times_and_listed(run):
    index = artifacts.load_json(run / "figures/index.json")
    assert {entry["figure"] for entry in index} == set(FIGURES)
    for entry in index:
        path = artifacts.verified(run / "figures" / entry["svg"])
        group = ".".join(entry["group"][name] for name in FIGURES[entry["figure"]].by) or entry["figure"]
        assert path.parent.name == entry["figure"] and path.name == f"{group}.svg"
        assert (
            path.with_suffix(".png").read_bytes()[1:4] == b"PNG"
            and path.with_suffix(".pdf").read_bytes()[:4] == b"%PDF"
        )
        assert (
            entry["title"] and "{" not in entry["title"] and len(entry["caption"]) > 40 and entry["caption"][-1] == "."
        )


def test_a_drawing_can_stand_in_any_page(run):
    for path in (run / "figures").glob("*/*.svg"):
        svg = path.read_text().replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
        assert not re.search(r"style=|<style|<script|https?:|#010203|id=\"(?!f[0-9a-f]{8})", svg), path
        assert re.match(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)" width="\1pt" height="\2pt" ', svg), path
        assert 'fill="currentColor"' in svg


def test_no_two_drawings_share_an_id(run):
    ids = [
        name
        for path in (run / "figures").glob("*/*.svg")
        for name in set(re.findall(r' id="([^"]*)"', path.read_text()))
    ]
    assert ids and len(ids) == len(set(ids))


def test_a_figure_is_the_same_bytes_each_time():
    once, again = (dict(one("ladder", BIGRAM, GPT, ORACLE).files()) for _ in range(2))
    assert once == again and set(once) == {"svg", "png", "pdf"}


def test_two_processes_draw_the_same_files_as_one(run, tmp_path):
    files.write(frame.Results.open(run), tmp_path, {}, processes=2)
    drawn_by_one = {path.relative_to(run / "figures"): path.read_bytes() for path in (run / "figures").rglob("*.*g")}
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*g")} == drawn_by_one
    assert (tmp_path / "index.json").read_bytes() == (run / "figures/index.json").read_bytes()


def test_an_error_of_another_process_is_raised_by_the_first(run, tmp_path):
    for name in FIGURES:
        (tmp_path / name).touch()  # where a folder has to be
    receiver = files._start(run, tmp_path, {"below": 1}, files.Part(1, 2))
    with pytest.raises(UserError, match="its folder is a file"):
        files._received(receiver, tmp_path)


@pytest.mark.parametrize("table", [name for name in FIGURES if FIGURES[name].table])
def test_an_empty_table_has_no_figure(table):
    assert drawn(table) == []


def test_estimation_is_drawn_only_where_asked(run, tmp_path):
    for table in TABLES:
        frame.write(tmp_path, table, frame.frame(table, []), {})
    artifacts.save_json(tmp_path / "run.json", {"run": "run", "estimation": False}, {})
    assert list(files.drawings(frame.Results.open(tmp_path))) == []


# ---------------------------------------------------------------- text is text


@pytest.mark.parametrize("label", HOSTILE)
def test_a_label_is_drawn_as_it_is(label):
    two = [replace(BIGRAM, title=label, tokenizer=label, corpus=label), replace(GPT, title=label, corpus=label)]
    learned = [replace(point, title=label, corpus=label) for point in points()]
    name = rows.names(frame.frame("results", two))[0]
    for shown, wanted in (
        (one("ladder", *two), name),
        (one("parameters", *two), f"{name}, {label}"),
        (one("learning", *learned), label),
    ):
        assert wanted in " ".join(filter(None, texts(shown))) and "<script" not in shown.svg()


@pytest.mark.parametrize("character", ["\x1b", "\u202e", "\u200b", "\x00"])
def test_what_cannot_be_seen_is_written_out(character):
    [drawing] = drawn("frequencies", row("frequencies", token=f"a{character}", count=3))
    assert character not in drawing.svg() + drawing.caption and rf"a{character!a}".replace("'", "") in texts(drawing)


def test_a_hostile_token_does_no_harm():
    typed = [row("cosines", first=a, second=b, cosine=0.5) for a in ("<b>", "$") for b in ("<b>", "$")]
    drawing = one("cosines", *typed)
    assert "<b>" in texts(drawing) and "<b>" not in drawing.svg()


# ---------------------------------------------------------------- the ladder


def test_the_oracle_is_the_floor_of_the_ladder():
    assert "oracle, 0.81" in texts(one("ladder", BIGRAM, XZ, ORACLE))
    assert not any("oracle" in text for text in texts(one("ladder", BIGRAM)))


def test_without_an_oracle_the_best_compressor_is_the_floor():
    worse = replace(XZ, model="gzip", title="gzip -9, alone", bits_per_byte=2.4)
    for typed in ([BIGRAM, worse, XZ], [XZ, worse, BIGRAM]):
        shown = texts(one("ladder", *typed))
        assert "xz -9e, alone, 2.20" in shown and not any("gzip" in text for text in shown)


def test_with_nothing_to_draw_there_is_no_figure():
    assert drawn("ladder", FAILED, ORACLE) == drawn("parameters", FAILED, BIGRAM) == []
    assert drawn("positions", row("positions", bits_per_byte=None)) == []


def test_a_failed_and_an_infinite_row_keep_their_lines():
    endless = replace(MLP, bits_per_byte=math.inf)
    drawing = one("ladder", BIGRAM, endless, GPT, FAILED)
    assert {"no score", "∞", "LSTM", "MLP"} <= {*texts(drawing)}
    assert "probability 0: MLP." in drawing.caption and "Without a score: LSTM." in drawing.caption
    assert "Of 2 static rows GPT needs the fewest, 1.50, and BIGRAM needs the most, 3.00." in drawing.caption


def test_the_last_model_need_not_be_the_best():
    assert "MLP needs the fewest, 1.00" in one("ladder", BIGRAM, replace(MLP, bits_per_byte=1.0), GPT).caption


def test_one_row_alone_is_not_compared():
    assert "fewest" not in one("ladder", BIGRAM).caption


def test_an_interval_takes_the_place_of_the_spread():
    narrow = replace(GPT, bits_per_byte_low=1.4, bits_per_byte_high=1.7)
    assert ladder.arms(narrow) == (pytest.approx(0.1), pytest.approx(0.2)) and ladder.arms(GPT) == (0.01, 0.01)
    assert all(map(math.isnan, ladder.arms(BIGRAM)))
    assert "or one standard deviation" in one("ladder", narrow, replace(MLP, bits_per_byte_std=0.1)).caption
    assert "Bars" not in one("ladder", BIGRAM).caption


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
def test_a_published_figure_is_marked_where_its_measure_fits_the_axis(measure, value, bits):
    printed = row("published", model="bigram", measure=measure, value=value)
    [record] = frame.frame("results", [BIGRAM]).assign(measure=measure, value=value).itertuples()
    assert ladder.in_bits_per_byte(record) == (bits and pytest.approx(bits))
    assert ("published" in texts(one("ladder", BIGRAM, published=[printed]))) is (bits is not None)


def test_two_models_of_one_type_are_told_apart():
    shown = texts(one("ladder", GPT, replace(GPT, model="gpt-wide")))
    assert "GPT" in shown and "GPT (gpt-wide)" in shown


def test_models_that_share_a_title_never_share_a_name():
    same = [replace(typed, title="Same") for typed in (BIGRAM, MLP, GPT)]
    assert [*rows.names(frame.frame("results", same))] == ["Same (bigram)", "Same (mlp)", "Same (gpt)"]


def test_an_online_model_has_a_mark_of_its_own_and_is_not_ranked():
    drawing = one("ladder", BIGRAM, MLP, replace(GPT, category="online"))
    assert {"tokens: char", "tokens: char, online"} <= {*texts(drawing)}
    assert "MLP needs the fewest" in drawing.caption and "Hollow marks (online)" in drawing.caption


def test_the_axis_begins_near_the_least_number():
    [axes] = one("ladder", BIGRAM, MLP).figure.axes
    assert 1.8 < axes.get_xlim()[0] < 2.0 and 3.0 < axes.get_xlim()[1] < 3.3


def spread_out(count):
    """Rows of which all but the last two are near each other."""
    near = [
        model(f"m{n}", 1 + n / 20, rank=n, bits_per_byte_low=0.99 + n / 20, bits_per_byte_high=1.01 + n / 20)
        for n in range(count)
    ]
    return [*near, model("far", 4.0, rank=count), model("unigram", 5.5, rank=count + 1)]


@pytest.mark.parametrize("name", ["ladder", "ladder_by_bits"])
def test_the_axis_ends_where_intervals_can_be_seen_and_what_is_further_off_has_an_arrow_and_its_number(name):
    drawing = one(name, *spread_out(6))
    [axes] = drawing.figure.axes
    low, high = axes.get_xlim()
    assert low < 0.99 and 1.26 < high < 1.5 and {"4.00", "5.50"} <= {*texts(drawing)}
    width = axes.get_window_extent().width * 72 / axes.figure.dpi
    assert 0.02 * width / (high - low) > 5, "an interval of 0.02 bits is five points wide"
    arrows = [line for line in axes.lines if line.get_marker() == ">"]
    assert len(arrows) == 2 and all(line.get_xdata()[0] == 0.98 for line in arrows)
    assert "Beyond the right edge, with an arrow and a number: FAR (far) and UNIGRAM." in drawing.caption


def test_an_oracle_far_below_all_rows_stands_at_the_edge_on_a_line_of_its_own():
    drawing = one("ladder", *spread_out(6), replace(ORACLE, bits_per_byte=0.25))
    [axes] = drawing.figure.axes
    assert axes.get_xlim()[0] > 0.9 and "0.25" in texts(drawing)
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "oracle"
    assert "Beyond the left edge, at 0.25, is the code length" in drawing.caption
    assert "dashed" not in drawing.caption and not any("oracle, " in text for text in texts(drawing))


def test_the_ladder_by_bits_stands_from_the_fewest_to_the_most_with_rows_without_a_number_below():
    endless = model("ngram", math.inf)
    drawing = one("ladder_by_bits", FAILED, BIGRAM, GPT, endless, MLP)
    labels = [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()]
    assert labels == ["GPT", "MLP", "BIGRAM", "NGRAM", "LSTM"]
    assert drawn("ladder_by_bits", GPT, FAILED) == []


def test_a_published_figure_beyond_the_axis_is_not_drawn():
    printed = row("published", model="m0", measure="bits_per_byte", value=9.0)
    assert "published" not in texts(one("ladder", *spread_out(6), published=[printed]))
    assert "published" in texts(one("ladder", *spread_out(6), published=[replace(printed, value=1.1)]))


@pytest.mark.parametrize("name", ["ladder", "ladder_by_bits"])
def test_no_line_joins_two_models(name):
    [axes] = one(name, BIGRAM, MLP, GPT).figure.axes
    assert all(len({*np.round(line.get_ydata())}) == 1 for line in axes.lines if line.get_linestyle() != "None")


# ---------------------------------------------------------------- bits against cost


def test_nothing_beats_a_point_of_the_front():
    dice = random.Random(3)
    points = [(dice.randint(1, 30), dice.randint(1, 30)) for _ in range(200)]
    front = _front.pareto(points)
    beaten = [
        any(c <= points[at][0] and b <= points[at][1] and (c, b) != points[at] for c, b in points) for at in front
    ]
    assert not any(beaten) and {points[at] for at in front} == {p for p in points if not _beaten(p, points)}


def _beaten(point, points):
    return any(c <= point[0] and b <= point[1] and (c, b) != point for c, b in points)


def test_only_static_rows_make_the_front():
    better = replace(GPT, model="online", category="online", bits_per_byte=0.5, parameters=10)
    caption = one("parameters", BIGRAM, MLP, GPT, better).caption
    assert "at no more parameters: BIGRAM, MLP and GPT." in caption and "above it" not in caption


def test_what_has_no_cost_is_named_under_the_front():
    assert (
        "Not drawn, since no parameters are counted for them: UNIFORM."
        in one("parameters", model("uniform", 6.0, parameters=0), BIGRAM, GPT).caption
    )


def test_what_was_made_of_a_fitted_model_is_drawn_at_the_cost_that_it_bears():
    rounded = replace(GPT, model="llama_q4", title="Rounded", made_of="gpt", fit_seconds=9.1, flops=4e9)
    drawing = one("fit_time", MLP, GPT, rounded)
    assert "Rounded" in texts(drawing) and (9.1, 1.5) in _points(drawing)
    assert "Made of a fitted model, whose cost it bears: Rounded." in drawing.caption
    assert "Rounded" in texts(one("compute", MLP, GPT, rounded))
    assert "bears" not in one("parameters", MLP, GPT, rounded).caption


def _points(drawing):
    """Where the marks of a drawing stand."""
    lines = drawing.figure.axes[0].lines
    return {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines if len(line.get_xdata()) == 1}


def test_static_and_online_rows_differ_by_marker():
    learning_on = replace(GPT, model="ppm_online", title="PPM-D", family="counts", category="online", parameters=300)
    drawing = one("parameters", BIGRAM, GPT, learning_on)
    markers = {(line.get_xdata()[0], line.get_marker()) for line in drawing.figure.axes[0].lines}
    by_cost = {float(cost): marker for cost, marker in markers if marker != "None"}
    assert len({by_cost[100.0], by_cost[300.0], by_cost[4000.0]}) == 3
    assert {"counts", "neural", "online"} <= {*texts(drawing)}


def test_one_static_row_on_the_front_makes_no_line():
    drawing = one("parameters", replace(BIGRAM, bits_per_byte=1.0), MLP, GPT)
    assert "Pareto front" not in texts(drawing)
    assert "fewer bits per byte than BIGRAM, and none fewer parameters." in drawing.caption


def test_a_floor_far_below_the_rows_does_not_press_them_together():
    near, far = (one("parameters", BIGRAM, MLP, replace(ORACLE, bits_per_byte=bits)) for bits in (1.9, 0.2))
    assert "The dashed line at 1.90" in near.caption and "oracle, 1.90" in texts(near)
    assert "Below the panel, at 0.20," in far.caption and "oracle, 0.20" not in texts(far)
    assert far.figure.axes[0].get_ylim()[0] > 1.8


@pytest.mark.parametrize("largest", [101, 150, 900, 3e4, 7e7, 2e13])
def test_both_axes_of_a_front_have_three_ticks_or_more(largest):
    [axes] = one("parameters", BIGRAM, replace(MLP, parameters=int(largest))).figure.axes
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        ticks = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
        assert 3 <= len(ticks) <= 10 and len({axis.get_major_formatter()(tick) for tick in ticks}) == len(ticks)


def boxes(drawing):
    """The outlines of all labels beside points, in pixels, without the lines that lead to them."""
    drawing.figure.draw_without_rendering()
    return [Text.get_window_extent(text).extents for text in drawing.figure.axes[0].texts]


@pytest.mark.parametrize("count", [3, 20, 60])
def test_labels_of_points_never_overlap(count):
    dice = random.Random(count)
    typed = [model(f"m{n}", 1 + dice.random() / 9, title=f"Model {n}", parameters=100 + n) for n in range(count)]
    drawing = one("parameters", *typed)
    outlines = boxes(drawing)
    assert len(outlines) == count
    assert not any(overlap(a, b) for n, a in enumerate(outlines) for b in outlines[:n])


@pytest.mark.parametrize("count", [8, 16])
def test_no_label_is_struck_through_by_a_line(count):
    dice = random.Random(count)
    typed = [model(f"m{n}", 2 + dice.random() / 4, title=f"Model {n}", parameters=100 + n // 2) for n in range(count)]
    shown = one("parameters", *typed, model("bigram", 4.0, parameters=5))
    [axes] = shown.figure.axes
    outlines, unit = boxes(shown), axes.figure.dpi / 72
    front = [box for line in axes.lines if line.get_linestyle() != "None" for box in drawing._boxes(line)]
    stems = {
        at: [
            *drawing._along(
                axes.transData.transform(text.xy), axes.transData.transform(text.xy) + unit * np.array(text.xyann)
            )
        ]
        for at, text in enumerate(axes.texts)
        if text.arrow_patch
    }
    assert len(outlines) == count + 1 and stems and front
    for at, (left, bottom, right, top) in enumerate(outlines):
        inner = (left + 2, bottom + 4, right - 2, top - 4)
        others = [box for other, pieces in stems.items() if other != at for box in pieces]
        assert not any(overlap(inner, box) for box in [*front, *others]), axes.texts[at].get_text()


def overlap(a, b):
    return a[0] < b[2] - 1 and b[0] < a[2] - 1 and a[1] < b[3] - 1 and b[1] < a[3] - 1


# ---------------------------------------------------------------- positions, learning


def test_labels_at_the_ends_of_lines_keep_their_order_and_apart():
    assert drawing.spread([0.0, 0.1, 5.0], [1.0, 1.0, 1.0]) == pytest.approx([-0.45, 0.55, 5.0])


def test_positions_show_the_best_eight_and_say_of_how_many():
    typed = [
        row("positions", model=f"m{n}", title=f"M{n}", rank=n, low=low, high=low + 1, bits_per_byte=9.0 - n + low)
        for n in range(9)
        for low in (0, 1)
    ]
    drawing = one("positions", *typed)
    assert "Drawn are 8 of 9." in drawing.caption
    assert "M8 (m8), the best static model, goes from 1.00 at the beginning to 2.00" in drawing.caption
    assert [text for text in texts(drawing) if text.startswith("M")] == ["M8 (m8)"]


def bins(name, bits):
    return [row("positions", model=name, title=name.upper(), low=n, high=n + 1, bits_per_byte=bits + n) for n in (0, 1)]


def test_positions_name_the_best_of_each_family_and_category_and_draw_all_others_pale():
    rows = [BIGRAM, model("ngram", 2.9), model("rnn", 2.4, family="neural"), MLP]
    rows += [model("cache", 1.0, category="online")]
    drawing = one("positions", *(b for typed in rows for b in bins(typed.model, typed.bits_per_byte)), results=rows)
    assert {text for text in texts(drawing) if text.isupper()} == {"MLP", "NGRAM", "CACHE"}
    assert (
        "Pale: 2 further models" in drawing.caption and "MLP, the best static model, goes from 2.00" in drawing.caption
    )
    pale = [line for line in drawing.figure.axes[0].lines if line.get_alpha()]
    assert len(pale) == 2 and all(line.get_marker() == "None" for line in pale)


def test_a_model_that_is_infinite_at_one_position_is_not_the_best():
    endless = [bins("gpt", 0.1)[0], replace(bins("gpt", 0.1)[1], bits_per_byte=math.inf)]
    drawing = one("positions", *bins("mlp", 2.0), *endless, results=[MLP, GPT])
    assert "infinite at some position: GPT." in drawing.caption and "MLP goes from 2.00" in drawing.caption


def test_a_curve_may_have_gaps():
    gap = row("curves", step=3, train=2.0, valid=None)
    assert "<svg" in one("learning", *points(), gap).svg() and "<svg" in one("learning_of_model", gap, *points()).svg()


def test_seeds_are_a_band_about_their_mean():
    wide = [replace(point, seed=1, train=point.train + 1) for point in points()]
    alone, both = (one("learning_of_model", *typed) for typed in (points(), [*points(), *wide]))
    assert "its band holds them all" in both.caption and "band" not in alone.caption
    assert len(both.figure.axes[0].collections) == 2 and not alone.figure.axes[0].collections
    assert list(both.figure.axes[0].lines[0].get_ydata()) == [4.5, 2.5]


def in_bits(point, factor=0.5):
    return replace(point, train_bits_per_byte=factor * point.train, valid_bits_per_byte=factor * point.valid)


def test_learning_is_drawn_in_bits_per_byte_where_they_are_known():
    drawing = one("learning_of_model", *map(in_bits, points()))
    train, valid = drawing.figure.axes[0].lines
    assert list(train.get_ydata()) == [2.0, 1.0] and list(valid.get_ydata()) == [2.5, 1.25]
    assert drawing.figure.axes[0].get_ylabel() == "bits per byte\n(lower is better)"
    assert drawing.caption == "Held-out text is lowest at step 2: 1.25 bits per byte."
    assert "GPT" in texts(one("learning", *map(in_bits, points())))


def test_learning_without_the_bytes_of_a_token_stays_in_nats_and_says_so():
    for name in ("learning", "learning_of_model"):
        partly = one(name, *map(in_bits, points()[:1]), *points()[1:])
        assert "nats per token" in partly.caption and "not known here" in partly.caption
        assert "bits" not in partly.figure.axes[0].get_ylabel()


def test_a_model_has_one_colour_in_every_figure():
    curve, place = [in_bits(replace(point, rank=GPT.rank)) for point in points()], {"rank": GPT.rank}
    seen = [replace(b, **place) for b in bins("gpt", 1.0)]
    drawings = [one("learning", *curve), one("learning_of_model", *curve), one("positions", *seen, results=[GPT])]
    drawings += [one("ladder", GPT), one("parameters", GPT, GPT)]
    colours = {line.get_color() for drawing in drawings for line in drawing.figure.axes[0].lines}
    assert colours - {INK} == {look(GPT.rank)["color"]}


def test_what_learns_by_heart_is_named_and_nothing_else():
    curve = [row("curves", step=s, train=3.0 / s, valid=v) for s, v in ((1, 3.0), (2, 2.0), (3, 2.5))]
    assert "by heart: GPT." in one("learning", *curve).caption
    assert "by heart" not in one("learning", *curve[:2]).caption
    assert not learning.overfits(frame.frame("curves", [replace(point, train=float(point.step)) for point in curve]))


# ---------------------------------------------------------------- sweeps, scaling


def sweep_point(value, bits, key="hidden", **changes):
    named = {"sweep": "mlp", "section": "models", "keys": json.dumps([key]), "values": json.dumps([value])}
    return row("sweeps", **{**named, "model": f"mlp-{value}", "bits_per_byte": bits, **changes})


def sweep(*values):
    return [sweep_point(value, 3.0 - 0.1 * place) for place, value in enumerate(values)]


def test_a_sweep_names_its_axes_and_its_values():
    assert {
        "Sweep of mlp: bits per byte over its first key",
        "hidden",
        "bits per byte (log scale, lower is better)",
        "16",
        "32",
        "64",
    } <= {*texts(one("sweeps", *sweep(16, 32, 64)))}


@pytest.mark.parametrize(
    ("values", "even"), [((1, 10, 100), True), ((1, 2, 9), False), (("tanh", "relu", "gelu"), True)]
)
def test_powers_and_words_stand_at_even_distances(values, even):
    svg = one("sweeps", *sweep(*values)).svg()
    first, second, third = (float(re.search(rf'x="([\d.]+)"[^>]*>{label}<', svg)[1]) for label in values)
    assert (abs((third - second) - (second - first)) < 1) is even


def test_a_second_key_makes_lines():
    keys = json.dumps(["hidden", "activation"])
    typed = [sweep_point(h, 2.0, keys=keys, values=json.dumps([h, a])) for h in (8, 16) for a in ("tanh", "relu")]
    drawing = one("sweeps", *typed)
    assert {"activation tanh", "activation relu"} <= {*texts(drawing)}
    assert [len(line.get_xdata()) for line in drawing.figure.axes[0].lines[:1]] == [2]


def test_two_corpora_are_two_lines():
    typed = [sweep_point(h, 2.0, corpus=corpus) for h in (8, 16) for corpus in ("coined", "fables")]
    assert {"coined", "fables"} <= {*texts(one("sweeps", *typed))}


def test_a_line_of_a_sweep_never_joins_two_models_texts_or_tokenizers():
    place = [("bigram", "char"), ("mlp", "char"), ("mlp", "bpe")]
    typed = [
        sweep_point(use, 2.0 + at, key="use", section="corpora", corpus=f"toy-{use}", model=name, tokenizer=tokens)
        for use in (0.1, 0.5, 1.0)
        for at, (name, tokens) in enumerate(place)
    ]
    [axes] = one("sweeps", *typed).figure.axes
    lines = {line.get_label(): [*line.get_ydata()] for line in axes.lines if not line.get_label().startswith("_")}
    assert lines == {"char, bigram": [2.0] * 3, "char, mlp": [3.0] * 3, "bpe, mlp": [4.0] * 3}
    assert {"0.1", "0.5", "1.0"} <= {label.get_text() for label in axes.get_xticklabels()} or len(
        axes.get_xticks()
    ) == 3


def test_words_are_not_joined_by_a_line():
    [axes] = one("sweeps", *sweep("tanh", "relu")).figure.axes
    assert all(line.get_linestyle() == "None" for line in axes.lines)


def test_the_caption_of_a_sweep_says_where_the_lowest_point_is():
    assert "the lowest point is 2.800 at hidden 64 (fables, char, test)" in one("sweeps", *sweep(16, 32, 64)).caption


def test_a_sweep_in_which_all_failed_has_no_figure():
    assert drawn("sweeps", sweep_point(8, None)) == []


@pytest.mark.parametrize("word", ["<i>", "\u202e", "$x$"])
def test_a_hostile_value_is_text(word):
    drawing = one("sweeps", sweep_point(word, 2.0), sweep_point("relu", 2.1))
    assert sweeps.written(word) in texts(drawing) and "\u202e" not in drawing.svg() + drawing.caption


def test_scaling_says_where_one_overtakes_the_next():
    sizes = [row("scaling", sweep="toy", bytes=size, bits_per_byte=bits) for size, bits in ((10, 4.0), (1000, 2.0))]
    crossing = row("crossings", sweep="toy", lower="char/low", upper="char/high", bytes=100.0)
    drawing = one("scaling", *sizes, crossings=[crossing, replace(crossing, sweep="other", bytes=5.0)])
    assert "char/high and char/low at 100 bytes" in drawing.caption and "5 bytes" not in drawing.caption
    assert "no model" in one("scaling", *sizes, crossings=[replace(crossing, bytes=None)]).caption
    assert len(drawing.figure.axes) == 1, "without operations there is no panel of them"


# ---------------------------------------------------------------- what models hold


def test_groups_of_tokens_differ_by_mark_and_not_by_colour_alone():
    assert len({marker for _, marker in embeddings.GROUPS.values()}) == len(embeddings.GROUPS)


def test_a_network_that_expects_the_counts_differs_in_nothing():
    cells = [("a", "b", 3.0), ("b", "a", 1.0)]
    typed = [row("pairs", model=name, first=a, second=b, count=count) for name in ("", "net") for a, b, count in cells]
    drawing = one("pairs", *typed)
    assert "Most frequent: a then b, 3 times." in drawing.caption and "differs in 0.0 % of all pairs" in drawing.caption
    assert {"counted in train", "expected by net"} <= {*texts(drawing)}


def test_the_most_alike_tokens_are_two_tokens():
    cosine = {("a", "a"): 1.0, ("b", "b"): 1.0, ("a", "b"): 0.3, ("b", "a"): 0.3}
    typed = [row("cosines", first=a, second=b, cosine=value) for (a, b), value in cosine.items()]
    assert "Most alike are a and b, 0.30" in one("cosines", *typed).caption


def test_a_network_copies_only_if_the_repetition_costs_less():
    looks = [row("attention", query=1, key=0, weight=1.0)]
    copying, other = (row("induction", score=0.5, drop=drop) for drop in (1.0, 0.0))
    assert "it copies" in one("attention", *looks, induction=[copying]).caption
    assert "has not learnt to copy" in one("attention", *looks, induction=[other]).caption
    assert "copy" not in one("attention", *looks).caption


# ---------------------------------------------------------------- comparisons


def test_a_difference_is_row_less_column_and_marked_where_significant():
    pair = {"a_corpus": "fables", "a_tokenizer": "char", "b_corpus": "fables", "b_tokenizer": "char"}
    typed = [
        row("differences", **pair, a_model="bigram", b_model="mlp", difference=1.0, p_holm=0.01),
        row("differences", **pair, a_model="gpt", b_model="mlp", difference=-0.5, p_holm=0.5),
    ]
    tables = frame.frame("differences", typed), frame.frame("results", [BIGRAM, MLP, GPT])
    labels, values, p = differences.by_category(*tables)["static"]
    assert labels == ["BIGRAM", "MLP", "GPT"] and values[1, 0] == -1.0 and values[2, 1] == -0.5 and p[1, 0] == 0.01
    assert "1 of 2 pairs" in one("differences", *typed, results=[BIGRAM, MLP, GPT]).caption


def test_categories_are_never_compared_in_one_triangle():
    pair = {"a_corpus": "fables", "a_tokenizer": "char", "b_corpus": "fables", "b_tokenizer": "char"}
    typed = [row("differences", **pair, a_model="bigram", b_model="mlp")]
    assert drawn("differences", *typed, results=[BIGRAM, replace(MLP, category="online")]) == []


def test_one_text_under_two_tokenizers_has_a_line_for_each_model_that_has_both():
    pair = {"a_corpus": "fables", "a_tokenizer": "char", "b_corpus": "short", "b_tokenizer": "bpe"}
    shorter = replace(GPT, corpus="short", tokenizer="bpe", bits_per_byte=1.2)
    typed = [
        row("differences", **pair, a_model="gpt", b_model="gpt", difference=0.3, p_holm=0.01),
        row("differences", **pair, a_model="mlp", b_model="gpt", difference=0.8, p_holm=0.01),
    ]
    drawing = one("tokenizers", *typed, results=[MLP, GPT, shorter])
    assert "MLP" not in texts(drawing) and {"GPT", "tokens: bpe", "tokens: char"} <= {*texts(drawing)}
    assert (
        "1 model under bpe" in drawing.caption
        and "Of 1 pair of tokenizers under one model 1 differs" in drawing.caption
    )
    assert drawn("tokenizers", *typed, results=[MLP, GPT]) == []


def test_a_gap_counts_only_for_a_model_that_sees_the_word():
    sees = row("transfer", sees=1.0, gap_bits=0.1, gap_bits_low=-0.1, gap_bits_high=0.3)
    blind = replace(sees, model="bigram", title="Bigram", sees=0.0)
    learned = replace(sees, model="mlp", title="MLP", gap_bits=1.0, gap_bits_low=0.5, gap_bits_high=1.5)
    caption = one("transfer", sees, blind, learned).caption
    assert "Not to be told from no gap: GPT." in caption and "(hollow): Bigram." in caption


def test_copying_is_compared_with_held_out_text():
    more = row("novelty", copy_mean=9.0, copy_mean_of_test=8.0)
    assert "more than held-out text does: GPT." in one("samples_novelty", more).caption
    assert "more than held-out text does" not in one("samples_novelty", replace(more, copy_mean=7.0)).caption


def test_minimal_pairs_name_all_that_decide_most():
    typed = [
        row("minimal_pairs", model=m, title=m, contrast="all", accuracy=a, pairs=100)
        for m, a in (("gpt", 0.9), ("mlp", 0.9), ("rnn", 0.5))
    ]
    caption = one("minimal_pairs", *typed).caption
    assert "rightly by gpt and mlp: 90 %." in caption and "guessing would get 40 to 60 % right" in caption


# ---------------------------------------------------------------- estimation


def test_the_figure_of_estimation_is_the_same_bytes_every_time_and_has_the_published_numbers():
    first, second = (next(files.groups(FIGURES["likelihoods"], None, {})).drawing for _ in range(2))
    assert first.svg() == second.svg() and "207.18 at 0.0473" in first.svg() and "204.16 at 0.0338" in first.svg()
    assert all(number in first.caption for number in ("0.62", "202.97", "207.18", "204.16"))
