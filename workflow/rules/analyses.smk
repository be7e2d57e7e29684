# What is asked beside the scores: what test shares with train, what the grammar lets one ask, samples by the hundred.


rule overlap:
    input:
        facts=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=expand(f"{ROOT}/{{{{corpus}}}}/text/{{split}}.txt", split=SPLITS),
    output:
        shares=f"{ROOT}/{{corpus}}/overlap.json",
        documents=f"{ROOT}/{{corpus}}/overlap.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/overlap.log",
    params:
        section=splits_section,
        text=subpath(input.facts, parent=True),
        out=subpath(output.shares, parent=True),
        code=code_hash("overlap"),
    shell:
        "python -m lmstages overlap --text {params.text:q} --out {params.out:q} --section {params.section:q}"
        " --code {params.code:q} --log {log:q}"


rule contrast:
    input:
        facts=f"{ROOT}/{{corpus}}/text/corpus.json",
        texts=expand(f"{ROOT}/{{{{corpus}}}}/text/{{split}}.txt", split=SPLITS),
    output:
        f"{ROOT}/{{corpus}}/contrasts.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/contrast.log",
    params:
        section=contrast_section,
        text=subpath(input.facts, parent=True),
        code=code_hash("contrast"),
    shell:
        "python -m lmstages contrast --text {params.text:q} --out {output:q} --section {params.section:q}"
        " --code {params.code:q} --log {log:q}"


rule probe:
    input:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        train=token_files("train"),
        contrasts=contrasts,
    output:
        samples=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/samples.json",
        found=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/probe.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/probe.log",
    threads: 1
    params:
        section=probe_section,
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.found, parent=True),
        code=probe_code,
    shell:
        "python -m lmstages probe --model {input.model:q} --tokens {params.tokens:q} --contrasts {input.contrasts:q}"
        " --out {params.out:q} --section {params.section:q} --threads {threads} --code {params.code:q} --log {log:q}"


rule analyse:
    input:
        shares=f"{ROOT}/{{corpus}}/overlap.json",
        documents=f"{ROOT}/{{corpus}}/overlap.safetensors",
        cells=analysed,
    output:
        rows=f"{ROOT}/{{corpus}}/analyses.json",
        couples=f"{ROOT}/{{corpus}}/transfer.safetensors",
    log:
        f"logs/{RUN.name}/{{corpus}}/analyse.log",
    params:
        section=analyse_section,
        corpus=subpath(output.rows, parent=True),
        code=code_hash("analyse"),
    shell:
        "python -m lmstages analyse --corpus {params.corpus:q} --out {output.rows:q} --section {params.section:q}"
        " --code {params.code:q} --log {log:q}"
