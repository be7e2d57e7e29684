"""Hostile answers of a server: the exact bytes, or one printable line without secrets; in time, nothing half-written.

Each case is what a server sends, request by request, as bytes on a socket; the last answer is repeated. The client
believes that it asks for ``CONTENT``, whose size and digest it knows.
"""

import gzip
import hashlib
import logging
import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from fuzzing import at_most
from test_download import contents, source

from lmstages.core.artifacts import verified
from lmstages.core.errors import UserError
from lmstages.corpora.download import fetch
from lmstages.corpora.origins import TimeLimits

CONTENT = b"".join(b"line %d\n" % number for number in range(2000))
SIZE = len(CONTENT)
SECRET = "s3cr3t"
DEADLINE = 1.5  # seconds
LIMITS = TimeLimits(connect=1, read=0.3, deadline=DEADLINE, retries=1, backoff=0.01, report=0)
LATEST = 20  # seconds after the deadline, on a busy machine: no bound of speed, but an end
Send = Callable[[socket.socket, bytes, int], None]  # to a connection, upon a request, the how-manieth


# ---------------------------------------------------------------- the server


@dataclass
class Server:
    """Answers request n by the n-th of ``answers``, and closes the connection."""

    answers: list[Send]
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    closing: threading.Event = field(default_factory=threading.Event)
    requests: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        while not self.closing.is_set():
            with suppress(OSError):
                connection, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(LATEST)
            request = b""
            while b"\r\n\r\n" not in request and len(request) < 20_000 and not request.startswith(b"\x16"):
                if not (piece := connection.recv(4096)):
                    return
                request += piece
            number, self.requests = self.requests, self.requests + 1
            self.answers[min(number, len(self.answers) - 1)](connection, request, self.port)


@contextmanager
def serving(*answers: Send) -> Iterator[Server]:
    server = Server(list(answers))
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
            pass  # wakes the listener
        thread.join(5)
        server.listener.close()


# ---------------------------------------------------------------- answers


def raw(content: bytes) -> Send:
    """These bytes, with @PORT@ for the server's own port."""
    return lambda connection, _, port: connection.sendall(content.replace(b"@PORT@", b"%d" % port))


def answer(body: bytes = CONTENT, status: str = "HTTP/1.1 200 OK", *headers: str, length: object = None) -> bytes:
    """An answer with its Content-Length, another, or with ``length=""`` none."""
    lines = [status, *headers]
    if length != "":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\nConnection: close\r\n\r\n" + body


