"""The command line: one command for each stage; each reads files, calls one function and writes files.

Snakemake's rules call these commands; a person can paste the same lines into a terminal. What a command imports is
imported within it, so that each job loads what it needs and nothing else, and so that ``provenance`` can tell from
its source which code a job runs.
"""

import argparse
import json
import logging
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lmstages import __version__

if TYPE_CHECKING:
    from lmstages.core.errors import UserError

MOST_THREADS = 1024
MOST_CORES = 1 << 20  # of a cluster
STDIN = "-"  # in place of a section that may be longer than the system lets an argument be (Linux: 128 KiB)
TEMPORARY_FAILURE = 75  # of sysexits.h: start it again
INTERRUPTED = 128 + signal.SIGINT  # as shells report it
DESCRIPTION = "Fits every classic language model on the same text and compares them on the same held-out bytes."
EXAMPLES = """\
examples:
  lmstages init my && cd my            a folder with a config to edit
  lmstages run                         make results/default/report.html
  lmstages run text=my.txt             the ladder on a text of your own
  snakemake --cores all                what run calls, in a checkout
  lmstages check runs/published.yaml   is this config right?
  lmstages models gpt                  what gpt is, and each of its keys
  lmstages table results/default       a finished run's results, here
  lmstages COMMAND --help              the options of a command, and an example
"""
EXPERIMENT = "results/default/fables/char/gpt/seed0"
PATHS = {  # options that mean the same for every command that has them
    "text": "folder with the splits of a corpus",
    "tokens": "folder with token streams",
    "model": "model.safetensors of a fit",
    "base": "model.safetensors that the model is derived from",
    "corpus": "the corpus's folder of a run",
    "results": "the run's folder",
}
PATH_EXAMPLES = {
    "text": "results/default/fables/text",
    "tokens": "results/default/fables/char/tokens",
    "model": f"{EXPERIMENT}/model.safetensors",
    "base": "results/default/fables/char/llama/seed0/model.safetensors",
    "corpus": "results/default/fables",
    "results": "results/default",
}
ANCHORS = {"tokens": "tokenizer.json", "text": "corpus.json"}  # whose records say what the rest of a folder is
OPTIONS_OF_FILES = ("seed", "threads", "device", "compile", "failure", "content", "layout")  # which its files depend on
STORE = "data/store"
HUB_KEYS = ("name", "config", "revision", "field", "split", "joined")
NAME_WIDTH = 20  # of the list of commands
GROUPS = {  # of the commands for people; one that no group names is listed with the last
    "to fit and compare:": ("init", "run", "check", "plan", "needs", "models", "laws"),
    "to read what came out:": ("table", "explain", "verify", "diff", "play", "clean"),
    "for scores, models and texts of others, and for the shell:": (),
}


@dataclass(frozen=True)
class Command:
    """A function with the options that it reads from its arguments."""

    function: Callable[[argparse.Namespace], None]
    section: tuple[str, ...]  # keys that its part of the config must have
    paths: Sequence[str]  # keys of PATHS
    options: Callable[[argparse.ArgumentParser], None] | None
    for_people: bool
    is_stage: bool  # writes files, and so has --out, --threads, --code and --log
    levels: int  # folders of its output's path that say of what it is
    example: str  # arguments, besides paths and section, of a line that works


COMMANDS: dict[str, Command] = {}


def command(
    *section: str,
    paths: Sequence[str] = (),
    options: Callable[[argparse.ArgumentParser], None] | None = None,
    for_people: bool = False,
    is_stage: bool = True,
    levels: int = 0,
    example: str = "",
) -> Callable[[Callable[[argparse.Namespace], None]], Callable[[argparse.Namespace], None]]:
    """Register a function as the command of its name; ``options`` adds those that are its own.

    ``levels``: how many folders of a file's path say of what it is: 1 CORPUS, 2 CORPUS/text, 4
    CORPUS/TOKENIZER/MODEL/seedN. 0 for files of a whole run, whose folder may be renamed.
    """

    def register(function: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
        COMMANDS[function.__name__] = Command(function, section, paths, options, for_people, is_stage, levels, example)
        return function

    return register


# ---------------------------------------------------------------- commands for people


def _init_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a new folder, or one to add to; nothing in it is overwritten")
    run = "the run whose config it begins with, such as published or tiny; by default the one that make report makes"
    parser.add_argument("--run", default="default", metavar="NAME", help=run)
    profile = "also a profile of Snakemake to edit, such as slurm; may be given several times"
    parser.add_argument("--profile", action="append", default=[], metavar="NAME", help=profile)


@command(options=_init_options, for_people=True, is_stage=False, example="my")
def init(args: argparse.Namespace) -> None:
    """Write a config to edit into a folder of your own.

    Nothing is overwritten. With --profile also a profile for a cluster. Then lmstages run is called there.
    """
    from lmstages.config.new_folder import begin
    from lmstages.core.terminal import show

    show(begin(args.folder, args.run, args.profile))


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = "lmstages run [-h] [CONFIG ...] [KEY=VALUE ...] [-- OPTIONS OF SNAKEMAKE]"
    words = "config files or a run's name (config.yaml here), settings such as models.gpt.width=128, --, and options"
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="CONFIG KEY=VALUE -- OPTIONS", help=words)


@command(options=_run_options, for_people=True, is_stage=False, example="models.gpt.width=128 -- --cores 2")
def run(args: argparse.Namespace) -> None:
    """Fit, score and compare, by Snakemake, in this folder.

    Prints the call of Snakemake and becomes it. Results are in results/, logs in logs/.
    """
    import shlex

    from lmstages.config.workflow_call import snakemake_call, take_its_place
    from lmstages.core.terminal import show

    call = snakemake_call(args.words)
    show(f"+ {shlex.join(call)}")
    take_its_place(call)


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="a config file, such as config.yaml")


@command(options=_check_options, for_people=True, is_stage=False, example="runs/published.yaml")
def check(args: argparse.Namespace) -> None:
    """Read a config and list the experiments that it would run."""
    from lmstages.config import resources
    from lmstages.config.reading import read_run
    from lmstages.core.terminal import show
    from lmstages.evaluation.forecast import forecast

    run = read_run(args.config)
    result = forecast(run)
    result.must_be_long_enough()
    too_large = resources.larger_than(resources.machine_megabytes(), run.configs(), run.drawn())
    for warning in too_large + result.warnings:
        logging.getLogger("lmstages").warning("%s", warning)
    for corpus, tokenizer, model, seed in run.experiments():
        show(f"{corpus}/{tokenizer}/{model}/seed{seed}")


def _plan_options(parser: argparse.ArgumentParser) -> None:
    words = "config files or a run's name (config.yaml here), and settings such as models.gpt.width=128"
    parser.add_argument("words", nargs="*", metavar="CONFIG KEY=VALUE", help=words)
    stated = "size of every corpus, such as 100GB, or of one, such as fables=2MB; by default that of its file"
    parser.add_argument("--text-bytes", type=_size_of_text, nargs="+", default=[], metavar="SIZE", help=stated)
    memory = "memory that there is, such as 4GB; by default this machine's"
    parser.add_argument("--memory", type=_size, metavar="SIZE", help=memory)
    disk = "disk that there is, such as 1TB; by default what is free here"
    parser.add_argument("--disk", type=_size, metavar="SIZE", help=disk)
    cores = "cores that there are; by default this machine's"
    parser.add_argument("--cores", type=_whole_number(1, MOST_CORES), default=os.cpu_count() or 1, help=cores)
    by = "what a line of the table is for; by default a model"
    parser.add_argument("--by", choices=["model", "rule"], default="model", help=by)
    gpus = "GPUs of 80 GB that there are; by default this machine's"
    parser.add_argument("--gpus", type=_whole_number(0, MOST_CORES), help=gpus)


