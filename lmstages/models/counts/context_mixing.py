"""Context mixing: many small predictors of the next bit, weighed anew at every bit by a network of one neuron.

    p(bit = 1) = squash(sum over i of w_i stretch(p_i))      stretch(p) = ln(p / (1 - p)), squash its inverse
    w_i <- w_i + rate (bit - p) stretch(p_i)                                                  (Mahoney 2005)

A token is a path of bits from the root of a tree to the token's leaf. Each inner node is a question, and for each
context in which it has been asked a slot keeps how often the answer was 1, newer answers weighing more. p(token) is
the product over its path, so that the probabilities of all tokens, which are the leaves of one tree, sum to one
before any of them is seen. The tree splits the vocabulary in its own order, in which neighbours are often alike,
into halves of equal frequency (Fano 1949): letters of one case share more questions than in Huffman's tree.

Contexts are the last 1 ... ``order`` tokens; the word so far, alone, with one and with two words before it; the column
with the line's first token and the last token; the heading, which is the first line after an empty one, with the last
two tokens. A model has never seen text: a line ends with token 0, and words are what lies between separators, which
are learned from train: token 0, the most frequent token, and every token that one of these two follows nine times in
ten, as a blank follows a comma. Over subwords the same rules find less and do no harm.

Three weight vectors, chosen by the question, by how long a context is known and by the last token, are averaged
before squashing (Mahoney's PAQ8); what they say together is refined by what came of it before, behind the same token.
Slots are shared by hash: a few bits of it tell strangers apart, and the least used of a few neighbours makes room for
a newcomer.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lmstages.config.hyperparameters.counts import ContextMixing
from lmstages.core.documents import BOUNDARY, Arrays, Documents
from lmstages.models.counts.compiled import compiled
from lmstages.models.counts.sequential import PAGE, SequentialModel

# All constants were chosen on parts of tiny Shakespeare's train, learning from other parts of it.
COUNT_LIMIT = 40  # answers that a slot remembers, as it were
RATE = 0.02  # of the weights at first; it falls linearly, to LAST_RATE of it, and stays
LAST_RATE = 0.3
FIRST_WEIGHT = 0.18
CONFIDENT = 4.0  # log2 of the answers after which a slot is no surer
BIAS = 0.3
CERTAIN = 12.0  # bounds what is squashed
LEAST = 1e-5  # least probability of a bit
REFINED = 0.4  # share of the refinement in what is predicted
REFINEMENT_RATE = 0.02
FOLLOWED = 0.9  # share of a separator's occurrences that another follows

CHECK_BITS, COUNT_BITS = 9, 7  # of a slot, from the lowest; the other 16 are the probability
CHECK, COUNT = (1 << CHECK_BITS) - 1, (1 << COUNT_BITS) - 1
SHARE_SHIFT = CHECK_BITS + COUNT_BITS
SHARES = 1 << 16
STEPS = 1 << 12  # of the table of stretch
NEIGHBOURS = 4
MOST_SLOTS = 1 << 26
VECTORS, DEPTHS = 3, 4
MOST_SETS = 1 << 10  # of weights, by question and by token; beyond it they are shared
CELLS, MOST_REFINED = 33, 1 << 14

BESIDES = 5  # contexts that are not the last tokens
WORD, PREVIOUS, EARLIER, FIRST, COLUMN, LINE, HEADING, MOVING = range(
    8
)  # of a place in the text, behind its last tokens
LAST_COLUMN = np.uint64(80)
ODD, MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
BLANK, OTHER = 2, 1  # kinds of separators


class State(NamedTuple):
    """What is fitted, and what follows from it; S slots, C contexts, W weight vectors, R refinements.

    ``slots`` (S,) probability, count and check in one number; ``weights`` (W, 2 C + 1); ``refinements`` (R, CELLS);
    ``separators`` (V,) kinds; ``children`` (V - 1, 2) of inner nodes, ~token for a leaf; ``path_starts`` (V + 1,) of
    each token in ``path_nodes`` and ``path_bits``, the ``longest`` of which sets the size of a desk; two tables.
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


class Desk(NamedTuple):
    """What is worked with at a token: ``hashes`` of the contexts (C,), and for each question on its path (Q) the
    ``inputs`` (Q, 2 C + 1), the ``chosen`` vectors (Q, 3) and their ``opinions``, p of a 1, behind which stands what
    they say together, stretched (Q, 4).
    """

    hashes: np.ndarray
    inputs: np.ndarray
    chosen: np.ndarray
    opinions: np.ndarray


@compiled
def new_desk(order: int, questions: int) -> Desk:
    """Empty."""
    contexts = order + BESIDES
    inputs, opinions = np.empty((questions, 2 * contexts + 1)), np.empty((questions, VECTORS + 1))
    return Desk(np.empty(contexts, np.uint64), inputs, np.empty((questions, VECTORS), np.int64), opinions)


