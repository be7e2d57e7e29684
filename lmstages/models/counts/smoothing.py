"""How the orders of an n-gram model share its probability, from the shortest context up:

    p_n(w | h) = share_n(h, w) + weight_n(h) p_(n-1)(w | h less its oldest token)        p_0 = 1 / V

                            share                              weight
    Jelinek-Mercer          l c / C                            1 - l        l by order and size of C
    Witten-Bell             c / (C + T)                        T / (C + T)
    absolute, Kneser-Ney    max(c - D, 0) / C                  D T / C
    modified Kneser-Ney     (c - D[c]) / C                     (D1 T1 + D2 T2 + D3 T3) / C

c: count of (h, w); C: the sum of c over w; T: how many w follow h, of which T1 once, T2 twice, T3 more often. The
two add up to one over w by construction, so the mixture does. A context that was never seen leaves p_(n-1) as it is.

What is fitted besides the counts stands in one array of constants, (N, 3) discounts or (N, 16) weights. Counts come
as they are for Jelinek-Mercer, Witten-Bell and absolute discounting, adjusted for Kneser-Ney.

Jelinek & Mercer 1980; Witten & Bell 1991, method C; Ney, Essen & Kneser 1994; Kneser & Ney 1995; Chen & Goodman 1999.
"""

from dataclasses import dataclass

import numpy as np

ADJUSTED = ("kneser_ney", "modified_kneser_ney")
SIZES = 16  # Jelinek-Mercer: contexts seen 2^k to 2^(k+1) - 1 times share a weight, the last size all above
FALLBACK = np.array([0.5, 1.0, 1.5])  # KenLM's, where counts of counts give no discounts
LEAST = 1e-3  # discount; at zero what was never seen would be impossible
ENOUGH = 1e-7  # nats per token; a round that gains less is the last
ROUNDS = 100


@dataclass(frozen=True)
class Evidence:
    """What train says at one order, for the cells (E,) whose context it has seen.

    ``counts`` (E,) of the n-gram, ``totals`` (E,) and ``kinds`` (E, 3) of its context.
    """

    cells: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


