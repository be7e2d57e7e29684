"""A model of any architecture under our contract, computed by llama.cpp, which keeps keys and values to decode."""

from typing import Any

import numpy as np
import torch

from lmstages.models.base import DecodingState
from lmstages.models.external.elsewhere import Bos, Elsewhere
from lmstages.models.external.gguf_file import OpenFile
from lmstages.models.external.llama_cpp import Engine
from lmstages.models.external.mapped import FittedElsewhere, TheirTokens

DECODING_MEMORY = 1 << 30  # bytes for the keys and values of texts that are decoded side by side
MOST_TEXTS = 64  # below llama.cpp's own limit of sequences


class LlamaCppPretrained(FittedElsewhere):
    """Scores row by row, decodes from the keys and values, or the states, that llama.cpp keeps for every text."""

    def __init__(
        self, config: Elsewhere, vocab_size: int, network: TheirTokens, parameters: int, bos: Bos, text_bytes: int
    ) -> None:
        super().__init__(config, vocab_size, network, parameters, bos)
        self.text_bytes = text_bytes

    def max_parallel_states(self) -> int:
        """As many texts as ``DECODING_MEMORY`` holds keys and values of."""
        return max(1, min(MOST_TEXTS, DECODING_MEMORY // max(self.text_bytes, 1)))

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:
        """(B, T), T may be 0 -> the decoding state after the prefix, of which it reads the last ``window`` tokens."""
        network = self._network
        assert isinstance(network, TheirTokens), "its tokens are numbered as the checkpoint numbers them"
        decoder: Any = LlamaCppDecoder(network, self.config.window)  # has what the state uses of a decoder
        return self.decoding_state_of(decoder, prefix)


class LlamaCppDecoder:
    """One more token per row at a time, tokens and logits in our numbering."""

    def __init__(self, network: TheirTokens, window: int) -> None:
        assert isinstance(network.network, Engine), "llama.cpp computes it"
        self.network, self.window, self.client = network, window, network.network.client

    def prefill(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, V) logits after the last token; what was kept before is forgotten."""
        return self._ours(self.client.begin(self._theirs(tokens)))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B,) one more token per row -> (B, V) logits after it."""
        return self._ours(self.client.step(self._theirs(tokens)))

    def _theirs(self, tokens: torch.Tensor) -> np.ndarray:
        return self.network.inputs[tokens].numpy()

    def _ours(self, logits: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(logits)[..., self.network.theirs]


def text_bytes(file: OpenFile, window: int) -> int:
    """Bytes of the keys and values of ``window`` tokens, 32 bits, all layers; more than a recurrent model needs."""
    width, heads = file.count("embedding_length"), max(1, _largest(file, "attention.head_count", 1))
    shared = _largest(file, "attention.head_count_kv", heads)
    head = file.count("attention.key_length", max(1, width // heads))
    head_of_values = file.count("attention.value_length", head)
    return 4 * window * file.count("block_count") * shared * (head + head_of_values)


def _largest(file: OpenFile, key: str, default: int) -> int:
    """A number of heads, which some architectures give for every layer."""
    value = file.fact(key, default)
    numbers = value if isinstance(value, list) else [value]
    return max([0, *(number for number in numbers if isinstance(number, int))])
