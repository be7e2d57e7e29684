# Gaps in held-out text, filled by every model that can and by the grammar of a text that has one.


rule infill:
    input:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        held_out=hidden_tokens,
    output:
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/infill.json",
        nats=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/infill.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/infill.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/infill.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=memory("infill"),
        runtime=minutes("infill"),
    params:
        section=section("infill"),
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.facts, parent=True),
        code=code("infill"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages infill --model {input.model:q} --tokens {params.tokens:q}'
        " --out {params.out:q} --section {params.section:q} --threads {threads} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule infill_mixture:
    input:
        components=component_models,
        mixture=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/fit.json",
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        held_out=hidden_tokens,
    output:
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/infill.json",
        nats=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/infill.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/infill_mixture.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/infill_mixture.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=memory("infill_mixture"),
        runtime=minutes("infill_mixture"),
    params:
        section=section("infill_mixture"),
        components=component_folders,
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.facts, parent=True),
        code=mixture_code,
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages infill_mixture --components {params.components:q} --mixture {input.mixture:q}'
        " --tokens {params.tokens:q} --out {params.out:q} --section {params.section:q} --threads {threads}"
        " --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule infill_oracle:
    input:
        text=f"{ROOT}/{{corpus}}/text/corpus.json",
    output:
        facts=f"{ROOT}/{{corpus}}/oracle/infill.json",
        nats=f"{ROOT}/{{corpus}}/oracle/infill.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/infill_oracle.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/infill_oracle.benchmark.tsv"
    resources:
        mem_mb=memory("infill_oracle"),
        runtime=minutes("infill_oracle"),
    params:
        section=section("infill_oracle"),
        text=subpath(input.text, parent=True),
        out=subpath(output.facts, parent=True),
        code=code_hash("infill_oracle"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages infill_oracle --text {params.text:q} --out {params.out:q} --section {params.section:q}'
        " --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
