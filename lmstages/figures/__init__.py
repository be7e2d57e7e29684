"""The figures of the report: a module for each kind, ``drawing`` for what they share, ``catalogue`` for all."""
