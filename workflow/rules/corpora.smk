# Text: downloaded or drawn, cut into train, valid and test, turned into tokens.


rule download:
    output:
        "downloads/{source}.{part}.{stories}.txt",
    log:
        "logs/downloads/{source}.{part}.{stories}.log",
    localrule: True
    resources:
        mem_mb=memory("download"),
        runtime=minutes("download"),
    params:
        code=code_hash("download"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages download --source {wildcards.source:q} --part {wildcards.part:q}'
        " --stories {wildcards.stories:q}"
        " --out {output:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule download_hub:
    output:
        "downloads/hub/{key}.{stories}",
    log:
        "logs/downloads/hub/{key}.{stories}.log",
    localrule: True
    resources:
        mem_mb=memory("download_hub"),
        runtime=minutes("download_hub"),
    params:
        hub=hub_section,
        code=code_hash("download"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages download --hub {params.hub:q}'
        " --stories {wildcards.stories:q}"
        " --out {output:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule prepare:
    input:
        downloads,
    output:
        facts=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=text_files(),
    log:
        f"logs/{RUN.name}/{{corpus}}/prepare.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/prepare.benchmark.tsv"
    resources:
        mem_mb=memory("prepare"),
        runtime=minutes("prepare"),
    params:
        section=section("prepare"),
        raw=lambda wildcards, input: list(input) or printable(single_text(wildcards)),
        content=content(own_text),
        out=subpath(output.facts, parent=True),
        code=code_hash("prepare"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages prepare --raw {params.raw:q} --content {params.content:q}'
        " --out {params.out:q} --section {params.section:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule tokenize:
    input:
        facts=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=text_files(),
        elsewhere=staged_tokenizer,
    output:
        tokenizer=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        tokens=token_files(*SPLITS),
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/tokenize.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/tokenize.benchmark.tsv"
    threads: tokenize_threads
    resources:
        mem_mb=memory("tokenize"),
        runtime=minutes("tokenize"),
    params:
        section=section("tokenize"),
        content=content(tokenizer_files),
        layout=layout,
        text=subpath(input.facts, parent=True),
        out=subpath(output.tokenizer, parent=True),
        code=code_hash("tokenize"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages tokenize --keep-going --text {params.text:q}'
        " --layout {params.layout:q} --out {params.out:q} --content {params.content:q}"
        " --section {params.section:q} --threads {threads} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