def mixed(smoothing: str, constants: np.ndarray, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Share and weight, both (E,); ``constants`` are one order's."""
    counts, totals = evidence.counts, evidence.totals.astype(np.float64)
    if smoothing == "witten_bell":
        types = evidence.kinds.sum(axis=1)
        return counts / (totals + types), types / (totals + types)
    if smoothing == "jelinek_mercer":
        weights = constants[sizes_of(evidence.totals)]
        return weights * counts / totals, 1 - weights
    discounts = np.append(0.0, constants)[np.minimum(counts, 3)]
    given = sum(evidence.kinds[:, k] * constants[k] for k in range(3))  # quicker than a product of mixed types
    return (counts - discounts) / totals, given / totals


def probabilities(
    smoothing: str, constants: np.ndarray, evidence: list[Evidence], cells: int, vocab_size: int
) -> list[np.ndarray]:
    """p_0 ... p_N, each (M,), of the M cells that the evidence is about."""
    orders = [np.full(cells, 1 / vocab_size)]
    for order_constants, found in zip(constants, evidence, strict=True):
        share, weight = mixed(smoothing, order_constants, found)
        longer = orders[-1].copy()
        longer[found.cells] = share + weight * longer[found.cells]
        orders.append(longer)
    return orders


# ---------------------------------------------------------------- discounts from counts of counts


def closed_form(smoothing: str, counts: np.ndarray) -> np.ndarray:
    """(U,) the counts of one order -> (3,) discounts for count 1, 2, and 3 or more.

    With n1 ... n4 n-grams that have count 1 ... 4 and Y = n1 / (n1 + 2 n2): D = Y (Ney, Essen & Kneser 1994), or
    modified D_k = k - (k + 1) Y n_(k+1) / n_k (Chen & Goodman 1999, equation 26).
    """
    of_count = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    _, n1, n2, n3, n4, _ = of_count
    if smoothing != "modified_kneser_ney":
        return np.full(3, n1 / (n1 + 2 * n2)) if n1 and n2 else np.full(3, FALLBACK[0])
    if not (n1 and n2 and n3):
        return FALLBACK.copy()
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return discounts if (discounts > 0).all() else FALLBACK.copy()


# ---------------------------------------------------------------- discounts from held-out text


def tuned(smoothing: str, discounts: np.ndarray, evidence: list[Evidence], cells: int, vocab_size: int) -> np.ndarray:
    """(N, 3) discounts that make held-out text likeliest, from those given.

    The probability of a token is linear in the discounts of one order while the others stand, so that the
    log-likelihood is concave in them: a Newton step for each order in turn, until a round gains nothing.
    """
    discounts, before = discounts.copy(), -np.inf
    tied = smoothing != "modified_kneser_ney"
    for _ in range(ROUNDS):
        orders = probabilities(smoothing, discounts, evidence, cells, vocab_size)
        total, slope = orders[-1], np.ones(cells)  # d total / d p_n, while n goes down
        reached = float(np.log(total).mean())
        if reached - before < ENOUGH:
            break
        before = reached
        for n in reversed(range(len(evidence))):
            found = evidence[n]
            response = _response(found, orders[n][found.cells]) * slope[found.cells, None]
            discounts[n] = _stepped(discounts[n], response, total[found.cells], tied, total, found.cells)
            slope[found.cells] *= mixed(smoothing, discounts[n], found)[1]
    return discounts


def _response(evidence: Evidence, lower: np.ndarray) -> np.ndarray:
    """(E, 3) what a unit more of each discount does to p_n: taken from the count it is for, given to p_(n-1)."""
    taken = np.minimum(evidence.counts, 3)[:, None] == np.array([1, 2, 3])
    return (evidence.kinds * lower[:, None] - taken) / evidence.totals[:, None]


def _stepped(
    discounts: np.ndarray, response: np.ndarray, now: np.ndarray, tied: bool, total: np.ndarray, cells: np.ndarray
) -> np.ndarray:
    """One order's discounts after a Newton step within their bounds, halved until it gains; updates ``total``."""
    most = np.ones(3) if tied else np.array([1.0, 2.0, 3.0])
    columns = np.ones((3, 1)) if tied else np.eye(3)
    ratio = response @ columns / now[:, None]
    up = np.sign(columns @ ratio.sum(axis=0))
    stuck = (up > 0) & (discounts >= most) | (up < 0) & (discounts <= LEAST)  # at a bound, and drawn beyond it
    ratio[:, stuck[: ratio.shape[1]]] = 0
    curvature = ratio.T @ ratio + 1e-9 * np.eye(ratio.shape[1])
    step = columns @ np.linalg.solve(curvature, ratio.sum(axis=0))
    for _ in range(20):
        tried = np.clip(discounts + step, LEAST, most)
        then = now + response @ (tried - discounts)
        if (then > 0).all() and np.log(then).sum() > np.log(now).sum():
            total[cells] = then
            return tried
        step = step / 2
    return discounts


# ---------------------------------------------------------------- Jelinek-Mercer weights


def sizes_of(totals: np.ndarray) -> np.ndarray:
    """(E,) counts of contexts -> which size of context shares a weight: floor(log2), at most the last."""
    return np.minimum(np.frexp(totals.astype(np.float64))[1] - 1, SIZES - 1)


def expectation_maximisation(evidence: list[Evidence], cells: int, vocab_size: int) -> np.ndarray:
    """(N, 16) weights that make held-out text likeliest (Jelinek & Mercer 1980; Dempster et al. 1977).

    Each token is explained from the longest order down: with the chance that its own share has, an order explains
    it, else the next shorter does. A weight becomes the part of what reached its order that it explained, counted
    with one token more each way, so that no weight is 0 or 1.
    """
    weights, before = np.full((len(evidence), SIZES), 0.5), -np.inf
    sizes = [sizes_of(found.totals) for found in evidence]
    for _ in range(ROUNDS):
        orders = probabilities("jelinek_mercer", weights, evidence, cells, vocab_size)
        reached = float(np.log(orders[-1]).mean())
        if reached - before < ENOUGH:
            break
        before = reached
        reach = np.ones(cells)
        for n in reversed(range(len(evidence))):
            found = evidence[n]
            share, _ = mixed("jelinek_mercer", weights[n], found)
            explained = reach[found.cells] * share / orders[n + 1][found.cells]
            arrived = np.bincount(sizes[n], reach[found.cells], SIZES)
            weights[n] = (np.bincount(sizes[n], explained, SIZES) + 1) / (arrived + 2)
            reach[found.cells] -= explained
    return weights
