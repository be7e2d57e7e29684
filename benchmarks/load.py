"""A run of many models: seconds and peak memory of every command that reads all of them, and sizes of what they write.

    python benchmarks/load.py [ROWS] [--folder FOLDER]

One bigram is fitted on a tiny text by the commands themselves; its files are written again for ROWS models with other
scores, each with its valid record. Then each command runs in a process of its own. With ``--folder`` the run stays
there. No test depends on it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.config.jobs import Run
from lmstages.config.reading import read_run
from lmstages.core import artifacts
from lmstages.evaluation.score_files import load_scores, save_scores

CORPUS, TOKENIZER = "coined", "char"
CONFIG = {
    "corpora": {CORPUS: {"count": 600, "tokenizers": [TOKENIZER]}},
    "tokenizers": {TOKENIZER: {"kind": "char"}},
    "compressors": ["gzip"],
    "sampling": {"count": 2, "length": 40},
}
MB = 1e6


def config_of(rows: int) -> dict[str, Any]:
    """Bigrams that differ in what is added to each count."""
    models = {f"m{number:05}": {"type": "bigram", "add": 0.001 * (number + 1)} for number in range(rows)}
    return {**CONFIG, "models": models}


class Cost(NamedTuple):
    """Seconds by the clock and of the processor, and MB of peak memory."""

    seconds: float
    processor: float
    memory: float


def call(*arguments: object, section: str | None = None) -> Cost:
    """Run a command; its section goes through stdin."""
    words = [sys.executable, "-m", "lmstages", *map(str, arguments), *(["--section", "-"] if section else [])]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as file:
        file.write((section or "").encode())
        file.seek(0)
        process = subprocess.Popen(words, stdin=file, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}")
    return Cost(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / MB)


def fit_one(run: Run, corpus: Path) -> Path:
    """The text, its tokens and analyses, and the first model; returns the folder of its experiment."""
    model, text, tokens = next(iter(run.models)), corpus / "text", corpus / TOKENIZER / "tokens"
    folder = corpus / TOKENIZER / model / "seed0"
    fitted = ["--model", folder / "model.safetensors", "--tokens", tokens, "--out", folder]
    call("prepare", "--out", text, section=run.prepare_section(CORPUS))
    call("tokenize", "--text", text, "--layout", "lines", "--out", tokens, section=run.tokenize_section(TOKENIZER))
    call("oracle", "--text", text, "--out", corpus / "oracle", section=run.oracle_section(CORPUS))
    call("compress", "--text", text, "--out", corpus / "compressors.json", section=run.compress_section(CORPUS))
    call("overlap", "--text", text, "--out", corpus, section=run.overlap_section(CORPUS))
    call("contrast", "--text", text, "--out", corpus / "contrasts.json", section=run.contrast_section(CORPUS))
    call("fit", "--tokens", tokens, "--out", folder, section=run.fit_section(model))
    call("evaluate", *fitted, "--text", text, section=run.evaluate_section(CORPUS, model))
    call("probe", *fitted, "--contrasts", corpus / "contrasts.json", section=run.probe_section(CORPUS, model))
    return folder


def write_again(source: Path, folder: Path, number: int, run: Run) -> None:
    """The files of an experiment as those of another model, a little worse the higher its number."""
    names = ("model.safetensors", "fit.json", "evaluation.json", "samples.json", "probe.json")
    made = {name: _made(source / name, folder.parent.name) for name in (*names, "scores.safetensors")}
    for name in names:
        content = (source / name).read_bytes()
        if name == "fit.json":
            section = json.loads(run.fit_section(folder.parent.name))
            content = artifacts.to_json({**json.loads(content), "hyperparameters": section["hyperparameters"]})
        artifacts.save_bytes(folder / name, content, made[name])
    draws, scores = np.random.default_rng(number), load_scores(source / "scores.safetensors")
    for split, scored in scores.items():
        noise = draws.normal(1 + 2e-4 * number, 0.05, len(scored.log_probs))
        scores[split] = replace(scored, log_probs=scored.log_probs * noise)
    save_scores(folder / "scores.safetensors", scores, made["scores.safetensors"])


def _made(path: Path, model: str) -> dict[str, Any]:
    """What made a file, with another model in the paths of its inputs."""
    made: dict[str, Any] = artifacts.made_of(path)["made"]
    return {**made, "paths": {name: _of_model(place, model) for name, place in made["paths"].items()}}


def _of_model(path: str, model: str) -> str:
    parts = path.split("/")
    return "/".join([*parts[:2], model, *parts[3:]] if len(parts) == 5 else parts)


def sizes(results: Path) -> str:
    """MB of the page and of every table above a tenth of one."""
    files = [results / "results.csv", results / "report.html", results / "table.md", results / "table.tex"]
    files += [results / "samples.md", results / "figures" / "index.json", results / "results.parquet"]
    files += sorted((results / "tables").glob("*.parquet"))
    shown = [(path.name, path.stat().st_size / MB) for path in files]
    return ", ".join(f"{name} {size:.2f}" for name, size in shown if size >= 0.1) + " MB"


def measure(folder: Path, rows: int) -> None:
    """Make the run below ``folder`` and print a line for each command."""
    config, results = folder / "load.yaml", folder / "results" / "load"
    config.write_text(json.dumps(config_of(rows)))
    run, corpus = read_run(config), results / CORPUS
    source = fit_one(run, corpus)
    for number, model in enumerate(run.models):
        if number:
            write_again(source, corpus / TOKENIZER / model / "seed0", number, run)
    print(f"{rows:,} models, {rows * (rows - 1) // 2:,} pairs", flush=True)
    commands: dict[str, tuple[list[object], str | None]] = {
        "check": ([config], None),
        "analyse": (["--corpus", corpus, "--out", corpus / "analyses.json"], run.analyse_section(CORPUS)),
        "summarize": (["--out", results], run.summary_section()),
        "figures": (["--results", results, "--out", results / "figures"], None),
        "report": (["--results", results, "--out", results], None),
        "table": ([results], None),
        "verdict": (["--results", results, "--out", results / "verdict.txt"], None),
        "diff": ([results, results, "--out", folder / "diff"], None),
    }
    for name, (arguments, section) in commands.items():
        cost = call(name, *arguments, section=section)
        seconds = f"{cost.seconds:7.1f} s {cost.processor:7.1f} s of the processor"
        print(f"{name:<10} {seconds} {cost.memory:7.0f} MB of memory", flush=True)
    print(sizes(results))


def main() -> None:
    """Measure in a temporary folder, or in one that stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=1000)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measure(folder, args.rows)


if __name__ == "__main__":
    main()
