"""Scores made elsewhere: every form is read alike, and every mistake is named in the words of whoever made it."""

import bz2
import gzip
import json
import lzma
import math
import os
import random
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from fuzzing import at_most, damaged, outcome
from pyarrow import parquet

from lmstages.cli import main
from lmstages.core.errors import UserError
from lmstages.corpora import splits
from lmstages.evaluation.held_out import HeldOut
from lmstages.evaluation.reported import audited
from lmstages.results import explaining
from lmstages.tokenizers.subwords import byte_alphabet

MADE = {"command": "test"}
DAMAGES = int(os.environ.get("FUZZ_SCORES", "100"))  # of a file in each form
PROSE = (
    "the cat sat on the mat, and the dog sat by the door. nobody said a word until the rain had ended and the lamp went"
    " out; then all of them spoke at once about quite different things.\n"
)
SPELLING = {byte: character for character, byte in byte_alphabet().items()}


def write_text(folder, text, layout="stream"):
    """A text as the test split of a corpus."""
    content = text.encode()
    pieces = content.splitlines(keepends=True) if layout == "lines" else [content]
    terminators = np.array([piece.endswith(b"\n") for piece in pieces]) * (layout == "lines")
    splits.write(folder, "test", iter(pieces), terminators.astype(float), layout == "stream", MADE)
    return folder


@pytest.fixture
def audit(tmp_path):
    """A function: a text and the lines or bytes of a file -> what the audit says."""

    def run(text, content, layout="stream", unit="nats", name="mine"):
        folder = write_text(tmp_path / "text", text, layout)
        lines = content if isinstance(content, bytes) else "".join(f"{line}\n" for line in content).encode()
        (tmp_path / name).write_bytes(lines)
        with HeldOut.open(folder, "test", "test.txt") as held_out:
            return audited(tmp_path / name, held_out, unit)

    return run


@pytest.fixture
def refusal(audit, tmp_path):
    """A function: the same -> the message of its error, without the folder."""

    def run(*arguments, **named):
        with pytest.raises(UserError) as caught:
            audit(*arguments, **named)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return run


def span(start, end, log_prob=-1.0, **keys):
    return json.dumps({**keys, "start_byte": start, "end_byte": end, "log_prob": log_prob})


def tokens_of(text, size=4):
    """A text in tokens of so many characters."""
    return [text[begin : begin + size] for begin in range(0, len(text), size)]


def spans_of(tokens, length=lambda token: len(token.encode()), begin=0, log_prob=-1.0, **keys):
    """Lines of JSON for tokens that follow one another, each as long as ``length`` says."""
    lines = []
    for token in tokens:
        lines.append(span(begin, begin + length(token), log_prob, **keys))
        begin += length(token)
    return lines


def random_letters(count):
    return "".join(random.Random(0).choices("abcdefghij", k=count))


def columns_of(tokens):
    return ["{}\t-1.5".format(token.replace("\n", "\\n")) for token in tokens]


# ---------------------------------------------------------------- what is right


def test_spans_become_scores_of_the_text(audit):
    scores = audit("abcd", [span(0, 1, -0.5), span(1, 4, -2.0)]).scores
    assert scores.log_probs.tolist() == [-0.5, -2.0] and scores.lengths.tolist() == [1, 3]
    assert scores.documents.tolist() == [0, 0] and (scores.characters, scores.skipped) == (4, 0)


@pytest.mark.parametrize(("unit", "nats"), [("nats", 1.0), ("bits", math.log(2)), ("log10", math.log(10))])
def test_every_unit_becomes_nats(audit, unit, nats):
    assert audit("abcd", [span(0, 4, -3.0)], unit=unit).scores.log_probs.tolist() == [-3.0 * nats]


def test_the_file_may_state_its_unit_and_its_text(audit, tmp_path):
    sha256 = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"  # of abcd, by sha256sum
    result = audit("abcd", [json.dumps({"unit": "bits", "text_sha256": sha256, "by": "me"}), span(0, 4, -1)], unit=None)
    assert result.unit == "bits" and result.scores.log_probs.tolist() == [-math.log(2)]


