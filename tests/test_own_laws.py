"""``lmstages laws`` on classes of one's own: right ones keep all laws, each planted fault is named in a message."""

import re
from pathlib import Path

import pytest

from lmstages.cli import main

TUTORIAL = Path(__file__).resolve().parents[1] / "docs/tutorials/own-model.md"
GATED, UNIGRAM = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text("utf-8"), re.DOTALL)
SMALL = ("width=8", "kernel=3", "layers=2")
BATCH_NORM = "nn.Embedding(vocab_size, self.width), Centred(),"
STATISTICS = """
class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class GatedCNN"""


def code_lines(code):
    """Lines that are neither empty nor an import nor a docstring."""
    lines = [line.strip() for line in code.splitlines()]
    return [line for line in lines if line and not line.startswith(('"""', "from ", "import "))]


def tried(tmp_path, monkeypatch, capsys, code, type_name="my_models.py:GatedCNN", settings=SMALL):
    """(exit status, {law: its lines}) of a file's class."""
    monkeypatch.chdir(tmp_path)
    Path("my_models.py").write_text(code)
    status = main(["laws", type_name, "--set", *settings])
    printed = capsys.readouterr().out
    blocks = re.split(r"\n(?=ok |broken |- )", printed.rstrip())
    return status, {block[8:32].strip(): block for block in blocks}


def broken(verdicts):
    return {name: " ".join(block.split()) for name, block in verdicts.items() if block.startswith("broken")}


def test_the_class_of_the_tutorial_has_25_lines_and_keeps_all_laws(tmp_path, monkeypatch, capsys):
    assert len(code_lines(GATED)) <= 25
    status, verdicts = tried(tmp_path, monkeypatch, capsys, GATED)
    assert status == 0 and not broken(verdicts) and len(verdicts) >= 18
    untried = [name for name, block in verdicts.items() if block.startswith("-")]
    assert untried == ["before"]


def test_a_class_that_counts_has_15_lines_and_keeps_all_laws(tmp_path, monkeypatch, capsys):
    assert len(code_lines(UNIGRAM)) <= 15 and "torch" not in UNIGRAM
    status, verdicts = tried(tmp_path, monkeypatch, capsys, UNIGRAM, "my_models.py:Unigram", ["add=0.5"])
    assert status == 0 and not broken(verdicts)


def test_a_model_of_the_ladder_is_tried_by_the_same_command(tmp_path, monkeypatch, capsys):
    status, verdicts = tried(tmp_path, monkeypatch, capsys, "", "bigram", [])
    assert status == 0 and verdicts["chain rule"].startswith("ok")


# Faults planted in the class of the tutorial: what is replaced by what, the law that is broken, words of its message

