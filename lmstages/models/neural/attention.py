"""What the attention models share: causal attention, rotation, and reading on without reading again.

    attend     softmax(q k' / sqrt(W) + past only) v                                  (Vaswani et al. 2017)
    rotation   a pair of numbers turned by an angle that grows with its place          (Su et al. 2021)
    cache      keys and values of what was read do not change with what comes after    (Shazeer 2019)

A reader fills its cache up to the window. Where the window is full it drops the older half and reads the newer
half again, as scoring does under ``stride`` with half a window: up to the window every prediction is that of
``next_log_probs``; beyond it, that of scoring's rows, from at least half a window. Knows no model.

One token alone is so little work that most of the time goes into asking for it. So a network may say for a cache how
it reads one token a row, ``one_by_one``: the same sums, with nothing looked up that is known before. What is read
again in many rows at once is read in bands of rows, whose numbers stay in the processor's caches; and since only the
last place is asked for, a network may leave the others out of its last layer, ``last``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import GPT, Llama, ModernGPT
from lmstages.core.documents import history
from lmstages.models.neural.base import NeuralModel

BAND = 1 << 10  # tokens read again at once

OneToken = Callable[[torch.Tensor], torch.Tensor]  # (B, D) of the token read now -> (B, D)
Joined = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (B, D) so far, (B, E) inside a part -> (B, D)


def rotation(length: int, width: int, base: float) -> torch.Tensor:
    """(2, T, W): cosines and sines of place times base^(-2i / W); i and i + W / 2 are a pair (Su et al. 2021)."""
    speeds = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * speeds.repeat(2)
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotated(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """(B, H, T, W), (2, T, W) -> (B, H, T, W): each pair of numbers turned by the angle of its place."""
    first, second = x.chunk(2, dim=-1)
    return x * turn[0] + torch.cat([-second, first], dim=-1) * turn[1]


class Normed(torch.autograd.Function):
    """RMSNorm's way back written down in four steps; on a CPU torch takes it apart into nine."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Keeps what it returns and by how much it scaled."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        """What of the slope lies along the vector is taken out: the length does not matter."""
        y, scale = ctx.saved_tensors
        along = (slope * y).mean(-1, keepdim=True)
        return torch.addcmul(slope, y, along, value=-1).mul_(scale), None


def normed(x: torch.Tensor, epsilon: float = torch.finfo(torch.float32).eps) -> torch.Tensor:
    """(..., D) -> (..., D): x / sqrt(mean(x^2) + epsilon), every vector by itself (Zhang & Sennrich 2019)."""
    if x.device.type == "cpu" and x.requires_grad:
        return Normed.apply(x, epsilon)
    return functional.rms_norm(x, x.shape[-1:], eps=epsilon)


class Direct:
    """A part of a network that is called without torch's search for hooks, which at one token costs as much as it."""

    def __call__(self, *inputs: Any) -> torch.Tensor:
        """Forward, and nothing besides."""
        return self.forward(*inputs)  # type: ignore[attr-defined]


class Linear(Direct, nn.Linear):
    """torch's own."""


class LayerNorm(Direct, nn.LayerNorm):
    """torch's own."""


class RMSNorm(nn.RMSNorm):
    """torch's own, gone back through as ``normed`` is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., D)."""
        assert self.eps is not None, "every model says how much"
        return normed(x, self.eps) * self.weight


def alone(part: nn.Module) -> OneToken:
    """A part for one token a row, its weights at hand, since torch looks each up by its name at every call."""
    if isinstance(part, nn.Linear):
        return times(part.weight, part.bias)
    if isinstance(part, nn.LayerNorm):
        shape, scale, shift, epsilon = part.normalized_shape, part.weight, part.bias, part.eps
        return lambda x: torch.layer_norm(x, shape, scale, shift, epsilon)
    return part.forward


def added(part: nn.Module, residual: bool) -> Joined:
    """What comes out of ``part``, added to what was so far, or in its place."""
    if residual and isinstance(part, nn.Linear) and part.bias is None:
        matrix = part.weight.T.contiguous()
        return lambda x, inner: torch.addmm(x, inner, matrix)
    run = alone(part)
    return (lambda x, inner: x + run(inner)) if residual else (lambda x, inner: run(inner))


def times(weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor | None = None) -> OneToken:
    """x W' + b, the weight turned round once: so few rows are multiplied a tenth quicker then."""
    matrix = weight.T.contiguous()
    if bias is None:
        return lambda x: torch.mm(x, matrix, out=out)
    return lambda x: torch.addmm(bias, x, matrix, out=out)


