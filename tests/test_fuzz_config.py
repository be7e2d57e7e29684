"""Hostile configs: refused in one line that names file or key, or a run whose every job can be made; never a traceback.

A mutation that renames a key, or puts a value of another type in place of one, is refused or is another spelling of the
same run. ``LMSTAGES_FUZZ_CONFIGS`` says how many configs are tried.
"""

import copy
import dataclasses
import datetime
import json
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from fuzzing import at_most, positions
from snakemake.cli import parse_config
from snakemake.exceptions import WorkflowError
from test_settings import planned
from workflow_rules import PROJECT, Rules

from lmstages.cli import COMMANDS, _section_parser, main
from lmstages.config.hyperparameters.base import Derived
from lmstages.config.hyperparameters.neural import EXECUTION
from lmstages.config.jobs import Run
from lmstages.config.ladder import MODEL_TYPES
from lmstages.config.overrides import override, typed_settings
from lmstages.config.reading import SECTIONS, read_run
from lmstages.config.sections import (
    Basics,
    Corpus,
    Generation,
    Infill,
    Mixture,
    Pretrained,
    Published,
    ReportedScores,
    Sampling,
    Scoring,
    Split,
)
from lmstages.config.strict_yaml import load_yaml
from lmstages.config.sweeps import listed
from lmstages.core.errors import UserError
from lmstages.core.terminal import shown

SECONDS = 60  # one config, on a busy machine
COUNT = int(os.environ.get("LMSTAGES_FUZZ_CONFIGS", "20000"))  # configs that all channels together try
FAST = COUNT // 20
COUNTS = [FAST, pytest.param(COUNT - FAST, marks=pytest.mark.slow)]
FILES = [PROJECT / "config.yaml", *sorted((PROJECT / "runs").glob("*.yaml"))]
NAMED = ("corpora", "tokenizers", "models", "mixtures", "pretrained", "scores")  # sections whose keys are names
ONE_OR_SEVERAL = ("temperature", "order", "add")  # keys that take a value or a list of them
NULL_IS_A_VALUE = {"shuffle_seed"}  # without the key it is 42, which shuffles
FORGED = "a\n  corpora: all is well"


class Raw(str):
    """Text that stands in a config file as it is, without quotes."""


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = (
    *(None, True, False, -1, 0, 7, 2**31, 2**63, 2**64, 10**30, 1e308, -1e308, 5e-324, 0.5, 1.5),
    *("", " ", "x", "null", "~", "010", "0x1F", "1:30", "yes", ".nan", "-.inf", "1e400", "1_000", "2020-01-01", "<<"),
    *("\x1b[31m", FORGED, "\ud800", "\x00", "a\0b", "é\u202e", "\x85", "\ufeff", "\U0010ffff"),
    *(
        "../../etc",
        "/etc/passwd",
        "/",
        "a/b",
        "..",
        ".",
        "a.b",
        "figures",
        "tables",
        "diff",
        "tokens",
        "text",
        "oracle",
    ),
    *("own", "con", "x" * 65, "x" * 64, "x" * 5000, "~nobody/x", "~\0", "{corpus}", "a b", "$(touch x)", "it's", "-x"),
    *([], [1], [None], [[]], ["x", "x"], [1, 1.0], {}, {"a": 1}, {"": 1}, {FORGED: 1}, {"\ud800": 1}, nested(18)),
    *({"sweep": []}, {"sweep": 1}, {"sweep": [1, 2]}, {"sweep": [0.1, 1, 8]}, {"sweep": ["a", "A"]}, {"sweep": [{}]}),
)
FROM_PROGRAMS = (  # what another workflow's YAML 1.1 makes of its own config
    *(10**400, 16**5000, math.nan, math.inf, -math.inf, datetime.date(2020, 1, 1), b"x", {1, 2}, (1, 2)),
    *({1: "x"}, {None: 1}, {True: {}}, {(1, 2): 3}, nested(30), {"a": nested(400)}),
)
IN_FILES = (
    *(
        "!!python/object/apply:os.system [touch x]",
        "!!int 3",
        "!x",
        "! 1",
        "&a 1",
        "*a",
        "&a [*a]",
        "<<",
        "=",
        "- -",
        "|",
    ),
    *(
        "? x",
        "[",
        "{",
        "]",
        "[" * 500,
        "[" * 500 + "]" * 500,
        "{a: " * 400 + "}" * 400,
        '"',
        "'",
        "#",
        "@",
        "`",
        "%",
        "---",
    ),
    *(
        "1e400",
        "-1e400",
        "9" * 30,
        "9" * 6000,
        "0o17",
        "1_000",
        "2020-01-01",
        ".nan",
        "1.",
        "+.5",
        '"\\ud800"',
        '"\\0"',
    ),
    *(
        '"\\UFFFFFFFF"',
        '"\\U00110000"',
        '"\\xzz"',
        "\u2028",
        "\t",
        "{a: 1, a: 2}",
        "{1: 2}",
        "{[a]: b}",
        "{? : }",
        "null",
    ),
)
NEAR = (lambda key: f"{key[:-1]}_", str.upper, lambda key: f"{key} ", lambda key: key[1:], lambda key: f"{key}\u200b")


