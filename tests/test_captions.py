"""Every claim of every figure's caption follows from the rows that are drawn, in runs made to contradict it.

Each figure of the registry is fed each run of ``RUNS``. A sentence that holds a number, or the name of a model, must be
one of ``CLAIMS``, which recomputes it from the rows; so a figure with a new claim fails until its claim is checked.
"""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from test_figures import BIGRAM, FAILED, FIGURES, GPT, MLP, ORACLE, XZ, everything, in_bits, model, row, sweep_point

from lmstages.config.ladder import MODEL_TYPES
from lmstages.figures import files, rows
from lmstages.results import frame
from lmstages.results.frame import Results
from lmstages.results.schema import TABLES

# ---------------------------------------------------------------- the runs


OF_NO_ROW = ("frequencies", "pairs", "cosines", "embeddings", "attention")  # tables whose figures compare no rows


def content(results, **tables):
    """Rows of every table that compares rows: those of ``everything``, but with other results."""
    others = {**everything(), **{name: [] for name in OF_NO_ROW}}
    return {**others, "positions": bins_of(results), "differences": pairs_of(results), "results": results, **tables}


def bins_of(results):
    """Two bins of positions for every row that has a score; infinite where the row is."""
    place = ("corpus", "split", "tokenizer", "model", "title", "rank")
    return [
        row("positions", **{name: getattr(r, name) for name in place}, low=n, high=2 * n + 1, bytes=9,
            bits_per_byte=r.bits_per_byte + 1 - n)
        for r in results if r.bits_per_byte is not None and r.tokenizer != "-" for n in (0, 1)
    ]  # fmt: skip


def pairs_of(results):
    """Every two rows of one split and category, every second one of them significant."""
    scored = [
        r for r in results if r.tokenizer != "-" and r.bits_per_byte is not None and math.isfinite(r.bits_per_byte)
    ]
    pairs = [
        (a, b) for at, a in enumerate(scored) for b in scored[:at] if (a.category, a.split) == (b.category, b.split)
    ]
    sides = [
        {
            f"{side}_{name}": getattr(r, name)
            for side, r in (("a", a), ("b", b))
            for name in ("corpus", "tokenizer", "model")
        }
        for a, b in pairs
    ]
    return [
        row(
            "differences",
            **side,
            split=a.split,
            difference=a.bits_per_byte - b.bits_per_byte,
            p_holm=0.01 + 0.2 * (n % 2),
        )
        for n, (side, (a, b)) in enumerate(zip(sides, pairs, strict=True))
    ]


def curves(*losses):
    """A learning curve in bits per byte for each (model, held-out losses)."""
    return [
        in_bits(row("curves", model=name, title=name.upper(), rank=rank, seed=seed, step=10 * (n + 1),
                    train=1 / (n + 1), valid=valid + seed / 10))
        for rank, (name, seeds, valids) in enumerate(losses) for seed in range(seeds) for n, valid in enumerate(valids)
    ]  # fmt: skip


BEST_IN_THE_MIDDLE = replace(MLP, bits_per_byte=0.9, bits_per_byte_low=0.8, bits_per_byte_high=1.0)
BPE = replace(GPT, tokenizer="bpe", bits_per_byte=1.2)
ONLINE = model("cache", 0.7, category="online")
ROUNDED = replace(GPT, model="llama_q4", type="llama_q4", title="Rounded", made_of="gpt", fit_seconds=9.1)
NOVEL = {"unseen_documents": 9, "unseen_byte_fraction": 1.0}
ENDLESS = replace(MLP, bits_per_byte=math.inf, perplexity=math.inf)


def valid_and_test():
    """The two splits disagree about who is best, and about the front."""
    test = [BIGRAM, MLP, GPT, ORACLE]
    return [*test, *(replace(r, split="valid", bits_per_byte=5 - r.bits_per_byte) for r in test[:3])]


