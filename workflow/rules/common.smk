# The run: Snakemake's config, read by strict rules; and what rules ask of it.

import hashlib
import inspect
import json
import os
import shlex
import sys
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

from snakemake.cli import get_argument_parser
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import update_config

PROJECT = Path(str(workflow.current_basedir)).parents[1]
IMPORT_PATHS = os.environ.get("PYTHONPATH", "").split(os.pathsep)
if (PROJECT / "lmstages").is_dir():  # jobs run this very code, wherever snakemake is started
    sys.path.insert(0, str(PROJECT))
    IMPORT_PATHS.insert(0, str(PROJECT))
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, IMPORT_PATHS)))

from lmstages import figures
from lmstages.config import learned, needs, resources
from lmstages.config.checkpoint_parts import parts_of
from lmstages.config.overrides import same, settings_on, stop_if_dropped, typed_settings, with_typed
from lmstages.config.own_models import code_of, remember_in
from lmstages.config.reading import read_run, text_run
from lmstages.config.run_folders import claim, origin, stop_if_taken
from lmstages.config.sections import NAME, OWN, SPLITS, VOCABULARIES
from lmstages.config.sources import SOURCES
from lmstages.config.text_files import listings_of, named_files
from lmstages.config.workload import text_bytes
from lmstages.core.contents import Contents
from lmstages.core.errors import UserError, did_you_mean
from lmstages.core.files import remove_unfinished
from lmstages.core.provenance import code_hash, package_hash
from lmstages.core.run_lock import hold_folder
from lmstages.core.system_errors import in_one_line
from lmstages.core.terminal import shown
from lmstages.core.workflow_files import IS_INSTALLED, profile_names
from lmstages.evaluation.forecast import forecast
from lmstages.results.schema import TABLES

LOOKS_ONLY = ("dryrun", "lint", "list_rules", "list_target_rules", "print_compilation", "dag", "rulegraph")
LOOKS_ONLY += ("filegraph", "d3dag", "report", "summary", "detailed_summary", "list_changes", "list_input_changes")
LOOKS_ONLY += ("list_params_changes", "list_untracked", "containerize", "generate_unit_tests", "unlock")


def command_line():
    """Snakemake's own options as it was called, or None where a program calls it."""
    try:
        with redirect_stderr(StringIO()):
            return get_argument_parser().parse_args(sys.argv[1:])
    except (SystemExit, Exception):
        return None


def stop_if_profile_is_missing(name):
    """Snakemake passes over a workflow profile that is not there, and would run everything on the head node."""
    if name in (None, "none"):
        return
    folders = [Path(name), Path("profiles", name), PROJECT / "profiles" / name]
    if not any(folder.is_file() or list(folder.glob("*.yaml")) for folder in folders):
        hint = did_you_mean(name, [str(path.parent) for path in Path("profiles").glob("*/config.yaml")])
        if (profile := Path(name).name) in profile_names():
            hint = f"; write it to edit it, lmstages init . --profile {profile}"
        raise WorkflowError(f"lmstages: error: --workflow-profile: {name!r} is no folder with a config.yaml{hint}")


def begin():
    """Of the process that a person starts, not of its jobs: refuse a missing profile, and wait for any other run here.

    Returns whether this call makes files.
    """
    options = command_line()
    stop_if_profile_is_missing(options and options.workflow_profile)
    os.environ["LMSTAGES_TYPED"] = json.dumps(typed_settings(sys.argv[1:]))
    looks = workflow.output_settings.dryrun or (options and any(getattr(options, name) for name in LOOKS_ONLY))
    if not looks:
        hold(Path.cwd())
    return not looks


def hold(folder):
    """Hold the folder, or say in one line why the system does not let us."""
    try:
        hold_folder(folder)
    except OSError as error:
        path = error.filename or folder
        remedy = "make it writable, or start in another folder with --directory"
        raise WorkflowError(f"lmstages: error: {path}: cannot be locked ({error.strerror}); {remedy}")