# ---------------------------------------------------------------- configs to begin with


HUB_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


def every_key(folder):
    """A config that names every key of every section, made from the records."""
    (folder / "my.txt").write_text("a text of one's own\n" * 300)
    (folder / "checkpoint").mkdir()
    (folder / "m.gguf").write_bytes(b"GGUF")
    (folder / "m.arpa").write_text("\\data\\\nngram 1=1\n")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "scores.jsonl").write_text('{"start_byte": 0, "end_byte": 1, "log_prob": -1}\n')
    models = {name: _all_keys(record) for name, record in MODEL_TYPES.items()}
    for name, entry in models.items():
        entry |= {"type": name, "scoring": dict(Scoring(window=16, stride=8)), "seeds": [0]}
        if issubclass(MODEL_TYPES[name], Derived):
            del entry["seeds"]
            entry |= {"base": None} | ({"weights": None} if name == "llama_cpp" else {})
    models["llama"] |= {"hidden": 352}
    if not has_llama_cpp():
        del models["llama_cpp"]
    keys = {key: field.default for key, field in Corpus.model_fields.items()}
    keys |= {"split": Split(train=0.5, valid=0.25, test=0.25).model_dump(), "tokenizers": ["bpe"]}
    rest = {key: field.default for key, field in Pretrained.model_fields.items()} | {"corpora": ["coined"]}
    figure = {key: None for key in Published.model_fields}
    return {
        "corpora": {
            "coined": keys | {"source": "coined", "count": 60, "models": ["gpt", "mlp", "llama"], "inspect": True},
            "rows": {key: value for key, value in keys.items() if key != "split"}
            | {"hub": {"name": "a/b", "config": "c", "revision": "0" * 40, "field": "text", "splits": HUB_SPLITS}}
            | {"models": ["bigram"]},
            "mine": keys | {"path": "my.txt", "documents": "lines", "models": ["bigram", "ngram"]},
        },
        "tokenizers": {"bpe": {"kind": "bpe", "vocab_size": 300, "alphabet": "train"}, "char": {"kind": "char"}}
        | {"hub": {"kind": "pretrained", "hub": "a/b", "revision": "0" * 40}}
        | {"gpt2": {"kind": "pretrained", "tiktoken": "gpt2"}, "file": {"kind": "pretrained", "path": "tokenizer.json"}}
        | {"space": {"kind": "whitespace", "vocab_size": 300, "closed": True}},
        "models": models,
        "mixtures": {"mix": {"of": ["gpt", "mlp"], "weights": "fitted"}},
        "pretrained": {
            "hub": rest | {"hub": "a/b", "revision": "0" * 40, "window": 8, "stride": 4, "memory": 1.0},
            "folder": rest | {"path": "checkpoint"},
            "file": rest | {"gguf": "m.gguf", "sha256": "0" * 64},
            "ngrams": rest | {"arpa": "m.arpa", "tokenizer": "tokenizer.json"},
        },
        "scores": {
            "reported": {"path": "scores.jsonl", "corpus": "coined", "split": "test", "unit": "bits"}
            | {"title": "x", "source": "y"}
        },
        "sampling": Sampling().model_dump() | {"top_k": 5},
        "infill": Infill().model_dump(),
        "generation": Generation(length=8).model_dump(),
        "published": [
            figure
            | {"corpus": "coined", "model": "gpt", "split": "test", "measure": "perplexity", "value": 2.0}
            | {"tolerance": 0.1, "source": "x", "tokenizer": "bpe", "impossible": False},
            figure | {"source": "x", "claim": "y", "setup": "z", "because": "w", "impossible": True},
        ],
        **{"mirror": "m", "seeds": [0, 1], "estimation": True, "tensorboard": False, "compressors": ["gzip", "xz"]},
    }


