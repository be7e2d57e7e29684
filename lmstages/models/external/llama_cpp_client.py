"""The other side of ``llama_cpp_process``: starts it and asks it, so that no crash of llama.cpp ends this process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.core.errors import UserError, shortened
from lmstages.models.external.llama_cpp_process import BEGIN, LOGITS, PIECES, STEP, TOKENIZE, VOCABULARY

LAST_MESSAGES = 1 << 12  # bytes of llama.cpp's messages that are read for an error
NO_MEMORY = "most often because the machine had no memory left; take a smaller file or window, or another machine"


class Client:
    """llama.cpp with a model in a process of its own; no weights with a ``window`` of VOCABULARY or SHAPES.

    Its number of threads is OMP_NUM_THREADS. Every method raises UserError where the process has ended.
    """

    def __init__(self, path: Path, window: int = VOCABULARY) -> None:
        self.path = path
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # llama.cpp's messages; exists as long as its process
        command = [sys.executable, "-m", "lmstages.models.external.llama_cpp_process", str(path), str(window)]
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        self.process = subprocess.Popen(  # noqa: S603  # our own module
            [*command, threads], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log
        )
        weakref.finalize(self, _end, self.process)
        self.facts: dict[str, Any] = json.loads(self._read(self._length(), np.uint8).tobytes())
        self.vocab_size = int(self.facts["vocab_size"])

    def logits(self, tokens: np.ndarray, out: np.ndarray) -> None:
        """(T,) tokens of a row -> (T, V) float32 logits, written to ``out``."""
        self._ask(LOGITS, len(tokens), tokens.astype(np.int32).tobytes())
        self._read_into(out)

    def begin(self, tokens: np.ndarray) -> np.ndarray:
        """(B, T) tokens -> (B, V) logits after the last of each row, whose keys and values are kept."""
        rows, length = tokens.shape
        self._ask(BEGIN, rows, np.int64(length).tobytes() + tokens.astype(np.int32).tobytes())
        return self._read(rows * self.vocab_size, np.float32).reshape(rows, -1)

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """(B,) one more token for every row of ``begin`` -> (B, V) logits after it."""
        self._ask(STEP, len(tokens), tokens.astype(np.int32).tobytes())
        return self._read(len(tokens) * self.vocab_size, np.float32).reshape(len(tokens), -1)

    def tokenize(self, text: str) -> list[int]:
        """llama.cpp's tokens of a text, without begin and end of text; no text becomes a control token."""
        content = text.encode()
        self._ask(TOKENIZE, len(content), content)
        try:
            tokens: list[int] = self._read(self._length(), np.int32).tolist()
        except UserError as error:
            problem = f"its tokenizer fails on the text {shortened(text)} ({str(error).removeprefix(f'{self.path}: ')})"
            raise UserError(self.path, problem, "", "take a text that its vocabulary has characters for") from error
        return tokens

    def pieces(self) -> tuple[list[bytes], np.ndarray]:
        """The bytes of every token, and llama.cpp's attributes of every token (V,)."""
        self._ask(PIECES, 0)
        attributes, lengths = self._read(2 * self.vocab_size, np.int32).reshape(2, -1)
        content, ends = self._read(int(lengths.sum()), np.uint8).tobytes(), np.cumsum(lengths).tolist()
        return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)], attributes

    def _ask(self, request: int, number: int, content: bytes = b"") -> None:
        pipe = self.process.stdin
        assert pipe is not None, "opened above"
        try:
            pipe.write(np.array([request, number], dtype=np.int64).tobytes() + content)
            pipe.flush()
        except BrokenPipeError:
            pass  # reading raises with the reason

    def _length(self) -> int:
        return int(self._read(1, np.int64)[0])

    def _read(self, count: int, dtype: type) -> np.ndarray:
        numbers: np.ndarray = np.empty(count, dtype=dtype)
        self._read_into(numbers)
        return numbers

    def _read_into(self, numbers: np.ndarray) -> None:
        """Fill a contiguous array; raises UserError where the process ends before."""
        pipe: Any = self.process.stdout
        if numbers.size and pipe.readinto(numbers.data.cast("B")) < numbers.nbytes:
            raise UserError(self.path, self._ending())

    def _ending(self) -> str:
        """How the process ended, with its last messages."""
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return f"llama.cpp was killed, {NO_MEMORY}"
        ending = f"crashed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"llama.cpp {ending}: {self._last_messages()}"

    def _last_messages(self) -> str:
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - LAST_MESSAGES))
        lines = [line.strip() for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        reasons = [line for line in lines[:-1] if "error" in line.lower()][-1:] or lines[-2:-1]
        return " | ".join([*reasons, *lines[-1:]]) or "without a message"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