@command(options=_plan_options, for_people=True, is_stage=False, example="gpu --text-bytes 10GB --memory 64GB")
def plan(args: argparse.Namespace) -> None:
    """Say what a run will cost before it starts.

    Jobs, core-hours, GPU-hours, peak memory and disk, by model or by rule and in all, and what will not fit. Nothing is
    started, and no text is read.
    """
    from lmstages.config import learned, planning
    from lmstages.config.words import run_of
    from lmstages.core.terminal import show
    from lmstages.results import planned_costs

    made = planning.plan(run_of(args.words), dict(args.text_bytes), learned.read())
    limits = planning.limits(args.memory, args.disk, args.cores, args.gpus)
    for line in planned_costs.lines(made, limits, args.by == "rule"):
        show(line)


def _needs_options(parser: argparse.ArgumentParser) -> None:
    folders = "folders of finished runs, such as results/default, with their logs in logs/"
    parser.add_argument("--learn", type=Path, nargs="+", metavar="RESULTS", help=folders)
    out = "the file of factors that is written; the workflow reads needs.json of the folder that it is started in"
    parser.add_argument("--out", dest="file", type=Path, default=Path("needs.json"), help=out)


@command(options=_needs_options, for_people=True, is_stage=False, example="--learn results/default")
def needs(args: argparse.Namespace) -> None:
    """Print what jobs ask for; learn it from finished runs.

    With --learn, by how much the jobs of finished runs differ from the estimates is written to needs.json, which every
    later run in this folder reads. Remove the file, and the estimates are those of the package.
    """
    from lmstages.config import learned
    from lmstages.core.terminal import show
    from lmstages.results import planned_costs

    if args.learn:
        factors, problems = learned.learn(args.learn)
        for problem in problems:
            logging.getLogger("lmstages").warning("%s", problem)
        learned.write(factors, args.file)
    for line in planned_costs.needs_lines(learned.read(args.file)):
        show(line)


def _models_options(parser: argparse.ArgumentParser) -> None:
    names = "models whose keys are printed; without any, the whole ladder"
    parser.add_argument("names", nargs="*", metavar="MODEL", help=names)


@command(options=_models_options, for_people=True, is_stage=False, example="gpt")
def models(args: argparse.Namespace) -> None:
    """List the models of the ladder, or the keys of one.

    Each key of a model comes with its type, range, default and meaning.
    """
    from lmstages.config import descriptions
    from lmstages.core.terminal import show

    show("\n\n".join(map(descriptions.described, args.names)) or descriptions.all_models())


def _laws_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", help="a model's type: FILE.py:CLASS, an installed model, or one of the ladder")
    settings = "a hyperparameter other than its default, such as width=16"
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help=settings)


@command(options=_laws_options, for_people=True, is_stage=False, example="my_models.py:GatedCNN --set width=16")
def laws(args: argparse.Namespace) -> None:
    """Try every law of a model on a class of your own.

    Says of each law that is broken where, why probably, and what to change.
    """
    from lmstages.core.errors import UserError
    from lmstages.core.terminal import show
    from lmstages.evaluation.laws import LAWS, subject_of, verdicts
    from lmstages.report.laws import lines

    logging.getLogger("lmstages").setLevel(logging.WARNING)  # no line of progress for each of many short fits
    broken = 0
    for verdict in verdicts(subject_of(args.type, args.set)):
        show(lines(verdict))
        broken += verdict.broken is not None
    if broken:
        raise UserError(args.type, f"breaks {broken} of {len(LAWS)} laws", "", "change what is said above")


def _table_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="a run's folder, such as results/default")
    parser.add_argument("--log", type=Path, help="a file that gets the same lines as the terminal")


@command(options=_table_options, for_people=True, is_stage=False, example="results/default")
def table(args: argparse.Namespace) -> None:
    """Print a finished run's results and the path of its report."""
    from lmstages.core.terminal import show
    from lmstages.report.tables import table_terminal
    from lmstages.results.frame import Results

    results = Results.open(args.results)
    show(table_terminal(results))
    if results.facts["run"] != "-":  # of judge, which makes no report
        show(f"report: {args.results / 'report.html'}")


def _explain_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, help="results/RUN/CORPUS/TOKENIZER/MODEL/seedN, or its beginning")


@command(options=_explain_options, for_people=True, is_stage=False, example=f"{EXPERIMENT}")
def explain(args: argparse.Namespace) -> None:
    """Print how an experiment was made, and how to repeat it.

    Its config, the hashes of its inputs and code, and the commands that make it again.
    """
    from lmstages.core.terminal import show
    from lmstages.results.explaining import explained

    show(explained(args.experiment))


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="a run's folder, such as results/default")


@command(options=_verify_options, for_people=True, is_stage=False, example="results/default")
def verify(args: argparse.Namespace) -> None:
    """Read every file of a run again: is it as it was written?

    Compares each file with its hash and says what to make again.
    """
    from lmstages.core.terminal import show
    from lmstages.results.verifying import verify as run

    for line in run(args.results):
        show(line)


def _clean_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, nargs="?", default=Path(STORE), help=f"the store's folder ({STORE})")
    parser.add_argument("--delete", action="store_true", help="remove them; by default they are listed")


@command(options=_clean_options, for_people=True, is_stage=False, example="--delete")
def clean(args: argparse.Namespace) -> None:
    """List or remove kept files that no run points to.

    Every stage's files are kept in data/store by what made them, so that another run, or the same after an edit was
    taken back, does not make them again. On disks without hard links they are copies, and all of them are listed.
    """
    from lmstages.core.store import cleaned
    from lmstages.core.terminal import show

    for line in cleaned(args.store, args.delete):
        show(line)


def _diff_options(parser: argparse.ArgumentParser) -> None:
    runs = "folders of finished runs, such as results/default; the first is compared with each of the others"
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=runs)
    parser.add_argument("--out", type=Path, help="folder for changes.md and changes.csv; by default in the last run's")


@command(options=_diff_options, for_people=True, is_stage=False, example="results/default results/other")
def diff(args: argparse.Namespace) -> None:
    """Print and write what changed from one run to others.

    Row by row, with paired intervals; all runs are finished ones.
    """
    from lmstages.core import artifacts
    from lmstages.core.terminal import show
    from lmstages.results import diff as differences
    from lmstages.results import frame

    before = args.runs[0]
    changes = differences.between(args.runs)
    folder = args.out or args.runs[-1] / "diff" / before.absolute().name
    made = _made(args, {}, [run / "results.parquet" for run in args.runs])
    artifacts.save_bytes(folder / "changes.csv", frame.csv_text(frame.frame("changes", changes)).encode(), made)
    artifacts.save_bytes(folder / "changes.md", differences.markdown(before, changes).encode(), made)
    show(differences.terminal(before, changes))
    show(f"written: {folder / 'changes.md'}, {folder / 'changes.csv'}")


