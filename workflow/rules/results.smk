# Score files become a table of results, and the results figures and a page.


rule oracle:
    input:
        text=f"{ROOT}/{{corpus}}/text/corpus.json",
    output:
        expected=f"{ROOT}/{{corpus}}/oracle/oracle.json",
        scores=f"{ROOT}/{{corpus}}/oracle/scores.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/oracle.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/oracle.benchmark.tsv"
    priority: 1  # early, since the last analysis waits for it
    params:
        section=section("oracle"),
        text=subpath(input.text, parent=True),
        out=subpath(output.expected, parent=True),
        code=code_hash("oracle"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages oracle --text {params.text:q} --out {params.out:q} --section {params.section:q}'
        " --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule compress:
    input:
        facts=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=text_files(),
    output:
        f"{ROOT}/{{corpus}}/compressors.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/compress.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/compress.benchmark.tsv"
    params:
        section=section("compress"),
        text=subpath(input.facts, parent=True),
        code=code_hash("compress"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages compress --text {params.text:q} --out {output:q} --section {params.section:q}'
        " --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule summarize:
    input:
        experiment_files,
        oracles,
        compressed,
        analyses,
        inspections,
    output:
        results=f"{ROOT}/results.parquet",
        csv=report(f"{ROOT}/results.csv", caption="../report/table.rst", category="Tables"),
        facts=f"{ROOT}/run.json",
        tables=table_files(),
    log:
        f"logs/{RUN.name}/summarize.log",
    benchmark:
        f"logs/{RUN.name}/summarize.benchmark.tsv"
    localrule: True
    params:
        section=section("summary"),  # a function, since Snakemake fills in what stands in braces in a text
        out=subpath(output.results, parent=True),
        code=code_hash("summarize"),
    shell:
        'printf %s {params.section:q} | "${{LMSTAGES_PYTHON:-python}}" -m lmstages summarize --out {params.out:q} --section -'
        " --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule report:
    input:
        results=f"{ROOT}/results.parquet",
        figures=f"{ROOT}/figures",
        index=f"{ROOT}/figures/index.json",
    output:
        page=report(f"{ROOT}/report.html", caption="../report/page.rst", category="Tables"),
        markdown=f"{ROOT}/table.md",
        latex=f"{ROOT}/table.tex",
        samples=f"{ROOT}/samples.md",
    log:
        f"logs/{RUN.name}/report.log",
    localrule: True
    params:
        folder=subpath(output.page, parent=True),
        code=code_hash("report"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages report --results {params.folder:q} --out {params.folder:q}'
        " --code {params.code:q} 2>&1 | tee -i {log:q} >&2"


rule figures:
    input:
        results=f"{ROOT}/results.parquet",
        facts=f"{ROOT}/run.json",
        tables=table_files(),
    output:
        folder=report(
            directory(f"{ROOT}/figures"),
            patterns=["{kind}/{name}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{kind}",
            labels={"figure": "{name}"},
        ),
        index=f"{ROOT}/figures/index.json",  # written last: a folder without it is half drawn
    log:
        f"logs/{RUN.name}/figures.log",
    localrule: True
    threads: 2  # nothing else runs by then
    params:
        folder=subpath(output.folder, parent=True),
        descriptions=figures.descriptions(),
        code=code_hash("figures", *figures.modules()),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages figures --results {params.folder:q} --out {output.folder:q}'
        " --threads {threads} --code {params.code:q} 2>&1 | tee -i {log:q} >&2"


rule verdict:
    input:
        results=f"{ROOT}/results.parquet",
        page=f"{ROOT}/report.html",
    output:
        f"{ROOT}/verdict.txt",
    log:
        f"logs/{RUN.name}/verdict.log",
    localrule: True
    params:
        folder=subpath(output[0], parent=True),
        code=code_hash("verdict"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages verdict --results {params.folder:q} --out {output:q}'
        " --code {params.code:q} 2>&1 | tee -i {log:q} >&2"


# Prints what is there and makes nothing, so that it may be called while another run is in progress.
rule show:
    log:
        f"logs/{RUN.name}/show.log",
    localrule: True
    params:
        results=ROOT,
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages table {params.results:q} 2>&1 | tee -i {log:q}'