IS_JOB = workflow.remote_exec or workflow.subprocess_exec
MAKES_FILES = not IS_JOB and begin()


def or_stop(function, *arguments):
    """What the function returns; what a person can mend or the system refuses, as Snakemake shows it."""
    try:
        return function(*arguments)
    except (UserError, OSError) as error:
        raise WorkflowError(f"lmstages: error: {in_one_line('run', error)}")


def chosen_run():
    """The run of the config files, later ones over earlier ones, with ``--config`` over all; what its folder is for.

    Snakemake has read the files by its own rules; they are read again by ours. A module that is given a config of its
    own making has no file to read again: then that config is taken as it is.
    """
    settings = dict(workflow.config_settings.config or {})
    if not IS_JOB:
        stop_if_dropped(sys.argv[1:], settings)
    files = [Path(path) for path in (*workflow.configfiles, *workflow.config_settings.configfiles)]
    by_snakemake = {}
    for content in (*map(load_configfile, files), settings):
        update_config(by_snakemake, content)
    as_read = same(config, by_snakemake)
    if not as_read:
        settings, files = dict(config), []
    settings = with_typed(settings, json.loads(os.environ.get("LMSTAGES_TYPED", "{}")))
    name, text, typed = settings.pop("run", None), settings.pop("text", None), settings_on(sys.argv[1:])
    if name is not None:
        files = [run_file(name), *files]
    elif not files and as_read:
        files = [own_config()]
    if text is None:
        return read_run(files, settings), origin(files, None, typed)
    run = text_run(files, text, settings)
    return run, origin(files, next(iter(run.corpora.values())).path, typed)


def run_file(name):
    """runs/NAME.yaml of the working directory, else of the project."""
    path = Path("runs", f"{name}.yaml")
    return PROJECT / path if not path.exists() and (PROJECT / path).exists() else path


def look_ahead():
    """Say before the first job what can be known of texts and checkpoints of one's own and of what the models need.

    Returns the entries that cannot be scored, {corpus/tokenizer/model: reason}: they are not fitted, and become rows.
    """
    warnings, result = [], forecast(RUN)
    if workflow.local_exec:
        warnings = resources.larger_than(resources.machine_megabytes(), RUN.configs(), RUN.drawn())
    short = [f"text too short: {part}; its rows will fail, all others are made" for part in result.too_short]
    for warning in warnings + result.warnings + short:
        print(shown(f"lmstages: {warning}"), file=sys.stderr)
    return {"/".join(entry): reason for entry, reason in result.failures.items()}


def own_config():
    """config.yaml of the working directory."""
    path = Path("config.yaml")
    if not path.exists():
        project, named = shlex.quote(str(PROJECT)), "or name one with --configfile or --config run=NAME"
        remedy = f"not in {Path.cwd()}, but in {project}; start it there, cd {project} && snakemake, {named}"
        if IS_INSTALLED:
            remedy = f"not in {Path.cwd()}; write one, lmstages init ., {named}"
        raise WorkflowError(f"lmstages: error: {path}: {remedy}")
    return path


remember_in(Path(".snakemake", "lmstages", "own_models.json"))
RUN, ORIGIN = or_stop(chosen_run)
ROOT = f"results/{RUN.name}"
OWN_TEXTS = {}  # {corpus: {name: path}}
TEXT_SIZES = {}  # {(folder of the run, corpus): bytes}
FACTORS = or_stop(learned.read)
CONTENTS = Contents(Path(".snakemake", "lmstages", "contents.json"))
os.environ.setdefault("LMSTAGES_FAILURES", "{}")
if not IS_JOB:
    or_stop(stop_if_taken, Path(ROOT), ORIGIN)
    os.environ["LMSTAGES_FAILURES"] = json.dumps(or_stop(look_ahead))