def _judge_options(parser: argparse.ArgumentParser) -> None:
    units = ("nats", "bits", "log10")
    parser.add_argument("scores", type=Path, help="file of scores: JSONL, parquet, or a token and a number a line")
    parser.add_argument("--text", type=Path, required=True, help="the text that was scored")
    parser.add_argument("--unit", choices=units, help="of the log-probabilities, where the file does not state it")
    parser.add_argument("--train", type=Path, help="text on which a small ladder is fitted, to compare with")
    layout = "how both texts separate their documents"
    parser.add_argument("--documents", choices=("stream", "lines", "separator"), default="stream", help=layout)
    separator = "line that follows each document, with --documents separator"
    parser.add_argument("--separator", default="<|endoftext|>", help=separator)
    parser.add_argument("--out", type=Path, help="folder for the results, which table and diff read")
    parser.add_argument("--log", type=Path, help="a file that gets the same lines as the terminal")


@command(options=_judge_options, for_people=True, is_stage=False, example="mine.jsonl --text test.txt --unit bits")
def judge(args: argparse.Namespace) -> None:
    """Audit scores made elsewhere, and give their intervals.

    With --train also their differences from a small ladder that is fitted here on that text.
    """
    from lmstages.core.terminal import show
    from lmstages.report.judged import judged
    from lmstages.results.judging import Judgement, judging

    layout = {"documents": args.documents, "separator": args.separator}
    with judging(Judgement(args.scores, args.text, args.train, args.unit, layout), args.out) as results:
        show(judged(results, args.text))
    if args.out is not None:
        show(f"results: lmstages table {args.out}")


def _score_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=Path, help="an experiment's folder, or another that holds a model; or a GGUF file"
    )
    parser.add_argument("text", help=f"a file of text; {STDIN} reads stdin")
    parser.add_argument("--per", choices=("token", "word", "line"), default="token", help="what a row is")
    parser.add_argument("--format", choices=("csv", "tsv", "jsonl"), default="csv", help="of the rows on stdout")
    documents = "how the text separates its documents; by default as that which the model was fitted on"
    parser.add_argument("--documents", choices=("stream", "lines", "separator"), help=documents)
    parser.add_argument("--separator", help="line that follows each document, with --documents separator")
    _device_option(parser)


@command(options=_score_options, for_people=True, is_stage=False, example=f"{EXPERIMENT} my.txt --per word")
def score(args: argparse.Namespace) -> None:
    """Write a model's surprisal at each token, word or line.

    Rows on stdout: document, text, its bytes, nats and bits; the sum over the text on stderr.
    """
    from lmstages.evaluation.opening import opened
    from lmstages.evaluation.python import file_source, layout_for, rows_of, stdin_source
    from lmstages.results import surprisal_files

    model = opened(args.model, args.device)
    source = stdin_source(sys.stdin.buffer) if args.text == STDIN else file_source(Path(args.text))
    rows = rows_of(model, [source], args.per, layout_for(model, args.documents, args.separator))
    surprisal_files.write(rows, args.per, args.format, sys.stdout.buffer, source[0])


def _fill_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an experiment's folder, or another that holds a model")
    parser.add_argument("--left", default="", metavar="TEXT", help="what stands before the gap")
    parser.add_argument("--right", default="", metavar="TEXT", help="what stands after it")
    length = "characters of the gap; n-gram models and fim find it among 1 to 16 where it is not given"
    parser.add_argument("--length", type=_whole_number(1, 256), metavar="K", help=length)
    parser.add_argument("--top", type=_whole_number(1, 1000), default=5, metavar="N", help="how many fills (5)")
    _device_option(parser)


@command(
    options=_fill_options,
    for_people=True,
    is_stage=False,
    example="results/default/fables/char/kneser_ney/seed0 --left 'The fox sat on th' --right ' hill.' --length 1",
)
def fill(args: argparse.Namespace) -> None:
    """Fill a gap between two texts: the likeliest fills.

    With their probabilities, given both sides. A model that reads characters can, unless it learns while it scores.
    """
    from lmstages.core.terminal import show
    from lmstages.evaluation.filling import fills, lines
    from lmstages.evaluation.opening import opened

    model = opened(args.model, args.device)
    method, gap_texts = fills(model, args.left, args.right, args.length, args.top)
    show(lines(method, gap_texts, args.left, args.right, args.length is not None))


def _play_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="a run's folder, such as results/default")
    parser.add_argument("--port", type=_whole_number(0, 65535), default=0, help="of 127.0.0.1; by default any free one")


@command(options=_play_options, for_people=True, is_stage=False, example="results/default")
def play(args: argparse.Namespace) -> None:
    """Type, and see what each model of a run expects and writes.

    Serves a page, to this machine alone, where the models of a finished run continue what you type.
    """
    from lmstages.core.errors import UserError

    try:
        from lmstages.playground.server import play as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        remedy = "pip install 'lmstages[play]', or the versions of both in requirements.lock"
        raise UserError("play", f"needs {error.name}, which is not installed", "", remedy) from error
    run(args.results, args.port)


def _export_options(parser: argparse.ArgumentParser) -> None:
    models = "an experiment's folder or model.safetensors, or a Hugging Face folder"
    parser.add_argument("model", type=Path, help=models)
    formats = "a GGUF file, a folder in the Hugging Face layout (hf for short), or an ARPA file of n-grams"
    parser.add_argument("--to", choices=("gguf", "hf", "huggingface", "arpa"), required=True, help=formats)
    types = ("f32", "q8_0", "q4_0")
    parser.add_argument("--type", choices=types, default="f32", help="of the matrices; a quantized model keeps its own")
    parser.add_argument("--output-type", choices=types, help="of the output matrix, where it differs")
    tokens = "folder with tokenizer.json; by default that of the model's experiment"
    parser.add_argument("--tokens", type=Path, help=tokens)
    text = "of arpa: a file that gets the tokens of a split as words, which KenLM's query reads"
    parser.add_argument("--text", type=Path, metavar="FILE", help=text)
    parser.add_argument("--split", choices=("train", "valid", "test"), default="test", help="of --text (test)")


@command(
    options=_export_options,
    for_people=True,
    example="results/default/fables/char/llama/seed0/model.safetensors --to gguf --out llama.gguf",
)
def export(args: argparse.Namespace) -> None:
    """Write a model as GGUF, Hugging Face folder or ARPA file.

    A LLaMA as GGUF or a folder, also one that lies in a Hugging Face folder; GPT, modern GPT and recurrent networks as
    a folder, of which transformers reads the first two and load.py, which lies in it, the last. A model of n-grams is
    an ARPA file.
    """
    if args.to == "arpa":
        _export_ngrams(args)
    else:
        _export_network(args)


def _export_network(args: argparse.Namespace) -> None:
    from lmstages.core.errors import UserError
    from lmstages.evaluation.opening import is_fitted_here
    from lmstages.models.external.exporting import export, export_checkpoint

    if args.text is not None:
        raise UserError("--text", f"given with --to {args.to}", "it belongs to --to arpa", "leave it out")
    section = {"to": args.to.replace("huggingface", "hf"), "type": args.type, "output_type": args.output_type}
    if args.model.is_dir() and not is_fitted_here(args.model):
        return export_checkpoint(args.model, args.out, section, _made(args, section, []))
    model, tokens = _files_of_model(args)
    export(model, tokens, args.out, section, _made(args, section, [model, tokens / "tokenizer.json"]))


