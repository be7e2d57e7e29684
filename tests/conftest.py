"""What several test files need, and the surroundings that every test gets alike.

Tests depend on nothing that they did not make themselves. Before the first module is imported, here and in every worker
of pytest-xdist, ``pytest_configure`` gives the process the signal dispositions, environment, umask and time zone of
this file, whatever shell, cron job or cluster started it. ``--shuffle SEED`` runs the files in another order.
"""

import getpass
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hypothesis
import pytest

HOME = Path(os.path.expanduser("~"))  # stays "~" for a user without one
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or HOME / ".cache", "lmstages")  # where tests/*.sh build tools
FIXED = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "LANGUAGE": "", "COLUMNS": "80", "LINES": "24"}
FIXED |= {"TERM": "dumb", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
FIXED |= {"LMSTAGES_STORE": ""}  # files that an earlier test has made would be taken
FIXED |= {"PYTHONDONTWRITEBYTECODE": "1"}  # a child whose files may not grow would leave half of a module's
INHERITED = {"PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONSAFEPATH", "NO_COLOR", "FORCE_COLOR"}
INHERITED |= {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "MPLCONFIGDIR", "MATPLOTLIBRC"}
INHERITED |= {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"}  # of the make that started the tests
INHERITED |= {"XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_DATA_DIRS", "XDG_STATE_HOME", "SOURCE_DATE_EPOCH"}
INHERITED |= {f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")}  # in capitals, too
PREFIXES = ("SNAKEMAKE_", "SLURM_", "LMSTAGES_", "HF_", "TORCHELASTIC_", "NUMBA_DISABLE", "MKL_", "OPENBLAS_")
LONGEST = {"test_workflow.py", "test_settings.py", "test_fuzz_artifacts.py", "test_mixtures.py"}  # begin first
NOBODY = 65534  # uid of the user who owns nothing, on every Linux

KENLM, LLAMA_CPP = CACHE / "kenlm" / "bin", CACHE / "llama_cpp"
SMOLLM2 = CACHE / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def has_llama_cpp() -> bool:
    """Installed, or built where the processes that a test starts can import it."""
    return find_spec("llama_cpp") is not None or (LLAMA_CPP / "llama_cpp/__init__.py").is_file()


def has_browser() -> bool:
    """Chromium, its driver and selenium."""
    return all(map(shutil.which, ("chromium", "chromedriver"))) and find_spec("selenium") is not None


# Tools that are not in requirements.lock, for ``pytest.mark.needs``: is it there, and which script brings it.
TOOLS: dict[str, tuple[Callable[[], bool], str]] = {
    "kenlm": ((KENLM / "lmplz").is_file, "tests/kenlm.sh"),
    "llama_cpp": (has_llama_cpp, "tests/llama_cpp.sh"),
    "smollm2": (SMOLLM2.is_file, "tests/smollm2.sh"),
    "browser": (has_browser, "tests/browser.sh"),
    "bash": (lambda: shutil.which("bash") is not None, "tests/shells.sh"),
    "zsh": (lambda: shutil.which("zsh") is not None, "tests/shells.sh"),
    "fish": (lambda: shutil.which("fish") is not None, "tests/shells.sh"),
    "tensorboard": (lambda: find_spec("tensorboard") is not None, "tests/tensorboard.sh"),
    "slurm": (Path("/usr/sbin/slurmctld").is_file, "tests/slurm.sh install"),
}
# The reasons to skip that say nothing about a missing tool; in CI every other reason is a failure.
NOT_A_TOOL = (
    "the published corpora",
    "there is a GPU",
    "there is no GPU",
    "no other user can be taken on",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--shuffle SEED``, as the hostile run of .ci/run has it."""
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the test files in an order drawn with this seed")


def pytest_configure() -> None:
    """Signals, environment, umask and time zone as every test may expect them."""
    reset_signals()
    reset_environment()
    os.umask(0o022)
    hypothesis.settings.register_profile("untimed", deadline=None)  # an example takes as long as the machine is busy
    hypothesis.settings.load_profile("untimed")


def reset_signals() -> None:
    """The dispositions of a process that an interactive shell starts.

    Under ``nohup`` or in the background of a script SIGINT and SIGQUIT arrive ignored, and so they would in every
    child. SIGHUP stays as it is: whoever starts the suite with ``nohup`` wants it to outlive the terminal.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def reset_environment() -> None:
    """Fixed values, no settings of other programs, absolute paths, and a home and configuration of its own."""
    for name in list(os.environ):
        if {name, name.lower()} & INHERITED or name.startswith(PREFIXES):
            del os.environ[name]
    os.environ |= FIXED
    time.tzset()
    if paths := os.environ.get("PYTHONPATH"):  # tests change the working directory
        os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths.split(os.pathsep) if path)
    if find_spec("llama_cpp") is None and has_llama_cpp():
        os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(LLAMA_CPP)])
    empty = tempfile.mkdtemp(prefix="lmstages-tests-")
    os.environ["XDG_CONFIG_HOME"] = empty  # no profile of Snakemake, no matplotlibrc
    if not os.access(HOME, os.W_OK):
        os.environ["HOME"] = empty
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as `docker run --user` gives; Snakemake asks for one
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    EMPTY_FOLDERS.append(empty)


EMPTY_FOLDERS: list[str] = []


def pytest_unconfigure() -> None:
    """The folders that ``reset_environment`` made go with the process."""
    while EMPTY_FOLDERS:
        shutil.rmtree(EMPTY_FOLDERS.pop(), ignore_errors=True)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The seed of the order, so that a failure can be repeated."""
    if (seed := config.getoption("--shuffle")) is not None:
        terminalreporter.write_line(f"files shuffled: --shuffle {seed}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips what needs a tool that is missing; orders files, whose tests stay in order, as their fixtures want.

    The longest come first, so that no core is left waiting for the other at the end; or all are shuffled.
    """
    for item in items:
        for tool in tools_of(item):
            is_there, script = TOOLS[tool]
            if not is_there():
                item.add_marker(pytest.mark.skip(f"{tool} is missing; {script} installs it"))
    files = sorted({item.path for item in items}, key=lambda path: (path.name not in LONGEST, path))
    seed = config.getoption("--shuffle")
    if seed is not None:
        random.Random(seed).shuffle(files)
    items.sort(key=lambda item: files.index(item.path))


def tools_of(item: pytest.Item) -> set[str]:
    """Those its marker or the fixture ``browser`` names, and llama.cpp where a parameter is the model of that name."""
    tools = {tool for marker in item.iter_markers("needs") for tool in marker.args}
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    tools |= {"llama_cpp"} & {value for value in parameters.values() if isinstance(value, str)}
    return tools | ({"browser"} & set(getattr(item, "fixturenames", ())))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """In CI a test that is skipped because a tool is missing has failed: there every tool is installed."""
    report: Any = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(NOT_A_TOOL):
            report.outcome, report.longrepr = "failed", f"in CI no test is skipped for what is missing: {reason}"
    return report


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with the published corpora, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the published corpora are not beside the checkout")
    return folder


@pytest.fixture
def bound_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder in which permission bits bind: root, whom they do not bind, is another user meanwhile."""
    if os.geteuid() != 0:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        try:
            os.seteuid(NOBODY)
            os.listdir(folder)
        except OSError as error:  # a container without that user, a TMPDIR that only root may enter
            os.seteuid(0)
            pytest.skip(f"no other user can be taken on: {error}")
        yield Path(folder)
        os.seteuid(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; its logs hold every request and every line of the console."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    chrome.set_script_timeout(120)
    yield chrome
    chrome.quit()
