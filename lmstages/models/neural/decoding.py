"""Incremental decoding of the attention networks: one token per row at a time, from a cache of keys and values.

    cache      keys and values of a token do not depend on later tokens, so they are computed once  (Shazeer 2019)
    prefill    whole prefixes go through the network at once and fill the cache
    step       one more token per row: its query attends to all cached keys
    rolling    where the window is full, the older half is dropped and the newer half prefilled again

Up to the window every prediction equals that of ``next_log_probs``. Beyond it, it equals that of scoring under the
protocol ``stride`` with half a window: a token is predicted from at least half a window of tokens.

A decoder runs a network by its modules and weights and leaves the network as it is. At one token per row most time
goes to Python and not to arithmetic; so GPT's decoder binds every weight once, before the first step, and calls no
module. Hooks that a module has got run where its network is called, and in the decoders that call modules.

Shapes: ``B`` rows, ``T`` tokens per row, ``V`` vocabulary, ``D`` width, ``H`` heads, ``W`` numbers per head.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import GPT, Llama, ModernGPT
from lmstages.core.documents import BOUNDARY, history
from lmstages.models.neural.attention import attend, merge_heads
from lmstages.models.neural.base import NeuralModel, log_softmax, target_log_probs

BAND = 1 << 10  # tokens prefilled together; activations of more do not fit a processor's caches

OneToken = Callable[[torch.Tensor], torch.Tensor]  # (B, D) -> (B, E), one token per row
Addition = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # residual stream (B, D), hidden (B, E) -> (B, D)


class AttentionModel(NeuralModel):
    """A model that attends to at most ``window`` tokens, and is decoded by its ``decoder``."""

    config: GPT | Llama | ModernGPT
    decoder: type["Decoder"]

    def decoding_state(self, prefix: np.ndarray) -> "CachedDecodingState":
        """(B, T), T may be 0 -> the decoding state after the prefix, of which it reads the last ``window`` tokens."""
        tokens = history(np.asarray(prefix, dtype=np.int64), None, 1)[:, -self.config.window :]
        return CachedDecodingState(self.decoder(self._network, len(tokens), self.config.window), tokens)

    def score_continuations(self, prefix: np.ndarray, tails: np.ndarray) -> np.ndarray:
        """(P,), (B, T), P + T at most the window + 1 -> (B, T) nats; the network reads the prefix once for all rows."""
        with torch.inference_mode():
            decoder = self.decoder(self._network, 1, self.config.window)
            first = log_softmax(decoder.prefill(self._on_device(prefix[None])))[0]  # (V,)
            decoder.share_prefix()
            bands = self._bands(*tails.shape)
            return np.concatenate([self._score_tails(decoder, first, tails[top:end]) for top, end in bands])

    def _score_tails(self, decoder: "Decoder", first: torch.Tensor, tails: np.ndarray) -> np.ndarray:
        tokens = self._on_device(tails)
        log_probs = first.to(tokens.device)[tokens[:, :1]]
        if tokens.shape[1] > 1:
            later = target_log_probs(decoder.logits(tokens[:, :-1]), tokens[:, 1:])
            log_probs = torch.cat([log_probs, later], 1)
        return log_probs.cpu().double().numpy()


class CachedDecodingState:
    """B texts of one length under a decoder; rolls past the window by halves."""

    def __init__(self, decoder: "Decoder", tokens: np.ndarray) -> None:
        self.decoder, self.length = decoder, tokens.shape[1]
        self.tokens = np.empty((len(tokens), decoder.window), dtype=np.int64)  # filled up to ``length``
        self.tokens[:, : self.length] = tokens
        self.device = next(decoder.network.parameters()).device
        self._prefill()

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        return log_softmax(self.logits).cpu().double().numpy()

    def append(self, tokens: np.ndarray) -> None:
        """(B,): one more token for every row."""
        full = self.length == self.tokens.shape[1]
        if full:
            self._drop_older_half()
        self.tokens[:, self.length] = tokens
        self.length += 1
        if full:
            self._prefill()
            return
        with torch.inference_mode():
            self.logits = self.decoder.step(torch.from_numpy(np.asarray(tokens, np.int64)).to(self.device))

    def _drop_older_half(self) -> None:
        window = self.tokens.shape[1]
        self.length = window // 2
        self.tokens[:, : self.length] = self.tokens[:, window - self.length :].copy()

    def _prefill(self) -> None:
        """Recompute the cache from the tokens of the window."""
        with torch.inference_mode():
            tokens = torch.from_numpy(self.tokens[:, : self.length].copy()).to(self.device)
            self.logits = self.decoder.prefill(tokens)


class LayerCache:
    """Keys and values of one layer, (window, B, 2, H, W), filled up to ``length``."""

    def __init__(self, rows: int, window: int) -> None:
        self.rows, self.window, self.length = rows, window, 0
        self.band = slice(0, rows)  # the rows that are appended to
        self.stored = torch.empty(0)

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, H, T, W) each, for the rows of the band -> all keys and values of these rows, (B, H, length, W)."""
        _, heads, added, width = keys.shape
        assert added == 1 or not self.length, "many tokens at once come first, for their mask counts from position 0"
        stored = self.allocated(keys, heads, width)[:, self.band]
        begin, self.length = self.length, self.length + added
        stored[begin : self.length, :, 0] = keys.permute(2, 0, 1, 3)
        stored[begin : self.length, :, 1] = values.permute(2, 0, 1, 3)
        keys, values = stored[: self.length].permute(2, 1, 3, 0, 4)
        return keys, values

    def allocated(self, like: torch.Tensor, heads: int, width: int) -> torch.Tensor:
        """``stored``, allocated at first use with the type and device of ``like``."""
        if not self.stored.numel():
            self.stored = like.new_empty(self.window, self.rows, 2, heads, width)
        return self.stored


