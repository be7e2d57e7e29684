"""Without a checkout: what ``lmstages init`` writes, which call of Snakemake ``lmstages run`` is, and the wheel itself.

The slow test builds source distribution and wheel, installs the wheel where nothing else of lmstages is, and runs the
two commands in an empty folder.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser, parse_config

from lmstages.cli import main
from lmstages.config import workflow_call
from lmstages.config.overrides import override, settings_on, typed_settings, with_typed
from lmstages.config.reading import SECTIONS, read_run
from lmstages.config.workflow_call import snakemake_call
from lmstages.core import workflow_files
from lmstages.core.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
WORKFLOW = ("Snakefile", "config.yaml", "workflow", "runs", "profiles")
SMALL = """
corpora: {fables: {count: 60}}
tokenizers: {char: {kind: char}}
models: {unigram: , bigram: , kneser_ney: , gpt: {layers: 1, heads: 2, width: 16, steps: 3, warmup_steps: 0}}
sampling: {count: 1, length: 5, measured: 2}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory outside the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(**variables):
    return {**os.environ, "PYTHONPATH": str(PROJECT), **variables}


def lmstages(folder, *arguments):
    command = [sys.executable, "-m", "lmstages", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


# The call of Snakemake


def called(*words):
    """What Snakemake makes of the call: its options, and the settings that the workflow reads."""
    call = snakemake_call(words)
    assert call[:3] == [sys.executable, "-m", "snakemake"]
    options = get_argument_parser().parse_args(call[3:])
    settings = parse_config(options.config)
    assert set(settings) == {setting.partition("=")[0] for setting in settings_on(call[3:])}, "none is dropped"
    return options, with_typed(settings, typed_settings(call[3:]))


def content_of(*words, content):
    """The content of a config after the settings of a call; their problems."""
    problems = []
    return override(content, called(*words)[1], SECTIONS, problems), problems


def test_without_words_it_takes_the_config_of_the_folder_and_all_cores(folder):
    options, settings = called()
    assert options.snakefile == str(PROJECT / "Snakefile") and snakemake_call([])[-2:] == ["--cores", "all"]
    assert settings == {} and not options.configfile and not options.targets


def test_a_folder_with_a_snakefile_uses_that_one(folder):
    (folder / "Snakefile").touch()
    assert "--snakefile" not in snakemake_call([])


def test_a_run_goes_by_its_name_and_a_config_by_its_path(folder):
    (folder / "mine.yaml").touch()
    assert called("published")[1] == {"run": "published"}
    options, settings = called("counts", "mine.yaml", "seeds=[0,1]")
    assert [str(path) for path in options.configfile] == ["mine.yaml"]
    assert settings == {"run": "counts", "seeds": ["0", "1"]}


def test_a_run_of_the_folder_goes_by_its_name_too(folder):
    (folder / "runs").mkdir()
    (folder / "runs" / "own.yaml").touch()
    assert called("own")[1] == {"run": "own"}


def test_what_follows_the_dashes_is_passed_to_snakemake(folder):
    options, settings = called("tiny", "text=my.txt", "--", "a/target", "--cores", "8", "--forcerun", "fit", "-n")
    assert options.targets == ["a/target"] and options.cores == 8 and options.forcerun == {"fit"} and options.dryrun
    assert settings == {"run": "tiny", "text": "my.txt"}


@pytest.mark.parametrize("options", [["--workflow-profile", "slurm"], ["-c4"], ["--jobs=2"], ["--profile", "x"]])
def test_cores_are_those_of_the_options_where_they_say_how_many(folder, options):
    assert "--cores" not in snakemake_call(["--", *options])


def test_any_key_of_any_depth_reaches_the_config(folder):
    content = {"models": {"bigram": None, "kneser_ney": None, "gpt": {"width": 64, "heads": 4}, "mlp": None}}
    content["corpora"] = {"fables": {"count": 60, "split": {"train": 0.8, "valid": 0.1, "test": 0.1}}}
    words = ["models=[bigram,kneser_ney,gpt]", "models.gpt.width=128", "corpora.fables.split.train=0.5"]
    changed, problems = content_of(*words, "sampling.count=2", content=content)
    assert not problems and list(changed["models"]) == ["bigram", "kneser_ney", "gpt"]
    assert changed["models"]["gpt"] == {"width": 128, "heads": 4} and changed["sampling"] == {"count": 2}
    assert changed["corpora"]["fables"]["split"] == {"train": 0.5, "valid": 0.1, "test": 0.1}


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("corpora.mine.path=my text's.txt", ("corpora", "mine", "path"), "my text's.txt"),
        ('corpora.mine.separator="<|end of text|>"', ("corpora", "mine", "separator"), '"<|end of text|>"'),
        ("models.gpt.of=a=b", ("models", "gpt", "of"), "a=b"),
        ("models.a b.width=1", ("models", "a b", "width"), 1),
        ("models.it's.width=1", ("models", "it's", "width"), 1),
        ("models.gpt.scoring={window: 8, stride: 4}", ("models", "gpt", "scoring"), {"window": 8, "stride": 4}),
        ("x=1", ("x",), 1),
    ],
)
def test_spaces_quotes_and_brackets_arrive_as_they_were_typed(folder, word, path, value):
    changed, _ = content_of(word, content={})
    for key in path:
        changed = changed[key]
    assert changed == value