if MAKES_FILES:
    or_stop(claim, Path(ROOT), ORIGIN)
    if workflow.local_exec:  # a cluster's jobs outlive the run that was killed, and their processes are not seen here
        remove_unfinished(Path(ROOT), Path("downloads"))
os.environ["LMSTAGES_MIRROR"] = RUN.mirror or ""
os.environ["LMSTAGES_TENSORBOARD"] = "yes" if RUN.tensorboard else ""
# Where stages keep their files by what made them; an empty one keeps none. Jobs elsewhere see no folder of this machine.
os.environ.setdefault("LMSTAGES_STORE", "" if workflow.storage_settings.default_storage_provider else "data/store")


def stop_if_changed():
    """A job that starts later reads config and code again: if they changed meanwhile, it must not mix results."""
    own = [RUN.models[name].config.content for name in RUN.own()]
    now = hashlib.sha256(f"{RUN.model_dump_json()}{package_hash()}{''.join(own)}".encode()).hexdigest()
    if workflow.remote_exec and os.environ.get("LMSTAGES_RUN", now) != now:
        raise WorkflowError("lmstages: error: config or code changed while the run was in progress; start it again")
    if not workflow.remote_exec:
        os.environ["LMSTAGES_RUN"] = now


stop_if_changed()

# A cluster ends a job at its time limit; on one machine ``runtime`` is no more than a guess.
os.environ["LMSTAGES_TIME_LIMIT"] = "yes" if workflow.remote_exec else ""

# Jobs run on the interpreter that runs Snakemake, activated or not; an image has one of its own, called python.
IN_IMAGE = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
os.environ["LMSTAGES_PYTHON"] = "python" if IN_IMAGE else sys.executable


envvars:
    "LMSTAGES_FAILURES",
    "LMSTAGES_MIRROR",
    "LMSTAGES_PYTHON",
    "LMSTAGES_RUN",
    "LMSTAGES_STORE",
    "LMSTAGES_TENSORBOARD",
    "LMSTAGES_TIME_LIMIT",
    "LMSTAGES_TYPED",
    "PYTHONPATH",


wildcard_constraints:
    corpus=NAME,
    tokenizer=NAME,
    model="|".join(RUN.models),
    mixture="|".join(RUN.mixtures) or "(?!)",
    pretrained="|".join(RUN.pretrained) or "(?!)",
    reported="|".join(RUN.scores) or "(?!)",
    source=NAME,
    part=NAME,
    stories="all|[1-9][0-9]*",
    key="[0-9a-f]{16}",
    seed="[0-9]+",


code_hash = cache(code_hash)  # asked for every job, and the same for all of a command and a model's type


def hash_of_code(command, *models):
    return code_of(command, [RUN.models[name].config for name in models], code_hash)


def section(job):
    """``section("fit")``: what the job receives of the config, as a function of the wildcards that it depends on."""
    write = getattr(RUN, f"{job}_section")
    names = tuple(inspect.signature(write).parameters)
    return lambda wildcards: write(*(wildcards[name] for name in names))


def of_same_text(job, *files):
    """What ``job`` makes of the first corpus with the same text, as a function of the wildcards: it is copied.

    Nothing for the first one itself. As two corpora that differ in their tokenizers alone.
    """
    write = section(job)
    asked = cache(lambda corpus: (RUN.prepare_section(corpus), write({"corpus": corpus})))

    def made_before(wildcards):
        first = next(corpus for corpus in RUN.corpora if asked(corpus) == asked(wildcards.corpus))
        return [f"{ROOT}/{first}/{file}" for file in files] if first != wildcards.corpus else []

    return made_before


def code(command):
    """``code("fit")``: the hash of the code that the command runs for the model of the wildcards."""
    return lambda wildcards: hash_of_code(command, wildcards.model)


