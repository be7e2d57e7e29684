"""Adds the workflow to the wheel: below lmstages/workflow/ it lies as it does at the top of a checkout.

Everything else that a build needs is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WORKFLOW = ("Snakefile", "config.yaml", "workflow", "runs", "profiles", "docs/config.schema.json")


class WithWorkflow(build_py):
    """Copies the package, and the workflow into it; an editable install uses that of the checkout."""

    def run(self) -> None:
        """Build as setuptools does, then copy."""
        super().run()
        if not self.editable_mode:
            for name in WORKFLOW:
                copy(Path(name), Path(self.build_lib, "lmstages", "workflow", name))


def copy(source: Path, target: Path) -> None:
    """A file or a folder, in place of what an earlier build may have left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    else:
        shutil.copy2(source, target)


setup(cmdclass={"build_py": WithWorkflow})