def has_llama_cpp():
    return find_spec("llama_cpp") is not None


def _all_keys(record):
    known = {"smoothing": "add"} if "smoothing" in record.model_fields else {}
    entry = record.model_validate(known).model_dump()
    return {key: value for key, value in entry.items() if value is not None or key not in ("add", "discounts")}


def smaller(content, draws):
    """The same config with some of its corpora, tokenizers and models: read in a fraction of the time."""
    names = {key: list(content[key]) for key in ("corpora", "models")}
    chosen = {key: sorted(draws.choice(values, min(len(values), 3), replace=False)) for key, values in names.items()}
    below = [content["models"][name]["of"] for name in chosen["models"] if "of" in (content["models"][name] or {})]
    chosen["models"] += [name for name in below if name not in chosen["models"]]
    return override(content, {key: list(map(str, values)) for key, values in chosen.items()}, SECTIONS, [])


@dataclasses.dataclass
class Fuzz:
    """The folder that configs lie in, those to begin with, and the rules of the workflow."""

    folder: Path
    whole: list[dict]
    small: list[dict]
    rules: Rules


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    environment, here, arguments, path = dict(os.environ), Path.cwd(), sys.argv, list(sys.path)
    os.chdir(folder)
    sys.argv = ["snakemake"]
    Path("config.yaml").write_bytes(FILES[0].read_bytes())
    Path("runs").mkdir()
    Path("runs/tiny.yaml").write_bytes((PROJECT / "runs/tiny.yaml").read_bytes())
    whole = [every_key(folder), *map(load_yaml, FILES)]
    draws, small = np.random.default_rng(1), []
    while len(small) < 60:
        content = smaller(whole[len(small) % len(whole)], draws)
        if isinstance(read([], content), Run):
            small.append(content)
    rules = Rules()
    rules.jobs(read([], whole[0]))  # hashes the code of every job, which takes long and is remembered
    yield Fuzz(folder, whole, small, rules)
    os.chdir(here)
    sys.argv = arguments
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)


def test_the_config_to_begin_with_names_every_key(fuzz):
    content = fuzz.whole[0]
    assert isinstance(read([], content), Run), read([], content)
    assert set(content) == set(SECTIONS)
    for section, record in (
        *(("corpora", Corpus), ("mixtures", Mixture)),
        *(("pretrained", Pretrained), ("scores", ReportedScores)),
    ):
        assert {key for entry in content[section].values() for key in entry} == set(record.model_fields)
    assert set(content["corpora"]["coined"]["split"]) == set(Split.model_fields)
    assert set(content["infill"]) == set(Infill.model_fields)
    assert set(content["generation"]) == set(Generation.model_fields)
    assert set(content["sampling"]) == set(Sampling.model_fields) and set(Basics.model_fields) - {"name"} < set(content)
    for name, entry in content["models"].items():
        missing = set(MODEL_TYPES[name].model_fields) - set(entry)
        assert missing <= {"discounts", *EXECUTION} and {"type", "scoring"} < set(entry)