def downloads(wildcards):
    """What a corpus is made from where it is downloaded."""
    corpus = RUN.corpora[wildcards.corpus]
    if corpus.embedded or corpus.own():
        return staged([str(path) for path in own_text(wildcards).values()])
    if corpus.hub is not None:
        keys = map(hub_key, RUN.hub_sections(wildcards.corpus))
        return [f"downloads/hub/{key}.{corpus.stories(part)}" for key, part in zip(keys, corpus.parts())]
    parts = [part.name for part in SOURCES[corpus.source].parts]
    return [f"downloads/{corpus.source}.{part}.{corpus.stories(part)}.txt" for part in parts]


def hub_key(hub_section):
    """The name of a downloaded split of a data set of the hub, from all that it depends on."""
    return hashlib.sha256(hub_section.encode()).hexdigest()[:16]


def hub_section(wildcards):
    sections = [part for name, corpus in RUN.corpora.items() if corpus.hub for part in RUN.hub_sections(name)]
    return next(part for part in sections if hub_key(part) == wildcards.key)


def own_text(wildcards):
    """The user's files that a corpus is made from, {name: path}, listed once; nothing where there are none."""
    if wildcards.corpus not in OWN_TEXTS:
        listings = or_stop(listings_of, RUN.corpora[wildcards.corpus].own())
        OWN_TEXTS[wildcards.corpus] = named_files(listings)
    return OWN_TEXTS[wildcards.corpus]


def single_text(wildcards):
    """The user's file where it is one; the files of a folder or a pattern are listed by the job itself."""
    path = RUN.corpora[wildcards.corpus].path
    return [path] if isinstance(path, str) and Path(path).is_file() else []


def printable(paths):
    """Paths that a command line may hold: Snakemake prints it as it is, and a terminal obeys control characters.

    Others stay where every job has them too, in its section, as JSON.
    """
    return [path for path in paths if path.isprintable()]


def staged(paths):
    """Files from outside as inputs, only where jobs see no other files; elsewhere a job is told their content.

    Snakemake goes by the time of an input, which says nothing of a file from outside: replaced by an older one, it
    would count as unchanged; dated in the future, it would never be done.
    """
    return paths if workflow.storage_settings.default_storage_provider else []


def content(paths):
    """``content(own_text)``: the hash of what the files from outside hold, as a function of the wildcards."""
    return lambda wildcards: or_stop(content_of, paths(wildcards))


def content_of(paths):
    named = paths if isinstance(paths, dict) else {Path(path).name: Path(path) for path in paths}
    return CONTENTS.hash_of({name: path for name, path in named.items() if path.is_file()})


def layout(wildcards):
    return RUN.layout(wildcards.corpus)


def text_size(corpus):
    """The bytes of a corpus: of its splits where an earlier call has made them, else by the config."""
    if (ROOT, corpus) not in TEXT_SIZES:
        splits = [Path(ROOT, corpus, "text", f"{split}.txt") for split in SPLITS]
        made = sum(path.stat().st_size for path in splits if path.is_file())
        TEXT_SIZES[ROOT, corpus] = made or text_bytes(RUN.corpora[corpus])
    return TEXT_SIZES[ROOT, corpus]


def of_model(wildcards):
    """The record of the model, the size of its vocabulary, and the size of the text."""
    corpus, tokenizer, model = (wildcards.get(name) for name in ("corpus", "tokenizer", "model"))
    return {
        "model": RUN.models[model].config if model in RUN.models else None,
        "vocab_size": RUN.tokenizers[tokenizer].about_size() if tokenizer in RUN.tokenizers else needs.CHARACTERS,
        "text_bytes": text_size(corpus) if corpus in RUN.corpora else 0.0,
    }


def needed(rule_name, wildcards):
    """What a job needs of the machine, by its config and the size of its text."""
    return needs.need(rule_name, **of_model(wildcards), factors=FACTORS)


def memory(rule_name):
    """``memory("fit")``: the megabytes that a job asks for, more at each attempt, as a function of the wildcards."""
    return lambda wildcards, attempt: needs.asked_megabytes(needed(rule_name, wildcards), attempt)


