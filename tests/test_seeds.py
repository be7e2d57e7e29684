"""A model may have its own seeds."""

from lmstages.config.reading import read_run

RUN = """
seeds: [4]
corpora: {coined: }
tokenizers: {char: {kind: char}}
models: {bigram: , mlp: , gpt: {seeds: SEEDS}}
"""


def test_the_seeds_of_a_model_replace_those_of_the_run(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(RUN.replace("SEEDS", "[1, 2]"))
    run = read_run(path)
    assert [run.seeds_of(name) for name in ("bigram", "mlp", "gpt")] == [[4], [4], [1, 2]]
