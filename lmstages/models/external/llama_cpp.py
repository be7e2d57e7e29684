"""A LLaMA whose logits llama.cpp computes, in a process of its own that receives tokens.

llama.cpp's tokenizer is not used: it ends the process on characters that the vocabulary lacks. ``llama_cpp_process`` is
the code of that process. Knows a GGUF file; no text.
"""

import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lmstages.config.hyperparameters.quantized import LlamaCpp
from lmstages.core.documents import Arrays, Documents
from lmstages.core.errors import UserError
from lmstages.models.external.gguf_file import write_model
from lmstages.models.neural.base import NeuralModel
from lmstages.models.quantized.blocks import PackedTensor
from lmstages.models.quantized.derived import DerivedModel, check_base, float32_tensors
from lmstages.models.quantized.model import QuantizedModel
from lmstages.tokenizers.vocabularies import NO_VOCABULARY


class Engine(nn.Module):
    """(B, T) tokens -> (B, T, V) logits, rows computed one after the other; T is at most ``window``."""

    def __init__(self, path: Path, vocab_size: int, window: int) -> None:
        super().__init__()
        self.on_cpu = nn.Parameter(torch.empty(0), requires_grad=False)  # its device is taken for the network's
        self.path, self.vocab_size = path, vocab_size
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # llama.cpp's messages; exists as long as its process
        command = [sys.executable, "-m", "lmstages.models.external.llama_cpp_process", str(path), str(window)]
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        self.process = subprocess.Popen(  # noqa: S603  # our own module
            [*command, threads], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log
        )
        weakref.finalize(self, _end, self.process)
        if (tokens := int(self._read(1, np.int64)[0])) != vocab_size:
            raise UserError(path, f"llama.cpp counts {tokens:,} tokens in it, not {vocab_size:,}")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V) logits of the token after each input."""
        rows = [self._row(row.numpy().astype(np.int32)) for row in tokens]
        return torch.from_numpy(np.stack(rows))

    def _row(self, tokens: np.ndarray) -> np.ndarray:
        pipe = self.process.stdin
        assert pipe is not None, "opened above"
        try:
            pipe.write(np.int64(len(tokens)).tobytes() + tokens.tobytes())
            pipe.flush()
        except BrokenPipeError:
            pass  # _read raises with the reason
        return self._read(len(tokens) * self.vocab_size, np.float32).reshape(len(tokens), self.vocab_size)

    def _read(self, count: int, dtype: type) -> np.ndarray:
        size = count * np.dtype(dtype).itemsize
        assert self.process.stdout is not None, "opened above"
        content = self.process.stdout.read(size)
        if len(content) < size:
            raise UserError(self.path, f"llama.cpp ended with code {self.process.wait()}: {self._last_messages()}")
        return np.frombuffer(content, dtype=dtype)

    def _last_messages(self) -> str:
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-2:]) or "without a message"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class LlamaCppModel(DerivedModel):
    """The arrays of the model that it is derived from; only the engine that computes with them differs."""

    config: LlamaCpp

    def _below(self) -> NeuralModel:
        """The model that ``config.of`` names, unfitted."""
        return QuantizedModel(self.config.weights, self.vocab_size) if self.config.weights else self.bottom()

    def derive(self, base: NeuralModel, train: Documents) -> None:
        """Take over the arrays of ``base``; a LLaMA is quantized first where ``config.of`` names a quantized model."""
        expected = self.config.weights or self.config.bottom
        if base.config == self.config.bottom and self.config.weights:
            quantized = QuantizedModel(self.config.weights, self.vocab_size)
            quantized.derive(base, train)
            base = quantized
        check_base(expected, base.config, self.config.of)
        self.restore(base.arrays())

    def arrays(self) -> Arrays:
        """Those of the model below."""
        return self.below.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the model to a temporary GGUF file and start llama.cpp with it."""
        self.below = self._below()
        self.below.restore(arrays)
        self.folder = tempfile.TemporaryDirectory(prefix="lmstages-")
        path = Path(self.folder.name, "model.gguf")
        write_model(path, self, NO_VOCABULARY)
        self.network = Engine(path, self.vocab_size, self.config.window)

    def packed_tensors(self) -> Mapping[str, PackedTensor]:
        """Those of the model below."""
        return self.below.packed_tensors() if isinstance(self.below, DerivedModel) else float32_tensors(self.below)

    def parameters(self) -> int:
        """Those of the model below."""
        return self.below.parameters()
