"""What each job receives of the config: its own section as JSON and nothing else, so that an edit re-runs only the
jobs that it concerns.

Whatever code derives from a record (a property, a default) is part of the section, so that an edit of that code
re-runs the jobs that depend on it, too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.ladder import LADDER
from lmstages.config.own_models import Described, hyperparameters_of
from lmstages.config.run import Experiments
from lmstages.config.sections import MEASURED, USES_OF_A_CORPUS, Mixture, chosen, to_json
from lmstages.config.sweeps import listed

OF_SOME_KINDS = (
    "closed",
    "learn_bytes",
    "path",
    "tiktoken",
    "hub",
    "revision",
)  # keys of tokenizers that no section of another kind has
MIXED_CATEGORIES = ("static", "online", "pretrained")  # a mixture has the last of these that any of its models has
Facts = dict[str, Any]


class Run(Experiments):
    """A checked config and the sections of its jobs, each as JSON."""

    def prepare_section(self, corpus: str) -> str:
        """The text and its splits, without the models and tokenizers that are run on it."""
        record = self.corpora[corpus]
        unset = {key for key in ("files", "field", "hub") if getattr(record, key) is None}
        keys = record.model_dump(mode="json", exclude={*USES_OF_A_CORPUS, *unset})
        return to_json({**keys, "properties": record.properties()})

    def hub_sections(self, corpus: str) -> list[str]:
        """What is downloaded of a data set of the hub, a section for each part."""
        record = self.corpora[corpus]
        assert record.hub is not None, "only such a corpus has them"
        keys = record.hub.model_dump(mode="json", exclude={"splits"})
        joined = record.layout != "records"
        return [to_json({**keys, "split": split, "joined": joined}) for split in record.hub.splits.given().values()]

    def tokenize_section(self, tokenizer: str) -> str:
        """The tokenizer."""
        record = self.tokenizers[tokenizer]
        unset = {key for key in OF_SOME_KINDS if getattr(record, key) is None}
        return to_json(record.model_dump(mode="json", exclude=unset))

    def fit_section(self, model: str) -> str:
        """The model's type, its hyperparameters, and what its record derives from them."""
        return to_json(model_section(self.models[model].config))

    def evaluate_section(self, corpus: str, model: str) -> str:
        """The splits, the protocol, how to draw samples, and whether documents end."""
        settings = {
            "scoring": self._scoring(model),
            "sampling": self.sampling.model_dump(exclude=set(MEASURED)),
            "splits": self.splits_scored(corpus, model),
            "documents": self._documents_end(corpus),
        }
        return to_json(settings)

    def pretrained_section(self, corpus: str, pretrained: str) -> str:
        """The checkpoint, the splits, how to draw samples, and whether documents end."""
        settings = {
            "pretrained": self.pretrained[pretrained].model_dump(mode="json", exclude={"corpora"}),
            "splits": self.corpora[corpus].evaluate,
            "documents": self._documents_end(corpus),
            "sampling": self.sampling.model_dump(exclude=set(MEASURED)),
        }
        return to_json(settings)

    def reported_section(self, reported: str) -> str:
        """The file of scores, and the split that was scored."""
        record = self.scores[reported]
        return to_json({"scores": record.model_dump(mode="json", exclude={"corpus"}), "split": record.split})

    def mix_section(self, corpus: str, mixture: str) -> str:
        """The models, where their weights come from, and the splits."""
        return to_json({**self.mixtures[mixture].model_dump(), "splits": self.corpora[corpus].evaluate})

    def oracle_section(self, corpus: str) -> str:
        """The grammar and the splits."""
        return to_json({"source": self.corpora[corpus].source, "splits": self.corpora[corpus].evaluate})

    def splits_section(self, corpus: str) -> str:
        """The splits that are evaluated."""
        return to_json({"splits": self.corpora[corpus].evaluate})

    def overlap_section(self, corpus: str) -> str:
        """The splits that are evaluated, and valid, on which models are chosen, where there is one."""
        record = self.corpora[corpus]
        beside = record.split.valid > 0 and "valid" not in record.evaluate
        return to_json({"splits": [*record.evaluate, *(["valid"] if beside else [])]})

    def contrast_section(self, corpus: str) -> str:
        """How an embedded text is drawn, and its splits."""
        return to_json({"corpus": json.loads(self.prepare_section(corpus)), "splits": self.corpora[corpus].evaluate})

    def probe_section(self, corpus: str, model: str) -> str:
        """The protocol, how many samples are measured, and whether documents end."""
        settings = {
            "scoring": self._scoring(model),
            "sampling": self.sampling.model_dump(include={"length", "seed", *MEASURED}),
            "documents": self._documents_end(corpus),
            "source": self._grammar(corpus),
        }
        return to_json(settings)

    def infill_section(self, corpus: str) -> str:
        """The part whose gaps are filled, which gaps, and whether documents end."""
        return to_json({**self._gaps(corpus), "documents": self._documents_end(corpus)})

    def infill_mixture_section(self, corpus: str, mixture: str) -> str:
        """As ``infill_section``, and the models that are mixed."""
        return to_json({**json.loads(self.infill_section(corpus)), "of": self.mixtures[mixture].of})

    def infill_oracle_section(self, corpus: str) -> str:
        """The grammar, the part whose gaps are filled, and which gaps."""
        return to_json({**self._gaps(corpus), "source": self.corpora[corpus].source})

    def generate_section(self, corpus: str) -> str:
        """How much text is drawn in how many steps, the held-out part, whether documents end, and the grammar."""
        assert self.generation is not None, "asked for by a run with generation"
        settings = {"split": self.corpora[corpus].evaluate[0], "documents": self._documents_end(corpus)}
        return to_json({**self.generation.model_dump(), **settings, "source": self._grammar(corpus)})

    def analyse_section(self, corpus: str) -> str:
        """Every experiment on a corpus with its seeds and the context of its model, the splits and the grammar."""
        seeds: dict[tuple[str, str], list[int]] = {}
        for name, tokenizer, model, seed in self.experiments():
            if name == corpus:
                seeds.setdefault((tokenizer, model), []).append(seed)
        probed = self.models.keys() - {*self.bounds()}
        contexts = {name: record.config.context for name, record in self.models.items()}
        experiments = [
            {"tokenizer": t, "model": m, "seeds": values, "fitted": m in probed, "context": contexts.get(m)}
            for (t, m), values in seeds.items()
        ]
        settings = {"splits": self.corpora[corpus].evaluate, "documents": self._documents_end(corpus)}
        return to_json({**settings, "experiments": experiments, "source": self._grammar(corpus)})

    def inspect_section(self, corpus: str) -> str:
        """The networks fitted on a corpus, each with its first seed, the split that is read, and how it was drawn."""
        models = chosen(self.corpora[corpus].models, self.models)
        left_out = {*self.derived(), *self.bounds()}
        fitted = [name for name in models if self.models[name].config.family == "neural" and name not in left_out]
        experiments = [[name, self.seeds_of(name)[0]] for name in fitted]
        record = self.corpora[corpus]
        drawn = {"corpus": json.loads(self.prepare_section(corpus))} if record.embedded else {}
        return to_json({"experiments": experiments, "split": record.evaluate[0], **drawn})

    def compress_section(self, corpus: str) -> str:
        """The compressors and the splits."""
        return to_json({"compressors": self.compressors, "splits": self.corpora[corpus].evaluate})

    def summary_section(self) -> str:
        """Every experiment with its seeds, the facts of its model, splits, sweeps, and figures printed elsewhere."""
        seeds: dict[tuple[str, str, str], list[int]] = {}
        for corpus, tokenizer, model, seed in self.experiments():
            seeds.setdefault((corpus, tokenizer, model), []).append(seed)
        settings = {
            "run": self.name,
            "estimation": self.estimation,
            "models": self.facts(),
            "analyses": True,
            "inspected": self.inspected(),
            "compressors": self.compressors or [],
            "experiments": [[*experiment, values] for experiment, values in seeds.items()],
            "evaluate": {name: record.evaluate for name, record in self.corpora.items()},
            "published": [figure.model_dump() for figure in self.published],
            "sweeps": listed(self.sweeps),
        }
        reported = [[corpus, name, self.scores[name].split] for corpus, name in self.reported()]
        settings |= {"reported": reported} if reported else {}
        if self.infill is not None:
            settings |= {"infilled": [*map(list, self.infilled())], "infilled_by_source": self.infilled_by_source()}
        if self.generation is not None:
            settings |= {"generated": [*map(list, self.generated())]}
        return to_json(settings)

    def facts(self) -> dict[str, Facts]:
        """What the report says about each model of the run: its type, rank, title, family, category and source."""
        facts = {name: _model_facts(record.config, self._rank(name)) for name, record in self.models.items()}
        facts |= {name: facts[name] | {"of": self.base_of(name)} for name in self.derived()}
        facts |= {name: facts[name] | {"quantization_error": True} for name in self.derived_from_llama()}
        facts |= {name: _mixture_facts(self, name) for name in self.mixtures}
        facts |= {name: _pretrained_facts(self, name) for name in self.pretrained}
        return facts | {name: _reported_facts(self, name) for name in self.scores}

    def own(self) -> list[str]:
        """Models of one's own, which are none of the ladder."""
        return [name for name, record in self.models.items() if isinstance(record.config, Described)]

    def first_rank(self) -> int:
        """The rank after those of all models: of the ladder, then of one's own in the order of the config."""
        return len(LADDER) + len(self.own())

    def _rank(self, model: str) -> int:
        config = self.models[model].config
        is_own = isinstance(config, Described)
        return len(LADDER) + self.own().index(model) if is_own else LADDER.index(type(config))

    def _scoring(self, model: str) -> Facts:
        record = self.models[model]
        return record.scoring.resolved(record.config)

    def _gaps(self, corpus: str) -> Facts:
        assert self.infill is not None, "asked for by a run that infills"
        return {**self.infill.gaps, "split": self.corpora[corpus].evaluate[0]}

    def _documents_end(self, corpus: str) -> bool:
        return self.layout(corpus) != "stream"

    def _grammar(self, corpus: str) -> str | None:
        record = self.corpora[corpus]
        return record.source if record.embedded else None


