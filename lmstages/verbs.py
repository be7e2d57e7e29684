"""The verbs, one for each stage: each reads files, calls one function and writes files; none decides anything.

What a verb imports is imported within it, so that each job loads what it needs and nothing else, and so that
``provenance`` can tell from its source which code a job runs.
"""

import argparse
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

from lmstages import __version__


def check(args: argparse.Namespace) -> None:
    """Read a config and say what it would run."""
    from lmstages.config.reading import read_run

    run = read_run(args.config)
    for corpus, tokenizer, model, seed in run.experiments():
        print(f"{corpus}/{tokenizer}/{model}/seed{seed}")


def download(args: argparse.Namespace) -> None:
    """Fetch one part of a source, verified, from its upstream or from a mirror."""
    from lmstages.config.sources import SOURCES
    from lmstages.corpora.download import fetch

    made = _made(args, {"source": args.source, "stories": args.stories}, [])
    fetch(SOURCES[args.source], args.out, args.mirror, made, part=args.part, stories=args.stories)


def prepare(args: argparse.Namespace) -> None:
    """Cut or draw a corpus into train, valid and test."""
    from lmstages.config.sections import Corpus, from_section
    from lmstages.corpora.preparation import prepare as run

    corpus = from_section(Corpus, args.section)
    run(corpus, args.raw, args.out, _made(args, args.section, [] if corpus.path else args.raw))


def tokenize(args: argparse.Namespace) -> None:
    """Learn a tokenizer from train and write the token streams of all splits."""
    from lmstages.config.sections import Tokenizer, from_section
    from lmstages.core import artifacts
    from lmstages.corpora.splits import NAMES, SplitText, text_path
    from lmstages.tokenizers import learn, streams

    made = _made(args, args.section, [text_path(args.text, name) for name in NAMES])
    section = from_section(Tokenizer, args.section)
    closed = section.alphabet == "corpus"
    parts = {name: SplitText.open(args.text, name) for name in NAMES}
    texts = (text for name in (NAMES if closed else NAMES[:1]) for text in parts[name].texts())
    tokenizer = learn(section.kind, section.vocab_size, texts, args.layout == "lines", parts["train"].stream, closed)
    artifacts.save_json(args.out / "tokenizer.json", tokenizer.to_json(), made)
    for name, part in parts.items():
        count = streams.write_tokens(args.out, name, part, tokenizer, made)
        logging.getLogger("lmstages").info("%s: %s tokens of %s", name, f"{count:,}", f"{tokenizer.vocab_size:,}")


def fit(args: argparse.Namespace) -> None:
    """Fit one model on train, choosing on valid."""
    from lmstages.core.runtime import Runtime, deadline, rank
    from lmstages.models import storage as model_storage
    from lmstages.models.fitting import identity, outcome
    from lmstages.tokenizers import streams
    from lmstages.training.resume import Cadence, ResumePoints

    kinds, parts = (".npy", ".starts.npy"), ("train", "valid")
    made = _made(args, args.section, [args.tokens / f"{name}{kind}" for name in parts for kind in kinds])
    train, valid = (streams.read_tokens(args.tokens, name)[0] for name in parts)
    vocab_size, points = streams.read_tokenizer(args.tokens).vocab_size, None
    if args.resume is not None:
        whole = identity(made, vocab_size, args.seed, args.threads)
        points = ResumePoints(args.resume, whole, Cadence(args.save_seconds, args.save_steps))
    with closing(Runtime(args.device, args.compile, points, deadline(args.minutes))) as runtime:
        model, facts = outcome(args.section, vocab_size, (train, valid), args.seed, args.threads, runtime)
        if rank() == 0:
            model_storage.save_fit(args.out, model, {**args.section, **facts}, made)
            runtime.done()


def evaluate(args: argparse.Namespace) -> None:
    """Score a fitted model on held-out splits, and draw text from it."""
    from lmstages.evaluation.experiment import evaluate as run

    inputs = [args.model, *(args.tokens / f"{split}.npy" for split in args.section["splits"])]
    made = _made(args, args.section, inputs)
    run(args.model, args.tokens, args.text, args.out, args.section, made, args.device)


def derive(args: argparse.Namespace) -> None:
    """Make a model of a fitted one without training it again: in fewer bits, or through another engine."""
    from lmstages.evaluation.derivation import derive as run

    made = _made(args, args.section, [args.base, args.tokens / "train.npy"])
    run(args.base, args.tokens, args.out, args.section, args.threads, made)


