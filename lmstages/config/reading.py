"""Config files to a checked run: one strict reader, every mistake in one message, before any job exists.

Names become folders, so they are lower-case words and nothing else. Knows records; no text, token or model.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lmstages.config import own_models
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.jobs import MIXED_CATEGORIES, Run
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.overrides import OF_A_TEXT, merge, override
from lmstages.config.own_models import OF_AN_ENTRY
from lmstages.config.references import (
    missing_bases,
    missing_tensorboard,
    not_a_file,
    own_seeds,
    with_bases,
    wrong_checkpoints,
    wrong_scores,
    wrong_tokenizers,
)
from lmstages.config.resources import LARGEST_GIGABYTES, drawn_gigabytes, too_large
from lmstages.config.sections import (
    LONGEST_SHOWN,
    NAME,
    Basics,
    Corpus,
    Generation,
    Infill,
    Mixture,
    Model,
    OwnSeeds,
    Pretrained,
    Published,
    Record,
    ReportedScores,
    Sampling,
    Scoring,
    Split,
    Tokenizer,
    chosen,
    parsed,
)
from lmstages.config.sources import SOURCES
from lmstages.config.strict_yaml import load_yaml
from lmstages.config.sweeps import expanded
from lmstages.config.text_files import MAGIC, Listing, layout_of, listed, shared_files, stem_of
from lmstages.core.errors import UserError, did_you_mean, shortened

SECTIONS = [field for field in Run.model_fields if field not in ("name", "sweeps")]


def read_run(paths: Path | Sequence[Path], overrides: Mapping[str, Any] | None = None) -> Run:
    """The run that config files describe, later ones over earlier ones, with ``--config`` overrides over all.

    Named after the last file, or by the setting ``as``. Raises one UserError that lists every mistake.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    settings = dict(overrides or {})
    name = settings.pop("as", None) or (run_name(files[-1]) if files else "default")
    problems: list[str] = []
    content = override(_merged(files), settings, SECTIONS, problems)
    run = _parse_run(str(name), content, problems)
    if problems or run is None:
        where = " with ".join(map(str, files)) or "config"
        raise _refusal(where, problems)
    return run


def run_name(path: Path) -> str:
    """The folder below ``results/``: the config's name, or ``default`` for config.yaml."""
    return "default" if path.stem == "config" else path.stem


