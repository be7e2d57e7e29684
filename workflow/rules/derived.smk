# Models made from a fitted one without training it again, and their distance from it.


ruleorder: derive > fit


rule derive:
    input:
        base=base_model,
        facts=base_facts,
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        train=token_files("train"),
        valid=token_files("valid"),
    output:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/derive.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/derive.benchmark.tsv"
    wildcard_constraints:
        model="|".join(RUN.derived()) or "(?!)",
    resources:
        mem_mb=memory("derive"),
        runtime=minutes("derive"),
    params:
        section=section("fit"),
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.model, parent=True),
        code=code("derive"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages derive --base {input.base:q} --tokens {params.tokens:q} --out {params.out:q}'
        " --section {params.section:q} --threads {threads} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule quantization_error:
    input:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
        base=base_model,
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        held_out=evaluated_tokens,
    output:
        f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/quantization_error.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/quantization_error.log",
    wildcard_constraints:
        model="|".join(RUN.derived_from_llama()) or "(?!)",
    resources:
        mem_mb=memory("quantization_error"),
        runtime=minutes("quantization_error"),
    params:
        section=section("splits"),
        tokens=subpath(input.tokens, parent=True),
        code=code("quantization_error"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages quantization_error --model {input.model:q} --base {input.base:q} --tokens {params.tokens:q}'
        " --out {output:q} --section {params.section:q} --threads {threads} --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
