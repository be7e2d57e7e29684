"""The experiments of a run, corpus x tokenizer x model x seed, in the order of the report.

Knows ``sections`` and the records of the ladder; ``jobs`` says what each job receives of them.
"""

from pydantic import Field

from lmstages.config.hyperparameters.base import Derived, ModelConfig
from lmstages.config.hyperparameters.quantized import DerivedLlama
from lmstages.config.sections import (
    OWN,
    Basics,
    Corpus,
    DocumentLayout,
    Generation,
    Infill,
    Mixture,
    Model,
    Pretrained,
    Published,
    ReportedScores,
    Sampling,
    SplitName,
    Tokenizer,
    chosen,
)
from lmstages.config.sweeps import Swept

Experiment = tuple[str, str, str, int]  # corpus, tokenizer, model, seed


class Experiments(Basics):
    """A whole config, checked, and the experiments that follow from it."""

    corpora: dict[str, Corpus] = Field(description="Texts, by name.")
    tokenizers: dict[str, Tokenizer] = Field(description="Tokenizers, by name.")
    models: dict[str, Model] = Field(description="Models, by name; the name is the type where the entry has none.")
    mixtures: dict[str, Mixture] = Field({}, description="Averages of the predictions of several models, by name.")
    pretrained: dict[str, Pretrained] = Field({}, description="Models trained elsewhere, by name.")
    scores: dict[str, ReportedScores] = Field({}, description="Log-probabilities made elsewhere, by name.")
    sampling: Sampling = Field(Sampling(), description="How text is drawn from every model.")
    infill: Infill | None = Field(None, description="Infilling: gaps in held-out text, filled from both sides.")
    generation: Generation | None = Field(
        None, description="Samplers of every model, and what their steps cost in quality and in time."
    )
    published: list[Published] = Field([], description="Figures printed elsewhere, compared with ours.")
    sweeps: dict[str, Swept] = Field({}, description="Swept entries and their values, from the sweeps of the config.")

    def experiments(self) -> list[Experiment]:
        """Every (corpus, tokenizer, model, seed) of the run, in the order of the report."""
        return [
            (corpus, tokenizer, model, seed)
            for corpus, record in self.corpora.items()
            for tokenizer in chosen(record.tokenizers, self.tokenizers)
            for model in [*chosen(record.models, self.models), *self.mixtures_on(corpus)]
            for seed in self.seeds_of(model)
        ] + self.pretrained_experiments()

    def pretrained_experiments(self) -> list[Experiment]:
        """Every (corpus, ``own``, pretrained model, 0): without a fit there is nothing random to seed."""
        return [
            (corpus, OWN, name, 0)
            for name, record in self.pretrained.items()
            for corpus in chosen(record.corpora, self.corpora)
        ]

    def reported(self) -> list[tuple[str, str]]:
        """Every (corpus, scores made elsewhere)."""
        return [(record.corpus or next(iter(self.corpora)), name) for name, record in self.scores.items()]

    def mixtures_on(self, corpus: str) -> list[str]:
        """A mixture is run wherever all of its models are."""
        run = set(chosen(self.corpora[corpus].models, self.models))
        return [name for name, mixture in self.mixtures.items() if run.issuperset(mixture.of)]

    def splits_scored(self, corpus: str, model: str) -> list[SplitName]:
        """The splits that the corpus evaluates, and valid where a mixture with this model fits its weights on it."""
        evaluated = self.corpora[corpus].evaluate
        mixtures = [self.mixtures[name] for name in self.mixtures_on(corpus)]
        fits_weights = any(model in mixture.of and mixture.weights == "fitted" for mixture in mixtures)
        return [*evaluated, "valid"] if fits_weights and "valid" not in evaluated else evaluated

    def components(self, mixture: str, seed: int) -> list[tuple[str, int]]:
        """(model, seed) of every fit that a mixture of this seed is made of."""
        seeds_by_model = [(model, self.seeds_of(model)) for model in self.mixtures[mixture].of]
        return [(model, seed if seed in seeds else seeds[0]) for model, seeds in seeds_by_model]

    def seeds_of(self, model: str) -> list[int]:
        """Counting is not random, so a counting model is fitted once; a mixture has the seeds of its networks."""
        if model in self.mixtures:
            networks_first = sorted(
                self.mixtures[model].of, key=lambda name: self.models[name].config.family != "neural"
            )
            return self.seeds_of(networks_first[0])
        record = self.models[model]
        if isinstance(record.config, Derived) and record.seeds is None:
            return self.seeds_of(record.config.of)
        seeds = record.seeds or self.seeds
        return seeds if record.config.family == "neural" else seeds[:1]

    def configs(self) -> dict[str, ModelConfig]:
        """The hyperparameters of every model."""
        return {name: record.config for name, record in self.models.items()}

    def drawn(self) -> dict[str, tuple[str, int]]:
        """The source of every embedded corpus and the number of documents that the config asks for, if it does."""
        return {
            name: (str(c.source), c.count) for name, c in self.corpora.items() if c.embedded and c.count is not None
        }

    def derived(self) -> list[str]:
        """Models that are made from another model of the run."""
        return [name for name, record in self.models.items() if isinstance(record.config, Derived)]

    def derived_from_llama(self) -> list[str]:
        """Those made from a LLaMA, whose distance from it is measured."""
        return [name for name, record in self.models.items() if isinstance(record.config, DerivedLlama)]

    def bounds(self) -> list[str]:
        """Models without a distribution of the next token: nothing is drawn from them, and no pairs are judged."""
        return [name for name, record in self.models.items() if record.config.category == "bound"]

    def base_of(self, model: str) -> str:
        """The model that a derived model is made from."""
        config = self.models[model].config
        assert isinstance(config, Derived), "only derived models have a base"
        return config.of

    def inspected(self) -> list[tuple[str, str]]:
        """Every (corpus, tokenizer) whose models are inspected."""
        return [
            (name, tokenizer)
            for name, corpus in self.corpora.items()
            if corpus.inspect
            for tokenizer in chosen(corpus.tokenizers, self.tokenizers)
        ]

    def infilled(self) -> list[Experiment]:
        """The experiments that fill gaps, where tokens are characters: the first seed of the models that can."""
        if self.infill is None:
            return []
        corpora, models = chosen(self.infill.corpora, self.corpora), self.can_fill(self.infill)
        return [
            (corpus, tokenizer, model, seed)
            for corpus, tokenizer, model, seed in self.experiments()
            if corpus in corpora
            and model in models
            and self.tokenizers[tokenizer].kind == "char"
            and seed == self.seeds_of(model)[0]
        ]

    def can_fill(self, infill: Infill) -> set[str]:
        """Static models that were fitted from scratch, and mixtures of static ones: those asked for, or all."""
        able = {name for name, record in self.models.items() if record.can_fill}
        static = {name for name, record in self.models.items() if record.is_static}
        able |= {name for name, mixture in self.mixtures.items() if static.issuperset(mixture.of)}
        return {*chosen(infill.models, able)} & able

    def infilled_by_source(self) -> list[str]:
        """The corpora whose gaps are filled by the grammar that wrote them, too."""
        corpora = dict.fromkeys(corpus for corpus, *_ in self.infilled())
        return [corpus for corpus in corpora if self.corpora[corpus].embedded]

    def generated(self) -> list[Experiment]:
        """The experiments whose samplers are measured: the first seed of every fitted model but online ones."""
        online = {name for name, record in self.models.items() if record.config.category == "online"}
        return [
            (corpus, tokenizer, model, seed)
            for corpus, tokenizer, model, seed in self.experiments()
            if self.generation is not None
            and model in self.models.keys() - online - {*self.derived()}
            and seed == self.seeds_of(model)[0]
        ]

    def layout(self, corpus: str) -> DocumentLayout:
        """How models read a corpus: as documents that end, or as one stream."""
        record = self.corpora[corpus]
        return "stream" if record.read_as == "stream" else record.layout
