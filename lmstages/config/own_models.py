"""Models of one's own: ``type: my_models.py:GatedCNN``, or the name of an entry point of an installed package.

The class is a record of hyperparameters like those of the ladder (``models.own``). The Snakefile must not run a user's
file, which may import torch, print or exit: a process of its own validates the entries of a config, describes them, and
is asked once for each content of the file. What it answers stands in for the record here, under the same attributes;
jobs load the class itself, and refuse a file that is no longer the one that was described.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from pydantic import PrivateAttr

from lmstages.config.hyperparameters.base import Category, ModelConfig
from lmstages.config.hyperparameters.counts import Counts
from lmstages.config.hyperparameters.neural import Neural
from lmstages.config.ladder import MODEL_TYPES
from lmstages.core import own_code
from lmstages.core.errors import UserError, did_you_mean, shortened
from lmstages.core.files import atomic_write
from lmstages.core.own_code import Code, Source
from lmstages.core.provenance import code_hash, package_hash, versions

GROUP = "lmstages.models"  # of entry points
OF_AN_ENTRY = ("type", "scoring", "seeds")  # keys of an entry under models: that are no hyperparameters
SECONDS = 300.0  # that a file may take to be imported and its classes to be described
MOST_REMEMBERED = 1000
FORM = "FILE.py:CLASS, such as my_models.py:GatedCNN"
BASE = "a class that inherits from Network or Counting of lmstages.models.own"
MEMORY: list[Path] = []  # the file that answers are remembered in, where there is one
Answer = dict[str, Any]


class Origin(NamedTuple):
    """Where the class of a type lies."""

    type: str
    source: Source
    class_name: str


# ---------------------------------------------------------------- which class


def is_own(type_name: object) -> bool:
    """Whether a type is none of the ladder and names a class of one's own."""
    if not isinstance(type_name, str) or type_name in MODEL_TYPES:
        return False
    return ":" in type_name or type_name.endswith(".py") or type_name in installed()


@cache
def installed() -> dict[str, list[tuple[str, str]]]:
    """{name: [(package, MODULE:CLASS), ...]} of all entry points; read once, where a type is none of the ladder."""
    from importlib import metadata  # which most jobs never need

    points: dict[str, list[tuple[str, str]]] = {}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: str(point.value)):
        points.setdefault(point.name, []).append((point.dist.name if point.dist else "?", point.value))
    return points


def origin_of(type_name: str, folders: Sequence[Path] = ()) -> Origin:
    """Where the class of a type lies; a file that is not in the working directory is looked for below ``folders``.

    Raises UserError for what is no such type.
    """
    if ":" not in type_name and not type_name.endswith(".py"):
        return _installed_origin(type_name)
    path, _, class_name = type_name.rpartition(":") if ":" in type_name else (type_name, "", "")
    if not path.endswith(".py"):
        raise UserError(shortened(type_name, 200), "names no Python file", FORM)
    path = path if os.path.lexists(path) else os.path.expanduser(path)
    candidates = [Path(path), *(folder / path for folder in folders)]
    file = next((candidate for candidate in candidates if os.path.isfile(candidate)), Path(path))
    source = Source(file.stem, file, file.parent)
    if not class_name.isidentifier():
        classes = list(_classes_of(own_code.code_from(source)))
        allowed = ", ".join(f"{path}:{name}" for name in classes) or FORM
        raise UserError(shortened(type_name, 200), "names no class", allowed)
    return Origin(type_name, source, class_name)


def _classes_of(code: Code) -> Iterator[str]:
    """The classes at the top of a model's file, by a search in its text."""
    text = next(iter(code.files.values())).read_text("utf-8", "replace")
    yield from re.findall(r"^class (\w+)", text, re.MULTILINE)


def _installed_origin(name: str) -> Origin:
    points = installed()[name]
    if len(points) > 1:
        packages = ", ".join(package for package, _ in points)
        raise UserError(name, f"is a model of several installed packages ({packages})", "one", "uninstall the others")
    package, value = points[0]
    module, _, class_name = value.partition(":")
    file = _file_of_module(module)
    if file is None or not class_name.isidentifier():
        raise UserError(name, f"{value}, the entry point of {package}, is no class in a module", "MODULE:CLASS")
    parts = module.split(".")
    top = file.parents[len(parts) - (file.name != "__init__.py")]
    return Origin(name, Source(module, file, top, parts[0]), class_name)


