"""The process that ``llama_cpp_client`` starts: it runs llama.cpp and nothing else.

    first     a text of JSON: facts of the model, after its length in bytes, int64
    request   what is asked and a number n, two int64, and then
        LOGITS    n tokens, int32                    -> (n, V) float32: the logits after each token of one row
        TOKENIZE  n bytes of UTF-8                   -> m, int64, and m tokens, int32
        PIECES    nothing                            -> V attributes and V lengths, int32, and the bytes of all pieces
        BEGIN     T, int64, and (n, T) tokens, int32 -> (n, V) float32: the logits after each of n rows
        STEP      (n,) tokens, int32                 -> (n, V) float32: the same, one token later

Keys and values are kept in 32 bits and batches have one size, since both change logits; the number of threads does not.
Weights in 4 bits are not repacked into a second copy. A text never becomes a control token. With a window of 0 only the
vocabulary is loaded, with -1 also the shapes of all weights, compared with those that llama.cpp wants. Run as
``python -m lmstages.models.external.llama_cpp_process FILE WINDOW THREADS``.
"""

import ctypes
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np

LOGITS, TOKENIZE, PIECES, BEGIN, STEP = range(5)
VOCABULARY, SHAPES = 0, -1  # in place of a window
MULTIPLE = 256  # llama.cpp rounds its window up to a multiple of it
PHYSICAL_BATCH = 512  # tokens that llama.cpp computes at once (n_ubatch)
STACK = 1 << 29  # bytes; the C++ library's regular expressions recurse once for every character of a long word
WITHOUT, PLAIN = False, False  # without begin and end of text; control tokens are not read in a text