def against(args: argparse.Namespace) -> None:
    """Measure a derived model's size, and how far it is from the model that it is made of."""
    from lmstages.core import artifacts
    from lmstages.evaluation.derivation import against as run

    splits = args.section["splits"]
    made = _made(args, args.section, [args.model, args.base, *(args.tokens / f"{split}.npy" for split in splits)])
    artifacts.save_json(args.out, run(args.model, args.base, args.tokens, splits), made)


def export(args: argparse.Namespace) -> None:
    """Write a LLaMA, fitted here or in a Hugging Face folder, as a GGUF file or in the Hugging Face layout."""
    from lmstages.models.external.exporting import export as run
    from lmstages.models.external.exporting import export_checkpoint

    section = {"to": args.to, "type": args.type, "output_type": args.output_type}
    if args.model.is_dir():
        export_checkpoint(args.model, args.out, section, _made(args, section, []))
        return
    tokens = args.tokens or args.model.absolute().parents[2] / "tokens"
    run(args.model, tokens, args.out, section, _made(args, section, [args.model, tokens / "tokenizer.json"]))


def score_pretrained(args: argparse.Namespace) -> None:
    """Score a LLaMA from elsewhere on held-out splits, and draw text from it."""
    from lmstages.config.sections import Pretrained, from_section
    from lmstages.corpora.splits import text_path
    from lmstages.evaluation.pretrained import score_pretrained as run

    chosen = from_section(Pretrained, args.section["pretrained"])
    made = _made(args, args.section, [text_path(args.text, split) for split in args.section["splits"]])
    run(args.section, chosen, args.text, args.out, args.threads, args.mirror, made)


def oracle(args: argparse.Namespace) -> None:
    """Score the splits of an embedded corpus by the grammar that wrote them."""
    from lmstages.corpora.splits import text_path
    from lmstages.evaluation.oracle import score_by_source

    inputs = [text_path(args.text, split) for split in args.section["splits"]]
    score_by_source(
        args.section["source"], args.text, args.out, args.section["splits"], _made(args, args.section, inputs)
    )


def compress(args: argparse.Namespace) -> None:
    """Measure how many bytes compressors need for held-out text, alone and after train."""
    from lmstages.corpora.splits import text_path
    from lmstages.evaluation.compressors import code_lengths

    splits = args.section["splits"]
    made = _made(args, args.section, [text_path(args.text, split) for split in ("train", *splits)])
    code_lengths(args.text, args.section["compressors"], splits, args.out, made)


def mix(args: argparse.Namespace) -> None:
    """Mix the scores of several cells into those of one, its weights fitted on valid or equal."""
    from lmstages.evaluation.mixtures import inputs_of
    from lmstages.evaluation.mixtures import mix as run

    made = _made(args, args.section, []) | {"inputs": inputs_of(args.components, args.section)}
    run(args.components, args.text, args.out, args.section, made)


def overlap(args: argparse.Namespace) -> None:
    """Measure how much of held-out text stands in train already."""
    from lmstages.corpora.overlap import audit
    from lmstages.corpora.splits import text_path

    splits = args.section["splits"]
    audit(args.text, splits, args.out, _made(args, args.section, [text_path(args.text, each) for each in splits]))


def contrast(args: argparse.Namespace) -> None:
    """Find in an embedded corpus the combinations that train lacks, and make pairs of texts, one of them wrong."""
    from lmstages.config.sections import Corpus, from_section
    from lmstages.corpora.contrasts import write
    from lmstages.corpora.splits import text_path

    splits = args.section["splits"]
    made = _made(args, args.section, [text_path(args.text, split) for split in splits])
    write(from_section(Corpus, args.section["corpus"]), args.text, splits, args.out, made)


def probe(args: argparse.Namespace) -> None:
    """Draw many samples of a fitted model to be measured, and ask it about minimal pairs and its embedding."""
    from lmstages.analyses.probing import probe as run

    made = _made(args, args.section, [args.model, *args.contrasts])
    run(args.model, args.tokens, next(iter(args.contrasts), None), args.out, args.section, made)


def analyse(args: argparse.Namespace) -> None:
    """Analyse the scores and samples of all cells of a corpus beyond their average."""
    from lmstages.analyses.scores import analyse as run

    made = _made(args, args.section, [args.corpus / name for name in ("overlap.json", "overlap.safetensors")])
    run(args.corpus, args.section, args.out, made)