def text_run(paths: Path | Sequence[Path], text: str, overrides: Mapping[str, Any] | None = None) -> Run:
    """The models of a config on the user's own text and nothing else.

    ``text`` is a file, a folder, a pattern, or a list of these in brackets. Corpus and run are named after it, or by
    the setting ``as``.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    settings = dict(overrides or {})
    corpus = {"path": text} | {key: str(settings.pop(key)) for key in OF_A_TEXT if key in settings}
    if "documents" not in corpus and layout_of([os.path.expanduser(text)], corpus.get("field")) is None:
        corpus["documents"] = "stream"
    taken = {"default", *OUTPUTS["corpora"], *(run.stem for file in files for run in file.parent.rglob("*.yaml"))}
    name = safe_name(stem_of(text))
    name = str(settings.pop("as", None) or (f"{name[:59]}-text" if name in taken else name))
    content = _merged(files) | {"corpora": {name: corpus}, "published": [], "scores": {}}
    problems: list[str] = []
    run = _parse_run(name, override(content, settings, SECTIONS, problems), problems)
    if problems or run is None:
        raise _refusal(text, problems)
    return run


def _refusal(where: str, problems: Sequence[str]) -> UserError:
    """One error for all problems, each on a line of its own where there are several."""
    if len(problems) == 1:
        return UserError(where, problems[0])
    return UserError(where, "cannot be used:", problems=problems)


def _merged(files: Sequence[Path]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for file in files:
        content = merge(content, load_yaml(file))
    return content


def safe_name(stem: str) -> str:
    """``My Text`` -> ``my_text``: a file's name as a name of ours.

    A name that loses letters, since they are not of the alphabet of our names or too many, or that repeats its end too
    often, ends in a hash of all.
    """
    name = re.sub(r"[^a-z0-9_-]+", "_", stem.lower()).strip("_-")
    lost = any(letter.isalnum() and not letter.isascii() for letter in stem)
    if name and not lost and len(name) <= LONGEST_NAME and not REPEATED.search(name):
        return name
    normal = unicodedata.normalize("NFC", stem)
    digest = hashlib.sha256(normal.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{name[: LONGEST_NAME - 7] or 'text'}-{digest}"


def _parse_run(name: str, raw: dict[str, Any], problems: list[str]) -> Run | None:
    try:
        raw, sweeps = expanded(raw)
    except UserError as error:
        problems.append(str(error))
        return None
    for key in raw:
        if key not in SECTIONS:
            problems.append(f"{key}: unknown key; allowed: {', '.join(SECTIONS)}{did_you_mean(str(key), SECTIONS)}")
    if problem := _no_name(name):
        problems.append(f"run name {name!r} (from the file's name, or as=) {problem}; set --config as=NAME")
    sections = _named_sections(raw, problems)
    published, tasks = _published(raw.get("published"), problems), _tasks(raw, problems)
    problems.extend(_wrong_tasks(tasks, sections))
    problems.extend([*_unknown_names(sections, published), *_unusable(sections, published)])
    problems.extend(_impossible(sections["models"]))
    problems.extend(_unmixable(sections, raw.get("seeds")))
    problems.extend(wrong_tokenizers(sections["tokenizers"]))
    problems.extend([*missing_bases(sections), *wrong_checkpoints(sections), *wrong_scores(sections)])
    keys = ("mirror", "seeds", "estimation", "tensorboard", "compressors")
    rest = {key: raw[key] for key in keys if raw.get(key) is not None}
    problems.extend(missing_tensorboard(rest.get("tensorboard")))
    parsed(Basics, {"name": name, **rest}, "", problems)
    if problems:
        return None
    return Run(name=name, **rest, **sections, **tasks, published=published, sweeps=sweeps)


def _named_sections(raw: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """The sections whose entries have names: records by name, None where an entry could not be read."""
    models = _section(raw, "models", _model_parser(raw.get("models"), problems), problems)
    return {
        "corpora": _section(raw, "corpora", _parse_corpus, problems),
        "tokenizers": _section(raw, "tokenizers", _record(Tokenizer), problems),
        "models": with_bases(models, problems),
        "pretrained": _optional_section(raw, "pretrained", _record(Pretrained), problems),
        "mixtures": _optional_section(raw, "mixtures", _record(Mixture), problems),
        "scores": _optional_section(raw, "scores", _record(ReportedScores), problems),
    }


def _tasks(raw: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """What models are asked beyond scoring; None for a task that the config leaves out or that could not be read."""
    return {
        "sampling": parsed(Sampling, {} if raw.get("sampling") is None else raw["sampling"], "sampling", problems),
        **{
            key: None if raw.get(key) is None else parsed(record, raw[key], key, problems)
            for key, record in (("infill", Infill), ("generation", Generation))
        },
    }


def _wrong_tasks(tasks: Mapping[str, Any], sections: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """What is asked of models, texts and tokenizers that cannot."""
    yield from _without_characters(tasks["infill"], sections["tokenizers"])
    yield from _unknown_to_infill(tasks["infill"], sections)
    yield from _beyond_windows(tasks["generation"], sections["models"])


LONGEST_NAME = 64
# Files and folders that rules write beside those of the entries of a section, which therefore cannot have their names
OUTPUTS = {
    "corpora": ("figures", "tables", "diff"),
    "tokenizers": ("text", "oracle", "reported"),
    "models": ("tokens",),
    "mixtures": ("tokens",),
    "pretrained": ("tokens",),
    "scores": (),
}
NAME_RULE = "names are lower-case letters, digits, _ and -, at most 64, beginning with a letter or digit"
REPEATED = re.compile(r"(.+?)\1{19}$")  # Snakemake refuses a wildcard that ends so, as of a rule without an end


def _no_name(text: str) -> str | None:
    """Why a text is no name; None for one that is."""
    if not re.fullmatch(NAME, text):
        return f"is no name; {NAME_RULE}"
    return "is no name; names end in nothing that is repeated 20 times" if REPEATED.search(text) else None


def _section(raw: dict[str, Any], key: str, parse: Callable[..., Any], problems: list[str]) -> dict[str, Any]:
    entries = raw.get(key)
    if not isinstance(entries, dict) or not entries:
        problems.append(f"{key}: {'missing or empty' if not entries else 'not a mapping'}; needs at least one entry")
        return {}
    for name in entries:
        if problem := _no_name(name):
            problems.append(f"{key}: {name!r} {problem}")
        if name in OUTPUTS[key]:
            problems.append(f"{key}: {name!r} is the name of a folder that the run writes; allowed: another name")
    return {name: parse(entry, f"{key}.{name}", problems) for name, entry in entries.items()}


def _optional_section(raw: dict[str, Any], key: str, parse: Callable[..., Any], problems: list[str]) -> dict[str, Any]:
    return {} if raw.get(key) in (None, {}) else _section(raw, key, parse, problems)


def _published(entries: Any, problems: list[str]) -> list[Any]:
    if not isinstance(entries, list | None):
        problems.append(f"published: {shortened(entries, LONGEST_SHOWN)} is not a list")
        return []
    return [parsed(Published, entry, f"published[{n}]", problems) for n, entry in enumerate(entries or [])]


def _record(record_type: type[Record]) -> Callable[..., Any]:
    return lambda entry, where, problems: parsed(record_type, entry, where, problems)


def _parse_corpus(entry: Any, where: str, problems: list[str]) -> Corpus | None:
    if isinstance(entry, dict) and not {"source", "path", "files", "hub"} & entry.keys():
        entry = {"source": where.rpartition(".")[2], **entry}
    if isinstance(entry, dict) and isinstance(entry.get("split"), dict) and (parts := _parts_given(entry)):
        problems.extend(f"{where}.split.{problem}" for problem in _cut_beside_files(*parts, entry["split"]))
    if isinstance(entry, dict) and "split" in entry:
        split = parsed(Split, entry["split"], f"{where}.split", problems)
        entry = {**entry, "split": split} if split else {k: v for k, v in entry.items() if k != "split"}
    return parsed(Corpus, entry if entry is not None else {"source": where.rpartition(".")[2]}, where, problems)


def _parts_given(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Which key says that a corpus comes in parts, and the parts; None where it is cut from one text."""
    if isinstance(entry.get("files"), dict):
        return "files", entry["files"]
    if isinstance(entry.get("hub"), dict):
        splits = entry["hub"].get("splits")
        return "hub", splits if isinstance(splits, dict) else {}
    source = SOURCES.get(str(entry.get("source")))
    return ("source", dict.fromkeys(("valid", "test"), "")) if source is not None and source.is_in_parts else None