RUNS = {
    "plain": lambda: everything(),
    "the last model is not the best": lambda: content(
        [BIGRAM, BEST_IN_THE_MIDDLE, GPT, ROUNDED, ONLINE, XZ],
        curves=curves(("mlp", 1, [3.0, 1.0]), ("gpt", 2, [2.0, 1.5])),
        minimal_pairs=[row("minimal_pairs", model=m, title=m.upper(), contrast="all", accuracy=a, pairs=40)
                       for m, a in (("mlp", 0.9), ("gpt", 0.4))],
        infilling=[row("infilling", model=m, title=m.upper(), gap="characters", length=k, side="both",
                       nats_per_character=n, exact_match=0.3)
                   for m, k, n in (("mlp", 1, 0.5), ("gpt", 1, 0.7), ("gpt", 2, 0.4), ("mlp", 2, None))],
        generated=[row("generated", model="sundae", title="NOISE", sampler=s, steps=4, measure=m, seconds=1.0,
                       bits_per_byte=b, accepted=0.5)
                   for s, m, b in (("mending", "none", None), ("denoising", "bound", 2.0))],
        novelty=[row("novelty", model=m, title=m.upper(), copy_mean=c, copy_max=30.0, copy_mean_of_test=8.0)
                 for m, c in (("mlp", 20.0), ("gpt", 3.0))],
        transfer=[row("transfer", sees=1.0, gap_bits=0.1, gap_bits_low=-0.1, gap_bits_high=0.3, reference_bits=2.0),
                  row("transfer", model="mlp", title="MLP", gap_bits=0.5, gap_bits_low=0.2, gap_bits_high=0.9)],
        sweeps=[sweep_point(8, 1.5), sweep_point(16, 2.5), sweep_point(32, None)],
    ),
    "all documents are new": lambda: content([replace(r, **NOVEL, unseen_bits_per_byte=r.bits_per_byte)
                                              for r in (BIGRAM, MLP, GPT)]),
    "one tokenizer": lambda: content([BIGRAM, MLP, GPT, ORACLE]),
    "two tokenizers": lambda: content([BIGRAM, MLP, GPT, BPE, replace(MLP, tokenizer="bpe", bits_per_byte=2.4)]),
    "one model": lambda: content([GPT], curves=curves(("gpt", 1, [3.0, 1.0])), sweeps=[sweep_point(8, 2.0)],
                                 transfer=[row("transfer", gap_bits=0.5, sees=0.2)]),
    "an infinite row": lambda: content([BIGRAM, ENDLESS, GPT, ORACLE],
                                       sweeps=[sweep_point(8, math.inf), sweep_point(9, 2.0)]),
    "all but one infinite": lambda: content([replace(BIGRAM, bits_per_byte=math.inf), ENDLESS, GPT]),
    "a failed row": lambda: content([BIGRAM, FAILED, MLP, GPT]),
    "all but one failed": lambda: content([replace(BIGRAM, bits_per_byte=None, status="failed: x"), FAILED, GPT, XZ]),
    "valid and test differ": lambda: content(valid_and_test()),
    "the best is the cheapest": lambda: content([replace(BIGRAM, bits_per_byte=1.0), replace(MLP, made_of="x"), GPT]),
    "the text is learned by heart": lambda: content([MLP, GPT], curves=curves(("mlp", 2, [2.0, 1.0, 3.0]),
                                                                              ("gpt", 1, [2.0, 1.5, 1.4]))),
    "rows far from all others": lambda: content([*(model(f"m{n}", 1 + n / 9) for n in range(5)), model("unigram", 6.0),
                                                 replace(ORACLE, bits_per_byte=0.1)]),
    "only online": lambda: content([ONLINE, replace(ONLINE, model="ppm_online", title="PPM", bits_per_byte=0.6)]),
}  # fmt: skip
_drawn = {}


def drawn(name, tmp_path_factory):
    """A run's drawings, each with the rows of its group and the tables it reads besides; made once."""
    if name not in _drawn:
        folder, tables = tmp_path_factory.mktemp("run"), RUNS[name]()
        for table in TABLES:
            frame.write(folder, table, frame.frame(table, tables.get(table, [])), {})
        results = Results(folder, {"run": "run", "estimation": True})
        _drawn[name] = [Case(item, results) for item in _items(results)]
    return _drawn[name]