def main(path: str, window: int, threads: int) -> None:
    """Answer requests until stdin closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # messages of llama.cpp must not go to stdout
    import llama_cpp

    llama_cpp.llama_backend_init()
    server = Server(llama_cpp, path, window, threads)
    facts = json.dumps(server.facts()).encode()
    _answer(answers, np.int64(len(facts)).tobytes(), facts)
    requests = {LOGITS: server.logits, TOKENIZE: server.tokens, PIECES: server.pieces, BEGIN: server.begin}
    while head := sys.stdin.buffer.read(16):
        request, number = np.frombuffer(head, dtype=np.int64).tolist()
        for part in (requests | {STEP: server.step})[request](number):
            _answer(answers, part)


def _answer(answers: BinaryIO, *parts: Any) -> None:
    for part in parts:
        answers.write(part)
    answers.flush()


class Server:
    """A model that llama.cpp has loaded; each answer is a sequence of buffers."""

    def __init__(self, library: Any, path: str, window: int, threads: int) -> None:
        self.library, self.window, self.threads = library, window, threads
        self.model = _model(library, path, window)
        self.vocabulary = library.llama_model_get_vocab(self.model)
        self.vocab_size = library.llama_vocab_n_tokens(self.vocabulary)
        self.row = Sequences(library, self.model, 1, window, threads) if window > 0 else None
        self.texts: Sequences | None = None  # of the rows that are decoded token by token

    def facts(self) -> dict[str, Any]:
        """What the other side cannot know of the model."""
        library, model, vocabulary = self.library, self.model, self.vocabulary
        return {
            "vocab_size": self.vocab_size,
            "begin": library.llama_vocab_bos(vocabulary),
            "end": library.llama_vocab_eos(vocabulary),
            "has_encoder": bool(library.llama_model_has_encoder(model)),
            "is_diffusion": bool(library.llama_model_is_diffusion(model)),
        }

    def logits(self, count: int) -> Any:
        """Of a row with empty history, batch by batch."""
        tokens = _read_tokens(count)
        assert self.row is not None, "the weights were loaded"
        self.row.clear()
        for start in range(0, count, PHYSICAL_BATCH):
            batch = tokens[start : start + PHYSICAL_BATCH]
            self.row.decode([(int(token), start + n, 0, True) for n, token in enumerate(batch)])
            yield self.row.logits(len(batch), self.vocab_size)

    def tokens(self, count: int) -> Any:
        """Of a text."""
        text = sys.stdin.buffer.read(count)
        room = count + MULTIPLE
        tokens = (ctypes.c_int32 * room)()
        length = self.library.llama_tokenize(self.vocabulary, text, count, tokens, room, WITHOUT, PLAIN)
        if length < 0:
            sys.exit(f"llama.cpp makes {-length} tokens of {count} bytes")
        yield np.int64(length).tobytes()
        yield np.ctypeslib.as_array(tokens)[:length].tobytes()

    def pieces(self, _: int) -> Any:
        """The bytes of every token, control tokens as the vocabulary spells them."""
        pieces = [self._piece(token) for token in range(self.vocab_size)]
        attributes = [self.library.llama_vocab_get_attr(self.vocabulary, token) for token in range(self.vocab_size)]
        yield np.array(attributes, dtype=np.int32).tobytes()
        yield np.array([len(piece) for piece in pieces], dtype=np.int32).tobytes()
        yield b"".join(pieces)

    def _piece(self, token: int, room: int = 64) -> bytes:
        buffer = ctypes.create_string_buffer(room)
        length: int = self.library.llama_token_to_piece(self.vocabulary, token, buffer, room, 0, True)
        return buffer.raw[:length] if length >= 0 else self._piece(token, -length)

    def begin(self, count: int) -> Any:
        """Rows from their first token on; a new number of rows needs new room for keys and values."""
        length = int(np.frombuffer(sys.stdin.buffer.read(8), dtype=np.int64)[0])
        rows = _read_tokens(count * length).reshape(count, length).tolist()
        if self.texts is None or self.texts.count != count:
            self.texts = None  # frees the old room first
            self.texts = Sequences(self.library, self.model, count, self.window, self.threads)
        self.texts.clear()
        self.length = length
        for number, row in enumerate(rows):
            for start in range(0, length, PHYSICAL_BATCH):
                end = min(start + PHYSICAL_BATCH, length)
                self.texts.decode([(row[n], n, number, n == length - 1) for n in range(start, end)])
            yield self.texts.logits(1, self.vocab_size)

    def step(self, count: int) -> Any:
        """One more token for every row."""
        tokens = _read_tokens(count).tolist()
        assert self.texts is not None, "begin comes first"
        self.texts.decode([(token, self.length, number, True) for number, token in enumerate(tokens)])
        self.length += 1
        yield self.texts.logits(count, self.vocab_size)


class Sequences:
    """Room for the keys and values, or the states, of ``count`` texts of at most ``window`` tokens."""

    def __init__(self, library: Any, model: Any, count: int, window: int, threads: int) -> None:
        self.library, self.count = library, count
        settings = library.llama_context_default_params()
        settings.n_ctx = count * -(-window // MULTIPLE) * MULTIPLE
        settings.n_seq_max = count
        settings.n_batch = settings.n_ubatch = min(settings.n_ctx, PHYSICAL_BATCH)
        settings.n_threads = settings.n_threads_batch = threads
        settings.type_k = settings.type_v = library.GGML_TYPE_F32
        settings.flash_attn_type = library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = library.llama_init_from_model(model, settings)
        if not self.context:
            sys.exit("llama.cpp cannot make room for the window")
        self.batch = library.llama_batch_init(PHYSICAL_BATCH, 0, 1)

    def __del__(self) -> None:
        if getattr(self, "context", None):
            self.library.llama_free(self.context)

    def clear(self) -> None:
        """Forget every text."""
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)

    def decode(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """At most ``PHYSICAL_BATCH`` of (token, position, text, whether its logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for index, (token, position, text, wanted) in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, text, wanted
        if code := self.library.llama_decode(self.context, batch):
            sys.exit(f"llama.cpp cannot read {len(tokens)} tokens (code {code})")

    def logits(self, count: int, vocab_size: int) -> Any:
        """(count, V) float32 of the last batch, as llama.cpp holds them."""
        return np.ctypeslib.as_array(self.library.llama_get_logits(self.context), (count, vocab_size)).data


def _read_tokens(count: int) -> np.ndarray:
    return np.frombuffer(sys.stdin.buffer.read(4 * count), dtype=np.int32)


def _model(library: Any, path: str, window: int) -> Any:
    settings = library.llama_model_default_params()
    settings.n_gpu_layers, settings.use_extra_bufts, settings.vocab_only = 0, False, window == VOCABULARY
    if window == SHAPES:
        settings.no_alloc, settings.load_mode = True, library.LLAMA_LOAD_MODE_NONE
    model = library.llama_model_load_from_file(path.encode(), settings)
    if not model:
        sys.exit("llama.cpp cannot load the file")
    return model


if __name__ == "__main__":
    threading.stack_size(STACK)
    ThreadPoolExecutor(1).submit(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).result()
