"""Comparisons to show: a small one by hand, and a large one with every field that a row may have."""

import math
import random
from typing import Any

HOSTILE = [
    "<script>alert(1)</script>",
    "\"quoted\" 'twice' <img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b[0m \x9b2J",
    "nothing\x00here",
    "left \u202e right \u2066 isolate \u200f \u200b",
    "</style></pre></script><!--",
    "{{7*7}} {% for x in y %}",
    "half a pair \ud800",
]

ROW: dict[str, Any] = {
    "corpus": "fables",
    "split": "test",
    "tokenizer": "char",
    "model": "bigram",
    "type": "bigram",
    "rank": 2,
    "title": "Bigram",
    "adds": "Adds order: what comes next depends on the token before it.",
    "source": "Markov 1913",
    "family": "counts",
    "category": "static",
    "protocol": "stream",
    "seeds": [0],
    "tokens": 1000,
    "characters": 1000,
    "bytes": 1000,
    "perplexity": 8.0,
    "nats_per_character": 2.0794,
    "bits_per_byte": 3.0,
    "bits_per_byte_std": None,
    "excess_bits_per_byte": 2.19,
    "parameters": 4225,
    "tokens_seen": 9000,
    "fit_seconds": 12.34,
    "score_seconds": 0.5,
    "device": "cpu",
    "threads": 1,
    "published": [],
    "samples": [{"temperature": 1.0, "text": "a line\nand another"}],
    "curve": [],
    "curves": [[]],
    "passage": [["T", 3.0], ["h", 0.05], ["e", 0.3], [" ", 0.2], ["fox", 4.5], ["\n", 1.5], ["", 0.7]],
    "hyperparameters": {"add": 0.1},
    "status": "ok",
}
CURVE = [{"step": step, "tokens": step, "train": 4 / step, "valid": 5 / step, "learning_rate": 0.1} for step in (1, 2)]
GPT = ROW | {
    **{"model": "gpt", "type": "gpt", "rank": 7, "title": "GPT", "family": "neural", "seeds": [0, 1], "curve": CURVE},
    **{"bits_per_byte": 1.5, "bits_per_byte_std": 0.01, "perplexity": 2.83, "curves": [CURVE, CURVE]},
}
NUMBERS = [key for key, value in ROW.items() if isinstance(value, int | float) and key != "rank"]
NONE = dict.fromkeys(NUMBERS) | {"passage": [], "samples": []}
FAILED = ROW | NONE | {"model": "lstm", "title": "LSTM", "status": "failed: the loss became NaN"}
ORACLE = {"test": {"bits_per_byte": 0.81, "nats_per_character": 0.56, "expected_bits_per_byte": 0.8}}
OWN = {
    "family": "oracle",
    "category": "oracle",
    "model": "oracle",
    "type": "oracle",
    "title": "Oracle",
    "tokenizer": "-",
}
SOURCE = ROW | NONE | OWN | {"bits_per_byte": 0.81, "rank": 1000, "seeds": [], "hyperparameters": {}}
SIZE = {"family": "compressor", "category": "compressor", "model": "xz", "type": "xz", "tokenizer": "-"}
XZ = ROW | NONE | SIZE | {"title": "xz -9e, alone", "bits_per_byte": 2.2, "seeds": [], "hyperparameters": {}}


def described(oracle: Any) -> dict[str, Any]:
    splits = {name: {"documents": 10, "characters": 1000, "bytes": 1000} for name in ("train", "test")}
    return {"description": "Short fables.", "origin": "embedded", "licence": "CC0", "splits": splits, "oracle": oracle}


def comparison(*rows: dict[str, Any], oracle: Any = ORACLE) -> dict[str, Any]:
    shown = {"rows": list(rows or (ROW, GPT, FAILED)), "published": [], "sweeps": []}
    return {"run": "default", "corpora": {"fables": described(oracle)}, **shown}


SENTENCE = "The fox who lived by the river asked the crane for bread, and the crane gave it none.\n"


def large(corpora: int = 5, configs: int = 40) -> dict[str, Any]:
    """``corpora`` times ``models`` rows with intervals, passages, curves of three seeds, samples at three heats."""
    dice = random.Random(1)
    names = [f"text{place}" for place in range(corpora)]
    rows = [row for name in names for row in [*(_model(name, at, configs, dice) for at in range(configs)), XZ, SOURCE]]
    rows = [{**row, "corpus": names[place // (configs + 2)]} for place, row in enumerate(rows)]
    return {
        "run": "large",
        "corpora": {
            name: {**described(ORACLE), "overlap": {"test": {"13-grams_in_train": 0.0123, "nearest": 0.4}}}
            for name in names
        },
        **{"rows": rows, "published": [], "sweeps": [], "estimation": True},
    }


def _model(corpus: str, at: int, configs: int, dice: random.Random) -> dict[str, Any]:
    bits = 1.0 + 4.0 * math.exp(-4.0 * at / configs) + dice.uniform(-0.1, 0.1)
    neural, name = at > configs // 3, f"model{at}"
    pieces = [[character, dice.expovariate(1.2 / bits)] for character in 6 * SENTENCE][:500]
    told = {"model": name, "type": name, "rank": at, "title": f"Model {at}", "family": "neural" if neural else "counts"}
    below = {"model": f"model{at - 1}", "tokenizer": "char", "difference": -0.1, "interval": [-0.14, -0.06]}
    below |= {"p": 0.001 * at, "p_holm": min(1.0, 0.01 * at), "differs": at < 5}
    return {
        **{**ROW, **told, "corpus": corpus, "bits_per_byte": bits, "interval": [bits - 0.05, bits + 0.06]},
        **{"bits_per_byte_std": 0.01 if neural else None, "parameters": int(10 ** dice.uniform(3, 7))},
        **{"flops": 10 ** dice.uniform(6, 14), "fit_seconds": 10 ** dice.uniform(-2, 3), "passage": pieces},
        **{"curves": [_learned(bits, seed) for seed in range(3)] if neural else [[]]},
        **{"curve": _learned(bits, 0) if neural else [], "below": below if at else None},
        **{"seeds": [0, 1, 2] if neural else [0], "samples": _samples()},
        **{"by_position": [_bin(at, bits) for at in range(8)]},
        **{"unseen": {"share_bytes": 0.02, "bits_per_byte": 3.1}},
        **{
            "provenance": {
                "command": f"python -m lmstages fit --out results/large/{corpus}",
                "code": "0123456789abcdef",
            }
        },
        **{
            "hyperparameters": {"width": 64, "layers": 2, "learning_rate": 0.001},
            "flag": "loss above guessing" if at == 3 else None,
        },
    }


def _learned(bits: float, seed: int) -> list[dict[str, Any]]:
    losses = [(step, bits + 3 * math.exp(-step / 600) + 0.03 * seed) for step in range(0, 5001, 200)]
    return [
        {"step": step, "tokens": step, "train": loss - 0.1, "valid": loss, "learning_rate": 0.1}
        for step, loss in losses
    ]


def _samples() -> list[dict[str, Any]]:
    return [{"temperature": heat, "text": 4 * SENTENCE[:75]} for heat in (0.5, 1.0, 1.5) for _ in range(5)]


def _bin(at: int, bits: float) -> dict[str, Any]:
    return {"from": 2**at - 1, "to": 2 ** (at + 1) - 1, "bits_per_byte": bits + 1.5 / (at + 1), "bytes": 100}
