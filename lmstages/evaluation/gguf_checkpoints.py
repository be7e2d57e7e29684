"""A GGUF file, or several of one model, for scoring: by our own code where it computes the model, else by llama.cpp.

The engine is ours unless the config says llama.cpp, or the file has an architecture, a format of weights or a
vocabulary that our code does not know. Knows no text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.references import ENGINE
from lmstages.config.sections import Pretrained
from lmstages.core.errors import UnsupportedError, UserError
from lmstages.core.progress import LOGGER
from lmstages.models.external import gguf_file
from lmstages.models.external.gguf_file import OpenFile, Packed
from lmstages.models.external.gguf_metadata import must_be_causal
from lmstages.models.external.llama_cpp_client import Client
from lmstages.models.external.llama_cpp_process import SHAPES
from lmstages.models.external.llama_cpp_tokenizer import LlamaCppTokenizer
from lmstages.tokenizers.checkpoint import CheckpointTokenizer
from lmstages.tokenizers.vocabularies import from_vocabulary

LLAMA_CPP = "llama.cpp"


@dataclass(frozen=True)
class GgufModel:
    """What was read of the files; ``record`` is None, and there are no ``matrices``, where llama.cpp computes it."""

    file: OpenFile
    own: CheckpointTokenizer
    record: Llama | None
    matrices: Mapping[str, Packed]


def read_gguf(path: Path, chosen: Pretrained) -> GgufModel:
    """The model of a GGUF file, its weights not yet loaded; UserError where no engine that is installed computes it."""
    file = gguf_file.opened(path)
    if chosen.engine == LLAMA_CPP:
        return _by_llama_cpp(file)
    try:
        own = from_vocabulary(file.path, gguf_file.vocabulary_of(file))
        record, matrices = gguf_file.llama_of(file)
    except UnsupportedError as error:
        if chosen.engine is not None:
            raise
        if find_spec("llama_cpp") is None:
            raise UserError(error.where, error.found, "our own code does not know it", ENGINE) from error
        LOGGER.info("%s: %s; so llama.cpp computes it", error.where, error.found)
        return _by_llama_cpp(file)
    return GgufModel(file, own, record, matrices)


def _by_llama_cpp(file: OpenFile) -> GgufModel:
    must_be_causal(file.path, file.facts, file.architecture)
    client = Client(file.path, SHAPES)
    for fact, problem in (("has_encoder", "reads its text by an encoder"), ("is_diffusion", "is a diffusion model")):
        if client.facts[fact]:
            raise UserError(file.path, problem, "allowed: models that predict the next token")
    return GgufModel(file, LlamaCppTokenizer(file.path, client), None, {})
