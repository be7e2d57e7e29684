"""The lowest layer: documents, errors, files with checksums, provenance, progress, terminal, runtime of a fit."""
