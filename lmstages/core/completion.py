"""A shell's completion of a command line: shtab writes it from argparse's parser, whatever the commands are.

Every option that takes a path completes files. Knows no command.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

SHELLS = ("bash", "zsh", "fish")


def completion(parser: argparse.ArgumentParser, shell: str, words: Mapping[str, Sequence[str]]) -> str:
    """The script that a shell reads. ``words``: what the first argument of a command may be, by the command.

    Changes ``parser``, of which shtab wants more than argparse keeps: the help of each command, and what takes a file.
    """
    import shtab

    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        summary = (command.description or "").partition(".")[0].replace("\n", " ")
        commands._choices_actions.append(commands._ChoicesPseudoAction(name, (), summary))
        for action in command._actions:
            if name in words and not action.option_strings:
                action.choices = list(words[name])
            elif action.type is Path or action.nargs == argparse.REMAINDER:
                action.complete = shtab.FILE
    return str(shtab.complete(parser, shell))
