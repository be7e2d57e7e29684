"""The process that ``llama_cpp.Engine`` starts: it runs llama.cpp and nothing else.

    stdin     for each row T, int64, and T tokens, int32
    stdout    first V, int64; then for each row (T, V) logits, float32

Keys and values are kept in 32 bits and batches have one size, since both change logits; the number of threads does not.
Weights in 4 bits are not repacked into a second copy. Run as
``python -m lmstages.models.external.llama_cpp_process FILE WINDOW THREADS``.
"""

import os
import sys
from typing import Any, BinaryIO

import numpy as np

MULTIPLE = 256  # llama.cpp rounds its window up to a multiple of it
PHYSICAL_BATCH = 512  # tokens that llama.cpp computes at once (n_ubatch)


def main(path: str, window: int, threads: int) -> None:
    """Read rows and write their logits until stdin closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # messages of llama.cpp must not go to stdout
    import llama_cpp

    llama_cpp.llama_backend_init()
    model = _model(llama_cpp, path)
    context = _context(llama_cpp, model, window, threads)
    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    _answer(answers, np.int64(vocab_size).tobytes())
    batch = llama_cpp.llama_batch_init(window, 0, 1)
    while head := sys.stdin.buffer.read(8):
        length = int(np.frombuffer(head, dtype=np.int64)[0])
        tokens = np.frombuffer(sys.stdin.buffer.read(4 * length), dtype=np.int32)
        _answer(answers, _logits(llama_cpp, context, batch, tokens, vocab_size).tobytes())


def _answer(answers: BinaryIO, content: bytes) -> None:
    answers.write(content)
    answers.flush()


def _model(library: Any, path: str) -> Any:
    settings = library.llama_model_default_params()
    settings.n_gpu_layers, settings.use_extra_bufts = 0, False
    model = library.llama_model_load_from_file(path.encode(), settings)
    if not model:
        sys.exit("llama.cpp cannot load the file")
    return model


def _context(library: Any, model: Any, window: int, threads: int) -> Any:
    settings = library.llama_context_default_params()
    settings.n_ctx = settings.n_batch = -(-window // MULTIPLE) * MULTIPLE
    settings.n_ubatch = min(settings.n_ctx, PHYSICAL_BATCH)
    settings.n_threads = settings.n_threads_batch = threads
    settings.type_k = settings.type_v = library.GGML_TYPE_F32
    settings.flash_attn_type = library.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = library.llama_init_from_model(model, settings)
    if not context:
        sys.exit("llama.cpp cannot make room for the window")
    return context


def _logits(library: Any, context: Any, batch: Any, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """(T,) tokens of a row with empty history -> (T, V) logits."""
    library.llama_memory_clear(library.llama_get_memory(context), True)
    batch.n_tokens = len(tokens)
    for position, token in enumerate(tokens.tolist()):
        batch.token[position], batch.pos[position] = token, position
        batch.n_seq_id[position], batch.seq_id[position][0], batch.logits[position] = 1, 0, 1
    if code := library.llama_decode(context, batch):
        sys.exit(f"llama.cpp cannot read {len(tokens)} tokens (code {code})")
    logits = library.llama_get_logits(context)
    return np.ctypeslib.as_array(logits, (len(tokens), vocab_size)).copy()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
