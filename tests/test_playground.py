"""The playground on a real socket: it answers its own page, survives every prompt, and refuses all others."""

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
from lmstages.evaluation import sampling
from lmstages.models import storage as model_storage
from lmstages.playground import server as serving
from lmstages.playground.answers import Asked, Playground, encoded
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
            cell, tokens = names / "char" / model / "seed0", names / "char/tokens"
            assert call("fit", "--tokens", tokens, "--out", cell, "--section", run.fit_section(model)) == 0
    return folder / "results"


@contextmanager
def served(results):
    """The port of a playground that runs in a thread."""
    opened = serving.listening(0)
    server = serving.server(Playground(results))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield opened.getsockname()[1]
    server.should_exit = True
    thread.join()
    opened.close()


@pytest.fixture(scope="module")
def port(results):
    with served(results) as port:
        yield port


def sent(port, method, path, content=None, **headers):
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, content, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    told = answer.status, answer.headers, answer.read().decode()
    connection.close()
    return told


def asked(port, model=BIGRAM, **settings):
    """Status and content of what a model is asked."""
    content = json.dumps({"model": model, **settings})
    status, _, told = sent(port, "POST", "/ask", content, Content_Type="application/json")
    return status, json.loads(told)


# ---------------------------------------------------------------- what models say


def test_the_distribution_is_that_of_the_model(port, results):
    status, told = asked(port, prompt="ab", length=5)
    model, tokenizer = (
        model_storage.load_model(results / BIGRAM / "model.safetensors"),
        streams.read_tokenizer(results / "names/char/tokens"),
    )
    wanted = np.exp(model.next_log_probs(np.array([tokenizer.encode(["ab"])[0][0]]))[0])
    assert status == 200 and sum(chance for _, chance in told["next"]) == pytest.approx(1)
    assert told["next"][0][1] == pytest.approx(wanted.max())
    assert told["next"][0][0] == tokenizer.decode([int(wanted.argmax())]).replace("\n", "↵")
    assert told["bits"] == pytest.approx(-(wanted * np.log2(wanted)).sum(), abs=1e-6)


def test_the_continuation_is_that_of_sampling(port, results):
    _, told = asked(port, prompt="ab", length=30, seed=7, temperature=0.8)
    model, tokenizer = (
        model_storage.load_model(results / BIGRAM / "model.safetensors"),
        streams.read_tokenizer(results / "names/char/tokens"),
    )
    tokens = tokenizer.encode(["ab"])[0][0]
    (wanted,) = sampling.sample(model, 1, 30, 7, tokens, 0.8)
    assert told["continuation"] == tokenizer.decode(wanted[2:].tolist()) and told["ended"] == (len(wanted) < 32)


def test_top_k_top_p_and_temperature_narrow(port):
    everything, two = asked(port)[1], asked(port, top_k=2)[1]
    assert len(two["next"]) == two["possible"] == 2 < everything["possible"]
    assert asked(port, top_p=0.01)[1]["possible"] == 1
    assert asked(port, temperature=0.1)[1]["bits"] < everything["bits"] < asked(port, temperature=5.0)[1]["bits"]


def test_another_seed_writes_something_else_and_the_same_one_the_same(port):
    first, again, other = (asked(port, "names/char/mlp/seed0", seed=seed, length=60)[1] for seed in (1, 1, 2))
    assert first == again and first["continuation"] != other["continuation"]


# ---------------------------------------------------------------- what may be typed


@pytest.mark.parametrize("model", [f"names/char/{model}/seed0" for model in MODELS])
def test_an_empty_prompt_is_the_beginning_of_a_document(port, model):
    status, told = asked(port, model, prompt="", length=5)
    assert status == 200 and told["notes"] == [] and told["next"]


@pytest.mark.parametrize("model", [f"names/char/{model}/seed0" for model in MODELS])
def test_of_a_hundred_kilobytes_the_end_is_read(port, model):
    status, told = asked(port, model, prompt="f" + "abcde" * 20000)
    assert status == 200 and told["notes"] == ["Only the last 1,024 tokens of the prompt are read."]
    same = asked(port, model, prompt=("abcde" * 205)[-1024:])[1]
    assert told["next"] == same["next"] and same["notes"] == []


@pytest.mark.parametrize(
    "prompt", ["é", "日本語 🙂", "\x00\x1b[31m", "\ud800", "\u202e", "<script>alert(1)</script>", "Z" * 5000]
)
def test_unknown_characters_are_told(port, prompt):
    status, told = asked(port, prompt=prompt, length=5)
    assert status == 200 and "not in the vocabulary" in told["notes"][-1]
    assert "\x1b" not in json.dumps(told, ensure_ascii=False)


def test_a_closed_alphabet_says_which_character_it_lacks():
    from lmstages.tokenizers.symbols import CharTokenizer

    with pytest.raises(UserError, match="character 'z' is not in its alphabet"):
        encoded(CharTokenizer(["\n", "a"], None), "az")


def test_more_than_a_megabyte_is_refused(port):
    status, told = asked(port, prompt="a" * (1 << 20))
    assert status == 413 and told["error"] == "the prompt is too long; at most 1,048,576 bytes are taken"


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
def test_what_cannot_be_asked_is_told(port, settings, wanted):
    status, told = asked(port, **settings)
    assert status == 422 and wanted in told["error"]


def test_what_is_no_json_is_told(port):
    for content in ("{", "[" * 100000, b"\xff"):
        status, _, told = sent(port, "POST", "/ask", content, Content_Type="application/json")
        assert status == 400 and json.loads(told)["error"].startswith("a question is JSON")


# ---------------------------------------------------------------- broken models


