"""A whole run, checked: its cells in the order of the report, and the section of the config that each job receives.

A job gets its own section as JSON and nothing besides, so that an edit re-runs what it concerns. Knows ``records``
and the ladder's; ``reading`` makes a run of a file.
"""

import json
from pathlib import Path
from typing import Any

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.quantized import DerivedLlama
from lmstages.config.ladder import LADDER
from lmstages.config.sections import (
    MEASURED,
    OWN,
    USES_OF_A_CORPUS,
    Basics,
    Corpus,
    Mixture,
    Model,
    Pretrained,
    Published,
    Sampling,
    SplitName,
    Tokenizer,
    chosen,
    to_json,
)
from lmstages.config.sweeps import Swept, listed


class Run(Basics):
    """A whole config, checked."""

    corpora: dict[str, Corpus]
    tokenizers: dict[str, Tokenizer]
    models: dict[str, Model]
    mixtures: dict[str, Mixture] = {}
    pretrained: dict[str, Pretrained] = {}
    sampling: Sampling = Sampling()
    published: list[Published] = []
    sweeps: dict[str, Swept] = {}

    def experiments(self) -> list[tuple[str, str, str, int]]:
        """Every (corpus, tokenizer, model, seed) of the run, in the order of the report."""
        return [
            (corpus, tokenizer, model, seed)
            for corpus, record in self.corpora.items()
            for tokenizer in chosen(record.tokenizers, self.tokenizers)
            for model in [*chosen(record.models, self.models), *self.mixtures_on(corpus)]
            for seed in self.seeds_of(model)
        ] + self.pretrained_experiments()

    def pretrained_experiments(self) -> list[tuple[str, str, str, int]]:
        """Every (corpus, own, model, 0): nothing is drawn by chance where nothing is fitted."""
        several = self.pretrained.items()
        return [(corpus, OWN, name, 0) for name, each in several for corpus in chosen(each.corpora, self.corpora)]

    def mixtures_on(self, corpus: str) -> list[str]:
        """A mixture is run wherever all of its models are."""
        run = set(chosen(self.corpora[corpus].models, self.models))
        return [name for name, mixture in self.mixtures.items() if run.issuperset(mixture.of)]

    def splits_scored(self, corpus: str, model: str) -> list[SplitName]:
        """Those the corpus evaluates, and valid where the weights of a mixture of this model are fitted."""
        evaluated, here = self.corpora[corpus].evaluate, [self.mixtures[name] for name in self.mixtures_on(corpus)]
        needed = any(model in mixture.of and mixture.weights == "fitted" for mixture in here)
        return [*evaluated, "valid"] if needed and "valid" not in evaluated else evaluated

    def components(self, mixture: str, seed: int) -> list[tuple[str, int]]:
        """Which fit of each of its models a mixture of this seed is made of."""
        several = [(model, self.seeds_of(model)) for model in self.mixtures[mixture].of]
        return [(model, seed if seed in seeds else seeds[0]) for model, seeds in several]

    def seeds_of(self, model: str) -> list[int]:
        """Counting has no randomness, so a counts model is fitted once; a mixture has the seeds of its networks."""
        if model in self.mixtures:
            of = sorted(self.mixtures[model].of, key=lambda name: self.models[name].config.family != "neural")
            return self.seeds_of(of[0])
        record = self.models[model]
        if isinstance(record.config, DerivedLlama) and record.seeds is None:
            return self.seeds_of(record.config.of)
        seeds = record.seeds or self.seeds
        return seeds if record.config.family == "neural" else seeds[:1]

    # What one job receives of the config, as JSON, and nothing besides.

    def prepare_section(self, corpus: str) -> str:
        """The text and its splits; which models and tokenizers are run on it is no matter of the text's."""
        return to_json(self.corpora[corpus].model_dump(mode="json", exclude=set(USES_OF_A_CORPUS)))

    def fit_section(self, model: str) -> str:
        """The model and its hyperparameters."""
        return to_json(_model_section(self.models[model].config))

    def evaluate_section(self, corpus: str, model: str) -> str:
        """The splits, the protocol, how to draw samples, and whether documents end."""
        scoring = self.models[model].scoring.resolved(self.models[model].config)
        settings = {"scoring": scoring, "sampling": self.sampling.model_dump(exclude=set(MEASURED))}
        splits = self.splits_scored(corpus, model)
        return to_json({"splits": splits, "documents": self.layout(corpus) != "stream", **settings})

    def derived(self) -> list[str]:
        """Models that are made of another one of the run."""
        return [name for name, record in self.models.items() if isinstance(record.config, DerivedLlama)]

    def base_of(self, model: str) -> str:
        """The model that a derived one is made of."""
        config = self.models[model].config
        assert isinstance(config, DerivedLlama), "asked of derived models alone"
        return config.of

    def pretrained_section(self, corpus: str, name: str) -> str:
        """The checkpoint, the splits, how to draw samples, and whether documents end."""
        told: dict[str, Any] = {"pretrained": self.pretrained[name].model_dump(mode="json", exclude={"corpora"})}
        told |= {"splits": self.corpora[corpus].evaluate, "documents": self.layout(corpus) != "stream"}
        return to_json({**told, "sampling": self.sampling.model_dump(exclude=set(MEASURED))})

    def mix_section(self, corpus: str, mixture: str) -> str:
        """The models, where their weights come from, and the splits."""
        return to_json({**self.mixtures[mixture].model_dump(), "splits": self.corpora[corpus].evaluate})

    def oracle_section(self, corpus: str) -> str:
        """The grammar and the splits."""
        return to_json({"source": self.corpora[corpus].source, "splits": self.corpora[corpus].evaluate})

    def splits_section(self, corpus: str) -> str:
        """The splits that are evaluated."""
        return to_json({"splits": self.corpora[corpus].evaluate})

    def contrast_section(self, corpus: str) -> str:
        """How an embedded text is drawn, and its splits."""
        return to_json({"corpus": json.loads(self.prepare_section(corpus)), "splits": self.corpora[corpus].evaluate})

    def probe_section(self, corpus: str, model: str) -> str:
        """The protocol, how many samples are measured, and whether documents end."""
        record = self.models[model]
        sampling = self.sampling.model_dump(include={"length", "seed", *MEASURED})
        told = {"scoring": record.scoring.resolved(record.config), "sampling": sampling}
        return to_json({**told, "documents": self.layout(corpus) != "stream", "source": self._grammar(corpus)})

    def analyse_section(self, corpus: str) -> str:
        """Every cell of a corpus with its seeds and what its model may look back over, its splits and its grammar."""
        cells: dict[tuple[str, str], list[int]] = {}
        for name, tokenizer, model, seed in self.experiments():
            if name == corpus:
                cells.setdefault((tokenizer, model), []).append(seed)
        contexts = {name: record.config.context for name, record in self.models.items()}
        named = [
            {"tokenizer": t, "model": m, "seeds": seeds, "fitted": m in self.models, "context": contexts.get(m)}
            for (t, m), seeds in cells.items()
        ]
        told = {"splits": self.corpora[corpus].evaluate, "documents": self.layout(corpus) != "stream"}
        return to_json({**told, "cells": named, "source": self._grammar(corpus)})

    def inspected(self) -> list[tuple[str, str]]:
        """Every (corpus, tokenizer) whose models are laid open."""
        named = [(name, each.tokenizers) for name, each in self.corpora.items() if each.inspect]
        return [(corpus, tokenizer) for corpus, several in named for tokenizer in chosen(several, self.tokenizers)]

    def inspect_section(self, corpus: str) -> str:
        """The networks that a corpus fits, each with its first seed, and where the passage is from."""
        models = chosen(self.corpora[corpus].models, self.models)
        fitted = [name for name in models if self.models[name].config.family == "neural" and name not in self.derived()]
        cells = [[name, self.seeds_of(name)[0]] for name in fitted]
        return to_json({"cells": cells, "split": self.corpora[corpus].evaluate[0]})

    def _grammar(self, corpus: str) -> str | None:
        record = self.corpora[corpus]
        return record.source if record.embedded else None

    def compress_section(self, corpus: str) -> str:
        """The compressors and the splits."""
        return to_json({"compressors": self.compressors, "splits": self.corpora[corpus].evaluate})

    def summary_section(self) -> str:
        """Every experiment with its seeds, what the ladder says of its model, splits, sweeps, and what others printed."""
        experiments: dict[tuple[str, str, str], list[int]] = {}
        for corpus, tokenizer, model, seed in self.experiments():
            experiments.setdefault((corpus, tokenizer, model), []).append(seed)
        models: dict[str, Any] = {name: _facts_of(record.config) for name, record in self.models.items()}
        models |= {name: _mixture_facts(self, index) for index, name in enumerate(self.mixtures)}
        models |= {name: _pretrained_facts(self, index) for index, name in enumerate(self.pretrained)}
        models |= {name: models[name] | {"of": self.base_of(name)} for name in self.derived()}
        section = {
            "run": self.name,
            "estimation": self.estimation,
            "analyses": True,
            "inspected": self.inspected(),
            "compressors": self.compressors or [],
            "experiments": [[*experiment, seeds] for experiment, seeds in experiments.items()],
            "models": models,
            "evaluate": {name: record.evaluate for name, record in self.corpora.items()},
            "published": [figure.model_dump() for figure in self.published],
            "sweeps": listed(self.sweeps),
        }
        return to_json(section)

    def layout(self, corpus: str) -> str:
        """How the models are to read it: documents that end, or one stream."""
        record = self.corpora[corpus]
        return "stream" if record.read_as == "stream" else record.layout