LOOKS_AHEAD = ("nn.Conv1d(width, 2 * width, kernel)", "nn.Conv1d(width, 2 * width, kernel, padding=kernel - 1)")
NO_MASK = ("x[:, -gated.shape[1] :] + gated", "x[:, 2:] + gated[:, -x.shape[1] + 2 :]")
FAULTS = {
    "no causal mask": ([LOOKS_AHEAD, NO_MASK], "future", "row 0, token 0|causal mask is missing.*pad on the left"),
    "dropout left on": (
        [("self.convolution(x.mT)", "functional.dropout(self.convolution(x.mT), 0.3)")],
        "repetition",
        "the second time.*dropout is still on.*training=self.training",
    ),
    "wrong shape": (
        [("nn.Linear(self.width, vocab_size)", "nn.Linear(self.width, vocab_size + 1)")],
        "shape of the network",
        r"make \(4, 1, 8\), not \(4, 1, 7\).*not vocab_size",
    ),
    "positions lost": (
        [("x[:, -gated.shape[1] :] + gated", "gated.sum(1)[:, None].expand(-1, gated.shape[1], -1)")],
        "future",
        "later tokens",
    ),
    "global random state": (
        [
            ("from torch import nn", "import numpy as np\nfrom torch import nn"),
            ("nn.Embedding(vocab_size, self.width)", "nn.Embedding(vocab_size, self.width, max_norm=np.random.rand())"),
        ],
        "no global randomness",
        "numpy's global generator",
    ),
    "undeclared hyperparameter": (
        [("range(self.layers)", "range(self.depth)")],
        "shape of the network",
        r"my_models.py:\d+: AttributeError.*depth is no hyperparameter.*declare it: depth",
    ),
    "state between calls": (
        [("gated = functional", "self.calls = getattr(self, 'calls', 0) + 1\n        gated = self.calls * functional")],
        "repetition",
        "the second time.*a state is kept between calls",
    ),
    "not a number": (
        [("x[:, -gated.shape[1] :] + gated", "x[:, -gated.shape[1] :] + gated / (gated.abs().amax() * 0)")],
        "shape of scores",
        "is not a number|nan",
    ),
    "float64": (
        [("*layers, nn.Linear(self.width, vocab_size))", "*layers, nn.Linear(self.width, vocab_size)).double()")],
        "shape of the network",
        "logits are torch.float64, not torch.float32.*make it float32",
    ),
    "reads its neighbours in the batch": (
        [("class GatedCNN", STATISTICS.lstrip()), ("nn.Embedding(vocab_size, self.width),", BATCH_NORM)],
        "rows",
        "when the row is scored alone.*BatchNorm.*normalise each row by itself",
    ),
    "a parameter that fit does not reach": (
        [("super().__init__()", "super().__init__()\n        self.unused = nn.Linear(3, 3)")],
        "gradient",
        r"no gradient reaches 1.unused.weight, 1.unused.bias",
    ),
    "a number that is not stored": (
        [
            ("from torch import nn", "import torch\nfrom torch import nn"),
            ("super().__init__()", "super().__init__()\n        self.scale = torch.rand(width)"),
            ("x[:, -gated.shape[1] :] + gated", "x[:, -gated.shape[1] :] + self.scale * gated"),
        ],
        "storage",
        r"after arrays\(\) and restore\(\).*GatedConvolution.scale.*register_buffer",
    ),
    "a context that is wrong": (
        [("self.layers * (self.kernel - 1) + 1", "self.layers * self.kernel")],
        "shape of the network",
        r"make \(4, 2, 7\), not \(4, 1, 7\).*of 6 inputs one prediction is made, since the class says windowed",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(tmp_path, monkeypatch, capsys, fault):
    changes, law, message = FAULTS[fault]
    code = GATED
    for old, new in changes:
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    status, verdicts = tried(tmp_path, monkeypatch, capsys, code)
    assert status == 1 and law in broken(verdicts), broken(verdicts)
    assert re.search(message, broken(verdicts)[law]), broken(verdicts)[law]


COUNTED = {
    "not normalised": ("counts.sum()", "counts.max()", "sums", "log_softmax is missing"),
    "whole numbers": ("np.log(counts / counts.sum())", "-np.ones(7, dtype=int)", "shape of scores", "int64"),
    "an impossible token": (
        "np.log(counts / counts.sum())",
        "np.where(np.arange(7) > 0, -np.log(6), -np.inf)",
        "shape of scores",
        "never predicted",
    ),
    "no arrays": (
        '{"log_probs": np.log(counts / counts.sum())}',
        "counts",
        "shape of scores",
        "fit returns ndarray; arrays by name",
    ),
}


@pytest.mark.parametrize("fault", COUNTED)
def test_a_fault_in_a_class_that_counts_is_named(tmp_path, monkeypatch, capsys, fault):
    old, new, law, message = COUNTED[fault]
    assert UNIGRAM.count(old) == 1
    code = UNIGRAM.replace(old, new)
    status, verdicts = tried(tmp_path, monkeypatch, capsys, code, "my_models.py:Unigram", [])
    assert status == 1 and message in broken(verdicts)[law], broken(verdicts)