def minutes(rule_name):
    """``minutes("fit")``: its time limit, as a function of the wildcards."""
    return lambda wildcards, attempt: needs.asked_minutes(needed(rule_name, wildcards), attempt)


def fit_threads(wildcards):
    return needed("fit", wildcards).cores


def tokenize_threads(wildcards):
    return RUN.tokenizers[wildcards.tokenizer].threads()


def fit_gpus(wildcards):
    return needed("fit", wildcards).gpus


def fit_device(wildcards):
    """A GPU where the fit needs one and the machine has one."""
    return "auto" if fit_gpus(wildcards) else "cpu"


def fit_processes(wildcards):
    """Processes of a node that share a fit; no resource where it is one, as all below."""
    return several(resources.processes, wildcards)


def fit_nodes(wildcards):
    return several(resources.nodes, wildcards)


def fit_launcher(wildcards):
    """A job of several nodes calls srun itself, once for all of them; any other one is started on its node by it."""
    return "srun" if fit_nodes(wildcards) else None


def fit_tasks(wildcards):
    """One task for each node, which starts its processes."""
    return fit_nodes(wildcards)


def fit_tasks_per_gpu(wildcards):
    """None asked for: Slurm would start a task for each GPU, which sees that one alone."""
    return 0 if fit_gpus(wildcards) > 1 else None


def several(number, wildcards):
    count = number(RUN.models[wildcards.model].config)
    return count if count > 1 else None


def fit_layout(wildcards, resources):
    """How many processes and nodes a fit has, where they are several; a profile may overrule the record."""
    processes, nodes = resources.get("processes", 1), resources.get("nodes", 1)
    return ["--processes", str(processes), "--nodes", str(nodes)] if processes * nodes > 1 else []


def evaluate_gpus(wildcards):
    """What evaluates a model is one process, however many have fitted it."""
    return needed("evaluate", wildcards).gpus


def failure_ahead(wildcards):
    """The option of a fit whose scores would fail, so that it is not fitted; nothing for all others."""
    name = f"{wildcards.corpus}/{wildcards.tokenizer}/{wildcards.model}"
    reason = json.loads(os.environ["LMSTAGES_FAILURES"]).get(name)
    return ["--failure", reason] if reason else []


def small_experiment(wildcards):
    """On a cluster, experiments on one core without a GPU share jobs; on one machine each job is by itself."""
    separate = workflow.local_exec or fit_gpus(wildcards) or fit_threads(wildcards) > 1
    return None if separate else "small_experiments"


def text_files():
    """The texts of all splits, and where their documents end."""
    suffixes = ("txt", "documents.safetensors")
    return [f"{ROOT}/{{corpus}}/text/{split}.{suffix}" for split in SPLITS for suffix in suffixes]


