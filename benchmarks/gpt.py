"""Modern GPT against a nanoGPT checkout: the same size, text and cores, alternated in one run.

    python benchmarks/gpt.py NANOGPT TEXT [--seeds 3] [--threads 2] [--throughput-steps 400]

NANOGPT is a folder with nanoGPT's train.py, which is copied and not touched; TEXT is tiny Shakespeare. For every
seed nanoGPT runs its own CPU recipe (4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps), as a process
of its own, from start to end by the clock. Then ours, 0.80 M parameters too, runs as a process of its own with as
many steps as fit into that time, found by timing a short one; then with as many as fit into a fifth of it. All
three are scored on nanoGPT's own windows: 64 characters side by side of the last tenth, every one counted.

Last, the throughput of two fits side by side, each on one thread as a rule of the pipeline gives it, against the
same two with torch's own number of threads. Needs two cores and nobody else on them; about a quarter of an hour
for three seeds, five minutes for one. No test depends on it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PUBLISHED = 1.886  # what nanoGPT's recipe reaches; here its own runs say
RECIPE = {
    "device": "cpu",
    "compile": False,
    "eval_iters": 20,
    "eval_interval": 250,
    "log_interval": 100,
    "block_size": 64,
    "batch_size": 12,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "max_iters": 2000,
    "lr_decay_iters": 2000,
    "dropout": 0.0,
    "always_save_checkpoint": True,  # so that its last weights are there to be scored
}
WINDOW, CALIBRATION_STEPS = 64, (30, 130)
SHAPE = {"layers": 2, "ngram_embeddings": [2, 3, 4], "ngram_buckets": 1024}  # tables in place of two layers
LONG = SHAPE | {"batch_size": 32, "learning_rate": 0.015, "matrix_learning_rate": 0.03, "weight_decay": 0.1}
SHORT = SHAPE | {"batch_size": 16, "learning_rate": 0.015, "matrix_learning_rate": 0.03, "warmup_steps": 5}
AIMED_AT = 0.88  # of the time allowed, since no two runs take the same


# ---------------------------------------------------------------- what runs in processes of their own


def read_text(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Characters as tokens, in nanoGPT's order, split 90 to 10 as it splits."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    tokens = np.unique(content, return_inverse=True)[1].astype(np.uint8)
    train = int(len(tokens) * 0.9)
    return tokens[:train], tokens[train:]


def fit_ours(text: Path, steps: int, seed: int, threads: int | None, keys: dict[str, Any]) -> dict[str, Any]:
    """Fit and score; what a parent needs to know of it."""
    import torch

    from lmstages.config.hyperparameters.attention import ModernGPT
    from lmstages.core.documents import Documents
    from lmstages.evaluation.scoring import score, windows_of
    from lmstages.models.base import build

    if threads is not None:
        torch.set_num_threads(threads)
    train, valid = (Documents.single(tokens) for tokens in read_text(text))
    config = ModernGPT(steps=steps, evaluate_every=steps, keep="last", **keys)
    model = build(config, 65)
    started = time.perf_counter()
    curve = model.fit(train, Documents.single(valid.tokens[:WINDOW]), seed)
    seconds = time.perf_counter() - started
    log_probs = score(model, valid, windows_of(valid.starts, "disjoint", WINDOW, WINDOW, 1))
    told = {"seconds": seconds, "tokens": curve[-1]["tokens"], "parameters": model.parameters()}
    return {**told, "loss": float(-np.nanmean(log_probs)), "threads": torch.get_num_threads()}


def score_nanogpt(checkout: Path, checkpoint: Path, text: Path) -> dict[str, Any]:
    """Mean nats over all its windows of the valid part, by its own network."""
    import torch

    sys.path.insert(0, str(checkout))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = GPT(GPTConfig(**saved["model_args"])).eval()
    network.load_state_dict(saved["model"])
    _, valid = read_text(text)
    count = (len(valid) - 1) // WINDOW
    x = torch.from_numpy(valid[: count * WINDOW].astype(np.int64)).view(count, WINDOW)
    y = torch.from_numpy(valid[1 : count * WINDOW + 1].astype(np.int64)).view(count, WINDOW)
    with torch.inference_mode():
        losses = [network(a, b)[1].item() * len(a) for a, b in zip(x.split(256), y.split(256), strict=True)]
    return {"loss": sum(losses) / count, "step": int(saved["iter_num"])}


# ---------------------------------------------------------------- the parent


def launched(arguments: list[str], threads: int | None) -> subprocess.Popen[str]:
    """This file again, as a process of its own."""
    environment = dict(os.environ) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The last line it printed, as JSON."""
    out, error = process.communicate()
    assert process.returncode == 0, f"a process of the benchmark failed: {error[-2000:]}"
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def ours(text: Path, steps: int, seed: int, threads: int | None, keys: dict[str, Any]) -> dict[str, Any]:
    """One fit from start to end by the clock: ``whole`` seconds beside what it told."""
    started = time.perf_counter()
    told = answer(launched(fit_arguments(text, steps, seed, threads, keys), threads))
    return {**told, "whole": time.perf_counter() - started, "steps": steps}


