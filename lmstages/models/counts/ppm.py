"""Prediction by partial matching, method D, with exclusions.

    p(w | h) = (2 c(h, w) - 1) / 2 n(h)                  where w has followed h
    p(w | h) = d(h) / 2 n(h)  p(w | h less its oldest)   where it has not: an escape          (Howard 1993)

h is what came before, at most ``order`` tokens; c(h, w) says how often w followed h, n(h) sums that over tokens, d(h)
counts the tokens that did. Exclusion: whoever escapes from h tells that what comes is none of the tokens that have
followed h, so that these are left out of all shorter contexts' c, n and d (Cleary & Witten 1984). Behind the empty
context all tokens that are left are equally likely. Where nothing is left to escape to, no escape is set aside.

The counts lie in a tree: a node is a token behind a context, and a context itself. Its vine leads to the same
token behind the context without its oldest token (Moffat 1990). What has followed a context has followed every
shorter one, so that the counts to exclude are those at the ends of the vines of its followers.
"""

import numpy as np

from lmstages.config.hyperparameters.counts import PPM
from lmstages.core.documents import BOUNDARY, Documents
from lmstages.models.counts.compiled import compiled
from lmstages.models.counts.sequential import PAGE, SequentialModel

SYMBOL, COUNT, VINE, CHILD, SIBLING, TOTAL, DISTINCT = range(7)  # of a node; n(h) and d(h) are of it as a context
FIELDS = 7
ROOT, NONE = 0, -1


@compiled
def follower(nodes: np.ndarray, roots: np.ndarray, context: int, token: int) -> int:
    """The node of ``token`` behind a context, or NONE."""
    if context == ROOT:
        return roots[token]
    node = nodes[context, CHILD]
    while node != NONE and nodes[node, SYMBOL] != token:
        node = nodes[node, SIBLING]
    return node


@compiled
def remaining(nodes: np.ndarray, context: int, longer: int) -> tuple[int, int]:
    """n(h) and d(h) of a context without the tokens that have followed the one longer, NONE for no longer one."""
    total, distinct = nodes[context, TOTAL], nodes[context, DISTINCT]
    if longer != NONE:
        distinct -= nodes[longer, DISTINCT]
        node = nodes[longer, CHILD]
        while node != NONE:
            total -= nodes[nodes[node, VINE], COUNT]
            node = nodes[node, SIBLING]
    return total, distinct


@compiled
def shares(nodes: np.ndarray, context: int, longer: int, vocab_size: int) -> tuple[float, float, float]:
    """A token counted c has the share (c - held) scale of a context; the escape has the rest. -> held, scale, escape"""
    total, distinct = remaining(nodes, context, longer)
    possible = vocab_size - (nodes[longer, DISTINCT] if longer != NONE else 0)
    if distinct == 0:
        return 0.0, 0.0, 1.0
    if distinct == possible:
        return 0.0, 1.0 / total, 0.0
    return 0.5, 1.0 / total, 0.5 * distinct / total


@compiled
def probability(nodes: np.ndarray, roots: np.ndarray, vocab_size: int, context: int, token: int) -> float:
    """p(token | context), from the longest context that something has followed down to the first that knows it."""
    weight, longer = 1.0, NONE
    while context != NONE:
        if nodes[context, DISTINCT] > 0:
            held, scale, escape = shares(nodes, context, longer, vocab_size)
            node = follower(nodes, roots, context, token)
            if node != NONE:
                return weight * (nodes[node, COUNT] - held) * scale
            weight *= escape
            longer = context
        context = nodes[context, VINE]
    return weight / (vocab_size - nodes[ROOT, DISTINCT])


@compiled
def probabilities(nodes: np.ndarray, roots: np.ndarray, vocab_size: int, context: int) -> np.ndarray:
    """(V,) of every token: the same walk, each token at the first context that knows it."""
    result = np.zeros(vocab_size)
    weight, longer = 1.0, NONE
    while context != NONE:
        if nodes[context, DISTINCT] > 0:
            held, scale, escape = shares(nodes, context, longer, vocab_size)
            node = nodes[context, CHILD]
            while node != NONE:
                if result[nodes[node, SYMBOL]] == 0.0:
                    result[nodes[node, SYMBOL]] = weight * (nodes[node, COUNT] - held) * scale
                node = nodes[node, SIBLING]
            weight *= escape
            longer = context
        context = nodes[context, VINE]
    left = vocab_size - nodes[ROOT, DISTINCT]
    for token in range(vocab_size):
        if roots[token] == NONE:
            result[token] = weight / left
    return result