def _items(results):
    for figure in (figure for figure in FIGURES.values() if figure.table):
        also = {name: files.shown(results.table(name)[list(columns)]) for name, columns in figure.also.items()}
        yield from files.groups(figure, results.table(figure.table) if figure.table else None, also)


class Case:
    """A drawing beside the rows that it shows."""

    def __init__(self, item, results):
        figure = FIGURES[item.figure]
        self.name, self.caption, self.sheet, self.svg = (
            item.figure,
            item.drawing.caption,
            item.drawing.figure,
            item.drawing.svg(),
        )
        self.rows = results.table(figure.table) if figure.table else None
        for column, value in item.group.items():
            self.rows = self.rows[self.rows[column] == value]
        self.also = {name: results.table(name) for name in figure.also}
        if self.rows is not None:
            self.rows = self.rows.reset_index(drop=True)
            if {"title", "model"} <= {*self.rows}:
                naming = (
                    rows.names_with_tokenizer
                    if "tokenizer" in self.rows and "tokenizer" not in item.group
                    else rows.names
                )
                beside = self.rows.get("family", self.rows["model"]).isin(["oracle", "compressor"])
                self.rows["name"] = naming(self.rows)
                self.rows.loc[~beside, "name"] = naming(self.rows[~beside])
                self.models = self.rows[~beside]

    def sentences(self):
        """Those that say something of this run."""
        return [
            text
            for text in re.split(r"(?<=\.) (?=[A-Z]|t-SNE)", self.caption)
            if re.search(r"\d|[Hh]ollow|dashed|dotted", text) or self.names(text)
        ]

    def names(self, text):
        """The models that a sentence names."""
        every = {*self.rows["name"]} if self.rows is not None and "name" in self.rows else set()
        return {name for name in every if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}

    def listed(self, text):
        """``A, B and C, char`` -> the names, of which nothing but commas and "and" is left."""
        found = set()
        for name in sorted({*self.rows["name"]}, key=len, reverse=True):
            if name in text:
                found.add(name)
                text = text.replace(name, "")
        assert not re.sub(r"[,;]|\band\b|\s", "", text), text
        return found

    def scored(self, column="bits_per_byte"):
        """Models with a finite number."""
        return self.models[np.isfinite(self.models[column].to_numpy(dtype=float, na_value=np.nan))]

    def static(self, column="bits_per_byte"):
        scored = self.scored(column)
        return scored[scored["category"] == "static"]

    def lines_at(self, value):
        """Lines across the panel at a value."""
        lines = [line for line in self.sheet.axes[0].lines if len(line.get_xdata()) == 2]
        points = [np.r_[line.get_xdata(), line.get_ydata()].astype(float) for line in lines]
        return [line for line, at in zip(lines, points, strict=True) if np.isclose(at, value).sum() == 2]


def words(text):
    """``a, b and c`` -> {a, b, c}."""
    between = "; " if "; " in text else ", "
    return {name for part in text.split(between) for name in part.split(" and ")}


# ---------------------------------------------------------------- the claims


def fewest_and_most(case, count, best, fewest, worst, most):
    static = case.static()
    bits = dict(zip(static["name"], static["bits_per_byte"], strict=True))
    assert len(static) == int(count) > 1
    assert bits[best] == min(bits.values()) and f"{bits[best]:.2f}" == fewest
    assert bits[worst] == max(bits.values()) and f"{bits[worst]:.2f}" == most


def dashed_line(case, bits):
    floors = case.rows[case.rows["family"].isin(["oracle", "compressor"])]["bits_per_byte"]
    assert f"{floors.min():.2f}" == bits and case.lines_at(float(floors.min()))


def floor_out_of_sight(case, bits):
    lowest = case.rows[case.rows["family"].isin(["oracle", "compressor"])]["bits_per_byte"].min()
    [axes] = case.sheet.axes
    limits = axes.get_ylim() if case.name in ("parameters", "compute", "fit_time") else axes.get_xlim()
    assert f"{lowest:.2f}" == bits and lowest < limits[0] and not case.lines_at(lowest)


