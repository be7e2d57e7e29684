"""The models of the ladder: one file per family, one class per model, all under the contract in ``base``."""
