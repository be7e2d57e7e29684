"""A repository of the Hugging Face hub at a commit, as a folder: downloaded, from the hub's cache, or from a mirror.

Each large file must have the sha256 that the hub states. Knows nothing of what the files hold.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from lmstages.core.errors import UserError
from lmstages.core.files import sha256_of


def snapshot(name: str, revision: str, mirror: str | None, patterns: Sequence[str]) -> Path:
    """The folder with the files of a repository that fit ``patterns``.

    ``mirror``: a folder that contains ``{name}/``, or the URL of another hub. With HF_HUB_OFFLINE=1 only the cache is
    used. Raises UserError where it cannot be fetched.
    """
    if mirror and not re.match(r"https?://", mirror):
        return Path(mirror, name)
    from huggingface_hub import snapshot_download

    try:
        chosen = list(patterns)
        folder = Path(snapshot_download(name, revision=revision, endpoint=mirror or None, allow_patterns=chosen))
    except Exception as error:  # the library passes on errors of several others
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "check name, revision and network, or give a folder as path:"
        raise UserError(f"hub {name}", f"revision {revision[:12]} cannot be fetched ({reason})", "", remedy) from error
    for file in sorted(folder.rglob("*")):
        must_be_its_blob(file)
    return folder


def must_be_its_blob(file: Path) -> None:
    """Raises UserError for a corrupted file; the hub's cache names a large file after its sha256."""
    name = file.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name) and sha256_of(file) != name:
        raise UserError(file, f"its sha256 is not {name[:12]}... as the hub says", "", "delete it and fetch it again")
