"""Prediction by partial matching (PPM), method D, with exclusions.

    p(w | h) = (2 c(h, w) - 1) / 2 n(h)                             if w has followed h
    p(w | h) = d(h) / 2 n(h)  p(w | h without its oldest token)     otherwise: an escape          (Howard 1993)

h is the context, at most ``order`` tokens; c(h, w) is how often w followed h, n(h) the sum of c over tokens, d(h) the
number of different tokens that followed h. Exclusion: an escape from h implies that the next token is none of those
that have followed h, so that they are left out of c, n and d of all shorter contexts (Cleary & Witten 1984). After the
empty context all remaining tokens have the same probability. A context that all possible tokens have followed has no
escape.

The counts are a tree: a node is a token after a context, and a context itself. Its suffix link, which the literature
calls a vine pointer, leads to the same token after the context without its oldest token (Moffat 1990). Tokens that have
followed a context have followed every shorter one, so that the counts to exclude are those that the suffix links of its
followers lead to.
"""

import numpy as np

from lmstages.config.hyperparameters.counts import PPM
from lmstages.core.compiled import compiled
from lmstages.core.documents import BOUNDARY, Documents
from lmstages.models.counts.sequential import PAGE, SequentialModel

# Columns of a node; TOTAL and DISTINCT are n(h) and d(h) of the node as a context.
SYMBOL, COUNT, SUFFIX, CHILD, SIBLING, TOTAL, DISTINCT = range(7)
FIELDS = 7
ROOT, NONE = 0, -1


@compiled
def follower(nodes: np.ndarray, roots: np.ndarray, context: int, token: int) -> int:
    """The node of ``token`` after a context, or NONE."""
    if context == ROOT:
        return roots[token]
    node = nodes[context, CHILD]
    while node != NONE and nodes[node, SYMBOL] != token:
        node = nodes[node, SIBLING]
    return node


@compiled
def remaining(nodes: np.ndarray, context: int, longer: int) -> tuple[int, int]:
    """n(h) and d(h) of a context without the tokens that have followed the ``longer`` context, if that is not NONE."""
    total, distinct = nodes[context, TOTAL], nodes[context, DISTINCT]
    if longer != NONE:
        distinct -= nodes[longer, DISTINCT]
        node = nodes[longer, CHILD]
        while node != NONE:
            total -= nodes[nodes[node, SUFFIX], COUNT]
            node = nodes[node, SIBLING]
    return total, distinct


@compiled
def estimator(nodes: np.ndarray, context: int, longer: int, vocab_size: int) -> tuple[float, float, float]:
    """-> discount, scale, escape: a token of count c has probability (c - discount) scale, the escape the rest."""
    total, distinct = remaining(nodes, context, longer)
    possible = vocab_size - (nodes[longer, DISTINCT] if longer != NONE else 0)
    if distinct == 0:
        return 0.0, 0.0, 1.0
    if distinct == possible:
        return 0.0, 1.0 / total, 0.0
    return 0.5, 1.0 / total, 0.5 * distinct / total


@compiled
def probability(nodes: np.ndarray, roots: np.ndarray, vocab_size: int, context: int, token: int) -> float:
    """p(token | context), from the longest context that has followers down to the first that the token has followed."""
    weight, longer = 1.0, NONE
    while context != NONE:
        if nodes[context, DISTINCT] > 0:
            discount, scale, escape = estimator(nodes, context, longer, vocab_size)
            node = follower(nodes, roots, context, token)
            if node != NONE:
                return weight * (nodes[node, COUNT] - discount) * scale
            weight *= escape
            longer = context
        context = nodes[context, SUFFIX]
    return weight / (vocab_size - nodes[ROOT, DISTINCT])


@compiled
def probabilities(nodes: np.ndarray, roots: np.ndarray, vocab_size: int, context: int) -> np.ndarray:
    """(V,) p of every token: as ``probability``, each token at the first context that it has followed."""
    result = np.zeros(vocab_size)
    weight, longer = 1.0, NONE
    while context != NONE:
        if nodes[context, DISTINCT] > 0:
            discount, scale, escape = estimator(nodes, context, longer, vocab_size)
            node = nodes[context, CHILD]
            while node != NONE:
                if result[nodes[node, SYMBOL]] == 0.0:
                    result[nodes[node, SYMBOL]] = weight * (nodes[node, COUNT] - discount) * scale
                node = nodes[node, SIBLING]
            weight *= escape
            longer = context
        context = nodes[context, SUFFIX]
    unseen = vocab_size - nodes[ROOT, DISTINCT]
    for token in range(vocab_size):
        if roots[token] == NONE:
            result[token] = weight / unseen
    return result