def model_section(config: ModelConfig) -> Facts:
    """The type of a model, its hyperparameters, and what its record derives from them."""
    hyperparameters = hyperparameters_of(config)
    return {"type": config.name, "hyperparameters": hyperparameters, "properties": config.properties()}


def _model_facts(config: ModelConfig, rank: int) -> Facts:
    facts = {"type": config.name, "rank": rank, "title": config.title, "family": config.family}
    return {**facts, "category": config.category, "adds": _docstring(type(config)), "source": config.source}


def _mixture_facts(run: Run, name: str) -> Facts:
    """Mixtures rank above every model, in the order of the config."""
    configs = [run.models[model].config for model in run.mixtures[name].of]
    return {
        "type": "mixture",
        "rank": run.first_rank() + _position(name, run.mixtures),
        "title": "Mixture",
        "family": "mixture",
        "category": max((config.category for config in configs), key=MIXED_CATEGORIES.index),
        "adds": _docstring(Mixture),
        "source": "Jelinek & Mercer 1980; Dempster, Laird & Rubin 1977 for the weights",
    }


def _pretrained_facts(run: Run, name: str) -> Facts:
    """Pretrained models rank above models and mixtures, in the order of the config."""
    record = run.pretrained[name]
    local = Path(record.path or record.gguf or record.arpa or "").name
    return {
        "type": "pretrained",
        "rank": run.first_rank() + len(run.mixtures) + _position(name, run.pretrained),
        "title": "Pretrained",
        "family": "pretrained",
        "category": "pretrained",
        "adds": "Was trained elsewhere, on text that is not of this run, perhaps on this very text; "
        "never compared by rank.",
        "source": f"{record.hub} at {record.revision}" if record.hub else local,
    }


def _reported_facts(run: Run, name: str) -> Facts:
    """Scores made elsewhere rank above all else, in the order of the config."""
    record, before = run.scores[name], run.first_rank() + len(run.mixtures) + len(run.pretrained)
    return {
        "type": "reported",
        "rank": before + _position(name, run.scores),
        "title": record.title or "Reported",
        "family": "reported",
        "category": "reported",
        "adds": "Scores made elsewhere, on this very text; what the model was trained on is not known here.",
        "source": record.source or "not stated",
    }


def _position(name: str, entries: Mapping[str, Any]) -> int:
    return list(entries).index(name)


def _docstring(record: type) -> str:
    return " ".join((record.__doc__ or "").split())
