"""Smoothing of n-gram models by interpolation, from the shortest context up:

    p_n(w | h) = alpha_n(h, w) + gamma_n(h) p_(n-1)(w | h without its oldest token)        p_0 = 1 / V

                            alpha                              gamma
    Jelinek-Mercer          l c / C                            1 - l        l by order and size of C
    Witten-Bell             c / (C + T)                        T / (C + T)
    absolute, Kneser-Ney    max(c - D, 0) / C                  D T / C
    modified Kneser-Ney     (c - D[c]) / C                     (D1 T1 + D2 T2 + D3 T3) / C

c: count of (h, w); C: the sum of c over w; T: the number of different w that follow h, of which T1 once, T2 twice, T3
more often. Summed over w, alpha and gamma give one by construction, hence so does p. A context that does not occur in
train leaves p_(n-1) unchanged.

Fitted constants are one array: (N, 3) discounts or (N, 16) weights. Counts are plain for Jelinek-Mercer, Witten-Bell
and absolute discounting, adjusted (continuation counts) for Kneser-Ney.

Jelinek & Mercer 1980; Witten & Bell 1991, method C; Ney, Essen & Kneser 1994; Kneser & Ney 1995; Chen & Goodman 1999.
"""

from dataclasses import dataclass

import numpy as np

ADJUSTED = ("kneser_ney", "modified_kneser_ney")
SIZES = 16  # Jelinek-Mercer: contexts seen 2^k to 2^(k+1) - 1 times share a weight, the last size all above
FALLBACK = np.array([0.5, 1.0, 1.5])  # KenLM's, where counts of counts give no discounts
LEAST = 1e-3  # discount; with 0 unseen n-grams would have probability 0
ENOUGH = 1e-7  # nats per token; the first round that gains less is the last
ROUNDS = 100


@dataclass(frozen=True)
class OrderCounts:
    """Counts from train at one order, for the E of M positions whose context occurs in train.

    ``positions`` (E,) among the M; ``counts`` (E,) of the n-gram; ``totals`` (E,) and ``type_counts`` (E, 3) of its
    context: the sum of its n-grams' counts, and how many of them have count 1, 2, and 3 or more.
    """

    positions: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    type_counts: np.ndarray


def interpolation_terms(
    smoothing: str, constants: np.ndarray, order_counts: OrderCounts
) -> tuple[np.ndarray, np.ndarray]:
    """alpha and gamma, both (E,); ``constants`` are those of the order."""
    counts, totals = order_counts.counts, order_counts.totals.astype(np.float64)
    if smoothing == "witten_bell":
        types = order_counts.type_counts.sum(axis=1)
        return counts / (totals + types), types / (totals + types)
    if smoothing == "jelinek_mercer":
        weights = constants[sizes_of(order_counts.totals)]
        return weights * counts / totals, 1 - weights
    discounts = np.append(0.0, constants)[np.minimum(counts, 3)]
    # A sum is faster than a product of mixed types.
    discounted = sum(order_counts.type_counts[:, k] * constants[k] for k in range(3))
    return (counts - discounts) / totals, discounted / totals


def probabilities(
    smoothing: str, constants: np.ndarray, counts: list[OrderCounts], positions: int, vocab_size: int
) -> list[np.ndarray]:
    """p_0 ... p_N, each (M,), of M positions; ``counts`` of the orders 1 ... N."""
    orders = [np.full(positions, 1 / vocab_size)]
    for order_constants, order_counts in zip(constants, counts, strict=True):
        alpha, gamma = interpolation_terms(smoothing, order_constants, order_counts)
        longer = orders[-1].copy()
        longer[order_counts.positions] = alpha + gamma * longer[order_counts.positions]
        orders.append(longer)
    return orders


# ---------------------------------------------------------------- discounts from counts of counts


def closed_form(smoothing: str, counts: np.ndarray) -> np.ndarray:
    """(U,) the counts of one order -> (3,) discounts for count 1, 2, and 3 or more.

    With n1 ... n4 n-grams that have count 1 ... 4 and Y = n1 / (n1 + 2 n2): D = Y (Ney, Essen & Kneser 1994), or
    modified D_k = k - (k + 1) Y n_(k+1) / n_k (Chen & Goodman 1999, equation 26).
    """
    return discounts_of(smoothing, np.bincount(np.minimum(counts, 5), minlength=6))


def discounts_of(smoothing: str, of_count: np.ndarray) -> np.ndarray:
    """(6,) how many n-grams of one order have count 0 ... 4, and 5 or more -> their discounts, as ``closed_form``."""
    _, n1, n2, n3, n4, _ = of_count.astype(np.float64)
    if smoothing != "modified_kneser_ney":
        return np.full(3, n1 / (n1 + 2 * n2)) if n1 and n2 else np.full(3, FALLBACK[0])
    if not (n1 and n2 and n3):
        return FALLBACK.copy()
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return discounts if (discounts > 0).all() else FALLBACK.copy()


