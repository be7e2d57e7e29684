# What the models of a corpus hold, laid open for the figures: embeddings, counts, attention.


rule inspect:
    input:
        cells=inspected_cells,
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        streams=token_files(*SPLITS),
    output:
        found=f"{ROOT}/{{corpus}}/{{tokenizer}}/inspection.json",
        arrays=f"{ROOT}/{{corpus}}/{{tokenizer}}/inspection.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/inspect.log",
    threads: 1
    params:
        section=inspect_section,
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.found, parent=True),
        code=inspect_code,
    shell:
        "python -m lmstages inspect --tokens {params.tokens:q} --out {params.out:q} --section {params.section:q}"
        " --threads {threads} --code {params.code:q} --log {log:q}"
