"""Checkpoints of the Hugging Face hub: fetched at a commit, or from a folder that stands for the hub.

Only weights in safetensors, configs and vocabularies are fetched; each large file must have the sha256 that the hub
states. Knows no model.
"""

from pathlib import Path

from lmstages.config.sections import VOCABULARIES
from lmstages.core.hub import snapshot
from lmstages.tokenizers.special_tokens import BESIDE

PATTERNS = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer.json", "tokenizer.model"),
    *BESIDE,
    *VOCABULARIES,
    "added_tokens.json",
)


def fetched(hub: str, revision: str, mirror: str | None) -> Path:
    """The folder of a revision on the hub, downloaded or from the hub's cache; verifies the sha256 of every large file.

    ``mirror``: a folder that contains ``{hub}/``, or the URL of another hub. With HF_HUB_OFFLINE=1 only the cache is
    used.
    """
    return snapshot(hub, revision, mirror, PATTERNS)