def _export_ngrams(args: argparse.Namespace) -> None:
    from lmstages.core.errors import UserError
    from lmstages.models.external.arpa_export import export_arpa

    if args.type != "f32" or args.output_type is not None:
        raise UserError("--type", "given with --to arpa", "n-grams have no matrices", "leave it out")
    model, tokens = _files_of_model(args)
    made = _made(args, {"to": "arpa"}, [model, tokens / "tokenizer.json"])
    export_arpa(model, tokens, args.out, made, args.text, args.split)


def _files_of_model(args: argparse.Namespace) -> tuple[Path, Path]:
    """model.safetensors, and the folder of its vocabulary: of the experiment, or beside it where Python saved it."""
    from lmstages.evaluation.opening import MODEL, tokens_of

    model = args.model / MODEL if args.model.is_dir() else args.model
    return model, args.tokens or tokens_of(model)


def _completion_options(parser: argparse.ArgumentParser) -> None:
    from lmstages.core.completion import SHELLS

    parser.add_argument("shell", choices=SHELLS, help="the shell whose completion is printed")


@command(options=_completion_options, for_people=True, is_stage=False, example="bash")
def completion(args: argparse.Namespace) -> None:
    """Print what completes lmstages in bash, zsh or fish.

    Where each reads it from: docs/install.md.
    """
    from lmstages.config.ladder import MODEL_TYPES
    from lmstages.core.completion import completion as script

    print(script(parser(), args.shell, {"models": list(MODEL_TYPES)}), flush=True)


def _download_options(parser: argparse.ArgumentParser) -> None:
    from lmstages.config.sources import SOURCES

    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--source", choices=SOURCES, help="which text")
    hub = "a data set of the hub, as JSON with name, config, revision, field, split and joined"
    which.add_argument("--hub", type=_section_parser("download", HUB_KEYS), metavar="JSON", help=hub)
    part = "which file of it: whole, or train and validation of tinystories"
    parser.add_argument("--part", default="whole", help=part)
    stories = "how many documents of a data set of the hub: a number, or all"
    parser.add_argument("--stories", type=_number_or_all, help=stories)
    _mirror_option(parser, "the network")


@command(options=_download_options, for_people=True, example="--source names --out names.txt")
def download(args: argparse.Namespace) -> None:
    """Fetch one part of a source, verified.

    From its upstream or from a mirror; the rules call it, too.
    """
    from lmstages.config.sources import SOURCES
    from lmstages.core.errors import UserError
    from lmstages.corpora.download import fetch, source_of_hub

    if args.hub is not None:
        made = _made(args, {"hub": args.hub, "stories": args.stories}, [])
        fetch(source_of_hub(args.hub), args.out, args.mirror, made, part=args.hub["split"], stories=args.stories)
        return
    parts = [part.name for part in SOURCES[args.source].parts]
    if args.part not in parts:
        raise UserError("--part", f"{args.part!r} is no part of {args.source}", f"allowed: {', '.join(parts)}")
    made = _made(args, {"source": args.source, "stories": args.stories}, [])
    fetch(SOURCES[args.source], args.out, args.mirror, made, part=args.part, stories=args.stories)


# ---------------------------------------------------------------- text


def _number_or_all(text: str) -> int | None:
    """``all`` -> None."""
    return None if text == "all" else _whole_number(1)(text)


def _whole_number(least: int, most: int = 1 << 40) -> Callable[[str], int]:
    """A function: text -> a whole number within bounds, or argparse's own error."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} found; a whole number from {least:,} to {most:,}")
        return int(text)

    return parse


def _duration(text: str) -> float:
    """Text -> a finite number of seconds or minutes that is not negative, or argparse's own error."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} found; a number, 0 or more")
    return number


def _size(text: str) -> float:
    """``4GB``, ``1.5 MB`` or ``1000`` -> bytes, or argparse's own error."""
    matched = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([kKMGT]?)B?", text)
    if not matched:
        raise argparse.ArgumentTypeError(f"{text!r} found; a number of bytes, or with a unit: 4GB, 500MB")
    return float(matched[1]) * 1000 ** " kMGT".index(matched[2].replace("K", "k") or " ")


def _size_of_text(text: str) -> tuple[str, float]:
    """``100GB`` -> ("", bytes) of every corpus, ``CORPUS=2MB`` of one."""
    name, _, size = text.rpartition("=")
    return name, _size(size)


def _mirror_option(parser: argparse.ArgumentParser, upstream: str) -> None:
    mirror = os.environ.get("LMSTAGES_MIRROR") or None
    parser.add_argument("--mirror", default=mirror, help=f"folder or base URL that replaces {upstream}")


def _prepare_options(parser: argparse.ArgumentParser) -> None:
    raw = "downloaded files, or the user's own; by default those of the section"
    parser.add_argument("--raw", type=Path, nargs="*", default=[], help=raw)
    content = "hash of the user's files when the run began, so that what changed since is refused"
    parser.add_argument("--content", default="", help=content)


@command("split", options=_prepare_options, levels=2, example="--raw names.txt --out my/text")
def prepare(args: argparse.Namespace) -> None:
    """Cut or draw a corpus into train, valid and test."""
    from lmstages.config.sections import Corpus, from_section
    from lmstages.corpora.preparation import prepare as run

    corpus = from_section(Corpus, args.section)
    made = _to_make(args, args.section, [] if corpus.own() else args.raw)
    run(corpus, args.raw, args.out, made, args.content)


def _keep_going_option(parser: argparse.ArgumentParser) -> None:
    keep_going = "write why it failed as its result and exit with 0, so that a run reports its other rows"
    parser.add_argument("--keep-going", action="store_true", help=keep_going)


@contextmanager
def _keeping_going(args: argparse.Namespace, save_failure: Callable[["UserError"], None]) -> Iterator[None]:
    """With ``--keep-going`` a UserError of the block is logged and saved as the result; else it is raised."""
    from lmstages.core.errors import UserError

    try:
        yield
    except UserError as error:
        if not args.keep_going:
            raise
        logging.getLogger("lmstages").error("lmstages: error: %s", error)
        save_failure(error)


def _tokenize_options(parser: argparse.ArgumentParser) -> None:
    _keep_going_option(parser)
    _mirror_option(parser, "the hub, of a tokenizer made elsewhere")
    content = "hash of the files of a tokenizer made elsewhere, kept in the provenance"
    parser.add_argument("--content", default="none", help=content)
    parser.add_argument(
        "--layout", default="stream", help="what a document is: stream, lines, separator, files, records"
    )


@command("kind", paths=["text"], options=_tokenize_options, levels=3, example="--out my/tokens")
def tokenize(args: argparse.Namespace) -> None:
    """Learn a tokenizer and write the tokens of all splits.

    It learns from train alone; one made elsewhere is read.
    """
    from lmstages.config.sections import Tokenizer, from_section
    from lmstages.corpora.splits import NAMES, text_path
    from lmstages.tokenizers import streams

    made = _to_make(args, args.section, [text_path(args.text, name) for name in NAMES])
    section = from_section(Tokenizer, args.section)
    made |= {"content": args.content} if section.kind == "pretrained" else {}
    with _keeping_going(args, lambda error: streams.write_failure(args.out, str(error), made)):
        streams.tokenize(section, args.text, args.out, args.layout, made, args.mirror)


