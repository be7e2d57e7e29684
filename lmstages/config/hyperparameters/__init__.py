"""The hyperparameters of every model, one record each, by family."""
