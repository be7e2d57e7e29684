"""Settings as Snakemake hands them over: several config files, ``--config``, the workflow as a module of another."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_workflow import PROJECT, environment

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
