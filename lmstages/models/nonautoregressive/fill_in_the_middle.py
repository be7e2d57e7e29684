"""Fill in the middle: a GPT that reads some rows with their middle last (Bavarian et al. 2022).

    psm    PRE  prefix  SUF  suffix  MID  middle  END
    spm    PRE  SUF  suffix  MID  prefix  middle  END

are inputs and, one place earlier, targets; but PRE, SUF and MID are no targets, nor is the token before the row, with
which the prefix begins. END is always one. It is a possible token within a middle alone, so that from left to right
the V tokens of the vocabulary share all probability, and so they do in a gap whose length is known.

``B`` rows, ``T`` tokens per row, ``V`` vocabulary, k tokens of a gap, L and R tokens left and right of it.
"""

from enum import IntEnum

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.orders import FillInTheMiddle
from lmstages.core.documents import BOUNDARY
from lmstages.models.neural.base import log_softmax, target_log_probs
from lmstages.models.neural.modern_gpt import ModernModel, Network
from lmstages.models.nonautoregressive.gaps import sides_within
from lmstages.training.batches import IGNORED, Batch
from lmstages.training.objectives import NEXT_TOKEN, Draw
from lmstages.training.objectives import Network as Forward

Part = IntEnum("Part", ["PREFIX", "MIDDLE", "SUFFIX", "END", "PRE", "SUF", "MID", "PAST"], start=0)  # PAST: of a text
SENTINELS = (Part.PRE, Part.SUF, Part.MID)  # inputs that are never predicted; END is predicted and never an input
PLAIN, ARRANGEMENTS = 0, {"psm": 1, "spm": 2}
ORDERS = (
    (Part.PREFIX, Part.MIDDLE, Part.SUFFIX),
    (Part.PRE, Part.PREFIX, Part.SUF, Part.SUFFIX, Part.MID, Part.MIDDLE, Part.END),
    (Part.PRE, Part.SUF, Part.SUFFIX, Part.MID, Part.PREFIX, Part.MIDDLE, Part.END),
)
UNUSED = len(Part)
RANKS = np.array([[order.index(part) if part in order else UNUSED for part in Part] for order in ORDERS])
ADDED = 1 + len(SENTINELS)  # inputs of a rearranged row beside its tokens, of which the first is the one before them


class FillInTheMiddleNetwork(Network):
    """A modern GPT with inputs for the sentinels, and a token V that ends a middle."""

    def __init__(self, config: FillInTheMiddle, vocab_size: int) -> None:
        longer = config.model_copy(update={"window": config.window + ADDED})
        super().__init__(longer, vocab_size + 1, len(SENTINELS))

    def forward(self, tokens: torch.Tensor, may_end: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T) -> (B, T, V) logits of the token after each input, which is no end.

        With ``may_end`` (B, T): (B, T, V + 1), where the end is possible only if it says so.
        """
        x = self.states(tokens)
        if may_end is None:
            return self.logits(x)
        logits = super().logits(x)
        ends = logits[..., -1:].masked_fill(~may_end[..., None], -torch.inf)
        return torch.cat([logits[..., :-1], ends], dim=-1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., V): without the end."""
        return super().logits(x)[..., :-1]


class FillInTheMiddleModel(ModernModel):
    """Attends to at most ``window`` tokens, and fills gaps by itself."""

    config: FillInTheMiddle

    def build(self) -> nn.Module:
        """The network, with the modern GPT's initialisation."""
        return FillInTheMiddleNetwork(self.config, self.vocab_size)

    @property
    def objective(self) -> "MiddleLast":
        """The next token, in rows of which some are rearranged."""
        return MiddleLast(self.config.rate, self.vocab_size)

    def training_pass(self, network: nn.Module, tokens: torch.Tensor) -> None:
        """A row with its sentinels."""
        row = functional.pad(tokens, (0, ADDED))
        network(row, torch.ones_like(row, dtype=torch.bool))

    def fill_log_probs(self, left: np.ndarray, filled: np.ndarray, right: np.ndarray, hidden: int) -> np.ndarray:
        """(B, L), (B, J), (B, R) -> (B, V) nats of the token after the first J of a gap.

        ``hidden`` >= 1 tokens are not known yet, so that the gap does not end.
        """
        with torch.inference_mode():
            logits = self._gap_logits(left, filled, right, filled.shape[1] + hidden, self.config.arrangement)
            return log_softmax(logits[:, -1, :-1]).cpu().double().numpy()

    def fill_or_end_log_probs(
        self, left: np.ndarray, filled: np.ndarray, right: np.ndarray, longest: int
    ) -> np.ndarray:
        """(B, L), (B, J), (B, R) -> (B, V + 1) nats of the token after the first J of a gap, and of its end.

        Both sides leave room for ``longest`` tokens of the gap.
        """
        with torch.inference_mode():
            logits = self._gap_logits(left, filled, right, longest, self.config.arrangement)
            return log_softmax(logits[:, -1]).cpu().double().numpy()

    def fill_score(
        self,
        left: np.ndarray,
        middle: np.ndarray,
        right: np.ndarray,
        arrangement: str | None = None,
        longest: int | None = None,
    ) -> np.ndarray:
        """(B, L), (B, k), (B, R) -> (B, k) nats of each token of a gap whose length is known.

        With ``longest`` it is not: (B, k + 1), the last number is of its end, and both sides leave room for so many
        tokens. ``arrangement``: psm or spm, the record's unless given.
        """
        reserved = middle.shape[1] if longest is None else longest
        targets = middle if longest is None else np.column_stack([middle, np.full(len(middle), self.vocab_size)])
        parts = []
        for top, end in self._bands(len(middle), self.config.window + ADDED):
            gap = left[top:end], middle[top:end], right[top:end]
            with torch.inference_mode():
                logits = self._gap_logits(*gap, reserved, arrangement or self.config.arrangement)
                logits = logits[:, :-1, :-1] if longest is None else logits
                parts.append(target_log_probs(logits, self._on_device(targets[top:end])).cpu().double().numpy())
        return np.concatenate(parts)

    def _gap_logits(
        self, left: np.ndarray, middle: np.ndarray, right: np.ndarray, reserved: int, arrangement: str
    ) -> torch.Tensor:
        """(B, k + 1, V + 1): of every token of the gap, and of what follows them."""
        assert middle.shape[1] <= reserved, "a gap has room for what it holds"
        sides = sides_within(self.config.window, reserved, left, right)
        tokens = {part: np.full((len(left), 1), sentinel(part, self.vocab_size)) for part in SENTINELS}
        prefix = np.column_stack([sides.before, sides.left])
        tokens |= {Part.PREFIX: prefix, Part.SUFFIX: sides.right, Part.MIDDLE: middle}
        order = ORDERS[ARRANGEMENTS[arrangement]]
        row = self._on_device(np.hstack([tokens[part] for part in order if part != Part.END]).astype(np.int64))
        logits: torch.Tensor = self._network(row, torch.ones_like(row, dtype=torch.bool))
        return logits[:, -1 - middle.shape[1] :]


