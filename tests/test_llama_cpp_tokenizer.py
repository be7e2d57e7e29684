"""llama.cpp's tokenizer: its own expected tokens, every byte of a text once, and our reader's tokens for each rule.

The vocabularies are those with which llama.cpp tests itself: tests/llama_cpp.sh brings them.
"""

import random
import unicodedata
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from conftest import LLAMA_CPP

from lmstages.config.sections import Pretrained
from lmstages.core.errors import UserError
from lmstages.evaluation.gguf_checkpoints import read_gguf
from lmstages.models.external import gguf_file
from lmstages.models.external.llama_cpp_client import Client
from lmstages.models.external.llama_cpp_tokenizer import LlamaCppTokenizer
from lmstages.tokenizers import learn
from lmstages.tokenizers.vocabularies import WORDS, from_vocabulary, of_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.needs("llama_cpp")]
OTHERS = ["deepseek-coder", "deepseek-llm", "falcon", "phi-3", "llama-spm"]
OURS = ["gpt-2", "mpt", "llama-bpe", "qwen2", "qwen35", "refact", "starcoder"]
NASTY = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2003", "\u0085", "\x1c", "\u200b", "\u3000", "'s", "'LL", "don't"]
NASTY += ["the", " cat", "Hello", "123456", "１２", "²½Ⅷ", "٣", " 世界", "мир", "ก็", "a\u0301", "👩\u200d👩", "\x00"]
NASTY += ["<|im_start|>", "<s>", "</s>", "<unk>", "<0x41>", "<|endoftext|>", "[PAD151700]", "$_-.,!?"]


def texts_of(seed, count=150):
    """Sequences of nasty parts and of characters that are old enough for every table of Unicode."""
    draws, texts = random.Random(seed), []
    for _ in range(count):
        parts = [draws.choice(NASTY) if draws.random() < 0.7 else any_character(draws) for _ in range(12)]
        texts.append("".join(parts))
    return texts


def any_character(draws):
    character = chr(draws.randrange(0x20, 0x30000))
    return character if unicodedata.category(character) not in ("Cn", "Cs", "Co") else any_character(draws)


def vocabulary(name):
    path = LLAMA_CPP / f"vocabularies/ggml-vocab-{name}.gguf"
    if not path.is_file():
        pytest.skip("llama.cpp's vocabularies are not there: tests/llama_cpp.sh brings them")
    return path


def by_llama_cpp(path):
    return LlamaCppTokenizer(path, Client(path))


def by_our_reader(path):
    """These files hold no matrix, so that their vocabulary size is given here."""
    facts = gguf_file.opened(path).facts
    embedding = SimpleNamespace(shape=(1, len(facts["tokenizer.ggml.tokens"])))
    return from_vocabulary(
        path, gguf_file.vocabulary_of(gguf_file.OpenFile(path, facts, {"token_embd.weight": embedding}))
    )


