"""Checkpoints of the Hugging Face hub: fetched at a commit, or from a folder that stands for the hub.

Only weights in safetensors, configs and vocabularies are fetched; each large file must have the sha256 that the hub
states. Knows no model.
"""

import re
from pathlib import Path

from lmstages.config.sections import VOCABULARIES
from lmstages.core.errors import UserError
from lmstages.core.files import sha256_of
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
