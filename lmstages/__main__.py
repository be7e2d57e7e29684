"""The door: the command line of the verbs.

Snakemake's rules call these verbs; a person can paste the same lines into a terminal.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lmstages import __version__, verbs

TEMPORARY_FAILURE = 75  # of sysexits.h: start it again
EXAMPLES = """\
examples:
  lmstages check runs/published.yaml      is this config right? every mistake at once
  lmstages table results/default          the comparison of a finished run, in the terminal
  lmstages diff results/a results/b       what changed from one run to another, row by row
  lmstages play results/default           type, and see what each model expects and writes
  lmstages explain results/default        where its figures come from, cell by cell
  snakemake --cores all                   make results/default/report.html from config.yaml
  snakemake --cores all --config text=my.txt
                                          the ladder on a text of your own
"""


PATHS = {  # options that are the same for every verb that has them
    "text": "folder with the splits of a corpus",
    "tokens": "folder with token streams",
    "model": "model.safetensors of a fit",
    "base": "model.safetensors of what it is made of",
    "corpus": "the corpus's folder of a run",
    "results": "the run's folder",
}


def parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    described = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser("lmstages", description=__doc__, epilog=EXAMPLES, formatter_class=described)
    whole.add_argument("--version", action="version", version=__version__)
    offered = whole.add_subparsers(required=True, metavar="VERB")
    for options in (_for_a_person, _of_texts, _of_models, _of_cells, _of_runs):
        options(offered)
    return whole


def _for_a_person(offered: Any) -> None:
    """Verbs that no rule calls."""
    _add(offered, verbs.check).add_argument("config", type=Path, help="a config file, such as config.yaml")
    shown = _add(offered, verbs.table)
    shown.add_argument("results", type=Path, help="a run's folder, such as results/default")
    shown.add_argument("--log", type=Path, help="a file that gets the same lines as the terminal")
    comparing = _add(offered, verbs.diff)
    comparing.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, such as results/default; the first is compared with each of the others")
    comparing.add_argument("--out", type=Path, help="folder for changes.md and .csv; by default below the last run's")
    playing = _add(offered, verbs.play)
    playing.add_argument("results", type=Path, help="a run's folder, such as results/default")
    playing.add_argument("--port", type=int, default=0, help="of 127.0.0.1; by default any free one")
    explaining = _add(offered, verbs.explain)
    explaining.add_argument("cell", type=Path, help="results/RUN/CORPUS/TOKENIZER/MODEL/seedN, or its beginning")


def _of_texts(offered: Any) -> None:
    """From a source to tokens, and what can be said of a text alone."""
    _download_options(_stage(offered, verbs.download))
    prepared = _stage(offered, verbs.prepare, "split")
    prepared.add_argument("--raw", type=Path, nargs="*", default=[], help="downloaded files, or the user's own")
    tokenized = _stage(offered, verbs.tokenize, "kind", paths=["text"])
    tokenized.add_argument("--layout", default="stream", help="how documents lie in it: stream, lines, separator")
    _stage(offered, verbs.oracle, "source", "splits", paths=["text"])
    _stage(offered, verbs.compress, "compressors", "splits", paths=["text"])
    _stage(offered, verbs.overlap, "splits", paths=["text"])
    _stage(offered, verbs.contrast, "corpus", "splits", paths=["text"])


def _of_models(offered: Any) -> None:
    """What fits a model, derives one, or takes one from elsewhere."""
    fitting = _stage(offered, verbs.fit, "type", "hyperparameters", paths=["tokens"])
    fitting.add_argument("--seed", type=int, default=0, help="of all random draws")
    _interruption_options(fitting)
    _stage(offered, verbs.derive, "type", "hyperparameters", paths=["base", "tokens"])
    _stage(offered, verbs.against, "splits", paths=["model", "base", "tokens"])
    _export_options(_stage(offered, verbs.export))
    foreign = _stage(offered, verbs.score_pretrained, "pretrained", "splits", "sampling", "documents", paths=["text"])
    mirror = os.environ.get("LMSTAGES_MIRROR") or None
    foreign.add_argument("--mirror", default=mirror, help="folder or base URL that replaces the hub")


def _of_cells(offered: Any) -> None:
    """What is asked of fitted models."""
    scored = ("splits", "scoring", "sampling", "documents")
    _device_option(_stage(offered, verbs.evaluate, *scored, paths=["model", "tokens", "text"]))
    mixed = _stage(offered, verbs.mix, "of", "weights", "splits", paths=["text"])
    told = "folders of the cells it is made of, in the order of the section"
    mixed.add_argument("--components", type=Path, nargs="+", required=True, help=told)
    probed = _stage(offered, verbs.probe, "scoring", "sampling", "documents", "source", paths=["model", "tokens"])
    probed.add_argument("--contrasts", type=Path, nargs="*", default=[], help="contrasts.json of an embedded corpus")
    _stage(offered, verbs.analyse, "cells", "splits", "documents", "source", paths=["corpus"])
    _stage(offered, verbs.inspect, "cells", "split", paths=["tokens"])


def _of_runs(offered: Any) -> None:
    """From score files to the report."""
    _stage(offered, verbs.summarize, "run", "experiments", "evaluate", "published", "sweeps")
    for function in (verbs.report, verbs.figures, verbs.verdict):
        _stage(offered, function, paths=["results"])


def _interruption_options(verb: argparse.ArgumentParser) -> None:
    """Of a fit by gradient descent; counting, and the model autograd, take seconds and start over."""
    folder = "where to keep resume points; the same command goes on from them, and they go when it is done"
    verb.add_argument("--resume", type=Path, metavar="FOLDER", help=folder)
    verb.add_argument("--save-seconds", type=float, default=60.0, help="between two resume points (60),")
    verb.add_argument("--save-steps", type=int, default=sys.maxsize, help="or so many steps, if sooner")
    limit = "the job's time limit, from its start: some time before it the fit saves and ends itself with 75; 0 none"
    verb.add_argument("--minutes", type=float, default=0.0, help=limit)
    compiled = "torch.compile: auto is for long fits on a GPU"
    verb.add_argument("--compile", choices=("auto", "always", "never"), default="auto", help=compiled)
    _device_option(verb)


def _device_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="auto: a GPU where there is one")


def _export_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", type=Path, help="model.safetensors of a LLaMA, or a Hugging Face folder")
    verb.add_argument("--to", choices=("gguf", "hf"), required=True, help="one GGUF file, or a folder of files")
    kinds = ("f32", "q8_0", "q4_0")
    verb.add_argument("--type", choices=kinds, default="f32", help="of the matrices; a rounded model keeps its own")
    verb.add_argument("--output-type", choices=kinds, help="of the matrix of logits, where it is another")
    verb.add_argument("--tokens", type=Path, help="folder with tokenizer.json; by default that of the model's cell")


def _download_options(verb: argparse.ArgumentParser) -> None:
    from lmstages.config.sources import SOURCES

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


def _stage(offered: Any, function: Any, *keys: str, paths: Sequence[str] = ()) -> argparse.ArgumentParser:
    """A verb that writes: what it reads, where to, with which part of the config, on how many threads."""
    verb = _add(offered, function)
    for path in paths:
        verb.add_argument(f"--{path}", type=Path, required=True, help=PATHS[path])
    verb.add_argument("--out", type=Path, required=True, help="the file or folder to write")
    if keys:
        told = f"its part of the config, as JSON with {', '.join(keys)}"
        verb.add_argument("--section", type=lambda text: _section(text, keys), required=True, help=told)
    verb.add_argument("--threads", type=int, default=1, help="cores it may use; the bits of a fit depend on it")
    verb.add_argument("--code", default="", help="hash of the code, kept in the provenance")
    verb.add_argument("--log", type=Path, help="a file that gets the same lines as the terminal")
    return verb


def main(arguments: list[str] | None = None) -> int:
    """0, or 1 with one line on stderr for what a user can mend, or 75 for a fit that was interrupted and has saved.

    A bug keeps its traceback.
    """
    args = parser().parse_args(arguments)
    _use_threads(args.threads)
    from lmstages.core.errors import Interrupted, UserError
    from lmstages.core.progress import log_to
    from lmstages.core.runtime import rank

    try:
        log_to(None if rank() else args.log, str(args.out) if hasattr(args, "out") else "", quiet=rank() > 0)
        args.verb(args)
    except Interrupted as told:
        logging.getLogger("lmstages").warning("%s", told)
        return TEMPORARY_FAILURE
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
