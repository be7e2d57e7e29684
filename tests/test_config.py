"""Every mistake in a config has its message, and all of them come at once, before any job exists."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from snakemake.io import PeriodicityDetector

from lmstages.config import needs, resources
from lmstages.config.forecast import Forecast
from lmstages.config.hyperparameters.counts import Bigram
from lmstages.config.jobs import Run
from lmstages.config.ladder import LADDER, MODEL_TYPES, in_order
from lmstages.config.overrides import same
from lmstages.config.reading import read_run, safe_name, text_run
from lmstages.config.sections import Corpus, Scoring, Tokenizer, config_of, from_section, to_section
from lmstages.config.strict_yaml import load_yaml
from lmstages.core.errors import UserError, did_you_mean
from lmstages.corpora.forecast import cleaned, forecast, lengths
from lmstages.tokenizers.forecast import unfilled

PROJECT = Path(__file__).resolve().parents[1]
BASE = {"corpora": "{coined: }", "tokenizers": "{char: {kind: char}}", "models": "{bigram: }"}


@pytest.fixture
def write(tmp_path):
    """Text, or the sections that differ from the smallest config -> its path."""

    def written(content=None, name="run.yaml", **sections):
        lines = "\n".join(f"{key}: {value}" for key, value in {**BASE, **sections}.items())
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else (lines if content is None else content).encode())
        return path

    return written


@pytest.fixture
def refusal(write):
    """The message of a config, without its path."""

    def message(content=None, name="run.yaml", overrides=None, **sections):
        path = write(content, name, **sections)
        with pytest.raises(UserError) as raised:
            read_run(path, overrides)
        return str(raised.value).removeprefix(f"{path}: ")

    return message


# What is right


@pytest.mark.parametrize("path", [PROJECT / "config.yaml", *sorted((PROJECT / "runs").glob("*.yaml"))], ids=str)
def test_every_config_of_the_project_is_right(path):
    assert read_run(path).experiments()


def test_the_smallest_config_is_one_experiment(write):
    assert read_run(write()).experiments() == [("coined", "char", "bigram", 0)]


def test_only_neural_models_have_several_seeds(write):
    experiments = read_run(write(models="{bigram: , mlp: }", seeds="[3, 1]")).experiments()
    assert [experiment[2:] for experiment in experiments] == [("bigram", 3), ("mlp", 3), ("mlp", 1)]


def test_a_corpus_may_choose_its_models_and_tokenizers(write):
    sections = {"tokenizers": "{char: {kind: char}, byte: {kind: byte}}", "models": "{unigram: , bigram: }"}
    run = read_run(write(corpora="{coined: {models: [bigram], tokenizers: [byte]}}", **sections))
    assert run.experiments() == [("coined", "byte", "bigram", 0)]


def test_config_yaml_is_the_run_called_default(write):
    assert (
        read_run(write(name="config.yaml")).name == "default" and read_run(write(name="my-run.yaml")).name == "my-run"
    )


def test_a_number_may_have_an_exponent(write):
    models = "{mlp: {learning_rate: 1e-3, final_learning_rate: 1E-4, weight_decay: .5, clip: 2.}}"
    config = read_run(write(models=models)).models["mlp"].config
    assert (config.learning_rate, config.final_learning_rate, config.weight_decay, config.clip) == (
        1e-3,
        1e-4,
        0.5,
        2.0,
    )


# Unknown keys, with the nearest known one


TYPOS = [
    ({"smapling": "{}"}, "smapling: unknown key; allowed: mirror,", "'sampling'"),
    ({"corpora": "{coined: {cuont: 5}}"}, "corpora.coined: unknown key 'cuont'", "'count'"),
    ({"corpora": "{coined: {split: {trian: 1}}}"}, "corpora.coined.split: unknown key 'trian'", "'train'"),
    ({"models": "{ngram: {ordre: 3}}"}, "models.ngram: unknown key 'ordre'", "'order'"),
    ({"models": "{gpt: {head: 3}}"}, "models.gpt: unknown key 'head'", "'heads'"),
    ({"models": "{gpt: {scorng: {}}}"}, "models.gpt: unknown key 'scorng'", "'scoring'"),
    ({"models": "{gpt: {scoring: {windw: 3}}}"}, "models.gpt.scoring: unknown key 'windw'", "'window'"),
    ({"tokenizers": "{bpe: {kind: bpe, vocab: 300}}"}, "tokenizers.bpe: unknown key 'vocab'", "'vocab_size'"),
    ({"infill": "{length: [1]}"}, "infill: unknown key 'length'", "'lengths'"),
    ({"generation": "{step: [1]}"}, "generation: unknown key 'step'", "'steps'"),
    ({"sampling": "{temprature: 1}"}, "sampling: unknown key 'temprature'", "'temperature'"),
    ({"published": "[{corpus: coined, tolerence: 1}]"}, "published[0]: unknown key 'tolerence'", "'tolerance'"),
]


@pytest.mark.parametrize(("sections", "where", "hint"), TYPOS)
def test_a_typo_is_refused_with_a_suggestion(refusal, sections, where, hint):
    message = refusal(**sections)
    assert where in message and f"(did you mean {hint}?)" in message and "allowed: " in message


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"models": "{gtp: }"}, "models.gtp: unknown model 'gtp'; allowed: uniform, "),
        ({"models": "{big: {type: [gpt]}}"}, "models.big: unknown model ['gpt']; allowed: "),
        ({"corpora": "{coind: }"}, "corpora.coind: source 'coind' is unknown; known: ["),
        ({"corpora": "{coined: {models: [bigam]}}"}, "corpora.coined.models: 'bigam' is not defined under models"),
        ({"corpora": "{coined: {tokenizers: [chr]}}"}, "corpora.coined.tokenizers: 'chr' is not defined under"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(refusal, sections, expected):
    message = refusal(**sections)
    assert expected in message and ("did you mean" in message or "[" in expected)


def test_dunder_yte_is_an_unknown_key_and_runs_nothing(refusal, tmp_path):
    trap = f"? if __import__('os').mkdir('{tmp_path}/ran')\n: 3"
    content = f"__use_yte__: true\n{trap}\n"
    message = refusal(content)
    assert "__use_yte__: unknown key" in message and not (tmp_path / "ran").exists()


# Wrong types and values


WRONG = [
    ({"models": "{ngram: {order: 010}}"}, "models.ngram.order: the text '010' found; input should be a valid integer"),
    ({"models": "{ngram: {order: 1:30}}"}, "models.ngram.order: the text '1:30' found; input should be"),
    ({"models": "{ngram: {order: 0x10}}"}, "models.ngram.order: the text '0x10' found; input should be"),
    ({"models": "{ngram: {order: 1_000}}"}, "models.ngram.order: the text '1_000' found; input should be"),
    ({"models": "{ngram: {order: 3.5}}"}, "models.ngram.order: 3.5 found; input should be a valid integer"),
    ({"models": "{ngram: {order: 0}}"}, "models.ngram.order: 0 found; input should be greater than or equal to 1"),
    ({"models": "{ngram: {order: true}}"}, "models.ngram.order: True found; input should be a valid integer"),
    ({"models": "{ngram: {order: }}"}, "models.ngram.order: None found; input should be a valid integer"),
    ({"models": "{bigram: {order: 3}}"}, "models.bigram: unknown key 'order'"),
    ({"models": "{bigram: {add: .nan}}"}, "models.bigram.add: the text '.nan' found; input should be a valid number"),
    ({"models": "{bigram: {add: -.inf}}"}, "models.bigram.add: the text '-.inf' found; input should be"),
    ({"models": "{bigram: {add: -1}}"}, "models.bigram.add: -1 found; input should be greater than or equal to 0"),
    ({"models": "{gpt: {bias: yes}}"}, "models.gpt.bias: the text 'yes' found; input should be a valid boolean"),
    ({"models": "{gpt: {bias: 1}}"}, "models.gpt.bias: 1 found; input should be a valid boolean"),
    ({"models": "{gpt: {width: 10, heads: 4}}"}, "models.gpt: width 10 is no multiple of heads 4"),
    ({"models": "{gpt: {window: 8, row_length: 9}}"}, "models.gpt: row_length 9 exceeds window 8"),
    ({"models": "{mlp: {warmup_steps: 9, steps: 8}}"}, "models.mlp: warmup_steps 9 exceeds steps 8"),
    ({"models": "{mlp: {optimizer: adam}}"}, "models.mlp.optimizer: the text 'adam' found; input should be 'adamw'"),
    ({"models": "{mlp: 3}"}, "models.mlp: 3 is not a mapping; allowed: the model's keys, or nothing"),
    ({"models": "{gpt: {scoring: {window: 4, stride: 5}}}"}, "models.gpt.scoring: stride 5 exceeds window 4"),
    ({"models": "{gpt: {scoring: 4}}"}, "models.gpt.scoring: 4 is not a mapping"),
    ({"models": "[gpt]"}, "models: not a mapping; needs at least one entry"),
    ({"models": ""}, "models: missing or empty; needs at least one entry"),
    ({"tokenizers": "{bpe: {kind: bpe}}"}, "tokenizers.bpe: vocab_size belongs to kinds word, bpe and unigram"),
    ({"tokenizers": "{char: {kind: char, vocab_size: 300}}"}, "tokenizers.char: vocab_size belongs to kinds word, bpe"),
    ({"tokenizers": "{bpe: {kind: bpe, vocab_size: 257}}"}, "tokenizers.bpe.vocab_size: 257 found; input should be"),
    ({"tokenizers": "{char: }"}, "tokenizers.char: None is not a mapping"),
    ({"tokenizers": "{char: {}}"}, "tokenizers.char.kind: missing"),
    ({"tokenizers": "{char: {kind: chr}}"}, "tokenizers.char.kind: the text 'chr' found; input should be 'byte', "),
    ({"corpora": "{coined: {count: 2}}"}, "corpora.coined.count: 2 found; input should be greater than or equal to 3"),
    ({"corpora": "{coined: {path: x, source: coined}}"}, "corpora.coined: needs either source or path"),
    ({"corpora": "{coined: 3}"}, "corpora.coined: 3 is not a mapping"),
    ({"corpora": "{coined: {split: [1]}}"}, "corpora.coined.split: [1] is not a mapping"),
    ({"corpora": "{mine: {path: no/such.txt}}"}, "corpora.mine.path: 'no/such.txt' no such file"),
    ({"corpora": "{mine: {path: /dev}}"}, "is no ordinary file; files of text; remove it, or name files by a pattern"),
    ({"corpora": "{mine: {path: /dev/null}}"}, "corpora.mine.path: '/dev/null' is no ordinary file; allowed: a file"),
    ({"corpora": f"{{mine: {{path: {'x' * 300}}}}}"}, "xxx' cannot be read (File name too long)"),
    ({"corpora": '{mine: {path: "a\\0b"}}'}, "corpora.mine.path: 'a\\x00b' is no path"),
    ({"pretrained": "{theirs: {gguf: /dev}}"}, "pretrained.theirs.gguf: '/dev' is a folder; allowed: a file"),
    ({"pretrained": f"{{theirs: {{path: {__file__}}}}}"}, "test_config.py' is a file; allowed: a folder"),
    ({"corpora": "{coined: {models: []}}"}, "corpora.coined.models: names nothing; leave the key out for its default"),
    ({"corpora": "{coined: {evaluate: []}}"}, "corpora.coined.evaluate: names nothing; leave the key out"),
    ({"corpora": "{coined: {evaluate: [test, test]}}"}, "corpora.coined.evaluate: ['test', 'test'] names something"),
    ({"corpora": "{coined: {evaluate: [tset]}}"}, "corpora.coined.evaluate.0: the text 'tset' found; input should be"),
    ({"seeds": "[]"}, "seeds: names nothing"),
    ({"seeds": "[0, 0]"}, "seeds: [0, 0] names something twice, which would then count twice"),
    ({"seeds": "[-1]"}, "seeds.0: -1 found; input should be greater than or equal to 0"),
    ({"seeds": "[1000000000000000000000]"}, "seeds.0: 1e+21 found; input should be a valid integer"),
    ({"seeds": "3"}, "seeds: 3 found; input should be a valid list"),
    ({"mirror": "3"}, "mirror: 3 found; input should be a valid string"),
    ({"infill": "{lengths: []}"}, "infill.lengths: names nothing; leave the key out for its default"),
    ({"infill": "{lengths: [2, 2]}"}, "infill.lengths: [2, 2] names something twice"),
    ({"infill": "{lengths: [0]}"}, "infill.lengths.0: 0 found; allowed: 1 to 256 characters, word, sentence"),
    ({"infill": "{lengths: [words]}"}, "infill.lengths.0: 'words' found; allowed: 1 to 256 characters, word, sentence"),
    ({"infill": "{places: 0}"}, "infill.places: 0 found; input should be greater than or equal to 1"),
    (
        {"infill": "{context: 17}"},
        "infill: lengths: a middle of 16 has no character on each side in a row of 17; raise context to 18, or shorten",
    ),
    ({"infill": "5"}, "infill: 5 is not a mapping"),
    ({"infill": "{models: [bigrm]}"}, "infill.models: 'bigrm' is not defined (did you mean 'bigram'?)"),
    ({"infill": "{corpora: [none]}"}, "infill.corpora: 'none' is not defined"),
    (
        {"infill": "{models: [ppm]}", "models": "{ppm: {online: true}}"},
        "infill.models: 'ppm' (type ppm) cannot fill gaps; allowed: static models that are fitted from scratch, and",
    ),
    ({"infill": "{models: []}"}, "infill.models: names nothing; leave the key out for its default"),
    (
        {"infill": "{}", "tokenizers": "{byte: {kind: byte}}"},
        "infill: no tokenizer is of kind char, whose tokens are characters; add one, or leave infill out",
    ),
    ({"generation": "{steps: []}"}, "generation.steps: names nothing; leave the key out for its default"),
    ({"generation": "{steps: [4, 0]}"}, "generation.steps.1: 0 found; input should be greater than or equal to 1"),
    ({"generation": "{texts: 0}"}, "generation.texts: 0 found; input should be greater than or equal to 1"),
    ({"generation": "[1]"}, "generation: [1] is not a mapping"),
    (
        {"generation": "{length: 20}", "models": "{gpt: {window: 16, row_length: 16}, llama: {window: 18}}"},
        "generation: length 20 exceeds the window of gpt, 16 tokens; lower length to that, or raise the window",
    ),
    ({"sampling": "{top_p: 0}"}, "sampling.top_p: 0 found; input should be greater than 0"),
    ({"sampling": "{temperature: 0}"}, "sampling.temperature: 0 found; input should be greater than 0"),
    ({"sampling": "0"}, "sampling: 0 is not a mapping"),
    ({"published": "5"}, "published: 5 is not a list"),
    ({"published": "[{corpus: coined, source: x}]"}, "published[0]: lacks model, split, measure, value, tolerance;"),
    (
        {"published": "[{source: x}]"},
        "published[0]: lacks corpus, model, split, measure, value, tolerance; a statement",
    ),
    ({"sampling": "{temperature: []}"}, "sampling.temperature: names nothing"),
    ({"sampling": "{temperature: [1, 0]}"}, "sampling.temperature.1: 0 found; input should be greater than 0"),
    ({"models": "{mlp: {window: {sweep: [4, 0]}}}"}, "models.mlp-window-0.window: 0 found; input should be greater"),
    ({"models": "{mlp: {window: {sweep: 4}}}"}, "models.mlp.window: {'sweep': 4} is no sweep; a sweep is {sweep: ["),
    ({"published": "[5]"}, "published[0]: 5 is not a mapping"),
    ({"published": "[{corpus: coined}]"}, "published[0].source: missing"),
]


@pytest.mark.parametrize(("sections", "expected"), WRONG)
def test_a_wrong_value_is_reported_with_its_key(refusal, sections, expected):
    assert expected in refusal(**sections)


SPLITS = [
    ("{train: 0.9, valid: 0.1, test: 0.1}", "fractions add up to 1.1, more than 1"),
    ("{train: 0}", "train is empty; a model needs text to learn from"),
    ("{train: 0.8, valid: 0.1, test: 100}", "sizes mix fractions and counts"),
    ("{train: 1.5, valid: 0, test: 0}", "sizes mix fractions and counts"),
    ("{train: 10, valid: 1, test: 0.5}", "sizes mix fractions and counts"),
    ("{order: [train, test]}", "order ['train', 'test'] must name train, valid and test once each"),
    ("{order: [train, test, test]}", "must name train, valid and test once each"),
    ("{train: -1}", "train: -1 found; input should be greater than or equal to 0"),
    ("{shuffle_seed: x}", "shuffle_seed: the text 'x' found; input should be a valid integer"),
]


@pytest.mark.parametrize(("split", "expected"), SPLITS)
def test_a_split_that_cannot_be_is_refused(refusal, split, expected):
    message = refusal(corpora=f"{{coined: {{split: {split}}}}}")
    assert message.startswith("corpora.coined.split") and expected in message


def test_an_evaluated_split_must_not_be_empty(refusal):
    corpora = "{coined: {split: {test: 0}, evaluate: [valid, test]}}"
    assert refusal(corpora=corpora) == "corpora.coined: evaluate names test, which the split leaves empty"


def test_best_weights_need_a_valid_part_to_be_chosen_on(refusal, write):
    corpora = "{coined: {split: {valid: 0}}}"
    message = refusal(corpora=corpora, models="{bigram: , mlp: }")
    assert message == "models.mlp.keep: best chooses on valid, which corpora.coined leaves empty; allowed: last"
    assert read_run(write(corpora=corpora, models="{bigram: , mlp: {keep: last}}"))


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("{type: ngram, order: [2, 3]}", "order"),
        ("{type: ngram, add: [0.1, 0.2]}", "add"),
        ("{type: ngram, smoothing: jelinek_mercer}", "smoothing"),
    ],
)
def test_what_valid_chooses_needs_one(refusal, model, key):
    message = refusal(corpora="{coined: {split: {train: 0.9, valid: 0, test: 0.1}}}", models=f"{{counts: {model}}}")
    assert message == f"models.counts.{key} is chosen on valid, which corpora.coined leaves empty; allowed: one value"


def test_a_published_figure_must_stand_beside_one_of_ours(refusal):
    figure = "measure: perplexity, value: 1, tolerance: 0, source: x"
    message = refusal(published=f"[{{corpus: coind, model: bigra, split: test, {figure}}}]")
    assert "published[0].corpus: 'coind' is not defined (did you mean 'coined'?)" in message
    assert "published[0].model: 'bigra' is not defined (did you mean 'bigram'?)" in message
    message = refusal(published=f"[{{corpus: coined, model: bigram, split: valid, {figure}}}]")
    assert message == "published[0].split: 'valid' is not evaluated on corpus coined"


def test_all_mistakes_come_at_once(refusal):
    sections = {"corpora": "{coined: {cuont: 5}, fables: {models: [bigam]}}", "models": "{ngram: {order: x}, gtp: }"}
    message = refusal(**sections, smapling="{}", seeds="[x]", sampling="{count: 0}", mirror="5", name="A.yaml")
    places = ["corpora.coined", "corpora.fables.models", "models.ngram.order", "models.gtp", "smapling", "seeds.0"]
    assert message.startswith("cannot be used:\n") and message.count("\n") == 9
    assert all(f"\n  {place}" in message for place in [*places, "sampling.count", "mirror", "run name 'A'"])


# Names


@pytest.mark.parametrize("name", ["../x", "a b", "{x}", '""', "x" * 65, "Bigram", "-a", "a/b", "a.b", "é", '"a\\n"'])
def test_a_name_that_is_no_folder_is_refused(refusal, name):
    quoted = name if name.startswith('"') else f'"{name}"'
    for section, entry in (
        ("models", "{type: bigram}"),
        ("corpora", "{source: coined}"),
        ("tokenizers", "{kind: byte}"),
    ):
        assert f"{section}: {yaml.safe_load(quoted)!r} is no name; names are" in refusal(
            **{section: f"{{{quoted}: {entry}}}"}
        )


def test_a_name_may_have_64_characters(write):
    name = "x" * 44 + "of_64_letters_with_x"
    assert read_run(write(models=f"{{{name}: {{type: bigram}}}}")).experiments()[0][2] == name


def test_a_file_whose_name_is_none_is_refused(refusal):
    assert refusal(name="My Run.yaml").startswith("run name 'My Run' (from the file's name, or as=) is no name")


# The file itself


REFUSED = [
    ("", "holds no mapping; expected keys such as corpora"),
    ("# only a comment", "holds no mapping"),
    ("- a", "holds no mapping"),
    ("5", "holds no mapping"),
    ("a: [1", "expected ',' or ']'"),
    ("a: 1\na: 2", "line 2: key 'a' appears twice"),
    ("a: {b: 1, b: 2}", "line 1: key 'b' appears twice"),
    ("a: &x 1", "line 1: anchors and aliases are not allowed"),
    ("a: *x", "line 1: anchors and aliases are not allowed"),
    ("a: 1\nb: !!python/object/apply:os.system [ls]", "line 2: tags such as tag:yaml.org,2002:python/object/apply:"),
    ('a: !!int "010"', "line 1: tags such as tag:yaml.org,2002:int are not allowed"),
    ("a: !x {b: 1}", "line 1: tags such as !x are not allowed"),
    ("a: 1e400", "line 1: 1e400 is too large for a number"),
    ("1: x", "line 1: key 1 is no word; put it in quotes"),
    ("true: x", "line 1: key True is no word"),
    ("? [a]\n: x", "line 1: key ['a'] is no word"),
    ("a: 1\n---\nb: 2", "expected a single document"),
    ("a: \x00", "special characters are not allowed"),
    ('a: "\\UFFFFFFFF"', "an escape or a version that stands for nothing"),
    ('a: "\\U00110000"', "an escape or a version that stands for nothing"),
]


@pytest.mark.parametrize(("content", "expected"), REFUSED)
def test_a_file_that_is_no_config_is_refused(refusal, content, expected):
    assert expected in refusal(content)


def test_a_file_that_is_not_utf8_is_refused(refusal):
    assert refusal("corpora: {é: }".encode("latin-1")) == "not UTF-8 at byte 10"


def test_a_missing_file_is_reported_with_the_nearest(write):
    path = write(name="published.yaml").with_name("publishd.yaml")
    with pytest.raises(UserError) as raised:
        read_run(path)
    problem = f"{path}: cannot be read (No such file or directory) (did you mean '{path.with_name('published.yaml')}'?)"
    assert str(raised.value) == f"{problem}; a YAML file"


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read_run(tmp_path)


def test_words_of_older_yaml_are_text(write):
    words = ["yes", "no", "on", "off", "010", "1:30", "0x1F", "1_000", ".nan", ".inf", "2020-01-01", "True", "<<", "="]
    assert load_yaml(write("\n".join(f"k{n}: {word}" for n, word in enumerate(words)))) == {
        f"k{n}": word for n, word in enumerate(words)
    }


def test_numbers_are_numbers(write):
    numbers = {"1e-3": 1e-3, "1.": 1.0, ".5": 0.5, "-2": -2, "+3": 3, "0": 0, "1E+2": 100.0, "~": None, "true": True}
    loaded = load_yaml(write("\n".join(f"k{n}: {text}" for n, text in enumerate(numbers)))).values()
    assert list(loaded) == list(numbers.values()) and [type(v) for v in loaded] == [type(v) for v in numbers.values()]


# Overrides and a text of one's own


def test_overrides_are_the_keys_of_a_run(write):
    run = read_run(write(), {"mirror": "folder", "seeds": [1, 2]})
    assert run.mirror == "folder" and run.seeds == [1, 2]


@pytest.mark.parametrize(("given", "seeds"), [(["0", "1"], [0, 1]), (3, [3]), ("7", [7])])
def test_overrides_come_from_snakemake_as_numbers_or_text(write, given, seeds):
    run = read_run(write(), {"seeds": given, "mirror": 2024})
    assert run.seeds == seeds and run.mirror == "2024"


def test_an_override_that_is_no_number_is_refused(refusal):
    assert refusal(overrides={"seeds": ["x"]}) == "seeds.0: the text 'x' found; input should be a valid integer"


def test_an_unknown_override_is_refused(refusal):
    message = refusal(overrides={"miror": "x"})
    assert (
        message.startswith("--config miror: unknown key; allowed: run, text, mirror")
        and "(did you mean 'mirror'?)" in message
    )


def test_a_text_names_its_run_and_its_corpus(write, tmp_path):
    text = tmp_path / "My Text.txt"
    text.write_text("text")
    run = text_run(write(corpora="{coined: {models: [bigram]}}"), str(text), {"newlines": "unix", "mirror": "m"})
    assert run.name == "my_text" and run.experiments() == [("my_text", "char", "bigram", 0)]
    assert run.corpora["my_text"].newlines == "unix" and run.layout("my_text") == "stream"


def test_a_text_may_be_documents(write, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("text")
    run = text_run(write(), str(text), {"documents": "separator", "separator": 5})
    assert run.layout("t") == "separator" and run.corpora["t"].separator == "5"


def test_a_text_that_is_not_there_is_refused(write, tmp_path):
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(UserError, match=r"no such file \(did you mean '.*/text.txt'\?\)"):
        text_run(write(), str(tmp_path / "txt.txt"))


def test_a_text_with_a_wrong_layout_is_refused(write, tmp_path):
    with pytest.raises(UserError, match=r"documents: the text 'line' found; input should be 'stream', 'lines'"):
        text_run(write(), str(write("x", "t.txt")), {"documents": "line"})


@given(st.text(max_size=100))
def test_every_stem_becomes_a_name(stem):
    name = safe_name(stem)
    assert 0 < len(name) <= 64 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert name[0] not in "_-" and safe_name(name) == name


# Sections


def test_a_section_is_the_record_again(write):
    corpus = read_run(PROJECT / "runs" / "published.yaml").corpora["names_eurekalabs"]
    assert from_section(Corpus, json.loads(to_section(corpus))) == corpus


def test_a_section_pasted_wrongly_is_refused():
    with pytest.raises(UserError, match=r"--section: kind: missing; unknown key 'knd' \(did you mean 'kind'\?\)"):
        from_section(Tokenizer, {"knd": "char"})


def test_the_model_of_a_section(write):
    section = json.loads(read_run(write(models="{ngram: {order: 3}}")).fit_section("ngram"))
    assert config_of(section) == MODEL_TYPES["ngram"](order=3)
    with pytest.raises(UserError, match=r"--section: unknown model 'gtp' \(did you mean 'gpt'\?\)"):
        config_of({"type": "gtp", "hyperparameters": {}})
    with pytest.raises(UserError, match=r"--section: order: 0 found"):
        config_of({"type": "ngram", "hyperparameters": {"order": 0}})


def test_how_a_model_is_scored_is_no_part_of_its_fit(write):
    disjoint = read_run(write(models="{gpt: {scoring: {protocol: disjoint}}}"))
    stride = read_run(write(models="{gpt: {scoring: {stride: 3}}}"))
    assert disjoint.fit_section("gpt") == stride.fit_section("gpt")
    assert disjoint.evaluate_section("coined", "gpt") != stride.evaluate_section("coined", "gpt")


def test_a_ladder_has_every_name_once():
    assert len({config.name for config in LADDER}) == len({config.title for config in LADDER}) == len(LADDER)


def test_a_record_stands_after_another_wherever_it_is_defined():
    assert in_order(reversed(LADDER)) == LADDER
    assert [config.name for config in LADDER[:3]] == ["uniform", "unigram", "bigram"]


def test_two_records_after_the_same_one_and_one_after_none_are_errors():
    class Trigram(Bigram):
        name, after = "trigram", "unigram"

    class Lost(Bigram):
        name, after = "lost", "bigramm"

    with pytest.raises(AssertionError, match="bigram and trigram both stand after unigram"):
        in_order([*LADDER, Trigram])
    with pytest.raises(AssertionError, match="lost: after no model of the ladder"):
        in_order([*LADDER, Lost])


def test_records_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        MODEL_TYPES["bigram"]().add = 3
    with pytest.raises(ValidationError, match="frozen"):
        Scoring().skip = 3
    assert Run.model_config["extra"] == "forbid"


def test_a_suggestion_is_made_only_where_there_is_one():
    assert did_you_mean("ordre", ["order", "add"]) == " (did you mean 'order'?)" and did_you_mean("xyz", ["a"]) == ""


def test_an_error_is_one_line_without_empty_parts():
    assert str(UserError("file", "found", "", "remedy")) == "file: found; remedy"
    assert str(UserError("file", "found", "allowed")) == "file: found; allowed"


# Several files, and --config


def test_a_later_file_wins_and_mappings_are_merged(write):
    first = write(
        "corpora: {coined: }\ntokenizers: {char: {kind: char}}\nmodels: {gpt: {heads: 2, width: 8}}", "a.yaml"
    )
    second = write("models: {gpt: {width: 16}, bigram: }\nseeds: [3]", "b.yaml")
    run = read_run([first, second])
    config = run.models["gpt"].config
    assert (run.name, run.seeds, list(run.models), config.heads, config.width) == ("b", [3], ["gpt", "bigram"], 2, 16)


def test_a_mistake_in_one_of_several_files_names_them_all(write):
    files = [write(name="a.yaml"), write("models: {bigrm: }", "b.yaml")]
    with pytest.raises(UserError, match=r"a\.yaml with .*b\.yaml: models\.bigrm: unknown model 'bigrm'"):
        read_run(files)


def test_every_file_is_read_strictly(write):
    with pytest.raises(UserError, match=r"b\.yaml: line 2: key 'a' appears twice"):
        read_run([write(name="a.yaml"), write("a: 1\na: 2", "b.yaml")])


@pytest.mark.parametrize(
    "settings",
    [
        {"models": {"gpt": {"width": "128", "learning_rate": "1e-3", "bias": "true"}}, "sampling": {"count": "2"}},
        {"set": "models.gpt.width=128 models.gpt.learning_rate=1e-3 models.gpt.bias=true sampling.count=2"},
        {"set": ["models.gpt.width=128", "models.gpt={learning_rate: 1e-3, bias: true}", "sampling={count: 2}"]},
    ],
)
def test_a_setting_reaches_any_key(write, settings):
    run = read_run(write(models="{gpt: {heads: 2, layers: 1}}"), settings)
    config = run.models["gpt"].config
    assert (config.width, config.learning_rate, config.bias, config.heads) == (128, 1e-3, True, 2)
    assert run.sampling.count == 2


def test_a_setting_may_be_a_sweep(write):
    run = read_run(write(models="{mlp: }"), {"set": "'models.mlp.hidden={sweep: [8, 16]}'"})
    assert list(run.models) == ["mlp-hidden-8", "mlp-hidden-16"]


def test_text_stays_text(write):
    run = read_run(write(), {"sampling": {"prompt": "10", "top_k": "3"}, "set": "mirror=true"})
    assert (run.sampling.prompt, run.sampling.top_k, run.mirror) == ("10", 3, "true")


def test_names_choose_among_the_models(write):
    sections = {"corpora": "{coined: {models: [bigram, mlp]}, fables: {models: [unigram]}}"}
    sections |= {"models": "{unigram: , bigram: , mlp: }", "mixtures": "{both: {of: [bigram, mlp]}}"}
    figure = "split: test, measure: perplexity, value: 1, tolerance: 0, source: x"
    sections["published"] = f"[{{corpus: coined, model: mlp, {figure}}}, {{corpus: coined, model: bigram, {figure}}}]"
    run = read_run(write(**sections), {"models": ["bigram"]})
    assert run.experiments() == [("coined", "char", "bigram", 0)]
    assert not run.mixtures and [printed.model for printed in run.published] == ["bigram"]


def test_names_choose_among_corpora_and_tokenizers(write):
    sections = {"corpora": "{coined: , fables: }", "tokenizers": "{char: {kind: char}, byte: {kind: byte}}"}
    run = read_run(write(**sections), {"corpora": ["fables"], "set": "tokenizers=[byte]"})
    assert run.experiments() == [("fables", "byte", "bigram", 0)]


BAD_SETTINGS = [
    ({"models": ["bigam"]}, "--config models: 'bigam' is not defined; allowed: bigram (did you mean 'bigram'?)"),
    ({"models": []}, "--config models: names nothing; leave it out for all of them"),
    ({"modls": ["bigram"]}, "--config modls: unknown key; allowed: run, text, mirror, set, documents, newlines,"),
    ({"separator": "x"}, "--config separator: belongs to text=PATH, a text of your own"),
    ({"set": "models.bigram"}, "--config set: 'models.bigram' is no KEY.KEY=VALUE; allowed: such as"),
    ({"set": 3}, "--config set: '' is no KEY.KEY=VALUE"),
    ({"set": "sampling.prompt='it"}, "cannot be split into words (no closing quotation); close the quote, or write \\"),
    ({"set": "a=b\\"}, "--config set: 'a=b\\\\' cannot be split into words (no escaped character); close the quote"),
    ({"set": "models.bigram.add=[1"}, "--config set: models.bigram.add: while parsing a flow sequence"),
    ({"set": "models.bigram.ad=1"}, "models.bigram: unknown key 'ad' (did you mean 'add'?)"),
    ({"set": "modles.bigram.add=1"}, "modles: unknown key; allowed: mirror,"),
    ({"models": {"bigrm": {}}}, "models.bigrm: unknown model 'bigrm'"),
    ({"sampling": {"count": "x"}}, "sampling.count: the text 'x' found; input should be a valid integer"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_a_wrong_setting_is_refused(refusal, settings, message):
    assert message in refusal(overrides=settings)


def test_all_wrong_settings_come_at_once(refusal):
    message = refusal(
        overrides={"modls": 1, "models": ["x"], "set": "y z sampling.count=0"}, models="{bigram: {ad: 1}}"
    )
    assert message.startswith("cannot be used:\n") and message.count("\n") == 6
    assert all(problem in message for problem in ("modls", "'x' is not", "'y' is no", "'z' is no", "sampling.count"))


# Keys of version 0.1


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("{a: {rung: bigram}}", "models.a.rung: is called type since version 0.2; write type: bigram"),
        ("{ppm: {learns: true}}", "models.ppm.learns: is called online since version 0.2; write online: true"),
    ],
)
def test_a_key_that_was_renamed_is_one_error_that_says_so(refusal, models, message):
    assert refusal(models=models) == message


# What code derives from a record


def test_a_fit_receives_what_its_record_derives(write):
    section = json.loads(read_run(write(models="{wavenet: {layers: 4}}")).fit_section("wavenet"))
    derived = {"window": 16, "context": 16, "category": "static", "protocol": "stream", "family": "neural"}
    assert section["properties"].items() >= derived.items() and "title" not in section["properties"]


@pytest.mark.parametrize(("name", "key"), [("wavenet", "window"), ("wavenet", "context"), ("ngram", "constants")])
def test_an_edit_of_a_property_changes_the_section(write, monkeypatch, name, key):
    run = read_run(write(models=f"{{{name}: }}"))
    before = run.fit_section(name)
    monkeypatch.setattr(MODEL_TYPES[name], key, property(lambda record: 7))
    assert json.loads(run.fit_section(name))["properties"][key] == 7 and run.fit_section(name) != before
    with pytest.raises(UserError, match=rf"--section: this code derives other properties of {name} .*{key}"):
        config_of(json.loads(before))


def test_an_edit_of_a_corpus_property_changes_the_section(write, monkeypatch):
    run = read_run(write())
    before = json.loads(run.prepare_section("coined"))
    assert before["properties"] == {"embedded": True, "layout": "lines"}
    assert from_section(Corpus, before) == Corpus(source="coined")
    monkeypatch.setattr(Corpus, "layout", property(lambda record: "stream"))
    assert json.loads(run.prepare_section("coined")) != before
    with pytest.raises(
        UserError, match=r"--section: this code derives other properties of corpus from its keys \(layout\)"
    ):
        from_section(Corpus, before)


@pytest.mark.parametrize("config", LADDER, ids=lambda config: config.name)
def test_every_model_reads_its_own_section(write, config, monkeypatch):
    monkeypatch.setattr("lmstages.config.references.find_spec", lambda name: name)  # as if llama.cpp were installed
    bases = {"llama": "{hidden: 352}", "masked_diffusion": "", "gpt": ""}  # whole blocks of 32, for the quantized ones
    models = ", ".join(f"{name}: {keys}" for name, keys in ({config.name: ""} | bases).items())
    run = read_run(write(models=f"{{{models}}}"))
    assert config_of(json.loads(run.fit_section(config.name))) == run.models[config.name].config


# Values beyond what can work


HUGE = [
    ({"models": "{gpt: {width: 1000000000}}"}, "models.gpt.width: 1000000000 found; input should be less than or"),
    ({"models": "{gpt: {width: 1e9}}"}, "models.gpt.width: 1000000000.0 found; input should be a valid integer"),
    ({"models": "{gpt: {window: 1000000}}"}, "models.gpt.window: 1000000 found; input should be less than or equal to"),
    ({"models": "{mlp: {window: 1000000}}"}, "models.mlp.window: 1000000 found; input should be less than or equal to"),
    ({"models": "{llama: {hidden: 99999999}}"}, "models.llama.hidden: 99999999 found; input should be less than or"),
    ({"models": "{lstm: {embedding: 99999999}}"}, "models.lstm.embedding: 99999999 found; input should be less than"),
    ({"models": "{gpt: {layers: 1000000}}"}, "models.gpt.layers: 1000000 found; input should be less than or equal"),
    ({"models": "{gpt: {width: 65536, layers: 400}}"}, "models.gpt: needs about 496,"),
    ({"models": "{gpt: {batch_size: 100000000}}"}, "models.gpt: needs about "),
    ({"models": "{lstm: {row_length: 10000000000}}"}, "models.lstm: needs about "),
    ({"models": "{autograd: {hidden: [2000, 2000]}}"}, "models.autograd: 4,066,000 weights, each an object; at most"),
    ({"models": "{bigram: {scoring: {window: 1000000}}}"}, "models.bigram.scoring.window: 1000000 found; input should"),
    ({"corpora": "{coined: {seed: 99999999999999999999}}"}, "corpora.coined.seed: 1e+20 found; input should be a"),
    ({"sampling": "{seed: -1}"}, "sampling.seed: -1 found; input should be greater than or equal to 0"),
    ({"seeds": "[99999999999999999999]"}, "seeds.0: 1e+20 found; input should be a valid integer"),
    ({"models": "{mlp: {seeds: [99999999999999999999]}}"}, "models.mlp.seeds.0: 1e+20 found; input should be a valid"),
    (
        {"models": f"{{mlp: {{hidden: {{sweep: {[*range(1, 200)]}}}, window: {{sweep: {[*range(1, 200)]}}}}}}}"},
        "39,601",
    ),
]


@pytest.mark.parametrize(("sections", "message"), HUGE)
def test_a_value_that_no_machine_can_hold_is_refused(refusal, sections, message):
    assert message in refusal(**sections)


@pytest.mark.parametrize("seed", [2**63, 99999999999999999999, 10**4000])
def test_a_seed_of_the_command_line_that_is_too_large_is_refused_in_a_short_line(refusal, seed):
    message = refusal(overrides={"seeds": [seed]})
    assert message.startswith("seeds.0: ") and "input should be less than 9223372036854775808" in message
    assert len(message) < 400


@pytest.mark.parametrize("brackets", ["[]", "{}"])
@pytest.mark.parametrize("depth", [30, 500, 5000])
def test_nested_brackets_are_refused(refusal, brackets, depth):
    nested = f"{'{a: ' if brackets == '{}' else '['}" * depth + brackets[1] * depth
    assert "line 4: lists and mappings lie more than 20 deep" in refusal(published=nested)


def test_nested_brackets_of_a_setting_are_refused(refusal):
    message = refusal(overrides={"set": f"models.bigram.add={'[' * 500}{']' * 500}"})
    assert "--config set: models.bigram.add: line 1: lists and mappings lie more than 20 deep" in message


@pytest.mark.parametrize("key", ["models", "tokenizers"])
@pytest.mark.parametrize("entry", ["{a: 1}", "[a]", "1", "null"])
def test_what_is_no_name_is_refused_where_a_corpus_lists_names(refusal, key, entry):
    assert f"corpora.coined.{key}.0: " in refusal(corpora=f"{{coined: {{{key}: [{entry}]}}}}")


@pytest.mark.parametrize("entry", [{"a": 1}, ["a"], 1, None])
@pytest.mark.parametrize("key", ["models", "corpora", "tokenizers"])
def test_what_is_no_name_is_refused_where_a_setting_chooses(refusal, key, entry):
    message = refusal(overrides={key: [entry]}, mixtures="{both: {of: [{a: 1}, bigram]}}")
    assert f"--config {key}: {entry!r} is not defined" in message


TAKEN = [
    ({"corpora": "{figures: {source: coined}}"}, "corpora: 'figures'"),
    ({"corpora": "{tables: {source: coined}}"}, "corpora: 'tables'"),
    ({"corpora": "{diff: {source: coined}}"}, "corpora: 'diff'"),
    ({"tokenizers": "{text: {kind: char}}"}, "tokenizers: 'text'"),
    ({"tokenizers": "{oracle: {kind: char}}"}, "tokenizers: 'oracle'"),
    ({"models": "{tokens: {type: bigram}}"}, "models: 'tokens'"),
    ({"models": "{bigram: , unigram: }", "mixtures": "{tokens: {of: [bigram, unigram]}}"}, "mixtures: 'tokens'"),
    ({"pretrained": "{tokens: {path: .}}"}, "pretrained: 'tokens'"),
]


@pytest.mark.parametrize(("sections", "entry"), TAKEN)
def test_a_name_of_an_output_is_refused(refusal, sections, entry):
    assert f"{entry} is the name of a folder that the run writes; allowed: another name" in refusal(**sections)


# Names of texts


def test_texts_of_other_alphabets_have_different_names():
    stems = ["война", "мир", "戦争", "平和", "!!!", "???", "a" * 80 + "x", "a" * 80 + "y", "Käse", "Kise"]
    assert len({safe_name(stem) for stem in stems}) == len(stems)
    assert safe_name("война").startswith("text-") and safe_name("Käse").startswith("k_se-")
    assert safe_name("Ka\u0308se") != safe_name("Kase") and safe_name("My Text") == "my_text"


@pytest.mark.parametrize("stem", ["z" * 64, "ab" * 20, "x" + "-_" * 20])
def test_a_name_that_repeats_its_end_is_refused_since_snakemake_does(write, tmp_path, stem):
    detector = PeriodicityDetector()
    assert detector.is_periodic(stem) and not detector.is_periodic(stem[-19:])
    with pytest.raises(UserError, match=r"corpora: '.*' is no name; names end in nothing that is repeated 20 times"):
        read_run(write(corpora=f"{{{stem}: {{source: coined}}}}"))
    (tmp_path / f"{stem}.txt").write_text("text")
    name = text_run(write(), str(tmp_path / f"{stem}.txt")).name
    assert not detector.is_periodic(name) and name[-6:].isalnum()
    assert safe_name("a" * 19) == "a" * 19


@pytest.mark.parametrize("stem", ["figures", "tables", "default", "run"])
def test_a_text_named_like_an_output_has_a_name_of_its_own(write, tmp_path, stem):
    (tmp_path / f"{stem}.txt").write_text("text")
    assert text_run(write(), str(tmp_path / f"{stem}.txt")).name == f"{stem}-text"


def test_a_run_has_the_name_that_it_is_given(write, tmp_path):
    (tmp_path / "my.txt").write_text("text")
    assert text_run(write(), str(tmp_path / "my.txt"), {"as": "war"}).experiments() == [("war", "char", "bigram", 0)]
    assert read_run(write(), {"as": "second"}).name == "second"
    with pytest.raises(UserError, match=r"run name 'Über' \(from the file's name, or as=\) is no name"):
        read_run(write(), {"as": "Über"})


# What a person types, or another program hands over


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"set": "models.bigram.add='1"},
            '--config set: "models.bigram.add=\'1" cannot be split into words (no clos',
        ),
        ({"set": ["a." * 3000 + "b=1"]}, "is no KEY.KEY=VALUE; allowed: such as models.gpt.width=128"),
        ({"models": {"bigram": {"add": "1e400"}}}, "--config models: line 1: 1e400 is too large for a number; a value"),
        ({"set": "mirror.a.add='\"1e400\"'"}, "--config set: mirror.a.add: line 1: 1e400 is too large for a number"),
        ({"models": {1: {"type": "bigram"}}}, "--config models: key 1 is no word; put it in quotes"),
        ({"models": {"bigram": {None: 1}}}, "--config models: key None is no word; put it in quotes"),
        (
            {"seeds": [[[[]]]] * 2 + [json.loads("[" * 30 + "]" * 30)]},
            "--config seeds: lists and mappings lie more than",
        ),
        ({"seeds": [16**5000]}, "--config seeds: a whole number of 20,001 bits is too large for a number"),
        (
            {"sampling": {"prompt": True}},
            "--config sampling: prompt: was read as True, which is no text; put it in quotes",
        ),
        ({"mirror": 1e5}, "--config mirror: mirror: was read as 100000.0, which is no text; put it in quotes"),
        ({"models": {"mlp": {"clip": float("inf")}}}, "models.mlp.clip: inf found; input should be a finite number"),
        ({"models": {"bigram": {"add": [1, 1.0]}}}, "models.bigram.add: [1, 1.0] found; 1 and 1.0 are one value"),
    ],
)
def test_a_setting_that_is_no_content_of_a_config_is_named(refusal, settings, expected):
    assert expected in refusal(overrides=settings)


@pytest.mark.parametrize("section", ["5", "[a]", "text", "true"])
def test_names_choose_among_no_entries_of_a_section_that_is_none(refusal, section):
    assert "corpora: not a mapping" in refusal(corpora=section, overrides={"models": ["bigram"]})
    for key in ("mixtures", "pretrained"):
        sections = {key: section, "published": "[{source: x, claim: y}]"}
        assert refusal(overrides={"models": ["bigram"]}, **sections).startswith(f"{key}: not a mapping")


def test_a_key_cannot_forge_a_line_of_the_message(refusal):
    message = refusal(
        '"corpora: fine\\n  models: fine": 1\n' + "corpora: {coined: }\ntokenizers: {char: {kind: char}}\n"
    )
    assert "corpora: fine\\n  models: fine: unknown key" in message and message.count("\n") == 2


def test_a_long_value_is_shown_in_part(refusal):
    message = refusal(models=f"{{{'x' * 900}: {{type: {'y' * 9000}}}}}", corpora="z" * 9000, sampling="t" * 9000)
    assert max(map(len, message.split("\n"))) < 3100 and "corpora: not a mapping" in message
    message = refusal(overrides={"models": {"x" * 9000: {"type": "y" * 9000}}})
    assert max(map(len, message.split("\n"))) < 3100 and message.count("xxx ... ") == 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ('""', "corpora.own.path: is empty; leave the key out, or give a path"),
        ('"a\\0b"', "corpora.own.path: 'a\\x00b' is no path"),
        ("x" * 300, f"corpora.own.path: '{'x' * 300}' cannot be read (File name too long)"),
        ("a/b/c.txt", "corpora.own.path: 'a/b/c.txt' no such file"),
        ('"\\udcff.txt"', "corpora.own: path: '\\udcff.txt' is no text in UTF-8; a character beyond U+FFFF is one"),
    ],
)
def test_a_path_that_is_none_is_refused(refusal, path, expected):
    assert refusal(corpora=own(path)).startswith(expected)


def test_a_mirror_that_is_no_path_is_refused(refusal):
    assert refusal(mirror='"a\\0b"') == "mirror: 'a\\x00b' is no path"
    assert refusal(mirror='""') == "mirror: is empty; leave the key out, or give a path"


def test_half_a_character_is_no_text(refusal):
    assert refusal(sampling='{prompt: "\\ud83d\\ude42"}').startswith(
        "sampling: prompt: '\\ud83d\\ude42' is no text in UTF-8"
    )
    message = refusal(corpora='{coined: {tokenizers: ["\\ud800"]}}')
    assert message.startswith("corpora.coined: tokenizers: '\\ud800' is no text in UTF-8")


def test_an_embedded_corpus_draws_what_its_split_asks_for(refusal, write):
    split = "split: {train: 8, valid: 2, test: 1}"
    message = refusal(corpora=f"{{coined: {{count: 10, {split}}}}}")
    problem = "corpora.coined: split asks for 11 documents in all, 10 are drawn"
    assert message == f"{problem}; raise count, or lower the split"
    assert read_run(write(corpora=f"{{coined: {{count: 11, {split}}}}}"))
    assert "30,000 are drawn" in refusal(
        corpora="{coined: {split: {train: 30001, valid: 0, test: 0}, evaluate: [train]}}"
    )


def test_contents_are_the_same_as_snakemake_reads_them():
    nan = float("nan")
    assert same({"a": [1, {"b": nan}], "c": None}, {"c": None, "a": [1, {"b": float("nan")}]})
    assert not same({"a": 1}, {"a": True}) and not same({"a": 1}, {"a": 1, "b": None}) and not same([1], [1, 2])


# Texts of one's own, before the first job

NOTHING_TO_SAY = Forecast(warnings=[], too_short=[], failures={})


def own(text, **keys):
    return f"{{own: {{path: {text}, {', '.join(f'{key}: {value}' for key, value in keys.items())}}}}}"


def test_a_part_shorter_than_a_window_is_known_before_the_first_job(write, tmp_path):
    (tmp_path / "my.txt").write_text("abcdefghi " * 60)
    run = read_run(write(corpora=own(tmp_path / "my.txt"), models="{unigram: , gpt: }"))
    with pytest.raises(
        UserError, match=r"^text too short: the test part of \S+my\.txt has at most 60 tokens of char, "
    ):
        forecast(run).must_be_long_enough()
    assert forecast(run).failures == {
        ("own", "char", "gpt"): "text too short: the test part has at most 60 tokens; model gpt looks back over 64; "
        "give more text, or lower the model's window or order"
    }
    long_enough = read_run(write(corpora=own(tmp_path / "my.txt"), models="{gpt: {window: 59, row_length: 8}}"))
    assert forecast(long_enough) == NOTHING_TO_SAY
    forecast(long_enough).must_be_long_enough()


def test_a_text_too_short_for_every_model_is_refused(write, tmp_path):
    (tmp_path / "my.txt").write_text("abcdefghi " * 60)
    with pytest.raises(
        UserError, match=r"^text too short: the test part of \S+ has at most 60 .* looks back over 64; "
    ):
        forecast(read_run(write(corpora=own(tmp_path / "my.txt"), models="{gpt: , llama: }")))


def test_skipped_tokens_and_documents_count_in_what_is_too_short(write, tmp_path):
    (tmp_path / "my.txt").write_text("abcdefghi\n" * 60)
    lines = own(tmp_path / "my.txt", documents="lines")
    assert (
        forecast(read_run(write(corpora=lines, models="{gpt: {window: 64}}"))) == NOTHING_TO_SAY
    )  # 6 documents end, too
    skipping = "{gpt: {window: 60, row_length: 8, scoring: {skip: 7}}}"
    with pytest.raises(UserError, match=r"the test part of .* has at most 66 tokens of char, gpt looks back over 60"):
        forecast(read_run(write(corpora=lines, models=skipping)))


@pytest.mark.parametrize("layout", ["lines", "separator"])
def test_line_ends_that_are_converted_are_foreseen_as_converted(write, tmp_path, layout):
    """By hand: 8 documents of two characters in train, one each in valid and test, and a boundary for each."""
    (tmp_path / "my.txt").write_bytes("é🙂\r\n---\r\n".encode() * 10)
    keys = {"documents": layout, "newlines": "unix", "separator": "'---'"}
    corpus = read_run(write(corpora=own(tmp_path / "my.txt", **keys))).corpora["own"]
    with cleaned(corpus) as path:
        sizes = lengths(path, corpus)
    assert sum(size.characters for size in sizes.values()) == 70
    assert sizes["train"].documents == (16 if layout == "lines" else 8)


def test_a_missing_separator_is_known_before_the_first_job(write, tmp_path):
    (tmp_path / "my.txt").write_text("abcdefghi\n" * 60)
    run = read_run(write(corpora=own(tmp_path / "my.txt", documents="separator", separator="'---'")))
    with pytest.raises(UserError, match=r"my\.txt: no line is '---'"):
        forecast(run)


@pytest.mark.parametrize(
    ("documents", "ending"), [("lines", "\r\n"), ("separator", "\r\n---\r\n")], ids=["lines", "separator"]
)
def test_windows_line_ends_are_looked_at_as_they_will_be_cut(write, tmp_path, documents, ending):
    (tmp_path / "my.txt").write_bytes(f"na\u00efve \u20ac{ending}".encode() * 60)
    keys = {"documents": documents, "separator": "'---'", "newlines": "unix"}
    short, long = (f"{{gpt: {{window: {window}, row_length: 8}}}}" for window in (53, 54))
    corpora = own(tmp_path / "my.txt", **keys)
    if documents == "separator":  # 6 ends of documents, and in each 7 characters, 3 dashes and two line ends
        short, long = (f"{{gpt: {{window: {window}, row_length: 8}}}}" for window in (77, 78))
    assert forecast(read_run(write(corpora=corpora, models=short))) == NOTHING_TO_SAY
    with pytest.raises(UserError, match=r"the test part of \S+my\.txt has at most (54|78) tokens of char"):
        forecast(read_run(write(corpora=corpora, models=long)))


VOCABULARIES = (
    "{word: {kind: word, vocab_size: 258}, bpe: {kind: bpe, vocab_size: 300}, all: {kind: bpe, vocab_size: 260}}"
)


@pytest.mark.parametrize("documents", ["stream", "lines"])
def test_a_vocabulary_that_a_text_cannot_fill_is_known_before_the_first_job(write, tmp_path, documents):
    (tmp_path / "my.txt").write_text("the cat sat on the mat\n" * 60)
    run = read_run(write(corpora=own(tmp_path / "my.txt", documents=documents), tokenizers=VOCABULARIES))
    words, merges = unfilled(run)
    assert re.match(
        r"own/word will fail: tokenizers: vocab_size: the train text has words for \d+ tokens only, 258", words
    )
    assert re.match(r"own/bpe will fail: .* has pairs for 2\d\d tokens only, 300 were asked for; lower vocab", merges)
    (tmp_path / "my.txt").write_text("".join(f"{n} cats\n" for n in range(4000)))
    assert unfilled(run) == []


def test_a_long_fit_of_autograd_is_known_before_the_first_job(write, tmp_path):
    (tmp_path / "my.txt").write_text("".join(chr(0x4E00 + code) for code in range(3500)))
    run = read_run(write(corpora=own(tmp_path / "my.txt"), models="{autograd: {examples: 300}}"))
    [warning] = forecast(run).warnings
    assert warning.startswith("models.autograd takes about 6 minutes on own/char, whose vocabulary has about 3,500 ")
    autograd = run.models["autograd"].config
    assert needs.asked_minutes(needs.need("fit", 1e4, autograd, 3501)) > 20


def test_an_embedded_text_larger_than_the_machine_is_said(write, refusal):
    run = read_run(write(corpora="{coined: {count: 100000000}, small: {source: fables, count: 1000}, fables: }"))
    [warning] = resources.larger_than(16000, run.configs(), run.drawn())
    machine = "this machine has 16.0 GB; lower its count"
    assert warning == f"corpora.coined needs about 30.0 GB of memory to be drawn, {machine}"
    assert resources.larger_than(40000, run.configs(), run.drawn()) == []
    message = "corpora.coined.count: needs about 329,853 GB of memory to be drawn; at most 4,000 GB; lower it"
    assert message in refusal(corpora="{coined: {count: 1099511627776}}")


def test_a_model_larger_than_the_machine_is_said(write):
    run = read_run(write(models="{bigram: , gpt: {width: 8192, layers: 4}}"))
    [warning] = resources.larger_than(16000, run.configs())
    assert (
        warning.startswith("models.gpt needs about 79.6 ")
        and "GB of memory to fit, this machine has 16.0 GB" in warning
    )
    assert resources.larger_than(100000, run.configs()) == [] and resources.machine_megabytes() > 100


def test_a_mistake_of_a_whole_section_is_said_without_a_key():
    with pytest.raises(UserError, match=r"^--section: warmup_steps 9 exceeds steps 8$"):
        from_section(MODEL_TYPES["mlp"], {"warmup_steps": 9, "steps": 8})
