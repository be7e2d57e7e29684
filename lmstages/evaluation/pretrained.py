"""Scores a pretrained LLaMA on the text of the run, under the run's protocols.

It comes from the hub with a pinned revision, from a folder or from a GGUF file, with its own vocabulary. Its training
text is unknown and may contain the held-out text: its row has the category ``pretrained``. Before anything is scored,
the memory and the approximate time that it needs are logged. No code of a checkpoint is run: weights are safetensors or
GGUF.
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
from lmstages.core.files import sha256_of
from lmstages.core.progress import LOGGER, clock
from lmstages.core.provenance import versions
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import score_files, scoring
from lmstages.evaluation.experiment import evaluate_model
from lmstages.models.external import gguf_file, huggingface
from lmstages.models.external.llama_cpp import Engine
from lmstages.models.external.llama_tensors import shapes
from lmstages.models.external.mapped import FittedElsewhere, PretrainedModel, TheirTokens, mapped, renumbered
from lmstages.tokenizers import streams
from lmstages.tokenizers.base import Encoded
from lmstages.tokenizers.special_tokens import BESIDE
from lmstages.tokenizers.vocabularies import CheckpointTokenizer, from_folder, from_vocabulary

LONGEST_WINDOW = 2048  # tokens; the default where the checkpoint has a longer context
PATTERNS = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer.json", "tokenizer.model", *BESIDE)
COPIES = 6  # activations of one width that a layer holds at once; of logits, in the log-softmax


@dataclass(frozen=True)
class Loaded:
    """A checkpoint ready to be scored, its weights memory-mapped from ``size`` bytes of files."""

    model: FittedElsewhere
    tokenizer: "OurNumbers"
    size: int


class OurNumbers:
    """A checkpoint's own tokenizer under our contract, renumbered so that its end-of-text token is token 0."""

    escape: int | None = None

    def __init__(self, own: CheckpointTokenizer, vocab_size: int) -> None:
        self.own, self.vocab_size = own, vocab_size
        self.theirs = renumbered(vocab_size, own.end).numpy()

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The checkpoint's tokens of each text, renumbered, and the bytes that each token covers."""
        return [(self.theirs[tokens], lengths) for tokens, lengths in map(self.own.encode, texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The inverse of ``encode``; the boundary is empty text, unless the checkpoint spells it as a newline."""
        silent = self.own.spelling[self.own.end] != b"\n"
        return self.own.decode(int(self.theirs[token]) for token in tokens if not (silent and token == BOUNDARY))

    def to_json(self) -> dict[str, Any]:
        """Only the kind: nothing was fitted."""
        return {"kind": "own"}


def score_pretrained(
    section: Mapping[str, Any], chosen: Pretrained, text: Path, out: Path, threads: int, mirror: str | None, made: Any
) -> None:
    """Write the files of an experiment: ``fit.json``, ``scores.safetensors`` and ``evaluation.json``."""
    loaded = load(chosen, mirror)
    config, experiment = loaded.model.config, "/".join(out.parts[-4:])
    stride = chosen.stride or -(-config.window // 2)
    needed = memory_needed(config, loaded.model.vocab_size, loaded.size)
    must_fit(experiment, needed, chosen.memory)
    protocol = {"protocol": "stride", "window": config.window, "stride": stride, "skip": 0}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for split in section["splits"]:
            streams.write_tokens(Path(folder), split, SplitText.open(text, split), loaded.tokenizer, made)
        _log_estimate(loaded.model, Path(folder), section["splits"], protocol, needed)
        settings = {**section, "scoring": protocol, "sampling": _sampling(section["sampling"], chosen)}
        model: Any = loaded.model
        evaluate_model(model, loaded.tokenizer, (Path(folder), text, out), settings, made, experiment)
    artifacts.save_json(out / "fit.json", _facts(loaded, section, threads), made)


def save_failure(section: Mapping[str, Any], out: Path, error: UserError, made: Any) -> None:
    """The files of an experiment that cannot be scored; its row of the report gives the reason."""
    given = {key: value for key, value in section["pretrained"].items() if value is not None}
    status = f"failed: {error}"
    artifacts.save_json(out / "fit.json", {"status": status, "type": "pretrained", "hyperparameters": given}, made)
    score_files.save_scores(out / "scores.safetensors", {}, made)
    artifacts.save_json(out / "evaluation.json", {"status": status}, made)


def _sampling(settings: Mapping[str, Any], chosen: Pretrained) -> dict[str, Any]:
    return {**settings, "count": settings["count"] if chosen.samples else 0}


def _facts(loaded: Loaded, section: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The content of ``fit.json``; training tokens and FLOPs are unknown."""
    shape = loaded.model.config.model_dump(mode="json", include=set(SHAPE))
    given = {key: value for key, value in section["pretrained"].items() if value is not None}
    facts = {"status": "ok", "type": "pretrained", "hyperparameters": {**shape, **given}, "fit_seconds": 0.0}
    facts |= {"parameters": loaded.model.parameters(), "vocab_size": loaded.model.vocab_size, "tokens_seen": None}
    facts |= {"flops": None, "curve": [], "device": "cpu", "threads": threads}
    return {**facts, "environment": {"python": sys.version.split()[0], **versions("numpy", "torch", "gguf")}}


SHAPE = ("layers", "heads", "key_value_heads", "width", "hidden", "window", "rope_base", "norm_epsilon", "tied_output")


# ---------------------------------------------------------------- loading


def load(chosen: Pretrained, mirror: str | None = None) -> Loaded:
    """The checkpoint that a config names; its header is read and checked, its weights are memory-mapped."""
    if chosen.gguf is not None:
        path = Path(chosen.gguf)
        _must_have_sha256(path, chosen.sha256)
        return _load_gguf(path, chosen)
    folder = Path(chosen.path) if chosen.path is not None else fetched(str(chosen.hub), str(chosen.revision), mirror)
    checkpoint = huggingface.read(folder)
    config = _with_window(folder, checkpoint.config, chosen.window)
    own = from_folder(folder, checkpoint.begin, checkpoint.ends)
    network = mapped(config, checkpoint.vocab_size, checkpoint.tensors)
    return _loaded(folder, config, checkpoint.vocab_size, network, own, checkpoint.size)


def _load_gguf(path: Path, chosen: Pretrained) -> Loaded:
    file = gguf_file.opened(path)
    own = from_vocabulary(path, gguf_file.vocabulary_of(file))
    size, tensors = path.stat().st_size, file.tensors.values()
    if chosen.engine == "llama.cpp":
        config = _with_window(path, _shape_elsewhere(file), chosen.window)
        network: nn.Module = Engine(path, file.vocab_size, config.window)
        count = sum(int(np.prod(tensor.shape)) for tensor in tensors)
        return _loaded(path, config, file.vocab_size, network, own, size, count)
    record, matrices = gguf_file.llama_of(file)
    config = _with_window(path, record, chosen.window)
    return _loaded(path, config, file.vocab_size, mapped(config, file.vocab_size, matrices), own, size)


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
        problem = f"its vocabulary has {own.vocab_size:,} pieces, its embedding {rows:,} rows"
        raise UserError(path, problem, "a piece needs a row")
    parameters = count if count is not None else parameters_of(config, rows)
    model_class = FittedElsewhere if isinstance(network, Engine) else PretrainedModel
    model = model_class(config, rows, TheirTokens(network, rows, own.begin, own.end), parameters)
    return Loaded(model, OurNumbers(own, rows), size)


def unusable(pretrained: Mapping[str, Pretrained]) -> list[str]:
    """A sentence for every checkpoint on this machine whose row will fail, from the headers of its files alone.

    Before the first job; its sha256 and the engine llama.cpp are left to the job.
    """
    sentences = []
    for name, chosen in pretrained.items():
        try:
            if chosen.hub is None:
                _must_be_scorable(chosen)
        except UserError as error:
            sentences.append(f"pretrained.{name} will fail: {error}")
    return sentences


def _must_be_scorable(chosen: Pretrained) -> None:
    if chosen.engine == "llama.cpp":
        file = gguf_file.opened(Path(str(chosen.gguf)))
        from_vocabulary(file.path, gguf_file.vocabulary_of(file))
        _with_window(file.path, _shape_elsewhere(file), chosen.window)
        return
    loaded = load(chosen.model_copy(update={"sha256": None}))
    must_fit(
        str(chosen.gguf or chosen.path),
        memory_needed(loaded.model.config, loaded.model.vocab_size, loaded.size),
        chosen.memory,
    )


def _shape_elsewhere(file: gguf_file.OpenFile) -> Llama:
    """What our protocols need to know of a model of any architecture, which another engine computes."""
    return Llama(window=file.count("context_length"), row_length=1, layers=file.count("block_count"))


def parameters_of(config: Llama, vocab_size: int) -> int:
    """The number of weights of a LLaMA, norms included."""
    return sum(int(np.prod(shape)) for shape in shapes(config, vocab_size).values())


def _with_window(path: Path, config: Llama, window: int | None) -> Llama:
    """The record with the window that it is scored with; UserError where the checkpoint's context is shorter."""
    if window is not None and window > config.window:
        raise UserError(path, f"window {window:,} found", f"allowed: up to {config.window:,}, which it was trained on")
    return config.model_copy(update={"window": window or min(config.window, LONGEST_WINDOW)})


def _must_have_sha256(path: Path, expected: str | None) -> None:
    if expected is not None and path.is_file() and (digest := sha256_of(path)) != expected:
        raise UserError(path, f"its sha256 is {digest}", f"the config says {expected}", "fetch it again")


def fetched(hub: str, revision: str, mirror: str | None) -> Path:
    """The folder of a revision on the hub, downloaded or from the hub's cache; verifies the sha256 of every large file.

    ``mirror``: a folder that contains ``{hub}/``, or the URL of another hub. With HF_HUB_OFFLINE=1 only the cache is
    used.
    """
    if mirror and not re.match(r"https?://", mirror):
        return Path(mirror, hub)
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(hub, revision=revision, endpoint=mirror or None, allow_patterns=list(PATTERNS)))
    except Exception as error:  # the library passes on errors of several others
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "check name, revision and network, or give a folder as path:"
        raise UserError(f"hub {hub}", f"revision {revision[:12]} cannot be fetched ({reason})", "", remedy) from error
    for file in sorted(folder.rglob("*")):
        _must_be_its_blob(file)
    return folder


def _must_be_its_blob(file: Path) -> None:
    """Raises UserError for a corrupted file; the hub's cache names a large file after its sha256."""
    name = file.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name) and sha256_of(file) != name:
        raise UserError(file, f"its sha256 is not {name[:12]}... as the hub says", "", "delete it and fetch it again")


