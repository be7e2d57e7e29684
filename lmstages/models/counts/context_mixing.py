"""Context mixing: the predictions of many contexts for the next bit, mixed by an online logistic regression.

    p(bit = 1) = squash(sum over i of w_i stretch(p_i))      stretch(p) = ln(p / (1 - p)), squash its inverse
    w_i <- w_i + rate (bit - p) stretch(p_i)                                                  (Mahoney 2005)

A token is a path of bits from the root of a binary tree to the token's leaf. For each inner node and each context a
slot keeps the frequency of bit 1, with more weight on recent bits. p(token) is the product over its path, so that the
probabilities of all tokens, the leaves of one tree, sum to one. The tree splits the vocabulary in its own order, in
which neighbours are often similar, into halves of equal frequency (Fano 1949): letters of one case share more nodes
than in a Huffman tree.

Contexts are the last 1 ... ``order`` tokens; the current word alone, with one and with two words before it; the column
with the line's first token and the last token; the heading, which is the first line after an empty one, with the last
two tokens. A model sees tokens and no text: a line ends with token 0, and a word is what lies between separators, which
are inferred from train: token 0, the most frequent token, and every token that one of these two follows nine times in
ten, as a blank follows a comma. Over subwords the same rules find fewer words, without harm.

Three weight vectors, selected by the node, by the longest context seen before and by the last token, are averaged
before squashing (Mahoney's PAQ8). The mixed prediction is refined by a table of what followed equal predictions after
the same token (PAQ's adaptive probability map). Slots are shared by hashing: a check of a few bits detects most
collisions, and the least used of a few neighbouring slots is replaced.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lmstages.config.hyperparameters.counts import ContextMixing
from lmstages.core.compiled import compiled
from lmstages.core.documents import BOUNDARY, Arrays, Documents
from lmstages.models.counts.sequential import PAGE, SequentialModel

# All constants were chosen on parts of tiny Shakespeare's train, learning from other parts of it.
COUNT_LIMIT = 40  # effective number of bits that a slot's frequency averages over
RATE = 0.02  # learning rate of the weights at first; it falls linearly to LAST_RATE times that and stays
LAST_RATE = 0.3
FIRST_WEIGHT = 0.18
CONFIDENT = 4.0  # upper bound of the confidence, log2(1 + number of bits) of a slot
BIAS = 0.3
CERTAIN = 12.0  # bound of the absolute value of a logit
LEAST = 1e-5  # least probability of a bit
REFINED = 0.4  # weight of the refinement in the prediction
REFINEMENT_RATE = 0.02
FOLLOWED = 0.9  # fraction of a separator's occurrences that a line end or blank follows

CHECK_BITS, COUNT_BITS = 9, 7  # of a slot, from the lowest; the other 16 bits are the probability
CHECK, COUNT = (1 << CHECK_BITS) - 1, (1 << COUNT_BITS) - 1
PROBABILITY_SHIFT = CHECK_BITS + COUNT_BITS
PROBABILITIES = 1 << 16
STEPS = 1 << 12  # entries of the table of stretch
NEIGHBOURS = 4
MOST_SLOTS = 1 << 26
VECTORS, DEPTHS = 3, 4
MOST_SETS = 1 << 10  # weight vectors by node and by token; larger vocabularies share them
BINS, MOST_REFINED = 33, 1 << 14

EXTRA_CONTEXTS = 5  # besides the last tokens
# Features after the last tokens: hashes of words and lines, the line's first token and the column.
WORD, PREVIOUS, EARLIER, FIRST, COLUMN, LINE, HEADING, EXTRA_FEATURES = range(8)
LAST_COLUMN = np.uint64(80)
ODD, SCATTER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
BLANK, OTHER = 2, 1  # types of separators


class Mixer(NamedTuple):
    """The fitted arrays and what is derived from them; S slots, C contexts, W weight vectors, R refinements.

    ``slots`` (S,) probability, count and check in one number; ``weights`` (W, 2 C + 1); ``refinements`` (R, BINS);
    ``separators`` (V,) types; ``children`` (V - 1, 2) of inner nodes, ~token for a leaf; ``path_starts`` (V + 1,) of
    each token's path in ``path_nodes`` and ``path_bits``; ``longest``, the length of the longest path; ``stretched``
    (STEPS,) and ``confidence`` (COUNT + 1,), tables of functions of a slot's probability and count.
    """

    order: int
    longest: int
    slots: np.ndarray
    weights: np.ndarray
    refinements: np.ndarray
    separators: np.ndarray
    children: np.ndarray
    path_starts: np.ndarray
    path_nodes: np.ndarray
    path_bits: np.ndarray
    stretched: np.ndarray
    confidence: np.ndarray


class Workspace(NamedTuple):
    """Buffers for one token: ``hashes`` of its contexts (C,) and, for each of the Q nodes on its path, the ``inputs``
    (Q, 2 C + 1), the ``selected`` weight vectors (Q, 3) and ``predictions`` (Q, 4): p(bit = 1) of each selected vector,
    then the mean of their logits.
    """

    hashes: np.ndarray
    inputs: np.ndarray
    selected: np.ndarray
    predictions: np.ndarray


@compiled
def new_workspace(order: int, nodes: int) -> Workspace:
    """Uninitialised buffers for paths of up to so many nodes."""
    contexts = order + EXTRA_CONTEXTS
    inputs, predictions = np.empty((nodes, 2 * contexts + 1)), np.empty((nodes, VECTORS + 1))
    return Workspace(np.empty(contexts, np.uint64), inputs, np.empty((nodes, VECTORS), np.int64), predictions)


@compiled
def signed(number: np.uint64) -> int:
    """The number as int64: numba adds signed and unsigned integers as floats, which is inexact."""
    return np.int64(number)  # type: ignore[return-value]


@compiled
def scattered(key: np.uint64) -> np.uint64:
    """A hash of which every bit depends on nearly all bits of ``key``."""
    key = (key ^ (key >> np.uint64(32))) * SCATTER
    return key ^ (key >> np.uint64(29))


@compiled
def update_features(features: np.ndarray, order: int, token: int, separators: np.ndarray) -> None:
    """Append ``token`` to ``features`` (order + EXTRA_FEATURES,): the last tokens, then words and line as numbers."""
    symbol = np.uint64(token + 1)
    for distance in range(order - 1, 0, -1):
        features[distance] = features[distance - 1]
    features[0] = symbol
    if not separators[token]:
        features[order + WORD] = scattered((features[order + WORD] + symbol) * ODD)
    elif features[order + WORD] != 0:
        features[order + EARLIER], features[order + PREVIOUS] = features[order + PREVIOUS], features[order + WORD]
        features[order + WORD] = 0
    if separators[token] == OTHER:
        features[order + PREVIOUS] = (features[order + PREVIOUS] + symbol) * ODD
    if token == BOUNDARY:
        if features[order + COLUMN] == 0:
            features[order + HEADING] = 0
        elif features[order + HEADING] == 0:
            features[order + HEADING] = features[order + LINE]
        features[order + LINE] = 0
        features[order + FIRST] = features[order + COLUMN] = 0
    else:
        features[order + LINE] = scattered((features[order + LINE] + symbol) * ODD)
        if features[order + COLUMN] == 0:
            features[order + FIRST] = symbol
        features[order + COLUMN] = min(features[order + COLUMN] + np.uint64(1), LAST_COLUMN)


@compiled
def hash_contexts(features: np.ndarray, order: int, hashes: np.ndarray) -> None:
    """Features -> a hash of each context (C,)."""
    key = np.uint64(0)
    for distance in range(order):
        key = scattered((key + features[distance] + np.uint64(1)) * ODD)
        hashes[distance] = key
    word, previous, earlier = features[order + WORD], features[order + PREVIOUS], features[order + EARLIER]
    line = features[order + COLUMN] * np.uint64(1 << 32) + features[order + FIRST] * np.uint64(1 << 16) + features[0]
    heading, second = features[order + HEADING], features[min(1, order - 1)]
    two = scattered(word + previous * ODD)
    hashes[order] = scattered(word + np.uint64(11))
    hashes[order + 1] = scattered(two + np.uint64(13))
    hashes[order + 2] = scattered(two + earlier * SCATTER + np.uint64(17))
    hashes[order + 3] = scattered(line * ODD + np.uint64(19))
    hashes[order + 4] = scattered(heading + features[0] * ODD + second * SCATTER + np.uint64(23))


@compiled
def slot_of(slots: np.ndarray, key: np.uint64, create: bool) -> int:
    """The index of a key's slot; where there is none, -1 or, with ``create``, an empty slot for it."""
    check = signed(key >> np.uint64(64 - CHECK_BITS))
    first: int = signed(key & np.uint64(len(slots) - NEIGHBOURS))
    least = first
    for index in range(first, first + NEIGHBOURS):
        if slots[index] == 0:
            return index if create else -1
        if slots[index] & CHECK == check:
            return index
        if (slots[index] >> CHECK_BITS) & COUNT < (slots[least] >> CHECK_BITS) & COUNT:
            least = index
    if not create:
        return -1
    slots[least] = 0
    return least


