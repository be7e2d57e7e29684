"""Completion of the command line, in the shells themselves."""

import argparse
import os
import subprocess

import pytest

from lmstages.cli import COMMANDS, main, parser
from lmstages.config.ladder import MODEL_TYPES
from lmstages.core.completion import SHELLS

SUBPARSERS = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
BASH = """
source "$SCRIPT"
function=$(complete -p lmstages | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
"$function" lmstages "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $SCRIPT; complete -C "$argv" | string replace -r "\\t.*" ""'
ZSH_LINE = """
zmodload zsh/zpty
zpty shell 'zsh -f -i'
zpty -w shell 'PS1=READY; autoload -Uz compinit; compinit -u -D; eval "$(<$SCRIPT)"; print LOADED'
zpty -r shell out '*LOADED*READY*'
zpty -n -w shell "$*"$'\\t'
zpty -r -m shell out "*$EXPECTED*" && print -r -- "$out"
zpty -d shell
"""


@pytest.fixture(params=[pytest.param(shell, marks=pytest.mark.needs(shell)) for shell in SHELLS])
def shell(request, tmp_path, capsys):
    """A shell, and a function: the beginning of a line, in words -> what it completes the last one to."""
    assert main(["completion", request.param]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "config.yaml").touch()
    variables = {**os.environ, "SCRIPT": str(script), "HOME": str(tmp_path)}

    def run(*words, expected=""):
        lines = {"bash": [BASH, "bash", *words], "fish": [FISH, " ".join(words)], "zsh": [ZSH_LINE, "zsh", *words]}
        command = [request.param, *(["--no-config"] if request.param == "fish" else []), "-c", *lines[request.param]]
        done = subprocess.run(
            command, cwd=tmp_path / "work", env={**variables, "EXPECTED": expected}, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        return done.stdout

    return request.param, run


def test_the_script_is_without_a_mistake_of_the_shells_grammar(shell, tmp_path):
    name, _ = shell
    done = subprocess.run([name, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("lmstages", "expl"), "explain"),
        (("lmstages", "fit", "--devi"), "--device"),
        (("lmstages", "models", "kneser"), "kneser_ney"),
        (("lmstages", "check", "conf"), "config.yaml"),
        (("lmstages", "run", "conf"), "config.yaml"),
    ],
)
def test_the_beginning_of_a_word_is_completed(shell, words, completed):
    name, complete = shell
    out = complete(*words, expected=completed)
    assert completed in out if name == "zsh" else out.split() == [completed]


def test_every_command_and_each_of_its_options_is_offered(shell):
    name, complete = shell
    if name == "zsh":  # shows a menu, page by page
        return
    assert set(complete("lmstages", "").split()) >= set(COMMANDS)
    for command, options in SUBPARSERS.items():
        offered = set(complete("lmstages", command, "--").split())
        strings = {option for action in options._actions for option in action.option_strings}
        assert offered >= {option for option in strings if option.startswith("--")}


def test_every_model_is_offered(shell):
    name, complete = shell
    if name != "zsh":
        assert set(complete("lmstages", "models", "").split()) >= set(MODEL_TYPES)


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "tcsh"])
    assert "choose from" in capsys.readouterr().err
