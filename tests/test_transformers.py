"""Checkpoints that the package transformers computes: rows against its own logits, BOS by hand, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lmstages.config.sections import Pretrained
from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.evaluation import checkpoints, scoring
from lmstages.evaluation.sampling import sample

TEXT = (
    "Der Bär naïvely said: „It costs 5 €, isn't it?“ 语言模型\n\tA  grey 🦔 ran over the hill and under the bridge. "
    * 3
)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
ARCHITECTURES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "gpt_neox": SIZES,
    "qwen3": SIZES | GROUPED | {"tie_word_embeddings": True},
    "gemma2": SIZES | GROUPED | {"sliding_window": 16},
    "gemma3_text": SIZES | GROUPED | {"sliding_window": 16},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "mistral": SIZES | GROUPED | {"sliding_window": 16},
    "phi": SIZES,
    "olmo2": SIZES,
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64},
}
SPECIAL = ("<unk>", "<s>", "</s>")


def byte_level():
    """Byte-level BPE as GPT-2 has it, its end of text before the others."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    library.train_from_iterator([TEXT], trainer)
    return library, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


def byte_fallback():
    """BPE as LLaMA and Gemma have it: a sign for spaces, bytes for unknown characters, BOS before every text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    spaces = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    library = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    library.normalizer = normalizers.Sequence(spaces)
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=[*SPECIAL, *bytes_], limit_alphabet=30)
    library.train_from_iterator([TEXT], trainer)
    content = json.loads(library.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # bytes are pieces like any other
    library = Tokenizer.from_str(json.dumps(content))
    library.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return library, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def made(folder, architecture, tokenizer=byte_level, **keys):
    """A checkpoint with random weights, written by transformers."""
    library, special = tokenizer()
    numbers = {f"{name}_id": library.token_to_id(piece) for name, piece in special.items() if name != "unk_token"}
    sizes = {"vocab_size": library.get_vocab_size(), "max_position_embeddings": 64, **ARCHITECTURES[architecture]}
    if architecture in ("gpt2", "mamba", "rwkv"):
        del sizes["max_position_embeddings"]
    config = AutoConfig.for_model(architecture, **{**sizes, "pad_token_id": None, **numbers, **keys})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))  # so that predictions differ from uniform ones
    model.save_pretrained(folder)
    library.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def theirs(folder, rows):
    """transformers' log-probabilities of all tokens after each token of rows, (B, T, V)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor(rows)).logits.log_softmax(-1).double().numpy()


def tokens_of(folder):
    return AutoTokenizer.from_pretrained(folder)(TEXT, add_special_tokens=False)["input_ids"]


def scored(folder, window=16, stride=8, **keys):
    """Our log-probabilities of the text as one document: the tokens, and its scores."""
    loaded = checkpoints.load(Pretrained(path=str(folder), window=window, **keys))
    [(tokens, lengths)] = loaded.tokenizer.encode([TEXT])
    assert lengths.sum() == len(TEXT.encode()) and loaded.tokenizer.decode(tokens.tolist()).lstrip() == TEXT.lstrip()
    documents = Documents(tokens, np.array([0, len(tokens)]))
    windows = scoring.windows_of(documents.starts, "stride", window, stride, 0)
    return scoring.score(loaded.model, documents, windows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_row_is_what_transformers_computes(tmp_path, architecture):
    tokenizer = byte_fallback if architecture in ("gemma2", "gemma3_text", "mistral") else byte_level
    folder = made(tmp_path, architecture, tokenizer)
    x, begin, window, stride = tokens_of(folder), tokenizer()[0].token_to_id(tokenizer()[1]["bos_token"]), 16, 8
    expected = np.empty(len(x))
    for left in range(0, len(x), stride):  # BOS before the document, and each window sees the token before it
        right = min(left + window, len(x))
        row = [begin if left == 0 else x[left - 1], *x[left:right]]
        log_probs = theirs(folder, [row])[0, :-1][np.arange(right - left), x[left:right]]
        first = 0 if left == 0 else window - stride
        expected[left + first : right] = log_probs[first:]
        if right == len(x):
            break
    found = scored(folder, bos="document")
    assert np.abs(found - expected).max() < 1e-4 and np.std(expected) > 0.1