def test_two_columns_follow_the_text(audit):
    lines = ["the\t-1.5", " cat\t-2", "\\n\t-0.25", "a\\\\n\t-1", "\\t\t-1", "\\xc3\t-3", "\\xa9\t-1", "\t-0.5"]
    scores = audit("the cat\na\\n\té", lines).scores
    assert scores.lengths.tolist() == [3, 4, 1, 3, 1, 1, 1, 0]
    assert scores.log_probs.tolist() == [-1.5, -2, -0.25, -1, -1, -3, -1, -0.5]


def test_what_looks_like_an_escape_is_the_text_itself_where_the_text_has_it(audit):
    assert audit("\\n<s>▁Ġ", ["\\n\t-1", "<s>\t-1", "▁\t-1", "Ġ\t-1"]).scores.lengths.tolist() == [2, 3, 3, 2]


def test_a_heading_of_two_columns_is_no_token(audit):
    assert audit("ab", ["token\tlog_prob", "ab\t-1"]).scores.lengths.tolist() == [2]


def test_documents_count_their_own_bytes(audit):
    scores = audit("né\n\nétés\n", documents(), layout="lines").scores
    assert scores.documents.tolist() == [0, 0, 1, 2, 2] and scores.lengths.tolist() == [3, 1, 1, 3, 4]


def documents():
    """né, an empty document and étés, each with its newline."""
    return [
        *(span(0, 3, document=0), span(3, 4, document=0), span(0, 1, document=1)),
        *(span(0, 3, document=2), span(3, 7, document=2)),
    ]


def test_two_columns_give_each_token_its_document(audit):
    scores = audit("né\n\nétés", ["né\t-1", "\\n\t-1", "\\n\t-1", "ét\t-1", "és\t-1", "\t-2"], layout="lines").scores
    assert scores.documents.tolist() == [0, 0, 1, 2, 2, 2] and scores.lengths.tolist() == [3, 1, 1, 3, 3, 0]


def test_parquet_holds_the_same(audit, tmp_path):
    table = pa.table({"start_byte": [0, 1], "end_byte": [1, 4], "log_prob": [-0.5, -math.inf]})
    parquet.write_table(table.replace_schema_metadata({"unit": "bits"}), tmp_path / "made.parquet")
    result = audit("abcd", (tmp_path / "made.parquet").read_bytes(), unit=None)
    assert (result.form, result.unit) == ("parquet", "bits")
    assert result.scores.log_probs.tolist() == [-0.5 * math.log(2), -math.inf]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_packed_files_are_unpacked(audit, pack):
    packed = pack("\n".join(spans_of(tokens_of(PROSE))).encode())
    assert audit(PROSE, packed).scores.lengths.sum() == len(PROSE)


@pytest.mark.parametrize("written", ["-Infinity", '"-inf"'])
def test_probability_zero_is_an_infinite_code_length(audit, written):
    line = f'{{"start_byte": 0, "end_byte": 2, "log_prob": {written}}}'
    assert audit("ab", [line]).scores.log_probs.tolist() == [-math.inf]


def test_windows_line_ends_of_the_file_are_no_part_of_it(audit):
    assert audit("abcd", b'{"unit": "nats"}\r\n' + span(0, 4).encode() + b"\r\n\r\n").scores.lengths.tolist() == [4]
    assert audit("abcd", b"ab\t-1\r\ncd\t-2\r\n").scores.lengths.tolist() == [2, 2]


def test_one_number_for_a_document_is_a_sum_and_stays(audit):
    assert audit(PROSE, [span(0, len(PROSE), -200.0)]).scores.lengths.tolist() == [len(PROSE)]


# ---------------------------------------------------------------- units


def test_a_unit_is_never_guessed(refusal):
    message = refusal("abcd", [span(0, 4)], unit=None)
    assert "mine: does not say in which unit its log-probabilities are; state it: unit: nats" in message


def test_two_units_are_refused(refusal):
    lines = ['{"unit": "bits"}', span(0, 4)]
    assert "states the unit bits, the config or option nats" in refusal("abcd", lines)


