"""The rules of the workflow without Snakemake's scheduler: what they derive from a run before its first job.

The files under ``workflow/`` are translated by Snakemake's own parser and run with an object that keeps what each rule
says in place of Snakemake's workflow. ``Rules.jobs`` then asks for the default target, as Snakemake does: which rule
makes a file, with which wildcards, from which inputs, with which section, resources and log.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import snakemake.api  # first, since it and snakemake.workflow import each other
import snakemake.ioflags
import snakemake.ioutils
import snakemake.workflow
from snakemake.common import get_function_params
from snakemake.parser import parse
from snakemake.utils import update_config

PROJECT = Path(__file__).resolve().parents[1]
HEAD, *RULES = (
    *(
        "common",
        "corpora",
        "models",
        "derived",
        "pretrained",
        "reported",
        "mixtures",
        "analyses",
        "inspection",
        "infilling",
        "generation",
    ),
    *("snakemake_report", "results"),
)
WILDCARD = re.compile(r"\{(\w+)\}")


class Names(dict):
    """Wildcards, or the files of an input, by attribute or by key."""

    size_mb = 1.0

    def __getattr__(self, name: str) -> Any:
        return self[name]


@dataclass
class Rule:
    """What a rule of the workflow says, by directive, each as (positional values, values by name)."""

    name: str
    directives: dict[str, tuple[tuple, dict[str, Any]]]

    def values(self, directive: str) -> dict[str, Any]:
        """The values of a directive by name; those without one by their number."""
        positional, named = self.directives.get(directive, ((), {}))
        return {**dict(enumerate(positional)), **named}


@dataclass(frozen=True)
class Job:
    """A rule with values of its wildcards, and everything that follows from both."""

    rule: str
    wildcards: Mapping[str, str]
    inputs: Mapping[Any, list[str]]
    outputs: Mapping[Any, str]
    params: Mapping[str, Any]
    needs: Mapping[str, Any]  # threads, group and resources
    logs: list[str] = field(default_factory=list)


class Recorder:
    """In place of Snakemake's workflow: keeps the directives of each rule and runs nothing."""

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self.constraints: dict[str, str] = {}
        self.order: tuple[str, ...] = ()
        self.current_basedir = PROJECT / "workflow" / "rules"
        self.output_settings = SimpleNamespace(dryrun=True)
        self.storage_settings = SimpleNamespace(default_storage_provider=None)
        self.deployment_settings = SimpleNamespace(deployment_method=set())
        self.remote_exec, self.subprocess_exec, self.local_exec = False, False, True
        self.called_with([], {})

    def called_with(self, files: list[Path], settings: Mapping[str, Any]) -> None:
        """As by ``--configfile`` and ``--config``."""
        self.configfiles: list[Path] = []
        self.config_settings = SimpleNamespace(config=dict(settings), configfiles=list(files))

    def global_wildcard_constraints(self, **constraints: str) -> None:
        self.constraints = constraints

    def ruleorder(self, *names: str) -> None:
        self.order = names

    def rule(self, name: str, **_: Any) -> Callable[[dict[str, Any]], None]:
        def register(directives: dict[str, Any]) -> None:
            self.rules[name] = Rule(name, directives)

        return register

    def run(self, _: Any) -> dict[str, Any]:
        return {}

    def __getattr__(self, directive: str) -> Any:
        def keep(*values: Any, **named: Any) -> Any:
            def decorate(directives: dict[str, Any]) -> dict[str, Any]:
                return directives | {directive: (values, named)}

            return decorate

        return keep


def translated(name: str) -> str:
    """A file of rules as the Python that Snakemake makes of it."""
    path = PROJECT / "workflow" / "rules" / f"{name}.smk"
    source = SimpleNamespace(get_path_or_uri=lambda secret_free: str(path))
    reading = SimpleNamespace(sourcecache=SimpleNamespace(open=lambda _: path.open()))
    return parse(source, reading, {})[0]


class Rules:
    """The workflow's functions and rules for any run."""

    def __init__(self) -> None:
        """Runs ``common.smk`` once: in the current folder lies a ``config.yaml``, and ``sys.argv`` is Snakemake's."""
        self.workflow = Recorder()
        self.names: dict[str, Any] = {**vars(snakemake.workflow), "workflow": self.workflow, "config": {}}
        snakemake.ioutils.register_in_globals(self.names)
        snakemake.ioflags.register_in_globals(self.names)
        head = translated(HEAD)
        exec(compile(head, HEAD, "exec"), self.names)
        self.names["code_hash"] = cache(self.names["code_hash"])
        figures = self.names["figures"]
        self.names["figures"] = SimpleNamespace(modules=cache(figures.modules))
        constraints = [node for node in ast.parse(head).body if "global_wildcard_constraints" in ast.dump(node)]
        self.files = [compile(ast.Module(constraints, []), HEAD, "exec")]
        self.files += [compile(translated(name), name, "exec") for name in RULES]

    def chosen(self, files: list[Path], settings: Mapping[str, Any]) -> tuple[Any, Any]:
        """The run of these files and settings as Snakemake hands them over, and what its folder is for."""
        by_snakemake: dict[str, Any] = {}
        for content in (*map(self.names["load_configfile"], files), settings):
            update_config(by_snakemake, content)
        self.names["config"] = by_snakemake
        self.workflow.called_with(files, settings)
        run, origin = self.names["chosen_run"]()
        return run, origin

    def jobs(self, run: Any) -> list[Job]:
        """Every job of the run; an AssertionError where a file has no rule that makes it, or two."""
        self.names |= {"RUN": run, "ROOT": f"results/{run.name}"}
        self.workflow.rules.clear()
        for code in self.files:
            exec(code, self.names)
        return list(_jobs(self.workflow, f"results/{run.name}"))


