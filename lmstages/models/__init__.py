"""The rungs of the ladder: one file per family, one class per rung, all under the contract in ``base``."""