def test_settings_by_path_join_those_of_set(folder):
    changed, problems = content_of("a.b=1", "set=c.d=2 e.f=3", "g.h=4", content={})
    assert not problems and changed == {"a": {"b": 1}, "c": {"d": 2}, "e": {"f": 3}, "g": {"h": 4}}


@pytest.mark.parametrize("name", ["# notes.txt", "- a.txt", "'a.txt", "{a}.txt", "&a", "*.txt", "|", "!x.txt", "no"])
def test_a_text_may_have_any_name(folder, name):
    text = called(f"text={name}")[1]["text"]
    assert Path(text) == Path(name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["publishd"],
            "run: 'publishd' is no file and no run (did you mean 'published'?); a config file, ",
        ),
        (["none.yaml"], "run: 'none.yaml' is no file and no run; a config file, KEY=VALUE, or one of benchmarks, "),
        (["tiny", "-n"], "run: -n is an option; Snakemake's follow --; such as lmstages run -- -n"),
        (["tiny", "counts"], "run: tiny and counts are two runs; one at a time; call it once for each"),
        (["\x1b[31m"], "run: '\\x1b[31m' is no file and no run"),
    ],
)
def test_a_word_that_is_nothing_is_refused(folder, words, message):
    with pytest.raises(UserError) as caught:
        snakemake_call(words)
    assert str(caught.value).startswith(message)


def test_without_snakemake_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(workflow_call, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs snakemake, which is not installed; pip install 'lmstages\[workflow\]'"):
        snakemake_call([])


# lmstages run


def fits(plan):
    """The commands of a plan that fit a model."""
    return {line for line in plan.splitlines() if " -m lmstages fit " in line}


def test_it_prints_the_call_and_plans_what_that_plans(folder):
    (folder / "config.yaml").write_text(SMALL)
    done = lmstages(folder, "run", "models=[bigram,kneser_ney,gpt]", "models.gpt.width=128", "--", "-np")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"width": 128' in done.stdout and '"type": "unigram"' not in done.stdout
    call = shlex.split(done.stdout.splitlines()[0].removeprefix("+ "))
    again = subprocess.run(call, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0 and fits(again.stdout) == fits(done.stdout) and len(fits(done.stdout)) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models.gpt.widht=3"], "models.gpt: unknown key 'widht' (did you mean 'width'?)"),
        (["modles=[gpt]"], "--config modles: unknown key; allowed: run, text"),
        (["models=[gtp]"], "--config models: 'gtp' is not defined; allowed: unigram, bigram, kneser_ney, gpt"),
        (["corpora.fables.split.train=2"], "corpora.fables.split"),
    ],
)
def test_a_setting_is_checked_as_that_of_snakemake_and_its_exit_status_is_passed_on(folder, words, message):
    (folder / "config.yaml").write_text(SMALL)
    done = lmstages(folder, "run", *words, "--", "-n")
    assert done.returncode == 1 and message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_snakemake_which_is_this_very_process(folder, number):
    (folder / "config.yaml").write_text(SMALL.replace("steps: 3", "steps: 1000000"))
    command = [sys.executable, "-m", "lmstages", "run", "models=[gpt]", "--", "--cores", "1"]
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=True, **output)
    try:
        wait_for(lambda: any(folder.glob("resume/*/*")), process)
        assert Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-m", b"snakemake"]
        os.killpg(process.pid, number)  # as a terminal does, and a system that shuts down
        assert process.wait(timeout=60) != 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


