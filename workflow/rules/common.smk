# The run: which config, read by our own strict reader; and what rules ask of it.

import hashlib
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)

from lmstages.config import NAME, SPLITS, to_section
from lmstages.corpora.sources import SOURCES
from lmstages.errors import UserError
from lmstages.provenance import code_hash, package_hash
from lmstages.reading import read_run, text_run
from lmstages.sweeps import listed


def chosen_run():
    """``--config run=NAME`` is runs/NAME.yaml, ``--configfile`` any file, ``--config text=FILE`` a text of one's own."""
    given = dict(workflow.config_settings.config or {})
    files = [Path(path) for path in workflow.config_settings.configfiles]
    name, text = given.pop("run", None), given.pop("text", None)
    path = Path("runs", f"{name}.yaml") if name else files[-1] if files else Path("config.yaml")
    try:
        return read_run(path, given) if text is None else text_run(path, str(text), given)
    except UserError as error:
        raise WorkflowError(f"lmstages: error: {error}")


RUN = chosen_run()
ROOT = f"results/{RUN.name}"
os.environ["LMSTAGES_MIRROR"] = RUN.mirror or ""


def stop_if_changed():
    """A job that starts later reads config and code again: if they changed meanwhile, it must not mix results."""
    now = hashlib.sha256(f"{RUN.model_dump_json()}{package_hash()}".encode()).hexdigest()
    if workflow.remote_exec and os.environ.get("LMSTAGES_RUN", now) != now:
        raise WorkflowError("lmstages: error: config or code changed while the run was in progress; start it again")
    if not workflow.remote_exec:
        os.environ["LMSTAGES_RUN"] = now


stop_if_changed()


envvars:
    "LMSTAGES_MIRROR",
    "LMSTAGES_RUN",


wildcard_constraints:
    corpus=NAME,
    tokenizer=NAME,
    model=NAME,
    source=NAME,
    part=NAME,
    stories="all|[1-9][0-9]*",
    seed="[0-9]+",


def raw_files(wildcards):
    """What a corpus is made from: its downloads, the user's file, or nothing where it is drawn."""
    corpus = RUN.corpora[wildcards.corpus]
    if corpus.embedded:
        return []
    if corpus.path is not None:
        return [corpus.path]
    parts = [part.name for part in SOURCES[corpus.source].parts]
    return [f"downloads/{corpus.source}.{part}.{corpus.stories(part)}.txt" for part in parts]


def corpus_section(wildcards):
    return RUN.prepare_section(wildcards.corpus)


def layout(wildcards):
    return RUN.layout(wildcards.corpus)


def tokenizer_section(wildcards):
    return to_section(RUN.tokenizers[wildcards.tokenizer])


def fit_section(wildcards):
    return RUN.fit_section(wildcards.model)


def evaluate_section(wildcards):
    return RUN.evaluate_section(wildcards.corpus, wildcards.model)


def fit_code(wildcards):
    return code_hash("fit", RUN.models[wildcards.model].rung.module)


def evaluate_code(wildcards):
    return code_hash("evaluate", RUN.models[wildcards.model].rung.module)


def token_files(*splits):
    """The three files of a token stream, for each split."""
    kinds = ("npy", "bytes.npy", "starts.npy")
    return [f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/{split}.{kind}" for split in splits for kind in kinds]


def evaluated_tokens(wildcards):
    return [path.format(**wildcards) for path in token_files(*RUN.corpora[wildcards.corpus].evaluate)]


def cells(wildcards):
    """What the comparison reads of every cell of the run."""
    files = ("fit.json", "scores.safetensors", "evaluation.json")
    return [f"{ROOT}/{c}/{t}/{m}/seed{s}/{file}" for c, t, m, s in RUN.cells() for file in files]


def sweep_files():
    """A table and a figure of every sweep."""
    names = [sweep["name"] for sweep in listed(RUN.sweeps)]
    return expand(f"{ROOT}/sweeps/{{name}}.{{kind}}", name=names, kind=["csv", "svg"])


def corpus_oracle(wildcards):
    return RUN.oracle_section(wildcards.corpus)


def oracles(wildcards):
    """The oracle of every corpus that has one."""
    embedded = [name for name, corpus in RUN.corpora.items() if corpus.embedded]
    return [f"{ROOT}/{name}/oracle/{file}" for name in embedded for file in ("oracle.json", "scores.safetensors")]