@compiled
def signed(number: np.uint64) -> int:
    """The same number as one that may stand beside others: a sum of signed and unsigned would be inexact."""
    return np.int64(number)  # type: ignore[return-value]


@compiled
def scattered(key: np.uint64) -> np.uint64:
    """A number of which every bit depends on all bits of ``key``, or near enough."""
    key = (key ^ (key >> np.uint64(32))) * MIXER
    return key ^ (key >> np.uint64(29))


@compiled
def move(place: np.ndarray, order: int, token: int, separators: np.ndarray) -> None:
    """Make ``place``, which is the last tokens, words and line as numbers, the place behind ``token``."""
    symbol = np.uint64(token + 1)
    for distance in range(order - 1, 0, -1):
        place[distance] = place[distance - 1]
    place[0] = symbol
    if not separators[token]:
        place[order + WORD] = scattered((place[order + WORD] + symbol) * ODD)
    elif place[order + WORD] != 0:
        place[order + EARLIER], place[order + PREVIOUS] = place[order + PREVIOUS], place[order + WORD]
        place[order + WORD] = 0
    if separators[token] == OTHER:
        place[order + PREVIOUS] = (place[order + PREVIOUS] + symbol) * ODD
    if token == BOUNDARY:
        if place[order + COLUMN] == 0:
            place[order + HEADING] = 0
        elif place[order + HEADING] == 0:
            place[order + HEADING] = place[order + LINE]
        place[order + LINE] = 0
        place[order + FIRST] = place[order + COLUMN] = 0
    else:
        place[order + LINE] = scattered((place[order + LINE] + symbol) * ODD)
        if place[order + COLUMN] == 0:
            place[order + FIRST] = symbol
        place[order + COLUMN] = min(place[order + COLUMN] + np.uint64(1), LAST_COLUMN)


@compiled
def hash_contexts(place: np.ndarray, order: int, hashes: np.ndarray) -> None:
    """One number for each context at a place."""
    key = np.uint64(0)
    for distance in range(order):
        key = scattered((key + place[distance] + np.uint64(1)) * ODD)
        hashes[distance] = key
    word, previous, earlier = place[order + WORD], place[order + PREVIOUS], place[order + EARLIER]
    line = place[order + COLUMN] * np.uint64(1 << 32) + place[order + FIRST] * np.uint64(1 << 16) + place[0]
    heading, second = place[order + HEADING], place[min(1, order - 1)]
    two = scattered(word + previous * ODD)
    hashes[order] = scattered(word + np.uint64(11))
    hashes[order + 1] = scattered(two + np.uint64(13))
    hashes[order + 2] = scattered(two + earlier * MIXER + np.uint64(17))
    hashes[order + 3] = scattered(line * ODD + np.uint64(19))
    hashes[order + 4] = scattered(heading + place[0] * ODD + second * MIXER + np.uint64(23))


@compiled
def slot_of(slots: np.ndarray, key: np.uint64, online: bool) -> int:
    """The slot of a question in a context, -1 where there is none; to learn, one that is or is made empty."""
    check = signed(key >> np.uint64(64 - CHECK_BITS))
    first: int = signed(key & np.uint64(len(slots) - NEIGHBOURS))
    least = first
    for place in range(first, first + NEIGHBOURS):
        if slots[place] == 0:
            return place if online else -1
        if slots[place] & CHECK == check:
            return place
        if (slots[place] >> CHECK_BITS) & COUNT < (slots[least] >> CHECK_BITS) & COUNT:
            least = place
    if not online:
        return -1
    slots[least] = 0
    return least


@compiled
def question(context: np.uint64, node: int) -> np.uint64:
    """The key of a node's question in a context."""
    return scattered((context + np.uint64(node)) * ODD)


