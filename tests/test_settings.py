"""Settings as Snakemake hands them over: several config files, ``--config``, the workflow as a module of another."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snakemake.cli import parse_config
from test_workflow import PROJECT, environment

from lmstages.config.overrides import override, stop_if_dropped, typed_settings, with_typed
from lmstages.core import contents
from lmstages.core.errors import UserError
from lmstages.results.explaining import settings_of

SMALL = """
corpora: {coined: {count: 60}}
tokenizers: {char: {kind: char}}
models: {unigram: , bigram: {add: 1e-3}, gpt: {layers: 1, heads: 2, width: 16, steps: 100, bias: no}}
sampling: {count: 1, length: 5, measured: 2}
"""
CORRECTED = SMALL.replace("bias: no", "bias: false")
MODULE = """
configfile: "config/config.yaml"
module lmstages:
    snakefile: "SNAKEFILE"
    config: CONFIG
use rule * from lmstages
"""


@pytest.fixture
def folder(tmp_path):
    """A working directory outside the project."""
    (tmp_path / "small.yaml").write_text(CORRECTED)
    return tmp_path


def snakemake(folder, *arguments, snakefile=PROJECT / "Snakefile"):
    command = [sys.executable, "-m", "snakemake", "-s", str(snakefile), "--directory", str(folder), "--cores", "1"]
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


def planned(folder, *arguments, **options):
    """The commands of a dry run."""
    plan = snakemake(folder, "-np", *arguments, **options)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    return plan.stdout


def fitted(plan):
    return set(re.findall(r"lmstages fit .* --out \S+/(\w+)/seed\d", plan))


def test_a_later_configfile_is_merged_over_an_earlier_one(folder):
    (folder / "wide.yaml").write_text("models: {gpt: {width: 32, heads: 4}}\n")
    plan = planned(folder, "--configfile", "small.yaml", "wide.yaml")
    assert '"width": 32' in plan and '"steps": 100' in plan and "results/wide/coined/char/gpt" in plan
    assert fitted(plan) == {"unigram", "bigram", "gpt"}


def test_config_reaches_any_key(folder):
    mapping = planned(folder, "--configfile", "small.yaml", "--config", "models={gpt: {width: 128}}", "seeds=[0,1]")
    assert '"width": 128' in mapping and "gpt/seed1" in mapping and '"steps": 100' in mapping
    by_path = planned(folder, "--configfile", "small.yaml", "--config", "set=models.gpt.width=128 sampling.count=2")
    assert '"width": 128' in by_path and '"count": 2' in by_path


def test_names_choose_among_the_models_of_a_run(folder):
    plan = planned(folder, "--config", "run=tiny", "models=[bigram,gpt]")
    assert fitted(plan) == {"bigram", "gpt"} and "results/tiny/fables" in plan


def test_a_setting_goes_over_a_configfile_that_goes_over_a_run(folder):
    (folder / "wide.yaml").write_text("models: {mlp: {hidden: 32, window: 5}}\n")
    plan = planned(folder, "--configfile", "wide.yaml", "--config", "run=tiny", "set=models.mlp.hidden=48")
    assert '"hidden": 48' in plan and '"window": 5' in plan and "results/wide/" in plan


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (SMALL, [], "models.gpt.bias: the text 'no' found; input should be a valid boolean"),
        (CORRECTED + "seeds: [0]\nseeds: [1]\n", [], "key 'seeds' appears twice"),
        (CORRECTED + "__use_yte__: true\n", [], "__use_yte__: unknown key"),
        (CORRECTED, ["set=models.gpt.widht=3"], "models.gpt: unknown key 'widht' (did you mean 'width'?)"),
        (CORRECTED, ["smapling={count: 2}"], "--config smapling: unknown key"),
        (CORRECTED, ["models=[gtp]"], "--config models: 'gtp' is not defined; allowed: unigram, bigram, gpt"),
    ],
)
def test_a_mistake_ends_before_any_job(folder, content, settings, message):
    (folder / "wrong.yaml").write_text(content)
    refused = snakemake(folder, "-n", "--configfile", "wrong.yaml", *(["--config", *settings] if settings else []))
    assert refused.returncode == 1 and message in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def test_braces_of_a_statement_are_no_wildcards(folder):
    """Snakemake fills in what stands in braces in a text of ``params``, but not in what a function returns."""
    published = 'published: [{source: x, claim: "a {corpus}, and {draft}"}]\n'
    (folder / "claims.yaml").write_text(CORRECTED + published)
    assert "a {corpus}, and {draft}" in planned(folder, "--configfile", "claims.yaml")


# Another workflow uses this one


def module(folder, config):
    snakefile = folder / "Snakefile"
    snakefile.write_text(MODULE.replace("SNAKEFILE", str(PROJECT / "Snakefile")).replace("CONFIG", config))
    (folder / "config").mkdir()
    return snakefile


def test_a_module_has_the_settings_of_the_workflow_that_uses_it(folder):
    snakefile = module(folder, "config")
    (folder / "config/config.yaml").write_text(CORRECTED)
    plan = planned(folder, "--config", "models={gpt: {width: 128}}", snakefile=snakefile)
    assert fitted(plan) == {"unigram", "bigram", "gpt"} and '"width": 128' in plan and '"add": 0.001' in plan


def test_the_files_of_a_module_are_read_strictly(folder):
    snakefile = module(folder, "config")
    (folder / "config/config.yaml").write_text(SMALL)
    refused = snakemake(folder, "-n", snakefile=snakefile)
    assert "models.gpt.bias: the text 'no' found" in refused.stdout + refused.stderr


def test_a_module_may_be_given_a_section_of_a_config(folder):
    snakefile = module(folder, 'config["lm"]')
    indented = "".join(f"  {line}\n" for line in CORRECTED.strip().splitlines())
    (folder / "config/config.yaml").write_text(f"other: 1\nlm:\n{indented}")
    plan = planned(folder, snakefile=snakefile)
    assert fitted(plan) == {"unigram", "bigram", "gpt"} and '"add": 0.001' in plan


@pytest.mark.slow
def test_a_module_runs_to_its_report(folder):
    snakefile = module(folder, "config")
    (folder / "config/config.yaml").write_text(CORRECTED)
    completed = snakemake(folder, "--config", "models=[unigram]", snakefile=snakefile)
    assert completed.returncode == 0, completed.stderr[-2000:]
    assert Path(folder, "results/default/report.html").is_file()


# What fails before logging begins


def test_a_log_holds_what_fails_before_logging_begins(folder):
    (folder / "lmstages").mkdir()  # imported in place of the package, since jobs start in this folder
    (folder / "lmstages" / "__init__.py").touch()
    (folder / "lmstages" / "__main__.py").write_text("import no_such_module\n")
    failed = snakemake(folder, "--configfile", "small.yaml", "--until", "prepare")
    log = (folder / "logs/small/coined/prepare.log").read_text()
    assert failed.returncode == 1 and "No module named 'no_such_module'" in log
    assert "No module named 'no_such_module'" in failed.stderr


# What comes from outside is known by its content


PREPARE = ("--configfile", "small.yaml", "--until", "prepare", "--config")


def words(seed, count=300):
    return " ".join("".join(random.Random(f"{seed}.{n}").choices("abcdef", k=4)) for n in range(count))


def prepared(folder, *settings):
    done = snakemake(folder, *PREPARE, *settings)
    assert done.returncode == 0, done.stdout + done.stderr


def is_done(folder, *settings):
    plan = snakemake(folder, "-np", *PREPARE, *settings)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    return "lmstages prepare" not in plan.stdout


def test_a_text_replaced_by_an_older_one_is_noticed(folder):
    (folder / "my.txt").write_text(words(1))
    prepared(folder, "text=my.txt")
    os.utime(folder / "my.txt")
    assert is_done(folder, "text=my.txt")  # only its time is another
    before = (folder / "my.txt").stat()
    (folder / "new.txt").write_text(words(2))
    os.utime(folder / "new.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(folder / "new.txt", folder / "my.txt")  # as mv: same size, same time, other words
    assert not is_done(folder, "text=my.txt")
    prepared(folder, "text=my.txt")
    assert (folder / "results/my/my/text/train.txt").read_text() in words(2) and is_done(folder, "text=my.txt")


def test_a_text_dated_in_the_future_is_no_error_and_is_prepared_once(folder):
    (folder / "my.txt").write_text(words(1))
    os.utime(folder / "my.txt", (time.time() + 1e6,) * 2)
    prepared(folder, "text=my.txt")
    assert is_done(folder, "text=my.txt")


def test_a_text_below_corpora_is_known_by_its_content_too(folder):
    text, config = folder / "my.txt", folder / "small.yaml"
    config.write_text(CORRECTED.replace("coined: {count: 60}", "own: {path: my.txt}"))
    text.write_text(words(1))
    prepared(folder, "estimation=false")
    text.write_text(words(2))
    os.utime(text, (1e9, 1e9))
    assert not is_done(folder, "estimation=false")


@pytest.mark.slow
def test_a_folder_is_known_by_the_content_of_all_its_files(folder):
    """Adding, removing, editing or renaming one of them is noticed; times and hidden files are not."""
    for number in range(20):
        path = folder / "corpus" / f"{number % 2}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words(number))
    prepared(folder, "text=corpus/")
    os.utime(path)
    (folder / "corpus" / ".hidden").write_text("no text of ours")
    assert is_done(folder, "text=corpus/")
    edits = (
        lambda: path.write_text(words(99)),
        path.unlink,
        lambda: path.write_text(words(19)),
        lambda: path.rename(path.with_name("99.txt")),
    )
    for edit in edits:
        edit()
        assert not is_done(folder, "text=corpus/")
        prepared(folder, "text=corpus/")
    assert is_done(folder, "text=corpus/")
    assert (folder / "results/corpus/corpus/text/train.txt").is_file()


def test_a_pattern_and_a_field_are_read_as_they_were_typed(folder):
    (folder / "notes").mkdir()
    for number in range(4):
        lines = (json.dumps({"body": words(f"{number}/{line}"), "text": 5}) for line in range(10))
        (folder / "notes" / f"{number}.jsonl").write_text("\n".join(lines))
    prepared(folder, "text=notes/*.jsonl", "field=body")
    facts = json.loads((folder / "results/notes/notes/text/corpus.json").read_text())
    assert [facts["splits"][name]["documents"] for name in ("train", "valid", "test")] == [32, 4, 4]
    refused = snakemake(folder, "-n", *PREPARE, "text=notes/*.jsonl", "as=again")
    assert refused.returncode == 1 and "Traceback" not in refused.stdout + refused.stderr
    message = "lmstages: error: notes/0.jsonl: line 1: field 'text' is a number (5); a text, or null"
    assert message in refused.stdout + refused.stderr


@pytest.mark.slow
def test_a_checkpoint_is_known_by_its_content(folder):
    (folder / "c").mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / "c" / name).write_text("{}")
    (folder / "small.yaml").write_text(CORRECTED + "pretrained: {mine: {path: c}}\n")
    hashes = []
    for content in ("{}", "[]", "{}"):
        (folder / "c" / "config.json").write_text(content)
        os.utime(folder / "c" / "config.json", (1e9, 1e9))
        plan = planned(folder, "--configfile", "small.yaml", "--until", "score_pretrained")
        hashes += re.findall(r"lmstages score_pretrained .* --content (\w{64}) ", plan)
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_hash_is_remembered_for_as_long_as_the_file_is_the_same(tmp_path, monkeypatch):
    text = tmp_path / "my.txt"
    text.write_text("abc")
    monkeypatch.setattr(contents, "CLOCK_TICK", -1.0)
    first = contents.Contents(tmp_path / "memory").sha256(text)
    assert first == hashlib.sha256(b"abc").hexdigest()
    monkeypatch.setattr(contents, "sha256_of", None)  # would fail where it is hashed again
    assert contents.Contents(tmp_path / "memory").sha256(text) == first


def test_a_file_that_was_just_written_is_hashed_again(tmp_path):
    (tmp_path / "my.txt").write_text("abc")
    contents.Contents(tmp_path / "memory").sha256(tmp_path / "my.txt")
    assert not (tmp_path / "memory").exists()


@pytest.mark.parametrize("broken", ["", "[]", "{", '{"a": 1}', '{"a": [1, 2, 3]}'])
def test_a_broken_memory_of_hashes_is_no_memory(tmp_path, broken):
    (tmp_path / "memory").write_text(broken)
    (tmp_path / "my.txt").write_text("abc")
    assert contents.Contents(tmp_path / "memory").sha256(tmp_path / "my.txt") == hashlib.sha256(b"abc").hexdigest()


# A folder holds one run


@pytest.mark.slow
def test_two_texts_of_one_name_are_not_one_run(folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "input.txt").write_text(words(name))
    prepared(folder, "text=a/input.txt")
    refused = snakemake(folder, *PREPARE, "text=b/input.txt")
    message = "holds the run of the text a/input.txt with small.yaml, not of the text b/input.txt with small.yaml"
    assert refused.returncode == 1 and f"lmstages: error: results/input: {message}" in refused.stderr
    assert "--config as=NAME" in refused.stderr and "Traceback" not in refused.stderr
    assert (folder / "results/input/input/text/train.txt").read_text() in words("a")
    prepared(folder, "text=b/input.txt", "as=second")
    assert (folder / "results/second/second/text/train.txt").read_text() in words("b")
    planned(folder, *PREPARE, f"text={folder}/a/input.txt")  # the same text by another path


@pytest.mark.slow
def test_one_text_under_two_configs_is_not_one_run(folder):
    (folder / "my.txt").write_text(words(1))
    prepared(folder, "text=my.txt")
    refused = snakemake(folder, "-n", "--config", "run=tiny", "text=my.txt")
    assert refused.returncode == 1 and "holds the run of the text my.txt with small.yaml" in refused.stdout


@pytest.mark.slow
def test_two_configs_of_one_name_are_not_one_run(folder):
    (folder / "other").mkdir()
    (folder / "other" / "small.yaml").write_text(CORRECTED)
    prepared(folder, "estimation=false")
    refused = snakemake(folder, "-n", "--configfile", "other/small.yaml")
    message = "results/small: holds the run of small.yaml, not of other/small.yaml; a folder holds one run"
    assert refused.returncode == 1 and message in refused.stdout
    assert "results/third/coined" in planned(folder, "--configfile", "other/small.yaml", "--config", "as=third")


SETTINGS = [["text=my.txt", "as=mine"], ["models=[bigram]", "as=it"], ["run=tiny"], []]


@pytest.mark.parametrize("settings", SETTINGS, ids=["a text", "models", "a run", "none"])
def test_the_command_that_makes_a_file_again_is_that_of_its_run(folder, settings):
    (folder / "my.txt").write_text(words(1))
    files = [] if "run=tiny" in settings else ["--configfile", "small.yaml"]
    target = f"results/{dict(s.split('=') for s in settings).get('as', 'tiny' if not files else 'small')}"
    target += "/mine/text/corpus.json" if "as=mine" in settings else "/coined/text/corpus.json"
    config = ["--config", *settings] if settings else []
    assert (done := snakemake(folder, target, *files, *config)).returncode == 0, done.stderr
    again = settings_of(folder / Path(target).parents[2])
    assert again == [*files, *config]
    plan = snakemake(folder, "-n", target, *again, "--forcerun", target)
    assert plan.returncode == 0 and "rule prepare:" in plan.stdout, plan.stdout + plan.stderr


# Values as they were typed

# Values as they were typed


TYPED = ["007", "123_456", "1e5", "Chapter 1: Intro.txt", "{draft}.txt", "[a].txt", "true", "null", "it's.txt", "a = b"]


@pytest.mark.parametrize("name", TYPED)
def test_a_setting_is_what_was_typed(name):
    for command in (["--config", f"text={name}"], ["-C", "seeds=[1]", f"text={name}"], [f"--config=text={name}"]):
        by_snakemake = parse_config([f"text={name}"])
        assert with_typed(by_snakemake, typed_settings(["-n", *command, "--cores", "1"])) == {"text": name}


def test_only_what_stands_after_config_is_a_setting():
    assert typed_settings(["text=a", "--configfile", "text=b", "--config", "run=1", "-n", "text=c"]) == {"run": "1"}
    assert with_typed({"set": ["a.b=1", "c.d=2"], "seeds": [1]}, {"set": "[a.b=1, c.d=2]"})["set"] == ["a.b=1", "c.d=2"]
    assert with_typed({"text": None}, {"text": ""}) == {"text": None}


def test_a_setting_that_snakemake_drops_is_refused(folder):
    first = ["--config", "models=[bigram]", "--configfile", "small.yaml"]
    refused = snakemake(folder, "-n", *first, "--config", "as=mine")
    message = "lmstages: error: --config models: is dropped by Snakemake, which reads the last --config alone; give all"
    assert refused.returncode == 1 and message in refused.stdout and not (folder / "results").exists()
    stop_if_dropped([*first, "-n"], {"models": ["bigram"]})


@pytest.mark.parametrize("pairs", ["'", 'models.gpt.width=128 "', "sampling.prompt='a"])
def test_a_quote_that_does_not_end_is_one_line(pairs):
    problems = []
    override({}, {"set": pairs}, [], problems)
    remedy = "cannot be split into words (no closing quotation); close the quote, or write \\ before it"
    assert problems == [f"--config set: {pairs!r} {remedy}"]


def test_a_converted_value_that_nobody_typed_is_refused_with_the_way_to_quote_it():
    with pytest.raises(
        UserError, match=r"^--config text: was read as 7, which is no text; put it in two pairs of quot"
    ):
        with_typed({"text": 7}, {})


def test_a_text_whose_name_is_a_mapping_is_read(folder):
    (folder / "Chapter 1: Intro.txt").write_text(words(1))
    plan = planned(folder, *PREPARE, "text=Chapter 1: Intro.txt")
    assert "lmstages prepare --raw 'Chapter 1: Intro.txt' --content" in plan


def test_a_text_with_braces_in_its_name_is_prepared(folder):
    (folder / "{draft}.txt").write_text(words(1))
    prepared(folder, "text={draft}.txt")
    assert (folder / "results/draft/draft/text/corpus.json").is_file()


def test_a_separator_is_the_line_that_was_typed(folder):
    (folder / "my.txt").write_text("one\n---\ntwo\n---\n" * 200)
    prepared(folder, "text=my.txt", "documents=separator", "separator=---")
    assert json.loads((folder / "results/my/my/text/corpus.json").read_text())["splits"]["train"]["documents"] == 320


def test_a_home_is_found_where_no_shell_does(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "my.txt").write_text(words(1))
    assert f"prepare --raw {folder}/my.txt" in planned(folder, *PREPARE, "text=~/my.txt")


@pytest.mark.parametrize("text", ["it's my.txt", '# a "b" $x.txt', "--- `y`.txt", "/with space.txt"])
def test_make_hands_a_text_over_as_it_was_typed(tmp_path, text):
    shutil.copy(PROJECT / "Makefile", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    snakemake = tmp_path / ".venv/bin/snakemake"
    snakemake.write_text('#!/bin/sh\nfor argument; do printf "%s\\n" "$argument"; done\n')
    snakemake.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.made-from-lock"):
        (tmp_path / name).touch()
    command = ["make", "report", f"TEXT={text}", "SET=models.gpt.width=32 seeds=[0,1]", "CORES=1"]
    made = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    typed = ["--config", f"text={text if text.startswith('/') else f'./{text}'}"]
    lines = ["--cores", "1", *typed, "set=models.gpt.width=32 seeds=[0,1]"]
    assert made.stdout.splitlines() == lines, "one call, so that the results are printed once"
