# Texts drawn by every sampler of a model, with what they cost.


rule generate:
    input:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        held_out=hidden_tokens,
        text=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=text_files(),
    output:
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/generation.json",
        nats=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/generation.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/generate.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/generate.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=memory("generate"),
        runtime=minutes("generate"),
    params:
        section=section("generate"),
        tokens=subpath(input.tokens, parent=True),
        text=subpath(input.text, parent=True),
        out=subpath(output.facts, parent=True),
        code=code("generate"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages generate --model {input.model:q} --tokens {params.tokens:q} --text {params.text:q}'
        " --out {params.out:q} --section {params.section:q} --threads {threads} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