# ---------------------------------------------------------------- discounts from held-out text


def tuned(
    smoothing: str, discounts: np.ndarray, counts: list[OrderCounts], positions: int, vocab_size: int
) -> np.ndarray:
    """(N, 3) discounts that maximise the likelihood of held-out text, starting from ``discounts``.

    With the other orders fixed, a token's probability is linear in the discounts of one order, so that the
    log-likelihood is concave in them: one Newton step for each order in turn, until a round gains less than ENOUGH.
    """
    discounts, previous = discounts.copy(), -np.inf
    tied = smoothing != "modified_kneser_ney"
    for _ in range(ROUNDS):
        orders = probabilities(smoothing, discounts, counts, positions, vocab_size)
        total, gradient = orders[-1], np.ones(positions)  # d total / d p_n, as n decreases
        log_likelihood = float(np.log(total).mean())
        if log_likelihood - previous < ENOUGH:
            break
        previous = log_likelihood
        for n in reversed(range(len(counts))):
            chosen = counts[n].positions
            response = _response(counts[n], orders[n][chosen]) * gradient[chosen, None]
            discounts[n] = _newton_step(discounts[n], response, total[chosen], tied, total, chosen)
            gradient[chosen] *= interpolation_terms(smoothing, discounts[n], counts[n])[1]
    return discounts


def _response(order_counts: OrderCounts, lower: np.ndarray) -> np.ndarray:
    """(E, 3) d p_n / d discount: subtracted from the count that has this discount, added with p_(n-1) to all."""
    subtracted = np.minimum(order_counts.counts, 3)[:, None] == np.array([1, 2, 3])
    return (order_counts.type_counts * lower[:, None] - subtracted) / order_counts.totals[:, None]


def _newton_step(
    discounts: np.ndarray, response: np.ndarray, current: np.ndarray, tied: bool, total: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """One order's discounts after a Newton step within their bounds, halved until it gains; updates ``total``.

    ``tied``: one discount for all counts. ``current`` (E,) is ``total`` at the ``chosen`` positions.
    """
    most = np.ones(3) if tied else np.array([1.0, 2.0, 3.0])
    columns = np.ones((3, 1)) if tied else np.eye(3)
    ratio = response @ columns / current[:, None]
    ascent = np.sign(columns @ ratio.sum(axis=0))
    blocked = (ascent > 0) & (discounts >= most) | (ascent < 0) & (discounts <= LEAST)  # at a bound, pointing beyond it
    ratio[:, blocked[: ratio.shape[1]]] = 0
    curvature = ratio.T @ ratio + 1e-9 * np.eye(ratio.shape[1])
    step = columns @ np.linalg.solve(curvature, ratio.sum(axis=0))
    for _ in range(20):
        candidate = np.clip(discounts + step, LEAST, most)
        updated = current + response @ (candidate - discounts)
        if (updated > 0).all() and np.log(updated).sum() > np.log(current).sum():
            total[chosen] = updated
            return candidate
        step = step / 2
    return discounts


# ---------------------------------------------------------------- Jelinek-Mercer weights


def sizes_of(totals: np.ndarray) -> np.ndarray:
    """(E,) counts of contexts -> index of the weight they share: floor(log2), at most SIZES - 1."""
    return np.minimum(np.frexp(totals.astype(np.float64))[1] - 1, SIZES - 1)


def expectation_maximisation(counts: list[OrderCounts], positions: int, vocab_size: int) -> np.ndarray:
    """(N, 16) weights that maximise the likelihood of held-out text (Jelinek & Mercer 1980; Dempster et al. 1977).

    Each token is explained from the longest order down: by an order with the posterior probability of its alpha, else
    by a shorter one. The new weight is the fraction of the tokens that reach an order that it explains, with one token
    added to either side, so that no weight becomes 0 or 1.
    """
    weights, previous = np.full((len(counts), SIZES), 0.5), -np.inf
    sizes = [sizes_of(order_counts.totals) for order_counts in counts]
    for _ in range(ROUNDS):
        orders = probabilities("jelinek_mercer", weights, counts, positions, vocab_size)
        log_likelihood = float(np.log(orders[-1]).mean())
        if log_likelihood - previous < ENOUGH:
            break
        previous = log_likelihood
        reach = np.ones(positions)
        for n in reversed(range(len(counts))):
            chosen = counts[n].positions
            alpha, _ = interpolation_terms("jelinek_mercer", weights[n], counts[n])
            explained = reach[chosen] * alpha / orders[n + 1][chosen]
            reached = np.bincount(sizes[n], reach[chosen], SIZES)
            weights[n] = (np.bincount(sizes[n], explained, SIZES) + 1) / (reached + 2)
            reach[chosen] -= explained
    return weights