@compiled
def consult(state: State, hashes: np.ndarray, node: int, inputs: np.ndarray) -> int:
    """(C,) -> (2 C + 1,) what the contexts say at a node. -> the length of the longest that has been here"""
    longest = 0
    for context in range(len(hashes)):
        place = slot_of(state.slots, question(hashes[context], node), False)
        inputs[2 * context] = inputs[2 * context + 1] = 0.0
        if place < 0:
            continue
        slot = signed(state.slots[place])
        share, count = slot >> SHARE_SHIFT, (slot >> CHECK_BITS) & COUNT
        inputs[2 * context] = state.stretched[share * STEPS // SHARES]
        inputs[2 * context + 1] = (share / SHARES - 0.5) * state.confidence[count]
        if context < state.order:
            longest = context + 1
    inputs[2 * len(hashes)] = BIAS
    return longest


@compiled
def choose(state: State, node: int, longest: int, recent: int, depth: int, chosen: np.ndarray) -> None:
    """Which weight vectors are asked: by how much is known, by the question, by the last token."""
    sets = min(len(state.separators), MOST_SETS)
    chosen[0] = longest
    chosen[1] = state.order + 1 + node % sets
    chosen[2] = state.order + 1 + sets + recent % sets * DEPTHS + min((depth + 1) // 2, DEPTHS - 1)


@compiled
def weigh(weights: np.ndarray, chosen: np.ndarray, inputs: np.ndarray, opinions: np.ndarray) -> None:
    """The chosen vectors' opinions, and behind them what they say together, stretched."""
    opinions[VECTORS] = 0.0
    for place in range(VECTORS):
        stretched = 0.0
        for index in range(len(inputs)):
            stretched += weights[chosen[place], index] * inputs[index]
        stretched = min(max(stretched, -CERTAIN), CERTAIN)
        opinions[place] = 1.0 / (1.0 + np.exp(-stretched))
        opinions[VECTORS] += stretched / VECTORS


@compiled
def cell_of(state: State, said: float, node: int, recent: int) -> tuple[int, int, float]:
    """Where the refinement of what was said lies: its row, its cell, and how far towards the next cell."""
    place = (said / CERTAIN + 1.0) * (CELLS - 1) / 2
    cell = min(int(place), CELLS - 2)
    return (recent * len(state.separators) + node) % len(state.refinements), cell, place - cell


@compiled
def ask(state: State, desk: Desk, step: int, node: int, recent: int, depth: int) -> float:
    """p(bit = 1) at a node, behind a token ``recent``; bounded, so that no token is impossible."""
    inputs, chosen, opinions = desk.inputs[step], desk.chosen[step], desk.opinions[step]
    choose(state, node, consult(state, desk.hashes, node, inputs), recent, depth, chosen)
    weigh(state.weights, chosen, inputs, opinions)
    row, cell, further = cell_of(state, opinions[VECTORS], node, recent)
    refined = state.refinements[row, cell] * (1.0 - further) + state.refinements[row, cell + 1] * further
    said = 1.0 / (1.0 + np.exp(-opinions[VECTORS]))
    return min(max(said * (1.0 - REFINED) + refined * REFINED, LEAST), 1.0 - LEAST)


@compiled
def learn(
    state: State, desk: Desk, step: int, node: int, recent: int, bit: int, rate: float, written: np.ndarray
) -> None:
    """Move weights by what their opinion lacked, and refinement and slots towards the answer."""
    inputs, opinions = desk.inputs[step], desk.opinions[step]
    for place in range(VECTORS):
        error = (bit - opinions[place]) * rate
        for index in range(len(inputs)):
            state.weights[desk.chosen[step, place], index] += error * inputs[index]
    row, cell, further = cell_of(state, opinions[VECTORS], node, recent)
    for beside, nearness in ((cell, 1.0 - further), (cell + 1, further)):
        state.refinements[row, beside] += (bit - state.refinements[row, beside]) * nearness * REFINEMENT_RATE
    for context in desk.hashes:
        answered(state.slots, question(context, node), bit, written)


@compiled
def answered(slots: np.ndarray, key: np.uint64, bit: int, written: np.ndarray) -> None:
    """Move the slot of a question in a context, by less the more answers it has had."""
    place = slot_of(slots, key, True)
    slot = signed(slots[place])
    share, count = slot >> SHARE_SHIFT if slot else SHARES // 2, (slot >> CHECK_BITS) & COUNT
    share += int((bit * (SHARES - 1) - share) / (count + 1.5))
    count = min(count + 1, COUNT_LIMIT)
    slots[place] = share << SHARE_SHIFT | count << CHECK_BITS | signed(key >> np.uint64(64 - CHECK_BITS))
    if len(written):
        written[place // PAGE] = True


@compiled
def run(
    state: State,
    place: np.ndarray,
    tokens: np.ndarray,
    nats: np.ndarray,
    rate: float,
    online: bool,
    restarts: bool,
    written: np.ndarray,
) -> None:
    """(T,) -> (T,) nats, each token scored before any of its bits is learned; moves ``place`` behind the last."""
    desk = new_desk(state.order, state.longest)
    for index, token in enumerate(tokens):
        hash_contexts(place, state.order, desk.hashes)
        recent, start, nats[index] = signed(place[0]), state.path_starts[token], 0.0
        path = state.path_starts[token + 1] - start
        for step in range(path):
            p = ask(state, desk, step, state.path_nodes[start + step], recent, step)
            nats[index] += np.log(p if state.path_bits[start + step] else 1.0 - p)
        if online:
            for step in range(path):
                node, bit = state.path_nodes[start + step], state.path_bits[start + step]
                learn(state, desk, step, node, recent, bit, rate, written)
        if restarts and token == BOUNDARY:
            place[:] = 0
        move(place, state.order, token, state.separators)


@compiled
def probabilities(state: State, place: np.ndarray) -> np.ndarray:
    """(V,) every leaf of the tree, its inner nodes asked from the root down; nothing is learned."""
    desk = new_desk(state.order, 1)
    hash_contexts(place, state.order, desk.hashes)
    leaves, reached = np.ones(len(state.separators)), np.ones(len(state.children))
    depths = np.zeros(len(state.children), np.int64)
    for node in range(len(state.children)):
        p = ask(state, desk, 0, node, signed(place[0]), depths[node])
        for bit, share in enumerate((1.0 - p, p)):
            child = state.children[node, bit]
            if child < 0:
                leaves[~child] = reached[node] * share
            else:
                reached[child], depths[child] = reached[node] * share, depths[node] + 1
    return leaves


def halves(frequencies: np.ndarray) -> np.ndarray:
    """(V,) -> the children (V - 1, 2) of the inner nodes from the root, 0, down; ~token is a leaf.

    Each frequency counts once more, so that there is a path of bounded length to every token.
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
    """Where each token's path starts (V + 1,), and the nodes and bits of all paths end to end."""
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
    kinds = np.where((followed >= FOLLOWED * frequencies) & (frequencies > 0), OTHER, 0)
    kinds[blank], kinds[BOUNDARY] = BLANK, OTHER
    return kinds


class ContextMixingModel(SequentialModel):
    """Slots and weights; its parameters are the slots in use, the weights and the refinements."""

    config: ContextMixing
    large = "slots"

    def prepare(self, train: Documents) -> None:
        """Slots enough for the text, a tree of its frequencies, weights that all count alike."""
        order, sets = self.config.order, min(self.vocab_size, MOST_SETS)
        refined = 1.0 / (1.0 + np.exp(-np.linspace(-CERTAIN, CERTAIN, CELLS)))
        rows = min(self.vocab_size * (self.vocab_size + 1), MOST_REFINED)
        shape = (order + 1 + sets * (1 + DEPTHS), 2 * (order + BESIDES) + 1)
        slots = 1 << (len(train) * (order + BESIDES) + NEIGHBOURS).bit_length()
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
        shares = (np.arange(STEPS) + 0.5) / STEPS
        kept = {name: self.state[name] for name in ("slots", "weights", "refinements", "separators")}
        starts, nodes, bits = paths(children, self.vocab_size)
        self.mind = State(
            order=self.config.order,
            longest=int(np.diff(starts).max()),
            **kept,
            children=children,
            path_starts=starts,
            path_nodes=nodes,
            path_bits=bits,
            stretched=np.log(shares / (1 - shares)),
            confidence=np.minimum(CONFIDENT, np.log2(1 + np.arange(COUNT + 1))),
        )

    def arrays(self) -> Arrays:
        """The fitted state, of whose slots only those in use: ``occupied`` says by a bit each which they are."""
        arrays = super().arrays()
        occupied = arrays["slots"] > 0
        return {**arrays, "slots": arrays["slots"][occupied], "occupied": np.packbits(occupied)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        occupied = np.unpackbits(arrays["occupied"]).astype(bool)
        slots = np.zeros(len(occupied), dtype=np.uint32)
        slots[occupied] = arrays["slots"]
        kept = {name: array for name, array in arrays.items() if name != "occupied"}
        super().restore({**kept, "slots": slots})

    def begin(self, before: int) -> None:
        """Behind one token, with nothing before it."""
        self.place = np.zeros(self.config.order + MOVING, dtype=np.uint64)
        move(self.place, self.config.order, before, self.mind.separators)

    def study(self, tokens: np.ndarray, done: float) -> None:
        """Learn, at a rate that falls."""
        self._run(tokens, RATE * max(LAST_RATE, 1 - done), True)

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) -> (T,)."""
        return self._run(tokens, RATE * LAST_RATE, self.online)

    def _run(self, tokens: np.ndarray, rate: float, online: bool) -> np.ndarray:
        nats = np.empty(len(tokens))
        run(self.mind, self.place, tokens, nats, rate, online, bool(self.state["restarts"][0]), self.written)
        return nats

    def distribution(self) -> np.ndarray:
        """(V,)."""
        return np.log(probabilities(self.mind, self.place))

    def parameters(self) -> int:
        """Slots in use, weights and refinements."""
        fitted = super().arrays()
        return sum(int(np.count_nonzero(fitted[name])) for name in ("slots", "weights", "refinements"))
