"""Results folders to show: a small one by hand, and a large one with every column that a row may have."""

import atexit
import itertools
import json
import math
import random
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from typed_rows import result

from lmstages.core import artifacts
from lmstages.report.embedded import Figures
from lmstages.report.page import render
from lmstages.results import frame
from lmstages.results.frame import Results
from lmstages.results.schema import TABLES, Corpora, Difference, PublishedFigure, Result, columns

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

MEASURED = {
    **{"tokens": 1000, "characters": 1000, "bytes": 1000, "perplexity": 8.0, "nats_per_character": 2.0794},
    **{"bits_per_byte": 3.0, "excess_bits_per_byte": 2.19, "parameters": 4225, "tokens_seen": 9000},
    **{"fit_seconds": 12.34, "score_seconds": 0.5, "threads": 1},
}
NOT_MEASURED = dict.fromkeys(MEASURED)
ROW = result(**MEASURED, device="cpu", inputs='{"code": "0123456789ab"}')
GPT = replace(
    ROW,
    **{"model": "gpt", "type": "gpt", "rank": 7, "title": "GPT", "family": "neural", "seeds": "0 1"},
    **{"bits_per_byte": 1.5, "bits_per_byte_std": 0.01, "perplexity": 2.83},
)
FAILED = replace(ROW, **NOT_MEASURED, model="lstm", title="LSTM", status="failed: the loss became NaN")
ORACLE = 0.81  # bits per byte
BESIDE = {"seeds": "", "hyperparameters": "{}", "tokenizer": "-", **NOT_MEASURED}
SOURCE = replace(
    ROW,
    **BESIDE | {"bits_per_byte": ORACLE, "rank": 1000, "family": "oracle", "category": "oracle"},
    **{"model": "oracle", "type": "oracle", "title": "Oracle"},
)
XZ = replace(
    ROW,
    **BESIDE | {"bits_per_byte": 2.2, "family": "compressor", "category": "compressor"},
    **{"model": "xz", "type": "xz", "title": "xz -9e, alone"},
)
PUBLISHED = PublishedFigure(
    **{"corpus": "fables", "tokenizer": "char", "model": "bigram", "split": "test", "measure": "perplexity"},
    **{"value": 8.01, "tolerance": 0.005, "ours": 8.0, "source": "003", "verdict": "differs"},
    **{"claim": None, "setup": None, "because": None, "impossible": False},
)
SAMPLES = [{"temperature": 1.0, "text": "a line\nand another"}]
PASSAGE = [["T", 3.0], ["h", 0.05], ["e", 0.3], [" ", 0.2], ["fox", 4.5], ["\n", 1.5], ["", 0.7]]
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 3" role="img" aria-label="{}"><path d="M0 0h9"/></svg>\n'
)


def described(corpus: str, oracle: float | None = ORACLE) -> list[Corpora]:
    """Train and test of a corpus; the source of test is known if ``oracle`` is given."""
    facts = {"corpus": corpus, "description": "Short fables.", "origin": "embedded", "licence": "CC0"}
    train = Corpora(**facts, split="train", documents=10, characters=1000, bytes=1000)
    source = {} if oracle is None else {"oracle_bits_per_byte": oracle, "expected_bits_per_byte": 0.8}
    return [train, replace(train, split="test", **source)]


def a_row_of(table: str, **values: Any) -> Any:
    """A row of any table: what is not given is empty, or the text ``x``, or 1."""
    given = {"corpus": "fables", "tokenizer": "char", "model": "gpt", "title": "GPT", "rank": 7, "split": "test"}
    plain = {"string": "x", "Int64": 1, "float64": 1.0, "boolean": False}
    declared = columns(TABLES[table])
    blank = {column.name: None if column.optional else plain[column.dtype] for column in declared}
    return TABLES[table](**blank | {key: given[key] for key in given.keys() & blank.keys()} | values)


def a_results_folder(
    folder: Path,
    *rows: Result,
    run: str = "default",
    estimation: bool = False,
    samples: Sequence[Mapping[str, Any]] = SAMPLES,
    passage: Sequence[Sequence[Any]] = PASSAGE,
    figures: Iterable[Mapping[str, Any]] | None = None,
    **tables: Sequence[Any],
) -> Results:
    """A small but complete results folder: all tables, texts by experiment, figures with their index."""
    shown = list(rows or (() if tables.get("corpora") == [] else (ROW, GPT, FAILED)))
    tables.setdefault("corpora", described("fables"))
    shutil.copytree(_empty_tables(), folder, dirs_exist_ok=True)
    for name, typed in {**tables, "results": shown}.items():
        frame.write(folder, name, frame.frame(name, map(_encodable, typed)), {})
    artifacts.save_json(folder / "run.json", {"run": run, "estimation": estimation}, {})
    results = Results.open(folder)
    results.__dict__["rows"] = shown  # parquet holds no lone surrogate; the tests of hostile names need one
    _write_texts(results, samples, passage)
    _write_figures(folder / "figures", _usual_figures(shown) if figures is None else figures)
    return results


