"""environment.yml: conda makes the environment of the lock, on a Python that the project takes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = (PROJECT / "requirements.lock").read_text("utf-8").splitlines()
*CONDA, OF_PIP = yaml.safe_load((PROJECT / "environment.yml").read_text("utf-8"))["dependencies"]


def test_conda_brings_a_python_that_the_project_takes_and_ci_has_too():
    [version] = [package.partition("=")[2] for package in CONDA if package.startswith("python=")]
    assert SpecifierSet(PYPROJECT["requires-python"]).contains(f"{version}.0") and "pip" in CONDA
    assert f'python-version: "{version}"' in (PROJECT / ".github/workflows/ci.yml").read_text("utf-8")


def test_pip_is_given_the_lock_and_installs_nothing_that_it_does_not_pin(tmp_path):
    """As conda does it: the list becomes a requirements file in the folder of environment.yml."""
    (tmp_path / "requirements.lock").write_text("\n".join(LOCK))
    (tmp_path / "condaenv.requirements.txt").write_text("\n".join(OF_PIP["pip"]))
    arguments = ["install", "--dry-run", "--no-index", "--no-deps", "--requirement", "condaenv.requirements.txt"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    satisfied = set(re.findall(r"^Requirement already satisfied: (\S+==\S+) in ", done.stdout, re.MULTILINE))
    assert satisfied == {line for line in LOCK if line and not line.startswith("#")}


def test_the_lock_pins_every_package_that_the_project_needs():
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in LOCK}
    extras = PYPROJECT["optional-dependencies"]
    needed = [
        *PYPROJECT["dependencies"],
        *(r for name in ("workflow", "play", "docs", "cluster") for r in extras[name]),
    ]
    assert not {Requirement(line).name.lower().replace("_", "-") for line in needed} - pinned


def test_ci_of_github_calls_the_command_that_anybody_calls():
    workflow = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert {"run": ".ci/run"} in workflow["jobs"]["run"]["steps"]