def test_an_unknown_unit_is_refused_with_those_there_are(refusal):
    message = refusal("abcd", ['{"unit": "bit"}', span(0, 4)], unit=None)
    assert "unit 'bit' (did you mean 'bits'?); allowed: nats, bits, log10" in message


# ---------------------------------------------------------------- no score file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no scores"),
        (b"\n\n", "holds no scores"),
        (b'{"unit": "nats"}\n', "holds no scores"),
        (b"[1, 2]\n", "line 1 begins a list"),
        (b"the -1.5\n", "line 1 is 'the -1.5'; a JSON object"),
        (b"the -1.5\n", "separate the columns by a TAB"),
        (span(0, 1).encode() + b"\n{", "line 2 is no JSON: '{'"),
        (span(0, 1).encode() + b"\n5\n", "line 2 is 5; a JSON object"),
        (b'{"start_byte": 0, "end_byte": 4, "logprob": -1}', "line 1 lacks log_prob (did you mean 'logprob'?)"),
        (b'{"start_byte": 0.5, "end_byte": 4, "log_prob": -1}', "line 1: start_byte is 0.5; a whole number"),
        (b'{"start_byte": true, "end_byte": 4, "log_prob": -1}', "line 1: start_byte is True; a whole number"),
        (b'{"start_byte": 0, "end_byte": 1e99, "log_prob": -1}', "line 1: end_byte is 1e+99; a whole number"),
        (b'{"start_byte": 0, "end_byte": 4, "log_prob": null}', "line 1: log_prob is None; a number, or -Infinity"),
        (
            b'{"start_byte": 0, "end_byte": 4, "log_prob": NaN}',
            "line 1: log_prob is NaN; a log-probability is at most 0",
        ),
        (b'{"start_byte": -1, "end_byte": 4, "log_prob": -1}', "line 1: start_byte -1, end_byte 4; 0 or more"),
        (b'{"start_byte": 3, "end_byte": 2, "log_prob": -1}', "line 1: start_byte 3, end_byte 2; 0 or more"),
        (b"ab\t-1\ncd\tx\n", "line 2: the last column is 'x'; a number"),
        (b"ab\t-1\ncd\n", "line 2 is 'cd'; a token, a TAB and its log-probability"),
        (b"ab\t-1\ncd\tnan\n", "line 2: log_prob is NaN"),
        (b"%PDF-1.4\n", "is a PDF document by its first bytes; allowed: JSONL, two columns of text, parquet"),
        (b"PAR1 and no more", "is damaged: it cannot be read as parquet ("),
        (gzip.compress(b"abcd\t-1\n", mtime=0)[:-9], "ends before the end of what gzip packed"),
        (gzip.compress(b"abcd\t-1\n", mtime=0)[:10] + b"\xff" * 40, "is damaged: gzip cannot unpack it"),
        (bz2.compress(b"the\t-1\n" * 999)[:50] + b"\0" * 50, "is damaged: bzip2 cannot unpack it"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 50, "is damaged: zstd cannot unpack it"),
        (b"a" * (1 << 19), "line 1 has more than 262,144 bytes"),
    ],
)
def test_what_is_no_score_file_is_named_by_line(refusal, content, message):
    said = refusal("abcd", content)
    assert said.startswith("mine: ") and message in said and "\n" not in said


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with HeldOut.open(write_text(tmp_path / "text", "abcd"), "test") as text:
        for path, message in ((tmp_path / "none", "No such file"), (tmp_path, "is a folder")):
            with pytest.raises(UserError, match=message):
                audited(path, text, "nats")


