# The run: which config, read by our own strict reader; and what rules ask of it.

import hashlib
import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)

from lmstages.config import resources
from lmstages.config.reading import read_run, text_run
from lmstages.config.sections import NAME, OWN, SPLITS, to_section
from lmstages.config.sources import SOURCES
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.provenance import code_hash, package_hash
from lmstages.results.schema import TABLES


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


def stop_if_profile_is_missing():
    """Snakemake passes over a workflow profile that is not there, and would run everything on the head node."""
    given = [after for flag, after in zip(sys.argv, sys.argv[1:]) if flag == "--workflow-profile" and after != "none"]
    for name in given:
        if not list(Path(name).glob("*.yaml")):
            hint = did_you_mean(name, [str(path.parent) for path in Path("profiles").glob("*/config.yaml")])
            raise WorkflowError(f"lmstages: error: --workflow-profile: {name!r} is no folder with a config.yaml{hint}")


stop_if_profile_is_missing()


def stop_if_changed():
    """A job that starts later reads config and code again: if they changed meanwhile, it must not mix results."""
    now = hashlib.sha256(f"{RUN.model_dump_json()}{package_hash()}".encode()).hexdigest()
    if workflow.remote_exec and os.environ.get("LMSTAGES_RUN", now) != now:
        raise WorkflowError("lmstages: error: config or code changed while the run was in progress; start it again")
    if not workflow.remote_exec:
        os.environ["LMSTAGES_RUN"] = now


stop_if_changed()

# A cluster ends a job at its time limit; on one machine ``runtime`` is no more than a guess.
os.environ["LMSTAGES_TIME_LIMIT"] = "yes" if workflow.remote_exec else ""


envvars:
    "LMSTAGES_MIRROR",
    "LMSTAGES_RUN",
    "LMSTAGES_TIME_LIMIT",


wildcard_constraints:
    corpus=NAME,
    tokenizer=NAME,
    model="|".join(RUN.models),
    mixture="|".join(RUN.mixtures) or "(?!)",
    pretrained="|".join(RUN.pretrained) or "(?!)",
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


def asked(need, wildcards, *rest):
    """What a fit asks of the machine, by its config and the width of its vocabulary."""
    vocab_size = RUN.tokenizers[wildcards.tokenizer].vocab_size or 256
    return need(RUN.models[wildcards.model].config, vocab_size, *rest)


def fit_threads(wildcards):
    return asked(resources.cores, wildcards)


def fit_gpus(wildcards):
    return asked(resources.gpus, wildcards)


def fit_device(wildcards):
    """A GPU where one is asked for and there is one."""
    return "auto" if fit_gpus(wildcards) else "cpu"


def fit_minutes(wildcards):
    return asked(resources.minutes, wildcards)


def fit_megabytes(wildcards, input, attempt):
    """Twice as much at the second attempt, since the first may have been killed for it."""
    return min(attempt, 2) * asked(resources.megabytes, wildcards, input.size_mb)


def small_cell(wildcards):
    """On a cluster, cells that ask for nothing special share jobs; on one machine each job is by itself."""
    alone = workflow.local_exec or fit_gpus(wildcards) or fit_threads(wildcards) > 1
    return None if alone else "small_cells"


def fit_code(wildcards):
    return code_hash("fit", RUN.models[wildcards.model].config.module)


def evaluate_code(wildcards):
    return code_hash("evaluate", RUN.models[wildcards.model].config.module)


