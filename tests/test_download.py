"""Downloads from servers that send wrong, slow, endless or no answers: one line of error, and no file."""

import hashlib
import json
import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from server import Handler, HostileServer, hostile_server

from lmstages.config.sources import SHAKESPEARE, SOURCES, TINYSTORIES, Hub, Part, Source, Variant
from lmstages.core.artifacts import made_of, verified
from lmstages.core.errors import UserError
from lmstages.corpora import origins
from lmstages.corpora.download import fetch
from lmstages.corpora.origins import TimeLimits, is_public

CONTENT = b"".join(b"line %d\n" % number for number in range(2000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = f"{len(CONTENT):,}"
LIMITS = TimeLimits(connect=10, read=10, deadline=30, retries=2, backoff=0.01, report=0)
SHORT_DEADLINE = replace(LIMITS, read=1000, deadline=0.5)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
with_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published corpora are not beside the checkout")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with hostile_server(CONTENT) as server:
        yield server


@pytest.fixture(params=["no file before", "an older file before"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path to write to; an older file there must survive every failure."""
    path = tmp_path / "raw" / "text.txt"
    if request.param == "an older file before":
        fetch(source(b"older\n"), path, str(folder_with(tmp_path / "older", {"text.txt": b"older\n"})), {})
    return path


def source(content: bytes, *urls: str, algorithm: str = "sha256") -> Source:
    digest = hashlib.sha256(content) if algorithm == "sha256" else hashlib.sha1(b"blob %d\0" % len(content) + content)
    variant = Variant("original", len(content), digest.hexdigest(), algorithm)  # type: ignore[arg-type]
    part = Part("whole", ("text.txt",), (variant,), urls)
    return Source("text", (part,), "lines", "none", "made for a test")


def folder_with(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(
    source: Source, destination: Path, mirror: str | None = None, limits: TimeLimits = LIMITS, **options: Any
) -> str:
    """The message with which the download fails; the folder's files are unchanged."""
    before = contents(destination.parent)
    with pytest.raises(UserError) as refused:
        fetch(source, destination, mirror, {}, limits=limits, **options)
    assert contents(destination.parent) == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_good_file_arrives_with_its_origin(server: HostileServer, tmp_path: Path) -> None:
    variant = fetch(source(CONTENT, server.url("good")), tmp_path / "text.txt", None, {"by": "test"}, limits=LIMITS)
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT
    assert variant.name == "original"
    made = made_of(tmp_path / "text.txt")["made"]
    assert made["by"] == "test"
    assert made["download"] == {"from": server.url("good"), "variant": "original", "left_out": []}


def test_a_good_file_takes_the_place_of_an_older_one(server: HostileServer, destination: Path) -> None:
    fetch(source(CONTENT, server.url("good")), destination, None, {}, limits=LIMITS)
    assert verified(destination).read_bytes() == CONTENT
    assert len(contents(destination.parent)) == 2


def test_a_git_blob_id_is_accepted_as_a_digest(server: HostileServer, tmp_path: Path) -> None:
    fetch(source(CONTENT, server.url("good"), algorithm="git blob"), tmp_path / "text.txt", None, {}, limits=LIMITS)
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT


def test_a_redirect_is_followed(server: HostileServer, tmp_path: Path) -> None:
    fetch(source(CONTENT, server.url("redirect")), tmp_path / "text.txt", None, {}, limits=LIMITS)
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("behaviour", "problem", "requests"),
    [
        ("truncated", f"ended after 1,000 of {SIZE} bytes", 3),
        ("cut", f"ended after 1,000 of {SIZE} bytes", 3),
        ("empty", f"an empty body, 0 of {SIZE} bytes", 3),
        ("html", "an HTML page instead of text", 1),
        ("missing", "404 Not Found", 1),
        ("broken", "503 Service Unavailable", 3),
        ("endless", f"more than the {SIZE} bytes that are allowed", 1),
        ("circle", "more than 5 redirects", 6),
    ],
)
def test_a_bad_answer_is_reported_and_leaves_no_file(
    server: HostileServer, destination: Path, behaviour: str, problem: str, requests: int
) -> None:
    message = refusal(source(CONTENT, server.url(behaviour)), destination)
    assert message.startswith(f"text: {server.url(behaviour)}: {problem}; ")
    assert f"a file must have {SIZE} bytes with sha256 {SHA256}" in message
    assert message.endswith("put text.txt into a folder and give it as mirror: --config mirror=FOLDER")
    assert server.requests[behaviour] == requests


def test_a_busy_server_is_asked_again_after_the_seconds_it_names(server: HostileServer, tmp_path: Path) -> None:
    start = time.monotonic()
    fetch(source(CONTENT, server.url("busy")), tmp_path / "text.txt", None, {}, limits=LIMITS)
    assert time.monotonic() - start >= 1
    assert server.requests["busy"] == 2


def test_a_busy_server_does_not_outlast_the_deadline(server: HostileServer, destination: Path) -> None:
    message = refusal(source(CONTENT, server.url("busy")), destination, limits=SHORT_DEADLINE)
    assert message.startswith(f"text: {server.url('busy')}: not finished within 0.5 s; ")


@pytest.mark.parametrize("behaviour", ["silent", "stalled"])
def test_a_read_timeout_is_retried(server: HostileServer, destination: Path, behaviour: str) -> None:
    message = refusal(source(CONTENT, server.url(behaviour)), destination, limits=replace(LIMITS, read=0.2))
    assert message.startswith(f"text: {server.url(behaviour)}: nothing arrived for 0.2 s; ")
    assert server.requests[behaviour] == 3


@pytest.mark.parametrize("behaviour", ["silent", "stalled", "drip", "header_drip"])
def test_nothing_outlasts_the_deadline(server: HostileServer, destination: Path, behaviour: str) -> None:
    message = refusal(source(CONTENT, server.url(behaviour)), destination, limits=SHORT_DEADLINE)
    assert message.startswith(f"text: {server.url(behaviour)}: not finished within 0.5 s; ")
    assert server.requests[behaviour] == 1


def test_the_thread_of_an_abandoned_server_ends(server: HostileServer, tmp_path: Path) -> None:
    before = threading.active_count()
    refusal(source(CONTENT, server.url("endless")), tmp_path / "text.txt")
    refusal(source(CONTENT, server.url("drip")), tmp_path / "text.txt", limits=SHORT_DEADLINE)
    end = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_a_flipped_bit_is_reported_and_leaves_no_file(server: HostileServer, destination: Path) -> None:
    message = refusal(source(CONTENT, server.url("flipped")), destination)
    assert f"{server.url('flipped')}: sha256 " in message
    assert f"... where {SHA256[:12]}... was expected" in message
    assert server.requests["flipped"] == 1


def test_the_remedy_in_the_message_works(server: HostileServer, tmp_path: Path) -> None:
    refusal(source(CONTENT, server.url("html")), tmp_path / "text.txt")
    folder = folder_with(tmp_path / "folder", {"text.txt": CONTENT})
    fetch(source(CONTENT, server.url("html")), tmp_path / "text.txt", str(folder), {}, limits=LIMITS)
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT


def test_an_address_that_nobody_serves_is_reported(tmp_path: Path) -> None:
    with hostile_server(CONTENT) as server:
        gone = server.url("good")
    message = refusal(source(CONTENT, gone), tmp_path / "text.txt")
    assert message.startswith(f"text: {gone}: no connection (Connection refused); ")


def test_an_address_of_another_scheme_is_reported(tmp_path: Path) -> None:
    message = refusal(source(CONTENT, "ftp://127.0.0.1/text.txt"), tmp_path / "text.txt")
    assert "ftp://127.0.0.1/text.txt: no valid address (InvalidSchema)" in message


@pytest.mark.parametrize("location", ["http://[", "http://[::1", "http://\x00/", "http://a:b:c/", "gopher://x/"])
def test_a_redirect_to_no_address_is_one_line(
    server: HostileServer, destination: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "serve_nowhere", lambda handler: handler.head(302, Location=location))
    message = refusal(source(CONTENT, server.url("nowhere")), destination)
    assert message.startswith(f"text: {server.url('nowhere')}: no ") and message.isprintable()
    assert "no valid address (" in message or "no connection (" in message


PRIVATE = ["127.0.0.1", "127.8.9.10", "localhost", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.0.1", "192.168.1.1"]
PRIVATE += [
    "100.64.0.1",
    "169.254.169.254",
    "fe80::1",
    "fe80::1%lo",
    "fc00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2130706433",
]
PRIVATE += ["0x7f.1", "0177.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "ff02::1", "255.255.255.255"]


@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_of_private_networks_are_known_in_every_spelling(host: str) -> None:
    assert not is_public(host)


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "no.such.invalid"]
)
def test_other_addresses_are_public(host: str) -> None:
    assert is_public(host)


@pytest.mark.parametrize("behaviour", ["inside", "twice_inside"])
def test_the_public_network_does_not_lead_into_a_private_one(
    server: HostileServer, destination: Path, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origins, "is_public", lambda host: host == "127.0.0.1")
    message = refusal(source(CONTENT, server.url(behaviour)), destination)
    problem = "a redirect to localhost, an address of a private network"
    assert message.startswith(f"text: {server.url(behaviour)}: {problem}; ") and server.requests["good"] == 0


def test_a_private_mirror_may_lead_to_its_neighbour(server: HostileServer, tmp_path: Path) -> None:
    fetch(source(CONTENT, server.url("inside")), tmp_path / "text.txt", None, {}, limits=LIMITS)
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT


def test_a_connection_that_breaks_off_again_and_again_is_continued(server: HostileServer, tmp_path: Path) -> None:
    fetch(source(CONTENT, server.url("resets")), tmp_path / "text.txt", None, {}, limits=replace(LIMITS, retries=0))
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT
    assert server.requests["resets"] == -(-len(CONTENT) // 4000) > LIMITS.retries + 1


def test_a_continued_body_keeps_the_deadline(server: HostileServer, destination: Path) -> None:
    slow = replace(LIMITS, backoff=3, deadline=1)
    message = refusal(source(CONTENT, server.url("resets")), destination, limits=slow)
    assert message.startswith(f"text: {server.url('resets')}: not finished within 1 s; ")


def test_a_continued_body_keeps_the_size_limit(server: HostileServer, destination: Path) -> None:
    message = refusal(source(CONTENT[:6000], server.url("resets")), destination)
    assert message.startswith(f"text: {server.url('resets')}: more than the 6,000 bytes that are allowed; ")


def test_a_server_that_starts_over_is_asked_again_from_the_beginning(server: HostileServer, tmp_path: Path) -> None:
    fetch(source(CONTENT, server.url("forgets")), tmp_path / "text.txt", None, {}, limits=LIMITS)
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT
    assert server.requests["forgets"] == 3


@pytest.mark.parametrize(
    ("behaviour", "problem", "requests"),
    [
        ("elsewhere", f"ended after 4,000 of {SIZE} bytes", 6),
        ("trickle", f"ended after 1,000 of {SIZE} bytes", 6),
        ("changes", f"ended after 1,000 of {SIZE} bytes", 6),
    ],
)
def test_a_rest_that_is_none_is_never_appended(
    server: HostileServer, destination: Path, behaviour: str, problem: str, requests: int
) -> None:
    assert f"{server.url(behaviour)}: {problem}; " in refusal(source(CONTENT, server.url(behaviour)), destination)
    assert server.requests[behaviour] == requests


def test_http_behind_https_is_called_so(server: HostileServer, destination: Path) -> None:
    address = server.url("good").replace("http://", "https://")
    message = refusal(source(CONTENT, address), destination)
    assert message.startswith(f"text: {address}: it answers without encryption (")
    assert "its address begins with http://, not https://; " in message and "certificate" not in message


def test_a_certificate_that_is_not_trusted_is_called_so() -> None:
    cause = ssl.SSLCertVerificationError(1, "failed")
    cause.verify_message = "self-signed certificate"
    assert origins._no_encryption(cause) == "its certificate is not trusted (self-signed certificate)"


def test_a_status_line_is_shown_visibly(server: HostileServer, destination: Path) -> None:
    message = refusal(source(CONTENT, server.url("rude")), destination)
    assert "404 No\\x1b]0;owned\\x07 \\x9b2J" in message and message.isprintable()


def test_the_query_of_an_address_is_not_shown(
    server: HostileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mirror may want a token: it is sent, and appears neither in the log, nor in an error, nor in the record."""
    folder, token = server.url("corpora/?token=secret#secret"), "secret"
    part = replace(source(CONTENT).parts[0], mirror_names=("flaky.txt", "resets.txt"))
    with caplog.at_level(logging.DEBUG):
        fetch(replace(source(CONTENT), parts=(part,)), tmp_path / "text.txt", folder, {}, limits=LIMITS)
        message = refusal(source(CONTENT), tmp_path / "text.txt", folder)
    lines = [record.getMessage() for record in caplog.records if record.name == "lmstages"]
    made = made_of(tmp_path / "text.txt")["made"]["download"]
    assert made["from"] == server.url("corpora/flaky.txt?...") and server.requests["flaky"] == 3
    assert f"text in mirror {server.url('corpora/?...')}: none of these is there" in message
    assert lines and not any(token in text for text in [message, str(made), *lines])


def test_the_query_of_a_mirror_is_sent(server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []
    monkeypatch.setattr(Handler, "do_GET", lambda handler: (paths.append(handler.path), handler.serve_good()))
    fetch(source(CONTENT), tmp_path / "text.txt", server.url("corpora?sig=a%2Fb&x=1"), {}, limits=LIMITS)
    assert paths == ["/corpora/text.txt?sig=a%2Fb&x=1"]


@pytest.mark.parametrize(
    ("url", "logged"),
    [
        ("http://ann:word@host/a?token=b#c", "http://host/a?..."),
        ("https://host:8/a", "https://host:8/a"),
        ("http://ann:word@[", "["),
    ],
)
def test_an_address_is_logged_without_secrets(url: str, logged: str) -> None:
    assert origins.without_secrets(url) == logged


@pytest.mark.parametrize(("behaviour", "requests"), [("flaky", 3), ("once_cut", 2)])
def test_a_transient_failure_is_retried(server: HostileServer, tmp_path: Path, behaviour: str, requests: int) -> None:
    fetch(source(CONTENT, server.url(behaviour)), tmp_path / "text.txt", None, {}, limits=LIMITS)
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT
    assert server.requests[behaviour] == requests


@pytest.mark.parametrize("first", ["missing", "html", "flipped", "broken", "endless"])
def test_the_second_address_is_asked_when_the_first_fails(server: HostileServer, tmp_path: Path, first: str) -> None:
    fetch(source(CONTENT, server.url(first), server.url("good")), tmp_path / "text.txt", None, {}, limits=LIMITS)
    assert verified(tmp_path / "text.txt").read_bytes() == CONTENT
    assert made_of(tmp_path / "text.txt")["made"]["download"]["from"] == server.url("good")


def test_all_addresses_that_failed_are_reported(server: HostileServer, destination: Path) -> None:
    message = refusal(source(CONTENT, server.url("missing"), server.url("html")), destination)
    assert f"{server.url('missing')}: 404 Not Found, then {server.url('html')}: an HTML page" in message


def test_a_user_and_password_are_not_shown(server: HostileServer, tmp_path: Path) -> None:
    address = server.url("missing").replace("http://", "http://ann:secret@")
    message = refusal(source(CONTENT, address), tmp_path / "text.txt")
    assert server.url("missing") in message
    assert "secret" not in message


def test_progress_is_logged(server: HostileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lmstages"):
        fetch(source(CONTENT, server.url("good")), tmp_path / "text.txt", None, {}, limits=LIMITS)
    assert any("MB/s" in line and "s left" in line for line in caplog.messages)


def test_a_full_disk_is_not_taken_for_a_bad_source(tmp_path: Path) -> None:
    folder_with(tmp_path / "folder", {"text.txt": CONTENT})
    script = (
        "import resource, pathlib, test_download as test\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "test.fetch(test.source(test.CONTENT), folder / 'raw' / 'text.txt', str(folder / 'folder'), {})"
    )
    assert "text.txt: no space left to write it" in last_line_of(script, {})
    assert not contents(tmp_path / "raw")


def last_line_of(script: str, environment: dict[str, str]) -> str:
    """What a failing script says last, run in a process of its own."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_a_mirror_folder_replaces_the_network(server: HostileServer, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "folder", {"text.txt": CONTENT})
    fetch(source(CONTENT, server.url("good")), tmp_path / "text.txt", str(folder), {}, limits=LIMITS)
    assert made_of(tmp_path / "text.txt")["made"]["download"]["from"] == "text.txt"
    assert not server.requests


def test_a_mirror_address_replaces_the_network(server: HostileServer, tmp_path: Path) -> None:
    part = replace(source(CONTENT, server.url("flaky")).parts[0], mirror_names=("absent.txt", "good.txt"))
    mirrored = replace(source(CONTENT), parts=(part,))
    fetch(mirrored, tmp_path / "text.txt", server.url("") + "corpora/", {}, limits=LIMITS)
    assert made_of(tmp_path / "text.txt")["made"]["download"]["from"] == server.url("corpora/good.txt")
    assert dict(server.requests) == {"absent": 1, "good": 1}


def test_a_file_that_a_mirror_lacks_is_reported(server: HostileServer, tmp_path: Path, destination: Path) -> None:
    folder = str(folder_with(tmp_path / "folder", {}))
    message = refusal(SHAKESPEARE, destination, folder)
    none = "none of these is there: shakespeare_input.txt, shakespeare_reconstructed.txt"
    assert message.startswith(f"shakespeare in mirror {folder}: {none}; ")
    assert message.endswith(
        "put shakespeare_input.txt or shakespeare_reconstructed.txt there, or leave mirror out to ask the network"
    )
    assert f"none of these is there: {server.url('text.txt')}; " in refusal(
        source(CONTENT), destination, server.url("").rstrip("/")
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (CONTENT[:-1], f"ended after {len(CONTENT) - 1:,} of {SIZE} bytes"),
        (CONTENT + b"\n", f"more than the {SIZE} bytes that are allowed"),
        (b"<html></html>", "an HTML page instead of text"),
        (CONTENT[:-2] + b"!\n", f"... where {SHA256[:12]}... was expected"),
    ],
)
def test_a_wrong_file_of_a_mirror_is_refused(tmp_path: Path, destination: Path, content: bytes, problem: str) -> None:
    folder = folder_with(tmp_path / "folder", {"text.txt": content})
    assert problem in refusal(source(CONTENT), destination, str(folder))


def test_a_damaged_original_of_a_mirror_is_not_passed_over(tmp_path: Path) -> None:
    part = replace(source(CONTENT).parts[0], mirror_names=("first.txt", "second.txt"))
    folder = folder_with(tmp_path / "folder", {"first.txt": b"damaged", "second.txt": CONTENT})
    message = refusal(replace(source(CONTENT), parts=(part,)), tmp_path / "raw" / "text.txt", str(folder))
    assert "first.txt: ended after 7" in message


@pytest.mark.parametrize("mirror", ["", "no/such/folder"])
def test_a_mirror_that_is_no_folder_is_refused(destination: Path, mirror: str) -> None:
    assert refusal(source(CONTENT), destination, mirror).startswith(f"mirror {mirror!r}: no such folder; FOLDER, or")


@pytest.mark.parametrize("mirror", ["ftp://127.0.0.1/", "http://[", "s3://bucket"])
def test_a_mirror_of_another_scheme_is_refused(destination: Path, mirror: str) -> None:
    assert "neither a folder nor an http address" in refusal(source(CONTENT), destination, mirror)


@with_data
@pytest.mark.parametrize(
    ("name", "part", "variant"),
    [
        ("names", "whole", "original"),
        ("tinyshakespeare", "whole", "original"),
        ("shakespeare", "whole", "reconstruction"),
        ("tinystories", "train", "slice"),
        ("tinystories", "validation", "slice"),
    ],
)
def test_the_published_corpora_are_accepted(tmp_path: Path, name: str, part: str, variant: str) -> None:
    accepted = fetch(SOURCES[name], tmp_path / "text.txt", str(DATA), {}, part=part)
    assert accepted.name == variant
    assert verified(tmp_path / "text.txt").stat().st_size == accepted.size


@with_data
def test_the_first_stories_of_a_slice_are_taken_whole(tmp_path: Path) -> None:
    fetch(TINYSTORIES, tmp_path / "text.txt", str(DATA), {}, part="validation", stories=3)
    content = verified(tmp_path / "text.txt").read_bytes()
    assert content.count(b"<|endoftext|>\n") == 3
    assert (DATA / "tinystories_slice_valid.txt").read_bytes().startswith(content)


@with_data
def test_more_stories_than_a_slice_has_are_refused(destination: Path) -> None:
    message = refusal(TINYSTORIES, destination, str(DATA), part="validation", stories=625)
    assert "tinystories_slice_valid.txt: 624 stories; 625 are wanted; ask for fewer stories" in message


def repository(folder: Path, stories: list[str | None], field: str = "text") -> Path:
    """A data set laid out as on the hub."""
    rows = "".join(json.dumps({field: story, "source": "GPT-4"}) + "\n" for story in stories)
    return folder_with(folder, {"train.jsonl": rows.encode(), "validation.jsonl": rows[: rows.find("\n") + 1].encode()})


def stories_of(folder: Path) -> Source:
    """TinyStories, with a local folder in place of the repository."""
    return replace(TINYSTORIES, hub=Hub(str(folder), None, "text", "TinyStories", 10_000))


def test_stories_of_a_data_set_become_documents(tmp_path: Path) -> None:
    hub = stories_of(repository(tmp_path / "hub", ["One.\nTwo.", "", "Ends.\n", "é\u2028x"]))
    variant = fetch(hub, tmp_path / "text.txt", None, {}, part="train")
    stories = ["One.\nTwo.", "", "Ends.\n", "é\u2028x"]
    content = verified(tmp_path / "text.txt").read_bytes()
    assert content == "".join(f"{story}\n<|endoftext|>\n" for story in stories).encode()
    assert (variant.name, variant.size, variant.digest) == (
        "stories",
        len(content),
        hashlib.sha256(content).hexdigest(),
    )


def test_a_split_and_a_number_of_stories_can_be_chosen(tmp_path: Path) -> None:
    hub = stories_of(repository(tmp_path / "hub", ["One.", "Two.", "Three."]))
    fetch(hub, tmp_path / "train.txt", None, {}, part="train", stories=2)
    fetch(hub, tmp_path / "valid.txt", None, {}, part="validation")
    assert verified(tmp_path / "train.txt").read_bytes() == b"One.\n<|endoftext|>\nTwo.\n<|endoftext|>\n"
    assert verified(tmp_path / "valid.txt").read_bytes() == b"One.\n<|endoftext|>\n"


def test_a_story_that_holds_the_separator_is_left_out_and_counted(tmp_path: Path) -> None:
    stories = ["One.", "Two.\n<|endoftext|>\nHalf.", "Says <|endoftext|> aloud."]
    fetch(stories_of(repository(tmp_path / "hub", list(stories))), tmp_path / "text.txt", None, {}, part="train")
    assert verified(tmp_path / "text.txt").read_bytes().count(b"\n<|endoftext|>\n") == 2
    assert made_of(tmp_path / "text.txt")["made"]["download"]["left_out"] == [2]


def test_fewer_stories_than_wanted_are_refused(tmp_path: Path, destination: Path) -> None:
    hub = stories_of(repository(tmp_path / "hub", ["One.", "Two."]))
    assert "(train): ended after 2 of 3 stories" in refusal(hub, destination, part="train", stories=3)


def test_stories_without_end_are_refused(tmp_path: Path, destination: Path) -> None:
    hub = stories_of(repository(tmp_path / "hub", ["x" * 6000, "y" * 6000]))
    assert "more than the 10,000 bytes that are allowed" in refusal(hub, destination, part="train")


def test_a_data_set_without_the_field_is_refused(tmp_path: Path, destination: Path) -> None:
    hub = stories_of(repository(tmp_path / "hub", ["One."], field="story"))
    assert "(train): cannot be read (" in refusal(hub, destination, part="train")


def test_a_copy_of_the_repository_serves_as_mirror(tmp_path: Path) -> None:
    repository(tmp_path / "mirror" / "TinyStories", ["One.", "Two."])
    variant = fetch(TINYSTORIES, tmp_path / "text.txt", str(tmp_path / "mirror"), {}, part="train")
    assert variant.name == "stories"
    assert made_of(tmp_path / "text.txt")["made"]["download"]["from"] == "TinyStories (train)"


def test_a_hub_that_cannot_be_asked_is_one_line(tmp_path: Path) -> None:
    script = (
        "import pathlib, test_download as test\n"
        f"test.fetch(test.TINYSTORIES, pathlib.Path({str(tmp_path / 'text.txt')!r}), None, {{}}, part='train')"
    )
    last = last_line_of(script, {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")})
    assert "UserError: tinystories: roneneldan/TinyStories@f54c09fd" in last
    assert "(train): cannot be read (" in last
    assert last.endswith("into a folder and give it as mirror: --config mirror=FOLDER")
    assert not list(tmp_path.glob("*.txt*"))