# lmstages init


def test_init_writes_a_config_that_is_the_default_run(folder, capsys):
    assert main(["init", "my"]) == 0
    assert sorted(path.name for path in (folder / "my").iterdir()) == ["config.schema.json", "config.yaml"]
    assert read_run(folder / "my/config.yaml") == read_run(PROJECT / "config.yaml")
    assert (folder / "my/config.schema.json").read_bytes() == (PROJECT / "docs/config.schema.json").read_bytes()
    out = capsys.readouterr().out
    assert "written: my/config.yaml\n" in out and "\n  cd my && lmstages run\n" in out


@pytest.mark.parametrize("run", workflow_files.run_names())
def test_init_begins_with_any_run_and_keeps_its_comments(folder, run):
    assert main(["init", "my", "--run", run]) == 0
    text, origin = (folder / "my/config.yaml").read_text(), (PROJECT / "runs" / f"{run}.yaml").read_text()
    written = read_run(folder / "my/config.yaml").model_dump(exclude={"name"})
    assert written == read_run(PROJECT / "runs" / f"{run}.yaml").model_dump(exclude={"name"})
    head, _, body = origin.partition("\ncorpora:")
    assert text.endswith(f"\ncorpora:{body}") and "snakemake" not in text.partition("\ncorpora:")[0]
    assert all(line in text for line in head.splitlines()[1:] if "snakemake" not in line)


def test_init_adds_a_profile_to_a_folder_whose_config_was_edited(folder, capsys):
    main(["init", "."])
    (folder / "config.yaml").write_text(SMALL)
    assert main(["init", ".", "--profile", "slurm", "--profile", "cluster-generic"]) == 0
    assert (folder / "config.yaml").read_text() == SMALL
    for name in ("slurm/config.yaml", "cluster-generic/status"):
        copy, original = folder / "profiles" / name, PROJECT / "profiles" / name
        assert copy.read_bytes() == original.read_bytes() and os.access(copy, os.X_OK) == os.access(original, os.X_OK)
    assert "\n  lmstages run -- --workflow-profile profiles/slurm\n" in capsys.readouterr().out