def _cut_beside_files(key_of_parts: str, files: Mapping[str, Any], split: Mapping[str, Any]) -> Iterator[str]:
    """Keys of a split that say nothing where the parts are given."""
    cut = any(files.get(name) is None for name in ("valid", "test"))
    allowed = ["deduplicate", "shuffle_seed"] if cut else ["deduplicate"]
    for key in Split.model_fields.keys() - set(allowed):
        if key in split:
            problem = f"says how a text is cut, and {key_of_parts} gives its parts"
            yield f"{key}: {problem}; allowed beside it: {', '.join(allowed)}"


RENAMED = {"rung": "type", "learns": "online"}  # keys of a model in version 0.1, and their names since 0.2


def _model_parser(entries: Any, problems: list[str]) -> Callable[..., Model | None]:
    """A function that parses an entry under ``models:``; those of one's own are described first, all at once."""
    described = own_models.described(entries, problems) if isinstance(entries, dict) else {}
    return partial(_parse_model, described=described)


def _parse_model(
    entry: Any, where: str, problems: list[str], described: Mapping[str, own_models.Described | None]
) -> Model | None:
    name = where.rpartition(".")[2]
    if entry is not None and not isinstance(entry, dict):
        problem = f"{shortened(entry, LONGEST_SHOWN)} is not a mapping"
        problems.append(f"{where}: {problem}; allowed: the model's keys, or nothing for its defaults")
        return None
    keys = _with_new_names(entry or {}, where, problems)
    type_name, scoring, seeds = keys.pop("type", name), keys.pop("scoring", {}), keys.pop("seeds", None)
    if name not in described and (not isinstance(type_name, str) or type_name not in MODEL_TYPES):
        hint = did_you_mean(str(type_name), MODEL_TYPES)
        problem = f"unknown model {shortened(type_name, LONGEST_SHOWN)}"
        problems.append(f"{where}: {problem}; allowed: {', '.join(MODEL_TYPES)}{hint}")
        return None
    config = (
        described[name] if name in described else parsed(MODEL_TYPES[type_name], keys, where, problems, OF_AN_ENTRY)
    )
    scored = parsed(Scoring, scoring, f"{where}.scoring", problems)
    own = parsed(OwnSeeds, {"seeds": seeds}, where, problems)
    if config is None or scored is None or own is None:
        return None
    return Model(config=config, scoring=scored, seeds=own.seeds)


