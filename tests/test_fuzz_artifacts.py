"""Damaged files of a finished run: every reader says so in one line, or gives what the undamaged file gives.

Two kinds of damage. Of the first, the record does not fit the file any more, or is another file's: no figure may
change. Of the second, the record was made to fit again, as only a person or another version can: what such a file
says of numbers cannot be known to be wrong, but its types, its shapes and whose it is are checked, and nothing ends in
a traceback. ``FUZZ_ARTIFACTS`` in the environment is the number of damages of every kind of file.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import at_most, damaged, outcome, positions, replaced

from lmstages.analyses import scores as analyses
from lmstages.analyses.facts import Probe, Samples
from lmstages.cli import main
from lmstages.config.jobs import Run
from lmstages.config.reading import read_run
from lmstages.core import artifacts
from lmstages.corpora.splits import SplitText
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.evaluation.facts import load_fit
from lmstages.playground.answers import Playground, Question
from lmstages.report.embedded import Figures
from lmstages.results import rows, summary
from lmstages.results.findings import Findings
from lmstages.results.frame import Results, read_results
from lmstages.results.inspections import Inspections
from lmstages.results.intervals import Text
from lmstages.results.verifying import verify
from lmstages.tokenizers import streams

COUNT = int(os.environ.get("FUZZ_ARTIFACTS", "10"))
DAMAGES = int(os.environ.get("FUZZ_DAMAGES", "6"))  # of every file that a command reads, of 15 kinds
COUNTS = [COUNT, pytest.param(300, marks=pytest.mark.slow)]
RUN = Path("results/quick")
CORPUS, TOKENS = RUN / "coined", RUN / "coined/char/tokens"
MODELS = ("bigram", "kneser_ney", "mlp", "llama")
FITTED = (*MODELS, "llama_q8")
TIMINGS = {"fit_seconds", "score_seconds"}
CONFIG = """
compressors: [gzip]
corpora: {{coined: {{count: 120, inspect: true, seed: {seed}}}}}
tokenizers: {{char: {{kind: char, alphabet: corpus}}}}
models:
  bigram:
  kneser_ney: {{order: 3}}
  mlp: {{window: 3, embedding: 4, hidden: 8, steps: 20, evaluate_every: 10}}
  llama: {{layers: 1, heads: 2, key_value_heads: 1, width: 32, hidden: 32, window: 8, row_length: 8, batch_size: 4,
    steps: 10, evaluate_every: 5, warmup_steps: 2}}
  llama_q8: {{of: llama}}
