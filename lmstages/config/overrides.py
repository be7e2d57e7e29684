"""Settings from several places become one: config files, later ones over earlier ones, then ``--config``.

    models={gpt: {width: 128}}        a mapping is merged into that of the files
    set=models.gpt.width=128          the same by the key's path; several pairs in quotes, separated by spaces
    models=[bigram, gpt]              a list of names chooses among the entries that the files define

Snakemake hands values over as text where they stand below a key, so text is read by the rules of ``strict_yaml``. What
stands directly after ``KEY=`` it converts by rules of its own (``text=007`` is the number 7): such values are taken as
they were typed. Works on the plain content of a config, before it is checked.
"""

import shlex
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from lmstages.config.sections import Basics, Corpus, Pretrained, Published, ReportedScores, Sampling
from lmstages.config.strict_yaml import DEEPEST, parse_scalar, parse_value
from lmstages.core.errors import UserError, did_you_mean, shortened

CHOSEN_BY_NAME = ("corpora", "tokenizers", "models")
OF_A_TEXT = ("documents", "newlines", "separator", "field")  # keys that --config text=PATH alone takes
AS_TYPED = ("run", "as", "text", "mirror", "set", *OF_A_TEXT)  # settings that are text, whatever they look like
LARGEST_BITS = 14_000  # of a number; Python writes none of more than 4,300 digits
Content = dict[str, Any]


