"""Every class of model passes the checks, and a failed check gives a message with law, numbers and cause."""

import numpy as np
import pytest
from test_cli import call, prepared
from test_laws import NAMES, fitted

from lmstages.core import artifacts
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation import checks, scoring
from lmstages.evaluation.laws import V, drawn
from lmstages.tokenizers import streams

EXPERIMENT = "names/char/model/seed0 on test"
TEXTS = {
    "documents": Documents.of([[*row, 0] for row in drawn(21, 30, 9)]),
    "long documents": Documents.of([[*row, 0] for row in drawn(22, 25, 40)]),
    "a stream": Documents.single(drawn(23, 900)),
    "one short stream": Documents.single(drawn(24, 5)),
    "documents of which one is empty": Documents.of([[], [1, 0], [2, 3, 0]]),
    "nothing": Documents.of([]),
}
PROTOCOLS = {"stream": ("stream", 8, 8, 0), "stride": ("stride", 6, 3, 0), "disjoint": ("disjoint", 6, 6, 0)}
PROTOCOLS["skip"] = ("stride", 6, 3, 2)


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return fitted(request.param)


@pytest.mark.parametrize("text", TEXTS)
def test_every_class_of_model_passes(model, text):
    checks.check_model(model, TEXTS[text], EXPERIMENT)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("text", ["documents", "a stream"])
def test_the_scores_of_every_class_of_model_pass(model, text, protocol):
    name, window, stride, skip = PROTOCOLS[protocol]
    documents = TEXTS[text]
    log_probs = scoring.score(model, documents, scoring.windows_of(documents.starts, name, window, stride, skip))
    checks.check_scores(model, documents, log_probs, skip, None if name == "stream" else window, EXPERIMENT)


class Broken:
    """A fitted model with some methods replaced."""

    def __init__(self, model, **methods):
        self.model, self.methods = model, methods

    def __getattr__(self, name):
        return self.methods.get(name) or getattr(self.model, name)


def refusal(model, documents=TEXTS["long documents"]):
    with pytest.raises(checks.CheckError) as caught:
        checks.check_model(model, documents, EXPERIMENT)
    return str(caught.value)


def test_a_message_has_experiment_law_numbers_and_cause():
    bigram = fitted("bigram")
    message = refusal(Broken(bigram, next_log_probs=lambda prefix: bigram.next_log_probs(prefix) + np.log(2)))
    assert message.startswith(f"{EXPERIMENT}: breaks the law of sums: after 0 tokens the next probabilities sum to 2, ")
    assert "they sum to 1 within 1e-06, or bits per byte are no code length; this is a fault of the model's" in message
    assert message.endswith("nothing was written") and isinstance(checks.CheckError("x", "y"), UserError)


def test_nan_is_refused():
    bigram = fitted("bigram")
    assert "sum to nan" in refusal(Broken(bigram, next_log_probs=lambda prefix: np.full((len(prefix), V), np.nan)))


def test_an_impossible_token_may_have_minus_infinity():
    bigram = fitted("bigram")
    impossible = np.log(np.array([0, 0, 0, 0, 0, 0, 1.0]) + 1e-300)
    impossible[:6] = -np.inf

    def score(x, before=None):
        return impossible[x]

    checks.check_model(
        Broken(bigram, score=score, next_log_probs=lambda prefix: np.tile(impossible, (len(prefix), 1))),
        TEXTS["long documents"],
        EXPERIMENT,
    )


def test_a_positive_score_is_refused():
    documents = TEXTS["documents"]
    with pytest.raises(checks.CheckError, match=r"coverage: a token has probability e\^0\.5"):
        checks.check_scores(fitted("bigram"), documents, np.full(len(documents), 0.5), 0, None, EXPERIMENT)


def test_checks_score_few_tokens():
    """However long the text, only a few short rows are scored."""
    sizes = []
    bigram = fitted("bigram")

    def score(x, before=None):
        sizes.append(x.size)
        return bigram.score(x)

    checks.check_model(Broken(bigram, score=score), Documents.single(drawn(25, 100_000)), EXPERIMENT)
    assert sum(sizes) <= 4 * checks.ROWS * checks.LENGTH


# In the pipeline


def test_a_failed_check_fails_the_job_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run, results = prepared(tmp_path)
    folder, tokens = results / "char/bigram/seed0", results / "char/tokens"
    assert call("fit", "--tokens", tokens, "--out", folder, "--section", run.fit_section("bigram")) == 0
    inputs = ["--model", folder / "model.safetensors", "--tokens", tokens, "--text", results / "text", "--out", folder]
    section = run.evaluate_section("names", "bigram")
    right = streams.read_tokens(tokens, "test")[1]
    with artifacts.saving_array(tokens / "test.bytes.npy", right.dtype, {}) as file:
        file.append(np.full(len(right), 3))
    assert call("evaluate", *inputs, "--section", section) == 1
    message = f"names/char/bigram/seed0 on test: breaks the law of coverage: the tokens cover {3 * len(right)} bytes"
    assert message in capsys.readouterr().err and not (folder / "scores.safetensors").exists()
    with artifacts.saving_array(tokens / "test.bytes.npy", right.dtype, {}) as file:
        file.append(np.ones(len(right)))
    assert call("evaluate", *inputs, "--section", section) == 0 and (folder / "scores.safetensors").exists()