def chunked(*pieces: bytes, ending: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + ending
    return answer(body, "HTTP/1.1 200 OK", "Transfer-Encoding: chunked", length="")


def dripping(content: bytes, at_once: int = 0) -> Send:
    """A part at once, then a byte every 50 ms."""

    def send(connection: socket.socket, _: bytes, __: int) -> None:
        connection.sendall(content[:at_once])
        for position in range(at_once, len(content)):
            time.sleep(0.05)
            connection.sendall(content[position : position + 1])

    return send


def reset(after: bytes = b"") -> Send:
    """Some bytes, then RST."""

    def send(connection: socket.socket, _: bytes, __: int) -> None:
        connection.sendall(after)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return send


def endless(head: bytes, piece: bytes) -> Send:
    def send(connection: socket.socket, _: bytes, __: int) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return send


def silent(connection: socket.socket, _: bytes, __: int) -> None:
    """Nothing, until the client has gone."""
    connection.recv(1)


def in_pieces(size: int) -> Send:
    """Every answer breaks off after so many bytes; the rest is sent upon demand."""

    def send(connection: socket.socket, request: bytes, port: int) -> None:
        start = int(request.partition(b"Range: bytes=")[2].partition(b"-")[0] or b"0")
        ranges = ["Accept-Ranges: bytes", 'ETag: "a"']
        ranges += [f"Content-Range: bytes {start}-{SIZE - 1}/{SIZE}"] if start else []
        status = "HTTP/1.1 206 Partial Content" if start else "HTTP/1.1 200 OK"
        body = CONTENT[start : start + size]
        reset(answer(body, status, *ranges, length=SIZE - start))(connection, request, port)

    return send


CUT = raw(answer(CONTENT[:4000], "HTTP/1.1 200 OK", "Accept-Ranges: bytes", 'ETag: "a"', length=SIZE))
REST = CONTENT[4000:]
GOOD = raw(answer())
OK, PARTIAL = "HTTP/1.1 200 OK", "HTTP/1.1 206 Partial Content"
STATUSES = [
    *("HTTP/1.0 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/9.9 200 OK", "ICY 200 OK", "HTTP/1.1 99999 X"),
    *("HTTP/1.1 -1 no", "HTTP/1.1 abc", "", "\x1b[31m", "HTTP/1.1 404 \x1b]0;owned\x07\x9b2J", "HTTP/1.1 204 None"),
    *("HTTP/1.1 304 Not Modified", "HTTP/1.1 301 Moved", "HTTP/1.1 416 Range", "HTTP/1.1 503 Busy", "HTTP/1.1 999 x"),
    *("HTTP/1.1 401 \u202egnp", "HTTP/1.1 500 " + "x" * 5000, "HTTP/1.1 403 a\tb\x00c", "HTTP/1.1 100 Continue"),
    *("HTTP/1.1 206 Partial Content", "HTTP/1.1 101 Switching Protocols", "HTTP/1.1 407 Proxy", "<html>"),
]
LOCATIONS = [
    *("http://127.0.0.1:@PORT@/again", "file:///etc/passwd", "http://169.254.169.254/latest", "http://[", "//", ""),
    *(f"http://ann:{SECRET}@127.0.0.1:@PORT@/x", "\x00", "ftp://127.0.0.1/x", "data:,x", "javascript:alert(1)"),
    *("http://localhost:99999/", f"/x?token={SECRET}", "/" + "x" * 60_000, "http://a:b:c/", "gopher://x/", "http://"),
    *("http://xn--a/", "http://\u202e/", "https://127.0.0.1:@PORT@/", "\x1b[31m", "?", "#", "http://127.0.0.1:1/"),
]
RETRY_AFTER = [
    "0",
    "-1",
    "1e9",
    "99999999999999999999",
    "abc",
    "nan",
    "\x1b[31m",
    " 0 ",
    "0, 0",
    "0.5",
    "inf",
    "9" * 400,
]
RETRY_AFTER += ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 99 Foo 1970 00:00:00 GMT", "+0"]
LENGTHS = [
    "0",
    "-1",
    "abc",
    "1e99",
    "9" * 30,
    SIZE - 1,
    SIZE + 1,
    f"{SIZE}, {SIZE}",
    f"{SIZE}, 5",
    f"+{SIZE}",
    "0x10",
    " ",
]
BODIES = [b"", CONTENT[:-1], CONTENT + b"\n", b"<!DOCTYPE html><html>Log in</html>", CONTENT[::-1], b"\0" * SIZE]
BOMB = gzip.compress(bytes(200_000_000), 1)
CODED = {
    "gzip": [gzip.compress(CONTENT), CONTENT, gzip.compress(CONTENT)[:-9], BOMB, gzip.compress(b"x") + b"rest"],
    "deflate": [zlib.compress(CONTENT), b"\xff" * 99],
    "br": [CONTENT],
    "zstd": [CONTENT, b"(\xb5/\xfd" + b"\xff" * 50],
    "gzip, gzip, gzip": [gzip.compress(gzip.compress(gzip.compress(CONTENT)))],
    ",".join(["gzip"] * 200): [gzip.compress(CONTENT)],
    "x\x1b[31m": [CONTENT],
}
CHUNKS = [
    *(chunked(CONTENT), chunked(CONTENT[:9000], CONTENT[9000:]), chunked(CONTENT, ending=b""), chunked(CONTENT[:99])),
    chunked(ending=b"zz\r\n"),
    *(
        chunked(CONTENT[:50], ending=ending)
        for ending in (b"-5\r\nabc", b"f" * 40 + b"\r\nx", b"5;" + b"x" * 99_000, b"\r\n")
    ),
    chunked(CONTENT, ending=b"0\r\nTrailer: \x1b[31m\r\n\r\n"),
    answer(CONTENT, OK, "Transfer-Encoding: chunked"),
    answer(CONTENT, OK, "Transfer-Encoding: gzip, chunked", length=""),
]
RESTS = [
    answer(REST, PARTIAL, f"Content-Range: bytes 4000-{SIZE - 1}/{SIZE}"),
    answer(REST, PARTIAL, f"Content-Range: bytes 4001-{SIZE - 1}/{SIZE}"),
    answer(REST, PARTIAL, f"Content-Range: bytes 4000-{SIZE - 1}/{SIZE + 1}"),
    answer(REST, PARTIAL, f"Content-Range: bytes 4000-{SIZE - 1}/*"),
    answer(REST + b"more", PARTIAL, f"Content-Range: bytes 4000-{SIZE - 1}/{SIZE}"),
    answer(REST[::-1], PARTIAL, f"Content-Range: bytes 4000-{SIZE - 1}/{SIZE}"),
    answer(REST, PARTIAL),
    answer(REST, OK, 'ETag: "b"'),
    answer(CONTENT, OK, 'ETag: "b"'),
    answer(b"", "HTTP/1.1 416 Range Not Satisfiable", f"Content-Range: bytes */{SIZE}"),
    answer(REST, PARTIAL, "Content-Range: \x1b[31m", "Content-Type: multipart/byteranges; boundary=x"),
]
HEADERS = [
    *("X: " + "x" * 70_000, "no colon", "X: \x00", ": empty", "X : y", " folded: y", "X: \x1b[31m", "X: \u00e9\u202e"),
    *(
        "Set-Cookie: a=b\x07; Domain=\x1b",
        "Content-Type: text/html; charset=\x1b",
        "ETag: " + "x" * 9000,
        "Link: <http://[>",
    ),
]


def cases() -> Iterator[tuple[str, tuple[Send, ...]]]:
    """A name, and what the server answers to each request."""
    for status in STATUSES:
        yield f"status {status[:30]!r}", (raw(answer(CONTENT, status)),)
    for location in LOCATIONS:
        redirect = answer(b"", "HTTP/1.1 302 Found", f"Location: {location}")
        yield f"location {location[:30]!r}", (raw(redirect), raw(redirect) if "again" in location else GOOD)
    for after in RETRY_AFTER:
        yield f"retry after {after[:30]!r}", (raw(answer(b"", "HTTP/1.1 429 Busy", f"Retry-After: {after}")), GOOD)
    for length in LENGTHS:
        yield f"length {length!r}", (raw(answer(length=length)),)
    yield "no length", (raw(answer(length="")),)
    yield "two lengths", (raw(answer(CONTENT, OK, f"Content-Length: {SIZE - 5}")),)
    for number, body in enumerate(BODIES):
        yield f"body {number}", (raw(answer(body)),)
    for coding, bodies in CODED.items():
        for number, body in enumerate(bodies):
            yield f"{coding[:20]!r} {number}", (raw(answer(body, OK, f"Content-Encoding: {coding}")),)
    for number, chunks in enumerate(CHUNKS):
        yield f"chunks {number}", (raw(chunks),)
    for number, rest in enumerate(RESTS):
        yield f"rest {number}", (CUT, raw(rest), GOOD)
    for header in HEADERS:
        yield f"header {header[:20]!r}", (raw(answer(CONTENT, OK, header)),)
    yield "many headers", (raw(answer(CONTENT, OK, *(f"X-{number}: y" for number in range(3000)))),)
    yield "headers without end", (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),)
    yield "a header without end", (endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 4096),)
    yield "a body without end", (endless(answer(b"", length=""), b"y" * 4096),)
    yield "continue without end", (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),)
    yield "chunks without end", (endless(chunked(ending=b""), b"1\r\ny\r\n"),)
    for at_once in (0, 10, 17, 60, 5000):
        yield f"drip after {at_once}", (dripping(answer(), at_once),)
    yield "drip of a chunk's size", (dripping(chunked(CONTENT), 77),)
    yield "drip of the rest", (CUT, dripping(RESTS[0], 90))
    yield "silent", (silent,)
    yield "silent, then good", (silent, GOOD)
    for after in (b"", b"HTTP", b"HTTP/1.1 200 OK\r\n", answer(CONTENT[:4000], length=SIZE)):
        yield f"reset after {len(after)}", (reset(after),)
    for size in (1, 700, 4000):
        yield f"resets every {size}", (in_pieces(size),)
    for name, bytes_ in (
        ("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x46"),
        ("ssh", b"SSH-2.0-x\r\n"),
        ("noise", b"\xff" * 99),
    ):
        yield name, (raw(bytes_),)