def _same_text_options(parser: argparse.ArgumentParser) -> None:
    same = "files that this command has made of the same text for another corpus: they are copied, if that is so"
    parser.add_argument("--same-as", type=Path, nargs="*", default=[], metavar="FILE", help=same)


def _is_copied(args: argparse.Namespace, made: Mapping[str, Any], *out: Path) -> bool:
    """Whether the files ``out`` are those of ``--same-as``, since the same was made of the same text before."""
    from lmstages.core.artifacts import copied
    from lmstages.core.errors import UserError

    if args.same_as and len(args.same_as) != len(out):
        allowed = f"allowed: {len(out)}, for {' and '.join(path.name for path in out)}"
        raise UserError("--same-as", f"{len(args.same_as)} files found", allowed)
    return bool(args.same_as) and copied(dict(zip(out, args.same_as, strict=True)), made)


@command("source", "splits", paths=["text"], options=_same_text_options, levels=2, example="--out my/oracle")
def oracle(args: argparse.Namespace) -> None:
    """Score the splits of a grammar's corpus by that grammar.

    The score of the distribution that generated the text: no model is better on average.
    """
    from lmstages.corpora.splits import text_path
    from lmstages.evaluation.oracle import score_by_source

    splits = args.section["splits"]
    made = _to_make(args, args.section, [text_path(args.text, split) for split in splits])
    if not _is_copied(args, made, args.out / "oracle.json", args.out / "scores.safetensors"):
        score_by_source(args.section["source"], args.text, args.out, splits, made)


@command(
    "compressors", "splits", paths=["text"], options=_same_text_options, levels=1, example="--out my/compressors.json"
)
def compress(args: argparse.Namespace) -> None:
    """Measure how many bytes compressors need for held-out text.

    Alone, and after train.
    """
    from lmstages.corpora.splits import text_path
    from lmstages.evaluation.compressors import code_lengths

    splits = args.section["splits"]
    made = _to_make(args, args.section, [text_path(args.text, split) for split in ("train", *splits)])
    if not _is_copied(args, made, args.out):
        code_lengths(args.text, args.section["compressors"], splits, args.out, made)


@command("splits", paths=["text"], options=_same_text_options, levels=1, example="--out my")
def overlap(args: argparse.Namespace) -> None:
    """Measure how much of the held-out text occurs in train."""
    from lmstages.corpora.overlap import audit
    from lmstages.corpora.splits import text_path

    splits = args.section["splits"]
    made = _to_make(args, args.section, [text_path(args.text, split) for split in ("train", *splits)])
    if not _is_copied(args, made, args.out / "overlap.json", args.out / "overlap.safetensors"):
        audit(args.text, splits, args.out, made)


@command("corpus", "splits", paths=["text"], options=_same_text_options, levels=1, example="--out my/contrasts.json")
def contrast(args: argparse.Namespace) -> None:
    """Make minimal pairs of texts for a grammar's corpus.

    Lists the combinations that train lacks, and makes pairs of texts that differ in one of them.
    """
    from lmstages.config.sections import Corpus, from_section
    from lmstages.corpora.contrasts import write
    from lmstages.corpora.splits import text_path

    splits = args.section["splits"]
    made = _to_make(args, args.section, [text_path(args.text, split) for split in splits])
    if not _is_copied(args, made, args.out):
        write(from_section(Corpus, args.section["corpus"]), args.text, splits, args.out, made)


# ---------------------------------------------------------------- models


def _fit_options(parser: argparse.ArgumentParser) -> None:
    """Resume points are of gradient descent; counting, and the model autograd, take seconds and start over."""
    parser.add_argument("--seed", type=_whole_number(0, (1 << 63) - 1), default=0, help="of all random draws")
    folder = "folder of resume points; the same command continues from them, and removes them when it is done"
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help=folder)
    parser.add_argument("--save-seconds", type=_duration, default=60.0, help="between two resume points (60)")
    parser.add_argument(
        "--save-steps",
        type=_whole_number(1),
        default=sys.maxsize,
        help="steps between two resume points, where they are done sooner",
    )
    limit = "the job's time limit, from its start: shortly before it the fit saves and exits with 75; 0 is no limit"
    parser.add_argument("--minutes", type=_duration, default=0.0, help=limit)
    failure = "why its scores would fail: nothing is fitted, and this is its result"
    parser.add_argument("--failure", default="", metavar="REASON", help=failure)
    events = "folder for the learning curve as TensorBoard's events, while the fit runs"
    parser.add_argument("--tensorboard", type=Path, metavar="FOLDER", help=events)
    processes = "processes that share the fit on this machine; by default as the record has it"
    parser.add_argument("--processes", type=_whole_number(1, MOST_THREADS), metavar="N", help=processes)
    nodes = "nodes of this Slurm job that share it; by default as the record has it"
    parser.add_argument("--nodes", type=_whole_number(1), metavar="N", help=nodes)
    meeting = "where the nodes meet, HOST:PORT, if this command is called on each of them by other means than Slurm's"
    parser.add_argument("--rendezvous", default="", metavar="HOST:PORT", help=meeting)
    compiled = "torch.compile: auto is for long fits on a GPU"
    parser.add_argument("--compile", choices=("auto", "always", "never"), default="auto", help=compiled)
    _device_option(parser)


def _device_option(parser: argparse.ArgumentParser) -> None:
    from lmstages.core.runtime import DEVICES

    gpu = "auto: a GPU where there is one; mps: Apple's"
    parser.add_argument("--device", choices=DEVICES, default="cpu", help=gpu)


@command("type", "hyperparameters", paths=["tokens"], options=_fit_options, levels=4, example="--seed 0 --out my/gpt")
def fit(args: argparse.Namespace) -> None:
    """Fit one model on train.

    valid may choose hyperparameters or stop early.
    """
    from lmstages.core.runtime import Runtime, deadline, rank
    from lmstages.models import storage as model_storage
    from lmstages.models.fitting import identity, outcome
    from lmstages.tokenizers import streams
    from lmstages.training.events import Events
    from lmstages.training.resume import Cadence, ResumePoints

    if _is_launched(args):
        return
    names = ("train.npy", "train.starts.npy", "valid.npy", "valid.starts.npy")
    made = _to_make(args, args.section, [args.tokens / name for name in names])
    if failure := streams.failure_of(args.tokens) or (f"failed: {args.failure}" if args.failure else None):
        logging.getLogger("lmstages").error("lmstages: error: %s", failure.removeprefix("failed: "))
        model_storage.save_fit(args.out, None, {**args.section, "status": failure}, made)
        return
    train, valid = (streams.read_documents(args.tokens, split) for split in ("train", "valid"))
    vocab_size, points = streams.read_tokenizer(args.tokens).vocab_size, None
    if args.resume is not None:
        fit_identity = identity(made, vocab_size, args.seed, args.threads)
        points = ResumePoints(args.resume, fit_identity, Cadence(args.save_seconds, args.save_steps))
    curves = Events(args.tensorboard) if args.tensorboard is not None and rank() == 0 else None
    with closing(Runtime(args.device, args.compile, points, deadline(args.minutes), curves)) as runtime:
        model, facts = outcome(args.section, vocab_size, (train, valid), args.seed, args.threads, runtime)
        if rank() == 0:
            model_storage.save_fit(args.out, model, {**args.section, **facts}, made)
            runtime.done()