@pytest.mark.parametrize("name", [*OURS, *OTHERS])
def test_tokens_are_those_that_llama_cpp_expects_and_cover_every_byte(name):
    theirs, path = by_llama_cpp(vocabulary(name)), vocabulary(name)
    *texts, rest = path.with_name(f"{path.name}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    wanted = path.with_name(f"{path.name}.out").read_text().splitlines()
    assert len(texts) == len(wanted) > 40 and not rest
    for text, tokens in zip(texts, wanted, strict=True):
        ours, covered = theirs.encode(text)
        assert ours.tolist() == [int(token) for token in tokens.split()] and covered.sum() == len(text.encode()), text
        assert theirs.decode(ours.tolist()) in (text, f" {text}")


@pytest.mark.parametrize("name", ["gpt-2", "mpt", "qwen2", "starcoder"])
def test_our_reader_cuts_nasty_text_as_llama_cpp_token_by_token(name):
    ours, theirs = by_our_reader(vocabulary(name)), by_llama_cpp(vocabulary(name))
    for text in texts_of(0):
        assert [part.tolist() for part in ours.encode(text)] == [part.tolist() for part in theirs.encode(text)], text


@pytest.mark.parametrize("name", ["llama-spm", "phi-3", "deepseek-llm"])
def test_other_vocabularies_cover_nasty_text_and_read_no_special_token_in_it(name):
    theirs = by_llama_cpp(vocabulary(name))
    for text in texts_of(1):
        tokens, covered = theirs.encode(text)
        assert covered.sum() == len(text.encode()) and not (theirs.attributes[tokens] & 8).any(), text
        assert theirs.decode(tokens.tolist()) in (text, f" {text}")


def written(path, kind, pieces, types, merges=(), scores=None, **facts):
    """A GGUF file of a vocabulary and a matrix, as llama.cpp loads its vocabulary alone."""
    writer = gguf.GGUFWriter(str(path), "llama")
    for name in ("context_length", "block_count", "embedding_length", "head_count", "feed_forward_length"):
        getattr(writer, f"add_{name}")(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(kind)
    writer.add_token_list(pieces)
    writer.add_token_types(types)
    writer.add_token_merges(list(merges)) if merges else writer.add_token_scores(scores or [0.0] * len(pieces))
    for name, value in {"bos_token_id": 0, "eos_token_id": 0, **facts}.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_tensor("token_embd.weight", np.zeros((len(pieces), 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


TEXTS = ["the cat sat on the mat, didn't it? 1234 cats'll", "naïve cafés cost 20 €, SHE'LL pay\n\n  twice"] * 20


def test_every_rule_that_our_reader_knows_is_llama_cpps_rule_of_that_name(tmp_path):
    learnt = of_tokenizer(learn("bpe", 310, iter(TEXTS), False, False, True).to_json())
    differing = set()
    for name in WORDS:
        arguments = ("gpt2", list(learnt.pieces), list(learnt.types), list(learnt.merges))
        path = written(tmp_path / f"{name}.gguf", *arguments, tokenizer_pre=name)
        ours, theirs = from_vocabulary(path, gguf_file.vocabulary_of(gguf_file.opened(path))), by_llama_cpp(path)
        cut = [
            [tokenizer.encode(text)[0].tolist() for text in [*TEXTS[:2], *texts_of(2, 30)]]
            for tokenizer in (ours, theirs)
        ]
        differing |= {name} if cut[0] != cut[1] else set()
    assert differing == {"default"}  # llama.cpp's guess for files that name no rule; ours is GPT-2's


def sentencepiece(path, *pieces, **facts):
    """Bytes, single letters, and ``pieces`` (text, type); the end of text is a control token."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = ["\u2581", *"abcdefgh<|>us"]
    texts, types = zip(*pieces, strict=True) if pieces else ((), ())
    listed = ["</s>", "<unk>", *bytes_, *letters, *texts]
    return written(path, "llama", listed, [3, 2, *[6] * 256, *[1] * len(letters), *types], unk_token_id=1, **facts)


def test_spaces_that_the_tokenizer_adds_cover_no_byte_wherever_they_are_added(tmp_path):
    theirs = by_llama_cpp(sentencepiece(tmp_path / "m.gguf", ("<|user|>", 4), add_space_prefix=True))
    for text in ["a<|user|>b", "<|user|> b", " <|user|>\u00e4 <|user|>", "ab  ", ""]:
        tokens, covered = theirs.encode(text)
        assert covered.sum() == len(text.encode()) and theirs.decode(tokens.tolist()) in (text, f" {text}"), text
    tokens, covered = theirs.encode("a<|user|>b")
    assert [theirs.spelling[token] for token in tokens] == [b" ", b"a", b"<|user|>", b" ", b"b"]
    assert covered.tolist() == [0, 1, 8, 0, 1]


def test_what_a_vocabulary_loses_is_refused_with_the_place(tmp_path):
    theirs = by_llama_cpp(sentencepiece(tmp_path / "m.gguf"))
    with pytest.raises(UserError, match=r"decoding changes the text: '\u2581 b' becomes '  b'"):
        theirs.encode("a\u2581 b")


def test_a_byte_that_a_vocabulary_lacks_is_refused_though_llama_cpp_drops_it():
    with pytest.raises(UserError, match=r"decoding changes the text: '.x1c1' becomes '1'"):
        by_llama_cpp(vocabulary("falcon")).encode("a \x1c1")


def test_a_text_that_would_become_a_control_token_is_refused(tmp_path):
    theirs = by_llama_cpp(sentencepiece(tmp_path / "m.gguf", ("s>", 1), ("<s>", 3), add_space_prefix=False))
    with pytest.raises(UserError, match=r"reads 'a<s>' as the special token '<s>'; bits per byte refer to the exact"):
        theirs.encode("a<s>")


def test_a_character_that_a_vocabulary_lacks_is_one_line_though_llama_cpp_crashes(tmp_path):
    pieces = ["</s>", "<unk>", "\u2581", "a"]
    path = written(tmp_path / "m.gguf", "llama", pieces, [3, 2, 1, 1], unk_token_id=1, add_space_prefix=False)
    theirs = by_llama_cpp(path)
    assert theirs.encode("a a")[0].tolist() == [3, 2, 3]
    with pytest.raises(
        UserError, match=r"m.gguf: its tokenizer fails on the text 'a€' \(llama.cpp crashed by SIGABRT: "
    ):
        theirs.encode("a€")


def test_long_words_and_long_texts_do_not_exhaust_the_stack():
    theirs = by_llama_cpp(vocabulary("falcon"))
    text = "x" * 200_000 + " 1,000" * 20_000
    assert theirs.encode(text)[1].sum() == len(text)


def test_a_model_that_sees_the_text_behind_a_token_is_refused():
    chosen = Pretrained(gguf=str(vocabulary("bert-bge")), engine="llama.cpp")
    with pytest.raises(UserError, match=r"bert.attention.causal is False; allowed: models that predict the next token"):
        read_gguf(vocabulary("bert-bge"), chosen)


def test_a_rule_that_llama_cpp_does_not_know_is_one_line(tmp_path):
    path = written(tmp_path / "m.gguf", "gpt2", ["</s>", "a", "b"], [3, 1, 1], ["a b"], tokenizer_pre="of-tomorrow")
    with pytest.raises(UserError, match=r"m.gguf: llama.cpp ended with code 1: .*llama.cpp cannot load the file"):
        by_llama_cpp(path)