# ---------------------------------------------------------------- what must hold


def read(files, settings):
    """The run, or the message of its one refusal."""
    with at_most(SECONDS):
        try:
            return read_run(files, settings)
        except UserError as error:
            return must_be_readable(str(error), files)


def must_be_readable(message, files):
    """Lines without control characters, the first of which names the file or the setting; none is forged."""
    first, *others = message.split("\n")
    assert all(line.startswith("  ") and line.strip() for line in others), message
    assert not any(
        ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for line in (first, *others) for character in line
    )
    assert all(len(line) < 4000 for line in (first, *others)) and FORGED not in message
    assert first.startswith(("config", "--config", "text too short", *(shown(str(file)) for file in files))), message
    message.encode()
    return message


def must_be_makeable(run, rules):
    """Every job of a run with all that follows: sections that the jobs accept, paths of its own within its folders."""
    jobs = rules.jobs(run)
    folders = (f"results/{run.name}/", "downloads/", f"logs/{run.name}/", "logs/downloads/", f"resume/{run.name}/")
    owners = [(path, job) for job in jobs for path in (*map(str, job.outputs.values()), *job.logs)]
    owners += [(job.params["resume"], job) for job in jobs if "resume" in job.params]
    written = [path for path, _ in owners]
    assert len({path.lower() for path in written}) == len(written)
    assert len({(job.rule, *job.wildcards.items()) for job in jobs}) == len(jobs)
    for path in written:
        assert os.path.normpath(path) == path and path.startswith(folders) and max(map(len, path.split("/"))) < 256
    owner = dict(owners)
    for path, job in owners:  # a folder that a job writes holds no file of another job
        assert all(owner.get(str(parent), job) is job for parent in Path(path).parents)
    for job in jobs:
        must_be_accepted(job)
    names = [table["name"] for table in listed(run.sweeps)]
    assert len(set(names)) == len(names)
    assert len({*run.experiments()}) == len(run.experiments())
    assert {job.rule for job in jobs} >= {"prepare", "evaluate" if run.corpora else "summarize", "report", "verdict"}


def must_be_accepted(job):
    """A job's section is what its command takes, as JSON that every reader knows; what it needs are numbers."""
    if "section" in job.params:
        json.loads(job.params["section"], parse_constant=pytest.fail)
        _section_parser(job.rule, COMMANDS[job.rule].section)(job.params["section"])
    for key, need in job.needs.items():
        assert need is None or isinstance(need, str) or (isinstance(need, int) and need >= 0), (job.rule, key, need)


# ---------------------------------------------------------------- mutations


