"""The playground on a real socket: it answers its own page, takes every prompt, and refuses other pages and hosts."""

import http.client
import json
import shutil
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from test_cli import call, prepared

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.evaluation import filling, sampling
from lmstages.evaluation.opening import opened
from lmstages.models import storage as model_storage
from lmstages.playground import server as serving
from lmstages.playground.answers import Playground, Question, encoded
from lmstages.tokenizers import streams

MODELS = ("bigram", "mlp")
BIGRAM = "names/char/bigram/seed0"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A run's folder with two fitted models."""
    folder = tmp_path_factory.mktemp("playground")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run, names = prepared(folder)
        for model in MODELS:
            experiment, tokens = names / "char" / model / "seed0", names / "char/tokens"
            assert call("fit", "--tokens", tokens, "--out", experiment, "--section", run.fit_section(model)) == 0
    return folder / "results"


@contextmanager
def served(results):
    """The port of a playground that runs in a thread."""
    listener = serving.listening(0)
    server = serving.server(Playground(results))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def port(results):
    with served(results) as port:
        yield port


def send(port, method, path, content=None, **headers):
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, content, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    status, text = response.status, response.read().decode()
    connection.close()
    return status, response.headers, text


def ask(port, model=BIGRAM, **settings):
    """Status and JSON of a model's answer."""
    content = json.dumps({"model": model, **settings})
    status, _, text = send(port, "POST", "/ask", content, Content_Type="application/json")
    return status, json.loads(text)


# ---------------------------------------------------------------- answers


def test_the_distribution_is_that_of_the_model(port, results):
    status, answer = ask(port, prompt="ab", length=5)
    model, tokenizer = (
        model_storage.load_model(results / BIGRAM / "model.safetensors"),
        streams.read_tokenizer(results / "names/char/tokens"),
    )
    wanted = np.exp(model.next_log_probs(np.array([tokenizer.encode(["ab"])[0][0]]))[0])
    assert status == 200 and sum(probability for _, probability in answer["next"]) == pytest.approx(1)
    assert answer["next"][0][1] == pytest.approx(wanted.max())
    assert answer["next"][0][0] == tokenizer.decode([int(wanted.argmax())]).replace("\n", "↵")
    assert answer["bits"] == pytest.approx(-(wanted * np.log2(wanted)).sum(), abs=1e-6)


def test_the_continuation_is_that_of_sampling(port, results):
    _, answer = ask(port, prompt="ab", length=30, seed=7, temperature=0.8)
    model, tokenizer = (
        model_storage.load_model(results / BIGRAM / "model.safetensors"),
        streams.read_tokenizer(results / "names/char/tokens"),
    )
    tokens = tokenizer.encode(["ab"])[0][0]
    (wanted,) = sampling.sample(model, 1, 30, 7, tokens, 0.8)
    assert answer["continuation"] == tokenizer.decode(wanted[2:].tolist()) and answer["ended"] == (len(wanted) < 32)


def test_top_k_top_p_and_temperature_narrow(port):
    everything, two = ask(port)[1], ask(port, top_k=2)[1]
    assert len(two["next"]) == two["possible"] == 2 < everything["possible"]
    assert ask(port, top_p=0.01)[1]["possible"] == 1
    assert ask(port, temperature=0.1)[1]["bits"] < everything["bits"] < ask(port, temperature=5.0)[1]["bits"]


def test_another_seed_writes_something_else_and_the_same_one_the_same(port):
    first, again, other = (ask(port, "names/char/mlp/seed0", seed=seed, length=60)[1] for seed in (1, 1, 2))
    assert first == again and first["continuation"] != other["continuation"]


# ---------------------------------------------------------------- gaps


def fill(port, model=BIGRAM, **settings):
    """Status and JSON of a model's fills."""
    content = json.dumps({"model": model, **settings})
    status, _, text = send(port, "POST", "/fill", content, Content_Type="application/json")
    return status, json.loads(text)


@pytest.mark.parametrize("model", [BIGRAM, "names/char/mlp/seed0"])
def test_a_gap_is_filled_as_the_command_fills_it(port, results, model):
    status, answer = fill(port, model, left="ab", right="a", length=1)
    method, wanted = filling.fills(opened(results / model), "ab", "a", 1, 8)
    assert status == 200 and answer["method"] == method and (answer["left"], answer["right"]) == ("ab", "a")
    assert ["".join(text for text, _ in one["pieces"]) for one in answer["fills"]] == [one.text for one in wanted]
    for found, one in zip(answer["fills"], wanted, strict=True):
        assert found["probability"] == pytest.approx(one.probability) and found["of_length"] is None
        assert sum(nats for _, nats in found["pieces"]) == pytest.approx(-np.log(one.probability), abs=1e-6)


