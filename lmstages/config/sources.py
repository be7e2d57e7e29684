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
    """Bytes that are accepted; ``git blob`` is the sha1 over ``blob <size>``, a NUL byte and the content."""

    name: str
    size: int  # bytes
    digest: str
    algorithm: Literal["sha256", "git blob"] = "sha256"


@dataclass(frozen=True)
class Part:
    """One file of a source: its file names in a mirror, the accepted contents, its public addresses."""

    name: str
    mirror_names: tuple[str, ...]
    variants: tuple[Variant, ...]
    urls: tuple[str, ...] = ()  # empty where the source is on the hub


@dataclass(frozen=True)
class Hub:
    """A data set of the Hugging Face hub; its splits have the names of the parts."""

    path: str  # repository, or a local folder with the same layout
    revision: str | None  # the commit; None for a local folder
    field: str
    mirror_folder: str  # name of a copy of the repository in a mirror folder
    size_limit: int  # bytes


@dataclass(frozen=True)
class Source:
    """A downloadable corpus; ``separator`` is the line after each document where the layout is separator."""

    name: str
    parts: tuple[Part, ...]
    layout: Layout
    licence: str
    provenance: str
    separator: str = ""
    hub: Hub | None = None

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

SOURCES = {source.name: source for source in (NAMES, TINYSHAKESPEARE, SHAKESPEARE, TINYSTORIES)}