class LayerCache:
    """Keys and values of one layer, (window, B, 2, H, W), of which the first ``length`` places are filled."""

    def __init__(self, rows: int, window: int) -> None:
        self.rows, self.window, self.length = rows, window, 0
        self.band = slice(0, rows)  # the rows that are read now
        self.held = torch.empty(0)

    def extended(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (B, H, T, W) each for the band's B rows -> all that is held of them, (B, H, length, W)."""
        _, heads, added, width = keys.shape
        held = self.room(keys, heads, width)[:, self.band]
        begin, self.length = self.length, self.length + added
        held[begin : self.length, :, 0] = keys.permute(2, 0, 1, 3)
        held[begin : self.length, :, 1] = values.permute(2, 0, 1, 3)
        keys, values = held[: self.length].permute(2, 1, 3, 0, 4)
        return keys, values

    def room(self, like: torch.Tensor, heads: int, width: int) -> torch.Tensor:
        """``held``, taken at first use, of the type and on the device of ``like``."""
        if not self.held.numel():
            self.held = like.new_empty(self.window, self.rows, 2, heads, width)
        return self.held

    def attended(self, packed: torch.Tensor) -> Callable[[], torch.Tensor]:
        """(B, 3, H, W), into which query, key and value of one more token are put before each call of what is
        returned -> (B, H, 1, W): what it sees of all that is held.
        """
        held = self.room(packed, *packed.shape[2:])
        keys, values = held.permute(2, 1, 3, 0, 4)
        query, added = packed[:, 0].unsqueeze(2), packed[:, 1:]

        def step() -> torch.Tensor:
            held[self.length].copy_(added)
            self.length += 1
            seen = keys.narrow(2, 0, self.length), values.narrow(2, 0, self.length)
            return functional.scaled_dot_product_attention(query, *seen)

        return step


class Cache:
    """What a network keeps of the tokens it has read: each layer's keys and values, and the last token."""

    def __init__(self, rows: int, window: int, layers: int) -> None:
        self.layers = [LayerCache(rows, window) for _ in range(layers)]
        self.last: torch.Tensor | None = None  # (B, n), for networks that look at the tokens before

    @property
    def length(self) -> int:
        """How many tokens were read."""
        return self.layers[0].length

    def begin(self, band: slice) -> None:
        """These rows alone are read next, from their first token on; the room stays."""
        self.last = None
        for layer in self.layers:
            layer.length, layer.band = 0, band

    def join(self, last: list[torch.Tensor]) -> None:
        """All rows are read next, after their bands, whose last tokens these are, were read to one length."""
        self.last = torch.cat(last) if last else None
        for layer in self.layers:
            layer.band = slice(0, layer.rows)


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    dropout: float = 0.0,
    cache: LayerCache | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """(B, H, T, W) each -> (B, H, T, W): every place looks at itself and what came before, the cached included."""
    alone = queries.shape[2] == 1
    if cache is not None:
        assert alone or not cache.length, "after its first reading a cache grows token by token"
        keys, values = cache.extended(keys, values)
    shared = keys.shape[1] < queries.shape[1]
    return functional.scaled_dot_product_attention(
        queries, keys, values, dropout_p=dropout, is_causal=not alone, scale=scale, enable_gqa=shared
    )


class AttentionNetwork(nn.Module):
    """(B, T) -> (B, T, V), T at most the window; with a cache the T tokens follow those it has read."""

    blocks: nn.ModuleList

    def forward(self, tokens: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """Logits of the token after each input."""
        raise NotImplementedError

    def last(self, tokens: torch.Tensor, cache: Cache) -> torch.Tensor:
        """(B, T) -> (B, V): logits after the last token alone."""
        return self(tokens, cache)[:, -1]

    def one_by_one(self, cache: Cache) -> OneToken:
        """(B,) tokens -> (B, V) logits, one call a token, each after what ``cache`` holds."""
        return lambda tokens: self(tokens[:, None], cache)[:, -1]

    def places(self, tokens: torch.Tensor, cache: Cache | None) -> slice:
        """Where in the window the tokens lie."""
        begin = 0 if cache is None else cache.length
        return slice(begin, begin + tokens.shape[1])

    def through(self, x: torch.Tensor, cache: Cache | None, *others: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D): all blocks, each with its part of the cache."""
        for depth, block in enumerate(self.blocks):
            x = block(x, None if cache is None else cache.layers[depth], *others)
        return x


class CachedDecodingState:
    """Reads on token by token from B prefixes of one length; rolls past the window by halves."""

    def __init__(self, network: AttentionNetwork, window: int, layers: int, prefix: np.ndarray) -> None:
        rows = history(np.asarray(prefix, dtype=np.int64), None, 1)[:, -window:]
        self.network, self.cache = network, Cache(len(rows), window, layers)
        self.tokens = np.empty((len(rows), window), dtype=np.int64)  # of which ``length`` a row are filled
        self.length = rows.shape[1]
        self.tokens[:, : self.length] = rows
        self.device = next(network.parameters()).device
        self._read_again()
        with torch.inference_mode():
            self.one_by_one = network.one_by_one(self.cache)

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        return self.logits.log_softmax(-1).double().cpu().numpy()

    def append(self, tokens: np.ndarray) -> None:
        """(B,): one more token for every row."""
        window = self.tokens.shape[1]
        full = self.length == window
        if full:
            self.length = window // 2
            self.tokens[:, : self.length] = self.tokens[:, window - self.length :].copy()
        self.tokens[:, self.length] = tokens
        self.length += 1
        if full:
            self._read_again()
            return
        with torch.inference_mode():
            self.logits = self.one_by_one(torch.from_numpy(np.asarray(tokens, np.int64)).to(self.device))

    def _read_again(self) -> None:
        """The rows anew, into an empty cache, band by band."""
        step, logits, last = max(1, BAND // self.length), [], []
        with torch.inference_mode():
            rows = torch.from_numpy(self.tokens[:, : self.length].copy()).to(self.device)
            for top in range(0, len(rows), step):
                self.cache.begin(slice(top, top + step))
                logits.append(self.network.last(rows[top : top + step], self.cache))
                last.append(self.cache.last)
            self.logits = torch.cat(logits)
            self.cache.join([each for each in last if each is not None])


class AttentionModel(NeuralModel):
    """Sees at most ``model.window`` tokens; its network is an ``AttentionNetwork``."""

    config: GPT | Llama | ModernGPT

    def decoding_state(self, prefix: np.ndarray) -> CachedDecodingState:
        """(B, T) -> its reader, whose cache holds what was read."""
        network = self._network
        assert isinstance(network, AttentionNetwork), "this family builds no other"
        return CachedDecodingState(network, self.config.window, self.config.layers, prefix)
