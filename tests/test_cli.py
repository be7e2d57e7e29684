"""The command line: what every command does, and that bad input is one line, in the terminal and in the log."""

import argparse
import errno
import io
import json
import logging
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import Field

from lmstages import cli
from lmstages.cli import COMMANDS, main, parser
from lmstages.config import descriptions
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.ladder import LADDER, MODEL_TYPES
from lmstages.config.reading import read_run
from lmstages.config.sections import to_section
from lmstages.core import artifacts
from lmstages.core.progress import log_to
from lmstages.corpora.splits import NAMES
from lmstages.evaluation import score_files
from lmstages.results.explaining import input_path

PROJECT = Path(__file__).resolve().parents[1]
CONFIG = """
corpora: {names: {path: names.txt, documents: lines}}
tokenizers: {char: {kind: char}}
models:
  bigram:
  mlp: {window: 2, embedding: 4, hidden: 8, steps: 40, evaluate_every: 20}
  wild: {type: mlp, window: 2, embedding: 4, hidden: 8, steps: 40, learning_rate: 1e4, weight_decay: 10, clip: 0}
sampling: {count: 2, length: 10, prompt: a}
"""
EXPECTED = ["names/char/bigram/seed0", "names/char/mlp/seed0", "names/char/wild/seed0"]


def prepared(folder):
    """A folder with a config, its text, and the splits and tokens of it, made by the commands themselves."""
    os.chdir(folder)
    letters = np.random.default_rng(0).choice(list("abcdef"), (300, 5))
    Path("names.txt").write_text("".join(f"{''.join(row)}\n" for row in letters))
    Path("run.yaml").write_text(CONFIG)
    run = read_run(Path("run.yaml"))
    corpus, tokenizer = to_section(run.corpora["names"]), to_section(run.tokenizers["char"])
    results = Path("results/names")
    assert call("prepare", "--raw", "names.txt", "--out", results / "text", "--section", corpus) == 0
    tokens = ["--text", results / "text", "--layout", "lines", "--out", results / "char" / "tokens"]
    assert call("tokenize", *tokens, "--section", tokenizer) == 0
    return run, results


def call(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The run, and the folder with its text and tokens; the working folder is a temporary one."""
    monkeypatch.chdir(tmp_path)
    return prepared(tmp_path)


@pytest.fixture
def fit(stage):
    """A model's name -> its folder and the exit code of the fit."""
    run, results = stage

    def fitted(model, out="seed0", *more):
        folder = results / "char" / model / out
        code = call(
            "fit", "--tokens", results / "char/tokens", "--out", folder, "--section", run.fit_section(model), *more
        )
        return folder, code

    return fitted


@pytest.fixture
def evaluate(stage):
    run, results = stage

    def evaluated(model, folder, *more):
        inputs = [
            "--model",
            folder / "model.safetensors",
            "--tokens",
            results / "char/tokens",
            "--text",
            results / "text",
        ]
        return call("evaluate", *inputs, "--out", folder, "--section", run.evaluate_section("names", model), *more)

    return evaluated


@pytest.fixture
def refusal(capsys, tmp_path):
    """Arguments of a command -> its error message; checks that it is one line, on stderr and in the log, and exit 1."""

    def message_of(*arguments):
        capsys.readouterr()
        log = tmp_path / "log" / "job.log"
        assert call(*arguments, *([] if arguments[0] == "check" else ["--log", log])) == 1
        out, err = capsys.readouterr()
        line = err.splitlines()[-1]
        assert line.startswith("lmstages: error: ") and "Traceback" not in err and out == ""
        assert arguments[0] == "check" or log.read_text().splitlines()[-1] == line
        return line.removeprefix("lmstages: error: ")

    return message_of


# A run, command by command


def test_check_prints_the_experiments(stage, capsys):
    assert call("check", "run.yaml") == 0
    assert capsys.readouterr().out.splitlines() == EXPECTED


def by_hand(run):
    """The section of ``summarize`` without the analyses, which no fit and no score waits for."""
    return json.dumps(json.loads(run.summary_section()) | {"analyses": False})


def test_a_run_from_text_to_table(stage, fit, evaluate, capsys):
    run, _ = stage
    assert [evaluate(model, fit(model)[0]) for model in ("bigram", "mlp", "wild")] == [0, 0, 0]
    section = by_hand(run)
    assert call("summarize", "--out", "results", "--section", section) == 0
    assert call("figures", "--results", "results", "--out", "results/figures") == 0
    assert call("report", "--results", "results", "--out", "results") == 0
    assert {"results.csv", "table.md", "samples.md", "report.html"} <= set(os.listdir("results"))
    capsys.readouterr()
    assert call("table", "results") == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("Bigram", "MLP", "MLP (wild)", "report: results/report.html"))
    assert "failed: " in table


def test_a_fit_that_diverges_is_a_result_that_says_why(fit, evaluate):
    folder, code = fit("wild", "seed0", "--log", "fit.log")
    status = artifacts.load_json(folder / "fit.json")["status"]
    assert code == 0 and status.startswith("failed: model mlp: the training loss is not a number from step ")
    assert status.endswith("lower learning_rate (now 10000) or clip (now 0)")
    assert f"lmstages: error: {status.removeprefix('failed: ')}" in Path("fit.log").read_text().splitlines()
    assert evaluate("wild", folder) == 0 and artifacts.load_json(folder / "evaluation.json")["status"] == status