@compiled
def add(nodes: np.ndarray, roots: np.ndarray, used: int, context: int, token: int, written: np.ndarray) -> int:
    """Count a token behind its contexts, the longest first, until one has known it before. -> nodes in use

    This is update exclusion (Moffat 1990): a shorter context counts a token only where a longer one had never seen
    it, so that its count says behind how many different longer contexts the token was new. That is what Kneser & Ney
    (1995) derive for their lower orders, and ``counts`` calls adjusted: the same counts, come by one at a time.
    """
    newer = NONE
    while context != NONE:
        node = follower(nodes, roots, context, token)
        known = node != NONE
        if not known:
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
            nodes[newer, VINE] = node
        if known:
            return used
        newer, context = node, nodes[context, VINE]
    nodes[newer, VINE] = ROOT
    return used


@compiled
def mark(written: np.ndarray, node: int) -> None:
    """Note the page of a node that was fitted; what is new is not put back but cut off."""
    if node // PAGE < len(written):
        written[node // PAGE] = True


@compiled
def following(
    nodes: np.ndarray, roots: np.ndarray, order: int, context: int, depth: int, token: int
) -> tuple[int, int]:
    """The longest known context, of at most ``order`` tokens, that ends with ``token``, and its length."""
    node = follower(nodes, roots, context, token)
    while node == NONE and context != ROOT:
        context, depth = nodes[context, VINE], depth - 1
        node = follower(nodes, roots, context, token)
    if node == NONE:
        return ROOT, 0
    return (node, depth + 1) if depth < order else (nodes[node, VINE], depth)


@compiled
def run(
    nodes: np.ndarray,
    roots: np.ndarray,
    place: np.ndarray,
    tokens: np.ndarray,
    nats: np.ndarray,
    order: int,
    restarts: bool,
    online: bool,
    written: np.ndarray,
) -> None:
    """(T,) Score tokens into ``nats``, where that is not empty; learn them; move ``place``: context, depth, nodes."""
    context, depth, used = place
    for index, token in enumerate(tokens):
        if len(nats):
            nats[index] = np.log(probability(nodes, roots, len(roots), context, token))
        if online:
            used = add(nodes, roots, used, context, token, written)
        if restarts and token == BOUNDARY:
            context, depth = ROOT, 0
        context, depth = following(nodes, roots, order, context, depth, token)
    place[:] = context, depth, used


class PPMModel(SequentialModel):
    """A tree of counts; its parameters are the counts."""

    config: PPM
    large = "nodes"

    def prepare(self, train: Documents) -> None:
        """The empty context alone."""
        root = [NONE, 0, NONE, NONE, NONE, 0, 0]
        self.state = {
            "nodes": np.array([root], dtype=np.int32),
            "roots": np.full(self.vocab_size, NONE, dtype=np.int32),
        }

    def bind(self) -> None:
        """As many nodes as there are now are in use when a row begins."""
        self.used = len(self.state["nodes"])

    def begin(self, before: int) -> None:
        """Behind one token, if it is known."""
        node = self.state["roots"][before]
        self.place = np.array([node, 1, self.used] if node != NONE and self.config.order else [ROOT, 0, self.used])

    def study(self, tokens: np.ndarray, done: float) -> None:
        """Count, without scoring."""
        self._run(tokens, np.empty(0), True)

    def finish(self) -> None:
        """Keep the nodes in use."""
        self.state["nodes"] = self.state["nodes"][: self.place[2]].copy()

    def parameters(self) -> int:
        """A count for each node but the empty context."""
        return self.used - 1

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) -> (T,)."""
        nats = np.empty(len(tokens))
        self._run(tokens, nats, self.online)
        return nats

    def _run(self, tokens: np.ndarray, nats: np.ndarray, online: bool) -> None:
        """Make room for all nodes that may come, then run."""
        state, order = self.state, self.config.order
        needed = self.place[2] + (len(tokens) * (order + 1) if online else 0)
        if needed > len(state["nodes"]):
            grown = np.empty((max(needed, len(state["nodes"]) * 3 // 2), FIELDS), dtype=np.int32)
            grown[: len(state["nodes"])] = state["nodes"]
            state["nodes"] = grown
        restarts = bool(state["restarts"][0])
        run(state["nodes"], state["roots"], self.place, tokens, nats, order, restarts, online, self.written)

    def distribution(self) -> np.ndarray:
        """(V,)."""
        state = self.state
        return np.log(probabilities(state["nodes"], state["roots"], self.vocab_size, self.place[0]))
