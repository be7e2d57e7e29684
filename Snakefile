# One target regenerates the comparison. This file says what is wanted and includes the rules; the rules say which
# command makes what from what; the package lmstages holds the commands.

from snakemake.utils import min_version

min_version("9.0")


# Built on this machine by ``make image``; only ``snakemake --sdm apptainer`` opens it.
container: "lmstages.sif"


# The first page of Snakemake's own report, snakemake --report FILE
report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/messages.smk"
include: "workflow/rules/corpora.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/derived.smk"
include: "workflow/rules/pretrained.smk"
include: "workflow/rules/reported.smk"
include: "workflow/rules/mixtures.smk"
include: "workflow/rules/analyses.smk"
include: "workflow/rules/inspection.smk"
include: "workflow/rules/infilling.smk"
include: "workflow/rules/generation.smk"
include: "workflow/rules/snakemake_report.smk"
include: "workflow/rules/results.smk"


rule all:
    default_target: True
    input:
        results=f"results/{RUN.name}/results.parquet",
        report=f"results/{RUN.name}/report.html",
        table=f"results/{RUN.name}/results.csv",
        markdown=f"results/{RUN.name}/table.md",
        latex=f"results/{RUN.name}/table.tex",
        figures=f"results/{RUN.name}/figures",
        samples=f"results/{RUN.name}/samples.md",
        verdict=f"results/{RUN.name}/verdict.txt",
        lost=lost_files,
    localrule: True
