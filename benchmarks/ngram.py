"""Kneser-Ney: lmstages, KenLM's ``lmplz`` and nltk's ``lm`` on the same characters, alternated in one run.

    python benchmarks/ngram.py TEXT [--lmplz FILE] [--orders 5 8 10] [--rounds 3]

``lmplz`` is KenLM's program, as ``tests/kenlm.sh`` builds it; KenLM's ``query`` is expected in the same folder. Every
line is a document. Whole processes are timed, from a file of tokens to a saved model: ours with its sha256 and flushed
to the disk, lmplz's as ARPA, in a gigabyte of memory and with its own number of threads. nltk and ours are also
compared on a small part of the text. Prints medians, ratios, and perplexities of the last lines of the text. No test
depends on it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lmstages.config.hyperparameters.counts import KneserNey
from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.models.base import build

HELD_OUT = 2000  # lines
FOR_NLTK, SCORED_BY_NLTK, NLTK_ORDER = 6000, 10, 5  # lines
Lines = list[list[int]]


def numbered(text: str) -> tuple[Lines, int]:
    """Each line as tokens without its end, characters numbered from 1 in order of appearance; and V."""
    number = {character: n for n, character in enumerate(dict.fromkeys(text.replace("\n", "")), start=1)}
    return [[number[character] for character in line] for line in text.split("\n") if line], len(number) + 1


def saved_tokens(lines: Lines, path: Path) -> Path:
    """Write the tokens of all lines for ours, each line ended by token 0."""
    np.save(path, np.array([token for line in lines for token in [*line, 0]], dtype=np.uint8))
    return path


def saved_words(lines: Lines, path: Path) -> Path:
    """Write the same for lmplz: every token a word of one character, every line a sentence."""
    path.write_text("".join(" ".join(chr(64 + token) for token in line) + "\n" for line in lines))
    return path


def documents(tokens: np.ndarray) -> Documents:
    """A stream of tokens, cut after every token 0."""
    return Documents(tokens, np.append(0, np.flatnonzero(tokens == 0) + 1))


def fit(tokens: Path, vocab_size: int, order: int, out: Path) -> None:
    """What is timed of lmstages, in a process of its own."""
    model, train = build(KneserNey(order=order), vocab_size), documents(np.load(tokens))
    model.fit(train, train, 0)
    artifacts.save_arrays(out, model.arrays(), {}, {})


def perplexity(order: int, vocab_size: int, saved: Path, held_out: Documents) -> tuple[float, float]:
    """The saved model's perplexity on held-out lines, and the tokens per second that it scores."""
    model = build(KneserNey(order=order), vocab_size)
    model.restore(artifacts.load_arrays(saved)[0])
    lengths = held_out.lengths
    rows = np.zeros((len(lengths), lengths.max()), dtype=np.int64)
    real = np.arange(rows.shape[1]) < lengths[:, None]
    rows[real] = held_out.tokens
    quickest = min(seconds(lambda: model.score(rows)) for _ in range(3))
    return float(np.exp(-model.score(rows)[real].mean())), rows.size / quickest


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def against_lmplz(lmplz: Path, lines: Lines, vocab_size: int, orders: Sequence[int], rounds: int, folder: Path) -> None:
    """Time ours and lmplz in turn, ``rounds`` times at each order."""
    train, held_out = lines[:-HELD_OUT], lines[-HELD_OUT:]
    tokens, words = saved_tokens(train, folder / "train.npy"), saved_words(train, folder / "train.txt")
    test, rest = (
        documents(np.load(saved_tokens(held_out, folder / "test.npy"))),
        saved_words(held_out, folder / "t.txt"),
    )
    for order in orders:
        model, arpa = folder / "model.safetensors", folder / "model.arpa"
        ours = [sys.executable, __file__, "--worker", str(tokens), str(vocab_size), str(order), str(model)]
        theirs: list[str | Path] = [lmplz, "-o", str(order), "-S", "1G", "-T", folder, "--discount_fallback"]
        theirs += ["--text", words, "--arpa", arpa]
        taken: list[tuple[float, float]] = []
        for _ in range(rounds):
            taken.append((seconds(lambda: _run(ours)), seconds(lambda: _run(theirs))))  # noqa: B023
        our_seconds, their_seconds = (statistics.median(column) for column in zip(*taken, strict=True))
        our_perplexity, speed = perplexity(order, vocab_size, model, test)
        print(
            f"order {order:2}: lmstages {our_seconds:6.2f} s, lmplz {their_seconds:6.2f} s, "
            f"ratio {our_seconds / their_seconds:.2f}; "
            f"perplexity {our_perplexity:.6f} and {_queried(lmplz.with_name('query'), arpa, rest)}; "
            f"{speed / 1e6:.1f} million tokens/s scored; "
            f"{model.stat().st_size >> 20} and {arpa.stat().st_size >> 20} MiB"
        )


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _queried(query: Path, arpa: Path, words: Path) -> str:
    """The perplexity that KenLM's query prints, or that there is no query."""
    if not query.is_file():
        return "no query beside lmplz"
    with open(words) as text:
        done = subprocess.run([query, "-v", "summary", arpa], stdin=text, capture_output=True, text=True, check=True)
    return f"{float(done.stdout.split()[3]):.6f}"


