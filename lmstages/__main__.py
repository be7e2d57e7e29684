"""The door: one verb per stage. It reads files, calls one function and writes files; it decides nothing.

Snakemake's rules call these verbs; a person can paste the same lines into a terminal.
"""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from lmstages import __version__

EXAMPLES = """\
examples:
  lmstages check runs/published.yaml      is this config right? every mistake at once
  lmstages table results/default          the comparison of a finished run, in the terminal
  snakemake --cores all                   make results/default/report.html from config.yaml
  snakemake --cores all --config text=my.txt
                                          the ladder on a text of your own
"""


def check(args: argparse.Namespace) -> None:
    """Read a config and say what it would run."""
    from lmstages.config import read_run

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


# ---------------------------------------------------------------- the command line


def parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    described = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser("lmstages", description=__doc__, epilog=EXAMPLES, formatter_class=described)
    whole.add_argument("--version", action="version", version=__version__)
    verbs = whole.add_subparsers(required=True, metavar="VERB")
    _add(verbs, check).add_argument("config", type=Path, help="a config file, such as config.yaml")
    shown = _add(verbs, table)
    shown.add_argument("results", type=Path, help="a run's folder, such as results/default")
    shown.add_argument("--log", type=Path, help="a file that gets the same lines as the terminal")
    _download_options(_stage(verbs, download))
    prepared = _stage(verbs, prepare, "split")
    prepared.add_argument("--raw", type=Path, nargs="*", default=[], help="downloaded files, or the user's own")
    tokenized = _stage(verbs, tokenize, "kind")
    tokenized.add_argument("--text", type=Path, required=True, help="folder with the splits of a corpus")
    tokenized.add_argument("--layout", default="stream", help="how documents lie in it: stream, lines, separator")
    fitting = _stage(verbs, fit, "rung", "hyperparameters")
    fitting.add_argument("--tokens", type=Path, required=True, help="folder with token streams")
    fitting.add_argument("--seed", type=int, default=0, help="of all random draws")
    evaluated = _stage(verbs, evaluate, "splits", "scoring", "sampling", "documents")
    evaluated.add_argument("--model", type=Path, required=True, help="model.safetensors of a fit")
    evaluated.add_argument("--tokens", type=Path, required=True, help="folder with token streams")
    evaluated.add_argument("--text", type=Path, required=True, help="folder with the splits of the corpus")
    scored = _stage(verbs, oracle, "source", "splits")
    scored.add_argument("--text", type=Path, required=True, help="folder with the splits")
    compared = _stage(verbs, compare, "run", "cells", "evaluate", "published", "sweeps")
    compared.add_argument("--results", type=Path, required=True, help="the run's folder")
    for function in (report, verdict):
        _stage(verbs, function).add_argument("--comparison", type=Path, required=True, help="comparison.json of a run")
    return whole


def _download_options(verb: argparse.ArgumentParser) -> None:
    from lmstages.corpora.sources import SOURCES

    verb.add_argument("--source", required=True, choices=SOURCES, help="which text")
    verb.add_argument("--part", default="whole", help="which file of it: whole, or train and validation of tinystories")
    stories = "how many documents of a data set of the hub: a number, or all"
    verb.add_argument("--stories", type=_some_or_all, help=stories)
    mirror = os.environ.get("LMSTAGES_MIRROR") or None
    verb.add_argument("--mirror", default=mirror, help="folder or base URL that replaces the network")


def _some_or_all(text: str) -> int | None:
    """``all`` -> None."""
    return None if text == "all" else int(text)


def _add(verbs: Any, function: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        function.__name__, help=function.__doc__, description=function.__doc__
    )
    verb.set_defaults(verb=function, log=None, threads=1, code="")
    return verb


def _section(text: str, keys: tuple[str, ...]) -> Any:
    try:
        section = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is no JSON: {error}") from error
    if lacking := [key for key in keys if not isinstance(section, dict) or key not in section]:
        raise argparse.ArgumentTypeError(f"lacks {', '.join(lacking)}")
    return section


def _stage(verbs: Any, function: Any, *keys: str) -> argparse.ArgumentParser:
    """A verb that writes: where to, with which part of the config, on how many threads."""
    verb = _add(verbs, function)
    verb.add_argument("--out", type=Path, required=True, help="the file or folder to write")
    if keys:
        told = f"its part of the config, as JSON with {', '.join(keys)}"
        verb.add_argument("--section", type=lambda text: _section(text, keys), required=True, help=told)
    verb.add_argument("--threads", type=int, default=1, help="cores it may use; the bits of a fit depend on it")
    verb.add_argument("--code", default="", help="hash of the code, kept in the provenance")
    verb.add_argument("--log", type=Path, help="a file that gets the same lines as the terminal")
    return verb


def main(arguments: list[str] | None = None) -> int:
    """0, or 1 with one line on stderr for what a user can mend; a bug keeps its traceback."""
    args = parser().parse_args(arguments)
    _use_threads(args.threads)
    from lmstages.errors import UserError
    from lmstages.progress import log_to

    try:
        log_to(args.log, str(args.out) if hasattr(args, "out") else "")
        args.verb(args)
    except UserError as error:
        logging.getLogger("lmstages").error("lmstages: error: %s", error)
        return 1
    except BrokenPipeError:
        return 1
    except Exception:
        logging.getLogger("lmstages").exception("lmstages: this is a bug of lmstages, not of its input")
        return 1
    return 0


def _use_threads(threads: int) -> None:
    """Every library takes exactly the threads it is given, and idle ones sleep."""
    os.environ["OMP_WAIT_POLICY"] = "passive"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)


def console() -> NoReturn:
    """The ``lmstages`` command."""
    sys.exit(main())


if __name__ == "__main__":
    console()