def test_a_verdict_is_an_error_that_names_the_failed_row(stage, fit, evaluate, refusal):
    run, _ = stage
    assert [evaluate(model, fit(model)[0]) for model in ("bigram", "mlp", "wild")] == [0, 0, 0]
    call("summarize", "--out", "results", "--section", by_hand(run))
    message = refusal("verdict", "--results", "results", "--out", "results/verdict.txt")
    assert "1 of 3 rows failed: names/char/wild: failed: model mlp: the training loss is not a number" in message
    assert not Path("results/verdict.txt").exists()


@pytest.mark.parametrize("model", ["bigram", "mlp"])
def test_the_same_fit_twice_is_the_same_file(fit, model):
    one, other = fit(model, "a")[0], fit(model, "b")[0]
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    facts = [artifacts.load_json(folder / "fit.json") for folder in (one, other)]
    assert {**facts[0], "fit_seconds": 0} == {**facts[1], "fit_seconds": 0}


def test_the_seed_of_a_fit_matters(fit):
    one, other = fit("mlp", "a")[0], fit("mlp", "b", "--seed", "1")[0]
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_samples_begin_with_the_prompt(fit, evaluate):
    folder, _ = fit("bigram")
    assert evaluate("bigram", folder) == 0
    samples = artifacts.load_json(folder / "evaluation.json")["samples"]
    assert len(samples) == 2 and {sample["temperature"] for sample in samples} == {1.0}
    assert all(
        text[0] == "a" and "\n" not in text and len(text) <= 11 for text in (sample["text"] for sample in samples)
    )


def test_the_scores_cover_the_test_text(stage, fit, evaluate):
    folder, _ = fit("bigram")
    assert evaluate("bigram", folder) == 0
    scores, text = (
        score_files.load_scores(folder / "scores.safetensors")["test"],
        Path("results/names/text/test.txt").read_bytes(),
    )
    assert scores.lengths.sum() == scores.characters == len(text) and scores.documents.max() + 1 == text.count(b"\n")
    assert (scores.log_probs < 0).all()


def test_a_file_has_a_record_of_what_made_it(fit):
    folder, _ = fit("bigram", "seed0", "--code", "abc")
    made = artifacts.made_of(folder / "model.safetensors")["made"]
    train = artifacts.made_of(Path("results/names/char/tokens/train.npy"))["sha256"]
    assert made["command"] == "fit" and made["code"] == "abc" and made["inputs"]["train.npy"] == train
    assert made["section"]["type"] == "bigram"


# Bad input


def test_a_missing_token_folder_is_an_error(stage, refusal):
    section = stage[0].fit_section("bigram")
    message = refusal("fit", "--tokens", "none", "--out", "x", "--section", section)
    assert message.startswith("none/train.npy: no such file; run snakemake to make it")


def test_a_missing_text_is_an_error(stage, refusal):
    section = to_section(stage[0].tokenizers["char"])
    message = refusal("tokenize", "--text", "none", "--out", "x", "--section", section)
    assert message.startswith("none/train.txt: no such file")
    message = refusal("oracle", "--text", "none", "--out", "x", "--section", '{"source": "coined", "splits": ["test"]}')
    assert message.startswith("none/test.txt: no such file")


def test_a_missing_file_of_the_user_is_an_error(stage, refusal):
    section = to_section(stage[0].corpora["names"])
    message = refusal("prepare", "--raw", "nmes.txt", "--out", "x", "--section", section)
    assert message == "nmes.txt: no such file (did you mean 'names.txt'?); give the path of a text file"