def merge(content: Mapping[str, Any], update: Mapping[str, Any]) -> Content:
    """``content`` with every value of ``update`` in place; mappings are merged, anything else is replaced."""
    merged = dict(content)
    for key, value in update.items():
        below = merged.get(key)
        merged[key] = merge(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return merged


def settings_on(arguments: Sequence[str]) -> list[str]:
    """What stands after ``--config`` or ``-C`` on Snakemake's command line, each ``KEY=VALUE`` as it was typed."""
    settings, within = [], False
    for argument in arguments:
        option, equals, rest = argument.partition("=")
        if argument.startswith("-"):
            within = option in ("--config", "-C") or argument.startswith("-C")
            argument = rest if equals and option == "--config" else argument.removeprefix("-C")
        if within and "=" in argument and not argument.startswith("-"):
            settings.append(argument)
    return settings


def typed_settings(arguments: Sequence[str]) -> dict[str, str]:
    """The settings of AS_TYPED as they stand on Snakemake's command line."""
    pairs = (setting.partition("=") for setting in settings_on(arguments))
    return {key: value for key, _, value in pairs if key in AS_TYPED}


def stop_if_dropped(arguments: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raises UserError for a setting on Snakemake's command line that is not among those it hands over."""
    keys = (setting.partition("=")[0] for setting in settings_on(arguments))
    if dropped := [key for key in keys if key not in settings]:
        problem = "is dropped by Snakemake, which reads the last --config alone"
        raise UserError(f"--config {dropped[0]}", problem, "", "give all settings after one --config")


def with_typed(settings: Mapping[str, Any], typed: Mapping[str, str]) -> dict[str, Any]:
    """The settings with those of AS_TYPED as they were typed; a list of ``set`` stays one, empty text is no setting.

    Raises UserError for a value that was converted and is not known as it was typed.
    """
    restored = dict(settings)
    for key in AS_TYPED:
        value = restored.get(key)
        if value is None and not typed.get(key):
            continue
        if key in typed and not (key == "set" and isinstance(value, list)):
            restored[key] = typed[key]
        elif not isinstance(value, str) and not (key == "set" and isinstance(value, list)):
            remedy = f"put it in two pairs of quotes: {key}='\"VALUE\"'"
            raise UserError(f"--config {key}", f"was read as {value!r}, which is no text", "", remedy)
    return restored


def override(
    content: Mapping[str, Any], settings: Mapping[str, Any], sections: Iterable[str], problems: list[str]
) -> Content:
    """A config's content with the settings of ``--config``; settings that mean nothing are added to ``problems``."""
    settings = dict(settings)
    allowed = ["run", "text", "mirror", "set", *OF_A_TEXT, "as", *sections]
    updates = list(_by_path(settings.pop("set"), problems)) if settings.get("set") is not None else []
    problems.extend(_unknown_keys(settings, allowed))
    updates[:0] = _typed_alone({key: value for key, value in settings.items() if key in sections}, problems)
    choices: dict[str, list[Any]] = {}
    for update in updates:
        choices |= {key: update.pop(key) for key in CHOSEN_BY_NAME if isinstance(update.get(key), list)}
        content = merge(content, update)
    problems.extend(problem for key, names in choices.items() for problem in _undefined(content, key, names))
    return choose(content, choices)


def _unknown_keys(settings: Mapping[str, Any], allowed: list[str]) -> Iterator[str]:
    for key in settings:
        if key in OF_A_TEXT:
            yield f"--config {key}: belongs to text=PATH, a text of your own"
        elif key not in allowed:
            yield f"--config {key}: unknown key; allowed: {', '.join(allowed)}{did_you_mean(str(key), allowed)}"


def _typed_alone(settings: Mapping[str, Any], problems: list[str]) -> Iterator[Content]:
    """Each setting as the values that YAML would make of it; what is no content of a config goes to ``problems``."""
    for key, value in settings.items():
        if problem := _no_content(value):
            problems.append(f"--config {key}: {problem}")
            continue
        try:
            yield {key: typed(value, key, f"--config {key}")}
        except UserError as error:
            problems.append(str(error))


def _no_content(value: Any, depth: int = 1) -> str:
    """Why a value that another program made cannot be a part of a config; empty where it can."""
    if depth > DEEPEST:
        return f"lists and mappings lie more than {DEEPEST} deep"
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            return f"key {shortened(key)} is no word; put it in quotes"
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        return f"a whole number of {value.bit_length():,} bits is too large for a number"
    below = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next((problem for item in below if (problem := _no_content(item, depth + 1))), "")


def _by_path(pairs: Any, problems: list[str]) -> Iterator[Content]:
    """``"models.gpt.width=128 sampling.count=2"``, or a list of such pairs, as one nested mapping for each pair."""
    for pair in _split(pairs, problems):
        path, _, text = pair.partition("=")
        keys = path.split(".")
        if not path or "=" not in pair or len(keys) > DEEPEST:
            wrong = shortened(pair, 200)
            problems.append(f"--config set: {wrong} is no KEY.KEY=VALUE; allowed: such as models.gpt.width=128")
            continue
        where = f"--config set: {path}"
        try:
            value: Any = text if keys[-1] in TEXT_KEYS else parse_value(text, where)
            for key in reversed(keys):
                value = {key: value}
            yield typed(value, "", where)
        except UserError as error:
            problems.append(str(error))


def _split(pairs: Any, problems: list[str]) -> list[str]:
    """A list as it is, a text in words as a shell reads it; a quote that is not closed is added to ``problems``."""
    if not isinstance(pairs, str):
        return list(map(str, pairs)) if isinstance(pairs, list) else [""]
    try:
        return shlex.split(pairs)
    except ValueError as error:
        problem = f"{shortened(pairs, 200)} cannot be split into words ({str(error).lower()})"
        problems.append(f"--config set: {problem}; close the quote, or write \\ before it")
        return []


def typed(value: Any, key: str = "", where: str = "--config") -> Any:
    """Text as the value that YAML would make of it; keys that hold text keep theirs.

    Raises UserError, which names ``where``, for text that is no value.
    """
    if isinstance(value, Mapping):
        return {name: typed(below, str(name), where) for name, below in value.items()}
    if key == "seeds" and not isinstance(value, list):
        value = [value]
    if isinstance(value, list):
        return [typed(entry, "", where) for entry in value]
    if key in TEXT_KEYS:
        return _text(value, f"{where}: {key}")
    return parse_scalar(value, where) if isinstance(value, str) else value


def _text(value: Any, where: str) -> str | None:
    """A value of a key that holds text; UserError for one that was converted and is not known as it was written."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise UserError(where, f"was read as {shortened(value)}, which is no text", "", "put it in quotes")
    return None if value is None else str(value)


def choose(content: Mapping[str, Any], choices: Mapping[str, list[Any]]) -> Content:
    """Only the entries that are named, and only what still has all it needs: corpora, mixtures, published figures."""
    chosen = dict(content)
    for key, names in choices.items():
        entries = content.get(key)
        if isinstance(entries, Mapping):
            chosen[key] = {name: entry for name, entry in entries.items() if name in names}
        if isinstance(chosen.get("corpora"), Mapping):
            chosen["corpora"] = dict(_narrowed(chosen["corpora"], key, names))
    return _without_the_rest(chosen, choices) if choices else chosen


def _undefined(content: Mapping[str, Any], key: str, names: list[Any]) -> Iterator[str]:
    defined = content.get(key)
    defined = defined if isinstance(defined, Mapping) else {}
    for name in names:
        if not isinstance(name, str) or name not in defined:
            hint = did_you_mean(str(name), defined)
            yield f"--config {key}: {name!r} is not defined; allowed: {', '.join(defined)}{hint}"
    if not names:
        yield f"--config {key}: names nothing; leave it out for all of them"


def _narrowed(corpora: Mapping[str, Any], key: str, names: list[Any]) -> Iterator[tuple[str, Any]]:
    """Each corpus with the models or tokenizers that are chosen; one that keeps none of them is left out."""
    for name, corpus in corpora.items():
        listed = corpus.get(key) if isinstance(corpus, Mapping) else None
        if not isinstance(listed, list):
            yield name, corpus
        elif kept := [entry for entry in listed if entry in names]:
            yield name, {**corpus, key: kept}


def _without_the_rest(content: Content, choices: Mapping[str, list[Any]]) -> Content:
    """Mixtures of models, and figures printed for corpora and models, that are not chosen go."""
    kept = dict(content)
    mixtures, pretrained = content.get("mixtures"), content.get("pretrained")
    if "models" in choices and isinstance(mixtures, Mapping):
        kept["mixtures"] = {name: entry for name, entry in mixtures.items() if _made_of(entry, choices["models"])}
    if "corpora" in choices and isinstance(pretrained, Mapping):
        kept["pretrained"] = dict(_narrowed(pretrained, "corpora", choices["corpora"]))
    if "corpora" in choices and isinstance(content.get("scores"), Mapping):
        kept["scores"] = {name: entry for name, entry in content["scores"].items() if _is_of(entry, choices["corpora"])}
    if isinstance(content.get("published"), list):
        defined = {key: _names_of(kept.get(key)) for key in (*CHOSEN_BY_NAME, "mixtures", "pretrained", "scores")}
        kept["published"] = [figure for figure in content["published"] if _stands_beside(figure, defined)]
    return kept


def _names_of(entries: Any) -> list[str]:
    return list(entries) if isinstance(entries, Mapping) else []


def _made_of(mixture: Any, names: list[Any]) -> bool:
    listed = mixture.get("of") if isinstance(mixture, Mapping) else None
    return not isinstance(listed, list) or all(name in names for name in listed)


def _is_of(scores: Any, corpora: list[Any]) -> bool:
    corpus = scores.get("corpus") if isinstance(scores, Mapping) else None
    return corpus is None or corpus in corpora


def _stands_beside(figure: Any, defined: Mapping[str, list[str]]) -> bool:
    if not isinstance(figure, Mapping):
        return True
    models = [*defined["models"], *defined["mixtures"], *defined["pretrained"], *defined["scores"]]
    allowed = {"corpus": defined["corpora"], "tokenizer": defined["tokenizers"], "model": models}
    return all(figure.get(key) is None or figure[key] in names for key, names in allowed.items())


def same(content: Any, other: Any) -> bool:
    """Whether two contents of configs are equal; a NaN, which equals nothing, is the same as another."""
    return bool(_comparable(content) == _comparable(other))


def _comparable(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _comparable(value) for key, value in content.items()}
    return [_comparable(value) for value in content] if isinstance(content, list) else repr(content)


def _holds_text(annotation: Any) -> bool:
    """``str`` or ``str | None``, also with constraints; not a choice among words, nor a list."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_holds_text(member) for member in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _holds_text(get_args(annotation)[0])
    return annotation is str


TEXT_KEYS = frozenset(
    key
    for record in (Basics, Corpus, Sampling, Pretrained, Published, ReportedScores)
    for key, field in record.model_fields.items()
    if _holds_text(field.annotation)
)