def flow(value):
    """Any value as YAML on one line."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join([f"{flow(key)}: {flow(below)}" for key, below in value.items()]) + "}"
    if isinstance(value, list):
        return "[" + ", ".join([flow(below) for below in value]) + "]"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        hidden = [character for character in set(text) if not character.isprintable()]
        return text.translate({ord(character): f"\\U{ord(character):08x}" for character in hidden})
    return json.dumps(value)


def at(content, path):
    for key in path:
        content = content[key]
    return content


def kind(value):
    """The type of a value as a reader of a config sees it."""
    if value is None or isinstance(value, bool):
        return str(type(value))
    return next((name for name, types in KINDS if isinstance(value, types)), "other")


KINDS = (("number", (int, float)), ("text", (str,)), ("list", (list,)), ("mapping", (dict,)))


class Mutation:
    """One change of a config's content; ``spellings`` are the contents that an accepted one may be equal to."""

    def __init__(self, content, donor, values, draws, of_program=False):
        self.content, self.draws, self.of_program = copy.deepcopy(content), draws, of_program
        paths = [path for path in positions(content) if path]
        self.path = paths[draws.integers(len(paths))]
        self.before = at(content, self.path)
        self.parent, self.key = at(self.content, self.path[:-1]), self.path[-1]
        self.must_be_refused, self.spellings = False, None
        of_mapping = ["value", "value", "value", "drop", "swap", "rename", "add", "double"]
        self.name = str(draws.choice(of_mapping if isinstance(self.parent, dict) else ["value", "drop", "swap"]))
        getattr(self, self.name)(donor, values)

    def value(self, donor, values):
        self._put(values[self.draws.integers(len(values))])

    def swap(self, donor, values):
        paths = list(positions(donor))
        self._put(copy.deepcopy(at(donor, paths[self.draws.integers(len(paths))])))

    def _put(self, new):
        self.parent[self.key] = new
        is_sweep = any(isinstance(value, dict) and "sweep" in value for value in (new, self.before))
        is_several = self.key in ONE_OR_SEVERAL and {kind(new), kind(self.before)} == {"number", "list"}
        is_null = self.key in NULL_IS_A_VALUE and new in (None, "", " ", "null", "~")
        if (
            kind(new) != kind(self.before)
            and self.before is not None
            and not (is_sweep or is_several or is_null or type(new) is Raw)
        ):
            self.spellings = [self._with(*spelling) for spelling in ((), ({},))]
            self.spellings += list(map(self._with, self._as_typed(new))) if self.of_program else []

    def _as_typed(self, new):
        """Text of a program is the value that YAML would make of it; a number is its text, one seed a list."""
        if isinstance(new, str):
            return [yaml.safe_load(new)] if new in ("", " ", "null", "~") else []
        is_number = isinstance(new, int) and not isinstance(new, bool) and new.bit_length() < 14_000
        return [str(new), [new]] if is_number else [[new]]

    def _with(self, *value):
        """The content with this value in place, or without the key."""
        content = copy.deepcopy(self.content_before())
        parent = at(content, self.path[:-1])
        if value:
            parent[self.key] = value[0]
        else:
            del parent[self.key]
        return content

    def content_before(self):
        content = copy.copy(self.content)
        parent = content
        for key in self.path[:-1]:
            parent[key] = copy.copy(parent[key])
            parent = parent[key]
        parent[self.key] = self.before
        return content

    def drop(self, *_):
        del self.parent[self.key]

    def rename(self, *_):
        new = NEAR[self.draws.integers(len(NEAR))](self.key)
        if new != self.key:
            self.parent[new] = self.parent.pop(self.key)
            self.must_be_refused = not self._is_name()

    def add(self, *_):
        self.parent[f"{self.key}s_"] = self.before
        self.must_be_refused = not self._is_name()

    def double(self, *_):
        self.parent[Raw(flow(self.key))] = self.before
        self.must_be_refused = True

    def _is_name(self):
        return len(self.path) == 2 and self.path[0] in NAMED


def must_be_another_spelling(mutation, run, reader):
    """An accepted value of another type is another way to write something, and not taken for something else."""
    plain = run.model_dump_json()
    others = [reader(content) for content in mutation.spellings]
    same = [other for other in others if isinstance(other, Run) and other.model_dump_json() == plain]
    assert same, (mutation.path, mutation.before, at(mutation.content, mutation.path))


def judged(fuzz, mutation, result, reader):
    """1 for an accepted config, which must be makeable; 0 for one that was refused."""
    if isinstance(result, str):
        return 0
    assert not mutation.must_be_refused, (mutation.name, mutation.path, result)
    if mutation.spellings is not None:
        must_be_another_spelling(mutation, result, reader)
    with at_most(SECONDS):
        must_be_makeable(result, fuzz.rules)
    return 1


def begin(fuzz, draws):
    """A config to begin with and another one to take pieces from; one in twenty is a whole one."""
    chosen = [(fuzz.whole if draws.random() < 0.05 else fuzz.small) for _ in range(2)]
    return tuple(contents[draws.integers(len(contents))] for contents in chosen)


