"""Scores a checkpoint on the text of the run, by windows of its own vocabulary.

It comes from the hub with a pinned revision, from a folder or from a GGUF file. Before anything is scored, the memory
and the approximate time that it needs are logged.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstages.config.sections import Pretrained
from lmstages.core import artifacts
from lmstages.core.progress import LOGGER, clock
from lmstages.core.provenance import versions
from lmstages.corpora.splits import SplitText
from lmstages.evaluation import scoring
from lmstages.evaluation.checkpoints import Loaded, load
from lmstages.evaluation.experiment import evaluate_model
from lmstages.evaluation.gguf_checkpoints import LLAMA_CPP
from lmstages.evaluation.memory import must_fit, seconds_a_row
from lmstages.models.external.mapped import FittedElsewhere
from lmstages.tokenizers import streams


def score_checkpoint(
    section: Mapping[str, Any], chosen: Pretrained, text: Path, out: Path, threads: int, mirror: str | None, made: Any
) -> None:
    """Write the files of an experiment: ``fit.json``, ``scores.safetensors`` and ``evaluation.json``."""
    loaded = load(chosen, mirror)
    config, experiment = loaded.model.config, "/".join(out.parts[-4:])
    stride = chosen.stride or -(-config.window // 2)
    if loaded.choices["engine"] == "torch":  # others ask before they read the weights
        must_fit(experiment, loaded.memory, chosen.memory)
    protocol = {"protocol": "stride", "window": config.window, "stride": stride, "skip": 0}
    protocol |= {"bos": BEGINS[loaded.model.bos].format(loaded.model.vocab_size)}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for split in section["splits"]:
            streams.write_tokens(Path(folder), split, SplitText.open(text, split), loaded.tokenizer, made)
        _log_estimate(loaded.model, Path(folder), section["splits"], protocol, loaded.memory)
        settings = {**section, "scoring": protocol}
        model: Any = loaded.model
        evaluate_model(model, loaded.tokenizer, (Path(folder), text, out), settings, made, experiment)
    artifacts.save_json(out / "fit.json", _facts(loaded, section, threads), made)


def _facts(loaded: Loaded, section: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The content of ``fit.json``; training tokens and FLOPs are unknown."""
    shape = loaded.model.config.model_dump(mode="json", include=set(SHAPE))
    given = {key: value for key, value in section["pretrained"].items() if value is not None}
    hyperparameters = {**shape, **given, **loaded.choices}
    facts = {"status": "ok", "type": "pretrained", "hyperparameters": hyperparameters, "fit_seconds": 0.0}
    facts |= {"parameters": loaded.model.parameters(), "vocab_size": loaded.model.vocab_size, "tokens_seen": None}
    facts |= {"flops": None, "curve": [], "device": loaded.device, "threads": threads}
    packages = ("numpy", "torch", *PACKAGES[loaded.choices["engine"]])
    return {**facts, "environment": {"python": sys.version.split()[0], **versions(*packages)}}


PACKAGES = {"torch": ("gguf",), "transformers": ("transformers",), LLAMA_CPP: ("gguf", "llama-cpp-python")}
BEGINS = {  # of the protocol's name in a row
    "each_window": "BOS before each window",
    "document": "BOS before each document",
    "none": "no BOS, a document's first token at 1/{:,}",
}
SHAPE = (
    "architecture",
    "layers",
    "heads",
    "key_value_heads",
    "width",
    "hidden",
    "window",
    "rope_base",
    "norm_epsilon",
    "tied_output",
)


def _log_estimate(
    model: FittedElsewhere, tokens: Path, splits: Sequence[str], protocol: Mapping[str, Any], needed: int
) -> None:
    """Log the memory needed and the approximate time, which is the number of rows times the time of one."""
    rows = 0
    for split in splits:
        starts = streams.read_documents(tokens, split).starts
        settings = (protocol["protocol"], protocol["window"], protocol["stride"], protocol["skip"])
        rows += len(scoring.windows_of(starts, *settings).begin)
    seconds = rows * seconds_a_row(model)
    rows_of = f"{rows:,} rows of {model.config.window:,} tokens"
    LOGGER.info("pretrained: %.3g GB of memory, about %s for %s at most", needed / 1e9, clock(seconds), rows_of)