def test_a_length_that_is_not_given_is_found_by_an_ngram_model(port):
    status, answer = fill(port, left="ab", right="a")
    assert status == 200 and len({len(one["pieces"]) for one in answer["fills"]}) == 8
    assert all(0 < one["of_length"] <= 1 for one in answer["fills"])


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("names/char/mlp/seed0", {}, "length: needed by this model, which cannot add up all fills of every length"),
        ("names/char/mlp/seed0", {"length": 9}, "length 9: Bayes' rule would score"),
        (BIGRAM, {"length": 17}, "length: 17 found; input should be less than or equal to 16"),
        (BIGRAM, {"right": "日", "length": 1}, "right: character '日' is not in the model's vocabulary; leave it out"),
        ("names/char/gpt/seed0", {}, "names/char/gpt/seed0: no such model here"),
    ],
)
def test_a_gap_that_cannot_be_filled_is_said_so_in_one_line(port, model, settings, message, monkeypatch):
    monkeypatch.setattr("lmstages.models.automata.MOST_HISTORIES", 1)  # so that the MLP has no states
    status, answer = fill(port, model, **{"left": "ab", "right": "a"} | settings)
    assert status == 422 and message in answer["error"] and "\n" not in answer["error"]


def test_another_page_may_not_ask_for_fills(port):
    content = json.dumps({"model": BIGRAM})
    assert send(port, "POST", "/fill", content, Origin="null", Content_Type="application/json")[0] == 403


# ---------------------------------------------------------------- what may be typed


@pytest.mark.parametrize("model", [f"names/char/{model}/seed0" for model in MODELS])
def test_an_empty_prompt_is_the_beginning_of_a_document(port, model):
    status, answer = ask(port, model, prompt="", length=5)
    assert status == 200 and answer["notes"] == [] and answer["next"]


@pytest.mark.parametrize("model", [f"names/char/{model}/seed0" for model in MODELS])
def test_of_a_hundred_kilobytes_the_end_is_read(port, model):
    status, answer = ask(port, model, prompt="f" + "abcde" * 20000)
    assert status == 200 and answer["notes"] == ["Only the last 1,024 tokens of the prompt are read."]
    same = ask(port, model, prompt=("abcde" * 205)[-1024:])[1]
    assert answer["next"] == same["next"] and same["notes"] == []


@pytest.mark.parametrize(
    "prompt", ["é", "日本語 🙂", "\x00\x1b[31m", "\ud800", "\u202e", "<script>alert(1)</script>", "Z" * 5000]
)
def test_unknown_characters_are_noted(port, prompt):
    status, answer = ask(port, prompt=prompt, length=5)
    assert status == 200 and "not in the vocabulary" in answer["notes"][-1]
    assert "\x1b" not in json.dumps(answer, ensure_ascii=False)


def test_a_closed_alphabet_says_which_character_it_lacks():
    from lmstages.tokenizers.symbols import CharTokenizer

    with pytest.raises(UserError, match="character 'z' is not in its alphabet"):
        encoded(CharTokenizer(["\n", "a"], None), "az")


def test_more_than_a_megabyte_is_refused(port):
    status, answer = ask(port, prompt="a" * (1 << 20))
    assert status == 413 and answer["error"] == "the prompt is too long; at most 1,048,576 bytes are taken"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"temperature": 0}, "temperature: 0 found; input should be greater than or equal to 0.05"),
        ({"top_p": 1.5}, "top_p: 1.5 found; input should be less than or equal to 1"),
        ({"top_k": 0}, "top_k: 0 found"),
        ({"length": 10**9}, "length: 1000000000 found"),
        ({"promt": "x"}, "unknown key 'promt' (did you mean 'prompt'?)"),
        ({"prompt": 3}, "prompt: 3 found; input should be a valid string"),
        ({"model": "names/char/bigam/seed0"}, "no such model here (did you mean 'names/char/bigram/seed0'?)"),
        ({"model": "../../../etc/passwd"}, "no such model here"),
    ],
)
def test_a_question_that_cannot_be_answered_has_an_error(port, settings, wanted):
    status, answer = ask(port, **settings)
    assert status == 422 and wanted in answer["error"]


def test_what_is_no_json_has_an_error(port):
    for content in ("{", "[" * 100000, b"\xff"):
        status, _, text = send(port, "POST", "/ask", content, Content_Type="application/json")
        assert status == 400 and json.loads(text)["error"].startswith("a question is JSON")


# ---------------------------------------------------------------- broken models


def test_a_broken_model_is_a_message_and_the_others_go_on(results, tmp_path):
    broken = shutil.copytree(results, tmp_path / "broken")
    path = broken / BIGRAM / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    with served(broken) as port:
        status, answer = ask(port)
        assert (
            status == 422
            and "its sha256 is" in answer["error"]
            and "delete it and run snakemake again" in answer["error"]
        )
        assert ask(port, "names/char/mlp/seed0")[0] == 200


def test_a_model_that_fails_is_a_message(results, tmp_path):
    strange = shutil.copytree(results, tmp_path / "strange")
    path = strange / BIGRAM / "model.safetensors"
    arrays, metadata = artifacts.load_arrays(path)
    artifacts.save_arrays(path, {"unknown": arrays.popitem()[1]}, metadata, {})
    with served(strange) as port:
        status, answer = ask(port)
        assert status in (422, 500) and answer["error"]