def beyond_the_edge(case, names):
    scored, high = case.scored(), case.sheet.axes[0].get_xlim()[1]
    assert case.listed(names) == {*scored.loc[scored["bits_per_byte"] > high, "name"]}


def infinite(case, names):
    assert case.listed(names) == {*case.models.loc[np.isinf(case.models["bits_per_byte"].astype(float)), "name"]}


def without_a_score(case, names):
    assert case.listed(names) == {*case.models.loc[case.models["bits_per_byte"].isna(), "name"]}


def bars(case):
    drawn = [item for axes in case.sheet.axes for item in axes.collections if isinstance(item, LineCollection)]
    assert drawn or any(line.get_marker() == "|" for axes in case.sheet.axes for line in axes.lines)


def hollow(case, categories):
    assert words(categories) == {*case.models["category"]} - {"static"}
    assert any(line.get_markerfacecolor() == "none" for line in case.sheet.axes[0].lines)


COST = {"parameters": "parameters", "compute": "flops", "fit_time": "fit_seconds"}


def front_of(case):
    """Static rows that none beats, by comparing every two."""
    cost = COST[case.name]
    static = case.static()[["name", cost, "bits_per_byte"]].dropna()
    points = [point for point in static.itertuples(index=False) if point[1] > 0]
    kept = [a for a in points if not any(b[1] <= a[1] and b[2] <= a[2] and b[1:] != a[1:] for b in points)]
    return {a[0] for a in kept}, {a[1:] for a in kept}


def front_line(case, names):
    members, places = front_of(case)
    assert len(places) > 1 and case.listed(names) <= members and len(case.listed(names)) == len(places)
    assert "Pareto front" in case.svg


def front_of_one(case, name, _):
    members, places = front_of(case)
    assert name in members and len(places) == 1 and "Pareto front" not in case.svg


def bears_cost(case, names):
    assert case.listed(names) == {*case.scored(COST[case.name]).query("made_of.notna()")["name"]}


def not_counted(case, names):
    cost = case.scored()[COST[case.name]].fillna(0)
    assert case.listed(names) == {*case.scored()["name"][cost.to_numpy() <= 0]}


def unscored(case, names):
    assert case.listed(names) == {*case.models["name"]} - {*case.scored()["name"]}


def ends_lowest(case, count, name, value):
    last = case.rows.groupby(["name", "step"])["valid_bits_per_byte"].mean().reset_index().groupby("name").last()
    assert len(last) == int(count) > 1 and last["valid_bits_per_byte"].idxmin() == name
    assert f"{last['valid_bits_per_byte'].min():.2f}" == value


def by_heart(case, names):
    means = case.rows.groupby(["name", "step"])["valid"].mean().unstack()
    assert case.listed(names) == {name for name, curve in means.iterrows() if curve.iloc[-1] > 1.01 * curve.min()}


def lowest_step(case, step, value, unit):
    column = {"bits per byte": "valid_bits_per_byte", "nats per token": "valid"}[unit]
    means = case.rows.groupby("step")[column].mean()
    assert means.idxmin() == int(step) and f"{means.min():.2f}" == value


def seeds_in_a_band(case, count=None):
    seeds = case.rows["seed"].nunique()
    assert seeds > 1 and count in (None, str(seeds))
    assert any(isinstance(item, PolyCollection) for item in case.sheet.axes[0].collections)


def mean_bits(case):
    bins = case.rows[case.rows["model"] != "oracle"]
    return (bins["bits_per_byte"] * bins["bytes"]).groupby(bins["name"]).sum() / bins.groupby("name")["bytes"].sum()


def ends_of_best(case, name, best, first, last):
    means, known = mean_bits(case), case.also["results"].drop_duplicates("model").set_index("model")["category"]
    category = case.rows.drop_duplicates("name").set_index("name")["model"].map(known)
    if "static" in best:
        means = means[category.reindex(means.index) == "static"]
    bits = case.rows.loc[case.rows["name"] == name, "bits_per_byte"]
    assert means.idxmin() == name and (f"{bits.iloc[0]:.2f}", f"{bits.iloc[-1]:.2f}") == (first, last)
    assert ("best of all" in best) <= ("static" not in {*category}) and (best == "") == (np.isfinite(means).sum() == 1)