def test_a_file_of_too_many_bytes_for_its_text_is_stopped_by_a_limit_that_is_said(refusal):
    bomb = gzip.compress(b" \n" * (1 << 20))
    assert "holds more than 1,064,960 bytes, unpacked; at most 4,096 for each byte of the text" in refusal("abcd", bomb)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"start_byte": [0], "end_byte": [4]}, "has no column log_prob"),
        ({"start_byte": [0], "end_byte": [4], "log_prob": ["-1"]}, "column log_prob holds string; allowed: floating"),
        ({"start_byte": [0.0], "end_byte": [4], "log_prob": [-1.0]}, "column start_byte holds double; allowed: whole"),
        ({"start_byte": [0, None], "end_byte": [3, 4], "log_prob": [-1.0, -1]}, "row 2: start_byte is empty"),
        (
            {"start_byte": [0, 3], "end_byte": [3, 4], "log_prob": [-1.0, 1]},
            "row 2: log_prob is 1, a probability above",
        ),
        ({"start_byte": [0, 2], "end_byte": [3, 4], "log_prob": [-1.0, -1]}, "row 2: begins 1 byte before byte 3"),
    ],
)
def test_what_is_no_parquet_of_scores_is_named_by_row(refusal, tmp_path, columns, message):
    parquet.write_table(pa.table(columns), tmp_path / "made.parquet")
    assert message in refusal("abcd", (tmp_path / "made.parquet").read_bytes())


# ---------------------------------------------------------------- numbers that are no log-probabilities


def test_losses_in_place_of_log_probabilities_are_named(refusal):
    message = refusal(PROSE, spans_of(tokens_of(PROSE), log_prob=2.5))
    assert "line 1: log_prob is 2.5, a probability above one; 46 of the 46 numbers here are positive" in message
    assert message.endswith("they are losses (negative log-likelihoods): write them with a minus sign")


def test_probabilities_in_place_of_logarithms_are_named(refusal):
    assert "are they probabilities? write their logarithms" in refusal(PROSE, spans_of(tokens_of(PROSE), log_prob=0.25))


def test_one_probability_above_one_is_named_by_its_line(refusal):
    lines = spans_of(tokens_of(PROSE))
    lines[7] = lines[7].replace("-1.0", "0.5")
    assert "line 8: log_prob is 0.5, a probability above one; a log-probability is at most 0" in refusal(PROSE, lines)


def test_means_over_windows_are_named(refusal):
    text = PROSE * 20
    message = refusal(text, spans_of(tokens_of(text, 1024), log_prob=-3.2))
    assert "a span covers 905 bytes on average and costs 3.2 nats, 0.0051 bits per byte" in message
    assert "the mean of a window's or line's tokens, not their sum" in message
    assert "write each token by itself, or multiply each mean by the number of its tokens" in message


# ---------------------------------------------------------------- bytes that are not those of the text


@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_a_space_of_sentencepiece_counted_as_three_bytes(refusal, layout):
    pieces = [f"▁{word}" for word in PROSE.removesuffix("\n").split(" ")] + ["<0x0A>"]
    message = refusal(PROSE, spans_of(pieces), layout=layout)
    assert "bytes are counted by the spelling of a SentencePiece vocabulary: ▁, its space, counts as three" in message
    assert "a byte token such as <0xE2> as six" in message and "return_offsets_mapping" in message


def test_a_space_of_sentencepiece_without_byte_tokens(refusal):
    text = PROSE.removesuffix("\n")
    message = refusal(text, spans_of([f"▁{word}" for word in text.split(" ")]))
    assert "▁, its space, counts as three; the bytes of the text are counted" in message


def test_byte_tokens_counted_as_six_bytes(refusal):
    tokens = [f"<0x{byte:02X}>" if byte > 127 else chr(byte) for byte in "naïve café".encode()]
    message = refusal("naïve café", spans_of(tokens))
    assert "a byte token such as <0xE2> is counted as the six bytes of its spelling" in message


def test_the_alphabet_of_gpt2_counted_as_it_is_spelled(refusal):
    tokens = tokens_of("".join(SPELLING[byte] for byte in PROSE.encode()))
    message = refusal(PROSE, spans_of(tokens))
    assert "bytes are counted by the spelling of GPT-2's vocabulary: Ġ, its space, counts as two bytes" in message


