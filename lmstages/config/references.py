"""Records of a config that need others, or files: models made of models, checkpoints from elsewhere.

A derived model's record is completed with that of the LLaMA below it, so that its job's section says everything its
fit depends on. Knows records; never an array, and of a library only whether it is installed.
"""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lmstages.config.records import OWN, Model, chosen
from lmstages.errors import did_you_mean
from lmstages.ladder import DerivedLlama, Llama, LlamaCpp, LlamaQ4, LlamaQ8, QuantisedLlama, Rung

BLOCK = 32  # numbers that share a scale; a row is a whole number of blocks
MADE_OF: dict[type[Rung], tuple[type[Rung], ...]] = {
    LlamaQ8: (Llama,),
    LlamaQ4: (Llama,),
    LlamaCpp: (Llama, LlamaQ8, LlamaQ4),
}
ENGINE = "llama.cpp needs llama-cpp-python, which is not installed; pip install 'lmstages[llama-cpp]'"


def with_bases(models: Mapping[str, Model | None], problems: list[str]) -> dict[str, Model | None]:
    """The models, derived ones completed; what is wrong with them is appended to ``problems``."""
    found = dict(models)
    for kinds in (QuantisedLlama, LlamaCpp):  # an engine may run what was quantised before
        for name, model in models.items():
            if model is not None and isinstance(model.rung, kinds):
                wrong = list(_wrong(name, model, found))
                problems.extend(wrong)
                found[name] = None if wrong else _completed(model, found)
    return found


def _wrong(name: str, model: Model, models: Mapping[str, Model | None]) -> Iterator[str]:
    rung = model.rung
    assert isinstance(rung, DerivedLlama), "asked of these alone"
    for key in ("base", "weights"):
        if getattr(rung, key, None) is not None:
            yield f"models.{name}.{key}: is the record of the model that of names; leave it out"
    if model.seeds is not None:
        yield f"models.{name}.seeds: are those of {rung.of}; leave them out"
    if isinstance(rung, LlamaCpp) and find_spec("llama_cpp") is None:
        yield f"models.{name}: {ENGINE}"
    below = models.get(rung.of)
    allowed = MADE_OF[type(rung)]
    if rung.of not in models:
        yield f"models.{name}.of: {rung.of!r} is not defined under models{did_you_mean(rung.of, models)}"
    elif below is not None and not isinstance(below.rung, allowed):
        known = ", ".join(kind.name for kind in allowed)
        yield f"models.{name}.of: {rung.of!r} is of rung {below.rung.name}; allowed: {known}"
    elif below is not None and isinstance(rung, QuantisedLlama):
        yield from _uneven_rows(name, rung.of, below.rung)


def _uneven_rows(name: str, of: str, rung: Any) -> Iterator[str]:
    for key in ("width", "hidden"):
        if getattr(rung, key) % BLOCK:
            told = f"rows of {getattr(rung, key)} numbers (models.{of}.{key}) are no whole blocks of {BLOCK}"
            yield f"models.{name}: {told}; allowed: multiples of {BLOCK}"


def _completed(model: Model, models: Mapping[str, Model | None]) -> Model | None:
    rung = model.rung
    assert isinstance(rung, DerivedLlama), "asked of these alone"
    below = models[rung.of]
    if below is None:
        return None
    if isinstance(below.rung, QuantisedLlama):
        update: dict[str, Any] = {"base": below.rung.base, "weights": below.rung}
    else:
        update = {"base": below.rung}
    return model.model_copy(update={"rung": rung.model_copy(update=update)})


def left_alone(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Corpora that run a derived model and not the one it is made of."""
    for name, corpus in sections["corpora"].items():
        run = chosen(corpus.models, sections["models"]) if corpus else []
        for model in run:
            rung = getattr(sections["models"].get(model), "rung", None)
            if isinstance(rung, DerivedLlama) and rung.of not in run:
                yield f"corpora.{name}.models: {model} is made of {rung.of}, which is not named; name both"


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
