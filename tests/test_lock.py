"""The lock: what it pins is installed, and runs on the oldest Python that the project names."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).parents[1]
PINS = dict(line.split("==") for line in (PROJECT / "requirements.lock").read_text().split() if "==" in line)


@pytest.mark.parametrize("package", PINS)
def test_a_pinned_package_is_installed_and_takes_the_oldest_python(package: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    installed = metadata.distribution(package)
    assert installed.version.partition("+")[0] == PINS[package].partition("+")[0]
    assert SpecifierSet(installed.metadata["Requires-Python"] or "").contains(oldest)