# ---------------------------------------------------------------- the ways into the program


@pytest.mark.parametrize("count", COUNTS)
def test_hostile_files_are_one_line_or_a_run(fuzz, count):
    count, draws = count * 35 // 100, np.random.default_rng(count)
    path, values, accepted = fuzz.folder / "run.yaml", (*HOSTILE, *map(Raw, IN_FILES)), 0

    def reader(content):
        path.write_text(flow(content))
        return read([path], {})

    for number in range(count):
        mutation = Mutation(*begin(fuzz, draws), values, draws)
        result = reader(mutation.content)
        accepted += judged(fuzz, mutation, result, reader)
        if number % 50 == 0:
            reader(mutation.content)
            must_be_checked(path, result)
    assert count // 20 < accepted < count // 2


def must_be_checked(path, result):
    """``lmstages check`` says the same; of texts it may know more."""
    code = main(["check", str(path)])
    assert code == 1 if isinstance(result, str) else code in (0, 1)


@pytest.mark.parametrize("count", COUNTS)
def test_hostile_configs_of_another_program_are_one_line_or_a_run(fuzz, count):
    count, draws = count * 35 // 100, np.random.default_rng(count + 1)
    accepted = 0

    def reader(content):
        return read([], content)

    for _ in range(count):
        mutation = Mutation(*begin(fuzz, draws), (*HOSTILE, *FROM_PROGRAMS), draws, of_program=True)
        if mutation.name != "double":  # no mapping of a program has a key twice
            accepted += judged(fuzz, mutation, reader(mutation.content), reader)
    assert count // 20 < accepted < count // 2


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_text_of_a_config_is_one_line_or_a_run(fuzz, count):
    count, draws = count * 15 // 100, np.random.default_rng(count + 2)
    path, accepted = fuzz.folder / "run.yaml", 0
    texts = [yaml.safe_dump(content, sort_keys=False).encode() for content in fuzz.small]
    texts += [file.read_bytes() for file in FILES if file.stat().st_size < 4000]
    for _ in range(count):
        path.write_bytes(torn(texts[draws.integers(len(texts))], draws))
        result = read([path], {})
        if not isinstance(result, str):
            must_be_makeable(result, fuzz.rules)
            accepted += 1
    assert count // 20 < accepted < count * 2 // 3


def torn(text, draws):
    """Lines of a text cut, doubled, moved or indented; bytes flipped, put in or taken out; or the end missing."""
    lines, change = (
        text.splitlines(keepends=True),
        draws.choice(["cut", "double", "move", "indent", "flip", "put", "end"]),
    )
    first, second = (int(number) for number in draws.integers(len(lines), size=2))
    position = int(draws.integers(len(text)))
    if change == "cut":
        return b"".join(lines[: min(first, second)] + lines[max(first, second) :])
    if change in ("double", "move"):
        return b"".join(
            [*lines[:second], lines[first], *(lines[second:] if change == "double" else lines[second + 1 :])]
        )
    if change == "indent":
        return b"".join([*lines[:first], b" " * int(draws.integers(1, 5)) + lines[first], *lines[first + 1 :]])
    if change == "flip":
        flipped = bytes([text[position] ^ (1 << int(draws.integers(8)))])
        return text[:position] + flipped + text[position + 1 :]
    if change == "put":
        piece = str(draws.choice(IN_FILES)).encode()
        return text[:position] + piece + text[position:]
    return text[:position]


