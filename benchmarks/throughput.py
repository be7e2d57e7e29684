"""A large text of lines through tokenizing and counting: time and memory of each stage, beside another checkout.

    python benchmarks/throughput.py [--megabytes 200] [--before CHECKOUT] [--stages char bigram ...] [--rounds 1]

The text is drawn from a seed: words by Zipf's law, some with letters of two and three bytes, about ten in a line. Every
stage is a process of its own; with ``--before``, a folder that holds an older ``lmstages``, both checkouts do it in
turn, and the last column is how many times as quick the stage has become. MB/s and that ratio are of processor time,
which other programs on the machine disturb less than seconds. No test depends on it.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parents[1]
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"
MADE = {"command": "benchmark"}
BPE = 8192  # tokens
VALID = 1 << 20  # bytes of valid and of test


def vocabulary(size: int, draws: np.random.Generator) -> list[str]:
    """Different words, one in 200 of which has an accent or a long dash."""
    words = dict.fromkeys(
        "".join(LETTERS[int(letter)] for letter in draws.triangular(0, 0, len(LETTERS), int(length)))
        for length in 2 + draws.poisson(4, 2 * size)
    )
    marked = {word: f"{word}é" if n % 400 else f"{word}—" for n, word in enumerate(words) if n % 200 == 0}
    return [marked.get(word, word) for word in words][:size]


def lines(size: int, seed: int) -> bytes:
    """So many bytes, or a few more, of lines."""
    draws = np.random.default_rng(seed)
    words = vocabulary(50_000, np.random.default_rng(0))
    ends = [*(f"{word} " for word in words), *(f"{word}\n" for word in words)]
    weights = np.cumsum(1 / np.arange(1, len(words) + 1))
    pieces, length = list[bytes](), 0
    while length < size:
        chosen = np.searchsorted(weights, draws.random(1 << 18) * weights[-1])
        chosen[draws.random(len(chosen)) < 0.1] += len(words)
        pieces.append("".join(map(ends.__getitem__, chosen.tolist())).encode())
        length += len(pieces[-1])
    whole = b"".join(pieces)
    return whole[: whole.index(b"\n", size - 1) + 1] if whole.find(b"\n", size - 1) >= 0 else whole + b"\n"


def write_text(folder: Path, size: int) -> None:
    """The splits of a corpus of lines."""
    from lmstages.corpora import splits

    for seed, (name, length) in enumerate({"train": size, "valid": VALID, "test": VALID}.items()):
        content = lines(length, seed + 1).splitlines(keepends=True)
        splits.write(folder, name, iter(content), np.ones(len(content)), False, MADE)


def tokenize(folder: Path, kind: str) -> None:
    """Learn a vocabulary and write the tokens of all splits."""
    from lmstages.config.sections import Tokenizer
    from lmstages.tokenizers import streams

    section = Tokenizer(kind=kind, vocab_size=BPE if kind == "bpe" else None)
    streams.tokenize(section, folder.parent / "text", folder / kind, "lines", MADE)


def fit(folder: Path, kind: str, name: str, **keys: object) -> None:
    """Read the tokens and fit a model of counts."""
    from lmstages.config.hyperparameters import counts
    from lmstages.models.base import build
    from lmstages.tokenizers import streams

    read = getattr(streams, "read_documents", lambda *names: streams.read_tokens(*names)[0])  # older ones read both
    train = read(folder / kind, "train")
    vocab_size = streams.read_tokenizer(folder / kind).vocab_size
    build(getattr(counts, name)(**keys), vocab_size).fit(train, train, 0)


STAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "byte": ("bytes to tokens", lambda folder: tokenize(folder, "byte")),
    "char": ("characters to tokens", lambda folder: tokenize(folder, "char")),
    "bpe": (f"{BPE:,} BPE tokens, learnt and written", lambda folder: tokenize(folder, "bpe")),
    "unigram": ("char unigram", lambda folder: fit(folder, "char", "Unigram")),
    "bigram": ("char bigram", lambda folder: fit(folder, "char", "Bigram")),
    "kn2": ("char Kneser-Ney of order 2", lambda folder: fit(folder, "char", "KneserNey", order=2)),
    "add5": ("char n-gram of order 5, adding", lambda folder: fit(folder, "char", "Ngram", order=5, add=0.1)),
    "kn5": ("char Kneser-Ney of order 5", lambda folder: fit(folder, "char", "KneserNey", order=5)),
    "bpe_bigram": ("BPE bigram", lambda folder: fit(folder, "bpe", "Bigram")),
    "bpe_kn5": ("BPE Kneser-Ney of order 5", lambda folder: fit(folder, "bpe", "KneserNey", order=5)),
}


class Cost(NamedTuple):
    """Processor time and time of a stage, in seconds, without imports; its peak memory in MB."""

    processor: float
    seconds: float
    peak: float


def measured(stage: str, folder: Path, checkout: Path, threads: int) -> Cost:
    """What a stage takes in a process of its own."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    environment = {**os.environ, **limits, "PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, "--run", stage, "--folder", str(folder)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(*map(float, done.stdout.split()[-3:]))


def run(stage: str, folder: Path) -> None:
    """What a child does: prints its cost."""
    import resource

    import lmstages.models.base
    import lmstages.tokenizers.streams  # noqa: F401 - so that imports are not measured

    folder.mkdir(exist_ok=True)
    started, processor = time.perf_counter(), time.process_time()
    STAGES[stage][1](folder)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    print(processor, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Write the text, then do every stage, in turn by both checkouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--before", type=Path, help="folder of an older checkout")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rounds", type=int, default=1, help="the quickest of so many counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        return run(args.run, args.folder)
    checkouts = {"now": HERE} | ({"before": args.before.resolve()} if args.before else {})
    with tempfile.TemporaryDirectory() as root:
        write_text(Path(root, "text"), args.megabytes * 1_000_000)
        for stage in args.stages:
            best = dict.fromkeys(checkouts, Cost(math.inf, 0, 0))
            for _ in range(args.rounds):
                for name, checkout in checkouts.items():
                    best[name] = min(best[name], measured(stage, Path(root, name), checkout, args.threads))
            show(STAGES[stage][0], args.megabytes, best)


def show(title: str, megabytes: int, best: dict[str, Cost]) -> None:
    """One line of a stage."""
    now = best["now"]
    line = f"{title:40} {now.processor:8.2f} s of a core ({now.seconds:.2f} s), {megabytes / now.processor:7.1f} MB/s,"
    line += f" {now.peak:6,.0f} MB"
    if "before" in best:
        before = best["before"]
        ratio = before.processor / now.processor
        line += (
            f"; before {before.processor:8.2f} s ({before.seconds:.2f} s), {before.peak:6,.0f} MB: {ratio:.1f} times"
        )
    print(line, flush=True)


if __name__ == "__main__":
    main()