def against_nltk(lines: Lines, vocab_size: int) -> None:
    """Fit and score a part that is small enough for nltk, within this process and without saving."""
    try:
        from nltk.lm import KneserNeyInterpolated
        from nltk.lm.preprocessing import padded_everygram_pipeline
    except ImportError:
        print("nltk is not installed: pip install nltk")
        return
    few, scored = lines[:FOR_NLTK], lines[-SCORED_BY_NLTK:]
    pieces = [[str(token) for token in line] for line in few]
    theirs = KneserNeyInterpolated(NLTK_ORDER)
    train = Documents.of([[*line, 0] for line in few])
    ours = build(KneserNey(order=NLTK_ORDER), vocab_size)
    fits = (
        min(seconds(lambda: ours.fit(train, train, 0)) for _ in range(5)),
        seconds(lambda: theirs.fit(*padded_everygram_pipeline(NLTK_ORDER, pieces))),
    )
    rows = [["<s>"] * (NLTK_ORDER - 1) + [str(token) for token in line] + ["</s>"] for line in scored]
    predictions = [
        (row[i], tuple(row[i - NLTK_ORDER + 1 : i])) for row in rows for i in range(NLTK_ORDER - 1, len(row))
    ]
    slow = seconds(lambda: [theirs.score(word, context) for word, context in predictions]) / len(predictions)
    stream = np.array([[token for line in lines[: len(lines) // 4] for token in [*line, 0]]])
    quick = min(seconds(lambda: ours.score(stream)) for _ in range(3)) / stream.size
    print(f"nltk, order {NLTK_ORDER}, {len(train):,} tokens: fit {fits[0]:.4f} s against {fits[1]:.1f} s, "
          f"{fits[1] / fits[0]:,.0f} times; a token scored in {quick * 1e6:.2f} us against {slow * 1e6:,.0f} us, "
          f"{slow / quick:,.0f} times")  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Read the text and compare with every peer that is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--lmplz", type=Path)
    parser.add_argument("--orders", type=int, nargs="+", default=[5, 8, 10])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    lines, vocab_size = numbered(options.text.read_text())
    print(f"{sum(map(len, lines)) + len(lines):,} tokens in {len(lines):,} lines, {vocab_size} in the vocabulary")
    with tempfile.TemporaryDirectory() as folder:
        if options.lmplz:
            against_lmplz(options.lmplz, lines, vocab_size, options.orders, options.rounds, Path(folder))
        else:
            print("no --lmplz given; tests/kenlm.sh builds it")
    against_nltk(lines, vocab_size)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        fit(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        main(sys.argv[1:])
