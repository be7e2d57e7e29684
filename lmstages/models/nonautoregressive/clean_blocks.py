"""Block decoding from a cache: keys and values of clean tokens are computed once, when all of their block is known.

A clean token attends to clean tokens alone, so that its keys and values depend on nothing that comes later. A pass then
reads one block: its noisy places attend to each other and to the cache (Arriola et al. 2025, section 3.2).

    from left to right   the next token of the last block, the rest of it hidden; past the window the older half of it
                         is dropped and the newer half read again, as scoring under ``stride`` does
    in steps             ``evaluation.parallel`` asks for any hidden places of a block

``B`` rows, ``T`` tokens per row, ``n`` of them in a block, ``V`` vocabulary.
"""

import numpy as np
import torch

from lmstages.core.documents import BOUNDARY, history
from lmstages.models.neural.base import log_softmax
from lmstages.models.nonautoregressive.denoiser import Denoiser, DenoisingBlock, KeysAndValues


class CleanBlocks:
    """B rows of known tokens, whole blocks behind the token before the row, and predictions of the block after them."""

    def __init__(self, network: Denoiser, before: np.ndarray) -> None:
        self.network, self.device, self.length = network, network.hidden.device, 0
        self.layers: list[KeysAndValues | None] = [None] * len(network.blocks)
        self.append(before[:, None])

    def append(self, tokens: np.ndarray) -> None:
        """(B, T) more known tokens: whole blocks, or at first the token before the row."""
        added = tokens.shape[1]
        places = torch.arange(self.length + added, device=self.device)
        mask = places[self.length :, None] >= places
        self._read(tokens, np.zeros(tokens.shape, dtype=bool), mask, is_kept=True)
        self.length += added

    def log_probs(self, tokens: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """(B, n) tokens of the next block and which of them are hidden -> (B, n, V) nats; beyond n all is hidden."""
        count = tokens.shape[1]
        rest = (0, 0), (0, self.network.block - count)
        tokens = np.pad(tokens, rest, constant_values=BOUNDARY)
        x = self._read(tokens, np.pad(hidden, rest, constant_values=True), None, is_kept=False)
        with torch.inference_mode():
            return log_softmax(self.network.logits(x[:, :count])).cpu().double().numpy()

    @torch.inference_mode()
    def _read(self, tokens: np.ndarray, hidden: np.ndarray, mask: torch.Tensor | None, is_kept: bool) -> torch.Tensor:
        """(B, T), (B, T), (T, length + T) -> (B, T, D) behind the cache, which they join if they are kept."""
        network, positions = self.network, torch.arange(self.length, self.length + tokens.shape[1], device=self.device)
        inputs, is_hidden = (torch.from_numpy(part).to(self.device) for part in (tokens, hidden))
        x = network.embed_known(inputs, is_hidden, positions)
        cos_sin = None if network.cos_sin is None else network.cos_sin[:, positions]
        for depth, block in enumerate(network.blocks):
            assert isinstance(block, DenoisingBlock), "as the denoiser makes them"
            x, keys_and_values = block.behind(self.layers[depth], x, cos_sin, mask)
            if is_kept:
                self.layers[depth] = keys_and_values
        return x


class BlockDecodingState:
    """B texts of one length under a block diffusion model, from left to right."""

    def __init__(self, network: Denoiser, prefix: np.ndarray, window: int) -> None:
        self.network, self.window = network, window
        self.row = history(prefix, None, 1)[:, -window:]  # the token before the row, and the row
        self._reread()

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        known = self.row[:, self.blocks.length :]
        block = np.pad(known, ((0, 0), (0, 1)), constant_values=BOUNDARY)
        hidden = np.tile(np.arange(block.shape[1]) == known.shape[1], (len(block), 1))
        return self.blocks.log_probs(block, hidden)[:, -1]

    def append(self, tokens: np.ndarray) -> None:
        """(B,): one more token for every row."""
        self.row = np.column_stack([self.row, tokens])
        if self.row.shape[1] > self.window:
            kept = self.window // 2 // self.network.block * self.network.block
            self.row = self.row[:, -1 - kept :]
            self._reread()
        elif self.row.shape[1] - self.blocks.length == self.network.block:
            self.blocks.append(self.row[:, self.blocks.length :])

    def _reread(self) -> None:
        self.blocks = CleanBlocks(self.network, self.row[:, 0])
        whole = (self.row.shape[1] - 1) // self.network.block * self.network.block
        if whole:
            self.blocks.append(self.row[:, 1 : 1 + whole])
