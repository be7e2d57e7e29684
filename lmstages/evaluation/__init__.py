"""Score files and samples: of fitted models, and of what is none: mixtures, compressors, a source, a checkpoint."""
