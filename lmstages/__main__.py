"""The door: the command line of the verbs.

Snakemake's rules call these verbs; a person can paste the same lines into a terminal.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from lmstages import __version__, verbs

EXAMPLES = """\
examples:
  lmstages check runs/published.yaml      is this config right? every mistake at once
  lmstages table results/default          the comparison of a finished run, in the terminal
  snakemake --cores all                   make results/default/report.html from config.yaml
  snakemake --cores all --config text=my.txt
                                          the ladder on a text of your own
"""


def parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    described = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser("lmstages", description=__doc__, epilog=EXAMPLES, formatter_class=described)
    whole.add_argument("--version", action="version", version=__version__)
    offered = whole.add_subparsers(required=True, metavar="VERB")
    _add(offered, verbs.check).add_argument("config", type=Path, help="a config file, such as config.yaml")
    shown = _add(offered, verbs.table)
    shown.add_argument("results", type=Path, help="a run's folder, such as results/default")
    shown.add_argument("--log", type=Path, help="a file that gets the same lines as the terminal")
    _download_options(_stage(offered, verbs.download))
    prepared = _stage(offered, verbs.prepare, "split")
    prepared.add_argument("--raw", type=Path, nargs="*", default=[], help="downloaded files, or the user's own")
    tokenized = _stage(offered, verbs.tokenize, "kind")
    tokenized.add_argument("--text", type=Path, required=True, help="folder with the splits of a corpus")
    tokenized.add_argument("--layout", default="stream", help="how documents lie in it: stream, lines, separator")
    fitting = _stage(offered, verbs.fit, "rung", "hyperparameters")
    fitting.add_argument("--tokens", type=Path, required=True, help="folder with token streams")
    fitting.add_argument("--seed", type=int, default=0, help="of all random draws")
    evaluated = _stage(offered, verbs.evaluate, "splits", "scoring", "sampling", "documents")
    evaluated.add_argument("--model", type=Path, required=True, help="model.safetensors of a fit")
    evaluated.add_argument("--tokens", type=Path, required=True, help="folder with token streams")
    evaluated.add_argument("--text", type=Path, required=True, help="folder with the splits of the corpus")
    scored = _stage(offered, verbs.oracle, "source", "splits")
    scored.add_argument("--text", type=Path, required=True, help="folder with the splits")
    compared = _stage(offered, verbs.compare, "run", "cells", "evaluate", "published", "sweeps")
    compared.add_argument("--results", type=Path, required=True, help="the run's folder")
    for function in (verbs.report, verbs.verdict):
        _stage(offered, function).add_argument(
            "--comparison", type=Path, required=True, help="comparison.json of a run"
        )
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


def _add(offered: Any, function: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = offered.add_parser(
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


def _stage(offered: Any, function: Any, *keys: str) -> argparse.ArgumentParser:
    """A verb that writes: where to, with which part of the config, on how many threads."""
    verb = _add(offered, function)
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
