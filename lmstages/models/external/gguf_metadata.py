"""Rules for a GGUF file's header: every key that changes what a LLaMA computes is obeyed or refused by its full name.

``gguf_file`` obeys OBEYED; HARMLESS changes nothing; every other key of the architecture or of the vocabulary must have
a value that switches it off. So a key that is invented tomorrow is refused until somebody has read what it means.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lmstages.core.errors import UnsupportedError, UserError, shortened

LLAMA, VOCABULARY = "llama.", "tokenizer.ggml."
OBEYED = {
    *(LLAMA + key for key in ("block_count", "embedding_length", "feed_forward_length", "context_length")),
    *(LLAMA + key for key in ("attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon")),
    *(LLAMA + key for key in ("rope.freq_base", "rope.dimension_count", "vocab_size")),
    *(LLAMA + key for key in ("attention.key_length", "attention.value_length")),
    *(VOCABULARY + key for key in ("model", "pre", "tokens", "token_type", "scores", "merges", "add_space_prefix")),
    *(VOCABULARY + key for key in ("bos_token_id", "eos_token_id", "unknown_token_id")),
}
PARTS = ("split.no", "split.count", "split.tensors.count")
READ_FIRST = ("general.architecture", "general.alignment", "general.type", "general.quantization_version")
HARMLESS = re.compile(  # without scaling, the original length of the context has no effect; our rows end where we say
    r"llama\.rope\.scaling\.(original_context_length|finetuned)"
    r"|tokenizer\.ggml\.(eot|eom|padding|seperator|separator|mask|cls|prefix|suffix|middle)_token_id"
    r"|tokenizer\.ggml\.fim_(pre|suf|mid|pad|rep|sep)_token_id"
    r"|tokenizer\.ggml\.(add_(bos|eos|sep)_token|token_type_count|eog_token_ids)"
)
OFF: dict[str, tuple[Any, ...]] = {  # values under which a key changes nothing; of all others OFF_ELSEWHERE
    LLAMA + "attention.causal": (True,),
    LLAMA + "tensor_data_layout": ("Meta AI original pth",),  # the order of rows of every GGUF file of a LLaMA
    LLAMA + "rope.scaling.type": ("none",),
    **{LLAMA + f"rope.{key}": (0, 1) for key in ("scale_linear", "scaling.factor", "scaling.attn_factor")},
    **{LLAMA + key: (0, 1) for key in ("logit_scale", "residual_scale", "embedding_scale")},
}
OFF_ELSEWHERE: tuple[Any, ...] = (0, False, "", "none", [])


def must_be_part(path: Path, facts: Mapping[str, Any], number: int, count: int) -> None:
    """Raises UserError where a file says that it is another part of its model than its name says, or no model at all.

    ``number`` counts from 1; a model in one file is part 1 of 1.
    """
    said = facts.get("split.count", 1), facts.get("split.no", 0)
    if said != (count, number - 1):
        problem = f"its metadata say part {_following(said[1])} of {said[0]}, its name part {number} of {count}"
        remedy = "give it the name that it was split under, such as MODEL-00001-of-00003.gguf, beside the others"
        raise UserError(path, problem, "", remedy)
    if (content := facts.get("general.type", "model")) != "model":
        raise UserError(
            path, f"its metadata general.type is {content!r}", "allowed: 'model'", "merge it into its model"
        )


def must_have_all_tensors(path: Path, facts: Mapping[str, Any], tensors: int) -> None:
    """Raises UserError where the files of a model hold more or fewer tensors than its metadata say."""
    if facts.get("split.tensors.count", tensors) != tensors:
        problem = f"has {tensors} tensors, its metadata split.tensors.count says {facts['split.tensors.count']}"
        raise UserError(path, problem, "", "fetch it again and compare its sha256")


def _following(number: Any) -> Any:
    return number + 1 if isinstance(number, int) else number


def must_be_known(path: Path, facts: Mapping[str, Any], namespace: str) -> None:
    """Raises UserError for a key in ``namespace`` that changes what is computed and that nobody here obeys."""
    for key, value in facts.items():
        if not key.startswith(namespace) or key in OBEYED or HARMLESS.fullmatch(key):
            continue
        allowed = OFF.get(key, OFF_ELSEWHERE)
        if value not in allowed:
            problem, remedy = f"its metadata {key} is {shortened(value)}", "use engine: llama.cpp, which may obey it"
            raise UnsupportedError(path, problem, f"allowed: {_listed(allowed)}", remedy)
        if key not in OFF:
            _must_be_far_from_known(path, key)


def must_be_causal(path: Path, facts: Mapping[str, Any], architecture: str) -> None:
    """Raises UserError for a model whose predictions see the text behind them, such as BERT."""
    if facts.get(f"{architecture}.attention.causal", True) is not True:
        problem = f"its metadata {architecture}.attention.causal is {facts[f'{architecture}.attention.causal']}"
        raise UserError(path, problem, "allowed: models that predict the next token")


def must_not_be_misspelt(path: Path, facts: Mapping[str, Any]) -> None:
    """Raises UserError for a key outside the namespaces that nearly is one that is obeyed: a damaged file has it."""
    namespaces = (LLAMA, VOCABULARY, f"{facts.get('general.architecture')}.")
    for key in facts:
        if not key.isprintable():
            raise UserError(path, f"its metadata {key!a} is no key", "", "fetch it again and compare its sha256")
        if not key.startswith(namespaces):
            _must_be_far_from_known(path, key)


def _must_be_far_from_known(path: Path, key: str) -> None:
    known = [*OBEYED, *PARTS, *READ_FIRST]
    if key not in known and (nearest := get_close_matches(key, known, n=1, cutoff=0.9)):
        remedy = "fetch the file again and compare its sha256"
        raise UserError(path, f"its metadata {key!r} is no key (did you mean {nearest[0]!r}?)", "", remedy)


def must_agree(path: Path, facts: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises UserError where a key that repeats what others say says something else."""
    for key, value in expected.items():
        if facts.get(LLAMA + key, value) != value:
            problem = f"its metadata {LLAMA + key} is {shortened(facts[LLAMA + key])}"
            raise UserError(path, problem, f"allowed: {value}, as its other metadata and tensors say")


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(repr(value) for value in values)