SET = (  # KEY.KEY=VALUE and less
    *("models.gpt.width=128", "sampling.count=2", "seeds=3", "models=[bigram]", "a", "=", "a=", ".=1", "a..b=1", "a.b"),
    *('models.gpt.width="8', "models.gpt.width='8", "models.gpt.width=\\", f"{'a.' * 3000}b=1", "sampling.prompt=null"),
    *(
        "sampling.temperature=1e400",
        "sampling.temperature=.nan",
        "sampling.prompt=\x1b[31m",
        "corpora=[]",
        "set=x",
        "run=x",
    ),
    *(
        "corpora.coined.count=[[[[",
        "corpora.coined=null",
        "models.../x=1",
        "sampling={count: 1, count: 2}",
        "mirror=\x07",
    ),
    *("sampling.count=!!int 3", "sampling.count=&a 3", 'sampling.prompt="\\UFFFFFFFF"', 'sampling.count="\\UFFFFFFFF"'),
)
PLAIN = (  # KEY=VALUE
    *("as=NAME", "as=../x", "as=", "as=figures", "as=x y", "mirror=", "mirror=/no/where", "mirror=~nobody", "run=tiny"),
    *("run=no", "run=../runs/tiny", "text=my.txt", "text=no.txt", "text=.", "text=", f"text={'x' * 300}", "text=a\0b"),
    *(
        "text=checkpoint",
        "documents=lines",
        "documents=x",
        "separator=",
        "separator=\x1b",
        "newlines=unix",
        "seeds=1e400",
    ),
    *("seeds=[0, 1]", "seeds=x", "seeds=", "estimation=true", "estimation=1", "estimation=nan", "compressors=[gzip]"),
    *(
        "models=[bigram, gpt]",
        "models=[]",
        "models=x",
        "models=[[a]]",
        "models={a: {b: }}",
        "models={gpt: {dropout: 1e400}}",
    ),
    *(
        "corpora=[coined]",
        "corpora=5",
        "tokenizers=[char, char]",
        "tokenizers={}",
        "sampling={count: 01}",
        "models={? [a] : b}",
    ),
    *(
        "mixtures=5",
        "published=5",
        "published=[5]",
        "pretrained=[]",
        f"models={'[' * 40}{']' * 40}",
        "nothing=1",
        "sweeps={}",
    ),
    *(
        "name=x",
        "published=[{source: 1e5, claim: yes}]",
        "models={bigram: {add: {sweep: [1, 2]}}}",
        "sampling={prompt: 1}",
    ),
)


@pytest.mark.parametrize("count", COUNTS)
def test_hostile_settings_are_one_line_or_a_run(fuzz, count):
    """As ``chosen_run`` of the Snakefile makes a run of ``--configfile`` and ``--config``."""
    count, draws = count * 15 // 100, np.random.default_rng(count + 3)
    accepted = 0
    for number in range(count):
        files = [fuzz.folder / "wide.yaml", fuzz.folder / "deep.yaml"][: draws.integers(3)]
        content, donor = begin(fuzz, draws)
        for file, part in zip(files, halves(content, len(files), draws), strict=False):
            file.write_text(flow(part))
        result = by_snakemake(fuzz.rules, files, settings(donor, draws))
        if not isinstance(result, str):
            with at_most(SECONDS):
                must_be_makeable(result, fuzz.rules)
            accepted += 1
        if number % 10 == 0:
            second_program(fuzz, content, donor, draws)
    assert count // 20 < accepted < count * 2 // 3


def halves(content, count, draws):
    """A config in two files, of which the later one holds some sections or, one time in three, changes of the first."""
    if count < 2:
        return [content]
    later = {key: content[key] for key in content if draws.random() < 0.3}
    first = {key: value for key, value in content.items() if key not in later}
    if draws.random() < 0.3:
        return [content, Mutation(content, content, HOSTILE, draws).content]
    return [first, later]


def settings(donor, draws):
    """Some of ``--config``: plain ones, ``set=``, or a section of another config, mutated."""
    chosen = []
    for _ in range(int(draws.integers(1, 3))):
        way = draws.random()
        if way < 0.5:
            chosen.append(PLAIN[draws.integers(len(PLAIN))])
        elif way < 0.75:
            chosen.append("set=" + " ".join(SET[draws.integers(len(SET))] for _ in range(draws.integers(1, 3))))
        else:
            key = list(donor)[draws.integers(len(donor))]
            mutated = Mutation({key: donor[key]}, donor, HOSTILE, draws).content
            chosen.append(f"{key}={flow(mutated.get(key))}")
    return chosen


