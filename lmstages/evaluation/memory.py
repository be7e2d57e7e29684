"""Memory and time that scoring a checkpoint takes, known before anything is scored."""

import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmstages.config.hyperparameters.attention import Llama
from lmstages.core.errors import UserError
from lmstages.models.external.llama_cpp import Engine
from lmstages.models.external.mapped import FittedElsewhere

COPIES = 6  # activations of one width that a layer holds at once; of logits, in the log-softmax


def memory_needed(config: Llama, vocab_size: int, size: int) -> int:
    """Bytes: the file, its largest matrix in 32 bits, and the activations of one row in a layer."""
    matrix = 4 * max(vocab_size, config.hidden) * config.width
    row = 4 * COPIES * config.window * max(vocab_size, config.hidden + config.width)
    return size + matrix + row


def must_fit(experiment: str, needed: int, gigabytes: float | None, device: str = "cpu") -> None:
    """Raises UserError where ``needed`` bytes exceed ``gigabytes`` or, without that limit, the available memory."""
    available = available_memory if device == "cpu" else available_on_gpu
    free = int(gigabytes * 1e9) if gigabytes is not None else available()
    if needed > free:
        problem = f"needs {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free"
        raise UserError(experiment, problem, "", "take a smaller file or window, or another machine")


def available_on_gpu() -> int:
    """Bytes of the GPU that nothing uses."""
    return int(torch.cuda.mem_get_info()[0])


def available_memory() -> int:
    """Bytes available without swapping: the machine's, or those that its control group allows, if that is less."""
    meminfo = Path("/proc/meminfo")
    available = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.is_file() else None
    free = int(available[1]) * 1024 if available else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.is_file() and limit.read_text().strip().isdecimal():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def seconds_a_row(model: FittedElsewhere) -> float:
    """Measured: one layer on one row, times the number of layers; in another engine the whole row."""
    network: Any = model.network.network  # type: ignore[union-attr]
    config, started = model.config, time.perf_counter()
    with torch.inference_mode():
        if not isinstance(config, Llama) or isinstance(network, Engine):
            model.score(np.zeros((1, config.window), np.int64))
            return time.perf_counter() - started
        x = torch.zeros(1, config.window, config.width)
        network.blocks[0](x, network.cos_sin[:, : config.window])
    return (time.perf_counter() - started) * config.layers
