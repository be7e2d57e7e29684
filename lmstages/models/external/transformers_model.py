"""A model that the package transformers computes, under the contract of ``models.base``.

It decodes incrementally from whatever state the architecture keeps: keys and values, the state of a recurrence, or
both. Knows a network and its tokens; no file and no text.
"""

import inspect
from typing import Any

import numpy as np
import torch
from torch import nn

from lmstages.models.base import DecodingState, Recompute
from lmstages.models.external.mapped import FittedElsewhere, TheirTokens
from lmstages.models.neural.decoding import Decoder

STATE_BYTES = 1 << 30
STATES = ("past_key_values", "cache_params", "state")  # keys and values; Mamba's and RWKV's recurrences


class Logits(nn.Module):
    """A causal language model of transformers as (B, T) tokens -> (B, T, V) logits in 32 bits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the token after each input."""
        logits: torch.Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits.float()


class TransformersDecoder(Decoder):
    """Reads one more token per row behind the state that the model returned last."""

    def __init__(self, network: TheirTokens, window: int) -> None:
        self.network, self.window = network, window
        self.state: tuple[str, Any] | None = None
        takes = inspect.signature(network.network.model.forward).parameters  # type: ignore[union-attr]
        self.last_alone = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def has_state(self) -> bool:
        """Whether the model returns a state that it takes back, which not every combination of layers can."""
        token = torch.zeros_like(self.network.inputs[:1][None])
        try:
            with torch.inference_mode():
                self.prefill(token)
                self.read(token)
        except (AssertionError, ValueError, TypeError, AttributeError, RuntimeError):
            return False  # every token is computed from all before it, to the same result
        return True

    def prefill(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, V) logits after the last token, from the beginning."""
        self.state = None
        return self.read(tokens)

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, V)."""
        given = dict([self.state] if self.state else [])
        output = self.network.network.model(
            input_ids=self.network.inputs[tokens], use_cache=True, **given, **self.last_alone
        )
        name = state_of(output)
        assert name is not None, "only a model with a state is decoded by this class"
        self.state = (name, output[name])
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits[..., self.network.theirs]


def state_of(output: Any) -> str | None:
    """The name under which a model returns its state, and takes it back; None for a model without one."""
    return next((name for name in STATES if getattr(output, name, None) is not None), None)


class TransformersModel(FittedElsewhere):
    """A checkpoint that transformers computes."""

    def max_parallel_states(self) -> int:
        """The most texts to decode at once: as many as have keys and values of a gigabyte, if all layers attend."""
        shape: Any = self.config
        return max(
            1, STATE_BYTES // (8 * (shape.layers or shape.window) * (shape.width or shape.window) * shape.window)
        )

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:
        """(B, T), T may be 0 -> the decoding state after the prefix; without a state everything is computed anew."""
        model: Any = self
        network, window = model.network, model.config.context
        assert isinstance(network, TheirTokens), "as ``checkpoints`` builds it"
        decoder = TransformersDecoder(network, window)
        return self.decoding_state_of(decoder, prefix) if decoder.has_state() else Recompute(model, prefix)
