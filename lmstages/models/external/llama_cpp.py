"""A LLaMA through llama.cpp itself, which runs in a process of its own and is fed with tokens.

Its own tokenizer is never asked: it ends the process on characters that the vocabulary lacks. The other side of the
pipe is ``llama_cpp_process``. Knows a GGUF file; never a text.
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
from lmstages.models.external.gguf_file import Stored
from lmstages.models.neural.base import NeuralModel
from lmstages.models.quantized.derived import DerivedModel, as_stored, of_record
from lmstages.models.quantized.model import QuantizedModel
from lmstages.tokenizers.vocabularies import NO_VOCABULARY


class Engine(nn.Module):
    """(B, T) tokens -> (B, T, V) logits, every row by itself; T at most ``window``."""

    def __init__(self, path: Path, vocab_size: int, window: int) -> None:
        super().__init__()
        self.here = nn.Parameter(torch.empty(0), requires_grad=False)  # says where the network is: here
        self.path, self.vocab_size = path, vocab_size
        self.told = tempfile.TemporaryFile()  # noqa: SIM115  # what llama.cpp says lasts as long as its process
        command = [sys.executable, "-m", "lmstages.models.external.llama_cpp_process", str(path), str(window)]
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        self.process = subprocess.Popen(  # noqa: S603  # our own module
            [*command, threads], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.told
        )
        weakref.finalize(self, _end, self.process)
        if (found := int(self._read(1, np.int64)[0])) != vocab_size:
            raise UserError(path, f"llama.cpp finds {found:,} tokens in it, not {vocab_size:,}")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the token after each input."""
        rows = [self._row(row.numpy().astype(np.int32)) for row in tokens]
        return torch.from_numpy(np.stack(rows))

    def _row(self, tokens: np.ndarray) -> np.ndarray:
        pipe = self.process.stdin
        assert pipe is not None, "opened above"
        try:
            pipe.write(np.int64(len(tokens)).tobytes() + tokens.tobytes())
            pipe.flush()
        except BrokenPipeError:
            pass  # reading says why
        return self._read(len(tokens) * self.vocab_size, np.float32).reshape(len(tokens), self.vocab_size)

    def _read(self, count: int, kind: type) -> np.ndarray:
        size = count * np.dtype(kind).itemsize
        assert self.process.stdout is not None, "opened above"
        found = self.process.stdout.read(size)
        if len(found) < size:
            raise UserError(self.path, f"llama.cpp ended with code {self.process.wait()}: {self._last_words()}")
        return np.frombuffer(found, dtype=kind)

    def _last_words(self) -> str:
        self.told.seek(0)
        lines = [line.strip() for line in self.told.read().decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-2:]) or "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class LlamaCppModel(DerivedModel):
    """Fitted is what the model below has fitted; only who computes with it differs."""

    config: LlamaCpp

    def _below(self) -> NeuralModel:
        """The unfitted model that ``of`` names."""
        return QuantizedModel(self.config.weights, self.vocab_size) if self.config.weights else self.bottom()

    def derive(self, base: NeuralModel, train: Documents) -> None:
        """Take over its arrays; a LLaMA is rounded first where ``of`` names a rounded one."""
        wanted = self.config.weights or self.config.bottom
        if base.config == self.config.bottom and self.config.weights:
            rounded = QuantizedModel(self.config.weights, self.vocab_size)
            rounded.derive(base, train)
            base = rounded
        of_record(wanted, base.config, self.config.of)
        self.restore(base.arrays())

    def arrays(self) -> Arrays:
        """Those of the model below."""
        return self.below.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the file and start the engine on it."""
        self.below = self._below()
        self.below.restore(arrays)
        self.folder = tempfile.TemporaryDirectory(prefix="lmstages-")
        path = Path(self.folder.name, "model.gguf")
        self.export(path, NO_VOCABULARY)
        self.network = Engine(path, self.vocab_size, self.config.window)

    def stored(self) -> Mapping[str, Stored]:
        """Those of the model below."""
        return self.below.stored() if isinstance(self.below, DerivedModel) else as_stored(self.below)

    def parameters(self) -> int:
        """Those of the model below."""
        return self.below.parameters()