def _facts_of(config: ModelConfig) -> dict[str, Any]:
    """What the report says of a model without knowing it."""
    adds = " ".join((type(config).__doc__ or "").split())
    named = {"type": config.name, "rank": LADDER.index(type(config)), "title": config.title, "family": config.family}
    named["category"] = config.category
    return {**named, "adds": adds, "source": config.source}


STRICTEST = ("static", "online", "pretrained")  # the last that any component has is a mixture's


def _mixture_facts(run: Run, place: int) -> dict[str, Any]:
    """What the report says of the run's n-th mixture: it stands above every model, in the order of the config."""
    configs = [run.models[model].config for model in list(run.mixtures.values())[place].of]
    adds = " ".join((Mixture.__doc__ or "").split())
    named = {"type": "mixture", "rank": len(LADDER) + place, "title": "Mixture", "family": "mixture"}
    named["category"] = max((config.category for config in configs), key=STRICTEST.index)
    return {**named, "adds": adds, "source": "Jelinek & Mercer 1980; Dempster, Laird & Rubin 1977 for the weights"}


def _pretrained_facts(run: Run, place: int) -> dict[str, Any]:
    """What the report says of the run's n-th checkpoint: it stands above models and mixtures."""
    record = list(run.pretrained.values())[place]
    adds = "Was trained elsewhere, on text that is not of this run, perhaps on this very text; never compared by rank."
    named = {"type": "pretrained", "rank": len(LADDER) + len(run.mixtures) + place, "title": "Pretrained"}
    where = f"{record.hub} at {record.revision}" if record.hub else Path(record.path or record.gguf or "").name
    return {**named, "family": "pretrained", "category": "pretrained", "adds": adds, "source": where}


def _model_section(config: ModelConfig) -> dict[str, Any]:
    return {"type": config.name, "hyperparameters": config.model_dump(mode="json")}