def test_an_experiment_with_a_damaged_fit_json_is_left_out(results, tmp_path):
    damaged = shutil.copytree(results, tmp_path / "damaged")
    (damaged / BIGRAM / "fit.json").write_text("{}")
    assert list(Playground(damaged).experiments) == ["names/char/mlp/seed0"]


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.168.0.1", "127.0.0.1.evil.example", ""])
def test_other_hosts_are_refused(port, host):
    assert send(port, "GET", "/", Host=host)[0] == 400
    content = json.dumps({"model": BIGRAM})
    assert send(port, "POST", "/ask", content, Host=host, Content_Type="application/json")[0] == 400


def test_this_machine_is_not(port):
    for host in ("127.0.0.1", "localhost"):
        assert send(port, "GET", "/", Host=f"{host}:{port}")[0] == 200


def test_other_pages_may_not_ask(port):
    content = json.dumps({"model": BIGRAM})
    json_type = {"Content_Type": "application/json"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert send(port, "POST", "/ask", content, Origin=origin, **json_type)[0] == 403
    assert send(port, "POST", "/ask", content, Content_Type="text/plain")[0] == 415
    assert send(port, "POST", "/ask", content, Origin=f"http://127.0.0.1:{port}", **json_type)[0] == 200


def test_it_listens_on_the_loopback_alone():
    listener = serving.listening(0)
    assert listener.getsockname()[0] == "127.0.0.1"
    listener.close()


def test_the_page_admits_its_own_style_and_script_and_no_address(port):
    status, headers, page = send(port, "GET", "/")
    policy = headers["Content-Security-Policy"]
    assert status == 200 and "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "http://" not in page and "https://" not in page
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"


def test_names_are_escaped(results, tmp_path):
    hostile = shutil.copytree(results, tmp_path / "<b>x")
    page, _ = serving._page(Playground(hostile))
    assert "<b>x" not in page and "&lt;b&gt;x" in page


# ---------------------------------------------------------------- the command


def test_a_missing_folder_is_an_error(results, monkeypatch, capsys):
    monkeypatch.chdir(results.parent)
    assert call("play", "result") == 1
    assert "result: no such folder (did you mean 'results'?)" in capsys.readouterr().err


def test_a_folder_without_models_is_an_error(tmp_path, capsys):
    assert call("play", tmp_path) == 1
    assert "has no fitted model; an experiment is results/RUN/" in capsys.readouterr().err


def test_ctrl_c_ends_it_from_the_moment_its_address_is_shown(results, monkeypatch):
    def show(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "show", show)
    assert call("play", results) == 0


def test_a_port_that_is_taken_is_an_error(results, port, capsys):
    assert call("play", results, "--port", port) == 1
    assert f"--port {port}: cannot be listened on (" in capsys.readouterr().err


def test_a_number_that_is_no_port_is_an_error(results, capsys):
    with pytest.raises(SystemExit):
        call("play", results, "--port", 70000)
    assert "argument --port: '70000' found; a whole number from 0 to 65,535" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_a_missing_library_is_an_error(results, library, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "lmstages.playground.server")
    monkeypatch.setitem(sys.modules, library, None)
    for name in [name for name in sys.modules if name.startswith(f"{library}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert call("play", results) == 1
    assert f"play: needs {library}" in capsys.readouterr().err


def test_by_default_nothing_is_filtered():
    assert Question(model="x").model_dump(exclude={"model"}) == {
        **{"prompt": "", "temperature": 1.0, "top_k": None, "top_p": 1.0, "length": 120, "seed": 0}
    }


# ---------------------------------------------------------------- in a browser


@pytest.mark.slow
def test_a_person_types_and_every_chosen_model_answers(browser, port):
    browser.get(f"http://127.0.0.1:{port}/")
    for prompt in ("ab", "", "a" * 100_000, "Zürich 日本語 <script>alert(1)</script>"):
        cards = typed(browser, prompt)
        assert [len(card["next"]) > 1 for card in cards] == [True, True] and not any(card["error"] for card in cards)
    assert "not in the vocabulary" in cards[0]["notes"]
    assert browser.execute_script("return document.scripts.length") == 1
    assert [entry for entry in browser.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert urls and all(url.startswith((f"http://127.0.0.1:{port}/", "data:", "chrome:")) for url in urls)
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


TYPED = """
const [prompt, done] = arguments, box = document.getElementById('prompt');
box.value = prompt;
box.dispatchEvent(new Event('input', {bubbles: true}));
const cards = () => [...document.querySelectorAll('.card')];
const content = card => ({
  next: [...card.querySelectorAll('.next li')].map(line => line.textContent),
  notes: card.querySelector('.notes').innerText,
  error: card.querySelector('.error').hidden ? '' : card.querySelector('.error').textContent,
});
setTimeout(function look() {
  if (cards().length && !document.querySelector('.card.waits')) done(cards().map(content)); else setTimeout(look, 50);
}, 400);
"""


def typed(browser, prompt):
    """Type a prompt -> the contents of all cards once every model has answered."""
    return browser.execute_async_script(TYPED, prompt)