class PrefixCache:
    """Keys and values of one text, behind which many rows are read, each in one piece; none of them is kept."""

    def __init__(self, cache: LayerCache) -> None:
        self.length = cache.length
        self.keys, self.values = cache.stored[: cache.length].permute(2, 1, 3, 0, 4)  # (1, H, length, W) each

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, H, T, W) each -> those of the text and of the rows, (B, H, length + T, W)."""
        prefix = (known.expand(len(keys), -1, -1, -1) for known in (self.keys, self.values))
        return torch.cat([next(prefix), keys], dim=2), torch.cat([next(prefix), values], dim=2)


class Decoder:
    """A network with one cache per layer; a subclass writes how its network reads tokens behind the cached ones."""

    network: Any  # a Transformer or Network; their modules import this one

    def __init__(self, network: nn.Module, rows: int, window: int) -> None:
        self.network, self.window = network, window
        self.caches: list[Any] = [LayerCache(rows, window) for _ in self.network.blocks]

    @property
    def length(self) -> int:
        """Tokens per row in the cache."""
        return self.caches[0].length

    def prefill(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, V) logits after the last token, the cache emptied before; rows are read band by band."""
        step, logits = max(1, BAND // tokens.shape[1]), []
        for top in range(0, len(tokens), step):
            self._select(slice(top, top + step), length=0)
            logits.append(self.read(tokens[top : top + step]))
        self._select(slice(0, len(tokens)), self.length)
        return torch.cat(logits)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B,) one more token per row -> (B, V) logits after it."""
        return self.read(tokens[:, None])

    def share_prefix(self) -> None:
        """What was prefilled is one text, behind which ``logits`` reads any number of rows."""
        self.caches = [PrefixCache(cache) for cache in self.caches]

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) tokens behind the cached ones, for the rows of the band -> (B, V) logits after the last."""
        return self.logits(tokens)[:, -1]

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) tokens behind the cached ones -> (B, T, V) logits after each."""
        raise NotImplementedError

    def _select(self, band: slice, length: int) -> None:
        """Rows of the cache that are read next, and their tokens so far."""
        for cache in self.caches:
            cache.band, cache.length = band, length

    def _positions(self, tokens: torch.Tensor) -> slice:
        """The positions of (B, T) tokens behind the cached ones."""
        return slice(self.length, self.length + tokens.shape[1])


class LlamaDecoder(Decoder):
    """Decodes a ``llama.Network`` by its modules, which may carry hooks or read their matrix from a file."""

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V)."""
        cos_sin, x = self.network.cos_sin[:, self._positions(tokens)], self.network.embedding(tokens)
        for block, cache in zip(self.network.blocks, self.caches, strict=True):
            queries, keys, values = block.attention.project(block.attention_norm(x), cos_sin)
            mixed = attend(queries, *cache.append(keys, values))  # (B, H, T, W)
            x = x + block.attention.output(merge_heads(mixed))
            x = x + block.feedforward(block.feedforward_norm(x))
        return self.network.logits(x)