# ---------------------------------------------------------------- memory and time


def memory_needed(config: Llama, vocab_size: int, size: int) -> int:
    """Bytes: the file, its largest matrix in 32 bits, and the activations of one row in a layer."""
    matrix = 4 * max(vocab_size, config.hidden) * config.width
    row = 4 * COPIES * config.window * max(vocab_size, config.hidden + config.width)
    return size + matrix + row


def must_fit(experiment: str, needed: int, gigabytes: float | None) -> None:
    """Raises UserError where ``needed`` bytes exceed ``gigabytes`` or, without that limit, the available memory."""
    free = int(gigabytes * 1e9) if gigabytes is not None else available_memory()
    if needed > free:
        problem = f"needs {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free"
        raise UserError(experiment, problem, "", "take a smaller file or window, or another machine")


def available_memory() -> int:
    """Bytes available without swapping: the machine's, or those that its control group allows, if that is less."""
    meminfo = Path("/proc/meminfo")
    available = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.is_file() else None
    free = int(available[1]) * 1024 if available else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.is_file() and limit.read_text().strip().isdecimal():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def _log_estimate(
    model: FittedElsewhere, tokens: Path, splits: Sequence[str], protocol: Mapping[str, Any], needed: int
) -> None:
    """Log the memory needed and the approximate time, which is the number of rows times the time of one."""
    rows = 0
    for split in splits:
        starts = streams.read_tokens(tokens, split)[0].starts
        settings = (protocol["protocol"], protocol["window"], protocol["stride"], protocol["skip"])
        rows += len(scoring.windows_of(starts, *settings).begin)
    seconds = rows * seconds_a_row(model)
    rows_of = f"{rows:,} rows of {model.config.window:,} tokens"
    LOGGER.info("pretrained: %.3g GB of memory, about %s for %s at most", needed / 1e9, clock(seconds), rows_of)


def seconds_a_row(model: FittedElsewhere) -> float:
    """Measured: one layer on one row, times the number of layers; in another engine the whole row."""
    network: Any = model.network.network  # type: ignore[union-attr]
    started = time.perf_counter()
    with torch.inference_mode():
        if isinstance(network, Engine):
            network(torch.zeros(1, model.config.window, dtype=torch.int64))
            return time.perf_counter() - started
        x = torch.zeros(1, model.config.window, model.config.width)
        network.blocks[0](x, network.cos_sin[:, : model.config.window])
    return (time.perf_counter() - started) * model.config.layers
