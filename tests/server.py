"""An HTTP server on loopback that lies, stalls and drips, one way for each path.

Every behaviour is a function of the request; the server counts the requests of each path.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

HTML = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n"


class HostileServer(ThreadingHTTPServer):
    """Serves ``content`` at /good and something worse everywhere else."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests, self.closing = content, Counter[str](), Event()

    def url(self, behaviour: str) -> str:
        """The address that serves ``behaviour``."""
        return f"http://127.0.0.1:{self.server_port}/{behaviour}"


@contextmanager
def hostile_server(content: bytes) -> Iterator[HostileServer]:
    """A running server, gone after the block."""
    server = HostileServer(content)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    server: HostileServer

    def do_GET(self) -> None:
        """Count the request and behave as the path says."""
        name = self.path.rpartition("/")[2].partition(".")[0]
        self.server.requests[name] += 1
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up, as it should
            getattr(self, f"serve_{name}", self.serve_missing)()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def head(self, status: int = 200, **headers: object) -> None:
        """Status and headers; the body ends with the connection."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, content: bytes, status: int = 200) -> None:
        """A correct answer."""
        self.head(status, Content_Length=len(content))
        self.wfile.write(content)

    def serve_good(self) -> None:
        """The content."""
        self.body(self.server.content)

    def serve_truncated(self) -> None:
        """Promises all and closes after 1,000 bytes."""
        self.head(Content_Length=len(self.server.content))
        self.wfile.write(self.server.content[:1000])

    def serve_cut(self) -> None:
        """Promises nothing and closes after 1,000 bytes."""
        self.head()
        self.wfile.write(self.server.content[:1000])

    def serve_once_cut(self) -> None:
        """Cut the first time, good then."""
        self.serve_cut() if self.server.requests["once_cut"] == 1 else self.serve_good()

    def serve_html(self) -> None:
        """A login page with status 200."""
        self.body(HTML)

    def serve_flipped(self) -> None:
        """The content with one bit changed."""
        content = bytearray(self.server.content)
        content[len(content) // 2] ^= 1
        self.body(bytes(content))

    def serve_empty(self) -> None:
        """No byte."""
        self.body(b"")

    def serve_missing(self) -> None:
        """A page that says so."""
        self.body(HTML, 404)

    def serve_broken(self) -> None:
        """Always 503."""
        self.body(b"busy", 503)

    def serve_flaky(self) -> None:
        """500 twice, good then."""
        self.body(b"oops", 500) if self.server.requests["flaky"] < 3 else self.serve_good()

    def serve_busy(self) -> None:
        """429 once, with the request to wait a second, good then."""
        if self.server.requests["busy"] > 1:
            return self.serve_good()
        self.head(429, Retry_After=1, Content_Length=0)

    def serve_silent(self) -> None:
        """Accepts, and never says a word."""
        self.server.closing.wait(30)

    def serve_stalled(self) -> None:
        """1,000 bytes, and never another."""
        self.head(Content_Length=len(self.server.content))
        self.wfile.write(self.server.content[:1000])
        self.server.closing.wait(30)

    def serve_drip(self) -> None:
        """The right bytes, one at a time."""
        self.head(Content_Length=len(self.server.content))
        for at in range(len(self.server.content)):
            if self.server.closing.wait(0.05):
                return
            self.wfile.write(self.server.content[at : at + 1])

    def serve_header_drip(self) -> None:
        """Headers without an end, one byte at a time."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.server.closing.wait(0.05):
            self.wfile.write(b"x")

    def serve_endless(self) -> None:
        """Bytes without an end."""
        self.head()
        while not self.server.closing.is_set():
            self.wfile.write(b"x" * 4096)

    def serve_redirect(self) -> None:
        """Leads to the content."""
        self.head(302, Location=self.server.url("good"))

    def serve_circle(self) -> None:
        """Leads to itself."""
        self.head(302, Location=self.server.url("circle"))

    def serve_nowhere(self) -> None:
        """Leads to what is no address."""
        self.head(302, Location="http://[")

    def serve_inside(self) -> None:
        """Leads to this machine by another of its names."""
        self.head(302, Location=f"http://localhost:{self.server.server_port}/good")

    def serve_twice_inside(self) -> None:
        """Leads to /inside."""
        self.head(302, Location="/inside")

    def serve_rude(self) -> None:
        """A status line that gives commands to a terminal."""
        self.send_response(404, "No\x1b]0;owned\x07 \x9b2J")
        self.end_headers()

    def serve_garish(self) -> None:
        """The content, below a status line and headers that give commands to a terminal, a shell and a page."""
        self.send_response(200, "OK\x1b]0;owned\x07 \x9b2J <script>window.pwned=1</script>")
        self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("Content-Type", "text/html; charset=\x1b[31m")
        self.send_header("Content-Disposition", 'attachment; filename="$(touch pwned) ../../pwned"')
        self.send_header("X-<script>window.pwned=2</script>", "\x1b[2J\x08\x7f {{7*7}}")
        self.end_headers()
        self.wfile.write(self.server.content)

    def serve_resets(self, **headers: str) -> None:
        """At most 4,000 bytes a connection, which then breaks off; the rest on demand."""
        content, start = self.server.content, self.start_of_range()
        headers = {"Accept_Ranges": "bytes", "ETag": '"one"'} | headers
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.head(206 if start else 200, Content_Length=len(content) - start, **headers)
        self.wfile.write(content[start : start + 4000])
        self.wfile.flush()
        self.connection.close()

    def start_of_range(self) -> int:
        """Where the demanded bytes begin; the whole where they are of another version."""
        demanded = self.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        return int(demanded) if demanded and self.headers.get("If-Range") in (None, '"one"') else 0

    def serve_forgets(self) -> None:
        """Breaks off, says that it continues, and sends the whole again: cut the first time, good then."""
        if self.server.requests["forgets"] == 1:
            return self.serve_resets()
        self.serve_good()

    def serve_elsewhere(self) -> None:
        """Breaks off and then continues from another byte."""
        if "Range" not in self.headers:
            return self.serve_resets()
        self.head(206, Content_Length=5, Content_Range=f"bytes 7-11/{len(self.server.content)}")
        self.wfile.write(b"wrong")

    def serve_changes(self) -> None:
        """Another version after each answer, which is never the rest of the one before."""
        self.head(200, Accept_Ranges="bytes", ETag=f'"{self.server.requests["changes"]}"', Content_Length=20000)
        self.wfile.write(b"x" * 1000)

    def serve_trickle(self) -> None:
        """Says that it continues, and never sends another byte."""
        start = self.start_of_range()
        total = len(self.server.content)
        ranges = {"Content_Range": f"bytes {start}-{total - 1}/{total}"} if start else {}
        self.head(206 if start else 200, Accept_Ranges="bytes", Content_Length=total - start, **ranges)
        self.wfile.write(b"" if start else self.server.content[:1000])
