"""``modern_gpt`` and nanoGPT at the same size, on the same text and cores, alternated in one run.

    python benchmarks/gpt.py NANOGPT TEXT [--seeds 3] [--threads 2] [--throughput-steps 400]

NANOGPT is a folder with nanoGPT's train.py, which is copied and not changed; TEXT is tiny Shakespeare. For every seed
nanoGPT runs its own recipe for a CPU (4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps); the whole
process is timed by the clock. Then ours, with 0.80 M parameters as well, runs with as many steps as fit into that time,
which two short runs estimate, and once more with as many as fit into a fifth of it. All three are scored on nanoGPT's
own windows: 64 characters side by side of the last tenth, every character counted.

Last, the tokens per second of two fits side by side, each on one thread, as a rule of the pipeline gives it, and of the
same two with torch's default number of threads. Needs two cores that nothing else uses; about a quarter of an hour for
three seeds, five minutes for one. No test depends on it.
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

PUBLISHED = 1.886  # nats per character, of nanoGPT's recipe elsewhere; its runs here are measured
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
    """Fit and score; returns the seconds, tokens, parameters, loss (nats) and threads of the fit."""
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
    facts = {"seconds": seconds, "tokens": curve[-1]["tokens"], "parameters": model.parameters()}
    return {**facts, "loss": float(-np.nanmean(log_probs)), "threads": torch.get_num_threads()}


def score_nanogpt(checkout: Path, checkpoint: Path, text: Path) -> dict[str, Any]:
    """Mean nats over all windows of the valid part, computed by nanoGPT's own network."""
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


# ---------------------------------------------------------------- the process that compares them


def launched(arguments: list[str], threads: int | None) -> subprocess.Popen[str]:
    """Start this file as another process."""
    environment = dict(os.environ) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a process; its last line of output, which is JSON."""
    out, error = process.communicate()
    assert process.returncode == 0, f"a process of the benchmark failed: {error[-2000:]}"
    facts: dict[str, Any] = json.loads(out.splitlines()[-1])
    return facts


def ours(text: Path, steps: int, seed: int, threads: int | None, keys: dict[str, Any]) -> dict[str, Any]:
    """One fit in a process of its own; ``total_seconds`` are those of the whole process."""
    started = time.perf_counter()
    facts = answer(launched(fit_arguments(text, steps, seed, threads, keys), threads))
    return {**facts, "total_seconds": time.perf_counter() - started, "steps": steps}


def fit_arguments(text: Path, steps: int, seed: int, threads: int | None, keys: dict[str, Any]) -> list[str]:
    """The arguments of the process that fits."""
    return ["fit", json.dumps({"text": str(text), "steps": steps, "seed": seed, "threads": threads, "keys": keys})]


def within(seconds: float, text: Path, seed: int, threads: int, keys: dict[str, Any]) -> dict[str, Any]:
    """A fit of as many steps as fit into ``seconds``, including start and scoring."""
    few, more = (ours(text, steps, seed, threads, keys)["total_seconds"] for steps in CALIBRATION_STEPS)
    per_step = (more - few) / (CALIBRATION_STEPS[1] - CALIBRATION_STEPS[0])
    overhead = few - per_step * CALIBRATION_STEPS[0]
    steps = int((seconds * AIMED_AT - overhead) / per_step)
    assert steps > 0, f"{seconds:.0f} s are too few for a fit: start and scoring alone take {overhead:.0f} s"
    return ours(text, steps, seed, threads, keys)


def nanogpt(checkout: Path, text: Path, seed: int, threads: int) -> dict[str, Any]:
    """nanoGPT's recipe in a process of its own: its seconds, and the loss of its last weights."""
    out = checkout / f"out-{seed}"
    settings = {**RECIPE, "out_dir": str(out)}
    source = (checkout / "train.py").read_text().replace("torch.manual_seed(1337", f"torch.manual_seed({1337 + seed}")
    (checkout / f"train_{seed}.py").write_text(source)
    command = [sys.executable, f"train_{seed}.py", "config/train_shakespeare_char.py"]
    command += [f"--{key}={value}" for key, value in settings.items()]
    started = time.perf_counter()
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    paths = {"checkout": str(checkout), "checkpoint": str(out / "ckpt.pt"), "text": str(text)}
    return {**answer(launched(["score", json.dumps(paths)], threads)), "total_seconds": seconds}


def copied(checkout: Path, text: Path, folder: Path) -> Path:
    """A copy of nanoGPT in ``folder``, with the text prepared by nanoGPT's own script."""
    copy = folder / "nanoGPT"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "out*", "assets"), dirs_exist_ok=True)
    data = copy / "data" / "shakespeare_char"
    shutil.copy(text, data / "input.txt")
    subprocess.run([sys.executable, "prepare.py"], cwd=data, check=True, stdout=subprocess.DEVNULL)
    return copy


def compare(checkout: Path, text: Path, seeds: int, threads: int) -> None:
    """Run all three for every seed, one after the other, and print losses, seconds and means."""
    rows = []
    print(f"{'':8}{'nanoGPT':>22}{'ours, same time':>26}{'ours, a fifth':>26}", flush=True)
    for seed in range(seeds):
        theirs = nanogpt(checkout, text, seed, threads)
        same = within(theirs["total_seconds"], text, seed, threads, LONG)
        fifth = within(theirs["total_seconds"] / 5, text, seed, threads, SHORT)
        rows.append((theirs, same, fifth))
        cells = "".join(f"{run['loss']:>14.4f} in {run['total_seconds']:6.1f} s" for run in rows[-1])
        print(f"seed {seed:<3}{cells}   {same['steps']} and {fifth['steps']} steps", flush=True)
    means = [np.mean([run["loss"] for run in runs]) for runs in zip(*rows, strict=True)]
    print(f"mean valid loss: nanoGPT {means[0]:.4f}, ours {means[1]:.4f}, in a fifth of the time {means[2]:.4f}")
    seconds = [[run["total_seconds"] for run in row] for row in rows]
    within_time = all(same <= theirs and fifth <= theirs / 5 for theirs, same, fifth in seconds)
    better = all(row[2]["loss"] <= min(row[0]["loss"], PUBLISHED) for row in rows)
    print(f"parameters {rows[0][1]['parameters']:,}; all within their time: {within_time}; ", end="")
    print(f"nanoGPT's loss, and {PUBLISHED}, in a fifth of its time: {better}", flush=True)


def throughput(text: Path, steps: int) -> None:
    """Print tokens per second of two fits side by side: on one thread each, then on torch's default number each."""
    speeds = []
    for name, threads, count in (("one thread each", 1, steps), ("torch's default", None, steps // 4)):
        arguments = fit_arguments(text, count, 0, threads, LONG)
        fits = [answer(process) for process in [launched(arguments, threads) for _ in range(2)]]
        speeds.append(sum(fit["tokens"] / fit["seconds"] for fit in fits))
        print(f"two fits, {name} ({fits[0]['threads']}): {speeds[-1]:,.0f} tokens/s", flush=True)
    print(f"ratio {speeds[0] / speeds[1]:.1f}", flush=True)


def main() -> None:
    """With fit or score as first argument one process of the benchmark, else the benchmark."""
    if sys.argv[1:2] in (["fit"], ["score"]):
        settings = json.loads(sys.argv[2])
        paths = {key: Path(value) for key, value in settings.items() if key in ("text", "checkout", "checkpoint")}
        work: Any = fit_ours if sys.argv[1] == "fit" else score_nanogpt
        print(json.dumps(work(**{**settings, **paths})))
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
