# A mixture of scored experiments: one more experiment, made of score files alone.


rule mix:
    input:
        components=component_files,
        text=f"{ROOT}/{{corpus}}/text/corpus.json",
    output:
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/fit.json",
        scores=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/scores.safetensors",
        evaluation=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/evaluation.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/mix.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{mixture}}/seed{{seed}}/mix.benchmark.tsv"
    resources:
        mem_mb=memory("mix"),
        runtime=minutes("mix"),
    params:
        section=section("mix"),
        components=component_folders,
        text=subpath(input.text, parent=True),
        out=subpath(output.facts, parent=True),
        code=code_hash("mix"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages mix --components {params.components:q} --text {params.text:q} --out {params.out:q}'
        " --section {params.section:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
