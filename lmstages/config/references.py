"""Records of a config that need other records, or files: models derived from models, checkpoints from elsewhere.

A derived model's record is completed with that of the model it is made from, so that its job's section holds everything
that its fit depends on. Knows records, no arrays, and of a library only whether it is installed.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lmstages.config.checkpoint_parts import missing_part
from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.base import Derived, ModelConfig
from lmstages.config.hyperparameters.diffusion import BlockDiffusion, Bound, MaskedDiffusion
from lmstages.config.hyperparameters.orders import AnyOrder
from lmstages.config.hyperparameters.quantized import LlamaCpp, LlamaQ4, LlamaQ8, QuantizedLlama
from lmstages.config.hyperparameters.retrieval import WITH_STATES, NearestNeighbours
from lmstages.config.sections import OWN, Model, chosen
from lmstages.core.errors import did_you_mean
from lmstages.core.system_errors import reason

BLOCK = 32  # numbers that share a scale; rows must be whole blocks
# Derived models in the order in which they are completed: an engine may run a quantized one.
MADE_OF: dict[type[ModelConfig], tuple[type[ModelConfig], ...]] = {
    LlamaQ8: (Llama,),
    LlamaQ4: (Llama,),
    LlamaCpp: (Llama, LlamaQ8, LlamaQ4),
    Bound: (BlockDiffusion, MaskedDiffusion, AnyOrder),
    NearestNeighbours: WITH_STATES,
}
LACKS: dict[type[ModelConfig], str] = {  # what a model of another type lacks
    Bound: ", which has no bound",
    NearestNeighbours: ", which has no states to compare",
}
TRANSFORMERS = "the package transformers is not installed; pip install 'lmstages[transformers]'"
ENGINE = "llama.cpp needs llama-cpp-python, which is not installed; pip install 'lmstages[llama-cpp]'"

TENSORBOARD = "needs tensorboard, which is not installed; pip install 'lmstages[tensorboard]', or leave it out"


def missing_tensorboard(wanted: object) -> list[str]:
    """What is wrong with ``tensorboard: true`` here."""
    return [f"tensorboard: {TENSORBOARD}"] if wanted is True and find_spec("tensorboard") is None else []


def with_bases(models: Mapping[str, Model | None], problems: list[str]) -> dict[str, Model | None]:
    """The models, derived ones completed; their mistakes are appended to ``problems``."""
    completed = dict(models)
    for derived_type in MADE_OF:
        for name, model in models.items():
            if model is not None and type(model.config) is derived_type:
                mistakes = list(_mistakes(name, model, completed))
                problems.extend(mistakes)
                completed[name] = None if mistakes else _completed(model, completed)
    return completed


def _mistakes(name: str, model: Model, models: Mapping[str, Model | None]) -> Iterator[str]:
    config = model.config
    assert isinstance(config, Derived), "only derived models are completed"
    for key in ("base", "weights"):
        if getattr(config, key, None) is not None:
            yield f"models.{name}.{key}: is the record of the model under of; leave it out"
    if model.seeds is not None:
        yield f"models.{name}.seeds: are those of {config.of}; leave them out"
    if isinstance(config, LlamaCpp) and find_spec("llama_cpp") is None:
        yield f"models.{name}: {ENGINE}"
    below = models.get(config.of)
    allowed = MADE_OF[type(config)]
    if config.of not in models:
        yield f"models.{name}.of: {config.of!r} is not defined under models{did_you_mean(config.of, models)}"
    elif below is not None and type(below.config) not in allowed:
        types, lacks = ", ".join(record.name for record in allowed), LACKS.get(type(config), "")
        lacks = ", whose own row is a bound" if below.config.category == "bound" else lacks
        yield f"models.{name}.of: {config.of!r} is of type {below.config.name}{lacks}; allowed: {types}"
    elif below is not None and isinstance(config, QuantizedLlama):
        yield from _uneven_rows(name, config.of, below.config)


def _uneven_rows(name: str, of: str, config: Any) -> Iterator[str]:
    for key in ("width", "hidden"):
        if getattr(config, key) % BLOCK:
            problem = f"rows of {getattr(config, key)} numbers (models.{of}.{key}) are no whole blocks of {BLOCK}"
            yield f"models.{name}: {problem}; allowed: multiples of {BLOCK}"


def _completed(model: Model, models: Mapping[str, Model | None]) -> Model | None:
    config = model.config
    assert isinstance(config, Derived), "only derived models are completed"
    below = models[config.of]
    if below is None:
        return None
    if isinstance(below.config, QuantizedLlama):
        update: dict[str, Any] = {"base": below.config.base, "weights": below.config}
    else:
        update = {"base": below.config}
    return model.model_copy(update={"config": config.model_copy(update=update)})


def own_seeds(name: str, models: Mapping[str, Model | None]) -> list[int] | None:
    """The seeds that a model's entry gives, those of its base for a derived one; None where they are the run's."""
    model = models.get(name)
    if model is not None and isinstance(model.config, Derived):
        return own_seeds(model.config.of, models)
    return model.seeds if model else None


def missing_bases(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Corpora that run a derived model without the model it is made from."""
    for name, corpus in sections["corpora"].items():
        run = chosen(corpus.models, sections["models"]) if corpus else []
        for model in run:
            config = getattr(sections["models"].get(model), "config", None)
            if isinstance(config, Derived) and config.of not in run:
                yield f"corpora.{name}.models: {model} is made from {config.of}, which is not listed; list both"


