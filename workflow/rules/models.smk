# One experiment: a model fitted on a corpus under a tokenizer with a seed, then scored and sampled.


rule fit:
    input:
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        train=token_files("train"),
        valid=token_files("valid"),
    output:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.benchmark.tsv"
    group:
        small_experiment
    threads: fit_threads
    resources:
        gpu=fit_gpus,
        mem_mb=memory("fit"),
        runtime=minutes("fit"),
        device=fit_device,
        processes=fit_processes,
        nodes=fit_nodes,
        mpi=fit_launcher,
        tasks=fit_tasks,
        tasks_per_gpu=fit_tasks_per_gpu,
    params:
        section=section("fit"),
        tokens=subpath(input.tokens, parent=True),
        out=subpath(output.model, parent=True),
        resume=f"resume/{RUN.name}/{{corpus}}.{{tokenizer}}.{{model}}.seed{{seed}}",  # no output: it survives a kill
        curves=f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/tensorboard",  # where the run wants them
        failure=failure_ahead,
        layout=fit_layout,
        code=code("fit"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages fit --tokens {params.tokens:q} --out {params.out:q} --section {params.section:q}'
        " --seed {wildcards.seed:q} --resume {params.resume:q} ${{LMSTAGES_TIME_LIMIT:+--minutes {resources.runtime}}}"
        " ${{LMSTAGES_TENSORBOARD:+--tensorboard {params.curves:q}}}"
        " --device {resources.device:q} --threads {threads} --code {params.code:q} {params.failure:q}"
        " {params.layout:q}"
        " 2>&1 | tee -i {log:q} >&2"


rule evaluate:
    input:
        model=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/model.safetensors",
        facts=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/fit.json",
        tokens=f"{ROOT}/{{corpus}}/{{tokenizer}}/tokens/tokenizer.json",
        held_out=evaluated_tokens,
        text=f"{ROOT}/{{corpus}}/text/corpus.json",
    output:
        scores=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/scores.safetensors",
        samples=f"{ROOT}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/evaluation.json",
    log:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/evaluate.log",
    benchmark:
        f"logs/{RUN.name}/{{corpus}}/{{tokenizer}}/{{model}}/seed{{seed}}/evaluate.benchmark.tsv"
    group:
        small_experiment
    threads: 1
    resources:
        mem_mb=memory("evaluate"),
        runtime=minutes("evaluate"),
        gpu=evaluate_gpus,
        device=fit_device,
    params:
        section=section("evaluate"),
        tokens=subpath(input.tokens, parent=True),
        text=subpath(input.text, parent=True),
        out=subpath(output.scores, parent=True),
        code=code("evaluate"),
    shell:
        '"${{LMSTAGES_PYTHON:-python}}" -m lmstages evaluate --model {input.model:q} --tokens {params.tokens:q} --text {params.text:q}'
        " --out {params.out:q} --section {params.section:q} --device {resources.device:q} --threads {threads}"
        " --code {params.code:q}"
        " 2>&1 | tee -i {log:q} >&2"