def test_a_broken_model_is_a_message_and_the_others_go_on(results, tmp_path):
    broken = shutil.copytree(results, tmp_path / "broken")
    path = broken / BIGRAM / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    with served(broken) as port:
        status, told = asked(port)
        assert (
            status == 422 and "its sha256 is" in told["error"] and "delete it and run snakemake again" in told["error"]
        )
        assert asked(port, "names/char/mlp/seed0")[0] == 200


def test_a_model_that_fails_is_a_message(results, tmp_path):
    strange = shutil.copytree(results, tmp_path / "strange")
    path = strange / BIGRAM / "model.safetensors"
    arrays, metadata = artifacts.load_arrays(path)
    artifacts.save_arrays(path, {"unknown": arrays.popitem()[1]}, metadata, {})
    with served(strange) as port:
        status, told = asked(port)
        assert status in (422, 500) and told["error"]


def test_a_cell_whose_facts_are_damaged_is_left_out(results, tmp_path):
    damaged = shutil.copytree(results, tmp_path / "damaged")
    (damaged / BIGRAM / "fit.json").write_text("{}")
    assert list(Playground(damaged).cells) == ["names/char/mlp/seed0"]


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.168.0.1", "127.0.0.1.evil.example", ""])
def test_other_hosts_are_refused(port, host):
    assert sent(port, "GET", "/", Host=host)[0] == 400
    content = json.dumps({"model": BIGRAM})
    assert sent(port, "POST", "/ask", content, Host=host, Content_Type="application/json")[0] == 400


def test_this_machine_is_not(port):
    for host in ("127.0.0.1", "localhost"):
        assert sent(port, "GET", "/", Host=f"{host}:{port}")[0] == 200


def test_other_pages_may_not_ask(port):
    content = json.dumps({"model": BIGRAM})
    json_type = {"Content_Type": "application/json"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert sent(port, "POST", "/ask", content, Origin=origin, **json_type)[0] == 403
    assert sent(port, "POST", "/ask", content, Content_Type="text/plain")[0] == 415
    assert sent(port, "POST", "/ask", content, Origin=f"http://127.0.0.1:{port}", **json_type)[0] == 200


def test_it_listens_on_the_loopback_alone():
    opened = serving.listening(0)
    assert opened.getsockname()[0] == "127.0.0.1"
    opened.close()


def test_the_page_admits_its_own_style_and_script_and_no_address(port):
    status, headers, page = sent(port, "GET", "/")
    policy = headers["Content-Security-Policy"]
    assert status == 200 and "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "http://" not in page and "https://" not in page
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"


def test_names_are_escaped(results, tmp_path):
    hostile = shutil.copytree(results, tmp_path / "<b>x")
    page, _ = serving._page(Playground(hostile))
    assert "<b>x" not in page and "&lt;b&gt;x" in page


# ---------------------------------------------------------------- the command


def test_a_folder_that_is_not_there_is_told(results, monkeypatch, capsys):
    monkeypatch.chdir(results.parent)
    assert call("play", "result") == 1
    assert "result: no such folder (did you mean 'results'?)" in capsys.readouterr().err


def test_a_folder_without_models_is_told(tmp_path, capsys):
    assert call("play", tmp_path) == 1
    assert "no fitted model lies here; a cell is results/RUN/" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(results, port, capsys):
    assert call("play", results, "--port", port) == 1
    assert f"--port {port}: cannot be listened on (" in capsys.readouterr().err


def test_a_port_that_is_none_is_told(results, capsys):
    assert call("play", results, "--port", 70000) == 1
    assert "--port 70000: cannot be listened on (" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_a_missing_library_is_told(results, library, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "lmstages.playground.server")
    monkeypatch.setitem(sys.modules, library, None)
    for name in [name for name in sys.modules if name.startswith(f"{library}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert call("play", results) == 1
    assert f"play: needs {library}" in capsys.readouterr().err


def test_the_defaults_ask_for_everything():
    assert Asked(model="x").model_dump(exclude={"model"}) == {
        **{"prompt": "", "temperature": 1.0, "top_k": None, "top_p": 1.0, "length": 120, "seed": 0}
    }


# ---------------------------------------------------------------- in a browser


@pytest.mark.slow
def test_a_person_types_and_every_chosen_model_answers(browser, port):
    browser.get(f"http://127.0.0.1:{port}/")
    for prompt in ("ab", "", "a" * 100_000, "Zürich 日本語 <script>alert(1)</script>"):
        told = typed(browser, prompt)
        assert [len(each["next"]) > 1 for each in told] == [True, True] and not any(each["error"] for each in told)
    assert "not in the vocabulary" in told[0]["notes"]
    assert browser.execute_script("return document.scripts.length") == 1
    assert [entry for entry in browser.get_log("browser")] == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in asked if each["method"] == "Network.requestWillBeSent"]
    assert urls and all(url.startswith((f"http://127.0.0.1:{port}/", "data:", "chrome:")) for url in urls)
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


TYPED = """
const [prompt, done] = arguments, box = document.getElementById('prompt');
box.value = prompt;
box.dispatchEvent(new Event('input', {bubbles: true}));
const cards = () => [...document.querySelectorAll('.card')];
const told = card => ({
  next: [...card.querySelectorAll('.next li')].map(line => line.textContent),
  notes: card.querySelector('.notes').innerText,
  error: card.querySelector('.error').hidden ? '' : card.querySelector('.error').textContent,
});
setTimeout(function look() {
  if (cards().length && !document.querySelector('.card.waits')) done(cards().map(told)); else setTimeout(look, 50);
}, 400);
"""


def typed(opened, prompt):
    """Type a prompt -> what each card says once no model is waited for."""
    return opened.execute_async_script(TYPED, prompt)
