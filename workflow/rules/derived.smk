# What is made of a fitted model without training it again, and how far it is from what it came from.


ruleorder: derive > fit


rule derive:
    input:
        base=base_model,
        facts=base_facts,
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        train=token_files("train"),
    output:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/derive.log",
    wildcard_constraints:
        model="|".join(RUN.derived()) or "(?!)",
    params:
        section=fit_section,
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.model, parent=True),
        code=derive_code,
    shell:
        "python -m lmstages derive --base {input.base:q} --tokens {params.tokens:q} --out {params.out:q}"
        " --section {params.section:q} --threads {threads} --code {params.code:q} --log {log:q}"


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
        model="|".join(RUN.derived()) or "(?!)",
    params:
        section=splits_section,
        tokens=subpath(input.tokens, parent=True),
        code=quantization_error_code,
    shell:
        "python -m lmstages quantization_error --model {input.model:q} --base {input.base:q} --tokens {params.tokens:q}"
        " --out {output:q} --section {params.section:q} --threads {threads} --code {params.code:q} --log {log:q}"
