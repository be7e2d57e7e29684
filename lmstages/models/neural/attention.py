"""What the attention networks share in training, scoring and decoding: attention, rotary positions, RMSNorm.

    attend         softmax(q k' / sqrt(W) + causal mask) v                               (Vaswani et al. 2017)
    rotary         pairs of numbers rotated by position times inverse frequency          (RoPE, Su et al. 2021)
    rms_norm       x / sqrt(mean(x^2) + epsilon)                                         (Zhang & Sennrich 2019)

Shapes: ``B`` rows, ``H`` heads, ``T`` tokens per row, ``W`` numbers per head, ``D`` = H W. Imports no model.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    dropout: float = 0.0,
    scale: float | None = None,
) -> torch.Tensor:
    """Queries (B, H, T, W), keys and values (B, H or a divisor, T, W) -> (B, H, T, W).

    Each position attends to itself and to earlier positions. Where there are more keys than queries, the queries are
    the newest positions: a single one attends to all keys.
    """
    count, earlier, grouped = queries.shape[2], keys.shape[2] - queries.shape[2], keys.shape[1] < queries.shape[1]
    mask, causal = None, count > 1
    if causal and earlier:
        mask, causal = queries.new_ones(count, count + earlier, dtype=torch.bool).tril(earlier), False
    return functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def attend_where(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, dropout: float = 0.0
) -> torch.Tensor:
    """(B, H, T, W) each -> (B, H, T, W): each position attends to those where its row of ``mask`` (T, T) is true.

    Without a mask it attends to all.
    """
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """(B, H, T, W) -> (B, T, H W)."""
    return x.transpose(1, 2).flatten(2)


def rotary_cos_sin(length: int, width: int, base: float) -> torch.Tensor:
    """(2, T, W): cosine and sine of position / base^(2i / W); numbers i and i + W / 2 of a head are a pair."""
    inverse_frequencies = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)  # (W / 2,)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * inverse_frequencies.repeat(2)  # (T, W)
    return torch.stack([angles.cos(), angles.sin()]).float()


def apply_rotary(x: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
    """(B, H, T, W), (2, T, W) -> (B, H, T, W): each pair of numbers rotated by the angle of its position.

    ``cos_sin`` may have more axes, as (2, B, 1, T, W) where every row has positions of its own.
    """
    first, second = x.chunk(2, dim=-1)
    return x * cos_sin[0] + torch.cat([-second, first], dim=-1) * cos_sin[1]


class RMSNormFunction(torch.autograd.Function):
    """RMSNorm with its backward in four operations; torch's own backward takes nine on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, epsilon: float) -> torch.Tensor:
        """(..., D) -> (..., D); saves the output and the scale 1 / sqrt(mean(x^2) + epsilon)."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Backward of RMSNorm: removes the gradient's component along the normalised vector, then scales."""
        y, scale = ctx.saved_tensors
        along = (gradient * y).mean(-1, keepdim=True)
        return torch.addcmul(gradient, y, along, value=-1).mul_(scale), None


def rms_norm(x: torch.Tensor, epsilon: float = torch.finfo(torch.float32).eps) -> torch.Tensor:
    """(..., D) -> (..., D): x / sqrt(mean(x^2) + epsilon) over the last axis, without parameters."""
    if x.device.type == "cpu" and x.requires_grad:
        return RMSNormFunction.apply(x, epsilon)
    return functional.rms_norm(x, x.shape[-1:], eps=epsilon)


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm with its weight, and the backward of ``rms_norm``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., D)."""
        assert self.eps is not None, "every network sets its epsilon"
        return rms_norm(x, self.eps) * self.weight
