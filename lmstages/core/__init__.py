"""What every layer stands on: documents, errors, files with checksums, provenance, progress."""