def _file_of_module(module: str) -> Path | None:
    """The file of an installed module, found without importing the packages around it."""
    names = module.split(".")
    spec = importlib.util.find_spec(names[0])
    for length in range(2, len(names) + 1):
        locations = spec and spec.submodule_search_locations
        spec = PathFinder.find_spec(".".join(names[:length]), locations) if locations else None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


# ---------------------------------------------------------------- the class itself, for jobs


def load(type_name: str, folders: Sequence[Path] = ()) -> type[ModelConfig]:
    """The record of a type, whose file is run; raises UserError for whatever is wrong with it.

    It is called by the name of its type, and its ``content`` is the hash of its code.
    """
    origin = origin_of(type_name, folders)
    code = own_code.code_from(origin.source)
    module = _run(origin, code)
    record = _record_in(module, origin)
    constants = {"name": type_name, "content": code.content, "title": _title(record), "__doc__": record.__doc__}
    constants |= {key: getattr(record, key, "") for key in ("source", "formula")}
    if getattr(record, "model", "") in vars(module):
        constants["module"] = module.__name__
    return type(record.__name__, (record,), {**constants, "__module__": module.__name__})


def _run(origin: Origin, code: Code) -> ModuleType:
    """The module of a model, run once for each file and content."""
    source = origin.source
    name = source.module if source.package else "own_models_" + re.sub(r"\W", "_", origin.type.rpartition(":")[0])
    shown = {os.path.abspath(file): str(file) for file in code.files.values()}
    known = sys.modules.get(name)
    if known is not None and getattr(known, "lmstages_content", None) in (code.content, None):
        return known
    own_code.RUN.update(shown)
    if not source.package and str(source.root.absolute()) not in sys.path:
        sys.path.append(str(source.root.absolute()))  # at its end: what is installed comes first
    if known is not None:  # it has changed since, as may have what it imports
        for beside in code.files:
            sys.modules.pop(beside, None)
    before = set(sys.modules)
    module = _imported(name, source)
    _stop_if_unseen(source, code, before)
    module.lmstages_content = code.content  # type: ignore[attr-defined]
    return module


def _imported(name: str, source: Source) -> ModuleType:
    """The module, or a UserError that says at which line it cannot be imported."""
    try:
        if source.package:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, source.file.absolute())
        assert spec is not None and spec.loader is not None, "a file that ends in .py can be loaded"
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        if isinstance(error, UserError):
            raise
        remedy = _remedy_of(error)
        problem = f"{type(error).__name__}: {error}"
        fault = own_code.fault_of(error, remedy) or UserError(source.file, problem, "", remedy)
        ended = "; a file that is imported must not exit" if isinstance(error, SystemExit) else ""
        raise UserError(str(source.file), f"cannot be imported{ended}", str(fault)) from error


