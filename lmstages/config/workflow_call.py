"""What ``lmstages run`` calls: config files, settings and Snakemake's own options as one call of Snakemake.

    lmstages run                                     config.yaml of this folder
    lmstages run published models.gpt.width=128      runs/published.yaml with one key changed
    lmstages run mine.yaml text=my.txt -- --cores 8  what follows -- is passed to Snakemake as it stands

Settings are those of ``--config``, which ``overrides`` reads: a key with dots goes into ``set``, any other stands by
itself. Snakemake is not imported: it takes this process's place, so that signals and exit status are its own.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.workflow_files import run_names, snakefile_option

SEPARATOR = "--"
TAKEN_BY_SNAKEMAKE = re.compile(r"[a-zA-Z_][\w-]*\w")  # a key of --config
NEEDS_NO_FOLDER = tuple("/~[.")  # the first character of a text that is no plain name of a file
SAYS_HOW_MANY = ("--cores", "-c", "--jobs", "-j", "--profile", "--workflow-profile")  # then we do not


def snakemake_call(words: Sequence[str]) -> list[str]:
    """The arguments after ``lmstages run`` as a command and its arguments.

    Raises UserError for what is neither a config nor a setting, and where Snakemake is not installed.
    """
    if find_spec("snakemake") is None:
        remedy = "pip install 'lmstages[workflow]', or the version in requirements.lock"
        raise UserError("run", "needs snakemake, which is not installed", "", remedy)
    at = words.index(SEPARATOR) if SEPARATOR in words else len(words)
    own, options = words[:at], words[at + 1 :]
    settings = [word for word in own if is_setting(word)]
    files, names = configs([word for word in own if not is_setting(word)])
    cores = [] if any(word.startswith(SAYS_HOW_MANY) for word in options) else ["--cores", "all"]
    call = [sys.executable, "-m", "snakemake", *options, *snakefile_option(Path.cwd()), *cores]
    call += ["--configfile", *files] if files else []
    config = [*(f"run={name}" for name in names), *as_config(settings)]
    return [*call, "--config", *config] if config else call


def is_setting(word: str) -> bool:
    """Whether a word is ``KEY=VALUE``; a file whose name holds ``=`` is written with its folder, ``./a=b.yaml``."""
    return "=" in word and not word.startswith(("./", "../", "/", "~"))


def configs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that are no settings -> files, and the one run among them that is given by its name."""
    names = [word for word in words if not Path(word).is_file() and run_exists(word)]
    files = [word for word in words if word not in names]
    for word in files:
        if not Path(os.path.expanduser(word)).is_file():
            raise refusal(word)
    if len(names) > 1:
        raise UserError("run", f"{' and '.join(names)} are two runs", "one at a time", "call it once for each")
    return files, names


def run_exists(name: str) -> bool:
    """Whether there is a runs/NAME.yaml here or beside the Snakefile."""
    return name in run_names() or ("/" not in name and Path("runs", f"{name}.yaml").is_file())


def refusal(word: str) -> UserError:
    """Why a word is no part of the call."""
    if word.startswith("-"):
        remedy = shlex.join(["lmstages", "run", SEPARATOR, word])
        return UserError("run", f"{word} is an option", f"Snakemake's follow {SEPARATOR}", f"such as {remedy}")
    allowed = f"a config file, KEY=VALUE, or one of {', '.join(run_names())}"
    return UserError("run", f"{word!r} is no file and no run{did_you_mean(word, run_names())}", allowed)


def as_config(settings: Sequence[str]) -> list[str]:
    """``KEY=VALUE`` as ``--config`` takes them: keys that Snakemake does not take, such as those with dots, in ``set``.

    What was given as ``set`` itself stands before them.
    """
    pairs = [setting.partition("=") for setting in settings]
    alone = [f"{key}={in_its_folder(key, value)}" for key, _, value in pairs if is_alone(key)]
    by_path = [value for key, _, value in pairs if key == "set"]
    by_path += [shlex.quote(f"{key}={value}") for key, _, value in pairs if not is_alone(key) and key != "set"]
    return [*alone, f"set={' '.join(by_path)}"] if by_path else alone


def is_alone(key: str) -> bool:
    """Whether a key stands by itself after ``--config``."""
    return key != "set" and TAKEN_BY_SNAKEMAKE.fullmatch(key) is not None


def in_its_folder(key: str, value: str) -> str:
    """A text's path with ./ where its name begins with what YAML, by which Snakemake reads it, takes for its own."""
    plain = not value or value[0].isalnum() or value.startswith(NEEDS_NO_FOLDER)
    return value if key != "text" or plain else f"./{value}"


def take_its_place(call: Sequence[str]) -> None:
    """This process becomes Snakemake: Ctrl-C, SIGTERM and the exit status are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(call[0], list(call))  # noqa: S606 (our own interpreter, without a shell)
