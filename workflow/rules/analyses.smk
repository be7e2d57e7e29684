# Analyses beyond the scores: overlap of test with train, minimal pairs of a grammar, hundreds of samples.


rule overlap:
    input:
        facts=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=text_files(),
        same=of_same_text("overlap", "overlap.json", "overlap.safetensors"),
    output:
        fractions=f"{ROOT}/{{corpus}}/overlap.json",
        documents=f"{ROOT}/{{corpus}}/overlap.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/overlap.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/overlap.benchmark.tsv"
    resources:
        mem_mb=memory("overlap"),
        runtime=minutes("overlap"),
    params:
        section=section("overlap"),
        text=subpath(input.facts, parent=True),
        out=subpath(output.fractions, parent=True),
        code=code_hash("overlap"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages overlap --text {params.text:q} --out {params.out:q} --section {params.section:q}'
        " --same-as {input.same:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule contrast:
    input:
        facts=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=text_files(),
        same=of_same_text("contrast", "contrasts.json"),
    output:
        f"{ROOT}/{{corpus}}/contrasts.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/contrast.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/contrast.benchmark.tsv"
    resources:
        mem_mb=memory("contrast"),
        runtime=minutes("contrast"),
    params:
        section=section("contrast"),
        text=subpath(input.facts, parent=True),
        code=code_hash("contrast"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages contrast --text {params.text:q} --out {output:q} --section {params.section:q}'
        " --same-as {input.same:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule probe:
    input:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        train=token_files("train"),
        contrasts=contrasts,
    output:
        samples=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/samples.json",
        probe=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/probe.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/probe.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/probe.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=memory("probe"),
        runtime=minutes("probe"),
    params:
        section=section("probe"),
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.probe, parent=True),
        code=code("probe"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages probe --model {input.model:q} --tokens {params.tokens:q} --contrasts {input.contrasts:q}'
        " --out {params.out:q} --section {params.section:q} --threads {threads} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule analyse:
    input:
        fractions=f"{ROOT}/{{corpus}}/overlap.json",
        documents=f"{ROOT}/{{corpus}}/overlap.safetensors",
        experiments=analysed_files,
    output:
        rows=f"{ROOT}/{{corpus}}/analyses.json",
        couples=f"{ROOT}/{{corpus}}/transfer.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/analyse.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/analyse.benchmark.tsv"
    resources:
        mem_mb=memory("analyse"),
        runtime=minutes("analyse"),
    params:
        section=section("analyse"),
        corpus=subpath(output.rows, parent=True),
        code=code_hash("analyse"),
    shell:
        'printf %s {params.section:q} | "${{LMSTAGES_PYTHON:-python}}" -m lmstages analyse --corpus {params.corpus:q} --out {output.rows:q} --section -'
        " --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