FIXED = dict(cases())
PARTS = [STATUSES, LOCATIONS, RETRY_AFTER, LENGTHS, HEADERS]


def mixed(seed: int) -> tuple[Send, ...]:
    """Three answers with a drawn status, place, delay, length, header, coding and body."""
    draws = random.Random(seed)

    def drawn() -> Send:
        status, location, after, length, header = (draws.choice(part) for part in PARTS)
        coding = draws.choice([*CODED, "identity", "identity", "identity"])
        headers = [f"Location: {location}", f"Retry-After: {after}", header, f"Content-Encoding: {coding}"]
        headers = draws.sample(headers, draws.randrange(len(headers)))
        body = draws.choice([CONTENT, CONTENT, *BODIES, *CODED.get(coding, [])[:3]])
        whole = answer(body, draws.choice([status, OK, OK]), *headers, length=draws.choice([None, None, "", length]))
        kinds = [raw(whole), raw(whole), raw(whole[: draws.randrange(len(whole))]), reset(whole[:9000])]
        return draws.choice([*kinds, raw(draws.choice(CHUNKS)), CUT, raw(draws.choice(RESTS))])

    return tuple(drawn() for _ in range(3))


# ---------------------------------------------------------------- the law


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with an older file, which must survive every failure."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    (tmp_path / "raw").mkdir()
    (tmp_path / "older").mkdir()
    (tmp_path / "older/text.txt").write_bytes(b"older\n")
    fetch(source(b"older\n"), tmp_path / "raw" / "text.txt", str(tmp_path / "older"), {})
    return tmp_path / "raw"