def sentinel(part: Part, vocab_size: int) -> int:
    """The token that stands for END, PRE, SUF or MID."""
    return vocab_size + part - Part.END


class MiddleLast:
    """Cross-entropy of the next token in rows of which a share has its middle last; valid is read from left to right.

    An end counts as one target more than those that the loss is divided by.
    """

    def __init__(self, rate: float, vocab_size: int) -> None:
        self.rate, self.vocab_size = rate, vocab_size

    def __call__(self, network: Forward, batch: Batch, draw: Draw) -> torch.Tensor:
        """The sum of cross-entropies over all targets."""
        inputs, targets, may_end = self.rearranged(batch, draw)
        logits = network(inputs, may_end).flatten(0, 1)
        return functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def selected(self, network: Forward, batch: Batch, draw: Draw) -> torch.Tensor:
        """Cross-entropy from left to right."""
        return NEXT_TOKEN(network, batch, draw)

    def rearranged(self, batch: Batch, draw: Draw) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A batch of T targets -> inputs, targets, and where the end is possible, (B, T + ADDED) each."""
        parts, orders = (draw.local_rows(drawn) for drawn in self.drawn(batch, draw))
        ranks = RANKS[orders[:, None], parts]
        taken = ranks.argsort(axis=1, kind="stable")
        is_target = (ranks < UNUSED) & (parts <= Part.END) & (np.arange(parts.shape[1]) > 0)
        may_end = (orders[:, None] != PLAIN) & np.isin(parts, (Part.MIDDLE, Part.END))
        facts = np.take_along_axis(np.stack([is_target, may_end]), taken[None], axis=2)
        indices, (is_target, may_end) = (torch.from_numpy(a).to(batch.targets.device) for a in (taken, facts))
        rows = self.with_sentinels(batch).gather(1, indices)
        return rows[:, :-1], rows.masked_fill(~is_target, IGNORED)[:, 1:], may_end[:, 1:]

    def with_sentinels(self, batch: Batch) -> torch.Tensor:
        """(B, 1 + T + 4): the token before the row, its tokens, the end and the sentinels."""
        tokens = [sentinel(part, self.vocab_size) for part in (Part.END, *SENTINELS)]
        sentinels = torch.tensor(tokens, device=batch.targets.device).expand(len(batch.targets), -1)
        return torch.cat([batch.inputs[:, :1], batch.targets.clamp_min(BOUNDARY), sentinels], dim=1)

    def drawn(self, batch: Batch, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Of all rows of the whole batch: the part that each token is of, as in ``with_sentinels``, and the order (R,).

        A row is cut at two of its n + 1 places between tokens, each as likely as any other.
        """
        draws, lengths = draw.generator(), batch.lengths[:, None]
        kinds = draws.random((len(lengths), 2))
        orders = np.where(kinds[:, 0] < self.rate, 1 + (kinds[:, 1] < 0.5), PLAIN)
        cuts = np.sort((draws.random((len(lengths), 2)) * (lengths + 1)).astype(np.int64), axis=1)
        places = np.arange(1 + batch.targets.shape[1])
        parts = np.where(places <= cuts[:, :1], Part.PREFIX, np.where(places <= cuts[:, 1:], Part.MIDDLE, Part.SUFFIX))
        parts = np.where(places > lengths, Part.PAST, parts)
        added = np.broadcast_to([Part.END, *SENTINELS], (len(lengths), 1 + len(SENTINELS)))
        return np.concatenate([parts, added], axis=1), orders
