"""The lowest layer: documents, errors, files with checksums, provenance, progress, and the runtime of a fit."""
