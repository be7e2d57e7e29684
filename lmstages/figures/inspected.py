"""What models hold, laid open: counts, embeddings and attention, as the sources of the ladder show them.

Knows what ``inspection.json`` tells of a corpus under a tokenizer; never a model. A matrix is drawn as one colour that
is the more opaque the larger a number is, so that nothing is paper, be that light or dark.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lmstages.figures.drawing import COLOURS, INK, Drawing, canvas, frame, panels, settings
from lmstages.figures.rows import Row, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Found = Mapping[str, Any]
BARS = 48  # tokens of the bar chart
SHADE = "#2b83c6"  # to be seen on light and on dark
KINDS = {
    "vowels": (COLOURS[1], "o"),
    "consonants": (COLOURS[0], "s"),
    "capitals": (COLOURS[2], "^"),
    "digits": (COLOURS[3], "D"),
    "signs": (COLOURS[4], "v"),
    "others": (COLOURS[6], "X"),
}


def inspected(row: Row, found: Found) -> Iterator[tuple[str, Drawing]]:
    """One row, what was found where it stands -> the figures of its model by name; none where nothing was found."""
    of = f"{named(row)}, {row['corpus']}, tokens: {row['tokenizer']}"
    mine = found["models"].get(row["model"], {})
    if row["type"] == "unigram":
        yield "counts", unigrams(of, found)
    if row["type"] == "bigram":
        yield "counts", bigrams(of, found, None)
    if mine.get("expected"):
        yield "counts", bigrams(of, found, mine["expected"])
    if told := mine.get("embedding"):
        yield "cosines", cosines(of, found["labels"], told)
        yield "embedding", embedding(of, found["labels"], told)
    if told := mine.get("attention"):
        yield "attention", attention(of, told, mine["induction"])


BESIDE: Mapping[int, Any] = {
    1: {"left": 0.11, "right": 0.98, "top": 0.88, "bottom": 0.08},
    2: {"left": 0.055, "right": 0.99, "top": 0.88, "bottom": 0.08, "wspace": 0.1},
}  # shares of the sheet: what places its own panels is drawn in half the time


# ---------------------------------------------------------------- counts


def unigrams(of: str, found: Found) -> Drawing:
    """How often each token comes in train, the most frequent first."""
    total = sum(found["unigrams"])
    ranked = sorted(zip(found["unigrams"], found["labels"], strict=True), key=lambda each: -each[0])[:BARS]
    shares = [100 * count / total for count, _ in ranked]
    title = f"How often each token comes: {of}"
    with settings():
        figure, axes = canvas(7.2, 2.9, title)
        axes.bar(range(len(ranked)), shares, color=SHADE, width=0.78)
        axes.set_xticks(range(len(ranked)), [label for _, label in ranked])
        axes.tick_params(axis="x", labelrotation=90 if max(len(label) for _, label in ranked) > 2 else 0)
        axes.set_xlim(-0.7, len(ranked) - 0.3)
        axes.set(xlabel="token, the most frequent first (␣ space, ↵ end of line)", ylabel="share of train, %")
        first = " and ".join(
            f"{label} ({share:.1f} %)" for (_, label), share in list(zip(ranked, shares, strict=True))[:2]
        )
        return Drawing(
            title, f"This is all that a unigram knows: {first} are the likeliest, whatever came before.", figure
        )


def bigrams(of: str, found: Found, expected: Sequence[Sequence[float]] | None) -> Drawing:
    """Counts of pairs, and beside them what a network with the same view would expect."""
    counts = np.array(found["bigrams"], dtype=float)
    both = [("counted in train", counts)]
    if expected is not None:
        both.append(("expected by the network", np.array(expected)))
    title = f"Which token follows which: {of}"
    with settings():
        figure = panels(4.9 * len(both), 5.1, layout="none")
        figure.subplots_adjust(**BESIDE[len(both)])
        for axes, (name, values) in zip(np.atleast_1d(figure.subplots(1, len(both))), both, strict=True):
            _matrix(axes, np.log1p(values) / max(1e-9, float(np.log1p(counts).max())), found["labels"])
            axes.set_title(name, loc="left", fontsize=9.5)
            axes.set(xlabel="next token", ylabel="token")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10.5)
        return Drawing(title, _bigrams_sentence(counts, found["labels"], expected), figure)


def _bigrams_sentence(counts: np.ndarray, labels: Sequence[str], expected: Any) -> str:
    row, column = (int(place) for place in np.unravel_index(counts.argmax(), counts.shape))
    most = f"{labels[row]} then {labels[column]}, {int(counts.max()):,} times"
    told = f"A row is a token, a column what follows; the darker, the more often, on a logarithmic scale. Most: {most}."
    if expected is None:
        return f"{told} An empty field never came, and without smoothing would be held impossible."
    apart = float(np.abs(counts - np.array(expected)).sum() / (2 * counts.sum()))
    return (
        f"{told} The network was never told the table and has found it again, but for {100 * apart:.1f} % of all pairs."
    )


def _matrix(axes: "Axes", values: np.ndarray, labels: Sequence[str], size: float = 5.2) -> None:
    """(K, K) shares of one -> fields, one colour, opaque at one."""
    from matplotlib.colors import to_rgb

    fields = np.empty((*values.shape, 4))
    fields[..., :3], fields[..., 3] = to_rgb(SHADE), np.clip(values, 0, 1)
    axes.imshow(fields, interpolation="none", aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(labels)), labels, fontsize=size)
        axis.set_tick_params(pad=1)
    if max(map(len, labels)) > 2:
        axes.tick_params(axis="x", labelrotation=90)
    for spine in axes.spines.values():
        spine.set(visible=True, alpha=0.4)


# ---------------------------------------------------------------- embeddings


def cosines(of: str, labels: Sequence[str], told: Found) -> Drawing:
    """How alike the vectors of every two tokens are; what is unlike or opposite is left white."""
    values = np.array(told["cosines"])
    title = f"Which tokens are alike: {of}"
    with settings():
        figure = panels(5.6, 5.7, layout="none")
        figure.subplots_adjust(left=0.1, right=0.98, top=0.93, bottom=0.08)
        axes = figure.subplots()
        _matrix(axes, np.maximum(values, 0), labels)
        axes.set(xlabel="token", ylabel="token")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10.5, pad=10)
        np.fill_diagonal(values, -1)
        a, b = (int(place) for place in np.unravel_index(values.argmax(), values.shape))
        sentence = (
            f"Cosine of the {told['width']} numbers that stand for each token after training, from 0 (empty) to 1 "
            f"(full); negative ones are cut. Most alike are {labels[a]} and {labels[b]}, {values[a, b]:.2f}: "
            "the network reads them in much the same way."
        )
        return Drawing(title, sentence, figure)


def embedding(of: str, labels: Sequence[str], told: Found) -> Drawing:
    """Small letters by t-SNE before and after training, where there are any, and all tokens by PCA."""
    letters, principal = told["letters"], told["principal"]
    title = f"The embedding laid flat: {of}"
    with settings():
        figure = panels(9.6 if letters else 5.0, 3.9, layout="none")
        left, wide = (0.03, 0.12) if letters else (0.08, 0.1)
        figure.subplots_adjust(left=left, right=0.985, top=0.84, bottom=0.2, wspace=wide)
        places = figure.subplots(1, 3 if letters else 1, squeeze=False)[0]
        for axes, when in zip(places, ("initial", "trained") if letters else (), strict=False):
            name = "small letters at the start" if when == "initial" else "small letters after training"
            _flat(axes, f"{name}, t-SNE", letters["points"][when], letters["labels"], letters["kinds"])
            axes.set(xlabel="t-SNE 1, no unit", ylabel="t-SNE 2, no unit")
        _flat(places[-1], "all tokens after training, PCA", principal["points"], labels, told["kinds"])
        one, two = (f"{100 * share:.0f} % of the variance" for share in principal["shares"])
        places[-1].set(xlabel=f"component 1, {one}", ylabel=f"component 2, {two}")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10.5)
        handles = {
            label: line for axes in places for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=len(handles))
        return Drawing(title, _embedding_sentence(told), figure)


def _flat(
    axes: "Axes", title: str, points: Sequence[Sequence[float]], labels: Sequence[str], kinds: Sequence[str]
) -> None:
    """Each point a mark of its kind, beside it the token."""
    frame(axes, "", grid="both")
    axes.set_title(title, loc="left", fontsize=9.5)
    for kind, (colour, marker) in KINDS.items():
        mine = [point for point, each in zip(points, kinds, strict=True) if each == kind]
        if mine:
            x, y = zip(*mine, strict=True)
            axes.plot(x, y, linestyle="", marker=marker, color=colour, markersize=4.2, alpha=0.85, label=kind)
    for (across, up), label in zip(points, labels, strict=True):
        axes.annotate(label, (across, up), xytext=(2.6, 2.2), textcoords="offset points", fontsize=6.8, color=INK)
    axes.tick_params(labelbottom=False, labelleft=False)
    axes.margins(0.08)


def _embedding_sentence(told: Found) -> str:
    principal = "PCA keeps the two directions in which all tokens differ most."
    if not told["letters"]:
        return principal
    before, after = (told["letters"]["silhouettes"][when] for when in ("initial", "trained"))
    return (
        "Left chance, in the middle what training made of it: vowels and consonants move apart as far as they are "
        f"followed by other letters. Silhouette of the two groups in all {told['width']} dimensions, by cosine, 0 for "
        f"no groups and 1 for groups far apart: {before:.2f} before, {after:.2f} after. t-SNE keeps neighbours, not "
        f"distances; {principal}"
    )


# ---------------------------------------------------------------- attention


def attention(of: str, told: Found, induction: Found) -> Drawing:
    """A map for each head, a row of maps for each layer: how much every place takes from those before it."""
    weights, title = np.array(told["weights"]), f"Where it looks: {of}"
    layers, heads, places, _ = weights.shape
    with settings():
        wide, high = 2.3 * heads + 0.5, 2.45 * layers + 0.9
        figure = panels(wide, high, layout="none")
        sides = {"left": 0.5 / wide, "right": 1 - 0.1 / wide, "top": 1 - 0.65 / high, "bottom": 0.5 / high}
        figure.subplots_adjust(**sides, wspace=0.08, hspace=0.16)
        for (layer, head), axes in np.ndenumerate(figure.subplots(layers, heads, squeeze=False)):
            _matrix(axes, weights[layer, head] ** 0.5, told["labels"], size=4.6 if places > 16 else 6)
            axes.xaxis.set_visible(layer == layers - 1)
            axes.yaxis.set_visible(head == 0)
            axes.set_title(f"layer {layer + 1}, head {head + 1}", loc="left", fontsize=8)
        figure.supxlabel("token that is looked at (weight; a row sums to one)", fontsize=8.5)
        figure.supylabel("token that looks", fontsize=8.5)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10.5)
        return Drawing(title, _attention_sentence(induction), figure)


def _attention_sentence(induction: Found) -> str:
    scale = "The beginning of held-out text, one map a head; the shade is the root of the weight, so that little shows."
    best = f"layer {induction['layer']}, head {induction['head']}"
    told = (
        f"Induction score {induction['score']:.2f} ({best}; {induction['by_chance']:.2f} if all places counted alike): "
        "how much a head looks from a token that came before to what followed it then, on random tokens said twice."
    )
    if induction["drop"] < 0.05:
        return f"{scale} {told} Saying them twice makes them no cheaper: it has not learnt to copy."
    return f"{scale} {told} The second time costs {induction['drop']:.2f} nats a token less: it copies."