def token_files(*splits):
    """The three files of a token stream, for each split."""
    suffixes = ("npy", "bytes.npy", "starts.npy")
    return [f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/{split}.{suffix}" for split in splits for suffix in suffixes]


def evaluated_tokens(wildcards):
    return [path.format(**wildcards) for path in token_files(*RUN.splits_scored(wildcards.corpus, wildcards.model))]


def component_folders(wildcards):
    """The folders of the experiments that a mixture is made of."""
    components = RUN.components(wildcards.mixture, int(wildcards.seed))
    return [f"{ROOT}/{wildcards.corpus}/{wildcards.tokenizer}/{model}/seed{seed}" for model, seed in components]


def component_models(wildcards):
    files = ("fit.json", "model.safetensors")
    return [f"{folder}/{file}" for folder in component_folders(wildcards) for file in files]


def mixture_code(wildcards):
    """The hash of the code that fills gaps by the models of the mixture."""
    return hash_of_code("infill_mixture", *RUN.mixtures[wildcards.mixture].of)


def component_files(wildcards):
    files = ("fit.json", "scores.safetensors", "evaluation.json")
    return [f"{folder}/{file}" for folder in component_folders(wildcards) for file in files]


def experiment_files(wildcards):
    """What the summary reads of every experiment of the run."""
    files, derived = ("fit.json", "scores.safetensors", "evaluation.json"), RUN.derived_from_llama()
    paths = [f"{ROOT}/{c}/{t}/{m}/seed{s}/quantization_error.json" for c, t, m, s in RUN.experiments() if m in derived]
    return paths + [f"{ROOT}/{c}/{t}/{m}/seed{s}/{file}" for c, t, m, s in RUN.experiments() for file in files]


def base_model(wildcards):
    """The fitted model that a derived one is made from."""
    base = RUN.base_of(wildcards.model)
    return f"{ROOT}/{wildcards.corpus}/{wildcards.tokenizer}/{base}/seed{wildcards.seed}/model.safetensors"


def base_facts(wildcards):
    return str(Path(base_model(wildcards)).with_name("fit.json"))


def checkpoint_files(wildcards):
    """The files of a pretrained model on this machine; those of the hub are fetched by the job."""
    record = RUN.pretrained[wildcards.pretrained]
    if record.gguf is not None:
        return [str(part) for part in parts_of(Path(record.gguf))]
    if record.arpa is not None:
        return [path for path in (record.arpa, record.tokenizer) if path is not None]
    patterns = ("*.safetensors", "*.json", "tokenizer.model", *VOCABULARIES)
    return [] if record.path is None else sorted(str(file) for p in patterns for file in Path(record.path).glob(p))


def pretrained_gpus(wildcards):
    """A GPU where the config asks for one; otherwise transformers takes one that the job happens to see."""
    return int(RUN.pretrained[wildcards.pretrained].device == "cuda")


def staged_checkpoint(wildcards):
    return staged(checkpoint_files(wildcards))


def tokenizer_files(wildcards):
    """The files of a tokenizer made elsewhere on this machine; those of the hub are fetched by the job."""
    path = RUN.tokenizers[wildcards.tokenizer].path
    if path is None or Path(path).is_file():
        return [] if path is None else [path]
    return sorted(str(file) for pattern in ("tokenizer.model", "*.json") for file in Path(path).glob(pattern))


def staged_tokenizer(wildcards):
    return staged(tokenizer_files(wildcards))


def scores_file(wildcards):
    """The user's file of scores."""
    return [RUN.scores[wildcards.reported].path]


def staged_scores(wildcards):
    return staged(scores_file(wildcards))


def reported(wildcards):
    """What the summary reads of all scores made elsewhere."""
    files = ("reported.json", "scores.safetensors")
    return [f"{ROOT}/{corpus}/reported/{name}/{file}" for corpus, name in RUN.reported() for file in files]


def inspect_code(wildcards):
    models = [name for name, _ in json.loads(RUN.inspect_section(wildcards.corpus))["experiments"]]
    return hash_of_code("inspect", *models)


def inspected_files(wildcards):
    """The networks that are inspected, and the facts of their fits."""
    folder, files = f"{ROOT}/{wildcards.corpus}/{wildcards.tokenizer}", ("model.safetensors", "fit.json")
    networks = json.loads(RUN.inspect_section(wildcards.corpus))["experiments"]
    return [f"{folder}/{name}/seed{seed}/{file}" for name, seed in networks for file in files]


def inspections(wildcards):
    """What the summary reads of every corpus and tokenizer whose models are inspected."""
    files = ("inspection.json", "inspection.safetensors")
    return [f"{ROOT}/{corpus}/{tokenizer}/{file}" for corpus, tokenizer in RUN.inspected() for file in files]


def hidden_tokens(wildcards):
    """The part of a corpus whose gaps are filled, or whose rows every sampler is charged for."""
    return [path.format(**wildcards) for path in token_files(RUN.corpora[wildcards.corpus].evaluate[0])]


def infillings(wildcards):
    """What the summary reads of every model and grammar that fills gaps, where the run asks for it."""
    folders = [f"{ROOT}/{c}/{t}/{m}/seed{s}" for c, t, m, s in RUN.infilled()]
    folders += [f"{ROOT}/{corpus}/oracle" for corpus in RUN.infilled_by_source()]
    return [f"{folder}/{file}" for folder in folders for file in ("infill.json", "infill.safetensors")]


def generations(wildcards):
    """What the summary reads of every model whose samplers are measured, where the run asks for it."""
    files = ("generation.json", "generation.safetensors")
    return [f"{ROOT}/{c}/{t}/{m}/seed{s}/{file}" for c, t, m, s in RUN.generated() for file in files]


def contrasts(wildcards):
    """The minimal pairs of a corpus that is drawn from a grammar."""
    return [f"{ROOT}/{wildcards.corpus}/contrasts.json"] if RUN.corpora[wildcards.corpus].embedded else []


def analysed_files(wildcards):
    """The scores of all experiments on a corpus, and the probes of the first seed of each fitted model."""
    files, corpus = contrasts(wildcards), wildcards.corpus
    if files:
        files = [*files, f"{ROOT}/{corpus}/oracle/scores.safetensors"]
    for name, tokenizer, model, seed in RUN.experiments():
        folder = f"{ROOT}/{name}/{tokenizer}/{model}/seed{seed}"
        if name == corpus:
            files.append(f"{folder}/scores.safetensors")
            if model in RUN.models and model not in RUN.bounds() and seed == RUN.seeds_of(model)[0]:
                files += [f"{folder}/samples.json", f"{folder}/probe.json"]
    return files


def analyses(wildcards):
    return [f"{ROOT}/{name}/{file}" for name in RUN.corpora for file in ("analyses.json", "transfer.safetensors")]


def table_files():
    """The tables of the run beside that of its results."""
    return [f"{ROOT}/tables/{name}.parquet" for name in TABLES if name != "results"]


def compressed(wildcards):
    """The code lengths of compressors on every corpus, where the run names any."""
    return [f"{ROOT}/{name}/compressors.json" for name in RUN.corpora] if RUN.compressors else []


def oracles(wildcards):
    """The oracle of every corpus that has one."""
    embedded = [name for name, corpus in RUN.corpora.items() if corpus.embedded]
    return [f"{ROOT}/{name}/oracle/{file}" for name in embedded for file in ("oracle.json", "scores.safetensors")]


def intermediate_files():
    """Every file of the run that others are made from."""
    files = [
        file
        for rule_files in (
            experiment_files,
            analyses,
            inspections,
            infillings,
            generations,
            oracles,
            compressed,
            reported,
        )
        for file in rule_files(None)
    ]
    files += [*table_files(), f"{ROOT}/run.json", f"{ROOT}/figures/index.json"]
    for corpus in RUN.corpora:
        files += [path.format(corpus=corpus) for path in (f"{ROOT}/{{corpus}}/text/corpus.json", *text_files())]
        files += [f"{ROOT}/{corpus}/overlap.json", f"{ROOT}/{corpus}/overlap.safetensors"]
        files += analysed_files(SimpleNamespace(corpus=corpus))
    for corpus, tokenizer, model, seed in RUN.experiments():
        if model in RUN.models:
            files += [path.format(corpus=corpus, tokenizer=tokenizer) for path in token_files(*SPLITS)]
            files += [f"{ROOT}/{corpus}/{tokenizer}/tokens/tokenizer.json"]
            files += [f"{ROOT}/{corpus}/{tokenizer}/{model}/seed{seed}/model.safetensors"]
    return list(dict.fromkeys(files))


def lost_files(wildcards):
    """What is gone of a run that was finished before, for the target to ask for.

    Snakemake makes no missing file again where what was made from it is there. Of a new run there is nothing to list.
    """
    was_finished = Path(ROOT, ".made").is_dir() and not workflow.storage_settings.default_storage_provider
    return [file for file in intermediate_files() if not Path(file).exists()] if was_finished else []