def _jobs(workflow: Recorder, root: str) -> Iterator[Job]:
    makers = _makers(workflow, root)
    targets = ("verdict.txt", "report.html", "results.parquet", "results.csv", "table.md", "table.tex", "samples.md")
    waiting, made = [f"{root}/{target}" for target in (*targets, "figures")], dict[str, tuple[Any, ...]]()
    while waiting:
        path = waiting.pop()
        if path not in made:
            rule, wildcards = _maker_of(path, makers, workflow)
            job = _job(rule, wildcards)
            made |= dict.fromkeys(map(str, job.outputs.values()), (rule.name, wildcards))
            assert path in made, f"{rule.name} makes {path}"
            waiting += [file for files in job.inputs.values() for file in files]
            yield job


def _makers(workflow: Recorder, root: str) -> dict[tuple[int, str], list[tuple[re.Pattern[str], Rule]]]:
    """Patterns of outputs with their rules, by the number of folders and the last name where it has no wildcard."""
    makers: dict[tuple[int, str], list[tuple[re.Pattern[str], Rule]]] = {}
    for rule in workflow.rules.values():
        for output in map(str, _flat(rule.values("output").values())):
            pattern = _pattern(output.replace(root, "ROOT", 1) if output.startswith(root) else output)
            last = output.rpartition("/")[2]
            makers.setdefault((output.count("/"), "" if "{" in last else last), []).append((pattern, rule))
    return makers


@cache
def _pattern(output: str) -> re.Pattern[str]:
    """``ROOT/{corpus}/seed{seed}`` as a regular expression; ``_maker_of`` asks for the constraints of its wildcards."""
    pieces = WILDCARD.split(output)
    literal = [re.escape(piece) for piece in pieces[::2]]
    groups = [f"(?P<{name}>[^/.]+)" for name in pieces[1::2]]
    return re.compile("".join(text for pair in zip(literal, [*groups, ""], strict=True) for text in pair))


def _maker_of(path: str, makers: Any, workflow: Recorder) -> tuple[Rule, dict[str, str]]:
    """The one rule that makes a file, and its wildcards; of those with an order the first."""
    root = "/".join(path.split("/")[:2])
    relative = path.replace(root, "ROOT", 1) if path.startswith("results/") else path
    last = path.rpartition("/")[2]
    candidates = {}
    for pattern, rule in [*makers.get((path.count("/"), last), []), *makers.get((path.count("/"), ""), [])]:
        matched = pattern.fullmatch(relative)
        constraints = workflow.constraints | rule.values("register_wildcard_constraints")
        if matched and all(re.fullmatch(constraints[name], value) for name, value in matched.groupdict().items()):
            candidates[rule.name] = (rule, matched.groupdict())
    if len(candidates) > 1 and set(candidates) <= set(workflow.order):
        return min(candidates.values(), key=lambda entry: workflow.order.index(entry[0].name))
    assert len(candidates) == 1, f"{path} is made by {list(candidates) or 'no rule'}"
    return next(iter(candidates.values()))


def _job(rule: Rule, values: dict[str, str]) -> Job:
    wildcards = Names(values)
    outputs = Names({key: str(text).format(**values) for key, text in _numbered(rule.values("output"))})
    inputs = Names()
    for key, value in rule.values("input").items():
        files = value(wildcards) if callable(value) else value
        inputs[key] = [str(file).format(**values) for file in ([files] if isinstance(files, str) else files)]
    singles = Names({key: files[0] if len(files) == 1 else files for key, files in inputs.items()})
    known = {"wildcards": wildcards, "input": singles, "output": outputs, "attempt": 2}
    asked = {**rule.values("resources"), "threads": rule.values("threads").get(0, 1)}
    asked["group"] = rule.values("group").get(0)
    needs = {key: _value(value, known, values) for key, value in asked.items()}
    known["resources"] = {key: value for key, value in needs.items() if value is not None}
    params = {key: _value(value, known, values) for key, value in rule.values("params").items()}
    logs = [*rule.values("log").values(), *rule.values("benchmark").values()]
    return Job(
        rule.name,
        values,
        inputs,
        outputs,
        params,
        needs,
        [str(log).format(**values) for log in logs],
    )


def _value(value: Any, known: Mapping[str, Any], wildcards: Mapping[str, str]) -> Any:
    """A value of a directive for one job: what its function returns, or its text with the wildcards filled in."""
    if callable(value):
        names = list(get_function_params(value)) or list(inspect.signature(value).parameters)
        return value(*(known[name] for name in names[:1]), **{name: known[name] for name in names[1:]})
    return WILDCARD.sub(lambda name: wildcards[name[1]], value) if isinstance(value, str) else value


def _numbered(values: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """(key, value) of every single file, of lists with their number in addition."""
    for key, value in values.items():
        if isinstance(value, str):
            yield key, value
        else:
            yield from (((key, number), item) for number, item in enumerate(value))


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        yield from [value] if isinstance(value, str) else value
