"""A LLaMA that somebody else trained, scored on the text of the run under the protocols of the run.

It comes from the hub with a pinned revision, from a folder or from a GGUF file, with its own vocabulary, and has seen
nobody knows which text: its row stands in a class of its own. Before anything is scored it is said how much memory
and about how much time it will take. Nothing of a checkpoint is ever run: weights are safetensors or GGUF.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.sections import Pretrained
from lmstages.core import artifacts
from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.core.progress import LOGGER, clock
from lmstages.core.provenance import versions
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import scoring
from lmstages.evaluation.experiment import evaluate_model
from lmstages.models.external import gguf_file, huggingface
from lmstages.models.external.llama_cpp import Engine
from lmstages.models.external.llama_tensors import shapes
from lmstages.models.external.mapped import FittedElsewhere, PretrainedModel, TheirTokens, mapped, renumbered
from lmstages.tokenizers import streams
from lmstages.tokenizers.base import Encoded
from lmstages.tokenizers.vocabularies import CheckpointTokenizer, from_folder, from_vocabulary

LONGEST_WINDOW = 2048  # where the config names none and the checkpoint can read more
WANTED = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer.json", "tokenizer.model")
COPIES = 6  # activations of one width that a layer holds at once, and of logits when they are made probabilities


@dataclass(frozen=True)
class Loaded:
    """A checkpoint ready to be scored: its weights still in their file, of ``size`` bytes."""

    model: FittedElsewhere
    tokenizer: "OurNumbers"
    size: int


class OurNumbers:
    """A checkpoint's own tokenizer under the contract of ours: its end of text is token 0."""

    escape: int | None = None

    def __init__(self, own: CheckpointTokenizer, vocab_size: int) -> None:
        self.own, self.vocab_size = own, vocab_size
        self.theirs = renumbered(vocab_size, own.end).numpy()

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """What the checkpoint makes of each text, renumbered."""
        return [(self.theirs[tokens], lengths) for tokens, lengths in map(self.own.encode, texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The inverse; the boundary is nothing, unless it is a newline there too."""
        silent = self.own.spelling[self.own.end] != b"\n"
        return self.own.decode(int(self.theirs[token]) for token in tokens if not (silent and token == BOUNDARY))

    def to_json(self) -> dict[str, Any]:
        """Nothing was learnt here."""
        return {"kind": "own"}


def score_pretrained(
    section: Mapping[str, Any], chosen: Pretrained, text: Path, out: Path, threads: int, mirror: str | None, made: Any
) -> None:
    """Write what a cell has: ``fit.json``, ``scores.safetensors`` and ``evaluation.json``."""
    loaded = load(chosen, mirror)
    config, cell = loaded.model.config, "/".join(out.parts[-4:])
    stride = chosen.stride or -(-config.window // 2)
    needed = memory_needed(config, loaded.model.vocab_size, loaded.size)
    must_fit(cell, needed, chosen.memory)
    protocol = {"protocol": "stride", "window": config.window, "stride": stride, "skip": 0}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for split in section["splits"]:
            streams.write_tokens(Path(folder), split, SplitText.open(text, split), loaded.tokenizer, made)
        _tell_time(loaded.model, Path(folder), section["splits"], protocol, needed)
        asked = {**section, "scoring": protocol, "sampling": _samples(section["sampling"], chosen)}
        model: Any = loaded.model
        evaluate_model(model, loaded.tokenizer, (Path(folder), text, out), asked, made, cell)
    artifacts.save_json(out / "fit.json", _facts(loaded, section, threads), made)


def _samples(settings: Mapping[str, Any], chosen: Pretrained) -> dict[str, Any]:
    return {**settings, "count": settings["count"] if chosen.samples else 0}


def _facts(loaded: Loaded, section: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """As of a fit, which somebody else did."""
    shape = loaded.model.config.model_dump(mode="json", include=set(SHAPE))
    asked = {key: value for key, value in section["pretrained"].items() if value is not None}
    facts = {"status": "ok", "type": "pretrained", "hyperparameters": {**shape, **asked}, "fit_seconds": 0.0}
    facts |= {"parameters": loaded.model.parameters(), "vocab_size": loaded.model.vocab_size, "tokens_seen": None}
    facts |= {"flops": None, "curve": [], "device": "cpu", "threads": threads}
    return {**facts, "environment": {"python": sys.version.split()[0], **versions("numpy", "torch", "gguf")}}


SHAPE = ("layers", "heads", "key_value_heads", "width", "hidden", "window", "rope_base", "norm_epsilon", "tied_output")


# ---------------------------------------------------------------- where it comes from


def load(chosen: Pretrained, mirror: str | None = None) -> Loaded:
    """The checkpoint that a config names; its head is read and checked, its weights stay in their file."""
    if chosen.gguf is not None:
        path = Path(chosen.gguf)
        _must_have_sha256(path, chosen.sha256)
        return _load_gguf(path, chosen)
    folder = Path(chosen.path) if chosen.path is not None else fetched(str(chosen.hub), str(chosen.revision), mirror)
    read = huggingface.read(folder)
    config = _windowed(folder, read.config, chosen.window)
    own = from_folder(folder, read.begin, read.end)
    network = mapped(config, read.vocab_size, read.tensors)
    return _loaded(folder, config, read.vocab_size, network, own, read.size)


def _load_gguf(path: Path, chosen: Pretrained) -> Loaded:
    file = gguf_file.opened(path)
    own = from_vocabulary(path, gguf_file.vocabulary_of(file))
    size, tensors = path.stat().st_size, file.tensors.values()
    if chosen.engine == "llama.cpp":
        told = Llama(window=int(file.fact("context_length")), row_length=1, layers=int(file.fact("block_count")))
        config = _windowed(path, told, chosen.window)
        network: nn.Module = Engine(path, file.vocab_size, config.window)
        count = sum(int(np.prod(tensor.shape)) for tensor in tensors)
        return _loaded(path, config, file.vocab_size, network, own, size, count)
    record, found = gguf_file.llama_of(file)
    config = _windowed(path, record, chosen.window)
    return _loaded(path, config, file.vocab_size, mapped(config, file.vocab_size, found), own, size)


def _loaded(
    path: Path,
    config: Llama,
    rows: int,
    network: nn.Module,
    own: CheckpointTokenizer,
    size: int,
    count: int | None = None,
) -> Loaded:
    if own.vocab_size > rows:
        found = f"its vocabulary has {own.vocab_size:,} pieces, its embedding {rows:,} rows"
        raise UserError(path, found, "a piece needs a row")
    parameters = count if count is not None else parameters_of(config, rows)
    kind = FittedElsewhere if isinstance(network, Engine) else PretrainedModel
    model = kind(config, rows, TheirTokens(network, rows, own.begin, own.end), parameters)
    return Loaded(model, OurNumbers(own, rows), size)


def parameters_of(config: Llama, vocab_size: int) -> int:
    """All numbers of a LLaMA."""
    return sum(int(np.prod(shape)) for shape in shapes(config, vocab_size).values())


def _windowed(path: Path, config: Llama, window: int | None) -> Llama:
    """The record with the window it is scored in."""
    if window is not None and window > config.window:
        raise UserError(path, f"window {window:,} found", f"allowed: up to {config.window:,}, which it was trained on")
    return config.model_copy(update={"window": window or min(config.window, LONGEST_WINDOW)})


def _must_have_sha256(path: Path, wanted: str | None) -> None:
    if wanted is not None and path.is_file() and (found := artifacts.sha256_of(path)) != wanted:
        raise UserError(path, f"its sha256 is {found}", f"the config says {wanted}", "fetch it again")


def fetched(hub: str, revision: str, mirror: str | None) -> Path:
    """The folder of a revision of the hub, fetched or found in the hub's cache; every large file's sha256 is compared.

    ``mirror``: a folder that holds ``{hub}/``, or the address of another hub. HF_HUB_OFFLINE=1 asks the cache alone.
    """
    if mirror and not re.match(r"https?://", mirror):
        return Path(mirror, hub)
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(hub, revision=revision, endpoint=mirror or None, allow_patterns=list(WANTED)))
    except Exception as error:  # the library lets errors of several others through
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "check name, revision and network, or give a folder as path:"
        raise UserError(f"hub {hub}", f"revision {revision[:12]} cannot be fetched ({reason})", "", remedy) from error
    for file in sorted(folder.rglob("*")):
        _must_be_its_blob(file)
    return folder


def _must_be_its_blob(file: Path) -> None:
    """The hub's cache names a large file after its sha256."""
    name = file.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name) and artifacts.sha256_of(file) != name:
        raise UserError(file, f"its sha256 is not {name[:12]}... as the hub says", "", "delete it and fetch it again")


# ---------------------------------------------------------------- what it will take


def memory_needed(config: Llama, vocab_size: int, size: int) -> int:
    """Bytes: the file, its largest matrix in 32 bits, and what one row needs on its way through a layer."""
    matrix = 4 * max(vocab_size, config.hidden) * config.width
    row = 4 * COPIES * config.window * max(vocab_size, config.hidden + config.width)
    return size + matrix + row


def must_fit(cell: str, needed: int, gigabytes: float | None) -> None:
    """An error where memory does not suffice; ``gigabytes`` bounds it, else what the machine has to give."""
    free = int(gigabytes * 1e9) if gigabytes is not None else available_memory()
    if needed > free:
        found = f"needs {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free"
        raise UserError(cell, found, "", "take a smaller file or window, or another machine")


def available_memory() -> int:
    """Bytes that can be had without swapping: the machine's, or what its control group allows, if that is less."""
    told = Path("/proc/meminfo")
    known = re.search(r"MemAvailable:\s+(\d+) kB", told.read_text()) if told.is_file() else None
    free = int(known[1]) * 1024 if known else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.is_file() and limit.read_text().strip().isdecimal():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def _tell_time(
    model: FittedElsewhere, tokens: Path, splits: Sequence[str], protocol: Mapping[str, Any], needed: int
) -> None:
    """How many rows there are, and how long one takes by the clock."""
    rows = 0
    for split in splits:
        starts = streams.read_tokens(tokens, split)[0].starts
        settings = (protocol["protocol"], protocol["window"], protocol["stride"], protocol["skip"])
        rows += len(scoring.windows_of(starts, *settings).begin)
    seconds = rows * seconds_a_row(model)
    told = (
        f"{needed / 1e9:.3g} GB of memory, about {clock(seconds)} for {rows:,} rows of {model.config.window:,} tokens"
    )
    LOGGER.info("pretrained: %s at most", told)


def seconds_a_row(model: FittedElsewhere) -> float:
    """By the clock: a layer on one row, times the layers; the whole row where another engine has the layers."""
    network: Any = model.network.network  # type: ignore[union-attr]
    started = time.perf_counter()
    with torch.inference_mode():
        if isinstance(network, Engine):
            network(torch.zeros(1, model.config.window, dtype=torch.int64))
            return time.perf_counter() - started
        x = torch.zeros(1, model.config.window, model.config.width)
        network.blocks[0](x, None, network.turn[:, : model.config.window])
    return (time.perf_counter() - started) * model.config.layers