@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_characters_counted_in_place_of_bytes(refusal, layout):
    text = "déjà vu\nnaïve\n"
    lines = text.splitlines(keepends=True) if layout == "lines" else [text]
    spans = [line for n, part in enumerate(lines) for line in spans_of(tokens_of(part), len, document=n)]
    message = refusal(text, spans, layout=layout)
    assert "start_byte and end_byte count characters" in message and "len(text[:offset].encode())" in message


def test_offsets_of_the_whole_text_in_place_of_the_document(refusal):
    text = "one\ntwo two\nthree\n"
    starts = {0: 0, 1: 4, 2: 12}
    lines = [
        line
        for n, part in enumerate(text.splitlines(keepends=True))
        for line in spans_of([part[:2], part[2:]], begin=starts[n], document=n)
    ]
    message = refusal(text, lines, layout="lines")
    assert "start_byte counts from the beginning of the whole text: document 1 begins at 4" in message
    assert message.endswith("subtract where the document begins in the text")


def test_one_document_in_place_of_many(refusal):
    text = "one\ntwo two\nthree\n"
    message = refusal(text, spans_of(tokens_of(text)), layout="lines")
    assert "all spans are of document 0, up to byte 18, which has 4; the text has 3 documents" in message


def test_many_documents_of_a_text_that_is_one(refusal):
    message = refusal("one\ntwo\n", [span(0, 4, document=0), span(0, 4, document=1)])
    assert "line 2: document 1; the text is read as one document, 0; say how the text separates" in message


def test_documents_counted_from_one(refusal):
    message = refusal("one\ntwo\n", [span(0, 4, document=1), span(0, 4, document=2)], layout="lines")
    assert "line 2: document 2; the text has the documents 0 to 1; count documents from 0" in message


def test_a_copy_of_the_text_with_other_line_ends(refusal):
    text = "one line\nand another one\nand the last line\n"
    message = refusal(text, spans_of(tokens_of(text.replace("\n", "\r\n"), 3)))
    assert "the scores are of a copy with line ends of two bytes (CRLF)" in message
    message = refusal(text.replace("\n", "\r\n"), spans_of(tokens_of(text, 3)))
    assert "the scores are of a copy with line ends of one byte; the text has CRLF" in message


def test_another_text_is_known_by_its_hash(refusal):
    message = refusal("abcd", ['{"text_sha256": "00ff"}', span(0, 4)])
    assert "states scores of a text with sha256 '00ff'; test.txt has 88d4266fd4e6338d" in message


# ---------------------------------------------------------------- bytes left out, or scored twice


def stride(tokens, window, step):
    """Every token of every window, with its first byte: what a loop over overlapping windows writes."""
    lines = []
    for begin in range(0, len(tokens) - window + step, step):
        first = len("".join(tokens[:begin]).encode())
        lines += spans_of(tokens[begin : begin + window], begin=first)
    return lines


def test_a_stride_that_scores_tokens_twice_is_named(refusal):
    message = refusal(PROSE * 4, stride(tokens_of(PROSE * 4), 32, 8))
    assert "tokens are scored twice: every 32 tokens the file goes back by 24" in message
    assert "windows of 32 move by a stride of 8 and score all of their tokens" in message
    assert message.endswith("of each window but the first keep the scores of its last 8 tokens")


def test_a_stride_is_named_in_two_columns_too(refusal):
    tokens = tokens_of(random_letters(1200), 5)
    windows = [token for begin in range(0, len(tokens) - 48, 16) for token in tokens[begin : begin + 64]]
    assert "windows of 64 move by a stride of 16" in refusal("".join(tokens), columns_of(windows))


def without_first(tokens, window):
    return [token for n, token in enumerate(tokens) if n % window]


def test_windows_without_their_first_token_are_named(refusal):
    tokens = tokens_of(PROSE * 4)
    lines = without_first(spans_of(tokens), 32)
    message = refusal(PROSE * 4, lines)
    assert "a token is left out after every 31, 6 in all, for the first time at byte 128 of the text" in message
    assert "windows of 32 whose first token has no score" in message
    assert "begin each window with BOS or with the last token of the window before" in message