def files_below(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("present", "arguments", "message"),
    [
        ("config.yaml", [], "config.yaml: is there already; init overwrites nothing; edit it, or give another folder"),
        ("config.schema.json", [], "config.schema.json: is there already; init overwrites nothing; remove or rename"),
        ("profiles/slurm/config.yaml", ["--profile", "slurm"], "profiles/slurm/config.yaml: is there already"),
        ("x", ["--run", "tinny"], "--run: 'tinny' found (did you mean 'tiny'?); allowed: default, benchmarks"),
        ("x", ["--profile", "slrum"], "--profile: 'slrum' found (did you mean 'slurm'?); allowed: cluster-generic"),
    ],
)
def test_init_overwrites_nothing(folder, capsys, present, arguments, message):
    (folder / present).parent.mkdir(parents=True, exist_ok=True)
    (folder / present).write_text("mine")
    before = files_below(folder)
    assert main(["init", ".", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"lmstages: error: {message}") and files_below(folder) == before


def test_init_keeps_what_else_lies_in_the_folder(folder):
    (folder / "novel.txt").write_text("mine")
    assert main(["init", "."]) == 0 and (folder / "novel.txt").read_text() == "mine"


def test_init_a_second_time_changes_nothing(folder, capsys):
    main(["init", "my"])
    before = files_below(folder)
    (folder / "my/config.schema.json").unlink()
    assert main(["init", "my"]) == 0 and files_below(folder) == before
    out = capsys.readouterr().out
    assert "there already: my/config.yaml\n" in out and out.count("written: my/config.schema.json\n") == 2


def test_init_of_a_file_is_one_line(folder, capsys):
    (folder / "my").touch()
    assert main(["init", "my"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("lmstages: error: my") and err.count("\n") == 1


def test_a_folder_without_a_config_says_how_to_get_one(folder):
    done = lmstages(folder, "run", "--", "-n")
    assert done.returncode == 1 and f"config.yaml: not in {folder}, but in {PROJECT}; start it there" in done.stdout


# What is installed


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source distribution, and the wheel that is built from it, of a copy of the checkout."""
    copy, out = tmp_path_factory.mktemp("checkout") / "lmstages", tmp_path_factory.mktemp("dist")
    made = {".git", ".venv", ".snakemake", "results", "downloads", "resume", "logs", "site", "build", "dist"}
    shutil.copytree(PROJECT, copy, ignore=lambda path, names: made & {*names} if Path(path) == PROJECT else [])
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, env=environment(PYTHONPATH=""), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [source], [wheel] = out.glob("*.tar.gz"), out.glob("*.whl")
    return source, wheel


def files_of(*names, beginning=""):
    """The files of the checkout below some of its parts, as the wheel names them."""
    paths = [path for name in names for path in (PROJECT / name, *(PROJECT / name).rglob("*")) if path.is_file()]
    kept = [path for path in paths if "__pycache__" not in path.parts]
    return {f"{beginning}{path.relative_to(PROJECT)}" for path in kept}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_the_workflow_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == files_of("lmstages") | files_of(
        *WORKFLOW, "docs/config.schema.json", beginning="lmstages/workflow/"
    )


@pytest.mark.slow
def test_the_source_distribution_holds_what_the_wheel_is_built_from_and_the_tests(built):
    with tarfile.open(built[0]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = files_of("lmstages", "tests", "docs", *WORKFLOW, "setup.py", "pyproject.toml", "README.md", "LICENSE")
    assert wanted <= names and not any(name.startswith(("results/", ".venv/", ".git/")) for name in names)


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A new environment with the wheel, which finds every other package where these tests find it."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*command, str(built[1])], check=True, env=environment(PYTHONPATH=""))
    [packages] = folder.glob("lib/python*/site-packages")
    others = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in others))
    return folder / "bin"


def typed(installed, folder, *words):
    """A command of the installed package as it is typed, on a PATH that has neither Python nor Snakemake."""
    variables = {**environment(PATH=f"/usr/bin{os.pathsep}/bin")}
    del variables["PYTHONPATH"]
    command = [str(installed / words[0]), *words[1:]]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_commands_of_the_installed_package_make_a_report_in_an_empty_folder(installed, tmp_path):
    begun = typed(installed, tmp_path, "lmstages", "init", "my", "--run", "tiny")
    assert begun.returncode == 0, begun.stderr
    folder = tmp_path / "my"
    choice = ["corpora=[fables]", "models=[bigram,gpt]", "models.gpt.width=8"]
    done = typed(installed, folder, "lmstages", "run", *choice, "--", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "results/default/report.html").is_file() and list(folder.glob("logs/default/**/fit.log"))
    assert str(PROJECT) not in done.stdout + done.stderr, "nothing of the checkout is used"
    explained = typed(installed, folder, "lmstages", "explain", "results/default/fables/bpe/gpt/seed0").stdout
    assert ", fit: " in explained and "the same now" in explained and '"width": 8' in explained
    again = explained.splitlines()[-2].strip()
    assert again.startswith("snakemake ") and "--snakefile" in again and "lmstages/workflow/Snakefile" in again
    planned = typed(installed, folder, "python", "-m", *shlex.split(again), "-n")
    assert planned.returncode == 0 and "fit" in planned.stdout, planned.stdout + planned.stderr
    (folder / "results/default/results.parquet").unlink()
    lost = typed(installed, folder, "lmstages", "table", "results/default")
    assert "run the workflow (lmstages run) to make it" in lost.stderr


@pytest.mark.slow
def test_the_installed_package_says_what_its_folder_lacks(installed, tmp_path):
    done = typed(installed, tmp_path, "lmstages", "run", "--", "-n")
    message = f"lmstages: error: config.yaml: not in {tmp_path}; write one, lmstages init ., or name one with"
    assert done.returncode == 1 and message in done.stdout
    (tmp_path / "config.yaml").write_text(SMALL)
    profile = typed(installed, tmp_path, "lmstages", "run", "--", "-n", "--workflow-profile", "profiles/slurm")
    assert profile.returncode == 1 and "write it to edit it, lmstages init . --profile slurm" in profile.stdout
    assert typed(installed, tmp_path, "lmstages", "init", ".", "--profile", "slurm").returncode == 0
    profile = typed(installed, tmp_path, "lmstages", "run", "--", "-n", "--workflow-profile", "profiles/slurm")
    assert profile.returncode == 0, profile.stdout + profile.stderr
