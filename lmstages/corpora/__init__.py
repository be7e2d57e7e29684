"""Texts: downloaded with checksum, drawn from grammars of known entropy, or the user's own; and their splits."""