def _is_launched(args: argparse.Namespace) -> bool:
    """Whether several processes were to share the fit: then they have, started and waited for by this one."""
    from lmstages.core.runtime import processes
    from lmstages.training.launcher import Layout, launch

    record = args.section["hyperparameters"]
    each, nodes = args.processes or record.get("processes", 1), args.nodes or record.get("nodes", 1)
    layout = Layout(each, nodes, args.threads, args.rendezvous)
    if layout.total == 1 or processes() > 1 or args.failure:
        return False
    launch(layout, args.typed, json.dumps(args.section))
    return True


@command("type", "hyperparameters", paths=["base", "tokens"], levels=4, example="--out my/llama_q4")
def derive(args: argparse.Namespace) -> None:
    """Derive a model from a fitted one without training.

    Quantized, or run by another engine.
    """
    from lmstages.evaluation.derivation import derive as run

    made = _to_make(args, args.section, [args.base, args.tokens / "train.npy", args.tokens / "valid.npy"])
    run(args.base, args.tokens, args.out, args.section, args.threads, made)


@command("splits", paths=["model", "base", "tokens"], levels=4, example="--out my/error.json")
def quantization_error(args: argparse.Namespace) -> None:
    """Measure a derived model's size and error.

    The error is its distance from the model that it is derived from.
    """
    from lmstages.core import artifacts
    from lmstages.evaluation.quantization import quantization_error as run

    splits = args.section["splits"]
    made = _made(args, args.section, [args.model, args.base, *(args.tokens / f"{split}.npy" for split in splits)])
    artifacts.save_json(args.out, run(args.model, args.base, args.tokens, splits), made)


def _score_pretrained_options(parser: argparse.ArgumentParser) -> None:
    _keep_going_option(parser)
    _mirror_option(parser, "the hub")
    content = "hash of the checkpoint's files, kept in the provenance; a commit of the hub has none"
    parser.add_argument("--content", default="none", help=content)


@command(
    *("pretrained", "splits", "sampling", "documents"),
    paths=["text"],
    options=_score_pretrained_options,
    levels=4,
    example="--out my/pretrained",
)
def score_pretrained(args: argparse.Namespace) -> None:
    """Score a model from elsewhere, and draw text from it.

    On held-out splits, with its own vocabulary.
    """
    from lmstages.config.sections import Pretrained, from_section
    from lmstages.corpora.splits import text_path
    from lmstages.evaluation.pretrained import save_failure
    from lmstages.evaluation.pretrained import score_pretrained as run

    record = from_section(Pretrained, args.section["pretrained"])
    made = _made(args, args.section, [text_path(args.text, split) for split in args.section["splits"]])
    with _keeping_going(args, lambda error: save_failure(args.section, args.out, error, made)):
        run(args.section, record, args.text, args.out, args.threads, args.mirror, {**made, "content": args.content})


def _audit_scores_options(parser: argparse.ArgumentParser) -> None:
    _keep_going_option(parser)
    content = "hash of the file of scores when the run began, so that one that changed since is refused"
    parser.add_argument("--content", default="", help=content)


@command("scores", "split", paths=["text"], options=_audit_scores_options, levels=3, example="--out my/scores")
def audit_scores(args: argparse.Namespace) -> None:
    """Audit scores made elsewhere: each byte of the text once?

    Writes them as those of any experiment.
    """
    from lmstages.corpora.splits import text_path
    from lmstages.evaluation.reported import audit_scores as run
    from lmstages.evaluation.reported import save_failure

    made = {**_made(args, args.section, [text_path(args.text, args.section["split"])]), "content": args.content}
    with _keeping_going(args, lambda error: save_failure(args.section, args.out, error, made)):
        count = run(args.section, args.text, args.out, made, args.content)
        logging.getLogger("lmstages").info("%s tokens, every byte of the text once", f"{count:,}")


# ---------------------------------------------------------------- experiments


@command(
    *("splits", "scoring", "sampling", "documents"),
    paths=["model", "tokens", "text"],
    options=_device_option,
    levels=4,
    example="--out my/gpt",
)
def evaluate(args: argparse.Namespace) -> None:
    """Score a fitted model on held-out text; draw samples."""
    from lmstages.evaluation.experiment import evaluate as run

    inputs = [args.model, *(args.tokens / f"{split}.npy" for split in args.section["splits"])]
    made = _to_make(args, args.section, inputs)
    run(args.model, args.tokens, args.text, args.out, args.section, made, args.device)


def _mix_options(parser: argparse.ArgumentParser) -> None:
    components = "folders of the experiments that are mixed, in the order of the section"
    parser.add_argument("--components", type=Path, nargs="+", required=True, help=components)


@command(
    "of",
    "weights",
    "splits",
    paths=["text"],
    options=_mix_options,
    levels=4,
    example=f"--components {EXPERIMENT} results/default/fables/char/kneser_ney/seed0 --out my/mixture",
)
def mix(args: argparse.Namespace) -> None:
    """Mix the scores of several experiments into those of one.

    The weights are fitted on valid, or equal.
    """
    from lmstages.evaluation.mixtures import inputs_of
    from lmstages.evaluation.mixtures import mix as run

    made = _made_from(args, args.section, inputs_of(args.components, args.section))
    run(args.components, args.text, args.out, args.section, made)


def _probe_options(parser: argparse.ArgumentParser) -> None:
    contrasts = "contrasts.json of an embedded corpus"
    parser.add_argument("--contrasts", type=Path, nargs="*", default=[], help=contrasts)


@command(
    "scoring",
    "sampling",
    "documents",
    "source",
    paths=["model", "tokens"],
    options=_probe_options,
    levels=4,
    example="--out my/gpt",
)
def probe(args: argparse.Namespace) -> None:
    """Draw samples for statistics; probe a model's embedding.

    Scores minimal pairs, too, where the corpus has them.
    """
    from lmstages.analyses.probing import probe as run

    made = _to_make(args, args.section, [args.model, *args.contrasts])
    run(args.model, args.tokens, next(iter(args.contrasts), None), args.out, args.section, made)


@command("experiments", "splits", "documents", "source", paths=["corpus"], levels=1, example="--out my/analyses.json")
def analyse(args: argparse.Namespace) -> None:
    """Analyse all scores of a corpus beyond their average.

    And the samples of its experiments.
    """
    from lmstages.analyses.scores import analyse as run

    made = _made(args, args.section, [args.corpus / name for name in ("overlap.json", "overlap.safetensors")])
    run(args.corpus, args.section, args.out, made)


@command("experiments", "split", paths=["tokens"], levels=2, example="--out my")
def inspect(args: argparse.Namespace) -> None:
    """Read the parameters of a corpus's models, for figures.

    Embeddings before and after training, counts, attention, facts.
    """
    from lmstages.analyses.inspection import inspect as run

    inputs = {path.name: path for path in (args.tokens / "train.npy", args.tokens / f"{args.section['split']}.npy")}
    for experiment in (f"{name}/seed{seed}" for name, seed in args.section["experiments"]):
        inputs[experiment] = args.tokens.parent / experiment / "model.safetensors"
    run(args.tokens, args.out, args.section, _made_from(args, args.section, inputs))


