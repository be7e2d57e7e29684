"""Records of a config that need others, or files: models made of models, checkpoints from elsewhere.

A derived model's record is completed with that of the LLaMA below it, so that its job's section says everything its
fit depends on. Knows records; never an array, and of a library only whether it is installed.
"""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.quantized import DerivedLlama, LlamaCpp, LlamaQ4, LlamaQ8, QuantizedLlama
from lmstages.config.sections import OWN, Model, chosen
from lmstages.core.errors import did_you_mean

BLOCK = 32  # numbers that share a scale; a row is a whole number of blocks
MADE_OF: dict[type[ModelConfig], tuple[type[ModelConfig], ...]] = {
    LlamaQ8: (Llama,),
    LlamaQ4: (Llama,),
    LlamaCpp: (Llama, LlamaQ8, LlamaQ4),
}
ENGINE = "llama.cpp needs llama-cpp-python, which is not installed; pip install 'lmstages[llama-cpp]'"


def with_bases(models: Mapping[str, Model | None], problems: list[str]) -> dict[str, Model | None]:
    """The models, derived ones completed; what is wrong with them is appended to ``problems``."""
    found = dict(models)
    for kinds in (QuantizedLlama, LlamaCpp):  # an engine may run what was quantized before
        for name, model in models.items():
            if model is not None and isinstance(model.config, kinds):
                wrong = list(_wrong(name, model, found))
                problems.extend(wrong)
                found[name] = None if wrong else _completed(model, found)
    return found


def _wrong(name: str, model: Model, models: Mapping[str, Model | None]) -> Iterator[str]:
    config = model.config
    assert isinstance(config, DerivedLlama), "asked of these alone"
    for key in ("base", "weights"):
        if getattr(config, key, None) is not None:
            yield f"models.{name}.{key}: is the record of the model that of names; leave it out"
    if model.seeds is not None:
        yield f"models.{name}.seeds: are those of {config.of}; leave them out"
    if isinstance(config, LlamaCpp) and find_spec("llama_cpp") is None:
        yield f"models.{name}: {ENGINE}"
    below = models.get(config.of)
    allowed = MADE_OF[type(config)]
    if config.of not in models:
        yield f"models.{name}.of: {config.of!r} is not defined under models{did_you_mean(config.of, models)}"
    elif below is not None and not isinstance(below.config, allowed):
        known = ", ".join(kind.name for kind in allowed)
        yield f"models.{name}.of: {config.of!r} is of model {below.config.name}; allowed: {known}"
    elif below is not None and isinstance(config, QuantizedLlama):
        yield from _uneven_rows(name, config.of, below.config)


def _uneven_rows(name: str, of: str, config: Any) -> Iterator[str]:
    for key in ("width", "hidden"):
        if getattr(config, key) % BLOCK:
            told = f"rows of {getattr(config, key)} numbers (models.{of}.{key}) are no whole blocks of {BLOCK}"
            yield f"models.{name}: {told}; allowed: multiples of {BLOCK}"


def _completed(model: Model, models: Mapping[str, Model | None]) -> Model | None:
    config = model.config
    assert isinstance(config, DerivedLlama), "asked of these alone"
    below = models[config.of]
    if below is None:
        return None
    if isinstance(below.config, QuantizedLlama):
        update: dict[str, Any] = {"base": below.config.base, "weights": below.config}
    else:
        update = {"base": below.config}
    return model.model_copy(update={"config": config.model_copy(update=update)})


def left_alone(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Corpora that run a derived model and not the one it is made of."""
    for name, corpus in sections["corpora"].items():
        run = chosen(corpus.models, sections["models"]) if corpus else []
        for model in run:
            config = getattr(sections["models"].get(model), "config", None)
            if isinstance(config, DerivedLlama) and config.of not in run:
                yield f"corpora.{name}.models: {model} is made of {config.of}, which is not named; name both"


def wrong_checkpoints(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Pretrained models that are not there, cannot be run, or have the name of something else."""
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
        if record.engine == "llama.cpp" and find_spec("llama_cpp") is None:
            yield f"{where}.engine: {ENGINE}"
        if record.path is not None and not Path(record.path).is_dir():
            yield f"{where}.path: {record.path!r} no such folder{_beside(record.path)}"
        if record.gguf is not None and not Path(record.gguf).is_file():
            yield f"{where}.gguf: {record.gguf!r} no such file{_beside(record.gguf)}"


def _beside(path: str) -> str:
    return did_you_mean(path, [str(other) for other in Path(path).parent.glob("*")])
