"""The tokenizer of a Hugging Face folder of any kind: as its own files describe it, or as transformers converts it.

Older checkpoints have files of their kind alone, ``vocab.json`` with ``merges.txt`` or a SentencePiece model under
another name, from which transformers makes a definition of the ``tokenizers`` library. No code of a checkpoint is run
and nothing is fetched. Knows no model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmstages.config.sections import VOCABULARIES
from lmstages.core.errors import UserError
from lmstages.tokenizers.checkpoint import CheckpointTokenizer
from lmstages.tokenizers.vocabularies import from_definition, from_folder


def from_any_folder(folder: Path, begin: int | None, ends: Sequence[int]) -> CheckpointTokenizer:
    """The tokenizer of a folder; ``begin``, ``ends``: BOS and the EOS tokens according to config.json."""
    if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return from_folder(folder, begin, ends)
    files = [name for name in VOCABULARIES if (folder / name).is_file()]
    if not files:
        allowed = f"allowed: tokenizer.json, tokenizer.model, or {', '.join(VOCABULARIES)}"
        raise UserError(folder, "has no vocabulary", allowed, "copy its tokenizer's files, too")
    converted = _converted(folder)
    backend = getattr(converted, "backend_tokenizer", None)
    if backend is None:
        problem = f"{type(converted).__name__} cuts words by code of its own, which says of no token where it lies"
        raise UserError(folder / files[0], problem, "allowed: what converts to tokenizer.json")
    return from_definition(folder / files[0], begin, ends, str(backend.to_str()))


def _converted(folder: Path) -> Any:
    """What transformers makes of the files; whatever it raises is a UserError in one line."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of transformers, of its libraries, of Python for files that are no such
        problem = (
            f"transformers cannot read its vocabulary ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        )
        raise UserError(folder, problem, "", "bring its tokenizer.json") from error
