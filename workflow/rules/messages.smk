# What a person reads of a run on the terminal: beforehand what will be done, then the time that is left, at the end what
# came out. Of the process that a person starts, never of its jobs. Snakemake's own lines of every job lie in its log;
# --verbose and --printshellcmds show them here, too.

import logging
import shutil
import time

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

SECONDS_BETWEEN_LINES = 5.0
OF_EVERY_JOB = {LogEvent.JOB_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.PROGRESS, LogEvent.GROUP_INFO}
OF_THE_START = {LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, LogEvent.RUN_INFO}
WITHOUT_EVENT = ("Assuming unrestricted", "Building DAG", "Using shell", "Select jobs", "Group jobs", "Singularity")
NOTHING_TO_DO = "Nothing to be done"


class Quieter(logging.Filter):
    """Keeps from the terminal what Snakemake says of every job and of itself; warnings and errors pass."""

    def filter(self, record):
        noise = OF_EVERY_JOB | OF_THE_START
        return record.levelno > logging.INFO or not (
            getattr(record, "event", None) in noise or str(record.msg).startswith(WITHOUT_EVENT)
        )


class Messages(logging.Handler):
    """Listens to Snakemake's events and says how far the run is."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.work, self.finished, self.failed = None, [], {}
        self.started = self.last_line = time.monotonic()

    def emit(self, record):
        """Of each event; a bug of ours is Python's own message and stops no run."""
        try:
            event = getattr(record, "event", None)
            if event == LogEvent.JOB_FINISHED:
                self.job_finished(record.job_id)
            elif event == LogEvent.JOB_ERROR:
                name = self.work.jobs[record.jobid].name if self.knows(record.jobid) else record.rule_name
                self.failed[name] = ", ".join(record.log or [])
            elif event is None and str(record.msg).startswith(NOTHING_TO_DO):
                self.ended()
        except Exception:
            self.handleError(record)

    def knows(self, key):
        return self.work is not None and key in self.work.jobs

    def began(self):
        """What will be done; the run of single files, too."""
        from lmstages.config.workload import workload
        from lmstages.results import run_messages

        self.started = time.monotonic()
        self.work = workload(planned_jobs(), workflow.cores if workflow.local_exec else 0, FACTORS)
        logger.info(run_messages.plan(RUN.name, self.work, free_bytes()))

    def job_finished(self, key):
        from lmstages.results import run_messages

        if not self.knows(key):
            return
        self.finished.append(key)
        self.failed.pop(self.work.jobs[key].name, None)  # it was tried again
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            logger.info(run_messages.progress(self.work, self.finished, now - self.started))

    def ended(self):
        """The head of the table, where the whole run was asked for."""
        from lmstages.results import run_messages

        if any(job.rule.name == "all" for job in workflow.dag.jobs):
            logger.info(run_messages.ending(Path(ROOT)))

    def stopped(self):
        """What failed; the table, too, where this call has made it."""
        from lmstages.results import run_messages

        if self.work is None:
            return
        made = {self.work.jobs[key].rule_name for key in self.finished}
        logger.info(run_messages.failure(RUN.name, self.failed, len(self.finished), len(self.work.jobs)))
        if "report" in made:
            self.ended()


def planned_jobs():
    """The jobs that will run, as ``workload`` knows them."""
    from lmstages.config.workload import Job

    dag = workflow.dag
    waiting = {dag.jobid(job): job for job in dag.needrun_jobs() if job.rule.name != "all"}
    return [
        Job(
            key=key,
            rule_name=job.rule.name,
            subject=subject_of(job.wildcards),
            threads=job.threads,
            section=str(job.params.get("section", "")),
            outputs=tuple(map(Path, job.output)),
            benchmark=None if job.benchmark is None else Path(str(job.benchmark)),
            after=frozenset(dag.jobid(other) for other in dag.dependencies[job]) & set(waiting),
            **of_model(job.wildcards),
        )
        for key, job in waiting.items()
    ]


def free_bytes():
    """Of the disk that results are written to; infinite where the system does not say."""
    try:
        return shutil.disk_usage(".").free
    except OSError:
        return float("inf")


def subject_of(wildcards):
    """CORPUS/TOKENIZER/MODEL/seedN, or its beginning; of a download its source and part."""
    names = ("corpus", "tokenizer", "model", "mixture", "pretrained", "reported", "source", "part")
    parts = [wildcards[name] for name in names if name in wildcards.keys()]
    parts += [f"seed{wildcards.seed}"] if "seed" in wildcards.keys() else []
    return Path(*parts).as_posix() if parts else ""


def shows_messages():
    """Where this call makes files, nobody asked for less, and no other workflow has this one as its module."""
    is_main = Path(workflow.main_snakefile).resolve() == (PROJECT / "Snakefile").resolve()
    return is_main and MAKES_FILES and not workflow.touch and not workflow.output_settings.quiet


def shows_snakemakes_own():
    return workflow.output_settings.verbose or workflow.output_settings.printshellcmds


MESSAGES = Messages()
if shows_messages():
    logger.addHandler(MESSAGES)
    for handler in logger.handlers:
        to_terminal = isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
        if to_terminal and not shows_snakemakes_own():
            handler.addFilter(Quieter())


onstart:
    if shows_messages():
        MESSAGES.began()


onsuccess:
    if shows_messages():
        MESSAGES.ended()


onerror:
    if shows_messages():
        MESSAGES.stopped()
