"""The verbs, one for each stage: each reads files, calls one function and writes files; none decides anything.

What a verb imports is imported within it, so that each job loads what it needs and nothing else, and so that
``provenance`` can tell from its source which code a job runs.
"""

import argparse
import logging
import time
from pathlib import Path
from typing import Any

from lmstages import __version__


def check(args: argparse.Namespace) -> None:
    """Read a config and say what it would run."""
    from lmstages.reading import read_run

    run = read_run(args.config)
    for corpus, tokenizer, model, seed in run.cells():
        print(f"{corpus}/{tokenizer}/{model}/seed{seed}")


def download(args: argparse.Namespace) -> None:
    """Fetch one part of a source, verified, from its upstream or from a mirror."""
    from lmstages.corpora.download import fetch
    from lmstages.corpora.sources import SOURCES

    made = _made(args, {"source": args.source, "stories": args.stories}, [])
    fetch(SOURCES[args.source], args.out, args.mirror, made, part=args.part, stories=args.stories)


def prepare(args: argparse.Namespace) -> None:
    """Cut or draw a corpus into train, valid and test."""
    from lmstages.config import Corpus, from_section
    from lmstages.corpora.preparation import prepare as run

    corpus = from_section(Corpus, args.section)
    run(corpus, args.raw, args.out, _made(args, args.section, [] if corpus.path else args.raw))


def tokenize(args: argparse.Namespace) -> None:
    """Learn a tokenizer from train and write the token streams of all splits."""
    from lmstages import artefacts, storage
    from lmstages.config import Tokenizer, from_section
    from lmstages.corpora.splits import NAMES, SplitText, text_path
    from lmstages.tokenizers import learn

    made = _made(args, args.section, [text_path(args.text, name) for name in NAMES])
    section = from_section(Tokenizer, args.section)
    closed = section.alphabet == "corpus"
    parts = {name: SplitText.open(args.text, name) for name in NAMES}
    texts = (text for name in (NAMES if closed else NAMES[:1]) for text in parts[name].texts())
    tokenizer = learn(section.kind, section.vocab_size, texts, args.layout == "lines", parts["train"].stream, closed)
    artefacts.save_json(args.out / "tokenizer.json", tokenizer.to_json(), made)
    for name, part in parts.items():
        count = storage.write_tokens(args.out, name, part, tokenizer, made)
        logging.getLogger("lmstages").info("%s: %s tokens of %s", name, f"{count:,}", f"{tokenizer.vocab_size:,}")


def fit(args: argparse.Namespace) -> None:
    """Fit one rung on train, choosing on valid."""
    from lmstages import artefacts, storage
    from lmstages.errors import FitError
    from lmstages.fitting import describe, fitted

    made = _made(args, args.section, [args.tokens / f"{name}.npy" for name in ("train", "valid")])
    train, valid = (storage.read_tokens(args.tokens, name)[0] for name in ("train", "valid"))
    started = time.perf_counter()
    try:
        model, curve = fitted(args.section, storage.read_tokenizer(args.tokens).vocab_size, train, valid, args.seed)
    except FitError as error:
        logging.getLogger("lmstages").error("lmstages: error: %s", error)
        artefacts.save_arrays(args.out / "model.safetensors", {}, {"failed": str(error)}, made)
        artefacts.save_json(args.out / "fit.json", {**args.section, "status": f"failed: {error}"}, made)
        return
    seconds = time.perf_counter() - started
    storage.save_model(args.out / "model.safetensors", model, made)
    facts = describe(model, curve, train, args.threads)
    artefacts.save_json(args.out / "fit.json", {**args.section, **facts, "fit_seconds": seconds}, made)


def evaluate(args: argparse.Namespace) -> None:
    """Score a fitted model on held-out splits, and draw text from it."""
    from lmstages.evaluation import evaluate as run

    inputs = [args.model, *(args.tokens / f"{split}.npy" for split in args.section["splits"])]
    run(args.model, args.tokens, args.text, args.out, args.section, _made(args, args.section, inputs))


def oracle(args: argparse.Namespace) -> None:
    """Score the splits of an embedded corpus by the grammar that wrote them."""
    from lmstages.corpora.splits import text_path
    from lmstages.oracle import score_by_source

    inputs = [text_path(args.text, split) for split in args.section["splits"]]
    score_by_source(
        args.section["source"], args.text, args.out, args.section["splits"], _made(args, args.section, inputs)
    )


def compare(args: argparse.Namespace) -> None:
    """Turn the score files of a run into one comparison."""
    from lmstages import artefacts
    from lmstages.comparison import compare as run

    artefacts.save_json(args.out, run(args.results, args.section), _made(args, args.section, []))


def report(args: argparse.Namespace) -> None:
    """Write a comparison as table.csv, table.md and report.html, and a table and a figure of every sweep."""
    from lmstages import artefacts
    from lmstages.report import render, sweep_files, table_csv, table_markdown

    comparison, made = artefacts.load_json(args.comparison), _made(args, {}, [args.comparison])
    tables = {"table.csv": table_csv(comparison), "table.md": table_markdown(comparison)}
    for name, content in {**sweep_files(comparison), **tables, "report.html": render(comparison)}.items():
        artefacts.save_bytes(args.out / name, content.encode(), made)


def verdict(args: argparse.Namespace) -> None:
    """Fail, after the report is written, where a model failed; say where the report is."""
    from lmstages import artefacts
    from lmstages.comparison import verdict as run

    told = run(artefacts.load_json(args.comparison))
    artefacts.save_bytes(args.out, f"{told}\n".encode(), _made(args, {}, [args.comparison]))
    logging.getLogger("lmstages").info("%s; the report is %s", told, args.out.with_name("report.html"))


def table(args: argparse.Namespace) -> None:
    """Print a finished run's comparison and where its report is."""
    from lmstages import artefacts
    from lmstages.report import table_terminal

    print(table_terminal(artefacts.load_json(args.results / "comparison.json")))
    print(f"report: {args.results / 'report.html'}")


def _made(args: argparse.Namespace, section: Any, inputs: list[Path]) -> dict[str, Any]:
    """What every artefact of a verb says of its making."""
    from lmstages.artefacts import made_of
    from lmstages.provenance import versions

    hashes = {path.name: made_of(path)["sha256"] for path in inputs}
    code = {"code": args.code, "lmstages": __version__, **versions("numpy")}
    return {"verb": args.verb.__name__, "section": section, "inputs": hashes, **code}