def _with_new_names(keys: Mapping[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """The keys of a model, with those of version 0.1 renamed: so their values are checked in the same message."""
    for old, new in RENAMED.items():
        if old in keys:
            value = keys[old] if isinstance(keys[old], str) else json.dumps(keys[old], default=str)
            problems.append(f"{where}.{old}: is called {new} since version 0.2; write {new}: {value}")
    return {RENAMED.get(key, key): value for key, value in keys.items()}


def _unknown_names(sections: Mapping[str, dict[str, Any]], published: list[Any]) -> Iterator[str]:
    """Names that are not defined; an entry that could not be read is None and names nothing."""
    for corpus, record in sections["corpora"].items():
        for key in ("tokenizers", "models"):
            for name in getattr(record, key, None) or []:
                if name not in sections[key]:
                    hint = did_you_mean(name, sections[key])
                    yield f"corpora.{corpus}.{key}: {name!r} is not defined under {key}{hint}"
    for index, figure in enumerate(published):
        for key, section in (("corpus", "corpora"), ("tokenizer", "tokenizers"), ("model", "models")):
            models = sections["models"] | sections["mixtures"] | sections["pretrained"] | sections["scores"]
            defined = models if key == "model" else sections[section]
            name = getattr(figure, key, None)
            if name is not None and name not in defined:
                yield f"published[{index}].{key}: {name!r} is not defined{did_you_mean(name, defined)}"


def _beyond_windows(generation: Generation | None, models: Mapping[str, Model | None]) -> Iterator[str]:
    """A text is read at once by models that attend to a window."""
    windows = {
        name: record.config.context
        for name, record in models.items()
        if record is not None and record.config.protocol == "stride" and record.config.context is not None
    }
    short = {name: window for name, window in windows.items() if generation is not None and window < generation.length}
    if generation is not None and short:
        name = min(short, key=lambda name: short[name])
        problem = f"generation: length {generation.length} exceeds the window of {name}, {short[name]} tokens"
        yield f"{problem}; lower length to that, or raise the window"


def _without_characters(infill: Infill | None, tokenizers: Mapping[str, Tokenizer | None]) -> Iterator[str]:
    """Infilling hides characters, which only tokenizers of kind char have as tokens."""
    if infill is not None and not any(record is None or record.kind == "char" for record in tokenizers.values()):
        yield "infill: no tokenizer is of kind char, whose tokens are characters; add one, or leave infill out"


def _unknown_to_infill(infill: Infill | None, sections: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Texts, models and mixtures that are to fill gaps and are not defined."""
    defined = {"corpora": sections["corpora"], "models": sections["models"] | sections["mixtures"]}
    for key, names in defined.items():
        for name in getattr(infill, key, None) or []:
            if name not in names:
                yield f"infill.{key}: {name!r} is not defined{did_you_mean(name, names)}"
            elif isinstance(model := names[name], Model) and not model.can_fill:
                allowed = "static models that are fitted from scratch, and mixtures of static ones"
                yield f"infill.models: {name!r} (type {model.config.name}) cannot fill gaps; allowed: {allowed}"


def _unusable(sections: Mapping[str, dict[str, Any]], published: list[Any]) -> Iterator[str]:
    """Records that are valid alone and contradict each other."""
    corpora = {name: corpus for name, corpus in sections["corpora"].items() if corpus is not None}
    for name, corpus in corpora.items():
        yield from (f"corpora.{name}.{problem}" for problem in _unlisted(corpus))
        needed = drawn_gigabytes(str(corpus.source), corpus.count or 0) if corpus.embedded else 0
        if needed > LARGEST_GIGABYTES:
            problem = f"needs about {needed:,.0f} GB of memory to be drawn; at most {LARGEST_GIGABYTES:,} GB"
            yield f"corpora.{name}.count: {problem}; lower it"
        for split in corpus.evaluate:
            if getattr(corpus.split, split) <= 0:
                yield f"corpora.{name}: evaluate names {split}, which the split leaves empty"
        for model in chosen(corpus.models, sections["models"]):
            fitted = sections["models"].get(model)
            if corpus.split.valid <= 0 and fitted and getattr(fitted.config, "keep", None) == "best":
                yield f"models.{model}.keep: best chooses on valid, which corpora.{name} leaves empty; allowed: last"
            if corpus.split.valid <= 0 and fitted and (key := _chosen_on_valid(fitted.config)):
                yield f"models.{model}.{key} is chosen on valid, which corpora.{name} leaves empty; allowed: one value"
    for index, figure in enumerate(published):
        if figure and figure.corpus in corpora and figure.split not in corpora[figure.corpus].evaluate:
            yield f"published[{index}].split: {figure.split!r} is not evaluated on corpus {figure.corpus}"


def _unlisted(corpus: Corpus) -> Iterator[str]:
    """What is wrong with the paths of a text of one's own: what is not there, no text, or in two parts."""
    listings: dict[str, Listing] = {}
    for part, paths in corpus.own().items():
        key = f"files.{part}" if part else "path"
        single = isinstance(paths, str) and not os.path.isdir(paths) and not set(MAGIC).intersection(paths)
        if single and (problem := not_a_file(str(paths))):
            yield f"{key}: {paths!r} {problem}"
            continue
        try:
            listings[key] = listed(paths)
        except UserError as error:
            yield f"{key}: {error}"
    yield from shared_files(listings)


def _impossible(models: Mapping[str, Model | None]) -> Iterator[str]:
    """Models that no machine has the memory for."""
    for name, model in models.items():
        if model is not None and (problem := too_large(model.config)):
            yield f"models.{name}: {problem}; at most {LARGEST_GIGABYTES:,} GB; lower its widths, layers or batches"


def _chosen_on_valid(config: ModelConfig) -> str | None:
    """The key of a counting model whose value is chosen on valid; None where there is none."""
    if getattr(config, "smoothing", None) == "jelinek_mercer":
        return "smoothing"
    return next((key for key in ("order", "add") if isinstance(getattr(config, key, None), list)), None)


def _unmixable(sections: Mapping[str, dict[str, Any]], seeds: Any) -> Iterator[str]:
    """Mixtures of models that are not defined, or that cannot be mixed."""
    models = sections["models"]
    for name, mixture in sections["mixtures"].items():
        where = f"mixtures.{name}"
        if name in models:
            yield f"{where}: a model is called {name!r} too; allowed: another name"
        unknown = [model for model in mixture.of if model not in models] if mixture else []
        for model in unknown:
            hint = "; a mixture is made of models" if model in sections["mixtures"] else did_you_mean(model, models)
            yield f"{where}.of: {model!r} is not defined under models{hint}"
        if mixture and not unknown and all(models[model] for model in mixture.of):
            records = {model: models[model] for model in mixture.of}
            own = {model: own_seeds(model, models) for model in records}
            yield from (f"{where}: {problem}" for problem in _mixing_problems(records, own, seeds))
            yield from _nowhere_mixed(where, mixture, sections)


def _mixing_problems(records: Mapping[str, Model], own: Mapping[str, Any], seeds: Any) -> Iterator[str]:
    """A mean needs probabilities of the same tokens, and a mixture fits of the same seed."""
    for model, record in records.items():
        if record.config.category not in MIXED_CATEGORIES:
            yield f"{model} is a {record.config.category}; allowed: models that give every token a probability"
    skips = {model: record.scoring.skip for model, record in records.items()}
    if len(set(skips.values())) > 1:
        listed = ", ".join(f"{model} {skip}" for model, skip in skips.items())
        yield f"its models leave different tokens unscored (scoring.skip: {listed}); give them the same skip"
    networks = [model for model, record in records.items() if record.config.family == "neural"]
    seeds_by_model = {model: own[model] or seeds or Basics(name="-").seeds for model in networks}
    if len({str(model_seeds) for model_seeds in seeds_by_model.values()}) > 1:
        listed = ", ".join(f"{model} {model_seeds}" for model, model_seeds in seeds_by_model.items())
        yield f"its networks have different seeds ({listed}); give them the same seeds"


def _nowhere_mixed(where: str, mixture: Mixture, sections: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """A mixture is run where all of its models are; fitted weights need a valid part there."""
    corpora = {name: corpus for name, corpus in sections["corpora"].items() if corpus is not None}
    mixed = [name for name, corpus in corpora.items() if {*mixture.of} <= {*chosen(corpus.models, sections["models"])}]
    if corpora and not mixed:
        yield f"{where}: no corpus runs all of {', '.join(mixture.of)}; list them under its models"
    for name in mixed:
        if mixture.weights == "fitted" and corpora[name].split.valid <= 0:
            yield f"{where}.weights: fitted on valid, which corpora.{name} leaves empty; allowed: equal"
