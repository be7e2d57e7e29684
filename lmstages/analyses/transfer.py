"""Near transfer: what a couple's second word costs where train holds such couples, and where they were withheld.

A couple is two words that go together, such as *hedgehogs* and *raisins*. A model that cannot look back as far as the
couple's first word costs the same in both cases for that reason, and not for having generalised: ``sees`` is the
fraction of couples whose first word lies within its context. Gaps and intervals are made in ``results``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmstages.evaluation.score_files import Scores


@dataclass
class Costs:
    """Of each scored text: sums over documents, and how many couples there are.

    ``sums`` by tokenizer/model/split, (D, 2, 3): bits, bytes and number of couples of train, and of withheld ones.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self, where: Mapping[str, str], scores: Scores, combinations: Sequence[Sequence[Any]], context: int | None
    ) -> None:
        """Couples [document, start, end, withheld, partner] in the text of a score file."""
        couples = np.array(combinations, dtype=np.int64)
        bits, size, sees = couple_costs(scores, couples, context)
        sums = np.zeros((int(scores.documents.max(initial=0)) + 1, 2, 3))
        np.add.at(sums, (couples[:, 0], couples[:, 3]), np.column_stack([bits, size, np.ones(len(bits))]))
        self.sums["/".join(where.values())] = sums
        withheld = int(couples[:, 3].sum())
        counts = {"couples": len(couples) - withheld, "withheld": withheld, "sees": float(sees.mean())}
        self.rows.append({**where, **counts})


def couple_costs(scores: Scores, couples: np.ndarray, context: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(C, 5) -> bits and bytes of the tokens of the second word, and whether its first word lies within the context."""
    ends = np.cumsum(scores.lengths, dtype=np.int64)
    begins = ends - scores.lengths
    origin = begins[np.searchsorted(scores.documents, couples[:, 0])]
    first = np.searchsorted(ends, origin + couples[:, 1], side="right")
    after = np.searchsorted(begins, origin + couples[:, 2], side="left")
    costs = np.concatenate([[0], np.cumsum(-scores.log_probs.astype(np.float64) / math.log(2))])
    partner = np.searchsorted(ends, origin + couples[:, 4], side="right")
    sees = np.ones(len(first), dtype=bool) if context is None else first - partner <= context
    with np.errstate(invalid="ignore"):  # behind a token of probability zero costs are infinite
        return costs[after] - costs[first], ends[after - 1] - begins[first], sees