def test_windows_without_their_first_token_are_named_in_two_columns(refusal):
    tokens = tokens_of(random_letters(1500), 5)
    assert "windows of 20 whose first" in refusal("".join(tokens), columns_of(without_first(tokens, 20)))


@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_the_first_token_of_a_text_or_of_each_document(refusal, layout):
    parts = (PROSE * 3).splitlines(keepends=True) if layout == "lines" else [PROSE * 3]
    lines = [line for n, part in enumerate(parts) for line in spans_of(tokens_of(part), document=n)[1:]]
    message = refusal(PROSE * 3, lines, layout=layout)
    named = "each of 3 documents" if layout == "lines" else "the text"
    assert f"the first token of {named} has no score; the first is 4 bytes at byte 0" in message
    assert message.endswith("begin with the model's BOS token, so that the first token has a prediction")


def test_newlines_that_end_documents_are_part_of_the_text(refusal):
    parts = PROSE.split("; ")
    text = "".join(f"{part.strip()}\n" for part in parts)
    lines = [line for n, part in enumerate(parts) for line in spans_of(tokens_of(part.strip()), document=n)]
    message = refusal(text, lines, layout="lines")
    assert "the newline that ends a document has no score, in 2 of 2 documents" in message
    assert "score the token that ends a document (</s>, <|endoftext|>) and give it those bytes" in message


def test_words_without_the_spaces_between_them(refusal):
    message = refusal("the cat sat on a mat", columns_of(["the", "cat", "sat", "on", "a", "mat"]))
    assert "the spaces between tokens have no score, 5 of them, the first at byte 3 of the text" in message
    assert "give each word the space before it, as in ' the'" in message


def test_a_file_that_is_cut_off(refusal):
    message = refusal(PROSE, spans_of(tokens_of(PROSE))[:20])
    assert "its spans end at byte 80 of the text" in message and f"{len(PROSE) - 80} of {len(PROSE)} bytes" in message


def test_a_gap_is_named_by_line_byte_and_the_text_around_it(refusal):
    lines = [*spans_of(["the ", "cat "]), span(11, 12), *spans_of(tokens_of("on the mat"), begin=12)]
    message = refusal("the cat sat on the mat", lines)
    assert (
        "line 3: 3 bytes before it have no score, from byte 8 of the text ('the cat ' | 'sat on the mat') on" in message
    )


def test_an_overlap_is_named_by_line(refusal):
    message = refusal("the cat sat", [span(0, 4), span(4, 8), span(6, 11)])
    assert "line 3: begins 2 bytes before byte 8 of the text ('the cat ' | 'sat'), where the span before it" in message


def test_spans_beyond_the_text(refusal):
    assert "spans of document 0 end at byte 9; it has 4 bytes" in refusal("abcd", [span(0, 9)])


def test_a_token_over_the_end_of_a_document(refusal):
    message = refusal("one\ntwo\n", ["one\t-1", "\\ntwo\t-2", "\\n\t-1"], layout="lines")
    assert "begins 3 bytes before" in message or "spans of document 0 end at byte 7; it has 4" in message


# ---------------------------------------------------------------- two columns: spellings


@pytest.mark.parametrize(
    ("text", "tokens", "line", "name"),
    [
        ("the cat", ["▁the", "▁cat"], 1, "▁ is SentencePiece's space, of three bytes"),
        ("the cat", ["the", "Ġcat"], 2, "Ġ is GPT-2's space, of two bytes"),
        ("the\n\ncat", ["the", "ĊĊ", "cat"], 2, "GPT-2's alphabet, in which each character is a byte"),
        ("café", ["caf", "Ã©"], 2, "GPT-2's alphabet, in which each character is a byte"),
        ("a ▲ b", ["a", " ", "<0xE2>", "<0x96>", "<0xB2>", " b"], 3, "<0xE2> is one byte, not 6"),
        ("a ▲ b", ["a", " ", "<0xE2><0x96><0xB2>", " b"], 3, "<0xE2> is one byte, not 6"),
        ("singing", ["sing", "##ing"], 2, "## is WordPiece's mark within a word"),
        ("singing", ["sing@@", "ing"], 1, "@@ is subword-nmt's mark within a word"),
        ("the cat", ["the</w>", "cat</w>"], 1, "</w> is the end of a word"),
    ],
)
def test_tokens_in_a_vocabularys_spelling_are_named(refusal, text, tokens, line, name):
    message = refusal(text, columns_of(tokens))
    assert f"line {line}, at byte" in message and f"is spelled as its vocabulary has it ({name})" in message
    assert "write the text that each token covers, as a tokenizer's offsets or decode give it" in message


