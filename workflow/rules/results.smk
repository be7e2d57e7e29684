# Score files become a table of results, and the results figures and a page.


rule oracle:
    input:
        text=f"{ROOT}/{{corpus}}/text/corpus.json",
        same=of_same_text("oracle", "oracle/oracle.json", "oracle/scores.safetensors"),
    output:
        expected=f"{ROOT}/{{corpus}}/oracle/oracle.json",
        scores=f"{ROOT}/{{corpus}}/oracle/scores.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/oracle.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/oracle.benchmark.tsv"
    priority: 1  # early, since the last analysis waits for it
    resources:
        mem_mb=memory("oracle"),
        runtime=minutes("oracle"),
    params:
        section=section("oracle"),
        text=subpath(input.text, parent=True),
        out=subpath(output.expected, parent=True),
        code=code_hash("oracle"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages oracle --text {params.text:q} --out {params.out:q} --section {params.section:q}'
        " --same-as {input.same:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule compress:
    input:
        facts=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=text_files(),
        same=of_same_text("compress", "compressors.json"),
    output:
        f"{ROOT}/{{corpus}}/compressors.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/compress.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/compress.benchmark.tsv"
    resources:
        mem_mb=memory("compress"),
        runtime=minutes("compress"),
    params:
        section=section("compress"),
        text=subpath(input.facts, parent=True),
        code=code_hash("compress"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages compress --text {params.text:q} --out {output:q} --section {params.section:q}'
        " --same-as {input.same:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule summarize:
    input:
        experiment_files,
        oracles,
        compressed,
        reported,
        analyses,
        inspections,
        infillings,
        generations,
    output:
        results=f"{ROOT}/results.parquet",
        csv=report(
            f"{ROOT}/results.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "All results of the run"},
        ),
        facts=f"{ROOT}/run.json",
        tables=table_files(),
    log:
        f"logs/{RUN.name}/summarize.log",
    benchmark:
        f"logs/{RUN.name}/summarize.benchmark.tsv"
    localrule: True
    resources:
        mem_mb=memory("summarize"),
        runtime=minutes("summarize"),
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
        page=report(
            f"{ROOT}/report.html",
            caption="../report/page.rst",
            category="Comparison",
            labels={"page": "All models on one page"},
        ),
        markdown=f"{ROOT}/table.md",
        latex=f"{ROOT}/table.tex",
        samples=f"{ROOT}/samples.md",
    log:
        f"logs/{RUN.name}/report.log",
    localrule: True
    resources:
        mem_mb=memory("report"),
        runtime=minutes("report"),
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
            category=drawing_category,
            subcategory=drawing_text,
            labels=drawing_label,
        ),
        index=f"{ROOT}/figures/index.json",  # written last: a folder without it is half drawn
    log:
        f"logs/{RUN.name}/figures.log",
    localrule: True
    threads: 2  # nothing else runs by then
    resources:
        mem_mb=memory("figures"),
        runtime=minutes("figures"),
    params:
        folder=subpath(output.folder, parent=True),
        captions=Captions(),
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
    resources:
        mem_mb=memory("verdict"),
        runtime=minutes("verdict"),
    params:
        folder=subpath(output[0], parent=True),
        code=code_hash("verdict"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages verdict --results {params.folder:q} --out {output:q}'
        " --code {params.code:q} 2>&1 | tee -i {log:q} >&2"