def token_files(*splits):
    """The three files of a token stream, for each split."""
    kinds = ("npy", "bytes.npy", "starts.npy")
    return [f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/{split}.{kind}" for split in splits for kind in kinds]


def evaluated_tokens(wildcards):
    return [path.format(**wildcards) for path in token_files(*RUN.splits_scored(wildcards.corpus, wildcards.model))]


def component_folders(wildcards):
    """Where the cells lie that a mixture is made of."""
    parts = RUN.components(wildcards.mixture, int(wildcards.seed))
    return [f"{ROOT}/{wildcards.corpus}/{wildcards.tokenizer}/{model}/seed{seed}" for model, seed in parts]


def component_files(wildcards):
    files = ("fit.json", "scores.safetensors", "evaluation.json")
    return [f"{folder}/{file}" for folder in component_folders(wildcards) for file in files]


def mix_section(wildcards):
    return RUN.mix_section(wildcards.corpus, wildcards.mixture)


def experiments(wildcards):
    """What the summary reads of every experiment of the run."""
    files, derived = ("fit.json", "scores.safetensors", "evaluation.json"), RUN.derived()
    folders = [(f"{ROOT}/{c}/{t}/{m}/seed{s}", m) for c, t, m, s in RUN.experiments()]
    errors = [f"{folder}/quantization_error.json" for folder, model in folders if model in derived]
    return errors + [f"{folder}/{file}" for folder, _ in folders for file in files]


def base_model(wildcards):
    """The fitted model that a derived one is made of."""
    base = RUN.base_of(wildcards.model)
    return f"{ROOT}/{wildcards.corpus}/{wildcards.tokenizer}/{base}/seed{wildcards.seed}/model.safetensors"


def base_facts(wildcards):
    return str(Path(base_model(wildcards)).with_name("fit.json"))


def derive_code(wildcards):
    return code_hash("derive", RUN.models[wildcards.model].config.module)


def against_code(wildcards):
    return code_hash("against", RUN.models[wildcards.model].config.module)


def pretrained_section(wildcards):
    return RUN.pretrained_section(wildcards.corpus, wildcards.pretrained)


def checkpoint(wildcards):
    """The files of a pretrained model, where they lie on this machine; those of the hub are fetched by the job."""
    record = RUN.pretrained[wildcards.pretrained]
    if record.gguf is not None:
        return [record.gguf]
    patterns = ("*.safetensors", "*.json", "tokenizer.model")
    return [] if record.path is None else sorted(str(file) for p in patterns for file in Path(record.path).glob(p))


def corpus_oracle(wildcards):
    return RUN.oracle_section(wildcards.corpus)


def compress_section(wildcards):
    return RUN.compress_section(wildcards.corpus)


def splits_section(wildcards):
    return RUN.splits_section(wildcards.corpus)


def contrast_section(wildcards):
    return RUN.contrast_section(wildcards.corpus)


def probe_section(wildcards):
    return RUN.probe_section(wildcards.corpus, wildcards.model)


def probe_code(wildcards):
    return code_hash("probe", RUN.models[wildcards.model].config.module)


def analyse_section(wildcards):
    return RUN.analyse_section(wildcards.corpus)


def inspect_section(wildcards):
    return RUN.inspect_section(wildcards.corpus)


def inspect_code(wildcards):
    models = [name for name, _ in json.loads(inspect_section(wildcards))["cells"]]
    return code_hash("inspect", *{RUN.models[name].config.module for name in models})


def inspected_cells(wildcards):
    """The networks that are laid open, and what is told of their fits."""
    folder, files = f"{ROOT}/{wildcards.corpus}/{wildcards.tokenizer}", ("model.safetensors", "fit.json")
    cells = json.loads(inspect_section(wildcards))["cells"]
    return [f"{folder}/{name}/seed{seed}/{file}" for name, seed in cells for file in files]


def inspections(wildcards):
    """What the comparison reads of every corpus and tokenizer whose models are laid open."""
    return [f"{ROOT}/{corpus}/{tokenizer}/inspection.json" for corpus, tokenizer in RUN.inspected()]


def contrasts(wildcards):
    """What a grammar lets one ask, where the corpus has one."""
    return [f"{ROOT}/{wildcards.corpus}/contrasts.json"] if RUN.corpora[wildcards.corpus].embedded else []


def analysed(wildcards):
    """The scores of all cells of a corpus, and what probing the first seed of each fitted one found."""
    files, name = contrasts(wildcards), wildcards.corpus
    if files:
        files = [*files, f"{ROOT}/{name}/oracle/scores.safetensors"]
    for corpus, tokenizer, model, seed in RUN.experiments():
        cell = f"{ROOT}/{corpus}/{tokenizer}/{model}/seed{seed}"
        if corpus == name:
            files.append(f"{cell}/scores.safetensors")
            if model in RUN.models and seed == RUN.seeds_of(model)[0]:
                files += [f"{cell}/samples.json", f"{cell}/probe.json"]
    return files


def analyses(wildcards):
    return [f"{ROOT}/{name}/analyses.json" for name in RUN.corpora]


def compressed(wildcards):
    """What compressors make of every corpus, where the run names any."""
    return [f"{ROOT}/{name}/compressors.json" for name in RUN.corpora] if RUN.compressors else []


def oracles(wildcards):
    """The oracle of every corpus that has one."""
    embedded = [name for name, corpus in RUN.corpora.items() if corpus.embedded]
    return [f"{ROOT}/{name}/oracle/{file}" for name in embedded for file in ("oracle.json", "scores.safetensors")]
