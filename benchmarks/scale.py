"""Counting a text that is longer than memory: seconds, peak memory and bytes on disk of modified Kneser-Ney.

    python benchmarks/scale.py TEXT [--tokens 1000000000] [--order 8] [--lmplz FILE]

The long text is drawn from TEXT by a Markov chain: every character is one that follows the same ``MEMORY`` characters
somewhere in TEXT, so that it has at least as many different n-grams as a natural text of its length. With ``--lmplz``
KenLM counts the same text in as much memory as ours took, and the last line has the ratio. No test depends on it.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lmstages.config.hyperparameters.counts import KneserNey
from lmstages.core import artifacts, progress
from lmstages.core.documents import Documents
from lmstages.models.base import build

MEMORY = 4  # characters of context of the Markov chain
CHAINS = 1 << 18  # drawn in parallel


def drawn(text: str, count: int, path: Path) -> int:
    """Write ``count`` tokens drawn from ``text``; returns the vocabulary's size."""
    alphabet, tokens = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_inverse=True)
    contexts = np.zeros(len(tokens) - MEMORY, dtype=np.int64)
    for back in range(MEMORY):
        contexts = contexts * len(alphabet) + tokens[back : len(tokens) - MEMORY + back]
    order = np.argsort(contexts, kind="stable")  # positions in the text, sorted by context
    begins = np.searchsorted(contexts[order], contexts)
    sizes = np.searchsorted(contexts[order], contexts, side="right") - begins
    draws = np.random.default_rng(0)
    positions = draws.integers(0, len(contexts) - 1, CHAINS)
    steps = -(-count // CHAINS)
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (CHAINS, steps))
    for step in range(steps):
        positions = order[begins[positions] + (draws.random(CHAINS) * sizes[positions]).astype(np.int64)]
        out[:, step] = tokens[positions + MEMORY]
        positions = np.where(positions + 1 < len(contexts), positions + 1, 0)
    out.flush()
    return len(alphabet)


def fit(tokens: Path, vocab_size: int, order: int, out: Path) -> None:
    """Count in a process of its own; prints seconds, peak memory in bytes, parameters."""
    progress.log_to(None, "counting")
    train = Documents.single(np.load(tokens, mmap_mode="r").reshape(-1))
    started = time.perf_counter()
    model = build(KneserNey(order=order), vocab_size)
    model.fit(train, train, 0)
    artifacts.save_arrays(out, model.arrays(), {}, {})
    seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{seconds:.1f} {peak} {model.parameters()}")


def lmplz(program: str, tokens: Path, order: int, folder: Path, memory: int) -> float:
    """Seconds that KenLM needs for the same n-grams."""
    words = folder / "words.txt"
    array = np.load(tokens, mmap_mode="r").reshape(-1)
    with words.open("wb") as file:
        for start in range(0, len(array), 1 << 24):
            piece = np.asarray(array[start : start + (1 << 24)]) + np.uint8(64)
            file.write(np.column_stack([piece, np.full_like(piece, 32)]).tobytes())
    started = time.perf_counter()
    command = [program, "-o", str(order), "-S", str(memory), "-T", str(folder), "--text", str(words)]
    subprocess.run([*command, "--arpa", str(folder / "model.arpa")], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Draw a text, count it in a child process, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=1_000_000_000)
    parser.add_argument("--order", type=int, default=8)
    parser.add_argument("--lmplz", help="KenLM's program, as tests/kenlm.sh builds it")
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        return fit(args.text, int(args.fit[0]), args.order, Path(args.fit[2]))
    with tempfile.TemporaryDirectory() as folder:
        tokens, out = Path(folder, "tokens.npy"), Path(folder, "model.safetensors")
        vocab_size = drawn(args.text.read_text("utf-8"), args.tokens, tokens)
        command = [sys.executable, __file__, str(tokens), "--order", str(args.order), "--fit", str(vocab_size), "-"]
        done = subprocess.run([*command, str(out)], check=True, stdout=subprocess.PIPE, text=True)
        seconds, peak, parameters = map(float, done.stdout.split())
        cost = f"{args.tokens:,} characters, order {args.order}: {seconds:.0f} s, {peak / 2**30:.2f} GiB at most"
        print(f"{cost}, {parameters:,.0f} n-grams, {out.stat().st_size / 2**30:.2f} GiB on disk")
        if args.lmplz:
            theirs = lmplz(args.lmplz, tokens, args.order, Path(folder), int(peak))
            print(f"lmplz: {theirs:.0f} s in the same memory; ratio {seconds / theirs:.2f}")


if __name__ == "__main__":
    main()