def fit_arguments(text: Path, steps: int, seed: int, threads: int | None, keys: dict[str, Any]) -> list[str]:
    """What a child is told."""
    return ["fit", json.dumps({"text": str(text), "steps": steps, "seed": seed, "threads": threads, "keys": keys})]


def within(seconds: float, text: Path, seed: int, threads: int, keys: dict[str, Any]) -> dict[str, Any]:
    """A run of as many steps as fit into ``seconds``, starting and scoring included."""
    few, more = (ours(text, steps, seed, threads, keys)["whole"] for steps in CALIBRATION_STEPS)
    a_step = (more - few) / (CALIBRATION_STEPS[1] - CALIBRATION_STEPS[0])
    besides = few - a_step * CALIBRATION_STEPS[0]
    steps = int((seconds * AIMED_AT - besides) / a_step)
    assert steps > 0, f"{seconds:.0f} s are too few for a fit: starting and scoring alone take {besides:.0f} s"
    return ours(text, steps, seed, threads, keys)


def nanogpt(checkout: Path, text: Path, seed: int, threads: int) -> dict[str, Any]:
    """Its recipe, from start to end by the clock, and the loss of its last weights."""
    out = checkout / f"out-{seed}"
    given = {**RECIPE, "out_dir": str(out)}
    source = (checkout / "train.py").read_text().replace("torch.manual_seed(1337", f"torch.manual_seed({1337 + seed}")
    (checkout / f"train_{seed}.py").write_text(source)
    command = [sys.executable, f"train_{seed}.py", "config/train_shakespeare_char.py"]
    command += [f"--{key}={value}" for key, value in given.items()]
    started = time.perf_counter()
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole = time.perf_counter() - started
    given = {"checkout": str(checkout), "checkpoint": str(out / "ckpt.pt"), "text": str(text)}
    return {**answer(launched(["score", json.dumps(given)], threads)), "whole": whole}


def copied(checkout: Path, text: Path, folder: Path) -> Path:
    """nanoGPT in a folder of our own, its data made by its own script."""
    copy = folder / "nanoGPT"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "out*", "assets"), dirs_exist_ok=True)
    data = copy / "data" / "shakespeare_char"
    shutil.copy(text, data / "input.txt")
    subprocess.run([sys.executable, "prepare.py"], cwd=data, check=True, stdout=subprocess.DEVNULL)
    return copy


def compare(checkout: Path, text: Path, seeds: int, threads: int) -> None:
    """The three runs of every seed, one after the other, and their means."""
    rows = []
    print(f"{'':8}{'nanoGPT':>22}{'ours, same time':>26}{'ours, a fifth':>26}", flush=True)
    for seed in range(seeds):
        theirs = nanogpt(checkout, text, seed, threads)
        same = within(theirs["whole"], text, seed, threads, LONG)
        fifth = within(theirs["whole"] / 5, text, seed, threads, SHORT)
        rows.append((theirs, same, fifth))
        cells = "".join(f"{run['loss']:>14.4f} in {run['whole']:6.1f} s" for run in rows[-1])
        print(f"seed {seed:<3}{cells}   {same['steps']} and {fifth['steps']} steps", flush=True)
    means = [np.mean([run["loss"] for run in runs]) for runs in zip(*rows, strict=True)]
    print(f"mean valid loss: nanoGPT {means[0]:.4f}, ours {means[1]:.4f}, in a fifth of the time {means[2]:.4f}")
    within_time = all(row[1]["whole"] <= row[0]["whole"] and row[2]["whole"] <= row[0]["whole"] / 5 for row in rows)
    better = all(row[2]["loss"] <= min(row[0]["loss"], PUBLISHED) for row in rows)
    print(f"parameters {rows[0][1]['parameters']:,}; all within their time: {within_time}; ", end="")
    print(f"nanoGPT's loss, and {PUBLISHED}, in a fifth of its time: {better}", flush=True)


def throughput(text: Path, steps: int) -> None:
    """Tokens a second of two fits side by side: one thread each, then torch's own number each."""
    found = []
    for name, threads, count in (("one thread each", 1, steps), ("torch's default", None, steps // 4)):
        arguments = fit_arguments(text, count, 0, threads, LONG)
        told = [answer(process) for process in [launched(arguments, threads) for _ in range(2)]]
        found.append(sum(each["tokens"] / each["seconds"] for each in told))
        print(f"two fits, {name} ({told[0]['threads']}): {found[-1]:,.0f} tokens/s", flush=True)
    print(f"ratio {found[0] / found[1]:.1f}", flush=True)


def main() -> None:
    """A child does one thing; the parent compares."""
    if sys.argv[1:2] in (["fit"], ["score"]):
        given = json.loads(sys.argv[2])
        paths = {key: Path(value) for key, value in given.items() if key in ("text", "checkout", "checkpoint")}
        work: Any = fit_ours if sys.argv[1] == "fit" else score_nanogpt
        print(json.dumps(work(**{**given, **paths})))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nanogpt", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--throughput-steps", type=int, default=400, help="0 leaves the two fits side by side out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.seeds:
            checkout = copied(options.nanogpt, options.text, Path(folder))
            compare(checkout, options.text.resolve(), options.seeds, options.threads)
        if options.throughput_steps:
            throughput(options.text.resolve(), options.throughput_steps)


if __name__ == "__main__":
    main()