def pale(case, count):
    assert len([line for line in case.sheet.axes[0].lines if line.get_alpha() and line.get_alpha() < 0.5]) == int(count)


def infinite_somewhere(case, names):
    assert case.listed(names) == {*case.rows.loc[np.isinf(case.rows["bits_per_byte"].astype(float)), "name"]}


def copies_more(case, names):
    assert case.listed(names) == {*case.rows.loc[case.rows["copy_mean"] > case.rows["copy_mean_of_test"], "name"]}


def longest_copies(case, name, length):
    assert len(case.rows) > 1 and case.rows.loc[case.rows["copy_mean"].idxmax(), "name"] == name
    assert f"{case.rows['copy_mean'].max():.0f}" == length


def pairs_of_a_contrast(case, count, contrast):
    assert int(count) == case.rows.loc[case.rows["contrast"] == contrast, "pairs"].max()


def decided_most(case, names, percentage):
    every = case.rows[case.rows["contrast"] == "all"].groupby("name")["accuracy"].mean()
    assert len(every) > 1 and case.listed(names) == {*every[every == every.max()].index}
    assert f"{100 * every.max():.0f}" == percentage


def couples(case, couples, withheld):
    assert (int(couples), int(withheld)) == (case.rows["couples"].max(), case.rows["withheld"].max())


def dotted_line(case):
    bits = case.rows["reference_bits"].dropna()
    assert len(bits) and all(case.lines_at(value) for value in bits)