def fetched(folder, caplog, answers: tuple[Send, ...], scheme: str = "http") -> bool:
    """Whether the text arrived; asserts all that the module's first sentence promises."""
    before, began = contents(folder), time.monotonic()
    with serving(*answers) as server, at_most(int(DEADLINE) + LATEST), caplog.at_level(logging.DEBUG, "lmstages"):
        url = f"{scheme}://user:{SECRET}@127.0.0.1:{server.port}/text.txt?token={SECRET}"
        try:
            fetch(source(CONTENT, url), folder / "text.txt", None, {}, limits=LIMITS)
        except UserError as error:
            message = str(error)
            assert message.startswith("text: ") and message.isprintable() and len(message) < 1000, message
            assert contents(folder) == before, "nothing is half-written"
        else:
            message = ""
            assert verified(folder / "text.txt").read_bytes() == CONTENT
            assert sorted(contents(folder)) == ["text.txt", "text.txt.json"]
    lines = [record.getMessage() for record in caplog.records if record.name == "lmstages"]
    assert not any(SECRET in text for text in [message, *lines, str(contents(folder))])
    assert time.monotonic() - began < DEADLINE + LATEST
    return not message


@pytest.mark.parametrize("name", FIXED)
def test_a_hostile_answer_is_the_exact_bytes_or_one_line(folder, caplog, name):
    arrived = fetched(folder, caplog, FIXED[name])
    assert arrived or name not in ARRIVES
    assert not arrived or name not in NEVER


ARRIVES = [
    "no length",
    "'gzip' 0",
    "chunks 0",
    "chunks 1",
    "rest 0",
    "rest 8",
    "silent, then good",
    "resets every 4000",
]
ARRIVES += ["retry after '0'", "location '?'"]
NEVER = [f"body {number}" for number in range(len(BODIES))] + ["a body without end", "silent", "ssh", "'gzip' 3"]


@pytest.mark.parametrize("seed", range(40))
def test_a_mixture_of_hostile_answers_is_the_exact_bytes_or_one_line(folder, caplog, seed):
    fetched(folder, caplog, mixed(seed))


@pytest.mark.parametrize("name", ["body 0", "ssh", "noise", "silent", "reset after 0", "a TLS alert", "status ''"])
def test_https_to_what_speaks_no_tls_is_one_line(folder, caplog, name):
    assert not fetched(folder, caplog, FIXED[name], scheme="https")


def test_a_retry_after_that_cannot_be_read_is_called_so(folder):
    with serving(*FIXED["retry after 'inf'"]) as server, pytest.raises(UserError) as refused:
        fetch(source(CONTENT, f"http://127.0.0.1:{server.port}/x"), folder / "text.txt", None, {}, limits=LIMITS)
    assert ": an answer that cannot be read (Invalid Retry-After header: inf); " in str(refused.value)


def test_there_are_more_than_a_hundred_answers():
    assert len(FIXED) > 100 and len({hashlib.sha256(name.encode()).digest() for name in FIXED}) == len(FIXED)