def _remedy_of(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"install {error.name}, or put {error.name}.py beside the file"
    if match := re.search(r"non-annotated attribute was detected: `(\w+) = |Field '(\w+)' requires a type", text):
        return f"give the hyperparameter a type, as in {match[1] or match[2]}: int = ..."
    return "mend the line"


def _stop_if_unseen(source: Source, code: Code, before: set[str]) -> None:
    """Raises UserError where a file beside the model's was imported that the hash does not cover, or not the one."""
    if source.package:
        return
    for name, module in sorted(sys.modules.items()):
        file = os.path.realpath(getattr(module, "__file__", None) or "")
        beside = code.files.get(name) or own_code.file_beside(source, name)
        if name == source.module or beside is None:
            continue
        is_it = file == os.path.realpath(beside)
        if name in code.files and not is_it:
            problem = f"import {name} gives {file}, not {beside}"
            raise UserError(source.file, problem, "a file beside it has a name of its own", f"rename {name}.py")
        if name not in code.files and name not in before and is_it:
            problem = f"imports {beside.name} in a way that its text does not show"
            raise UserError(source.file, problem, "files beside it are imported by import statements")


def _record_in(module: ModuleType, origin: Origin) -> type[ModelConfig]:
    """The class; a UserError where there is none of that name, or it is no record."""
    where, name = f"{origin.source.file}:{origin.class_name}", origin.class_name
    members = {key: value for key, value in vars(module).items() if isinstance(value, type)}
    own = [key for key, value in members.items() if value.__module__ == module.__name__]
    records = [key for key in own if issubclass(getattr(module, key), ModelConfig)]
    member = getattr(module, name, None)
    if member is None:
        classes = records or own
        raise UserError(where, f"no such class{did_you_mean(name, classes)}", ", ".join(classes) or FORM)
    if not (isinstance(member, type) and issubclass(member, ModelConfig)):
        raise UserError(where, f"is {_what(member)}, no model", BASE, f"name {records[0]}" if records else "")
    for key in OF_AN_ENTRY:
        if key in member.model_fields:
            raise UserError(where, f"has a hyperparameter {key!r}, as every entry of a config has", "another name")
    lacking = [key for key in ("family", "model") if not hasattr(member, key)]
    if lacking or not (hasattr(member, "module") or member.model in vars(module)):
        lacking = lacking or ["model, a class of the same file"]
        raise UserError(where, f"does not say its {' and '.join(lacking)}", BASE)
    return member


def _what(member: object) -> str:
    if not isinstance(member, type):
        return f"of type {type(member).__name__}"
    bases = {f"{base.__module__}.{base.__name__}" for base in member.__mro__}
    return "a network (torch.nn.Module)" if "torch.nn.modules.module.Module" in bases else "a class of another kind"


def _title(record: type[ModelConfig]) -> str:
    """Its title, or its name in words: GatedCNN -> Gated CNN."""
    if title := getattr(record, "title", ""):
        return str(title)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", " ", record.__name__).strip()


# ---------------------------------------------------------------- what stands in for it, where a config is read


class Described(ModelConfig):
    """A model of one's own as its process described it: what all code asks of a record, without its class."""

    _answer: Answer = PrivateAttr({})

    @property
    def context(self) -> int | None:
        """As the class says."""
        context: int | None = self._answer["properties"]["context"]
        return context

    @property
    def category(self) -> Category:
        """As the class says."""
        category: Category = self._answer["properties"]["category"]
        return category

    def properties(self) -> dict[str, Any]:
        """As the class has them."""
        return dict(self._answer["properties"])

    def hyperparameters(self) -> dict[str, Any]:
        """Every key with its value."""
        return dict(self._answer["hyperparameters"])

    def weights(self, vocab_size: int) -> int:
        """The trainable numbers of its network, which grow in proportion to the vocabulary; 0 for no network."""
        base, per_token = self._answer["weights"]
        return max(1, round(base + per_token * vocab_size)) if base or per_token else 0

    def modules(self) -> list[str]:
        """The modules of lmstages that its jobs run."""
        return list(self._answer["modules"])


class DescribedNetwork(Described, Neural):
    """A network of one's own, with the keys of training that all networks share."""


class DescribedCounts(Described, Counts):
    """A model of one's own that is fitted without gradient descent."""


def described(entries: Mapping[str, Any], problems: list[str]) -> dict[str, Described | None]:
    """The entries under ``models:`` with a type of one's own, described; None for those with mistakes, which are
    appended to ``problems``. All of them are asked of one process.
    """
    questions: dict[str, dict[str, Any] | None] = {}
    for name, entry in entries.items():
        type_name = entry.get("type", name) if isinstance(entry, dict) else name
        if not is_own(type_name):
            continue
        questions[name] = None
        if name in MODEL_TYPES:
            problem = f"models.{name}: is the name of a model of the ladder, and its type is {type_name}"
            problems.append(f"{problem}; allowed: another name, such as my_{name}")
            continue
        try:
            questions[name] = _question(str(type_name), entry, f"models.{name}")
        except UserError as error:
            problems.append(f"models.{name}.type: {error}")
    answers = _answers([question for question in questions.values() if question])
    return {name: _stand_in(question, answers, problems) if question else None for name, question in questions.items()}


def _question(type_name: str, entry: Any, where: str) -> dict[str, Any]:
    """What the process is asked of one entry."""
    origin = origin_of(type_name)
    code = own_code.code_from(origin.source)
    given = entry if isinstance(entry, dict) else {}
    keys = {key: value for key, value in given.items() if key not in OF_AN_ENTRY}
    question = {"type": type_name, "keys": keys, "content": code.content}
    made_by = [question, package_hash(), sys.version, versions("pydantic", "torch")]
    key = hashlib.sha256(json.dumps(made_by, default=str).encode()).hexdigest()
    return {**question, "where": where, "key": key, "modules": sorted(code.ours)}


def remember_in(path: Path) -> None:
    """Keep the answers of processes in a file, from which every later call takes them."""
    MEMORY[:] = [path]


def _answers(questions: Sequence[Mapping[str, Any]]) -> dict[str, Answer]:
    """{key: answer}, remembered or asked of a process."""
    remembered = _remembered()
    new = [question for question in questions if question["key"] not in remembered]
    if not new:
        return remembered
    answers = dict(zip((question["key"] for question in new), _asked(new), strict=True))
    right = {key: answer for key, answer in answers.items() if not answer["problems"]}
    if MEMORY and right:
        kept = dict(list((remembered | right).items())[-MOST_REMEMBERED:])
        with suppress(UserError), atomic_write(MEMORY[0]) as file:
            file.write(json.dumps(kept).encode())
    return remembered | answers


def _remembered() -> dict[str, Answer]:
    try:
        answers = json.loads(MEMORY[0].read_bytes()) if MEMORY else {}
        return {key: answer for key, answer in answers.items() if answer["problems"] == []}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _asked(questions: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """The answers of ``models.own_process``; where it dies or hangs, that is the answer."""
    call = [sys.executable, "-P", "-m", "lmstages.models.own_process"]  # -P: no file here hides an installed one
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(  # noqa: S603 (this very program)
            call,
            input=json.dumps(list(questions), default=str).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
            timeout=SECONDS,
            check=False,
        )
        answers: list[Answer] = json.loads(done.stdout)
        return answers
    except subprocess.TimeoutExpired:
        problem = f"takes more than {SECONDS:g} s to import; a model's file defines classes and computes nothing"
    except ValueError:
        problem = f"ends the process that imports it (exit status {done.returncode}); it must not exit"
    return [{"problems": [f"{question['where']}.type: {question['type']}: {problem}"]} for question in questions]


def _stand_in(question: Mapping[str, Any], answers: Mapping[str, Answer], problems: list[str]) -> Described | None:
    answer = answers[question["key"]]
    if answer["problems"]:
        problems.extend(problem for problem in answer["problems"] if problem not in problems)
        return None
    base = DescribedNetwork if answer["family"] == "neural" else DescribedCounts
    record: type[Described] = type(
        answer["class"], (base,), {**answer["constants"], "after": None, "__doc__": answer["adds"]}
    )
    shared = {key: value for key, value in answer["hyperparameters"].items() if key in base.model_fields}
    stand_in = record.model_validate(shared)
    stand_in._answer = {**answer, "modules": sorted({*question["modules"], *answer["modules"]})}
    return stand_in


# ---------------------------------------------------------------- for everybody who asks of any model


def hyperparameters_of(config: ModelConfig) -> dict[str, Any]:
    """Every key of a model with its value, as JSON."""
    return config.hyperparameters() if isinstance(config, Described) else config.model_dump(mode="json")


def code_of(command: str, configs: Iterable[ModelConfig], hashed: Callable[..., str] = code_hash) -> str:
    """Hash of the code that a command runs for these models: that of the package, and that of one's own."""
    modules: set[str] = set()
    contents: set[str] = set()
    for config in configs:
        modules |= set(config.modules()) if isinstance(config, Described) else _modules_of(type(config))
        contents |= {getattr(config, "content", "")} - {""}
    own = hashlib.sha256("".join(sorted(contents)).encode()).hexdigest()[:16] if contents else ""
    return hashed(command, *sorted(modules)) + own


def _modules_of(record: type[ModelConfig]) -> set[str]:
    """The modules of lmstages that a record's jobs run."""
    if not hasattr(record, "content"):
        return {record.module}
    return {*wrappers_of(record), *own_code.code_from(origin_of(record.name).source).ours}


def wrappers_of(record: type[ModelConfig]) -> list[str]:
    """The module of lmstages that fits a class of one's own; none where its file has a class for that."""
    modules = [str(vars(base).get("module", "")) for base in record.__mro__]
    return [module for module in modules if module.startswith("lmstages.")][:1]