def dotted_if_not_static(case):
    lines = [line for line in case.sheet.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert len(lines) == len({*case.also["results"].query("category != 'static' and tokenizer != '-'")["category"]})


def no_gap(case, names):
    seeing = case.rows[
        (case.rows["sees"] >= 0.5) & (case.rows["gap_bits_low"] <= 0) & (case.rows["gap_bits_high"] >= 0)
    ]
    assert case.listed(names) == {*seeing["name"]}


def blind(case, names):
    assert case.listed(names) == {*case.rows.loc[case.rows["sees"] < 0.5, "name"]}


def best_tokenizers(case, counts):
    results = (
        case.also["results"]
        .query("split == @case.rows.split.iloc[0] and tokenizer != '-'")
        .dropna(subset="bits_per_byte")
    )
    both = results.groupby("model").filter(lambda same: same["tokenizer"].nunique() > 1)
    best = both.loc[both.groupby("model")["bits_per_byte"].idxmin(), "tokenizer"].value_counts()
    assert {re.sub(r"models?", "model", text) for text in words(counts)} == {
        f"{n} model under {t}" for t, n in best.items()
    }


def tokenizer_pairs(case, count, certain):
    same = case.rows[
        (case.rows["a_model"] == case.rows["b_model"]) & (case.rows["a_tokenizer"] != case.rows["b_tokenizer"])
    ]
    assert (len(same), (same["p_holm"] < 0.05).sum()) == (int(count), int(certain))


def sweep_ends(case, lowest, value, ends):
    bits = case.rows["bits_per_byte"].replace(math.inf, np.nan)
    assert f"{bits.min():.3f}" == lowest and str(json.loads(case.rows["values"][bits.idxmin()])[0]) == value
    assert (f"highest is {bits.max():.3f}" in ends) if bits.count() > 1 else "highest" not in ends


def overtakes(case, upper, lower, size):
    crossings = case.also["crossings"].dropna(subset="bytes")
    assert (upper, lower, size) in {(c.upper, c.lower, f"{c.bytes:,.0f}") for c in crossings.itertuples()}


def significant(case, different, pairs):
    kept = case.rows[np.isfinite(case.rows["difference"])]
    assert (int(different), int(pairs)) == ((kept["p_holm"] < 0.05).sum(), len(kept))


def empty_fields(case, fields):
    rows_of = case.also["results"].query("split == @case.rows.split.iloc[0]")
    keys = {(a.a_tokenizer, a.a_model) for a in case.rows.itertuples()} | {
        (a.b_tokenizer, a.b_model) for a in case.rows.itertuples()
    }
    sizes = rows_of[[key in keys for key in zip(rows_of["tokenizer"], rows_of["model"], strict=True)]][
        "category"
    ].value_counts()
    assert int(fields) == sum(n * (n - 1) // 2 for n in sizes if n > 1) - len(case.rows)


def induction(case, score, layer, head):
    [found] = case.also["induction"].merge(case.rows[["corpus", "tokenizer", "model"]][:1]).itertuples()
    assert (f"{found.score:.2f}", found.layer, found.head) == (score, int(layer), int(head))


def copying(case, drop):
    assert f"{case.also['induction']['drop'].iloc[0]:.2f}" == drop and float(drop) > 0.05


def alike(case, a, b, cosine):
    others = case.rows[case.rows["first"] != case.rows["second"]]
    assert f"{others['cosine'].max():.2f}" == cosine and a != b


def silhouettes(case, before, after):
    shown = case.rows[case.rows["projection"] == "t-SNE"].groupby("stage")["silhouette"].first()
    assert (f"{shown['initial']:.2f}", f"{shown['trained']:.2f}") == (before, after)


def most_frequent_tokens(case, token, percentage):
    counts = case.rows.set_index("token")["count"]
    assert counts.idxmax() == token and f"{100 * counts.max() / counts.sum():.1f}" == percentage


def most_frequent_pair(case, a, b, count):
    counted = case.rows[case.rows["model"] == ""].set_index(["first", "second"])["count"]
    assert counted[a, b] == counted.max() and f"{counted.max():,.0f}" == count


def expected_pairs(case, name, percentage):
    by_title = {MODEL_TYPES[m].title if m in MODEL_TYPES else m: m for m in case.rows["model"]}
    both = case.rows.pivot_table("count", ["first", "second"], "model").fillna(0)
    moved = (both[""] - both[by_title[name]]).abs().sum() / 2 / both[""].sum()
    assert f"{100 * moved:.1f}" == percentage


def anything(case, *_):
    """A sentence whose numbers are units, or of no run."""


NUMBER = r"(-?[\d.,]*\d)"


def hidden_rows(case, places, context):
    assert {str(value) for value in case.rows["places"]} == {places} and {*case.rows["context"]} == {int(context)}


def traced_facts(case, facts):
    assert {str(value) for value in case.also["recalled"]["facts"]} == {facts}


def recall_nothing(case, names):
    held = case.rows.groupby("title")["recovered"].count()
    assert case.listed(names) == {*held[held == 0].index}


def further_rows(case, count):
    names = {line.get_label() for line in case.sheet.axes[0].lines}
    assert len({*case.rows["name"]} - names) == int(count)


def gains(case, name, first, last):
    own = case.rows[case.rows["name"] == name].sort_values("tenth")["gain"]
    assert (f"{own.iloc[0]:.3f}", f"{own.iloc[-1]:.3f}") == (first, last)


def left_alone(case):
    assert "left" in {*case.rows["side"]} and any(line.is_dashed() for line in case.sheet.axes[0].lines)


def fills_best(case, name, length, nats, right):
    rows = case.models[(case.models["length"] == int(length)) & (case.models["side"] == "both")]
    best = rows.loc[rows["nats_per_character"].astype(float).idxmin()]
    assert (best["name"], f"{best['nats_per_character']:.2f}") == (name, nats)
    assert f"{100 * best['exact_match']:.0f}" == right


def drawn_texts(case, texts, tokens):
    assert ({*case.rows["texts"]}, {*case.rows["length"]}) == ({int(texts)}, {int(tokens)})


def ringed(case, samplers):
    assert (
        len(re.findall(r" \((?:next token|random|certain|denoising|mending)", samplers)) == case.rows["is_best"].sum()
    )


def dearest(case, sampler, cost):
    rows = case.rows[case.rows["than_next"].notna()]
    found = rows.loc[rows["than_next"].astype(float).idxmax()]
    assert f"({found['sampler']} in {found['steps']})" in sampler and f"{found['than_next']:.2f}" == cost


CLAIMS = {
    rf"Of {NUMBER} static rows (.+) needs the fewest, {NUMBER}, and (.+) needs the most, {NUMBER}\.": fewest_and_most,
    rf"The dashed line at {NUMBER} is .+\.": dashed_line,
    rf"(?:Beyond the left edge|Below the panel), at {NUMBER}, is .+\.": floor_out_of_sight,
    r"Beyond the right edge, with an arrow and a number: (.+)\.": beyond_the_edge,
    r"Infinite, since something in the text had probability 0: (.+)\.": infinite,
    r"Without a score: (.+)\.": without_a_score,
    r"Bars are 95 % intervals(?:, or one standard deviation over seeds where there is no interval)?\.": bars,
    r"Hollow marks \((.+)\) are not .*ranked with the full ones\.": hollow,
    r"The line joins the static models that no other beats with fewer bits at no more .+: (.+)\.": front_line,
    r"No static model has fewer bits per byte than (.+), and none fewer (.+)\.": front_of_one,
    r"Made of a fitted model, whose cost it bears: (.+)\.": bears_cost,
    r"Not drawn, since no .+ are counted for them: (.+)\.": not_counted,
    r"Not drawn, without a finite score: (.+)\.": unscored,
    rf"Of {NUMBER} models (.+) ends lowest, at {NUMBER} bits per byte\.": ends_lowest,
    r"Held-out loss past its lowest point while train still falls, so learning by heart: (.+)\.": by_heart,
    rf"Held-out text is lowest at step {NUMBER}: {NUMBER} (bits per byte|nats per token)\.": lowest_step,
    rf"A line is the mean of {NUMBER} seeds, its band holds them all\.": seeds_in_a_band,
    rf"(.+?)(, the best static model,|, the best of all,|) goes from {NUMBER} at the beginning to {NUMBER} at .+\.":
        ends_of_best,
    rf"Pale: {NUMBER} further models?, the best of all others\.": pale,
    r"Not drawn, since infinite at some position: (.+)\.": infinite_somewhere,
    r"Samples of each model beside held-out text of like length .+\.": anything,
    r"Copying more than held-out text does: (.+)\.": copies_more,
    rf"The longest copies on average are those of (.+), {NUMBER} characters\.": longest_copies,
    rf"In brackets the number of pairs: of the {NUMBER} in (\w+), guessing would get .+\.": pairs_of_a_contrast,
    rf"Most are decided rightly by (.+): {NUMBER} %\.": decided_most,
    rf"In {NUMBER} rows? of {NUMBER} characters the middle was hidden and its length told\.": hidden_rows,
    r"The dotted lines are the same models from the left alone\.": left_alone,
    rf"(.+) fills {NUMBER} characters? best, at {NUMBER}, and rightly {NUMBER} times in 100\.": fills_best,
    rf"Held-out stories recall {NUMBER} facts? that they said before; .+\.": traced_facts,
    r"Numbers are percent of the fact's worth that comes back: .+\.": anything,
    r"Not drawn, since not known to recall any fact: (.+)\.": recall_nothing,
    rf"Not drawn: {NUMBER} further rows? of this text\.": further_rows,
    r"Dotted is online evaluation; .+ with 95 % intervals\.": anything,
    rf"(.+) gains {NUMBER} in the first tenth and {NUMBER} in the last\.": gains,
    rf"Every sampler drew {NUMBER} texts? of up to {NUMBER} tokens at once, on one thread; .+\.": drawn_texts,
    r"Ringed, since none is as fast and as good: (.+)\.": ringed,
    rf"Of a model's samplers (.+) costs most beside token by token: \+{NUMBER} bits per byte\.": dearest,
    rf"{NUMBER} couples? of the text may stand in train, {NUMBER} were withheld from it\.": couples,
    r"The gap is what a withheld couple costs more: near 0 .+\.": anything,
    r"The dotted line is a model that counts the couples and knows no rule\.": dotted_line,
    r"Named is the best model of each family and category \(dotted: not static\)\.": dotted_if_not_static,
    r"Not to be told from no gap: (.+)\.": no_gap,
    r"Too short a context to see the first word of most couples \(hollow\): (.+)\.": blind,
    r"Fewest bits: (.+)\.": best_tokenizers,
    rf"Of {NUMBER} pairs? of tokenizers under one model {NUMBER} differs? significantly .+\.": tokenizer_pairs,
    rf"The same entry of the config, .+: the lowest point is {NUMBER} at \w+ (\w+) \(.+?\)(.*)\.": sweep_ends,
    rf"Where two lines cross, one model overtakes the other: (.+) and (.+) at {NUMBER} bytes\.": overtakes,
    rf"A dot marks a difference .+ for all pairs of the text: {NUMBER} of {NUMBER} pairs?\.": significant,
    rf"Without a finite difference in this table, and so empty: {NUMBER} fields?\.": empty_fields,
    rf"Induction score {NUMBER} \(layer {NUMBER}, head {NUMBER}; .+\): .+\.": induction,
    rf"The repetition costs {NUMBER} nats per token less: it copies\.": copying,
    rf"Cosine of the {NUMBER} numbers that stand for each token after training: .+\.": anything,
    rf"Most alike are (.+) and (.+), {NUMBER}: .+\.": alike,
    rf"Silhouette of vowels and consonants .+: {NUMBER} before training, {NUMBER} after\.": silhouettes,
    rf"Most frequent, whatever came before: (.) \({NUMBER} %\) and . \({NUMBER} %\)\.":
        lambda case, token, first, _: most_frequent_tokens(case, token, first),
    rf"Most frequent: (.+) then (.+), {NUMBER} times\.": most_frequent_pair,
    r"An empty field never occurred, and without smoothing would have probability 0\.": anything,
    rf"(.+) was fitted by gradient descent .+; it differs in {NUMBER} % of all pairs\.": expected_pairs,
}  # fmt: skip


def claim_of(sentence):
    """The check of a sentence, and what it says."""
    matches = [(check, match) for pattern, check in CLAIMS.items() if (match := re.fullmatch(pattern, sentence))]
    assert matches, f"no check of the claim: {sentence}"
    return matches[0]


# ---------------------------------------------------------------- the tests


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", [name for name in FIGURES if FIGURES[name].table])
def test_every_claim_of_a_caption_follows_from_what_is_drawn(name, run, tmp_path_factory):
    for case in drawn(run, tmp_path_factory):
        if case.name == name:
            for sentence in case.sentences():
                check, match = claim_of(sentence)
                check(case, *match.groups())


@pytest.mark.parametrize("run", RUNS)
def test_no_caption_speaks_of_what_is_not_drawn(run, tmp_path_factory):
    for case in drawn(run, tmp_path_factory):
        lines = [line for axes in case.sheet.axes for line in axes.lines]
        assert ("dotted" not in case.caption.lower()) or any(line.is_dashed() for line in lines), case.caption
        assert ("dashed" not in case.caption.lower()) or any(line.is_dashed() for line in lines), case.caption
        assert ("band holds" not in case.caption) or any(
            isinstance(item, PolyCollection) for axes in case.sheet.axes for item in axes.collections
        ), case.caption
        assert not re.search(r"\b(nan|None|<NA>|inf)\b", case.caption), case.caption


def test_every_claim_is_made_in_one_of_the_runs(tmp_path_factory):
    """A check that nothing reaches would check nothing."""
    sentences = [text for run in RUNS for case in drawn(run, tmp_path_factory) for text in case.sentences()]
    assert [pattern for pattern in CLAIMS if not any(re.fullmatch(pattern, text) for text in sentences)] == []


@pytest.mark.parametrize("run", RUNS)
def test_every_figure_of_a_run_is_drawn_where_it_has_rows(run, tmp_path_factory):
    names = {case.name for case in drawn(run, tmp_path_factory)}
    assert {"learning", "learning_of_model", "samples_novelty", "minimal_pairs", "scaling", "sweeps"} <= names
    assert run != "plain" or names == {*FIGURES} - {"likelihoods"}
    assert ("tokenizers" in names) == (run in ("plain", "two tokenizers"))
