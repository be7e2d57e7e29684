# What the models of a corpus hold, for the figures: embeddings, counts, attention.


rule inspect:
    input:
        networks=inspected_files,
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        streams=token_files(*SPLITS),
    output:
        inspection=f"{ROOT}/{{corpus}}/{{tokenizer}}/inspection.json",
        arrays=f"{ROOT}/{{corpus}}/{{tokenizer}}/inspection.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/inspect.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/inspect.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=memory("inspect"),
        runtime=minutes("inspect"),
    params:
        section=section("inspect"),
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.inspection, parent=True),
        code=inspect_code,
    shell:
        'printf %s {params.section:q} | "${{LMSTAGES_PYTHON:-python}}" -m lmstages inspect --tokens {params.tokens:q} --out {params.out:q} --section -'
        " --threads {threads} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
