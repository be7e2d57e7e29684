"""No fitted or selected model depends on test text, according to the graph of jobs.

A mixture's weights come from score files with test and valid; test_mixtures verifies that they depend on valid only.
"""

import re

import pytest
from test_workflow import PROJECT, copy_of, edit, snakemake

RUN = """
corpora: {coined: {count: 300}, fables: {count: 60, evaluate: [valid, test]}}
tokenizers: {char: {kind: char}, bpe: {kind: bpe, vocab_size: 300}}
models: {bigram: , ngram: {order: [2, 3]}, mlp: {steps: 5}, gpt: {steps: 5, keep: best, warmup_steps: 1}}
mixtures: {both: {of: [bigram, ngram]}}
seeds: [0, 1]
"""
JOB = re.compile(r"^(?:local)?rule (\w+):\n(?:    input: (.*)\n)?    output: (.*)$", re.MULTILINE)
CUT = re.compile(r"/(text|tokens)/(\w+)(\..*)?$")  # files of one split, cut before anything is fitted


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_of(PROJECT, tmp_path_factory.mktemp("selection") / "project")
    (folder / "runs/chosen.yaml").write_text(RUN)
    return folder


def jobs(folder):
    """(rule, inputs, outputs) of every job of a dry run."""
    plan = snakemake(folder, "--config", "run=chosen", "-n", "-F")
    assert plan.returncode == 0, plan.stderr
    return [
        (rule, inputs.split(", ") if inputs else [], outputs.split(", "))
        for rule, inputs, outputs in JOB.findall(plan.stdout)
    ]


def fitted_on(planned):
    """The splits that each fitted model depends on, directly or through other files."""
    maker = {path: inputs for _, inputs, outputs in planned for path in outputs}

    def splits(path):
        if cut := CUT.search(path):
            return {cut[2]} & {"train", "valid", "test"}
        return set().union(*(splits(source) for source in maker.get(path, [])))

    models = [path for _, _, outputs in planned for path in outputs if path.endswith("/model.safetensors")]
    return {path: splits(path) for path in models}


def test_no_model_depends_on_test_text(project):
    by_model = fitted_on(jobs(project))
    assert len(by_model) == 2 * 2 * 6 and all(splits == {"train", "valid"} for splits in by_model.values()), by_model


def test_a_rule_that_fits_on_test_is_detected(project, tmp_path):
    folder = copy_of(project, tmp_path / "project")
    edit(folder / "workflow/rules/models.smk", 'valid=token_files("valid")', 'valid=token_files("valid", "test")')
    assert any("test" in splits for splits in fitted_on(jobs(folder)).values())


def test_a_rule_that_fits_on_scores_is_detected(project, tmp_path):
    """Early stopping by the test scores of another model, two jobs later."""
    folder = copy_of(project, tmp_path / "project")
    rules = folder / "workflow/rules/models.smk"
    edit(rules, 'valid=token_files("valid")', "valid=stopped_by")
    scores = '[f"{ROOT}/{w.corpus}/{w.tokenizer}/bigram/seed0/scores.safetensors"][: w.model != "bigram"]'
    rules.write_text(f"def stopped_by(w):\n    return {scores}\n\n\n{rules.read_text()}")
    assert any("test" in splits for splits in fitted_on(jobs(folder)).values())