mixtures: {{both: {{of: [bigram, mlp]}}}}
scores: {{written: {{path: scores.jsonl, unit: nats}}}}
sampling: {{count: 1, length: 5, measured: 2}}
"""


def experiment(model: str) -> Path:
    return CORPUS / ("own" if model == "exported" else "char") / model / "seed0"


# ---------------------------------------------------------------- a finished run, command by command


def jobs(run: Run) -> dict[str, tuple[str, ...]]:
    """Every command of the run as its rule calls it, in an order in which each has its inputs."""
    text, tokens = ("--text", f"{CORPUS}/text"), ("--tokens", f"{TOKENS}")
    both = {"prepare": ("prepare", "--out", f"{CORPUS}/text", "--section", run.prepare_section("coined"))}
    layout = ("--layout", run.layout("coined"))
    both["tokenize"] = ("tokenize", *text, *layout, "--out", f"{TOKENS}", "--section", run.tokenize_section("char"))
    both["oracle"] = ("oracle", *text, "--out", f"{CORPUS}/oracle", "--section", run.oracle_section("coined"))
    for name, out in (("compress", "compressors.json"), ("contrast", "contrasts.json"), ("overlap", "")):
        section = getattr(run, f"{name}_section")("coined")
        both[name] = (name, *text, "--out", f"{CORPUS / out}", "--section", section)
    out = ("--out", f"{CORPUS}/reported/written", "--section", run.reported_section("written"))
    both["audit_scores"] = ("audit_scores", *text, *out)
    for model in FITTED:
        folder, base = experiment(model), ("--base", f"{experiment('llama')}/model.safetensors")
        out, of = ("--out", f"{folder}"), ("--model", f"{folder}/model.safetensors")
        section = ("--section", run.fit_section(model))
        derived = model == "llama_q8"
        both[f"fit {model}"] = (
            ("derive", *base, *tokens, *out, *section) if derived else ("fit", *tokens, *out, *section)
        )
        if derived:
            section = ("--section", run.splits_section("coined"))
            error = ("--out", f"{folder}/quantization_error.json")
            both["quantization_error"] = ("quantization_error", *of, *base, *tokens, *error, *section)
        section = ("--section", run.evaluate_section("coined", model))
        both[f"evaluate {model}"] = ("evaluate", *of, *tokens, *text, *out, *section)
        contrasts = ("--contrasts", f"{CORPUS}/contrasts.json", "--section", run.probe_section("coined", model))
        both[f"probe {model}"] = ("probe", *of, *tokens, *out, *contrasts)
    llama = f"{experiment('llama')}/model.safetensors"
    both["export"] = ("export", llama, "--to", "hf", "--out", "checkpoint")
    if run.pretrained:
        out = ("--out", f"{experiment('exported')}", "--section", run.pretrained_section("coined", "exported"))
        both["score_pretrained"] = ("score_pretrained", *text, *out)
    components = ("--components", *(f"{experiment(model)}" for model in ("bigram", "mlp")), *text)
    section = ("--section", run.mix_section("coined", "both"))
    both["mix"] = ("mix", *components, "--out", f"{experiment('both')}", *section)
    out = ("--out", f"{CORPUS}/analyses.json", "--section", run.analyse_section("coined"))
    both["analyse"] = ("analyse", "--corpus", f"{CORPUS}", *out)
    out = ("--out", f"{CORPUS}/char", "--section", run.inspect_section("coined"))
    both["inspect"] = ("inspect", *tokens, *out)
    both["summarize"] = ("summarize", "--out", f"{RUN}", "--section", run.summary_section())
    both["figures"] = ("figures", "--results", f"{RUN}", "--out", f"{RUN}/figures")
    both["report"] = ("report", "--results", f"{RUN}", "--out", f"{RUN}")
    both["verdict"] = ("verdict", "--results", f"{RUN}", "--out", f"{RUN}/verdict.txt")
    both["diff"] = ("diff", f"{RUN}", f"{RUN}")
    both["table"], both["verify"] = ("table", f"{RUN}"), ("verify", f"{RUN}")
    both["explain"] = ("explain", f"{experiment('mlp')}")
    both["score"] = ("score", f"{experiment('mlp')}", f"{CORPUS}/text/test.txt")
    return both


@contextmanager
def within(folder: Path):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


def made(folder: Path, seed: int) -> Path:
    folder.mkdir()
    with within(folder):
        Path("quick.yaml").write_text(CONFIG.format(seed=seed))
        Path("scores.jsonl").touch()
        done = []
        for name, command in jobs(read_run(Path("quick.yaml"))).items():
            assert main(list(command)) == 0, name
            done.append(name)
            if name == "prepare":
                write_scores(CORPUS / "text/test.txt")
            if name == "export":
                break
        Path("quick.yaml").write_text(CONFIG.format(seed=seed) + "pretrained: {exported: {path: checkpoint}}\n")
        for name, command in jobs(read_run(Path("quick.yaml"))).items():
            assert name in done or main(list(command)) == 0, name
    return folder


def write_scores(text: Path) -> None:
    """Scores made elsewhere, of every document of a text as one span."""
    spans = [{"start_byte": 0, "end_byte": len(line), "log_prob": -20} for line in text.read_bytes().splitlines(True)]
    lines = (json.dumps(span | {"document": document}) for document, span in enumerate(spans))
    Path("scores.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run; what a test damages it restores."""
    return made(tmp_path_factory.mktemp("finished") / "one", 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same run on another text."""
    return made(tmp_path_factory.mktemp("finished") / "other", 1)


@pytest.fixture
def project(finished):
    """The finished run as the working folder."""
    with within(finished):
        yield finished


# ---------------------------------------------------------------- damage


class Files:
    """A file and its record, which are put back as they were, times too."""

    def __init__(self, path: Path) -> None:
        self.path, self.record = path, artifacts.sidecar(path)
        self.content, self.recorded = path.read_bytes(), self.record.read_bytes()
        self.times = {file: file.stat() for file in (path, self.record)}

    def write(self, content: bytes, record: bytes | None = None) -> None:
        """Another content, and perhaps another record, with the old times."""
        self.remove()
        self.path.write_bytes(content)
        self.record.write_bytes(self.recorded if record is None else record)
        for file, stat in self.times.items():
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def remove(self) -> None:
        for file in (self.path, self.record):
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)

    def restore(self) -> None:
        self.write(self.content)

    def fitting(self, content: bytes) -> bytes:
        """A record with the hash of another content."""
        changed = json.loads(self.recorded) | {"sha256": _sha256(content), "bytes": len(content)}
        return sealed(changed)


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def sealed(record: Any) -> bytes:
    """A record as its writer would leave it; what no writer can seal stays as it is."""
    with suppress(ValueError, TypeError, AttributeError):
        record = {key: value for key, value in record.items() if key != artifacts.SEAL}
        record[artifacts.SEAL] = artifacts._seal(record)
    return json.dumps(record).encode()


@contextmanager
def restored(path: Path):
    """A file that a test may damage."""
    files = Files(path)
    try:
        yield files
    finally:
        files.restore()


def comparable(value: Any) -> Any:
    """What a reader returned, as values that can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return comparable(vars(value))
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return repr(value)


# ---------------------------------------------------------------- readers of each kind of file


def scores_of_model(model: str) -> Any:
    path = experiment(model) / "model.safetensors"
    facts_of_fit(path, TOKENS)
    fitted, tokenizer = load_fitted(path, TOKENS)
    return fitted.score(np.arange(10)[None] % fitted.vocab_size), tokenizer.to_json(), fitted.parameters()


def of_experiment(model: str) -> Any:
    return [asdict(scored.row) for scored in rows.model_rows([experiment(model)], [0], ["test"], FACTS[model])]


FACTS: dict[str, Any] = {}


def of_reported() -> Any:
    return asdict(rows.reported_row(CORPUS / "reported/written", "test", FACTS["written"]).row)


def of_text() -> Any:
    return list(SplitText.open(CORPUS / "text", "test").texts()), Text.open(CORPUS / "text", "test")


def of_corpus() -> Any:
    return list(summary._corpora(RUN, "coined", ["test"], {"analyses": True}))


def findings() -> Any:
    found = Findings()
    models = [model for model in FACTS if model != "written"]
    results = [
        scored.row for model in models for scored in rows.model_rows([experiment(model)], [0], ["test"], FACTS[model])
    ]
    found.add(RUN, "coined", {row.key: row for row in results})
    return found


def inspections() -> Any:
    inspected = Inspections()
    inspected.add(RUN, "coined", "char", FACTS)
    return inspected


def verified_run() -> Any:
    return list(verify(RUN))


def of_tables() -> Any:
    results = Results.open(RUN)
    return results.facts, {
        name: comparable(results.records(name)) for name in ("results", "corpora", "seeds", "curves")
    }


def played() -> Any:
    playground = Playground(RUN)
    return playground.models(), playground.answer(Question(model="coined/char/mlp/seed0", prompt="a", length=5))


READERS: dict[str, Callable[[], Any]] = {
    "coined/text/corpus.json": of_corpus,
    "coined/text/test.txt": of_text,
    "coined/text/test.documents.safetensors": of_text,
    "coined/char/tokens/tokenizer.json": lambda: (streams.read_tokens(TOKENS, "test"), scores_of_model("bigram")),
    "coined/char/tokens/test.npy": lambda: streams.read_tokens(TOKENS, "test"),
    "coined/char/tokens/test.bytes.npy": lambda: streams.read_tokens(TOKENS, "test"),
    "coined/char/tokens/test.starts.npy": lambda: streams.read_tokens(TOKENS, "test"),
    **{f"coined/char/{model}/seed0/model.safetensors": lambda model=model: scores_of_model(model) for model in FITTED},
    "coined/char/mlp/seed0/fit.json": lambda: (of_experiment("mlp"), load_fit(experiment("mlp"), ["curve"])),
    "coined/char/llama_q8/seed0/fit.json": lambda: of_experiment("llama_q8"),
    "coined/char/both/seed0/fit.json": lambda: of_experiment("both"),
    "coined/own/exported/seed0/fit.json": lambda: of_experiment("exported"),
    "coined/char/mlp/seed0/scores.safetensors": lambda: of_experiment("mlp"),
    "coined/char/both/seed0/scores.safetensors": lambda: of_experiment("both"),
    "coined/char/mlp/seed0/evaluation.json": lambda: (of_experiment("mlp"), Results.open(RUN).samples(ROWS["mlp"])),
    "coined/char/both/seed0/evaluation.json": lambda: of_experiment("both"),
    "coined/char/llama_q8/seed0/quantization_error.json": lambda: of_experiment("llama_q8"),
    "coined/char/mlp/seed0/samples.json": lambda: probed("mlp"),
    "coined/char/mlp/seed0/probe.json": lambda: probed("mlp"),
    "coined/oracle/oracle.json": of_corpus,
    "coined/oracle/scores.safetensors": lambda: [asdict(scored.row) for scored in rows.oracle_rows(CORPUS, ["test"])],
    "coined/reported/written/reported.json": of_reported,
    "coined/reported/written/scores.safetensors": of_reported,
    "coined/compressors.json": lambda: compressed(),
    "coined/contrasts.json": lambda: analyses._contrasts(CORPUS / "contrasts.json", ["test"]),
    "coined/overlap.json": lambda: analyses._overlap(CORPUS, ["test"]),
    "coined/overlap.safetensors": lambda: analyses._overlap(CORPUS, ["test"]),
    "coined/analyses.json": findings,
    "coined/transfer.safetensors": findings,
    "coined/char/inspection.json": inspections,
    "run.json": of_tables,
    "results.parquet": lambda: (
        of_tables(),
        read_results(RUN).to_dict(),
        read_results(RUN / "results.parquet").to_dict(),
    ),
    "tables/curves.parquet": of_tables,
    "figures/index.json": lambda: Figures.open(RUN / "figures"),
    "figures/ladder/coined.test.svg": lambda: Figures.open(RUN / "figures"),
}
VERIFIED = ("coined/char/inspection.safetensors", "figures/ladder/coined.test.png", "figures/ladder/coined.test.pdf")
VERIFIED += (
    "results.csv",
    "report.html",
    "samples.md",
    "table.md",
    "table.tex",
    "verdict.txt",
    "diff/quick/changes.md",
)
READERS |= dict.fromkeys(VERIFIED, verified_run)
ROWS: dict[str, Any] = {}


def probed(model: str) -> Any:
    paths = [experiment(model) / name for name in ("samples.json", "probe.json")]
    content = [artifacts.load_json(*pair) for pair in zip(paths, (Samples, Probe), strict=True)]
    artifacts.must_be_made_together(*paths)
    artifacts.must_be_current(paths[0])
    return content


def compressed() -> Any:
    facts = json.loads((CORPUS / "text/corpus.json").read_text())
    return [asdict(scored.row) for scored in rows.compressor_rows(CORPUS, facts)]


@pytest.fixture
def reading(project):
    """The facts of the ladder, and the rows of the results, that readers need besides their file."""
    FACTS.update(json.loads(read_run(Path("quick.yaml")).summary_section())["models"])
    ROWS.update({row.model: row for row in Results.open(RUN).rows})
    return project


def same(reader: Callable[[], Any], expected: Any) -> bool:
    """Whether a reader refuses in one line, or returns what it did of the undamaged file; True where it refuses."""
    result = outcome(lambda: [comparable(reader())])
    assert result in (None, [expected])
    return result is None


# Damage that the record shows


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("count", COUNTS)
def test_damaged_bytes_are_one_line_or_change_nothing(reading, name, count):
    reader, draws, refused = READERS[name], np.random.default_rng(0), 0
    with restored(RUN / name) as files:
        expected = comparable(reader())
        for trial in range(count if name not in VERIFIED else -(-count // 10)):
            if trial % 4:
                files.write(damaged(files.content, draws, 0, len(files.content))[0])
            else:
                files.write(files.content, damaged(files.recorded, draws, 0, len(files.recorded))[0])
            refused += same(reader, expected)
    assert refused > trial * 3 // 4
    assert comparable(reader()) == expected


# Damage that the record does not show


def redrawn(files: Files, draws: np.random.Generator) -> bytes:
    """Another content of a file: a value of JSON replaced, or bytes of what says how the rest is to be read."""
    content = files.content
    if files.path.suffix == ".json":
        paths = list(positions(json.loads(content)))
        return json.dumps(replaced(json.loads(content), paths[draws.integers(len(paths))], draws)).encode()
    heads = {".safetensors": 8 + int.from_bytes(content[:8], "little"), ".npy": artifacts.NPY_HEADER}
    begin = max(0, len(content) - 4000) if files.path.suffix == ".parquet" else 0
    return damaged(content, draws, begin, heads.get(files.path.suffix, len(content)))[0]


@pytest.mark.parametrize("name", [name for name in READERS if name not in VERIFIED])
@pytest.mark.parametrize("count", COUNTS)
def test_another_content_with_a_record_that_fits_is_never_a_traceback(reading, name, count):
    reader, draws, refused = READERS[name], np.random.default_rng(1), 0
    with restored(RUN / name) as files:
        for trial in range(count):
            if trial % 4:
                content = redrawn(files, draws)
                files.write(content, files.fitting(content))
            else:
                record = json.loads(files.recorded)
                paths = list(positions(record))
                files.write(files.content, sealed(replaced(record, paths[draws.integers(len(paths))], draws)))
            refused += outcome(lambda: [reader()]) is None
    assert refused > 0


# Every command, with every kind of damage to every kind of file it reads


def shown_in_one_line(capsys, command) -> tuple[int, str]:
    """Exit code and last line of a command; asserts that a refusal is one line and no traceback."""
    capsys.readouterr()
    with at_most(60):
        code = main(list(command))
    out, error = capsys.readouterr()
    assert "Traceback" not in error and "bug of lmstages" not in error
    assert code in (0, 1) and (code == 0 or error.splitlines()[-1].startswith("lmstages: error: "))
    assert all(line.isprintable() for line in (out + error).splitlines())
    return code, error.splitlines()[-1] if code else out


def tree() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(RUN.rglob("*")) if path.is_file()}


def without_timings(files: dict[str, bytes]) -> dict[str, Any]:
    return {name: _stripped(name, content, files) for name, content in files.items()}


def _stripped(name: str, content: bytes, files: dict[str, bytes]) -> Any:
    path = Path(name)
    if path.suffix != ".json":
        return content
    if path.parent.name != artifacts.RECORDS:
        return _timeless(json.loads(content))
    beside = files.get(str(path.parents[1] / path.stem), b"")
    timed = any(timing.encode() in beside for timing in TIMINGS)
    return json.loads(content)["made"] if timed else content


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in TIMINGS}
    return [_timeless(item) for item in content] if isinstance(content, list) else content


MLP, TEXT = "coined/char/mlp/seed0", ("coined/text/test.txt", "coined/text/test.documents.safetensors")
STREAM = tuple(f"coined/char/tokens/test.{name}" for name in ("npy", "bytes.npy", "starts.npy"))
FIT = (f"{MLP}/model.safetensors", f"{MLP}/fit.json")
SCORED = (f"{MLP}/scores.safetensors", f"{MLP}/evaluation.json")
TABLES = ("results.parquet", "tables/curves.parquet", "run.json")
READ_BY = {
    "tokenize": TEXT,
    "oracle": TEXT,
    "compress": TEXT[:1],
    "audit_scores": TEXT,
    "overlap": TEXT,
    "contrast": TEXT,
    "derive": ("coined/char/llama/seed0/model.safetensors", "coined/char/llama/seed0/fit.json"),
    "quantization_error": ("coined/char/llama_q8/seed0/model.safetensors", "coined/char/llama/seed0/model.safetensors"),
    "evaluate mlp": (*FIT, *STREAM, *TEXT, "coined/char/tokens/tokenizer.json", "coined/char/tokens/train.npy"),
    "probe mlp": (
        *FIT,
        "coined/char/tokens/train.starts.npy",
        "coined/char/tokens/tokenizer.json",
        "coined/contrasts.json",
    ),
    "mix": (f"{MLP}/fit.json", *SCORED, TEXT[0]),
    "analyse": (
        *(*SCORED, f"{MLP}/samples.json", f"{MLP}/probe.json", "coined/overlap.json", "coined/overlap.safetensors"),
        *("coined/contrasts.json", "coined/oracle/scores.safetensors", *TEXT),
    ),
    "inspect": (*FIT, "coined/char/tokens/train.npy", STREAM[0], "coined/char/tokens/tokenizer.json"),
    "summarize": (
        *(FIT[1], *SCORED, "coined/char/both/seed0/scores.safetensors", "coined/own/exported/seed0/fit.json"),
        *("coined/char/llama_q8/seed0/quantization_error.json", "coined/oracle/oracle.json", "coined/compressors.json"),
        *("coined/oracle/scores.safetensors", "coined/analyses.json", "coined/transfer.safetensors", *TEXT),
        *("coined/char/inspection.json", "coined/text/corpus.json"),
        *("coined/reported/written/reported.json", "coined/reported/written/scores.safetensors"),
    ),
    "figures": TABLES,
    "report": (
        TABLES[0],
        "tables/corpora.parquet",
        TABLES[2],
        "figures/index.json",
        "figures/ladder/coined.test.svg",
        SCORED[1],
    ),
    "verdict": (TABLES[0], TABLES[2]),
    "table": (TABLES[0], TABLES[2]),
    "diff": (TABLES[0], TABLES[2], SCORED[0], *TEXT),
    "explain": (*FIT, *SCORED, TABLES[0]),
    "verify": (*FIT, *SCORED, *STREAM, *TEXT, *TABLES, "report.html", "figures/index.json"),
    "score": (
        *(*FIT, SCORED[1], "coined/char/tokens/tokenizer.json", "coined/char/tokens/train.npy"),
        *("coined/text/train.txt", "coined/text/train.documents.safetensors"),
    ),
    "export": ("coined/char/llama/seed0/model.safetensors", "coined/char/tokens/tokenizer.json"),
}
CASES = [(command, name) for command, names in READ_BY.items() for name in names]
OF_THE_SAME_KIND = {f"{MLP}/": "coined/char/bigram/seed0/", "coined/char/llama/": "coined/char/llama_q8/"}
OF_THE_SAME_KIND |= {"tokens/test": "tokens/valid", "text/test": "text/valid", "tables/curves": "tables/seeds"}
OF_THE_SAME_KIND |= {"figures/ladder/coined.test.svg": "figures/fit_time/coined.test.svg"}


def another_place(name: str) -> Path | None:
    """A file of the same kind that lies elsewhere in the run."""
    for part, other in OF_THE_SAME_KIND.items():
        if part in name and (RUN / name.replace(part, other)).is_file():
            return RUN / name.replace(part, other)
    return None


def flipped(content: bytes, bit: int) -> bytes:
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


def damages(files: Files, other: Path, draws: np.random.Generator):
    """A name for each damage, and a function that does it; what keeps the content is ``harmless``."""
    path, content = files.path, files.content
    record = json.loads(files.recorded)
    yield "a bit", lambda: files.write(flipped(content, int(draws.integers(8 * len(content)))))
    yield "cut", lambda: files.write(content[: len(content) // 2])
    yield "empty", lambda: files.write(b"")
    yield "doubled", lambda: files.write(content * 2)
    yield "gone", files.remove
    yield "no record", lambda: files.record.unlink()
    yield "an empty record", lambda: files.write(content, b"")
    yield "a record of another hash", lambda: files.write(content, sealed(record | {"sha256": "0" * 64}))
    yield "another version", lambda: files.write(content, sealed({"sha256": record["sha256"]}))
    yield "a folder", lambda: (path.unlink(), path.mkdir())
    yield "a link to nothing", lambda: (path.unlink(), path.symlink_to("nothing"))
    yield "a link to itself", lambda: (path.unlink(), path.symlink_to(path.name))
    yield "a pipe", lambda: (path.unlink(), os.mkfifo(path))
    if (elsewhere := another_place(str(path.relative_to(RUN)))) is not None:
        sources = (elsewhere.read_bytes(), artifacts.sidecar(elsewhere).read_bytes())
        yield "another file", lambda: files.write(*sources)
    if other.is_file() and other.read_bytes() != content:
        foreign = (other.read_bytes(), artifacts.sidecar(other).read_bytes())
        yield "another run's file", lambda: files.write(*foreign)


@pytest.mark.parametrize("command", [pytest.param(name, marks=pytest.mark.slow) for name in READ_BY])
def test_every_command_refuses_damage_or_does_as_if_there_were_none(reading, other, capsys, command):
    arguments, draws = jobs(read_run(Path("quick.yaml")))[BASES.get(command, command)], np.random.default_rng(2)
    before = tree()
    expected, code = without_timings(before), None
    for name in READ_BY[command]:
        files = Files(RUN / name)
        kinds = list(damages(files, other / RUN / name, draws))
        for index in draws.permutation(len(kinds))[:DAMAGES]:
            damage, do = kinds[index]
            do()
            damaged_tree = tree()
            code, shown = shown_in_one_line(capsys, arguments)
            after = tree()
            files.restore()
            if code:
                assert changed(damaged_tree, after, name) == set(), (name, damage, shown)
                folders = (f"{RUN}: ", f"{(RUN / name).parent}: ")
                assert any(part in shown for part in (Path(name).name, *folders)), (name, damage, shown)
            else:
                left = without_timings({**after, **{key: before[key] for key in own(name) if key in before}})
                assert left == expected, (name, damage)
                detected = (command, name) in UNREAD or (command == "explain" and "DAMAGED" in shown)
                assert detected or damage not in ("a bit", "cut", "doubled", "empty"), (name, damage)
            put_back(before)
    assert tree() == before


BASES = {"derive": "fit llama_q8"}
UNREAD = {("evaluate mlp", "coined/char/tokens/train.npy"), ("analyse", f"{MLP}/evaluation.json")}  # but for its record
UNREAD |= {("score", "coined/char/tokens/train.npy")}


def own(name: str) -> tuple[str, str]:
    """A file and its record."""
    return str(RUN / name), str(artifacts.sidecar(RUN / name))


def changed(before: dict[str, bytes], after: dict[str, bytes], name: str) -> set[str]:
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def put_back(files: dict[str, bytes]) -> None:
    """The run's folder as it was."""
    now = tree()
    for name in now.keys() - files.keys():
        Path(name).unlink()
    for name, content in files.items():
        if now.get(name) != content:
            Path(name).unlink(missing_ok=True)
            Path(name).write_bytes(content)
