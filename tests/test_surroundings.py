"""What tests/conftest.py promises: the same surroundings for every test, and in CI no skip for a missing tool."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOSTILE = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "COLUMNS": "40", "SNAKEMAKE_PROFILE": "nowhere", "WORLD_SIZE": "2"}
HOSTILE |= {
    "HTTP_PROXY": "http://nowhere",
    "no_proxy": "",
    "XDG_CONFIG_HOME": "/nowhere",
    "PYTHONHASHSEED": "7",
    "PYTHONPATH": "beside",
}
PROBE = """
import os, signal, time
def test_surroundings():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGQUIT) == signal.SIG_DFL and not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert time.tzname == ("UTC", "UTC") and os.environ["LC_ALL"] == "C.UTF-8" and os.environ["COLUMNS"] == "80"
    assert not {"SNAKEMAKE_PROFILE", "WORLD_SIZE", "PYTHONHASHSEED", "HTTP_PROXY", "no_proxy"} & os.environ.keys()
    assert os.path.isdir(os.environ["XDG_CONFIG_HOME"]) and not os.listdir(os.environ["XDG_CONFIG_HOME"])
    assert os.path.isabs(os.environ["PYTHONPATH"].split(os.pathsep)[0])
    assert os.umask(0o022) == 0o022
"""
SKIPPED = """
import pytest
def test_tool(): pytest.skip("no such tool")
def test_data(): pytest.skip("the published corpora are not beside the checkout")
@pytest.mark.xfail
def test_expected(): assert False
"""


def run_pytest(folder, content, *options, environment=None, before=None):
    """pytest in a process of its own, on one file or several beside a copy of conftest.py."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    for name, text in content.items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, "-v", *options, "."]
    environment = {**os.environ, "CI": "", **(environment or {})}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, preexec_fn=before
    )


def shell_in_the_background():
    """Dispositions that nohup and ``&`` of a script leave to their children, a blocked signal and an odd umask."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.umask(0o077)


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_hostile_surroundings_reach_no_test(tmp_path, workers):
    done = run_pytest(tmp_path, {"test_it.py": PROBE}, *workers, environment=HOSTILE, before=shell_in_the_background)
    assert done.returncode == 0, done.stdout


def test_these_tests_run_in_them_too():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and time.tzname == ("UTC", "UTC")


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 failed, 1 skipped, 1 xfailed"), ("", "2 skipped, 1 xfailed")])
def test_in_ci_a_skip_for_a_missing_tool_is_a_failure(tmp_path, ci, outcome):
    done = run_pytest(tmp_path, {"test_it.py": SKIPPED}, environment={"CI": ci})
    assert outcome in done.stdout
    assert ("in CI no test is skipped for what is missing: no such tool" in done.stdout) == bool(ci)


def order_of_files(folder, *options):
    files = {f"test_{letter}.py": "def test_1(): pass\ndef test_2(): pass\n" for letter in "abcdef"}
    output = run_pytest(folder, files, *options).stdout
    assert not options or "files shuffled: --shuffle 1" in output
    return [line.split()[0] for line in output.splitlines() if "PASSED" in line]


def test_shuffled_files_keep_the_order_of_their_tests(tmp_path):
    plain, shuffled = order_of_files(tmp_path), order_of_files(tmp_path, "--shuffle", "1")
    assert len(plain) == 12 and sorted(shuffled) == plain == sorted(plain) and shuffled != plain
    assert all(second == first.replace("_1", "_2") for first, second in zip(shuffled[::2], shuffled[1::2], strict=True))
    assert shuffled == order_of_files(tmp_path, "--shuffle", "1")


def test_permissions_bind_in_the_bound_folder(bound_folder):
    path = bound_folder / "file"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(PermissionError):
        path.read_text()