@compiled
def add(nodes: np.ndarray, roots: np.ndarray, used: int, context: int, token: int, written: np.ndarray) -> int:
    """Count a token after its contexts, the longest first, up to the first that it had followed. -> nodes in use

    This is update exclusion (Moffat 1990): a shorter context counts a token only where it was new to the longer one, so
    that its count is the number of different longer contexts in which the token was new. Kneser & Ney (1995) derive the
    same counts for their lower orders; ``counting`` calls them adjusted.
    """
    newer = NONE
    while context != NONE:
        node = follower(nodes, roots, context, token)
        existed = node != NONE
        if not existed:
            node, used = used, used + 1
            nodes[node] = NONE
            nodes[node, SYMBOL], nodes[node, SIBLING] = token, nodes[context, CHILD]
            nodes[node, COUNT], nodes[node, TOTAL], nodes[node, DISTINCT] = 0, 0, 0
            nodes[context, CHILD] = node
            nodes[context, DISTINCT] += 1
            if context == ROOT:
                roots[token] = node
        nodes[node, COUNT] += 1
        nodes[context, TOTAL] += 1
        mark(written, node)
        mark(written, context)
        if newer != NONE:
            nodes[newer, SUFFIX] = node
        if existed:
            return used
        newer, context = node, nodes[context, SUFFIX]
    nodes[newer, SUFFIX] = ROOT
    return used


@compiled
def mark(written: np.ndarray, node: int) -> None:
    """Mark the page of a fitted node as written; nodes added later have no page, they are cut off instead."""
    if node // PAGE < len(written):
        written[node // PAGE] = True


@compiled
def following(
    nodes: np.ndarray, roots: np.ndarray, order: int, context: int, depth: int, token: int
) -> tuple[int, int]:
    """The longest context in the tree, of at most ``order`` tokens, that ends with ``token``, and its length."""
    node = follower(nodes, roots, context, token)
    while node == NONE and context != ROOT:
        context, depth = nodes[context, SUFFIX], depth - 1
        node = follower(nodes, roots, context, token)
    if node == NONE:
        return ROOT, 0
    return (node, depth + 1) if depth < order else (nodes[node, SUFFIX], depth)


@compiled
def run(
    nodes: np.ndarray,
    roots: np.ndarray,
    cursor: np.ndarray,
    tokens: np.ndarray,
    nats: np.ndarray,
    order: int,
    restarts: bool,
    online: bool,
    written: np.ndarray,
) -> None:
    """(T,) Score tokens into ``nats``, unless that is empty; count them if ``online``; advance ``cursor``.

    ``cursor`` holds the context's node, its length and the number of nodes in use.
    """
    context, depth, used = cursor
    for index, token in enumerate(tokens):
        if len(nats):
            nats[index] = np.log(probability(nodes, roots, len(roots), context, token))
        if online:
            used = add(nodes, roots, used, context, token, written)
        if restarts and token == BOUNDARY:
            context, depth = ROOT, 0
        context, depth = following(nodes, roots, order, context, depth, token)
    cursor[:] = context, depth, used


class PPMModel(SequentialModel):
    """A tree of counts; its parameters are the counts."""

    config: PPM
    large = "nodes"

    def prepare(self, train: Documents) -> None:
        """A tree of the empty context alone."""
        root = [NONE, 0, NONE, NONE, NONE, 0, 0]
        self.state = {
            "nodes": np.array([root], dtype=np.int32),
            "roots": np.full(self.vocab_size, NONE, dtype=np.int32),
        }

    def bind(self) -> None:
        """The number of nodes in use at the beginning of a row."""
        self.used = len(self.state["nodes"])

    def begin(self, before: int) -> None:
        """The context is the token ``before``, if train contains it."""
        node = self.state["roots"][before]
        self.cursor = np.array([node, 1, self.used] if node != NONE and self.config.order else [ROOT, 0, self.used])

    def learn(self, tokens: np.ndarray, progress: float) -> None:
        """Count tokens of train, without scoring them."""
        self._run(tokens, np.empty(0), True)

    def finish(self) -> None:
        """Keep only the nodes in use."""
        self.state["nodes"] = self.state["nodes"][: self.cursor[2]].copy()

    def parameters(self) -> int:
        """A count for each node except the empty context."""
        return self.used - 1

    def advance(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) -> (T,) nats."""
        nats = np.empty(len(tokens))
        self._run(tokens, nats, self.online)
        return nats

    def _run(self, tokens: np.ndarray, nats: np.ndarray, online: bool) -> None:
        """Allocate room for all nodes that the tokens may add, then run."""
        state, order = self.state, self.config.order
        needed = self.cursor[2] + (len(tokens) * (order + 1) if online else 0)
        if needed > len(state["nodes"]):
            grown = np.empty((max(needed, len(state["nodes"]) * 3 // 2), FIELDS), dtype=np.int32)
            grown[: len(state["nodes"])] = state["nodes"]
            state["nodes"] = grown
        restarts = bool(state["restarts"][0])
        run(state["nodes"], state["roots"], self.cursor, tokens, nats, order, restarts, online, self.written)

    def distribution(self) -> np.ndarray:
        """(V,) nats."""
        state = self.state
        return np.log(probabilities(state["nodes"], state["roots"], self.vocab_size, self.cursor[0]))
