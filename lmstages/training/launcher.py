"""Starts the processes that share a fit, through torch's own launcher, torchrun.

    one node        the processes are started here
    several nodes   srun starts the command once on each node of this Slurm job; they meet at a port of the first node

The threads that a fit is granted on a node are divided among its processes. A signal is passed on to all of them, so
that they save and stop. Knows a command line; never a model or a file.
"""

import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from lmstages.core.errors import Interrupted, UserError
from lmstages.core.progress import LOGGER, log_to
from lmstages.core.runtime import SECONDS_TO_SAVE, SIGNALS

LAUNCHED = [sys.executable, "-m", "lmstages"]
SAVED = 75  # exit code of a process that was interrupted and has saved


class Layout(NamedTuple):
    """``nodes`` with so many ``processes`` each; ``threads`` of a node, for all of its processes together.

    ``rendezvous``: HOST:PORT at which the nodes meet; empty for one node, and where Slurm's srun is still to be called.
    """

    processes: int = 1
    nodes: int = 1
    threads: int = 1
    rendezvous: str = ""

    @property
    def total(self) -> int:
        """All processes."""
        return self.processes * self.nodes

    @property
    def threads_of_each(self) -> int:
        """The threads of one process."""
        return max(1, self.threads // self.processes)


def launch(layout: Layout, arguments: Sequence[str], section: str) -> None:
    """Run ``lmstages ARGUMENTS`` as so many processes until all are done; ``section`` where it was read from stdin.

    Raises Interrupted where they were stopped and have saved, UserError where one of them failed or nodes are missing.
    """
    typed = _with_section(arguments, section)
    if layout.nodes > 1 and not layout.rendezvous:
        _become_srun(layout, typed)
    if layout.processes > layout.threads:
        LOGGER.warning("%d processes share %d threads of this machine", layout.processes, layout.threads)
    log_to(None, "")  # from here on the main process has the log file
    alone = ["--threads", str(layout.threads_of_each), "--processes", "1", "--nodes", "1"]
    _run_agent(layout, [*LAUNCHED[1:], *typed, *alone])


def _with_section(arguments: Sequence[str], section: str) -> list[str]:
    """The arguments, with a section that was read from stdin written out: each process needs it."""
    forms = {"--section=-": [f"--section={section}"], "-": [section]}
    before = ["", *arguments]
    is_stdin = [word == "--section=-" or (word == "-" and before[n] == "--section") for n, word in enumerate(arguments)]
    return [part for word, read in zip(arguments, is_stdin, strict=True) for part in (forms[word] if read else [word])]


def _run_agent(layout: Layout, command: list[str]) -> None:
    """torchrun's agent of this node."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import LaunchConfig, elastic_launch

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch warns that no parameter is unused
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes say themselves why they stop
    try:
        elastic_launch(LaunchConfig(**_agent_options(layout)), sys.executable)(*command)
    except SignalException as error:
        raise Interrupted(f"stopped by {signal.Signals(error.sigval).name}; the same command resumes") from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        _explain(f"process {rank} of {layout.total}", failure.exitcode)


def _agent_options(layout: Layout) -> dict[str, Any]:
    """No restarts: a fit that was killed resumes when the same command is called again."""
    handled = [number.name for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    return {
        "min_nodes": layout.nodes,
        "max_nodes": layout.nodes,
        "nproc_per_node": layout.processes,
        "run_id": layout.rendezvous or "lmstages",
        "rdzv_endpoint": layout.rendezvous or "localhost:0",
        "rdzv_backend": "c10d",
        "max_restarts": 0,
        "signals_to_handle": ",".join(handled),
        "shutdown_timeout": round(SECONDS_TO_SAVE),
    }


def _explain(process: str, code: int) -> NoReturn:
    """Why the processes stopped, by the exit code of the first of them."""
    if code == SAVED:
        raise Interrupted("all processes have saved; the same command resumes")
    if code < 0:
        problem = f"was killed by {signal.Signals(-code).name}"
        remedy = "the same command with --resume continues from its last resume point"
        raise UserError(process, problem, "memory that runs out is a usual reason", remedy)
    raise UserError(process, f"failed with exit code {code}", "", "its reason stands above")


def _become_srun(layout: Layout, arguments: Sequence[str]) -> NoReturn:
    """Take the place of this process by srun, which starts the command on every node of the job."""
    where = f"{layout.nodes} nodes"
    if "SLURM_JOB_ID" not in os.environ or shutil.which("srun") is None:
        problem = "this process is in no Slurm job"
        remedy = f"start the command on each of them with --rendezvous {socket.gethostname()}:29400, or give --nodes 1"
        raise UserError(where, problem, "", remedy)
    meeting = f"{socket.gethostname()}:{_free_port()}"
    tasks = [f"--nodes={layout.nodes}", f"--ntasks={layout.nodes}", "--ntasks-per-node=1", "--cpu-bind=none"]
    tasks += [f"--cpus-per-task={layout.threads}", "--kill-on-bad-exit=1"]
    sys.stdout.flush()
    sys.stderr.flush()
    call = ["srun", *tasks, *LAUNCHED, *arguments, "--rendezvous", meeting]
    os.execvpe(call[0], call, _outside_of_steps(os.environ))  # noqa: S606 (Slurm's own, without a shell)


def _free_port() -> int:
    """A port that nobody listens to on this machine, the first node of the job."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _outside_of_steps(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what Slurm says of the step or task that this process is: srun would take it for wishes."""
    of_job = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CONF", "SLURM_CLUSTER_NAME")
    return {name: v for name, v in environment.items() if name in of_job or not name.startswith(("SLURM_", "SRUN_"))}
