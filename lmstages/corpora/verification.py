"""Verifies the bytes of a downloaded text while they arrive, by size and digest. Reads and writes nothing."""

import hashlib
from collections.abc import Sequence
from typing import Any

from lmstages.config.sources import Variant
from lmstages.corpora.origins import OriginError

HTML = (b"<!doctype html", b"<html")
HEAD = 1024  # bytes in which HTML is looked for


class Verification:
    """Size, digests and first bytes of what arrived: which variant it is, or what is wrong with it."""

    def __init__(self, variants: Sequence[Variant], size_limit: int) -> None:
        self.variants, self.size_limit, self.size, self.head = variants, size_limit, 0, b""
        self.digests = [_digest(variant) for variant in variants]
        self.sha256 = hashlib.sha256()

    def update(self, piece: bytes) -> None:
        """Count and hash a piece; raises OriginError as soon as there are too many bytes."""
        self.size += len(piece)
        self.head = (self.head + piece)[:HEAD] if len(self.head) < HEAD else self.head
        for digest in [self.sha256, *self.digests]:
            digest.update(piece)
        if self.size > self.size_limit:
            raise self._html() or OriginError(f"more than the {self.size_limit:,} bytes that are allowed")

    def variant(self) -> Variant:
        """The variant, once all bytes have arrived."""
        if not self.variants:
            return Variant("stories", self.size, self.sha256.hexdigest())
        for variant, digest in zip(self.variants, self.digests, strict=True):
            if (self.size, digest.hexdigest()) == (variant.size, variant.digest):
                return variant
        raise self._html() or self._wrong_size() or self._wrong_digest()

    def _html(self) -> OriginError | None:
        head = self.head.lower()
        return OriginError("an HTML page instead of text") if any(mark in head for mark in HTML) else None

    def _wrong_size(self) -> OriginError | None:
        sizes = sorted({variant.size for variant in self.variants})
        if self.size in sizes:
            return None
        ended = f"ended after {self.size:,}" if self.size else "an empty body, 0"
        return OriginError(f"{ended} of {' or '.join(f'{size:,}' for size in sizes)} bytes", transient=True)

    def _wrong_digest(self) -> OriginError:
        pairs = zip(self.variants, self.digests, strict=True)
        differences = (
            f"{variant.algorithm} {digest.hexdigest()[:12]}... where {variant.digest[:12]}..."
            for variant, digest in pairs
        )
        return OriginError(" and ".join(differences) + " was expected")


class _Words:
    """Counts words between white space, and line ends, in place of a digest."""

    def __init__(self) -> None:
        self.count, self.within = 0, False

    def update(self, piece: bytes) -> None:
        """Count a piece; a word may go on from the piece before."""
        goes_on = self.within and not piece[:1].isspace()
        self.count += len(piece.split()) + piece.count(b"\n") - (goes_on and bool(piece))
        self.within = not piece[-1:].isspace() if piece else self.within

    def hexdigest(self) -> str:
        """The count, in decimal digits."""
        return str(self.count)


def _digest(variant: Variant) -> Any:
    if variant.algorithm == "git blob":
        return hashlib.sha1(f"blob {variant.size}\0".encode(), usedforsecurity=False)
    if variant.algorithm == "words":
        return _Words()
    return hashlib.new(variant.algorithm, usedforsecurity=False)