@compiled
def slot_key(context: np.uint64, node: int) -> np.uint64:
    """The key of a node's slot in a context."""
    return scattered((context + np.uint64(node)) * ODD)


@compiled
def look_up(mixer: Mixer, hashes: np.ndarray, node: int, inputs: np.ndarray) -> int:
    """(C,) -> (2 C + 1,) the contexts' inputs at a node. -> the length of the longest context with a slot"""
    longest = 0
    for context in range(len(hashes)):
        index = slot_of(mixer.slots, slot_key(hashes[context], node), False)
        inputs[2 * context] = inputs[2 * context + 1] = 0.0
        if index < 0:
            continue
        slot = signed(mixer.slots[index])
        probability, count = slot >> PROBABILITY_SHIFT, (slot >> CHECK_BITS) & COUNT
        inputs[2 * context] = mixer.stretched[probability * STEPS // PROBABILITIES]
        inputs[2 * context + 1] = (probability / PROBABILITIES - 0.5) * mixer.confidence[count]
        if context < mixer.order:
            longest = context + 1
    inputs[2 * len(hashes)] = BIAS
    return longest


@compiled
def select(mixer: Mixer, node: int, longest: int, recent: int, depth: int, selected: np.ndarray) -> None:
    """The indices of the weight vectors: by the longest context with a slot, by the node, by the last token."""
    sets = min(len(mixer.separators), MOST_SETS)
    selected[0] = longest
    selected[1] = mixer.order + 1 + node % sets
    selected[2] = mixer.order + 1 + sets + recent % sets * DEPTHS + min((depth + 1) // 2, DEPTHS - 1)


@compiled
def mix(weights: np.ndarray, selected: np.ndarray, inputs: np.ndarray, predictions: np.ndarray) -> None:
    """p(bit = 1) of each selected weight vector, then the mean of their logits."""
    predictions[VECTORS] = 0.0
    for vector in range(VECTORS):
        logit = 0.0
        for index in range(len(inputs)):
            logit += weights[selected[vector], index] * inputs[index]
        logit = min(max(logit, -CERTAIN), CERTAIN)
        predictions[vector] = 1.0 / (1.0 + np.exp(-logit))
        predictions[VECTORS] += logit / VECTORS


@compiled
def refinement_of(mixer: Mixer, logit: float, node: int, recent: int) -> tuple[int, int, float]:
    """The row and the bin of a logit's refinement, and the weight of the bin after it."""
    scaled = (logit / CERTAIN + 1.0) * (BINS - 1) / 2
    lower = min(int(scaled), BINS - 2)
    return (recent * len(mixer.separators) + node) % len(mixer.refinements), lower, scaled - lower


@compiled
def predict(mixer: Mixer, workspace: Workspace, step: int, node: int, recent: int, depth: int) -> float:
    """p(bit = 1) at a node after the token ``recent``; bounded, so that no token has probability 0."""
    inputs, selected, predictions = workspace.inputs[step], workspace.selected[step], workspace.predictions[step]
    select(mixer, node, look_up(mixer, workspace.hashes, node, inputs), recent, depth, selected)
    mix(mixer.weights, selected, inputs, predictions)
    row, lower, upper_weight = refinement_of(mixer, predictions[VECTORS], node, recent)
    refinements = mixer.refinements[row]
    refined = refinements[lower] * (1.0 - upper_weight) + refinements[lower + 1] * upper_weight
    mixed = 1.0 / (1.0 + np.exp(-predictions[VECTORS]))
    return min(max(mixed * (1.0 - REFINED) + refined * REFINED, LEAST), 1.0 - LEAST)


@compiled
def update(
    mixer: Mixer, workspace: Workspace, step: int, node: int, recent: int, bit: int, rate: float, written: np.ndarray
) -> None:
    """A gradient step of the selected weights; refinement and slots move towards the bit."""
    inputs, predictions = workspace.inputs[step], workspace.predictions[step]
    for vector in range(VECTORS):
        error = (bit - predictions[vector]) * rate
        for index in range(len(inputs)):
            mixer.weights[workspace.selected[step, vector], index] += error * inputs[index]
    row, lower, upper_weight = refinement_of(mixer, predictions[VECTORS], node, recent)
    for bin_index, weight in ((lower, 1.0 - upper_weight), (lower + 1, upper_weight)):
        mixer.refinements[row, bin_index] += (bit - mixer.refinements[row, bin_index]) * weight * REFINEMENT_RATE
    for context in workspace.hashes:
        update_slot(mixer.slots, slot_key(context, node), bit, written)


@compiled
def update_slot(slots: np.ndarray, key: np.uint64, bit: int, written: np.ndarray) -> None:
    """Move a slot's probability towards the bit, by less the more bits it has counted."""
    index = slot_of(slots, key, True)
    slot = signed(slots[index])
    probability = slot >> PROBABILITY_SHIFT if slot else PROBABILITIES // 2
    count = (slot >> CHECK_BITS) & COUNT
    probability += int((bit * (PROBABILITIES - 1) - probability) / (count + 1.5))
    count = min(count + 1, COUNT_LIMIT)
    slots[index] = probability << PROBABILITY_SHIFT | count << CHECK_BITS | signed(key >> np.uint64(64 - CHECK_BITS))
    if len(written):
        written[index // PAGE] = True


@compiled
def run(
    mixer: Mixer,
    features: np.ndarray,
    tokens: np.ndarray,
    nats: np.ndarray,
    rate: float,
    online: bool,
    restarts: bool,
    written: np.ndarray,
) -> None:
    """(T,) -> (T,) nats, each token scored before any of its bits is learned; advances ``features``."""
    workspace = new_workspace(mixer.order, mixer.longest)
    for index, token in enumerate(tokens):
        hash_contexts(features, mixer.order, workspace.hashes)
        recent, start, nats[index] = signed(features[0]), mixer.path_starts[token], 0.0
        length = mixer.path_starts[token + 1] - start
        for step in range(length):
            p = predict(mixer, workspace, step, mixer.path_nodes[start + step], recent, step)
            nats[index] += np.log(p if mixer.path_bits[start + step] else 1.0 - p)
        if online:
            for step in range(length):
                node, bit = mixer.path_nodes[start + step], mixer.path_bits[start + step]
                update(mixer, workspace, step, node, recent, bit, rate, written)
        if restarts and token == BOUNDARY:
            features[:] = 0
        update_features(features, mixer.order, token, mixer.separators)


@compiled
def probabilities(mixer: Mixer, features: np.ndarray) -> np.ndarray:
    """(V,) p of every token, from the root of the tree down; nothing is learned."""
    workspace = new_workspace(mixer.order, 1)
    hash_contexts(features, mixer.order, workspace.hashes)
    leaves, reached = np.ones(len(mixer.separators)), np.ones(len(mixer.children))
    depths = np.zeros(len(mixer.children), np.int64)
    for node in range(len(mixer.children)):
        p = predict(mixer, workspace, 0, node, signed(features[0]), depths[node])
        for bit, probability in enumerate((1.0 - p, p)):
            child = mixer.children[node, bit]
            if child < 0:
                leaves[~child] = reached[node] * probability
            else:
                reached[child], depths[child] = reached[node] * probability, depths[node] + 1
    return leaves


def halves(frequencies: np.ndarray) -> np.ndarray:
    """(V,) -> the children (V - 1, 2) of the inner nodes, from node 0, the root, down; ~token is a leaf.

    One is added to each frequency, which bounds the length of every path.
    """
    before = np.append(0, np.cumsum(frequencies + 1))
    children: list[list[int]] = []
    waiting = [(0, len(frequencies), -1, 0)] if len(frequencies) > 1 else []
    while waiting:
        first, end, parent, bit = waiting.pop()
        node = len(children) if end - first > 1 else ~first
        if parent >= 0:
            children[parent][bit] = node
        if end - first > 1:
            children.append([0, 0])
            middles = 2 * before[first + 1 : end] - before[first] - before[end]
            middle = first + 1 + int(np.abs(middles).argmin())
            waiting += [(middle, end, node, 1), (first, middle, node, 0)]
    return np.array(children, dtype=np.int64).reshape(-1, 2)


def paths(children: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The start of each token's path (V + 1,), and the nodes and bits of all paths end to end."""
    steps: list[list[tuple[int, int]]] = [[] for _ in range(vocab_size)]
    above: list[list[tuple[int, int]]] = [[] for _ in children]
    for node, below in enumerate(children.tolist()):
        for bit, child in enumerate(below):
            (steps[~child] if child < 0 else above[child]).extend([*above[node], (node, bit)])
    starts = np.append(0, np.cumsum([len(path) for path in steps]))
    flat = np.array([step for path in steps for step in path], dtype=np.int64).reshape(-1, 2)
    return starts, flat[:, 0].copy(), flat[:, 1].copy()


def separators_of(train: Documents, vocab_size: int) -> np.ndarray:
    """(V,) BLANK for the most frequent token, OTHER for token 0 and what these two nearly always follow, else 0."""
    tokens = np.asarray(train.tokens)
    frequencies = np.bincount(tokens, minlength=vocab_size)
    blank = int(frequencies.argmax())
    ends = (tokens == BOUNDARY) | (tokens == blank)
    followed = np.bincount(tokens[:-1], ends[1:], minlength=vocab_size)
    types = np.where((followed >= FOLLOWED * frequencies) & (frequencies > 0), OTHER, 0)
    types[blank], types[BOUNDARY] = BLANK, OTHER
    return types


class ContextMixingModel(SequentialModel):
    """Slots and weights; its parameters are the slots in use, the weights and the refinements."""

    config: ContextMixing
    large = "slots"

    def prepare(self, train: Documents) -> None:
        """Enough slots for the text, a tree of its token frequencies, equal weights."""
        order, sets = self.config.order, min(self.vocab_size, MOST_SETS)
        refined = 1.0 / (1.0 + np.exp(-np.linspace(-CERTAIN, CERTAIN, BINS)))
        rows = min(self.vocab_size * (self.vocab_size + 1), MOST_REFINED)
        shape = (order + 1 + sets * (1 + DEPTHS), 2 * (order + EXTRA_CONTEXTS) + 1)
        slots = 1 << (len(train) * (order + EXTRA_CONTEXTS) + NEIGHBOURS).bit_length()
        self.state = {
            "slots": np.zeros(min(slots, MOST_SLOTS), dtype=np.uint32),
            "weights": np.full(shape, FIRST_WEIGHT, dtype=np.float32),
            "refinements": np.tile(refined.astype(np.float32), (rows, 1)),
            "frequencies": np.bincount(np.asarray(train.tokens), minlength=self.vocab_size),
            "separators": separators_of(train, self.vocab_size),
        }

    def bind(self) -> None:
        """The tree and the tables."""
        children = halves(self.state["frequencies"])
        bins = (np.arange(STEPS) + 0.5) / STEPS  # the middle of each entry's range
        fitted = {name: self.state[name] for name in ("slots", "weights", "refinements", "separators")}
        starts, nodes, bits = paths(children, self.vocab_size)
        self.mixer = Mixer(
            order=self.config.order,
            longest=int(np.diff(starts).max()),
            **fitted,
            children=children,
            path_starts=starts,
            path_nodes=nodes,
            path_bits=bits,
            stretched=np.log(bins / (1 - bins)),
            confidence=np.minimum(CONFIDENT, np.log2(1 + np.arange(COUNT + 1))),
        )

    def arrays(self) -> Arrays:
        """The fitted state with only the slots in use; ``occupied`` has one bit per slot that says which they are."""
        arrays = super().arrays()
        occupied = arrays["slots"] > 0
        return {**arrays, "slots": arrays["slots"][occupied], "occupied": np.packbits(occupied)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        occupied = np.unpackbits(arrays["occupied"]).astype(bool)
        slots = np.zeros(len(occupied), dtype=np.uint32)
        slots[occupied] = arrays["slots"]
        others = {name: array for name, array in arrays.items() if name != "occupied"}
        super().restore({**others, "slots": slots})

    def begin(self, before: int) -> None:
        """The features of a row after the token ``before``, with nothing before that."""
        self.features = np.zeros(self.config.order + EXTRA_FEATURES, dtype=np.uint64)
        update_features(self.features, self.config.order, before, self.mixer.separators)

    def learn(self, tokens: np.ndarray, progress: float) -> None:
        """Update slots and weights, at a learning rate that falls with ``progress``."""
        self._run(tokens, RATE * max(LAST_RATE, 1 - progress), True)

    def advance(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) -> (T,) nats."""
        return self._run(tokens, RATE * LAST_RATE, self.online)

    def _run(self, tokens: np.ndarray, rate: float, online: bool) -> np.ndarray:
        nats = np.empty(len(tokens))
        run(self.mixer, self.features, tokens, nats, rate, online, bool(self.state["restarts"][0]), self.written)
        return nats

    def distribution(self) -> np.ndarray:
        """(V,) nats."""
        return np.log(probabilities(self.mixer, self.features))

    def parameters(self) -> int:
        """Slots in use, weights and refinements."""
        fitted = super().arrays()
        return sum(int(np.count_nonzero(fitted[name])) for name in ("slots", "weights", "refinements"))
