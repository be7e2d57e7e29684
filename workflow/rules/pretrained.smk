# A model trained elsewhere: no fit, its own vocabulary, the same text.


rule score_pretrained:
    input:
        text=f"{ROOT}/{{corpus}}/text/corpus.json",
        held_out=text_files(),
        checkpoint=staged_checkpoint,
    output:
        facts=f"{ROOT}/{{corpus}}/{OWN}/{{pretrained}}/seed0/fit.json",
        scores=f"{ROOT}/{{corpus}}/{OWN}/{{pretrained}}/seed0/scores.safetensors",
        samples=f"{ROOT}/{{corpus}}/{OWN}/{{pretrained}}/seed0/evaluation.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{OWN}/{{pretrained}}/score.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{OWN}/{{pretrained}}/score.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=memory("score_pretrained"),
        runtime=minutes("score_pretrained"),
        gpu=pretrained_gpus,
    params:
        section=section("pretrained"),
        content=content(checkpoint_files),
        text=subpath(input.text, parent=True),
        out=subpath(output.facts, parent=True),
        code=code_hash("score_pretrained"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages score_pretrained --keep-going --text {params.text:q}'
        " --out {params.out:q} --section {params.section:q} --content {params.content:q}"
        " --threads {threads} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