@pytest.mark.parametrize("token", ["<s>", "</s>", "<unk>", "[CLS]", "<|endoftext|>"])
def test_special_tokens_are_no_text(refusal, token):
    assert f"token '{token}' is no text; write the text that it stands for" in refusal(
        "the", [f"{token}\t-1", "the\t-1"]
    )


def test_a_tokenizer_that_changes_the_case(refusal):
    assert "its letters have another case" in refusal("The Cat", columns_of(["the", " cat"]))


def test_another_text_in_two_columns(refusal):
    message = refusal("the cat sat", columns_of(["the", " dog", " ran", " off"]))
    assert "line 2: the text does not go on with ' dog' at byte 3 of the text ('the' | ' cat sat')" in message


# ---------------------------------------------------------------- size


def test_a_large_file_is_read_in_batches(tmp_path):
    count = 400_000
    folder = write_text(tmp_path / "text", "ab" * count)
    path = tmp_path / "mine"
    with path.open("w") as file:
        file.write("ab\t-1.25\n" * count)
    with HeldOut.open(folder, "test") as text:
        audited(path, text, "nats")
        tracemalloc.start()
        scores = audited(path, text, "nats").scores
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(scores.log_probs) == count and peak < 80 * count + (48 << 20), peak


# ---------------------------------------------------------------- fuzz


def forms():
    """The same scores in every form, as bytes."""
    tokens = tokens_of(PROSE)
    lines = "\n".join(['{"unit": "bits"}', *spans_of(tokens)]).encode()
    table = pa.table({key: [json.loads(line)[key] for line in spans_of(tokens)] for key in json.loads(span(0, 1))})
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    columns = "\n".join(columns_of(tokens)).encode()
    packed = gzip.compress(lines, mtime=0)
    return {"jsonl": lines, "columns": columns, "parquet": sink.getvalue().to_pybytes(), "gz": packed}


@pytest.mark.parametrize("form", forms())
def test_damaged_files_are_one_line_or_scores_of_the_whole_text(tmp_path, form):
    folder, path, draws = write_text(tmp_path / "text", PROSE), tmp_path / "mine", np.random.default_rng(0)
    content, refused = forms()[form], 0
    with HeldOut.open(folder, "test") as text:
        for _ in range(DAMAGES):
            path.write_bytes(damaged(content, draws, 0, len(content))[0])
            with at_most(20):
                result = outcome(lambda: [audited(path, text, None if form in ("jsonl", "gz") else "nats").scores])
            refused += result is None
            if result is not None:
                [scores] = result
                assert scores.lengths.sum() == len(PROSE) and (scores.log_probs <= 1e-3).all()
    assert refused > DAMAGES // 4


def test_a_row_of_scores_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, out = "results/run/fox/text", "results/run/fox/reported/mine"
    write_text(tmp_path / text, "abcd")
    (tmp_path / "mine.jsonl").write_text(span(0, 4) + "\n")
    section = {"scores": {"path": "mine.jsonl", "unit": "nats"}, "split": "test"}
    assert main(["audit_scores", "--text", text, "--out", out, "--section", json.dumps(section)]) == 0
    explained = explaining.explained(tmp_path / out)
    assert explained == explaining.explained(tmp_path / "results/run/fox")
    for part in ("reported     reported", "model        mine", "path         mine.jsonl", "form         jsonl"):
        assert part in explained
    assert "--forcerun results/run/fox/reported/mine/reported.json" in explained
