"""Tokenizers made elsewhere: their own numbers, every byte once, what they change is refused."""

import base64
import json

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lmstages.config.jobs import Run
from lmstages.config.reading import read_run
from lmstages.config.sections import Tokenizer
from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.tokenizers import PretrainedTokenizer, from_json
from lmstages.tokenizers.pretrained import RULES, made_elsewhere

LINES = ["the cat sat on the mat", "the cat ate the rat, the rat ran", "naïve cafés in 1999 don't\n", "  a  b\t c "]
ODD = "naïve \u2028\x0b\x85\n\n語🙂 e\u0301 <|endoftext|> <s> </s> \x01\u200b\ufeff\ufffd DON'T 12345"
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
END = "<|endoftext|>"


def byte_level(specials=(END,), normalizer=None):
    """A definition as GPT-2's: byte pairs, and an end of text behind them."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    if normalizer is not None:
        library.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    library.add_special_tokens(list(specials))
    return library


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """tokenizer.json, a SentencePiece model and ranks of tiktoken."""
    folder = tmp_path_factory.mktemp("tokenizers")
    byte_level().save(str(folder / "gpt.json"))
    byte_level(()).save(str(folder / "endless.json"))
    byte_level(normalizer=normalizers.Lowercase()).save(str(folder / "lower.json"))
    for name, normalization in (("plain", "identity"), ("nfkc", "nmt_nfkc")):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES * 5),
            model_prefix=str(folder / name),
            model_type="bpe",
            vocab_size=310,
            byte_fallback=True,
            normalization_rule_name=normalization,
            remove_extra_whitespaces=False,
            num_threads=1,
            minloglevel=3,
            hard_vocab_limit=False,
        )
    pieces = [*(bytes([byte]) for byte in range(256)), b"th", b"the", b" c", b" ca", b"at"]
    lines = (f"{base64.b64encode(piece).decode()} {rank}\n" for rank, piece in enumerate(pieces))
    (folder / "cl100k_base.tiktoken").write_text("".join(lines))
    return folder


FILES = ("gpt.json", "endless.json", "plain.model", "cl100k_base.tiktoken")


def read(path, boundary_text=""):
    return PretrainedTokenizer.read(path, None, boundary_text)


@pytest.fixture(scope="module")
def own(folder):
    return {name: read(folder / name) for name in FILES}


# Laws


@pytest.mark.parametrize("name", FILES)
@given(texts=st.lists(TEXT, min_size=1, max_size=3))
def test_the_tokens_cover_every_byte_and_give_the_text_back(own, name, texts):
    for text, (tokens, lengths) in zip(texts, own[name].encode(texts), strict=True):
        assert lengths.sum() == len(text.encode()) and ((tokens > 0) & (tokens < own[name].vocab_size)).all()
        assert own[name].decode(tokens.tolist()) in (text, f" {text}")


@pytest.mark.parametrize("name", FILES)
def test_an_end_of_text_that_is_spelled_out_is_text(own, name):
    [(tokens, _)] = own[name].encode([ODD])
    assert BOUNDARY not in tokens and own[name].decode(tokens.tolist()) in (ODD, f" {ODD}")
    assert own[name].decode([BOUNDARY]) == "" and own[name].escape is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("boundary_text", ["", "\n"])
def test_a_saved_tokenizer_is_the_same_without_its_file(folder, name, boundary_text):
    tokenizer = read(folder / name, boundary_text)
    restored = from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert restored.to_json() == tokenizer.to_json() and restored.vocab_size == tokenizer.vocab_size
    for before, after in zip(tokenizer.encode([*LINES, ODD]), restored.encode([*LINES, ODD]), strict=True):
        tokens = [*before[0].tolist(), BOUNDARY]
        assert np.array_equal(before, after) and restored.decode(tokens) == tokenizer.decode(tokens)
    assert tokenizer.decode([BOUNDARY]) == boundary_text


# Their numbers


def test_the_tokens_are_the_librarys_but_for_the_end_of_text_and_token_0(folder, own):
    library = Library.from_file(str(folder / "gpt.json"))
    end = library.token_to_id(END)
    theirs = library.encode(LINES[1]).ids
    assert own["gpt.json"].vocab_size == library.get_vocab_size() == end + 1
    assert own["gpt.json"].encode([LINES[1]])[0][0].tolist() == [{0: end, end: 0}.get(token, token) for token in theirs]


def test_a_definition_without_an_end_of_text_gets_one_more_token(folder, own):
    library = Library.from_file(str(folder / "endless.json"))
    assert own["endless.json"].vocab_size == library.get_vocab_size() + 1


def test_the_tokens_of_sentencepiece_are_its_own(folder, own):
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / "plain.model"))
    end, theirs = library.eos_id(), library.encode(LINES[0])
    assert own["plain.model"].encode([LINES[0]])[0][0].tolist() == [{0: end, end: 0}.get(n, n) for n in theirs]


def test_the_tokens_of_tiktoken_are_its_own(own):
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {piece: rank for rank, piece in enumerate(own["cl100k_base.tiktoken"].own.spelling) if piece}
    library = tiktoken.Encoding("x", pat_str=RULES["cl100k_base"], mergeable_ranks=ranks, special_tokens={})
    theirs = library.encode_ordinary(LINES[0])
    end = len(ranks)
    assert own["cl100k_base.tiktoken"].encode([LINES[0]])[0][0].tolist() == [{0: end}.get(n, n) for n in theirs]
    assert 257 in theirs  # the


def test_the_rules_for_words_are_those_that_tiktoken_publishes(monkeypatch):
    public = pytest.importorskip("tiktoken_ext.openai_public")
    for loader in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
        monkeypatch.setattr(public, loader, lambda *_, **__: {})
    assert {name: public.ENCODING_CONSTRUCTORS[name]()["pat_str"] for name in RULES} == RULES


def test_files_beside_a_definition_say_which_token_ends_a_text(folder, tmp_path):
    byte_level((END, "<stop>")).save(str(tmp_path / "tokenizer.json"))
    assert read(tmp_path).own.end == Library.from_file(str(tmp_path / "tokenizer.json")).token_to_id(END)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<stop>"}')
    tokenizer = read(tmp_path)
    assert tokenizer.own.spelling[tokenizer.own.end] == b"<stop>"
    assert from_json(tokenizer.to_json()).to_json() == tokenizer.to_json()


def test_gpt_2_s_end_of_text_may_also_be_its_unknown_token(tmp_path):
    byte_level().save(str(tmp_path / "gpt2.json"))
    definition = json.loads((tmp_path / "gpt2.json").read_text())
    definition["model"]["unk_token"] = END
    (tmp_path / "gpt2.json").write_text(json.dumps(definition))
    assert read(tmp_path / "gpt2.json").own.spelling[-1] == END.encode()


# What is refused


def test_a_tokenizer_that_lowers_letters_refuses_text_with_capitals_and_shows_the_place(folder):
    tokenizer = read(folder / "lower.json")
    assert tokenizer.decode(tokenizer.encode(["the cat"])[0][0].tolist()) == "the cat"
    with pytest.raises(UserError, match=r"its normalizer \(Lowercase\) changes the text: 'Cat' becomes 'cat'"):
        tokenizer.encode(["the Cat"])


def test_a_tokenizer_that_normalises_refuses_the_characters_that_it_replaces(folder):
    with pytest.raises(UserError, match=r"nfkc\.model: its normalizer .* changes the text: .*becomes"):
        read(folder / "nfkc.model").encode(["the ﬁsh"])


def test_unknown_characters_without_byte_fallback_are_refused(tmp_path):
    options = {"model_type": "unigram", "vocab_size": 30, "minloglevel": 3, "hard_vocab_limit": False}
    prefix = str(tmp_path / "plain")
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["the cat"] * 9), model_prefix=prefix, **options)
    with pytest.raises(UserError, match=r"plain\.model: decoding changes the text"):
        read(tmp_path / "plain.model").encode(["the 語"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "a.json: no definition of a tokenizer"),
        ("a.json", b'{"model": {"vocab": {}}}', "no definition of a tokenizer"),
        ("a.json", b'{"model": {"vocab": {"a": 0}}, "added_tokens": 3}', "no definition of a tokenizer"),
        ("a.json", b"\xff", "is no text in UTF-8"),
        ("a.model", b"{}", "no SentencePiece model"),
        ("a.txt", b"", "is no file of a tokenizer by its name; allowed: a folder, or a file that ends in .json"),
        ("a.tiktoken", b"YQ== 0\n", "does not say of which encoding its ranks are .'a'.; known: gpt2"),
        ("gpt2.tiktoken", b"YQ== 0\nx\n", "line 2 is no rank; a line is base64, a space and a number"),
        ("gpt2.tiktoken", b"YQ== 0\nYg== 0\n", "its ranks are not numbers from 0 on"),
        ("gpt2.tiktoken", b"YQ== 0\n", "has no rank for the byte 0; every byte has one"),
        ("gpt2.tiktoken", b"", "its ranks are not numbers from 0 on"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_vocabulary_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"has no vocabulary; allowed: tokenizer.json or tokenizer.model"):
        read(tmp_path)


# Of a config


def test_a_tokenizer_of_the_hub_is_read_from_a_mirror(tmp_path):
    (tmp_path / "somebody" / "tok").mkdir(parents=True)
    byte_level().save(str(tmp_path / "somebody" / "tok" / "tokenizer.json"))
    record = Tokenizer(kind="pretrained", hub="somebody/tok", revision="0" * 40)
    assert made_elsewhere(record, False, str(tmp_path)).vocab_size == byte_level().get_vocab_size()
    with pytest.raises(UserError, match=r"no such folder; a mirror holds somebody/tok/; copy the repository there"):
        made_elsewhere(record, False, str(tmp_path / "elsewhere"))


def test_an_encoding_without_network_names_the_remedy(monkeypatch):
    public = pytest.importorskip("tiktoken_ext.openai_public")

    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(public, "load_tiktoken_bpe", offline)
    record = Tokenizer(kind="pretrained", tiktoken="cl100k_base")
    with pytest.raises(
        UserError, match=r"cannot be downloaded .*no route to host.; without network give its file, .tiktoken"
    ):
        made_elsewhere(record, False, None)


def test_the_ranks_of_an_encoding_may_lie_in_any_file(folder, tmp_path):
    (tmp_path / "ranks").write_bytes((folder / "cl100k_base.tiktoken").read_bytes())
    record = Tokenizer(kind="pretrained", tiktoken="cl100k_base", path=str(tmp_path / "ranks"))
    assert made_elsewhere(record, True, None).decode([BOUNDARY]) == "\n"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "pretrained"}, "needs one of path, tiktoken and hub"),
        ({"kind": "pretrained", "path": "a", "hub": "b", "revision": "0" * 40}, "needs one of path, tiktoken and hub"),
        ({"kind": "pretrained", "hub": "b"}, "hub and revision belong together"),
        ({"kind": "char", "path": "a"}, "belong to kind pretrained"),
        ({"kind": "pretrained", "path": "a", "vocab_size": 300}, "vocab_size belongs to kinds"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer.model_validate(keys)


def test_tokenizers_made_elsewhere_are_swept_and_missed_where_they_are_not(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    paths = list(FILES[:2])
    content = {
        "corpora": {"coined": None},
        "models": {"bigram": None},
        "tokenizers": {"theirs": {"kind": "pretrained", "path": {"sweep": paths}}},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(content))
    run = read_run(tmp_path / "c.yaml")
    assert [json.loads(run.tokenize_section(name))["path"] for name in run.tokenizers] == paths
    content["tokenizers"]["theirs"]["path"] = "gone.json"
    (tmp_path / "c.yaml").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"tokenizers\.theirs\.path: 'gone\.json' no such file"):
        read_run(tmp_path / "c.yaml")


def test_a_section_of_another_kind_has_no_keys_of_those_made_elsewhere():
    run = Run.model_construct(tokenizers={"char": Tokenizer(kind="char")})
    assert json.loads(run.tokenize_section("char")) == {"alphabet": "train", "kind": "char", "vocab_size": None}
