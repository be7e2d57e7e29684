"""The jobs of a whole run with what each needs, known from the config alone: what the run will cost before it starts.

The same jobs that Snakemake would do in an empty folder, without Snakemake: a test compares the two. Reads no text;
where a config names a file its size is asked for, or a size is stated in its place.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lmstages.config import resources
from lmstages.config.jobs import Run
from lmstages.config.needs import LONGEST_JOB, Factors, Need, need
from lmstages.config.run import Experiment
from lmstages.config.sections import chosen
from lmstages.config.sources import SOURCES
from lmstages.config.workload import Job, in_order, text_bytes
from lmstages.core.errors import UserError, did_you_mean

OF_NO_MODEL = "texts, analyses, report"


class Limits(NamedTuple):
    """What there is: memory and free disk in bytes, cores, GPUs."""

    memory: float
    disk: float
    cores: int
    gpus: int


@dataclass(frozen=True)
class Planned:
    """A job, the model that it is done for (empty where it is for none), and its needs."""

    job: Job
    model: str
    need: Need


class Total(NamedTuple):
    """What several jobs cost: how many, seconds of cores and of GPUs, the largest memory in megabytes, bytes."""

    jobs: int
    core_seconds: float
    gpu_seconds: float
    megabytes: float
    size: float


def _by(pairs: Iterable[tuple[str, Need]]) -> dict[str, Total]:
    needs: dict[str, list[Need]] = {}
    for name, needed in pairs:
        needs.setdefault(name, []).append(needed)
    return {name: total(of_name) for name, of_name in needs.items()}


def total(needs: Sequence[Need]) -> Total:
    """What jobs with these needs cost."""
    return Total(
        len(needs),
        sum(needed.seconds * needed.cores for needed in needs),
        sum(needed.seconds * needed.gpus for needed in needs),
        max((needed.megabytes for needed in needs), default=0.0),
        sum(needed.size for needed in needs),
    )


@dataclass
class Plan:
    """All jobs of a run; ``texts``: the bytes of each corpus."""

    run: Run
    texts: Mapping[str, float]
    jobs: list[Planned] = field(default_factory=list)

    def total(self) -> Total:
        """Of all jobs."""
        return total([planned.need for planned in self.jobs])

    def by_model(self) -> dict[str, Total]:
        """Of the jobs of each model of the run, then of those that are for none."""
        return _by((p.model, p.need) for p in sorted(self.jobs, key=lambda planned: planned.model == OF_NO_MODEL))

    def by_rule(self) -> dict[str, Total]:
        """Of the jobs of each rule, in the order in which they begin."""
        return _by((planned.job.rule_name, planned.need) for planned in self.jobs)

    def seconds(self, cores: int) -> float:
        """Time on the clock: the longest chain of jobs, or all jobs on all cores, whichever is longer."""
        ends: dict[int, float] = {}
        by_key = {planned.job.key: planned for planned in self.jobs}
        for key in in_order({key: planned.job for key, planned in by_key.items()}):
            begin = max((ends[other] for other in by_key[key].job.after), default=0.0)
            ends[key] = begin + by_key[key].need.seconds
        work = sum(p.need.seconds * min(p.need.cores, cores) for p in self.jobs) / cores
        return max(work, max(ends.values(), default=0.0))

    def megabytes_at_once(self, cores: int) -> float:
        """At most so much is in use: the largest jobs that can run side by side."""
        left, total = cores, 0.0
        for planned in sorted(self.jobs, key=lambda planned: -planned.need.megabytes):
            if left <= 0:
                break
            left, total = left - planned.need.cores, total + planned.need.megabytes
        return total


def plan(run: Run, sizes: Mapping[str, float] | None = None, factors: Mapping[str, Factors] | None = None) -> Plan:
    """The jobs of a run; ``sizes`` states the bytes of corpora, "" those of all that it does not name."""
    sizes = dict(sizes or {})
    if unknown := set(sizes) - {*run.corpora, ""}:
        name = min(unknown)
        hint = did_you_mean(name, run.corpora)
        raise UserError("--text-bytes", f"{name!r} is no corpus{hint}", f"allowed: {', '.join(run.corpora)}")
    texts = {name: sizes.get(name, sizes.get("", text_bytes(corpus))) for name, corpus in run.corpora.items()}
    made = Plan(run, texts)
    keys: dict[str, int] = {}
    for rule, subject, model, after in _jobs(run):
        corpus, tokenizer = [*subject.split("/"), ""][:2]
        record = run.models[model].config if model in run.models else None
        vocab_size = run.tokenizers[tokenizer].about_size() if tokenizer in run.tokenizers else 256
        waits = frozenset(keys[name] for name in after if name in keys)
        key = keys[f"{rule} {subject}".strip()] = len(keys)
        size = _downloaded_bytes(run, subject) if rule.startswith("download") else texts.get(corpus, 0.0)
        job = Job(key, rule, subject, after=waits, model=record, vocab_size=vocab_size, text_bytes=size)
        made.jobs.append(Planned(job, model or OF_NO_MODEL, need(rule, size, record, vocab_size, factors)))
    return made


def _downloaded_bytes(run: Run, subject: str) -> float:
    """Of a corpus that reads the download."""
    source = subject.split("/")[0]
    return next((text_bytes(c) for c in run.corpora.values() if source in (c.source, "hub")), 0.0)


Planning = tuple[str, str, str, Sequence[str]]  # rule, subject, model, names of the jobs that it waits for


def _jobs(run: Run) -> Iterator[Planning]:
    """Every job, behind those that it waits for."""
    yield from _of_texts(run)
    infilled = {*run.infilled()}
    for experiment in run.experiments():
        yield from _of_experiment(run, experiment, experiment in infilled)
    for corpus, tokenizer, model, seed in run.generated():
        subject = f"{corpus}/{tokenizer}/{model}/seed{seed}"
        yield "generate", subject, model, [f"fit {subject}"]
    for corpus, name in run.reported():
        yield "audit_scores", f"{corpus}/reported/{name}", name, [f"prepare {corpus}"]
    for corpus, tokenizer in run.inspected():
        networks = json.loads(run.inspect_section(corpus))["experiments"]
        fits = [f"fit {corpus}/{tokenizer}/{model}/seed{seed}" for model, seed in networks]
        yield "inspect", f"{corpus}/{tokenizer}", "", [f"tokenize {corpus}/{tokenizer}", *fits]
    for corpus in run.corpora:
        yield "analyse", corpus, "", [f"overlap {corpus}", f"oracle {corpus}", *_scored(run, corpus)]
    if run.infill is not None:
        for corpus in run.infilled_by_source():
            yield "infill_oracle", corpus, "", [f"prepare {corpus}"]
    yield "summarize", "", "", [f"{rule} {corpus}" for corpus in run.corpora for rule in ("analyse", "compress")]
    yield "figures", "", "", ["summarize"]
    yield "report", "", "", ["figures"]
    yield "verdict", "", "", ["report"]


def _of_texts(run: Run) -> Iterator[Planning]:
    yield from ((rule, subject, "", []) for rule, subject in dict.fromkeys(_downloads(run)))
    prepared: list[tuple[str, str]] = []
    for name, corpus in run.corpora.items():
        prepare = [f"prepare {name}"]
        yield "prepare", name, "", []
        yield "overlap", name, "", prepare
        if run.compressors:
            yield "compress", name, "", prepare
        if corpus.embedded:
            yield "oracle", name, "", prepare
            yield "contrast", name, "", prepare
        prepared += [(name, tokenizer) for tokenizer in chosen(corpus.tokenizers, run.tokenizers)]
    fitted = {(corpus, tokenizer) for corpus, tokenizer, model, _ in run.experiments() if model in run.models}
    for name, tokenizer in prepared:
        if (name, tokenizer) in fitted or (name, tokenizer) in run.inspected():
            yield "tokenize", f"{name}/{tokenizer}", "", [f"prepare {name}"]


def _downloads(run: Run) -> Iterator[tuple[str, str]]:
    for name, corpus in run.corpora.items():
        if corpus.hub is not None:
            yield from (("download_hub", f"hub/{section}") for section in run.hub_sections(name))
        elif not corpus.embedded and not corpus.own():
            for part in SOURCES[str(corpus.source)].parts:
                yield "download", f"{corpus.source}/{part.name}/{corpus.stories(part.name)}"


def _of_experiment(run: Run, experiment: Experiment, fills_gaps: bool) -> Iterator[Planning]:
    corpus, tokenizer, model, seed = experiment
    subject = f"{corpus}/{tokenizer}/{model}/seed{seed}"
    if model in run.mixtures:
        parts = [f"evaluate {corpus}/{tokenizer}/{name}/seed{s}" for name, s in run.components(model, seed)]
        yield "mix", subject, model, parts
        if fills_gaps:
            yield "infill_mixture", subject, model, [f"mix {subject}"]
    elif model in run.pretrained:
        yield "score_pretrained", subject, model, [f"prepare {corpus}"]
    else:
        yield from _of_model(run, experiment)
        if fills_gaps:
            yield "infill", subject, model, [f"fit {subject}"]


def _of_model(run: Run, experiment: Experiment) -> Iterator[Planning]:
    """A fit, or what is derived in its place, and all that reads it."""
    corpus, tokenizer, model, seed = experiment
    subject, tokenize = f"{corpus}/{tokenizer}/{model}/seed{seed}", f"tokenize {corpus}/{tokenizer}"
    rule = "derive" if model in run.derived() else "fit"
    base = f"{corpus}/{tokenizer}/{run.base_of(model)}/seed{seed}" if rule == "derive" else ""
    fitted = [f"{rule} {subject}"]
    yield rule, subject, model, [tokenize, *(f"{maker} {base}" for maker in ("fit", "derive") if base)]
    yield "evaluate", subject, model, fitted
    if model in run.derived_from_llama():
        yield "quantization_error", subject, model, fitted
    if model not in run.bounds() and seed == run.seeds_of(model)[0]:
        yield "probe", subject, model, [*fitted, f"contrast {corpus}"]


def _scored(run: Run, corpus: str) -> list[str]:
    """What writes the scores and the samples of a corpus."""
    subjects = [f"{c}/{t}/{m}/seed{s}" for c, t, m, s in run.experiments() if c == corpus]
    return [f"{rule} {subject}" for subject in subjects for rule in ("evaluate", "mix", "score_pretrained", "probe")]


def limits(memory: float | None, disk: float | None, cores: int, gpus: int | None) -> Limits:
    """What is stated, else what this machine has."""
    machine = 1e6 * resources.machine_megabytes()
    here = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    free = shutil.disk_usage(".").free
    return Limits(memory or machine, free if disk is None else disk, cores, here if gpus is None else gpus)


def shortfalls(made: Plan, limits: Limits) -> list[str]:
    """A sentence for each rule and model whose largest job takes more memory, GPUs, time or disk than there is."""
    sentences = [*_too_much_memory(made, limits), *_too_few_gpus(made, limits), *_too_full_gpus(made), *_too_long(made)]
    if made.total().size > limits.disk:
        needed = f"all files take about {in_bytes(made.total().size)}"
        sentences.append(f"{needed} of disk, {in_bytes(limits.disk)} are free; free some, or run fewer models or texts")
    return sentences


def _too_much_memory(made: Plan, limits: Limits) -> Iterator[str]:
    """One sentence for each rule: its largest job, and how many more are too large."""
    by_rule: dict[str, list[Planned]] = {}
    for planned in made.jobs:
        if planned.need.megabytes * 1e6 > limits.memory:
            by_rule.setdefault(planned.job.rule_name, []).append(planned)
    for jobs in by_rule.values():
        largest = max(jobs, key=lambda planned: planned.need.megabytes)
        more = f" (and {len(jobs) - 1:,} more of this rule)" if len(jobs) > 1 else ""
        needed = f"{largest.job.name}{more} needs about {in_bytes(1e6 * largest.need.megabytes)} of memory"
        yield f"{needed}, {in_bytes(limits.memory)} are there; {_remedy(largest)}"


def _remedy(planned: Planned) -> str:
    if planned.job.rule_name == "fit" and planned.job.model is not None and planned.job.model.family == "neural":
        return "lower its batch_size or widths, or take a larger machine"
    return "take less text (count, use), or a larger machine"


def _too_long(made: Plan) -> Iterator[str]:
    """The longest job of each rule that takes more than a job may."""
    most = 60.0 * LONGEST_JOB
    long = sorted((p for p in made.jobs if p.need.seconds > most), key=lambda planned: planned.need.seconds)
    for planned in {planned.job.rule_name: planned for planned in long}.values():
        remedy = "it resumes in its next attempts: raise retries"
        if not planned.need.resumes:
            remedy = "take less text, or a smaller model"
        days = f"{planned.need.seconds / 86400:,.0f} days"
        yield f"{planned.job.name} takes about {days}, a job asks for {most / 86400:.0f} at most; {remedy}"


def _too_few_gpus(made: Plan, limits: Limits) -> Iterator[str]:
    """The fits of each model once; what they would take of the cores that there are."""
    asking = [p for p in made.jobs if p.job.rule_name == "fit" and p.need.gpus > limits.gpus]
    for planned in {planned.model: planned for planned in reversed(asking)}.values():
        job, wanted = planned.job, planned.need.gpus
        assert job.model is not None, "only networks ask for GPUs"
        held = f"{resources.gpu_megabytes(job.model, job.vocab_size) / 1000:,.0f} GB"
        days = resources.training_flops(job.model, job.vocab_size) / (resources.PER_CORE * limits.cores * 86400)
        there = f"{limits.gpus} {'is' if limits.gpus == 1 else 'are'} there" if limits.gpus else "none is there"
        asked = f"{job.name} asks for {wanted} GPU{'s' * (wanted > 1)} with {held} in use on each, {there}"
        yield f"{asked}; on {limits.cores} cores alone it takes about {days:,.1f} days"


def _too_full_gpus(made: Plan) -> Iterator[str]:
    """The fits of each model whose processes hold more than a GPU does, and how many would hold it."""
    fits = [p for p in made.jobs if p.job.rule_name == "fit" and p.need.gpus and p.job.model is not None]
    for job in {planned.model: planned.job for planned in reversed(fits)}.values():
        assert job.model is not None, "of fits that were chosen for it"
        held = 1e6 * resources.gpu_megabytes(job.model, job.vocab_size)
        if held > resources.GPU_BYTES:
            wanted = resources.gpus_wanted(job.model, job.vocab_size)
            per_node = min(wanted, resources.GPUS_OF_A_NODE)
            fits_in = f"one of 80 GB has room for {in_bytes(resources.GPU_BYTES)}"
            remedy = f"processes: {per_node}, nodes: {wanted // per_node} and sharding: full would do, or a micro_batch"
            yield f"{job.name} would hold {in_bytes(held)} on each GPU, {fits_in}; {remedy}"


def in_bytes(size: float) -> str:
    """``4 MB``, ``2.1 GB``, ``120 GB``."""
    if size < 9.995e8:
        return f"{max(1, round(size / 1e6)):,} MB" if size else "0"
    return f"{size / 1e9:,.1f} GB" if size < 9.95e10 else f"{size / 1e9:,.0f} GB"