@pytest.mark.parametrize("arguments", [("report", "--results", "none", "--out", "x"), ("table", "none")])
def test_a_folder_without_results_is_an_error(refusal, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    message = refusal(*arguments)
    assert message.startswith("none: no such folder; a finished run's folder is results/RUN; run snakemake to make it")


def test_a_missing_experiment_is_an_error(stage, refusal):
    section = json.dumps(json.loads(stage[0].summary_section()) | {"analyses": False})
    message = refusal("summarize", "--out", "results", "--section", section)
    assert message == "results/names/char/bigram/seed0/fit.json: no such file; run snakemake to make it"


def test_a_missing_config_is_an_error(stage, refusal):
    assert refusal("check", "rum.yaml").startswith("rum.yaml: cannot be read (No such file or directory)")


def test_several_mistakes_of_a_config_are_reported_together(stage, capsys):
    Path("run.yaml").write_text(CONFIG + "smapling: 3\nseeds: x\n")
    assert call("check", "run.yaml") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "lmstages: error: run.yaml: cannot be used:" and len(lines) == 3


@pytest.mark.parametrize("name", ["model.safetensors", ".made/model.safetensors.json", "fit.json"])
def test_a_corrupted_model_is_an_error(fit, refusal, stage, name):
    run, results = stage
    folder, _ = fit("bigram")
    (folder / name).write_bytes((folder / name).read_bytes()[:-2])
    inputs = ["--model", folder / "model.safetensors", "--tokens", results / "char/tokens", "--text", results / "text"]
    message = refusal("evaluate", *inputs, "--out", folder, "--section", run.evaluate_section("names", "bigram"))
    assert (
        message.startswith(f"{folder / name}: ")
        and "run snakemake again: rm results/names/char/bigram/seed0/" in message
    )


@pytest.mark.parametrize("split", NAMES)
def test_a_flipped_bit_in_the_tokens_is_an_error(stage, refusal, split):
    run, results = stage
    path = results / "char" / "tokens" / f"{split}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if split == "test":
        folder = results / "char" / "bigram" / "seed0"
        call("fit", "--tokens", path.parent, "--out", folder, "--section", run.fit_section("bigram"))
        inputs = ["--model", folder / "model.safetensors", "--tokens", path.parent, "--text", results / "text"]
        message = refusal("evaluate", *inputs, "--out", folder, "--section", run.evaluate_section("names", "bigram"))
    else:
        message = refusal("fit", "--tokens", path.parent, "--out", "x", "--section", run.fit_section("bigram"))
    assert message.startswith(f"{path}: its sha256 is ")


def test_an_output_that_cannot_be_written_is_an_error(stage, refusal):
    run, results = stage
    message = refusal(
        "fit", "--tokens", results / "char/tokens", "--out", "names.txt", "--section", run.fit_section("bigram")
    )
    assert message.startswith("names.txt/model.safetensors: cannot be written (its folder is a file)")


def test_a_log_that_cannot_be_written_is_an_error(stage, capsys):
    assert call("table", "results", "--log", "names.txt/job.log") == 1
    message = capsys.readouterr().err.splitlines()
    assert message == [
        "lmstages: error: names.txt/job.log: no log can be written here (File exists); give another --log"
    ]


def test_a_section_that_a_person_got_wrong_is_an_error(stage, refusal):
    tokens = ["--tokens", stage[1] / "char/tokens", "--out", "x"]
    message = refusal("fit", *tokens, "--section", '{"type": "bigran", "hyperparameters": {}}')
    assert message.startswith("--section: unknown model 'bigran' (did you mean 'bigram'?)")
    message = refusal("fit", *tokens, "--section", '{"type": "ngram", "hyperparameters": {"order": 0}}')
    assert message.startswith("--section: order: 0 found; input should be greater than or equal to 1")


@pytest.mark.parametrize(
    ("section", "message"), [("{", "is no JSON"), ("[]", "lacks type, hyperparameters"), ("3", "lacks")]
)
def test_a_section_that_is_none_is_a_usage_error(section, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        call("fit", "--tokens", "x", "--out", "x", "--section", section)
    assert f"argument --section: {message}" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(stage, capsys, monkeypatch):
    monkeypatch.setattr("lmstages.results.summary.summarize", None)
    assert call("summarize", "--out", "x", "--section", stage[0].summary_section()) == 1
    message = capsys.readouterr().err
    assert "this is a bug of lmstages, not of its input" in message and "Traceback" in message


# What the system or the machine refuses


def patched(monkeypatch, name, action):
    """A command of this name that does something else."""
    parser_of = argparse.ArgumentParser.parse_args

    def parse_args(parser, *arguments):
        args = parser_of(parser, *arguments)
        if args.command.__name__ == name:
            action.__name__ = name
            args.command = action
        return args

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def raising(error):
    def run(_):
        raise error

    return run


REFUSALS = [
    (OSError(errno.EIO, os.strerror(errno.EIO), "a/file"), "a/file: the system refuses it (Input/output error); check"),
    (PermissionError(errno.EACCES, "Permission denied", "x"), "x: the system refuses it (Permission denied); make it"),
    (
        OSError(errno.EMFILE, "Too many open files"),
        "check: the system refuses it (Too many open files); allow more open",
    ),
    (MemoryError(), "check: not enough memory; lower what is large in its config"),
]


@pytest.mark.parametrize(("error", "message"), REFUSALS)
def test_what_nobody_nearer_has_named_is_one_line_and_no_bug(refusal, monkeypatch, error, message):
    patched(monkeypatch, "check", raising(error))
    assert refusal("check", "x").startswith(message)


def test_every_error_of_the_system_is_one_line_with_a_remedy(refusal, monkeypatch):
    for number in set(errno.errorcode) - {errno.EPIPE, errno.ESHUTDOWN, errno.EINTR}:
        with monkeypatch.context() as patch:
            patched(patch, "check", raising(OSError(number, os.strerror(number), "a", None, "b")))
            assert refusal("check", "x").startswith(f"a -> b: the system refuses it ({os.strerror(number)}); ")


def test_a_fit_for_which_memory_lacks_is_one_line(stage, refusal, monkeypatch):
    """Whatever the records allow: a size that this machine does not have."""
    run, results = stage
    section = json.loads(run.fit_section("mlp"))
    limit = resource.getrlimit(resource.RLIMIT_AS)
    section["hyperparameters"] |= {"hidden": 100_000, "embedding": 100_000}
    resource.setrlimit(resource.RLIMIT_AS, (64 << 30, limit[1]))
    try:
        message = refusal("fit", "--tokens", results / "char/tokens", "--out", "x", "--section", json.dumps(section))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert message.startswith("fit: not enough memory: ") and "lower what is large in its config (width," in message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_on_a_full_disk_is_named_in_one_line_and_the_job_goes_on(fit, capfd):
    folder, code = fit("mlp", "seed0", "--log", "/dev/full")
    error = capfd.readouterr().err
    warning = "lmstages: warning: /dev/full: the log ends here (No space left on device); the job goes on without it"
    assert code == 0 and (folder / "fit.json").exists() and "Traceback" not in error and "Logging error" not in error
    assert [line for line in error.splitlines() if "warning" in line] == [
        f"{warning}; free some space, or give another --log"
    ]


@pytest.mark.parametrize("command", ["figures", "report"])
def test_pages_and_pictures_that_cannot_be_written_are_one_line(stage, fit, evaluate, refusal, command):
    run, _ = stage
    assert [evaluate(model, fit(model)[0]) for model in ("bigram", "mlp", "wild")] == [0, 0, 0]
    call("summarize", "--out", "results", "--section", by_hand(run))
    if command == "report":
        call("figures", "--results", "results", "--out", "results/figures")
    message = refusal(command, "--results", "results", "--out", "names.txt")
    assert message.startswith("names.txt/") and "cannot be written (its folder is a file); give a path that" in message


def lmstages(*arguments, **options):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "lmstages", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **options.pop("environment", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, env=environment, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_standard_output_that_is_full_is_one_line(stage):
    with open("/dev/full", "w") as full:
        process = lmstages("check", "run.yaml", stdout=full)
        error = process.communicate()[1].decode()
    assert process.returncode == 1
    assert error.startswith("lmstages: error: check: the system refuses it (No space left on device); ")
    assert error.count("\n") == 1


def test_a_reader_that_has_gone_is_no_error(stage):
    reader, writer = os.pipe()
    os.close(reader)
    process = lmstages("check", "run.yaml", stdout=writer)
    os.close(writer)
    assert process.communicate()[1] == b"" and process.returncode == 1


# Ctrl-C


def test_an_interrupt_of_any_command_is_one_line(stage, capsys, monkeypatch):
    for name in set(COMMANDS) - {"table"}:
        with monkeypatch.context() as patch:
            action = raising(KeyboardInterrupt())
            action.__name__ = name
            patch.setattr(argparse.ArgumentParser, "parse_args", lambda *_, run=action: argparse.Namespace(
                command=run, threads=1, log=None, out="x"))  # fmt: skip
            assert call(name) == 130
        assert capsys.readouterr().err == "lmstages: interrupted; the same command starts again\n"


def test_ctrl_c_while_a_command_reads_is_one_line_and_130(tmp_path):
    os.mkfifo(tmp_path / "run.yaml")
    process = lmstages("check", tmp_path / "run.yaml")
    writer = os.open(tmp_path / "run.yaml", os.O_WRONLY)  # returns once the command has opened it
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    os.close(writer)
    assert (process.returncode, error) == (130, b"lmstages: interrupted; the same command starts again\n")


def test_ctrl_c_while_its_modules_are_imported_is_one_line_and_130(tmp_path):
    (tmp_path / "argparse.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    process = lmstages("check", "x", environment={"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"})
    error = process.communicate(timeout=60)[1]
    assert (process.returncode, error) == (130, b"lmstages: interrupted; the same command starts again\n")


# The terminal


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437", "utf-8"])
def test_a_terminal_of_any_encoding_shows_the_table(stage, fit, evaluate, encoding, monkeypatch):
    run, _ = stage
    assert [evaluate(model, fit(model)[0]) for model in ("bigram", "mlp", "wild")] == [0, 0, 0]
    call("summarize", "--out", "results", "--section", by_hand(run))
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert call("table", "results") == 0 and call("diff", "results", "results") == 0
    text = written.getvalue().decode(encoding)
    assert "MLP (wild)" in text and "report: results/report.html" in text
    assert ("\\u2500" in text) == (encoding in ("latin-1", "ascii"))


HOSTILE = "a\x1b]0;owned\x07\x9b\u202e\r\t\nlmstages: error: forged"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", HOSTILE),
        ("explain", HOSTILE),
        ("table", HOSTILE),
        ("export", HOSTILE, "--to", "gguf", "--out", HOSTILE),
        ("fit", "--tokens", HOSTILE, "--out", HOSTILE, "--section", '{"type": "bigram", "hyperparameters": {}}'),
        ("download", "--source", "names", "--mirror", HOSTILE, "--out", "x"),
    ],
)
def test_what_was_typed_reaches_the_terminal_visibly(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 1
    assert_harmless(capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [(HOSTILE,), ("fit", HOSTILE), ("check", "x", HOSTILE)])
def test_usage_errors_are_visible_too(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        call(*arguments)
    text = capsys.readouterr().err
    assert all(character == "\n" or character.isprintable() for character in text)


def assert_harmless(text):
    assert text.count("\n") == 1 and text[:-1].isprintable(), repr(text)


@pytest.mark.parametrize(
    "config", ['"a\\e[31m": 1\n', '? "a\\nlmstages: error: forged"\n: 1\n', "models: {\x85bigram: }\n", "a: \x1b\n"]
)
def test_a_config_reaches_the_terminal_visibly(config, capsys, tmp_path):
    (tmp_path / "run.yaml").write_text(config, encoding="utf-8")
    assert call("check", tmp_path / "run.yaml") == 1
    text = capsys.readouterr().err
    assert all(line.startswith(("lmstages: error: ", "  ")) for line in text.splitlines())
    assert "\nlmstages: error: forged" not in text
    assert all(character == "\n" or character.isprintable() for character in text), repr(text)


def test_every_line_of_a_job_is_visible(tmp_path, capsys):
    log_to(tmp_path / "log", HOSTILE)
    logging.getLogger("lmstages").info("%s", "a server's \x1b[2J status")
    text = capsys.readouterr().err
    assert "server's \\x1b[2J status" in text and text == (tmp_path / "log").read_text()
    assert all(character == "\n" or character.isprintable() for character in text)


# The command line


SUBPARSERS = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
PEOPLE = {name for name, entry in COMMANDS.items() if entry.for_people}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_says_what_it_does_and_what_each_option_is(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        call(command, "--help")
    description = SUBPARSERS[command].description
    assert description and description.split()[0] in capsys.readouterr().out
    assert all(action.help for action in SUBPARSERS[command]._actions)


def test_the_help_lists_every_command_in_a_line_those_for_people_first_and_says_what_to_type():
    text = parser().format_help()
    listing = text[text.index("to fit and compare:") : text.index("examples:")]
    listed = [line.split()[0] for line in listing.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(COMMANDS) == sorted(SUBPARSERS)
    people = ["init", "run", "check", "plan", "needs", "models", "laws", "table", "explain", "verify", "diff", "play"]
    assert listed[: len(people)] == people and set(listed[: len(PEOPLE)]) == PEOPLE
    assert "examples:" in text and "snakemake --cores all" in text
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_ends_with_an_example_that_its_parser_takes(command, monkeypatch):
    monkeypatch.setattr(cli, "_section_parser", lambda name, keys: str)
    line = SUBPARSERS[command].format_help().split("\nexample:\n  ")[1].splitlines()[0]
    program, *arguments = shlex.split(line)
    args = parser().parse_args(arguments)
    assert program == "lmstages" and args.command is COMMANDS[command].function


def test_the_ladder_is_listed_in_lines_of_a_terminal(capsys):
    assert call("models") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert "ordered list" in head and "lmstages models NAME" in head and max(map(len, [head, *lines])) <= 80
    assert [line.split()[0] for line in lines] == [config.name for config in LADDER]
    columns = {tuple(re.split(" {2,}", line)) for line in lines}
    assert ("gpt", "GPT", "Adds attention") in columns
    assert ("cache", "Unigram cache", "Adds recency [online]") in columns
    assert any(row[:2] == ("kneser_ney", "Kneser-Ney, modified") and row[2].endswith("...") for row in columns)


@pytest.mark.parametrize("name", [config.name for config in LADDER])
def test_a_model_is_listed_with_every_key_that_a_config_may_give(name, capsys):
    assert call("models", name) == 0
    text = capsys.readouterr().out
    listed = re.findall(r"^  (\w+):", text, re.MULTILINE)
    assert set(listed) == set(MODEL_TYPES[name].model_fields) - {"base", "weights"}
    assert text.startswith(f"{name}: {MODEL_TYPES[name].title}, ") and max(map(len, text.splitlines())) <= 80


def test_the_keys_of_a_network_come_before_those_that_every_network_has(capsys):
    call("models", "gpt")
    text = capsys.readouterr().out
    own, shared = text.split("\n\nKeys of every network:\n")
    assert re.findall(r"^  (\w+):", own, re.MULTILINE)[:3] == ["layers", "heads", "width"]
    assert {"steps", "batch_size"} <= {*re.findall(r"^  (\w+):", shared, re.MULTILINE)}
    call("models", "kneser_ney")
    assert "every network" not in capsys.readouterr().out


def test_a_key_is_listed_with_its_default_type_and_range(capsys):
    call("models", "gpt", "kneser_ney")
    text = capsys.readouterr().out
    for line in (
        "  width: 128                    whole number, 1 to 131,072\n",
        "  batch_size: 12                whole number, 1 to 2^40 | null\n",
        "  dropout: 0.0                  number, at least 0, below 1\n",
        "  norms: true                   true | false\n",
        "  optimizer: adamw              adamw | sgd | muon\n",
        "  order: 6                      whole number, 1 to 24 | list of whole numbers, 1\n",
    ):
        assert line in text


def test_a_key_is_listed_with_its_meaning_where_its_record_has_one():
    class Described(ModelConfig):
        """Adds a key."""

        width: int = Field(3, ge=1, description="Numbers of a vector.")
        plain: bool = True

    width, plain = descriptions.keys(Described)
    assert width == descriptions.Key("width", "whole number, at least 1", "3", "Numbers of a vector.")
    assert plain == descriptions.Key("plain", "true | false", "true", "")
    assert list(descriptions.key_lines(width)) == [
        "  width: 3                      whole number, at least 1",
        "      Numbers of a vector.",
    ]


def test_an_unknown_model_is_refused_with_the_nearest_name_and_all_of_them(capsys):
    assert call("models", "gtp") == 1
    names = ", ".join(config.name for config in LADDER)
    message = f"lmstages: error: models: 'gtp' is no model of the ladder (did you mean 'gpt'?); allowed: {names}\n"
    assert capsys.readouterr().err == message


def test_without_a_command_it_says_how_to_call_it(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_every_rule_calls_a_command_that_exists_and_every_command_of_jobs_is_called():
    rules = "".join(path.read_text() for path in (PROJECT / "workflow" / "rules").glob("*.smk"))
    called = {part.split()[0] for part in rules.split('"${{LMSTAGES_PYTHON:-python}}" -m lmstages ')[1:]}
    assert called == set(COMMANDS) - PEOPLE | {"download"}


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "lmstages", "check", "runs/tiny.yaml"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "" and "coined/char/gpt/seed0" in done.stdout.splitlines()


def test_progress_lines_name_their_job_and_errors_do_not(fit, capsys):
    folder, _ = fit("mlp")
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"[{folder}] step 40/40  train ") for line in lines)


# Values of options


STAGED = {
    "fit": ("--tokens", "t"),
    "evaluate": ("--model", "m", "--tokens", "t", "--text", "x"),
    "probe": ("--model", "m", "--tokens", "t"),
    "tokenize": ("--text", "x"),
    "analyse": ("--corpus", "c"),
    "inspect": ("--tokens", "t"),
    "mix": ("--text", "x", "--components", "a", "b"),
    "infill": ("--model", "m", "--tokens", "t"),
    "generate": ("--model", "m", "--tokens", "t", "--text", "x"),
    "oracle": ("--text", "x"),
    "compress": ("--text", "x"),
    "overlap": ("--text", "x"),
    "summarize": (),
}
SCORING = '"scoring": {"protocol": "stream", "window": 4, "stride": 2, "skip": 0}'
SAMPLING = '{"count": 1, "length": 5, "temperature": 1.0, "top_k": null, "top_p": 1.0, "prompt": "", "seed": 0}'
GAPS = '"split": "test", "documents": true, "lengths": [1, 2], "places": 9, "context": 9, "rows": 9, "reads": 9'
DRAWN = '"split": "test", "documents": true, "source": null, "steps": [1, 2], "texts": 9, "length": 9, "drafts": 1'
DRAWN += ', "seed": 0'
EVALUATED = f'"splits": ["test"], "documents": true, "sampling": {SAMPLING}'


@pytest.mark.parametrize(
    ("stage_name", "section", "message"),
    [
        ("evaluate", f'{{{EVALUATED}, "scoring": {{}}}}', "scoring.protocol: missing"),
        ("evaluate", f'{{{EVALUATED}, "scoring": 5}}', "scoring: 5 found"),
        ("evaluate", f"{{{EVALUATED}, {SCORING}}}".replace('"seed": 0', '"sed": 0'), "sampling.seed: missing"),
        ("evaluate", f"{{{EVALUATED}, {SCORING}}}".replace('["test"]', '"test"'), "splits: the text 'test' found"),
        ("evaluate", f"{{{EVALUATED}, {SCORING}}}".replace('["test"]', '["tst"]'), "splits.0: the text 'tst' found"),
        ("evaluate", f"{{{EVALUATED}, {SCORING}}}".replace("true", "3"), "documents: 3 found"),
        ("probe", f'{{{EVALUATED}, {SCORING}, "source": null}}', "sampling.measured: missing"),
        ("probe", f'{{{EVALUATED}, {SCORING}, "source": "fable"}}', "source: the text 'fable' found"),
        ("mix", '{"of": "a", "weights": "equal", "splits": ["test"]}', "of: the text 'a' found"),
        ("mix", '{"of": ["a"], "weights": "even", "splits": ["test"]}', "weights: the text 'even' found"),
        ("infill", f"{{{GAPS}}}".replace("[1, 2]", "[]"), "lengths: names nothing"),
        (
            "infill",
            f"{{{GAPS}}}".replace("[1, 2]", "[0]"),
            "lengths.0: 0 found; allowed: 1 to 256 characters, word, sentence",
        ),
        ("infill", f"{{{GAPS}}}".replace('"places": 9, ', ""), "lacks places"),
        ("generate", f"{{{DRAWN}}}".replace("[1, 2]", "[2, 0]"), "steps.1: 0 found; input should be greater than"),
        ("generate", f"{{{DRAWN}}}".replace('"texts": 9, ', ""), "lacks texts"),
        ("oracle", '{"source": null, "splits": ["test"]}', "source: None found"),
        ("compress", '{"compressors": ["rar"], "splits": ["test"]}', "compressors.0: the text 'rar' found"),
        ("overlap", '{"splits": []}', "splits: names nothing"),
        ("fit", '{"type": "bigram", "hyperparameters": [1]}', "hyperparameters: [1] found"),
        ("inspect", '{"experiments": ["gpt"], "split": "test"}', "experiments.0: the text 'gpt' found"),
        (
            "analyse",
            '{"experiments": [{}], "splits": ["test"], "documents": true, "source": null}',
            "experiments.0.tokenizer: miss",
        ),
        ("summarize", '{"run": "a", "experiments": [], "evaluate": {}, "published": [], "sweeps": []}', "models: miss"),
        ("tokenize", "[" * 2000 + "]" * 2000, "is no JSON"),
        ("tokenize", "5", "lacks kind"),
    ],
)
def test_an_incomplete_section_is_refused(capsys, stage_name, section, message):
    with pytest.raises(SystemExit):
        call(stage_name, *STAGED[stage_name], "--out", "x", "--section", section)
    assert "argument --section: " in (error := capsys.readouterr().err) and message in error


FIT = ("fit", "--tokens", "t", "--out", "x", "--section", '{"type": "bigram", "hyperparameters": {}}')
DOWNLOAD = ("download", "--source", "names", "--out", "x")


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        *((FIT, "--threads", value) for value in ("0", "-1", "1e3", "1025", "²", "9" * 30)),
        *((FIT, "--seed", value) for value in ("-1", "1.5", str(2**63))),
        *((FIT, "--minutes", value) for value in ("-1", "nan", "inf", "soon")),
        *((FIT, "--save-seconds", value) for value in ("-1", "nan")),
        *((FIT, "--save-steps", value) for value in ("0", "-5")),
        *((DOWNLOAD, "--stories", value) for value in ("-5", "0", "some", "1.5")),
        *((("play", "results"), "--port", value) for value in ("-1", "65536")),
    ],
)
def test_a_value_out_of_bounds_is_refused(capsys, command, option, value):
    with pytest.raises(SystemExit):
        call(*command, f"{option}={value}")
    assert f"argument {option}: {value!r} found; a" in capsys.readouterr().err


def test_more_threads_than_cores_are_said(stage, caplog, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    call(*FIT, "--threads", "64")
    assert "--threads 64: this machine has 2 cores" in caplog.text


def test_an_unknown_part_is_refused(refusal):
    assert refusal(*DOWNLOAD, "--part", "nope") == "--part: 'nope' is no part of names; allowed: whole"


# Whose file it is


def copied(source, target, *names):
    """Files of one experiment in the place of another's, with their records."""
    for name in names:
        shutil.copy(source / name, target / name)
        shutil.copy(artifacts.sidecar(source / name), artifacts.sidecar(target / name))


EXPERIMENT = ("model.safetensors", "fit.json")
SCORED = ("scores.safetensors", "evaluation.json")


@pytest.mark.parametrize("names", [EXPERIMENT, EXPERIMENT[:1], EXPERIMENT[1:]])
def test_evaluate_refuses_the_model_of_another_experiment_with_both_names(stage, fit, refusal, names):
    run, results = stage
    (bigram, _), (mlp, _) = fit("bigram"), fit("mlp")
    copied(bigram, mlp, *names)
    inputs = ["--model", mlp / "model.safetensors", "--tokens", results / "char/tokens", "--text", results / "text"]
    message = refusal("evaluate", *inputs, "--out", mlp, "--section", run.evaluate_section("names", "mlp"))
    name = names[-1]
    assert f"was made as names/char/bigram/seed0/{name}; the file that belongs here is names/char/mlp/seed0/" in message


def test_evaluate_refuses_a_model_fitted_on_other_tokens(stage, fit, refusal):
    run, results = stage
    folder, _ = fit("bigram")
    artifacts.save_json(results / "char/tokens/train.npy", [], {"command": "test"})
    inputs = ["--model", folder / "model.safetensors", "--tokens", results / "char/tokens", "--text", results / "text"]
    message = refusal("evaluate", *inputs, "--out", folder, "--section", run.evaluate_section("names", "bigram"))
    assert "was made from another train.npy (sha256 " in message and "delete it and run snakemake again" in message


@pytest.mark.parametrize("names", [SCORED, SCORED[:1], SCORED[1:]])
def test_summarize_refuses_the_scores_of_another_experiment(stage, fit, evaluate, refusal, names):
    run, results = stage
    assert [evaluate(model, fit(model)[0]) for model in ("bigram", "mlp", "wild")] == [0, 0, 0]
    copied(results / "char/bigram/seed0", results / "char/mlp/seed0", *names)
    message = refusal("summarize", "--out", "results", "--section", by_hand(run))
    assert "was made as names/char/bigram/seed0/" in message and "is names/char/mlp/seed0/" in message


def test_summarize_refuses_scores_of_a_model_that_was_fitted_again(stage, fit, evaluate, refusal):
    run, _ = stage
    assert [evaluate(model, fit(model)[0]) for model in ("bigram", "mlp", "wild")] == [0, 0, 0]
    fit("mlp", "seed0", "--seed", "7")
    message = refusal("summarize", "--out", "results", "--section", by_hand(run))
    assert "mlp/seed0/scores.safetensors: was made from another model.safetensors (sha256 " in message


# A run that is read again


@pytest.fixture
def finished_run(stage, fit, evaluate):
    run, _ = stage
    assert [evaluate(model, fit(model)[0]) for model in ("bigram", "mlp", "wild")] == [0, 0, 0]
    assert call("summarize", "--out", "results", "--section", by_hand(run)) == 0
    assert call("figures", "--results", "results", "--out", "results/figures") == 0
    assert call("report", "--results", "results", "--out", "results") == 0
    return Path("results")


def flipped(path):
    """One bit changed, the time kept."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_verify_finds_damage_that_keeps_its_time_and_says_what_to_make_again(finished_run, capsys):
    assert call("verify", finished_run) == 0
    assert "0 damaged or missing" in capsys.readouterr().out
    damaged = ["names/char/tokens/train.npy", "names/char/mlp/seed0/scores.safetensors", "report.html"]
    for name in damaged:
        flipped(finished_run / name)
    (finished_run / "table.md").unlink()
    assert call("verify", finished_run) == 1
    out, err = capsys.readouterr()
    assert [f"results/{name}: its sha256 is" in out for name in damaged] == [True, True, True]
    assert "results/table.md: is missing, though it has a record" in out
    assert err.count("\n") == 1 and "4 of " in err and "--forcerun" in err and "results/report.html" in err


def test_verify_finds_a_table_that_was_made_from_other_scores(finished_run, capsys):
    artifacts.save_bytes(finished_run / "results.parquet", b"another table", {"command": "test"})
    assert call("verify", finished_run) == 1
    assert "results/report.html: was made from another results/results.parquet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("inside", "path"), [("seed0", "."), ("seed0", "fit.json"), ("", "seed0"), ("seed0", "../seed0")]
)
def test_an_experiment_is_explained_from_within_its_run_too(finished_run, monkeypatch, capsys, inside, path):
    root, experiment = finished_run.absolute().parent.parent, finished_run.absolute() / "names/char/bigram/seed0"
    monkeypatch.chdir(experiment.parent / inside)
    assert call("explain", path) == 0
    out = capsys.readouterr().out
    assert "corpus       names" in out and "model        bigram" in out and "CHANGED" not in out
    fit = (experiment / "fit.json").relative_to(root)
    assert f"  cd {root} && snakemake {fit} --cores all" in out and out.count(f"--forcerun {fit}\n") == 1


def test_verify_within_a_run_says_where_its_files_are_made_again(finished_run, monkeypatch, capsys):
    root, run = finished_run.absolute().parent.parent, finished_run.absolute()
    flipped(run / "report.html")
    monkeypatch.chdir(run)
    assert call("verify", ".") == 1
    call_again = f"make them again: cd {root} && snakemake --cores all"
    err = capsys.readouterr().err
    assert call_again in err.replace(f"snakemake {run.relative_to(root)}/report.html", "snakemake")
    assert err.endswith(f"--forcerun {run.relative_to(root)}/report.html\n")


@pytest.mark.parametrize("command", ["report", "explain", "diff", "table"])
def test_a_damaged_table_is_refused(finished_run, refusal, command):
    flipped(finished_run / "results.parquet")
    arguments = {
        "report": ("--results", finished_run, "--out", "out"),
        "explain": (finished_run / "names/char/bigram/seed0",),
        "diff": (finished_run, finished_run),
        "table": (finished_run,),
    }
    with_log = command in ("report", "table")
    if with_log:
        message = refusal(command, *arguments[command])
        assert message.startswith("results/results.parquet: its sha256 is ")
        return
    assert call(command, *arguments[command]) == 1


# What fails becomes a row


def test_a_tokenizer_that_the_text_does_not_allow_is_a_row_with_its_reason(stage, evaluate, fit):
    _, results = stage
    section = '{"kind": "word", "vocab_size": 5000, "alphabet": "train"}'
    arguments = [
        "--text",
        results / "text",
        "--layout",
        "lines",
        "--out",
        results / "char/tokens",
        "--section",
        section,
    ]
    assert call("tokenize", *arguments) == 1 and call("tokenize", "--keep-going", *arguments) == 0
    folder, code = fit("bigram")
    assert code == 0 and evaluate("bigram", folder) == 0
    statuses = [artifacts.load_json(folder / name)["status"] for name in ("fit.json", "evaluation.json")]
    assert statuses[0] == statuses[1] and statuses[0].startswith("failed: tokenizers: vocab_size: ")


def test_a_test_part_shorter_than_the_window_is_a_row_with_its_reason(stage, fit, evaluate):
    _, results = stage
    folder, _ = fit("mlp")
    for name, kept in {"test.npy": np.uint8, "test.bytes.npy": np.uint16}.items():
        with artifacts.saving_array(results / "char/tokens" / name, np.dtype(kept), {"command": "test"}) as array:
            array.append(np.ones(2, dtype=np.uint8))
    with artifacts.saving_array(results / "char/tokens/test.starts.npy", np.dtype(np.int64), {"command": "x"}) as array:
        array.append(np.array([0, 2]))
    assert evaluate("mlp", folder) == 0
    status = artifacts.load_json(folder / "evaluation.json")["status"]
    assert status.startswith("failed: text too short: the test part has 2 tokens; model mlp looks back over 2")


def test_check_says_which_part_is_too_short(refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("abc\n" * 60)
    (tmp_path / "run.yaml").write_text(CONFIG.replace("models:", "models:\n  gpt:"))
    message = refusal("check", tmp_path / "run.yaml")
    assert message.startswith(
        "text too short: the test part of names.txt has at most 30 tokens of char, gpt looks back"
    )


def test_what_could_not_be_scored_is_not_fitted(fit, evaluate, capsys):
    folder, code = fit("mlp", "seed0", "--failure", "text too short: of names")
    facts = artifacts.load_json(folder / "fit.json")
    assert code == 0 and facts["status"] == "failed: text too short: of names" and "parameters" not in facts
    assert capsys.readouterr().err.splitlines()[-1] == "lmstages: error: text too short: of names"
    assert evaluate("mlp", folder) == 0
    assert artifacts.load_json(folder / "evaluation.json")["status"] == facts["status"]


def test_explain_finds_the_inputs_of_a_mixture(stage, fit, evaluate, capsys):
    _, results = stage
    for model in ("bigram", "mlp"):
        assert evaluate(model, fit(model)[0]) == 0
    section = '{"of": ["bigram", "mlp"], "weights": "equal", "splits": ["test"]}'
    parts = ["--components", results / "char/bigram/seed0", results / "char/mlp/seed0", "--text", results / "text"]
    assert call("mix", *parts, "--out", results / "char/both/seed0", "--section", section) == 0
    capsys.readouterr()
    assert call("explain", results / "char/both/seed0") == 0
    out = capsys.readouterr().out
    assert "results/names/char/mlp/seed0/scores.safetensors: the same" in out
    assert "gone" not in out and "CHANGED" not in out


def test_an_input_that_shares_its_name_with_an_output_is_the_one_that_was_read(tmp_path):
    base, derived = tmp_path / "run/c/t/llama/seed0", tmp_path / "run/c/t/q4/seed0"
    for folder in (base, derived):
        artifacts.save_json(folder / "model.safetensors", [folder.parent.name], {"command": "x", "levels": 4})
    made = {"levels": 4, "paths": {"model.safetensors": "c/t/llama/seed0/model.safetensors"}}
    assert input_path(derived, "model.safetensors", made) == base / "model.safetensors"