class ModernDecoder(Decoder):
    """Decodes a ``modern_gpt.Network``; keeps the newest tokens where n-gram embeddings need them."""

    before: torch.Tensor | None = None  # (B, n) tokens in front of the next one

    def prefill(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, V)."""
        self.before = None
        logits = super().prefill(tokens)
        if self.network.ngrams is not None:
            context = self.network.ngrams.context
            self.before = functional.pad(tokens, (context, 0), value=BOUNDARY)[:, -context:]
        return logits

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B,) -> (B, V)."""
        logits = super().step(tokens)
        if self.before is not None:
            self.before = torch.cat([self.before[:, 1:], tokens[:, None]], dim=1)
        return logits

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V)."""
        positions = self._positions(tokens)
        before = None if self.before is None else self.before.expand(len(tokens), -1)
        x, cos_sin = self.network.embed(tokens, positions, before), self.network.rotary(positions)
        for block, cache in zip(self.network.blocks, self.caches, strict=True):
            value = None if block.values is None else block.values(tokens)
            queries, keys, values = block.attention.project(block.attention_norm(x), cos_sin, value)
            mixed = attend(queries, *cache.append(keys, values))  # (B, H, T, W)
            x = x + block.attention.output(merge_heads(mixed))
            x = x + block.feedforward(block.feedforward_norm(x))
        return self.network.logits(x)


class GPTDecoder(Decoder):
    """Decodes a ``gpt.Transformer``: prefills by its modules, steps by its weights as they are at the first step."""

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) from position 0 -> (B, V); the last block computes the last position alone."""
        return self.network.logits(self._states(tokens, slice(-1, None))[:, -1])

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V)."""
        return self.network.logits(self._states(tokens, slice(None)))

    def _states(self, tokens: torch.Tensor, wanted: slice) -> torch.Tensor:
        """(B, T) -> (B, T or fewer, D): what the last block makes of the wanted positions."""
        x, final = self.network.embed(tokens, self.length), len(self.network.blocks) - 1
        for depth, (block, cache) in enumerate(zip(self.network.blocks, self.caches, strict=True)):
            queries, keys, values = block.attention.project(block.attention_norm(x))
            keys, values = cache.append(keys, values)
            if depth == final:
                queries, x = queries[:, :, wanted], x[:, wanted]
            mixed = attend(queries, keys, values)  # (B, H, T, W)
            x = block.transform(block.add(x, block.attention.output(merge_heads(mixed))))
        return x

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B,) -> (B, V)."""
        return self._step(tokens)

    @cached_property
    def _step(self) -> OneToken:
        """(B,) tokens -> (B, V) logits."""
        network, caches = self.network, self.caches
        blocks = [block_step(block, cache) for block, cache in zip(network.blocks, caches, strict=True)]
        embedding, positions, norm = network.embedding.weight, network.positions.unbind(), module_step(network.norm)
        output = matrix_step(embedding, None) if network.output is None else module_step(network.output)

        def step(tokens: torch.Tensor) -> torch.Tensor:
            x = embedding.index_select(0, tokens) + positions[caches[0].length]
            for block in blocks:
                x = block(x)
            return output(norm(x))

        return step


# GPT's parts for one token per row, their weights bound


def block_step(block: Any, cache: LayerCache) -> OneToken:
    """A ``gpt.Block``, (B, D) -> (B, D)."""
    norm, attention = module_step(block.attention_norm), attention_step(block.attention, cache)
    add = addition_step(block.attention.output, block.residual)
    if block.feedforward is None:
        return lambda x: add(x, attention(norm(x)))
    feedforward_norm, (first, activation, *rest) = module_step(block.feedforward_norm), block.feedforward
    hidden, activate = module_step(first), module_step(activation)
    add_feedforward = addition_step(rest[0] if rest else nn.Identity(), block.residual)

    def step(x: torch.Tensor) -> torch.Tensor:
        x = add(x, attention(norm(x)))
        return add_feedforward(x, activate(hidden(feedforward_norm(x))))

    return step


def attention_step(attention: Any, cache: LayerCache) -> OneToken:
    """A ``gpt.Attention`` without its output matrix, (B, D) -> (B, D)."""
    project, heads = attention.queries_keys_values, attention.heads
    width, head_width = project.in_features, project.in_features // heads
    packed = project.weight.new_empty(cache.rows, 3 * width)  # query, key and value of the current token
    project_into_packed = matrix_step(project.weight, project.bias, packed)
    parts = packed.view(-1, 3, heads, head_width)
    query, key_value = parts[:, 0].unsqueeze(2), parts[:, 1:]  # (B, H, 1, W), (B, 2, H, W)
    stored = cache.allocated(packed, heads, head_width)
    keys, values = stored.permute(2, 1, 3, 0, 4)  # (B, H, window, W) each

    def step(x: torch.Tensor) -> torch.Tensor:
        project_into_packed(x)
        stored[cache.length].copy_(key_value)
        cache.length += 1
        seen = keys.narrow(2, 0, cache.length), values.narrow(2, 0, cache.length)
        return functional.scaled_dot_product_attention(query, *seen).view(-1, width)

    return step


def addition_step(module: nn.Module, residual: bool) -> Addition:
    """The residual stream plus the module's output, or without ``residual`` that output alone."""
    if residual and isinstance(module, nn.Linear) and module.bias is None:
        matrix = module.weight.T.contiguous()
        return lambda x, hidden: torch.addmm(x, hidden, matrix)
    run = module_step(module)
    return (lambda x, hidden: x + run(hidden)) if residual else (lambda x, hidden: run(hidden))


def module_step(module: nn.Module) -> OneToken:
    """A module with its weights bound; torch would look each up by name at every call."""
    if isinstance(module, nn.Linear):
        return matrix_step(module.weight, module.bias)
    if isinstance(module, nn.LayerNorm):
        shape, scale, shift, epsilon = module.normalized_shape, module.weight, module.bias, module.eps
        return lambda x: torch.layer_norm(x, shape, scale, shift, epsilon)
    return module.forward


def matrix_step(weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor | None = None) -> OneToken:
    """x W' + b, into ``out`` if given; W is transposed once, which makes products of so few rows a tenth faster."""
    matrix = weight.T.contiguous()
    if bias is None:
        return lambda x: torch.mm(x, matrix, out=out)
    return lambda x: torch.addmm(bias, x, matrix, out=out)