@command(
    *("split", "documents", "lengths", "places", "context", "rows", "reads"),
    paths=["model", "tokens"],
    levels=4,
    example="--out my/gpt",
)
def infill(args: argparse.Namespace) -> None:
    """Fill gaps in held-out text, knowing both sides of each.

    By the exact method that the model allows, and with the right side hidden.
    """
    from lmstages.evaluation.infilling import infill as run

    made = _to_make(args, args.section, [args.model, args.tokens / f"{args.section['split']}.npy"])
    run(args.model, args.tokens, args.out, args.section, made)


def _infill_mixture_options(parser: argparse.ArgumentParser) -> None:
    _mix_options(parser)
    mixture = "fit.json of the mixture, which holds its weights"
    parser.add_argument("--mixture", type=Path, required=True, help=mixture)


@command(
    *("split", "documents", "lengths", "places", "context", "rows", "reads", "of"),
    paths=["tokens"],
    options=_infill_mixture_options,
    levels=4,
    example="--components results/mine/fables/char/gpt/seed0 results/mine/fables/char/kneser_ney/seed0"
    " --mixture results/mine/fables/char/mixture/seed0/fit.json --out my/mixture",
)
def infill_mixture(args: argparse.Namespace) -> None:
    """Fill the same gaps by a mixture of models.

    Every fill is tried, by Bayes' rule over the mixture's own probabilities.
    """
    from lmstages.evaluation.infilling import infill_mixture as run
    from lmstages.evaluation.mixtures import folders_by_name

    folders = folders_by_name(args.components, args.section)
    inputs = {name: folder / "model.safetensors" for name, folder in folders.items()}
    inputs |= {"fit.json": args.mixture, "tokens": args.tokens / f"{args.section['split']}.npy"}
    run(folders, args.mixture, args.tokens, args.out, args.section, _made_from(args, args.section, inputs))


@command("source", "split", "lengths", "places", "context", paths=["text"], levels=2, example="--out my/oracle")
def infill_oracle(args: argparse.Namespace) -> None:
    """Fill the same gaps by the grammar that wrote the text.

    No model fills them better on average.
    """
    from lmstages.corpora.splits import text_path
    from lmstages.evaluation.infilling import infill_by_source as run

    made = _made(args, args.section, [text_path(args.text, args.section["split"])])
    run(args.section["source"], args.text, args.out, args.section, made)


@command(
    *("steps", "texts", "length", "drafts", "seed", "split", "documents", "source"),
    paths=["model", "tokens", "text"],
    levels=4,
    example="--out my/gpt",
)
def generate(args: argparse.Namespace) -> None:
    """Draw texts by every sampler of a model, and measure them.

    The code length of held-out text under each sampler, what its texts are, and its seconds.
    """
    from lmstages.analyses.generation import generate as run
    from lmstages.corpora.splits import text_path

    streams = [args.tokens / f"{args.section['split']}.npy", text_path(args.text, "train")]
    run(args.model, args.tokens, args.text, args.out, args.section, _made(args, args.section, [args.model, *streams]))


# ---------------------------------------------------------------- runs


@command("run", "experiments", "evaluate", "published", "sweeps", example="--out results/default")
def summarize(args: argparse.Namespace) -> None:
    """Summarize the score files of a run as its tables."""
    from lmstages.results.summary import summarize as run

    run(args.out, args.section, _made(args, args.section, []))


@command(paths=["results"], example="--out results/default")
def report(args: argparse.Namespace) -> None:
    """Write the report, and the tables and samples as text.

    report.html, table.md, table.tex and samples.md.
    """
    from lmstages.core import artifacts
    from lmstages.report.files import files
    from lmstages.results.frame import Results

    results = Results.open(args.results)
    made = _made(args, {}, [args.results / name for name in ("results.parquet", "run.json", "figures/index.json")])
    for name, content in files(results).items():
        artifacts.save_bytes(args.out / name, content.encode(), made)


@command(paths=["results"], example="--out results/default/figures")
def figures(args: argparse.Namespace) -> None:
    """Draw every figure of a run as SVG, PNG and PDF.

    Each once, with an index of titles and captions.
    """
    from lmstages.figures import files
    from lmstages.results.frame import Results

    results = Results.open(args.results)
    made = _made(args, {}, [*files.inputs(args.results), args.results / "run.json"])
    files.write(results, args.out, made, args.threads)


@command(paths=["results"], example="--out results/default/verdict.txt")
def verdict(args: argparse.Namespace) -> None:
    """Fail, after the report is written, where a model failed.

    Logs the path of the report.
    """
    from lmstages.core import artifacts
    from lmstages.results.frame import Results
    from lmstages.results.summary import verdict as run

    results = Results.open(args.results)
    sentence = run(results.facts["run"], results.rows)
    made = _made(args, {}, [args.results / "results.parquet"])
    artifacts.save_bytes(args.out, f"{sentence}\n".encode(), made)
    logging.getLogger("lmstages").info("%s; the report is %s", sentence, args.out.with_name("report.html"))


def _made(args: argparse.Namespace, section: Any, inputs: list[Path]) -> dict[str, Any]:
    """What made the files of a command: itself, its section, the sha256 of its inputs by name, and its code.

    An input that shares its name with another is called by its path.
    """
    names = [path.name for path in inputs]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, inputs, strict=True)]
    return _made_from(args, section, dict(zip(labels, inputs, strict=True)))


def _to_make(args: argparse.Namespace, section: Any, inputs: list[Path]) -> dict[str, Any]:
    """``_made`` of a stage that needs not run where the store (LMSTAGES_STORE, a folder) has its files.

    Raises Taken then; else ``_run`` keeps them there when they are made. A stage of several processes has no store.
    """
    from lmstages.core.store import Taken, Work

    made = _made(args, section, inputs)
    if (folder := os.environ.get("LMSTAGES_STORE")) and os.environ.get("WORLD_SIZE", "1") == "1":
        args.work = Work(Path(folder), args.out, made, _depends(args, made))
        if args.work.take():
            raise Taken
    return made


def _depends(args: argparse.Namespace, made: Mapping[str, Any]) -> dict[str, Any]:
    """All that the files of a stage depend on: what its record says, its options, and the folders that it reads."""
    from lmstages.core.artifacts import depends_on, made_of

    options = {name: value for name, value in vars(args).items() if name in OPTIONS_OF_FILES}
    records = {name: made_of(getattr(args, name) / file) for name, file in ANCHORS.items() if hasattr(args, name)}
    folders = {name: [record["sha256"], depends_on(record["made"])] for name, record in records.items()}
    return {**depends_on(made), "options": options, "folders": folders}