def by_snakemake(rules, files, chosen):
    """The run that the Snakefile makes of files and settings, or the message of its refusal."""
    try:
        settings = parse_config(chosen)
    except (ValueError, TypeError, AttributeError, AssertionError):  # Snakemake's own refusal
        return "refused by Snakemake"
    os.environ["LMSTAGES_TYPED"] = json.dumps(typed_settings(["--config", *chosen]))
    with at_most(SECONDS):
        try:
            return rules.chosen(files, settings)[0]
        except WorkflowError as error:  # a file that Snakemake itself cannot read
            return str(error)
        except UserError as error:
            texts = [text.removeprefix("text=") for text in chosen if text.startswith("text=")]
            return must_be_readable(str(error), [*files, "runs/", *filter(None, texts)])


def second_program(fuzz, content, donor, draws):
    """The same by a workflow that hands over a config of its own making."""
    mutated = Mutation(content, donor, FROM_PROGRAMS, draws).content
    result = read([], {**mutated, "set": [SET[draws.integers(len(SET))]]})
    if not isinstance(result, str):
        must_be_makeable(result, fuzz.rules)


# ---------------------------------------------------------------- the judge itself


def test_the_jobs_are_those_of_snakemake(fuzz, tmp_path):
    run = read_run(PROJECT / "runs/tiny.yaml")
    plan = planned(tmp_path, "--configfile", str(PROJECT / "runs/tiny.yaml"))
    table = [line.split() for line in plan.splitlines()]
    by_rule = {row[0]: row[1] for row in table if len(row) == 2 and row[1].isdigit() and not row[0].endswith(":")}
    jobs = fuzz.rules.jobs(run)
    ours = {rule: str(sum(job.rule == rule for job in jobs)) for rule in {job.rule for job in jobs}}
    assert {rule: count for rule, count in by_rule.items() if rule not in ("all", "total")} == ours
    assert all(job.params["section"].replace("'", "'\"'\"'") in plan for job in jobs if "section" in job.params)


def test_a_key_that_is_passed_over_does_not_stay_unnoticed(fuzz):
    content, draws = fuzz.small[0], np.random.default_rng(0)
    mutations = [Mutation(content, content, HOSTILE, draws) for _ in range(50)]
    renamed = next(mutation for mutation in mutations if mutation.must_be_refused)
    with pytest.raises(AssertionError):
        judged(fuzz, renamed, read([], content), lambda _: "refused")


def test_a_value_that_is_taken_for_another_does_not_stay_unnoticed(fuzz):
    content, draws = fuzz.small[0], np.random.default_rng(0)
    mutations = [Mutation(content, content, HOSTILE, draws) for _ in range(50)]
    other = next(mutation for mutation in mutations if mutation.spellings)
    wrong = read([], content | {"seeds": [77]})
    with pytest.raises(AssertionError):
        judged(fuzz, other, wrong, lambda content: read([], content))


def test_two_files_with_one_name_do_not_stay_unnoticed(fuzz):
    run = read([], fuzz.small[0])
    corpus = next(iter(run.corpora.values()))
    for name in ("figures", "a/b", "..", "tables"):
        with pytest.raises((AssertionError, KeyError)):
            must_be_makeable(run.model_copy(update={"corpora": {name: corpus}}), fuzz.rules)


@pytest.mark.parametrize(
    "message", [f"config: {FORGED}", "config: \x1b[31m", "a trace\nof two lines", "config: \x9b1m"]
)
def test_a_message_that_commands_the_terminal_does_not_stay_unnoticed(message):
    with pytest.raises(AssertionError):
        must_be_readable(message, [])