@cache
def _empty_tables() -> Path:
    """A folder with every table, none of which has a row; made once, since each file is synced to the disk."""
    folder = Path(tempfile.mkdtemp(prefix="lmstages-tables-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in TABLES:
        frame.write(folder, name, frame.frame(name, []), {})
    return folder


def _encodable(row: Any) -> Any:
    texts = {field.name: value for field in fields(row) if isinstance(value := getattr(row, field.name), str)}
    return replace(row, **{key: text.encode("utf-8", "backslashreplace").decode() for key, text in texts.items()})


def _write_texts(results: Results, samples: Sequence[Mapping[str, Any]], passage: Sequence[Sequence[Any]]) -> None:
    content = json.dumps({"samples": samples, "passage": {"split": "test", "pieces": passage}})  # escapes surrogates
    for path in {folder / "evaluation.json" for row in results.rows for folder in results.experiments(row)}:
        artifacts.save_bytes(path, content.encode(), {})


def _usual_figures(rows: Iterable[Result]) -> list[dict[str, Any]]:
    """The ladder of each text, and how each network learned."""
    texts = dict.fromkeys((row.corpus, row.split) for row in rows)
    ladders = [{"figure": "ladder", "group": {"corpus": corpus, "split": split}} for corpus, split in texts]
    networks = [row for row in rows if row.family == "neural"]
    groups = [{"corpus": row.corpus, "tokenizer": row.tokenizer, "model": row.model} for row in networks]
    return ladders + [{"figure": "learning_of_model", "group": group} for group in groups]


def _write_figures(folder: Path, figures: Iterable[Mapping[str, Any]]) -> None:
    index = []
    for number, figure in enumerate(figures):
        words = {"title": figure["figure"], "caption": f"What {figure['figure']} shows."}
        index.append({**words, **figure, "svg": f"{figure['figure']}/{number}.svg"})
        artifacts.save_bytes(folder / index[-1]["svg"], SVG.format(number).encode(), {})
    artifacts.save_json(folder / "index.json", index, {})


def rendered(results: Results) -> str:
    """The page of a results folder with its figures."""
    return render(results, Figures.open(results.folder / "figures"))


# ---------------------------------------------------------------- a large one

SENTENCE = "The fox who lived by the river asked the crane for bread, and the crane gave it none.\n"


def large(folder: Path, corpora: int = 5, models: int = 40, *more: Result) -> Results:
    """``corpora`` times ``models`` rows with intervals, passages, learning curves, samples at three temperatures."""
    dice = random.Random(1)
    names = [f"text{number}" for number in range(corpora)]
    rows = [replace(row, corpus=name) for name in names for row in [*_models(models, dice), XZ, SOURCE]]
    overlap = {"overlap_documents": 0.0123, "overlap_near": 0.4}
    sizes = [replace(size, **overlap if size.split == "test" else {}) for name in names for size in described(name)]
    pieces = [[character, dice.expovariate(0.5)] for character in 6 * SENTENCE][:500]
    temperatures = [temperature for temperature in (0.5, 1.0, 1.5) for _ in range(5)]
    samples = [{"temperature": temperature, "text": 4 * SENTENCE[:75]} for temperature in temperatures]
    pairs = [pair for name in names for pair in _pairs([row for row in rows if row.corpus == name])]
    content = {"samples": samples, "passage": pieces, "run": "large", "estimation": True, "differences": pairs}
    return a_results_folder(folder, *rows, *more, corpora=sizes, **content)


def _pairs(rows: Sequence[Result]) -> list[Difference]:
    """Every two models of a text; less than 0.1 bits per byte may be chance."""
    shared = {"split": "test", "a_tokenizer": "char", "b_tokenizer": "char"}
    models = [row for row in rows if row.bits_per_byte is not None and row.tokenizer == "char"]
    made = []
    for a, b in itertools.combinations(models, 2):
        difference = (a.bits_per_byte or 0.0) - (b.bits_per_byte or 0.0)
        sides = dict.fromkeys(("corpus", "a_corpus", "b_corpus"), a.corpus) | {"a_model": a.model, "b_model": b.model}
        p = 0.5 if abs(difference) < 0.1 else 1e-6
        ends = {"difference": difference, "low": difference - 0.05, "high": difference + 0.05, "p": p, "p_holm": p}
        made.append(Difference(**shared, **sides, **ends))
    return made


def _models(models: int, dice: random.Random) -> list[Result]:
    return [_model(number, models, dice) for number in range(models)]


def _model(number: int, models: int, dice: random.Random) -> Result:
    bits = 1.0 + 4.0 * math.exp(-4.0 * number / models) + dice.uniform(-0.1, 0.1)
    neural, name = number > models // 3, f"model{number}"
    below = {"below_model": f"model{number - 1}", "below_tokenizer": "char", "below_difference": -0.1}
    below |= {"below_low": -0.14, "below_high": -0.06, "below_p": 0.001 * number, "below_p_holm": 0.01 * number}
    return replace(
        ROW,
        **{"model": name, "type": name, "rank": number, "title": f"Model {number}"},
        **{"family": "neural" if neural else "counts", "seeds": "0 1 2" if neural else "0"},
        **{"bits_per_byte": bits, "bits_per_byte_low": bits - 0.05, "bits_per_byte_high": bits + 0.06},
        **{"bits_per_byte_std": 0.01 if neural else None, "parameters": int(10 ** dice.uniform(3, 7))},
        **{"flops": 10 ** dice.uniform(6, 14), "fit_seconds": 10 ** dice.uniform(-2, 3)},
        **{"unseen_byte_fraction": 0.02, "unseen_bits_per_byte": 3.1, "unseen_documents": 3},
        **below if number else {},
        hyperparameters=json.dumps({"width": 64, "layers": 2, "learning_rate": 0.001}),
        flag="loss above guessing" if number == 3 else None,
    )
