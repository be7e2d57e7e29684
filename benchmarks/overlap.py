"""Overlap, probe and analyses of a long text, by turns with another checkout: processor seconds and peak memory.

    python benchmarks/overlap.py [--megabytes 20] [--against CHECKOUT] [--turns 3] [--folder FOLDER]

The text is drawn with a seed: lines of words whose frequencies fall as those of natural text do (Zipf); every hundredth
line repeats an earlier one, the next repeats one with a letter changed. This checkout makes what the measured commands
read: text, tokens, a bigram and its scores. Then each command runs in a process of its own, from either checkout by
turns, each in its own copy of the folder; the least of all turns is printed, and whether the facts are the same. No
test depends on it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmstages.config.jobs import Run
from lmstages.config.reading import read_run

CORPUS, TOKENIZER, MODEL = "long", "char", "bigram"
WORDS, LETTERS = 50_000, "etaoinshrdlucmfwypvbgk"
LINE_WORDS = (4, 24)
COPIED = 100  # every so manieth line
HERE = Path(__file__).resolve().parents[1]
FACTS = ("overlap.json", "analyses.json")


class Cost(NamedTuple):
    """Seconds of the processor, and MB of peak memory."""

    processor: float
    memory: float


def drawn_lines(size: int, draws: np.random.Generator) -> list[bytes]:
    """About ``size`` bytes of lines."""
    lengths = draws.integers(2, 10, WORDS)
    words = np.array(["".join(draws.choice(list(LETTERS), length)) for length in lengths])
    weights = 1 / np.arange(10, WORDS + 10)
    lines: list[bytes] = []
    written = 0
    while written < size:
        counts = draws.integers(*LINE_WORDS, 20_000)
        drawn = words[draws.choice(WORDS, int(counts.sum()), p=weights / weights.sum())]
        ends = np.cumsum(counts).tolist()
        new = [" ".join(drawn[end - count : end]).encode() for end, count in zip(ends, counts.tolist(), strict=True)]
        lines, written = lines + new, written + sum(map(len, new)) + len(new)
    return lines


def with_copies(lines: Sequence[bytes]) -> list[bytes]:
    """The lines, some of them replaced by an earlier one, some by one with a letter changed."""
    copied = list(lines)
    for number in range(COPIED, len(lines) - 1, COPIED):
        first, second = lines[number // 2], lines[number // 2 + 1]
        copied[number] = first
        copied[number + 1] = second[: len(second) // 2] + b"#" + second[len(second) // 2 + 1 :]
    return copied


def call(checkout: Path, *arguments: object, section: str) -> Cost:
    """Run a command of a checkout; its section goes through stdin."""
    words = [sys.executable, "-m", "lmstages", *map(str, arguments), "--section", "-"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryFile() as file:
        file.write(section.encode())
        file.seek(0)
        process = subprocess.Popen(words, stdin=file, stdout=subprocess.DEVNULL, cwd=checkout, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)


def prepare(run: Run, text: Path, corpus: Path) -> None:
    """Everything that the measured commands read."""
    experiment, tokens = corpus / TOKENIZER / MODEL / "seed0", corpus / TOKENIZER / "tokens"
    fitted = ["--model", experiment / "model.safetensors", "--tokens", tokens, "--out", experiment]
    call(HERE, "prepare", "--raw", text, "--out", corpus / "text", section=run.prepare_section(CORPUS))
    arguments = ["--text", corpus / "text", "--layout", "lines", "--out", tokens]
    call(HERE, "tokenize", *arguments, section=run.tokenize_section(TOKENIZER))
    call(HERE, "fit", "--tokens", tokens, "--out", experiment, section=run.fit_section(MODEL))
    call(HERE, "evaluate", *fitted, "--text", corpus / "text", section=run.evaluate_section(CORPUS, MODEL))


def measure(checkout: Path, run: Run, corpus: Path) -> dict[str, Cost]:
    """The measured commands, one after another: each reads what the one before it wrote."""
    experiment, tokens = corpus / TOKENIZER / MODEL / "seed0", corpus / TOKENIZER / "tokens"
    probed = ["--model", experiment / "model.safetensors", "--tokens", tokens, "--out", experiment]
    calls = {
        "overlap": (["--text", corpus / "text", "--out", corpus], run.overlap_section(CORPUS)),
        "probe": (probed, run.probe_section(CORPUS, MODEL)),
        "analyse": (["--corpus", corpus, "--out", corpus / "analyses.json"], run.analyse_section(CORPUS)),
    }
    return {name: call(checkout, name, *words, section=section) for name, (words, section) in calls.items()}


def by_turns(checkouts: Sequence[Path], turns: int, run: Run, corpora: Sequence[Path]) -> None:
    """Measure, and print the least of all turns."""
    costs: dict[Path, list[dict[str, Cost]]] = {checkout: [] for checkout in checkouts}
    for _ in range(turns):
        for checkout, corpus in zip(checkouts, corpora, strict=True):
            costs[checkout].append(measure(checkout, run, corpus))
    for checkout, measured in costs.items():
        for name in measured[0]:
            seconds, memory = (min(values) for values in zip(*(turn[name] for turn in measured), strict=True))
            print(f"{checkout}: {name} {seconds:.1f} s of the processor, {memory:,.0f} MB")
    for name in FACTS:
        facts = [json.loads((corpus / name).read_bytes()) for corpus in corpora]
        print(f"{name}: {'the same' if all(is_same(fact, facts[0]) for fact in facts) else 'not the same'}")


def is_same(one: Any, other: Any) -> bool:
    """Whether two facts are equal in all that both of them have."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(is_same(one[key], other[key]) for key in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def main() -> None:
    """Draw a text, make what the commands read, and measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="an empty one that is kept; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        text, config = folder / "long.txt", folder / "long.yaml"
        lines = with_copies(drawn_lines(int(args.megabytes * 1e6), np.random.default_rng(0)))
        text.write_bytes(b"\n".join([*lines, b""]))
        corpus = {"path": str(text), "documents": "lines", "tokenizers": [TOKENIZER]}
        content = {"corpora": {CORPUS: corpus}, "tokenizers": {TOKENIZER: {"kind": "char"}}, "models": {MODEL: {}}}
        config.write_text(json.dumps(content))
        run, checkouts = read_run(config), [HERE, *([args.against.resolve()] if args.against else [])]
        corpora = [folder / f"run{number}" / CORPUS for number in range(len(checkouts))]
        prepare(run, text, corpora[0])
        for other in corpora[1:]:
            shutil.copytree(corpora[0], other)
        by_turns(checkouts, args.turns, run, corpora)


if __name__ == "__main__":
    main()