def _made_from(args: argparse.Namespace, section: Any, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """``_made`` of inputs that have names of their own; ``paths`` says where in the run each of them lay."""
    from lmstages.core.artifacts import made_of
    from lmstages.core.provenance import versions

    records = {name: made_of(path) for name, path in inputs.items()}
    hashes = {name: record["sha256"] for name, record in records.items()}
    paths = {name: record.get("path", inputs[name].name) for name, record in records.items()}
    code = {"code": args.code, "lmstages": __version__, **versions("numpy")}
    made = {"command": args.command.__name__, "section": section, "inputs": hashes, "paths": paths, **code}
    return {**made, "levels": COMMANDS[args.command.__name__].levels}


# ---------------------------------------------------------------- the parser


class _Parser(argparse.ArgumentParser):
    """Its messages repeat what was typed: that passes the same place as everything else that is foreign."""

    def _print_message(self, message: str, file: Any = None) -> None:
        from lmstages.core.terminal import shown

        super()._print_message(shown(message), file)


def parser(chosen: str = "") -> argparse.ArgumentParser:
    """All commands with their options; where one is chosen, a job say, no other."""
    raw, epilog = argparse.RawDescriptionHelpFormatter, f"{_listing()}\n\n{EXAMPLES}"
    whole = _Parser("lmstages", description=textwrap.fill(DESCRIPTION, 80), epilog=epilog, formatter_class=raw)
    whole.add_argument("--version", action="version", version=__version__)
    subparsers = whole.add_subparsers(required=True, metavar="COMMAND", help="one of those below")
    for entry in [COMMANDS[chosen]] if chosen in COMMANDS else COMMANDS.values():
        _add(subparsers, entry)
    return whole


def _listing() -> str:
    """Every command in one line, by groups, those for people first."""
    in_a_group = {name for names in GROUPS.values() for name in names}
    *groups, (last, _) = GROUPS.items()
    rest = [name for name, entry in COMMANDS.items() if entry.for_people and name not in in_a_group]
    of_jobs = [name for name, entry in COMMANDS.items() if not entry.for_people]
    lines = []
    for heading, names in (*groups, (last, rest), ("commands that jobs call:", of_jobs)):
        lines += ["", heading, *(f"  {name:<{NAME_WIDTH}}{_summary(COMMANDS[name])}" for name in names)]
    return "\n".join(lines[1:])


def _summary(entry: Command) -> str:
    return (entry.function.__doc__ or "").partition("\n")[0]


def _example(entry: Command) -> str:
    """A line to type. A section is long: ``explain`` prints it with each command."""
    options = [part for path in entry.paths for part in (f"--{path}", PATH_EXAMPLES[path])]
    section = ['--section "$(cat section.json)"'] if entry.section else []
    line = " ".join(["lmstages", entry.function.__name__, *options, *section, entry.example])
    note = f"\nwhole lines with their sections:\n  lmstages explain {EXPERIMENT}" if section else ""
    return f"example:\n  {line}{note}"


def _add(subparsers: Any, entry: Command) -> None:
    """One command: the paths it reads, its section of the config, and its own options."""
    function, raw = entry.function, argparse.RawDescriptionHelpFormatter
    text = "\n".join(textwrap.fill(" ".join(part.split()), 80) for part in (function.__doc__ or "").split("\n\n"))
    subparser: argparse.ArgumentParser = subparsers.add_parser(
        function.__name__, description=text, epilog=_example(entry), formatter_class=raw
    )
    subparser.set_defaults(command=function, log=None, threads=1, code="", work=None)
    for path in entry.paths:
        subparser.add_argument(f"--{path}", type=Path, required=True, help=PATHS[path])
    if entry.section:
        section = f"its part of the config, as JSON with {', '.join(entry.section)}; {STDIN} reads it from stdin"
        parse = _section_parser(function.__name__, entry.section)
        subparser.add_argument("--section", type=parse, required=True, help=section)
    if entry.is_stage:
        _add_stage_options(subparser)
    if entry.options:
        entry.options(subparser)


def _add_stage_options(subparser: argparse.ArgumentParser) -> None:
    subparser.add_argument("--out", type=Path, required=True, help="the file or folder to write")
    cores = "cores it may use; the bits of a fit depend on it, those of figures do not"
    subparser.add_argument("--threads", type=_whole_number(1, MOST_THREADS), default=1, help=cores)
    subparser.add_argument("--code", default="", help="hash of the code, kept in the provenance")
    subparser.add_argument("--log", type=Path, help="a file that gets the same lines as the terminal")


def _section_parser(command_name: str, keys: Sequence[str]) -> Callable[[str], Any]:
    """A function: JSON, or ``-`` for that of stdin -> what it holds, each key of its kind, or argparse's own error."""

    def parse(text: str) -> Any:
        from lmstages.config.job_sections import problems

        text = sys.stdin.read() if text == STDIN else text
        try:
            section = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise argparse.ArgumentTypeError(f"is no JSON: {error}") from error
        if lacking := [key for key in keys if not isinstance(section, dict) or key not in section]:
            raise argparse.ArgumentTypeError(f"lacks {', '.join(lacking)}")
        if wrong := problems(command_name, section):
            raise argparse.ArgumentTypeError(f"cannot be used: {'; '.join(wrong)}")
        return section

    return parse


# ---------------------------------------------------------------- the process


def main(arguments: list[str] | None = None) -> int:
    """0, or 1 with one line on stderr for what a user or a machine can mend, or 130 with one line upon Ctrl-C.

    75 is for a fit that was interrupted and has saved. A bug keeps its traceback.
    """
    from lmstages.core import terminal

    terminal.prepare()
    try:
        typed = sys.argv[1:] if arguments is None else arguments
        args = parser("".join(typed[:1])).parse_args(typed)
        args.typed = typed
        _use_threads(args.threads)
        return _run(args)
    except BrokenPipeError:  # as of ``lmstages table | head``: nobody reads on
        return 1
    except KeyboardInterrupt:
        logging.getLogger("lmstages").error("lmstages: interrupted; the same command starts again")
        return INTERRUPTED
    finally:
        terminal.finish()


def _run(args: argparse.Namespace) -> int:
    """The exit code of a command."""
    from lmstages.core.errors import Interrupted, UserError
    from lmstages.core.progress import LOGGER, log_to
    from lmstages.core.runtime import rank
    from lmstages.core.store import Taken
    from lmstages.core.system_errors import in_one_line

    try:
        job = getattr(args, "out", None)
        log_to(None if rank() else args.log, "" if job is None else str(job), quiet=rank() > 0)
        args.command(args)
        if args.work is not None and rank() == 0:
            args.work.keep()
    except Taken:
        LOGGER.info("taken from the store: the same command, section, inputs and code made these files before")
    except Interrupted as interruption:
        LOGGER.warning("%s", interruption)
        return TEMPORARY_FAILURE
    except BrokenPipeError:
        raise
    except Exception as error:
        explained = in_one_line(args.command.__name__, error)
        if isinstance(explained, UserError):
            LOGGER.error("lmstages: error: %s", explained)
        else:
            LOGGER.exception("lmstages: this is a bug of lmstages, not of its input")
        return 1
    return 0


def _use_threads(threads: int) -> None:
    """Every library takes exactly the threads it is given, and idle ones sleep; says where they are too many."""
    cores = os.cpu_count() or threads
    if threads > cores:
        logging.getLogger("lmstages").warning("--threads %d: this machine has %d cores", threads, cores)
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's GPUs lack is done by the CPU
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"


def console() -> NoReturn:
    """The ``lmstages`` command."""
    code = main()
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends it without a word
    sys.exit(code)