def wrong_checkpoints(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Pretrained models without files, without their engine, or with the name of something else."""
    if sections["pretrained"] and OWN in sections["tokenizers"]:
        yield f"tokenizers: {OWN!r} stands for the vocabulary of a pretrained model; allowed: another name"
    for name, record in sections["pretrained"].items():
        where = f"pretrained.{name}"
        if name in sections["models"] or name in sections["mixtures"]:
            yield f"{where}: a model or mixture is called {name!r} too; allowed: another name"
        if record is None:
            continue
        for corpus in record.corpora or []:
            if corpus not in sections["corpora"]:
                yield f"{where}.corpora: {corpus!r} is not defined{did_you_mean(corpus, sections['corpora'])}"
        if record.engine == "transformers" and find_spec("transformers") is None:
            yield f"{where}.engine: {TRANSFORMERS}"
        if record.engine == "llama.cpp" and find_spec("llama_cpp") is None:
            yield f"{where}.engine: {ENGINE}"
        if record.path is not None and (problem := not_a(stat.S_ISDIR, "folder", record.path)):
            yield f"{where}.path: {record.path!r} {problem}"
        if record.gguf is not None and (problem := not_a_file(record.gguf) or missing_part(Path(record.gguf))):
            yield f"{where}.gguf: {record.gguf!r} {problem}"
        for key in ("arpa", "tokenizer"):
            if (path := getattr(record, key)) is not None and (problem := not_a_file(path)):
                yield f"{where}.{key}: {path!r} {problem}"


def wrong_tokenizers(tokenizers: Mapping[str, Any]) -> Iterator[str]:
    """Tokenizers made elsewhere without their files, or without the library that reads them."""
    for name, record in tokenizers.items():
        if record is None or record.kind != "pretrained":
            continue
        is_folder = record.path is not None and os.path.isdir(record.path)
        if record.path is not None and not is_folder and (problem := not_a_file(record.path)):
            yield f"tokenizers.{name}.path: {record.path!r} {problem}"
        is_ranks = record.tiktoken is not None or str(record.path).endswith(".tiktoken")
        if is_ranks and find_spec("tiktoken") is None:
            yield f"tokenizers.{name}: needs tiktoken, which is not installed; pip install 'lmstages[tiktoken]'"


def wrong_scores(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Scores made elsewhere without a file, of no text of the run, or with the name of something else."""
    corpora = sections["corpora"]
    for name, record in sections["scores"].items():
        where = f"scores.{name}"
        for key in ("models", "mixtures", "pretrained"):
            if name in sections[key]:
                yield f"{where}: an entry of {key} is called {name!r} too; allowed: another name"
        if record is None:
            continue
        if problem := not_a_file(record.path):
            yield f"{where}.path: {record.path!r} {problem}"
        if record.corpus is None and len(corpora) > 1:
            yield f"{where}.corpus: missing, and the run has {len(corpora)}; allowed: {', '.join(corpora)}"
        elif record.corpus is not None and record.corpus not in corpora:
            yield f"{where}.corpus: {record.corpus!r} is not defined{did_you_mean(record.corpus, corpora)}"
        elif (corpus := corpora.get(record.corpus or next(iter(corpora), ""))) and record.split not in corpus.evaluate:
            yield f"{where}.split: {record.split} is not evaluated on the corpus; add it to its evaluate"


def not_a_file(path: str) -> str:
    """Why a path from outside names no file, in words; empty where it names one."""
    return not_a(stat.S_ISREG, "file", path)


def not_a(is_it: Callable[[int], bool], name: str, path: str) -> str:
    """Why a path names none of what ``is_it`` tells by its mode, in words; empty where it names one."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL byte
        return f"no such {name}{_beside(path)}"
    except OSError as error:
        return f"cannot be read ({reason(error)})"
    present = "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "no ordinary file"
    return "" if is_it(mode) else f"is {present}; allowed: a {name}"


def _beside(path: str) -> str:
    """A hint at a file with a similar name in the same folder, if there is one."""
    folder, siblings = os.path.dirname(path), list[str]()
    with suppress(OSError):
        siblings = [os.path.join(folder, name) for name in os.listdir(folder or ".")]
    return did_you_mean(path, siblings)
