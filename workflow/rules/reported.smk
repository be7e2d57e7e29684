# Scores made elsewhere: no fit, whatever tokens, the same text.


rule audit_scores:
    input:
        text=f"{ROOT}/{{corpus}}/text/corpus.json",
        held_out=text_files(),
        scores=staged_scores,
    output:
        facts=f"{ROOT}/{{corpus}}/reported/{{reported}}/reported.json",
        scores=f"{ROOT}/{{corpus}}/reported/{{reported}}/scores.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/reported/{{reported}}.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/reported/{{reported}}.benchmark.tsv"
    resources:
        mem_mb=memory("audit_scores"),
        runtime=minutes("audit_scores"),
    params:
        section=section("reported"),
        content=content(scores_file),
        text=subpath(input.text, parent=True),
        out=subpath(output.facts, parent=True),
        code=code_hash("audit_scores"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages audit_scores --keep-going --text {params.text:q}'
        " --out {params.out:q} --section {params.section:q} --content {params.content:q} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