def inspect(args: argparse.Namespace) -> None:
    """Lay open what the models of a corpus hold: embeddings before and after training, counts, attention."""
    from lmstages.analyses.inspection import inspect as run
    from lmstages.core import artifacts

    made = _made(args, args.section, [args.tokens / "train.npy", args.tokens / f"{args.section['split']}.npy"])
    for cell in (f"{name}/seed{seed}" for name, seed in args.section["cells"]):
        made["inputs"][cell] = artifacts.made_of(args.tokens.parent / cell / "model.safetensors")["sha256"]
    run(args.tokens, args.out, args.section, made)


def summarize(args: argparse.Namespace) -> None:
    """Turn the score files of a run into its table of results."""
    from lmstages.results.summary import summarize as run

    run(args.out, args.section, _made(args, args.section, []))


def report(args: argparse.Namespace) -> None:
    """Write a run's results as report.html, table.md, table.tex and samples.md."""
    from lmstages.core import artifacts
    from lmstages.report.files import files
    from lmstages.results.frame import Results

    results = Results.open(args.results)
    made = _made(args, {}, [args.results / name for name in ("results.parquet", "run.json", "figures/index.json")])
    for name, content in files(results).items():
        artifacts.save_bytes(args.out / name, content.encode(), made)


def figures(args: argparse.Namespace) -> None:
    """Draw every figure of the report as SVG, PNG and PDF, each kind of figure in a folder of its own."""
    from lmstages.core import artifacts
    from lmstages.figures.catalogue import files
    from lmstages.report.shown import to_be_shown

    made = _made(args, {}, [args.comparison])
    args.out.mkdir(parents=True, exist_ok=True)
    for name, content in files(to_be_shown(artifacts.load_json(args.comparison))):
        artifacts.save_bytes(args.out / name, content, made)


def verdict(args: argparse.Namespace) -> None:
    """Fail, after the report is written, where a model failed; log where the report is."""
    from lmstages.core import artifacts
    from lmstages.results.frame import Results
    from lmstages.results.summary import verdict as run

    results = Results.open(args.results)
    sentence = run(results.facts["run"], results.rows)
    made = _made(args, {}, [args.results / "results.parquet"])
    artifacts.save_bytes(args.out, f"{sentence}\n".encode(), made)
    logging.getLogger("lmstages").info("%s; the report is %s", sentence, args.out.with_name("report.html"))


def table(args: argparse.Namespace) -> None:
    """Print a finished run's results and where its report is."""
    from lmstages.report.tables import table_terminal
    from lmstages.results.frame import Results

    print(table_terminal(Results.open(args.results)))
    print(f"report: {args.results / 'report.html'}")


def diff(args: argparse.Namespace) -> None:
    """Print and write what changed from one finished run to others, row by row."""
    from lmstages.core import artifacts
    from lmstages.results import diff as differences
    from lmstages.results import frame

    before, *others = args.runs
    changes = differences.between(args.runs)
    folder = args.out or others[-1] / "diff" / before.absolute().name
    made = _made(args, {}, [run / "results.parquet" for run in args.runs])
    artifacts.save_bytes(folder / "changes.csv", frame.csv_text(frame.frame("changes", changes)).encode(), made)
    artifacts.save_bytes(folder / "changes.md", differences.markdown(before, changes).encode(), made)
    print(differences.terminal(before, changes))
    print(f"written: {folder / 'changes.md'}, {folder / 'changes.csv'}")


def play(args: argparse.Namespace) -> None:
    """Open a page of this machine alone where the models of a finished run read what you type."""
    from lmstages.core.errors import UserError

    try:
        from lmstages.playground.server import play as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        remedy = "pip install 'lmstages[play]', or what requirements.lock has of it"
        raise UserError("play", f"needs {error.name}, which is not installed", "", remedy) from error
    run(args.results, args.port)


def explain(args: argparse.Namespace) -> None:
    """Print where a cell of a run comes from, and the commands that make it again."""
    from lmstages.results.explaining import explained

    print(explained(args.cell))


def _made(args: argparse.Namespace, section: Any, inputs: list[Path]) -> dict[str, Any]:
    """What every artifact of a verb says of its making."""
    from lmstages.core.artifacts import made_of
    from lmstages.core.provenance import versions

    hashes = {path.name: made_of(path)["sha256"] for path in inputs}
    code = {"code": args.code, "lmstages": __version__, **versions("numpy")}
    return {"verb": args.verb.__name__, "section": section, "inputs": hashes, **code}
